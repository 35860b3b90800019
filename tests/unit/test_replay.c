/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay and comparison after damage: the bricks' bytes are changed behind the filesystem's back.  A torn tail is
 * dropped without a word, everything else is told by its code, and then nothing is written and nothing freed.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "sim_fs.h"

#define BATCHES 1024

static struct sim *crashed, *clean;	/* one of everything, on two bricks: after a crash, and after an unmount */
static struct sim_steps steps;
static struct sim_batch batch[BATCHES];	/* of crashed */
static size_t batches;

static void make_images(void)
{
	struct sim_steps again = { 0 };
	struct fs *fs;

	crashed = sim_make(2, 60);
	fs = sim_mounted(crashed, SIM_RW);
	sim_fill(fs, &steps);
	fs_abandon(fs);
	batches = sim_log(crashed, batch, BATCHES);

	clean = sim_make(2, 60);
	fs = sim_mounted(clean, SIM_RW);
	sim_fill(fs, &again);
	ck_assert_int_eq(fs_unmount(fs), 0);
	sim_same(again.step[again.count - 1], steps.step[steps.count - 1], "the second image");
	sim_steps_free(&again);
}

static void drop_images(void)
{
	sim_delete(crashed);
	sim_delete(clean);
	sim_steps_free(&steps);
}

static uint64_t used(struct sim *sim)
{
	uint64_t n = 0;

	for (unsigned b = 0; b < sim_bricks(sim); b++)
		n += sim_used(sim, b);
	return n;
}

/* fsck -y on a copy: afterwards it is clean, can be written to, and emptied. */
static void expect_repaired(struct sim *damaged, const char *what)
{
	struct sim *sim = sim_snapshot(damaged);
	char *dump = sim_fsck(sim, what);
	struct fs_info info;
	struct fs *fs;

	ck_assert_msg(dump != NULL, "%s: not repaired: %s", what, fs_error_text());
	free(dump);
	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: %s", what, sim_all_told());
	sim_look(fs, FS_ROOT_INO);
	sim_file(fs, FS_ROOT_INO, "made after", 9000, 1);
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}

/* Mounted with check and for writing: both tell the code, and the second changes nothing; then it is repaired. */
static void expect_damage(struct sim *sim, const char *code)
{
	struct fs_check_result result;
	uint64_t before, blocks = used(sim);
	struct fs_info info;
	struct fs *fs;
	char *dump;

	before = sim_visible(sim);
	fs = sim_mounted(sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(sim_told(code), "check does not tell %s but: %s", code, sim_all_told());
	ck_assert_uint_gt(result.problems, 0);
	ck_assert_uint_eq(result.repairable, 0);
	dump = fs_dump(fs);
	ck_assert_ptr_nonnull(dump);
	free(dump);
	fs_unmount(fs);

	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert_msg(sim_told(code), "mount does not tell %s but: %s", code, sim_all_told());
	ck_assert_msg(info.readonly, "mounted for writing though: %s", sim_all_told());
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "symlink"), -EROFS);
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_uint_eq(used(sim), blocks);
	ck_assert_uint_eq(sim_visible(sim), before);
	expect_repaired(sim, code);
}

/* Refused, with that errno and a text that holds `text`; nothing changed. fsck: also by the check, else that repairs it. */
static void expect_refused(struct sim *sim, int error, const char *text, bool fsck)
{
	static const int how[] = { SIM_CHECK, SIM_RO, SIM_RW };
	uint64_t before = sim_visible(sim);
	struct fs *fs;

	if (!fsck)
		expect_repaired(sim, text);
	for (unsigned k = !fsck; k < 3; k++) {
		ck_assert_int_eq(sim_mount(sim, how[k], &fs), error);
		ck_assert_msg(strstr(fs_error_text(), text), "'%s' is not in '%s'", text, fs_error_text());
		ck_assert_uint_eq(sim_visible(sim), before);
	}
}

