/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mutate - faults that can be switched on in the core, to show that the tests would notice them.
 *
 * Only the test build of the core (tests/crash/libmutants.la, with BRICKFS_MUTATIONS) has
 * them; everywhere else MUTATED() is false, and the compiler leaves the rest out.  One fault is on at a
 * time: mutate_set(), or BRICKFS_MUTATION=NAME in the environment of a program that does not call it.
 */
#ifndef BRICKFS_MUTATE_H
#define BRICKFS_MUTATE_H

#include <stdbool.h>

#ifdef BRICKFS_MUTATIONS

enum mutation {
	MUTATE_NOTHING,
	MUTATE_DATA_BEHIND_BATCH,	/* a batch does not wait for the data that it makes reachable (order 1) */
	MUTATE_RELEASE_EARLY,		/* storage is freed before the batch that drops it is durable (order 2) */
	MUTATE_DROPS_IGNORED,		/* writes do not wait for what is being dropped (order 2) */
	MUTATE_SHRINK_UNHELD,		/* a shrink holds nobody until it is durable (order 2) */
	MUTATE_GAP_OF_WRITE,		/* growth does not zero (order 3): by a write, */
	MUTATE_GAP_OF_TRUNCATE,		/* ... by truncation, */
	MUTATE_GAP_OF_FALLOCATE,	/* ... by fallocate */
	MUTATE_RUN_UNFILLED,		/* a new run keeps what its pages held */
	MUTATE_FSYNC_EARLY,		/* fsync does not wait (order 4) */
	MUTATE_RENAME_SPLIT,		/* an operation in two batches */
	MUTATE_CHECKPOINT_EARLY,	/* old segments are freed before the checkpoint counts */
	MUTATE_SUPER_IN_PLACE,		/* the copy of the superblock that counts is written over */
	MUTATE_EPOCH_KEPT,		/* a mount does not raise the epoch (order 6) */
	MUTATE_ORPHANS_KEPT,		/* what was deleted while open stays (order 7) */
	MUTATE_LEAKS_KEPT,		/* leaked blocks stay (order 8) */
	MUTATE_NO_LOG_COUNTS,		/* the segment that a repair left, which was cut off before it counts, is taken for a part of the log */
	MUTATE_SUPER_UNCHECKED,		/* checksums are ignored: of the superblock, */
	MUTATE_SEGMENT_UNCHECKED,	/* ... of a segment's header, */
	MUTATE_BATCH_UNCHECKED,		/* ... of a batch (that of a checkpoint segment is a second one over the same bytes) */
	MUTATIONS
};

bool mutated(enum mutation mutation);	/* is it on? counts */
void mutate_set(enum mutation mutation);
unsigned long mutate_hits(void);	/* how often the one that is on made a difference since it was set */
const char *mutate_name(enum mutation mutation);

#define MUTATED(what) mutated(MUTATE_##what)

#else

#define MUTATED(what) false

#endif

#endif
