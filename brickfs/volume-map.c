/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-map - the bounded cache of maps of one brick.
 *
 * A map is pinned while I/O runs.  Whoever needs maps gets all of them or waits without any; those who wait
 * for slots are served in order.  Unpinned maps leave by last use, in batches, the clean ones first; what is
 * dirty is persisted before it is unmapped CLEAN.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "volume-internal.h"

#define EVICT_MAX 32u
/* The brick has no memory for another map; stays in here. */
#define BRICK_FULL (-ENOBUFS)

int vol_maps_init(struct vol_brick *b)
{
	size_t size = 64;

	while (size < b->slots * 2 && size < 65536)
		size *= 2;
	b->table = calloc(size, sizeof(*b->table));
	b->table_mask = size - 1;
	return b->table ? 0 : -ENOMEM;
}

/* One of the maps is private_addr's. */
size_t vol_maps_slots(const struct volume *vol, const struct backend_info *info)
{
	size_t maps = info->maps;

	if (vol->want_maps && vol->want_maps < maps)
		maps = vol->want_maps;
	return maps > 1 ? maps - 1 : 0;
}

static struct vol_map **chain(struct vol_brick *b, uint64_t block)
{
	uint64_t n = block >> VOL_BLOCK_SHIFT;

	return &b->table[(n * 0x9e3779b97f4a7c15ull >> 40) & b->table_mask];
}

static struct vol_map *find(struct vol_brick *b, uint64_t block)
{
	struct vol_map *map = *chain(b, block);

	while (map && map->block != block)
		map = map->hash_next;
	return map;
}

static void lru_remove(struct vol_brick *b, struct vol_map *map)
{
	*(map->older ? &map->older->newer : &b->oldest) = map->newer;
	*(map->newer ? &map->newer->older : &b->newest) = map->older;
	map->older = map->newer = NULL;
}

static void lru_append(struct vol_brick *b, struct vol_map *map)
{
	map->older = b->newest;
	map->newer = NULL;
	*(b->newest ? &b->newest->newer : &b->oldest) = map;
	b->newest = map;
}

static void put(struct vol_map *map)
{
	if (!--map->pins && map->dead)
		free(map);
}

/* Out of the table; who has it pinned may still look at it. */
static void bury(struct vol_brick *b, struct vol_map *map)
{
	struct vol_map **p = chain(b, map->block);

	if (map->dead)
		return;
	while (*p != map)
		p = &(*p)->hash_next;
	*p = map->hash_next;
	if (map->state == VOL_MAPPED)
		lru_remove(b, map);
	map->dead = true;
	b->maps--;
}

void vol_unpin_locked(struct vol_brick *b, struct vol_map *map)
{
	if (map->state == VOL_MAPPED && !map->dead) {
		lru_remove(b, map);
		lru_append(b, map);
	}
	if (map->pins == 1)
		pthread_cond_broadcast(&b->cond);
	put(map);
}

void vol_unpin(struct vol_brick *b, struct vol_part *parts, size_t n)
{
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < n; i++) {
		if (parts[i].map)
			vol_unpin_locked(b, parts[i].map);
		parts[i].map = NULL;
	}
	pthread_mutex_unlock(&b->mutex);
}

void vol_maps_void(struct vol_brick *b)
{
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i <= b->table_mask; i++) {
		while (b->table[i]) {
			struct vol_map *map = b->table[i];

			map->pins++;
			bury(b, map);
			put(map);
		}
	}
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
}

void vol_maps_free(struct vol_brick *b)
{
	if (b->table)
		vol_maps_void(b);
	free(b->table);
	vol_ranges_free(&b->carried);
}

/*
 * Unmaps what the caller has set to UNMAPPING and pinned, and buries it.  What is carried is not
 * CLEAN, so that the brick settles it before it is mapped again; clean: the rest is.
 */
