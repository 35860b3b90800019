/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backend-brick - real bricks for the volume, by means of libbrick: one session,
 * and as many lanes of it as were granted.
 *
 * What is submitted is queued on the lane with its struct backend_io as the
 * cookie, and gathered again when the queue is full and by drain().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "brick.h"

#define GATHER 32		/* completions taken at once */

_Static_assert(BACKEND_MAP_WRITE == BRICK_MAP_WRITE && BACKEND_MAP_EXCLUSIVE == BRICK_MAP_EXCLUSIVE &&
	       BACKEND_MAP_PREEMPT == BRICK_MAP_PREEMPT && BACKEND_UNMAP_CLEAN == BRICK_UNMAP_CLEAN, "one set of flags");

/* These are handed through as they are. */
#define SAME(type_a, type_b, field) \
	_Static_assert(sizeof(struct type_a) == sizeof(struct type_b) && \
		       offsetof(struct type_a, field) == offsetof(struct type_b, field), #type_a " is " #type_b)
SAME(backend_handle, brick_handle, addr);
SAME(backend_handle, brick_handle, place);
SAME(backend_handle, brick_handle, key);
SAME(backend_handle, brick_handle, flags);
SAME(backend_extent, brick_extent, start);
SAME(backend_extent, brick_extent, count);
SAME(backend_range, brick_range, addr);
SAME(backend_range, brick_range, length);

struct queue {
	struct brick_lane *lane;
	int error;		/* the first of what was gathered since the last drain */
};

struct backend_session {
	struct brick_session *brick;
	struct backend_info info;
	struct queue queues[];
};

static const char *method_name(enum brick_persist_method method)
{
	switch (method) {
	case BRICK_PERSIST_FLUSH:
		return "flush";
	case BRICK_PERSIST_VOLATILE:
		return "volatile";
	default:
		return "target";
	}
}

static void backend_close(struct backend_session *session)
{
	brick_close(session->brick);
	free(session);
}

static int backend_open(void *context, const char *endpoint, const char *name, unsigned lanes, unsigned maps,
			unsigned timeout_ms, struct backend_session **sessionp)
{
	const struct brick_options options = {
		.name = name,
		.maps = maps,
		.lanes = lanes > UINT16_MAX ? UINT16_MAX : (uint16_t)lanes,
		.timeout_ms = timeout_ms,
	};
	struct backend_session *session;
	const struct brick_info *info;
	struct brick_session *brick;
	int ret = brick_open(endpoint, &options, &brick);

	if (ret < 0)
		return ret;
	info = brick_info(brick);
	session = calloc(1, sizeof(*session) + info->lanes * sizeof(session->queues[0]));
	if (!session) {
		brick_close(brick);
		return -ENOMEM;
	}
	session->brick = brick;
	memcpy(session->info.uuid, info->uuid, sizeof(session->info.uuid));
	session->info.instance = info->instance;
	session->info.loss_epoch = info->loss_epoch;
	session->info.capacity = info->capacity;
	session->info.free = info->free;
	session->info.session = info->session;
	session->info.maps = info->maps;
	session->info.lanes = info->lanes;
	session->info.lease_ms = info->lease_ms;
	session->info.method = method_name(info->method);
	session->queues[0].lane = brick_lane(brick, 0);
	for (unsigned i = 1; i < info->lanes; i++) {
		ret = brick_lane_open(brick, &session->queues[i].lane);
		if (ret < 0) {
			backend_close(session);
			return ret;
		}
	}
	*sessionp = session;
	return 0;
}

static const struct backend_info *backend_get_info(struct backend_session *session)
{
	return &session->info;
}

/* Takes completions, waiting for at least one; what fails is written down where it belongs. */
static int gather(struct queue *queue)
{
	struct brick_completion completions[GATHER];
	int n = brick_wait(queue->lane, completions, GATHER, -1);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		struct backend_io *io = (struct backend_io *)(uintptr_t)completions[i].cookie;

		io->status = completions[i].status;
		if (io->status && !queue->error)
			queue->error = io->status;
	}
	return 0;
}

static int backend_drain(struct backend_session *session, unsigned lane)
{
	struct queue *queue = &session->queues[lane];
	int ret = 0;

	while (ret == 0 && brick_in_flight(queue->lane) > 0)
		ret = gather(queue);
	if (ret == 0)
		ret = queue->error;
	queue->error = 0;
	return ret;
}

static int backend_rejoin(struct backend_session *session, unsigned lane)
{
	/* What is still queued has failed with the lane; its outcome is written into each. */
	backend_drain(session, lane);
	return brick_lane_rejoin(session->queues[lane].lane);
}

