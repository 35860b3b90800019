/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire - encoders and decoders of the control protocol (wire.h, brick-protocol(7)).
 *
 * Everything goes through two bounds-checked cursors.  A cursor that ran over its
 * end stays failed and yields zeroes, so that a message is taken apart in
 * one go and judged once, at the end, by get_end().
 */
#include <errno.h>
#include <string.h>

#include "wire.h"
#include "wire-cursor.h"

#define BATCH_HEAD 8 /* count, and 4 bytes that are zero */
#define LIST_HEAD 24
#define EXTENT_SIZE 16
#define SESSION_SIZE 104
#define SESSIONS_HEAD 8
#define BLOCKS_MAX (1ull << (64 - WIRE_BLOCK_SHIFT)) /* block numbers are below this */

_Static_assert(WIRE_ADDRS_MAX >= 1 && WIRE_HEADER_SIZE + BATCH_HEAD + WIRE_ADDRS_MAX * 16 <= WIRE_MSG_MAX,
	       "a full batch fits a message");
_Static_assert(WIRE_HEADER_SIZE + LIST_HEAD + WIRE_EXTENTS_MAX * EXTENT_SIZE <= WIRE_MSG_MAX,
	       "a full page of extents fits a message");
_Static_assert(WIRE_HEADER_SIZE + SESSIONS_HEAD + WIRE_SESSIONS_MAX * SESSION_SIZE <= WIRE_MSG_MAX,
	       "a full page of sessions fits a message");
_Static_assert(WIRE_HEADER_SIZE + 176 + WIRE_OPS * 48 <= WIRE_MSG_MAX, "the statistics fit a message");
_Static_assert(WIRE_PREAMBLE_SIZE <= 48 && WIRE_PREAMBLE_REPLY_SIZE <= 48, "preambles fit the CM's private data");
_Static_assert(WIRE_DATA_MAX <= UINT32_MAX - WIRE_RW_FIXED, "a data message has a 32-bit length");

/* The status numbers of the protocol, and what they are called on this host. */
static const struct {
	uint16_t status;
	int error;
} statuses[] = {
	{1, EPERM},	    {2, ENOENT},     {4, EINTR},       {5, EIO},	   {6, ENXIO},	       {11, EAGAIN},
	{12, ENOMEM},	    {13, EACCES},    {14, EFAULT},     {16, EBUSY},	   {17, EEXIST},       {18, EXDEV},        {19, ENODEV},
	{22, EINVAL},	    {23, ENFILE},    {24, EMFILE},	    {27, EFBIG},     {28, ENOSPC},     {30, EROFS},	   {34, ERANGE},       {62, ETIME},
	{71, EPROTO},	    {75, EOVERFLOW}, {87, EUSERS},     {90, EMSGSIZE},	   {93, EPROTONOSUPPORT}, {95, EOPNOTSUPP},
	{103, ECONNABORTED}, {104, ECONNRESET}, {105, ENOBUFS}, {107, ENOTCONN},   {108, ESHUTDOWN},   {110, ETIMEDOUT},
	{114, EALREADY},    {116, ESTALE},   {122, EDQUOT},    {125, ECANCELED},   {127, EKEYEXPIRED}, {128, EKEYREVOKED},
};

#define N_STATUSES (sizeof(statuses) / sizeof(statuses[0]))

uint32_t wire_status(int error)
{
	if (!error)
		return 0;
	for (size_t i = 0; i < N_STATUSES; i++)
		if (statuses[i].error == -error)
			return statuses[i].status;
	return 5;
}

int wire_errno(uint32_t status)
{
	if (!status)
		return 0;
	for (size_t i = 0; i < N_STATUSES; i++)
		if (statuses[i].status == status)
			return -statuses[i].error;
	return -EIO;
}

/* Preambles. */

void wire_put_preamble(uint8_t *buf, const struct wire_preamble *m)
{
	struct put p = {.start = buf, .at = buf, .left = WIRE_PREAMBLE_SIZE};

	put_u32(&p, WIRE_MAGIC);
	put_u16(&p, m->version_min);
	put_u16(&p, m->version_max);
	put_bytes(&p, m->token, WIRE_TOKEN_SIZE);
	put_u16(&p, m->lane);
	put_zeroes(&p, 6);
}

