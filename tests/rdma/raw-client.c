/* SPDX-License-Identifier: BSD-3-Clause */
/* raw-client - see raw-client.h. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "raw-client.h"

const char *address, *service;

uint8_t *send_buffer(struct client *c)
{
	return c->memory + (size_t)BUFFERS * WIRE_MSG_MAX;
}

uint8_t *data(struct client *c)
{
	return send_buffer(c) + 4 * WIRE_MSG_MAX;
}

uint64_t now_ms(void)
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
void shut(struct client *c, bool orderly)
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
int connect_with(struct client **out, const void *private_data, size_t n, unsigned receives)
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

int try_connect(struct client **out, const uint8_t *token, uint16_t lane)
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

bool is_gone(struct client *c)
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

void post_send(struct client *c, size_t n, bool immediate)
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
int answer(struct client *c, uint16_t type)
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

int hello_with(struct client *c, const char *name, uint64_t features)
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

int hello_as(struct client *c, const char *name)
{
	return hello_with(c, name, 0);
}

struct client *open_client(void)
{
	struct client *c;
	int ret = try_connect(&c, NULL, 0);

	CHECK(ret == 0, "status %d", ret);
	CHECK(hello_as(c, "raw") == 0);
	return c;
}

struct client *join(const struct client *first, uint16_t lane)
{
	uint64_t until = now_ms() + PATIENCE;
	struct client *c;
	int ret = try_connect(&c, first->token, lane);

	CHECK(ret == 0, "status %d", ret);
	CHECK(memcmp(c->token, first->token, sizeof(c->token)) == 0);
	CHECK(now_ms() < until);
	return c;
}

int call_addrs(struct client *c, uint16_t type, uint64_t addr, size_t count)
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

int map(struct client *c, uint64_t addr, uint32_t flags, size_t count, struct wire_handle *handles)
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

int unmap(struct client *c, uint64_t addr, size_t count)
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

int persist(struct client *c, uint64_t addr, uint32_t length)
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

struct wire_stat_reply stat_of(struct client *c)
{
	struct wire_stat_reply stat;

	post_send(c, wire_put_plain(send_buffer(c), WIRE_STAT, ++c->last_id, 0), true);
	CHECK(answer(c, WIRE_STAT) == 0);
	CHECK(wire_get_stat_reply(c->message, c->length, &stat) == 0);
	return stat;
}

/* A READ or WRITE between data() and the remote address: the status of its completion. */
int rdma(struct client *c, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey, uint32_t length)
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

void rwrite(struct client *c, uint64_t addr, const struct wire_handle *h, const char *text)
{
	strcpy((char *)data(c), text);
	CHECK(rdma(c, IBV_WR_RDMA_WRITE, addr, h->key, (uint32_t)strlen(text) + 1) == IBV_WC_SUCCESS, "%s",
	      ibv_wc_status_str((enum ibv_wc_status)c->status));
}

bool holds(struct client *c, uint64_t addr, const struct wire_handle *h, const char *text)
{
	memset(data(c), 0xee, 4096);
	CHECK(rdma(c, IBV_WR_RDMA_READ, addr, h->key, 4096) == IBV_WC_SUCCESS, "%s",
	      ibv_wc_status_str((enum ibv_wc_status)c->status));
	return memcmp(data(c), text, strlen(text) + 1) == 0;
}

/* Until only this session is left, with as many maps. */
void await_alone(struct client *c, uint32_t maps)
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