/* A mount for writing takes it without a word of damage; then it is as step says, works, and is clean. */
static void expect_works(struct sim *sim, int step, const char *what)
{
	struct fs *fs = sim_mounted(sim, SIM_RW);
	struct fs_info info;
	char *dump = fs_dump(fs), *after;

	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: read-only: %s", what, sim_all_told());
	sim_same(dump, steps.step[step], what);
	sim_file(fs, FS_ROOT_INO, "made after", 3000, 1);
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "made after"), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	after = sim_clean_dump(sim);
	sim_same(after, dump, what);
	free(dump);
	free(after);
}

static uint64_t batch_addr(size_t k)
{
	return fmt_addr(FMT_LOG, batch[k].segment) + batch[k].offset;
}

static void flip(struct sim *sim, uint64_t addr)
{
	uint8_t byte;

	sim_read(sim, addr, &byte, 1);
	byte ^= 0x10;
	sim_write(sim, addr, &byte, 1);
}

START_TEST(test_undamaged)
{
	struct sim *sim = sim_snapshot(crashed);
	char *dump = sim_clean_dump(clean);

	sim_same(dump, steps.step[steps.count - 1], "after an unmount");
	free(dump);
	ck_assert_uint_gt(batches, 12);
	expect_works(sim, (int)steps.count - 1, "after a crash");
	sim_delete(sim);
}
END_TEST

/* The last batch is there up to a cut. */
START_TEST(test_torn_tail)
{
	uint32_t length = batch[batches - 1].batch.length, size = (uint32_t)fmt_batch_size(length);
	static const uint8_t zero[4096];

	ck_assert_uint_le(size, sizeof(zero));
	for (uint32_t cut = 0; cut < size; cut += 8) {
		struct sim *sim = sim_snapshot(crashed);
		bool whole = cut >= FMT_BATCH_HEADER + length;
		char what[64];

		snprintf(what, sizeof(what), "cut at byte %u of %u", cut, size);
		sim_write(sim, batch_addr(batches - 1) + cut, zero, size - cut);
		expect_works(sim, (int)steps.count - (whole ? 1 : 2), what);
		sim_delete(sim);
	}
}
END_TEST

/* Of the last batch, any atoms of 8 bytes are there. */
START_TEST(test_torn_anyhow)
{
	uint32_t length = batch[batches - 1].batch.length, size = (uint32_t)fmt_batch_size(length);
	uint8_t bytes[4096];
	unsigned seed = 1;

	for (unsigned k = 0; k < 40; k++) {
		struct sim *sim = sim_snapshot(crashed);
		char what[64];

		snprintf(what, sizeof(what), "torn anyhow, %u", k);
		sim_read(sim, batch_addr(batches - 1), bytes, size);
		for (uint32_t at = 0; at < size; at += 8)
			if (rand_r(&seed) & 0x100)
				memset(bytes + at, 0, 8);
		memset(bytes + (rand_r(&seed) % (length / 8)) * 8, 0, 8);
		if (!memcmp(bytes, (uint8_t[8]){ 0 }, 8) || k % 2)
			memset(bytes, 0, 8);
		sim_write(sim, batch_addr(batches - 1), bytes, size);
		expect_works(sim, (int)steps.count - 2, what);
		sim_delete(sim);
	}
}
END_TEST

/* A bad batch with durable ones behind it: each one of the head but the last. */
START_TEST(test_log_hole)
{
	for (size_t k = 0; k + 1 < batches; k++) {
		struct sim *sim = sim_snapshot(crashed);
		uint64_t s0 = batch[batches - 1].segment;

		if (batch[k].segment != s0) {
			sim_delete(sim);
			continue;	/* see the others */
		}
		sim_poke_alloc(sim, 0, fmt_addr(FMT_PACKED, 999));
		flip(sim, batch_addr(k) + FMT_BATCH_HEADER + 3);
		/* The record of the checkpoint is in that segment, too. */
		struct fs *fs;

		if (sim_mount(sim, SIM_RW, &fs)) {
			ck_assert_msg(sim_told("no-checkpoint"), "%s", sim_all_told());
			expect_repaired(sim, "no checkpoint");
		} else {
			fs_unmount(fs);
			expect_damage(sim, "log-hole");
		}
		sim_delete(sim);
	}
}
END_TEST

/* Several mounts that crashed: a head of several segments. */
static struct sim *many_segments(bool unmounted, struct sim_batch *all, size_t *count)
{
	struct sim *sim = sim_snapshot(crashed);
	struct fs *fs = NULL;
	char name[32];

