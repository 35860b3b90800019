/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck's repairs: every kind of damage that the damaging tool knows is told by its code and repaired, the second check is
 * clean, what was not named is as it was, and everything can be used; -p does what is safe and else nothing; a crash
 * anywhere in a repair leaves what can be repaired to the same end; what a lost brick took is named.
 *
 * In the environment, BRICKFS_TEST_SEEDS: so many places for each kind of damage, and with more than one more crashes; BRICKFS_TEST_KIND: only that one.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check_run.h"
#include "../damage/damage.h"
#include "intact.h"

static const char *const endpoints[] = { "sim:0", "sim:1", "sim:2", "sim:3" };

#define IMAGES 3
static struct sim *image[IMAGES];	/* after a crash; after an unmount; after crashes of several mounts */
static const unsigned bricks[IMAGES] = { 2, 3, 2 };
static struct intact intact[IMAGES];
static struct damage_touched touched;

static void make_image(unsigned k)
{
	struct sim_steps steps = { 0 };
	char name[32];
	struct fs *fs;

	image[k] = sim_make(bricks[k], 40);
	fs = sim_mounted(image[k], SIM_RW);
	sim_fill(fs, &steps);
	sim_steps_free(&steps);
	sim_file(fs, FS_ROOT_INO, "dense", (5u << 20) + 5, 3);
	for (unsigned m = 0; k == 2 && m < 3; m++) {
		ck_assert_int_eq(fs_tick(fs), 0);
		fs_abandon(fs);
		fs = sim_mounted(image[k], SIM_RW);
		for (unsigned j = 0; j < 5; j++) {
			snprintf(name, sizeof(name), "mount %u %u", m, j);
			sim_file(fs, FS_ROOT_INO, name, 700 * j, m);
			ck_assert_int_eq(fs_tick(fs), 0);
		}
	}
	ck_assert_int_eq(fs_tick(fs), 0);
	if (k == 1)
		ck_assert_int_eq(fs_unmount(fs), 0);
	else
		fs_abandon(fs);
	fs = sim_mounted(image[k], SIM_CHECK);
	intact_note(&intact[k], fs);
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
		intact_free(&intact[k]);
	}
}

/* A damaged copy of an image; NULL: that has nothing to damage. */
static struct sim *damaged(unsigned k, const struct damage_kind *kind, unsigned seed)
{
	struct sim *sim;
	int r;

	if (kind->bricks > bricks[k])
		return NULL;
	sim = sim_snapshot(image[k]);
	r = damage_apply(&backend_sim, sim, endpoints, bricks[k], kind->name, seed, NULL, &touched);
	ck_assert_msg(!r || r == -ENODATA, "%s: %s: %s", kind->name, strerror(-r), fs_error_text());
	intact_begin(&intact[k]);
	for (size_t n = 0; n < touched.count; n++)
		intact_touch(&intact[k], touched.ino[n]);
	if (!r)
		return sim;
	sim_delete(sim);
	return NULL;
}

static bool left_out(const struct damage_kind *kind)
{
	const char *only = getenv("BRICKFS_TEST_KIND");

	return only && *only && strcmp(only, kind->name);
}

static unsigned seeds(void)
{
	const char *text = getenv("BRICKFS_TEST_SEEDS");

	return text && *text ? (unsigned)strtoul(text, NULL, 0) : 1;
}

static void use_all(struct sim *sim, const char *what)
{
	struct fs *fs = sim_mounted(sim, SIM_RW);
	struct fs_info info;

	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: repaired, and read-only: %s", what, sim_all_told());
	sim_look(fs, FS_ROOT_INO);
	sim_file(fs, FS_ROOT_INO, "made after", 3u << 20, 1);
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_msg(!fs_unmount(fs), "%s: %s", what, fs_error_text());
	free(sim_clean_dump(sim));
}

