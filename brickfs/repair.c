/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * repair - what fsck.brickfs found is written: the namespace in memory, which replay and comparison have put right, becomes
 * a checkpoint of its own in a new epoch.
 *
 * Until the one batch that names that checkpoint is durable nothing is changed that the old log refers to: copies go to fresh
 * blocks, the superblocks keep how the filesystem was left, and nothing is freed.  So a crash leaves the old state,
 * with all that was wrong with it, or the repaired one and blocks that nothing names.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_GAP (1u << 20)	/* batches that were lost have numbers, too */

struct repair {
	struct fs *fs;
	uint8_t *buf;			/* one block */
	uint64_t fresh;			/* file blocks from this number on are ours */
	uint64_t packed;		/* a packed block that is being filled, or 0 */
	uint32_t page;			/* the next free one in it */
	uint64_t *made;			/* blocks allocated, to be freed when it fails */
	size_t made_count, made_room;
};

int copy_out_add(struct fs *fs, struct inode *i, uint32_t fblock, uint32_t count)
{
	struct copy_out *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct copy_out){ .next = fs->copies, .inode = i, .fblock = fblock, .count = count };
	fs->copies = c;
	return 0;
}

/* ---- fresh blocks */

static int make_block(struct repair *rp, uint64_t addr)
{
	int r;

	if (rp->made_count == rp->made_room) {
		size_t room = rp->made_room ? 2 * rp->made_room : 64;
		uint64_t *more = realloc(rp->made, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		rp->made = more;
		rp->made_room = room;
	}
	r = vol_alloc(rp->fs->vol, &addr, 1);
	if (!r)
		rp->made[rp->made_count++] = addr;
	return r;
}

static int io(struct fs *fs, uint64_t addr, void *buf, uint32_t length, bool write)
{
	return vol_io(fs->vol, &(struct vol_io){ addr, buf, length, write }, 1);
}

static int copy_block(struct repair *rp, uint64_t from, uint64_t to)
{
	int r = io(rp->fs, from, rp->buf, FMT_BLOCK, false);

	if (!r)
		r = make_block(rp, to);
	return r ? r : io(rp->fs, to, rp->buf, FMT_BLOCK, true);
}

/* ---- copies */

static int copy_run(struct repair *rp, struct inode *i)
{
	uint32_t bytes = i->length << FMT_PAGE_SHIFT;
	int r;

	if (!rp->packed || rp->page + i->length > FMT_PAGES_PER_BLOCK) {
		rp->packed = fmt_addr(FMT_PACKED, rp->fs->next[FMT_MARK_PACKED]++);
		rp->page = 0;
		r = make_block(rp, rp->packed);
		if (r)
			return r;
	}
	r = io(rp->fs, i->run, rp->buf, bytes, false);
	if (!r)
		r = io(rp->fs, rp->packed + ((uint64_t)rp->page << FMT_PAGE_SHIFT), rp->buf, bytes, true);
	if (r)
		return r;
	i->run = rp->packed + ((uint64_t)rp->page << FMT_PAGE_SHIFT);
	rp->page += i->length;
	return 0;
}

static void put_piece(struct fmt_range *out, uint32_t *n, uint64_t from, uint64_t to, uint64_t base)
{
	if (from < to)
		out[(*n)++] = (struct fmt_range){ (uint32_t)from, (uint32_t)(to - from), base };
}

/* Of one range [begin, end), the part in [from, to) moves to fresh addresses. */
static int copy_part(struct repair *rp, struct inode *i, const struct fmt_range *g, uint64_t from, uint64_t to, uint64_t base)
{
	uint64_t last = ((i->size > i->alloc_end ? i->size : i->alloc_end) + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT, addr;
	uint64_t first = g->base + ((from - g->fblock) << FMT_BLOCK_SHIFT);
	int r = 0;

	if (to > last)
		to = last;	/* beyond it, there is nothing of the file */
	for (uint64_t at = first; !r && from < to && vol_next(rp->fs->vol, at, &addr) &&
	     addr < first + ((to - from) << FMT_BLOCK_SHIFT); at = addr + FMT_BLOCK)
		r = copy_block(rp, addr, base + (addr - first));
	return r;
}

static int copy_ranges(struct repair *rp, struct inode *i, uint64_t from, uint64_t to)
{
	struct fmt_range *out = malloc((3 * (size_t)i->length + 1) * sizeof(*out));
	uint32_t n = 0;
	int r = out ? 0 : -ENOMEM;

	for (uint32_t k = 0; !r && k < i->length; k++) {
		const struct fmt_range *g = &i->ranges[k];
		uint64_t begin = g->fblock, end = begin + g->count;
		uint64_t low = from > begin ? from : begin, high = to < end ? to : end, base;

		/* Two reasons to copy the same part are one. */
		if (low >= high || (fmt_number(g->base) >= rp->fresh && fmt_number(g->base) < rp->fs->next[FMT_MARK_FILE])) {
			out[n++] = *g;
			continue;
		}
		if (high - low > FMT_NUMBER_MAX - rp->fs->next[FMT_MARK_FILE]) {
			r = -ENOSPC;
			break;
		}
		base = fmt_addr(FMT_FILE, rp->fs->next[FMT_MARK_FILE]);
		rp->fs->next[FMT_MARK_FILE] += high - low;
		r = copy_part(rp, i, g, low, high, base);
		put_piece(out, &n, begin, low, g->base);
		put_piece(out, &n, low, high, base);
		put_piece(out, &n, high, end, g->base + ((high - begin) << FMT_BLOCK_SHIFT));
	}
	if (!r && n > FMT_RANGES_MAX)
		r = -EFBIG;
	if (r) {
		free(out);
		return r;
	}
	free(i->ranges);
	i->ranges = out;
	i->length = n;
	ns_account(rp->fs, i);
	return 0;
}

static int copy_all(struct repair *rp)
{
	struct fs *fs = rp->fs;
	int r = 0;

	for (struct copy_out *c = fs->copies; c && !r; c = c->next) {
		r = c->count ? c->inode->form == FMT_RANGES ? copy_ranges(rp, c->inode, c->fblock, c->fblock + (uint64_t)c->count) : 0 :
		    c->inode->form == FMT_RUN && c->inode->run >> FMT_BLOCK_SHIFT != rp->packed >> FMT_BLOCK_SHIFT ?
		    copy_run(rp, c->inode) : 0;
		if (r)
			fs_set_error(r, "inode %" PRIu64 " (%s) cannot get its copy: %s", c->inode->ino, fs_path(fs, c->inode), strerror(-r));
	}
	return r;
}

/* ---- blocks on two bricks */

/* Of a block of data, the content that is not kept goes to lost+found. */
static int keep_twin(struct repair *rp, const struct vol_twin *twin)
{
	struct fs *fs = rp->fs;
	unsigned kept = (unsigned)vol_where(fs->vol, twin->addr), other = twin->brick;
	uint64_t addr = twin->addr, number;
	uint8_t *second;
	char name[64];
	int r;

	if (fmt_kind(addr) != FMT_FILE && fmt_kind(addr) != FMT_PACKED)
		return 0;
	second = malloc(FMT_BLOCK);
	r = second ? io(fs, addr, rp->buf, FMT_BLOCK, false) : -ENOMEM;
	if (!r)
		r = vol_prefer(fs->vol, addr, other);
	if (!r) {
		r = io(fs, addr, second, FMT_BLOCK, false);
		if (vol_prefer(fs->vol, addr, kept))
			r = -ENOMEM;
	}
	if (!r && memcmp(second, rp->buf, FMT_BLOCK)) {
		number = fs->next[FMT_MARK_FILE]++;
		r = make_block(rp, fmt_addr(FMT_FILE, number));
		if (!r)
			r = io(fs, fmt_addr(FMT_FILE, number), second, FMT_BLOCK, true);
		snprintf(name, sizeof(name), "#block-%016" PRIx64, addr);
		if (!r)
			r = lostfound_blocks(fs, name, fmt_addr(FMT_FILE, number), 1);
	}
	free(second);
	return r;
}

static int free_twins(struct fs *fs)
{
	const struct vol_twin *twins;
	size_t n = vol_twins(fs->vol, &twins);
	int r = 0;

	for (size_t k = 0; k < n && !r; k++) {
		uint64_t addr = twins[k].addr;
		unsigned kept = (unsigned)vol_where(fs->vol, addr);

		r = vol_prefer(fs->vol, addr, twins[k].brick);
		if (!r)
			r = vol_release(fs->vol, &addr, 1);
		if (!r)
			r = vol_prefer(fs->vol, addr, kept);
	}
	return r;
}

/* ---- the whole */

static void drop_orphans(struct fs *fs)
{
	for (struct inode *i = fs->all.next, *next; i != &fs->all; i = next) {
		next = i->next;
		if (!i->nlink && i != fs->root)
			ns_free_inode(fs, i);
	}
}

/* Numbers for what is made now: no log stands behind them yet, but nothing that is made counts before there is one. */
static void open_numbers(struct fs *fs)
{
	for (enum fmt_mark m = 0; m < FMT_MARKS_COUNT; m++)
		fs->limit[m] = fs->durable_limit[m] = fmt_mark_max(m);
	fs->log.next_batch = (fs->log.top > fs->super.end_batch ? fs->log.top : fs->super.end_batch) + BATCH_GAP;
	fs->log.durable = fs->log.next_batch - 1;
}

/*
 * The new epoch, and how the filesystem was left: that is true until the repair counts.  And which blocks are the repair's: should it be cut
 * off, they are no data of the filesystem's (adrift.c). Those of an earlier one that was cut off are below.
 */
static int begin(struct fs *fs)
{
	struct fmt_super *s = &fs->super;

	fs->info.epoch = s->epoch = (fs->info.epoch > fs->log.epoch ? fs->info.epoch : fs->log.epoch) + 1;
	if (!s->repair_packed)
		s->repair_packed = fs->next[FMT_MARK_PACKED];
	if (!s->repair_file)
		s->repair_file = fs->next[FMT_MARK_FILE];
	if (!s->repair_log)
		s->repair_log = fs->next[FMT_MARK_LOG];
	return super_write(fs);
}

/* Both copies, on every brick; those that are lost are no bricks of this filesystem any more. */
static int finish(struct fs *fs)
{
	struct fmt_super *s = &fs->super;
	uint32_t n = 0;
	int r;

	for (uint32_t k = 0; k < s->brick_count; k++)
		if (!super_given_up(fs, s->brick[k].uuid))
			s->brick[n++] = s->brick[k];
	memset(&s->brick[n], 0, (s->brick_count - n) * sizeof(s->brick[0]));
	s->brick_count = n;
	s->repair_packed = s->repair_file = s->repair_log = 0;
	s->clean = true;
	s->end_segment = fs->log.segment;
	s->end_offset = fs->log.offset;
	s->end_batch = fs->log.durable;
	r = super_write(fs);
	return r ? r : super_write(fs);
}

static int free_leaks(struct fs *fs)
{
	uint64_t *leaks;
	size_t n;
	int r = find_leaks(fs, &leaks, &n);

	for (size_t k = 0; k < n && !r; k += 1024) {
		if (fs->options.progress)
			fs->options.progress(fs->options.progress_arg, "free", k, n);
		r = vol_release(fs->vol, leaks + k, n - k < 1024 ? n - k : 1024);
	}
	free(leaks);
	return r;
}

static int prepare(struct repair *rp)
{
	struct fs *fs = rp->fs;
	const struct vol_twin *twins;
	size_t n = vol_twins(fs->vol, &twins);
	int r = 0;

	for (size_t k = 0; k < n && !r; k++)
		r = keep_twin(rp, &twins[k]);
	if (!r)
		r = copy_all(rp);
	if (!r && vol_free_blocks(fs->vol) < log_checkpoint_blocks(fs->live) + 1)
		r = -ENOSPC;
	return r;
}

int fs_repair(struct fs *fs)
{
	struct repair rp = { .fs = fs, .fresh = fs->next[FMT_MARK_FILE] };
	int r;

	if (!fs->options.check || !fs->options.decide)
		return fs_set_error(-EINVAL, "this mount is not one that repairs");
	if (fs->declined)
		return fs_set_error(-ECANCELED, "%" PRIu64 " problems are to be left, and repairs are done as a whole", fs->declined);
	fs_set_error(0, "%s", "");
	rp.buf = malloc(FMT_BLOCK);
	r = rp.buf ? 0 : -ENOMEM;
	open_numbers(fs);
	if (!r)
		r = begin(fs);
	if (!r) {
		drop_orphans(fs);
		r = prepare(&rp);
	}
	if (!r)
		r = checkpoint_anew(fs);
	if (r) {
		/* What was made for it is not referred to. If this fails too, it leaks. */
		if (!fs->log.segment && rp.made_count)
			vol_release(fs->vol, rp.made, rp.made_count);
		if (!fs_error_text()[0])
			fs_set_error(r, r == -ENOSPC ? "not enough blocks are free for the repair: %s%s" : "the repair failed: %s: %s",
				     r == -ENOSPC ? "nothing was changed" : strerror(-r), r == -ENOSPC ? "" : vol_text(fs->vol));
		goto out;
	}
	r = free_twins(fs);
	if (!r)
		r = free_leaks(fs);
	if (!r)
		r = finish(fs);
	if (r)
		fs_set_error(r, "the repair is done, but not all of what it left over is freed: %s: %s; run fsck.brickfs again",
			     strerror(-r), vol_text(fs->vol));
out:
	free(rp.made);
	free(rp.buf);
	return r;
}