	for (unsigned k = 0; k < 4; k++) {
		fs = sim_mounted(sim, SIM_RW);
		for (unsigned j = 0; j < 3; j++) {
			snprintf(name, sizeof(name), "later %u %u", k, j);
			sim_file(fs, FS_ROOT_INO, name, 2000, k);
			ck_assert_int_eq(fs_tick(fs), 0);
		}
		if (k < 3)
			fs_abandon(fs);
	}
	if (unmounted)
		ck_assert_int_eq(fs_unmount(fs), 0);
	else
		fs_abandon(fs);
	*count = sim_log(sim, all, BATCHES);
	return sim;
}

/* A segment in the middle: its header, its last batch, all of it, or its block is gone. */
START_TEST(test_segments)
{
	struct sim_batch *all = calloc(BATCHES, sizeof(*all));
	static const uint8_t zero[FMT_BLOCK];
	size_t n;

	for (unsigned mode = 0; mode < 8; mode++) {
		for (size_t from_end = 1; from_end <= 4; from_end++) {
			struct sim *sim = many_segments(mode & 1, all, &n);
			uint64_t segment = 0;
			size_t last = 0, left = from_end;

			/* the from_end-th segment from behind */
			for (size_t k = n; k-- > 0 && left;)
				if (k + 1 == n || all[k].segment != all[k + 1].segment) {
					segment = all[k].segment;
					last = k;
					left--;
				}
			ck_assert_uint_eq(left, 0);
			switch (mode / 2) {
			case 0:
				flip(sim, fmt_addr(FMT_LOG, segment) + 30);
				break;
			case 1:
				flip(sim, fmt_addr(FMT_LOG, segment) + all[last].offset + FMT_BATCH_HEADER);
				break;
			case 2:
				sim_write(sim, fmt_addr(FMT_LOG, segment), zero, FMT_BLOCK);
				break;
			case 3:
				sim_poke_free(sim, (unsigned)sim_where(sim, fmt_addr(FMT_LOG, segment)), fmt_addr(FMT_LOG, segment));
				break;
			}
			/* What stood last in an unclean log cannot be told from what was never written. */
			if (from_end == 1 && !(mode & 1) && mode / 2) {
				struct fs *fs = sim_mounted(sim, SIM_RW);
				struct fs_info info;

				fs_get_info(fs, &info);
				ck_assert_msg(!info.readonly, "mode %u: %s", mode, sim_all_told());
				ck_assert_int_eq(fs_unmount(fs), 0);
				free(sim_clean_dump(sim));
			} else {
				struct fs *fs;
				int r = sim_mount(sim, SIM_CHECK, &fs);

				ck_assert_msg(!r || r == -EUCLEAN, "mode %u, %zu: %d", mode, from_end, r);
				if (r) {
					expect_repaired(sim, "the log is lost");
				} else {
					ck_assert_msg(sim_told("log-hole") || sim_told("log-short") || sim_told("log-missing"),
						      "mode %u, segment %zu from behind: %s", mode, from_end, sim_all_told());
					fs_unmount(fs);
					expect_damage(sim, sim_told("log-hole") ? "log-hole" : sim_told("log-short") ?
						      "log-short" : "log-missing");
				}
			}
			sim_delete(sim);
		}
	}
	free(all);
}
END_TEST

/* A clean log that ends before, or behind, where the superblock says. */
START_TEST(test_clean_end)
{
	static struct sim_batch all[BATCHES];
	size_t n = sim_log(clean, all, BATCHES);
	struct sim *sim = sim_snapshot(clean);

	flip(sim, fmt_addr(FMT_LOG, all[n - 1].segment) + all[n - 1].offset + 9);
	expect_damage(sim, "log-short");
	sim_delete(sim);

	uint8_t record[FMT_MARKS_SIZE];

	sim = sim_snapshot(clean);
	fmt_put_marks(record, &(struct fmt_marks){ { 100000, 100000, 100000, 100000 } });
	sim_forge(sim, record, sizeof(record));
	expect_damage(sim, "log-short");
	sim_delete(sim);
}
END_TEST

