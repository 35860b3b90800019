/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: a brick over verbs, to a client that speaks the bare protocol, and so can break it: what is promised is
 * served, what is refused is refused by the hardware and changes nothing, a lane that breaks the rules is lost, and
 * nothing is left of hundreds of connections.
 *
 * raw-verbs ADDRESS PORT [TEST ...]: runs against a brickd whose pool has 16 blocks at least, none of them in use.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <netdb.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define CHECK(c, ...)                                                                                                  \
	do {                                                                                                           \
		if (!(c)) {                                                                                            \
			fprintf(stderr, "raw-verbs: line %d: %s:", __LINE__, #c);                                     \
			fprintf(stderr, " " __VA_ARGS__);                                                              \
			fprintf(stderr, " (errno %s)\n", strerror(errno));                                             \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

#define BUFFERS	  16
#define DATA_SIZE (64u << 10)
#define PATIENCE  20000 /* ms, for what has to come */
#define BASE	  0x40000000ull
#define at(n)	  (BASE + (uint64_t)(n)*WIRE_BLOCK_SIZE)
#define DATA_ID	  1000
#define SEND_ID	  2000

static const char *address, *service;

struct client {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *region;
	uint8_t *memory; /* receive buffers, one to send from, data */
	uint8_t token[WIRE_TOKEN_SIZE];
	struct wire_hello_reply hello;
	uint8_t message[WIRE_MSG_MAX];
	size_t length;
	uint32_t last_id, notices;
	struct wire_notice notice; /* the last one */
	bool broken, gone;
	int status; /* of the last READ or WRITE */
};

static uint8_t *send_buffer(struct client *c)
{
	return c->memory + (size_t)BUFFERS * WIRE_MSG_MAX;
}

static uint8_t *data(struct client *c)
{
	return send_buffer(c) + 4 * WIRE_MSG_MAX;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void post_receive(struct client *c, uint32_t n)
{
	struct ibv_sge sge = {(uintptr_t)(c->memory + (size_t)n * WIRE_MSG_MAX), WIRE_MSG_MAX, c->region->lkey};
	struct ibv_recv_wr wr = {.wr_id = n, .sg_list = &sge, .num_sge = 1}, *bad;

	(void)ibv_post_recv(c->id->qp, &wr, &bad); /* fails on a lane that is lost */
}

static struct rdma_cm_event *next_event(struct client *c)
{
	struct pollfd p = {.fd = c->channel->fd, .events = POLLIN};
	struct rdma_cm_event *event;

	CHECK(poll(&p, 1, PATIENCE) == 1, "no connection event in time");
	CHECK(rdma_get_cm_event(c->channel, &event) == 0);
	return event;
}

static void expect(struct client *c, enum rdma_cm_event_type type)
{
	struct rdma_cm_event *event = next_event(c);

	CHECK(event->event == type, "%s", rdma_event_str(event->event));
	rdma_ack_cm_event(event);
}

/* Hangs up without a word when it is broken already. */
static void shut(struct client *c, bool orderly)
{
	if (orderly && c->id->qp)
		rdma_disconnect(c->id);
	if (c->id->qp)
		rdma_destroy_qp(c->id);
	if (c->region)
		ibv_dereg_mr(c->region);
	if (c->cq)
		ibv_destroy_cq(c->cq);
	if (c->pd)
		ibv_dealloc_pd(c->pd);
	rdma_destroy_id(c->id);
	rdma_destroy_event_channel(c->channel);
	free(c->memory);
	free(c);
}

/* A connection whose private data is this: a client in *out and 0, or the status of the rejection, 1 if it had none. */
static int connect_with(struct client **out, const void *private_data, size_t n, unsigned receives)
{
	struct client *c = calloc(1, sizeof(*c));
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = 64, .max_recv_wr = BUFFERS, .max_send_sge = 1, .max_recv_sge = 1},
	};
	struct rdma_conn_param param = {
		.private_data = private_data, .private_data_len = (uint8_t)n, .initiator_depth = 16,
		.responder_resources = 1, .retry_count = 6, .rnr_retry_count = 6};
	struct rdma_addrinfo hints = {.ai_port_space = RDMA_PS_TCP}, *info;
	struct rdma_cm_event *event;
	struct wire_preamble_reply reply;
	size_t size = (BUFFERS + 4) * (size_t)WIRE_MSG_MAX + DATA_SIZE;
	int status = 1;

	CHECK(c);
	CHECK((c->channel = rdma_create_event_channel()));
	CHECK(rdma_create_id(c->channel, &c->id, c, RDMA_PS_TCP) == 0);
	CHECK(rdma_getaddrinfo(address, service, &hints, &info) == 0);
	CHECK(rdma_resolve_addr(c->id, NULL, info->ai_dst_addr, 2000) == 0);
	rdma_freeaddrinfo(info);
	expect(c, RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK(rdma_resolve_route(c->id, 2000) == 0);
	expect(c, RDMA_CM_EVENT_ROUTE_RESOLVED);
	CHECK((c->pd = ibv_alloc_pd(c->id->verbs)));
	CHECK((c->cq = ibv_create_cq(c->id->verbs, 128, NULL, NULL, 0)));
	attr.send_cq = attr.recv_cq = c->cq;
	CHECK(rdma_create_qp(c->id, c->pd, &attr) == 0);
	CHECK((c->memory = aligned_alloc(4096, size)));
	memset(c->memory, 0, size);
	CHECK((c->region = ibv_reg_mr(c->pd, c->memory, size, IBV_ACCESS_LOCAL_WRITE)));
	for (unsigned i = 0; i < receives; i++)
		post_receive(c, i);
	CHECK(rdma_connect(c->id, &param) == 0);
	event = next_event(c);
	CHECK(event->event == RDMA_CM_EVENT_ESTABLISHED || event->event == RDMA_CM_EVENT_REJECTED, "%s",
	      rdma_event_str(event->event));
	if (event->param.conn.private_data && event->param.conn.private_data_len >= WIRE_PREAMBLE_REPLY_SIZE) {
		CHECK(wire_get_preamble_reply(event->param.conn.private_data, WIRE_PREAMBLE_REPLY_SIZE, &reply) == 0);
		status = wire_errno(reply.status);
		memcpy(c->token, reply.token, sizeof(c->token));
	}
	if (event->event == RDMA_CM_EVENT_ESTABLISHED)
		CHECK(status == 0, "accepted with status %d", status);
	else
		CHECK(status != 0, "rejected with status 0");
	rdma_ack_cm_event(event);
	if (status) {
		shut(c, false);
		c = NULL;
	}
	*out = c;
	return status;
}

static int try_connect(struct client **out, const uint8_t *token, uint16_t lane)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION, .version_max = WIRE_VERSION, .lane = lane};
	uint8_t bytes[WIRE_PREAMBLE_SIZE];

	if (token)
		memcpy(p.token, token, sizeof(p.token));
	wire_put_preamble(bytes, &p);
	return connect_with(out, bytes, sizeof(bytes), BUFFERS);
}

/* One completion, put where it belongs; false: there is none. */
static bool reap(struct client *c)
{
	struct ibv_wc wc;
	int n = ibv_poll_cq(c->cq, 1, &wc);

	CHECK(n >= 0);
	if (!n)
		return false;
	if (wc.wr_id >= DATA_ID) {
		if (wc.wr_id == DATA_ID)
			c->status = (int)wc.status;
		c->broken |= wc.status != IBV_WC_SUCCESS;
	} else if (wc.status != IBV_WC_SUCCESS) {
		c->broken = true;
	} else {
		struct wire_header header;
		uint8_t *from = c->memory + wc.wr_id * WIRE_MSG_MAX;

		CHECK(wire_get_header(from, wc.byte_len, &header) == 0 && header.length == wc.byte_len);
		if (header.type == WIRE_NOTICE) {
			CHECK(wire_get_notice(from, wc.byte_len, &c->notice) == 0);
			c->notices++;
		} else {
			memcpy(c->message, from, wc.byte_len);
			c->length = wc.byte_len;
		}
		post_receive(c, (uint32_t)wc.wr_id);
	}
	return true;
}

static bool disconnected(struct client *c)
{
	struct pollfd p = {.fd = c->channel->fd, .events = POLLIN};

	while (!c->gone && poll(&p, 1, 0) == 1) {
		struct rdma_cm_event *event = next_event(c);

		c->gone |= event->event != RDMA_CM_EVENT_ESTABLISHED;
		rdma_ack_cm_event(event);
	}
	return c->gone;
}

static bool is_gone(struct client *c)
{
	uint64_t until = now_ms() + PATIENCE;

	while (!disconnected(c)) {
		if (now_ms() >= until)
			return false;
		while (reap(c))
			;
		usleep(200);
	}
	while (reap(c)) /* what came before */
		;
	return true;
}

#define await_gone(c) CHECK(is_gone(c), "the brick keeps the lane")

static void post_send(struct client *c, size_t n, bool immediate)
{
	struct ibv_sge sge = {(uintptr_t)send_buffer(c), (uint32_t)n, c->region->lkey};
	struct ibv_send_wr wr = {.wr_id = SEND_ID,
				 .sg_list = &sge,
				 .num_sge = 1,
				 .opcode = immediate ? IBV_WR_SEND_WITH_IMM : IBV_WR_SEND,
				 .imm_data = htonl(c->notices),
				 .send_flags = IBV_SEND_SIGNALED},
			  *bad;

	c->length = 0;
	CHECK(ibv_post_send(c->id->qp, &wr, &bad) == 0);
}

/* Waits for a reply: its status; -ECONNRESET when the lane is lost. */
static int answer(struct client *c, uint16_t type)
{
	uint64_t until = now_ms() + PATIENCE;
	struct wire_header header;

	while (!c->length) {
		if (reap(c))
			continue;
		if (c->broken || disconnected(c))
			return -ECONNRESET;
		CHECK(now_ms() < until, "no answer to %u", type);
	}
	CHECK(wire_get_header(c->message, c->length, &header) == 0);
	CHECK(header.type == (type | WIRE_REPLY) && header.id == c->last_id, "type %x", header.type);
	return wire_errno(header.status);
}

static int hello_with(struct client *c, const char *name, uint64_t features)
{
	struct wire_hello hello = {.features = features, .pid = (uint64_t)getpid(), .depth = BUFFERS - 8};
	int ret;

	snprintf(hello.name, sizeof(hello.name), "%s", name);
	post_send(c, wire_put_hello(send_buffer(c), ++c->last_id, &hello), true);
	ret = answer(c, WIRE_HELLO);
	if (!ret)
		CHECK(wire_get_hello_reply(c->message, c->length, &c->hello) == 0);
	return ret;
}

static int hello_as(struct client *c, const char *name)
{
	return hello_with(c, name, 0);
}

static struct client *open_client(void)
{
	struct client *c;
	int ret = try_connect(&c, NULL, 0);

	CHECK(ret == 0, "status %d", ret);
	CHECK(hello_as(c, "raw") == 0);
	return c;
}

static struct client *join(const struct client *first, uint16_t lane)
{
	uint64_t until = now_ms() + PATIENCE;
	struct client *c;
	int ret = try_connect(&c, first->token, lane);

	CHECK(ret == 0, "status %d", ret);
	CHECK(memcmp(c->token, first->token, sizeof(c->token)) == 0);
	CHECK(now_ms() < until);
	return c;
}

static int call_addrs(struct client *c, uint16_t type, uint64_t addr, size_t count)
{
	uint64_t addrs[16];
	uint32_t status[16];
	size_t n = count;
	int ret;

	for (size_t i = 0; i < count; i++)
		addrs[i] = addr + i * WIRE_BLOCK_SIZE;
	post_send(c, wire_put_addrs(send_buffer(c), type, ++c->last_id, addrs, count), true);
	ret = answer(c, type);
	if (ret)
		return ret;
	CHECK(wire_get_statuses(c->message, c->length, status, &n) == 0 && n == count);
	for (size_t i = 0; i < count && !ret; i++)
		ret = wire_errno(status[i]);
	return ret;
}

static int map(struct client *c, uint64_t addr, uint32_t flags, size_t count, struct wire_handle *handles)
{
	struct wire_target targets[16];
	size_t n = count;
	int ret;

	for (size_t i = 0; i < count; i++)
		targets[i] = (struct wire_target){.addr = addr + i * WIRE_BLOCK_SIZE, .flags = flags};
	post_send(c, wire_put_targets(send_buffer(c), WIRE_MAP, ++c->last_id, targets, count), true);
	ret = answer(c, WIRE_MAP);
	if (ret)
		return ret;
	CHECK(wire_get_handles(c->message, c->length, handles, &n) == 0 && n == count);
	for (size_t i = 0; i < count && !ret; i++) {
		ret = wire_errno(handles[i].status);
		if (!ret)
			CHECK(handles[i].place == targets[i].addr);
	}
	return ret;
}

static int unmap(struct client *c, uint64_t addr, size_t count)
{
	struct wire_target targets[16];
	uint32_t status[16];
	size_t n = count;
	int ret;

	for (size_t i = 0; i < count; i++)
		targets[i] = (struct wire_target){.addr = addr + i * WIRE_BLOCK_SIZE};
	post_send(c, wire_put_targets(send_buffer(c), WIRE_UNMAP, ++c->last_id, targets, count), true);
	ret = answer(c, WIRE_UNMAP);
	if (ret)
		return ret;
	CHECK(wire_get_statuses(c->message, c->length, status, &n) == 0 && n == count);
	for (size_t i = 0; i < count && !ret; i++)
		ret = wire_errno(status[i]);
	return ret;
}

static int persist(struct client *c, uint64_t addr, uint32_t length)
{
	struct wire_range range = {.addr = addr, .length = length};
	uint32_t status;
	size_t n = 1;
	int ret;

	post_send(c, wire_put_ranges(send_buffer(c), ++c->last_id, &range, 1), true);
	ret = answer(c, WIRE_PERSIST);
	if (ret)
		return ret;
	CHECK(wire_get_statuses(c->message, c->length, &status, &n) == 0);
	return wire_errno(status);
}

static struct wire_stat_reply stat_of(struct client *c)
{
	struct wire_stat_reply stat;

	post_send(c, wire_put_plain(send_buffer(c), WIRE_STAT, ++c->last_id, 0), true);
	CHECK(answer(c, WIRE_STAT) == 0);
	CHECK(wire_get_stat_reply(c->message, c->length, &stat) == 0);
	return stat;
}

/* A READ or WRITE between data() and the remote address: the status of its completion. */
static int rdma(struct client *c, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey, uint32_t length)
{
	struct ibv_sge sge = {(uintptr_t)data(c), length, c->region->lkey};
	struct ibv_send_wr wr = {.wr_id = DATA_ID,
				 .sg_list = &sge,
				 .num_sge = 1,
				 .opcode = opcode,
				 .send_flags = IBV_SEND_SIGNALED,
				 .wr.rdma = {.remote_addr = addr, .rkey = rkey}},
			  *bad;
	uint64_t until = now_ms() + PATIENCE;

	c->status = -1;
	CHECK(ibv_post_send(c->id->qp, &wr, &bad) == 0);
	while (c->status < 0) {
		reap(c);
		CHECK(now_ms() < until, "no completion");
	}
	return c->status;
}

static void rwrite(struct client *c, uint64_t addr, const struct wire_handle *h, const char *text)
{
	strcpy((char *)data(c), text);
	CHECK(rdma(c, IBV_WR_RDMA_WRITE, addr, h->key, (uint32_t)strlen(text) + 1) == IBV_WC_SUCCESS, "%s",
	      ibv_wc_status_str((enum ibv_wc_status)c->status));
}

static bool holds(struct client *c, uint64_t addr, const struct wire_handle *h, const char *text)
{
	memset(data(c), 0xee, 4096);
	CHECK(rdma(c, IBV_WR_RDMA_READ, addr, h->key, 4096) == IBV_WC_SUCCESS, "%s",
	      ibv_wc_status_str((enum ibv_wc_status)c->status));
	return memcmp(data(c), text, strlen(text) + 1) == 0;
}

/* Until only this session is left, with as many maps. */
static void await_alone(struct client *c, uint32_t maps)
{
	uint64_t until = now_ms() + PATIENCE;
	struct wire_stat_reply stat;

	do {
		stat = stat_of(c);
		CHECK(now_ms() < until, "left: %u sessions, %u lanes, %u maps, %u regions", stat.sessions, stat.lanes,
		      stat.maps, stat.regions);
	} while (stat.sessions != 1 || stat.lanes != 1 || stat.maps != maps || stat.regions != maps);
	CHECK(stat.op[WIRE_OP_READ].bytes == 0 && stat.op[WIRE_OP_WRITE].bytes == 0,
	      "data went through the brick's processor");
}

/* Preambles that are refused are refused by the rejection's private data. */
static void test_preamble(void)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION + 1, .version_max = WIRE_VERSION + 9};
	uint8_t bytes[56] = "GET / HTTP/1.1", token[WIRE_TOKEN_SIZE];
	struct client *c, *other;

	CHECK(connect_with(&c, bytes, sizeof(bytes), BUFFERS) == -EPROTO);
	CHECK(connect_with(&c, NULL, 0, BUFFERS) == -EPROTO);
	wire_put_preamble(bytes, &p);
	CHECK(connect_with(&c, bytes, WIRE_PREAMBLE_SIZE, BUFFERS) == -EPROTONOSUPPORT);
	memset(token, 0x5a, sizeof(token));
	CHECK(try_connect(&c, token, 0) == -ESTALE);
	CHECK(try_connect(&c, NULL, 60000) == -EMFILE);
	/* a longer preamble, as a later version may send */
	p = (struct wire_preamble){.version_min = 1, .version_max = 7};
	wire_put_preamble(bytes, &p);
	CHECK(connect_with(&c, bytes, 48, BUFFERS) == 0);
	CHECK(hello_as(c, "later") == 0);
	other = join(c, 1);
	CHECK(stat_of(other).lanes == 2);
	shut(other, true);
	await_alone(c, 0);
	shut(c, true);
}

