/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Repairs that are cut off: at every event of fs_repair() on a filesystem that is not damaged, the next check finds nothing but what
 * a mount mends, and everything is there; and again inside the repair that follows.  What a head segment that such a
 * repair left looks like hides no damage: where anything proves that it was part of the log, it is told.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "sim_fs.h"

enum { AFTER_CRASH, AFTER_UNMOUNT, AFTER_MOUNTS, AFTER_REPAIR, IMAGES };
static struct sim *image[IMAGES];
static char *dump[IMAGES];

static void add_leaks(struct sim *sim)
{
	ck_assert_int_eq(sim_poke_alloc(sim, 0, fmt_addr(FMT_PACKED, 700)), 0);
	ck_assert_int_eq(sim_poke_alloc(sim, 0, fmt_addr(FMT_FILE, 999999)), 0);
}

static void repair(struct sim *sim)
{
	struct fs_check_result result;
	struct fs *fs;

	ck_assert_msg(!sim_mount_repair(sim, &fs), "%s", fs_error_text());
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(!fs_repair(fs), "%s", fs_error_text());
	ck_assert_int_eq(fs_unmount(fs), 0);
}

static void make_image(unsigned k)
{
	struct sim_steps steps = { 0 };
	struct fs *fs;
	uint64_t file;

	image[k] = sim_make(1 + k % 2, 60);
	fs = sim_mounted(image[k], SIM_RW);
	sim_fill(fs, &steps);
	sim_steps_free(&steps);
	for (unsigned m = 0; k == AFTER_MOUNTS && m < 3; m++) {
		fs_abandon(fs);
		fs = sim_mounted(image[k], SIM_RW);
		sim_file(fs, FS_ROOT_INO, m ? m == 1 ? "second" : "third" : "first", 3000, m);
		ck_assert_int_eq(fs_tick(fs), 0);
	}
	/* an orphan */
	file = sim_file(fs, FS_ROOT_INO, "deleted", 9000, 1);
	ck_assert_int_eq(fs_open(fs, file, true), 0);
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "deleted"), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	if (k == AFTER_UNMOUNT || k == AFTER_REPAIR)
		ck_assert_int_eq(fs_unmount(fs), 0);
	else
		fs_abandon(fs);
	if (k == AFTER_REPAIR)
		repair(image[k]);
	add_leaks(image[k]);
	fs = sim_mounted(image[k], SIM_RO);
	dump[k] = fs_dump(fs);
	fs_unmount(fs);
}

static void make_images(void)
{
	for (unsigned k = 0; k < IMAGES; k++)
		make_image(k);
}

static void drop_images(void)
{
	for (unsigned k = 0; k < IMAGES; k++) {
		sim_delete(image[k]);
		free(dump[k]);
	}
}

/* ---- cut off */

#define SEEN_MAX 8192
static uint64_t seen[SEEN_MAX];
static unsigned images, deep;

static bool is_new(struct sim *sim)
{
	uint64_t hash = sim_hash(sim);

	for (unsigned k = 0; k < images; k++)
		if (seen[k] == hash)
			return false;
	ck_assert_uint_lt(images, SEEN_MAX);
	seen[images++] = hash;
	return true;
}

/* Nothing is wrong but what the next mount mends, and all is there. */
static void expect_sound(struct sim *sim, const char *expected, const char *what)
{
	struct fs_check_result result;
	struct fs *fs;
	char *text;

	ck_assert_msg(!sim_mount(sim, SIM_CHECK, &fs), "%s: %s", what, fs_error_text());
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(result.problems == result.repairable, "%s: %s", what, sim_all_told());
	text = fs_dump(fs);
	sim_same(text, expected, what);
	free(text);
	fs_unmount(fs);
}

/* A mount for writing: nothing is said, all is there, it works, and afterwards there is nothing to mend. */
static void expect_mountable(struct sim *sim, const char *expected, const char *what)
{
	struct fs *fs = sim_mounted(sim, SIM_RW);
	struct fs_info info;
	char *text = fs_dump(fs);

	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: read-only: %s", what, sim_all_told());
	sim_same(text, expected, what);
	free(text);
	sim_file(fs, FS_ROOT_INO, "made after", 3000, 1);
	ck_assert_int_eq(fs_tick(fs), 0);
	fs_abandon(fs);
	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: the second mount is read-only: %s", what, sim_all_told());
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "made after"), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
}

