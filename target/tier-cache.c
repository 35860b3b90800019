/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier-cache - blocks in memory over the pool: filled when they are pinned,
 * written back, and evicted when others need the room.
 *
 * Of the blocks that nobody has pinned the least recently used one leaves, one
 * that is clean before one that has to be written back.  A block that cannot be
 * written back never leaves.
 */
#include "tier-internal.h"

#include <errno.h>
#include <stdlib.h>

/* --- the lists, and what puts a frame into one; with the lock held ---------- */

static struct frame_list *list_of(struct tier *tier, const struct frame *frame)
{
	return frame->dirty ? &tier->dirty : &tier->clean;
}

static void unlist(struct tier *tier, uint32_t f)
{
	struct frame *frame = &tier->frames[f];
	struct frame_list *list = list_of(tier, frame);

	if (!frame->listed)
		return;
	if (frame->older == FRAME_NONE)
		list->oldest = frame->newer;
	else
		tier->frames[frame->older].newer = frame->newer;
	if (frame->newer == FRAME_NONE)
		list->newest = frame->older;
	else
		tier->frames[frame->newer].older = frame->older;
	frame->listed = false;
}

static void list_newest(struct tier *tier, uint32_t f)
{
	struct frame *frame = &tier->frames[f];
	struct frame_list *list = list_of(tier, frame);

	frame->older = list->newest;
	frame->newer = FRAME_NONE;
	if (list->newest == FRAME_NONE)
		list->oldest = f;
	else
		tier->frames[list->newest].newer = f;
	list->newest = f;
	frame->listed = true;
}

static void list_oldest(struct tier *tier, uint32_t f)
{
	struct frame *frame = &tier->frames[f];
	struct frame_list *list = list_of(tier, frame);

	frame->newer = list->oldest;
	frame->older = FRAME_NONE;
	if (list->oldest == FRAME_NONE)
		list->newest = f;
	else
		tier->frames[list->oldest].older = f;
	list->oldest = f;
	frame->listed = true;
}

static bool may_leave(const struct tier *tier, const struct frame *frame)
{
	return frame->state == FRAME_HELD && !frame->busy && !tier->slots[frame->slot].pins;
}

static void set_dirty(struct tier *tier, uint32_t f, bool dirty)
{
	struct frame *frame = &tier->frames[f];
	struct memory_content content;
	bool listed = frame->listed;

	if (frame->dirty == dirty)
		return;
	if (memory_get(&tier->memory, f, &content) != 1)
		abort();	/* somebody else writes to the table */
	content.dirty = dirty;
	memory_mark(&tier->memory, f, &content);
	unlist(tier, f);
	frame->dirty = dirty;
	tier->dirty_n += dirty ? 1 : -1u;
	if (listed)
		list_newest(tier, f);
}

static void free_frame(struct tier *tier, uint32_t f)
{
	struct frame *frame = &tier->frames[f];

	memory_forget(&tier->memory, f);
	tier->dirty_n -= frame->dirty;
	*frame = (struct frame){ .state = FRAME_FREE };
	tier->free[tier->free_count++] = f;
	pthread_cond_broadcast(&tier->changed);
}

void cache_update(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];
	uint32_t f = s->frame;

	if (f == FRAME_NONE || tier->frames[f].state != FRAME_HELD)
		return;
	if (!s->writers && s->wild == s->settled)
		set_dirty(tier, f, false);
	if (may_leave(tier, &tier->frames[f]) && !tier->frames[f].listed) {
		list_newest(tier, f);
		pthread_cond_broadcast(&tier->changed);
	}
}

/* --- open and close ---------------------------------------------------------- */

/* A block that an earlier brickd left in memory. */
static void take_content(struct tier *tier, uint32_t f, const struct memory_content *content)
{
	tier->frames[f] = (struct frame){ .slot = content->slot, .state = FRAME_HELD, .dirty = content->dirty };
	tier->slots[content->slot].frame = f;
	tier->slots[content->slot].wild = content->dirty;
	tier->dirty_n += content->dirty;
	list_newest(tier, f);
}

