/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * idmap - the brick's ordered map from block number (address >> 21) to slot,
 * rebuilt at start from the pool's slot words.
 *
 * No locks of its own: the caller serialises.  Memory is the only thing that can
 * run out (-ENOMEM).  Iteration is in ascending order of block number, which is
 * what list answers with.
 */
#ifndef TARGET_IDMAP_H
#define TARGET_IDMAP_H

#include <stdbool.h>
#include <stdint.h>

struct idmap;
#define IDMAP_NONE UINT32_MAX

struct idmap *idmap_new(void);
void idmap_delete(struct idmap *map);
int idmap_insert(struct idmap *map, uint64_t block, uint32_t slot);	/* -EEXIST, -ENOMEM */
uint32_t idmap_find(const struct idmap *map, uint64_t block);		/* slot or IDMAP_NONE */
uint32_t idmap_remove(struct idmap *map, uint64_t block);		/* the slot it had, or IDMAP_NONE */
uint64_t idmap_count(const struct idmap *map);
/* The first run of consecutive block numbers at or after `from`: false when there is none. */
bool idmap_extent(const struct idmap *map, uint64_t from, uint64_t *start, uint64_t *count);

#endif
