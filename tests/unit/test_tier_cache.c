/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: blocks in memory over a larger pool: what is filled, which one leaves, what is written back, that pinned ones
 * stay, that a store that fails loses nothing, and all of it with threads.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tier_scratch.h"

#define SLOTS  24
#define FRAMES 8

static uint32_t slot[SLOTS];

static void setup(void)
{
	start(SLOTS, FRAMES);
	for (uint32_t i = 0; i < SLOTS; i++)
		slot[i] = take(i);
}

static void teardown(void)
{
	close_tier();
	scratch_remove();
}

static uint8_t *in_pool(uint32_t i)
{
	return pool_address(pool, slot[i]);
}

/* Three times as many blocks as fit are written and read: none loses or mixes up a byte, and what left is in the pool. */
START_TEST(more_than_fits)
{
	struct tier_stat stat;

	ck_assert_int_eq(tier_mode(tier), TIER_MEMORY);
	ck_assert_uint_eq(tier_limit(tier), FRAMES);
	for (uint32_t i = 0; i < SLOTS; i++)
		put(slot[i], i, 1, false);
	stat = stat_of();
	ck_assert_uint_eq(stat.memory, FRAMES);
	ck_assert_uint_eq(stat.used, FRAMES);
	ck_assert_uint_eq(stat.dirty, FRAMES);
	ck_assert_uint_eq(stat.pinned, 0);
	ck_assert_uint_eq(stat.fills, 0); /* new blocks are not read */
	ck_assert_uint_eq(stat.evictions, SLOTS - FRAMES);
	ck_assert_uint_eq(stat.write_backs, SLOTS - FRAMES);
	for (uint32_t i = 0; i < SLOTS; i++)
		expect_block(slot[i], i, 1);
	ck_assert_uint_ge(stat_of().fills, SLOTS - FRAMES);
	for (uint32_t i = 0; i < SLOTS - FRAMES; i++)
		ck_assert(block_is(in_pool(i), i, 1));
	close_tier();
	open_tier(FRAMES);
	for (uint32_t i = 0; i < SLOTS; i++)
		ck_assert(block_is(in_pool(i), i, 1));
}
END_TEST

/* The block that was not used for longest leaves, one that is clean before one that is dirty. */
START_TEST(least_recently_used)
{
	for (uint32_t i = 0; i < FRAMES; i++)
		touch(slot[i]);
	touch(slot[0]);
	touch(slot[8]);
	ck_assert(tier_ready(tier, slot[0]));
	ck_assert(!tier_ready(tier, slot[1]));
	for (uint32_t i = 2; i <= 8; i++)
		ck_assert(tier_ready(tier, slot[i]));
	/* 2 is the next, but it is dirty now; then 3 is. */
	put(slot[2], 2, 1, false);
	for (uint32_t i = 3; i <= 8; i++)
		touch(slot[i]);
	touch(slot[0]);
	touch(slot[9]);
	ck_assert(tier_ready(tier, slot[2]));
	ck_assert(!tier_ready(tier, slot[3]));
	ck_assert_uint_eq(stat_of().write_backs, 0);
	/* When all are dirty, the oldest of them is written back. */
	for (uint32_t i = 10; i < 10 + FRAMES - 1; i++)
		put(slot[i], i, 1, false);
	put(slot[17], 17, 1, false);
	ck_assert(!tier_ready(tier, slot[2]));
	ck_assert(tier_ready(tier, slot[10]));
	ck_assert_uint_eq(stat_of().write_backs, 1);
	ck_assert(block_is(in_pool(2), 2, 1));
}
END_TEST

