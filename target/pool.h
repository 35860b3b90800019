/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool - a brick's store: 2 MiB slots in a file or device, and one 8-byte slot
 * word for each, which says whose block it holds.
 *
 * The slot word is block number (43 bits), state, and a 16-bit check over (ID,
 * state, slot, pool UUID); it is written with one atomic, persisted store, and
 * that store is the commit point of alloc and of free.  The order of a slot's
 * life: LIVE -> maps gone -> FREE_DIRTY persisted -> zeroes persisted ->
 * FREE_ZERO -> LIVE.  Slot words stand in one table per chunk, so that a pool
 * can grow.  Two slots with one ID, or a bad check, are damage: pool_open()
 * refuses and names the file, the slot and the fault; nothing is guessed.
 *
 * A failed write-back (msync) latches: pool_persist(), pool_take() and
 * pool_release() fail with -EIO until the pool is opened again.
 *
 * Threads: everything but create, grow, open and close may be called from any
 * thread.  Messages for people go through report().
 */
#ifndef TARGET_POOL_H
#define TARGET_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_SLOT_SHIFT 21
#define POOL_SLOT_SIZE (1ull << POOL_SLOT_SHIFT)

struct pool;

/*
 * size: bytes of blocks to export, rounded up to whole slots (headers and tables come on top). -EEXIST, -ENOSPC, ...
 * Volatile: the operator declares that the pool's memory outlives power by itself, or need not: persisting only orders.
 */
int pool_create(const char *path, uint64_t size);
int pool_create_volatile(const char *path, uint64_t size);
/* Enlarges the pool to export size bytes in all, preallocated. Not while it is served (-EBUSY). */
int pool_grow(const char *path, uint64_t size);

/*
 * Opens, locks and checks the pool, and says what is wrong with it: -EINVAL (not
 * a pool), -ENOTSUP (another version, unknown features), -EUCLEAN (damaged or
 * truncated), -EBUSY (another process has it), or what open(2) returns.
 * Nothing is changed in it until pool_begin(): pool_each(), pool_put() and
 * pool_persist() may be called in between, to bring home what an earlier brickd
 * had in memory; pool_close() then leaves it as it was.
 *
 * SIGBUS in its mapping turns into -EIO inside pool_copy(), pool_fill() and the
 * pool's own work, and latches; elsewhere it names the file and ends the process.
 */
int pool_load(struct pool **pool, const char *path);
/*
 * Writes into the header that the pool is in use, and how; it can be served from
 * here on.  The loss epoch is raised when bytes that were placed and not
 * persisted may be gone: the last end was not clean, and the host was booted
 * since, or this open or the last one is in fault mode, or the memory that it had
 * is not there any more; or a persist had failed.
 *
 * memory: names the state of the memory file that blocks are in from here on, a
 * random number; 0: none, the pool itself is all.  kept: the one that
 * pool_memory() names is at hand, with all that was in it.
 */
struct pool_use {
	bool fault;
	uint64_t memory;
	const char *memory_path;	/* absolute; it can be found there by whoever opens the pool next */
	bool kept;
};
int pool_begin(struct pool *pool, const struct pool_use *use);
bool pool_begun(const struct pool *pool);
/* Both, for a pool without memory beside it. */
int pool_open(struct pool **pool, const char *path, bool fault);
/*
 * The memory that the last open had, or that this one was given; 0: none, or it
 * ended clean.  pool_leave_memory() records that it is not needed any more: all
 * that was in it is durable in the pool.
 */
uint64_t pool_memory(const struct pool *pool);
int pool_leave_memory(struct pool *pool);
/* Where a memory file of this pool is, or was at some time; "": it never had one. */
const char *pool_memory_path(const struct pool *pool);
/* Persists everything, records a clean end (not after a failure, nor while memory has what the pool lacks), unlocks. */
void pool_close(struct pool *pool);
/* Persists every block, as if each were named in pool_persist(). */
int pool_persist_all(struct pool *pool);

/* What the pool's bytes are in. */
enum pool_kind {
	POOL_ON_DISK,		/* a plain file: pages that the kernel does not let an RDMA device write to for long */
	POOL_ON_TMPFS,		/* memory that dies with the host: tmpfs, ramfs */
	POOL_ON_HUGETLBFS,	/* the same */
	POOL_ON_FSDAX,		/* persistent memory; an RDMA device needs on-demand paging to write to it */
	POOL_ON_DEVDAX,		/* persistent memory */
};
enum pool_kind pool_kind(const struct pool *pool);
bool pool_is_volatile(const struct pool *pool);

