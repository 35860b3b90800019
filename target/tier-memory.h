/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier-memory - the memory file: a bounded number of blocks, and a table that
 * says which they are.
 *
 * The file lies on tmpfs or hugetlbfs, so it outlives the process that wrote it
 * but not the host's boot: a brickd that was killed and is started again finds
 * in it what was placed and not persisted.  What it says is consistent after a
 * kill at any instruction:
 *
 * - An entry has two words.  The pool slot is written while the entry is free;
 *   then one atomic store of the other word (block number, state, check) makes
 *   the entry count, and one atomic store ends it.  An entry is entered after its
 *   bytes are there, and taken out before other bytes come.
 * - An entry whose pool slot does not hold its block (any more) is stale: the
 *   block was freed.
 * - The file belongs to the pool's last open if the pool's header names it.  The
 *   name is a random number, another one for each open: the file has first the
 *   old and the new one, then the pool's header the new one, then the file the new one alone.
 *
 *	0		header (4 KiB): magic, version, UUIDs, frames, checksum; then the two names
 *	4 KiB		table of entries, 16 bytes each
 *	n * 2 MiB	frame 0, frame 1, ...
 *
 * A *frame* is the place of one block.  Entries are in the host's byte order.
 * No locks: one thread at a time, but for entries of different frames.
 */
#ifndef TARGET_TIER_MEMORY_H
#define TARGET_TIER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct memory_header;
struct memory_entry;

struct memory {
	char *path;	/* NULL: anonymous */
	int lock_fd;	/* holds the lock; never leaves this process */
	int fd;		/* another open file: one that was handed out keeps no lock alive */
	uint8_t *base;
	uint64_t size;	/* bytes, of the file */
	uint32_t frames;
	uint64_t data;	/* offset of frame 0 */
	uint8_t uuid[16];
	struct memory_header *header;
	struct memory_entry *table;
};
#define MEMORY_NONE ((struct memory){ .lock_fd = -1, .fd = -1 })

/* Memory of this process alone, taken as it is touched. */
int memory_anonymous(struct memory *memory, const uint8_t uuid[16], uint32_t frames);
/*
 * Makes the file, preallocated, in place of one that is there and in nobody's use.  folder: NULL for a hugetlbfs mount with enough free huge
 * pages, or else /dev/shm.  name: the state that the pool's header is about to name.  Says what is wrong: -ENOTSUP (the
 * folder is not memory), -ENOSPC, -EBUSY, -EPERM (somebody else's file).
 */
int memory_create(struct memory *memory, const char *folder, const uint8_t uuid[16], uint32_t frames, uint64_t name);
/* Opens and checks what is there.  -ENOENT, not said: nothing.  1: it is no use (foreign, damaged, of another version; said).  -EBUSY, -EPERM, ... */
int memory_open(struct memory *memory, const char *path, const uint8_t uuid[16]);
void memory_close(struct memory *memory);
/* Closes, and removes the file. */
void memory_remove(struct memory *memory);

/* Whether the file has the state that the pool's header names, in this boot of the host. */
bool memory_is(const struct memory *memory, uint64_t name);
/*
 * The three steps from one state to another: the pool's header names this one, is about to name another one, does so.
 */
void memory_settle_name(struct memory *memory, uint64_t name);
void memory_rename(struct memory *memory, uint64_t name);
void memory_renamed(struct memory *memory);

struct memory_content {
	uint64_t block;
	uint32_t slot;	/* of the pool */
	bool dirty;	/* has bytes that the pool may lack */
};
/* 1: the frame holds a block; 0: it is free; -EUCLEAN: the entry cannot be. */
int memory_get(const struct memory *memory, uint32_t frame, struct memory_content *content);
/* The frame, which was free, holds the block's bytes. */
void memory_enter(struct memory *memory, uint32_t frame, const struct memory_content *content);
/* The same block, dirty or not any more. */
void memory_mark(struct memory *memory, uint32_t frame, const struct memory_content *content);
void memory_forget(struct memory *memory, uint32_t frame);

uint64_t memory_offset(const struct memory *memory, uint32_t frame);
void *memory_address(const struct memory *memory, uint32_t frame);

#endif