static int unmap(struct vol_brick *b, struct vol_map **maps, size_t n, bool clean)
{
	struct volume *vol = b->vol;
	uint64_t addrs[2][EVICT_MAX], serial;
	int status[EVICT_MAX], r;
	struct vol_effort effort;
	struct vol_lane *lane;

	vol_effort_begin(b->vol, &effort);
	for (;;) {
		size_t count[2] = { 0, 0 };

		r = vol_lane_get(b, &lane, &serial);
		if (r)
			break;
		pthread_mutex_lock(&b->mutex);
		for (size_t i = 0; i < n; i++) {
			bool c = clean && !vol_ranges_has(&b->carried, maps[i]->block);

			if (!maps[i]->dead)
				addrs[c][count[c]++] = maps[i]->block;
		}
		pthread_mutex_unlock(&b->mutex);
		for (int c = 0; c < 2 && !r; c++)
			if (count[c])
				r = vol->backend->unmap(b->session, lane->index, addrs[c], count[c], c ? BACKEND_UNMAP_CLEAN : 0, status);
		if (!vol_lost(r)) {
			vol_lane_put(lane);
			break;
		}
		unsigned index = lane->index;

		vol_lane_broke(lane);
		r = vol_retry(b, index, serial, &effort);
		if (r)
			break;
	}
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < n; i++) {
		bury(b, maps[i]);
		put(maps[i]);
	}
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
	return r;
}

static bool wanted(const struct vol_part *parts, size_t n, uint64_t block)
{
	for (size_t i = 0; i < n; i++)
		if ((parts[i].io->addr & ~VOL_BLOCK_MASK) == block)
			return true;
	return false;
}

static bool evictable(const struct vol_map *map)
{
	/* Also one that is to leave: those who wait for that are content when it is gone. */
	return !map->pins && map->state == VOL_MAPPED;
}

/*
 * Makes room for `want` maps, of those that the caller does not need himself; while at it, for up to `batch` of them.
 * Drops the mutex meanwhile.
 */
static int evict(struct vol_brick *b, size_t want, size_t batch, const struct vol_part *parts, size_t n)
{
	struct vol_map *victim[EVICT_MAX];
	size_t count = 0;
	bool dirty = false, again;
	struct vol_effort effort;
	int r = 0;

	if (batch < want)
		batch = want;
	if (batch > EVICT_MAX)
		batch = EVICT_MAX;
	if (want > EVICT_MAX)
		want = EVICT_MAX;
	for (int pass = 0; pass < 2 && count < (pass ? batch : want); pass++) {
		if (pass)
			dirty = true;
		for (struct vol_map *map = b->oldest, *next; map && count < batch; map = next) {
			next = map->newer;
			if (!evictable(map) || (!pass && map->dirty_lanes) || wanted(parts, n, map->block))
				continue;
			lru_remove(b, map);
			map->state = VOL_UNMAPPING;
			map->pins++;
			victim[count++] = map;
		}
	}
	pthread_mutex_unlock(&b->mutex);
	vol_effort_begin(b->vol, &effort);
	while (dirty && !r) {
		again = false;
		r = vol_persist_lanes(b->vol, &b, 1, &again);
		dirty = again;
		if (!r && again && vol_tired(b->vol, &effort)) {
			vol_latch(b->vol, -EIO, "brick %s: the connection breaks at every persist", b->endpoint);
			r = -EIO;
		}
	}
	/* After a persist that failed nothing is CLEAN; the volume has latched, and reads go on. */
	r = unmap(b, victim, count, !r);
	pthread_mutex_lock(&b->mutex);
	return r;
}

static void enqueue(struct vol_brick *b, struct vol_waiter *self)
{
	struct vol_waiter **p = &b->waiters;

	while (*p)
		p = &(*p)->next;
	self->next = NULL;
	*p = self;
}

static void dequeue(struct vol_brick *b, struct vol_waiter *self)
{
	struct vol_waiter **p = &b->waiters;

	while (*p != self)
		p = &(*p)->next;
	if (b->waiters == self)
		b->starving = false;
	*p = self->next;
	pthread_cond_broadcast(&b->cond);
}

static bool same_block(const struct vol_part *a, const struct vol_part *b)
{
	return (a->io->addr & ~VOL_BLOCK_MASK) == (b->io->addr & ~VOL_BLOCK_MASK);
}

/* How many blocks there are, and how many of them have no map yet; -EAGAIN when one of them is on its way out. */
static int missing(struct vol_brick *b, const struct vol_part *parts, size_t n, size_t *blocks, size_t *need)
{
	*blocks = *need = 0;
	for (size_t i = 0; i < n; i++) {
		if (i && same_block(&parts[i], &parts[i - 1]))
			continue;
		++*blocks;
		struct vol_map *map = find(b, parts[i].io->addr & ~VOL_BLOCK_MASK);

		if (!map)
			++*need;
		else if (map->leaving || map->state == VOL_UNMAPPING)
			return -EAGAIN;
	}
	return 0;
}

/* True if so many maps could leave. */
static bool spare(struct vol_brick *b, const struct vol_part *parts, size_t n, size_t enough)
{
	size_t count = 0;

	for (struct vol_map *map = b->oldest; map && count < enough; map = map->newer)
		count += evictable(map) && !wanted(parts, n, map->block);
	return count >= enough;
}

