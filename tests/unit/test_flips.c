/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random damage in the metadata: a flipped bit, 8 random bytes or a lost page anywhere in superblocks and log is
 * told or refused, or changes nothing; only what stood last in the log of a crashed mount may go without
 * a word.  What is told, fsck -y repairs: then it is clean, and whatever was not named is as it was.  Then records with random bytes changed and signed again: never a crash, and what
 * is taken for sound can be used, emptied and mounted again.
 *
 * BRICKFS_TEST_FLIPS and BRICKFS_TEST_SEED in the environment make other and longer runs.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "intact.h"

#define BATCHES 1024
#define FLIPS 300		/* of each kind, where the environment does not say */

#define IMAGES 3
static struct sim *image[IMAGES];	/* one of everything: after a crash, after an unmount, after mounts that changed nothing and crashed */
static struct sim_steps steps[IMAGES];
static struct intact intact[IMAGES];
static struct sim_batch batch[IMAGES][BATCHES];
static size_t batches[IMAGES];

struct target { unsigned brick; uint64_t addr; uint32_t length; };
static unsigned long repaired, left_out;
static struct target target[IMAGES][64];
static unsigned targets[IMAGES];

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

static uint64_t random64(unsigned *seed)
{
	return (uint64_t)rand_r(seed) << 42 ^ (uint64_t)rand_r(seed) << 21 ^ (uint64_t)rand_r(seed);
}

/* Superblocks and log segments, as far as there is something in them. */
static void find_targets(unsigned k)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	uint64_t addr;

	for (unsigned b = 0; b < sim_bricks(image[k]); b++)
		for (uint64_t from = 0; sim_next(image[k], b, from, &addr); from = addr + FMT_BLOCK) {
			uint32_t length = FMT_BLOCK;

			if (fmt_kind(addr) != FMT_SUPER && fmt_kind(addr) != FMT_LOG)
				continue;
			ck_assert_int_eq(sim_peek(image[k], b, addr, buf, FMT_BLOCK), 0);
			while (length && !buf[length - 1])
				length--;
			length = (length + 256) & ~63u;
			ck_assert_uint_lt(targets[k], 64);
			target[k][targets[k]++] = (struct target){ b, addr, length };
		}
	free(buf);
}

static void make_images(void)
{
	char name[32];

	for (unsigned k = 0; k < IMAGES; k++) {
		struct fs *fs;

		image[k] = sim_make(2, 60);
		fs = sim_mounted(image[k], SIM_RW);
		sim_fill(fs, &steps[k]);
		/* more segments, by mounts that crashed */
		for (unsigned m = 0; m < 3; m++) {
			fs_abandon(fs);
			fs = sim_mounted(image[k], SIM_RW);
			for (unsigned j = 0; j < 4; j++) {
				snprintf(name, sizeof(name), "mount %u %u", m, j);
				sim_file(fs, FS_ROOT_INO, name, 200 * j, m);
				ck_assert_int_eq(fs_tick(fs), 0);
				steps[k].step[steps[k].count++] = fs_dump(fs);
			}
		}
		if (k == 1)
			ck_assert_int_eq(fs_unmount(fs), 0);
		else
			fs_abandon(fs);
		for (unsigned m = 0; k == 2 && m < 2; m++)
			fs_abandon(sim_mounted(image[k], SIM_RW));
		batches[k] = sim_log(image[k], batch[k], BATCHES);
		fs = sim_mounted(image[k], SIM_CHECK);
		intact_note(&intact[k], fs);
		fs_unmount(fs);
		find_targets(k);
	}
}

static void drop_images(void)
{
	for (unsigned k = 0; k < IMAGES; k++) {
		sim_delete(image[k]);
		sim_steps_free(&steps[k]);
		intact_free(&intact[k]);
	}
}

