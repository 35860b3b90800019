/* SPDX-License-Identifier: BSD-3-Clause */
/* pool - opening and checking a store, and the life of its slots. */
#include "pool-internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "report.h"

/* The host's boot, or zeroes when it cannot be told. */
static void read_boot_id(uint8_t id[16])
{
	char text[64] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	memset(id, 0, 16);
	if (!file)
		return;
	if (fgets(text, sizeof(text), file)) {
		text[strcspn(text, "\n")] = '\0';
		if (parse_uuid(text, id))
			memset(id, 0, 16);
	}
	fclose(file);
}

static bool same_boot(const uint8_t old[16], const uint8_t now[16])
{
	static const uint8_t unknown[16];

	return memcmp(now, unknown, 16) && !memcmp(old, now, 16);
}

struct live {
	uint64_t block;
	uint32_t slot;
};

static int by_block(const void *a, const void *b)
{
	const struct live *left = a, *right = b;

	return (left->block > right->block) - (left->block < right->block);
}

static int check_duplicates(struct pool *pool)
{
	struct live *live = NULL;
	uint32_t n = 0;
	int rc = 0;

	live = calloc(pool->used ? pool->used : 1, sizeof(*live));
	if (!live)
		return -ENOMEM;
	for (uint32_t slot = 0; slot < pool->slots; slot++) {
		if (pool->state[slot] == POOL_LIVE)
			live[n++] = (struct live){ pool->block[slot], slot };
	}
	qsort(live, n, sizeof(*live), by_block);
	for (uint32_t i = 1; i < n; i++) {
		if (live[i].block != live[i - 1].block)
			continue;
		report_error("%s: damaged: slots %u and %u both hold block %#llx", pool->path, live[i - 1].slot, live[i].slot,
			     (unsigned long long)live[i].block << POOL_SLOT_SHIFT);
		rc = -EUCLEAN;
	}
	free(live);
	return rc;
}

/* Reads one chunk's table, and sorts its slots by what their words say. */
static int read_chunk(struct pool *pool, uint32_t chunk)
{
	uint32_t count = pool->header.chunk[chunk].slots;
	unsigned said = 0;
	uint64_t *words;
	int rc;

	words = calloc(count, sizeof(*words));
	if (!words)
		return -ENOMEM;
	rc = pool_copy(words, pool->base + pool->header.chunk[chunk].offset, (size_t)count * sizeof(*words));
	if (rc) {
		report_error("%s: the table of chunk %u cannot be read", pool->path, chunk);
		goto out;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t slot = pool->first[chunk] + i;
		enum pool_state state;

		if (!pool_word_decode(le64toh(words[i]), pool->header.uuid, slot, &state, &pool->block[slot])) {
			/* A lost table is one fault, not thousands of lines. */
			if (said++ < 8)
				report_error("%s: damaged: the word of slot %u (%#018llx, at byte %llu) is not valid", pool->path, slot,
					     (unsigned long long)le64toh(words[i]),
					     (unsigned long long)pool_word_offset(pool, slot));
			rc = -EUCLEAN;
			continue;
		}
		if (state == POOL_LIVE)
			pool->used++;
		else if (state == POOL_FREE_DIRTY)
			pool_zero_queue(pool, slot);
		pool->state[slot] = state;
	}
	if (said > 8)
		report_error("%s: and %u more slot words of chunk %u are not valid", pool->path, said - 8, chunk);
out:
	free(words);
	return rc;
}

static int read_tables(struct pool *pool)
{
	int rc, first_error = 0;

	pool->block = calloc(pool->slots, sizeof(*pool->block));
	pool->state = calloc(pool->slots, sizeof(*pool->state));
	pool->zero = calloc(pool->slots, sizeof(*pool->zero));
	pool->dirty = calloc(pool->slots, sizeof(*pool->dirty));
	if (!pool->block || !pool->state || !pool->zero || !pool->dirty)
		return -ENOMEM;
	for (uint32_t i = 0; i < pool->header.chunk_count; i++) {
		rc = read_chunk(pool, i);
		if (rc && !first_error)
			first_error = rc;
	}
	if (first_error)
		return first_error;
	/* Low slots are given out first. */
	for (uint32_t slot = pool->slots; slot-- > 0;) {
		if (pool->state[slot] == POOL_FREE_ZERO)
			pool->zero[pool->zero_count++] = slot;
	}
	return check_duplicates(pool);
}

