/* SPDX-License-Identifier: BSD-3-Clause */
/* badbrick-lies - what only one type of message can say wrong (badbrick-cases.h). */
#include "badbrick-cases.h"

#include <string.h>

#define SUPERBLOCK 0x1000000000000000ull	/* brickfs-format(5) */

/* ---- the preamble's reply */

static bool preamble(struct call *c)
{
	struct wire_preamble_reply r;

	wire_get_preamble_reply(c->f->bytes, c->f->length, &r);
	switch (c->argument) {
	case 0:
		c->f->bytes[next(c->random) % 4] ^= (uint8_t)(1 + next(c->random) % 255);
		return true;
	case 1:
		r.version = (uint16_t)(2 + next(c->random) % 1000);
		break;
	case 2:
		r.lane ^= (uint16_t)(1 + next(c->random) % 100);
		break;
	case 3:
		memset(r.token, 0, sizeof(r.token));
		break;
	case 4:
		r.status = 0xdead;
		break;
	case 5:
		r.status = 116;		/* ESTALE */
		break;
	case 6:
		r.status = 87;		/* EUSERS */
		break;
	case 7:
		c->f->bytes[28 + next(c->random) % 12] = 1;
		return true;
	case 8:
		/* Of the second lane: another session's. */
		if (!r.lane)
			return false;
		r.token[next(c->random) % 16] ^= 0x40;
		break;
	}
	wire_put_preamble_reply(c->f->bytes, &r);
	return true;
}

/* ---- hello */

static bool hello(struct call *c)
{
	struct wire_hello_reply r;

	if (wire_get_hello_reply(c->f->bytes, c->f->length, &r))
		return false;
	switch (c->argument) {
	case 0:
		r.features = WIRE_FEATURE_FLUSH;
		break;
	case 1:
		r.features = 1ull << (1 + next(c->random) % 63);
		break;
	case 2:
		for (unsigned i = 0; i < sizeof(r.uuid); i++)
			r.uuid[i] = (uint8_t)next(c->random);
		break;
	case 3:
		r.capacity = r.free = 0;
		break;
	case 4:
		r.capacity = 1ull << 43;
		break;
	case 5:
		r.capacity = r.free = UINT64_MAX;
		break;
	case 6:
		r.free = r.capacity + 1;
		break;
	case 7:
		r.maps = 0;
		break;
	case 8:
		r.maps = 1;
		break;
	case 9:
		r.maps = UINT32_MAX;
		break;
	case 10:
		r.lanes = 0;
		break;
	case 11:
		r.lanes = UINT16_MAX;
		break;
	case 12:
		r.depth = 0;
		break;
	case 13:
		r.depth = UINT16_MAX;
		break;
	case 14:
		r.depth = r.lanes = 1;
		break;
	case 15:
		r.lease_ms = (uint32_t)(next(c->random) % 3);
		break;
	case 16:
		r.lease_ms = UINT32_MAX;
		break;
	case 17:
		r.fds = r.fds ? 0 : 3;
		break;
	case 18:
		r.fds = WIRE_FDS_MAX + 1;
		break;
	case 19:
		r.method = 0;
		break;
	case 20:
		r.method = WIRE_PERSIST_READBACK;
		break;
	case 21:
		r.method = WIRE_PERSIST_FLUSH;
		break;
	case 22:
		r.free = 0;
		break;
	}
	wire_put_hello_reply(c->f->bytes, header_of(c->f).id, &r);
	return true;
}

/* ---- list */

enum list_lie {
	LIST_HIDE, LIST_HIDE_ALL, LIST_FOREIGN, LIST_LEAK, LIST_DOUBLE, LIST_BACKWARDS, LIST_UNALIGNED, LIST_EMPTY_EXTENT, LIST_HUGE_EXTENT,
	LIST_WRAP, LIST_MORE, LIST_CRUMBS, LIST_BACK, LIST_STAND, LIST_GENERATION, LIST_COUNT, LIST_COUNT_HUGE, LIST_MORE_STRANGE, LIST_MANY,
	LIST_NEXT_UNALIGNED,
};

