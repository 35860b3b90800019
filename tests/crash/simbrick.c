/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simbrick - the simulated bricks: recording, images, faults. The backend's
 * calls are in simbackend.c, the content in simstate.c.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "siminternal.h"

uint64_t sim_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static struct sim *sim_with(struct sim_state *state)
{
	struct sim *sim = sim_alloc(sizeof(*sim));

	pthread_mutex_init(&sim->mutex, NULL);
	sim->state = state;
	sim->lease_ms = 30000;
	return sim;
}

struct sim *sim_new(void)
{
	/* Blocks come and go by the thousand: not a mapping, and its page faults, for each of them. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	return sim_with(state_new());
}

static void record_free(struct sim_record *r)
{
	data_unref(r->data);
	free(r->addrs);
	free(r->ranges);
	free(r->selection);
}

static void forget_recording(struct sim *sim)
{
	for (size_t i = 0; i < sim->records; i++)
		record_free(&sim->record[i]);
	sim->records = 0;
	state_delete(sim->base);
	state_delete(sim->cursor);
	sim->base = sim->cursor = NULL;
}

void sim_delete(struct sim *sim)
{
	if (!sim)
		return;
	if (sim->sessions)
		sim_bug("sim_delete() with a session open");
	forget_recording(sim);
	free(sim->record);
	state_delete(sim->state);
	pthread_mutex_destroy(&sim->mutex);
	free(sim);
}

unsigned sim_add_brick(struct sim *sim, uint64_t blocks)
{
	pthread_mutex_lock(&sim->mutex);
	unsigned b = sim->bricks++;

	if (b >= SIM_BRICKS_MAX)
		sim_bug("too many bricks");
	memcpy(sim->brick[b].uuid, "simulated brick", 15);
	sim->brick[b].uuid[15] = b;
	/* The order of UUIDs is not the order of bricks. */
	sim->brick[b].uuid[0] ^= (uint8_t)(b * 37 + 11);
	sim->brick[b].blocks = blocks;
	sim->brick[b].instance = sim->brick[b].loss_epoch = 1;
	state_add_brick(sim->state);
	pthread_mutex_unlock(&sim->mutex);
	return b;
}

unsigned sim_bricks(struct sim *sim)
{
	return sim->bricks;
}

void sim_set_grants(struct sim *sim, unsigned maps, unsigned lanes, unsigned lease_ms)
{
	pthread_mutex_lock(&sim->mutex);
	sim->maps = maps;
	sim->lanes = lanes;
	sim->lease_ms = lease_ms ? lease_ms : 30000;
	pthread_mutex_unlock(&sim->mutex);
}

void sim_set_memory(struct sim *sim, unsigned brick, uint64_t blocks)
{
	pthread_mutex_lock(&sim->mutex);
	sim->brick[brick].memory = blocks;
	pthread_mutex_unlock(&sim->mutex);
}

void sim_set_method(struct sim *sim, unsigned brick, const char *method)
{
	pthread_mutex_lock(&sim->mutex);
	sim->brick[brick].method = method;
	pthread_mutex_unlock(&sim->mutex);
}

void sim_recall(struct sim *sim, unsigned brick, uint64_t blocks)
{
	pthread_mutex_lock(&sim->mutex);
	for (struct backend_session *s = sim->sessions; s; s = s->next)
		if (s->brick == brick)
			s->recall = blocks;
	pthread_mutex_unlock(&sim->mutex);
}

uint64_t sim_mapped(struct sim *sim, unsigned brick)
{
	uint64_t n = 0;

	pthread_mutex_lock(&sim->mutex);
	for (struct backend_session *s = sim->sessions; s; s = s->next)
		if (s->brick == brick)
			n += s->maps;
	pthread_mutex_unlock(&sim->mutex);
	return n;
}

uint64_t sim_buffers(struct sim *sim)
{
	uint64_t n = 0;

	pthread_mutex_lock(&sim->mutex);
	for (struct backend_session *s = sim->sessions; s; s = s->next)
		if (!s->dead)
			n += s->buffers;
	pthread_mutex_unlock(&sim->mutex);
	return n;
}

bool sim_knows(struct sim *sim, const void *memory, size_t size)
{
	const char *p = memory;
	uint64_t sessions = 0, know = 0;

	pthread_mutex_lock(&sim->mutex);
	for (struct backend_session *s = sim->sessions; s; s = s->next) {
		if (s->dead)
			continue;
		sessions++;
		for (size_t i = 0; i < s->buffers; i++)
			know += p >= s->buffer[i].memory && p + size <= s->buffer[i].memory + s->buffer[i].size;
	}
	pthread_mutex_unlock(&sim->mutex);
	return sessions && know == sessions;
}

/* Same bricks, this state, no sessions. */
static struct sim *offspring(struct sim *sim, struct sim_state *state)
{
	struct sim *child = sim_with(state);

