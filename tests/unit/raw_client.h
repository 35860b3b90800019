/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw_client - a client of a brick that speaks the bare protocol, so that it can
 * also break it, over a socket pair to a server in the same process.
 */
#ifndef TESTS_RAW_CLIENT_H
#define TESTS_RAW_CLIENT_H

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

static struct server *server;

/* A client: one connection. */
struct client {
	int fd;
	uint8_t token[WIRE_TOKEN_SIZE];
	uint32_t id;
	struct wire_hello_reply hello;
	uint8_t message[WIRE_MSG_MAX + WIRE_DATA_MAX];
	size_t length;
};

static int connect_raw(const struct transport *transport)
{
	int pair[2];
	struct peer peer = {.text = "test", .pid = 4711};
	struct timeval limit = {.tv_sec = 60};

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
	(void)server_adopt(server, pair[1], transport, &peer); /* a refusal is seen at the other end */
	return pair[0];
}

/* A brick that closed already is noticed when the answer does not come. */
static void put(int fd, const void *bytes, size_t n)
{
	if (send(fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
		ck_assert_msg(errno == EPIPE || errno == ECONNRESET, "send: %s", strerror(errno));
}

/* False: the brick closed first. */
static bool get(int fd, void *bytes, size_t n)
{
	size_t have = 0;

	while (have < n) {
		ssize_t got = recv(fd, (char *)bytes + have, n - have, 0);

		if (got <= 0) {
			ck_assert_msg(got == 0 || errno == ECONNRESET, "the brick neither answers nor closes");
			return false;
		}
		have += (size_t)got;
	}
	return true;
}

static int preamble(int fd, const uint8_t *token, uint16_t lane, uint8_t *token_out)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION, .version_max = WIRE_VERSION, .lane = lane};
	struct wire_preamble_reply reply;
	uint8_t bytes[64];

	if (token)
		memcpy(p.token, token, sizeof(p.token));
	wire_put_preamble(bytes, &p);
	if (send(fd, bytes, WIRE_PREAMBLE_SIZE, MSG_NOSIGNAL) < 0)
		ck_assert_int_eq(errno, EPIPE); /* refused before it spoke */
	if (!get(fd, bytes, WIRE_PREAMBLE_REPLY_SIZE))
		return -ECONNRESET;
	ck_assert_int_eq(wire_get_preamble_reply(bytes, WIRE_PREAMBLE_REPLY_SIZE, &reply), 0);
	if (token_out)
		memcpy(token_out, reply.token, sizeof(reply.token));
	return wire_errno(reply.status);
}

/* The next message of the brick, notices too: its type, or 0 when the brick closed. */
static uint16_t receive(struct client *c, struct wire_header *header)
{
	if (!get(c->fd, c->message, WIRE_HEADER_SIZE))
		return 0;
	ck_assert_int_eq(wire_get_header(c->message, WIRE_HEADER_SIZE, header), 0);
	ck_assert(get(c->fd, c->message + WIRE_HEADER_SIZE, header->length - WIRE_HEADER_SIZE));
	c->length = header->length;
	return header->type;
}

/* The reply to the request that was sent last: its status; -ECONNRESET when the brick closed. */
static int answer(struct client *c, uint16_t type)
{
	struct wire_header header;
	uint16_t got;

	do
		got = receive(c, &header);
	while (got == WIRE_NOTICE);
	if (!got)
		return -ECONNRESET;
	ck_assert_int_eq(got, type | WIRE_REPLY);
	ck_assert_uint_eq(header.id, c->id);
	return wire_errno(header.status);
}

/* Those that lost their places are gone: as many as there are places may be on their way out. */
static inline void settled(void)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	uint32_t left;

	for (;;) {
		pthread_mutex_lock(&server->lock);
		left = server->peers.dropped;
		pthread_mutex_unlock(&server->lock);
		if (!left)
			return;
		nanosleep(&pause, NULL);
	}
}

static int try_hello(struct client *c, uint32_t maps)
{
	struct wire_hello hello = {.maps = maps, .name = "test", .pid = 1};
	uint8_t message[WIRE_MSG_MAX];
	int ret;

	put(c->fd, message, wire_put_hello(message, ++c->id, &hello));
	ret = answer(c, WIRE_HELLO);
	if (!ret)
		ck_assert_int_eq(wire_get_hello_reply(c->message, c->length, &c->hello), 0);
	return ret;
}

static struct client *open_client(const struct transport *transport)
{
	struct client *c = calloc(1, sizeof(*c));

