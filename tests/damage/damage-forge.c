/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * damage-forge - records that make no sense, behind a right checksum: one more batch at the end of the log, and superblocks that agree with
 * that end.
 */
#include "damage-internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct forge {
	struct damage *d;
	uint8_t *buf;		/* the batch */
	size_t length;		/* of its records */
};

/* ---- the end of the log */

static int move_end(struct damage *d, uint64_t segment, uint64_t offset, uint64_t batch)
{
	uint8_t page[FMT_PAGE];
	struct fmt_super s;
	int r = 0;

	for (unsigned b = 0; b < d->bricks; b++)
		for (uint32_t copy = 0; copy < 2 && !r; copy++) {
			struct place p = { FMT_SUPER_ADDR, b };

			r = damage_read(d, &p, copy * FMT_PAGE, page, FMT_PAGE);
			if (r || fmt_get_super(page, &s) || !s.clean)
				continue;
			s.end_segment = segment;
			s.end_offset = offset;
			s.end_batch = batch;
			fmt_put_super(page, &s);
			r = damage_write(d, &p, copy * FMT_PAGE, page, FMT_PAGE);
		}
	return r;
}

static int append(struct forge *f)
{
	struct damage *d = f->d;
	uint64_t segment = d->fs->log.heads[d->fs->log.head_count - 1], offset = FMT_SEGMENT_HEADER;
	const struct place *p = damage_where(d, fmt_addr(FMT_LOG, segment));
	uint64_t size = fmt_batch_size((uint32_t)f->length);
	struct fmt_segment header;
	struct fmt_batch b, last = { 0 };
	uint8_t *log = malloc(FMT_BLOCK);
	int r = !log ? -ENOMEM : p ? damage_read(d, p, 0, log, FMT_BLOCK) : -ENODATA;

	if (!r && fmt_get_segment(log, &header))
		r = -ENODATA;
	if (r)
		goto out;
	last.number = header.first_batch - 1;
	for (; offset < FMT_BLOCK && !fmt_get_batch(log + offset, FMT_BLOCK - offset, &b); offset += fmt_batch_size(b.length))
		last = b;
	if (offset + size > FMT_BLOCK) {
		r = -ENODATA;
		goto out;
	}
	b = (struct fmt_batch){ .length = (uint32_t)f->length, .epoch = header.epoch, .number = last.number + 1,
				.durable_through = last.number, .segment = segment };
	memcpy(b.uuid, d->fs->super.uuid, 16);
	fmt_put_batch(f->buf, &b);
	r = damage_write(d, p, (uint32_t)offset, f->buf, (uint32_t)size);
	if (!r)
		r = move_end(d, segment, offset + size, b.number);
out:
	free(log);
	return r;
}

/* ---- records */

static uint8_t *room(struct forge *f)
{
	return f->buf + FMT_BATCH_HEADER + f->length;
}

static const struct timespec now = { 1700000000, 5 };

/* As the inode is, but for what the caller changes. */
static struct fmt_inode as_it_is(const struct inode *i)
{
	return (struct fmt_inode){
		.ino = i->ino, .mode = i->mode, .nlink = i->nlink, .uid = i->uid, .gid = i->gid, .rdev = i->rdev, .size = i->size,
		.blocks = i->recorded_blocks, .alloc_end = i->alloc_end, .next_cookie = i->dir ? i->dir->next_cookie : 0,
		.atime = i->atime, .mtime = i->mtime, .ctime = i->ctime, .form = i->form, .length = i->length,
		.run = i->form == FMT_RUN ? i->run : 0, .data = i->form == FMT_INLINE ? i->data : NULL,
		.ranges = i->form == FMT_RANGES ? i->ranges : NULL,
	};
}

static void put_inode(struct forge *f, const struct fmt_inode *i)
{
	damage_touch(f->d, i->ino);
	f->length += fmt_put_inode(room(f), i);
}

static void put_name(struct forge *f, uint64_t dir, uint64_t cookie, uint64_t ino, const char *name)
{
	f->length += fmt_put_dentry(room(f), &(struct fmt_dentry){
		.dir = dir, .cookie = cookie, .ino = ino, .time = now, .type = DT_REG, .name_length = (uint8_t)strlen(name), .name = name });
}

