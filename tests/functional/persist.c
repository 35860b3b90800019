/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * persist - kills brickd at random moments and looks for what it had acknowledged; persist.sh runs it.
 *
 *   persist --brickd PROGRAM --pool FILE --listen ENDPOINT --log FILE [OPTION...] [-- BRICKD-OPTION...]
 *
 * Two sessions with four lanes allocate, map, write, read, persist, unmap and free, with
 * up to DEPTH requests in flight on each lane, until a thread kills the brick; it is started
 * again and everything read is held against the model (persist-model.h).  One thread drives all
 * lanes, so that what was acknowledged when is exactly known; the brick serves each in its own.
 *
 * --keeps: a brickd that does not lose what was complete either (its memory or its pool's is
 * taken up again): every write that completed must be there, and the loss epoch stays, also after an end
 * in order; without it, the loss epoch must change with every kill.
 *
 * --teeth write|read makes the model believe something that no brick promised; with a
 * brickd --fault the run must fail then.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "brick.h"
#include "daemon.h"
#include "persist-work.h"

static struct daemon brick;
static uint64_t loss_epoch;	/* before the last kill; 0: there was none yet */
static uint64_t kill_after_us;
static unsigned kill_after_steps;	/* that long, and then so many microseconds: a busy machine gets work done before it too */
static sem_t kill_now;
static pid_t victim;
static int deadly;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *killer(void *arg)
{
	const struct timespec t = { .tv_sec = (time_t)(kill_after_us / 1000000), .tv_nsec = (long)(kill_after_us % 1000000) * 1000 };

	while (kill_after_steps && sem_wait(&kill_now))
		;
	nanosleep(&t, NULL);
	atomic_store(&work.killed, true);
	kill(victim, deadly);
	return NULL;
}

/* --- lives --- */

static int open_side(unsigned i)
{
	static const unsigned first[] = { 0, LANES - 1, LANES };
	const struct brick_options options = { .name = "persist", .lanes = (uint16_t)(first[i + 1] - first[i]), .depth = DEPTH + 1,
					       .timeout_ms = 20000 };
	struct side *s = &work.side[i];
	int ret = brick_open(brick.endpoint, &options, &s->session);

	if (ret) {
		s->session = NULL;
		return work_death("open", ret);
	}
	if (loss_epoch && (brick_info(s->session)->loss_epoch == loss_epoch) != work.keeps)
		work_die(work.keeps ? "the loss epoch has changed" : "the loss epoch has not changed", 0);
	s->maps = 0;
	memset(s->held, 0, sizeof(s->held));
	s->arena = brick_buffer_alloc(s->session, (size_t)options.lanes * DEPTH * WINDOW);
	if (!s->arena)
		work_die("memory", -ENOMEM);
	for (unsigned k = first[i]; k < first[i + 1]; k++) {
		work.lane[k].side = s;
		for (unsigned p = 0; p < DEPTH; p++) {
			work.lane[k].pending[p].kind = IDLE;
			work.lane[k].pending[p].buffer = (uint64_t *)(void *)(s->arena + ((k - first[i]) * DEPTH + p) * WINDOW);
		}
		if (k == first[i]) {
			work.lane[k].lane = brick_lane(s->session, 0);
			continue;
		}
		ret = brick_lane_open(s->session, &work.lane[k].lane);
		if (ret) {
			work.lane[k].lane = NULL;
			return work_death("a lane", ret);
		}
	}
	return 0;
}

static void close_side(unsigned i)
{
	for (unsigned k = 0; k < LANES; k++) {
		if (work.lane[k].side != &work.side[i])
			continue;
		work_drain_dead(&work.lane[k]);
		work.lane[k].lane = NULL;
		work.lane[k].side = NULL;
	}
	if (work.side[i].session)
		brick_close(work.side[i].session);
	work.side[i].session = NULL;
}

/* A session ends without CLEAN, and another one begins: its lane persists nothing of what that one wrote. */
static int step_reopen(void)
{
	if (work_drain(&work.lane[LANES - 1]))
		return DIED;
	close_side(1);
	for (unsigned i = 0; i < work.model.blocks; i++)
		memset(work.model.block[i].lane[LANES - 1], 0, sizeof(work.model.block[i].lane[0]));
	return open_side(1);
}

/* What is listed, against what was acknowledged. */
static int look_at_list(void)
{
	struct brick_extent extents[MODEL_BLOCKS];
	static bool listed[MODEL_BLOCKS];
	uint64_t generation, next = MODEL_BASE;
	bool more = true;
	size_t n;

	memset(listed, 0, sizeof(listed));
	while (more) {
		int ret = brick_list(work.lane[0].lane, next, extents, MODEL_BLOCKS, &n, &generation, &next, &more);

		if (ret)
			return work_death("list", ret);
		for (size_t i = 0; i < n; i++)
			for (uint64_t k = 0; k < extents[i].count; k++)
				if ((extents[i].start - MODEL_BASE) / BLOCK + k < MODEL_BLOCKS)
					listed[(extents[i].start - MODEL_BASE) / BLOCK + k] = true;
	}
	for (unsigned i = 0; i < work.model.blocks; i++) {
		struct model_block *b = &work.model.block[i];

		if (b->life == LIFE_ALLOCATED && !listed[i])
			work_die("a block whose alloc was acknowledged is gone", 0);
		if (b->life == LIFE_FREE && listed[i])
			work_die("a block whose free was acknowledged is there", 0);
		if (b->life == LIFE_MAYBE_ALLOCATED || (b->life == LIFE_MAYBE_FREED && !listed[i])) {
			model_reset(&work.model, b, listed[i] ? LIFE_ALLOCATED : LIFE_FREE);
			b->checked = false;
		} else if (b->life == LIFE_MAYBE_FREED) {
			b->life = LIFE_ALLOCATED;
		}
	}
	return 0;
}

