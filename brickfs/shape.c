/* SPDX-License-Identifier: BSD-3-Clause */
/* shape - where a file's bytes lie, and the making of storage for them. See file.h. */
#include "file.h"
#include "mutate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint8_t file_zeroes[FMT_BLOCK] __attribute__((aligned(4096)));

/* Windows of addresses: the first 32 MiB, then as much as the file has, 2 TiB at most; naturally aligned. */
#define WINDOW_MIN 16u
#define WINDOW_MAX (1u << 20)

static uint32_t range_before(const struct inode *i, uint64_t fblock)
{
	uint32_t low = 0, high = i->length;

	while (low < high) {		/* the first range that begins behind fblock */
		uint32_t middle = low + (high - low) / 2;

		if (i->ranges[middle].fblock <= fblock)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t shape_addr(const struct inode *i, uint64_t fblock)
{
	uint32_t k = range_before(i, fblock);

	if (!k || fblock - i->ranges[k - 1].fblock >= i->ranges[k - 1].count)
		return 0;
	return i->ranges[k - 1].base + ((fblock - i->ranges[k - 1].fblock) << FMT_BLOCK_SHIFT);
}

uint64_t shape_existing(struct fs *fs, const struct inode *i, uint64_t fblock)
{
	uint64_t addr = shape_addr(i, fblock);

	if (!addr || !vol_has(fs->vol, addr))
		return 0;
	for (const struct drop *d = i->holes; d; d = d->hole_next)
		if (fblock >= d->fblock && fblock - d->fblock < d->count)
			return 0;
	return addr;
}

bool shape_covers(struct fs *fs, const struct inode *i, uint64_t from, uint64_t to)
{
	if (i->form == FMT_RUN)
		return to <= shape_run_bytes(i);
	if (i->form != FMT_RANGES)
		return false;
	for (uint64_t b = from >> FMT_BLOCK_SHIFT; b << FMT_BLOCK_SHIFT < to; b++)
		if (!shape_existing(fs, i, b))
			return false;
	return true;
}

/* One more range that covers fblock. */
static int add_window(struct fs *fs, struct inode *i, uint64_t fblock)
{
	uint32_t k = range_before(i, fblock), window = WINDOW_MIN;
	uint64_t total = 0, start, end, first;
	struct fmt_range *ranges;
	int r;

	if (i->length == FMT_RANGES_MAX)
		return -EFBIG;
	for (uint32_t n = 0; n < i->length; n++)
		total += i->ranges[n].count;
	while (window < total && window < WINDOW_MAX)
		window *= 2;
	start = fblock & ~(uint64_t)(window - 1);
	end = start + window;
	if (k && start < i->ranges[k - 1].fblock + (uint64_t)i->ranges[k - 1].count)
		start = i->ranges[k - 1].fblock + (uint64_t)i->ranges[k - 1].count;
	if (k < i->length && end > i->ranges[k].fblock)
		end = i->ranges[k].fblock;
	if (end > FMT_FILE_BLOCKS - 1)
		end = FMT_FILE_BLOCKS - 1;
	if (fblock >= end)
		return -EFBIG;
	r = marks_take(fs, FMT_MARK_FILE, end - start, &first);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	ranges = realloc(i->ranges, (i->length + 1) * sizeof(*ranges));
	if (!ranges)
		r = -ENOMEM;
	else {
		memmove(ranges + k + 1, ranges + k, (i->length - k) * sizeof(*ranges));
		ranges[k].fblock = (uint32_t)start;
		ranges[k].count = (uint32_t)(end - start);
		ranges[k].base = fmt_addr(FMT_FILE, first);
		i->ranges = ranges;
		i->length++;
		ns_account(fs, i);
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int shape_fill(struct fs *fs, struct inode *i, uint64_t from, uint64_t to)
{
	uint64_t last = (to + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT, addr[1024];
	size_t n = 0;
	int r = 0;

	for (uint64_t b = from >> FMT_BLOCK_SHIFT; !r && b < last; b++) {
		addr[n] = shape_addr(i, b);
		if (!addr[n]) {
			r = add_window(fs, i, b);
			if (r)
				return r;
			addr[n] = shape_addr(i, b);
		}
		if (++n == sizeof(addr) / sizeof(addr[0]) || b + 1 == last) {
			r = room_alloc_blocks(fs, addr, n);
			n = 0;
		}
	}
	return r;
}

/*
 * Beyond the end no record counts them, so they need no batch to be freed.  Those inside, which fill a hole with
 * zeroes, may have been counted by a record meanwhile, and stay; the record that names their range is written in any case.
 */
void shape_give_back(struct fs *fs, struct inode *i)
{
	uint64_t end, addr, from, stop, addrs[64];
	size_t n = 0;

	if (i->form != FMT_RANGES || fs_writable(fs))
		return;
	pthread_mutex_lock(&fs->lock);
	end = i->size > i->alloc_end ? i->size : i->alloc_end;
	ns_dirty(fs, i);
	pthread_mutex_unlock(&fs->lock);
	end = (end + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT;
	for (uint32_t k = 0; k < i->length; k++) {
		const struct fmt_range *g = &i->ranges[k];

		if (g->fblock + (uint64_t)g->count <= end)
			continue;
		from = g->base + (g->fblock < end ? (end - g->fblock) << FMT_BLOCK_SHIFT : 0);
		stop = g->base + ((uint64_t)g->count << FMT_BLOCK_SHIFT);
		for (; vol_next(fs->vol, from, &addr) && addr < stop; from = addr + FMT_BLOCK) {
			addrs[n++] = addr;
			if (n == sizeof(addrs) / sizeof(addrs[0])) {
				vol_release(fs->vol, addrs, n);
				n = 0;
			}
		}
	}
	if (n)
		vol_release(fs->vol, addrs, n);
}

/* What the file holds in [0, length), for its move to another form. */
static int read_small(struct fs *fs, struct inode *i, uint8_t *buf, uint64_t length)
{
	struct vol_io io = { i->run, buf, (uint32_t)length, false };

	if (!length)
		return 0;
	if (i->form == FMT_RUN)
		return vol_io(fs->vol, &io, 1);
	memcpy(buf, i->data, length);
	return 0;
}

/* Bytes that the small form holds. */
static uint64_t held(const struct inode *i)
{
	uint64_t bytes = i->form == FMT_RUN ? shape_run_bytes(i) : i->length;

	return bytes < i->size ? bytes : i->size;
}

int shape_to_run(struct fs *fs, struct inode *i, uint64_t bytes, const void *data, size_t size, uint64_t offset)
{
	uint32_t pages = (uint32_t)((bytes + FMT_PAGE - 1) >> FMT_PAGE_SHIFT);
	uint64_t old = held(i), capacity, fill, run, dropped = 0, empty;
	uint32_t dropped_pages = 0;
	uint8_t *buf = NULL;
	struct vol_io io;
	int r;

	if (i->form == FMT_RUN && pages < 2 * i->length)
		pages = 2 * i->length < FMT_RUN_PAGES_MAX ? 2 * i->length : FMT_RUN_PAGES_MAX;
	r = room_alloc_run(fs, i->ino, pages, &run);
	if (r)
		return r;
	/* Pages are reused: all that is inside the file's size must be written. */
	capacity = (uint64_t)pages << FMT_PAGE_SHIFT;
	fill = i->size > offset + size ? i->size : offset + size;
	if (MUTATED(RUN_UNFILLED))
		fill = offset + size;
	if (fill > capacity)
		fill = capacity;
	io = (struct vol_io){ run, (void *)data, (uint32_t)fill, true };
	if (old || offset || fill != size) {
		buf = calloc(1, fill ? fill : 1);
		r = buf ? read_small(fs, i, buf, old) : -ENOMEM;
		if (r)
			goto fail;
		if (size)
			memcpy(buf + offset, data, size);
		io.buffer = buf;
	}
	if (fill)
		r = vol_io(fs->vol, &io, 1);
	if (r)
		goto fail;
	pthread_mutex_lock(&fs->lock);
	if (drop_reserve(fs, 1) || !log_begin(fs, 0)) {
		pthread_mutex_unlock(&fs->lock);
		r = -ENOMEM;
		goto fail;
	}
	if (i->form == FMT_RUN) {
		dropped = i->run;
		dropped_pages = i->length;
	}
	ns_set_form(fs, i, FMT_RUN);
	i->run = run;
	i->length = pages;
	i->dirty_end = capacity;
	log_mark_dirty(fs, i);
	if (dropped)
		drop_add(fs, dropped, dropped_pages, 0, NULL);
	pthread_mutex_unlock(&fs->lock);
	free(buf);
	return 0;
fail:
	free(buf);
	space_free_run(fs, run, pages, &empty);
	if (empty)
		vol_release(fs->vol, &empty, 1);
	return r;
}

int shape_to_ranges(struct fs *fs, struct inode *i)
{
	uint64_t old = held(i), first, base, dropped = 0;
	uint32_t dropped_pages = 0;
	struct fmt_range *ranges;
	uint8_t *buf;
	int r;

	ranges = malloc(sizeof(*ranges));
	buf = malloc(old ? old : 1);
	r = ranges && buf ? marks_take(fs, FMT_MARK_FILE, WINDOW_MIN, &first) : -ENOMEM;
	if (r)
		goto out;
	base = fmt_addr(FMT_FILE, first);
	*ranges = (struct fmt_range){ .fblock = 0, .count = WINDOW_MIN, .base = base };
	if (old) {
		struct vol_io io = { base, buf, (uint32_t)old, true };

		r = read_small(fs, i, buf, old);
		if (!r)
			r = room_alloc_blocks(fs, &base, 1);
		if (!r && (r = vol_io(fs->vol, &io, 1)))
			vol_release(fs->vol, &base, 1);
		if (r)
			goto out;
	}
	pthread_mutex_lock(&fs->lock);
	if (drop_reserve(fs, 1) || !log_begin(fs, 0))
		r = -ENOMEM;
	else {
		if (i->form == FMT_RUN) {
			dropped = i->run;
			dropped_pages = i->length;
		}
		ns_set_form(fs, i, FMT_RANGES);
		i->ranges = ranges;
		i->length = old ? 1 : 0;	/* without content the first write says where the first range is */
		i->dirty_end = old;
		ranges = NULL;
		log_mark_dirty(fs, i);
		if (dropped)
			drop_add(fs, dropped, dropped_pages, 0, NULL);
	}
	pthread_mutex_unlock(&fs->lock);
	if (r && old)
		vol_release(fs->vol, &base, 1);
out:
	free(buf);
	free(ranges);
	return r;
}
