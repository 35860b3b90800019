/* SPDX-License-Identifier: BSD-3-Clause */
/* soak-model - what a tree on a mount must hold, also after the mount or the bricks were killed. */
#include "soak-model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned model_words = 10;

/* --- the journal --- */

/* One line, in the kernel's hands before what it announces is done. */
static __attribute__((format(printf, 2, 3))) void note(struct model *model, const char *format, ...)
{
	va_list args;
	int n;

	if (!model->journal)
		return;	/* it is being read */
	va_start(args, format);
	n = vfprintf(model->journal, format, args);
	va_end(args);
	if (n < 0 || fflush(model->journal)) {
		fprintf(stderr, "%s: %s\n", model->path, strerror(errno));
		exit(1);
	}
	model->journaled += (uint64_t)n;
}

/* --- nodes and names --- */

struct node *model_node(const struct model *model, uint32_t id)
{
	return id < model->node_count ? model->nodes[id] : NULL;
}

static struct node *add_node(struct model *model, uint32_t id, char type)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node || id > BYTES_FILE_MAX) {
		fprintf(stderr, "no more files\n");
		exit(1);
	}
	node->id = id;
	node->type = type;
	node->fd = -1;
	while (model->node_count <= id) {
		model->nodes = bytes_grow(model->nodes, model->node_count, &model->node_room, sizeof(*model->nodes));
		model->nodes[model->node_count++] = NULL;
	}
	model->nodes[id] = node;
	return node;
}

struct node *model_new_node(struct model *model, char type)
{
	return add_node(model, (uint32_t)model->node_count, type);
}

void model_made(struct model *model, struct node *node, uint64_t ino)
{
	node->ino = ino;
	note(model, "I %" PRIu32 " %" PRIu64 "\n", node->id, ino);
}

void model_forget(struct model *model, struct node *node)
{
	model->nodes[node->id] = NULL;
	if (node->fd >= 0)
		close(node->fd);
	map_free(&node->durable);
	map_free(&node->live);
	free(node->pending);
	free(node);
}

struct entry *names_find(const struct names *names, uint32_t parent, const char *name)
{
	for (size_t i = 0; i < names->n; i++) {
		if (names->e[i].parent == parent && !strcmp(names->e[i].name, name))
			return &names->e[i];
	}
	return NULL;
}

size_t names_of(const struct names *names, uint32_t node)
{
	size_t n = 0;

	for (size_t i = 0; i < names->n; i++)
		n += names->e[i].node == node;
	return n;
}

void names_copy(struct names *to, const struct names *from)
{
	while (to->room < from->n)
		to->e = bytes_grow(to->e, to->room, &to->room, sizeof(*to->e));
	if (from->n)
		memcpy(to->e, from->e, from->n * sizeof(*to->e));
	to->n = from->n;
}

void names_apply(struct names *names, const struct name_change *c)
{
	struct entry *from = names_find(names, c->parent, c->name), *to;

	switch (c->kind) {
	case 'A':
		names->e = bytes_grow(names->e, names->n, &names->room, sizeof(*names->e));
		from = &names->e[names->n++];
		*from = (struct entry){ .parent = c->parent, .node = c->node, .mode = c->mode };
		memcpy(from->name, c->name, sizeof(from->name));
		return;
	case 'D':
		if (from)
			*from = names->e[--names->n];
		return;
	case 'M':
		if (!from)
			return;
		to = names_find(names, c->to_parent, c->to_name);
		from->parent = c->to_parent;
		memcpy(from->name, c->to_name, sizeof(from->name));
		if (to)
			*to = names->e[--names->n];
		return;
	case 'X':
		to = names_find(names, c->to_parent, c->to_name);
		if (from && to) {
			struct entry was = *from;

			from->node = to->node;
			from->mode = to->mode;
			to->node = was.node;
			to->mode = was.mode;
		}
		return;
	case 'P':
		for (size_t i = 0; i < names->n; i++) {
			if (names->e[i].node == c->node)
				names->e[i].mode = c->mode;
		}
		return;
	}
}

static void touch(struct model *model, uint32_t id)
{
	struct node *node = model_node(model, id);

	if (node)
		node->touched = model->settled + model->changes;
}

