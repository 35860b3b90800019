/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_wire - hostile bytes for every decoder of the protocol, of both sides: preambles (over RDMA they are the
 * connection's private data), requests, replies, notices.
 *
 * The input is one message, given to all decoders as it is, and once more with a length field that is right, which
 * damage seldom leaves.  It ends by SIGABRT when a decoder accepted what does not encode to the same bytes.
 */
#include "fuzz.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"
#include "wire_cases.h"

const char fuzz_name[] = "fuzz_wire";
const unsigned long fuzz_count = 150000;

static unsigned long accepted;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *msg;
	bool right = true;

	if (size > FUZZ_INPUT_MAX)
		return 0;
	accepted += wire_decode_all(data, size);
	for (unsigned i = 0; i < 4 && i < size; i++)
		right &= data[i] == (uint8_t)(size >> 8 * i);
	if (right || size < 4)
		return 0;
	msg = malloc(size);
	if (!msg)
		abort();
	memcpy(msg, data, size);
	for (unsigned i = 0; i < 4; i++)
		msg[i] = (uint8_t)(size >> 8 * i);
	accepted += wire_decode_all(msg, size);
	free(msg);
	return 0;
}

size_t fuzz_sample(uint8_t *buf, unsigned n)
{
	if (n >= n_wire_cases * SAMPLES)
		return 0;
	return wire_cases[n / SAMPLES].sample(buf, (enum wire_variant)(n % SAMPLES));
}

int fuzz_report(unsigned long inputs)
{
	printf("accepted %lu times, each encoded to the same bytes\n", accepted);
	/* Nothing accepted or everything: then this tested nothing. */
	return inputs >= 1000 && (!accepted || accepted >= inputs * 2 * n_wire_cases);
}
