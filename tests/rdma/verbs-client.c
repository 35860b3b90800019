/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs-client - libbrick's verbs transport against a brick, as nobody would use it.
 *
 *   verbs-client ENDPOINT data      memory of every kind, sizes 1 byte to 2 MiB at odd offsets, one request at a time
 *   verbs-client ENDPOINT queue     queues that are full, many large READs at once, random queued I/O on two lanes
 *   verbs-client ENDPOINT control   more control messages than fit at once, batches among data, notices left alone
 *   verbs-client ENDPOINT refused   accesses that the brick's device refuses, alone and among others; rejoining
 *   verbs-client ENDPOINT close     lanes and sessions that end while requests are in flight
 *   verbs-client ENDPOINT die       load until the brick is killed (it says "working" first): everything ends in time
 *   verbs-client ENDPOINT nobody    nobody listens there: refused, and said so
 *
 * The brick has at least 16 free blocks and nothing under the addresses used here, and grants 2 lanes.  It runs over
 * tcp:// too, but for what only a device refuses.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "brick.h"

#define BLOCK BRICK_BLOCK_SIZE
#define BASE 0x7100000000000000ull
enum { BLOCKS = 8, DEPTH = 32 };

static const char *endpoint, *step = "start";
static unsigned seed = 1;

#define ok(condition)								\
	do {									\
		if (!(condition)) {						\
			fprintf(stderr, "FAILED %s:%d: %s: %s (last error: %s)\n", \
				__FILE__, __LINE__, step, #condition, brick_error()); \
			exit(1);						\
		}								\
	} while (0)

static struct brick_session *session;
static struct brick_lane *lane;
static uint64_t addrs[BLOCKS];
static struct brick_handle handles[BLOCKS];

static void open_session(unsigned depth, unsigned blocks)
{
	const struct brick_options options = { .name = "verbs-client", .lanes = 2, .depth = (uint16_t)depth, .timeout_ms = 20000 };

	ok(brick_open(endpoint, &options, &session) == 0);
	lane = brick_lane(session, 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		addrs[i] = BASE + i * BLOCK;
	for (unsigned i = 0; i < blocks; i++) {
		int ret = brick_alloc(lane, &addrs[i], 1, NULL);

		ok(ret == 0 || ret == -EEXIST);
	}
	if (blocks)
		ok(brick_map(lane, addrs, blocks, BRICK_MAP_WRITE, handles, NULL) == 0);
}

static void end_session(unsigned blocks)
{
	if (blocks)
		ok(brick_free(lane, addrs, blocks, NULL) == 0);
	brick_close(session);
}

static void fill(uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		at[i] = (uint8_t)(seed >> 24);
	}
}

static void drain(struct brick_lane *which, int expected)
{
	struct brick_completion done[DEPTH];

	while (brick_in_flight(which) > 0) {
		int n = brick_wait(which, done, DEPTH, -1);

		ok(n > 0);
		for (int i = 0; i < n; i++)
			ok(done[i].status == expected);
	}
}

/* data */

/* Writes from one memory and reads into another; nothing beside what was asked for may change. */
static void round_trip(uint8_t *from, uint8_t *to, uint32_t length, uint32_t offset)
{
	uint8_t before = to[-1], after = to[length];

	ok(brick_write(lane, &handles[0], offset, from, length) == 0);
	memset(to, 0, length);
	ok(brick_read(lane, &handles[0], offset, to, length) == 0);
	ok(memcmp(from, to, length) == 0);
	ok(to[-1] == before && to[length] == after);
}

static void data(void)
{
	static const uint32_t sizes[] = { 1, 3, 64, 255, 256, 257, 4096, 8191, 16384, 16385, 65535, 65536, 65537, 262144, 262145,
					  1000001, BLOCK };
	const size_t room = BLOCK + 16384;
	uint8_t *registered, *mine, *plain = malloc(room), *other = malloc(room), *rodata, *shared;

	open_session(DEPTH, 1);
	registered = brick_buffer_alloc(session, room);
	mine = malloc(room);
	ok(registered && brick_buffer_register(session, mine, room) == 0);
	fill(registered, room);
	fill(plain, room);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t n = sizes[i], offset = n == BLOCK ? 0 : (uint32_t)((BLOCK - n) / 2) | (n < BLOCK / 2);

		step = "registered memory";
		round_trip(registered + 1 + i, mine + 77, n, offset);
		step = "memory that is not registered";
		round_trip(plain + 1 + i, other + 77, n, offset);
		step = "from one to the other";
		round_trip(plain + 5, mine + 3, n, offset);
		round_trip(registered + 5, other + 3, n, offset);
	}
	step = "a request over the end of a buffer";
	{
		uint8_t *area = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		ok(area != MAP_FAILED && brick_buffer_register(session, area + (1 << 20), 1 << 20) == 0);
		fill(area, 4 << 20);
		round_trip(area + (1 << 20) - 1000, other + 1, 5000, 12345);
		round_trip(area + (2 << 20) - 1000, other + 1, 5000, 12345);
		round_trip(other + 1, area + (1 << 20) - 100000, 1200000, 12345);
		brick_buffer_unregister(session, area + (1 << 20));
		round_trip(area + (1 << 20), other + 1, 5000, 12345);
		munmap(area, 4 << 20);
	}
	step = "read-only memory as the source";
	rodata = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(rodata, 1 << 20);
	ok(mprotect(rodata, 1 << 20, PROT_READ) == 0);
	round_trip(rodata, other + 1, 1000, 7);
	round_trip(rodata, other + 1, 1 << 20, 7);
	ok(brick_buffer_register(session, rodata, 1 << 20) == 0);
	round_trip(rodata + 1, other + 1, 300000, 7);
	step = "shared memory";
	shared = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(shared, 1 << 20);
	round_trip(shared + 1, other + 1, 900000, 1);
	round_trip(other + 1, shared + 1, 900000, 1);
	step = "scattered memory";
	for (int round = 0; round < 30; round++) {
		struct iovec iov[40];
		uint8_t *expected = malloc(BLOCK), *found = malloc(BLOCK);
		size_t length = 0;
		int n = 1 + round % 40;

		for (int i = 0; i < n; i++) {
			size_t part = (size_t)rand() % (round % 3 == 0 ? 300 : round % 3 == 1 ? 20000 : 50000);
			uint8_t *memory = i % 3 == 0 ? registered : i % 3 == 1 ? plain : mine;

			/* Its own stretch of one of three memories. */
			iov[i] = (struct iovec){ memory + (size_t)(i / 3) * 52000, i == 5 ? 0 : part };
			memcpy(expected + length, iov[i].iov_base, iov[i].iov_len);
			length += iov[i].iov_len;
		}
		if (length == 0)
			continue;
		ok(brick_post_writev(lane, &handles[0], 99, iov, n, 1) == 0);
		drain(lane, 0);
		ok(brick_read(lane, &handles[0], 99, found, (uint32_t)length) == 0);
		ok(memcmp(expected, found, length) == 0);
		for (int i = 0; i < n; i++)
			memset(iov[i].iov_base, 0, iov[i].iov_len);
		ok(brick_post_readv(lane, &handles[0], 99, iov, n, 1) == 0);
		drain(lane, 0);
		length = 0;
		for (int i = 0; i < n; i++) {
			ok(memcmp(iov[i].iov_base, expected + length, iov[i].iov_len) == 0);
			length += iov[i].iov_len;
		}
		free(expected);
		free(found);
	}
	brick_buffer_unregister(session, mine);
	brick_buffer_unregister(session, mine);		/* twice: nothing happens */
	brick_buffer_free(session, registered);
	free(mine);
	free(plain);
	free(other);
	end_session(1);		/* rodata is still registered: the session's end takes care of it */
	munmap(rodata, 1 << 20);
	munmap(shared, 1 << 20);
	puts("every kind of memory arrives whole, and nothing else changes");
}

