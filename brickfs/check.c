/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - what fsck.brickfs asks beyond the replay and the comparison that every
 * mount does: reachability from the root, and the counts.  Changes nothing.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Marks what the root leads to, by the reference count that nobody else uses here. */
static int reach(struct fs *fs, uint64_t *reached)
{
	struct inode **queue = malloc((fs->inode_count + 1) * sizeof(*queue));
	size_t head = 0, tail = 0;

	if (!queue)
		return -ENOMEM;
	fs->root->references = 1;
	queue[tail++] = fs->root;
	while (head < tail) {
		struct inode *dir = queue[head++];

		for (uint32_t k = 0; k < dir->dir->used; k++) {
			struct dentry *d = dir->dir->slot[k].dentry;

			if (!d || d->inode->references)
				continue;
			d->inode->references = 1;
			++*reached;
			if (d->inode->dir)
				queue[tail++] = d->inode;
		}
		if (fs->options.progress && !(head % 1024))
			fs->options.progress(fs->options.progress_arg, "directories", head, fs->inode_count);
	}
	free(queue);
	return 0;
}

int fs_check(struct fs *fs, struct fs_check_result *result)
{
	uint64_t reached = 1;
	int r;

	*result = (struct fs_check_result){ .inodes = fs->inode_count };
	result->blocks = vol_capacity(fs->vol) - vol_free_blocks(fs->vol);
	r = reach(fs, &reached);
	if (r)
		return r;
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		if (i->dir)
			result->directories++;
		else if (S_ISREG(i->mode))
			result->files++;
		if (!i->nlink) {
			result->repairable++;
			fs_say(fs, "orphan", "inode %" PRIu64 " was deleted while it was open; the next mount removes it", i->ino);
		} else if (!i->references && i->dir) {
			fs_damage(fs, "dir-loop", "directory %" PRIu64 " is not reached from the root", i->ino);
		}
		if (!S_ISREG(i->mode) && !S_ISLNK(i->mode) && (i->form != FMT_INLINE || i->length))
			fs_damage(fs, "data-odd", "inode %" PRIu64 " of type %o has data", i->ino, i->mode & S_IFMT);
		if (S_ISLNK(i->mode) && (i->form != FMT_INLINE || i->length != i->size || !i->size))
			fs_damage(fs, "symlink-odd", "symbolic link %" PRIu64 " has no sound target", i->ino);
		i->references = 0;
	}
	if (fs->info.leaked) {
		result->repairable += fs->info.leaked;
		fs_say(fs, "leak", "%" PRIu64 " blocks are allocated and belong to nothing; the next mount frees them",
		       fs->info.leaked);
	}
	result->problems = fs->damage_count + result->repairable;
	return 0;
}