/* A pool that was copied without its holes filled, say, gets its space back: stores must not meet a full disk. */
static int fill_holes(struct pool *pool)
{
	int rc;

	if (pool->devdax)
		return 0;
	do
		rc = fallocate(pool->fd, 0, 0, (off_t)pool->end) ? -errno : 0;
	while (rc == -EINTR);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		report_error("%s: the file has holes (a sparse copy?), and its filesystem has no room to fill them", pool->path);
		return rc;
	}
	if (rc && rc != -EOPNOTSUPP && rc != -ENOSYS)
		report_warning("%s: its space cannot be made sure of: %s", pool->path, strerror(-rc));
	return 0;
}

int pool_load(struct pool **result, const char *path)
{
	struct pool *pool = NULL;
	int rc;

	rc = pool_file_open(&pool, path, 0);
	if (rc)
		return rc;
	rc = pool_file_read_header(pool);
	if (!rc)
		rc = fill_holes(pool);
	if (!rc)
		rc = pool_file_map(pool, pool->end);
	if (!rc)
		rc = read_tables(pool);
	if (rc)
		goto fail;

	read_boot_id(pool->boot_id);
	pool->same_boot = same_boot(pool->header.boot_id, pool->boot_id);
	pool->unclean = !(pool->header.flags & POOL_CLEAN);
	*result = pool;
	return 0;
fail:
	if (rc == -ENOMEM)
		report_error("%s: not enough memory to open it", path);
	pool_file_close(pool);
	return rc;
}

static void set_memory(struct pool_header *header, uint64_t memory)
{
	header->memory = memory;
	header->incompat = memory ? header->incompat | POOL_IN_MEMORY : header->incompat & ~(uint64_t)POOL_IN_MEMORY;
}

int pool_begin(struct pool *pool, const struct pool_use *use)
{
	struct pool_header *header = &pool->header;
	bool lost = (header->flags & (POOL_LOST | POOL_FAULT)) || use->fault || !pool->same_boot ||
		    (header->memory && !use->kept);
	int rc;

	if (pool->unclean && lost) {
		header->loss_epoch++;
		report_warning("%s: the last end was not clean, and bytes that were not persisted may be gone: loss epoch %llu",
			       pool->path, (unsigned long long)header->loss_epoch);
	}
	header->instance++;
	header->flags = use->fault ? POOL_FAULT : 0;
	set_memory(header, use->memory);
	if (use->memory) {
		if (strlen(use->memory_path) >= sizeof(header->memory_path)) {
			report_error("%s: is too long a path for a memory file (at most %zu bytes)", use->memory_path,
				     sizeof(header->memory_path) - 1);
			return -ENAMETOOLONG;
		}
		memset(header->memory_path, 0, sizeof(header->memory_path));
		memcpy(header->memory_path, use->memory_path, strlen(use->memory_path));
	}
	memcpy(header->boot_id, pool->boot_id, sizeof(header->boot_id));
	rc = pool_file_write_header(pool);
	if (rc)
		return rc;
	pool->serving = true;
	if (pool_is_volatile(pool))
		report_notice("%s: was declared volatile: persisting orders, and flushes nothing", pool->path);
	else
		pool_file_warn(pool);
	return pool_zero_start(pool);
}

bool pool_begun(const struct pool *pool)
{
	return pool->serving;
}

int pool_open(struct pool **pool, const char *path, bool fault)
{
	struct pool_use use = { .fault = fault };
	int rc = pool_load(pool, path);

	if (rc)
		return rc;
	rc = pool_begin(*pool, &use);
	if (rc)
		pool_file_close(*pool);
	return rc;
}

uint64_t pool_memory(const struct pool *pool)
{
	return pool->header.memory;
}

int pool_leave_memory(struct pool *pool)
{
	if (!pool->header.memory)
		return 0;
	set_memory(&pool->header, 0);
	return pool_file_write_header(pool);
}

const char *pool_memory_path(const struct pool *pool)
{
	return pool->header.memory_path;
}

/* Finer than a page only what was written is worth a flush, and who wrote it has done that, unless the last end was not clean. */
int pool_persist_all(struct pool *pool)
{
	int rc = 0;

	if (pool->by_page)
		return pool_file_persist(pool, POOL_FIRST_CHUNK, pool->end - POOL_FIRST_CHUNK);
	for (uint32_t slot = 0; slot < pool->slots && pool->unclean && !rc; slot++) {
		if (pool->state[slot] == POOL_LIVE)
			rc = pool_persist(pool, slot, 0, POOL_SLOT_SIZE);
	}
	return rc;
}

