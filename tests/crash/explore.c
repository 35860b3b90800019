/* SPDX-License-Identifier: BSD-3-Clause */
/* explore - see explore.h. */
#include "explore.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 2

enum crash { CRASH_POWER, CRASH_CLIENT, CRASH_BRICK };

/* One crash point, and how its image is chosen. */
struct point {
	struct explore *x;
	struct oracle *oracle;
	struct sim *sim;		/* with the recording */
	uint64_t event;
	enum crash crash;
	unsigned brick;			/* CRASH_BRICK: whose power is cut */
	unsigned step;
	bool in_flight;
	unsigned depth;			/* 1: inside the recovery or repair of an image, 2: inside that of one of those */
	bool repair;			/* it was a repair that was cut off */
	const struct tree *same;	/* what must be seen, exactly; NULL: what the oracle allows */
	struct sim_piece *pieces;	/* those that may be there or not */
	size_t count;
	uint64_t atoms;
	uint8_t *selection;
	uint64_t random;
	char outer[256];		/* the crashes before this one */
};

static bool seen_before(struct explore_seen *s, uint64_t key)
{
	size_t at;

	if (!key)
		key = 1;
	if (4 * (s->count + 1) > 3 * s->room) {
		uint64_t *old = s->key;
		size_t room = s->room, i;

		s->room = room ? 2 * room : 4096;
		s->key = need(calloc(s->room, sizeof(*s->key)));
		s->count = 0;
		for (i = 0; i < room; i++)
			if (old[i])
				seen_before(s, old[i]);
		free(old);
	}
	for (at = key & (s->room - 1); s->key[at]; at = (at + 1) & (s->room - 1))
		if (s->key[at] == key)
			return true;
	s->key[at] = key;
	s->count++;
	return false;
}

void explore_free(struct explore *x)
{
	free(x->seen.key);
	free(x->distinct.key);
	memset(&x->seen, 0, sizeof(x->seen));
	memset(&x->distinct, 0, sizeof(x->distinct));
}

static const char *crash_name(const struct point *p, char text[40])
{
	if (p->crash == CRASH_BRICK)
		snprintf(text, 40, "power cut of brick %u alone", p->brick);
	else
		snprintf(text, 40, "%s", p->crash == CRASH_POWER ? "power cut" : "client crash");
	return text;
}

static const char *const event_names[] = {
	[SIM_EV_WRITE] = "write submitted", [SIM_EV_WRITE_DONE] = "write done", [SIM_EV_PERSIST] = "persist submitted",
	[SIM_EV_PERSIST_DONE] = "persist done", [SIM_EV_ALLOC] = "alloc", [SIM_EV_FREE] = "free", [SIM_EV_MAP] = "map",
	[SIM_EV_UNMAP] = "unmap", [SIM_EV_END] = "end of session", [SIM_EV_RESTART] = "restart", [SIM_EV_MARK] = "mark",
};

/* Says where, in words that --event takes up again. */
static char *where(const struct point *p, const char *how, char *why)
{
	struct sim_event e = {0};
	char last[96] = "nothing", name[40];
	char *text;

	if (p->event && sim_event(p->sim, p->event - 1, &e))
		snprintf(last, sizeof(last), "%s of %016llx+%u on brick %u", event_names[e.kind],
			 (unsigned long long)e.addr, e.length, e.brick);
	text = say("%s%s at event %llu (behind %s), step %u %s, %zu volatile pieces, %s: %s", p->outer,
		   crash_name(p, name), (unsigned long long)p->event, last, p->step,
		   p->in_flight ? "in flight" : "returned", p->count, how, why);
	free(why);
	return text;
}

static char *every_crash(struct point *p);

