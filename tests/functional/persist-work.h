/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * persist-work - what the lanes of the persist test do, one random step at a time,
 * and what they learn from completions.
 *
 * One thread drives all lanes.  Steps return 0, or DIED where the brick was found dead; an
 * error that is not its death (nobody has killed it yet, or it is another one) ends the test.
 */
#ifndef PERSIST_WORK_H
#define PERSIST_WORK_H

#include <stdatomic.h>

#include "persist-model.h"

#define BLOCK BRICK_BLOCK_SIZE
#define LANES MODEL_LANES
#define SESSIONS 2
#define DEPTH 8
#define RANGES 6
#define MAPS_KEPT 6		/* of a session */
#define DIED 1			/* returned where the brick was found dead */

enum kind { IDLE, WRITE, READ, PERSIST };

struct range { struct model_block *block; unsigned life_number, unit, n; uint32_t writes[BLOCK_UNITS]; };

struct pending {
	enum kind kind;
	struct model_block *block;
	unsigned unit, n;		/* write, read */
	uint32_t write;
	uint64_t *buffer;		/* a window */
	struct range *range;		/* persist: RANGES of them */
	struct brick_range asked[RANGES];
	int status[RANGES];
	unsigned ranges;
};

struct held { bool mapped; struct brick_handle handle; };

struct side {
	struct brick_session *session;
	struct held held[MODEL_BLOCKS];
	unsigned maps;
	uint8_t *arena;
};

struct lane { struct brick_lane *lane; struct side *side; struct pending pending[DEPTH]; };

enum teeth { TEETH_NONE, TEETH_WRITE, TEETH_READ };

struct work {
	struct model model;
	struct side side[SESSIONS];
	struct lane lane[LANES];
	struct { struct model_block *block; unsigned unit, n; } recent;	/* the write that completed last */
	uint64_t seed, seed_given;
	bool keeps;			/* what completed survives a kill */
	enum teeth teeth;
	_Atomic bool killed;
	struct { unsigned long points, writes, persists, checked, maps, allocs, frees, settled; double start_ms; } count;
};
extern struct work work;

#define rnd(n) ((unsigned)(model_random(&work.seed) % (n)))

_Noreturn void work_die(const char *what, int error);
/* DIED, if that is what the error means. */
int work_death(const char *what, int error);
/* Takes completions; wait: at least one. */
int work_gather(struct lane *lane, bool wait);
int work_drain(struct lane *lane);
/* What was answered before the brick died counts. */
void work_drain_dead(struct lane *lane);
struct held *work_held_by(struct side *side, const struct model_block *block);
/* Maps it if it is there and is not mapped, and looks at it when nobody else may be writing. */
int work_map(struct lane *lane, struct model_block *block, uint32_t flags);
int work_unmap(struct lane *lane, struct model_block *block);
/* Random steps. */
int work_io(struct lane *lane, bool write);
int work_persist(struct lane *lane);
int work_some_map(struct lane *lane);
int work_some_unmap(struct lane *lane);
int work_alloc(struct lane *lane);
int work_free(struct lane *lane);

#endif