START_TEST(test_corpus)
{
	const struct damage_kind *kind = &damage_kinds[_i];
	unsigned done = 0;

	if (left_out(kind))
		return;
	for (unsigned k = 0; k < IMAGES; k++)
		for (unsigned seed = 1; seed <= seeds(); seed++) {
			struct sim *sim = damaged(k, kind, seed + k);
			char what[64], *after;

			if (!sim)
				continue;
			snprintf(what, sizeof(what), "%s, image %u, seed %u", kind->name, k, seed + k);
			after = sim_fsck(sim, what);
			ck_assert_msg(after != NULL, "%s: not repaired: %s", what, fs_error_text());
			if (kind->code)
				ck_assert_msg(sim_told(kind->code), "%s: %s is not told, but: %s", what, kind->code, sim_all_told());
			intact_check(&intact[k], after, what);
			free(after);
			use_all(sim, what);
			sim_delete(sim);
			done++;
		}
	ck_assert_msg(done, "%s: nowhere", kind->name);
}
END_TEST

/* With -p: what is safe is repaired, and when there is anything else, not a byte changes. */
START_TEST(test_safe)
{
	const struct damage_kind *kind = &damage_kinds[_i];
	struct sim *sim = left_out(kind) ? NULL : damaged(1, kind, 5);
	const struct fs_problem *problem = kind->code ? fs_problem_find(kind->code) : NULL;
	struct fs_check_result result;
	uint64_t before;
	struct fs *fs;

	if (!sim || !problem) {
		if (sim)
			sim_delete(sim);
		return;
	}
	before = sim_visible(sim);
	sim_safe_only = true;
	ck_assert_int_eq(sim_mount_repair(sim, &fs), 0);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	sim_safe_only = false;
	if (problem->safe)
		ck_assert_msg(!result.declined, "%s: %s", kind->name, sim_all_told());
	else
		ck_assert_uint_gt(result.declined, 0);
	if (result.declined) {
		ck_assert_int_eq(fs_repair(fs), -ECANCELED);
		fs_unmount(fs);
		ck_assert_uint_eq(sim_visible(sim), before);
	} else if (result.problems > result.repairable) {
		ck_assert_msg(!fs_repair(fs), "%s: %s", kind->name, fs_error_text());
		fs_unmount(fs);
		free(sim_clean_dump(sim));
	} else {
		fs_unmount(fs);
	}
	sim_delete(sim);
}
END_TEST

/* ---- crashes in the repair */

/*
 * Of what is told now, all was told before: what a cut off repair leaves is no new damage. But where the record of the
 * checkpoint is lost, everything that looks like a part of one is looked at; half of the repair's own, too.  And where no brick
 * had a superblock, those that the repair had not come to are without one still.
 */
static void expect_known(const struct sim_problems *before, const char *what)
{
	for (unsigned k = 0; k < sim_problems.count && k < SIM_PROBLEMS; k++) {
		size_t length = strcspn(sim_problems.text[k], ":");
		char code[64];
		bool known = false, guessed = false, gone = false;

		snprintf(code, sizeof(code), "%.*s", (int)length, sim_problems.text[k]);
		for (unsigned j = 0; j < before->count && j < SIM_PROBLEMS; j++) {
			known |= !strncmp(before->text[j], sim_problems.text[k], length + 1);
			guessed |= !strncmp(before->text[j], "no-checkpoint:", 14);
			gone |= !strncmp(before->text[j], "super-gone:", 11);
		}
		known |= guessed && (!strcmp(code, "checkpoint-bad") || !strcmp(code, "unproven"));
		known |= gone && !strcmp(code, "super-lost");
		ck_assert_msg(known || !fs_problem_find(code)->damage, "%s: new damage: %s", what, sim_problems.text[k]);
	}
}

/*
 * One crash: the image must look to a check as the repaired one will, whether it is still damaged or not; and be repaired to that. A mount
 * that takes it for sound must show the same.
 */
