/* SPDX-License-Identifier: BSD-3-Clause */
/* damage - see damage.h: access to the bricks, and the kinds that spoil bytes and blocks. */
#include "damage-internal.h"
#include "volume-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const struct damage_kind damage_kinds[] = {
	{ "torn-tail", NULL, 1 },
	{ "super-copy", NULL, 1 },
	{ "super-both", "super-lost", 2 },
	{ "super-all", "super-gone", 1 },
	{ "log-hole", "log-hole", 1 },
	{ "log-header", NULL, 1 },
	{ "log-zeroed", NULL, 1 },
	{ "log-gone", NULL, 1 },
	{ "checkpoint-bit", "checkpoint-bad", 1 },
	{ "checkpoint-zeroed", "checkpoint-bad", 1 },
	{ "checkpoint-gone", NULL, 1 },
	{ "checkpoint-record", NULL, 1 },
	{ "bit", NULL, 1 },
	{ "leak", "leak", 1 },
	{ "adrift", "adrift", 1 },
	{ "foreign", "foreign-block", 1 },
	{ "twin", "block-twice", 2 },
	{ "packed-gone", "pages-lost", 1 },
	{ "dense-gone", "blocks-lost", 1 },
	{ "sparse-gone", "blocks-lost", 1 },
	/* forged records */
	{ "orphan", "orphan", 1 },
	{ "link-count", "link-count", 1 },
	{ "unreachable", "unreachable", 1 },
	{ "entry-nowhere", "entry-nowhere", 1 },
	{ "entry-twice", "entry-twice", 1 },
	{ "entry-root", "entry-root", 1 },
	{ "entry-no-dir", "entry-no-dir", 1 },
	{ "dir-links", "dir-links", 1 },
	{ "dir-loop", "dir-loop", 1 },
	{ "xattr-nowhere", "xattr-nowhere", 1 },
	{ "pages-shared", "pages-shared", 1 },
	{ "ranges-overlap", "ranges-overlap", 1 },
	{ "blocks-lost", "blocks-lost", 1 },
	{ "data-odd", "data-odd", 1 },
	{ "symlink-odd", "symlink-odd", 1 },
	{ "marks-low", "marks-low", 1 },
	{ "marks-spent", "marks-spent", 1 },
	{ "bad-record", "bad-record", 1 },
	{ "no-root", "no-root", 1 },
};
const size_t damage_kind_count = sizeof(damage_kinds) / sizeof(damage_kinds[0]);

uint64_t damage_random(struct damage *d, uint64_t below)
{
	uint64_t r = (uint64_t)rand_r(&d->seed) << 40 ^ (uint64_t)rand_r(&d->seed) << 20 ^ (uint64_t)rand_r(&d->seed);

	return below ? r % below : 0;
}

void damage_say(struct damage *d, const char *format, ...)
{
	va_list ap;

	if (!d->out)
		return;
	va_start(ap, format);
	fputs("damaged: ", d->out);
	vfprintf(d->out, format, ap);
	fputc('\n', d->out);
	va_end(ap);
}

void damage_touch(struct damage *d, uint64_t ino)
{
	if (d->touched->count < sizeof(d->touched->ino) / sizeof(d->touched->ino[0]))
		d->touched->ino[d->touched->count++] = ino;
}

static void touch_batch(struct damage *d, const uint8_t *records, uint32_t length)
{
	struct fmt_record r;

	for (size_t at = 0, size; at < length && !fmt_get_record(records + at, length - at, &r, &size); at += size)
		switch (r.type) {
		case FMT_INODE:
			damage_touch(d, r.inode.ino);
			break;
		case FMT_INODE_GONE:
			damage_touch(d, r.gone);
			break;
		case FMT_DENTRY:
			damage_touch(d, r.dentry.ino);
			break;
		case FMT_XATTR:
		case FMT_XATTR_GONE:
			damage_touch(d, r.xattr.ino);
			break;
		default:
			break;
		}
}

