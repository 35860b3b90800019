/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * calls - the calls of brick.h: what each puts into its messages, what it takes
 * out of the replies, and the queued and the synchronous form of each.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

_Static_assert(BRICK_BLOCK_SHIFT == WIRE_BLOCK_SHIFT, "one size of blocks");
_Static_assert(BRICK_MAP_WRITE == WIRE_MAP_WRITE && BRICK_MAP_EXCLUSIVE == WIRE_MAP_EXCLUSIVE &&
	       BRICK_MAP_PREEMPT == WIRE_MAP_PREEMPT && BRICK_UNMAP_CLEAN == WIRE_UNMAP_CLEAN, "flags go out as they are");
_Static_assert((int)BRICK_OPS == (int)WIRE_OPS, "one row each");

const char *const brick_op_names[BRICK_OPS] = {
	"alloc", "free", "map", "unmap", "list", "persist", "read", "write", "other",
};

/*
 * alloc and free are durable when answered, and an alloc may have to zero a block:
 * smaller messages, which go out together all the same, show that the brick is at work.
 */
#define DURABLE_BATCH 64

size_t call_batch(const struct op *op)
{
	return op->type == WIRE_ALLOC || op->type == WIRE_FREE ? DURABLE_BATCH : WIRE_ADDRS_MAX;
}

size_t call_encode(const struct op *op, uint32_t id, size_t first, size_t count, uint8_t *buf)
{
	switch (op->type) {
	case WIRE_ALLOC:
	case WIRE_FREE:
		return wire_put_addrs(buf, op->type, id, op->addrs + first, count);
	case WIRE_MAP:
	case WIRE_UNMAP: {
		struct wire_target targets[WIRE_ADDRS_MAX];

		for (size_t i = 0; i < count; i++)
			targets[i] = (struct wire_target){ .addr = op->addrs[first + i], .flags = op->flags };
		return wire_put_targets(buf, op->type, id, targets, count);
	}
	case WIRE_PERSIST: {
		struct wire_range ranges[WIRE_ADDRS_MAX];

		for (size_t i = 0; i < count; i++)
			ranges[i] = (struct wire_range){ .addr = op->ranges[first + i].addr,
							 .length = op->ranges[first + i].length };
		return wire_put_ranges(buf, id, ranges, count);
	}
	case WIRE_HELLO:
		return wire_put_hello(buf, id, op->in);
	case WIRE_LIST:
		return wire_put_list(buf, id, op->in);
	case WIRE_SESSIONS:
	case WIRE_WHO:
	case WIRE_REVOKE:
		return wire_put_sessions(buf, op->type, id, op->in);
	default:		/* KEEPALIVE, STAT, BYE */
		return wire_put_plain(buf, op->type, id, 0);
	}
}

static void set_status(struct op *op, size_t entry, int status)
{
	if (op->statuses)
		op->statuses[entry] = status;
	else if (op->status == 0)
		op->status = status;
}

void call_failed(struct op *op, size_t first, size_t count, int error)
{
	if (!op->statuses)
		return;
	for (size_t i = 0; i < count; i++)
		op->statuses[first + i] = error;
}

static const char *verb(uint16_t type)
{
	switch (type) {
	case WIRE_ALLOC:
		return "alloc";
	case WIRE_FREE:
		return "free";
	case WIRE_MAP:
		return "map";
	case WIRE_UNMAP:
		return "unmap";
	default:
		return "persist";
	}
}

static int wrong(struct brick_lane *lane, const struct op *op)
{
	return brick_fail(-EPROTO, "%s: the brick answered a request (type %u) with something else", lane->session->text,
			  op->type);
}

/* An entry that failed: the last one's text stays. */
static int entry_status(struct brick_lane *lane, const struct op *op, size_t entry, uint32_t wire)
{
	int status = wire_errno(wire);

	if (status)
		brick_fail(status, "%s: %s 0x%" PRIx64 ": %s", lane->session->text, verb(op->type),
			   op->type == WIRE_PERSIST ? op->ranges[entry].addr : op->addrs[entry],
			   brick_errno_text(status));
	return status;
}

