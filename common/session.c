/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session - opening and ending a session, the table of its lanes, its buffers,
 * and the notices that its lanes have found.
 */
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int decode_hello(struct op *op, const uint8_t *msg, size_t len)
{
	return wire_get_hello_reply(msg, len, op->out);
}

static const struct transport_ops *const providers[] = {
	[ENDPOINT_TCP] = &transport_tcp,
	[ENDPOINT_LOCAL] = &transport_local,
	[ENDPOINT_VERBS] = &transport_verbs,
};

static void default_name(char *name, size_t size)
{
	char host[64] = "";

	if (gethostname(host, sizeof(host) - 1) < 0 || !host[0])
		snprintf(host, sizeof(host), "localhost");
	snprintf(name, size, "%.31s@%.31s", program_invocation_short_name, host);
}

/* Says hello on lane 0, and writes down what was granted. */
static int hello(struct brick_session *session, struct brick_lane *lane, const struct brick_options *options)
{
	struct wire_hello ask = {
		.maps = options->maps,
		.lanes = options->lanes ? options->lanes : 1,
		.depth = (uint16_t)lane->depth,
		.pid = (uint64_t)getpid(),
	};
	struct wire_hello_reply reply;
	struct brick_info *info = &session->info;
	int ret;

	if (session->ops->features)
		ask.features = session->ops->features(session->domain);
	if (options->name)
		snprintf(ask.name, sizeof(ask.name), "%s", options->name);
	else
		default_name(ask.name, sizeof(ask.name));
	ret = call_single(lane, WIRE_HELLO, &ask, decode_hello, &reply);
	if (ret < 0)
		return ret;
	if (reply.features & ~ask.features)
		return brick_fail(-EPROTO, "%s: the brick turned on features that were not asked for (0x%" PRIx64 ")",
				  session->text, reply.features);
	if (reply.method == WIRE_PERSIST_FLUSH && !(reply.features & WIRE_FEATURE_FLUSH))
		return brick_fail(-EPROTO, "%s: the brick wants RDMA FLUSH and did not grant it", session->text);
	if (reply.method < WIRE_PERSIST_TARGET || reply.method > WIRE_PERSIST_VOLATILE)
		return brick_fail(-EPROTO, "%s: the brick persists by a method that this libbrick does not know (%u)",
				  session->text, reply.method);
	if (reply.maps == 0 || reply.lanes == 0 || reply.depth == 0)
		return brick_fail(-EPROTO, "%s: the brick granted %u maps, %u lanes, depth %u", session->text, reply.maps,
				  reply.lanes, reply.depth);
	ret = session->ops->attach(session->domain, lane->transport, &reply);
	if (ret < 0)
		return ret;
	memcpy(info->uuid, reply.uuid, sizeof(info->uuid));
	info->instance = reply.instance;
	info->loss_epoch = reply.loss_epoch;
	info->capacity = reply.capacity;
	info->free = reply.free;
	info->session = reply.session;
	info->maps = reply.maps;
	info->lanes = reply.lanes < ask.lanes ? reply.lanes : ask.lanes;
	info->depth = reply.depth < ask.depth ? reply.depth : ask.depth;
	info->lease_ms = reply.lease_ms;
	info->method = (enum brick_persist_method)reply.method;
	lane_limit(lane, info->depth);
	return 0;
}

static void session_delete(struct brick_session *session)
{
	struct session_buffer *buffer;

	for (unsigned i = 0; session->lanes && i < SESSION_LANES_MAX; i++)
		if (session->lanes[i])
			lane_delete(session->lanes[i]);
	free(session->lanes);
	while ((buffer = LIST_FIRST(&session->buffers))) {
		LIST_REMOVE(buffer, link);
		if (session->ops->buffer_unregister)
			session->ops->buffer_unregister(session->domain, buffer->memory, buffer->size);
		if (buffer->ours)
			free(buffer->memory);
		free(buffer);
	}
	if (session->ops)
		session->ops->domain_close(session->domain);
	handles_close(session);
	pthread_mutex_destroy(&session->lock);
	free(session);
}