static int look_at_all(void)
{
	for (unsigned i = 0; i < work.model.blocks; i++) {
		struct model_block *b = &work.model.block[i];

		if (b->life != LIFE_ALLOCATED || b->checked)
			continue;
		if (work_map(&work.lane[0], b, 0) || (work_held_by(&work.side[0], b)->mapped && work_unmap(&work.lane[0], b)))
			return DIED;
	}
	return 0;
}

static int live(void)
{
	for (unsigned step = 1;; step++) {
		struct lane *l = &work.lane[rnd(LANES)];
		unsigned what = rnd(1000);
		int ret;

		if (step == kill_after_steps)
			sem_post(&kill_now);
		if (brick_in_flight(l->lane) == DEPTH && work_gather(l, true))
			return DIED;
		if (what < 500)
			ret = work_io(l, true);
		else if (what < 620)
			ret = work_io(l, false);
		else if (what < 800)
			ret = work_persist(l);
		else if (what < 890)
			ret = work_some_map(l);
		else if (what < 930)
			ret = work_some_unmap(l);
		else if (what < 965)
			ret = work_alloc(l);
		else if (what < 990)
			ret = work_free(l);
		else if (what < 997 || l != &work.lane[LANES - 1])
			ret = work_drain(l);
		else
			ret = step_reopen();
		if (ret || work_gather(l, false))
			return DIED;
	}
}

/* Something to write to, so that a short life has work in it too. */
static int warm_up(void)
{
	for (unsigned i = 0; i < 24; i++) {
		struct lane *l = &work.lane[i % 2 ? LANES - 1 : rnd(LANES - 1)];

		if (work_alloc(l) || (l->side->maps < MAPS_KEPT - 1 && work_map(l, &work.model.block[rnd(work.model.blocks)], BRICK_MAP_WRITE)))
			return DIED;
	}
	return 0;
}

static void start(void)
{
	uint64_t begin = now_us();

	if (daemon_start(&brick)) {
		fprintf(stderr, "FAILED: brickd does not start; seed %" PRIu64 ", point %lu\n", work.seed_given, work.count.points);
		exit(1);
	}
	work.count.start_ms += (double)(now_us() - begin) / 1e3;
	atomic_store(&work.killed, false);
}

static void end_sides(bool by_a_kill)
{
	if (work.side[0].session)
		loss_epoch = by_a_kill || work.keeps ? brick_info(work.side[0].session)->loss_epoch : 0;
	for (unsigned i = 0; i < SESSIONS; i++)
		close_side(i);
}

static void point(void)
{
	bool early = rnd(6) == 0, all = rnd(5) == 0 || work.teeth;
	pthread_t thread;

	start();
	victim = brick.pid;
	deadly = work.keeps && rnd(4) == 0 ? SIGTERM : SIGKILL;
	/* Each scale is as likely: up to 1024 steps and 8 ms; early, from the sessions' opening on, up to 64 ms. */
	kill_after_steps = early ? 0 : 1 + rnd(1u << rnd(11));
	kill_after_us = rnd(early ? 64u << rnd(11) : 64u << rnd(8));
	sem_init(&kill_now, 0, 0);
	if (early && pthread_create(&thread, NULL, killer, NULL))
		work_die("thread", -errno);
	if (open_side(0) == 0 && open_side(1) == 0 && look_at_list() == 0 && warm_up() == 0) {
		if (!early && pthread_create(&thread, NULL, killer, NULL))
			work_die("thread", -errno);
		early = true;
		if (!all || look_at_all() == 0)
			live();
	}
	pthread_join(thread, NULL);
	sem_destroy(&kill_now);
	daemon_reap(&brick);
	/* Over local a lane that does not look completes its writes without a brick. */
	for (unsigned k = 0; k < LANES * DEPTH && work.keeps; k++)
		if (work.lane[k % LANES].lane)
			(void)work_io(&work.lane[k % LANES], true);
	end_sides(true);
	model_died(&work.model);
	work.count.points++;
}