const uint8_t *pool_uuid(const struct pool *pool);		/* 16 bytes */
uint64_t pool_instance(const struct pool *pool);		/* raised and persisted at every open */
uint64_t pool_loss_epoch(const struct pool *pool);
bool pool_unclean(const struct pool *pool);			/* the end before this open was not clean */
uint32_t pool_slots(const struct pool *pool);
/* Free in all (zeroed, waiting for it, or being zeroed); and ready at once. */
uint32_t pool_free_slots(struct pool *pool);
uint32_t pool_zeroed_slots(struct pool *pool);
bool pool_failed(const struct pool *pool);
/* Makes the pool fail, as a failed write-back does: memory beside it broke. what: for people. */
void pool_fail(struct pool *pool, const char *what, int error);
/* The block of a live slot. */
uint64_t pool_block(struct pool *pool, uint32_t slot);
const char *pool_path(const struct pool *pool);

/* Calls fn for every live slot, in slot order; block is address >> 21.  Stops at the first non-zero return, and returns it. */
int pool_each(struct pool *pool, int (*fn)(void *arg, uint32_t slot, uint64_t block), void *arg);

/*
 * Gives the block a zeroed slot, and returns when that is durable.  May zero a
 * slot itself when the background has none ready (slow).  -ENOSPC, -EIO.
 */
int pool_take(struct pool *pool, uint64_t block, uint32_t *slot);
/* Takes the slot back, and returns when that is durable; zeroing follows in the background. -EINVAL: it is not live. */
int pool_release(struct pool *pool, uint32_t slot);
/*
 * The same for n at a time, with one sync for all whose slot words are
 * neighbours: what a batch of alloc or free wants.  status[i]: 0 or a negative
 * errno.  The slots of one batch must differ.  Returns 0, or -ENOMEM when
 * nothing was done.
 */
int pool_take_many(struct pool *pool, const uint64_t *blocks, size_t n, uint32_t *slots, int *status);
int pool_release_many(struct pool *pool, const uint32_t *slots, size_t n, int *status);

/* Where a slot lies: in this process, and in the pool's file of pool_file_size() bytes. */
void *pool_address(const struct pool *pool, uint32_t slot);
/* True if a byte of it is persisted by its cache line (persistent memory); false: by msync(2) of its page. */
bool pool_by_line(const struct pool *pool);
uint64_t pool_offset(const struct pool *pool, uint32_t slot);
uint64_t pool_file_size(const struct pool *pool);
/* The pool's file; may be passed to another process, which keeps no lock alive by it. */
int pool_fd(const struct pool *pool);

/* Bytes [offset, offset + length) of the slot are in the persistence domain when this returns 0. */
int pool_persist(struct pool *pool, uint32_t slot, uint32_t offset, uint32_t length);

/*
 * memcpy and memset into or out of pool memory that survive a failing device:
 * -EIO instead of SIGBUS.  Only for one direction at a time; either pointer may be in the pool.
 */
int pool_copy(void *to, const void *from, size_t length);
int pool_fill(void *to, int byte, size_t length);
/*
 * Bytes of a slot out of and into the pool; for files by pread(2) and pwrite(2), so that a block that is overwritten
 * is not read first.  pool_put() is not durable before pool_persist().  -EIO; a put that fails latches.
 */
int pool_get(struct pool *pool, uint32_t slot, uint32_t offset, void *to, uint32_t length);
int pool_put(struct pool *pool, uint32_t slot, uint32_t offset, const void *from, uint32_t length);

/*
 * For tests.  The first lets so many persists of this process succeed and fails
 * every later one, as a dying device would; -1 ends that.  The second calls hook
 * before (done false) and after (true) each range of a pool's mapping becomes
 * durable; set it while no pool is open.  The third puts something else in the
 * place of msync(2), and of the question to the pool's own open file whether a
 * write-back has failed that it was not told of; both 0, or -1 and errno.  NULL
 * ends that.
 */
void pool_test_fail_persist_after(long persists);
typedef void (*pool_test_hook)(void *arg, const uint8_t *base, uint64_t offset, uint64_t length, bool done);
void pool_test_watch_persists(pool_test_hook hook, void *arg);
struct pool_test_disk {
	int (*sync)(void *from, size_t length);
	int (*ask)(int fd);
};
void pool_test_replace_disk(const struct pool_test_disk *disk);

#endif