static uint64_t checkpoint_segment(struct sim *sim)
{
	struct fmt_segment header;
	uint8_t buf[FMT_SEGMENT_HEADER];

	for (unsigned b = 0; b < sim_bricks(sim); b++)
		for (uint64_t addr, from = fmt_addr(FMT_LOG, 0); sim_next(sim, b, from, &addr) && fmt_kind(addr) == FMT_LOG;
		     from = addr + FMT_BLOCK) {
			sim_read(sim, addr, buf, sizeof(buf));
			if (!fmt_get_segment(buf, &header) && header.kind == FMT_CHECKPOINT)
				return addr;
		}
	ck_abort_msg("there is no checkpoint segment");
	return 0;
}

START_TEST(test_checkpoint_segment)
{
	static const uint32_t where[] = { 10, 40, FMT_SEGMENT_HEADER + 20, FMT_SEGMENT_HEADER + FMT_BATCH_HEADER + 200 };
	uint64_t addr = checkpoint_segment(crashed);

	for (unsigned k = 0; k < sizeof(where) / sizeof(where[0]); k++) {
		struct sim *sim = sim_snapshot(crashed);
		struct fs *fs;
		int r;

		flip(sim, addr + where[k]);
		r = sim_mount(sim, SIM_RW, &fs);	/* the root directory is in it */
		ck_assert(sim_told("checkpoint-bad"));
		if (r)
			expect_refused(sim, -EUCLEAN, "root", false);
		else
			fs_unmount(fs);
		sim_delete(sim);
	}
	struct sim *sim = sim_snapshot(crashed);
	struct fs *fs;

	sim_poke_free(sim, (unsigned)sim_where(sim, addr), addr);
	if (!sim_mount(sim, SIM_RW, &fs))
		fs_unmount(fs);
	ck_assert_msg(sim_told("checkpoint-missing"), "%s", sim_all_told());
	expect_repaired(sim, "no checkpoint segment");
	sim_delete(sim);
}
END_TEST

/* ---- superblocks */

static void spoil_super(struct sim *sim, unsigned brick, unsigned copy, const void *with, uint32_t length)
{
	ck_assert_int_eq(sim_poke(sim, brick, FMT_SUPER_ADDR + copy * FMT_PAGE + 100, with, length), 0);
}

START_TEST(test_super_copies)
{
	for (unsigned image = 0; image < 2; image++)
		for (unsigned brick = 0; brick < 2; brick++) {
			for (unsigned copy = 0; copy < 2; copy++) {
				struct sim *sim = sim_snapshot(image ? clean : crashed);
				struct fs_check_result result;
				struct fs *fs;

				spoil_super(sim, brick, copy, "damage", 6);
				fs = sim_mounted(sim, SIM_CHECK);
				ck_assert(sim_told("super-copy"));
				ck_assert_int_eq(fs_check(fs, &result), 0);
				ck_assert_uint_ge(result.repairable, 1);
				ck_assert_uint_eq(result.problems, result.repairable);
				fs_unmount(fs);
				expect_works(sim, (int)steps.count - 1, "with one copy of a superblock");
				fs = sim_mounted(sim, SIM_RW);
				ck_assert_msg(!sim_told("super-copy"), "%s", sim_all_told());
				fs_unmount(fs);
				sim_delete(sim);
			}
			struct sim *sim = sim_snapshot(image ? clean : crashed);

			spoil_super(sim, brick, 0, "damage", 6);
			spoil_super(sim, brick, 1, "damage", 6);
			expect_refused(sim, -EUCLEAN, brick ? "sim:1" : "sim:0", false);
			sim_delete(sim);
		}
}
END_TEST

