/* SPDX-License-Identifier: BSD-3-Clause */
/* idmap against a model so simple that it cannot be wrong: an array indexed by block number. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "check_run.h"
#include "idmap.h"

#define BASE (1ull << 42)	/* blocks are large numbers */
#define SPAN 20000u

static uint32_t model[SPAN];	/* slot, or IDMAP_NONE */
static uint64_t model_count;

static uint64_t seed;

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016. */
static uint64_t next_random(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545f4914f6cdd1dull;
}

/* The extents from `from` on are the model's. */
static void check_extents(const struct idmap *map, uint64_t from)
{
	uint64_t start, count, at = from > BASE ? from - BASE : 0;

	for (;;) {
		uint64_t run = 0;

		while (at < SPAN && model[at] == IDMAP_NONE)
			at++;
		if (at >= SPAN) {
			ck_assert(!idmap_extent(map, from, &start, &count));
			return;
		}
		while (at + run < SPAN && model[at + run] != IDMAP_NONE)
			run++;
		ck_assert(idmap_extent(map, from, &start, &count));
		ck_assert_uint_eq(start, BASE + at);
		ck_assert_uint_eq(count, run);
		at += run;
		from = start + count;
	}
}

static void check_all(const struct idmap *map)
{
	ck_assert_uint_eq(idmap_count(map), model_count);
	for (uint64_t i = 0; i < SPAN; i++)
		ck_assert_uint_eq(idmap_find(map, BASE + i), model[i]);
	check_extents(map, 0);
}

static void insert(struct idmap *map, uint64_t i, uint32_t slot)
{
	int rc = idmap_insert(map, BASE + i, slot);

	if (model[i] != IDMAP_NONE) {
		ck_assert_int_eq(rc, -EEXIST);
	} else {
		ck_assert_int_eq(rc, 0);
		model[i] = slot;
		model_count++;
	}
}

static void take_out(struct idmap *map, uint64_t i)
{
	ck_assert_uint_eq(idmap_remove(map, BASE + i), model[i]);
	if (model[i] != IDMAP_NONE) {
		model[i] = IDMAP_NONE;
		model_count--;
	}
}

static void setup(void)
{
	for (uint32_t i = 0; i < SPAN; i++)
		model[i] = IDMAP_NONE;
	model_count = 0;
}

/* An empty map: nothing is found, nothing can be removed, no extent anywhere. */
START_TEST(empty)
{
	struct idmap *map = idmap_new();
	uint64_t start, count;

	ck_assert_ptr_nonnull(map);
	ck_assert_uint_eq(idmap_count(map), 0);
	ck_assert_uint_eq(idmap_find(map, 0), IDMAP_NONE);
	ck_assert_uint_eq(idmap_remove(map, 5), IDMAP_NONE);
	ck_assert(!idmap_extent(map, 0, &start, &count));
	idmap_delete(map);
	idmap_delete(NULL);
}
END_TEST

/* Blocks 0 and 2^43 - 1 are as good as any; the last one ends an extent. */
START_TEST(ends)
{
	struct idmap *map = idmap_new();
	uint64_t last = (1ull << 43) - 1, start, count;

	ck_assert_int_eq(idmap_insert(map, last, 3), 0);
	ck_assert_int_eq(idmap_insert(map, 0, 4), 0);
	ck_assert_int_eq(idmap_insert(map, last, 5), -EEXIST);
	ck_assert_uint_eq(idmap_find(map, last), 3);
	ck_assert(idmap_extent(map, 0, &start, &count));
	ck_assert(start == 0 && count == 1);
	ck_assert(idmap_extent(map, 1, &start, &count));
	ck_assert(start == last && count == 1);
	ck_assert(!idmap_extent(map, last + 1, &start, &count));
	idmap_delete(map);
}
END_TEST

/* In ascending, descending and striding order, filled and emptied again. */
START_TEST(orders)
{
	static const uint32_t stride[] = { 1, SPAN - 1, 7, 9973 };
	struct idmap *map = idmap_new();

	for (unsigned s = 0; s < 4; s++) {
		for (uint64_t i = 0, at = 0; i < SPAN; i++, at = (at + stride[s]) % SPAN)
			insert(map, at, (uint32_t)i);
		ck_assert_uint_eq(idmap_count(map), SPAN);
		check_all(map);
		for (uint64_t i = 0, at = 0; i < SPAN; i++, at = (at + stride[s]) % SPAN) {
			take_out(map, at);
			if (i % 4999 == 0)
				check_all(map);
		}
		check_all(map);
	}
	idmap_delete(map);
}
END_TEST

/* Random operations, growing, level and shrinking by turns, agree with the model throughout. */
START_TEST(random_operations)
{
	struct idmap *map = idmap_new();

	seed = 0x9e3779b97f4a7c15ull + (uint64_t)_i;
	for (unsigned phase = 0; phase < 12; phase++) {
		unsigned inserts = phase % 3 == 0 ? 85 : phase % 3 == 1 ? 50 : 15;	/* of 100 */

		for (unsigned i = 0; i < 20000; i++) {
			uint64_t r = next_random(), at = r % SPAN;
			unsigned run = (r >> 32) % 40;

			/* Runs, as files make them. */
			for (unsigned k = 0; k < run && at + k < SPAN; k++) {
				if ((r >> 40) % 100 < inserts)
					insert(map, at + k, (uint32_t)next_random() >> 1);
				else
					take_out(map, at + k);
			}
			i += run;
			if (i % 1000 == 0)
				check_extents(map, BASE + next_random() % SPAN);
		}
		check_all(map);
	}
	idmap_delete(map);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("idmap");
	TCase *tcase = tcase_create("model");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, empty);
	tcase_add_test(tcase, ends);
	tcase_add_test(tcase, orders);
	tcase_add_loop_test(tcase, random_operations, 0, 8);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}
