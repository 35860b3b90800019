/* SPDX-License-Identifier: BSD-3-Clause */
/* tier: which blocks are unsettled, and what of a lane's writes a persist makes durable, in direct and in fault mode. */
#include <pthread.h>
#include <stdatomic.h>

#include "pool_scratch.h"
#include "tier-track.h"
#include "tier.h"

static struct pool *pool;
static struct tier *tier;
static uint32_t slot;	/* of a live block */
static struct tier_place place;

static void open_tier(enum tier_mode mode)
{
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert_int_eq(tier_open(&tier, pool, mode), 0);
}

static void start(enum tier_mode mode)
{
	scratch_make(scratch_memory);
	ck_assert_int_eq(pool_create(scratch_pool, 4 * SLOT), 0);
	open_tier(mode);
	ck_assert_int_eq(pool_take(pool, 1, &slot), 0);
	ck_assert_int_eq(tier_fresh(tier, slot), 0);
}

static void setup_direct(void)
{
	start(TIER_DIRECT);
}

static void setup_fault(void)
{
	start(TIER_FAULT);
}

static void stop(void)
{
	tier_close(tier);
	pool_close(pool);
}

static void teardown(void)
{
	stop();
	scratch_remove();
}

static uint8_t *in_pool(void)
{
	return pool_address(pool, slot);
}

static void pin(bool write)
{
	ck_assert_int_eq(tier_pin(tier, slot, write, &place), 0);
}

/* As a tcp lane writes: the bytes, then the word about them. */
static void put(struct tier_lane *lane, uint32_t offset, uint32_t length, int byte)
{
	ck_assert_int_eq(pool_fill((uint8_t *)place.address + offset, byte, length), 0);
	ck_assert_int_eq(tier_wrote(lane, slot, offset, length), 0);
}

/* As a free does. */
static void drop(void)
{
	uint32_t memory = tier_drop(tier, slot);

	ck_assert_int_eq(pool_release(pool, slot), 0);
	tier_dropped(tier, slot, memory, true);
}

/* Unsettled: from the end of a writer that is not CLEAN until it is settled; not while a writer is there, not for readers. */
START_TEST(unsettled)
{
	uint32_t memory;

	ck_assert(!tier_unsettled(tier, slot));
	pin(false);
	tier_unpin(tier, slot, false, false);
	ck_assert(!tier_unsettled(tier, slot));

	pin(true);
	ck_assert(!tier_unsettled(tier, slot));
	tier_unpin(tier, slot, true, true);
	ck_assert(!tier_unsettled(tier, slot));

	/* Two writers, one of them not CLEAN, in both orders. */
	for (int first = 0; first < 2; first++) {
		pin(true);
		pin(true);
		tier_unpin(tier, slot, true, first);
		ck_assert(!tier_unsettled(tier, slot));
		tier_unpin(tier, slot, true, !first);
		ck_assert(tier_unsettled(tier, slot));
		/* A writer that is there now hides it; it stays so when that one ends CLEAN. */
		pin(true);
		ck_assert(!tier_unsettled(tier, slot));
		tier_unpin(tier, slot, true, true);
		ck_assert(tier_unsettled(tier, slot));
		ck_assert_int_eq(tier_settle(tier, slot), 0);
		ck_assert(!tier_unsettled(tier, slot));
	}
	/* Settling while a writer has it does not answer for what that writer does later. */
	pin(true);
	tier_unpin(tier, slot, true, false);
	pin(true);
	ck_assert_int_eq(tier_settle(tier, slot), 0);
	tier_unpin(tier, slot, true, false);
	ck_assert(tier_unsettled(tier, slot));

	/* A freed block takes its mark with it. */
	memory = tier_drop(tier, slot);
	ck_assert(!tier_unsettled(tier, slot));
	ck_assert_int_eq(pool_release(pool, slot), 0);
	tier_dropped(tier, slot, memory, true);
	ck_assert_int_eq(pool_take(pool, 2, &slot), 0);
	ck_assert_int_eq(tier_fresh(tier, slot), 0);
	ck_assert(!tier_unsettled(tier, slot));
	pin(true);
	ck_assert(all_bytes(place.address, SLOT, 0));
	tier_unpin(tier, slot, true, true);
	ck_assert_int_eq(tier_pin(tier, 99, false, &place), -EINVAL);
}
END_TEST

