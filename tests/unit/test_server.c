/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: the rules of sessions, lanes and locks, as a client sees them that speaks the bare protocol; and that
 * a client that breaks them, stalls, or sends garbage loses its lane and hurts nobody else.
 */
#include <pthread.h>
#include <sys/random.h>

#include "check_run.h"
#include "pool_scratch.h"
#include "raw_client.h"

#define BASE   0x40000000ull
#define BLOCKS 16
#define at(n)  (BASE + (uint64_t)(n)*WIRE_BLOCK_SIZE)

static struct pool *pool;
static struct tier *tier;

static void start_with(const struct server_config *config)
{
	scratch_make("/dev/shm");
	ck_assert_int_eq(pool_create(scratch_pool, BLOCKS * WIRE_BLOCK_SIZE), 0);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	ck_assert_int_eq(tier_open(&tier, pool, TIER_DIRECT), 0);
	ck_assert_int_eq(server_new(&server, pool, tier, config), 0);
	ck_assert_int_eq(server_start(server), 0);
}

static struct server_config quick(void)
{
	struct server_config config = server_config_default;

	config.quiesce_ms = 100;
	config.max_maps = 4;
	config.max_lanes = 3;
	config.max_sessions = config.max_peer_sessions = 4;
	config.max_connections = 6;
	config.lease_ms = 3600000;
	return config;
}

static void start(void)
{
	struct server_config config = quick();

	start_with(&config);
}

static void stop(void)
{
	server_stop(server);
	server_delete(server);
	tier_close(tier);
	pool_close(pool);
	scratch_remove();
}

/* The brick still serves whoever behaves. */
static void still_serves(void)
{
	struct client *c = open_client(&transport_tcp);
	struct wire_handle h;
	char text[6];

	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(9)), 0);
	ck_assert_int_eq(map(c, at(9), WIRE_MAP_WRITE, &h), 0);
	ck_assert_int_eq(rwrite(c, at(9) + 77, h.key, "hello", 6), 0);
	ck_assert_int_eq(rread(c, at(9) + 77, h.key, text, 6), 0);
	ck_assert_str_eq(text, "hello");
	ck_assert_int_eq(persist(c, at(9) + 77, 6), 0);
	ck_assert_int_eq(call_addrs(c, WIRE_FREE, at(9)), 0);
	shut_and_wait(c);
}

START_TEST(calls)
{
	struct client *c = open_client(&transport_tcp);
	struct wire_list list = {.from = 0};
	struct wire_list_reply reply;
	uint8_t message[WIRE_MSG_MAX], *zeroes = calloc(2, WIRE_BLOCK_SIZE);
	uint64_t generation;
	struct wire_handle h;

	ck_assert_uint_eq(c->hello.capacity, BLOCKS);
	ck_assert_uint_eq(c->hello.maps, 4);
	ck_assert_uint_eq(c->hello.lanes, 3);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(0) + 4096), -EINVAL);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(0)), -EEXIST);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(1)), 0);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, ~(WIRE_BLOCK_SIZE - 1)), 0); /* the last ID there is */
	put(c->fd, message, wire_put_list(message, ++c->id, &list));
	ck_assert_int_eq(answer(c, WIRE_LIST), 0);
	ck_assert_int_eq(wire_get_list_reply(c->message, c->length, &reply), 0);
	ck_assert_uint_eq(reply.count, 2);
	ck_assert_uint_eq(reply.extent[0].start, at(0));
	ck_assert_uint_eq(reply.extent[0].count, 2);
	ck_assert_uint_eq(reply.extent[1].start, ~(WIRE_BLOCK_SIZE - 1));
	generation = reply.generation;

	ck_assert_int_eq(map(c, at(1), WIRE_MAP_WRITE, &h), 0);
	memset(zeroes, 1, WIRE_BLOCK_SIZE);
	ck_assert_int_eq(rread(c, at(1), h.key, zeroes, WIRE_BLOCK_SIZE), 0);
	ck_assert_mem_eq(zeroes, zeroes + WIRE_BLOCK_SIZE, WIRE_BLOCK_SIZE);
	ck_assert_int_eq(call_addrs(c, WIRE_FREE, at(1)), 0); /* its own map goes first */
	ck_assert_int_eq(call_addrs(c, WIRE_FREE, at(1)), -ENOENT);
	ck_assert_int_eq(map(c, at(1), 0, NULL), -ENOENT);
	ck_assert_int_eq(unmap(c, at(1)), -ENOENT);
	ck_assert_int_eq(persist(c, at(1), 1), -ENOENT);
	ck_assert_int_eq(persist(c, at(0), 4096), 0); /* mapped or not */

	list.max = 1;
	put(c->fd, message, wire_put_list(message, ++c->id, &list));
	ck_assert_int_eq(answer(c, WIRE_LIST), 0);
	ck_assert_int_eq(wire_get_list_reply(c->message, c->length, &reply), 0);
	ck_assert(reply.more);
	ck_assert_uint_eq(reply.next, ~(WIRE_BLOCK_SIZE - 1));
	ck_assert_uint_ne(reply.generation, generation);
	for (int i = 2; i < BLOCKS; i++)
		ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(i)), 0);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(BLOCKS)), -ENOSPC);
	free(zeroes);
	shut(c);
}
END_TEST