int brick_open(const char *endpoint, const struct brick_options *options, struct brick_session **sessionp)
{
	static const struct brick_options defaults;
	struct brick_session *session;
	struct brick_lane *lane = NULL;
	unsigned depth;
	int ret;

	*sessionp = NULL;
	if (!options)
		options = &defaults;
	depth = options->depth ? options->depth : SESSION_DEPTH_DEFAULT;
	if (options->lanes > SESSION_LANES_MAX || depth > SESSION_DEPTH_MAX)
		return brick_fail(-EINVAL, "%s: at most %u lanes of depth %u can be asked for", endpoint,
				  SESSION_LANES_MAX, SESSION_DEPTH_MAX);
	session = calloc(1, sizeof(*session));
	if (!session)
		return brick_fail(-ENOMEM, "%s: no memory for a session", endpoint);
	pthread_mutex_init(&session->lock, NULL);
	LIST_INIT(&session->buffers);
	session->timeout_ms = options->timeout_ms ? options->timeout_ms : SESSION_TIMEOUT_MS;
	session->spin_ns = (options->spin_us ? options->spin_us : SESSION_SPIN_US) * 1000ull;
	ret = endpoint_parse(endpoint, &session->endpoint);
	if (ret < 0) {
		ret = brick_fail(-EINVAL, "%s: not an endpoint: expected " ENDPOINT_SYNTAX, endpoint);
		goto fail;
	}
	endpoint_format(&session->endpoint, session->text);
	session->lanes = calloc(SESSION_LANES_MAX, sizeof(*session->lanes));
	if (!session->lanes) {
		ret = brick_fail(-ENOMEM, "%s: no memory for a session", endpoint);
		goto fail;
	}
	session->ops = providers[session->endpoint.kind];
	ret = session->ops->domain_open(&session->endpoint, &session->domain);
	if (ret < 0) {
		session->ops = NULL;
		goto fail;
	}
	if (session->ops->device_checks)
		ret = handles_open(session);
	if (ret == 0)
		ret = lane_new(session, 0, depth, &lane);
	if (ret < 0)
		goto fail;
	session->lanes[0] = lane;
	ret = lane_connect(lane);
	if (ret < 0)
		goto fail;
	ret = hello(session, lane, options);
	if (ret < 0)
		goto fail;
	*sessionp = session;
	return 0;
fail:
	session_delete(session);
	return ret;
}

/* Tells the brick that the lane ends here. A lane with requests in flight is just dropped. */
static void say_goodbye(struct brick_lane *lane)
{
	if (lane->error)
		return;
	if (lane->in_flight) {
		lane_break(lane, brick_fail(-ECONNABORTED, "%s: the lane was closed", lane->session->text));
		return;
	}
	if (lane->timeout_ns > SESSION_BYE_MS * 1000000ull)
		lane->timeout_ns = SESSION_BYE_MS * 1000000ull;
	call_single(lane, WIRE_BYE, NULL, NULL, NULL);
}

/*
 * The brick closes a connection after it has taken the lane down, the last one after
 * the session: whoever opens the next session does not meet this one's locks.
 */
static void await_end(struct brick_session *session)
{
	struct brick_completion none;

	for (unsigned i = 0; i < session->info.lanes; i++) {
		if (!session->lanes[i])
			continue;
		say_goodbye(session->lanes[i]);
		if (session->lanes[i]->error == -ETIMEDOUT)
			return;		/* nor will it answer on the others */
	}
	for (unsigned i = 0; i < session->info.lanes; i++)
		if (session->lanes[i] && !session->lanes[i]->error &&
		    brick_wait(session->lanes[i], &none, 1, SESSION_BYE_MS) == -ETIME)
			return;		/* it takes longer than anybody should wait */
}

void brick_close(struct brick_session *session)
{
	if (!session)
		return;
	await_end(session);
	session_delete(session);
}

const struct brick_info *brick_info(const struct brick_session *session)
{
	return &session->info;
}

const char *brick_endpoint(const struct brick_session *session)
{
	return session->text;
}

/* Lanes. */

int brick_lane_open(struct brick_session *session, struct brick_lane **lanep)
{
	struct brick_lane *lane = NULL;
	unsigned number = 0;
	int ret = 0;

	*lanep = NULL;
	/* The number is taken under the lock, the connection is made without it. */
	pthread_mutex_lock(&session->lock);
	while (number < session->info.lanes && session->lanes[number])
		number++;
	if (number == session->info.lanes)
		ret = brick_fail(-EUSERS, "%s: the brick granted %u lanes, and all are open", session->text,
				 session->info.lanes);
	else
		ret = lane_new(session, number, session->info.depth, &lane);
	if (ret == 0)
		session->lanes[number] = lane;
	pthread_mutex_unlock(&session->lock);
	if (ret < 0)
		return ret;
	ret = lane_connect(lane);
	if (ret < 0) {
		brick_lane_close(lane);
		return ret;
	}
	*lanep = lane;
	return 0;
}