int wire_get_preamble(const uint8_t *buf, size_t len, struct wire_preamble *m)
{
	struct get g = {.at = buf, .left = len < WIRE_PREAMBLE_SIZE ? len : WIRE_PREAMBLE_SIZE};

	get_need(&g, get_u32(&g) == WIRE_MAGIC);
	m->version_min = get_u16(&g);
	m->version_max = get_u16(&g);
	get_bytes(&g, m->token, WIRE_TOKEN_SIZE);
	m->lane = get_u16(&g);
	get_zeroes(&g, 6);
	get_need(&g, m->version_min && m->version_min <= m->version_max);
	return get_end(&g);
}

void wire_put_preamble_reply(uint8_t *buf, const struct wire_preamble_reply *m)
{
	struct put p = {.start = buf, .at = buf, .left = WIRE_PREAMBLE_REPLY_SIZE};

	put_u32(&p, WIRE_MAGIC);
	put_u32(&p, m->status);
	put_u16(&p, m->version);
	put_u16(&p, m->lane);
	put_bytes(&p, m->token, WIRE_TOKEN_SIZE);
	put_zeroes(&p, 12);
}

int wire_get_preamble_reply(const uint8_t *buf, size_t len, struct wire_preamble_reply *m)
{
	struct get g = {.at = buf, .left = len < WIRE_PREAMBLE_REPLY_SIZE ? len : WIRE_PREAMBLE_REPLY_SIZE};

	get_need(&g, get_u32(&g) == WIRE_MAGIC);
	m->status = get_u32(&g);
	m->version = get_u16(&g);
	m->lane = get_u16(&g);
	get_bytes(&g, m->token, WIRE_TOKEN_SIZE);
	get_zeroes(&g, 12);
	return get_end(&g);
}

/* The header. */

void wire_put_header(uint8_t *buf, const struct wire_header *h)
{
	struct put p = {.start = buf, .at = buf, .left = WIRE_HEADER_SIZE};

	put_u32(&p, h->length);
	put_u16(&p, h->type);
	put_u16(&p, h->flags);
	put_u32(&p, h->id);
	put_u32(&p, h->status);
}

/* The longest message of a type: only what carries file data is longer than a control message. */
static uint32_t length_max(uint16_t type)
{
	switch (type) {
	case WIRE_WRITE:
		return WIRE_RW_FIXED + WIRE_DATA_MAX;
	case WIRE_READ | WIRE_REPLY:
		return WIRE_HEADER_SIZE + WIRE_DATA_MAX;
	default:
		return WIRE_MSG_MAX;
	}
}

int wire_get_header(const uint8_t *buf, size_t len, struct wire_header *h)
{
	struct get g = {.at = buf, .left = len < WIRE_HEADER_SIZE ? len : WIRE_HEADER_SIZE};

	h->length = get_u32(&g);
	h->type = get_u16(&g);
	h->flags = get_u16(&g);
	h->id = get_u32(&g);
	h->status = get_u32(&g);
	get_need(&g, h->length >= WIRE_HEADER_SIZE && h->length <= length_max(h->type));
	return get_end(&g);
}

size_t wire_put_plain(uint8_t *buf, uint16_t type, uint32_t id, int error)
{
	struct wire_header h = {.length = WIRE_HEADER_SIZE, .type = type, .id = id, .status = wire_status(error)};

	wire_put_header(buf, &h);
	return WIRE_HEADER_SIZE;
}

/* Sessions: hello. */

size_t wire_put_hello(uint8_t *buf, uint32_t id, const struct wire_hello *m)
{
	struct put p = put_begin(buf, WIRE_HELLO, id);

	put_u64(&p, m->features);
	put_u32(&p, m->maps);
	put_u16(&p, m->lanes);
	put_u16(&p, m->depth);
	put_u64(&p, m->pid);
	put_text(&p, m->name, WIRE_NAME_MAX);
	return put_end(&p);
}

int wire_get_hello(const uint8_t *msg, size_t len, struct wire_hello *m)
{
	struct get g = get_typed(msg, len, WIRE_HELLO);

	m->features = get_u64(&g);
	m->maps = get_u32(&g);
	m->lanes = get_u16(&g);
	m->depth = get_u16(&g);
	m->pid = get_u64(&g);
	get_text(&g, m->name, WIRE_NAME_MAX);
	return get_end(&g);
}

