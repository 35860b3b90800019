/* SPDX-License-Identifier: BSD-3-Clause */
/* soak-settle - what is on the mount, held against the model: exactly, or as a crash may leave it. */
#include "soak.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct actual {
	uint64_t parent, ino;
	uint32_t mode;
	char type;
	uint64_t links, size;
	char name[MODEL_NAME];
};

struct tree {
	struct actual *a;
	size_t n, room;
};

/* --- names --- */

static void walk(struct soak *soak, const char *path, uint64_t ino, struct tree *tree)
{
	DIR *dir = opendir(path);
	char below[SOAK_PATH];
	struct dirent *d;
	struct stat st;

	if (!dir)
		soak_failed(soak, "opendir", path);
	while ((errno = 0, d = readdir(dir))) {
		struct actual *a;

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		snprintf(below, sizeof(below), "%.3000s/%s", path, d->d_name);
		if (lstat(below, &st))
			soak_failed(soak, "lstat", below);
		if (st.st_ino != d->d_ino) {
			fprintf(stderr, "FAILED: %s is inode %" PRIu64 " to readdir and %" PRIu64 " to lstat\n", below, (uint64_t)d->d_ino,
				(uint64_t)st.st_ino);
			soak_finding(soak);
		}
		tree->a = bytes_grow(tree->a, tree->n, &tree->room, sizeof(*tree->a));
		a = &tree->a[tree->n++];
		*a = (struct actual){ .parent = ino, .ino = st.st_ino, .mode = st.st_mode & 07777, .links = st.st_nlink,
				      .size = (uint64_t)st.st_size };
		a->type = S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : S_ISLNK(st.st_mode) ? 'l' : '?';
		snprintf(a->name, sizeof(a->name), "%.31s", d->d_name);
		if (S_ISDIR(st.st_mode))
			walk(soak, below, st.st_ino, tree);
	}
	if (errno)
		soak_failed(soak, "readdir", path);
	closedir(dir);
}

static int by_name(const void *a, const void *b)
{
	const struct actual *l = a, *r = b;

	if (l->parent != r->parent)
		return l->parent < r->parent ? -1 : 1;
	return strcmp(l->name, r->name);
}

static struct actual *find(const struct tree *tree, uint64_t parent, const char *name)
{
	struct actual key = { .parent = parent };

	snprintf(key.name, sizeof(key.name), "%s", name);
	return tree->n ? bsearch(&key, tree->a, tree->n, sizeof(*tree->a), by_name) : NULL;
}

static bool known(const struct model *model, uint64_t ino)
{
	for (size_t i = 1; i < model->node_count; i++) {
		if (model->nodes[i] && model->nodes[i]->ino == ino)
			return true;
	}
	return false;
}

/* The first difference is told, if somebody wants to hear it. */
static bool equal(const struct model *model, const struct names *names, const struct tree *tree, FILE *words)
{
	static const char *const what[] = { "is not there", "is another inode", "is of another type", "has other permissions" };

	for (size_t i = 0; i < names->n; i++) {
		const struct entry *e = &names->e[i];
		const struct node *node = model_node(model, e->node), *parent = model_node(model, e->parent);
		const struct actual *a = find(tree, parent->ino, e->name);
		int wrong = -1;

		if (!a)
			wrong = 0;
		else if (node->ino ? a->ino != node->ino : known(model, a->ino))
			wrong = 1;
		else if (a->type != node->type)
			wrong = 2;
		/* Of a symbolic link they are always the same. */
		else if (a->mode != e->mode && node->type != 'l')
			wrong = 3;
		if (wrong < 0)
			continue;
		if (words)
			fprintf(words, "%s in directory %" PRIu32 " (inode %" PRIu64 "), file %" PRIu32 " (inode %" PRIu64 "), %s\n", e->name,
				e->parent, parent->ino, e->node, node->ino, what[wrong]);
		return false;
	}
	if (names->n == tree->n)
		return true;
	for (size_t i = 0; i < tree->n && words; i++) {
		const struct actual *a = &tree->a[i];
		bool there = false;

		for (size_t k = 0; k < names->n && !there; k++)
			there = !strcmp(names->e[k].name, a->name) && model_node(model, names->e[k].parent)->ino == a->parent;
		if (!there) {
			fprintf(words, "%s in the directory with inode %" PRIu64 " (inode %" PRIu64 ") should not be there\n", a->name, a->parent, a->ino);
			break;
		}
	}
	return false;
}

