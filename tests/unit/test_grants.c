/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: sessions share memory that is smaller than the pool: each has its minimum whatever the others do, those who
 * have much are asked for some of it, and who finds no room gets ENOMEM in the end, while everything else goes on.
 */
#include <pthread.h>

#include "pool_scratch.h"
#include "raw_client.h"

#define BASE   0x40000000ull
#define BLOCKS 24
#define FRAMES 8
#define at(n)  (BASE + (uint64_t)(n)*WIRE_BLOCK_SIZE)

static struct pool *pool;
static struct tier *tier;

static void start_with(uint32_t recall_ms, uint32_t workers)
{
	struct server_config config = server_config_default;
	struct tier_config memory = { .mode = TIER_MEMORY, .memory = FRAMES * SLOT, .folder = scratch };
	struct client *c;

	config.recall_ms = recall_ms;
	config.workers = workers;
	config.quiesce_ms = 100;
	scratch_make("/dev/shm");
	ck_assert_int_eq(pool_create(scratch_pool, BLOCKS * SLOT), 0);
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert_int_eq(tier_open_with(&tier, pool, &memory), 0);
	ck_assert_int_eq(server_new(&server, pool, tier, &config), 0);
	ck_assert_int_eq(server_start(server), 0);
	c = open_client(&transport_tcp);
	for (int i = 0; i < BLOCKS; i++)
		ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(i)), 0);
	shut_and_wait(c);
}

/* Long enough for any client of these tests to answer a recall. */
static void setup_patient(void)
{
	start_with(60000, 8);
}

static void setup_hasty(void)
{
	start_with(300, 8);
}

static void teardown(void)
{
	server_stop(server);
	/* Nothing is left behind by sessions that ended. */
	ck_assert_uint_eq(server->reserved, 0);
	ck_assert_uint_eq(server->promised, 0);
	ck_assert_uint_eq(server->maps_n, 0);
	ck_assert_uint_eq(server->waiting, 0);
	ck_assert_uint_eq(server->waiting_poor, 0);
	ck_assert_uint_eq(server->admitted, 0);
	server_delete(server);
	tier_close(tier);
	pool_close(pool);
	scratch_remove();
}

/* The number of blocks that the next message, a RECALL, asks for. */
static uint64_t recalled(struct client *c)
{
	struct wire_header header;
	struct wire_notice notice;

	ck_assert_int_eq(receive(c, &header), WIRE_NOTICE);
	ck_assert_int_eq(wire_get_notice(c->message, c->length, &notice), 0);
	ck_assert_uint_eq(notice.kind, WIRE_NOTICE_RECALL);
	return notice.arg;
}

static struct wire_stat_reply stat_of(void)
{
	struct wire_stat_reply stat;

	call_stat(server, &stat);
	return stat;
}

/* Who is alone may map all that fits; one more is ENOMEM at once, for nobody could be asked. alloc and free need no memory. */
START_TEST(alone)
{
	struct client *c = open_client(&transport_tcp);
	struct wire_stat_reply stat;

	ck_assert_uint_eq(c->hello.maps, FRAMES);
	ck_assert_uint_eq(c->hello.method, WIRE_PERSIST_TARGET);
	for (int i = 0; i < FRAMES; i++)
		ck_assert_int_eq(map(c, at(i), WIRE_MAP_WRITE, NULL), 0);
	ck_assert_int_eq(map(c, at(8), 0, NULL), -ENOMEM);
	ck_assert_int_eq(map(c, at(7), 0, NULL), 0); /* the same again */
	stat = stat_of();
	ck_assert_uint_eq(stat.memory, FRAMES);
	ck_assert_uint_eq(stat.memory_pinned, FRAMES);
	ck_assert_uint_eq(stat.memory_dirty, FRAMES);
	ck_assert_uint_eq(stat.maps_max, FRAMES);
	ck_assert_int_eq(call_addrs(c, WIRE_FREE, at(20)), 0);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(100)), 0);
	ck_assert_int_eq(call_addrs(c, WIRE_FREE, at(0)), 0); /* its own map goes with it */
	ck_assert_int_eq(map(c, at(100), WIRE_MAP_WRITE, NULL), 0);
	ck_assert_int_eq(unmap(c, at(3)), 0);
	ck_assert_int_eq(map(c, at(8), 0, NULL), 0);
	shut_and_wait(c);
	ck_assert_uint_eq(stat_of().memory_pinned, 0);
}
END_TEST

