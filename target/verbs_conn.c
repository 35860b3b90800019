/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_conn - a lane over a queue pair: how it is accepted, waits, notices that
 * its peer is gone, and ends (brick-protocol(7), VERBS).
 *
 * The lane's thread spins a bounded while on the completion queue, then arms it,
 * looks again, and sleeps on it, on the connection manager's events, and on an
 * eventfd by which others wake it.  Whoever sends may poll the queue too: what it
 * finds stays in order, under conn.lock.
 */
#include "verbs-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "report.h"
#include "stats.h"

#define SPIN_MAX_NS   20000u
#define SPIN_MIN_NS   1000u
#define SILENCE_NS    10000000000ull /* of nothing to hear: ask the peer's device */
#define STALL_NS      30000000000ull /* a send that is not acknowledged for so long ends the lane */
#define LINGER_NS     1000000000ull  /* an end in order: what was sent may arrive */
#define LINGER_END_NS 200000000ull   /* a session that is killed: the notice may */
#define ROOM_PAUSE_NS 200000	     /* no room to send */
#define RNR_RETRY     6		     /* how often the initiator may try when we have no buffer: never, in order */

static struct verbs_conn *of(struct conn *conn)
{
	return (struct verbs_conn *)conn;
}

static void wake(struct verbs_conn *conn)
{
	uint64_t one = 1;

	if (write(conn->wake, &one, sizeof(one)) < 0)
		report_debug("eventfd: %s", strerror(errno));
}

void verbs_conn_fail(struct verbs_conn *conn, int error)
{
	int none = 0;

	/* the first reason is the one; what follows is flushed because of it */
	if (atomic_compare_exchange_strong(&conn->failed, &none, error))
		wake(conn);
}

static void conn_start(struct conn *c, const _Atomic bool *stop)
{
	of(c)->stop = stop;
}

static int conn_preamble(struct conn *c, uint8_t *preamble)
{
	if (!of(c)->preamble_whole)
		return -EPROTO;
	memcpy(preamble, of(c)->preamble, WIRE_PREAMBLE_SIZE);
	return 0;
}

static void conn_refuse(struct conn *c, const uint8_t *reply)
{
	if (rdma_reject(of(c)->id, reply, WIRE_PREAMBLE_REPLY_SIZE))
		report_debug("%s: rdma_reject: %s", of(c)->peer, strerror(errno));
}

static int conn_domain_new(struct conn *c, struct verbs_domain **domain)
{
	int ret = verbs_domain_new(of(c)->id, domain);

	if (!ret)
		of(c)->domain = *domain;
	return ret;
}

static int conn_domain_join(struct conn *c, struct verbs_domain *domain)
{
	struct verbs_conn *conn = of(c);

	if (conn->id->verbs != domain->device->context) {
		if (verbs_may_say(domain->device))
			report_warning("%s: came over %s, but its session is on %s: all lanes of a session go over one "
				       "device",
				       conn->peer, ibv_get_device_name(conn->id->verbs->device), domain->device->name);
		return -EXDEV;
	}
	conn->domain = domain;
	return 0;
}

static int conn_accept(struct conn *c, const uint8_t *reply, uint32_t depth_max)
{
	struct verbs_conn *conn = of(c);
	struct rdma_conn_param param = {
		.private_data = reply,
		.private_data_len = WIRE_PREAMBLE_REPLY_SIZE,
		.flow_control = 1,
		.rnr_retry_count = RNR_RETRY,
	};
	int ret;

	if (!conn->domain)
		return -EINVAL;
	if (conn->responder_resources > conn->domain->device->attr.max_qp_rd_atom)
		conn->responder_resources = (uint8_t)conn->domain->device->attr.max_qp_rd_atom;
	ret = verbs_queue_make(conn, depth_max);
	if (!ret)
		ret = verbs_queue_ready(conn);
	if (!ret) {
		verbs_device_attach(conn->domain->device, conn);
		param.responder_resources = conn->responder_resources;
		param.qp_num = conn->qp->qp_num;
		if (rdma_accept(conn->id, &param)) {
			ret = -errno;
			report_info("%s: rdma_accept: %s", conn->peer, strerror(errno));
			verbs_device_detach(conn->domain->device, conn);
		}
	}
	if (ret) {
		struct wire_preamble_reply refusal = {.status = wire_status(ret), .version = WIRE_VERSION};
		uint8_t message[WIRE_PREAMBLE_REPLY_SIZE];

		wire_put_preamble_reply(message, &refusal);
		conn_refuse(c, message);
		verbs_queue_delete(conn);
		return ret;
	}
	conn->heard_ns = now_ns();
	return 0;
}

static int conn_depth(struct conn *c, uint32_t depth)
{
	return verbs_queue_grow(of(c), depth + VERBS_RECEIVES_MIN);
}

