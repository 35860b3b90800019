/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lostfound - what fsck.brickfs finds without a name gets one in /lost+found: "#" and its inode number.
 *
 * In memory only; fs_repair() writes it with everything else.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name, or the same with ".1", ".2", ... that is not there yet. */
static void free_name(struct fs *fs, struct inode *dir, const char *wanted, char name[FS_NAME_MAX + 1])
{
	snprintf(name, FS_NAME_MAX + 1, "%s", wanted);
	for (unsigned n = 1; ns_lookup(fs, dir, name, strlen(name)); n++)
		snprintf(name, FS_NAME_MAX + 1, "%.200s.%u", wanted, n);
}

static int add_entry(struct fs *fs, struct inode *dir, struct inode *i, const char *name)
{
	struct dentry *d;

	if (ns_reserve_dentry(fs, dir))
		return -ENOMEM;
	d = ns_new_dentry(dir, i, name, strlen(name));
	if (!d)
		return -ENOMEM;
	d->cookie = dir->dir->next_cookie++;
	fs_now(&d->time);
	ns_add_dentry(fs, d, true);
	dir->mtime = dir->ctime = d->time;
	i->name = d;
	if (i->dir)
		i->dir->parent = dir;
	return 0;
}

static struct inode *new_inode(struct fs *fs, uint32_t mode)
{
	struct inode *i = ns_new_inode(fs, fs->next[FMT_MARK_INO]++);

	if (!i)
		return NULL;
	i->mode = mode;
	i->nlink = 1;
	i->known = i->reached = true;
	fs_now(&i->ctime);
	i->atime = i->mtime = i->ctime;
	ns_account(fs, i);
	if (!S_ISDIR(mode) || !ns_make_dir(i))
		return i;
	ns_free_inode(fs, i);
	return NULL;
}

/* Positions that come from damage may be used up; fsck counts them anew. */
static void recount(struct inode *dir)
{
	if (dir->dir->next_cookie <= FMT_COOKIE_MAX / 2)
		return;
	for (uint32_t k = 0; k < dir->dir->used; k++) {
		dir->dir->slot[k].cookie = FMT_COOKIE_FIRST + k;
		if (dir->dir->slot[k].dentry)
			dir->dir->slot[k].dentry->cookie = FMT_COOKIE_FIRST + k;
	}
	dir->dir->next_cookie = FMT_COOKIE_FIRST + dir->dir->used;
}

static int find_dir(struct fs *fs)
{
	struct dentry *d = ns_lookup(fs, fs->root, "lost+found", 10);
	char name[FS_NAME_MAX + 1];
	int r;

	if (fs->lostfound)
		return 0;
	if (d && d->inode->dir && S_ISDIR(d->inode->mode)) {
		recount(d->inode);
		fs->lostfound = d->inode;
		fs->lostfound_from = d->inode->dir->next_cookie;
		return 0;
	}
	recount(fs->root);
	fs->lostfound = new_inode(fs, S_IFDIR | 0700);
	if (!fs->lostfound)
		return -ENOMEM;
	fs->lostfound_from = 0;
	free_name(fs, fs->root, "lost+found", name);
	r = add_entry(fs, fs->root, fs->lostfound, name);
	if (!r)
		fs->lostfound->references++;	/* counted with the others */
	return r;
}

int lostfound_add(struct fs *fs, struct inode *i)
{
	char wanted[32], name[FS_NAME_MAX + 1];
	int r = find_dir(fs);

	if (r)
		return r;
	snprintf(wanted, sizeof(wanted), "#%" PRIu64, i->ino);
	free_name(fs, fs->lostfound, wanted, name);
	return add_entry(fs, fs->lostfound, i, name);
}

bool lostfound_holds(const struct fs *fs, const struct inode *i)
{
	return fs->lostfound && i->name && i->name->dir == fs->lostfound && i->name->cookie >= fs->lostfound_from;
}

/* An inode of its own for storage; its form is the caller's to fill in, and then to be named. */
static int new_file(struct fs *fs, uint8_t form, uint64_t bytes, struct inode **inode)
{
	int r = find_dir(fs);
	struct inode *i = r ? NULL : new_inode(fs, S_IFREG | 0400);

	*inode = i;
	if (!i)
		return r ? r : -ENOMEM;
	ns_set_form(fs, i, form);
	i->size = i->prepared = i->dirty_end = bytes;
	return 0;
}

static int name_file(struct fs *fs, struct inode *i, const char *wanted)
{
	char name[FS_NAME_MAX + 1];

	ns_account(fs, i);
	free_name(fs, fs->lostfound, wanted, name);
	return add_entry(fs, fs->lostfound, i, name);
}

int lostfound_blocks(struct fs *fs, const char *wanted, uint64_t addr, uint64_t count)
{
	struct fmt_range *range = malloc(sizeof(*range));
	struct inode *i = NULL;
	int r = range ? new_file(fs, FMT_RANGES, count << FMT_BLOCK_SHIFT, &i) : -ENOMEM;

	if (r) {
		free(range);
		return r;
	}
	*range = (struct fmt_range){ 0, (uint32_t)count, addr };
	i->ranges = range;
	i->length = 1;
	return name_file(fs, i, wanted);
}

int lostfound_pages(struct fs *fs, const char *wanted, uint64_t addr, uint32_t pages)
{
	struct inode *i;
	int r = new_file(fs, FMT_RUN, (uint64_t)pages << FMT_PAGE_SHIFT, &i);

	if (r)
		return r;
	i->run = addr;
	i->length = pages;
	r = space_claim_run(fs, i->ino, addr, pages);
	return r ? r : name_file(fs, i, wanted);
}
