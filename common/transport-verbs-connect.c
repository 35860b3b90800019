/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-verbs-connect - the connection of a lane: from the brick's address to a
 * queue pair that works, by way of the RDMA connection manager, and everything that
 * tells of its end other than a completion.
 *
 * The preambles travel as private data (brick-protocol(7), VERBS).  Whatever is waited
 * for here ends within the connection's time limit.
 */
#include "transport-verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* 7 means for ever on Soft-RoCE. */
#define RETRIES 6
/* A brick always has buffers posted; this many times 655 ms (the connection manager's timer) and the lane is lost. */
#define RNR_RETRIES 3
/* IB_CM_REJ_INVALID_SERVICE_ID (InfiniBand Architecture, volume 1, 12.6.7.2): nobody listens on the port. */
#define REJECT_NOBODY 8
/* IB_CM_REJ_CONSUMER_DEFINED: the listener itself refused. */
#define REJECT_LISTENER 28

/* All connections of the process: the events of a device come to whoever reads first. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, transport) list = LIST_HEAD_INITIALIZER(list);

/*
 * A brick hangs up when its device has refused an access.  The two messages travel apart, and the
 * refusal, which says whose fault it was, may be the later one.
 */
#define GRACE_MS 50

uint64_t verbs_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int left_ms(uint64_t deadline)
{
	uint64_t now = verbs_now_ms();

	return now >= deadline ? 0 : deadline - now > 60000 ? 60000 : (int)(deadline - now);
}

