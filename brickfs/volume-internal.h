/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-internal - what the files of the volume share.
 *
 * Lock order: persist_mutex is never held over anything.  recover_mutex of a brick -> lanes, by (brick,
 * lane) ascending -> mutex of a brick, buffers_mutex -> ids_lock, text_mutex.  Pins of maps are taken by brick
 * ascending, before lanes, all of a brick at once or none; whoever waits for a pin to go holds no
 * pin on that brick or a higher one, and no lane.  Nothing waits for the network under a brick's mutex.
 */
#ifndef BRICKFS_VOLUME_INTERNAL_H
#define BRICKFS_VOLUME_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "volume.h"

#define VOL_LANES_MAX 64
#define VOL_BLOCK_MASK (VOL_BLOCK_SIZE - 1)

/* What was written in a block and is not known durable: [low, high). */
struct vol_range {
	uint64_t block;
	uint32_t low, high;
};

struct vol_ranges {		/* by block; one for each */
	struct vol_range *range;
	size_t n, room;
};

struct vol_lane {
	pthread_mutex_t mutex;	/* whoever uses the lane */
	unsigned index;
	bool broken;		/* must be rejoined before it is used; guarded by mutex */
	struct vol_ranges dirty;	/* guarded by mutex */
	atomic_size_t dirty_count;	/* dirty.n, for who does not have the lane */
	struct backend_range *scratch;	/* ranges of a persist under way; guarded by mutex */
	size_t scratch_room;
};

enum vol_map_state { VOL_MAPPING, VOL_MAPPED, VOL_UNMAPPING };

struct vol_map {		/* guarded by the brick's mutex */
	uint64_t block;
	struct backend_handle handle;
	uint64_t serial;	/* of the session that it belongs to */
	enum vol_map_state state;
	int error;		/* why mapping failed; the entry is dead */
	unsigned pins;
	bool refused;		/* error is the brick's own word */
	bool dead;		/* out of the table: freed with its last pin */
	bool leaving;		/* nobody new may pin it */
	uint64_t dirty_lanes;	/* bits: lanes with unpersisted writes to it */
	struct vol_map *hash_next, *older, *newer;
};

struct vol_waiter {
	struct vol_waiter *next;
};

struct vol_brick {
	struct volume *vol;
	unsigned index;
	char *endpoint;
	uint8_t uuid[16];

	/* Change only with every lane held; read with any. */
	struct backend_session *session;	/* NULL: gone. Set by vol_session_set(); stays also while buffers_mutex is held */
	atomic_uint lanes;		/* of the session */
	struct backend_handle private_handle;
	_Atomic uint64_t serial;	/* of the session: 1, 2, ... */
	atomic_int gone;		/* negative: away for good */
	struct backend_info current;	/* of the session */
	struct backend_info info;	/* as of vol_connect(); constant */
	unsigned lane_slots;		/* in lane[]; constant */
	struct vol_lane *lane;
	unsigned keepalive_next;	/* by the one caller of vol_keepalive() */

	pthread_mutex_t recover_mutex;	/* one thread mends */
	atomic_bool mending;		/* it has every lane, or is about to */

	pthread_mutex_t mutex;		/* all below */
	pthread_cond_t cond;		/* pins went, maps came or went */
	struct vol_map **table;
	size_t table_mask;
	struct vol_map *oldest, *newest;	/* MAPPED ones, by last use */
	size_t maps, slots;		/* in use; may be used: granted, less while the brick is short of memory */
	size_t granted;
	uint64_t squeezed_ms;		/* when slots was changed for that reason */
	struct vol_waiter *waiters;	/* those who need slots, first come first */
	bool starving;			/* the first of them waits for pins to go */
	struct vol_ranges carried;	/* written on a connection that is lost: durable once mapped again */
	atomic_size_t carried_count;

	atomic_ullong free_blocks;	/* by our own count */

	/* Guarded by the volume's text_mutex: how often it was blamed lately. */
	uint64_t told_since_ms;
	unsigned told;
};

struct vol_group;
struct vol_buffer;