/* Mounted for writing: used, emptied, mounted again. */
static void use(struct sim *sim, bool empty, const char *what)
{
	struct fs *fs = sim_mounted(sim, SIM_RW);
	struct fs_info info;
	struct stat st;
	int r;

	fs_get_info(fs, &info);
	ck_assert_msg(!info.readonly, "%s: the check is content, the mount is not: %s", what, sim_all_told());
	sim_look(fs, FS_ROOT_INO);
	/* Numbers and positions may have been changed to the last ones. */
	r = fs_mkdir(fs, FS_ROOT_INO, "another dir", 0755, &sim_cred, &st);
	ck_assert_msg(!r || (empty && r == -ENOSPC), "%s: mkdir: %s", what, strerror(-r));
	if (!r) {
		fs_forget(fs, st.st_ino, 1);
		sim_file(fs, FS_ROOT_INO, "another file", 9000, 1);
		ck_assert_int_eq(fs_rename(fs, FS_ROOT_INO, "another file", FS_ROOT_INO, "renamed", 0), 0);
	}
	if (empty)
		sim_remove_all(fs, FS_ROOT_INO);
	ck_assert_msg(!fs_unmount(fs), "%s: %s", what, fs_error_text());
	fs = sim_mounted(sim, SIM_CHECK);
	struct fs_check_result result;

	ck_assert_int_eq(fs_check(fs, &result), 0);
	ck_assert_msg(!result.problems, "%s: after use: %s", what, sim_all_told());
	if (empty)
		ck_assert_uint_eq(result.inodes, 1);
	fs_unmount(fs);
}

/* Damages one place; *addr: where; *size: bytes. */
static void damage(struct sim *sim, const struct target *t, unsigned *seed, uint64_t *addr, uint32_t *size, char what[128])
{
	static const uint8_t zero[FMT_PAGE];
	uint32_t at = (uint32_t)(random64(seed) % t->length);
	uint64_t value = random64(seed);
	uint8_t byte;

	*size = 1;
	switch (rand_r(seed) % 8) {
	default:
		ck_assert_int_eq(sim_peek(sim, t->brick, t->addr + at, &byte, 1), 0);
		byte ^= (uint8_t)(1 << value % 8);
		sim_poke(sim, t->brick, t->addr + at, &byte, 1);
		snprintf(what, 128, "bit %u of byte %u", (unsigned)(value % 8), at);
		break;
	case 0: case 1:
		at &= ~7u;
		sim_poke(sim, t->brick, t->addr + at, &value, 8);
		snprintf(what, 128, "8 bytes at %u", at);
		*size = 8;
		break;
	case 2:
		at &= ~(FMT_PAGE - 1);
		sim_poke(sim, t->brick, t->addr + at, zero, FMT_PAGE);
		snprintf(what, 128, "page at %u", at);
		*size = FMT_PAGE;
		break;
	}
	*addr = t->addr + at;
}

/*
 * How many steps may go without a word: in the image of a crash, what a crash of its own may have left. That is the last
 * batch; and all that the last segment held, when nothing of it is left.
 */
static unsigned may_go(uint64_t addr, const char *what)
{
	const struct sim_batch *last = &batch[0][batches[0] - 1], *first = last;
	uint64_t segment = fmt_addr(FMT_LOG, last->segment), from = last->first ? segment : segment + last->offset;

	while (!first->first)
		first--;
	if (!strncmp(what, "page", 4) && addr == segment && last->offset + fmt_batch_size(last->batch.length) <= FMT_PAGE)
		return (unsigned)(last - first + 1);
	return addr >= from && addr < segment + FMT_BLOCK ? 1 : 0;
}

static unsigned long harmless, told_only, last_gone;

/* fsck -y, of which the dump is `after`: usable, and nothing is lost that was not named. */
static void repair_done(struct sim *sim, unsigned k, const struct target *t, uint64_t addr, uint32_t size, bool too, char *after, const char *what)
{
	intact_begin(&intact[k]);
	intact_touch_log(&intact[k], image[k], t->brick, t->addr, (uint32_t)(addr - t->addr), size);
	ck_assert_msg(after != NULL, "%s: not repaired: %s", what, fs_error_text());
	left_out += intact_check(&intact[k], after, what);
	repaired++;
	free(after);
	if (too)
		use(sim, true, what);
}

/* Nothing is told but what the next mount mends: it must look as it did, but for the last batch of a crashed mount. */
static void is_harmless(unsigned k, int step, uint64_t addr, const char *where, const char *what)
{
	int gone = k ? 0 : (int)may_go(addr, where);

	ck_assert_msg(step >= (int)steps[k].count - 1 - gone, "%s: nothing is told, and it looks as after step %d of %u; %s", what, step,
		      steps[k].count - 1, sim_all_told());
	if (step == (int)steps[k].count - 1)
		harmless++;
	else
		last_gone++;
}

