/* SPDX-License-Identifier: BSD-3-Clause */
/* mutate - see brickfs/mutate.h. */
#include "mutate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[MUTATIONS] = {
	[MUTATE_NOTHING] = "nothing",
	[MUTATE_DATA_BEHIND_BATCH] = "data-behind-batch",
	[MUTATE_RELEASE_EARLY] = "release-early",
	[MUTATE_DROPS_IGNORED] = "drops-ignored",
	[MUTATE_SHRINK_UNHELD] = "shrink-unheld",
	[MUTATE_GAP_OF_WRITE] = "gap-of-write",
	[MUTATE_GAP_OF_TRUNCATE] = "gap-of-truncate",
	[MUTATE_GAP_OF_FALLOCATE] = "gap-of-fallocate",
	[MUTATE_RUN_UNFILLED] = "run-unfilled",
	[MUTATE_FSYNC_EARLY] = "fsync-early",
	[MUTATE_RENAME_SPLIT] = "rename-split",
	[MUTATE_CHECKPOINT_EARLY] = "checkpoint-early",
	[MUTATE_SUPER_IN_PLACE] = "super-in-place",
	[MUTATE_EPOCH_KEPT] = "epoch-kept",
	[MUTATE_ORPHANS_KEPT] = "orphans-kept",
	[MUTATE_LEAKS_KEPT] = "leaks-kept",
	[MUTATE_NO_LOG_COUNTS] = "no-log-counts",
	[MUTATE_SUPER_UNCHECKED] = "super-unchecked",
	[MUTATE_SEGMENT_UNCHECKED] = "segment-unchecked",
	[MUTATE_BATCH_UNCHECKED] = "batch-unchecked",
};

static enum mutation now = MUTATIONS;	/* not asked for yet */
static unsigned long hits;

static enum mutation of_environment(void)
{
	const char *name = getenv("BRICKFS_MUTATION");
	int m;

	if (!name || !*name)
		return MUTATE_NOTHING;
	for (m = 0; m < MUTATIONS; m++)
		if (!strcmp(names[m], name))
			return (enum mutation)m;
	fprintf(stderr, "BRICKFS_MUTATION=%s: there is no such mutation\n", name);
	exit(2);
}

bool mutated(enum mutation mutation)
{
	if (now == MUTATIONS)
		now = of_environment();
	if (now != mutation)
		return false;
	__atomic_add_fetch(&hits, 1, __ATOMIC_RELAXED);
	return true;
}

void mutate_set(enum mutation mutation)
{
	now = mutation;
	hits = 0;
}

unsigned long mutate_hits(void)
{
	return hits;
}

const char *mutate_name(enum mutation mutation)
{
	return names[mutation];
}
