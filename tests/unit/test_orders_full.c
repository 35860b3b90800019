/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_orders_full - the core on a full volume, over simulated bricks: it can be mounted after any
 * crash, emptied, and used by more threads than there is room for.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "orders.h"

/* ---- the log's own space */

/* Data until nothing fits; the name of the file it is in is "big". */
static void fill_up(struct fs *fs)
{
	uint64_t ino = make_file(fs, "big"), at = 0;
	int64_t n;

	while ((n = fill_with(fs, ino, 'x', FMT_BLOCK, at)) > 0)
		at += (uint64_t)n;
	ck_assert_int_eq(n, -ENOSPC);
}

/* A full volume can be mounted after any number of crashes, and a file be removed. */
START_TEST(test_crashes_in_a_row_when_full)
{
	struct sim *sim = make_sim(32);
	struct fs *fs = mount_sim(sim, true);
	struct fs_info info;

	fill_up(fs);
	ck_assert_int_eq(fs_fsync(fs, FS_ROOT_INO, false), 0);
	for (unsigned k = 0; k < 30; k++) {
		int r;

		fs_get_info(fs, &info);
		fs_abandon(fs);
		r = try_mount(sim, true, false, &fs);
		ck_assert_msg(!r, "mount %u: %s (%lu blocks were free, reserve %lu)", k, fs_error_text(),
			      (unsigned long)info.free, (unsigned long)info.reserve);
	}
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "big"), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_str_eq(told, "");
	check_clean(sim);
	sim_delete(sim);
}
END_TEST

/*
 * The same with each crash at any event of the mount before, its checkpoint and its frees included, with
 * little metadata and with several segments of it, and with a file removed by each mount.
 */
START_TEST(test_crashes_inside_mounts_when_full)
{
	for (unsigned seed = 1; seed <= 16; seed++) {
		unsigned random = seed, files = seed % 2 ? 40 : 2000;
		struct sim *sim = make_sim(files > 40 ? 40 : 32), *image;
		struct fs *fs = mount_sim(sim, true);
		char name[32], value[2000] = "v";
		struct stat st;

		for (unsigned k = 0; k < files; k++) {
			snprintf(name, sizeof(name), "f%u", k);
			ck_assert_int_eq(fs_setxattr(fs, make_file(fs, name), "user.x", value, sizeof(value), 0), 0);
			if (k % 100 == 0)
				ck_assert_int_eq(fs_tick(fs), 0);
		}
		fill_up(fs);
		ck_assert_int_eq(fs_fsync(fs, FS_ROOT_INO, false), 0);
		fs_abandon(fs);
		for (unsigned k = 0; k < 30; k++) {
			uint64_t events;
			int r;

			sim_record(sim, true);
			r = try_mount(sim, true, false, &fs);
			ck_assert_msg(!r, "seed %u, mount %u: %s", seed, k, fs_error_text());
			snprintf(name, sizeof(name), "f%u", k);
			r = fs_lookup(fs, FS_ROOT_INO, name, &st);
			if (!r && seed % 4 < 2) {
				ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, name), 0);
				fs_forget(fs, st.st_ino, 1);
				ck_assert_int_eq(fs_tick(fs), 0);
			}
			events = sim_events(sim);
			image = sim_image(sim, rand_r(&random) % (events + 1), SIM_POWER_CUT, NULL);
			fs_abandon(fs);
			sim_delete(sim);
			sim = image;
		}
		fs = mount_sim(sim, true);
		ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "big"), 0);
		ck_assert_int_eq(fs_tick(fs), 0);
		ck_assert_int_eq(fs_unmount(fs), 0);
		ck_assert_str_eq(told, "");
		check_clean(sim);
		sim_delete(sim);
	}
}
END_TEST