/* A mount for writing changes nothing. */
static void stays(struct sim *sim, const char *what)
{
	uint64_t before = sim_visible(sim);
	struct fs_info info;
	struct fs *fs;

	if (!sim_mount(sim, SIM_RW, &fs)) {
		fs_get_info(fs, &info);
		ck_assert_msg(info.readonly, "%s: damaged, and mounted for writing", what);
		fs_unmount(fs);
	}
	ck_assert_msg(sim_visible(sim) == before, "%s: damaged, and written to", what);
}

static void one_flip(unsigned first)
{
	unsigned seed = first, k = rand_r(&seed) % IMAGES;
	const struct target *t = &target[k][rand_r(&seed) % targets[k]];
	struct sim *sim = sim_snapshot(image[k]), *before = NULL;
	struct fs_check_result result;
	char where[128], what[256], *dump;
	uint64_t addr;
	uint32_t size;
	struct fs *fs;
	int step;

	damage(sim, t, &seed, &addr, &size, where);
	snprintf(what, sizeof(what), "place %u: image %u, block %016llx of brick %u, %s", first, k, (unsigned long long)t->addr,
		 t->brick, where);
	if (rand_r(&seed) % 4 == 0)
		before = sim_snapshot(sim);
	ck_assert_msg(!sim_mount_repair(sim, &fs), "%s: %s", what, fs_error_text());
	ck_assert_int_eq(fs_check(fs, &result), 0);
	dump = fs_dump(fs);
	ck_assert_ptr_nonnull(dump);
	step = sim_step_of(&steps[k], dump);
	if (result.problems != result.repairable) {
		if (step == (int)steps[k].count - 1)
			told_only++;
		repair_done(sim, k, t, addr, size, rand_r(&seed) % 8 == 0, sim_fsck_checked(sim, fs, result, dump, what), what);
		if (before)
			stays(before, what);
	} else {
		is_harmless(k, step, addr, where, what);
		if (result.problems) {
			repair_done(sim, k, t, addr, size, false, sim_fsck_checked(sim, fs, result, dump, what), what);
		} else {
			free(dump);
			fs_unmount(fs);
		}
		if (before)
			use(before, false, what);
	}
	if (before)
		sim_delete(before);
	sim_delete(sim);
}

START_TEST(test_flips)
{
	unsigned long count = number("BRICKFS_TEST_FLIPS", FLIPS), seed = number("BRICKFS_TEST_SEED", 1);

	for (unsigned long n = 0; n < count; n++)
		one_flip((unsigned)(seed * 1000003 + n));
	printf("%lu places damaged: %lu harmless, %lu of what a crash may take, the others told (%lu of them, and nothing is lost); %lu repaired and "
	       "clean, %lu lines of dumps left out\n", count, harmless, last_gone, told_only, repaired, left_out);
}
END_TEST

/* ---- signed again */

static void change(uint8_t *p, size_t length, unsigned *seed)
{
	static const uint64_t odd[] = { 0, 1, 2, UINT64_MAX, INT64_MAX, 1ull << 53, 1ull << 39, 4096, 0xffffffff };
	size_t at = random64(seed) % length;
	uint64_t value = rand_r(seed) % 2 ? random64(seed) >> rand_r(seed) % 60 : odd[rand_r(seed) % 9];

	switch (rand_r(seed) % 6) {
	case 0:
		p[at] = (uint8_t)value;
		break;
	case 1:
		p[at] ^= (uint8_t)(1 << value % 8);
		break;
	case 2:
		at &= ~(size_t)3;
		memcpy(p + at, &value, length - at < 4 ? length - at : 4);
		break;
	case 3:		/* a small step */
		p[at] = (uint8_t)(p[at] + (rand_r(seed) % 2 ? 1 : -1));
		break;
	case 4: {	/* something from elsewhere in it */
		size_t from = random64(seed) % length & ~(size_t)7, size = 8;

		at &= ~(size_t)7;
		if (at + size <= length && from + size <= length)
			memmove(p + at, p + from, size);
		break;
	}
	default:
		at &= ~(size_t)7;
		memcpy(p + at, &value, length - at < 8 ? length - at : 8);
	}
}

