/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Space: runs of pages against a bitmap; and small volumes filled to the last block with each kind of
 * thing, which can still be mounted (after crashes, too), overwritten, cut, punched and emptied, and are
 * then as empty as a new one.
 *
 * BRICKFS_TEST_LONG: every kind on the large volume, too.  BRICKFS_TEST_PLAYS and BRICKFS_TEST_STEPS: how many
 * random plays, and how long.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "fs.h"
#include "sim_fs.h"

/* ---- runs of pages */

#define PAGES FMT_PAGES_PER_BLOCK
#define MODEL_BLOCKS 400
#define MODEL_RUNS 4000

struct model {
	bool block[MODEL_BLOCKS];		/* is there */
	uint8_t page[MODEL_BLOCKS][PAGES];	/* taken */
	struct { uint64_t addr; uint32_t pages; } run[MODEL_RUNS];
	unsigned runs;
};

static bool model_has_room(const struct model *m, uint32_t pages)
{
	for (unsigned b = 0; b < MODEL_BLOCKS; b++)
		for (unsigned p = 0, free = 0; m->block[b] && p < PAGES; p++) {
			free = m->page[b][p] ? 0 : free + 1;
			if (free == pages)
				return true;
		}
	return false;
}

static void model_take(struct model *m, uint64_t addr, uint32_t pages)
{
	uint64_t b = fmt_number(addr), page = addr % FMT_BLOCK >> FMT_PAGE_SHIFT;

	ck_assert_uint_eq(fmt_kind(addr), FMT_PACKED);
	ck_assert_uint_lt(b, MODEL_BLOCKS);
	ck_assert(m->block[b]);
	ck_assert_uint_eq(addr % FMT_PAGE, 0);
	ck_assert_uint_le(page + pages, PAGES);
	for (uint64_t p = page; p < page + pages; p++) {
		ck_assert_msg(!m->page[b][p], "page %u of block %u is given twice", (unsigned)p, (unsigned)b);
		m->page[b][p] = 1;
	}
	m->run[m->runs].addr = addr;
	m->run[m->runs++].pages = pages;
}

/* True if the block is empty now. */
static bool model_free(struct model *m, unsigned k)
{
	uint64_t addr = m->run[k].addr, b = fmt_number(addr), page = addr % FMT_BLOCK >> FMT_PAGE_SHIFT;
	bool empty = true;

	for (uint64_t p = page; p < page + m->run[k].pages; p++)
		m->page[b][p] = 0;
	for (unsigned p = 0; p < PAGES; p++)
		empty &= !m->page[b][p];
	m->block[b] = !empty;
	m->run[k] = m->run[--m->runs];
	return empty;
}

static uint32_t some_pages(unsigned *seed)
{
	return rand_r(seed) % (1u << rand_r(seed) % 9) + 1;
}

static void free_some(struct fs *fs, struct model *m, unsigned *seed)
{
	unsigned k = rand_r(seed) % m->runs;
	uint64_t addr = m->run[k].addr, empty;

	space_free_run(fs, addr, m->run[k].pages, &empty);
	ck_assert_uint_eq(empty, model_free(m, k) ? addr & ~(FMT_BLOCK - 1) : 0);
}