static bool method_known(uint8_t method)
{
	return method >= WIRE_PERSIST_TARGET && method <= WIRE_PERSIST_VOLATILE;
}

size_t wire_put_hello_reply(uint8_t *buf, uint32_t id, const struct wire_hello_reply *m)
{
	struct put p = put_begin(buf, WIRE_HELLO | WIRE_REPLY, id);

	put_u64(&p, m->features);
	put_bytes(&p, m->uuid, WIRE_UUID_SIZE);
	put_u64(&p, m->instance);
	put_u64(&p, m->loss_epoch);
	put_u64(&p, m->capacity);
	put_u64(&p, m->free);
	put_u64(&p, m->session);
	put_u32(&p, m->maps);
	put_u16(&p, m->lanes);
	put_u16(&p, m->depth);
	put_u32(&p, m->lease_ms);
	put_u32(&p, m->fds);
	put_u8(&p, m->method);
	put_zeroes(&p, 7);
	return put_end(&p);
}

int wire_get_hello_reply(const uint8_t *msg, size_t len, struct wire_hello_reply *m)
{
	struct get g = get_typed(msg, len, WIRE_HELLO | WIRE_REPLY);

	m->features = get_u64(&g);
	get_bytes(&g, m->uuid, WIRE_UUID_SIZE);
	m->instance = get_u64(&g);
	m->loss_epoch = get_u64(&g);
	m->capacity = get_u64(&g);
	m->free = get_u64(&g);
	m->session = get_u64(&g);
	m->maps = get_u32(&g);
	m->lanes = get_u16(&g);
	m->depth = get_u16(&g);
	m->lease_ms = get_u32(&g);
	m->fds = get_u32(&g);
	m->method = get_u8(&g);
	get_zeroes(&g, 7);
	get_need(&g, m->capacity <= BLOCKS_MAX && m->free <= m->capacity);
	get_need(&g, m->lanes && m->depth && m->fds <= WIRE_FDS_MAX && method_known(m->method));
	return get_end(&g);
}

/* Batches. */

size_t wire_put_addrs(uint8_t *buf, uint16_t type, uint32_t id, const uint64_t *addrs, size_t n)
{
	struct put p = put_begin(buf, type, id);

	put_batch(&p, n);
	for (size_t i = 0; !p.bad && i < n; i++)
		put_u64(&p, addrs[i]);
	return put_end(&p);
}

int wire_get_addrs(const uint8_t *msg, size_t len, uint64_t *addrs, size_t *n)
{
	uint16_t type;
	struct get g = get_begin(msg, len, &type);

	get_need(&g, type == WIRE_ALLOC || type == WIRE_FREE);
	*n = get_batch(&g, 8, *n);
	for (size_t i = 0; i < *n; i++)
		addrs[i] = get_u64(&g);
	return get_end(&g);
}

size_t wire_put_statuses(uint8_t *buf, uint16_t type, uint32_t id, const uint32_t *status, size_t n)
{
	struct put p = put_begin(buf, type | WIRE_REPLY, id);

	put_batch(&p, n);
	for (size_t i = 0; !p.bad && i < n; i++)
		put_u32(&p, status[i]);
	return put_end(&p);
}

int wire_get_statuses(const uint8_t *msg, size_t len, uint32_t *status, size_t *n)
{
	uint16_t type;
	struct get g = get_begin(msg, len, &type);

	get_need(&g, type == (WIRE_ALLOC | WIRE_REPLY) || type == (WIRE_FREE | WIRE_REPLY) ||
			     type == (WIRE_UNMAP | WIRE_REPLY) || type == (WIRE_PERSIST | WIRE_REPLY));
	*n = get_batch(&g, 4, *n);
	for (size_t i = 0; i < *n; i++)
		status[i] = get_u32(&g);
	return get_end(&g);
}

size_t wire_put_targets(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_target *t, size_t n)
{
	struct put p = put_begin(buf, type, id);

	put_batch(&p, n);
	for (size_t i = 0; !p.bad && i < n; i++) {
		put_u64(&p, t[i].addr);
		put_u32(&p, t[i].flags);
		put_zeroes(&p, 4);
	}
	return put_end(&p);
}

