/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_cases - samples and checked decoders of every message (wire_cases.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"
#include "wire_cases.h"

#define BLOCK WIRE_BLOCK_SIZE

static size_t batch_of(enum wire_variant v)
{
	return v == SAMPLE_LEAST ? 1 : v == SAMPLE_USUAL ? 3 : WIRE_ADDRS_MAX;
}

/* A recognisable value that fills all of a field, or all ones, or nothing. */
static uint64_t value(enum wire_variant v, uint64_t usual)
{
	return v == SAMPLE_LEAST ? 0 : v == SAMPLE_USUAL ? usual : UINT64_MAX;
}

static void check(const char *name, const uint8_t *msg, size_t len, const uint8_t *again, size_t again_len)
{
	if (len == again_len && !memcmp(msg, again, len))
		return;
	fprintf(stderr, "BUG: %s: %zu bytes were accepted that encode to %zu other bytes\n", name, len, again_len);
	abort();
}

static int verdict(const char *name, int err)
{
	if (err == 0 || err == -EPROTO)
		return err;
	fprintf(stderr, "BUG: %s: the decoder answered %d\n", name, err);
	abort();
}

static uint32_t id_of(const uint8_t *msg)
{
	struct wire_header h;

	if (wire_get_header(msg, WIRE_HEADER_SIZE, &h))
		abort();
	return h.id;
}

static uint16_t type_of(const uint8_t *msg)
{
	struct wire_header h;

	if (wire_get_header(msg, WIRE_HEADER_SIZE, &h))
		abort();
	return h.type;
}

/* Preambles and the header. */

static size_t sample_preamble(uint8_t *buf, enum wire_variant v)
{
	struct wire_preamble m = {.version_min = 1, .version_max = (uint16_t)(1 + value(v, 4) % UINT16_MAX)};

	m.lane = (uint16_t)value(v, 0x1234);
	for (unsigned i = 0; i < sizeof(m.token); i++)
		m.token[i] = (uint8_t)value(v, 0xa0 + i);
	wire_put_preamble(buf, &m);
	return WIRE_PREAMBLE_SIZE;
}

static int decode_preamble(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_PREAMBLE_SIZE];
	struct wire_preamble m;
	int err = wire_get_preamble(msg, len, &m);

	if (!err) {
		wire_put_preamble(again, &m);
		check("preamble", msg, WIRE_PREAMBLE_SIZE, again, sizeof(again));
	}
	return verdict("preamble", err);
}

static size_t sample_preamble_reply(uint8_t *buf, enum wire_variant v)
{
	struct wire_preamble_reply m = {.status = (uint32_t)value(v, 16), .version = (uint16_t)value(v, 1)};

	m.lane = (uint16_t)value(v, 0x1234);
	for (unsigned i = 0; i < sizeof(m.token); i++)
		m.token[i] = (uint8_t)value(v, 0xa0 + i);
	wire_put_preamble_reply(buf, &m);
	return WIRE_PREAMBLE_REPLY_SIZE;
}

static int decode_preamble_reply(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_PREAMBLE_REPLY_SIZE];
	struct wire_preamble_reply m;
	int err = wire_get_preamble_reply(msg, len, &m);

	if (!err) {
		wire_put_preamble_reply(again, &m);
		check("preamble reply", msg, WIRE_PREAMBLE_REPLY_SIZE, again, sizeof(again));
	}
	return verdict("preamble reply", err);
}

static size_t sample_header(uint8_t *buf, enum wire_variant v)
{
	if (v == SAMPLE_USUAL)
		return wire_put_plain(buf, WIRE_MAP | WIRE_REPLY, 0x01020304, -EBUSY);
	if (v == SAMPLE_LEAST)
		return wire_put_plain(buf, WIRE_KEEPALIVE, 0, 0);
	wire_put_header(buf, &(struct wire_header){WIRE_RW_FIXED + WIRE_DATA_MAX, WIRE_WRITE, UINT16_MAX, UINT32_MAX,
						   UINT32_MAX});
	return WIRE_HEADER_SIZE;
}

static int decode_header(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_HEADER_SIZE];
	struct wire_header h;
	int err = wire_get_header(msg, len, &h);

	if (!err) {
		wire_put_header(again, &h);
		check("header", msg, WIRE_HEADER_SIZE, again, sizeof(again));
	}
	return verdict("header", err);
}