START_TEST(test_runs)
{
	struct sim *sim = sim_make(1, 40);
	struct fs *fs = sim_mounted(sim, SIM_RW), *again;
	struct model *m = calloc(1, sizeof(*m));
	unsigned seed = 1, next = 1, filled = 0;

	for (unsigned step = 0; step < 30000; step++) {
		uint32_t pages = some_pages(&seed);
		uint64_t addr;
		/* more come, then more go */
		bool take = rand_r(&seed) % 100 < (step / 3000 % 2 ? 35 : 65);
		int r;

		if (!take || m->runs == MODEL_RUNS) {
			if (m->runs)
				free_some(fs, m, &seed);
			continue;
		}
		r = space_take_run(fs, step + 2, pages, &addr);
		if (r == -ENOSPC) {
			ck_assert_msg(!model_has_room(m, pages), "%u pages are free and not found", pages);
			filled++;
			if (next == MODEL_BLOCKS)
				continue;
			m->block[next] = true;
			ck_assert_int_eq(space_add_block(fs, next, step + 2, pages), 0);
			addr = fmt_addr(FMT_PACKED, next++);
			r = 0;
		}
		ck_assert_int_eq(r, 0);
		model_take(m, addr, pages);
	}
	ck_assert_uint_gt(filled, 20);
	ck_assert_uint_gt(m->runs, 50);

	/* Claimed by a mount, in another order: the same pages are taken, and a second claim is refused. */
	again = sim_mounted(sim, SIM_RO);
	for (unsigned k = m->runs; k-- > 0;)
		ck_assert_int_eq(space_claim_run(again, k + 2, m->run[k].addr, m->run[k].pages), 0);
	for (unsigned k = 0; k < 200; k++) {
		unsigned run = rand_r(&seed) % m->runs;
		uint32_t skip = rand_r(&seed) % m->run[run].pages;

		ck_assert_int_eq(space_claim_run(again, 9, m->run[run].addr + skip * FMT_PAGE, m->run[run].pages - skip), -EEXIST);
	}
	for (unsigned k = 0; k < 300; k++) {
		uint32_t pages = some_pages(&seed);
		uint64_t addr;

		if (space_take_run(again, 10, pages, &addr))
			ck_assert_msg(!model_has_room(m, pages), "%u pages are free and not found after a mount", pages);
		else if (m->runs < MODEL_RUNS)
			model_take(m, addr, pages);
	}
	while (m->runs)
		free_some(again, m, &seed);
	ck_assert_uint_eq(again->space.count, 0);
	ck_assert_uint_eq(again->space.pages_used, 0);
	free(m);
	fs_unmount(again);
	fs_abandon(fs);
	sim_delete(sim);
}
END_TEST

/* ---- full volumes */

enum kind { BIG, SMALL, EMPTY, DIRS, ATTRIBUTES, KINDS };
static const char *const kind_name[] = { "a big file", "files of 4 KiB", "empty files", "directories with long names",
					 "extended attributes" };
static const uint64_t sizes[] = { 16, 32, 100 };

static void name_of(char name[256], enum kind kind, unsigned k)
{
	if (kind == DIRS)
		snprintf(name, 256, "%0*u", 255, k);
	else
		snprintf(name, 256, "f%u", k);
}

/* One more of them: 0, -ENOSPC, or the test fails. */
static int one_more(struct fs *fs, enum kind kind, unsigned k)
{
	static uint8_t data[FMT_BLOCK];
	uint64_t ino = 0;
	struct stat st;
	char name[256];
	int64_t n;
	int r = 0;

	memset(data, (int)k, kind == BIG ? sizeof(data) : kind == SMALL ? 4096 : kind == ATTRIBUTES ? 60000 : 0);
	name_of(name, kind, k);
	switch (kind) {
	case BIG:
		if (!k)
			sim_file(fs, FS_ROOT_INO, "f0", 0, 0);
		n = fs_write(fs, sim_find(fs, FS_ROOT_INO, "f0"), data, sizeof(data), k * FMT_BLOCK);
		r = n == sizeof(data) ? 0 : n < 0 ? (int)n : -ENOSPC;
		break;
	case SMALL: case EMPTY:
		r = fs_mknod(fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &sim_cred, &st);
		if (!r)
			fs_forget(fs, st.st_ino, 1);
		if (!r && kind == SMALL) {
			n = fs_write(fs, st.st_ino, data, 4096, 0);
			r = n < 0 ? (int)n : n < 4096 ? -ENOSPC : 0;
		}
		break;
	case DIRS:
		r = fs_mkdir(fs, FS_ROOT_INO, name, 0755, &sim_cred, &st);
		if (!r)
			fs_forget(fs, st.st_ino, 1);
		break;
	default:
		snprintf(name, sizeof(name), "f%u", k / 50);
		if (k % 50 == 0) {
			r = fs_mknod(fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &sim_cred, &st);
			if (!r)
				fs_forget(fs, st.st_ino, 1);
		}
		if (!r) {
			ino = sim_find(fs, FS_ROOT_INO, name);
			snprintf(name, sizeof(name), "user.%u", k);
			r = fs_setxattr(fs, ino, name, data, 60000, 0);
		}
	}
	ck_assert_msg(!r || r == -ENOSPC, "%s, number %u: %s", kind_name[kind], k, strerror(-r));
	return r;
}

static unsigned fill(struct fs *fs, enum kind kind)
{
	unsigned k = 0;

	while (!one_more(fs, kind, k))
		if (++k % 256 == 0)
			ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	return k;
}

