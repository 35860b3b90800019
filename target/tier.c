/* SPDX-License-Identifier: BSD-3-Clause */
/* tier - the calls, whatever the mode; which blocks are unsettled; and what lanes wrote. */
#include "tier-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PERSIST_PAGE 4096u

static int mark_unsettled(void *arg, uint32_t slot, uint64_t block)
{
	struct tier *tier = arg;

	tier->slots[slot].wild = 1;
	return 0;
}

static void delete(struct tier *tier)
{
	cache_close(tier);
	pthread_cond_destroy(&tier->changed);
	pthread_mutex_destroy(&tier->lock);
	free(tier->slots);
	free(tier);
}

int tier_open_with(struct tier **result, struct pool *pool, const struct tier_config *config)
{
	struct tier *tier;
	int rc;

	tier = calloc(1, sizeof(*tier));
	if (!tier)
		return -ENOMEM;
	tier->pool = pool;
	tier->mode = config->mode;
	tier->memory = MEMORY_NONE;
	tier->count = pool_slots(pool);
	pthread_mutex_init(&tier->lock, NULL);
	pthread_cond_init(&tier->changed, NULL);
	tier->slots = calloc(tier->count, sizeof(*tier->slots));
	rc = tier->slots ? 0 : -ENOMEM;
	for (uint32_t slot = 0; slot < tier->count && !rc; slot++)
		tier->slots[slot].frame = FRAME_NONE;
	if (!rc)
		rc = tier_take_memory(tier, config);
	if (!rc && tier->mode == TIER_DIRECT && pool_unclean(pool))
		rc = pool_each(pool, mark_unsettled, tier);
	if (rc) {
		tier_leave_memory(tier, false);
		delete(tier);
		return rc;
	}
	*result = tier;
	return 0;
}

int tier_open(struct tier **tier, struct pool *pool, enum tier_mode mode)
{
	struct tier_config config = { .mode = mode };

	return tier_open_with(tier, pool, &config);
}

void tier_close(struct tier *tier)
{
	bool settled = true;

	if (!tier)
		return;
	for (uint32_t slot = 0; slot < tier->count && settled; slot++) {
		/* Writers are gone by now; one that is not did not end CLEAN. */
		if (tier->slots[slot].writers)
			tier->slots[slot].wild++;
		/* After a failure the pool has said so, and will not record a clean end. */
		settled = !tier_settle(tier, slot);
	}
	tier_leave_memory(tier, settled);
	delete(tier);
}

enum tier_mode tier_mode(const struct tier *tier)
{
	return tier->mode;
}

uint32_t tier_limit(const struct tier *tier)
{
	return tier->mode == TIER_DIRECT || tier->memory.frames >= tier->count ? UINT32_MAX : tier->memory.frames;
}

int tier_fd(const struct tier *tier)
{
	return tier->mode == TIER_DIRECT ? pool_fd(tier->pool) : tier->memory.fd;
}

uint64_t tier_fd_size(const struct tier *tier)
{
	return tier->mode == TIER_DIRECT ? pool_file_size(tier->pool) : tier->memory.size;
}

void tier_stat(struct tier *tier, struct tier_stat *stat)
{
	*stat = (struct tier_stat){ 0 };
	if (tier->mode == TIER_DIRECT)
		return;
	pthread_mutex_lock(&tier->lock);
	stat->memory = tier->memory.frames;
	stat->used = tier->memory.frames - tier->free_count;
	stat->pinned = tier->pinned_n;
	stat->dirty = tier->dirty_n;
	stat->fills = tier->fills;
	stat->write_backs = tier->write_backs;
	stat->evictions = tier->evictions;
	pthread_mutex_unlock(&tier->lock);
}

int tier_pin(struct tier *tier, uint32_t slot, bool write, struct tier_place *place)
{
	if (slot >= tier->count)
		return -EINVAL;
	if (tier->mode != TIER_DIRECT)
		return cache_pin(tier, slot, write, place);
	place->address = pool_address(tier->pool, slot);
	place->fd_offset = pool_offset(tier->pool, slot);
	pthread_mutex_lock(&tier->lock);
	tier->slots[slot].pins++;
	tier->slots[slot].writers += write;
	pthread_mutex_unlock(&tier->lock);
	return 0;
}

void tier_unpin(struct tier *tier, uint32_t slot, bool write, bool clean)
{
	struct slot *s = &tier->slots[slot];

	pthread_mutex_lock(&tier->lock);
	if (!s->pins || (write && !s->writers))
		abort();	/* more unpins than pins: the session's count of its maps is broken */
	s->pins--;
	if (write) {
		s->writers--;
		s->wild += !clean;
	}
	if (tier->mode != TIER_DIRECT) {
		tier->pinned_n -= !s->pins;
		cache_update(tier, slot);
	}
	pthread_mutex_unlock(&tier->lock);
}