/* Hello. */

static size_t sample_hello(uint8_t *buf, enum wire_variant v)
{
	struct wire_hello m = {
		.features = value(v, 0x1112131415161718), .maps = (uint32_t)value(v, 0x21222324),
		.lanes = (uint16_t)value(v, 0x3132),	  .depth = (uint16_t)value(v, 0x4142),
		.pid = value(v, 0x5152535455565758),
	};

	if (v == SAMPLE_USUAL)
		strcpy(m.name, "brickfs@host.example");
	else if (v == SAMPLE_MOST)
		memset(m.name, '~', sizeof(m.name) - 1);
	return wire_put_hello(buf, 7, &m);
}

static int decode_hello(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_hello m;
	int err = wire_get_hello(msg, len, &m);

	if (!err)
		check("hello", msg, len, again, wire_put_hello(again, id_of(msg), &m));
	return verdict("hello", err);
}

static size_t sample_hello_reply(uint8_t *buf, enum wire_variant v)
{
	struct wire_hello_reply m = {
		.features = value(v, 0x1112131415161718), .instance = value(v, 0x2122232425262728),
		.loss_epoch = value(v, 0x3132333435363738), .session = value(v, 0x4142434445464748),
		.maps = (uint32_t)value(v, 0x51525354),	  .lease_ms = (uint32_t)value(v, 0x61626364),
		.lanes = (uint16_t)(value(v, 0x7172) | 1), .depth = (uint16_t)(value(v, 0x8182) | 1),
	};

	for (unsigned i = 0; i < sizeof(m.uuid); i++)
		m.uuid[i] = (uint8_t)value(v, 0xa0 + i);
	m.method = v == SAMPLE_MOST ? WIRE_PERSIST_VOLATILE : WIRE_PERSIST_TARGET;
	m.fds = (uint32_t)(v == SAMPLE_MOST ? WIRE_FDS_MAX : value(v, 1));
	m.capacity = v == SAMPLE_MOST ? 1ull << 43 : value(v, 0x0102030405);
	m.free = v == SAMPLE_MOST ? 1ull << 43 : value(v, 0x0002030405);
	return wire_put_hello_reply(buf, 7, &m);
}

static int decode_hello_reply(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_hello_reply m;
	int err = wire_get_hello_reply(msg, len, &m);

	if (!err)
		check("hello reply", msg, len, again, wire_put_hello_reply(again, id_of(msg), &m));
	return verdict("hello reply", err);
}

/* Batches. */

static size_t sample_addrs(uint8_t *buf, enum wire_variant v)
{
	uint64_t addrs[WIRE_ADDRS_MAX];

	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++)
		addrs[i] = value(v, 0x1112131415161718 + i);
	return wire_put_addrs(buf, v == SAMPLE_USUAL ? WIRE_ALLOC : WIRE_FREE, 9, addrs, batch_of(v));
}

static int decode_addrs(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	uint64_t addrs[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;
	int err = wire_get_addrs(msg, len, addrs, &n);

	if (!err)
		check("addresses", msg, len, again, wire_put_addrs(again, type_of(msg), id_of(msg), addrs, n));
	return verdict("addresses", err);
}

static size_t sample_statuses(uint8_t *buf, enum wire_variant v)
{
	static const uint16_t type[SAMPLES] = {WIRE_UNMAP, WIRE_ALLOC, WIRE_PERSIST};
	uint32_t status[WIRE_ADDRS_MAX];

	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++)
		status[i] = (uint32_t)value(v, 2 + i);
	return wire_put_statuses(buf, type[v], 9, status, batch_of(v));
}

static int decode_statuses(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	uint32_t status[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;
	int err = wire_get_statuses(msg, len, status, &n);

	if (!err)
		check("statuses", msg, len, again, wire_put_statuses(again, type_of(msg), id_of(msg), status, n));
	return verdict("statuses", err);
}

static size_t sample_map(uint8_t *buf, enum wire_variant v)
{
	struct wire_target t[WIRE_ADDRS_MAX];

	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++)
		t[i] = (struct wire_target){value(v, 0x1112131415161718 + i), (uint32_t)value(v, i) & WIRE_MAP_KNOWN};
	return wire_put_targets(buf, WIRE_MAP, 11, t, batch_of(v));
}