/* Waits until the missing maps have slots. Called and returns with the mutex held. */
static int make_room(struct vol_brick *b, const struct vol_part *parts, size_t n)
{
	struct vol_waiter self;
	bool queued = false;
	size_t blocks, need;
	int r;

	for (;;) {
		r = vol_usable(b);
		if (r)
			break;
		if (missing(b, parts, n, &blocks, &need)) {
			pthread_cond_wait(&b->cond, &b->mutex);
			continue;
		}
		if (!queued && b->waiters && (need || b->starving)) {
			enqueue(b, &self);
			queued = true;
		}
		if (queued && b->waiters != &self) {
			pthread_cond_wait(&b->cond, &b->mutex);
			continue;
		}
		if (need && b->maps + need > b->slots)
			vol_grow(b);
		/*
		 * Fewer than when the caller cut: he cuts again.  Those that are mapped count too: they are not given up for the
		 * others, and nobody else's need be enough.
		 */
		if (need && blocks > b->slots) {
			r = -E2BIG;
			break;
		}
		if (!need || b->maps + need <= b->slots)
			break;
		size_t excess = b->maps + need - b->slots;

		if (!queued) {
			enqueue(b, &self);
			queued = true;
		}
		if (!spare(b, parts, n, excess)) {
			b->starving = true;
			pthread_cond_wait(&b->cond, &b->mutex);
			continue;
		}
		r = evict(b, excess, b->slots / 2, parts, n);
		if (r)
			break;
	}
	if (queued)
		dequeue(b, &self);
	return r;
}

static void map_done(struct vol_brick *b, struct vol_map *map, const struct backend_handle *handle, int error)
{
	if (error) {
		map->error = error;
		bury(b, map);
		return;
	}
	map->handle = *handle;
	map->state = VOL_MAPPED;
	lru_append(b, map);
	/* The brick persisted what was there before it answered. */
	if (vol_ranges_remove(&b->carried, map->block))
		b->carried_count = b->carried.n;
}

/* Maps what this caller has put into the cache as MAPPING. */
static int map_missing(struct vol_brick *b, struct vol_map **maps, size_t n)
{
	struct volume *vol = b->vol;
	struct backend_handle *handles = calloc(n, sizeof(*handles));
	uint64_t *addrs = calloc(n, sizeof(*addrs)), serial;
	int *status = calloc(n, sizeof(*status)), r = -ENOMEM;
	struct vol_lane *lane = NULL;
	struct vol_effort effort;
	bool refused = false;

	vol_effort_begin(b->vol, &effort);
	while (handles && addrs && status) {
		r = vol_lane_get(b, &lane, &serial);
		if (r)
			break;
		if (serial != maps[0]->serial) {
			r = -EAGAIN;
			break;
		}
		for (size_t i = 0; i < n; i++)
			addrs[i] = maps[i]->block;
		r = vol->backend->map(b->session, lane->index, addrs, n, vol->exclusive ? BACKEND_MAP_WRITE : 0, handles, status);
		/* A session that is ending says so of each. */
		for (size_t i = 0; i < n && !r; i++)
			if (vol_lost(status[i]))
				r = status[i];
		if (!vol_lost(r)) {
			refused = r && r != -ENOMEM;	/* of the call: the memory is ours */
			r = vol_brick_error(r);
			break;
		}
		unsigned index = lane->index;

		vol_lane_broke(lane);
		lane = NULL;
		r = vol_retry(b, index, serial, &effort);
		if (r)
			break;
	}
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < n; i++) {
		int error = r ? r : status[i];

		if (error == -ENOMEM && !r)
			error = BRICK_FULL;
		else if (!r)
			error = vol_brick_error(error);
		maps[i]->refused = refused || (!r && error && error != BRICK_FULL);
		map_done(b, maps[i], &handles[i], error);
	}
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
	if (lane)
		vol_lane_put(lane);
	free(handles);
	free(addrs);
	free(status);
	return r;
}

#define NO_BLOCK UINT64_MAX

