/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * room - storage for those who need it, and what is done when there is none: drops are
 * finished, a checkpoint frees old log segments, packed blocks are evacuated.
 */
#include "fs.h"

#include <errno.h>
#include <stdlib.h>

/* Makes room when there is none: 1 if something may have changed. step counts up. */
static int make_room(struct fs *fs, int *step)
{
	bool drops, heads;
	int r;

	pthread_mutex_lock(&fs->lock);
	drops = fs->drops != NULL || fs->reclaiming;
	heads = fs->log.head_count > 1;
	pthread_mutex_unlock(&fs->lock);
	if (*step == 0) {
		*step = 1;
		if (drops)
			return (r = drops_wait_all(fs)) ? r : 1;
	}
	if (*step == 1) {
		*step = 2;
		if (heads && !checkpoint(fs))
			return 1;
	}
	if (*step < 8) {
		++*step;
		r = evacuate(fs);
		if (r <= 0)
			return r;
		return (r = drops_wait_all(fs)) ? r : 1;
	}
	return 0;
}

int room_alloc_blocks(struct fs *fs, const uint64_t *addrs, size_t n)
{
	uint64_t *missing = NULL;
	size_t count = 0;
	int r, step = 0;

	for (size_t i = 0; i < n; i++)
		if (!vol_has(fs->vol, addrs[i])) {
			if (!missing && !(missing = malloc(n * sizeof(*missing))))
				return -ENOMEM;
			missing[count++] = addrs[i];
		}
	if (!count)
		return 0;
	for (;;) {
		if (space_reserve_blocks(fs, count)) {
			r = vol_alloc(fs->vol, missing, count);
			space_unreserve_blocks(fs, count);
			if (r != -ENOSPC)
				break;
		}
		r = make_room(fs, &step);
		if (r < 0)
			break;
		if (!r) {
			r = -ENOSPC;
			break;
		}
	}
	free(missing);
	return r;
}

/* Batches that may wait to be written: the log takes blocks for what was admitted only then. */
#define BEHIND_MAX 2

int room_admit(struct fs *fs, size_t bytes, bool shrinks)
{
	for (int step = 0;;) {
		uint64_t unused, need, tight;
		bool heads;
		int r = log_catch_up(fs, log_is_tight(fs) ? 0 : BEHIND_MAX);

		if (r)
			return (r = fs_writable(fs)) ? r : -EROFS;
		pthread_mutex_lock(&fs->lock);
		unused = vol_free_blocks(fs->vol);
		need = log_checkpoint_blocks(fs->live + bytes) + 2;
		tight = log_checkpoint_blocks(fs->live) + 1;
		heads = fs->log.head_count > 1;
		pthread_mutex_unlock(&fs->lock);
		if (unused >= need)
			return 0;
		if (shrinks) {
			/* The log may draw on the reserve, down to what a checkpoint needs. */
			if (unused > tight || !heads || step++)
				return 0;
			checkpoint(fs);
			continue;
		}
		r = make_room(fs, &step);
		if (r <= 0)
			return r ? r : -ENOSPC;
	}
}

int room_alloc_run(struct fs *fs, uint64_t ino, uint32_t pages, uint64_t *addr)
{
	uint64_t number, block;
	int r = space_take_run(fs, ino, pages, addr);

	if (r != -ENOSPC)
		return r;
	r = marks_take(fs, FMT_MARK_PACKED, 1, &number);
	if (r)
		return r;
	block = fmt_addr(FMT_PACKED, number);
	r = room_alloc_blocks(fs, &block, 1);
	if (r == -ENOSPC)	/* what was freed on the way may serve */
		return space_take_run(fs, ino, pages, addr);
	if (r)
		return r;
	r = space_add_block(fs, number, ino, pages);
	if (r)
		vol_release(fs->vol, &block, 1);
	else
		*addr = block;
	return r;
}
