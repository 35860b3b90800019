/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - what fsck.brickfs asks beyond the replay and the comparison that every
 * mount does: the counts, and what the next mount mends.  Changes nothing.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int fs_check(struct fs *fs, struct fs_check_result *result)
{
	bool repair = fs->options.decide != NULL;
	const char *then = repair ? "" : fs->damaged ? "; it stays while the filesystem is damaged" : "; the next mount removes it";
	uint64_t mends = fs->super_bad;

	*result = (struct fs_check_result){ .inodes = fs->inode_count };
	result->blocks = vol_capacity(fs->vol) - vol_free_blocks(fs->vol);
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		if (i->dir)
			result->directories++;
		else if (S_ISREG(i->mode))
			result->files++;
		if (!i->nlink) {
			mends++;
			fs_damage(fs, "orphan", "inode %" PRIu64 " was deleted while it was open%s", i->ino, then);
		}
	}
	if (fs->info.leaked) {
		mends += fs->info.leaked;
		fs_damage(fs, "leak", "%" PRIu64 " blocks are allocated and belong to nothing that was found%s", fs->info.leaked,
			  repair ? "" : fs->damaged ? "; they stay while the filesystem is damaged" : "; the next mount frees them");
	}
	result->problems = fs->damage_count + mends;
	/* A mount of a damaged filesystem is read-only. */
	result->repairable = fs->damaged ? 0 : mends;
	result->declined = fs->declined;
	return 0;
}
