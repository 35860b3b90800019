/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core without memory: for every operation over simulated bricks, the first, second, ... allocation fails, until none is left
 * to fail.  The call says -ENOMEM or succeeds; if it failed all is as before; the same call succeeds afterwards; no block and no byte
 * leaks; the check finds nothing after the unmount.
 *
 * Allocations are caught by the linker (--wrap), those of the simulated bricks are left alone.
 */
#include "check_run.h"
#include "fail_memory.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK (2u << 20)

/* ---- mounts */

static const char *const endpoints[] = { "sim:0", "sim:1" };
/* Few maps: others must go. Many lanes: a persist takes memory of its own for them. */
static unsigned lanes, maps;
static unsigned damage_told;

static void tell(void *arg, const char *code, const char *text)
{
	const struct fs_problem *problem = fs_problem_find(code);

	(void)arg, (void)text;
	damage_told += problem && problem->damage;
}

static bool yes(void *arg, const struct fs_problem *problem, const char *text)
{
	(void)arg, (void)problem, (void)text;
	return true;
}

static int mount_it(struct sim *sim, struct fs **fs, bool check, bool repair)
{
	struct fs_options o = {
		.backend = &bricks, .backend_context = sim, .endpoints = endpoints, .endpoint_count = sim_bricks(sim),
		.check = check, .readonly = check, .decide = repair ? yes : NULL, .noatime = true, .manual = true, .timeo_ms = 1000,
		.wait_ms = 1, .lanes = lanes, .maps = maps, .problem = tell,
	};

	damage_told = 0;
	return fs_mount(fs, &o);
}

static struct fs *mounted(struct sim *sim)
{
	struct fs *fs;
	int r = mount_it(sim, &fs, false, false);

	ck_assert_msg(!r, "mount: %s", fs_error_text());
	return fs;
}

/* Blocks that hold data of files. */
static unsigned data_blocks(struct sim *sim)
{
	unsigned n = 0;
	uint64_t addr;

	for (unsigned b = 0; b < sim_bricks(sim); b++)
		for (uint64_t from = 0; sim_next(sim, b, from, &addr); from = addr + BLOCK)
			n += fmt_kind(addr) == FMT_PACKED || fmt_kind(addr) == FMT_FILE;
	return n;
}

static uint64_t at(struct fs *fs, const char *path)
{
	uint64_t ino = FS_ROOT_INO;
	char name[64];

	outside++;	/* Check's memory does not fail either */
	for (const char *p = path; *p; ) {
		size_t n = strcspn(p, "/");

		snprintf(name, sizeof(name), "%.*s", (int)n, p);
		ino = sim_find(fs, ino, name);
		p += n + (p[n] == '/');
	}
	outside--;
	return ino;
}

/* A filesystem with every form of file, kept to be copied. */
static struct sim *prepare(void)
{
	struct sim *sim = sim_make(2, 60);
	struct fs *fs;
	uint64_t dir;
	struct stat st;

