/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle - see oracle.h. The model and its operations; what is allowed is in oracle-check.c. */
#include "oracle-impl.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* odd numbers of no meaning (the golden ratio, and a factor of splitmix64) */
#define FACTOR_1 0x9e3779b97f4a7c15ull
#define FACTOR_2 0xbf58476d1ce4e5b9ull

static uint64_t fold(uint64_t x)
{
	return x ^ x >> 32;	/* its own inverse */
}

static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;
	int i;

	for (i = 0; i < 5; i++)
		x *= 2 - odd * x;	/* Newton: doubles the good bits */
	return x;
}

/* A unit tells its writer and its place: (source, index), mixed well, so that each byte tells something, by steps that have a way back. */
uint64_t oracle_unit(uint32_t source, uint64_t index)
{
	return source ? fold(fold(fold((uint64_t)source << 40 | index) * FACTOR_1) * FACTOR_2) : 0;
}

bool oracle_whose(uint64_t unit, uint32_t *source, uint64_t *index)
{
	unit = fold(fold(fold(unit) * inverse(FACTOR_2)) * inverse(FACTOR_1));
	*source = unit >> 40;
	*index = unit & ((1ull << 40) - 1);
	return *source && *source < 1u << 20 && *index < 1ull << 27;
}

void oracle_fill(uint32_t source, uint64_t offset, void *buffer, size_t size)
{
	uint8_t *out = buffer;

	while (size && (offset % 8 || size < 8)) {
		*out++ = oracle_unit(source, offset / 8) >> offset % 8 * 8;
		offset++;
		size--;
	}
	for (; size >= 8; size -= 8, offset += 8, out += 8) {
		uint64_t unit = oracle_unit(source, offset / 8);

		memcpy(out, &unit, 8);
	}
	if (size)
		oracle_fill(source, offset, out, size);
}

/* Nodes are shared by the states that they are the same in. */
static void node_put(struct onode *n)
{
	size_t i;

	if (!n || --n->refs)
		return;
	for (i = 0; i < n->entry_count; i++)
		free(n->entries[i].name);
	for (i = 0; i < n->xattr_count; i++) {
		free(n->xattrs[i].name);
		free(n->xattrs[i].value);
	}
	free(n->entries);
	free(n->xattrs);
	free(n->pieces);
	free(n->target);
	free(n);
}

static struct onode *node_copy(const struct onode *n)
{
	struct onode *c = need(malloc(sizeof(*c)));
	size_t i;

	*c = *n;
	c->refs = 1;
	c->target = n->target ? need(strdup(n->target)) : NULL;
	c->entries = need(calloc(n->entry_count + 1, sizeof(*c->entries)));
	for (i = 0; i < n->entry_count; i++)
		c->entries[i] = (struct oentry){need(strdup(n->entries[i].name)), n->entries[i].ino};
	c->xattrs = need(calloc(n->xattr_count + 1, sizeof(*c->xattrs)));
	for (i = 0; i < n->xattr_count; i++) {
		c->xattrs[i] = n->xattrs[i];
		c->xattrs[i].name = need(strdup(n->xattrs[i].name));
		c->xattrs[i].value = need(malloc(n->xattrs[i].size + 1));
		memcpy(c->xattrs[i].value, n->xattrs[i].value, n->xattrs[i].size);
	}
	c->pieces = need(malloc((n->piece_count + 1) * sizeof(*c->pieces)));
	memcpy(c->pieces, n->pieces, n->piece_count * sizeof(*c->pieces));
	return c;
}

struct onode *state_find(const struct ostate *s, uint64_t ino)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		if (s->nodes[i]->ino == ino)
			return s->nodes[i];
	return NULL;
}

static struct onode *find(struct oracle *o, uint64_t ino)
{
	return state_find(&o->now, ino);
}

/* For changing: the present state's own copy. */
static struct onode *edit(struct oracle *o, uint64_t ino)
{
	size_t i;

