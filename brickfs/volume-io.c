/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-io - lanes, reads and writes, commit and persist.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "volume-internal.h"

bool vol_lost(int error)
{
	switch (error) {
	case -ECONNRESET:
	case -ETIMEDOUT:
	case -ECONNREFUSED:
	case -ECONNABORTED:
	case -ENOTCONN:
	case -EPIPE:
	case -ESHUTDOWN:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -ENETDOWN:
	case -ENODEV:		/* the device went, or there is none just now */
	case -EADDRNOTAVAIL:
	case -ESTALE:
	case -EINPROGRESS:	/* never answered */
	case -EPROTO:		/* what came is no answer: whatever it was, that connection is of no use */
		return true;
	}
	return false;
}

int vol_brick_error(int error)
{
	switch (error) {
	case -EAGAIN:
	case -EINTR:
	case -ENOBUFS:
	case -EALREADY:
		return -EIO;
	}
	return error;
}

/* Threads begin with different lanes. */
static unsigned my_lane(void)
{
	static atomic_uint threads;
	static _Thread_local unsigned mine;

	if (!mine)
		mine = ++threads;
	return mine;
}

static struct vol_lane *lane_free_now(struct vol_brick *b, unsigned preferred, unsigned lanes)
{
	for (unsigned i = 0; i < lanes; i++) {
		struct vol_lane *lane = &b->lane[(preferred + i) % lanes];

		if (pthread_mutex_trylock(&lane->mutex))
			continue;
		if (!lane->broken)
			return lane;
		pthread_mutex_unlock(&lane->mutex);
	}
	return NULL;
}

struct vol_lane *vol_lane_take(struct vol_brick *b)
{
	unsigned lanes = b->lanes, preferred = my_lane();
	struct vol_lane *lane = lane_free_now(b, preferred, lanes);

	if (!lane) {
		lane = &b->lane[preferred % lanes];
		pthread_mutex_lock(&lane->mutex);
	}
	return lane;
}

/*
 * For who holds lanes of other bricks: NULL while this brick is being mended, so that those are not kept idle.
 */
static bool lane_lock_unless_mending(struct vol_brick *b, struct vol_lane *lane)
{
	while (pthread_mutex_trylock(&lane->mutex)) {
		struct timespec until;

		if (b->mending)
			return false;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 50000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (!pthread_mutex_timedlock(&lane->mutex, &until))
			return true;
	}
	return true;
}

static struct vol_lane *lane_take_unless_mending(struct vol_brick *b)
{
	unsigned lanes = b->lanes, preferred = my_lane();
	struct vol_lane *lane = lane_free_now(b, preferred, lanes);

	if (lane)
		return lane;
	lane = &b->lane[preferred % lanes];
	return lane_lock_unless_mending(b, lane) ? lane : NULL;
}

void vol_lane_put(struct vol_lane *lane)
{
	pthread_mutex_unlock(&lane->mutex);
}

void vol_lane_broke(struct vol_lane *lane)
{
	lane->broken = true;
	pthread_mutex_unlock(&lane->mutex);
}

int vol_lane_get(struct vol_brick *b, struct vol_lane **out, uint64_t *serial)
{
	for (;;) {
		struct vol_lane *lane = vol_lane_take(b);
		int r = vol_usable(b);

		*serial = b->serial;
		if (!r && !lane->broken && lane->index < b->lanes) {
			*out = lane;
			return 0;
		}
		vol_lane_put(lane);
		if (r)
			return r;
		/* Beyond the lanes of a later session: just another one. */
		if (lane->index >= b->lanes)
			continue;
		r = vol_recover(b, lane->index, *serial);
		if (r)
			return r;
	}
}

/* What one call does on one brick. */
struct use {
	struct vol_brick *brick;
	struct vol_part *part;		/* sorted by block */
	size_t parts;
	struct vol_lane *lane;		/* NULL: the brick is being mended */
	unsigned lane_index;
	uint64_t serial;
	struct backend_io persist;
	bool lost;			/* must be sent again */
	bool denied;			/* as lost, because the brick knows no such handle; an error if the session is still the same */
	int submitted;
};

