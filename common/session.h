/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session - libbrick's own view of a session and its lanes: what session.c
 * (opening, lanes, buffers, notices), lane.c (the queue) and calls.c (the calls)
 * share.  Nothing else may include it.
 *
 * A lane belongs to one thread at a time and has no lock.  Of the session, the
 * lock guards what may change while it is open: the table of lanes, the notices
 * and the list of buffers; everything else is written before brick_open() returns.
 */
#ifndef BRICK_SESSION_H
#define BRICK_SESSION_H

#include <pthread.h>
#include <sys/queue.h>

#include "brick-error.h"
#include "brick.h"
#include "endpoint.h"
#include "transport.h"
#include "wire.h"

#define SESSION_DEPTH_DEFAULT 64
#define SESSION_DEPTH_MAX 1024
#define SESSION_LANES_MAX 1024
#define SESSION_NOTICES_MAX 64
#define SESSION_TIMEOUT_MS 10000
#define SESSION_SPIN_US 50		/* some round trips of a fast network, and less than what a sleep costs on a busy host */
#define SESSION_BYE_MS 1000		/* how long brick_close() waits for the brick to take the session down */

/* A persist that is RDMA FLUSH: the lane's own name for it, which is never on the wire. */
#define OP_FLUSH 0x7fff

struct op;
struct session_handles;

/* What a call wants to be told by its reply beyond statuses: decodes the body of a reply to op. 0, or -EPROTO. */
typedef int (*op_decode)(struct op *op, const uint8_t *msg, size_t len);

/* One posted request, from post to brick_poll(). A batch travels in one message or several. */
struct op {
	STAILQ_ENTRY(op) link;		/* in the lane's free or ready list */
	uint64_t cookie;
	uint16_t type;			/* enum wire_type */
	int status;			/* of the request, so far */
	uint32_t flags;			/* map, unmap */
	unsigned messages;		/* in flight */
	size_t n, sent;			/* entries; of these, put into messages */
	const uint64_t *addrs;		/* alloc, free, map, unmap */
	const struct brick_range *ranges;	/* persist */
	struct brick_handle *handles;	/* map */
	int *statuses;			/* NULL: the first bad one becomes the status of the request */
	op_decode decode;		/* single calls */
	const void *in;
	void *out;
	struct transport_io io;		/* read, write, flush */
	struct transport_range *flush;	/* flush: io's ranges */
	struct iovec iov;
};

/* One message in flight; its place in the lane's table is the low half of the request ID. */
struct slot {
	TAILQ_ENTRY(slot) link;		/* free list, or those in flight in the order of posting */
	struct op *op;			/* NULL: free */
	uint32_t id;
	size_t first, count;		/* entries of op that it carries */
	uint64_t posted_ns;
};

STAILQ_HEAD(op_list, op);
TAILQ_HEAD(slot_list, slot);

struct brick_lane {
	struct brick_session *session;
	struct transport *transport;	/* NULL: broken */
	unsigned number;
	unsigned depth;
	int error;			/* 0, or what broke the lane */
	char error_text[BRICK_ERROR_MAX];

	struct op *ops;
	unsigned ops_made;		/* the depth that was asked for */
	struct slot *slots;
	struct op_list free_ops, ready;
	struct slot_list free_slots, sent;
	struct op *unsent;		/* a batch with entries that are in no message yet: nothing overtakes it */
	unsigned in_flight;		/* posted and not returned by brick_poll() */
	uint64_t timeout_ns;
	uint64_t moved_ns;		/* when bytes or completions moved last */
	bool moved;			/* since then, at a time that nobody has looked at the clock */
	unsigned untimed;		/* polls since the clock was looked at */
	unsigned spin_misses;		/* waits in a row for which spinning was in vain */
	unsigned spin_skips;		/* waits since spinning was tried */