/* The descriptor for the local transport shows the same bytes at the place's offset. */
START_TEST(descriptor)
{
	uint8_t byte = 0;

	pin(true);
	ck_assert_uint_le(place.fd_offset + SLOT, tier_fd_size(tier));
	ck_assert_int_eq(pool_fill(place.address, 0x42, SLOT), 0);
	ck_assert_int_eq(pread(tier_fd(tier), &byte, 1, (off_t)(place.fd_offset + SLOT - 1)), 1);
	ck_assert_int_eq(byte, 0x42);
	tier_unpin(tier, slot, true, false);
}
END_TEST

/* Ranges that leave the block are refused, whatever the lane. */
START_TEST(bounds)
{
	struct tier_lane *lane;

	for (int tracked = 0; tracked < 2; tracked++) {
		ck_assert_int_eq(tier_lane_open(tier, tracked, &lane), 0);
		ck_assert_int_eq(tier_wrote(lane, slot, SLOT, 1), -EINVAL);
		ck_assert_int_eq(tier_wrote(lane, slot, 1, UINT32_MAX), -EINVAL);
		ck_assert_int_eq(tier_wrote(lane, 4, 0, 1), -EINVAL);
		ck_assert_int_eq(tier_persist(lane, slot, 0, SLOT + 1), -EINVAL);
		ck_assert_int_eq(tier_persist(lane, slot, UINT32_MAX, 1), -EINVAL);
		ck_assert_int_eq(tier_persist(lane, 4, 0, 1), -EINVAL);
		ck_assert_int_eq(tier_persist(lane, slot, 0, SLOT), 0);
		tier_lane_close(lane);
	}
}
END_TEST

/* Direct mode: the block is the pool's mapping; a failed persist comes through. */
START_TEST(direct_is_the_pool)
{
	struct tier_lane *lane;

	ck_assert_int_eq(tier_mode(tier), TIER_DIRECT);
	pin(true);
	ck_assert_ptr_eq(place.address, in_pool());
	ck_assert_int_eq(tier_lane_open(tier, true, &lane), 0);
	put(lane, 0, 100, 1);
	ck_assert_int_eq(tier_persist(lane, slot, 0, 100), 0);
	pool_test_fail_persist_after(0);
	ck_assert_int_eq(tier_persist(lane, slot, 0, 100), -EIO);
	pool_test_fail_persist_after(-1);
	tier_unpin(tier, slot, true, false);
	ck_assert_int_eq(tier_settle(tier, slot), -EIO);
	ck_assert(tier_unsettled(tier, slot));
	tier_lane_close(lane);
}
END_TEST

