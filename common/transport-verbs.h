/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-verbs - bricks over RDMA: what the rooms of the verbs transport share.
 * Nothing else may include it.
 *
 *   transport-verbs-domain.c	the device and the protection domain of a session, its registered buffers
 *   transport-verbs-memory.c	registered memory of the library's own, and what a request's memory is to the device
 *   transport-verbs-connect.c	the connection manager, the queue pair, and what breaks them
 *   transport-verbs.c		the queue: control messages, reads and writes, completions
 *
 * A lane is one queue pair with one completion queue for both directions.  Whatever
 * is asked of it becomes a job in one FIFO, and leaves as work requests when the send
 * queue has room: so a control message goes behind the writes posted before it, and
 * nothing is ever refused because a queue of the device is full.
 */
#ifndef BRICK_TRANSPORT_VERBS_H
#define BRICK_TRANSPORT_VERBS_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "brick-error.h"
#include "brick.h"
#include "transport.h"

/*
 * A request leaves in pieces of this size: so that the brick's device works on several READs of one
 * request at once (as many as max_qp_rd_atom says), that the end of one overlaps with the begin of the
 * next, and that a 4 KiB request behind it on the lane does not wait for 2 MiB.
 */
#define VERBS_PIECE (256u << 10)
#define VERBS_SGES 16			/* scatter/gather elements of a work request, where the device takes as many */
#define VERBS_INLINE 256		/* bytes that are sent from within the work request, where the device takes as many */
#define VERBS_NOTICES 8			/* receive buffers for notices (brick-protocol(7), VERBS) */
#define VERBS_BATCH 16			/* work requests posted at once; every so many one is signalled */

/* Registered memory of the library's own, in chunks of one size. */
struct verbs_chunk {
	struct verbs_chunk *next;	/* free, or of one request */
	uint8_t *at;
	uint32_t lkey;
};

struct verbs_slab;

struct verbs_pool {
	size_t size;			/* of a chunk, bytes */
	unsigned limit;			/* of chunks */
	unsigned count, used;
	struct verbs_chunk *free;
	struct verbs_slab *slabs;
};

struct verbs_buffer {			/* memory that the application registered */
	uint8_t *at;
	size_t size;
	struct ibv_mr *mr;
	bool writable;
};

struct transport_domain {
	pthread_mutex_t lock;		/* all that follows */
	struct ibv_context *context;	/* NULL before the first connection; then it stays */
	struct ibv_context **held;	/* keeps the context while the domain lives */
	struct ibv_pd *pd;
	char device[64];		/* for messages */
	struct ibv_device_attr attr;
	bool can_flush;			/* the device and this build can RDMA FLUSH */

	struct verbs_buffer *buffers;	/* sorted by address */
	size_t buffer_count, buffer_room;
	size_t buffer_largest;		/* no buffer was ever larger */
	atomic_uint generation;		/* changes with every buffer that comes or goes */
};

/* A stretch of a request's memory, as the device sees it. */
struct verbs_segment {
	uint8_t *at;
	uint32_t length;
	uint32_t lkey;
	uint8_t *user;			/* at is a copy of what is there; NULL: at is the memory itself */
};

struct verbs_job {
	STAILQ_ENTRY(verbs_job) link;	/* waits to be posted, or is free */
	struct transport_io *io;	/* NULL: a control message */
	struct verbs_chunk *message;	/* control: its bytes */
	uint32_t length;		/* all of it, bytes; a flush: ranges */
	uint32_t posted;		/* of these, in work requests already */
	bool prepared, inlined;

	struct verbs_segment few[4], *segments;
	unsigned segment_count, segment_room;
	unsigned at_segment;		/* where posting has got to */
	uint32_t at_offset;
	struct verbs_chunk *bounce;	/* all those of the request */
	unsigned bounce_count;
	struct ibv_mr **mrs;		/* registered for it alone */
	unsigned mr_count;
};

STAILQ_HEAD(verbs_jobs, verbs_job);

/* One work request in the send queue. */
struct verbs_sent {
	struct verbs_job *job;		/* NULL: a control message */
	struct verbs_chunk *message;
	bool last;			/* of the job */
};