	memcpy(child->brick, sim->brick, sizeof(child->brick));
	child->bricks = sim->bricks;
	child->maps = sim->maps;
	child->lanes = sim->lanes;
	child->lease_ms = sim->lease_ms;
	child->next_session = sim->next_session;
	child->next_connection = sim->next_connection;
	child->next_key = sim->next_key;
	for (unsigned b = 0; b < child->bricks; b++) {
		child->brick[b].away = false;
		child->brick[b].away_attempts = 0;
	}
	return child;
}

/* Everything in flight arrived. */
static uint8_t *select_all(struct sim_state *state)
{
	uint64_t atoms;

	state_pieces(state, 0, NULL, 0, &atoms);
	uint8_t *bits = sim_alloc(atoms / 8 + 1);

	memset(bits, 0xff, atoms / 8 + 1);
	return bits;
}

struct sim *sim_snapshot(struct sim *sim)
{
	pthread_mutex_lock(&sim->mutex);
	struct sim_state *state = state_clone(sim->state);
	uint8_t *all = select_all(state);

	state_crash(state, -1, SIM_CLIENT_CRASH, all);
	free(all);
	struct sim *child = offspring(sim, state);

	pthread_mutex_unlock(&sim->mutex);
	return child;
}

uint64_t sim_do(struct sim *sim, struct sim_record *record)
{
	uint64_t seq = state_apply(sim->state, record);

	if (!sim->recording) {
		record_free(record);
		return seq;
	}
	sim->record = sim_grow(sim->record, &sim->record_room, sim->records + 1, sizeof(*sim->record));
	sim->record[sim->records++] = *record;
	return seq;
}

void sim_record(struct sim *sim, bool on)
{
	pthread_mutex_lock(&sim->mutex);
	if (on) {
		forget_recording(sim);
		sim->seq0 = state_seq(sim->state);
		sim->base = state_clone(sim->state);
		sim->cursor = state_clone(sim->state);
		sim->cursor_at = 0;
	}
	sim->recording = on;
	pthread_mutex_unlock(&sim->mutex);
}

uint64_t sim_events(struct sim *sim)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t n = sim->records;

	pthread_mutex_unlock(&sim->mutex);
	return n;
}

bool sim_event(struct sim *sim, uint64_t event, struct sim_event *out)
{
	pthread_mutex_lock(&sim->mutex);
	bool there = event < sim->records;

	if (there)
		*out = sim->record[event].ev;
	pthread_mutex_unlock(&sim->mutex);
	return there;
}

uint64_t sim_mark(struct sim *sim, uint64_t number)
{
	struct sim_record record = { .ev = { .kind = SIM_EV_MARK, .addr = number } };

	pthread_mutex_lock(&sim->mutex);
	sim_do(sim, &record);
	uint64_t n = sim->records;

	pthread_mutex_unlock(&sim->mutex);
	return n;
}

static bool seek_event(struct sim *sim, uint64_t event)
{
	if (!sim->base || event > sim->records)
		return false;
	if (event < sim->cursor_at) {
		state_delete(sim->cursor);
		sim->cursor = state_clone(sim->base);
		sim->cursor_at = 0;
	}
	while (sim->cursor_at < event)
		state_apply(sim->cursor, &sim->record[sim->cursor_at++]);
	return true;
}

size_t sim_pieces(struct sim *sim, uint64_t event, struct sim_piece *pieces, size_t max, uint64_t *atoms)
{
	size_t n = 0;

	pthread_mutex_lock(&sim->mutex);
	*atoms = 0;
	if (seek_event(sim, event))
		n = state_pieces(sim->cursor, sim->seq0, pieces, max, atoms);
	pthread_mutex_unlock(&sim->mutex);
	return n;
}

struct sim *sim_image_of_cut(struct sim *sim, uint64_t event, unsigned brick, const uint8_t *selection)
{
	struct sim *child = NULL;

	pthread_mutex_lock(&sim->mutex);
	if (brick < sim->bricks && seek_event(sim, event)) {
		struct sim_state *state = state_clone(sim->cursor);

		state_crash_apart(state, brick, selection);
		child = offspring(sim, state);
		child->brick[brick].instance++;
		child->brick[brick].loss_epoch++;
	}
	pthread_mutex_unlock(&sim->mutex);
	return child;
}

struct sim *sim_image(struct sim *sim, uint64_t event, enum sim_crash crash, const uint8_t *selection)
{
	struct sim *child = NULL;

	pthread_mutex_lock(&sim->mutex);
	if (seek_event(sim, event)) {
		struct sim_state *state = state_clone(sim->cursor);

		state_crash(state, -1, crash, selection);
		child = offspring(sim, state);
		for (unsigned b = 0; b < child->bricks && crash == SIM_POWER_CUT; b++) {
			child->brick[b].instance++;
			child->brick[b].loss_epoch++;
		}
	}
	pthread_mutex_unlock(&sim->mutex);
	return child;
}

