/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * idmap - block number to slot, in order: a sorted array of leaves, each a
 * sorted array of blocks.
 *
 * Two levels are enough: 2^32 slots would be 16 million leaves, and inserting
 * into the upper array happens once for a hundred inserts or more.  A leaf is
 * never empty, and two neighbours that would fit in half a leaf become one.
 */
#include "idmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAF_MAX 512

struct leaf {
	uint32_t count;
	uint64_t block[LEAF_MAX];
	uint32_t slot[LEAF_MAX];
};

struct idmap {
	struct leaf **leaf;
	size_t leaves, room;
	uint64_t count;
};

struct idmap *idmap_new(void)
{
	return calloc(1, sizeof(struct idmap));
}

void idmap_delete(struct idmap *map)
{
	if (!map)
		return;
	for (size_t i = 0; i < map->leaves; i++)
		free(map->leaf[i]);
	free(map->leaf);
	free(map);
}

/* The first leaf whose last block is at or after block; map->leaves if there is none. */
static size_t find_leaf(const struct idmap *map, uint64_t block)
{
	size_t low = 0, high = map->leaves;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct leaf *leaf = map->leaf[middle];

		if (leaf->block[leaf->count - 1] < block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first entry at or after block; leaf->count if there is none. */
static uint32_t find_entry(const struct leaf *leaf, uint64_t block)
{
	uint32_t low = 0, high = leaf->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (leaf->block[middle] < block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A new leaf at index at. */
static struct leaf *add_leaf(struct idmap *map, size_t at)
{
	struct leaf *leaf;

	if (map->leaves == map->room) {
		size_t room = map->room ? map->room * 2 : 16;
		struct leaf **larger = realloc(map->leaf, room * sizeof(struct leaf *));

		if (!larger)
			return NULL;
		map->leaf = larger;
		map->room = room;
	}
	leaf = malloc(sizeof(*leaf));
	if (!leaf)
		return NULL;
	leaf->count = 0;
	memmove(map->leaf + at + 1, map->leaf + at, (map->leaves - at) * sizeof(struct leaf *));
	map->leaf[at] = leaf;
	map->leaves++;
	return leaf;
}

static void remove_leaf(struct idmap *map, size_t at)
{
	free(map->leaf[at]);
	map->leaves--;
	memmove(map->leaf + at, map->leaf + at + 1, (map->leaves - at) * sizeof(struct leaf *));
}

/* Moves entries [from, count) of one leaf behind those of another. */
static void move_entries(struct leaf *to, struct leaf *leaf, uint32_t from)
{
	uint32_t n = leaf->count - from;

	memcpy(to->block + to->count, leaf->block + from, n * sizeof(leaf->block[0]));
	memcpy(to->slot + to->count, leaf->slot + from, n * sizeof(leaf->slot[0]));
	to->count += n;
	leaf->count = from;
}

int idmap_insert(struct idmap *map, uint64_t block, uint32_t slot)
{
	size_t at = find_leaf(map, block);
	struct leaf *leaf, *upper;
	uint32_t i;

	/* Beyond the last block: the last leaf takes it. */
	if (at == map->leaves && at)
		at--;
	leaf = at < map->leaves ? map->leaf[at] : add_leaf(map, at);
	if (!leaf)
		return -ENOMEM;
	i = find_entry(leaf, block);
	if (i < leaf->count && leaf->block[i] == block)
		return -EEXIST;
	if (leaf->count == LEAF_MAX) {
		upper = add_leaf(map, at + 1);
		if (!upper)
			return -ENOMEM;
		/* Ascending inserts, the common case, leave full leaves behind. */
		move_entries(upper, leaf, i == LEAF_MAX ? LEAF_MAX : LEAF_MAX / 2);
		if (i >= leaf->count) {
			i -= leaf->count;
			leaf = upper;
		}
	}
	memmove(leaf->block + i + 1, leaf->block + i, (leaf->count - i) * sizeof(leaf->block[0]));
	memmove(leaf->slot + i + 1, leaf->slot + i, (leaf->count - i) * sizeof(leaf->slot[0]));
	leaf->block[i] = block;
	leaf->slot[i] = slot;
	leaf->count++;
	map->count++;
	return 0;
}

uint32_t idmap_find(const struct idmap *map, uint64_t block)
{
	size_t at = find_leaf(map, block);
	uint32_t i;

	if (at == map->leaves)
		return IDMAP_NONE;
	i = find_entry(map->leaf[at], block);
	return map->leaf[at]->block[i] == block ? map->leaf[at]->slot[i] : IDMAP_NONE;
}

uint32_t idmap_remove(struct idmap *map, uint64_t block)
{
	size_t at = find_leaf(map, block);
	struct leaf *leaf;
	uint32_t i, slot;

	if (at == map->leaves)
		return IDMAP_NONE;
	leaf = map->leaf[at];
	i = find_entry(leaf, block);
	if (leaf->block[i] != block)
		return IDMAP_NONE;
	slot = leaf->slot[i];
	leaf->count--;
	map->count--;
	memmove(leaf->block + i, leaf->block + i + 1, (leaf->count - i) * sizeof(leaf->block[0]));
	memmove(leaf->slot + i, leaf->slot + i + 1, (leaf->count - i) * sizeof(leaf->slot[0]));
	if (!leaf->count) {
		remove_leaf(map, at);
	} else if (at + 1 < map->leaves && leaf->count + map->leaf[at + 1]->count <= LEAF_MAX / 2) {
		move_entries(leaf, map->leaf[at + 1], 0);
		remove_leaf(map, at + 1);
	} else if (at && leaf->count + map->leaf[at - 1]->count <= LEAF_MAX / 2) {
		move_entries(map->leaf[at - 1], leaf, 0);
		remove_leaf(map, at);
	}
	return slot;
}

uint64_t idmap_count(const struct idmap *map)
{
	return map->count;
}

/* How many entries from i on have consecutive blocks: the gap to entry i only grows, so it can be searched. */
static uint32_t run_length(const struct leaf *leaf, uint32_t i)
{
	uint32_t low = 1, high = leaf->count - i;

	while (low < high) {
		uint32_t middle = (low + high + 1) / 2;

		if (leaf->block[i + middle - 1] - leaf->block[i] == middle - 1)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

bool idmap_extent(const struct idmap *map, uint64_t from, uint64_t *start, uint64_t *count)
{
	size_t at = find_leaf(map, from);
	uint32_t i;

	if (at == map->leaves)
		return false;
	i = find_entry(map->leaf[at], from);
	*start = map->leaf[at]->block[i];
	*count = 0;
	for (; at < map->leaves && map->leaf[at]->block[i] == *start + *count; at++, i = 0) {
		uint32_t n = run_length(map->leaf[at], i);

		*count += n;
		if (i + n < map->leaf[at]->count)
			break;
	}
	return true;
}
