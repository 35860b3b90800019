/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server - a brick at work: listeners, sessions with their lanes, and the calls,
 * over one open pool and its tier.
 *
 * main.c (or a test) opens pool and tier, then server_new(), server_listen() for
 * each endpoint, server_start(), and at the end server_stop() and
 * server_delete().  Each connection has a thread (lane.c), which reads messages
 * and carries out what is quick; what may take long goes to the workers.
 *
 * Lock order: server.lock, then session.lock, then lane.lock; the workers' and the
 * refusals' own come last, and peers has none: server.lock covers it.  None is held over
 * slow work (the store, a socket that may block).  server.changed is signalled
 * whenever a block stops being busy, a map goes, or a session ends: these
 * moments are rare, so one condition serves all who wait.  Whoever waits on it
 * for another session must give up once its own is dying: that is why no two
 * sessions can wait for each other's end.
 */
#ifndef TARGET_SERVER_H
#define TARGET_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "conn.h"
#include "idmap.h"
#include "listener.h"
#include "peers.h"
#include "pool.h"
#include "refusals.h"
#include "stats.h"
#include "table.h"
#include "tier.h"
#include "verbs.h"
#include "wire.h"
#include "worker.h"

struct server_config {
	uint32_t max_sessions;
	uint32_t max_peer_sessions; /* of one peer; 0: three quarters of all, rounded up */
	uint32_t max_lanes;	  /* of one session */
	uint32_t max_maps;	  /* of one session */
	uint32_t max_connections; /* that have not said hello */
	uint32_t max_peer_connections; /* of these, of one peer; 0: half, rounded up */
	uint32_t max_depth;	  /* requests in flight on one lane */
	uint32_t max_requests;	  /* of one session, with the workers or not yet taken by its initiator */
	uint32_t hello_ms;	  /* from connecting to hello */
	uint32_t lease_ms;
	uint32_t quiesce_ms; /* how long unmap waits for frames under way */
	uint32_t recall_ms;  /* how long map waits for others to unmap, when memory is full */
	uint32_t workers;	  /* threads; each session is certain of one */
	bool public; /* addresses that others can reach may be listened on */
};
extern const struct server_config server_config_default;

#define SERVER_LISTENERS 16
#define SERVER_DEPTH	 64 /* granted to who asks for none */

struct server {
	struct server_config config;
	struct pool *pool;
	struct tier *tier;
	struct worker_pool *workers;
	struct stats stats;
	struct refusals refusals;
	uint64_t started_ns;

	struct listener listener[SERVER_LISTENERS];
	unsigned listeners;
	pthread_t acceptor;
	bool accepting; /* the acceptor runs */
	int wake;	/* eventfd: the acceptor has something to look at */
	_Atomic bool stopping;

	pthread_mutex_t lock;
	pthread_cond_t changed;	 /* CLOCK_MONOTONIC */
	struct idmap *map;	 /* what is allocated, durably */
	struct table blocks;	 /* struct block, those that somebody uses */
	struct session *sessions; /* by number, ascending */
	struct lane *lanes;	 /* all connections */
	struct lane *finished;	 /* whose threads wait to be joined */
	uint64_t generation;	 /* of the list: counts every alloc and free */
	uint64_t next_session;
	uint32_t sessions_n, lanes_n, maps_n;
	/*
	 * Memory mode: how many blocks can be mapped at once.  Each session has a
	 * number reserved; promised is the sum over the sessions of what is
	 * reserved or, if that is more, mapped.
	 */
	uint32_t maps_limit; /* UINT32_MAX: any number */
	uint64_t reserved, promised;
	uint32_t admitted;   /* sessions that said hello */
	uint32_t waiting;    /* maps that wait for others to unmap */
	uint32_t waiting_poor; /* of these, of sessions with less than their share */
	uint64_t recalls;    /* notices sent */
	struct peers peers;	 /* who has how many places */
	uint32_t threads_n;	 /* lanes whose threads are not joined */
	uint32_t next_key;
	_Atomic uint32_t regions_n; /* registered, those of sessions that are at their end included */
	_Atomic uint64_t complaint_ns; /* rate limit of complaints about peers */
	_Atomic unsigned complaints, swallowed;
};

/* A block that somebody has mapped or works on. */
struct block {
	struct table_node node; /* key: block number */
	uint32_t refs;		/* maps, and calls that look at it */
	uint32_t users;		/* persists under way */
	bool busy;		/* being allocated, freed or mapped: others wait */
	struct map *maps;
};

/* One session's mapping of one block. */
struct map {
	struct table_node node; /* in the session; key: block number */
	struct map *next;	/* of the block */
	struct session *session;
	struct block *block;
	uint32_t slot, flags, key;
	void *address;
	uint64_t place;
	struct ibv_mr *region; /* verbs */
	/* session.lock: */
	uint32_t in_flight; /* frames that move bytes of the block now */
	bool dead;	    /* being unmapped: access is a violation */
};

