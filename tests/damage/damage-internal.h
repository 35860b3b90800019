/* SPDX-License-Identifier: BSD-3-Clause */
/* damage-internal - what the files of the damaging tool share. */
#ifndef TESTS_DAMAGE_INTERNAL_H
#define TESTS_DAMAGE_INTERNAL_H

#include "damage.h"
#include "fs.h"

#define BRICKS_MAX 8

struct place { uint64_t addr; unsigned brick; };

struct damage {
	const struct backend *backend;
	void *context;
	const char *const *endpoints;
	unsigned bricks;
	struct backend_session *session[BRICKS_MAX];
	unsigned seed;
	FILE *out;
	struct damage_touched *touched;
	struct place *place;		/* every block */
	size_t places;
	struct fs *fs;			/* as replay sees it; only to look at */
};

uint64_t damage_random(struct damage *d, uint64_t below);
void damage_say(struct damage *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
void damage_touch(struct damage *d, uint64_t ino);
/* The inodes of all batches in [at, at + length) of that log segment. */
int damage_touch_log(struct damage *d, const struct place *place, uint32_t at, uint32_t length);

/* One block on one brick. */
int damage_read(struct damage *d, const struct place *p, uint32_t offset, void *buf, uint32_t length);
int damage_write(struct damage *d, const struct place *p, uint32_t offset, const void *buf, uint32_t length);
int damage_alloc(struct damage *d, unsigned brick, uint64_t addr);
int damage_free(struct damage *d, const struct place *p);
const struct place *damage_where(struct damage *d, uint64_t addr);	/* NULL: nowhere */

/* An inode of the filesystem that fits, by seed; NULL: none. */
struct inode *damage_pick(struct damage *d, bool (*fits)(struct damage *d, const struct inode *i));

typedef int (*damage_fn)(struct damage *d);
damage_fn damage_forger(const char *kind);	/* damage-forge.c: records that make no sense, behind a right checksum */

#endif
