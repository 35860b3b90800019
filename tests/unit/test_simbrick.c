/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_simbrick - the simulated brick keeps its model: what the crash tests say rests on it.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "simbrick.h"

#define BLOCK (2u << 20)
#define ADDR(n) ((uint64_t)(n) * BLOCK)

static const struct backend *const be = &backend_sim;

struct rig {
	struct sim *sim;
	struct backend_session *session;
	struct backend_handle handle;
};

static void set_up(struct rig *rig)
{
	int status;

	rig->sim = sim_new();
	sim_add_brick(rig->sim, 8);
	ck_assert_int_eq(be->open(rig->sim, "sim:0", "rig", 2, 4, 100, &rig->session), 0);
	ck_assert_int_eq(be->alloc(rig->session, 0, (uint64_t[]){ ADDR(1) }, 1, &status), 0);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(be->map(rig->session, 0, (uint64_t[]){ ADDR(1) }, 1, BACKEND_MAP_WRITE, &rig->handle, &status), 0);
	ck_assert_int_eq(status, 0);
	sim_record(rig->sim, true);
}

static void tear_down(struct rig *rig)
{
	be->close(rig->session);
	sim_delete(rig->sim);
}

static struct backend_io write_io(struct rig *rig, uint32_t offset, const char *text)
{
	return (struct backend_io){ .op = BACKEND_WRITE, .handle = rig->handle, .offset = offset, .length = strlen(text), .buffer = (void *)text };
}

static void write_now(struct rig *rig, unsigned lane, uint32_t offset, const char *text)
{
	struct backend_io io = write_io(rig, offset, text);

	ck_assert_int_eq(be->submit(rig->session, lane, &io), 0);
	ck_assert_int_eq(be->drain(rig->session, lane), 0);
}

static void persist_now(struct rig *rig, unsigned lane, uint32_t offset, uint32_t length)
{
	struct backend_range range = { .addr = ADDR(1) + offset, .length = length };
	struct backend_io io = { .op = BACKEND_PERSIST, .ranges = &range, .range_count = 1 };

	ck_assert_int_eq(be->submit(rig->session, lane, &io), 0);
	ck_assert_int_eq(be->drain(rig->session, lane), 0);
}

static bool holds(struct sim *sim, uint32_t offset, const char *text, bool is_durable)
{
	char buffer[64];

	ck_assert_int_eq((is_durable ? sim_peek_durable : sim_peek)(sim, 0, ADDR(1) + offset, buffer, strlen(text)), 0);
	return !memcmp(buffer, text, strlen(text));
}

/* A persist covers its lane, its range, and nothing that was submitted after it. */
START_TEST(coverage)
{
	struct rig rig;
	struct backend_range range = { .addr = ADDR(1), .length = 4096 };
	struct backend_io persist = { .op = BACKEND_PERSIST, .ranges = &range, .range_count = 1 }, late;

	set_up(&rig);
	write_now(&rig, 0, 0, "lane zero");
	write_now(&rig, 1, 100, "lane one");
	write_now(&rig, 0, 8192, "elsewhere");
	late = write_io(&rig, 200, "late");
	ck_assert_int_eq(be->submit(rig.session, 0, &persist), 0);
	ck_assert_int_eq(be->submit(rig.session, 0, &late), 0);
	ck_assert(!holds(rig.sim, 0, "lane zero", true));
	ck_assert_int_eq(be->drain(rig.session, 0), 0);
	ck_assert(holds(rig.sim, 0, "lane zero", true));
	ck_assert(!holds(rig.sim, 100, "lane one", true));
	ck_assert(!holds(rig.sim, 200, "late", true));
	ck_assert(!holds(rig.sim, 8192, "elsewhere", true));
	ck_assert(holds(rig.sim, 8192, "elsewhere", false));
	/* Another connection of the lane covers nothing of the one before. */
	sim_break_lane(rig.sim, 0, 0);
	ck_assert_int_eq(be->drain(rig.session, 0), -ECONNRESET);
	ck_assert_int_eq(be->rejoin(rig.session, 0), 0);
	persist_now(&rig, 0, 200, 4);
	ck_assert(!holds(rig.sim, 200, "late", true));
	tear_down(&rig);
}
END_TEST

