/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space - the pages of packed blocks, and what is left of blocks beside the reserve of the log.
 *
 * Nothing here is stored: packed blocks are claimed run by run at mount.  The
 * reserve, ceil(live metadata / segment) + 2 segments, is out of reach of data, so
 * that a checkpoint always finds room; removal, truncation and the checkpoint draw on it.
 */
#include "fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 10
#define PAGES 512
struct pblock {
	struct pblock *hash_next;
	struct pblock *prev, *next;	/* in its class */
	uint64_t number;
	int class;			/* -1: full, or being emptied */
	bool leaving;			/* being emptied */
	uint32_t used;
	uint64_t map[PAGES / 64];	/* set: used */
	uint64_t owner[PAGES];		/* inode number of each used page */
};

static uint64_t bucket(const struct space *s, uint64_t number)
{
	return (number * 0x9e3779b97f4a7c15ull >> 32) & (s->buckets - 1);
}

static struct pblock *find(struct space *s, uint64_t number)
{
	struct pblock *p = s->table[bucket(s, number)];

	while (p && p->number != number)
		p = p->hash_next;
	return p;
}

static bool used(const struct pblock *p, unsigned page)
{
	return p->map[page / 64] >> page % 64 & 1;
}

/* The first free run of at least `pages`, else -1; *longest: the longest run met. */
static int find_run(const struct pblock *p, unsigned pages, unsigned *longest)
{
	unsigned run = 0;

	*longest = 0;
	for (unsigned i = 0; i < PAGES; i++) {
		if (!(i % 64) && p->map[i / 64] == UINT64_MAX) {
			run = 0;
			i += 63;
			continue;
		}
		run = used(p, i) ? 0 : run + 1;
		if (run > *longest)
			*longest = run;
		if (run == pages)
			return (int)(i + 1 - pages);
	}
	return -1;
}

static int class_of(unsigned run)
{
	return run ? 31 - __builtin_clz(run) : -1;
}

static void unlink_class(struct space *s, struct pblock *p)
{
	if (p->class < 0)
		return;
	if (p->prev)
		p->prev->next = p->next;
	else
		s->class[p->class] = p->next;
	if (p->next)
		p->next->prev = p->prev;
	p->class = -1;
}

static void relink_class(struct space *s, struct pblock *p)
{
	unsigned longest;
	int class;

	find_run(p, PAGES + 1, &longest);
	class = p->leaving ? -1 : class_of(longest);
	if (class == p->class)
		return;
	unlink_class(s, p);
	p->class = class;
	if (class < 0)
		return;
	p->prev = NULL;
	p->next = s->class[class];
	if (p->next)
		p->next->prev = p;
	s->class[class] = p;
}

static struct pblock *add(struct space *s, uint64_t number)
{
	struct pblock *p;

