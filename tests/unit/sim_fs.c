/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_fs - see sim_fs.h. */
#include "sim_fs.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct sim_problems sim_problems;
bool sim_threads;
const struct fs_cred sim_cred = { 1000, 100, 022 };

static const char *const endpoints[] = { "sim:0", "sim:1", "sim:2", "sim:3" };

static void tell(void *arg, const char *code, const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct sim_problems *p = arg;

	pthread_mutex_lock(&lock);
	if (p->count < sizeof(p->text) / sizeof(p->text[0]))
		snprintf(p->text[p->count], sizeof(p->text[0]), "%s: %s", code, text);
	p->count++;
	pthread_mutex_unlock(&lock);
}

bool sim_told(const char *code)
{
	size_t length = strlen(code);

	for (unsigned k = 0; k < sim_problems.count && k < sizeof(sim_problems.text) / sizeof(sim_problems.text[0]); k++)
		if (!strncmp(sim_problems.text[k], code, length) && sim_problems.text[k][length] == ':')
			return true;
	return false;
}

const char *sim_all_told(void)
{
	static char all[8192];
	size_t used = 0;

	all[0] = 0;
	for (unsigned k = 0; k < sim_problems.count && k < 16; k++)
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", k ? "; " : "", sim_problems.text[k]);
	return all;
}

bool sim_safe_only;
const uint8_t (*sim_lost)[16];
size_t sim_lost_count;

static bool decide(void *arg, const struct fs_problem *problem, const char *text)
{
	(void)arg;
	(void)text;
	return !sim_safe_only || problem->safe;
}

int sim_mount_repair(struct sim *sim, struct fs **fs)
{
	struct fs_options o = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoints, .endpoint_count = sim_bricks(sim) - sim_lost_count,
		.check = true, .readonly = true, .decide = decide, .lost = sim_lost, .lost_count = sim_lost_count, .manual = true, .timeo_ms = 1000,
		.wait_ms = 1, .lanes = 1, .problem = tell, .problem_arg = &sim_problems,
	};

	sim_problems.count = 0;
	return fs_mount(fs, &o);
}

char *sim_fsck(struct sim *sim, const char *what)
{
	struct fs_check_result result;
	struct fs *fs;

	if (sim_mount_repair(sim, &fs)) {
		ck_assert_msg(fs_error_text()[0], "%s: refused without a word", what);
		return NULL;
	}
	ck_assert_int_eq(fs_check(fs, &result), 0);
	return sim_fsck_checked(sim, fs, result, fs_dump(fs), what);
}

char *sim_fsck_checked(struct sim *sim, struct fs *fs, struct fs_check_result result, char *before, const char *what)
{
	static struct sim_problems told;
	char *after;
	int r;

	told = sim_problems;
	ck_assert_ptr_nonnull(before);
	if (result.problems > result.repairable) {
		r = fs_repair(fs);
		ck_assert_msg(!r, "%s: the repair: %s; told: %s", what, fs_error_text(), sim_all_told());
		fs_unmount(fs);
	} else {
		fs_unmount(fs);
		if (result.problems) {
			fs = sim_mounted(sim, SIM_RW);
			ck_assert_int_eq(fs_unmount(fs), 0);
		}
	}
	sim_lost_count = 0;
	fs = sim_mounted(sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(fs, &result), 0);
	after = fs_dump(fs);
	fs_unmount(fs);
	if (result.problems) {
		static char second[8192];

		snprintf(second, sizeof(second), "%s", sim_all_told());
		sim_problems = told;
		ck_abort_msg("%s: the second check finds: %s; the first told: %s", what, second, sim_all_told());
	}
	sim_problems = told;
	if (!sim_told("block-twice"))	/* what the other one held gets its place only then */
		sim_same(after, before, what);
	free(before);
	return after;
}

struct sim *sim_make(unsigned bricks, uint64_t blocks)
{
	struct fs_make_options o = {
		.backend = &backend_sim, .endpoints = endpoints, .endpoint_count = bricks, .label = "sim",
	};
	struct sim *sim = sim_new();

	for (unsigned b = 0; b < bricks; b++)
		sim_add_brick(sim, blocks);
	o.backend_context = sim;
	ck_assert_msg(!fs_make(&o, NULL), "mkfs: %s", fs_error_text());
	return sim;
}

