/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_blame - a brick that refuses what it should not: callers get an error that is theirs, people are told which brick it was, once
 * and not a thousand times, and the one that did nothing wrong is not named.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "sim_fs.h"
#include "volume.h"

#define ADDR(n) ((uint64_t)(n) << VOL_BLOCK_SHIFT)

static char told[64][256];
static unsigned tells;

static unsigned latches;

static void tell(void *arg, bool latched, const char *text)
{
	latches += latched;
	ck_assert_ptr_eq(arg, told);
	snprintf(told[tells++ % 64], sizeof(told[0]), "%s", text);
}

/* Told so often, and each time of that brick alone. */
static void blamed(unsigned least, unsigned most, const char *brick, const char *what)
{
	if (tells < least || tells > most)
		ck_abort_msg("told %u times", tells);
	for (unsigned i = 0; i < tells; i++) {
		char other[8] = "sim:0";

		other[4] = (char)('0' + '1' - brick[4]);
		if (!strstr(told[i], brick) || !strstr(told[i], what) || strstr(told[i], other))
			ck_abort_msg("told: %s", told[i]);
	}
	tells = 0;
}

/* ---- a backend that refuses: on brick 1 alone */

static struct backend_session *bad_session;
static int map_status, io_status, alloc_status, release_result, persist_status;
static struct backend_io *bad_io[64];
static unsigned bad_ios;

static int open_second(void *context, const char *endpoint, const char *name, unsigned lanes, unsigned maps, unsigned timeout_ms,
		       struct backend_session **session)
{
	int r = backend_sim.open(context, endpoint, name, lanes, maps, timeout_ms, session);

	if (!r && !strcmp(endpoint, "sim:1"))
		bad_session = *session;
	return r;
}

static int bad_map(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags,
		   struct backend_handle *handles, int *status)
{
	int r = backend_sim.map(session, lane, addrs, n, flags, handles, status);

	for (size_t i = 0; i < n && map_status && session == bad_session; i++)
		status[i] = map_status;
	return r;
}

static int bad_alloc(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	if (session != bad_session || !alloc_status)
		return backend_sim.alloc(session, lane, addrs, n, status);
	for (size_t i = 0; i < n; i++)
		status[i] = alloc_status;
	return 0;
}

static int bad_release(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	return session == bad_session && release_result ? release_result : backend_sim.release(session, lane, addrs, n, status);
}

static int bad_submit(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	if (session == bad_session && bad_ios < 64)
		bad_io[bad_ios++] = io;
	return backend_sim.submit(session, lane, io);
}

static int bad_drain(struct backend_session *session, unsigned lane)
{
	int r = backend_sim.drain(session, lane);

	if (session != bad_session)
		return r;
	for (unsigned i = 0; i < bad_ios; i++) {
		int status = bad_io[i]->op == BACKEND_PERSIST ? persist_status : io_status;

		if (status && !r)
			r = bad_io[i]->status = status;
	}
	bad_ios = 0;
	return r;
}

static int fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1)
{
	return 0;
}

static struct sim *sim;
static struct volume *vol;
static char byte[8];

static void setup(void)
{
	static struct backend backend;
	struct vol_options options = { .backend = &backend, .backend_context = NULL, .lanes = 1, .timeo_ms = 200, .tell = tell, .tell_arg = told };

	backend = backend_sim;
	backend.open = open_second;
	backend.map = bad_map;
	backend.alloc = bad_alloc;
	backend.release = bad_release;
	backend.submit = bad_submit;
	backend.drain = bad_drain;
	map_status = io_status = alloc_status = release_result = persist_status = 0;
	bad_ios = tells = latches = 0;
	sim = sim_new();
	options.backend_context = sim;
	ck_assert_int_eq(vol_new(&vol, &options), 0);
	for (unsigned i = 0; i < 2; i++) {
		char endpoint[8];
		unsigned brick;

		sim_add_brick(sim, 40);
		ck_assert_int_eq(sim_poke_alloc(sim, i, 0), 0);
		/* Odd addresses are on the bad one. */
		for (unsigned k = 1; k <= 20; k++)
			ck_assert_int_eq(sim_poke_alloc(sim, i, ADDR(2 * k + i)), 0);
		snprintf(endpoint, sizeof(endpoint), "sim:%u", i);
		ck_assert_int_eq(vol_connect(vol, endpoint, &brick), 0);
	}
	vol_set_fence(vol, fence, NULL);
	ck_assert_int_eq(vol_lock(vol, true, 0), 0);
	ck_assert_int_eq(vol_list(vol, NULL), 0);
}

