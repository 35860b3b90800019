/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-ids - which block is on which brick: groups of 64 block numbers, sorted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "volume-internal.h"

struct vol_group {
	uint64_t key;		/* block number / VOL_GROUP */
	uint64_t bits;		/* those that exist */
	uint8_t brick[VOL_GROUP];
};

static size_t position(const struct volume *vol, uint64_t key)
{
	size_t low = 0, high = vol->groups;

	if (high && vol->group[high - 1]->key < key)
		return high;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (vol->group[mid]->key < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct vol_group *find(const struct volume *vol, uint64_t key)
{
	size_t i = position(vol, key);

	return i < vol->groups && vol->group[i]->key == key ? vol->group[i] : NULL;
}

static int insert_group(struct volume *vol, uint64_t key, struct vol_group **group)
{
	size_t i = position(vol, key);

	if (vol->groups == vol->group_room) {
		size_t room = vol->group_room ? vol->group_room * 2 : 64;
		struct vol_group **more = realloc(vol->group, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		vol->group = more;
		vol->group_room = room;
	}
	*group = calloc(1, sizeof(**group));
	if (!*group)
		return -ENOMEM;
	(*group)->key = key;
	memmove(&vol->group[i + 1], &vol->group[i], (vol->groups - i) * sizeof(*vol->group));
	vol->group[i] = *group;
	vol->groups++;
	return 0;
}

int vol_ids_insert(struct volume *vol, uint64_t addr, unsigned brick)
{
	uint64_t block = addr >> VOL_BLOCK_SHIFT, bit = 1ull << block % VOL_GROUP;
	int r = 0;

	pthread_rwlock_wrlock(&vol->ids_lock);
	struct vol_group *group = find(vol, block / VOL_GROUP);

	if (!group)
		r = insert_group(vol, block / VOL_GROUP, &group);
	else if (group->bits & bit)
		r = -EEXIST;
	if (!r) {
		group->bits |= bit;
		group->brick[block % VOL_GROUP] = brick;
	}
	pthread_rwlock_unlock(&vol->ids_lock);
	return r;
}

size_t vol_group_bytes(void)
{
	/* With what the allocator adds, and its place in an array that was doubled or is being merged. */
	return sizeof(struct vol_group) + 16 + 2 * sizeof(struct vol_group *);
}

/* The bits of blocks [first, last] that are in the group. */
static uint64_t mask_of(uint64_t key, uint64_t first, uint64_t last)
{
	uint64_t bits = ~0ull;

	if (key == first / VOL_GROUP)
		bits &= ~0ull << first % VOL_GROUP;
	if (key == last / VOL_GROUP)
		bits &= ~0ull >> (VOL_GROUP - 1 - last % VOL_GROUP);
	return bits;
}

static int add_bits(struct volume *vol, struct vol_group *group, uint64_t bits, unsigned brick)
{
	int r = 0;

	for (uint64_t twice = bits & group->bits; twice && !r; twice &= twice - 1)
		r = vol_twin_add(vol, (group->key * VOL_GROUP + __builtin_ctzll(twice)) << VOL_BLOCK_SHIFT, brick);
	bits &= ~group->bits;
	group->bits |= bits;
	for (; bits; bits &= bits - 1)
		group->brick[__builtin_ctzll(bits)] = brick;
	return r;
}

int vol_ids_merge(struct volume *vol, const struct backend_extent *extents, size_t n, unsigned brick)
{
	uint64_t private = vol->private_addr >> VOL_BLOCK_SHIFT;
	size_t room = vol->groups, at = 0, from = 0;
	struct vol_group **merged;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t first = extents[i].start >> VOL_BLOCK_SHIFT;

		room += (first + extents[i].count - 1) / VOL_GROUP - first / VOL_GROUP + 1;
	}
	merged = malloc((room + 1) * sizeof(*merged));
	if (!merged)
		return -ENOMEM;
	pthread_rwlock_wrlock(&vol->ids_lock);
	for (size_t i = 0; i < n && !r; i++) {
		uint64_t first = extents[i].start >> VOL_BLOCK_SHIFT, last = first + extents[i].count - 1;

		for (uint64_t key = first / VOL_GROUP; key <= last / VOL_GROUP && !r; key++) {
			uint64_t bits = mask_of(key, first, last);

			if (private / VOL_GROUP == key)
				bits &= ~(1ull << private % VOL_GROUP);
			if (!bits)
				continue;
			while (from < vol->groups && vol->group[from]->key <= key)
				merged[at++] = vol->group[from++];
			if (!at || merged[at - 1]->key != key) {
				struct vol_group *group = calloc(1, sizeof(*group));

				if (!group) {
					r = -ENOMEM;
					break;
				}
				group->key = key;
				merged[at++] = group;
			}
			r = add_bits(vol, merged[at - 1], bits, brick);
		}
	}
	while (from < vol->groups)
		merged[at++] = vol->group[from++];
	free(vol->group);
	vol->group = merged;
	vol->groups = at;
	vol->group_room = room + 1;
	pthread_rwlock_unlock(&vol->ids_lock);
	return r;
}

bool vol_ids_remove(struct volume *vol, uint64_t addr)
{
	uint64_t block = addr >> VOL_BLOCK_SHIFT, bit = 1ull << block % VOL_GROUP;

	pthread_rwlock_wrlock(&vol->ids_lock);
	size_t i = position(vol, block / VOL_GROUP);
	struct vol_group *group = i < vol->groups && vol->group[i]->key == block / VOL_GROUP ? vol->group[i] : NULL;
	bool there = group && group->bits & bit;

	if (there) {
		group->bits &= ~bit;
		if (!group->bits) {
			free(group);
			memmove(&vol->group[i], &vol->group[i + 1], (vol->groups - i - 1) * sizeof(*vol->group));
			vol->groups--;
		}
	}
	pthread_rwlock_unlock(&vol->ids_lock);
	return there;
}

void vol_ids_clear(struct volume *vol)
{
	pthread_rwlock_wrlock(&vol->ids_lock);
	for (size_t i = 0; i < vol->groups; i++)
		free(vol->group[i]);
	free(vol->group);
	vol->group = NULL;
	vol->groups = vol->group_room = 0;
	pthread_rwlock_unlock(&vol->ids_lock);
}

int vol_where(struct volume *vol, uint64_t addr)
{
	uint64_t block = addr >> VOL_BLOCK_SHIFT;

	pthread_rwlock_rdlock(&vol->ids_lock);
	struct vol_group *group = find(vol, block / VOL_GROUP);
	int brick = group && group->bits >> block % VOL_GROUP & 1 ? group->brick[block % VOL_GROUP] : -ENOENT;

	pthread_rwlock_unlock(&vol->ids_lock);
	return brick;
}

bool vol_has(struct volume *vol, uint64_t addr)
{
	return vol_where(vol, addr) >= 0;
}

uint64_t vol_count(struct volume *vol, uint64_t addr, uint64_t blocks)
{
	uint64_t first = addr >> VOL_BLOCK_SHIFT, most = (1ull << (64 - VOL_BLOCK_SHIFT)) - first, count = 0;

	if (blocks > most)
		blocks = most;
	if (!blocks)
		return 0;
	uint64_t last = first + blocks - 1;

	pthread_rwlock_rdlock(&vol->ids_lock);
	for (size_t i = position(vol, first / VOL_GROUP); i < vol->groups && vol->group[i]->key <= last / VOL_GROUP; i++) {
		uint64_t bits = vol->group[i]->bits;

		bits &= mask_of(vol->group[i]->key, first, last);
		count += __builtin_popcountll(bits);
	}
	pthread_rwlock_unlock(&vol->ids_lock);
	return count;
}

bool vol_next(struct volume *vol, uint64_t from, uint64_t *addr)
{
	uint64_t first = (from >> VOL_BLOCK_SHIFT) + !!(from & VOL_BLOCK_MASK);
	bool found = false;

	if (first >> (64 - VOL_BLOCK_SHIFT))
		return false;
	pthread_rwlock_rdlock(&vol->ids_lock);
	for (size_t i = position(vol, first / VOL_GROUP); i < vol->groups && !found; i++) {
		uint64_t bits = vol->group[i]->bits;

		if (vol->group[i]->key == first / VOL_GROUP)
			bits &= ~0ull << first % VOL_GROUP;
		if (!bits)
			continue;
		*addr = (vol->group[i]->key * VOL_GROUP + __builtin_ctzll(bits)) << VOL_BLOCK_SHIFT;
		found = true;
	}
	pthread_rwlock_unlock(&vol->ids_lock);
	return found;
}