/* The next event of the connection manager, within the time: 0, or -ETIMEDOUT, ... */
static int next_event(struct transport *t, uint64_t deadline, struct rdma_cm_event **event)
{
	struct pollfd pfd = { .fd = t->channel->fd, .events = POLLIN };

	for (;;) {
		int left;

		if (rdma_get_cm_event(t->channel, event) == 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		left = left_ms(deadline);
		if (left == 0)
			return -ETIMEDOUT;
		if (poll(&pfd, 1, left) < 0 && errno != EINTR)
			return -errno;
	}
}

/* Waits for one event, and for no other. */
static int expect(struct transport *t, uint64_t deadline, enum rdma_cm_event_type wanted, const char *doing)
{
	struct rdma_cm_event *event;
	enum rdma_cm_event_type got;
	int status, ret = next_event(t, deadline, &event);

	if (ret < 0)
		return brick_fail(ret, "%s: %s: %s", t->text, doing, brick_errno_text(ret));
	got = event->event;
	status = event->status;
	rdma_ack_cm_event(event);
	if (got == wanted)
		return 0;
	if (status == -ENODEV)
		return brick_fail(status, "%s: no RDMA device of this host serves this address", t->text);
	return brick_fail(status < 0 ? status : -EHOSTUNREACH, "%s: %s: %s (%s)", t->text, doing,
			  status < 0 ? brick_errno_text(status) : "refused", rdma_event_str(got));
}

static int open_channel(struct transport *t)
{
	int flags;

	t->channel = rdma_create_event_channel();
	if (!t->channel)
		return brick_fail(errno ? -errno : -ENODEV, "%s: this host has no RDMA device that can be used (%s); "
				  "is one configured, and the module rdma_ucm loaded?", t->text, brick_errno_text(-errno));
	flags = fcntl(t->channel->fd, F_GETFL);
	if (fcntl(t->channel->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    rdma_create_id(t->channel, &t->id, t, RDMA_PS_TCP) < 0)
		return brick_fail(-errno, "%s: cannot ask for an RDMA connection: %s", t->text, brick_errno_text(-errno));
	return 0;
}

/* From the address to the device. */
static int find_way(struct transport *t, struct sockaddr *address, uint64_t deadline)
{
	int ret;

	if (rdma_resolve_addr(t->id, NULL, address, left_ms(deadline)) < 0) {
		ret = errno ? -errno : -EHOSTUNREACH;
		if (ret == -ENODEV)
			return brick_fail(ret, "%s: no RDMA device of this host serves this address", t->text);
		return brick_fail(ret, "%s: no way to the address: %s", t->text, brick_errno_text(ret));
	}
	ret = expect(t, deadline, RDMA_CM_EVENT_ADDR_RESOLVED, "no way to the address");
	if (ret < 0)
		return ret;
	if (!t->id->verbs)	/* the system may resolve its own loopback addresses without a device */
		return brick_fail(-ENODEV, "%s: no RDMA device of this host serves this address", t->text);
	if (rdma_resolve_route(t->id, left_ms(deadline)) < 0) {
		ret = errno ? -errno : -EHOSTUNREACH;
		if (ret == -ENODEV)
			return brick_fail(ret, "%s: no RDMA device of this host serves this address", t->text);
		return brick_fail(ret, "%s: no route to the address: %s", t->text, brick_errno_text(ret));
	}
	return expect(t, deadline, RDMA_CM_EVENT_ROUTE_RESOLVED, "no route to the address");
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* The queue pair, as large as the depth wants and the device can. */
static int make_queue_pair(struct transport *t)
{
	const struct ibv_device_attr *device = &t->domain->attr;
	struct ibv_qp_init_attr_ex attr = {
		.qp_type = IBV_QPT_RC,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = t->domain->pd,
		.send_cq = t->cq,
		.recv_cq = t->cq,
	};
	const struct { unsigned sges, inlined; } tries[] = { { VERBS_SGES, VERBS_INLINE }, { 4, 64 }, { 1, 0 } };
	int error = 0;

	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		/* Devices do not tell how much of one they give up for the other. */
		attr.cap = (struct ibv_qp_cap){
			.max_send_wr = t->ring_size,
			.max_recv_wr = t->receives_max,
			.max_send_sge = least(tries[i].sges, (unsigned)device->max_sge),
			.max_recv_sge = 1,
			.max_inline_data = tries[i].inlined,
		};
#if HAVE_DECL_IBV_WR_FLUSH
		if (t->domain->can_flush) {
			attr.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
			attr.send_ops_flags = IBV_QP_EX_WITH_SEND_WITH_IMM | IBV_QP_EX_WITH_RDMA_WRITE |
				IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_FLUSH;
		}
#endif
		t->sges = attr.cap.max_send_sge;
		if (rdma_create_qp_ex(t->id, &attr) == 0) {
			t->qp = t->id->qp;
			t->inline_max = least(attr.cap.max_inline_data, VERBS_INLINE);
			t->read_sges = device->max_sge_rd > 0 ? least(t->sges, (unsigned)device->max_sge_rd) : t->sges;
			return 0;
		}
		error = errno ? -errno : -EIO;
	}
	return brick_fail(error, "%s: the device %s gave no queue pair for %u requests in flight: %s", t->text,
			  t->domain->device, t->depth, brick_errno_text(error));
}

static int watch(struct transport *t, int fd, uint32_t what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = what };

	return epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

enum { WOKE_COMPLETION, WOKE_MANAGER, WOKE_DEVICE, WOKE_OTHER };

static int make_descriptors(struct transport *t)
{
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->comp_channel = ibv_create_comp_channel(t->id->verbs);
	if (t->epoll < 0 || t->wake < 0 || !t->comp_channel || nonblocking(t->comp_channel->fd) < 0 ||
	    nonblocking(t->id->verbs->async_fd) < 0 || watch(t, t->comp_channel->fd, WOKE_COMPLETION) < 0 ||
	    watch(t, t->channel->fd, WOKE_MANAGER) < 0 || watch(t, t->id->verbs->async_fd, WOKE_DEVICE) < 0 ||
	    watch(t, t->wake, WOKE_OTHER) < 0)
		return brick_fail(-errno, "%s: cannot make a descriptor to wait on: %s", t->text, brick_errno_text(-errno));
	return 0;
}

static int make_queues(struct transport *t)
{
	const struct ibv_device_attr *device = &t->domain->attr;
	unsigned most = (unsigned)device->max_qp_wr, size;
	int ret;

	t->receives_max = t->depth + VERBS_NOTICES;
	t->ring_size = 2 * t->depth < 64 ? 64 : 2 * t->depth;
	if (t->ring_size > most)
		t->ring_size = most;
	size = t->ring_size + t->receives_max;
	if (t->receives_max > most || t->ring_size < VERBS_BATCH || size > (unsigned)device->max_cqe)
		return brick_fail(-EINVAL, "%s: the device %s has no queues for a depth of %u (work requests: %u, completions: "
				  "%d); ask for less", t->text, t->domain->device, t->depth, most, device->max_cqe);
	ret = make_descriptors(t);
	if (ret < 0)
		return ret;
	t->cq = ibv_create_cq(t->id->verbs, (int)size, t, t->comp_channel, 0);
	if (!t->cq)
		return brick_fail(errno ? -errno : -ENOMEM, "%s: the device %s gave no completion queue of %u: %s", t->text,
				  t->domain->device, size, brick_errno_text(-errno));
	ret = make_queue_pair(t);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&list_lock);
	LIST_INSERT_HEAD(&list, t, link);
	t->listed = true;
	pthread_mutex_unlock(&list_lock);
	return verbs_queue_open(t);
}

/*
 * How long the device waits for an acknowledgement, as the exponent of 4.096 us.  With all its retries it shall
 * take half of the time limit at most, as devices may take longer than they are told, and no more than the some 4 s
 * that connection managers choose by themselves: a frame that got lost stalls the lane for one such wait.
 */
static uint8_t ack_timeout(uint32_t timeout_ms)
{
	uint64_t limit_us = (uint64_t)timeout_ms * 1000 / 2 / (RETRIES + 1);
	uint8_t exponent = 8;

	while (exponent < 17 && (4096ull << (exponent + 1)) / 1000 <= limit_us)
		exponent++;
	return exponent;
}

static int take_reply(struct transport *t, const struct rdma_cm_event *event, struct wire_preamble_reply *reply)
{
	const struct rdma_conn_param *param = &event->param.conn;

	if (!param->private_data || param->private_data_len < WIRE_PREAMBLE_REPLY_SIZE ||
	    wire_get_preamble_reply(param->private_data, WIRE_PREAMBLE_REPLY_SIZE, reply) < 0)
		return brick_fail(-EPROTO, "%s: who answers there is no brick", t->text);
	return 0;
}

/* A refusal with a reason of the brick's own is 0, with the reply. */
static int rejected(struct transport *t, const struct rdma_cm_event *event, struct wire_preamble_reply *reply)
{
	const struct rdma_conn_param *param = &event->param.conn;
	bool silent = true;
	int ret;

	for (unsigned i = 0; param->private_data && i < param->private_data_len; i++)
		silent = silent && ((const uint8_t *)param->private_data)[i] == 0;
	if (event->status == REJECT_NOBODY || event->status == -ECONNREFUSED)
		return brick_fail(-ECONNREFUSED, "%s: cannot connect: %s (is brickd running, and listening there?)", t->text,
				  brick_errno_text(-ECONNREFUSED));
	if (silent)
		return brick_fail(-ECONNREFUSED, event->status == REJECT_LISTENER ?
				  "%s: the connection was refused without a reason: the brick is ending or full, or it is no "
				  "brick" : "%s: the connection was refused by the RDMA connection manager (reason %d of its REJ "
				  "message)", t->text, event->status);
	ret = take_reply(t, event, reply);
	if (ret == 0 && reply->status == 0)
		ret = brick_fail(-EPROTO, "%s: the brick refused the connection with a status of 0", t->text);
	return ret;
}

static int shake_hands(struct transport *t, const struct wire_preamble *preamble, struct wire_preamble_reply *reply,
		       uint64_t deadline)
{
	const struct ibv_device_attr *device = &t->domain->attr;
	uint8_t bytes[WIRE_PREAMBLE_SIZE], timeout = ack_timeout(t->timeout_ms);
	struct rdma_conn_param param = {
		.private_data = bytes,
		.private_data_len = sizeof(bytes),
		.initiator_depth = (uint8_t)least((unsigned)device->max_qp_init_rd_atom, 255),
		.retry_count = RETRIES,
		.rnr_retry_count = RNR_RETRIES,
	};
	struct rdma_cm_event *event;
	int ret;

	/* Kernels before 5.1 know no such option, and choose by themselves. */
	rdma_set_option(t->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout));
	wire_put_preamble(bytes, preamble);
	if (rdma_connect(t->id, &param) < 0)
		return brick_fail(-errno, "%s: cannot connect: %s", t->text, brick_errno_text(-errno));
	ret = next_event(t, deadline, &event);
	if (ret < 0)
		return brick_fail(ret, "%s: no answer from the brick: %s", t->text, brick_errno_text(ret));
	switch (event->event) {
	case RDMA_CM_EVENT_ESTABLISHED:
		t->connected = true;
		/* The kernel has set up the queue pair for as many READs as the brick's device serves. */
		ret = take_reply(t, event, reply);
		if (ret == 0 && reply->status == 0 && event->param.conn.initiator_depth == 0)
			ret = brick_fail(-EPROTO, "%s: the brick admits no RDMA READ", t->text);
		break;
	case RDMA_CM_EVENT_REJECTED:
		ret = rejected(t, event, reply);
		break;
	case RDMA_CM_EVENT_UNREACHABLE:
		ret = brick_fail(event->status < 0 ? event->status : -ETIMEDOUT, "%s: no answer from the brick: %s", t->text,
				 brick_errno_text(event->status < 0 ? event->status : -ETIMEDOUT));
		break;
	default:
		ret = brick_fail(event->status < 0 ? event->status : -ECONNRESET, "%s: cannot connect: %s", t->text,
				 rdma_event_str(event->event));
		break;
	}
	rdma_ack_cm_event(event);
	return ret;
}