static int compare_parts(const void *a, const void *b)
{
	const struct vol_part *x = a, *y = b;

	if (x->brick != y->brick)
		return x->brick->index < y->brick->index ? -1 : 1;
	return x->io->addr < y->io->addr ? -1 : x->io->addr > y->io->addr;
}

static int find_brick(struct volume *vol, const struct vol_io *io, struct vol_brick **brick)
{
	uint64_t offset = io->addr & VOL_BLOCK_MASK;

	if (!io->length || offset + io->length > VOL_BLOCK_SIZE)
		return -EINVAL;
	int index = vol_where(vol, io->addr & ~VOL_BLOCK_MASK);

	if (index < 0) {
		vol_say(vol, "there is no block 0x%llx on any brick", (unsigned long long)(io->addr & ~VOL_BLOCK_MASK));
		return -EIO;
	}
	*brick = vol->brick[index];
	return 0;
}

/* Room in the lane's scratch for so many ranges of a persist. The lane is held. */
static int scratch_reserve(struct vol_lane *lane, size_t n)
{
	struct backend_range *more;

	if (n <= lane->scratch_room)
		return 0;
	n = n < 16 ? 16 : n * 2;
	more = realloc(lane->scratch, n * sizeof(*more));
	if (!more)
		return -ENOMEM;
	lane->scratch = more;
	lane->scratch_room = n;
	return 0;
}

/* What it takes to remember what is written, and to persist it, is there before it is sent: a persist must not fail for want of memory. */
static int reserve(struct use *use)
{
	struct vol_lane *lane = use->lane;
	int r = vol_ranges_reserve(&lane->dirty, use->parts);

	return r ? r : scratch_reserve(lane, lane->dirty.n + use->parts);
}

/* The ranges of the parts' writes, into the lane's scratch. */
static void fill_persist(struct use *use)
{
	struct vol_lane *lane = use->lane;

	for (size_t i = 0; i < use->parts; i++)
		lane->scratch[i] = (struct backend_range){ .addr = use->part[i].io->addr, .length = use->part[i].io->length };
	use->persist = (struct backend_io){ .op = BACKEND_PERSIST, .ranges = lane->scratch, .range_count = use->parts };
}

/* Queues what is to be done on the lane; nothing is lost when it fails: drain tells. */
static int submit(struct use *use, bool commit)
{
	const struct backend *be = use->brick->vol->backend;
	struct backend_session *session = use->brick->session;
	int r = 0;

	if (commit)
		fill_persist(use);
	for (size_t i = 0; i < use->parts; i++) {
		struct vol_part *part = &use->part[i];

		if (part->done)
			continue;
		part->bio = (struct backend_io){
			.op = part->io->write ? BACKEND_WRITE : BACKEND_READ,
			.handle = part->map ? part->map->handle : use->brick->private_handle,
			.offset = part->io->addr & VOL_BLOCK_MASK,
			.length = part->io->length,
			.buffer = part->io->buffer,
			.status = -ECONNRESET,
		};
	}
	use->persist.status = -ECONNRESET;
	for (size_t i = 0; i < use->parts && !r; i++)
		if (!use->part[i].done)
			r = be->submit(session, use->lane->index, &use->part[i].bio);
	if (!r && commit)
		r = be->submit(session, use->lane->index, &use->persist);
	return r;
}

/*
 * Waits, and takes stock, with the lane still ours.  0: done; an error; or use->lost is set.
 */
