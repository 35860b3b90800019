/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs-internal - devices, domains and queue pairs, as the parts of verbs share
 * them: verbs_device.c, verbs_domain.c, verbs_queue.c, verbs_conn.c and
 * listener_verbs.c.  Nothing else may include it.
 *
 * Lock order: the registry of devices, device.lock, conn.lock; all below
 * lane.lock.  Under conn.lock nothing waits: posting and polling only.
 */
#ifndef TARGET_VERBS_INTERNAL_H
#define TARGET_VERBS_INTERNAL_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "conn.h"
#include "listener.h"
#include "verbs.h"

#define VERBS_NOTICES	     8	 /* brick-protocol(7): buffers that the initiator keeps for notices */
#define VERBS_RECEIVES_MIN   2	 /* buffers before HELLO, and beyond the depth granted */
#define VERBS_SENDS	     128 /* sends that were not seen to be acknowledged */
#define VERBS_SENDS_SIGNALED 32	 /* one of so many completes with a word */
#define VERBS_SEND_BUFFERS   16	 /* for replies that do not fit into a work request */
#define VERBS_INLINE	     256

/*
 * A device that something of ours is on.  librdmacm closes a device's context with
 * the last ID on it, so an ID of our own keeps it while anything (a domain whose
 * lanes are gone, say) needs it.
 */
struct verbs_device {
	struct verbs_device *next;
	unsigned refs; /* of the registry's lock */
	struct ibv_context *context;
	const char *name;
	struct ibv_device_attr attr;
	uint64_t flags_ex;   /* of ibv_query_device_ex() */
	uint32_t inline_max; /* bytes in a work request, as far as we want them */
	struct rdma_event_channel *channel;
	struct rdma_cm_id *keeper;
	_Atomic uint32_t regions;  /* registered now, for blocks */
	_Atomic uint64_t said_ns;  /* when a peer last caused a message */
	pthread_t watcher;	  /* the one reader of the device's asynchronous events */
	int wake;		  /* eventfd: the watcher ends */
	pthread_mutex_t lock;
	struct verbs_conn *conns; /* with queue pairs on it */
};

struct verbs_domain {
	struct verbs_device *device;
	struct ibv_pd *pd;
	_Atomic bool flush; /* regions are for RDMA FLUSH too */
};

struct verbs_buffers {
	uint8_t *memory;
	size_t size;
	struct ibv_mr *region;
};

struct verbs_conn {
	struct conn conn;
	struct rdma_event_channel *channel; /* of this lane alone */
	struct rdma_cm_id *id;
	char peer[PEER_TEXT_MAX];
	uint8_t preamble[WIRE_PREAMBLE_SIZE];
	bool preamble_whole;
	uint8_t responder_resources; /* READs that the initiator wants to have under way */
	uint64_t deadline_ns;
	const _Atomic bool *stop;
	int wake; /* eventfd: something of the below has changed */
	_Atomic int failed;	 /* why nothing more will come, negative errno */
	_Atomic bool ended;	 /* the peer has disconnected */
	_Atomic bool established;
	_Atomic bool no_more;	 /* SHUT_RD */
	_Atomic bool cut;	 /* SHUT_RDWR */
	struct verbs_conn *next, **prev; /* of the device, when it has a queue pair */
	struct verbs_domain *domain;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	unsigned cq_events; /* not acknowledged */
	uint32_t inline_max; /* bytes in a work request */
	uint32_t spin_ns;
	uint64_t heard_ns;  /* something completed */
	uint8_t message[WIRE_MSG_MAX]; /* the one that header() took */

	pthread_mutex_t lock;
	/* Receiving: buffers by number, the first VERBS_RECEIVES_MIN in `first`, the rest in `more`. */
	struct verbs_buffers first, more;
	uint32_t receives, receives_max; /* buffers there are, and may be */
	struct verbs_arrival {
		uint32_t buffer, length, immediate;
	} *arrived; /* receives_max of them, a ring */
	uint32_t arrived_at, arrived_n;
	/* Sending: numbers count up; a completion of one says that all before it are done. */
	uint64_t sends_posted, sends_done, signaled; /* signaled: behind the last send that completes with a word */
	uint64_t signaled_ns; /* since when a word is waited for; 0: none is */
	uint8_t send_buffer[VERBS_SENDS]; /* by number: 1 + its buffer, 0: none */
	uint8_t free_buffer[VERBS_SEND_BUFFERS];
	uint32_t free_buffers;
	uint32_t notices_sent, notices_taken;
};

/* verbs_device.c */
/* The device that the ID is bound to; -EOPNOTSUPP: iWARP. Says what is wrong. */
int verbs_device_get(struct rdma_cm_id *id, struct verbs_device **device);
void verbs_device_put(struct verbs_device *device);
void verbs_device_attach(struct verbs_device *device, struct verbs_conn *conn);
void verbs_device_detach(struct verbs_device *device, struct verbs_conn *conn);
/* True if a complaint that peers can cause may be logged now: about one a second. */
bool verbs_may_say(struct verbs_device *device);
/* "; raise LimitMEMLOCK ..." if locked memory is limited for this process, else "". */
const char *verbs_memlock_hint(void);
/* RLIMIT_MEMLOCK in bytes; UINT64_MAX when it does not bind. */
uint64_t verbs_memlock(void);

/* verbs_domain.c */
int verbs_domain_new(struct rdma_cm_id *id, struct verbs_domain **domain);

/* verbs_conn.c */
/* For a connect request: takes the ID over, also when it fails. */
int verbs_conn_new(struct conn **conn, struct rdma_cm_id *id, const struct rdma_conn_param *param, const char *peer);
/* Nothing more will come of it, for the reason; wakes its lane. Any thread. */
void verbs_conn_fail(struct verbs_conn *conn, int error);

/* verbs_queue.c: with conn.lock held where not said otherwise. */
int verbs_queue_make(struct verbs_conn *conn, uint32_t depth_max); /* without */
void verbs_queue_delete(struct verbs_conn *conn);		   /* without */
int verbs_queue_grow(struct verbs_conn *conn, uint32_t receives);  /* without */
int verbs_queue_ready(struct verbs_conn *conn); /* to send and receive; without */
void verbs_queue_reap(struct verbs_conn *conn);
/* The oldest message, copied to conn.message, its buffer posted again.  False: there is none. */
bool verbs_queue_take(struct verbs_conn *conn, struct verbs_arrival *arrival);
/* One message in pieces.  -EAGAIN: there is no room now. */
int verbs_queue_send(struct verbs_conn *conn, const struct iovec *iov, int count, bool signal);
/* An RDMA WRITE of no bytes: the peer's device acknowledges it, or it is gone. */
int verbs_queue_probe(struct verbs_conn *conn);

#endif