struct session {
	struct session *next;
	struct server *server;
	const struct transport *transport;
	struct verbs_domain *domain; /* verbs: that of its regions and its lanes' queue pairs; set at its begin */
	uint64_t number;
	uint8_t token[WIRE_TOKEN_SIZE];
	_Atomic uint64_t heard_ns;
	/* server.lock: */
	struct peer_group *peer; /* for whom it counts */
	struct lane **lane; /* config.max_lanes of them */
	uint32_t lanes_n;
	uint32_t joining; /* connections that are about to become lanes */
	uint32_t refs;	  /* itself while it lives, and those who wait for its end */
	bool dying, ended;
	bool hello;
	bool flush; /* RDMA FLUSH was granted */
	char name[WIRE_NAME_MAX];
	uint64_t pid;
	uint32_t maps_granted, maps_reserved;
	uint16_t lanes_granted, depth_granted;
	uint32_t maps_n;
	uint32_t recalled; /* blocks that it was asked to unmap, and has not */
	uint64_t recalled_ns;

	struct worker_client *worker; /* its turn at the workers */

	pthread_mutex_t lock;
	struct table maps; /* changed with both locks held, read with either */
	uint32_t requests; /* with the workers or not yet sent; their memory is what an initiator that reads nothing can take */
	pthread_cond_t room; /* there are fewer; CLOCK_MONOTONIC */
};

struct request {
	struct job job; /* owner: the lane */
	struct lane *lane;
	struct wire_header header;
	uint64_t started_ns;
	uint64_t patience_ns; /* MAP: when its entries wait no longer for others to unmap; 0: none had to */
	size_t n, next; /* entries, and the first that is not done */
	uint64_t errors, bytes;
	union {
		uint64_t addr[WIRE_ADDRS_MAX];
		struct wire_target target[WIRE_ADDRS_MAX];
		struct wire_range range[WIRE_ADDRS_MAX];
		struct wire_sessions sessions;
		struct wire_list list;
	} in;
	union {
		uint32_t status[WIRE_ADDRS_MAX];
		struct wire_handle handle[WIRE_ADDRS_MAX];
		struct wire_list_reply list;
		struct wire_sessions_reply sessions;
		struct wire_stat_reply stat;
		struct wire_limits_reply limits;
	} out;
	bool counted;  /* in lane.pending */
	size_t length; /* of the reply */
	int fd;	       /* passed with the reply, or -1 */
	uint8_t message[WIRE_MSG_MAX]; /* the reply */
};

struct lane {
	struct lane *next, **prev; /* in server.lanes */
	struct lane *next_finished;
	struct server *server;
	struct session *session; /* NULL until the preamble was accepted */
	const struct transport *transport;
	struct peer peer;
	uint16_t number;
	_Atomic bool closing; /* shut down: nobody waits for anything on it. Apart from what lane.lock covers:
				 compilers load neighbours together */
	pthread_t thread;
	bool greeting; /* has not said hello. Its own thread's */
	struct peer_place place; /* server.lock */
	struct tier_lane *tier;
	pthread_mutex_t tier_lock; /* fault mode: the lane's track; held over its persists */
	struct map *busy_map; /* session.lock: the block it moves bytes of */
	struct request *spare; /* of the lane's thread */

	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool sending; /* somebody has the connection's sending side */
	bool broken;  /* a send failed */
	uint32_t pending; /* requests with the workers, not answered */
	uint32_t notices; /* in the queue below; all else there is counted in pending */
	uint32_t persists; /* of these, PERSISTs that are not carried out */
	struct job *out, **out_last; /* replies that wait for the connection */

	struct conn *conn; /* lane.lock: NULL once it is closed, which is after the lane has left server.lanes */
};

/* server.c */
int server_new(struct server **server, struct pool *pool, struct tier *tier, const struct server_config *config);
/* Says what is wrong; -EPERM: a public address, and config.public is not set. */
int server_listen(struct server *server, const struct endpoint *endpoint);
int server_start(struct server *server);
/* Notices to every lane, no more connections, requests under way are answered, sessions end. */
void server_stop(struct server *server);
void server_delete(struct server *server);
/* Statistics, as lines for people, to the log. */
void server_dump(struct server *server);
/* Serves a connected stream socket as if it had been accepted. Takes fd over. */
int server_adopt(struct server *server, int fd, const struct transport *transport, const struct peer *peer);
/* True if a complaint about a peer may be logged now: a hostile one must not fill the log. */
bool server_may_complain(struct server *server);
/*
 * Counts a refusal.  NULL: it is not to be logged now; else the end of a message that says it ("", or how many more were left
 * out), in text.  Any lock may be held.
 */
#define SERVER_MORE_MAX 64
const char *server_refused(struct server *server, enum wire_refusal reason, char text[SERVER_MORE_MAX]);

