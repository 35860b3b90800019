/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_volume_away - bricks that go away under a volume and come back, as they were or not: what is sent again, what is
 * an error, the fence, and the outcome of calls whose answers were lost.
 */
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "sim_volume.h"

/* The session dies, the bytes stay: what was written before is still made durable by the next persist. */
START_TEST(same_loss_epoch)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);

	alloc_run(vol, 2, 4);
	ck_assert_int_eq(put(vol, ADDR(2), "before"), 0);
	ck_assert_int_eq(put(vol, ADDR(4), "too"), 0);
	if (_i == 0)
		sim_lose_session(sim, 0);
	else if (_i == 1)
		sim_restart(sim, 0);
	else
		sim_away(sim, 0, true, 6);
	ck_assert(vol_dirty(vol));
	ck_assert(reads(vol, ADDR(2), "before"));
	ck_assert_int_eq(fence_asked, _i < 2);		/* when it was only away, the session is still there */
	ck_assert(vol_dirty(vol));
	ck_assert_int_eq(put(vol, ADDR(2) + 10, "after"), 0);
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert(!vol_dirty(vol));
	ck_assert(durable(sim, 0, ADDR(2), "before"));
	ck_assert(durable(sim, 0, ADDR(2) + 10, "after"));
	ck_assert(durable(sim, 0, ADDR(4), "too"));
	end(vol, sim);
}
END_TEST

/* A lane that was rejoined covers nothing of what went over the old connection: persist sees to that. */
START_TEST(rejoined_lane)
{
	struct sim *sim = make_sim(1, 20);
	struct volume *vol = make_vol(sim, 1, 0, 5000);

	alloc_run(vol, 1, 3);
	ck_assert_int_eq(put(vol, ADDR(1), "one"), 0);
	ck_assert_int_eq(put(vol, ADDR(2), "two"), 0);
	if (_i)
		sim_break_lane(sim, 0, 0);
	else
		sim_fault(sim, 0, SIM_PERSIST, 1, -ECONNRESET, false);
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert_int_eq(fence_asked, 0);
	ck_assert(durable(sim, 0, ADDR(1), "one"));
	ck_assert(durable(sim, 0, ADDR(2), "two"));
	ck_assert(reads(vol, ADDR(2), "two"));
	end(vol, sim);
}
END_TEST

/* Another loss_epoch with unpersisted data latches EIO; reads go on, nothing is ever durable again. */
START_TEST(other_loss_epoch)
{
	struct sim *sim = make_sim(1, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);

	alloc_run(vol, 1, 3);
	ck_assert_int_eq(commit(vol, ADDR(1), "kept"), 0);
	ck_assert_int_eq(put(vol, ADDR(2), "gone"), 0);
	sim_power_cut(sim, 0, NULL);
	ck_assert(reads(vol, ADDR(1), "kept"));
	ck_assert_int_eq(vol_error(vol), -EIO);
	ck_assert_int_eq(vol_persist(vol), -EIO);
	ck_assert_int_eq(commit(vol, ADDR(1), "new"), -EIO);
	ck_assert_int_eq(vol_alloc(vol, (uint64_t[]){ ADDR(9) }, 1), -EIO);
	ck_assert_int_eq(vol_release(vol, (uint64_t[]){ ADDR(1) }, 1), -EIO);
	ck_assert_ptr_nonnull(strstr(vol_text(vol), "sim:0"));
	ck_assert(reads(vol, ADDR(1), "kept"));
	end(vol, sim);
}
END_TEST

/* Another loss_epoch with nothing unpersisted: a commit under way is sent again, and all is well. */
START_TEST(other_loss_epoch_clean)
{
	struct sim *sim = make_sim(1, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);

	alloc_run(vol, 1, 3);
	ck_assert_int_eq(put(vol, ADDR(2), "kept"), 0);
	ck_assert_int_eq(vol_persist(vol), 0);
	sim_power_cut(sim, 0, NULL);
	ck_assert_int_eq(commit(vol, ADDR(1), "log"), 0);
	ck_assert(durable(sim, 0, ADDR(1), "log"));
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert(reads(vol, ADDR(2), "kept"));
	end(vol, sim);
}
END_TEST

/* A brick that stays away ends in EIO with its name, for everyone who waits; other bricks are read on. */
START_TEST(away_for_good)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 2, 0, 200);
	char buffer[4];
	struct vol_io io = { .addr = ADDR(3), .buffer = buffer, .length = 4 };

	alloc_run(vol, 2, 2);
	ck_assert_int_eq(commit(vol, ADDR(2), "here"), 0);
	sim_away(sim, 1, true, 0);
	ck_assert_int_eq(vol_io(vol, &io, 1), -EIO);
	ck_assert_ptr_nonnull(strstr(vol_text(vol), "sim:1"));
	ck_assert_int_eq(vol_error(vol), -EIO);
	ck_assert_int_eq(vol_io(vol, &io, 1), -EIO);
	ck_assert(reads(vol, ADDR(2), "here"));
	end(vol, sim);
}
END_TEST