/* The five calls and the data, with the block's address as the remote address. */
static void test_calls(void)
{
	struct client *a = open_client(), *b = open_client();
	struct wire_handle h[16], ro;
	struct wire_rw rw = {.addr = at(0), .length = 8};

	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 16) == 0);
	CHECK(map(a, at(0), WIRE_MAP_WRITE, 16, h) == 0);
	CHECK(stat_of(a).regions == 16);
	for (int i = 0; i < 16; i++)
		CHECK(holds(a, at(i) + WIRE_BLOCK_SIZE - 4096, &h[i], ""));
	rwrite(a, at(3) + 123, &h[3], "by its address");
	CHECK(holds(a, at(3) + 123, &h[3], "by its address"));
	CHECK(persist(a, at(3) + 123, 15) == 0);
	CHECK(map(b, at(3), 0, 1, &ro) == 0);
	CHECK(stat_of(b).regions == 17);
	CHECK(holds(b, at(3) + 123, &ro, "by its address"));
	CHECK(map(b, at(3), WIRE_MAP_EXCLUSIVE, 1, &ro) == -EBUSY);
	CHECK(map(b, at(2), WIRE_MAP_EXCLUSIVE, 1, &ro) == -EBUSY);
	CHECK(call_addrs(b, WIRE_FREE, at(3), 1) == -EBUSY);
	/* frames are tcp's */
	rw.key = h[0].key;
	wire_put_rw(send_buffer(a), WIRE_READ, ++a->last_id, &rw, 0);
	post_send(a, WIRE_RW_FIXED, true);
	CHECK(answer(a, WIRE_READ) == -EOPNOTSUPP);
	CHECK(unmap(b, at(3), 1) == 0);
	CHECK(unmap(a, at(0), 8) == 0);
	CHECK(stat_of(a).regions == 8);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 16) == 0); /* its own maps go first */
	CHECK(stat_of(a).regions == 0);
	shut(b, true);
	await_alone(a, 0);
	shut(a, true);
}

