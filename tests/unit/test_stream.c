/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows what a stream of libbrick does at its edges, over a socket pair whose other end
 * is in the test's hands: replies that come too early, descriptors that were not
 * asked for, a preamble cut at every byte, the last words of a peer that is gone.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_run.h"
#include "brick.h"
#include "stream.h"

static struct stream stream;
static struct transport_io io;
static struct iovec iov;
static int peer, messages, done, done_status;

static int on_message(void *arg, const uint8_t *msg, size_t len)
{
	messages++;
	return 0;
}

static void on_done(void *arg, struct transport_io *which, int status)
{
	ck_assert_ptr_eq(which, &io);
	done++;
	done_status = status;
}

static struct transport_io *on_find(void *arg, uint32_t id)
{
	return id == io.id ? &io : NULL;
}

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* The first bytes of the preamble's reply are there before the preamble is sent; then the end, if it is cut. */
static int start(size_t reply_bytes)
{
	const struct transport_options options = { .text = "pair", .timeout_ms = 20000,
						   .events = { on_message, on_done, on_find, NULL } };
	const struct wire_preamble preamble = { .version_min = 1, .version_max = 1 };
	struct wire_preamble_reply reply = { .version = 1, .token = "token" };
	uint8_t bytes[WIRE_PREAMBLE_REPLY_SIZE];
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	peer = fds[1];
	wire_put_preamble_reply(bytes, &reply);
	ck_assert_int_eq(send(peer, bytes, reply_bytes, 0), reply_bytes);
	if (reply_bytes < sizeof(bytes))
		shutdown(peer, SHUT_WR);
	memset(&stream, 0, sizeof(stream));
	stream.data = true;
	messages = done = 0;
	return stream_open(&stream, fds[0], &options, &preamble, &reply);
}

static void post(bool write, uint32_t length)
{
	iov = (struct iovec){ calloc(1, length), length };
	io = (struct transport_io){ .id = 0x10000, .write = write, .length = length, .iov = &iov, .iovcnt = 1 };
	ck_assert_int_eq(stream_post(&stream, &io), 0);
}

static void answer(uint16_t type, uint32_t length)
{
	const struct wire_header header = { .type = type | WIRE_REPLY, .id = io.id, .length = length };
	uint8_t bytes[WIRE_HEADER_SIZE];

	wire_put_header(bytes, &header);
	ck_assert_int_eq(send(peer, bytes, sizeof(bytes), 0), sizeof(bytes));
}

static void stop(void)
{
	stream_close(&stream);
	close(peer);
	free(iov.iov_base);
	iov.iov_base = NULL;
}

START_TEST(test_preamble_cut)
{
	for (size_t n = 0; n < WIRE_PREAMBLE_REPLY_SIZE; n++) {
		ck_assert_int_eq(start(n), -ECONNRESET);
		ck_assert_ptr_nonnull(strstr(brick_error(), "pair"));
		close(peer);
	}
	ck_assert_int_eq(start(WIRE_PREAMBLE_REPLY_SIZE), 0);
	stop();
}
END_TEST

/* A write that is answered before its last byte has left would complete with its buffer still in use. */
START_TEST(test_early_answer)
{
	start(WIRE_PREAMBLE_REPLY_SIZE);
	post(true, WIRE_DATA_MAX);
	ck_assert(io.unsent);
	answer(WIRE_WRITE, WIRE_HEADER_SIZE);
	ck_assert_int_eq(stream_poll(&stream), -EPROTO);
	ck_assert_int_eq(done, 0);
	stop();
}
END_TEST

/* The rest of a large write leaves in poll, and then the answer is taken. */
START_TEST(test_late_answer)
{
	static uint8_t drain[1 << 16];
	size_t got = 0;
	short events = 0;

	start(WIRE_PREAMBLE_REPLY_SIZE);
	post(true, WIRE_DATA_MAX);
	ck_assert_int_eq(stream_arm(&stream, &events), 0);
	ck_assert_int_eq(events, POLLIN | POLLOUT);
	while (got < WIRE_PREAMBLE_SIZE + WIRE_RW_FIXED + WIRE_DATA_MAX) {
		ssize_t n = recv(peer, drain, sizeof(drain), 0);

		if (n > 0)
			got += (size_t)n;
		ck_assert_int_ge(stream_poll(&stream), 0);
	}
	ck_assert_int_eq(stream_arm(&stream, &events), 0);
	ck_assert_int_eq(events, POLLIN);
	answer(WIRE_WRITE, WIRE_HEADER_SIZE);
	ck_assert_int_gt(stream_poll(&stream), 0);
	ck_assert_int_eq(done, 1);
	ck_assert_int_eq(done_status, 0);
	stop();
}
END_TEST

/* A peer that says something and goes is heard before the failure is found, also when sending fails first. */
START_TEST(test_last_words)
{
	uint8_t msg[WIRE_MSG_MAX];
	const struct wire_notice notice = { .kind = WIRE_NOTICE_REVOKED };
	size_t len = wire_put_notice(msg, &notice);

	start(WIRE_PREAMBLE_REPLY_SIZE);
	ck_assert_int_eq(send(peer, msg, len, 0), len);
	close(peer);
	len = wire_put_plain(msg, WIRE_KEEPALIVE, 5, 0);
	ck_assert_int_eq(stream_send(&stream, msg, len), 0);
	ck_assert_int_eq(stream_poll(&stream), -ECONNRESET);
	ck_assert_int_eq(messages, 1);
	peer = -1;
	stop();
}
END_TEST

/* Descriptors that nobody wants are closed, and too many of them end the connection. */
START_TEST(test_descriptors)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(20 * sizeof(int))];
	} control = { 0 };
	uint8_t bytes[WIRE_MSG_MAX];
	const struct wire_notice notice = { .kind = WIRE_NOTICE_RECALL };
	struct iovec piece = { bytes, wire_put_notice(bytes, &notice) };
	struct msghdr msg = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes };
	struct cmsghdr *c;
	int before, fds[20];

	start(WIRE_PREAMBLE_REPLY_SIZE);
	stream.wants_fds = _i > 0;
	before = open_fds();
	for (int i = 0; i < 20; i++)
		fds[i] = peer;
	msg.msg_controllen = CMSG_SPACE((_i == 2 ? 20 : 2) * sizeof(int));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((_i == 2 ? 20 : 2) * sizeof(int));
	memcpy(CMSG_DATA(c), fds, (_i == 2 ? 20 : 2) * sizeof(int));
	ck_assert_int_gt(sendmsg(peer, &msg, 0), 0);
	if (_i == 2)
		ck_assert_int_eq(stream_poll(&stream), -EPROTO);
	else
		ck_assert_int_gt(stream_poll(&stream), 0);
	ck_assert_uint_eq(stream.fd_count, _i == 0 ? 0 : _i == 1 ? 2 : WIRE_FDS_MAX);
	stop();
	ck_assert_int_eq(open_fds(), before - 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stream");
	TCase *edges = tcase_create("edges");

	tcase_set_timeout(edges, 60);
	tcase_add_test(edges, test_preamble_cut);
	tcase_add_test(edges, test_early_answer);
	tcase_add_test(edges, test_late_answer);
	tcase_add_test(edges, test_last_words);
	tcase_add_loop_test(edges, test_descriptors, 0, 3);
	suite_add_tcase(suite, edges);
	return check_run(suite);
}
