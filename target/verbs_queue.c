/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_queue - a lane's queue pair: the buffers that messages are received into,
 * the numbers under which they are sent, and the one completion queue of both.
 *
 * Sends are numbered, and complete in order: one in VERBS_SENDS_SIGNALED asks for
 * a completion, and it frees all before it.  A message that fits into the work
 * request needs no buffer; the others take one of a few, and always ask.
 */
#include "verbs-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "report.h"
#include "stats.h"

#define SEND_ID	    (1ull << 63) /* in wr_id: a send's number, else the number of a receive buffer */
#define POLLED	    16
#define RETRIES	    6  /* 7 is for ever on some devices */
#define TIMEOUT_MIN 14 /* 4.096 us * 2^n: 67 ms */
#define TIMEOUT_MAX 18 /* 1.07 s; 0 would be none */
#define RNR_TIMER   14 /* 2.56 ms: when the peer may try again to reach us; in order it never has to */

static int buffers_make(struct verbs_conn *conn, struct verbs_buffers *buffers, size_t count)
{
	size_t size = count * WIRE_MSG_MAX;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (memory == MAP_FAILED)
		return -ENOMEM;
	buffers->region = ibv_reg_mr(conn->domain->pd, memory, size, IBV_ACCESS_LOCAL_WRITE);
	if (!buffers->region) {
		ret = errno ? -errno : -ENOMEM;
		if (verbs_may_say(conn->domain->device))
			report_error(
				"%s: %s: %zu bytes of buffers cannot be registered: %s; the device has %d regions%s",
				conn->domain->device->name, conn->peer, size, strerror(-ret),
				conn->domain->device->attr.max_mr, verbs_memlock_hint());
		munmap(memory, size);
		return ret;
	}
	buffers->memory = memory;
	buffers->size = size;
	return 0;
}

static void buffers_delete(struct verbs_conn *conn, struct verbs_buffers *buffers)
{
	int ret;

	if (!buffers->memory)
		return;
	ret = ibv_dereg_mr(buffers->region);
	if (ret) /* they stay: the device may still write there */
		report_error("%s: %s: buffers cannot be taken back: %s", conn->domain->device->name, conn->peer,
			     strerror(ret));
	else
		munmap(buffers->memory, buffers->size);
	memset(buffers, 0, sizeof(*buffers));
}

static uint8_t *receive_buffer(struct verbs_conn *conn, uint32_t n, uint32_t *lkey)
{
	struct verbs_buffers *buffers = n < VERBS_RECEIVES_MIN ? &conn->first : &conn->more;

	*lkey = buffers->region->lkey;
	return buffers->memory + (size_t)(n < VERBS_RECEIVES_MIN ? n : n - VERBS_RECEIVES_MIN) * WIRE_MSG_MAX;
}

static uint8_t *send_buffer(struct verbs_conn *conn, uint32_t n)
{
	return conn->first.memory + (size_t)(VERBS_RECEIVES_MIN + n) * WIRE_MSG_MAX;
}

static int post_receive(struct verbs_conn *conn, uint32_t n)
{
	struct ibv_sge sge = {.length = WIRE_MSG_MAX};
	struct ibv_recv_wr wr = {.wr_id = n, .sg_list = &sge, .num_sge = 1}, *bad;

	sge.addr = (uintptr_t)receive_buffer(conn, n, &sge.lkey);
	return -ibv_post_recv(conn->qp, &wr, &bad);
}

static struct ibv_qp *make_qp(struct verbs_conn *conn)
{
	struct ibv_qp_init_attr attr = {
		.qp_context = conn,
		.send_cq = conn->cq,
		.recv_cq = conn->cq,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = VERBS_SENDS,
			.max_recv_wr = conn->receives_max,
			.max_send_sge = 1,
			.max_recv_sge = 1,
			.max_inline_data = conn->domain->device->inline_max},
	};

	conn->inline_max = conn->domain->device->inline_max;
	return ibv_create_qp(conn->domain->pd, &attr);
}

