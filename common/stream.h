/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream - a connection of libbrick over a nonblocking stream socket: what the
 * tcp and the local transport share.
 *
 * Requests leave at once as far as the socket takes them, straight from the
 * caller's memory; what is left waits in order, and stream_poll() goes on with
 * it while it also receives, so that two full directions never wait for each
 * other.  Replies are parsed as they come in; the payload of a READ goes from the
 * socket to the caller's buffers, but for the few bytes that arrived together with its header.
 *
 * Everything that comes in is checked before it is believed: a reply must name a
 * read or write in flight, in its direction, completely sent, and be as long as
 * that one makes it.  Anything else is -EPROTO.
 */
#ifndef BRICK_STREAM_H
#define BRICK_STREAM_H

#include <sys/socket.h>

#include "transport.h"

#define STREAM_IN_SIZE (64u << 10)

struct stream_out;

struct stream {
	int fd;
	const char *text;		/* the endpoint, for messages */
	struct transport_events events;
	bool data;			/* READ and WRITE frames are spoken here */
	bool wants_fds;			/* descriptors may come with messages */
	int fds[WIRE_FDS_MAX];
	unsigned fd_count;

	struct stream_out *out_first, *out_last;
	int send_error;			/* sending failed: poll() says so when it has taken in what is still there */

	struct transport_io *reading;	/* the READ whose payload is coming in */
	int reading_iov;		/* where it has got to */
	size_t reading_offset;
	size_t reading_left;
	unsigned large_reads;		/* in flight, worth to be received without a copy */
	size_t in_pos, in_len;
	uint8_t in[STREAM_IN_SIZE];
};

uint64_t stream_now_ms(void);

/* Connects a new socket: an fd, or a negative errno without a text (the caller knows the name). */
int stream_connect(int family, const struct sockaddr *address, socklen_t size, uint32_t timeout_ms);
/* Takes fd over (also when it fails), exchanges preambles within timeout_ms. */
int stream_open(struct stream *stream, int fd, const struct transport_options *options,
		const struct wire_preamble *preamble, struct wire_preamble_reply *reply);
void stream_close(struct stream *stream);

int stream_send(struct stream *stream, const uint8_t *msg, size_t len);
int stream_post(struct stream *stream, struct transport_io *io);
int stream_poll(struct stream *stream);
int stream_arm(struct stream *stream, short *events);

#endif
