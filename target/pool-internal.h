/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool-internal - what the files of the pool share: the mapped file (pool-file.c)
 * and what makes it durable (pool-sync.c), its making and growing (pool-create.c),
 * zeroing (pool-zero.c), and the life of slots (pool.c).
 *
 * One lock, pool->lock, guards the lists and the states of slots in memory.  It
 * is never held over anything that touches the mapping or the device.
 */
#ifndef TARGET_POOL_INTERNAL_H
#define TARGET_POOL_INTERNAL_H

#include <libpmem2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "pool-format.h"

/* States of a slot in memory alone, beyond enum pool_state. */
enum {
	POOL_ZEROING = 4,	/* someone zeroes it; FREE_DIRTY in the file */
	POOL_CHANGING = 5,	/* between two states; the file says one or the other */
};

struct pool {
	char *path;
	int lock_fd;		/* holds the lock, and is asked for failed write-backs; never leaves this process */
	int fd;			/* another open file: one that was handed out keeps no lock alive */
	bool devdax;
	enum pool_kind kind;
	uint64_t file_size;	/* bytes */

	struct pmem2_source *source;
	struct pmem2_map *map;
	uint8_t *base;
	size_t map_size;
	bool by_page;		/* persisted by msync; else by cache lines */
	pmem2_persist_fn persist;
	pmem2_memset_fn memset;

	struct pool_header header;
	unsigned copy;		/* the header copy to overwrite first: the one that is older or damaged */
	uint32_t slots;
	uint32_t first[POOL_CHUNKS_MAX];	/* each chunk's first slot */
	uint64_t end;		/* of the last chunk */
	bool unclean;		/* the end before this start was not clean */
	bool same_boot;		/* the host was not booted since */
	uint8_t boot_id[16];	/* of the host, now */
	bool serving;		/* the file's header says that the pool is open */
	atomic_bool failed;
	pthread_mutex_t told;	/* lock_fd is asked by one thread at a time */
	atomic_bool no_zero_range;	/* the filesystem has no FALLOC_FL_ZERO_RANGE */

	pthread_mutex_t lock;
	pthread_cond_t work;	/* dirty slots, or stop */
	pthread_cond_t ready;	/* zeroed slots, or failure */
	bool running, stop;
	pthread_t zeroer;
	uint64_t *block;	/* of each live slot */
	uint8_t *state;
	uint32_t *zero, zero_count;	/* stack of zeroed slots */
	uint32_t *dirty, dirty_head, dirty_count;	/* ring of slots to zero */
	uint32_t zeroing;	/* slots in POOL_ZEROING */
	uint32_t used;		/* live, or on the way to or from it */
};

/* pool-file.c */

/* Allocates, opens (flags as for open(2)) and locks; reports what is wrong. */
int pool_file_open(struct pool **pool, const char *path, int flags);
/* Maps the file's first size bytes, in place of what was mapped. */
int pool_file_map(struct pool *pool, uint64_t size);
/* Says that the pool's bytes die with the host, if they do and nobody declared it. */
void pool_file_warn(const struct pool *pool);
/* Undoes both, and frees. NULL is fine. */
void pool_file_close(struct pool *pool);
/* Reads and checks the header; fills header, slots, first, end, copy. */
int pool_file_read_header(struct pool *pool);
/* Writes pool->header to both copies.  Only while no other thread uses the pool. */
int pool_file_write_header(struct pool *pool);
void pool_file_set_chunks(struct pool *pool, uint64_t end, uint32_t slots);
/* Stores pool->header to one of its copies, not durable yet. */
int pool_store_header(struct pool *pool, unsigned copy);

uint64_t pool_word_offset(const struct pool *pool, uint32_t slot);
/* Stores the words of n slots (blocks may be NULL: 0) and persists them, one sync for each run of neighbours: best in slot order. */
int pool_write_words(struct pool *pool, const uint32_t *slots, const uint64_t *blocks, size_t n, enum pool_state state);

/* pool-sync.c */

/*
 * Every persistent effect of the pool goes through here: bytes of the mapping are durable when it returns 0.  -EIO: it
 * failed, or another one did, at any time before this one returned.
 */
int pool_file_persist(struct pool *pool, uint64_t offset, uint64_t length);
/* Latches, and says so once. */
void pool_file_fail(struct pool *pool, const char *what, int error);

/* pool-zero.c */

/* Zeroes a slot that is FREE_DIRTY in the file, and makes it FREE_ZERO there.  Without the lock. */
int pool_zero_slot(struct pool *pool, uint32_t slot);
/* Takes the next dirty slot for zeroing; false when there is none.  With the lock. */
bool pool_zero_next(struct pool *pool, uint32_t *slot);
/* Queues a slot that is FREE_DIRTY in the file.  With the lock. */
void pool_zero_queue(struct pool *pool, uint32_t slot);
int pool_zero_start(struct pool *pool);
void pool_zero_stop(struct pool *pool);

#endif