int verbs_queue_make(struct verbs_conn *conn, uint32_t depth_max)
{
	struct verbs_device *device = conn->domain->device;
	const char *step = "memory";
	struct ibv_qp *qp;
	int ret = -ENOMEM;

	conn->receives_max = depth_max + VERBS_RECEIVES_MIN;
	if ((int)conn->receives_max > device->attr.max_qp_wr)
		conn->receives_max = (uint32_t)device->attr.max_qp_wr;
	conn->arrived = calloc(conn->receives_max, sizeof(*conn->arrived));
	if (!conn->arrived)
		goto fail;
	ret = buffers_make(conn, &conn->first, VERBS_RECEIVES_MIN + VERBS_SEND_BUFFERS);
	if (ret)
		return ret; /* it has said why */
	for (conn->free_buffers = 0; conn->free_buffers < VERBS_SEND_BUFFERS; conn->free_buffers++)
		conn->free_buffer[conn->free_buffers] = (uint8_t)conn->free_buffers;
	errno = 0;
	step = "ibv_create_comp_channel";
	conn->completions = ibv_create_comp_channel(device->context);
	if (!conn->completions || fcntl(conn->completions->fd, F_SETFL, O_NONBLOCK))
		goto fail_errno;
	step = "ibv_create_cq";
	conn->cq = ibv_create_cq(device->context, (int)(conn->receives_max + VERBS_SENDS), conn, conn->completions, 0);
	if (!conn->cq)
		goto fail_errno;
	step = "ibv_create_qp";
	qp = make_qp(conn);
	if (!qp)
		goto fail_errno;
	pthread_mutex_lock(&conn->lock);
	conn->qp = qp;
	pthread_mutex_unlock(&conn->lock);
	return 0;
fail_errno:
	ret = errno ? -errno : -ENOMEM;
fail:
	if (verbs_may_say(device))
		report_error("%s: %s: no queue pair: %s: %s; the device has %d, of %d requests%s", device->name,
			     conn->peer, step, strerror(-ret), device->attr.max_qp, device->attr.max_qp_wr,
			     ret == -ENOMEM ? verbs_memlock_hint() : "");
	return ret;
}

/*
 * INIT, RTR, RTS by hand: the connect request decides how often and how long we
 * try, and a peer may have asked for ever.
 */
int verbs_queue_ready(struct verbs_conn *conn)
{
	static const enum ibv_qp_state states[] = {IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS};
	int ret = 0;

	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]) && !ret; i++) {
		struct ibv_qp_attr attr = {.qp_state = states[i]};
		int mask;

		if (rdma_init_qp_attr(conn->id, &attr, &mask)) {
			ret = -errno;
			break;
		}
		if (mask & IBV_QP_ACCESS_FLAGS) {
			attr.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
			attr.qp_access_flags &= ~(unsigned)IBV_ACCESS_REMOTE_ATOMIC;
		}
		if (mask & IBV_QP_MAX_DEST_RD_ATOMIC)
			attr.max_dest_rd_atomic = conn->responder_resources;
		if (mask & IBV_QP_MAX_QP_RD_ATOMIC)
			attr.max_rd_atomic = 0; /* we read nothing */
		if (mask & IBV_QP_MIN_RNR_TIMER)
			attr.min_rnr_timer = RNR_TIMER;
		if (mask & IBV_QP_RETRY_CNT && attr.retry_cnt > RETRIES)
			attr.retry_cnt = RETRIES;
		if (mask & IBV_QP_RNR_RETRY && attr.rnr_retry > RETRIES)
			attr.rnr_retry = RETRIES;
		if (mask & IBV_QP_TIMEOUT)
			attr.timeout = attr.timeout < TIMEOUT_MIN && attr.timeout    ? TIMEOUT_MIN
				       : !attr.timeout || attr.timeout > TIMEOUT_MAX ? TIMEOUT_MAX
										     : attr.timeout;
		ret = -ibv_modify_qp(conn->qp, &attr, mask);
		if (!ret && states[i] == IBV_QPS_INIT)
			ret = verbs_queue_grow(conn, VERBS_RECEIVES_MIN);
	}
	if (ret && verbs_may_say(conn->domain->device))
		report_error("%s: %s: the queue pair cannot be connected: %s", conn->domain->device->name, conn->peer,
			     strerror(-ret));
	return ret;
}