int sim_mount(struct sim *sim, int how, struct fs **fs)
{
	struct fs_options o = {
		.backend = &backend_sim, .backend_context = sim, .endpoints = endpoints, .endpoint_count = sim_bricks(sim),
		.check = how == SIM_CHECK, .readonly = how == SIM_RO, .noatime = true, .manual = !sim_threads, .commit_ms = 2, .timeo_ms = 1000,
		.wait_ms = 1, .lanes = 1, .problem = tell, .problem_arg = &sim_problems,
	};

	sim_problems.count = 0;
	return fs_mount(fs, &o);
}

struct fs *sim_mounted(struct sim *sim, int how)
{
	struct fs *fs;
	int r = sim_mount(sim, how, &fs);

	ck_assert_msg(!r, "mount: %s; told: %s", fs_error_text(), sim_all_told());
	return fs;
}

char *sim_clean_dump(struct sim *sim)
{
	struct fs *fs = sim_mounted(sim, SIM_CHECK);
	struct fs_check_result result;
	char *dump;

	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(!result.problems, "%u problems: %s", (unsigned)result.problems, sim_all_told());
	dump = fs_dump(fs);
	fs_unmount(fs);
	return dump;
}

void sim_put(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t size, unsigned seed)
{
	uint8_t *buf = malloc(size ? size : 1);

	for (uint64_t k = 0; k < size; k++)
		buf[k] = (uint8_t)(seed + k * 7 + (k >> 9));
	ck_assert_int_eq(fs_write(fs, ino, buf, size, offset), (int64_t)size);
	free(buf);
}

uint64_t sim_file(struct fs *fs, uint64_t dir, const char *name, uint64_t size, unsigned seed)
{
	struct stat st;

	ck_assert_int_eq(fs_mknod(fs, dir, name, S_IFREG | 0644, 0, &sim_cred, &st), 0);
	if (size)
		sim_put(fs, st.st_ino, 0, size, seed);
	fs_forget(fs, st.st_ino, 1);
	return st.st_ino;
}

uint64_t sim_dir(struct fs *fs, uint64_t dir, const char *name)
{
	struct stat st;

	ck_assert_int_eq(fs_mkdir(fs, dir, name, 0755, &sim_cred, &st), 0);
	fs_forget(fs, st.st_ino, 1);
	return st.st_ino;
}

uint64_t sim_find(struct fs *fs, uint64_t dir, const char *name)
{
	struct stat st;

	ck_assert_msg(!fs_lookup(fs, dir, name, &st), "'%s' is not there", name);
	fs_forget(fs, st.st_ino, 1);
	return st.st_ino;
}

struct name { struct name *next; uint64_t ino; mode_t mode; char name[]; };

static int gather(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct name **list = arg, *n;

	(void)position;
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	n = malloc(sizeof(*n) + strlen(name) + 1);
	strcpy(n->name, name);
	n->ino = st->st_ino;
	n->mode = st->st_mode;
	n->next = *list;
	*list = n;
	return 0;
}

uint64_t sim_look(struct fs *fs, uint64_t dir)
{
	static char buf[70000];
	struct name *list = NULL;
	uint64_t count = 0;
	struct stat st;

	ck_assert_int_eq(fs_readdir(fs, dir, 0, false, gather, &list), 0);
	for (struct name *n = list, *next; n; n = next, count++) {
		next = n->next;
		ck_assert_uint_eq(sim_find(fs, dir, n->name), n->ino);
		ck_assert_int_eq(fs_getattr(fs, n->ino, &st), 0);
		if (S_ISREG(n->mode)) {
			fs_read(fs, n->ino, buf, sizeof(buf), 0);
			if (st.st_size > (off_t)sizeof(buf))
				fs_read(fs, n->ino, buf, sizeof(buf), (uint64_t)st.st_size - sizeof(buf));
		} else if (S_ISLNK(n->mode)) {
			ck_assert_int_eq(fs_readlink(fs, n->ino, buf, sizeof(buf)), 0);
		} else if (S_ISDIR(n->mode)) {
			count += sim_look(fs, n->ino);
		}
		if (fs_listxattr(fs, n->ino, buf, sizeof(buf)) > 0) {
			char first[256];

			snprintf(first, sizeof(first), "%.255s", buf);
			ck_assert_int_ge(fs_getxattr(fs, n->ino, first, buf, sizeof(buf)), 0);
		}
		free(n);
	}
	return count;
}

