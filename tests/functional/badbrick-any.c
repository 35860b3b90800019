/* SPDX-License-Identifier: BSD-3-Clause */
/* badbrick-any - alterations that any message may suffer (badbrick-cases.h). */
#include "badbrick-cases.h"

#include <string.h>

static bool is_payload(const struct bad_frame *f)
{
	return f->type == WIRE_READ || f->type == WIRE_WRITE;
}

static bool length_short(struct call *c)
{
	size_t less = 1 + next(c->random) % (c->f->length > 17 ? 15 : 1);

	put32(c->f->bytes, (uint32_t)(c->f->length - less));
	return true;
}

static bool length_long(struct call *c)
{
	put32(c->f->bytes, (uint32_t)(c->f->length + 1 + next(c->random) % 64));
	return true;
}

static bool length_huge(struct call *c)
{
	put32(c->f->bytes, next(c->random) & 1 ? UINT32_MAX : INT32_MAX);
	return true;
}

static bool length_zero(struct call *c)
{
	put32(c->f->bytes, (uint32_t)(next(c->random) % WIRE_HEADER_SIZE));
	return true;
}

static bool other_type(struct call *c)
{
	static const uint16_t types[] = { WIRE_HELLO, WIRE_KEEPALIVE, WIRE_ALLOC, WIRE_MAP, WIRE_LIST, WIRE_PERSIST, WIRE_READ, WIRE_WRITE, 0x7f };
	struct wire_header h = header_of(c->f);
	uint16_t type = types[next(c->random) % N(types)] | WIRE_REPLY;

	h.type = type == h.type ? 0x20 | WIRE_REPLY : type;
	wire_put_header(c->f->bytes, &h);
	return true;
}

static bool a_request(struct call *c)
{
	struct wire_header h = header_of(c->f);

	h.type &= (uint16_t)~WIRE_REPLY;
	wire_put_header(c->f->bytes, &h);
	return true;
}

static bool flags(struct call *c)
{
	struct wire_header h = header_of(c->f);

	h.flags = (uint16_t)(1 + next(c->random) % 65535);
	wire_put_header(c->f->bytes, &h);
	return true;
}

static bool old_id(struct call *c)
{
	struct wire_header h = header_of(c->f);

	h.id -= 1u << 16;
	wire_put_header(c->f->bytes, &h);
	return true;
}

static bool wild_id(struct call *c)
{
	struct wire_header h = header_of(c->f);

	h.id = (uint32_t)next(c->random);
	wire_put_header(c->f->bytes, &h);
	return true;
}

static bool answer_status(struct call *c, uint32_t status)
{
	struct wire_header h = header_of(c->f);

	h.status = status;
	h.length = WIRE_HEADER_SIZE;
	wire_put_header(c->f->bytes, &h);
	c->f->length = WIRE_HEADER_SIZE;
	return true;
}

bool bad_status(struct call *c)
{
	return answer_status(c, c->argument);
}

static bool status_eio(struct call *c)
{
	return answer_status(c, 5);
}

static bool status_again(struct call *c)
{
	return answer_status(c, 11);
}

static bool status_strange(struct call *c)
{
	return answer_status(c, 1000 + (uint32_t)(next(c->random) % 0xffff0000));
}

static bool status_and_body(struct call *c)
{
	struct wire_header h = header_of(c->f);

	h.status = 5;
	h.length += c->f->length == WIRE_HEADER_SIZE ? 8 : 0;
	memset(c->f->bytes + c->f->length, 0, h.length - c->f->length);
	c->f->length = h.length;
	wire_put_header(c->f->bytes, &h);
	return true;
}

static bool garbage(struct call *c)
{
	size_t from = is_payload(c->f) || c->f->length == WIRE_HEADER_SIZE ? 0 : WIRE_HEADER_SIZE;
	size_t to = is_payload(c->f) ? WIRE_HEADER_SIZE : c->f->length;

	for (size_t i = from; i < to; i++)
		c->f->bytes[i] = (uint8_t)next(c->random);
	return true;
}