static void teardown(void)
{
	map_status = io_status = alloc_status = release_result = persist_status = 0;
	vol_delete(vol);
	sim_delete(sim);
}

static int io(uint64_t addr, bool write)
{
	struct vol_io one = { .addr = addr, .buffer = byte, .length = sizeof(byte), .write = write };

	return vol_io(vol, &one, 1);
}

/* Whatever it says of a map: a read or write on it fails with EIO, and on the other brick does not. */
static const int refusals[] = { -EBUSY, -ENOENT, -EACCES, -EEXIST, -EINVAL, -EAGAIN, -EINTR, -EPERM, -EIO, -EOPNOTSUPP };
#define REFUSALS (int)(sizeof(refusals) / sizeof(refusals[0]))

START_TEST(map_refused)
{
	map_status = refusals[_i];
	ck_assert_int_eq(io(ADDR(3), false), -EIO);
	ck_assert_int_eq(io(ADDR(5), true), -EIO);
	blamed(2, 2, "sim:1", "cannot be mapped");
	ck_assert_int_eq(io(ADDR(4), true), 0);
	for (unsigned k = 0; k < 500; k++)
		ck_assert_int_eq(io(ADDR(3 + 2 * (k % 10)), false), -EIO);
	/* A slow machine may have come to the next window. */
	blamed(1, 63, "sim:1", "cannot be mapped");
	ck_assert_int_eq(vol_error(vol), 0);
	map_status = 0;
	ck_assert_int_eq(io(ADDR(3), false), 0);
	blamed(0, 0, "sim:1", "");
}
END_TEST

START_TEST(access_refused)
{
	ck_assert_int_eq(io(ADDR(3), true), 0);
	io_status = refusals[_i];
	if (io_status == -EACCES)
		return;		/* that is another matter: a handle that is void */
	ck_assert_int_eq(io(ADDR(3), false), -EIO);
	blamed(1, 1, "sim:1", "block 0x600000 cannot be read");
	ck_assert_int_eq(io(ADDR(3), true), -EIO);
	blamed(1, 1, "sim:1", "block 0x600000 cannot be written");
	ck_assert_int_eq(io(ADDR(4), false), 0);
	blamed(0, 0, "sim:1", "");
}
END_TEST

START_TEST(alloc_refused)
{
	uint64_t addrs[4] = { ADDR(101), ADDR(103), ADDR(105), ADDR(107) };

	alloc_status = refusals[_i];
	ck_assert_int_eq(vol_alloc(vol, addrs, 4), -EIO);
	blamed(1, 4, "sim:1", "cannot be allocated");
	/* What came to life elsewhere is given back. */
	for (unsigned k = 0; k < 4; k++)
		ck_assert(!vol_has(vol, addrs[k]));
	ck_assert_int_eq(vol_error(vol), 0);
	/* It is full: that is no fault, and there is another one. */
	alloc_status = -ENOSPC;
	ck_assert_int_eq(vol_alloc(vol, addrs, 4), 0);
	blamed(0, 0, "sim:1", "");
	for (unsigned k = 0; k < 4; k++)
		ck_assert_int_eq(vol_where(vol, addrs[k]), 0);
}
END_TEST

START_TEST(release_refused)
{
	uint64_t addrs[2] = { ADDR(3), ADDR(4) };

	release_result = refusals[_i];
	ck_assert_int_eq(vol_release(vol, addrs, 2), -EIO);
	blamed(1, 1, "sim:1", "it refuses to free blocks");
	ck_assert(vol_has(vol, ADDR(3)));
	ck_assert(!vol_has(vol, ADDR(4)));
}
END_TEST