static int finish(struct use *use, bool commit)
{
	struct vol_brick *b = use->brick;
	struct vol_lane *lane = use->lane;
	int r = b->vol->backend->drain(b->session, lane->index), error = 0, status = 0;
	const struct vol_io *bad = NULL;
	bool refused = use->submitted && !vol_lost(use->submitted);

	vol_hear(b, BACKEND_NO_LANE);
	if (use->submitted)
		r = use->submitted;
	/* Over verbs a handle that the brick does not know (any more) is found out by its hardware, which ends the lane. */
	for (size_t i = 0; i < use->parts && !refused; i++) {
		struct backend_io *bio = &use->part[i].bio;

		if (!use->part[i].done && bio->status == -EACCES &&
		    (bio->op == BACKEND_READ || bio->handle.flags & BACKEND_MAP_WRITE)) {
			use->denied = true;
			bio->status = r = -ECONNRESET;
		}
	}
	if (commit && !refused && use->persist.status == -EACCES) {
		use->denied = true;
		use->persist.status = r = -ECONNRESET;
	}
	use->lost = vol_lost(r);
	/* A commit whose answer was lost is written again, whole: what may have arrived of it is no data that a restart loses. */
	bool again = commit && (vol_lost(r) || vol_lost(use->persist.status));

	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < use->parts; i++) {
		struct vol_part *part = &use->part[i];
		uint32_t low = part->io->addr & VOL_BLOCK_MASK;

		if (part->done)
			continue;
		if (vol_lost(part->bio.status)) {	/* also those that were never queued */
			use->lost |= !refused;
			continue;
		}
		if (part->bio.status && !error) {
			error = status = part->bio.status;
			bad = part->io;
		}
		if (!commit)
			part->done = !part->bio.status;
		if (!part->io->write || (commit && !use->persist.status) || again || !part->map)
			continue;
		/* Also after a failure: something may have arrived. */
		if (vol_ranges_add(&lane->dirty, part->map->block, low, low + part->io->length))
			vol_latch(b->vol, -ENOMEM, "out of memory: what was written to brick %s cannot be remembered", b->endpoint);
		part->map->dirty_lanes |= 1ull << lane->index;
	}
	lane->dirty_count = lane->dirty.n;
	if (commit && !error && !refused && use->persist.status) {
		if (vol_lost(use->persist.status))
			use->lost = true;
		else
			error = status = use->persist.status;
	}
	if (!error && !use->lost && r)
		error = r;
	for (size_t i = 0; i < use->parts; i++) {
		if (use->part[i].map)
			vol_unpin_locked(b, use->part[i].map);
		use->part[i].map = NULL;
	}
	pthread_mutex_unlock(&b->mutex);
	if (bad)
		return vol_blame(b, status, NULL, "block 0x%llx cannot be %s", (unsigned long long)(bad->addr & ~VOL_BLOCK_MASK),
				 bad->write ? "written" : "read");
	return status ? vol_blame(b, status, NULL, "what was written cannot be persisted") : vol_brick_error(error);
}

/*
 * One attempt.  A use that has lost set afterwards must be recovered and sent again: its lane broke, or its maps were of an
 * earlier session.
 */
static int attempt(struct use *uses, unsigned n, bool commit, bool pin)
{
	unsigned taken = 0;
	int r = 0;

	for (unsigned i = 0; i < n && pin && !r; i++) {
		r = vol_pin(uses[i].brick, uses[i].part, uses[i].parts);
		for (unsigned k = 0; r && k < i; k++)
			vol_unpin(uses[k].brick, uses[k].part, uses[k].parts);
	}
	if (r)
		return r;
	while (taken < n && !r) {
		struct use *use = &uses[taken++];

		use->serial = use->brick->serial;
		use->lane = taken > 1 ? lane_take_unless_mending(use->brick) : vol_lane_take(use->brick);
		if (!use->lane) {
			use->lost = true;
			continue;
		}
		use->lane_index = use->lane->index;
		use->serial = use->brick->serial;
		r = vol_usable(use->brick);
		if (!r)
			r = reserve(use);
		use->lost = use->lane->broken || use->lane->index >= use->brick->lanes;
		for (size_t k = 0; k < use->parts && pin; k++)
			use->lost |= use->part[k].map->serial != use->serial;
	}
	if (r) {
		for (unsigned i = 0; i < taken; i++)
			if (uses[i].lane)
				vol_lane_put(uses[i].lane);
		for (unsigned i = 0; i < n; i++)
			vol_unpin(uses[i].brick, uses[i].part, uses[i].parts);
		return r;
	}
	for (unsigned i = 0; i < n; i++)
		if (!uses[i].lost)
			uses[i].submitted = submit(&uses[i], commit);
	for (unsigned i = 0; i < n; i++) {
		struct use *use = &uses[i];

		if (use->lost) {
			if (use->lane)
				vol_lane_put(use->lane);
			vol_unpin(use->brick, use->part, use->parts);
			continue;
		}
		int error = finish(use, commit);

		if (error && !r)
			r = error;
		if (use->lost)
			vol_lane_broke(use->lane);
		else
			vol_lane_put(use->lane);
	}
	return r;
}

