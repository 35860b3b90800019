/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: places are shared out among peers: whoever comes is let in at the cost of the greediest one's oldest connection,
 * sessions have a limit for each peer and for all, and the books are right after any sequence of comings and goings.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "peers.h"

static struct peers peers;
static struct peer_place *drop;

static void start(uint32_t greeting, uint32_t peer_greeting, uint32_t sessions, uint32_t peer_sessions)
{
	peers_init(&peers, &(struct peers_limits){greeting, peer_greeting, sessions, peer_sessions});
}

static struct peer_key key(uint64_t group, uint64_t member)
{
	return (struct peer_key){.group = {9, group, 0}, .member = member};
}

static int enter(struct peer_place *place, uint64_t group, uint64_t member)
{
	const struct peer_key k = key(group, member);

	return peers_enter(&peers, place, &k, &drop);
}

static void leave_all(struct peer_place *place, size_t n)
{
	for (size_t i = 0; i < n; i++)
		peers_leave(&peers, &place[i]);
}

static void nothing_left(void)
{
	ck_assert_ptr_null(peers.groups);
	ck_assert_uint_eq(peers.greeting, 0);
	ck_assert_uint_eq(peers.dropped, 0);
	ck_assert_uint_eq(peers.sessions, 0);
	peers_fini(&peers);
}

START_TEST(own_share)
{
	struct peer_place p[6] = {0};

	start(100, 4, 1, 1);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(enter(&p[i], 1, 0), PEERS_IN);
	ck_assert_int_eq(enter(&p[4], 1, 0), PEERS_SHARE);
	ck_assert_ptr_eq(drop, &p[0]);
	ck_assert(p[0].dropped);
	ck_assert(!peers_greeted(&peers, &p[0])); /* too late */
	ck_assert_uint_eq(peers.greeting, 4);
	ck_assert(peers_greeted(&peers, &p[1])); /* the one whose turn it is has gone in order: */
	ck_assert_int_eq(enter(&p[5], 1, 0), PEERS_IN); /* its place is free */
	ck_assert_ptr_null(drop);
	leave_all(p, 6);
	nothing_left();
}
END_TEST

START_TEST(newcomer)
{
	struct peer_place p[12] = {0};

	/* two that take all there is; the third comes in, each time at the cost of the greedier one */
	start(8, 6, 1, 1);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(enter(&p[i], 1, 0), PEERS_IN);
	for (int i = 5; i < 8; i++)
		ck_assert_int_eq(enter(&p[i], 2, 0), PEERS_IN);
	ck_assert_int_eq(enter(&p[8], 3, 0), PEERS_FULL);
	ck_assert_ptr_eq(drop, &p[0]);
	ck_assert_int_eq(enter(&p[9], 3, 0), PEERS_FULL);
	ck_assert_ptr_eq(drop, &p[1]);
	/* 3, 3, 2: a third one of its own would make it one of the greediest, and the oldest of those goes */
	ck_assert_int_eq(enter(&p[10], 3, 0), PEERS_FULL);
	ck_assert_ptr_eq(drop, &p[2]);
	/* 2, 3, 3: with one more it is the greediest itself */
	ck_assert_int_eq(enter(&p[11], 3, 0), PEERS_FULL);
	ck_assert_ptr_eq(drop, &p[8]);
	ck_assert_uint_eq(peers_most_greeting(&peers), 3);
	leave_all(p, 12);
	nothing_left();
}
END_TEST

/* A thousand processes of one user, or addresses of one network, have no more than one: and the honest one among them comes in. */
START_TEST(members)
{
	struct peer_place p[8] = {0}, more[100] = {0};

	start(100, 6, 1, 1);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(enter(&p[i], 1, 10), PEERS_IN); /* one that does not finish */
	ck_assert_int_eq(enter(&p[4], 1, 11), PEERS_IN);
	ck_assert_int_eq(enter(&p[5], 1, 12), PEERS_IN);
	ck_assert_int_eq(enter(&p[6], 1, 13), PEERS_SHARE);
	ck_assert_ptr_eq(drop, &p[0]);
	ck_assert(peers_greeted(&peers, &p[4]));
	for (uint64_t i = 0; i < 90; i++) {
		ck_assert_int_ge(enter(&more[i], 1, 100 + i), 0);
		ck_assert_uint_le(peers_most_greeting(&peers), 6);
		if (drop)
			peers_leave(&peers, drop);
	}
	ck_assert_int_eq(enter(&p[7], 2, 0), PEERS_IN); /* nobody else has less for that */
	leave_all(p, 8);
	leave_all(more, 100);
	nothing_left();
}
END_TEST

