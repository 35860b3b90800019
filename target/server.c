/* SPDX-License-Identifier: BSD-3-Clause */
/* server - the life of a brick at work: listeners, the acceptor, start and stop. */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#define COMPLAINTS_BURST 20   /* in a period */
#define COMPLAINTS_NS	 10000000000ull
#define STOP_GRACE_MS	 5000 /* for requests under way */
#define ACCEPT_PAUSE_MS	 100  /* when descriptors ran out */

const struct server_config server_config_default = {
	.max_sessions = 64,
	.max_lanes = 16,
	.max_maps = 65536,
	.max_connections = 128,
	.max_depth = 256,
	.max_requests = 256,
	.hello_ms = 10000,
	.lease_ms = 10000,
	.quiesce_ms = 2000,
	.recall_ms = 2000,
	.workers = 64,
};

static int know_block(void *arg, uint32_t slot, uint64_t block)
{
	return idmap_insert(arg, block, slot);
}

int server_new(struct server **out, struct pool *pool, struct tier *tier, const struct server_config *config)
{
	struct server *server = calloc(1, sizeof(*server));
	pthread_condattr_t attr;
	int ret = -ENOMEM;

	if (!server)
		return -ENOMEM;
	server->config = *config;
	if (!config->max_peer_sessions)
		server->config.max_peer_sessions = config->max_sessions - config->max_sessions / 4;
	if (!config->max_peer_connections)
		server->config.max_peer_connections = (config->max_connections + 1) / 2;
	refusals_init(&server->refusals);
	peers_init(&server->peers, &(struct peers_limits){
					   .greeting = config->max_connections,
					   .peer_greeting = server->config.max_peer_connections,
					   .sessions = config->max_sessions,
					   .peer_sessions = server->config.max_peer_sessions,
				   });
	server->pool = pool;
	server->tier = tier;
	server->started_ns = now_ns();
	server->generation = 1;
	server->maps_limit = tier_limit(tier);
	pthread_mutex_init(&server->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&server->changed, &attr);
	pthread_condattr_destroy(&attr);
	server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->wake < 0) {
		ret = -errno;
		goto fail;
	}
	server->map = idmap_new();
	if (!server->map)
		goto fail;
	ret = table_init(&server->blocks);
	if (ret)
		goto fail;
	ret = pool_each(pool, know_block, server->map);
	if (ret)
		goto fail;
	ret = worker_pool_new(&server->workers, config->workers, config->max_sessions);
	if (ret)
		goto fail;
	*out = server;
	return 0;
fail:
	server_delete(server);
	return ret;
}

