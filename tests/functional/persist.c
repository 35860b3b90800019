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
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "brick.h"
#include "daemon.h"
#include "persist-model.h"

#define BLOCK BRICK_BLOCK_SIZE
#define LANES MODEL_LANES
#define SESSIONS 2
#define DEPTH 8
#define RANGES 6
#define MAPS_KEPT 6		/* of a session */
#define DIED 1			/* returned where the brick was found dead */

enum kind { IDLE, WRITE, READ, PERSIST };

struct range { struct model_block *block; unsigned life_number, unit, n; uint32_t writes[BLOCK_UNITS]; };

struct pending {
	enum kind kind;
	struct model_block *block;
	unsigned unit, n;		/* write, read */
	uint32_t write;
	uint64_t *buffer;		/* a window */
	struct range *range;		/* persist: RANGES of them */
	struct brick_range asked[RANGES];
	int status[RANGES];
	unsigned ranges;
};

struct held { bool mapped; struct brick_handle handle; };

struct side {
	struct brick_session *session;
	struct held held[MODEL_BLOCKS];
	unsigned maps;
	uint8_t *arena;
};

struct lane { struct brick_lane *lane; struct side *side; struct pending pending[DEPTH]; };

static struct daemon brick;
static struct model model;
static struct side side[SESSIONS];
static struct lane lane[LANES];
static uint64_t seed, seed_given;
static bool keeps;
static uint64_t loss_epoch;	/* before the last kill; 0: there was none yet */
static enum { TEETH_NONE, TEETH_WRITE, TEETH_READ } teeth;
static struct { unsigned long points, writes, persists, checked, maps, allocs, frees, settled; double start_ms; } count;

static _Atomic bool killed;
static uint64_t kill_after_us;
static pid_t victim;
static int deadly;

#define rnd(n) ((unsigned)(model_random(&seed) % (n)))

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what, int error)
{
	fprintf(stderr, "FAILED: %s: %d (%s); seed %" PRIu64 ", point %lu\n", what, error, brick_error(), seed_given,
		count.points);
	exit(1);
}

/* An error is the brick's death, or a failure of the test. */
static int death(const char *what, int error)
{
	if (!atomic_load(&killed) ||
	    (error != -ECONNRESET && error != -ECONNREFUSED && error != -ENOENT && error != -ETIMEDOUT && error != -ESTALE &&
	     error != -EPIPE && error != -ESHUTDOWN))
		die(what, error);
	return DIED;
}

static void *killer(void *arg)
{
	const struct timespec t = { .tv_sec = (time_t)(kill_after_us / 1000000), .tv_nsec = (long)(kill_after_us % 1000000) * 1000 };

	nanosleep(&t, NULL);
	atomic_store(&killed, true);
	kill(victim, deadly);
	return NULL;
}

/* --- completions --- */

static void check_units(struct model_block *b, unsigned unit, unsigned n, const uint64_t *values, bool alive)
{
	for (unsigned i = 0; i < n; i++)
		if (!model_check(&model, b, unit + i, values[i], alive))
			die("the brick holds what it must not", 0);
	count.checked += n;
}

static void completed(struct lane *l, const struct brick_completion *done)
{
	struct pending *p = &l->pending[done->cookie];

	if (done->status) {
		death("a request", done->status);
	} else if (p->kind == READ) {
		check_units(p->block, p->unit, p->n, p->buffer, true);
		for (unsigned i = 0; i < p->n && teeth == TEETH_READ; i++)
			model_read(&model, p->block, p->unit + i, p->buffer[i]);
	} else if (p->kind == PERSIST) {
		for (unsigned i = 0; i < p->ranges; i++) {
			const struct range *r = &p->range[i];

			if (p->status[i] == 0)
				model_persisted(r->block, r->unit, r->n, r->writes);
			else if (p->status[i] != -ENOENT || (r->block->life_number == r->life_number && r->block->life == LIFE_ALLOCATED))
				die("a persist", p->status[i]);
		}
		count.persists++;
	} else if (p->kind == WRITE && (keeps || (teeth == TEETH_WRITE && rnd(20) == 0))) {
		for (unsigned i = 0; i < p->n; i++)
			model_persisted(p->block, p->unit + i, 1, &p->write);
	}
	p->kind = IDLE;
}