/* What is pinned stays where it is; when all is pinned there is no room, but alloc needs none. */
START_TEST(pinned)
{
	struct tier_place place;
	void *at[FRAMES];
	uint32_t extra;

	ck_assert_int_eq(pool_release(pool, slot[23]), 0);
	for (uint32_t i = 0; i < FRAMES; i++)
		fill_block(at[i] = pin(slot[i], true), i, 5);
	ck_assert_uint_eq(stat_of().pinned, FRAMES);
	ck_assert_int_eq(tier_pin(tier, slot[8], false, &place), -ENOMEM);
	extra = take(99);
	ck_assert_int_eq(tier_pin(tier, slot[9], true, &place), -ENOMEM);
	tier_unpin(tier, slot[3], true, false);
	for (uint32_t i = 8; i < 20; i++)
		touch(slot[i]);
	ck_assert_int_eq(tier_pin(tier, extra, true, &place), 0);
	ck_assert(all_bytes(place.address, SLOT, 0));
	ck_assert_int_eq(tier_pin(tier, slot[3], false, &place), -ENOMEM);
	tier_unpin(tier, extra, true, true);
	for (uint32_t i = 0; i < FRAMES; i++) {
		if (i == 3)
			continue;
		ck_assert_ptr_eq(pin(slot[i], false), at[i]);
		ck_assert(block_is(at[i], i, 5));
		tier_unpin(tier, slot[i], false, false);
		tier_unpin(tier, slot[i], true, false);
	}
	expect_block(slot[3], 3, 5);
	ck_assert_uint_eq(stat_of().pinned, 0);
}
END_TEST

static uint64_t persisted_bytes;

static void count_persist(void *arg, const uint8_t *base, uint64_t offset, uint64_t length, bool done)
{
	if (done)
		persisted_bytes += length;
}

/* persist takes the pages that it names to the pool and no others; a block whose writers all ended CLEAN is not written back. */
START_TEST(persist_and_clean)
{
	struct tier_lane *lane;
	uint8_t *at;

	close_tier();
	pool_test_watch_persists(count_persist, NULL);
	open_tier(FRAMES);
	ck_assert_int_eq(tier_lane_open(tier, true, &lane), 0);
	at = pin(slot[0], true);
	ck_assert_uint_eq(stat_of().dirty, 1);
	memset(at, 7, SLOT);
	ck_assert_int_eq(tier_wrote(lane, slot[0], 0, SLOT), 0);
	persisted_bytes = 0;
	ck_assert_int_eq(tier_persist(lane, slot[0], 4096 + 10, 4096), 0);
	ck_assert_uint_eq(persisted_bytes, 8192);
	ck_assert(all_bytes(in_pool(0), 4096, 0));
	ck_assert(all_bytes(in_pool(0) + 4096, 8192, 7));
	ck_assert(all_bytes(in_pool(0) + 4096 * 3, SLOT - 4096 * 3, 0));
	tier_unpin(tier, slot[0], true, true);
	ck_assert_uint_eq(stat_of().dirty, 0);
	ck_assert(!tier_unsettled(tier, slot[0]));
	for (uint32_t i = 1; i <= FRAMES; i++)
		touch(slot[i]);
	ck_assert(!tier_ready(tier, slot[0]));
	ck_assert_uint_eq(stat_of().write_backs, 0);

	/* One of two writers not CLEAN: all of the block goes back. */
	at = pin(slot[0], true);
	pin(slot[0], true);
	memset(at, 9, SLOT);
	tier_unpin(tier, slot[0], true, true);
	tier_unpin(tier, slot[0], true, false);
	ck_assert(tier_unsettled(tier, slot[0]));
	persisted_bytes = 0;
	ck_assert_int_eq(tier_settle(tier, slot[0]), 0);
	ck_assert_uint_eq(persisted_bytes, SLOT);
	ck_assert(all_bytes(in_pool(0), SLOT, 9));
	ck_assert_uint_eq(stat_of().dirty, 0);

	/* A persist of a block that nobody has mapped any more, in memory and evicted. */
	put(slot[0], 0, 3, false);
	ck_assert_int_eq(tier_persist(lane, slot[0], 0, 100), 0);
	ck_assert_uint_eq(*(uint64_t *)(void *)in_pool(0), word_for(0, 3, 0));
	for (uint32_t i = 1; i <= FRAMES; i++)
		put(slot[i], i, 1, false);
	ck_assert(!tier_ready(tier, slot[0]));
	persisted_bytes = 0;
	ck_assert_int_eq(tier_persist(lane, slot[0], 0, SLOT), 0);
	ck_assert_uint_eq(persisted_bytes, 0);
	ck_assert(block_is(in_pool(0), 0, 3));
	tier_lane_close(lane);
	close_tier();
	pool_test_watch_persists(NULL, NULL);
	open_tier(FRAMES);
}
END_TEST

