/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_cases - every message of the protocol as the tests and the fuzzer use it: a
 * few samples of it, and its decoder with the check that whatever is accepted
 * encodes to the same bytes again (there is one encoding of a message).
 */
#ifndef TESTS_WIRE_CASES_H
#define TESTS_WIRE_CASES_H

#include <stddef.h>
#include <stdint.h>

enum wire_variant { SAMPLE_USUAL, SAMPLE_LEAST, SAMPLE_MOST, SAMPLES };

#define WIRE_CASE_FIXED 1u /* a fixed number of bytes, more is ignored (preambles, READ and WRITE) */

struct wire_case {
	const char *name;
	unsigned flags;
	/* Encodes a sample into WIRE_MSG_MAX bytes, returns its length. */
	size_t (*sample)(uint8_t *buf, enum wire_variant variant);
	/* 0 or -EPROTO, never anything else. Aborts when an accepted message does not encode to the same bytes. */
	int (*decode)(const uint8_t *msg, size_t len);
};

extern const struct wire_case wire_cases[];
extern const size_t n_wire_cases;

/* Gives the bytes to every decoder; returns how many accepted them. */
unsigned wire_decode_all(const uint8_t *msg, size_t len);

#endif