/* After an end that was not clean every live block is unsettled, after a clean one none is. */
START_TEST(unsettled_after_a_crash)
{
	uint32_t free_slot = !slot;
	int status;
	pid_t pid;

	stop();
	open_tier(TIER_DIRECT);
	ck_assert(!tier_unsettled(tier, slot));
	stop();
	pid = fork();
	if (!pid) {
		open_tier(TIER_DIRECT);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	open_tier(TIER_DIRECT);
	ck_assert(tier_unsettled(tier, slot));
	ck_assert(!tier_unsettled(tier, free_slot));
	ck_assert_int_eq(tier_settle(tier, slot), 0);
	ck_assert(!tier_unsettled(tier, slot));
}
END_TEST

/* Fault mode: a persist on a lane takes that lane's bytes within the range to the pool, byte for byte, and no others. */
START_TEST(lanes_apart)
{
	struct tier_lane *a, *b;

	ck_assert_int_eq(tier_mode(tier), TIER_FAULT);
	ck_assert_int_eq(tier_lane_open(tier, true, &a), 0);
	ck_assert_int_eq(tier_lane_open(tier, true, &b), 0);
	pin(true);
	ck_assert_ptr_ne(place.address, in_pool());
	put(a, 10, 90, 0xa);
	put(b, 200, 100, 0xb);
	put(a, 1000, 1, 0xa);
	ck_assert(all_bytes(in_pool(), SLOT, 0));

	ck_assert_int_eq(tier_persist(b, slot, 0, 200), 0);
	ck_assert(all_bytes(in_pool(), SLOT, 0));
	ck_assert_int_eq(tier_persist(a, slot, 0, 50), 0);
	ck_assert(all_bytes(in_pool(), 10, 0));
	ck_assert(all_bytes(in_pool() + 10, 40, 0xa));
	ck_assert(all_bytes(in_pool() + 50, SLOT - 50, 0));
	ck_assert_int_eq(tier_persist(a, slot, 0, SLOT), 0);
	ck_assert(all_bytes(in_pool() + 10, 90, 0xa));
	ck_assert(all_bytes(in_pool() + 100, 900, 0));
	ck_assert_int_eq(in_pool()[1000], 0xa);
	ck_assert(all_bytes(in_pool() + 1001, SLOT - 1001, 0));
	ck_assert_int_eq(tier_persist(b, slot, 299, 1), 0);
	ck_assert(all_bytes(in_pool() + 200, 99, 0));
	ck_assert_int_eq(in_pool()[299], 0xb);

	/* What a lane has persisted it need not persist again, and a later write counts anew. */
	put(a, 10, 10, 0xc);
	ck_assert_int_eq(tier_persist(b, slot, 0, SLOT), 0);
	ck_assert(all_bytes(in_pool() + 10, 90, 0xa));
	ck_assert(all_bytes(in_pool() + 200, 100, 0xb));
	ck_assert_int_eq(tier_persist(a, slot, 0, SLOT), 0);
	ck_assert(all_bytes(in_pool() + 10, 10, 0xc));

	/* A lane that ends unpersisted leaves its bytes to the settling of the block. */
	put(b, 5000, 10, 0xd);
	tier_lane_close(b);
	tier_unpin(tier, slot, true, false);
	ck_assert(all_bytes(in_pool() + 5000, 10, 0));
	ck_assert(tier_unsettled(tier, slot));
	ck_assert_int_eq(tier_settle(tier, slot), 0);
	ck_assert(all_bytes(in_pool() + 5000, 10, 0xd));
	tier_lane_close(a);
}
END_TEST

/* Fault mode: a lane whose writes the brick cannot see persists every byte of the range that it names. */
START_TEST(untracked_lane)
{
	struct tier_lane *lane;

	ck_assert_int_eq(tier_lane_open(tier, false, &lane), 0);
	pin(true);
	ck_assert_int_eq(pool_fill(place.address, 0x33, 100), 0);
	ck_assert_int_eq(tier_persist(lane, slot, 20, 30), 0);
	ck_assert(all_bytes(in_pool(), 20, 0));
	ck_assert(all_bytes(in_pool() + 20, 30, 0x33));
	ck_assert(all_bytes(in_pool() + 50, SLOT - 50, 0));
	tier_unpin(tier, slot, true, true);
	tier_lane_close(lane);
}
END_TEST

/* Fault mode: what was written to a freed block reaches neither the pool nor the slot's next block, on any lane. */
START_TEST(dropped_writes)
{
	struct tier_lane *lane;
	uint32_t old = slot, others[3];

	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pool_take(pool, 10 + i, &others[i]), 0);
	ck_assert_int_eq(tier_lane_open(tier, true, &lane), 0);
	pin(true);
	put(lane, 0, 1000, 0x66);
	tier_unpin(tier, slot, true, false);
	drop();
	ck_assert_int_eq(pool_take(pool, 2, &slot), 0);
	ck_assert_uint_eq(slot, old);
	ck_assert_int_eq(tier_fresh(tier, slot), 0);
	pin(true);
	ck_assert(all_bytes(place.address, SLOT, 0));
	/* The new block has other bytes there, of another lane: the old ranges must not carry them along. */
	ck_assert_int_eq(pool_fill(place.address, 0x77, 1000), 0);
	ck_assert_int_eq(tier_persist(lane, slot, 0, SLOT), 0);
	ck_assert(all_bytes(in_pool(), SLOT, 0));
	tier_unpin(tier, slot, true, true);
	tier_lane_close(lane);
}
END_TEST