/* The recovery, or the repair, of an image was recorded: crash it at its events; at a recovery's end what was seen must stay. */
static char *crash_again(const struct point *p, struct sim *image, const struct tree *seen, const char *how, bool repair)
{
	struct explore *x = p->x;
	uint64_t events = sim_events(image), e, stride = events / (p->depth ? x->again_points : x->recovery_points) + 1;
	uint64_t random = x->seed ^ x->examined * 1000003;
	unsigned bricks = sim_bricks(image), kinds = bricks > 1 ? 3 : 2, turn = random_below(&random, 12);
	char *why = NULL, name[40];

	if (repair)
		x->repairs_cut++;
	else
		x->recoveries++;
	x->deep += p->depth != 0;
	/* Any events, and the last; a power cut at each, and by turns one of the other crashes. */
	for (e = random_below(&random, stride); !why; e = e + stride < events ? e + stride : events) {
		for (int other = 0; other < 2 && !why; other++) {
			struct point q = {.x = x, .oracle = p->oracle, .sim = image, .event = e, .crash = CRASH_POWER,
					  .step = p->step, .in_flight = p->in_flight, .depth = p->depth + 1,
					  .repair = repair, .same = seen && e == events ? seen : p->same, .random = x->seed + e};

			if (other) {
				q.crash = turn % kinds ? CRASH_CLIENT : CRASH_POWER;
				if (turn % kinds == 2) {
					q.crash = CRASH_BRICK;
					q.brick = turn / kinds % bricks;
				}
				turn++;
				if (q.crash == CRASH_POWER)
					continue;
			}
			snprintf(q.outer, sizeof(q.outer), "%.80s%s at event %llu, %s, then in its %s: ", p->outer,
				 crash_name(p, name), (unsigned long long)p->event, how, repair ? "repair" : "recovery");
			why = every_crash(&q);
		}
		if (e == events)
			break;
	}
	return why;
}

/* What is seen must be allowed. */
static char *see(const struct point *p, struct fs *fs, struct tree *tree)
{
	char *why;

	if (tree_take(tree, fs, &why))
		return why;
	return p->same ? tree_differ(p->same, tree) : oracle_allowed(p->oracle, p->step, p->in_flight, tree, NULL);
}

/*
 * fsck -y: it succeeds, the next check finds nothing at all, and what is there is what fsck saw and what is allowed.  Where it has
 * no room the image is as sound as it was. crash: the repair itself is crashed, too; then it reads no more than fsck does.
 */
static char *repair(const struct point *p, struct sim *image, const char *how, bool crash)
{
	struct sim *copy = sim_snapshot(image), *after;
	struct tree shown = {0}, tree = {0};
	bool no_room = false;
	struct fs *fs;
	char *why;

	p->x->repairs++;
	if (crash)
		sim_record(copy, true);
	why = world_repair(copy, crash ? NULL : &shown, &no_room);
	if (crash)
		sim_record(copy, false);
	p->x->repairs_without_room += no_room;
	if (!why) {
		after = sim_snapshot(copy);
		why = world_check(after, no_room);
		if (!why && !world_mount(after, &fs, no_room, &why)) {
			why = see(p, fs, &tree);
			if (!why && !crash)
				why = tree_differ(&shown, &tree);
			fs_abandon(fs);
		}
		sim_delete(after);
		if (why) {
			char *inner = why;

			why = say("after the repair: %s", inner);
			free(inner);
		}
	}
	if (!why && crash)
		why = crash_again(p, copy, NULL, how, true);
	tree_free(&shown);
	tree_free(&tree);
	sim_delete(copy);
	return why;
}

/* What a repair that was cut off left: nothing that is damage, it is repaired again, and by turns it is mounted instead; one of these may be crashed. */
static char *examine_repair(struct point *p, struct sim *image, const char *how)
{
	struct explore *x = p->x;
	bool again = p->depth < DEPTH && x->again && x->depth_one++ % x->again == 0, mount = x->examined % 2 == 0;
	struct sim *copy = sim_snapshot(image);
	struct tree tree = {0};
	struct fs *fs;
	char *why;
	int rc;

	world_alive();
	why = world_check(copy, true);
	sim_delete(copy);
	if (!why)
		why = repair(p, image, how, again && !mount);
	if (why || !mount)
		return why;
	x->mounts++;
	if (again)
		sim_record(image, true);
	if (world_mount(image, &fs, true, &why))
		return why;
	why = see(p, fs, &tree);
	if (why) {
		fs_abandon(fs);
	} else {
		if (again) {
			sim_record(image, false);
			why = crash_again(p, image, &tree, how, false);
		}
		rc = fs_unmount(fs);
		if (rc && !why)
			why = say("unmount: %s", strerror(-rc));
	}
	tree_free(&tree);
	return why ? why : world_check(image, false);
}

