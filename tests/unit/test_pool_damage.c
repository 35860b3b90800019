/* SPDX-License-Identifier: BSD-3-Clause */
/* Damaged, foreign, truncated and busy pools: each is refused, with the errno and a message that names file and fault. */
#include <grp.h>
#include <xxhash.h>

#include "pool_scratch.h"

#define SLOTS 6

static uint32_t slot_a, slot_b;

/* Where the word of a slot stands, worked out from the format alone. */
static uint64_t word_at(uint32_t slot)
{
	return slot < 4 ? SLOT + slot * 8ull : SLOT + (SLOT + 4 * SLOT) + (slot - 4) * 8ull;
}

/*
 * A check of 16 bits misses one change in 65536.  With a UUID that is always the
 * same, so are all checks, and what these tests find once they find every time.
 */
static void fix_uuid(void)
{
	struct pool_header header = scratch_header(scratch_pool);

	memcpy(header.uuid, "for damage tests", 16);
	scratch_set_header(scratch_pool, &header);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		bool live = slot == slot_a || slot == slot_b;
		uint64_t word = pool_word(header.uuid, slot, live ? POOL_LIVE : POOL_FREE_ZERO,
					  !live ? 0 : slot == slot_a ? 0x10 : 0x20);

		scratch_write(scratch_pool, word_at(slot), &word, 8);
	}
}

/* A pool with two chunks and the blocks 0x10 and 0x20. */
static void setup(void)
{
	struct pool *pool;

	scratch_make(scratch_memory);
	ck_assert_int_eq(pool_create(scratch_pool, 4 * SLOT), 0);
	ck_assert_int_eq(pool_grow(scratch_pool, SLOTS * SLOT), 0);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	ck_assert_int_eq(pool_take(pool, 0x10, &slot_a), 0);
	ck_assert_int_eq(pool_take(pool, 0x20, &slot_b), 0);
	pool_close(pool);
	fix_uuid();
}

static void flip(uint64_t offset)
{
	uint8_t byte;

	scratch_read(scratch_pool, offset, &byte, 1);
	byte ^= 0x10;
	scratch_write(scratch_pool, offset, &byte, 1);
}

static int open_two_live(void *path)
{
	struct pool *pool;
	uint32_t used;
	int rc = pool_open(&pool, path, false);

	if (rc)
		return rc;
	used = pool_slots(pool) - pool_free_slots(pool);
	pool_close(pool);
	return (int)used;
}

/* The pool that the others damage opens. */
START_TEST(intact)
{
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
}
END_TEST

/* A damaged copy of the header, either one, anywhere in it, costs a warning and nothing else, and the open mends it. */
START_TEST(one_header_copy)
{
	static const uint64_t at[] = { 0, 8, 40, 100, 2000, POOL_HEADER_SIZE - 1 };
	struct pool_header before = scratch_header(scratch_pool);
	uint64_t where = (_i & 1 ? POOL_HEADER_DISTANCE : 0) + at[_i / 2];
	char said[32];

	flip(where);
	ck_assert_int_eq(scratch_hear(open_two_live, scratch_pool), 2);
	snprintf(said, sizeof(said), "copy %d of the header", _i & 1);
	ck_assert_ptr_nonnull(strstr(scratch_said, said));
	ck_assert_uint_eq(scratch_header(scratch_pool).instance, before.instance + 1);
	ck_assert_uint_eq(scratch_header(scratch_pool).loss_epoch, before.loss_epoch);
	/* Mended: the other copy may go now. */
	flip((_i & 1 ? 0 : POOL_HEADER_DISTANCE) + 40);
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
}
END_TEST

/* Both copies damaged: refused. */
START_TEST(both_header_copies)
{
	flip(200);
	flip(POOL_HEADER_DISTANCE + 300);
	expect_refused(scratch_pool, -EUCLEAN, "both copies");
}
END_TEST

/* Copies of two different pools, both whole: refused. */
START_TEST(mixed_header_copies)
{
	struct pool_header header = scratch_header(scratch_pool);
	uint8_t bytes[POOL_HEADER_SIZE];

	header.uuid[3] ^= 1;
	pool_header_encode(&header, bytes);
	scratch_write(scratch_pool, POOL_HEADER_DISTANCE, bytes, sizeof(bytes));
	expect_refused(scratch_pool, -EUCLEAN, "different pools");
}
END_TEST

/* Any flipped bit of any slot word is found, and the slot named, in both chunks and in every state. */
START_TEST(slot_word)
{
	uint32_t slot = (uint32_t)_i;
	char said[64];

	snprintf(said, sizeof(said), "the word of slot %u ", slot);
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t word, good;

		scratch_read(scratch_pool, word_at(slot), &good, 8);
		word = good ^ 1ull << bit;
		scratch_write(scratch_pool, word_at(slot), &word, 8);
		expect_refused(scratch_pool, -EUCLEAN, said);
		scratch_write(scratch_pool, word_at(slot), &good, 8);
	}
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
}
END_TEST

