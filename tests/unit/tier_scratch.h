/* SPDX-License-Identifier: BSD-3-Clause */
/* tier_scratch - a pool with a few blocks of memory before it, for the tests of memory mode. */
#ifndef TESTS_TIER_SCRATCH_H
#define TESTS_TIER_SCRATCH_H

#include "pool_scratch.h"
#include "tier.h"

static struct pool *pool;
static struct tier *tier;

/* 0 or what is wrong; frames 0: direct mode. */
static inline int try_tier(uint32_t frames)
{
	struct tier_config config = {
		.mode = frames ? TIER_MEMORY : TIER_DIRECT,
		.memory = frames * SLOT,
		.folder = scratch,
	};
	int rc = pool_load(&pool, scratch_pool);

	if (rc)
		return rc;
	rc = tier_open_with(&tier, pool, &config);
	if (rc)
		pool_close(pool);
	return rc;
}

static inline void open_tier(uint32_t frames)
{
	ck_assert_int_eq(try_tier(frames), 0);
}

static inline void close_tier(void)
{
	tier_close(tier);
	pool_close(pool);
}

static inline void start(uint32_t slots, uint32_t frames)
{
	scratch_make("/dev/shm");
	ck_assert_int_eq(pool_create(scratch_pool, slots * SLOT), 0);
	open_tier(frames);
}

/* The n-th word of block's bytes, for value. */
static inline uint64_t word_for(uint64_t block, uint64_t value, size_t n)
{
	return (block + 1) * 0x9e3779b97f4a7c15ull + value * 0xff51afd7ed558ccdull + n;
}

static inline void fill_block(void *at, uint64_t block, uint64_t value)
{
	uint64_t *word = at;

	for (size_t n = 0; n < SLOT / 8; n++)
		word[n] = word_for(block, value, n);
}

static inline bool block_is(const void *at, uint64_t block, uint64_t value)
{
	const uint64_t *word = at;

	for (size_t n = 0; n < SLOT / 8; n++)
		if (word[n] != word_for(block, value, n))
			return false;
	return true;
}

/* Block number i in the slot that it returns. */
static inline uint32_t take(uint64_t block)
{
	uint32_t slot;

	ck_assert_int_eq(pool_take(pool, block, &slot), 0);
	ck_assert_int_eq(tier_fresh(tier, slot), 0);
	return slot;
}

static inline void *pin(uint32_t slot, bool write)
{
	struct tier_place place;

	ck_assert_int_eq(tier_pin(tier, slot, write, &place), 0);
	return place.address;
}

/* Pins, writes all of it, unpins. */
static inline void put(uint32_t slot, uint64_t block, uint64_t value, bool clean)
{
	fill_block(pin(slot, true), block, value);
	tier_unpin(tier, slot, true, clean);
}

static inline void touch(uint32_t slot)
{
	pin(slot, false);
	tier_unpin(tier, slot, false, false);
}

static inline void expect_block(uint32_t slot, uint64_t block, uint64_t value)
{
	ck_assert_msg(block_is(pin(slot, false), block, value), "block %u is not as it was written", (unsigned)block);
	tier_unpin(tier, slot, false, false);
}

static inline struct tier_stat stat_of(void)
{
	struct tier_stat stat;

	tier_stat(tier, &stat);
	return stat;
}

#endif
