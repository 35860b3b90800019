/* SPDX-License-Identifier: BSD-3-Clause */
/* What lies on the bricks: every record, batch, segment header and superblock both ways, cut at every byte, and with every byte changed. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check_run.h"
#include "format.h"

static const struct timespec when = { -5, 999999999 };
static const struct fmt_range ranges[] = {
	{ 0, 16, ((uint64_t)FMT_FILE << FMT_KIND_SHIFT) + 77 * FMT_BLOCK },
	{ 16, 1, ((uint64_t)FMT_FILE << FMT_KIND_SHIFT) + 3 * FMT_BLOCK },
	{ 4000000, 1 << 20, ((uint64_t)FMT_FILE << FMT_KIND_SHIFT) + 1000 * FMT_BLOCK },
};
static const struct fmt_checkpoint_segment segments[] = { { 7, 4096, 99 }, { 8, 130, 0 } };

static struct fmt_inode some_inode(uint32_t form, uint32_t length)
{
	return (struct fmt_inode){
		.ino = 42, .mode = S_IFREG | 0640, .nlink = 3, .uid = 1000, .gid = 100, .rdev = 5, .size = 123456789,
		.blocks = 59, .alloc_end = 1ull << 40, .next_cookie = 17, .atime = when, .mtime = { 1, 2 }, .ctime = { 3, 4 },
		.form = form, .length = length, .data = (const uint8_t *)"twelve bytes", .ranges = ranges,
		.run = ((uint64_t)FMT_PACKED << FMT_KIND_SHIFT) + 9 * FMT_BLOCK + 511 * FMT_PAGE,
	};
}

/* One of each record; returns its size, 0 behind the last. */
static size_t put(unsigned which, uint8_t *buf)
{
	struct fmt_inode i;
	struct fmt_xattr x = { .ino = 42, .time = when, .name_length = 6, .name = "user.x", .length = 5, .value = (const uint8_t *)"value" };

	switch (which) {
	case 0:
		i = some_inode(FMT_INLINE, 12);
		return fmt_put_inode(buf, &i);
	case 1:
		i = some_inode(FMT_RUN, 1);
		return fmt_put_inode(buf, &i);
	case 2:
		i = some_inode(FMT_RANGES, 3);
		return fmt_put_inode(buf, &i);
	case 3:
		return fmt_put_gone(buf, 42);
	case 4:
		return fmt_put_dentry(buf, &(struct fmt_dentry){ .dir = 1, .cookie = 3, .ino = 42, .time = when, .type = DT_REG,
								 .name_length = 5, .name = "hello" });
	case 5:
		return fmt_put_dentry_gone(buf, &(struct fmt_dentry_gone){ .dir = 1, .cookie = 3, .time = when });
	case 6:
		return fmt_put_xattr(buf, &x, false);
	case 7:
		return fmt_put_xattr(buf, &x, true);
	case 8:
		return fmt_put_marks(buf, &(struct fmt_marks){ { 1, 2, 3, 4 } });
	case 9:
		return fmt_put_checkpoint(buf, &(struct fmt_checkpoint){ .s0 = 5, .count = 2, .segments = segments });
	}
	return 0;
}