/* Each a way to reach what is not one's own: a remote access error, nothing changed, and the session goes on. */
static void test_refused(void)
{
	static const char *const names[] = {"after unmap",	  "beyond the block",  "before the block",
					    "another session's",  "another block",     "writing read-only",
					    "reading after free", "under the old key", "the memory's own address"};
	struct client *owner = open_client(), *c = open_client(), *lane;
	struct wire_handle h, mine, ro, gone;
	struct wire_stat_reply stat;

	CHECK(call_addrs(owner, WIRE_ALLOC, at(0), 4) == 0);
	CHECK(map(owner, at(0), WIRE_MAP_WRITE, 1, &mine) == 0);
	rwrite(owner, at(0), &mine, "untouched");
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int status = 0;

		lane = join(c, 1);
		strcpy((char *)data(lane), "evil");
		CHECK(map(lane, at(0), WIRE_MAP_WRITE, 1, &h) == 0);
		CHECK(map(lane, at(1), 0, 1, &ro) == 0);
		switch (i) {
		case 0:
			CHECK(unmap(lane, at(0), 1) == 0);
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(0), h.key, 8);
			break;
		case 1:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(1) - 4, h.key, 8);
			break;
		case 2:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(0) - 4, h.key, 8);
			break;
		case 3:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(0), mine.key, 8);
			break;
		case 4:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(1), h.key, 8);
			break;
		case 5:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(1), ro.key, 8);
			break;
		case 6:
			CHECK(map(lane, at(2), WIRE_MAP_WRITE, 1, &gone) == 0);
			CHECK(call_addrs(lane, WIRE_FREE, at(2), 1) == 0);
			CHECK(call_addrs(lane, WIRE_ALLOC, at(2), 1) == 0);
			status = rdma(lane, IBV_WR_RDMA_READ, at(2), gone.key, 8);
			break;
		case 7: /* the key of a region that is gone, under the address of one that has come */
			CHECK(map(lane, at(2), WIRE_MAP_WRITE, 1, &gone) == 0);
			CHECK(unmap(lane, at(2), 1) == 0);
			CHECK(map(lane, at(3), WIRE_MAP_WRITE, 1, &h) == 0);
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(3), gone.key, 8);
			CHECK(unmap(c, at(3), 1) == 0);
			break;
		case 8:
			status = rdma(lane, IBV_WR_RDMA_WRITE, 0, h.key, 8);
			break;
		}
		CHECK(status == IBV_WC_REM_ACCESS_ERR, "%s: %s", names[i], ibv_wc_status_str((enum ibv_wc_status)status));
		await_gone(lane);
		shut(lane, false);
		CHECK(holds(owner, at(0), &mine, "untouched"), "%s", names[i]);
		stat = stat_of(c);
		CHECK(stat.sessions == 2);
	}
	shut(owner, true);
	await_alone(c, 2); /* of the first two blocks */
	CHECK(call_addrs(c, WIRE_FREE, at(0), 4) == 0);
	await_alone(c, 0);
	shut(c, true);
}