void model_change_names(struct model *model, const struct name_change *c)
{
	static const char none[] = "-";
	const struct entry *to;

	note(model, "%c %" PRIu32 " %s %" PRIu32 " %" PRIo32 " %c %" PRIu32 " %s\n", c->kind, c->parent, c->name[0] ? c->name : none, c->node,
	     c->mode, c->kind == 'A' ? model_node(model, c->node)->type : '-', c->to_parent, c->to_name[0] ? c->to_name : none);
	model->pending = bytes_grow(model->pending, model->changes, &model->room, sizeof(*model->pending));
	model->pending[model->changes++] = *c;
	/* Both directories, the file, and the one whose name it takes or gets. */
	to = names_find(&model->live, c->to_parent, c->to_name);
	touch(model, c->parent);
	touch(model, c->to_parent);
	touch(model, c->node);
	if (to)
		touch(model, to->node);
	names_apply(&model->live, c);
}

void model_touch(struct model *model, struct node *node)
{
	note(model, "U %" PRIu32 "\n", node->id);
	touch(model, node->id);
}

/* --- files --- */

static void apply(struct map *map, uint64_t *size, struct change *c)
{
	switch (c->kind) {
	case CHANGE_WRITE:
		map_set(map, c->off, c->end, c->gen);
		break;
	case CHANGE_SIZE:
		map_set(map, c->end, UINT64_MAX, 0);
		*size = c->end;
		break;
	case CHANGE_GROW:
		break;
	case CHANGE_ZERO:
		map_set(map, c->off, c->end, 0);
		break;
	}
	if ((c->kind == CHANGE_WRITE || c->kind == CHANGE_GROW) && *size < c->end)
		*size = c->end;
	c->size = *size;
}

