/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows that every message of the protocol survives encoding and decoding, that the
 * layouts are those of brick-protocol(7), and that nothing malformed is accepted:
 * cut, extended, damaged, out of its limits, or random.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check_run.h"
#include "../fuzz/wire_cases.h"
#include "wire.h"

#define BLOCK WIRE_BLOCK_SIZE

static uint8_t buf[WIRE_MSG_MAX];

static void set_length(uint8_t *msg, size_t len)
{
	for (unsigned i = 0; i < 4; i++)
		msg[i] = (uint8_t)(len >> (8 * i));
}

/* Decodes a copy of exactly that size, so that the sanitizer sees a read behind it. */
static int decode_exact(const struct wire_case *c, const uint8_t *msg, size_t len)
{
	uint8_t *exact = malloc(len ? len : 1);
	int err;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, msg, len);
	err = c->decode(exact, len);
	free(exact);
	return err;
}

/* Each sample is accepted by its decoder (which also compares the second encoding). */
START_TEST(test_both_ways)
{
	const struct wire_case *c = &wire_cases[_i];

	for (unsigned v = 0; v < SAMPLES; v++) {
		size_t len = c->sample(buf, (enum wire_variant)v);

		ck_assert_uint_ge(len, WIRE_HEADER_SIZE);
		ck_assert_uint_le(len, WIRE_MSG_MAX);
		ck_assert_int_eq(decode_exact(c, buf, len), 0);
	}
}
END_TEST

/* Every truncation is refused, with the header's old length and with one that agrees. */
START_TEST(test_truncated)
{
	const struct wire_case *c = &wire_cases[_i];

	for (unsigned v = 0; v < SAMPLES; v++) {
		size_t len = c->sample(buf, (enum wire_variant)v);

		for (size_t cut = 0; cut < len; cut++) {
			uint8_t shorter[WIRE_MSG_MAX];

			ck_assert_int_eq(decode_exact(c, buf, cut), -EPROTO);
			if (c->flags & WIRE_CASE_FIXED || cut < 4)
				continue;
			memcpy(shorter, buf, cut);
			set_length(shorter, cut);
			ck_assert_int_eq(decode_exact(c, shorter, cut), -EPROTO);
		}
	}
}
END_TEST

/* Trailing bytes are refused, whether the header counts them or not. */
START_TEST(test_extended)
{
	const struct wire_case *c = &wire_cases[_i];

	if (c->flags & WIRE_CASE_FIXED)
		return;
	for (unsigned v = 0; v < SAMPLES; v++) {
		size_t len = c->sample(buf, (enum wire_variant)v);

		for (size_t more = 1; more <= 32 && len + more <= WIRE_MSG_MAX; more++) {
			memset(buf + len, 0, more);
			set_length(buf, len);
			ck_assert_int_eq(decode_exact(c, buf, len + more), -EPROTO);
			set_length(buf, len + more);
			ck_assert_int_eq(decode_exact(c, buf, len + more), -EPROTO);
		}
	}
}
END_TEST

/* Every byte of every sample set to other values: refused, or accepted as what it then says (decode compares). */
START_TEST(test_one_byte)
{
	const struct wire_case *c = &wire_cases[_i];
	unsigned refused = 0;

	for (unsigned v = 0; v < SAMPLES; v++) {
		size_t len = c->sample(buf, (enum wire_variant)v);
		unsigned step = len > 512 ? 97 : 1;

		for (size_t at = 0; at < len; at++) {
			uint8_t old = buf[at];

			for (unsigned x = 0; x < 256; x += step) {
				buf[at] = (uint8_t)(old ^ x);
				refused += decode_exact(c, buf, len) != 0;
			}
			buf[at] = old;
		}
	}
	ck_assert_uint_gt(refused, 0);
}
END_TEST