/* What is reserved for another session nobody gets, though it uses nothing; and it has it at any time. */
START_TEST(reserved)
{
	struct client *a = open_client(&transport_tcp), *b = open_client(&transport_tcp);

	ck_assert_uint_eq(a->hello.maps, FRAMES);
	ck_assert_uint_eq(b->hello.maps, FRAMES - 2);
	for (int i = 0; i < FRAMES - 2; i++)
		ck_assert_int_eq(map(a, at(i), WIRE_MAP_WRITE, NULL), 0);
	ck_assert_int_eq(map(a, at(6), 0, NULL), -ENOMEM); /* b has less than its share: it is not asked */
	ck_assert_uint_eq(stat_of().recalls, 0);
	ck_assert_int_eq(map(b, at(10), WIRE_MAP_WRITE, NULL), 0);
	ck_assert_int_eq(map(b, at(11), WIRE_MAP_WRITE, NULL), 0);
	shut_and_wait(b);
	ck_assert_int_eq(map(a, at(6), 0, NULL), 0);
	ck_assert_int_eq(map(a, at(7), 0, NULL), 0);
	shut_and_wait(a);
}
END_TEST

/* Four minima fit, not five; when a session ends, the next one is admitted.  Who wants one block only has one reserved. */
START_TEST(full)
{
	struct client *c[4], *more = calloc(1, sizeof(*more));

	for (int i = 0; i < 4; i++)
		c[i] = open_client(&transport_tcp);
	more->fd = connect_raw(&transport_tcp);
	ck_assert_int_eq(preamble(more->fd, NULL, 0, more->token), 0);
	ck_assert_int_eq(try_hello(more, 0), -EUSERS);
	ck_assert_int_eq(try_hello(more, 1), -EUSERS);
	shut_and_wait(c[2]);
	ck_assert_int_eq(try_hello(more, 1), 0);
	ck_assert_uint_eq(more->hello.maps, 1);
	for (int i = 0; i < 4; i++)
		if (i != 2)
			for (int j = 0; j < 2; j++)
				ck_assert_int_eq(map(c[i], at(2 * i + j), WIRE_MAP_EXCLUSIVE, NULL), 0);
	ck_assert_int_eq(map(more, at(20), 0, NULL), 0);
	ck_assert_int_eq(map(more, at(21), 0, NULL), -ENOMEM);
	/* One block is left, which nobody has reserved. */
	ck_assert_int_eq(map(c[0], at(22), 0, NULL), 0);
	for (int i = 0; i < 4; i++)
		if (i != 2)
			shut_and_wait(c[i]);
	shut_and_wait(more);
}
END_TEST

/*
 * Who came later gets its share from who has all: the map waits, RECALL goes out, and what is given back goes to who
 * waits, not to who gave it.
 */
START_TEST(recall)
{
	struct client *a = open_client(&transport_tcp), *b;
	struct wire_handle h;

	for (int i = 0; i < FRAMES; i++)
		ck_assert_int_eq(map(a, at(i), WIRE_MAP_WRITE, NULL), 0);
	b = open_client(&transport_tcp);
	for (int i = 0; i < 4; i++) {
		send_target(b, WIRE_MAP, at(10 + i), WIRE_MAP_WRITE);
		ck_assert_uint_eq(recalled(a), 1);
		/* All else goes on meanwhile. */
		ck_assert_int_eq(persist(a, at(i), 4096), 0);
		ck_assert_int_eq(unmap(a, at(i)), 0);
		if (i < 2)
			ck_assert_int_eq(map(a, at(20), 0, NULL), -ENOMEM);
		ck_assert_int_eq(mapped(b, &h), 0);
		ck_assert_int_eq(rwrite(b, at(10 + i), h.key, "hello", 5), 0);
	}
	/* Both have their equal share now: nobody is asked any more, by either. */
	ck_assert_int_eq(map(b, at(14), 0, NULL), -ENOMEM);
	ck_assert_int_eq(map(a, at(0), 0, NULL), -ENOMEM);
	ck_assert_uint_ge(stat_of().recalls, 4);
	shut_and_wait(a);
	ck_assert_int_eq(map(b, at(14), 0, NULL), 0);
	shut_and_wait(b);
}
END_TEST

