/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle - a plain POSIX filesystem in memory, with its history: it predicts
 * what each call answers, and knows which states may stand on the bricks after
 * a crash.
 *
 * Use: oracle_begin(), the operations of one step, oracle_end(); then the state
 * after that step is kept.  Steps are numbered from 1; state 0 is the start.
 * oracle_durable_*() inside a step say what an fsync, a commit or an unmount that returned 0 promised.
 *
 * What is allowed after a crash (brickfs-format(5), ORDERS, in exact
 * terms).  Let N be the last step that was begun, and "in flight" say that it had not returned.
 *
 * 1. Names, link counts, modes, owners, times, xattrs, symlinks and sizes are those of state k, as a whole, for one k
 *    with F <= k <= N.  F is the greatest of: the last step at which everything became durable;
 *    for each fsync of an inode, the last step that changed that inode or a name of it (fdatasync: but for
 *    steps that changed only its times); a rename, link, create or removal changes the directory, too.
 *    A step in flight raises nothing.
 * 2. One step may be several commits when it makes a file longer: with k < N the file that step k + 1 made longer may
 *    have any size between the old and the new one; its times are then of either.
 * 3. Let b be a byte of a file, below its size in state k.  Its *ground* is the greatest step of:
 *    - f, the last fsync of the file (or of everything) that returned: ground value = b after f;
 *    - a rename of the file at a step <= k: value of b after that step;
 *    - a write at a step <= k that began with b at or beyond the end of the file: the value written, or zero where the
 *      write skipped b; the same for truncation upwards and fallocate: zero.  (Data goes
 *      before the batch that makes it reachable, and growth zeroes.)
 *    b has its ground value or one that a write, punch or zeroing of a step in (ground, N] put there, also one with a
 *    step > k (in place, its mtime not yet committed); but from the first step t > k on that shrinks the file to
 *    b or below, nothing: what is dropped is not written before the drop is durable.
 *    So nothing from beyond a durable shrink can come back: growing again gives b a new ground.
 *    This holds for aligned units of 8 bytes as wholes where a unit lies wholly inside the writes
 *    that touch it, else for each of its bytes.
 * 4. A write that answered an error counts under 3 as a write inside the old size, and changes nothing else.
 *
 * Content is not kept as bytes: byte o of what step s wrote is oracle_unit(s, o / 8) >> 8 * (o % 8), so that a
 * foreign byte tells where it came from.
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "tree.h"

struct oracle;

struct oracle *oracle_new(void);
void oracle_delete(struct oracle *oracle);

/* 8 bytes of what step `source` writes at file offset 8 * index; and the bytes of a whole range. */
uint64_t oracle_unit(uint32_t source, uint64_t index);
void oracle_fill(uint32_t source, uint64_t offset, void *buffer, size_t size);
/* The way back: true if the 8 bytes at file offset 8 * index look like what some step wrote somewhere. */
bool oracle_whose(uint64_t unit, uint32_t *source, uint64_t *index);

/* The step's text is kept for messages. */
unsigned oracle_begin(struct oracle *oracle, const char *text);
void oracle_end(struct oracle *oracle);
unsigned oracle_steps(const struct oracle *oracle);	/* begun so far */

/* Operations: 0 or the negative errno that the filesystem must answer. */
uint64_t oracle_lookup(struct oracle *oracle, uint64_t parent, const char *name);	/* 0: none */
int oracle_make(struct oracle *oracle, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
		const char *target, uint64_t ino);
int oracle_link(struct oracle *oracle, uint64_t ino, uint64_t parent, const char *name);
int oracle_unlink(struct oracle *oracle, uint64_t parent, const char *name, bool directory);
int oracle_rename(struct oracle *oracle, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		  unsigned flags);
int oracle_setattr(struct oracle *oracle, uint64_t ino, const struct stat *st, unsigned which);	/* as fs_setattr() */
/* failed: answered an error, so any unit may be old or new below the old size; say what is visible with oracle_adopt(). */
int oracle_write(struct oracle *oracle, uint64_t ino, uint64_t offset, uint64_t length, bool failed);
void oracle_adopt(struct oracle *oracle, uint64_t ino, uint64_t offset, const void *bytes, uint64_t length);
int oracle_fallocate(struct oracle *oracle, uint64_t ino, int mode, uint64_t offset, uint64_t length);
int oracle_setxattr(struct oracle *oracle, uint64_t ino, const char *name, const void *value, size_t size, int flags);
int oracle_removexattr(struct oracle *oracle, uint64_t ino, const char *name);
/* An open file keeps an inode without links. */
void oracle_open(struct oracle *oracle, uint64_t ino);
void oracle_close(struct oracle *oracle, uint64_t ino);
/* The times are the filesystem's choice: what it answered after the step. */
void oracle_times(struct oracle *oracle, uint64_t ino, const struct stat *st);
/* Inodes that the step under way changed, up to max. */
size_t oracle_touched(struct oracle *oracle, uint64_t *inos, size_t max);

void oracle_durable_all(struct oracle *oracle);		/* bytes, too */
void oracle_committed(struct oracle *oracle);		/* names, attributes, sizes */
void oracle_durable(struct oracle *oracle, uint64_t ino, bool datasync);

/* What is expected now. */
uint64_t oracle_size(struct oracle *oracle, uint64_t ino);
mode_t oracle_mode(struct oracle *oracle, uint64_t ino);	/* 0: no such inode */
void oracle_read(struct oracle *oracle, uint64_t ino, uint64_t offset, void *buffer, size_t size);

/* Compares the tree with the present state: NULL, or a malloc'ed text that says what differs. */
char *oracle_compare(struct oracle *oracle, const struct tree *tree);
/*
 * Compares with what is allowed after a crash in or after the given step.
 * NULL and the state that it is (*state, may be NULL), or a text that says for each state why it is not.
 */
char *oracle_allowed(struct oracle *oracle, unsigned step, bool in_flight, const struct tree *tree, unsigned *state);

#endif
