/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format - what lies on the bricks: addresses, superblock, log segments, batches
 * and records, as brickfs-format(5) describes them.
 *
 * One encoder and one decoder for each.  All integers are little endian.
 * Decoders take bytes that may be damaged or hostile: they check magic, lengths,
 * ranges and checksums (XXH3, 64 bits) and return 0 or -EUCLEAN.  Nothing here does
 * I/O or knows of anything in memory.
 */
#ifndef BRICKFS_FORMAT_H
#define BRICKFS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define FMT_BLOCK_SHIFT 21
#define FMT_BLOCK (1ull << FMT_BLOCK_SHIFT)
#define FMT_PAGE_SHIFT 12
#define FMT_PAGE (1u << FMT_PAGE_SHIFT)
#define FMT_PAGES_PER_BLOCK (FMT_BLOCK / FMT_PAGE)

/* The top four bits of an address say what its block is; the bits between, its number. */
#define FMT_KIND_SHIFT 60
enum fmt_kind { FMT_SUPER = 1, FMT_LOG = 2, FMT_PACKED = 3, FMT_FILE = 4 };
#define FMT_NUMBER_BITS (FMT_KIND_SHIFT - FMT_BLOCK_SHIFT)
#define FMT_NUMBER_MAX (1ull << FMT_NUMBER_BITS)

static inline uint64_t fmt_addr(enum fmt_kind kind, uint64_t number)
{
	return (uint64_t)kind << FMT_KIND_SHIFT | number << FMT_BLOCK_SHIFT;
}
static inline unsigned fmt_kind(uint64_t addr)
{
	return addr >> FMT_KIND_SHIFT;
}
static inline uint64_t fmt_number(uint64_t addr)
{
	return (addr & ((1ull << FMT_KIND_SHIFT) - 1)) >> FMT_BLOCK_SHIFT;
}

#define FMT_SUPER_ADDR ((uint64_t)FMT_SUPER << FMT_KIND_SHIFT)

/* ---- the superblock: two copies of a page, at offsets 0 and 4096; of each brick the one that does not count is written */

#define FMT_VERSION 1
#define FMT_BRICKS_MAX 32
#define FMT_ENDPOINT_MAX 96	/* with its NUL; a longer endpoint is not kept: it is a hint */
#define FMT_LABEL_MAX 64

#define FMT_EPOCH_MAX (1ull << 62)

struct fmt_super {
	uint8_t uuid[16];
	char label[FMT_LABEL_MAX];
	uint64_t compat, ro_compat, incompat;	/* feature flags; none is defined yet */
	uint64_t sequence;			/* of this copy */
	uint64_t epoch;
	bool clean;				/* the log ends where end_* say */
	uint32_t copies;			/* 1 */
	uint64_t end_segment, end_offset, end_batch;
	int64_t created;			/* seconds since 1970 */
	uint64_t repair_packed, repair_file, repair_log;	/* a repair under way takes its blocks from these numbers on; 0: there is none */
	uint32_t brick_count;
	struct {
		uint8_t uuid[16];
		char endpoint[FMT_ENDPOINT_MAX];
	} brick[FMT_BRICKS_MAX];
};

void fmt_put_super(uint8_t page[FMT_PAGE], const struct fmt_super *super);
int fmt_get_super(const uint8_t page[FMT_PAGE], struct fmt_super *super);
/* True if the page carries the magic at all: a brickfs superblock, however damaged. */
bool fmt_super_magic(const uint8_t page[FMT_PAGE]);

/* ---- log segments */

#define FMT_SEGMENT_HEADER 128
#define FMT_NOTED_LABEL 24	/* bytes of a label, without its NUL */
#define FMT_BATCH_HEADER 64
#define FMT_BATCH_ALIGN 64
#define FMT_BATCH_MAX (FMT_BLOCK - FMT_SEGMENT_HEADER - FMT_BATCH_HEADER)	/* payload */

enum fmt_segment_kind { FMT_HEAD = 1, FMT_CHECKPOINT = 2 };

