/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush-client - persistence by RDMA FLUSH, through libbrick, against a brick that grants it.
 *
 *   flush-client ENDPOINT persist	one range, many, more than the send queue takes, alone and behind writes
 *   flush-client ENDPOINT fallback	what the session has not mapped (any more) is persisted by message
 *   flush-client ENDPOINT stale	a flush through a handle that is void is refused, costs its lane, and that once
 *   flush-client ENDPOINT mixed OTHER	a session that flushes and one, at the endpoint OTHER, that cannot
 *   flush-client ENDPOINT check	what "persist" left is there; frees it
 *   flush-client ENDPOINT method NAME	which method HELLO grants, and STAT tells of this session
 *
 * The last line of "persist" is "flushed N", how many FLUSHes the brick's device was asked for.  The brick has at
 * least 8 free blocks and nothing under the addresses used here, and grants 2 lanes; nobody else uses it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "brick.h"

#define BLOCK BRICK_BLOCK_SIZE
#define BASE 0x7200000000000000ull
enum { BLOCKS = 4, DEPTH = 32, MANY = 1000, OP_PERSIST = 5 };

static const char *endpoint, *step = "start";

#define ok(condition)								\
	do {									\
		if (!(condition)) {						\
			fprintf(stderr, "FAILED %s:%d: %s: %s (last error: %s)\n", \
				__FILE__, __LINE__, step, #condition, brick_error()); \
			exit(1);						\
		}								\
	} while (0)

static struct brick_session *session;
static struct brick_lane *lane, *second;
static uint64_t addrs[BLOCKS];
static struct brick_handle handles[BLOCKS];
static unsigned long flushed;

static struct brick_session *open_at(const char *where)
{
	const struct brick_options options = { .name = "flush-client", .lanes = 2, .depth = DEPTH, .timeout_ms = 20000 };
	struct brick_session *opened;

	ok(brick_open(where, &options, &opened) == 0);
	return opened;
}

static void open_session(void)
{
	session = open_at(endpoint);
	lane = brick_lane(session, 0);
	ok(brick_lane_open(session, &second) == 0);
	ok(brick_info(session)->method == BRICK_PERSIST_FLUSH);
	for (unsigned i = 0; i < BLOCKS; i++)
		addrs[i] = BASE + i * BLOCK;
}

static void take_blocks(void)
{
	ok(brick_alloc(lane, addrs, BLOCKS, NULL) == 0);
	ok(brick_map(lane, addrs, BLOCKS, BRICK_MAP_WRITE, handles, NULL) == 0);
}

/* PERSIST messages that the brick was sent, in ranges' batches. */
static uint64_t messages(void)
{
	struct brick_stat stat;

	ok(strcmp(brick_op_names[OP_PERSIST], "persist") == 0);
	ok(brick_stat(lane, &stat) == 0);
	ok(stat.method == BRICK_PERSIST_FLUSH);
	return stat.op[OP_PERSIST].count;
}

static void fill(uint8_t *at, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		at[i] = (uint8_t)(seed >> 24);
	}
}

static void drain(struct brick_lane *which)
{
	struct brick_completion done[DEPTH];

	while (brick_in_flight(which) > 0) {
		int n = brick_wait(which, done, DEPTH, -1);

		ok(n > 0);
		for (int i = 0; i < n; i++)
			ok(done[i].status == 0);
	}
}

/* What block i holds in the end. */
static void pattern(uint8_t *bytes, unsigned i)
{
	fill(bytes, BLOCK, i + 1);
}