uint64_t sim_hash(struct sim *sim)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t hash = state_hash(sim->state);

	pthread_mutex_unlock(&sim->mutex);
	return hash;
}

static int access_block(struct sim *sim, unsigned brick, uint64_t addr, void *to, const void *from, uint32_t length, bool durable)
{
	int r = -ENOENT;

	pthread_mutex_lock(&sim->mutex);
	if ((addr & (SIM_BLOCK - 1)) + length > SIM_BLOCK) {
		r = -EINVAL;
	} else if (state_has(sim->state, brick, addr)) {
		if (to)
			state_read(sim->state, brick, addr, durable, to, length);
		else
			state_poke(sim->state, brick, addr, from, length);
		r = 0;
	}
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

int sim_peek(struct sim *sim, unsigned brick, uint64_t addr, void *buffer, uint32_t length)
{
	return access_block(sim, brick, addr, buffer, NULL, length, false);
}

int sim_peek_durable(struct sim *sim, unsigned brick, uint64_t addr, void *buffer, uint32_t length)
{
	return access_block(sim, brick, addr, buffer, NULL, length, true);
}

int sim_poke(struct sim *sim, unsigned brick, uint64_t addr, const void *buffer, uint32_t length)
{
	return access_block(sim, brick, addr, NULL, buffer, length, false);
}

static int poke_event(struct sim *sim, enum sim_event_kind kind, unsigned brick, uint64_t addr)
{
	struct sim_record record = { .ev = { .kind = kind, .brick = brick, .addr = addr } };
	int r = 0;

	pthread_mutex_lock(&sim->mutex);
	if (addr & (SIM_BLOCK - 1))
		r = -EINVAL;
	else if (state_has(sim->state, brick, addr) != (kind == SIM_EV_FREE))
		r = kind == SIM_EV_FREE ? -ENOENT : -EEXIST;
	if (!r) {
		sim_do(sim, &record);
		sim->brick[brick].generation++;
	}
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

int sim_poke_alloc(struct sim *sim, unsigned brick, uint64_t addr)
{
	return poke_event(sim, SIM_EV_ALLOC, brick, addr);
}

int sim_poke_free(struct sim *sim, unsigned brick, uint64_t addr)
{
	return poke_event(sim, SIM_EV_FREE, brick, addr);
}

bool sim_has(struct sim *sim, unsigned brick, uint64_t addr)
{
	pthread_mutex_lock(&sim->mutex);
	bool has = state_has(sim->state, brick, addr);

	pthread_mutex_unlock(&sim->mutex);
	return has;
}

bool sim_next(struct sim *sim, unsigned brick, uint64_t from, uint64_t *addr)
{
	pthread_mutex_lock(&sim->mutex);
	bool there = state_next(sim->state, brick, from, addr);

	pthread_mutex_unlock(&sim->mutex);
	return there;
}

uint64_t sim_used(struct sim *sim, unsigned brick)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t n = state_used(sim->state, brick);

	pthread_mutex_unlock(&sim->mutex);
	return n;
}

void sim_resize(struct sim *sim, unsigned brick, uint64_t blocks)
{
	pthread_mutex_lock(&sim->mutex);
	sim->brick[brick].blocks = blocks;
	pthread_mutex_unlock(&sim->mutex);
}

uint64_t sim_calls(struct sim *sim, enum sim_call call)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t n = sim->calls[call];

	pthread_mutex_unlock(&sim->mutex);
	return n;
}

uint64_t sim_entries(struct sim *sim, enum sim_call call)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t n = sim->entries[call];

	pthread_mutex_unlock(&sim->mutex);
	return n;
}

void sim_fault(struct sim *sim, int brick, enum sim_call call, unsigned nth, int error, bool after)
{
	pthread_mutex_lock(&sim->mutex);
	for (unsigned i = 0; i < SIM_FAULTS_MAX; i++) {
		if (sim->fault[i].nth)
			continue;
		sim->fault[i] = (struct sim_fault){ .brick = brick, .call = call, .nth = nth, .error = error, .after = after };
		pthread_mutex_unlock(&sim->mutex);
		return;
	}
	sim_bug("more than %d faults", SIM_FAULTS_MAX);
}

int sim_call_fault(struct sim *sim, unsigned brick, enum sim_call call, bool *after)
{
	int error = 0;

	sim->calls[call]++;
	for (unsigned i = 0; i < SIM_FAULTS_MAX; i++) {
		struct sim_fault *f = &sim->fault[i];

		if (!f->nth || f->call != call || (f->brick >= 0 && (unsigned)f->brick != brick) || --f->nth)
			continue;
		error = f->error;
		if (after)
			*after = f->after;
	}
	return error;
}