/* A power cut takes any atoms of 8 bytes, at every event; what was persisted stays, also where a newer write lies over it. */
START_TEST(power_cut)
{
	struct rig rig;
	struct sim_piece pieces[4];
	uint64_t atoms, end;
	uint8_t selection[8];
	struct sim *image;

	set_up(&rig);
	write_now(&rig, 0, 0, "AAAAAAAABBBBBBBBCCCCCCCC");
	persist_now(&rig, 0, 0, 24);
	uint64_t middle = sim_events(rig.sim);

	write_now(&rig, 1, 4, "ddddeeeeeeee");		/* atoms 0 (half), 1 */
	write_now(&rig, 0, 16, "ffffffff");
	end = sim_events(rig.sim);
	ck_assert_uint_eq(sim_pieces(rig.sim, end, pieces, 4, &atoms), 2);
	ck_assert_uint_eq(atoms, 3);
	ck_assert_uint_eq(pieces[0].lane, 1);
	ck_assert_uint_eq(pieces[0].atoms, 2);
	ck_assert_uint_eq(pieces[1].first_atom, 2);
	ck_assert(pieces[1].drained);
	static const char *const expect[8] = {
		"AAAAAAAABBBBBBBBCCCCCCCC", "AAAAddddBBBBBBBBCCCCCCCC", "AAAAAAAAeeeeeeeeCCCCCCCC", "AAAAddddeeeeeeeeCCCCCCCC",
		"AAAAAAAABBBBBBBBffffffff", "AAAAddddBBBBBBBBffffffff", "AAAAAAAAeeeeeeeeffffffff", "AAAAddddeeeeeeeeffffffff",
	};
	for (unsigned i = 0; i < 8; i++) {
		selection[0] = i;
		image = sim_image(rig.sim, end, SIM_POWER_CUT, selection);
		ck_assert(holds(image, 0, expect[i], true));
		ck_assert(holds(image, 0, expect[i], false));
		sim_delete(image);
	}
	/* Back in time: before the first write was persisted. */
	for (uint64_t event = 0; event <= middle; event++) {
		image = sim_image(rig.sim, event, SIM_POWER_CUT, NULL);
		ck_assert_int_eq(holds(image, 0, "AAAAAAAA", true), event == middle);
		sim_delete(image);
	}
	ck_assert_ptr_null(sim_image(rig.sim, end + 1, SIM_POWER_CUT, NULL));
	tear_down(&rig);
}
END_TEST

/* A client's crash keeps what arrived visible; a later power cut may take it, unless the block was mapped again. */
START_TEST(client_crash)
{
	struct rig rig;
	struct backend_session *session;
	struct backend_handle handle;
	struct backend_io io;
	uint8_t selection[1] = { 2 };	/* of the write in flight: its second half */
	struct sim *crashed, *cut;
	uint64_t atoms;
	int status;

	set_up(&rig);
	write_now(&rig, 0, 64, "DONE");
	io = write_io(&rig, 0, "inflightinflight");
	ck_assert_int_eq(be->submit(rig.session, 0, &io), 0);
	selection[0] <<= 1;		/* bit 0 is the atom of "DONE" */
	crashed = sim_image(rig.sim, sim_events(rig.sim), SIM_CLIENT_CRASH, selection);
	ck_assert_int_eq(be->drain(rig.session, 0), 0);
	ck_assert(holds(crashed, 64, "DONE", false));
	ck_assert(!holds(crashed, 64, "DONE", true));
	ck_assert(holds(crashed, 8, "inflight", false));
	ck_assert(!holds(crashed, 0, "inflight", false));
	sim_record(crashed, true);
	ck_assert_uint_eq(sim_pieces(crashed, 0, NULL, 0, &atoms), 2);
	cut = sim_image(crashed, 0, SIM_POWER_CUT, NULL);
	ck_assert(!holds(cut, 64, "DONE", true));
	sim_delete(cut);
	ck_assert_int_eq(be->open(crashed, "sim:0", "next", 1, 4, 100, &session), 0);
	ck_assert_int_eq(be->map(session, 0, (uint64_t[]){ ADDR(1) }, 1, 0, &handle, &status), 0);
	ck_assert_int_eq(status, 0);
	cut = sim_image(crashed, sim_events(crashed), SIM_POWER_CUT, NULL);
	ck_assert(holds(cut, 64, "DONE", true));
	ck_assert(holds(cut, 8, "inflight", true));
	sim_delete(cut);
	be->close(session);
	sim_delete(crashed);
	tear_down(&rig);
}
END_TEST

