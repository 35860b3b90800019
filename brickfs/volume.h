/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume - one space of block addresses over N bricks.
 *
 * Knows which brick holds which address (learned from list, kept by alloc and
 * free, never stored), keeps a bounded cache of maps, owns the sessions and
 * their lanes, remembers what was written and not persisted, and reconnects.
 * It knows nothing of files, and not what kind of brick it talks to: a
 * `struct backend` (backend.h) is libbrick or the simulated brick of the tests.
 *
 * Failure.  While a brick is away, calls wait, up to options.timeo_ms, and are
 * then sent again; what cannot be known (the outcome of an alloc or free) is
 * looked up by list under the superblock's exclusive map.  When a brick stays
 * away, or comes back with another loss_epoch while data was placed on it and not
 * persisted, or a persist fails, or the fence says that the volume has another owner, the
 * volume *latches*: vol_error() is negative for ever, vol_persist(), vol_commit(), vol_alloc() and
 * vol_release() fail with it; reads go on where they can (not after the fence).
 *
 * Threads: every function from vol_read_on() on, from any thread.  Nothing blocks
 * under a lock that another address's I/O needs.
 */
#ifndef BRICKFS_VOLUME_H
#define BRICKFS_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"

#define VOL_BLOCK_SHIFT 21
#define VOL_BLOCK_SIZE (1ull << VOL_BLOCK_SHIFT)
#define VOL_BRICKS_MAX 64

struct volume;

struct vol_options {
	const struct backend *backend;
	void *backend_context;
	unsigned lanes;		/* of each brick, 0: 4 */
	unsigned maps;		/* blocks mapped at once on each brick, 0: as granted; the smaller of both, less while the brick is short of memory */
	unsigned timeo_ms;	/* how long a brick may be away, 0: 60000 */
	uint64_t list_bytes;	/* memory that what the bricks list may take, 0: a quarter of this host's, or of what the process may have */
	uint64_t private_addr;	/* the one address that every brick has a block of its own under (the superblock) */
	const char *name;	/* shown to people at the brick; NULL: the backend's default */
	/*
	 * Told, as a sentence that names the brick, what a brick refused that it should not have, and why the volume latched; by the
	 * thread that met it, which may have locks of the volume.  May be NULL.
	 */
	void (*tell)(void *arg, bool latched, const char *text);
	void *tell_arg;
};

/*
 * Error text: every function that returns a negative errno for a reason that a
 * person can act on (connect, lock, list, a latch) leaves a sentence here.
 */
const char *vol_text(struct volume *vol);

/* The backend's own words for what this thread's last call there failed with, or errno's. */
const char *vol_reason(struct volume *vol, int error);

int vol_new(struct volume **vol, const struct vol_options *options);
/* Ends everything: what is dirty is not persisted (call vol_persist() first), maps go CLEAN where they are. */
void vol_delete(struct volume *vol);
/* Tests: ends the sessions as a crash of this process would; nothing is unmapped CLEAN. */
void vol_abandon(struct volume *vol);

/* Opens a session. *brick is its index, also with -EEXIST: a brick of that UUID is connected already. */
int vol_connect(struct volume *vol, const char *endpoint, unsigned *brick);
unsigned vol_bricks(const struct volume *vol);
const struct backend_info *vol_brick_info(const struct volume *vol, unsigned brick);	/* as of vol_connect() */
const char *vol_brick_endpoint(const struct volume *vol, unsigned brick);

/*
 * Maps private_addr on every connected brick, in order of brick UUID: exclusive,
 * or shared and read-only.  All or none.  -EBUSY: a holder that is alive (its keepalives
 * are heard) has it, vol_text() says who; waits wait_ms, and beyond that for a lease to run out,
 * for one that is being released or is not heard.  -ENOENT: a brick has no such block.
 */
int vol_lock(struct volume *vol, bool exclusive, unsigned wait_ms);
void vol_unlock(struct volume *vol);

/*
 * After a lost session is opened again, private_addr is mapped first, its first
 * 2 * 4096 bytes at offsets 0 and 4096 are read, and the fence decides: 0, or the
 * volume latches with -ESTALE.  Without a fence the volume is never reconnected (-EIO).
 */
typedef int (*vol_fence)(void *arg, const uint8_t uuid[16], const void *page0, const void *page1);
void vol_set_fence(struct volume *vol, vol_fence fence, void *arg);

/*
 * Lists every brick, and notices a change under way.  An address other than private_addr
 * on two bricks is damage (-EUCLEAN, vol_text() names it): *duplicates counts them; the
 * map then has the one of the lower brick index.  -EPROTO: what a brick lists cannot be, -ENOMEM: or is more than
 * there is memory for.
 */
