/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_volume - the volume over simulated bricks: striping, the cache of maps, what a
 * persist covers, many threads, and the lock.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "sim_volume.h"

/* Blocks are striped by number; when one of three bricks is full the others take its share, then comes ENOSPC, and nothing stays. */
START_TEST(striping)
{
	struct sim *sim = make_sim(3, 20);
	uint64_t addrs[64];

	sim_resize(sim, 1, 5);
	struct volume *vol = make_vol(sim, 0, 0, 1000);

	ck_assert_uint_eq(vol_capacity(vol), 45);
	ck_assert_uint_eq(vol_free_blocks(vol), 42);
	alloc_run(vol, 30, 9);
	for (unsigned i = 0; i < 9; i++)
		ck_assert_int_eq(vol_where(vol, ADDR(30 + i)), i % 3);
	ck_assert_uint_eq(vol_free_blocks(vol), 33);
	alloc_run(vol, 60, 12);		/* brick 1 has room for one more */
	ck_assert_uint_eq(sim_used(sim, 1), 5);
	ck_assert_uint_eq(vol_count(vol, ADDR(0), 1000), 21);
	for (unsigned i = 0; i < 22; i++)
		addrs[i] = ADDR(100 + i);
	ck_assert_int_eq(vol_alloc(vol, addrs, 22), -ENOSPC);
	ck_assert_uint_eq(vol_count(vol, ADDR(0), 1000), 21);
	ck_assert_uint_eq(vol_free_blocks(vol), 21);
	ck_assert_int_eq(vol_alloc(vol, addrs, 21), 0);
	ck_assert_uint_eq(vol_free_blocks(vol), 0);
	ck_assert_int_eq(vol_alloc(vol, &addrs[21], 1), -ENOSPC);
	ck_assert_int_eq(vol_error(vol), 0);
	ck_assert_int_eq(vol_release(vol, addrs, 22), 0);	/* one is not there */
	ck_assert_uint_eq(vol_free_blocks(vol), 21);
	ck_assert_int_eq(vol_alloc(vol, &addrs[21], 1), 0);
	ck_assert_int_eq(vol_alloc(vol, &addrs[21], 1), -EEXIST);
	ck_assert_int_eq(vol_alloc(vol, (uint64_t[]){ ADDR(500) + 4096 }, 1), -EINVAL);
	ck_assert_int_eq(vol_alloc(vol, (uint64_t[]){ PRIVATE }, 1), -EINVAL);
	end(vol, sim);
}
END_TEST

/* A brick that has less room than it said: the real ENOSPC moves the block on. */
START_TEST(real_enospc)
{
	struct sim *sim = make_sim(2, 10);
	struct volume *vol = make_vol(sim, 0, 0, 1000);

	sim_resize(sim, 0, 3);
	alloc_run(vol, 100, 8);
	ck_assert_uint_eq(sim_used(sim, 0), 3);
	ck_assert_uint_eq(sim_used(sim, 1), 7);
	ck_assert_uint_eq(vol_free_blocks(vol), 3);
	end(vol, sim);
}
END_TEST

/* One ID on two bricks is damage, named; iteration and counting go over groups in order. */
START_TEST(duplicates)
{
	struct sim *sim = make_sim(3, 400);
	uint64_t twice, addr, n = 0, from = 0;

	for (unsigned i = 1; i < 300; i++)
		sim_poke_alloc(sim, i % 3, ADDR(i * 7));
	sim_poke_alloc(sim, 2, ADDR(7));	/* also on 1 */
	sim_poke_alloc(sim, 0, 0xffffffffffe00000ull);
	struct volume *vol = connect_all(sim, &backend_sim, 0, 0, 1000);

	ck_assert_int_eq(vol_list(vol, &twice), -EUCLEAN);
	ck_assert_uint_eq(twice, 1);
	ck_assert_ptr_nonnull(strstr(vol_text(vol), "0xe00000"));
	ck_assert_int_eq(vol_where(vol, ADDR(7)), 1);
	ck_assert(!vol_has(vol, PRIVATE));
	while (vol_next(vol, from, &addr)) {
		ck_assert(addr >= from);
		if (addr == 0xffffffffffe00000ull)
			break;
		n++;
		ck_assert_uint_eq(addr, ADDR(n * 7));
		from = addr + 1;
	}
	ck_assert_uint_eq(n, 299);
	ck_assert(!vol_next(vol, 0xffffffffffe00001ull, &addr));
	ck_assert_uint_eq(vol_count(vol, ADDR(7), 7), 1);
	ck_assert_uint_eq(vol_count(vol, ADDR(8), 6), 0);
	ck_assert_uint_eq(vol_count(vol, ADDR(8), 7), 1);
	ck_assert_uint_eq(vol_count(vol, 0, UINT64_MAX), 300);
	end(vol, sim);
}
END_TEST

