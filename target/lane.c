/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lane - one connection (conn.h says over what): preamble, hello, and then message after message in a
 * thread of its own.
 *
 * What is quick is carried out and answered here; the rest goes to the workers,
 * at most `depth` requests at a time, and their replies go out in the order in
 * which they are done.  One thread at a time has the sending side; others leave
 * their replies in a queue for it.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#define LANE_STACK	(512u << 10)
#define LANE_LINGER_MS	1000
#define LANE_LOOK_NS	100000000ull
#define LANE_ENTER_NS	1000000000ull
#define LANE_NOTICES	8 /* that may wait to be sent; what comes then is lost */

/*
 * Nothing more can be sent, and so the lane ends; lane.lock is not held.  Where memory cannot be taken back (local) it must not
 * end before its peer: that one is told, and what it asks is not answered any more.
 */
static void cut_off(struct lane *lane)
{
	if (lane->transport->revocable) {
		lane_shutdown(lane);
		return;
	}
	pthread_mutex_lock(&lane->lock);
	if (lane->conn)
		lane->conn->ops->shutdown(lane->conn, SHUT_WR);
	pthread_mutex_unlock(&lane->lock);
}

/* Sends with lane.sending held; lane.lock is not. */
static int send_owned(struct lane *lane, struct iovec *iov, int count, int fd, size_t *sent)
{
	char text[SERVER_MORE_MAX];
	const char *more;
	int ret;

	*sent = 0;
	if (lane->broken)
		return -ECONNRESET;
	ret = lane->conn->ops->send(lane->conn, iov, count, fd, sent);
	if (ret && !(ret == -EFAULT && !*sent)) {
		lane->broken = true;
		if (ret == -ETIMEDOUT && (more = server_refused(lane->server, WIRE_REFUSED_STALL, text)))
			report_warning("%s: takes no replies; closing lane %u of session %llu%s", lane->peer.text,
				       lane->number, (unsigned long long)lane->session->number, more);
		cut_off(lane);
	}
	return ret;
}

/* So many requests of the session are done with.  Some are left that were not, or it is the lane's own thread: it lives. */
static void give_room(struct session *session, uint32_t n)
{
	if (!n)
		return;
	pthread_mutex_lock(&session->lock);
	session->requests -= n;
	pthread_cond_broadcast(&session->room);
	pthread_mutex_unlock(&session->lock);
}

/* Sends what others have left, then gives the sending side up.  Called with lane.lock and lane.sending held. */
static void send_queued(struct lane *lane)
{
	struct job *job;

	while ((job = lane->out)) {
		struct request *request = (struct request *)job;
		struct iovec iov = {.iov_base = request->message, .iov_len = request->length};
		bool counted = request->counted;
		size_t sent;

		lane->out = job->next;
		if (!lane->out)
			lane->out_last = &lane->out;
		pthread_mutex_unlock(&lane->lock);
		(void)send_owned(lane, &iov, 1, request->fd, &sent); /* a failure breaks the lane, which is noticed there */
		free(request);
		if (counted)
			give_room(lane->session, 1);
		pthread_mutex_lock(&lane->lock);
		if (counted)
			lane->pending--;
		else
			lane->notices--;
		pthread_cond_broadcast(&lane->idle);
	}
	lane->sending = false;
	pthread_cond_broadcast(&lane->idle);
}

int lane_send(struct lane *lane, struct iovec *iov, int count, int fd, size_t *sent)
{
	int ret;

	pthread_mutex_lock(&lane->lock);
	while (lane->sending)
		pthread_cond_wait(&lane->idle, &lane->lock);
	lane->sending = true;
	pthread_mutex_unlock(&lane->lock);
	ret = send_owned(lane, iov, count, fd, sent);
	pthread_mutex_lock(&lane->lock);
	send_queued(lane);
	pthread_mutex_unlock(&lane->lock);
	return ret;
}

