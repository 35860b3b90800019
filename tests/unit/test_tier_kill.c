/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: a brickd that is killed with its memory full and started again has every byte that was placed, under the same
 * loss epoch, wherever the kill came; and the loss epoch is raised when that memory is gone, damaged or of another time.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>

#include "endpoint.h"
#include "tier_scratch.h"

#define SLOTS  10
#define FRAMES 4

static uint32_t slot[SLOTS];
static uint64_t loss;
static char memory_path[400];
static uint8_t uuid[16];

static void find_memory(const char *folder)
{
	char text[37];

	format_uuid(uuid, text);
	snprintf(memory_path, sizeof(memory_path), "%s/brickd-%s.memory", folder, text);
}

static void setup(void)
{
	start(SLOTS, FRAMES);
	for (uint32_t i = 0; i < SLOTS; i++)
		slot[i] = take(i);
	loss = pool_loss_epoch(pool);
	memcpy(uuid, pool_uuid(pool), sizeof(uuid));
	find_memory(scratch);
	ck_assert_int_eq(access(memory_path, F_OK), 0);
	close_tier();
	/* An orderly end leaves no memory behind. */
	ck_assert_int_ne(access(memory_path, F_OK), 0);
}

static void teardown(void)
{
	scratch_remove();
}

/* A brickd that places value into its newest blocks, persists nothing, and is killed; -1: it did not come so far. */
static void killed_with(uint32_t frames, uint64_t value)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (try_tier(frames))
			_exit(1);
		for (uint32_t i = 0; i < SLOTS; i++)
			put(slot[i], i, value, false);
		fill_block(pin(slot[0], true), 0, value + 1); /* still mapped when it dies */
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

static void expect_all(uint64_t value)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		expect_block(slot[i], i, i ? value : value + 1);
}

/* Killed and started again, several times: all is there, unsettled, and the loss epoch is what it was. */
START_TEST(taken_up)
{
	for (uint64_t value = 1; value < 20; value += 3) {
		killed_with(FRAMES, value);
		open_tier(FRAMES);
		ck_assert_uint_eq(pool_loss_epoch(pool), loss);
		ck_assert_uint_eq(stat_of().dirty, FRAMES);
		ck_assert(tier_unsettled(tier, slot[0]));
		expect_all(value);
		ck_assert(!block_is(pool_address(pool, slot[0]), 0, value + 1));
		ck_assert_int_eq(tier_settle(tier, slot[0]), 0);
		ck_assert(block_is(pool_address(pool, slot[0]), 0, value + 1));
		close_tier();
		ck_assert_int_ne(access(memory_path, F_OK), 0);
	}
	open_tier(0);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	close_tier();
}
END_TEST

