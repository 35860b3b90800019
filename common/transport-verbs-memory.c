/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-verbs-memory - registered memory of the library's own (messages, and
 * copies of what is not registered), and what the memory of a request is to the device.
 *
 * Memory that the application registered is used where it lies.  Of other memory,
 * stretches of BOUNCE_MAX bytes and more are registered for the time of the request;
 * what is smaller, or cannot be registered, is copied.
 */
#include "transport-verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Registering pins pages through the system: below this a copy is cheaper. */
#define BOUNCE_MAX (64u << 10)
#define SLAB_CHUNKS 16

struct verbs_slab {
	struct verbs_slab *next;
	struct ibv_mr *mr;
	void *memory;
	size_t size;
	struct verbs_chunk chunks[SLAB_CHUNKS];
};

void verbs_pool_free(struct verbs_pool *pool)
{
	struct verbs_slab *slab;

	while ((slab = pool->slabs)) {
		pool->slabs = slab->next;
		ibv_dereg_mr(slab->mr);
		munmap(slab->memory, slab->size);
		free(slab);
	}
	pool->free = NULL;
	pool->count = pool->used = 0;
}

static int grow(struct verbs_pool *pool, struct transport *t)
{
	struct verbs_slab *slab = calloc(1, sizeof(*slab));
	char limit[96];
	int ret;

	if (!slab)
		return brick_fail(-ENOMEM, "%s: no memory for messages", t->text);
	slab->size = SLAB_CHUNKS * pool->size;
	/* Pages of its own: what is registered may be kept from children (ibv_fork_init(3)). */
	slab->memory = mmap(NULL, slab->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slab->memory == MAP_FAILED) {
		free(slab);
		return brick_fail(-ENOMEM, "%s: no memory for messages", t->text);
	}
	slab->mr = ibv_reg_mr(t->domain->pd, slab->memory, slab->size, IBV_ACCESS_LOCAL_WRITE);
	if (!slab->mr) {
		ret = errno ? -errno : -ENOMEM;
		munmap(slab->memory, slab->size);
		free(slab);
		return brick_fail(ret, "%s: cannot register %zu bytes with the device %s: %s%s", t->text,
				  SLAB_CHUNKS * pool->size, t->domain->device, brick_errno_text(ret),
				  verbs_limit_text(ret, limit));
	}
	for (unsigned i = 0; i < SLAB_CHUNKS; i++) {
		slab->chunks[i].at = (uint8_t *)slab->memory + i * pool->size;
		slab->chunks[i].lkey = slab->mr->lkey;
		slab->chunks[i].next = pool->free;
		pool->free = &slab->chunks[i];
	}
	slab->next = pool->slabs;
	pool->slabs = slab;
	pool->count += SLAB_CHUNKS;
	return 0;
}

struct verbs_chunk *verbs_pool_take(struct verbs_pool *pool, struct transport *t)
{
	struct verbs_chunk *chunk;

	if (!pool->free && (pool->count >= pool->limit || grow(pool, t) < 0))
		return NULL;
	chunk = pool->free;
	pool->free = chunk->next;
	chunk->next = NULL;
	pool->used++;
	return chunk;
}

void verbs_pool_give(struct verbs_pool *pool, struct verbs_chunk *chunk)
{
	chunk->next = pool->free;
	pool->free = chunk;
	pool->used--;
}

static int add(struct verbs_job *job, uint8_t *at, size_t length, uint32_t lkey, uint8_t *user)
{
	if (job->segment_count == job->segment_room) {
		unsigned room = 2 * job->segment_room;
		struct verbs_segment *more = calloc(room, sizeof(*more));

		if (!more)
			return brick_fail(-ENOMEM, "no memory for a request in %u pieces", job->segment_count);
		memcpy(more, job->segments, job->segment_count * sizeof(*more));
		if (job->segments != job->few)
			free(job->segments);
		job->segments = more;
		job->segment_room = room;
	}
	job->segments[job->segment_count++] = (struct verbs_segment){ at, (uint32_t)length, lkey, user };
	return 0;
}