void lane_finish(struct request *request)
{
	struct lane *lane = request->lane;

	request->job.next = NULL;
	pthread_mutex_lock(&lane->lock);
	*lane->out_last = &request->job;
	lane->out_last = &request->job.next;
	if (!lane->sending) {
		lane->sending = true;
		send_queued(lane);
	}
	pthread_mutex_unlock(&lane->lock);
}

void lane_notice(struct lane *lane, uint32_t kind, uint64_t arg)
{
	uint8_t message[WIRE_MSG_MAX];
	struct wire_notice notice = {.kind = kind, .arg = arg};
	size_t length = wire_put_notice(message, &notice);
	bool broken = false;

	pthread_mutex_lock(&lane->lock);
	if (!lane->conn || lane->broken || !lane->conn->ops->notice_room(lane->conn)) {
		/* lost */
	} else if (!lane->sending && !lane->closing) {
		int ret = lane->conn->ops->send_now(lane->conn, message, length);

		broken = lane->broken = ret && ret != -EAGAIN;
	} else if (lane->sending && lane->notices < LANE_NOTICES) {
		struct request *request = calloc(1, sizeof(*request));

		if (request) {
			request->lane = lane;
			request->fd = -1;
			request->length = length;
			memcpy(request->message, message, length);
			*lane->out_last = &request->job;
			lane->out_last = &request->job.next;
			lane->notices++;
		}
	}
	pthread_mutex_unlock(&lane->lock);
	/* Nobody else would notice before the peer says something, and it may be waiting for a reply. */
	if (broken)
		cut_off(lane);
}

void lane_shutdown(struct lane *lane)
{
	atomic_store(&lane->closing, true);
	pthread_mutex_lock(&lane->lock);
	if (lane->conn)
		lane->conn->ops->shutdown(lane->conn, SHUT_RDWR);
	pthread_cond_broadcast(&lane->idle);
	pthread_mutex_unlock(&lane->lock);
}

void lane_end(struct lane *lane)
{
	atomic_store(&lane->closing, true);
	pthread_mutex_lock(&lane->lock);
	if (lane->conn)
		lane->conn->ops->shutdown(lane->conn, SHUT_RD);
	pthread_cond_broadcast(&lane->idle);
	pthread_mutex_unlock(&lane->lock);
}

static int send_message(struct lane *lane, void *message, size_t length, int fd)
{
	struct iovec iov = {.iov_base = message, .iov_len = length};
	size_t sent;

	return lane_send(lane, &iov, 1, fd, &sent);
}

static int refuse(struct lane *lane, const struct wire_header *header, int error)
{
	uint8_t message[WIRE_HEADER_SIZE];

	stats_count(&lane->server->stats, call_op(header->type), 1, 0, 0);
	return send_message(lane, message, wire_put_plain(message, header->type | WIRE_REPLY, header->id, error), -1);
}

/* A request that this brick does not know, or not on this transport, which is no fault. */
static int refuse_unknown(struct lane *lane, const struct wire_header *header, int error)
{
	char text[SERVER_MORE_MAX];
	const char *more = server_refused(lane->server, WIRE_REFUSED_UNKNOWN, text);

	if (more)
		report_info("%s: a request of type 0x%x with flags 0x%x is not known here: %s%s", lane->peer.text, header->type,
			    header->flags, strerror(-error), more);
	return refuse(lane, header, error);
}

/* False: its place was given to another one meanwhile. */
static bool greeted(struct lane *lane)
{
	bool in_time;

	if (!lane->greeting)
		return true;
	pthread_mutex_lock(&lane->server->lock);
	in_time = peers_greeted(&lane->server->peers, &lane->place);
	pthread_mutex_unlock(&lane->server->lock);
	if (!in_time)
		return false;
	lane->greeting = false;
	lane->conn->ops->deadline(lane->conn, 0);
	return true;
}

static bool was_dropped(struct lane *lane)
{
	bool dropped;

	pthread_mutex_lock(&lane->server->lock);
	dropped = lane->place.dropped;
	pthread_mutex_unlock(&lane->server->lock);
	return dropped;
}

