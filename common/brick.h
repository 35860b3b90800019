/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libbrick - use the blocks of a remote brick.
 *
 * A brick exports blocks of BRICK_BLOCK_SIZE bytes, each named by a 64-bit
 * address that is a multiple of that size.  An initiator opens a *session*,
 * which owns what it maps, and in it one or more *lanes* (connections).  Calls
 * (alloc, free, map, unmap, list, persist) and data (read, write) are queued on
 * a lane with a cookie of the caller's and come back from brick_poll(); every
 * one has a synchronous twin.  The library has no threads of its own: nothing
 * moves unless the caller posts, polls or waits.
 *
 * Threads: a session may be used by many threads at once; a lane belongs to one
 * thread at a time.  brick_lane_open() may be called from any thread.
 *
 * Order and durability: COMPLETE IS NOT DURABLE.  A write that completed is
 * visible to everyone; it is durable only when a persist that was posted behind
 * it *on the same lane* and names its range has completed with 0.  Completion
 * orders nothing across lanes, and a later write may overtake an earlier read.
 * alloc and free are durable when they complete with 0.
 *
 * Errors are negative errno; brick_error() gives a sentence that names the
 * endpoint, the address and the cause.  When a lane breaks, every request in
 * flight completes with -ECONNRESET or -ETIMEDOUT: the outcome of an alloc or
 * free is then unknown and must be looked up with list; the library never
 * sends anything again and never maps again by itself.  brick_lane_rejoin()
 * brings the lane back while its session lives (-ESTALE when it does not).
 */
#ifndef BRICK_H
#define BRICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BRICK_BLOCK_SHIFT 21
#define BRICK_BLOCK_SIZE  (1ull << BRICK_BLOCK_SHIFT)

struct brick_session;
struct brick_lane;

struct brick_options {
	const char *name;	/* shown to people at the brick; NULL: program@host */
	uint32_t maps;		/* mapped blocks wanted, 0: as many as are granted */
	uint16_t lanes;		/* lanes wanted, 0: 1 */
	uint16_t depth;		/* requests in flight on a lane, 0: 64 */
	uint32_t spin_us;	/* how long to look for an answer before sleeping, where looking is cheap (verbs); 0: 50 */
	uint32_t timeout_ms;	/* for connecting, and for each request without an answer while nothing else moves (at most four times); 0: 10000 */
};

enum brick_persist_method {
	BRICK_PERSIST_TARGET = 1,	/* the brick flushes when asked */
	BRICK_PERSIST_FLUSH = 2,	/* RDMA FLUSH */
	BRICK_PERSIST_VOLATILE = 3,	/* the operator declared the memory to outlive power */
};

struct brick_info {
	uint8_t uuid[16];
	uint64_t instance;	/* changes at every start of the brick: handles are void */
	uint64_t loss_epoch;	/* changes when unpersisted bytes may be gone */
	uint64_t capacity, free;	/* blocks, as of hello */
	uint64_t session;	/* number of this session */
	uint32_t maps;		/* granted */
	uint16_t lanes, depth;	/* granted */
	uint32_t lease_ms;	/* send something at least this often */
	enum brick_persist_method method;
};

/*
 * Opens a session with its lane 0 (brick_lane(s, 0)).  endpoint: tcp://host:port,
 * unix:/path, rdma://host:port.  -EINVAL, -ECONNREFUSED, -ETIMEDOUT, -EPROTO,
 * -EUSERS (the brick has its most sessions), verbs: -ENODEV (no device serves the address), ...
 */
int brick_open(const char *endpoint, const struct brick_options *options,
	       struct brick_session **session);
/* Ends the session in order: unmaps what is mapped (not CLEAN), closes every lane. */
void brick_close(struct brick_session *session);
const struct brick_info *brick_info(const struct brick_session *session);
const char *brick_endpoint(const struct brick_session *session);
/* The last error of this thread as a sentence; "" if there was none. */
const char *brick_error(void);

