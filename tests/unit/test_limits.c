/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: the limits of a brick hold against clients that ignore them, everybody else is served meanwhile, and LIMITS tells
 * what is allowed, used, and was refused, by its reason.
 */
#include <poll.h>
#include <time.h>

#include "check_run.h"
#include "pool_scratch.h"
#include "raw_client.h"

#define BLOCKS 16
#define at(n)  (0x40000000ull + (uint64_t)(n)*WIRE_BLOCK_SIZE)

static struct pool *pool;
static struct tier *tier;

static void start(const struct server_config *config)
{
	scratch_make("/dev/shm");
	ck_assert_int_eq(pool_create(scratch_pool, BLOCKS * WIRE_BLOCK_SIZE), 0);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	ck_assert_int_eq(tier_open(&tier, pool, TIER_DIRECT), 0);
	ck_assert_int_eq(server_new(&server, pool, tier, config), 0);
	ck_assert_int_eq(server_start(server), 0);
}

static void stop(void)
{
	server_stop(server);
	server_delete(server);
	tier_close(tier);
	pool_close(pool);
	scratch_remove();
}

static struct wire_limits_reply ask_limits(struct client *c)
{
	struct wire_limits_reply limits;
	uint8_t message[WIRE_MSG_MAX];

	put(c->fd, message, wire_put_plain(message, WIRE_LIMITS, ++c->id, 0));
	ck_assert_int_eq(answer(c, WIRE_LIMITS), 0);
	ck_assert_int_eq(wire_get_limits_reply(c->message, c->length, &limits), 0);
	ck_assert_uint_eq(limits.limits, WIRE_LIMIT_ROWS);
	ck_assert_uint_eq(limits.refusals, WIRE_REFUSED_ROWS);
	return limits;
}

/* Until something was refused so often: another thread counts it, behind what is seen here. */
static void refused(struct client *c, enum wire_refusal reason, uint64_t times)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	while (ask_limits(c).refused[reason] < times)
		nanosleep(&pause, NULL);
	ck_assert_uint_eq(ask_limits(c).refused[reason], times);
}

static int connect_as(uint64_t group, uint64_t member)
{
	struct timeval limit = {.tv_sec = 60};
	struct peer peer = {.text = "other", .key = {.group = {7, group}, .member = member}};
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	(void)server_adopt(server, pair[1], &transport_tcp, &peer);
	return pair[0];
}

static bool closed(int fd)
{
	uint8_t byte;

	return recv(fd, &byte, 1, 0) <= 0;
}

