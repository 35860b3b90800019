/* SPDX-License-Identifier: BSD-3-Clause */
/* The pool in its ordinary life: made, filled, emptied, zeroed, enlarged, closed and opened again; and failing devices. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "pool-internal.h"
#include "pool_scratch.h"

static struct pool *open_pool(bool fault)
{
	struct pool *pool;

	ck_assert_int_eq(pool_open(&pool, scratch_pool, fault), 0);
	return pool;
}

static struct pool *make_pool(uint32_t slots)
{
	ck_assert_int_eq(pool_create(scratch_pool, slots * SLOT), 0);
	return open_pool(false);
}

static void wait_zeroed(struct pool *pool)
{
	while (pool_zeroed_slots(pool) < pool_free_slots(pool) && !pool_failed(pool))
		usleep(1000);
}

/* In another process that ends without closing the pool, as kill -9 would end it. */
static void open_and_die(bool fault, uint64_t block)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		struct pool *pool;
		uint32_t slot;

		if (pool_open(&pool, scratch_pool, fault))
			_exit(1);
		if (block && pool_take(pool, block, &slot))
			_exit(2);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

static void setup(void)
{
	scratch_make(scratch_disk);
}

static void setup_memory(void)
{
	scratch_make(scratch_memory);
}

struct seen {
	unsigned count;
	uint32_t slot[16];
	uint64_t block[16];
};

static int see(void *arg, uint32_t slot, uint64_t block)
{
	struct seen *seen = arg;

	ck_assert_uint_lt(seen->count, 16);
	seen->slot[seen->count] = slot;
	seen->block[seen->count++] = block;
	return 0;
}

/* What is taken, written and persisted is there after a close and an open, under its block, and nothing else is. */
START_TEST(life)
{
	struct pool *pool = make_pool(5);
	struct seen seen = { 0 };
	uint64_t instance = pool_instance(pool);
	uint8_t uuid[16];
	uint32_t a, b;

	ck_assert_uint_eq(pool_slots(pool), 5);
	ck_assert_uint_eq(pool_free_slots(pool), 5);
	ck_assert_uint_eq(pool_zeroed_slots(pool), 5);
	ck_assert(!pool_unclean(pool) && !pool_failed(pool));
	ck_assert_str_eq(pool_path(pool), scratch_pool);
	memcpy(uuid, pool_uuid(pool), 16);

	ck_assert_int_eq(pool_take(pool, 7, &a), 0);
	ck_assert_int_eq(pool_take(pool, POOL_BLOCK_MAX, &b), 0);
	ck_assert_uint_ne(a, b);
	ck_assert_int_eq(pool_take(pool, POOL_BLOCK_MAX + 1, &b), -EINVAL);
	ck_assert_uint_eq(pool_free_slots(pool), 3);
	ck_assert(all_bytes(pool_address(pool, a), SLOT, 0));
	ck_assert_int_eq(pool_fill(pool_address(pool, a), 0x5a, SLOT), 0);
	ck_assert_int_eq(pool_persist(pool, a, 0, SLOT), 0);
	ck_assert_int_eq(pool_persist(pool, a, 1, SLOT), -EINVAL);
	ck_assert_int_eq(pool_persist(pool, a, 4095, 2), 0);
	ck_assert_int_eq(pool_release(pool, 4), -EINVAL);
	ck_assert_int_eq(pool_release(pool, 99), -EINVAL);
	pool_close(pool);

	pool = open_pool(false);
	ck_assert_uint_eq(pool_instance(pool), instance + 1);
	ck_assert_mem_eq(pool_uuid(pool), uuid, 16);
	ck_assert(!pool_unclean(pool));
	ck_assert_uint_eq(pool_free_slots(pool), 3);
	ck_assert_int_eq(pool_each(pool, see, &seen), 0);
	ck_assert_uint_eq(seen.count, 2);
	ck_assert_uint_eq(seen.block[seen.slot[0] == a ? 0 : 1], 7);
	ck_assert_uint_eq(seen.block[seen.slot[0] == a ? 1 : 0], POOL_BLOCK_MAX);
	ck_assert(all_bytes(pool_address(pool, a), SLOT, 0x5a));
	pool_close(pool);
}
END_TEST

