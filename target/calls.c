/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * calls - the messages of the protocol: decoded, carried out entry by entry,
 * answered and counted.
 */
#include "server.h"

#include <errno.h>
#include <string.h>

#include "stream.h"

#define REGIONS_AT_ONCE 4

enum wire_op call_op(uint16_t type)
{
	switch (type) {
	case WIRE_ALLOC:
		return WIRE_OP_ALLOC;
	case WIRE_FREE:
		return WIRE_OP_FREE;
	case WIRE_MAP:
		return WIRE_OP_MAP;
	case WIRE_UNMAP:
		return WIRE_OP_UNMAP;
	case WIRE_LIST:
		return WIRE_OP_LIST;
	case WIRE_PERSIST:
		return WIRE_OP_PERSIST;
	case WIRE_READ:
		return WIRE_OP_READ;
	case WIRE_WRITE:
		return WIRE_OP_WRITE;
	default:
		return WIRE_OP_OTHER;
	}
}

int call_decode(struct request *request, const uint8_t *message, size_t length)
{
	request->n = WIRE_ADDRS_MAX;
	request->next = 0;
	request->errors = request->bytes = 0;
	request->patience_ns = 0;
	request->fd = -1;
	request->counted = false;
	switch (request->header.type) {
	case WIRE_ALLOC:
	case WIRE_FREE:
		return wire_get_addrs(message, length, request->in.addr, &request->n);
	case WIRE_MAP:
	case WIRE_UNMAP:
		return wire_get_targets(message, length, request->in.target, &request->n);
	case WIRE_PERSIST:
		return wire_get_ranges(message, length, request->in.range, &request->n);
	case WIRE_LIST:
		return wire_get_list(message, length, &request->in.list);
	case WIRE_SESSIONS:
	case WIRE_WHO:
	case WIRE_REVOKE:
		return wire_get_sessions(message, length, &request->in.sessions);
	case WIRE_KEEPALIVE:
	case WIRE_STAT:
	case WIRE_LIMITS:
		return length == WIRE_HEADER_SIZE ? 0 : -EPROTO;
	default:
		return -EOPNOTSUPP;
	}
}

static void entry_done(struct request *request, uint32_t *status, int error)
{
	*status = wire_status(error);
	if (error)
		request->errors++;
	request->next++;
}

/* A lane that is being shut down wants no more work done. */
static bool given_up(const struct request *request)
{
	return atomic_load(&request->lane->closing);
}

static bool run_alloc_free(struct request *request, bool may_wait)
{
	struct session *session = request->lane->session;

	if (!may_wait)
		return false; /* each entry waits for the store */
	while (request->next < request->n) {
		uint64_t addr = request->in.addr[request->next];
		int ret;

		if (given_up(request))
			ret = -ECONNRESET;
		else if (request->header.type == WIRE_ALLOC)
			ret = locks_alloc(session, addr);
		else
			ret = locks_free(session, addr);
		entry_done(request, &request->out.status[request->next], ret);
	}
	return true;
}

/* Registering and deregistering take their time: only a few at once are the lane's thread's. */
static bool many_regions(const struct request *request)
{
	return request->lane->session->domain && request->n - request->next > REGIONS_AT_ONCE;
}

static bool run_map(struct request *request, bool may_wait)
{
	if (!may_wait && many_regions(request))
		return false;
	while (request->next < request->n) {
		const struct wire_target *target = &request->in.target[request->next];
		struct wire_handle *handle = &request->out.handle[request->next];
		int ret = -ECONNRESET;

		memset(handle, 0, sizeof(*handle));
		if (!given_up(request))
			ret = locks_map(request->lane->session, target->addr, target->flags, may_wait, &request->patience_ns,
					handle);
		if (ret == LOCKS_SLOW)
			return false;
		entry_done(request, &handle->status, ret);
	}
	return true;
}

