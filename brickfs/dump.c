/* SPDX-License-Identifier: BSD-3-Clause */
/* dump - a filesystem as a text: the same for two that look the same to a user. For tests. */
#include "file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lines {
	char **line;
	size_t n, room;
};

static void add(struct lines *l, char *line)
{
	if (l->n == l->room) {
		l->room = l->room ? 2 * l->room : 64;
		l->line = realloc(l->line, l->room * sizeof(*l->line));
		if (!l->line)
			abort();
	}
	l->line[l->n++] = line;
}

#define SPARSE (4ull << 30)	/* bytes: no test writes so many */

/* A block that is not there reads as zeroes: most of a sparse file, and not worth reading. */
static bool is_hole(struct fs *fs, const struct inode *i, uint64_t at)
{
	return i->form == FMT_RANGES && !(at % FMT_BLOCK) && !shape_existing(fs, i, at >> FMT_BLOCK_SHIFT);
}

static uint64_t contents(struct fs *fs, const struct inode *i)
{
	static uint8_t buf[FMT_BLOCK];
	static uint64_t zeroes;
	uint64_t hash = 0;

	if (!zeroes)
		zeroes = fmt_checksum(file_zeroes, FMT_BLOCK);
	for (uint64_t at = 0; at < i->size; at += FMT_BLOCK) {
		uint64_t length;

		if (i->size > SPARSE && at == 8u << 20)	/* of what is nearly all holes, both ends */
			at = (i->size - (8u << 20)) & ~(FMT_BLOCK - 1);
		length = i->size - at < FMT_BLOCK ? i->size - at : FMT_BLOCK;
		if (is_hole(fs, i, at)) {
			hash = hash * 31 + (length == FMT_BLOCK ? zeroes : fmt_checksum(file_zeroes, length));
			continue;
		}
		if (fs_read(fs, i->ino, buf, length, at) != (int64_t)length)
			return ~0ull;
		hash = hash * 31 + fmt_checksum(buf, length);
	}
	return hash;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Single-threaded: tests only. */
static void dump_inode(struct fs *fs, struct lines *l, struct inode *i, const char *path)
{
	uint64_t attributes = 0;
	struct stat st;
	char *line;

	for (struct xattr *x = i->xattrs; x; x = x->next)
		attributes += fmt_checksum(x->name, x->name_length) ^ fmt_checksum(x->value, x->length) * 3;
	ns_stat(fs, i, &st);
	if (asprintf(&line, "%s mode %o uid %u gid %u nlink %u size %llu rdev %llu xattrs %llx data %llx\n", path[0] ? path : "/",
		     i->mode, i->uid, i->gid, (unsigned)st.st_nlink, (unsigned long long)(i->dir ? 0 : i->size),
		     (unsigned long long)i->rdev, (unsigned long long)attributes,
		     (unsigned long long)(S_ISREG(i->mode) ? contents(fs, i) :
					  S_ISLNK(i->mode) ? fmt_checksum(i->data, i->length) : 0)) < 0)
		abort();
	add(l, line);
	for (uint32_t k = 0; i->dir && k < i->dir->used; k++) {
		struct dentry *d = i->dir->slot[k].dentry;
		char *child;

		if (!d)
			continue;
		if (asprintf(&child, "%s/%s", path, d->name) < 0)
			abort();
		dump_inode(fs, l, d->inode, child);
		free(child);
	}
}

char *fs_dump(struct fs *fs)
{
	struct lines l = { 0 };
	size_t length = 0;
	char *text, *p;

	dump_inode(fs, &l, fs->root, "");
	qsort(l.line, l.n, sizeof(*l.line), by_text);
	for (size_t k = 0; k < l.n; k++)
		length += strlen(l.line[k]);
	p = text = malloc(length + 1);
	for (size_t k = 0; k < l.n; k++) {
		if (text)
			p = stpcpy(p, l.line[k]);
		free(l.line[k]);
	}
	if (text)
		*p = 0;
	free(l.line);
	return text;
}
