/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_shutdown() over simulated bricks: for each flag, what is durable afterwards; that no write, alloc, free or persist
 * reaches a brick once it has returned, unmount included; that everything says EIO; and that nothing is acknowledged that
 * is not there after a power cut, while threads are at work.
 */
#include "check_run.h"
#include "sim_fs.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK (2u << 20)

/* Events from `from` on that change what is, or will be, durable. */
static unsigned changes(struct sim *sim, uint64_t from)
{
	struct sim_event e;
	unsigned n = 0;

	for (uint64_t k = from; sim_event(sim, k, &e); k++)
		n += e.kind == SIM_EV_WRITE || e.kind == SIM_EV_PERSIST || e.kind == SIM_EV_ALLOC || e.kind == SIM_EV_FREE;
	return n;
}

static int no_entry(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	(void)arg, (void)name, (void)position, (void)st;
	return 0;
}

static void all_refused(struct fs *fs, uint64_t file, uint64_t dir)
{
	struct stat st = { .st_size = 1 };
	char buf[64] = "x";

	ck_assert_int_eq(fs_stopped(fs), -EIO);
	ck_assert_int_eq(fs_lookup(fs, FS_ROOT_INO, "old", &st), -EIO);
	ck_assert_int_eq(fs_mknod(fs, dir, "n", S_IFREG | 0600, 0, &sim_cred, &st), -EIO);
	ck_assert_int_eq(fs_mkdir(fs, dir, "n", 0700, &sim_cred, &st), -EIO);
	ck_assert_int_eq(fs_symlink(fs, "t", dir, "n", &sim_cred, &st), -EIO);
	ck_assert_int_eq(fs_link(fs, file, dir, "n", &st), -EIO);
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "old"), -EIO);
	ck_assert_int_eq(fs_rmdir(fs, FS_ROOT_INO, "dir"), -EIO);
	ck_assert_int_eq(fs_rename(fs, FS_ROOT_INO, "old", dir, "n", 0), -EIO);
	ck_assert_int_eq(fs_setattr(fs, file, &st, FS_SET_SIZE, &st), -EIO);
	ck_assert_int_eq(fs_setattr(fs, file, &st, FS_SET_MODE, &st), -EIO);
	ck_assert_int_eq(fs_open(fs, file, true), -EIO);
	ck_assert_int_eq(fs_open(fs, file, false), -EIO);
	ck_assert_int_eq(fs_read(fs, file, buf, sizeof(buf), 0), -EIO);
	ck_assert_int_eq(fs_write(fs, file, buf, 1, 0), -EIO);
	ck_assert_int_eq(fs_fallocate(fs, file, 0, 0, 9), -EIO);
	ck_assert_int_eq(fs_fsync(fs, file, false), -EIO);
	ck_assert_int_eq(fs_fsync(fs, dir, true), -EIO);
	ck_assert_int_eq(fs_readdir(fs, FS_ROOT_INO, 0, false, no_entry, NULL), -EIO);
	ck_assert_int_eq(fs_readlink(fs, file, buf, sizeof(buf)), -EIO);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "v", 1, 0), -EIO);
	ck_assert_int_eq(fs_getxattr(fs, file, "user.a", buf, sizeof(buf)), -EIO);
	ck_assert_int_eq(fs_listxattr(fs, file, buf, sizeof(buf)), -EIO);
	ck_assert_int_eq(fs_removexattr(fs, file, "user.a"), -EIO);
	ck_assert_int_ne(fs_checkpoint(fs), 0);
	/* What a kernel asks for while it lets go. */
	ck_assert_int_eq(fs_getattr(fs, file, &st), 0);
	ck_assert_int_eq(fs_release(fs, file), 0);
	fs_forget(fs, file, 1);
}

/* After a power cut at the end of the recording: recovered as after a crash, and then clean. The dump. */
static char *recovered(struct sim *sim)
{
	struct sim *image = sim_image(sim, sim_events(sim), SIM_POWER_CUT, NULL);
	struct fs *fs = sim_mounted(image, SIM_RW);
	struct fs_info info;
	char *dump = fs_dump(fs), *again;

	ck_assert_ptr_nonnull(dump);
	fs_get_info(fs, &info);
	ck_assert_msg(!info.clean, "it was left as if it had been unmounted");
	ck_assert_int_eq(fs_unmount(fs), 0);
	again = sim_clean_dump(image);
	sim_same(again, dump, "the second mount");
	free(again);
	sim_delete(image);
	return dump;
}

static char *dump_of_copy(struct sim *sim)
{
	struct sim *copy = sim_snapshot(sim);
	struct fs *fs = sim_mounted(copy, SIM_RO);
	char *dump = fs_dump(fs);

	fs_unmount(fs);
	sim_delete(copy);
	return dump;
}