static void tell_pending(const struct model *model)
{
	for (size_t i = 0; i < model->changes; i++) {
		const struct name_change *c = &model->pending[i];

		fprintf(stderr, "    change %zu: %c %" PRIu32 "/%s file %" PRIu32 " %o -> %" PRIu32 "/%s\n", i + 1, c->kind, c->parent, c->name,
			c->node, c->mode, c->to_parent, c->to_name);
	}
}

static bool names_of_tree(struct soak *soak, const struct tree *tree, bool exact, size_t *taken)
{
	struct model *model = &soak->model;
	struct names names = { 0 };
	bool found = false;

	if (exact) {
		if (equal(model, &model->live, tree, NULL))
			return true;
		fprintf(stderr, "FAILED: names are not as they were left: ");
		equal(model, &model->live, tree, stderr);
		return false;
	}
	names_copy(&names, &model->durable);
	for (size_t k = 0; ; k++) {
		/* Where the mount lives all but the last one were acknowledged and are to be seen. */
		if ((soak->fresh || k + 1 >= model->changes) && equal(model, &names, tree, NULL)) {
			found = true;
			*taken = k;
		}
		if (k == model->changes)
			break;
		names_apply(&names, &model->pending[k]);
	}
	free(names.e);
	if (found)
		return true;
	fprintf(stderr, "FAILED: names are no prefix of what was done; with the fsynced ones: ");
	equal(model, &model->durable, tree, stderr);
	fprintf(stderr, "    with all %zu changes after that: ", model->changes);
	equal(model, &model->live, tree, stderr);
	tell_pending(model);
	return false;
}

static void read_tree(struct soak *soak, struct tree *tree)
{
	walk(soak, soak->top, model_node(&soak->model, MODEL_ROOT)->ino, tree);
	if (tree->n)
		qsort(tree->a, tree->n, sizeof(*tree->a), by_name);
}

bool settle_names(struct soak *soak, bool exact, size_t *taken)
{
	struct tree tree = { 0 };
	bool good;

	read_tree(soak, &tree);
	good = names_of_tree(soak, &tree, exact, taken);
	free(tree.a);
	return good;
}

/* --- bytes --- */

static bool check_chunk(struct soak *soak, const struct node *node, int fd, uint64_t off, size_t len, bool exact, struct map *found)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, soak->buffer + have, len - have, (off_t)(off + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			char path[SOAK_PATH];

			soak_path(soak, node, 0, path);
			soak_failed(soak, "read", path);
		}
		if (!n) {
			fprintf(stderr, "FAILED: file %" PRIu32 " (inode %" PRIu64 ") ends at %" PRIu64 ", before its size\n", node->id, node->ino,
				off + have);
			return false;
		}
		have += (size_t)n;
	}
	soak->verified += len;
	return model_check(&soak->model, node, off, soak->buffer, len, exact, found);
}

bool settle_range(struct soak *soak, const struct node *node, int fd, uint64_t off, size_t len)
{
	return check_chunk(soak, node, fd, off, len, true, NULL);
}

/* The first byte at or behind off where anything was ever written. */
static uint64_t interesting(const struct node *node, uint64_t off, bool exact)
{
	uint64_t next = map_next(&node->live, off), durable = map_next(&node->durable, off);

	if (exact)
		return next;
	if (durable < next)
		next = durable;
	for (size_t i = 0; i < node->changes; i++) {
		const struct change *c = &node->pending[i];

		if (c->kind == CHANGE_WRITE && c->end > off && c->off < next)
			next = c->off > off ? c->off : off;
	}
	return next;
}

#define WHOLE (8u << 20)	/* a file up to this size is read whole; of a larger one only some places of its holes */
#define HOLES 4

bool settle_bytes(struct soak *soak, const struct node *node, int fd, uint64_t size, bool exact, struct map *found)
{
	bool good = true;

	for (uint64_t off = 0, next; off < size; off = next) {
		size_t len;

		if (size > WHOLE) {
			uint64_t at = interesting(node, off, exact) & ~4095ull;

			if (at > off)
				off = at;
			if (off >= size)
				break;
		}
		len = size - off < SOAK_CHUNK ? (size_t)(size - off) : SOAK_CHUNK;
		next = off + len;
		good &= check_chunk(soak, node, fd, off, len, exact, found);
	}
	for (int i = 0; i < HOLES && size > WHOLE; i++) {
		uint64_t off = soak_random(soak, size - 65536);

		good &= check_chunk(soak, node, fd, off, 65536, exact, found);
	}
	return good;
}