/* *depth: requests in flight that the session was granted already; 0: it has not said hello. */
static int admit(struct lane *lane, struct wire_preamble_reply *reply, uint32_t *depth)
{
	static const uint8_t none[WIRE_TOKEN_SIZE];
	struct wire_preamble preamble;
	uint8_t bytes[WIRE_PREAMBLE_SIZE];
	bool opens;
	int ret = lane->conn->ops->preamble(lane->conn, bytes);

	if (ret)
		return ret;
	ret = wire_get_preamble(bytes, sizeof(bytes), &preamble);
	if (ret)
		return ret;
	if (preamble.version_min > WIRE_VERSION || preamble.version_max < WIRE_VERSION)
		return -EPROTONOSUPPORT;
	ret = tier_lane_open(lane->server->tier, lane->transport->frames, &lane->tier);
	if (ret)
		return ret;
	opens = memcmp(preamble.token, none, sizeof(none)) == 0;
	ret = opens ? session_open(lane, preamble.lane) : session_join(lane, preamble.token, preamble.lane);
	if (ret)
		return ret;
	memcpy(reply->token, lane->session->token, sizeof(reply->token));
	reply->lane = preamble.lane;
	if (!opens) {
		pthread_mutex_lock(&lane->server->lock);
		if (lane->session->hello)
			*depth = lane->session->depth_granted;
		pthread_mutex_unlock(&lane->server->lock);
		if (*depth && !greeted(lane))
			return -ECONNRESET;
	}
	return 0;
}

/* What it is told: that of several limits it was its own is for the log. */
static int refusal_error(int error)
{
	return error == -EDQUOT || error == -ECONNRESET || error == 1 ? -EUSERS : error;
}

/* Counted and said: a connection that did not get as far as messages.  What session.c has said is not said again. */
static void turned_away(struct lane *lane, int error)
{
	static const struct {
		int error;
		enum wire_refusal reason;
		const char *words;
	} known[] = {
		{-EPROTO, WIRE_REFUSED_MALFORMED, "it does not speak this protocol"},
		{-EPROTONOSUPPORT, WIRE_REFUSED_VERSION, "it speaks another version of the protocol"},
		{-ESTALE, WIRE_REFUSED_TOKEN, "the session it wants to join is gone"},
		{-EMFILE, WIRE_REFUSED_LANES, "its session has as many lanes as may be (--max-lanes)"},
		{-ETIMEDOUT, WIRE_REFUSED_HELLO, "it did not say hello in time (--hello-timeout)"},
		{-EXDEV, WIRE_REFUSED_DEVICE, "it came over another device than its session"},
	};
	enum wire_refusal reason = WIRE_REFUSED_HOST;
	const char *words = strerror(-error), *more;
	char text[SERVER_MORE_MAX];

	if (error == -EUSERS || error == -EDQUOT || error == -ESHUTDOWN)
		return;
	if (error == -ECONNRESET) {
		report_info("%s: closed in the middle of its preamble", lane->peer.text);
		return;
	}
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].error != error)
			continue;
		reason = known[i].reason;
		words = known[i].words;
	}
	more = server_refused(lane->server, reason, text);
	if (more)
		report_warning("%s: refused: %s%s", lane->peer.text, words, more);
}

/* The preamble and its reply.  0, 1 (closed before a word), or what was wrong. */
static int begin(struct lane *lane)
{
	struct wire_preamble_reply reply = {.version = WIRE_VERSION};
	uint8_t message[WIRE_PREAMBLE_REPLY_SIZE];
	const struct conn_ops *ops = lane->conn->ops;
	uint32_t depth = 0;
	int ret = admit(lane, &reply, &depth), sent_ret = 0;
	bool dropped = ret && was_dropped(lane);

	if (!ret) {
		wire_put_preamble_reply(message, &reply);
		sent_ret = ops->accept(lane->conn, message, lane->server->config.max_depth, depth);
	} else if ((ret != 1 && ret != -ETIMEDOUT && ret != -ECONNRESET) || dropped) {
		const struct wire_preamble_reply refusal = {.status = wire_status(refusal_error(ret)), .version = WIRE_VERSION};

		wire_put_preamble_reply(message, &refusal);
		ops->refuse(lane->conn, message);
	}
	/* the sending side was held until now, so that nothing goes out before the reply */
	pthread_mutex_lock(&lane->lock);
	if (ret || sent_ret)
		lane->broken = true;
	send_queued(lane);
	pthread_mutex_unlock(&lane->lock);
	if (!ret)
		return sent_ret;
	if (ret < 0 && !dropped)
		turned_away(lane, ret);
	return ret;
}