START_TEST(reasons)
{
	struct server_config config = server_config_default;
	struct wire_limits_reply limits;
	struct wire_handle h;
	struct client *a, *b;
	uint8_t message[WIRE_MSG_MAX], token[WIRE_TOKEN_SIZE];
	int fd;

	config.max_sessions = 3;
	config.max_peer_sessions = 2;
	config.max_lanes = 2;
	config.max_maps = 1;
	config.hello_ms = 3600000;
	start(&config);
	a = open_client(&transport_tcp);
	limits = ask_limits(a);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_GREETING].most, 128);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_PEER_GREETING].most, 64);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_HELLO].most, 3600000);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_SESSIONS].most, 3);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_SESSIONS].used, 1);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_PEER_SESSIONS].most, 2);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_LANES].most, 2);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_LANES].used, 1);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_REQUESTS].most, 256);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_MAPS].most, 1);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_WORKERS].most, 64);
	for (int i = 0; i < WIRE_REFUSED_ROWS; i++)
		ck_assert_uint_eq(limits.refused[i], 0);

	b = open_client(&transport_tcp);
	fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(fd, NULL, 0, NULL), -EUSERS);
	close(fd);
	refused(a, WIRE_REFUSED_PEER_SESSIONS, 1);
	fd = connect_as(1, 1); /* of somebody else there may be one */
	ck_assert_int_eq(preamble(fd, NULL, 0, NULL), 0);
	put(fd, message, wire_put_hello(message, 1, &(struct wire_hello){.name = "other"}));
	ck_assert(get(fd, message, 104));
	ck_assert_uint_eq(ask_limits(a).limit[WIRE_LIMIT_SESSIONS].used, 3);
	ck_assert_uint_eq(ask_limits(a).limit[WIRE_LIMIT_PEER_SESSIONS].used, 2);
	close(fd);
	while (ask_limits(a).limit[WIRE_LIMIT_SESSIONS].used > 2)
		;
	shut_and_wait(b);

	fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(fd, a->token, 2, NULL), -EMFILE);
	close(fd);
	refused(a, WIRE_REFUSED_LANES, 1);
	memset(token, 0x5a, sizeof(token));
	fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(fd, token, 0, NULL), -ESTALE);
	close(fd);
	refused(a, WIRE_REFUSED_TOKEN, 1);
	fd = connect_raw(&transport_tcp);
	wire_put_preamble(message, &(struct wire_preamble){.version_min = 2, .version_max = 9});
	put(fd, message, WIRE_PREAMBLE_SIZE);
	ck_assert(get(fd, message, WIRE_PREAMBLE_REPLY_SIZE));
	close(fd);
	refused(a, WIRE_REFUSED_VERSION, 1);
	fd = connect_raw(&transport_tcp);
	memset(message, 'x', WIRE_PREAMBLE_SIZE);
	put(fd, message, WIRE_PREAMBLE_SIZE);
	ck_assert(get(fd, message, WIRE_PREAMBLE_REPLY_SIZE));
	close(fd);
	refused(a, WIRE_REFUSED_MALFORMED, 1);
	put(a->fd, message, wire_put_plain(message, 0x55, ++a->id, 0));
	ck_assert_int_eq(answer(a, 0x55), -EOPNOTSUPP);
	refused(a, WIRE_REFUSED_UNKNOWN, 1);

	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(1)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_WRITE, &h), 0);
	ck_assert_int_eq(map(a, at(1), WIRE_MAP_WRITE, NULL), -ENOMEM);
	refused(a, WIRE_REFUSED_MAPS, 1);
	ck_assert_int_eq(rwrite(a, at(0), h.key, "x", 1), 0);
	ck_assert_int_eq(persist(a, at(0), 1), 0);
	ck_assert_int_eq(rread(a, at(0), h.key, message, 1), 0);
	b = join(a, 1);
	ck_assert_int_eq(rwrite(b, at(1), h.key, "x", 1), -EACCES);
	refused(a, WIRE_REFUSED_ACCESS, 1);
	ck_assert_int_eq(unmap(a, at(0)), 0);
	shut(b);
	shut(a);
	stop();
}
END_TEST

/* Who never finishes its greeting, a byte now and then, has the time that is given, and no more. */
START_TEST(slow_greeting)
{
	struct server_config config = server_config_default;
	const struct timespec pause = {.tv_nsec = 5000000};
	struct client *a;
	uint8_t bytes[WIRE_PREAMBLE_SIZE];
	int drip, mute;

	config.hello_ms = 300;
	start(&config);
	a = open_client(&transport_tcp);
	mute = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(mute, NULL, 0, NULL), 0); /* and no HELLO */
	drip = connect_raw(&transport_tcp);
	wire_put_preamble(bytes, &(struct wire_preamble){.version_min = 1, .version_max = 1});
	for (unsigned i = 0; i < WIRE_PREAMBLE_SIZE - 1; i++) {
		if (send(drip, bytes + i, 1, MSG_NOSIGNAL) != 1)
			break;
		nanosleep(&pause, NULL);
	}
	ck_assert(closed(drip));
	ck_assert(closed(mute));
	refused(a, WIRE_REFUSED_HELLO, 2);
	while (ask_limits(a).limit[WIRE_LIMIT_GREETING].used)
		nanosleep(&pause, NULL);
	close(drip);
	close(mute);
	shut(a);
	stop();
}
END_TEST

/* One fills all places and more; others come in, and who was there with a session is not touched. */
START_TEST(crowd)
{
	struct server_config config = server_config_default;
	struct wire_limits_reply limits;
	struct client *a;
	int fd[200], other[8];

	config.max_connections = 16;
	config.hello_ms = 3600000;
	start(&config);
	a = open_client(&transport_tcp);
	for (int i = 0; i < 200; i++)
		fd[i] = connect_as(1, (uint64_t)i % 5);
	for (int i = 0; i < 8; i++)
		other[i] = connect_as(2, 0);
	limits = ask_limits(a);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_GREETING].used, 16);
	ck_assert_uint_eq(limits.limit[WIRE_LIMIT_PEER_GREETING].used, 8);
	ck_assert_uint_eq(limits.refused[WIRE_REFUSED_PEER_GREETING] + limits.refused[WIRE_REFUSED_GREETING], 200 - 8);
	for (int i = 0; i < 8; i++) { /* also while the first ones are not gone yet */
		int one = connect_as(3, 0);

		ck_assert_int_eq(preamble(one, NULL, 0, NULL), 0);
		close(one);
		settled();
	}
	for (int i = 0; i < 8; i++)
		close(other[i]);
	for (int i = 0; i < 200; i++)
		close(fd[i]);
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	shut(a);
	stop();
}
END_TEST