static int pin_once(struct vol_brick *b, struct vol_part *parts, size_t n)
{
	struct vol_map **made = calloc(n, sizeof(*made));
	uint64_t refused = NO_BLOCK;
	size_t count = 0, i;
	int r;

	if (!made)
		return -ENOMEM;
	pthread_mutex_lock(&b->mutex);
	r = make_room(b, parts, n);
	for (i = 0; i < n && !r; i++) {
		uint64_t block = parts[i].io->addr & ~VOL_BLOCK_MASK;
		struct vol_map *map = find(b, block);

		if (!map) {
			map = calloc(1, sizeof(*map));
			if (!map) {
				r = -ENOMEM;
				break;
			}
			map->block = block;
			map->serial = b->serial;
			map->state = VOL_MAPPING;
			map->hash_next = *chain(b, block);
			*chain(b, block) = map;
			b->maps++;
			made[count++] = map;
		}
		map->pins++;
		parts[i].map = map;
	}
	if (r) {
		for (size_t k = 0; k < count; k++) {
			made[k]->error = r;
			bury(b, made[k]);
		}
		pthread_cond_broadcast(&b->cond);
	}
	pthread_mutex_unlock(&b->mutex);
	if (!r && count)
		map_missing(b, made, count);
	if (!r) {
		pthread_mutex_lock(&b->mutex);
		for (i = 0; i < n; i++) {
			struct vol_map *map = parts[i].map;

			while (map->state == VOL_MAPPING && !map->dead)
				pthread_cond_wait(&b->cond, &b->mutex);
			if (map->dead && (!r || r == -EAGAIN)) {
				r = map->error ? map->error : -EAGAIN;
				refused = map->refused ? map->block : NO_BLOCK;
			}
		}
		pthread_mutex_unlock(&b->mutex);
	}
	/* Whoever waits for the map tells, not who asked for it. */
	if (r && refused != NO_BLOCK)
		r = vol_blame(b, r, NULL, "block 0x%llx cannot be mapped", (unsigned long long)refused);
	if (r)
		vol_unpin(b, parts, n);
	free(made);
	return r;
}

size_t vol_evict(struct vol_brick *b, size_t most)
{
	size_t before = b->maps;

	/* Evicting looks for dirty ones only if there are too few clean ones. */
	while (most > 0 && !spare(b, NULL, 0, most))
		most--;
	return most && !evict(b, most, most, NULL, 0) && before > b->maps ? before - b->maps : 0;
}

int vol_pin(struct vol_brick *b, struct vol_part *parts, size_t n)
{
	uint64_t deadline = 0;
	unsigned pause = 1;
	struct vol_effort effort;

	vol_effort_begin(b->vol, &effort);
	for (;;) {
		int r = pin_once(b, parts, n);

		if (r == -EAGAIN) {
			if (!vol_tired(b->vol, &effort))
				continue;
			return vol_blame(b, -EIO, "the session changes at every attempt", "its blocks cannot be mapped");
		}
		if (r != BRICK_FULL)
			return r;
		/* With fewer maps at once it goes on; a brick has memory for one map of each session at least, before long. */
		if (vol_squeeze(b))
			continue;
		if (!deadline)
			deadline = vol_now_ms() + b->vol->timeo_ms;
		if (vol_now_ms() >= deadline) {
			return vol_blame(b, -EIO, "other sessions have it all mapped", "it has no memory for a single block");
		}
		vol_sleep_ms(pause);
		pause = pause < 64 ? pause * 2 : 100;
	}
}

struct vol_map *vol_map_hold(struct vol_brick *b, uint64_t block)
{
	uint64_t lanes = 0;
	struct vol_map *map;

	pthread_mutex_lock(&b->mutex);
	while ((map = find(b, block)) && (map->pins || map->state != VOL_MAPPED)) {
		map->leaving = true;
		pthread_cond_wait(&b->cond, &b->mutex);
	}
	if (map) {
		lanes = map->dirty_lanes;
		lru_remove(b, map);
		map->state = VOL_UNMAPPING;
		map->pins++;
	}
	if (vol_ranges_remove(&b->carried, block))
		b->carried_count = b->carried.n;
	pthread_mutex_unlock(&b->mutex);
	for (unsigned i = 0; lanes >> i; i++) {
		struct vol_lane *lane = &b->lane[i];

		if (!(lanes >> i & 1))
			continue;
		pthread_mutex_lock(&lane->mutex);
		vol_ranges_remove(&lane->dirty, block);
		lane->dirty_count = lane->dirty.n;
		pthread_mutex_unlock(&lane->mutex);
	}
	/* Between the two a lane may have been mended, and what it had carried. */
	pthread_mutex_lock(&b->mutex);
	if (vol_ranges_remove(&b->carried, block))
		b->carried_count = b->carried.n;
	pthread_mutex_unlock(&b->mutex);
	return map;
}