/* The superblock of each brick gone, of another filesystem, of another brick. */
START_TEST(test_super_foreign)
{
	struct sim *sim = sim_snapshot(clean), *other = sim_make(2, 60);
	uint8_t pages[2 * FMT_PAGE];

	sim_poke_free(sim, 1, FMT_SUPER_ADDR);
	expect_refused(sim, -ENOENT, "sim:1", true);
	sim_delete(sim);

	sim = sim_snapshot(clean);
	ck_assert_int_eq(sim_peek(other, 1, FMT_SUPER_ADDR, pages, sizeof(pages)), 0);
	ck_assert_int_eq(sim_poke(sim, 1, FMT_SUPER_ADDR, pages, sizeof(pages)), 0);
	expect_refused(sim, -EINVAL, "sim:1", true);
	sim_delete(sim);
	sim_delete(other);

	sim = sim_snapshot(clean);
	memset(pages, 0, sizeof(pages));
	ck_assert_int_eq(sim_poke(sim, 0, FMT_SUPER_ADDR, pages, sizeof(pages)), 0);
	expect_refused(sim, -EUCLEAN, "sim:0", false);
	sim_delete(sim);

	sim = sim_snapshot(clean);
	sim_set_uuid(sim, 1, (const uint8_t[16]){ 1, 2, 3 });
	expect_refused(sim, -EUCLEAN, "sim:1", true);
	sim_delete(sim);
}
END_TEST

START_TEST(test_brick_missing)
{
	struct sim *sim = sim_snapshot(clean);
	struct fs *fs;
	int r;

	sim_away(sim, 1, true, 0);
	r = sim_mount(sim, SIM_RW, &fs);
	ck_assert_int_lt(r, 0);
	ck_assert_msg(strstr(fs_error_text(), "sim:1"), "%s", fs_error_text());
	sim_away(sim, 1, false, 0);
	expect_works(sim, (int)steps.count - 1, "after the brick came back");
	sim_delete(sim);
}
END_TEST

/* A crash of the mount between the bricks' superblocks: the epochs differ, and the higher one counts. */
START_TEST(test_super_behind)
{
	struct sim *sim = sim_snapshot(clean);
	uint8_t pages[2][2 * FMT_PAGE];
	struct fs_info info;
	struct fs *fs;
	uint64_t epoch;

	for (unsigned b = 0; b < 2; b++)
		ck_assert_int_eq(sim_peek(sim, b, FMT_SUPER_ADDR, pages[b], sizeof(pages[b])), 0);
	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	epoch = info.epoch;
	fs_abandon(fs);
	for (unsigned b = 0; b < 2; b++) {
		struct sim *half = sim_snapshot(sim);

		ck_assert_int_eq(sim_poke(half, b, FMT_SUPER_ADDR, pages[b], sizeof(pages[b])), 0);
		fs = sim_mounted(half, SIM_RW);
		fs_get_info(fs, &info);
		ck_assert_uint_eq(info.epoch, epoch + 1);
		ck_assert(!info.clean);
		fs_abandon(fs);
		expect_works(half, (int)steps.count - 1, "one superblock behind");
		sim_delete(half);
	}
	sim_delete(sim);
}
END_TEST

/* Every newer copy is damaged after two mounts that crashed: the older copies know an epoch that was used since. */
START_TEST(test_epoch_once)
{
	struct sim *sim = sim_snapshot(crashed);
	struct fs_info info;
	struct fs *fs;
	uint64_t epoch = 0;

	for (unsigned k = 0; k < 2; k++) {
		fs = sim_mounted(sim, SIM_RW);
		fs_get_info(fs, &info);
		ck_assert_uint_gt(info.epoch, epoch);
		epoch = info.epoch;
		sim_file(fs, FS_ROOT_INO, k ? "second" : "first", 10, k);
		ck_assert_int_eq(fs_tick(fs), 0);
		fs_abandon(fs);
	}
	for (unsigned b = 0; b < 2; b++) {
		struct fmt_super copy[2];
		uint8_t page[2][FMT_PAGE];

		ck_assert_int_eq(sim_peek(sim, b, FMT_SUPER_ADDR, page, sizeof(page)), 0);
		for (unsigned k = 0; k < 2; k++)
			ck_assert_int_eq(fmt_get_super(page[k], &copy[k]), 0);
		spoil_super(sim, b, copy[1].sequence > copy[0].sequence, "damage", 6);
	}
	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert(sim_told("super-copy"));
	ck_assert_uint_gt(info.epoch, epoch);
	sim_find(fs, FS_ROOT_INO, "first");
	sim_find(fs, FS_ROOT_INO, "second");
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}
END_TEST