static void after_crash(struct sim *sim, const char *expected, const struct sim_problems *before, const char *what)
{
	struct fs_check_result result;
	struct fs *fs;
	char *dump;
	int r = sim_mount_repair(sim, &fs);

	ck_assert_msg(!r, "%s: %s", what, fs_error_text());
	ck_assert_int_eq(fs_check(fs, &result), 0);
	expect_known(before, what);
	if (result.problems == result.repairable) {
		fs_unmount(fs);
		fs = sim_mounted(sim, SIM_RW);
		dump = fs_dump(fs);
		sim_same(dump, expected, what);
		ck_assert_int_eq(fs_unmount(fs), 0);
	} else {
		dump = sim_fsck_checked(sim, fs, result, fs_dump(fs), what);
		ck_assert_msg(dump != NULL, "%s: %s", what, fs_error_text());
		sim_same(dump, expected, what);
	}
	free(dump);
}

static uint64_t seen[4096];
static unsigned images;

static bool is_new(struct sim *sim)
{
	uint64_t hash = sim_hash(sim);

	for (unsigned k = 0; k < images; k++)
		if (seen[k] == hash)
			return false;
	if (images < 4096)
		seen[images++] = hash;
	return true;
}

static void crash_at(struct sim *sim, uint64_t event, unsigned how, unsigned *seed, const char *expected, const struct sim_problems *before,
		     const char *name)
{
	uint64_t atoms;
	uint8_t *selection;
	struct sim *crashed;
	char what[96];

	sim_pieces(sim, event, NULL, 0, &atoms);
	if (!atoms && how)
		return;
	selection = calloc(1, atoms / 8 + 1);
	for (uint64_t a = 0; a < atoms; a++)
		if (how == 1 || (how == 2 && rand_r(seed) & 0x400) || (how == 3 && a < atoms / 2))
			selection[a / 8] |= (uint8_t)(1 << a % 8);
	crashed = sim_image(sim, event, SIM_POWER_CUT, selection);
	ck_assert_ptr_nonnull(crashed);
	snprintf(what, sizeof(what), "%s: power cut after event %llu, %u", name, (unsigned long long)event, how);
	if (is_new(crashed))
		after_crash(crashed, expected, before, what);
	sim_delete(crashed);
	free(selection);
}

START_TEST(test_crash)
{
	const struct damage_kind *kind = &damage_kinds[_i];
	static struct sim_problems told;

	/* Not the one whose other half is kept once for each try. */
	if (left_out(kind) || !strcmp(kind->name, "twin"))
		return;
	for (unsigned k = 0; k < IMAGES; k += 2) {
		/* One of the two, where the environment does not ask for more: they differ in what is damaged, and not in the repair. */
		struct sim *sim = seeds() > 1 || k / 2 == (unsigned)_i % 2 ? damaged(k, kind, 2) : NULL, *done;
		struct fs_check_result result;
		unsigned seed = (unsigned)_i;
		char *expected;
		struct fs *fs;

		if (!sim)
			continue;
		images = 0;
		done = sim_snapshot(sim);
		expected = sim_fsck(done, kind->name);
		sim_delete(done);
		ck_assert_int_eq(sim_mount_repair(sim, &fs), 0);
		ck_assert_int_eq(fs_check(fs, &result), 0);
		told = sim_problems;
		if (result.problems > result.repairable) {
			sim_record(sim, true);
			ck_assert_int_eq(fs_repair(fs), 0);
			sim_record(sim, false);
			fs_unmount(fs);
			for (uint64_t event = 0; event <= sim_events(sim); event++)
				for (unsigned how = 0; how < (seeds() > 1 ? 4 : 3); how++)
					crash_at(sim, event, how, &seed, expected, &told, kind->name);
		} else {
			fs_unmount(fs);
		}
		free(expected);
		sim_delete(sim);
	}
}
END_TEST

/* ---- one by one */