void server_delete(struct server *server)
{
	if (!server)
		return;
	if (server->workers)
		worker_pool_delete(server->workers);
	for (unsigned i = 0; i < server->listeners; i++)
		listener_close(&server->listener[i]);
	peers_fini(&server->peers);
	refusals_fini(&server->refusals);
	table_fini(&server->blocks);
	idmap_delete(server->map);
	if (server->wake >= 0)
		close(server->wake);
	pthread_cond_destroy(&server->changed);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

/* In direct mode the blocks' memory is the pool's own, which may be of a kind that cannot be served everywhere. */
static int prove_memory(struct server *server, struct listener *listener)
{
	int ret;

	if (!listener->transport->prove || tier_mode(server->tier) != TIER_DIRECT)
		return 0;
	ret = listener->transport->prove(listener, pool_address(server->pool, 0), POOL_SLOT_SIZE);
	if (ret)
		report_error("%s: cannot be served there", pool_path(server->pool));
	return ret;
}

int server_listen(struct server *server, const struct endpoint *endpoint)
{
	char text[ENDPOINT_TEXT_MAX];
	int ret;

	endpoint_format(endpoint, text);
	if (server->listeners == SERVER_LISTENERS) {
		report_error("%s: at most %d endpoints can be listened on", text, SERVER_LISTENERS);
		return -E2BIG;
	}
	if (!server->config.public && !endpoint_is_local(endpoint)) {
		report_error("%s: others can reach this address, and whoever reaches a brick owns its data; "
			     "use a loopback address or a unix: endpoint, or say --public", text);
		return -EPERM;
	}
	ret = listener_open(&server->listener[server->listeners], endpoint);
	if (ret)
		return ret;
	server->listeners++;
	return prove_memory(server, &server->listener[server->listeners - 1]);
}

bool server_may_complain(struct server *server)
{
	uint64_t now = now_ns();
	unsigned swallowed = 0;
	bool may;

	/* its own lock would be one more to order: these are atomics, and being off by one does no harm */
	if (now - atomic_load(&server->complaint_ns) > COMPLAINTS_NS) {
		atomic_store(&server->complaint_ns, now);
		atomic_store(&server->complaints, 0);
		swallowed = atomic_exchange(&server->swallowed, 0);
	}
	may = atomic_fetch_add(&server->complaints, 1) < COMPLAINTS_BURST;
	if (!may)
		atomic_fetch_add(&server->swallowed, 1);
	if (swallowed)
		report_warning("%u more messages about peers were left out", swallowed);
	return may;
}

const char *server_refused(struct server *server, enum wire_refusal reason, char text[SERVER_MORE_MAX])
{
	uint64_t left_out;

	if (!refusals_count(&server->refusals, reason, now_ns(), &left_out))
		return NULL;
	text[0] = 0;
	if (left_out)
		snprintf(text, SERVER_MORE_MAX, " (and %llu more since this was last said)", (unsigned long long)left_out);
	return text;
}

int server_adopt(struct server *server, int fd, const struct transport *transport, const struct peer *peer)
{
	struct conn *conn;
	int ret = conn_stream_new(&conn, fd);

	return ret ? ret : lane_start(server, conn, transport, peer);
}

static void reap(struct server *server)
{
	struct lane *lane;

	pthread_mutex_lock(&server->lock);
	while ((lane = server->finished)) {
		server->finished = lane->next_finished;
		pthread_mutex_unlock(&server->lock);
		lane_join(lane);
		pthread_mutex_lock(&server->lock);
	}
	pthread_mutex_unlock(&server->lock);
}

/* One connection from a socket that has some. */
static void take_connection(struct server *server, struct listener *listener, int socket)
{
	char text[ENDPOINT_TEXT_MAX], words[SERVER_MORE_MAX];
	struct peer peer = {0};
	struct conn *conn;
	const char *more;
	int ret = listener->transport->accept(listener, socket, &conn, &peer);

	if (ret == -EAGAIN || ret == -EWOULDBLOCK || ret == -EINTR || ret == -ECONNABORTED || ret == -EPROTO)
		return;
	endpoint_format(&listener->endpoint, text);
	if (ret == -EXDEV) {
		if ((more = server_refused(server, WIRE_REFUSED_DEVICE, words)))
			report_warning("%s: %s: refused: it came over a device that is not served (iWARP)%s", text, peer.text, more);
		return;
	}
	if (ret < 0) {
		if ((more = server_refused(server, WIRE_REFUSED_HOST, words)))
			report_error("%s: cannot take a connection: %s%s%s", text, strerror(-ret),
				     ret == -EMFILE ? " (ulimit -n, LimitNOFILE)" : "", more);
		/* it stays pending: no use in asking at once */
		if (ret == -EMFILE || ret == -ENFILE || ret == -ENOMEM || ret == -ENOBUFS)
			lane_relieve(server, ACCEPT_PAUSE_MS);
		return;
	}
	(void)lane_start(server, conn, listener->transport, &peer); /* it has said why not */
}

static void *accept_loop(void *arg)
{
	struct server *server = arg;
	struct pollfd p[1 + SERVER_LISTENERS * LISTENER_SOCKETS];
	struct listener *from[1 + SERVER_LISTENERS * LISTENER_SOCKETS];
	nfds_t n = 1;

	p[0] = (struct pollfd){.fd = server->wake, .events = POLLIN};
	for (unsigned i = 0; i < server->listeners; i++) {
		for (int j = 0; j < server->listener[i].sockets; j++) {
			p[n] = (struct pollfd){.fd = server->listener[i].socket[j], .events = POLLIN};
			from[n++] = &server->listener[i];
		}
	}
	while (!atomic_load(&server->stopping)) {
		uint64_t count;

		if (poll(p, n, -1) < 0) {
			if (errno == EINTR)
				continue;
			report_error("poll: %s; no more connections are taken", strerror(errno));
			break;
		}
		if (p[0].revents && read(server->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
			report_error("eventfd: %s", strerror(errno));
		reap(server);
		for (nfds_t i = 1; i < n; i++)
			if (p[i].revents)
				take_connection(server, from[i], p[i].fd);
	}
	return NULL;
}

int server_start(struct server *server)
{
	int ret = -pthread_create(&server->acceptor, NULL, accept_loop, server);

	if (!ret)
		server->accepting = true;
	return ret;
}

/* Waits until no connection is left; with a bound in milliseconds, or without (0).  False: it was reached. */
static bool await_lanes(struct server *server, unsigned ms)
{
	uint64_t until_ns = now_ns() + ms * 1000000ull;
	struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
	bool done;

	pthread_mutex_lock(&server->lock);
	while (server->lanes) {
		if (!ms)
			pthread_cond_wait(&server->changed, &server->lock);
		else if (pthread_cond_timedwait(&server->changed, &server->lock, &until) == ETIMEDOUT)
			break;
	}
	done = !server->lanes;
	pthread_mutex_unlock(&server->lock);
	return done;
}

void server_stop(struct server *server)
{
	uint64_t one = 1;

	/* told before anything ends: a lane that sees the flag goes by itself, and none is added behind it */
	pthread_mutex_lock(&server->lock);
	for (struct lane *lane = server->lanes; lane; lane = lane->next)
		lane_notice(lane, WIRE_NOTICE_GOING_DOWN, 0);
	atomic_store(&server->stopping, true);
	pthread_mutex_unlock(&server->lock);
	if (write(server->wake, &one, sizeof(one)) < 0)
		report_debug("eventfd: %s", strerror(errno));
	if (server->accepting)
		pthread_join(server->acceptor, NULL);
	server->accepting = false;
	for (unsigned i = 0; i < server->listeners; i++)
		listener_close(&server->listener[i]);
	server->listeners = 0;

	pthread_mutex_lock(&server->lock);
	for (struct lane *lane = server->lanes; lane; lane = lane->next)
		lane->conn->ops->shutdown(lane->conn, SHUT_RD);
	pthread_mutex_unlock(&server->lock);
	if (!await_lanes(server, STOP_GRACE_MS)) {
		report_notice("some connections have not ended in time: they are cut");
		pthread_mutex_lock(&server->lock);
		for (struct lane *lane = server->lanes; lane; lane = lane->next)
			lane_shutdown(lane);
		pthread_mutex_unlock(&server->lock);
		await_lanes(server, 0);
	}
	/* the last lanes have left the list and are about to be joined */
	pthread_mutex_lock(&server->lock);
	while (server->threads_n) {
		struct lane *lane = server->finished;

		if (!lane) {
			pthread_cond_wait(&server->changed, &server->lock);
			continue;
		}
		server->finished = lane->next_finished;
		pthread_mutex_unlock(&server->lock);
		lane_join(lane);
		pthread_mutex_lock(&server->lock);
	}
	pthread_mutex_unlock(&server->lock);
}

static void text_of_ns(uint64_t ns, char *text, size_t size)
{
	if (ns < 10000)
		snprintf(text, size, "%llu ns", (unsigned long long)ns);
	else if (ns < 10000000)
		snprintf(text, size, "%.1f us", (double)ns / 1e3);
	else
		snprintf(text, size, "%.1f ms", (double)ns / 1e6);
}

static void dump_limits(struct server *server)
{
	struct wire_limits_reply limits;

	call_limits(server, &limits);
	for (int i = 0; i < WIRE_LIMIT_ROWS; i++) {
		if (i == WIRE_LIMIT_HELLO || i == WIRE_LIMIT_STALL)
			continue; /* times: nothing of them is used */
		report_notice("statistics: limit: %s: %llu of %llu", wire_limit_names[i],
			      (unsigned long long)limits.limit[i].used, (unsigned long long)limits.limit[i].most);
	}
	for (int i = 0; i < WIRE_REFUSED_ROWS; i++)
		if (limits.refused[i])
			report_notice("statistics: refused: %s: %llu", wire_refusal_names[i], (unsigned long long)limits.refused[i]);
}

void server_dump(struct server *server)
{
	struct wire_stat_reply stat;
	char size[16], p50[32], p99[32], max[32];

	call_stat(server, &stat);
	report_notice("statistics: up %llu s, %llu of %llu blocks free (%llu zeroed), %u sessions, %u lanes, %u maps%s%s",
		      (unsigned long long)stat.uptime_ms / 1000, (unsigned long long)stat.free,
		      (unsigned long long)stat.capacity, (unsigned long long)stat.zeroed, stat.sessions, stat.lanes,
		      stat.maps, stat.fault ? ", fault mode" : "", stat.failed ? ", FAILED: the store does not persist" : "");
	if (stat.memory)
		report_notice("statistics: memory for %u blocks: %u taken, %u mapped, %u not persisted; %llu filled, %llu "
			      "written back, %llu evicted; %llu recalls",
			      stat.memory, stat.memory_used, stat.memory_pinned, stat.memory_dirty,
			      (unsigned long long)stat.fills, (unsigned long long)stat.write_backs,
			      (unsigned long long)stat.evictions, (unsigned long long)stat.recalls);
	for (int op = 0; op < WIRE_OPS; op++) {
		const struct wire_op_stat *s = &stat.op[op];

		if (!s->count)
			continue;
		format_size(s->bytes, size);
		text_of_ns(s->p50_ns, p50, sizeof(p50));
		text_of_ns(s->p99_ns, p99, sizeof(p99));
		text_of_ns(s->max_ns, max, sizeof(max));
		report_notice("statistics: %-7s %llu requests, %llu errors, %s, half within %s, 99 %% within %s, at most %s",
			      stats_names[op], (unsigned long long)s->count, (unsigned long long)s->errors, size, p50, p99,
			      max);
	}
	dump_limits(server);
	pthread_mutex_lock(&server->lock);
	for (const struct session *session = server->sessions; session; session = session->next) {
		struct wire_session_info info;

		session_info(session, &info);
		report_notice("statistics: session %llu (%s, pid %llu) over %s: %u lanes, %u maps, heard %u ms ago",
			      (unsigned long long)info.session, info.name, (unsigned long long)info.pid, info.transport,
			      info.lanes, info.maps, info.heard_ms);
	}
	pthread_mutex_unlock(&server->lock);
}
