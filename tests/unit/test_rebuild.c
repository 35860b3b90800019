/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No superblock is whole, on one brick or on all: fsck -y makes it anew from the log, and everything is there, with its UUID, label and an epoch that
 * no mount had; it is refused, and nothing changed, when a brick is missing or of somebody else, when there is no log, and when the log
 * does not say; a brick that is said to be lost may be missing.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "sim_fs.h"

static const char *const endpoints[] = { "sim:0", "sim:1", "sim:2", "sim:3" };

static void super_of(struct sim *sim, unsigned brick, struct fmt_super *s)
{
	uint8_t page[2][FMT_PAGE];
	struct fmt_super two;

	ck_assert_int_eq(sim_peek(sim, brick, FMT_SUPER_ADDR, page, sizeof(page)), 0);
	ck_assert_int_eq(fmt_get_super(page[0], s) && fmt_get_super(page[1], s), 0);
	if (!fmt_get_super(page[0], s) && !fmt_get_super(page[1], &two) && two.sequence > s->sequence)
		*s = two;
	else if (fmt_get_super(page[0], s))
		fmt_get_super(page[1], s);
}

/* Both copies on every brick: zeroes, or random bytes in them. */
static void lose_supers(struct sim *sim, bool zero)
{
	uint8_t page[2][FMT_PAGE];

	for (unsigned b = 0; b < sim_bricks(sim); b++) {
		ck_assert_int_eq(sim_peek(sim, b, FMT_SUPER_ADDR, page, sizeof(page)), 0);
		if (zero)
			memset(page, 0, sizeof(page));
		for (unsigned k = 0; k < 2 && !zero; k++)
			page[k][100 * b + 50 * k + 20] ^= 0x40;
		sim_poke(sim, b, FMT_SUPER_ADDR, page, sizeof(page));
	}
}

static struct sim *make(unsigned bricks, bool clean)
{
	struct sim *sim = sim_make(bricks, 60);
	struct sim_steps steps = { 0 };
	struct fs *fs = sim_mounted(sim, SIM_RW);

	sim_fill(fs, &steps);
	sim_steps_free(&steps);
	fs_abandon(fs);
	fs = sim_mounted(sim, SIM_RW);
	sim_file(fs, FS_ROOT_INO, "second mount", 3000, 1);
	ck_assert_int_eq(fs_tick(fs), 0);
	if (clean)
		ck_assert_int_eq(fs_unmount(fs), 0);
	else
		fs_abandon(fs);
	return sim;
}

static char *dump_of(struct sim *sim)
{
	struct fs *fs = sim_mounted(sim, SIM_RO);
	char *dump = fs_dump(fs);

	fs_unmount(fs);
	return dump;
}

static void use(struct sim *sim)
{
	struct fs *fs = sim_mounted(sim, SIM_RW);
	struct fs_info info;

	fs_get_info(fs, &info);
	ck_assert(!info.readonly);
	sim_look(fs, FS_ROOT_INO);
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
}

START_TEST(test_all)
{
	static const unsigned bricks[] = { 1, 2, 3 };

	for (unsigned k = 0; k < 12; k++) {
		struct sim *sim = make(bricks[k / 4], k & 1);
		struct fmt_super before, after;
		char *expected = dump_of(sim), *dump;
		struct fs *fs;

		super_of(sim, 0, &before);
		lose_supers(sim, k & 2);
		ck_assert_int_eq(sim_mount(sim, SIM_RW, &fs), -EUCLEAN);
		dump = sim_fsck(sim, "no superblock");
		ck_assert_msg(dump != NULL, "%u: %s", k, fs_error_text());
		ck_assert_msg(sim_told("super-gone"), "%s", sim_all_told());
		sim_same(dump, expected, "with a superblock from the log");
		for (unsigned b = 0; b < bricks[k / 4]; b++) {
			super_of(sim, b, &after);
			ck_assert(!memcmp(before.uuid, after.uuid, 16));
			ck_assert_str_eq(before.label, after.label);
			ck_assert_int_eq(before.created, after.created);
			ck_assert_uint_eq(after.brick_count, bricks[k / 4]);
			ck_assert(after.clean);
			ck_assert_uint_gt(after.epoch, before.epoch + 1);
		}
		use(sim);
		free(dump);
		free(expected);
		sim_delete(sim);
	}
}
END_TEST

/* What a check says, and that it changes nothing. */
static void refused(struct sim *sim, size_t named, const char *word)
{
	struct fs_options o = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoints, .endpoint_count = named, .check = true,
		.readonly = true, .manual = true, .timeo_ms = 100, .wait_ms = 1, .lanes = 1, .lost = sim_lost, .lost_count = sim_lost_count,
	};
	uint64_t before = sim_visible(sim);
	struct fs *fs;
	int r = fs_mount(&fs, &o);

	ck_assert_msg(r < 0, "it is not refused, but wants: %s", word);
	ck_assert_msg(strstr(fs_error_text(), word), "it says: %s", fs_error_text());
	ck_assert_uint_eq(sim_visible(sim), before);
}

