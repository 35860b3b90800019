/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grants - how many blocks each session may have mapped, when they are mapped
 * into memory that is bounded.
 *
 * Every session that said hello has a minimum reserved, which it gets whatever
 * the others do.  Beyond it, a session takes from the rest, first come, first
 * served.  When the rest is used up, those who have more than an equal share are
 * asked to unmap (RECALL), and the map that found no room waits for it, but not
 * for long: then it fails with ENOMEM, and the initiator unmaps something of its
 * own.  Blocks that two sessions have mapped count twice: that errs on the safe side.
 */
#include "server.h"

#include <errno.h>
#include <time.h>

#include "report.h"

#define RESERVED_LEAST 2u
#define RECALL_NS      250000000ull /* an unanswered recall is said again after this */

static bool bounded(const struct server *server)
{
	return server->maps_limit != UINT32_MAX;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* An equal share; sessions that have more are asked for it when others need it. */
static uint32_t share_of(const struct server *server)
{
	return server->maps_limit / (server->admitted ? server->admitted : 1);
}

/* Half of the memory is shared out as minima, when it is plenty; the other half is for who needs it. */
static uint32_t minimum(const struct server *server)
{
	uint32_t half = server->maps_limit / (2 * server->config.max_sessions);

	return half > RESERVED_LEAST ? half : RESERVED_LEAST;
}

int grants_admit(struct session *session, uint32_t wanted)
{
	struct server *server = session->server;
	uint32_t most = session_maps_most(session), reserve;
	char text[SERVER_MORE_MAX];
	const char *more;

	if (!wanted || wanted > most)
		wanted = most;
	if (!bounded(server)) {
		session->maps_granted = wanted;
		server->admitted++;
		return 0;
	}
	reserve = least(minimum(server), wanted);
	if (server->reserved + reserve > server->maps_limit) {
		if ((more = server_refused(server, WIRE_REFUSED_MEMORY, text)))
			report_warning("session %llu is refused: memory for %u blocks has no room for one more session, which would "
				       "need %u; give brickd more --memory%s",
				       (unsigned long long)session->number, server->maps_limit, reserve, more);
		return -EUSERS;
	}
	session->maps_granted = least(wanted, (uint32_t)(server->maps_limit - server->reserved));
	session->maps_reserved = reserve;
	server->admitted++;
	server->reserved += reserve;
	server->promised += reserve;
	return 0;
}

void grants_dismiss(struct session *session)
{
	struct server *server = session->server;

	/* its maps are gone */
	server->admitted -= session->hello;
	server->reserved -= session->maps_reserved;
	server->promised -= session->maps_reserved;
	session->maps_reserved = 0;
}

void grants_count(struct session *session, int change)
{
	struct server *server = session->server;

	if (change > 0) {
		server->promised += session->maps_n >= session->maps_reserved;
		session->maps_n++;
		server->maps_n++;
		return;
	}
	session->maps_n--;
	server->maps_n--;
	server->promised -= session->maps_n >= session->maps_reserved;
	if (session->recalled)
		session->recalled--;
}

int grants_check(const struct session *session)
{
	const struct server *server = session->server;
	uint32_t limit = server->maps_limit;

	if (session->maps_n >= session->maps_granted)
		return -ENOMEM;
	if (!bounded(server))
		return 0;
	/* its own minimum fails only while those who were there first have not yet made room for it */
	if (session->maps_n < session->maps_reserved)
		return server->maps_n < limit ? 0 : -EAGAIN;
	/* nor may those who were asked for blocks take them again before the ones who wait for them */
	if (server->waiting_poor && session->maps_n >= share_of(server))
		return -EAGAIN;
	return server->promised < limit ? 0 : -EAGAIN;
}

void grants_refused(const struct session *session, enum wire_refusal reason)
{
	char text[SERVER_MORE_MAX];
	const char *more = server_refused(session->server, reason, text);

	if (more)
		report_info("session %llu (%s): a map is refused: %s%s", (unsigned long long)session->number, session->name,
			    reason == WIRE_REFUSED_MAPS ? "it has as many as it was granted (--max-maps)" :
			    "memory is full of mapped blocks (--memory)", more);
}

/* How many blocks more than its share the session has mapped. */
static uint32_t excess(const struct session *session, uint32_t share)
{
	uint32_t most = share > session->maps_reserved ? share : session->maps_reserved;

	return session->hello && !session->dying && session->maps_n > most ? session->maps_n - most : 0;
}

/* Asks for as many blocks as there are maps that wait.  False: nobody else has more than its share, or is ending. */
static bool recall(struct session *by)
{
	struct server *server = by->server;
	uint64_t now = now_ns(), all = 0, asked = 0;
	uint32_t share = share_of(server), need;
	bool ending = false;

	for (struct session *session = server->sessions; session; session = session->next) {
		ending |= session->dying && session->maps_n;
		if (session == by || !excess(session, share))
			continue;
		/* it may have been lost, or not been heeded */
		if (now - session->recalled_ns > RECALL_NS)
			session->recalled = 0;
		all += excess(session, share);
		asked += session->recalled;
	}
	if (!all)
		return ending;
	need = asked < server->waiting ? (uint32_t)(server->waiting - asked) : 0;
	for (struct session *session = server->sessions; session && need; session = session->next) {
		uint32_t more = excess(session, share);
		uint64_t part = ((uint64_t)need * more + all - 1) / all;

		if (session == by || more <= session->recalled)
			continue;
		part = part < more - session->recalled ? part : more - session->recalled;
		session->recalled += (uint32_t)part;
		session->recalled_ns = now;
		server->recalls++;
		for (uint32_t i = 0; i < server->config.max_lanes; i++) {
			if (session->lane[i]) {
				lane_notice(session->lane[i], WIRE_NOTICE_RECALL, part);
				break;
			}
		}
	}
	return true;
}

static uint32_t part_of(uint32_t workers, uint32_t parts)
{
	return workers < parts ? 1 : workers / parts;
}

int grants_wait(struct session *session, uint64_t *until_ns)
{
	struct server *server = session->server;
	uint64_t now = now_ns(), wake;
	bool somebody, poor = session->maps_n < share_of(server);
	struct timespec at;

	if (!*until_ns)
		*until_ns = now + server->config.recall_ms * 1000000ull;
	/*
	 * Half of the workers are left for those who unmap, persist and free; and of the other half, a half for those who have
	 * less than their share, or a session that has much could keep them from asking for it by waiting itself.  (One or two
	 * workers are enough, too: each session has one.)
	 */
	if (now >= *until_ns || server->waiting >= part_of(server->config.workers, 2) ||
	    (!poor && server->waiting - server->waiting_poor >= part_of(server->config.workers, 4)))
		return -ENOMEM;
	server->waiting++;
	server->waiting_poor += poor;
	somebody = recall(session);
	if (somebody) {
		wake = now + RECALL_NS < *until_ns ? now + RECALL_NS : *until_ns;
		at.tv_sec = (time_t)(wake / 1000000000u);
		at.tv_nsec = (long)(wake % 1000000000u);
		(void)pthread_cond_timedwait(&server->changed, &server->lock, &at);
	}
	server->waiting--;
	server->waiting_poor -= poor;
	return somebody ? 0 : -ENOMEM;
}