void model_change(struct model *model, struct node *node, enum change_kind kind, uint64_t off, uint64_t end, uint32_t gen)
{
	uint64_t size = node->size;
	struct change *c;

	note(model, "%c %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu32 "\n", "WTGZ"[kind], node->id, off, end, gen);
	node->pending = bytes_grow(node->pending, node->changes, &node->room, sizeof(*node->pending));
	c = &node->pending[node->changes++];
	*c = (struct change){ .kind = kind, .off = off, .end = end, .gen = gen };
	if (gen > node->gen)
		node->gen = gen;
	apply(&node->live, &node->size, c);
	/* What changes nothing that is recorded need not be waited for. */
	if (kind == CHANGE_WRITE || node->size != size)
		touch(model, node->id);
}

void model_synced(struct model *model, struct node *node)
{
	size_t n;

	note(model, "S %" PRIu32 "\n", node->id);
	for (size_t i = 0; i < node->changes; i++)
		apply(&node->durable, &node->durable_size, &node->pending[i]);
	node->changes = 0;
	if (node->touched <= model->settled)
		return;
	n = (size_t)(node->touched - model->settled);
	for (size_t i = 0; i < n; i++)
		names_apply(&model->durable, &model->pending[i]);
	memmove(model->pending, model->pending + n, (model->changes - n) * sizeof(*model->pending));
	model->changes -= n;
	model->settled += n;
}

/* --- checks --- */

#define CANDIDATES 64

/* The generations that may be at `at`, and up to where that stays so.  The worker syncs a file long before this is too small. */
static size_t candidates(const struct node *node, uint64_t at, uint64_t *end, bool exact, uint32_t *gens)
{
	size_t n = 0;

	gens[n++] = map_get(exact ? &node->live : &node->durable, at, end);
	for (size_t i = 0; i < node->changes && !exact; i++) {
		const struct change *c = &node->pending[i];
		uint64_t off = c->kind == CHANGE_SIZE ? c->end : c->off, to = c->kind == CHANGE_SIZE ? UINT64_MAX : c->end;
		uint32_t gen = c->kind == CHANGE_WRITE ? c->gen : 0;
		size_t k;

		if (c->kind == CHANGE_GROW || to <= at)
			continue;
		if (off > at) {
			if (off < *end)
				*end = off;
			continue;
		}
		if (to < *end)
			*end = to;
		for (k = 0; k < n && gens[k] != gen; k++)
			;
		if (k == n) {
			if (n == CANDIDATES) {
				fprintf(stderr, "file %" PRIu32 " has too many changes at %" PRIu64 "\n", node->id, at);
				exit(1);
			}
			gens[n++] = gen;
		}
	}
	return n;
}

static void tell(const struct model *model, const struct node *node, uint64_t at, const uint8_t *unit, size_t len, bool exact,
		 const uint32_t *gens, size_t n)
{
	uint64_t value = 0;
	char words[100];

	if (!model_words)
		return;
	model_words--;
	memcpy((uint8_t *)&value + at % 8, unit, len);
	if (len == 8)
		bytes_tell(value, (uint32_t)model->node_count, words, sizeof(words));
	else
		snprintf(words, sizeof(words), "0x%016" PRIx64 " in %zu bytes of a unit", value, len);
	fprintf(stderr, "FAILED: file %" PRIu32 " (inode %" PRIu64 ", size %" PRIu64 ") has at %" PRIu64 ": %s; %s", node->id, node->ino,
		node->size, at, words, exact ? "it should have" : "it may have");
	for (size_t i = 0; i < n; i++) {
		if (gens[i])
			fprintf(stderr, " write %" PRIu32, gens[i]);
		else
			fprintf(stderr, " zeroes");
		fprintf(stderr, "%s", exact ? "" : i ? " (later)" : " (fsynced)");
	}
	fprintf(stderr, "\n");
}

bool model_check(const struct model *model, const struct node *node, uint64_t off, const void *buffer, size_t len, bool exact,
		 struct map *found)
{
	const uint8_t *byte = buffer;
	uint32_t gens[CANDIDATES];
	bool good = true;

	for (uint64_t at = off, end; at < off + len; at = end) {
		size_t n, was = 0;
		uint64_t since = at;

		end = off + len;
		n = candidates(node, at, &end, exact, gens);
		for (uint64_t to; at < end; at = to) {
			size_t part, i = was, tries = 0;

			to = (at | 7) + 1 < end ? (at | 7) + 1 : end;
			part = (size_t)(to - at);
			for (; tries < n; tries++, i = i + 1 < n ? i + 1 : 0) {
				uint64_t value = bytes_value(node->id, gens[i], at / 8);

				if (!memcmp(byte + (at - off), (uint8_t *)&value + at % 8, part))
					break;
			}
			if (tries == n) {
				tell(model, node, at, byte + (at - off), part, exact, gens, n);
				good = false;
				continue;
			}
			if (i != was && found)
				map_set(found, since, at, gens[was]);
			if (i != was)
				since = at;
			was = i;
		}
		if (found)
			map_set(found, since, end, gens[was]);
	}
	return good;
}

bool model_check_size(const struct node *node, uint64_t size)
{
	uint64_t most = node->durable_size;
	bool good = size == node->durable_size;

	for (size_t i = 0; i < node->changes; i++) {
		const struct change *c = &node->pending[i];

		good |= size == c->size;
		if (c->size > most)
			most = c->size;
		/* Written in pieces, or as whole pages: it grows in steps. */
		good |= c->kind == CHANGE_WRITE && size > c->off && size <= ((c->end + 4095) & ~4095ull);
	}
	if (good && size <= most)
		return true;
	if (model_words && model_words--)
		fprintf(stderr, "FAILED: file %" PRIu32 " (inode %" PRIu64 ") has size %" PRIu64 "; fsynced %" PRIu64 ", later up to %" PRIu64 " in %zu changes\n",
			node->id, node->ino, size, node->durable_size, most, node->changes);
	return false;
}

/* --- the journal read, and written anew --- */

static void read_line(struct model *model, char *line)
{
	struct name_change c = { .kind = line[0] };
	uint64_t a, b, size;
	uint32_t id, gen;
	struct node *node;
	char type;

	switch (line[0]) {
	case 'V':
		if (sscanf(line, "V %" SCNu64 " %u %u", &model->seed, &model->worker, &model->run) == 3)
			return;
		break;
	case 'N':
		if (sscanf(line, "N %" SCNu32 " %c %" SCNu64 " %" SCNu32 " %" SCNu64, &id, &type, &a, &gen, &size) != 5)
			break;
		node = add_node(model, id, type);
		node->ino = a;
		node->gen = gen;
		node->size = node->durable_size = size;
		return;
	case 'L':
		/* The number of the last node. */
		if (sscanf(line, "L %" SCNu32, &id) != 1)
			break;
		if (!model_node(model, id))
			model_forget(model, add_node(model, id, 'f'));
		return;
	case 'E':
		if (sscanf(line, "E %" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu32, &id, &a, &b, &gen) != 4 || !model_node(model, id))
			break;
		map_set(&model_node(model, id)->durable, a, b, gen);
		map_set(&model_node(model, id)->live, a, b, gen);
		return;
	case 'B':
	case 'A':
	case 'D':
	case 'M':
	case 'X':
	case 'P':
		if (sscanf(line + 1, " %" SCNu32 " %31s %" SCNu32 " %" SCNo32 " %c %" SCNu32 " %31s", &c.parent, c.name, &c.node, &c.mode, &type,
			   &c.to_parent, c.to_name) != 7)
			break;
		if (c.kind == 'B') {
			c.kind = 'A';
			names_apply(&model->durable, &c);
			names_apply(&model->live, &c);
			return;
		}
		if (c.kind == 'A' && c.node >= model->node_count)
			add_node(model, c.node, type);
		model_change_names(model, &c);
		return;
	case 'I':
		if (sscanf(line, "I %" SCNu32 " %" SCNu64, &id, &a) != 2)
			break;
		if (model_node(model, id))
			model_node(model, id)->ino = a;
		return;
	case 'S':
		if (sscanf(line, "S %" SCNu32, &id) != 1)
			break;
		/* One without names is in no snapshot. */
		if (model_node(model, id))
			model_synced(model, model_node(model, id));
		return;
	case 'U':
		if (sscanf(line, "U %" SCNu32, &id) != 1)
			break;
		if (model_node(model, id))
			model_touch(model, model_node(model, id));
		return;
	case 'W':
	case 'T':
	case 'G':
	case 'Z':
		if (sscanf(line + 1, " %" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu32, &id, &a, &b, &gen) != 4)
			break;
		if (model_node(model, id))
			model_change(model, model_node(model, id), (enum change_kind)(strchr("WTGZ", line[0]) - "WTGZ"), a, b, gen);
		return;
	}
	fprintf(stderr, "%s has a line that makes no sense: %s\n", model->path, line);
	exit(1);
}

int model_open(struct model *model, const char *path, uint64_t seed, unsigned worker)
{
	char line[300];
	FILE *file;

	*model = (struct model){ .path = path, .seed = seed, .worker = worker };
	file = fopen(path, "r");
	if (!file && errno != ENOENT) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	while (file && fgets(line, sizeof(line), file)) {
		/* The last line may be cut: what it announces was never begun. */
		if (!strchr(line, '\n'))
			break;
		read_line(model, line);
	}
	if (file)
		fclose(file);
	model->run++;
	bytes_key(model->seed);
	if (!model_node(model, MODEL_ROOT))
		add_node(model, MODEL_ROOT, 'd');
	return 0;
}

bool model_is_new(const struct model *model)
{
	return !model_node(model, MODEL_ROOT)->ino;
}

int model_snapshot(struct model *model)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s.new", model->path);
	file = fopen(path, "we");
	if (!file)
		goto failed;
	fprintf(file, "V %" PRIu64 " %u %u\n", model->seed, model->worker, model->run);
	for (size_t i = 1; i < model->node_count; i++) {
		const struct node *node = model->nodes[i];

		if (!node || node->unlinked)
			continue;
		fprintf(file, "N %" PRIu32 " %c %" PRIu64 " %" PRIu32 " %" PRIu64 "\n", node->id, node->type, node->ino, node->gen, node->size);
		for (size_t k = 0; k < node->live.n; k++)
			fprintf(file, "E %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu32 "\n", node->id, node->live.e[k].off, node->live.e[k].end,
				node->live.e[k].gen);
	}
	fprintf(file, "L %zu\n", model->node_count - 1);
	for (size_t i = 0; i < model->live.n; i++) {
		const struct entry *e = &model->live.e[i];

		fprintf(file, "B %" PRIu32 " %s %" PRIu32 " %" PRIo32 " - 0 -\n", e->parent, e->name, e->node, e->mode);
	}
	if (fflush(file) || rename(path, model->path))
		goto failed;
	if (model->journal)
		fclose(model->journal);
	model->journal = file;
	model->journaled = 0;
	return 0;

failed:
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (file)
		fclose(file);
	return -1;
}
