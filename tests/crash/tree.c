/* SPDX-License-Identifier: BSD-3-Clause */
/* tree - see tree.h. Taking it; comparing is in tree-compare.c. */
#include "tree.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	struct fs *fs;
	struct tree *tree;
	char **why;
};

struct entries {
	struct tree_entry *all;
	struct stat *stats;
	size_t count, room;
	uint64_t dotdot;
	unsigned dots;
	uint64_t stop;		/* takes so many entries in one call, then says that there is no room */
	uint64_t taken;
	uint64_t last;
	int bad;		/* positions that do not ascend */
};

static int __attribute__((format(printf, 3, 4))) fail(struct walk *w, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	free(*w->why);
	if (vasprintf(w->why, format, args) < 0)
		need(NULL);
	va_end(args);
	return error ? error : -EUCLEAN;
}

static int take_entry(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct entries *e = arg;

	if (e->taken == e->stop)
		return 1;
	e->taken++;
	if (position <= e->last)
		e->bad = 1;
	e->last = position;
	if (!strcmp(name, ".") || !strcmp(name, "..")) {
		e->dots++;
		if (name[1])
			e->dotdot = st->st_ino;
		return 0;
	}
	if (e->count == e->room) {
		e->room = e->room ? 2 * e->room : 8;
		e->all = need(realloc(e->all, e->room * sizeof(*e->all)));
		e->stats = need(realloc(e->stats, e->room * sizeof(*e->stats)));
	}
	e->all[e->count] = (struct tree_entry){.name = need(strdup(name)), .ino = st->st_ino, .position = position};
	e->stats[e->count++] = *st;
	return 0;
}

static int take_xattrs(struct walk *w, struct tree_node *n)
{
	int64_t length = fs_listxattr(w->fs, n->st.st_ino, NULL, 0), got;
	char *list, *name;

	if (length <= 0)
		return length ? fail(w, length, "%s: listxattr: %s", n->path, strerror(-length)) : 0;
	list = need(malloc(length));
	got = fs_listxattr(w->fs, n->st.st_ino, list, length);
	if (got != length || list[length - 1]) {
		free(list);
		return fail(w, 0, "%s: listxattr said %lld bytes, then %lld", n->path, (long long)length, (long long)got);
	}
	for (name = list; name < list + length; name += strlen(name) + 1) {
		struct tree_xattr *x;
		size_t at = n->xattr_count;

		got = fs_getxattr(w->fs, n->st.st_ino, name, NULL, 0);
		if (got < 0) {
			fail(w, got, "%s: getxattr %s: %s", n->path, name, strerror(-got));
			free(list);
			return got;
		}
		n->xattrs = need(realloc(n->xattrs, (n->xattr_count + 1) * sizeof(*n->xattrs)));
		while (at && strcmp(n->xattrs[at - 1].name, name) > 0) {
			n->xattrs[at] = n->xattrs[at - 1];
			at--;
		}
		x = &n->xattrs[at];
		n->xattr_count++;
		*x = (struct tree_xattr){.name = need(strdup(name)), .value = need(malloc(got + 1)), .size = got};
		if (fs_getxattr(w->fs, n->st.st_ino, name, x->value, x->size) != got && got) {
			fail(w, 0, "%s: getxattr %s: its length is not its size", n->path, name);
			free(list);
			return -EUCLEAN;
		}
	}
	free(list);
	return 0;
}

static int take_data(struct walk *w, struct tree_node *n)
{
	uint64_t size = n->st.st_size;
	int64_t got;
	char more;
	int rc;

	if (S_ISLNK(n->st.st_mode)) {
		n->data = need(calloc(1, FS_SYMLINK_MAX + 1));
		rc = fs_readlink(w->fs, n->st.st_ino, (char *)n->data, FS_SYMLINK_MAX + 1);
		if (rc < 0)
			return fail(w, rc, "%s: readlink: %s", n->path, strerror(-rc));
		if (strlen((char *)n->data) != size)
			return fail(w, 0, "%s: a target of %zu bytes, st_size %llu", n->path, strlen((char *)n->data),
				    (unsigned long long)size);
		return 0;
	}
	if (!S_ISREG(n->st.st_mode))
		return 0;
	if (size > 1ull << 30)
		return fail(w, 0, "%s: a size of %llu bytes", n->path, (unsigned long long)size);
	n->data = need(malloc(size + 8));
	rc = fs_open(w->fs, n->st.st_ino, false);
	if (rc)
		return fail(w, rc, "%s: open: %s", n->path, strerror(-rc));
	got = fs_read(w->fs, n->st.st_ino, n->data, size, 0);
	rc = 0;
	if (got < 0)
		rc = fail(w, got, "%s: read: %s", n->path, strerror(-got));
	else if ((uint64_t)got != size)
		rc = fail(w, 0, "%s: read answered %lld of %llu bytes", n->path, (long long)got, (unsigned long long)size);
	else if (fs_read(w->fs, n->st.st_ino, &more, 1, size) != 0)
		rc = fail(w, 0, "%s: there is something to read at its end", n->path);
	fs_release(w->fs, n->st.st_ino);
	w->tree->bytes += size;
	return rc;
}

static int take_node(struct walk *w, uint64_t ino, const char *path, uint64_t parent);