/* queue */

struct queued {
	bool busy, read;
	unsigned block;
	uint32_t offset, length;
	uint8_t *buffer;
};

static void random_io(struct brick_lane *which, unsigned first, uint8_t *memory, uint8_t *buffers, int rounds)
{
	struct queued queue[DEPTH] = { 0 };
	struct brick_completion done[DEPTH];
	unsigned r = first + 1;

	for (int i = 0; i < DEPTH; i++)
		queue[i].buffer = buffers + (size_t)i * 200000;
	for (int round = 0; round < rounds || brick_in_flight(which) > 0; round++) {
		struct queued *q = &queue[round % DEPTH];
		bool posted = false;

		if (round < rounds && !q->busy) {
			bool clash;

			do {
				clash = false;
				q->block = first + (unsigned)rand_r(&r) % 2;
				q->length = 1 + (uint32_t)rand_r(&r) % (round % 5 ? 5000 : 200000);
				q->offset = (uint32_t)rand_r(&r) % (uint32_t)(BLOCK - q->length);
				for (int i = 0; i < DEPTH; i++)
					clash = clash || (queue[i].busy && queue[i].block == q->block &&
							  q->offset < queue[i].offset + queue[i].length &&
							  queue[i].offset < q->offset + q->length);
			} while (clash);
			q->read = rand_r(&r) % 2;
			if (q->read) {
				memset(q->buffer, 0, q->length);
				ok(brick_post_read(which, &handles[q->block], q->offset, q->buffer, q->length,
						   (uint64_t)(q - queue)) == 0);
			} else {
				uint8_t *at = memory + (q->block - first) * BLOCK + q->offset;

				fill(at, q->length);
				memcpy(q->buffer, at, q->length);
				ok(brick_post_write(which, &handles[q->block], q->offset, q->buffer, q->length,
						    (uint64_t)(q - queue)) == 0);
			}
			q->busy = posted = true;
		}
		if (!posted || round % 7 == 0) {
			int n = posted ? brick_poll(which, done, DEPTH) : brick_wait(which, done, DEPTH, -1);

			ok(n >= 0);
			for (int i = 0; i < n; i++) {
				struct queued *over = &queue[done[i].cookie];

				ok(done[i].status == 0 && over->busy);
				over->busy = false;
				if (over->read)
					ok(memcmp(over->buffer, memory + (over->block - first) * BLOCK + over->offset,
						  over->length) == 0);
			}
		}
	}
}

