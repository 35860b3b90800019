/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume - bricks and their sessions, the superblock's lock, list, the latch.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "volume-internal.h"

#define LANES_DEFAULT 4
#define TIMEO_DEFAULT_MS 60000
#define REQUEST_MIN_MS 5000
#define REQUEST_MAX_MS 30000
#define HOLDERS_MAX 16
#define LEASE_MAX_MS 3600000u	/* the longest that brickd can be told to give; what is longer is not waited for */
#define LEASE_GRACE_MS 2000
#define NOBODY_MS 10000u

uint64_t vol_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

void vol_sleep_ms(unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	nanosleep(&ts, NULL);
}

void vol_say(struct volume *vol, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	pthread_mutex_lock(&vol->text_mutex);
	if (!vol->text_final)
		vsnprintf(vol->text, sizeof(vol->text), format, ap);
	pthread_mutex_unlock(&vol->text_mutex);
	va_end(ap);
}

const char *vol_text(struct volume *vol)
{
	static _Thread_local char text[sizeof(vol->text)];

	pthread_mutex_lock(&vol->text_mutex);
	memcpy(text, vol->text, sizeof(text));
	pthread_mutex_unlock(&vol->text_mutex);
	return text;
}

/* True: it is the first reason, which stays. */
static bool latch(struct volume *vol, int error, const char *text)
{
	bool first;

	pthread_mutex_lock(&vol->text_mutex);
	first = !vol->text_final;
	if (first) {
		snprintf(vol->text, sizeof(vol->text), "%s", text);
		vol->text_final = true;
		vol->error = error < 0 ? error : -EIO;
	}
	pthread_mutex_unlock(&vol->text_mutex);
	return first;
}

void vol_latch(struct volume *vol, int error, const char *format, ...)
{
	char text[sizeof(vol->text)];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (latch(vol, error, text))
		vol_tell(vol, true, text);
}

/* Whoever calls this tells people himself. */
void vol_fail(struct volume *vol, int error, const char *text)
{
	latch(vol, error, text ? text : strerror(-error));
}

int vol_error(const struct volume *vol)
{
	return vol->error;
}

int vol_usable(const struct vol_brick *b)
{
	return b->vol->fenced ? -ESTALE : b->vol->stopped ? -EIO : b->gone;
}

void vol_stop(struct volume *vol, const char *text)
{
	vol_latch(vol, -EIO, "%s", text);
	vol->stopped = true;
	for (unsigned i = 0; i < vol->bricks; i++) {
		struct vol_brick *b = vol->brick[i];

		/* Who waits for a map waits no longer. */
		pthread_mutex_lock(&b->mutex);
		pthread_cond_broadcast(&b->cond);
		pthread_mutex_unlock(&b->mutex);
	}
	/* Whoever has a lane found the volume usable: he is waited for. The next one will not. */
	for (unsigned i = 0; i < vol->bricks; i++) {
		struct vol_brick *b = vol->brick[i];

		for (unsigned k = 0; k < b->lane_slots; k++) {
			pthread_mutex_lock(&b->lane[k].mutex);
			pthread_mutex_unlock(&b->lane[k].mutex);
		}
	}
}

int vol_new(struct volume **out, const struct vol_options *options)
{
	struct volume *vol = calloc(1, sizeof(*vol));

	if (!vol || (options->name && !(vol->name = strdup(options->name)))) {
		free(vol);
		return -ENOMEM;
	}
	vol->backend = options->backend;
	vol->backend_context = options->backend_context;
	vol->want_lanes = options->lanes ? options->lanes : LANES_DEFAULT;
	if (vol->want_lanes > VOL_LANES_MAX)
		vol->want_lanes = VOL_LANES_MAX;
	vol->want_maps = options->maps;
	vol->timeo_ms = options->timeo_ms ? options->timeo_ms : TIMEO_DEFAULT_MS;
	vol->private_addr = options->private_addr;
	vol->tell = options->tell;
	vol->tell_arg = options->tell_arg;
	vol->list_budget = options->list_bytes ? options->list_bytes : vol_list_budget();
	/* Until it is locked otherwise: mkfs writes under its exclusive lock, a look at the brick only reads. */
	vol->exclusive = true;
	pthread_mutex_init(&vol->text_mutex, NULL);
	pthread_rwlock_init(&vol->ids_lock, NULL);
	pthread_mutex_init(&vol->away_mutex, NULL);
	pthread_mutex_init(&vol->buffers_mutex, NULL);
	pthread_mutex_init(&vol->persist_mutex, NULL);
	pthread_cond_init(&vol->persist_cond, NULL);
	*out = vol;
	return 0;
}