/* Blocks in use after a checkpoint and an unmount. */
static uint64_t settled_use(struct sim *sim, struct fs *fs)
{
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_checkpoint(fs), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	return sim_used(sim, 0);
}

static void look_same(struct fs *fs, const struct fs_info *before, const char *what)
{
	struct fs_info now;

	fs_get_info(fs, &now);
	ck_assert_msg(!now.readonly, "%s: read-only: %s", what, sim_all_told());
	ck_assert_msg(now.inodes == before->inodes && now.dentries == before->dentries, "%s: %u inodes instead of %u", what,
		      (unsigned)now.inodes, (unsigned)before->inodes);
}

static void overwrite(struct fs *fs, enum kind kind, unsigned count)
{
	uint8_t data[4096], back[4096];
	unsigned seed = 5;
	char name[256];

	if (kind != BIG && kind != SMALL)
		return;
	for (unsigned k = 0; k < 200; k++) {
		unsigned which = rand_r(&seed) % count;
		uint64_t offset = kind == BIG ? which * FMT_BLOCK + rand_r(&seed) % (FMT_BLOCK - 4096) : 0, ino;

		name_of(name, kind, kind == BIG ? 0 : which);
		ino = sim_find(fs, FS_ROOT_INO, name);
		memset(data, (int)k + 1, sizeof(data));
		ck_assert_msg(fs_write(fs, ino, data, sizeof(data), offset) == sizeof(data), "overwriting in %s at full", kind_name[kind]);
		ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
		ck_assert_int_eq(fs_read(fs, ino, back, sizeof(back), offset), sizeof(back));
		ck_assert(!memcmp(data, back, sizeof(back)));
	}
}

static void cut_and_punch(struct fs *fs, enum kind kind, unsigned count)
{
	struct stat st;
	uint64_t ino;

	if (kind == BIG) {
		ino = sim_find(fs, FS_ROOT_INO, "f0");
		ck_assert_int_eq(fs_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FMT_BLOCK, FMT_BLOCK), 0);
		ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
		sim_put(fs, ino, FMT_BLOCK, FMT_BLOCK, 3);	/* there is room for it now */
		st.st_size = (off_t)((count - 1) * FMT_BLOCK - 5);
		ck_assert_int_eq(fs_setattr(fs, ino, &st, FS_SET_SIZE, &st), 0);
		ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
		sim_put(fs, ino, (uint64_t)st.st_size, 1000, 3);
	} else if (kind == SMALL) {
		ino = sim_find(fs, FS_ROOT_INO, "f0");
		ck_assert_int_eq(fs_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100), 0);
		st.st_size = 0;
		ck_assert_int_eq(fs_setattr(fs, ino, &st, FS_SET_SIZE, &st), 0);
	}
}

START_TEST(test_full)
{
	enum kind kind = (enum kind)(_i % KINDS);
	uint64_t blocks = sizes[_i / KINDS], empty;
	struct statvfs room;
	struct fs_info info;
	char what[64];
	struct sim *sim;
	unsigned count;
	struct fs *fs;

	/* A large one has more of the same. */
	if (blocks > 16 && kind != BIG && !getenv("BRICKFS_TEST_LONG"))
		return;
	sim = sim_make(1, blocks);
	fs = sim_mounted(sim, SIM_RW);
	snprintf(what, sizeof(what), "%u blocks, %s", (unsigned)blocks, kind_name[kind]);
	empty = settled_use(sim, fs);
	fs = sim_mounted(sim, SIM_RW);
	ck_assert_int_eq(fs_statfs(fs, &room), 0);
	count = fill(fs, kind);
	printf("  %s: %u\n", what, count);
	/* What statfs promised is there, but for what the log takes of it. */
	if (kind == BIG)
		ck_assert_uint_ge(count + 3, room.f_bavail / PAGES);
	if (kind == SMALL)
		ck_assert_uint_ge(count, (room.f_bavail / PAGES - 3) * PAGES * 9 / 10);
	overwrite(fs, kind, count);
	fs_get_info(fs, &info);
	ck_assert_msg(!fs_unmount(fs), "%s: %s", what, fs_error_text());
	for (unsigned k = 0; k < 3; k++) {
		fs = sim_mounted(sim, SIM_RW);
		look_same(fs, &info, what);
		ck_assert_msg(!fs_unmount(fs), "%s: %s", what, fs_error_text());
	}
	free(kind == BIG ? sim_clean_dump(sim) : NULL);
	for (unsigned k = 0; k < 20; k++) {
		fs = sim_mounted(sim, SIM_RW);
		look_same(fs, &info, what);
		fs_abandon(fs);
	}
	fs = sim_mounted(sim, SIM_RW);
	cut_and_punch(fs, kind, count);
	sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_uint_eq(settled_use(sim, fs), empty);
	/* and once more as good as new */
	fs = sim_mounted(sim, SIM_RW);
	if (kind == BIG || kind == SMALL)
		ck_assert_uint_ge(fill(fs, kind) + 1, count);
	ck_assert_msg(!fs_unmount(fs), "%s: %s", what, fs_error_text());
	fs = sim_mounted(sim, SIM_CHECK);
	struct fs_check_result result;

	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(!result.problems, "%s: %s", what, sim_all_told());
	fs_unmount(fs);
	sim_delete(sim);
}
END_TEST

