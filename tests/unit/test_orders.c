/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_orders - the orders of the core that must hold (ARCHITECTURE), each where it was
 * once suspected not to: over simulated bricks, by hand or with the core's threads.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs.h"
#include "simbrick.h"

static const struct fs_cred cred = { 1, 2, 022 };
static char told[512];		/* codes that the last mounts told */

static void tell(void *arg, const char *code, const char *text)
{
	printf("   %s: %s\n", code, text);
	if (strcmp(code, "leak") && strcmp(code, "orphan") && strlen(told) + strlen(code) + 2 < sizeof(told))
		strcat(strcat(told, code), " ");
}

static struct sim *make_sim(uint64_t blocks)
{
	const char *endpoint[] = { "sim:0" };
	struct fs_make_options o = { .backend = &backend_sim, .endpoints = endpoint, .endpoint_count = 1 };
	struct sim *sim = sim_new();

	sim_add_brick(sim, blocks);
	o.backend_context = sim;
	ck_assert_msg(!fs_make(&o, NULL), "%s", fs_error_text());
	told[0] = 0;
	return sim;
}

static int try_mount(struct sim *sim, bool manual, bool check, struct fs **fs)
{
	const char *endpoint[] = { "sim:0" };
	struct fs_options o = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoint, .endpoint_count = 1,
		.manual = manual, .check = check, .commit_ms = 5, .problem = tell,
	};

	return fs_mount(fs, &o);
}

static struct fs *mount_sim(struct sim *sim, bool manual)
{
	struct fs *fs;
	int r = try_mount(sim, manual, false, &fs);

	ck_assert_msg(!r, "mount: %s", fs_error_text());
	return fs;
}

static uint64_t make_file(struct fs *fs, const char *name)
{
	struct stat st;
	int r = fs_mknod(fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &cred, &st);

	ck_assert_msg(!r, "%s: %s", name, strerror(-r));
	return st.st_ino;
}

static uint64_t look_up(struct fs *fs, const char *name)
{
	struct stat st;

	ck_assert_int_eq(fs_lookup(fs, FS_ROOT_INO, name, &st), 0);
	return st.st_ino;
}

static int64_t fill_with(struct fs *fs, uint64_t ino, char c, size_t size, uint64_t offset)
{
	char *data = malloc(size);
	int64_t r;

	memset(data, c, size);
	r = fs_write(fs, ino, data, size, offset);
	free(data);
	return r;
}

static int set_size(struct fs *fs, uint64_t ino, uint64_t size)
{
	struct stat st = { .st_size = (off_t)size };

	return fs_setattr(fs, ino, &st, FS_SET_SIZE, &st);
}

static void check_clean(struct sim *sim)
{
	struct fs_check_result result;
	struct fs *fs;

	ck_assert_int_eq(try_mount(sim, true, true, &fs), 0);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_uint_eq(result.problems - result.repairable, 0);
	fs_unmount(fs);
}

/* ---- the volume */

static struct volume *the_volume;	/* of the backend's hook */
static bool hook_due;

static void *write_one(void *arg)
{
	uint64_t addr = *(uint64_t *)arg;
	struct vol_io io = { addr, "written", 8, true };

	ck_assert_int_eq(vol_io(the_volume, &io, 1), 0);
	return NULL;
}

/* In a thread of its own, which begins with a lane of its own. */
static void write_elsewhere(uint64_t addr)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, write_one, &addr), 0);
	pthread_join(thread, NULL);
}

static int submit_hooked(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	if (io->op == BACKEND_PERSIST && hook_due) {
		hook_due = false;
		write_elsewhere(7 * FMT_BLOCK);
	}
	return backend_sim.submit(session, lane, io);
}

