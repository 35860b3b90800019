/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lane - a connection's queue: requests go out in messages, as many at once as
 * the brick granted, and come back as completions in any order.
 *
 * Request IDs are (generation << 16 | slot), so that a reply to what is no longer in
 * flight is noticed.
 *
 * A request is late when it has no answer and nothing has moved on the lane for the
 * time limit, or, whatever moved, for LATE_FACTOR times that: many requests may
 * queue in front of slow storage or a slow wire.  The limit is the same for all, so
 * the first of those in flight, in the order of sending, is the first to run out.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

#define LATE_FACTOR 4
#define UNTIMED_POLLS 16		/* polls until the clock is looked at, where a poll costs less than that */
#define SPIN_PATIENCE 8			/* so many vain spins and it is left out; tried again after as many waits */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int lane_new(struct brick_session *session, unsigned number, unsigned depth, struct brick_lane **lanep)
{
	struct brick_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		goto nomem;
	lane->session = session;
	lane->number = number;
	lane->depth = depth;
	lane->error = -ENOTCONN;
	lane->epoll = lane->timer = -1;
	lane->timeout_ns = (uint64_t)session->timeout_ms * 1000000;
	STAILQ_INIT(&lane->free_ops);
	STAILQ_INIT(&lane->ready);
	TAILQ_INIT(&lane->free_slots);
	TAILQ_INIT(&lane->sent);
	lane->ops_made = depth;
	lane->ops = calloc(depth, sizeof(*lane->ops));
	lane->slots = calloc(depth, sizeof(*lane->slots));
	if (!lane->ops || !lane->slots)
		goto nomem;
	for (unsigned i = 0; i < depth; i++) {
		lane->slots[i].id = i;
		STAILQ_INSERT_TAIL(&lane->free_ops, &lane->ops[i], link);
		TAILQ_INSERT_TAIL(&lane->free_slots, &lane->slots[i], link);
	}
	*lanep = lane;
	return 0;
nomem:
	if (lane)
		lane_delete(lane);
	return brick_fail(-ENOMEM, "%s: no memory for a lane of depth %u", session->text, depth);
}

static void disconnect(struct brick_lane *lane)
{
	if (!lane->transport)
		return;
	if (lane->epoll_events)
		epoll_ctl(lane->epoll, EPOLL_CTL_DEL, lane->session->ops->fd(lane->transport), NULL);
	lane->epoll_events = 0;
	lane->session->ops->close(lane->transport);
	lane->transport = NULL;
}

void lane_delete(struct brick_lane *lane)
{
	disconnect(lane);
	if (lane->epoll >= 0)
		close(lane->epoll);
	if (lane->timer >= 0)
		close(lane->timer);
	for (unsigned i = 0; lane->ops && i < lane->ops_made; i++)
		free(lane->ops[i].flush);
	free(lane->ops);
	free(lane->slots);
	free(lane);
}

void lane_limit(struct brick_lane *lane, unsigned depth)
{
	STAILQ_INIT(&lane->free_ops);
	TAILQ_INIT(&lane->free_slots);
	lane->depth = depth;
	for (unsigned i = 0; i < depth; i++) {
		STAILQ_INSERT_TAIL(&lane->free_ops, &lane->ops[i], link);
		TAILQ_INSERT_TAIL(&lane->free_slots, &lane->slots[i], link);
	}
}

static void ready(struct brick_lane *lane, struct op *op)
{
	free(op->flush);
	op->flush = NULL;
	STAILQ_INSERT_TAIL(&lane->ready, op, link);
}

static void fail_op(struct op *op, int error)
{
	if (op->status == 0)
		op->status = error;
}

/* One message of op is over. */
static void slot_over(struct brick_lane *lane, struct slot *slot)
{
	struct op *op = slot->op;

	TAILQ_REMOVE(&lane->sent, slot, link);
	slot->op = NULL;
	slot->id += 1u << 16;		/* the next generation */
	TAILQ_INSERT_TAIL(&lane->free_slots, slot, link);
	if (--op->messages == 0 && op->sent == op->n)
		ready(lane, op);
}

