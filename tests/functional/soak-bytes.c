/* SPDX-License-Identifier: BSD-3-Clause */
/* soak-bytes - what the bytes of a file are, and which write each one is from. */
#include "soak-bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t key;

uint64_t bytes_random(uint64_t *state)
{
	/* splitmix64, Steele, Lea, Flood 2014 */
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Its last three steps, and the way back: the multipliers' inverses modulo 2^64. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t unmix(uint64_t z)
{
	z = (z ^ (z >> 31) ^ (z >> 62)) * 0x319642b2d24d8ec3ull;
	z = (z ^ (z >> 27) ^ (z >> 54)) * 0x96de1b173f119089ull;
	return z ^ (z >> 30) ^ (z >> 60);
}

void bytes_key(uint64_t seed)
{
	key = mix(seed ^ 0x736f616b);
	if (unmix(mix(key)) != key)
		abort();
}

uint64_t bytes_value(uint32_t file, uint32_t gen, uint64_t unit)
{
	return gen ? mix(((uint64_t)file << 40 | (uint64_t)gen << 24 | (unit & 0xffffff)) ^ key) : 0;
}

void bytes_fill(void *buffer, uint32_t file, uint32_t gen, uint64_t off, size_t len)
{
	uint8_t *to = buffer;

	while (len) {
		uint64_t value = bytes_value(file, gen, off / 8);
		size_t skip = off % 8, n = 8 - skip < len ? 8 - skip : len;

		memcpy(to, (uint8_t *)&value + skip, n);
		to += n;
		off += n;
		len -= n;
	}
}

void bytes_tell(uint64_t value, uint32_t files, char *words, size_t size)
{
	uint64_t what = unmix(value) ^ key;
	uint32_t file = (uint32_t)(what >> 40), gen = (what >> 24) & BYTES_GEN_MAX;

	if (!value)
		snprintf(words, size, "zeroes");
	else if (file && file < files && gen)
		snprintf(words, size, "write %" PRIu32 " of file %" PRIu32 ", its bytes at %" PRIu64, gen, file, (what & 0xffffff) * 8);
	else
		snprintf(words, size, "0x%016" PRIx64 ", which was never written", value);
}

void *bytes_grow(void *array, size_t n, size_t *room, size_t size)
{
	if (n < *room)
		return array;
	*room = *room ? *room * 2 : 8;
	array = realloc(array, *room * size);
	if (!array) {
		perror("memory");
		exit(1);
	}
	return array;
}

/* The first extent that ends behind off. */
static size_t first_behind(const struct map *map, uint64_t off)
{
	size_t low = 0, high = map->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (map->e[middle].end <= off)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert(struct map *map, size_t at, uint64_t off, uint64_t end, uint32_t gen)
{
	map->e = bytes_grow(map->e, map->n, &map->room, sizeof(*map->e));
	memmove(&map->e[at + 1], &map->e[at], (map->n - at) * sizeof(*map->e));
	map->e[at] = (struct extent){ off, end, gen };
	map->n++;
}

void map_set(struct map *map, uint64_t off, uint64_t end, uint32_t gen)
{
	size_t at = first_behind(map, off), last;

	if (off >= end)
		return;
	if (at < map->n && map->e[at].off < off) {
		/* The one that it begins in keeps its front, and its back is looked at below. */
		insert(map, at + 1, off, map->e[at].end, map->e[at].gen);
		map->e[at].end = off;
		at++;
	}
	for (last = at; last < map->n && map->e[last].end <= end; last++)
		;
	if (last < map->n && map->e[last].off < end)
		map->e[last].off = end;
	if (last > at) {
		memmove(&map->e[at], &map->e[last], (map->n - last) * sizeof(*map->e));
		map->n -= last - at;
	}
	if (!gen)
		return;
	if (at && map->e[at - 1].end == off && map->e[at - 1].gen == gen)
		map->e[at - 1].end = end;
	else
		insert(map, at++, off, end, gen);
	if (at && at < map->n && map->e[at].off == end && map->e[at].gen == gen) {
		map->e[at - 1].end = map->e[at].end;
		memmove(&map->e[at], &map->e[at + 1], (map->n - at - 1) * sizeof(*map->e));
		map->n--;
	}
}

uint32_t map_get(const struct map *map, uint64_t off, uint64_t *end)
{
	size_t at = first_behind(map, off);
	uint64_t to = UINT64_MAX;
	uint32_t gen = 0;

	if (at < map->n) {
		const struct extent *e = &map->e[at];

		to = e->off <= off ? e->end : e->off;
		gen = e->off <= off ? e->gen : 0;
	}
	if (to < *end)
		*end = to;
	return gen;
}

uint64_t map_next(const struct map *map, uint64_t off)
{
	size_t at = first_behind(map, off);

	if (at == map->n)
		return UINT64_MAX;
	return map->e[at].off > off ? map->e[at].off : off;
}

uint64_t map_bytes(const struct map *map)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < map->n; i++)
		sum += map->e[i].end - map->e[i].off;
	return sum;
}

void map_copy(struct map *to, const struct map *from)
{
	while (to->room < from->n)
		to->e = bytes_grow(to->e, to->room, &to->room, sizeof(*to->e));
	if (from->n)
		memcpy(to->e, from->e, from->n * sizeof(*to->e));
	to->n = from->n;
}

void map_free(struct map *map)
{
	free(map->e);
	*map = (struct map){ 0 };
}