/* A slot that was written and released comes back as zeroes, in the mapping and in the file, with its space still allocated. */
START_TEST(zeroing_zeroes)
{
	struct pool *pool = make_pool(2);
	uint8_t *bytes = malloc(SLOT);
	struct stat before, after;
	uint32_t a, b;

	ck_assert_int_eq(pool_take(pool, 1, &a), 0);
	ck_assert_int_eq(pool_take(pool, 2, &b), 0);
	ck_assert_int_eq(pool_fill(pool_address(pool, a), 0xff, SLOT), 0);
	ck_assert_int_eq(pool_fill(pool_address(pool, b), 0xee, SLOT), 0);
	ck_assert_int_eq(fstat(pool_fd(pool), &before), 0);
	ck_assert_int_eq(pool_release(pool, a), 0);
	ck_assert_int_eq(pool_release(pool, a), -EINVAL);
	wait_zeroed(pool);
	ck_assert_uint_eq(pool_zeroed_slots(pool), 1);
	scratch_read(scratch_pool, pool_offset(pool, a), bytes, SLOT);
	ck_assert(all_bytes(bytes, SLOT, 0));
	ck_assert(all_bytes(pool_address(pool, a), SLOT, 0));
	ck_assert(all_bytes(pool_address(pool, b), SLOT, 0xee));
	ck_assert_int_eq(fstat(pool_fd(pool), &after), 0);
	ck_assert_int_ge(after.st_blocks, before.st_blocks);
	ck_assert_int_eq(pool_take(pool, 3, &a), 0);
	ck_assert(all_bytes(pool_address(pool, a), SLOT, 0));
	pool_close(pool);
	free(bytes);
}
END_TEST

/* A full pool says -ENOSPC, and every slot that is released can be taken at once, zeroed, waiting for the zeroing if need be. */
START_TEST(full_and_back)
{
	struct pool *pool = make_pool(8);
	uint32_t slot[8], extra;

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 8; i++) {
			ck_assert_int_eq(pool_take(pool, 100 * round + i, &slot[i]), 0);
			ck_assert(all_bytes(pool_address(pool, slot[i]), SLOT, 0));
			ck_assert_int_eq(pool_fill(pool_address(pool, slot[i]), 0xaa, SLOT), 0);
		}
		ck_assert_uint_eq(pool_free_slots(pool), 0);
		ck_assert_int_eq(pool_take(pool, 999, &extra), -ENOSPC);
		for (unsigned i = 0; i < 8; i++)
			ck_assert_int_eq(pool_release(pool, slot[i]), 0);
		ck_assert_uint_eq(pool_free_slots(pool), 8);
	}
	pool_close(pool);
}
END_TEST

/* A batch that is larger than the pool takes what there is and says -ENOSPC for the rest; a batch of releases names the bad ones. */
START_TEST(batches)
{
	struct pool *pool = make_pool(5);
	uint64_t block[7] = { 1, 2, POOL_BLOCK_MAX + 1, 3, 4, 5, 6 };
	uint32_t slot[7], again[3];
	int status[7];
	bool used[5] = { false };

	ck_assert_int_eq(pool_take_many(pool, block, 7, slot, status), 0);
	for (unsigned i = 0; i < 7; i++) {
		ck_assert_int_eq(status[i], i == 2 ? -EINVAL : i == 6 ? -ENOSPC : 0);
		if (status[i])
			continue;
		ck_assert_uint_lt(slot[i], 5);
		ck_assert(!used[slot[i]]);
		used[slot[i]] = true;
	}
	again[0] = slot[0];
	again[1] = 77;
	again[2] = slot[4];
	ck_assert_int_eq(pool_release_many(pool, again, 3, status), 0);
	ck_assert_int_eq(status[0], 0);
	ck_assert_int_eq(status[1], -EINVAL);
	ck_assert_int_eq(status[2], 0);
	ck_assert_uint_eq(pool_free_slots(pool), 2);
	ck_assert_int_eq(pool_take_many(pool, block, 0, slot, status), 0);
	pool_close(pool);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_free_slots(pool), 2);
	pool_close(pool);
}
END_TEST

