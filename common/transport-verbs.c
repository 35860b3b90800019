/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-verbs - the queue of a lane over RDMA: control messages as SENDs, data as
 * RDMA READ and WRITE, and what comes back.
 *
 * Jobs wait in one FIFO.  On an idle lane a job leaves at once; what is asked for while
 * others are in flight leaves in chains, when enough have gathered, and at the latest when
 * the lane is polled or armed.  The send queue is a ring of our own beside the
 * device's: completions arrive in its order, so that one tells of all before it.
 */
#include "transport-verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUNCE_SIZE (16u << 10)
#define BOUNCE_LIMIT 256		/* 4 MiB a lane: the largest request needs 129 */
#define LOOK_EVERY 256			/* empty polls until the connection manager is asked: a system call */
#define POLL_MOST 256			/* completions in one poll, about */
#define ID_RECEIVE 1u			/* set in the wr_id of a receive: the rest is its chunk; else a place in the ring */

/* Receiving. */

static int post_receive(struct transport *t, struct verbs_chunk *chunk)
{
	struct ibv_sge sge = { (uintptr_t)chunk->at, WIRE_MSG_MAX, chunk->lkey };
	struct ibv_recv_wr wr = { .wr_id = (uintptr_t)chunk | ID_RECEIVE, .sg_list = &sge, .num_sge = 1 }, *bad;
	int ret = ibv_post_recv(t->qp, &wr, &bad);

	if (ret)
		return brick_fail(-ECONNRESET, "%s: the device %s took no receive buffer: %s", t->text, t->domain->device,
				  brick_errno_text(ret));
	return 0;
}

/* One buffer for each control message in flight, and those for notices. */
static int ensure_receives(struct transport *t, unsigned wanted)
{
	while (t->receives < wanted) {
		struct verbs_chunk *chunk = verbs_pool_take(&t->messages, t);
		int ret;

		if (!chunk)
			return -ENOMEM;
		ret = post_receive(t, chunk);
		if (ret < 0) {
			verbs_pool_give(&t->messages, chunk);
			return ret;
		}
		t->receives++;
	}
	return 0;
}

int verbs_queue_open(struct transport *t)
{
	t->messages = (struct verbs_pool){ .size = WIRE_MSG_MAX, .limit = 2 * t->depth + t->receives_max + t->ring_size };
	t->bounces = (struct verbs_pool){ .size = BOUNCE_SIZE, .limit = BOUNCE_LIMIT };
	t->jobs = calloc(t->depth, sizeof(*t->jobs));
	t->ring = calloc(t->ring_size, sizeof(*t->ring));
	if (!t->jobs || !t->ring)
		return brick_fail(-ENOMEM, "%s: no memory for a lane of depth %u", t->text, t->depth);
	STAILQ_INIT(&t->free_jobs);
	STAILQ_INIT(&t->fifo);
	for (unsigned i = 0; i < t->depth; i++) {
		t->jobs[i].segments = t->jobs[i].few;
		t->jobs[i].segment_room = sizeof(t->jobs[i].few) / sizeof(t->jobs[i].few[0]);
		STAILQ_INSERT_TAIL(&t->free_jobs, &t->jobs[i], link);
	}
	return ensure_receives(t, VERBS_NOTICES + 1);
}

void verbs_queue_close(struct transport *t)
{
	for (unsigned i = 0; t->jobs && i < t->depth; i++)
		if (t->jobs[i].segments)
			verbs_release(t, &t->jobs[i], false);
	verbs_pool_free(&t->messages);
	verbs_pool_free(&t->bounces);
	free(t->jobs);
	free(t->ring);
}

/* Sending. */

static void job_free(struct transport *t, struct verbs_job *job)
{
	STAILQ_INSERT_HEAD(&t->free_jobs, job, link);
}

static void job_done(struct transport *t, struct verbs_job *job, int status)
{
	struct transport_io *io = job->io;

	verbs_release(t, job, status == 0);
	job_free(t, job);
	t->busy--;
	t->events.done(t->events.arg, io, status);
}

