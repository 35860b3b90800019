/* SPDX-License-Identifier: BSD-3-Clause */
/* pool-zero - freed slots become zeroed ones: in the background, or at once when pool_take() has no other. */
#include "pool-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "report.h"
#include "sigbus.h"

struct zero_call {
	struct pool *pool;
	uint8_t *at;
};

static void zero_fn(void *arg)
{
	struct zero_call *call = arg;

	call->pool->memset(call->at, 0, POOL_SLOT_SIZE, PMEM2_F_MEM_NONTEMPORAL);
}

static int zero_bytes(struct pool *pool, uint32_t slot)
{
	struct zero_call call = { pool, pool_address(pool, slot) };
	uint64_t offset = pool_offset(pool, slot);

	/*
	 * ZERO_RANGE keeps the space and moves no data.  Anything it cannot do
	 * (no such operation here, no room to split an extent) memory can.
	 */
	if (pool->by_page && !atomic_load(&pool->no_zero_range)) {
		int rc;

		do
			rc = fallocate(pool->fd, FALLOC_FL_ZERO_RANGE, (off_t)offset, (off_t)POOL_SLOT_SIZE);
		while (rc && errno == EINTR);
		if (!rc)
			return 0;
		if (errno == EOPNOTSUPP || errno == ENOSYS)
			atomic_store(&pool->no_zero_range, true);
	}
	return pool->by_page ? pool_fill(call.at, 0, POOL_SLOT_SIZE) : sigbus_try(zero_fn, &call);
}

int pool_zero_slot(struct pool *pool, uint32_t slot)
{
	int rc;

	if (atomic_load(&pool->failed))
		return -EIO;
	rc = zero_bytes(pool, slot);
	/* The zeroes are durable before the word says so; the word, before anyone gets the slot. */
	if (!rc)
		rc = pool_file_persist(pool, pool_offset(pool, slot), POOL_SLOT_SIZE);
	if (!rc)
		rc = pool_write_words(pool, &slot, NULL, 1, POOL_FREE_ZERO);
	return rc;
}

bool pool_zero_next(struct pool *pool, uint32_t *slot)
{
	if (!pool->dirty_count)
		return false;
	*slot = pool->dirty[pool->dirty_head];
	pool->dirty_head = (pool->dirty_head + 1) % pool->slots;
	pool->dirty_count--;
	pool->zeroing++;
	pool->state[*slot] = POOL_ZEROING;
	return true;
}

void pool_zero_queue(struct pool *pool, uint32_t slot)
{
	pool->state[slot] = POOL_FREE_DIRTY;
	pool->dirty[(pool->dirty_head + (uint64_t)pool->dirty_count) % pool->slots] = slot;
	pool->dirty_count++;
	pthread_cond_signal(&pool->work);
}

static void *zeroer(void *arg)
{
	struct pool *pool = arg;
	uint32_t slot;
	int rc;

	pthread_mutex_lock(&pool->lock);
	while (!pool->stop) {
		if (atomic_load(&pool->failed) || !pool_zero_next(pool, &slot)) {
			pthread_cond_wait(&pool->work, &pool->lock);
			continue;
		}
		pthread_mutex_unlock(&pool->lock);
		rc = pool_zero_slot(pool, slot);
		pthread_mutex_lock(&pool->lock);
		pool->zeroing--;
		if (rc) {
			/* It is latched by now; the slot is FREE_DIRTY for the next start. */
			pool_zero_queue(pool, slot);
		} else {
			pool->state[slot] = POOL_FREE_ZERO;
			pool->zero[pool->zero_count++] = slot;
		}
		pthread_cond_broadcast(&pool->ready);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int pool_zero_start(struct pool *pool)
{
	int rc = pthread_create(&pool->zeroer, NULL, zeroer, pool);

	if (rc) {
		report_error("%s: no thread for zeroing: %s", pool->path, strerror(rc));
		return -rc;
	}
	pool->running = true;
	return 0;
}

void pool_zero_stop(struct pool *pool)
{
	if (!pool->running)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	pthread_join(pool->zeroer, NULL);
	pool->running = false;
}