void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	pool_zero_stop(pool);
	if (!pool->serving) {
		pool_file_close(pool);
		return;
	}
	if (!pool->header.memory && !atomic_load(&pool->failed) && !pool_persist_all(pool)) {
		pool->header.flags |= POOL_CLEAN;
		pool_file_write_header(pool);
	}
	if (atomic_load(&pool->failed))
		report_error("%s: closed after a failure, not clean", pool->path);
	pool_file_close(pool);
}

const uint8_t *pool_uuid(const struct pool *pool)
{
	return pool->header.uuid;
}

uint64_t pool_instance(const struct pool *pool)
{
	return pool->header.instance;
}

uint64_t pool_loss_epoch(const struct pool *pool)
{
	return pool->header.loss_epoch;
}

bool pool_unclean(const struct pool *pool)
{
	return pool->unclean;
}

uint32_t pool_slots(const struct pool *pool)
{
	return pool->slots;
}

uint32_t pool_free_slots(struct pool *pool)
{
	uint32_t n;

	pthread_mutex_lock(&pool->lock);
	n = pool->slots - pool->used;
	pthread_mutex_unlock(&pool->lock);
	return n;
}

uint32_t pool_zeroed_slots(struct pool *pool)
{
	uint32_t n;

	pthread_mutex_lock(&pool->lock);
	n = pool->zero_count;
	pthread_mutex_unlock(&pool->lock);
	return n;
}

bool pool_failed(const struct pool *pool)
{
	return atomic_load(&pool->failed);
}

void pool_fail(struct pool *pool, const char *what, int error)
{
	pool_file_fail(pool, what, error);
}

enum pool_kind pool_kind(const struct pool *pool)
{
	return pool->kind;
}

bool pool_is_volatile(const struct pool *pool)
{
	return pool->header.ro_compat & POOL_VOLATILE;
}

uint64_t pool_block(struct pool *pool, uint32_t slot)
{
	uint64_t block;

	pthread_mutex_lock(&pool->lock);
	block = pool->block[slot];
	pthread_mutex_unlock(&pool->lock);
	return block;
}

const char *pool_path(const struct pool *pool)
{
	return pool->path;
}

bool pool_by_line(const struct pool *pool)
{
	return !pool->by_page;
}

void *pool_address(const struct pool *pool, uint32_t slot)
{
	return pool->base + pool_offset(pool, slot);
}

uint64_t pool_file_size(const struct pool *pool)
{
	return pool->end;
}

int pool_fd(const struct pool *pool)
{
	return pool->fd;
}

