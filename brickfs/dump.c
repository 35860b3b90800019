/* SPDX-License-Identifier: BSD-3-Clause */
/* dump - a filesystem as a text: the same for two that look the same to a user. For tests. */
#include "fs.h"

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

static uint64_t contents(struct fs *fs, uint64_t ino, uint64_t size)
{
	uint8_t *buf = malloc(1 << 20);
	uint64_t hash = 0;

	for (uint64_t at = 0; buf && at < size;) {
		int64_t n;

		if (size > SPARSE && at == 8u << 20)	/* of what is nearly all holes, both ends */
			at = size - (8u << 20);
		n = fs_read(fs, ino, buf, 1 << 20, at);
		if (n <= 0) {
			hash = ~0ull;
			break;
		}
		hash = hash * 31 + fmt_checksum(buf, (size_t)n);
		at += (uint64_t)n;
	}
	free(buf);
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
		     (unsigned long long)(S_ISREG(i->mode) ? contents(fs, i->ino, i->size) :
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