/* Who gives a block back because another session waits, and maps it again at once, does not get it before that one. */
START_TEST(taken_back)
{
	struct client *a = open_client(&transport_tcp), *b = open_client(&transport_tcp);

	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(map(a, at(i), WIRE_MAP_WRITE, NULL), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(map(b, at(10 + i), WIRE_MAP_WRITE, NULL), 0);
	send_target(b, WIRE_MAP, at(12), WIRE_MAP_WRITE);
	ck_assert_uint_eq(recalled(a), 1);
	/* Both are there before the first is carried out; the block is in memory, so the second is quick. */
	send_target(a, WIRE_UNMAP, at(0), WIRE_UNMAP_CLEAN);
	send_target(a, WIRE_MAP, at(0), 0);
	a->id--;
	ck_assert_int_eq(unmapped(a), 0);
	a->id++;
	{
		struct wire_handle h;

		ck_assert_int_eq(mapped(a, &h), -ENOMEM);
		ck_assert_int_eq(mapped(b, &h), 0);
	}
	shut_and_wait(a);
	shut_and_wait(b);
}
END_TEST

/* One who does not heed it keeps its blocks, and the other gets ENOMEM, for a whole batch after one wait; a later map may get it. */
START_TEST(unheeded)
{
	struct client *a = open_client(&transport_tcp), *b;
	struct wire_target target[8];
	struct wire_handle handle[8];
	uint8_t message[WIRE_MSG_MAX];
	size_t n = 8;

	for (int i = 0; i < FRAMES; i++)
		ck_assert_int_eq(map(a, at(i), WIRE_MAP_WRITE, NULL), 0);
	b = open_client(&transport_tcp);
	for (uint32_t i = 0; i < 8; i++)
		target[i] = (struct wire_target){ .addr = at(10 + i) };
	put(b->fd, message, wire_put_targets(message, WIRE_MAP, ++b->id, target, 8));
	ck_assert_int_eq(answer(b, WIRE_MAP), 0);
	ck_assert_int_eq(wire_get_handles(b->message, b->length, handle, &n), 0);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(wire_errno(handle[i].status), -ENOMEM);
	ck_assert_uint_ge(stat_of().recalls, 1);
	shut_and_wait(a);
	ck_assert_int_eq(map(b, at(10), 0, NULL), 0);
	shut_and_wait(b);
}
END_TEST

/* Maps that wait leave workers to the rest: with all lanes of one session waiting, the other can still persist and free. */
START_TEST(waiting_is_bounded)
{
	struct client *a = open_client(&transport_tcp), *b, *b1;

	for (int i = 0; i < FRAMES; i++)
		ck_assert_int_eq(map(a, at(i), WIRE_MAP_WRITE, NULL), 0);
	b = open_client(&transport_tcp);
	b1 = join(b, 1);
	for (uint64_t i = 0; i < 4; i++) {
		send_target(b, WIRE_MAP, at(10 + i), WIRE_MAP_WRITE);
		send_target(b1, WIRE_MAP, at(14 + i), WIRE_MAP_WRITE);
	}
	ck_assert_uint_ge(recalled(a), 1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(persist(a, at(i), 100), 0);
	ck_assert_int_eq(call_addrs(a, WIRE_FREE, at(0)), 0);
	ck_assert_int_eq(call_addrs(a, WIRE_FREE, at(1)), 0);
	/* b's end takes those that wait with it. */
	shut_and_wait(b1);
	shut_and_wait(b);
	shut_and_wait(a);
}
END_TEST

#define THREADS 4
#define STEPS	150
#define KEEP	6 /* more than an equal share */

struct user {
	pthread_t thread;
	unsigned number;
	uint64_t seed;
	const char *fault;
	unsigned full;
};

static uint32_t below(struct user *u, uint32_t limit)
{
	/* Knuth's MMIX constants; the upper bits are the random ones. */
	u->seed = u->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((u->seed >> 33) % limit);
}

/* Keeps as many maps as it can get, and gives back its oldest when there is no room or somebody asks. */
static void *use(void *arg)
{
	struct user *u = arg;
	struct client *c = open_client(&transport_tcp);
	uint64_t value[BLOCKS / THREADS] = {0}, seen;
	struct wire_handle handle[BLOCKS / THREADS];
	int held[KEEP], n = 0;
	unsigned done = 0, tries = 0;

	while (done < STEPS && tries++ < 100 * STEPS) {
		int i = (int)below(u, BLOCKS / THREADS), j = 0, ret;
		uint64_t addr = at(i * THREADS + (int)u->number);

		while (j < n && held[j] != i)
			j++;
		if (j == n) {
			ret = n < KEEP ? map(c, addr, WIRE_MAP_WRITE, &handle[i]) : -ENOMEM;
			if (ret == -ENOMEM) {
				u->full++;
				if (n && unmap(c, at(held[0] * THREADS + (int)u->number)))
					u->fault = "an unmap failed";
				if (n)
					memmove(held, held + 1, (size_t)--n * sizeof(held[0]));
				continue;
			}
			if (ret) {
				u->fault = "a map failed";
				break;
			}
			held[n++] = i;
		}
		if (rread(c, addr + 77 * 8, handle[i].key, &seen, 8) || seen != value[i]) {
			u->fault = "a block is not as it was left";
			break;
		}
		value[i] = (uint64_t)u->number << 32 | ++done;
		if (rwrite(c, addr + 77 * 8, handle[i].key, &value[i], 8) || (!below(u, 4) && persist(c, addr, 4096))) {
			u->fault = "a write or persist failed";
			break;
		}
	}
	if (done < STEPS && !u->fault)
		u->fault = "starved";
	shut_and_wait(c);
	return NULL;
}

/* As many sessions as have a minimum, each wanting more than there is: all get on, and no block is mixed up. */
START_TEST(sharing)
{
	struct user u[THREADS] = {0};

	for (unsigned i = 0; i < THREADS; i++) {
		u[i].number = i;
		u[i].seed = i + 1;
		ck_assert_int_eq(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(u[i].thread, NULL);
		ck_assert_msg(!u[i].fault, "session %u: %s", i, u[i].fault);
	}
	ck_assert_uint_gt(stat_of().evictions, 0);
}
END_TEST

/* A volatile pool says so in HELLO and STAT, and its persist makes no msync fail. */
START_TEST(volatile_pool)
{
	struct client *c;

	teardown();
	scratch_make("/dev/shm");
	ck_assert_int_eq(pool_create_volatile(scratch_pool, BLOCKS * SLOT), 0);
	ck_assert_int_eq(pool_load(&pool, scratch_pool), 0);
	ck_assert(pool_is_volatile(pool));
	ck_assert_int_eq(tier_open(&tier, pool, TIER_DIRECT), 0);
	ck_assert_int_eq(server_new(&server, pool, tier, &server_config_default), 0);
	ck_assert_int_eq(server_start(server), 0);
	c = open_client(&transport_tcp);
	ck_assert_uint_eq(c->hello.method, WIRE_PERSIST_VOLATILE);
	ck_assert_uint_eq(stat_of().method, WIRE_PERSIST_VOLATILE);
	ck_assert_int_eq(call_addrs(c, WIRE_ALLOC, at(0)), 0);
	ck_assert_int_eq(persist(c, at(0), 4096), 0);
	shut_and_wait(c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("grants");
	TCase *patient = tcase_create("patient"), *hasty = tcase_create("hasty");

	tcase_add_checked_fixture(patient, setup_patient, teardown);
	tcase_add_test(patient, alone);
	tcase_add_test(patient, reserved);
	tcase_add_test(patient, full);
	tcase_add_test(patient, recall);
	tcase_add_test(patient, taken_back);
	tcase_add_test(patient, volatile_pool);
	tcase_add_checked_fixture(hasty, setup_hasty, teardown);
	tcase_add_test(hasty, unheeded);
	tcase_add_test(hasty, waiting_is_bounded);
	tcase_add_test(hasty, sharing);
	tcase_set_timeout(patient, 240);
	tcase_set_timeout(hasty, 240);
	suite_add_tcase(suite, patient);
	suite_add_tcase(suite, hasty);
	return scratch_run(suite);
}