struct fmt_segment {
	uint8_t uuid[16];		/* of the filesystem */
	uint64_t epoch;
	uint64_t number;
	uint32_t kind;
	uint64_t prev, prev_end;	/* head: the segment before, and where it ends; 0: none */
	uint64_t first_batch;		/* number of the batch that stands first */
	/* What a lost superblock is made anew from; brick_count 0: of a version that did not note it. */
	uint32_t brick_count;
	uint64_t bricks;		/* fmt_brick_set() of their UUIDs */
	int64_t created;
	char label[FMT_NOTED_LABEL + 1];/* empty when it is longer */
};

/* The same for the same UUIDs in any order. */
uint64_t fmt_brick_set(const uint8_t (*uuid)[16], uint32_t count);

void fmt_put_segment(uint8_t buf[FMT_SEGMENT_HEADER], const struct fmt_segment *segment);
int fmt_get_segment(const uint8_t buf[FMT_SEGMENT_HEADER], struct fmt_segment *segment);

struct fmt_batch {
	uint32_t length;		/* bytes of records behind the header */
	uint8_t uuid[16];
	uint64_t epoch;
	uint64_t number;
	uint64_t durable_through;	/* last batch known durable when this one was written */
	uint64_t segment;
};

/* Fills in the header in front of length bytes of records, checksum over all. */
void fmt_put_batch(uint8_t *buf, const struct fmt_batch *batch);
/* The batch that begins at buf, of which room bytes can be read. */
int fmt_get_batch(const uint8_t *buf, size_t room, struct fmt_batch *batch);
static inline uint64_t fmt_batch_size(uint32_t length)
{
	return (FMT_BATCH_HEADER + (uint64_t)length + FMT_BATCH_ALIGN - 1) & ~(uint64_t)(FMT_BATCH_ALIGN - 1);
}

uint64_t fmt_checksum(const void *data, size_t length);

/* ---- records: 8 bytes of header (type, length), padded to 8 */

enum fmt_record_type {
	FMT_INODE = 1,
	FMT_INODE_GONE = 2,
	FMT_DENTRY = 3,
	FMT_DENTRY_GONE = 4,
	FMT_XATTR = 5,
	FMT_XATTR_GONE = 6,
	FMT_MARKS = 7,
	FMT_CHECKPOINT_DONE = 8,
};

enum fmt_form { FMT_INLINE = 0, FMT_RUN = 1, FMT_RANGES = 2 };

#define FMT_INLINE_MAX 512		/* bytes of a file's data in its record */
#define FMT_SYMLINK_MAX 4095
#define FMT_RUN_PAGES_MAX 256		/* 1 MiB: beyond, a file has blocks of its own */
#define FMT_RANGES_MAX 4096
#define FMT_FILE_BLOCKS (1ull << 32)	/* 8 PiB */
#define FMT_XATTR_MAX 65536		/* bytes of a value */
#define FMT_COOKIE_FIRST 3		/* 1 and 2 are "." and ".." */
#define FMT_COOKIE_MAX (1ull << 62)	/* they are positions of a directory: off_t */

struct fmt_range {
	uint32_t fblock;		/* first file block */
	uint32_t count;			/* blocks */
	uint64_t base;			/* address of the first */
};

struct fmt_inode {
	uint64_t ino;
	uint32_t mode, nlink, uid, gid;
	uint64_t rdev;
	uint64_t size;			/* bytes; directories: 0 */
	uint64_t blocks;		/* FMT_RANGES: lower bound of existing blocks below max(size, alloc_end) */
	uint64_t alloc_end;		/* bytes; storage up to here was asked for (fallocate) */
	uint64_t next_cookie;		/* directories */
	struct timespec atime, mtime, ctime;
	uint32_t form;
	uint32_t length;		/* FMT_INLINE: bytes; FMT_RUN: pages; FMT_RANGES: ranges */
	uint64_t run;			/* FMT_RUN: address of the first page */
	const uint8_t *data;		/* FMT_INLINE */
	const struct fmt_range *ranges;	/* put: the ranges; get: NULL, see fmt_get_range() */
	const uint8_t *raw_ranges;	/* get */
};