struct volume {
	const struct backend *backend;
	void *backend_context;
	unsigned want_lanes, want_maps, timeo_ms;
	uint64_t private_addr;
	char *name;
	void (*tell)(void *arg, bool latched, const char *text);
	void *tell_arg;

	struct vol_brick *brick[VOL_BRICKS_MAX];
	unsigned bricks;
	bool locked, exclusive;

	vol_fence fence;
	void *fence_arg;

	atomic_int error;		/* latched */
	atomic_bool fenced;		/* not even reads */
	atomic_bool stopped;		/* the same, by vol_stop(); the sessions stay */
	pthread_mutex_t text_mutex;
	bool text_final;
	char text[512];

	pthread_rwlock_t ids_lock;
	struct vol_group **group;	/* by key */
	size_t groups, group_room;
	struct vol_twin *twin;		/* addresses on two bricks: those that are not in the groups */
	size_t twins, twin_room;
	uint64_t list_budget, listed_bytes;	/* memory that what is listed may take, and takes */

	/* The time during which some brick was being mended: the bricks that are just now, since when, and what is over. */
	pthread_mutex_t away_mutex;
	unsigned away;
	uint64_t away_since_ms, away_ms;

	pthread_mutex_t buffers_mutex;
	struct vol_buffer *buffers;

	pthread_mutex_t persist_mutex;
	pthread_cond_t persist_cond;
	bool persist_running;
	uint64_t persist_started, persist_done;
};