/* A block that is freed leaves nothing: the next one in its slot reads as zeroes, and its memory is free. */
START_TEST(freed)
{
	for (unsigned round = 0; round < 3 * FRAMES; round++) {
		uint32_t memory, old = slot[0];
		uint8_t *at;

		put(slot[0], 0, round, false);
		memory = tier_drop(tier, slot[0]);
		ck_assert_uint_ne(memory, UINT32_MAX);
		ck_assert_int_eq(pool_release(pool, slot[0]), 0);
		tier_dropped(tier, slot[0], memory, true);
		ck_assert_uint_eq(stat_of().used, 0);
		slot[0] = take(100 + round);
		ck_assert_uint_eq(slot[0], old);
		at = pin(slot[0], false);
		ck_assert(all_bytes(at, SLOT, 0));
		tier_unpin(tier, slot[0], false, false);
	}
	/* A free that failed leaves the block as it was. */
	put(slot[1], 1, 77, false);
	pool_test_fail_persist_after(0);
	tier_dropped(tier, slot[1], tier_drop(tier, slot[1]), pool_release(pool, slot[1]) == 0);
	pool_test_fail_persist_after(-1);
	expect_block(slot[1], 1, 77);
	ck_assert(tier_unsettled(tier, slot[1]));
}
END_TEST

/*
 * A write-back that fails is an error to who needed it, latches the pool, and costs no byte: the block stays in memory,
 * and a brickd that is started again has it.
 */
START_TEST(failed_write_back)
{
	struct tier_place place;
	struct tier_lane *lane;

	ck_assert_int_eq(tier_lane_open(tier, true, &lane), 0);
	for (uint32_t i = 0; i < FRAMES; i++)
		put(slot[i], i, 2, false);
	pool_test_fail_persist_after(0);
	ck_assert_int_eq(tier_pin(tier, slot[8], false, &place), -EIO);
	pool_test_fail_persist_after(-1);
	ck_assert(pool_failed(pool));
	ck_assert_int_eq(tier_persist(lane, slot[1], 0, 1), -EIO);
	ck_assert_int_eq(tier_persist(lane, slot[20], 0, 1), -EIO);
	ck_assert_int_eq(tier_settle(tier, slot[2]), -EIO);
	ck_assert_int_eq(tier_pin(tier, slot[9], false, &place), -EIO);
	ck_assert_int_eq(pool_release(pool, slot[20]), -EIO);
	ck_assert_uint_eq(stat_of().dirty, FRAMES);
	for (uint32_t i = 0; i < FRAMES; i++)
		expect_block(slot[i], i, 2);
	tier_lane_close(lane);
	close_tier();
	open_tier(FRAMES);
	ck_assert_uint_eq(stat_of().dirty, FRAMES);
	for (uint32_t i = 0; i < FRAMES; i++) {
		expect_block(slot[i], i, 2);
		ck_assert_int_eq(tier_settle(tier, slot[i]), 0);
		ck_assert(block_is(in_pool(i), i, 2));
	}
}
END_TEST

#define THREADS 4

struct worker {
	pthread_t thread;
	uint32_t number;
	uint64_t value[SLOTS]; /* of its own blocks */
	uint64_t seed;
	const char *fault;
};

static uint32_t below(struct worker *w, uint32_t limit)
{
	/* Knuth's MMIX constants; the upper bits are the random ones. */
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((w->seed >> 33) % limit);
}

/* The few words that are looked at; they lie on pages of their own. */
#define PROBES	 16
#define probe(n) ((n) * (SLOT / PROBES / 8) + (n))