static char *read_file(struct fs *fs, const char *dir, const char *name, size_t *size)
{
	uint64_t ino = dir ? sim_find(fs, FS_ROOT_INO, dir) : FS_ROOT_INO;
	struct stat st;
	char *bytes;

	ino = sim_find(fs, ino, name);
	ck_assert_int_eq(fs_getattr(fs, ino, &st), 0);
	*size = (size_t)st.st_size;
	bytes = malloc(*size + 1);
	ck_assert_int_eq(fs_read(fs, ino, bytes, *size, 0), (int64_t)*size);
	return bytes;
}

static const struct damage_kind *kind_of(const char *name)
{
	for (size_t k = 0; k < damage_kind_count; k++)
		if (!strcmp(damage_kinds[k].name, name))
			return &damage_kinds[k];
	ck_abort_msg("no kind %s", name);
}

/* Pages and blocks that two files claim: both have the bytes afterwards, and a change of one is none of the other. */
START_TEST(test_copies)
{
	static const char *const kind[] = { "pages-shared", "ranges-overlap" }, *const name[] = { "shares pages", "shares blocks" };

	for (unsigned k = 0; k < 2; k++)
		for (unsigned seed = 1; seed < 3; seed++) {
			struct sim *sim = damaged(0, kind_of(kind[k]), seed);
			size_t size, size_after;
			char *bytes, *after;
			struct fs *fs = sim_mounted(sim, SIM_RO);
			uint64_t ino;

			bytes = read_file(fs, NULL, name[k], &size);
			fs_unmount(fs);
			free(sim_fsck(sim, kind[k]));
			fs = sim_mounted(sim, SIM_RW);
			after = read_file(fs, NULL, name[k], &size_after);
			ck_assert_uint_eq(size, size_after);
			ck_assert(!memcmp(bytes, after, size));
			free(after);
			ino = sim_find(fs, FS_ROOT_INO, name[k]);
			memset(bytes, 0x77, size);
			ck_assert_int_eq(fs_write(fs, ino, bytes, size, 0), (int64_t)size);
			ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, name[k]), 0);
			ck_assert_int_eq(fs_unmount(fs), 0);
			after = sim_clean_dump(sim);
			sim_same(after, intact[0].dump, "what the older file keeps");
			free(after);
			free(bytes);
			sim_delete(sim);
		}
}
END_TEST

/* What has no name gets one in lost+found, with its contents; a lost+found that is there is used. */
START_TEST(test_lostfound)
{
	for (unsigned there = 0; there < 3; there++) {
		struct sim *sim = sim_snapshot(image[1]);
		struct fs *fs = sim_mounted(sim, SIM_RW);
		struct fs_check_result result;
		char name[32], *bytes;
		size_t size;

		if (there == 1)
			sim_dir(fs, FS_ROOT_INO, "lost+found");
		if (there == 2)
			sim_file(fs, FS_ROOT_INO, "lost+found", 10, 1);
		ck_assert_int_eq(fs_unmount(fs), 0);
		ck_assert_int_eq(damage_apply(&backend_sim, sim, endpoints, bricks[1], "unreachable", 1, NULL, &touched), 0);
		ck_assert_int_eq(sim_mount(sim, SIM_CHECK, &fs), 0);
		ck_assert_int_eq(fs_check(fs, &result), 0);
		ck_assert_uint_eq(result.problems, 1);
		fs_unmount(fs);
		free(sim_fsck(sim, "unreachable"));
		fs = sim_mounted(sim, SIM_RW);
		snprintf(name, sizeof(name), "#%llu", (unsigned long long)touched.ino[0]);
		bytes = read_file(fs, there == 2 ? "lost+found.1" : "lost+found", name, &size);
		ck_assert_uint_eq(size, 5);
		ck_assert(!memcmp(bytes, "found", 5));
		free(bytes);
		ck_assert_int_eq(fs_unmount(fs), 0);
		sim_delete(sim);
	}
}
END_TEST