static void cut_repair(struct sim *sim, const char *expected, const char *name, unsigned depth);

static void cut_at(struct sim *sim, uint64_t event, unsigned how, const char *expected, const char *name, unsigned depth)
{
	static unsigned seed = 1;
	uint64_t atoms;
	uint8_t *selection;
	struct sim *cut, *copy;
	char what[160];

	sim_pieces(sim, event, NULL, 0, &atoms);
	if (!atoms && how && how < 5)
		return;
	selection = calloc(1, atoms / 8 + 1);
	for (uint64_t a = 0; a < atoms; a++)
		if (how == 1 || how == 5 || (how == 2 && rand_r(&seed) & 0x400) || (how == 3 && a < atoms / 2) || (how == 4 && a >= atoms / 2))
			selection[a / 8] |= (uint8_t)(1 << a % 8);
	cut = sim_image(sim, event, how < 5 ? SIM_POWER_CUT : SIM_CLIENT_CRASH, selection);
	ck_assert_ptr_nonnull(cut);
	free(selection);
	if (is_new(cut)) {
		snprintf(what, sizeof(what), "%s, cut after event %llu, %u", name, (unsigned long long)event, how);
		copy = sim_snapshot(cut);
		expect_sound(copy, expected, what);
		expect_mountable(copy, expected, what);
		sim_delete(copy);
		cut_repair(cut, expected, what, depth + 1);
	}
	sim_delete(cut);
}

/* Repairs sim; before, what each cut leaves is looked at. Afterwards there is nothing to repair. */
static void cut_repair(struct sim *sim, const char *expected, const char *name, unsigned depth)
{
	struct fs_check_result result;
	struct sim *copy;
	struct fs *fs;
	char *text;
	/* Of the repairs after a repair, by turns. */
	bool again = depth == 1 && deep++ % 32 == 0;

	ck_assert_msg(!sim_mount_repair(sim, &fs), "%s: %s", name, fs_error_text());
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(result.problems == result.repairable, "%s: %s", name, sim_all_told());
	sim_record(sim, true);
	ck_assert_msg(!fs_repair(fs), "%s: the repair: %s", name, fs_error_text());
	sim_record(sim, false);
	ck_assert_int_eq(fs_unmount(fs), 0);
	copy = sim_snapshot(sim);
	text = sim_clean_dump(copy);
	sim_same(text, expected, name);
	free(text);
	sim_delete(copy);
	for (uint64_t event = 0; (!depth || again) && event <= sim_events(sim); event++)
		for (unsigned how = 0; how < 6; how++)
			cut_at(sim, event, how, expected, name, depth);
}

START_TEST(test_cut)
{
	static const char *const names[IMAGES] = { "after a crash", "after an unmount", "after mounts that crashed", "after a repair" };
	struct sim *sim = sim_snapshot(image[_i]);

	images = deep = 0;
	cut_repair(sim, dump[_i], names[_i], 0);
	ck_assert_uint_gt(images, 30);
	sim_delete(sim);
}
END_TEST

/* ---- it hides nothing */

/* The last head segment of the log: what a repair began, and the first batch in it. */
static struct sim_batch last_segment(struct sim *sim)
{
	struct sim_batch *all = calloc(1024, sizeof(*all)), found = { 0 };
	size_t n = sim_log(sim, all, 1024);

	for (size_t k = 0; k < n; k++)
		if (all[k].first)
			found = all[k];
	free(all);
	ck_assert(found.first);
	return found;
}

static void flip(struct sim *sim, uint64_t addr)
{
	uint8_t byte;

	sim_read(sim, addr, &byte, 1);
	byte ^= 0x10;
	sim_write(sim, addr, &byte, 1);
}