/* A session that asks on all its lanes, and reads nothing: it has its most under way, and another one is served beside it. */
START_TEST(held_back)
{
	struct server_config config = server_config_default;
	struct client *a, *lane[3], *b;
	uint8_t message[WIRE_MSG_MAX];

	config.max_requests = 2;
	config.workers = 1;
	start(&config);
	a = open_client(&transport_tcp);
	b = open_client(&transport_tcp);
	for (uint16_t i = 0; i < 3; i++)
		lane[i] = join(a, (uint16_t)(i + 1));
	for (int i = 0; i < 100; i++) {
		const uint64_t addr = at(i % 8);
		size_t n;

		for (int j = 0; j < 3; j++) {
			n = wire_put_addrs(message, i & 8 ? WIRE_FREE : WIRE_ALLOC, (uint32_t)i, &addr, 1);
			put(lane[j]->fd, message, n);
		}
		if (i % 10)
			continue;
		ck_assert_int_eq(call_addrs(b, WIRE_ALLOC, at(9)), 0);
		ck_assert_uint_le(ask_limits(b).limit[WIRE_LIMIT_REQUESTS].used, 2);
		ck_assert_int_eq(call_addrs(b, WIRE_FREE, at(9)), 0);
	}
	for (int j = 0; j < 3; j++) {
		for (int i = 0; i < 100; i++) {
			struct wire_header header;

			ck_assert_uint_ne(receive(lane[j], &header), 0);
			ck_assert_uint_eq(header.status, 0);
		}
		ck_assert_uint_le(ask_limits(b).limit[WIRE_LIMIT_REQUESTS].used, 2);
	}
	ck_assert_uint_gt(ask_limits(b).refused[WIRE_REFUSED_REQUESTS], 0);
	/* what is held back does not keep a lane from ending */
	for (int i = 0; i < 100; i++) {
		const uint64_t addr = at(i % 8);

		for (int j = 0; j < 3; j++)
			put(lane[j]->fd, message, wire_put_addrs(message, WIRE_ALLOC, (uint32_t)i, &addr, 1));
	}
	for (int j = 0; j < 3; j++)
		shut(lane[j]);
	shut(a);
	while (ask_limits(b).limit[WIRE_LIMIT_SESSIONS].used > 1)
		;
	shut(b);
	stop();
}
END_TEST

/* When a refusal is worth a line in the log: at the beginning of a burst, and now and then while it lasts. */
START_TEST(bursts)
{
	struct refusals r;
	const uint64_t s = 1000000000;
	uint64_t left_out = 99, now = 1000 * s;

	refusals_init(&r);
	ck_assert(refusals_count(&r, WIRE_REFUSED_STALL, now, &left_out));
	ck_assert_uint_eq(left_out, 0);
	for (int i = 0; i < 60; i++)
		ck_assert(!refusals_count(&r, WIRE_REFUSED_STALL, now += s, &left_out));
	ck_assert(refusals_count(&r, WIRE_REFUSED_HELLO, now, &left_out)); /* another reason is its own */
	ck_assert(refusals_count(&r, WIRE_REFUSED_STALL, now += s, &left_out));
	ck_assert_uint_eq(left_out, 60);
	ck_assert(!refusals_count(&r, WIRE_REFUSED_STALL, now += 10 * s, &left_out));
	ck_assert(refusals_count(&r, WIRE_REFUSED_STALL, now += 11 * s, &left_out)); /* a new burst */
	ck_assert_uint_eq(left_out, 1);
	ck_assert_uint_eq(refusals_read(&r, WIRE_REFUSED_STALL), 64);
	refusals_fini(&r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("limits");
	TCase *tc = tcase_create("limits");

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, reasons);
	tcase_add_test(tc, slow_greeting);
	tcase_add_test(tc, crowd);
	tcase_add_test(tc, held_back);
	tcase_add_test(tc, bursts);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
