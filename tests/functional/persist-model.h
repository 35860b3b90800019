/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * persist-model - what a brick may hold after it was killed, byte for byte.
 *
 * The test writes only into *windows* of each block, in units of 8 bytes, and every
 * unit says of itself which write it is from: the number of the write, and a check
 * over that number and the unit's own place.  A unit that no write made like this is damage.
 *
 * Of each unit the model knows `durable`, the write whose persist was acknowledged (or
 * that was read after a map), and `mark`: what was written up to there and is not
 * `durable` must not come up any more.  After a kill a unit is `durable`, or any write
 * after both.  That is right since the driver never has writes of two lanes to one unit in flight.
 */
#ifndef PERSIST_MODEL_H
#define PERSIST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brick.h"

#define MODEL_BLOCKS 48
#define MODEL_LANES 4
#define MODEL_BASE 0x7200000000000000ull
#define WINDOWS 4
#define WINDOW (16u << 10)		/* bytes */
#define UNITS (WINDOW / 8)		/* in a window */
#define BLOCK_UNITS (WINDOWS * UNITS)

enum life { LIFE_FREE, LIFE_ALLOCATED, LIFE_MAYBE_ALLOCATED, LIFE_MAYBE_FREED };	/* the last two: a call was under way when the brick died */

struct model_block {
	uint64_t addr;
	enum life life;
	unsigned life_number;		/* counts each alloc and free */
	bool checked;			/* in this life of the brick */
	uint32_t window[WINDOWS];	/* offsets, ascending, apart */
	uint32_t durable[BLOCK_UNITS], mark[BLOCK_UNITS];
	uint32_t live[BLOCK_UNITS];	/* the last one posted in this life of the brick, or read */
	uint32_t lane[MODEL_LANES][BLOCK_UNITS];	/* the last one that the lane posted */
};

struct model {
	struct model_block block[MODEL_BLOCKS];
	unsigned blocks;
	uint32_t last;			/* write */
	uint8_t lane_of[1 << 16];	/* of the last so many writes, for messages */
};

void model_init(struct model *model, unsigned blocks, uint64_t *seed);
uint64_t model_random(uint64_t *seed);

/* The value of a unit: unit counts through the windows. */
uint64_t model_value(const struct model_block *block, unsigned unit, uint32_t write);
/* A new write of those units by the lane: bytes into buffer. */
void model_write(struct model *model, struct model_block *block, unsigned lane, unsigned unit, unsigned n, uint64_t *buffer);
/* The persist that saw these writes of the lane's was acknowledged. */
void model_persisted(struct model_block *block, unsigned unit, unsigned n, const uint32_t *writes);
/* The block came to life or was freed; what it had is void. */
void model_reset(struct model *model, struct model_block *block, enum life life);
/* The brick died. */
void model_died(struct model *model);
/* A unit as it was read. alive: it must be the last that was posted. Else what may be there after a death. False, with words. */
bool model_check(struct model *model, struct model_block *block, unsigned unit, uint64_t value, bool alive);
/* What was read after a map with nobody else writing: it is durable from here on. After a successful model_check(). */
void model_read(struct model *model, struct model_block *block, unsigned unit, uint64_t value);

#endif