START_TEST(locks)
{
	struct client *a = open_client(&transport_tcp), *b = open_client(&transport_tcp);
	struct wire_handle one, two;

	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(i)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_WRITE, &one), 0);
	ck_assert_int_eq(map(a, at(0), 0, &two), 0);
	ck_assert_uint_eq(one.key, two.key); /* weaker: the same handle */
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, NULL), -EBUSY);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_EXCLUSIVE, NULL), -EBUSY);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_WRITE, &two), 0);
	ck_assert_uint_ne(one.key, two.key);
	ck_assert_int_eq(call_addrs(a, WIRE_FREE, at(0)), -EBUSY);
	ck_assert_int_eq(unmap(b, at(0)), 0);
	ck_assert_int_eq(unmap(a, at(0)), 0);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_EXCLUSIVE, &two), 0);
	ck_assert_int_eq(map(a, at(0), 0, NULL), -EBUSY);
	ck_assert_int_eq(rwrite(b, at(0), two.key, "x", 1), 0); /* exclusive implies read-write */
	/* the grant: four at once */
	for (int i = 1; i < 5; i++)
		ck_assert_int_eq(map(a, at(i), 0, NULL), 0);
	ck_assert_int_eq(map(a, at(5), 0, NULL), -ENOMEM);
	ck_assert_int_eq(unmap(a, at(1)), 0);
	ck_assert_int_eq(map(a, at(5), 0, NULL), 0);
	/* who has hung up is no obstacle */
	shut(b);
	ck_assert_int_eq(unmap(a, at(5)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, NULL), 0);
	shut(a);
}
END_TEST

START_TEST(preempt)
{
	struct client *a = open_client(&transport_tcp), *b = open_client(&transport_tcp);
	struct client *a1 = join(a, 1);
	struct wire_header header;
	struct wire_notice notice;

	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(a1, at(0), WIRE_MAP_EXCLUSIVE, NULL), 0);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_EXCLUSIVE, NULL), -EBUSY);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_EXCLUSIVE | WIRE_MAP_PREEMPT, NULL), 0);
	ck_assert_int_eq(receive(a, &header), WIRE_NOTICE);
	ck_assert_int_eq(wire_get_notice(a->message, a->length, &notice), 0);
	ck_assert_uint_eq(notice.kind, WIRE_NOTICE_REVOKED);
	ck_assert_int_eq(receive(a, &header), 0);
	close(a1->fd);
	a1->fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(a1->fd, a->token, 1, NULL), -ESTALE);
	shut(a1);
	shut(a);
	shut(b);
}
END_TEST

START_TEST(expired)
{
	struct server_config config = quick();
	struct client *a, *b;

	config.lease_ms = 0;
	start_with(&config);
	a = open_client(&transport_tcp);
	b = open_client(&transport_tcp);
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(1)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, NULL), 0);
	ck_assert_int_eq(map(b, at(1), 0, NULL), 0); /* no conflict: nobody is ended */
	ck_assert_int_eq(map(a, at(1), 0, NULL), 0);
	ck_assert_int_eq(map(b, at(0), 0, NULL), 0);
	ck_assert_int_eq(map(a, at(1), 0, NULL), -ECONNRESET);
	shut(a);
	shut(b);
	stop();
}
END_TEST

