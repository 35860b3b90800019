/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_volume_hostile - the volume over bricks that lie or do not answer, though they can be reached: every call ends, with an
 * error that names the brick; what they list takes no more memory and time than it may.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "check_run.h"
#include "simbrick.h"
#include "volume.h"
#include "volume-internal.h"

#define PRIVATE 0ull
#define ADDR(n) ((uint64_t)(n) << VOL_BLOCK_SHIFT)
#define BLOCKS_ALL (1ull << (64 - VOL_BLOCK_SHIFT))
#define TIMEO_MS 200

static int fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1)
{
	return 0;
}

static struct sim *make_sim(unsigned bricks, uint64_t blocks)
{
	struct sim *sim = sim_new();

	for (unsigned i = 0; i < bricks; i++) {
		sim_add_brick(sim, blocks);
		ck_assert_int_eq(sim_poke_alloc(sim, i, PRIVATE), 0);
	}
	return sim;
}

static struct volume *connect_all(struct sim *sim, const struct backend *backend, uint64_t list_bytes)
{
	struct vol_options options = {
		.backend = backend, .backend_context = sim, .lanes = 2, .timeo_ms = TIMEO_MS,
		.private_addr = PRIVATE, .name = "test@here", .list_bytes = list_bytes,
	};
	struct volume *vol;

	ck_assert_int_eq(vol_new(&vol, &options), 0);
	for (unsigned i = 0; i < sim_bricks(sim); i++) {
		char endpoint[16];
		unsigned brick;

		snprintf(endpoint, sizeof(endpoint), "sim:%u", i);
		ck_assert_int_eq(vol_connect(vol, endpoint, &brick), 0);
	}
	return vol;
}

static void end(struct volume *vol, struct sim *sim)
{
	vol_delete(vol);
	sim_delete(sim);
}

static bool says(struct volume *vol, const char *what)
{
	if (strstr(vol_text(vol), what))
		return true;
	printf("not \"%s\": %s\n", what, vol_text(vol));
	return false;
}

/* ---- what is listed */

static uint64_t told_capacity;

static const struct backend_info *big_info(struct backend_session *session)
{
	static struct backend_info info;

	info = *backend_sim.info(session);
	info.capacity = told_capacity;
	return &info;
}

enum lie { ALL, ENDLESS, CRUMBS, BEYOND, FLAPPING, OVERLAP, BACKWARDS, CIRCLE, EMPTY, BEHIND_LAST, LIES };

static enum lie lie;
static unsigned long pages;

static int lying_list(struct backend_session *session, unsigned lane, uint64_t from, struct backend_extent *extents, size_t max,
		      size_t *n, uint64_t *generation, uint64_t *next, bool *more)
{
	uint64_t block = from >> VOL_BLOCK_SHIFT;

	pages++;
	*generation = 1;
	*more = true;
	*n = lie == CRUMBS ? 1 : max;
	for (size_t i = 0; i < *n; i++, block += 65)
		extents[i] = (struct backend_extent){ ADDR(block), 1 };
	*next = ADDR(block);
	switch (lie) {
	case ALL:
		extents[0] = (struct backend_extent){ from, told_capacity };
		*n = 1;
		*more = false;
		break;
	case BEYOND:
		extents[max - 1].count = told_capacity;
		break;
	case FLAPPING:
		*generation = pages;
		break;
	case OVERLAP:
		extents[1].start = extents[0].start;
		break;
	case BACKWARDS:
		extents[1].start = extents[0].start - (from ? VOL_BLOCK_SIZE : 0);
		break;
	case CIRCLE:
		*next = from;
		break;
	case EMPTY:
		*n = 0;
		*next = from + VOL_BLOCK_SIZE;
		break;
	case BEHIND_LAST:
		extents[0] = (struct backend_extent){ ADDR(BLOCKS_ALL - 1), 1 };
		extents[1] = (struct backend_extent){ 0, 1 };
		break;
	default:
		break;
	}
	return 0;
}

static const struct { int error; const char *text; } outcome[LIES] = {
	[ALL] = { -ENOMEM, "more blocks than this host has memory" },
	[ENDLESS] = { -ENOMEM, "more blocks than this host has memory" },
	[CRUMBS] = { -EPROTO, "in crumbs" },
	[BEYOND] = { -EPROTO, "more blocks than its capacity" },
	[FLAPPING] = { -EAGAIN, "changes while it is listed" },
	[OVERLAP] = { -EPROTO, "nonsense" },
	[BACKWARDS] = { -EPROTO, "nonsense" },
	[CIRCLE] = { -EPROTO, "nonsense" },
	[EMPTY] = { -EPROTO, "in crumbs" },
	[BEHIND_LAST] = { -EPROTO, "nonsense" },
};

