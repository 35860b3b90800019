/* SPDX-License-Identifier: BSD-3-Clause */
/* stream - a connection of libbrick over a nonblocking stream socket. */
#include "stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "brick-error.h"

#define IOV_BATCH 64			/* iovecs in one system call */
#define LARGE_READ (32u << 10)		/* from here on a copy costs more than a system call */
#define POLL_BYTES (8u << 20)		/* received in one poll, at most about this much */

/* Something that waits to be sent: bytes of its own, then the caller's. */
struct stream_out {
	struct stream_out *next;
	struct transport_io *io;	/* NULL: a control message */
	const uint8_t *head;
	size_t head_left;
	const struct iovec *iov;
	int iovcnt;
	size_t iov_offset;		/* sent already of iov[0] */
	uint8_t bytes[];
};

uint64_t stream_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Sleeps until the descriptor is ready or the deadline passed: 0 or -ETIMEDOUT. */
static int sleep_on(int fd, short events, uint64_t deadline_ms)
{
	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = events };
		uint64_t now = stream_now_ms();
		int n;

		if (now >= deadline_ms)
			return -ETIMEDOUT;
		n = poll(&pfd, 1, deadline_ms - now > 60000 ? 60000 : (int)(deadline_ms - now));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int stream_connect(int family, const struct sockaddr *address, socklen_t size, uint32_t timeout_ms)
{
	uint64_t deadline = stream_now_ms() + timeout_ms;
	int error = 0;
	socklen_t error_size = sizeof(error);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	if (fd < 0)
		return -errno;
	while (connect(fd, address, size) < 0) {
		if (errno == EAGAIN) {
			/* A Unix socket whose backlog is full has nothing to sleep on. */
			struct timespec pause = { .tv_nsec = 5000000 };

			ret = -ETIMEDOUT;
			if (stream_now_ms() >= deadline)
				goto fail;
			nanosleep(&pause, NULL);
			continue;
		}
		if (errno != EINPROGRESS && errno != EINTR) {
			ret = -errno;
			goto fail;
		}
		ret = sleep_on(fd, POLLOUT, deadline);
		if (ret < 0)
			goto fail;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
			error = errno;
		if (error) {
			ret = -error;
			goto fail;
		}
		break;
	}
	return fd;
fail:
	close(fd);
	return ret;
}

int stream_open(struct stream *stream, int fd, const struct transport_options *options,
		const struct wire_preamble *preamble, struct wire_preamble_reply *reply)
{
	uint64_t deadline = stream_now_ms() + options->timeout_ms;
	uint8_t bytes[WIRE_PREAMBLE_REPLY_SIZE];
	size_t got = 0;
	ssize_t n;
	int ret;

	stream->fd = fd;
	stream->text = options->text;
	stream->events = options->events;
	_Static_assert(WIRE_PREAMBLE_SIZE <= sizeof(bytes), "one buffer for both");
	wire_put_preamble(bytes, preamble);
	n = send(fd, bytes, WIRE_PREAMBLE_SIZE, MSG_NOSIGNAL);
	if (n != WIRE_PREAMBLE_SIZE) {	/* an empty socket buffer takes as little as that */
		ret = n < 0 ? -errno : -EIO;
		goto fail;
	}
	while (got < sizeof(bytes)) {
		ret = sleep_on(fd, POLLIN, deadline);
		if (ret < 0)
			goto fail;
		n = recv(fd, bytes + got, sizeof(bytes) - got, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			ret = n < 0 ? -errno : -ECONNRESET;
			goto fail;
		}
		got += (size_t)n;
	}
	ret = wire_get_preamble_reply(bytes, got, reply);
	if (ret < 0) {
		brick_fail(ret, "%s: who answers there is no brick", stream->text);
		goto close;
	}
	return 0;
fail:
	if (ret == -ECONNRESET || ret == -EPIPE)
		brick_fail(ret, "%s: the connection was closed before the brick answered", stream->text);
	else
		brick_fail(ret, "%s: no answer from the brick: %s", stream->text, brick_errno_text(ret));
close:
	stream_close(stream);
	return ret;
}

void stream_close(struct stream *stream)
{
	while (stream->out_first) {
		struct stream_out *out = stream->out_first;

		stream->out_first = out->next;
		free(out);
	}
	stream->out_last = NULL;
	while (stream->fd_count > 0)
		close(stream->fds[--stream->fd_count]);
	if (stream->fd >= 0) {
		/* A child that was forked without exec may hold the descriptor too. */
		shutdown(stream->fd, SHUT_RDWR);
		close(stream->fd);
	}
	stream->fd = -1;
}

