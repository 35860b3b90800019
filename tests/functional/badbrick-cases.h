/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badbrick-cases - what the tables of cases are made of: badbrick-any.c has alterations of any message, badbrick-lies.c those that
 * only one type of message can have; badbrick-cases.c makes cases of them.
 *
 * Fields are taken apart and put together by wire.h.  Only what its encoders would not make (lengths, bytes that must be zero, counts
 * that do not fit) is altered at the offset that brick-protocol(7) tells.
 */
#ifndef TEST_BADBRICK_CASES_H
#define TEST_BADBRICK_CASES_H

#include "badbrick.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum {
	REFUSED = 1, SURVIVES = 2, WRITES = 4, CONTENT = 8, QUIET = 16, DAMAGED = 32, LEAKS = 64, SLOW = 128,	/* badbrick.h */
	ALWAYS = 256,		/* from the first one on; else that alone */
	UP = 512,		/* what the initiator says is altered */
	TCP_ONLY = 1024,
};

struct call {
	struct bad_case *bad;
	struct bad_frame *f;
	struct bad_random *random;
	unsigned argument;
};

struct bad_case {
	char name[48];
	uint16_t type;
	enum bad_phase phase;
	unsigned flags, skip, argument;
	bool (*alter)(struct call *call);
	struct bad_random random;
	uint64_t past[4];	/* what an alteration remembers of the answers before */
};

struct bad_row {
	const char *name;
	bool (*alter)(struct call *call);
	unsigned flags, argument;
	uint16_t type;
	enum bad_phase phase;
};

extern const struct bad_row bad_any[], bad_lies[];
extern const size_t bad_any_count, bad_lies_count;

/* Three of the first table that the second one uses, too. */
bool bad_cut(struct call *c);
bool bad_silence(struct call *c);
bool bad_status(struct call *c);

static inline uint64_t next(struct bad_random *r)
{
	/* splitmix64, https://prng.di.unimi.it/splitmix64.c, public domain */
	uint64_t z = (r->state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static inline void put32(uint8_t *at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static inline struct wire_header header_of(const struct bad_frame *f)
{
	struct wire_header h = { 0 };

	wire_get_header(f->bytes, WIRE_HEADER_SIZE, &h);
	return h;
}

#endif