static void queue(void)
{
	uint8_t *buffers, *memory = calloc(2, BLOCK), *single = malloc(BLOCK);
	struct brick_lane *second;
	unsigned n = 0;
	int ret;

	open_session(DEPTH, BLOCKS);
	ok(brick_info(session)->depth == DEPTH);
	buffers = brick_buffer_alloc(session, BLOCKS * BLOCK);
	ok(buffers);
	step = "a full queue";
	while ((ret = brick_post_read(lane, &handles[n % BLOCKS], 0, buffers + (n % BLOCKS) * BLOCK, 4096, n)) == 0)
		n++;
	ok(ret == -EAGAIN && n == DEPTH && brick_in_flight(lane) == DEPTH);
	drain(lane, 0);
	step = "many large READs and WRITEs at once";
	for (unsigned i = 0; i < BLOCKS; i++) {
		fill(buffers + i * BLOCK, BLOCK);
		ok(brick_post_write(lane, &handles[i], 0, buffers + i * BLOCK, BLOCK, i) == 0);
	}
	drain(lane, 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		/* Into memory that is not registered, and back to back with the next. */
		ok(brick_read(lane, &handles[i], 0, single, BLOCK) == 0);
		ok(memcmp(single, buffers + i * BLOCK, BLOCK) == 0);
		memset(buffers + i * BLOCK, 0xee, BLOCK);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		ok(brick_post_read(lane, &handles[i], 0, buffers + i * BLOCK, BLOCK, i) == 0);
	drain(lane, 0);
	ok(memcmp(single, buffers + (BLOCKS - 1) * BLOCK, BLOCK) == 0);
	step = "many copies at once";
	for (unsigned i = 0; i < BLOCKS; i++) {
		/* 40 pieces of 50000 bytes that are not registered: more than the copies' memory takes for all. */
		static struct iovec iov[BLOCKS][40];
		static uint8_t *memories[BLOCKS];

		memories[i] = calloc(1, BLOCK);
		for (int j = 0; j < 40; j++)
			iov[i][j] = (struct iovec){ memories[i] + j * 50000, 50000 };
		ok(brick_post_readv(lane, &handles[i], 0, iov[i], 40, i) == 0);
		if (i == BLOCKS - 1) {
			drain(lane, 0);
			for (unsigned k = 0; k < BLOCKS; k++) {
				ok(memcmp(memories[k], buffers + k * BLOCK, 2000000) == 0);
				free(memories[k]);
			}
		}
	}
	step = "random requests, registered";
	memset(single, 0, BLOCK);
	for (unsigned i = 0; i < 4; i++)
		ok(brick_write(lane, &handles[i], 0, single, BLOCK) == 0);
	random_io(lane, 0, memory, buffers, 1500);
	step = "random requests, not registered, on another lane";
	ok(brick_lane_open(session, &second) == 0);
	memset(memory, 0, 2 * BLOCK);
	{
		uint8_t *plain = malloc((size_t)DEPTH * 200000);

		random_io(second, 2, memory, plain, 1500);
		free(plain);
	}
	brick_buffer_free(session, buffers);
	end_session(BLOCKS);
	free(memory);
	free(single);
	puts("full queues, large requests and random ones: every byte as expected");
}

/* control */

static void control(void)
{
	enum { N = 3000 };
	static uint64_t many[N];
	static int status[N], more[N];
	static struct brick_range ranges[N];
	static uint8_t bytes[64][100], back[64][100];
	struct brick_completion done[64];
	int ret;

	open_session(4, 2);
	step = "batches in more messages than may be in flight";
	for (unsigned i = 0; i < N; i++) {
		many[i] = BASE + (1000 + i) * BLOCK;
		ranges[i] = (struct brick_range){ addrs[i % 2] + i * 64, 64 };
		status[i] = more[i] = 1;
	}
	/* Nothing of these is there; the answers have to be those of their entries. */
	ok(brick_free(lane, many, N, status) == 0);
	for (unsigned i = 0; i < N; i++)
		ok(status[i] == -ENOENT);
	ok(brick_persist(lane, ranges, N, more) == 0);
	for (unsigned i = 0; i < N; i++)
		ok(more[i] == 0);
	step = "a persist behind writes";
	for (int round = 0; round < 200; round++) {
		int n = 0;

		fill(bytes[round % 64], 100);
		while ((ret = brick_post_write(lane, &handles[round % 2], (uint32_t)round * 100, bytes[round % 64], 100, 1)) ==
		       -EAGAIN)
			ok(brick_wait(lane, done, 64, -1) > 0);
		ok(ret == 0);
		while ((ret = brick_post_persist(lane, &ranges[round], 1, NULL, 2)) == -EAGAIN)
			ok(brick_wait(lane, done, 64, -1) > 0);
		ok(ret == 0);
		while (round % 3 == 0 && brick_in_flight(lane) > 0) {
			n = brick_wait(lane, done, 64, -1);
			ok(n > 0);
			for (int i = 0; i < n; i++)
				ok(done[i].status == 0);
		}
	}
	drain(lane, 0);
	ok(brick_read(lane, &handles[1], 19900, back[0], 100) == 0);
	ok(memcmp(back[0], bytes[199 % 64], 100) == 0);
	step = "many messages";
	for (int i = 0; i < 500; i++)
		ok(brick_keepalive(lane) == 0);
	end_session(2);
	puts("control messages: more than fit at once, and among data");
}

/* refused */

static void refused(void)
{
	uint8_t *buffer, *expected = malloc(BLOCK);
	struct brick_completion done[DEPTH];
	struct brick_lane *second;
	int refusals = 0, lost = 0, n;

	open_session(DEPTH, 2);
	buffer = brick_buffer_alloc(session, BLOCK);
	ok(buffer && brick_lane_open(session, &second) == 0);
	fill(expected, BLOCK);
	ok(brick_write(lane, &handles[0], 0, expected, BLOCK) == 0);
	for (int round = 0; round < 4; round++) {
		struct brick_handle bad = handles[0];

		bad.key ^= 0x5a5a00;
		step = "an access alone";
		memset(buffer, 0x11, 4096);
		ok((round % 2 ? brick_read(second, &bad, 0, buffer, 4096) : brick_write(second, &bad, 0, buffer, 4096)) == -EACCES);
		ok(strstr(brick_error(), "0x7100000000000000"));
		ok(buffer[0] == 0x11 && buffer[4095] == 0x11);
		ok(brick_lane_state(second) == -ECONNRESET);
		ok(brick_keepalive(second) == -ECONNRESET);
		ok(strstr(brick_error(), endpoint));
		ok(brick_lane_rejoin(second) == 0);
		step = "after rejoining";
		ok(brick_read(second, &handles[0], 0, buffer, BLOCK) == 0);
		ok(memcmp(buffer, expected, BLOCK) == 0);
	}
	step = "an access among others";
	{
		struct brick_handle bad = handles[0];

		bad.key ^= 0x5a5a00;
		for (int i = 0; i < DEPTH; i++)
			ok(brick_post_read(second, i == 10 ? &bad : &handles[0], 0, buffer, 65536, (uint64_t)i) == 0);
		while (brick_in_flight(second) > 0) {
			n = brick_wait(second, done, DEPTH, -1);
			ok(n > 0);
			for (int i = 0; i < n; i++) {
				if (done[i].cookie == 10)
					ok(done[i].status == -EACCES);
				else if (done[i].cookie < 10)
					ok(done[i].status == 0);
				else
					ok(done[i].status == -ECONNRESET);
				refusals += done[i].status == -EACCES;
				lost += done[i].status == -ECONNRESET;
			}
		}
		ok(refusals == 1 && lost == DEPTH - 11);
	}
	ok(brick_wait(second, done, 1, 0) == -ECONNRESET && brick_arm(second) == -ECONNRESET);
	ok(brick_lane_rejoin(second) == 0);
	step = "a block that is not mapped any more";
	ok(brick_unmap(lane, &addrs[1], 1, 0, NULL) == 0);
	ok(brick_read(second, &handles[1], 0, buffer, 1) == -EACCES);
	step = "a write to a block that is mapped read-only";
	ok(brick_lane_rejoin(second) == 0);
	ok(brick_map(lane, &addrs[1], 1, 0, &handles[1], NULL) == 0);
	ok(brick_read(second, &handles[1], 0, buffer, 4096) == 0);
	ok(brick_write(second, &handles[1], 0, buffer, 1) == -EACCES && brick_lane_state(second) == 0);	/* the library's own */
	handles[1].flags |= BRICK_MAP_WRITE;
	ok(brick_write(second, &handles[1], 0, buffer, 1) == -EACCES && brick_lane_state(second) == -ECONNRESET);
	step = "the first lane";
	ok(brick_read(lane, &handles[0], 0, buffer, BLOCK) == 0 && memcmp(buffer, expected, BLOCK) == 0);
	ok(brick_lane_rejoin(second) == 0 && brick_keepalive(second) == 0);
	end_session(2);
	free(expected);
	puts("what is refused is refused for its request, and costs its lane alone");
}

/* close */

static void close_busy(void)
{
	for (int round = 0; round < 6; round++) {
		struct brick_lane *second;
		uint8_t *buffer, *plain = malloc(4 * BLOCK);

		step = "closing what is busy";
		open_session(DEPTH, BLOCKS);
		buffer = brick_buffer_alloc(session, 4 * BLOCK);
		ok(buffer && brick_lane_open(session, &second) == 0);
		for (unsigned i = 0; i < DEPTH; i++) {
			uint8_t *at = (i % 2 ? buffer : plain) + i % 4 * BLOCK;
			struct brick_lane *which = round % 3 == 2 && i % 2 ? lane : second;

			ok((i % 3 ? brick_post_read(which, &handles[i % BLOCKS], 0, at, round % 2 ? BLOCK : 70000, i) :
			    brick_post_write(which, &handles[i % BLOCKS], 0, at, round % 2 ? BLOCK : 3000, i)) == 0);
		}
		if (round % 3 == 0)
			brick_lane_close(second);
		brick_close(session);
		free(plain);
		/* The memory is nobody's any more: what is written into it now stays. */
		plain = malloc(4 * BLOCK);
		memset(plain, 0x77, 4 * BLOCK);
		usleep(20000);
		for (size_t i = 0; i < 4 * BLOCK; i += 4096)
			ok(plain[i] == 0x77);
		free(plain);
	}
	open_session(4, BLOCKS);
	end_session(BLOCKS);
	puts("closing while requests are in flight leaves nothing behind");
}

/* die */

/* The brick is gone, or its answer did not come in time: which of them it is depends on what the device notices first. */
static bool is_lost(int status)
{
	return status == -ECONNRESET || status == -ETIMEDOUT;
}

static void die(void)
{
	struct brick_range range;
	struct brick_completion done[DEPTH];
	uint8_t *buffer;
	struct brick_lane *second;
	struct pollfd pfd;
	int error = 0, other = 0, n;

	open_session(DEPTH, BLOCKS);
	range = (struct brick_range){ addrs[0], 4096 };		/* stays until the last completion */
	buffer = brick_buffer_alloc(session, BLOCK);
	ok(buffer && brick_lane_open(session, &second) == 0);
	puts("working");
	fflush(stdout);
	while (!error) {
		for (unsigned i = 0; i < DEPTH; i++) {
			int ret = i % 5 == 4 ? brick_post_persist(lane, &range, 1, NULL, i) :
				i % 2 ? brick_post_read(lane, &handles[i % BLOCKS], 0, buffer, i % 3 ? 4096 : 500000, i) :
				brick_post_write(lane, &handles[i % BLOCKS], 0, buffer, i % 3 ? 4096 : 500000, i);

			ok(ret == 0 || ret == -EAGAIN || ret == -ECONNRESET || ret == -ETIMEDOUT);
			if (ret == -EAGAIN)
				break;
		}
		n = brick_wait(lane, done, DEPTH, -1);
		ok(n > 0 || is_lost(n));
		for (int i = 0; i < n; i++) {
			ok(done[i].status == 0 || is_lost(done[i].status));
			error = error ? error : done[i].status;
		}
	}
	while ((n = brick_wait(lane, done, DEPTH, -1)) > 0)
		for (int i = 0; i < n; i++) {
			/* Also if the device of a dying brick refused: not EACCES.  What was done before may be told behind it. */
			if (done[i].status && !is_lost(done[i].status))
				fprintf(stderr, "%s: status %d behind %d\n", step, done[i].status, error);
			ok(done[i].status == 0 || is_lost(done[i].status));
		}
	ok(is_lost(n) && brick_in_flight(lane) == 0);
	printf("%s\n", brick_error());
	/* The idle lane learns it too, by its descriptor. */
	step = "the idle lane";
	pfd = (struct pollfd){ .fd = brick_fd(second), .events = POLLIN };
	while ((n = brick_arm(second)) >= 0) {
		if (n == 0)
			ok(poll(&pfd, 1, 30000) == 1);
		ok(brick_poll(second, done, 1) == 0);
	}
	other = brick_lane_state(second);
	ok(is_lost(other));
	step = "rejoining";
	n = brick_lane_rejoin(lane);
	ok(n == -ECONNREFUSED || n == -ECONNRESET || n == -ETIMEDOUT || n == -ESTALE);
	brick_close(session);
	puts("the brick died, and everything that was under way ended with an error");
}

static void nobody(void)
{
	ok(brick_open(endpoint, NULL, &session) == -ECONNREFUSED);
	ok(strstr(brick_error(), endpoint) && strstr(brick_error(), "brickd"));
	ok(!session);
	puts("nobody there: refused");
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*run)(void); } modes[] = {
		{ "data", data }, { "queue", queue }, { "control", control }, { "refused", refused }, { "close", close_busy },
		{ "die", die }, { "nobody", nobody },
	};

	for (size_t i = 0; argc == 3 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(argv[2], modes[i].name) == 0) {
			endpoint = argv[1];
			modes[i].run();
			return 0;
		}
	}
	fprintf(stderr, "usage: %s ENDPOINT data|queue|control|refused|close|die|nobody\n", argv[0]);
	return 2;
}
