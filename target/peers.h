/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peers - who takes how many places: connections that have not said hello, and
 * sessions, in all and for each peer.
 *
 * A peer is a host (an IPv4 address, an IPv6 network of /64, since a host has all
 * of one) or, over a Unix socket, a user.  Within it, its members (addresses of the
 * /64, processes of the user) share what it has.
 *
 * A newcomer is let in as long as that is possible at all: when its peer has its
 * share of connections in greeting, or all places are taken, the oldest connection of
 * the greediest peer (there: of its greediest member) loses its place to it.  So one
 * that opens thousands of connections, or never says hello, only pushes itself out.
 * Who says hello in time has left the greeting before it is the oldest.  A session
 * is never taken away for another: whoever comes when a peer, or the brick, has as
 * many as may be is refused.
 *
 * Pure bookkeeping: no lock, no clock, no sockets.  The server calls it with its lock held.
 */
#ifndef TARGET_PEERS_H
#define TARGET_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct peer_key {
	uint64_t group[3]; /* kind, and what names the host or the user */
	uint64_t member;   /* within it */
};

void peer_key_of_address(struct peer_key *key, const struct sockaddr *address);
void peer_key_of_process(struct peer_key *key, uid_t uid, pid_t pid);

struct peers_limits {
	uint32_t greeting, peer_greeting; /* connections that have not said hello, each at least 1 */
	uint32_t sessions, peer_sessions; /* that have, each at least 1 */
};

struct peer_group;
struct peer_member;

struct peers {
	struct peers_limits limits;
	struct peer_group *groups;
	uint32_t greeting; /* have a place */
	uint32_t dropped;  /* have lost it, and have not left */
	uint32_t sessions;
	uint64_t arrivals;
};

/* A connection's; zero before peers_enter(). */
struct peer_place {
	struct peer_place *next, *prev; /* of the member, in the order of their coming */
	struct peer_member *member;	/* NULL: it is not in greeting, or not any more */
	struct peer_group *group;	/* held until peers_leave() */
	uint64_t arrival;
	bool dropped; /* its place was given to another one */
};

void peers_init(struct peers *peers, const struct peers_limits *limits);
/* Everybody must have left. */
void peers_fini(struct peers *peers);

enum peers_entry {
	PEERS_IN = 0,
	PEERS_SHARE = 1, /* for it, the peer lost one of its own: it had its share */
	PEERS_FULL = 2,	 /* for it, the greediest peer lost one: all places were taken */
};
/*
 * A connection comes.  enum peers_entry, with *drop the one whose place it has now: that one is to be closed.
 * -EUSERS: as many of its peer as its share have lost theirs and are not gone yet; -EAGAIN: in all as many as there are
 * places have, so that it should be tried again when one of them is gone; -ENOMEM.
 */
int peers_enter(struct peers *peers, struct peer_place *place, const struct peer_key *key, struct peer_place **drop);
/* One place less is used: that of the greediest peer's oldest connection, which is to be closed.  NULL: nobody is in greeting. */
struct peer_place *peers_relieve(struct peers *peers);
/* It has said hello.  False: too late, it has lost its place. */
bool peers_greeted(struct peers *peers, struct peer_place *place);
/* The connection is gone, whether it has said hello or not. */
void peers_leave(struct peers *peers, struct peer_place *place);

/* A session more: 0, -EUSERS (there are as many as may be), -EDQUOT (the peer has as many as it may). */
int peers_may_admit(const struct peers *peers, const struct peer_group *group);
/* The same, and it counts from here on. */
int peers_admit(struct peers *peers, struct peer_group *group);
void peers_dismiss(struct peers *peers, struct peer_group *group);
/* For a session, which may outlive the connection that it came by. */
struct peer_group *peers_hold(struct peer_group *group);
void peers_put(struct peers *peers, struct peer_group *group);

/* How many the one that has most of them has. */
uint32_t peers_most_greeting(const struct peers *peers);
uint32_t peers_most_sessions(const struct peers *peers);

#endif