static size_t sample_unmap(uint8_t *buf, enum wire_variant v)
{
	struct wire_target t[WIRE_ADDRS_MAX];

	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++)
		t[i] = (struct wire_target){value(v, 0x1112131415161718 + i), (uint32_t)value(v, i) & WIRE_UNMAP_KNOWN};
	return wire_put_targets(buf, WIRE_UNMAP, 11, t, batch_of(v));
}

static int decode_targets(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_target t[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;
	int err = wire_get_targets(msg, len, t, &n);

	if (!err)
		check("targets", msg, len, again, wire_put_targets(again, type_of(msg), id_of(msg), t, n));
	return verdict("targets", err);
}

static size_t sample_handles(uint8_t *buf, enum wire_variant v)
{
	struct wire_handle h[WIRE_ADDRS_MAX];

	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++)
		h[i] = (struct wire_handle){(uint32_t)value(v, i), (uint32_t)value(v, 0x11121314 + i),
					    value(v, 0x2122232425262728 + i)};
	return wire_put_handles(buf, 11, h, batch_of(v));
}

static int decode_handles(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_handle h[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;
	int err = wire_get_handles(msg, len, h, &n);

	if (!err)
		check("handles", msg, len, again, wire_put_handles(again, id_of(msg), h, n));
	return verdict("handles", err);
}

static size_t sample_ranges(uint8_t *buf, enum wire_variant v)
{
	struct wire_range r[WIRE_ADDRS_MAX];

	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++) {
		if (v == SAMPLE_USUAL)
			r[i] = (struct wire_range){i * BLOCK + 100, (uint32_t)(4096 + i)};
		else if (v == SAMPLE_LEAST)
			r[i] = (struct wire_range){BLOCK - 1, 1};
		else
			r[i] = (struct wire_range){-BLOCK, (uint32_t)BLOCK};
	}
	return wire_put_ranges(buf, 13, r, batch_of(v));
}

