/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_volume - a volume over simulated bricks, for tests of the volume alone. */
#ifndef TESTS_SIM_VOLUME_H
#define TESTS_SIM_VOLUME_H

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simbrick.h"
#include "volume.h"

#define PRIVATE 0ull
#define ADDR(n) ((uint64_t)(n) << VOL_BLOCK_SHIFT)

static int fence_answer;
static atomic_int fence_asked;

static inline int fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1)
{
	fence_asked++;
	ck_assert_int_eq(((const char *)page0)[0], 'S');
	ck_assert_int_eq(((const char *)page1)[0], 'T');
	return fence_answer;
}

static inline struct sim *make_sim(unsigned bricks, uint64_t blocks)
{
	struct sim *sim = sim_new();

	for (unsigned i = 0; i < bricks; i++) {
		sim_add_brick(sim, blocks);
		ck_assert_int_eq(sim_poke_alloc(sim, i, PRIVATE), 0);
		ck_assert_int_eq(sim_poke(sim, i, PRIVATE, "S", 1), 0);
		ck_assert_int_eq(sim_poke(sim, i, PRIVATE + 4096, "T", 1), 0);
	}
	return sim;
}

static inline struct volume *connect_all(struct sim *sim, const struct backend *backend, unsigned lanes, unsigned maps, unsigned timeo_ms)
{
	struct vol_options options = {
		.backend = backend, .backend_context = sim, .lanes = lanes, .maps = maps, .timeo_ms = timeo_ms,
		.private_addr = PRIVATE, .name = "test@here",
	};
	struct volume *vol;

	ck_assert_int_eq(vol_new(&vol, &options), 0);
	for (unsigned i = 0; i < sim_bricks(sim); i++) {
		char endpoint[16];
		unsigned brick;

		snprintf(endpoint, sizeof(endpoint), "sim:%u", i);
		ck_assert_int_eq(vol_connect(vol, endpoint, &brick), 0);
		ck_assert_uint_eq(brick, i);
	}
	return vol;
}

static inline struct volume *make_vol(struct sim *sim, unsigned lanes, unsigned maps, unsigned timeo_ms)
{
	struct volume *vol = connect_all(sim, &backend_sim, lanes, maps, timeo_ms);
	uint64_t duplicates;

	fence_answer = 0;
	fence_asked = 0;
	ck_assert_int_eq(vol_lock(vol, true, 0), 0);
	vol_set_fence(vol, fence, NULL);
	ck_assert_int_eq(vol_list(vol, &duplicates), 0);
	return vol;
}

static inline void end(struct volume *vol, struct sim *sim)
{
	vol_delete(vol);
	sim_delete(sim);
}

static inline void alloc_run(struct volume *vol, unsigned first, unsigned n)
{
	uint64_t addrs[256];

	for (unsigned i = 0; i < n; i++)
		addrs[i] = ADDR(first + i);
	ck_assert_int_eq(vol_alloc(vol, addrs, n), 0);
}

static inline int put(struct volume *vol, uint64_t addr, const char *text)
{
	struct vol_io io = { .addr = addr, .buffer = (void *)text, .length = strlen(text), .write = true };

	return vol_io(vol, &io, 1);
}

static inline int commit(struct volume *vol, uint64_t addr, const char *text)
{
	struct vol_io io = { .addr = addr, .buffer = (void *)text, .length = strlen(text), .write = true };

	return vol_commit(vol, &io, 1);
}

static inline bool reads(struct volume *vol, uint64_t addr, const char *text)
{
	char buffer[64] = "";
	struct vol_io io = { .addr = addr, .buffer = buffer, .length = strlen(text) };

	ck_assert_int_eq(vol_io(vol, &io, 1), 0);
	return !memcmp(buffer, text, strlen(text));
}

static inline bool durable(struct sim *sim, unsigned brick, uint64_t addr, const char *text)
{
	char buffer[64] = "";

	ck_assert_int_eq(sim_peek_durable(sim, brick, addr, buffer, strlen(text)), 0);
	return !memcmp(buffer, text, strlen(text));
}

#endif
