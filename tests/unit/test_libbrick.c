/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows that libbrick's calls do what brick.h says, queued and synchronous, over tcp
 * and local, from several threads.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_run.h"
#include "libbrick_lane.h"

/* What the brick granted is told, and the session ends with a goodbye. */
START_TEST(test_open)
{
	const struct brick_info *info;
	struct brick_lane *other;

	start(transports[_i], 4, 3, 0);
	info = brick_info(session);
	ck_assert_uint_eq(info->uuid[15], 0xb1);
	ck_assert_uint_eq(info->instance, 7);
	ck_assert_uint_eq(info->loss_epoch, 3);
	ck_assert_uint_eq(info->session, 42);
	ck_assert_uint_eq(info->capacity, FAKE_SLOTS);
	ck_assert_uint_eq(info->lanes, 3);
	ck_assert_uint_eq(info->depth, 4);
	ck_assert_uint_eq(info->lease_ms, 30000);
	ck_assert_int_eq(info->method, BRICK_PERSIST_TARGET);
	ck_assert_str_eq(brick_endpoint(session), fake_endpoint(fake));
	ck_assert_int_eq(brick_lane_open(session, &other), 0);
	ck_assert_ptr_eq(brick_lane(session, 1), other);
	ck_assert_int_eq(brick_lane_open(session, &other), 0);
	ck_assert_int_eq(brick_keepalive(other), 0);
	ck_assert_int_eq(brick_lane_open(session, &other), -EUSERS);
	brick_lane_close(brick_lane(session, 1));
	ck_assert_ptr_null(brick_lane(session, 1));
	ck_assert_int_eq(brick_lane_open(session, &other), 0);
	ck_assert_ptr_eq(brick_lane(session, 1), other);
	brick_close(session);
	ck_assert_uint_eq(fake_count(fake, WIRE_BYE), 4);
	ck_assert_uint_eq(fake_count(fake, WIRE_HELLO), 1);
	fake_stop(fake);
}
END_TEST

START_TEST(test_open_nowhere)
{
	const struct brick_options options = { .timeout_ms = TIMEOUT };
	char endpoint[200];

	fake = fake_start(false, 4);
	strcpy(endpoint, fake_endpoint(fake));
	fake_stop(fake);
	ck_assert_int_eq(brick_open(endpoint, &options, &session), -ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(brick_error(), endpoint));
	ck_assert_int_eq(brick_open("unix:/nonexistent/socket", &options, &session), -ENOENT);
	ck_assert_int_eq(brick_open("ftp://example", &options, &session), -EINVAL);
	ck_assert_ptr_nonnull(strstr(brick_error(), "ftp://example"));
	/* Without a device, or without a brick; whichever it is, it names the endpoint. */
	ck_assert_int_lt(brick_open("rdma://localhost:1", &options, &session), 0);
	ck_assert_ptr_nonnull(strstr(brick_error(), "rdma://localhost:1"));
}
END_TEST