static void brick_free(struct vol_brick *b)
{
	vol_maps_free(b);
	for (unsigned i = 0; i < b->lane_slots; i++) {
		pthread_mutex_destroy(&b->lane[i].mutex);
		vol_ranges_free(&b->lane[i].dirty);
		free(b->lane[i].scratch);
	}
	if (b->session)
		b->vol->backend->close(b->session);
	pthread_mutex_destroy(&b->recover_mutex);
	pthread_mutex_destroy(&b->mutex);
	pthread_cond_destroy(&b->cond);
	free(b->lane);
	free(b->endpoint);
	free(b);
}

void vol_abandon(struct volume *vol)
{
	if (!vol)
		return;
	for (unsigned i = 0; i < vol->bricks; i++)
		brick_free(vol->brick[i]);
	vol_ids_clear(vol);
	free(vol->twin);
	pthread_mutex_destroy(&vol->text_mutex);
	pthread_rwlock_destroy(&vol->ids_lock);
	vol_buffers_free(vol);
	pthread_mutex_destroy(&vol->away_mutex);
	pthread_mutex_destroy(&vol->buffers_mutex);
	pthread_mutex_destroy(&vol->persist_mutex);
	pthread_cond_destroy(&vol->persist_cond);
	free(vol->name);
	free(vol);
}

void vol_delete(struct volume *vol)
{
	if (!vol)
		return;
	/* A lane that is lost now is not waited for: the brick settles what was mapped. */
	vol->fence = NULL;
	for (unsigned i = 0; i < vol->bricks; i++)
		vol_unmap_all(vol->brick[i]);
	vol_unlock(vol);
	vol_abandon(vol);
}

const char *vol_reason(struct volume *vol, int error)
{
	const char *text = vol->backend->error_text();

	return text && *text ? text : strerror(-error);
}

static int brick_new(struct volume *vol, const char *endpoint, struct backend_session *session, struct vol_brick **out)
{
	struct vol_brick *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->vol = vol;
	b->index = vol->bricks;
	b->info = b->current = *vol->backend->info(session);
	memcpy(b->uuid, b->info.uuid, sizeof(b->uuid));
	b->serial = 1;
	b->lanes = b->info.lanes < VOL_LANES_MAX ? b->info.lanes : VOL_LANES_MAX;
	b->slots = b->granted = vol_maps_slots(vol, &b->info);
	b->free_blocks = b->info.free;
	pthread_mutex_init(&b->recover_mutex, NULL);
	pthread_mutex_init(&b->mutex, NULL);
	pthread_cond_init(&b->cond, NULL);
	b->endpoint = strdup(endpoint);
	b->lane = calloc(b->lanes, sizeof(*b->lane));
	if (b->lane) {
		b->lane_slots = b->lanes;
		for (unsigned i = 0; i < b->lane_slots; i++) {
			pthread_mutex_init(&b->lane[i].mutex, NULL);
			b->lane[i].index = i;
		}
	}
	if (!b->endpoint || !b->lane || vol_maps_init(b)) {
		brick_free(b);
		return -ENOMEM;
	}
	vol_session_set(b, session);
	*out = b;
	return 0;
}

/* A third of the time that a brick may be away: it is noticed, and there is time to do something about it. */
unsigned vol_request_ms(const struct volume *vol)
{
	unsigned ms = vol->timeo_ms / 3;

	if (ms < REQUEST_MIN_MS)
		ms = vol->timeo_ms < REQUEST_MIN_MS ? vol->timeo_ms : REQUEST_MIN_MS;
	return ms < REQUEST_MAX_MS ? ms : REQUEST_MAX_MS;
}