static uint64_t end_of(const struct wire_list_reply *r)
{
	return r->count ? r->extent[r->count - 1].start + (r->extent[r->count - 1].count << WIRE_BLOCK_SHIFT) : 0;
}

static bool list(struct call *c)
{
	static struct wire_list_reply r;
	uint32_t pick;
	size_t length;

	if (wire_get_list_reply(c->f->bytes, c->f->length, &r))
		return false;
	pick = r.count ? (uint32_t)(next(c->random) % r.count) : 0;
	switch ((enum list_lie)c->argument) {
	case LIST_HIDE:
		/* Not the superblock: that has its own case, with all others. */
		for (uint32_t i = 0; i < r.count && r.extent[pick].start == SUPERBLOCK; i++)
			pick = (pick + 1) % r.count;
		if (!r.count || r.extent[pick].start == SUPERBLOCK)
			return false;
		memmove(&r.extent[pick], &r.extent[pick + 1], (--r.count - pick) * sizeof(r.extent[0]));
		break;
	case LIST_HIDE_ALL:
		r.count = 0;
		break;
	case LIST_FOREIGN:
		r.extent[r.count++] = (struct wire_extent){ 0xfffff00000000000ull, 1 };
		break;
	case LIST_LEAK:
		if (!r.count)
			return false;
		r.extent[r.count - 1].count += 1 + next(c->random) % 3;
		break;
	case LIST_DOUBLE:
		if (!r.count)
			return false;
		r.extent[r.count] = r.extent[r.count - 1];
		r.count++;
		break;
	case LIST_BACKWARDS:
		for (uint32_t i = 0; i < r.count / 2; i++) {
			struct wire_extent e = r.extent[i];

			r.extent[i] = r.extent[r.count - 1 - i];
			r.extent[r.count - 1 - i] = e;
		}
		if (r.count < 2)
			return false;
		break;
	case LIST_UNALIGNED:
		r.extent[pick].start += 1ull << (next(c->random) % 21);
		break;
	case LIST_EMPTY_EXTENT:
		r.extent[pick].count = 0;
		break;
	case LIST_HUGE_EXTENT:
		r.extent[r.count - 1].count = 1ull << 42;
		break;
	case LIST_WRAP:
		r.extent[r.count - 1].count = UINT64_MAX - next(c->random) % 1000;
		break;
	case LIST_MORE:
		/* A page without an end behind each. */
		c->bad->past[0] += WIRE_BLOCK_SIZE;
		r.more = true;
		r.next = (r.count ? c->bad->past[1] = end_of(&r) : c->bad->past[1]) + c->bad->past[0];
		break;
	case LIST_CRUMBS:
		/* One new block in each page, for ever. */
		c->bad->past[0] += 2 * WIRE_BLOCK_SIZE;
		if (!r.count) {
			r.extent[0] = (struct wire_extent){ c->bad->past[1] + c->bad->past[0], 1 };
			r.count = 1;
		} else {
			c->bad->past[1] = end_of(&r);
		}
		r.more = true;
		r.next = end_of(&r);
		break;
	case LIST_BACK:
		r.more = true;
		r.next = r.count ? r.extent[0].start : 0;
		break;
	case LIST_STAND:
		r.more = true;
		r.next = 0;
		break;
	case LIST_GENERATION:
		r.generation += ++c->bad->past[0];
		r.more = c->bad->past[0] & 1;
		r.next = end_of(&r);
		break;
	case LIST_COUNT:
		wire_put_list_reply(c->f->bytes, header_of(c->f).id, &r);
		put32(c->f->bytes + 32, r.count + 1);
		return true;
	case LIST_COUNT_HUGE:
		put32(c->f->bytes + 32, UINT32_MAX / 16 + 1);
		return true;
	case LIST_MORE_STRANGE:
		c->f->bytes[36] = (uint8_t)(2 + next(c->random) % 254);
		return true;
	case LIST_MANY:
		r.extent[0].start = 0;
		for (r.count = 0; r.count < WIRE_EXTENTS_MAX; r.count++)
			r.extent[r.count] = (struct wire_extent){ SUPERBLOCK + (2ull * r.count << WIRE_BLOCK_SHIFT), 1 };
		break;
	case LIST_NEXT_UNALIGNED:
		r.more = true;
		r.next = end_of(&r) + 1 + next(c->random) % 4096;
		break;
	}
	length = wire_put_list_reply(c->f->bytes, header_of(c->f).id, &r);
	c->f->length = length;
	return length != 0;
}

