/* SPDX-License-Identifier: BSD-3-Clause */
/* persist-model - what a brick may hold after it was killed. */
#include "persist-model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint64_t model_random(uint64_t *seed)
{
	/* splitmix64, Steele, Lea, Flood 2014 */
	uint64_t z = (*seed += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void model_init(struct model *model, unsigned blocks, uint64_t *seed)
{
	const uint32_t room = (uint32_t)(BRICK_BLOCK_SIZE / WINDOWS - WINDOW);

	memset(model, 0, sizeof(*model));
	model->blocks = blocks;
	for (unsigned i = 0; i < blocks; i++) {
		struct model_block *b = &model->block[i];

		b->addr = MODEL_BASE + i * BRICK_BLOCK_SIZE;
		/* The first and the last bytes of a block too. */
		for (unsigned w = 0; w < WINDOWS; w++)
			b->window[w] = (uint32_t)(w * (BRICK_BLOCK_SIZE / WINDOWS)) + (uint32_t)(model_random(seed) % (room / 8)) * 8;
		if (i % 2)
			b->window[0] = 0;
		if (i % 3)
			b->window[WINDOWS - 1] = (uint32_t)BRICK_BLOCK_SIZE - WINDOW;
	}
}

uint64_t model_value(const struct model_block *block, unsigned unit, uint32_t write)
{
	uint64_t place = block->addr + block->window[unit / UNITS] + (uint64_t)(unit % UNITS) * 8;
	uint64_t seed = place ^ ((uint64_t)write << 20);

	return write ? (uint64_t)write << 32 | (model_random(&seed) >> 32) : 0;
}

void model_write(struct model *model, struct model_block *block, unsigned lane, unsigned unit, unsigned n, uint64_t *buffer)
{
	uint32_t write = ++model->last;

	model->lane_of[write % sizeof(model->lane_of)] = (uint8_t)lane;
	for (unsigned i = 0; i < n; i++) {
		buffer[i] = model_value(block, unit + i, write);
		block->live[unit + i] = block->lane[lane][unit + i] = write;
	}
}

void model_persisted(struct model_block *block, unsigned unit, unsigned n, const uint32_t *writes)
{
	for (unsigned i = 0; i < n; i++)
		/* What is marked was read as something newer, or is of a block that was freed. */
		if (writes[i] > block->durable[unit + i] && writes[i] > block->mark[unit + i])
			block->durable[unit + i] = writes[i];
}

void model_reset(struct model *model, struct model_block *block, enum life life)
{
	block->life = life;
	block->life_number++;
	block->checked = life == LIFE_ALLOCATED;
	memset(block->durable, 0, sizeof(block->durable));
	memset(block->live, 0, sizeof(block->live));
	memset(block->lane, 0, sizeof(block->lane));
	for (unsigned i = 0; i < BLOCK_UNITS; i++)
		block->mark[i] = model->last;
}

void model_died(struct model *model)
{
	for (unsigned i = 0; i < model->blocks; i++) {
		struct model_block *b = &model->block[i];

		b->checked = false;
		/* Later lanes persist nothing of what these wrote. */
		memset(b->lane, 0, sizeof(b->lane));
	}
}

bool model_check(struct model *model, struct model_block *block, unsigned unit, uint64_t value, bool alive)
{
	uint32_t write = (uint32_t)(value >> 32), durable = block->durable[unit], mark = block->mark[unit];
	bool whole = value == model_value(block, unit, write) && write <= model->last, good;

	if (alive)
		good = whole && write == block->live[unit];
	else
		good = whole && (write == durable || (write > durable && write > mark));
	if (good)
		return true;
	fprintf(stderr,
		"FAILED: unit %u of 0x%" PRIx64 " (offset %u) is 0x%016" PRIx64 ": %s, write %u (lane %u); durable %u, marked %u, last %u%s\n",
		unit, block->addr, block->window[unit / UNITS] + unit % UNITS * 8, value,
		whole ? "a write" : "nothing that was ever written there", write,
		model->lane_of[write % sizeof(model->lane_of)], durable, mark, block->live[unit],
		alive ? ", and the brick lives" : "");
	return false;
}

void model_read(struct model *model, struct model_block *block, unsigned unit, uint64_t value)
{
	block->durable[unit] = block->live[unit] = (uint32_t)(value >> 32);
	block->mark[unit] = model->last;
}