int vol_connect(struct volume *vol, const char *endpoint, unsigned *brick)
{
	struct backend_session *session;
	struct vol_brick *b;
	int r;

	if (vol->bricks == VOL_BRICKS_MAX) {
		vol_say(vol, "%s: more than %d bricks", endpoint, VOL_BRICKS_MAX);
		return -E2BIG;
	}
	r = vol->backend->open(vol->backend_context, endpoint, vol->name, vol->want_lanes, vol->want_maps, vol_request_ms(vol), &session);
	if (r) {
		vol_say(vol, "brick %s cannot be reached: %s", endpoint, vol_reason(vol, r));
		return r;
	}
	const struct backend_info *info = vol->backend->info(session);

	for (unsigned i = 0; i < vol->bricks; i++) {
		if (memcmp(vol->brick[i]->uuid, info->uuid, sizeof(info->uuid)))
			continue;
		vol_say(vol, "%s is the same brick as %s", endpoint, vol->brick[i]->endpoint);
		*brick = i;
		vol->backend->close(session);
		return -EEXIST;
	}
	if (!info->lanes || !vol_maps_slots(vol, info)) {
		vol_say(vol, "brick %s grants %u maps and %u lanes; a volume needs 2 and 1", endpoint, info->maps, info->lanes);
		vol->backend->close(session);
		return -EMFILE;
	}
	r = brick_new(vol, endpoint, session, &b);
	if (r) {
		vol->backend->close(session);
		return r;
	}
	*brick = b->index;
	vol->brick[vol->bricks++] = b;
	return 0;
}

unsigned vol_bricks(const struct volume *vol)
{
	return vol->bricks;
}

const struct backend_info *vol_brick_info(const struct volume *vol, unsigned brick)
{
	return &vol->brick[brick]->info;
}

const char *vol_brick_endpoint(const struct volume *vol, unsigned brick)
{
	return vol->brick[brick]->endpoint;
}

uint64_t vol_capacity(const struct volume *vol)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < vol->bricks; i++)
		sum += vol->brick[i]->info.capacity;
	return sum;
}

uint64_t vol_free_blocks(const struct volume *vol)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < vol->bricks; i++)
		sum += vol->brick[i]->free_blocks;
	return sum;
}

/* Who else has private_addr, the one heard last. False: nobody. */
static bool holder(struct vol_brick *b, struct vol_lane *lane, struct backend_holder *last)
{
	struct volume *vol = b->vol;
	struct backend_holder holders[HOLDERS_MAX];
	size_t n = 0;
	bool found = false;

	if (vol->backend->who(b->session, lane->index, vol->private_addr, holders, HOLDERS_MAX, &n))
		return false;
	for (size_t i = 0; i < n && i < HOLDERS_MAX; i++) {
		if (holders[i].session == b->current.session || (found && holders[i].heard_ms >= last->heard_ms))
			continue;
		*last = holders[i];
		found = true;
	}
	return found;
}

/*
 * The brick itself kills a holder whose lease ran out when our map conflicts, so the map is tried again
 * until it succeeds, or the holder is heard although it had its time to let go.
 */
static int lock_brick(struct vol_brick *b, unsigned wait_ms)
{
	struct volume *vol = b->vol;
	unsigned lease_ms = b->info.lease_ms < LEASE_MAX_MS ? b->info.lease_ms : LEASE_MAX_MS;
	uint64_t start = vol_now_ms(), give_up = (uint64_t)wait_ms + lease_ms + LEASE_GRACE_MS;
	/* Nobody whose lease could run out: a session that is being ended, or a brick that makes it up. */
	uint64_t give_up_nobody = (uint64_t)wait_ms + (lease_ms < NOBODY_MS ? lease_ms : NOBODY_MS) + LEASE_GRACE_MS;
	struct vol_lane *lane = vol_lane_take(b);
	struct backend_holder last = { 0 };
	int status = 0, r;

	for (;;) {
		r = vol->backend->map(b->session, lane->index, &vol->private_addr, 1,
				      vol->exclusive ? BACKEND_MAP_WRITE | BACKEND_MAP_EXCLUSIVE : 0, &b->private_handle, &status);
		if (!r)
			r = status;
		/* Without memory for one map it is making room: as it is with one that is released. */
		if (r == -ENOMEM && vol_now_ms() - start < wait_ms) {
			vol_sleep_ms(50);
			continue;
		}
		if (r != -EBUSY)
			break;
		bool found = holder(b, lane, &last);
		uint64_t passed = vol_now_ms() - start;

		if (passed >= (found ? give_up : give_up_nobody) || (found && passed >= wait_ms && last.heard_ms < passed)) {
			if (found)
				vol_say(vol, "in use by %.63s (pid %llu, session %llu on brick %s, %.7s)", last.name,
					(unsigned long long)last.pid, (unsigned long long)last.session, b->endpoint, last.transport);
			else
				vol_say(vol, "in use by another session on brick %s", b->endpoint);
			break;
		}
		vol_sleep_ms(wait_ms && wait_ms < 200 ? wait_ms : 200);
	}
	vol_lane_put(lane);
	if (r == -ENOENT)
		vol_say(vol, "brick %s has no superblock", b->endpoint);
	else if (r && r != -EBUSY)
		vol_say(vol, "brick %s: its superblock cannot be locked: %s", b->endpoint, vol_reason(vol, r));
	return r;
}