int wire_get_targets(const uint8_t *msg, size_t len, struct wire_target *t, size_t *n)
{
	uint16_t type;
	struct get g = get_begin(msg, len, &type);
	uint32_t known = type == WIRE_MAP ? WIRE_MAP_KNOWN : WIRE_UNMAP_KNOWN;

	get_need(&g, type == WIRE_MAP || type == WIRE_UNMAP);
	*n = get_batch(&g, 16, *n);
	for (size_t i = 0; i < *n; i++) {
		t[i].addr = get_u64(&g);
		t[i].flags = get_u32(&g);
		get_zeroes(&g, 4);
		get_need(&g, !(t[i].flags & ~known));
	}
	return get_end(&g);
}

size_t wire_put_handles(uint8_t *buf, uint32_t id, const struct wire_handle *h, size_t n)
{
	struct put p = put_begin(buf, WIRE_MAP | WIRE_REPLY, id);

	put_batch(&p, n);
	for (size_t i = 0; !p.bad && i < n; i++) {
		put_u32(&p, h[i].status);
		put_u32(&p, h[i].key);
		put_u64(&p, h[i].place);
	}
	return put_end(&p);
}

int wire_get_handles(const uint8_t *msg, size_t len, struct wire_handle *h, size_t *n)
{
	struct get g = get_typed(msg, len, WIRE_MAP | WIRE_REPLY);

	*n = get_batch(&g, 16, *n);
	for (size_t i = 0; i < *n; i++) {
		h[i].status = get_u32(&g);
		h[i].key = get_u32(&g);
		h[i].place = get_u64(&g);
	}
	return get_end(&g);
}

size_t wire_put_ranges(uint8_t *buf, uint32_t id, const struct wire_range *r, size_t n)
{
	struct put p = put_begin(buf, WIRE_PERSIST, id);

	put_batch(&p, n);
	for (size_t i = 0; !p.bad && i < n; i++) {
		put_u64(&p, r[i].addr);
		put_u32(&p, r[i].length);
		put_zeroes(&p, 4);
	}
	return put_end(&p);
}

int wire_get_ranges(const uint8_t *msg, size_t len, struct wire_range *r, size_t *n)
{
	struct get g = get_typed(msg, len, WIRE_PERSIST);

	*n = get_batch(&g, 16, *n);
	for (size_t i = 0; i < *n; i++) {
		r[i].addr = get_u64(&g);
		r[i].length = get_u32(&g);
		get_zeroes(&g, 4);
		get_need(&g, in_one_block(r[i].addr, r[i].length));
	}
	return get_end(&g);
}

/* The list. */

size_t wire_put_list(uint8_t *buf, uint32_t id, const struct wire_list *m)
{
	struct put p = put_begin(buf, WIRE_LIST, id);

	put_u64(&p, m->from);
	put_u32(&p, m->max);
	put_zeroes(&p, 4);
	return put_end(&p);
}

int wire_get_list(const uint8_t *msg, size_t len, struct wire_list *m)
{
	struct get g = get_typed(msg, len, WIRE_LIST);

	m->from = get_u64(&g);
	m->max = get_u32(&g);
	get_zeroes(&g, 4);
	return get_end(&g);
}

size_t wire_put_list_reply(uint8_t *buf, uint32_t id, const struct wire_list_reply *m)
{
	struct put p = put_begin(buf, WIRE_LIST | WIRE_REPLY, id);

	if (m->count > WIRE_EXTENTS_MAX)
		p.bad = true;
	put_u64(&p, m->generation);
	put_u64(&p, m->next);
	put_u32(&p, m->count);
	put_u8(&p, m->more);
	put_zeroes(&p, 3);
	for (uint32_t i = 0; !p.bad && i < m->count; i++) {
		put_u64(&p, m->extent[i].start);
		put_u64(&p, m->extent[i].count);
	}
	return put_end(&p);
}