/* However the network broke it: for the caller it is one of two. */
static int lost(const struct stream *stream, int error, const char *doing)
{
	return brick_fail(error == -ETIMEDOUT ? error : -ECONNRESET, "%s: the connection broke while %s: %s", stream->text, doing, brick_errno_text(error));
}

/* The parts of out that are left, into vec; returns how many. */
static int gather(const struct stream_out *out, struct iovec *vec, int room)
{
	int n = 0;

	if (out->head_left && n < room)
		vec[n++] = (struct iovec){ (void *)(uintptr_t)out->head, out->head_left };
	for (int i = 0; i < out->iovcnt && n < room; i++) {
		size_t skip = i == 0 ? out->iov_offset : 0;

		if (out->iov[i].iov_len > skip)
			vec[n++] = (struct iovec){ (char *)out->iov[i].iov_base + skip, out->iov[i].iov_len - skip };
	}
	return n;
}

/* Takes up to *sent bytes off out; true if nothing is left of it. */
static bool advance(struct stream_out *out, size_t *sent)
{
	size_t n = *sent < out->head_left ? *sent : out->head_left;

	out->head += n;
	out->head_left -= n;
	*sent -= n;
	if (out->head_left)
		return false;
	while (out->iovcnt > 0) {
		size_t left = out->iov->iov_len - out->iov_offset;

		if (*sent < left) {
			out->iov_offset += *sent;
			*sent = 0;
			return false;
		}
		*sent -= left;
		out->iov++;
		out->iovcnt--;
		out->iov_offset = 0;
	}
	return true;
}

/*
 * Sends vec: bytes that the socket took, 0 when it is full.  A failure is kept for
 * poll(): what the brick said before it closed the connection comes first.
 */
static size_t transmit(struct stream *stream, struct iovec *vec, int n)
{
	struct msghdr msg = { .msg_iov = vec, .msg_iovlen = (size_t)n };

	for (;;) {
		ssize_t sent = sendmsg(stream->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0)
			return (size_t)sent;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			stream->send_error = -errno;
		return 0;
	}
}

static size_t vec_size(const struct iovec *vec, int n)
{
	size_t size = 0;

	for (int i = 0; i < n; i++)
		size += vec[i].iov_len;
	return size;
}

/* Sends what waits, as far as the socket takes it: bytes. */
static uint64_t flush(struct stream *stream)
{
	uint64_t total = 0;

	while (stream->out_first && !stream->send_error) {
		struct iovec vec[IOV_BATCH];
		int n = 0;
		size_t sent, left;
		bool full;

		for (struct stream_out *out = stream->out_first; out && n < IOV_BATCH; out = out->next)
			n += gather(out, vec + n, IOV_BATCH - n);
		sent = transmit(stream, vec, n);
		total += sent;
		full = sent < vec_size(vec, n);
		left = sent;
		while (stream->out_first && advance(stream->out_first, &left)) {
			struct stream_out *out = stream->out_first;

			if (out->io)
				out->io->unsent = false;
			stream->out_first = out->next;
			if (!out->next)
				stream->out_last = NULL;
			free(out);
		}
		if (full)
			break;
	}
	return total;
}

/* Sends out, which lies on the caller's stack; what the socket does not take is kept. */
static int push(struct stream *stream, struct stream_out *out)
{
	struct stream_out *kept;
	bool waiting = stream->out_first != NULL;

	if (!waiting && !stream->send_error) {
		struct iovec vec[IOV_BATCH];
		int n = gather(out, vec, IOV_BATCH);
		size_t asked = vec_size(vec, n);
		size_t sent = transmit(stream, vec, n);
		size_t left = sent;

		if (advance(out, &left))
			return 0;
		waiting = sent < asked;
	}
	kept = malloc(sizeof(*kept) + out->head_left);
	if (!kept)
		return brick_fail(-ENOMEM, "%s: no memory to queue a request", stream->text);
	*kept = *out;
	kept->next = NULL;
	if (out->head_left)
		memcpy(kept->bytes, out->head, out->head_left);
	kept->head = kept->bytes;
	if (out->io)
		out->io->unsent = true;
	if (stream->out_last)
		stream->out_last->next = kept;
	else
		stream->out_first = kept;
	stream->out_last = kept;
	if (!waiting)
		flush(stream);
	return 0;
}