/* Every synchronous call, with the statuses of each entry. */
START_TEST(test_calls)
{
	const uint64_t addrs[4] = { BLOCK, 5 * BLOCK, 6 * BLOCK, 5 * BLOCK };
	const struct brick_range ranges[2] = { { BLOCK + 17, 100 }, { 99 * BLOCK, 1 } };
	struct brick_handle handles[4];
	struct brick_extent extents[8];
	struct brick_session_info infos[200];
	struct brick_limits limits;
	struct brick_stat stat;
	uint64_t generation, next;
	int status[4];
	bool more;
	size_t n;

	start(transports[_i], 4, 1, 0);
	ck_assert_int_eq(brick_alloc(lane, addrs, 4, status), 0);
	ck_assert_int_eq(status[0], 0);
	ck_assert_int_eq(status[2], 0);
	ck_assert_int_eq(status[3], -EEXIST);
	ck_assert_ptr_nonnull(strstr(brick_error(), "0xa00000"));
	/* Without statuses, the bad entry speaks for all. */
	ck_assert_int_eq(brick_alloc(lane, addrs, 1, NULL), -EEXIST);
	ck_assert_int_eq(brick_alloc(lane, addrs, 0, NULL), 0);

	ck_assert_int_eq(brick_map(lane, addrs, 2, BRICK_MAP_EXCLUSIVE, handles, status), 0);
	ck_assert_int_eq(status[0], 0);
	ck_assert_uint_eq(handles[1].addr, 5 * BLOCK);
	ck_assert_uint_eq(handles[1].flags, BRICK_MAP_EXCLUSIVE | BRICK_MAP_WRITE);
	ck_assert_int_eq(brick_map(lane, addrs, 2, 0x100, handles, status), -EINVAL);

	ck_assert_int_eq(brick_list(lane, 0, extents, 8, &n, &generation, &next, &more), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert(!more);
	ck_assert_uint_eq(generation, 3);
	ck_assert_uint_eq(extents[1].start, 5 * BLOCK);
	ck_assert_uint_eq(extents[1].count, 2);
	ck_assert_int_eq(brick_list(lane, 0, extents, 1, &n, &generation, &next, &more), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert(more);
	ck_assert_uint_eq(next, 5 * BLOCK);

	ck_assert_int_eq(brick_persist(lane, ranges, 2, status), 0);
	ck_assert_int_eq(status[0], 0);
	ck_assert_int_eq(status[1], -ENOENT);
	ck_assert_int_eq(brick_stat(lane, &stat), 0);
	ck_assert_uint_eq(stat.op[6].p99_ns, 99);
	ck_assert_str_eq(brick_op_names[6], "read");
	ck_assert_int_eq(brick_limits(lane, &limits), 0);
	ck_assert_uint_eq(limits.limits, 11);
	ck_assert_str_eq(limits.limit[3].name, "sessions");
	ck_assert_uint_eq(limits.limit[3].most, 64);
	ck_assert_uint_eq(limits.limit[3].used, 3);
	ck_assert_uint_eq(limits.refusals, 17);
	ck_assert_str_eq(limits.refusal[14].name, "stalled");
	ck_assert_uint_eq(limits.refusal[14].count, 12);
	fake_set(fake, FAKE_REFUSE); /* as an older brick does */
	ck_assert_int_eq(brick_limits(lane, &limits), -EOPNOTSUPP);
	fake_set(fake, FAKE_GOOD);
	ck_assert_int_eq(brick_sessions(lane, 3, infos, 200, &n), 0);
	ck_assert_uint_eq(n, 98);
	ck_assert_uint_eq(infos[97].session, 100);
	ck_assert_str_eq(infos[97].name, "somebody@somewhere");
	ck_assert_int_eq(brick_sessions(lane, 0, infos, 70, &n), 0);
	ck_assert_uint_eq(n, 70);
	ck_assert_int_eq(brick_who(lane, BLOCK, infos, 5, &n), 0);
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(brick_revoke(lane, 4711), -ENOENT);
	ck_assert_int_eq(brick_keepalive(lane), 0);
	ck_assert_int_eq(brick_unmap(lane, addrs, 2, BRICK_UNMAP_CLEAN, status), 0);
	ck_assert_int_eq(brick_free(lane, addrs, 3, status), 0);
	ck_assert_int_eq(status[2], 0);
	ck_assert_int_eq(brick_free(lane, addrs, 1, status), 0);
	ck_assert_int_eq(status[0], -ENOENT);
	stop();
}
END_TEST

static const struct { uint32_t offset, length; } pieces[] = {
	{ 0, 1 }, { 1, 4095 }, { 4096, 4096 }, { 5, 16384 }, { 100000, 32768 }, { 7, 300000 }, { 0, BLOCK }, { BLOCK - 1, 1 },
};

/* What was written is read, for any size and place, whole and in pieces. */
START_TEST(test_data)
{
	struct brick_handle handle;
	uint8_t *model = calloc(1, BLOCK), *out = malloc(BLOCK), *in;
	struct brick_completion done;

	start(transports[_i], 8, 1, 0);
	in = brick_buffer_alloc(session, BLOCK);
	ck_assert_ptr_nonnull(in);
	ck_assert_int_eq(brick_buffer_register(session, out, BLOCK), 0);
	map_new(3 * BLOCK, BRICK_MAP_WRITE, &handle);
	for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		uint32_t offset = pieces[i].offset, length = pieces[i].length, third = length / 3;
		struct iovec iov[5];

		fill(out, length, i);
		memcpy(model + offset, out, length);
		ck_assert_int_eq(brick_write(lane, &handle, offset, out, length), 0);
		memset(in, 0, BLOCK);
		ck_assert_int_eq(brick_read(lane, &handle, offset, in, length), 0);
		ck_assert_mem_eq(in, out, length);

		fill(out, length, i + 100);
		memcpy(model + offset, out, length);
		iov[0] = (struct iovec){ out, third };
		iov[1] = (struct iovec){ NULL, 0 };
		iov[2] = (struct iovec){ out + third, third };
		iov[3] = (struct iovec){ out + 2 * third, length - 2 * third };
		iov[4] = (struct iovec){ NULL, 0 };
		ck_assert_int_eq(brick_post_writev(lane, &handle, offset, iov, 5, i), 0);
		ck_assert_int_eq(brick_wait(lane, &done, 1, -1), 1);
		ck_assert_int_eq(done.status, 0);
		memset(in, 0, BLOCK);
		iov[0].iov_base = in;
		iov[2].iov_base = in + third;
		iov[3].iov_base = in + 2 * third;
		ck_assert_int_eq(brick_post_readv(lane, &handle, offset, iov, 5, i), 0);
		ck_assert_int_eq(brick_wait(lane, &done, 1, -1), 1);
		ck_assert_uint_eq(done.cookie, i);
		ck_assert_mem_eq(in, out, length);
	}
	ck_assert_int_eq(brick_read(lane, &handle, 0, in, BLOCK), 0);
	ck_assert_mem_eq(in, model, BLOCK);
	ck_assert_uint_eq(fake_byte(fake, 3 * BLOCK + 8), model[8]);
	brick_buffer_unregister(session, out);
	brick_buffer_free(session, in);
	ck_assert_ptr_nonnull(brick_buffer_alloc(session, 10));	/* left to brick_close() */
	stop();
	free(model);
	free(out);
}
END_TEST

/* Thousands of pieces of one read and write: more than one system call takes. */
START_TEST(test_many_pieces)
{
	enum { PIECES = 3000, SIZE = 37 };
	struct iovec *iov = calloc(PIECES, sizeof(*iov));
	uint8_t *out = malloc(PIECES * SIZE), *in = calloc(PIECES, SIZE);
	struct brick_handle handle;
	struct brick_completion done;

	start(transports[_i], 8, 1, 0);
	map_new(0, BRICK_MAP_WRITE, &handle);
	fill(out, PIECES * SIZE, 1);
	for (int i = 0; i < PIECES; i++)
		iov[i] = (struct iovec){ out + i * SIZE, SIZE };
	ck_assert_int_eq(brick_post_writev(lane, &handle, 3, iov, PIECES, 0), 0);
	ck_assert_int_eq(brick_wait(lane, &done, 1, -1), 1);
	ck_assert_int_eq(done.status, 0);
	for (int i = 0; i < PIECES; i++)
		iov[i].iov_base = in + i * SIZE;
	ck_assert_int_eq(brick_post_readv(lane, &handle, 3, iov, PIECES, 0), 0);
	ck_assert_int_eq(brick_wait(lane, &done, 1, -1), 1);
	ck_assert_int_eq(done.status, 0);
	ck_assert_mem_eq(in, out, PIECES * SIZE);
	stop();
	free(iov);
	free(in);
	free(out);
}
END_TEST

/* What a caller may not do costs nothing but an error. */
START_TEST(test_misuse)
{
	struct brick_handle handle, wrong;
	const struct brick_range over = { BLOCK - 1, 2 }, empty = { 0, 0 };
	uint8_t byte = 1;
	struct iovec huge = { &byte, SIZE_MAX };

	start(transports[_i], 4, 1, 0);
	map_new(BLOCK, 0, &handle);
	ck_assert_int_eq(brick_write(lane, &handle, 0, &byte, 1), -EACCES);
	ck_assert_ptr_nonnull(strstr(brick_error(), "0x200000"));
	ck_assert_int_eq(brick_read(lane, &handle, BLOCK, &byte, 1), -EINVAL);
	ck_assert_int_eq(brick_read(lane, &handle, BLOCK - 1, &byte, 2), -EINVAL);
	ck_assert_int_eq(brick_read(lane, &handle, 0, &byte, 0), -EINVAL);
	ck_assert_int_eq(brick_read(lane, &handle, 1, &byte, UINT32_MAX), -EINVAL);
	ck_assert_int_eq(brick_post_readv(lane, &handle, 1, &huge, 1, 0), -EINVAL);
	ck_assert_int_eq(brick_persist(lane, &over, 1, NULL), -EINVAL);
	ck_assert_int_eq(brick_persist(lane, &empty, 1, NULL), -EINVAL);
	ck_assert_int_eq(brick_wait(lane, NULL, 0, 0), -EINVAL);
	wrong = handle;
	wrong.key = 77;
	ck_assert_int_eq(brick_read(lane, &wrong, 0, &byte, 1), transports[_i] ? -EINVAL : -EACCES);
	wrong = handle;
	wrong.place = transports[_i] ? UINT64_MAX - 5 : 7 * BLOCK;
	ck_assert_int_eq(brick_read(lane, &wrong, 0, &byte, 1), transports[_i] ? -EINVAL : -EACCES);
	ck_assert_int_eq(brick_in_flight(lane), 0);
	ck_assert_int_eq(brick_lane_state(lane), 0);
	ck_assert_int_eq(brick_read(lane, &handle, 0, &byte, 1), 0);
	stop();
}
END_TEST

/* A batch larger than a message is split; entry and status stay together; the depth is not exceeded. */
START_TEST(test_batches)
{
	enum { N = 3 * WIRE_ADDRS_MAX + 17 };
	uint64_t *addrs = calloc(N, sizeof(*addrs));
	struct brick_handle *handles = calloc(N, sizeof(*handles));
	int *status = calloc(N, sizeof(*status));
	struct brick_completion done;
	uint16_t depth = (uint16_t)(1 << _i);	/* the four messages are a multiple of it */

	for (size_t i = 0; i < N; i++)
		addrs[i] = i * BLOCK;
	start(false, depth, 1, 0);
	ck_assert_int_eq(brick_alloc(lane, addrs, N, status), 0);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(status[i], i < FAKE_SLOTS ? 0 : -ENOSPC);
	ck_assert_uint_ge(fake_count(fake, WIRE_ALLOC), 4);
	/* As many messages as the depth allows are under way at once: the brick waits for so many. */
	fake_set_gather(fake, depth);
	fake_set(fake, FAKE_REVERSE);
	ck_assert_int_eq(brick_post_map(lane, addrs, N, 0, handles, status, 5), 0);
	if (depth < 4) {	/* nothing overtakes what is not sent yet */
		ck_assert_int_eq(brick_post_free(lane, addrs, 1, NULL, 6), -EAGAIN);
		ck_assert_int_eq(brick_in_flight(lane), 1);
	}
	ck_assert_int_eq(brick_wait(lane, &done, 1, -1), 1);
	ck_assert_uint_eq(fake_deepest(fake), depth);
	fake_set_gather(fake, 1);
	ck_assert_uint_eq(done.cookie, 5);
	ck_assert_int_eq(done.status, 0);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(status[i], i < FAKE_SLOTS ? 0 : -ENOENT);
		ck_assert_uint_eq(handles[i].addr, i < FAKE_SLOTS ? i * BLOCK : 0);
	}
	fake_set(fake, FAKE_REFUSE);
	ck_assert_int_eq(brick_free(lane, addrs, N, status), -EOPNOTSUPP);
	ck_assert_int_eq(status[N - 1], -EOPNOTSUPP);
	ck_assert_int_eq(brick_lane_state(lane), 0);
	stop();
	free(addrs);
	free(handles);
	free(status);
}
END_TEST

