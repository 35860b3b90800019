/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver - runs a fuzz target without libFuzzer (fuzz.h).
 *
 *	fuzz_X [-n COUNT | -t SECONDS] [-s SEED] [-f FROM]	samples with damage, pieces of two samples, and random bytes;
 *				FROM: begins with that number
 *	fuzz_X -c DIRECTORY	writes the samples there, as a corpus
 *	fuzz_X FILE...		gives each file to the target, to look at a finding
 *
 * Input number N of a seed is always the same: when one is found it says which.
 */
#include "fuzz.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 900		/* the machine may be very busy */

static uint64_t state, seed = 20160418;
static volatile uint64_t number;

/* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). */
static uint64_t next_random(void)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static size_t below(size_t n)
{
	return (size_t)(next_random() % n);
}

static void found(int sig)
{
	char text[160];
	int n = snprintf(text, sizeof(text), "\n%s: %s at input %" PRIu64 " of seed %" PRIu64 " (-s %" PRIu64 " -f %" PRIu64 " -n 1)\n",
			 fuzz_name, sig == SIGALRM ? "BUG: it does not come back" : "BUG", number, seed, seed, number);

	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void damage(uint8_t *buf, size_t *len)
{
	static const uint64_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 1ull << 21, 1ull << 53, INT64_MAX, UINT64_MAX};
	uint64_t value = below(2) ? odd[below(sizeof(odd) / sizeof(odd[0]))] : next_random() >> below(64);
	size_t at, width = (size_t)1 << below(4), from, n;

	if (!*len)
		return;
	at = below(below(2) || *len < 64 ? *len : 64);
	switch (below(7)) {
	case 0:
		buf[at] ^= (uint8_t)(1u << below(8));
		break;
	case 1:
		buf[at] = (uint8_t)(buf[at] + (below(2) ? 1 : -1));
		break;
	case 2:		/* cut off */
		if (!below(4))
			*len = at;
		break;
	case 3:		/* a piece out */
		n = 1 + below(below(2) ? 8 : *len);
		if (n > *len - at)
			n = *len - at;
		memmove(buf + at, buf + at + n, *len - at - n);
		*len -= n;
		break;
	case 4:		/* a piece twice */
		from = below(*len);
		n = 1 + below(below(2) ? 16 : *len);
		if (n > *len - from)
			n = *len - from;
		if (n > FUZZ_INPUT_MAX - *len)
			break;
		memmove(buf + at + n, buf + at, *len - at);
		memmove(buf + at, buf + from + (from >= at ? n : 0), from + n <= at || from >= at ? n : 0);
		*len += n;
		break;
	default:
		at &= ~(width - 1);
		memcpy(buf + at, &value, width < *len - at ? width : *len - at);
	}
}

static size_t make_input(uint8_t *buf, unsigned samples)
{
	static uint8_t other[FUZZ_INPUT_MAX];
	size_t len, more, at;
	unsigned hurt;

	if (!samples || !below(16)) {
		len = below(below(4) ? 256 : 4096);
		for (at = 0; at < len; at++)
			buf[at] = (uint8_t)next_random();
		return len;
	}
	len = fuzz_sample(buf, (unsigned)below(samples));
	if (!below(4)) {	/* the beginning of one, the end of another */
		more = fuzz_sample(other, (unsigned)below(samples));
		at = below(more + 1);
		len = below(len + 1);
		more = more - at < FUZZ_INPUT_MAX - len ? more - at : FUZZ_INPUT_MAX - len;
		memcpy(buf + len, other + at, more);
		len += more;
	}
	for (hurt = (unsigned)below(6); hurt; hurt--)
		damage(buf, &len);
	return len;
}

static void give(const uint8_t *bytes, size_t len)
{
	uint8_t *exact = malloc(len ? len : 1);	/* so that the sanitizer sees a read behind it */

	if (!exact) {
		perror(fuzz_name);
		exit(1);
	}
	memcpy(exact, bytes, len);
	alarm(HANG_SECONDS);
	LLVMFuzzerTestOneInput(exact, len);
	alarm(0);
	free(exact);
}

static int run_random(uint64_t from, uint64_t count, double seconds)
{
	static uint8_t buf[FUZZ_INPUT_MAX];
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
	struct timespec began, now;
	unsigned samples = 0;
	uint64_t done = 0;
	size_t i, len;

	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		signal(sigs[i], found);
	clock_gettime(CLOCK_MONOTONIC, &began);
	/* the samples as they are, first */
	for (; (len = fuzz_sample(buf, samples)); samples++)
		if (!from)
			give(buf, len);
	for (number = from; done < count; number++, done++) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (seconds > 0 && now.tv_sec - began.tv_sec > seconds)
			break;
		state = seed * 0x2545f4914f6cdd1dull + number;
		give(buf, make_input(buf, samples));
	}
	printf("%s: %" PRIu64 " inputs (seed %" PRIu64 ", from %" PRIu64 "), %u samples\n", fuzz_name, done, seed, from, samples);
	return fuzz_report(done);
}

static int write_corpus(const char *directory)
{
	static uint8_t buf[FUZZ_INPUT_MAX];
	unsigned n;
	size_t len;

	if (mkdir(directory, 0777) && errno != EEXIST)
		return perror(directory), 1;
	for (n = 0; (len = fuzz_sample(buf, n)); n++) {
		char path[4096];
		FILE *f;
		int err;

		snprintf(path, sizeof(path), "%s/sample-%u", directory, n);
		f = fopen(path, "wb");
		if (!f)
			return perror(path), 1;
		err = fwrite(buf, 1, len, f) != len;
		if (fclose(f) || err)
			return perror(path), 1;
	}
	printf("%s: %u samples in %s\n", fuzz_name, n, directory);
	return 0;
}

static int run_file(const char *path)
{
	static uint8_t buf[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (!f)
		return perror(path), 1;
	len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	give(buf, len);
	printf("%s: %zu bytes\n", path, len);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t count = fuzz_count, from = 0;
	double seconds = 0;
	int c, err = 0;

	while ((c = getopt(argc, argv, "n:t:s:f:c:")) != -1)
		switch (c) {
		case 'n':
			count = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atof(optarg);
			count = UINT64_MAX;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			from = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			return write_corpus(optarg);
		default:
			fprintf(stderr, "usage: %s [-n COUNT | -t SECONDS] [-s SEED] [-f FROM] | -c DIRECTORY | FILE...\n", fuzz_name);
			return 2;
		}
	if (optind == argc)
		return run_random(from, count, seconds);
	for (; optind < argc; optind++)
		err |= run_file(argv[optind]);
	return err;
}