int stream_send(struct stream *stream, const uint8_t *msg, size_t len)
{
	struct stream_out out = { .head = msg, .head_left = len };

	return push(stream, &out);
}

int stream_post(struct stream *stream, struct transport_io *io)
{
	const struct wire_rw rw = { .addr = io->place + io->offset, .key = io->key, .length = io->length };
	uint8_t fixed[WIRE_RW_FIXED];
	struct stream_out out = { .io = io, .head = fixed, .head_left = sizeof(fixed) };
	int ret;

	io->unsent = false;
	if (io->write) {
		wire_put_rw(fixed, WIRE_WRITE, io->id, &rw, io->length);
		out.iov = io->iov;
		out.iovcnt = io->iovcnt;
	} else {
		wire_put_rw(fixed, WIRE_READ, io->id, &rw, 0);
	}
	ret = push(stream, &out);
	if (ret == 0 && !io->write && io->length >= LARGE_READ)
		stream->large_reads++;
	return ret;
}

static void read_done(struct stream *stream, struct transport_io *io, int status)
{
	if (io->length >= LARGE_READ)
		stream->large_reads--;
	stream->events.done(stream->events.arg, io, status);
}

/* Payload that has arrived, n bytes, at from, or in place already when from is NULL. */
static void payload_came(struct stream *stream, const uint8_t *from, size_t n)
{
	struct transport_io *io = stream->reading;

	stream->reading_left -= n;
	while (n > 0) {
		const struct iovec *iov = &io->iov[stream->reading_iov];
		size_t left = iov->iov_len - stream->reading_offset;
		size_t part = n < left ? n : left;

		if (from && part) {
			memcpy((char *)iov->iov_base + stream->reading_offset, from, part);
			from += part;
		}
		n -= part;
		stream->reading_offset += part;
		if (stream->reading_offset == iov->iov_len) {
			stream->reading_iov++;
			stream->reading_offset = 0;
		}
	}
	if (stream->reading_left == 0) {
		stream->reading = NULL;
		read_done(stream, io, 0);
	}
}

/* The header of a reply to READ or WRITE. */
static int data_reply(struct stream *stream, const struct wire_header *header)
{
	bool write = header->type == (WIRE_WRITE | WIRE_REPLY);
	struct transport_io *io;
	size_t length = WIRE_HEADER_SIZE;

	if (!stream->data)
		return brick_fail(-EPROTO, "%s: the brick sent data that this transport does not carry", stream->text);
	io = stream->events.find(stream->events.arg, header->id);
	if (!io || io->write != write || io->unsent)
		return brick_fail(-EPROTO, "%s: the brick answered a %s that was not asked for (request %u)", stream->text,
				  write ? "write" : "read", header->id);
	if (!write && header->status == 0)
		length += io->length;
	if (header->length != length || header->flags)
		return brick_fail(-EPROTO, "%s: the brick answered a %s of %u bytes with a message of %u bytes, not %zu",
				  stream->text, write ? "write" : "read", io->length, header->length, length);
	if (write) {
		stream->events.done(stream->events.arg, io, wire_errno(header->status));
	} else if (header->status) {
		read_done(stream, io, wire_errno(header->status));
	} else {
		stream->reading = io;
		stream->reading_iov = 0;
		stream->reading_offset = 0;
		stream->reading_left = io->length;
	}
	return 0;
}

