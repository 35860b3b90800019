/* SPDX-License-Identifier: BSD-3-Clause */
/* worker - threads for work that may take long. */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct worker_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct job *first, **last;
	unsigned max, threads, idle, queued;
	bool stop;
	pthread_t thread[];
};

static void *work(void *arg)
{
	struct worker_pool *pool = arg;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct job *job = pool->first;

		if (!job) {
			if (pool->stop)
				break;
			pool->idle++;
			pthread_cond_wait(&pool->work, &pool->lock);
			pool->idle--;
			continue;
		}
		pool->first = job->next;
		if (!pool->first)
			pool->last = &pool->first;
		pool->queued--;
		pthread_mutex_unlock(&pool->lock);
		job->run(job);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Called with the lock held. */
static int start_thread(struct worker_pool *pool)
{
	int ret = pthread_create(&pool->thread[pool->threads], NULL, work, pool);

	if (!ret)
		pool->threads++;
	return -ret;
}

int worker_pool_new(struct worker_pool **out, unsigned max)
{
	struct worker_pool *pool = calloc(1, sizeof(*pool) + max * sizeof(pool->thread[0]));
	int ret;

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pool->last = &pool->first;
	pool->max = max;
	pthread_mutex_lock(&pool->lock);
	ret = start_thread(pool); /* one for certain: later ones may fail to start */
	pthread_mutex_unlock(&pool->lock);
	if (ret) {
		pthread_cond_destroy(&pool->work);
		pthread_mutex_destroy(&pool->lock);
		free(pool);
		return ret;
	}
	*out = pool;
	return 0;
}

void worker_pool_delete(struct worker_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void worker_queue(struct worker_pool *pool, struct job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&pool->lock);
	*pool->last = job;
	pool->last = &job->next;
	pool->queued++;
	if (pool->queued > pool->idle && pool->threads < pool->max)
		(void)start_thread(pool); /* if it fails, the ones there are get to it later */
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

struct job *worker_cancel(struct worker_pool *pool, const void *owner)
{
	struct job *taken = NULL, **at;

	pthread_mutex_lock(&pool->lock);
	at = &pool->first;
	while (*at) {
		struct job *job = *at;

		if (job->owner != owner) {
			at = &job->next;
			continue;
		}
		*at = job->next;
		job->next = taken;
		taken = job;
		pool->queued--;
	}
	pool->last = at;
	pthread_mutex_unlock(&pool->lock);
	return taken;
}