/* The next piece of a read or write, from where the last one ended. */
static void build_piece(struct transport *t, struct verbs_job *job, struct ibv_send_wr *wr, struct ibv_sge *sge)
{
	const struct transport_io *io = job->io;
	unsigned most = io->write ? t->sges : t->read_sges;
	uint32_t length = 0;
	int n = 0;

	while ((unsigned)n < most && length < VERBS_PIECE && job->at_segment < job->segment_count) {
		const struct verbs_segment *segment = &job->segments[job->at_segment];
		uint32_t part = segment->length - job->at_offset;

		if (part > VERBS_PIECE - length)
			part = VERBS_PIECE - length;
		sge[n++] = (struct ibv_sge){ (uintptr_t)segment->at + job->at_offset, part, segment->lkey };
		length += part;
		job->at_offset += part;
		if (job->at_offset == segment->length) {
			job->at_segment++;
			job->at_offset = 0;
		}
	}
	*wr = (struct ibv_send_wr){
		.sg_list = sge,
		.num_sge = n,
		.opcode = io->write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
		.send_flags = job->inlined ? IBV_SEND_INLINE : 0,
		.wr.rdma = { .remote_addr = io->place + io->offset + job->posted, .rkey = io->key },
	};
	job->posted += length;
}

static void build_message(struct transport *t, struct verbs_job *job, struct ibv_send_wr *wr, struct ibv_sge *sge)
{
	*sge = (struct ibv_sge){ (uintptr_t)job->message->at, job->length, job->message->lkey };
	*wr = (struct ibv_send_wr){
		.sg_list = sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND_WITH_IMM,
		.send_flags = job->length <= t->inline_max ? IBV_SEND_INLINE : 0,
		.imm_data = htonl(t->notices),
	};
	job->posted = job->length;
}

#if HAVE_DECL_IBV_WR_FLUSH
/* RDMA FLUSH has no form in which ibv_post_send() takes it; the two may be mixed, one after the other. */
static int post_flush(struct transport *t, const struct transport_range *range, uint64_t wr_id, bool signalled)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(t->qp);

	ibv_wr_start(qp);
	qp->wr_id = wr_id;
	qp->wr_flags = signalled ? IBV_SEND_SIGNALED : 0;
	ibv_wr_flush(qp, range->key, range->place, range->length, IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE);
	return ibv_wr_complete(qp);
}
#else
static int post_flush(struct transport *t, const struct transport_range *range, uint64_t wr_id, bool signalled)
{
	return EOPNOTSUPP;	/* never asked for: the feature is not offered */
}
#endif

static int not_taken(struct transport *t, int error)
{
	return verbs_broken(t, brick_fail(-ECONNRESET, "%s: the device %s took no work request: %s", t->text, t->domain->device,
					  brick_errno_text(error)));
}

/* Takes a job that is wholly posted off the FIFO. */
static void leave_fifo(struct transport *t)
{
	STAILQ_REMOVE_HEAD(&t->fifo, link);
	t->waiting--;
}

/* The flush at the head of the FIFO, behind what is posted: as much of it as there is room for. */
static int pump_flush(struct transport *t, struct verbs_job *job)
{
	while (job->posted < job->length && t->head - t->tail < t->ring_size) {
		bool last = job->posted + 1 == job->length;
		int ret = post_flush(t, &job->io->ranges[job->posted], t->head << 1, last || t->head % VERBS_BATCH == 0);

		if (ret)
			return not_taken(t, ret);
		t->ring[t->head++ % t->ring_size] = (struct verbs_sent){ .job = job, .last = last };
		job->posted++;
	}
	if (job->posted == job->length)
		leave_fifo(t);
	return 0;
}

/*
 * Posts what the send queue has room for.  Returns how many jobs ended here and now, because there is no memory
 * for them; or what breaks the connection.
 */
