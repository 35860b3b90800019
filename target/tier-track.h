/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier-track - the bytes that one lane wrote and has not persisted: for each
 * slot a sorted list of ranges that neither touch nor overlap.
 *
 * A slot's ranges belong to one generation of the slot.  When its block was
 * freed the generation is another, and what was written before is forgotten at
 * the next touch.  No locks: a lane is one thread's at a time.
 */
#ifndef TARGET_TIER_TRACK_H
#define TARGET_TIER_TRACK_H

#include <stddef.h>
#include <stdint.h>

struct track_range {
	uint32_t from, to;	/* bytes in the slot, [from, to) */
};

struct track_slot {
	uint32_t slot;
	uint32_t generation;
	uint32_t count, room;
	struct track_range *range;
};

struct track {
	struct track_slot *slot;	/* sorted */
	size_t count, room;
};

/* All zeroes is an empty track. */
void track_clear(struct track *track);
int track_add(struct track *track, uint32_t slot, uint32_t generation, uint32_t from, uint32_t to);	/* -ENOMEM */
/*
 * Takes what was written within [from, to) out of the track.  *ranges is malloc'd, sorted, NULL when *n is 0.
 * -ENOMEM: nothing was taken.
 */
int track_take(struct track *track, uint32_t slot, uint32_t generation, uint32_t from, uint32_t to,
	       struct track_range **ranges, size_t *n);

#endif
