/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Records that make no sense behind a right checksum: each is told by its code, the mount is read-only,
 * and the dump of what is left comes back; and records with random bytes changed, signed again: never a crash.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check_run.h"
#include "sim_fs.h"

static struct sim *image;		/* one of everything, after a crash */
static uint64_t dir, deep, inline_file, packed, large, unused;
static uint64_t run, run_block;		/* of `packed` */
static uint64_t large_base;		/* of its first range */
static uint64_t cookie_of_dir;		/* of "directory" in the root */
static const struct timespec now = { 1700000000, 5 };

/* ---- records */

static uint8_t records[1 << 20];
static size_t length;

static void put_inode(struct fmt_inode i)
{
	if (!i.mode)
		i.mode = S_IFREG | 0644;
	i.atime = i.mtime = i.ctime = now;
	length += fmt_put_inode(records + length, &i);
}

static void put_name(uint64_t in, uint64_t cookie, uint64_t ino, const char *name)
{
	length += fmt_put_dentry(records + length, &(struct fmt_dentry){
		.dir = in, .cookie = cookie, .ino = ino, .time = now, .type = DT_REG,
		.name_length = (uint8_t)strlen(name), .name = name });
}

static void put_no_name(uint64_t in, uint64_t cookie)
{
	length += fmt_put_dentry_gone(records + length, &(struct fmt_dentry_gone){ .dir = in, .cookie = cookie, .time = now });
}

static void put_gone(uint64_t ino)
{
	length += fmt_put_gone(records + length, ino);
}

static void put_xattr(uint64_t ino, const char *name, uint32_t size)
{
	uint8_t *value = calloc(1, size + 1);

	length += fmt_put_xattr(records + length, &(struct fmt_xattr){
		.ino = ino, .time = now, .name_length = (uint8_t)strlen(name), .name = name, .length = size, .value = value }, false);
	free(value);
}

static void put_checkpoint(uint64_t s0, uint32_t count, const struct fmt_checkpoint_segment *segments)
{
	length += fmt_put_checkpoint(records + length, &(struct fmt_checkpoint){ .s0 = s0, .count = count, .segments = segments });
}

/* The number at byte `at` of the record that begins at `record` becomes v. */
static void poke64(size_t record, size_t at, uint64_t v)
{
	memcpy(records + record + at, &v, 8);
}

static void poke32(size_t record, size_t at, uint32_t v)
{
	memcpy(records + record + at, &v, 4);
}

/* A new file under the root with that record, so that nothing but what the test is about is wrong. */
static void put_file(struct fmt_inode i)
{
	i.ino = unused;
	i.nlink = 1;
	put_inode(i);
	put_name(FS_ROOT_INO, 1000, unused, "forged");
}

/* ---- the cases */