/* Random bytes, bare and behind a header of each type whose length agrees. */
START_TEST(test_random)
{
	static const uint16_t types[] = {
		WIRE_HELLO, WIRE_ALLOC, WIRE_FREE, WIRE_MAP, WIRE_UNMAP, WIRE_LIST, WIRE_PERSIST, WIRE_STAT, WIRE_LIMITS, WIRE_SESSIONS,
		WIRE_WHO, WIRE_REVOKE, WIRE_NOTICE, WIRE_READ, WIRE_WRITE,
	};
	unsigned accepted = 0;

	srandom(4711);
	for (unsigned i = 0; i < 100000; i++) {
		size_t len = (size_t)random() % (i % 16 ? 200 : WIRE_MSG_MAX);
		uint8_t *msg = malloc(len ? len : 1);

		ck_assert_ptr_nonnull(msg);
		for (size_t at = 0; at < len; at++)
			msg[at] = (uint8_t)(random() >> 8);
		if (i % 4 && len >= WIRE_HEADER_SIZE) {
			struct wire_header h = {
				.length = (uint32_t)len,
				.type = types[random() % (long)(sizeof(types) / sizeof(types[0]))],
				.id = (uint32_t)random(),
			};

			if (random() % 2)
				h.type |= WIRE_REPLY;
			wire_put_header(msg, &h);
			/* a count that fits, often: so that entries are looked at */
			if (i % 3 && len >= 24) {
				memset(msg + 16, 0, 8);
				msg[16] = (uint8_t)((len - 24) / (random() % 2 ? 16 : 8));
			}
		}
		accepted += wire_decode_all(msg, len);
		free(msg);
	}
	ck_assert_uint_gt(accepted, 0);
}
END_TEST

