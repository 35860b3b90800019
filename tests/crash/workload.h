/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workload - sequences of steps on a filesystem: as text that people can read
 * and replay, made from a number or at random, and run on the core and the oracle side by side.
 *
 * The text of a workload is its steps with ';' between.  A path is absolute, or "@N": what was
 * opened in slot N.  Sizes and offsets are bytes, and may end in k or m.
 *
 *   create P | mkdir P | fifo P | symlink P LENGTH | link P Q | unlink P | rmdir P
 *   rename P Q | noreplace P Q | exchange P Q
 *   write P OFFSET LENGTH | append P LENGTH | truncate P SIZE | read P OFFSET LENGTH
 *   punch P OFFSET LENGTH | zero P OFFSET LENGTH | zerokeep P OFFSET LENGTH
 *   falloc P OFFSET LENGTH | fallockeep P OFFSET LENGTH
 *   setxattr P NAME LENGTH | rmxattr P NAME | chmod P OCTAL | chown P UID | utime P SECONDS
 *   open N P | close N | flush P | fsync P | fdatasync P | statfs
 *   tick | checkpoint | restart BRICK | remount
 */
#ifndef TESTS_WORKLOAD_H
#define TESTS_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oracle.h"

#define WORKLOAD_SLOTS 4
#define WORKLOAD_PATH_MAX 300

enum step_kind {
	STEP_CREATE, STEP_MKDIR, STEP_FIFO, STEP_SYMLINK, STEP_LINK, STEP_UNLINK, STEP_RMDIR,
	STEP_RENAME, STEP_NOREPLACE, STEP_EXCHANGE,
	STEP_WRITE, STEP_APPEND, STEP_TRUNCATE, STEP_READ,
	STEP_PUNCH, STEP_ZERO, STEP_ZEROKEEP, STEP_FALLOC, STEP_FALLOCKEEP,
	STEP_SETXATTR, STEP_RMXATTR, STEP_CHMOD, STEP_CHOWN, STEP_UTIME,
	STEP_OPEN, STEP_CLOSE, STEP_FLUSH, STEP_FSYNC, STEP_FDATASYNC, STEP_STATFS,
	STEP_TICK, STEP_CHECKPOINT, STEP_RESTART, STEP_REMOUNT,
	STEP_KINDS
};

struct step {
	enum step_kind kind;
	char path[WORKLOAD_PATH_MAX];
	char other[WORKLOAD_PATH_MAX];	/* second path; xattr name */
	uint64_t a, b;
};

struct workload {
	struct step *steps;
	size_t count;
};

/* 0, or -EINVAL: *bad, malloc'ed, says which step. */
int workload_parse(struct workload *workload, const char *text, char **bad);
char *workload_text(const struct workload *workload);	/* malloc'ed */
void workload_free(struct workload *workload);
void workload_add(struct workload *workload, const struct step *step);
void step_text(const struct step *step, char *text, size_t size);

/* A seeded stream of numbers (splitmix64). */
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t n);

/*
 * What sequences start from: 0: empty but for /d; 1: files of every form, a link, a symlink, a deeper directory; 2: small
 * files one behind the other in a packed block, and large ones.  Short sequences start from the first two.
 */
#define WORKLOAD_STARTS 3
#define WORKLOAD_SHORT_STARTS 2
const char *workload_start(unsigned start);
/* The alphabet of short sequences. */
size_t workload_letters(void);
void workload_letter(size_t number, struct step *step);
/* Sequences that have broken filesystems before, from start 1: each of the orders of brickfs-format(5) has some. */
size_t workload_classics(void);
const char *workload_classic(size_t number);
/* Sequences that drop storage and take some at once, from start 2; all of a number are different. */
size_t workload_reuses(void);
void workload_reuse(struct workload *workload, size_t number);
/* Many steps at random over 3 directories; heavy: sizes that fill small bricks. */
void workload_random(struct workload *workload, uint64_t seed, size_t steps, bool heavy);

/* Running. */
struct run {
	struct fs *fs;
	struct oracle *oracle;
	uint64_t slots[WORKLOAD_SLOTS];		/* inode numbers, 0: closed */
	uint8_t *buffer;
	size_t buffer_size;
	unsigned enospc;			/* steps that ended so */
	/* Unmounts and mounts again (STEP_REMOUNT): changes fs. */
	int (*remount)(struct run *run, void *arg);
	/* A brick ends and comes back at once with all its bytes (STEP_RESTART): nobody sees more than a pause. May be NULL. */
	void (*restart)(struct run *run, unsigned brick);
	/* Called when a step of the oracle (oracle_steps()) begins and when it returned. May be NULL. */
	void (*boundary)(struct run *run, bool returned);
	void *arg;
};

/*
 * Runs one step on both. NULL, or a malloc'ed text that says where they differ.
 * An operation that answers -ENOSPC where the oracle expected success is a state of its own, not a difference.
 */
char *run_step(struct run *run, const struct step *step);
/* Gives back what slots hold open. */
void run_close(struct run *run);
void run_free(struct run *run);

#endif
