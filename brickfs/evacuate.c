/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * evacuate - when no block is free, the emptiest packed block is emptied into the
 * others: its runs are copied, and the block goes when the batch that says so is durable.
 */
#include "fs.h"

#include <errno.h>
#include <stdlib.h>

/* The file's run moves out of the packed block, if that is where it is and nobody is at work on it: 1 moved, 0 not. */
static int move_run(struct fs *fs, struct inode *i, uint64_t block)
{
	uint64_t length, run, empty;
	struct vol_io io;
	uint32_t pages;
	uint8_t *buf;
	int r = 0;

	/* The caller may hold the io lock of another inode, or of this one: never wait. */
	if (pthread_rwlock_trywrlock(&i->io))
		return 0;
	if (i->form != FMT_RUN || (i->run & ~(FMT_BLOCK - 1)) != block)
		goto out;
	pages = i->length;
	r = space_take_run(fs, i->ino, pages, &run);
	if (r) {
		r = r == -ENOSPC ? 0 : r;
		goto out;
	}
	/* All of it: what lies behind the end stays as zeroed, or as stale, as it was. */
	length = (uint64_t)pages << FMT_PAGE_SHIFT;
	buf = malloc(length);
	r = buf ? 0 : -ENOMEM;
	if (!r) {
		io = (struct vol_io){ i->run, buf, (uint32_t)length, false };
		r = vol_io(fs->vol, &io, 1);
	}
	if (!r) {
		io = (struct vol_io){ run, buf, (uint32_t)length, true };
		r = vol_io(fs->vol, &io, 1);
	}
	free(buf);
	pthread_mutex_lock(&fs->lock);
	if (!r && (drop_reserve(fs, 1) || !log_begin(fs, 0)))
		r = -ENOMEM;
	if (!r) {
		drop_add(fs, i->run, pages, 0, NULL);
		i->run = run;
		log_mark_dirty(fs, i);
		r = 1;
	}
	pthread_mutex_unlock(&fs->lock);
	if (r < 0) {
		space_free_run(fs, run, pages, &empty);
		if (empty)
			vol_release(fs->vol, &empty, 1);
	}
out:
	pthread_rwlock_unlock(&i->io);
	return r;
}

int evacuate(struct fs *fs)
{
	uint64_t block, owner[FMT_PAGES_PER_BLOCK], last = 0;
	int moved = 0;

	if (!space_leave_emptiest(fs, &block, owner))
		return 0;
	for (unsigned k = 0; k < FMT_PAGES_PER_BLOCK; k++) {
		struct inode *inode;
		int r;

		if (!owner[k] || owner[k] == last)
			continue;
		last = owner[k];
		inode = inode_pin(fs, last);
		if (!inode)
			continue;
		r = move_run(fs, inode, block);
		inode_unpin(fs, inode);
		if (r > 0)
			moved = 1;
		else if (r < 0)
			break;
	}
	space_stay(fs, block);
	return moved;
}
