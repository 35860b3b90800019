/* SPDX-License-Identifier: BSD-3-Clause */
/* peers - who takes how many places, in greeting and as sessions. */
#include "peers.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_OTHER, KIND_IPV4, KIND_IPV6, KIND_USER };

struct peer_member {
	struct peer_member *next;
	struct peer_group *group;
	uint64_t id;
	uint32_t greeting; /* 0 only while one comes */
	struct peer_place *first, *last;
};

struct peer_group {
	struct peer_group *next;
	uint64_t key[3];
	uint32_t refs; /* connections, and sessions that hold it */
	uint32_t greeting, dropped, sessions;
	struct peer_member *members; /* those with connections in greeting */
};

static void key_of_ipv4(struct peer_key *key, uint32_t address)
{
	key->group[0] = KIND_IPV4;
	key->group[1] = ntohl(address);
}

static void key_of_ipv6(struct peer_key *key, const struct sockaddr_in6 *in6)
{
	const uint8_t *bytes = in6->sin6_addr.s6_addr;
	uint64_t high, low;

	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		uint32_t v4;

		memcpy(&v4, bytes + 12, sizeof(v4));
		key_of_ipv4(key, v4);
		return;
	}
	memcpy(&high, bytes, sizeof(high));
	memcpy(&low, bytes + 8, sizeof(low));
	key->group[0] = KIND_IPV6;
	key->group[1] = be64toh(high);
	/* every host of a link has the same link-local /64: there, and for ::1, the address is the host */
	if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) || IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr))
		key->group[2] = be64toh(low);
	else
		key->member = be64toh(low);
}

void peer_key_of_address(struct peer_key *key, const struct sockaddr *address)
{
	memset(key, 0, sizeof(*key));
	if (address->sa_family == AF_INET)
		key_of_ipv4(key, ((const struct sockaddr_in *)address)->sin_addr.s_addr);
	else if (address->sa_family == AF_INET6)
		key_of_ipv6(key, (const struct sockaddr_in6 *)address);
}

void peer_key_of_process(struct peer_key *key, uid_t uid, pid_t pid)
{
	memset(key, 0, sizeof(*key));
	key->group[0] = KIND_USER;
	key->group[1] = uid;
	key->member = (uint64_t)pid;
}

void peers_init(struct peers *peers, const struct peers_limits *limits)
{
	memset(peers, 0, sizeof(*peers));
	peers->limits = *limits;
}

void peers_fini(struct peers *peers)
{
	while (peers->groups) {
		struct peer_group *group = peers->groups;

		peers->groups = group->next;
		free(group);
	}
}

struct peer_group *peers_hold(struct peer_group *group)
{
	group->refs++;
	return group;
}

void peers_put(struct peers *peers, struct peer_group *group)
{
	struct peer_group **at;

	if (--group->refs)
		return;
	for (at = &peers->groups; *at != group; at = &(*at)->next)
		;
	*at = group->next;
	free(group);
}

/* There are never more groups than connections and sessions may be: few enough to walk along. */
static struct peer_group *group_of(struct peers *peers, const struct peer_key *key)
{
	struct peer_group *group;

	for (group = peers->groups; group; group = group->next)
		if (memcmp(group->key, key->group, sizeof(group->key)) == 0)
			return peers_hold(group);
	group = calloc(1, sizeof(*group));
	if (!group)
		return NULL;
	memcpy(group->key, key->group, sizeof(group->key));
	group->refs = 1;
	group->next = peers->groups;
	peers->groups = group;
	return group;
}

static struct peer_member *member_of(struct peer_group *group, uint64_t id)
{
	struct peer_member *member;

	for (member = group->members; member; member = member->next)
		if (member->id == id)
			return member;
	member = calloc(1, sizeof(*member));
	if (!member)
		return NULL;
	member->group = group;
	member->id = id;
	member->next = group->members;
	group->members = member;
	return member;
}

static void member_free(struct peer_member *member)
{
	struct peer_member **at;

	for (at = &member->group->members; *at != member; at = &(*at)->next)
		;
	*at = member->next;
	free(member);
}

/* Out of the greeting, for whatever reason. */
static void take_place(struct peers *peers, struct peer_place *place)
{
	struct peer_member *member = place->member;

	*(place->prev ? &place->prev->next : &member->first) = place->next;
	*(place->next ? &place->next->prev : &member->last) = place->prev;
	place->next = place->prev = NULL;
	place->member = NULL;
	peers->greeting--;
	member->group->greeting--;
	if (!--member->greeting)
		member_free(member);
}

