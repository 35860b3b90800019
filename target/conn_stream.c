/* SPDX-License-Identifier: BSD-3-Clause */
/* conn_stream - a lane over a stream socket (tcp, local). */
#include "conn.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

struct conn_stream {
	struct conn conn;
	struct stream stream;
};

static const _Atomic bool never;

struct stream *conn_stream(struct conn *conn)
{
	return &((struct conn_stream *)conn)->stream;
}

static void stream_start(struct conn *conn, const _Atomic bool *stop)
{
	conn_stream(conn)->stop = stop;
}

static int stream_preamble(struct conn *conn, uint8_t *preamble)
{
	uint8_t *at;
	int ret = stream_want(conn_stream(conn), WIRE_PREAMBLE_SIZE, &at);

	if (ret)
		return ret;
	memcpy(preamble, at, WIRE_PREAMBLE_SIZE);
	stream_consume(conn_stream(conn), WIRE_PREAMBLE_SIZE);
	return 0;
}

static int stream_accept(struct conn *conn, const uint8_t *reply, uint32_t depth_max, uint32_t depth)
{
	struct iovec iov = {.iov_base = (void *)reply, .iov_len = WIRE_PREAMBLE_REPLY_SIZE};
	size_t sent;

	return stream_send(conn_stream(conn), &iov, 1, -1, &sent);
}

static void stream_refuse(struct conn *conn, const uint8_t *reply)
{
	/* a courtesy; a socket on which nothing was sent takes 40 bytes at once */
	(void)stream_send_now(conn_stream(conn), reply, WIRE_PREAMBLE_REPLY_SIZE);
}

static int stream_depth(struct conn *conn, uint32_t depth)
{
	return 0; /* the socket's buffers bound what is on its way */
}

static void stream_deadline(struct conn *conn, uint64_t ns)
{
	conn_stream(conn)->deadline_ns = conn_stream(conn)->send_deadline_ns = ns;
}

static int stream_header(struct conn *conn, struct wire_header *header)
{
	uint8_t *at;
	int ret = stream_want(conn_stream(conn), WIRE_HEADER_SIZE, &at);

	return ret ? ret : wire_get_header(at, WIRE_HEADER_SIZE, header);
}

static int stream_body(struct conn *conn, const struct wire_header *header, uint8_t **message)
{
	int ret = stream_want(conn_stream(conn), header->length, message);

	if (!ret)
		stream_consume(conn_stream(conn), header->length);
	return ret;
}

static int stream_skip(struct conn *conn, const struct wire_header *header)
{
	return stream_discard(conn_stream(conn), header->length);
}

static int send_all(struct conn *conn, struct iovec *iov, int count, int fd, size_t *sent)
{
	return stream_send(conn_stream(conn), iov, count, fd, sent);
}

static bool stream_notice_room(struct conn *conn)
{
	return true;
}

static int send_at_once(struct conn *conn, const void *message, size_t n)
{
	/* a socket that is full loses the notice, and if it took a part of it, the lane */
	return stream_send_now(conn_stream(conn), message, n);
}

static void shut(struct conn *conn, int how)
{
	stream_shutdown(conn_stream(conn), how);
}

static void linger(struct conn *conn, unsigned ms)
{
	stream_linger(conn_stream(conn), ms);
}

static void stream_await_close(struct conn *conn)
{
	struct stream *stream = conn_stream(conn);
	uint8_t *at;

	stream_shutdown(stream, SHUT_WR);
	while (!stream_want(stream, 1, &at))
		stream_consume(stream, stream_buffered(stream));
}

static bool hung_up(const struct conn *conn)
{
	return stream_hung_up(&((const struct conn_stream *)conn)->stream);
}

static void stream_sever(struct conn *conn)
{
	/* what comes in goes through the lane's thread, which is at its end */
}

static void close_and_free(struct conn *conn)
{
	stream_close(conn_stream(conn));
	free(conn);
}

static const struct conn_ops stream_ops = {
	.start = stream_start,
	.preamble = stream_preamble,
	.accept = stream_accept,
	.refuse = stream_refuse,
	.depth = stream_depth,
	.deadline = stream_deadline,
	.header = stream_header,
	.body = stream_body,
	.skip = stream_skip,
	.send = send_all,
	.notice_room = stream_notice_room,
	.send_now = send_at_once,
	.shutdown = shut,
	.linger = linger,
	.await_close = stream_await_close,
	.hung_up = hung_up,
	.sever = stream_sever,
	.close = close_and_free,
};

int conn_stream_new(struct conn **out, int fd)
{
	struct conn_stream *conn = malloc(sizeof(*conn));
	int ret;

	if (!conn) {
		close(fd);
		return -ENOMEM;
	}
	conn->conn.ops = &stream_ops;
	ret = stream_init(&conn->stream, fd, &never);
	if (ret) {
		close_and_free(&conn->conn);
		return ret;
	}
	*out = &conn->conn;
	return 0;
}
