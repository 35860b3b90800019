/* SPDX-License-Identifier: BSD-3-Clause */
/* scenario - see scenario.h. */
#include "scenario.h"
#include "util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct explore scenario_totals;
static size_t failed_at;		/* the step of a live run that differed */

double scenario_clock(void)
{
	static struct timespec began;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!began.tv_sec)
		began = now;
	return now.tv_sec - began.tv_sec + (now.tv_nsec - began.tv_nsec) / 1e9;
}

static bool late(void *arg)
{
	return scenario_clock() > *(double *)arg;
}

char *scenario_command(const struct scenario *s)
{
	char *text = workload_text(&s->steps), *out, maps[32] = "", repair[32] = "";

	if (s->maps)
		snprintf(maps, sizeof(maps), " --maps %u", s->maps);
	if (s->crash)
		snprintf(repair, sizeof(repair), " --repair %u", s->repair);
	if (asprintf(&out, "crash --bricks %u --blocks %llu%s --start %u --seed %llu%s%s %s '%s'", s->bricks,
		     (unsigned long long)s->blocks, maps, s->start, (unsigned long long)s->seed,
		     s->crash && s->thorough ? " --thorough" : "", repair, s->crash ? "--run" : "--live", text) < 0)
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
			      .again_points = 2, .recovery_subsets = 1, .recovery_randoms = 1, .use_every = 4,
			      .repair = s->repair, .repair_crash = 4,
			      .power = true, .client = true, .apart = true, .seed = s->seed, .last_event = UINT64_MAX,
			      .stop = late, .stop_arg = (void *)&s->until};
	if (s->thorough) {
		x->subsets = 12;
		x->randoms = 16;
		x->lone = 64;
		x->recovery = 8;
		x->recovery_points = 12;
		x->recovery_subsets = 2;
		x->again = 24;
		x->again_points = 6;
		x->use_every = 1;
		x->repair_crash = 8;
	}
	if (s->light) {
		x->lone = x->recovery_points = 2;
		x->recovery = x->again = 0;
		x->use_every = 32;
	}
	if (s->recoveries) {
		x->subsets = 1;
		x->randoms = x->lone = x->use_every = 0;
		x->recovery_points = 48;
		x->recovery_randoms = 6;
		x->again = 0;
		x->power = false;
	}
	if (s->randoms)
		x->randoms = s->randoms;
	if (s->only_event != UINT64_MAX) {
		x->first_event = x->last_event = s->only_event;
		x->use_every = 1;
		if (x->repair)
			x->repair = x->repair_crash = 1;
	}
}

static char *run_crashing(struct scenario *s, struct world *w)
{
	struct explore x;
	char *why;

	if (s->forget)
		sim_forget_settle(w->sim, true);
	world_record(w);
	if (s->drop)
		sim_drop_persist(w->sim, s->drop);
	why = world_run(w, &s->steps, NULL);
	if (!why)
		why = world_run_text(w, "tick; tick");
	if (!why)
		why = world_compare(w);
	if (!why)
		why = world_unmount(w);
	sim_record(w->sim, false);
	s->dropped = sim_dropped(w->sim);
	if (why)
		return why;
	shape(&x, s);
	if (s->recoveries && s->dropped) {	/* what it would have covered is covered by another one before long */
		x.first_event = sim_dropped_at(w->sim);
		x.last_event = x.first_event + 30;
	}
	why = explore(&x, w);
	scenario_totals.points += x.points;
	scenario_totals.images += x.images;
	scenario_totals.examined += x.examined;
	scenario_totals.recoveries += x.recoveries;
	scenario_totals.deep += x.deep;
	scenario_totals.repairs += x.repairs;
	scenario_totals.repairs_cut += x.repairs_cut;
	scenario_totals.repairs_without_room += x.repairs_without_room;
	scenario_totals.duplicates += x.duplicates;
	scenario_totals.mounts += x.mounts;
	explore_free(&x);
	return why;
}

char *scenario_run(struct scenario *s)
{
	struct sim *fresh;
	struct world w;
	char *why, *how = scenario_command(s);

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
static bool fails(struct scenario *s)
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
		why = scenario_run(s);
		exit(why ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) < 0)
		return false;
	return status != 0;
}

static void shrink(struct scenario *s)
{
	double until = scenario_clock() + 90;
	size_t chunk, at;

	if (!s->crash && failed_at < s->steps.count)
		s->steps.count = failed_at + 1;

	for (chunk = s->steps.count / 2 ? s->steps.count / 2 : 1; chunk && scenario_clock() < until; chunk /= 2)
		for (at = 0; at < s->steps.count && s->steps.count > 1 && scenario_clock() < until;) {
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

int scenario_judge(struct scenario *s)
{
	char *why, *how;
	bool small;

	failed_at = SIZE_MAX;
	why = scenario_run(s);
	if (!why) {
		workload_free(&s->steps);
		return 0;
	}
	how = scenario_command(s);
	small = s->steps.count <= 12 || s->quiet;
	printf("VIOLATION: %s\n  replay: %s\n", why, small ? how : "a long one; making it smaller ...");
	free(how);
	free(why);
	if (!s->quiet) {
		fflush(stdout);
		shrink(s);
		s->fine = true;
		s->until = 1e9;
		why = scenario_run(s);
		how = scenario_command(s);
		printf("SMALLER: %s\n  replay: %s\n", why ? why : "(it does not fail in this process)", how);
		free(how);
		free(why);
	}
	fflush(stdout);
	workload_free(&s->steps);
	return 1;
}
