/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier - where a block's bytes are reached: the seam between the sessions and
 * the pool.
 *
 * In *direct* mode a pinned block is the pool's own mapping.  In *fault* mode
 * (tests) every block lives in memory of this process alone, and only what is
 * persisted reaches the pool: kill -9 discards the rest, as a power cut would.
 * A later *cached* mode keeps a bounded number of blocks in memory over a larger
 * pool; callers see no difference but the time that pin takes.
 *
 * Writes are tracked for each lane.  A persist on a lane covers only what that
 * lane wrote before it (tcp); a lane whose writes the brick cannot see (local,
 * verbs) persists every byte of the ranges that it names.
 *
 * A block is *unsettled* once it was pinned for writing and until every writer
 * ended CLEAN or tier_settle() persisted it whole: what can be read after a map
 * is durable.  After a start that followed no clean end, every live block
 * of the pool counts as unsettled (direct mode; in fault mode there is nothing left to settle).
 *
 * Threads: any.  Nothing here is called with the brick's lock held, except
 * where it says so; all of it may block on the store.
 */
#ifndef TARGET_TIER_H
#define TARGET_TIER_H

#include "pool.h"

struct tier;
struct tier_lane;	/* what one lane wrote and has not persisted; one thread at a time */

enum tier_mode { TIER_DIRECT, TIER_FAULT };

struct tier_place {
	void *address;		/* of the block in this process */
	uint64_t fd_offset;	/* of the block in tier_fd(), for the local transport */
};

int tier_open(struct tier **tier, struct pool *pool, enum tier_mode mode);
/* Persists every unsettled block in direct mode; in fault mode too (an orderly end loses nothing). */
void tier_close(struct tier *tier);
enum tier_mode tier_mode(const struct tier *tier);
/* Descriptor of the memory that blocks are in, for the local transport; the tier's own, not to be closed. */
int tier_fd(const struct tier *tier);
uint64_t tier_fd_size(const struct tier *tier);

/* Brings the block to memory and keeps it there. -ENOMEM, -EIO. */
int tier_pin(struct tier *tier, uint32_t slot, bool write, struct tier_place *place);
/* Counterpart of each tier_pin(). clean: a writer promises that all it wrote is persisted. */
void tier_unpin(struct tier *tier, uint32_t slot, bool write, bool clean);
/* True if the block may hold bytes that are not durable and no writer has it pinned. Cheap; any lock may be held. */
bool tier_unsettled(struct tier *tier, uint32_t slot);
/* Persists the whole block if it is unsettled. */
int tier_settle(struct tier *tier, uint32_t slot);

/* The slot was taken for a new block: it reads as zeroes and is settled. */
int tier_fresh(struct tier *tier, uint32_t slot);
/*
 * The slot's block is being freed, and nobody has it pinned: forget what was written to it, on every lane.  Before
 * pool_release().  A persist or a settling that comes late, from a session that had it, does no harm.
 */
void tier_drop(struct tier *tier, uint32_t slot);

/* tracked: the brick carries this lane's writes itself and reports each with tier_wrote(). */
int tier_lane_open(struct tier *tier, bool tracked, struct tier_lane **lane);
void tier_lane_close(struct tier_lane *lane);	/* its blocks stay unsettled */
int tier_wrote(struct tier_lane *lane, uint32_t slot, uint32_t offset, uint32_t length);
/* Durable when it returns 0: in fault mode exactly what the lane wrote within the range (untracked: the whole range), else at least that. */
int tier_persist(struct tier_lane *lane, uint32_t slot, uint32_t offset, uint32_t length);

#endif
