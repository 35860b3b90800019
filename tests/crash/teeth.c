/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * teeth - faults that the crash tests must notice: persists that the bricks drop, bricks that do not
 * settle what a dead client left, and, in the test build of the core, mutations of the core.
 *
 * Each trial is a process of its own: a core that aborts, crashes or hangs has been noticed, too. What a quick
 * exploration does not notice one that crashes many recoveries must.
 */
#include "scenario.h"
#include "mutate.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum verdict { SOUND, NOTICED, NO_SUCH, BROKEN };

struct trial {
	const char *name;
	const char *steps;
	unsigned bricks, maps, start;
	uint64_t drop;
	bool forget;
	int mutation;
	unsigned randoms;		/* of each crash point, when the fault needs a tear in one place */
	bool repair;			/* the images are repaired, too */
	bool hard, light;
};

/* In the child: what was noticed goes to the pipe. A trial that was begun is finished. */
static void run_trial(const struct trial *t, int out)
{
	struct scenario s = {.crash = true, .bricks = t->bricks, .maps = t->maps, .start = t->start, .blocks = 32, .seed = 1,
			     .until = 1e9, .light = t->light, .recoveries = t->hard, .repair = t->repair, .randoms = t->randoms, .only_event = UINT64_MAX, .drop = t->drop, .forget = t->forget};
	char *why, *bad;
	ssize_t n;

	if (workload_parse(&s.steps, t->steps, &bad)) {
		fprintf(stderr, "crash: teeth: %s: cannot be read: %s\n", t->name, bad);
		_exit(BROKEN);
	}
	/* made before the core is hurt, and kept */
	if (!world_fresh(s.bricks, s.blocks, &why))
		_exit(BROKEN);
#ifdef BRICKFS_MUTATIONS
	mutate_set((enum mutation)t->mutation);
#endif
	why = scenario_run(&s);
	if (why) {
		n = write(out, why, strlen(why));
		_exit(n > 0 ? NOTICED : BROKEN);
	}
	if (t->drop && !s.dropped)
		_exit(NO_SUCH);
#ifdef BRICKFS_MUTATIONS
	if (t->mutation && !mutate_hits())
		_exit(NO_SUCH);
#endif
	_exit(SOUND);
}

/* text: its first line, or empty. */
static enum verdict attempt(const struct trial *t, char *text, size_t size)
{
	size_t have = 0;
	int pair[2], status;
	ssize_t n;
	pid_t pid;

	fflush(NULL);
	*text = 0;
	if (pipe(pair))
		return BROKEN;
	pid = fork();
	if (!pid) {
		close(pair[0]);
		if (!freopen("/dev/null", "w", stderr))
			_exit(BROKEN);
		run_trial(t, pair[1]);
	}
	close(pair[1]);
	while (have < size - 1 && (n = read(pair[0], text + have, size - 1 - have)) > 0)
		have += (size_t)n;
	text[have] = 0;
	text[strcspn(text, "\n")] = 0;
	close(pair[0]);		/* the rest of a long text is not wanted: the child's write has been done, or ends it */
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return BROKEN;
	if (WIFSIGNALED(status) || (WEXITSTATUS(status) == 1 && !have)) {
		snprintf(text, size, "the core crashed or hung");
		return NOTICED;
	}
	return (enum verdict)WEXITSTATUS(status);
}

/* Quickly, and if that does not notice anything, with more crashes of recoveries. */
static enum verdict try_hard(struct trial *t, char *text, size_t size)
{
	enum verdict v;

	t->hard = false;
	v = attempt(t, text, size);
	if (v != SOUND)
		return v;
	t->hard = true;
	return attempt(t, text, size);
}

static int tell(const struct trial *t, enum verdict v, const char *text, bool verbose)
{
	if (v == NOTICED) {
		if (verbose)
			printf("teeth: %s: noticed%s: %.200s\n", t->name, t->hard ? " in a recovery" : "", text);
		return 0;
	}
	printf("VIOLATION: teeth: %s, \"%s\": %s\n", t->name, t->steps,
	       v == SOUND ? "not noticed" : v == NO_SUCH ? "made no difference" : "could not be tried");
	return 1;
}

/* Workloads that are sound when nothing is dropped, and of which each persist counts. */
static const char *const persist_texts[] = {
	"create /a; fsync /a; write /a 0 9000; fsync /a; rename /a /d/a; fsync /d",
	"write /a 0 1300k; fsync /a; write /a 100 5000; fdatasync /a; unlink /a; tick; mkdir /e; tick",
	"write /a 0 9000; write /d/b 0 1300k; tick; checkpoint; truncate /a 60; fsync /a; remount; append /a 9000; fsync /a",
};