	if (s->count >= s->buckets) {
		uint32_t old = s->buckets;
		struct pblock **table = calloc(old * 2, sizeof(*table)), **before = s->table, *next;

		if (table) {
			s->table = table;
			s->buckets = old * 2;
			for (uint32_t b = 0; b < old; b++)
				for (p = before[b]; p; p = next) {
					next = p->hash_next;
					p->hash_next = s->table[bucket(s, p->number)];
					s->table[bucket(s, p->number)] = p;
				}
			free(before);
		}
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->number = number;
	p->class = -1;
	p->hash_next = s->table[bucket(s, number)];
	s->table[bucket(s, number)] = p;
	s->count++;
	relink_class(s, p);
	return p;
}

static void delete(struct space *s, struct pblock *p)
{
	struct pblock **q = &s->table[bucket(s, p->number)];

	while (*q != p)
		q = &(*q)->hash_next;
	*q = p->hash_next;
	unlink_class(s, p);
	s->count--;
	free(p);
}

static void take(struct space *s, struct pblock *p, unsigned page, unsigned pages, uint64_t ino)
{
	for (unsigned i = page; i < page + pages; i++) {
		p->map[i / 64] |= 1ull << i % 64;
		p->owner[i] = ino;
	}
	p->used += pages;
	s->pages_used += pages;
	relink_class(s, p);
}

int space_init(struct fs *fs)
{
	struct space *s = &fs->space;

	s->buckets = 64;
	s->table = calloc(s->buckets, sizeof(*s->table));
	return s->table && !pthread_mutex_init(&s->lock, NULL) ? 0 : -ENOMEM;
}

void space_destroy(struct fs *fs)
{
	struct space *s = &fs->space;

	for (uint32_t b = 0; s->table && b < s->buckets; b++)
		for (struct pblock *p = s->table[b], *next; p; p = next) {
			next = p->hash_next;
			free(p);
		}
	free(s->table);
	s->table = NULL;
}

uint64_t space_reserve(struct fs *fs)
{
	return log_checkpoint_blocks(fs->live) + 2 + !fs->log.ahead;
}

static uint64_t available(struct fs *fs)
{
	uint64_t taken = space_reserve(fs) + fs->space.inflight, unused = vol_free_blocks(fs->vol);

	return unused > taken ? unused - taken : 0;
}

uint64_t space_available(struct fs *fs)
{
	uint64_t n;

	pthread_mutex_lock(&fs->space.lock);
	n = available(fs);
	pthread_mutex_unlock(&fs->space.lock);
	return n;
}

static int inside(struct fs *fs, uint64_t ino, uint32_t pages, uint64_t *addr)
{
	struct space *s = &fs->space;
	unsigned longest;

	/* Every block of the class that covers the size fits; one class below, some do. */
	for (int class = class_of(pages); class < CLASSES; class++)
		for (struct pblock *p = s->class[class]; p; p = p->next) {
			int page = find_run(p, pages, &longest);

			if (page < 0)
				continue;
			take(s, p, (unsigned)page, pages, ino);
			*addr = fmt_addr(FMT_PACKED, p->number) + ((uint64_t)page << FMT_PAGE_SHIFT);
			return 0;
		}
	return -ENOSPC;
}

int space_take_run(struct fs *fs, uint64_t ino, uint32_t pages, uint64_t *addr)
{
	int r;

	pthread_mutex_lock(&fs->space.lock);
	r = inside(fs, ino, pages, addr);
	pthread_mutex_unlock(&fs->space.lock);
	return r;
}

int space_claim_run(struct fs *fs, uint64_t ino, uint64_t addr, uint32_t pages)
{
	struct space *s = &fs->space;
	unsigned page = addr % FMT_BLOCK >> FMT_PAGE_SHIFT;
	struct pblock *p;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	p = find(s, fmt_number(addr));
	if (!p)
		p = add(s, fmt_number(addr));
	if (!p)
		r = -ENOMEM;
	for (unsigned i = page; !r && i < page + pages; i++)
		if (used(p, i))
			r = -EEXIST;
	if (!r)
		take(s, p, page, pages, ino);
	pthread_mutex_unlock(&s->lock);
	return r;
}

void space_free_run(struct fs *fs, uint64_t addr, uint32_t pages, uint64_t *empty)
{
	struct space *s = &fs->space;
	unsigned page = addr % FMT_BLOCK >> FMT_PAGE_SHIFT;
	struct pblock *p;

	*empty = 0;
	pthread_mutex_lock(&s->lock);
	p = find(s, fmt_number(addr));
	if (p) {
		for (unsigned i = page; i < page + pages; i++) {
			p->map[i / 64] &= ~(1ull << i % 64);
			p->owner[i] = 0;
		}
		p->used -= pages;
		s->pages_used -= pages;
		if (p->used)
			relink_class(s, p);
		else {
			*empty = fmt_addr(FMT_PACKED, p->number);
			delete(s, p);
		}
	}
	pthread_mutex_unlock(&s->lock);
}

bool space_leave_emptiest(struct fs *fs, uint64_t *block, uint64_t owner[FMT_PAGES_PER_BLOCK])
{
	struct space *s = &fs->space;
	struct pblock *best = NULL;

	pthread_mutex_lock(&s->lock);
	for (uint32_t b = 0; b < s->buckets; b++)
		for (struct pblock *p = s->table[b]; p; p = p->hash_next)
			if (!p->leaving && (!best || p->used < best->used))
				best = p;
	/* Worth it only if the others have room for all of it. */
	if (best && (uint64_t)(s->count - 1) * PAGES - (s->pages_used - best->used) >= best->used) {
		best->leaving = true;
		relink_class(s, best);
		*block = fmt_addr(FMT_PACKED, best->number);
		memcpy(owner, best->owner, sizeof(best->owner));
	} else {
		best = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	return best;
}

void space_stay(struct fs *fs, uint64_t block)
{
	struct space *s = &fs->space;
	struct pblock *p;

	pthread_mutex_lock(&s->lock);
	p = find(s, fmt_number(block));
	if (p) {
		p->leaving = false;
		relink_class(s, p);
	}
	pthread_mutex_unlock(&s->lock);
}

bool space_reserve_blocks(struct fs *fs, uint64_t count)
{
	bool fits;

	pthread_mutex_lock(&fs->space.lock);
	fits = available(fs) >= count;
	if (fits)
		fs->space.inflight += count;
	pthread_mutex_unlock(&fs->space.lock);
	return fits;
}

void space_unreserve_blocks(struct fs *fs, uint64_t count)
{
	pthread_mutex_lock(&fs->space.lock);
	fs->space.inflight -= count;
	pthread_mutex_unlock(&fs->space.lock);
}

int space_add_block(struct fs *fs, uint64_t number, uint64_t ino, uint32_t pages)
{
	struct pblock *p;

	pthread_mutex_lock(&fs->space.lock);
	p = add(&fs->space, number);
	if (p)
		take(&fs->space, p, 0, pages, ino);
	pthread_mutex_unlock(&fs->space.lock);
	return p ? 0 : -ENOMEM;
}