/* A full queue says so; replies come in any order; each cookie comes back once. */
START_TEST(test_queue)
{
	enum { DEPTH = 16 };
	struct brick_completion done[DEPTH + 1];
	struct brick_handle handle;
	uint8_t bytes[DEPTH];
	bool seen[DEPTH] = { false };
	int n = 0;

	start(false, DEPTH, 1, 0);
	map_new(0, BRICK_MAP_WRITE, &handle);
	for (int i = 0; i < DEPTH; i++) {
		bytes[i] = (uint8_t)(i + 1);
		ck_assert_int_eq(brick_write(lane, &handle, (uint32_t)i, &bytes[i], 1), 0);
	}
	memset(bytes, 0, sizeof(bytes));
	fake_set_gather(fake, DEPTH);
	fake_set(fake, FAKE_REVERSE);
	for (int i = 0; i < DEPTH; i++)
		ck_assert_int_eq(brick_post_read(lane, &handle, (uint32_t)i, &bytes[i], 1, (uint64_t)i), 0);
	ck_assert_int_eq(brick_post_read(lane, &handle, 0, &bytes[0], 1, 99), -EAGAIN);
	ck_assert_int_eq(brick_keepalive(lane), -EBUSY);
	ck_assert_int_eq(brick_in_flight(lane), DEPTH);
	while (n < DEPTH) {
		int got = brick_wait(lane, done, 5, -1);

		ck_assert_int_gt(got, 0);
		for (int i = 0; i < got; i++) {
			ck_assert_int_eq(done[i].status, 0);
			ck_assert_uint_lt(done[i].cookie, DEPTH);
			ck_assert(!seen[done[i].cookie]);
			seen[done[i].cookie] = true;
		}
		n += got;
		ck_assert_int_eq(brick_in_flight(lane), DEPTH - n);
	}
	for (int i = 0; i < DEPTH; i++)
		ck_assert_uint_eq(bytes[i], i + 1);
	ck_assert_uint_eq(fake_deepest(fake), DEPTH);
	ck_assert_int_eq(brick_poll(lane, done, 5), 0);
	ck_assert_int_eq(brick_wait(lane, done, 5, 1), -ETIME);
	fake_set_gather(fake, 1);
	stop();
}
END_TEST