static int pump(struct transport *t)
{
	struct ibv_send_wr wr[VERBS_BATCH], *bad;
	struct ibv_sge sge[VERBS_BATCH][VERBS_SGES];
	struct verbs_job *job, *flush;
	int n, ret, failed = 0;

	do {
		flush = NULL;
		for (n = 0; n < VERBS_BATCH && t->head - t->tail < t->ring_size && (job = STAILQ_FIRST(&t->fifo)); n++) {
			struct verbs_sent *sent = &t->ring[t->head % t->ring_size];

			if (job->io && job->io->ranges) {
				flush = job;
				break;
			}
			if (job->io && !job->prepared) {
				ret = verbs_prepare(t, job);
				if (ret == -EAGAIN)
					break;
				if (ret < 0) {
					leave_fifo(t);
					job_done(t, job, ret);
					failed++;
					n--;
					continue;
				}
			}
			if (job->io)
				build_piece(t, job, &wr[n], sge[n]);
			else
				build_message(t, job, &wr[n], sge[n]);
			*sent = (struct verbs_sent){ job->io ? job : NULL, job->io ? NULL : job->message,
						     job->posted == job->length };
			wr[n].wr_id = t->head << 1;
			if ((job->io && sent->last) || t->head % VERBS_BATCH == 0)
				wr[n].send_flags |= IBV_SEND_SIGNALED;
			if (n > 0)
				wr[n - 1].next = &wr[n];
			t->head++;
			if (sent->last) {
				leave_fifo(t);
				if (!job->io)
					job_free(t, job);
			}
		}
		if (n > 0) {
			ret = ibv_post_send(t->qp, wr, &bad);
			if (ret)
				return not_taken(t, ret);
		}
		if (flush) {
			ret = pump_flush(t, flush);
			if (ret < 0)
				return ret;
		}
	} while (n == VERBS_BATCH || (flush && STAILQ_FIRST(&t->fifo) != flush));
	return failed;
}

static int submit(struct transport *t, struct verbs_job *job)
{
	int ret = 0;

	STAILQ_INSERT_TAIL(&t->fifo, job, link);
	t->waiting++;
	t->busy++;
	if (t->busy == 1 || t->waiting >= VERBS_BATCH)
		ret = pump(t);
	return ret < 0 ? ret : 0;
}

static struct verbs_job *new_job(struct transport *t, struct transport_io *io, uint32_t length)
{
	struct verbs_job *job = STAILQ_FIRST(&t->free_jobs);

	if (!job) {
		brick_fail(-ENOBUFS, "%s: more requests than the lane's depth", t->text);
		return NULL;
	}
	STAILQ_REMOVE_HEAD(&t->free_jobs, link);
	job->io = io;
	job->message = NULL;
	job->length = length;
	job->posted = 0;
	job->at_segment = 0;
	job->at_offset = 0;
	return job;
}

static int report(const struct transport *t)
{
	return brick_fail(t->error, "%s", t->error_text);
}

static int verbs_send(struct transport *t, const uint8_t *msg, size_t len)
{
	struct verbs_job *job;
	int ret;

	if (t->error)
		return report(t);
	ret = ensure_receives(t, t->awaited + 1 + VERBS_NOTICES);
	if (ret < 0)
		return ret;
	job = new_job(t, NULL, (uint32_t)len);
	if (!job)
		return -ENOBUFS;
	job->message = verbs_pool_take(&t->messages, t);
	if (!job->message) {
		job_free(t, job);
		return -ENOMEM;
	}
	memcpy(job->message->at, msg, len);
	t->awaited++;
	return submit(t, job);
}

static int verbs_post(struct transport *t, struct transport_io *io)
{
	struct verbs_job *job;

	if (t->error)
		return report(t);
	job = new_job(t, io, io->ranges ? io->range_count : io->length);
	return job ? submit(t, job) : -ENOBUFS;
}

/* Completions. */