static int recover_uses(struct use *uses, unsigned n, struct vol_effort *effort)
{
	for (unsigned i = 0; i < n; i++) {
		if (!uses[i].lost)
			continue;
		struct vol_brick *b = uses[i].brick;
		int r = vol_retry(b, uses[i].lane_index, uses[i].serial, effort);

		if (r)
			return r;
		if (uses[i].denied && b->serial == uses[i].serial) {
			return vol_blame(b, -EACCES, NULL, "it refuses a handle that it gave to this session");
		}
	}
	return 0;
}

/* Takes from the parts of each brick that are left as many as there are maps for. */
static unsigned cut(struct vol_part *parts, size_t n, size_t *next, struct use *uses)
{
	unsigned count = 0;

	for (size_t i = 0; i < n; ) {
		struct vol_brick *b = parts[i].brick;
		size_t end = i, blocks = 0, slots, at;

		while (end < n && parts[end].brick == b)
			end++;
		pthread_mutex_lock(&b->mutex);
		slots = b->slots;
		pthread_mutex_unlock(&b->mutex);
		if (next[b->index] < i)
			next[b->index] = i;
		for (at = next[b->index]; at < end; at++) {
			bool same = at > next[b->index] && !((parts[at].io->addr ^ parts[at - 1].io->addr) & ~VOL_BLOCK_MASK);

			if (!same && blocks++ == slots)
				break;
		}
		if (at > next[b->index])
			uses[count++] = (struct use){ .brick = b, .part = &parts[next[b->index]], .parts = at - next[b->index] };
		i = end;
	}
	return count;
}

static int run(struct volume *vol, const struct vol_io *ios, size_t n, bool commit)
{
	struct vol_part few[8], *parts = n > 8 ? calloc(n, sizeof(*parts)) : few;
	struct use uses[VOL_BRICKS_MAX];
	size_t next[VOL_BRICKS_MAX] = { 0 };
	struct vol_effort effort;
	unsigned count;
	bool sorted = true;
	int r = 0;

	if (!parts)
		return -ENOMEM;
	for (size_t i = 0; i < n && !r; i++) {
		parts[i] = (struct vol_part){ .io = &ios[i] };
		r = find_brick(vol, &ios[i], &parts[i].brick);
		if (!r && i && compare_parts(&parts[i - 1], &parts[i]) > 0)
			sorted = false;
	}
	if (!sorted && !r)
		qsort(parts, n, sizeof(*parts), compare_parts);
	vol_effort_begin(vol, &effort);
	while (!r && (count = cut(parts, n, next, uses))) {
		r = attempt(uses, count, commit, true);
		if (r == -E2BIG) {	/* fewer maps than before */
			r = 0;
			continue;
		}
		if (!r)
			r = recover_uses(uses, count, &effort);
		for (unsigned i = 0; i < count && !r; i++) {
			if (uses[i].lost)
				continue;
			next[uses[i].brick->index] += uses[i].parts;
			vol_effort_begin(vol, &effort);	/* that was not in vain */
		}
	}
	if (parts != few)
		free(parts);
	return r;
}

int vol_io(struct volume *vol, const struct vol_io *ios, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ios[i].write && vol_error(vol))
			return vol_error(vol);
	return run(vol, ios, n, false);
}

int vol_commit(struct volume *vol, const struct vol_io *ios, size_t n)
{
	int r = vol_error(vol);

	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!ios[i].write)
			return -EINVAL;
	vol_blame_begin();
	r = run(vol, ios, n, true);
	/* Written again to a brick that came back without what others had placed: that is no success either. */
	if (!r)
		r = vol_error(vol);
	if (r && r != -EINVAL && r != -ENOMEM)
		vol_latch(vol, -EIO, "a commit failed: %s", vol_blamed(r));
	return r;
}

