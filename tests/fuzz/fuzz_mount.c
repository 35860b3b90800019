/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_mount - hostile metadata for the mount and the check, behind right checksums.
 *
 * A small filesystem on two simulated bricks that crashed; the first byte of the input says where the rest goes:
 * records of one more batch in the head, signed; the same in the place of the last batch; records in the place of
 * what the checkpoint holds, signed; over a superblock, signed; over the header of a log segment, signed; raw, anywhere in the log.
 * Mounted with check, all that names lead to is looked at. What is taken for sound must mount for writing, take a
 * file, let everything be deleted, and be sound again. Never a crash, a hang, or a write to what is damaged.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core.h"
#include "format.h"
#include "simbrick.h"

const char fuzz_name[] = "fuzz_mount";
const unsigned long fuzz_count = 4000;

enum where { APPEND, REPLACE, CHECKPOINT, SUPERBLOCK, SEGMENT, RAW, WHERES };

static struct sim *image;
static struct { uint64_t segment, offset; struct fmt_batch batch; } last;	/* of the head */
static uint64_t checkpoint_batch;					/* address of the batch that holds its record */
static unsigned long refused, damaged, sound;

static const char *const endpoints[] = {"sim:0", "sim:1"};
static const struct fs_cred cred = {.uid = 1, .gid = 1};

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "BUG: %s (%s)\n", what, fs_error_text());
	abort();
}

static int mount(struct sim *sim, bool check, struct fs **fs)
{
	struct fs_options options = {.backend = &backend_sim, .backend_context = sim, .endpoints = endpoints, .endpoint_count = 2,
				     .manual = true, .check = check, .readonly = check};

	return fs_mount(fs, &options);
}

static int brick_of(struct sim *sim, uint64_t block)
{
	return sim_has(sim, 0, block) ? 0 : sim_has(sim, 1, block) ? 1 : -1;
}

static bool get(struct sim *sim, uint64_t addr, void *buffer, uint32_t length)
{
	int b = brick_of(sim, addr & ~(FMT_BLOCK - 1));

	return b >= 0 && !sim_peek(sim, (unsigned)b, addr, buffer, length);
}

static void put(struct sim *sim, uint64_t addr, const void *buffer, uint32_t length)
{
	int b = brick_of(sim, addr & ~(FMT_BLOCK - 1));

	must(b >= 0 && !sim_poke(sim, (unsigned)b, addr, buffer, length), "the image is not what it was");
}

/* ---- the image */

static uint64_t file(struct fs *fs, uint64_t dir, const char *name, size_t size)
{
	uint8_t *bytes = malloc(size + 1);
	struct stat st;

	memset(bytes, name[0], size);
	must(!fs_mknod(fs, dir, name, S_IFREG | 0644, 0, &cred, &st), "mknod");
	must(!fs_open(fs, st.st_ino, true), "open");
	must(!size || fs_write(fs, st.st_ino, bytes, size, 0) == (int64_t)size, "write");
	must(!fs_release(fs, st.st_ino), "release");
	fs_forget(fs, st.st_ino, 1);
	free(bytes);
	return st.st_ino;
}

static void fill(struct fs *fs)
{
	struct stat st;

	must(!fs_mkdir(fs, FS_ROOT_INO, "dir", 0755, &cred, &st), "mkdir");
	fs_forget(fs, st.st_ino, 1);
	file(fs, st.st_ino, "inline", 100);
	file(fs, FS_ROOT_INO, "packed", 9000);
	must(!fs_checkpoint(fs), "checkpoint");
	fs_setxattr(fs, file(fs, FS_ROOT_INO, "large", 1100 << 10), "user.x", "value", 5, 0);
	must(!fs_symlink(fs, "target", FS_ROOT_INO, "symlink", &cred, &st), "symlink");
	fs_forget(fs, st.st_ino, 1);
	must(!fs_tick(fs), "tick");
	file(fs, FS_ROOT_INO, "gone", 600);
	must(!fs_unlink(fs, FS_ROOT_INO, "gone"), "unlink");
	must(!fs_tick(fs), "tick");
}

/* The last batch of the head, and the one with the checkpoint's record. */
static void look_at_log(void)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	uint64_t addr, best = 0;

	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = fmt_addr(FMT_LOG, 0); sim_next(image, b, from, &addr) && fmt_kind(addr) == FMT_LOG; from = addr + 1) {
			struct fmt_segment s;
			struct fmt_batch batch;

			get(image, addr, buf, FMT_BLOCK);
			if (fmt_get_segment(buf, &s) || s.kind != FMT_HEAD)
				continue;
			for (uint64_t at = FMT_SEGMENT_HEADER; at < FMT_BLOCK && !fmt_get_batch(buf + at, FMT_BLOCK - at, &batch);
			     at += fmt_batch_size(batch.length)) {
				struct fmt_record r;
				size_t size;

				if (batch.number > best) {
					best = batch.number;
					last.segment = s.number;
					last.offset = at;
					last.batch = batch;
				}
				for (size_t k = 0; k < batch.length && !fmt_get_record(buf + at + FMT_BATCH_HEADER + k,
										      batch.length - k, &r, &size); k += size)
					if (r.type == FMT_CHECKPOINT_DONE && r.checkpoint.count)
						checkpoint_batch = addr + at;
			}
		}
	must(best && checkpoint_batch, "the image has no log");
	free(buf);
}