static int drop_persists(double until, unsigned bricks, bool verbose)
{
	unsigned dropped = 0, noticed = 0, t;
	char name[64], text[512];
	int bad = 0;

	for (t = 0; t < sizeof(persist_texts) / sizeof(persist_texts[0]); t++) {
		struct trial trial = {.name = name, .light = true, .steps = persist_texts[t], .bricks = bricks ? bricks : t == 2 ? 3 : 1};

		for (trial.drop = 1; scenario_clock() < until; trial.drop++) {
			enum verdict v;

			snprintf(name, sizeof(name), "persist %u of workload %u dropped", (unsigned)trial.drop, t + 1);
			v = try_hard(&trial, text, sizeof(text));
			if (v == NO_SUCH)
				break;
			dropped++;
			noticed += v == NOTICED;
			bad += tell(&trial, v, text, verbose);
		}
	}
	printf("teeth: %u persists dropped, one at a time; %u were noticed\n", dropped, noticed);
	return bad + !dropped;
}

static const struct trial faults[] = {
	{.name = "what a dead client left is not settled", .steps = "write /c 0 9000; rename /c /b", .start = 1, .forget = true},
#ifdef BRICKFS_MUTATIONS
	{.mutation = MUTATE_DATA_BEHIND_BATCH, .steps = "write /c 0 9000; fsync /c"},
	{.mutation = MUTATE_RELEASE_EARLY, .start = 1, .steps = "unlink /b; unlink /d/b; write /c 0 9000; write /e/a 0 9000"},
	{.mutation = MUTATE_RELEASE_EARLY, .start = 1, .bricks = 3, .steps = "unlink /d/a; write /c 0 100; tick"},
	{.mutation = MUTATE_RELEASE_EARLY, .start = 2, .steps = "append /d/v 1100k; fsync /l; write /n 0 9000"},
	{.mutation = MUTATE_DROPS_IGNORED, .start = 1, .steps = "truncate /d/a 60; append /d/a 100"},
	{.mutation = MUTATE_SHRINK_UNHELD, .start = 1, .steps = "truncate /b 9000; append /b 500"},
	{.mutation = MUTATE_GAP_OF_WRITE, .start = 1, .steps = "truncate /b 60; tick; write /b 3000 100; fsync /b"},
	{.mutation = MUTATE_GAP_OF_TRUNCATE, .start = 1, .steps = "truncate /d/a 60; tick; truncate /d/a 4000; fsync /d/a"},
	{.mutation = MUTATE_GAP_OF_FALLOCATE, .start = 1, .steps = "truncate /b 60; tick; falloc /b 0 4000; fsync /b"},
	{.mutation = MUTATE_RUN_UNFILLED, .start = 1,
	 .steps = "write /c 0 5000; unlink /b; unlink /d/b; tick; truncate /a 5000; write /a 600 8; fsync /a"},
	{.mutation = MUTATE_FSYNC_EARLY, .steps = "write /c 0 100; fsync /c"},
	{.mutation = MUTATE_RENAME_SPLIT, .start = 1, .steps = "rename /b /c; tick"},
	{.mutation = MUTATE_CHECKPOINT_EARLY, .start = 1, .steps = "checkpoint; tick"},
	{.mutation = MUTATE_SUPER_IN_PLACE, .steps = "remount; mkdir /c; tick"},
	{.mutation = MUTATE_EPOCH_KEPT, .steps = "remount; mkdir /c; remount; mkdir /e; tick"},
	{.mutation = MUTATE_ORPHANS_KEPT, .start = 1, .steps = "open 0 /d/a; unlink /d/a; write @0 0 200k; tick; close 0"},
	{.mutation = MUTATE_LEAKS_KEPT, .steps = "write /c 0 3m; tick"},
	{.mutation = MUTATE_NO_LOG_COUNTS, .repair = true, .steps = "mkdir /c; tick"},
	{.mutation = MUTATE_SUPER_UNCHECKED, .steps = "remount; mkdir /c; tick"},
	{.mutation = MUTATE_SEGMENT_UNCHECKED, .randoms = 60, .steps = "checkpoint; mkdir /c; checkpoint; remount; mkdir /e; tick"},
	{.mutation = MUTATE_BATCH_UNCHECKED, .steps = "mkdir /c; tick; write /c/x 0 100; fsync /c/x"},
#endif
};

int teeth(double until, unsigned bricks, unsigned from, bool verbose)
{
	unsigned i, noticed = 0;
	int bad = from ? 0 : drop_persists(until, bricks, verbose);
	char text[512];

	for (i = from; i < sizeof(faults) / sizeof(faults[0]) && scenario_clock() < until; i++) {
		struct trial t = faults[i], control;
		enum verdict v;

		if (!t.bricks)
			t.bricks = bricks ? bricks : 1;
#ifdef BRICKFS_MUTATIONS
		if (!t.name)
			t.name = mutate_name((enum mutation)t.mutation);
#endif
		/* without the fault nothing is noticed */
		control = t;
		control.forget = false;
		control.light = true;
		control.mutation = 0;
		v = attempt(&control, text, sizeof(text));
		if (v != SOUND) {
			printf("VIOLATION: teeth: \"%s\" without a fault: %s\n", t.steps, text);
			bad++;
		}
		v = try_hard(&t, text, sizeof(text));
		noticed += v == NOTICED;
		bad += tell(&t, v, text, verbose);
	}
	printf("teeth: %u faults, %u were noticed\n", i > from ? i - from : 0, noticed);
	if (scenario_clock() >= until)
		printf("teeth: the time was up before everything was tried\n");
	return bad;
}