static void unlock_brick(struct vol_brick *b)
{
	struct vol_lane *lane = vol_lane_take(b);
	int status;

	/* vol_write_on() persists: there is nothing that is not durable. */
	if (b->session && !lane->broken)
		b->vol->backend->unmap(b->session, lane->index, &b->vol->private_addr, 1, BACKEND_UNMAP_CLEAN, &status);
	vol_lane_put(lane);
}

static void by_uuid(struct volume *vol, struct vol_brick **order)
{
	for (unsigned i = 0; i < vol->bricks; i++) {
		unsigned k = i;

		for (; k && memcmp(order[k - 1]->uuid, vol->brick[i]->uuid, 16) > 0; k--)
			order[k] = order[k - 1];
		order[k] = vol->brick[i];
	}
}

int vol_lock(struct volume *vol, bool exclusive, unsigned wait_ms)
{
	struct vol_brick *order[VOL_BRICKS_MAX];
	int r = 0;

	if (vol->locked)
		return -EALREADY;
	by_uuid(vol, order);
	vol->exclusive = exclusive;
	for (unsigned i = 0; i < vol->bricks && !r; i++) {
		r = lock_brick(order[i], wait_ms);
		while (r && i-- > 0)
			unlock_brick(order[i]);
		if (r)
			break;
	}
	vol->locked = !r;
	return r;
}

void vol_unlock(struct volume *vol)
{
	struct vol_brick *order[VOL_BRICKS_MAX];

	if (!vol->locked)
		return;
	by_uuid(vol, order);
	for (unsigned i = vol->bricks; i-- > 0; )
		unlock_brick(order[i]);
	vol->locked = false;
}

void vol_set_fence(struct volume *vol, vol_fence fence, void *arg)
{
	vol->fence = fence;
	vol->fence_arg = arg;
}

unsigned vol_lease_ms(const struct volume *vol)
{
	unsigned least = 0;

	for (unsigned i = 0; i < vol->bricks; i++)
		if (!least || vol->brick[i]->info.lease_ms < least)
			least = vol->brick[i]->info.lease_ms;
	return least;
}

/* The next idle lane of the brick: 0, or what it failed with. */
static int keepalive_brick(struct vol_brick *b, unsigned *index, uint64_t *serial)
{
	unsigned lanes = b->lanes;
	int r = 0;

	for (unsigned i = 0; i < lanes; i++) {
		struct vol_lane *lane = &b->lane[(b->keepalive_next + i) % lanes];

		if (pthread_mutex_trylock(&lane->mutex))
			continue;
		b->keepalive_next = lane->index + 1;
		*index = lane->index;
		*serial = b->serial;
		if (b->vol->fenced || b->gone) {	/* a stopped volume keeps its leases: nobody else's mount yet */
			pthread_mutex_unlock(&lane->mutex);
			return 0;
		}
		r = lane->broken || !b->session ? -ECONNRESET : b->vol->backend->keepalive(b->session, lane->index);
		if (vol_lost(r))
			lane->broken = true;
		pthread_mutex_unlock(&lane->mutex);
		break;
	}
	return r;
}

void vol_keepalive(struct volume *vol)
{
	unsigned index[VOL_BRICKS_MAX];
	uint64_t serial[VOL_BRICKS_MAX];
	int error[VOL_BRICKS_MAX];

	for (unsigned i = 0; i < vol->bricks; i++)
		error[i] = keepalive_brick(vol->brick[i], &index[i], &serial[i]);
	/* All leases first. */
	for (unsigned i = 0; i < vol->bricks; i++)
		if (vol_lost(error[i]) && vol->fence)
			vol_recover_try(vol->brick[i], index[i], serial[i]);
}