static void prepare(void)
{
	struct fs_make_options make = {.backend = &backend_sim, .endpoints = endpoints, .endpoint_count = 2, .label = "fuzz"};
	struct fs_info made;
	struct fs *fs;

	if (image)
		return;
	image = sim_new();
	sim_add_brick(image, 24);
	sim_add_brick(image, 24);
	make.backend_context = image;
	must(!fs_make(&make, &made), "mkfs");
	must(!mount(image, false, &fs), "mount");
	fill(fs);
	fs_abandon(fs);
	look_at_log();
}

/* ---- one input */

static void sign_batch(struct sim *sim, uint64_t addr, const struct fmt_batch *head, const uint8_t *records, size_t length)
{
	struct fmt_batch b = *head;
	uint8_t *buf;

	if ((addr & (FMT_BLOCK - 1)) + fmt_batch_size((uint32_t)length) > FMT_BLOCK)
		return;
	buf = calloc(1, fmt_batch_size((uint32_t)length));
	memcpy(buf + FMT_BATCH_HEADER, records, length);
	b.length = (uint32_t)length;
	fmt_put_batch(buf, &b);
	put(sim, addr, buf, (uint32_t)fmt_batch_size(b.length));
	free(buf);
}

/* The checkpoint's one segment gets these records, and its record the checksum. */
static void replace_checkpoint(struct sim *sim, const uint8_t *records, size_t length)
{
	uint8_t *buf = malloc(FMT_BLOCK), *segment = calloc(1, FMT_BLOCK);
	struct fmt_checkpoint_segment c;
	struct fmt_record r;
	struct fmt_batch b, inner;
	size_t size;

	get(sim, checkpoint_batch, buf, (uint32_t)(FMT_BLOCK - (checkpoint_batch & (FMT_BLOCK - 1))));
	must(!fmt_get_batch(buf, FMT_BLOCK - (checkpoint_batch & (FMT_BLOCK - 1)), &b), "the checkpoint is gone");
	for (size_t k = 0; k < b.length && !fmt_get_record(buf + FMT_BATCH_HEADER + k, b.length - k, &r, &size); k += size) {
		if (r.type != FMT_CHECKPOINT_DONE || !r.checkpoint.count)
			continue;
		fmt_get_checkpoint_segment(r.checkpoint.raw, 0, &c);
		get(sim, fmt_addr(FMT_LOG, c.number), segment, FMT_BLOCK);
		must(!fmt_get_batch(segment + FMT_SEGMENT_HEADER, FMT_BLOCK - FMT_SEGMENT_HEADER, &inner), "no batch");
		memset(segment + FMT_SEGMENT_HEADER + FMT_BATCH_HEADER, 0, FMT_BATCH_ALIGN + (length > inner.length ? length : inner.length));
		memcpy(segment + FMT_SEGMENT_HEADER + FMT_BATCH_HEADER, records, length);
		inner.length = (uint32_t)length;
		fmt_put_batch(segment + FMT_SEGMENT_HEADER, &inner);
		c.end = FMT_SEGMENT_HEADER + fmt_batch_size(inner.length);
		c.checksum = fmt_checksum(segment, c.end);
		put(sim, fmt_addr(FMT_LOG, c.number), segment, (uint32_t)c.end);
		fmt_put_checkpoint(buf + FMT_BATCH_HEADER + k, &(struct fmt_checkpoint){.s0 = r.checkpoint.s0, .count = 1, .segments = &c});
		break;
	}
	fmt_put_batch(buf, &b);
	put(sim, checkpoint_batch, buf, (uint32_t)fmt_batch_size(b.length));
	free(segment);
	free(buf);
}

/* The bytes of the input are differences, from an offset that its first two bytes say. */
static void change(uint8_t *buf, size_t size, const uint8_t *data, size_t length)
{
	size_t at;

	if (length < 2)
		return;
	at = (data[0] | (size_t)data[1] << 8) % size;
	for (size_t k = 2; k < length && at + k - 2 < size; k++)
		buf[at + k - 2] ^= data[k];
}

