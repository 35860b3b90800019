/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simbrick - bricks in memory behind a `struct backend`, which record every
 * persistent effect and can be crashed at each of them.
 *
 * A `struct sim` holds several bricks, addressed by the endpoints "sim:0",
 * "sim:1", ...  Every block has its *durable* content and its *visible* content
 * (what reads answer), in shared, reference-counted pages, and there is a list of *pieces*:
 * the writes that were submitted and are not covered by a completed persist.
 *
 * The model (brick-protocol(7)), as strict as a brick may be:
 * - A write is a piece from its submit on.  A persist covers, when it is drained, those pieces in its
 *   ranges that were submitted before it on the same connection of the same lane. A lane
 *   that was rejoined is another connection.
 * - alloc and free are durable when answered.
 * - A block whose read-write mapper ended without CLEAN (unmapped, or the session died) is *unsettled*:
 *   its visible content becomes durable before it is mapped again.  An unmap that says CLEAN
 *   and lies leaves its pieces volatile.
 * - A power cut takes of every piece any subset of its atoms of 8 bytes, pieces in order of submit.
 * - A client's crash takes the sessions.  Pieces that were drained stay visible; of those in
 *   flight any subset arrived.  A later power cut may still take all of them.
 *
 * Threads: one mutex guards a sim; backend calls may come from any thread.  Two sims share only pages.
 * Memory running out aborts: this is a test's tool.
 */
#ifndef TESTS_SIMBRICK_H
#define TESTS_SIMBRICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"

#define SIM_ATOM 8u
#define SIM_PAGE 4096u

struct sim;

extern const struct backend backend_sim;	/* its context is the struct sim * */

struct sim *sim_new(void);
void sim_delete(struct sim *sim);	/* after every session was closed; the recording goes too */
unsigned sim_add_brick(struct sim *sim, uint64_t blocks);	/* its index: endpoint "sim:INDEX" */
unsigned sim_bricks(struct sim *sim);
/* What sessions opened from now on are granted. 0: as asked, at most 1024 maps, 64 lanes; lease 30000 ms. */
void sim_set_grants(struct sim *sim, unsigned maps, unsigned lanes, unsigned lease_ms);

/*
 * The brick's memory holds so many blocks (0: all): as many maps as all its sessions have together, two of them kept for
 * each session.  Beyond that map says -ENOMEM, and those who have more than their share are asked for the rest (recalled()).
 */
void sim_set_memory(struct sim *sim, unsigned brick, uint64_t blocks);
void sim_recall(struct sim *sim, unsigned brick, uint64_t blocks);	/* of each of its sessions */
uint64_t sim_mapped(struct sim *sim, unsigned brick);	/* maps of all its sessions */
/*
 * Registered memory, of all sessions that live.  What is registered twice in a session, or given back
 * without having been registered, is a bug of the caller's and aborts.
 */
uint64_t sim_buffers(struct sim *sim);
/* True if every session that lives knows this memory, and there is one. */
bool sim_knows(struct sim *sim, const void *memory, size_t size);

/* How it says that persist works, to sessions opened from now on; it works the same. */
void sim_set_method(struct sim *sim, unsigned brick, const char *method);

/*
 * A copy of this moment with the same bricks and no sessions, as after a client's
 * crash with everything in flight arrived.  Cheap: pages and blocks are shared until one side writes.
 */
struct sim *sim_snapshot(struct sim *sim);

/* Recording: on forgets what was recorded before and begins at event 0; off keeps it for sim_image(). */
enum sim_event_kind {
	SIM_EV_WRITE,		/* submitted: a piece is born */
	SIM_EV_WRITE_DONE,	/* drained */
	SIM_EV_PERSIST,		/* submitted */
	SIM_EV_PERSIST_DONE,	/* drained: what it covers is durable */
	SIM_EV_ALLOC,
	SIM_EV_FREE,
	SIM_EV_MAP,		/* settles an unsettled block */
	SIM_EV_UNMAP,
	SIM_EV_END,		/* the end of a session: its blocks are unsettled */
	SIM_EV_RESTART,		/* sim_power_cut() or sim_restart() of one brick */
	SIM_EV_MARK,		/* sim_mark() */
};
struct sim_event {
	enum sim_event_kind kind;
	unsigned brick, lane;
	uint64_t session;
	uint64_t connection;	/* of the lane: changes with a rejoin */
	uint64_t addr;		/* first byte; MARK: the caller's number; PERSIST: of the first range */
	uint32_t length;	/* WRITE: bytes; PERSIST: ranges */
	uint64_t submit;	/* *_DONE: the event that submitted it */
};
void sim_record(struct sim *sim, bool on);
uint64_t sim_events(struct sim *sim);	/* recorded so far */
bool sim_event(struct sim *sim, uint64_t event, struct sim_event *out);
/* An event that changes nothing: lets an oracle note between which events an operation ran. Returns the events so far. */
uint64_t sim_mark(struct sim *sim, uint64_t number);

