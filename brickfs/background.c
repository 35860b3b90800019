/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * background - the threads that work unasked: the worker commits what has waited long
 * enough, finishes drops and takes checkpoints; the keeper keeps the leases; the giver gives maps back
 * to bricks that ask for them, which may take what I/O takes and is no business of the keeper's.
 * (The fourth, the committer, is log_thread().)
 */
#include "fs.h"

#include <errno.h>

#define KEEPALIVE_LEAST_MS 10	/* whatever a brick says of its lease */
#define RECALL_MS 100	/* a brick waits not much longer, and then asks again */

static unsigned keepalive_ms(struct fs *fs)
{
	unsigned ms = 3600000;

	for (unsigned b = 0; b < vol_bricks(fs->vol); b++) {
		const struct backend_info *info = vol_brick_info(fs->vol, b);

		if (info && info->lease_ms && info->lease_ms / 3 < ms)
			ms = info->lease_ms / 3;
	}
	return ms > KEEPALIVE_LEAST_MS ? ms : KEEPALIVE_LEAST_MS;
}

/* Under fs->lock: waits on the condition for so long at most. */
static void nap(struct fs *fs, pthread_cond_t *cond, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(cond, &fs->lock, &until);
}

static bool reclaim_due(const struct fs *fs)
{
	return fs->drops && fs->drops->batch <= fs->log.durable && !atomic_load(&fs->error);
}

void *worker_thread(void *arg)
{
	struct fs *fs = arg;

	pthread_mutex_lock(&fs->lock);
	while (!fs->stop) {
		bool failed = atomic_load(&fs->error), due = !fs_writable(fs) && log_is_long(fs);

		if (!due && !reclaim_due(fs)) {
			if (fs->log.open && !failed) {
				struct timespec now;
				int64_t ms;

				clock_gettime(CLOCK_MONOTONIC, &now);
				ms = (now.tv_sec - fs->log.open->first.tv_sec) * 1000 +
				     (now.tv_nsec - fs->log.open->first.tv_nsec) / 1000000;
				if (ms < fs->options.commit_ms) {
					nap(fs, &fs->worker_wake, fs->options.commit_ms - (unsigned)ms);
					continue;
				}
				log_kick(fs);
			}
			pthread_cond_wait(&fs->worker_wake, &fs->lock);
			continue;
		}
		pthread_mutex_unlock(&fs->lock);
		reclaim(fs);
		if (due)
			checkpoint(fs);
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}

void *keeper_thread(void *arg)
{
	struct fs *fs = arg;
	unsigned ms = keepalive_ms(fs);

	pthread_mutex_lock(&fs->lock);
	while (!fs->stop) {
		nap(fs, &fs->keeper_wake, ms);
		if (fs->stop)
			break;
		pthread_mutex_unlock(&fs->lock);
		vol_keepalive(fs->vol);
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}

void *giver_thread(void *arg)
{
	struct fs *fs = arg;

	pthread_mutex_lock(&fs->lock);
	while (!fs->stop) {
		nap(fs, &fs->keeper_wake, RECALL_MS);
		if (fs->stop)
			break;
		pthread_mutex_unlock(&fs->lock);
		vol_give_back(fs->vol);
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}
