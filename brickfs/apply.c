/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * apply - one record of the log after the other into the namespace: the last record of a key wins.  What a record refers
 * to may come later, or not at all: settle.c looks at the end.
 */
#include "fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void apply_marks(struct fs *fs, const struct fmt_marks *m)
{
	for (int k = 0; k < FMT_MARKS_COUNT; k++)
		if (fs->next[k] < m->mark[k])
			fs->next[k] = m->mark[k];
}

static struct inode *get(struct fs *fs, uint64_t ino)
{
	struct inode *i = ns_find(fs, ino);

	return i ? i : ns_new_inode(fs, ino);
}

/*
 * Positions count up by one with each name: what is passed over by a record behind damage was given in records that are lost. Of a
 * directory that is not known from before nothing can be said, and a checkpoint leaves out what was removed.
 */
static void pass_cookies(const struct fs *fs, struct inode *dir, uint64_t next, bool head)
{
	if (head && fs->records_lost && dir->known && next > dir->dir->next_cookie)
		dir->dir->unseen += next - dir->dir->next_cookie;
}

static int apply_inode(struct fs *fs, const struct fmt_inode *r, bool head)
{
	struct inode *i = get(fs, r->ino);

	if (i && (i->gone || (i->known && (i->mode ^ r->mode) & S_IFMT)))
		return -EUCLEAN;	/* numbers are never used twice, and types do not change */
	if (!i || (S_ISDIR(r->mode) && ns_make_dir(i)))
		return -ENOMEM;
	if (i->dir)
		pass_cookies(fs, i, r->next_cookie, head);
	i->known = true;
	if (fs->options.check)
		i->batch = fs->log.applying;
	i->mode = r->mode;
	i->nlink = r->nlink;
	i->uid = r->uid;
	i->gid = r->gid;
	i->rdev = r->rdev;
	i->size = r->size;
	i->alloc_end = r->alloc_end;
	i->recorded_blocks = r->blocks;
	i->atime = r->atime;
	i->mtime = r->mtime;
	i->ctime = r->ctime;
	if (i->dir && i->dir->next_cookie < r->next_cookie)
		i->dir->next_cookie = r->next_cookie;
	ns_set_form(fs, i, (uint8_t)r->form);
	if (r->form == FMT_INLINE && r->length) {
		i->data = malloc(r->length);
		if (!i->data)
			return -ENOMEM;
		memcpy(i->data, r->data, r->length);
	} else if (r->form == FMT_RUN) {
		i->run = r->run;
	} else if (r->form == FMT_RANGES) {
		i->ranges = malloc((r->length + 1) * sizeof(*i->ranges));
		if (!i->ranges)
			return -ENOMEM;
		for (uint32_t k = 0; k < r->length; k++)
			fmt_get_range(r->raw_ranges, k, &i->ranges[k]);
	}
	i->length = r->length;
	ns_account(fs, i);
	return 0;
}

static void touch_dir(const struct fs *fs, struct inode *dir, uint64_t cookie, const struct timespec *time, bool head)
{
	pass_cookies(fs, dir, cookie, head);
	if (dir->dir->next_cookie <= cookie)
		dir->dir->next_cookie = cookie + 1;
	if (head)
		dir->mtime = dir->ctime = *time;
}

static int apply_dentry(struct fs *fs, const struct fmt_dentry *r, bool head)
{
	struct inode *dir = get(fs, r->dir), *i = get(fs, r->ino);
	struct dentry *d;

	if (!dir || !i || ns_make_dir(dir) || ns_reserve_dentry(fs, dir))
		return -ENOMEM;
	d = ns_dentry_at(dir, r->cookie);
	if (d)
		ns_remove_dentry(fs, d);
	/* A removed slot of that cookie would stand in the way of the order. */
	d = ns_new_dentry(dir, i, r->name, r->name_length);
	if (!d)
		return -ENOMEM;
	d->cookie = r->cookie;
	d->time = r->time;
	pass_cookies(fs, dir, r->cookie, head);
	ns_add_dentry(fs, d, false);
	touch_dir(fs, dir, r->cookie, &r->time, head);
	return 0;
}

int apply_record(struct fs *fs, const struct fmt_record *r, bool head)
{
	struct inode *i;
	struct dentry *d;
	struct xattr *x;
	int error;

	switch (r->type) {
	case FMT_INODE:
		return apply_inode(fs, &r->inode, head);
	case FMT_INODE_GONE:
		i = ns_find(fs, r->gone);
		if (i) {
			i->gone = true;
			i->known = false;
			while (i->xattrs)
				ns_drop_xattr(fs, i, i->xattrs);
		}
		return 0;
	case FMT_DENTRY:
		return apply_dentry(fs, &r->dentry, head);
	case FMT_DENTRY_GONE:
		i = get(fs, r->dentry_gone.dir);
		if (!i || ns_make_dir(i))
			return -ENOMEM;
		d = ns_dentry_at(i, r->dentry_gone.cookie);
		if (d)
			ns_remove_dentry(fs, d);
		else if (head && i->dir->unseen && r->dentry_gone.cookie < i->dir->next_cookie)
			i->dir->unseen--;	/* it was one of those, and is gone */
		touch_dir(fs, i, r->dentry_gone.cookie, &r->dentry_gone.time, head);
		return 0;
	case FMT_XATTR:
		i = get(fs, r->xattr.ino);
		if (!i)
			return -ENOMEM;
		error = ns_set_xattr(fs, i, r->xattr.name, r->xattr.name_length, r->xattr.value, r->xattr.length);
		if (head)
			i->ctime = r->xattr.time;
		return error;
	case FMT_XATTR_GONE:
		i = ns_find(fs, r->xattr.ino);
		x = i ? ns_xattr(i, r->xattr.name, r->xattr.name_length) : NULL;
		if (x)
			ns_drop_xattr(fs, i, x);
		if (i && head)
			i->ctime = r->xattr.time;
		return 0;
	case FMT_MARKS:
		apply_marks(fs, &r->marks);
		return 0;
	case FMT_CHECKPOINT_DONE:
		return 0;
	}
	return -EUCLEAN;
}