/* A hole in a table reads as zeroes, and zeroes are no slot word; a lost table is told in few lines. */
START_TEST(lost_table)
{
	uint8_t zeroes[32] = { 0 };

	scratch_write(scratch_pool, word_at(0), zeroes, sizeof(zeroes));
	expect_refused(scratch_pool, -EUCLEAN, "the word of slot 3 ");
}
END_TEST

/* A slot word from another slot, or of another pool, is not valid where it stands. */
START_TEST(moved_word)
{
	struct pool_header header = scratch_header(scratch_pool);
	uint64_t word;

	scratch_read(scratch_pool, word_at(slot_a), &word, 8);
	scratch_write(scratch_pool, word_at(5), &word, 8);
	expect_refused(scratch_pool, -EUCLEAN, "the word of slot 5 ");
	header.uuid[0] ^= 1;
	word = pool_word(header.uuid, 5, POOL_FREE_ZERO, 0);
	scratch_write(scratch_pool, word_at(5), &word, 8);
	expect_refused(scratch_pool, -EUCLEAN, "the word of slot 5 ");
}
END_TEST

/* Words with a good check that say what cannot be: an unknown state, a free slot with a block. */
START_TEST(impossible_word)
{
	struct pool_header header = scratch_header(scratch_pool);
	uint64_t words[] = { pool_word(header.uuid, 5, (enum pool_state)7, 0), pool_word(header.uuid, 5, (enum pool_state)0, 0),
			     pool_word(header.uuid, 5, POOL_FREE_ZERO, 9), pool_word(header.uuid, 5, POOL_FREE_DIRTY, 9) };

	for (unsigned i = 0; i < 4; i++) {
		scratch_write(scratch_pool, word_at(5), &words[i], 8);
		expect_refused(scratch_pool, -EUCLEAN, "the word of slot 5 ");
	}
}
END_TEST

/* Two live slots with one ID: refused, both slots and the ID named. */
START_TEST(duplicate_block)
{
	struct pool_header header = scratch_header(scratch_pool);
	uint64_t word = pool_word(header.uuid, 5, POOL_LIVE, 0x10);
	char said[80];

	scratch_write(scratch_pool, word_at(5), &word, 8);
	snprintf(said, sizeof(said), "slots %u and 5 both hold block %#llx", slot_a, 0x10ull << POOL_SLOT_SHIFT);
	expect_refused(scratch_pool, -EUCLEAN, said);
}
END_TEST

/* Files that are no pool, of every size; an empty one; a folder; nothing at all. */
START_TEST(foreign)
{
	static const off_t sizes[] = { 0, 100, 4096, 2 << 20, (2 << 20) + 4097, 8 << 20 };
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/foreign", scratch);
	for (unsigned i = 0; i < 6; i++) {
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(ftruncate(fd, sizes[i]), 0);
		ck_assert_int_ge(pwrite(fd, "#!/bin/sh\n", sizes[i] < 10 ? (size_t)sizes[i] : 10, 0), 0);
		close(fd);
		expect_refused(path, -EINVAL, "not a brick pool");
	}
	expect_refused(scratch, -EISDIR, "directory");
	expect_refused("/dev/null", -EINVAL, "neither a regular file");
	unlink(path);
	expect_refused(path, -ENOENT, "no such pool");
}
END_TEST

/* A file that is shorter than its chunks say, by one byte or by nearly all; a longer one is fine. */
START_TEST(truncated)
{
	struct stat st;

	ck_assert_int_eq(stat(scratch_pool, &st), 0);
	ck_assert_int_eq(truncate(scratch_pool, st.st_size + 5000), 0);
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
	ck_assert_int_eq(truncate(scratch_pool, st.st_size - 1), 0);
	expect_refused(scratch_pool, -EUCLEAN, "truncated");
	ck_assert_int_eq(truncate(scratch_pool, 5 << 20), 0);
	expect_refused(scratch_pool, -EUCLEAN, "truncated");
	ck_assert_int_eq(truncate(scratch_pool, 1 << 20), 0);
	expect_refused(scratch_pool, -EINVAL, "not a brick pool");
}
END_TEST

/* Another version: refused by its number, not as damage. */
START_TEST(version)
{
	uint8_t bytes[POOL_HEADER_SIZE];
	struct pool_header header = scratch_header(scratch_pool);
	uint32_t next = POOL_VERSION + 1;
	uint64_t sum;

	pool_header_encode(&header, bytes);
	memcpy(bytes + 8, &next, sizeof(next));
	sum = XXH3_64bits(bytes, POOL_HEADER_SIZE - 8);
	memcpy(bytes + POOL_HEADER_SIZE - 8, &sum, 8);
	scratch_write(scratch_pool, 0, bytes, sizeof(bytes));
	scratch_write(scratch_pool, POOL_HEADER_DISTANCE, bytes, sizeof(bytes));
	expect_refused(scratch_pool, -ENOTSUP, "version 2");
}
END_TEST