START_TEST(test_records_both_ways)
{
	uint8_t buf[512];
	struct fmt_record r;
	struct fmt_range range;
	struct fmt_checkpoint_segment segment;
	size_t size;

	for (unsigned which = 0; put(which, buf); which++) {
		size_t length = put(which, buf);

		ck_assert_int_eq(fmt_get_record(buf, length, &r, &size), 0);
		ck_assert_uint_eq(size, length);
		ck_assert_uint_eq(size % 8, 0);
		switch (which) {
		case 0: case 1: case 2:
			ck_assert_uint_eq(size, fmt_inode_size(r.inode.form, r.inode.length));
			ck_assert_uint_eq(r.inode.ino, 42);
			ck_assert_uint_eq(r.inode.mode, S_IFREG | 0640);
			ck_assert_uint_eq(r.inode.nlink, 3);
			ck_assert_uint_eq(r.inode.uid, 1000);
			ck_assert_uint_eq(r.inode.gid, 100);
			ck_assert_uint_eq(r.inode.rdev, 5);
			ck_assert_uint_eq(r.inode.size, 123456789);
			ck_assert_uint_eq(r.inode.blocks, 59);
			ck_assert_uint_eq(r.inode.alloc_end, 1ull << 40);
			ck_assert_uint_eq(r.inode.next_cookie, 17);
			ck_assert_int_eq(r.inode.atime.tv_sec, -5);
			ck_assert_int_eq(r.inode.atime.tv_nsec, 999999999);
			ck_assert_int_eq(r.inode.mtime.tv_nsec, 2);
			ck_assert_int_eq(r.inode.ctime.tv_sec, 3);
			if (which == 0)
				ck_assert_mem_eq(r.inode.data, "twelve bytes", 12);
			if (which == 1)
				ck_assert_uint_eq(r.inode.run % FMT_BLOCK, 511 * FMT_PAGE);
			for (unsigned k = 0; which == 2 && k < 3; k++) {
				fmt_get_range(r.inode.raw_ranges, k, &range);
				ck_assert_uint_eq(range.fblock, ranges[k].fblock);
				ck_assert_uint_eq(range.count, ranges[k].count);
				ck_assert_uint_eq(range.base, ranges[k].base);
			}
			break;
		case 3:
			ck_assert_uint_eq(r.gone, 42);
			break;
		case 4:
			ck_assert_uint_eq(r.dentry.dir, 1);
			ck_assert_uint_eq(r.dentry.cookie, 3);
			ck_assert_uint_eq(r.dentry.type, DT_REG);
			ck_assert_uint_eq(r.dentry.name_length, 5);
			ck_assert_mem_eq(r.dentry.name, "hello", 5);
			break;
		case 6:
			ck_assert_uint_eq(r.xattr.length, 5);
			ck_assert_mem_eq(r.xattr.name, "user.x", 6);
			ck_assert_mem_eq(r.xattr.value, "value", 5);
			break;
		case 7:
			ck_assert_int_eq(r.type, FMT_XATTR_GONE);
			ck_assert_uint_eq(r.xattr.length, 0);
			break;
		case 8:
			ck_assert_uint_eq(r.marks.mark[FMT_MARK_FILE], 4);
			break;
		case 9:
			ck_assert_uint_eq(r.checkpoint.s0, 5);
			fmt_get_checkpoint_segment(r.checkpoint.raw, 1, &segment);
			ck_assert_uint_eq(segment.end, 130);
			break;
		}
	}
}
END_TEST

/* Copies to the end of an allocation of just that size, so that a sanitizer sees a read too far. */
static int decode(const uint8_t *buf, size_t length)
{
	uint8_t *exact = malloc(length ? length : 1);
	struct fmt_record r;
	size_t size;
	int e;

	memcpy(exact, buf, length);
	e = fmt_get_record(exact, length, &r, &size);
	free(exact);
	return e;
}

START_TEST(test_records_cut)
{
	uint8_t buf[512];

	for (unsigned which = 0; put(which, buf); which++) {
		size_t length = put(which, buf);

		for (size_t cut = 0; cut < length; cut++)
			ck_assert_int_eq(decode(buf, cut), -EUCLEAN);
		/* Also when its own length says so. */
		for (size_t cut = 0; cut < length; cut += 8) {
			buf[4] = (uint8_t)cut;
			buf[5] = (uint8_t)(cut >> 8);
			ck_assert_msg(decode(buf, length) == -EUCLEAN || which == 0, "record %u cut to %zu", which, cut);
		}
	}
}
END_TEST

START_TEST(test_records_changed)
{
	uint8_t buf[512];

	for (unsigned which = 0; put(which, buf); which++) {
		size_t length = put(which, buf);

		for (size_t at = 0; at < length; at++)
			for (unsigned value = 0; value < 256; value++) {
				uint8_t old = buf[at];

				buf[at] = (uint8_t)value;
				decode(buf, length);
				buf[at] = old;
			}
	}
}
END_TEST

