/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire - the control protocol of a brick, as brick-protocol(7) describes it.
 *
 * One encoder and one decoder for each message, used by both sides; nothing
 * else in the project parses bytes that came from a network.  All integers are
 * little endian.  Encoders write into a caller's buffer of WIRE_MSG_MAX bytes
 * and return the length of the whole message; decoders take exactly the bytes
 * of one message and return 0, or -EPROTO for anything that is not well formed:
 * too short, too long, a count that does not fit, a string without its end or
 * with bytes that are not printable ASCII, reserved bytes that are not zero, an
 * entry with unknown flags, a header with flags or a status (look at those, with
 * wire_get_header(), first: a reply with a status has no body).
 * A decoder never reads beyond what it was given and never allocates.  An encoder
 * returns 0 for a batch with no entries or too many.  Text is made printable.
 *
 * A connection: preamble -> preamble reply -> messages.  Every message begins
 * with the 16 byte header below.  A reply has the type of its request with
 * WIRE_REPLY set and the same request ID.  Control messages are at most
 * WIRE_MSG_MAX bytes in each direction.  READ and WRITE (tcp only) carry up to
 * WIRE_DATA_MAX bytes of payload behind their fixed part.
 */
#ifndef BRICK_WIRE_H
#define BRICK_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC		0x314b5242u	/* "BRK1" in memory order */
#define WIRE_VERSION		1
#define WIRE_PREAMBLE_SIZE	32		/* at most 48 may ever be used */
#define WIRE_PREAMBLE_REPLY_SIZE 40
#define WIRE_HEADER_SIZE	16
#define WIRE_MSG_MAX		8192
#define WIRE_DATA_MAX		(2u << 20)
#define WIRE_RW_FIXED		(WIRE_HEADER_SIZE + 16)	/* header, address, handle, length */
#define WIRE_NAME_MAX		64		/* a client's description of itself, with its NUL */
#define WIRE_TOKEN_SIZE		16
#define WIRE_UUID_SIZE		16

#define WIRE_FDS_MAX		16		/* local: descriptors passed in all */

#define WIRE_BLOCK_SHIFT	21
#define WIRE_BLOCK_SIZE		(1ull << WIRE_BLOCK_SHIFT)

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_KEEPALIVE = 2,
	WIRE_ALLOC = 3,
	WIRE_FREE = 4,
	WIRE_MAP = 5,
	WIRE_UNMAP = 6,
	WIRE_LIST = 7,
	WIRE_PERSIST = 8,
	WIRE_STAT = 9,
	WIRE_SESSIONS = 10,
	WIRE_WHO = 11,
	WIRE_REVOKE = 12,
	WIRE_BYE = 13,
	WIRE_LIMITS = 14,
	/* 0x20 .. 0x2f: reserved for an authentication exchange before HELLO */
	WIRE_READ = 0x40,	/* tcp only */
	WIRE_WRITE = 0x41,	/* tcp only */
	WIRE_NOTICE = 0x60,	/* brick to initiator, request ID 0, never answered */
	WIRE_REPLY = 0x8000,
};

/*
 * Status on the wire: 0 or a positive number of the protocol's own (they are
 * the values of Linux's errno on x86-64, fixed here so that they mean the same
 * everywhere).  wire_status() and wire_errno() translate to and from a
 * negative errno of this host.
 */
uint32_t wire_status(int error);	/* 0 or negative errno -> wire */
int wire_errno(uint32_t status);	/* wire -> 0 or negative errno; unknown is -EIO */

struct wire_preamble {
	uint16_t version_min, version_max;
	uint8_t token[WIRE_TOKEN_SIZE];	/* all zero opens a session */
	uint16_t lane;			/* this connection's lane number in the session */
};

struct wire_preamble_reply {
	uint32_t status;
	uint16_t version;
	uint16_t lane;
	uint8_t token[WIRE_TOKEN_SIZE];	/* of the session, to join or rejoin it */
};

struct wire_header {
	uint32_t length;	/* of the whole message, this header included */
	uint16_t type;		/* enum wire_type, maybe with WIRE_REPLY */
	uint16_t flags;		/* 0; unknown flags are refused (EINVAL) */
	uint32_t id;		/* request ID, chosen by the initiator */
	uint32_t status;	/* in a reply: of the whole request; else 0 */
};

/* What a brick can do beyond version 1; a HELLO with unknown ones is refused. */
#define WIRE_FEATURE_FLUSH	1ull	/* verbs: the initiator can post RDMA FLUSH; granted: regions are registered for it */
#define WIRE_FEATURES_KNOWN	WIRE_FEATURE_FLUSH

