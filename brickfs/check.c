/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - what fsck.brickfs asks beyond the replay and the comparison that every
 * mount does: reachability from the root, and the counts.  Changes nothing.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int fs_check(struct fs *fs, struct fs_check_result *result)
{
	*result = (struct fs_check_result){ .inodes = fs->inode_count };
	result->blocks = vol_capacity(fs->vol) - vol_free_blocks(fs->vol);
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		if (i->dir)
			result->directories++;
		else if (S_ISREG(i->mode))
			result->files++;
		if (!i->nlink) {
			result->repairable++;
			fs_say(fs, "orphan", "inode %" PRIu64 " was deleted while it was open; the next mount removes it", i->ino);
		}
	}
	if (fs->info.leaked) {
		result->repairable += fs->info.leaked;
		fs_say(fs, "leak", "%" PRIu64 " blocks are allocated and belong to nothing; the next mount frees them",
		       fs->info.leaked);
	}
	result->problems = fs->damage_count + result->repairable;
	return 0;
}