static int serve_hello(struct lane *lane, const struct wire_header *header, const uint8_t *message)
{
	uint8_t answer[WIRE_MSG_MAX];
	struct wire_hello hello;
	struct wire_hello_reply reply;
	uint64_t start = now_ns();
	int ret = wire_get_hello(message, header->length, &hello);

	if (ret)
		return ret;
	ret = session_hello(lane, &hello, &reply);
	if (!ret)
		ret = lane->conn->ops->depth(lane->conn, reply.depth);
	if (ret == -EINVAL)
		return refuse_unknown(lane, header, ret);
	if (ret)
		return refuse(lane, header, refusal_error(ret));
	if (!greeted(lane))
		return -ECONNRESET;
	stats_count(&lane->server->stats, WIRE_OP_OTHER, 0, 0, now_ns() - start);
	return send_message(lane, answer, wire_put_hello_reply(answer, header->id, &reply),
			    reply.fds ? tier_fd(lane->server->tier) : -1);
}

bool lane_persists(struct lane *lane)
{
	bool any;

	pthread_mutex_lock(&lane->lock);
	any = lane->persists > 0;
	pthread_mutex_unlock(&lane->lock);
	return any;
}

/* With lane.lock held. */
static void count_persist(const struct request *request, int change)
{
	if (request->header.type == WIRE_PERSIST)
		request->lane->persists += (uint32_t)change;
}

static void run_slow(struct job *job)
{
	struct request *request = (struct request *)job;

	call_run(request, true);
	pthread_mutex_lock(&request->lane->lock);
	count_persist(request, -1);
	pthread_mutex_unlock(&request->lane->lock);
	call_encode(request, 0);
	lane_finish(request);
}

/* Waits until at most `most` requests are with the workers; false when the lane is being shut down. */
static bool await_pending(struct lane *lane, uint32_t most)
{
	bool closing;

	pthread_mutex_lock(&lane->lock);
	while (lane->pending > most && !atomic_load(&lane->closing))
		pthread_cond_wait(&lane->idle, &lane->lock);
	closing = atomic_load(&lane->closing);
	pthread_mutex_unlock(&lane->lock);
	return !closing;
}

/*
 * Waits until the session may have one more request under way, and counts it; false when the lane is being shut down, which
 * is looked for now and then: it may be shut down with session.lock held.
 */
static bool take_room(struct lane *lane)
{
	struct session *session = lane->session;
	char text[SERVER_MORE_MAX];
	const char *more;
	bool closing;

	pthread_mutex_lock(&session->lock);
	if (session->requests >= lane->server->config.max_requests) {
		/* a log may block, and others want the session */
		pthread_mutex_unlock(&session->lock);
		more = server_refused(lane->server, WIRE_REFUSED_REQUESTS, text);
		if (more)
			report_info("%s: session %llu has as many requests under way as it may, and is not read from "
				    "(--max-requests)%s", lane->peer.text, (unsigned long long)session->number, more);
		pthread_mutex_lock(&session->lock);
	}
	while (session->requests >= lane->server->config.max_requests && !atomic_load(&lane->closing)) {
		uint64_t at = now_ns() + LANE_LOOK_NS;
		struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};

		(void)pthread_cond_timedwait(&session->room, &session->lock, &until);
	}
	closing = atomic_load(&lane->closing);
	session->requests += !closing;
	pthread_mutex_unlock(&session->lock);
	return !closing;
}