static int gather(struct lane *l, bool wait)
{
	struct brick_completion done[DEPTH];
	int n = wait ? brick_wait(l->lane, done, DEPTH, -1) : brick_poll(l->lane, done, DEPTH);

	if (n < 0)
		return death("waiting", n);
	for (int i = 0; i < n; i++)
		completed(l, &done[i]);
	return brick_lane_state(l->lane) ? death("a lane", brick_lane_state(l->lane)) : 0;
}

static int drain(struct lane *l)
{
	while (brick_in_flight(l->lane) > 0)
		if (gather(l, true))
			return DIED;
	return 0;
}

/* What was answered before the brick died counts. */
static void drain_dead(struct lane *l)
{
	struct brick_completion done[DEPTH];

	while (l->lane && brick_in_flight(l->lane) > 0) {
		int n = brick_wait(l->lane, done, DEPTH, -1);

		if (n < 0)
			break;
		for (int i = 0; i < n; i++)
			completed(l, &done[i]);
	}
}

/* Does anything in flight touch these units? Writes of the lane `but` are let pass. */
static bool touched(const struct model_block *b, unsigned unit, unsigned n, const struct lane *but)
{
	for (unsigned i = 0; i < LANES; i++) {
		for (unsigned k = 0; k < DEPTH; k++) {
			const struct pending *p = &lane[i].pending[k];

			if ((p->kind == READ || (p->kind == WRITE && &lane[i] != but)) && p->block == b && p->unit < unit + n &&
			    unit < p->unit + p->n)
				return true;
		}
	}
	return false;
}

static struct pending *idle(struct lane *l)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (l->pending[i].kind == IDLE)
			return &l->pending[i];
	return NULL;
}

/* --- steps: 0, or DIED --- */

static struct held *held_by(struct side *s, const struct model_block *b)
{
	return &s->held[b - model.block];
}

static bool writable(const struct held *h)
{
	return h->mapped && (h->handle.flags & (BRICK_MAP_WRITE | BRICK_MAP_EXCLUSIVE));
}

static struct side *other(struct side *s)
{
	return s == &side[0] ? &side[1] : &side[0];
}

static uint32_t offset_of(const struct model_block *b, unsigned unit)
{
	return b->window[unit / UNITS] + unit % UNITS * 8;
}

/* Some units of one window. */
static void choose(unsigned *unit, unsigned *n)
{
	unsigned first = rnd(UNITS), most = UNITS - first, want = 1u << rnd(12);

	*n = 1 + rnd(want < most ? want : most);
	*unit = rnd(WINDOWS) * UNITS + first;
}

static struct model_block *choose_mapped(struct side *s, bool write)
{
	for (unsigned tries = 0; tries < 2 * model.blocks; tries++) {
		struct model_block *b = &model.block[rnd(model.blocks)];
		const struct held *h = held_by(s, b);

		if (write ? writable(h) : h->mapped)
			return b;
	}
	return NULL;
}

static int step_io(struct lane *l, bool write)
{
	struct model_block *b = choose_mapped(l->side, write);
	struct pending *p = idle(l);
	unsigned unit, n;
	int ret;

	if (!b || !p)
		return 0;
	choose(&unit, &n);
	if (touched(b, unit, n, write ? l : NULL))
		return 0;
	*p = (struct pending){ .kind = write ? WRITE : READ, .block = b, .unit = unit, .n = n, .buffer = p->buffer, .range = p->range };
	if (write) {
		model_write(&model, b, (unsigned)(l - lane), unit, n, p->buffer);
		p->write = model.last;
		count.writes++;
		ret = brick_post_write(l->lane, &held_by(l->side, b)->handle, offset_of(b, unit), p->buffer, n * 8, (uint64_t)(p - l->pending));
	} else {
		ret = brick_post_read(l->lane, &held_by(l->side, b)->handle, offset_of(b, unit), p->buffer, n * 8, (uint64_t)(p - l->pending));
	}
	if (ret) {
		p->kind = IDLE;
		return death("posting", ret);
	}
	return 0;
}

static void note_range(struct lane *l, struct pending *p, struct model_block *b, unsigned unit, unsigned n, uint32_t offset, uint32_t length)
{
	struct range *r = &p->range[p->ranges];

	r->block = b;
	r->life_number = b->life_number;
	r->unit = unit;
	r->n = n;
	memcpy(r->writes, b->lane[l - lane] + unit, n * sizeof(*r->writes));
	p->asked[p->ranges++] = (struct brick_range){ b->addr + offset, length };
}

