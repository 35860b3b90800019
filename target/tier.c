/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier - direct mode, where a block is the pool's own mapping, and fault mode,
 * where it is memory that dies with the process.
 *
 * One lock for the slots' counts and marks, a leaf: nothing is called under it, and
 * nothing is waited for but, in fault mode, the end of copies between memory and pool.
 */
#include "tier.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "report.h"
#include "tier-track.h"

enum content { CONTENT_POOL, CONTENT_LOADING, CONTENT_MEMORY };

struct slot {
	uint32_t pins, writers;
	/*
	 * A block may hold bytes that are not durable if a writer ended without
	 * CLEAN since it was last settled.  wild counts those ends, so that
	 * settling, which takes time, does not clear what came meanwhile.
	 */
	uint32_t wild, settled;
	uint32_t generation;	/* of the block in the slot: what lanes tracked for an older one is void */
	/* Fault mode. */
	uint8_t content;	/* enum content */
	bool dropping;		/* no copy to the pool begins */
	bool copying;		/* to the pool; one at a time */
};

struct tier {
	struct pool *pool;
	enum tier_mode mode;
	pthread_mutex_t lock;
	pthread_cond_t changed;	/* a block was loaded, a copy to the pool ended */
	struct slot *slots;
	uint32_t count;
	int memfd;		/* fault mode: slot i at i * POOL_SLOT_SIZE */
	uint8_t *memory;
	uint64_t memory_size;
};

struct tier_lane {
	struct tier *tier;
	bool tracked;
	struct track track;
};

static int mark_unsettled(void *arg, uint32_t slot, uint64_t block)
{
	struct tier *tier = arg;

	tier->slots[slot].wild = 1;
	return 0;
}

static int open_memory(struct tier *tier)
{
	int rc;

	tier->memory_size = (uint64_t)tier->count * POOL_SLOT_SIZE;
	tier->memfd = memfd_create("brick-fault", MFD_CLOEXEC);
	if (tier->memfd < 0 || ftruncate(tier->memfd, (off_t)tier->memory_size)) {
		rc = -errno;
		goto fail;
	}
	tier->memory = mmap(NULL, tier->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, tier->memfd, 0);
	if (tier->memory == MAP_FAILED) {
		rc = -errno;
		tier->memory = NULL;
		goto fail;
	}
	return 0;
fail:
	report_error("%s: no memory of %llu bytes for fault mode: %s", pool_path(tier->pool),
		     (unsigned long long)tier->memory_size, strerror(-rc));
	return rc;
}

static void delete(struct tier *tier)
{
	if (tier->memory)
		munmap(tier->memory, tier->memory_size);
	if (tier->memfd >= 0)
		close(tier->memfd);
	pthread_cond_destroy(&tier->changed);
	pthread_mutex_destroy(&tier->lock);
	free(tier->slots);
	free(tier);
}

int tier_open(struct tier **result, struct pool *pool, enum tier_mode mode)
{
	struct tier *tier;
	int rc = 0;

	tier = calloc(1, sizeof(*tier));
	if (!tier)
		return -ENOMEM;
	tier->pool = pool;
	tier->mode = mode;
	tier->memfd = -1;
	tier->count = pool_slots(pool);
	pthread_mutex_init(&tier->lock, NULL);
	pthread_cond_init(&tier->changed, NULL);
	tier->slots = calloc(tier->count, sizeof(*tier->slots));
	if (!tier->slots)
		rc = -ENOMEM;
	else if (mode == TIER_FAULT)
		rc = open_memory(tier);
	else if (pool_unclean(pool))
		rc = pool_each(pool, mark_unsettled, tier);
	if (rc) {
		delete(tier);
		return rc;
	}
	*result = tier;
	return 0;
}

void tier_close(struct tier *tier)
{
	if (!tier)
		return;
	for (uint32_t slot = 0; slot < tier->count; slot++) {
		/* Writers are gone by now; one that is not did not end CLEAN. */
		if (tier->slots[slot].writers)
			tier->slots[slot].wild++;
		/* After a failure the pool has said so, and will not record a clean end. */
		if (tier_settle(tier, slot))
			break;
	}
	delete(tier);
}

enum tier_mode tier_mode(const struct tier *tier)
{
	return tier->mode;
}

int tier_fd(const struct tier *tier)
{
	return tier->mode == TIER_FAULT ? tier->memfd : pool_fd(tier->pool);
}

uint64_t tier_fd_size(const struct tier *tier)
{
	return tier->mode == TIER_FAULT ? tier->memory_size : pool_file_size(tier->pool);
}

static uint8_t *memory_of(const struct tier *tier, uint32_t slot)
{
	return tier->memory + (uint64_t)slot * POOL_SLOT_SIZE;
}