/* ---- the list of blocks */

START_TEST(test_blocks)
{
	struct sim *sim = sim_snapshot(crashed);
	uint64_t addr;
	unsigned b;

	sim_poke_alloc(sim, 1, (uint64_t)7 << FMT_KIND_SHIFT);
	expect_damage(sim, "foreign-block");
	sim_delete(sim);

	sim = sim_snapshot(crashed);
	sim_poke_alloc(sim, 1, FMT_SUPER_ADDR + FMT_BLOCK);
	expect_damage(sim, "foreign-block");
	sim_delete(sim);

	sim = sim_snapshot(crashed);
	sim_poke_alloc(sim, 1, 0);
	expect_damage(sim, "foreign-block");
	sim_delete(sim);

	/* every block of the filesystem on the other brick, too */
	for (b = 0; b < 2; b++)
		for (uint64_t from = FMT_SUPER_ADDR + FMT_BLOCK; sim_next(crashed, b, from, &addr); from = addr + FMT_BLOCK) {
			sim = sim_snapshot(crashed);
			sim_poke_alloc(sim, !b, addr);
			struct fs *fs;

			/* When the log itself is double, an empty block may be read in its place. */
			if (!sim_mount(sim, SIM_RW, &fs)) {
				fs_unmount(fs);
				expect_damage(sim, "block-twice");
			} else {
				ck_assert(sim_told("block-twice"));
			}
			expect_repaired(sim, "a block on two bricks");
			sim_delete(sim);
		}
}
END_TEST

START_TEST(test_leaks)
{
	static const struct { unsigned brick; uint64_t addr; } leak[] = {
		{ 0, ((uint64_t)FMT_LOG << FMT_KIND_SHIFT) + 5000 * FMT_BLOCK },
		{ 1, ((uint64_t)FMT_PACKED << FMT_KIND_SHIFT) + 70 * FMT_BLOCK },
		{ 1, ((uint64_t)FMT_FILE << FMT_KIND_SHIFT) + 5 * FMT_BLOCK },		/* in "large"'s range, beyond its end */
		{ 0, ((uint64_t)FMT_FILE << FMT_KIND_SHIFT) + 99999 * FMT_BLOCK },
	};
	struct sim *sim = sim_snapshot(clean);
	struct fs_check_result result;
	struct fs_info info;
	uint64_t before = used(sim);
	struct fs *fs;

	for (unsigned k = 0; k < 4; k++)
		ck_assert_int_eq(sim_poke_alloc(sim, leak[k].brick, leak[k].addr), 0);
	fs = sim_mounted(sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert(sim_told("leak"));
	ck_assert_uint_eq(result.problems, 4);
	ck_assert_uint_eq(result.repairable, 4);
	fs_unmount(fs);
	ck_assert_uint_eq(used(sim), before + 4);
	fs = sim_mounted(sim, SIM_RO);
	fs_unmount(fs);
	ck_assert_uint_eq(used(sim), before + 4);

	/* damaged: they stay */
	struct sim *damaged = sim_snapshot(sim);

	sim_poke_alloc(damaged, 0, (uint64_t)9 << FMT_KIND_SHIFT);
	expect_damage(damaged, "foreign-block");
	sim_delete(damaged);

	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert_uint_eq(info.leaked, 4);
	for (unsigned k = 0; k < 4; k++)
		ck_assert(!sim_has(sim, leak[k].brick, leak[k].addr));
	fs_unmount(fs);
	ck_assert_uint_le(used(sim), before + 1);
	expect_works(sim, (int)steps.count - 1, "after leaks");
	sim_delete(sim);
}
END_TEST

/* Each block of files, freed behind the filesystem's back. */
START_TEST(test_lost)
{
	unsigned files = 0, packed = 0;
	uint64_t addr;

	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = fmt_addr(FMT_PACKED, 0); sim_next(crashed, b, from, &addr); from = addr + FMT_BLOCK) {
			struct sim *sim = sim_snapshot(crashed);

			sim_poke_free(sim, b, addr);
			expect_damage(sim, fmt_kind(addr) == FMT_PACKED ? "pages-lost" : "blocks-lost");
			if (fmt_kind(addr) == FMT_PACKED)
				packed++;
			else
				files++;
			sim_delete(sim);
		}
	ck_assert_uint_ge(packed, 1);
	ck_assert_uint_ge(files, 4);
}
END_TEST