/* What is not a message costs the lane, and nothing else. */
static void test_malformed(void)
{
	struct client *other = open_client();

	for (int i = 0; i < 12; i++) {
		struct wire_header header = {.length = WIRE_HEADER_SIZE, .type = WIRE_KEEPALIVE, .id = 9};
		struct ibv_send_wr wr = {.wr_id = SEND_ID, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED}, *bad;
		struct client *c;
		struct ibv_sge sge;
		size_t n = WIRE_HEADER_SIZE;
		bool immediate = true;

		if (i < 2)
			CHECK(try_connect(&c, NULL, 0) == 0);
		else
			c = open_client();
		sge = (struct ibv_sge){(uintptr_t)send_buffer(c), WIRE_HEADER_SIZE, c->region->lkey};
		wr.sg_list = &sge;
		wire_put_header(send_buffer(c), &header);
		switch (i) {
		case 0: /* anything before HELLO */
			break;
		case 1: /* nothing at all before HELLO */
			n = 0;
			break;
		case 2:
			immediate = false;
			break;
		case 3:
			n = WIRE_HEADER_SIZE - 1;
			break;
		case 4:
			n = 0;
			break;
		case 5: /* more than a buffer takes */
			n = WIRE_MSG_MAX + 1;
			break;
		case 6: /* longer than it says */
			n = WIRE_HEADER_SIZE + 8;
			break;
		case 7:
			header.length = 4096;
			wire_put_header(send_buffer(c), &header);
			break;
		case 8:
			header.type = WIRE_KEEPALIVE | WIRE_REPLY;
			wire_put_header(send_buffer(c), &header);
			break;
		case 9:
			header.type = WIRE_NOTICE;
			wire_put_header(send_buffer(c), &header);
			break;
		case 10: /* notices that were never sent */
			c->notices = 1;
			break;
		case 11: /* data that takes a receive buffer */
			wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
			wr.num_sge = 0;
			CHECK(ibv_post_send(c->id->qp, &wr, &bad) == 0);
			n = 0;
			break;
		}
		if (i != 11)
			post_send(c, n, immediate);
		CHECK(is_gone(c), "case %d: the brick keeps the lane", i);
		shut(c, i % 2);
		(void)stat_of(other);
	}
	await_alone(other, 0);
	shut(other, true);
}

