/* SPDX-License-Identifier: BSD-3-Clause */
/* pool-format - header and slot words, to and from the bytes in the file. */
#include "pool-format.h"

#include <assert.h>
#include <endian.h>
#include <stddef.h>
#include <string.h>
#include <xxhash.h>

static const char magic[8] = "BRICKPOL";

struct disk_chunk {
	uint64_t offset;
	uint32_t slots;
	uint32_t reserved;
};

/* magic, version and checksum keep their places in every version to come. */
struct disk_header {
	char magic[8];
	uint32_t version;
	uint32_t slot_shift;
	uint64_t sequence;
	uint64_t compat, ro_compat, incompat;
	uint8_t uuid[16];
	uint64_t instance;
	uint64_t loss_epoch;
	uint8_t boot_id[16];
	uint32_t flags;
	uint32_t chunk_count;
	struct disk_chunk chunk[POOL_CHUNKS_MAX];
	uint64_t memory;
	char memory_path[POOL_PATH_MAX];
	uint8_t reserved[POOL_HEADER_SIZE - 112 - POOL_CHUNKS_MAX * 16 - POOL_PATH_MAX - 8];
	uint64_t checksum;	/* XXH3, 64 bits, over all before it */
};
static_assert(sizeof(struct disk_header) == POOL_HEADER_SIZE, "the header has no padding");

void pool_header_encode(const struct pool_header *header, uint8_t bytes[POOL_HEADER_SIZE])
{
	struct disk_header disk = {
		.version = htole32(POOL_VERSION),
		.slot_shift = htole32(POOL_SLOT_SHIFT),
		.sequence = htole64(header->sequence),
		.compat = htole64(header->compat),
		.ro_compat = htole64(header->ro_compat),
		.incompat = htole64(header->incompat),
		.instance = htole64(header->instance),
		.loss_epoch = htole64(header->loss_epoch),
		.flags = htole32(header->flags),
		.chunk_count = htole32(header->chunk_count),
		.memory = htole64(header->memory),
	};

	memcpy(disk.magic, magic, sizeof(magic));
	memcpy(disk.uuid, header->uuid, sizeof(disk.uuid));
	memcpy(disk.memory_path, header->memory_path, sizeof(disk.memory_path));
	memcpy(disk.boot_id, header->boot_id, sizeof(disk.boot_id));
	for (uint32_t i = 0; i < header->chunk_count; i++) {
		disk.chunk[i].offset = htole64(header->chunk[i].offset);
		disk.chunk[i].slots = htole32(header->chunk[i].slots);
	}
	disk.checksum = htole64(XXH3_64bits(&disk, offsetof(struct disk_header, checksum)));
	memcpy(bytes, &disk, sizeof(disk));
}

enum pool_header_fault pool_header_decode(const uint8_t bytes[POOL_HEADER_SIZE], struct pool_header *header,
					  uint32_t *version)
{
	struct disk_header disk;

	memcpy(&disk, bytes, sizeof(disk));
	if (memcmp(disk.magic, magic, sizeof(magic)))
		return POOL_HEADER_FOREIGN;
	if (le64toh(disk.checksum) != XXH3_64bits(&disk, offsetof(struct disk_header, checksum)))
		return POOL_HEADER_DAMAGED;
	*version = le32toh(disk.version);
	if (*version != POOL_VERSION)
		return POOL_HEADER_VERSION;
	/* Whole by its checksum, and yet not what version 1 writes. */
	if (le32toh(disk.slot_shift) != POOL_SLOT_SHIFT || le32toh(disk.chunk_count) > POOL_CHUNKS_MAX)
		return POOL_HEADER_DAMAGED;

	*header = (struct pool_header){
		.sequence = le64toh(disk.sequence),
		.compat = le64toh(disk.compat),
		.ro_compat = le64toh(disk.ro_compat),
		.incompat = le64toh(disk.incompat),
		.instance = le64toh(disk.instance),
		.loss_epoch = le64toh(disk.loss_epoch),
		.flags = le32toh(disk.flags),
		.chunk_count = le32toh(disk.chunk_count),
		.memory = le64toh(disk.memory),
	};
	memcpy(header->uuid, disk.uuid, sizeof(header->uuid));
	memcpy(header->memory_path, disk.memory_path, sizeof(header->memory_path) - 1);
	memcpy(header->boot_id, disk.boot_id, sizeof(header->boot_id));
	for (uint32_t i = 0; i < header->chunk_count; i++) {
		header->chunk[i].offset = le64toh(disk.chunk[i].offset);
		header->chunk[i].slots = le32toh(disk.chunk[i].slots);
	}
	return POOL_HEADER_GOOD;
}

uint64_t pool_table_size(uint32_t slots)
{
	return ((uint64_t)slots * 8 + POOL_SLOT_SIZE - 1) & ~(POOL_SLOT_SIZE - 1);
}

const char *pool_header_check(const struct pool_header *header, uint64_t *end, uint32_t *slots)
{
	uint64_t at = POOL_FIRST_CHUNK, total = 0;

	if (!header->chunk_count)
		return "it has no chunks";
	/* At most 128 times 2^32 slots of 2 MiB: no sum here can wrap 64 bits. */
	for (uint32_t i = 0; i < header->chunk_count; i++) {
		const struct pool_chunk *chunk = &header->chunk[i];

		if (!chunk->slots)
			return "a chunk has no slots";
		if (chunk->offset != at)
			return "a chunk is not where the one before it ends";
		at += pool_table_size(chunk->slots) + (uint64_t)chunk->slots * POOL_SLOT_SIZE;
		total += chunk->slots;
	}
	if (total > POOL_SLOTS_MAX)
		return "it has too many slots";
	*end = at;
	*slots = (uint32_t)total;
	return NULL;
}

static uint16_t word_check(const uint8_t uuid[16], uint32_t slot, uint32_t state, uint64_t block)
{
	struct {
		uint8_t uuid[16];
		uint64_t block;
		uint32_t slot, state;
	} key = { .block = htole64(block), .slot = htole32(slot), .state = htole32(state) };

	memcpy(key.uuid, uuid, sizeof(key.uuid));
	return (uint16_t)XXH3_64bits(&key, sizeof(key));
}

uint64_t pool_word(const uint8_t uuid[16], uint32_t slot, enum pool_state state, uint64_t block)
{
	return block << 21 | (uint64_t)state << 16 | word_check(uuid, slot, state, block);
}

bool pool_word_decode(uint64_t word, const uint8_t uuid[16], uint32_t slot, enum pool_state *state, uint64_t *block)
{
	uint32_t raw = word >> 16 & 0x1f;

	*block = word >> 21;
	*state = (enum pool_state)raw;
	if (raw != POOL_FREE_DIRTY && raw != POOL_FREE_ZERO && raw != POOL_LIVE)
		return false;
	/* A free slot names no block. */
	if (raw != POOL_LIVE && *block)
		return false;
	return (uint16_t)word == word_check(uuid, slot, raw, *block);
}
