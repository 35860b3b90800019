/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world - a filesystem on simulated bricks with its oracle: made, run, remounted,
 * examined and used up, the way a user and an administrator would after a crash.
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include "simbrick.h"
#include "tree.h"
#include "workload.h"

#define WORLD_BRICKS_MAX 8

struct world {
	struct sim *sim;
	struct run run;			/* its arg is the world */
	uint64_t *begins, *ends;	/* events when each step of the oracle began and returned */
	size_t bounds;
	unsigned recorded_from;		/* steps up to this one were before the recording */
};

/* Text of the case under way: printed when the core crashes, or hangs. */
void world_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Catches SIGSEGV, SIGABRT, SIGALRM, ...: prints the case and ends. */
void world_catch(void);
/* A case may take so long before it counts as hanging; call at its start. */
void world_alive(void);

/* A fresh filesystem; shared and copied on write. Cached for each shape. NULL and *why when mkfs failed. */
struct sim *world_fresh(unsigned bricks, uint64_t blocks, char **why);
/* Drops the cached ones. */
void world_forget(void);

/*
 * 0, or a negative errno and *why.  Complaints of the mount count as failures; crashed: but for
 * one copy of a superblock that is torn.
 */
int world_mount(struct sim *sim, struct fs **fs, bool crashed, char **why);
/* Blocks in use that are neither log nor superblock. */
uint64_t world_data_blocks(struct sim *sim);

/* A world with its own copy of that sim, mounted. */
int world_open(struct world *world, struct sim *fresh, char **why);
/* Parses and runs steps; NULL, or what went wrong. */
char *world_run(struct world *world, const struct workload *workload, size_t *failed_at);
char *world_run_text(struct world *world, const char *text);
/* Events are recorded from here on. */
void world_record(struct world *world);
/* Whole comparison with the oracle's present state. */
char *world_compare(struct world *world);
/* Unmounts as a step of its own. */
char *world_unmount(struct world *world);
void world_close(struct world *world);

/* fsck.brickfs -n: NULL, or what it found. crashed: what the next mount mends by itself is no problem. */
char *world_check(struct sim *sim, bool crashed);
/*
 * fsck.brickfs -y, with fs_repair() also where a mount would do: NULL, or what went wrong; damage that it tells is wrong.  shown: what
 * can be seen of it before the repair, or NULL. *no_room: there are too few blocks, and nothing was changed.
 */
char *world_repair(struct sim *sim, struct tree *shown, bool *no_room);
/*
 * Everything that must hold of a filesystem that was mounted after a crash and unmounted in order: it checks
 * clean, looks as `tree`, has no old bytes behind ends of files, takes new files, lets everything be
 * deleted, and has all its space back.
 */
char *world_use_up(struct sim *sim, const struct tree *tree);

#endif
