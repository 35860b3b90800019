/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn - what carries a lane: the seam between lane.c and a stream socket (tcp,
 * local) or a queue pair (verbs).
 *
 * A connection hands over the preamble, takes its reply (accept or refuse), and
 * then moves whole control messages.  One thread receives; one at a time sends
 * (the lane sees to it); shutdown, hung_up and notice_room may be called by any,
 * with any lock but lane.lock held (notice_room and send_now: with lane.lock), and
 * do not wait.
 *
 * Once *stop is set nothing more is received, and sending gives up as soon as the
 * peer does not take it at once.  A deadline bounds everything until the peer has
 * said hello.
 *
 * READ and WRITE frames exist on streams only: data.c reaches through to the
 * stream for them.
 */
#ifndef TARGET_CONN_H
#define TARGET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "wire.h"

struct conn;
struct peer;
struct stream;
struct verbs_domain;

struct conn_ops {
	/* From here on *stop counts. */
	void (*start)(struct conn *conn, const _Atomic bool *stop);
	/* The preamble, WIRE_PREAMBLE_SIZE bytes.  0; 1 when the peer closed before a word; -ECONNRESET, -ETIMEDOUT, -EPROTO. */
	int (*preamble)(struct conn *conn, uint8_t *preamble);
	/* Sends the reply and lets the messages begin.  depth_max: the most requests in flight that may ever be granted. */
	int (*accept)(struct conn *conn, const uint8_t *reply, uint32_t depth_max);
	/* Sends a reply that refuses, without waiting; what follows is close. */
	void (*refuse)(struct conn *conn, const uint8_t *reply);
	/*
	 * Verbs: the protection domain that the lane's session has: a new one on the device of this connection, or
	 * that of the session (-EXDEV: on another device).  NULL: there is no such thing.
	 */
	int (*domain_new)(struct conn *conn, struct verbs_domain **domain);
	int (*domain_join)(struct conn *conn, struct verbs_domain *domain);
	/* So many requests may be in flight from now on.  Before HELLO is answered, and on a lane that joins. */
	int (*depth)(struct conn *conn, uint32_t depth);
	/* Until when the peer must have said hello; 0: it has. Monotonic. */
	void (*deadline)(struct conn *conn, uint64_t ns);
	/* The next message's header, checked.  0; 1 when the peer closed and nothing was left; negative errno. */
	int (*header)(struct conn *conn, struct wire_header *header);
	/* That message whole, valid until the next header. */
	int (*body)(struct conn *conn, const struct wire_header *header, uint8_t **message);
	/* Passes over the READ or WRITE whose header this is. */
	int (*skip)(struct conn *conn, const struct wire_header *header);
	/* Sends one message.  fd >= 0 is passed with it (Unix sockets).  -EFAULT: the memory failed, *sent says how much went out. */
	int (*send)(struct conn *conn, struct iovec *iov, int count, int fd, size_t *sent);
	/* True if a notice may be sent now, which is then counted; false: it is lost. */
	bool (*notice_room)(struct conn *conn);
	/* Sends if that takes no waiting.  -EAGAIN: it is lost; another error: the connection is broken. */
	int (*send_now)(struct conn *conn, const void *message, size_t n);
	void (*shutdown)(struct conn *conn, int how); /* SHUT_RD, SHUT_WR, SHUT_RDWR */
	/* Gives the peer up to ms to take what was sent before a close can take it back. */
	void (*linger)(struct conn *conn, unsigned ms);
	/* Sends nothing more and waits until the peer has closed; local only. */
	void (*await_close)(struct conn *conn);
	bool (*hung_up)(const struct conn *conn);
	/* Nothing that the peer sent reaches a block when it returns. In the lane's thread, before its session may end. */
	void (*sever)(struct conn *conn);
	void (*close)(struct conn *conn); /* and frees it */
};

struct conn {
	const struct conn_ops *ops;
};

/* conn_stream.c: over a connected stream socket, which it takes over (also when it fails). */
int conn_stream_new(struct conn **conn, int fd);
struct stream *conn_stream(struct conn *conn);

#endif
