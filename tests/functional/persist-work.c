/* SPDX-License-Identifier: BSD-3-Clause */
/* persist-work - what the lanes of the persist test do. */
#include "persist-work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct work work;

_Noreturn void work_die(const char *what, int error)
{
	fprintf(stderr, "FAILED: %s: %d (%s); seed %" PRIu64 ", point %lu\n", what, error, brick_error(), work.seed_given,
		work.count.points);
	exit(1);
}

/* An error is the brick's death, or a failure of the test. */
int work_death(const char *what, int error)
{
	if (!atomic_load(&work.killed) ||
	    (error != -ECONNRESET && error != -ECONNREFUSED && error != -ENOENT && error != -ETIMEDOUT && error != -ESTALE &&
	     error != -EPIPE))
		work_die(what, error);
	return DIED;
}

/* --- completions --- */

static void check_units(struct model_block *b, unsigned unit, unsigned n, const uint64_t *values, bool alive)
{
	for (unsigned i = 0; i < n; i++)
		if (!model_check(&work.model, b, unit + i, values[i], alive))
			work_die("the brick holds what it must not", 0);
	work.count.checked += n;
}

static void completed(struct lane *l, const struct brick_completion *done)
{
	struct pending *p = &l->pending[done->cookie];

	if (done->status) {
		work_death("a request", done->status);
	} else if (p->kind == READ) {
		check_units(p->block, p->unit, p->n, p->buffer, true);
		for (unsigned i = 0; i < p->n && work.teeth == TEETH_READ; i++)
			model_read(&work.model, p->block, p->unit + i, p->buffer[i]);
	} else if (p->kind == PERSIST) {
		for (unsigned i = 0; i < p->ranges; i++) {
			const struct range *r = &p->range[i];

			if (p->status[i] == 0)
				model_persisted(r->block, r->unit, r->n, r->writes);
			else if (p->status[i] != -ENOENT || (r->block->life_number == r->life_number && r->block->life == LIFE_ALLOCATED))
				work_die("a persist", p->status[i]);
		}
		work.count.persists++;
	} else if (p->kind == WRITE && (work.keeps || (work.teeth == TEETH_WRITE && rnd(20) == 0))) {
		for (unsigned i = 0; i < p->n; i++)
			model_persisted(p->block, p->unit + i, 1, &p->write);
	}
	if (p->kind == WRITE) {
		work.recent.block = p->block;
		work.recent.unit = p->unit;
		work.recent.n = p->n;
	}
	p->kind = IDLE;
}

int work_gather(struct lane *l, bool wait)
{
	struct brick_completion done[DEPTH];
	int n = wait ? brick_wait(l->lane, done, DEPTH, -1) : brick_poll(l->lane, done, DEPTH);

	if (n < 0)
		return work_death("waiting", n);
	for (int i = 0; i < n; i++)
		completed(l, &done[i]);
	return brick_lane_state(l->lane) ? work_death("a lane", brick_lane_state(l->lane)) : 0;
}

int work_drain(struct lane *l)
{
	while (brick_in_flight(l->lane) > 0)
		if (work_gather(l, true))
			return DIED;
	return 0;
}

