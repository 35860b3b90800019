/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simbackend - the calls of `struct backend` on simulated bricks.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "siminternal.h"

static _Thread_local char text[200];

static int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(int error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	return error;
}

static const char *sim_error_text(void)
{
	return text;
}

static bool refused(struct sim *sim, unsigned brick)
{
	struct sim_brick *b = &sim->brick[brick];

	if (!b->away)
		return false;
	if (b->away_attempts && !--b->away_attempts)
		b->away = false;
	return true;
}

static int sim_open(void *context, const char *endpoint, const char *name, unsigned lanes, unsigned maps,
		    unsigned timeout_ms, struct backend_session **session)
{
	struct sim *sim = context;
	unsigned brick;
	int r = 0;

	pthread_mutex_lock(&sim->mutex);
	if (sscanf(endpoint, "sim:%u", &brick) != 1 || brick >= sim->bricks) {
		r = fail(-ECONNREFUSED, "%s: there is no such simulated brick", endpoint);
		goto out;
	}
	r = sim_call_fault(sim, brick, SIM_OPEN, NULL);
	if (!r && refused(sim, brick))
		r = -ECONNREFUSED;
	if (r) {
		fail(r, "%s: cannot connect: %s", endpoint, strerror(-r));
		goto out;
	}
	struct backend_session *s = sim_alloc(sizeof(*s));
	struct sim_brick *b = &sim->brick[brick];
	unsigned most = sim->lanes ? sim->lanes : SIM_LANES_MAX;

	s->sim = sim;
	s->brick = brick;
	s->number = ++sim->next_session;
	s->pid = getpid();
	s->heard_ms = sim_now_ms();
	snprintf(s->name, sizeof(s->name), "%s", name ? name : "sim");
	memcpy(s->info.uuid, b->uuid, 16);
	s->info.instance = b->instance;
	s->info.loss_epoch = b->loss_epoch;
	s->info.capacity = b->blocks;
	s->info.free = b->blocks > state_used(sim->state, brick) ? b->blocks - state_used(sim->state, brick) : 0;
	s->info.session = s->number;
	s->info.maps = sim->maps && (!maps || maps > sim->maps) ? sim->maps : maps && maps < 1024 ? maps : 1024;
	s->info.lanes = !lanes ? 1 : lanes < most ? lanes : most;
	s->info.lease_ms = sim->lease_ms;
	s->info.method = b->method ? b->method : "target";
	for (unsigned i = 0; i < s->info.lanes; i++)
		s->lane[i].connection = ++sim->next_connection;
	s->next = sim->sessions;
	sim->sessions = s;
	*session = s;
out:
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

static void sim_close(struct backend_session *session)
{
	struct sim *sim = session->sim;

	pthread_mutex_lock(&sim->mutex);
	sim_session_dies(session);
	for (struct backend_session **p = &sim->sessions; *p; p = &(*p)->next) {
		if (*p == session) {
			*p = session->next;
			break;
		}
	}
	pthread_mutex_unlock(&sim->mutex);
	for (unsigned i = 0; i < session->info.lanes; i++) {
		for (size_t k = 0; k < session->lane[i].n; k++)
			data_unref(session->lane[i].queue[k].data);
		free(session->lane[i].queue);
	}
	free(session->map);
	free(session->buffer);
	free(session);
}

static const struct backend_info *sim_info(struct backend_session *session)
{
	return &session->info;
}

static int sim_rejoin(struct backend_session *session, unsigned lane)
{
	struct sim *sim = session->sim;
	struct sim_lane *l = &session->lane[lane];

	pthread_mutex_lock(&sim->mutex);
	int r = sim_call_fault(sim, session->brick, SIM_REJOIN, NULL);

	if (!r && refused(sim, session->brick))
		r = -ECONNREFUSED;
	if (!r && session->dead)
		r = -ESTALE;
	if (!r) {
		if (l->n)
			sim_bug("rejoin of a lane that was not drained");
		sim_lane_broke(session, lane);
		l->broken = false;
		l->connection = ++sim->next_connection;
		session->heard_ms = sim_now_ms();
	} else {
		fail(r, "sim:%u: cannot rejoin lane %u: %s", session->brick, lane, strerror(-r));
	}
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

/* The beginning of every call but data: the lane must be free and whole. Called and returned with the mutex held. */
static int begin(struct backend_session *session, unsigned lane, enum sim_call call, size_t n, bool *after)
{
	struct sim *sim = session->sim;

	*after = false;
	if (lane >= session->info.lanes)
		sim_bug("lane %u of %u", lane, session->info.lanes);
	if (session->lane[lane].n)
		sim_bug("a call on a lane with I/O that was not drained");
	if (session->lane[lane].broken)
		return fail(-ECONNRESET, "sim:%u: lane %u is broken", session->brick, lane);
	int r = sim_call_fault(sim, session->brick, call, after);

	sim->entries[call] += n;
	session->heard_ms = sim_now_ms();
	if (r && !*after && (r == -ECONNRESET || r == -ETIMEDOUT))
		sim_lane_broke(session, lane);
	return r;
}

/* The end of one that was carried out although its answer is lost. */
static int lost_answer(struct backend_session *session, unsigned lane, int r)
{
	if (r == -ECONNRESET || r == -ETIMEDOUT)
		sim_lane_broke(session, lane);
	return r;
}

static struct sim_map *mapped(struct backend_session *session, uint64_t addr)
{
	for (size_t i = 0; i < session->maps; i++)
		if (session->map[i].addr == addr)
			return &session->map[i];
	return NULL;
}

static int sim_call_alloc(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	struct sim *sim = session->sim;
	struct sim_brick *b = &sim->brick[session->brick];
	bool after;

	pthread_mutex_lock(&sim->mutex);
	int r = begin(session, lane, SIM_ALLOC, n, &after);

	for (size_t i = 0; i < n && (!r || after); i++) {
		struct sim_record record = {
			.ev = { .kind = SIM_EV_ALLOC, .brick = session->brick, .lane = lane, .session = session->number, .addr = addrs[i] },
		};

		if (addrs[i] & (SIM_BLOCK - 1))
			status[i] = -EINVAL;
		else if (state_has(sim->state, session->brick, addrs[i]))
			status[i] = -EEXIST;
		else if (state_used(sim->state, session->brick) >= b->blocks)
			status[i] = -ENOSPC;
		else
			status[i] = 0;
		if (!status[i]) {
			sim_do(sim, &record);
			b->generation++;
		}
	}
	if (r && after)
		r = lost_answer(session, lane, r);
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

static void forget_map(struct backend_session *session, struct sim_map *map)
{
	*map = session->map[--session->maps];
}

static int sim_call_release(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	struct sim *sim = session->sim;
	bool after;

	pthread_mutex_lock(&sim->mutex);
	int r = begin(session, lane, SIM_FREE, n, &after);

	for (size_t i = 0; i < n && (!r || after); i++) {
		struct sim_record record = {
			.ev = { .kind = SIM_EV_FREE, .brick = session->brick, .lane = lane, .session = session->number, .addr = addrs[i] },
		};
		struct sim_map *own = mapped(session, addrs[i]);

		status[i] = state_has(sim->state, session->brick, addrs[i]) ? 0 : -ENOENT;
		for (struct backend_session *s = sim->sessions; s && !status[i]; s = s->next)
			if (s != session && s->brick == session->brick && mapped(s, addrs[i]))
				status[i] = -EBUSY;
		if (status[i])
			continue;
		if (own)
			forget_map(session, own);
		sim_do(sim, &record);
		sim->brick[session->brick].generation++;
	}
	if (r && after)
		r = lost_answer(session, lane, r);
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

/* Kills who may be killed, -EBUSY if somebody else's map stands in the way. */
static int conflict(struct backend_session *session, uint64_t addr, uint32_t flags)
{
	struct sim *sim = session->sim;

	for (struct backend_session *s = sim->sessions; s; s = s->next) {
		struct sim_map *m = s != session && s->brick == session->brick ? mapped(s, addr) : NULL;

		if (!m || !((m->flags | flags) & BACKEND_MAP_EXCLUSIVE))
			continue;
		if (!(flags & BACKEND_MAP_PREEMPT) && sim_now_ms() - s->heard_ms <= s->info.lease_ms)
			return -EBUSY;
		sim_session_dies(s);
	}
	return 0;
}

/* Room for another map of this session? If not, those who have more than their share hear of it. */
static bool memory_left(struct backend_session *session)
{
	struct sim *sim = session->sim;
	uint64_t memory = sim->brick[session->brick].memory, taken = 0, sessions = 0;

	if (!memory || session->maps < 2)
		return true;
	for (struct backend_session *s = sim->sessions; s; s = s->next) {
		if (s->brick != session->brick || s->dead)
			continue;
		taken += s->maps > 2 ? s->maps : 2;
		sessions++;
	}
	if (taken < memory)
		return true;
	for (struct backend_session *s = sim->sessions; s; s = s->next)
		if (s->brick == session->brick && !s->dead && s->maps > memory / sessions)
			s->recall = s->maps - memory / sessions;
	return false;
}

static int map_one(struct backend_session *session, unsigned lane, uint64_t addr, uint32_t flags, struct backend_handle *handle)
{
	struct sim *sim = session->sim;
	struct sim_map *m = mapped(session, addr);

	if (flags & BACKEND_MAP_EXCLUSIVE)
		flags |= BACKEND_MAP_WRITE;
	if (!state_has(sim->state, session->brick, addr) || addr & (SIM_BLOCK - 1))
		return -ENOENT;
	if (m && (flags & ~m->flags & ~BACKEND_MAP_PREEMPT))
		return -EBUSY;
	if (!m) {
		int r = conflict(session, addr, flags);
		struct sim_record record = {
			.ev = { .kind = SIM_EV_MAP, .brick = session->brick, .lane = lane, .session = session->number, .addr = addr },
			.write = flags & BACKEND_MAP_WRITE,
		};

		if (r)
			return r;
		if (session->maps >= session->info.maps || !memory_left(session))
			return -ENOMEM;
		session->map = sim_grow(session->map, &session->map_room, session->maps + 1, sizeof(*m));
		m = &session->map[session->maps++];
		*m = (struct sim_map){ .addr = addr, .flags = flags & ~BACKEND_MAP_PREEMPT, .key = ++sim->next_key };
		sim_do(sim, &record);
	}
	*handle = (struct backend_handle){ .addr = addr, .place = addr, .key = m->key, .flags = m->flags };
	return 0;
}

static int sim_call_map(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags,
			struct backend_handle *handles, int *status)
{
	bool after;

	pthread_mutex_lock(&session->sim->mutex);
	int r = begin(session, lane, SIM_MAP, n, &after);

	for (size_t i = 0; i < n && (!r || after); i++)
		status[i] = map_one(session, lane, addrs[i], flags, &handles[i]);
	if (r && after)
		r = lost_answer(session, lane, r);
	pthread_mutex_unlock(&session->sim->mutex);
	return r;
}

static int sim_call_unmap(struct backend_session *session, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags, int *status)
{
	struct sim *sim = session->sim;
	bool after;

	pthread_mutex_lock(&sim->mutex);
	int r = begin(session, lane, SIM_UNMAP, n, &after);

	for (size_t i = 0; i < n && (!r || after); i++) {
		struct sim_map *m = mapped(session, addrs[i]);

		status[i] = m ? 0 : -ENOENT;
		if (!m)
			continue;
		struct sim_record record = {
			.ev = { .kind = SIM_EV_UNMAP, .brick = session->brick, .lane = lane, .session = session->number, .addr = addrs[i] },
			.write = m->flags & BACKEND_MAP_WRITE, .clean = flags & BACKEND_UNMAP_CLEAN,
		};

		forget_map(session, m);
		sim_do(sim, &record);
	}
	if (r && after)
		r = lost_answer(session, lane, r);
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

static int sim_list(struct backend_session *session, unsigned lane, uint64_t from, struct backend_extent *extents, size_t max,
		    size_t *n, uint64_t *generation, uint64_t *next, bool *more)
{
	struct sim *sim = session->sim;
	uint64_t addr;
	bool after;

	pthread_mutex_lock(&sim->mutex);
	int r = begin(session, lane, SIM_LIST, 0, &after);

	*n = 0;
	*more = false;
	*generation = sim->brick[session->brick].generation;
	while (!r && state_next(sim->state, session->brick, from, &addr)) {
		struct backend_extent *last = *n ? &extents[*n - 1] : NULL;

		if (last && last->start + last->count * SIM_BLOCK == addr) {
			last->count++;
		} else if (*n == max) {
			*more = true;
			*next = addr;
			break;
		} else {
			extents[(*n)++] = (struct backend_extent){ .start = addr, .count = 1 };
		}
		from = addr + SIM_BLOCK;
		if (!from)
			break;
	}
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

static enum sim_call call_of(enum backend_op op)
{
	return op == BACKEND_READ ? SIM_READ : op == BACKEND_WRITE ? SIM_WRITE : SIM_PERSIST;
}

/* 0, or why this I/O may not touch the block. */
static int violates(struct backend_session *session, const struct backend_io *io)
{
	struct sim_map *m = mapped(session, io->handle.addr);

	if (!m || m->key != io->handle.key)
		return -EACCES;
	if (io->op == BACKEND_WRITE && !(m->flags & BACKEND_MAP_WRITE))
		return -EACCES;
	return (uint64_t)io->offset + io->length > SIM_BLOCK || !io->length ? -EINVAL : 0;
}

static void submit_write(struct backend_session *session, unsigned lane, struct sim_queued *q)
{
	struct backend_io *io = q->io;
	struct sim *sim = session->sim;
	struct sim_record record = {
		.ev = { .kind = SIM_EV_WRITE, .brick = session->brick, .lane = lane, .session = session->number,
			.connection = session->lane[lane].connection, .addr = io->handle.addr + io->offset, .length = io->length },
		.data = data_new(io->buffer, io->length),
	};

	q->data = data_ref(record.data);
	q->event = sim->recording ? sim->records : UINT64_MAX;
	q->seq = sim_do(sim, &record);
}

static void submit_persist(struct backend_session *session, unsigned lane, struct sim_queued *q)
{
	struct sim *sim = session->sim;
	struct sim_record record = {
		.ev = { .kind = SIM_EV_PERSIST, .brick = session->brick, .lane = lane, .session = session->number,
			.connection = session->lane[lane].connection,
			.addr = q->io->range_count ? q->io->ranges[0].addr : 0, .length = q->io->range_count },
	};

	sim->entries[SIM_PERSIST] += q->io->range_count;
	for (size_t i = 0; i < q->io->range_count; i++) {
		const struct backend_range *range = &q->io->ranges[i];

		if (!range->length || (range->addr & (SIM_BLOCK - 1)) + range->length > SIM_BLOCK)
			q->preset = -EINVAL;
		else if (!state_has(sim->state, session->brick, range->addr))
			q->preset = -ENOENT;
	}
	if (sim->drop_nth && !--sim->drop_nth) {
		q->dropped = true;
		sim->dropped++;
		sim->dropped_at = sim->records;
	}
	q->event = sim->recording ? sim->records : UINT64_MAX;
	q->seq = sim_do(sim, &record);
}

static int sim_submit(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	struct sim *sim = session->sim;
	struct sim_lane *l = &session->lane[lane];
	struct sim_queued q = { .io = io };
	int r;

	pthread_mutex_lock(&sim->mutex);
	if (lane >= session->info.lanes)
		sim_bug("lane %u of %u", lane, session->info.lanes);
	if (l->broken) {
		r = fail(-ECONNRESET, "sim:%u: lane %u is broken", session->brick, lane);
		goto out;
	}
	session->heard_ms = sim_now_ms();
	r = sim_call_fault(sim, session->brick, call_of(io->op), NULL);
	if (r == -ECONNRESET || r == -ETIMEDOUT) {
		sim_lane_broke(session, lane);
		goto out;
	}
	q.preset = r;
	r = 0;
	if (!q.preset && io->op != BACKEND_PERSIST)
		q.preset = violates(session, io);
	if (!q.preset && io->op == BACKEND_WRITE)
		submit_write(session, lane, &q);
	else if (!q.preset && io->op == BACKEND_PERSIST)
		submit_persist(session, lane, &q);
	l->queue = sim_grow(l->queue, &l->room, l->n + 1, sizeof(q));
	l->queue[l->n++] = q;
out:
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

static int complete(struct backend_session *session, unsigned lane, struct sim_queued *q)
{
	struct sim *sim = session->sim;
	struct backend_io *io = q->io;
	struct sim_record record = {
		.ev = { .brick = session->brick, .lane = lane, .session = session->number,
			.connection = session->lane[lane].connection, .submit = q->event },
		.seq = q->seq,
	};

	if (q->preset)
		return q->preset;
	switch (io->op) {
	case BACKEND_READ:	/* at the end: a later write may have overtaken it */
		if (violates(session, io))
			return -EACCES;
		state_read(sim->state, session->brick, io->handle.addr + io->offset, false, io->buffer, io->length);
		return 0;
	case BACKEND_WRITE:
		if (memcmp(q->data->bytes, io->buffer, io->length))
			sim_bug("the buffer of a write to 0x%llx changed while it was in flight",
				(unsigned long long)(io->handle.addr + io->offset));
		record.ev.kind = SIM_EV_WRITE_DONE;
		record.ev.addr = io->handle.addr + io->offset;
		record.ev.length = io->length;
		break;
	case BACKEND_PERSIST:
		record.ev.kind = SIM_EV_PERSIST_DONE;
		record.ev.addr = io->range_count ? io->ranges[0].addr : 0;
		record.ev.length = record.count = io->range_count;
		record.ranges = sim_alloc(io->range_count * sizeof(*record.ranges));
		memcpy(record.ranges, io->ranges, io->range_count * sizeof(*record.ranges));
		record.dropped = q->dropped;
		break;
	}
	sim_do(sim, &record);
	return 0;
}

static int sim_drain(struct backend_session *session, unsigned lane)
{
	struct sim *sim = session->sim;
	struct sim_lane *l = &session->lane[lane];
	int first = 0;

	pthread_mutex_lock(&sim->mutex);
	int r = l->broken ? 0 : sim_call_fault(sim, session->brick, SIM_DRAIN, NULL);

	if (r == -ECONNRESET || r == -ETIMEDOUT)
		sim_lane_broke(session, lane);
	for (size_t i = 0; i < l->n; i++) {
		struct sim_queued *q = &l->queue[i];

		q->io->status = l->broken ? -ECONNRESET : complete(session, lane, q);
		if (q->io->status && !first)
			first = q->io->status;
		data_unref(q->data);
	}
	l->n = 0;
	if (l->broken)
		first = fail(-ECONNRESET, "sim:%u: lane %u is broken", session->brick, lane);
	else
		session->heard_ms = sim_now_ms();
	pthread_mutex_unlock(&sim->mutex);
	return first;
}

static int sim_keepalive(struct backend_session *session, unsigned lane)
{
	bool after;

	pthread_mutex_lock(&session->sim->mutex);
	int r = begin(session, lane, SIM_KEEPALIVE, 0, &after);

	pthread_mutex_unlock(&session->sim->mutex);
	return r;
}

static uint64_t sim_recalled(struct backend_session *session, unsigned lane)
{
	pthread_mutex_lock(&session->sim->mutex);
	if (lane != BACKEND_NO_LANE && (lane >= session->info.lanes || session->lane[lane].n))
		sim_bug("a look at lane %u, which is in use", lane);
	uint64_t blocks = session->recall;

	session->recall = 0;
	pthread_mutex_unlock(&session->sim->mutex);
	return blocks;
}

static int sim_buffer_register(struct backend_session *session, void *memory, size_t size)
{
	struct sim *sim = session->sim;
	const char *p = memory;
	bool after;

	pthread_mutex_lock(&sim->mutex);
	int r = sim_call_fault(sim, session->brick, SIM_REGISTER, &after);

	if (r) {
		fail(r, "sim:%u: memory cannot be registered: %s", session->brick, strerror(-r));
		goto out;
	}
	for (size_t i = 0; i < session->buffers; i++)
		if (p < session->buffer[i].memory + session->buffer[i].size && session->buffer[i].memory < p + size)
			sim_bug("memory is registered twice");
	session->buffer = sim_grow(session->buffer, &session->buffer_room, session->buffers + 1, sizeof(*session->buffer));
	session->buffer[session->buffers++] = (struct sim_buffer){ p, size };
out:
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

static void sim_buffer_unregister(struct backend_session *session, void *memory)
{
	size_t i = 0;

	pthread_mutex_lock(&session->sim->mutex);
	while (i < session->buffers && session->buffer[i].memory != memory)
		i++;
	if (i == session->buffers)
		sim_bug("memory is given back that was not registered");
	session->buffer[i] = session->buffer[--session->buffers];
	pthread_mutex_unlock(&session->sim->mutex);
}

static int sim_who(struct backend_session *session, unsigned lane, uint64_t addr, struct backend_holder *holders, size_t max, size_t *n)
{
	struct sim *sim = session->sim;
	bool after;

	pthread_mutex_lock(&sim->mutex);
	int r = begin(session, lane, SIM_WHO, 0, &after);

	*n = 0;
	for (struct backend_session *s = sim->sessions; s && !r; s = s->next) {
		if (s->brick != session->brick || !mapped(s, addr) || *n == max)
			continue;
		struct backend_holder *h = &holders[(*n)++];

		*h = (struct backend_holder){ .session = s->number, .pid = s->pid, .heard_ms = sim_now_ms() - s->heard_ms };
		snprintf(h->name, sizeof(h->name), "%s", s->name);
		snprintf(h->transport, sizeof(h->transport), "sim");
	}
	pthread_mutex_unlock(&sim->mutex);
	return r;
}

const struct backend backend_sim = {
	.open = sim_open,
	.close = sim_close,
	.info = sim_info,
	.rejoin = sim_rejoin,
	.alloc = sim_call_alloc,
	.release = sim_call_release,
	.map = sim_call_map,
	.unmap = sim_call_unmap,
	.list = sim_list,
	.submit = sim_submit,
	.drain = sim_drain,
	.keepalive = sim_keepalive,
	.recalled = sim_recalled,
	.buffer_register = sim_buffer_register,
	.buffer_unregister = sim_buffer_unregister,
	.who = sim_who,
	.error_text = sim_error_text,
};
