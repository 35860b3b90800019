/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier - where a block's bytes are reached: the seam between the sessions and
 * the pool.
 *
 * In *direct* mode a pinned block is the pool's own mapping.  In *memory* mode
 * (cached mode, as people call it) a bounded number of blocks live in a memory
 * file over a larger pool: pin fills, persist writes back, and the least
 * recently used block that nobody has pinned leaves.  *Fault* mode (tests) is
 * memory mode in memory of this process alone, where only what is persisted
 * reaches the pool: kill -9 discards the rest, as a power cut would.  Callers
 * see no difference but the time that pin takes, and that it may find no room.
 *
 * Writes are tracked for each lane in fault mode.  A persist on a lane covers
 * only what that lane wrote before it (tcp); a lane whose writes the brick
 * cannot see (local, verbs) persists every byte of the ranges that it names.
 *
 * A block is *unsettled* once it was pinned for writing and until every writer
 * ended CLEAN or tier_settle() persisted it whole: what can be read after a map
 * is durable.  After a start that followed no clean end, every live block
 * of the pool counts as unsettled in direct mode; in memory mode, those that the
 * memory file has as dirty.
 *
 * Threads: any.  Nothing here is called with the brick's lock held, except
 * where it says so; all of it may block on the store.
 */
#ifndef TARGET_TIER_H
#define TARGET_TIER_H

#include "pool.h"

struct tier;
struct tier_lane;	/* what one lane wrote and has not persisted; one thread at a time */

enum tier_mode { TIER_DIRECT, TIER_MEMORY, TIER_FAULT };

struct tier_config {
	enum tier_mode mode;
	uint64_t memory;	/* bytes of blocks in memory; in fault mode 0: as many as the pool has */
	const char *folder;	/* of the memory file; NULL: a hugetlbfs mount with room, or /dev/shm */
};

struct tier_place {
	void *address;		/* of the block in this process; registrable until it is unpinned */
	uint64_t fd_offset;	/* of the block in tier_fd(), for the local transport */
};

/*
 * pool: as pool_load() gave it; it is begun here.  Memory mode takes up the file that an earlier brickd left when it was
 * killed, or makes one.  Says what is wrong: -EBUSY (another brickd has the file), -EEXIST (direct mode, and such a file
 * has bytes that the pool lacks), -ENOSPC, -ENOTSUP (the folder is not memory), -EINVAL, -EIO, ...
 */
int tier_open_with(struct tier **tier, struct pool *pool, const struct tier_config *config);
/* With no more said than the mode.  The pool may be begun already, except for memory mode. */
int tier_open(struct tier **tier, struct pool *pool, enum tier_mode mode);
/* Persists every unsettled block, in every mode (an orderly end loses nothing); then the memory file goes. */
void tier_close(struct tier *tier);
enum tier_mode tier_mode(const struct tier *tier);
/* How many blocks can be pinned at once: UINT32_MAX when any number of them. */
uint32_t tier_limit(const struct tier *tier);
/* Descriptor of the memory that blocks are in, for the local transport; the tier's own, not to be closed. */
int tier_fd(const struct tier *tier);
uint64_t tier_fd_size(const struct tier *tier);

struct tier_stat {
	uint32_t memory, used, pinned, dirty;	/* blocks; all 0 in direct mode */
	uint64_t fills, write_backs, evictions;	/* blocks, since the start */
};
void tier_stat(struct tier *tier, struct tier_stat *stat);

/*
 * Brings the block to memory and keeps it there.  -ENOMEM: everything in memory is pinned.  -EIO: it cannot be read, or
 * no other block can be written back to make room.  A block that is pinned for writing counts as dirty before this returns.
 */
int tier_pin(struct tier *tier, uint32_t slot, bool write, struct tier_place *place);
/* Counterpart of each tier_pin(). clean: a writer promises that all it wrote is persisted. */
void tier_unpin(struct tier *tier, uint32_t slot, bool write, bool clean);
/* True if a pin would not wait for the store. Any lock may be held. */
bool tier_ready(struct tier *tier, uint32_t slot);
/* True if the block may hold bytes that are not durable and no writer has it pinned. Cheap; any lock may be held. */
bool tier_unsettled(struct tier *tier, uint32_t slot);
/* Persists the whole block if it is unsettled. */
int tier_settle(struct tier *tier, uint32_t slot);

/* The slot was taken for a new block: it reads as zeroes and is settled.  Needs no memory. */
int tier_fresh(struct tier *tier, uint32_t slot);
/*
 * The slot's block is being freed, and nobody has it pinned: forget what was written to it, on every lane.  Before
 * pool_release().  A persist or a settling that comes late, from a session that had it, does no harm.
 *
 * The memory that it returns still has the block, for a brickd that starts after a kill in between and finds it not
 * freed.  It goes to tier_dropped() when pool_release() is done, before the same block may be allocated again.
 */
uint32_t tier_drop(struct tier *tier, uint32_t slot);
/* released: pool_release() returned 0; otherwise the block has its memory back. */
void tier_dropped(struct tier *tier, uint32_t slot, uint32_t memory, bool released);

/* tracked: the brick carries this lane's writes itself and reports each with tier_wrote(). */
int tier_lane_open(struct tier *tier, bool tracked, struct tier_lane **lane);
void tier_lane_close(struct tier_lane *lane);	/* its blocks stay unsettled */
int tier_wrote(struct tier_lane *lane, uint32_t slot, uint32_t offset, uint32_t length);
/* Durable when it returns 0: in fault mode exactly what the lane wrote within the range (untracked: the whole range), else at least that. */
int tier_persist(struct tier_lane *lane, uint32_t slot, uint32_t offset, uint32_t length);

#endif
