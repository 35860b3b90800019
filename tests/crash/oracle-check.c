/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle-check - compares a tree with a state, and with all states that a crash may leave (oracle.h says which). */
#include "oracle-impl.h"
#include "util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALTERNATIVES_MAX 64

struct check {
	struct oracle *o;
	const struct tree *tree;
	unsigned state;			/* k */
	unsigned last;			/* N: steps up to here may have left bytes */
	unsigned returned;		/* steps up to here kept their promises */
	bool exact;			/* the present state, nothing else */
	uint64_t partial;		/* the inode that step k + 1 made longer, and not yet all of it */
	char *why;
};

static bool __attribute__((format(printf, 2, 3))) differs(struct check *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	free(c->why);
	if (vasprintf(&c->why, format, args) < 0)
		need(NULL);
	va_end(args);
	return false;
}

#define LLU(x) ((unsigned long long)(x))

/* ---- content ---- */

static uint32_t source_at(const struct onode *n, uint64_t at)
{
	size_t low = 0, high = n ? n->piece_count : 0;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (n->pieces[mid].end <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return n && low < n->piece_count && n->pieces[low].offset <= at ? n->pieces[low].source : 0;
}

struct file {
	uint64_t ino;
	const struct onode *ground;	/* NULL: not there yet */
	unsigned ground_step, upto;	/* events of steps in (ground_step, last]; those up to upto are in the state */
	const struct oevent **events;
	size_t event_count;
};

static const struct onode *ground_node(struct check *c, unsigned step, uint64_t ino)
{
	return state_find(c->exact && step == c->o->step ? &c->o->now : &c->o->states[step], ino);
}

static void file_open(struct check *c, struct file *f, uint64_t ino)
{
	size_t i;

	memset(f, 0, sizeof(*f));
	f->ino = ino;
	f->upto = c->partial == ino ? c->state + 1 : c->state;
	if (c->exact) {
		f->ground = ground_node(c, c->state, ino);
		f->ground_step = c->last;
		return;
	}
	for (i = 0; i < c->o->event_count; i++) {
		const struct oevent *e = &c->o->events[i];

		if (e->kind == OEV_DURABLE && (!e->ino || e->ino == ino) && e->step <= c->returned && e->step > f->ground_step)
			f->ground_step = e->step;
		if (e->kind == OEV_RENAME && e->ino == ino && e->step <= c->state && e->step > f->ground_step)
			f->ground_step = e->step;
	}
	f->ground = ground_node(c, f->ground_step, ino);
	f->events = need(malloc((c->o->event_count + 1) * sizeof(*f->events)));
	for (i = 0; i < c->o->event_count; i++) {
		const struct oevent *e = &c->o->events[i];

		if (e->ino == ino && e->step > f->ground_step && e->step <= c->last && e->kind != OEV_DURABLE)
			f->events[f->event_count++] = e;
	}
}

/* The sources that may be seen at a byte: the ground first, then what may have come over it. */
static size_t sources(const struct file *f, uint64_t at, uint32_t *source)
{
	size_t i, n = 1;

	source[0] = source_at(f->ground, at);
	for (i = 0; i < f->event_count; i++) {
		const struct oevent *e = f->events[i];
		bool inside = at >= e->offset && at < e->end;
		bool grown = at >= e->old_size && at < e->new_size;

		if (e->kind == OEV_SHRINK && at >= e->new_size) {
			if (e->step > f->upto)
				break;
			n = 1;
			source[0] = 0;
		} else if (e->kind == OEV_GROW && grown) {
			n = 1;
			source[0] = 0;
		} else if (e->kind == OEV_WRITE && e->step <= f->upto && grown) {
			n = 1;
			source[0] = inside ? e->step : 0;
		} else if (inside && (e->kind == OEV_WRITE || e->kind == OEV_FAILED || e->kind == OEV_ZERO)) {
			if (n < ALTERNATIVES_MAX)
				source[n++] = e->kind == OEV_ZERO ? 0 : e->step;
		}
	}
	return n;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static size_t add_cut(uint64_t *cuts, size_t n, uint64_t at, uint64_t size)
{
	if (at < size)
		cuts[n++] = at;
	return n;
}

static bool wrong(struct check *c, const struct tree_node *t, uint64_t at, const uint32_t *source, size_t n)
{
	uint64_t size = t->st.st_size, unit = 0, start = at / 8 * 8, index;
	char list[400], *p = list;
	uint32_t whose;
	size_t i;

	memcpy(&unit, t->data + start, size - start < 8 ? size - start : 8);
	*p = 0;
	for (i = 0; i < n && p < list + sizeof(list) - 64; i++)
		p += source[i] ? sprintf(p, "%sstep %u", i ? " or " : "", source[i]) : sprintf(p, "%szero", i ? " or " : "");
	if (!unit)
		return differs(c, "%s: byte %llu: zero, allowed: %s", t->path, LLU(at), list);
	if (oracle_whose(unit, &whose, &index) && whose <= c->o->step)
		return differs(c, "%s: byte %llu: what step %u (%s) wrote at %llu, allowed: %s", t->path, LLU(at), whose,
			       c->o->texts[whose], LLU(index * 8), list);
	return differs(c, "%s: byte %llu: %016llx is of nobody, allowed: %s", t->path, LLU(at), LLU(unit), list);
}

static bool bytes_match(struct check *c, const struct tree_node *t, uint64_t from, uint64_t to,
			const uint32_t *source, size_t n)
{
	uint64_t at, i;

	for (at = from; at < to;) {
		bool whole = !(at % 8) && to - at >= 8;
		uint64_t unit;

		if (whole) {
			memcpy(&unit, t->data + at, 8);
			for (i = 0; i < n && unit != oracle_unit(source[i], at / 8); i++)
				;
		} else {
			for (i = 0; i < n && t->data[at] != (uint8_t)(oracle_unit(source[i], at / 8) >> at % 8 * 8); i++)
				;
		}
		if (i == n)
			return wrong(c, t, at, source, n);
		at += whole ? 8 : 1;
	}
	return true;
}

static bool content_match(struct check *c, const struct tree_node *t)
{
	uint64_t size = t->st.st_size, *cuts;
	uint32_t source[ALTERNATIVES_MAX];
	size_t i, n = 0, count;
	struct file f;
	bool good = true;

	file_open(c, &f, t->st.st_ino);
	cuts = need(malloc((2 + 4 * f.event_count + 2 * (f.ground ? f.ground->piece_count : 0)) * sizeof(*cuts)));
	n = add_cut(cuts, n, 0, size);
	for (i = 0; i < f.event_count; i++) {
		n = add_cut(cuts, n, f.events[i]->offset, size);
		n = add_cut(cuts, n, f.events[i]->end, size);
		n = add_cut(cuts, n, f.events[i]->old_size, size);
		n = add_cut(cuts, n, f.events[i]->new_size, size);
	}
	for (i = 0; f.ground && i < f.ground->piece_count; i++) {
		n = add_cut(cuts, n, f.ground->pieces[i].offset, size);
		n = add_cut(cuts, n, f.ground->pieces[i].end, size);
	}
	qsort(cuts, n, sizeof(*cuts), by_value);
	for (i = 0; good && i < n; i++) {
		uint64_t to = i + 1 < n ? cuts[i + 1] : size;

		if (to == cuts[i])
			continue;
		count = sources(&f, cuts[i], source);
		good = bytes_match(c, t, cuts[i], to, source, count);
	}
	free(cuts);
	free(f.events);
	return good;
}

/* ---- everything else ---- */

static bool time_match(struct check *c, const struct tree_node *t, const char *which, const struct timespec *is,
		       const struct timespec *expected)
{
	if (is->tv_sec == expected->tv_sec && is->tv_nsec == expected->tv_nsec)
		return true;
	return differs(c, "%s: %s %lld.%09ld, expected %lld.%09ld", t->path, which, (long long)is->tv_sec, is->tv_nsec,
		       (long long)expected->tv_sec, expected->tv_nsec);
}

/* Rule 2: step k + 1 made the file longer, and got as far as this size. */
static bool may_be_partial(struct check *c, uint64_t ino, uint64_t size)
{
	size_t i;

	if (c->exact || c->state >= c->last)
		return false;
	for (i = 0; i < c->o->event_count; i++) {
		const struct oevent *e = &c->o->events[i];

		if (e->ino == ino && e->step == c->state + 1 && (e->kind == OEV_WRITE || e->kind == OEV_GROW) &&
		    size > e->old_size && size <= e->new_size)
			return true;
	}
	return false;
}

static bool node_match(struct check *c, const struct onode *n, const struct tree_node *t)
{
	size_t i, j;

	if (t->st.st_mode != n->mode)
		return differs(c, "%s: mode %o, expected %o", t->path, t->st.st_mode, n->mode);
	if (t->st.st_uid != n->uid || t->st.st_gid != n->gid)
		return differs(c, "%s: owner %u:%u, expected %u:%u", t->path, t->st.st_uid, t->st.st_gid, n->uid, n->gid);
	if (t->st.st_nlink != n->nlink)
		return differs(c, "%s: %llu links, expected %llu", t->path, LLU(t->st.st_nlink), LLU(n->nlink));
	if (!S_ISDIR(n->mode) && (uint64_t)t->st.st_size != n->size) {
		if (c->partial || !S_ISREG(n->mode) || !may_be_partial(c, n->ino, t->st.st_size))
			return differs(c, "%s: size %llu, expected %llu", t->path, LLU(t->st.st_size), LLU(n->size));
		c->partial = n->ino;
	}
	if (n->timed && c->partial != n->ino &&
	    !(time_match(c, t, "mtime", &t->st.st_mtim, &n->mtime) && time_match(c, t, "ctime", &t->st.st_ctim, &n->ctime)))
		return false;
	if (S_ISLNK(n->mode) && strcmp((char *)t->data, n->target))
		return differs(c, "%s: points to \"%s\", expected \"%s\"", t->path, t->data, n->target);
	if (t->xattr_count != n->xattr_count)
		return differs(c, "%s: %zu xattrs, expected %zu", t->path, t->xattr_count, n->xattr_count);
	for (i = 0; i < n->xattr_count; i++) {
		for (j = 0; j < t->xattr_count && strcmp(t->xattrs[j].name, n->xattrs[i].name); j++)
			;
		if (j == t->xattr_count || t->xattrs[j].size != n->xattrs[i].size ||
		    memcmp(t->xattrs[j].value, n->xattrs[i].value, n->xattrs[i].size))
			return differs(c, "%s: xattr %s is not as expected", t->path, n->xattrs[i].name);
	}
	if (!S_ISDIR(n->mode))
		return true;
	for (i = 0; i < t->entry_count; i++) {
		for (j = 0; j < n->entry_count && strcmp(t->entries[i].name, n->entries[j].name); j++)
			;
		if (j == n->entry_count)
			return differs(c, "%s: has the entry %s, unexpected", t->path, t->entries[i].name);
		if (t->entries[i].ino != n->entries[j].ino)
			return differs(c, "%s: %s is inode %llu, expected %llu", t->path, t->entries[i].name,
				       LLU(t->entries[i].ino), LLU(n->entries[j].ino));
	}
	for (j = 0; j < n->entry_count; j++) {
		for (i = 0; i < t->entry_count && strcmp(t->entries[i].name, n->entries[j].name); i++)
			;
		if (i == t->entry_count)
			return differs(c, "%s: lacks the entry %s", t->path, n->entries[j].name);
	}
	return true;
}

/* Names and attributes of all first: they choose the state; then the bytes. */
static bool tree_match(struct check *c, const struct ostate *s)
{
	size_t i;

	c->partial = 0;
	for (i = 0; i < c->tree->count; i++) {
		const struct onode *n = state_find(s, c->tree->nodes[i].st.st_ino);

		if (!n)
			return differs(c, "%s: inode %llu does not exist", c->tree->nodes[i].path,
				       LLU(c->tree->nodes[i].st.st_ino));
		if (!node_match(c, n, &c->tree->nodes[i]))
			return false;
	}
	for (i = 0; i < c->tree->count; i++)
		if (S_ISREG(c->tree->nodes[i].st.st_mode) && !content_match(c, &c->tree->nodes[i]))
			return false;
	return true;
}

char *oracle_compare(struct oracle *o, const struct tree *tree)
{
	struct check c = {.o = o, .tree = tree, .state = o->step, .last = o->step, .returned = o->step, .exact = true};

	if (tree_match(&c, &o->now)) {
		free(c.why);
		return NULL;
	}
	return c.why;
}

char *oracle_allowed(struct oracle *o, unsigned step, bool in_flight, const struct tree *tree, unsigned *state)
{
	struct check c = {.o = o, .tree = tree, .last = step, .returned = step - in_flight};
	unsigned floor = o->floors[c.returned];
	char *text, *old;

	if (asprintf(&text, "it is none of the %u allowed states:", step - floor + 1) < 0)
		need(NULL);
	for (c.state = step + 1; c.state-- > floor;) {
		if (tree_match(&c, &o->states[c.state])) {
			free(c.why);
			free(text);
			if (state)
				*state = c.state;
			return NULL;
		}
		old = text;
		if (asprintf(&text, "%s\n    not as after step %u (%s): %s", old, c.state, o->texts[c.state], c.why) < 0)
			need(NULL);
		free(old);
	}
	free(c.why);
	return text;
}