/* Feature flags that this version does not know: incompat and ro_compat refuse (a brick writes), compat does not. */
START_TEST(features)
{
	struct pool_header good = scratch_header(scratch_pool), header = good;

	header.incompat = 0x400;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -ENOTSUP, "incompat 0x400");
	header = good;
	header.ro_compat = 0x8;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -ENOTSUP, "ro_compat 0x8");
	header = good;
	header.compat = 0x1;
	scratch_set_header(scratch_pool, &header);
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
	ck_assert_uint_eq(scratch_header(scratch_pool).compat, 1);
}
END_TEST

/* Chunk tables that cannot be, with a good checksum: nothing outside of the file is ever touched. */
START_TEST(impossible_chunks)
{
	struct pool_header good = scratch_header(scratch_pool), header = good;

	header.chunk_count = 0;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -EUCLEAN, "no chunks");
	header = good;
	header.chunk[1].offset += SLOT;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -EUCLEAN, "chunk is not where");
	header = good;
	header.chunk[1].slots = 0;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -EUCLEAN, "no slots");
	header = good;
	header.chunk[1].slots = UINT32_MAX;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -EUCLEAN, "too many slots");
	header = good;
	header.chunk[1].slots = UINT32_MAX - 8;
	scratch_set_header(scratch_pool, &header);
	expect_refused(scratch_pool, -EUCLEAN, "truncated");
}
END_TEST

/* A second opener is refused while the pool is open, here and in another process, with the pid that has it; afterwards not. */
START_TEST(busy)
{
	struct pool *pool;
	char said[64];
	int passed;

	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	snprintf(said, sizeof(said), "busy: process %d", (int)getpid());
	expect_refused(scratch_pool, -EBUSY, said);
	/* A descriptor that was handed out keeps no lock. */
	passed = dup(pool_fd(pool));
	pool_close(pool);
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
	close(passed);
}
END_TEST

static int open_as_nobody(void *path)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (!geteuid() && (setgroups(0, NULL) || setgid(65534) || setuid(65534)))
			_exit(1);
		_exit(scratch_try_open(path) == -EACCES ? 0 : 2);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status ? -EACCES : 0;
}

/* A file that may not be read and written: refused as such. */
START_TEST(not_permitted)
{
	ck_assert_int_eq(chmod(scratch_memory, 0755), 0);
	ck_assert_int_eq(chmod(scratch, 0755), 0);
	ck_assert_int_eq(chmod(scratch_pool, 0444), 0);
	ck_assert_int_eq(scratch_hear(open_as_nobody, scratch_pool), -EACCES);
	ck_assert_ptr_nonnull(strstr(scratch_said, scratch_pool));
	ck_assert_ptr_nonnull(strstr(scratch_said, "reading and writing"));
}
END_TEST

/* A refused open changes nothing in the file. */
START_TEST(refusal_changes_nothing)
{
	struct pool_header header = scratch_header(scratch_pool);
	uint8_t before[POOL_HEADER_SIZE], after[POOL_HEADER_SIZE];

	scratch_read(scratch_pool, 0, before, sizeof(before));
	flip(word_at(2));
	expect_refused(scratch_pool, -EUCLEAN, "slot 2 ");
	scratch_read(scratch_pool, 0, after, sizeof(after));
	ck_assert_mem_eq(before, after, sizeof(before));
	flip(word_at(2));
	ck_assert_int_eq(open_two_live(scratch_pool), 2);
	ck_assert_uint_eq(scratch_header(scratch_pool).instance, header.instance + 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pool damage");
	TCase *tcase = tcase_create("refused");

	tcase_add_checked_fixture(tcase, setup, scratch_remove);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, intact);
	tcase_add_loop_test(tcase, one_header_copy, 0, 12);
	tcase_add_test(tcase, both_header_copies);
	tcase_add_test(tcase, mixed_header_copies);
	tcase_add_loop_test(tcase, slot_word, 0, SLOTS);
	tcase_add_test(tcase, lost_table);
	tcase_add_test(tcase, moved_word);
	tcase_add_test(tcase, impossible_word);
	tcase_add_test(tcase, duplicate_block);
	tcase_add_test(tcase, foreign);
	tcase_add_test(tcase, truncated);
	tcase_add_test(tcase, version);
	tcase_add_test(tcase, features);
	tcase_add_test(tcase, impossible_chunks);
	tcase_add_test(tcase, busy);
	tcase_add_test(tcase, not_permitted);
	tcase_add_test(tcase, refusal_changes_nothing);
	suite_add_tcase(suite, tcase);
	return scratch_run(suite);
}
