/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * siminternal - what simbrick.c (the sim, its recording, faults) and simbackend.c (the
 * backend's calls) share.
 */
#ifndef TESTS_SIMINTERNAL_H
#define TESTS_SIMINTERNAL_H

#include <pthread.h>

#include "simstate.h"

#define SIM_LANES_MAX 64
#define SIM_FAULTS_MAX 256

struct sim_queued {
	struct backend_io *io;
	uint64_t seq;			/* WRITE, PERSIST: of its submit */
	uint64_t event;			/* the same as an index of the recording, or UINT64_MAX */
	int preset;			/* fails with this */
	bool dropped;
	struct sim_data *data;		/* WRITE */
};

struct sim_lane {
	bool broken;
	uint64_t connection;
	struct sim_queued *queue;
	size_t n, room;
};

struct sim_map {
	uint64_t addr;
	uint32_t flags, key;
};

struct sim_buffer {
	const char *memory;
	size_t size;
};

struct backend_session {
	struct sim *sim;
	struct backend_session *next;
	unsigned brick;
	bool dead;
	uint64_t number, pid, heard_ms;
	char name[64];
	struct backend_info info;
	struct sim_lane lane[SIM_LANES_MAX];
	struct sim_map *map;
	size_t maps, map_room;
	struct sim_buffer *buffer;
	size_t buffers, buffer_room;
	uint64_t recall;		/* asked for, and not yet heard */
};

struct sim_brick {
	uint8_t uuid[16];
	uint64_t blocks, instance, loss_epoch, generation;
	bool away;
	unsigned away_attempts;
	uint64_t memory;		/* 0: as large as the store */
	const char *method;		/* NULL: "target" */
};

struct sim_fault {
	int brick, error;
	enum sim_call call;
	unsigned nth;			/* 0: free */
	bool after;
};

struct sim {
	pthread_mutex_t mutex;
	struct sim_state *state;
	struct sim_brick brick[SIM_BRICKS_MAX];
	unsigned bricks, maps, lanes, lease_ms;
	uint64_t next_session, next_connection;
	uint32_t next_key;
	struct backend_session *sessions;
	uint64_t calls[SIM_CALLS], entries[SIM_CALLS];
	struct sim_fault fault[SIM_FAULTS_MAX];
	uint64_t drop_nth, dropped, dropped_at;

	bool recording;
	uint64_t seq0;			/* of event 0 */
	struct sim_record *record;
	size_t records, record_room;
	struct sim_state *base, *cursor;
	uint64_t cursor_at;		/* events applied to cursor */
};

uint64_t sim_now_ms(void);
/* Applies, and records; takes over what record points to. Returns the sequence number. */
uint64_t sim_do(struct sim *sim, struct sim_record *record);
/* Counts the call; 0, or the error of a fault that is due (*after: carry it out first). */
int sim_call_fault(struct sim *sim, unsigned brick, enum sim_call call, bool *after);
void sim_lane_broke(struct backend_session *session, unsigned lane);
void sim_session_dies(struct backend_session *session);

#endif
