/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree - all that a user can see of a mounted filesystem, taken by walking it:
 * names, attributes, link targets, extended attributes and every byte.
 *
 * The walk is itself a test: what readdir, lookup, getattr and read say of one thing must agree.
 */
#ifndef TESTS_TREE_H
#define TESTS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core.h"

struct tree_entry {
	char *name;
	uint64_t ino, position;
};

struct tree_xattr {
	char *name;
	uint8_t *value;
	size_t size;
};

struct tree_node {
	struct stat st;
	uint64_t parent;		/* of a directory: what ".." says */
	uint64_t links;			/* names found */
	char *path;			/* one of them */
	uint8_t *data;			/* regular: st.st_size bytes; symlink: the target with its NUL */
	struct tree_entry *entries;	/* directory, in order of readdir, without . and .. */
	size_t entry_count;
	struct tree_xattr *xattrs;	/* sorted by name */
	size_t xattr_count;
};

struct tree {
	struct tree_node *nodes;	/* the root first */
	size_t count;
	uint64_t bytes;
};

/* 0; or a negative errno, and *why, malloc'ed, says what failed or did not agree. */
int tree_take(struct tree *tree, struct fs *fs, char **why);
void tree_free(struct tree *tree);
const struct tree_node *tree_find(const struct tree *tree, uint64_t ino);
/* Attributes alone, but for atime. */
bool tree_same_stat(const struct stat *a, const struct stat *b);
/* NULL if both are the same to a user, times and readdir positions included; else a malloc'ed text. */
char *tree_differ(const struct tree *a, const struct tree *b);

#endif