START_TEST(local_stays)
{
	struct client *a = open_client(&transport_local), *b = open_client(&transport_tcp);
	struct wire_handle h;
	struct wire_header header;
	struct wire_sessions who = {.from = a->hello.session};
	uint8_t message[WIRE_MSG_MAX], garbage[64];

	ck_assert_uint_eq(a->hello.fds, 1);
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, &h), 0);
	ck_assert_uint_eq(h.key, 0);
	ck_assert_int_eq(rwrite(a, at(0), h.key, "no frames here", 14), -EOPNOTSUPP);
	ck_assert_int_eq(rread(a, at(0), h.key, message, 14), -EOPNOTSUPP);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_WRITE | WIRE_MAP_PREEMPT, NULL), -EBUSY);
	put(b->fd, message, wire_put_sessions(message, WIRE_REVOKE, ++b->id, &who));
	ck_assert_int_eq(answer(b, WIRE_REVOKE), -EBUSY);
	/* it loses the brick's ear with garbage, but its memory, and so its lock, only with its life */
	memset(garbage, 0xff, sizeof(garbage));
	put(a->fd, garbage, sizeof(garbage));
	ck_assert_int_eq(receive(a, &header), 0);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_WRITE | WIRE_MAP_PREEMPT, NULL), -EBUSY);
	shut(a);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_WRITE, NULL), 0);
	shut(b);
}
END_TEST

/* Nor by taking no replies: what it asks is not answered any more, but its lock stays until it closes. */
START_TEST(local_deaf)
{
	struct client *a = open_client(&transport_local), *b = open_client(&transport_tcp);
	const struct timespec pause = {.tv_nsec = 5000000};
	struct wire_stat_reply before, now;
	uint8_t message[WIRE_MSG_MAX];

	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, NULL), 0);
	call_stat(server, &before);
	shutdown(a->fd, SHUT_RD);
	put(a->fd, message, wire_put_plain(message, WIRE_KEEPALIVE, ++a->id, 0));
	do
		call_stat(server, &now);
	while (now.op[WIRE_OP_OTHER].count == before.op[WIRE_OP_OTHER].count);
	for (int i = 0; i < 40; i++) {
		ck_assert_int_eq(map(b, at(0), WIRE_MAP_WRITE | WIRE_MAP_PREEMPT, NULL), -EBUSY);
		nanosleep(&pause, NULL);
	}
	shut(a);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_WRITE, NULL), 0);
	shut(b);
}
END_TEST

START_TEST(lanes)
{
	struct client *a = open_client(&transport_tcp), *b, *c;
	uint8_t token[WIRE_TOKEN_SIZE];
	struct wire_header header;
	struct wire_handle h, again;
	int fd;

	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_WRITE, &h), 0);
	b = join(a, 1);
	ck_assert_int_eq(rwrite(b, at(0), h.key, "lane", 4), 0); /* the map is the session's */
	c = join(a, 1); /* takes the place of b */
	ck_assert_int_eq(receive(b, &header), 0);
	ck_assert_int_eq(try_hello(c, 0), 0);
	ck_assert_uint_eq(c->hello.session, a->hello.session);
	fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(fd, a->token, 3, NULL), -EMFILE);
	close(fd);
	memset(token, 0x5a, sizeof(token));
	fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(fd, token, 0, NULL), -ESTALE);
	close(fd);
	shut_and_wait(a); /* the session lives on with its other lane */
	ck_assert_int_eq(map(c, at(0), WIRE_MAP_WRITE, &again), 0);
	ck_assert_uint_eq(again.key, h.key);
	a = join(c, 0);
	ck_assert_int_eq(rwrite(a, at(0), h.key, "lane", 4), 0);
	shut_and_wait(a);
	shut_and_wait(c);
	shut(b);
	still_serves();
}
END_TEST