/* Many creates and unlinks on a volume that is nearly full: none fails, and the log stays short. */
START_TEST(test_burst)
{
	struct sim *sim = sim_make(1, 32);
	struct fs *fs = sim_mounted(sim, SIM_RW);
	uint64_t longest = 0;
	struct fs_info info;
	char name[256];

	fill(fs, BIG);
	ck_assert_int_eq(fs_setattr(fs, sim_find(fs, FS_ROOT_INO, "f0"), &(struct stat){ .st_size = 4 << 20 }, FS_SET_SIZE,
				    &(struct stat){ 0 }), 0);
	ck_assert_int_eq(fs_tick(fs), 0);
	while (space_available(fs) > 2) {	/* all but two blocks */
		struct stat st;

		fs_getattr(fs, sim_find(fs, FS_ROOT_INO, "f0"), &st);
		sim_put(fs, st.st_ino, (uint64_t)st.st_size, FMT_BLOCK, 1);
	}
	for (unsigned k = 0; k < 10000; k++) {
		snprintf(name, sizeof(name), "%0*u", 200, k);
		sim_file(fs, FS_ROOT_INO, name, k % 3 ? 0 : 300, k);
		if (k % 7 == 0)
			ck_assert_int_eq(fs_tick(fs), 0);
		ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, name), 0);
		fs_get_info(fs, &info);
		if (info.log_segments > longest)
			longest = info.log_segments;
	}
	printf("  the log had %u segments at most\n", (unsigned)longest);
	ck_assert_uint_le(longest, 8);
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}
END_TEST

/* Packed blocks that are nearly empty make room for a big file; what is left in them stays what it was. */
START_TEST(test_evacuation)
{
	static const unsigned keep[] = { 10, 37, 2 };
	struct sim *sim = sim_make(1, 20);
	struct fs *fs = sim_mounted(sim, SIM_RW);
	uint8_t data[4096], expected[4096];
	unsigned count = fill(fs, SMALL), left = 0, blocks = 0;
	uint64_t packed, need;
	char name[256];
	int64_t n;

	packed = fs->space.count;
	for (unsigned k = 0; k < count; k++) {
		name_of(name, SMALL, k);
		if (k % keep[_i] == 0)
			left++;
		else
			ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, name), 0);
	}
	ck_assert_int_eq(fs_tick(fs), 0);
	need = (left + PAGES - 1) / PAGES;
	uint64_t ino = sim_file(fs, FS_ROOT_INO, "big", 0, 0);
	uint8_t *block = malloc(FMT_BLOCK);

	memset(block, 7, FMT_BLOCK);
	while ((n = fs_write(fs, ino, block, FMT_BLOCK, blocks * FMT_BLOCK)) == (int64_t)FMT_BLOCK)
		blocks++;
	free(block);
	ck_assert_int_eq(n, -ENOSPC);
	printf("  %u of %u files kept in %u packed blocks, then in %u; a big file got %u blocks\n", left, count, (unsigned)packed,
	       fs->space.count, blocks);
	ck_assert_uint_le(fs->space.count, need + 1);
	ck_assert_uint_ge(blocks + need + 1, packed);
	for (unsigned k = 0; k < count; k += keep[_i]) {
		name_of(name, SMALL, k);
		memset(expected, (int)k, sizeof(expected));
		ck_assert_int_eq(fs_read(fs, sim_find(fs, FS_ROOT_INO, name), data, sizeof(data), 0), sizeof(data));
		ck_assert_msg(!memcmp(data, expected, sizeof(data)), "file %u holds something else", k);
	}
	ck_assert_int_eq(fs_unmount(fs), 0);
	free(sim_clean_dump(sim));
	sim_delete(sim);
}
END_TEST