int damage_touch_log(struct damage *d, const struct place *p, uint32_t at, uint32_t length)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	struct fmt_batch b;
	int r = buf ? damage_read(d, p, 0, buf, FMT_BLOCK) : -ENOMEM;

	for (uint64_t offset = FMT_SEGMENT_HEADER; !r && offset < FMT_BLOCK && !fmt_get_batch(buf + offset, FMT_BLOCK - offset, &b);
	     offset += fmt_batch_size(b.length))
		if (at < offset + fmt_batch_size(b.length) && (uint64_t)at + length > offset)
			touch_batch(d, buf + offset + FMT_BATCH_HEADER, b.length);
	free(buf);
	return r;
}

/* ---- the bricks */

static int transfer(struct damage *d, const struct place *p, uint32_t offset, void *buf, uint32_t length, bool write)
{
	struct backend_session *s = d->session[p->brick];
	struct backend_range range = { p->addr + offset, length };
	struct backend_handle handle;
	struct backend_io io = { .op = write ? BACKEND_WRITE : BACKEND_READ, .offset = offset, .length = length, .buffer = buf };
	struct backend_io persist = { .op = BACKEND_PERSIST, .ranges = &range, .range_count = 1 };
	int status = 0, r = d->backend->map(s, 0, &p->addr, 1, write ? BACKEND_MAP_WRITE : 0, &handle, &status);

	if (r || status)
		return r ? r : status;
	io.handle = handle;
	r = d->backend->submit(s, 0, &io);
	if (!r && write)
		r = d->backend->submit(s, 0, &persist);
	if (!r)
		r = d->backend->drain(s, 0);
	d->backend->unmap(s, 0, &p->addr, 1, BACKEND_UNMAP_CLEAN, &status);
	return r;
}

int damage_read(struct damage *d, const struct place *p, uint32_t offset, void *buf, uint32_t length)
{
	return transfer(d, p, offset, buf, length, false);
}

int damage_write(struct damage *d, const struct place *p, uint32_t offset, const void *buf, uint32_t length)
{
	return transfer(d, p, offset, (void *)buf, length, true);
}

int damage_alloc(struct damage *d, unsigned brick, uint64_t addr)
{
	int status = 0, r = d->backend->alloc(d->session[brick], 0, &addr, 1, &status);

	return r ? r : status;
}

int damage_free(struct damage *d, const struct place *p)
{
	int status = 0, r = d->backend->release(d->session[p->brick], 0, &p->addr, 1, &status);

	return r ? r : status;
}

const struct place *damage_where(struct damage *d, uint64_t addr)
{
	for (size_t k = 0; k < d->places; k++)
		if (d->place[k].addr == addr)
			return &d->place[k];
	return NULL;
}

static int list(struct damage *d, unsigned brick)
{
	struct backend_extent extent[64];
	uint64_t from = 0, generation, next = 0;
	bool more = true;

	while (more) {
		size_t n;
		int r = d->backend->list(d->session[brick], 0, from, extent, 64, &n, &generation, &next, &more);

		if (r)
			return r;
		for (size_t k = 0; k < n; k++)
			for (uint64_t j = 0; j < extent[k].count; j++) {
				struct place *bigger = realloc(d->place, (d->places + 1) * sizeof(*bigger));

				if (!bigger)
					return -ENOMEM;
				d->place = bigger;
				d->place[d->places++] = (struct place){ extent[k].start + (j << FMT_BLOCK_SHIFT), brick };
			}
		from = next;
	}
	return 0;
}

/* ---- picking */

struct inode *damage_pick(struct damage *d, bool (*fits)(struct damage *d, const struct inode *i))
{
	uint64_t n = 0, which;

	for (struct inode *i = d->fs->all.next; i != &d->fs->all; i = i->next)
		n += fits(d, i);
	if (!n)
		return NULL;
	which = damage_random(d, n);
	for (struct inode *i = d->fs->all.next; i != &d->fs->all; i = i->next)
		if (fits(d, i) && !which--)
			return i;
	return NULL;
}