static void persist(void)
{
	static const struct { uint32_t offset, length; } odd[] = {
		{ 0, 1 }, { BLOCK - 1, 1 }, { 4095, 2 }, { 77, 100001 }, { 64, 64 }, { 0, BLOCK }, { 1, BLOCK - 1 },
	};
	struct brick_range ranges[MANY];
	struct brick_handle reader;
	int status[MANY];
	uint8_t *bytes = malloc(BLOCK);
	uint64_t before;

	open_session();
	before = messages();
	take_blocks();
	step = "one range";
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		fill(bytes, odd[i].length, i);
		ok(brick_write(lane, &handles[0], odd[i].offset, bytes, odd[i].length) == 0);
		ranges[0] = (struct brick_range){ addrs[0] + odd[i].offset, odd[i].length };
		ok(brick_persist(lane, ranges, 1, i % 2 ? status : NULL) == 0);
		ok(i % 2 == 0 || status[0] == 0);
		flushed++;
	}
	step = "more ranges than the send queue takes";
	for (unsigned i = 0; i < MANY; i++) {
		ranges[i] = (struct brick_range){ addrs[i % BLOCKS] + i * 2000, 1 + i };
		status[i] = 1;
	}
	ok(brick_persist(lane, ranges, MANY, status) == 0);
	flushed += MANY;
	for (unsigned i = 0; i < MANY; i++)
		ok(status[i] == 0);
	step = "behind writes, in a queue, on two lanes";
	for (unsigned i = 0; i < BLOCKS; i++) {
		struct brick_lane *which = i % 2 ? second : lane;

		pattern(bytes, i);
		for (uint32_t at = 0; at < BLOCK; at += BLOCK / 8) {
			ok(brick_post_write(which, &handles[i], at, bytes + at, BLOCK / 8, 0) == 0);
			ranges[at / (BLOCK / 8)] = (struct brick_range){ addrs[i] + at, BLOCK / 8 };
			ok(brick_post_persist(which, &ranges[at / (BLOCK / 8)], 1, NULL, 1) == 0);
			flushed++;
			if (at == BLOCK / 2)
				ok(brick_post_persist(which, ranges, 3, NULL, 2) == 0);
		}
		flushed += 3;
		drain(which);
	}
	step = "a block that is mapped read-only";
	ok(brick_unmap(lane, addrs, 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	ok(brick_map(lane, addrs, 1, 0, &reader, NULL) == 0);
	ranges[0] = (struct brick_range){ addrs[0], BLOCK };
	ok(brick_persist(second, ranges, 1, NULL) == 0);
	flushed++;
	step = "no ranges, and one that is none";
	ok(brick_persist(lane, ranges, 0, NULL) == 0);
	ranges[0].length = BLOCK + 1;
	ok(brick_persist(lane, ranges, 1, NULL) == -EINVAL);
	step = "the brick was sent no PERSIST";
	ok(messages() == before);
	/* Nothing is unmapped CLEAN, or freed: the brick is about to be killed. */
	free(bytes);
	printf("flushed %lu\n", flushed);
}

static void check(void)
{
	uint8_t *bytes = malloc(BLOCK), *back = malloc(BLOCK);

	open_session();
	ok(brick_map(lane, addrs, BLOCKS, 0, handles, NULL) == 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		step = "what was persisted";
		pattern(bytes, i);
		ok(brick_read(lane, &handles[i], 0, back, BLOCK) == 0);
		ok(memcmp(bytes, back, BLOCK) == 0);
	}
	ok(brick_free(lane, addrs, BLOCKS, NULL) == 0);
	brick_close(session);
	free(bytes);
	free(back);
	puts("what was persisted is there");
}

static void fallback(void)
{
	const struct brick_range first = { BASE + 5, 1000 };
	struct brick_range two[2] = { { BASE, 1 }, { BASE + BLOCK + 9, 4096 } };
	int status[2] = { 1, 1 };
	uint64_t before;

	open_session();
	take_blocks();
	ok(brick_write(lane, &handles[0], 5, "unmapped", 8) == 0);
	before = messages();
	step = "a block that is mapped";
	ok(brick_persist(lane, &first, 1, NULL) == 0 && messages() == before);
	step = "a block that is not mapped any more";
	ok(brick_unmap(lane, addrs, 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	ok(brick_persist(lane, &first, 1, NULL) == 0 && messages() == before + 1);
	step = "one of two blocks is not mapped";
	ok(brick_persist(second, two, 2, status) == 0 && messages() == before + 2);
	ok(status[0] == 0 && status[1] == 0);
	step = "an unmap that is not answered yet";
	ok(brick_post_unmap(lane, addrs + 1, 1, 0, NULL, 0) == 0 && brick_post_persist(lane, two + 1, 1, NULL, 1) == 0);
	drain(lane);
	ok(messages() == before + 3);
	step = "mapped again";
	ok(brick_map(second, addrs, 2, BRICK_MAP_WRITE, handles, NULL) == 0);
	ok(brick_persist(lane, two, 2, NULL) == 0 && messages() == before + 3);
	step = "a block that was freed";
	ok(brick_free(lane, addrs, 1, NULL) == 0);
	ok(brick_persist(lane, &first, 1, NULL) == -ENOENT);
	ok(brick_persist(lane, two, 2, status) == 0 && status[0] == -ENOENT && status[1] == 0);
	ok(messages() == before + 5 && brick_lane_state(lane) == 0);
	step = "the address lives again";
	ok(brick_alloc(lane, addrs, 1, NULL) == 0);
	ok(brick_persist(lane, &first, 1, NULL) == 0 && messages() == before + 6);
	ok(brick_map(lane, addrs, 1, BRICK_MAP_EXCLUSIVE, handles, NULL) == 0);
	ok(brick_persist(lane, &first, 1, NULL) == 0 && messages() == before + 6);
	ok(brick_free(lane, addrs, BLOCKS, NULL) == 0);
	brick_close(session);
	puts("what is not mapped is persisted by message");
}

static void stale(void)
{
	const struct brick_range range = { BASE, 4096 };
	struct brick_completion done;
	struct brick_handle late;
	uint64_t before;
	int status = 1;

	open_session();
	take_blocks();
	ok(brick_write(lane, &handles[0], 0, "stale", 6) == 0);
	before = messages();
	step = "an answer to a map that is looked at after the unmap";
	ok(brick_post_map(second, addrs, 1, BRICK_MAP_WRITE, &late, NULL, 7) == 0);
	usleep(500000);
	ok(brick_unmap(lane, addrs, 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	while (brick_in_flight(second) > 0)
		ok(brick_wait(second, &done, 1, -1) == 1 && done.status == 0);
	ok(late.key == handles[0].key);
	step = "the flush";
	ok(brick_persist(second, &range, 1, &status) == -ECONNRESET && status == -ECONNRESET);
	ok(strstr(brick_error(), "refused to persist"));
	ok(brick_lane_state(second) == -ECONNRESET && brick_lane_state(lane) == 0);
	ok(messages() == before);
	step = "the lane comes back, and persists by message";
	ok(brick_lane_rejoin(second) == 0);
	ok(brick_persist(second, &range, 1, &status) == 0 && status == 0 && messages() == before + 1);
	step = "mapped anew";
	ok(brick_map(second, addrs, 1, BRICK_MAP_WRITE, handles, NULL) == 0);
	ok(handles[0].key != late.key);
	ok(brick_persist(second, &range, 1, NULL) == 0 && messages() == before + 1);
	ok(brick_free(lane, addrs, BLOCKS, NULL) == 0);
	brick_close(session);
	puts("a flush through a void handle is refused, and its lane comes back");
}

static void mixed(const char *where)
{
	struct brick_session *other = open_at(where);
	struct brick_lane *its = brick_lane(other, 0);
	struct brick_range range = { BASE, 100000 };
	struct brick_handle handle;
	struct brick_stat stat;
	uint8_t bytes[100], back[100];
	uint64_t before;

	open_session();
	ok(brick_info(other)->method == BRICK_PERSIST_TARGET);
	ok(brick_stat(its, &stat) == 0 && stat.method == BRICK_PERSIST_TARGET);
	take_blocks();
	ok(brick_map(its, addrs, 1, BRICK_MAP_WRITE, &handle, NULL) == 0);
	before = messages();
	step = "in turns";
	for (unsigned i = 0; i < 20; i++) {
		fill(bytes, sizeof(bytes), i);
		if (i % 2) {
			ok(brick_write(lane, &handles[0], i * 1000, bytes, sizeof(bytes)) == 0);
			ok(brick_persist(lane, &range, 1, NULL) == 0);
			ok(brick_read(its, &handle, i * 1000, back, sizeof(back)) == 0);
		} else {
			ok(brick_write(its, &handle, i * 1000, bytes, sizeof(bytes)) == 0);
			ok(brick_persist(its, &range, 1, NULL) == 0);
			ok(brick_read(lane, &handles[0], i * 1000, back, sizeof(back)) == 0);
		}
		ok(memcmp(bytes, back, sizeof(bytes)) == 0);
	}
	ok(messages() == before + 10);
	brick_close(other);
	ok(brick_persist(lane, &range, 1, NULL) == 0 && messages() == before + 10);
	ok(brick_free(lane, addrs, BLOCKS, NULL) == 0);
	brick_close(session);
	puts("one session flushes, the other asks the brick to");
}

static void method(const char *name)
{
	static const char *const names[] = {
		[BRICK_PERSIST_TARGET] = "target", [BRICK_PERSIST_FLUSH] = "flush", [BRICK_PERSIST_VOLATILE] = "volatile",
	};
	struct brick_stat stat;

	session = open_at(endpoint);
	lane = brick_lane(session, 0);
	ok(brick_stat(lane, &stat) == 0 && stat.method == brick_info(session)->method);
	brick_close(session);
	if (strcmp(names[stat.method], name) != 0) {
		fprintf(stderr, "FAILED: the method is %s, and not %s\n", names[stat.method], name);
		exit(1);
	}
	puts(name);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[2] : "", *argument = argc > 3 ? argv[3] : NULL;

	endpoint = argc > 1 ? argv[1] : NULL;
	if (strcmp(mode, "persist") == 0) {
		persist();
	} else if (strcmp(mode, "fallback") == 0) {
		fallback();
	} else if (strcmp(mode, "stale") == 0) {
		stale();
	} else if (strcmp(mode, "check") == 0) {
		check();
	} else if (strcmp(mode, "mixed") == 0 && argument) {
		mixed(argument);
	} else if (strcmp(mode, "method") == 0 && argument) {
		method(argument);
	} else {
		fprintf(stderr, "usage: %s ENDPOINT persist|fallback|stale|check|mixed OTHER|method NAME\n", argv[0]);
		return 2;
	}
	return 0;
}