/* --- all of it --- */

static bool settle_node(struct soak *soak, struct node *node, const struct actual *a, bool exact)
{
	char path[SOAK_PATH], target[MODEL_NAME + 1] = "", right[MODEL_NAME + 1];
	struct map found = { 0 };
	bool good = true;
	int fd;

	soak_path(soak, node, 0, path);
	if (node->type == 'l') {
		if (readlink(path, target, sizeof(target) - 1) < 0)
			soak_failed(soak, "readlink", path);
		snprintf(right, sizeof(right), "target-of-%" PRIu32, node->id);
		if (strcmp(target, right)) {
			fprintf(stderr, "FAILED: the symbolic link %s leads to %s, not to %s\n", path, target, right);
			return false;
		}
	}
	if (node->type != 'f')
		return true;
	if (exact && a->size != node->size) {
		fprintf(stderr, "FAILED: %s has size %" PRIu64 ", not %" PRIu64 "\n", path, a->size, node->size);
		return false;
	}
	if (!exact && !model_check_size(node, a->size))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		soak_failed(soak, "open", path);
	good = settle_bytes(soak, node, fd, a->size, exact, exact ? NULL : &found);
	if (good && !exact && !soak->fresh) {
		/* It is what can be read, and not yet what a crash would leave. */
		if (fsync(fd))
			soak_failed(soak, "fsync", path);
		soak->fsyncs++;
	}
	if (close(fd))
		soak_failed(soak, "close", path);
	if (!good)
		map_free(&found);
	if (good && !exact) {
		map_free(&node->live);
		node->live = found;
		map_copy(&node->durable, &found);
		node->size = node->durable_size = a->size;
		node->changes = 0;
	}
	return good;
}

static bool settle_all(struct soak *soak, bool exact)
{
	struct model *model = &soak->model;
	struct tree tree = { 0 };
	size_t taken = 0;
	bool good;

	read_tree(soak, &tree);
	good = names_of_tree(soak, &tree, exact, &taken);
	if (!good)
		goto out;
	if (!exact) {
		for (size_t i = 0; i < taken; i++)
			names_apply(&model->durable, &model->pending[i]);
		model->settled += model->changes;
		model->changes = 0;
		names_copy(&model->live, &model->durable);
	}
	for (size_t i = 0; i < tree.n; i++) {
		const struct actual *a = &tree.a[i];
		struct node *node = NULL;
		size_t links;

		for (size_t k = 0; k < model->live.n && !node; k++) {
			const struct entry *e = &model->live.e[k];

			if (!strcmp(e->name, a->name) && model_node(model, e->parent)->ino == a->parent)
				node = model_node(model, e->node);
		}
		if (!node->ino)
			node->ino = a->ino;
		links = names_of(&model->live, node->id);
		if (node->type != 'd' && a->links != links) {
			fprintf(stderr, "FAILED: file %" PRIu32 " (inode %" PRIu64 ") has %zu names and says %" PRIu64 "\n", node->id, node->ino, links,
				a->links);
			good = false;
		}
		/* A node with many names is looked at by each: the first look has made it the model. */
		good &= settle_node(soak, node, a, exact);
	}
out:
	free(tree.a);
	return good;
}

void settle(struct soak *soak)
{
	struct model *model = &soak->model;
	int dir;

	if (!settle_all(soak, false))
		soak_finding(soak);
	if (!soak->fresh) {
		/* With a change of its own, which is behind all others. */
		dir = open(soak->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0 || futimens(dir, NULL) || fsync(dir) || close(dir))
			soak_failed(soak, "fsync", soak->top);
	}
	for (size_t i = MODEL_ROOT + 1; i < model->node_count; i++) {
		if (model->nodes[i] && !names_of(&model->live, (uint32_t)i))
			model_forget(model, model->nodes[i]);
	}
	if (model_snapshot(model))
		exit(SOAK_BAD);
	soak->settles++;
}

void settle_exact(struct soak *soak)
{
	if (!settle_all(soak, true))
		soak_finding(soak);
}
