/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash - runs workloads on the core over simulated bricks, with an oracle at
 * its side, without and with crashes at every event. README.md says how to use it.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "explore.h"
#include "util.h"

#define MODES 5
enum mode { MODE_LIVE = 1, MODE_CLASSIC = 2, MODE_SHORT = 4, MODE_RANDOM = 8, MODE_TEETH = 16 };

static struct {
	unsigned modes;
	uint64_t seed, count;
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
} opt = {.modes = 0, .seed = 1, .count = UINT64_MAX, .shards = 1, .event = UINT64_MAX, .shrink = true};

static struct timespec began;
static uint64_t workloads;
static size_t failed_at;		/* the step of a live run that differed */
static struct explore totals;

static double elapsed(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - began.tv_sec + (now.tv_nsec - began.tv_nsec) / 1e9;
}

static bool out_of_time(void *arg)
{
	return opt.seconds && elapsed() > *(double *)arg;
}

/* One workload in its surroundings: all that a replay needs. */
struct scenario {
	struct workload steps;
	bool crash;			/* explore its crashes, else compare as it goes */
	unsigned bricks, start;		/* start: WORKLOAD_STARTS: nothing */
	unsigned maps;			/* 0: plenty */
	uint64_t blocks, seed;
	bool fine;			/* compare after every step */
	double until;
};

static char *command(const struct scenario *s)
{
	char *text = workload_text(&s->steps), *out, maps[32] = "";

	if (s->maps)
		snprintf(maps, sizeof(maps), " --maps %u", s->maps);
	if (asprintf(&out, "crash --bricks %u --blocks %llu%s --start %u --seed %llu%s %s '%s'", s->bricks,
		     (unsigned long long)s->blocks, maps, s->start, (unsigned long long)s->seed,
		     s->crash && opt.thorough ? " --thorough" : "", s->crash ? "--run" : "--live", text) < 0)
		need(NULL);
	free(text);
	return out;
}

static char *run_live(const struct scenario *s, struct world *w)
{
	struct workload one = {.count = 1};
	char *why = NULL;
	struct tree tree;
	size_t i;

	for (i = 0; i < s->steps.count && !why; i++) {
		one.steps = &s->steps.steps[i];
		world_alive();
		why = world_run(w, &one, NULL);
		if (!why && (s->fine || i % 10 == 9 || one.steps->kind == STEP_REMOUNT))
			why = world_compare(w);
		if (why)
			failed_at = i;
	}
	if (!why)
		why = world_compare(w);
	if (!why) {
		run_close(&w->run);
		if (!tree_take(&tree, w->run.fs, &why))
			why = world_unmount(w);
		if (!why)
			why = world_use_up(w->sim, &tree);
		tree_free(&tree);
	}
	return why;
}

static void shape(struct explore *x, const struct scenario *s)
{
	*x = (struct explore){.subsets = 4, .randoms = 3, .lone = 4, .recovery = 24, .recovery_points = 5, .again = 16,
			      .again_points = 2, .recovery_subsets = 1, .use_every = 4,
			      .power = true, .client = true, .apart = true, .seed = s->seed, .only_event = opt.event,
			      .stop = out_of_time, .stop_arg = (void *)&s->until};
	if (opt.thorough) {
		x->subsets = 12;
		x->randoms = 16;
		x->lone = 64;
		x->recovery = 8;
		x->recovery_points = 12;
		x->recovery_subsets = 2;
		x->again = 24;
		x->again_points = 6;
		x->use_every = 1;
	}
	if (opt.event != UINT64_MAX)
		x->use_every = 1;
}

static char *run_crashing(const struct scenario *s, struct world *w)
{
	struct explore x;
	char *why;

	if (opt.forget)
		sim_forget_settle(w->sim, true);
	world_record(w);
	if (opt.drop)
		sim_drop_persist(w->sim, opt.drop);
	why = world_run(w, &s->steps, NULL);
	if (!why)
		why = world_run_text(w, "tick; tick");
	if (!why)
		why = world_compare(w);
	if (!why)
		why = world_unmount(w);
	sim_record(w->sim, false);
	if (why)
		return why;
	shape(&x, s);
	why = explore(&x, w);
	totals.points += x.points;
	totals.images += x.images;
	totals.examined += x.examined;
	totals.recoveries += x.recoveries;
	totals.deep += x.deep;
	totals.duplicates += x.duplicates;
	totals.mounts += x.mounts;
	explore_free(&x);
	return why;
}

