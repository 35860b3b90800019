/* SPDX-License-Identifier: BSD-3-Clause */
/* ns - the namespace in memory: inodes, directory entries, extended attributes. All under fs->lock. */
#include "fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <xxhash.h>

#define NO_MEMORY (-ENOMEM)

static uint64_t ino_hash(uint64_t ino)
{
	return ino * 0x9e3779b97f4a7c15ull >> 20;
}

static uint64_t name_hash(const struct inode *dir, const char *name, size_t length)
{
	return XXH3_64bits_withSeed(name, length, dir->ino);
}

int ns_init(struct fs *fs)
{
	fs->inode_buckets = fs->name_buckets = 1024;
	fs->inodes = calloc(fs->inode_buckets, sizeof(*fs->inodes));
	fs->names = calloc(fs->name_buckets, sizeof(*fs->names));
	fs->all.prev = fs->all.next = &fs->all;
	fs->dirty.dirty_prev = fs->dirty.dirty_next = &fs->dirty;
	return fs->inodes && fs->names ? 0 : NO_MEMORY;
}

/* A table that cannot grow only gets slower. */
static void grow_inodes(struct fs *fs)
{
	uint64_t buckets = fs->inode_buckets * 2;
	struct inode **table = calloc(buckets, sizeof(*table));

	if (!table)
		return;
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		uint64_t b = ino_hash(i->ino) & (buckets - 1);

		i->hash_next = table[b];
		table[b] = i;
	}
	free(fs->inodes);
	fs->inodes = table;
	fs->inode_buckets = buckets;
}

static void grow_names(struct fs *fs)
{
	uint64_t buckets = fs->name_buckets * 2;
	struct dentry **table = calloc(buckets, sizeof(*table)), *d, *next;

	if (!table)
		return;
	for (uint64_t b = 0; b < fs->name_buckets; b++)
		for (d = fs->names[b]; d; d = next) {
			next = d->next;
			d->next = table[d->hash & (buckets - 1)];
			table[d->hash & (buckets - 1)] = d;
		}
	free(fs->names);
	fs->names = table;
	fs->name_buckets = buckets;
}

struct inode *ns_find(struct fs *fs, uint64_t ino)
{
	struct inode *i = fs->inodes[ino_hash(ino) & (fs->inode_buckets - 1)];

	while (i && i->ino != ino)
		i = i->hash_next;
	return i;
}

struct inode *ns_new_inode(struct fs *fs, uint64_t ino)
{
	struct inode *i = calloc(1, sizeof(*i));
	uint64_t b;

	if (!i || pthread_rwlock_init(&i->io, NULL)) {
		free(i);
		return NULL;
	}
	if (fs->inode_count >= fs->inode_buckets)
		grow_inodes(fs);
	i->ino = ino;
	b = ino_hash(ino) & (fs->inode_buckets - 1);
	i->hash_next = fs->inodes[b];
	fs->inodes[b] = i;
	i->prev = fs->all.prev;
	i->next = &fs->all;
	i->prev->next = i->next->prev = i;
	fs->inode_count++;
	return i;
}

static void free_xattrs(struct inode *i)
{
	for (struct xattr *x = i->xattrs, *next; x; x = next) {
		next = x->next;
		free(x->value);
		free(x);
	}
	i->xattrs = NULL;
}

void ns_free_inode(struct fs *fs, struct inode *i)
{
	struct inode **p = &fs->inodes[ino_hash(i->ino) & (fs->inode_buckets - 1)];

	while (*p && *p != i)
		p = &(*p)->hash_next;
	if (*p)
		*p = i->hash_next;
	if (fs->cursor == i)
		fs->cursor = i->next;
	i->prev->next = i->next;
	i->next->prev = i->prev;
	ns_clean(fs, i);
	fs->inode_count--;
	fs->live -= i->accounted;
	for (struct xattr *x = i->xattrs; x; x = x->next)
		fs->live -= fmt_xattr_size(x->name_length, x->length);
	free_xattrs(i);
	if (i->form == FMT_INLINE)
		free(i->data);
	else if (i->form == FMT_RANGES)
		free(i->ranges);
	if (i->dir) {
		free(i->dir->slot);
		free(i->dir);
	}
	pthread_rwlock_destroy(&i->io);
	free(i);
}

void ns_renumber(struct fs *fs, struct inode *i, uint64_t ino)
{
	struct inode **p = &fs->inodes[ino_hash(i->ino) & (fs->inode_buckets - 1)];

	while (*p && *p != i)
		p = &(*p)->hash_next;
	if (*p)
		*p = i->hash_next;
	/* The names in it are hashed with its number. */
	for (uint32_t k = 0; i->dir && k < i->dir->used; k++) {
		struct dentry *d = i->dir->slot[k].dentry, **q;

		if (!d)
			continue;
		for (q = &fs->names[d->hash & (fs->name_buckets - 1)]; *q && *q != d; q = &(*q)->next)
			;
		if (*q)
			*q = d->next;
	}
	i->ino = ino;
	p = &fs->inodes[ino_hash(ino) & (fs->inode_buckets - 1)];
	i->hash_next = *p;
	*p = i;
	for (uint32_t k = 0; i->dir && k < i->dir->used; k++) {
		struct dentry *d = i->dir->slot[k].dentry;

		if (!d)
			continue;
		d->hash = name_hash(i, d->name, d->length);
		d->next = fs->names[d->hash & (fs->name_buckets - 1)];
		fs->names[d->hash & (fs->name_buckets - 1)] = d;
	}
}

