/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Behind a hole in the log: when the batches with a file's record are lost, fsck -y keeps its blocks, pages, and what stands behind
 * the end that an older record tells, in lost+found, byte for byte; the second check is clean; in an undamaged log they are leaks.  And what
 * is known to be older than it was, or to lack names, is told so, file by file.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check_run.h"
#include "sim_fs.h"

static struct sim *sim;
static struct fs *fs;

static void begin(void)
{
	sim = sim_make(2, 60);
	fs = sim_mounted(sim, SIM_RW);
	sim_file(fs, FS_ROOT_INO, "before", (5u << 20) + 1, 1);
	ck_assert_int_eq(fs_tick(fs), 0);
}

/* What is made last may go as a torn tail: something stands behind it. Then a crash, so that nothing is written anew. */
static void end(void)
{
	ck_assert_int_eq(fs_tick(fs), 0);
	sim_file(fs, FS_ROOT_INO, "after", 3u << 20, 2);
	ck_assert_int_eq(fs_tick(fs), 0);
	sim_file(fs, FS_ROOT_INO, "last", 20, 3);
	ck_assert_int_eq(fs_tick(fs), 0);
	fs_abandon(fs);
}

/* Where the storage of that inode begins, by its last record; wipe: every batch with a record of it is zeroed. */
static uint64_t look_for(struct sim_batch *batch, size_t n, uint64_t ino, bool wipe)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	uint64_t base = 0;

	for (size_t k = 0; k < n; k++) {
		uint64_t addr = fmt_addr(FMT_LOG, batch[k].segment) + batch[k].offset;
		uint32_t length = batch[k].batch.length;
		struct fmt_record r;
		bool of = false;

		sim_read(sim, addr, buf, FMT_BATCH_HEADER + length);
		for (size_t at = 0, size; at < length; at += size) {
			if (!buf[0])
				break;		/* wiped already */
			ck_assert_int_eq(fmt_get_record(buf + FMT_BATCH_HEADER + at, length - at, &r, &size), 0);
			if (r.type != FMT_INODE || r.inode.ino != ino)
				continue;
			of = true;
			if (r.inode.form == FMT_RANGES && r.inode.length) {
				struct fmt_range range;

				fmt_get_range(r.inode.raw_ranges, 0, &range);
				base = range.base;
			} else if (r.inode.form == FMT_RUN) {
				base = r.inode.run;
			}
		}
		if (of && wipe) {
			memset(buf, 0, FMT_BATCH_HEADER + length);
			sim_write(sim, addr, buf, FMT_BATCH_HEADER + length);
		}
	}
	free(buf);
	return base;
}

/* Wipes every batch, from the first one given on, with a record of one of those inodes; base: where the storage of each begins. */
static void lose(const uint64_t *ino, size_t count, size_t from, uint64_t *base)
{
	static struct sim_batch batch[256];
	size_t n = sim_log(sim, batch, 256);

	ck_assert_uint_lt(from, n);
	for (size_t k = 0; k < count; k++)
		base[k] = look_for(batch, n, ino[k], false);
	for (size_t k = 0; k < count; k++)
		look_for(batch + from, n - from, ino[k], true);
}

static size_t batches(void)
{
	static struct sim_batch batch[256];

	return sim_log(sim, batch, 256);
}

static void pattern(uint8_t *buf, size_t size, unsigned seed)	/* as sim_put() has it */
{
	for (size_t k = 0; k < size; k++)
		buf[k] = (uint8_t)(seed + k * 7 + (k >> 9));
}

/* lost+found/name holds so many bytes of sim_put() at `at`, zeroes elsewhere, and is of that size. */
static void holds(const char *name, uint64_t size, uint64_t at, size_t length, unsigned seed)
{
	uint64_t ino = sim_find(fs, sim_find(fs, FS_ROOT_INO, "lost+found"), name);
	uint8_t *buf = malloc(size), *expected = calloc(1, size);
	struct stat st;

	ck_assert_int_eq(fs_getattr(fs, ino, &st), 0);
	ck_assert_msg((uint64_t)st.st_size == size, "%s has %llu bytes", name, (unsigned long long)st.st_size);
	ck_assert_int_eq(fs_read(fs, ino, buf, size, 0), (int64_t)size);
	pattern(expected + at, length, seed);
	ck_assert_msg(!memcmp(buf, expected, size), "%s: other bytes", name);
	free(buf);
	free(expected);
}