static void entry_nowhere(void) { put_name(FS_ROOT_INO, 1000, unused, "nowhere"); }
static void entry_in_file(void) { put_name(inline_file, 3, unused, "in a file"); put_inode((struct fmt_inode){ .ino = unused, .nlink = 1 }); }
static void entry_in_nothing(void) { put_name(unused, 3, unused + 1, "x"); put_inode((struct fmt_inode){ .ino = unused + 1, .nlink = 1 }); }
static void entry_removed_from_file(void) { put_no_name(inline_file, 3); }
static void entry_in_removed_dir(void)
{
	put_no_name(FS_ROOT_INO, cookie_of_dir);
	put_gone(dir);
}
static void entry_twice(void)
{
	put_name(FS_ROOT_INO, 1000, unused, "large");
	put_inode((struct fmt_inode){ .ino = unused, .nlink = 1 });
}
static void links_too_many(void) { put_inode((struct fmt_inode){ .ino = inline_file, .nlink = 5 }); }
static void links_none(void) { put_inode((struct fmt_inode){ .ino = inline_file, .nlink = 0 }); }
static void links_of_dir(void) { put_inode((struct fmt_inode){ .ino = deep, .nlink = 3, .mode = S_IFDIR | 0755 }); }
static void no_name(void) { put_inode((struct fmt_inode){ .ino = unused, .nlink = 1 }); }
static void no_name_dir(void) { put_inode((struct fmt_inode){ .ino = unused, .nlink = 1, .mode = S_IFDIR | 0700 }); }
static void dir_two_names(void) { put_name(FS_ROOT_INO, 1000, deep, "deep again"); }
static void dir_in_itself(void) { put_name(deep, 1000, deep, "me"); }
static void dir_in_below(void) { put_name(deep, 1000, dir, "above"); }
static void root_named(void) { put_name(deep, 1000, FS_ROOT_INO, "root"); }
static void dir_loop(void)
{
	put_no_name(FS_ROOT_INO, cookie_of_dir);
	put_name(deep, 1000, dir, "loop");
}
static void root_gone(void) { put_gone(FS_ROOT_INO); }
static void root_file(void) { put_inode((struct fmt_inode){ .ino = FS_ROOT_INO, .nlink = 1 }); }
static void root_back(void) { put_gone(FS_ROOT_INO); put_inode((struct fmt_inode){ .ino = FS_ROOT_INO, .nlink = 1, .mode = S_IFDIR | 0755 }); }
static void dir_to_file(void) { put_inode((struct fmt_inode){ .ino = deep, .nlink = 1 }); }
static void file_to_dir(void) { put_inode((struct fmt_inode){ .ino = inline_file, .nlink = 1, .mode = S_IFDIR | 0755 }); }
static void gone_and_back(void) { put_gone(inline_file); put_inode((struct fmt_inode){ .ino = inline_file, .nlink = 1 }); }
static void gone_with_name(void) { put_gone(inline_file); }
static void xattr_nobody(void) { put_xattr(unused, "user.x", 10); }
static void xattr_of_gone(void) { put_file((struct fmt_inode){ 0 }); put_no_name(FS_ROOT_INO, 1000); put_gone(unused); put_xattr(unused, "user.x", 10); }
static void xattr_huge(void) { put_xattr(inline_file, "user.x", 70000); }
static void run_shared(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 2, .run = run }); }
static void run_shared_partly(void)
{
	put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 2, .run = run % FMT_BLOCK ? run - FMT_PAGE : run + FMT_PAGE });
}
static void run_lost(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 2, .run = fmt_addr(FMT_PACKED, 900) }); }
static void run_over_end(void)
{
	put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 3, .run = run_block + FMT_BLOCK - 2 * FMT_PAGE });
}
static void run_odd(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 2, .run = run_block + 300 * FMT_PAGE + 8 }); }
static void run_elsewhere(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 2, .run = FMT_SUPER_ADDR }); }
static void run_of_none(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 0, .run = run_block }); }
static void run_too_long(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 257, .run = run_block }); }
static void ranges_same(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 16, large_base };
	put_file((struct fmt_inode){ .size = 2 << 20, .form = FMT_RANGES, .length = 1, .ranges = &r });
}
static void ranges_partly(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 2, large_base + 15 * FMT_BLOCK };
	put_file((struct fmt_inode){ .size = 1, .form = FMT_RANGES, .length = 1, .ranges = &r });
}
static void ranges_own(void)
{
	static struct fmt_range r[2];

	r[0] = (struct fmt_range){ 0, 16, fmt_addr(FMT_FILE, 80000) };
	r[1] = (struct fmt_range){ 16, 16, fmt_addr(FMT_FILE, 80015) };
	put_file((struct fmt_inode){ .size = 1, .form = FMT_RANGES, .length = 2, .ranges = r });
}
/* Bad in itself: the order, the count, the kind, the end of the numbers. */
static void ranges_bad(struct fmt_range a, struct fmt_range b)
{
	struct fmt_range r[2] = { a, b };

	put_file((struct fmt_inode){ .size = 1, .form = FMT_RANGES, .length = 2, .ranges = r });
}
#define AT(n) fmt_addr(FMT_FILE, n)
static void ranges_back(void) { ranges_bad((struct fmt_range){ 16, 16, AT(80000) }, (struct fmt_range){ 0, 16, AT(80016) }); }
static void ranges_cross(void) { ranges_bad((struct fmt_range){ 0, 16, AT(80000) }, (struct fmt_range){ 15, 16, AT(80016) }); }
static void ranges_empty(void) { ranges_bad((struct fmt_range){ 0, 0, AT(80000) }, (struct fmt_range){ 15, 16, AT(80016) }); }
static void ranges_endless(void) { ranges_bad((struct fmt_range){ 0, 16, AT(80000) }, (struct fmt_range){ 16, UINT32_MAX, AT(80016) }); }
static void ranges_beyond(void) { ranges_bad((struct fmt_range){ 0, 16, AT(80000) }, (struct fmt_range){ 16, 16, AT(FMT_NUMBER_MAX - 8) }); }
static void ranges_of_log(void) { ranges_bad((struct fmt_range){ 0, 16, fmt_addr(FMT_LOG, 1) }, (struct fmt_range){ 16, 16, AT(80016) }); }
static void ranges_odd(void) { ranges_bad((struct fmt_range){ 0, 16, AT(80000) + 4096 }, (struct fmt_range){ 16, 16, AT(80016) }); }
static void ranges_count(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 16, AT(80000) };
	put_file((struct fmt_inode){ .size = 1, .form = FMT_RANGES, .length = 1, .ranges = &r });
	poke32(0, 116, 0x10000001);
}
static void blocks_lost(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 16, AT(80000) };
	put_file((struct fmt_inode){ .size = 4 << 20, .blocks = 2, .form = FMT_RANGES, .length = 1, .ranges = &r });
}
static void blocks_absurd(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 16, AT(80000) };
	put_file((struct fmt_inode){ .size = 4 << 20, .blocks = UINT64_MAX, .form = FMT_RANGES, .length = 1, .ranges = &r });
}
static void size_absurd(void) { put_file((struct fmt_inode){ .size = FS_FILE_MAX + 1 }); }
static void size_all(void) { put_file((struct fmt_inode){ .size = UINT64_MAX }); }
static void alloc_end_absurd(void) { put_file((struct fmt_inode){ .alloc_end = UINT64_MAX }); }
static void inline_long(void) { static uint8_t data[600]; put_file((struct fmt_inode){ .size = 600, .length = 600, .data = data }); }
static void inline_longer(void) { put_file((struct fmt_inode){ .size = 8, .length = 8, .data = (const uint8_t *)"12345678" }); poke32(0, 116, 400); }
static void inline_beyond_size(void) { put_file((struct fmt_inode){ .size = 3, .length = 8, .data = (const uint8_t *)"12345678" }); }
static void form_unknown(void) { put_file((struct fmt_inode){ .size = 8 }); poke32(0, 112, 3); }
static void mode_none(void) { put_file((struct fmt_inode){ 0 }); poke32(0, 16, 0644); }
static void mode_odd(void) { put_file((struct fmt_inode){ 0 }); poke32(0, 16, S_IFMT | 0644); }
static void mode_high(void) { put_file((struct fmt_inode){ 0 }); poke32(0, 16, S_IFREG | 0x40000000); }
static void nsec_bad(void) { put_file((struct fmt_inode){ 0 }); poke32(0, 80, 1000000000); }
static void ino_zero(void) { put_file((struct fmt_inode){ 0 }); poke64(0, 8, 0); }
static void fifo_data(void) { put_file((struct fmt_inode){ .mode = S_IFIFO | 0600, .length = 4, .size = 4, .data = (const uint8_t *)"data" }); }
static void fifo_run(void) { put_file((struct fmt_inode){ .mode = S_IFIFO | 0600, .size = 4, .form = FMT_RUN, .length = 1, .run = run_block + 400 * FMT_PAGE }); }
static void dir_data(void)
{
	put_file((struct fmt_inode){ .mode = S_IFDIR | 0700, .size = 4, .form = FMT_RUN, .length = 1, .run = run_block + 400 * FMT_PAGE });
}
static void symlink_run(void) { put_file((struct fmt_inode){ .mode = S_IFLNK | 0777, .size = 4, .form = FMT_RUN, .length = 1, .run = run_block + 400 * FMT_PAGE }); }
static void symlink_ranges(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 16, AT(80000) };
	put_file((struct fmt_inode){ .mode = S_IFLNK | 0777, .size = 4, .form = FMT_RANGES, .length = 1, .ranges = &r });
}
static void symlink_empty(void) { put_file((struct fmt_inode){ .mode = S_IFLNK | 0777 }); }
static void symlink_size(void) { put_file((struct fmt_inode){ .mode = S_IFLNK | 0777, .size = 9, .length = 4, .data = (const uint8_t *)"data" }); }
static void symlink_nul(void) { put_file((struct fmt_inode){ .mode = S_IFLNK | 0777, .size = 4, .length = 4, .data = (const uint8_t *)"d\0ta" }); }
static void record_unknown(void) { put_gone(unused); records[0] = 9; }
static void record_type_zero(void) { put_gone(unused); records[0] = 0; }
static void record_short(void) { put_gone(unused); poke32(0, 4, 8); }
static void record_empty(void) { put_gone(unused); poke32(0, 4, 0); }
static void record_odd(void) { put_gone(unused); poke32(0, 4, 12); }
static void record_long(void) { put_gone(unused); poke32(0, 4, 0x7ffffff8); }
static void record_inode_short(void) { put_file((struct fmt_inode){ 0 }); poke32(0, 4, 136); }
static void name_empty(void) { put_name(FS_ROOT_INO, 1000, inline_file, "x"); records[45] = 0; }
static void name_long(void) { put_name(FS_ROOT_INO, 1000, inline_file, "x"); records[45] = 200; }
static void name_slash(void) { put_name(FS_ROOT_INO, 1000, inline_file, "a/b"); }
static void name_nul(void) { put_name(FS_ROOT_INO, 1000, inline_file, "abc"); records[57] = 0; }
static void name_dot(void) { put_file((struct fmt_inode){ 0 }); length = fmt_inode_size(0, 0); put_name(FS_ROOT_INO, 1000, unused, "."); }
static void name_dots(void) { put_file((struct fmt_inode){ 0 }); length = fmt_inode_size(0, 0); put_name(FS_ROOT_INO, 1000, unused, ".."); }
static void cookie_low(void) { put_file((struct fmt_inode){ 0 }); length = fmt_inode_size(0, 0); put_name(FS_ROOT_INO, 2, unused, "x"); }
static void cookie_high(void) { put_file((struct fmt_inode){ 0 }); length = fmt_inode_size(0, 0); put_name(FS_ROOT_INO, UINT64_MAX, unused, "x"); }
static void cookie_gone_high(void) { put_no_name(FS_ROOT_INO, UINT64_MAX); }
static void cookie_next_high(void) { put_inode((struct fmt_inode){ .ino = deep, .nlink = 1, .mode = S_IFDIR | 0755, .next_cookie = UINT64_MAX }); }
static void marks_absurd(void)
{
	length += fmt_put_marks(records + length, &(struct fmt_marks){ { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX } });
}
static void marks_spent(void)
{
	length += fmt_put_marks(records + length, &(struct fmt_marks){ { 1 << 20, FMT_NUMBER_MAX, 1 << 20, 1 << 20 } });
}
static void marks_low_ino(void) { uint64_t was = unused; unused = 10000000; put_file((struct fmt_inode){ 0 }); unused = was; }
static void marks_low_run(void)
{
	put_file((struct fmt_inode){ .size = 1, .form = FMT_RUN, .length = 1, .run = fmt_addr(FMT_PACKED, 1u << 30) });
}
static void marks_low_range(void)
{
	static struct fmt_range r;

	r = (struct fmt_range){ 0, 16, AT(1ull << 35) };
	put_file((struct fmt_inode){ .size = 1, .form = FMT_RANGES, .length = 1, .ranges = &r });
}
static const struct fmt_checkpoint_segment nowhere[] = { { 777777, 4096, 1 }, { 1, 8, 2 }, { 2, UINT64_MAX, 3 } };
static void checkpoint_nowhere(void) { put_checkpoint(777777, 0, NULL); }
static void checkpoint_of_nothing(void)
{
	static struct sim_batch all[1024];

	put_checkpoint(all[sim_log(image, all, 1024) - 1].segment, 3, nowhere);
}
static void checkpoint_count(void) { put_checkpoint(1, 3, nowhere); poke32(0, 16, UINT32_MAX); }