int ns_make_dir(struct inode *i)
{
	if (!i->dir) {
		i->dir = calloc(1, sizeof(*i->dir));
		if (!i->dir)
			return NO_MEMORY;
		i->dir->next_cookie = FMT_COOKIE_FIRST;
	}
	return 0;
}

struct dentry *ns_lookup(struct fs *fs, struct inode *dir, const char *name, size_t length)
{
	uint64_t hash = name_hash(dir, name, length);
	struct dentry *d = fs->names[hash & (fs->name_buckets - 1)];

	while (d && (d->hash != hash || d->dir != dir || d->length != length || memcmp(d->name, name, length)))
		d = d->next;
	return d;
}

struct dentry *ns_new_dentry(struct inode *dir, struct inode *inode, const char *name, size_t length)
{
	struct dentry *d = calloc(1, sizeof(*d) + length + 1);

	if (!d)
		return NULL;
	d->dir = dir;
	d->inode = inode;
	d->length = (uint8_t)length;
	memcpy(d->name, name, length);
	return d;
}

/* Drops the removed slots once they are the larger part. */
static void compact(struct dir *dir)
{
	uint32_t to = 0;

	for (uint32_t from = 0; from < dir->used; from++)
		if (dir->slot[from].dentry)
			dir->slot[to++] = dir->slot[from];
	dir->used = to;
	dir->removed = 0;
}

int ns_reserve_dentry(struct fs *fs, struct inode *inode)
{
	struct dir *dir = inode->dir;

	if (dir->used + 2 > dir->room) {
		uint32_t room = dir->room ? dir->room * 2 : 8;
		struct dir_slot *slot;

		if (room < dir->room || !(slot = realloc(dir->slot, room * sizeof(*slot))))
			return NO_MEMORY;
		dir->slot = slot;
		dir->room = room;
	}
	return 0;
}