/* Fault mode: kill -9 discards what was not persisted, and keeps what was; an orderly end keeps all. */
START_TEST(killed)
{
	uint64_t loss = pool_loss_epoch(pool);
	struct tier_lane *lane;
	int status;
	pid_t pid;

	stop();
	pid = fork();
	if (!pid) {
		open_tier(TIER_FAULT);
		pin(true);
		if (tier_lane_open(tier, true, &lane))
			_exit(1);
		put(lane, 0, 100, 1);
		put(lane, 200, 100, 2);
		if (tier_persist(lane, slot, 0, 100))
			_exit(2);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	open_tier(TIER_FAULT);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	ck_assert(!tier_unsettled(tier, slot));
	pin(true);
	ck_assert(all_bytes(place.address, 100, 1));
	ck_assert(all_bytes((uint8_t *)place.address + 100, SLOT - 100, 0));
	ck_assert_int_eq(pool_fill((uint8_t *)place.address + 200, 3, 100), 0);
	tier_unpin(tier, slot, true, false);
	stop();
	open_tier(TIER_FAULT);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	pin(false);
	ck_assert(all_bytes((uint8_t *)place.address + 200, 100, 3));
	tier_unpin(tier, slot, false, false);
}
END_TEST

/* Fault mode: after a failed persist no byte more reaches the pool. */
START_TEST(failed)
{
	struct tier_lane *lane;

	ck_assert_int_eq(tier_lane_open(tier, true, &lane), 0);
	pin(true);
	put(lane, 0, 100, 1);
	pool_test_fail_persist_after(0);
	ck_assert_int_eq(tier_persist(lane, slot, 0, 100), -EIO);
	pool_test_fail_persist_after(-1);
	put(lane, 200, 100, 2);
	ck_assert_int_eq(tier_persist(lane, slot, 200, 100), -EIO);
	tier_unpin(tier, slot, true, false);
	ck_assert_int_eq(tier_settle(tier, slot), -EIO);
	ck_assert(all_bytes(in_pool() + 200, 100, 0));
	tier_lane_close(lane);
}
END_TEST

/*
 * Fault mode in little memory: what is persisted reaches the pool byte for byte as ever; a block that has to leave is
 * written back whole, and a lane's persist that comes after it does no harm.
 */
START_TEST(little_memory)
{
	struct tier_config config = { .mode = TIER_FAULT, .memory = 2 * SLOT };
	struct tier_lane *lane;
	uint32_t others[3];

	stop();
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert_int_eq(tier_open_with(&tier, pool, &config), 0);
	ck_assert_uint_eq(tier_limit(tier), 2);
	ck_assert_int_eq(tier_lane_open(tier, true, &lane), 0);
	pin(true);
	put(lane, 100, 50, 1);
	put(lane, 5000, 50, 2);
	ck_assert_int_eq(tier_persist(lane, slot, 0, 120), 0);
	ck_assert(all_bytes(in_pool(), 100, 0));
	ck_assert(all_bytes(in_pool() + 100, 20, 1));
	ck_assert(all_bytes(in_pool() + 120, SLOT - 120, 0));
	tier_unpin(tier, slot, true, false);
	for (unsigned i = 0; i < 3; i++) {
		struct tier_place other;

		ck_assert_int_eq(pool_take(pool, 10 + i, &others[i]), 0);
		ck_assert_int_eq(tier_fresh(tier, others[i]), 0);
		ck_assert_int_eq(tier_pin(tier, others[i], true, &other), 0);
		ck_assert(all_bytes(other.address, SLOT, 0));
		ck_assert_int_eq(pool_fill(other.address, 0x99, SLOT), 0);
		tier_unpin(tier, others[i], true, false);
	}
	ck_assert(!tier_ready(tier, slot));
	ck_assert(all_bytes(in_pool() + 100, 50, 1));
	ck_assert(all_bytes(in_pool() + 5000, 50, 2));
	ck_assert_int_eq(tier_persist(lane, slot, 0, SLOT), 0);
	pin(false);
	ck_assert(all_bytes((uint8_t *)place.address + 5000, 50, 2));
	tier_unpin(tier, slot, false, false);
	tier_lane_close(lane);
}
END_TEST

static atomic_bool persister_stop;

static void *persister(void *arg)
{
	struct tier_lane *lane;

	if (tier_lane_open(tier, false, &lane))
		return "no lane";
	while (!atomic_load(&persister_stop)) {
		if (tier_persist(lane, slot, 0, SLOT))
			return "a persist failed";
		if (tier_settle(tier, slot))
			return "settling failed";
	}
	tier_lane_close(lane);
	return NULL;
}

/* Fault mode: persists that come while and after a block is freed put no old bytes into the slot's next block. */
START_TEST(persist_against_free)
{
	uint32_t others[3], same;
	/* More than there are processors, so that some lose theirs in the middle of a copy. */
	pthread_t thread[8];
	void *fault;

	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pool_take(pool, 10 + i, &others[i]), 0);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, persister, NULL), 0);
	for (unsigned round = 0; round < 60; round++) {
		pin(true);
		ck_assert_int_eq(pool_fill(place.address, 0x55, SLOT), 0);
		tier_unpin(tier, slot, true, false);
		drop();
		ck_assert_int_eq(pool_take(pool, 100 + round, &same), 0);
		ck_assert_uint_eq(same, slot);
		ck_assert(all_bytes(in_pool(), SLOT, 0));
		ck_assert_int_eq(tier_fresh(tier, slot), 0);
	}
	atomic_store(&persister_stop, true);
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(thread[i], &fault);
		ck_assert_msg(!fault, "%s", (char *)fault);
	}
}
END_TEST