/* With another size of memory, larger and smaller, and in another folder, nothing is lost either. */
START_TEST(other_layout)
{
	static const uint32_t frames[] = { 2, 7, SLOTS, 1 };
	char other[300];
	struct tier_config config = { .mode = TIER_MEMORY, .memory = FRAMES * SLOT, .folder = other };

	for (unsigned i = 0; i < 4; i++) {
		killed_with(FRAMES, i * 10);
		open_tier(frames[i]);
		ck_assert_uint_eq(pool_loss_epoch(pool), loss);
		ck_assert_uint_eq(stat_of().memory, frames[i]);
		ck_assert_uint_eq(stat_of().used, 0);
		expect_all(i * 10);
		close_tier();
	}
	/* It is left in the default folder, and the next one wants it elsewhere. */
	snprintf(other, sizeof(other), "%s/other", scratch);
	ck_assert_int_eq(mkdir(other, 0700), 0);
	if (!fork()) {
		config.folder = NULL;
		if (pool_load(&pool, scratch_pool) || tier_open_with(&tier, pool, &config))
			_exit(1);
		for (uint32_t i = 0; i < SLOTS; i++)
			put(slot[i], i, i ? 70 : 71, false);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_ge(wait(NULL), 0);
	config.folder = other;
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert_int_eq(tier_open_with(&tier, pool, &config), 0);
	find_memory(other);
	ck_assert_int_eq(access(memory_path, F_OK), 0);
	find_memory("/dev/shm");
	ck_assert_int_ne(access(memory_path, F_OK), 0);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	expect_all(70);
	close_tier();
}
END_TEST

/*
 * Killed in a free: before it is durable the block still has its bytes; after that, though the memory had not yet forgotten
 * them, neither it nor another block in its slot sees them.
 */
START_TEST(in_a_free)
{
	uint32_t live = 0;

	if (!fork()) {
		open_tier(FRAMES);
		put(slot[1], 1, 8, false);
		(void)tier_drop(tier, slot[1]);
		if (_i > 0 && pool_release(pool, slot[1]))
			_exit(1);
		if (_i > 1) {
			/* The only slot that is free. */
			if (pool_take(pool, 50, &slot[2]) || slot[2] != slot[1] || tier_fresh(tier, slot[2]))
				_exit(1);
		}
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_ge(wait(NULL), 0);
	open_tier(FRAMES);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	for (uint32_t i = 0; i < SLOTS; i++)
		live += pool_block(pool, i) == (_i == 2 ? 50 : 1);
	if (_i == 0) {
		ck_assert_uint_eq(live, 1);
		expect_block(slot[1], 1, 8);
	} else {
		ck_assert_uint_eq(stat_of().used, 0);
		ck_assert_uint_eq(live, _i == 2);
		ck_assert_uint_eq(pool_free_slots(pool), _i == 1);
	}
	if (_i == 2) {
		ck_assert(all_bytes(pin(slot[1], false), SLOT, 0));
		tier_unpin(tier, slot[1], false, false);
	}
	close_tier();
}
END_TEST

static int try_direct(void *arg)
{
	return try_tier(0);
}

/* Without memory, or in fault mode, such a pool is refused, and what to do is said; nothing is lost by that. */
START_TEST(direct_is_refused)
{
	killed_with(FRAMES, 3);
	ck_assert_int_eq(scratch_hear(try_direct, NULL), -EEXIST);
	ck_assert_msg(strstr(scratch_said, memory_path) && strstr(scratch_said, "--memory 8M "), "said: %s", scratch_said);
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert_int_eq(tier_open_with(&tier, pool, &(struct tier_config){ .mode = TIER_FAULT, .folder = scratch }), -EEXIST);
	pool_close(pool);
	open_tier(FRAMES);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	expect_all(3);
	close_tier();

	/* When nothing in it is dirty, it is not needed. */
	if (!fork()) {
		open_tier(FRAMES);
		touch(slot[1]);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_ge(wait(NULL), 0);
	ck_assert_int_eq(access(memory_path, F_OK), 0);
	open_tier(0);
	ck_assert_int_ne(access(memory_path, F_OK), 0);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	expect_all(3);
	close_tier();

	/* Removed by hand: they are given up, and that is a loss. */
	killed_with(FRAMES, 5);
	ck_assert_int_eq(unlink(memory_path), 0);
	open_tier(0);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	close_tier();
}
END_TEST

enum harm { REMOVED, CUT, HEADER, ENTRY, EMPTY, FOREIGN, HARMS };

/* The file is gone, cut, damaged or another pool's: the loss epoch is raised, and the brick serves what the pool has. */
START_TEST(lost)
{
	uint64_t word = 0x1234567;
	uint8_t byte = 0x55;

	killed_with(FRAMES, 3);
	switch ((enum harm)_i) {
	case REMOVED:
		ck_assert_int_eq(unlink(memory_path), 0);
		break;
	case CUT:
		ck_assert_int_eq(truncate(memory_path, (off_t)(3 * SLOT)), 0);
		break;
	case EMPTY:
		ck_assert_int_eq(truncate(memory_path, 0), 0);
		break;
	case HEADER:
		scratch_write(memory_path, 13, &byte, 1);
		break;
	case ENTRY:
		scratch_write(memory_path, 4096 + 16, &word, 8);
		break;
	default:
		scratch_write(memory_path, 16, &word, 8);
	}
	open_tier(FRAMES);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	ck_assert_uint_eq(stat_of().used, 0);
	/* What was evicted before was persisted. */
	for (uint32_t i = 1; i < SLOTS - FRAMES; i++)
		expect_block(slot[i], i, 3);
	close_tier();
	open_tier(FRAMES);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	close_tier();
}
END_TEST

static void copy_file(const char *from, const char *to)
{
	char command[900];

	snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	ck_assert_int_eq(system(command), 0);
}

/* A file of an earlier use of the same pool is not taken for that of the last one, whichever way it was served in between. */
START_TEST(of_another_time)
{
	char old[400];

	snprintf(old, sizeof(old), "%s/old", scratch);
	killed_with(FRAMES, 3);
	copy_file(memory_path, old);
	if (_i == 0) {
		killed_with(FRAMES, 6);
	} else {
		/* In order, and then without memory and killed. */
		open_tier(FRAMES);
		close_tier();
		if (!fork()) {
			open_tier(0);
			put(slot[1], 1, 9, false);
			kill(getpid(), SIGKILL);
		}
		ck_assert_int_ge(wait(NULL), 0);
	}
	copy_file(old, memory_path);
	open_tier(FRAMES);
	ck_assert_uint_eq(stat_of().used, 0);
	/* Direct mode has lost nothing: its bytes are in the pool, and were persisted when it was opened now. */
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + !_i);
	expect_block(slot[1], 1, _i ? 9 : 6);
	close_tier();
}
END_TEST

/* Two brickds cannot share a file; a folder that is not memory, and one without room, are refused. */
START_TEST(refused)
{
	struct tier_config config = { .mode = TIER_MEMORY, .memory = FRAMES * SLOT, .folder = scratch_disk };
	char copy[400];

	open_tier(FRAMES);
	snprintf(copy, sizeof(copy), "%s/copy", scratch);
	copy_file(scratch_pool, copy);
	{
		struct pool *second;
		struct tier *other;

		config.folder = scratch;
		ck_assert_int_eq(pool_load(&second, copy), 0);
		ck_assert_int_eq(tier_open_with(&other, second, &config), -EBUSY);
		pool_close(second);
	}
	close_tier();
	config.folder = "/proc";
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert_int_eq(tier_open_with(&tier, pool, &config), -ENOTSUP);
	config.folder = "/nowhere/at/all";
	ck_assert_int_eq(tier_open_with(&tier, pool, &config), -ENOENT);
	pool_close(pool);
	open_tier(FRAMES);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	close_tier();
}
END_TEST

/* --- killed anywhere ------------------------------------------------------------------------------------------------- */

#define ROUNDS 400
#define PROBES 16
#define probe(n) ((n) * (SLOT / PROBES / 8) + (n))

enum phase { NONE, ALLOCATING, LIVE, FREEING };

/* What the children have done, in memory that outlives them. */
struct record {
	_Atomic int phase[SLOTS];
	_Atomic uint64_t value[SLOTS];	/* what the block has for certain; 0: zeroes */
	_Atomic uint64_t next[SLOTS];	/* what is being written over it */
	_Atomic uint64_t step, starts, closes;
	char fault[200];
};
static struct record *record;
static uint64_t seed;

static uint32_t below(uint32_t limit)
{
	/* Knuth's MMIX constants; the upper bits are the random ones. */
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % limit);
}

static __attribute__((noreturn, format(printf, 1, 2))) void blame(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(record->fault, sizeof(record->fault), format, args);
	va_end(args);
	_exit(1);
}

static int note_live(void *arg, uint32_t s, uint64_t block)
{
	((uint32_t *)arg)[block] = s;
	return 0;
}

static bool has(uint64_t word, uint64_t block, uint64_t value, size_t n)
{
	return word == (value ? word_for(block, value, n) : 0);
}

/* Every block is there or not, and has what it had, or what was being written. */
static void check_all(void)
{
	uint32_t live[SLOTS];
	struct tier_place place;

	if (pool_loss_epoch(pool) != loss)
		blame("the loss epoch is %u", (unsigned)pool_loss_epoch(pool));
	memset(live, 0xff, sizeof(live));
	(void)pool_each(pool, note_live, live);
	for (uint32_t i = 0; i < SLOTS; i++) {
		int phase = record->phase[i];
		bool there = live[i] != UINT32_MAX, all_next = true;
		uint64_t *word;

		if ((phase == LIVE && !there) || (phase == NONE && there))
			blame("block %u is %s", i, there ? "there again" : "gone");
		slot[i] = live[i];
		record->phase[i] = there ? LIVE : NONE;
		if (!there)
			continue;
		if (phase == ALLOCATING)
			record->value[i] = record->next[i] = 0;
		if (tier_pin(tier, slot[i], true, &place))
			blame("block %u cannot be pinned", i);
		word = place.address;
		for (size_t n = 0; n < PROBES; n++) {
			if (!has(word[probe(n)], i, record->value[i], n) && !has(word[probe(n)], i, record->next[i], n))
				blame("block %u: word %zu is neither of value %u nor of %u (phase %d)", i, n, (unsigned)record->value[i],
				      (unsigned)record->next[i], phase);
			all_next &= has(word[probe(n)], i, record->next[i], n);
		}
		/* From here on it is known again. */
		if (!all_next)
			for (size_t n = 0; n < PROBES; n++)
				word[probe(n)] = record->value[i] ? word_for(i, record->value[i], n) : 0;
		record->value[i] = record->next[i] = all_next ? record->next[i] : record->value[i];
		tier_unpin(tier, slot[i], true, false);
	}
}

static void change(uint32_t i)
{
	struct tier_place place;
	uint64_t *word;
	uint32_t memory;
	int rc;

	if (record->phase[i] == NONE) {
		record->value[i] = record->next[i] = 0;
		record->phase[i] = ALLOCATING;
		if (pool_take(pool, i, &slot[i]) || tier_fresh(tier, slot[i]))
			blame("alloc failed");
		record->phase[i] = LIVE;
		return;
	}
	if (!below(6)) {
		record->phase[i] = FREEING;
		memory = tier_drop(tier, slot[i]);
		rc = pool_release(pool, slot[i]);
		tier_dropped(tier, slot[i], memory, !rc);
		if (rc)
			blame("free failed");
		record->phase[i] = NONE;
		return;
	}
	if (tier_pin(tier, slot[i], true, &place))
		blame("a pin failed");
	word = place.address;
	record->next[i] = ++record->step;
	for (size_t n = 0; n < PROBES; n++)
		word[probe(n)] = word_for(i, record->next[i], n);
	record->value[i] = record->next[i];
	if (below(2)) {
		tier_unpin(tier, slot[i], true, false);
		return;
	}
	if (tier_settle(tier, slot[i]))
		blame("settling failed");
	tier_unpin(tier, slot[i], true, false);
	if (!below(2) && tier_settle(tier, slot[i]))
		blame("settling failed");
}

static __attribute__((noreturn)) void live_until_killed(unsigned round)
{
	report_init("test", false, REPORT_WARNING);
	for (;;) {
		/* Mostly of one size, so that the file is taken up; at times it is laid out anew. */
		if (try_tier(below(5) ? FRAMES : FRAMES - 1))
			blame("round %u: it does not start", round);
		check_all();
		record->starts++;
		for (unsigned n = below(3) ? below(10) : 5 + below(200); n > 0; n--)
			change(below(SLOTS));
		close_tier();
		record->closes++;
	}
}

/* Killed at random moments, in starting, working and ending: whatever was placed is there, under the same loss epoch. */
START_TEST(killed_anywhere)
{
	int status;

	record = mmap(NULL, sizeof(*record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(record, MAP_FAILED);
	/* The blocks are there, as zeroes. */
	for (uint32_t i = 0; i < SLOTS; i++)
		record->phase[i] = LIVE;
	seed = 4711;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t delay = below(4) ? below(20000) : below(4000);
		uint64_t starts = record->starts;
		pid_t pid = fork();

		if (!pid) {
			seed += round * 77;
			live_until_killed(round);
		}
		/* Half of them in the middle of work, the others at any moment from the start. */
		for (unsigned wait = 0; round % 2 && wait < 5000 && record->starts == starts && !record->fault[0]; wait++)
			usleep(200);
		usleep(delay);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "round %u: %s", round,
			      record->fault[0] ? record->fault : "it ended by itself");
	}
	printf("    %u rounds, %u starts that were checked, %u orderly ends, %u writes\n", ROUNDS, (unsigned)record->starts,
	       (unsigned)record->closes, (unsigned)record->step);
	ck_assert_uint_gt(record->starts, ROUNDS / 40); /* sanitizers make it slow */
	ck_assert_uint_gt(record->step, ROUNDS / 8);
	open_tier(FRAMES);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	close_tier();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tier_kill");
	TCase *kill = tcase_create("kill");

	tcase_add_checked_fixture(kill, setup, teardown);
	tcase_add_test(kill, taken_up);
	tcase_add_test(kill, other_layout);
	tcase_add_loop_test(kill, in_a_free, 0, 3);
	tcase_add_test(kill, direct_is_refused);
	tcase_add_loop_test(kill, lost, 0, HARMS);
	tcase_add_loop_test(kill, of_another_time, 0, 2);
	tcase_add_test(kill, refused);
	tcase_add_test(kill, killed_anywhere);
	tcase_set_timeout(kill, 240);
	suite_add_tcase(suite, kill);
	return scratch_run(suite);
}
