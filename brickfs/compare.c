/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare - the namespace that replay made against the IDs that the bricks list:
 * what is claimed and missing, what is there and claimed by nobody.
 *
 * Leaks are blocks of known kinds that nothing refers to: an interrupted alloc or
 * free, storage beyond a file's end, old log segments.  They are freed by the caller,
 * after an undamaged replay only.  Everything else that does not agree is damage.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct claim {
	uint64_t first, last;		/* block addresses; last is exclusive */
	uint64_t end;			/* exclusive: beyond it, storage is a leak */
	uint32_t fblock;
	struct inode *inode;
};

struct claims {
	struct claim *claim;
	size_t n, room;
};

struct set {
	uint64_t *addr;
	size_t n, room;
};

static int add(struct set *set, uint64_t addr)
{
	if (set->n == set->room) {
		size_t room = set->room ? 2 * set->room : 64;
		uint64_t *more = realloc(set->addr, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		set->addr = more;
		set->room = room;
	}
	set->addr[set->n++] = addr;
	return 0;
}

static int by_first(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int by_ino(const void *a, const void *b)
{
	const struct inode *x = *(struct inode *const *)a, *y = *(struct inode *const *)b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static uint64_t end_of(const struct inode *i)
{
	return i->size > i->alloc_end ? i->size : i->alloc_end;
}

/* ---- what is lost, by its bytes */

/* Behind the damage nobody can tell. */
static const char *or_removed(const struct fs *fs)
{
	return fs->records_lost ? "; or it was changed or removed in the part of the log that is lost" : "";
}

/* File blocks [from, to) are not there. */
static void print_range(FILE *out, const struct inode *i, uint64_t from, uint64_t to, unsigned *count)
{
	uint64_t first = from << FMT_BLOCK_SHIFT, last = (to << FMT_BLOCK_SHIFT) - 1;

	if (from >= to || first >= end_of(i))
		return;
	fprintf(out, "%s%" PRIu64 "-%" PRIu64, *count ? ", " : "", first, last < end_of(i) ? last : end_of(i) - 1);
	++*count;
}

static void print_missing(FILE *out, struct fs *fs, const struct inode *i, uint64_t total)
{
	uint64_t at = 0, addr;		/* at: all before it is there, or was printed */
	unsigned count = 0;

	for (uint32_t k = 0; k < i->length && i->ranges[k].fblock < total; k++) {
		const struct fmt_range *g = &i->ranges[k];

		for (uint64_t from = g->base; vol_next(fs->vol, from, &addr) && addr < g->base + ((uint64_t)g->count << FMT_BLOCK_SHIFT);
		     from = addr + FMT_BLOCK) {
			uint64_t fblock = g->fblock + ((addr - g->base) >> FMT_BLOCK_SHIFT);

			print_range(out, i, at, fblock < total ? fblock : total, &count);
			at = fblock + 1;
		}
	}
	print_range(out, i, at, total, &count);
}

static void check_blocks(struct fs *fs, struct inode *i)
{
	uint64_t total = (end_of(i) + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT, blocks = ns_blocks(fs, i, end_of(i));
	char *text = NULL;
	size_t length;
	FILE *out;

	if (blocks >= i->recorded_blocks)
		return;
	i->lossy = !fs->options.check;	/* in fsck it is already as it will be when it was repaired */
	/* A file that had every block says by itself which ones are gone; holes and losses of another one look the same. */
	if (i->recorded_blocks == total && (out = open_memstream(&text, &length))) {
		print_missing(out, fs, i, total);
		if (fclose(out)) {
			free(text);
			text = NULL;
		}
	}
	if (text)
		fs_damage(fs, "blocks-lost", "inode %" PRIu64 " (%s): %" PRIu64 " of %" PRIu64 " blocks are lost: bytes %s%s",
			  i->ino, fs_path(fs, i), i->recorded_blocks - blocks, i->recorded_blocks, text, or_removed(fs));
	else
		fs_damage(fs, "blocks-lost", "inode %" PRIu64 " (%s): %" PRIu64 " of at least %" PRIu64 " blocks are lost; it was sparse, "
			  "and which of its %" PRIu64 " holes they were cannot be told%s",
			  i->ino, fs_path(fs, i), i->recorded_blocks - blocks, i->recorded_blocks, total > blocks ? total - blocks : 0,
			  or_removed(fs));
	free(text);
}

/* ---- runs of pages */

/* Who of the first n, which have claimed theirs, has one of its pages. */
static const struct inode *sharer(struct inode *const *runs, size_t n, const struct inode *i)
{
	for (size_t k = 0; k < n; k++)
		if (runs[k]->form == FMT_RUN && runs[k]->run < i->run + ((uint64_t)i->length << FMT_PAGE_SHIFT) &&
		    i->run < runs[k]->run + ((uint64_t)runs[k]->length << FMT_PAGE_SHIFT))
			return runs[k];
	return i;
}

static int claim_run(struct fs *fs, struct inode *const *runs, size_t at)
{
	struct inode *i = runs[at];
	uint64_t block = i->run & ~(FMT_BLOCK - 1);
	int r;

	if (!vol_has(fs->vol, block)) {
		fs_damage(fs, "pages-lost", "inode %" PRIu64 " (%s): all of its %" PRIu64 " bytes are lost with packed block %016" PRIx64 "%s",
			  i->ino, fs_path(fs, i), i->size, block, or_removed(fs));
		i->lossy = !fs->options.check;
		if (fs->options.check) {
			ns_set_form(fs, i, FMT_INLINE);
			i->alloc_end = i->dirty_end = 0;
		}
		return 0;
	}
	r = space_claim_run(fs, i->ino, i->run, i->length);
	if (r != -EEXIST)
		return r;
	fs_damage(fs, "pages-shared", "inode %" PRIu64 " (%s): pages at %016" PRIx64 " belong to an older file too; "
		  "one of the two has the other's bytes", i->ino, fs_path(fs, i), i->run);
	if (fs->options.check)
		stale_pages(fs, i, sharer(runs, at, i));
	return fs->options.check ? copy_out_add(fs, i, 0, 0) : 0;
}

/* In the order of inode numbers: the older one keeps what two claim. */
static int claim_runs(struct fs *fs)
{
	struct inode **runs = malloc((fs->inode_count + 1) * sizeof(*runs));
	size_t n = 0;
	int r = runs ? 0 : -ENOMEM;

	for (struct inode *i = fs->all.next; !r && i != &fs->all; i = i->next)
		if (i->form == FMT_RUN)
			runs[n++] = i;
	if (n)
		qsort(runs, n, sizeof(*runs), by_ino);
	for (size_t k = 0; k < n && !r; k++)
		r = claim_run(fs, runs, k);
	free(runs);
	return r;
}

/* ---- ranges of blocks */

static int gather(struct fs *fs, struct claims *c)
{
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		uint64_t end = (end_of(i) + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT;

		if (i->form != FMT_RANGES)
			continue;
		if (c->n + i->length > c->room) {
			size_t room = 2 * (c->n + i->length);
			struct claim *more = realloc(c->claim, room * sizeof(*more));

			if (!more)
				return -ENOMEM;
			c->claim = more;
			c->room = room;
		}
		for (uint32_t k = 0; k < i->length; k++) {
			const struct fmt_range *g = &i->ranges[k];
			uint64_t used = end > g->fblock ? end - g->fblock : 0;

			if (used > g->count)
				used = g->count;
			c->claim[c->n++] = (struct claim){
				.first = g->base, .last = g->base + ((uint64_t)g->count << FMT_BLOCK_SHIFT),
				.end = g->base + (used << FMT_BLOCK_SHIFT), .fblock = g->fblock, .inode = i };
		}
	}
	if (c->n)
		qsort(c->claim, c->n, sizeof(*c->claim), by_first);
	return 0;
}

static bool older(const struct claim *a, const struct claim *b)
{
	return a->inode->ino != b->inode->ino ? a->inode->ino < b->inode->ino : a->fblock < b->fblock;
}

static int tell_overlap(struct fs *fs, const struct claim *a, const struct claim *b, bool whole)
{
	const struct claim *keeps = older(a, b) ? a : b, *other = keeps == a ? b : a;
	uint64_t from = whole ? other->first : b->first, to = whole ? other->last : a->last < b->last ? a->last : b->last;
	uint64_t fblock = other->fblock + ((from - other->first) >> FMT_BLOCK_SHIFT), count = (to - from) >> FMT_BLOCK_SHIFT;

	fs_damage(fs, "ranges-overlap", "inode %" PRIu64 " (%s), bytes %" PRIu64 "-%" PRIu64 ": blocks at %016" PRIx64
		  " belong to inode %" PRIu64 " (%s) too; one of the two has the other's bytes",
		  other->inode->ino, fs_path(fs, other->inode), fblock << FMT_BLOCK_SHIFT,
		  ((fblock + count) << FMT_BLOCK_SHIFT) - 1, from, keeps->inode->ino, fs_path(fs, keeps->inode));
	return fs->options.check ? copy_out_add(fs, other->inode, (uint32_t)fblock, (uint32_t)count) : 0;
}

#define ACTIVE_MAX 64	/* claims held against each other; what comes on top of so many gets a copy of all of it */

static int find_overlaps(struct fs *fs, const struct claims *c)
{
	const struct claim *active[ACTIVE_MAX];
	unsigned n = 0;
	int r = 0;

	for (size_t k = 0; k < c->n && !r; k++) {
		const struct claim *claim = &c->claim[k];
		unsigned kept = 0;

		for (unsigned j = 0; j < n; j++)
			if (active[j]->last > claim->first)
				active[kept++] = active[j];
		n = kept;
		if (n == ACTIVE_MAX) {
			r = tell_overlap(fs, active[0], claim, true);
			continue;
		}
		for (unsigned j = 0; j < n && !r; j++)
			r = tell_overlap(fs, active[j], claim, false);
		active[n++] = claim;
	}
	return r;
}

static bool in_log(const struct set *log, uint64_t number)
{
	return log->n && bsearch(&number, log->addr, log->n, sizeof(number), by_value);
}

/* Packed blocks that a run claims. */
static int gather_packed(struct fs *fs, struct set *packed)
{
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next)
		if (i->form == FMT_RUN && add(packed, i->run & ~(FMT_BLOCK - 1)))
			return -ENOMEM;
	if (packed->n)
		qsort(packed->addr, packed->n, sizeof(uint64_t), by_value);
	return 0;
}

/* Foreign blocks that follow each other are one problem: a list of billions makes no billion of them. */
static void tell_foreign(struct fs *fs, uint64_t first, uint64_t count)
{
	int brick = count ? vol_where(fs->vol, first) : -1;
	const char *endpoint = brick < 0 ? "?" : vol_brick_endpoint(fs->vol, (unsigned)brick);

	if (count == 1)
		fs_damage(fs, "foreign-block", "block %016" PRIx64 " on brick %s is of no kind that belongs to brickfs", first, endpoint);
	else if (count)
		fs_damage(fs, "foreign-block", "%" PRIu64 " blocks from %016" PRIx64 " on, on brick %s, are of no kind that belongs to brickfs",
			  count, first, endpoint);
}

/* Blocks that nothing claims; foreign ones are told, or are among them. */
static int unclaimed(struct fs *fs, const struct claims *c, bool tell, struct set *leak)
{
	struct set log = { 0 }, packed = { 0 };
	uint64_t addr, from = 0, foreign = 0, foreigners = 0;
	size_t k = 0;
	int r = gather_packed(fs, &packed);

	for (uint32_t n = 0; !r && n < fs->log.head_count; n++)
		r = add(&log, fs->log.heads[n]);
	for (uint32_t n = 0; !r && n < fs->log.ckpt_count; n++)
		r = add(&log, fs->log.ckpt[n]);
	if (log.n)
		qsort(log.addr, log.n, sizeof(uint64_t), by_value);

	for (; !r && vol_next(fs->vol, from, &addr); from = addr + FMT_BLOCK) {
		switch (fmt_kind(addr)) {
		case FMT_LOG:
			if (!in_log(&log, fmt_number(addr)))
				r = add(leak, addr);
			break;
		case FMT_PACKED:
			if (!packed.n || !bsearch(&addr, packed.addr, packed.n, sizeof(addr), by_value))
				r = add(leak, addr);
			break;
		case FMT_FILE:
			while (k < c->n && c->claim[k].last <= addr)
				k++;
			if (k == c->n || addr < c->claim[k].first || addr >= c->claim[k].end)
				r = add(leak, addr);
			break;
		default:
			if (!tell) {
				r = add(leak, addr);
			} else if (foreigners && addr == foreign + (foreigners << FMT_BLOCK_SHIFT) &&
				   vol_where(fs->vol, addr) == vol_where(fs->vol, foreign)) {
				foreigners++;
			} else {
				tell_foreign(fs, foreign, foreigners);
				foreign = addr;
				foreigners = 1;
			}
		}
		if (!(addr + FMT_BLOCK))
			break;		/* there is none behind it */
	}
	tell_foreign(fs, foreign, foreigners);
	free(log.addr);
	free(packed.addr);
	return r;
}

static int against_list(struct fs *fs, bool tell, uint64_t **leaks, size_t *leak_count)
{
	struct claims claims = { 0 };
	struct set leak = { 0 };
	int r = gather(fs, &claims);

	if (!r && tell)
		r = find_overlaps(fs, &claims);
	if (!r)
		r = unclaimed(fs, &claims, tell, &leak);
	free(claims.claim);
	if (r) {
		free(leak.addr);
		leak = (struct set){ 0 };
	}
	*leaks = leak.addr;
	*leak_count = leak.n;
	return r;
}

int compare(struct fs *fs, uint64_t **leaks, size_t *leak_count)
{
	int r;

	*leaks = NULL;
	*leak_count = 0;
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next)
		if (i->form == FMT_RANGES)
			check_blocks(fs, i);
	r = claim_runs(fs);
	return r ? r : against_list(fs, true, leaks, leak_count);
}

int find_leaks(struct fs *fs, uint64_t **leaks, size_t *leak_count)
{
	return against_list(fs, false, leaks, leak_count);
}