static int lying_list(struct backend_session *session, unsigned lane, uint64_t from, struct backend_extent *extents, size_t max,
		      size_t *n, uint64_t *generation, uint64_t *next, bool *more)
{
	extents[0] = (struct backend_extent){ .start = from, .count = 1ull << 60 };
	*n = 1;
	*generation = 1;
	*more = false;
	return 0;
}

/* A list that cannot be true is refused. */
START_TEST(hostile_list)
{
	struct sim *sim = make_sim(1, 10);
	struct backend liar = backend_sim;

	liar.list = lying_list;
	struct volume *vol = connect_all(sim, &liar, 0, 0, 1000);

	ck_assert_int_eq(vol_list(vol, NULL), -EPROTO);
	ck_assert_ptr_nonnull(strstr(vol_text(vol), "sim:0"));
	end(vol, sim);
}
END_TEST

/* A persist reaches every lane and brick that was written, each once, and nothing is sent when nothing is dirty. */
START_TEST(persist_covers)
{
	struct sim *sim = make_sim(3, 20);
	struct volume *vol = make_vol(sim, 4, 0, 1000);

	alloc_run(vol, 3, 6);
	ck_assert_int_eq(put(vol, ADDR(3) + 100, "alpha"), 0);
	ck_assert_int_eq(put(vol, ADDR(4) + 100, "beta"), 0);
	ck_assert(vol_dirty(vol));
	ck_assert(!durable(sim, 0, ADDR(3) + 100, "alpha"));
	/* The commit does not need, and does not persist, what else was written. */
	ck_assert_int_eq(commit(vol, ADDR(3) + 8192, "log"), 0);
	ck_assert(durable(sim, 0, ADDR(3) + 8192, "log"));
	ck_assert(!durable(sim, 0, ADDR(3) + 100, "alpha"));
	ck_assert_uint_eq(sim_calls(sim, SIM_PERSIST), 1);
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert(durable(sim, 0, ADDR(3) + 100, "alpha"));
	ck_assert(durable(sim, 1, ADDR(4) + 100, "beta"));
	ck_assert_uint_eq(sim_calls(sim, SIM_PERSIST), 3);
	ck_assert(!vol_dirty(vol));
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert_uint_eq(sim_calls(sim, SIM_PERSIST), 3);
	/* A commit over three bricks. */
	struct vol_io ios[6];

	for (unsigned i = 0; i < 6; i++)
		ios[i] = (struct vol_io){ .addr = ADDR(8 - i) + 4096, .buffer = (void *)"commit", .length = 6, .write = true };
	ck_assert_int_eq(vol_commit(vol, ios, 6), 0);
	ck_assert_uint_eq(sim_calls(sim, SIM_PERSIST), 6);
	for (unsigned i = 0; i < 6; i++)
		ck_assert(durable(sim, i % 3, ADDR(3 + i) + 4096, "commit"));
	end(vol, sim);
}
END_TEST

/* private_addr is each brick's own; its writes are durable. */
START_TEST(private_block)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 0, 0, 1000);
	char buffer[8];

	ck_assert_int_eq(vol_write_on(vol, 0, 512, "zero", 4), 0);
	ck_assert_int_eq(vol_write_on(vol, 1, 512, "one!", 4), 0);
	ck_assert(durable(sim, 0, PRIVATE + 512, "zero"));
	ck_assert(durable(sim, 1, PRIVATE + 512, "one!"));
	ck_assert_int_eq(vol_read_on(vol, 1, 512, buffer, 4), 0);
	ck_assert(!memcmp(buffer, "one!", 4));
	ck_assert_int_eq(vol_read_on(vol, 1, VOL_BLOCK_SIZE - 2, buffer, 4), -EINVAL);
	ck_assert_int_eq(vol_alloc_on(vol, 0), -EEXIST);
	alloc_run(vol, 5, 9);
	ck_assert_int_eq(vol_release_all(vol), 0);
	ck_assert_uint_eq(sim_used(sim, 0) + sim_used(sim, 1), 2);
	end(vol, sim);
}
END_TEST