int verbs_queue_grow(struct verbs_conn *conn, uint32_t receives)
{
	int ret = 0;

	if (receives > conn->receives_max)
		return -EINVAL; /* the grant was bounded by verbs_depth_limit() */
	if (receives > VERBS_RECEIVES_MIN && !conn->more.memory)
		ret = buffers_make(conn, &conn->more, receives - VERBS_RECEIVES_MIN);
	pthread_mutex_lock(&conn->lock);
	while (!ret && conn->receives < receives) {
		ret = post_receive(conn, conn->receives);
		if (!ret)
			conn->receives++;
	}
	pthread_mutex_unlock(&conn->lock);
	return ret;
}

void verbs_queue_delete(struct verbs_conn *conn)
{
	struct ibv_qp *qp;
	int ret = 0;

	pthread_mutex_lock(&conn->lock);
	qp = conn->qp;
	conn->qp = NULL;
	pthread_mutex_unlock(&conn->lock);
	if (qp)
		ret = ibv_destroy_qp(qp);
	if (ret)
		report_error("%s: %s: a queue pair cannot be destroyed: %s", conn->domain->device->name, conn->peer,
			     strerror(ret));
	if (conn->cq) {
		ibv_ack_cq_events(conn->cq, conn->cq_events);
		conn->cq_events = 0;
		ibv_destroy_cq(conn->cq);
		conn->cq = NULL;
	}
	if (conn->completions)
		ibv_destroy_comp_channel(conn->completions);
	conn->completions = NULL;
	buffers_delete(conn, &conn->more);
	buffers_delete(conn, &conn->first);
	free(conn->arrived);
	conn->arrived = NULL;
	conn->arrived_n = 0;
}

static void sent(struct verbs_conn *conn, const struct ibv_wc *wc)
{
	uint64_t upto = (wc->wr_id & ~SEND_ID) + 1;

	if (wc->status != IBV_WC_SUCCESS) {
		verbs_conn_fail(conn, wc->status == IBV_WC_RETRY_EXC_ERR || wc->status == IBV_WC_RNR_RETRY_EXC_ERR
					      ? -ETIMEDOUT
				      : wc->status == IBV_WC_LOC_PROT_ERR || wc->status == IBV_WC_LOC_QP_OP_ERR
					      ? -EIO
					      : -ECONNRESET);
		report_debug("%s: %s: %s", conn->domain->device->name, conn->peer, ibv_wc_status_str(wc->status));
		return;
	}
	for (; conn->sends_done < upto; conn->sends_done++) {
		uint8_t *buffer = &conn->send_buffer[conn->sends_done % VERBS_SENDS];

		if (*buffer)
			conn->free_buffer[conn->free_buffers++] = *buffer - 1;
		*buffer = 0;
	}
	conn->signaled_ns = conn->sends_done < conn->signaled ? now_ns() : 0;
}

/*
 * Buffers are flushed when the queue pair fails.  With nothing of ours under way it was something that the device
 * refused to the peer; else it may as well be that the peer's device does not answer.
 */
static int why_flushed(const struct verbs_conn *conn)
{
	return conn->signaled_ns ? -ECONNRESET : -EACCES;
}

static void received(struct verbs_conn *conn, const struct ibv_wc *wc)
{
	struct verbs_arrival *arrival;

	if (wc->status != IBV_WC_SUCCESS) {
		/* longer than a message may be: devices differ in how they say so */
		bool bad = wc->status == IBV_WC_LOC_LEN_ERR || wc->status == IBV_WC_REM_INV_REQ_ERR;

		verbs_conn_fail(conn, bad				    ? -EPROTO
				      : wc->status == IBV_WC_REM_ACCESS_ERR ? -EACCES
				      : wc->status == IBV_WC_WR_FLUSH_ERR   ? why_flushed(conn)
									    : -EIO);
		report_debug("%s: %s: %s", conn->domain->device->name, conn->peer, ibv_wc_status_str(wc->status));
		return;
	}
	if (wc->opcode != IBV_WC_RECV || !(wc->wc_flags & IBV_WC_WITH_IMM)) {
		verbs_conn_fail(conn, -EPROTO);
		return;
	}
	arrival = &conn->arrived[(conn->arrived_at + conn->arrived_n++) % conn->receives_max];
	arrival->buffer = (uint32_t)wc->wr_id;
	arrival->length = wc->byte_len;
	arrival->immediate = ntohl(wc->imm_data);
}