static int decode_handles(struct brick_lane *lane, struct op *op, size_t first, size_t count,
			  const uint8_t *msg, size_t len)
{
	struct brick_session *session = lane->session;
	struct wire_handle handles[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;

	if (wire_get_handles(msg, len, handles, &n) < 0 || n != count)
		return wrong(lane, op);
	for (size_t i = 0; i < count; i++) {
		struct brick_handle *handle = &op->handles[first + i];
		int ret, status = entry_status(lane, op, first + i, handles[i].status);

		memset(handle, 0, sizeof(*handle));
		if (status == 0) {
			ret = session->ops->check_handle(session->domain, session->text, op->addrs[first + i],
							 &handles[i]);
			if (ret < 0)
				return ret;
			handle->addr = op->addrs[first + i];
			handle->place = handles[i].place;
			handle->key = handles[i].key;
			handle->flags = op->flags | (op->flags & BRICK_MAP_EXCLUSIVE ? BRICK_MAP_WRITE : 0);
			handles_put(session, handle->addr, op->flags, &handles[i]);
		}
		set_status(op, first + i, status);
	}
	return 0;
}

int call_decode(struct brick_lane *lane, struct op *op, size_t first, size_t count, const uint8_t *msg, size_t len)
{
	uint32_t statuses[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;

	switch (op->type) {
	case WIRE_ALLOC:
	case WIRE_FREE:
	case WIRE_UNMAP:
	case WIRE_PERSIST:
		if (wire_get_statuses(msg, len, statuses, &n) < 0 || n != count)
			return wrong(lane, op);
		for (size_t i = 0; i < count; i++)
			set_status(op, first + i, entry_status(lane, op, first + i, statuses[i]));
		if (op->type == WIRE_FREE || op->type == WIRE_UNMAP)
			handles_drop(lane->session, op->addrs + first, count);
		return 0;
	case WIRE_MAP:
		return decode_handles(lane, op, first, count, msg, len);
	default:
		if (op->decode ? op->decode(op, msg, len) < 0 : len != WIRE_HEADER_SIZE)
			return wrong(lane, op);
		return 0;
	}
}

/* Batches. */

static int post_batch(struct brick_lane *lane, const struct op *template, uint64_t cookie)
{
	struct op *op;
	int ret = lane_op(lane, template->type, cookie, &op);

	if (ret < 0)
		return ret;
	op->flags = template->flags;
	op->n = template->n;
	op->addrs = template->addrs;
	op->ranges = template->ranges;
	op->handles = template->handles;
	op->statuses = template->statuses;
	lane_post(lane, op);
	return 0;
}

int brick_post_alloc(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status, uint64_t cookie)
{
	const struct op op = { .type = WIRE_ALLOC, .addrs = addrs, .n = n, .statuses = status };

	return post_batch(lane, &op, cookie);
}

int brick_post_free(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status, uint64_t cookie)
{
	const struct op op = { .type = WIRE_FREE, .addrs = addrs, .n = n, .statuses = status };

	handles_drop(lane->session, addrs, n);
	return post_batch(lane, &op, cookie);
}

int brick_post_map(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags,
		   struct brick_handle *handles, int *status, uint64_t cookie)
{
	const struct op op = { .type = WIRE_MAP, .addrs = addrs, .n = n, .flags = flags, .handles = handles,
			       .statuses = status };

	if (flags & ~WIRE_MAP_KNOWN)
		return brick_fail(-EINVAL, "%s: map with unknown flags 0x%x", lane->session->text, flags);
	return post_batch(lane, &op, cookie);
}

int brick_post_unmap(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags,
		     int *status, uint64_t cookie)
{
	const struct op op = { .type = WIRE_UNMAP, .addrs = addrs, .n = n, .flags = flags, .statuses = status };

	if (flags & ~WIRE_UNMAP_KNOWN)
		return brick_fail(-EINVAL, "%s: unmap with unknown flags 0x%x", lane->session->text, flags);
	handles_drop(lane->session, addrs, n);
	return post_batch(lane, &op, cookie);
}

/* Persists by RDMA FLUSH: -ENOENT when not all of it is in blocks that this session knows. */
static int post_flush(struct brick_lane *lane, const struct brick_range *ranges, size_t n, int *status, uint64_t cookie)
{
	struct transport_range *flush;
	struct op *op;
	int ret;

	if (n == 0 || n > UINT32_MAX)
		return -ENOENT;
	flush = calloc(n, sizeof(*flush));
	if (!flush || !handles_find(lane->session, ranges, n, flush)) {
		free(flush);
		return -ENOENT;
	}
	ret = lane_op(lane, OP_FLUSH, cookie, &op);
	if (ret < 0) {
		free(flush);
		return ret;
	}
	for (size_t i = 0; status && i < n; i++)
		status[i] = 0;
	op->n = n;
	op->statuses = status;
	op->flush = flush;
	op->io = (struct transport_io){ .ranges = flush, .range_count = (uint32_t)n };
	return lane_post_io(lane, op);
}

int brick_post_persist(struct brick_lane *lane, const struct brick_range *ranges, size_t n,
		       int *status, uint64_t cookie)
{
	const struct op op = { .type = WIRE_PERSIST, .ranges = ranges, .n = n, .statuses = status };

	for (size_t i = 0; i < n; i++) {
		uint64_t offset = ranges[i].addr & (BRICK_BLOCK_SIZE - 1);

		if (ranges[i].length == 0 || ranges[i].length > BRICK_BLOCK_SIZE - offset)
			return brick_fail(-EINVAL, "%s: persist of %u bytes at 0x%" PRIx64 ": not in one block",
					  lane->session->text, ranges[i].length, ranges[i].addr);
	}
	if (lane->session->info.method == BRICK_PERSIST_FLUSH) {
		int ret = post_flush(lane, ranges, n, status, cookie);

		if (ret != -ENOENT)
			return ret;
	}
	return post_batch(lane, &op, cookie);
}

/* Reads and writes. */

/* iov NULL: the one piece of memory at buffer. */
static int post_io(struct brick_lane *lane, bool write, const struct brick_handle *handle, uint32_t offset,
		   void *buffer, const struct iovec *iov, int iovcnt, uint64_t length, uint64_t cookie)
{
	const char *text = lane->session->text;
	struct op *op;
	int ret;

	if (length == 0 || offset >= BRICK_BLOCK_SIZE || length > BRICK_BLOCK_SIZE - offset)
		return brick_fail(-EINVAL, "%s: %s of %" PRIu64 " bytes at offset %u of 0x%" PRIx64 ": not in the block",
				  text, write ? "write" : "read", length, offset, handle->addr);
	if (handle->addr & (BRICK_BLOCK_SIZE - 1))
		return brick_fail(-EINVAL, "%s: the handle names no block (0x%" PRIx64 ")", text, handle->addr);
	if (write && !(handle->flags & (BRICK_MAP_WRITE | BRICK_MAP_EXCLUSIVE)))
		return brick_fail(-EACCES, "%s: write to 0x%" PRIx64 ", which is mapped read-only", text, handle->addr);
	ret = lane_op(lane, write ? WIRE_WRITE : WIRE_READ, cookie, &op);
	if (ret < 0)
		return ret;
	op->iov = (struct iovec){ buffer, (size_t)length };
	op->io = (struct transport_io){
		.write = write,
		.addr = handle->addr,
		.place = handle->place,
		.key = handle->key,
		.offset = offset,
		.length = (uint32_t)length,
		.iov = iov ? iov : &op->iov,
		.iovcnt = iov ? iovcnt : 1,
	};
	return lane_post_io(lane, op);
}

/* Bytes of iov, or more than any block has. */
static uint64_t iov_length(const struct iovec *iov, int iovcnt)
{
	uint64_t length = 0;

	for (int i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > BRICK_BLOCK_SIZE - length)
			return UINT32_MAX;
		length += iov[i].iov_len;
	}
	return length;
}

int brick_post_read(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		    void *buffer, uint32_t length, uint64_t cookie)
{
	return post_io(lane, false, handle, offset, buffer, NULL, 0, length, cookie);
}

int brick_post_write(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		     const void *buffer, uint32_t length, uint64_t cookie)
{
	return post_io(lane, true, handle, offset, (void *)(uintptr_t)buffer, NULL, 0, length, cookie);
}

int brick_post_readv(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		     const struct iovec *iov, int iovcnt, uint64_t cookie)
{
	return post_io(lane, false, handle, offset, NULL, iov, iovcnt, iov_length(iov, iovcnt), cookie);
}

int brick_post_writev(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		      const struct iovec *iov, int iovcnt, uint64_t cookie)
{
	return post_io(lane, true, handle, offset, NULL, iov, iovcnt, iov_length(iov, iovcnt), cookie);
}

/* Synchronous twins. */

static int busy(struct brick_lane *lane)
{
	if (lane->in_flight == 0)
		return 0;
	return brick_fail(-EBUSY, "%s: a synchronous call on a lane with %u requests in flight", lane->session->text,
			  lane->in_flight);
}

#define TWIN(post)							\
	do {								\
		int twin_ret = busy(lane);				\
									\
		if (twin_ret == 0)					\
			twin_ret = (post);				\
		return twin_ret < 0 ? twin_ret : lane_finish(lane);	\
	} while (0)

int brick_alloc(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status)
{
	TWIN(brick_post_alloc(lane, addrs, n, status, 0));
}

int brick_free(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status)
{
	TWIN(brick_post_free(lane, addrs, n, status, 0));
}

int brick_map(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags,
	      struct brick_handle *handles, int *status)
{
	TWIN(brick_post_map(lane, addrs, n, flags, handles, status, 0));
}

int brick_unmap(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags, int *status)
{
	TWIN(brick_post_unmap(lane, addrs, n, flags, status, 0));
}

int brick_persist(struct brick_lane *lane, const struct brick_range *ranges, size_t n, int *status)
{
	TWIN(brick_post_persist(lane, ranges, n, status, 0));
}

int brick_read(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset, void *buffer,
	       uint32_t length)
{
	TWIN(brick_post_read(lane, handle, offset, buffer, length, 0));
}

int brick_write(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset, const void *buffer,
		uint32_t length)
{
	TWIN(brick_post_write(lane, handle, offset, buffer, length, 0));
}

int call_single(struct brick_lane *lane, uint16_t type, const void *in, op_decode decode, void *out)
{
	struct op *op;
	int ret = busy(lane);

	if (ret == 0)
		ret = lane_op(lane, type, 0, &op);
	if (ret < 0)
		return ret;
	op->n = 1;
	op->in = in;
	op->decode = decode;
	op->out = out;
	lane_post(lane, op);
	return lane_finish(lane);
}

static int decode_list(struct op *op, const uint8_t *msg, size_t len)
{
	return wire_get_list_reply(msg, len, op->out);
}

int brick_list(struct brick_lane *lane, uint64_t from, struct brick_extent *extents, size_t max, size_t *n,
	       uint64_t *generation, uint64_t *next, bool *more)
{
	const struct wire_list list = { .from = from, .max = max < WIRE_EXTENTS_MAX ? (uint32_t)max : WIRE_EXTENTS_MAX };
	struct wire_list_reply reply;
	uint64_t blocks = 0;
	int ret;

	if (max == 0)
		return brick_fail(-EINVAL, "%s: list without room for an extent", lane->session->text);
	ret = call_single(lane, WIRE_LIST, &list, decode_list, &reply);
	if (ret < 0)
		return ret;
	/* What was not asked for, or leads in a circle, is not believed. */
	if (reply.count > list.max || (reply.count > 0 && reply.extent[0].start < (from & ~(BRICK_BLOCK_SIZE - 1))) ||
	    (reply.more && reply.next <= from)) {
		ret = brick_fail(-EPROTO, "%s: the brick listed something else than was asked for", lane->session->text);
		lane_break(lane, ret);
		return ret;
	}
	for (uint32_t i = 0; i < reply.count; i++) {
		uint64_t capacity = lane->session->info.capacity;

		blocks += reply.extent[i].count;	/* each has less than 2^43: this does not overflow */
		if (blocks > capacity) {
			ret = brick_fail(-EPROTO, "%s: the brick lists more blocks than its capacity of %" PRIu64, lane->session->text,
					 capacity);
			lane_break(lane, ret);
			return ret;
		}
	}
	for (uint32_t i = 0; i < reply.count; i++)
		extents[i] = (struct brick_extent){ reply.extent[i].start, reply.extent[i].count };
	*n = reply.count;
	*generation = reply.generation;
	*next = reply.next;
	*more = reply.more;
	return 0;
}

int brick_keepalive(struct brick_lane *lane)
{
	return call_single(lane, WIRE_KEEPALIVE, NULL, NULL, NULL);
}

static int decode_stat(struct op *op, const uint8_t *msg, size_t len)
{
	return wire_get_stat_reply(msg, len, op->out);
}

int brick_stat(struct brick_lane *lane, struct brick_stat *stat)
{
	struct wire_stat_reply reply;
	int ret = call_single(lane, WIRE_STAT, NULL, decode_stat, &reply);

	if (ret < 0)
		return ret;
	*stat = (struct brick_stat){
		.instance = reply.instance, .loss_epoch = reply.loss_epoch,
		.capacity = reply.capacity, .free = reply.free, .zeroed = reply.zeroed,
		.uptime_ms = reply.uptime_ms,
		.sessions = reply.sessions, .lanes = reply.lanes, .maps = reply.maps,
		.sessions_max = reply.sessions_max, .lanes_max = reply.lanes_max, .maps_max = reply.maps_max,
		.generation = reply.generation,
		.method = (enum brick_persist_method)reply.method,
		.failed = reply.failed, .fault = reply.fault,
		.regions = reply.regions,
		.memory = reply.memory, .memory_used = reply.memory_used, .memory_pinned = reply.memory_pinned,
		.memory_dirty = reply.memory_dirty,
		.fills = reply.fills, .write_backs = reply.write_backs, .evictions = reply.evictions,
		.recalls = reply.recalls,
	};
	memcpy(stat->uuid, reply.uuid, sizeof(stat->uuid));
	for (int i = 0; i < BRICK_OPS; i++)
		stat->op[i] = (struct brick_op_stat){ reply.op[i].count, reply.op[i].errors, reply.op[i].bytes,
						      reply.op[i].p50_ns, reply.op[i].p99_ns, reply.op[i].max_ns };
	return 0;
}

_Static_assert((int)WIRE_LIMIT_ROWS <= BRICK_LIMITS_MAX && (int)WIRE_REFUSED_ROWS <= BRICK_LIMITS_MAX, "all rows fit");

static int decode_limits(struct op *op, const uint8_t *msg, size_t len)
{
	return wire_get_limits_reply(msg, len, op->out);
}

/* Rows that a later brick has more than this library knows are left out. */
int brick_limits(struct brick_lane *lane, struct brick_limits *limits)
{
	struct wire_limits_reply reply;
	int ret = call_single(lane, WIRE_LIMITS, NULL, decode_limits, &reply);

	if (ret < 0)
		return ret;
	*limits = (struct brick_limits){
		.limits = reply.limits < WIRE_LIMIT_ROWS ? reply.limits : WIRE_LIMIT_ROWS,
		.refusals = reply.refusals < WIRE_REFUSED_ROWS ? reply.refusals : WIRE_REFUSED_ROWS,
	};
	for (unsigned i = 0; i < limits->limits; i++)
		limits->limit[i] = (struct brick_limit){ wire_limit_names[i], reply.limit[i].most, reply.limit[i].used };
	for (unsigned i = 0; i < limits->refusals; i++)
		limits->refusal[i] = (struct brick_refusal){ wire_refusal_names[i], reply.refused[i] };
	return 0;
}

static int decode_sessions(struct op *op, const uint8_t *msg, size_t len)
{
	return wire_get_sessions_reply(msg, len, op->out);
}

static size_t copy_sessions(struct brick_session_info *infos, size_t max, const struct wire_sessions_reply *reply)
{
	size_t n = reply->count < max ? reply->count : max;

	for (size_t i = 0; i < n; i++) {
		const struct wire_session_info *s = &reply->session[i];

		infos[i] = (struct brick_session_info){ .session = s->session, .pid = s->pid, .maps = s->maps,
							.lanes = s->lanes, .heard_ms = s->heard_ms, .flags = s->flags };
		_Static_assert(sizeof(infos[i].name) == sizeof(s->name), "names fit");
		_Static_assert(sizeof(infos[i].transport) == sizeof(s->transport), "names fit");
		memcpy(infos[i].transport, s->transport, sizeof(s->transport));
		memcpy(infos[i].name, s->name, sizeof(s->name));
	}
	return n;
}

int brick_sessions(struct brick_lane *lane, uint64_t from, struct brick_session_info *infos, size_t max, size_t *n)
{
	struct wire_sessions ask = { .from = from };
	struct wire_sessions_reply reply;
	int ret;

	*n = 0;
	do {
		ret = call_single(lane, WIRE_SESSIONS, &ask, decode_sessions, &reply);
		if (ret < 0)
			return ret;
		for (uint32_t i = 0; i < reply.count; i++) {
			if (reply.session[i].session < ask.from) {
				ret = brick_fail(-EPROTO, "%s: the brick told of a session that was not asked for",
						 lane->session->text);
				lane_break(lane, ret);
				return ret;
			}
			ask.from = reply.session[i].session + 1;
		}
		*n += copy_sessions(infos + *n, max - *n, &reply);
	} while (reply.more && reply.count > 0 && *n < max && ask.from != 0);
	return 0;
}

int brick_who(struct brick_lane *lane, uint64_t addr, struct brick_session_info *infos, size_t max, size_t *n)
{
	const struct wire_sessions ask = { .from = addr };
	struct wire_sessions_reply reply;
	int ret = call_single(lane, WIRE_WHO, &ask, decode_sessions, &reply);

	if (ret < 0)
		return ret;
	*n = copy_sessions(infos, max, &reply);
	return 0;
}

int brick_revoke(struct brick_lane *lane, uint64_t session)
{
	const struct wire_sessions ask = { .from = session };

	return call_single(lane, WIRE_REVOKE, &ask, NULL, NULL);
}