START_TEST(persist_refused)
{
	struct vol_io commit = { .addr = ADDR(3), .buffer = byte, .length = sizeof(byte), .write = true };

	ck_assert_int_eq(io(ADDR(3), true), 0);
	ck_assert_int_eq(io(ADDR(4), true), 0);
	persist_status = _i & 2 ? -ENOMEM : -EINVAL;	/* its memory is not ours: nothing is tried again */
	ck_assert_int_eq(_i & 1 ? vol_commit(vol, &commit, 1) : vol_persist(vol), -EIO);
	ck_assert(strstr(vol_text(vol), "sim:1") && !strstr(vol_text(vol), "sim:0"));
	/* The refusal, and that it is the end. */
	blamed(1, 2, "sim:1", "");
	ck_assert_uint_eq(latches, 1);
	ck_assert_int_eq(vol_persist(vol), -EIO);
	ck_assert_int_eq(vol_commit(vol, &commit, 1), -EIO);
	ck_assert_int_eq(io(ADDR(4), true), -EIO);
	blamed(0, 0, "sim:1", "");
	persist_status = 0;
	ck_assert_int_eq(vol_persist(vol), -EIO);
	ck_assert_int_eq(io(ADDR(4), false), 0);
	ck_assert_uint_eq(latches, 1);
}
END_TEST

START_TEST(no_such_block)
{
	ck_assert_int_eq(io(ADDR(300), false), -EIO);
	ck_assert(strstr(vol_text(vol), "0x25800000"));
}
END_TEST

/* A file that had all its blocks, and has them no more: what is lost is no hole, and does not read as zeroes. */
START_TEST(lost_blocks)
{
	static char buffer[4096];
	struct sim *bricks = sim_make(2, 40);
	struct fs *fs = sim_mounted(bricks, SIM_RW);
	uint64_t whole, other;
	unsigned freed = 0;

	whole = sim_file(fs, FS_ROOT_INO, "whole", 3 * VOL_BLOCK_SIZE, 7);
	other = sim_file(fs, FS_ROOT_INO, "other", 3 * VOL_BLOCK_SIZE, 8);
	ck_assert_int_eq(fs_fsync(fs, whole, false), 0);
	ck_assert_int_eq(fs_fsync(fs, other, false), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	/* The first file's second block: file blocks are given in ascending order, within a range of one file. */
	for (uint64_t n = 0; n < 1u << 22 && !freed; n++)
		for (unsigned b = 0; b < 2; b++)
			if (!sim_poke_free(bricks, b, fmt_addr(FMT_FILE, n)))
				freed++;
	ck_assert_uint_eq(freed, 1);
	fs = sim_mounted(bricks, SIM_RO);
	ck_assert(sim_told("blocks-lost"));
	ck_assert_int_eq(fs_read(fs, whole, buffer, sizeof(buffer), 0), -EIO);
	ck_assert_int_eq(fs_read(fs, whole, buffer, sizeof(buffer), VOL_BLOCK_SIZE), sizeof(buffer));
	ck_assert_int_eq(fs_read(fs, other, buffer, sizeof(buffer), 0), sizeof(buffer));
	ck_assert_int_eq(fs_unmount(fs), 0);
	sim_delete(bricks);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blame");
	TCase *tests = tcase_create("blame");
	TCase *core = tcase_create("core");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, map_refused, 0, REFUSALS);
	tcase_add_loop_test(tests, access_refused, 0, REFUSALS);
	tcase_add_loop_test(tests, alloc_refused, 0, REFUSALS);
	tcase_add_loop_test(tests, release_refused, 0, REFUSALS);
	tcase_add_loop_test(tests, persist_refused, 0, 4);
	tcase_add_test(tests, no_such_block);
	suite_add_tcase(suite, tests);
	tcase_set_timeout(core, 120);
	tcase_add_test(core, lost_blocks);
	suite_add_tcase(suite, core);
	return check_run(suite);
}