	for (i = 0; i < o->now.count; i++) {
		struct onode *n = o->now.nodes[i];

		if (n->ino != ino)
			continue;
		if (n->refs > 1) {
			o->now.nodes[i] = node_copy(n);
			node_put(n);
		}
		return o->now.nodes[i];
	}
	return NULL;
}

static struct onode *touch(struct oracle *o, uint64_t ino, bool times_only)
{
	struct onode *n = edit(o, ino);

	n->touched = o->step;
	if (!times_only)
		n->touched_data = o->step;
	n->timed = false;
	return n;
}

static struct onode *add(struct oracle *o, uint64_t ino, mode_t mode)
{
	struct onode *n = need(calloc(1, sizeof(*n)));

	n->refs = 1;
	n->ino = ino;
	n->mode = mode;
	n->nlink = S_ISDIR(mode) ? 2 : 1;
	n->born = o->step;
	n->entries = need(calloc(1, sizeof(*n->entries)));
	n->xattrs = need(calloc(1, sizeof(*n->xattrs)));
	n->pieces = need(calloc(1, sizeof(*n->pieces)));
	if (o->now.count == o->now.room) {
		o->now.room = o->now.room ? 2 * o->now.room : 16;
		o->now.nodes = need(realloc(o->now.nodes, o->now.room * sizeof(*o->now.nodes)));
	}
	o->now.nodes[o->now.count++] = n;
	return touch(o, ino, false);
}

static void drop_if_dead(struct oracle *o, uint64_t ino)
{
	size_t i;

	for (i = 0; i < o->now.count; i++) {
		struct onode *n = o->now.nodes[i];

		if (n->ino != ino || n->nlink || n->opens)
			continue;
		node_put(n);
		o->now.nodes[i] = o->now.nodes[--o->now.count];
		return;
	}
}

static void keep_state(struct oracle *o)
{
	struct ostate *s;
	size_t i;

	o->states = need(realloc(o->states, (o->step + 1) * sizeof(*o->states)));
	s = &o->states[o->step];
	s->count = s->room = o->now.count;
	s->nodes = need(malloc((s->count + 1) * sizeof(*s->nodes)));
	for (i = 0; i < s->count; i++) {
		s->nodes[i] = o->now.nodes[i];
		s->nodes[i]->refs++;
	}
}

struct oracle *oracle_new(void)
{
	struct oracle *o = need(calloc(1, sizeof(*o)));

	o->texts = need(calloc(1, sizeof(*o->texts)));
	o->texts[0] = need(strdup("the start"));
	o->floors = need(calloc(1, sizeof(*o->floors)));
	add(o, FS_ROOT_INO, S_IFDIR | 0755);
	keep_state(o);
	return o;
}

static void state_free(struct ostate *s)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		node_put(s->nodes[i]);
	free(s->nodes);
}

void oracle_delete(struct oracle *o)
{
	unsigned i;

	if (!o)
		return;
	for (i = 0; i <= o->step; i++) {
		if (i < o->step || !o->open_step)
			state_free(&o->states[i]);
		free(o->texts[i]);
	}
	state_free(&o->now);
	free(o->states);
	free(o->texts);
	free(o->floors);
	free(o->events);
	free(o);
}

unsigned oracle_begin(struct oracle *o, const char *text)
{
	o->step++;
	o->open_step = true;
	o->texts = need(realloc(o->texts, (o->step + 1) * sizeof(*o->texts)));
	o->texts[o->step] = need(strdup(text));
	o->floors = need(realloc(o->floors, (o->step + 1) * sizeof(*o->floors)));
	o->floors[o->step] = o->floors[o->step - 1];
	return o->step;
}

void oracle_end(struct oracle *o)
{
	o->open_step = false;
	keep_state(o);
}

unsigned oracle_steps(const struct oracle *o)
{
	return o->step;
}

