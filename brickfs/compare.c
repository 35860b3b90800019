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
#include <stdlib.h>
#include <string.h>

struct claim {
	uint64_t first, last;		/* block addresses; last is exclusive */
	uint64_t end;			/* exclusive: beyond it, storage is a leak */
	uint64_t ino;
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

static void check_blocks(struct fs *fs, struct inode *i)
{
	uint64_t end = i->size > i->alloc_end ? i->size : i->alloc_end, blocks = ns_blocks(fs, i, end);

	if (blocks < i->recorded_blocks)
		fs_damage(fs, "blocks-lost", "inode %" PRIu64 ": %" PRIu64 " of %" PRIu64 " blocks are lost",
			  i->ino, i->recorded_blocks - blocks, i->recorded_blocks);
}

static void claim_run(struct fs *fs, struct inode *i, int *r)
{
	*r = space_claim_run(fs, i->ino, i->run, i->length);
	if (*r == -EEXIST) {
		fs_damage(fs, "pages-shared", "inode %" PRIu64 ": its pages at %016" PRIx64 " belong to another file too",
			  i->ino, i->run);
		*r = 0;
	}
	if (!vol_has(fs->vol, i->run & ~(FMT_BLOCK - 1)))
		fs_damage(fs, "pages-lost", "inode %" PRIu64 ": packed block %016" PRIx64 " is lost",
			  i->ino, (uint64_t)(i->run & ~(FMT_BLOCK - 1)));
}

/* The claims of all files with ranges, sorted; runs are claimed on the way. */
static int gather(struct fs *fs, struct claim **claims, size_t *count)
{
	size_t room = 0;
	int r = 0;

	*claims = NULL;
	*count = 0;
	for (struct inode *i = fs->all.next; !r && i != &fs->all; i = i->next) {
		uint64_t end = i->size > i->alloc_end ? i->size : i->alloc_end;

		if (i->form == FMT_RUN)
			claim_run(fs, i, &r);
		if (i->form != FMT_RANGES)
			continue;
		check_blocks(fs, i);
		end = (end + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT;
		if (*count + i->length > room) {
			struct claim *more;

			room = 2 * (*count + i->length);
			more = realloc(*claims, room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			*claims = more;
		}
		for (uint32_t k = 0; k < i->length; k++) {
			const struct fmt_range *g = &i->ranges[k];
			uint64_t used = end > g->fblock ? end - g->fblock : 0;

			if (used > g->count)
				used = g->count;
			(*claims)[(*count)++] = (struct claim){
				.first = g->base, .last = g->base + ((uint64_t)g->count << FMT_BLOCK_SHIFT),
				.end = g->base + (used << FMT_BLOCK_SHIFT), .ino = i->ino };
		}
	}
	if (*count)
		qsort(*claims, *count, sizeof(**claims), by_first);
	for (size_t k = 1; k < *count; k++)
		if ((*claims)[k].first < (*claims)[k - 1].last)
			fs_damage(fs, "ranges-overlap", "inodes %" PRIu64 " and %" PRIu64 " claim the same blocks at %016" PRIx64,
				  (*claims)[k - 1].ino, (*claims)[k].ino, (*claims)[k].first);
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

int compare(struct fs *fs, uint64_t **leaks, size_t *leak_count)
{
	struct set leak = { 0 }, log = { 0 }, packed = { 0 };
	struct claim *claims = NULL;
	size_t count = 0, k = 0;
	uint64_t addr, from = 0;
	int r = gather(fs, &claims, &count);

	if (!r)
		r = gather_packed(fs, &packed);
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
				r = add(&leak, addr);
			break;
		case FMT_PACKED:
			if (!packed.n || !bsearch(&addr, packed.addr, packed.n, sizeof(addr), by_value))
				r = add(&leak, addr);
			break;
		case FMT_FILE:
			while (k < count && claims[k].last <= addr)
				k++;
			if (k == count || addr < claims[k].first || addr >= claims[k].end)
				r = add(&leak, addr);
			break;
		default:
			fs_damage(fs, "foreign-block", "block %016" PRIx64 " is of no kind that belongs to brickfs", addr);
		}
		if (!(addr + FMT_BLOCK))
			break;		/* there is none behind it */
	}
	free(claims);
	free(log.addr);
	free(packed.addr);
	if (r) {
		free(leak.addr);
		leak = (struct set){ 0 };
	}
	*leaks = leak.addr;
	*leak_count = leak.n;
	return r;
}
