/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handles - where the session's blocks are and with which key, as far as the library
 * knows.  It is asked
 *
 * - by a persist that is RDMA FLUSH: its caller names addresses, and the device wants handles;
 * - when the brick's device has refused an access.  It does not say why: of a brick that dies
 *   the regions go before the queue pairs.  If the access was in order as far as the library
 *   knows, it is the brick that is lost; else the application is told that it may not do that.
 *
 * A block is here from the answer to its map until its unmap or free is asked for
 * (and once more until that is answered: a map may be on its way at the same time).
 * What is not here is persisted by the brick, with a message: so nothing is lost
 * by forgetting too early.  So is what a flush of was refused once: a map and an unmap at the
 * same time may leave a handle here that is void, and it shall cost one lane, not each that tries.
 */
#include <errno.h>
#include <stdlib.h>

#include "session.h"

#define BUCKETS 4096			/* a power of two */

struct known {
	SLIST_ENTRY(known) link;
	uint64_t addr, place;
	uint32_t key, flags;
	bool by_message;		/* a flush through this handle was refused */
};

SLIST_HEAD(bucket, known);

struct session_handles {
	struct bucket bucket[BUCKETS];
};

static struct bucket *bucket_of(struct session_handles *handles, uint64_t addr)
{
	/* The upper half of a multiplicative hash (Knuth, volume 3, 6.4): addresses follow each other. */
	return &handles->bucket[((addr >> WIRE_BLOCK_SHIFT) * 0x9e3779b97f4a7c15ull >> 32) % BUCKETS];
}

static struct known *find(struct bucket *bucket, uint64_t addr)
{
	struct known *known;

	SLIST_FOREACH(known, bucket, link)
		if (known->addr == addr)
			break;
	return known;
}

int handles_open(struct brick_session *session)
{
	session->handles = calloc(1, sizeof(*session->handles));
	return session->handles ? 0 : brick_fail(-ENOMEM, "%s: no memory for a session", session->text);
}

void handles_close(struct brick_session *session)
{
	for (unsigned i = 0; session->handles && i < BUCKETS; i++) {
		struct bucket *bucket = &session->handles->bucket[i];

		while (!SLIST_EMPTY(bucket)) {
			struct known *known = SLIST_FIRST(bucket);

			SLIST_REMOVE_HEAD(bucket, link);
			free(known);
		}
	}
	free(session->handles);
	session->handles = NULL;
}

void handles_put(struct brick_session *session, uint64_t addr, uint32_t flags, const struct wire_handle *handle)
{
	struct bucket *bucket;
	struct known *known;

	if (!session->handles)
		return;
	pthread_mutex_lock(&session->lock);
	bucket = bucket_of(session->handles, addr);
	known = find(bucket, addr);
	if (!known) {
		known = calloc(1, sizeof(*known));
		if (known)
			SLIST_INSERT_HEAD(bucket, known, link);
	}
	if (known) {
		bool same = known->place == handle->place && known->key == handle->key;

		/* The same handle again: the stronger of the flags are what it allows. */
		known->flags = flags | (same ? known->flags : 0);
		known->by_message = same && known->by_message;
		known->addr = addr;
		known->place = handle->place;
		known->key = handle->key;
	}
	pthread_mutex_unlock(&session->lock);
}

void handles_drop(struct brick_session *session, const uint64_t *addrs, size_t n)
{
	if (!session->handles)
		return;
	pthread_mutex_lock(&session->lock);
	for (size_t i = 0; i < n; i++) {
		struct bucket *bucket = bucket_of(session->handles, addrs[i]);
		struct known *known = find(bucket, addrs[i]);

		if (!known)
			continue;
		SLIST_REMOVE(bucket, known, known, link);
		free(known);
	}
	pthread_mutex_unlock(&session->lock);
}

bool handles_find(struct brick_session *session, const struct brick_range *ranges, size_t n, struct transport_range *found)
{
	bool all = true;

	pthread_mutex_lock(&session->lock);
	for (size_t i = 0; i < n && all; i++) {
		uint64_t offset = ranges[i].addr & (BRICK_BLOCK_SIZE - 1), addr = ranges[i].addr - offset;
		const struct known *known = find(bucket_of(session->handles, addr), addr);

		all = known && !known->by_message;
		if (all)
			found[i] = (struct transport_range){ known->place + offset, known->key, ranges[i].length };
	}
	pthread_mutex_unlock(&session->lock);
	return all;
}

void handles_refused(struct brick_session *session, const struct transport_io *io)
{
	pthread_mutex_lock(&session->lock);
	for (uint32_t i = 0; session->handles && i < io->range_count; i++) {
		const struct transport_range *range = &io->ranges[i];
		uint64_t addr = range->place & ~(uint64_t)(BRICK_BLOCK_SIZE - 1);	/* verbs: a place is an address */
		struct known *known = find(bucket_of(session->handles, addr), addr);

		if (known && known->key == range->key)
			known->by_message = true;
	}
	pthread_mutex_unlock(&session->lock);
}

bool handles_allow(struct brick_session *session, const struct transport_io *io)
{
	const struct known *known;
	bool allowed;

	if (!session->handles)
		return false;
	pthread_mutex_lock(&session->lock);
	known = find(bucket_of(session->handles, io->addr), io->addr);
	allowed = known && known->place == io->place && known->key == io->key &&
		(!io->write || (known->flags & (WIRE_MAP_WRITE | WIRE_MAP_EXCLUSIVE)));
	pthread_mutex_unlock(&session->lock);
	return allowed;
}