uint32_t ns_slot_after(const struct dir *dir, uint64_t cookie)
{
	uint32_t low = 0, high = dir->used;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (dir->slot[middle].cookie <= cookie)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct dentry *ns_dentry_at(struct inode *inode, uint64_t cookie)
{
	uint32_t k = ns_slot_after(inode->dir, cookie - 1);

	return k < inode->dir->used && inode->dir->slot[k].cookie == cookie ? inode->dir->slot[k].dentry : NULL;
}

void ns_name_dentry(struct fs *fs, struct dentry *d)
{
	if (fs->dentry_count >= fs->name_buckets)
		grow_names(fs);
	d->hash = name_hash(d->dir, d->name, d->length);
	d->next = fs->names[d->hash & (fs->name_buckets - 1)];
	fs->names[d->hash & (fs->name_buckets - 1)] = d;
	if (S_ISDIR(d->inode->mode) && d->inode->dir) {
		d->inode->dir->parent = d->dir;
		d->dir->dir->subdirs++;
	}
}

/* The slot goes where its cookie belongs: at the end, but for replay, which may also see a cookie again. */
void ns_add_dentry(struct fs *fs, struct dentry *d, bool name_too)
{
	struct dir *dir = d->dir->dir;
	uint32_t k = ns_slot_after(dir, d->cookie - 1);

	if (k < dir->used && dir->slot[k].cookie == d->cookie) {
		dir->removed--;
	} else {
		memmove(dir->slot + k + 1, dir->slot + k, (dir->used - k) * sizeof(*dir->slot));
		dir->slot[k].cookie = d->cookie;
		dir->used++;
	}
	dir->slot[k].dentry = d;
	if (d->cookie >= dir->next_cookie)
		dir->next_cookie = d->cookie + 1;
	fs->dentry_count++;
	fs->live += fmt_dentry_size(d->length);
	if (name_too)
		ns_name_dentry(fs, d);
}

void ns_remove_dentry(struct fs *fs, struct dentry *d)
{
	struct dentry **p = &fs->names[d->hash & (fs->name_buckets - 1)];
	struct dir *dir = d->dir->dir;
	uint32_t k = ns_slot_after(dir, d->cookie - 1);

	if (d->inode->name == d)
		d->inode->name = NULL;
	while (*p && *p != d)
		p = &(*p)->next;
	if (*p) {
		*p = d->next;
		if (S_ISDIR(d->inode->mode) && d->inode->dir)
			dir->subdirs--;
	}
	if (k < dir->used && dir->slot[k].dentry == d) {
		dir->slot[k].dentry = NULL;
		if (++dir->removed > 16 && dir->removed > dir->used / 2)
			compact(dir);
	}
	fs->dentry_count--;
	fs->live -= fmt_dentry_size(d->length);
	free(d);
}

struct xattr *ns_xattr(struct inode *i, const char *name, size_t length)
{
	struct xattr *x = i->xattrs;

	while (x && (x->name_length != length || memcmp(x->name, name, length)))
		x = x->next;
	return x;
}

int ns_set_xattr(struct fs *fs, struct inode *i, const char *name, size_t length, const void *value, size_t size)
{
	struct xattr *x = ns_xattr(i, name, length), **tail = &i->xattrs;
	char *copy = malloc(size ? size : 1);

	if (!copy)
		return NO_MEMORY;
	memcpy(copy, value, size);
	if (!x) {
		x = calloc(1, sizeof(*x) + length + 1);
		if (!x) {
			free(copy);
			return NO_MEMORY;
		}
		x->name_length = (uint8_t)length;
		memcpy(x->name, name, length);
		while (*tail)
			tail = &(*tail)->next;
		*tail = x;
	} else {
		fs->live -= fmt_xattr_size(x->name_length, x->length);
		free(x->value);
	}
	x->value = copy;
	x->length = (uint32_t)size;
	fs->live += fmt_xattr_size(x->name_length, x->length);
	return 0;
}

void ns_drop_xattr(struct fs *fs, struct inode *i, struct xattr *x)
{
	struct xattr **p = &i->xattrs;

	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	fs->live -= fmt_xattr_size(x->name_length, x->length);
	free(x->value);
	free(x);
}

uint64_t ns_blocks(struct fs *fs, struct inode *i, uint64_t end)
{
	uint64_t blocks = 0, leaving = 0, last = (end + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT;

	if (i->form != FMT_RANGES)
		return 0;
	/* These first: they may be freed while we count, and a block that goes must not be counted as one that stays. */
	for (struct drop *d = i->holes; d; d = d->hole_next)
		if (d->fblock < last)
			leaving += vol_count(fs->vol, d->addr, d->fblock + d->count > last ? last - d->fblock : d->count);
	for (uint32_t k = 0; k < i->length && i->ranges[k].fblock < last; k++) {
		uint64_t count = i->ranges[k].count;

		if (i->ranges[k].fblock + count > last)
			count = last - i->ranges[k].fblock;
		blocks += vol_count(fs->vol, i->ranges[k].base, count);
	}
	return blocks > leaving ? blocks - leaving : 0;
}

void ns_stat(struct fs *fs, struct inode *i, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = i->ino;
	st->st_mode = i->mode;
	st->st_nlink = i->dir && i->nlink ? 2 + i->dir->subdirs : i->nlink;
	st->st_uid = i->uid;
	st->st_gid = i->gid;
	st->st_rdev = (dev_t)i->rdev;
	st->st_size = (off_t)(i->dir ? (i->dir->used - i->dir->removed) * 64 : i->size);
	st->st_blksize = FMT_PAGE;
	if (i->form == FMT_RUN)
		st->st_blocks = i->length * (FMT_PAGE / 512);
	else if (i->form == FMT_RANGES)
		st->st_blocks = (blkcnt_t)(ns_blocks(fs, i, i->size > i->alloc_end ? i->size : i->alloc_end) * (FMT_BLOCK / 512));
	st->st_atim = i->atime;
	st->st_mtim = i->mtime;
	st->st_ctim = i->ctime;
}

void ns_account(struct fs *fs, struct inode *i)
{
	size_t now = fmt_inode_size(i->form, i->length);

	fs->live += now - i->accounted;
	if (i->dirty)
		fs->dirty_bytes += now - i->accounted;
	i->accounted = now;
}

void ns_dirty(struct fs *fs, struct inode *i)
{
	ns_account(fs, i);
	if (i->dirty)
		return;
	i->dirty = true;
	i->dirty_prev = fs->dirty.dirty_prev;
	i->dirty_next = &fs->dirty;
	i->dirty_prev->dirty_next = i->dirty_next->dirty_prev = i;
	fs->dirty_bytes += i->accounted;
}

void ns_clean(struct fs *fs, struct inode *i)
{
	if (!i->dirty)
		return;
	i->dirty = false;
	i->dirty_prev->dirty_next = i->dirty_next;
	i->dirty_next->dirty_prev = i->dirty_prev;
	fs->dirty_bytes -= i->accounted;
}

void ns_set_form(struct fs *fs, struct inode *i, uint8_t form)
{
	if (i->form == FMT_INLINE)
		free(i->data);
	else if (i->form == FMT_RANGES)
		free(i->ranges);
	i->form = form;
	i->length = 0;
	i->ranges = NULL;
	if (form == FMT_RUN)
		i->run = 0;
	ns_account(fs, i);
}

void ns_destroy(struct fs *fs)
{
	/* Through the directories: replay names its entries only at its end. */
	for (struct inode *i = fs->all.next; fs->inodes && i != &fs->all; i = i->next)
		for (uint32_t k = 0; i->dir && k < i->dir->used; k++)
			free(i->dir->slot[k].dentry);
	free(fs->names);
	fs->names = NULL;
	while (fs->inodes && fs->all.next != &fs->all)
		ns_free_inode(fs, fs->all.next);
	free(fs->inodes);
	fs->inodes = NULL;
}
