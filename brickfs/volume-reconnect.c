/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-reconnect - a lane that broke is rejoined; when the session is gone, another
 * one is opened, and the fence decides whether this volume may go on.
 *
 * One thread mends a brick, the others wait for it at recover_mutex or at a lane, no longer than
 * timeo_ms.  While a session is replaced, every lane of the brick is held.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "volume-internal.h"

/* The session may live, or the brick come back: worth another try. */
static bool transient(int error)
{
	return (vol_lost(error) && error != -ESTALE) || error == -EBUSY || error == -EAGAIN || error == -ENOENT ||
	       error == -EUSERS || error == -EINTR;
}

static bool has_dirty(struct vol_brick *b)
{
	bool dirty = b->carried_count;

	for (unsigned i = 0; i < b->lane_slots; i++)
		dirty |= b->lane[i].dirty.n > 0;
	return dirty;
}

static int read_fence(struct vol_brick *b, struct backend_session *session, const struct backend_handle *handle)
{
	struct volume *vol = b->vol;
	uint8_t page[2][4096];
	struct backend_io io[2];
	int r = 0, drained;

	for (unsigned i = 0; i < 2; i++)
		io[i] = (struct backend_io){
			.op = BACKEND_READ, .handle = *handle, .offset = i * 4096, .length = 4096, .buffer = page[i], .status = -ECONNRESET,
		};
	for (unsigned i = 0; i < 2 && !r; i++)
		r = vol->backend->submit(session, 0, &io[i]);
	drained = vol->backend->drain(session, 0);
	if (!r)
		r = drained;
	if (!r)
		r = io[0].status ? io[0].status : io[1].status;
	if (r)
		return vol_lost(r) ? r : -EAGAIN;
	r = vol->fence(vol->fence_arg, b->uuid, page[0], page[1]);
	if (!r)
		return 0;
	vol->fenced = true;
	vol_latch(vol, -ESTALE, "brick %s: the volume was mounted by another while the connection was lost; unmount it here", b->endpoint);
	return -ESTALE;
}

/* Everything of the old session is void. */
static void install(struct vol_brick *b, struct backend_session *session, const struct backend_handle *handle)
{
	struct volume *vol = b->vol;
	const struct backend_info *info = vol->backend->info(session);
	bool lost = info->loss_epoch != b->current.loss_epoch && has_dirty(b);
	size_t slots = vol_maps_slots(vol, info);

	if (lost)
		vol_latch(vol, -EIO, "brick %s came back without bytes that were written and not yet persisted", b->endpoint);
	for (unsigned i = 0; i < b->lane_slots; i++) {
		vol_carry(b, &b->lane[i]);
		b->lane[i].broken = false;
	}
	vol_session_set(b, session);
	b->current = *info;
	b->lanes = info->lanes < b->lane_slots ? info->lanes : b->lane_slots;
	b->private_handle = *handle;
	b->serial++;
	vol_maps_void(b);
	pthread_mutex_lock(&b->mutex);
	b->slots = b->granted = slots;
	if (lost) {
		b->carried.n = 0;
		b->carried_count = 0;
	}
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
}