static char *run_scenario(const struct scenario *s)
{
	struct sim *fresh;
	struct world w;
	char *why, *how = command(s);

	world_case("  replay: %s", how);
	free(how);
	world_alive();
	fresh = world_fresh(s->bricks, s->blocks, &why);
	if (!fresh)
		return why;
	sim_set_grants(fresh, s->maps, 0, 0);
	if (!world_open(&w, fresh, &why)) {
		if (s->start < WORKLOAD_STARTS)
			why = world_run_text(&w, workload_start(s->start));
		if (!why)
			why = world_run_text(&w, "tick; tick");
		if (!why)
			why = s->crash ? run_crashing(s, &w) : run_live(s, &w);
	}
	world_close(&w);
	return why;
}

/* ---- making a failure small ---- */

/* In a process of its own, so that a crash of the core counts, too. */
static bool fails(const struct scenario *s)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();

	if (pid < 0)
		return false;
	if (!pid) {
		char *why;

		fclose(stderr);
		if (!freopen("/dev/null", "w", stdout))
			exit(0);
		why = run_scenario(s);
		exit(why ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) < 0)
		return false;
	return status != 0;
}

static void shrink(struct scenario *s)
{
	double until = elapsed() + 90;
	size_t chunk, at;

	if (!s->crash && failed_at < s->steps.count)
		s->steps.count = failed_at + 1;

	for (chunk = s->steps.count / 2 ? s->steps.count / 2 : 1; chunk && elapsed() < until; chunk /= 2)
		for (at = 0; at < s->steps.count && s->steps.count > 1 && elapsed() < until;) {
			struct scenario t = *s;
			size_t i;

			memset(&t.steps, 0, sizeof(t.steps));
			for (i = 0; i < s->steps.count; i++)
				if (i < at || i >= at + chunk)
					workload_add(&t.steps, &s->steps.steps[i]);
			t.fine = true;
			t.until = 1e9;
			if (t.steps.count && fails(&t)) {
				workload_free(&s->steps);
				*s = t;
			} else {
				workload_free(&t.steps);
				at += chunk;
			}
		}
}

/* Runs it; a failure is made small and told. Takes the steps over. 0 or 1. */
static int judge(struct scenario *s)
{
	char *why, *how;
	bool small;

	workloads++;
	failed_at = SIZE_MAX;
	if (opt.verbose) {
		how = command(s);
		fprintf(stderr, "%s\n", how);
		free(how);
	}
	why = run_scenario(s);
	if (!why) {
		workload_free(&s->steps);
		return 0;
	}
	how = command(s);
	small = s->steps.count <= 12 || opt.run || opt.live || !opt.shrink;
	printf("VIOLATION: %s\n  replay: %s\n", why, small ? how : "a long one; making it smaller ...");
	free(how);
	free(why);
	if (opt.shrink && !opt.run && !opt.live) {
		fflush(stdout);
		shrink(s);
		s->fine = true;
		s->until = 1e9;
		why = run_scenario(s);
		how = command(s);
		printf("SMALLER: %s\n  replay: %s\n", why ? why : "(it does not fail in this process)", how);
		free(how);
		free(why);
	}
	fflush(stdout);
	workload_free(&s->steps);
	return 1;
}

/* ---- the modes ---- */

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
	return opt.maps ? opt.maps : random_below(&seed, 3) ? 0 : 1 + random_below(&seed, 4);
}

static int live(double until)
{
	uint64_t i, seed;
	int failures = 0;

	for (i = 0; i < opt.count && !failures && !out_of_time(&until); i++) {
		struct scenario s = {.bricks = opt.bricks ? opt.bricks : i % 2 ? 3 : 1, .start = WORKLOAD_STARTS, .until = until};
		bool heavy = i % 4 >= 2;

		if (!mine(i))
			continue;
		s.seed = seed = mix(opt.seed, i);
		s.blocks = opt.blocks ? opt.blocks : heavy ? 36 / s.bricks + random_below(&seed, 10) : 200;
		s.maps = few_maps(s.seed);
		workload_random(&s.steps, s.seed, 20 + random_below(&seed, i % 8 == 7 ? 1000 : 200), heavy);
		failures += judge(&s);
	}
	return failures;
}