int vol_list(struct volume *vol, uint64_t *duplicates);
/* fsck: the others of such addresses, as the last vol_list() met them. */
struct vol_twin { uint64_t addr; unsigned brick; };
size_t vol_twins(const struct volume *vol, const struct vol_twin **twins);
/* fsck: from now on that block is the one on that brick (I/O, release); the other one stays where it is. */
int vol_prefer(struct volume *vol, uint64_t addr, unsigned brick);

uint64_t vol_capacity(const struct volume *vol);	/* blocks, all bricks */
uint64_t vol_free_blocks(const struct volume *vol);	/* blocks not allocated, by our own count */
/* private_addr is not among the blocks of the volume: vol_has() is false for it, vol_next() passes over it. */
bool vol_has(struct volume *vol, uint64_t addr);
uint64_t vol_count(struct volume *vol, uint64_t addr, uint64_t blocks);	/* existing ones of so many from addr on */
bool vol_next(struct volume *vol, uint64_t from, uint64_t *addr);	/* first existing address >= from */
int vol_where(struct volume *vol, uint64_t addr);	/* brick index, or -ENOENT */

/* I/O on private_addr of one brick, with it mapped by vol_lock(). write persists before it returns. */
int vol_read_on(struct volume *vol, unsigned brick, uint32_t offset, void *buffer, uint32_t length);
int vol_write_on(struct volume *vol, unsigned brick, uint32_t offset, const void *buffer, uint32_t length);
/* mkfs: private_addr comes to life on that brick (-EEXIST is fine). */
int vol_alloc_on(struct volume *vol, unsigned brick);
/* Takes that back, for a mkfs that is refused after all; who maps the block by now keeps it. */
void vol_unalloc_on(struct volume *vol, unsigned brick);
/* mkfs -f: frees every block of the volume but private_addr. */
int vol_release_all(struct volume *vol);

/*
 * alloc: all or nothing; striped over the bricks by block number, elsewhere when
 * a brick is full.  -ENOSPC.  Blocks read as zeroes.  release: all; a block that is
 * not there is no error.  Both take any number and batch; both are durable when they return 0.
 */
int vol_alloc(struct volume *vol, const uint64_t *addrs, size_t n);
int vol_release(struct volume *vol, const uint64_t *addrs, size_t n);

struct vol_io {
	uint64_t addr;		/* first byte; the range lies in one block */
	void *buffer;		/* not written to when write is set */
	uint32_t length;	/* bytes */
	bool write;
};

/*
 * Memory that I/O goes from and into again and again: over verbs it then goes without a copy, and without
 * being registered each time.  Known to every session from now on, also after a reconnect.
 * add: the caller's memory, which he removes before he frees it; an error is why a brick's session could not
 * register it: it counts as added all the same, and I/O with it works.  -ENOMEM may also say that it was not added, which removing forgives.
 * alloc: pages of zeroes; NULL: no memory.  remove also gives those back; NULL is ignored.  vol_delete() gives back what is left.
 */
int vol_buffer_add(struct volume *vol, void *memory, size_t size);
void *vol_buffer_alloc(struct volume *vol, size_t size);
void vol_buffer_remove(struct volume *vol, void *memory);

/* Does all of them at once (order among them is undefined) and waits for all: 0, or the first error. -ENOENT: no such block. */
int vol_io(struct volume *vol, const struct vol_io *ios, size_t n);
/* Writes, with a persist of exactly those ranges behind them: durable when it returns 0. For the log. */
int vol_commit(struct volume *vol, const struct vol_io *ios, size_t n);
/* Every write that vol_io() had completed when this was called is durable when it returns 0. */
int vol_persist(struct volume *vol);
/* True if some write is not known durable. */
bool vol_dirty(struct volume *vol);
/* 0, or the negative errno with which the volume latched. */
int vol_error(const struct volume *vol);
/* Latches from outside (a test, or a log that failed). The first one stays. */
void vol_fail(struct volume *vol, int error, const char *text);
/*
 * Latches, and more than that: when it returns, no I/O of this volume is on its way to a brick, and none begins, reads included.
 * Leases are still held.  vol_delete() then ends the sessions without unmapping anything CLEAN but private_addr.
 */
void vol_stop(struct volume *vol, const char *text);
/*
 * Holds the leases, and mends idle lanes that broke.  For a background thread, at least every
 * third of the smallest lease (vol_lease_ms()); never waits for lanes in use, which hold the lease themselves.
 */
void vol_keepalive(struct volume *vol);
/*
 * Looks, without sending anything, whether bricks want memory back, and gives it back: the least recently used
 * maps that nobody has pinned.  For a background thread, a few times a second.  May wait as I/O does.
 */
void vol_give_back(struct volume *vol);
unsigned vol_lease_ms(const struct volume *vol);	/* the smallest of all bricks; 0: no brick */

#endif