static bool run_unmap(struct request *request, bool may_wait)
{
	if (!may_wait && many_regions(request))
		return false;
	while (request->next < request->n) {
		const struct wire_target *target = &request->in.target[request->next];
		uint32_t flags = target->flags;
		int ret = -ECONNRESET;

		/* Sent behind a PERSIST that is not done: what is CLEAN then is not yet so, and must not be taken for it. */
		if (flags & WIRE_UNMAP_CLEAN && lane_persists(request->lane))
			flags &= ~WIRE_UNMAP_CLEAN;
		if (!given_up(request))
			ret = locks_unmap(request->lane->session, target->addr, flags, may_wait);
		if (ret == LOCKS_SLOW)
			return false;
		entry_done(request, &request->out.status[request->next], ret);
	}
	return true;
}

/*
 * Ranges that follow each other in one block are persisted together: the store
 * works in pages.  In fault mode nothing but what was named may become durable.
 */
static bool run_persist(struct request *request, bool may_wait)
{
	uint64_t gap = tier_mode(request->lane->server->tier) == TIER_FAULT ? 0 : 4096;

	if (!may_wait)
		return false;
	while (request->next < request->n) {
		const struct wire_range *range = &request->in.range[request->next];
		uint64_t start = range->addr, end = start + range->length, length = range->length;
		size_t n = 1;
		int ret = -ECONNRESET;

		while (request->next + n < request->n) {
			const struct wire_range *more = range + n;

			if (more->addr < start || more->addr > end + gap ||
			    more->addr >> WIRE_BLOCK_SHIFT != start >> WIRE_BLOCK_SHIFT)
				break;
			if (more->addr + more->length > end)
				end = more->addr + more->length;
			length += more->length;
			n++;
		}
		if (!given_up(request))
			ret = locks_persist(request->lane, start, (uint32_t)(end - start));
		if (!ret)
			request->bytes += length;
		while (n--)
			entry_done(request, &request->out.status[request->next], ret);
	}
	return true;
}

static void run_list(struct request *request)
{
	struct server *server = request->lane->server;
	struct wire_list_reply *reply = &request->out.list;
	uint32_t max = request->in.list.max;
	uint64_t from = (request->in.list.from >> WIRE_BLOCK_SHIFT) +
			((request->in.list.from & (WIRE_BLOCK_SIZE - 1)) != 0);
	uint64_t start, count;

	if (!max || max > WIRE_EXTENTS_MAX)
		max = WIRE_EXTENTS_MAX;
	reply->count = 0;
	reply->more = false;
	reply->next = 0;
	pthread_mutex_lock(&server->lock);
	reply->generation = server->generation;
	while (idmap_extent(server->map, from, &start, &count)) {
		if (reply->count == max) {
			reply->more = true;
			reply->next = start << WIRE_BLOCK_SHIFT;
			break;
		}
		reply->extent[reply->count].start = start << WIRE_BLOCK_SHIFT;
		reply->extent[reply->count].count = count;
		reply->count++;
		from = start + count;
	}
	pthread_mutex_unlock(&server->lock);
}

static void run_sessions(struct request *request)
{
	struct server *server = request->lane->server;
	struct wire_sessions_reply *reply = &request->out.sessions;

	reply->count = 0;
	reply->more = false;
	pthread_mutex_lock(&server->lock);
	for (struct session *session = server->sessions; session; session = session->next) {
		if (session->number < request->in.sessions.from || !session->hello)
			continue;
		if (reply->count == WIRE_SESSIONS_MAX) {
			reply->more = true;
			break;
		}
		session_info(session, &reply->session[reply->count++]);
	}
	pthread_mutex_unlock(&server->lock);
}

static void run_who(struct request *request)
{
	struct server *server = request->lane->server;
	struct wire_sessions_reply *reply = &request->out.sessions;
	struct table_node *node;

	reply->count = 0;
	reply->more = false;
	pthread_mutex_lock(&server->lock);
	node = table_find(&server->blocks, request->in.sessions.from >> WIRE_BLOCK_SHIFT);
	for (struct map *map = node ? table_entry(node, struct block, node)->maps : NULL; map; map = map->next) {
		if (reply->count == WIRE_SESSIONS_MAX) {
			reply->more = true;
			break;
		}
		session_info(map->session, &reply->session[reply->count]);
		reply->session[reply->count++].flags = map->flags;
	}
	pthread_mutex_unlock(&server->lock);
}

