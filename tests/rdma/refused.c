/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refused - what a handle does not give may not be had by it: accesses that no
 * honest initiator makes, through libbrick with handles that were changed.
 *
 *   refused ENDPOINT        tests/functional/refused.sh runs it, over tcp and rdma
 *
 * Each case maps what it needs with one session, makes one access on its second
 * lane, and then: the access has failed, a READ has brought nothing, no byte
 * there, or where it would be in the other blocks, is another one (which a second
 * session looks up; in the end it looks at all of them), the first lane works, and
 * the second lane is back after brick_lane_rejoin().
 *
 * The error is -EACCES, by the device over verbs, by brickd over tcp (which hangs
 * up without a word on a frame that is not inside one block: -ECONNRESET); what
 * else is in flight on the lane ends with -ECONNRESET.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "brick.h"

#define BLOCK BRICK_BLOCK_SIZE
#define BASE 0x7000000000000000ull
enum { X, Y, Z, BLOCKS };	/* neighbours, in this order */
enum { LENGTH = 64 };

#define ok(condition)								\
	do {									\
		if (!(condition)) {						\
			fprintf(stderr, "FAILED %s:%d: %s: %s (last error: %s)\n", \
				__FILE__, __LINE__, name, #condition, brick_error()); \
			exit(1);						\
		}								\
	} while (0)

static const char *name = "start", *endpoint;
static bool verbs;
static uint8_t *was[BLOCKS];	/* what has to be there */
static const uint64_t addrs[BLOCKS] = { BASE, BASE + BLOCK, BASE + 2 * BLOCK };

static struct brick_session *open_session(const char *who)
{
	const struct brick_options options = { .name = who, .lanes = 2, .depth = 8, .timeout_ms = 20000 };
	struct brick_session *session = NULL;

	ok(brick_open(endpoint, &options, &session) == 0);
	return session;
}

struct sides {
	struct brick_session *one, *other;
	struct brick_lane *first, *second;	/* of one: the second is the one that is lost */
	struct brick_lane *witness;		/* of other */
	struct brick_handle mine[BLOCKS];	/* X and Y for writing */
	struct brick_handle theirs[BLOCKS];	/* all of them, read-only but for Z */
};

/* Bytes of every block, as the other session sees them: all, or those around which the accesses were. */
static void look(struct sides *s, uint32_t offset, uint32_t length)
{
	static uint8_t now[BLOCK];

	for (int i = 0; i < BLOCKS; i++) {
		ok(brick_read(s->witness, &s->theirs[i], offset, now, length) == 0);
		ok(memcmp(now, was[i] + offset, length) == 0);
	}
}

static void unchanged(struct sides *s)
{
	look(s, 0, 65536);
	look(s, BLOCK - 65536, 65536);
}

static bool refusal(int status)
{
	return status == -EACCES || (!verbs && status == -ECONNRESET);
}

/* The lane comes back, and is good for something. */
static void back(struct sides *s)
{
	uint8_t byte;

	ok(brick_keepalive(s->second) == -ECONNRESET);
	ok(brick_lane_state(s->second) == -ECONNRESET);
	ok(brick_keepalive(s->first) == 0);
	ok(brick_lane_rejoin(s->second) == 0);
	byte = was[X][100];
	ok(brick_write(s->second, &s->mine[X], 100, &byte, 1) == 0);
	byte = 0;
	ok(brick_read(s->second, &s->mine[X], 100, &byte, 1) == 0 && byte == was[X][100]);
}

enum { READING = 1, WRITING = 2 };

static const char *said = "";

/* Accesses that fail, each kind by itself since each costs the lane. */
static void refused(struct sides *s, const char *what, int kinds, const struct brick_handle *handle, uint32_t offset)
{
	uint8_t buffer[LENGTH], before[LENGTH];
	struct brick_handle changed = *handle;

	name = what;
	changed.flags |= BRICK_MAP_WRITE;	/* libbrick itself would refuse it else */
	memset(before, 0xee, sizeof(before));
	if (kinds & WRITING) {
		memcpy(buffer, before, sizeof(buffer));
		ok(refusal(brick_write(s->second, &changed, offset, buffer, sizeof(buffer))));
		unchanged(s);
		back(s);
	}
	if (kinds & READING) {
		memcpy(buffer, before, sizeof(buffer));
		ok(refusal(brick_read(s->second, &changed, offset, buffer, sizeof(buffer))));
		ok(memcmp(buffer, before, sizeof(buffer)) == 0);
		unchanged(s);
		back(s);
	}
	if (strcmp(what, said) != 0)
		printf("refused, as it should: %s\n", what);
	said = what;
}

static struct brick_handle moved(const struct brick_handle *handle, int64_t distance)
{
	struct brick_handle changed = *handle;

	changed.place += (uint64_t)distance;
	return changed;
}

static struct brick_handle with_key(const struct brick_handle *handle, const struct brick_handle *of)
{
	struct brick_handle changed = *handle;

	changed.key = of->key;
	return changed;
}

/* What is in flight on the lane beside the bad access fails with it, and nothing of it comes late. */
static void crowd(struct sides *s)
{
	static uint8_t same[8][4096];
	struct brick_completion done[8];
	const struct brick_handle bad = with_key(&s->mine[X], &s->mine[Y]);
	int left = 7, failed = 0;

	name = "a bad access among good ones";
	for (uint64_t i = 0; i < 7; i++) {
		memcpy(same[i], was[X] + i * 4096, 4096);
		ok(brick_post_write(s->second, i == 3 ? &bad : &s->mine[X], (uint32_t)i * 4096, same[i], 4096, i) == 0);
	}
	while (left) {
		int n = brick_wait(s->second, done, 8, -1);

		ok(n > 0);
		for (int i = 0; i < n; i++) {
			/* Those in front of it may have succeeded; it is the one to blame; what is behind it has not. */
			ok(done[i].cookie != 3 || refusal(done[i].status));
			ok(done[i].cookie < 3 || done[i].status < 0);
			ok(done[i].status == 0 || done[i].status == -EACCES || done[i].status == -ECONNRESET);
			failed += done[i].status < 0;
		}
		left -= n;
	}
	ok(failed >= 4);
	unchanged(s);
	back(s);
	printf("refused, as it should: %s\n", name);
}

/* Whoever was killed by another's preempting map has lost all access, by the time the other one has it. */
static void preempted(struct sides *s)
{
	struct brick_session *victim = open_session("victim");
	struct brick_lane *lane = brick_lane(victim, 0), *lanes;
	struct brick_handle handle, exclusive;
	uint8_t buffer[LENGTH] = { 0 };
	int ret;

	name = "a write by a session that was preempted";
	ok(brick_lane_open(victim, &lanes) == 0);
	ok(brick_unmap(s->witness, &addrs[Z], 1, 0, NULL) == 0);
	ok(brick_map(lane, &addrs[Z], 1, BRICK_MAP_WRITE, &handle, NULL) == 0);
	ok(brick_read(lane, &handle, 0, buffer, sizeof(buffer)) == 0 && memcmp(buffer, was[Z], sizeof(buffer)) == 0);
	ok(brick_map(s->first, &addrs[Z], 1, BRICK_MAP_EXCLUSIVE | BRICK_MAP_PREEMPT, &exclusive, NULL) == 0);
	memset(buffer, 0xee, sizeof(buffer));
	ret = brick_write(lane, &handle, 0, buffer, sizeof(buffer));
	ok(ret == -EACCES || ret == -ECONNRESET || ret == -ETIMEDOUT);
	ret = brick_write(lanes, &handle, 0, buffer, sizeof(buffer));
	ok(ret == -EACCES || ret == -ECONNRESET || ret == -ETIMEDOUT);
	ok(brick_lane_rejoin(lane) == -ESTALE);
	ok(brick_unmap(s->first, &addrs[Z], 1, 0, NULL) == 0);
	ok(brick_map(s->witness, &addrs[Z], 1, BRICK_MAP_WRITE, &s->theirs[Z], NULL) == 0);
	unchanged(s);
	brick_close(victim);
	printf("refused, as it should: %s\n", name);
}

/* Many keys that nobody was given. */
static void guessed(struct sides *s)
{
	struct brick_handle handle = s->mine[X];

	for (uint32_t i = 0; i < 12; i++) {
		handle.key = i < 6 ? s->mine[X].key ^ (1u << (5 * i)) : i * 0x2545f491u;
		if (handle.key != s->mine[Y].key && handle.key != s->theirs[X].key)
			refused(s, "a key that is a guess", i % 2 ? READING : WRITING, &handle, 0);
	}
}

static void table(struct sides *s)
{
	struct brick_handle handle, old;
	const int both = READING | WRITING;

	/* The names are in the order of the blocks: behind the end of X begins Y, which is mapped as well. */
	handle = moved(&s->mine[X], BLOCK);
	refused(s, "beyond the block, right behind its end", both, &handle, 0);
	handle = moved(&s->mine[X], LENGTH / 2);
	refused(s, "beyond the block, half of it", both, &handle, BLOCK - LENGTH);
	handle = moved(&s->mine[Y], -LENGTH);
	refused(s, "before the block", both, &handle, 0);
	handle = moved(&s->mine[X], (int64_t)(1ull << 62));
	refused(s, "under an ID that nobody has", both, &handle, 0);

	handle = with_key(&s->mine[Y], &s->mine[X]);
	refused(s, "with the key of another ID", both, &handle, 0);
	handle = with_key(&s->mine[X], &s->theirs[X]);
	refused(s, "with another session's key of the same ID", both, &handle, 0);
	handle = s->theirs[Z];
	refused(s, "with another session's handle of an ID that is not mapped here", both, &handle, 0);

	ok(brick_unmap(s->first, &addrs[Y], 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	old = s->mine[Y];
	refused(s, "after unmap", both, &old, 0);
	ok(brick_map(s->first, &addrs[Y], 1, 0, &s->mine[Y], NULL) == 0);
	refused(s, "writing through a read-only handle", WRITING, &s->mine[Y], 4096);
	if (old.key != s->mine[Y].key)
		refused(s, "after unmap and another map, with the old key", both, &old, 0);

	/* Unmapped and mapped until a key comes again, or often: the key is only good for the ID that it has now. */
	ok(brick_unmap(s->first, &addrs[Y], 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	for (int i = 0; i < 300; i++) {
		const uint64_t *addr = &addrs[i % 2 ? Y : Z];

		ok(brick_map(s->first, addr, 1, 0, &handle, NULL) == 0);
		if (i % 2 == 0 && handle.key == old.key)
			break;
		ok(brick_unmap(s->first, addr, 1, BRICK_UNMAP_CLEAN, NULL) == 0);
		if (i == 299)
			ok(brick_map(s->first, &addrs[Z], 1, 0, &handle, NULL) == 0);
	}
	printf("the key of an earlier map %s\n", handle.key == old.key ? "came again, for another ID" : "did not come again in 300 maps");
	old.key = handle.key;
	refused(s, "with a key that belongs to another ID now", both, &old, 0);
	ok(brick_unmap(s->first, &addrs[Z], 1, BRICK_UNMAP_CLEAN, NULL) == 0);
	ok(brick_map(s->first, &addrs[Y], 1, BRICK_MAP_WRITE, &s->mine[Y], NULL) == 0);

	guessed(s);
	crowd(s);
	preempted(s);
}

int main(int argc, char **argv)
{
	struct sides s = { 0 };
	struct brick_stat stat;

	if (argc != 2) {
		fprintf(stderr, "usage: %s ENDPOINT\n", argv[0]);
		return 2;
	}
	endpoint = argv[1];
	verbs = strncmp(endpoint, "rdma:", 5) == 0;
	s.one = open_session("one");
	s.other = open_session("other");
	s.first = brick_lane(s.one, 0);
	s.witness = brick_lane(s.other, 0);
	ok(brick_lane_open(s.one, &s.second) == 0);
	ok(brick_alloc(s.first, addrs, BLOCKS, NULL) == 0);
	ok(brick_map(s.first, addrs, Z, BRICK_MAP_WRITE, s.mine, NULL) == 0);
	ok(brick_map(s.witness, addrs, Z, 0, s.theirs, NULL) == 0);
	ok(brick_map(s.witness, &addrs[Z], 1, BRICK_MAP_WRITE, &s.theirs[Z], NULL) == 0);
	for (int i = 0; i < BLOCKS; i++) {
		uint32_t *words;

		was[i] = malloc(BLOCK);
		ok(was[i]);
		words = (uint32_t *)(void *)was[i];
		for (uint32_t j = 0; j < BLOCK / 4; j++)
			words[j] = (j * 2654435761u) ^ (uint32_t)i;
		ok(brick_write(i == Z ? s.witness : s.first, i == Z ? &s.theirs[i] : &s.mine[i], 0, was[i], BLOCK) == 0);
	}
	look(&s, 0, BLOCK);
	table(&s);
	look(&s, 0, BLOCK);
	name = "end";
	ok(brick_stat(s.first, &stat) == 0);
	ok(stat.sessions == 2 && stat.maps == 5);
	ok(brick_unmap(s.first, addrs, Z, 0, NULL) == 0);
	ok(brick_unmap(s.witness, addrs, BLOCKS, 0, NULL) == 0);
	ok(brick_free(s.witness, addrs, BLOCKS, NULL) == 0);
	ok(brick_stat(s.first, &stat) == 0);
	ok(stat.maps == 0 && stat.regions == 0);
	brick_close(s.one);
	brick_close(s.other);
	for (int i = 0; i < BLOCKS; i++)
		free(was[i]);
	puts("nothing was changed, and every lane came back");
	return 0;
}