	int epoll, timer;		/* brick_fd(), made when asked for; -1 */
	uint32_t epoll_events;		/* what the socket is registered for, 0: not registered */
	uint64_t timer_ns;		/* when the timer will go off, 0: not set */
};

struct session_buffer {
	LIST_ENTRY(session_buffer) link;
	void *memory;
	size_t size;
	bool ours;			/* allocated by the library */
};

struct brick_session {
	const struct transport_ops *ops;
	struct transport_domain *domain;
	struct endpoint endpoint;
	char text[ENDPOINT_TEXT_MAX];
	uint32_t timeout_ms;
	uint64_t spin_ns;
	uint8_t token[WIRE_TOKEN_SIZE];
	struct brick_info info;

	pthread_mutex_t lock;
	struct brick_lane **lanes;	/* by number, info.lanes of them */
	struct brick_notice notices[SESSION_NOTICES_MAX];
	unsigned notice_first, notice_count;
	LIST_HEAD(, session_buffer) buffers;
	struct session_handles *handles;	/* NULL where the brick itself judges them */
};

/* session.c */
void session_notice(struct brick_session *session, const struct wire_notice *notice);

/* lane.c */
int lane_new(struct brick_session *session, unsigned number, unsigned depth, struct brick_lane **lane);
void lane_delete(struct brick_lane *lane);
/* Lowers the depth to what was granted; nothing may be in flight. */
void lane_limit(struct brick_lane *lane, unsigned depth);
/* Connects the lane and judges the brick's answer. Writes the session's token if it has none. */
int lane_connect(struct brick_lane *lane);
/* Gives the lane up: what is in flight completes with error; the text is this thread's brick_error(). */
void lane_break(struct brick_lane *lane, int error);
/* A new request, or -EAGAIN when the queue is full, or what broke the lane. */
int lane_op(struct brick_lane *lane, uint16_t type, uint64_t cookie, struct op **op);
/* Gives a request back that was not posted. */
void lane_drop(struct brick_lane *lane, struct op *op);
/* Queues the request; from here on it ends in the ready list, also when the lane breaks. */
void lane_post(struct brick_lane *lane, struct op *op);
/* As lane_post(), for reads, writes and flushes: -EINVAL: the handle is not this session's (op is given back). */
int lane_post_io(struct brick_lane *lane, struct op *op);
/* Waits for the one request in flight; returns its status. */
int lane_finish(struct brick_lane *lane);

/* handles.c: the handles of the session's blocks, where a device judges them; nothing happens without session->handles. */
int handles_open(struct brick_session *session);
void handles_close(struct brick_session *session);
void handles_put(struct brick_session *session, uint64_t addr, uint32_t flags, const struct wire_handle *handle);
void handles_drop(struct brick_session *session, const uint64_t *addrs, size_t n);
/* Fills found[n], and is true, if the blocks of all ranges are known and may be flushed. */
bool handles_find(struct brick_session *session, const struct brick_range *ranges, size_t n, struct transport_range *found);
/* The device refused that flush: its blocks are persisted by message from now on, until they are mapped anew. */
void handles_refused(struct brick_session *session, const struct transport_io *io);
/* Whether the read or write is one that a map of this session allows. */
bool handles_allow(struct brick_session *session, const struct transport_io *io);

/* calls.c */
/* A call of one message, with nothing else in flight: its status. decode NULL: the reply has no body. */
int call_single(struct brick_lane *lane, uint16_t type, const void *in, op_decode decode, void *out);
/* How many entries of op go into one message, at most. */
size_t call_batch(const struct op *op);
/* One message of op, entries [first, first + count), into buf. */
size_t call_encode(const struct op *op, uint32_t id, size_t first, size_t count, uint8_t *buf);
/* The reply to such a message, with status 0. */
int call_decode(struct brick_lane *lane, struct op *op, size_t first, size_t count, const uint8_t *msg, size_t len);
/* The message failed as a whole. */
void call_failed(struct op *op, size_t first, size_t count, int error);

#endif