struct wire_hello {
	uint64_t features;
	uint32_t maps;		/* wanted: mapped blocks at once; 0: as many as there are */
	uint16_t lanes;		/* wanted; 0: as many as there are */
	uint16_t depth;		/* wanted: requests in flight on a lane */
	uint64_t pid;		/* of the initiator's process, to be shown to people */
	char name[WIRE_NAME_MAX];	/* "program@host", to be shown to people */
};

enum wire_persist_method {	/* brick-protocol(7), persistence */
	WIRE_PERSIST_TARGET = 1,
	WIRE_PERSIST_FLUSH = 2,
	WIRE_PERSIST_VOLATILE = 3,
	WIRE_PERSIST_READBACK = 4,	/* reserved: READ behind WRITE */
};

struct wire_hello_reply {
	uint64_t features;
	uint8_t uuid[WIRE_UUID_SIZE];	/* of the brick (its pool) */
	uint64_t instance;	/* changes at every start: old handles are void */
	uint64_t loss_epoch;	/* changes when unpersisted bytes may be gone */
	uint64_t capacity;	/* blocks */
	uint64_t free;		/* blocks */
	uint64_t session;	/* number of this session, as brickctl stat shows it */
	uint32_t maps;		/* granted */
	uint16_t lanes;		/* granted */
	uint16_t depth;		/* granted, for each lane */
	uint32_t lease_ms;
	uint32_t fds;		/* local: descriptors passed with this reply, at most WIRE_FDS_MAX */
	uint8_t method;		/* enum wire_persist_method */
};

/* ALLOC, FREE: addresses; the reply: a status for each. */
#define WIRE_ADDRS_MAX	((WIRE_MSG_MAX - WIRE_HEADER_SIZE - 8) / 16)	/* any batch below: at most 16 bytes an entry each way */

enum wire_map_flags {
	WIRE_MAP_WRITE = 1,	/* read-write; else read-only */
	WIRE_MAP_EXCLUSIVE = 2,	/* implies WIRE_MAP_WRITE */
	WIRE_MAP_PREEMPT = 4,	/* kill the sessions that stand in the way */
};
#define WIRE_MAP_KNOWN 7u

enum wire_unmap_flags {
	WIRE_UNMAP_CLEAN = 1,	/* all that this session wrote is persisted */
};
#define WIRE_UNMAP_KNOWN 1u

struct wire_target {		/* MAP, UNMAP: one entry of the request */
	uint64_t addr;
	uint32_t flags;
};

struct wire_handle {		/* MAP: one entry of the reply */
	uint32_t status;
	uint32_t key;		/* verbs: the rkey; tcp: the handle that READ and WRITE name; local: descriptor index */
	uint64_t place;		/* verbs, tcp: the address; local: byte offset in the descriptor */
};

struct wire_range {		/* PERSIST: one entry of the request */
	uint64_t addr;		/* first byte, any alignment, inside one block */
	uint32_t length;	/* bytes, 1 .. WIRE_BLOCK_SIZE */
};

struct wire_extent {
	uint64_t start;		/* address of the first block */
	uint64_t count;		/* blocks that follow each other */
};
#define WIRE_EXTENTS_MAX 480

struct wire_list {
	uint64_t from;		/* first address of interest */
	uint32_t max;		/* extents wanted, 0: as many as fit */
};

struct wire_list_reply {
	uint64_t generation;	/* changes with every alloc and free */
	uint64_t next;		/* where to go on, when more is set */
	bool more;
	uint32_t count;
	struct wire_extent extent[WIRE_EXTENTS_MAX];
};

enum wire_op {			/* the rows of the operation statistics */
	WIRE_OP_ALLOC, WIRE_OP_FREE, WIRE_OP_MAP, WIRE_OP_UNMAP, WIRE_OP_LIST,
	WIRE_OP_PERSIST, WIRE_OP_READ, WIRE_OP_WRITE, WIRE_OP_OTHER, WIRE_OPS
};

struct wire_op_stat {
	uint64_t count, errors;
	uint64_t bytes;		/* moved or persisted */
	uint64_t p50_ns, p99_ns, max_ns;
};

struct wire_stat_reply {
	uint8_t uuid[WIRE_UUID_SIZE];
	uint64_t instance, loss_epoch;
	uint64_t capacity, free, zeroed;	/* blocks; zeroed: free and ready */
	uint64_t uptime_ms;
	uint32_t sessions, lanes, maps;		/* now */
	uint32_t sessions_max, lanes_max, maps_max;
	uint64_t generation;
	uint8_t method;
	uint8_t failed;		/* a persist failed: every later one does, until restart */
	uint8_t fault;		/* fault mode (tests) */
	struct wire_op_stat op[WIRE_OPS];
	uint32_t regions;	/* verbs: blocks registered as memory regions, one for each map */
	/* Cached mode; all 0 in direct mode. In blocks: */
	uint32_t memory, memory_used, memory_pinned, memory_dirty;
	uint64_t fills, write_backs, evictions;	/* blocks, since the start */
	uint64_t recalls;	/* RECALL notices sent, since the start */
};