/* A segment of the head by seed; middle: one that has others behind it, or, when there is only one, that one. */
static const struct place *pick_head(struct damage *d, bool middle)
{
	uint32_t n = d->fs->log.head_count;

	if (middle && n > 1)
		n--;
	return n ? damage_where(d, fmt_addr(FMT_LOG, d->fs->log.heads[damage_random(d, n)])) : NULL;
}

static const struct place *pick_checkpoint(struct damage *d)
{
	uint32_t n = d->fs->log.ckpt_count;

	return n ? damage_where(d, fmt_addr(FMT_LOG, d->fs->log.ckpt[damage_random(d, n)])) : NULL;
}

static int flip(struct damage *d, const struct place *p, uint32_t at)
{
	unsigned bit = (unsigned)damage_random(d, 8);
	uint8_t byte = 0;
	int r = damage_touch_log(d, p, at, 1);

	if (!r)
		r = damage_read(d, p, at, &byte, 1);
	byte ^= (uint8_t)(1u << bit);
	if (!r)
		r = damage_write(d, p, at, &byte, 1);
	damage_say(d, "bit %u of byte %u of block %016" PRIx64, bit, at, p->addr);
	return r;
}

struct batches { struct { uint64_t offset; struct fmt_batch b; bool checkpoint; } at[32768]; size_t n; };

static int batches_of(struct damage *d, const struct place *p, struct batches *all)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	int r = buf ? damage_read(d, p, 0, buf, FMT_BLOCK) : -ENOMEM;

	all->n = 0;
	for (uint64_t offset = FMT_SEGMENT_HEADER; !r && offset < FMT_BLOCK && all->n < 32768; all->n++) {
		struct fmt_batch b;
		struct fmt_record record;
		bool checkpoint = false;

		if (fmt_get_batch(buf + offset, FMT_BLOCK - offset, &b))
			break;
		for (size_t at = 0, size; at < b.length && !fmt_get_record(buf + offset + FMT_BATCH_HEADER + at, b.length - at, &record, &size);
		     at += size)
			checkpoint |= record.type == FMT_CHECKPOINT_DONE;
		all->at[all->n].offset = offset;
		all->at[all->n].b = b;
		all->at[all->n].checkpoint = checkpoint;
		offset += fmt_batch_size(b.length);
	}
	free(buf);
	return r;
}

/* ---- kinds: bytes */

static int torn_tail(struct damage *d)
{
	struct batches *all = malloc(sizeof(*all));
	const struct place *p = d->fs->log.head_count ? damage_where(d, fmt_addr(FMT_LOG, d->fs->log.heads[d->fs->log.head_count - 1])) : NULL;
	int r = !all ? -ENOMEM : !p ? -ENODATA : batches_of(d, p, all);

	if (!r && !all->n)
		r = -ENODATA;
	if (!r) {
		uint64_t offset = all->at[all->n - 1].offset, size = fmt_batch_size(all->at[all->n - 1].b.length);
		uint32_t cut = (uint32_t)damage_random(d, size / 8) * 8;
		uint8_t *zero = calloc(1, size);

		r = damage_touch_log(d, p, (uint32_t)offset, 1);
		if (!r)
			r = damage_write(d, p, (uint32_t)offset + cut, zero, (uint32_t)size - cut);
		damage_say(d, "the last batch, of block %016" PRIx64 ", is cut at byte %u of %u", p->addr, cut, (unsigned)size);
		free(zero);
	}
	free(all);
	return r;
}

static int super_copy(struct damage *d)
{
	struct place p = { FMT_SUPER_ADDR, (unsigned)damage_random(d, d->bricks) };

	return flip(d, &p, (uint32_t)damage_random(d, 2) * FMT_PAGE + (uint32_t)damage_random(d, FMT_PAGE));
}