static int serve_call(struct lane *lane, const struct wire_header *header, const uint8_t *message)
{
	struct request *request = lane->spare;
	int ret;

	if (!request)
		request = malloc(sizeof(*request));
	if (!request)
		return refuse(lane, header, -ENOMEM);
	lane->spare = request;
	request->lane = lane;
	request->header = *header;
	request->header.status = 0;
	request->started_ns = now_ns();
	ret = call_decode(request, message, header->length);
	if (ret == -EPROTO)
		return ret;
	if (ret)
		return refuse_unknown(lane, header, ret);
	if (call_run(request, false)) {
		call_encode(request, 0);
		return send_message(lane, request->message, request->length, -1);
	}
	if (!await_pending(lane, lane->session->depth_granted - 1u) || !take_room(lane))
		return -ECONNRESET;
	lane->spare = NULL;
	request->counted = true;
	request->job.run = run_slow;
	request->job.owner = lane;
	request->job.client = lane->session->worker;
	pthread_mutex_lock(&lane->lock);
	lane->pending++;
	count_persist(request, 1);
	pthread_mutex_unlock(&lane->lock);
	worker_queue(lane->server->workers, &request->job);
	return 0;
}

/* A frame that this transport does not carry: its bytes are passed over. */
static int skip_frame(struct lane *lane, const struct wire_header *header)
{
	int ret = lane->conn->ops->skip(lane->conn, header);

	return ret ? ret : refuse_unknown(lane, header, -EOPNOTSUPP);
}

/* One message.  0: go on; 1: the lane ends in order; negative: it must end. */
static int serve_one(struct lane *lane, bool *violation)
{
	struct wire_header header;
	uint8_t *at;
	int ret = lane->conn->ops->header(lane->conn, &header);

	if (ret)
		return ret;
	if (header.type & WIRE_REPLY || header.type == WIRE_NOTICE)
		return -EPROTO;
	if (lane->greeting && header.type != WIRE_HELLO)
		return -EPROTO;
	atomic_store_explicit(&lane->session->heard_ns, now_ns(), memory_order_relaxed);
	if (header.type == WIRE_READ || header.type == WIRE_WRITE) {
		if (header.flags)
			return -EPROTO;
		return lane->transport->frames ? data_frame(lane, &header, violation) : skip_frame(lane, &header);
	}
	ret = lane->conn->ops->body(lane->conn, &header, &at);
	if (ret)
		return ret;
	if (header.flags)
		return refuse_unknown(lane, &header, -EINVAL);
	if (header.type == WIRE_HELLO)
		return serve_hello(lane, &header, at);
	if (header.type == WIRE_BYE) {
		uint8_t message[WIRE_HEADER_SIZE];

		await_pending(lane, 0);
		ret = send_message(lane, message, wire_put_plain(message, WIRE_BYE | WIRE_REPLY, header.id, 0), -1);
		return ret ? ret : 1;
	}
	return serve_call(lane, &header, at);
}

static void complain(struct lane *lane, int error)
{
	unsigned long long session = lane->session->number;
	struct server *server = lane->server;
	char text[SERVER_MORE_MAX];
	const char *more;

	if (atomic_load(&lane->closing) || atomic_load(&lane->server->stopping))
		return;
	if (error == -ECONNRESET) {
		report_info("%s: lane %u of session %llu was cut off", lane->peer.text, lane->number, session);
		return;
	}
	if (error == -EPROTO)
		more = server_refused(server, WIRE_REFUSED_MALFORMED, text);
	else if (error == -EACCES)
		more = server_refused(server, WIRE_REFUSED_ACCESS, text);
	else if (error == -ETIMEDOUT)
		more = server_refused(server, lane->greeting ? WIRE_REFUSED_HELLO : WIRE_REFUSED_STALL, text);
	else
		more = server_refused(server, WIRE_REFUSED_HOST, text);
	if (more)
		report_warning("%s: %s; closing lane %u of session %llu%s", lane->peer.text,
			       error == -EPROTO				   ? "malformed message"
			       : error == -EACCES			   ? "access without a mapping that allows it"
			       : error == -ETIMEDOUT && lane->greeting ? "did not say hello in time (--hello-timeout)"
			       : error == -ETIMEDOUT			   ? "stalled"
									   : strerror(-error),
			       lane->number, session, more);
}