/* The layouts, byte by byte, as the manual page has them. */
START_TEST(test_layout)
{
	static const uint8_t preamble[WIRE_PREAMBLE_SIZE] = {
		'B', 'R', 'K', '1', 1, 0, 5, 0, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
		0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x34, 0x12, 0, 0, 0, 0, 0, 0};
	static const uint8_t preamble_reply[WIRE_PREAMBLE_REPLY_SIZE] = {
		'B', 'R', 'K', '1', 16, 0, 0, 0, 1, 0, 0x34, 0x12, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
		0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t plain[] = {16, 0, 0, 0, 5, 0x80, 0, 0, 4, 3, 2, 1, 16, 0, 0, 0};
	static const uint8_t map[] = {
		40, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, /* header */
		1, 0, 0, 0, 0, 0, 0, 0,				 /* count */
		0, 0, 0x20, 0, 0, 0, 0, 0x80, 3, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t handle[] = {
		40, 0, 0, 0, 5, 0x80, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0,
		16, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1};
	static const uint8_t extents[] = {
		56, 0, 0, 0, 7, 0x80, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
		9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, /* generation, next, count, more */
		0, 0, 0x20, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t write_message[] = {
		32, 0x10, 0, 0, 0x41, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0x20, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0x10, 0, 0};
	struct wire_list_reply list = {.generation = 9, .next = 3 * BLOCK, .more = true, .count = 1, .extent = {{BLOCK, 2}}};
	struct wire_target target = {0x8000000000200000, WIRE_MAP_WRITE | WIRE_MAP_EXCLUSIVE};
	struct wire_handle one = {16, 0x01020304, 0x0102030405060708};
	struct wire_rw rw = {BLOCK, 0x01020304, 4096};
	const struct wire_case *c = wire_cases;

	ck_assert_uint_eq(c[0].sample(buf, SAMPLE_USUAL), sizeof(preamble));
	ck_assert_mem_eq(buf, preamble, sizeof(preamble));
	ck_assert_uint_eq(c[1].sample(buf, SAMPLE_USUAL), sizeof(preamble_reply));
	ck_assert_mem_eq(buf, preamble_reply, sizeof(preamble_reply));
	ck_assert_uint_eq(wire_put_plain(buf, WIRE_MAP | WIRE_REPLY, 0x01020304, -EBUSY), sizeof(plain));
	ck_assert_mem_eq(buf, plain, sizeof(plain));
	ck_assert_uint_eq(wire_put_targets(buf, WIRE_MAP, 3, &target, 1), sizeof(map));
	ck_assert_mem_eq(buf, map, sizeof(map));
	ck_assert_uint_eq(wire_put_handles(buf, 3, &one, 1), sizeof(handle));
	ck_assert_mem_eq(buf, handle, sizeof(handle));
	ck_assert_uint_eq(wire_put_list_reply(buf, 3, &list), sizeof(extents));
	ck_assert_mem_eq(buf, extents, sizeof(extents));
	wire_put_rw(buf, WIRE_WRITE, 3, &rw, 4096);
	ck_assert_mem_eq(buf, write_message, sizeof(write_message));
}
END_TEST

/* Every field arrives where it was sent: two fields swapped on both sides would pass the comparison of bytes. */
START_TEST(test_fields)
{
	struct wire_hello hello = {1, 2, 3, 4, 5, "x"}, hello2;
	struct wire_hello_reply reply = {1, {2}, 3, 4, 500, 6, 7, 8, 9, 10, 11, 12, WIRE_PERSIST_VOLATILE}, reply2;
	struct wire_stat_reply stat = {{1}, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1, 0, 1, {{1, 2, 3, 4, 5, 6}},
				       15, 16, 17, 18, 19, 20, 21, 22, 23}, stat2;
	struct wire_sessions_reply sessions = {.more = true, .count = 1}, sessions2;
	struct wire_limits_reply limits = {.limits = 2, .refusals = 1, .limit = {{3, 4}, {5, 6}}, .refused = {7}}, limits2;
	struct wire_notice notice = {3, 4}, notice2;
	size_t len;

	len = wire_put_hello(buf, 1, &hello);
	ck_assert_uint_eq(len, 104);
	ck_assert_int_eq(wire_get_hello(buf, len, &hello2), 0);
	ck_assert(hello2.features == 1 && hello2.maps == 2 && hello2.lanes == 3 && hello2.depth == 4 && hello2.pid == 5);
	ck_assert_str_eq(hello2.name, "x");
	ck_assert_uint_eq(buf[16], 1);
	ck_assert_uint_eq(buf[24], 2);
	ck_assert_uint_eq(buf[28], 3);
	ck_assert_uint_eq(buf[30], 4);
	ck_assert_uint_eq(buf[32], 5);
	ck_assert_uint_eq(buf[40], 'x');

	len = wire_put_hello_reply(buf, 1, &reply);
	ck_assert_uint_eq(len, 104);
	ck_assert_int_eq(wire_get_hello_reply(buf, len, &reply2), 0);
	ck_assert(reply2.features == 1 && reply2.uuid[0] == 2 && reply2.instance == 3 && reply2.loss_epoch == 4);
	ck_assert(reply2.capacity == 500 && reply2.free == 6 && reply2.session == 7 && reply2.maps == 8);
	ck_assert(reply2.lanes == 9 && reply2.depth == 10 && reply2.lease_ms == 11 && reply2.fds == 12);
	ck_assert(reply2.method == WIRE_PERSIST_VOLATILE);
	ck_assert_uint_eq(buf[24], 2);	/* uuid */
	ck_assert_uint_eq(buf[40], 3);	/* instance */
	ck_assert_uint_eq(buf[80], 8);	/* maps */
	ck_assert_uint_eq(buf[92], 12); /* fds */
	ck_assert_uint_eq(buf[96], 3);	/* method */

	len = wire_put_stat_reply(buf, 1, &stat);
	ck_assert_uint_eq(len, 624);
	ck_assert_int_eq(wire_get_stat_reply(buf, len, &stat2), 0);
	ck_assert(stat2.uuid[0] == 1 && stat2.instance == 2 && stat2.loss_epoch == 3 && stat2.capacity == 4);
	ck_assert(stat2.free == 5 && stat2.zeroed == 6 && stat2.uptime_ms == 7 && stat2.sessions == 8);
	ck_assert(stat2.lanes == 9 && stat2.maps == 10 && stat2.sessions_max == 11 && stat2.lanes_max == 12);
	ck_assert(stat2.maps_max == 13 && stat2.generation == 14 && stat2.method == 1 && !stat2.failed && stat2.fault);
	ck_assert(stat2.op[0].count == 1 && stat2.op[0].errors == 2 && stat2.op[0].bytes == 3);
	ck_assert(stat2.regions == 15 && stat2.memory == 16 && stat2.memory_used == 17 && stat2.memory_pinned == 18);
	ck_assert(stat2.memory_dirty == 19 && stat2.fills == 20 && stat2.write_backs == 21 && stat2.evictions == 22);
	ck_assert(stat2.recalls == 23);
	ck_assert(stat2.op[0].p50_ns == 4 && stat2.op[0].p99_ns == 5 && stat2.op[0].max_ns == 6);

	len = wire_put_limits_reply(buf, 1, &limits);
	ck_assert_uint_eq(len, 24 + 2 * 16 + 8);
	ck_assert_uint_eq(buf[24], 3); /* most */
	ck_assert_uint_eq(buf[32], 4); /* used */
	ck_assert_uint_eq(buf[56], 7);
	ck_assert_int_eq(wire_get_limits_reply(buf, len, &limits2), 0);
	ck_assert(limits2.limits == 2 && limits2.refusals == 1 && limits2.refused[0] == 7);
	ck_assert(limits2.limit[0].most == 3 && limits2.limit[0].used == 4 && limits2.limit[1].most == 5 && limits2.limit[1].used == 6);
	limits.limits = WIRE_ROWS_MAX + 1;
	ck_assert_uint_eq(wire_put_limits_reply(buf, 1, &limits), 0);

	sessions.session[0] = (struct wire_session_info){1, 2, 3, 4, 5, 6, "tcp", "name"};
	len = wire_put_sessions_reply(buf, WIRE_WHO, 1, &sessions);
	ck_assert_uint_eq(len, 128);
	ck_assert_int_eq(wire_get_sessions_reply(buf, len, &sessions2), 0);
	ck_assert(sessions2.more && sessions2.count == 1);
	ck_assert_mem_eq(&sessions2.session[0], &sessions.session[0], sizeof(sessions.session[0]));

	len = wire_put_notice(buf, &notice);
	ck_assert_uint_eq(len, 32);
	ck_assert_int_eq(wire_get_notice(buf, len, &notice2), 0);
	ck_assert(notice2.kind == 3 && notice2.arg == 4);
}
END_TEST

/* Batches of the most entries fit a message; of none or one more are not encoded; a decoder with less room refuses. */
START_TEST(test_batch_limits)
{
	uint64_t addrs[WIRE_ADDRS_MAX + 1] = {0};
	size_t n, len;

	ck_assert_uint_eq(wire_put_addrs(buf, WIRE_ALLOC, 1, addrs, 0), 0);
	ck_assert_uint_eq(wire_put_addrs(buf, WIRE_ALLOC, 1, addrs, WIRE_ADDRS_MAX + 1), 0);
	for (size_t i = 0; i < WIRE_ADDRS_MAX; i++)
		addrs[i] = i * BLOCK;
	len = wire_put_addrs(buf, WIRE_ALLOC, 1, addrs, WIRE_ADDRS_MAX);
	ck_assert_uint_gt(len, 0);
	n = WIRE_ADDRS_MAX;
	ck_assert_int_eq(wire_get_addrs(buf, len, addrs, &n), 0);
	ck_assert_uint_eq(n, WIRE_ADDRS_MAX);
	ck_assert_uint_eq(addrs[WIRE_ADDRS_MAX - 1], (WIRE_ADDRS_MAX - 1) * BLOCK);
	n = WIRE_ADDRS_MAX - 1;
	ck_assert_int_eq(wire_get_addrs(buf, len, addrs, &n), -EPROTO);

	/* a count whose product with the entry's size is that of the body modulo 2^32 */
	len = wire_put_addrs(buf, WIRE_ALLOC, 1, addrs, 1);
	buf[19] = 0x20;
	n = WIRE_ADDRS_MAX;
	ck_assert_int_eq(wire_get_addrs(buf, len, addrs, &n), -EPROTO);
	ck_assert_uint_eq(n, 0);
}
END_TEST

/* A message of the wrong kind, with flags, or with a status has no body to decode. */
START_TEST(test_header_rules)
{
	uint64_t addr = BLOCK;
	uint32_t status = 0;
	struct wire_header h;
	size_t n = 1, len = wire_put_addrs(buf, WIRE_ALLOC, 1, &addr, 1);

	ck_assert_int_eq(wire_get_statuses(buf, len, &status, &n), -EPROTO);
	n = 1;
	buf[6] = 1;
	ck_assert_int_eq(wire_get_addrs(buf, len, &addr, &n), -EPROTO);
	ck_assert_int_eq(wire_get_header(buf, len, &h), 0); /* so that the brick can answer EINVAL */
	ck_assert_uint_eq(h.flags, 1);
	buf[6] = 0;
	n = 1;
	buf[12] = 5;
	ck_assert_int_eq(wire_get_addrs(buf, len, &addr, &n), -EPROTO);
	buf[12] = 0;
	n = 1;
	ck_assert_int_eq(wire_get_addrs(buf, len, &addr, &n), 0);

	for (unsigned type = 0; type <= UINT16_MAX; type++) {
		uint32_t most = type == WIRE_WRITE		     ? WIRE_RW_FIXED + WIRE_DATA_MAX
				: type == (WIRE_READ | WIRE_REPLY) ? WIRE_HEADER_SIZE + WIRE_DATA_MAX
								     : WIRE_MSG_MAX;

		wire_put_header(buf, &(struct wire_header){.length = most, .type = (uint16_t)type});
		ck_assert_int_eq(wire_get_header(buf, WIRE_HEADER_SIZE, &h), 0);
		wire_put_header(buf, &(struct wire_header){.length = most + 1, .type = (uint16_t)type});
		ck_assert_int_eq(wire_get_header(buf, WIRE_HEADER_SIZE, &h), -EPROTO);
		wire_put_header(buf, &(struct wire_header){.length = WIRE_HEADER_SIZE - 1, .type = (uint16_t)type});
		ck_assert_int_eq(wire_get_header(buf, WIRE_HEADER_SIZE, &h), -EPROTO);
	}
}
END_TEST

START_TEST(test_unknown_flags)
{
	struct wire_target t = {BLOCK, WIRE_MAP_KNOWN};
	size_t n = 1, len = wire_put_targets(buf, WIRE_MAP, 1, &t, 1);

	ck_assert_int_eq(wire_get_targets(buf, len, &t, &n), 0);
	t.flags = WIRE_MAP_KNOWN + 1;
	len = wire_put_targets(buf, WIRE_MAP, 1, &t, 1);
	ck_assert_int_eq(wire_get_targets(buf, len, &t, &n), -EPROTO);
	t.flags = WIRE_MAP_EXCLUSIVE; /* known to MAP, not to UNMAP */
	n = 1;
	len = wire_put_targets(buf, WIRE_UNMAP, 1, &t, 1);
	ck_assert_int_eq(wire_get_targets(buf, len, &t, &n), -EPROTO);
}
END_TEST

static int range_verdict(uint64_t addr, uint32_t length)
{
	struct wire_range r = {addr, length};
	size_t n = 1;

	return wire_get_ranges(buf, wire_put_ranges(buf, 1, &r, 1), &r, &n);
}

static int rw_verdict(uint16_t type, uint64_t addr, uint32_t length, size_t payload)
{
	struct wire_rw m = {addr, 1, length};

	wire_put_rw(buf, type, 1, &m, payload);
	return wire_get_rw(buf, WIRE_RW_FIXED, &m);
}

/* Ranges, reads and writes stay in their block and are not empty. */
START_TEST(test_ranges)
{
	static const struct {
		uint64_t addr;
		uint32_t length;
		int verdict;
	} t[] = {
		{0, 1, 0}, {0, BLOCK, 0}, {BLOCK - 1, 1, 0}, {-BLOCK, BLOCK, 0}, {UINT64_MAX, 1, 0},
		{0, 0, -EPROTO}, {0, BLOCK + 1, -EPROTO}, {BLOCK - 1, 2, -EPROTO}, {1, BLOCK, -EPROTO},
		{UINT64_MAX, 2, -EPROTO}, {5, UINT32_MAX, -EPROTO},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		ck_assert_int_eq(range_verdict(t[i].addr, t[i].length), t[i].verdict);
		ck_assert_int_eq(rw_verdict(WIRE_READ, t[i].addr, t[i].length, 0), t[i].verdict);
		ck_assert_int_eq(rw_verdict(WIRE_WRITE, t[i].addr, t[i].length, t[i].length), t[i].verdict);
	}
	ck_assert_int_eq(rw_verdict(WIRE_READ, 0, 4096, 4096), -EPROTO); /* a READ request has no payload */
	ck_assert_int_eq(rw_verdict(WIRE_WRITE, 0, 4096, 4095), -EPROTO);
	ck_assert_int_eq(rw_verdict(WIRE_WRITE, 0, 4096, 0), -EPROTO);
	ck_assert_int_eq(rw_verdict(WIRE_READ | WIRE_REPLY, 0, 4096, 0), -EPROTO);
	ck_assert_int_eq(rw_verdict(WIRE_PERSIST, 0, 4096, 0), -EPROTO);
}
END_TEST

static int list_verdict(uint64_t start0, uint64_t count0, uint64_t start1, uint64_t count1, bool more, uint64_t next)
{
	struct wire_list_reply m = {.count = 2, .extent = {{start0, count0}, {start1, count1}}, .more = more, .next = next};

	return wire_get_list_reply(buf, wire_put_list_reply(buf, 1, &m), &m);
}

/* Extents that a hostile brick could send: unsorted, overlapping, empty, unaligned, wrapping, or leading in circles. */
START_TEST(test_extents)
{
	struct wire_list_reply none = {.more = true, .next = BLOCK};

	ck_assert_int_eq(list_verdict(0, 1, BLOCK, 1, false, 0), 0);
	ck_assert_int_eq(list_verdict(0, 1, 5 * BLOCK, 1, true, 6 * BLOCK), 0);
	ck_assert_int_eq(list_verdict(0, 1, -BLOCK, 1, false, 0), 0);
	ck_assert_int_eq(list_verdict(0, (1ull << 43) - 1, -BLOCK, 1, false, 0), 0);
	ck_assert_int_eq(list_verdict(5 * BLOCK, 1, 0, 1, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 2, BLOCK, 1, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, 0, 1, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 0, BLOCK, 1, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, BLOCK + 1, 1, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, -BLOCK, 2, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, BLOCK, UINT64_MAX, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1ull << 43, -BLOCK, 1, false, 0), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, 5 * BLOCK, 1, true, 5 * BLOCK), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, 5 * BLOCK, 1, true, 6 * BLOCK + 1), -EPROTO);
	ck_assert_int_eq(list_verdict(0, 1, -BLOCK, 1, true, 0), -EPROTO);
	ck_assert_int_eq(wire_get_list_reply(buf, wire_put_list_reply(buf, 1, &none), &none), -EPROTO);
}
END_TEST

/* Names are printable when they are sent and refused when they are not: people's terminals show them. */
START_TEST(test_text)
{
	struct wire_hello m = {.name = "a\033[2Jb\xc2\x9b\n"}, back;
	size_t len = wire_put_hello(buf, 1, &m);

	ck_assert_int_eq(wire_get_hello(buf, len, &back), 0);
	ck_assert_str_eq(back.name, "a?[2Jb???");
	memset(m.name, 'x', sizeof(m.name)); /* no NUL: cut */
	len = wire_put_hello(buf, 1, &m);
	ck_assert_int_eq(wire_get_hello(buf, len, &back), 0);
	ck_assert_uint_eq(strlen(back.name), WIRE_NAME_MAX - 1);
	buf[40 + WIRE_NAME_MAX - 1] = 'x';
	ck_assert_int_eq(wire_get_hello(buf, len, &back), -EPROTO);
	memset(buf + 40, 0, WIRE_NAME_MAX);
	ck_assert_int_eq(wire_get_hello(buf, len, &back), 0);
	buf[40] = '\033';
	ck_assert_int_eq(wire_get_hello(buf, len, &back), -EPROTO);
	buf[40] = 0;
	buf[42] = 'x'; /* behind its NUL */
	ck_assert_int_eq(wire_get_hello(buf, len, &back), -EPROTO);
}
END_TEST

START_TEST(test_status)
{
	static const struct {
		int error;
		uint32_t status;
	} t[] = {{0, 0}, {-ENOENT, 2}, {-EIO, 5}, {-ENOMEM, 12}, {-EACCES, 13}, {-EBUSY, 16}, {-EEXIST, 17}, {-EINVAL, 22},
		 {-ENOSPC, 28}, {-EPROTO, 71}, {-EUSERS, 87}, {-EPROTONOSUPPORT, 93}, {-EOPNOTSUPP, 95}, {-ESHUTDOWN, 108},
		 {-ETIMEDOUT, 110}, {-ESTALE, 116}, {-EKEYREVOKED, 128}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		ck_assert_uint_eq(wire_status(t[i].error), t[i].status);
		ck_assert_int_eq(wire_errno(t[i].status), t[i].error);
	}
	ck_assert_uint_eq(wire_status(-ENOTTY), 5); /* not of the protocol: an I/O error, never success */
	ck_assert_uint_eq(wire_status(4711), 5);
	ck_assert_int_eq(wire_errno(4711), -EIO);
	ck_assert_int_eq(wire_errno(UINT32_MAX), -EIO);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire");
	TCase *tc = tcase_create("messages");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_both_ways, 0, (int)n_wire_cases);
	tcase_add_loop_test(tc, test_truncated, 0, (int)n_wire_cases);
	tcase_add_loop_test(tc, test_extended, 0, (int)n_wire_cases);
	tcase_add_loop_test(tc, test_one_byte, 0, (int)n_wire_cases);
	tcase_add_test(tc, test_random);
	tcase_add_test(tc, test_layout);
	tcase_add_test(tc, test_fields);
	tcase_add_test(tc, test_batch_limits);
	tcase_add_test(tc, test_header_rules);
	tcase_add_test(tc, test_unknown_flags);
	tcase_add_test(tc, test_ranges);
	tcase_add_test(tc, test_extents);
	tcase_add_test(tc, test_text);
	tcase_add_test(tc, test_status);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