void sim_drop_persist(struct sim *sim, uint64_t nth)
{
	pthread_mutex_lock(&sim->mutex);
	sim->drop_nth = nth;
	pthread_mutex_unlock(&sim->mutex);
}

uint64_t sim_dropped(struct sim *sim)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t n = sim->dropped;

	pthread_mutex_unlock(&sim->mutex);
	return n;
}

uint64_t sim_dropped_at(struct sim *sim)
{
	pthread_mutex_lock(&sim->mutex);
	uint64_t at = sim->dropped_at;

	pthread_mutex_unlock(&sim->mutex);
	return at;
}

void sim_forget_settle(struct sim *sim, bool on)
{
	pthread_mutex_lock(&sim->mutex);
	state_forget_settle(sim->state, on);
	pthread_mutex_unlock(&sim->mutex);
}

/* What is queued has arrived, but nobody will hear of it. */
void sim_lane_broke(struct backend_session *session, unsigned lane)
{
	struct sim_lane *l = &session->lane[lane];

	if (l->broken)
		return;
	l->broken = true;
	for (size_t i = 0; i < l->n; i++) {
		struct sim_queued *q = &l->queue[i];

		if (q->io->op != BACKEND_WRITE || q->preset)
			continue;
		struct sim_record record = {
			.ev = { .kind = SIM_EV_WRITE_DONE, .brick = session->brick, .lane = lane, .session = session->number,
				.connection = l->connection, .addr = q->io->handle.addr + q->io->offset,
				.length = q->io->length, .submit = q->event },
			.seq = q->seq,
		};

		sim_do(session->sim, &record);
	}
}

void sim_session_dies(struct backend_session *session)
{
	struct sim_record record = { .ev = { .kind = SIM_EV_END, .brick = session->brick, .session = session->number } };

	if (session->dead)
		return;
	for (unsigned i = 0; i < session->info.lanes; i++)
		sim_lane_broke(session, i);
	session->dead = true;
	record.addrs = sim_alloc(session->maps * sizeof(*record.addrs));
	for (size_t i = 0; i < session->maps; i++)
		if (session->map[i].flags & BACKEND_MAP_WRITE)
			record.addrs[record.count++] = session->map[i].addr;
	session->maps = 0;
	sim_do(session->sim, &record);
}

void sim_break_lane(struct sim *sim, unsigned brick, unsigned lane)
{
	pthread_mutex_lock(&sim->mutex);
	for (struct backend_session *s = sim->sessions; s; s = s->next)
		if (s->brick == brick && lane < s->info.lanes)
			sim_lane_broke(s, lane);
	pthread_mutex_unlock(&sim->mutex);
}

static void all_die(struct sim *sim, unsigned brick)
{
	for (struct backend_session *s = sim->sessions; s; s = s->next)
		if (s->brick == brick)
			sim_session_dies(s);
}

void sim_lose_session(struct sim *sim, unsigned brick)
{
	pthread_mutex_lock(&sim->mutex);
	all_die(sim, brick);
	pthread_mutex_unlock(&sim->mutex);
}

void sim_away(struct sim *sim, unsigned brick, bool away, unsigned attempts)
{
	pthread_mutex_lock(&sim->mutex);
	sim->brick[brick].away = away;
	sim->brick[brick].away_attempts = attempts;
	for (struct backend_session *s = sim->sessions; s && away; s = s->next)
		for (unsigned i = 0; s->brick == brick && i < s->info.lanes; i++)
			sim_lane_broke(s, i);
	pthread_mutex_unlock(&sim->mutex);
}

static void restart(struct sim *sim, unsigned brick, bool lost, const uint8_t *selection)
{
	struct sim_record record = { .ev = { .kind = SIM_EV_RESTART, .brick = brick }, .lost = lost };

	pthread_mutex_lock(&sim->mutex);
	if (selection) {
		uint64_t atoms;

		state_pieces(sim->state, 0, NULL, 0, &atoms);
		record.selection = sim_alloc(atoms / 8 + 1);
		memcpy(record.selection, selection, (atoms + 7) / 8);
	}
	all_die(sim, brick);
	sim_do(sim, &record);
	sim->brick[brick].instance++;
	sim->brick[brick].loss_epoch += lost;
	pthread_mutex_unlock(&sim->mutex);
}

void sim_restart(struct sim *sim, unsigned brick)
{
	restart(sim, brick, false, NULL);
}

void sim_power_cut(struct sim *sim, unsigned brick, const uint8_t *selection)
{
	restart(sim, brick, true, selection);
}

void sim_set_uuid(struct sim *sim, unsigned brick, const uint8_t uuid[16])
{
	pthread_mutex_lock(&sim->mutex);
	memcpy(sim->brick[brick].uuid, uuid, 16);
	pthread_mutex_unlock(&sim->mutex);
}
