/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * orders - what the tests of the orders begin with: one simulated brick with a filesystem,
 * mounted by hand or with threads, and what the mounts told. For one source each.
 */
#ifndef TESTS_ORDERS_H
#define TESTS_ORDERS_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs.h"
#include "simbrick.h"

static const struct fs_cred cred = { 1, 2, 022 };
static char told[512];		/* codes that the last mounts told */

static inline void tell(void *arg, const char *code, const char *text)
{
	printf("   %s: %s\n", code, text);
	if (strcmp(code, "leak") && strcmp(code, "orphan") && strlen(told) + strlen(code) + 2 < sizeof(told))
		strcat(strcat(told, code), " ");
}

static inline struct sim *make_sim(uint64_t blocks)
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

static inline int try_mount(struct sim *sim, bool manual, bool check, struct fs **fs)
{
	const char *endpoint[] = { "sim:0" };
	struct fs_options o = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoint, .endpoint_count = 1,
		.manual = manual, .check = check, .commit_ms = 5, .problem = tell,
	};

	return fs_mount(fs, &o);
}

static inline struct fs *mount_sim(struct sim *sim, bool manual)
{
	struct fs *fs;
	int r = try_mount(sim, manual, false, &fs);

	ck_assert_msg(!r, "mount: %s", fs_error_text());
	return fs;
}

static inline uint64_t make_file(struct fs *fs, const char *name)
{
	struct stat st;
	int r = fs_mknod(fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &cred, &st);

	ck_assert_msg(!r, "%s: %s", name, strerror(-r));
	return st.st_ino;
}

static inline uint64_t look_up(struct fs *fs, const char *name)
{
	struct stat st;

	ck_assert_int_eq(fs_lookup(fs, FS_ROOT_INO, name, &st), 0);
	return st.st_ino;
}

static inline int64_t fill_with(struct fs *fs, uint64_t ino, char c, size_t size, uint64_t offset)
{
	char *data = malloc(size);
	int64_t r;

	memset(data, c, size);
	r = fs_write(fs, ino, data, size, offset);
	free(data);
	return r;
}

static inline void check_clean(struct sim *sim)
{
	struct fs_check_result result;
	struct fs *fs;

	ck_assert_int_eq(try_mount(sim, true, true, &fs), 0);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_uint_eq(result.problems - result.repairable, 0);
	fs_unmount(fs);
}

#endif