void lane_break(struct brick_lane *lane, int error)
{
	struct slot *slot;

	if (lane->error)
		return;
	lane->error = error;
	snprintf(lane->error_text, sizeof(lane->error_text), "%s", brick_error());
	disconnect(lane);
	if (lane->unsent) {
		struct op *op = lane->unsent;

		lane->unsent = NULL;
		call_failed(op, op->sent, op->n - op->sent, error);
		fail_op(op, error);
		op->sent = op->n;
		if (op->messages == 0)
			ready(lane, op);
	}
	while ((slot = TAILQ_FIRST(&lane->sent))) {
		call_failed(slot->op, slot->first, slot->count, error);
		fail_op(slot->op, error);
		slot_over(lane, slot);
	}
}

static struct slot *find_slot(struct brick_lane *lane, uint32_t id)
{
	uint32_t index = id & 0xffff;

	if (index >= lane->depth || !lane->slots[index].op || lane->slots[index].id != id)
		return NULL;
	return &lane->slots[index];
}

static struct transport_io *on_find(void *arg, uint32_t id)
{
	struct slot *slot = find_slot(arg, id);

	if (!slot || (slot->op->type != WIRE_READ && slot->op->type != WIRE_WRITE))
		return NULL;
	return &slot->op->io;
}

static void on_done(void *arg, struct transport_io *io, int status)
{
	struct brick_lane *lane = arg;
	struct slot *slot = find_slot(lane, io->id);

	if (status == -EACCES && io->ranges)
		handles_refused(lane->session, io);
	/* What was in order is refused by a brick that is going: there is nothing that the application should do better. */
	if (status == -EACCES && (io->ranges || handles_allow(lane->session, io)))
		status = -ECONNRESET;
	if (status)
		call_failed(slot->op, slot->first, slot->count, status);
	if (status == -ENOMEM || status == -EFAULT)
		fail_op(slot->op, status);	/* not the brick's words: there is a text */
	else if (status == -ECONNRESET)
		fail_op(slot->op, status);	/* the provider is about to say what broke the lane */
	else if (status)
		fail_op(slot->op, brick_fail(status, "%s: the brick refused to %s %u bytes at 0x%" PRIx64 ": %s",
					     lane->session->text, io->write ? "write" : "read", io->length,
					     io->addr + io->offset, brick_errno_text(status)));
	slot_over(lane, slot);
}

static int on_message(void *arg, const uint8_t *msg, size_t len)
{
	struct brick_lane *lane = arg;
	const char *text = lane->session->text;
	struct wire_header header;
	struct wire_notice notice;
	struct slot *slot;
	int ret, status;

	ret = wire_get_header(msg, len, &header);
	if (ret < 0 || header.length != len)
		return brick_fail(-EPROTO, "%s: the brick sent something that is no message", text);
	if (header.type == WIRE_NOTICE) {
		if (wire_get_notice(msg, len, &notice) < 0)
			return brick_fail(-EPROTO, "%s: the brick sent a notice that is not well formed", text);
		session_notice(lane->session, &notice);
		return 0;
	}
	slot = find_slot(lane, header.id);
	if (!slot || header.type != (slot->op->type | WIRE_REPLY) || slot->op->type == WIRE_READ ||
	    slot->op->type == WIRE_WRITE || slot->op->type == OP_FLUSH || header.flags)
		return brick_fail(-EPROTO, "%s: the brick sent a message of type 0x%x that answers nothing (request %u)",
				  text, header.type, header.id);
	if (header.status) {
		if (len != WIRE_HEADER_SIZE)
			return brick_fail(-EPROTO, "%s: the brick failed a request and answered %zu bytes", text, len);
		status = wire_errno(header.status);
		call_failed(slot->op, slot->first, slot->count, status);
		fail_op(slot->op, brick_fail(status, "%s: the brick refused the request: %s", text,
					     brick_errno_text(status)));
	} else {
		ret = call_decode(lane, slot->op, slot->first, slot->count, msg, len);
		if (ret < 0)
			return ret;
	}
	slot_over(lane, slot);
	return 0;
}