/* Fault mode: the block's bytes are in memory when this returns 0; one thread loads, others wait for it. */
static int load(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];
	int rc = 0;

	pthread_mutex_lock(&tier->lock);
	while (s->content == CONTENT_LOADING)
		pthread_cond_wait(&tier->changed, &tier->lock);
	if (s->content == CONTENT_POOL) {
		s->content = CONTENT_LOADING;
		pthread_mutex_unlock(&tier->lock);
		rc = pool_copy(memory_of(tier, slot), pool_address(tier->pool, slot), POOL_SLOT_SIZE);
		pthread_mutex_lock(&tier->lock);
		s->content = rc ? CONTENT_POOL : CONTENT_MEMORY;
		pthread_cond_broadcast(&tier->changed);
	}
	pthread_mutex_unlock(&tier->lock);
	return rc;
}

int tier_pin(struct tier *tier, uint32_t slot, bool write, struct tier_place *place)
{
	int rc;

	if (slot >= tier->count)
		return -EINVAL;
	if (tier->mode == TIER_FAULT) {
		rc = load(tier, slot);
		if (rc)
			return rc;
		place->address = memory_of(tier, slot);
		place->fd_offset = (uint64_t)slot * POOL_SLOT_SIZE;
	} else {
		place->address = pool_address(tier->pool, slot);
		place->fd_offset = pool_offset(tier->pool, slot);
	}
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
	pthread_mutex_unlock(&tier->lock);
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

/*
 * Fault mode: the bytes go from memory to the pool's slot.  Never once its block
 * is on its way out: the slot is zeroed then, and the next block must find zeroes.
 */
static int copy_to_pool(struct tier *tier, uint32_t slot, uint32_t offset, uint32_t length)
{
	struct slot *s = &tier->slots[slot];
	bool dropping;
	int rc;

	if (pool_failed(tier->pool))
		return -EIO;
	pthread_mutex_lock(&tier->lock);
	/* Two at once could leave the older bytes of the two in the pool, with both answered as durable. */
	while (s->copying && !s->dropping)
		pthread_cond_wait(&tier->changed, &tier->lock);
	dropping = s->dropping;
	s->copying |= !dropping;
	pthread_mutex_unlock(&tier->lock);
	if (dropping)
		return 0;
	rc = pool_copy((uint8_t *)pool_address(tier->pool, slot) + offset, memory_of(tier, slot) + offset, length);
	pthread_mutex_lock(&tier->lock);
	s->copying = false;
	pthread_cond_broadcast(&tier->changed);
	pthread_mutex_unlock(&tier->lock);
	return rc;
}

/* The bytes are in the pool, and durable there. */
static int persist(struct tier *tier, uint32_t slot, uint32_t offset, uint32_t length)
{
	int rc = tier->mode == TIER_FAULT ? copy_to_pool(tier, slot, offset, length) : 0;

	return rc ? rc : pool_persist(tier->pool, slot, offset, length);
}

int tier_settle(struct tier *tier, uint32_t slot)
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
	pthread_mutex_unlock(&tier->lock);
	return 0;
}

int tier_fresh(struct tier *tier, uint32_t slot)
{
	if (slot >= tier->count)
		return -EINVAL;
	/* The pool's slot is zeroes already; so is the memory after tier_drop(), and before the first pin. */
	pthread_mutex_lock(&tier->lock);
	tier->slots[slot].settled = tier->slots[slot].wild;
	tier->slots[slot].content = CONTENT_MEMORY;
	pthread_mutex_unlock(&tier->lock);
	return 0;
}

void tier_drop(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];

	/*
	 * Nobody has the block mapped, but a late persist may be at it.  Those that
	 * come after this one find the zeroes of a slot without a block.
	 */
	pthread_mutex_lock(&tier->lock);
	s->dropping = true;
	while (s->copying || s->content == CONTENT_LOADING)
		pthread_cond_wait(&tier->changed, &tier->lock);
	pthread_mutex_unlock(&tier->lock);
	if (tier->mode == TIER_FAULT &&
	    fallocate(tier->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)((uint64_t)slot * POOL_SLOT_SIZE),
		      (off_t)POOL_SLOT_SIZE))
		memset(memory_of(tier, slot), 0, POOL_SLOT_SIZE);
	pthread_mutex_lock(&tier->lock);
	s->settled = s->wild;
	s->content = CONTENT_MEMORY;
	s->dropping = false;
	__atomic_add_fetch(&s->generation, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&tier->lock);
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
	/* In direct mode a persist covers whatever lies in its range: nothing to keep. */
	if (tier->mode == TIER_DIRECT || !lane->tracked || !length)
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
	if (tier->mode == TIER_DIRECT)
		return pool_persist(tier->pool, slot, offset, length);
	/* The block may never have been pinned, and be in the pool alone: then it is durable. */
	rc = load(tier, slot);
	if (rc)
		return rc;
	if (!lane->tracked)
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