int brick_lane_open(struct brick_session *session, struct brick_lane **lane);
void brick_lane_close(struct brick_lane *lane);
struct brick_lane *brick_lane(struct brick_session *session, unsigned number);
int brick_lane_rejoin(struct brick_lane *lane);
/* 0 while the lane works, else the error that broke it. */
int brick_lane_state(const struct brick_lane *lane);

/* A mapped block. Valid until unmap, the end of the session, or another instance. */
struct brick_handle {
	uint64_t addr;
	uint64_t place;		/* transport's own */
	uint32_t key;		/* transport's own */
	uint32_t flags;		/* BRICK_MAP_ flags it was mapped with */
};

#define BRICK_MAP_WRITE		1u
#define BRICK_MAP_EXCLUSIVE	2u	/* implies WRITE */
#define BRICK_MAP_PREEMPT	4u	/* kill the sessions that stand in the way */
#define BRICK_UNMAP_CLEAN	1u	/* all that was written is persisted */

struct brick_extent { uint64_t start, count; };	/* address, blocks */
struct brick_range { uint64_t addr; uint32_t length; };	/* inside one block */

/*
 * Memory for reads and writes.  Any memory works; over verbs the library's own and what is
 * registered is used where it lies, the rest is copied, or registered for the time of a large
 * request.  -ENOMEM (locked memory is limited), ...  A buffer belongs to its session, and must
 * not be given back while a request uses it.
 */
void *brick_buffer_alloc(struct brick_session *session, size_t size);
void brick_buffer_free(struct brick_session *session, void *buffer);
int brick_buffer_register(struct brick_session *session, void *buffer, size_t size);
void brick_buffer_unregister(struct brick_session *session, void *buffer);

/*
 * Queued forms.  0, or -EAGAIN when the lane's queue is full (poll first), or
 * the error that broke the lane.  Arrays and buffers must stay until completion.
 * Batches may have any number of entries; the library splits them.  status[i]
 * is 0 or a negative errno for each entry; the completion's status is 0 when
 * the request was carried out, whatever its entries say.  Without a status array
 * the first bad entry becomes the completion's status.
 */
int brick_post_alloc(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status, uint64_t cookie);
int brick_post_free(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status, uint64_t cookie);
int brick_post_map(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags,
		   struct brick_handle *handles, int *status, uint64_t cookie);
int brick_post_unmap(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags,
		     int *status, uint64_t cookie);
int brick_post_persist(struct brick_lane *lane, const struct brick_range *ranges, size_t n,
		       int *status, uint64_t cookie);
/* offset and length in bytes inside the handle's block */
int brick_post_read(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		    void *buffer, uint32_t length, uint64_t cookie);
int brick_post_write(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		     const void *buffer, uint32_t length, uint64_t cookie);
int brick_post_readv(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		     const struct iovec *iov, int iovcnt, uint64_t cookie);
int brick_post_writev(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset,
		      const struct iovec *iov, int iovcnt, uint64_t cookie);

struct brick_completion {
	uint64_t cookie;
	int status;		/* 0 or negative errno */
};

/* Takes up to max completions without waiting; returns how many. */
int brick_poll(struct brick_lane *lane, struct brick_completion *completions, int max);
/* As brick_poll(), but waits until there is at least one, at most timeout_ms (-1: until a request in flight is answered or times out). -ETIME. */
int brick_wait(struct brick_lane *lane, struct brick_completion *completions, int max, int timeout_ms);
/*
 * A descriptor that becomes readable when brick_poll() has work (an answer, a request that is late), once
 * brick_arm() has been called.  It stays the same until the lane is closed.  -EMFILE, ...
 */
int brick_fd(struct brick_lane *lane);
/* 0: armed, sleep on the descriptor; 1: there is work already, poll again; negative: the lane is broken and nothing is left to poll. */
int brick_arm(struct brick_lane *lane);
/* Requests posted and not yet returned by brick_poll(). */
unsigned brick_in_flight(const struct brick_lane *lane);

