/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-alloc - blocks come to life and go.
 *
 * When the answer to an alloc or free is lost, the brick is asked with list what became of it, under the
 * exclusive lock that came back with the session; until then the ID goes to no other brick.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "volume-internal.h"

#define BATCH 512

static int check_addrs(struct volume *vol, const uint64_t *addrs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (addrs[i] & VOL_BLOCK_MASK || addrs[i] == vol->private_addr) {
			vol_say(vol, "0x%llx is no address of a block", (unsigned long long)addrs[i]);
			return -EINVAL;
		}
	}
	return 0;
}

/* What list says about each of the addresses. */
static int look_up(struct vol_brick *b, const uint64_t *addrs, size_t n, bool *there, struct vol_effort *effort)
{
	struct volume *vol = b->vol;

	for (size_t i = 0; i < n; ) {
		struct backend_extent extent;
		struct vol_lane *lane;
		uint64_t serial, generation, next;
		size_t count = 0;
		bool more;
		int r = vol_lane_get(b, &lane, &serial);

		if (r)
			return r;
		r = vol->backend->list(b->session, lane->index, addrs[i], &extent, 1, &count, &generation, &next, &more);
		if (vol_lost(r)) {
			unsigned index = lane->index;

			vol_lane_broke(lane);
			r = vol_retry(b, index, serial, effort);
			if (r)
				return r;
			continue;
		}
		vol_lane_put(lane);
		if (r == -ENOMEM)	/* of the call: the memory is ours */
			return r;
		if (r)
			return vol_blame(b, r, vol_reason(vol, r), "what became of an alloc or free cannot be found out");
		there[i] = count && extent.start <= addrs[i] && (addrs[i] - extent.start) >> VOL_BLOCK_SHIFT < extent.count;
		i++;
	}
	return 0;
}

/*
 * alloc or release of up to BATCH blocks on one brick, sent again where list says that it was not carried
 * out.  status: of each; the result is negative when nothing can be said about them.
 */
static int call(struct vol_brick *b, const uint64_t *addrs, size_t n, bool alloc, int *status)
{
	struct volume *vol = b->vol;
	uint64_t left[BATCH];
	size_t where[BATCH], count = n;
	int answer[BATCH];
	bool there[BATCH];
	struct vol_effort effort;

	vol_effort_begin(vol, &effort);
	for (size_t i = 0; i < n; i++) {
		left[i] = addrs[i];
		where[i] = i;
	}
	while (count) {
		struct vol_lane *lane;
		uint64_t serial;
		int r = vol_lane_get(b, &lane, &serial);

		if (r)
			return r;
		r = (alloc ? vol->backend->alloc : vol->backend->release)(b->session, lane->index, left, count, answer);
		/* A session that is ending says so of each. */
		for (size_t i = 0; i < count && !r; i++)
			if (vol_lost(answer[i]))
				r = answer[i];
		if (!vol_lost(r)) {
			vol_lane_put(lane);
			for (size_t i = 0; i < count && !r; i++)
				status[where[i]] = vol_brick_error(answer[i]);
			if (!r || r == -ENOMEM)
				return r;
			return vol_blame(b, r, vol_reason(vol, r), "it refuses to %s blocks", alloc ? "allocate" : "free");
		}
		unsigned index = lane->index;

		vol_lane_broke(lane);
		r = vol_retry(b, index, serial, &effort);
		if (!r)
			r = look_up(b, left, count, there, &effort);
		if (r)
			return r;
		size_t more = 0;

		for (size_t i = 0; i < count; i++) {
			if (there[i] == alloc) {
				status[where[i]] = 0;
				continue;
			}
			left[more] = left[i];
			where[more++] = where[i];
		}
		count = more;
	}
	return 0;
}

int vol_alloc_on(struct volume *vol, unsigned brick)
{
	int r = vol_error(vol), status = 0;

	if (r)
		return r;
	if (brick >= vol->bricks)
		return -EINVAL;
	vol_blame_begin();
	r = call(vol->brick[brick], &vol->private_addr, 1, true, &status);
	if (!r)
		r = status;
	if (!r)
		vol->brick[brick]->free_blocks -= vol->brick[brick]->free_blocks > 0;
	if (r && r != -EEXIST)
		vol_say(vol, "brick %s: block 0x%llx cannot be allocated: %s", vol->brick[brick]->endpoint,
			(unsigned long long)vol->private_addr, vol_blamed(r));
	return r;
}

void vol_unalloc_on(struct volume *vol, unsigned brick)
{
	int status = 0;

	if (!vol_error(vol) && brick < vol->bricks && !call(vol->brick[brick], &vol->private_addr, 1, false, &status) && !status)
		vol->brick[brick]->free_blocks++;
}

/* One block of the brick's count, if there is one. */
static bool reserve(struct vol_brick *b)
{
	unsigned long long n = b->free_blocks;

	while (n)
		if (atomic_compare_exchange_weak(&b->free_blocks, &n, n - 1))
			return true;
	return false;
}

/* The next brick for this block, of those that have not refused it: one with room by our count, else any. -1: none is left. */
static int choose(struct volume *vol, uint64_t addr, uint64_t refused, bool *reserved)
{
	unsigned first = (addr >> VOL_BLOCK_SHIFT) % vol->bricks;

	for (unsigned i = 0; i < vol->bricks; i++) {
		unsigned brick = (first + i) % vol->bricks;

		if (!(refused >> brick & 1) && reserve(vol->brick[brick])) {
			*reserved = true;
			return brick;
		}
	}
	*reserved = false;
	for (unsigned i = 0; i < vol->bricks; i++)
		if (!(refused >> (first + i) % vol->bricks & 1))
			return (first + i) % vol->bricks;
	return -1;
}