/* Number i of the sequences: all of one letter, then pairs with three kinds of glue, in an order of the seed's; every eighth a triple. */
static void short_sequence(struct scenario *s, uint64_t i)
{
	uint64_t letters = workload_letters(), ones = letters * WORKLOAD_STARTS, pairs = letters * letters * 3 * WORKLOAD_STARTS;
	uint64_t random = mix(opt.seed, i), k, step;
	struct step letter, glue = {.kind = STEP_TICK};

	if (i < ones) {
		s->start = i % WORKLOAD_STARTS;
		workload_letter(i / WORKLOAD_STARTS, &letter);
		workload_add(&s->steps, &letter);
		return;
	}
	i -= ones;
	if (i % 8 == 7) {
		s->start = random_below(&random, WORKLOAD_STARTS);
		for (k = 0; k < 3; k++) {
			workload_letter(random_below(&random, letters), &letter);
			workload_add(&s->steps, &letter);
		}
		return;
	}
	/* a step without a common divisor visits every pair once */
	for (step = pairs / 2 + mix(opt.seed, 99) % (pairs / 4);; step++) {
		uint64_t a = step, b = pairs;

		while (b) {
			uint64_t rest = a % b;

			a = b;
			b = rest;
		}
		if (a == 1)
			break;
	}
	k = (i - i / 8) % pairs * step % pairs;
	s->start = k % WORKLOAD_STARTS;
	k /= WORKLOAD_STARTS;
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
	uint64_t all = letters * WORKLOAD_STARTS + letters * letters * 3 * WORKLOAD_STARTS * 8 / 7;
	int failures = 0;

	for (i = 0; i < opt.count && i < all && !failures && !out_of_time(&until); i++) {
		struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : mix(i, 5) % 4 ? 1 : 3,
				     .blocks = opt.blocks ? opt.blocks : 32, .maps = few_maps(mix(i, 6)), .seed = opt.seed,
				     .until = until};

		if (!mine(i))
			continue;
		/* in a short run by count: single steps and longer ones by turns, from all over the alphabet */
		if (opt.count < letters * WORKLOAD_STARTS)
			short_sequence(&s, i % 2 ? letters * WORKLOAD_STARTS + i : (i * 67 + opt.seed) % (letters * WORKLOAD_STARTS));
		else
			short_sequence(&s, i);
		failures += judge(&s);
	}
	return failures;
}

static int classic_ones(double until)
{
	size_t i;
	int failures = 0;

	for (i = 0; i < workload_classics() && i < opt.count && !out_of_time(&until); i++) {
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
	}
	return failures;
}

static int random_ones(double until)
{
	uint64_t i, seed;
	int failures = 0;

	for (i = 0; i < opt.count && !failures && !out_of_time(&until); i++) {
		struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : i % 2 ? 3 : 1, .until = until};
		bool heavy = i % 4 >= 2;

		if (!mine(i))
			continue;
		s.seed = seed = mix(opt.seed, ~i);
		s.start = random_below(&seed, WORKLOAD_STARTS + 1);
		s.blocks = opt.blocks ? opt.blocks : heavy ? 32 / s.bricks + random_below(&seed, 6) : 100;
		s.maps = few_maps(s.seed);
		workload_random(&s.steps, s.seed, 4 + random_below(&seed, 30), heavy);
		failures += judge(&s);
	}
	return failures;
}

/* Drops each persist of a workload in turn, and lets bricks forget to settle: the violations must be found. */
static int teeth(double until)
{
	static const char *const texts[] = {
		"create /a; fsync /a; write /a 0 9000; fsync /a; rename /a /d/a; fsync /d",
		"write /a 0 1300k; fsync /a; write /a 100 5000; fdatasync /a; unlink /a; tick; mkdir /e; tick",
	};
	unsigned t, found = 0, dropped = 0, bad = 0;

	for (t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
		unsigned here = 0, n;

		for (n = 1; !out_of_time(&until); n++) {
			struct scenario s = {.crash = true, .bricks = opt.bricks ? opt.bricks : 1, .blocks = 32, .seed = opt.seed,
					     .until = until};
			struct sim *fresh;
			struct world w;
			char *why, *bad_step;
			uint64_t hit = 0;

			if (workload_parse(&s.steps, texts[t], &bad_step))
				abort();
			fresh = world_fresh(s.bricks, s.blocks, &why);
			if (!fresh || world_open(&w, fresh, &why)) {
				printf("VIOLATION: %s\n", why);
				return 1;
			}
			why = world_run_text(&w, workload_start(0));
			if (!why)
				why = world_run_text(&w, "tick; tick");
			if (!why) {
				opt.drop = n;
				why = run_crashing(&s, &w);
				opt.drop = 0;
				hit = sim_dropped(w.sim);
			}
			world_close(&w);
			workload_free(&s.steps);
			if (opt.verbose)
				fprintf(stderr, "persist %u of \"%s\" %s: %s\n", n, texts[t], hit ? "dropped" : "does not exist",
					why ? why : "not noticed");
			if (!hit) {
				if (why) {
					printf("VIOLATION: without a dropped persist: %s\n", why);
					bad++;
				}
				free(why);
				break;
			}
			here++;
			found += why != NULL;
			free(why);
		}
		dropped += here;
	}
	{
		struct scenario s = {.crash = true, .bricks = 1, .start = 1, .blocks = 32, .seed = opt.seed, .until = until};
		char *why, *bad_step;

		if (workload_parse(&s.steps, workload_classic(0), &bad_step))
			abort();
		opt.forget = true;
		why = run_scenario(&s);
		opt.forget = false;
		workload_free(&s.steps);
		printf("teeth: what a dead client left is not settled: %s\n", why ? "noticed" : "not noticed");
		bad += !why;
		free(why);
	}
	printf("teeth: %u persists dropped, one at a time; %u were noticed\n", dropped, found);
	if (2 * found < dropped || !found) {
		printf("VIOLATION: the suite does not notice most dropped persists\n");
		bad++;
	}
	return bad;
}