/* volume.c */
void vol_say(struct volume *vol, const char *format, ...) __attribute__((format(printf, 2, 3)));
void vol_latch(struct volume *vol, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t vol_now_ms(void);
void vol_sleep_ms(unsigned ms);
unsigned vol_request_ms(const struct volume *vol);	/* how long an answer may take */
/* 0, or why nothing more may be sent to this brick. */
int vol_usable(const struct vol_brick *b);

/* volume-blame.c */
/*
 * The brick refused something with that error: "brick ENDPOINT: FORMAT: REASON" (NULL: the error's own name) is said and told.  What
 * callers get for it: -EIO, for -ENOMEM, too.
 */
int vol_blame(struct vol_brick *b, int error, const char *reason, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* What this thread has blamed a brick for since it began, or the error's name. */
void vol_blame_begin(void);
const char *vol_blamed(int error);
void vol_tell(struct volume *vol, bool latched, const char *text);

/* volume-buffers.c */
/* With every lane held: another session, which gets to know the buffers, or none (NULL: before the old one is closed). */
void vol_session_set(struct vol_brick *b, struct backend_session *session);
void vol_buffers_free(struct volume *vol);

/* volume-ids.c: which brick has which block */
int vol_ids_insert(struct volume *vol, uint64_t addr, unsigned brick);	/* -EEXIST, -ENOMEM */
bool vol_ids_remove(struct volume *vol, uint64_t addr);
/* Sorted extents of one brick, in one go; private_addr is left out, and what is there already goes to vol_twin_add(). */
int vol_ids_merge(struct volume *vol, const struct backend_extent *extents, size_t n, unsigned brick);
#define VOL_GROUP 64u			/* blocks that the table keeps together */
size_t vol_group_bytes(void);		/* memory that a group takes */
void vol_ids_clear(struct volume *vol);

/* volume-list.c */
uint64_t vol_list_budget(void);		/* bytes, on this host */
int vol_twin_add(struct volume *vol, uint64_t addr, unsigned brick);	/* -ENOMEM */

/* volume-ranges.c */
int vol_ranges_reserve(struct vol_ranges *ranges, size_t more);	/* so many can be added without memory */
int vol_ranges_add(struct vol_ranges *ranges, uint64_t block, uint32_t low, uint32_t high);
bool vol_ranges_remove(struct vol_ranges *ranges, uint64_t block);
bool vol_ranges_has(const struct vol_ranges *ranges, uint64_t block);
void vol_ranges_free(struct vol_ranges *ranges);

/* volume-io.c: lanes */
int vol_brick_error(int error);	/* what a brick answered, as an error that nobody takes for our own words: -EAGAIN and the like are -EIO */
bool vol_lost(int error);	/* the lane broke; what was sent has an unknown outcome */
struct vol_lane *vol_lane_take(struct vol_brick *b);
void vol_lane_put(struct vol_lane *lane);
/* The lane broke while we held it: marks it, gives it back. */
void vol_lane_broke(struct vol_lane *lane);
/*
 * Takes a lane that can be used, mending what has to be mended. *serial: of the session. Negative: none to be had.
 */
int vol_lane_get(struct vol_brick *b, struct vol_lane **lane, uint64_t *serial);
/* Persists what the lanes of these bricks have; not what is carried. *again is set when something was lost on the way. */
int vol_persist_lanes(struct volume *vol, struct vol_brick *const *bricks, unsigned n, bool *again);

/* volume-map.c */
struct vol_part {
	const struct vol_io *io;
	struct vol_brick *brick;
	struct vol_map *map;
	struct backend_io bio;
	bool done;
};
int vol_maps_init(struct vol_brick *b);
void vol_maps_free(struct vol_brick *b);
size_t vol_maps_slots(const struct volume *vol, const struct backend_info *info);
/* Pins the blocks of these parts, sorted by block, all on b; not more distinct ones than slots. */
int vol_pin(struct vol_brick *b, struct vol_part *parts, size_t n);
void vol_unpin_locked(struct vol_brick *b, struct vol_map *map);
void vol_unpin(struct vol_brick *b, struct vol_part *parts, size_t n);
/* A new session: every map is void. */
void vol_maps_void(struct vol_brick *b);
/*
 * For free, which unmaps by itself: waits for pins, keeps others off, and forgets what is dirty in the block.
 * NULL when it is not cached.  vol_map_release() ends that, with the block gone or still there.
 */
struct vol_map *vol_map_hold(struct vol_brick *b, uint64_t block);
void vol_map_release(struct vol_brick *b, struct vol_map *map, bool gone);
/* What was written on that lane is durable. The lane is held. */
void vol_maps_persisted(struct vol_brick *b, struct vol_lane *lane);
/* With the mutex held, which is dropped meanwhile: lets go of so many maps, about, if nobody has them pinned. How many went. */
size_t vol_evict(struct vol_brick *b, size_t most);
/* Makes what is carried durable: maps those blocks again. */
int vol_settle(struct vol_brick *b);
/* Everything written on that lane is carried: the connection is another one. All of it or nothing; b->mutex not held. */
void vol_carry(struct vol_brick *b, struct vol_lane *lane);
void vol_unmap_all(struct vol_brick *b);

/* volume-recall.c: how many maps a brick that is short of memory lets us have */
/* The brick had no memory for a map. True: it is worth another try at once; false: we hold next to nothing, it must make room. */
bool vol_squeeze(struct vol_brick *b);
/* With the mutex held: when the brick has not complained for a while, a few more are tried. */
void vol_grow(struct vol_brick *b);
/* Takes notice of what the brick has asked for. lane: held, with nothing in flight, is looked at; BACKEND_NO_LANE: any is held. */
void vol_hear(struct vol_brick *b, unsigned lane);

/* volume-reconnect.c */
/*
 * What one call has spent on a brick that takes the connection and does not answer, or breaks it again: without an end to that, such a
 * brick could keep the call for ever.  The time that a brick is away, whoever waits for it, is not counted: that is mend()'s.
 */
struct vol_effort {
	unsigned attempts;
	uint64_t begun_ms;		/* on a clock that stands still while a brick is being mended */
};
void vol_effort_begin(struct volume *vol, struct vol_effort *effort);
/* One more attempt was in vain: true if that was the last. Else it may have slept a little. */
bool vol_tired(struct volume *vol, struct vol_effort *effort);
/* vol_recover(), and another attempt, or, when there were enough of them, the end: the volume latches, and the brick is gone. */
int vol_retry(struct vol_brick *b, unsigned lane, uint64_t serial, struct vol_effort *effort);
/*
 * After a failure on this lane in the session with this serial: 0 when it is worth
 * another try. Nothing may be held but pins on lower bricks.
 */
int vol_recover(struct vol_brick *b, unsigned lane, uint64_t serial);
/* One attempt, without waiting and latching. */
void vol_recover_try(struct vol_brick *b, unsigned lane, uint64_t serial);

#endif
