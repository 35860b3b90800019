/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * explore - every crash of a recorded run: at each event the images that a power
 * cut or the end of the client may leave, each examined once.
 *
 * For each image: the mount succeeds, what is seen is allowed (oracle.h), fsck finds
 * nothing, it can be used up (world.h).  Of some, and of all that a client's crash left, the recovery itself
 * is crashed at its events; and what the recovered mount has shown survives a power cut.
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
	unsigned recovery_points;	/* at most so many events of it */
	unsigned use_every;		/* every so many images are used up */
	bool power, client;		/* which crashes */
	uint64_t seed;
	uint64_t only_event;		/* UINT64_MAX: all */
	bool (*stop)(void *arg);	/* asked before each image: out of time? */
	void *stop_arg;

	/* what was done */
	uint64_t points, images, duplicates, mounts;

	/* inside */
	uint64_t *seen;
	size_t seen_count, seen_room;
};

/* The world has run and is unmounted; its sim holds the recording. NULL, or the first violation with how to find it. */
char *explore(struct explore *explore, struct world *world);
void explore_free(struct explore *explore);

#endif