bool tier_ready(struct tier *tier, uint32_t slot)
{
	bool ready;
	uint32_t f;

	if (tier->mode == TIER_DIRECT)
		return true;
	pthread_mutex_lock(&tier->lock);
	f = tier->slots[slot].frame;
	ready = f != FRAME_NONE && tier->frames[f].state == FRAME_HELD;
	pthread_mutex_unlock(&tier->lock);
	return ready;
}

bool tier_unsettled(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];
	bool unsettled;

	pthread_mutex_lock(&tier->lock);
	unsettled = s->wild != s->settled && !s->writers;
	pthread_mutex_unlock(&tier->lock);
	return unsettled;
}

/* The bytes are in the pool, and durable there. */
static int persist(struct tier *tier, uint32_t slot, uint32_t offset, uint32_t length)
{
	if (tier->mode == TIER_DIRECT)
		return pool_persist(tier->pool, slot, offset, length);
	return cache_write_back(tier, slot, offset, length);
}

int tier_settle_slot(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];
	uint32_t wild;
	bool settled;
	int rc;

	pthread_mutex_lock(&tier->lock);
	wild = s->wild;
	settled = wild == s->settled;
	pthread_mutex_unlock(&tier->lock);
	if (settled)
		return 0;
	rc = persist(tier, slot, 0, POOL_SLOT_SIZE);
	if (rc)
		return rc;
	pthread_mutex_lock(&tier->lock);
	/* Another one, or tier_drop(), may have come further meanwhile. */
	if ((int32_t)(wild - s->settled) > 0)
		s->settled = wild;
	if (tier->mode != TIER_DIRECT)
		cache_update(tier, slot);
	pthread_mutex_unlock(&tier->lock);
	return 0;
}

int tier_settle(struct tier *tier, uint32_t slot)
{
	return slot < tier->count ? tier_settle_slot(tier, slot) : -EINVAL;
}

int tier_fresh(struct tier *tier, uint32_t slot)
{
	if (slot >= tier->count)
		return -EINVAL;
	/* The pool's slot is zeroes already, and no memory has it. */
	pthread_mutex_lock(&tier->lock);
	tier->slots[slot].settled = tier->slots[slot].wild;
	tier->slots[slot].fresh = true;
	pthread_mutex_unlock(&tier->lock);
	return 0;
}

uint32_t tier_drop(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];

	if (tier->mode != TIER_DIRECT)
		return cache_drop(tier, slot);
	pthread_mutex_lock(&tier->lock);
	s->settled = s->wild;
	pthread_mutex_unlock(&tier->lock);
	return FRAME_NONE;
}

void tier_dropped(struct tier *tier, uint32_t slot, uint32_t memory, bool released)
{
	if (tier->mode != TIER_DIRECT)
		cache_dropped(tier, slot, memory, released);
}

int tier_lane_open(struct tier *tier, bool tracked, struct tier_lane **result)
{
	struct tier_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		return -ENOMEM;
	lane->tier = tier;
	lane->tracked = tracked;
	*result = lane;
	return 0;
}

void tier_lane_close(struct tier_lane *lane)
{
	if (!lane)
		return;
	track_clear(&lane->track);
	free(lane);
}

static bool in_slot(const struct tier *tier, uint32_t slot, uint32_t offset, uint32_t length)
{
	return slot < tier->count && offset <= POOL_SLOT_SIZE && length <= POOL_SLOT_SIZE - offset;
}

int tier_wrote(struct tier_lane *lane, uint32_t slot, uint32_t offset, uint32_t length)
{
	struct tier *tier = lane->tier;

	if (!in_slot(tier, slot, offset, length))
		return -EINVAL;
	/* But in fault mode a persist covers whatever lies in its range: nothing to keep. */
	if (tier->mode != TIER_FAULT || !lane->tracked || !length)
		return 0;
	return track_add(&lane->track, slot, __atomic_load_n(&tier->slots[slot].generation, __ATOMIC_ACQUIRE), offset,
			 offset + length);
}

int tier_persist(struct tier_lane *lane, uint32_t slot, uint32_t offset, uint32_t length)
{
	struct tier *tier = lane->tier;
	struct track_range *ranges;
	size_t n;
	int rc;

	if (!in_slot(tier, slot, offset, length))
		return -EINVAL;
	if (tier->mode == TIER_MEMORY) {
		/* Whole pages: a device writes no less. */
		uint32_t end = (offset + length + PERSIST_PAGE - 1) & ~(PERSIST_PAGE - 1);

		offset &= ~(PERSIST_PAGE - 1);
		length = end - offset;
	}
	if (tier->mode != TIER_FAULT || !lane->tracked)
		return persist(tier, slot, offset, length);
	if (pool_failed(tier->pool))
		return -EIO;
	rc = track_take(&lane->track, slot, __atomic_load_n(&tier->slots[slot].generation, __ATOMIC_ACQUIRE), offset,
			offset + length, &ranges, &n);
	for (size_t i = 0; i < n && !rc; i++)
		rc = persist(tier, slot, ranges[i].from, ranges[i].to - ranges[i].from);
	free(ranges);
	return rc;
}
