/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier-internal - what the files of the tier share: the calls and the accounting
 * of unsettled blocks (tier.c), opening and what an earlier brickd left
 * (tier-open.c), blocks in memory (tier-cache.c), over the memory file.
 *
 * One lock, a leaf: nothing is called under it but stores to the memory file's
 * table, and nothing is waited for but the end of copies between memory and pool.
 */
#ifndef TARGET_TIER_INTERNAL_H
#define TARGET_TIER_INTERNAL_H

#include <pthread.h>

#include "tier-memory.h"
#include "tier-track.h"
#include "tier.h"

#define FRAME_NONE UINT32_MAX

/* Of the pool. */
struct slot {
	uint32_t pins, writers;
	/*
	 * A block may hold bytes that are not durable if a writer ended without
	 * CLEAN since it was last settled.  wild counts those ends, so that
	 * settling, which takes time, does not clear what came meanwhile.
	 */
	uint32_t wild, settled;
	uint32_t generation;	/* of the block in the slot: what lanes tracked for an older one is void */
	uint32_t frame;		/* where it is in memory, or FRAME_NONE */
	bool fresh;		/* it reads as zeroes: no need to ask the pool */
};

enum frame_state {
	FRAME_FREE,
	FRAME_FILLING,	/* for a block that is about to be pinned */
	FRAME_HELD,	/* has a block, and the table says so */
	FRAME_DROPPED,	/* its block is being freed */
};

/* Of the memory file. */
struct frame {
	uint32_t slot;
	uint8_t state;
	bool dirty;	/* as the table has it: the pool may lack some bytes */
	bool busy;	/* being written back; one at a time */
	bool listed;	/* HELD, neither pinned nor busy: in the list of its kind */
	uint32_t older, newer;
};

/* Frames that may leave, the least recently used first. */
struct frame_list {
	uint32_t oldest, newest;
};

struct tier {
	struct pool *pool;
	enum tier_mode mode;
	pthread_mutex_t lock;
	struct slot *slots;
	uint32_t count;

	/* All but direct mode. */
	struct memory memory;
	pthread_cond_t changed;	/* a block was filled, a write-back ended, a frame came free */
	struct frame *frames;
	uint32_t *free, free_count;	/* stack */
	struct frame_list clean, dirty;
	uint32_t pinned_n, dirty_n;
	uint64_t fills, write_backs, evictions;
};

struct tier_lane {
	struct tier *tier;
	bool tracked;
	struct track track;
};

/* tier.c */
/* As tier_settle(), of a slot that exists. */
int tier_settle_slot(struct tier *tier, uint32_t slot);

/* tier-open.c */
/* Begins the pool, unless it is begun, and gives the tier its memory if its mode wants any. */
int tier_take_memory(struct tier *tier, const struct tier_config *config);
/* The end: everything in memory is durable in the pool, or could not be made so. */
void tier_leave_memory(struct tier *tier, bool settled);

/* tier-cache.c */
/* Frames for what stands in the memory's table. */
int cache_open(struct tier *tier);
void cache_close(struct tier *tier);
int cache_pin(struct tier *tier, uint32_t slot, bool write, struct tier_place *place);
/* With the lock held, after pins, writers, wild or settled of the slot went. */
void cache_update(struct tier *tier, uint32_t slot);
/* The bytes of the block are in the pool, and durable there; also if it is not in memory. */
int cache_write_back(struct tier *tier, uint32_t slot, uint32_t offset, uint32_t length);
uint32_t cache_drop(struct tier *tier, uint32_t slot);
void cache_dropped(struct tier *tier, uint32_t slot, uint32_t frame, bool released);

#endif