static void event(struct oracle *o, struct oevent e)
{
	if (o->event_count == o->event_room) {
		o->event_room = o->event_room ? 2 * o->event_room : 64;
		o->events = need(realloc(o->events, o->event_room * sizeof(*o->events)));
	}
	e.step = o->step;
	o->events[o->event_count++] = e;
}

/* ---- content: sorted pieces, what lies between them is zero ---- */

static void content_put(struct onode *n, uint64_t offset, uint64_t length, uint32_t source)
{
	uint64_t end = offset + length;
	struct opiece *out;
	size_t i, m = 0;
	bool done = !source || !length;

	if (!length)
		return;
	out = need(malloc((n->piece_count + 3) * sizeof(*out)));
	for (i = 0; i < n->piece_count; i++) {
		struct opiece p = n->pieces[i];

		if (p.offset < offset) {
			struct opiece left = p;

			if (left.end > offset)
				left.end = offset;
			out[m++] = left;
		}
		if (!done && p.end > offset) {
			out[m++] = (struct opiece){offset, end, source};
			done = true;
		}
		if (p.end > end) {
			struct opiece right = p;

			if (right.offset < end)
				right.offset = end;
			out[m++] = right;
		}
	}
	if (!done)
		out[m++] = (struct opiece){offset, end, source};
	free(n->pieces);
	n->pieces = out;
	n->piece_count = m;
}

static void set_size(struct oracle *o, struct onode *n, uint64_t size)
{
	if (size < n->size)
		content_put(n, size, n->size - size, 0);
	if (size != n->size)
		event(o, (struct oevent){.kind = size < n->size ? OEV_SHRINK : OEV_GROW, .ino = n->ino,
					 .old_size = n->size, .new_size = size});
	n->size = size;
}

void oracle_read(struct oracle *o, uint64_t ino, uint64_t offset, void *buffer, size_t size)
{
	struct onode *n = find(o, ino);
	size_t i;

	memset(buffer, 0, size);
	for (i = 0; i < n->piece_count; i++) {
		struct opiece p = n->pieces[i];

		if (p.offset < offset)
			p.offset = offset;
		if (p.end > offset + size)
			p.end = offset + size;
		if (p.offset < p.end)
			oracle_fill(p.source, p.offset, (uint8_t *)buffer + (p.offset - offset), p.end - p.offset);
	}
}

/* ---- names ---- */

static struct oentry *entry(struct onode *dir, const char *name)
{
	size_t i;

	for (i = 0; i < dir->entry_count; i++)
		if (!strcmp(dir->entries[i].name, name))
			return &dir->entries[i];
	return NULL;
}

static void entry_add(struct onode *dir, const char *name, uint64_t ino)
{
	dir->entries = need(realloc(dir->entries, (dir->entry_count + 1) * sizeof(*dir->entries)));
	dir->entries[dir->entry_count++] = (struct oentry){need(strdup(name)), ino};
}

static void entry_remove(struct onode *dir, const char *name)
{
	struct oentry *e = entry(dir, name);

	free(e->name);
	*e = dir->entries[--dir->entry_count];
}

uint64_t oracle_lookup(struct oracle *o, uint64_t parent, const char *name)
{
	struct onode *dir = find(o, parent);
	struct oentry *e = dir && S_ISDIR(dir->mode) ? entry(dir, name) : NULL;

	return e ? e->ino : 0;
}

/* A directory that was removed while it was open takes no new names. */
static int check_parent(struct onode *dir)
{
	if (!dir)
		return -ENOENT;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	return dir->nlink ? 0 : -ENOENT;
}

int oracle_make(struct oracle *o, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
		const char *target, uint64_t ino)
{
	struct onode *dir = find(o, parent), *n;
	int rc = check_parent(dir);

	if (rc)
		return rc;
	if (entry(dir, name))
		return -EEXIST;
	if (!ino || find(o, ino))
		return 0;	/* the filesystem failed, or answered an inode that lives: the caller tells */
	dir = touch(o, parent, false);
	entry_add(dir, name, ino);
	if (S_ISDIR(mode))
		dir->nlink++;
	if (dir->mode & S_ISGID) {
		gid = dir->gid;
		if (S_ISDIR(mode))
			mode |= S_ISGID;
	}
	n = add(o, ino, mode);
	n->uid = uid;
	n->gid = gid;
	if (S_ISDIR(mode))
		n->parent = parent;
	if (target) {
		n->target = need(strdup(target));
		n->size = strlen(target);
	}
	return 0;
}