static void conn_deadline(struct conn *c, uint64_t ns)
{
	of(c)->deadline_ns = ns;
}

/* The connection manager's word.  In the lane's thread. */
static void cm_event(struct verbs_conn *conn)
{
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;
	int status;

	if (rdma_get_cm_event(conn->channel, &event)) {
		if (errno != EAGAIN && errno != EINTR)
			verbs_conn_fail(conn, -ENODEV);
		return;
	}
	type = event->event;
	status = event->status;
	rdma_ack_cm_event(event);
	switch (type) {
	case RDMA_CM_EVENT_ESTABLISHED:
		atomic_store(&conn->established, true);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		atomic_store(&conn->ended, true);
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		report_error("%s: %s: the device goes away; its lane ends", conn->domain->device->name, conn->peer);
		verbs_conn_fail(conn, -ENODEV);
		break;
	case RDMA_CM_EVENT_ADDR_CHANGE:
		report_warning("%s: %s: the address has moved to another device; its lane ends",
			       conn->domain->device->name, conn->peer);
		verbs_conn_fail(conn, -ECONNRESET);
		break;
	default: /* the handshake came to nothing */
		report_info("%s: %s: %s, status %d", conn->domain->device->name, conn->peer, rdma_event_str(type),
			    status);
		atomic_store(&conn->ended, true);
	}
}

static void take_completion_events(struct verbs_conn *conn)
{
	struct ibv_cq *cq;
	void *context;

	while (!ibv_get_cq_event(conn->completions, &cq, &context)) {
		if (++conn->cq_events < 256)
			continue;
		ibv_ack_cq_events(conn->cq, conn->cq_events);
		conn->cq_events = 0;
	}
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return !a || (b && b < a) ? b : a;
}