/* A pool grows, keeps what it held, and gives out the new slots as zeroes; twice, and not downwards. */
START_TEST(growth)
{
	struct pool *pool = make_pool(2);
	uint32_t slot;
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(pool_take(pool, 10 + i, &slot), 0);
		ck_assert_int_eq(pool_fill(pool_address(pool, slot), 0x11, SLOT), 0);
	}
	ck_assert_int_eq(pool_take(pool, 12, &slot), -ENOSPC);
	ck_assert_int_eq(pool_grow(scratch_pool, 4 * SLOT), -EBUSY);
	pool_close(pool);

	ck_assert_int_eq(pool_grow(scratch_pool, SLOT), -EINVAL);
	ck_assert_int_eq(pool_grow(scratch_pool, 2 * SLOT), 0);
	ck_assert_int_eq(pool_grow(scratch_pool, 2 * SLOT + 1), 0);
	ck_assert_int_eq(pool_grow(scratch_pool, 6 * SLOT), 0);
	ck_assert_int_eq(stat(scratch_pool, &st), 0);
	ck_assert_int_ge(st.st_blocks * 512, st.st_size);

	pool = open_pool(false);
	ck_assert_uint_eq(pool_slots(pool), 6);
	ck_assert_uint_eq(pool_free_slots(pool), 4);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(pool_take(pool, 20 + i, &slot), 0);
		ck_assert_uint_eq(pool_offset(pool, slot) % SLOT, 0);
		ck_assert(all_bytes(pool_address(pool, slot), SLOT, 0));
		ck_assert_int_eq(pool_fill(pool_address(pool, slot), 0x22, SLOT), 0);
	}
	ck_assert_int_eq(pool_take(pool, 30, &slot), -ENOSPC);
	pool_close(pool);

	pool = open_pool(false);
	ck_assert_uint_eq(pool_free_slots(pool), 0);
	for (slot = 0; slot < 6; slot++)
		ck_assert(all_bytes(pool_address(pool, slot), SLOT, slot < 2 ? 0x11 : 0x22));
	pool_close(pool);
}
END_TEST

/* No space for it: a pool is not made and leaves no file; a pool that cannot grow stays what it was. */
START_TEST(host_full)
{
	struct stat st, again;
	struct pool *pool;

	ck_assert_int_ne(pool_create(scratch_pool, 1ull << 44), 0);
	ck_assert_int_ne(access(scratch_pool, F_OK), 0);
	ck_assert_int_eq(pool_create(scratch_pool, 0), -EINVAL);
	ck_assert_int_eq(pool_create(scratch_pool, UINT64_MAX), -EFBIG);
	ck_assert_int_ne(access(scratch_pool, F_OK), 0);

	pool_close(make_pool(1));
	ck_assert_int_eq(stat(scratch_pool, &st), 0);
	ck_assert_int_eq(pool_create(scratch_pool, SLOT), -EEXIST);
	ck_assert_int_ne(pool_grow(scratch_pool, 1ull << 44), 0);
	ck_assert_int_eq(stat(scratch_pool, &again), 0);
	ck_assert_int_eq(st.st_size, again.st_size);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_slots(pool), 1);
	pool_close(pool);
}
END_TEST

/*
 * The instance is another at each open.  The loss epoch is another only when bytes may be gone: after an end that was
 * not clean, in fault mode (then or now), or before another boot of the host.
 */
START_TEST(loss_epoch)
{
	struct pool *pool = make_pool(2);
	uint64_t instance = pool_instance(pool), loss = pool_loss_epoch(pool);
	struct pool_header header;

	pool_close(pool);

	open_and_die(false, 1);
	pool = open_pool(false);
	ck_assert(pool_unclean(pool));
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	ck_assert_uint_eq(pool_instance(pool), instance + 2);
	ck_assert_uint_eq(pool_free_slots(pool), 1);
	pool_close(pool);

	pool = open_pool(true);
	ck_assert(!pool_unclean(pool));
	ck_assert_uint_eq(pool_loss_epoch(pool), loss);
	pool_close(pool);

	open_and_die(true, 0);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	pool_close(pool);

	open_and_die(false, 0);
	pool = open_pool(true);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 2);
	pool_close(pool);

	/* Another boot: raised after kill -9, not after a clean end. */
	header = scratch_header(scratch_pool);
	header.boot_id[0] ^= 1;
	scratch_set_header(scratch_pool, &header);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 2);
	pool_close(pool);
	open_and_die(false, 0);
	header = scratch_header(scratch_pool);
	header.boot_id[0] ^= 1;
	scratch_set_header(scratch_pool, &header);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 3);
	pool_close(pool);
}
END_TEST