static int post(struct queue *queue, struct backend_io *io)
{
	uint64_t cookie = (uintptr_t)io;
	const struct brick_handle handle = { io->handle.addr, io->handle.place, io->handle.key, io->handle.flags };

	switch (io->op) {
	case BACKEND_READ:
		return brick_post_read(queue->lane, &handle, io->offset, io->buffer, io->length, cookie);
	case BACKEND_WRITE:
		return brick_post_write(queue->lane, &handle, io->offset, io->buffer, io->length, cookie);
	default:
		/* Without statuses the first bad range fails the whole persist. */
		return brick_post_persist(queue->lane, (const struct brick_range *)io->ranges, io->range_count, NULL,
					  cookie);
	}
}

static int backend_submit(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	struct queue *queue = &session->queues[lane];
	int ret;

	io->status = -EINPROGRESS;
	while ((ret = post(queue, io)) == -EAGAIN) {
		ret = gather(queue);
		if (ret < 0)
			break;
	}
	if (ret < 0)
		io->status = ret;
	return ret;
}

static int backend_alloc(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	return brick_alloc(session->queues[lane].lane, addrs, n, status);
}

static int backend_release(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n,
			   int *status)
{
	return brick_free(session->queues[lane].lane, addrs, n, status);
}

static int backend_map(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags,
		       struct backend_handle *handles, int *status)
{
	return brick_map(session->queues[lane].lane, addrs, n, flags, (struct brick_handle *)handles, status);
}

static int backend_unmap(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n,
			 uint32_t flags, int *status)
{
	return brick_unmap(session->queues[lane].lane, addrs, n, flags, status);
}

static int backend_list(struct backend_session *session, unsigned lane, uint64_t from, struct backend_extent *extents,
			size_t max, size_t *n, uint64_t *generation, uint64_t *next, bool *more)
{
	return brick_list(session->queues[lane].lane, from, (struct brick_extent *)extents, max, n, generation, next,
			  more);
}

static int backend_keepalive(struct backend_session *session, unsigned lane)
{
	return brick_keepalive(session->queues[lane].lane);
}

static uint64_t backend_recalled(struct backend_session *session, unsigned lane)
{
	struct brick_notice notice;
	uint64_t blocks = 0;

	/* What has come is moved; with nothing in flight there is no completion to take. */
	if (lane != BACKEND_NO_LANE && brick_in_flight(session->queues[lane].lane) == 0) {
		struct brick_completion none;

		brick_poll(session->queues[lane].lane, &none, 1);
	}
	/* The others tell what the next call on a lane will say anyway. */
	while (brick_notice(session->brick, &notice) == 1)
		if (notice.kind == BRICK_NOTICE_RECALL)
			blocks = notice.arg > UINT64_MAX - blocks ? UINT64_MAX : blocks + notice.arg;
	return blocks;
}

static int backend_buffer_register(struct backend_session *session, void *memory, size_t size)
{
	return brick_buffer_register(session->brick, memory, size);
}

static void backend_buffer_unregister(struct backend_session *session, void *memory)
{
	brick_buffer_unregister(session->brick, memory);
}

static int backend_who(struct backend_session *session, unsigned lane, uint64_t addr, struct backend_holder *holders,
		       size_t max, size_t *n)
{
	struct brick_session_info infos[64];
	size_t found = 0;
	int ret = brick_who(session->queues[lane].lane, addr, infos, max < 64 ? max : 64, &found);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < found; i++) {
		holders[i].session = infos[i].session;
		holders[i].pid = infos[i].pid;
		holders[i].heard_ms = infos[i].heard_ms;
		memcpy(holders[i].name, infos[i].name, sizeof(holders[i].name));
		memcpy(holders[i].transport, infos[i].transport, sizeof(holders[i].transport));
	}
	*n = found;
	return 0;
}

const struct backend backend_brick = {
	.open = backend_open,
	.close = backend_close,
	.info = backend_get_info,
	.rejoin = backend_rejoin,
	.alloc = backend_alloc,
	.release = backend_release,
	.map = backend_map,
	.unmap = backend_unmap,
	.list = backend_list,
	.submit = backend_submit,
	.drain = backend_drain,
	.keepalive = backend_keepalive,
	.recalled = backend_recalled,
	.buffer_register = backend_buffer_register,
	.buffer_unregister = backend_buffer_unregister,
	.who = backend_who,
	.error_text = brick_error,
};