int pool_each(struct pool *pool, int (*fn)(void *arg, uint32_t slot, uint64_t block), void *arg)
{
	for (uint32_t slot = 0; slot < pool->slots; slot++) {
		uint64_t block;
		bool live;
		int rc;

		pthread_mutex_lock(&pool->lock);
		live = pool->state[slot] == POOL_LIVE;
		block = pool->block[slot];
		pthread_mutex_unlock(&pool->lock);
		rc = live ? fn(arg, slot, block) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

int pool_persist(struct pool *pool, uint32_t slot, uint32_t offset, uint32_t length)
{
	if (slot >= pool->slots || offset > POOL_SLOT_SIZE || length > POOL_SLOT_SIZE - offset)
		return -EINVAL;
	return pool_file_persist(pool, pool_offset(pool, slot) + offset, length);
}

/* A zeroed slot for the caller alone, zeroed here or waited for if need be. */
static int grab(struct pool *pool, uint32_t *slot)
{
	int rc;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		if (atomic_load(&pool->failed)) {
			rc = -EIO;
			break;
		}
		if (pool->zero_count) {
			*slot = pool->zero[--pool->zero_count];
			pool->state[*slot] = POOL_CHANGING;
			pool->used++;
			rc = 0;
			break;
		}
		if (pool_zero_next(pool, slot)) {
			pthread_mutex_unlock(&pool->lock);
			rc = pool_zero_slot(pool, *slot);
			pthread_mutex_lock(&pool->lock);
			pool->zeroing--;
			if (rc) {
				pool_zero_queue(pool, *slot);
			} else {
				pool->state[*slot] = POOL_CHANGING;
				pool->used++;
			}
			pthread_cond_broadcast(&pool->ready);
			break;
		}
		if (!pool->zeroing) {
			rc = -ENOSPC;
			break;
		}
		pthread_cond_wait(&pool->ready, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

struct change {
	uint32_t slot;
	size_t entry;	/* of the caller's arrays */
};

static int by_slot(const void *a, const void *b)
{
	const struct change *left = a, *right = b;

	return (left->slot > right->slot) - (left->slot < right->slot);
}

/* Writes the words of the n changes, in slot order so that neighbours share a sync; then sets status and memory alike. */
static int commit(struct pool *pool, struct change *changes, size_t n, const uint64_t *blocks, enum pool_state state,
		  int *status)
{
	uint32_t *slots = NULL;
	uint64_t *words = NULL;
	int rc = 0;

	if (!n)
		return 0;
	qsort(changes, n, sizeof(*changes), by_slot);
	slots = malloc(n * sizeof(*slots));
	words = malloc(n * sizeof(*words));
	if (!slots || !words) {
		rc = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		slots[i] = changes[i].slot;
		words[i] = blocks ? blocks[changes[i].entry] : 0;
	}
	rc = pool_write_words(pool, slots, words, n, state);
	pthread_mutex_lock(&pool->lock);
	for (size_t i = 0; i < n; i++) {
		status[changes[i].entry] = rc;
		/* After a failure the file says one or the other; the next open finds out. */
		if (rc)
			continue;
		pool->block[slots[i]] = words[i];
		if (state == POOL_LIVE) {
			pool->state[slots[i]] = POOL_LIVE;
		} else {
			pool->used--;
			pool_zero_queue(pool, slots[i]);
		}
	}
	pthread_mutex_unlock(&pool->lock);
	rc = 0;
out:
	free(slots);
	free(words);
	return rc;
}

/* Nothing was written: the slots are what they were. */
static void restore(struct pool *pool, const struct change *changes, size_t n, enum pool_state state)
{
	pthread_mutex_lock(&pool->lock);
	for (size_t i = 0; i < n; i++) {
		pool->state[changes[i].slot] = state;
		if (state == POOL_FREE_ZERO) {
			pool->zero[pool->zero_count++] = changes[i].slot;
			pool->used--;
		}
	}
	pthread_cond_broadcast(&pool->ready);
	pthread_mutex_unlock(&pool->lock);
}

int pool_take_many(struct pool *pool, const uint64_t *blocks, size_t n, uint32_t *slots, int *status)
{
	struct change *changes;
	size_t count = 0;
	int rc;

	changes = malloc((n ? n : 1) * sizeof(*changes));
	if (!changes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		status[i] = blocks[i] > POOL_BLOCK_MAX ? -EINVAL : grab(pool, &slots[i]);
		if (!status[i])
			changes[count++] = (struct change){ slots[i], i };
	}
	rc = commit(pool, changes, count, blocks, POOL_LIVE, status);
	if (rc)
		restore(pool, changes, count, POOL_FREE_ZERO);
	free(changes);
	return rc;
}

int pool_release_many(struct pool *pool, const uint32_t *slots, size_t n, int *status)
{
	struct change *changes;
	size_t count = 0;
	int rc;

	changes = malloc((n ? n : 1) * sizeof(*changes));
	if (!changes)
		return -ENOMEM;
	pthread_mutex_lock(&pool->lock);
	for (size_t i = 0; i < n; i++) {
		if (atomic_load(&pool->failed)) {
			status[i] = -EIO;
		} else if (slots[i] >= pool->slots || pool->state[slots[i]] != POOL_LIVE) {
			status[i] = -EINVAL;
		} else {
			status[i] = 0;
			pool->state[slots[i]] = POOL_CHANGING;
			changes[count++] = (struct change){ slots[i], i };
		}
	}
	pthread_mutex_unlock(&pool->lock);
	rc = commit(pool, changes, count, NULL, POOL_FREE_DIRTY, status);
	if (rc)
		restore(pool, changes, count, POOL_LIVE);
	free(changes);
	return rc;
}

int pool_take(struct pool *pool, uint64_t block, uint32_t *slot)
{
	int status = 0, rc = pool_take_many(pool, &block, 1, slot, &status);

	return rc ? rc : status;
}

int pool_release(struct pool *pool, uint32_t slot)
{
	int status = 0, rc = pool_release_many(pool, &slot, 1, &status);

	return rc ? rc : status;
}