/* ---- map */

enum map_lie { MAP_KEY, MAP_PLACE, MAP_SWAP, MAP_FEWER, MAP_MORE, MAP_NONE };

static bool map(struct call *c)
{
	static struct wire_handle h[WIRE_ADDRS_MAX + 1];
	size_t n = WIRE_ADDRS_MAX, pick, length;

	if (wire_get_handles(c->f->bytes, c->f->length, h, &n))
		return false;
	pick = next(c->random) % n;
	switch ((enum map_lie)c->argument) {
	case MAP_KEY:
		h[pick].key ^= 1u << (next(c->random) % 32);
		break;
	case MAP_PLACE:
		h[pick].place += (1ull << (40 + next(c->random) % 20)) + 4096;
		break;
	case MAP_SWAP:
		/* Of one answer, or of this one and the one before. */
		if (n > 1) {
			struct wire_handle one = h[0];

			h[0] = h[n - 1];
			h[n - 1] = one;
		} else if (!c->bad->past[0]) {
			c->bad->past[0] = 1;
			c->bad->past[1] = h[0].key;
			c->bad->past[2] = h[0].place;
			return false;
		} else {
			h[0].key = (uint32_t)c->bad->past[1];
			h[0].place = c->bad->past[2];
		}
		break;
	case MAP_FEWER:
		if (n < 2) {
			put32(c->f->bytes + 16, 0);
			return true;
		}
		n--;
		break;
	case MAP_MORE:
		h[n] = h[0];
		n++;
		break;
	case MAP_NONE:
		put32(c->f->bytes + 16, UINT32_MAX);
		return true;
	}
	length = wire_put_handles(c->f->bytes, header_of(c->f).id, h, n);
	c->f->length = length;
	return length != 0;
}