static int step_persist(struct lane *l)
{
	struct pending *p = idle(l);
	unsigned want = 1 + rnd(RANGES);
	int ret;

	if (!p)
		return 0;
	*p = (struct pending){ .kind = PERSIST, .buffer = p->buffer, .range = p->range };
	for (unsigned i = 0; i < want; i++) {
		struct model_block *b = &model.block[rnd(model.blocks)];
		unsigned unit, n;

		if (b->life != LIFE_ALLOCATED)
			continue;
		choose(&unit, &n);
		if (rnd(4) == 0)
			note_range(l, p, b, 0, BLOCK_UNITS, 0, (uint32_t)BLOCK);
		else if (rnd(3) == 0)
			note_range(l, p, b, unit - unit % UNITS, UNITS, b->window[unit / UNITS], WINDOW);
		else
			note_range(l, p, b, unit, n, offset_of(b, unit), n * 8);
	}
	if (p->ranges == 0) {
		p->kind = IDLE;
		return 0;
	}
	ret = brick_post_persist(l->lane, p->asked, p->ranges, p->status, (uint64_t)(p - l->pending));
	if (ret) {
		p->kind = IDLE;
		return death("posting a persist", ret);
	}
	return 0;
}

/* All of a block that has just been mapped, with nobody else writing: durable from here on. */
static int read_all(struct lane *l, struct model_block *b)
{
	const struct held *h = held_by(l->side, b);
	uint64_t *buffer = l->pending[0].buffer;

	for (unsigned w = 0; w < WINDOWS; w++) {
		int ret = brick_read(l->lane, &h->handle, b->window[w], buffer, WINDOW);

		if (ret)
			return death("reading", ret);
		check_units(b, w * UNITS, UNITS, buffer, b->checked);
		for (unsigned i = 0; i < UNITS; i++)
			model_read(&model, b, w * UNITS + i, buffer[i]);
	}
	b->checked = true;
	count.settled++;
	return 0;
}

static int unmap(struct lane *l, struct model_block *b);

static int map(struct lane *l, struct model_block *b, uint32_t flags)
{
	struct held *h = held_by(l->side, b), *o = held_by(other(l->side), b);
	bool conflict = o->mapped && ((flags & BRICK_MAP_EXCLUSIVE) || (o->handle.flags & BRICK_MAP_EXCLUSIVE));
	int ret;

	if (h->mapped || b->life != LIFE_ALLOCATED || drain(l))
		return h->mapped || b->life != LIFE_ALLOCATED ? 0 : DIED;
	ret = brick_map(l->lane, &b->addr, 1, flags, &h->handle, NULL);
	if (ret == -ENOMEM && b->checked)
		return 0;
	if (conflict ? ret == 0 : ret == -EBUSY)
		die("a map beside an exclusive one, or an EBUSY without", ret);
	if (ret == -EBUSY)
		return 0;
	if (ret)
		return death("map", ret);
	h->mapped = true;
	l->side->maps++;
	count.maps++;
	if (!b->checked && writable(o))
		die("the test has a block mapped that it did not look at", 0);
	if (!writable(o) && (!b->checked || rnd(4) == 0))
		return read_all(l, b);
	return 0;
}

static int step_map(struct lane *l)
{
	static const uint32_t flags[] = { 0, BRICK_MAP_WRITE, BRICK_MAP_WRITE, BRICK_MAP_EXCLUSIVE };
	struct model_block *b = &model.block[rnd(model.blocks)];

	if (l->side->maps >= MAPS_KEPT) {
		b = choose_mapped(l->side, false);
		return b ? unmap(l, b) : 0;
	}
	return map(l, b, flags[rnd(4)]);
}

static int unmap(struct lane *l, struct model_block *b)
{
	struct held *h = held_by(l->side, b);
	bool clean = rnd(3) == 0;
	int ret;

	/* Nothing may use the handle any more. */
	for (unsigned i = 0; i < LANES; i++)
		if (lane[i].side == l->side && drain(&lane[i]))
			return DIED;
	/* The promise of CLEAN: all that the session wrote is persisted, each lane's by its own. */
	for (unsigned i = 0; i < LANES && clean; i++) {
		struct pending *p = &lane[i].pending[0];

		if (lane[i].side != l->side)
			continue;
		*p = (struct pending){ .kind = PERSIST, .buffer = p->buffer, .range = p->range };
		note_range(&lane[i], p, b, 0, BLOCK_UNITS, 0, (uint32_t)BLOCK);
		ret = brick_post_persist(lane[i].lane, p->asked, 1, p->status, 0);
		if (ret) {
			p->kind = IDLE;
			return death("posting a persist", ret);
		}
		if (drain(&lane[i]))
			return DIED;
	}
	ret = brick_unmap(l->lane, &b->addr, 1, clean ? BRICK_UNMAP_CLEAN : 0, NULL);
	if (ret)
		return death("unmap", ret);
	h->mapped = false;
	l->side->maps--;
	return 0;
}