void sim_remove_all(struct fs *fs, uint64_t dir)
{
	struct name *list = NULL;

	ck_assert_int_eq(fs_readdir(fs, dir, 0, false, gather, &list), 0);
	for (struct name *n = list, *next; n; n = next) {
		int r;

		next = n->next;
		if (S_ISDIR(n->mode))
			sim_remove_all(fs, n->ino);
		r = S_ISDIR(n->mode) ? fs_rmdir(fs, dir, n->name) : fs_unlink(fs, dir, n->name);
		ck_assert_msg(!r, "removing '%s': %s", n->name, strerror(-r));
		free(n);
	}
}

/* ---- one of everything */

static void step(struct fs *fs, struct sim_steps *steps)
{
	ck_assert_int_eq(fs_tick(fs), 0);
	if (steps->count < sizeof(steps->step) / sizeof(steps->step[0]))
		steps->step[steps->count++] = fs_dump(fs);
}

static void attribute(struct fs *fs, uint64_t ino, const char *name, size_t size)
{
	char *value = malloc(size + 1);

	memset(value, name[strlen(name) - 1], size);
	ck_assert_int_eq(fs_setxattr(fs, ino, name, value, size, 0), 0);
	free(value);
}

static uint64_t first_half(struct fs *fs, struct sim_steps *steps)
{
	uint64_t dir = sim_dir(fs, FS_ROOT_INO, "dir"), deep = sim_dir(fs, dir, "deep"), file;
	struct stat st;

	sim_dir(fs, deep, "deeper");
	sim_file(fs, dir, "empty", 0, 0);
	sim_file(fs, dir, "inline", 300, 1);
	step(fs, steps);
	file = sim_file(fs, dir, "packed", 9000, 2);
	ck_assert_int_eq(fs_link(fs, file, deep, "packed too", &st), 0);
	fs_forget(fs, file, 1);
	attribute(fs, file, "user.small", 5);
	sim_file(fs, deep, "packed b", 70000, 3);
	step(fs, steps);
	file = sim_file(fs, FS_ROOT_INO, "large", (3u << 20) + 77, 4);
	attribute(fs, file, "user.big", 60000);
	step(fs, steps);
	file = sim_file(fs, FS_ROOT_INO, "sparse", 10, 5);
	sim_put(fs, file, 40u << 20, 5000, 6);
	sim_put(fs, file, 9u << 20, 2u << 20, 7);
	ck_assert_int_eq(fs_symlink(fs, "dir/inline", FS_ROOT_INO, "symlink", &sim_cred, &st), 0);
	fs_forget(fs, st.st_ino, 1);
	ck_assert_int_eq(fs_mknod(fs, dir, "null", S_IFCHR | 0666, makedev(1, 3), &sim_cred, &st), 0);
	fs_forget(fs, st.st_ino, 1);
	ck_assert_int_eq(fs_mknod(fs, dir, "fifo", S_IFIFO | 0600, 0, &sim_cred, &st), 0);
	fs_forget(fs, st.st_ino, 1);
	step(fs, steps);
	return dir;
}

void sim_fill(struct fs *fs, struct sim_steps *steps)
{
	uint64_t dir = first_half(fs, steps), file;
	struct stat st = { .st_mode = 0600, .st_size = 4000 };
	char name[64];

	ck_assert_int_eq(fs_checkpoint(fs), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	for (unsigned k = 0; k < 8; k++) {
		snprintf(name, sizeof(name), "file %u", k);
		file = sim_file(fs, dir, name, 100 + 1500 * k, k);
		step(fs, steps);
	}
	ck_assert_int_eq(fs_unlink(fs, dir, "file 3"), 0);
	ck_assert_int_eq(fs_rename(fs, dir, "file 4", dir, "file 5", 0), 0);
	step(fs, steps);
	ck_assert_int_eq(fs_rename(fs, FS_ROOT_INO, "dir", FS_ROOT_INO, "directory", 0), 0);
	step(fs, steps);
	ck_assert_int_eq(fs_setattr(fs, file, &st, FS_SET_SIZE | FS_SET_MODE, &st), 0);
	step(fs, steps);
	file = sim_find(fs, FS_ROOT_INO, "large");
	ck_assert_int_eq(fs_removexattr(fs, file, "user.big"), 0);
	ck_assert_int_eq(fs_fallocate(fs, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2u << 20), 0);
	step(fs, steps);
	ck_assert_int_eq(fs_link(fs, file, dir, "large too", &st), 0);
	fs_forget(fs, file, 1);
	step(fs, steps);
	attribute(fs, file, "user.last", 700);
	step(fs, steps);
	sim_dir(fs, dir, "last dir");
	sim_file(fs, dir, "last file", 5000, 9);
	step(fs, steps);
}

void sim_steps_free(struct sim_steps *steps)
{
	while (steps->count)
		free(steps->step[--steps->count]);
}

int sim_step_of(const struct sim_steps *steps, const char *dump)
{
	for (unsigned k = steps->count; k-- > 0;)
		if (!strcmp(steps->step[k], dump))
			return (int)k;
	return -1;
}

void sim_same(const char *dump, const char *expected, const char *what)
{
	size_t k = 0;

	while (dump[k] && dump[k] == expected[k])
		k++;
	if (!dump[k] && !expected[k])
		return;
	while (k && dump[k - 1] != '\n')
		k--;
	ck_abort_msg("%s: it is\n%.300s\ninstead of\n%.300s", what, dump + k, expected + k);
}

uint64_t sim_visible(struct sim *sim)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	uint64_t hash = 0, addr;

	for (unsigned b = 0; b < sim_bricks(sim); b++)
		for (uint64_t from = 0; sim_next(sim, b, from, &addr); from = addr + FMT_BLOCK) {
			ck_assert_int_eq(sim_peek(sim, b, addr, buf, FMT_BLOCK), 0);
			hash = (hash * 31 + addr + b) * 31 + fmt_checksum(buf, FMT_BLOCK);
		}
	free(buf);
	return hash;
}

