/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libbrick-real - libbrick against a real brickd; libbrick.sh runs it.
 *
 *   libbrick-real ENDPOINT calls      one step after the other, between two sessions
 *   libbrick-real ENDPOINT model      threads with a lane each: random queued I/O against a model in memory
 *   libbrick-real ENDPOINT die        works until the brick dies (it says "working" first), then wants it back
 *
 * The brick has at least 24 free blocks, nothing under the addresses used here, and grants at least 4 lanes.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick.h"

#define BLOCK BRICK_BLOCK_SIZE
#define BASE 0x7000000000000000ull

static const char *endpoint;
static bool local, verbs;

#define ok(condition)								\
	do {									\
		if (!(condition)) {						\
			fprintf(stderr, "FAILED %s:%d: %s (last error: %s)\n",	\
				__FILE__, __LINE__, #condition, brick_error());	\
			exit(1);						\
		}								\
	} while (0)

static struct brick_session *open_session(const char *name, uint16_t lanes, uint16_t depth)
{
	const struct brick_options options = { .name = name, .lanes = lanes, .depth = depth, .timeout_ms = 20000 };
	struct brick_session *session = NULL;

	ok(brick_open(endpoint, &options, &session) == 0);
	return session;
}

/* An access that the brick's device refuses costs the lane (there is no socket to cut). */
static void cut_by_violation(struct brick_lane *lane, const struct brick_handle *handle)
{
	struct brick_handle wrong = *handle;
	uint8_t byte;

	wrong.key ^= 0xa5a500;
	ok(brick_read(lane, &wrong, 0, &byte, 1) == -EACCES);
}

/* Cuts the newest socket of this process, as a dying network would. */
static void cut_newest_socket(void)
{
	int newest = -1;

	for (int fd = 3; fd < 1024; fd++) {
		struct stat st;

		if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
			newest = fd;
	}
	ok(newest >= 0 && shutdown(newest, SHUT_RDWR) == 0);
}

static void alloc_and_free(struct brick_lane *lane)
{
	enum { N = 1200 };
	static uint64_t addrs[N];
	static int status[N];
	static struct brick_extent extents[N];
	uint64_t generation, next = 0, second;
	size_t made = 0, listed = 0, n;
	bool more = true;

	/* Every other address, so that each is an extent; the brick is filled. */
	for (size_t i = 0; i < N; i++)
		addrs[i] = BASE + 2 * i * BLOCK;
	ok(brick_alloc(lane, addrs, N, status) == 0);
	for (size_t i = 0; i < N; i++) {
		ok(status[i] == 0 || status[i] == -ENOSPC);
		made += status[i] == 0;
	}
	ok(made >= 24);
	for (next = BASE; more;) {
		ok(brick_list(lane, next, extents, 7, &n, &generation, &next, &more) == 0);
		for (size_t i = 0; i < n; i++) {
			ok(extents[i].count == 1);
			listed++;
		}
	}
	ok(listed == made);
	ok(brick_alloc(lane, addrs, 1, NULL) == -EEXIST);
	ok(brick_free(lane, addrs, N, status) == 0);
	for (size_t i = 0; i < N; i++)
		ok(status[i] == 0 || status[i] == -ENOENT);
	ok(brick_list(lane, BASE, extents, 7, &n, &second, &next, &more) == 0);
	ok(n == 0 && second != generation);
	ok(brick_alloc(lane, (const uint64_t[]){ BASE + 1 }, 1, NULL) == -EINVAL);
	printf("batches: %zu blocks filled the brick, listed in pages, freed\n", made);
}

static void sharing(struct brick_session *a, struct brick_session *b)
{
	struct brick_lane *la = brick_lane(a, 0), *lb = brick_lane(b, 0);
	const uint64_t addr = BASE;
	struct brick_session_info infos[4];
	struct brick_handle ha, hb;
	uint8_t byte = 0;
	size_t n;

	ok(brick_alloc(la, &addr, 1, NULL) == 0);
	ok(brick_map(la, &addr, 1, BRICK_MAP_EXCLUSIVE, &ha, NULL) == 0);
	ok(brick_map(lb, &addr, 1, 0, &hb, NULL) == -EBUSY);
	ok(strstr(brick_error(), "0x7000000000000000"));
	ok(brick_free(lb, &addr, 1, NULL) == -EBUSY);
	ok(brick_who(lb, addr, infos, 4, &n) == 0);
	ok(n == 1 && infos[0].session == brick_info(a)->session && strcmp(infos[0].name, "first") == 0);
	ok(infos[0].flags & BRICK_MAP_EXCLUSIVE);
	byte = 77;
	ok(brick_write(la, &ha, 5, &byte, 1) == 0);
	ok(brick_unmap(la, &addr, 1, 0, NULL) == 0);
	ok(brick_unmap(la, &addr, 1, 0, NULL) == -ENOENT);
	/* Shared: both read, and both see what one writes. */
	ok(brick_map(la, &addr, 1, BRICK_MAP_WRITE, &ha, NULL) == 0);
	ok(brick_map(lb, &addr, 1, 0, &hb, NULL) == 0);
	ok(brick_read(lb, &hb, 5, &byte, 1) == 0 && byte == 77);
	ok(brick_write(lb, &hb, 5, &byte, 1) == -EACCES);
	byte = 78;
	ok(brick_write(la, &ha, 5, &byte, 1) == 0);
	ok(brick_read(lb, &hb, 5, &byte, 1) == 0 && byte == 78);
	ok(brick_unmap(lb, &addr, 1, 0, NULL) == 0);
	ok(brick_free(la, &addr, 1, NULL) == 0);
	printf("two sessions: exclusive keeps the other away, shared does not\n");
}

/* A lane that was cut comes back, with its session's maps. */
static void rejoin(struct brick_session *a)
{
	const uint64_t addr = BASE + BLOCK;
	struct brick_lane *first = brick_lane(a, 0), *second;
	struct brick_handle handle;
	uint8_t byte = 3;

	ok(brick_alloc(first, &addr, 1, NULL) == 0);
	ok(brick_map(first, &addr, 1, BRICK_MAP_WRITE, &handle, NULL) == 0);
	ok(brick_lane_open(a, &second) == 0);
	for (int i = 0; i < 5; i++) {
		ok(brick_keepalive(second) == 0);
		if (verbs)
			cut_by_violation(second, &handle);
		else
			cut_newest_socket();
		ok(brick_keepalive(second) == -ECONNRESET);
		ok(brick_lane_state(second) == -ECONNRESET);
		ok(brick_keepalive(first) == 0);
		ok(brick_lane_rejoin(second) == 0);
		ok(brick_write(second, &handle, 9, &byte, 1) == 0);
	}
	ok(brick_read(first, &handle, 9, &byte, 1) == 0 && byte == 3);
	brick_lane_close(second);
	if (!local) {
		/* Without its map, a handle is a violation and costs the lane; the session lives with another. */
		ok(brick_lane_open(a, &second) == 0);
		ok(brick_unmap(first, &addr, 1, 0, NULL) == 0);
		ok(brick_read(second, &handle, 0, &byte, 1) < 0);
		ok(brick_keepalive(first) == 0);
		brick_lane_close(second);
	}
	ok(brick_free(first, &addr, 1, NULL) == 0);
	printf("a lane that was cut rejoins with its session's maps\n");
}

static void in_the_way(struct brick_session *b)
{
	struct brick_session *victim = open_session("victim", 2, 4);
	struct brick_lane *lane = brick_lane(victim, 0), *lb = brick_lane(b, 0);
	const uint64_t addr = BASE + 2 * BLOCK;
	struct brick_handle handle, other;
	int ret;

	ok(brick_alloc(lane, &addr, 1, NULL) == 0);
	ok(brick_map(lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL) == 0);
	if (local) {
		/* Its memory cannot be taken back: it stays until its process goes. */
		ok(brick_map(lb, &addr, 1, BRICK_MAP_EXCLUSIVE | BRICK_MAP_PREEMPT, &other, NULL) == -EBUSY);
		brick_close(victim);
	} else {
		struct brick_notice notice;

		ok(brick_map(lb, &addr, 1, BRICK_MAP_EXCLUSIVE | BRICK_MAP_PREEMPT, &other, NULL) == 0);
		while ((ret = brick_keepalive(lane)) == 0)
			;
		ok(ret == -ECONNRESET || ret == -ESTALE);
		/* A notice may be lost; no other one may come. */
		while (brick_notice(victim, &notice))
			ok(notice.kind == BRICK_NOTICE_REVOKED);
		ok(brick_lane_state(lane) == 0 || brick_lane_rejoin(lane) == -ESTALE);
		brick_close(victim);
		ok(brick_unmap(lb, &addr, 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	}
	/* brick_close() has waited: nobody is in the way. */
	ok(brick_free(lb, &addr, 1, NULL) == 0);
	ok(brick_revoke(lb, 0xffffffffffull) == -ENOENT);
	printf("a session that is in the way %s\n", local ? "stays" : "is ended");
}

static void calls(void)
{
	struct brick_session *a = open_session("first", 4, 8), *b = open_session("second", 1, 8);
	struct brick_stat stat;

	ok(brick_info(a)->lanes == 4 && brick_info(a)->capacity > 0 && brick_info(a)->maps > 0);
	alloc_and_free(brick_lane(a, 0));
	sharing(a, b);
	rejoin(a);
	in_the_way(b);
	ok(brick_stat(brick_lane(b, 0), &stat) == 0);
	ok(stat.sessions >= 2 && stat.capacity == brick_info(a)->capacity && stat.op[0].count > 0);
	/* Sessions end one behind the other without a gap in between that others could see. */
	for (int i = 0; i < 20; i++) {
		struct brick_session *again = open_session("again", 2, 4);
		struct brick_lane *lane = brick_lane(again, 0), *other;
		const uint64_t addr = BASE;
		struct brick_handle handle;
		int ret = brick_alloc(lane, &addr, 1, NULL);

		ok(ret == 0 || ret == -EEXIST);
		ok(brick_lane_open(again, &other) == 0);
		ok(brick_map(other, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL) == 0);
		brick_close(again);
	}
	ok(brick_free(brick_lane(b, 0), &(const uint64_t){ BASE }, 1, NULL) == 0);
	brick_close(a);
	brick_close(b);
}

/* model: each thread owns blocks, and knows what is in them. */

enum { THREADS = 3, BLOCKS = 2, QUEUE = 16, PIECE = 150000, ROUNDS = 60 };

struct model {
	pthread_t thread;
	struct brick_session *session;
	unsigned number;
	uint8_t *memory;
	uint64_t addrs[BLOCKS];
};

struct queued {
	bool busy, read;
	unsigned block;
	uint32_t offset, length;
	uint8_t *buffer;
	struct iovec iov[3];
	struct brick_range range;
};

static void finish(struct model *m, struct queued *q, const struct brick_completion *done)
{
	ok(done->status == 0);
	ok(q->busy);
	q->busy = false;
	if (q->read)
		ok(memcmp(q->buffer, m->memory + q->block * BLOCK + q->offset, q->length) == 0);
}

/* Waits through the descriptor now and then, to see that it wakes. */
static int gather(struct brick_lane *lane, struct brick_completion *done, int max, bool sleep)
{
	struct pollfd pfd = { .fd = brick_fd(lane), .events = POLLIN };
	int n;

	if (!sleep)
		return brick_wait(lane, done, max, -1);
	while ((n = brick_poll(lane, done, max)) == 0)
		if (brick_arm(lane) == 0)
			ok(poll(&pfd, 1, 30000) == 1);
	return n;
}

/* What of it is in the queue may not be touched by another request. */
static bool overlaps(const struct queued *queue, unsigned block, uint32_t offset, uint32_t length)
{
	for (int i = 0; i < QUEUE; i++)
		if (queue[i].busy && queue[i].length && queue[i].block == block &&
		    offset < queue[i].offset + queue[i].length && queue[i].offset < offset + length)
			return true;
	return false;
}

static void *run_model(void *arg)
{
	struct model *m = arg;
	struct brick_handle handles[BLOCKS];
	struct queued queue[QUEUE] = { 0 };
	struct brick_completion done[QUEUE];
	struct brick_lane *lane;
	unsigned seed = m->number + 1;

	ok(brick_lane_open(m->session, &lane) == 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		m->addrs[i] = BASE + (m->number * BLOCKS + i) * BLOCK;
	ok(brick_alloc(lane, m->addrs, BLOCKS, NULL) == 0);
	ok(brick_map(lane, m->addrs, BLOCKS, BRICK_MAP_WRITE, handles, NULL) == 0);
	for (int i = 0; i < QUEUE; i++)
		queue[i].buffer = malloc(PIECE);
	for (int round = 0; round < ROUNDS * QUEUE; round++) {
		struct queued *q = &queue[round % QUEUE];
		uint64_t cookie = (uint64_t)(round % QUEUE);
		uint32_t length, offset;
		int ret;

		while (q->busy) {
			int n = gather(lane, done, 1 + round % 3, round % 2);

			ok(n > 0);
			for (int i = 0; i < n; i++)
				finish(m, &queue[done[i].cookie], &done[i]);
		}
		q->block = (unsigned)rand_r(&seed) % BLOCKS;
		do {
			length = 1 + (uint32_t)rand_r(&seed) % (round % 4 ? 9000 : PIECE);
			offset = (uint32_t)rand_r(&seed) % (uint32_t)(BLOCK - length);
		} while (overlaps(queue, q->block, offset, length));
		q->offset = offset;
		q->length = length;
		q->read = rand_r(&seed) % 2;
		q->iov[0] = (struct iovec){ q->buffer, length / 2 };
		q->iov[1] = (struct iovec){ NULL, 0 };
		q->iov[2] = (struct iovec){ q->buffer + length / 2, length - length / 2 };
		if (q->read) {
			ret = brick_post_readv(lane, &handles[q->block], offset, q->iov, 3, cookie);
		} else {
			for (uint32_t i = 0; i < length; i++)
				q->buffer[i] = (uint8_t)(rand_r(&seed) >> 7);
			memcpy(m->memory + q->block * BLOCK + offset, q->buffer, length);
			ret = brick_post_writev(lane, &handles[q->block], offset, q->iov, 3, cookie);
		}
		ok(ret == 0);
		q->busy = true;
		if (round % 50 == 0) {
			/* A persist among them; its range may lie anywhere. */
			struct brick_range range = { m->addrs[0], BLOCK };

			ret = brick_post_persist(lane, &range, 1, NULL, UINT64_MAX);
			ok(ret == 0 || ret == -EAGAIN);
			while (ret == 0) {
				int n = brick_wait(lane, done, 1, -1);

				ok(n == 1 && done[0].status == 0);
				if (done[0].cookie == UINT64_MAX)
					break;
				finish(m, &queue[done[0].cookie], &done[0]);
			}
		}
	}
	while (brick_in_flight(lane) > 0) {
		int n = brick_wait(lane, done, QUEUE, -1);

		ok(n > 0);
		for (int i = 0; i < n; i++)
			finish(m, &queue[done[i].cookie], &done[i]);
	}
	for (int i = 0; i < QUEUE; i++)
		free(queue[i].buffer);
	for (unsigned i = 0; i < BLOCKS; i++) {
		const struct brick_range range = { m->addrs[i], BLOCK };

		ok(brick_persist(lane, &range, 1, NULL) == 0);
	}
	ok(brick_unmap(lane, m->addrs, BLOCKS, BRICK_UNMAP_CLEAN, NULL) == 0);
	brick_lane_close(lane);
	return NULL;
}

static void model(void)
{
	struct brick_session *session = open_session("model", THREADS + 1, QUEUE + 1);
	struct model models[THREADS];
	uint8_t *block = malloc(BLOCK);

	for (unsigned i = 0; i < THREADS; i++) {
		models[i] = (struct model){ .session = session, .number = i, .memory = calloc(BLOCKS, BLOCK) };
		ok(pthread_create(&models[i].thread, NULL, run_model, &models[i]) == 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(models[i].thread, NULL);
	brick_close(session);
	/* Another session finds all of it. */
	session = open_session("model again", 1, 1);
	for (unsigned i = 0; i < THREADS; i++) {
		for (unsigned j = 0; j < BLOCKS; j++) {
			struct brick_handle handle;

			ok(brick_map(brick_lane(session, 0), &models[i].addrs[j], 1, 0, &handle, NULL) == 0);
			ok(brick_read(brick_lane(session, 0), &handle, 0, block, BLOCK) == 0);
			ok(memcmp(block, models[i].memory + j * BLOCK, BLOCK) == 0);
			ok(brick_unmap(brick_lane(session, 0), &models[i].addrs[j], 1, 0, NULL) == 0);
		}
		ok(brick_free(brick_lane(session, 0), models[i].addrs, BLOCKS, NULL) == 0);
		free(models[i].memory);
	}
	brick_close(session);
	free(block);
	printf("%d threads: every read found what was written before\n", THREADS);
}

static void die(void)
{
	struct brick_session *session = open_session("die", 2, 4);
	const uint64_t instance = brick_info(session)->instance, addr = BASE;
	struct brick_lane *lane = brick_lane(session, 0), *other;
	const struct brick_range range = { addr, 1 };
	struct brick_handle handle;
	uint8_t byte = 9;
	int ret;

	ok(brick_lane_open(session, &other) == 0);
	ok(brick_alloc(lane, &addr, 1, NULL) == 0);
	ok(brick_map(lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL) == 0);
	puts("working");
	fflush(stdout);
	do {
		ret = brick_write(lane, &handle, 0, &byte, 1);
		if (ret == 0)
			ret = brick_persist(lane, &range, 1, NULL);
	} while (ret == 0);
	ok(ret == -ECONNRESET);
	ok(brick_keepalive(other) == -ECONNRESET);
	/* Refused until the next brickd is there, which does not know this session. */
	while ((ret = brick_lane_rejoin(lane)) != -ESTALE) {
		ok(ret == -ECONNREFUSED || ret == -ENOENT || ret == -ECONNRESET);
		usleep(20000);
	}
	ok(brick_lane_rejoin(other) == -ESTALE);
	brick_close(session);
	session = open_session("die again", 1, 1);
	lane = brick_lane(session, 0);
	ok(brick_info(session)->instance != instance);
	ok(brick_map(lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL) == 0);
	byte = 0;
	ok(brick_read(lane, &handle, 0, &byte, 1) == 0 && byte == 9);
	ok(brick_unmap(lane, &addr, 1, 0, NULL) == 0);
	ok(brick_free(lane, &addr, 1, NULL) == 0);
	brick_close(session);
	puts("the brick died, came back as another instance, and what was persisted is there");
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: %s ENDPOINT calls|model|die\n", argv[0]);
		return 2;
	}
	endpoint = argv[1];
	local = strncmp(endpoint, "unix:", 5) == 0;
	verbs = strncmp(endpoint, "rdma:", 5) == 0;
	if (strcmp(argv[2], "calls") == 0)
		calls();
	else if (strcmp(argv[2], "model") == 0)
		model();
	else if (strcmp(argv[2], "die") == 0)
		die();
	else
		return 2;
	return 0;
}