/* After a failed write-back nothing is promised any more until the next open, and that one raises the loss epoch. */
START_TEST(failed_persist_latches)
{
	struct pool *pool = make_pool(3);
	uint64_t loss = pool_loss_epoch(pool);
	uint32_t a, b;

	ck_assert_int_eq(pool_take(pool, 1, &a), 0);
	pool_test_fail_persist_after(1);
	ck_assert_int_eq(pool_persist(pool, a, 0, 4096), 0);
	ck_assert_int_eq(pool_persist(pool, a, 0, 4096), -EIO);
	pool_test_fail_persist_after(-1);
	ck_assert(pool_failed(pool));
	ck_assert_int_eq(pool_persist(pool, a, 0, 4096), -EIO);
	ck_assert_int_eq(pool_take(pool, 2, &b), -EIO);
	ck_assert_int_eq(pool_release(pool, a), -EIO);
	pool_close(pool);

	pool = open_pool(false);
	ck_assert(!pool_failed(pool));
	ck_assert(pool_unclean(pool));
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	ck_assert_int_eq(pool_take(pool, 2, &b), 0);
	pool_close(pool);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 1);
	ck_assert_uint_eq(pool_free_slots(pool), 1);

	/* A slot word that does not reach the device: the caller hears of it, and so does who comes next. */
	pool_test_fail_persist_after(0);
	ck_assert_int_eq(pool_take(pool, 3, &b), -EIO);
	pool_test_fail_persist_after(-1);
	ck_assert_int_eq(pool_release(pool, a), -EIO);
	pool_close(pool);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_loss_epoch(pool), loss + 2);
	pool_close(pool);
}
END_TEST

/* Zeroing that fails in the background latches too, and whoever waits for a zeroed slot is told. */
START_TEST(failed_zeroing_latches)
{
	struct pool *pool = make_pool(1);
	uint32_t slot;

	ck_assert_int_eq(pool_take(pool, 1, &slot), 0);
	pool_test_fail_persist_after(1);
	ck_assert_int_eq(pool_release(pool, slot), 0);
	ck_assert_int_eq(pool_take(pool, 2, &slot), -EIO);
	pool_test_fail_persist_after(-1);
	ck_assert(pool_failed(pool));
	ck_assert_uint_eq(pool_free_slots(pool), 1);
	pool_close(pool);

	pool = open_pool(false);
	ck_assert_int_eq(pool_take(pool, 2, &slot), 0);
	pool_close(pool);
}
END_TEST

/* The file is cut short under a served pool: reads and writes there fail, the pool latches, and the process lives. */
START_TEST(sigbus_is_an_error)
{
	struct pool *pool = make_pool(4);
	uint8_t *buffer = malloc(SLOT);
	uint32_t slot[4];

	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pool_take(pool, i, &slot[i]), 0);
	ck_assert_int_eq(truncate(scratch_pool, (off_t)pool_offset(pool, 3)), 0);
	ck_assert_int_eq(pool_copy(buffer, pool_address(pool, 2), SLOT), 0);
	ck_assert(!pool_failed(pool));
	ck_assert_int_eq(pool_copy(buffer, pool_address(pool, 3), SLOT), -EIO);
	ck_assert(pool_failed(pool));
	ck_assert_int_eq(pool_copy(pool_address(pool, 3), buffer, SLOT), -EIO);
	ck_assert_int_eq(pool_fill(pool_address(pool, 3), 1, SLOT), -EIO);
	ck_assert_int_eq(pool_copy(buffer, pool_address(pool, 2), SLOT), 0);
	ck_assert_int_eq(pool_persist(pool, 2, 0, SLOT), -EIO);
	pool_close(pool);
	expect_refused(scratch_pool, -EUCLEAN, "truncated");
	free(buffer);
}
END_TEST