int cache_open(struct tier *tier)
{
	uint32_t n = tier->memory.frames;

	tier->clean = tier->dirty = (struct frame_list){ FRAME_NONE, FRAME_NONE };
	tier->frames = calloc(n, sizeof(*tier->frames));
	tier->free = malloc(n * sizeof(*tier->free));
	if (!tier->frames || !tier->free)
		return -ENOMEM;
	/* Low frames are given out first. */
	for (uint32_t f = n; f-- > 0;) {
		struct memory_content content;

		if (memory_get(&tier->memory, f, &content) == 1)
			take_content(tier, f, &content);
		else
			tier->free[tier->free_count++] = f;
	}
	return 0;
}

void cache_close(struct tier *tier)
{
	free(tier->frames);
	free(tier->free);
}

/* --- fill and evict ----------------------------------------------------------- */

/* True if room may come though nothing can leave now: a write-back of an unpinned block, or a free, is under way. */
static bool room_may_come(const struct tier *tier)
{
	for (uint32_t f = 0; f < tier->memory.frames; f++) {
		const struct frame *frame = &tier->frames[f];

		if (frame->state == FRAME_DROPPED || (frame->busy && !tier->slots[frame->slot].pins))
			return true;
	}
	return false;
}

/*
 * A free frame for the caller alone.  Called and returns with the lock held; 1: it was dropped meanwhile, look again;
 * *f is set with 0 only, and then the lock was not dropped since.
 */
static int make_room(struct tier *tier, uint32_t *f)
{
	uint32_t oldest, slot;
	int rc;

	if (!tier->free_count && tier->clean.oldest != FRAME_NONE) {
		oldest = tier->clean.oldest;
		unlist(tier, oldest);
		tier->slots[tier->frames[oldest].slot].frame = FRAME_NONE;
		tier->evictions++;
		free_frame(tier, oldest);
	}
	if (tier->free_count) {
		*f = tier->free[--tier->free_count];
		return 0;
	}
	oldest = tier->dirty.oldest;
	if (oldest == FRAME_NONE) {
		if (!room_may_come(tier))
			return -ENOMEM;
		pthread_cond_wait(&tier->changed, &tier->lock);
		return 1;
	}
	slot = tier->frames[oldest].slot;
	pthread_mutex_unlock(&tier->lock);
	rc = tier_settle_slot(tier, slot);
	pthread_mutex_lock(&tier->lock);
	if (rc)
		return rc;
	/* Its turn was now, not when it was written back. */
	if (tier->slots[slot].frame == oldest && tier->frames[oldest].listed && !tier->frames[oldest].dirty) {
		unlist(tier, oldest);
		list_oldest(tier, oldest);
	}
	return 1;
}

static int fill(struct tier *tier, uint32_t slot, uint32_t f, bool fresh)
{
	void *to = memory_address(&tier->memory, f);

	return fresh ? pool_fill(to, 0, POOL_SLOT_SIZE) : pool_get(tier->pool, slot, 0, to, POOL_SLOT_SIZE);
}

/* With the lock held: the block comes into the frame, which is free. */
static int load(struct tier *tier, uint32_t slot, uint32_t f)
{
	struct memory_content content = { .slot = slot };
	struct slot *s = &tier->slots[slot];
	struct frame *frame = &tier->frames[f];
	bool fresh = s->fresh;
	int rc;

	*frame = (struct frame){ .slot = slot, .state = FRAME_FILLING };
	s->frame = f;
	pthread_mutex_unlock(&tier->lock);
	content.block = pool_block(tier->pool, slot);
	rc = fill(tier, slot, f, fresh);
	pthread_mutex_lock(&tier->lock);
	if (rc) {
		s->frame = FRAME_NONE;
		free_frame(tier, f);
		return rc;
	}
	tier->fills += !fresh;
	s->fresh = false;
	frame->state = FRAME_HELD;
	memory_enter(&tier->memory, f, &content);
	pthread_cond_broadcast(&tier->changed);
	return 0;
}

