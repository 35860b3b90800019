/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker - threads for work that may take long (write-back, zeroing, waiting for
 * others), so that a lane's thread goes on reading.
 *
 * Whoever has work done is a client (each session is one).  Clients with jobs are
 * served in turn, one job each, so that one with thousands of them does not delay
 * one with a few.  One client's jobs run on half of the threads at most.  And a
 * client of which nothing runs gets a thread even when all are taken, one beyond
 * their number if need be: jobs of others that take for ever (their initiator does
 * not read what it asked for) cannot keep it waiting.
 *
 * Threads are started as work comes, and stay.  A job that has not begun can be taken
 * back; that is how a lane that ends gets rid of its own, and why workers that wait for
 * it cannot starve it.
 *
 * The pool's lock is the last of all: any may be held in these calls, but that
 * worker_pool_delete() waits for jobs.
 */
#ifndef TARGET_WORKER_H
#define TARGET_WORKER_H

#include <stdbool.h>

struct worker_pool;
struct worker_client;

struct job {
	struct job *next;
	void (*run)(struct job *job); /* owns the job from here on */
	const void *owner;	      /* for worker_cancel() */
	struct worker_client *client;
};

/* max: threads; extra: so many clients may be there at a time and be certain of one.  -ENOMEM, -EAGAIN (no thread). */
int worker_pool_new(struct worker_pool **pool, unsigned max, unsigned extra);
/* Waits for the jobs that run; there must be none queued. */
void worker_pool_delete(struct worker_pool *pool);
/* NULL: no memory. */
struct worker_client *worker_client_new(struct worker_pool *pool);
/* None of its jobs is queued, and none will be; NULL is fine.  One that ran may still be at its last word. */
void worker_client_end(struct worker_pool *pool, struct worker_client *client);
void worker_queue(struct worker_pool *pool, struct job *job);
/* Takes every job of this owner that has not begun out of the queues, as a list. */
struct job *worker_cancel(struct worker_pool *pool, const void *owner);
/* Threads that carry something out now. */
unsigned worker_busy(struct worker_pool *pool);

#endif