START_TEST(each_flag)
{
	enum fs_going how = (enum fs_going)_i;
	struct sim *sim = sim_make(2, 200);
	struct fs *fs;
	char *synced, *last, *after;
	uint64_t old, dir, from;
	struct stat st = { .st_size = 100 };

	sim_threads = false;
	fs = sim_mounted(sim, SIM_RW);
	sim_record(sim, true);
	dir = sim_dir(fs, FS_ROOT_INO, "dir");
	old = sim_file(fs, FS_ROOT_INO, "old", 3 * BLOCK + 5, 1);
	sim_file(fs, FS_ROOT_INO, "shrunk", 70000, 2);
	ck_assert_int_eq(fs_open(fs, old, true), 0);
	ck_assert_int_eq(fs_fsync(fs, old, false), 0);
	synced = dump_of_copy(sim);
	/* Of every form, and storage given up in every way. */
	sim_file(fs, dir, "inline", 30, 3);
	sim_file(fs, dir, "run", 30000, 4);
	sim_file(fs, dir, "ranges", 5 * BLOCK, 5);
	sim_put(fs, old, 5, 1000, 6);
	ck_assert_int_eq(fs_fallocate(fs, old, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK, BLOCK), 0);
	ck_assert_int_eq(fs_setattr(fs, sim_find(fs, FS_ROOT_INO, "shrunk"), &st, FS_SET_SIZE, &st), 0);
	ck_assert_int_eq(fs_setxattr(fs, dir, "user.a", "value", 5, 0), 0);
	last = fs_dump(fs);

	from = sim_events(sim);
	ck_assert_int_eq(fs_shutdown(fs, (enum fs_going)3), -EINVAL);
	ck_assert_int_eq(fs_stopped(fs), 0);
	ck_assert_int_eq(fs_shutdown(fs, how), 0);
	if (how == FS_GOING_NOLOGFLUSH)
		ck_assert_uint_eq(changes(sim, from), 0);
	else
		ck_assert_uint_gt(changes(sim, from), 0);
	from = sim_events(sim);
	ck_assert_msg(sim_told("shutdown"), "nobody was told");
	ck_assert_int_eq(fs_shutdown(fs, FS_GOING_NOLOGFLUSH), 0);
	ck_assert_int_eq(fs_shutdown(fs, FS_GOING_DEFAULT), 0);
	all_refused(fs, old, dir);
	fs_tick(fs);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_msg(!changes(sim, from), "%u changes reached the bricks after it had stopped", changes(sim, from));

	after = recovered(sim);
	sim_same(after, how == FS_GOING_NOLOGFLUSH ? synced : last, "after a power cut");
	free(after);
	free(synced);
	free(last);
	sim_record(sim, false);
	sim_delete(sim);
}
END_TEST

/* ---- with threads at work */

#define WORKERS 4
#define MOST 4000

struct worker {
	struct fs *fs;
	pthread_t thread;
	unsigned index;
	uint64_t dir;
	atomic_uint made;		/* files that were acknowledged, content and all */
	int error;			/* that ended it */
};

static size_t size_of(unsigned index, unsigned k)
{
	return k % 40 == 39 ? BLOCK + 17 : k % 5 == 4 ? 9000 : 40 + index;
}

static void *work(void *arg)
{
	static const uint8_t bytes[BLOCK + 17] = { 1, 2, 3 };
	struct worker *w = arg;
	char name[32];

	for (unsigned k = 0; k < MOST && !w->error; k++) {
		struct stat st;
		int64_t n;

		snprintf(name, sizeof(name), "%u", k);
		w->error = fs_mknod(w->fs, w->dir, name, S_IFREG | 0644, 0, &sim_cred, &st);
		if (w->error)
			break;
		n = fs_write(w->fs, st.st_ino, bytes, size_of(w->index, k), 0);
		if (n < 0)
			w->error = (int)n;
		else
			atomic_store(&w->made, k + 1);
		fs_forget(w->fs, st.st_ino, 1);
		if (k >= 60 && !w->error)	/* room for more */
			w->error = (snprintf(name, sizeof(name), "%u", k - 60), fs_unlink(w->fs, w->dir, name));
	}
	return NULL;
}

static void check_made(struct sim *sim, struct worker *worker, const unsigned *acknowledged)
{
	struct sim *image = sim_image(sim, sim_events(sim), SIM_POWER_CUT, NULL);
	struct fs *fs = sim_mounted(image, SIM_RW);
	static uint8_t buf[BLOCK + 17];

	for (unsigned k = 0; k < WORKERS; k++) {
		for (unsigned n = acknowledged[k] > 58 ? acknowledged[k] - 58 : 0; n < acknowledged[k]; n++) {
			size_t size = size_of(k, n);
			struct stat st;
			char name[32];
			int r;

			snprintf(name, sizeof(name), "%u", n);
			r = fs_lookup(fs, worker[k].dir, name, &st);
			/* What came after the acknowledged ones may have removed it. */
			if (r == -ENOENT && worker[k].made >= n + 60)
				continue;
			ck_assert_msg(!r, "worker %u: %s of %u acknowledged: %s", k, name, acknowledged[k], strerror(-r));
			ck_assert_int_eq(fs_read(fs, st.st_ino, buf, sizeof(buf), 0), (int64_t)size);
			ck_assert(buf[0] == 1 && buf[1] == 2 && buf[2] == 3 && !buf[size - 1]);
			fs_forget(fs, st.st_ino, 1);
		}
	}
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(image));
	sim_delete(image);
}