int lane_connect(struct brick_lane *lane)
{
	struct brick_session *session = lane->session;
	const struct transport_options options = {
		.endpoint = &session->endpoint,
		.text = session->text,
		.timeout_ms = session->timeout_ms,
		.depth = lane->depth,
		.events = { on_message, on_done, on_find, lane },
	};
	struct wire_preamble preamble = {
		.version_min = WIRE_VERSION,
		.version_max = WIRE_VERSION,
		.lane = (uint16_t)lane->number,
	};
	static const uint8_t no_token[WIRE_TOKEN_SIZE];
	bool opening = memcmp(session->token, no_token, sizeof(no_token)) == 0;
	struct wire_preamble_reply reply;
	int ret, status;

	memcpy(preamble.token, session->token, sizeof(preamble.token));
	ret = session->ops->connect(session->domain, &options, &preamble, &reply, &lane->transport);
	if (ret < 0)
		return ret;
	status = wire_errno(reply.status);
	if (status == -ESTALE)
		ret = brick_fail(status, "%s: the brick does not know this session any more", session->text);
	else if (status == -EUSERS)
		ret = brick_fail(status, "%s: the brick has as many sessions as it takes, from everywhere or from here", session->text);
	else if (status == -EPROTONOSUPPORT)
		ret = brick_fail(status, "%s: the brick does not speak version %u of the protocol", session->text,
				 WIRE_VERSION);
	else if (status == -ESHUTDOWN)
		ret = brick_fail(status, "%s: the brick is ending", session->text);
	else if (status)
		ret = brick_fail(status, "%s: the brick refused the connection: %s", session->text,
				 brick_errno_text(status));
	else if (reply.version != WIRE_VERSION)
		ret = brick_fail(-EPROTO, "%s: the brick speaks version %u of the protocol, not %u", session->text,
				 reply.version, WIRE_VERSION);
	else if (reply.lane != lane->number || memcmp(reply.token, no_token, sizeof(no_token)) == 0 ||
		 (!opening && memcmp(reply.token, session->token, sizeof(reply.token)) != 0))
		ret = brick_fail(-EPROTO, "%s: the brick admitted another lane or session than was asked for",
				 session->text);
	if (ret < 0) {
		disconnect(lane);
		return ret;
	}
	if (opening)
		memcpy(session->token, reply.token, sizeof(session->token));
	lane->error = 0;
	return 0;
}

int brick_lane_rejoin(struct brick_lane *lane)
{
	int ret;

	if (!lane->error)
		return 0;
	ret = lane_connect(lane);
	if (ret < 0)
		snprintf(lane->error_text, sizeof(lane->error_text), "%s", brick_error());
	return ret;
}

int brick_lane_state(const struct brick_lane *lane)
{
	return lane->error;
}

unsigned brick_in_flight(const struct brick_lane *lane)
{
	return lane->in_flight;
}

int lane_op(struct brick_lane *lane, uint16_t type, uint64_t cookie, struct op **opp)
{
	struct op *op;

	if (lane->error)
		return brick_fail(lane->error, "%s", lane->error_text);
	op = STAILQ_FIRST(&lane->free_ops);
	if (!op || lane->unsent || TAILQ_EMPTY(&lane->free_slots))
		return -EAGAIN;		/* not an error: no text */
	STAILQ_REMOVE_HEAD(&lane->free_ops, link);
	memset(op, 0, offsetof(struct op, io));	/* io and iov are written whole, where they are used */
	op->type = type;
	op->cookie = cookie;
	lane->in_flight++;
	*opp = op;
	return 0;
}