int oracle_link(struct oracle *o, uint64_t ino, uint64_t parent, const char *name)
{
	struct onode *dir = find(o, parent), *n = find(o, ino);
	int rc = check_parent(dir);

	if (rc)
		return rc;
	if (!n)
		return -ENOENT;
	if (entry(dir, name))
		return -EEXIST;
	if (S_ISDIR(n->mode))
		return -EPERM;
	if (!n->nlink)
		return -ENOENT;
	entry_add(touch(o, parent, false), name, ino);
	touch(o, ino, false)->nlink++;
	return 0;
}

int oracle_unlink(struct oracle *o, uint64_t parent, const char *name, bool directory)
{
	struct onode *dir = find(o, parent), *n;
	struct oentry *e;

	if (!dir)
		return -ENOENT;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	e = entry(dir, name);
	if (!e)
		return -ENOENT;
	n = find(o, e->ino);
	if (directory && !S_ISDIR(n->mode))
		return -ENOTDIR;
	if (!directory && S_ISDIR(n->mode))
		return -EISDIR;
	if (directory && n->entry_count)
		return -ENOTEMPTY;
	n = touch(o, n->ino, false);
	n->nlink = directory ? 0 : n->nlink - 1;
	dir = touch(o, parent, false);
	entry_remove(dir, name);
	if (directory)
		dir->nlink--;
	drop_if_dead(o, n->ino);
	return 0;
}

static bool is_below(struct oracle *o, uint64_t ino, uint64_t above)
{
	for (;;) {
		if (ino == above)
			return true;
		if (ino == FS_ROOT_INO)
			return false;
		ino = find(o, ino)->parent;
		if (!find(o, ino))
			return false;
	}
}

static int rename_check(struct oracle *o, struct onode *dir, struct onode *new_dir, const char *name,
			const char *new_name, unsigned flags)
{
	struct oentry *from, *to;
	struct onode *n, *victim;
	int rc;

	if (!dir || !new_dir)
		return -ENOENT;
	if (!S_ISDIR(dir->mode) || !S_ISDIR(new_dir->mode))
		return -ENOTDIR;
	from = entry(dir, name);
	to = entry(new_dir, new_name);
	if (!from)
		return -ENOENT;
	if ((flags & RENAME_NOREPLACE) && to)
		return -EEXIST;
	if ((flags & RENAME_EXCHANGE) && !to)
		return -ENOENT;
	n = find(o, from->ino);
	victim = to ? find(o, to->ino) : NULL;
	if (S_ISDIR(n->mode) && is_below(o, new_dir->ino, n->ino))
		return -EINVAL;
	if (victim && S_ISDIR(victim->mode) && is_below(o, dir->ino, victim->ino))
		return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (victim == n || (flags & RENAME_EXCHANGE))
		return 0;
	rc = check_parent(new_dir);
	if (rc || !victim)
		return rc;
	if (S_ISDIR(n->mode) && !S_ISDIR(victim->mode))
		return -ENOTDIR;
	if (!S_ISDIR(n->mode) && S_ISDIR(victim->mode))
		return -EISDIR;
	return S_ISDIR(victim->mode) && victim->entry_count ? -ENOTEMPTY : 0;
}

