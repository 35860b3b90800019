/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream - bytes to and from a connected stream socket (tcp, local), buffered on
 * the way in, with bounds on how long the peer may stall.
 *
 * Between messages a peer may be silent as long as it likes; within one it must
 * make progress every STREAM_STALL_MS, or the call fails with -ETIMEDOUT.  A
 * deadline, when set, bounds everything (used until the peer has said hello).
 * Once *stop is set, nothing more is received, and sending gives up as soon as the
 * peer does not take it at once (within a second).
 *
 * Reading belongs to one thread, sending to one at a time (the lane sees to it);
 * stream_shutdown() may be called by any.
 */
#ifndef TARGET_STREAM_H
#define TARGET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define STREAM_BUFFER	16384
#define STREAM_STALL_MS 30000

struct stream {
	int fd;
	const _Atomic bool *stop;
	uint64_t deadline_ns; /* 0: none; monotonic */
	uint64_t send_deadline_ns; /* the same, for sending: while no other thread does */
	size_t start, end;    /* what is in the buffer and not consumed */
	uint8_t buffer[STREAM_BUFFER];
};

/* Takes the socket over: blocking, with time limits in the kernel. */
int stream_init(struct stream *stream, int fd, const _Atomic bool *stop);
void stream_close(struct stream *stream);

/*
 * Makes at least n bytes (at most STREAM_BUFFER) available at *at.  0; 1 when the
 * peer closed and nothing was left; -ECONNRESET (closed in mid message too),
 * -ETIMEDOUT.
 */
int stream_want(struct stream *stream, size_t n, uint8_t **at);
void stream_consume(struct stream *stream, size_t n);
static inline size_t stream_buffered(const struct stream *stream)
{
	return stream->end - stream->start;
}

/*
 * Receives straight into memory of a block.  *got counts what arrived, also on
 * failure; -EFAULT: the memory failed, the bytes are still in the socket.
 */
int stream_recv(struct stream *stream, void *to, size_t n, size_t *got);
/* Throws n bytes away. */
int stream_discard(struct stream *stream, size_t n);

/* Sends all of it.  fd >= 0 is passed along with the first byte (Unix sockets).
 * -EFAULT: the memory failed; *sent says how much went out. */
int stream_send(struct stream *stream, struct iovec *iov, int count, int fd, size_t *sent);
/* Sends if the socket takes it at once.  -EAGAIN: nothing was sent; -ECONNRESET: a part, or nothing will be any more. */
int stream_send_now(struct stream *stream, const void *bytes, size_t n);

void stream_shutdown(struct stream *stream, int how); /* SHUT_RD, SHUT_WR, SHUT_RDWR */
/* Ends the sending side and gives the peer up to ms to take what was sent before a close can reset it. */
void stream_linger(struct stream *stream, unsigned ms);
/* True when the peer has closed its end. */
bool stream_hung_up(const struct stream *stream);

#endif
