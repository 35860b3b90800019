/* SPDX-License-Identifier: BSD-3-Clause */
/* tier-track - sets of byte ranges, one for each slot that a lane wrote to. */
#include "tier-track.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void track_clear(struct track *track)
{
	for (size_t i = 0; i < track->count; i++)
		free(track->slot[i].range);
	free(track->slot);
	*track = (struct track){ 0 };
}

/* The first entry at or after slot. */
static size_t find(const struct track *track, uint32_t slot)
{
	size_t low = 0, high = track->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (track->slot[middle].slot < slot)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int grow(struct track_slot *entry, uint32_t needed)
{
	uint32_t room = entry->room ? entry->room * 2 : 4;
	struct track_range *larger;

	if (needed <= entry->room)
		return 0;
	larger = realloc(entry->range, (room < needed ? needed : room) * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	entry->range = larger;
	entry->room = room < needed ? needed : room;
	return 0;
}

/* The entry of the slot, empty if it was of another generation. */
static struct track_slot *entry_of(struct track *track, uint32_t slot, uint32_t generation)
{
	size_t at = find(track, slot);

	if (at == track->count || track->slot[at].slot != slot) {
		if (track->count == track->room) {
			size_t room = track->room ? track->room * 2 : 8;
			struct track_slot *larger = realloc(track->slot, room * sizeof(*larger));

			if (!larger)
				return NULL;
			track->slot = larger;
			track->room = room;
		}
		memmove(track->slot + at + 1, track->slot + at, (track->count - at) * sizeof(*track->slot));
		track->slot[at] = (struct track_slot){ .slot = slot, .generation = generation };
		track->count++;
	}
	if (track->slot[at].generation != generation) {
		track->slot[at].generation = generation;
		track->slot[at].count = 0;
	}
	return &track->slot[at];
}

static void drop_entry(struct track *track, struct track_slot *entry)
{
	size_t at = (size_t)(entry - track->slot);

	free(entry->range);
	track->count--;
	memmove(entry, entry + 1, (track->count - at) * sizeof(*entry));
}

int track_add(struct track *track, uint32_t slot, uint32_t generation, uint32_t from, uint32_t to)
{
	struct track_slot *entry = entry_of(track, slot, generation);
	uint32_t first = 0, last;

	if (!entry || grow(entry, entry->count + 1))
		return -ENOMEM;
	/* [first, last) touch or overlap the new range, and become one with it. */
	while (first < entry->count && entry->range[first].to < from)
		first++;
	for (last = first; last < entry->count && entry->range[last].from <= to; last++) {
		if (entry->range[last].from < from)
			from = entry->range[last].from;
		if (entry->range[last].to > to)
			to = entry->range[last].to;
	}
	memmove(entry->range + first + 1, entry->range + last, (entry->count - last) * sizeof(*entry->range));
	entry->range[first] = (struct track_range){ from, to };
	entry->count = entry->count - (last - first) + 1;
	return 0;
}

int track_take(struct track *track, uint32_t slot, uint32_t generation, uint32_t from, uint32_t to,
	       struct track_range **ranges, size_t *n)
{
	size_t at = find(track, slot);
	struct track_range *taken, *kept;
	struct track_slot *entry;
	uint32_t keep = 0;

	*ranges = NULL;
	*n = 0;
	if (at == track->count || track->slot[at].slot != slot)
		return 0;
	entry = &track->slot[at];
	if (entry->generation != generation) {
		drop_entry(track, entry);
		return 0;
	}
	/* At most one range is cut in two. */
	taken = malloc((entry->count + 1) * sizeof(*taken));
	kept = malloc((entry->count + 1) * sizeof(*kept));
	if (!taken || !kept) {
		free(taken);
		free(kept);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < entry->count; i++) {
		struct track_range r = entry->range[i];

		if (r.to <= from || r.from >= to) {
			kept[keep++] = r;
			continue;
		}
		if (r.from < from)
			kept[keep++] = (struct track_range){ r.from, from };
		if (r.to > to)
			kept[keep++] = (struct track_range){ to, r.to };
		taken[(*n)++] = (struct track_range){ r.from < from ? from : r.from, r.to > to ? to : r.to };
	}
	free(entry->range);
	entry->range = kept;
	entry->room = entry->count + 1;
	entry->count = keep;
	if (!keep)
		drop_entry(track, entry);
	if (*n) {
		*ranges = taken;
	} else {
		free(taken);
	}
	return 0;
}