/* The ones that lost their places and are not gone yet are bounded too: one peer's leave room for those of others. */
START_TEST(slow_to_go)
{
	struct peer_place p[8] = {0};

	start(3, 3, 1, 1);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(enter(&p[i], 1, 0), i < 3 ? PEERS_IN : PEERS_SHARE);
	ck_assert_int_eq(enter(&p[6], 1, 0), -EUSERS);
	ck_assert_int_eq(enter(&p[6], 2, 0), -EAGAIN);
	ck_assert_ptr_null(drop);
	peers_leave(&peers, &p[0]);
	ck_assert_int_eq(enter(&p[6], 2, 0), PEERS_FULL);
	leave_all(p, 8);
	nothing_left();

	start(4, 2, 1, 1);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(enter(&p[i], 1, 0), i < 2 ? PEERS_IN : PEERS_SHARE);
	ck_assert_int_eq(enter(&p[4], 1, 0), -EUSERS);
	for (int i = 4; i < 6; i++)
		ck_assert_int_eq(enter(&p[i], 2, 0), PEERS_IN);
	ck_assert_int_eq(enter(&p[6], 3, 0), PEERS_FULL);
	ck_assert_int_eq(enter(&p[7], 3, 0), PEERS_FULL);
	leave_all(p, 8);
	nothing_left();
}
END_TEST

/* One less, when the host has no more: the greediest one's oldest. */
START_TEST(relieved)
{
	struct peer_place p[4] = {0};

	start(8, 8, 1, 1);
	ck_assert_ptr_null(peers_relieve(&peers));
	ck_assert_int_eq(enter(&p[0], 1, 0), PEERS_IN);
	ck_assert_int_eq(enter(&p[1], 2, 0), PEERS_IN);
	ck_assert_int_eq(enter(&p[2], 2, 0), PEERS_IN);
	ck_assert_ptr_eq(peers_relieve(&peers), &p[1]);
	ck_assert(!peers_greeted(&peers, &p[1]));
	ck_assert_ptr_eq(peers_relieve(&peers), &p[0]);
	ck_assert_ptr_eq(peers_relieve(&peers), &p[2]);
	ck_assert_ptr_null(peers_relieve(&peers));
	leave_all(p, 4);
	nothing_left();
}
END_TEST

START_TEST(sessions)
{
	struct peer_place p[3] = {0};
	struct peer_group *g[3];

	start(8, 8, 5, 3);
	for (uint64_t i = 0; i < 3; i++) {
		ck_assert_int_eq(enter(&p[i], i, 0), PEERS_IN);
		g[i] = peers_hold(p[i].group);
	}
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(peers_admit(&peers, g[0]), 0);
	ck_assert_int_eq(peers_admit(&peers, g[0]), -EDQUOT);
	ck_assert_int_eq(peers_may_admit(&peers, g[1]), 0);
	ck_assert_int_eq(peers_admit(&peers, g[1]), 0);
	ck_assert_int_eq(peers_admit(&peers, g[2]), 0);
	ck_assert_int_eq(peers_admit(&peers, g[2]), -EUSERS);
	ck_assert_uint_eq(peers_most_sessions(&peers), 3);
	leave_all(p, 3); /* the sessions outlive the connections they came by */
	peers_dismiss(&peers, g[0]);
	ck_assert_int_eq(peers_admit(&peers, g[0]), 0);
	for (int i = 0; i < 3; i++)
		peers_dismiss(&peers, g[0]);
	peers_dismiss(&peers, g[1]);
	peers_dismiss(&peers, g[2]);
	for (int i = 0; i < 3; i++)
		peers_put(&peers, g[i]);
	nothing_left();
}
END_TEST

static struct peer_key of_address(const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = 77};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = 77};
	struct peer_key k;

	if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
		peer_key_of_address(&k, (struct sockaddr *)&in);
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
		peer_key_of_address(&k, (struct sockaddr *)&in6);
	}
	return k;
}

static bool same_group(struct peer_key a, struct peer_key b)
{
	return memcmp(a.group, b.group, sizeof(a.group)) == 0;
}