static void serve(struct lane *lane)
{
	bool violation = false;
	int ret = 0;

	while (!ret && !atomic_load(&lane->server->stopping))
		ret = serve_one(lane, &violation);
	if (ret < 0)
		complain(lane, ret);
	if (ret >= 0) {
		/* in order: what was asked is answered */
		await_pending(lane, 0);
		return;
	}
	if (!lane->transport->revocable && !lane->greeting) {
		/*
		 * It has the memory as long as it lives, so its locks must stay:
		 * nothing is served any more, and the lane goes when the peer does.
		 */
		lane->conn->ops->await_close(lane->conn);
		return;
	}
	if (violation || ret == -EPROTO)
		lane->conn->ops->linger(lane->conn, LANE_LINGER_MS);
}

/* Nothing of this lane is with the workers or in the queue when it returns. */
static void drain(struct lane *lane)
{
	struct job *job = worker_cancel(lane->server->workers, lane);
	uint32_t n = 0;

	for (struct job *j = job; j; j = j->next)
		n++;
	if (n)
		give_room(lane->session, n);
	pthread_mutex_lock(&lane->lock);
	while (job) {
		struct job *next = job->next;

		count_persist((struct request *)job, -1);
		free((struct request *)job);
		lane->pending--;
		job = next;
	}
	while (lane->pending || lane->sending)
		pthread_cond_wait(&lane->idle, &lane->lock);
	pthread_mutex_unlock(&lane->lock);
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct server *server = lane->server;
	struct conn *conn;
	uint64_t one = 1;

	lane->conn->ops->deadline(lane->conn, now_ns() + server->config.hello_ms * 1000000ull);
	if (begin(lane) == 0)
		serve(lane);
	atomic_store(&lane->closing, true);
	drain(lane);
	lane->conn->ops->sever(lane->conn);
	if (lane->session)
		session_leave(lane);
	if (lane->tier)
		tier_lane_close(lane->tier);

	pthread_mutex_lock(&server->lock);
	peers_leave(&server->peers, &lane->place);
	*lane->prev = lane->next;
	if (lane->next)
		lane->next->prev = lane->prev;
	pthread_mutex_unlock(&server->lock);

	pthread_mutex_lock(&lane->lock);
	conn = lane->conn;
	lane->conn = NULL;
	pthread_mutex_unlock(&lane->lock);
	conn->ops->close(conn);
	free(lane->spare);

	pthread_mutex_lock(&server->lock);
	lane->next_finished = server->finished;
	server->finished = lane;
	pthread_cond_broadcast(&server->changed);
	/* an eventfd takes a 1 unless it holds 2^64 - 2 of them; written under the lock, while the server stands */
	if (write(server->wake, &one, sizeof(one)) < 0)
		report_debug("eventfd: %s", strerror(errno));
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

/* Its place was given to another one: it hears why, if it is listening.  With server.lock held. */
static struct lane *drop(struct server *server, struct peer_place *place)
{
	struct lane *lane = (struct lane *)((char *)place - offsetof(struct lane, place));

	lane_end(lane);
	pthread_cond_broadcast(&server->changed); /* it may wait for the lane whose number it wants */
	return lane;
}

void lane_relieve(struct server *server, unsigned ms)
{
	uint64_t until_ns = now_ns() + ms * 1000000ull;
	const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
	struct peer_place *place;

	pthread_mutex_lock(&server->lock);
	/* not one for each try: those that are on their way out give theirs back in a moment */
	place = server->peers.dropped ? NULL : peers_relieve(&server->peers);
	if (place)
		drop(server, place);
	/* a lane that has finished, this one or another, is closed */
	while (!server->finished && !atomic_load(&server->stopping))
		if (pthread_cond_timedwait(&server->changed, &server->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&server->lock);
}

/*
 * A place for a connection that has come.  When so many are on their way out that no more can be sent after them, it waits a
 * moment for one to be gone: that is soon, and whoever comes behind would be no better off.  With server.lock held.
 */
static int enter(struct lane *lane, struct peer_place **taken)
{
	struct server *server = lane->server;
	uint64_t until_ns = now_ns() + LANE_ENTER_NS;
	const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
	int ret;

	for (;;) {
		if (atomic_load(&server->stopping))
			return -ESHUTDOWN;
		ret = peers_enter(&server->peers, &lane->place, &lane->peer.key, taken);
		if (ret != -EAGAIN)
			return ret;
		if (pthread_cond_timedwait(&server->changed, &server->lock, &until) == ETIMEDOUT)
			return -EUSERS;
	}
}

int lane_start(struct server *server, struct conn *conn, const struct transport *transport, const struct peer *peer)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	struct peer_place *place = NULL;
	struct lane *dropped = NULL;
	struct peer who;
	char text[SERVER_MORE_MAX];
	const char *more;
	pthread_attr_t attr;
	int entry, ret;

	if (!lane) {
		conn->ops->close(conn);
		return -ENOMEM;
	}
	lane->server = server;
	lane->conn = conn;
	lane->transport = transport;
	lane->peer = *peer;
	lane->greeting = true;
	lane->sending = true; /* until the preamble is answered */
	lane->out_last = &lane->out;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_mutex_init(&lane->tier_lock, NULL);
	pthread_cond_init(&lane->idle, NULL);
	conn->ops->start(conn, &lane->closing);

	pthread_mutex_lock(&server->lock);
	entry = ret = enter(lane, &place);
	if (place) {
		dropped = drop(server, place);
		who = dropped->peer;
	}
	if (ret >= 0) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, LANE_STACK);
		ret = -pthread_create(&lane->thread, &attr, lane_main, lane);
		pthread_attr_destroy(&attr);
	}
	if (!ret) {
		/* its thread takes the lock before it ends, and so finds itself in the list */
		server->threads_n++;
		lane->next = server->lanes;
		lane->prev = &server->lanes;
		if (lane->next)
			lane->next->prev = &lane->next;
		server->lanes = lane;
	} else {
		peers_leave(&server->peers, &lane->place);
	}
	pthread_mutex_unlock(&server->lock);
	if (dropped && (more = server_refused(server, entry == PEERS_SHARE ? WIRE_REFUSED_PEER_GREETING : WIRE_REFUSED_GREETING,
					      text)))
		report_warning("%s: dropped for another connection: it has not said hello, and %s%s", who.text,
			       entry == PEERS_SHARE ? "its peer has as many such as it may (--max-peer-connections)"
						    : "there are as many such as may be (--max-connections)",
			       more);
	if (!ret)
		return 0;
	more = ret == -ESHUTDOWN ? NULL : server_refused(server, ret == -EUSERS ? WIRE_REFUSED_GREETING : WIRE_REFUSED_HOST, text);
	if (more)
		report_warning("%s: refused: %s%s", peer->text,
			       ret == -EUSERS ? "more connections come than can be closed (--max-connections)" : strerror(-ret), more);
	if (ret == -EUSERS) {
		struct wire_preamble_reply reply = {.status = wire_status(ret), .version = WIRE_VERSION};
		uint8_t message[WIRE_PREAMBLE_REPLY_SIZE];

		wire_put_preamble_reply(message, &reply);
		conn->ops->refuse(conn, message);
	}
	conn->ops->close(conn);
	pthread_cond_destroy(&lane->idle);
	pthread_mutex_destroy(&lane->tier_lock);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
	return ret;
}

void lane_join(struct lane *lane)
{
	struct server *server = lane->server;

	pthread_join(lane->thread, NULL);
	pthread_mutex_lock(&server->lock);
	server->threads_n--;
	pthread_mutex_unlock(&server->lock);
	pthread_cond_destroy(&lane->idle);
	pthread_mutex_destroy(&lane->tier_lock);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
}