void call_stat(struct server *server, struct wire_stat_reply *stat)
{
	struct tier_stat tier;

	memset(stat, 0, sizeof(*stat));
	memcpy(stat->uuid, pool_uuid(server->pool), WIRE_UUID_SIZE);
	stat->instance = pool_instance(server->pool);
	stat->loss_epoch = pool_loss_epoch(server->pool);
	stat->capacity = pool_slots(server->pool);
	stat->free = pool_free_slots(server->pool);
	stat->zeroed = pool_zeroed_slots(server->pool);
	stat->uptime_ms = (now_ns() - server->started_ns) / 1000000;
	stat->sessions_max = server->config.max_sessions;
	stat->lanes_max = server->config.max_lanes;
	stat->maps_max = server->config.max_maps;
	stat->method = pool_is_volatile(server->pool) ? WIRE_PERSIST_VOLATILE : WIRE_PERSIST_TARGET;
	stat->failed = pool_failed(server->pool);
	stat->fault = tier_mode(server->tier) == TIER_FAULT;
	tier_stat(server->tier, &tier);
	stat->memory = tier.memory;
	stat->memory_used = tier.used;
	stat->memory_pinned = tier.pinned;
	stat->memory_dirty = tier.dirty;
	stat->fills = tier.fills;
	stat->write_backs = tier.write_backs;
	stat->evictions = tier.evictions;
	pthread_mutex_lock(&server->lock);
	stat->recalls = server->recalls;
	stat->maps_max = server->maps_limit < stat->maps_max ? server->maps_limit : stat->maps_max;
	stat->sessions = server->sessions_n;
	stat->lanes = server->lanes_n;
	stat->maps = server->maps_n;
	stat->regions = atomic_load(&server->regions_n);
	stat->generation = server->generation;
	pthread_mutex_unlock(&server->lock);
	for (int op = 0; op < WIRE_OPS; op++)
		stats_read(&server->stats, op, &stat->op[op]);
}

static void most(struct wire_limits_reply *limits, enum wire_limit row, uint64_t used)
{
	if (used > limits->limit[row].used)
		limits->limit[row].used = used;
}

void call_limits(struct server *server, struct wire_limits_reply *limits)
{
	const struct server_config *config = &server->config;

	memset(limits, 0, sizeof(*limits));
	limits->limits = WIRE_LIMIT_ROWS;
	limits->refusals = WIRE_REFUSED_ROWS;
	limits->limit[WIRE_LIMIT_GREETING].most = config->max_connections;
	limits->limit[WIRE_LIMIT_PEER_GREETING].most = config->max_peer_connections;
	limits->limit[WIRE_LIMIT_HELLO].most = config->hello_ms;
	limits->limit[WIRE_LIMIT_SESSIONS].most = config->max_sessions;
	limits->limit[WIRE_LIMIT_PEER_SESSIONS].most = config->max_peer_sessions;
	limits->limit[WIRE_LIMIT_LANES].most = config->max_lanes;
	limits->limit[WIRE_LIMIT_DEPTH].most = config->max_depth;
	limits->limit[WIRE_LIMIT_REQUESTS].most = config->max_requests;
	limits->limit[WIRE_LIMIT_MAPS].most = server->maps_limit < config->max_maps ? server->maps_limit : config->max_maps;
	limits->limit[WIRE_LIMIT_WORKERS].most = config->workers;
	limits->limit[WIRE_LIMIT_STALL].most = STREAM_STALL_MS;
	limits->limit[WIRE_LIMIT_WORKERS].used = worker_busy(server->workers);
	pthread_mutex_lock(&server->lock);
	limits->limit[WIRE_LIMIT_GREETING].used = server->peers.greeting;
	limits->limit[WIRE_LIMIT_PEER_GREETING].used = peers_most_greeting(&server->peers);
	limits->limit[WIRE_LIMIT_SESSIONS].used = server->peers.sessions;
	limits->limit[WIRE_LIMIT_PEER_SESSIONS].used = peers_most_sessions(&server->peers);
	for (struct session *session = server->sessions; session; session = session->next) {
		most(limits, WIRE_LIMIT_LANES, session->lanes_n);
		most(limits, WIRE_LIMIT_MAPS, session->maps_n);
		pthread_mutex_lock(&session->lock);
		most(limits, WIRE_LIMIT_REQUESTS, session->requests);
		pthread_mutex_unlock(&session->lock);
	}
	for (struct lane *lane = server->lanes; lane; lane = lane->next) {
		pthread_mutex_lock(&lane->lock);
		most(limits, WIRE_LIMIT_DEPTH, lane->pending);
		pthread_mutex_unlock(&lane->lock);
	}
	pthread_mutex_unlock(&server->lock);
	for (int reason = 0; reason < WIRE_REFUSED_ROWS; reason++)
		limits->refused[reason] = refusals_read(&server->refusals, reason);
}