static void usage(FILE *out)
{
	fputs("usage: crash [--mode live|classic|short|random|teeth[,...]] [--minutes N | --seconds N] [--count N] [--seed N]\n"
	      "             [--shard I/N] [--bricks N] [--blocks N] [--maps N] [--thorough] [--verbose] [--no-shrink]\n"
	      "       crash --live 'STEPS' | --run 'STEPS' [--event N] [--start N] [--drop-persist N] [--forget-settle] ...\n"
	      "Without --minutes, --seconds or --count: 60 seconds. tests/crash/README.md tells more.\n", out);
}

static bool parse_modes(char *text)
{
	static const char *const names[MODES] = {"live", "classic", "short", "random", "teeth"};
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
	       O_NO_SHRINK, O_FORGET, O_LIVE, O_RUN, O_EVENT, O_DROP, O_HELP };
	static const struct option longs[] = {
		{"mode", 1, NULL, O_MODE}, {"minutes", 1, NULL, O_MINUTES}, {"seconds", 1, NULL, O_SECONDS},
		{"count", 1, NULL, O_COUNT}, {"seed", 1, NULL, O_SEED}, {"shard", 1, NULL, O_SHARD},
		{"bricks", 1, NULL, O_BRICKS}, {"blocks", 1, NULL, O_BLOCKS}, {"maps", 1, NULL, O_MAPS}, {"start", 1, NULL, O_START},
		{"thorough", 0, NULL, O_THOROUGH}, {"verbose", 0, NULL, O_VERBOSE}, {"no-shrink", 0, NULL, O_NO_SHRINK},
		{"forget-settle", 0, NULL, O_FORGET}, {"live", 1, NULL, O_LIVE}, {"run", 1, NULL, O_RUN}, {"replay", 1, NULL, O_RUN}, {"event", 1, NULL, O_EVENT},
		{"drop-persist", 1, NULL, O_DROP}, {"help", 0, NULL, O_HELP}, {NULL, 0, NULL, 0},
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
		case O_HELP:
			usage(stdout);
			exit(0);
		default:
			return false;
		}
	if (optind < argc)
		return false;
	if (!opt.modes)
		opt.modes = MODE_LIVE | MODE_CLASSIC | MODE_SHORT | MODE_RANDOM | MODE_TEETH;
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
	static int (*const modes[MODES])(double) = {live, classic_ones, short_ones, random_ones, teeth};
	static const char *const names[MODES] = {"live", "classic", "short", "random", "teeth"};
	unsigned i, left = 0;
	int failures = 0;

	if (!parse_options(argc, argv)) {
		usage(stderr);
		return 2;
	}
	/* Whole blocks come and go with every mount: not from fresh pages each time. */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 512 << 20);
	clock_gettime(CLOCK_MONOTONIC, &began);
	world_catch();
	if (opt.run || opt.live)
		failures = replay();
	for (i = 0; i < MODES; i++)
		left += opt.modes >> i & 1;
	for (i = 0; i < MODES && !opt.run && !opt.live; i++) {
		if (!(opt.modes >> i & 1))
			continue;
		workloads = 0;
		memset(&totals, 0, sizeof(totals));
		failures += modes[i](opt.seconds ? elapsed() + (opt.seconds - elapsed()) / left-- : 1e9);
		printf("%s: seed %llu, shard %u/%u: %llu workloads", names[i], (unsigned long long)opt.seed, opt.shard, opt.shards,
		       (unsigned long long)workloads);
		if (totals.points)
			printf(", %llu crash points, %llu distinct images (%llu examined, %llu seen before), %llu mounts, "
			       "%llu recoveries crashed (%llu of them in a recovery)",
			       (unsigned long long)totals.points, (unsigned long long)totals.images,
			       (unsigned long long)totals.examined, (unsigned long long)totals.duplicates,
			       (unsigned long long)totals.mounts, (unsigned long long)totals.recoveries,
			       (unsigned long long)totals.deep);
		printf("\n");
		fflush(stdout);
	}
	if (opt.run || opt.live)
		printf("%llu crash points, %llu distinct images, %llu mounts: %s\n", (unsigned long long)totals.points,
		       (unsigned long long)totals.images, (unsigned long long)totals.mounts,
		       failures ? "a violation" : "no violation");
	world_forget();
	alarm(0);
	return failures ? 1 : 0;
}
