/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * adrift - fsck: data that no inode claims, while records of the log are lost.
 *
 * In a log without damage such blocks are leaks. Behind damage they may be all that is left of a file, so they get an inode
 * of their own in lost+found: a range of file blocks with its holes, "#blocks-ADDRESS"; the pages of a packed block, "#pages-ADDRESS"; and what
 * stands behind the end of a file whose record is older than its data, "#INODE-at-OFFSET".  In memory only, as everything
 * that fsck puts right; nothing is copied, so no room is needed.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Files get their addresses in windows of at least so many blocks, one window behind the other. So a gap within one is a hole, and
 * a gap that reaches into the next one may be the end of one file and the begin of another: it parts them.
 */
#define CELL 16
#define BLOCKS_MAX (1u << 20)		/* of one file here: as the largest window */

struct span { uint64_t first, last; };	/* of block addresses; last is exclusive */

struct adrift {
	struct fs *fs;
	uint64_t *addr;			/* ascending, what nothing claims */
	bool *taken;
	size_t n;
	struct span *known;		/* ranges of inodes, by their first block */
	uint64_t *reach;		/* of those up to each, the farthest end: they may overlap */
	size_t known_n;
	uint8_t *buf;			/* one block */
};

static int by_first(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static uint64_t end_of(const struct inode *i)
{
	return i->size > i->alloc_end ? i->size : i->alloc_end;
}

/* Index of the first one at or behind that address. */
static size_t find(const struct adrift *a, uint64_t addr)
{
	size_t low = 0, high = a->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (a->addr[middle] < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* How many begin at or before that address. */
static size_t known_before(const struct adrift *a, uint64_t addr)
{
	size_t low = 0, high = a->known_n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (a->known[middle].first <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int gather(struct adrift *a)
{
	size_t n = 0;

	for (struct inode *i = a->fs->all.next; i != &a->fs->all; i = i->next)
		n += i->form == FMT_RANGES ? i->length : 0;
	a->known = malloc((n + 1) * sizeof(*a->known));
	a->reach = malloc((n + 1) * sizeof(*a->reach));
	if (!a->known || !a->reach)
		return -ENOMEM;
	for (struct inode *i = a->fs->all.next; i != &a->fs->all; i = i->next)
		for (uint32_t k = 0; i->form == FMT_RANGES && k < i->length; k++)
			a->known[a->known_n++] = (struct span){
				i->ranges[k].base, i->ranges[k].base + ((uint64_t)i->ranges[k].count << FMT_BLOCK_SHIFT) };
	if (n)
		qsort(a->known, n, sizeof(*a->known), by_first);
	for (size_t k = 0; k < n; k++)
		a->reach[k] = k && a->reach[k - 1] > a->known[k].last ? a->reach[k - 1] : a->known[k].last;
	return 0;
}

/* ---- behind the end of a file that is known */

/* No other range has any address of this one. */
static bool is_alone(const struct adrift *a, const struct fmt_range *g)
{
	size_t k = known_before(a, g->base);

	return k && a->known[k - 1].first == g->base && (k < 2 || a->reach[k - 2] <= g->base) &&
	       (k == a->known_n || a->known[k].first >= a->known[k - 1].last);
}

/* The part of a range behind the file's end has blocks: its record is of a time when the file was shorter. */
static int keep_behind(struct adrift *a, struct inode *i, struct fmt_range *g, uint32_t used, uint64_t *blocks)
{
	uint64_t from = g->base + ((uint64_t)used << FMT_BLOCK_SHIFT), to = g->base + ((uint64_t)g->count << FMT_BLOCK_SHIFT);
	size_t first = find(a, from), last = find(a, to), n = last - first;
	uint64_t offset, count;
	char name[64];

	if (!n || !is_alone(a, g))
		return 0;
	for (size_t k = first; k < last; k++)
		a->taken[k] = true;
	offset = ((uint64_t)g->fblock << FMT_BLOCK_SHIFT) + (a->addr[first] - g->base);
	count = ((a->addr[last - 1] - a->addr[first]) >> FMT_BLOCK_SHIFT) + 1;
	snprintf(name, sizeof(name), "#%" PRIu64 "-at-%" PRIu64, i->ino, offset);
	fs_damage(a->fs, "adrift", "inode %" PRIu64 " (%s): %zu blocks stand behind its end, from byte %" PRIu64 " on, and may be of it: "
		  "they are lost+found/%s", i->ino, fs_path(a->fs, i), n, offset, name);
	*blocks += n;
	g->count = used;	/* they are no longer this inode's */
	return lostfound_blocks(a->fs, name, a->addr[first], count);
}

static int behind_end(struct adrift *a, struct inode *i)
{
	uint64_t end = (end_of(i) + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT, blocks = 0;
	uint32_t n = 0;
	int r = 0;

	for (uint32_t k = 0; k < i->length && !r; k++) {
		struct fmt_range *g = &i->ranges[k];

		if (end < g->fblock + (uint64_t)g->count)
			r = keep_behind(a, i, g, end > g->fblock ? (uint32_t)(end - g->fblock) : 0, &blocks);
	}
	for (uint32_t k = 0; k < i->length; k++)
		if (i->ranges[k].count)
			i->ranges[n++] = i->ranges[k];
	i->length = n;
	if (blocks)
		ns_account(a->fs, i);
	return r;
}

/* ---- of nobody that is known */

static bool is_known(const struct adrift *a, uint64_t addr)
{
	size_t k = known_before(a, addr);

	return k && a->reach[k - 1] > addr;
}

/* Where the window is counted from: the end of the range before, or the first number that there is. */
static uint64_t cell_of(const struct adrift *a, uint64_t addr)
{
	size_t k = known_before(a, addr);
	uint64_t origin = k ? fmt_number(a->reach[k - 1]) : 1;

	return fmt_number(addr) >= origin ? (fmt_number(addr) - origin) / CELL : 0;
}

/* Does the block at `addr` go on with the file that holds the one at `last`? */
static bool goes_on(const struct adrift *a, uint64_t last, uint64_t addr)
{
	if (known_before(a, last) != known_before(a, addr) || fmt_kind(last) != fmt_kind(addr))
		return false;
	return addr == last + FMT_BLOCK || cell_of(a, last) == cell_of(a, addr);
}

static int keep_blocks(struct adrift *a, size_t first, size_t last)
{
	uint64_t count = ((a->addr[last] - a->addr[first]) >> FMT_BLOCK_SHIFT) + 1;
	char name[64];

	for (size_t k = first; k <= last; k++)
		a->taken[k] = true;
	snprintf(name, sizeof(name), "#blocks-%016" PRIx64, a->addr[first]);
	fs_damage(a->fs, "adrift", "%zu blocks from %016" PRIx64 " on belong to no inode whose record can be read: they are lost+found/%s",
		  last - first + 1, a->addr[first], name);
	return lostfound_blocks(a->fs, name, a->addr[first], count);
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, FMT_PAGE - 1);
}

/* Of a packed block that no file has a page of: each half from its first page that is not zero to its last. */
static int keep_pages(struct adrift *a, size_t at)
{
	struct vol_io io = { a->addr[at], a->buf, FMT_BLOCK, false };
	int r = vol_io(a->fs->vol, &io, 1);

	for (uint32_t half = 0; !r && half < FMT_PAGES_PER_BLOCK; half += FMT_RUN_PAGES_MAX) {
		uint32_t from = half, to = half + FMT_RUN_PAGES_MAX;
		uint64_t addr;
		char name[64];

		while (from < to && is_zero(a->buf + ((size_t)from << FMT_PAGE_SHIFT)))
			from++;
		while (to > from && is_zero(a->buf + ((size_t)(to - 1) << FMT_PAGE_SHIFT)))
			to--;
		if (from == to)
			continue;
		addr = a->addr[at] + ((uint64_t)from << FMT_PAGE_SHIFT);
		snprintf(name, sizeof(name), "#pages-%016" PRIx64, addr);
		fs_damage(a->fs, "adrift", "%u pages from %016" PRIx64 " on are in a packed block of which no inode's record can be read: "
			  "they are lost+found/%s", to - from, addr, name);
		a->taken[at] = true;
		r = lostfound_pages(a->fs, name, addr, to - from);
	}
	return r;
}

/* Made by a repair that was cut off: nothing refers to it, and what it is a copy of is still there. */
static bool of_repair(const struct fs *fs, uint64_t addr)
{
	uint64_t from = fmt_kind(addr) == FMT_PACKED ? fs->super.repair_packed : fs->super.repair_file;

	return from && fmt_number(addr) >= from;
}

static int of_nobody(struct adrift *a)
{
	int r = 0;

	for (size_t k = 0; k < a->n && !r; k++) {
		size_t last = k;

		if (a->taken[k] || of_repair(a->fs, a->addr[k]))
			continue;
		if (fmt_kind(a->addr[k]) == FMT_PACKED) {
			r = keep_pages(a, k);
			continue;
		}
		if (fmt_kind(a->addr[k]) != FMT_FILE || is_known(a, a->addr[k]))
			continue;
		while (last + 1 < a->n && !a->taken[last + 1] && (a->addr[last + 1] - a->addr[k]) >> FMT_BLOCK_SHIFT < BLOCKS_MAX &&
		       goes_on(a, a->addr[last], a->addr[last + 1]))
			last++;
		r = keep_blocks(a, k, last);
		k = last;
	}
	return r;
}

int adrift(struct fs *fs, uint64_t *leaks, size_t *leak_count)
{
	struct adrift a = { .fs = fs, .addr = leaks, .n = *leak_count };
	struct inode *newest = fs->all.prev;
	size_t left = 0;
	int r;

	if (!fs->options.check || !fs->records_lost || !a.n)
		return 0;
	a.taken = calloc(a.n, sizeof(*a.taken));
	a.buf = vol_buffer_alloc(fs->vol, FMT_BLOCK);
	r = a.taken && a.buf ? gather(&a) : -ENOMEM;
	for (struct inode *i = fs->all.next; !r && i != &fs->all; i = i->next) {
		if (i->form == FMT_RANGES && i->nlink)
			r = behind_end(&a, i);
		if (i == newest)
			break;		/* those behind it were made here */
	}
	if (!r)
		r = of_nobody(&a);
	for (size_t k = 0; !r && k < a.n; k++)
		if (!a.taken[k])
			leaks[left++] = leaks[k];
	if (!r)
		*leak_count = left;
	vol_buffer_remove(fs->vol, a.buf);
	free(a.taken);
	free(a.known);
	free(a.reach);
	return r;
}