static void put_no_name(struct forge *f, const struct dentry *d)
{
	damage_touch(f->d, d->inode->ino);
	f->length += fmt_put_dentry_gone(room(f), &(struct fmt_dentry_gone){ .dir = d->dir->ino, .cookie = d->cookie, .time = now });
}

/* A number below the mark that nothing has. */
static uint64_t new_ino(struct forge *f)
{
	uint64_t ino = 2;

	for (struct inode *i = f->d->fs->all.next; i != &f->d->fs->all; i = i->next)
		if (i->ino >= ino)
			ino = i->ino + 1;
	return ino;
}

static uint64_t new_cookie(const struct inode *dir)
{
	return dir->dir->next_cookie + 10;
}

static uint64_t put_new(struct forge *f, struct fmt_inode i, const char *name)
{
	i.ino = new_ino(f);
	if (!i.mode)
		i.mode = S_IFREG | 0600;
	if (name)
		i.nlink = 1;
	i.atime = i.mtime = i.ctime = now;
	put_inode(f, &i);
	if (name)
		put_name(f, FS_ROOT_INO, new_cookie(f->d->fs->root), i.ino, name);
	return i.ino;
}

/* ---- what fits */

static bool is_file(struct damage *d, const struct inode *i) { (void)d; return S_ISREG(i->mode) && i->nlink && i->name; }
static bool is_dir(struct damage *d, const struct inode *i) { return i->dir && i != d->fs->root && i->name; }
static bool has_run(struct damage *d, const struct inode *i) { return is_file(d, i) && i->form == FMT_RUN; }
static bool has_ranges(struct damage *d, const struct inode *i) { return is_file(d, i) && i->form == FMT_RANGES && i->length && i->recorded_blocks; }

/* ---- kinds */

static int orphan(struct forge *f)
{
	put_new(f, (struct fmt_inode){ .size = 4, .length = 4, .data = (const uint8_t *)"gone" }, NULL);
	return 0;
}

static int link_count(struct forge *f)
{
	struct inode *i = damage_pick(f->d, is_file);
	struct fmt_inode r;

	if (!i)
		return -ENODATA;
	r = as_it_is(i);
	r.nlink += 1 + (uint32_t)damage_random(f->d, 5);
	put_inode(f, &r);
	return 0;
}

static int unreachable(struct forge *f)
{
	put_new(f, (struct fmt_inode){ .nlink = 1, .size = 5, .length = 5, .data = (const uint8_t *)"found" }, NULL);
	return 0;
}

static int entry_nowhere(struct forge *f)
{
	struct inode *dir = damage_pick(f->d, is_dir);

	dir = dir ? dir : f->d->fs->root;
	put_name(f, dir->ino, new_cookie(dir), new_ino(f), "leads nowhere");
	return 0;
}

static int entry_twice(struct forge *f)
{
	struct inode *i = damage_pick(f->d, is_file);

	if (!i)
		return -ENODATA;
	put_name(f, i->name->dir->ino, new_cookie(i->name->dir), put_new(f, (struct fmt_inode){ .nlink = 1 }, NULL), i->name->name);
	return 0;
}

static int entry_root(struct forge *f)
{
	struct inode *dir = damage_pick(f->d, is_dir);

	dir = dir ? dir : f->d->fs->root;
	put_name(f, dir->ino, new_cookie(dir), FS_ROOT_INO, "the root");
	return 0;
}

static int entry_no_dir(struct forge *f)
{
	struct inode *i = damage_pick(f->d, is_file);

	if (!i)
		return -ENODATA;
	put_name(f, i->ino, 5, i->ino, "in a file");
	return 0;
}

static int dir_links(struct forge *f)
{
	struct inode *i = damage_pick(f->d, is_dir);

	if (!i)
		return -ENODATA;
	damage_touch(f->d, i->ino);
	put_name(f, FS_ROOT_INO, new_cookie(f->d->fs->root), i->ino, "second name");
	return 0;
}

static int dir_loop(struct forge *f)
{
	struct inode *i = damage_pick(f->d, is_dir);

	if (!i)
		return -ENODATA;
	put_no_name(f, i->name);
	put_name(f, i->ino, new_cookie(i), i->ino, "itself");
	return 0;
}

static int xattr_nowhere(struct forge *f)
{
	f->length += fmt_put_xattr(room(f), &(struct fmt_xattr){ .ino = new_ino(f), .time = now, .name_length = 6, .name = "user.x",
								    .length = 1, .value = (const uint8_t *)"y" }, false);
	return 0;
}