static char *examine(struct point *p, struct sim *image, const char *how)
{
	struct explore *x = p->x;
	bool recover = p->depth == 0 && (p->crash != CRASH_POWER || (x->recovery && x->examined % x->recovery == 0));
	bool use = x->use_every && x->examined % x->use_every == 0;
	struct tree tree = {0};
	struct fs *fs;
	char *why;
	int rc;

	if (p->repair)
		return examine_repair(p, image, how);
	if (p->depth && p->depth < DEPTH && x->again)
		recover = x->depth_one++ % x->again == 0;
	world_alive();
	if (use) {
		struct sim *copy = sim_snapshot(image);

		why = world_check(copy, true);
		sim_delete(copy);
		if (why)
			return why;
	}
	if (x->repair && x->examined % x->repair == 0) {
		why = repair(p, image, how, !p->depth && x->repair_crash && x->repair_turn++ % x->repair_crash == 0);
		if (why)
			return why;
	}
	if (recover)
		sim_record(image, true);
	x->mounts++;
	if (world_mount(image, &fs, true, &why))
		return why;
	why = see(p, fs, &tree);
	if (why) {
		fs_abandon(fs);
	} else {
		if (recover) {
			sim_record(image, false);
			why = crash_again(p, image, &tree, how, false);
		}
		rc = fs_unmount(fs);
		if (rc && !why)
			why = say("unmount: %s", strerror(-rc));
	}
	if (!why && use)
		why = world_use_up(image, &tree);
	tree_free(&tree);
	return why;
}

static char *one_image(struct point *p, const char *how)
{
	struct explore *x = p->x;
	struct sim *image;
	uint64_t key;
	char *why = NULL;

	if (x->stop && x->stop(x->stop_arg))
		return NULL;
	if (p->crash == CRASH_BRICK)
		image = sim_image_of_cut(p->sim, p->event, p->brick, p->selection);
	else
		image = sim_image(p->sim, p->event, p->crash == CRASH_POWER ? SIM_POWER_CUT : SIM_CLIENT_CRASH, p->selection);
	if (!image)
		return say("event %llu is not in the recording", (unsigned long long)p->event);
	key = sim_hash(image);
	x->images += !seen_before(&x->distinct, key);
	key = (key + p->step * 2 + p->in_flight) * 0x9e3779b97f4a7c15ull + (p->same ? 2 : 0);
	if (seen_before(&x->seen, key)) {
		x->duplicates++;
	} else {
		x->examined++;
		why = examine(p, image, how);
		if (why)
			why = where(p, how, why);
	}
	sim_delete(image);
	return why;
}

static void select_atoms(struct point *p, uint64_t first, uint64_t count, bool on)
{
	uint64_t i;

	for (i = first; i < first + count;) {
		if (i % 8 == 0 && first + count - i >= 8) {
			uint64_t bytes = (first + count - i) / 8;

			memset(p->selection + i / 8, on ? 0xff : 0, bytes);
			i += bytes * 8;
			continue;
		}
		if (on)
			p->selection[i / 8] |= 1u << i % 8;
		else
			p->selection[i / 8] &= ~(1u << i % 8);
		i++;
	}
}

static void select_piece(struct point *p, size_t piece, bool on)
{
	select_atoms(p, p->pieces[piece].first_atom, p->pieces[piece].atoms, on);
}

static void select_all(struct point *p, bool on)
{
	size_t i;

	for (i = 0; i < p->count; i++)
		select_piece(p, i, on);
}

/* Whole pieces, beginnings and ends of pieces, and any atoms. */
static void select_random(struct point *p)
{
	size_t i;

	for (i = 0; i < p->count; i++) {
		const struct sim_piece *s = &p->pieces[i];
		uint64_t cut = random_below(&p->random, s->atoms + 1), a;

		switch (random_below(&p->random, 6)) {
		case 0:
			select_piece(p, i, false);
			break;
		case 1:
			select_piece(p, i, true);
			break;
		case 2:
			select_atoms(p, s->first_atom, cut, true);
			select_atoms(p, s->first_atom + cut, s->atoms - cut, false);
			break;
		case 3:
			select_atoms(p, s->first_atom, cut, false);
			select_atoms(p, s->first_atom + cut, s->atoms - cut, true);
			break;
		case 4:		/* all but a few */
			select_piece(p, i, true);
			for (a = 0; a < 3; a++)
				select_atoms(p, s->first_atom + random_below(&p->random, s->atoms), 1, false);
			break;
		default:	/* each like a coin */
			for (a = 0; a < s->atoms; a += 64) {
				uint64_t coins = random_next(&p->random), b;

				for (b = a; b < a + 64 && b < s->atoms; b++)
					select_atoms(p, s->first_atom + b, 1, coins >> (b - a) & 1);
			}
		}
	}
}