/* A new session, with the superblock's lock and the fence's word. */
static int reopen(struct vol_brick *b, uint64_t deadline)
{
	struct volume *vol = b->vol;
	struct backend_session *session = NULL;
	struct backend_handle handle = { 0 };
	int r = vol->backend->open(vol->backend_context, b->endpoint, vol->name, b->lane_slots, vol->want_maps,
				   vol_request_ms(vol), &session), status = 0;

	if (r)
		return r;
	const struct backend_info *info = vol->backend->info(session);

	if (memcmp(info->uuid, b->uuid, sizeof(b->uuid)) || !info->lanes || !vol_maps_slots(vol, info)) {
		vol_say(vol, "brick %s: another brick answers there, or it grants too little", b->endpoint);
		r = -EAGAIN;
	}
	while (!r) {
		r = vol->backend->map(session, 0, &vol->private_addr, 1,
				      vol->exclusive ? BACKEND_MAP_WRITE | BACKEND_MAP_EXCLUSIVE : 0, &handle, &status);
		if (!r)
			r = status;
		/* Our own session, that is dying: the brick gives it up when it notices. */
		if (r != -EBUSY || vol_now_ms() >= deadline)
			break;
		vol_sleep_ms(50);
		r = 0;
	}
	if (r == -ENOENT) {
		vol->fenced = true;
		vol_latch(vol, -ESTALE, "brick %s: its superblock is gone", b->endpoint);
		r = -ESTALE;
	}
	if (!r)
		r = read_fence(b, session, &handle);
	if (r)
		vol->backend->close(session);
	else
		install(b, session, &handle);
	return r;
}

/* The clock of vol_effort stands still between these. */
static void away_begin(struct volume *vol)
{
	pthread_mutex_lock(&vol->away_mutex);
	if (!vol->away++)
		vol->away_since_ms = vol_now_ms();
	pthread_mutex_unlock(&vol->away_mutex);
}

static void away_end(struct volume *vol)
{
	pthread_mutex_lock(&vol->away_mutex);
	if (!--vol->away)
		vol->away_ms += vol_now_ms() - vol->away_since_ms;
	pthread_mutex_unlock(&vol->away_mutex);
}

/* With every lane held: rejoin, or another session. patience_ms 0: one attempt. */
static int mend(struct vol_brick *b, unsigned lane, unsigned patience_ms)
{
	struct volume *vol = b->vol;
	uint64_t deadline = vol_now_ms() + patience_ms;
	unsigned pause = 10, busy = 0;
	char last[256];
	int r;

	for (;;) {
		r = b->session ? vol->backend->rejoin(b->session, lane) : -ESTALE;
		if (!r) {
			vol_carry(b, &b->lane[lane]);
			b->lane[lane].broken = false;
			return 0;
		}
		strncpy(last, vol_reason(vol, r), sizeof(last) - 1);
		last[sizeof(last) - 1] = 0;
		if (b->session && (!transient(r) || (r == -EBUSY && ++busy == 5))) {
			struct backend_session *dead = b->session;

			vol_session_set(b, NULL);
			vol->backend->close(dead);
			for (unsigned i = 0; i < b->lane_slots; i++)
				b->lane[i].broken = true;
		}
		if (!b->session) {
			r = reopen(b, deadline);
			if (!r)
				return 0;
			if (vol->fenced) {
				b->gone = -ESTALE;
				return -ESTALE;
			}
			strncpy(last, vol_reason(vol, r), sizeof(last) - 1);
		}
		if (!patience_ms)
			return r;
		if (vol->stopped)
			return -EIO;
		if (vol_now_ms() >= deadline)
			break;
		vol_sleep_ms(pause);
		pause = pause < 500 ? pause * 2 : 1000;
	}
	b->gone = -EIO;
	vol_latch(vol, -EIO, "brick %s stayed away for %u s: %s", b->endpoint, patience_ms / 1000, last);
	return -EIO;
}

static bool hold_lanes(struct vol_brick *b, bool wait)
{
	for (unsigned i = 0; i < b->lane_slots; i++) {
		if (wait) {
			pthread_mutex_lock(&b->lane[i].mutex);
		} else if (pthread_mutex_trylock(&b->lane[i].mutex)) {
			while (i-- > 0)
				pthread_mutex_unlock(&b->lane[i].mutex);
			return false;
		}
	}
	return true;
}

static void drop_lanes(struct vol_brick *b)
{
	for (unsigned i = b->lane_slots; i-- > 0; )
		pthread_mutex_unlock(&b->lane[i].mutex);
}