static void expect_told(struct sim *sim, const char *one, const char *other, const char *what)
{
	struct fs_check_result result;
	struct fs *fs;

	ck_assert_msg(!sim_mount(sim, SIM_CHECK, &fs), "%s: %s", what, fs_error_text());
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_uint_gt(result.problems, 0);
	ck_assert_msg(sim_told(one), "%s: %s is not told, but: %s", what, one, sim_all_told());
	ck_assert_msg(!other || sim_told(other), "%s: %s is not told, but: %s", what, other, sim_all_told());
	fs_unmount(fs);
	free(sim_fsck(sim, what));
}

/* The one batch of a repair is damaged: the superblocks know of it; or the segment of the next mount does. */
START_TEST(test_batch_of_repair)
{
	struct sim *sim = sim_snapshot(image[AFTER_UNMOUNT]);
	struct sim_batch b;
	struct fs *fs;

	repair(sim);
	b = last_segment(sim);
	ck_assert_uint_eq(b.header.prev, 0);
	flip(sim, fmt_addr(FMT_LOG, b.segment) + b.offset + FMT_BATCH_HEADER + 9);
	expect_told(sim, "no-checkpoint", "log-short", "the batch of a repair");
	sim_delete(sim);

	for (unsigned mode = 0; mode < 2; mode++) {
		sim = sim_snapshot(image[AFTER_UNMOUNT]);
		repair(sim);
		b = last_segment(sim);
		fs = sim_mounted(sim, SIM_RW);
		for (unsigned k = 0; k < 3; k++) {
			sim_file(fs, FS_ROOT_INO, k ? k == 1 ? "two" : "three" : "one", 10, k);
			ck_assert_int_eq(fs_tick(fs), 0);
		}
		fs_abandon(fs);
		flip(sim, fmt_addr(FMT_LOG, b.segment) + b.offset + FMT_BATCH_HEADER + 9);
		if (mode)	/* its header, too: it is known by its batches */
			flip(sim, fmt_addr(FMT_LOG, last_segment(sim).segment) + 30);
		expect_told(sim, "no-checkpoint", "log-hole", mode ? "a batch before one without a header" : "a batch before a mount's");
		sim_delete(sim);
	}
}
END_TEST

/* What a repair leaves that died when its segment had a header and no batch. */
static struct sim *left_by_repair(struct fmt_segment *s, struct fmt_batch *b)
{
	struct sim *sim = sim_snapshot(image[AFTER_UNMOUNT]);
	static const uint8_t zero[FMT_BATCH_HEADER];
	struct sim_batch first;
	uint8_t header[FMT_SEGMENT_HEADER];
	struct sim *done = sim_snapshot(sim);

	repair(done);
	first = last_segment(done);
	*s = first.header;
	*b = first.batch;
	sim_read(done, fmt_addr(FMT_LOG, s->number), header, sizeof(header));
	sim_delete(done);
	sim_poke_alloc(sim, 0, fmt_addr(FMT_LOG, s->number));
	sim_write(sim, fmt_addr(FMT_LOG, s->number), header, sizeof(header));
	sim_write(sim, fmt_addr(FMT_LOG, s->number) + FMT_SEGMENT_HEADER, zero, sizeof(zero));
	return sim;
}

/* A segment, and if length is not 0 a batch with marks in it. */
static void put_segment(struct sim *sim, const struct fmt_segment *s, struct fmt_batch *b)
{
	uint8_t bytes[FMT_SEGMENT_HEADER + FMT_BATCH_HEADER + FMT_BATCH_ALIGN + FMT_MARKS_SIZE] = { 0 };

	sim_poke_alloc(sim, 0, fmt_addr(FMT_LOG, s->number));
	fmt_put_segment(bytes, s);
	if (b) {
		b->segment = s->number;
		b->length = FMT_MARKS_SIZE;
		fmt_put_marks(bytes + FMT_SEGMENT_HEADER + FMT_BATCH_HEADER, &(struct fmt_marks){ { 100000, 100000, 100000, 100000 } });
		fmt_put_batch(bytes + FMT_SEGMENT_HEADER, b);
	}
	sim_write(sim, fmt_addr(FMT_LOG, s->number), bytes, sizeof(bytes));
}

