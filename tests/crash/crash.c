/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash - runs workloads on the core over simulated bricks, with an oracle at
 * its side, without and with crashes at every event. README.md says how to use it.
 */
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scenario.h"
#include "util.h"

#define MODES 6
enum mode { MODE_LIVE = 1, MODE_CLASSIC = 2, MODE_SHORT = 4, MODE_RANDOM = 8, MODE_REUSE = 16, MODE_TEETH = 32 };

static struct {
	unsigned modes;
	uint64_t seed, count;
	uint64_t from;			/* number of the first workload of each mode */
	unsigned repair;		/* every so many images are repaired; 0: none; UINT_MAX: as usual */
	unsigned shard, shards;
	unsigned bricks;		/* 0: 1 and 3 in turn */
	uint64_t blocks;		/* of each brick, 0: as the mode likes */
	unsigned maps;			/* that each brick grants; 0: plenty, or as the mode likes */
	unsigned start;
	double seconds;			/* 0: as many as count says */
	const char *run, *live;
	uint64_t event, drop;
	bool verbose, thorough, shrink;
	bool forget;			/* mutation: bricks do not settle what a dead client left */
} opt = {.modes = 0, .seed = 1, .count = UINT64_MAX, .shards = 1, .event = UINT64_MAX, .repair = UINT_MAX, .shrink = true};

static uint64_t workloads;
static uint64_t next;			/* number of the first one that was not finished */

static bool out_of_time(const double *until)
{
	return scenario_clock() > *until;
}

/* Number i of a mode is finished, or nobody knows how far it came. */
static void finished(uint64_t i, const double *until)
{
	if (!out_of_time(until))
		next = i + 1;
}

static int judge(struct scenario *s)
{
	workloads++;
	s->thorough = opt.thorough;
	s->repair = opt.repair != UINT_MAX ? opt.repair : s->thorough || opt.run ? 1 : 16;
	s->only_event = opt.event;
	s->drop = opt.drop;
	s->forget = opt.forget;
	s->quiet = opt.run || opt.live || !opt.shrink;
	if (opt.verbose) {
		char *how = scenario_command(s);

		fprintf(stderr, "%s\n", how);
		free(how);
	}
	return scenario_judge(s);
}

/* ---- the modes ---- */

static bool in_count(uint64_t number)
{
	return number - opt.from < opt.count;
}

static bool mine(uint64_t number)
{
	return number % opt.shards == opt.shard;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t state = a * 0x9e3779b97f4a7c15ull + b;

	return random_next(&state);
}

/* Of every third one few blocks are mapped at a time, so that they are evicted while dirty. */
static unsigned few_maps(uint64_t seed)
{
	return opt.maps ? opt.maps : random_below(&seed, 3) ? 0 : 2 + random_below(&seed, 3);
}

static int live(double until)
{
	uint64_t i, seed;
	int failures = 0;

	for (i = opt.from; in_count(i) && !failures && !out_of_time(&until); i++) {
		struct scenario s = {.bricks = opt.bricks ? opt.bricks : i % 2 ? 3 : 1, .start = WORKLOAD_STARTS, .until = until};
		bool heavy = i % 4 >= 2;

		if (!mine(i))
			continue;
		s.seed = seed = mix(opt.seed, i);
		s.blocks = opt.blocks ? opt.blocks : heavy ? 36 / s.bricks + random_below(&seed, 10) : 200;
		s.maps = few_maps(s.seed);
		workload_random(&s.steps, s.seed, 20 + random_below(&seed, i % 8 == 7 ? 1000 : 200), heavy);
		failures += judge(&s);
		finished(i, &until);
	}
	return failures;
}

/* Number i of n in an order of the seed's: each comes once. */
static uint64_t shuffled(uint64_t i, uint64_t n)
{
	uint64_t step = n / 2 + mix(opt.seed, 99) % (n / 4);

	for (;; step++) {	/* one without a common divisor */
		uint64_t a = step, b = n;

		while (b) {
			uint64_t rest = a % b;

			a = b;
			b = rest;
		}
		if (a == 1)
			return i % n * step % n;
	}
}