static bool run_revoke(struct request *request, bool may_wait)
{
	int ret;

	if (!may_wait)
		return false;
	ret = locks_revoke(request->lane->session, request->in.sessions.from);
	request->header.status = wire_status(ret);
	return true;
}

bool call_run(struct request *request, bool may_wait)
{
	switch (request->header.type) {
	case WIRE_ALLOC:
	case WIRE_FREE:
		return run_alloc_free(request, may_wait);
	case WIRE_MAP:
		return run_map(request, may_wait);
	case WIRE_UNMAP:
		return run_unmap(request, may_wait);
	case WIRE_PERSIST:
		return run_persist(request, may_wait);
	case WIRE_REVOKE:
		return run_revoke(request, may_wait);
	case WIRE_LIST:
		run_list(request);
		return true;
	case WIRE_SESSIONS:
		run_sessions(request);
		return true;
	case WIRE_WHO:
		run_who(request);
		return true;
	case WIRE_STAT:
		call_stat(request->lane->server, &request->out.stat);
		if (session_flushes(request->lane->session))
			request->out.stat.method = WIRE_PERSIST_FLUSH;
		return true;
	case WIRE_LIMITS:
		call_limits(request->lane->server, &request->out.limits);
		return true;
	default:
		return true; /* KEEPALIVE: that it came is all */
	}
}

void call_encode(struct request *request, int error)
{
	uint16_t type = request->header.type, reply = type | WIRE_REPLY;
	uint32_t id = request->header.id;
	uint8_t *message = request->message;

	if (!error && request->header.status)
		error = wire_errno(request->header.status);
	if (error) {
		request->errors++;
		request->length = wire_put_plain(message, reply, id, error);
	} else {
		switch (type) {
		case WIRE_ALLOC:
		case WIRE_FREE:
		case WIRE_UNMAP:
		case WIRE_PERSIST:
			request->length = wire_put_statuses(message, reply, id, request->out.status, request->n);
			break;
		case WIRE_MAP:
			request->length = wire_put_handles(message, id, request->out.handle, request->n);
			break;
		case WIRE_LIST:
			request->length = wire_put_list_reply(message, id, &request->out.list);
			break;
		case WIRE_SESSIONS:
		case WIRE_WHO:
			request->length = wire_put_sessions_reply(message, reply, id, &request->out.sessions);
			break;
		case WIRE_STAT:
			request->length = wire_put_stat_reply(message, id, &request->out.stat);
			break;
		case WIRE_LIMITS:
			request->length = wire_put_limits_reply(message, id, &request->out.limits);
			break;
		default:
			request->length = wire_put_plain(message, reply, id, 0);
		}
	}
	stats_count(&request->lane->server->stats, call_op(type), request->errors, request->bytes,
		    now_ns() - request->started_ns);
}
