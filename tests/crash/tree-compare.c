/* SPDX-License-Identifier: BSD-3-Clause */
/* tree-compare - two trees side by side. */
#include "tree.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tree_same_stat(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_nlink == b->st_nlink &&
	       a->st_size == b->st_size && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
	       a->st_blocks == b->st_blocks && a->st_rdev == b->st_rdev && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

void tree_free(struct tree *tree)
{
	size_t i, j;

	for (i = 0; i < tree->count; i++) {
		struct tree_node *n = &tree->nodes[i];

		for (j = 0; j < n->entry_count; j++)
			free(n->entries[j].name);
		for (j = 0; j < n->xattr_count; j++) {
			free(n->xattrs[j].name);
			free(n->xattrs[j].value);
		}
		free(n->entries);
		free(n->xattrs);
		free(n->data);
		free(n->path);
	}
	free(tree->nodes);
	memset(tree, 0, sizeof(*tree));
}

const struct tree_node *tree_find(const struct tree *tree, uint64_t ino)
{
	size_t i;

	for (i = 0; i < tree->count; i++)
		if (tree->nodes[i].st.st_ino == ino)
			return &tree->nodes[i];
	return NULL;
}

static const char *node_differs(const struct tree_node *a, const struct tree_node *b)
{
	size_t i;

	if (a->st.st_size != b->st.st_size)
		return "size";
	if (!tree_same_stat(&a->st, &b->st))
		return a->st.st_blocks != b->st.st_blocks ? "st_blocks" : "attributes";
	if (a->parent != b->parent || a->entry_count != b->entry_count)
		return "entries";
	for (i = 0; i < a->entry_count; i++)
		if (strcmp(a->entries[i].name, b->entries[i].name) || a->entries[i].ino != b->entries[i].ino ||
		    a->entries[i].position != b->entries[i].position)
			return "entries";
	if (a->xattr_count != b->xattr_count)
		return "xattrs";
	for (i = 0; i < a->xattr_count; i++)
		if (strcmp(a->xattrs[i].name, b->xattrs[i].name) || a->xattrs[i].size != b->xattrs[i].size ||
		    memcmp(a->xattrs[i].value, b->xattrs[i].value, a->xattrs[i].size))
			return "xattrs";
	if (a->data && memcmp(a->data, b->data, a->st.st_size))
		return "content";
	return NULL;
}

char *tree_differ(const struct tree *a, const struct tree *b)
{
	char *text = NULL;
	size_t i;

	for (i = 0; i < a->count; i++) {
		const struct tree_node *n = &a->nodes[i], *m = tree_find(b, n->st.st_ino);
		const char *what = m ? node_differs(n, m) : "gone";

		if (what) {
			if (asprintf(&text, "%s (inode %llu): %s: size %lld then %lld, blocks %lld then %lld", n->path,
				     (unsigned long long)n->st.st_ino, what, (long long)n->st.st_size,
				     m ? (long long)m->st.st_size : -1, (long long)n->st.st_blocks,
				     m ? (long long)m->st.st_blocks : -1) < 0)
				need(NULL);
			return text;
		}
	}
	if (a->count != b->count && asprintf(&text, "%zu inodes, then %zu", a->count, b->count) < 0)
		need(NULL);
	return text;
}