/* Order 1: what was written on any lane is durable after vol_persist(), though another lane becomes dirty under it. */
START_TEST(test_persist_covers_every_lane)
{
	struct backend hooked = backend_sim;
	struct vol_options options = { .backend = &hooked, .lanes = 4, .private_addr = 0 };
	struct sim *sim = sim_new();
	char durable[8];
	unsigned brick;

	hooked.submit = submit_hooked;
	options.backend_context = sim;
	sim_add_brick(sim, 64);
	ck_assert_int_eq(sim_poke_alloc(sim, 0, 0), 0);
	ck_assert_int_eq(vol_new(&the_volume, &options), 0);
	ck_assert_int_eq(vol_connect(the_volume, "sim:0", &brick), 0);
	ck_assert_int_eq(vol_lock(the_volume, true, 0), 0);
	for (uint64_t k = 1; k < 10; k++)
		ck_assert_int_eq(vol_alloc(the_volume, &(uint64_t){ k * FMT_BLOCK }, 1), 0);
	/* Whatever lanes the threads begin with: of four in a row one is clean, and dirty ones stand before and behind it. */
	for (unsigned clean = 0; clean < 4; clean++) {
		for (uint64_t k = 0; k < 4; k++) {
			write_elsewhere((1 + k) * FMT_BLOCK);
			if (k == clean)
				ck_assert_int_eq(vol_persist(the_volume), 0);
		}
		hook_due = true;
		ck_assert_int_eq(vol_persist(the_volume), 0);
		for (uint64_t k = 0; k < 4; k++) {
			sim_peek_durable(sim, 0, (1 + k) * FMT_BLOCK, durable, sizeof(durable));
			ck_assert_msg(!memcmp(durable, "written", 8), "what lane %u of 4 wrote is not durable", (unsigned)k);
			sim_poke(sim, 0, (1 + k) * FMT_BLOCK, "........", 8);
		}
	}
	vol_delete(the_volume);
	sim_delete(sim);
}
END_TEST

/* ---- failures */

/* Who waits for storage to be freed is told when the commit that would free it fails. */
START_TEST(test_waiters_of_a_failed_commit)
{
	struct sim *sim = make_sim(64);
	struct fs *fs = mount_sim(sim, false);
	uint64_t ino = make_file(fs, "f");

	ck_assert_int_eq(fill_with(fs, ino, 'a', 100000, 0), 100000);
	ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
	sim_fault(sim, -1, SIM_PERSIST, 1, -EIO, false);
	ck_assert_int_eq(set_size(fs, ino, 50000), 0);
	printf("  growing a file whose shrink cannot be committed\n");
	ck_assert_int_lt(set_size(fs, ino, 90000), 0);
	fs_unmount(fs);
	sim_delete(sim);
}
END_TEST

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

/* The same with each crash at any event of the mount before, its checkpoint and its frees included. */
START_TEST(test_crashes_inside_mounts_when_full)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct sim *sim = make_sim(32), *image;
		struct fs *fs = mount_sim(sim, true);
		unsigned random = seed;

		fill_up(fs);
		ck_assert_int_eq(fs_fsync(fs, FS_ROOT_INO, false), 0);
		fs_abandon(fs);
		for (unsigned k = 0; k < 25; k++) {
			uint64_t events;
			int r;

			sim_record(sim, true);
			r = try_mount(sim, true, false, &fs);
			ck_assert_msg(!r, "seed %u, mount %u: %s", seed, k, fs_error_text());
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

/* ---- holes */

/* A hole that was punched and fsynced is a hole after a crash: its blocks are not there again with what they held. */
START_TEST(test_punch_is_durable_after_fsync)
{
	struct sim *sim = make_sim(64), *image;
	struct fs *fs = mount_sim(sim, true);
	uint64_t ino = make_file(fs, "f");
	char byte = 0;

	ck_assert_int_eq(fill_with(fs, ino, 'a', 8 << 20, 0), 8 << 20);
	ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
	sim_record(sim, true);
	ck_assert_int_eq(fs_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 << 20, 4 << 20), 0);
	ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
	image = sim_image(sim, sim_events(sim), SIM_POWER_CUT, NULL);
	fs_abandon(fs);
	fs = mount_sim(image, true);
	ck_assert_int_eq(fs_read(fs, look_up(fs, "f"), &byte, 1, 3 << 20), 1);
	printf("  in the hole after the crash: %d\n", byte);
	ck_assert_int_eq(byte, 0);
	fs_abandon(fs);
	sim_delete(image);
	sim_delete(sim);
}
END_TEST