void verbs_queue_reap(struct verbs_conn *conn)
{
	struct ibv_wc wc[POLLED];
	int n;

	if (!conn->qp)
		return;
	do {
		n = ibv_poll_cq(conn->cq, POLLED, wc);
		if (n < 0)
			verbs_conn_fail(conn, -EIO);
		if (n > 0)
			conn->heard_ns = now_ns();
		for (int i = 0; i < n; i++) {
			if (wc[i].wr_id & SEND_ID)
				sent(conn, &wc[i]);
			else
				received(conn, &wc[i]);
		}
	} while (n == POLLED);
}

bool verbs_queue_take(struct verbs_conn *conn, struct verbs_arrival *arrival)
{
	uint32_t lkey;
	int ret;

	if (!conn->qp || !conn->arrived_n)
		return false;
	*arrival = conn->arrived[conn->arrived_at];
	conn->arrived_at = (conn->arrived_at + 1) % conn->receives_max;
	conn->arrived_n--;
	/* out of the device's reach before it is looked at */
	memcpy(conn->message, receive_buffer(conn, arrival->buffer, &lkey), arrival->length);
	ret = post_receive(conn, arrival->buffer);
	if (ret)
		verbs_conn_fail(conn, ret);
	return true;
}

static int post(struct verbs_conn *conn, struct ibv_send_wr *wr, bool signal, uint8_t buffer)
{
	uint64_t number = conn->sends_posted;
	struct ibv_send_wr *bad;
	int ret;

	/* also when room becomes scarce: otherwise the last before a pause would never be asked about */
	if (signal || number - conn->signaled >= VERBS_SENDS_SIGNALED - 1)
		wr->send_flags |= IBV_SEND_SIGNALED;
	wr->wr_id = SEND_ID | number;
	ret = -ibv_post_send(conn->qp, wr, &bad);
	if (ret) {
		verbs_conn_fail(conn, ret);
		return ret;
	}
	conn->send_buffer[number % VERBS_SENDS] = buffer;
	conn->sends_posted = number + 1;
	if (wr->send_flags & IBV_SEND_SIGNALED) {
		conn->signaled = number + 1;
		if (!conn->signaled_ns)
			conn->signaled_ns = now_ns();
	}
	return 0;
}

static bool room(struct verbs_conn *conn)
{
	return conn->sends_posted - conn->sends_done < VERBS_SENDS;
}

int verbs_queue_send(struct verbs_conn *conn, const struct iovec *iov, int count, bool signal)
{
	uint8_t small[VERBS_INLINE], *to = small;
	struct ibv_sge sge = {0};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};
	uint8_t buffer = 0;
	size_t length = 0;
	int ret;

	if (!conn->qp)
		return -ECONNRESET;
	for (int i = 0; i < count; i++)
		length += iov[i].iov_len;
	if (length > WIRE_MSG_MAX)
		return -EMSGSIZE;
	if (!room(conn) || (length > conn->inline_max && !conn->free_buffers))
		verbs_queue_reap(conn);
	if (!room(conn) || (length > conn->inline_max && !conn->free_buffers))
		return -EAGAIN;
	if (length <= conn->inline_max) {
		wr.send_flags = IBV_SEND_INLINE;
	} else {
		buffer = conn->free_buffer[--conn->free_buffers] + 1;
		to = send_buffer(conn, buffer - 1u);
		sge.lkey = conn->first.region->lkey;
		signal = true;
	}
	sge.addr = (uintptr_t)to;
	sge.length = (uint32_t)length;
	for (int i = 0; i < count; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	ret = post(conn, &wr, signal, buffer);
	if (ret && buffer)
		conn->free_buffer[conn->free_buffers++] = buffer - 1;
	return ret;
}

int verbs_queue_probe(struct verbs_conn *conn)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE};

	if (!conn->qp)
		return -ECONNRESET;
	return room(conn) ? post(conn, &wr, true, 0) : -EAGAIN;
}