START_TEST(keys)
{
	struct peer_key a, b;

	ck_assert(same_group(of_address("10.0.0.1"), of_address("10.0.0.1")));
	ck_assert(!same_group(of_address("10.0.0.1"), of_address("10.0.0.2")));
	ck_assert(same_group(of_address("::ffff:10.0.0.1"), of_address("10.0.0.1")));
	ck_assert(same_group(of_address("2001:db8::1"), of_address("2001:db8::ffff:1")));
	ck_assert_uint_ne(of_address("2001:db8::1").member, of_address("2001:db8::ffff:1").member);
	ck_assert(!same_group(of_address("2001:db8::1"), of_address("2001:db8:0:1::1")));
	ck_assert(!same_group(of_address("fe80::1"), of_address("fe80::2")));
	ck_assert(!same_group(of_address("::1"), of_address("::2")));
	peer_key_of_process(&a, 1000, 1);
	peer_key_of_process(&b, 1000, 2);
	ck_assert(same_group(a, b));
	ck_assert_uint_ne(a.member, b.member);
	peer_key_of_process(&b, 1001, 1);
	ck_assert(!same_group(a, b));
}
END_TEST

/* The same books kept the plain way, through a long random play. */
enum { PLACES = 64, GREETING = 20, SHARE = 8 };

static uint64_t seed = 1;

static unsigned draw(unsigned n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)((seed >> 33) % n);
}

START_TEST(play)
{
	struct peer_place p[PLACES] = {0};
	struct {
		enum { OUT, IN, DONE, DROPPED } state;
		unsigned group;
	} is[PLACES] = {0};

	start(GREETING, SHARE, 1, 1);
	for (int step = 0; step < 200000; step++) {
		unsigned i = draw(PLACES), in = 0, dropped = 0, has[5] = {0}, lost[5] = {0}, most = 0;

		for (int j = 0; j < PLACES; j++) {
			in += is[j].state == IN;
			dropped += is[j].state == DROPPED;
			has[is[j].group] += is[j].state == IN;
			lost[is[j].group] += is[j].state == DROPPED;
		}
		for (int j = 0; j < 5; j++)
			most = has[j] > most ? has[j] : most;
		ck_assert_uint_eq(peers.greeting, in);
		ck_assert_uint_eq(peers.dropped, dropped);
		ck_assert_uint_eq(peers_most_greeting(&peers), most);
		ck_assert_uint_le(most, SHARE);
		ck_assert_uint_le(in, GREETING);
		if (is[i].state == OUT) {
			unsigned group = draw(5) * draw(5) / 4; /* some are greedier */
			int ret = enter(&p[i], group, draw(3));

			if (ret < 0) {
				ck_assert_int_eq(ret, lost[group] >= SHARE ? -EUSERS : -EAGAIN);
				ck_assert(dropped == GREETING || lost[group] >= SHARE);
				ck_assert(has[group] == SHARE || in == GREETING);
				continue;
			}
			ck_assert_int_eq(ret, has[group] == SHARE ? PEERS_SHARE : in == GREETING ? PEERS_FULL : PEERS_IN);
			is[i].state = IN;
			is[i].group = group;
			ck_assert_int_eq(!!drop, ret != PEERS_IN);
			if (drop) {
				unsigned victim = (unsigned)(drop - p), of = is[victim].group;

				ck_assert(victim != i && is[victim].state == IN);
				ck_assert(ret != PEERS_SHARE || of == group);
				/* nobody has more than the one it was taken from */
				for (unsigned j = 0; j < 5 && ret == PEERS_FULL; j++)
					ck_assert_uint_ge(has[of] + (of == group), has[j] + (j == group));
				is[victim].state = DROPPED;
			}
		} else if (is[i].state == IN && draw(2)) {
			ck_assert(peers_greeted(&peers, &p[i]));
			is[i].state = DONE;
		} else {
			peers_leave(&peers, &p[i]);
			is[i].state = OUT;
		}
	}
	leave_all(p, PLACES);
	nothing_left();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("peers");
	TCase *tc = tcase_create("peers");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, own_share);
	tcase_add_test(tc, newcomer);
	tcase_add_test(tc, members);
	tcase_add_test(tc, slow_to_go);
	tcase_add_test(tc, relieved);
	tcase_add_test(tc, sessions);
	tcase_add_test(tc, keys);
	tcase_add_test(tc, play);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
