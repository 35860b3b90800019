/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-list - which blocks the bricks say they have, and how much of that is believed.
 *
 * A list is as long as its brick likes, and every block of it takes memory here: of the list itself, of the table of
 * blocks (volume-ids), and of those who compare it with the metadata.  So it ends at the brick's own capacity, and
 * at a share of this host's memory, whatever the brick says of its capacity; and a brick that gives
 * its list away in crumbs is not listened to for ever.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "volume-internal.h"

#define LIST_BATCH 480
#define LIST_ATTEMPTS 16
/* Pages with more to come: so many may be anything, all together have this many extents each. */
#define CRUMBS_FREE 64
#define CRUMBS_LEAST 16
#define MEMORY_SHARE 4		/* of this host's memory, or of what this process may have, one part in so many */

/* What is remembered of a block, at most: here by group, and where it is compared, in a growing array of addresses. */
#define BLOCK_BYTES 16ull
#define EXTENT_BYTES (3 * sizeof(struct backend_extent))	/* an array that doubles, and its place among the groups while they are merged */
#define TWIN_BYTES (2 * sizeof(struct vol_twin))

uint64_t vol_list_budget(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t bytes = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 1ull << 30;
	struct rlimit limit;

	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes)
		bytes = limit.rlim_cur;
	return bytes / MEMORY_SHARE;
}

/* One pass over a brick's list. */
struct listing {
	struct backend_extent *extent;
	size_t n, room;
	uint64_t blocks;
	uint64_t groups;	/* of the table of blocks, at most */
	uint64_t last_group;
	uint64_t pages;		/* that said there were more */
};

static int too_much(struct vol_brick *b, uint64_t blocks)
{
	vol_say(b->vol, "brick %s lists more blocks than this host has memory to keep account of (%" PRIu64 " so far, with a "
		"capacity of %" PRIu64 "; %" PRIu64 " MiB are set aside for that); a host with more memory can list them, if they are there",
		b->endpoint, blocks, b->info.capacity, b->vol->list_budget >> 20);
	return -ENOMEM;
}

static int check_extent(struct vol_brick *b, struct listing *l, const struct backend_extent *e, uint64_t from)
{
	uint64_t most = (0ull - e->start) >> VOL_BLOCK_SHIFT, first, last;

	if (!e->start)
		most = 1ull << (64 - VOL_BLOCK_SHIFT);
	if (e->start < from || e->start & VOL_BLOCK_MASK || !e->count || e->count > most) {
		vol_say(b->vol, "brick %s answers list with nonsense: %" PRIu64 " blocks from 0x%" PRIx64, b->endpoint, e->count, e->start);
		return -EPROTO;
	}
	if (e->count > b->info.capacity - l->blocks) {
		vol_say(b->vol, "brick %s answers list with nonsense: more blocks than its capacity of %" PRIu64 " (%" PRIu64 " from 0x%"
			PRIx64 ", behind %" PRIu64 " others)", b->endpoint, b->info.capacity, e->count, e->start, l->blocks);
		return -EPROTO;
	}
	l->blocks += e->count;
	first = e->start >> VOL_BLOCK_SHIFT;
	last = (first + e->count - 1) / VOL_GROUP;
	first /= VOL_GROUP;
	l->groups += last - first + !(l->groups && first == l->last_group);
	l->last_group = last;
	/* None of these overflows: a brick has fewer than 2^43 blocks. */
	if (b->vol->listed_bytes + l->blocks * BLOCK_BYTES + l->groups * vol_group_bytes() + l->n * EXTENT_BYTES > b->vol->list_budget)
		return too_much(b, l->blocks);
	return 0;
}

