/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core with its threads, over simulated bricks: several threads write, truncate, punch, rename and
 * remove at once, each checks its own files against a model; then nothing has changed after a
 * remount, and the check finds no problem. For the sanitizers as much as for itself.
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
#include "core.h"
#include "../crash/simbrick.h"

#define THREADS 6
#define FILES 6
#define STEPS 250
#define LARGEST (5u << 20)

struct model { uint64_t ino; size_t size; uint8_t *data; };

struct worker {
	struct fs *fs;
	unsigned seed, index;
	uint64_t dir, shared;
	struct model file[FILES];
	pthread_t thread;
	const char *failed;
};

static const struct fs_cred cred = { 1, 2, 022 };

static void tell(void *arg, const char *code, const char *text)
{
	printf("%s: %s\n", code, text);
}

static struct fs *mount_sim(struct sim *sim, bool check, unsigned maps)
{
	const char *endpoint[] = { "sim:0" };
	struct fs_options o = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoint, .endpoint_count = 1,
		.check = check, .commit_ms = 5, .maps = maps, .problem = tell,
	};
	struct fs *fs;
	int r = fs_mount(&fs, &o);

	ck_assert_msg(!r, "mount: %s", fs_error_text());
	return fs;
}

static bool wrong(struct worker *w, const char *what)
{
	w->failed = what;
	return false;
}

static bool verify(struct worker *w, struct model *m, uint8_t *buf)
{
	if (fs_read(w->fs, m->ino, buf, LARGEST, 0) != (int64_t)m->size)
		return wrong(w, "a size is not what was written");
	return memcmp(buf, m->data, m->size) ? wrong(w, "a file holds something else than what was written") : true;
}

static bool write_some(struct worker *w, struct model *m, uint8_t *buf)
{
	static const size_t scale[] = { 600, 9000, 300000, 2u << 20 };
	size_t size = rand_r(&w->seed) % scale[rand_r(&w->seed) % 4] + 1, offset = rand_r(&w->seed) % (m->size + 5000);

	if (offset + size > LARGEST)
		return true;
	for (size_t k = 0; k < size; k++)
		buf[k] = (uint8_t)(w->seed >> 8) + (uint8_t)(k * 13);
	if (fs_write(w->fs, m->ino, buf, size, offset) != (int64_t)size)
		return wrong(w, "write");
	if (offset > m->size)
		memset(m->data + m->size, 0, offset - m->size);
	memcpy(m->data + offset, buf, size);
	if (offset + size > m->size)
		m->size = offset + size;
	return true;
}

static bool resize(struct worker *w, struct model *m)
{
	struct stat st = { .st_size = rand_r(&w->seed) % LARGEST };

	if (rand_r(&w->seed) % 2)
		st.st_size %= m->size + 1;
	if (fs_setattr(w->fs, m->ino, &st, FS_SET_SIZE, &st))
		return wrong(w, "truncate");
	if ((size_t)st.st_size > m->size)
		memset(m->data + m->size, 0, (size_t)st.st_size - m->size);
	m->size = (size_t)st.st_size;
	return true;
}

static bool punch(struct worker *w, struct model *m)
{
	size_t from = rand_r(&w->seed) % (m->size + 1), length = rand_r(&w->seed) % (4u << 20) + 1;

	if (fs_fallocate(w->fs, m->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, length))
		return wrong(w, "punch");
	if (from < m->size)
		memset(m->data + from, 0, length < m->size - from ? length : m->size - from);
	return true;
}

static bool recreate(struct worker *w, struct model *m, unsigned k)
{
	struct stat st;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "f%u", k);
	if (m->ino) {
		r = fs_unlink(w->fs, w->dir, name);
		if (r && r != -ENOENT)
			return wrong(w, "unlink");
		fs_forget(w->fs, m->ino, 1);
	}
	if (fs_mknod(w->fs, w->dir, name, S_IFREG | 0644, 0, &cred, &st))
		return wrong(w, "mknod");
	m->ino = st.st_ino;
	m->size = 0;
	return true;
}