	fs = mounted(sim);
	dir = sim_dir(fs, FS_ROOT_INO, "dir");
	sim_dir(fs, dir, "sub");
	sim_dir(fs, FS_ROOT_INO, "empty");
	sim_file(fs, dir, "inline", 200, 1);
	sim_file(fs, dir, "run", 20000, 2);
	sim_file(fs, dir, "run b", 5000, 3);
	sim_file(fs, dir, "ranges", BLOCK + 100000, 4);
	sim_file(fs, dir, "blocks", 3 * BLOCK, 5);
	sim_file(fs, dir, "zero", 0, 6);
	ck_assert_int_eq(fs_symlink(fs, "target", dir, "link", &sim_cred, &st), 0);
	fs_forget(fs, st.st_ino, 1);
	ck_assert_int_eq(fs_setxattr(fs, at(fs, "dir/inline"), "user.a", "value", 5, 0), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	return sim;
}

/* ---- operations: what fails leaves all as before, but for what lies in [from, to) of `changes` */

struct op {
	const char *name;
	int (*run)(struct fs *fs);
	const char *changes;		/* path; NULL: nothing may have changed */
	uint64_t from, to;
	bool keeps;			/* it may not fail at all */
	void (*before)(struct fs *fs);
};

static int write_at(struct fs *fs, const char *path, uint64_t offset, size_t size)
{
	static uint8_t bytes[5 * BLOCK];
	int64_t n;

	memset(bytes, 0x5a, size);
	n = fs_write(fs, at(fs, path), bytes, size, offset);
	return n < 0 ? (int)n : n == (int64_t)size ? 0 : -EIO;
}

#define OP(name, ...) static int name(struct fs *fs) { struct stat st = { .st_mode = 0600 }; int r; (void)st; __VA_ARGS__; return r; }
#define FORGET(call) r = (call); if (!r) fs_forget(fs, st.st_ino, 1)

OP(create, FORGET(fs_mknod(fs, at(fs, "dir"), "new", S_IFREG | 0644, 0, &sim_cred, &st)))
OP(make_dir, FORGET(fs_mkdir(fs, at(fs, "dir"), "new", 0755, &sim_cred, &st)))
OP(make_symlink, FORGET(fs_symlink(fs, "somewhere", at(fs, "dir/sub"), "new", &sim_cred, &st)))
OP(make_link, FORGET(fs_link(fs, at(fs, "dir/run"), at(fs, "empty"), "new", &st)))
OP(create_many, r = 0; uint64_t dir = at(fs, "empty"); for (unsigned k = 0; k < 9 && !r; k++) { char name[8];
	snprintf(name, sizeof(name), "%u", k); FORGET(fs_mknod(fs, dir, name, S_IFREG | 0644, 0, &sim_cred, &st));
	if (r == -EEXIST) r = 0; })
OP(unlink_inline, r = fs_unlink(fs, at(fs, "dir"), "inline"))
OP(unlink_run, r = fs_unlink(fs, at(fs, "dir"), "run"))
OP(unlink_blocks, r = fs_unlink(fs, at(fs, "dir"), "blocks"))
OP(remove_dir, r = fs_rmdir(fs, FS_ROOT_INO, "empty"))
OP(rename_new, r = fs_rename(fs, at(fs, "dir"), "run", at(fs, "empty"), "moved", 0))
OP(rename_over, r = fs_rename(fs, at(fs, "dir"), "run", at(fs, "dir"), "blocks", 0))
OP(rename_exchange, r = fs_rename(fs, at(fs, "dir"), "run", at(fs, "dir/sub"), "x", RENAME_EXCHANGE))
OP(set_mode, r = fs_setattr(fs, at(fs, "dir/run"), &st, FS_SET_MODE, &st))
OP(set_xattr, r = fs_setxattr(fs, at(fs, "dir/run"), "user.new", "value", 5, 0))
OP(replace_xattr, static char value[60000]; r = fs_setxattr(fs, at(fs, "dir/inline"), "user.a", value, sizeof(value), 0))
OP(remove_xattr, r = fs_removexattr(fs, at(fs, "dir/inline"), "user.a"))
OP(write_inline, r = write_at(fs, "dir/inline", 100, 300))
OP(write_empty, r = write_at(fs, "dir/zero", 0, 50))
OP(inline_to_run, r = write_at(fs, "dir/inline", 150, 5000))
OP(run_in_place, r = write_at(fs, "dir/run", 100, 5000))
OP(run_grows, r = write_at(fs, "dir/run", 19000, 30000))
OP(run_to_ranges, r = write_at(fs, "dir/run", 10000, 2 * BLOCK))
OP(empty_to_ranges, r = write_at(fs, "dir/zero", 0, BLOCK + 5))
OP(far_away, r = write_at(fs, "dir/zero", 20ull * BLOCK, 5000))
OP(ranges_in_place, r = write_at(fs, "dir/ranges", 5, BLOCK + 10))
OP(ranges_grow, r = write_at(fs, "dir/ranges", BLOCK + 90000, 2 * BLOCK))
OP(ranges_gap, r = write_at(fs, "dir/ranges", 10ull * BLOCK + 7, BLOCK))
OP(fill_hole, r = write_at(fs, "dir/blocks", BLOCK + 5, BLOCK))
OP(shrink_inline, st.st_size = 20; r = fs_setattr(fs, at(fs, "dir/inline"), &st, FS_SET_SIZE, &st))
OP(shrink_run, st.st_size = 5000; r = fs_setattr(fs, at(fs, "dir/run"), &st, FS_SET_SIZE, &st))
OP(shrink_ranges, st.st_size = BLOCK + 5; r = fs_setattr(fs, at(fs, "dir/blocks"), &st, FS_SET_SIZE, &st))
OP(shrink_to_none, st.st_size = 0; r = fs_setattr(fs, at(fs, "dir/blocks"), &st, FS_SET_SIZE, &st))
OP(extend, st.st_size = 9 * BLOCK; r = fs_setattr(fs, at(fs, "dir/ranges"), &st, FS_SET_SIZE, &st))
OP(preallocate, r = fs_fallocate(fs, at(fs, "dir/ranges"), FALLOC_FL_KEEP_SIZE, 0, 20ull * BLOCK))
OP(preallocate_run, r = fs_fallocate(fs, at(fs, "dir/inline"), 0, 0, 90000))
OP(punch, r = fs_fallocate(fs, at(fs, "dir/blocks"), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 2 * BLOCK))
OP(zero_range, r = fs_fallocate(fs, at(fs, "dir/blocks"), FALLOC_FL_ZERO_RANGE, BLOCK - 5, 3 * BLOCK))
OP(sync_file, r = fs_fsync(fs, at(fs, "dir/ranges"), false))
OP(tick, r = fs_tick(fs))
OP(take_checkpoint, r = fs_checkpoint(fs))
OP(read_all, static uint8_t buf[6 * BLOCK]; int64_t n = fs_read(fs, at(fs, "dir/blocks"), buf, sizeof(buf), 0);
	r = n < 0 ? (int)n : 0)

/* Something to be written, on every lane that there is. */
static void dirty(struct fs *fs)
{
	sim_file(fs, at(fs, "dir/sub"), "x", BLOCK + 5, 7);
	sim_put(fs, at(fs, "dir/ranges"), 30, BLOCK, 8);
	sim_put(fs, at(fs, "dir/run b"), 0, 4000, 9);
}

static void hole(struct fs *fs)
{
	ck_assert_int_eq(punch(fs), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
}

static void deleted(struct fs *fs)
{
	dirty(fs);
	ck_assert_int_eq(unlink_blocks(fs), 0);
}

static void exchangeable(struct fs *fs)
{
	sim_file(fs, at(fs, "dir/sub"), "x", 10, 1);
}

#define ALL UINT64_MAX
static const struct op ops[] = {
	{ "create", create, .changes = NULL },
	{ "mkdir", make_dir, .changes = NULL },
	{ "symlink", make_symlink, .changes = NULL },
	{ "link", make_link, .changes = NULL },
	{ "many names", create_many, .changes = "/empty/" },
	{ "unlink inline", unlink_inline, .changes = NULL },
	{ "unlink run", unlink_run, .changes = NULL },
	{ "unlink ranges", unlink_blocks, .changes = NULL },
	{ "rmdir", remove_dir, .changes = NULL },
	{ "rename", rename_new, .changes = NULL },
	{ "rename over a file", rename_over, .changes = NULL },
	{ "exchange", rename_exchange, .before = exchangeable },
	{ "chmod", set_mode, .changes = NULL },
	{ "setxattr", set_xattr, .changes = NULL },
	{ "setxattr again", replace_xattr, .changes = NULL },
	{ "removexattr", remove_xattr, .changes = NULL },
	{ "write inline", write_inline, .changes = NULL },
	{ "write into an empty file", write_empty, .changes = NULL },
	{ "inline to run", inline_to_run, .changes = NULL },
	{ "write into a run", run_in_place, .changes = "/dir/run ", 100, 5100 },
	{ "grow a run", run_grows, .changes = "/dir/run ", 19000, ALL },
	{ "run to ranges", run_to_ranges, .changes = "/dir/run ", 10000, ALL },
	{ "empty to ranges", empty_to_ranges, .changes = NULL },
	{ "write far away", far_away, .changes = NULL },
	{ "write into ranges", ranges_in_place, .changes = "/dir/ranges ", 5, BLOCK + 15 },
	{ "grow ranges", ranges_grow, .changes = "/dir/ranges ", BLOCK + 90000, ALL },
	{ "write behind a gap", ranges_gap, .changes = NULL },
	{ "fill a hole", fill_hole, .changes = "/dir/blocks ", BLOCK + 5, 2 * BLOCK + 5, .before = hole },
	{ "shrink inline", shrink_inline, .changes = NULL },
	{ "shrink a run", shrink_run, .changes = NULL },
	{ "shrink ranges", shrink_ranges, .changes = NULL },
	{ "truncate to nothing", shrink_to_none, .changes = NULL },
	{ "extend", extend, .changes = NULL },
	{ "fallocate", preallocate, .changes = NULL },
	{ "fallocate a run", preallocate_run, .changes = NULL },
	{ "punch", punch, .changes = "/dir/blocks ", 100, 2 * BLOCK + 100 },
	{ "zero a range", zero_range, .changes = "/dir/blocks ", BLOCK - 5, 4 * BLOCK - 5 },
	{ "fsync", sync_file, .keeps = true, .before = dirty },
	{ "commit and free", tick, .keeps = true, .before = deleted },
	{ "checkpoint", take_checkpoint, .before = dirty },
	{ "read", read_all, .changes = NULL },
};

/* With the data of that file left out, or lines that begin so. */
static char *masked(char *dump, const char *changes)
{
	char *line = dump, *end, *data;

	for (; changes && *line; line = end + 1) {
		end = strchr(line, '\n');
		if (strncmp(line, changes, strlen(changes)))
			continue;
		data = strstr(line, " data ");
		if (changes[strlen(changes) - 1] == '/')
			data = line;
		memmove(data, end + (data == line), strlen(end + (data == line)) + 1);
		end = data == line ? line - 1 : data;
	}
	return dump;
}

static void outside_of(struct fs *fs, const struct op *op, uint8_t *bytes, size_t size, size_t *length)
{
	char path[64];
	int64_t n;

	*length = 0;
	if (!op->changes || op->changes[strlen(op->changes) - 1] == '/')
		return;
	snprintf(path, sizeof(path), "%.*s", (int)strlen(op->changes + 1) - 1, op->changes + 1);
	n = fs_read(fs, at(fs, path), bytes, size, 0);
	ck_assert_int_ge(n, 0);
	*length = (size_t)n;
	for (uint64_t k = op->from; k < op->to && k < *length; k++)
		bytes[k] = 0;
}

/* One operation with its nth allocation failing; false: it has fewer. */
static bool one(struct sim *base, const struct op *op, unsigned nth, const char *result, unsigned blocks)
{
	static uint8_t was[5 * BLOCK], is[5 * BLOCK];
	struct sim *sim = sim_snapshot(base);
	struct fs *fs = mounted(sim);
	char *before, *after;
	size_t was_length, is_length;
	bool hit;
	int r;

	if (op->before)
		op->before(fs);
	before = masked(fs_dump(fs), op->changes);
	outside_of(fs, op, was, sizeof(was), &was_length);
	arm(nth);
	r = op->run(fs);
	hit = disarm();
	ck_assert_msg(!r || (hit && r == -ENOMEM && !op->keeps), "%s, %u: %s", op->name, nth, strerror(-r));
	if (r) {
		after = masked(fs_dump(fs), op->changes);
		sim_same(after, before, op->name);
		free(after);
		outside_of(fs, op, is, sizeof(is), &is_length);
		ck_assert_msg(was_length == is_length && !memcmp(was, is, is_length), "%s, %u: other bytes changed", op->name, nth);
		r = op->run(fs);
		ck_assert_msg(!r, "%s, %u: afterwards: %s", op->name, nth, strerror(-r));
	}
	for (unsigned k = 0; k < 3; k++)
		ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_msg(data_blocks(sim) == blocks, "%s, %u: %u blocks hold data, and not %u", op->name, nth, data_blocks(sim), blocks);
	r = fs_unmount(fs);
	ck_assert_msg(!r, "%s, %u: unmount: %s", op->name, nth, fs_error_text());
	after = sim_clean_dump(sim);
	sim_same(after, result, op->name);
	free(after);
	free(before);
	sim_delete(sim);
	return hit;
}

static const struct { unsigned lanes, maps; } shapes[] = { { 5, 0 }, { 1, 3 } };

static void in_shape(unsigned n)
{
	lanes = shapes[n].lanes;
	maps = shapes[n].maps;
}

START_TEST(operation)
{
	const struct op *op = &ops[_i % (sizeof(ops) / sizeof(ops[0]))];
	struct sim *base, *sim;
	struct fs *fs;
	char *result;
	unsigned blocks, nth = 1;
	long had;

	in_shape(_i / (sizeof(ops) / sizeof(ops[0])));
	base = prepare();
	had = atomic_load(&live);
	/* What becomes of it when all goes well. */
	sim = sim_snapshot(base);
	fs = mounted(sim);
	if (op->before)
		op->before(fs);
	ck_assert_msg(!op->run(fs), "%s: does not work with memory", op->name);
	result = fs_dump(fs);
	for (unsigned k = 0; k < 3; k++)
		ck_assert_int_eq(fs_tick(fs), 0);
	blocks = data_blocks(sim);
	ck_assert_int_eq(fs_unmount(fs), 0);
	sim_delete(sim);

	while (one(base, op, nth, result, blocks))
		nth++;
	free(result);
	ck_assert_msg(atomic_load(&live) == had, "%s: %ld pieces of memory leaked", op->name, atomic_load(&live) - had);
	if (getenv("BRICKFS_TEST_TELL"))
		printf("%s: %u allocations\n", op->name, nth - 1);
	sim_delete(base);
}
END_TEST

/* ---- mount, unmount, mkfs, fsck */

/* As a crash leaves it: records behind a checkpoint, an orphan, blocks that nothing names. */
static struct sim *crashed(void)
{
	struct sim *sim = prepare();
	struct fs *fs = mounted(sim);
	uint64_t ino;

	dirty(fs);
	ck_assert_int_eq(fs_checkpoint(fs), 0);
	ino = sim_file(fs, FS_ROOT_INO, "orphan", 3 * BLOCK, 1);
	ck_assert_int_eq(fs_open(fs, ino, true), 0);
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, "orphan"), 0);
	ck_assert_int_eq(create_many(fs), 0);
	ck_assert_int_eq(fs_setxattr(fs, at(fs, "dir/run"), "user.new", "value", 5, 0), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	sim_file(fs, FS_ROOT_INO, "lost", 3 * BLOCK, 2);
	fs_abandon(fs);
	return sim;
}

static void clean_as(struct sim *sim, const char *expected, const char *what)
{
	char *dump = sim_clean_dump(sim);

	sim_same(dump, expected, what);
	free(dump);
}

START_TEST(mounting)
{
	struct sim *base, *sim;
	struct fs *fs;
	char *expected, *dump;
	unsigned nth = 0, blocks;
	bool hit = true;
	long had;
	int r;

	in_shape(_i / 2);
	base = _i % 2 ? crashed() : prepare();
	had = atomic_load(&live);
	sim = sim_snapshot(base);
	fs = mounted(sim);
	expected = fs_dump(fs);
	ck_assert_int_eq(fs_unmount(fs), 0);
	blocks = data_blocks(sim);
	sim_delete(sim);
	while (hit) {
		sim = sim_snapshot(base);
		arm(++nth);
		r = mount_it(sim, &fs, false, false);
		hit = disarm();
		ck_assert_msg(!r || (hit && r == -ENOMEM), "mount, %u: %s", nth, fs_error_text());
		ck_assert_msg(!damage_told, "mount, %u: a lack of memory was taken for damage", nth);
		if (r) {
			ck_assert(fs_error_text()[0]);
			fs = mounted(sim);
		}
		dump = fs_dump(fs);
		sim_same(dump, expected, "mount");
		free(dump);
		ck_assert_int_eq(fs_unmount(fs), 0);
		ck_assert_uint_eq(data_blocks(sim), blocks);
		clean_as(sim, expected, "mount");
		sim_delete(sim);
	}
	free(expected);
	ck_assert_int_eq(atomic_load(&live), had);
	sim_delete(base);
}
END_TEST

START_TEST(unmounting)
{
	struct sim *base, *sim;
	struct fs *fs;
	char *expected;
	unsigned nth = 0;
	bool hit = true;
	uint64_t ino;
	long had;
	int r;

	in_shape(_i);
	base = prepare();
	had = atomic_load(&live);
	while (hit) {
		sim = sim_snapshot(base);
		fs = mounted(sim);
		dirty(fs);
		ino = at(fs, "dir/blocks");
		ck_assert_int_eq(fs_open(fs, ino, true), 0);
		ck_assert_int_eq(unlink_blocks(fs), 0);
		expected = fs_dump(fs);
		arm(++nth);
		r = fs_unmount(fs);
		hit = disarm();
		ck_assert_msg(!r || (hit && r == -ENOMEM), "unmount, %u: %s", nth, fs_error_text());
		if (r) {	/* as after a crash, but all is there */
			fs = mounted(sim);
			ck_assert_int_eq(fs_unmount(fs), 0);
		}
		clean_as(sim, expected, "unmount");
		free(expected);
		sim_delete(sim);
	}
	ck_assert_int_eq(atomic_load(&live), had);
	sim_delete(base);
}
END_TEST

START_TEST(making)
{
	unsigned nth = 0;
	bool hit = true;
	long had = atomic_load(&live);

	while (hit) {
		struct sim *sim = sim_new();
		struct fs_make_options o = {
			.backend = &bricks, .backend_context = sim, .endpoints = endpoints, .endpoint_count = 2, .label = "label",
		};
		int r;

		sim_add_brick(sim, 30);
		sim_add_brick(sim, 30);
		arm(++nth);
		r = fs_make(&o, NULL);
		hit = disarm();
		ck_assert_msg(!r || (hit && r == -ENOMEM), "mkfs, %u: %s", nth, fs_error_text());
		if (r) {
			ck_assert(fs_error_text()[0]);
			o.force = sim_used(sim, 0) + sim_used(sim, 1) != 0;	/* what is begun has to be made anew */
			ck_assert_msg(!fs_make(&o, NULL), "mkfs after %u: %s", nth, fs_error_text());
		}
		free(sim_clean_dump(sim));
		sim_delete(sim);
	}
	ck_assert_int_eq(atomic_load(&live), had);
}
END_TEST

/* Told, and with how many problems; nothing on the bricks changes. */
START_TEST(checking)
{
	struct sim *base = crashed(), *sim;
	unsigned nth = 0;
	bool hit = true;
	uint64_t problems = 0, visible;
	long had;

	in_shape(0);
	visible = sim_visible(base);
	had = atomic_load(&live);
	for (; hit; nth++) {
		struct fs_check_result result;
		struct fs *fs;
		int r;

		sim = sim_snapshot(base);
		arm(nth);
		r = mount_it(sim, &fs, true, false);
		if (!r) {
			r = fs_check(fs, &result);
			fs_unmount(fs);
		}
		hit = disarm() || !nth;
		ck_assert_msg(!r || (hit && r == -ENOMEM), "check, %u: %s", nth, fs_error_text());
		ck_assert(!damage_told);
		if (!nth)
			problems = result.problems;
		if (!r)
			ck_assert_msg(result.problems == problems, "check, %u: %u problems", nth, (unsigned)result.problems);
		ck_assert_uint_eq(sim_visible(sim), visible);
		sim_delete(sim);
	}
	ck_assert_int_eq(atomic_load(&live), had);
	sim_delete(base);
}
END_TEST

START_TEST(repairing)
{
	struct sim *base = crashed(), *sim;
	unsigned nth = 0;
	bool hit = true;
	uint64_t addr = 0;
	char *expected;
	long had;

	in_shape(0);
	/* A block of a file is not there, and one of its metadata. */
	for (unsigned b = 0; b < 2; b++)
		if (sim_next(base, b, fmt_addr(FMT_FILE, 1), &addr) && fmt_kind(addr) == FMT_FILE) {
			ck_assert_int_eq(sim_poke_free(base, b, addr), 0);
			break;
		}
	sim = sim_snapshot(base);
	expected = sim_fsck(sim, "with memory");
	ck_assert_ptr_nonnull(expected);
	ck_assert(sim_told("blocks-lost"));
	sim_delete(sim);
	had = atomic_load(&live);
	while (hit) {
		struct fs_check_result result;
		struct fs *fs;
		char *dump;
		int r;

		sim = sim_snapshot(base);
		arm(++nth);
		r = mount_it(sim, &fs, true, true);
		if (!r) {
			r = fs_check(fs, &result);
			if (!r)
				r = fs_repair(fs);
			fs_unmount(fs);
		}
		hit = disarm();
		ck_assert_msg(!r || (hit && r == -ENOMEM), "repair, %u: %s: %s", nth, strerror(-r), fs_error_text());
		dump = sim_fsck(sim, "afterwards");	/* the second one, or the one that has memory */
		ck_assert_ptr_nonnull(dump);
		sim_same(dump, expected, "repair");
		free(dump);
		sim_delete(sim);
	}
	ck_assert_int_eq(atomic_load(&live), had);
	free(expected);
	sim_delete(base);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nomem");
	TCase *tcase = tcase_create("all");

	tcase_set_timeout(tcase, 300);
	tcase_add_loop_test(tcase, operation, 0, 2 * sizeof(ops) / sizeof(ops[0]));
	tcase_add_loop_test(tcase, mounting, 0, 4);
	tcase_add_loop_test(tcase, unmounting, 0, 2);
	tcase_add_test(tcase, making);
	tcase_add_test(tcase, checking);
	tcase_add_test(tcase, repairing);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