int oracle_rename(struct oracle *o, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		  unsigned flags)
{
	struct onode *dir = find(o, parent), *new_dir = find(o, new_parent), *n, *victim;
	uint64_t ino, victim_ino;
	int rc;

	rc = rename_check(o, dir, new_dir, name, new_name, flags);
	if (rc)
		return rc;
	ino = entry(dir, name)->ino;
	victim_ino = entry(new_dir, new_name) ? entry(new_dir, new_name)->ino : 0;
	if (ino == victim_ino)
		return 0;
	dir = touch(o, parent, false);
	new_dir = touch(o, new_parent, false);
	n = touch(o, ino, false);
	victim = victim_ino ? touch(o, victim_ino, false) : NULL;
	if (S_ISREG(n->mode))
		event(o, (struct oevent){.kind = OEV_RENAME, .ino = ino});
	if (S_ISDIR(n->mode)) {
		dir->nlink--;
		new_dir->nlink++;
		n->parent = new_parent;
	}
	if (victim && S_ISDIR(victim->mode))
		new_dir->nlink--;
	if (flags & RENAME_EXCHANGE) {
		entry(dir, name)->ino = victim_ino;
		entry(new_dir, new_name)->ino = ino;
		if (S_ISREG(victim->mode))
			event(o, (struct oevent){.kind = OEV_RENAME, .ino = victim_ino});
		if (S_ISDIR(victim->mode)) {
			dir->nlink++;
			victim->parent = parent;
		}
		return 0;
	}
	entry_remove(dir, name);
	if (victim) {
		entry(new_dir, new_name)->ino = ino;
		victim->nlink = S_ISDIR(victim->mode) ? 0 : victim->nlink - 1;
		drop_if_dead(o, victim_ino);
	} else {
		entry_add(new_dir, new_name, ino);
	}
	return 0;
}

/* ---- attributes and content ---- */

int oracle_setattr(struct oracle *o, uint64_t ino, const struct stat *st, unsigned which)
{
	struct onode *n = find(o, ino);

	if (!n)
		return -ENOENT;
	if (which & FS_SET_SIZE) {
		if (S_ISDIR(n->mode))
			return -EISDIR;
		if (!S_ISREG(n->mode))
			return -EINVAL;
		if (st->st_size < 0 || (uint64_t)st->st_size > FS_FILE_MAX)
			return -EFBIG;
	}
	n = touch(o, ino, !(which & ~(FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME | FS_SET_ATIME_NOW | FS_SET_MTIME_NOW)));
	if (which & FS_SET_SIZE)
		set_size(o, n, st->st_size);
	if (which & FS_SET_MODE)
		n->mode = (n->mode & S_IFMT) | (st->st_mode & ~S_IFMT);
	if (which & FS_SET_UID)
		n->uid = st->st_uid;
	if (which & FS_SET_GID)
		n->gid = st->st_gid;
	return 0;
}

int oracle_write(struct oracle *o, uint64_t ino, uint64_t offset, uint64_t length, bool failed)
{
	struct onode *n = find(o, ino);
	uint64_t end = offset + length;

	if (!n)
		return -ENOENT;
	if (!length)
		return 0;
	if (end > FS_FILE_MAX || end < offset)
		return -EFBIG;
	if (failed) {
		event(o, (struct oevent){.kind = OEV_FAILED, .ino = ino, .offset = offset, .end = end,
					 .old_size = n->size, .new_size = n->size});
		return 0;
	}
	n = touch(o, ino, end <= n->size);
	event(o, (struct oevent){.kind = OEV_WRITE, .ino = ino, .offset = offset, .end = end, .old_size = n->size,
				 .new_size = end > n->size ? end : n->size});
	if (end > n->size)
		n->size = end;
	content_put(n, offset, length, o->step);
	return 0;
}

void oracle_adopt(struct oracle *o, uint64_t ino, uint64_t offset, const void *bytes, uint64_t length)
{
	const uint8_t *b = bytes;
	struct onode *n = touch(o, ino, true);
	uint64_t i, run;

	for (i = 0; i < length; i += run) {
		uint8_t expect[8];

		run = 8 - (offset + i) % 8;
		if (run > length - i)
			run = length - i;
		oracle_fill(o->step, offset + i, expect, run);
		if (!memcmp(expect, b + i, run))
			content_put(n, offset + i, run, o->step);
	}
}