START_TEST(test_missing)
{
	struct sim *sim = make(3, true);

	lose_supers(sim, false);
	refused(sim, 2, "the log is of 3 bricks; 2 are named");
	refused(sim, 1, "--lost-brick");
	sim_delete(sim);
}
END_TEST

/* The third of three is gone for good, and the others have lost their superblocks. */
START_TEST(test_lost)
{
	struct sim *sim = make(3, false);
	uint8_t uuid[1][16], page[FMT_PAGE];
	struct fmt_super s, after;
	char *dump;

	super_of(sim, 0, &s);
	lose_supers(sim, true);
	sim_away(sim, 2, true, 0);
	memset(uuid, 9, sizeof(uuid));
	sim_lost = (const uint8_t (*)[16])(const void *)uuid;
	sim_lost_count = 1;
	refused(sim, 2, "does not belong");
	/* its number is the order in which mkfs met them */
	memcpy(uuid[0], s.brick[2].uuid, 16);
	dump = sim_fsck(sim, "a lost brick");
	ck_assert_msg(dump != NULL, "%s", fs_error_text());
	ck_assert(sim_told("super-gone") && sim_told("brick-lost"));
	free(dump);
	super_of(sim, 1, &after);
	ck_assert_uint_eq(after.brick_count, 2);
	/* The log that the repair wrote is of two: lost again, they are all. */
	memset(page, 0, sizeof(page));
	for (unsigned b = 0; b < 2; b++)
		for (unsigned k = 0; k < 2; k++)
			sim_poke(sim, b, FMT_SUPER_ADDR + k * FMT_PAGE, page, sizeof(page));
	sim_lost_count = 0;
	refused(sim, 1, "the log is of 2 bricks; 1 are named");
	sim_delete(sim);
}
END_TEST

/* A brick that is not of it, has no log, or has one that does not say. */
START_TEST(test_foreign)
{
	struct sim *sim = make(2, true), *other;
	uint8_t bytes[256], header[FMT_SEGMENT_HEADER];
	uint64_t addr;
	char *dump, *again;

	/* somebody else's, also where a superblock would be */
	other = sim_new();
	sim_add_brick(other, 40);
	refused(other, 1, "mkfs");
	memset(bytes, 7, sizeof(bytes));
	sim_poke_alloc(other, 0, FMT_SUPER_ADDR);
	sim_poke(other, 0, FMT_SUPER_ADDR, bytes, sizeof(bytes));
	sim_poke_alloc(other, 0, fmt_addr(FMT_LOG, 5));
	sim_poke(other, 0, fmt_addr(FMT_LOG, 5), bytes, sizeof(bytes));
	refused(other, 1, "no log of a brickfs");
	sim_delete(other);
	/* beside the bricks of a filesystem */
	lose_supers(sim, true);
	sim_add_brick(sim, 40);
	sim_poke_alloc(sim, 2, FMT_SUPER_ADDR);
	sim_poke(sim, 2, FMT_SUPER_ADDR, bytes, sizeof(bytes));
	refused(sim, 3, "the log is of 2 bricks; 3 are named");
	/* one of them in the place of another */
	sim_set_uuid(sim, 1, bytes);
	refused(sim, 2, "does not belong");
	sim_delete(sim);
	/* from before segments said so: it mounts, and is not guessed at */
	sim = make(2, false);
	dump = dump_of(sim);
	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = fmt_addr(FMT_LOG, 0); sim_next(sim, b, from, &addr) && fmt_kind(addr) == FMT_LOG; from = addr + FMT_BLOCK) {
			struct fmt_segment s;

			ck_assert_int_eq(sim_peek(sim, b, addr, header, sizeof(header)), 0);
			if (fmt_get_segment(header, &s) || s.kind != FMT_HEAD)
				continue;	/* a checkpoint's is under a checksum of its own */
			ck_assert_uint_eq(s.brick_count, 2);
			s.brick_count = 0;
			s.bricks = 0;
			fmt_put_segment(header, &s);
			sim_poke(sim, b, addr, header, sizeof(header));
		}
	again = dump_of(sim);
	sim_same(again, dump, "old segments");
	free(again);
	free(dump);
	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = fmt_addr(FMT_LOG, 0); sim_next(sim, b, from, &addr) && fmt_kind(addr) == FMT_LOG; from = addr + FMT_BLOCK) {
			struct fmt_segment s;

			ck_assert_int_eq(sim_peek(sim, b, addr, header, sizeof(header)), 0);
			if (!fmt_get_segment(header, &s) && s.brick_count)
				sim_poke_free(sim, b, addr);
		}
	lose_supers(sim, false);
	refused(sim, 2, "did not note");
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rebuild");
	TCase *tcase = tcase_create("rebuild");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, test_all);
	tcase_add_test(tcase, test_missing);
	tcase_add_test(tcase, test_lost);
	tcase_add_test(tcase, test_foreign);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