/* `blocks` of a record is a lower bound: a block that is being freed is never counted as there (blocks-lost, after a crash). */
START_TEST(test_blocks_while_holes_are_freed)
{
	struct sim *sim = make_sim(64);
	struct fs *fs = mount_sim(sim, false);
	uint64_t ino = make_file(fs, "f");
	unsigned wrong = 0;
	struct stat st;

	for (unsigned k = 0; k < 400; k++) {
		for (unsigned w = 0; w < 8; w++)
			ck_assert_int_eq(fs_write(fs, ino, "x", 1, (uint64_t)w << 30), 1);
		ck_assert_int_eq(fs_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 16ull << 30), 0);
		for (;;) {
			fs_getattr(fs, ino, &st);
			wrong += st.st_blocks != 0;
			pthread_mutex_lock(&fs->lock);
			bool done = !fs->drops && !fs->reclaiming;
			pthread_mutex_unlock(&fs->lock);
			if (done)
				break;
		}
	}
	printf("  blocks counted that were given up: %u times\n", wrong);
	ck_assert_uint_eq(wrong, 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	sim_delete(sim);
}
END_TEST

/* ---- hostile bytes */

/* A record that gives a symbolic link storage of a file is refused: its target is read from memory. */
START_TEST(test_symlink_with_a_run)
{
	struct fmt_inode i = { .ino = 5, .mode = S_IFLNK | 0777, .nlink = 1, .size = 10, .form = FMT_RUN, .length = 3,
			       .run = fmt_addr(FMT_PACKED, 1) };
	uint8_t buf[256];
	struct fmt_record record;
	size_t size = fmt_put_inode(buf, &i), got;

	ck_assert_int_eq(fmt_get_record(buf, size, &record, &got), -EUCLEAN);
	i.mode = S_IFREG | 0644;
	size = fmt_put_inode(buf, &i);
	ck_assert_int_eq(fmt_get_record(buf, size, &record, &got), 0);
}
END_TEST

/* An entry that leads to the root directory is damage: with it the way up would have no end. */
START_TEST(test_root_with_a_name)
{
	struct sim *sim = make_sim(64);
	struct fs *fs = mount_sim(sim, true);
	struct stat st;

	ck_assert_int_eq(fs_mkdir(fs, FS_ROOT_INO, "d", 0755, &cred, &st), 0);
	pthread_mutex_lock(&fs->lock);
	ck_assert_uint_ne(log_begin(fs, fmt_dentry_size(1)), 0);
	fmt_put_dentry(log_room(fs, fmt_dentry_size(1)), &(struct fmt_dentry){
		.dir = st.st_ino, .cookie = 7, .ino = FS_ROOT_INO, .type = 4, .name_length = 1, .name = "r" });
	pthread_mutex_unlock(&fs->lock);
	ck_assert_int_eq(log_commit(fs), 0);
	fs_abandon(fs);
	fs = mount_sim(sim, true);
	ck_assert_ptr_nonnull(strstr(told, "entry-root"));
	ck_assert_int_eq(fs_lookup(fs, FS_ROOT_INO, "d", &st), 0);
	ck_assert_int_eq(fs_lookup(fs, st.st_ino, "r", &st), -ENOENT);
	fs_unmount(fs);
	sim_delete(sim);
}
END_TEST

int main(void)
{
	const struct { const char *name; const TTest *test; } tests[] = {
		{ "persist", test_persist_covers_every_lane },
		{ "failed commit", test_waiters_of_a_failed_commit },
		{ "crashes when full", test_crashes_in_a_row_when_full },
		{ "crashes inside mounts when full", test_crashes_inside_mounts_when_full },
		{ "reading when full", test_reading_when_full },
		{ "burst", test_burst },
		{ "punch and fsync", test_punch_is_durable_after_fsync },
		{ "blocks of holes", test_blocks_while_holes_are_freed },
		{ "symlink with a run", test_symlink_with_a_run },
		{ "root with a name", test_root_with_a_name },
	};
	Suite *suite = suite_create("orders");
	SRunner *runner;
	int failed;

	for (size_t k = 0; k < sizeof(tests) / sizeof(tests[0]); k++) {
		TCase *tcase = tcase_create(tests[k].name);

		tcase_set_timeout(tcase, 120);
		tcase_add_test(tcase, tests[k].test);
		suite_add_tcase(suite, tcase);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_VERBOSE);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