/* One brick loses its power alone: of its pieces any atoms are durable, the other's stay visible and volatile, or arrive. */
START_TEST(cut_apart)
{
	struct backend_session *session[2];
	struct backend_handle handle[2];
	struct backend_io io[2];
	struct sim *sim = sim_new(), *image;
	char buffer[16];
	uint64_t atoms;
	int status;

	for (unsigned b = 0; b < 2; b++) {
		char endpoint[8];

		snprintf(endpoint, sizeof(endpoint), "sim:%u", sim_add_brick(sim, 8));
		ck_assert_int_eq(be->open(sim, endpoint, "rig", 1, 4, 100, &session[b]), 0);
		ck_assert_int_eq(be->alloc(session[b], 0, (uint64_t[]){ ADDR(1 + b) }, 1, &status), 0);
		ck_assert_int_eq(be->map(session[b], 0, (uint64_t[]){ ADDR(1 + b) }, 1, BACKEND_MAP_WRITE, &handle[b], &status), 0);
	}
	sim_record(sim, true);
	/* in order: 2 atoms on brick 1, drained; 2 on brick 0 and 2 on brick 1, in flight */
	io[1] = (struct backend_io){ .op = BACKEND_WRITE, .handle = handle[1], .length = 16, .buffer = "aaaaaaaabbbbbbbb" };
	ck_assert_int_eq(be->submit(session[1], 0, &io[1]), 0);
	ck_assert_int_eq(be->drain(session[1], 0), 0);
	io[0] = (struct backend_io){ .op = BACKEND_WRITE, .handle = handle[0], .length = 16, .buffer = "ccccccccdddddddd" };
	io[1] = (struct backend_io){ .op = BACKEND_WRITE, .handle = handle[1], .offset = 16, .length = 16, .buffer = "eeeeeeeeffffffff" };
	ck_assert_int_eq(be->submit(session[0], 0, &io[0]), 0);
	ck_assert_int_eq(be->submit(session[1], 0, &io[1]), 0);
	ck_assert_uint_eq(sim_pieces(sim, sim_events(sim), NULL, 0, &atoms), 3);
	ck_assert_uint_eq(atoms, 6);

	/* brick 0 cut: of its own the first atom is durable; of brick 1 what was drained is there, and the last atom arrived */
	image = sim_image_of_cut(sim, sim_events(sim), 0, (uint8_t[]){ 0x04 | 0x20 });
	ck_assert_int_eq(sim_peek(image, 0, ADDR(1), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "cccccccc\0\0\0\0\0\0\0\0", 16);
	ck_assert_int_eq(sim_peek_durable(image, 0, ADDR(1), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "cccccccc\0\0\0\0\0\0\0\0", 16);
	ck_assert_int_eq(sim_peek(image, 1, ADDR(2), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "aaaaaaaabbbbbbbb", 16);
	ck_assert_int_eq(sim_peek(image, 1, ADDR(2) + 16, buffer, 16), 0);
	ck_assert_mem_eq(buffer, "\0\0\0\0\0\0\0\0ffffffff", 16);
	ck_assert_int_eq(sim_peek_durable(image, 1, ADDR(2), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	sim_delete(image);
	/* the other way round */
	image = sim_image_of_cut(sim, sim_events(sim), 1, (uint8_t[]){ 0x02 | 0x04 });
	ck_assert_int_eq(sim_peek(image, 1, ADDR(2), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "\0\0\0\0\0\0\0\0bbbbbbbb", 16);
	ck_assert_int_eq(sim_peek(image, 0, ADDR(1), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "cccccccc\0\0\0\0\0\0\0\0", 16);
	ck_assert_int_eq(sim_peek_durable(image, 0, ADDR(1), buffer, 16), 0);
	ck_assert_mem_eq(buffer, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	sim_delete(image);
	for (unsigned b = 0; b < 2; b++) {
		ck_assert_int_eq(be->drain(session[b], 0), 0);
		be->close(session[b]);
	}
	sim_delete(sim);
}
END_TEST

/* An unmap that says CLEAN and lies loses the bytes at a power cut; an honest one does not, once mapped again. */
START_TEST(clean_lie)
{
	struct rig rig;
	int status;

	set_up(&rig);
	write_now(&rig, 0, 0, "bytes");
	ck_assert_int_eq(be->unmap(rig.session, 0, (uint64_t[]){ ADDR(1) }, 1, _i ? BACKEND_UNMAP_CLEAN : 0, &status), 0);
	ck_assert_int_eq(be->map(rig.session, 0, (uint64_t[]){ ADDR(1) }, 1, BACKEND_MAP_WRITE, &rig.handle, &status), 0);
	ck_assert(holds(rig.sim, 0, "bytes", false));
	ck_assert_int_eq(holds(rig.sim, 0, "bytes", true), !_i);
	sim_power_cut(rig.sim, 0, NULL);
	ck_assert_int_eq(holds(rig.sim, 0, "bytes", false), !_i);
	ck_assert_int_eq(be->keepalive(rig.session, 0), -ECONNRESET);
	ck_assert_int_eq(be->rejoin(rig.session, 0), -ESTALE);
	tear_down(&rig);
}
END_TEST

/* The mutation: a dropped persist answers 0 and covers nothing, live and in images. */
START_TEST(dropped)
{
	struct rig rig;

	set_up(&rig);
	sim_drop_persist(rig.sim, 2);
	write_now(&rig, 0, 0, "first");
	persist_now(&rig, 0, 0, 5);
	write_now(&rig, 0, 0, "other");
	persist_now(&rig, 0, 0, 5);
	ck_assert_uint_eq(sim_dropped(rig.sim), 1);
	struct sim *image = sim_image(rig.sim, sim_events(rig.sim), SIM_POWER_CUT, NULL);

	ck_assert(holds(image, 0, "first", true));
	ck_assert(holds(rig.sim, 0, "first", true));
	sim_delete(image);
	tear_down(&rig);
}
END_TEST

/* Equal images have equal hashes, however they came about; and every difference shows. */
START_TEST(hashes)
{
	struct rig rig;
	struct sim *a, *b;

	set_up(&rig);
	a = sim_snapshot(rig.sim);
	write_now(&rig, 0, 5000, "something");
	b = sim_snapshot(rig.sim);
	ck_assert_uint_ne(sim_hash(a), sim_hash(b));
	ck_assert_int_eq(sim_poke(a, 0, ADDR(1) + 5000, "something", 9), 0);
	ck_assert_uint_ne(sim_hash(a), sim_hash(b));	/* durable there, volatile here */
	sim_delete(b);
	persist_now(&rig, 0, 5000, 9);
	b = sim_snapshot(rig.sim);
	ck_assert_uint_eq(sim_hash(a), sim_hash(b));
	ck_assert_int_eq(sim_poke_alloc(b, 0, ADDR(3)), 0);
	ck_assert_uint_ne(sim_hash(a), sim_hash(b));
	ck_assert_int_eq(sim_poke_free(b, 0, ADDR(3)), 0);
	ck_assert_int_eq(sim_poke(b, 0, ADDR(1) + 5000, (char[9]){ 0 }, 9), 0);
	ck_assert_int_eq(sim_poke(a, 0, ADDR(1) + 5000, (char[9]){ 0 }, 9), 0);
	ck_assert_uint_eq(sim_hash(a), sim_hash(b));
	sim_delete(a);
	sim_delete(b);
	tear_down(&rig);
}
END_TEST

/* Exclusive conflicts with everybody; a holder that is not heard for its lease is killed by the conflict. */
START_TEST(conflicts)
{
	struct rig rig;
	struct backend_session *other;
	struct backend_handle handle;
	struct backend_holder holders[4];
	uint64_t addr = ADDR(1);
	size_t n;
	int status;

	set_up(&rig);
	ck_assert_int_eq(be->open(rig.sim, "sim:0", "other", 1, 4, 100, &other), 0);
	ck_assert_int_eq(be->map(other, 0, &addr, 1, BACKEND_MAP_EXCLUSIVE, &handle, &status), 0);
	ck_assert_int_eq(status, -EBUSY);
	ck_assert_int_eq(be->release(other, 0, &addr, 1, &status), 0);
	ck_assert_int_eq(status, -EBUSY);
	ck_assert_int_eq(be->who(other, 0, addr, holders, 4, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(holders[0].name, "rig");
	ck_assert_int_eq(be->map(other, 0, &addr, 1, BACKEND_MAP_EXCLUSIVE | BACKEND_MAP_PREEMPT, &handle, &status), 0);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(be->rejoin(rig.session, 0), -ESTALE);
	be->close(other);
	tear_down(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("simbrick");
	TCase *tc = tcase_create("simbrick");

	tcase_add_test(tc, coverage);
	tcase_add_test(tc, power_cut);
	tcase_add_test(tc, client_crash);
	tcase_add_test(tc, cut_apart);
	tcase_add_loop_test(tc, clean_lie, 0, 2);
	tcase_add_test(tc, dropped);
	tcase_add_test(tc, hashes);
	tcase_add_test(tc, conflicts);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