/* What leaves the cache of maps CLEAN is durable, and a stream over many blocks pays for batches, not for blocks. */
START_TEST(eviction)
{
	struct sim *sim = make_sim(1, 100);
	struct volume *vol = make_vol(sim, 2, 8, 1000);
	unsigned lost = 0;

	alloc_run(vol, 1, 70);
	for (unsigned i = 1; i <= 70; i++)
		ck_assert_int_eq(put(vol, ADDR(i) + 77, "streamed"), 0);
	/* One map was for the superblock, one call a block for map. */
	ck_assert_uint_le(sim_calls(sim, SIM_UNMAP), 70 / 2);
	ck_assert_uint_le(sim_calls(sim, SIM_PERSIST), 70 / 2);
	vol_abandon(vol);
	sim_power_cut(sim, 0, NULL);
	for (unsigned i = 1; i <= 70; i++)
		lost += !durable(sim, 0, ADDR(i) + 77, "streamed");
	ck_assert_uint_le(lost, 7);
	ck_assert_uint_ge(lost, 1);
	sim_delete(sim);
}
END_TEST

struct worker {
	struct volume *vol;
	unsigned number, rounds, blocks;
	unsigned char stamp[10];	/* of each of its blocks */
	int error;
};

/* Writes and reads its own blocks, up to three in one call, checks what it reads; persists at times. */
static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned seed = w->number + 1;

	for (unsigned round = 0; round < w->rounds; round++) {
		unsigned n = 1 + rand_r(&seed) % 3, first = rand_r(&seed) % w->blocks;
		unsigned char buffer[3][600];
		struct vol_io ios[3];
		bool write = rand_r(&seed) % 2;
		int r;

		for (unsigned i = 0; i < n; i++) {
			unsigned block = (first + i) % w->blocks;

			memset(buffer[i], write ? round + i : 0, sizeof(buffer[i]));
			ios[i] = (struct vol_io){ .addr = ADDR(1 + w->number * w->blocks + block) + 4000, .buffer = buffer[i],
						  .length = sizeof(buffer[i]), .write = write };
		}
		r = round % 11 == 3 && write ? vol_commit(w->vol, ios, n) : vol_io(w->vol, ios, n);
		if (!r && round % 17 == 5)
			r = vol_persist(w->vol);
		for (unsigned i = 0; i < n && !r; i++) {
			unsigned block = (first + i) % w->blocks;

			if (write)
				w->stamp[block] = round + i;
			else if (buffer[i][0] != w->stamp[block] || buffer[i][599] != w->stamp[block])
				r = -EUCLEAN;
		}
		if (r) {
			w->error = r;
			break;
		}
	}
	return NULL;
}

static void crowd(struct sim *sim, struct volume *vol, unsigned rounds, void (*chaos)(struct sim *sim, unsigned round), unsigned chaos_rounds)
{
	struct worker workers[10];
	pthread_t threads[10];

	alloc_run(vol, 1, 50);
	for (unsigned i = 0; i < 10; i++) {
		workers[i] = (struct worker){ .vol = vol, .number = i, .rounds = rounds, .blocks = 5 };
		pthread_create(&threads[i], NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < chaos_rounds; i++)
		chaos(sim, i);
	for (unsigned i = 0; i < 10; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_msg(!workers[i].error, "worker %u: %s; %s", i, strerror(-workers[i].error), vol_text(vol));
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert(!vol_dirty(vol));
	for (unsigned i = 0; i < 50; i++) {
		unsigned char stamp = workers[i / 5].stamp[i % 5], byte;

		ck_assert_int_eq(sim_peek_durable(sim, vol_where(vol, ADDR(1 + i)), ADDR(1 + i) + 4599, &byte, 1), 0);
		ck_assert_uint_eq(byte, stamp);
	}
}

/* Ten threads with up to three blocks a call share 2, 3 or 8 maps a brick: no deadlock, nothing mixed up, all durable in the end. */
START_TEST(few_maps)
{
	static const unsigned maps[] = { 2, 3, 8 };
	struct sim *sim = make_sim(_i % 2 ? 3 : 1, 100);
	struct volume *vol = make_vol(sim, 4, maps[_i / 2], 5000);

	crowd(sim, vol, 150, NULL, 0);
	end(vol, sim);
}
END_TEST

static void doze(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000l }, NULL);
}