/* ---- the log */

int sim_where(struct sim *sim, uint64_t addr)
{
	for (unsigned b = 0; b < sim_bricks(sim); b++)
		if (sim_has(sim, b, addr))
			return (int)b;
	return -1;
}

void sim_read(struct sim *sim, uint64_t addr, void *buffer, uint32_t length)
{
	int b = sim_where(sim, addr & ~(FMT_BLOCK - 1));

	ck_assert_int_ge(b, 0);
	ck_assert_int_eq(sim_peek(sim, (unsigned)b, addr, buffer, length), 0);
}

void sim_write(struct sim *sim, uint64_t addr, const void *buffer, uint32_t length)
{
	int b = sim_where(sim, addr & ~(FMT_BLOCK - 1));

	ck_assert_int_ge(b, 0);
	ck_assert_int_eq(sim_poke(sim, (unsigned)b, addr, buffer, length), 0);
}

static size_t batches_of(struct sim *sim, uint64_t segment, struct sim_batch *batches, size_t max)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	struct fmt_segment header;
	size_t n = 0;

	sim_read(sim, fmt_addr(FMT_LOG, segment), buf, FMT_BLOCK);
	if (!fmt_get_segment(buf, &header) && header.kind == FMT_HEAD)
		for (uint64_t offset = FMT_SEGMENT_HEADER; n < max && offset < FMT_BLOCK; n++) {
			struct sim_batch b = { .segment = segment, .offset = offset, .header = header, .first = !n };

			if (fmt_get_batch(buf + offset, FMT_BLOCK - offset, &b.batch))
				break;
			batches[n] = b;
			offset += fmt_batch_size(b.batch.length);
		}
	free(buf);
	return n;
}

static uint64_t next_of_all(struct sim *sim, uint64_t from)
{
	uint64_t addr, best = UINT64_MAX;

	for (unsigned b = 0; b < sim_bricks(sim); b++)
		if (sim_next(sim, b, from, &addr) && addr < best)
			best = addr;
	return best;
}

size_t sim_log(struct sim *sim, struct sim_batch *batches, size_t max)
{
	size_t n = 0;

	for (uint64_t addr = next_of_all(sim, fmt_addr(FMT_LOG, 0)); fmt_kind(addr) == FMT_LOG;
	     addr = next_of_all(sim, addr + FMT_BLOCK))
		n += batches_of(sim, fmt_number(addr), batches + n, max - n);
	return n;
}

void sim_forge(struct sim *sim, const void *records, size_t length)
{
	struct sim_batch *all = calloc(1024, sizeof(*all)), *last;
	size_t n = sim_log(sim, all, 1024);
	uint8_t *buf = calloc(1, fmt_batch_size((uint32_t)length));

	ck_assert_uint_gt(n, 0);
	last = &all[n - 1];
	memcpy(buf + FMT_BATCH_HEADER, records, length);
	struct fmt_batch b = last->batch;

	b.length = (uint32_t)length;
	b.number++;
	b.durable_through = b.number - 1;
	fmt_put_batch(buf, &b);
	sim_write(sim, fmt_addr(FMT_LOG, last->segment) + last->offset + fmt_batch_size(last->batch.length), buf,
		  (uint32_t)fmt_batch_size((uint32_t)length));
	free(buf);
	free(all);
}