static int super_both(struct damage *d)
{
	struct place p = { FMT_SUPER_ADDR, (unsigned)damage_random(d, d->bricks) };
	int r = flip(d, &p, (uint32_t)damage_random(d, FMT_PAGE));

	return r ? r : flip(d, &p, FMT_PAGE + (uint32_t)damage_random(d, FMT_PAGE));
}

static int super_all(struct damage *d)
{
	int r = 0;

	for (unsigned b = 0; b < d->bricks && !r; b++) {
		struct place p = { FMT_SUPER_ADDR, b };

		r = flip(d, &p, (uint32_t)damage_random(d, FMT_PAGE));
		if (!r)
			r = flip(d, &p, FMT_PAGE + (uint32_t)damage_random(d, FMT_PAGE));
	}
	return r;
}

/* A batch that is not the last of its segment, nor the one with the checkpoint's record. */
static int log_hole(struct damage *d)
{
	struct batches *all = malloc(sizeof(*all));
	int r = all ? -ENODATA : -ENOMEM;

	for (unsigned tries = 0; all && r == -ENODATA && tries < 20; tries++) {
		const struct place *p = pick_head(d, false);
		size_t k;

		if (!p || batches_of(d, p, all) || all->n < 2)
			continue;
		k = damage_random(d, all->n - 1);
		if (!all->at[k].checkpoint)
			r = flip(d, p, (uint32_t)(all->at[k].offset + damage_random(d, FMT_BATCH_HEADER + all->at[k].b.length)));
	}
	free(all);
	return r;
}

static int checkpoint_record(struct damage *d)
{
	struct batches *all = malloc(sizeof(*all));
	int r = all ? -ENODATA : -ENOMEM;

	for (uint32_t h = 0; all && r == -ENODATA && h < d->fs->log.head_count; h++) {
		const struct place *p = damage_where(d, fmt_addr(FMT_LOG, d->fs->log.heads[h]));

		if (!p || batches_of(d, p, all))
			continue;
		for (size_t k = 0; k < all->n && r == -ENODATA; k++)
			if (all->at[k].checkpoint)
				r = flip(d, p, (uint32_t)(all->at[k].offset + damage_random(d, FMT_BATCH_HEADER + all->at[k].b.length)));
	}
	free(all);
	return r;
}

static int log_header(struct damage *d)
{
	const struct place *p = pick_head(d, true);

	return p ? flip(d, p, (uint32_t)damage_random(d, FMT_SEGMENT_HEADER)) : -ENODATA;
}

static int zero_block(struct damage *d, const struct place *p)
{
	static const uint8_t zero[FMT_BLOCK];
	int r = p ? damage_touch_log(d, p, 0, FMT_BLOCK) : -ENODATA;

	if (r)
		return r;
	damage_say(d, "block %016" PRIx64 " is zeroed", p->addr);
	return damage_write(d, p, 0, zero, FMT_BLOCK);
}

static int free_block(struct damage *d, const struct place *p)
{
	int r = !p ? -ENODATA : fmt_kind(p->addr) == FMT_LOG ? damage_touch_log(d, p, 0, FMT_BLOCK) : 0;

	if (r)
		return r;
	damage_say(d, "block %016" PRIx64 " is freed", p->addr);
	return damage_free(d, p);
}

static int log_zeroed(struct damage *d) { return zero_block(d, pick_head(d, true)); }
static int log_gone(struct damage *d) { return free_block(d, pick_head(d, true)); }
static int checkpoint_zeroed(struct damage *d) { return zero_block(d, pick_checkpoint(d)); }
static int checkpoint_gone(struct damage *d) { return free_block(d, pick_checkpoint(d)); }

static int checkpoint_bit(struct damage *d)
{
	const struct place *p = pick_checkpoint(d);
	struct batches *all = malloc(sizeof(*all));
	int r = !all ? -ENOMEM : !p ? -ENODATA : batches_of(d, p, all);

	if (!r)
		r = flip(d, p, (uint32_t)damage_random(d, FMT_SEGMENT_HEADER + FMT_BATCH_HEADER + all->at[0].b.length));
	free(all);
	return r;
}