static void unrest(struct sim *sim, unsigned round)
{
	unsigned brick = round % sim_bricks(sim);

	doze(3);
	switch (round % 5) {
	case 0:
		sim_break_lane(sim, brick, round % 4);
		break;
	case 1:
		sim_lose_session(sim, brick);
		break;
	case 2:
		sim_away(sim, brick, true, 3);
		break;
	case 3:
		sim_restart(sim, brick);
		break;
	case 4:
		sim_fault(sim, brick, SIM_WRITE, 2, -ECONNRESET, false);
		sim_fault(sim, brick, SIM_MAP, 1, -ETIMEDOUT, true);
		sim_fault(sim, brick, SIM_PERSIST, 1, -ECONNRESET, false);
		break;
	}
}

/* The same while lanes break, sessions die, bricks restart and go away for a while: everybody waits, nothing is lost. */
START_TEST(chaos)
{
	struct sim *sim = make_sim(_i ? 3 : 1, 100);
	struct volume *vol = make_vol(sim, 4, _i ? 8 : 3, 20000);

	crowd(sim, vol, 600, unrest, 15);
	/* A quick crowd is done before a session is lost under it. */
	sim_lose_session(sim, vol_where(vol, ADDR(1)));
	ck_assert_int_eq(put(vol, ADDR(1), "x"), 0);
	ck_assert_int_gt(fence_asked, 0);
	ck_assert_int_eq(vol_error(vol), 0);
	end(vol, sim);
}
END_TEST

/* A persist that fails is never retried into success. */
START_TEST(failed_persist)
{
	struct sim *sim = make_sim(1, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);

	alloc_run(vol, 2, 2);
	ck_assert_int_eq(put(vol, ADDR(2), "x"), 0);
	sim_fault(sim, 0, SIM_PERSIST, 1, -EIO, false);
	if (_i)
		ck_assert_int_eq(commit(vol, ADDR(3), "log"), -EIO);
	else
		ck_assert_int_eq(vol_persist(vol), -EIO);
	ck_assert_int_eq(vol_persist(vol), -EIO);
	ck_assert_int_eq(commit(vol, ADDR(3), "log"), -EIO);
	ck_assert_uint_eq(sim_calls(sim, SIM_PERSIST), 1);
	ck_assert(reads(vol, ADDR(2), "x"));
	end(vol, sim);
}
END_TEST

static void *keep_alive(void *arg)
{
	struct { struct volume *vol; atomic_bool stop; } *k = arg;

	while (!k->stop) {
		vol_keepalive(k->vol);
		doze(20);
	}
	return NULL;
}

/* A second mount is told who has the volume, as long as the first is heard; when it is not heard for the lease, it loses. */
START_TEST(busy)
{
	struct sim *sim = make_sim(3, 20);
	struct { struct volume *vol; atomic_bool stop; } k = { 0 };
	pthread_t thread;

	sim_set_grants(sim, 0, 0, 300);
	struct volume *first = make_vol(sim, 2, 0, 5000), *second = connect_all(sim, &backend_sim, 2, 0, 5000);

	alloc_run(first, 2, 1);
	k.vol = first;
	pthread_create(&thread, NULL, keep_alive, &k);
	ck_assert_int_eq(vol_lock(second, true, 50), -EBUSY);
	ck_assert_ptr_nonnull(strstr(vol_text(second), "in use by test@here (pid "));
	ck_assert_int_eq(vol_lock(second, false, 50), -EBUSY);
	k.stop = true;
	pthread_join(thread, NULL);
	ck_assert_int_eq(vol_lock(second, true, 50), 0);
	/* The first notices at its next word to the bricks. */
	fence_answer = -ESTALE;
	vol_unlock(second);
	ck_assert_int_eq(put(first, ADDR(2), "x"), -ESTALE);
	vol_delete(first);
	end(second, sim);
}
END_TEST