/* Synchronous twins: post, wait, return the request's status.  They may only be used on a lane with nothing in flight (-EBUSY). */
int brick_alloc(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status);
int brick_free(struct brick_lane *lane, const uint64_t *addrs, size_t n, int *status);
int brick_map(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags,
	      struct brick_handle *handles, int *status);
int brick_unmap(struct brick_lane *lane, const uint64_t *addrs, size_t n, uint32_t flags, int *status);
int brick_persist(struct brick_lane *lane, const struct brick_range *ranges, size_t n, int *status);
int brick_read(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset, void *buffer, uint32_t length);
int brick_write(struct brick_lane *lane, const struct brick_handle *handle, uint32_t offset, const void *buffer, uint32_t length);
/* One page of the list: up to max extents from address `from`; *more and *next say whether and where to go on. */
int brick_list(struct brick_lane *lane, uint64_t from, struct brick_extent *extents, size_t max, size_t *n,
	       uint64_t *generation, uint64_t *next, bool *more);
int brick_keepalive(struct brick_lane *lane);

#define BRICK_OPS 9	/* alloc free map unmap list persist read write other */
struct brick_op_stat { uint64_t count, errors, bytes, p50_ns, p99_ns, max_ns; };
extern const char *const brick_op_names[BRICK_OPS];

struct brick_stat {
	uint8_t uuid[16];
	uint64_t instance, loss_epoch;
	uint64_t capacity, free, zeroed;	/* blocks */
	uint64_t uptime_ms;
	uint32_t sessions, lanes, maps, sessions_max, lanes_max, maps_max;
	uint64_t generation;
	enum brick_persist_method method;
	bool failed, fault;
	struct brick_op_stat op[BRICK_OPS];
	uint32_t regions;	/* verbs: blocks registered as memory regions, one for each map */
	/* Cached mode; all 0 in direct mode.  In blocks: that fit into memory; of these, taken, pinned by maps, not persisted. */
	uint32_t memory, memory_used, memory_pinned, memory_dirty;
	uint64_t fills, write_backs, evictions;	/* blocks, since the start of the brick */
	uint64_t recalls;	/* RECALL notices sent, since the start */
};
int brick_stat(struct brick_lane *lane, struct brick_stat *stat);

/* What the brick allows at most and how much of it is used (where it is for each host or session: by the one that uses most). */
struct brick_limit {
	const char *name;	/* "sessions", "sessions of a peer", ...; a static text */
	uint64_t most, used;	/* a number, or for a name that ends in ", ms" a time */
};
struct brick_refusal {
	const char *name;	/* why; a static text */
	uint64_t count;		/* since the brick's start */
};
#define BRICK_LIMITS_MAX 32
struct brick_limits {
	unsigned limits, refusals;	/* how many follow */
	struct brick_limit limit[BRICK_LIMITS_MAX];
	struct brick_refusal refusal[BRICK_LIMITS_MAX];
};
/* -EOPNOTSUPP: an older brick, which does not tell; the lane is as good as before. */
int brick_limits(struct brick_lane *lane, struct brick_limits *limits);

struct brick_session_info {
	uint64_t session, pid;
	uint32_t maps, lanes, heard_ms;
	uint32_t flags;		/* brick_who(): how it maps the block */
	char transport[8], name[64];
};
/* The brick's sessions with a number of at least `from`. */
int brick_sessions(struct brick_lane *lane, uint64_t from, struct brick_session_info *infos, size_t max, size_t *n);
/* The sessions that have addr mapped. */
int brick_who(struct brick_lane *lane, uint64_t addr, struct brick_session_info *infos, size_t max, size_t *n);
int brick_revoke(struct brick_lane *lane, uint64_t session);

enum brick_notice_kind { BRICK_NOTICE_RECALL = 1, BRICK_NOTICE_REVOKED = 2, BRICK_NOTICE_GOING_DOWN = 3 };
struct brick_notice { enum brick_notice_kind kind; uint64_t arg; };
/* Takes the next notice that polling has found: 1, or 0 when there is none. */
int brick_notice(struct brick_session *session, struct brick_notice *notice);

#ifdef __cplusplus
}
#endif
#endif
