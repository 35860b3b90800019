/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * explore - every crash of a recorded run: at each event the images that a power
 * cut, the end of the client, or a power cut of one brick alone (the client dies with it) may leave,
 * each examined once for each set of states that is allowed there.
 *
 * For each image: the mount succeeds, what is seen is allowed (oracle.h), fsck finds
 * nothing, it can be used up (world.h).  Some are repaired (fs_repair(), what fsck.brickfs -y calls) instead, and some of these
 * repairs are crashed at their events: what is left is repaired, or mounted, in the same way.  Of some, and of all that left volatile bytes visible, the recovery itself
 * is crashed at its events, in each of the three ways, and of some of these the next recovery again (depth two);
 * and what a recovered mount has shown survives a power cut.
 */
#ifndef TESTS_EXPLORE_H
#define TESTS_EXPLORE_H

#include "world.h"

struct explore {
	/* how much */
	unsigned subsets;		/* up to so many volatile pieces: all subsets of them */
	unsigned randoms;		/* seeded random selections (whole pieces, and torn at 8 bytes) of each crash point */
	unsigned lone;			/* up to so many "only this piece" and "all but this piece", each */
	unsigned recovery;		/* every so many images the recovery is crashed, too; 0: never after a power cut */
	unsigned recovery_points;	/* about so many events of it */
	unsigned again;			/* every so many images of crashed recoveries the next one is crashed, too; 0: never */
	unsigned again_points;
	unsigned recovery_subsets, recovery_randoms;	/* as subsets and randoms, inside recoveries */
	unsigned use_every;		/* every so many images are used up */
	unsigned repair;		/* every so many images are repaired, too; 0: none */
	unsigned repair_crash;		/* every so many of these repairs are crashed; 0: none */
	bool power, client, apart;	/* which crashes; apart: of one brick */
	uint64_t seed;
	uint64_t first_event, last_event;	/* crashes behind so many events */
	bool (*stop)(void *arg);	/* asked before each image: out of time? */
	void *stop_arg;

	/* what was done; images: distinct ones, examined: the same times different sets of allowed states */
	uint64_t points, images, examined, duplicates, mounts, recoveries, deep;
	uint64_t repairs, repairs_cut, repairs_without_room;

	/* inside */
	struct explore_seen { uint64_t *key; size_t count, room; } seen, distinct;
	uint64_t depth_one, repair_turn;
};

/* The world has run and is unmounted; its sim holds the recording. NULL, or the first violation with how to find it. */
char *explore(struct explore *explore, struct world *world);
void explore_free(struct explore *explore);

#endif