static uint64_t seed;

static uint32_t below(uint32_t limit)
{
	/* Knuth's MMIX constants; the upper bits are the random ones. */
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % limit);
}

#define SPAN 300

/* The ranges of a lane, against one mark for each byte: random writes, takings, and generations. */
START_TEST(track_model)
{
	uint8_t mark[3][SPAN] = { { 0 } };
	uint32_t generation[3] = { 0 };
	struct track track = { 0 };

	seed = (uint64_t)_i;
	for (unsigned step = 0; step < 20000; step++) {
		uint32_t s = below(3), from = below(SPAN), to = from + 1 + below(below(4) ? 8 : SPAN - from);
		struct track_range *ranges;
		size_t n, last = 0;

		to = to > SPAN ? SPAN : to;
		if (!below(200)) {
			generation[s]++;
			memset(mark[s], 0, SPAN);
		}
		if (below(3)) {
			ck_assert_int_eq(track_add(&track, s, generation[s], from, to), 0);
			memset(mark[s] + from, 1, to - from);
			continue;
		}
		ck_assert_int_eq(track_take(&track, s, generation[s], from, to, &ranges, &n), 0);
		for (size_t i = 0; i < n; i++) {
			ck_assert_uint_lt(ranges[i].from, ranges[i].to);
			/* Sorted, inside, and never two that could be one. */
			ck_assert(i ? ranges[i].from > last : ranges[i].from >= from);
			ck_assert_uint_le(ranges[i].to, to);
			last = ranges[i].to;
			for (uint32_t at = ranges[i].from; at < ranges[i].to; at++) {
				ck_assert_uint_eq(mark[s][at], 1);
				mark[s][at] = 0;
			}
		}
		ck_assert(all_bytes(mark[s] + from, to - from, 0));
		free(ranges);
	}
	track_clear(&track);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tier");
	TCase *direct = tcase_create("direct"), *fault = tcase_create("fault"), *track = tcase_create("track");

	tcase_add_checked_fixture(direct, setup_direct, teardown);
	tcase_add_test(direct, unsettled);
	tcase_add_test(direct, descriptor);
	tcase_add_test(direct, bounds);
	tcase_add_test(direct, direct_is_the_pool);
	tcase_add_test(direct, unsettled_after_a_crash);
	suite_add_tcase(suite, direct);
	tcase_add_checked_fixture(fault, setup_fault, teardown);
	tcase_add_test(fault, unsettled);
	tcase_add_test(fault, descriptor);
	tcase_add_test(fault, bounds);
	tcase_add_test(fault, lanes_apart);
	tcase_add_test(fault, untracked_lane);
	tcase_add_test(fault, dropped_writes);
	tcase_add_test(fault, killed);
	tcase_add_test(fault, failed);
	tcase_add_test(fault, little_memory);
	tcase_add_test(fault, persist_against_free);
	suite_add_tcase(suite, fault);
	tcase_add_loop_test(track, track_model, 0, 5);
	suite_add_tcase(suite, track);
	tcase_set_timeout(direct, 120);
	tcase_set_timeout(fault, 120);
	tcase_set_timeout(track, 120);
	return scratch_run(suite);
}