static char *selections(struct point *p)
{
	unsigned all = p->depth ? p->x->recovery_subsets + p->repair : p->x->subsets;
	size_t i, stride;
	uint64_t mask;
	char how[64];
	char *why = NULL;

	if (!p->count)
		return one_image(p, "all there");
	if (p->count <= all) {
		for (mask = 0; mask < 1ull << p->count && !why; mask++) {
			for (i = 0; i < p->count; i++)
				select_piece(p, i, mask >> i & 1);
			snprintf(how, sizeof(how), "subset %llx", (unsigned long long)mask);
			why = one_image(p, how);
		}
	} else {
		select_all(p, false);
		why = one_image(p, "none there");
		for (i = 0; i < p->count && !why; i++) {	/* every prefix; the last one is all */
			select_piece(p, i, true);
			if (p->depth && i + 1 < p->count)
				continue;
			snprintf(how, sizeof(how), "the first %zu there", i + 1);
			why = one_image(p, how);
		}
		stride = p->x->lone ? p->count / p->x->lone + 1 : 1;
		for (i = p->event % stride; p->x->lone && !p->depth && i < p->count && !why; i += stride) {
			select_all(p, true);
			select_piece(p, i, false);
			snprintf(how, sizeof(how), "all but piece %zu", i);
			why = one_image(p, how);
			select_all(p, false);
			select_piece(p, i, true);
			snprintf(how, sizeof(how), "only piece %zu", i);
			if (!why)
				why = one_image(p, how);
		}
	}
	for (i = 0; i < (p->depth ? p->x->recovery_randoms : p->x->randoms) && !why; i++) {
		select_random(p);
		snprintf(how, sizeof(how), "random selection %zu", i);
		why = one_image(p, how);
	}
	return why;
}

static char *every_crash(struct point *p)
{
	size_t i, n, room = 64;
	bool some = false;
	char *why = NULL;

	p->pieces = need(malloc(room * sizeof(*p->pieces)));
	n = sim_pieces(p->sim, p->event, p->pieces, room, &p->atoms);
	if (n > room) {
		p->pieces = need(realloc(p->pieces, n * sizeof(*p->pieces)));
		n = sim_pieces(p->sim, p->event, p->pieces, n, &p->atoms);
	}
	/* what has arrived stays where only the client dies */
	for (i = 0; i < n; i++) {
		bool cut = p->crash == CRASH_POWER || (p->crash == CRASH_BRICK && p->pieces[i].brick == p->brick);

		some |= cut;
		if (cut || !p->pieces[i].drained)
			p->pieces[p->count++] = p->pieces[i];
	}
	p->selection = need(calloc(1, p->atoms / 8 + 1));
	/* A brick that has nothing volatile loses nothing: that is the client's crash. */
	if (some || p->crash != CRASH_BRICK) {
		p->x->points++;
		why = selections(p);
	}
	free(p->selection);
	free(p->pieces);
	return why;
}

/* Which step had begun, and whether it had returned, when so many events had been. */
static void step_at(const struct world *w, uint64_t event, unsigned *step, bool *in_flight)
{
	unsigned last = oracle_steps(w->run.oracle), s;

	*step = w->recorded_from;
	*in_flight = false;
	for (s = w->recorded_from + 1; s <= last && w->begins[s] < event; s++) {
		*step = s;
		*in_flight = event < w->ends[s];
	}
}

char *explore(struct explore *x, struct world *w)
{
	uint64_t events = sim_events(w->sim), e;
	unsigned bricks = sim_bricks(w->sim), kind;
	char *why = NULL;

	for (e = x->first_event; e <= events && e <= x->last_event && !why; e++) {
		/* all, the client, each brick by itself */
		for (kind = 0; kind < 2 + (bricks > 1 ? bricks : 0) && !why; kind++) {
			struct point p = {.x = x, .oracle = w->run.oracle, .sim = w->sim, .event = e,
					  .crash = kind < 2 ? (enum crash)kind : CRASH_BRICK, .brick = kind < 2 ? 0 : kind - 2,
					  .random = x->seed ^ e * 1000003 ^ kind};

			if (!(kind == 0 ? x->power : kind == 1 ? x->client : x->apart))
				continue;
			step_at(w, e, &p.step, &p.in_flight);
			why = every_crash(&p);
		}
	}
	return why;
}