/* Sleeps until something may have happened, or until the next moment to look at the clock. */
static int sleep_until(struct verbs_conn *conn, uint64_t until_ns)
{
	struct pollfd p[3] = {
		{.fd = conn->completions->fd, .events = POLLIN},
		{.fd = conn->channel->fd, .events = POLLIN},
		{.fd = conn->wake, .events = POLLIN},
	};
	uint64_t now = now_ns(), count;
	int ms = until_ns <= now ? 0 : until_ns - now > 60000000000ull ? 60000 : (int)((until_ns - now) / 1000000 + 1);

	if (poll(p, 3, ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[0].revents)
		take_completion_events(conn);
	if (p[1].revents)
		cm_event(conn);
	if (p[2].revents && read(conn->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

/* What has come, with conn.lock held: 0 a message, 1 the end, -EAGAIN nothing yet, or what is wrong. */
static int look(struct verbs_conn *conn, struct verbs_arrival *arrival)
{
	verbs_queue_reap(conn);
	if (atomic_load(conn->stop) || atomic_load(&conn->cut))
		return -ECONNRESET;
	if (verbs_queue_take(conn, arrival))
		return 0;
	if (atomic_load(&conn->ended) || atomic_load(&conn->no_more))
		return 1;
	return atomic_load(&conn->failed) ? atomic_load(&conn->failed) : -EAGAIN;
}

static int look_locked(struct verbs_conn *conn, struct verbs_arrival *arrival)
{
	int ret;

	pthread_mutex_lock(&conn->lock);
	ret = look(conn, arrival);
	pthread_mutex_unlock(&conn->lock);
	return ret;
}

/* A peer that is silent is asked; one that does not acknowledge is given up.  *until: when to look again. */
static int mind_peer(struct verbs_conn *conn, uint64_t *until)
{
	uint64_t now = now_ns();
	int ret = 0;

	pthread_mutex_lock(&conn->lock);
	if (conn->signaled_ns) {
		*until = conn->signaled_ns + STALL_NS;
		if (now >= *until)
			ret = -ETIMEDOUT;
	} else if (now - conn->heard_ns >= SILENCE_NS) {
		ret = verbs_queue_probe(conn);
		if (ret == -EAGAIN)
			ret = 0; /* so much is on its way that an answer is due anyway */
		*until = now + STALL_NS;
	} else {
		*until = conn->heard_ns + SILENCE_NS;
	}
	pthread_mutex_unlock(&conn->lock);
	if (conn->deadline_ns && now >= conn->deadline_ns)
		ret = -ETIMEDOUT;
	*until = earlier(*until, conn->deadline_ns);
	return ret;
}

/* Spinning that finds something is allowed to go on for longer the next time. */
static int spin(struct verbs_conn *conn, struct verbs_arrival *arrival)
{
	uint64_t until = now_ns() + conn->spin_ns;
	int ret;

	do
		ret = look_locked(conn, arrival);
	while (ret == -EAGAIN && now_ns() < until);
	if (ret == -EAGAIN)
		conn->spin_ns = conn->spin_ns / 2 < SPIN_MIN_NS ? SPIN_MIN_NS : conn->spin_ns / 2;
	else
		conn->spin_ns = conn->spin_ns * 2 > SPIN_MAX_NS ? SPIN_MAX_NS : conn->spin_ns * 2;
	return ret;
}

static int await_message(struct verbs_conn *conn, struct verbs_arrival *arrival)
{
	uint64_t until;
	int ret = spin(conn, arrival);

	while (ret == -EAGAIN) {
		ret = mind_peer(conn, &until);
		if (ret)
			return ret;
		if (ibv_req_notify_cq(conn->cq, 0))
			return -EIO;
		ret = look_locked(conn, arrival);
		if (ret != -EAGAIN)
			break;
		ret = sleep_until(conn, until);
		if (!ret)
			ret = look_locked(conn, arrival);
	}
	return ret;
}

static int conn_header(struct conn *c, struct wire_header *header)
{
	struct verbs_conn *conn = of(c);
	struct verbs_arrival arrival;
	int ret = await_message(conn, &arrival);

	if (ret)
		return ret;
	pthread_mutex_lock(&conn->lock);
	/* never more than were sent, never fewer than before */
	if (arrival.immediate - conn->notices_taken > conn->notices_sent - conn->notices_taken)
		ret = -EPROTO;
	else
		conn->notices_taken = arrival.immediate;
	pthread_mutex_unlock(&conn->lock);
	if (!ret)
		ret = wire_get_header(conn->message, arrival.length, header);
	if (!ret && header->length != arrival.length)
		ret = -EPROTO;
	return ret;
}

static int conn_body(struct conn *c, const struct wire_header *header, uint8_t **message)
{
	*message = of(c)->message;
	return 0;
}

static int conn_skip(struct conn *c, const struct wire_header *header)
{
	return 0; /* it came whole */
}

static int conn_send(struct conn *c, struct iovec *iov, int count, int fd, size_t *sent)
{
	struct verbs_conn *conn = of(c);
	uint64_t begin = 0;

	*sent = 0;
	for (;;) {
		const struct timespec pause = {.tv_nsec = ROOM_PAUSE_NS};
		int ret;

		if (atomic_load(&conn->failed) || atomic_load(&conn->ended) || atomic_load(&conn->cut))
			return -ECONNRESET;
		pthread_mutex_lock(&conn->lock);
		ret = verbs_queue_send(conn, iov, count, false);
		pthread_mutex_unlock(&conn->lock);
		if (ret != -EAGAIN)
			return ret;
		/* rare: the peer's device has not acknowledged what was sent, and either does so soon or never */
		if (atomic_load(conn->stop))
			return -ECONNRESET;
		if (!begin)
			begin = now_ns();
		else if (now_ns() - begin > STALL_NS)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}

static bool conn_notice_room(struct conn *c)
{
	struct verbs_conn *conn = of(c);
	bool may;

	pthread_mutex_lock(&conn->lock);
	may = conn->qp && conn->notices_sent - conn->notices_taken < VERBS_NOTICES;
	conn->notices_sent += may;
	pthread_mutex_unlock(&conn->lock);
	return may;
}

static int conn_send_now(struct conn *c, const void *message, size_t n)
{
	struct verbs_conn *conn = of(c);
	struct iovec iov = {.iov_base = (void *)message, .iov_len = n};
	int ret;

	pthread_mutex_lock(&conn->lock);
	ret = verbs_queue_send(conn, &iov, 1, false);
	if (ret)
		conn->notices_sent--; /* it did not go out, and nobody will take it */
	pthread_mutex_unlock(&conn->lock);
	return ret;
}

static void conn_shutdown(struct conn *c, int how)
{
	struct verbs_conn *conn = of(c);

	if (how == SHUT_RDWR)
		atomic_store(&conn->cut, true);
	else if (how == SHUT_RD)
		atomic_store(&conn->no_more, true);
	wake(conn);
}

static void conn_linger(struct conn *c, unsigned ms)
{
	/* sever waits for the acknowledgement of what was sent */
}

static void conn_await_close(struct conn *c)
{
	/* only for transports whose mappings cannot be taken back */
}

static bool conn_hung_up(const struct conn *c)
{
	const struct verbs_conn *conn = (const struct verbs_conn *)c;
	struct pollfd p = {.fd = conn->channel->fd, .events = POLLIN};

	if (atomic_load(&conn->ended) || atomic_load(&conn->failed))
		return true;
	/* once it is established, every word of the connection manager is one of its end; its thread may be busy */
	return atomic_load(&conn->established) && poll(&p, 1, 0) > 0;
}

/* Waits until the peer's device has all that was sent, or until it is clear that it will not. */
static void flush(struct verbs_conn *conn, uint64_t ns)
{
	uint64_t until = now_ns() + ns;
	bool asked = false;

	for (;;) {
		bool done;

		pthread_mutex_lock(&conn->lock);
		verbs_queue_reap(conn);
		done = conn->sends_done == conn->sends_posted;
		if (!done && !asked && conn->signaled < conn->sends_posted)
			asked = verbs_queue_probe(conn) == 0;
		pthread_mutex_unlock(&conn->lock);
		if (done || now_ns() >= until || atomic_load(&conn->failed) || atomic_load(&conn->ended) ||
		    atomic_load(&conn->cut))
			return;
		if (ibv_req_notify_cq(conn->cq, 0))
			return;
		pthread_mutex_lock(&conn->lock);
		verbs_queue_reap(conn);
		done = conn->sends_done == conn->sends_posted;
		pthread_mutex_unlock(&conn->lock);
		if (!done && sleep_until(conn, until))
			return;
	}
}

/*
 * The peer's last word of the handshake may still be on its way when its messages are here already; before that, the
 * connection manager cannot tell the peer that we hang up.
 */
static void await_established(struct verbs_conn *conn)
{
	uint64_t until = now_ns() + LINGER_NS;

	while (!atomic_load(&conn->established) && !atomic_load(&conn->ended) && now_ns() < until)
		if (sleep_until(conn, until))
			return;
}

static void conn_sever(struct conn *c)
{
	struct verbs_conn *conn = of(c);

	if (!conn->qp) {
		conn->domain = NULL;
		return;
	}
	flush(conn, atomic_load(&conn->no_more) ? LINGER_END_NS : LINGER_NS);
	await_established(conn);
	verbs_device_detach(conn->domain->device, conn);
	if (rdma_disconnect(conn->id)) /* fails when the peer was first */
		report_debug("%s: rdma_disconnect: %s", conn->peer, strerror(errno));
	verbs_queue_delete(conn);
	conn->domain = NULL; /* the session's, which may end now */
}

static void conn_close(struct conn *c)
{
	struct verbs_conn *conn = of(c);

	if (conn->id && rdma_destroy_id(conn->id))
		report_debug("%s: rdma_destroy_id: %s", conn->peer, strerror(errno));
	if (conn->channel)
		rdma_destroy_event_channel(conn->channel);
	if (conn->wake >= 0)
		close(conn->wake);
	pthread_mutex_destroy(&conn->lock);
	free(conn);
}

static const struct conn_ops verbs_ops = {
	.start = conn_start,
	.preamble = conn_preamble,
	.accept = conn_accept,
	.refuse = conn_refuse,
	.domain_new = conn_domain_new,
	.domain_join = conn_domain_join,
	.depth = conn_depth,
	.deadline = conn_deadline,
	.header = conn_header,
	.body = conn_body,
	.skip = conn_skip,
	.send = conn_send,
	.notice_room = conn_notice_room,
	.send_now = conn_send_now,
	.shutdown = conn_shutdown,
	.linger = conn_linger,
	.await_close = conn_await_close,
	.hung_up = conn_hung_up,
	.sever = conn_sever,
	.close = conn_close,
};

int verbs_conn_new(struct conn **out, struct rdma_cm_id *id, const struct rdma_conn_param *param, const char *peer)
{
	static const _Atomic bool never;
	struct verbs_conn *conn = calloc(1, sizeof(*conn));
	int ret;

	if (!conn) {
		rdma_reject(id, NULL, 0);
		rdma_destroy_id(id);
		return -ENOMEM;
	}
	conn->conn.ops = &verbs_ops;
	conn->id = id;
	conn->stop = &never;
	conn->spin_ns = SPIN_MAX_NS;
	conn->responder_resources = param->responder_resources ? param->responder_resources : 1;
	snprintf(conn->peer, sizeof(conn->peer), "%s", peer);
	pthread_mutex_init(&conn->lock, NULL);
	/* the manager pads private data: what lies behind the preamble means nothing */
	if (param->private_data && param->private_data_len >= WIRE_PREAMBLE_SIZE) {
		memcpy(conn->preamble, param->private_data, WIRE_PREAMBLE_SIZE);
		conn->preamble_whole = true;
	}
	conn->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (conn->wake < 0)
		goto fail;
	conn->channel = rdma_create_event_channel();
	if (!conn->channel || fcntl(conn->channel->fd, F_SETFL, O_NONBLOCK) || rdma_migrate_id(id, conn->channel))
		goto fail;
	*out = &conn->conn;
	return 0;
fail:
	ret = -errno;
	rdma_reject(id, NULL, 0);
	conn_close(&conn->conn);
	return ret;
}
