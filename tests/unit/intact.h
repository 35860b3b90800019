/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * intact - has a repair kept everything that it did not name?  What a filesystem held is noted; after damage and repair each file must be
 * as it was, unless it, or a directory above it, was named in a problem, or the damage hit records of it in the log.
 */
#ifndef TESTS_INTACT_H
#define TESTS_INTACT_H

#include "sim_fs.h"

struct intact_name { char *path; uint64_t ino; };

struct intact {
	char *dump;
	struct intact_name *name;
	size_t count, room;
	uint64_t *touched;
	size_t touched_count, touched_room;
};

/* Of what is mounted; sim: where the log is read from afterwards. */
void intact_note(struct intact *intact, struct fs *fs);
void intact_free(struct intact *intact);
/* Forgets what was touched. */
void intact_begin(struct intact *intact);
void intact_touch(struct intact *intact, uint64_t ino);
/* Bytes [at, at + length) of that block are going to be damaged: touches the inodes of all batches there, if it is of the log. */
void intact_touch_log(struct intact *intact, struct sim *sim, unsigned brick, uint64_t addr, uint32_t at, uint32_t length);
/* after: the dump of the repaired one; what was told is in sim_problems. How many were left out. */
unsigned intact_check(const struct intact *intact, const char *after, const char *what);

#endif