/* Everybody renames into one directory: names replace each other. */
static bool shuffle(struct worker *w)
{
	struct stat st;
	char name[32], other[32];
	int r;

	snprintf(name, sizeof(name), "s%u", rand_r(&w->seed) % 8);
	snprintf(other, sizeof(other), "s%u", rand_r(&w->seed) % 8);
	r = fs_mknod(w->fs, w->shared, name, S_IFREG | 0600, 0, &cred, &st);
	if (!r) {
		fs_write(w->fs, st.st_ino, other, sizeof(other), 0);
		fs_forget(w->fs, st.st_ino, 1);
	} else if (r != -EEXIST) {
		return wrong(w, "shared mknod");
	}
	r = fs_rename(w->fs, w->shared, name, w->shared, other, rand_r(&w->seed) % 3 ? 0 : 2 /* exchange */);
	if (r && r != -ENOENT)
		return wrong(w, "shared rename");
	r = fs_setxattr(w->fs, w->shared, name, other, sizeof(other), 0);
	return r ? wrong(w, "setxattr") : true;
}

static void *run(void *arg)
{
	struct worker *w = arg;
	uint8_t *buf = malloc(LARGEST);

	for (unsigned k = 0; k < FILES; k++) {
		w->file[k].data = malloc(LARGEST);
		if (!recreate(w, &w->file[k], k))
			goto out;
	}
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned k = rand_r(&w->seed) % FILES;
		struct model *m = &w->file[k];
		bool good = true;

		switch (rand_r(&w->seed) % 12) {
		case 0: case 1: case 2: case 3: case 4:
			good = write_some(w, m, buf);
			break;
		case 5: case 6:
			good = verify(w, m, buf);
			break;
		case 7:
			good = resize(w, m);
			break;
		case 8:
			good = punch(w, m);
			break;
		case 9:
			good = !fs_fsync(w->fs, m->ino, false) || wrong(w, "fsync");
			break;
		case 10:
			good = rand_r(&w->seed) % 4 || recreate(w, m, k);
			break;
		case 11:
			good = shuffle(w);
			break;
		}
		if (!good)
			break;
	}
	for (unsigned k = 0; k < FILES && !w->failed; k++)
		verify(w, &w->file[k], buf);
out:
	free(buf);
	return NULL;
}

static void everything(unsigned bricks, unsigned maps)
{
	const char *endpoint[] = { "sim:0", "sim:1", "sim:2" };
	struct fs_make_options mo = { .backend = &backend_sim, .endpoints = endpoint, .endpoint_count = bricks };
	struct worker w[THREADS] = { 0 };
	struct fs_check_result result;
	struct sim *sim = sim_new();
	char *before, *after;
	struct stat st;
	struct fs *fs;

	for (unsigned b = 0; b < bricks; b++)
		sim_add_brick(sim, 400);
	mo.backend_context = sim;
	ck_assert_msg(!fs_make(&mo, NULL), "%s", fs_error_text());
	fs = mount_sim(sim, false, maps);
	ck_assert_int_eq(fs_mkdir(fs, FS_ROOT_INO, "shared", 0755, &cred, &st), 0);
	for (unsigned k = 0; k < THREADS; k++) {
		char name[32];

		w[k] = (struct worker){ .fs = fs, .seed = 1000 + k, .index = k, .shared = st.st_ino };
		snprintf(name, sizeof(name), "d%u", k);
		struct stat dir;
		ck_assert_int_eq(fs_mkdir(fs, FS_ROOT_INO, name, 0755, &cred, &dir), 0);
		w[k].dir = dir.st_ino;
	}
	for (unsigned k = 0; k < THREADS; k++)
		ck_assert_int_eq(pthread_create(&w[k].thread, NULL, run, &w[k]), 0);
	for (unsigned k = 0; k < 4; k++)
		fs_checkpoint(fs);
	for (unsigned k = 0; k < THREADS; k++)
		pthread_join(w[k].thread, NULL);
	for (unsigned k = 0; k < THREADS; k++) {
		ck_assert_msg(!w[k].failed, "thread %u: %s", k, w[k].failed);
		for (unsigned j = 0; j < FILES; j++)
			free(w[k].file[j].data);
	}
	before = fs_dump(fs);
	ck_assert_int_eq(fs_unmount(fs), 0);

	fs = mount_sim(sim, true, maps);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_uint_eq(result.problems, 0);
	after = fs_dump(fs);
	ck_assert_str_eq(before, after);
	fs_unmount(fs);
	free(before);
	free(after);
	sim_delete(sim);
}

START_TEST(test_one_brick)
{
	everything(1, 0);
}
END_TEST

START_TEST(test_three_bricks_few_maps)
{
	everything(3, 8);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("core with threads");
	TCase *tcase = tcase_create("threads");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, test_one_brick);
	tcase_add_test(tcase, test_three_bricks_few_maps);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