static void hurt(struct sim *sim, unsigned where, const uint8_t *data, size_t size)
{
	uint64_t addr = fmt_addr(FMT_LOG, last.segment);
	uint8_t page[FMT_PAGE];
	struct fmt_batch b = last.batch;

	switch (where % WHERES) {
	case APPEND:
		b.number++;
		b.durable_through = b.number - 1;
		sign_batch(sim, addr + last.offset + fmt_batch_size(last.batch.length), &b, data, size);
		break;
	case REPLACE:
		sign_batch(sim, addr + last.offset, &b, data, size);
		break;
	case CHECKPOINT:
		replace_checkpoint(sim, data, size);
		break;
	case SUPERBLOCK:
		for (unsigned k = 0; k < 2; k++)	/* of one brick, or of both */
			if (!(where / WHERES) || where / WHERES % 2 == k)
				for (unsigned copy = 0; copy < 2; copy++) {
					uint64_t sum;

					must(!sim_peek(sim, k, FMT_SUPER_ADDR + copy * FMT_PAGE, page, FMT_PAGE), "no superblock");
					change(page, FMT_PAGE - 8, data, size);
					sum = fmt_checksum(page, FMT_PAGE - 8);
					memcpy(page + FMT_PAGE - 8, &sum, 8);
					must(!sim_poke(sim, k, FMT_SUPER_ADDR + copy * FMT_PAGE, page, FMT_PAGE), "no superblock");
				}
		break;
	case SEGMENT: {
		uint64_t sum;

		get(sim, addr, page, FMT_SEGMENT_HEADER);
		change(page, FMT_SEGMENT_HEADER - 8, data, size);
		sum = fmt_checksum(page, FMT_SEGMENT_HEADER - 8);
		memcpy(page + FMT_SEGMENT_HEADER - 8, &sum, 8);
		put(sim, addr, page, FMT_SEGMENT_HEADER);
		break;
	}
	default: {
		uint8_t *buf = malloc(64 << 10);

		get(sim, addr, buf, 64 << 10);
		change(buf, 64 << 10, data, size);
		put(sim, addr, buf, 64 << 10);
		free(buf);
	}
	}
}

struct names { unsigned n; char name[64][FS_NAME_MAX + 1]; mode_t mode[64]; uint64_t ino[64]; };

static int collect(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct names *list = arg;

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	if (list->n == 64)
		return 1;
	strcpy(list->name[list->n], name);
	list->mode[list->n] = st->st_mode;
	list->ino[list->n++] = st->st_ino;
	return 0;
}

static void look(struct fs *fs, uint64_t dir, unsigned depth)
{
	struct names *list = calloc(1, sizeof(*list));
	static uint8_t buf[65536 + 1];
	struct stat st;

	fs_readdir(fs, dir, 0, false, collect, list);
	for (unsigned k = 0; k < list->n; k++) {
		must(!fs_lookup(fs, dir, list->name[k], &st), "a name that is listed is not there");
		must(st.st_ino == list->ino[k] && !((st.st_mode ^ list->mode[k]) & S_IFMT), "a name that is listed is another");
		fs_listxattr(fs, st.st_ino, (char *)buf, sizeof(buf));
		if (S_ISLNK(st.st_mode))
			fs_readlink(fs, st.st_ino, (char *)buf, sizeof(buf));
		if (S_ISREG(st.st_mode) && !fs_open(fs, st.st_ino, false)) {
			fs_read(fs, st.st_ino, buf, 65536, 0);
			fs_read(fs, st.st_ino, buf, 65536, st.st_size > 60000 ? (uint64_t)st.st_size - 60000 : 0);
			fs_release(fs, st.st_ino);
		}
		if (S_ISDIR(st.st_mode) && depth < 16)
			look(fs, st.st_ino, depth + 1);
		fs_forget(fs, st.st_ino, 1);
	}
	free(list);
}

/* Everything below; directories that are too deep are left. */
static bool empty(struct fs *fs, uint64_t dir, unsigned depth)
{
	struct names *list = calloc(1, sizeof(*list));
	bool all = true;

	do {
		list->n = 0;
		must(!fs_readdir(fs, dir, 0, false, collect, list), "readdir");
		for (unsigned k = 0; k < list->n && all; k++) {
			if (!S_ISDIR(list->mode[k])) {
				must(!fs_unlink(fs, dir, list->name[k]), "a file of a sound filesystem cannot be removed");
				continue;
			}
			all = depth < 64 && empty(fs, list->ino[k], depth + 1);
			must(!all || !fs_rmdir(fs, dir, list->name[k]), "an empty directory cannot be removed");
		}
	} while (all && list->n);
	free(list);
	return all;
}