/* A batch of the head, or the one of a checkpoint segment with the record that holds its checksum. */
static void resign(struct sim *sim, unsigned k, unsigned *seed)
{
	const struct sim_batch *b = &batch[k][random64(seed) % batches[k]];
	uint64_t addr = fmt_addr(FMT_LOG, b->segment) + b->offset;
	uint32_t length = b->batch.length;
	uint8_t *buf = calloc(1, FMT_BLOCK + 64);
	bool changed = false;

	if (rand_r(seed) % 3 == 0) {
		/* the checkpoint, and where it is named */
		for (size_t n = batches[k]; n-- > 0 && !changed;) {
			struct fmt_record record;
			uint8_t *segment;

			b = &batch[k][n];
			addr = fmt_addr(FMT_LOG, b->segment) + b->offset;
			sim_read(sim, addr, buf, (uint32_t)fmt_batch_size(b->batch.length));
			for (size_t at = 0, size; at < b->batch.length && !changed; at += size) {
				struct fmt_checkpoint_segment c;
				struct fmt_batch inner;

				ck_assert_int_eq(fmt_get_record(buf + FMT_BATCH_HEADER + at, b->batch.length - at, &record, &size), 0);
				if (record.type != FMT_CHECKPOINT_DONE || !record.checkpoint.count)
					continue;
				fmt_get_checkpoint_segment(record.checkpoint.raw, 0, &c);
				segment = calloc(1, FMT_BLOCK);
				sim_read(sim, fmt_addr(FMT_LOG, c.number), segment, (uint32_t)c.end);
				ck_assert_int_eq(fmt_get_batch(segment + FMT_SEGMENT_HEADER, FMT_BLOCK - FMT_SEGMENT_HEADER, &inner), 0);
				for (unsigned m = rand_r(seed) % 3 + 1; m; m--)
					change(segment + FMT_SEGMENT_HEADER + FMT_BATCH_HEADER, inner.length, seed);
				fmt_put_batch(segment + FMT_SEGMENT_HEADER, &inner);
				sim_write(sim, fmt_addr(FMT_LOG, c.number), segment, (uint32_t)c.end);
				c.checksum = fmt_checksum(segment, c.end);
				fmt_put_checkpoint(buf + FMT_BATCH_HEADER + at, &(struct fmt_checkpoint){
					.s0 = record.checkpoint.s0, .count = 1, .segments = &c });
				free(segment);
				changed = true;
			}
		}
		ck_assert(changed);
	} else {
		sim_read(sim, addr, buf, (uint32_t)fmt_batch_size(length));
		for (unsigned m = rand_r(seed) % 3 + 1; m; m--)
			change(buf + FMT_BATCH_HEADER, length, seed);
	}
	fmt_put_batch(buf, &b->batch);
	sim_write(sim, addr, buf, (uint32_t)fmt_batch_size(b->batch.length));
	free(buf);
}

START_TEST(test_signed)
{
	unsigned long count = number("BRICKFS_TEST_FLIPS", FLIPS), first = number("BRICKFS_TEST_SEED", 1), sound = 0, refused = 0;

	for (unsigned long n = 0; n < count; n++) {
		unsigned seed = (unsigned)(first * 2000003 + n), k = rand_r(&seed) % IMAGES;
		struct sim *sim = sim_snapshot(image[k]);
		struct fs_check_result result;
		char what[64];
		struct fs *fs;

		snprintf(what, sizeof(what), "signed again, number %lu", n);
		resign(sim, k, &seed);
		if (sim_mount_repair(sim, &fs)) {
			ck_assert_msg(fs_error_text()[0], "%s: refused without a word", what);
			refused++;
		} else {
			ck_assert_int_eq(fs_check(fs, &result), 0);
			sim_look(fs, FS_ROOT_INO);
			if (result.problems == result.repairable) {
				sound++;
				fs_unmount(fs);
			} else {
				char *after = sim_fsck_checked(sim, fs, result, fs_dump(fs), what);

				ck_assert_msg(after != NULL, "%s: not repaired: %s", what, fs_error_text());
				free(after);
			}
			use(sim, true, what);
		}
		sim_delete(sim);
	}
	printf("%lu batches signed again: %lu sound, %lu refused\n", count, sound, refused);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("flips");
	TCase *tcase = tcase_create("flips");

	tcase_set_timeout(tcase, 36000);
	tcase_add_unchecked_fixture(tcase, make_images, drop_images);
	tcase_add_test(tcase, test_flips);
	tcase_add_test(tcase, test_signed);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
