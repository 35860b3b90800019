/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_fs - a filesystem on simulated bricks for the tests of the core: made, mounted by hand (no
 * threads), filled with one of everything, its problems kept, its log found and forged.
 */
#ifndef TESTS_SIM_FS_H
#define TESTS_SIM_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "format.h"
#include "../crash/simbrick.h"

enum { SIM_RW = 0, SIM_CHECK = 1, SIM_RO = 2 };

#define SIM_PROBLEMS 256
struct sim_problems {
	unsigned count;
	char text[SIM_PROBLEMS][400];	/* "code: text" of the first ones */
};
extern struct sim_problems sim_problems;	/* of the last sim_mount() and what followed */

extern const struct fs_cred sim_cred;

/* A filesystem over so many bricks of so many blocks each; fails the test if it cannot be made. */
struct sim *sim_make(unsigned bricks, uint64_t blocks);
/* Mounts for writing from now on have their threads; else by hand. */
extern bool sim_threads;
/* What fs_mount() answers. */
int sim_mount(struct sim *sim, int how, struct fs **fs);
/* The same, and it must succeed. */
struct fs *sim_mounted(struct sim *sim, int how);
/* True if a problem of that code was told. */
bool sim_told(const char *code);
/* All that was told, on one line; for messages. */
const char *sim_all_told(void);
/* Mounts with check, runs fs_check(), and the problems must be none; the dump, malloc'ed. */
char *sim_clean_dump(struct sim *sim);

/*
 * fsck -y: told, repaired, and then a second check must find nothing and show what the first one showed in memory.  The dump
 * afterwards, malloc'ed; NULL: refused, with fs_error_text(). sim_told() is of the first check.
 */
char *sim_fsck(struct sim *sim, const char *what);
/* The same from there on where fs_check() has answered: fs is of sim_mount_repair(), before its dump, which is freed. */
char *sim_fsck_checked(struct sim *sim, struct fs *fs, struct fs_check_result result, char *before, const char *what);
/* The first half only: 0 with *fs to be repaired or unmounted, all answered with yes. */
int sim_mount_repair(struct sim *sim, struct fs **fs);
/* With it, problems of codes that are not safe are answered with no. */
extern bool sim_safe_only;
extern const uint8_t (*sim_lost)[16];	/* bricks given up by the next sim_mount_repair() */
extern size_t sim_lost_count;

/* Small operations under the root or another directory; each must succeed. They answer the inode number. */
uint64_t sim_file(struct fs *fs, uint64_t dir, const char *name, uint64_t size, unsigned seed);
uint64_t sim_dir(struct fs *fs, uint64_t dir, const char *name);
void sim_put(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t size, unsigned seed);
uint64_t sim_find(struct fs *fs, uint64_t dir, const char *name);

/* Looks at everything that names lead to: attributes, both ends of the data, targets, extended attributes. The number of names. */
uint64_t sim_look(struct fs *fs, uint64_t dir);
/* Removes everything below; each removal must succeed. */
void sim_remove_all(struct fs *fs, uint64_t dir);

/*
 * One of everything, with a checkpoint in the middle and records behind it; committed in steps. Each
 * step's dump is kept: step[count - 1] is the last state.
 */
struct sim_steps {
	unsigned count;
	char *step[64];
};
void sim_fill(struct fs *fs, struct sim_steps *steps);
void sim_steps_free(struct sim_steps *steps);
/* Index of the step with that dump, or -1. */
int sim_step_of(const struct sim_steps *steps, const char *dump);
/* Both must be the same; says where they are not. */
void sim_same(const char *dump, const char *expected, const char *what);

/* A hash of all that can be read: a mount that only reads settles what was volatile, and changes no byte. */
uint64_t sim_visible(struct sim *sim);

/* ---- the log as it lies on the bricks */
struct sim_batch {
	uint64_t segment, offset;	/* in it */
	struct fmt_batch batch;
	struct fmt_segment header;	/* of the segment */
	bool first;			/* in its segment */
};
/* All batches of head segments in order; the number of them. */
size_t sim_log(struct sim *sim, struct sim_batch *batches, size_t max);
/* The brick that has a block; -1: none. */
int sim_where(struct sim *sim, uint64_t addr);
void sim_read(struct sim *sim, uint64_t addr, void *buffer, uint32_t length);
void sim_write(struct sim *sim, uint64_t addr, const void *buffer, uint32_t length);
/* One more batch behind the last one, with a right checksum around any records. */
void sim_forge(struct sim *sim, const void *records, size_t length);

#endif
