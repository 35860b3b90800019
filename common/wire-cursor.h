/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire-cursor - how the encoders and decoders of wire.c take bytes apart: a cursor
 * for writing and one for reading, which remember that something did not fit.
 *
 * For wire.c alone.  A cursor that went wrong stays wrong: what it reads is zero, what it writes is
 * dropped, and put_end() or get_end() says so at the end.
 */
#ifndef BRICK_WIRE_CURSOR_H
#define BRICK_WIRE_CURSOR_H

#include <errno.h>
#include <string.h>
#include "wire.h"

/* Writing. */

struct put {
	uint8_t *start, *at;
	size_t left;
	bool bad;
};

static inline uint8_t *put_room(struct put *p, size_t n)
{
	uint8_t *at = p->at;

	if (p->bad || p->left < n) {
		p->bad = true;
		return NULL;
	}
	p->at += n;
	p->left -= n;
	return at;
}

static inline void put_uint(struct put *p, uint64_t value, unsigned n)
{
	uint8_t *at = put_room(p, n);

	if (!at)
		return;
	for (unsigned i = 0; i < n; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static inline void put_u8(struct put *p, uint8_t value)
{
	put_uint(p, value, 1);
}

static inline void put_u16(struct put *p, uint16_t value)
{
	put_uint(p, value, 2);
}

static inline void put_u32(struct put *p, uint32_t value)
{
	put_uint(p, value, 4);
}

static inline void put_u64(struct put *p, uint64_t value)
{
	put_uint(p, value, 8);
}

static inline void put_bytes(struct put *p, const void *bytes, size_t n)
{
	uint8_t *at = put_room(p, n);

	if (at)
		memcpy(at, bytes, n);
}

static inline void put_zeroes(struct put *p, size_t n)
{
	uint8_t *at = put_room(p, n);

	if (at)
		memset(at, 0, n);
}

/* Text is shown to people at the other side: printable ASCII, cut to its room, zeroes to the end. */
static inline void put_text(struct put *p, const char *text, size_t room)
{
	uint8_t *at = put_room(p, room);
	size_t n = strnlen(text, room - 1);

	if (!at)
		return;
	memset(at, 0, room);
	for (size_t i = 0; i < n; i++)
		at[i] = text[i] >= 0x20 && text[i] < 0x7f ? (uint8_t)text[i] : '?';
}

static inline struct put put_begin(uint8_t *buf, uint16_t type, uint32_t id)
{
	struct put p = {.start = buf, .at = buf, .left = WIRE_MSG_MAX};

	wire_put_header(buf, &(struct wire_header){.length = WIRE_HEADER_SIZE, .type = type, .id = id});
	put_room(&p, WIRE_HEADER_SIZE);
	return p;
}

/* Sets the header's length; 0 when the message did not fit. */
static inline size_t put_end(struct put *p)
{
	size_t length = (size_t)(p->at - p->start);
	struct put head = {.start = p->start, .at = p->start, .left = 4};

	if (p->bad)
		return 0;
	put_u32(&head, (uint32_t)length);
	return length;
}

/* Reading. */

struct get {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static inline const uint8_t *get_room(struct get *g, size_t n)
{
	const uint8_t *at = g->at;

	if (g->bad || g->left < n) {
		g->bad = true;
		return NULL;
	}
	g->at += n;
	g->left -= n;
	return at;
}

static inline uint64_t get_uint(struct get *g, unsigned n)
{
	const uint8_t *at = get_room(g, n);
	uint64_t value = 0;

	if (!at)
		return 0;
	for (unsigned i = 0; i < n; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

static inline uint8_t get_u8(struct get *g)
{
	return (uint8_t)get_uint(g, 1);
}

static inline uint16_t get_u16(struct get *g)
{
	return (uint16_t)get_uint(g, 2);
}

static inline uint32_t get_u32(struct get *g)
{
	return (uint32_t)get_uint(g, 4);
}

static inline uint64_t get_u64(struct get *g)
{
	return get_uint(g, 8);
}

static inline void get_bytes(struct get *g, void *bytes, size_t n)
{
	const uint8_t *at = get_room(g, n);

	if (at)
		memcpy(bytes, at, n);
	else
		memset(bytes, 0, n);
}

/* A condition of the message that must hold. */
static inline void get_need(struct get *g, bool holds)
{
	if (!holds)
		g->bad = true;
}

/* Bytes without a meaning yet: zero, so that they can be given one. */
static inline void get_zeroes(struct get *g, size_t n)
{
	const uint8_t *at = get_room(g, n);

	for (size_t i = 0; at && i < n; i++)
		get_need(g, !at[i]);
}

static inline bool get_bool(struct get *g)
{
	uint8_t value = get_u8(g);

	get_need(g, value <= 1);
	return value;
}

/* The other side of put_text(): a NUL within the room, nothing behind it, no byte that moves a terminal. */
static inline void get_text(struct get *g, char *text, size_t room)
{
	const uint8_t *at = get_room(g, room);
	size_t n;

	memset(text, 0, room);
	if (!at)
		return;
	n = strnlen((const char *)at, room);
	get_need(g, n < room);
	for (size_t i = 0; i < room; i++)
		get_need(g, i < n ? at[i] >= 0x20 && at[i] < 0x7f : !at[i]);
	if (!g->bad)
		memcpy(text, at, n);
}

/* The header of a message that must be whole, without flags or a status, and of the given type (0: see get_type). */
static inline struct get get_begin(const uint8_t *msg, size_t len, uint16_t *type)
{
	struct get g = {.at = msg, .left = len};
	struct wire_header h = {0};

	if (wire_get_header(msg, len, &h))
		g.bad = true;
	get_need(&g, h.length == len && !h.flags && !h.status);
	get_room(&g, WIRE_HEADER_SIZE);
	*type = g.bad ? 0 : h.type;
	return g;
}

static inline struct get get_typed(const uint8_t *msg, size_t len, uint16_t want)
{
	uint16_t type;
	struct get g = get_begin(msg, len, &type);

	get_need(&g, type == want);
	return g;
}

static inline int get_end(const struct get *g)
{
	return g->bad || g->left ? -EPROTO : 0;
}

/* A batch: count, four zero bytes, entries of one size, and nothing else. */
static inline void put_batch(struct put *p, size_t n)
{
	if (!n || n > WIRE_ADDRS_MAX)
		p->bad = true;
	put_u32(p, (uint32_t)n);
	put_zeroes(p, 4);
}

static inline size_t get_batch(struct get *g, size_t entry, size_t room)
{
	uint32_t n = get_u32(g);

	get_zeroes(g, 4);
	get_need(g, n && n <= WIRE_ADDRS_MAX && n <= room && g->left == n * entry);
	return g->bad ? 0 : n;
}

static inline bool in_one_block(uint64_t addr, uint32_t length)
{
	return length && length <= WIRE_BLOCK_SIZE - (addr & (WIRE_BLOCK_SIZE - 1));
}

#endif
