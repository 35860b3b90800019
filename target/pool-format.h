/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool-format - what stands in a pool file: the header and the slot words.
 *
 *	0		header, copy 0 (4 KiB)
 *	1 MiB		header, copy 1 (4 KiB)
 *	2 MiB		chunk 0: table of slot words, rounded up to 2 MiB; then its slots
 *	...		chunk 1, ... as the pool grew, each right behind the one before
 *
 * All integers are little endian.  An update of the header writes both copies,
 * one after the other, each persisted before the next is touched: one of them is
 * whole at any time, and a copy that is found damaged was either the one being
 * written or says what the other says.  The copy with the higher sequence counts.
 */
#ifndef TARGET_POOL_FORMAT_H
#define TARGET_POOL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

#define POOL_VERSION		1
#define POOL_HEADER_SIZE	4096
#define POOL_HEADER_DISTANCE	(1u << 20)	/* between the copies */
#define POOL_CHUNKS_MAX		128
#define POOL_PATH_MAX		512
#define POOL_FIRST_CHUNK	POOL_SLOT_SIZE	/* offset of chunk 0 */
#define POOL_SLOTS_MAX		(UINT32_MAX - 1)
#define POOL_BLOCK_MAX		((1ull << 43) - 1)

/* An unknown incompat or ro_compat flag refuses the pool. */
enum pool_features {
	/*
	 * ro_compat: declared volatile (--volatile).  A brickd that does not know
	 * it would call bytes durable in memory that does not outlive power.
	 */
	POOL_VOLATILE = 1,
	/*
	 * incompat: the newest bytes of some blocks are in a memory file (header
	 * field memory), and the pool's own are old.  Set while it is served so,
	 * and after an end that was not clean.
	 */
	POOL_IN_MEMORY = 1,
};
#define POOL_COMPAT_KNOWN	0ull
#define POOL_RO_COMPAT_KNOWN	((uint64_t)POOL_VOLATILE)
#define POOL_INCOMPAT_KNOWN	((uint64_t)POOL_IN_MEMORY)

enum pool_flags {
	POOL_CLEAN = 1,		/* nobody has it open, and everything in it was persisted */
	POOL_FAULT = 2,		/* last opened in fault mode */
	POOL_LOST = 4,		/* a persist failed: bytes may be gone without a crash of the host */
};

struct pool_chunk {
	uint64_t offset;	/* of its table, bytes */
	uint32_t slots;
};

struct pool_header {
	uint64_t sequence;
	uint64_t compat, ro_compat, incompat;
	uint8_t uuid[16];
	uint64_t instance;
	uint64_t loss_epoch;
	uint8_t boot_id[16];	/* of the host at the last open; zeroes: unknown */
	uint32_t flags;		/* enum pool_flags */
	uint32_t chunk_count;
	struct pool_chunk chunk[POOL_CHUNKS_MAX];
	uint64_t memory;	/* name of the memory file's state that belongs to the last open; 0: none */
	char memory_path[POOL_PATH_MAX];	/* of the memory file, now or once; "": none */
};

enum pool_header_fault {
	POOL_HEADER_GOOD,
	POOL_HEADER_FOREIGN,	/* no magic */
	POOL_HEADER_DAMAGED,	/* bad checksum */
	POOL_HEADER_VERSION,	/* whole, but of another version; *version says which */
};

void pool_header_encode(const struct pool_header *header, uint8_t bytes[POOL_HEADER_SIZE]);
enum pool_header_fault pool_header_decode(const uint8_t bytes[POOL_HEADER_SIZE], struct pool_header *header,
					  uint32_t *version);
/* NULL, or what is impossible about the chunk table; *end: where the last chunk ends, bytes. */
const char *pool_header_check(const struct pool_header *header, uint64_t *end, uint32_t *slots);
/* Bytes of the table for so many slots. */
uint64_t pool_table_size(uint32_t slots);

/*
 * A slot word: block number in bits 63..21, state in bits 20..16, check in bits
 * 15..0.  State 0 is none, so a word of zeroes, as a hole reads, is damage.
 */
enum pool_state { POOL_FREE_DIRTY = 1, POOL_FREE_ZERO = 2, POOL_LIVE = 3 };

uint64_t pool_word(const uint8_t uuid[16], uint32_t slot, enum pool_state state, uint64_t block);
/* False: bad check, or a state or block that cannot be. */
bool pool_word_decode(uint64_t word, const uint8_t uuid[16], uint32_t slot, enum pool_state *state, uint64_t *block);

#endif