void lane_drop(struct brick_lane *lane, struct op *op)
{
	lane->in_flight--;
	STAILQ_INSERT_HEAD(&lane->free_ops, op, link);
}

/* What has moved without a look at the clock has moved now, at the latest. */
static void note_time(struct brick_lane *lane, uint64_t now)
{
	if (lane->moved)
		lane->moved_ns = now;
	lane->moved = false;
	lane->untimed = 0;
}

/* When the first of what is in flight will be late. */
static uint64_t deadline(const struct brick_lane *lane)
{
	const struct slot *first = TAILQ_FIRST(&lane->sent);
	uint64_t quiet, last;

	if (!first)
		return UINT64_MAX;
	quiet = (first->posted_ns > lane->moved_ns ? first->posted_ns : lane->moved_ns) + lane->timeout_ns;
	last = first->posted_ns + LATE_FACTOR * lane->timeout_ns;
	return quiet < last ? quiet : last;
}

static struct slot *take_slot(struct brick_lane *lane, struct op *op, size_t first, size_t count)
{
	struct slot *slot = TAILQ_FIRST(&lane->free_slots);

	TAILQ_REMOVE(&lane->free_slots, slot, link);
	TAILQ_INSERT_TAIL(&lane->sent, slot, link);
	if (slot->id < 1u << 16)
		slot->id += 1u << 16;	/* ID 0 is the notices' */
	slot->op = op;
	slot->first = first;
	slot->count = count;
	op->messages++;
	return slot;
}

/* Sends as much of the batch as there are slots for. */
static void send_batch(struct brick_lane *lane)
{
	uint8_t buf[WIRE_MSG_MAX];

	while (lane->unsent && !TAILQ_EMPTY(&lane->free_slots)) {
		struct op *op = lane->unsent;
		size_t first = op->sent, count = op->n - first;
		struct slot *slot;
		size_t len;
		int ret;

		if (count > call_batch(op))
			count = call_batch(op);
		slot = take_slot(lane, op, first, count);
		op->sent += count;
		if (op->sent == op->n)
			lane->unsent = NULL;
		slot->posted_ns = now_ns();
		len = call_encode(op, slot->id, first, count, buf);
		ret = lane->session->ops->send(lane->transport, buf, len);
		if (ret < 0)
			lane_break(lane, ret);
	}
}

void lane_post(struct brick_lane *lane, struct op *op)
{
	if (op->n == 0) {
		ready(lane, op);
		return;
	}
	lane->unsent = op;
	send_batch(lane);
}

int lane_post_io(struct brick_lane *lane, struct op *op)
{
	struct slot *slot;
	int ret;

	if (op->n == 0)
		op->n = 1;	/* a flush has its ranges */
	op->sent = op->n;
	slot = take_slot(lane, op, 0, op->n);
	op->io.id = slot->id;
	ret = lane->session->ops->post(lane->transport, &op->io);
	if (ret == -EINVAL) {
		TAILQ_REMOVE(&lane->sent, slot, link);
		slot->op = NULL;
		TAILQ_INSERT_HEAD(&lane->free_slots, slot, link);
		lane_drop(lane, op);
		return ret;
	}
	/* What is over already is never late: where that is the rule (local), the clock would cost more than the rest. */
	if (ret == 0)
		slot->posted_ns = now_ns();
	else if (ret == 1)
		slot_over(lane, slot);
	else
		lane_break(lane, ret);
	return 0;
}

