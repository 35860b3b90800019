/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-ids - which block is on which brick: groups of 64 block numbers, sorted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "volume-internal.h"

struct vol_group {
	uint64_t key;		/* block number / 64 */
	uint64_t bits;		/* those that exist */
	uint8_t brick[64];
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
	uint64_t block = addr >> VOL_BLOCK_SHIFT, bit = 1ull << block % 64;
	int r = 0;

	pthread_rwlock_wrlock(&vol->ids_lock);
	struct vol_group *group = find(vol, block / 64);

	if (!group)
		r = insert_group(vol, block / 64, &group);
	else if (group->bits & bit)
		r = -EEXIST;
	if (!r) {
		group->bits |= bit;
		group->brick[block % 64] = brick;
	}
	pthread_rwlock_unlock(&vol->ids_lock);
	return r;
}

bool vol_ids_remove(struct volume *vol, uint64_t addr)
{
	uint64_t block = addr >> VOL_BLOCK_SHIFT, bit = 1ull << block % 64;

	pthread_rwlock_wrlock(&vol->ids_lock);
	size_t i = position(vol, block / 64);
	struct vol_group *group = i < vol->groups && vol->group[i]->key == block / 64 ? vol->group[i] : NULL;
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
	struct vol_group *group = find(vol, block / 64);
	int brick = group && group->bits >> block % 64 & 1 ? group->brick[block % 64] : -ENOENT;

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
	for (size_t i = position(vol, first / 64); i < vol->groups && vol->group[i]->key <= last / 64; i++) {
		uint64_t bits = vol->group[i]->bits;

		if (vol->group[i]->key == first / 64)
			bits &= ~0ull << first % 64;
		if (vol->group[i]->key == last / 64)
			bits &= ~0ull >> (63 - last % 64);
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
	for (size_t i = position(vol, first / 64); i < vol->groups && !found; i++) {
		uint64_t bits = vol->group[i]->bits;

		if (vol->group[i]->key == first / 64)
			bits &= ~0ull << first % 64;
		if (!bits)
			continue;
		*addr = (vol->group[i]->key * 64 + __builtin_ctzll(bits)) << VOL_BLOCK_SHIFT;
		found = true;
	}
	pthread_rwlock_unlock(&vol->ids_lock);
	return found;
}