START_TEST(test_records_refused)
{
	uint8_t buf[512];
	struct fmt_inode i = some_inode(FMT_RUN, 2);	/* leaves its block */

	ck_assert_int_eq(decode(buf, fmt_put_inode(buf, &i)), -EUCLEAN);
	i = some_inode(FMT_RUN, 1);
	i.run = ((uint64_t)FMT_FILE << FMT_KIND_SHIFT);	/* of another kind */
	ck_assert_int_eq(decode(buf, fmt_put_inode(buf, &i)), -EUCLEAN);
	i = some_inode(FMT_RANGES, 2);
	i.ranges = (struct fmt_range[]){ ranges[0], { 15, 3, ranges[1].base } };	/* overlap */
	ck_assert_int_eq(decode(buf, fmt_put_inode(buf, &i)), -EUCLEAN);
	i = some_inode(FMT_INLINE, 12);
	i.atime.tv_nsec = 1000000000;
	ck_assert_int_eq(decode(buf, fmt_put_inode(buf, &i)), -EUCLEAN);
	i = some_inode(FMT_INLINE, 12);
	i.size = (FMT_FILE_BLOCKS << FMT_BLOCK_SHIFT) + 1;
	ck_assert_int_eq(decode(buf, fmt_put_inode(buf, &i)), -EUCLEAN);
	ck_assert_int_eq(decode(buf, fmt_put_dentry(buf, &(struct fmt_dentry){ .dir = 1, .cookie = 3, .ino = 2, .name_length = 3,
									       .name = "a/b" })), -EUCLEAN);
	ck_assert_int_eq(decode(buf, fmt_put_dentry(buf, &(struct fmt_dentry){ .dir = 1, .cookie = 2, .ino = 2, .name_length = 1,
									       .name = "a" })), -EUCLEAN);
}
END_TEST

START_TEST(test_batch)
{
	uint8_t buf[1024] = { 0 };
	struct fmt_batch in = { .length = 100, .uuid = "0123456789abcde", .epoch = 3, .number = 4, .durable_through = 2, .segment = 9 }, out;

	memset(buf + FMT_BATCH_HEADER, 7, 100);
	fmt_put_batch(buf, &in);
	ck_assert_int_eq(fmt_get_batch(buf, sizeof(buf), &out), 0);
	ck_assert_uint_eq(out.length, 100);
	ck_assert_uint_eq(out.epoch, 3);
	ck_assert_uint_eq(out.number, 4);
	ck_assert_uint_eq(out.durable_through, 2);
	ck_assert_uint_eq(out.segment, 9);
	ck_assert_mem_eq(out.uuid, in.uuid, 16);
	for (size_t room = 0; room < FMT_BATCH_HEADER + 100; room++)
		ck_assert_int_eq(fmt_get_batch(buf, room, &out), -EUCLEAN);
	for (size_t bit = 0; bit < 8 * (FMT_BATCH_HEADER + 100); bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(fmt_get_batch(buf, sizeof(buf), &out) == -EUCLEAN, "bit %zu goes unnoticed", bit);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}
END_TEST

START_TEST(test_segment)
{
	uint8_t buf[FMT_SEGMENT_HEADER];
	struct fmt_segment in = { .uuid = "0123456789abcde", .epoch = 3, .number = 4, .kind = FMT_HEAD, .prev = 3, .prev_end = 640,
				  .first_batch = 11 }, out;

	fmt_put_segment(buf, &in);
	ck_assert_int_eq(fmt_get_segment(buf, &out), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	for (size_t bit = 0; bit < 8 * sizeof(buf); bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(fmt_get_segment(buf, &out), -EUCLEAN);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memset(buf, 0, sizeof(buf));
	ck_assert_int_eq(fmt_get_segment(buf, &out), -EUCLEAN);
}
END_TEST

START_TEST(test_super)
{
	static uint8_t page[FMT_PAGE];
	struct fmt_super in = { .label = "a label", .sequence = 5, .epoch = 6, .clean = true, .copies = 1, .end_segment = 7,
				.end_offset = 8, .end_batch = 9, .created = -1, .brick_count = FMT_BRICKS_MAX }, out;

	for (unsigned b = 0; b < FMT_BRICKS_MAX; b++) {
		memset(in.brick[b].uuid, (int)b, 16);
		memset(in.brick[b].endpoint, 'a', FMT_ENDPOINT_MAX - 1);
	}
	fmt_put_super(page, &in);
	ck_assert_int_eq(fmt_get_super(page, &out), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	ck_assert(fmt_super_magic(page));
	for (size_t bit = 0; bit < 8 * FMT_PAGE; bit++) {
		page[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_ne(fmt_get_super(page, &out), 0);
		page[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("format");
	TCase *tcase = tcase_create("format");

	tcase_add_test(tcase, test_records_both_ways);
	tcase_add_test(tcase, test_records_cut);
	tcase_add_test(tcase, test_records_changed);
	tcase_add_test(tcase, test_records_refused);
	tcase_add_test(tcase, test_batch);
	tcase_add_test(tcase, test_segment);
	tcase_add_test(tcase, test_super);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