static int step_unmap(struct lane *l)
{
	struct model_block *b = choose_mapped(l->side, false);

	return b ? unmap(l, b) : 0;
}

static int step_alloc(struct lane *l)
{
	struct model_block *b = &model.block[rnd(model.blocks)];
	int ret;

	if (b->life != LIFE_FREE || drain(l))
		return b->life != LIFE_FREE ? 0 : DIED;
	b->life = LIFE_MAYBE_ALLOCATED;
	ret = brick_alloc(l->lane, &b->addr, 1, NULL);
	if (ret)
		return death("alloc", ret);
	model_reset(&model, b, LIFE_ALLOCATED);
	count.allocs++;
	return 0;
}

static int step_free(struct lane *l)
{
	struct model_block *b = &model.block[rnd(model.blocks)];
	int ret;

	if (b->life != LIFE_ALLOCATED || held_by(&side[0], b)->mapped || held_by(&side[1], b)->mapped)
		return 0;
	if (drain(l))
		return DIED;
	b->life = LIFE_MAYBE_FREED;
	ret = brick_free(l->lane, &b->addr, 1, NULL);
	if (ret)
		return death("free", ret);
	model_reset(&model, b, LIFE_FREE);
	count.frees++;
	return 0;
}

/* --- lives --- */

static int open_side(unsigned i)
{
	static const unsigned first[] = { 0, LANES - 1, LANES };
	const struct brick_options options = { .name = "persist", .lanes = (uint16_t)(first[i + 1] - first[i]), .depth = DEPTH + 1,
					       .timeout_ms = 20000 };
	struct side *s = &side[i];
	int ret = brick_open(brick.endpoint, &options, &s->session);

	if (ret) {
		s->session = NULL;
		return death("open", ret);
	}
	if (loss_epoch && (brick_info(s->session)->loss_epoch == loss_epoch) != keeps)
		die(keeps ? "the loss epoch has changed" : "the loss epoch has not changed", 0);
	s->maps = 0;
	memset(s->held, 0, sizeof(s->held));
	s->arena = brick_buffer_alloc(s->session, (size_t)options.lanes * DEPTH * WINDOW);
	if (!s->arena)
		die("memory", -ENOMEM);
	for (unsigned k = first[i]; k < first[i + 1]; k++) {
		lane[k].side = s;
		for (unsigned p = 0; p < DEPTH; p++) {
			lane[k].pending[p].kind = IDLE;
			lane[k].pending[p].buffer = (uint64_t *)(void *)(s->arena + ((k - first[i]) * DEPTH + p) * WINDOW);
		}
		if (k == first[i]) {
			lane[k].lane = brick_lane(s->session, 0);
			continue;
		}
		ret = brick_lane_open(s->session, &lane[k].lane);
		if (ret) {
			lane[k].lane = NULL;
			return death("a lane", ret);
		}
	}
	return 0;
}

static void close_side(unsigned i)
{
	for (unsigned k = 0; k < LANES; k++) {
		if (lane[k].side != &side[i])
			continue;
		drain_dead(&lane[k]);
		lane[k].lane = NULL;
		lane[k].side = NULL;
	}
	if (side[i].session)
		brick_close(side[i].session);
	side[i].session = NULL;
}

/* A session ends without CLEAN, and another one begins: its lane persists nothing of what that one wrote. */
static int step_reopen(void)
{
	if (drain(&lane[LANES - 1]))
		return DIED;
	close_side(1);
	for (unsigned i = 0; i < model.blocks; i++)
		memset(model.block[i].lane[LANES - 1], 0, sizeof(model.block[i].lane[0]));
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
		int ret = brick_list(lane[0].lane, next, extents, MODEL_BLOCKS, &n, &generation, &next, &more);

		if (ret)
			return death("list", ret);
		for (size_t i = 0; i < n; i++)
			for (uint64_t k = 0; k < extents[i].count; k++)
				if ((extents[i].start - MODEL_BASE) / BLOCK + k < MODEL_BLOCKS)
					listed[(extents[i].start - MODEL_BASE) / BLOCK + k] = true;
	}
	for (unsigned i = 0; i < model.blocks; i++) {
		struct model_block *b = &model.block[i];

		if (b->life == LIFE_ALLOCATED && !listed[i])
			die("a block whose alloc was acknowledged is gone", 0);
		if (b->life == LIFE_FREE && listed[i])
			die("a block whose free was acknowledged is there", 0);
		if (b->life == LIFE_MAYBE_ALLOCATED || (b->life == LIFE_MAYBE_FREED && !listed[i])) {
			model_reset(&model, b, listed[i] ? LIFE_ALLOCATED : LIFE_FREE);
			b->checked = false;
		} else if (b->life == LIFE_MAYBE_FREED) {
			b->life = LIFE_ALLOCATED;
		}
	}
	return 0;
}