/* lane.c: connections */
/* The greediest peer's oldest connection without hello goes, to give its descriptor back; waits for that, so long at most. */
void lane_relieve(struct server *server, unsigned ms);
/* Takes the connection over, also when it fails. */
int lane_start(struct server *server, struct conn *conn, const struct transport *transport, const struct peer *peer);
void lane_join(struct lane *lane); /* its thread has finished: waits for it, frees the lane */
/* Shuts the connection down; its thread ends soon. Any lock but lane.lock may be held. */
void lane_shutdown(struct lane *lane);
/* The same, but what was queued to be sent (a notice) still goes out, if the peer takes it at once. */
void lane_end(struct lane *lane);
/* True if a PERSIST that came on it is still being carried out. */
bool lane_persists(struct lane *lane);
/* Tries to send a notice without waiting. */
void lane_notice(struct lane *lane, uint32_t kind, uint64_t arg);
/* Sends the reply of a request that a worker carried out, and frees it. */
void lane_finish(struct request *request);
/* Sends from the lane's own thread: waits for its turn.  0 or the error that broke the lane; *sent as stream_send(). */
int lane_send(struct lane *lane, struct iovec *iov, int count, int fd, size_t *sent);

/* data.c: READ and WRITE.  0; negative: the lane must end; *violation: linger, so that the refusal arrives. */
int data_frame(struct lane *lane, const struct wire_header *header, bool *violation);

/* session.c */
int session_open(struct lane *lane, uint16_t number);
int session_join(struct lane *lane, const uint8_t *token, uint16_t number);
void session_leave(struct lane *lane); /* the lane has drained; the last one ends the session */
int session_hello(struct lane *lane, const struct wire_hello *hello, struct wire_hello_reply *reply);
/* Whether HELLO granted it RDMA FLUSH. */
bool session_flushes(struct session *session);
/* Maps that it may be granted: over verbs the device's limits are shared out among as many sessions as may come. */
uint32_t session_maps_most(const struct session *session);
/* These with server.lock held: */
void session_kill(struct session *session, uint32_t notice);
bool session_expired(const struct session *session);
bool session_hung_up(const struct session *session);
struct session *session_find(struct server *server, uint64_t number);
void session_info(const struct session *session, struct wire_session_info *info);

/*
 * grants.c: how many blocks each session may map when memory is bounded.  All with server.lock held.
 */
/* Reserves the session's minimum and sets its grant.  -EUSERS: there is no minimum left. */
int grants_admit(struct session *session, uint32_t wanted);
void grants_dismiss(struct session *session);
/* 0: the session may map one more block; -ENOMEM: not ever; -EAGAIN: not before others unmap. */
int grants_check(const struct session *session);
/*
 * Asks those for blocks who have more than their share, and waits until something changes: 0, look again; or -ENOMEM,
 * nobody gave any in time.  *until_ns: 0 before the first wait.
 */
int grants_wait(struct session *session, uint64_t *until_ns);
/* A map was refused: for WIRE_REFUSED_MAPS or WIRE_REFUSED_MEMORY. */
void grants_refused(const struct session *session, enum wire_refusal reason);
/* A map of the session came (1) or went (-1). */
void grants_count(struct session *session, int change);

/* locks.c: who has which block.  may_wait false: LOCKS_SLOW instead of anything that takes time. */
#define LOCKS_SLOW 1
int locks_alloc(struct session *session, uint64_t addr);
int locks_free(struct session *session, uint64_t addr);
/* patience_ns: when to stop waiting for memory; 0: not begun. */
int locks_map(struct session *session, uint64_t addr, uint32_t flags, bool may_wait, uint64_t *patience_ns,
	      struct wire_handle *handle);
int locks_unmap(struct session *session, uint64_t addr, uint32_t flags, bool may_wait);
int locks_persist(struct lane *lane, uint64_t addr, uint32_t length);
/* Every map of a session without lanes goes: its locks first, then its memory regions. */
void locks_release_all(struct session *session);
int locks_revoke(struct session *by, uint64_t number);
/* A frame begins and ends. -EACCES: a violation. */
int locks_access(struct lane *lane, const struct wire_rw *rw, bool write, struct map **map);
void locks_access_end(struct lane *lane, struct map *map);

/* calls.c: the messages */
/* Decodes a message into the request: 0, or -EPROTO, -EOPNOTSUPP, -EINVAL. */
int call_decode(struct request *request, const uint8_t *message, size_t length);
/* Carries it out.  False: it would take long and may_wait is false; call again from a worker. */
bool call_run(struct request *request, bool may_wait);
/* Encodes the reply and counts it. error: the whole request failed. */
void call_encode(struct request *request, int error);
enum wire_op call_op(uint16_t type);
void call_stat(struct server *server, struct wire_stat_reply *stat);
void call_limits(struct server *server, struct wire_limits_reply *limits);

#endif
