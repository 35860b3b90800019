/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * truncate - the changes that give storage up or ask for it ahead: truncation,
 * punching, preallocation, deletion.  See file.h.
 *
 * Every shrink and every punch of whole blocks logs the inode; until that batch is
 * durable and what it drops is free, growth of and writes to the file wait
 * (order 2 of brickfs-format(5)): inode->drops.
 */
#include "file.h"
#include "mutate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

/* Under fs->lock, io exclusive, after log_begin() and drop_reserve(): drop_pieces() and one more. */
static void shrink(struct fs *fs, struct inode *i, uint64_t size)
{
	uint64_t keep;

	i->size = i->prepared = size;
	if (i->alloc_end > size)
		i->alloc_end = size;
	if (!size) {
		drop_all(fs, i);
		ns_set_form(fs, i, FMT_INLINE);
		i->dirty_end = i->alloc_end = 0;
		return;
	}
	switch (i->form) {
	case FMT_INLINE:
		if (i->length > size) {
			i->length = (uint32_t)size;
			ns_account(fs, i);
		}
		return;
	case FMT_RUN:
		keep = (size + FMT_PAGE - 1) >> FMT_PAGE_SHIFT;
		if (size >= shape_run_bytes(i))
			return;
		if (keep < i->length) {
			drop_add(fs, i->run + (keep << FMT_PAGE_SHIFT), i->length - (uint32_t)keep, 0, i);
			i->length = (uint32_t)keep;
			i->dirty_end = shape_run_bytes(i);
		}
		break;
	default:
		keep = (size + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT;
		for (uint32_t k = 0; k < i->length; k++) {
			struct fmt_range *g = &i->ranges[k];
			uint64_t from = g->fblock > keep ? g->fblock : keep;

			uint64_t base = g->base + ((from - g->fblock) << FMT_BLOCK_SHIFT);
			uint64_t count = g->fblock + (uint64_t)g->count - from;

			if (from < g->fblock + (uint64_t)g->count && vol_count(fs->vol, base, count))
				drop_add(fs, base, 0, count, i);
		}
		if (i->dirty_end > keep << FMT_BLOCK_SHIFT)
			i->dirty_end = keep << FMT_BLOCK_SHIFT;
	}
	drop_barrier(fs, i);
}

int file_truncate(struct fs *fs, struct inode *i, uint64_t size)
{
	int r;

	if (size > FS_FILE_MAX)
		return -EFBIG;
	/* Growth may not touch what an earlier shrink gives up. */
	r = file_lock_settled(fs, i);
	if (r)
		return r;
	if (size > i->size && i->size < i->dirty_end && !MUTATED(GAP_OF_TRUNCATE))
		r = file_zero(fs, i, i->size, size < i->dirty_end ? size : i->dirty_end);
	pthread_mutex_lock(&fs->lock);
	if (!r && size < i->size)
		r = drop_reserve(fs, drop_pieces(i) + 1);
	if (!r)
		r = file_touch(fs, i);
	if (!r && size < i->size) {
		shrink(fs, i, size);
		log_mark_dirty(fs, i);
	} else if (!r) {
		i->size = i->prepared = size;
	}
	pthread_mutex_unlock(&fs->lock);
	pthread_rwlock_unlock(&i->io);
	return r;
}

/* Storage for [from, to), whatever form that takes. */
static int preallocate(struct fs *fs, struct inode *i, uint64_t from, uint64_t to)
{
	int r = 0;

	if (i->form != FMT_RANGES && to <= (uint64_t)FMT_RUN_PAGES_MAX << FMT_PAGE_SHIFT) {
		if (i->form == FMT_INLINE || to > shape_run_bytes(i))
			r = shape_to_run(fs, i, to, NULL, 0, 0);
		return r;
	}
	/* All or nothing: what cannot fit is refused before anything is taken. */
	uint64_t blocks = ((to + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT) - (from >> FMT_BLOCK_SHIFT);

	if (blocks > vol_capacity(fs->vol))
		return -ENOSPC;
	if (i->form != FMT_RANGES)
		r = shape_to_ranges(fs, i);
	return r ? r : shape_fill(fs, i, from, to);
}

/* Whole blocks of [from, to) are given up, the rest of it is zeroed. */
static int punch(struct fs *fs, struct inode *i, uint64_t from, uint64_t to)
{
	uint64_t first = (from + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT, last = to >> FMT_BLOCK_SHIFT;
	int r;

	if (i->form == FMT_INLINE) {
		pthread_mutex_lock(&fs->lock);
		if (from < i->length)
			memset(i->data + from, 0, (to < i->length ? to : i->length) - from);
		pthread_mutex_unlock(&fs->lock);
		return 0;
	}
	if (i->form == FMT_RUN || first >= last)
		return file_zero(fs, i, from, to);
	r = file_zero(fs, i, from, first << FMT_BLOCK_SHIFT);
	if (!r)
		r = file_zero(fs, i, last << FMT_BLOCK_SHIFT, to);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	if (drop_reserve(fs, i->length) || !log_begin(fs, 0))
		r = -ENOMEM;
	for (uint32_t k = 0; !r && k < i->length; k++) {
		uint64_t begin = i->ranges[k].fblock, end = begin + i->ranges[k].count;
		uint64_t base = i->ranges[k].base;

		if (begin < first) {
			base += (first - begin) << FMT_BLOCK_SHIFT;
			begin = first;
		}
		if (end > last)
			end = last;
		if (begin < end && vol_count(fs->vol, base, end - begin))
			drop_hole(fs, base, end - begin, i, (uint32_t)begin);
	}
	if (!r)
		log_mark_dirty(fs, i);
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int fs_fallocate(struct fs *fs, uint64_t ino, int mode, uint64_t offset, uint64_t length)
{
	const int keep = FALLOC_FL_KEEP_SIZE;
	uint64_t end = offset + length, batch = 0;
	struct inode *i;
	int r = fs_writable(fs);

	if (r)
		return r;
	if (mode != 0 && mode != keep && mode != (FALLOC_FL_PUNCH_HOLE | keep) &&
	    (mode & ~keep) != FALLOC_FL_ZERO_RANGE)
		return -EOPNOTSUPP;
	if (!length || end < offset)
		return -EINVAL;
	if (end > FS_FILE_MAX)
		return -EFBIG;
	i = inode_pin(fs, ino);
	if (!i)
		return -ESTALE;
	if (!S_ISREG(i->mode)) {
		r = S_ISDIR(i->mode) ? -EISDIR : -ENODEV;
		goto out;
	}
	r = room_admit(fs, FMT_INLINE_MAX, mode & FALLOC_FL_PUNCH_HOLE);
	if (!r)
		r = file_lock_settled(fs, i);
	if (r)
		goto out;
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		r = punch(fs, i, offset, end);
	} else {
		uint64_t stale = end < i->dirty_end ? end : i->dirty_end;

		/* What the file grows over is zeroed while only old blocks are there. */
		if (!(mode & keep) && i->size < stale && !MUTATED(GAP_OF_FALLOCATE))
			r = file_zero(fs, i, i->size, stale);
		if (!r && (mode & FALLOC_FL_ZERO_RANGE) && i->form == FMT_INLINE)
			r = punch(fs, i, offset, end);
		else if (!r && (mode & FALLOC_FL_ZERO_RANGE) && offset < stale)
			r = file_zero(fs, i, offset, stale);
		if (!r)
			r = preallocate(fs, i, offset, end);
		/* A new run has pages that were others' before. */
		if (!r && !(mode & keep) && i->form == FMT_RUN && i->size < end && !MUTATED(GAP_OF_FALLOCATE))
			r = file_zero(fs, i, i->size, end);
	}
	pthread_mutex_lock(&fs->lock);
	if (!r)
		r = file_touch(fs, i);
	if (!r && !(mode & FALLOC_FL_PUNCH_HOLE)) {
		if (i->form == FMT_RANGES && i->alloc_end < end)
			i->alloc_end = end;
		if (!(mode & keep) && i->size < end)
			i->size = i->prepared = end;
	}
	batch = i->batch;
	pthread_mutex_unlock(&fs->lock);
	if (r)
		shape_give_back(fs, i);
	pthread_rwlock_unlock(&i->io);
	if (!r && (mode & FALLOC_FL_PUNCH_HOLE) && fs->options.sync)
		r = drops_wait(fs, i);
out:
	inode_unpin(fs, i);
	return r ? r : fs_end(fs, batch);
}
