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

#include "check_run.h"
#include "orders.h"

static int set_size(struct fs *fs, uint64_t ino, uint64_t size)
{
	struct stat st = { .st_size = (off_t)size };

	return fs_setattr(fs, ino, &st, FS_SET_SIZE, &st);
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

/* ---- threads on a full volume */

struct crowd {
	struct fs *fs;
	unsigned index, seed, refused;
	const char *failed;
	pthread_t thread;
};

enum { CROWD = 6, CROWD_FILES = 5, CROWD_LARGEST = 6 << 20 };

/* ---- the fuzzy checkpoint */

static struct fs *fuzzy_fs;
static unsigned fuzzy_seed, fuzzy_due, fuzzy_done;
static uint64_t fuzzy_dir[8];

/* Changes all over the tree, some of what the walk has seen already, some of what it will see. */
static void change_something(struct fs *fs, unsigned count)
{
	static const unsigned which[] = { FS_SET_MODE, FS_SET_MTIME, FS_SET_SIZE, FS_SET_ATIME | FS_SET_MTIME };
	char name[32], other[32];

	for (unsigned k = 0; k < count; k++) {
		uint64_t dir = fuzzy_dir[rand_r(&fuzzy_seed) % 8], to = fuzzy_dir[rand_r(&fuzzy_seed) % 8];
		struct stat st, set = { .st_mode = rand_r(&fuzzy_seed) % 0777, .st_size = rand_r(&fuzzy_seed) % 9000,
					.st_mtim = { 1000 + k, 5 }, .st_atim = { 2000 + k, 6 } };

		snprintf(name, sizeof(name), "n%u", rand_r(&fuzzy_seed) % 600);
		snprintf(other, sizeof(other), "n%u", rand_r(&fuzzy_seed) % 600);
		switch (rand_r(&fuzzy_seed) % 9) {
		case 0:
			if (!fs_mknod(fs, dir, name, S_IFREG | 0600, 0, &cred, &st))
				fs_forget(fs, st.st_ino, 1);
			break;
		case 1:
			fs_unlink(fs, dir, name);
			break;
		case 2:
			fs_rename(fs, dir, name, to, other, 0);
			break;
		case 3:
			fs_rename(fs, dir, name, to, other, 2 /* exchange */);
			break;
		case 4:
			fs_setattr(fs, dir, &set, FS_SET_MTIME, &st);
			break;
		case 5:
			if (!fs_mkdir(fs, dir, name, 0700, &cred, &st))
				fs_forget(fs, st.st_ino, 1);
			break;
		case 6:
			fs_rmdir(fs, dir, name);
			break;
		default:
			if (fs_lookup(fs, dir, name, &st))
				break;
			if (rand_r(&fuzzy_seed) % 2)
				fs_setxattr(fs, st.st_ino, rand_r(&fuzzy_seed) % 2 ? "user.a" : "user.b", other, 20, 0);
			else if (rand_r(&fuzzy_seed) % 2)
				fs_removexattr(fs, st.st_ino, "user.a");
			else if (S_ISREG(st.st_mode))
				fs_setattr(fs, st.st_ino, &set, which[rand_r(&fuzzy_seed) % 4], &set);
			if (!fs_link(fs, st.st_ino, to, other, &set))
				fs_forget(fs, st.st_ino, 1);
			fs_forget(fs, st.st_ino, 1);
		}
	}
}

static int submit_fuzzy(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	if (io->op == BACKEND_WRITE && io->length > 1000000 && fuzzy_due) {
		unsigned due = fuzzy_due;

		fuzzy_due = 0;
		fuzzy_done++;
		change_something(fuzzy_fs, due);
		fuzzy_due = due;
	}
	return backend_sim.submit(session, lane, io);
}

/* Everything that stat tells of everything below, and the positions of entries. */
struct listing { struct fs *fs; char *text; size_t length, room; uint64_t dir; };

static int list_entry(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct listing *l = arg;

	if (l->room < l->length + 512)
		l->text = realloc(l->text, l->room = 2 * l->room + 4096);
	if (position > 2)
		l->length += (size_t)sprintf(l->text + l->length, "%lu %s %lu: %lu %o %lu %ld %ld.%ld %ld.%ld %ld.%ld\n", l->dir, name,
				     position, st->st_ino, st->st_mode, st->st_nlink, st->st_size, st->st_atim.tv_sec,
				     st->st_atim.tv_nsec, st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
	return 0;
}

static char *list_all(struct fs *fs)
{
	struct listing l = { .fs = fs };
	struct stat st;

	for (unsigned k = 0; k < 8; k++) {
		l.dir = fuzzy_dir[k];
		ck_assert_int_eq(fs_getattr(fs, l.dir, &st), 0);
		list_entry(&l, "itself", 99, &st);
		ck_assert_int_eq(fs_readdir(fs, l.dir, 0, false, list_entry, &l), 0);
		/* Without plus only the type is told: ask for the rest. */
	}
	for (uint64_t ino = 1; ino < 20000; ino++)
		if (!fs_getattr(fs, ino, &st)) {
			l.dir = ino;
			list_entry(&l, "attributes", 98, &st);
		}
	return l.text;
}

/* A checkpoint taken while all is being changed, and a crash after it: what is replayed is what was there. */
START_TEST(test_fuzzy_checkpoint)
{
	for (unsigned seed = 1; seed <= 12; seed++) {
		const char *endpoint[] = { "sim:0" };
		struct backend hooked = backend_sim;
		struct sim *sim = make_sim(64);
		struct fs_options o = { .backend = &hooked, .backend_context = sim, .endpoints = endpoint, .endpoint_count = 1,
					.manual = true, .problem = tell };
		char value[2000] = "v", name[32], *before, *after, *tree_before, *tree_after;
		struct stat st;
		struct fs *fs;

		hooked.submit = submit_fuzzy;
		ck_assert_int_eq(fs_mount(&fs, &o), 0);
		fuzzy_fs = fs;
		fuzzy_seed = seed;
		fuzzy_due = fuzzy_done = 0;
		for (unsigned k = 0; k < 8; k++) {
			snprintf(name, sizeof(name), "d%u", k);
			ck_assert_int_eq(fs_mkdir(fs, k % 3 ? fuzzy_dir[0] : FS_ROOT_INO, name, 0755, &cred, &st), 0);
			fuzzy_dir[k] = st.st_ino;
			for (unsigned n = 0; n < 300; n++) {
				snprintf(name, sizeof(name), "n%u", n);
				ck_assert_int_eq(fs_mknod(fs, fuzzy_dir[k], name, S_IFREG | 0644, 0, &cred, &st), 0);
				ck_assert_int_eq(fs_setxattr(fs, st.st_ino, "user.a", value, sizeof(value), 0), 0);
				fs_forget(fs, st.st_ino, 1);
			}
		}
		for (unsigned round = 0; round < 3; round++) {
			change_something(fs, 200);
			fuzzy_due = 300;
			ck_assert_int_eq(fs_checkpoint(fs), 0);
			fuzzy_due = 0;
			change_something(fs, round * 100);
			ck_assert_int_eq(fs_tick(fs), 0);
			before = list_all(fs);
			tree_before = fs_dump(fs);
			fs_abandon(fs);
			fs = fuzzy_fs = NULL;
			ck_assert_int_eq(fs_mount(&fs, &o), 0);
			fuzzy_fs = fs;
			after = list_all(fs);
			tree_after = fs_dump(fs);
			ck_assert_str_eq(tree_before, tree_after);
			if (strcmp(before, after)) {
				size_t k = 0, line = 0;

				for (; before[k] == after[k]; k++)
					if (before[k] == '\n')
						line = k + 1;
				ck_abort_msg("seed %u, round %u:\n%.100s\n%.100s", seed, round, before + line, after + line);
			}
			free(before);
			free(after);
			free(tree_before);
			free(tree_after);
		}
		ck_assert_uint_gt(fuzzy_done, 3);
		ck_assert_str_eq(told, "");
		fs_unmount(fs);
		check_clean(sim);
		sim_delete(sim);
	}
}
END_TEST

/* ---- after an I/O that failed */

enum { TRIED_FILES = 8, TRIED_LARGEST = 5 << 20 };

struct tried { uint64_t ino; size_t size; char letter; char *data, *unknown; };	/* unknown: the letter, or zero */

static void tried_set(struct tried *t, size_t from, size_t to, char value, bool known)
{
	memset(t->data + from, value, to - from);
	memset(t->unknown + from, !known, to - from);
}

static void tried_verify(struct fs *fs, struct tried *t, char *buf, unsigned seed, unsigned step)
{
	struct stat st;
	int64_t r;

	ck_assert_int_eq(fs_getattr(fs, t->ino, &st), 0);
	ck_assert_msg((size_t)st.st_size == t->size, "seed %u, step %u: size %ld instead of %zu", seed, step, (long)st.st_size, t->size);
	r = fs_read(fs, t->ino, buf, TRIED_LARGEST, 0);
	if (r < 0)
		return;
	ck_assert_int_eq(r, (int64_t)t->size);
	for (size_t k = 0; k < t->size; k++)
		if (buf[k] != t->data[k] && !(t->unknown[k] && (!buf[k] || buf[k] == t->letter)))
			ck_abort_msg("seed %u, step %u: file '%c' of %zu bytes has %d instead of %d at %zu", seed, step, t->letter,
				     t->size, buf[k], t->data[k], k);
}

static void tried_step(struct fs *fs, struct tried *t, unsigned *random, char *buf)
{
	static const size_t scale[] = { 400, 5000, 100000, 3u << 20 };
	static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, 0 };
	size_t n = rand_r(random) % scale[rand_r(random) % 4] + 1, at = rand_r(random) % (t->size + 4000), end = at + n, in;
	unsigned what = rand_r(random) % 8;
	int mode = modes[rand_r(random) % 5];
	struct stat st;
	int64_t r;

	if (end > TRIED_LARGEST)
		return;
	in = end < t->size ? end : t->size;
	if (what < 4) {
		memset(buf, t->letter, n);
		r = fs_write(fs, t->ino, buf, n, at);
		if (r == (int64_t)n) {
			if (at > t->size)
				tried_set(t, t->size, at, 0, true);
			tried_set(t, at, end, t->letter, true);
			t->size = end > t->size ? end : t->size;
		} else if (at < in) {
			memset(t->unknown + at, 1, in - at);
		}
	} else if (what < 6) {
		st.st_size = what == 4 ? (off_t)end : (off_t)(rand_r(random) % (t->size + 1));
		if (fs_setattr(fs, t->ino, &st, FS_SET_SIZE, &st))
			return;
		if ((size_t)st.st_size > t->size)
			tried_set(t, t->size, (size_t)st.st_size, 0, true);
		t->size = (size_t)st.st_size;
	} else {
		r = fs_fallocate(fs, t->ino, mode, at, n);
		if (r && at < in && mode != FALLOC_FL_KEEP_SIZE && mode)
			memset(t->unknown + at, 1, in - at);
		if (!r && at < in && mode != FALLOC_FL_KEEP_SIZE && mode)
			tried_set(t, at, in, 0, true);
		if (!r && !(mode & FALLOC_FL_KEEP_SIZE) && end > t->size) {
			tried_set(t, t->size, end, 0, true);
			t->size = end;
		}
	}
}

/* A read, write, map or alloc that fails leaves bytes of nobody else, no other size, and a filesystem that goes on. */
START_TEST(test_after_failed_io)
{
	static const enum sim_call calls[] = { SIM_WRITE, SIM_WRITE, SIM_WRITE, SIM_READ, SIM_MAP };
	char *buf = malloc(TRIED_LARGEST);
	unsigned steps = 0;

	for (unsigned seed = 1; seed <= 100; seed++) {
		struct tried file[TRIED_FILES];
		struct sim *sim = make_sim(90), *after;
		struct fs *fs = mount_sim(sim, true);
		unsigned random = seed;
		char name[8];

		told[0] = 0;
		for (unsigned k = 0; k < TRIED_FILES; k++) {
			snprintf(name, sizeof(name), "%c", 'A' + k);
			file[k] = (struct tried){ .ino = make_file(fs, name), .letter = (char)('A' + k),
						  .data = calloc(1, TRIED_LARGEST), .unknown = calloc(1, TRIED_LARGEST) };
		}
		for (unsigned step = 0; step < 300; step++) {
			struct tried *t = &file[rand_r(&random) % TRIED_FILES];
			bool fault = rand_r(&random) % 3 == 0;

			/* Faults are for data: nothing waits for the log when they are set. */
			if (fault) {
				if (fs_tick(fs))
					break;		/* one that was left hit the log */
				if (!fs->drops)
					sim_fault(sim, -1, calls[rand_r(&random) % 5], rand_r(&random) % 3 + 1, -EIO, false);
			}
			tried_step(fs, t, &random, buf);
			for (unsigned spent = 0; fault && spent < 4; spent++) {	/* what is left of it */
				fs_read(fs, t->ino, buf, 1, 0);
				fs_write(fs, t->ino, &t->letter, 0, 0);
			}
			if (vol_error(fs->vol))
				break;
			tried_verify(fs, t, buf, seed, step);
			steps++;
			if (rand_r(&random) % 40 == 0) {	/* its pages go to others */
				fs_forget(fs, t->ino, 1);
				snprintf(name, sizeof(name), "%c", t->letter);
				if (fs_unlink(fs, FS_ROOT_INO, name))
					break;
				t->ino = make_file(fs, name);
				t->size = 0;
			}
		}
		for (unsigned k = 0; k < TRIED_FILES; k++) {
			free(file[k].data);
			free(file[k].unknown);
		}
		after = sim_snapshot(sim);	/* without the faults that are left */
		fs_abandon(fs);
		fs_unmount(mount_sim(after, true));
		check_clean(after);
		sim_delete(after);
		sim_delete(sim);
	}
	printf("  %u steps\n", steps);
	free(buf);
}
END_TEST

/* ---- crashes under threads */

struct author { struct fs *fs; unsigned index, seed; pthread_t thread; };

static void *author_run(void *arg)
{
	struct author *a = arg;
	static const size_t scale[] = { 500, 9000, 100000, 1500000 };
	char name[8], letter, *buf = malloc(2 << 20);
	struct stat st, size;

	for (unsigned step = 0; step < 120; step++) {
		size_t n = rand_r(&a->seed) % scale[rand_r(&a->seed) % 4] + 1, at = rand_r(&a->seed) % 3000000;

		letter = (char)('a' + a->index * 4 + rand_r(&a->seed) % 4);
		snprintf(name, sizeof(name), "%c", letter);
		if (fs_lookup(a->fs, FS_ROOT_INO, name, &st) && fs_mknod(a->fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &cred, &st))
			continue;
		memset(buf, letter, n);
		size.st_size = (off_t)(rand_r(&a->seed) % 4 ? at : 0);
		switch (rand_r(&a->seed) % 8) {
		case 0: case 1: case 2:
			fs_write(a->fs, st.st_ino, buf, n, rand_r(&a->seed) % 2 ? (uint64_t)st.st_size : at);
			break;
		case 3:
			fs_setattr(a->fs, st.st_ino, &size, FS_SET_SIZE, &size);
			break;
		case 4:
			fs_fallocate(a->fs, st.st_ino, rand_r(&a->seed) % 2 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE :
				     FALLOC_FL_KEEP_SIZE, at, 2 * n);
			break;
		case 5:
			fs_unlink(a->fs, FS_ROOT_INO, name);
			break;
		case 6:
			fs_fsync(a->fs, st.st_ino, false);
			break;
		default:
			if (a->index == 0 && rand_r(&a->seed) % 3 == 0)
				fs_checkpoint(a->fs);
		}
		fs_forget(a->fs, st.st_ino, 1);
	}
	free(buf);
	return NULL;
}

/* What any power cut leaves of several threads at work can be mounted, has no damage, and no byte of another file. */
START_TEST(test_power_cuts_under_threads)
{
	unsigned images = 0;

	for (unsigned seed = 1; seed <= 6; seed++) {
		struct sim *sim = make_sim(40);
		struct fs *fs = mount_sim(sim, false);
		char *buf = malloc(8 << 20);
		unsigned random = seed;
		struct author a[5];
		uint64_t events;

		sim_record(sim, true);
		for (unsigned k = 0; k < 5; k++) {
			a[k] = (struct author){ .fs = fs, .index = k, .seed = seed * 100 + k };
			ck_assert_int_eq(pthread_create(&a[k].thread, NULL, author_run, &a[k]), 0);
		}
		for (unsigned k = 0; k < 5; k++)
			pthread_join(a[k].thread, NULL);
		events = sim_events(sim);
		fs_abandon(fs);
		for (unsigned n = 1; n <= 60; n++) {
			uint64_t at = events * n / 60, atoms;
			uint8_t *selection;
			struct sim *image;

			sim_pieces(sim, at, NULL, 0, &atoms);
			selection = calloc(1, atoms / 8 + 1);
			for (uint64_t k = 0; k < atoms / 8 + 1 && n % 3; k++)
				selection[k] = n % 3 == 1 ? 255 : (uint8_t)rand_r(&random);
			image = sim_image(sim, at, SIM_POWER_CUT, selection);
			free(selection);
			told[0] = 0;
			fs = mount_sim(image, true);
			ck_assert_msg(!told[0], "seed %u, event %lu of %lu: %s", seed, (unsigned long)at, (unsigned long)events, told);
			for (char letter = 'a'; letter < 'a' + 20; letter++) {
				char name[2] = { letter, 0 };
				struct stat st;
				int64_t r;

				if (fs_lookup(fs, FS_ROOT_INO, name, &st))
					continue;
				r = fs_read(fs, st.st_ino, buf, 8 << 20, 0);
				ck_assert_int_eq(r, st.st_size);
				for (int64_t k = 0; k < r; k++)
					if (buf[k] && buf[k] != letter)
						ck_abort_msg("seed %u, event %lu: file '%c' of %ld bytes holds '%c' at %ld", seed,
							     (unsigned long)at, letter, (long)r, buf[k], (long)k);
			}
			fs_unmount(fs);
			check_clean(image);
			sim_delete(image);
			images++;
		}
		free(buf);
		sim_delete(sim);
	}
	printf("  %u images\n", images);
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

/* A block at the very end of the address space is foreign like others: the comparison comes to an end. */
START_TEST(test_last_address)
{
	struct sim *sim = make_sim(64);
	struct fs *fs;

	ck_assert_int_eq(sim_poke_alloc(sim, 0, 0ull - FMT_BLOCK), 0);
	fs = mount_sim(sim, true);
	ck_assert_str_eq(told, "foreign-block damaged ");
	fs_unmount(fs);
	sim_delete(sim);
}
END_TEST

int main(void)
{
	const struct { const char *name; const TTest *test; } tests[] = {
		{ "persist", test_persist_covers_every_lane },
		{ "failed commit", test_waiters_of_a_failed_commit },
		{ "fuzzy checkpoint", test_fuzzy_checkpoint },
		{ "after failed I/O", test_after_failed_io },
		{ "power cuts under threads", test_power_cuts_under_threads },
		{ "punch and fsync", test_punch_is_durable_after_fsync },
		{ "blocks of holes", test_blocks_while_holes_are_freed },
		{ "symlink with a run", test_symlink_with_a_run },
		{ "root with a name", test_root_with_a_name },
		{ "last address", test_last_address },
	};
	Suite *suite = suite_create("orders");

	for (size_t k = 0; k < sizeof(tests) / sizeof(tests[0]); k++) {
		TCase *tcase = tcase_create(tests[k].name);

		tcase_set_timeout(tcase, 120);
		tcase_add_test(tcase, tests[k].test);
		suite_add_tcase(suite, tcase);
	}
	return check_run(suite);
}
