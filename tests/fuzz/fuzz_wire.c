/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_wire - hostile bytes for every decoder of the protocol.
 *
 * With libFuzzer (clang): make CC=clang tests/fuzz/fuzz_wire_libfuzzer, then
 *	tests/fuzz/fuzz_wire -c CORPUS && tests/fuzz/fuzz_wire_libfuzzer CORPUS
 * Without it (any compiler, and in make check) this file has a driver of its own:
 *	fuzz_wire [-n COUNT] [-s SEED]	that many inputs: samples with damage, and random bytes
 *	fuzz_wire -c DIRECTORY		writes the samples there, as a corpus
 *	fuzz_wire FILE...		gives each file to the decoders, to look at a finding
 * It ends by SIGABRT when a decoder accepted what does not encode to the same bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire.h"
#include "wire_cases.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	wire_decode_all(data, size);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static uint64_t state;

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016). */
static uint64_t next_random(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dull;
}

static size_t below(size_t n)
{
	return (size_t)(next_random() % n);
}

static void set_length(uint8_t *msg, size_t len)
{
	for (unsigned i = 0; i < 4 && i < len; i++)
		msg[i] = (uint8_t)(len >> (8 * i));
}

/* One input: random bytes, or a sample that was hurt in one to four places; mostly with a length that is right. */
static size_t make_input(uint8_t *buf)
{
	static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	size_t len;

	if (!below(8)) {
		len = below(below(4) ? 256 : WIRE_MSG_MAX + 1);
		for (size_t i = 0; i < len; i++)
			buf[i] = (uint8_t)next_random();
	} else {
		const struct wire_case *c = &wire_cases[below(n_wire_cases)];

		len = c->sample(buf, (enum wire_variant)below(SAMPLES));
		for (size_t hurt = below(5); hurt; hurt--) {
			uint8_t *at = &buf[below(len < 128 || below(2) ? len : 128)];

			*at = below(2) ? edges[below(sizeof(edges))] : (uint8_t)next_random();
		}
		if (!below(4))
			len = below(WIRE_MSG_MAX + 1);
	}
	if (below(4))
		set_length(buf, len);
	return len;
}

static int run_random(uint64_t count, uint64_t seed)
{
	uint64_t accepted = 0;
	uint8_t buf[WIRE_MSG_MAX];

	state = seed ? seed : 1;
	memset(buf, 0, sizeof(buf));
	for (uint64_t i = 0; i < count; i++) {
		size_t len = make_input(buf);
		uint8_t *exact = malloc(len ? len : 1); /* so that the sanitizer sees a read behind it */

		if (!exact)
			return perror("fuzz_wire"), 1;
		memcpy(exact, buf, len);
		accepted += wire_decode_all(exact, len);
		free(exact);
	}
	printf("fuzz_wire: %" PRIu64 " inputs (seed %" PRIu64 "), accepted %" PRIu64 " times, each encoded to the same bytes\n",
	       count, seed, accepted);
	/* Nothing accepted or everything: then this tested nothing. */
	return count >= 1000 && (!accepted || accepted >= count * n_wire_cases);
}

static int write_corpus(const char *directory)
{
	if (mkdir(directory, 0777) && errno != EEXIST)
		return perror(directory), 1;
	for (size_t i = 0; i < n_wire_cases; i++)
		for (unsigned v = 0; v < SAMPLES; v++) {
			uint8_t buf[WIRE_MSG_MAX];
			size_t len = wire_cases[i].sample(buf, (enum wire_variant)v);
			char path[4096];
			FILE *f;
			int err;

			snprintf(path, sizeof(path), "%s/%s-%u", directory, wire_cases[i].name, v);
			f = fopen(path, "wb");
			if (!f)
				return perror(path), 1;
			err = fwrite(buf, 1, len, f) != len;
			if (fclose(f) || err)
				return perror(path), 1;
		}
	printf("fuzz_wire: %zu samples in %s\n", n_wire_cases * SAMPLES, directory);
	return 0;
}

static int run_file(const char *path)
{
	static uint8_t buf[WIRE_MSG_MAX * 4];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (!f)
		return perror(path), 1;
	len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	printf("%s: %zu bytes, accepted by %u decoders\n", path, len, wire_decode_all(buf, len));
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t count = 300000, seed = 20160418;
	int c, err = 0;

	while ((c = getopt(argc, argv, "n:s:c:")) != -1)
		switch (c) {
		case 'n':
			count = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			return write_corpus(optarg);
		default:
			fprintf(stderr, "usage: fuzz_wire [-n COUNT] [-s SEED] | -c DIRECTORY | FILE...\n");
			return 2;
		}
	if (optind == argc)
		return run_random(count, seed);
	for (; optind < argc; optind++)
		err |= run_file(argv[optind]);
	return err;
}
#endif