static int connect_to(struct transport_domain *domain, const struct transport_options *options, struct sockaddr *address,
		      uint64_t deadline, const struct wire_preamble *preamble, struct wire_preamble_reply *reply,
		      struct transport **transport)
{
	struct transport *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return brick_fail(-ENOMEM, "%s: no memory for a connection", options->text);
	t->domain = domain;
	t->text = options->text;
	t->events = options->events;
	t->timeout_ms = options->timeout_ms;
	t->depth = options->depth;
	t->epoll = t->wake = -1;
	ret = open_channel(t);
	if (ret == 0)
		ret = find_way(t, address, deadline);
	if (ret == 0)
		ret = verbs_domain_bind(domain, t->text, t->id);
	if (ret == 0)
		ret = make_queues(t);
	if (ret == 0)
		ret = shake_hands(t, preamble, reply, deadline);
	if (ret < 0 || !t->connected) {
		verbs_close(t);
		return ret;
	}
	*transport = t;
	return 0;
}

int verbs_connect(struct transport_domain *domain, const struct transport_options *options,
		  const struct wire_preamble *preamble, struct wire_preamble_reply *reply, struct transport **transport)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	uint64_t deadline = verbs_now_ms() + options->timeout_ms;
	struct addrinfo *addresses = NULL;
	int error, ret = -EHOSTUNREACH;

	*transport = NULL;
	error = getaddrinfo(options->endpoint->host, options->endpoint->port, &hints, &addresses);
	if (error) {
		ret = error == EAI_SYSTEM ? -errno : error == EAI_MEMORY ? -ENOMEM : error == EAI_AGAIN ? -EAGAIN : ret;
		return brick_fail(ret, "%s: cannot resolve the host's name: %s", options->text,
				  error == EAI_SYSTEM ? brick_errno_text(ret) : gai_strerror(error));
	}
	/* Each address has its share of the time that is left. */
	for (struct addrinfo *a = addresses; a; a = a->ai_next) {
		uint64_t now = verbs_now_ms();
		unsigned count = 0;

		for (struct addrinfo *b = a; b; b = b->ai_next)
			count++;
		ret = connect_to(domain, options, a->ai_addr, now < deadline ? now + (deadline - now) / count : now, preamble,
				 reply, transport);
		if (ret == 0 || ret == -EPROTO || ret == -EXDEV)
			break;
	}
	freeaddrinfo(addresses);
	return ret;
}