struct wish {
	uint64_t refused;	/* bits: bricks that said ENOSPC */
	int brick;		/* where it is tried, or has come to life */
	bool reserved, done;
};

/* Frees a block that came to life and is in no table. False. */
static bool take_back(struct vol_brick *b, uint64_t addr)
{
	int status = 0;

	if (!call(b, &addr, 1, false, &status) && !status)
		b->free_blocks++;
	return false;
}

/* Everything that is bound for this brick. */
static int alloc_on(struct vol_brick *b, const uint64_t *addrs, struct wish *wishes, size_t n)
{
	uint64_t batch[BATCH];
	size_t where[BATCH];
	int status[BATCH], r = 0;

	for (size_t i = 0; i < n && !r; ) {
		size_t count = 0;

		for (; i < n && count < BATCH; i++) {
			if (wishes[i].done || wishes[i].brick != (int)b->index)
				continue;
			where[count] = i;
			batch[count++] = addrs[i];
		}
		if (!count)
			break;
		r = call(b, batch, count, true, status);
		if (r)
			break;
		for (size_t k = 0; k < count; k++) {
			struct wish *wish = &wishes[where[k]];
			int error = status[k];

			if (error == -ENOSPC) {
				wish->refused |= 1ull << b->index;
				b->free_blocks = 0;
				wish->reserved = false;
				continue;
			}
			if (!error) {
				wish->done = true;
				if (!wish->reserved)
					reserve(b);
				wish->reserved = false;
				error = vol_ids_insert(b->vol, batch[k], b->index);
				if (error)	/* out of memory: nobody will know of it, so it goes at once */
					wish->done = take_back(b, batch[k]);
			} else {
				error = vol_blame(b, error, error == -EEXIST ? "it is there already, though it was not in its list" : NULL,
						  "block 0x%llx cannot be allocated", (unsigned long long)batch[k]);
			}
			if (error && !r)
				r = error;
		}
	}
	return r;
}

static void undo(struct volume *vol, const uint64_t *addrs, struct wish *wishes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (wishes[i].reserved)
			vol->brick[wishes[i].brick]->free_blocks++;
		if (wishes[i].done && vol_release(vol, &addrs[i], 1))
			return;
	}
}

int vol_alloc(struct volume *vol, const uint64_t *addrs, size_t n)
{
	int r = vol_error(vol);

	if (!r)
		r = check_addrs(vol, addrs, n);
	for (size_t i = 0; i < n && !r; i++)
		if (vol_has(vol, addrs[i]))
			r = -EEXIST;
	if (r || !n)
		return r;
	struct wish few[16], *wishes = n > 16 ? calloc(n, sizeof(*wishes)) : few;

	if (!wishes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		wishes[i] = (struct wish){ .brick = -1 };
	for (bool again = true; again && !r; ) {
		again = false;
		for (size_t i = 0; i < n && !r; i++) {
			if (wishes[i].done)
				continue;
			again = true;
			wishes[i].brick = choose(vol, addrs[i], wishes[i].refused, &wishes[i].reserved);
			if (wishes[i].brick < 0)
				r = -ENOSPC;
		}
		for (unsigned b = 0; b < vol->bricks && !r && again; b++)
			r = alloc_on(vol->brick[b], addrs, wishes, n);
	}
	if (r)
		undo(vol, addrs, wishes, n);
	if (wishes != few)
		free(wishes);
	return r;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int release_batch(struct vol_brick *b, uint64_t *addrs, size_t n)
{
	struct volume *vol = b->vol;
	struct vol_map *maps[BATCH];
	int status[BATCH], r;
	size_t unique = 0;

	/* Maps are held in order, and once. */
	qsort(addrs, n, sizeof(*addrs), compare);
	for (size_t i = 0; i < n; i++)
		if (!unique || addrs[unique - 1] != addrs[i])
			addrs[unique++] = addrs[i];
	n = unique;
	for (size_t i = 0; i < n; i++)
		maps[i] = vol_map_hold(b, addrs[i]);
	r = call(b, addrs, n, false, status);
	for (size_t i = 0; i < n; i++) {
		int error = r ? r : status[i];
		bool gone = !error || error == -ENOENT;

		vol_map_release(b, maps[i], gone);
		if (gone) {
			if (vol_ids_remove(vol, addrs[i]))
				b->free_blocks++;
			continue;
		}
		if (!r) {
			r = vol_blame(b, error, NULL, "block 0x%llx cannot be freed", (unsigned long long)addrs[i]);
		}
	}
	return r;
}

int vol_release(struct volume *vol, const uint64_t *addrs, size_t n)
{
	uint64_t batch[BATCH];
	int r = vol_error(vol);

	if (!r)
		r = check_addrs(vol, addrs, n);
	for (unsigned b = 0; b < vol->bricks && !r; b++) {
		for (size_t i = 0; i < n && !r; ) {
			size_t count = 0;

			for (; i < n && count < BATCH; i++)
				if (vol_where(vol, addrs[i]) == (int)b)
					batch[count++] = addrs[i];
			if (count)
				r = release_batch(vol->brick[b], batch, count);
		}
	}
	return r;
}

int vol_release_all(struct volume *vol)
{
	uint64_t batch[BATCH], from = 0;
	int r = 0;

	while (!r) {
		size_t n = 0;

		while (n < BATCH && vol_next(vol, from, &batch[n])) {
			from = batch[n++] + VOL_BLOCK_SIZE;
			if (!from)
				break;
		}
		if (!n)
			break;
		r = vol_release(vol, batch, n);
		if (!from)
			break;
	}
	return r;
}