static uint64_t resident_kib(void)
{
	struct rusage usage;

	ck_assert_int_eq(getrusage(RUSAGE_SELF, &usage), 0);
	return (uint64_t)usage.ru_maxrss;
}

/* Whatever a brick lists: an error that names it, in bounded memory and few answers. */
START_TEST(lists)
{
	struct sim *sim = make_sim(1, 10);
	struct backend liar = backend_sim;
	uint64_t before = resident_kib();

	lie = (enum lie)_i;
	pages = 0;
	told_capacity = lie == BEYOND ? 100000 : BLOCKS_ALL;
	liar.list = lying_list;
	liar.info = big_info;
	struct volume *vol = connect_all(sim, &liar, 32 << 20);

	ck_assert_int_eq(vol_list(vol, NULL), outcome[lie].error);
	ck_assert(says(vol, outcome[lie].text));
	ck_assert(says(vol, "sim:0"));
	ck_assert_uint_lt(pages, 1000);
	ck_assert_uint_lt(resident_kib() - before, 64 << 10);
	end(vol, sim);
}
END_TEST

static struct backend_extent shadow_extents[600];

static int shadow_list(struct backend_session *session, unsigned lane, uint64_t from, struct backend_extent *extents, size_t max,
		       size_t *n, uint64_t *generation, uint64_t *next, bool *more)
{
	/* Both bricks list the same. */
	*n = *generation = 1;
	*more = false;
	extents[0] = (struct backend_extent){ VOL_BLOCK_SIZE, told_capacity };
	return 0;
}

/* The same blocks on two bricks: each one is remembered, up to the same bound. */
START_TEST(all_twice)
{
	struct sim *sim = make_sim(2, 10);
	struct backend liar = backend_sim;
	struct volume *vol;
	uint64_t twice;

	told_capacity = 10000;
	liar.list = shadow_list;
	liar.info = big_info;
	vol = connect_all(sim, &liar, _i ? 400 << 10 : 4 << 20);
	if (_i) {
		ck_assert_int_eq(vol_list(vol, &twice), -ENOMEM);
		ck_assert(says(vol, "sim:1"));
	} else {
		ck_assert_int_eq(vol_list(vol, &twice), -EUCLEAN);
		ck_assert_uint_eq(twice, 10000);
		ck_assert_uint_eq(vol_count(vol, 0, BLOCKS_ALL), 10000);
	}
	end(vol, sim);
}
END_TEST

/* Random extents on three bricks, merged into one table: every block is where it was listed first, everything else nowhere. */
START_TEST(merged)
{
	enum { SPACE = 4000 };
	struct vol_options options = { .backend = &backend_sim, .private_addr = ADDR(77) };
	static int where[SPACE];
	unsigned seed = (unsigned)_i;
	uint64_t twins = 0, count = 0, addr;
	struct volume *vol;

	ck_assert_int_eq(vol_new(&vol, &options), 0);
	for (unsigned k = 0; k < SPACE; k++)
		where[k] = -1;
	for (unsigned b = 0; b < 3; b++) {
		size_t n = 0;

		for (unsigned at = rand_r(&seed) % 100; n < 600;) {
			unsigned length = 1 + rand_r(&seed) % (rand_r(&seed) % 4 ? 5 : 300);

			if (at + length > SPACE)
				break;
			shadow_extents[n++] = (struct backend_extent){ ADDR(at), length };
			for (unsigned k = at; k < at + length; k++) {
				if (k == 77)
					continue;
				twins += where[k] >= 0;
				if (where[k] < 0)
					where[k] = (int)b;
			}
			at += length + rand_r(&seed) % 130;
		}
		ck_assert_int_eq(vol_ids_merge(vol, shadow_extents, n, b), 0);
	}
	for (unsigned k = 0; k < SPACE; k++) {
		ck_assert_int_eq(vol_where(vol, ADDR(k)), where[k] < 0 ? -ENOENT : where[k]);
		count += where[k] >= 0;
	}
	ck_assert_uint_eq(vol->twins, twins);
	ck_assert_uint_eq(vol_count(vol, 0, BLOCKS_ALL), count);
	for (uint64_t from = 0; vol_next(vol, from, &addr); from = addr + VOL_BLOCK_SIZE)
		count--;
	ck_assert_uint_eq(count, 0);
	/* And it is a table like any other. */
	ck_assert_int_eq(vol_ids_insert(vol, ADDR(77), 1), 0);
	ck_assert(vol_ids_remove(vol, ADDR(77)));
	vol_delete(vol);
}
END_TEST

/* ---- what is answered */