/*
 * Images: the state after the first `event` events (0: before all; sim_events(): after all).
 * sim_pieces() tells the volatile pieces there, in order of submit; a selection is a
 * bitmap with a bit for each atom of all of them (bit n: byte n / 8, 1 << n % 8), NULL: none.
 * Going through events in ascending order is cheap, going back replays from the beginning of the recording.
 */
struct sim_piece {
	unsigned brick, lane;
	uint64_t addr;		/* first byte */
	uint32_t length;	/* bytes */
	uint64_t event;		/* that submitted it; UINT64_MAX: from before the recording */
	bool drained;
	uint64_t first_atom;	/* in the selection */
	uint32_t atoms;		/* touched, the first and the last may be partly covered */
};
/* The number of pieces; up to max are written to pieces; *atoms: bits of a selection. */
size_t sim_pieces(struct sim *sim, uint64_t event, struct sim_piece *pieces, size_t max, uint64_t *atoms);

enum sim_crash {
	SIM_POWER_CUT,		/* selected atoms are durable, the rest is gone; another loss_epoch and instance */
	SIM_CLIENT_CRASH,	/* selected atoms of pieces not drained arrived, drained ones all did; still volatile, settled when mapped */
};
/* A new sim without sessions, of the same bricks; NULL when event is beyond the recording. */
struct sim *sim_image(struct sim *sim, uint64_t event, enum sim_crash crash, const uint8_t *selection);
/* One brick alone loses its power, and the client dies: what the other bricks have is as after a client's crash. */
struct sim *sim_image_of_cut(struct sim *sim, uint64_t event, unsigned brick, const uint8_t *selection);
/* Of all there is: same hash, same image (allocated IDs, durable and visible content, pieces). Incremental. */
uint64_t sim_hash(struct sim *sim);

/* Straight into the bricks, for oracles and damage: no session, no event, no fault. -ENOENT. */
int sim_peek(struct sim *sim, unsigned brick, uint64_t addr, void *buffer, uint32_t length);	/* visible */
int sim_peek_durable(struct sim *sim, unsigned brick, uint64_t addr, void *buffer, uint32_t length);
int sim_poke(struct sim *sim, unsigned brick, uint64_t addr, const void *buffer, uint32_t length);	/* durable and visible */
int sim_poke_alloc(struct sim *sim, unsigned brick, uint64_t addr);
int sim_poke_free(struct sim *sim, unsigned brick, uint64_t addr);
bool sim_has(struct sim *sim, unsigned brick, uint64_t addr);
bool sim_next(struct sim *sim, unsigned brick, uint64_t from, uint64_t *addr);	/* first allocated one >= from */
uint64_t sim_used(struct sim *sim, unsigned brick);	/* allocated blocks */
void sim_resize(struct sim *sim, unsigned brick, uint64_t blocks);

/* Calls counted since sim_new(), and faults. READ, WRITE, PERSIST count each io; the others each call, whatever its batch. */
enum sim_call {
	SIM_OPEN, SIM_REJOIN, SIM_ALLOC, SIM_FREE, SIM_MAP, SIM_UNMAP, SIM_LIST, SIM_READ, SIM_WRITE, SIM_PERSIST,
	SIM_DRAIN, SIM_KEEPALIVE, SIM_WHO, SIM_REGISTER, SIM_CALLS
};
uint64_t sim_calls(struct sim *sim, enum sim_call call);
/* Sum of the entries of all batches of ALLOC, FREE, MAP, UNMAP, and of the ranges of PERSIST. */
uint64_t sim_entries(struct sim *sim, enum sim_call call);

/*
 * The nth (1: the next) call of that kind on the brick (-1: any) fails with a negative errno.
 * after: it is carried out all the same, and only its answer is lost (ALLOC, FREE, MAP, UNMAP).
 * -ECONNRESET and -ETIMEDOUT also break the lane: it must be rejoined.  At most 256 wait at a time.
 */
void sim_fault(struct sim *sim, int brick, enum sim_call call, unsigned nth, int error, bool after);
/* Mutation: the nth persist from now on does nothing and answers 0. 0: none. */
void sim_drop_persist(struct sim *sim, uint64_t nth);
uint64_t sim_dropped(struct sim *sim);	/* how many were */
uint64_t sim_dropped_at(struct sim *sim);	/* the event of the recording that submitted the last one */
/* Mutation: an unmap that is not CLEAN, or a dead session, does not unsettle. */
void sim_forget_settle(struct sim *sim, bool on);

void sim_break_lane(struct sim *sim, unsigned brick, unsigned lane);	/* of every session there */
void sim_lose_session(struct sim *sim, unsigned brick);	/* all of the brick's sessions die */
/* Away: lanes break, open and rejoin are refused. attempts > 0: comes back after so many refusals by itself. */
void sim_away(struct sim *sim, unsigned brick, bool away, unsigned attempts);
void sim_restart(struct sim *sim, unsigned brick);	/* another instance, same loss_epoch; sessions die, bytes stay */
/* Another instance and loss_epoch; selection as for sim_image() at the live moment, NULL: every volatile atom is lost. */
void sim_power_cut(struct sim *sim, unsigned brick, const uint8_t *selection);
void sim_set_uuid(struct sim *sim, unsigned brick, const uint8_t uuid[16]);	/* another brick came up there */

#endif