START_TEST(limits)
{
	struct client *c[4];
	int fd[6], refused;

	for (int i = 0; i < 4; i++)
		c[i] = open_client(&transport_tcp);
	refused = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(refused, NULL, 0, NULL), -EUSERS);
	close(refused);
	for (int i = 0; i < 4; i++)
		shut_and_wait(c[i]);
	/* connections that say nothing: one peer's push each other out, and those who have a session are not hurt */
	c[0] = open_client(&transport_tcp);
	for (int i = 0; i < 6; i++)
		fd[i] = connect_raw(&transport_tcp);
	settled();
	c[1] = open_client(&transport_tcp); /* the same peer, which has its share: it is let in all the same */
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(preamble(fd[i], NULL, 0, NULL), -EUSERS);
	ck_assert_int_eq(preamble(fd[4], NULL, 0, NULL), 0);
	ck_assert_int_eq(preamble(fd[5], NULL, 0, NULL), 0);
	ck_assert_int_eq(call_addrs(c[0], WIRE_ALLOC, at(0)), 0);
	for (int i = 0; i < 6; i++)
		close(fd[i]);
	shut(c[0]);
	shut(c[1]);
}
END_TEST

START_TEST(hello_timeout)
{
	struct server_config config = quick();
	uint8_t byte;
	int silent, quiet;

	config.hello_ms = 100;
	start_with(&config);
	silent = connect_raw(&transport_tcp);
	quiet = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(quiet, NULL, 0, NULL), 0); /* and no hello */
	ck_assert(!get(silent, &byte, 1));
	ck_assert(!get(quiet, &byte, 1));
	close(silent);
	close(quiet);
	still_serves();
	stop();
}
END_TEST

/* Each a way to misuse READ and WRITE; all cost the lane, none changes a byte. */
START_TEST(violations)
{
	struct client *owner = open_client(&transport_tcp);
	struct wire_handle ro, gone, mine;
	char bytes[8];

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(call_addrs(owner, WIRE_ALLOC, at(i)), 0);
	ck_assert_int_eq(map(owner, at(2), WIRE_MAP_WRITE, &mine), 0);
	for (int kind = 0; kind < 6; kind++) {
		struct client *c = open_client(&transport_tcp);
		struct wire_header header;
		int ret = 0;

		ck_assert_int_eq(map(c, at(0), 0, &ro), 0);
		ck_assert_int_eq(map(c, at(1), WIRE_MAP_WRITE, &gone), 0);
		ck_assert_int_eq(unmap(c, at(1)), 0);
		switch (kind) {
		case 0: /* more than the map allows */
			ret = rwrite(c, at(0), ro.key, "evil", 4);
			break;
		case 1: /* not its handle */
			ret = rread(c, at(0), ro.key + 1, bytes, 4);
			break;
		case 2: /* a handle that is void */
			ret = rwrite(c, at(1), gone.key, "evil", 4);
			break;
		case 3: /* another session's */
			ret = rwrite(c, at(2), mine.key, "evil", 4);
			break;
		case 4: /* no such block */
			ret = rread(c, at(7), ro.key, bytes, 4);
			break;
		case 5: /* a key for another block */
			ret = rread(c, at(1), ro.key, bytes, 4);
			break;
		}
		ck_assert_int_eq(ret, -EACCES);
		ck_assert_int_eq(receive(c, &header), 0);
		shut(c);
	}
	ck_assert_int_eq(rread(owner, at(2), mine.key, bytes, 4), 0);
	ck_assert_mem_eq(bytes, "\0\0\0\0", 4);
	shut(owner);
}
END_TEST

/* A byte now and then, so that no limit on silence catches it; ends when the brick has had enough. */
static void *drip(void *arg)
{
	const struct client *c = arg;

	while (send(c->fd, "x", 1, MSG_NOSIGNAL) == 1)
		usleep(50000);
	return NULL;
}