/* Reading (access times) on a full volume does not use up what the log needs; all can be removed after it. */
START_TEST(test_reading_when_full)
{
	enum { FILES = 12000 };
	struct sim *sim = make_sim(40);
	struct fs *fs = mount_sim(sim, true);
	char name[32], data[512];
	unsigned made = 0;
	struct stat st;

	for (; made < FILES; made++) {
		snprintf(name, sizeof(name), "f%u", made);
		if (fs_mknod(fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &cred, &st))
			break;
		fs_forget(fs, st.st_ino, 1);
		memset(&st, 0, sizeof(st));
		st.st_ino = look_up(fs, name);
		ck_assert_int_eq(fill_with(fs, st.st_ino, 'i', sizeof(data), 0), sizeof(data));
		fs_setattr(fs, st.st_ino, &st, FS_SET_ATIME, &st);
		fs_forget(fs, st.st_ino, 1);
		if (made % 500 == 0)
			ck_assert_int_eq(fs_tick(fs), 0);
	}
	fill_up(fs);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned k = 0; k < made; k++) {
			snprintf(name, sizeof(name), "f%u", k);
			ck_assert_int_eq(fs_lookup(fs, FS_ROOT_INO, name, &st), 0);
			ck_assert_int_eq(fs_read(fs, st.st_ino, data, sizeof(data), 0), sizeof(data));
			fs_forget(fs, st.st_ino, 1);
			if (k % 1000 == 0)
				ck_assert_int_eq(fs_tick(fs), 0);
		}
		/* As a day later: the next reads count again. */
		pthread_mutex_lock(&fs->lock);
		for (struct inode *i = fs->all.next; i != &fs->all; i = i->next)
			i->atime.tv_sec = 0;
		pthread_mutex_unlock(&fs->lock);
	}
	for (unsigned k = 0; k < made; k++) {
		int r;

		snprintf(name, sizeof(name), "f%u", k);
		r = fs_unlink(fs, FS_ROOT_INO, name);
		ck_assert_msg(!r, "unlink %u of %u: %s", k, made, strerror(-r));
		if (k % 100 == 0)
			ck_assert_int_eq(fs_tick(fs), 0);
	}
	ck_assert_int_eq(fs_unmount(fs), 0);
	check_clean(sim);
	sim_delete(sim);
}
END_TEST

/* A burst of changes is not acknowledged faster than the log can take it: it waits, and the log never fills the volume. */
START_TEST(test_burst)
{
	struct sim *sim = make_sim(24);
	struct fs *fs = mount_sim(sim, false);
	uint64_t ino = make_file(fs, "f");
	char *value = calloc(1, 60000);

	for (unsigned k = 0; k < 4000; k++) {
		int r;

		memcpy(value, &k, sizeof(k));
		r = fs_setxattr(fs, ino, "user.x", value, 60000, 0);
		ck_assert_msg(!r, "change %u: %s", k, strerror(-r));
	}
	ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
	free(value);
	ck_assert_int_eq(fs_unmount(fs), 0);
	check_clean(sim);
	sim_delete(sim);
}
END_TEST

/* ---- threads on a full volume */

struct crowd {
	struct fs *fs;
	unsigned index, seed, refused;
	const char *failed;
	pthread_t thread;
};

enum { CROWD = 6, CROWD_FILES = 5, CROWD_LARGEST = 6 << 20 };

static bool crowd_step(struct crowd *c, const char *name, uint64_t *ino, uint8_t *data, uint8_t *buf, size_t *size)
{
	static const size_t scale[] = { 500, 5000, 200000, 3u << 20 };
	size_t at = rand_r(&c->seed) % (*size + 3000), n = rand_r(&c->seed) % scale[rand_r(&c->seed) % 4] + 1;
	struct stat st = { .st_size = (off_t)(rand_r(&c->seed) % (*size + 1)) };
	int64_t r;

	switch (rand_r(&c->seed) % 8) {
	case 0: case 1: case 2: case 3:
		if (at + n > CROWD_LARGEST)
			return true;
		memset(buf, (int)(c->seed >> 9), n);
		r = fs_write(c->fs, *ino, buf, n, at);
		if (r == -ENOSPC)
			return ++c->refused;
		if (r != (int64_t)n)
			return false;
		if (at > *size)
			memset(data + *size, 0, at - *size);
		memcpy(data + at, buf, n);
		if (at + n > *size)
			*size = at + n;
		return true;
	case 4:
		if (fs_setattr(c->fs, *ino, &st, FS_SET_SIZE, &st))
			return false;
		*size = (size_t)st.st_size;
		return true;
	case 5:
		r = fs_fallocate(c->fs, *ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n);
		if (!r && at < *size)
			memset(data + at, 0, n < *size - at ? n : *size - at);
		return !r;
	case 6:
		if (fs_read(c->fs, *ino, buf, CROWD_LARGEST, 0) != (int64_t)*size || memcmp(buf, data, *size))
			return false;
		return rand_r(&c->seed) % 3 || !fs_fsync(c->fs, *ino, false);
	}
	if (rand_r(&c->seed) % 3)
		return true;
	if (fs_unlink(c->fs, FS_ROOT_INO, name))
		return false;
	fs_forget(c->fs, *ino, 1);
	*size = 0;
	*ino = 0;
	return true;
}