	ck_assert_ptr_nonnull(c);
	c->fd = connect_raw(transport);
	ck_assert_int_eq(preamble(c->fd, NULL, 0, c->token), 0);
	ck_assert_int_eq(try_hello(c, 0), 0);
	return c;
}

static struct client *join(const struct client *first, uint16_t lane)
{
	struct client *c = calloc(1, sizeof(*c));

	ck_assert_ptr_nonnull(c);
	c->fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(c->fd, first->token, lane, c->token), 0);
	ck_assert_mem_eq(c->token, first->token, sizeof(c->token));
	return c;
}

static void shut(struct client *c)
{
	close(c->fd);
	free(c);
}

/* Hangs up and waits until the brick has done so too: then its locks are gone. */
static void shut_and_wait(struct client *c)
{
	uint8_t waste[256];

	shutdown(c->fd, SHUT_WR);
	while (recv(c->fd, waste, sizeof(waste), 0) > 0)
		;
	shut(c);
}

static int call_addrs(struct client *c, uint16_t type, uint64_t addr)
{
	uint8_t message[WIRE_MSG_MAX];
	uint32_t status;
	size_t n = 1;
	int ret;

	put(c->fd, message, wire_put_addrs(message, type, ++c->id, &addr, 1));
	ret = answer(c, type);
	if (ret)
		return ret;
	ck_assert_int_eq(wire_get_statuses(c->message, c->length, &status, &n), 0);
	return wire_errno(status);
}

static void send_target(struct client *c, uint16_t type, uint64_t addr, uint32_t flags)
{
	struct wire_target target = {.addr = addr, .flags = flags};
	uint8_t message[WIRE_MSG_MAX];

	put(c->fd, message, wire_put_targets(message, type, ++c->id, &target, 1));
}

static int mapped(struct client *c, struct wire_handle *handle)
{
	size_t n = 1;
	int ret = answer(c, WIRE_MAP);

	if (ret)
		return ret;
	ck_assert_int_eq(wire_get_handles(c->message, c->length, handle, &n), 0);
	return wire_errno(handle->status);
}

static int map(struct client *c, uint64_t addr, uint32_t flags, struct wire_handle *handle)
{
	struct wire_handle unused;

	send_target(c, WIRE_MAP, addr, flags);
	return mapped(c, handle ? handle : &unused);
}

static int unmapped(struct client *c)
{
	uint32_t status;
	size_t n = 1;
	int ret = answer(c, WIRE_UNMAP);

	if (ret)
		return ret;
	ck_assert_int_eq(wire_get_statuses(c->message, c->length, &status, &n), 0);
	return wire_errno(status);
}

static int unmap(struct client *c, uint64_t addr)
{
	send_target(c, WIRE_UNMAP, addr, 0);
	return unmapped(c);
}

static int persist(struct client *c, uint64_t addr, uint32_t length)
{
	struct wire_range range = {.addr = addr, .length = length};
	uint8_t message[WIRE_MSG_MAX];
	uint32_t status;
	size_t n = 1;
	int ret;

	put(c->fd, message, wire_put_ranges(message, ++c->id, &range, 1));
	ret = answer(c, WIRE_PERSIST);
	if (ret)
		return ret;
	ck_assert_int_eq(wire_get_statuses(c->message, c->length, &status, &n), 0);
	return wire_errno(status);
}

static void send_write(struct client *c, uint64_t addr, uint32_t key, const void *bytes, uint32_t length, uint32_t sent)
{
	struct wire_rw rw = {.addr = addr, .key = key, .length = length};
	uint8_t fixed[WIRE_RW_FIXED];

	wire_put_rw(fixed, WIRE_WRITE, ++c->id, &rw, length);
	put(c->fd, fixed, sizeof(fixed));
	put(c->fd, bytes, sent);
}

static int rwrite(struct client *c, uint64_t addr, uint32_t key, const void *bytes, uint32_t length)
{
	send_write(c, addr, key, bytes, length, length);
	return answer(c, WIRE_WRITE);
}

static int rread(struct client *c, uint64_t addr, uint32_t key, void *bytes, uint32_t length)
{
	struct wire_rw rw = {.addr = addr, .key = key, .length = length};
	uint8_t fixed[WIRE_RW_FIXED];
	int ret;

	wire_put_rw(fixed, WIRE_READ, ++c->id, &rw, 0);
	put(c->fd, fixed, sizeof(fixed));
	ret = answer(c, WIRE_READ);
	if (!ret)
		memcpy(bytes, c->message + WIRE_HEADER_SIZE, length);
	return ret;
}

#endif
