/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simstate - the content of simulated bricks at one moment, as a value: blocks
 * in shared pages, and the pieces that are volatile.  Events turn one state into the next, be it
 * while they happen or when a recording is replayed.  The caller serialises.
 */
#ifndef TESTS_SIMSTATE_H
#define TESTS_SIMSTATE_H

#include "simbrick.h"

#define SIM_PAGES ((unsigned)((2u << 20) / SIM_PAGE))
#define SIM_BLOCK (2u << 20)
#define SIM_BRICKS_MAX 64

struct sim_data {			/* the bytes of one write, shared by event and pieces */
	unsigned refs;
	uint32_t length;
	uint8_t bytes[];
};

struct sim_record {			/* an event with all that is needed to apply it */
	struct sim_event ev;
	struct sim_data *data;		/* WRITE */
	uint64_t *addrs;		/* END: what it mapped for writing; RESTART: the selection's bytes */
	struct backend_range *ranges;	/* PERSIST_DONE */
	size_t count;			/* of addrs or ranges */
	uint64_t seq;			/* PERSIST_DONE, WRITE_DONE: the sequence number of the submit */
	uint8_t *selection;		/* RESTART */
	bool write, clean, lost, dropped;	/* MAP, UNMAP: for writing; UNMAP: CLEAN; RESTART: a power cut; PERSIST_DONE: mutation */
};

struct sim_state;

struct sim_state *state_new(void);
struct sim_state *state_clone(const struct sim_state *state);
void state_delete(struct sim_state *state);
void state_add_brick(struct sim_state *state);
/* Applies the event and gives it the next sequence number, which is returned. */
uint64_t state_apply(struct sim_state *state, const struct sim_record *record);
uint64_t state_seq(const struct sim_state *state);
void state_forget_settle(struct sim_state *state, bool on);

bool state_has(const struct sim_state *state, unsigned brick, uint64_t addr);
bool state_next(const struct sim_state *state, unsigned brick, uint64_t from, uint64_t *addr);
uint64_t state_used(const struct sim_state *state, unsigned brick);
void state_read(const struct sim_state *state, unsigned brick, uint64_t addr, bool durable, void *buffer, uint32_t length);
void state_poke(struct sim_state *state, unsigned brick, uint64_t addr, const void *buffer, uint32_t length);

/* seq0: sequence number of event 0. */
size_t state_pieces(const struct sim_state *state, uint64_t seq0, struct sim_piece *pieces, size_t max, uint64_t *atoms);
/* In place. brick: -1 all. */
void state_crash(struct sim_state *state, int brick, enum sim_crash crash, const uint8_t *selection);
/* That brick loses its power, of the others the client dies; one selection for both. */
void state_crash_apart(struct sim_state *state, unsigned brick, const uint8_t *selection);
uint64_t state_hash(const struct sim_state *state);

struct sim_data *data_new(const void *bytes, uint32_t length);
struct sim_data *data_ref(struct sim_data *data);
void data_unref(struct sim_data *data);
void *sim_alloc(size_t size);		/* zeroed; aborts */
void *sim_grow(void *array, size_t *room, size_t want, size_t size);
void sim_bug(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