static void *crowd_run(void *arg)
{
	struct crowd *c = arg;
	uint8_t *data[CROWD_FILES], *buf = malloc(CROWD_LARGEST);
	uint64_t ino[CROWD_FILES] = { 0 };
	size_t size[CROWD_FILES] = { 0 };
	char name[32];
	struct stat st;

	for (unsigned k = 0; k < CROWD_FILES; k++)
		data[k] = malloc(CROWD_LARGEST);
	for (unsigned step = 0; step < 1500 && !c->failed; step++) {
		unsigned k = rand_r(&c->seed) % CROWD_FILES;

		snprintf(name, sizeof(name), "t%u.%u", c->index, k);
		if (!ino[k]) {
			int r = fs_mknod(c->fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &cred, &st);

			if (!r)
				ino[k] = st.st_ino;
			else if (r != -ENOSPC)
				c->failed = "mknod";
		} else if (!crowd_step(c, name, &ino[k], data[k], buf, &size[k])) {
			c->failed = "a step";
		}
	}
	for (unsigned k = 0; k < CROWD_FILES; k++) {
		snprintf(name, sizeof(name), "t%u.%u", c->index, k);
		if (ino[k] && fs_unlink(c->fs, FS_ROOT_INO, name))
			c->failed = "unlink";
		if (ino[k])
			fs_forget(c->fs, ino[k], 1);
		free(data[k]);
	}
	free(buf);
	return NULL;
}

/* Threads that want more than there is: nobody waits for ever, nothing but -ENOSPC is answered, and all comes back. */
START_TEST(test_crowd_on_a_full_volume)
{
	struct sim *sim = make_sim(36);
	struct fs *fs = mount_sim(sim, false);
	struct crowd c[CROWD];
	unsigned refused = 0;

	for (unsigned k = 0; k < CROWD; k++) {
		c[k] = (struct crowd){ .fs = fs, .index = k, .seed = 77 + k };
		ck_assert_int_eq(pthread_create(&c[k].thread, NULL, crowd_run, &c[k]), 0);
	}
	for (unsigned k = 0; k < CROWD; k++) {
		pthread_join(c[k].thread, NULL);
		refused += c[k].refused;
	}
	printf("  %u writes were refused\n", refused);
	for (unsigned k = 0; k < CROWD; k++)
		ck_assert_msg(!c[k].failed, "thread %u: %s failed", k, c[k].failed);
	ck_assert_uint_gt(refused, 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_str_eq(told, "");
	/* The superblock, and the log. */
	ck_assert_uint_le(sim_used(sim, 0), 1 + 8);
	for (uint64_t addr = 0; sim_next(sim, 0, addr, &addr); addr += FMT_BLOCK)
		ck_assert_uint_le(fmt_kind(addr), FMT_LOG);
	check_clean(sim);
	sim_delete(sim);
}
END_TEST

/* ---- the fuzzy checkpoint */

/* Everything that stat tells of everything below, and the positions of entries. */
struct listing { struct fs *fs; char *text; size_t length, room; uint64_t dir; };

/* ---- after an I/O that failed */

enum { TRIED_FILES = 8, TRIED_LARGEST = 5 << 20 };

struct tried { uint64_t ino; size_t size; char letter; char *data, *unknown; };	/* unknown: the letter, or zero */

/* ---- crashes under threads */

struct author { struct fs *fs; unsigned index, seed; pthread_t thread; };

int main(void)
{
	const struct { const char *name; const TTest *test; } tests[] = {
		{ "crashes when full", test_crashes_in_a_row_when_full },
		{ "crashes inside mounts when full", test_crashes_inside_mounts_when_full },
		{ "reading when full", test_reading_when_full },
		{ "burst", test_burst },
		{ "crowd on a full volume", test_crowd_on_a_full_volume },
	};
	Suite *suite = suite_create("orders when full");

	for (size_t k = 0; k < sizeof(tests) / sizeof(tests[0]); k++) {
		TCase *tcase = tcase_create(tests[k].name);

		tcase_set_timeout(tcase, 120);
		tcase_add_test(tcase, tests[k].test);
		suite_add_tcase(suite, tcase);
	}
	return check_run(suite);
}