static int look_at_all(void)
{
	for (unsigned i = 0; i < model.blocks; i++) {
		struct model_block *b = &model.block[i];

		if (b->life != LIFE_ALLOCATED || b->checked)
			continue;
		if (map(&lane[0], b, 0) || (held_by(&side[0], b)->mapped && unmap(&lane[0], b)))
			return DIED;
	}
	return 0;
}

static int work(void)
{
	for (;;) {
		struct lane *l = &lane[rnd(LANES)];
		unsigned what = rnd(1000);
		int ret;

		if (brick_in_flight(l->lane) == DEPTH && gather(l, true))
			return DIED;
		if (what < 500)
			ret = step_io(l, true);
		else if (what < 620)
			ret = step_io(l, false);
		else if (what < 800)
			ret = step_persist(l);
		else if (what < 890)
			ret = step_map(l);
		else if (what < 930)
			ret = step_unmap(l);
		else if (what < 965)
			ret = step_alloc(l);
		else if (what < 990)
			ret = step_free(l);
		else if (what < 997 || l != &lane[LANES - 1])
			ret = drain(l);
		else
			ret = step_reopen();
		if (ret || gather(l, false))
			return DIED;
	}
}

/* Something to write to, so that a short life has work in it too. */
static int warm_up(void)
{
	for (unsigned i = 0; i < 24; i++) {
		struct lane *l = &lane[i % 2 ? LANES - 1 : rnd(LANES - 1)];

		if (step_alloc(l) || (l->side->maps < MAPS_KEPT - 1 && map(l, &model.block[rnd(model.blocks)], BRICK_MAP_WRITE)))
			return DIED;
	}
	return 0;
}

static void start(void)
{
	uint64_t begin = now_us();

	if (daemon_start(&brick)) {
		fprintf(stderr, "FAILED: brickd does not start; seed %" PRIu64 ", point %lu\n", seed_given, count.points);
		exit(1);
	}
	count.start_ms += (double)(now_us() - begin) / 1e3;
	atomic_store(&killed, false);
}

static void end_sides(bool by_a_kill)
{
	if (side[0].session)
		loss_epoch = by_a_kill || keeps ? brick_info(side[0].session)->loss_epoch : 0;
	for (unsigned i = 0; i < SESSIONS; i++)
		close_side(i);
}

static void point(void)
{
	bool early = rnd(6) == 0, all = rnd(5) == 0 || teeth;
	pthread_t thread;

	start();
	victim = brick.pid;
	deadly = keeps && rnd(4) == 0 ? SIGTERM : SIGKILL;
	/* From tens of microseconds to tens of milliseconds, each scale as often; who is to be fooled has time to read what it wrote. */
	kill_after_us = rnd(64u << (teeth ? 9 + rnd(6) : rnd(11)));
	if (early && pthread_create(&thread, NULL, killer, NULL))
		die("thread", -errno);
	if (open_side(0) == 0 && open_side(1) == 0 && look_at_list() == 0 && warm_up() == 0) {
		if (!early && pthread_create(&thread, NULL, killer, NULL))
			die("thread", -errno);
		early = true;
		if (!all || look_at_all() == 0)
			work();
	}
	pthread_join(thread, NULL);
	daemon_reap(&brick);
	/* Over local a lane that does not look completes its writes without a brick. */
	for (unsigned k = 0; k < LANES * DEPTH && keeps; k++)
		if (lane[k % LANES].lane)
			(void)step_io(&lane[k % LANES], true);
	end_sides(true);
	model_died(&model);
	count.points++;
}