/* Anywhere in the metadata. */
static int any_bit(struct damage *d)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		const struct place *p = &d->place[damage_random(d, d->places)];

		if (fmt_kind(p->addr) == FMT_SUPER)
			return super_copy(d);
		if (fmt_kind(p->addr) == FMT_LOG)
			return flip(d, p, (uint32_t)damage_random(d, 64u << 10));
	}
	return -ENODATA;
}

/* ---- kinds: blocks */

static int leak(struct damage *d)
{
	int r = 0;

	for (enum fmt_kind kind = FMT_LOG; kind <= FMT_FILE && !r; kind++) {
		uint64_t addr = fmt_addr(kind, (1u << 30) + damage_random(d, 1000));

		r = damage_alloc(d, (unsigned)damage_random(d, d->bricks), addr);
		damage_say(d, "block %016" PRIx64 " is allocated for nothing", addr);
	}
	return r;
}

/* Blocks of a file of which the log, which has a hole, knows nothing. */
static int adrift_blocks(struct damage *d)
{
	uint64_t addr = fmt_addr(FMT_FILE, (1u << 24) + 16 * damage_random(d, 1000) + 1);
	int r = log_hole(d);

	for (unsigned k = 0; k < 4 && !r; k++) {
		struct place p = { addr + k * FMT_BLOCK, (unsigned)damage_random(d, d->bricks) };

		if (k && !damage_random(d, 3))
			continue;	/* a hole */
		r = damage_alloc(d, p.brick, p.addr);
		if (!r)
			r = damage_write(d, &p, 4096, "adrift", 7);
		damage_say(d, "block %016" PRIx64 " is allocated and has data", p.addr);
	}
	return r;
}

static int foreign(struct damage *d)
{
	uint64_t addr = (5 + damage_random(d, 10)) << FMT_KIND_SHIFT | damage_random(d, 1000) << FMT_BLOCK_SHIFT;

	damage_say(d, "block %016" PRIx64 " is allocated", addr);
	return damage_alloc(d, (unsigned)damage_random(d, d->bricks), addr);
}

/* A block of data on another brick, too, with other bytes: those may be taken for it. */
static int twin(struct damage *d)
{
	static uint8_t bytes[FMT_BLOCK];
	struct place other;

	for (unsigned tries = 0; tries < 1000; tries++) {
		const struct place *p = &d->place[damage_random(d, d->places)];
		int r;

		if (fmt_kind(p->addr) != FMT_FILE && fmt_kind(p->addr) != FMT_PACKED)
			continue;
		for (struct inode *i = d->fs->all.next; i != &d->fs->all; i = i->next) {
			if (i->form == FMT_RUN && (i->run & ~(FMT_BLOCK - 1)) == p->addr)
				damage_touch(d, i->ino);
			for (uint32_t k = 0; i->form == FMT_RANGES && k < i->length; k++)
				if (p->addr - i->ranges[k].base < (uint64_t)i->ranges[k].count << FMT_BLOCK_SHIFT)
					damage_touch(d, i->ino);
		}
		other = (struct place){ p->addr, (p->brick + 1) % d->bricks };
		memset(bytes, 0x55, sizeof(bytes));
		r = damage_alloc(d, other.brick, other.addr);
		damage_say(d, "block %016" PRIx64 " is on brick %u, too, with other bytes", other.addr, other.brick);
		return r ? r : damage_write(d, &other, 0, bytes, FMT_BLOCK);
	}
	return -ENODATA;
}

static bool in_pages(struct damage *d, const struct inode *i)
{
	(void)d;
	return i->form == FMT_RUN;
}

static int packed_gone(struct damage *d)
{
	struct inode *i = damage_pick(d, in_pages);

	return free_block(d, i ? damage_where(d, i->run & ~(FMT_BLOCK - 1)) : NULL);
}