int cache_pin(struct tier *tier, uint32_t slot, bool write, struct tier_place *place)
{
	struct slot *s = &tier->slots[slot];
	uint32_t f;
	int rc = 0;

	pthread_mutex_lock(&tier->lock);
	for (;;) {
		f = s->frame;
		if (f != FRAME_NONE && tier->frames[f].state == FRAME_HELD)
			break;
		if (f != FRAME_NONE) {
			pthread_cond_wait(&tier->changed, &tier->lock);
			continue;
		}
		rc = make_room(tier, &f);
		if (!rc) {
			rc = load(tier, slot, f);
			if (!rc)
				break;
		}
		if (rc < 0)
			goto out;
	}
	unlist(tier, f);
	tier->pinned_n += !s->pins++;
	s->writers += write;
	/* Before anyone can write: after a kill, dirt must not look clean. */
	if (write)
		set_dirty(tier, f, true);
	place->address = memory_address(&tier->memory, f);
	place->fd_offset = memory_offset(&tier->memory, f);
	rc = 0;
out:
	pthread_mutex_unlock(&tier->lock);
	return rc;
}

/* --- write-back ---------------------------------------------------------------- */

int cache_write_back(struct tier *tier, uint32_t slot, uint32_t offset, uint32_t length)
{
	struct slot *s = &tier->slots[slot];
	struct frame *frame;
	uint32_t f;
	int rc;

	pthread_mutex_lock(&tier->lock);
	/* Two at once could leave the older bytes of the two in the pool, with both answered as durable. */
	while ((f = s->frame) != FRAME_NONE && (tier->frames[f].state == FRAME_FILLING || tier->frames[f].busy))
		pthread_cond_wait(&tier->changed, &tier->lock);
	/* Not in memory, or clean: what was written was made durable before it came so. */
	if (f == FRAME_NONE || !tier->frames[f].dirty) {
		pthread_mutex_unlock(&tier->lock);
		return pool_failed(tier->pool) ? -EIO : 0;
	}
	frame = &tier->frames[f];
	unlist(tier, f);
	frame->busy = true;
	pthread_mutex_unlock(&tier->lock);

	rc = pool_put(tier->pool, slot, offset, (uint8_t *)memory_address(&tier->memory, f) + offset, length);
	if (!rc)
		rc = pool_persist(tier->pool, slot, offset, length);

	pthread_mutex_lock(&tier->lock);
	frame->busy = false;
	tier->write_backs += !rc && length == POOL_SLOT_SIZE;
	cache_update(tier, slot);
	pthread_cond_broadcast(&tier->changed);
	pthread_mutex_unlock(&tier->lock);
	return rc;
}

/* --- free ------------------------------------------------------------------------ */

uint32_t cache_drop(struct tier *tier, uint32_t slot)
{
	struct slot *s = &tier->slots[slot];
	uint32_t f;

	pthread_mutex_lock(&tier->lock);
	while ((f = s->frame) != FRAME_NONE && (tier->frames[f].state == FRAME_FILLING || tier->frames[f].busy))
		pthread_cond_wait(&tier->changed, &tier->lock);
	if (f != FRAME_NONE) {
		unlist(tier, f);
		tier->frames[f].state = FRAME_DROPPED;
		s->frame = FRAME_NONE;
	}
	s->settled = s->wild;
	s->fresh = false;
	__atomic_add_fetch(&s->generation, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&tier->lock);
	return f;
}

void cache_dropped(struct tier *tier, uint32_t slot, uint32_t f, bool released)
{
	struct slot *s = &tier->slots[slot];

	if (f == FRAME_NONE)
		return;
	pthread_mutex_lock(&tier->lock);
	if (released) {
		free_frame(tier, f);
	} else {
		/* The slot was not given away: it is as it was, but for what lanes had tracked. */
		tier->frames[f].state = FRAME_HELD;
		s->frame = f;
		s->wild += tier->frames[f].dirty;
		cache_update(tier, slot);
	}
	pthread_mutex_unlock(&tier->lock);
}