static atomic_int answer_of[4];		/* MAP, ALLOC, RELEASE, IO: what every entry is answered with */
static atomic_int whole_of[4];		/* or the request */
static atomic_uint asked;
enum { MAP, ALLOC, RELEASE, IO };

static int spoil(unsigned what, int r, int *status, size_t n)
{
	asked++;
	if (whole_of[what])
		return whole_of[what];
	for (size_t i = 0; answer_of[what] && i < n; i++)
		status[i] = answer_of[what];
	return r;
}

static int bad_map(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags,
		   struct backend_handle *handles, int *status)
{
	int r = backend_sim.map(s, lane, addrs, n, flags, handles, status);

	return addrs[0] == PRIVATE ? r : spoil(MAP, r, status, n);
}

static int bad_alloc(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	return spoil(ALLOC, whole_of[ALLOC] ? 0 : backend_sim.alloc(s, lane, addrs, n, status), status, n);
}

static int bad_release(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	return spoil(RELEASE, whole_of[RELEASE] ? 0 : backend_sim.release(s, lane, addrs, n, status), status, n);
}

static atomic_int io_error;

static int bad_submit(struct backend_session *s, unsigned lane, struct backend_io *io)
{
	int r = io_error;

	if (!r || io->handle.addr == PRIVATE)
		return backend_sim.submit(s, lane, io);
	asked++;
	io->status = r;
	return 0;
}

static int bad_drain(struct backend_session *s, unsigned lane)
{
	int r = backend_sim.drain(s, lane);

	return io_error ? io_error : r;
}

static struct volume *spoiled(struct sim *sim, const struct backend *liar)
{
	struct volume *vol = connect_all(sim, liar, 0);
	uint64_t addrs[4] = { ADDR(1), ADDR(2), ADDR(3), ADDR(4) };

	for (int i = 0; i < 4; i++)
		answer_of[i] = whole_of[i] = 0;
	io_error = 0;
	ck_assert_int_eq(vol_lock(vol, true, 0), 0);
	vol_set_fence(vol, fence, NULL);
	ck_assert_int_eq(vol_list(vol, NULL), 0);
	ck_assert_int_eq(vol_alloc(vol, addrs, 4), 0);
	asked = 0;
	return vol;
}

static int reads(struct volume *vol, uint64_t addr)
{
	char buffer[64];
	struct vol_io io = { .addr = addr, .buffer = buffer, .length = sizeof(buffer) };

	return vol_io(vol, &io, 1);
}

static int writes(struct volume *vol, uint64_t addr)
{
	char buffer[64] = "x";
	struct vol_io io = { .addr = addr, .buffer = buffer, .length = sizeof(buffer), .write = true };

	return vol_io(vol, &io, 1);
}

static const int answers[] = { -EAGAIN, -ENOBUFS, -EINTR, -EALREADY, -ECONNRESET, -ETIMEDOUT, -ESTALE, -ENOTCONN, -EPROTO, -EINVAL };
#define ANSWERS ((int)(sizeof(answers) / sizeof(answers[0])))

/*
 * A brick that can be reached, and answers every map, alloc, free, read or write with an error of any kind, for each entry or for the
 * whole: the call ends with an error, is not sent without end, and while there is hope, not without a pause.
 */
START_TEST(answered)
{
	struct sim *sim = make_sim(1, 20);
	struct backend liar = backend_sim;
	int error = answers[_i % ANSWERS], what = _i / ANSWERS / 2, r;
	bool whole = _i / ANSWERS % 2;

	liar.map = bad_map;
	liar.alloc = bad_alloc;
	liar.release = bad_release;
	liar.submit = bad_submit;
	liar.drain = bad_drain;
	struct volume *vol = spoiled(sim, &liar);

	if (what == IO)
		io_error = error;
	else
		*(whole ? &whole_of[what] : &answer_of[what]) = error;
	switch (what) {
	case ALLOC:
		r = vol_alloc(vol, (uint64_t[]){ ADDR(9), ADDR(10) }, 2);
		break;
	case RELEASE:
		r = vol_release(vol, (uint64_t[]){ ADDR(1), ADDR(2) }, 2);
		break;
	default:
		r = whole ? reads(vol, ADDR(1)) : writes(vol, ADDR(1));
	}
	/* Carried out, and its answer lost: then it was looked up, and is good. */
	if (!(vol_lost(error) && !whole && (what == ALLOC || what == RELEASE)))
		ck_assert_int_lt(r, 0);
	ck_assert(r != -EAGAIN && r != -ENOBUFS && r != -EINTR && r != -EALREADY && r != -E2BIG);
	ck_assert_uint_lt(asked, 100);
	if (r && vol_lost(error)) {
		ck_assert_int_eq(vol_error(vol), -EIO);
		ck_assert(says(vol, "sim:0"));
		/* From then on nothing waits for that brick again. */
		asked = 0;
		ck_assert_int_eq(reads(vol, ADDR(3)), -EIO);
		ck_assert_uint_eq(asked, 0);
	}
	end(vol, sim);
}
END_TEST