/* A writer that drags in the middle of a frame: the unmap gets its way, that lane is gone, the other one works. */
START_TEST(stalled_unmap)
{
	pthread_t dripping;
	struct client *a = open_client(&transport_tcp), *b = join(a, 1), *other = open_client(&transport_tcp);
	struct wire_handle h;
	struct wire_header header;
	char half[4096] = "half";

	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, &h), 0);
	send_write(b, at(0), h.key, half, 8192, 4096);
	/* the frame is under way when its first bytes are in the block, which the lane beside it can see */
	do
		ck_assert_int_eq(rread(a, at(0), h.key, half, 4), 0);
	while (memcmp(half, "half", 4));
	ck_assert_int_eq(pthread_create(&dripping, NULL, drip, b), 0);
	ck_assert_int_eq(unmap(a, at(0)), 0);
	pthread_join(dripping, NULL);
	ck_assert_int_eq(receive(b, &header), 0);
	ck_assert_int_eq(map(other, at(0), WIRE_MAP_EXCLUSIVE, NULL), 0);
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(1)), 0);
	shut(b);
	shut(a);
	shut(other);
}
END_TEST

/* As section 4 wants it: a client that is stopped in the middle of a WRITE cannot change a byte once it is preempted. */
START_TEST(stalled_preempt)
{
	struct client *a = open_client(&transport_tcp), *b = open_client(&transport_tcp);
	struct wire_handle h, own;
	char bytes[8192], seen[4096];

	memset(bytes, 'a', sizeof(bytes));
	ck_assert_int_eq(call_addrs(a, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(a, at(0), WIRE_MAP_EXCLUSIVE, &h), 0);
	send_write(a, at(0), h.key, bytes, sizeof(bytes), 4096);
	ck_assert_int_eq(map(b, at(0), WIRE_MAP_EXCLUSIVE | WIRE_MAP_PREEMPT, &own), 0);
	(void)!send(a->fd, bytes, 4096, MSG_NOSIGNAL); /* it comes back and goes on: into the void */
	ck_assert_int_eq(rread(b, at(0) + 4096, own.key, seen, sizeof(seen)), 0);
	memset(bytes, 0, sizeof(bytes));
	ck_assert_mem_eq(seen, bytes, sizeof(seen));
	shut(a);
	shut(b);
}
END_TEST

START_TEST(malformed)
{
	uint8_t message[WIRE_MSG_MAX];
	struct client *c;
	struct wire_header header;
	struct wire_preamble other = {.version_min = WIRE_VERSION + 1, .version_max = WIRE_VERSION + 9};
	struct wire_preamble_reply reply;
	int fd;

	/* not our protocol; another version of it */
	fd = connect_raw(&transport_tcp);
	put(fd, "GET / HTTP/1.1\r\nHost: brick\r\n\r\n....", 36);
	if (get(fd, message, WIRE_PREAMBLE_REPLY_SIZE)) {
		ck_assert_int_eq(wire_get_preamble_reply(message, WIRE_PREAMBLE_REPLY_SIZE, &reply), 0);
		ck_assert_int_eq(wire_errno(reply.status), -EPROTO);
	}
	close(fd);
	fd = connect_raw(&transport_tcp);
	wire_put_preamble(message, &other);
	put(fd, message, WIRE_PREAMBLE_SIZE);
	ck_assert(get(fd, message, WIRE_PREAMBLE_REPLY_SIZE));
	ck_assert_int_eq(wire_get_preamble_reply(message, WIRE_PREAMBLE_REPLY_SIZE, &reply), 0);
	ck_assert_int_eq(wire_errno(reply.status), -EPROTONOSUPPORT);
	close(fd);
	/* a call before hello */
	c = calloc(1, sizeof(*c));
	c->fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(c->fd, NULL, 0, NULL), 0);
	put(c->fd, message, wire_put_plain(message, WIRE_STAT, 1, 0));
	ck_assert_int_eq(receive(c, &header), 0);
	shut(c);
	/* a type that is not known is answered; flags that are not known are refused; then the lane still works */
	c = open_client(&transport_tcp);
	put(c->fd, message, wire_put_plain(message, 0x33, ++c->id, 0));
	ck_assert_int_eq(answer(c, 0x33), -EOPNOTSUPP);
	header = (struct wire_header){.length = WIRE_HEADER_SIZE, .type = WIRE_STAT, .flags = 1, .id = ++c->id};
	wire_put_header(message, &header);
	put(c->fd, message, WIRE_HEADER_SIZE);
	ck_assert_int_eq(answer(c, WIRE_STAT), -EINVAL);
	ck_assert_int_eq(call_addrs(c, WIRE_FREE, at(0)), -ENOENT);
	shut(c);
	/* every message with a length that lies, and cut off in the middle */
	for (uint16_t type = 0; type < 0x80; type++) {
		c = open_client(&transport_tcp);
		memset(message, 0xff, sizeof(message));
		header = (struct wire_header){.length = 40, .type = type, .id = 1};
		wire_put_header(message, &header);
		put(c->fd, message, 40);
		header.length = 0xfffffff0u;
		wire_put_header(message, &header);
		(void)!send(c->fd, message, 64, MSG_NOSIGNAL);
		while (receive(c, &header))
			;
		shut(c);
	}
	still_serves();
}
END_TEST

