/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: what lane.c may rely on of a connection (conn.h), with the stream behind it: messages come whole, what is
 * passed over leaves the next one in step, nothing waits that must not, and the end is told from a break.
 */
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check_run.h"
#include "conn.h"
#include "stats.h"

static struct conn *conn;
static int peer;
static _Atomic bool stop;

static void start(void)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	peer = pair[0];
	ck_assert_int_eq(conn_stream_new(&conn, pair[1]), 0);
	stop = false;
	conn->ops->start(conn, &stop);
}

static void end(void)
{
	conn->ops->sever(conn);
	conn->ops->close(conn);
	close(peer);
}

static void put(const void *bytes, size_t n)
{
	ck_assert_int_eq(send(peer, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void put_plain(uint16_t type, uint32_t id)
{
	uint8_t message[WIRE_HEADER_SIZE];

	put(message, wire_put_plain(message, type, id, 0));
}

START_TEST(handshake)
{
	struct wire_preamble p = {.version_min = 1, .version_max = 1}, got;
	struct wire_preamble_reply reply = {.version = 1};
	uint8_t bytes[64], back[WIRE_PREAMBLE_REPLY_SIZE];

	wire_put_preamble(bytes, &p);
	put(bytes, WIRE_PREAMBLE_SIZE);
	ck_assert_int_eq(conn->ops->preamble(conn, bytes), 0);
	ck_assert_int_eq(wire_get_preamble(bytes, WIRE_PREAMBLE_SIZE, &got), 0);
	wire_put_preamble_reply(bytes, &reply);
	ck_assert_int_eq(conn->ops->accept(conn, bytes, 8, 0), 0);
	ck_assert_int_eq(recv(peer, back, sizeof(back), MSG_WAITALL), sizeof(back));
	ck_assert_mem_eq(back, bytes, sizeof(back));
	conn->ops->refuse(conn, bytes);
	ck_assert_int_eq(recv(peer, back, sizeof(back), MSG_WAITALL), sizeof(back));
	/* closed before a word */
	shutdown(peer, SHUT_WR);
	ck_assert_int_eq(conn->ops->preamble(conn, bytes), 1);
}
END_TEST

START_TEST(messages)
{
	struct wire_rw rw = {.addr = 0, .key = 1, .length = 300};
	uint64_t addrs[3] = {1u << 21, 2u << 21, 3u << 21};
	uint8_t message[WIRE_MSG_MAX], *at;
	struct wire_header header;
	size_t n;

	/* two in one piece, the second with a body; then a frame that is passed over, and one more message */
	n = wire_put_plain(message, WIRE_KEEPALIVE, 1, 0);
	n += wire_put_addrs(message + n, WIRE_ALLOC, 2, addrs, 3);
	put(message, n);
	ck_assert_int_eq(conn->ops->header(conn, &header), 0);
	ck_assert_uint_eq(header.id, 1);
	ck_assert_int_eq(conn->ops->body(conn, &header, &at), 0);
	ck_assert_int_eq(conn->ops->header(conn, &header), 0);
	ck_assert_uint_eq(header.id, 2);
	ck_assert_int_eq(conn->ops->body(conn, &header, &at), 0);
	n = 3;
	ck_assert_int_eq(wire_get_addrs(at, header.length, addrs, &n), 0);
	ck_assert_uint_eq(n, 3);
	wire_put_rw(message, WIRE_WRITE, 3, &rw, 300);
	memset(message + WIRE_RW_FIXED, 0xff, 300);
	put(message, WIRE_RW_FIXED + 300);
	put_plain(WIRE_STAT, 4);
	ck_assert_int_eq(conn->ops->header(conn, &header), 0);
	ck_assert_uint_eq(header.type, WIRE_WRITE);
	ck_assert_int_eq(conn->ops->skip(conn, &header), 0);
	ck_assert_int_eq(conn->ops->header(conn, &header), 0);
	ck_assert_uint_eq(header.id, 4);
	ck_assert_int_eq(conn->ops->body(conn, &header, &at), 0);
	/* a length that is none */
	memset(message, 0xff, sizeof(message));
	put(message, WIRE_HEADER_SIZE);
	ck_assert_int_eq(conn->ops->header(conn, &header), -EPROTO);
}
END_TEST

START_TEST(ends)
{
	struct wire_header header;
	uint8_t message[WIRE_MSG_MAX], *at;
	uint64_t addr = 0;

	ck_assert(!conn->ops->hung_up(conn));
	put(message, wire_put_addrs(message, WIRE_ALLOC, 1, &addr, 1) - 1);
	ck_assert_int_eq(conn->ops->header(conn, &header), 0);
	shutdown(peer, SHUT_WR);
	ck_assert(conn->ops->hung_up(conn));
	ck_assert_int_eq(conn->ops->body(conn, &header, &at), -ECONNRESET);
	end();
	start();
	shutdown(peer, SHUT_WR);
	ck_assert_int_eq(conn->ops->header(conn, &header), 1);
	end();
	start();
	/* ours: nothing more comes; and once the lane is to end, not even what is there */
	conn->ops->shutdown(conn, SHUT_RD);
	ck_assert_int_eq(conn->ops->header(conn, &header), 1);
	end();
	start();
	put_plain(WIRE_STAT, 1);
	stop = true;
	ck_assert_int_eq(conn->ops->header(conn, &header), -ECONNRESET);
	end();
	start();
	conn->ops->deadline(conn, now_ns());
	ck_assert_int_eq(conn->ops->header(conn, &header), -ETIMEDOUT);
}
END_TEST

START_TEST(full)
{
	uint8_t message[WIRE_MSG_MAX] = {0}, taken[WIRE_MSG_MAX];
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(message)};
	size_t sent;
	int ret = 0, n = 0;

	/* a peer that takes nothing: what may not wait does not, and what may gives up once the lane is to end */
	while (!ret && n++ < 100000) {
		ck_assert(conn->ops->notice_room(conn));
		ret = conn->ops->send_now(conn, message, sizeof(message));
	}
	/* of what did not fit nothing went out: the connection is as good as before, once the peer takes something */
	ck_assert_int_eq(ret, -EAGAIN);
	while (n-- > 1)
		ck_assert_int_eq(recv(peer, taken, sizeof(taken), MSG_WAITALL), sizeof(taken));
	ck_assert_int_eq(recv(peer, taken, sizeof(taken), MSG_DONTWAIT), -1);
	message[0] = 0x5a;
	ck_assert_int_eq(conn->ops->send_now(conn, message, sizeof(message)), 0);
	ck_assert_int_eq(recv(peer, taken, sizeof(taken), MSG_WAITALL), sizeof(taken));
	ck_assert_mem_eq(taken, message, sizeof(taken));
	for (ret = 0, n = 0; !ret && n < 100000; n++)
		ret = conn->ops->send_now(conn, message, sizeof(message));
	stop = true;
	ck_assert_int_eq(conn->ops->send(conn, &iov, 1, -1, &sent), -ECONNRESET);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn");
	TCase *stream = tcase_create("stream");

	tcase_add_checked_fixture(stream, start, end);
	tcase_set_timeout(stream, 60);
	tcase_add_test(stream, handshake);
	tcase_add_test(stream, messages);
	tcase_add_test(stream, ends);
	tcase_add_test(stream, full);
	suite_add_tcase(suite, stream);
	return check_run(suite);
}