/* The end. */

void verbs_close(struct transport *t)
{
	if (t->listed) {
		pthread_mutex_lock(&list_lock);
		LIST_REMOVE(t, link);
		pthread_mutex_unlock(&list_lock);
	}
	if (t->connected)
		rdma_disconnect(t->id);
	/* With the queue pair the device forgets the memory of what was in flight. */
	if (t->qp)
		rdma_destroy_qp(t->id);
	verbs_queue_close(t);
	if (t->cq) {
		if (t->unacked)
			ibv_ack_cq_events(t->cq, t->unacked);
		ibv_destroy_cq(t->cq);
	}
	if (t->comp_channel)
		ibv_destroy_comp_channel(t->comp_channel);
	if (t->id)
		rdma_destroy_id(t->id);
	if (t->channel)
		rdma_destroy_event_channel(t->channel);
	if (t->epoll >= 0)
		close(t->epoll);
	if (t->wake >= 0)
		close(t->wake);
	free(t);
}

int verbs_broken(struct transport *t, int error)
{
	if (!t->error) {
		t->error = error;
		snprintf(t->error_text, sizeof(t->error_text), "%s", brick_error());
	}
	return t->error;
}

static void look_at_manager(struct transport *t)
{
	struct rdma_cm_event *event;

	while (rdma_get_cm_event(t->channel, &event) == 0) {
		enum rdma_cm_event_type type = event->event;

		rdma_ack_cm_event(event);
		if (type == RDMA_CM_EVENT_DISCONNECTED) {
			if (!t->error)
				t->grace_ms = verbs_now_ms() + GRACE_MS;
			verbs_broken(t, brick_fail(-ECONNRESET, "%s: the brick closed the connection", t->text));
		} else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
			verbs_broken(t, brick_fail(-ECONNRESET, "%s: the device %s was removed", t->text, t->domain->device));
		} else if (type != RDMA_CM_EVENT_TIMEWAIT_EXIT && type != RDMA_CM_EVENT_ADDR_CHANGE) {
			verbs_broken(t, brick_fail(-ECONNRESET, "%s: the connection broke: %s", t->text, rdma_event_str(type)));
		}
	}
}

