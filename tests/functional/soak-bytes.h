/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soak-bytes - what the bytes of a file are, and which write each one is from.
 *
 * A file's bytes come in units of 8, aligned.  The unit that write `gen` of file `file` puts at unit `unit` is
 * bytes_value(): a number that can be taken apart again, so that a wrong unit says which file, which write and which
 * place it belongs to.  Generation 0 is what nobody wrote: zeroes.  A map says for a range of a file which generation is there.
 *
 * Failing: memory that runs out ends the process.
 */
#ifndef SOAK_BYTES_H
#define SOAK_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTES_FILE_MAX ((1u << 24) - 1)
#define BYTES_GEN_MAX ((1u << 16) - 1)

struct extent {
	uint64_t off, end;	/* bytes of the file */
	uint32_t gen;		/* never 0: a hole is no extent */
};

struct map {
	struct extent *e;	/* ascending, apart */
	size_t n, room;
};

/* Of this run: bytes that another run left behind are then those of no file. */
void bytes_key(uint64_t seed);
/* The unit's number counts from the file's start; its low 24 bits are told. */
uint64_t bytes_value(uint32_t file, uint32_t gen, uint64_t unit);
/* Bytes [off, off + len) of that write. */
void bytes_fill(void *buffer, uint32_t file, uint32_t gen, uint64_t off, size_t len);
/* Which write a unit is from, in words. */
void bytes_tell(uint64_t value, uint32_t files, char *words, size_t size);

/* [off, end) is of this generation now. */
void map_set(struct map *map, uint64_t off, uint64_t end, uint32_t gen);
/* The generation at off; *end is lowered to where it ends. */
uint32_t map_get(const struct map *map, uint64_t off, uint64_t *end);
/* The first byte at or behind off that is no hole; UINT64_MAX: none. */
uint64_t map_next(const struct map *map, uint64_t off);
uint64_t map_bytes(const struct map *map);
void map_copy(struct map *to, const struct map *from);
void map_free(struct map *map);

/* room for one more in an array of *room things of that size, of which n are in use */
void *bytes_grow(void *array, size_t n, size_t *room, size_t size);

uint64_t bytes_random(uint64_t *state);

#endif
