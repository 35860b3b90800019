/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stale - fsck: of which files and directories it can be known that the last record that is left is not the last one that there was, while
 * records of the log are lost.
 *
 * A file's blocks tell: they are made before the record that counts them. Pages tell: they are given to one file at a time, so of two records that
 * claim them the earlier one is void. A directory's positions tell: they count up with each name that is given.
 * What was changed otherwise in the lost part leaves no trace.
 */
#include "fs.h"

#include <inttypes.h>

static void look_at_blocks(struct fs *fs, const struct inode *i)
{
	uint64_t end = i->size > i->alloc_end ? i->size : i->alloc_end, last = (end + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT;
	uint64_t blocks = ns_blocks(fs, (struct inode *)i, end), behind = 0;

	for (uint32_t k = 0; k < i->length; k++) {
		const struct fmt_range *g = &i->ranges[k];
		uint64_t used = last > g->fblock ? last - g->fblock : 0;

		if (used < g->count)
			behind += vol_count(fs->vol, g->base + (used << FMT_BLOCK_SHIFT), g->count - used);
	}
	if (behind)
		fs_damage(fs, "older", "inode %" PRIu64 " (%s): its record ends it at byte %" PRIu64 ", and %" PRIu64 " blocks are there behind that: "
			  "it was longer, later or before", i->ino, fs_path(fs, i), i->size, behind);
	if (blocks > i->recorded_blocks)
		fs_damage(fs, "older", "inode %" PRIu64 " (%s): it has %" PRIu64 " blocks, and its record knows of %" PRIu64
			  ": what it was when they were written, size and times, is lost", i->ino, fs_path(fs, i), blocks, i->recorded_blocks);
}

void stale_pages(struct fs *fs, const struct inode *one, const struct inode *two)
{
	const struct inode *old = one->batch < two->batch ? one : two, *new = old == one ? two : one;

	if (!fs->records_lost || one->batch == two->batch)
		return;
	fs_damage(fs, "older", "inode %" PRIu64 " (%s): its pages were given to inode %" PRIu64 " (%s) by a later record: what it became, and "
		  "what it held, are lost", old->ino, fs_path(fs, old), new->ino, fs_path(fs, new));
}

void stale(struct fs *fs)
{
	if (!fs->options.check || !fs->records_lost)
		return;
	for (const struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		if (i->form == FMT_RANGES)
			look_at_blocks(fs, i);
		if (i->dir && i->dir->unseen)
			fs_damage(fs, "names-lost", "directory %" PRIu64 " (%s): %" PRIu64 " names that were given in it are lost, or were "
				  "removed again in the same lost part of the log", i->ino, fs_path(fs, i), i->dir->unseen);
	}
}