static int pages_shared(struct forge *f)
{
	struct inode *i = damage_pick(f->d, has_run);

	if (!i)
		return -ENODATA;
	put_new(f, (struct fmt_inode){ .size = (uint64_t)i->length << FMT_PAGE_SHIFT, .form = FMT_RUN, .length = i->length, .run = i->run },
		"shares pages");
	return 0;
}

static int ranges_overlap(struct forge *f)
{
	struct inode *i = damage_pick(f->d, has_ranges);

	if (!i)
		return -ENODATA;
	put_new(f, (struct fmt_inode){ .size = (uint64_t)i->ranges[0].count << FMT_BLOCK_SHIFT, .form = FMT_RANGES, .length = 1,
				       .ranges = &i->ranges[0] }, "shares blocks");
	return 0;
}

static int blocks_lost(struct forge *f)
{
	struct inode *i = damage_pick(f->d, has_ranges);
	struct fmt_inode r;

	if (!i)
		return -ENODATA;
	r = as_it_is(i);
	r.blocks += 1 + damage_random(f->d, 3);
	put_inode(f, &r);
	return 0;
}

static int data_odd(struct forge *f)
{
	put_new(f, (struct fmt_inode){ .mode = S_IFIFO | 0600, .size = 4, .length = 4, .data = (const uint8_t *)"data" }, "fifo with data");
	return 0;
}

static int symlink_odd(struct forge *f)
{
	put_new(f, (struct fmt_inode){ .mode = S_IFLNK | 0777 }, "empty symlink");
	return 0;
}

static int marks_low(struct forge *f)
{
	uint64_t ino = (damage_random(f->d, 2) ? 1ull << 40 : 3ull << 62) + damage_random(f->d, 1000);
	struct fmt_inode i = { .ino = ino, .mode = S_IFREG | 0600, .nlink = 1, .atime = now, .mtime = now, .ctime = now };

	put_inode(f, &i);
	put_name(f, FS_ROOT_INO, new_cookie(f->d->fs->root), ino, "beyond all marks");
	return 0;
}

static int marks_spent(struct forge *f)
{
	f->length += fmt_put_marks(room(f), &(struct fmt_marks){ { f->d->fs->next[0] + 100, FMT_NUMBER_MAX, f->d->fs->next[2] + 100,
								  f->d->fs->next[3] + 100 } });
	return 0;
}

static int bad_record(struct forge *f)
{
	size_t at = f->length;

	f->length += fmt_put_gone(room(f), 1);
	memset(f->buf + FMT_BATCH_HEADER + at + 8, 0, 8);
	return 0;
}

static int no_root(struct forge *f)
{
	f->length += fmt_put_gone(room(f), FS_ROOT_INO);
	damage_touch(f->d, FS_ROOT_INO);
	return 0;
}

static const struct { const char *name; int (*fn)(struct forge *f); } forgers[] = {
	{ "orphan", orphan }, { "link-count", link_count }, { "unreachable", unreachable }, { "entry-nowhere", entry_nowhere },
	{ "entry-twice", entry_twice }, { "entry-root", entry_root }, { "entry-no-dir", entry_no_dir }, { "dir-links", dir_links },
	{ "dir-loop", dir_loop }, { "xattr-nowhere", xattr_nowhere }, { "pages-shared", pages_shared },
	{ "ranges-overlap", ranges_overlap }, { "blocks-lost", blocks_lost }, { "data-odd", data_odd }, { "symlink-odd", symlink_odd },
	{ "marks-low", marks_low }, { "marks-spent", marks_spent }, { "bad-record", bad_record }, { "no-root", no_root },
};

static _Thread_local size_t chosen;

static int run(struct damage *d)
{
	struct forge f = { .d = d, .buf = calloc(1, 1 << 20) };
	int r = !f.buf ? -ENOMEM : d->fs->log.head_count ? forgers[chosen].fn(&f) : -ENODATA;

	if (!r)
		r = append(&f);
	if (!r)
		damage_say(d, "a batch of %zu bytes at the end of the log says: %s", f.length, forgers[chosen].name);
	free(f.buf);
	return r;
}

damage_fn damage_forger(const char *kind)
{
	for (size_t k = 0; k < sizeof(forgers) / sizeof(forgers[0]); k++)
		if (!strcmp(forgers[k].name, kind)) {
			chosen = k;
			return run;
		}
	return NULL;
}
