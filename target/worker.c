/* SPDX-License-Identifier: BSD-3-Clause */
/* worker - threads for work that may take long, shared out fairly. */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct worker_client {
	struct worker_client *next, **prev; /* of all */
	struct worker_client *next_ready;
	struct job *first, **last;
	unsigned running;
	bool ended;
};

struct worker_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct worker_client *clients;
	struct worker_client *ready, **ready_last; /* those with jobs, in the order of their turns */
	unsigned max, extra, share; /* share: the most threads for one client, but for the turn that is certain */
	unsigned threads, idle, busy;
	bool stop;
	pthread_t thread[];
};

static bool may_run(const struct worker_pool *pool, const struct worker_client *client)
{
	return !client->running || (pool->busy < pool->max && client->running < pool->share);
}

static void append_ready(struct worker_pool *pool, struct worker_client *client)
{
	client->next_ready = NULL;
	*pool->ready_last = client;
	pool->ready_last = &client->next_ready;
}

/* *at is somewhere in the list of those that are ready. */
static void take_ready(struct worker_pool *pool, struct worker_client **at)
{
	struct worker_client *client = *at;

	*at = client->next_ready;
	if (!*at)
		pool->ready_last = at;
}

/* Whose turn it is: in the list of those that are ready, or NULL. */
static struct worker_client **turn(struct worker_pool *pool)
{
	struct worker_client **at;

	for (at = &pool->ready; *at; at = &(*at)->next_ready)
		if (may_run(pool, *at))
			return at;
	return NULL;
}

static struct job *take(struct worker_pool *pool)
{
	struct worker_client **at = turn(pool), *client;
	struct job *job;

	if (!at)
		return NULL;
	client = *at;
	take_ready(pool, at);
	job = client->first;
	client->first = job->next;
	if (client->first)
		append_ready(pool, client); /* behind all others */
	else
		client->last = &client->first;
	client->running++;
	pool->busy++;
	return job;
}

static void client_free(struct worker_client *client)
{
	*client->prev = client->next;
	if (client->next)
		client->next->prev = client->prev;
	free(client);
}

static void *work(void *arg);

/*
 * Somebody for what may run.  Called with the lock held, whenever a job was queued or taken: a thread that was woken
 * calls it again, so that one signal is enough for any number of jobs.
 */
static void staff(struct worker_pool *pool)
{
	if (!turn(pool))
		return;
	if (pool->idle)
		pthread_cond_signal(&pool->work);
	else if (pool->threads < pool->max + pool->extra &&
		 !pthread_create(&pool->thread[pool->threads], NULL, work, pool))
		pool->threads++; /* if it fails, the ones there are get to it later */
}

static void *work(void *arg)
{
	struct worker_pool *pool = arg;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct job *job = take(pool);
		struct worker_client *client;

		if (!job) {
			if (pool->stop)
				break;
			pool->idle++;
			pthread_cond_wait(&pool->work, &pool->lock);
			pool->idle--;
			continue;
		}
		staff(pool);
		pthread_mutex_unlock(&pool->lock);
		client = job->client;
		job->run(job);
		pthread_mutex_lock(&pool->lock);
		pool->busy--;
		client->running--;
		if (client->ended && !client->running)
			client_free(client);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int worker_pool_new(struct worker_pool **out, unsigned max, unsigned extra)
{
	struct worker_pool *pool = calloc(1, sizeof(*pool) + ((size_t)max + extra) * sizeof(pool->thread[0]));
	int ret;

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pool->ready_last = &pool->ready;
	pool->max = max;
	pool->extra = extra;
	pool->share = (max + 1) / 2;
	pthread_mutex_lock(&pool->lock);
	ret = -pthread_create(&pool->thread[0], NULL, work, pool); /* one for certain: later ones may fail to start */
	pool->threads = !ret;
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
	while (pool->clients)
		client_free(pool->clients);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

struct worker_client *worker_client_new(struct worker_pool *pool)
{
	struct worker_client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client->last = &client->first;
	pthread_mutex_lock(&pool->lock);
	client->next = pool->clients;
	client->prev = &pool->clients;
	if (client->next)
		client->next->prev = &client->next;
	pool->clients = client;
	pthread_mutex_unlock(&pool->lock);
	return client;
}

void worker_client_end(struct worker_pool *pool, struct worker_client *client)
{
	if (!client)
		return;
	pthread_mutex_lock(&pool->lock);
	client->ended = true;
	if (!client->running)
		client_free(client);
	pthread_mutex_unlock(&pool->lock);
}

void worker_queue(struct worker_pool *pool, struct job *job)
{
	struct worker_client *client = job->client;

	job->next = NULL;
	pthread_mutex_lock(&pool->lock);
	if (!client->first)
		append_ready(pool, client);
	*client->last = job;
	client->last = &job->next;
	staff(pool);
	pthread_mutex_unlock(&pool->lock);
}

static struct job *cancel_of(struct worker_pool *pool, struct worker_client *client, const void *owner, struct job *taken)
{
	struct worker_client **ready;
	struct job **at = &client->first;

	if (!client->first)
		return taken;
	while (*at) {
		struct job *job = *at;

		if (job->owner != owner) {
			at = &job->next;
			continue;
		}
		*at = job->next;
		job->next = taken;
		taken = job;
	}
	client->last = at;
	if (!client->first) {
		for (ready = &pool->ready; *ready != client; ready = &(*ready)->next_ready)
			;
		take_ready(pool, ready);
	}
	return taken;
}

struct job *worker_cancel(struct worker_pool *pool, const void *owner)
{
	struct job *taken = NULL;

	pthread_mutex_lock(&pool->lock);
	for (struct worker_client *client = pool->clients; client; client = client->next)
		taken = cancel_of(pool, client, owner, taken);
	pthread_mutex_unlock(&pool->lock);
	return taken;
}

unsigned worker_busy(struct worker_pool *pool)
{
	unsigned busy;

	pthread_mutex_lock(&pool->lock);
	busy = pool->busy;
	pthread_mutex_unlock(&pool->lock);
	return busy;
}
