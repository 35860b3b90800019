/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scenario - one workload in its surroundings, run with the oracle at its side, without or with all
 * its crashes: all that a replay needs.
 */
#ifndef TESTS_SCENARIO_H
#define TESTS_SCENARIO_H

#include "explore.h"

struct scenario {
	struct workload steps;
	bool crash;			/* explore its crashes, else compare as it goes */
	unsigned bricks, start;		/* start: WORKLOAD_STARTS: nothing */
	unsigned maps;			/* that each brick grants; 0: plenty */
	uint64_t blocks, seed;		/* blocks: of each brick */
	bool fine;			/* compare after every step */
	bool thorough, light;		/* light: a quarter of the quick one */
	bool recoveries;		/* what a quick exploration leaves out: recoveries of what stayed visible, at every event */
	unsigned repair;		/* every so many images are repaired; 0: none */
	double until;			/* in seconds of scenario_clock() */
	unsigned randoms;		/* selections of each crash point; 0: as usual */
	uint64_t only_event;		/* UINT64_MAX: all */
	bool quiet;			/* judge: do not make a failure smaller */

	/* mutations of the bricks */
	uint64_t drop;			/* the nth persist covers nothing; 0: none */
	bool forget;			/* they do not settle what a dead client left */
	bool dropped;			/* out: there was such a persist */
};

double scenario_clock(void);		/* seconds since the first call */
/* Sums of all runs. */
extern struct explore scenario_totals;

/* NULL, or the first violation. */
char *scenario_run(struct scenario *scenario);
/* The command that runs it again, malloc'ed. */
char *scenario_command(const struct scenario *scenario);
/* Runs it; a failure is made small and told. Takes the steps over. 0 or 1. */
int scenario_judge(struct scenario *scenario);

/*
 * teeth.c: faults in the bricks and, in the test build of the core, in the core itself: each must be noticed; from: the first one
 * that is tried, in the order of the table (not 0: no persists are dropped). How many were not noticed.
 */
int teeth(double until, unsigned bricks, unsigned from, bool verbose);

#endif