/* Takes whole messages out of the input buffer. */
static int parse(struct stream *stream)
{
	for (;;) {
		size_t have = stream->in_len - stream->in_pos;
		const uint8_t *at = stream->in + stream->in_pos;
		struct wire_header header;
		uint16_t kind;
		int ret;

		if (stream->reading) {
			size_t n = have < stream->reading_left ? have : stream->reading_left;

			if (n == 0)
				break;
			stream->in_pos += n;
			payload_came(stream, at, n);
			continue;
		}
		if (have < WIRE_HEADER_SIZE)
			break;
		ret = wire_get_header(at, WIRE_HEADER_SIZE, &header);
		if (ret < 0)
			return brick_fail(ret, "%s: the brick sent something that is no message", stream->text);
		kind = header.type & (uint16_t)~WIRE_REPLY;
		if ((header.type & WIRE_REPLY) && (kind == WIRE_READ || kind == WIRE_WRITE)) {
			stream->in_pos += WIRE_HEADER_SIZE;
			ret = data_reply(stream, &header);
		} else if (header.length > WIRE_MSG_MAX) {
			ret = brick_fail(-EPROTO, "%s: the brick sent a control message of %u bytes", stream->text,
					 header.length);
		} else if (have < header.length) {
			break;
		} else {
			stream->in_pos += header.length;
			ret = stream->events.message(stream->events.arg, at, header.length);
		}
		if (ret < 0)
			return ret;
	}
	if (stream->in_pos == stream->in_len) {
		stream->in_pos = stream->in_len = 0;
	} else if (stream->in_pos > 0) {
		memmove(stream->in, stream->in + stream->in_pos, stream->in_len - stream->in_pos);
		stream->in_len -= stream->in_pos;
		stream->in_pos = 0;
	}
	return 0;
}

/* Keeps the descriptors that came with a message. */
static int take_fds(struct stream *stream, struct msghdr *msg)
{
	bool excess = (msg->msg_flags & MSG_CTRUNC) != 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (stream->fd_count < WIRE_FDS_MAX) {
				stream->fds[stream->fd_count++] = fd;
			} else {
				close(fd);
				excess = true;
			}
		}
	}
	return excess ? brick_fail(-EPROTO, "%s: the brick passed more descriptors than it may", stream->text) : 0;
}

/* One receive: bytes, 0 when nothing was there. *drained: the socket is empty now. */
static int64_t receive(struct stream *stream, bool *drained)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
	} control;
	struct iovec vec[IOV_BATCH];
	struct msghdr msg = { .msg_iov = vec };
	size_t asked, room = STREAM_IN_SIZE - stream->in_len;
	int flags = MSG_DONTWAIT;
	ssize_t got;
	size_t n;
	int ret, count = 0;

	/* Payload goes where it belongs; with more of it to come, only the next header is taken along. */
	if (stream->reading) {
		struct stream_out left = { .iov = stream->reading->iov + stream->reading_iov,
					   .iovcnt = stream->reading->iovcnt - stream->reading_iov,
					   .iov_offset = stream->reading_offset };

		count = gather(&left, vec, IOV_BATCH - 1);
		if (stream->large_reads > 1)
			room = WIRE_HEADER_SIZE;
	} else if (stream->large_reads > 0 && stream->in_len < WIRE_HEADER_SIZE) {
		room = WIRE_HEADER_SIZE - stream->in_len;
	}
	asked = vec_size(vec, count);
	/* The next message comes behind the payload's end, not behind as many pieces as fitted here. */
	if (!stream->reading || asked == stream->reading_left) {
		vec[count++] = (struct iovec){ stream->in + stream->in_len, room };
		asked += room;
	}
	msg.msg_iovlen = (size_t)count;
	if (stream->wants_fds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		flags |= MSG_CMSG_CLOEXEC;
	}
	do {
		got = recvmsg(stream->fd, &msg, flags);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		*drained = true;
		return 0;
	}
	if (got < 0)
		return lost(stream, -errno, "receiving");
	if (got == 0)
		return brick_fail(-ECONNRESET, "%s: the brick closed the connection", stream->text);
	*drained = (size_t)got < asked;
	if (stream->wants_fds) {
		ret = take_fds(stream, &msg);
		if (ret < 0)
			return ret;
	}
	n = (size_t)got;
	if (stream->reading) {
		size_t direct = n < stream->reading_left ? n : stream->reading_left;

		n -= direct;
		payload_came(stream, NULL, direct);
	}
	stream->in_len += n;
	ret = parse(stream);
	return ret < 0 ? ret : got;
}

int stream_poll(struct stream *stream)
{
	int64_t moved = 0, n;
	bool drained = false;

	if (stream->out_first)
		moved = (int64_t)flush(stream);
	while (!drained && moved < POLL_BYTES) {
		n = receive(stream, &drained);
		if (n < 0)
			return (int)n;
		moved += n;
	}
	if (stream->send_error && drained)
		return lost(stream, stream->send_error, "sending");
	return moved > INT32_MAX ? INT32_MAX : (int)moved;
}

int stream_arm(struct stream *stream, short *events)
{
	*events = stream->out_first ? POLLIN | POLLOUT : POLLIN;
	return stream->send_error ? 1 : 0;
}