/* Reads and writes that fill both directions of the connection do not wait for each other. */
START_TEST(test_both_directions_full)
{
	enum { N = 32 };
	struct brick_completion done[N];
	struct brick_handle handle[2];
	uint8_t *out = malloc(BLOCK), *in = malloc(N / 2 * BLOCK);
	int n = 0;

	start(false, N, 1, 0);
	map_new(0, BRICK_MAP_WRITE, &handle[0]);
	map_new(BLOCK, BRICK_MAP_WRITE, &handle[1]);
	fill(out, BLOCK, 9);
	ck_assert_int_eq(brick_write(lane, &handle[0], 0, out, BLOCK), 0);
	for (int i = 0; i < N; i++) {
		if (i % 2)
			ck_assert_int_eq(brick_post_write(lane, &handle[1], 0, out, BLOCK, (uint64_t)i), 0);
		else
			ck_assert_int_eq(brick_post_read(lane, &handle[0], 0, in + (size_t)i / 2 * BLOCK, BLOCK,
							 (uint64_t)i), 0);
	}
	while (n < N) {
		int got = brick_wait(lane, done, N, -1);

		ck_assert_int_gt(got, 0);
		for (int i = 0; i < got; i++)
			ck_assert_int_eq(done[i].status, 0);
		n += got;
	}
	for (size_t i = 0; i < N / 2; i++)
		ck_assert_mem_eq(in + i * BLOCK, out, BLOCK);
	stop();
	free(in);
	free(out);
}
END_TEST

