/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport - how libbrick reaches a brick: one table of functions, which each
 * provider (tcp, local, verbs) fills in, and the contract they share.
 *
 * A session has one *domain*, what its connections have in common (local: the
 * brick's memory, mapped; verbs: the device, the protection domain and the
 * registered buffers; tcp: nothing), and a connection for each lane.
 *
 * A connection carries control messages (wire.h, at most WIRE_MSG_MAX bytes) in
 * both directions, and one-sided reads and writes of a mapped block.  Both are
 * posted without waiting, and everything that comes back (control replies,
 * notices, completed reads and writes) surfaces in one place: poll(), which
 * hands it up through struct transport_events.  Nothing moves unless the caller
 * posts or polls; no provider has threads or signals.
 *
 * Order: control messages arrive in the order in which they were sent, and a
 * persist behind the writes that were posted before it on the connection.
 * Completions may come in any order.
 *
 * Failure: a negative errno with the text in brick_error().  Once send(), post() or
 * poll() has failed, the connection is of no use but to be closed; nothing
 * more is handed up, and the provider does not touch a buffer after close().
 *
 * Threads: a connection belongs to one thread at a time; a domain may be used
 * by many at once.
 */
#ifndef BRICK_TRANSPORT_H
#define BRICK_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "endpoint.h"
#include "wire.h"

struct transport_domain;
struct transport;

/* What is to be persisted by RDMA FLUSH. */
struct transport_range {
	uint64_t place;		/* of the first byte */
	uint32_t key;		/* from the map's reply */
	uint32_t length;	/* bytes */
};

/* One read or write, or where WIRE_FEATURE_FLUSH was granted a flush.  It and what it points to belong to the provider from post() until done() or close(). */
struct transport_io {
	uint32_t id;		/* request ID, unique on the connection among what is in flight */
	bool write;
	uint64_t addr;		/* of the block */
	uint64_t place;		/* of the block, from the map's reply */
	uint32_t key;		/* from the map's reply */
	uint32_t offset;	/* bytes, in the block */
	uint32_t length;	/* bytes, all of iov; 1 or more, inside the block */
	const struct iovec *iov;
	int iovcnt;
	const struct transport_range *ranges;	/* not NULL: a flush, of so many ranges; of the rest only id means something */
	uint32_t range_count;
	bool unsent;		/* the provider's own: some of the request has not left yet */
};

struct transport_events {
	/* A control message: a reply or a notice. Its bytes are gone after the call. A negative errno ends the poll with it. */
	int (*message)(void *arg, const uint8_t *msg, size_t len);
	/*
	 * A read or write is over, with 0, the negative errno that the brick answered, or -ENOMEM or -EFAULT: there
	 * was no memory for it here, or its memory is of no use; then brick_error() says more.
	 */
	void (*done)(void *arg, struct transport_io *io, int status);
	/* The read or write in flight with this ID, or NULL: for providers whose replies name nothing but the ID. */
	struct transport_io *(*find)(void *arg, uint32_t id);
	void *arg;
};

struct transport_options {
	const struct endpoint *endpoint;
	const char *text;		/* the endpoint, for messages; stays while the connection lives */
	uint32_t timeout_ms;		/* for connecting, and for a peer that acknowledges nothing */
	unsigned depth;			/* requests in flight at most: how many buffers and credits a queue pair needs */
	struct transport_events events;
};

struct transport_ops {
	const char *name;		/* "tcp", "local", "verbs" */
	bool cheap_poll;		/* poll() asks the system for nothing: it may be called in a row before sleeping */
	bool device_checks;		/* who refuses a read or write is a device, which does not say why */

	int (*domain_open)(const struct endpoint *endpoint, struct transport_domain **domain);
	void (*domain_close)(struct transport_domain *domain);
	/* Makes memory usable in transport_io. Any memory is where these are NULL. */
	int (*buffer_register)(struct transport_domain *domain, void *buffer, size_t size);
	void (*buffer_unregister)(struct transport_domain *domain, void *buffer, size_t size);
	/* Checks what a brick answered to map: -EPROTO if it cannot be the handle of a block on this transport. */
	int (*check_handle)(struct transport_domain *domain, const char *text, uint64_t addr, const struct wire_handle *handle);

	/* What the device can do beyond version 1 (WIRE_FEATURE_), once there is a connection. NULL: nothing. */
	uint64_t (*features)(struct transport_domain *domain);
	/*
	 * Connects, sends the preamble, waits for its reply, and for nothing else.  The reply's status is the caller's to
	 * judge; when it is not 0 there may be no *transport (NULL).
	 */
	int (*connect)(struct transport_domain *domain, const struct transport_options *options,
		       const struct wire_preamble *preamble, struct wire_preamble_reply *reply, struct transport **transport);
	/* The session's hello was answered on this connection: takes over what came with it (local: descriptors). */
	int (*attach)(struct transport_domain *domain, struct transport *transport, const struct wire_hello_reply *hello);
	/* Queues a control message; its bytes may be overwritten when this returns. */
	int (*send)(struct transport *transport, const uint8_t *msg, size_t len);
	/*
	 * 0: done() will follow; 1: it is done already, with success, and done() will not be called.
	 * -EINVAL: the handle is none of this domain, nothing happened and the connection goes on.
	 */
	int (*post)(struct transport *transport, struct transport_io *io);
	/* Moves what can be moved without waiting. Returns how many bytes or completions moved, 0: none. */
	int (*poll)(struct transport *transport);
	/* A descriptor to sleep on, for the poll(2) events that arm() asks for. */
	int (*fd)(const struct transport *transport);
	/* 0: sleep until *events; 1: poll() has work already. */
	int (*arm)(struct transport *transport, short *events);
	void (*close)(struct transport *transport);
};

extern const struct transport_ops transport_tcp;
extern const struct transport_ops transport_local;
extern const struct transport_ops transport_verbs;

#endif
