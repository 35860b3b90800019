/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool-sync - the one way to make a pool's bytes durable, and what happens when it fails.
 *
 * Linux tells a failed write-back once to each open file, at its next msync()
 * or fsync(), whatever range that one is for.  (Documentation/core-api/errseq.rst;
 * fsync(2), NOTES.)  All mappings of one open file share that, and so do the
 * clients of the local transport, who have it too: of two that persist at once
 * one is told EIO, and the other, whose bytes are the ones that are gone, 0.  So
 * the answer of msync() is not enough.  Behind every one that succeeded a second
 * open file of the pool, which nobody else has, is asked; one thread at a time,
 * and the one that is told latches before the next one asks.
 */
#include "pool-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "report.h"
#include "sigbus.h"

static atomic_long test_fail_after = -1;
static pool_test_hook test_hook;
static void *test_hook_arg;
static struct pool_test_disk test_disk;

void pool_test_fail_persist_after(long persists)
{
	atomic_store(&test_fail_after, persists);
}

void pool_test_watch_persists(pool_test_hook hook, void *arg)
{
	test_hook = hook;
	test_hook_arg = arg;
}

void pool_test_replace_disk(const struct pool_test_disk *disk)
{
	test_disk = disk ? *disk : (struct pool_test_disk){ 0 };
}

/* 0 or a negative errno, which libpmem2's own persist would not tell for msync. */
static int sync_pages(void *from, size_t length)
{
	int rc = test_disk.sync ? test_disk.sync(from, length) : msync(from, length, MS_SYNC);

	return rc ? -errno : 0;
}

/* What the open file has not been told yet.  sync_file_range(2) waits for nothing here: the header is not written while the pool serves. */
static int ask_file(int fd)
{
	int rc = test_disk.ask ? test_disk.ask(fd) : sync_file_range(fd, 0, POOL_HEADER_SIZE, SYNC_FILE_RANGE_WAIT_BEFORE);

	return rc ? -errno : 0;
}

struct sync_call {
	struct pool *pool;
	uint64_t offset, length;
	int error;
};

static void sync_fn(void *arg)
{
	struct sync_call *call = arg;
	uint8_t *from = call->pool->base + call->offset;

	/* The memory is as durable as it will ever be: what is left is that nothing comes before it. */
	if (call->pool->header.ro_compat & POOL_VOLATILE) {
		atomic_thread_fence(memory_order_seq_cst);
	} else if (call->pool->by_page) {
		uint64_t in_page = call->offset & (uint64_t)(sysconf(_SC_PAGESIZE) - 1);

		call->error = sync_pages(from - in_page, call->length + in_page);
	} else {
		call->pool->persist(from, call->length);
	}
}

static int sync_range(struct pool *pool, uint64_t offset, uint64_t length)
{
	struct sync_call call = { .pool = pool, .offset = offset, .length = length };
	int rc = sigbus_try(sync_fn, &call);

	return rc ? rc : call.error;
}

/* Of a pool that has latched by now. */
static void tell_failed(struct pool *pool, const char *what, int error)
{
	report_error("%s: %s: %s; nothing is persisted, allocated or freed in this pool any more until it is opened again",
		     pool->path, what, strerror(error));
	if (!pool->serving)
		return;
	/*
	 * The pages that failed may vanish from memory without any crash: the
	 * next open has to raise the loss epoch.  As well as it goes; a crash
	 * of the host raises it anyway.
	 */
	pool->header.flags = (pool->header.flags & ~POOL_CLEAN) | POOL_LOST;
	pool->header.sequence++;
	for (unsigned i = 0; i < 2; i++) {
		if (!pool_store_header(pool, pool->copy ^ i))
			(void)sync_range(pool, (uint64_t)(pool->copy ^ i) * POOL_HEADER_DISTANCE, POOL_HEADER_SIZE);
	}
}

void pool_file_fail(struct pool *pool, const char *what, int error)
{
	if (!atomic_exchange(&pool->failed, true))
		tell_failed(pool, what, error);
}

/* Behind a sync that succeeded: -EIO if somebody else was told of a write-back that had failed before it returned. */
static int hear_others(struct pool *pool)
{
	bool first = false;
	int rc;

	/* Only a disk writes back, and fails. */
	if (!pool->by_page || pool->kind != POOL_ON_DISK || (pool->header.ro_compat & POOL_VOLATILE))
		return 0;
	pthread_mutex_lock(&pool->told);
	rc = ask_file(pool->lock_fd);
	if (rc)
		first = !atomic_exchange(&pool->failed, true);
	pthread_mutex_unlock(&pool->told);
	/* Not with the lock held: the device that the header goes to may take long to fail again. */
	if (first)
		tell_failed(pool, "write-back failed", -rc);
	return atomic_load(&pool->failed) ? -EIO : 0;
}

int pool_file_persist(struct pool *pool, uint64_t offset, uint64_t length)
{
	int rc;

	if (atomic_load(&pool->failed))
		return -EIO;
	if (!length)
		return 0;
	if (test_hook)
		test_hook(test_hook_arg, pool->base, offset, length, false);
	if (atomic_load(&test_fail_after) >= 0 && atomic_fetch_sub(&test_fail_after, 1) <= 0)
		rc = -EIO;
	else
		rc = sync_range(pool, offset, length);
	if (rc) {
		pool_file_fail(pool, "write-back failed", -rc);
		return -EIO;
	}
	rc = hear_others(pool);
	if (rc)
		return rc;
	if (test_hook)
		test_hook(test_hook_arg, pool->base, offset, length, true);
	return 0;
}