/* That segment is gone into for what can be read of it: a later one alone would be told, too. */
static void expect_gone_into(struct sim *sim, uint64_t segment, const char *what)
{
	char text[64];
	struct fs *fs;

	ck_assert_msg(!sim_mount(sim, SIM_CHECK, &fs), "%s: %s", what, fs_error_text());
	fs_unmount(fs);
	snprintf(text, sizeof(text), "the log goes on in segment %llu,", (unsigned long long)segment);
	ck_assert_msg(strstr(sim_all_told(), text), "%s: '%s' is not in: %s", what, text, sim_all_told());
	expect_told(sim, "log-hole", NULL, what);
}

START_TEST(test_proofs)
{
	struct fmt_segment s, next;
	struct fmt_batch b, batch;
	struct sim *sim = left_by_repair(&s, &b);
	struct fmt_super super;
	uint8_t page[FMT_PAGE];

	ck_assert_uint_eq(s.prev, 0);
	expect_sound(sim, dump[AFTER_UNMOUNT], "what a repair leaves");
	sim_delete(sim);

	/* a batch of its own, though not the first */
	sim = left_by_repair(&s, &b);
	batch = b;
	batch.number++;
	batch.durable_through++;
	batch.length = 0;
	uint8_t bytes[FMT_BATCH_HEADER] = { 0 };

	fmt_put_batch(bytes, &batch);
	sim_write(sim, fmt_addr(FMT_LOG, s.number) + FMT_SEGMENT_HEADER + 10 * FMT_BATCH_ALIGN, bytes, sizeof(bytes));
	expect_gone_into(sim, s.number, "a batch behind the first");
	sim_delete(sim);

	/* a segment that names it */
	sim = left_by_repair(&s, &b);
	next = s;
	next.number++;
	next.first_batch++;
	next.prev = s.number;
	next.prev_end = FMT_SEGMENT_HEADER + fmt_batch_size(b.length);
	put_segment(sim, &next, NULL);
	expect_gone_into(sim, s.number, "named by the next one");
	sim_delete(sim);

	/* a later batch, in a segment whose header does not name it: it does not follow this one, but was written later */
	sim = left_by_repair(&s, &b);
	next = s;
	next.number += 2;
	next.first_batch += 2;
	next.prev = s.number + 1;
	next.prev_end = 1000;
	batch = b;
	batch.number = next.first_batch;
	batch.durable_through = batch.number - 1;
	put_segment(sim, &next, &batch);
	expect_gone_into(sim, s.number, "before a later batch");
	sim_delete(sim);

	/* the end that superblocks record */
	sim = left_by_repair(&s, &b);
	for (unsigned brick = 0; brick < sim_bricks(sim); brick++)
		for (unsigned copy = 0; copy < 2; copy++) {
			ck_assert_int_eq(sim_peek(sim, brick, FMT_SUPER_ADDR + copy * FMT_PAGE, page, sizeof(page)), 0);
			if (fmt_get_super(page, &super))
				continue;
			super.clean = true;
			super.end_segment = s.number;
			super.end_offset = FMT_SEGMENT_HEADER + fmt_batch_size(b.length);
			super.end_batch = b.number;
			fmt_put_super(page, &super);
			ck_assert_int_eq(sim_poke(sim, brick, FMT_SUPER_ADDR + copy * FMT_PAGE, page, sizeof(page)), 0);
		}
	expect_gone_into(sim, s.number, "where the log ends");
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("repair");
	TCase *tcase = tcase_create("cut off"), *proofs = tcase_create("proofs");

	tcase_set_timeout(tcase, 900);
	tcase_add_unchecked_fixture(tcase, make_images, drop_images);
	tcase_add_loop_test(tcase, test_cut, 0, IMAGES);
	suite_add_tcase(suite, tcase);
	tcase_set_timeout(proofs, 900);
	tcase_add_unchecked_fixture(proofs, make_images, drop_images);
	tcase_add_test(proofs, test_batch_of_repair);
	tcase_add_test(proofs, test_proofs);
	suite_add_tcase(suite, proofs);
	return check_run(suite);
}