/* Number i of the sequences: all of one letter, then pairs with three kinds of glue, in an order of the seed's; every eighth a triple. */
static void short_sequence(struct scenario *s, uint64_t i)
{
	uint64_t letters = workload_letters(), ones = letters * WORKLOAD_SHORT_STARTS, pairs = letters * letters * 3 * WORKLOAD_SHORT_STARTS;
	uint64_t random = mix(opt.seed, i), k;
	struct step letter, glue = {.kind = STEP_TICK};

	if (i < ones) {
		s->start = i % WORKLOAD_SHORT_STARTS;
		workload_letter(i / WORKLOAD_SHORT_STARTS, &letter);
		workload_add(&s->steps, &letter);
		return;
	}
	i -= ones;
	if (i % 8 == 7) {
		s->start = random_below(&random, WORKLOAD_SHORT_STARTS);
		for (k = 0; k < 3; k++) {
			workload_letter(random_below(&random, letters), &letter);
			workload_add(&s->steps, &letter);
		}
		return;
	}
	k = shuffled(i - i / 8, pairs);
	s->start = k % WORKLOAD_SHORT_STARTS;
	k /= WORKLOAD_SHORT_STARTS;
	workload_letter(k / 3 % letters, &letter);
	workload_add(&s->steps, &letter);
	if (k % 3 == 2 && letter.path[0] == '/') {
		glue.kind = STEP_FSYNC;
		strcpy(glue.path, letter.path);
	}
	if (k % 3)
		workload_add(&s->steps, &glue);
	workload_letter(k / 3 / letters, &letter);
	workload_add(&s->steps, &letter);
}

static int short_ones(double until)
{
	uint64_t letters = workload_letters(), i;
	uint64_t all = letters * WORKLOAD_SHORT_STARTS + letters * letters * 3 * WORKLOAD_SHORT_STARTS * 8 / 7;
	int failures = 0;

	for (i = opt.from; in_count(i) && i < all && !failures && !out_of_time(&until); i++) {
		struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : mix(i, 5) % 4 ? 1 : 3,
				     .blocks = opt.blocks ? opt.blocks : 32, .maps = few_maps(mix(i, 6)), .seed = opt.seed,
				     .until = until};

		if (!mine(i))
			continue;
		/* in a short run by count: single steps and longer ones by turns, from all over the alphabet */
		if (opt.count < letters * WORKLOAD_SHORT_STARTS)
			short_sequence(&s, i % 2 ? letters * WORKLOAD_SHORT_STARTS + i : (i * 67 + opt.seed) % (letters * WORKLOAD_SHORT_STARTS));
		else
			short_sequence(&s, i);
		failures += judge(&s);
		finished(i, &until);
	}
	return failures;
}

static int classic_ones(double until)
{
	size_t i;
	int failures = 0;

	for (i = opt.from; i < workload_classics() && in_count(i) && !out_of_time(&until); i++) {
		struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : i % 3 ? 1 : 3, .start = 1,
				     .blocks = opt.blocks ? opt.blocks : 32, .seed = opt.seed, .until = until};
		char *bad;

		if (!mine(i))
			continue;
		if (workload_parse(&s.steps, workload_classic(i), &bad)) {
			fprintf(stderr, "crash: classic %zu does not parse: %s\n", i, bad);
			abort();
		}
		failures += judge(&s);
		finished(i, &until);
	}
	return failures;
}

static int random_ones(double until)
{
	uint64_t i, seed;
	int failures = 0;

	for (i = opt.from; in_count(i) && !failures && !out_of_time(&until); i++) {
		struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : i % 2 ? 3 : 1, .until = until};
		bool heavy = i % 4 >= 2;

		if (!mine(i))
			continue;
		s.seed = seed = mix(opt.seed, ~i);
		s.start = random_below(&seed, WORKLOAD_SHORT_STARTS + 1);
		if (s.start == WORKLOAD_SHORT_STARTS)
			s.start = WORKLOAD_STARTS;
		s.blocks = opt.blocks ? opt.blocks : heavy ? 32 / s.bricks + random_below(&seed, 6) : 100;
		s.maps = few_maps(s.seed);
		workload_random(&s.steps, s.seed, 4 + random_below(&seed, 30), heavy);
		failures += judge(&s);
		finished(i, &until);
	}
	return failures;
}

/* By turns on bricks that have room, and on such as have only what was given up. */
static int reuse_ones(double until)
{
	uint64_t all = 2 * workload_reuses(), i;
	int failures = 0;

	for (i = opt.from; in_count(i) && i < all && !out_of_time(&until); i++) {
		struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : mix(i, 7) % 4 ? 1 : 3, .start = 2,
				     .seed = opt.seed, .until = until};

		if (!mine(i))
			continue;
		s.blocks = opt.blocks ? opt.blocks : i % 2 ? 32 : s.bricks == 1 ? 9 : 4;
		workload_reuse(&s.steps, shuffled(i / 2, workload_reuses()));
		failures += judge(&s);
		finished(i, &until);
	}
	return failures;
}