static const char *work_on(struct worker *w, struct tier_lane *lane, uint32_t i, uint64_t step)
{
	struct tier_place place;
	uint64_t *word;
	int rc = tier_pin(tier, slot[i], true, &place);

	if (rc)
		return rc == -ENOMEM ? NULL : "a pin failed";
	word = place.address;
	for (size_t n = 0; n < PROBES; n++)
		if (word[probe(n)] != (w->value[i] ? word_for(i, w->value[i], n) : 0))
			return "a block is not as it was left";
	w->value[i] = step;
	for (size_t n = 0; n < PROBES; n++)
		word[probe(n)] = word_for(i, step, n);
	if (below(w, 3)) {
		/* In two pieces, as a client that has two lanes. */
		if (tier_persist(lane, slot[i], 0, SLOT / 2) || tier_persist(lane, slot[i], SLOT / 2, SLOT / 2))
			return "a persist failed";
		tier_unpin(tier, slot[i], true, true);
	} else {
		tier_unpin(tier, slot[i], true, false);
		if (!below(w, 3) && tier_settle(tier, slot[i]))
			return "settling failed";
	}
	if (!below(w, 8)) {
		uint32_t memory = tier_drop(tier, slot[i]);

		rc = pool_release(pool, slot[i]);
		tier_dropped(tier, slot[i], memory, !rc);
		if (rc || pool_take(pool, i, &slot[i]) || tier_fresh(tier, slot[i]))
			return "free or alloc failed";
		w->value[i] = 0;
	}
	return NULL;
}

static void *worker(void *arg)
{
	struct worker *w = arg;
	struct tier_lane *lane;

	if (tier_lane_open(tier, true, &lane))
		return NULL;
	for (uint64_t step = 1; step <= 300 && !w->fault; step++)
		w->fault = work_on(w, lane, below(w, SLOTS / THREADS) * THREADS + w->number, step);
	tier_lane_close(lane);
	return NULL;
}

static atomic_bool meddler_stop;

/* Persists and settles blocks that others write, free and allocate. */
static void *meddler(void *arg)
{
	struct worker *w = arg;
	struct tier_lane *lane;

	if (tier_lane_open(tier, false, &lane))
		return NULL;
	while (!atomic_load(&meddler_stop) && !w->fault) {
		uint32_t s = below(w, SLOTS);

		if (tier_persist(lane, s, 0, SLOT) || tier_settle(tier, s))
			w->fault = "a late persist failed";
	}
	tier_lane_close(lane);
	return NULL;
}

/* Threads that fill, write, persist, settle, free and allocate at once, in little memory: each block is as its owner left it. */
START_TEST(threads)
{
	struct worker w[THREADS + 1] = {0};

	for (uint32_t i = 0; i <= THREADS; i++) {
		w[i].number = i;
		w[i].seed = (uint64_t)_i * 100 + i;
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, i < THREADS ? worker : meddler, &w[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	atomic_store(&meddler_stop, true);
	pthread_join(w[THREADS].thread, NULL);
	for (uint32_t i = 0; i <= THREADS; i++)
		ck_assert_msg(!w[i].fault, "thread %u: %s", i, w[i].fault);
	ck_assert_uint_eq(stat_of().pinned, 0);
	close_tier();
	open_tier(0);
	for (uint32_t i = 0; i < SLOTS; i++) {
		const uint64_t *word = pin(slot[i], false);

		for (size_t n = 0; n < PROBES; n++)
			ck_assert_uint_eq(word[probe(n)],
					  w[i % THREADS].value[i] ? word_for(i, w[i % THREADS].value[i], n) : 0);
		tier_unpin(tier, slot[i], false, false);
	}
}
END_TEST

/* With as much memory as the pool has blocks nothing is ever evicted, and any number of maps may be had. */
START_TEST(all_fits)
{
	close_tier();
	open_tier(1000);
	ck_assert_uint_eq(tier_limit(tier), UINT32_MAX);
	ck_assert_uint_eq(stat_of().memory, SLOTS);
	for (uint32_t i = 0; i < SLOTS; i++)
		fill_block(pin(slot[i], true), i, 1);
	for (uint32_t i = 0; i < SLOTS; i++)
		tier_unpin(tier, slot[i], true, false);
	ck_assert_uint_eq(stat_of().evictions, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tier_cache");
	TCase *cache = tcase_create("cache");

	tcase_add_checked_fixture(cache, setup, teardown);
	tcase_add_test(cache, more_than_fits);
	tcase_add_test(cache, least_recently_used);
	tcase_add_test(cache, pinned);
	tcase_add_test(cache, persist_and_clean);
	tcase_add_test(cache, freed);
	tcase_add_test(cache, failed_write_back);
	tcase_add_loop_test(cache, threads, 0, 3);
	tcase_add_test(cache, all_fits);
	tcase_set_timeout(cache, 240);
	suite_add_tcase(suite, cache);
	return scratch_run(suite);
}