static int decode_ranges(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_range r[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;
	int err = wire_get_ranges(msg, len, r, &n);

	if (!err)
		check("ranges", msg, len, again, wire_put_ranges(again, id_of(msg), r, n));
	return verdict("ranges", err);
}

/* The list. */

static size_t sample_list(uint8_t *buf, enum wire_variant v)
{
	struct wire_list m = {value(v, 0x1112131415161718), (uint32_t)value(v, 0x21222324)};

	return wire_put_list(buf, 15, &m);
}

static int decode_list(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_list m;
	int err = wire_get_list(msg, len, &m);

	if (!err)
		check("list", msg, len, again, wire_put_list(again, id_of(msg), &m));
	return verdict("list", err);
}

static size_t sample_list_reply(uint8_t *buf, enum wire_variant v)
{
	struct wire_list_reply m = {.generation = value(v, 0x1112131415161718)};

	m.count = v == SAMPLE_LEAST ? 0 : v == SAMPLE_USUAL ? 3 : WIRE_EXTENTS_MAX;
	for (uint32_t i = 0; i < m.count; i++)
		m.extent[i] = (struct wire_extent){i * 10 * BLOCK, i + 1 < 10 ? i + 1 : 10};
	if (v == SAMPLE_USUAL) {
		m.more = true;
		m.next = 23 * BLOCK;
	} else if (v == SAMPLE_MOST) { /* up to the end of all addresses */
		m.extent[m.count - 1].start = -7 * BLOCK;
		m.extent[m.count - 1].count = 7;
	}
	return wire_put_list_reply(buf, 15, &m);
}

static int decode_list_reply(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_list_reply m;
	int err = wire_get_list_reply(msg, len, &m);

	if (!err)
		check("list reply", msg, len, again, wire_put_list_reply(again, id_of(msg), &m));
	return verdict("list reply", err);
}

/* What people ask. */

static size_t sample_stat_reply(uint8_t *buf, enum wire_variant v)
{
	struct wire_stat_reply m = {
		.instance = value(v, 0x1101), .loss_epoch = value(v, 0x1102), .capacity = value(v, 0x1103),
		.free = value(v, 0x1104),     .zeroed = value(v, 0x1105),     .uptime_ms = value(v, 0x1106),
		.generation = value(v, 0x1107), .sessions = (uint32_t)value(v, 0x1108), .lanes = (uint32_t)value(v, 0x1109),
		.maps = (uint32_t)value(v, 0x110a), .sessions_max = (uint32_t)value(v, 0x110b),
		.lanes_max = (uint32_t)value(v, 0x110c), .maps_max = (uint32_t)value(v, 0x110d),
		.method = WIRE_PERSIST_TARGET, .failed = v == SAMPLE_MOST, .fault = v != SAMPLE_LEAST,
		.regions = (uint32_t)value(v, 0x110e), .memory = (uint32_t)value(v, 0x110f),
		.memory_used = (uint32_t)value(v, 0x1110), .memory_pinned = (uint32_t)value(v, 0x1111),
		.memory_dirty = (uint32_t)value(v, 0x1112), .fills = value(v, 0x1113), .write_backs = value(v, 0x1114),
		.evictions = value(v, 0x1115), .recalls = value(v, 0x1116),
	};

	for (unsigned i = 0; i < sizeof(m.uuid); i++)
		m.uuid[i] = (uint8_t)value(v, 0xa0 + i);
	for (unsigned i = 0; i < WIRE_OPS; i++)
		m.op[i] = (struct wire_op_stat){value(v, 0x2000 + i), value(v, 0x3000 + i), value(v, 0x4000 + i),
						value(v, 0x5000 + i), value(v, 0x6000 + i), value(v, 0x7000 + i)};
	return wire_put_stat_reply(buf, 17, &m);
}

static int decode_stat_reply(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_stat_reply m;
	int err = wire_get_stat_reply(msg, len, &m);

	if (!err)
		check("stat reply", msg, len, again, wire_put_stat_reply(again, id_of(msg), &m));
	return verdict("stat reply", err);
}

static size_t sample_limits_reply(uint8_t *buf, enum wire_variant v)
{
	struct wire_limits_reply m = {0};

	m.limits = v == SAMPLE_LEAST ? 0 : v == SAMPLE_USUAL ? WIRE_LIMIT_ROWS : WIRE_ROWS_MAX;
	m.refusals = v == SAMPLE_LEAST ? 0 : v == SAMPLE_USUAL ? WIRE_REFUSED_ROWS : WIRE_ROWS_MAX;
	for (unsigned i = 0; i < WIRE_ROWS_MAX; i++) {
		m.limit[i].most = value(v, 0x2000 + i);
		m.limit[i].used = value(v, 0x3000 + i);
		m.refused[i] = value(v, 0x4000 + i);
	}
	return wire_put_limits_reply(buf, 17, &m);
}

static int decode_limits_reply(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_limits_reply m;
	int err = wire_get_limits_reply(msg, len, &m);

	if (!err)
		check("limits reply", msg, len, again, wire_put_limits_reply(again, id_of(msg), &m));
	return verdict("limits reply", err);
}

static size_t sample_sessions(uint8_t *buf, enum wire_variant v)
{
	static const uint16_t type[SAMPLES] = {WIRE_SESSIONS, WIRE_WHO, WIRE_REVOKE};
	struct wire_sessions m = {value(v, 0x1112131415161718)};

	return wire_put_sessions(buf, type[v], 19, &m);
}

static int decode_sessions(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_sessions m;
	int err = wire_get_sessions(msg, len, &m);

	if (!err)
		check("sessions", msg, len, again, wire_put_sessions(again, type_of(msg), id_of(msg), &m));
	return verdict("sessions", err);
}

static size_t sample_sessions_reply(uint8_t *buf, enum wire_variant v)
{
	struct wire_sessions_reply m = {.more = v == SAMPLE_MOST};

	m.count = v == SAMPLE_LEAST ? 0 : v == SAMPLE_USUAL ? 2 : WIRE_SESSIONS_MAX;
	for (uint32_t i = 0; i < m.count; i++) {
		m.session[i] = (struct wire_session_info){
			.session = value(v, 0x1101 + i), .pid = value(v, 0x1201 + i), .maps = (uint32_t)value(v, 0x1301 + i),
			.lanes = (uint32_t)value(v, 0x1401 + i), .heard_ms = (uint32_t)value(v, 0x1501 + i),
			.flags = (uint32_t)value(v, 1), .transport = "tcp", .name = "mkfs.brickfs@host.example",
		};
		if (v == SAMPLE_MOST) {
			memset(m.session[i].transport, 't', sizeof(m.session[i].transport) - 1);
			memset(m.session[i].name, 'n', sizeof(m.session[i].name) - 1);
		}
	}
	return wire_put_sessions_reply(buf, v == SAMPLE_USUAL ? WIRE_SESSIONS : WIRE_WHO, 19, &m);
}

static int decode_sessions_reply(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_sessions_reply m;
	int err = wire_get_sessions_reply(msg, len, &m);

	if (!err)
		check("sessions reply", msg, len, again, wire_put_sessions_reply(again, type_of(msg), id_of(msg), &m));
	return verdict("sessions reply", err);
}

static size_t sample_notice(uint8_t *buf, enum wire_variant v)
{
	struct wire_notice m = {(uint32_t)value(v, WIRE_NOTICE_RECALL), value(v, 0x1112131415161718)};

	return wire_put_notice(buf, &m);
}

static int decode_notice(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_MSG_MAX];
	struct wire_notice m;
	int err = wire_get_notice(msg, len, &m);

	if (!err)
		check("notice", msg, len, again, wire_put_notice(again, &m));
	return verdict("notice", err);
}