/* ---- anything, near full, with crashes */

struct play {
	struct sim *sim;
	struct fs *fs;
	unsigned seed, mounts, full;
};

static unsigned pick(struct play *p, unsigned n)
{
	return rand_r(&p->seed) % n;
}

/* What may be answered on a full volume to what is asked at random. */
static void allow(struct play *p, const char *what, int64_t r)
{
	ck_assert_msg(r >= 0 || r == -ENOSPC || r == -EEXIST || r == -ENOENT || r == -EINVAL || r == -EFBIG || r == -ENOTEMPTY ||
		      r == -EISDIR || r == -ENOTDIR || r == -EPERM, "%s, mount %u: %s (%s)", what, p->mounts, strerror((int)-r), sim_all_told());
	p->full += r == -ENOSPC;
}

static void again(struct play *p, bool crash, bool power)
{
	struct fs_info info;

	if (crash)
		fs_abandon(p->fs);
	else
		ck_assert_msg(!fs_unmount(p->fs), "mount %u: unmount: %s", p->mounts, fs_error_text());
	for (unsigned b = 0; power && b < sim_bricks(p->sim); b++)
		sim_power_cut(p->sim, b, NULL);
	p->mounts++;
	p->fs = sim_mounted(p->sim, SIM_RW);
	fs_get_info(p->fs, &info);
	ck_assert_msg(!info.readonly, "mount %u: read-only: %s", p->mounts, sim_all_told());
}

static uint64_t any_file(struct play *p)
{
	char name[256];
	struct stat st;

	snprintf(name, sizeof(name), "f%u", pick(p, 60));
	if (fs_lookup(p->fs, FS_ROOT_INO, name, &st)) {
		int r = fs_mknod(p->fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &sim_cred, &st);

		allow(p, "mknod", r);
		if (r)
			return 0;
	}
	fs_forget(p->fs, st.st_ino, 1);
	return st.st_ino;
}

static void many(struct play *p, unsigned count, bool data)
{
	char name[256];
	struct stat st;
	int r = 0;

	for (unsigned k = 0; k < count && !r; k++) {
		snprintf(name, sizeof(name), "%0*u", 1 + (int)pick(p, 240), pick(p, 1000000));
		r = pick(p, 4) ? fs_mknod(p->fs, FS_ROOT_INO, name, S_IFREG | 0644, 0, &sim_cred, &st) :
				 fs_mkdir(p->fs, FS_ROOT_INO, name, 0755, &sim_cred, &st);
		allow(p, "many", r);
		if (r)
			break;
		fs_forget(p->fs, st.st_ino, 1);
		if (data && S_ISREG(st.st_mode))
			allow(p, "write of many", fs_write(p->fs, st.st_ino, name, 200, pick(p, 9000)));
	}
}