/* The descriptor wakes for answers, for a rest that can be sent, and for a brick that is late. */
START_TEST(test_descriptor)
{
	struct brick_completion done[8];
	struct brick_handle handle;
	uint8_t *out = calloc(1, BLOCK);
	struct pollfd pfd = { .events = POLLIN };
	int n = 0;

	start(false, 8, 1, 5 * TIMEOUT);
	map_new(0, BRICK_MAP_WRITE, &handle);
	pfd.fd = brick_fd(lane);
	ck_assert_int_ge(pfd.fd, 0);
	ck_assert_int_eq(brick_arm(lane), 0);
	ck_assert_int_eq(poll(&pfd, 1, 0), 0);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(brick_post_write(lane, &handle, 0, out, BLOCK, (uint64_t)i), 0);
	while (n < 8) {
		int got = brick_poll(lane, done, 8);

		n += got;
		if (n < 8 && got == 0 && brick_arm(lane) == 0)
			ck_assert_int_eq(poll(&pfd, 1, 20000), 1);
	}
	fake_set(fake, FAKE_SILENT);
	ck_assert_int_eq(brick_post_read(lane, &handle, 0, out, 1, 44), 0);
	while ((n = brick_poll(lane, done, 8)) == 0)
		if (brick_arm(lane) == 0)
			ck_assert_int_eq(poll(&pfd, 1, 20000), 1);
	ck_assert_int_eq(n, 1);
	ck_assert_uint_eq(done[0].cookie, 44);
	ck_assert_int_eq(done[0].status, -ETIMEDOUT);
	ck_assert_int_eq(brick_arm(lane), -ETIMEDOUT);
	fake_set(fake, FAKE_GOOD);
	ck_assert_int_eq(brick_lane_rejoin(lane), 0);
	ck_assert_int_eq(brick_fd(lane), pfd.fd);
	ck_assert_int_eq(brick_post_read(lane, &handle, 0, out, 1, 45), 0);
	while ((n = brick_poll(lane, done, 8)) == 0)
		if (brick_arm(lane) == 0)
			ck_assert_int_eq(poll(&pfd, 1, 20000), 1);
	ck_assert_int_eq(done[0].status, 0);
	stop();
	free(out);
}
END_TEST