static bool map_status(struct call *c)
{
	static struct wire_handle h[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX, pick;

	if (wire_get_handles(c->f->bytes, c->f->length, h, &n))
		return false;
	pick = next(c->random) % n;
	h[pick].status = c->argument;
	wire_put_handles(c->f->bytes, header_of(c->f).id, h, n);
	return true;
}

/* ---- statuses of alloc, free, unmap, persist */

static bool one_status(struct call *c)
{
	uint32_t s[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;

	if (wire_get_statuses(c->f->bytes, c->f->length, s, &n))
		return false;
	s[next(c->random) % n] = c->argument;
	wire_put_statuses(c->f->bytes, c->f->type, header_of(c->f).id, s, n);
	return true;
}

static bool fewer_statuses(struct call *c)
{
	uint32_t s[WIRE_ADDRS_MAX + 1];
	size_t n = WIRE_ADDRS_MAX;

	if (wire_get_statuses(c->f->bytes, c->f->length, s, &n))
		return false;
	s[n] = 0;
	c->f->length = wire_put_statuses(c->f->bytes, c->f->type, header_of(c->f).id, s, n > 1 && n % 2 ? n - 1 : n + 1);
	return c->f->length != 0;
}

/* ---- bytes of READ and WRITE (tcp) */

enum read_lie { READ_ZERO, READ_NOISE, READ_BIT, READ_SHIFT, READ_SHORT, READ_LONG, READ_EMPTY };

/* argument: what, and 16 for blocks that hold metadata alone, 32 for all others. */
static bool bytes_read(struct call *c)
{
	struct bad_frame *f = c->f;
	uint8_t *at = f->bytes + WIRE_HEADER_SIZE;
	size_t n = f->length - WIRE_HEADER_SIZE;
	unsigned kind = (unsigned)(f->read_addr >> 60);
	bool metadata = kind == 1 || kind == 2;

	if (!n || (c->argument & 16 && !metadata) || (c->argument & 32 && metadata))
		return false;
	switch ((enum read_lie)(c->argument & 15)) {
	case READ_ZERO:
		memset(at, 0, n);
		return true;
	case READ_NOISE:
		for (size_t i = 0; i < n; i++)
			at[i] = (uint8_t)next(c->random);
		return true;
	case READ_BIT:
		at[next(c->random) % (n < 256 ? n : 256)] ^= (uint8_t)(1u << next(c->random) % 8);
		return true;
	case READ_SHIFT:
		memmove(at, at + 8, n - 8);
		return true;
	case READ_SHORT:
		f->length -= n > 8 ? 8 : 1;
		break;
	case READ_LONG:
		memset(f->bytes + f->length, 0, 8);
		f->length += 8;
		break;
	case READ_EMPTY:
		f->length = WIRE_HEADER_SIZE;
		break;
	}
	put32(f->bytes, (uint32_t)f->length);
	return true;
}

static bool bytes_written(struct call *c)
{
	if (c->f->length <= WIRE_RW_FIXED)
		return false;
	for (unsigned i = 0; i < 64; i++)
		c->f->bytes[WIRE_RW_FIXED + next(c->random) % (c->f->length - WIRE_RW_FIXED)] ^= (uint8_t)(1u << next(c->random) % 8);
	return true;
}

#define MOUNT .phase = BAD_MOUNT
#define USE .phase = BAD_USE
#define CHECK .phase = BAD_CHECK
#define MAKE .phase = BAD_MAKE
#define PREAMBLE(lie) .alter = preamble, .argument = lie, .type = BAD_PREAMBLE
#define HELLO(lie) .alter = hello, .argument = lie, .type = WIRE_HELLO
#define LIST(lie) .alter = list, .argument = lie, .type = WIRE_LIST
#define MAP(lie) .alter = map, .argument = lie, .type = WIRE_MAP
#define READ(lie) .alter = bytes_read, .argument = lie, .type = WIRE_READ

const struct bad_row bad_lies[] = {
	{ "preamble-magic", PREAMBLE(0), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-version", PREAMBLE(1), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-lane", PREAMBLE(2), CHECK, .flags = ALWAYS | REFUSED },
	{ "preamble-no-token", PREAMBLE(3), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-status", PREAMBLE(4), MAKE, .flags = ALWAYS | REFUSED },
	{ "preamble-stale", PREAMBLE(5), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-users", PREAMBLE(6), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-zeroes", PREAMBLE(7), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-other-token", PREAMBLE(8), MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-cut", .alter = bad_cut, .type = BAD_PREAMBLE, MOUNT, .flags = ALWAYS | REFUSED },
	{ "preamble-silence", .alter = bad_silence, .type = BAD_PREAMBLE, MOUNT, .flags = ALWAYS | REFUSED | SLOW },
	{ "preamble-silence-check", .alter = bad_silence, .type = BAD_PREAMBLE, CHECK, .flags = ALWAYS | REFUSED | SLOW },

	{ "hello-flush", HELLO(0), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-features", HELLO(1), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-uuid", HELLO(2), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-capacity-0", HELLO(3), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-capacity-2^43", HELLO(4), MOUNT, .flags = ALWAYS },
	{ "hello-capacity-max", HELLO(5), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-free-above", HELLO(6), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-free-0", HELLO(22), MOUNT, .flags = ALWAYS },
	{ "hello-maps-0", HELLO(7), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-maps-1", HELLO(8), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-maps-max", HELLO(9), MOUNT, .flags = ALWAYS },
	{ "hello-lanes-0", HELLO(10), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-lanes-max", HELLO(11), MOUNT, .flags = ALWAYS },
	{ "hello-depth-0", HELLO(12), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-depth-max", HELLO(13), MOUNT, .flags = ALWAYS },
	{ "hello-one-of-each", HELLO(14), MOUNT, .flags = ALWAYS },
	{ "hello-lease-0", HELLO(15), MOUNT, .flags = ALWAYS },
	{ "hello-lease-max", HELLO(16), MOUNT, .flags = ALWAYS },
	{ "hello-descriptors", HELLO(17), MOUNT, .flags = ALWAYS },
	{ "hello-descriptors-max", HELLO(18), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-method-0", HELLO(19), MOUNT, .flags = ALWAYS | REFUSED },
	{ "hello-method-readback", HELLO(20), CHECK, .flags = ALWAYS | REFUSED },
	{ "hello-method-flush", HELLO(21), MAKE, .flags = ALWAYS | REFUSED },
	{ "hello-capacity-make", HELLO(4), MAKE, .flags = ALWAYS },

	{ "list-hide", LIST(LIST_HIDE), MOUNT, .flags = ALWAYS | DAMAGED },
	{ "list-hide-check", LIST(LIST_HIDE), CHECK, .flags = ALWAYS | DAMAGED },
	{ "list-hide-all", LIST(LIST_HIDE_ALL), MOUNT, .flags = ALWAYS | DAMAGED },
	{ "list-hide-all-make", LIST(LIST_HIDE_ALL), MAKE, .flags = ALWAYS | LEAKS },
	{ "list-foreign", LIST(LIST_FOREIGN), MOUNT, .flags = ALWAYS },
	{ "list-leak", LIST(LIST_LEAK), MOUNT, .flags = ALWAYS },
	{ "list-double", LIST(LIST_DOUBLE), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-backwards", LIST(LIST_BACKWARDS), CHECK, .flags = ALWAYS | REFUSED },
	{ "list-unaligned", LIST(LIST_UNALIGNED), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-empty-extent", LIST(LIST_EMPTY_EXTENT), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-huge-extent", LIST(LIST_HUGE_EXTENT), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-wrap", LIST(LIST_WRAP), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-endless", LIST(LIST_MORE), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-crumbs", LIST(LIST_CRUMBS), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-crumbs-make", LIST(LIST_CRUMBS), MAKE, .flags = ALWAYS | REFUSED },
	{ "list-goes-back", LIST(LIST_BACK), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-stands", LIST(LIST_STAND), CHECK, .flags = ALWAYS | REFUSED },
	{ "list-generation", LIST(LIST_GENERATION), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-count", LIST(LIST_COUNT), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-count-huge", LIST(LIST_COUNT_HUGE), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-more-strange", LIST(LIST_MORE_STRANGE), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-many", LIST(LIST_MANY), MOUNT, .flags = ALWAYS | REFUSED },
	{ "list-next-unaligned", LIST(LIST_NEXT_UNALIGNED), MOUNT, .flags = ALWAYS },

	{ "map-key", MAP(MAP_KEY), USE, .flags = ALWAYS },
	{ "map-key-mount", MAP(MAP_KEY), MOUNT },
	{ "map-place", MAP(MAP_PLACE), USE, .flags = ALWAYS },
	{ "map-swap", MAP(MAP_SWAP), USE, .flags = TCP_ONLY },
	{ "map-fewer", MAP(MAP_FEWER), MOUNT, .flags = ALWAYS | REFUSED },
	{ "map-more", MAP(MAP_MORE), USE, .flags = ALWAYS },
	{ "map-none", MAP(MAP_NONE), USE, .flags = SURVIVES },
	{ "map-busy", .alter = map_status, .argument = 16, .type = WIRE_MAP, USE, .flags = ALWAYS },
	{ "map-busy-mount", .alter = map_status, .argument = 16, .type = WIRE_MAP, MOUNT },
	{ "map-missing", .alter = map_status, .argument = 2, .type = WIRE_MAP, USE },
	{ "map-no-memory", .alter = map_status, .argument = 12, .type = WIRE_MAP, USE, .flags = ALWAYS | SLOW },
	{ "map-again", .alter = map_status, .argument = 11, .type = WIRE_MAP, USE, .flags = ALWAYS },
	{ "map-strange", .alter = map_status, .argument = 0x12345678, .type = WIRE_MAP, CHECK, .flags = ALWAYS | REFUSED },

	{ "alloc-exists", .alter = one_status, .argument = 17, .type = WIRE_ALLOC, USE, .flags = ALWAYS },
	/* The block is there, and comes to life on another brick, too: the next mount finds it on both. */
	{ "alloc-full", .alter = one_status, .argument = 28, .type = WIRE_ALLOC, USE, .flags = ALWAYS | WRITES },
	{ "alloc-invalid", .alter = one_status, .argument = 22, .type = WIRE_ALLOC, USE },
	{ "alloc-fewer", .alter = fewer_statuses, .type = WIRE_ALLOC, USE, .flags = ALWAYS },
	{ "free-missing", .alter = one_status, .argument = 2, .type = WIRE_FREE, USE, .flags = ALWAYS },
	{ "free-busy", .alter = one_status, .argument = 16, .type = WIRE_FREE, USE, .flags = ALWAYS },
	{ "free-eio", .alter = one_status, .argument = 5, .type = WIRE_FREE, USE },
	{ "unmap-missing", .alter = one_status, .argument = 2, .type = WIRE_UNMAP, USE, .flags = ALWAYS },
	{ "persist-eio", .alter = one_status, .argument = 5, .type = WIRE_PERSIST, USE },
	{ "persist-strange", .alter = one_status, .argument = 99999, .type = WIRE_PERSIST, USE, .flags = ALWAYS },
	{ "persist-fewer", .alter = fewer_statuses, .type = WIRE_PERSIST, USE, .flags = ALWAYS },
	{ "persist-refused", .alter = bad_status, .argument = 95, .type = WIRE_PERSIST, USE, .flags = ALWAYS },

	{ "read-super-zero", READ(16 | READ_ZERO), MOUNT, .flags = ALWAYS | REFUSED },
	{ "read-super-noise", READ(16 | READ_NOISE), CHECK, .flags = ALWAYS | REFUSED },
	{ "read-super-bit", READ(16 | READ_BIT), MOUNT },
	{ "read-metadata-bit", READ(16 | READ_BIT), MOUNT, .flags = ALWAYS | DAMAGED },
	{ "read-metadata-shift", READ(16 | READ_SHIFT), CHECK, .flags = ALWAYS | REFUSED },
	{ "read-file-bit", READ(32 | READ_BIT), USE, .flags = ALWAYS | CONTENT },
	{ "read-file-zero", READ(32 | READ_ZERO), USE, .flags = CONTENT },
	{ "read-short", READ(READ_SHORT), USE, .flags = SURVIVES },
	{ "read-short-always", READ(READ_SHORT), USE, .flags = ALWAYS },
	{ "read-long", READ(READ_LONG), USE, .flags = SURVIVES },
	{ "read-empty", READ(READ_EMPTY), MOUNT, .flags = ALWAYS | REFUSED },
	{ "write-bits", .alter = bytes_written, .type = WIRE_WRITE, USE, .flags = ALWAYS | WRITES | DAMAGED | CONTENT | UP },
	{ "write-bit-once", .alter = bytes_written, .type = WIRE_WRITE, USE, .flags = WRITES | DAMAGED | CONTENT | UP },
};
const size_t bad_lies_count = N(bad_lies);