static int touch_beyond(void *arg)
{
	volatile uint8_t *at = arg;
	int status;
	pid_t pid = fork();

	if (!pid) {
		*at = 1;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* A SIGBUS that nobody guards against ends the process with a line that names the pool. */
START_TEST(unguarded_sigbus_names_the_pool)
{
	struct pool *pool = make_pool(2);

	ck_assert_int_eq(truncate(scratch_pool, (off_t)pool_offset(pool, 1)), 0);
	ck_assert_int_eq(scratch_hear(touch_beyond, pool_address(pool, 1)), 1);
	ck_assert_ptr_nonnull(strstr(scratch_said, scratch_pool));
	ck_assert_ptr_nonnull(strstr(scratch_said, "SIGBUS"));
	pool_close(pool);
}
END_TEST

/* A sparse copy of a pool is as good as the pool: its holes are filled when it is opened. */
START_TEST(sparse_copy)
{
	struct pool *pool = make_pool(4);
	struct stat st;

	ck_assert_int_eq(fallocate(pool_fd(pool), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)pool_offset(pool, 0),
				   4 * SLOT), 0);
	pool_close(pool);
	pool_close(open_pool(false));
	ck_assert_int_eq(stat(scratch_pool, &st), 0);
	ck_assert_int_ge(st.st_blocks * 512, st.st_size);
}
END_TEST

#define WORKERS 4

struct worker {
	struct pool *pool;
	atomic_uchar *owner;	/* of each slot, 0: nobody */
	unsigned number;
};

static void *work(void *arg)
{
	struct worker *worker = arg;

	for (unsigned i = 0; i < 40; i++) {
		uint32_t slot;
		int rc = pool_take(worker->pool, 1000 * worker->number + i, &slot);

		if (rc == -ENOSPC)
			continue;
		ck_assert_int_eq(rc, 0);
		ck_assert_uint_eq(atomic_exchange(&worker->owner[slot], worker->number), 0);
		ck_assert(all_bytes(pool_address(worker->pool, slot), SLOT, 0));
		ck_assert_int_eq(pool_fill(pool_address(worker->pool, slot), (int)worker->number, SLOT), 0);
		ck_assert_uint_eq(atomic_exchange(&worker->owner[slot], 0), worker->number);
		ck_assert_int_eq(pool_release(worker->pool, slot), 0);
	}
	return NULL;
}

/* Threads that take and release at once never share a slot, always get zeroes, and leave everything free. */
START_TEST(many_threads)
{
	struct pool *pool = make_pool(3);
	atomic_uchar owner[3] = { 0 };
	struct worker worker[WORKERS];
	pthread_t thread[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++) {
		worker[i] = (struct worker){ pool, owner, i + 1 };
		ck_assert_int_eq(pthread_create(&thread[i], NULL, work, &worker[i]), 0);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(pool_free_slots(pool), 3);
	wait_zeroed(pool);
	ck_assert_uint_eq(pool_zeroed_slots(pool), 3);
	pool_close(pool);
}
END_TEST

/* Memory that needs only cache lines flushed goes through libpmem2's own functions, with the same results. */
START_TEST(cache_line_granularity)
{
	struct pool *pool;
	uint32_t a, b;

	ck_assert_int_eq(setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1), 0);
	pool = make_pool(2);
	ck_assert(!pool->by_page);
	ck_assert_int_eq(pool_take(pool, 1, &a), 0);
	ck_assert_int_eq(pool_take(pool, 2, &b), 0);
	ck_assert_int_eq(pool_fill(pool_address(pool, a), 0x77, SLOT), 0);
	ck_assert_int_eq(pool_persist(pool, a, 100, 100), 0);
	ck_assert_int_eq(pool_release(pool, b), 0);
	wait_zeroed(pool);
	ck_assert_int_eq(pool_take(pool, 3, &b), 0);
	ck_assert(all_bytes(pool_address(pool, b), SLOT, 0));
	pool_close(pool);
	open_and_die(false, 0);
	pool = open_pool(false);
	ck_assert_uint_eq(pool_free_slots(pool), 0);
	ck_assert(all_bytes(pool_address(pool, a), SLOT, 0x77));
	pool_close(pool);
	unsetenv("PMEM2_FORCE_GRANULARITY");
}
END_TEST

static void add_life(TCase *tcase)
{
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, life);
	tcase_add_test(tcase, zeroing_zeroes);
	tcase_add_test(tcase, full_and_back);
	tcase_add_test(tcase, batches);
	tcase_add_test(tcase, growth);
	tcase_add_test(tcase, host_full);
	tcase_add_test(tcase, loss_epoch);
	tcase_add_test(tcase, failed_persist_latches);
	tcase_add_test(tcase, failed_zeroing_latches);
	tcase_add_test(tcase, sigbus_is_an_error);
	tcase_add_test(tcase, unguarded_sigbus_names_the_pool);
	tcase_add_test(tcase, sparse_copy);
	tcase_add_test(tcase, many_threads);
	tcase_add_test(tcase, cache_line_granularity);
}

int main(void)
{
	Suite *suite = suite_create("pool");
	TCase *disk = tcase_create("disk"), *memory = tcase_create("memory");

	/* The same twice: most filesystems can zero a range by themselves, tmpfs cannot. */
	tcase_add_checked_fixture(disk, setup, scratch_remove);
	add_life(disk);
	suite_add_tcase(suite, disk);
	tcase_add_checked_fixture(memory, setup_memory, scratch_remove);
	add_life(memory);
	suite_add_tcase(suite, memory);
	return scratch_run(suite);
}