/* Registers memory for the request alone: false if it cannot be. */
static bool add_registered(struct transport *t, struct verbs_job *job, uint8_t *at, size_t length, int *ret)
{
	/* The source of a write need not be writable. */
	struct ibv_mr *mr = ibv_reg_mr(t->domain->pd, at, length, job->io->write ? 0 : IBV_ACCESS_LOCAL_WRITE);
	struct ibv_mr **more;

	if (!mr)
		return false;
	more = reallocarray(job->mrs, job->mr_count + 1, sizeof(*more));
	if (!more) {
		ibv_dereg_mr(mr);
		return false;
	}
	job->mrs = more;
	job->mrs[job->mr_count++] = mr;
	*ret = add(job, at, length, mr->lkey, NULL);
	return true;
}

/* Copies, behind what was copied for the request before. *used: bytes of the newest chunk. */
static int add_copied(struct transport *t, struct verbs_job *job, uint8_t *at, size_t length, size_t *used)
{
	while (length > 0) {
		struct verbs_chunk *chunk = job->bounce;
		size_t n;
		int ret;

		if (!chunk || *used == t->bounces.size) {
			chunk = verbs_pool_take(&t->bounces, t);
			if (!chunk)	/* what others have comes back; one request never needs all there are */
				return t->bounces.used > job->bounce_count ? -EAGAIN : -ENOMEM;
			chunk->next = job->bounce;
			job->bounce = chunk;
			job->bounce_count++;
			*used = 0;
		}
		n = t->bounces.size - *used;
		if (n > length)
			n = length;
		if (job->io->write)
			memcpy(chunk->at + *used, at, n);
		ret = add(job, chunk->at + *used, n, chunk->lkey, at);
		if (ret < 0)
			return ret;
		*used += n;
		at += n;
		length -= n;
	}
	return 0;
}

int verbs_prepare(struct transport *t, struct verbs_job *job)
{
	const struct transport_io *io = job->io;
	size_t used = 0;
	int ret = 0;

	job->inlined = io->write && io->length <= t->inline_max && (unsigned)io->iovcnt <= t->sges;
	for (int i = 0; i < io->iovcnt && ret == 0; i++) {
		uint8_t *at = io->iov[i].iov_base;
		size_t left = io->iov[i].iov_len;

		while (left > 0 && ret == 0) {
			uint32_t lkey = 0;
			size_t n = job->inlined ? left : verbs_buffer_find(t, at, left, !io->write, &lkey);

			if (n > 0) {
				ret = add(job, at, n, lkey, NULL);
			} else {
				n = left;
				if (n < BOUNCE_MAX || !add_registered(t, job, at, n, &ret))
					ret = add_copied(t, job, at, n, &used);
			}
			at += n;
			left -= n;
		}
	}
	if (ret < 0) {
		verbs_release(t, job, false);
		return ret;
	}
	job->prepared = true;
	return 0;
}

void verbs_release(struct transport *t, struct verbs_job *job, bool copy)
{
	struct verbs_chunk *chunk;

	if (copy && job->bounce && !job->io->write)
		for (unsigned i = 0; i < job->segment_count; i++)
			if (job->segments[i].user)
				memcpy(job->segments[i].user, job->segments[i].at, job->segments[i].length);
	while ((chunk = job->bounce)) {
		job->bounce = chunk->next;
		verbs_pool_give(&t->bounces, chunk);
	}
	job->bounce_count = 0;
	while (job->mr_count > 0)
		ibv_dereg_mr(job->mrs[--job->mr_count]);
	free(job->mrs);
	job->mrs = NULL;
	if (job->segments != job->few)
		free(job->segments);
	job->segments = job->few;
	job->segment_room = sizeof(job->few) / sizeof(job->few[0]);
	job->segment_count = 0;
	job->prepared = false;
}