void brick_lane_close(struct brick_lane *lane)
{
	struct brick_session *session;

	if (!lane)
		return;
	session = lane->session;
	say_goodbye(lane);
	pthread_mutex_lock(&session->lock);
	session->lanes[lane->number] = NULL;
	pthread_mutex_unlock(&session->lock);
	lane_delete(lane);
}

struct brick_lane *brick_lane(struct brick_session *session, unsigned number)
{
	struct brick_lane *lane = NULL;

	pthread_mutex_lock(&session->lock);
	if (number < session->info.lanes)
		lane = session->lanes[number];
	pthread_mutex_unlock(&session->lock);
	return lane;
}

/* Buffers. */

static int register_buffer(struct brick_session *session, void *memory, size_t size, bool ours)
{
	struct session_buffer *buffer = malloc(sizeof(*buffer));
	int ret = 0;

	if (!buffer)
		return brick_fail(-ENOMEM, "%s: no memory to note a buffer", session->text);
	*buffer = (struct session_buffer){ .memory = memory, .size = size, .ours = ours };
	if (session->ops->buffer_register)
		ret = session->ops->buffer_register(session->domain, memory, size);
	if (ret < 0) {
		free(buffer);
		return ret;
	}
	pthread_mutex_lock(&session->lock);
	LIST_INSERT_HEAD(&session->buffers, buffer, link);
	pthread_mutex_unlock(&session->lock);
	return 0;
}

static void unregister_buffer(struct brick_session *session, void *memory, bool ours)
{
	struct session_buffer *buffer;

	if (!memory)
		return;
	pthread_mutex_lock(&session->lock);
	LIST_FOREACH(buffer, &session->buffers, link)
		if (buffer->memory == memory && buffer->ours == ours)
			break;
	if (buffer)
		LIST_REMOVE(buffer, link);
	pthread_mutex_unlock(&session->lock);
	if (!buffer)
		return;
	if (session->ops->buffer_unregister)
		session->ops->buffer_unregister(session->domain, memory, buffer->size);
	if (ours)
		free(memory);
	free(buffer);
}

void *brick_buffer_alloc(struct brick_session *session, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory = NULL;

	/* Whole pages of their own: a registration pins pages. */
	if (size == 0 || size > SIZE_MAX - page || posix_memalign(&memory, page, (size + page - 1) / page * page) != 0) {
		brick_fail(-ENOMEM, "%s: no memory for a buffer of %zu bytes", session->text, size);
		return NULL;
	}
	if (register_buffer(session, memory, size, true) < 0) {
		free(memory);
		return NULL;
	}
	return memory;
}

void brick_buffer_free(struct brick_session *session, void *buffer)
{
	unregister_buffer(session, buffer, true);
}

int brick_buffer_register(struct brick_session *session, void *buffer, size_t size)
{
	if (!buffer || size == 0)
		return brick_fail(-EINVAL, "%s: a buffer of no memory", session->text);
	return register_buffer(session, buffer, size, false);
}

void brick_buffer_unregister(struct brick_session *session, void *buffer)
{
	unregister_buffer(session, buffer, false);
}

/* Notices. */

void session_notice(struct brick_session *session, const struct wire_notice *notice)
{
	unsigned at;

	if (notice->kind < WIRE_NOTICE_RECALL || notice->kind > WIRE_NOTICE_GOING_DOWN)
		return;		/* of a later protocol; nobody could act on it */
	pthread_mutex_lock(&session->lock);
	if (session->notice_count == SESSION_NOTICES_MAX) {	/* the newest tell the most */
		session->notice_first = (session->notice_first + 1) % SESSION_NOTICES_MAX;
		session->notice_count--;
	}
	at = (session->notice_first + session->notice_count++) % SESSION_NOTICES_MAX;
	session->notices[at] = (struct brick_notice){ (enum brick_notice_kind)notice->kind, notice->arg };
	pthread_mutex_unlock(&session->lock);
}

int brick_notice(struct brick_session *session, struct brick_notice *notice)
{
	int found = 0;

	pthread_mutex_lock(&session->lock);
	if (session->notice_count > 0) {
		*notice = session->notices[session->notice_first];
		session->notice_first = (session->notice_first + 1) % SESSION_NOTICES_MAX;
		session->notice_count--;
		found = 1;
	}
	pthread_mutex_unlock(&session->lock);
	return found;
}