/* What was answered before the brick died counts. */
void work_drain_dead(struct lane *l)
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
			const struct pending *p = &work.lane[i].pending[k];

			if ((p->kind == READ || (p->kind == WRITE && &work.lane[i] != but)) && p->block == b && p->unit < unit + n &&
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

struct held *work_held_by(struct side *s, const struct model_block *b)
{
	return &s->held[b - work.model.block];
}

static bool writable(const struct held *h)
{
	return h->mapped && (h->handle.flags & (BRICK_MAP_WRITE | BRICK_MAP_EXCLUSIVE));
}

static struct side *other(struct side *s)
{
	return s == &work.side[0] ? &work.side[1] : &work.side[0];
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
	for (unsigned tries = 0; tries < 2 * work.model.blocks; tries++) {
		struct model_block *b = &work.model.block[rnd(work.model.blocks)];
		const struct held *h = work_held_by(s, b);

		if (write ? writable(h) : h->mapped)
			return b;
	}
	return NULL;
}

int work_io(struct lane *l, bool write)
{
	struct model_block *b = choose_mapped(l->side, write);
	struct pending *p = idle(l);
	unsigned unit, n;
	int ret;

	if (!b || !p)
		return 0;
	choose(&unit, &n);
	/* What was just written is read too. */
	if (!write && work.recent.block && work_held_by(l->side, work.recent.block)->mapped && rnd(2)) {
		b = work.recent.block;
		unit = work.recent.unit;
		n = work.recent.n;
	}
	if (touched(b, unit, n, write ? l : NULL))
		return 0;
	*p = (struct pending){ .kind = write ? WRITE : READ, .block = b, .unit = unit, .n = n, .buffer = p->buffer, .range = p->range };
	if (write) {
		model_write(&work.model, b, (unsigned)(l - work.lane), unit, n, p->buffer);
		p->write = work.model.last;
		work.count.writes++;
		ret = brick_post_write(l->lane, &work_held_by(l->side, b)->handle, offset_of(b, unit), p->buffer, n * 8, (uint64_t)(p - l->pending));
	} else {
		ret = brick_post_read(l->lane, &work_held_by(l->side, b)->handle, offset_of(b, unit), p->buffer, n * 8, (uint64_t)(p - l->pending));
	}
	if (ret) {
		p->kind = IDLE;
		return work_death("posting", ret);
	}
	return 0;
}

static void note_range(struct lane *l, struct pending *p, struct model_block *b, unsigned unit, unsigned n, uint32_t offset,
		       uint32_t length)
{
	struct range *r = &p->range[p->ranges];

	r->block = b;
	r->life_number = b->life_number;
	r->unit = unit;
	r->n = n;
	memcpy(r->writes, b->lane[l - work.lane] + unit, n * sizeof(*r->writes));
	p->asked[p->ranges++] = (struct brick_range){ b->addr + offset, length };
}

int work_persist(struct lane *l)
{
	struct pending *p = idle(l);
	unsigned want = 1 + rnd(RANGES);
	int ret;

	if (!p)
		return 0;
	*p = (struct pending){ .kind = PERSIST, .buffer = p->buffer, .range = p->range };
	for (unsigned i = 0; i < want; i++) {
		struct model_block *b = &work.model.block[rnd(work.model.blocks)];
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
		return work_death("posting a persist", ret);
	}
	return 0;
}

/* All of a block that has just been mapped, with nobody else writing: durable from here on. */
static int read_all(struct lane *l, struct model_block *b)
{
	const struct held *h = work_held_by(l->side, b);
	uint64_t *buffer = l->pending[0].buffer;

	for (unsigned w = 0; w < WINDOWS; w++) {
		int ret = brick_read(l->lane, &h->handle, b->window[w], buffer, WINDOW);

		if (ret)
			return work_death("reading", ret);
		check_units(b, w * UNITS, UNITS, buffer, b->checked);
		for (unsigned i = 0; i < UNITS; i++)
			model_read(&work.model, b, w * UNITS + i, buffer[i]);
	}
	b->checked = true;
	work.count.settled++;
	return 0;
}

int work_map(struct lane *l, struct model_block *b, uint32_t flags)
{
	struct held *h = work_held_by(l->side, b), *o = work_held_by(other(l->side), b);
	bool conflict = o->mapped && ((flags & BRICK_MAP_EXCLUSIVE) || (o->handle.flags & BRICK_MAP_EXCLUSIVE));
	int ret;

	if (h->mapped || b->life != LIFE_ALLOCATED || work_drain(l))
		return h->mapped || b->life != LIFE_ALLOCATED ? 0 : DIED;
	ret = brick_map(l->lane, &b->addr, 1, flags, &h->handle, NULL);
	if (ret == -ENOMEM && b->checked)
		return 0;
	if (conflict ? ret == 0 : ret == -EBUSY)
		work_die("a map beside an exclusive one, or an EBUSY without", ret);
	if (ret == -EBUSY)
		return 0;
	if (ret)
		return work_death("map", ret);
	h->mapped = true;
	l->side->maps++;
	work.count.maps++;
	if (!b->checked && writable(o))
		work_die("the test has a block mapped that it did not look at", 0);
	if (!writable(o) && (!b->checked || rnd(4) == 0))
		return read_all(l, b);
	return 0;
}

int work_some_map(struct lane *l)
{
	static const uint32_t flags[] = { 0, BRICK_MAP_WRITE, BRICK_MAP_WRITE, BRICK_MAP_EXCLUSIVE };
	struct model_block *b = &work.model.block[rnd(work.model.blocks)];

	if (l->side->maps >= MAPS_KEPT) {
		b = choose_mapped(l->side, false);
		return b ? work_unmap(l, b) : 0;
	}
	return work_map(l, b, flags[rnd(4)]);
}

int work_unmap(struct lane *l, struct model_block *b)
{
	struct held *h = work_held_by(l->side, b);
	bool clean = rnd(3) == 0;
	int ret;

	/* Nothing may use the handle any more. */
	for (unsigned i = 0; i < LANES; i++)
		if (work.lane[i].side == l->side && work_drain(&work.lane[i]))
			return DIED;
	/* The promise of CLEAN: all that the session wrote is persisted, each lane's by its own. */
	for (unsigned i = 0; i < LANES && clean; i++) {
		struct pending *p = &work.lane[i].pending[0];

		if (work.lane[i].side != l->side)
			continue;
		*p = (struct pending){ .kind = PERSIST, .buffer = p->buffer, .range = p->range };
		note_range(&work.lane[i], p, b, 0, BLOCK_UNITS, 0, (uint32_t)BLOCK);
		ret = brick_post_persist(work.lane[i].lane, p->asked, 1, p->status, 0);
		if (ret) {
			p->kind = IDLE;
			return work_death("posting a persist", ret);
		}
		if (work_drain(&work.lane[i]))
			return DIED;
	}
	ret = brick_unmap(l->lane, &b->addr, 1, clean ? BRICK_UNMAP_CLEAN : 0, NULL);
	if (ret)
		return work_death("unmap", ret);
	h->mapped = false;
	l->side->maps--;
	return 0;
}

int work_some_unmap(struct lane *l)
{
	struct model_block *b = choose_mapped(l->side, false);

	return b ? work_unmap(l, b) : 0;
}

int work_alloc(struct lane *l)
{
	struct model_block *b = &work.model.block[rnd(work.model.blocks)];
	int ret;

	if (b->life != LIFE_FREE || work_drain(l))
		return b->life != LIFE_FREE ? 0 : DIED;
	b->life = LIFE_MAYBE_ALLOCATED;
	ret = brick_alloc(l->lane, &b->addr, 1, NULL);
	if (ret)
		return work_death("alloc", ret);
	model_reset(&work.model, b, LIFE_ALLOCATED);
	work.count.allocs++;
	return 0;
}

int work_free(struct lane *l)
{
	struct model_block *b = &work.model.block[rnd(work.model.blocks)];
	int ret;

	if (b->life != LIFE_ALLOCATED || work_held_by(&work.side[0], b)->mapped || work_held_by(&work.side[1], b)->mapped)
		return 0;
	if (work_drain(l))
		return DIED;
	b->life = LIFE_MAYBE_FREED;
	ret = brick_free(l->lane, &b->addr, 1, NULL);
	if (ret)
		return work_death("free", ret);
	model_reset(&work.model, b, LIFE_FREE);
	work.count.frees++;
	return 0;
}