/* Requests that wait behind others at a slow brick are not late while it answers. */
START_TEST(test_slow)
{
	uint64_t addrs[5 * 64];
	int status[5 * 64];

	for (size_t i = 0; i < 5 * 64; i++)
		addrs[i] = i * BLOCK;
	start(transports[_i], 8, 1, 1200);
	fake_set(fake, FAKE_SLOW);
	ck_assert_int_eq(brick_alloc(lane, addrs, 5 * 64, status), 0);
	ck_assert_int_eq(status[5 * 64 - 1], -ENOSPC);
	fake_set(fake, FAKE_GOOD);
	stop();
}
END_TEST

/* Notices are kept up to a bound, the newest of them, in order. */
START_TEST(test_notices)
{
	struct brick_notice notice;
	uint64_t n = 0;

	start(transports[_i], 4, 1, 0);
	ck_assert_int_eq(brick_notice(session, &notice), 0);
	fake_set(fake, FAKE_NOTICES);
	ck_assert_int_eq(brick_keepalive(lane), 0);
	for (; brick_notice(session, &notice); n++) {
		ck_assert_int_eq(notice.kind, BRICK_NOTICE_RECALL);
		ck_assert_uint_eq(notice.arg, 100 - 64 + n);
	}
	ck_assert_uint_eq(n, 64);
	stop();
}
END_TEST

struct worker {
	pthread_t thread;
	unsigned number;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	uint64_t addr = (1 + worker->number) * BLOCK;
	uint8_t *out = malloc(100000), *in = malloc(100000);
	struct brick_handle handle;
	struct brick_lane *mine;
	struct brick_notice notice;
	unsigned seed = worker->number;
	int status;

	ck_assert_int_eq(brick_lane_open(session, &mine), 0);
	ck_assert_int_eq(brick_alloc(mine, &addr, 1, &status), 0);
	ck_assert_int_eq(brick_map(mine, &addr, 1, BRICK_MAP_WRITE, &handle, &status), 0);
	for (int i = 0; i < 100; i++) {
		uint32_t length = 1 + (unsigned)rand_r(&seed) % 100000, offset = (unsigned)rand_r(&seed) % 1000000;
		const struct brick_range range = { addr + offset, length };

		fill(out, length, seed);
		ck_assert_int_eq(brick_write(mine, &handle, offset, out, length), 0);
		ck_assert_int_eq(brick_persist(mine, &range, 1, NULL), 0);
		ck_assert_int_eq(brick_read(mine, &handle, offset, in, length), 0);
		ck_assert_mem_eq(in, out, length);
		if (i % 10 == 0) {
			brick_lane_close(mine);
			ck_assert_int_eq(brick_lane_open(session, &mine), 0);
		}
		while (brick_notice(session, &notice))
			;
		brick_buffer_free(session, brick_buffer_alloc(session, length));
	}
	brick_lane_close(mine);
	free(in);
	free(out);
	return NULL;
}

/* Threads with a lane each share a session. */
START_TEST(test_threads)
{
	struct worker workers[4];

	start(transports[_i], 8, 5, 0);
	for (unsigned i = 0; i < 4; i++) {
		workers[i].number = i;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(workers[i].thread, NULL);
	ck_assert_int_eq(brick_keepalive(lane), 0);
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("libbrick");
	TCase *calls = tcase_create("calls");

	tcase_set_timeout(calls, 120);
	tcase_add_loop_test(calls, test_open, 0, 2);
	tcase_add_test(calls, test_open_nowhere);
	tcase_add_loop_test(calls, test_calls, 0, 2);
	tcase_add_loop_test(calls, test_data, 0, 2);
	tcase_add_loop_test(calls, test_many_pieces, 0, 2);
	tcase_add_loop_test(calls, test_misuse, 0, 2);
	tcase_add_loop_test(calls, test_batches, 0, 3);
	tcase_add_test(calls, test_queue);
	tcase_add_test(calls, test_both_directions_full);
	tcase_add_test(calls, test_descriptor);
	tcase_add_loop_test(calls, test_slow, 0, 2);
	tcase_add_loop_test(calls, test_notices, 0, 2);
	tcase_add_loop_test(calls, test_threads, 0, 2);
	suite_add_tcase(suite, calls);
	return check_run(suite);
}