/* The oldest connection of the member that has most; of several such, of the one that waits for longest. */
static struct peer_place *oldest_of(const struct peer_group *group)
{
	const struct peer_member *worst = NULL;

	for (const struct peer_member *m = group->members; m; m = m->next)
		if (m->greeting &&
		    (!worst || m->greeting > worst->greeting ||
		     (m->greeting == worst->greeting && m->first->arrival < worst->first->arrival)))
			worst = m;
	return worst ? worst->first : NULL;
}

/* The newcomer counts with its own peer: who has as many as others, and wants one more, is the greediest. */
static struct peer_place *greediest(const struct peers *peers, const struct peer_group *newcomer)
{
	struct peer_place *drop = NULL;
	uint32_t most = 0;

	for (const struct peer_group *g = peers->groups; g; g = g->next) {
		uint32_t has = g->greeting + (g == newcomer);
		struct peer_place *place = g->greeting && has >= most ? oldest_of(g) : NULL;

		if (!place || (drop && has == most && place->arrival > drop->arrival))
			continue;
		drop = place;
		most = has;
	}
	return drop;
}

static void append(struct peers *peers, struct peer_member *member, struct peer_place *place)
{
	place->member = member;
	place->arrival = ++peers->arrivals;
	place->prev = member->last;
	*(member->last ? &member->last->next : &member->first) = place;
	member->last = place;
	member->greeting++;
	member->group->greeting++;
	peers->greeting++;
}

static void take_away(struct peers *peers, struct peer_place *place)
{
	take_place(peers, place);
	place->dropped = true;
	place->group->dropped++;
	peers->dropped++;
}

struct peer_place *peers_relieve(struct peers *peers)
{
	struct peer_place *drop = greediest(peers, NULL);

	if (drop)
		take_away(peers, drop);
	return drop;
}

int peers_enter(struct peers *peers, struct peer_place *place, const struct peer_key *key, struct peer_place **drop)
{
	const struct peers_limits *limits = &peers->limits;
	struct peer_group *group;
	struct peer_member *member;
	int ret = PEERS_IN;

	*drop = NULL;
	memset(place, 0, sizeof(*place));
	group = group_of(peers, key);
	if (!group)
		return -ENOMEM;
	if (group->greeting >= limits->peer_greeting)
		ret = PEERS_SHARE;
	else if (peers->greeting >= limits->greeting)
		ret = PEERS_FULL;
	if (ret && (group->dropped >= limits->peer_greeting || peers->dropped >= limits->greeting)) {
		ret = group->dropped >= limits->peer_greeting ? -EUSERS : -EAGAIN;
		peers_put(peers, group);
		return ret;
	}
	/* before anyone goes: what can fail has not failed then */
	member = member_of(group, key->member);
	if (!member) {
		peers_put(peers, group);
		return -ENOMEM;
	}
	if (ret) {
		*drop = ret == PEERS_SHARE ? oldest_of(group) : greediest(peers, group);
		member->greeting++; /* it stays, if the one that goes is its last */
		take_away(peers, *drop);
		member->greeting--;
	}
	place->group = group;
	append(peers, member, place);
	return ret;
}

bool peers_greeted(struct peers *peers, struct peer_place *place)
{
	if (place->member)
		take_place(peers, place);
	return !place->dropped;
}

void peers_leave(struct peers *peers, struct peer_place *place)
{
	if (!place->group)
		return;
	if (place->member)
		take_place(peers, place);
	if (place->dropped) {
		place->group->dropped--;
		peers->dropped--;
	}
	place->dropped = false;
	peers_put(peers, place->group);
	place->group = NULL;
}

int peers_may_admit(const struct peers *peers, const struct peer_group *group)
{
	if (peers->sessions >= peers->limits.sessions)
		return -EUSERS;
	return group->sessions >= peers->limits.peer_sessions ? -EDQUOT : 0;
}

int peers_admit(struct peers *peers, struct peer_group *group)
{
	int ret = peers_may_admit(peers, group);

	if (ret)
		return ret;
	group->sessions++;
	peers->sessions++;
	return 0;
}

void peers_dismiss(struct peers *peers, struct peer_group *group)
{
	group->sessions--;
	peers->sessions--;
}

uint32_t peers_most_greeting(const struct peers *peers)
{
	uint32_t most = 0;

	for (const struct peer_group *group = peers->groups; group; group = group->next)
		most = group->greeting > most ? group->greeting : most;
	return most;
}

uint32_t peers_most_sessions(const struct peers *peers)
{
	uint32_t most = 0;

	for (const struct peer_group *group = peers->groups; group; group = group->next)
		most = group->sessions > most ? group->sessions : most;
	return most;
}