static void play_one(struct play *p)
{
	static uint8_t data[3 << 20];
	struct stat st = { .st_size = pick(p, pick(p, 2) ? 20000 : 9 << 20) };
	size_t size = pick(p, 1u << (pick(p, 22) + 1)) + 1;
	uint64_t offset = pick(p, 3) ? pick(p, 8 << 20) : 0, ino;
	char name[256], other[256];
	struct fs *fs = p->fs;

	size = size < sizeof(data) ? size : sizeof(data);
	snprintf(name, sizeof(name), "f%u", pick(p, 60));
	snprintf(other, sizeof(other), "f%u", pick(p, 60));
	switch (pick(p, 24)) {
	case 0: case 1: case 2: case 3: case 4: case 5:
		if ((ino = any_file(p)))
			allow(p, "write", fs_write(fs, ino, data, size, offset));
		break;
	case 6: case 7:
		snprintf(name, sizeof(name), "user.%u", pick(p, 20));
		if ((ino = any_file(p)))
			allow(p, "setxattr", fs_setxattr(fs, ino, name, data, pick(p, 60000), 0));
		break;
	case 8:
		if ((ino = any_file(p)))
			allow(p, "truncate", fs_setattr(fs, ino, &st, FS_SET_SIZE, &st));
		break;
	case 9:
		if ((ino = any_file(p)))
			allow(p, "punch", fs_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size));
		break;
	case 10:
		if ((ino = any_file(p)))
			allow(p, "fallocate", fs_fallocate(fs, ino, pick(p, 2) ? FALLOC_FL_KEEP_SIZE : 0, offset, size));
		break;
	case 11:
		allow(p, "unlink", fs_unlink(fs, FS_ROOT_INO, name));
		break;
	case 12:
		allow(p, "rename", fs_rename(fs, FS_ROOT_INO, name, FS_ROOT_INO, other, pick(p, 3) ? 0 : 2));
		break;
	case 13:
		if ((ino = any_file(p)) && !fs_link(fs, ino, FS_ROOT_INO, other, &st))
			fs_forget(fs, ino, 1);
		break;
	case 14: case 15:
		many(p, pick(p, 400), pick(p, 2));
		break;
	case 16:
		if ((ino = any_file(p)))
			ck_assert_int_eq(fs_fsync(fs, ino, false), 0);
		break;
	case 17: case 18: case 19:
		ck_assert_int_eq(fs_tick(fs), 0);
		break;
	case 20:
		if (!pick(p, 4))
			again(p, true, pick(p, 2));
		break;
	case 21:
		if (!pick(p, 6))
			again(p, false, false);
		break;
	case 22:
		if (!pick(p, 30))
			sim_remove_all(fs, FS_ROOT_INO);
		break;
	default:		/* to the last block */
		if (!pick(p, 6) && (ino = any_file(p)))
			for (unsigned k = 0; k < 40 && fs_write(fs, ino, data, FMT_BLOCK, k * FMT_BLOCK) > 0; k++)
				;
	}
}

START_TEST(test_play)
{
	static const struct { unsigned bricks; uint64_t blocks; } shape[] = { { 1, 9 }, { 1, 16 }, { 1, 32 }, { 3, 8 } };
	const char *env = getenv("BRICKFS_TEST_STEPS");
	unsigned steps = env && *env ? (unsigned)atoi(env) : 400;
	struct play p = { .sim = sim_make(shape[_i % 4].bricks, shape[_i % 4].blocks), .seed = 100 + (unsigned)_i };
	struct fs_check_result result;
	uint64_t empty, used = 0;

	sim_threads = _i / 4 % 2;
	p.fs = sim_mounted(p.sim, SIM_RW);
	settled_use(p.sim, p.fs);
	for (unsigned b = empty = 0; b < sim_bricks(p.sim); b++)
		empty += sim_used(p.sim, b);
	p.fs = sim_mounted(p.sim, SIM_RW);
	for (unsigned k = 0; k < steps; k++)
		play_one(&p);
	again(&p, false, false);
	sim_remove_all(p.fs, FS_ROOT_INO);
	settled_use(p.sim, p.fs);
	for (unsigned b = 0; b < sim_bricks(p.sim); b++)
		used += sim_used(p.sim, b);
	p.fs = sim_mounted(p.sim, SIM_CHECK);
	ck_assert_int_eq(fs_check(p.fs, &result), 0);
	ck_assert_msg(!result.problems, "%s", sim_all_told());
	ck_assert_uint_eq(result.inodes, 1);
	fs_unmount(p.fs);
	printf("  %u bricks of %u blocks%s: %u steps, %u mounts, full %u times\n", shape[_i % 4].bricks,
	       (unsigned)shape[_i % 4].blocks, sim_threads ? ", threads" : "", steps, p.mounts, p.full);
	ck_assert_uint_gt(p.full, 0);
	ck_assert_uint_eq(used, empty);
	sim_delete(p.sim);
}
END_TEST

int main(void)
{
	const char *plays = getenv("BRICKFS_TEST_PLAYS");
	Suite *suite = suite_create("space");
	TCase *tcase = tcase_create("full"), *random = tcase_create("plays");

	tcase_set_timeout(tcase, 600);
	tcase_set_timeout(random, 3600);
	tcase_add_test(tcase, test_runs);
	tcase_add_loop_test(tcase, test_full, 0, KINDS * (int)(sizeof(sizes) / sizeof(sizes[0])));
	tcase_add_test(tcase, test_burst);
	tcase_add_loop_test(tcase, test_evacuation, 0, 3);
	tcase_add_loop_test(random, test_play, 0, plays && *plays ? atoi(plays) : 8);
	suite_add_tcase(suite, tcase);
	suite_add_tcase(suite, random);
	return check_run(suite);
}