int wire_get_list_reply(const uint8_t *msg, size_t len, struct wire_list_reply *m)
{
	struct get g = get_typed(msg, len, WIRE_LIST | WIRE_REPLY);
	uint64_t end = 0; /* block number behind the last extent */

	m->generation = get_u64(&g);
	m->next = get_u64(&g);
	m->count = get_u32(&g);
	m->more = get_bool(&g);
	get_zeroes(&g, 3);
	get_need(&g, m->count <= WIRE_EXTENTS_MAX && g.left == m->count * (size_t)EXTENT_SIZE);
	if (g.bad)
		m->count = 0;
	for (uint32_t i = 0; i < m->count; i++) {
		struct wire_extent *e = &m->extent[i];
		uint64_t block;

		e->start = get_u64(&g);
		e->count = get_u64(&g);
		block = e->start >> WIRE_BLOCK_SHIFT;
		get_need(&g, !(e->start & (WIRE_BLOCK_SIZE - 1)) && block >= end);
		get_need(&g, e->count && e->count <= BLOCKS_MAX - block);
		if (g.bad)
			break;
		end = block + e->count;
	}
	/* What goes on goes on behind what was told. */
	if (m->more)
		get_need(&g, m->count && !(m->next & (WIRE_BLOCK_SIZE - 1)) && m->next >> WIRE_BLOCK_SHIFT >= end);
	return get_end(&g);
}

/* What people ask: statistics and sessions. */

size_t wire_put_stat_reply(uint8_t *buf, uint32_t id, const struct wire_stat_reply *m)
{
	struct put p = put_begin(buf, WIRE_STAT | WIRE_REPLY, id);

	put_bytes(&p, m->uuid, WIRE_UUID_SIZE);
	put_u64(&p, m->instance);
	put_u64(&p, m->loss_epoch);
	put_u64(&p, m->capacity);
	put_u64(&p, m->free);
	put_u64(&p, m->zeroed);
	put_u64(&p, m->uptime_ms);
	put_u64(&p, m->generation);
	put_u32(&p, m->sessions);
	put_u32(&p, m->lanes);
	put_u32(&p, m->maps);
	put_u32(&p, m->sessions_max);
	put_u32(&p, m->lanes_max);
	put_u32(&p, m->maps_max);
	put_u8(&p, m->method);
	put_u8(&p, m->failed);
	put_u8(&p, m->fault);
	put_u8(&p, WIRE_OPS);
	put_u32(&p, m->regions);
	put_u32(&p, m->memory);
	put_u32(&p, m->memory_used);
	put_u32(&p, m->memory_pinned);
	put_u32(&p, m->memory_dirty);
	put_u64(&p, m->fills);
	put_u64(&p, m->write_backs);
	put_u64(&p, m->evictions);
	put_u64(&p, m->recalls);
	put_zeroes(&p, 24);
	for (unsigned i = 0; i < WIRE_OPS; i++) {
		const struct wire_op_stat *op = &m->op[i];

		put_u64(&p, op->count);
		put_u64(&p, op->errors);
		put_u64(&p, op->bytes);
		put_u64(&p, op->p50_ns);
		put_u64(&p, op->p99_ns);
		put_u64(&p, op->max_ns);
	}
	return put_end(&p);
}

int wire_get_stat_reply(const uint8_t *msg, size_t len, struct wire_stat_reply *m)
{
	struct get g = get_typed(msg, len, WIRE_STAT | WIRE_REPLY);

	get_bytes(&g, m->uuid, WIRE_UUID_SIZE);
	m->instance = get_u64(&g);
	m->loss_epoch = get_u64(&g);
	m->capacity = get_u64(&g);
	m->free = get_u64(&g);
	m->zeroed = get_u64(&g);
	m->uptime_ms = get_u64(&g);
	m->generation = get_u64(&g);
	m->sessions = get_u32(&g);
	m->lanes = get_u32(&g);
	m->maps = get_u32(&g);
	m->sessions_max = get_u32(&g);
	m->lanes_max = get_u32(&g);
	m->maps_max = get_u32(&g);
	m->method = get_u8(&g);
	m->failed = get_bool(&g);
	m->fault = get_bool(&g);
	get_need(&g, get_u8(&g) == WIRE_OPS && method_known(m->method));
	m->regions = get_u32(&g);
	m->memory = get_u32(&g);
	m->memory_used = get_u32(&g);
	m->memory_pinned = get_u32(&g);
	m->memory_dirty = get_u32(&g);
	m->fills = get_u64(&g);
	m->write_backs = get_u64(&g);
	m->evictions = get_u64(&g);
	m->recalls = get_u64(&g);
	get_zeroes(&g, 24);
	for (unsigned i = 0; i < WIRE_OPS; i++) {
		struct wire_op_stat *op = &m->op[i];

		op->count = get_u64(&g);
		op->errors = get_u64(&g);
		op->bytes = get_u64(&g);
		op->p50_ns = get_u64(&g);
		op->p99_ns = get_u64(&g);
		op->max_ns = get_u64(&g);
	}
	return get_end(&g);
}