#define REFUSED "refused"
static const struct forged {
	const char *name, *code;	/* code: what is told, or REFUSED */
	void (*make)(void);
} forged[] = {
#define F(name, code) { #name, code, name }
	F(entry_nowhere, "entry-nowhere"), F(entry_in_file, "entry-no-dir"), F(entry_in_nothing, "entry-no-dir"),
	F(entry_removed_from_file, "entry-no-dir"), F(entry_in_removed_dir, "entry-no-dir"), F(entry_twice, "entry-twice"),
	F(links_too_many, "link-count"), F(links_none, "link-count"), F(links_of_dir, "link-count"),
	F(no_name, "unreachable"), F(no_name_dir, "unreachable"), F(dir_two_names, "dir-links"),
	F(dir_in_itself, "dir-links"), F(dir_in_below, "dir-links"), F(root_named, "entry-root"), F(dir_loop, "dir-loop"),
	F(root_gone, REFUSED), F(root_file, "bad-record"), F(root_back, REFUSED), F(dir_to_file, "bad-record"),
	F(file_to_dir, "bad-record"), F(gone_and_back, "bad-record"), F(gone_with_name, "entry-nowhere"),
	F(xattr_nobody, "xattr-nowhere"), F(xattr_of_gone, "xattr-nowhere"), F(xattr_huge, "bad-record"),
	F(run_shared, "pages-shared"), F(run_shared_partly, "pages-shared"), F(run_lost, "pages-lost"),
	F(run_over_end, "bad-record"), F(run_odd, "bad-record"), F(run_elsewhere, "bad-record"),
	F(run_of_none, "bad-record"), F(run_too_long, "bad-record"),
	F(ranges_same, "ranges-overlap"), F(ranges_partly, "ranges-overlap"), F(ranges_own, "ranges-overlap"),
	F(ranges_back, "bad-record"), F(ranges_cross, "bad-record"), F(ranges_empty, "bad-record"),
	F(ranges_endless, "bad-record"), F(ranges_beyond, "bad-record"), F(ranges_of_log, "bad-record"),
	F(ranges_odd, "bad-record"), F(ranges_count, "bad-record"), F(blocks_lost, "blocks-lost"), F(blocks_absurd, "blocks-lost"),
	F(size_absurd, "bad-record"), F(size_all, "bad-record"), F(alloc_end_absurd, "bad-record"),
	F(inline_long, "bad-record"), F(inline_longer, "bad-record"), F(inline_beyond_size, "bad-record"),
	F(form_unknown, "bad-record"), F(mode_none, "bad-record"), F(mode_odd, "bad-record"), F(mode_high, "bad-record"),
	F(nsec_bad, "bad-record"), F(ino_zero, "bad-record"),
	F(fifo_data, "data-odd"), F(fifo_run, "bad-record"), F(dir_data, "bad-record"),
	F(symlink_run, "bad-record"), F(symlink_ranges, "bad-record"), F(symlink_empty, "symlink-odd"),
	F(symlink_size, "symlink-odd"), F(symlink_nul, "symlink-odd"),
	F(record_unknown, "bad-record"), F(record_type_zero, "bad-record"), F(record_short, "bad-record"),
	F(record_empty, "bad-record"), F(record_odd, "bad-record"), F(record_long, "bad-record"), F(record_inode_short, "bad-record"),
	F(name_empty, "bad-record"), F(name_long, "bad-record"), F(name_slash, "bad-record"), F(name_nul, "bad-record"),
	F(name_dot, "bad-record"), F(name_dots, "bad-record"), F(cookie_low, "bad-record"), F(cookie_high, "bad-record"),
	F(cookie_gone_high, "bad-record"), F(cookie_next_high, "bad-record"), F(marks_absurd, "bad-record"),
	F(marks_spent, "marks-spent"), F(marks_low_ino, "marks-low"), F(marks_low_run, "marks-low"), F(marks_low_range, "marks-low"),
	F(checkpoint_nowhere, REFUSED), F(checkpoint_of_nothing, REFUSED), F(checkpoint_count, "bad-record"),
};