#define PIECE (256u << 10)
#define PIECES 1024

/* Every piece of every file: the sum of its bytes, or a negative errno. */
struct reading {
	int64_t sum[PIECES];
	unsigned n;
};

struct found {
	struct stat st[256];
	unsigned n;
};

static int note(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct found *found = arg;

	(void)position;
	ck_assert_uint_lt(found->n, 256);
	if (strcmp(name, ".") && strcmp(name, ".."))
		found->st[found->n++] = *st;
	return 0;
}

static void read_all(struct fs *fs, uint64_t dir, struct reading *all)
{
	static uint8_t buffer[PIECE];
	struct found found = { .n = 0 };
	struct stat st;

	ck_assert_int_eq(fs_readdir(fs, dir, 0, false, note, &found), 0);
	for (unsigned f = 0; f < found.n; f++) {
		uint64_t ino = found.st[f].st_ino;

		if (S_ISDIR(found.st[f].st_mode))
			read_all(fs, ino, all);
		if (!S_ISREG(found.st[f].st_mode))
			continue;
		ck_assert_int_eq(fs_getattr(fs, ino, &st), 0);
		for (uint64_t at = 0; at < (uint64_t)st.st_size; at += PIECE) {
			int64_t n = fs_read(fs, ino, buffer, PIECE, at), sum = n;

			for (int64_t k = 0; k < n; k++)
				sum = (sum * 31 + buffer[k]) & INT64_C(0xffffffffffff);
			ck_assert_uint_lt(all->n, PIECES);
			all->sum[all->n++] = sum;
		}
	}
}

/* Lost bytes are an error to who reads them, never zeroes; all others are as they were. */
START_TEST(test_lost_read)
{
	struct fs *fs = sim_mounted(clean, SIM_RO);
	static struct reading before;
	unsigned images = 0;
	uint64_t addr;

	read_all(fs, FS_ROOT_INO, &before);
	fs_unmount(fs);
	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = fmt_addr(FMT_PACKED, 0); sim_next(clean, b, from, &addr); from = addr + FMT_BLOCK) {
			struct sim *sim = sim_snapshot(clean);
			struct reading after = { .n = 0 };
			unsigned errors = 0;

			sim_poke_free(sim, b, addr);
			fs = sim_mounted(sim, SIM_RW);
			read_all(fs, FS_ROOT_INO, &after);
			ck_assert_uint_eq(after.n, before.n);
			for (unsigned k = 0; k < after.n; k++) {
				ck_assert_msg(after.sum[k] == before.sum[k] || after.sum[k] == -EIO,
					      "piece %u reads as something else without block %016" PRIx64 ": %" PRId64, k, addr,
					      after.sum[k]);
				errors += after.sum[k] == -EIO;
			}
			ck_assert_uint_ge(errors, 1);
			fs_unmount(fs);
			sim_delete(sim);
			images++;
		}
	ck_assert_uint_ge(images, 5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replay");
	TCase *tcase = tcase_create("damage");

	tcase_set_timeout(tcase, 300);
	tcase_add_unchecked_fixture(tcase, make_images, drop_images);
	tcase_add_test(tcase, test_undamaged);
	tcase_add_test(tcase, test_torn_tail);
	tcase_add_test(tcase, test_torn_anyhow);
	tcase_add_test(tcase, test_log_hole);
	tcase_add_test(tcase, test_segments);
	tcase_add_test(tcase, test_clean_end);
	tcase_add_test(tcase, test_checkpoint_segment);
	tcase_add_test(tcase, test_super_copies);
	tcase_add_test(tcase, test_super_foreign);
	tcase_add_test(tcase, test_super_behind);
	tcase_add_test(tcase, test_epoch_once);
	tcase_add_test(tcase, test_brick_missing);
	tcase_add_test(tcase, test_blocks);
	tcase_add_test(tcase, test_leaks);
	tcase_add_test(tcase, test_lost);
	tcase_add_test(tcase, test_lost_read);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