/* With recover_mutex held. */
static int recover(struct vol_brick *b, unsigned index, uint64_t serial, unsigned patience_ms)
{
	struct volume *vol = b->vol;
	struct vol_lane *lane = &b->lane[index];
	int r = vol_usable(b);

	if (r || b->serial != serial || index >= b->lanes)
		return r;
	if (!vol->fence || !vol->locked) {
		b->gone = -EIO;
		vol_latch(vol, -EIO, "brick %s: the connection was lost: %s", b->endpoint, vol_reason(vol, -ECONNRESET));
		goto gone;
	}
	/* The common case first, which others on this brick need not wait for. */
	if (patience_ms)
		pthread_mutex_lock(&lane->mutex);
	else if (pthread_mutex_trylock(&lane->mutex))
		return 0;
	if (!lane->broken) {
		pthread_mutex_unlock(&lane->mutex);
		return 0;
	}
	away_begin(vol);
	r = b->session ? vol->backend->rejoin(b->session, index) : -ESTALE;
	if (!r) {
		vol_carry(b, lane);
		lane->broken = false;
	}
	pthread_mutex_unlock(&lane->mutex);
	if (!r) {
		away_end(vol);
		return 0;
	}
	b->mending = true;
	if (hold_lanes(b, patience_ms)) {
		r = mend(b, index, patience_ms);
		drop_lanes(b);
	}
	b->mending = false;
	away_end(vol);
	if (!b->gone)
		return r;
gone:
	/* Who waits for a map of this brick waits no longer. */
	pthread_mutex_lock(&b->mutex);
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
	return b->gone;
}

#define RETRIES_AT_ONCE 3u		/* a restart, and once more */
#define RETRY_PAUSE_MAX_MS 500u

static uint64_t now_without_away(struct volume *vol)
{
	pthread_mutex_lock(&vol->away_mutex);
	uint64_t now = (vol->away ? vol->away_since_ms : vol_now_ms()) - vol->away_ms;

	pthread_mutex_unlock(&vol->away_mutex);
	return now;
}

void vol_effort_begin(struct volume *vol, struct vol_effort *effort)
{
	*effort = (struct vol_effort){ .begun_ms = now_without_away(vol) };
}

bool vol_tired(struct volume *vol, struct vol_effort *effort)
{
	unsigned more = effort->attempts++;

	if (more < RETRIES_AT_ONCE)
		return false;
	if (now_without_away(vol) - effort->begun_ms >= vol->timeo_ms)
		return true;
	more -= RETRIES_AT_ONCE;
	vol_sleep_ms(more < 9 && 1u << more < RETRY_PAUSE_MAX_MS ? 1u << more : RETRY_PAUSE_MAX_MS);
	return false;
}

static void give_up(struct vol_brick *b)
{
	b->gone = -EIO;
	/* Who waits for a map of this brick waits no longer. */
	pthread_mutex_lock(&b->mutex);
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
}

int vol_retry(struct vol_brick *b, unsigned lane, uint64_t serial, struct vol_effort *effort)
{
	if (vol_tired(b->vol, effort)) {
		vol_latch(b->vol, -EIO, "brick %s: it can be reached, but the connection broke, or nothing was answered, at %u attempts in "
			  "%" PRIu64 " s: %s", b->endpoint, effort->attempts,
			  (now_without_away(b->vol) - effort->begun_ms) / 1000, vol_reason(b->vol, -ECONNRESET));
		give_up(b);
		return -EIO;
	}
	return vol_recover(b, lane, serial);
}

int vol_recover(struct vol_brick *b, unsigned lane, uint64_t serial)
{
	pthread_mutex_lock(&b->recover_mutex);
	int r = recover(b, lane, serial, b->vol->timeo_ms);

	pthread_mutex_unlock(&b->recover_mutex);
	return r;
}

void vol_recover_try(struct vol_brick *b, unsigned lane, uint64_t serial)
{
	if (pthread_mutex_trylock(&b->recover_mutex))
		return;
	recover(b, lane, serial, 0);
	pthread_mutex_unlock(&b->recover_mutex);
}