struct fmt_dentry {
	uint64_t dir, cookie, ino;
	struct timespec time;
	uint8_t type;			/* DT_* of dirent.h */
	uint8_t name_length;
	const char *name;		/* no NUL */
};

struct fmt_dentry_gone { uint64_t dir, cookie; struct timespec time; };

struct fmt_xattr {
	uint64_t ino;
	struct timespec time;
	uint8_t name_length;
	const char *name;		/* no NUL */
	uint32_t length;		/* of the value; XATTR_GONE: 0 */
	const uint8_t *value;
};

enum fmt_mark { FMT_MARK_INO, FMT_MARK_LOG, FMT_MARK_PACKED, FMT_MARK_FILE, FMT_MARKS_COUNT };
static inline uint64_t fmt_mark_max(enum fmt_mark mark)
{
	return mark == FMT_MARK_INO ? 1ull << 62 : FMT_NUMBER_MAX;
}
/* Numbers below these may have been used: the next mount begins here. */
struct fmt_marks { uint64_t mark[FMT_MARKS_COUNT]; };

struct fmt_checkpoint_segment { uint64_t number, end, checksum; };	/* checksum over [0, end) */
struct fmt_checkpoint {
	uint64_t s0;			/* the head segment from which replay goes on */
	uint32_t count;
	const struct fmt_checkpoint_segment *segments;	/* put */
	const uint8_t *raw;		/* get */
};

/* Sizes of what put will write, header and padding included. */
size_t fmt_inode_size(uint32_t form, uint32_t length);
size_t fmt_dentry_size(unsigned name_length);
size_t fmt_xattr_size(unsigned name_length, uint32_t length);
#define FMT_GONE_SIZE 16
#define FMT_DENTRY_GONE_SIZE 40
#define FMT_MARKS_SIZE (8 + 8 * FMT_MARKS_COUNT)
size_t fmt_checkpoint_size(uint32_t count);

/* Each returns the bytes written. */
size_t fmt_put_inode(uint8_t *buf, const struct fmt_inode *inode);
size_t fmt_put_gone(uint8_t *buf, uint64_t ino);
size_t fmt_put_dentry(uint8_t *buf, const struct fmt_dentry *dentry);
size_t fmt_put_dentry_gone(uint8_t *buf, const struct fmt_dentry_gone *gone);
size_t fmt_put_xattr(uint8_t *buf, const struct fmt_xattr *xattr, bool gone);
size_t fmt_put_marks(uint8_t *buf, const struct fmt_marks *marks);
size_t fmt_put_checkpoint(uint8_t *buf, const struct fmt_checkpoint *checkpoint);

struct fmt_record {
	enum fmt_record_type type;
	union {
		struct fmt_inode inode;
		uint64_t gone;
		struct fmt_dentry dentry;
		struct fmt_dentry_gone dentry_gone;
		struct fmt_xattr xattr;		/* and XATTR_GONE */
		struct fmt_marks marks;
		struct fmt_checkpoint checkpoint;
	};
};

/* The record at buf, of which room bytes can be read; *size is how far the next one is. Pointers in it go into buf. */
int fmt_get_record(const uint8_t *buf, size_t room, struct fmt_record *record, size_t *size);
/* True if something in the header says that a batch of that segment begins here, however damaged. */
bool fmt_like_batch(const uint8_t *buf, const uint8_t uuid[16], uint64_t segment);
/* The number that a damaged record seems to be about (inode or directory), 0 if it is too short: for texts only. */
void fmt_peek_record(const uint8_t *buf, size_t room, uint64_t *key);
void fmt_get_range(const uint8_t *raw, uint32_t index, struct fmt_range *range);
void fmt_get_checkpoint_segment(const uint8_t *raw, uint32_t index, struct fmt_checkpoint_segment *segment);

#endif
