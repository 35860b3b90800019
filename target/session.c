/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session - one initiator on the brick: how it begins, is joined by lanes, is
 * killed, and ends.
 *
 * A session ends with its last lane, in that lane's thread.  Killing marks it
 * dying (nobody joins, its own waits give up) and shuts its lanes down; whoever
 * needs its locks waits until they are gone.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "report.h"

static bool token_equal(const uint8_t *a, const uint8_t *b)
{
	unsigned differ = 0;

	/* takes as long whatever differs: a token is a secret */
	for (int i = 0; i < WIRE_TOKEN_SIZE; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

static void session_put(struct session *session)
{
	if (--session->refs)
		return;
	if (session->peer)
		peers_put(&session->server->peers, session->peer);
	worker_client_end(session->server->workers, session->worker);
	table_fini(&session->maps);
	pthread_cond_destroy(&session->room);
	pthread_mutex_destroy(&session->lock);
	free(session->lane);
	free(session);
}

/* Says which of the limits it was. */
static void too_many(struct lane *lane, int error)
{
	const bool own = error == -EDQUOT;
	char text[SERVER_MORE_MAX];
	const char *more = server_refused(lane->server, own ? WIRE_REFUSED_PEER_SESSIONS : WIRE_REFUSED_SESSIONS, text);

	if (more)
		report_warning("%s: refused: %s%s", lane->peer.text,
			       own ? "it has as many sessions as a peer may have (--max-peer-sessions)"
				   : "there are as many sessions as may be (--max-sessions)",
			       more);
}

int session_open(struct lane *lane, uint16_t number)
{
	struct server *server = lane->server;
	struct session *session, **at;
	pthread_condattr_t attr;
	int ret = 0, over = 0;

	if (number >= server->config.max_lanes)
		return -EMFILE;
	session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->lane = calloc(server->config.max_lanes, sizeof(*session->lane));
	ret = session->lane ? table_init(&session->maps) : -ENOMEM;
	if (!ret && getrandom(session->token, sizeof(session->token), 0) != sizeof(session->token)) {
		table_fini(&session->maps);
		ret = -EIO;
	}
	if (ret) {
		free(session->lane);
		free(session);
		return ret;
	}
	if (lane->transport->regions) {
		ret = lane->conn->ops->domain_new(lane->conn, &session->domain);
		if (ret) {
			table_fini(&session->maps);
			free(session->lane);
			free(session);
			return ret;
		}
	}
	session->token[0] |= 1; /* never all zero */
	pthread_mutex_init(&session->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&session->room, &attr);
	pthread_condattr_destroy(&attr);
	session->server = server;
	session->transport = lane->transport;
	session->pid = lane->peer.pid;
	session->lanes_granted = (uint16_t)server->config.max_lanes;
	session->depth_granted = SERVER_DEPTH < server->config.max_depth ? SERVER_DEPTH : (uint16_t)server->config.max_depth;
	session->refs = 1;
	atomic_init(&session->heard_ns, now_ns());
	session->worker = worker_client_new(server->workers);
	if (!session->worker)
		ret = -ENOMEM;

	pthread_mutex_lock(&server->lock);
	if (!ret && atomic_load(&server->stopping))
		ret = -ESHUTDOWN;
	else if (!ret) /* it counts when it has said hello, and before that its connections do */
		ret = over = peers_may_admit(&server->peers, lane->place.group);
	if (ret) {
		pthread_mutex_unlock(&server->lock);
		if (over)
			too_many(lane, over);
		verbs_domain_delete(session->domain);
		session_put(session); /* nobody else knows it */
		return ret;
	}
	session->peer = peers_hold(lane->place.group);
	session->number = ++server->next_session;
	for (at = &server->sessions; *at; at = &(*at)->next)
		;
	*at = session;
	server->sessions_n++;
	server->lanes_n++;
	session->lanes_n = 1;
	session->lane[number] = lane;
	lane->number = number;
	lane->session = session;
	pthread_mutex_unlock(&server->lock);
	return 0;
}

/* No lane is left, and none can come: its locks go, then itself.  Called and returns with server.lock held. */
static void session_end(struct session *session)
{
	struct server *server = session->server;
	struct session **at;

	session->dying = true;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	locks_release_all(session);
	verbs_domain_delete(session->domain);
	pthread_mutex_lock(&server->lock);
	for (at = &server->sessions; *at != session; at = &(*at)->next)
		;
	*at = session->next;
	server->sessions_n--;
	grants_dismiss(session);
	if (session->hello)
		peers_dismiss(&server->peers, session->peer);
	session->ended = true;
	if (session->hello)
		report_info("session %llu (%s) has ended", (unsigned long long)session->number, session->name);
	pthread_cond_broadcast(&server->changed);
	session_put(session);
}

int session_join(struct lane *lane, const uint8_t *token, uint16_t number)
{
	struct server *server = lane->server;
	struct session *session;
	int ret = 0;

	pthread_mutex_lock(&server->lock);
	for (session = server->sessions; session; session = session->next)
		if (token_equal(session->token, token))
			break;
	if (!session || session->dying || atomic_load(&server->stopping) || session->transport != lane->transport) {
		pthread_mutex_unlock(&server->lock);
		return -ESTALE;
	}
	if (number >= session->lanes_granted)
		ret = -EMFILE;
	else if (session->domain)
		ret = lane->conn->ops->domain_join(lane->conn, session->domain);
	if (ret) {
		pthread_mutex_unlock(&server->lock);
		return ret;
	}
	session->joining++; /* keeps it alive while the lane that was there drains */
	while (session->lane[number] && !session->dying && !atomic_load(&lane->closing)) {
		lane_shutdown(session->lane[number]);
		pthread_cond_wait(&server->changed, &server->lock);
	}
	session->joining--;
	if (session->dying || session->lane[number]) {
		ret = session->dying ? -ESTALE : -ECONNRESET;
		if (!session->lanes_n && !session->joining)
			session_end(session);
	} else {
		session->lane[number] = lane;
		session->lanes_n++;
		server->lanes_n++;
		lane->number = number;
		lane->session = session;
	}
	pthread_mutex_unlock(&server->lock);
	return ret;
}

void session_leave(struct lane *lane)
{
	struct server *server = lane->server;
	struct session *session = lane->session;

	pthread_mutex_lock(&server->lock);
	pthread_mutex_lock(&session->lock);
	session->lane[lane->number] = NULL;
	pthread_mutex_unlock(&session->lock);
	session->lanes_n--;
	server->lanes_n--;
	lane->session = NULL;
	pthread_cond_broadcast(&server->changed);
	if (!session->lanes_n && !session->joining)
		session_end(session);
	pthread_mutex_unlock(&server->lock);
}

static uint32_t grant(uint32_t wanted, uint32_t most)
{
	return !wanted || wanted > most ? most : wanted;
}

uint32_t session_maps_most(const struct session *session)
{
	const struct server_config *config = &session->server->config;
	uint32_t most = config->max_maps;

	if (session->domain) {
		uint32_t share = verbs_maps_limit(session->domain, config->max_sessions, config->max_lanes,
						  config->max_connections);

		most = share < most ? share : most;
	}
	return most;
}

static uint32_t depth_most(const struct session *session)
{
	uint32_t most = session->server->config.max_depth;

	if (session->domain && verbs_depth_limit(session->domain) < most)
		most = verbs_depth_limit(session->domain);
	return most;
}

/*
 * RDMA FLUSH makes bytes durable where a flushed line is: in persistent memory that blocks are mapped from.  A PERSIST
 * stays valid beside it.
 */
static bool can_flush(const struct session *session)
{
	struct server *server = session->server;

	return session->domain && tier_mode(server->tier) == TIER_DIRECT && pool_by_line(server->pool) &&
	       !pool_is_volatile(server->pool) &&
	       verbs_flush_possible(session->domain, pool_address(server->pool, 0), POOL_SLOT_SIZE);
}

int session_hello(struct lane *lane, const struct wire_hello *hello, struct wire_hello_reply *reply)
{
	struct server *server = lane->server;
	struct session *session = lane->session;
	bool flush = false;
	int ret, over;

	if (hello->features & ~WIRE_FEATURES_KNOWN)
		return -EINVAL;
	memset(reply, 0, sizeof(*reply));
	if (hello->features & WIRE_FEATURE_FLUSH)
		flush = can_flush(session);
	pthread_mutex_lock(&server->lock);
	if (!session->hello) {
		ret = over = peers_admit(&server->peers, session->peer);
		if (!ret) {
			ret = grants_admit(session, hello->maps);
			if (ret)
				peers_dismiss(&server->peers, session->peer);
		}
		if (ret) {
			pthread_mutex_unlock(&server->lock);
			if (over)
				too_many(lane, over);
			return ret;
		}
		session->flush = flush;
		if (flush)
			verbs_flush_use(session->domain);
		session->hello = true;
		memcpy(session->name, hello->name, sizeof(session->name));
		session->name[sizeof(session->name) - 1] = 0;
		for (char *c = session->name; *c; c++)
			if ((unsigned char)*c < 0x20 || *c == 0x7f)
				*c = '?'; /* it goes to people's terminals */
		if (!session->pid)
			session->pid = hello->pid;
		session->lanes_granted = (uint16_t)grant(hello->lanes, server->config.max_lanes);
		if (session->lanes_granted <= lane->number)
			session->lanes_granted = (uint16_t)(lane->number + 1);
		session->depth_granted = (uint16_t)grant(hello->depth ? hello->depth : SERVER_DEPTH,
							 depth_most(session));
		report_info("session %llu begins: %s, pid %llu, from %s%s", (unsigned long long)session->number,
			    session->name, (unsigned long long)session->pid, lane->peer.text,
			    flush ? ", persists by RDMA FLUSH" : "");
	}
	flush = session->flush; /* what the first HELLO was granted stays */
	reply->session = session->number;
	reply->maps = session->maps_granted;
	reply->lanes = session->lanes_granted;
	reply->depth = session->depth_granted;
	pthread_mutex_unlock(&server->lock);
	memcpy(reply->uuid, pool_uuid(server->pool), WIRE_UUID_SIZE);
	reply->instance = pool_instance(server->pool);
	reply->loss_epoch = pool_loss_epoch(server->pool);
	reply->capacity = pool_slots(server->pool);
	reply->free = pool_free_slots(server->pool);
	reply->lease_ms = server->config.lease_ms;
	reply->fds = lane->transport->passes_fd ? 1 : 0;
	reply->features = flush ? WIRE_FEATURE_FLUSH : 0;
	reply->method = flush ? WIRE_PERSIST_FLUSH :
			pool_is_volatile(server->pool) ? WIRE_PERSIST_VOLATILE : WIRE_PERSIST_TARGET;
	return 0;
}

bool session_flushes(struct session *session)
{
	bool flush;

	pthread_mutex_lock(&session->server->lock);
	flush = session->flush;
	pthread_mutex_unlock(&session->server->lock);
	return flush;
}

void session_kill(struct session *session, uint32_t notice)
{
	struct server *server = session->server;

	if (session->dying)
		return;
	session->dying = true;
	for (uint32_t i = 0; i < server->config.max_lanes; i++) {
		if (!session->lane[i])
			continue;
		lane_notice(session->lane[i], notice, 0);
		lane_end(session->lane[i]);
	}
	pthread_cond_broadcast(&server->changed);
}

bool session_expired(const struct session *session)
{
	struct server *server = session->server;
	uint64_t heard = atomic_load_explicit(&session->heard_ns, memory_order_relaxed);

	if (now_ns() - heard <= server->config.lease_ms * 1000000ull)
		return false;
	/* it waits for us, not we for it */
	for (uint32_t i = 0; i < server->config.max_lanes; i++) {
		struct lane *lane = session->lane[i];
		bool pending = false;

		if (lane) {
			pthread_mutex_lock(&lane->lock);
			pending = lane->pending > 0;
			pthread_mutex_unlock(&lane->lock);
		}
		if (pending)
			return false;
	}
	return true;
}

bool session_hung_up(const struct session *session)
{
	struct server *server = session->server;

	for (uint32_t i = 0; i < server->config.max_lanes; i++)
		if (session->lane[i] && !session->lane[i]->conn->ops->hung_up(session->lane[i]->conn))
			return false;
	return !session->joining;
}

struct session *session_find(struct server *server, uint64_t number)
{
	struct session *session;

	for (session = server->sessions; session; session = session->next)
		if (session->number == number)
			break;
	return session;
}

void session_info(const struct session *session, struct wire_session_info *info)
{
	uint64_t heard = atomic_load_explicit(&session->heard_ns, memory_order_relaxed), now = now_ns();

	memset(info, 0, sizeof(*info));
	info->session = session->number;
	info->pid = session->pid;
	info->maps = session->maps_n;
	info->lanes = session->lanes_n;
	info->heard_ms = now > heard ? (uint32_t)((now - heard) / 1000000) : 0;
	strncpy(info->transport, session->transport->name, sizeof(info->transport) - 1);
	memcpy(info->name, session->name, sizeof(info->name));
}