/* The last of three bricks is gone for good: refused without its UUID; with it every file that lost something is named, dense ones by their bytes. */
START_TEST(test_lost_brick)
{
	struct sim *sim = sim_snapshot(image[1]);
	struct fs_check_result result;
	uint8_t uuid[1][16];
	struct fmt_super s;
	uint8_t page[FMT_PAGE];
	bool ranges = false, sparse = false;
	struct fs_info info;
	struct fs *fs;
	char *after;

	ck_assert_int_eq(sim_peek(sim, 0, FMT_SUPER_ADDR, page, sizeof(page)), 0);
	ck_assert_int_eq(fmt_get_super(page, &s), 0);
	ck_assert_uint_eq(s.brick_count, 3);
	sim_away(sim, 2, true, 0);
	sim_lost_count = 1;
	sim_lost = (const uint8_t (*)[16])(const void *)uuid;
	/* which of the three it is, is not known here: the one that is accepted */
	for (unsigned k = 0; k < 3; k++) {
		int r;

		memcpy(uuid[0], s.brick[k].uuid, 16);
		r = sim_mount_repair(sim, &fs);
		if (!r)
			break;
		ck_assert_uint_lt(k, 2);
		ck_assert(strstr(fs_error_text(), "missing") || strstr(fs_error_text(), "not lost"));
	}
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert(sim_told("brick-lost"));
	for (unsigned k = 0; k < sim_problems.count && k < SIM_PROBLEMS; k++) {
		ranges |= strstr(sim_problems.text[k], "blocks are lost: bytes ") != NULL;
		sparse |= strstr(sim_problems.text[k], "it was sparse") != NULL;
	}
	ck_assert_msg(ranges && sparse, "%s", sim_all_told());
	fs_unmount(fs);
	intact_begin(&intact[1]);
	after = sim_fsck(sim, "a lost brick");
	ck_assert_msg(after != NULL, "%s", fs_error_text());
	intact_check(&intact[1], after, "a lost brick");
	free(after);
	fs = sim_mounted(sim, SIM_RW);
	fs_get_info(fs, &info);
	ck_assert_uint_eq(info.bricks, 2);
	ck_assert(!info.readonly);
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_int_eq(fs_unmount(fs), 0);
	/* It comes back, and is no part of it any more. */
	sim_away(sim, 2, false, 0);
	ck_assert_int_lt(sim_mount(sim, SIM_RW, &fs), 0);
	sim_delete(sim);
}
END_TEST

/* No room for the copies: said, and nothing is changed that anybody sees. */
START_TEST(test_no_room)
{
	struct sim *sim = damaged(0, kind_of("ranges-overlap"), 1);
	struct fs_check_result result;
	char *before, *after;
	struct fs *fs;

	for (unsigned b = 0; b < bricks[0]; b++)
		sim_resize(sim, b, sim_used(sim, b));
	ck_assert_int_eq(sim_mount_repair(sim, &fs), 0);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	before = fs_dump(fs);
	ck_assert_int_eq(fs_repair(fs), -ENOSPC);
	fs_unmount(fs);
	ck_assert_int_eq(sim_mount(sim, SIM_CHECK, &fs), 0);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert(sim_told("ranges-overlap"));
	after = fs_dump(fs);
	sim_same(after, before, "after a repair that had no room");
	fs_unmount(fs);
	for (unsigned b = 0; b < bricks[0]; b++)
		sim_resize(sim, b, 80);
	free(sim_fsck(sim, "with room"));
	free(before);
	free(after);
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fsck");
	TCase *tcase = tcase_create("fsck");

	tcase_set_timeout(tcase, 3600);
	tcase_add_unchecked_fixture(tcase, make_images, drop_images);
	tcase_add_loop_test(tcase, test_corpus, 0, (int)damage_kind_count);
	tcase_add_loop_test(tcase, test_safe, 0, (int)damage_kind_count);
	tcase_add_loop_test(tcase, test_crash, 0, (int)damage_kind_count);
	tcase_add_test(tcase, test_copies);
	tcase_add_test(tcase, test_lostfound);
	tcase_add_test(tcase, test_lost_brick);
	tcase_add_test(tcase, test_no_room);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