/* Another brick at the endpoint is not taken for ours. */
START_TEST(other_uuid)
{
	struct sim *sim = make_sim(1, 20);
	struct volume *vol = make_vol(sim, 2, 0, 200);
	uint8_t uuid[16] = "somebody else";

	alloc_run(vol, 2, 1);
	sim_set_uuid(sim, 0, uuid);
	sim_lose_session(sim, 0);
	ck_assert_int_eq(put(vol, ADDR(2), "x"), -EIO);
	ck_assert_int_eq(vol_error(vol), -EIO);
	end(vol, sim);
}
END_TEST

/* The fence says no: ESTALE for ever, not even reads. */
START_TEST(fenced)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);
	char buffer[4];
	struct vol_io io = { .addr = ADDR(3), .buffer = buffer, .length = 4 };

	alloc_run(vol, 2, 2);
	sim_lose_session(sim, 0);
	fence_answer = -ESTALE;
	ck_assert_int_eq(put(vol, ADDR(2), "x"), -ESTALE);
	ck_assert_int_eq(fence_asked, 1);
	ck_assert_int_eq(vol_error(vol), -ESTALE);
	ck_assert_int_eq(vol_io(vol, &io, 1), -ESTALE);
	ck_assert_int_eq(vol_persist(vol), -ESTALE);
	end(vol, sim);
}
END_TEST

/* Without a fence nothing is opened again. */
START_TEST(no_fence)
{
	struct sim *sim = make_sim(1, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);

	alloc_run(vol, 2, 1);
	vol_set_fence(vol, NULL, NULL);
	sim_lose_session(sim, 0);
	ck_assert_int_eq(put(vol, ADDR(2), "x"), -EIO);
	ck_assert_uint_eq(sim_calls(sim, SIM_OPEN), 1);
	end(vol, sim);
}
END_TEST

/* The answer to alloc or free is lost, with and without it having been carried out: it is looked up, and done once, on one brick. */
START_TEST(unknown_outcome)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 2, 0, 5000);
	uint64_t addrs[6];
	bool carried_out = _i & 1;
	int error = _i & 2 ? -ETIMEDOUT : -ECONNRESET;

	for (unsigned i = 0; i < 6; i++)
		addrs[i] = ADDR(40 + i);
	sim_fault(sim, 0, SIM_ALLOC, 1, error, carried_out);
	if (_i & 4)
		sim_fault(sim, 0, SIM_LIST, 1, -ECONNRESET, false);
	ck_assert_int_eq(vol_alloc(vol, addrs, 6), 0);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_int_eq(vol_where(vol, addrs[i]), i % 2);
		ck_assert(sim_has(sim, i % 2, addrs[i]));
		ck_assert(!sim_has(sim, !(i % 2), addrs[i]));
	}
	ck_assert_uint_eq(vol_free_blocks(vol), 32);
	ck_assert_int_eq(put(vol, ADDR(40), "dirty"), 0);
	sim_fault(sim, 0, SIM_FREE, 1, error, carried_out);
	ck_assert_int_eq(vol_release(vol, addrs, 6), 0);
	ck_assert_uint_eq(vol_free_blocks(vol), 38);
	ck_assert_uint_eq(sim_used(sim, 0) + sim_used(sim, 1), 2);
	ck_assert(!vol_dirty(vol));
	ck_assert_int_eq(vol_persist(vol), 0);
	end(vol, sim);
}
END_TEST

/* While it cannot be known what became of an alloc, the ID goes to no other brick. */
START_TEST(unknown_for_good)
{
	struct sim *sim = make_sim(2, 20);
	struct volume *vol = make_vol(sim, 2, 0, 200);

	sim_away(sim, 0, true, 0);
	ck_assert_int_eq(vol_alloc(vol, (uint64_t[]){ ADDR(4) }, 1), -EIO);
	ck_assert(!sim_has(sim, 1, ADDR(4)));
	ck_assert_int_lt(vol_error(vol), 0);
	end(vol, sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume_away");
	TCase *tc = tcase_create("volume_away");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, same_loss_epoch, 0, 3);
	tcase_add_loop_test(tc, rejoined_lane, 0, 2);
	tcase_add_test(tc, other_loss_epoch);
	tcase_add_test(tc, other_loss_epoch_clean);
	tcase_add_test(tc, away_for_good);
	tcase_add_test(tc, other_uuid);
	tcase_add_test(tc, fenced);
	tcase_add_test(tc, no_fence);
	tcase_add_loop_test(tc, unknown_outcome, 0, 8);
	tcase_add_test(tc, unknown_for_good);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