/* Moves what can be moved without waiting: the connection, the rest of a batch, the time limits. */
static void progress(struct brick_lane *lane)
{
	uint64_t now = 0;
	int moved;

	if (!lane->transport)
		return;
	/*
	 * The clock is read before the replies are: whoever did not poll for a long time
	 * finds the answers that have come, and not a brick that is late.  Where polling is
	 * cheaper than the clock it is read now and then.
	 */
	if ((!TAILQ_EMPTY(&lane->sent) || lane->timer_ns) &&
	    (!lane->session->ops->cheap_poll || lane->timer_ns || ++lane->untimed >= UNTIMED_POLLS)) {
		now = now_ns();
		note_time(lane, now);
	}
	moved = lane->session->ops->poll(lane->transport);
	if (moved < 0) {
		lane_break(lane, moved);
		return;
	}
	if (moved > 0 && now)
		lane->moved_ns = now;
	else if (moved > 0)
		lane->moved = true;
	if (lane->unsent)
		send_batch(lane);
	if (lane->timer_ns && now >= lane->timer_ns) {
		uint64_t expirations;

		if (read(lane->timer, &expirations, sizeof(expirations)) > 0)
			lane->timer_ns = 0;
	}
	if (now && now >= deadline(lane))
		lane_break(lane, brick_fail(-ETIMEDOUT, "%s: no answer from the brick for %u ms", lane->session->text,
					    lane->session->timeout_ms));
}

static int take(struct brick_lane *lane, struct brick_completion *completions, int max)
{
	struct op *op;
	int n = 0;

	while (n < max && (op = STAILQ_FIRST(&lane->ready))) {
		STAILQ_REMOVE_HEAD(&lane->ready, link);
		completions[n].cookie = op->cookie;
		completions[n].status = op->status;
		n++;
		lane->in_flight--;
		STAILQ_INSERT_HEAD(&lane->free_ops, op, link);
	}
	return n;
}

int brick_poll(struct brick_lane *lane, struct brick_completion *completions, int max)
{
	int n = take(lane, completions, max);

	/* With completions at hand, the system is only asked when it can have more. */
	if (n < max && (n == 0 || !TAILQ_EMPTY(&lane->sent))) {
		progress(lane);
		n += take(lane, completions + n, max - n);
	}
	return n;
}

/*
 * Looks for completions for a while, where that is cheap: an answer often comes sooner than a sleeper
 * could be woken.  A lane whose answers took longer all the time tries it only now and then.
 */
static void spin(struct brick_lane *lane, uint64_t until_ns)
{
	uint64_t start, now;

	if (lane->spin_misses >= SPIN_PATIENCE && ++lane->spin_skips < SPIN_PATIENCE)
		return;
	lane->spin_skips = 0;
	start = now = now_ns();
	if (until_ns > start + lane->session->spin_ns)
		until_ns = start + lane->session->spin_ns;
	do {
		for (int i = 0; i < UNTIMED_POLLS; i++) {
			int moved = lane->session->ops->poll(lane->transport);

			if (moved < 0) {
				lane_break(lane, moved);
				return;
			}
			if (moved == 0)
				continue;
			lane->moved = true;
			if (lane->unsent)
				send_batch(lane);
			if (lane->error || !STAILQ_EMPTY(&lane->ready)) {
				lane->spin_misses = 0;
				return;
			}
		}
		now = now_ns();
	} while (now < until_ns);
	if (lane->spin_misses < SPIN_PATIENCE)
		lane->spin_misses++;
}

/* Sleeps until the connection has something, or until the time; 0 when it is worth to poll again. */
static int sleep_until(struct brick_lane *lane, uint64_t until_ns)
{
	struct pollfd pfd = { .fd = lane->session->ops->fd(lane->transport) };
	struct timespec time;
	uint64_t now, late;

	if (lane->session->ops->arm(lane->transport, &pfd.events))
		return 0;
	now = now_ns();
	note_time(lane, now);
	late = deadline(lane);
	if (late < until_ns)
		until_ns = late;
	lane->untimed = UNTIMED_POLLS;	/* the next poll looks at the clock */
	if (now >= until_ns)
		return 0;
	time.tv_sec = (time_t)((until_ns - now) / 1000000000);
	time.tv_nsec = (long)((until_ns - now) % 1000000000);
	if (ppoll(&pfd, 1, &time, NULL) < 0 && errno != EINTR)
		return brick_fail(-errno, "%s: cannot wait for the brick: %s", lane->session->text,
				  brick_errno_text(-errno));
	return 0;
}