static int run_private(struct volume *vol, unsigned brick, const struct vol_io *io)
{
	struct vol_brick *b = vol->brick[brick];
	struct vol_effort effort;
	int r;

	vol_effort_begin(vol, &effort);
	if (!vol->locked || (uint64_t)(io->addr - vol->private_addr) + io->length > VOL_BLOCK_SIZE || !io->length)
		return -EINVAL;
	for (;;) {
		struct vol_part part = { .io = io, .brick = b };
		struct use use = { .brick = b, .part = &part, .parts = 1 };

		r = attempt(&use, 1, io->write, false);
		if (r || !use.lost)
			break;
		r = recover_uses(&use, 1, &effort);
		if (r)
			break;
	}
	return r;
}

int vol_read_on(struct volume *vol, unsigned brick, uint32_t offset, void *buffer, uint32_t length)
{
	struct vol_io io = { .addr = vol->private_addr + offset, .buffer = buffer, .length = length };

	if (brick >= vol->bricks)
		return -EINVAL;
	return run_private(vol, brick, &io);
}

int vol_write_on(struct volume *vol, unsigned brick, uint32_t offset, const void *buffer, uint32_t length)
{
	struct vol_io io = { .addr = vol->private_addr + offset, .buffer = (void *)buffer, .length = length, .write = true };
	int r = vol_error(vol);

	if (r)
		return r;
	if (brick >= vol->bricks)
		return -EINVAL;
	vol_blame_begin();
	r = run_private(vol, brick, &io);
	if (r && r != -EINVAL && r != -ENOMEM)
		vol_latch(vol, -EIO, "brick %s: block 0x%llx cannot be written: %s", vol->brick[brick]->endpoint,
			  (unsigned long long)vol->private_addr, vol_blamed(r));
	return r;
}

/* A lane with a persist under way. */
struct job {
	struct vol_brick *brick;
	struct vol_lane *lane;
	struct backend_io io;
	uint64_t serial;
	bool held;
	int r;
};

static int job_begin(struct job *job)
{
	struct vol_lane *lane = job->lane;
	size_t n = lane->dirty.n;

	if (lane->broken)
		return -ECONNRESET;
	if (scratch_reserve(lane, n))
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct vol_range *range = &lane->dirty.range[i];

		lane->scratch[i] = (struct backend_range){ .addr = range->block + range->low, .length = range->high - range->low };
	}
	job->io = (struct backend_io){ .op = BACKEND_PERSIST, .ranges = lane->scratch, .range_count = n, .status = -ECONNRESET };
	return job->brick->vol->backend->submit(job->brick->session, lane->index, &job->io);
}

static void job_end(struct job *job, bool begun)
{
	struct vol_brick *b = job->brick;

	if (begun) {
		int r = b->vol->backend->drain(b->session, job->lane->index);

		if (!job->r)
			job->r = job->io.status ? job->io.status : r;
		/* Flushed through a handle that the brick does not know any more: see finish(). */
		if (job->r == -EACCES)
			job->r = -ECONNRESET;
	}
	if (!job->r)
		vol_maps_persisted(b, job->lane);
	if (vol_lost(job->r))
		vol_lane_broke(job->lane);
	else
		vol_lane_put(job->lane);
}

/* The lane's persist is on its way: true; or there is nothing to do, or *error. */
static bool job_start(struct job *job, struct vol_brick *b, struct vol_lane *lane, int *error)
{
	*job = (struct job){ .brick = b, .lane = lane, .serial = b->serial };
	if (!lane->dirty_count)
		return false;
	if (!lane_lock_unless_mending(b, lane)) {
		job->r = -ECONNRESET;
		return true;
	}
	*error = vol_usable(b);
	if (*error || !lane->dirty.n) {
		pthread_mutex_unlock(&lane->mutex);
		return false;
	}
	job->held = true;
	job->serial = b->serial;
	job->r = job_begin(job);
	return true;
}