/* Nothing was written outside the windows. */
static void look_outside(void)
{
	uint8_t *block = brick_buffer_alloc(side[0].session, BLOCK);

	if (!block)
		die("memory", -ENOMEM);
	for (unsigned i = 0; i < model.blocks; i++) {
		struct model_block *b = &model.block[i];
		struct held *h = held_by(&side[0], b);
		uint32_t at = 0;

		if (b->life != LIFE_ALLOCATED)
			continue;
		if (map(&lane[0], b, 0) || !h->mapped || brick_read(lane[0].lane, &h->handle, 0, block, (uint32_t)BLOCK))
			die("reading a block", 0);
		for (unsigned w = 0; w < WINDOWS; w++)
			memset(block + b->window[w], 0, WINDOW);
		while (at < BLOCK && block[at] == 0)
			at++;
		if (at < BLOCK) {
			fprintf(stderr, "FAILED: byte %u of 0x%" PRIx64 " was never written and is 0x%02x\n", at, b->addr, block[at]);
			die("bytes from elsewhere", 0);
		}
		unmap(&lane[0], b);
	}
}

/* What an earlier run has left on the pool goes. */
static void clear(void)
{
	start();
	if (open_side(0) || open_side(1))
		die("the first start", 0);
	for (unsigned i = 0; i < MODEL_BLOCKS; i++) {
		int ret = brick_free(lane[0].lane, &(const uint64_t){ MODEL_BASE + i * BLOCK }, 1, NULL);

		if (ret && ret != -ENOENT)
			die("free", ret);
	}
	end_sides(false);
	if (daemon_stop(&brick))
		die("brickd", 0);
}

/* The last looks: after the last kill, and after an end in order, which loses nothing at all. */
static void last_looks(void)
{
	for (int i = 0; i < 2; i++) {
		start();
		if (open_side(0) || open_side(1) || look_at_list() || look_at_all())
			die("the last look", 0);
		if (i == 1)
			look_outside();
		for (unsigned k = 0; k < model.blocks * 100 && i == 0; k++) {
			struct lane *l = &lane[k % LANES];

			if (brick_in_flight(l->lane) == DEPTH && gather(l, true))
				die("the last work", 0);
			if (k % 10 == 0 ? step_map(l) : step_io(l, true))
				die("the last work", 0);
		}
		end_sides(false);
		if (daemon_stop(&brick))
			die("brickd", 0);
		for (unsigned k = 0; k < model.blocks && i == 0; k++) {
			struct model_block *b = &model.block[k];

			memcpy(b->durable, b->live, sizeof(b->live));
			for (unsigned u = 0; u < BLOCK_UNITS; u++)
				b->mark[u] = model.last;
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

	seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'b': brick.program = optarg; break;
		case 'p': brick.pool = optarg; break;
		case 'l': brick.listen = optarg; break;
		case 'L': brick.log = optarg; break;
		case 'k': blocks = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'n': points = strtoul(optarg, NULL, 10); break;
		case 't': seconds = strtoul(optarg, NULL, 10); break;
		case 's': seed = strtoull(optarg, NULL, 10); break;
		case 'K': keeps = true; break;
		case 'T': teeth = strcmp(optarg, "read") == 0 ? TEETH_READ : TEETH_WRITE; break;
		default: return 2;
		}
	}
	if (!brick.program || !brick.pool || !brick.listen || !brick.log || blocks < 1 || blocks > MODEL_BLOCKS) {
		fprintf(stderr, "usage: see the top of persist.c\n");
		return 2;
	}
	brick.options = (const char *const *)(argv + optind);
	seed_given = seed;
	printf("seed %" PRIu64 "\n", seed_given);
	fflush(stdout);
	for (unsigned i = 0; i < LANES; i++)
		for (unsigned k = 0; k < DEPTH; k++)
			if (!(lane[i].pending[k].range = calloc(RANGES, sizeof(struct range))))
				return 1;
	model_init(&model, blocks, &seed);
	clear();
	begin = now_us();
	while (count.points < points && now_us() - begin < seconds * 1000000)
		point();
	last_looks();
	printf("%lu kill points in %.1f s (brickd serves after %.1f ms), seed %" PRIu64 ": %lu writes, %lu persists acknowledged, %lu maps, "
	       "%lu allocs, %lu frees; %lu units read and right, %lu blocks read after a map\n",
	       count.points, (double)(now_us() - begin) / 1e6, count.start_ms / (double)(count.points + 3), seed_given, count.writes,
	       count.persists, count.maps, count.allocs, count.frees, count.checked, count.settled);
	return 0;
}