/* polled: the caller has just posted, it is too early for an answer. */
static int wait_for(struct brick_lane *lane, struct brick_completion *completions, int max, uint64_t until_ns, bool polled)
{
	bool spun = !lane->session->ops->cheap_poll;

	for (;;) {
		int ret, n = polled ? take(lane, completions, max) : brick_poll(lane, completions, max);

		if (n > 0)
			return n;
		polled = false;
		if (lane->error)
			return brick_fail(lane->error, "%s", lane->error_text);
		if (until_ns != UINT64_MAX && now_ns() >= until_ns)
			return -ETIME;
		if (!spun) {
			spun = polled = true;
			spin(lane, until_ns);
			continue;
		}
		ret = sleep_until(lane, until_ns);
		if (ret < 0)
			return ret;
	}
}

int brick_wait(struct brick_lane *lane, struct brick_completion *completions, int max, int timeout_ms)
{
	uint64_t until = UINT64_MAX;

	if (max <= 0)
		return brick_fail(-EINVAL, "%s: brick_wait() for no completion at all", lane->session->text);
	/* The session's limit is each request's own, and ends the waiting as a completion. */
	if (timeout_ms >= 0)
		until = now_ns() + (uint64_t)timeout_ms * 1000000;
	else if (lane->in_flight == 0)
		until = now_ns() + lane->timeout_ns;
	return wait_for(lane, completions, max, until, false);
}

int lane_finish(struct brick_lane *lane)
{
	struct brick_completion completion = { .status = 0 };
	int ret = wait_for(lane, &completion, 1, UINT64_MAX, true);

	return ret < 0 ? ret : completion.status;
}

int brick_fd(struct brick_lane *lane)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll, timer, ret;

	if (lane->epoll >= 0)
		return lane->epoll;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (epoll < 0 || timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event) < 0) {
		ret = brick_fail(-errno, "%s: cannot make a descriptor to wait on: %s", lane->session->text,
				 brick_errno_text(-errno));
		if (epoll >= 0)
			close(epoll);
		if (timer >= 0)
			close(timer);
		return ret;
	}
	lane->epoll = epoll;
	lane->timer = timer;
	return epoll;
}

int brick_arm(struct brick_lane *lane)
{
	struct epoll_event event = { 0 };
	short wanted = 0;
	uint64_t late;
	int ret;

	if (!STAILQ_EMPTY(&lane->ready))
		return 1;
	if (lane->error)
		return brick_fail(lane->error, "%s", lane->error_text);
	ret = brick_fd(lane);
	if (ret < 0)
		return ret;
	if (lane->session->ops->arm(lane->transport, &wanted))
		return 1;
	event.events = (wanted & POLLIN ? (uint32_t)EPOLLIN : 0) | (wanted & POLLOUT ? (uint32_t)EPOLLOUT : 0);
	if (event.events != lane->epoll_events) {
		if (epoll_ctl(lane->epoll, lane->epoll_events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
			      lane->session->ops->fd(lane->transport), &event) < 0)
			goto fail;
		lane->epoll_events = event.events;
	}
	if (lane->moved)
		note_time(lane, now_ns());
	late = deadline(lane);
	/* A timer that goes off too early costs one poll; one that is set for each request costs more. */
	if (late != UINT64_MAX && (lane->timer_ns == 0 || lane->timer_ns > late)) {
		struct itimerspec spec = { .it_value = { .tv_sec = (time_t)(late / 1000000000),
							 .tv_nsec = (long)(late % 1000000000) } };

		if (timerfd_settime(lane->timer, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
			goto fail;
		lane->timer_ns = late;
	}
	return 0;
fail:
	return brick_fail(-errno, "%s: cannot arm the lane's descriptor: %s", lane->session->text,
			  brick_errno_text(-errno));
}