static uint64_t visible(struct sim *sim)
{
	uint8_t *buf = malloc(64 << 10);
	uint64_t hash = 0, addr;

	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = 0; sim_next(sim, b, from, &addr); from = addr + FMT_BLOCK) {
			sim_peek(sim, b, addr, buf, 64 << 10);
			hash = (hash * 31 + addr + b) * 31 + fmt_checksum(buf, 64 << 10);
		}
	free(buf);
	return hash;
}

static void use(struct sim *sim)
{
	struct fs_check_result result;
	struct fs_info info;
	struct stat st;
	struct fs *fs;
	bool all;
	int r;

	r = mount(sim, false, &fs);
	if (r == -EPROTONOSUPPORT)
		return;		/* features that may be read and not written */
	must(!r, "the check is content, the mount is not");
	fs_get_info(fs, &info);
	must(!info.readonly, "the check is content, the mount is read-only");
	/* Numbers may stand at their ends. */
	r = fs_mknod(fs, FS_ROOT_INO, "a new file", S_IFREG | 0644, 0, &cred, &st);
	must(!r || r == -ENOSPC || r == -EEXIST, "a sound filesystem takes no file");
	if (!r) {
		must(!fs_open(fs, st.st_ino, true), "open");
		r = (int)fs_write(fs, st.st_ino, "bytes", 5, 9000);
		must(r == 5 || r == -ENOSPC, "write");
		fs_release(fs, st.st_ino);
		fs_forget(fs, st.st_ino, 1);
	}
	all = empty(fs, FS_ROOT_INO, 0);
	must(!fs_unmount(fs), "unmount");
	must(!mount(sim, true, &fs), "after use: the check");
	must(!fs_check(fs, &result) && !result.problems, "after use: problems");
	must(!all || result.inodes == 1, "after use: inodes are left");
	fs_unmount(fs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fs_check_result result;
	struct sim *sim;
	struct fs *fs;

	prepare();
	if (!size || size > FUZZ_INPUT_MAX)
		return 0;
	sim = sim_snapshot(image);
	hurt(sim, data[0], data + 1, size - 1);
	if (mount(sim, true, &fs)) {
		must(fs_error_text()[0], "refused without a word");
		must(mount(sim, false, &fs), "the check is refused, the mount is not");
		refused++;
	} else {
		must(!fs_check(fs, &result), "the check fails");
		look(fs, FS_ROOT_INO, 0);
		fs_unmount(fs);
		if (result.problems == result.repairable) {
			sound++;
			use(sim);
		} else {
			uint64_t before = visible(sim);
			struct fs_info info;

			damaged++;
			/* Without its root directory only fsck can do something with it. */
			if (!mount(sim, false, &fs)) {
				fs_get_info(fs, &info);
				must(info.readonly, "damaged, and mounted for writing");
				fs_unmount(fs);
			}
			must(visible(sim) == before, "damaged, and written to");
		}
	}
	sim_delete(sim);
	return 0;
}

/* Samples: the records of each batch of the image, appended, in place, as the checkpoint; and changes of nothing. */
size_t fuzz_sample(uint8_t *buf, unsigned n)
{
	uint8_t *block;
	uint64_t addr;
	unsigned k = 0;

	prepare();
	if (n < 3) {
		static const uint8_t change_of[3] = {SUPERBLOCK, SEGMENT, RAW};

		memset(buf, 0, 16);
		buf[0] = change_of[n];
		buf[1] = n == 0 ? 120 : n == 1 ? 24 : 200;
		return 16;
	}
	n -= 3;
	block = malloc(FMT_BLOCK);
	for (unsigned b = 0; b < 2; b++)
		for (uint64_t from = fmt_addr(FMT_LOG, 0); sim_next(image, b, from, &addr) && fmt_kind(addr) == FMT_LOG; from = addr + 1) {
			struct fmt_segment s;
			struct fmt_batch batch;

			get(image, addr, block, FMT_BLOCK);
			if (fmt_get_segment(block, &s))
				continue;
			for (uint64_t at = FMT_SEGMENT_HEADER; at < FMT_BLOCK && !fmt_get_batch(block + at, FMT_BLOCK - at, &batch);
			     at += fmt_batch_size(batch.length), k++) {
				if (k != n / 3 || batch.length >= FUZZ_INPUT_MAX)
					continue;
				buf[0] = n % 3 == 0 ? APPEND : n % 3 == 1 ? REPLACE : CHECKPOINT;
				memcpy(buf + 1, block + at + FMT_BATCH_HEADER, batch.length);
				free(block);
				return 1 + batch.length;
			}
		}
	free(block);
	return 0;
}

int fuzz_report(unsigned long inputs)
{
	printf("refused %lu, damaged %lu, sound %lu\n", refused, damaged, sound);
	return inputs >= 1000 && (!refused || !damaged || !sound);
}