const char *const wire_limit_names[WIRE_LIMIT_ROWS] = {
	[WIRE_LIMIT_GREETING] = "connections without hello",
	[WIRE_LIMIT_PEER_GREETING] = "of these, of a peer",
	[WIRE_LIMIT_HELLO] = "hello timeout, ms",
	[WIRE_LIMIT_SESSIONS] = "sessions",
	[WIRE_LIMIT_PEER_SESSIONS] = "sessions of a peer",
	[WIRE_LIMIT_LANES] = "lanes of a session",
	[WIRE_LIMIT_DEPTH] = "requests of a lane",
	[WIRE_LIMIT_REQUESTS] = "slow requests of a session",
	[WIRE_LIMIT_MAPS] = "maps of a session",
	[WIRE_LIMIT_WORKERS] = "workers",
	[WIRE_LIMIT_STALL] = "stall, ms",
};

const char *const wire_refusal_names[WIRE_REFUSED_ROWS] = {
	[WIRE_REFUSED_GREETING] = "too many without hello",
	[WIRE_REFUSED_PEER_GREETING] = "too many without hello from a peer",
	[WIRE_REFUSED_HELLO] = "no hello in time",
	[WIRE_REFUSED_VERSION] = "another version",
	[WIRE_REFUSED_TOKEN] = "no such session",
	[WIRE_REFUSED_SESSIONS] = "too many sessions",
	[WIRE_REFUSED_PEER_SESSIONS] = "too many sessions of a peer",
	[WIRE_REFUSED_LANES] = "too many lanes",
	[WIRE_REFUSED_MEMORY] = "memory is full",
	[WIRE_REFUSED_MAPS] = "maps beyond the grant",
	[WIRE_REFUSED_REQUESTS] = "requests that had to wait",
	[WIRE_REFUSED_MALFORMED] = "malformed",
	[WIRE_REFUSED_UNKNOWN] = "unknown request",
	[WIRE_REFUSED_ACCESS] = "access without a mapping",
	[WIRE_REFUSED_STALL] = "stalled",
	[WIRE_REFUSED_DEVICE] = "another device",
	[WIRE_REFUSED_HOST] = "the host has no more",
};

size_t wire_put_limits_reply(uint8_t *buf, uint32_t id, const struct wire_limits_reply *m)
{
	struct put p = put_begin(buf, WIRE_LIMITS | WIRE_REPLY, id);

	if (m->limits > WIRE_ROWS_MAX || m->refusals > WIRE_ROWS_MAX)
		return 0;
	put_u32(&p, m->limits);
	put_u32(&p, m->refusals);
	for (uint32_t i = 0; i < m->limits; i++) {
		put_u64(&p, m->limit[i].most);
		put_u64(&p, m->limit[i].used);
	}
	for (uint32_t i = 0; i < m->refusals; i++)
		put_u64(&p, m->refused[i]);
	return put_end(&p);
}

int wire_get_limits_reply(const uint8_t *msg, size_t len, struct wire_limits_reply *m)
{
	struct get g = get_typed(msg, len, WIRE_LIMITS | WIRE_REPLY);

	m->limits = get_u32(&g);
	m->refusals = get_u32(&g);
	get_need(&g, m->limits <= WIRE_ROWS_MAX && m->refusals <= WIRE_ROWS_MAX &&
			     g.left == m->limits * (size_t)16 + m->refusals * (size_t)8);
	if (g.bad)
		m->limits = m->refusals = 0;
	for (uint32_t i = 0; i < m->limits; i++) {
		m->limit[i].most = get_u64(&g);
		m->limit[i].used = get_u64(&g);
	}
	for (uint32_t i = 0; i < m->refusals; i++)
		m->refused[i] = get_u64(&g);
	return get_end(&g);
}

size_t wire_put_sessions(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_sessions *m)
{
	struct put p = put_begin(buf, type, id);

	put_u64(&p, m->from);
	return put_end(&p);
}