void vol_map_release(struct vol_brick *b, struct vol_map *map, bool gone)
{
	if (!map)
		return;
	pthread_mutex_lock(&b->mutex);
	if (gone) {
		bury(b, map);
	} else if (!map->dead) {
		map->state = VOL_MAPPED;
		map->leaving = false;
		map->dirty_lanes = 0;
		lru_append(b, map);
	}
	put(map);
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
}

void vol_maps_persisted(struct vol_brick *b, struct vol_lane *lane)
{
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < lane->dirty.n; i++) {
		struct vol_map *map = find(b, lane->dirty.range[i].block);

		if (map)
			map->dirty_lanes &= ~(1ull << lane->index);
	}
	lane->dirty.n = 0;
	lane->dirty_count = 0;
	pthread_mutex_unlock(&b->mutex);
}

void vol_carry(struct vol_brick *b, struct vol_lane *lane)
{
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < lane->dirty.n; i++) {
		struct vol_range *range = &lane->dirty.range[i];
		struct vol_map *map = find(b, range->block);

		if (vol_ranges_add(&b->carried, range->block, range->low, range->high))
			vol_latch(b->vol, -ENOMEM, "out of memory: what was written to brick %s cannot be remembered", b->endpoint);
		if (map)
			map->dirty_lanes &= ~(1ull << lane->index);
	}
	b->carried_count = b->carried.n;
	lane->dirty.n = 0;
	lane->dirty_count = 0;
	pthread_mutex_unlock(&b->mutex);
}

/* Settling failed: the maps it kept off may be used again, for reading. */
static void stop_leaving(struct vol_brick *b)
{
	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < b->carried.n; i++) {
		struct vol_map *map = find(b, b->carried.range[i].block);

		if (map && map->state == VOL_MAPPED)
			map->leaving = false;
	}
	pthread_cond_broadcast(&b->cond);
	pthread_mutex_unlock(&b->mutex);
}

int vol_settle(struct vol_brick *b)
{
	struct vol_map *stale[EVICT_MAX];
	struct vol_part parts[EVICT_MAX];
	struct vol_io ios[EVICT_MAX];

	while (b->carried_count) {
		size_t n = 0, count = 0;
		bool wait = false;
		int r = 0;

		pthread_mutex_lock(&b->mutex);
		for (size_t i = 0; i < b->carried.n && n < EVICT_MAX && n < b->slots; i++) {
			struct vol_map *map = find(b, b->carried.range[i].block);

			/* Mapped since before the connection was lost: it must be mapped anew. */
			if (map && map->state != VOL_MAPPING)
				map->leaving = true;
			if (map && (map->pins || map->state != VOL_MAPPED) && map->state != VOL_MAPPING) {
				wait = true;
				continue;
			}
			if (map && map->state == VOL_MAPPED) {
				lru_remove(b, map);
				map->state = VOL_UNMAPPING;
				map->pins++;
				stale[count++] = map;
			}
			ios[n] = (struct vol_io){ .addr = b->carried.range[i].block };
			parts[n] = (struct vol_part){ .io = &ios[n], .brick = b };
			n++;
		}
		if (!n && wait)
			pthread_cond_wait(&b->cond, &b->mutex);
		pthread_mutex_unlock(&b->mutex);
		if (count)
			r = unmap(b, stale, count, false);
		if (!r && n)
			r = vol_pin(b, parts, n);
		if (r == -E2BIG)
			continue;
		if (r) {
			vol_latch(b->vol, -EIO, "brick %s: what was written before the connection was lost cannot be made durable: %s",
				  b->endpoint, vol_blamed(r));
			stop_leaving(b);
			return vol_error(b->vol);
		}
		vol_unpin(b, parts, n);
	}
	return 0;
}

void vol_unmap_all(struct vol_brick *b)
{
	for (;;) {
		struct vol_map *map[EVICT_MAX];
		size_t n = 0;
		bool clean = true;

		pthread_mutex_lock(&b->mutex);
		while (b->oldest && n < EVICT_MAX) {
			/* Clean and dirty ones never in one batch. */
			if (n && !b->oldest->dirty_lanes != clean)
				break;
			clean = !b->oldest->dirty_lanes;
			map[n] = b->oldest;
			lru_remove(b, map[n]);
			map[n]->state = VOL_UNMAPPING;
			map[n++]->pins++;
		}
		pthread_mutex_unlock(&b->mutex);
		if (!n || unmap(b, map, n, clean))
			return;
	}
}
