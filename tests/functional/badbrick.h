/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badbrick - a proxy in front of a brick that alters one thing of what the brick says.
 *
 * badbrick.c moves the messages, one whole message at a time; badbrick-cases.c decides what becomes of each,
 * case by case.  A case is always the same for one seed.
 */
#ifndef TEST_BADBRICK_H
#define TEST_BADBRICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

/* What is going on: the script that runs the programs says so in a file. */
enum bad_phase { BAD_MAKE, BAD_MOUNT, BAD_USE, BAD_CHECK, BAD_PHASES };

#define BAD_PREAMBLE 0		/* instead of a message's type: the preamble's reply */
#define BAD_FRAME_MAX (2 * WIRE_DATA_MAX)

struct bad_random {
	uint64_t state;
};

/* One message of the brick, or its reply to the preamble, and what is to be done with it. */
struct bad_frame {
	uint8_t *bytes;		/* BAD_FRAME_MAX of room */
	size_t length;		/* bytes that go out */
	uint16_t type;		/* of the request that it answers, BAD_PREAMBLE, or WIRE_NOTICE */
	uint64_t read_addr;	/* of the READ that it answers */
	/* The answer: */
	uint8_t before[256];	/* goes out in front of it */
	size_t before_length;
	unsigned copies;	/* 1; 0: it is swallowed */
	bool close;		/* the connection ends behind it */
	bool silence;		/* nothing comes any more on this connection */
};

struct bad_case;

unsigned bad_cases(bool local);
/* NULL: there is no such case. */
const struct bad_case *bad_case_find(unsigned number, bool local, uint64_t seed);
/*
 * "NAME PHASE once|always SECONDS WORDS": SECONDS is the timeo= to mount with; WORDS, joined by commas, or "-": refused (the program of this
 * phase must fail), survives (no error may be seen), writes (what is on the brick may be spoiled), content (so may what is read of
 * a file), quiet (no error needs to name the brick), damaged (a mount says that something is, or is refused), leaks (mkfs may leave what the next mount frees), slow (it comes early).
 */
void bad_case_print(const struct bad_case *bad);
/* With one lock around it: true if something was altered. */
bool bad_alter(const struct bad_case *bad, enum bad_phase phase, struct bad_frame *frame, bool up);

#endif
