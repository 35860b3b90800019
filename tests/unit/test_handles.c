/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_handles - the library's own view of what a session has mapped (handles.c): what a persist by
 * RDMA FLUSH finds, and which refused access was in order.
 */
#include <check.h>
#include <stdlib.h>

#include "check_run.h"
#include "session.h"

#define BLOCK BRICK_BLOCK_SIZE

static struct brick_session session;

static void set_up(void)
{
	pthread_mutex_init(&session.lock, NULL);
	ck_assert_int_eq(handles_open(&session), 0);
}

static void tear_down(void)
{
	handles_close(&session);
	pthread_mutex_destroy(&session.lock);
}

static void put(uint64_t addr, uint32_t flags, uint32_t key)
{
	handles_put(&session, addr, flags, &(const struct wire_handle){ .key = key, .place = addr });
}

static bool allowed(uint64_t addr, uint64_t place, uint32_t key, bool write)
{
	return handles_allow(&session, &(const struct transport_io){ .addr = addr, .place = place, .key = key, .write = write });
}

/* Shows: what was mapped and not unmapped is known, many of them, and nothing else. */
START_TEST(test_known)
{
	struct transport_range found[2];

	for (uint32_t i = 0; i < 20000; i++)
		put(i * 3 * BLOCK, WIRE_MAP_WRITE, i);
	for (uint64_t i = 0; i < 20000; i += 2)
		handles_drop(&session, &(const uint64_t){ i * 3 * BLOCK }, 1);
	for (uint64_t i = 0; i < 20000; i++) {
		const struct brick_range range = { i * 3 * BLOCK + 5, 7 };

		ck_assert_int_eq(handles_find(&session, &range, 1, found), i % 2);
		if (i % 2) {
			ck_assert_uint_eq(found[0].place, range.addr);
			ck_assert_uint_eq(found[0].key, i);
			ck_assert_uint_eq(found[0].length, 7);
		}
		ck_assert_int_eq(allowed(i * 3 * BLOCK, i * 3 * BLOCK, (uint32_t)i, true), i % 2);
	}
	/* One that is not there is enough. */
	ck_assert(!handles_find(&session, (const struct brick_range[]){ { 3 * BLOCK, 1 }, { BLOCK, 1 } }, 2, found));
	ck_assert(handles_find(&session, (const struct brick_range[]){ { 3 * BLOCK, 1 }, { 9 * BLOCK, 1 } }, 2, found));
}
END_TEST

/* Shows: what a flush was refused for is persisted by message until it is mapped anew, and reads and writes of it stay in order. */
START_TEST(test_refused_flush)
{
	const struct brick_range ranges[] = { { 3 * BLOCK + 5, 7 }, { 4 * BLOCK, 1 }, { 5 * BLOCK + 1, 1 } };
	struct transport_range found[3];

	for (uint32_t i = 3; i <= 5; i++)
		put(i * BLOCK, WIRE_MAP_WRITE, i);
	ck_assert(handles_find(&session, ranges, 3, found));
	put(4 * BLOCK, WIRE_MAP_WRITE, 40);	/* mapped anew meanwhile: not the handle that was refused */
	handles_refused(&session, &(const struct transport_io){ .ranges = found, .range_count = 2 });
	ck_assert(!handles_find(&session, ranges, 1, found));
	ck_assert(handles_find(&session, ranges + 1, 2, found));
	ck_assert(!handles_find(&session, ranges, 3, found));
	ck_assert(allowed(3 * BLOCK, 3 * BLOCK, 3, true));
	put(3 * BLOCK, WIRE_MAP_WRITE, 3);	/* the same handle: it may be the void one */
	ck_assert(!handles_find(&session, ranges, 1, found));
	put(3 * BLOCK, WIRE_MAP_WRITE, 30);
	ck_assert(handles_find(&session, ranges, 3, found));
	ck_assert_uint_eq(found[0].key, 30);
}
END_TEST

/* Shows: an access is in order only with the handle and the rights that its map gave. */
START_TEST(test_allowed)
{
	put(BLOCK, 0, 11);
	put(2 * BLOCK, WIRE_MAP_EXCLUSIVE, 12);
	ck_assert(allowed(BLOCK, BLOCK, 11, false));
	ck_assert(!allowed(BLOCK, BLOCK, 11, true));		/* read-only */
	ck_assert(allowed(2 * BLOCK, 2 * BLOCK, 12, true));	/* exclusive is for writing */
	ck_assert(!allowed(BLOCK, BLOCK, 12, false));		/* another block's key */
	ck_assert(!allowed(BLOCK, 2 * BLOCK, 12, false));
	ck_assert(!allowed(3 * BLOCK, 3 * BLOCK, 12, false));
	/* The same handle again, asked for with less, allows what it did; another handle does not. */
	put(2 * BLOCK, 0, 12);
	ck_assert(allowed(2 * BLOCK, 2 * BLOCK, 12, true));
	put(2 * BLOCK, 0, 13);
	ck_assert(!allowed(2 * BLOCK, 2 * BLOCK, 13, true));
	ck_assert(allowed(2 * BLOCK, 2 * BLOCK, 13, false));
	ck_assert(!allowed(2 * BLOCK, 2 * BLOCK, 12, false));
}
END_TEST

/* Shows: a session whose brick judges the handles itself keeps none. */
START_TEST(test_none)
{
	struct brick_session other = { 0 };

	handles_put(&other, BLOCK, 0, &(const struct wire_handle){ .key = 1, .place = BLOCK });
	handles_drop(&other, &(const uint64_t){ BLOCK }, 1);
	ck_assert(!handles_allow(&other, &(const struct transport_io){ .addr = BLOCK, .place = BLOCK, .key = 1 }));
	handles_close(&other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("handles");
	TCase *tcase = tcase_create("handles");

	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, test_known);
	tcase_add_test(tcase, test_refused_flush);
	tcase_add_test(tcase, test_allowed);
	tcase_add_test(tcase, test_none);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
