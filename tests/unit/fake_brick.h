/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_brick - a small brick in this process for the tests of libbrick: threads
 * behind a loopback or a Unix socket that speak the protocol by wire.h, well
 * or, when told so, badly.
 */
#ifndef FAKE_BRICK_H
#define FAKE_BRICK_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_SLOTS 8
#define FAKE_LANES 8

enum fake_fault {
	FAKE_GOOD,
	/* while connecting */
	FAKE_MUTE,		/* accepts and says nothing */
	FAKE_NO_BRICK,		/* answers the preamble with text */
	FAKE_HANG_UP,		/* closes before the preamble's reply */
	FAKE_FULL,		/* refuses: -EUSERS */
	FAKE_STALE,		/* refuses: -ESTALE */
	FAKE_OTHER_LANE,	/* admits another lane than was asked for */
	FAKE_NO_GRANT,		/* hello: grants nothing */
	FAKE_NO_FDS,		/* hello: announces a descriptor that is not there */
	/* instead of a reply to each request after hello */
	FAKE_SILENT,
	FAKE_CLOSE,
	FAKE_CUT,		/* half of the reply, then the end */
	FAKE_GARBAGE,		/* random bytes, from .seed */
	FAKE_SHORT_LENGTH,	/* a header whose length is less than the header */
	FAKE_WRONG_ID,
	FAKE_OLD_ID,		/* the ID of the request before */
	FAKE_WRONG_TYPE,
	FAKE_WRONG_COUNT,	/* one entry less, or one byte of payload less */
	FAKE_STATUS_AND_BODY,	/* a failure that has a body */
	FAKE_TWICE,		/* the reply twice */
	FAKE_WRONG_PLACE,	/* handles that lie nowhere */
	/* well, but unpleasant */
	FAKE_DRIP,		/* replies come a few bytes at a time */
	FAKE_SLOW,		/* each reply takes half a second */
	FAKE_REVERSE,		/* replies in the reverse order, once .gather requests are there */
	FAKE_REFUSE,		/* every request answered with EOPNOTSUPP */
	FAKE_NOTICES,		/* 100 notices before each reply */
};

struct fake_brick;

/* local: a Unix socket instead of TCP. */
struct fake_brick *fake_start(bool local, uint16_t depth);
void fake_stop(struct fake_brick *fake);
const char *fake_endpoint(const struct fake_brick *fake);
/* From the next request or connection on. */
void fake_set(struct fake_brick *fake, enum fake_fault fault);
void fake_set_gather(struct fake_brick *fake, unsigned gather);
void fake_set_seed(struct fake_brick *fake, unsigned seed);
/* Closes every connection, as a dying network would. */
void fake_cut_all(struct fake_brick *fake);
/* Control messages of that type that have come in. */
unsigned fake_count(struct fake_brick *fake, uint16_t type);
/* The most messages that were there, unanswered, at once (FAKE_REVERSE). */
unsigned fake_deepest(struct fake_brick *fake);
/* Byte of a block, as the brick sees it. */
uint8_t fake_byte(struct fake_brick *fake, uint64_t addr);

#endif
