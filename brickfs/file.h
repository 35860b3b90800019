/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file - the data of files: where a byte lies, and the changes of that shape.
 *
 * shape.c finds and makes storage, file.c reads and writes, truncate.c shrinks,
 * grows, punches and preallocates.  A file's form moves upwards only: inline in its
 * record, one run of pages in a packed block, ranges of blocks of its own;
 * truncation to 0 goes back.  Bytes that no storage covers read as zeroes.
 *
 * Unless said otherwise the caller holds inode->io and a pin, and not fs->lock.
 */
#ifndef BRICKFS_FILE_H
#define BRICKFS_FILE_H

#include "fs.h"

#define FILE_IOS 64		/* pieces in one list */

struct io_list {
	struct vol_io io[FILE_IOS];
	size_t n;
};

/* 2 MiB of zeroes, to write from. Nothing else is ever in there; not const, as memory that is to be registered must not be. */
extern uint8_t file_zeroes[FMT_BLOCK];

static inline uint64_t shape_run_bytes(const struct inode *inode)
{
	return (uint64_t)inode->length << FMT_PAGE_SHIFT;
}

/* Address of a file block, or 0: no range covers it. */
uint64_t shape_addr(const struct inode *inode, uint64_t fblock);
/* The same, 0 also if the block does not exist or is being punched out. */
uint64_t shape_existing(struct fs *fs, const struct inode *inode, uint64_t fblock);
/* True if all of [from, to) has storage that can be written in place. */
bool shape_covers(struct fs *fs, const struct inode *inode, uint64_t from, uint64_t to);

/* The next four: io exclusive. */
/* FMT_RANGES: ranges and blocks for [from, to). */
int shape_fill(struct fs *fs, struct inode *inode, uint64_t from, uint64_t to);
/* To a run of at least `bytes`, with what the file holds, and data (may be NULL) laid over it at offset. */
int shape_to_run(struct fs *fs, struct inode *inode, uint64_t bytes, const void *data, size_t size, uint64_t offset);
/* To ranges, with what the file holds. */
int shape_to_ranges(struct fs *fs, struct inode *inode);

/* Something failed: blocks that were made for it go. */
void shape_give_back(struct fs *fs, struct inode *inode);

/* Writes zeroes over existing bytes of [from, to). */
int file_zero(struct fs *fs, struct inode *inode, uint64_t from, uint64_t to);
/* Takes io exclusive itself. */
int file_truncate(struct fs *fs, struct inode *inode, uint64_t size);
/* Takes io exclusive with no drops pending. */
int file_lock_settled(struct fs *fs, struct inode *inode);
/* Under fs->lock, after a change of data: times, dirty. -ENOMEM */
int file_touch(struct fs *fs, struct inode *inode);

#endif