/* Garbage once, on one connection: that connection is made anew, and nobody notices. */
START_TEST(garbage_once)
{
	struct sim *sim = make_sim(1, 20);
	struct backend liar = backend_sim;
	struct volume *vol = spoiled(sim, &liar);

	ck_assert_int_eq(writes(vol, ADDR(1)), 0);
	sim_fault(sim, 0, SIM_READ, 1, -EPROTO, false);
	ck_assert_int_eq(reads(vol, ADDR(1)), 0);
	sim_fault(sim, 0, SIM_MAP, 1, -EPROTO, false);
	ck_assert_int_eq(reads(vol, ADDR(2)), 0);
	sim_fault(sim, 0, SIM_ALLOC, 1, -EPROTO, true);
	ck_assert_int_eq(vol_alloc(vol, (uint64_t[]){ ADDR(9) }, 1), 0);
	sim_fault(sim, 0, SIM_PERSIST, 1, -EPROTO, false);
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert_int_eq(vol_error(vol), 0);
	end(vol, sim);
}
END_TEST

static atomic_bool slow;

static int slow_open(void *context, const char *endpoint, const char *name, unsigned lanes, unsigned maps, unsigned request_ms,
		     struct backend_session **session)
{
	if (slow)
		vol_sleep_ms(800);
	return backend_sim.open(context, endpoint, name, lanes, maps, request_ms, session);
}

static int no_rejoin(struct backend_session *s, unsigned lane)
{
	return -ESTALE;
}

/* Six restarts of an honest brick during one read, each much shorter than timeo: a pause, though they are longer in all. */
START_TEST(away_again_and_again)
{
	struct sim *sim = make_sim(1, 20);
	struct backend restarts = backend_sim;

	restarts.open = slow_open;
	restarts.rejoin = no_rejoin;
	slow = false;
	struct volume *vol = spoiled(sim, &restarts);

	vol->timeo_ms = 3000;
	slow = true;
	/* Every second map is the superblock's, of the session that takes the place of the lost one. */
	for (unsigned k = 0; k < 6; k++)
		sim_fault(sim, 0, SIM_MAP, 1 + 2 * k, -ECONNRESET, false);
	ck_assert_int_eq(reads(vol, ADDR(1)), 0);
	ck_assert_int_eq(vol_error(vol), 0);
	ck_assert_uint_eq(sim_calls(sim, SIM_OPEN), 7);
	end(vol, sim);
}
END_TEST

/* ---- the superblock's lock */

static int busy_map(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags,
		    struct backend_handle *handles, int *status)
{
	for (size_t i = 0; i < n; i++)
		status[i] = -EBUSY;
	return 0;
}

static const struct backend_info *long_lease(struct backend_session *session)
{
	static struct backend_info info;

	info = *backend_sim.info(session);
	info.lease_ms = 0xffffffff;
	return &info;
}

/* A brick that is busy for ever, for nobody, and says that a lease is seven weeks: that is not waited for. */
START_TEST(busy_for_nobody)
{
	struct sim *sim = make_sim(1, 20);
	struct backend liar = backend_sim;
	struct volume *vol;
	uint64_t start = vol_now_ms();

	liar.map = busy_map;
	liar.info = long_lease;
	vol = connect_all(sim, &liar, 0);
	ck_assert_int_eq(vol_lock(vol, true, 10), -EBUSY);
	ck_assert(says(vol, "in use by another session on brick sim:0"));
	ck_assert_uint_lt(vol_now_ms() - start, 600000);
	end(vol, sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume, hostile bricks");
	TCase *list = tcase_create("lists"), *answer = tcase_create("answers");

	tcase_set_timeout(list, 120);
	tcase_add_loop_test(list, lists, 0, LIES);
	tcase_add_loop_test(list, all_twice, 0, 2);
	tcase_add_loop_test(list, merged, 0, 30);
	suite_add_tcase(suite, list);
	tcase_set_timeout(answer, 120);
	tcase_add_loop_test(answer, answered, 0, 4 * 2 * ANSWERS);
	tcase_add_test(answer, garbage_once);
	tcase_add_test(answer, away_again_and_again);
	tcase_add_test(answer, busy_for_nobody);
	suite_add_tcase(suite, answer);
	return check_run(suite);
}