int oracle_fallocate(struct oracle *o, uint64_t ino, int mode, uint64_t offset, uint64_t length)
{
	struct onode *n = find(o, ino);
	uint64_t end = offset + length;

	if (!n)
		return -ENOENT;
	if (!length)
		return -EINVAL;
	if (end > FS_FILE_MAX || end < offset)
		return -EFBIG;
	n = touch(o, ino, false);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		content_put(n, offset, length, 0);
		event(o, (struct oevent){.kind = OEV_ZERO, .ino = ino, .offset = offset, .end = end,
					 .old_size = n->size, .new_size = n->size});
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > n->size)
		set_size(o, n, end);
	return 0;
}

static struct oxattr *xattr(struct onode *n, const char *name)
{
	size_t i;

	for (i = 0; i < n->xattr_count; i++)
		if (!strcmp(n->xattrs[i].name, name))
			return &n->xattrs[i];
	return NULL;
}

int oracle_setxattr(struct oracle *o, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	struct onode *n = find(o, ino);
	struct oxattr *x;

	if (!n)
		return -ENOENT;
	x = xattr(n, name);
	if ((flags & XATTR_CREATE) && x)
		return -EEXIST;
	if ((flags & XATTR_REPLACE) && !x)
		return -ENODATA;
	n = touch(o, ino, false);
	x = xattr(n, name);
	if (!x) {
		n->xattrs = need(realloc(n->xattrs, (n->xattr_count + 1) * sizeof(*n->xattrs)));
		x = &n->xattrs[n->xattr_count++];
		*x = (struct oxattr){.name = need(strdup(name))};
	}
	free(x->value);
	x->value = need(malloc(size + 1));
	memcpy(x->value, value, size);
	x->size = size;
	return 0;
}

int oracle_removexattr(struct oracle *o, uint64_t ino, const char *name)
{
	struct onode *n = find(o, ino);
	struct oxattr *x;

	if (!n)
		return -ENOENT;
	if (!xattr(n, name))
		return -ENODATA;
	n = touch(o, ino, false);
	x = xattr(n, name);
	free(x->name);
	free(x->value);
	*x = n->xattrs[--n->xattr_count];
	return 0;
}

void oracle_open(struct oracle *o, uint64_t ino)
{
	edit(o, ino)->opens++;
}

void oracle_close(struct oracle *o, uint64_t ino)
{
	edit(o, ino)->opens--;
	drop_if_dead(o, ino);
}

void oracle_times(struct oracle *o, uint64_t ino, const struct stat *st)
{
	struct onode *n = edit(o, ino);

	n->mtime = st->st_mtim;
	n->ctime = st->st_ctim;
	n->timed = true;
}

size_t oracle_touched(struct oracle *o, uint64_t *inos, size_t max)
{
	size_t i, n = 0;

	for (i = 0; i < o->now.count && n < max; i++)
		if (o->now.nodes[i]->touched == o->step)
			inos[n++] = o->now.nodes[i]->ino;
	return n;
}

void oracle_durable_all(struct oracle *o)
{
	o->floors[o->step] = o->step;
	event(o, (struct oevent){.kind = OEV_DURABLE});
}

void oracle_committed(struct oracle *o)
{
	o->floors[o->step] = o->step;
}

void oracle_durable(struct oracle *o, uint64_t ino, bool datasync)
{
	struct onode *n = find(o, ino);
	unsigned floor = datasync ? n->touched_data : n->touched;

	if (floor > o->floors[o->step])
		o->floors[o->step] = floor;
	event(o, (struct oevent){.kind = OEV_DURABLE, .ino = ino});
}

uint64_t oracle_size(struct oracle *o, uint64_t ino)
{
	struct onode *n = find(o, ino);

	return n ? n->size : 0;
}

mode_t oracle_mode(struct oracle *o, uint64_t ino)
{
	struct onode *n = find(o, ino);

	return n ? n->mode : 0;
}