/* Data. */

static size_t sample_rw(uint8_t *buf, enum wire_variant v)
{
	struct wire_rw m = {0x11121314151ull * BLOCK + 100, 0x21222324, 4096};

	if (v == SAMPLE_LEAST)
		m = (struct wire_rw){BLOCK - 1, 0, 1};
	else if (v == SAMPLE_MOST)
		m = (struct wire_rw){-BLOCK, UINT32_MAX, (uint32_t)BLOCK};
	if (v == SAMPLE_LEAST)
		wire_put_rw(buf, WIRE_READ, 21, &m, 0);
	else
		wire_put_rw(buf, WIRE_WRITE, 21, &m, m.length);
	return WIRE_RW_FIXED;
}

static int decode_rw(const uint8_t *msg, size_t len)
{
	uint8_t again[WIRE_RW_FIXED];
	struct wire_rw m;
	int err = wire_get_rw(msg, len, &m);

	if (!err) {
		wire_put_rw(again, type_of(msg), id_of(msg), &m, type_of(msg) == WIRE_WRITE ? m.length : 0);
		check("read or write", msg, WIRE_RW_FIXED, again, sizeof(again));
	}
	return verdict("read or write", err);
}

const struct wire_case wire_cases[] = {
	{"preamble", WIRE_CASE_FIXED, sample_preamble, decode_preamble},
	{"preamble reply", WIRE_CASE_FIXED, sample_preamble_reply, decode_preamble_reply},
	{"header", WIRE_CASE_FIXED, sample_header, decode_header},
	{"hello", 0, sample_hello, decode_hello},
	{"hello reply", 0, sample_hello_reply, decode_hello_reply},
	{"addresses", 0, sample_addrs, decode_addrs},
	{"statuses", 0, sample_statuses, decode_statuses},
	{"map", 0, sample_map, decode_targets},
	{"unmap", 0, sample_unmap, decode_targets},
	{"handles", 0, sample_handles, decode_handles},
	{"ranges", 0, sample_ranges, decode_ranges},
	{"list", 0, sample_list, decode_list},
	{"list reply", 0, sample_list_reply, decode_list_reply},
	{"stat reply", 0, sample_stat_reply, decode_stat_reply},
	{"limits reply", 0, sample_limits_reply, decode_limits_reply},
	{"sessions", 0, sample_sessions, decode_sessions},
	{"sessions reply", 0, sample_sessions_reply, decode_sessions_reply},
	{"notice", 0, sample_notice, decode_notice},
	{"read or write", WIRE_CASE_FIXED, sample_rw, decode_rw},
};

const size_t n_wire_cases = sizeof(wire_cases) / sizeof(wire_cases[0]);

unsigned wire_decode_all(const uint8_t *msg, size_t len)
{
	unsigned accepted = 0;

	for (size_t i = 0; i < n_wire_cases; i++)
		accepted += !wire_cases[i].decode(msg, len);
	return accepted;
}
