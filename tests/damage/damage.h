/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * damage - spoils a filesystem on its bricks, each kind of damage by name, the place by seed.
 *
 * It works through `struct backend`, so on simulated bricks and on real ones; nobody may have the filesystem mounted.  Where it
 * strikes it learns by the core's own replay.  It says what it did, and which inodes the log's records that it hit, or
 * changed, are of: whatever else fsck.brickfs does not name must be as it was.
 *
 *	r = damage_apply(&backend_sim, sim, endpoints, 2, "log-hole", 7, stdout, &touched);
 *
 * 0; -ENOENT: no such kind; -ENODATA: there is nothing of that kind to spoil in this filesystem.
 */
#ifndef TESTS_DAMAGE_H
#define TESTS_DAMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "backend.h"

struct damage_touched {
	uint64_t ino[65536];
	size_t count;
};

struct damage_kind {
	const char *name;
	const char *code;	/* that a check must tell; NULL: one or another, or nothing (a torn tail) */
	unsigned bricks;	/* at least so many are needed */
};
extern const struct damage_kind damage_kinds[];
extern const size_t damage_kind_count;

int damage_apply(const struct backend *backend, void *context, const char *const *endpoints, size_t count,
		 const char *kind, unsigned seed, FILE *out, struct damage_touched *touched);

#endif