struct transport {
	struct transport_domain *domain;
	const char *text;		/* the endpoint, for messages */
	struct transport_events events;
	uint32_t timeout_ms;

	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
	struct ibv_comp_channel *comp_channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	int epoll;			/* of all that can wake a sleeper */
	int wake;			/* eventfd: another thread found an asynchronous event of this connection */
	bool connected;

	LIST_ENTRY(transport) link;	/* all connections of the process, for asynchronous events */
	bool listed;
	atomic_int async;		/* the event, plus one */

	int error;			/* what broke the connection; poll() says it when nothing is left to hand up */
	char error_text[BRICK_ERROR_MAX];
	uint64_t grace_ms;		/* the brick hung up: until then a refusal that made it do so may still complete */

	unsigned depth;
	unsigned sges, read_sges;
	uint32_t inline_max;

	struct verbs_pool messages, bounces;
	unsigned receives;		/* buffers posted or being looked at */
	unsigned receives_max;
	unsigned awaited;		/* control messages in flight */
	uint32_t notices;		/* taken, modulo 2^32 */

	struct verbs_job *jobs;
	struct verbs_jobs free_jobs, fifo;
	unsigned waiting;		/* jobs in the FIFO */
	unsigned busy;			/* reads and writes, and control messages, in flight */

	struct verbs_sent *ring;	/* the send queue, in order */
	unsigned ring_size;
	uint64_t head, tail;		/* posted; known to be over */

	struct ibv_wc stash[VERBS_BATCH];	/* completions that arm() found */
	int stashed;
	bool armed;			/* the completion queue will send an event */
	bool slept;			/* poll() has to look what woke the sleeper */
	unsigned idle_polls;
	unsigned unacked;		/* events of the completion channel */

	struct verbs_buffer hit;	/* where the last request's memory was found */
	unsigned hit_generation;
};

/* transport-verbs-connect.c: monotonic */
uint64_t verbs_now_ms(void);

/* transport-verbs-domain.c */
int verbs_domain_open(const struct endpoint *endpoint, struct transport_domain **domain);
void verbs_domain_close(struct transport_domain *domain);
/* Fixes the session's device, or checks that the connection is on it. */
int verbs_domain_bind(struct transport_domain *domain, const char *text, struct rdma_cm_id *id);
int verbs_buffer_register(struct transport_domain *domain, void *buffer, size_t size);
void verbs_buffer_unregister(struct transport_domain *domain, void *buffer, size_t size);
/* How many bytes from at on, at most length, lie in one registered buffer (0: none), and the key. */
size_t verbs_buffer_find(struct transport *t, uint8_t *at, size_t length, bool writable, uint32_t *lkey);
/* " (locked memory is limited ...)" when that is why, else "". */
const char *verbs_limit_text(int error, char text[static 96]);

/* transport-verbs-memory.c */
void verbs_pool_free(struct verbs_pool *pool);
/* A chunk, or NULL: the limit, or there is no memory (with a text). */
struct verbs_chunk *verbs_pool_take(struct verbs_pool *pool, struct transport *t);
void verbs_pool_give(struct verbs_pool *pool, struct verbs_chunk *chunk);
/* Makes the job's segments: 0; -EAGAIN: when others are over; -ENOMEM. */
int verbs_prepare(struct transport *t, struct verbs_job *job);
/* Gives back what verbs_prepare() took; after a read that succeeded, copies it to where it belongs first. */
void verbs_release(struct transport *t, struct verbs_job *job, bool copy);

/* transport-verbs-connect.c */
int verbs_connect(struct transport_domain *domain, const struct transport_options *options,
		  const struct wire_preamble *preamble, struct wire_preamble_reply *reply, struct transport **transport);
void verbs_close(struct transport *t);
/* Looks at what is not in the completion queue: the connection manager and the device. Notes what broke the connection. */
void verbs_look(struct transport *t);
/* Notes what broke the connection, the first time; returns it. The text is this thread's last. */
int verbs_broken(struct transport *t, int error);

/* transport-verbs.c */
/* Makes the queue's tables; the queue pair is there. */
int verbs_queue_open(struct transport *t);
void verbs_queue_close(struct transport *t);

#endif