START_TEST(while_threads_work)
{
	enum fs_going how = (enum fs_going)(_i % 3);
	struct sim *sim = sim_make(2, 900);
	struct worker worker[WORKERS];
	unsigned acknowledged[WORKERS], total = 0;
	uint64_t stopped;
	struct fs *fs;

	sim_threads = true;
	fs = sim_mounted(sim, SIM_RW);
	sim_threads = false;
	sim_record(sim, true);
	for (unsigned k = 0; k < WORKERS; k++) {
		char name[8];

		snprintf(name, sizeof(name), "w%u", k);
		worker[k] = (struct worker){ .fs = fs, .index = k, .dir = sim_dir(fs, FS_ROOT_INO, name) };
	}
	for (unsigned k = 0; k < WORKERS; k++)
		ck_assert_int_eq(pthread_create(&worker[k].thread, NULL, work, &worker[k]), 0);
	while (total < 40 + 45 * (unsigned)_i) {
		total = 0;
		for (unsigned k = 0; k < WORKERS; k++)
			total += worker[k].made;
	}
	for (unsigned k = 0; k < WORKERS; k++)
		acknowledged[k] = how == FS_GOING_NOLOGFLUSH ? 0 : worker[k].made;
	ck_assert_int_eq(fs_shutdown(fs, how), 0);
	stopped = sim_events(sim);
	for (unsigned k = 0; k < WORKERS; k++) {
		pthread_join(worker[k].thread, NULL);
		ck_assert_msg(worker[k].error == -EIO, "worker %u ended with %s", k, strerror(-worker[k].error));
		/* With the others, also what was acknowledged while it stopped. */
		if (how != FS_GOING_NOLOGFLUSH)
			acknowledged[k] = worker[k].made;
	}
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_msg(!changes(sim, stopped), "%u changes reached the bricks after it had stopped", changes(sim, stopped));
	check_made(sim, worker, acknowledged);
	sim_record(sim, false);
	sim_delete(sim);
}
END_TEST

/* At once is at once, also when a brick is away and a commit waits for it. */
static void *sync_it(void *arg)
{
	struct worker *w = arg;

	w->error = fs_fsync(w->fs, w->dir, false);
	return NULL;
}

START_TEST(brick_away)
{
	struct sim *sim = sim_make(2, 200);
	struct worker w;

	sim_threads = true;
	w = (struct worker){ .fs = sim_mounted(sim, SIM_RW) };
	sim_threads = false;
	w.dir = sim_file(w.fs, FS_ROOT_INO, "f", 100000, 1);
	sim_away(sim, 0, true, 0);
	sim_away(sim, 1, true, 0);
	ck_assert_int_eq(pthread_create(&w.thread, NULL, sync_it, &w), 0);
	ck_assert_int_eq(fs_shutdown(w.fs, FS_GOING_NOLOGFLUSH), 0);
	pthread_join(w.thread, NULL);
	ck_assert_int_eq(w.error, -EIO);
	sim_away(sim, 0, false, 0);
	sim_away(sim, 1, false, 0);
	ck_assert_int_eq(fs_unmount(w.fs), 0);
	w.fs = sim_mounted(sim, SIM_RW);
	ck_assert_int_eq(fs_unmount(w.fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}
END_TEST

/* The kernel's pages are of files that it holds; all of them are told of, piece by piece. */
START_TEST(held_files)
{
	struct sim *sim = sim_make(1, 100);
	struct fs *fs = sim_mounted(sim, SIM_RW);
	uint64_t held[16], ino[4], after = 0;
	unsigned n = 0, found = 0;
	struct stat st;

	for (unsigned k = 0; k < 16; k++) {
		char name[8];

		snprintf(name, sizeof(name), "%u", k);
		ck_assert_int_eq(k % 3 ? fs_mknod(fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &sim_cred, &st) :
				 fs_mkdir(fs, FS_ROOT_INO, name, 0755, &sim_cred, &st), 0);
		if (k % 5 == 1)
			fs_forget(fs, st.st_ino, 1);
		else if (k % 3)
			held[n++] = st.st_ino;
	}
	ck_assert_int_eq(fs_shutdown(fs, FS_GOING_DEFAULT), 0);
	for (size_t got; (got = fs_held_files(fs, after, ino, 4)); after = ino[got - 1])
		for (size_t k = 0; k < got; k++)
			for (unsigned h = 0; h < n; h++)
				found += held[h] == ino[k];
	ck_assert_uint_eq(found, n);
	fs_unmount(fs);
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shutdown");
	TCase *tcase = tcase_create("all");

	tcase_set_timeout(tcase, 300);
	tcase_add_loop_test(tcase, each_flag, 0, 3);
	tcase_add_loop_test(tcase, while_threads_work, 0, 9);
	tcase_add_test(tcase, brick_away);
	tcase_add_test(tcase, held_files);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