/* What made the device give a work request up; done() was called, if it was a read or write. */
static int failed(struct transport *t, const struct verbs_sent *sent, const struct ibv_wc *wc)
{
	const char *what = ibv_wc_status_str(wc->status);
	char words[160] = "a message";
	int status = -ECONNRESET;

	if (sent->job) {
		const struct transport_io *io = sent->job->io;

		if (io->ranges)
			snprintf(words, sizeof(words), "to persist");
		else
			snprintf(words, sizeof(words), "to %s %u bytes at 0x%" PRIx64, io->write ? "write" : "read", io->length,
			 io->addr + io->offset);
	}
	switch (wc->status) {
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_OP_ERR:
		if (!sent->job)
			break;
		job_done(t, sent->job, -EACCES);
		t->error = 0;		/* a brick that hung up meanwhile did so for this */
		return brick_fail(-ECONNRESET, "%s: the brick's device refused %s (%s): the block is not mapped, or not so, or the "
				  "brick is going; the lane is lost with it", t->text, words, what);
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_LEN_ERR:
		if (!sent->job)
			break;
		brick_fail(-EFAULT, "%s: the device %s cannot use the memory %s: it was unregistered, or is not what was registered "
			   "(%s)", t->text, t->domain->device, words, what);
		job_done(t, sent->job, -EFAULT);
		return -ECONNRESET;
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
		verbs_look(t);		/* it may have said that it goes */
		if (t->error)
			return report(t);
		return brick_fail(-ETIMEDOUT, "%s: the brick does not answer any more: %s (device %s)", t->text, what,
				  t->domain->device);
	default:
		break;
	}
	return brick_fail(status, "%s: the connection broke at %s: %s (device %s)", t->text, words, what, t->domain->device);
}

static void retire(struct transport *t, const struct verbs_sent *sent)
{
	if (sent->message)
		verbs_pool_give(&t->messages, sent->message);
	if (sent->job && sent->last)
		job_done(t, sent->job, 0);
}

static int sent_over(struct transport *t, const struct ibv_wc *wc)
{
	uint64_t place = wc->wr_id >> 1;

	if (place < t->tail || place >= t->head)
		return brick_fail(-EIO, "%s: the device %s completed what was not posted", t->text, t->domain->device);
	/* All before it went well: what fails is always told. */
	while (t->tail < place)
		retire(t, &t->ring[t->tail++ % t->ring_size]);
	t->tail++;
	if (wc->status == IBV_WC_SUCCESS)
		retire(t, &t->ring[place % t->ring_size]);
	else
		return failed(t, &t->ring[place % t->ring_size], wc);
	return 0;
}

static int received(struct transport *t, const struct ibv_wc *wc)
{
	struct verbs_chunk *chunk = (struct verbs_chunk *)(uintptr_t)(wc->wr_id & ~(uint64_t)ID_RECEIVE);
	struct wire_header header;
	int ret;

	if (wc->status == IBV_WC_LOC_LEN_ERR)
		return brick_fail(-EPROTO, "%s: the brick sent a message of more than %u bytes", t->text, WIRE_MSG_MAX);
	if (wc->status != IBV_WC_SUCCESS)
		return brick_fail(-ECONNRESET, "%s: the connection broke: %s (device %s)", t->text,
				  ibv_wc_status_str(wc->status), t->domain->device);
	if (wc->opcode != IBV_WC_RECV || wc->byte_len > WIRE_MSG_MAX ||
	    wire_get_header(chunk->at, wc->byte_len, &header) < 0)
		return brick_fail(-EPROTO, "%s: the brick sent something that is no message", t->text);
	ret = t->events.message(t->events.arg, chunk->at, wc->byte_len);
	if (ret < 0)
		return ret;
	ret = post_receive(t, chunk);
	if (ret < 0)
		return ret;
	if (header.type == WIRE_NOTICE) {
		t->notices++;
	} else {
		t->awaited--;
		t->busy--;
	}
	return 0;
}

/* Takes what the completion queue has: how many, or what broke the connection. */
static int take(struct transport *t)
{
	bool gone = false, more;
	int total = 0, n;

	do {
		struct ibv_wc found[VERBS_BATCH];

		more = t->stashed > 0;
		if (more) {
			n = t->stashed;
			memcpy(found, t->stash, (size_t)n * sizeof(*found));
			t->stashed = 0;
		} else {
			n = ibv_poll_cq(t->cq, VERBS_BATCH, found);
			more = n == VERBS_BATCH;
		}
		if (n < 0)
			return brick_fail(-ECONNRESET, "%s: the completion queue of the device %s failed", t->text,
					  t->domain->device);
		for (int i = 0; i < n; i++) {
			const struct ibv_wc *wc = &found[i];
			int ret = 0;

			if (wc->status == IBV_WC_WR_FLUSH_ERR)
				gone = true;	/* given up with the queue pair: why is for others to tell */
			else
				ret = wc->wr_id & ID_RECEIVE ? received(t, wc) : sent_over(t, wc);
			if (ret < 0)
				return ret;
		}
		total += n;
	} while (more && total < POLL_MOST);
	if (!gone)
		return total;
	verbs_look(t);
	if (t->error)
		return t->error;
	return brick_fail(-ECONNRESET, "%s: the connection broke: the device %s gave the queue pair up", t->text,
			  t->domain->device);
}