/* Nothing was written outside the windows. */
static void look_outside(void)
{
	uint8_t *block = brick_buffer_alloc(work.side[0].session, BLOCK);

	if (!block)
		work_die("memory", -ENOMEM);
	for (unsigned i = 0; i < work.model.blocks; i++) {
		struct model_block *b = &work.model.block[i];
		struct held *h = work_held_by(&work.side[0], b);
		uint32_t at = 0;

		if (b->life != LIFE_ALLOCATED)
			continue;
		if (work_map(&work.lane[0], b, 0) || !h->mapped || brick_read(work.lane[0].lane, &h->handle, 0, block, (uint32_t)BLOCK))
			work_die("reading a block", 0);
		for (unsigned w = 0; w < WINDOWS; w++)
			memset(block + b->window[w], 0, WINDOW);
		while (at < BLOCK && block[at] == 0)
			at++;
		if (at < BLOCK) {
			fprintf(stderr, "FAILED: byte %u of 0x%" PRIx64 " was never written and is 0x%02x\n", at, b->addr, block[at]);
			work_die("bytes from elsewhere", 0);
		}
		work_unmap(&work.lane[0], b);
	}
}

/* What an earlier run has left on the pool goes. */
static void clear(void)
{
	start();
	if (open_side(0) || open_side(1))
		work_die("the first start", 0);
	for (unsigned i = 0; i < MODEL_BLOCKS; i++) {
		int ret = brick_free(work.lane[0].lane, &(const uint64_t){ MODEL_BASE + i * BLOCK }, 1, NULL);

		if (ret && ret != -ENOENT)
			work_die("free", ret);
	}
	end_sides(false);
	if (daemon_stop(&brick))
		work_die("brickd", 0);
}

/* The last looks: after the last kill, and after an end in order, which loses nothing at all. */
static void last_looks(void)
{
	for (int i = 0; i < 2; i++) {
		start();
		if (open_side(0) || open_side(1) || look_at_list() || look_at_all())
			work_die("the last look", 0);
		if (i == 1)
			look_outside();
		for (unsigned k = 0; k < work.model.blocks * 100 && i == 0; k++) {
			struct lane *l = &work.lane[k % LANES];

			if (brick_in_flight(l->lane) == DEPTH && work_gather(l, true))
				work_die("the last work", 0);
			if (k % 10 == 0 ? work_some_map(l) : work_io(l, true))
				work_die("the last work", 0);
		}
		end_sides(false);
		if (daemon_stop(&brick))
			work_die("brickd", 0);
		for (unsigned k = 0; k < work.model.blocks && i == 0; k++) {
			struct model_block *b = &work.model.block[k];

			memcpy(b->durable, b->live, sizeof(b->live));
			for (unsigned u = 0; u < BLOCK_UNITS; u++)
				b->mark[u] = work.model.last;
			b->checked = false;
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "brickd", 1, NULL, 'b' }, { "pool", 1, NULL, 'p' }, { "listen", 1, NULL, 'l' }, { "log", 1, NULL, 'L' },
		{ "blocks", 1, NULL, 'k' }, { "points", 1, NULL, 'n' }, { "seconds", 1, NULL, 't' }, { "seed", 1, NULL, 's' },
		{ "teeth", 1, NULL, 'T' }, { "keeps", 0, NULL, 'K' }, { 0 },
	};
	unsigned long points = 200, seconds = 20;
	unsigned blocks = 24;
	uint64_t begin;
	int c;

	work.seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'b': brick.program = optarg; break;
		case 'p': brick.pool = optarg; break;
		case 'l': brick.listen = optarg; break;
		case 'L': brick.log = optarg; break;
		case 'k': blocks = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'n': points = strtoul(optarg, NULL, 10); break;
		case 't': seconds = strtoul(optarg, NULL, 10); break;
		case 's': work.seed = strtoull(optarg, NULL, 10); break;
		case 'K': work.keeps = true; break;
		case 'T': work.teeth = strcmp(optarg, "read") == 0 ? TEETH_READ : TEETH_WRITE; break;
		default: return 2;
		}
	}
	if (!brick.program || !brick.pool || !brick.listen || !brick.log || blocks < 1 || blocks > MODEL_BLOCKS) {
		fprintf(stderr, "usage: see the top of persist.c\n");
		return 2;
	}
	brick.options = (const char *const *)(argv + optind);
	work.seed_given = work.seed;
	printf("seed %" PRIu64 "\n", work.seed_given);
	fflush(stdout);
	for (unsigned i = 0; i < LANES; i++)
		for (unsigned k = 0; k < DEPTH; k++)
			if (!(work.lane[i].pending[k].range = calloc(RANGES, sizeof(struct range))))
				return 1;
	model_init(&work.model, blocks, &work.seed);
	clear();
	begin = now_us();
	while (work.count.points < points && now_us() - begin < seconds * 1000000)
		point();
	last_looks();
	printf("%lu kill points in %.1f s (brickd serves after %.1f ms), seed %" PRIu64 ": %lu writes, %lu persists acknowledged, %lu maps, "
	       "%lu allocs, %lu frees; %lu units read and right, %lu blocks read after a map\n",
	       work.count.points, (double)(now_us() - begin) / 1e6, work.count.start_ms / (double)(work.count.points + 3), work.seed_given, work.count.writes,
	       work.count.persists, work.count.maps, work.count.allocs, work.count.frees, work.count.checked, work.count.settled);
	return 0;
}