int vol_persist_lanes(struct volume *vol, struct vol_brick *const *bricks, unsigned n, bool *again)
{
	struct job few[8], *jobs = few;
	unsigned room = 0, i = 0, k = 0;
	bool dirty = false;
	int r = 0;

	for (unsigned b = 0; b < n; b++) {
		room += bricks[b]->lane_slots;
		for (unsigned l = 0; l < bricks[b]->lane_slots; l++)
			dirty |= bricks[b]->lane[l].dirty_count != 0;
	}
	if (!dirty)
		return 0;
	/*
	 * Room for all of them, also for those that become dirty while others are waited for.  Without memory for that they come in
	 * turns: each lane's persist covers what was written there when this began, whenever it is its turn.
	 */
	if (room > 8)
		jobs = calloc(room, sizeof(*jobs));
	if (!jobs)
		jobs = few;
	if (jobs == few)
		room = 8;
	while (i < n && !r) {
		unsigned count = 0;
		int error = 0;

		while (i < n && !error && count < room) {
			if (k == bricks[i]->lane_slots) {
				i++;
				k = 0;
				continue;
			}
			count += job_start(&jobs[count], bricks[i], &bricks[i]->lane[k], &error);
			k++;
		}
		for (unsigned j = 0; j < count; j++)
			if (jobs[j].held)
				job_end(&jobs[j], jobs[j].io.op == BACKEND_PERSIST);
		r = error;
		for (unsigned j = 0; j < count && !r; j++) {
			struct job *job = &jobs[j];

			if (vol_lost(job->r)) {
				*again = true;
				r = vol_recover(job->brick, job->lane->index, job->serial);
			} else if (job->r) {
				vol_latch(vol, -EIO, "brick %s: persist failed: %s", job->brick->endpoint, strerror(-job->r));
				r = -EIO;
			}
		}
	}
	if (jobs != few)
		free(jobs);
	return r;
}

static bool carried(struct volume *vol)
{
	for (unsigned i = 0; i < vol->bricks; i++)
		if (vol->brick[i]->carried_count)
			return true;
	return false;
}

/* There is something that stays as it is, at every attempt. */
static int never_persisted(struct volume *vol)
{
	int r = -EIO;

	for (unsigned i = 0; i < vol->bricks; i++) {
		struct vol_brick *b = vol->brick[i];
		bool left = b->carried_count;

		for (unsigned k = 0; k < b->lane_slots; k++)
			left |= b->lane[k].dirty_count != 0;
		if (left)
			r = vol_blame(b, -EIO, NULL, "what was written is not persisted, at every attempt");
	}
	return r;
}

static int persist_all(struct volume *vol)
{
	struct vol_effort effort;
	bool again;
	int r;

	vol_effort_begin(vol, &effort);
	vol_blame_begin();
	do {
		again = false;
		r = 0;
		for (unsigned i = 0; i < vol->bricks && !r; i++)
			r = vol_settle(vol->brick[i]);
		if (!r)
			r = vol_persist_lanes(vol, vol->brick, vol->bricks, &again);
		if (!r && (again || carried(vol)) && vol_tired(vol, &effort))
			r = never_persisted(vol);
	} while (!r && (again || carried(vol)));
	if (r)
		vol_latch(vol, -EIO, "persist failed: %s", vol_blamed(r));
	return r;
}

bool vol_dirty(struct volume *vol)
{
	for (unsigned i = 0; i < vol->bricks; i++)
		for (unsigned k = 0; k < vol->brick[i]->lane_slots; k++)
			if (vol->brick[i]->lane[k].dirty_count)
				return true;
	return carried(vol);
}

int vol_persist(struct volume *vol)
{
	uint64_t mine;

	/* What a persist has under way counts as dirty until it is done. */
	if (vol_error(vol) || !vol_dirty(vol))
		return vol_error(vol);
	pthread_mutex_lock(&vol->persist_mutex);
	mine = vol->persist_started + 1;
	while (vol->persist_done < mine) {
		if (vol->persist_running) {
			pthread_cond_wait(&vol->persist_cond, &vol->persist_mutex);
			continue;
		}
		uint64_t run_number = ++vol->persist_started;

		vol->persist_running = true;
		pthread_mutex_unlock(&vol->persist_mutex);
		persist_all(vol);
		pthread_mutex_lock(&vol->persist_mutex);
		vol->persist_running = false;
		vol->persist_done = run_number;
		pthread_cond_broadcast(&vol->persist_cond);
	}
	pthread_mutex_unlock(&vol->persist_mutex);
	return vol_error(vol);
}