START_TEST(noise)
{
	unsigned seed;

	ck_assert_int_eq(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	printf("noise: seed %u\n", seed);
	for (int round = 0; round < 200; round++) {
		struct client *c = open_client(&transport_tcp);
		uint8_t message[2048];
		struct wire_header header;
		size_t length = WIRE_HEADER_SIZE + (size_t)(rand_r(&seed) % 512);

		for (size_t i = 0; i < sizeof(message); i++)
			message[i] = (uint8_t)rand_r(&seed);
		if (round & 1) {
			header = (struct wire_header){
				.length = (uint32_t)length, .type = (uint16_t)(rand_r(&seed) % 0x48), .id = 7};
			wire_put_header(message, &header);
		}
		(void)!send(c->fd, message, length, MSG_NOSIGNAL);
		shutdown(c->fd, SHUT_WR);
		while (receive(c, &header))
			;
		shut(c);
	}
	still_serves();
}
END_TEST

/* Asks for much and takes nothing; the others do not notice, and the stop at the end is not held up. */
START_TEST(never_reads)
{
	struct client *greedy = open_client(&transport_tcp), *other = open_client(&transport_tcp);
	struct wire_handle h;
	struct wire_rw rw = {.addr = at(0), .length = WIRE_BLOCK_SIZE};
	uint8_t fixed[WIRE_RW_FIXED];

	ck_assert_int_eq(call_addrs(greedy, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(map(greedy, at(0), WIRE_MAP_EXCLUSIVE, &h), 0);
	rw.key = h.key;
	wire_put_rw(fixed, WIRE_READ, 1, &rw, 0);
	for (int i = 0; i < 100; i++)
		put(greedy->fd, fixed, sizeof(fixed));
	still_serves();
	ck_assert_int_eq(map(other, at(0), WIRE_MAP_EXCLUSIVE | WIRE_MAP_PREEMPT, NULL), 0);
	shut(greedy);
	shut(other);
}
END_TEST

struct fight {
	pthread_t thread;
	unsigned seed;
	int done;
};

/* Everything at once on a few blocks; whatever happens, it happens to an end. */
static void *fight(void *arg)
{
	struct fight *f = arg;
	const struct transport *transport = f->seed % 4 ? &transport_tcp : &transport_local;

	for (int round = 0; round < 12; round++) {
		struct client *c = calloc(1, sizeof(*c));
		int ret = 0;

		c->fd = connect_raw(transport);
		ret = preamble(c->fd, NULL, 0, c->token);
		if (!ret)
			ret = try_hello(c, 0);
		for (int i = 0; i < 40 && ret != -ECONNRESET && ret != -EUSERS; i++) {
			uint64_t addr = at(rand_r(&f->seed) % 3);
			struct wire_handle h;
			char bytes[512] = {0};

			switch (rand_r(&f->seed) % 6) {
			case 0:
				ret = call_addrs(c, WIRE_ALLOC, addr);
				break;
			case 1:
				ret = call_addrs(c, WIRE_FREE, addr);
				break;
			case 2:
				ret = unmap(c, addr);
				break;
			case 3:
				ret = persist(c, addr, 4096);
				break;
			default:
				ret = map(c, addr, (uint32_t)(rand_r(&f->seed) % 8), &h);
				if (!ret && transport == &transport_tcp)
					ret = rread(c, addr, h.key, bytes, sizeof(bytes));
			}
			f->done += !ret;
		}
		if (round % 3)
			shut_and_wait(c);
		else
			shut(c);
	}
	return NULL;
}

START_TEST(all_at_once)
{
	struct fight fights[8];
	struct wire_stat_reply stat;
	int done = 0;

	for (unsigned i = 0; i < 8; i++) {
		fights[i] = (struct fight){.seed = i + 1};
		ck_assert_int_eq(pthread_create(&fights[i].thread, NULL, fight, &fights[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(fights[i].thread, NULL);
		done += fights[i].done;
	}
	ck_assert_int_gt(done, 0);
	server_stop(server);
	call_stat(server, &stat);
	ck_assert_uint_eq(stat.sessions, 0);
	ck_assert_uint_eq(stat.lanes, 0);
	ck_assert_uint_eq(stat.maps, 0);
	ck_assert_uint_eq(server->blocks.count, 0);
	ck_assert_uint_eq(stat.capacity - stat.free, idmap_count(server->map));
	ck_assert_uint_eq(server->peers.greeting, 0);
}
END_TEST

START_TEST(going_down)
{
	struct client *c = open_client(&transport_tcp);
	struct wire_header header;
	struct wire_notice notice;

	server_stop(server);
	ck_assert_int_eq(receive(c, &header), WIRE_NOTICE);
	ck_assert_int_eq(wire_get_notice(c->message, c->length, &notice), 0);
	ck_assert_uint_eq(notice.kind, WIRE_NOTICE_GOING_DOWN);
	ck_assert_int_eq(receive(c, &header), 0);
	shut(c);
}
END_TEST

START_TEST(histogram)
{
	struct stats *stats = calloc(1, sizeof(*stats));
	struct wire_op_stat out;

	for (uint64_t ns = 1; ns; ns <<= 1) {
		for (int d = -1; d <= 1; d++) {
			uint64_t v = ns + (uint64_t)(int64_t)d;
			unsigned b = stats_bucket(v);

			ck_assert_uint_lt(b, STATS_BUCKETS);
			ck_assert_uint_le(v, stats_bucket_top(b));
			ck_assert(!b || stats_bucket_top(b - 1) < v);
			ck_assert_uint_le(stats_bucket_top(b) - v, v / 8);
		}
	}
	for (uint64_t i = 1; i <= 1000; i++)
		stats_count(stats, WIRE_OP_MAP, i % 10 == 0, 5, i * 1000);
	stats_read(stats, WIRE_OP_MAP, &out);
	ck_assert_uint_eq(out.count, 1000);
	ck_assert_uint_eq(out.errors, 100);
	ck_assert_uint_eq(out.bytes, 5000);
	ck_assert_uint_eq(out.max_ns, 1000000);
	ck_assert(out.p50_ns >= 500000 && out.p50_ns <= 562500);
	ck_assert(out.p99_ns >= 990000 && out.p99_ns <= 1000000);
	free(stats);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("server");
	TCase *rules = tcase_create("rules"), *plain = tcase_create("plain");

	tcase_add_checked_fixture(rules, start, stop);
	tcase_set_timeout(rules, 120);
	tcase_set_timeout(plain, 120);
	tcase_add_test(rules, calls);
	tcase_add_test(rules, locks);
	tcase_add_test(rules, preempt);
	tcase_add_test(plain, expired);
	tcase_add_test(rules, local_stays);
	tcase_add_test(rules, local_deaf);
	tcase_add_test(rules, lanes);
	tcase_add_test(rules, limits);
	tcase_add_test(plain, hello_timeout);
	tcase_add_test(rules, violations);
	tcase_add_test(rules, stalled_unmap);
	tcase_add_test(rules, stalled_preempt);
	tcase_add_test(rules, malformed);
	tcase_add_test(rules, noise);
	tcase_add_test(rules, never_reads);
	tcase_add_test(rules, all_at_once);
	tcase_add_test(rules, going_down);
	tcase_add_test(plain, histogram);
	suite_add_tcase(suite, rules);
	suite_add_tcase(suite, plain);
	return check_run(suite);
}