struct wire_session_info {
	uint64_t session, pid;
	uint32_t maps, lanes;
	uint32_t heard_ms;	/* since the last message */
	uint32_t flags;		/* for WHO: enum wire_map_flags of its map */
	char transport[8];	/* "tcp", "local", "verbs" */
	char name[WIRE_NAME_MAX];
};
#define WIRE_SESSIONS_MAX 64

struct wire_sessions {		/* SESSIONS: those with a number >= from; WHO: those that map addr */
	uint64_t from;
};

struct wire_sessions_reply {
	bool more;
	uint32_t count;
	struct wire_session_info session[WIRE_SESSIONS_MAX];
};

enum wire_limit {		/* the rows of LIMITS: what there may be at most */
	WIRE_LIMIT_GREETING,	/* connections that have not said hello */
	WIRE_LIMIT_PEER_GREETING,	/* of these, of one peer */
	WIRE_LIMIT_HELLO,	/* ms from connecting to hello */
	WIRE_LIMIT_SESSIONS,
	WIRE_LIMIT_PEER_SESSIONS,	/* of one peer */
	WIRE_LIMIT_LANES,	/* of one session */
	WIRE_LIMIT_DEPTH,	/* requests in flight on a lane */
	WIRE_LIMIT_REQUESTS,	/* of one session: slow ones under way or whose answers were not taken */
	WIRE_LIMIT_MAPS,	/* of one session */
	WIRE_LIMIT_WORKERS,	/* threads for slow requests */
	WIRE_LIMIT_STALL,	/* ms that a peer may stall in a message */
	WIRE_LIMIT_ROWS
};

enum wire_refusal {		/* the reasons for which something was refused */
	WIRE_REFUSED_GREETING,	/* a connection had to go: all places of those that have not said hello were taken */
	WIRE_REFUSED_PEER_GREETING,	/* its peer had its share of them */
	WIRE_REFUSED_HELLO,	/* it did not say hello in time */
	WIRE_REFUSED_VERSION,
	WIRE_REFUSED_TOKEN,	/* there is no such session */
	WIRE_REFUSED_SESSIONS,
	WIRE_REFUSED_PEER_SESSIONS,
	WIRE_REFUSED_LANES,
	WIRE_REFUSED_MEMORY,	/* a session or a map: the brick's memory is promised or full */
	WIRE_REFUSED_MAPS,	/* a map beyond the session's grant */
	WIRE_REFUSED_REQUESTS,	/* not refused: had to wait, the session has its most under way */
	WIRE_REFUSED_MALFORMED,
	WIRE_REFUSED_UNKNOWN,	/* a type, a flag or a feature that this brick does not know */
	WIRE_REFUSED_ACCESS,	/* without a mapping that allows it */
	WIRE_REFUSED_STALL,	/* stalled in a message, or took no replies */
	WIRE_REFUSED_DEVICE,	/* verbs: came over a device that its session is not on, or that is not served */
	WIRE_REFUSED_HOST,	/* descriptors, memory or threads of the brick's host ran out */
	WIRE_REFUSED_ROWS
};
/* For people. */
extern const char *const wire_limit_names[WIRE_LIMIT_ROWS], *const wire_refusal_names[WIRE_REFUSED_ROWS];
#define WIRE_ROWS_MAX 64	/* of each kind, in what later versions may send */

struct wire_limits_reply {
	uint32_t limits, refusals;	/* rows */
	struct { uint64_t most, used; } limit[WIRE_ROWS_MAX];	/* used: where it is for each peer or session, of the one that has most */
	uint64_t refused[WIRE_ROWS_MAX];	/* since the start */
};

enum wire_notice_kind {
	WIRE_NOTICE_RECALL = 1,		/* please unmap about arg blocks */
	WIRE_NOTICE_REVOKED = 2,	/* this session is dead */
	WIRE_NOTICE_GOING_DOWN = 3,	/* the brick is ending in order */
};

struct wire_notice {
	uint32_t kind;
	uint64_t arg;
};

struct wire_rw {		/* READ, WRITE: the fixed part; length bytes of payload follow a WRITE request and a READ reply */
	uint64_t addr;
	uint32_t key;
	uint32_t length;	/* bytes */
};

/* Preamble: exactly WIRE_PREAMBLE_SIZE / WIRE_PREAMBLE_REPLY_SIZE bytes (more is ignored). */
void wire_put_preamble(uint8_t *buf, const struct wire_preamble *p);
int wire_get_preamble(const uint8_t *buf, size_t len, struct wire_preamble *p);
void wire_put_preamble_reply(uint8_t *buf, const struct wire_preamble_reply *r);
int wire_get_preamble_reply(const uint8_t *buf, size_t len, struct wire_preamble_reply *r);