static int verbs_poll(struct transport *t)
{
	int n, ret = 0;

	if (t->waiting && !t->error)
		ret = pump(t);
	n = ret < 0 ? ret : take(t);
	if (n < 0) {
		verbs_broken(t, n);
		return report(t);
	}
	if (t->waiting && n > 0 && !t->error) {
		int more = pump(t);

		if (more < 0)
			return more;
		ret += more;
	}
	if (n + ret > 0) {
		t->idle_polls = 0;
		return n + ret;
	}
	/* Nothing is left to hand up: now for what ends the connection. */
	if (t->error) {
		if (t->head != t->tail && t->grace_ms && verbs_now_ms() < t->grace_ms)
			return 0;
		return report(t);
	}
	if (t->slept || ++t->idle_polls >= LOOK_EVERY) {
		t->slept = false;
		t->idle_polls = 0;
		verbs_look(t);
		if (t->error)
			return 1;	/* once more, for what came before it */
	}
	return 0;
}

static int verbs_fd(const struct transport *t)
{
	return t->epoll;
}

static int verbs_arm(struct transport *t, short *events)
{
	struct ibv_cq *cq;
	void *context;

	*events = POLLIN;
	if (t->error || t->stashed > 0)
		return 1;
	if (t->waiting && pump(t) != 0)
		return 1;
	/* Events of completions that were taken without them. */
	while (t->armed && ibv_get_cq_event(t->comp_channel, &cq, &context) == 0) {
		t->armed = false;
		if (++t->unacked == 1u << 16) {
			ibv_ack_cq_events(t->cq, t->unacked);
			t->unacked = 0;
		}
	}
	if (!t->armed) {
		if (ibv_req_notify_cq(t->cq, 0)) {
			verbs_broken(t, brick_fail(-ECONNRESET, "%s: the device %s will not tell of completions", t->text,
						   t->domain->device));
			return 1;
		}
		t->armed = true;
	}
	/* What came between the last look and now tells nobody. */
	t->stashed = ibv_poll_cq(t->cq, VERBS_BATCH, t->stash);
	if (t->stashed != 0) {
		if (t->stashed < 0)
			t->stashed = 0;	/* poll() fails in the same way */
		return 1;
	}
	t->slept = true;
	return 0;
}

static int verbs_check_handle(struct transport_domain *domain, const char *text, uint64_t addr,
			      const struct wire_handle *handle)
{
	if (handle->place != addr)
		return brick_fail(-EPROTO, "%s: the brick mapped 0x%" PRIx64 " at 0x%" PRIx64, text, addr, handle->place);
	return 0;
}

static int verbs_attach(struct transport_domain *domain, struct transport *t, const struct wire_hello_reply *hello)
{
	if (hello->fds)
		return brick_fail(-EPROTO, "%s: the brick announced descriptors, which RDMA does not carry", t->text);
	return 0;
}

static uint64_t verbs_features(struct transport_domain *domain)
{
	return domain->can_flush ? WIRE_FEATURE_FLUSH : 0;
}

const struct transport_ops transport_verbs = {
	.name = "verbs",
	.cheap_poll = true,
	.device_checks = true,
	.domain_open = verbs_domain_open,
	.domain_close = verbs_domain_close,
	.buffer_register = verbs_buffer_register,
	.buffer_unregister = verbs_buffer_unregister,
	.check_handle = verbs_check_handle,
	.features = verbs_features,
	.connect = verbs_connect,
	.attach = verbs_attach,
	.send = verbs_send,
	.post = verbs_post,
	.poll = verbs_poll,
	.fd = verbs_fd,
	.arm = verbs_arm,
	.close = verbs_close,
};