static void repaired(const char *what)
{
	char *after = sim_fsck(sim, what);

	ck_assert_msg(after != NULL, "%s: %s", what, fs_error_text());
	ck_assert_msg(sim_told("log-hole") && sim_told("adrift"), "%s: %s", what, sim_all_told());
	free(after);
	fs = sim_mounted(sim, SIM_RW);
	sim_look(fs, FS_ROOT_INO);
}

static void finish(void)
{
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}

/* Two files beside each other, one of them with a hole: each gets a file of its own. */
START_TEST(test_blocks)
{
	uint64_t ino[2], at[2];
	char name[64];
	struct stat st;

	begin();
	ino[0] = sim_file(fs, FS_ROOT_INO, "dense", (4u << 20) + 100, 7);
	ck_assert_int_eq(fs_tick(fs), 0);
	ino[1] = sim_file(fs, FS_ROOT_INO, "sparse", 0, 0);
	sim_put(fs, ino[1], 0, 2u << 20, 8);
	sim_put(fs, ino[1], 12u << 20, 2u << 20, 8);
	end();
	lose(ino, 2, 0, at);
	repaired("blocks");
	snprintf(name, sizeof(name), "#blocks-%016llx", (unsigned long long)at[0]);
	holds(name, 6u << 20, 0, (4u << 20) + 100, 7);
	snprintf(name, sizeof(name), "#blocks-%016llx", (unsigned long long)at[1]);
	ck_assert_int_eq(fs_getattr(fs, sim_find(fs, sim_find(fs, FS_ROOT_INO, "lost+found"), name), &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, 14u << 20);
	ck_assert_uint_eq((uint64_t)st.st_blocks, 2 * FMT_BLOCK / 512);
	finish();
}
END_TEST

/* A file in pages, alone in its packed block. */
START_TEST(test_pages)
{
	uint64_t ino, at;
	char name[64];

	begin();
	ino = sim_file(fs, FS_ROOT_INO, "packed", 70000, 9);
	end();
	lose(&ino, 1, 0, &at);
	repaired("pages");
	snprintf(name, sizeof(name), "#pages-%016llx", (unsigned long long)at);
	holds(name, (70000 + FMT_PAGE - 1) / FMT_PAGE * FMT_PAGE, 0, 70000, 9);
	finish();
}
END_TEST

/* A file that grew in the lost batches: it is as before, and what it grew by is beside it. */
START_TEST(test_grown)
{
	uint64_t ino, at;
	size_t from;
	char name[64];
	struct stat st;

	begin();
	ino = sim_file(fs, FS_ROOT_INO, "grows", 3u << 20, 4);
	ck_assert_int_eq(fs_tick(fs), 0);
	from = batches();
	sim_put(fs, ino, 4u << 20, 2u << 20, 5);
	sim_put(fs, ino, 8u << 20, 3u << 20, 5);
	end();
	lose(&ino, 1, from, &at);
	repaired("grown");
	ck_assert_int_eq(fs_getattr(fs, ino, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, 3u << 20);
	snprintf(name, sizeof(name), "#%llu-at-%u", (unsigned long long)ino, 4u << 20);
	ck_assert_int_eq(fs_getattr(fs, sim_find(fs, sim_find(fs, FS_ROOT_INO, "lost+found"), name), &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, 8u << 20);
	ck_assert_uint_eq((uint64_t)st.st_blocks, 3 * FMT_BLOCK / 512);
	/* Grown again, it gets other storage. */
	sim_put(fs, ino, 4u << 20, 6u << 20, 6);
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	fs = sim_mounted(sim, SIM_RW);
	finish();
}
END_TEST

/* Nothing is lost in the log: the same blocks are leaks, and are freed. */
START_TEST(test_leak)
{
	struct fs_check_result result;

	begin();
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_int_eq(sim_poke_alloc(sim, 0, fmt_addr(FMT_FILE, 1 << 20)), 0);
	fs = sim_mounted(sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert(sim_told("leak") && !sim_told("adrift"));
	ck_assert_uint_eq(result.repairable, 1);
	fs_unmount(fs);
	fs = sim_mounted(sim, SIM_RW);
	ck_assert(!sim_has(sim, 0, fmt_addr(FMT_FILE, 1 << 20)));
	finish();
}
END_TEST

static bool says(const char *text)
{
	for (unsigned k = 0; k < sim_problems.count && k < SIM_PROBLEMS; k++)
		if (strstr(sim_problems.text[k], text))
			return true;
	return false;
}

/* The check tells exactly these of the two codes; then it is repaired, clean, and used. */
static void tells(const char *text, bool older, bool names)
{
	struct fs_check_result result;
	char *after;

	fs = sim_mounted(sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(says(text), "%s; not: %s", sim_all_told(), text);
	ck_assert_msg(sim_told("older") == older && sim_told("names-lost") == names, "%s", sim_all_told());
	fs_unmount(fs);
	after = sim_fsck(sim, text);
	ck_assert_ptr_nonnull(after);
	free(after);
	fs = sim_mounted(sim, SIM_RW);
	sim_look(fs, FS_ROOT_INO);
	finish();
}

/* Three names given in the lost part, one of them removed behind it; and one that was there before. */
START_TEST(test_names)
{
	uint64_t dir, ino, at;
	char text[64];

	begin();
	dir = sim_dir(fs, FS_ROOT_INO, "names");
	sim_file(fs, dir, "before", 10, 1);
	ck_assert_int_eq(fs_tick(fs), 0);
	ino = sim_file(fs, dir, "one", 10, 1);
	sim_file(fs, dir, "two", 10, 1);
	sim_file(fs, dir, "three", 10, 1);
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_unlink(fs, dir, "before"), 0);
	ck_assert_int_eq(fs_unlink(fs, dir, "two"), 0);
	sim_file(fs, dir, "four", 10, 1);
	end();
	lose(&ino, 1, 0, &at);
	snprintf(text, sizeof(text), "directory %llu (/names): 2 names", (unsigned long long)dir);
	tells(text, false, true);
}
END_TEST

/* A hole of a sparse file was filled in the lost part. */
START_TEST(test_filled)
{
	uint64_t ino, at;
	size_t from;
	char text[96];

	begin();
	ino = sim_file(fs, FS_ROOT_INO, "filled", 0, 0);
	sim_put(fs, ino, 8u << 20, 2u << 20, 5);
	ck_assert_int_eq(fs_tick(fs), 0);
	from = batches();
	sim_put(fs, ino, 0, 4u << 20, 5);
	end();
	lose(&ino, 1, from, &at);
	snprintf(text, sizeof(text), "inode %llu (/filled): it has 3 blocks, and its record knows of 1", (unsigned long long)ino);
	tells(text, true, false);
}
END_TEST

/* A file gave up its pages in the lost part, and another one has them. */
START_TEST(test_pages_given)
{
	uint64_t ino, at;
	struct stat st = { .st_size = 0 };
	size_t from;
	char text[96];

	begin();
	sim_file(fs, FS_ROOT_INO, "keeps the packed block", 20000, 4);
	ino = sim_file(fs, FS_ROOT_INO, "old", 20000, 5);
	ck_assert_int_eq(fs_tick(fs), 0);
	from = batches();
	ck_assert_int_eq(fs_setattr(fs, ino, &st, FS_SET_SIZE, &st), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	sim_file(fs, FS_ROOT_INO, "new", 20000, 6);
	end();
	lose(&ino, 1, from, &at);
	snprintf(text, sizeof(text), "inode %llu (/old): its pages were given to inode", (unsigned long long)ino);
	tells(text, true, false);
}
END_TEST

/* A log without damage tells nothing of the kind, whatever was done, also after a crash. */
START_TEST(test_nothing)
{
	struct sim_steps steps = { 0 };
	struct fs_check_result result;

	begin();
	sim_fill(fs, &steps);
	sim_steps_free(&steps);
	end();
	fs = sim_mounted(sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(result.problems == result.repairable, "%s", sim_all_told());
	ck_assert(!sim_told("older") && !sim_told("names-lost") && !sim_told("adrift"));
	fs_unmount(fs);
	fs = sim_mounted(sim, SIM_RW);
	finish();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("adrift");
	TCase *tcase = tcase_create("adrift");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, test_blocks);
	tcase_add_test(tcase, test_pages);
	tcase_add_test(tcase, test_grown);
	tcase_add_test(tcase, test_leak);
	tcase_add_test(tcase, test_names);
	tcase_add_test(tcase, test_filled);
	tcase_add_test(tcase, test_pages_given);
	tcase_add_test(tcase, test_nothing);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