/*
 * The header; bytes behind it are ignored.  get checks length: 16 .. WIRE_MSG_MAX, for a WRITE request ..
 * WIRE_RW_FIXED + WIRE_DATA_MAX, for a READ reply .. WIRE_HEADER_SIZE + WIRE_DATA_MAX.
 */
void wire_put_header(uint8_t *buf, const struct wire_header *h);
int wire_get_header(const uint8_t *buf, size_t len, struct wire_header *h);

/* Messages without a body: KEEPALIVE, STAT and LIMITS (requests), BYE, and every reply that is only a status. */
size_t wire_put_plain(uint8_t *buf, uint16_t type, uint32_t id, int error);	/* error: 0 or negative errno */

size_t wire_put_hello(uint8_t *buf, uint32_t id, const struct wire_hello *m);
int wire_get_hello(const uint8_t *msg, size_t len, struct wire_hello *m);
size_t wire_put_hello_reply(uint8_t *buf, uint32_t id, const struct wire_hello_reply *m);
int wire_get_hello_reply(const uint8_t *msg, size_t len, struct wire_hello_reply *m);

/* ALLOC, FREE.  *n: in: room in addrs, out: entries.  1 .. WIRE_ADDRS_MAX entries. */
size_t wire_put_addrs(uint8_t *buf, uint16_t type, uint32_t id, const uint64_t *addrs, size_t n);
int wire_get_addrs(const uint8_t *msg, size_t len, uint64_t *addrs, size_t *n);

/* Replies of ALLOC, FREE, UNMAP, PERSIST: a status for each entry.  type: of the request (WIRE_REPLY is added). */
size_t wire_put_statuses(uint8_t *buf, uint16_t type, uint32_t id, const uint32_t *status, size_t n);
int wire_get_statuses(const uint8_t *msg, size_t len, uint32_t *status, size_t *n);

/* MAP, UNMAP. */
size_t wire_put_targets(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_target *t, size_t n);
int wire_get_targets(const uint8_t *msg, size_t len, struct wire_target *t, size_t *n);
size_t wire_put_handles(uint8_t *buf, uint32_t id, const struct wire_handle *h, size_t n);
int wire_get_handles(const uint8_t *msg, size_t len, struct wire_handle *h, size_t *n);

/* PERSIST.  The decoder refuses a range that leaves its block. */
size_t wire_put_ranges(uint8_t *buf, uint32_t id, const struct wire_range *r, size_t n);
int wire_get_ranges(const uint8_t *msg, size_t len, struct wire_range *r, size_t *n);

size_t wire_put_list(uint8_t *buf, uint32_t id, const struct wire_list *m);
int wire_get_list(const uint8_t *msg, size_t len, struct wire_list *m);
/*
 * The decoder also checks that extents are sorted, not empty, aligned, do not overlap
 * or wrap, and that next lies behind them when there is more.
 */
size_t wire_put_list_reply(uint8_t *buf, uint32_t id, const struct wire_list_reply *m);
int wire_get_list_reply(const uint8_t *msg, size_t len, struct wire_list_reply *m);

size_t wire_put_stat_reply(uint8_t *buf, uint32_t id, const struct wire_stat_reply *m);
int wire_get_stat_reply(const uint8_t *msg, size_t len, struct wire_stat_reply *m);

size_t wire_put_limits_reply(uint8_t *buf, uint32_t id, const struct wire_limits_reply *m);
int wire_get_limits_reply(const uint8_t *msg, size_t len, struct wire_limits_reply *m);

/* SESSIONS, WHO (from: the address), REVOKE (from: the session's number).  Reply: WIRE_REPLY is added to type. */
size_t wire_put_sessions(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_sessions *m);
int wire_get_sessions(const uint8_t *msg, size_t len, struct wire_sessions *m);
size_t wire_put_sessions_reply(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_sessions_reply *m);
int wire_get_sessions_reply(const uint8_t *msg, size_t len, struct wire_sessions_reply *m);

size_t wire_put_notice(uint8_t *buf, const struct wire_notice *m);
int wire_get_notice(const uint8_t *msg, size_t len, struct wire_notice *m);

/*
 * READ and WRITE.  put writes WIRE_RW_FIXED bytes, with the header's length set
 * to the fixed part plus payload bytes.  get wants those WIRE_RW_FIXED bytes and
 * checks that the range lies in one block and agrees with the header's length.
 * Their replies are the plain header, and for a READ that succeeded, the payload
 * (header length = WIRE_HEADER_SIZE + payload).
 */
void wire_put_rw(uint8_t *buf, uint16_t type, uint32_t id, const struct wire_rw *m, size_t payload);
int wire_get_rw(const uint8_t *fixed, size_t len, struct wire_rw *m);

#endif
