/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backend - one brick as the volume sees it: the table that libbrick
 * (backend-brick.c) and the simulated brick of the tests fill in.
 *
 * A backend's session has `lanes` lanes, used by one thread each at a time.
 * submit() queues data and persists; drain() waits for all that is queued on the lane.
 * A persist covers what was submitted before it on the same lane.
 * Errors are negative errno.  -ECONNRESET, -ETIMEDOUT: the lane broke and everything queued
 * on it has an unknown outcome; rejoin() brings it back, or says -ESTALE: the session
 * is gone, close it and open another.  -EACCES of a read or write over verbs: the brick's hardware
 * refused the handle, and with that the lane broke.
 */
#ifndef BRICKFS_BACKEND_H
#define BRICKFS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backend_session;		/* the backend's own */

struct backend_info {
	uint8_t uuid[16];
	uint64_t instance, loss_epoch;
	uint64_t capacity, free;	/* blocks */
	uint64_t session;
	unsigned maps, lanes;		/* granted */
	unsigned lease_ms;		/* keepalive() at least this often, if nothing else is sent */
	const char *method;		/* "target", "flush", "volatile" */
};

struct backend_handle { uint64_t addr, place; uint32_t key, flags; };
struct backend_extent { uint64_t start, count; };	/* address, blocks */
struct backend_range { uint64_t addr; uint32_t length; };

enum backend_op { BACKEND_READ, BACKEND_WRITE, BACKEND_PERSIST };
struct backend_io {
	enum backend_op op;
	struct backend_handle handle;	/* read, write */
	uint32_t offset, length;	/* read, write: bytes in the block */
	void *buffer;
	const struct backend_range *ranges;	/* persist; must stay until drain */
	size_t range_count;
	int status;			/* out, after drain */
};

#define BACKEND_MAP_WRITE 1u
#define BACKEND_MAP_EXCLUSIVE 2u
#define BACKEND_MAP_PREEMPT 4u
#define BACKEND_UNMAP_CLEAN 1u
#define BACKEND_NO_LANE (~0u)

struct backend_holder {
	uint64_t session, pid;
	unsigned heard_ms;
	char name[64], transport[8];
};

struct backend {
	int (*open)(void *context, const char *endpoint, const char *name, unsigned lanes, unsigned maps,
		    unsigned timeout_ms, struct backend_session **session);
	void (*close)(struct backend_session *session);
	const struct backend_info *(*info)(struct backend_session *session);
	int (*rejoin)(struct backend_session *session, unsigned lane);
	int (*alloc)(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status);
	int (*release)(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status);
	int (*map)(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags,
		   struct backend_handle *handles, int *status);
	int (*unmap)(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags, int *status);
	int (*list)(struct backend_session *session, unsigned lane, uint64_t from, struct backend_extent *extents, size_t max,
		    size_t *n, uint64_t *generation, uint64_t *next, bool *more);
	/* the io must stay until drain; waits by itself when the queue is full */
	int (*submit)(struct backend_session *session, unsigned lane, struct backend_io *io);
	int (*drain)(struct backend_session *session, unsigned lane);	/* 0, or the first error of what was queued */
	int (*keepalive)(struct backend_session *session, unsigned lane);
	/*
	 * How many blocks the brick has asked to be unmapped since the last call.  Looks at the lane first, without waiting and
	 * without sending, if nothing is in flight there; BACKEND_NO_LANE: only what was found meanwhile.
	 */
	uint64_t (*recalled)(struct backend_session *session, unsigned lane);
	/*
	 * I/O from and into this memory costs the least; other memory works too.  From any thread, beside I/O on other
	 * memory; what is registered goes with the session.
	 */
	int (*buffer_register)(struct backend_session *session, void *memory, size_t size);
	void (*buffer_unregister)(struct backend_session *session, void *memory);
	int (*who)(struct backend_session *session, unsigned lane, uint64_t addr, struct backend_holder *holders, size_t max, size_t *n);
	const char *(*error_text)(void);	/* of this thread; "" if none */
};

extern const struct backend backend_brick;	/* libbrick; no context */

#endif
