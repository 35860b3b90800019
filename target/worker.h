/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker - threads for work that may take long (write-back, zeroing, waiting for
 * others), so that a lane's thread goes on reading.
 *
 * Threads are started as work comes, up to a limit, and stay.  A job that has
 * not begun can be taken back; that is how a lane that ends gets rid of its own,
 * and why workers that wait for it cannot starve it.
 */
#ifndef TARGET_WORKER_H
#define TARGET_WORKER_H

#include <stdbool.h>

struct worker_pool;

struct job {
	struct job *next;
	void (*run)(struct job *job); /* owns the job from here on */
	const void *owner;	      /* for worker_cancel() */
};

int worker_pool_new(struct worker_pool **pool, unsigned max); /* -ENOMEM, -EAGAIN (no thread) */
/* Waits for the jobs that run; there must be none queued. */
void worker_pool_delete(struct worker_pool *pool);
void worker_queue(struct worker_pool *pool, struct job *job);
/* Takes every job of this owner that has not begun out of the queue, as a list. */
struct job *worker_cancel(struct worker_pool *pool, const void *owner);

#endif