static int teeth_mode(double until)
{
	return teeth(until, opt.bricks, (unsigned)opt.from, opt.verbose);
}

static void usage(FILE *out)
{
	fputs("usage: crash [--mode live|classic|short|random|reuse|teeth[,...]] [--minutes N | --seconds N] [--count N] [--from N] [--seed N]\n"
	      "             [--shard I/N] [--bricks N] [--blocks N] [--maps N] [--thorough] [--repair N] [--verbose] [--no-shrink]\n"
	      "       crash --live 'STEPS' | --run 'STEPS' [--event N] [--start N] [--drop-persist N] [--forget-settle] ...\n"
	      "Without --minutes, --seconds or --count: 60 seconds. tests/crash/README.md tells more.\n", out);
}

static bool parse_modes(char *text)
{
	static const char *const names[MODES] = {"live", "classic", "short", "random", "reuse", "teeth"};
	char *save, *part;
	unsigned i;

	for (part = strtok_r(text, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		for (i = 0; i < MODES && strcmp(names[i], part); i++)
			;
		if (i == MODES)
			return false;
		opt.modes |= 1u << i;
	}
	return opt.modes;
}

static bool parse_options(int argc, char **argv)
{
	enum { O_MODE = 256, O_MINUTES, O_SECONDS, O_COUNT, O_SEED, O_SHARD, O_BRICKS, O_BLOCKS, O_MAPS, O_START, O_THOROUGH, O_VERBOSE,
	       O_NO_SHRINK, O_FORGET, O_LIVE, O_RUN, O_EVENT, O_DROP, O_FROM,
	       O_REPAIR, O_HELP };
	static const struct option longs[] = {
		{"mode", 1, NULL, O_MODE}, {"minutes", 1, NULL, O_MINUTES}, {"seconds", 1, NULL, O_SECONDS},
		{"count", 1, NULL, O_COUNT}, {"seed", 1, NULL, O_SEED}, {"shard", 1, NULL, O_SHARD},
		{"bricks", 1, NULL, O_BRICKS}, {"blocks", 1, NULL, O_BLOCKS}, {"maps", 1, NULL, O_MAPS}, {"start", 1, NULL, O_START},
		{"thorough", 0, NULL, O_THOROUGH}, {"verbose", 0, NULL, O_VERBOSE}, {"no-shrink", 0, NULL, O_NO_SHRINK},
		{"forget-settle", 0, NULL, O_FORGET}, {"live", 1, NULL, O_LIVE}, {"run", 1, NULL, O_RUN}, {"replay", 1, NULL, O_RUN}, {"event", 1, NULL, O_EVENT},
		{"drop-persist", 1, NULL, O_DROP}, {"from", 1, NULL, O_FROM},
		{"repair", 1, NULL, O_REPAIR}, {"help", 0, NULL, O_HELP}, {NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (o) {
		case O_MODE:
			if (!parse_modes(optarg))
				return false;
			break;
		case O_MINUTES:
			opt.seconds = 60 * atof(optarg);
			break;
		case O_SECONDS:
			opt.seconds = atof(optarg);
			break;
		case O_COUNT:
			opt.count = strtoull(optarg, NULL, 0);
			break;
		case O_SEED:
			opt.seed = strtoull(optarg, NULL, 0);
			break;
		case O_SHARD:
			if (sscanf(optarg, "%u/%u", &opt.shard, &opt.shards) != 2 || !opt.shards || opt.shard >= opt.shards)
				return false;
			break;
		case O_BRICKS:
			opt.bricks = atoi(optarg);
			if (!opt.bricks || opt.bricks > WORLD_BRICKS_MAX)
				return false;
			break;
		case O_BLOCKS:
			opt.blocks = strtoull(optarg, NULL, 0);
			break;
		case O_MAPS:
			opt.maps = atoi(optarg);
			break;
		case O_START:
			opt.start = atoi(optarg);
			break;
		case O_THOROUGH:
			opt.thorough = true;
			break;
		case O_VERBOSE:
			opt.verbose = true;
			break;
		case O_NO_SHRINK:
			opt.shrink = false;
			break;
		case O_FORGET:
			opt.forget = true;
			break;
		case O_LIVE:
			opt.live = optarg;
			break;
		case O_RUN:
			opt.run = optarg;
			break;
		case O_EVENT:
			opt.event = strtoull(optarg, NULL, 0);
			break;
		case O_DROP:
			opt.drop = strtoull(optarg, NULL, 0);
			break;
		case O_FROM:
			opt.from = strtoull(optarg, NULL, 0);
			break;
		case O_REPAIR:
			opt.repair = strtoul(optarg, NULL, 0);
			break;
		case O_HELP:
			usage(stdout);
			exit(0);
		default:
			return false;
		}
	if (optind < argc)
		return false;
	if (!opt.modes)
		opt.modes = MODE_LIVE | MODE_CLASSIC | MODE_SHORT | MODE_RANDOM | MODE_REUSE | MODE_TEETH;
	if (!opt.seconds && opt.count == UINT64_MAX && !opt.run && !opt.live)
		opt.seconds = 60;
	return true;
}

static int replay(void)
{
	struct scenario s = {.crash = opt.run != NULL, .bricks = opt.bricks ? opt.bricks : 1, .start = opt.start,
			     .blocks = opt.blocks ? opt.blocks : 64, .maps = opt.maps, .seed = opt.seed, .fine = true, .until = 1e9};
	char *bad;

	if (workload_parse(&s.steps, opt.run ? opt.run : opt.live, &bad)) {
		fprintf(stderr, "crash: this step cannot be read: %s\n", bad);
		free(bad);
		return 2;
	}
	return judge(&s);
}

int main(int argc, char **argv)
{
	static int (*const modes[MODES])(double) = {live, classic_ones, short_ones, random_ones, reuse_ones, teeth_mode};
	static const char *const names[MODES] = {"live", "classic", "short", "random", "reuse", "teeth"};
	unsigned i, left = 0;
	int failures = 0;

	if (!parse_options(argc, argv)) {
		usage(stderr);
		return 2;
	}
	/* Whole blocks come and go with every mount: not from fresh pages each time. */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 512 << 20);
	scenario_clock();
	world_catch();
	if (opt.run || opt.live)
		failures = replay();
	for (i = 0; i < MODES; i++)
		left += opt.modes >> i & 1;
	for (i = 0; i < MODES && !opt.run && !opt.live; i++) {
		if (!(opt.modes >> i & 1))
			continue;
		workloads = 0;
		next = opt.from;
		memset(&scenario_totals, 0, sizeof(scenario_totals));
		failures += modes[i](opt.seconds ? scenario_clock() + (opt.seconds - scenario_clock()) / left-- : 1e9);
		printf("%s: seed %llu, shard %u/%u: %llu workloads", names[i], (unsigned long long)opt.seed, opt.shard, opt.shards,
		       (unsigned long long)workloads);
		if (scenario_totals.points)
			printf(", %llu crash points, %llu distinct images (%llu examined, %llu seen before), %llu mounts, "
			       "%llu recoveries crashed, %llu repairs (%llu without room), %llu of them crashed "
			       "(%llu recoveries and repairs of what such a crash left)",
			       (unsigned long long)scenario_totals.points, (unsigned long long)scenario_totals.images,
			       (unsigned long long)scenario_totals.examined, (unsigned long long)scenario_totals.duplicates,
			       (unsigned long long)scenario_totals.mounts, (unsigned long long)scenario_totals.recoveries,
			       (unsigned long long)scenario_totals.repairs, (unsigned long long)scenario_totals.repairs_without_room,
			       (unsigned long long)scenario_totals.repairs_cut, (unsigned long long)scenario_totals.deep);
		if (opt.modes >> i & 1 && 1u << i != MODE_TEETH && opt.seconds)
			printf("; go on with --from %llu", (unsigned long long)next);
		printf("\n");
		fflush(stdout);
	}
	if (opt.run || opt.live)
		printf("%llu crash points, %llu distinct images, %llu mounts, %llu repairs, %llu repairs crashed: %s\n",
		       (unsigned long long)scenario_totals.points, (unsigned long long)scenario_totals.images,
		       (unsigned long long)scenario_totals.mounts, (unsigned long long)scenario_totals.repairs,
		       (unsigned long long)scenario_totals.repairs_cut,
		       failures ? "a violation" : "no violation");
	world_forget();
	alarm(0);
	return failures ? 1 : 0;
}
