/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-ranges - what was written in which block: one range for each, sorted by block.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "volume-internal.h"

static size_t position(const struct vol_ranges *ranges, uint64_t block)
{
	size_t low = 0, high = ranges->n;

	/* The last one is asked for most often. */
	if (high && ranges->range[high - 1].block < block)
		return high;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (ranges->range[mid].block < block)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int vol_ranges_reserve(struct vol_ranges *ranges, size_t more)
{
	size_t room = ranges->room ? ranges->room : 16;
	struct vol_range *range;

	while (room < ranges->n + more)
		room *= 2;
	if (room == ranges->room)
		return 0;
	range = realloc(ranges->range, room * sizeof(*range));
	if (!range)
		return -ENOMEM;
	ranges->range = range;
	ranges->room = room;
	return 0;
}

int vol_ranges_add(struct vol_ranges *ranges, uint64_t block, uint32_t low, uint32_t high)
{
	size_t i = position(ranges, block);

	if (i < ranges->n && ranges->range[i].block == block) {
		struct vol_range *r = &ranges->range[i];

		if (low < r->low)
			r->low = low;
		if (high > r->high)
			r->high = high;
		return 0;
	}
	if (vol_ranges_reserve(ranges, 1))
		return -ENOMEM;
	memmove(&ranges->range[i + 1], &ranges->range[i], (ranges->n - i) * sizeof(*ranges->range));
	ranges->range[i] = (struct vol_range){ .block = block, .low = low, .high = high };
	ranges->n++;
	return 0;
}

bool vol_ranges_has(const struct vol_ranges *ranges, uint64_t block)
{
	size_t i = position(ranges, block);

	return i < ranges->n && ranges->range[i].block == block;
}

bool vol_ranges_remove(struct vol_ranges *ranges, uint64_t block)
{
	size_t i = position(ranges, block);

	if (i == ranges->n || ranges->range[i].block != block)
		return false;
	memmove(&ranges->range[i], &ranges->range[i + 1], (ranges->n - i - 1) * sizeof(*ranges->range));
	ranges->n--;
	return true;
}

void vol_ranges_free(struct vol_ranges *ranges)
{
	free(ranges->range);
	*ranges = (struct vol_ranges){ 0 };
}