/* One page, from `from` on. -EAGAIN: the lane was lost and mended. */
static int get_page(struct vol_brick *b, struct listing *l, uint64_t from, size_t *n, uint64_t *generation, uint64_t *next, bool *more)
{
	struct volume *vol = b->vol;
	struct vol_lane *lane;
	uint64_t serial;
	int r;

	if (l->room < l->n + LIST_BATCH) {
		size_t room = l->room * 2 + LIST_BATCH;
		struct backend_extent *bigger = realloc(l->extent, room * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		l->extent = bigger;
		l->room = room;
	}
	r = vol_lane_get(b, &lane, &serial);
	if (r)
		return r;
	r = vol->backend->list(b->session, lane->index, from, l->extent + l->n, LIST_BATCH, n, generation, next, more);
	if (vol_lost(r)) {
		unsigned index = lane->index;

		vol_lane_broke(lane);
		r = vol_recover(b, index, serial);
		return r ? r : -EAGAIN;
	}
	vol_lane_put(lane);
	if (r)
		vol_say(vol, "brick %s cannot be listed: %s", b->endpoint, vol_reason(vol, r));
	return r;
}

/* One pass over the brick. -EAGAIN: it changed meanwhile. */
static int list_once(struct vol_brick *b, struct listing *l)
{
	uint64_t from = 0, generation = 0, first = 0, next = 0;
	bool more = true;
	size_t n = 0;

	l->n = 0;
	l->blocks = l->groups = l->pages = 0;
	while (more) {
		int r = get_page(b, l, from, &n, &generation, &next, &more);

		if (r)
			return r;
		if (!from)
			first = generation;
		if (generation != first)
			return -EAGAIN;
		if (n > LIST_BATCH || (more && next <= from)) {
			vol_say(b->vol, "brick %s answers list with nonsense: it goes on at 0x%" PRIx64 " behind 0x%" PRIx64, b->endpoint, next, from);
			return -EPROTO;
		}
		for (size_t i = 0; i < n; i++) {
			struct backend_extent *e = &l->extent[l->n];

			r = check_extent(b, l, e, from);
			if (r)
				return r;
			from = e->start + (e->count << VOL_BLOCK_SHIFT);
			l->n++;
			if (!from && (more || i + 1 < n)) {
				vol_say(b->vol, "brick %s answers list with nonsense: blocks behind the last address", b->endpoint);
				return -EPROTO;
			}
		}
		if (more && next < from) {
			vol_say(b->vol, "brick %s answers list with nonsense: it goes on at 0x%" PRIx64 ", before the end of what it listed",
				b->endpoint, next);
			return -EPROTO;
		}
		if (more && ++l->pages > CRUMBS_FREE && l->n < (l->pages - CRUMBS_FREE) * CRUMBS_LEAST) {
			vol_say(b->vol, "brick %s lists its blocks in crumbs (%zu extents in %" PRIu64 " answers, and still more to come)",
				b->endpoint, l->n, l->pages);
			return -EPROTO;
		}
		from = next;
	}
	return 0;
}

int vol_twin_add(struct volume *vol, uint64_t addr, unsigned brick)
{
	if (vol->twins == vol->twin_room) {
		size_t room = vol->twin_room ? 2 * vol->twin_room : 16;
		struct vol_twin *more = realloc(vol->twin, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		vol->twin = more;
		vol->twin_room = room;
	}
	vol->twin[vol->twins++] = (struct vol_twin){ addr, brick };
	vol->listed_bytes += TWIN_BYTES;
	return vol->listed_bytes > vol->list_budget ? -ENOMEM : 0;
}

size_t vol_twins(const struct volume *vol, const struct vol_twin **twins)
{
	*twins = vol->twin;
	return vol->twins;
}

int vol_prefer(struct volume *vol, uint64_t addr, unsigned brick)
{
	int before = vol_where(vol, addr);

	for (size_t k = 0; before >= 0 && k < vol->twins; k++)
		if (vol->twin[k].addr == addr && vol->twin[k].brick == brick)
			vol->twin[k].brick = (unsigned)before;
	vol_ids_remove(vol, addr);
	return vol_ids_insert(vol, addr, brick);
}

static int list_brick(struct vol_brick *b)
{
	struct volume *vol = b->vol;
	struct listing l = { 0 };
	size_t twins = vol->twins;
	int r;

	for (unsigned attempt = 0; ; attempt++) {
		r = list_once(b, &l);
		if (r != -EAGAIN || attempt == LIST_ATTEMPTS)
			break;
	}
	if (r == -EAGAIN)
		vol_say(vol, "brick %s changes while it is listed: somebody else writes to it", b->endpoint);
	b->free_blocks = b->info.capacity > l.blocks ? b->info.capacity - l.blocks : 0;
	if (!r) {
		vol->listed_bytes += l.blocks * BLOCK_BYTES + l.groups * vol_group_bytes();
		r = vol_ids_merge(vol, l.extent, l.n, b->index);
		if (r == -ENOMEM)
			too_much(b, l.blocks);
	}
	if (!r && vol->twins > twins && !twins)
		vol_say(vol, "block 0x%" PRIx64 " is on two bricks, %s and %s", vol->twin[0].addr,
			vol->brick[vol_where(vol, vol->twin[0].addr)]->endpoint, b->endpoint);
	free(l.extent);
	return r;
}

int vol_list(struct volume *vol, uint64_t *duplicates)
{
	int r = 0;

	vol_ids_clear(vol);
	vol->twins = 0;
	vol->listed_bytes = 0;
	for (unsigned i = 0; i < vol->bricks && !r; i++)
		r = list_brick(vol->brick[i]);
	if (duplicates)
		*duplicates = vol->twins;
	return r ? r : vol->twins ? -EUCLEAN : 0;
}