/* A client without a buffer for the answer loses its lane; others do not notice. */
static void test_no_credit(void)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION, .version_max = WIRE_VERSION};
	uint8_t bytes[WIRE_PREAMBLE_SIZE];
	struct client *other = open_client(), *c;

	wire_put_preamble(bytes, &p);
	CHECK(connect_with(&c, bytes, sizeof(bytes), 0) == 0);
	{
		struct wire_hello hello = {.name = "greedy", .depth = 8};

		post_send(c, wire_put_hello(send_buffer(c), ++c->last_id, &hello), true);
	}
	for (int i = 0; i < 5; i++)
		(void)stat_of(other);
	await_gone(c);
	shut(c, false);
	await_alone(other, 0);
	shut(other, true);
}

/* A session that is preempted, and one that is revoked, is told, and its lanes end before its successor is answered. */
static void test_kill(void)
{
	struct client *a = open_client(), *b = open_client();
	struct wire_sessions who;
	struct wire_handle h, own;

	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(map(a, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	rwrite(a, at(0), &h, "before");
	CHECK(map(b, at(0), WIRE_MAP_EXCLUSIVE, 1, &own) == -EBUSY);
	CHECK(map(b, at(0), WIRE_MAP_EXCLUSIVE | WIRE_MAP_PREEMPT, 1, &own) == 0);
	strcpy((char *)data(a), "evil");
	CHECK(rdma(a, IBV_WR_RDMA_WRITE, at(0), h.key, 5) != IBV_WC_SUCCESS);
	await_gone(a);
	CHECK(a->notices == 1 && a->notice.kind == WIRE_NOTICE_REVOKED, "%u notices", a->notices);
	CHECK(holds(b, at(0), &own, "before"));
	shut(a, true);
	a = open_client();
	who.from = b->hello.session;
	post_send(a, wire_put_sessions(send_buffer(a), WIRE_REVOKE, ++a->last_id, &who), true);
	CHECK(answer(a, WIRE_REVOKE) == 0);
	await_gone(b);
	CHECK(b->notices == 1 && b->notice.kind == WIRE_NOTICE_REVOKED);
	shut(b, true);
	await_alone(a, 0);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	shut(a, true);
}

/* BYE is answered, then the brick hangs up; a lane that is named again takes the place of the old one. */
static void test_lanes(void)
{
	struct client *a = open_client(), *b = join(a, 1), *c;
	struct wire_handle h;

	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(map(a, at(0), WIRE_MAP_WRITE, 1, &h) == 0);
	rwrite(b, at(0) + 4096, &h, "on lane 1");
	c = join(a, 1);
	await_gone(b);
	CHECK(holds(c, at(0) + 4096, &h, "on lane 1"));
	post_send(c, wire_put_plain(send_buffer(c), WIRE_BYE, ++c->last_id, 0), true);
	CHECK(answer(c, WIRE_BYE) == 0);
	await_gone(c);
	shut(b, true);
	shut(c, true);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	await_alone(a, 0);
	shut(a, true);
}

/* Two hundred connections that come and go, in order and without a word, with maps and without. */
static void test_churn(void)
{
	struct client *other = open_client();
	struct wire_handle h[2];

	CHECK(call_addrs(other, WIRE_ALLOC, at(0), 2) == 0);
	for (int i = 0; i < 200; i++) {
		struct client *c;

		if (i % 5 == 0) { /* and gone again before a word */
			CHECK(try_connect(&c, NULL, 0) == 0);
			shut(c, i % 2);
			continue;
		}
		c = open_client();
		if (i % 3 == 0)
			CHECK(map(c, at(0), WIRE_MAP_WRITE, 2, h) == 0);
		shut(c, i % 4);
		if (i % 16 == 0)
			(void)stat_of(other);
	}
	await_alone(other, 0);
	CHECK(call_addrs(other, WIRE_FREE, at(0), 2) == 0);
	shut(other, true);
}

/* Runs the rest against the brick's other address, on the other device. */
/* Connections that do not say hello push each other out, the oldest first; one that does is let in. */
static void test_crowd(void)
{
	enum { SHARE = 12, MORE = 6 }; /* raw-verbs.sh gives brickd this share */
	struct client *quiet[SHARE + MORE], *c;

	for (int i = 0; i < SHARE + MORE; i++)
		CHECK(try_connect(&quiet[i], NULL, 0) == 0);
	for (int i = 0; i < MORE; i++)
		await_gone(quiet[i]);
	c = open_client();
	for (int i = 0; i < SHARE + MORE; i++)
		shut(quiet[i], true);
	await_alone(c, 0);
	shut(c, true);
}

static void on_other_device(void)
{
	address = getenv("RDMA_ADDRESS2");
	service = getenv("RDMA_PORT2");
	CHECK(address && service);
}

/* All lanes of a session are on one device: a lane that comes over another one is refused by name. */
static void test_device(void)
{
	struct client *a = open_client(), *b, *other;

	on_other_device();
	CHECK(try_connect(&b, a->token, 1) == -EXDEV);
	other = open_client();
	CHECK(call_addrs(other, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(call_addrs(other, WIRE_FREE, at(0), 1) == 0);
	shut(other, true);
	await_alone(a, 0);
	shut(a, true);
}

/* A link that goes down without a word: the lane ends, with its session and its locks, and others go on. */
static void test_dead(void)
{
	const char *down = getenv("RDMA_DOWN2"), *address1 = address, *service1 = service;
	struct client *a = open_client(), *dead;
	struct wire_handle h;
	uint64_t begin, until;

	CHECK(down);
	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	on_other_device();
	dead = open_client();
	CHECK(map(dead, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	address = address1;
	service = service1;
	CHECK(system(down) == 0);
	begin = now_ms();
	until = begin + 60000;
	while (stat_of(a).sessions > 1) {
		CHECK(now_ms() < until, "a dead peer is not noticed");
		usleep(100000);
	}
	printf("dead: noticed after %llu ms\n", (unsigned long long)(now_ms() - begin));
	CHECK(map(a, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	await_alone(a, 0);
	shut(a, true);
	shut(dead, false);
}

/*
 * The device is taken away under a session: its lanes end, and the brick serves on.  (Soft-RoCE goes only when the last
 * process has closed it, so the removal is left to wait.)
 */
static void test_removed(void)
{
	const char *address1 = address, *service1 = service;
	struct client *a = open_client(), *lost;
	struct wire_handle h;
	uint64_t until = now_ms() + 60000;

	CHECK(getenv("RDMA_REMOVE2"));
	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	on_other_device();
	lost = open_client();
	CHECK(map(lost, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	address = address1;
	service = service1;
	CHECK(system(getenv("RDMA_REMOVE2")) == 0);
	while (stat_of(a).sessions > 1) {
		CHECK(now_ms() < until, "the lanes of a device that is gone stay");
		usleep(100000);
	}
	CHECK(map(a, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	await_alone(a, 0);
	shut(a, true);
	shut(lost, false);
}

/*
 * Persistent memory under a brick that can RDMA FLUSH grants it; regions are registered for it, and persist by message
 * stays valid.  (Posting one is libbrick's affair.)
 */
static void test_flush(void)
{
	struct client *c, *plain = open_client();
	struct wire_handle h;

	CHECK(plain->hello.features == 0 && plain->hello.method == WIRE_PERSIST_TARGET);
	CHECK(try_connect(&c, NULL, 0) == 0);
	CHECK(hello_with(c, "flush", WIRE_FEATURE_FLUSH) == 0);
	CHECK(c->hello.features == WIRE_FEATURE_FLUSH && c->hello.method == WIRE_PERSIST_FLUSH, "method %u",
	      c->hello.method);
	CHECK(call_addrs(c, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(map(c, at(0), WIRE_MAP_WRITE, 1, &h) == 0);
	rwrite(c, at(0), &h, "flush");
	CHECK(persist(c, at(0), 6) == 0);
	CHECK(holds(c, at(0), &h, "flush"));
	CHECK(call_addrs(c, WIRE_FREE, at(0), 1) == 0);
	shut(plain, true);
	await_alone(c, 0);
	shut(c, true);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool asked; /* only when it is named: needs a second device, or persistent memory */
} tests[] = {
	{"preamble", test_preamble}, {"calls", test_calls}, {"refused", test_refused}, {"malformed", test_malformed},
	{"no-credit", test_no_credit}, {"kill", test_kill}, {"lanes", test_lanes}, {"churn", test_churn},
	{"crowd", test_crowd},
	{"flush", test_flush, true},
	{"device", test_device, true}, {"dead", test_dead, true}, {"removed", test_removed, true},
};

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: raw-verbs ADDRESS PORT [TEST ...]\n");
		return 2;
	}
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		bool wanted = argc == 3 && !tests[i].asked;
		uint64_t begin = now_ms();

		for (int j = 3; j < argc; j++)
			wanted |= strcmp(argv[j], tests[i].name) == 0;
		if (!wanted)
			continue;
		address = argv[1];
		service = argv[2];
		tests[i].run();
		printf("%s: ok (%llu ms)\n", tests[i].name, (unsigned long long)(now_ms() - begin));
		fflush(stdout);
	}
	return 0;
}
