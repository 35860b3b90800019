/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: the workers serve their clients in turn: one with thousands of jobs does not delay another, one whose jobs
 * never end cannot keep another from getting a thread, and jobs are taken back whole.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "check_run.h"
#include "worker.h"

enum { A, B, C, D, CLIENTS };

static struct worker_pool *pool;
static struct worker_client *client[CLIENTS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool open_gate[CLIENTS]; /* jobs of this client end */
static unsigned running[CLIENTS], most[CLIENTS], done[CLIENTS];
static int order[8192];
static unsigned ended;

struct work {
	struct job job;
	int who;
};

static void run(struct job *job)
{
	struct work *w = (struct work *)job;

	pthread_mutex_lock(&lock);
	running[w->who]++;
	if (running[w->who] > most[w->who])
		most[w->who] = running[w->who];
	pthread_cond_broadcast(&changed);
	while (!open_gate[w->who])
		pthread_cond_wait(&changed, &lock);
	running[w->who]--;
	done[w->who]++;
	order[ended++] = w->who;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	free(w);
}

static void queue(int who, unsigned n, const void *owner)
{
	while (n--) {
		struct work *w = malloc(sizeof(*w));

		ck_assert_ptr_nonnull(w);
		*w = (struct work){.job = {.run = run, .owner = owner, .client = client[who]}, .who = who};
		worker_queue(pool, &w->job);
	}
}

static void gate(int who, bool open)
{
	pthread_mutex_lock(&lock);
	open_gate[who] = open;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* Without a limit of its own: a test that hangs is ended by Check. */
static void await(const unsigned *count, unsigned n)
{
	pthread_mutex_lock(&lock);
	while (*count < n)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void start(unsigned max, unsigned extra)
{
	ck_assert_int_eq(worker_pool_new(&pool, max, extra), 0);
	for (int i = 0; i < CLIENTS; i++)
		client[i] = worker_client_new(pool);
}

static void stop(void)
{
	for (int i = 0; i < CLIENTS; i++)
		worker_client_end(pool, client[i]);
	worker_pool_delete(pool);
}

START_TEST(in_turn)
{
	unsigned last = 0;

	start(1, 0);
	queue(A, 1, NULL);
	await(&running[A], 1); /* it has the one thread */
	queue(A, 4000, NULL);
	queue(B, 5, NULL);
	queue(C, 5, NULL);
	gate(B, true);
	gate(C, true);
	gate(A, true);
	await(&ended, 4011);
	for (unsigned i = 0; i < ended; i++)
		if (order[i] != A)
			last = i;
	ck_assert_uint_le(last, 15); /* A, then A, B, C in turn */
	stop();
}
END_TEST

/* All threads are taken by jobs that do not end: everybody else gets one all the same, and each of the greedy ones has only its share. */
START_TEST(certain)
{
	start(4, CLIENTS);
	gate(C, true);
	gate(D, true);
	queue(A, 100, NULL);
	queue(B, 100, NULL);
	await(&running[A], 2);
	await(&running[B], 2);
	for (unsigned i = 1; i <= 50; i++) {
		queue(C, 1, NULL);
		await(&done[C], i);
		queue(D, 2, NULL);
		await(&done[D], 2 * i);
	}
	ck_assert_uint_ge(worker_busy(pool), 4);
	gate(A, true);
	gate(B, true);
	await(&done[A], 100);
	await(&done[B], 100);
	ck_assert_uint_eq(most[A], 2);
	ck_assert_uint_eq(most[B], 2);
	stop();
}
END_TEST

/* Alone, one client has half of the threads, and all its jobs are done. */
START_TEST(share)
{
	start(5, CLIENTS);
	queue(A, 500, NULL);
	await(&running[A], 3);
	for (int i = 0; i < 1000; i++)
		sched_yield();
	gate(A, true);
	await(&done[A], 500);
	ck_assert_uint_eq(most[A], 3);
	stop();
}
END_TEST

START_TEST(taken_back)
{
	static const char one, other;
	struct job *job;
	unsigned n = 0;

	start(1, 0);
	queue(A, 1, &one);
	await(&running[A], 1);
	for (int i = 0; i < 100; i++) {
		queue(A, 1, &one);
		queue(A, 1, &other);
		queue(B, 1, &one);
	}
	while ((job = worker_cancel(pool, &one))) {
		while (job) {
			struct job *next = job->next;

			free(job);
			n++;
			job = next;
		}
	}
	ck_assert_uint_eq(n, 200);
	gate(A, true);
	gate(B, true);
	await(&done[A], 101);
	queue(B, 1, &other); /* its queue was emptied, and is as good as new */
	queue(A, 1, &other);
	await(&done[B], 1);
	await(&done[A], 102);
	ck_assert_ptr_null(worker_cancel(pool, &one));
	stop();
}
END_TEST

/* A client ends while its last job is still at its last word. */
struct quick {
	struct job job;
	_Atomic int *count;
};

static void run_quick(struct job *job)
{
	struct quick *q = (struct quick *)job;
	_Atomic int *count = q->count;

	free(q);
	atomic_fetch_add(count, 1);
}

static void *come_and_go(void *arg)
{
	_Atomic int count;

	for (int round = 0; round < 300; round++) {
		struct worker_client *c = worker_client_new(pool);
		int n = 1 + round % 7;

		atomic_store(&count, 0);
		for (int i = 0; i < n; i++) {
			struct quick *q = malloc(sizeof(*q));

			*q = (struct quick){.job = {.run = run_quick, .owner = c, .client = c}, .count = &count};
			worker_queue(pool, &q->job);
		}
		while (atomic_load(&count) < n)
			sched_yield();
		worker_client_end(pool, c);
	}
	return arg;
}

START_TEST(many)
{
	pthread_t thread[6];

	start(3, 6);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, come_and_go, NULL), 0);
	for (int i = 0; i < 6; i++)
		pthread_join(thread[i], NULL);
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("worker");
	TCase *tc = tcase_create("worker");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, in_turn);
	tcase_add_test(tc, certain);
	tcase_add_test(tc, share);
	tcase_add_test(tc, taken_back);
	tcase_add_test(tc, many);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