/* Whether the event is the end of that connection. */
static bool concerns(const struct transport *t, const struct ibv_context *context, const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_PATH_MIG_ERR:
		return event->element.qp == t->qp;
	case IBV_EVENT_CQ_ERR:
		return event->element.cq == t->cq;
	case IBV_EVENT_DEVICE_FATAL:
		return t->domain->context == context;
	default:		/* ports come and go: the retries decide */
		return false;
	}
}

/*
 * The context is one for all sessions of the process: an event that is another connection's is left with
 * that one, and its sleeper woken.  Under the lock, no connection goes before it was told.
 */
static void look_at_device(struct ibv_context *context)
{
	struct ibv_async_event event;
	struct transport *other;

	pthread_mutex_lock(&list_lock);
	while (ibv_get_async_event(context, &event) == 0) {
		LIST_FOREACH(other, &list, link) {
			const uint64_t one = 1;

			if (!concerns(other, context, &event))
				continue;
			atomic_store(&other->async, (int)event.event_type + 1);
			if (write(other->wake, &one, sizeof(one)) < 0)
				continue;	/* it is full: somebody is awake */
		}
		ibv_ack_async_event(&event);
	}
	pthread_mutex_unlock(&list_lock);
}

void verbs_look(struct transport *t)
{
	struct epoll_event events[4];
	int event, n = epoll_wait(t->epoll, events, 4, 0);

	for (int i = 0; i < n; i++) {
		uint64_t count;

		if (events[i].data.u32 == WOKE_MANAGER)
			look_at_manager(t);
		else if (events[i].data.u32 == WOKE_DEVICE)
			look_at_device(t->domain->context);
		else if (events[i].data.u32 == WOKE_OTHER && read(t->wake, &count, sizeof(count)) < 0)
			continue;	/* taken already */
	}
	event = atomic_load(&t->async);
	if (event && !t->error)
		verbs_broken(t, brick_fail(-ECONNRESET, "%s: the connection broke: the device %s says: %s", t->text,
					   t->domain->device, ibv_event_type_str((enum ibv_event_type)(event - 1))));
}