static bool has_blocks(struct damage *d, const struct inode *i, bool dense)
{
	uint64_t end = i->size > i->alloc_end ? i->size : i->alloc_end;

	return i->form == FMT_RANGES && i->recorded_blocks && ns_blocks(d->fs, (struct inode *)i, end) == i->recorded_blocks &&
	       (i->recorded_blocks == (end + FMT_BLOCK - 1) >> FMT_BLOCK_SHIFT) == dense;
}

static bool is_dense(struct damage *d, const struct inode *i) { return has_blocks(d, i, true); }
static bool is_sparse(struct damage *d, const struct inode *i) { return has_blocks(d, i, false); }

static int file_gone(struct damage *d, struct inode *i)
{
	uint64_t addr, n = 0, which;

	if (!i)
		return -ENODATA;
	which = damage_random(d, i->recorded_blocks);
	for (uint32_t k = 0; k < i->length; k++)
		for (uint64_t from = i->ranges[k].base; vol_next(d->fs->vol, from, &addr) &&
		     addr < i->ranges[k].base + ((uint64_t)i->ranges[k].count << FMT_BLOCK_SHIFT); from = addr + FMT_BLOCK)
			if (n++ == which)
				return free_block(d, damage_where(d, addr));
	return -ENODATA;
}

static int dense_gone(struct damage *d) { return file_gone(d, damage_pick(d, is_dense)); }
static int sparse_gone(struct damage *d) { return file_gone(d, damage_pick(d, is_sparse)); }

static const struct { const char *name; damage_fn fn; } raw[] = {
	{ "torn-tail", torn_tail }, { "super-copy", super_copy }, { "super-both", super_both }, { "super-all", super_all }, { "log-hole", log_hole },
	{ "log-header", log_header }, { "log-zeroed", log_zeroed }, { "log-gone", log_gone }, { "checkpoint-bit", checkpoint_bit },
	{ "checkpoint-zeroed", checkpoint_zeroed }, { "checkpoint-gone", checkpoint_gone }, { "checkpoint-record", checkpoint_record },
	{ "bit", any_bit }, { "leak", leak }, { "adrift", adrift_blocks }, { "foreign", foreign }, { "twin", twin }, { "packed-gone", packed_gone },
	{ "dense-gone", dense_gone }, { "sparse-gone", sparse_gone },
};

int damage_apply(const struct backend *backend, void *context, const char *const *endpoints, size_t count,
		 const char *kind, unsigned seed, FILE *out, struct damage_touched *touched)
{
	struct damage d = {
		.backend = backend, .context = context, .endpoints = endpoints, .bricks = (unsigned)count, .seed = seed, .out = out,
		.touched = touched,
	};
	struct fs_options o = {
		.backend = backend, .backend_context = context, .endpoints = endpoints, .endpoint_count = count, .readonly = true,
		.check = true, .manual = true, .lanes = 1,
	};
	damage_fn fn = damage_forger(kind);
	int r = count > BRICKS_MAX ? -EINVAL : 0;

	touched->count = 0;
	for (size_t k = 0; k < sizeof(raw) / sizeof(raw[0]); k++)
		if (!strcmp(raw[k].name, kind))
			fn = raw[k].fn;
	if (!fn)
		return -ENOENT;
	if (!r)
		r = fs_mount(&d.fs, &o);
	if (r)
		return r;
	/* What it knows is looked at; its maps would keep blocks from being freed. */
	for (unsigned b = 0; b < vol_bricks(d.fs->vol); b++)
		vol_unmap_all(d.fs->vol->brick[b]);
	vol_unlock(d.fs->vol);
	for (size_t b = 0; b < count && !r; b++) {
		r = backend->open(context, endpoints[b], "damage", 1, 0, 10000, &d.session[b]);
		if (!r)
			r = list(&d, (unsigned)b);
	}
	if (!r)
		r = fn(&d);
	for (size_t b = 0; b < count; b++)
		if (d.session[b])
			backend->close(d.session[b]);
	free(d.place);
	fs_unmount(d.fs);
	return r;
}