/* A volume that is released in time is not busy; shared locks go together, and are read-only. */
START_TEST(shared)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *first = make_vol(sim, 2, 0, 5000), *second, *third;

	alloc_run(first, 2, 1);
	ck_assert_int_eq(commit(first, ADDR(2), "seen"), 0);
	vol_delete(first);
	second = connect_all(sim, &backend_sim, 2, 0, 5000);
	third = connect_all(sim, &backend_sim, 2, 0, 5000);
	ck_assert_int_eq(vol_lock(second, false, 0), 0);
	ck_assert_int_eq(vol_lock(third, false, 0), 0);
	ck_assert_int_eq(vol_list(second, NULL), 0);
	ck_assert(reads(second, ADDR(2), "seen"));
	ck_assert_int_lt(put(second, ADDR(2), "x"), 0);
	vol_set_fence(second, fence, NULL);
	sim_lose_session(sim, 0);
	ck_assert(reads(second, ADDR(2), "seen"));
	vol_delete(third);
	end(second, sim);
}
END_TEST

/* An idle lane that broke is mended by the keepalive, without anybody asking for I/O. */
START_TEST(keepalive)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 3, 0, 5000);

	ck_assert_uint_eq(vol_lease_ms(vol), 30000);
	sim_lose_session(sim, 1);
	vol_keepalive(vol);
	ck_assert_int_eq(fence_asked, 1);
	sim_break_lane(sim, 0, 2);
	for (unsigned i = 0; i < 3; i++)
		vol_keepalive(vol);
	ck_assert_uint_ge(sim_calls(sim, SIM_REJOIN), 1);
	/* Away: it neither waits nor latches. */
	sim_away(sim, 1, true, 0);
	vol_keepalive(vol);
	ck_assert_int_eq(vol_error(vol), 0);
	sim_away(sim, 1, false, 0);
	alloc_run(vol, 2, 4);
	ck_assert_int_eq(put(vol, ADDR(3), "fine"), 0);
	ck_assert_int_eq(vol_persist(vol), 0);
	end(vol, sim);
}
END_TEST

/* Wrong endpoints, the same brick twice, too few grants, no superblock: a sentence each. */
START_TEST(refusals)
{
	struct sim *sim = make_sim(2, 20);
	struct vol_options options = { .backend = &backend_sim, .backend_context = sim, .private_addr = PRIVATE, .timeo_ms = 100 };
	struct volume *vol;
	unsigned brick = 99;

	ck_assert_int_eq(vol_new(&vol, &options), 0);
	ck_assert_int_eq(vol_connect(vol, "sim:7", &brick), -ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(vol_text(vol), "sim:7"));
	ck_assert_int_eq(vol_connect(vol, "sim:1", &brick), 0);
	ck_assert_int_eq(vol_connect(vol, "sim:1", &brick), -EEXIST);
	ck_assert_uint_eq(brick, 0);
	ck_assert_uint_eq(vol_bricks(vol), 1);
	sim_set_grants(sim, 1, 0, 0);
	ck_assert_int_eq(vol_connect(vol, "sim:0", &brick), -EMFILE);
	sim_poke_free(sim, 1, PRIVATE);
	ck_assert_int_eq(vol_lock(vol, true, 0), -ENOENT);
	ck_assert_ptr_nonnull(strstr(vol_text(vol), "sim:1"));
	ck_assert_int_eq(vol_alloc_on(vol, 0), 0);
	ck_assert_int_eq(vol_alloc_on(vol, 0), -EEXIST);
	ck_assert_int_eq(vol_lock(vol, true, 0), 0);
	ck_assert_int_eq(put(vol, ADDR(77), "x"), -EIO);
	end(vol, sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume");
	TCase *tc = tcase_create("volume");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, striping);
	tcase_add_test(tc, real_enospc);
	tcase_add_test(tc, duplicates);
	tcase_add_test(tc, hostile_list);
	tcase_add_test(tc, persist_covers);
	tcase_add_test(tc, private_block);
	tcase_add_test(tc, eviction);
	tcase_add_loop_test(tc, few_maps, 0, 6);
	tcase_add_loop_test(tc, chaos, 0, 2);
	tcase_add_loop_test(tc, failed_persist, 0, 2);
	tcase_add_test(tc, busy);
	tcase_add_test(tc, shared);
	tcase_add_test(tc, keepalive);
	tcase_add_test(tc, refusals);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
