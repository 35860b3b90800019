/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libbrick_lane - a session with a fake brick (fake_brick.h), and its first lane.
 *
 * start() and stop() around each test; Check runs each in a process of its own.
 */
#ifndef TESTS_LIBBRICK_LANE_H
#define TESTS_LIBBRICK_LANE_H

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

#include "brick.h"
#include "fake_brick.h"
#include "wire.h"

#define BLOCK BRICK_BLOCK_SIZE
#define TIMEOUT 300	/* ms, where a test waits for it */

static struct fake_brick *fake;
static struct brick_session *session;
static struct brick_lane *lane;

static void start(bool local, uint16_t depth, uint16_t lanes, uint32_t timeout_ms)
{
	const struct brick_options options = { .name = "test", .depth = depth, .lanes = lanes, .timeout_ms = timeout_ms };
	int ret;

	fake = fake_start(local, depth);
	ret = brick_open(fake_endpoint(fake), &options, &session);
	ck_assert_msg(ret == 0, "brick_open: %d %s", ret, brick_error());
	lane = brick_lane(session, 0);
	ck_assert_ptr_nonnull(lane);
}

static void stop(void)
{
	brick_close(session);
	fake_stop(fake);
	session = NULL;
	fake = NULL;
}

static inline void map_new(uint64_t addr, uint32_t flags, struct brick_handle *handle)
{
	int status = -1;

	ck_assert_int_eq(brick_alloc(lane, &addr, 1, &status), 0);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(brick_map(lane, &addr, 1, flags, handle, &status), 0);
	ck_assert_int_eq(status, 0);
}

static inline void fill(uint8_t *buffer, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		buffer[i] = (uint8_t)(rand_r(&seed) >> 7);
}

static const bool transports[] = { false, true };

#endif