static int take_directory(struct walk *w, size_t index)
{
	uint64_t ino = w->tree->nodes[index].st.st_ino;
	char *path = w->tree->nodes[index].path, *sub;
	struct entries e = {.stop = UINT64_MAX}, again = {.stop = 1};
	struct stat st;
	size_t i, j;
	int rc;

	rc = fs_readdir(w->fs, ino, 0, true, take_entry, &e);
	if (rc) {
		rc = fail(w, rc, "%s: readdir: %s", path, strerror(-rc));
		goto out;
	}
	if (e.bad || e.dots != 2) {
		rc = fail(w, 0, "%s: readdir: %s", path, e.bad ? "positions that do not ascend" : "not exactly . and ..");
		goto out;
	}
	for (i = 0; i < e.count; i++)
		fs_forget(w->fs, e.all[i].ino, 1);
	/* once more, one entry a call, without stat */
	do {
		again.taken = 0;
		rc = fs_readdir(w->fs, ino, again.last, false, take_entry, &again);
	} while (!rc && again.taken);
	if (rc || again.bad || again.count != e.count) {
		rc = fail(w, rc, "%s: readdir one by one answers %zu entries, at once %zu", path, again.count, e.count);
		goto out;
	}
	w->tree->nodes[index].parent = e.dotdot;
	for (i = 0; i < e.count; i++) {
		if (strcmp(e.all[i].name, again.all[i].name) || e.all[i].ino != again.all[i].ino ||
		    e.all[i].position != again.all[i].position ||
		    (e.stats[i].st_mode & S_IFMT) != (again.stats[i].st_mode & S_IFMT)) {
			rc = fail(w, 0, "%s: readdir one by one and readdirplus differ at %s", path, e.all[i].name);
			goto out;
		}
		for (j = 0; j < i; j++)
			if (!strcmp(e.all[i].name, e.all[j].name)) {
				rc = fail(w, 0, "%s: readdir answers %s twice", path, e.all[i].name);
				goto out;
			}
		rc = fs_lookup(w->fs, ino, e.all[i].name, &st);
		if (rc) {
			rc = fail(w, rc, "%s: lookup of %s, which readdir answered: %s", path, e.all[i].name, strerror(-rc));
			goto out;
		}
		fs_forget(w->fs, st.st_ino, 1);
		if (!tree_same_stat(&st, &e.stats[i])) {
			rc = fail(w, 0, "%s: lookup and readdirplus of %s differ", path, e.all[i].name);
			goto out;
		}
		if (asprintf(&sub, "%s/%s", path[1] ? path : "", e.all[i].name) < 0)
			need(NULL);
		rc = take_node(w, e.all[i].ino, sub, ino);
		free(sub);
		if (rc)
			goto out;
	}
	w->tree->nodes[index].entries = e.all;
	w->tree->nodes[index].entry_count = e.count;
	e.all = NULL;
	e.count = 0;
out:
	for (i = 0; i < e.count; i++)
		free(e.all[i].name);
	for (i = 0; i < again.count; i++)
		free(again.all[i].name);
	free(e.all);
	free(e.stats);
	free(again.all);
	free(again.stats);
	return rc;
}

static int take_node(struct walk *w, uint64_t ino, const char *path, uint64_t parent)
{
	struct tree_node *n = (struct tree_node *)tree_find(w->tree, ino);
	int rc;

	if (n) {
		n->links++;
		if (S_ISDIR(n->st.st_mode))
			return fail(w, 0, "%s: directory %llu has another name, %s", path, (unsigned long long)ino, n->path);
		return 0;
	}
	w->tree->nodes = need(realloc(w->tree->nodes, (w->tree->count + 1) * sizeof(*n)));
	n = &w->tree->nodes[w->tree->count++];
	memset(n, 0, sizeof(*n));
	n->links = 1;
	n->path = need(strdup(path));
	rc = fs_getattr(w->fs, ino, &n->st);
	if (rc)
		return fail(w, rc, "%s: getattr: %s", path, strerror(-rc));
	if (n->st.st_ino != ino)
		return fail(w, 0, "%s: getattr answers inode %llu for %llu", path, (unsigned long long)n->st.st_ino,
			    (unsigned long long)ino);
	rc = take_data(w, n);
	if (!rc)
		rc = take_xattrs(w, n);
	if (!rc && S_ISDIR(n->st.st_mode)) {
		size_t index = n - w->tree->nodes;

		rc = take_directory(w, index);
		n = &w->tree->nodes[index];
		if (!rc && n->parent != parent)
			rc = fail(w, 0, "%s: its .. is %llu, not %llu", path, (unsigned long long)n->parent,
				  (unsigned long long)parent);
	}
	return rc;
}

int tree_take(struct tree *tree, struct fs *fs, char **why)
{
	struct walk w = {.fs = fs, .tree = tree, .why = why};
	size_t i, j;
	int rc;

	memset(tree, 0, sizeof(*tree));
	*why = NULL;
	rc = take_node(&w, FS_ROOT_INO, "/", FS_ROOT_INO);
	for (i = 0; !rc && i < tree->count; i++) {
		struct tree_node *n = &tree->nodes[i];
		uint64_t links = n->links;

		if (S_ISDIR(n->st.st_mode)) {
			links = 2;
			for (j = 0; j < n->entry_count; j++)
				links += S_ISDIR(tree_find(tree, n->entries[j].ino)->st.st_mode);
		}
		if (links != n->st.st_nlink)
			rc = fail(&w, 0, "%s: st_nlink %llu, counted %llu", n->path, (unsigned long long)n->st.st_nlink,
				  (unsigned long long)links);
	}
	return rc;
}

