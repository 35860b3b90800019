/* SPDX-License-Identifier: BSD-3-Clause */
/* stream - bytes to and from a connected stream socket, with bounds on stalling. */
#include "stream.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stats.h"

/* A blocked call returns this often, so that its bound can be looked at. */
#define SLICE_MS 1000

int stream_init(struct stream *stream, int fd, const _Atomic bool *stop)
{
	struct timeval slice = {.tv_sec = SLICE_MS / 1000, .tv_usec = SLICE_MS % 1000 * 1000};

	stream->fd = fd;
	stream->stop = stop;
	stream->deadline_ns = stream->send_deadline_ns = 0;
	stream->start = stream->end = 0;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof(slice)))
		return -errno;
	return 0;
}

void stream_close(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}

/* Waits for input until the deadline. */
static int await_deadline(const struct stream *stream)
{
	for (;;) {
		struct pollfd p = {.fd = stream->fd, .events = POLLIN};
		uint64_t now = now_ns();
		int n;

		if (now >= stream->deadline_ns)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)((stream->deadline_ns - now) / 1000000 + 1));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* One recv: > 0 bytes, 0 end, or negative errno.  idle: silence is allowed. */
static ssize_t receive(struct stream *stream, void *to, size_t n, bool idle)
{
	uint64_t since = 0;

	for (;;) {
		ssize_t got;

		if (atomic_load(stream->stop))
			return -ECONNRESET;
		if (stream->deadline_ns) {
			int ret = await_deadline(stream);

			if (ret)
				return ret;
		}
		got = recv(stream->fd, to, n, 0);
		if (got >= 0)
			return got;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return errno == EFAULT ? -EFAULT : -ECONNRESET;
		if (idle)
			continue;
		if (!since)
			since = now_ns();
		else if (now_ns() - since > (STREAM_STALL_MS - SLICE_MS) * 1000000ull)
			return -ETIMEDOUT;
	}
}

int stream_want(struct stream *stream, size_t n, uint8_t **at)
{
	if (stream->start == stream->end)
		stream->start = stream->end = 0;
	if (stream->start + n > sizeof(stream->buffer)) {
		memmove(stream->buffer, stream->buffer + stream->start, stream_buffered(stream));
		stream->end -= stream->start;
		stream->start = 0;
	}
	while (stream_buffered(stream) < n) {
		bool idle = stream_buffered(stream) == 0;
		ssize_t got = receive(stream, stream->buffer + stream->end, sizeof(stream->buffer) - stream->end, idle);

		if (got < 0)
			return (int)got;
		if (!got)
			return idle ? 1 : -ECONNRESET;
		stream->end += (size_t)got;
	}
	*at = stream->buffer + stream->start;
	return 0;
}

void stream_consume(struct stream *stream, size_t n)
{
	stream->start += n;
}

int stream_recv(struct stream *stream, void *to, size_t n, size_t *got)
{
	*got = 0;
	while (*got < n) {
		ssize_t r = receive(stream, (char *)to + *got, n - *got, false);

		if (r < 0)
			return (int)r;
		if (!r)
			return -ECONNRESET;
		*got += (size_t)r;
	}
	return 0;
}

int stream_discard(struct stream *stream, size_t n)
{
	size_t have = stream_buffered(stream);

	if (have > n)
		have = n;
	stream_consume(stream, have);
	n -= have;
	while (n) {
		uint8_t waste[4096];
		size_t got;
		int ret = stream_recv(stream, waste, n < sizeof(waste) ? n : sizeof(waste), &got);

		if (ret)
			return ret;
		n -= got;
	}
	return 0;
}

/* Takes sent bytes off the front of a vector. */
static void advance(struct iovec **iov, int *count, size_t n)
{
	while (*count && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

int stream_send(struct stream *stream, struct iovec *iov, int count, int fd, size_t *sent)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	uint64_t begin = 0;

	*sent = 0;
	advance(&iov, &count, 0);
	while (count) {
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
		ssize_t n;

		if (fd >= 0) {
			struct cmsghdr *c;

			memset(&control, 0, sizeof(control));
			msg.msg_control = &control;
			msg.msg_controllen = sizeof(control.bytes);
			c = CMSG_FIRSTHDR(&msg);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		}
		errno = 0;
		n = sendmsg(stream->fd, &msg, MSG_NOSIGNAL);
		if (n >= 0) {
			fd = -1;
			*sent += (size_t)n;
			advance(&iov, &count, (size_t)n);
			if (!count)
				break;
		} else if (errno == EFAULT) {
			return -EFAULT;
		} else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
			return -ECONNRESET;
		}
		if (atomic_load(stream->stop) && errno != EINTR)
			return -ECONNRESET;
		/* the whole message has this long, also when the peer takes a byte now and then */
		if (!begin)
			begin = now_ns();
		else if (now_ns() - begin > STREAM_STALL_MS * 1000000ull)
			return -ETIMEDOUT;
		if (stream->send_deadline_ns && now_ns() >= stream->send_deadline_ns)
			return -ETIMEDOUT;
	}
	return 0;
}

int stream_send_now(struct stream *stream, const void *bytes, size_t n)
{
	ssize_t sent = send(stream->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent == (ssize_t)n)
		return 0;
	return sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? -EAGAIN : -ECONNRESET;
}

void stream_shutdown(struct stream *stream, int how)
{
	/* fails only when the peer is gone already, which is what is wanted */
	(void)shutdown(stream->fd, how);
}

void stream_linger(struct stream *stream, unsigned ms)
{
	uint8_t waste[4096];
	size_t budget = 8u << 20;

	stream_shutdown(stream, SHUT_WR);
	stream->deadline_ns = now_ns() + ms * 1000000ull;
	while (budget) {
		ssize_t n = receive(stream, waste, sizeof(waste), false);

		if (n <= 0)
			return;
		budget -= (size_t)n < budget ? (size_t)n : budget;
	}
}

bool stream_hung_up(const struct stream *stream)
{
	struct pollfd p = {.fd = stream->fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}