static void make_image(void)
{
	struct sim_steps steps = { 0 };
	struct fmt_record record;
	struct fs *fs;

	image = sim_make(2, 60);
	fs = sim_mounted(image, SIM_RW);
	sim_fill(fs, &steps);
	dir = sim_find(fs, FS_ROOT_INO, "directory");
	deep = sim_find(fs, dir, "deep");
	inline_file = sim_find(fs, dir, "inline");
	packed = sim_find(fs, dir, "packed");
	large = sim_find(fs, FS_ROOT_INO, "large");
	unused = sim_find(fs, dir, "last file") + 1;
	/* A second record of each, so that it is behind the checkpoint, in the log that is walked here. */
	struct stat st;
	const uint64_t again[] = { packed, large };

	for (unsigned k = 0; k < 2; k++)
		ck_assert_int_eq(fs_setattr(fs, again[k], &(struct stat){ .st_uid = 7 }, FS_SET_UID, &st), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	fs_abandon(fs);
	sim_steps_free(&steps);

	struct sim_batch *all = calloc(1024, sizeof(*all));
	size_t n = sim_log(image, all, 1024);

	for (size_t k = 0; k < n; k++) {
		uint8_t *buf = malloc(all[k].batch.length);
		struct fmt_range range;

		sim_read(image, fmt_addr(FMT_LOG, all[k].segment) + all[k].offset + FMT_BATCH_HEADER, buf, all[k].batch.length);
		for (size_t at = 0, size; at < all[k].batch.length; at += size) {
			ck_assert_int_eq(fmt_get_record(buf + at, all[k].batch.length - at, &record, &size), 0);
			if (record.type == FMT_INODE && record.inode.ino == packed)
				run = record.inode.run;
			if (record.type == FMT_INODE && record.inode.ino == large) {
				fmt_get_range(record.inode.raw_ranges, 0, &range);
				large_base = range.base;
			}
			if (record.type == FMT_DENTRY && record.dentry.ino == dir)
				cookie_of_dir = record.dentry.cookie;
		}
		free(buf);
	}
	free(all);
	run_block = run & ~(FMT_BLOCK - 1);
	ck_assert(run && large_base && cookie_of_dir);
}

static void drop_image(void)
{
	sim_delete(image);
}

static void look_at_all(struct fs *fs)
{
	struct fs_check_result result;
	char *dump;

	ck_assert_int_eq(fs_check(fs, &result), 0);
	dump = fs_dump(fs);
	ck_assert_ptr_nonnull(dump);
	free(dump);
}

/* After the repair: mounted for writing, used, emptied, and everything comes back. */
static void use_all(struct sim *sim, const char *what)
{
	struct fs *fs = sim_mounted(sim, SIM_RW);
	struct fs_info info;

	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: repaired, and read-only: %s", what, sim_all_told());
	sim_look(fs, FS_ROOT_INO);
	sim_file(fs, FS_ROOT_INO, "made after", 9000, 1);
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_msg(!fs_unmount(fs), "%s: %s", what, fs_error_text());
	free(sim_clean_dump(sim));
}

START_TEST(test_forged)
{
	const struct forged *f = &forged[_i];
	static const int how[] = { SIM_CHECK, SIM_RO, SIM_RW };
	struct sim *sim = sim_snapshot(image);
	uint64_t before;

	length = 0;
	f->make();
	sim_forge(sim, records, length);
	before = sim_visible(sim);
	for (unsigned k = 0; k < 3; k++) {
		struct fs_info info;
		struct fs *fs;
		int r = sim_mount(sim, how[k], &fs);

		if (!strcmp(f->code, REFUSED) && how[k] != SIM_CHECK) {
			ck_assert_msg(r == -EUCLEAN, "%s: mounted (%d); told: %s", f->name, r, sim_all_told());
			continue;
		}
		ck_assert_msg(!r, "%s: %s; told: %s", f->name, fs_error_text(), sim_all_told());
		fs_get_info(fs, &info);
		if (strcmp(f->code, REFUSED))
			ck_assert_msg(sim_told(f->code), "%s: %s is not told, but: %s", f->name, f->code, sim_all_told());
		else
			ck_assert_msg(sim_problems.count, "%s: nothing is told", f->name);
		ck_assert_msg(info.readonly, "%s: for writing; told: %s", f->name, sim_all_told());
		look_at_all(fs);
		fs_unmount(fs);
	}
	ck_assert_uint_eq(sim_visible(sim), before);
	free(sim_fsck(sim, f->name));
	use_all(sim, f->name);
	sim_delete(sim);
}
END_TEST

/* What is forged is what a filesystem would have written, but for what is wrong: sound records are taken. */
static void sound_inline(void) { put_file((struct fmt_inode){ .size = 9, .length = 4, .data = (const uint8_t *)"data" }); }
static void sound_run(void) { put_file((struct fmt_inode){ .size = 5000, .form = FMT_RUN, .length = 2, .run = run_block + 400 * FMT_PAGE }); }
static void sound_ranges(void)
{
	static struct fmt_range r[2];

	r[0] = (struct fmt_range){ 0, 16, AT(20000) };
	r[1] = (struct fmt_range){ 100, 16, AT(19000) };
	put_file((struct fmt_inode){ .size = 220u << 20, .form = FMT_RANGES, .length = 2, .ranges = r });
}
static void sound_dir(void) { put_file((struct fmt_inode){ .mode = S_IFDIR | 0700 }); }
static void sound_xattr(void) { put_xattr(inline_file, "user.x", 65536); }
static void sound_orphan(void) { put_inode((struct fmt_inode){ .ino = unused, .nlink = 0 }); put_xattr(unused, "user.x", 10); }
static void sound_gone(void) { put_file((struct fmt_inode){ 0 }); put_xattr(unused, "user.x", 10); put_no_name(FS_ROOT_INO, 1000); put_gone(unused); }
static void (*const sound[])(void) = { sound_inline, sound_run, sound_ranges, sound_dir, sound_xattr, sound_orphan, sound_gone };

START_TEST(test_sound)
{
	struct sim *sim = sim_snapshot(image);
	struct fs_info info;
	struct fs *fs;

	length = 0;
	sound[_i]();
	sim_forge(sim, records, length);
	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%d: %s", _i, sim_all_told());
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("forged records");
	TCase *tcase = tcase_create("forged");

	tcase_set_timeout(tcase, 60);
	tcase_add_unchecked_fixture(tcase, make_image, drop_image);
	tcase_add_loop_test(tcase, test_forged, 0, sizeof(forged) / sizeof(forged[0]));
	tcase_add_loop_test(tcase, test_sound, 0, sizeof(sound) / sizeof(sound[0]));
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
