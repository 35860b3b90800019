/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_method - what the core tells of how bricks persist: of each one, and of all together.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "core.h"
#include "simbrick.h"

static struct {
	unsigned count;
	char endpoint[8][16], method[8][16];
} told;

static void made(void *arg, const struct fs_brick *brick)
{
	ck_assert_ptr_eq(arg, &told);
	strcpy(told.endpoint[told.count], brick->endpoint);
	strcpy(told.method[told.count++], brick->method);
}

/* mkfs hears of every brick with its method, mount lists them, and the filesystem's is the one that promises least. */
START_TEST(methods)
{
	static const struct {
		const char *brick[3], *all;
	} cases[] = {
		{ { "target", "target", "target" }, "target" },
		{ { "flush", "flush", "flush" }, "flush" },
		{ { "flush", "target", "flush" }, "mixed" },
		{ { "target", "target", FS_VOLATILE }, FS_VOLATILE },
		{ { "flush", FS_VOLATILE, "target" }, FS_VOLATILE },
		{ { FS_VOLATILE, "target", "flush" }, FS_VOLATILE },
	};
	const char *endpoints[] = { "sim:0", "sim:1", "sim:2" };
	struct sim *sim = sim_new();
	struct fs_make_options make = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoints, .endpoint_count = 3,
		.made = made, .made_arg = &told,
	};
	/* The superblock names the others. */
	struct fs_options options = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = &endpoints[1], .endpoint_count = 1, .manual = true,
	};
	struct fs_brick brick;
	struct fs_info info;
	struct fs *fs;

	memset(&told, 0, sizeof(told));
	for (unsigned i = 0; i < 3; i++) {
		sim_add_brick(sim, 20);
		sim_set_method(sim, i, cases[_i].brick[i]);
	}
	ck_assert_int_eq(fs_make(&make, &info), 0);
	ck_assert_str_eq(info.method, cases[_i].all);
	ck_assert_uint_eq(told.count, 3);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_str_eq(told.endpoint[i], endpoints[i]);
		ck_assert_str_eq(told.method[i], cases[_i].brick[i]);
	}
	ck_assert_int_eq(fs_mount(&fs, &options), 0);
	fs_get_info(fs, &info);
	ck_assert_str_eq(info.method, cases[_i].all);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert(fs_get_brick(fs, i, &brick));
		ck_assert_str_eq(brick.method, cases[_i].brick[brick.endpoint[4] - '0']);
		ck_assert_uint_eq(brick.capacity, 20);
	}
	ck_assert(!fs_get_brick(fs, 3, &brick));
	ck_assert_int_eq(fs_unmount(fs), 0);
	/* Told of nothing that was not made. */
	ck_assert_int_lt(fs_make(&make, NULL), 0);
	ck_assert_uint_eq(told.count, 3);
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("method");
	TCase *tcase = tcase_create("method");

	tcase_add_loop_test(tcase, methods, 0, 6);
	suite_add_tcase(suite, tcase);

	return check_run(suite);
}