static bool longer_body(struct call *c)
{
	size_t more = 1 + next(c->random) % 16;

	memset(c->f->bytes + c->f->length, 0, more);
	c->f->length += more;
	put32(c->f->bytes, (uint32_t)c->f->length);
	return true;
}

bool bad_cut(struct call *c)
{
	c->f->length = 1 + next(c->random) % (c->f->length - 1);
	c->f->close = true;
	return true;
}

static bool half(struct call *c)
{
	c->f->length = 1 + next(c->random) % (c->f->length - 1);
	c->f->silence = true;
	return true;
}

static bool closed(struct call *c)
{
	c->f->copies = 0;
	c->f->close = true;
	return true;
}

bool bad_silence(struct call *c)
{
	c->f->copies = 0;
	c->f->silence = true;
	return true;
}

static bool swallowed(struct call *c)
{
	c->f->copies = 0;
	return true;
}

static bool twice(struct call *c)
{
	c->f->copies = 2;
	return true;
}

static bool unasked(struct call *c)
{
	c->f->before_length = wire_put_plain(c->f->before, WIRE_KEEPALIVE | WIRE_REPLY, (uint32_t)next(c->random), 0);
	return true;
}

static bool unasked_statuses(struct call *c)
{
	uint32_t zero[4] = { 0 };

	c->f->before_length = wire_put_statuses(c->f->before, WIRE_ALLOC, header_of(c->f).id, zero, N(zero));
	return true;
}

static bool notice(struct call *c)
{
	const struct wire_notice n = { c->argument, next(c->random) | 1ull << 63 };

	c->f->before_length = wire_put_notice(c->f->before, &n);
	return true;
}

static bool notice_spoilt(struct call *c)
{
	notice(c);
	put32(c->f->before + 20, 1 + (uint32_t)next(c->random) % 7);
	return true;
}

/* Each with a few types. SURVIVES: once, in the middle of the use of a mount, it is mended, and nobody notices. */
const struct bad_row bad_any[] = {
	{ .name = "length-short", .alter = length_short, .flags = SURVIVES },
	{ .name = "length-long", .alter = length_long, .flags = SLOW },
	{ .name = "length-huge", .alter = length_huge, .flags = SURVIVES },
	{ .name = "length-zero", .alter = length_zero, .flags = SURVIVES },
	{ .name = "other-type", .alter = other_type, .flags = SURVIVES },
	{ .name = "a-request", .alter = a_request, .flags = SURVIVES },
	{ .name = "flags", .alter = flags, .flags = SURVIVES },
	{ .name = "old-id", .alter = old_id, .flags = SURVIVES },
	{ .name = "wild-id", .alter = wild_id, .flags = SURVIVES },
	{ .name = "status-eio", .alter = status_eio },
	{ .name = "status-again", .alter = status_again },
	{ .name = "status-strange", .alter = status_strange },
	{ .name = "status-and-body", .alter = status_and_body, .flags = SURVIVES },
	{ .name = "garbage", .alter = garbage, .flags = SURVIVES },
	{ .name = "longer-body", .alter = longer_body, .flags = SURVIVES },
	{ .name = "cut", .alter = bad_cut, .flags = SURVIVES },
	{ .name = "half", .alter = half, .flags = SLOW },
	{ .name = "closed", .alter = closed, .flags = SURVIVES },
	{ .name = "silence", .alter = bad_silence, .flags = SLOW },
	{ .name = "swallowed", .alter = swallowed, .flags = SLOW },
	{ .name = "twice", .alter = twice, .flags = SURVIVES },
	{ .name = "unasked", .alter = unasked, .flags = SURVIVES },
	{ .name = "unasked-statuses", .alter = unasked_statuses, .flags = SURVIVES },
	{ .name = "going-down", .alter = notice, .argument = WIRE_NOTICE_GOING_DOWN, .flags = SURVIVES },
	{ .name = "revoked", .alter = notice, .argument = WIRE_NOTICE_REVOKED, .flags = SURVIVES },
	{ .name = "recall", .alter = notice, .argument = WIRE_NOTICE_RECALL, .flags = SURVIVES },
	{ .name = "notice-spoilt", .alter = notice_spoilt, .flags = SURVIVES },
};
const size_t bad_any_count = N(bad_any);