int wire_get_sessions(const uint8_t *msg, size_t len, struct wire_sessions *m)
{
	uint16_t type;
	struct get g = get_begin(msg, len, &type);

	get_need(&g, type == WIRE_SESSIONS || type == WIRE_WHO || type == WIRE_REVOKE);
	m->from = get_u64(&g);
	return get_end(&g);
}

size_t wire_put_sessions_reply(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_sessions_reply *m)
{
	struct put p = put_begin(buf, type | WIRE_REPLY, id);

	if (m->count > WIRE_SESSIONS_MAX)
		p.bad = true;
	put_u32(&p, m->count);
	put_u8(&p, m->more);
	put_zeroes(&p, 3);
	for (uint32_t i = 0; !p.bad && i < m->count; i++) {
		const struct wire_session_info *s = &m->session[i];

		put_u64(&p, s->session);
		put_u64(&p, s->pid);
		put_u32(&p, s->maps);
		put_u32(&p, s->lanes);
		put_u32(&p, s->heard_ms);
		put_u32(&p, s->flags);
		put_text(&p, s->transport, sizeof(s->transport));
		put_text(&p, s->name, WIRE_NAME_MAX);
	}
	return put_end(&p);
}

int wire_get_sessions_reply(const uint8_t *msg, size_t len, struct wire_sessions_reply *m)
{
	uint16_t type;
	struct get g = get_begin(msg, len, &type);

	get_need(&g, type == (WIRE_SESSIONS | WIRE_REPLY) || type == (WIRE_WHO | WIRE_REPLY));
	m->count = get_u32(&g);
	m->more = get_bool(&g);
	get_zeroes(&g, 3);
	get_need(&g, m->count <= WIRE_SESSIONS_MAX && g.left == m->count * (size_t)SESSION_SIZE);
	if (g.bad)
		m->count = 0;
	for (uint32_t i = 0; i < m->count; i++) {
		struct wire_session_info *s = &m->session[i];

		s->session = get_u64(&g);
		s->pid = get_u64(&g);
		s->maps = get_u32(&g);
		s->lanes = get_u32(&g);
		s->heard_ms = get_u32(&g);
		s->flags = get_u32(&g);
		get_text(&g, s->transport, sizeof(s->transport));
		get_text(&g, s->name, WIRE_NAME_MAX);
	}
	get_need(&g, !m->more || m->count);
	return get_end(&g);
}

size_t wire_put_notice(uint8_t *buf, const struct wire_notice *m)
{
	struct put p = put_begin(buf, WIRE_NOTICE, 0);

	put_u32(&p, m->kind);
	put_zeroes(&p, 4);
	put_u64(&p, m->arg);
	return put_end(&p);
}

int wire_get_notice(const uint8_t *msg, size_t len, struct wire_notice *m)
{
	struct get g = get_typed(msg, len, WIRE_NOTICE);
	struct wire_header h = {0};

	get_need(&g, !wire_get_header(msg, len, &h) && !h.id);
	m->kind = get_u32(&g);
	get_zeroes(&g, 4);
	m->arg = get_u64(&g);
	return get_end(&g);
}

/* Data. */

void wire_put_rw(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_rw *m, size_t payload)
{
	struct wire_header h = {.length = (uint32_t)(WIRE_RW_FIXED + payload), .type = type, .id = id};
	struct put p = {.start = buf, .at = buf, .left = WIRE_RW_FIXED};

	wire_put_header(buf, &h);
	put_room(&p, WIRE_HEADER_SIZE);
	put_u64(&p, m->addr);
	put_u32(&p, m->key);
	put_u32(&p, m->length);
}

int wire_get_rw(const uint8_t *fixed, size_t len, struct wire_rw *m)
{
	struct get g = {.at = fixed, .left = len < WIRE_RW_FIXED ? len : WIRE_RW_FIXED};
	struct wire_header h = {0};

	if (wire_get_header(fixed, len, &h))
		g.bad = true;
	get_room(&g, WIRE_HEADER_SIZE);
	m->addr = get_u64(&g);
	m->key = get_u32(&g);
	m->length = get_u32(&g);
	get_need(&g, !h.flags && !h.status && in_one_block(m->addr, m->length));
	get_need(&g, h.type == WIRE_READ || h.type == WIRE_WRITE);
	get_need(&g, h.length == WIRE_RW_FIXED + (h.type == WIRE_WRITE ? m->length : 0));
	return get_end(&g);
}
