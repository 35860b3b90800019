/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ten - ten sessions with four lanes each at once over one brick; ten.sh runs it.
 *
 *   ten ENDPOINT SECONDS
 *
 * Each session is a process, each of its lanes a thread.  What they may expect of each other
 * they tell through shared memory: who holds a block how is noted after map was answered and
 * before unmap is asked for, so that two notes that exclude each other are the brick's fault.
 *
 * A block has two halves, in pages of stamps (who wrote it, its count, its place).  The
 * first is written only by who has the block to itself, who must then find nothing else there;
 * who shares it finds whole pages that do not change.  In the second every lane has a page of its own, which it
 * writes while others read: they find no count older than was complete before the read,
 * none newer than was posted after it.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "brick.h"

enum { SESSIONS = 10, LANES = 4, BLOCKS = 12, CONTESTED = 4, PAGE = 4096, UNITS = PAGE / 8, HALF_PAGES = 256, RUN_MAX = 4 };

#define BLOCK BRICK_BLOCK_SIZE
#define BASE 0x7300000000000000ull
#define PRIVATE (BASE + 0x100000000ull)
#define EXCLUSIVE (BRICK_MAP_WRITE | BRICK_MAP_EXCLUSIVE)

struct shared {
	_Atomic int exclusive[BLOCKS];		/* the session that has it to itself, from 1; 0 */
	_Atomic int holders[BLOCKS];		/* sessions that share it */
	struct { _Atomic uint32_t posted, completed; } page[BLOCKS][SESSIONS][LANES];
	_Atomic uint32_t stamps;
	_Atomic unsigned long maps, again, busy, writes, reads, persists, privates, preempts, ended;
	uint64_t free_before;			/* blocks */
	pthread_barrier_t barrier;
};

enum state { NOT_MAPPED, CHANGING, MAPPED };

/* A block as this process has it. */
struct mine { enum state state; unsigned users; uint32_t flags; struct brick_handle handle; bool dirty; };

static const char *endpoint;
static bool local;
static uint64_t end_ns;
static struct shared *shared;
static unsigned number;			/* of this process' session */
static struct brick_session *session;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mine mine[BLOCKS];

#define ok(condition)									\
	do {										\
		if (!(condition)) {							\
			fprintf(stderr, "FAILED %s:%d: session %u: %s (last error: %s)\n",	\
				__FILE__, __LINE__, number, #condition, brick_error());	\
			_exit(1);							\
		}									\
	} while (0)

struct worker {
	pthread_t thread;
	unsigned number;
	unsigned seed;
	struct brick_lane *lane;
	uint64_t *pages, *others;	/* RUN_MAX pages each */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t address(unsigned block)
{
	return BASE + block * BLOCK;
}

static unsigned rnd(struct worker *w, unsigned n)
{
	return (unsigned)rand_r(&w->seed) / 7 % n;
}

static uint64_t stamp(unsigned owner, unsigned lane, uint32_t count, unsigned unit)
{
	return (uint64_t)(owner + 1) << 56 | (uint64_t)lane << 48 | (uint64_t)count << 16 | (unit & 0xffff);
}

static uint32_t count_of(uint64_t value)
{
	return (uint32_t)(value >> 16);
}

static void fill(uint64_t *page, unsigned index, unsigned owner, unsigned lane, uint32_t count)
{
	for (unsigned i = 0; i < UNITS; i++)
		page[i] = stamp(owner, lane, count, index * UNITS + i);
}

static int persist(struct worker *w, unsigned block, uint32_t offset, uint32_t length)
{
	const struct brick_range range = { address(block) + offset, length };

	atomic_fetch_add(&shared->persists, 1);
	return brick_persist(w->lane, &range, 1, NULL);
}

/* The half of who has the block to itself; each lane has a quarter of it. */
static void alone(struct worker *w, unsigned b, const struct brick_handle *handle)
{
	unsigned n = 1 + rnd(w, RUN_MAX), first = w->number * (HALF_PAGES / LANES) + rnd(w, HALF_PAGES / LANES - n + 1);
	uint32_t count = atomic_fetch_add(&shared->stamps, 1) + 1, offset = first * PAGE, length = n * PAGE;

	for (unsigned i = 0; i < n; i++)
		fill(w->pages + i * UNITS, first + i, number, w->number, count);
	ok(brick_write(w->lane, handle, offset, w->pages, length) == 0);
	atomic_fetch_add(&shared->writes, 1);
	if (rnd(w, 3) == 0)
		ok(persist(w, b, offset, length) == 0);
	ok(brick_read(w->lane, handle, offset, w->others, length) == 0);
	ok(memcmp(w->pages, w->others, length) == 0);
	ok(atomic_load(&shared->exclusive[b]) == (int)number + 1);
}

/* That half, looked at by who shares the block: whole pages, and nobody changes them. */
static void look(struct worker *w, const struct brick_handle *handle)
{
	unsigned n = 1 + rnd(w, RUN_MAX), first = rnd(w, HALF_PAGES - n + 1);

	ok(brick_read(w->lane, handle, first * PAGE, w->pages, n * PAGE) == 0);
	for (unsigned i = 0; i < n; i++) {
		const uint64_t *page = w->pages + i * UNITS;
		uint64_t value = page[0];

		for (unsigned k = 0; k < UNITS; k++)
			ok(value ? page[k] == value + k : page[k] == 0);
		ok(!value || ((value & 0xffff) == ((first + i) * UNITS & 0xffff) && value >> 56 <= SESSIONS));
	}
	ok(brick_read(w->lane, handle, first * PAGE, w->others, n * PAGE) == 0);
	ok(memcmp(w->pages, w->others, n * PAGE) == 0);
	atomic_fetch_add(&shared->reads, 2);
}

static uint32_t own_page(unsigned owner, unsigned lane)
{
	return (HALF_PAGES + owner * LANES + lane) * PAGE;
}

static void write_own(struct worker *w, unsigned b, const struct brick_handle *handle)
{
	uint32_t count = atomic_load(&shared->page[b][number][w->number].posted) + 1, offset = own_page(number, w->number);

	fill(w->pages, offset / PAGE, number, w->number, count);
	atomic_store(&shared->page[b][number][w->number].posted, count);
	ok(brick_write(w->lane, handle, offset, w->pages, PAGE) == 0);
	atomic_store(&shared->page[b][number][w->number].completed, count);
	atomic_fetch_add(&shared->writes, 1);
	if (rnd(w, 4) == 0)
		ok(persist(w, b, offset, PAGE) == 0);
}

static void read_other(struct worker *w, unsigned b, const struct brick_handle *handle)
{
	unsigned owner = rnd(w, SESSIONS), lane = rnd(w, LANES);
	uint32_t least = atomic_load(&shared->page[b][owner][lane].completed), offset = own_page(owner, lane), most;

	ok(brick_read(w->lane, handle, offset, w->others, PAGE) == 0);
	most = atomic_load(&shared->page[b][owner][lane].posted);
	for (unsigned i = 0; i < UNITS; i++) {
		uint32_t count = count_of(w->others[i]);

		ok(count ? w->others[i] == stamp(owner, lane, count, offset / PAGE * UNITS + i) : w->others[i] == 0);
		ok(count >= least && count <= most);
	}
	atomic_fetch_add(&shared->reads, 1);
}

static void use(struct worker *w, unsigned b, uint32_t flags, const struct brick_handle *handle)
{
	for (unsigned n = 1 + rnd(w, 8); n > 0; n--) {
		unsigned what = rnd(w, 3);

		if (what == 0 && flags == EXCLUSIVE)
			alone(w, b, handle);
		else if (what == 0)
			look(w, handle);
		else if (what == 1 && flags)
			write_own(w, b, handle);
		else
			read_other(w, b, handle);
	}
}

/* The session has the block already: with as much or less it is the same handle, with more EBUSY. */
static void map_again(struct worker *w, unsigned b, uint32_t want)
{
	const struct mine *m = &mine[b];	/* does not change while it is used */
	uint64_t addr = address(b);
	struct brick_handle again;
	int ret = brick_map(w->lane, &addr, 1, want, &again, NULL);

	atomic_fetch_add(&shared->again, 1);
	if (want & ~m->flags) {
		ok(ret == -EBUSY);
		return;
	}
	ok(ret == 0);
	ok(again.place == m->handle.place && again.key == m->handle.key && again.addr == addr);
}

static void note(unsigned b, uint32_t flags)
{
	if (flags == EXCLUSIVE) {
		ok(atomic_exchange(&shared->exclusive[b], (int)number + 1) == 0);
		ok(atomic_load(&shared->holders[b]) == 0);
	} else {
		atomic_fetch_add(&shared->holders[b], 1);
		ok(atomic_load(&shared->exclusive[b]) == 0);
	}
}

static void forget(unsigned b, uint32_t flags)
{
	if (flags == EXCLUSIVE)
		ok(atomic_exchange(&shared->exclusive[b], 0) == (int)number + 1);
	else
		ok(atomic_fetch_sub(&shared->holders[b], 1) > 0);
}

/* Joins the users of the block in this process, or maps it. False: not now. */
static bool take(struct worker *w, unsigned b, uint32_t want)
{
	struct mine *m = &mine[b];
	uint64_t addr = address(b);
	struct brick_handle handle;
	int ret;

	pthread_mutex_lock(&lock);
	if (m->state == MAPPED) {
		m->users++;
		pthread_mutex_unlock(&lock);
		if (rnd(w, 2))
			map_again(w, b, want);
		return true;
	}
	if (m->state == CHANGING) {
		pthread_mutex_unlock(&lock);
		return false;
	}
	m->state = CHANGING;
	pthread_mutex_unlock(&lock);
	ret = brick_map(w->lane, &addr, 1, want == EXCLUSIVE ? BRICK_MAP_EXCLUSIVE : want, &handle, NULL);
	ok(ret == 0 || ret == -EBUSY || ret == -ENOMEM);
	if (ret == 0) {
		note(b, want);
		atomic_fetch_add(&shared->maps, 1);
	} else if (ret == -EBUSY) {
		atomic_fetch_add(&shared->busy, 1);
	}
	pthread_mutex_lock(&lock);
	if (ret == 0)
		*m = (struct mine){ .state = MAPPED, .users = 1, .flags = want, .handle = handle };
	else
		m->state = NOT_MAPPED;
	pthread_mutex_unlock(&lock);
	return ret == 0;
}

static void give_back(struct worker *w, unsigned b)
{
	struct mine *m = &mine[b];
	uint64_t addr = address(b);

	pthread_mutex_lock(&lock);
	if (--m->users > 0) {
		pthread_mutex_unlock(&lock);
		return;
	}
	m->state = CHANGING;
	pthread_mutex_unlock(&lock);
	forget(b, m->flags);
	ok(brick_unmap(w->lane, &addr, 1, m->flags ? 0 : BRICK_UNMAP_CLEAN, NULL) == 0);
	pthread_mutex_lock(&lock);
	m->state = NOT_MAPPED;
	pthread_mutex_unlock(&lock);
}

/* A block of the lane's own comes and goes; it is all zeroes when it comes. */
static void private_block(struct worker *w)
{
	const uint64_t addr = PRIVATE + (number * LANES + w->number) * BLOCK;
	uint32_t offset = rnd(w, 512) * PAGE;
	struct brick_handle handle;
	int ret = brick_alloc(w->lane, &addr, 1, NULL);

	ok(ret == 0);
	ret = brick_map(w->lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL);
	ok(ret == 0 || ret == -ENOMEM);
	if (ret == 0) {
		ok(brick_read(w->lane, &handle, offset, w->others, PAGE) == 0);
		for (unsigned i = 0; i < UNITS; i++)
			ok(w->others[i] == 0);
		fill(w->pages, 0, number, w->number, 1);
		ok(brick_write(w->lane, &handle, offset, w->pages, PAGE) == 0);
		/* Half of them are freed as they are mapped. */
		if (rnd(w, 2))
			ok(brick_unmap(w->lane, &addr, 1, 0, NULL) == 0);
	}
	ok(brick_free(w->lane, &addr, 1, NULL) == 0);
	atomic_fetch_add(&shared->privates, 1);
}

static void *run(void *arg)
{
	static const uint32_t flags[] = { 0, 0, BRICK_MAP_WRITE, BRICK_MAP_WRITE, EXCLUSIVE };
	struct worker *w = arg;

	while (now_ns() < end_ns) {
		unsigned b = rnd(w, BLOCKS);

		if (rnd(w, 40) == 0) {
			private_block(w);
			continue;
		}
		if (!take(w, b, flags[rnd(w, 5)]))
			continue;
		use(w, b, mine[b].flags, &mine[b].handle);
		give_back(w, b);
	}
	return NULL;
}

/* One session has a block to itself, each in turn: all others are told so, whatever they ask for, until it unmaps. */
static void turns(struct worker *w)
{
	static const uint32_t flags[] = { 0, BRICK_MAP_WRITE, BRICK_MAP_EXCLUSIVE };
	const uint64_t addr = address(0);
	struct brick_handle handle;

	for (unsigned turn = 0; turn < SESSIONS; turn++) {
		if (turn == number)
			ok(brick_map(w->lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL) == 0);
		pthread_barrier_wait(&shared->barrier);
		for (unsigned i = 0; i < 3 && turn != number; i++)
			ok(brick_map(w->lane, &addr, 1, flags[i], &handle, NULL) == -EBUSY);
		if (turn != number)
			ok(brick_free(w->lane, &addr, 1, NULL) == -EBUSY);
		pthread_barrier_wait(&shared->barrier);
		if (turn == number)
			ok(brick_unmap(w->lane, &addr, 1, 0, NULL) == 0);
		/* And all of them may share it. */
		pthread_barrier_wait(&shared->barrier);
		ok(brick_map(w->lane, &addr, 1, number % 2 ? BRICK_MAP_WRITE : 0, &handle, NULL) == 0);
		pthread_barrier_wait(&shared->barrier);
		ok(brick_map(w->lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL) == -EBUSY);
		pthread_barrier_wait(&shared->barrier);
		ok(brick_unmap(w->lane, &addr, 1, 0, NULL) == 0);
		pthread_barrier_wait(&shared->barrier);
	}
}

static void open_lanes(const char *name, struct brick_session **s, struct brick_lane **lanes)
{
	const struct brick_options options = { .name = name, .lanes = LANES, .depth = 8, .timeout_ms = 60000 };

	ok(brick_open(endpoint, &options, s) == 0);
	lanes[0] = brick_lane(*s, 0);
	for (unsigned i = 1; i < LANES; i++) {
		int ret = brick_lane_open(*s, &lanes[i]);

		/* With PREEMPT about, a session may be over before it has begun. */
		ok(ret == 0 || strcmp(name, "robber") == 0);
		if (ret)
			lanes[i] = lanes[0];
	}
}

/* Sessions that take blocks away from each other: who reads what it wrote finds it, or is told that it has nothing any more. */
static void rob(unsigned seed)
{
	struct worker w = { .seed = seed, .number = 0 };
	uint64_t until = now_ns() + (end_ns > now_ns() ? end_ns - now_ns() : 0);
	struct brick_session *s = NULL;
	struct brick_lane *lanes[LANES];
	uint64_t *mem = NULL;
	uint32_t count = 0;

	while (now_ns() < until) {
		unsigned b = rnd(&w, CONTESTED);
		const uint64_t addr = address(BLOCKS + b);
		struct brick_handle handle;
		int ret;

		if (!s) {
			open_lanes("robber", &s, lanes);
			mem = brick_buffer_alloc(s, 2 * PAGE);
			ok(mem);
		}
		w.lane = lanes[rnd(&w, LANES)];
		ret = brick_map(w.lane, &addr, 1, BRICK_MAP_EXCLUSIVE | BRICK_MAP_PREEMPT, &handle, NULL);
		if (ret == 0)
			atomic_fetch_add(&shared->preempts, 1);
		for (unsigned i = rnd(&w, 20); i > 0 && ret == 0; i--) {
			unsigned page = rnd(&w, 512);

			fill(mem, page, number, 0, ++count);
			ret = brick_write(w.lane, &handle, page * PAGE, mem, PAGE);
			if (ret == 0)
				ret = brick_read(w.lane, &handle, page * PAGE, mem + UNITS, PAGE);
			/* What was preempted may not change a byte any more. */
			ok(ret || memcmp(mem, mem + UNITS, PAGE) == 0);
		}
		if (ret == 0 && rnd(&w, 3) == 0)
			ret = brick_unmap(w.lane, &addr, 1, 0, NULL);
		if (ret == 0 || ret == -ENOMEM)
			continue;
		ok(ret == -ECONNRESET || ret == -ESTALE || ret == -EPIPE || ret == -EACCES || ret == -ENOENT);
		atomic_fetch_add(&shared->ended, 1);
		brick_close(s);
		s = NULL;
	}
	if (s)
		brick_close(s);
}

static int child(unsigned seconds)
{
	struct worker w[LANES];
	struct brick_lane *lanes[LANES];
	char name[16];

	snprintf(name, sizeof(name), "ten-%u", number);
	open_lanes(name, &session, lanes);
	for (unsigned i = 0; i < LANES; i++) {
		w[i] = (struct worker){ .number = i, .seed = number * LANES + i + 1, .lane = lanes[i],
					.pages = brick_buffer_alloc(session, RUN_MAX * PAGE),
					.others = brick_buffer_alloc(session, RUN_MAX * PAGE) };
		ok(w[i].pages && w[i].others);
	}
	pthread_barrier_wait(&shared->barrier);
	end_ns = now_ns() + seconds * 1000000000ull;
	for (unsigned i = 0; i < LANES; i++)
		ok(pthread_create(&w[i].thread, NULL, run, &w[i]) == 0);
	for (unsigned i = 0; i < LANES; i++)
		pthread_join(w[i].thread, NULL);
	pthread_barrier_wait(&shared->barrier);
	turns(&w[0]);
	brick_close(session);
	/* Who uses its memory by load and store cannot be robbed. */
	end_ns = now_ns() + seconds * 500000000ull;
	if (!local && number < 4)
		rob(number + 1);
	return 0;
}

static struct brick_session *open_parent(void)
{
	const struct brick_options options = { .name = "ten", .lanes = 1, .timeout_ms = 60000 };
	struct brick_session *s;

	ok(brick_open(endpoint, &options, &s) == 0);
	return s;
}

/* Nothing is left but this session. */
static bool quiet(struct brick_session *s, uint64_t free_before)
{
	struct brick_stat stat;

	ok(brick_stat(brick_lane(s, 0), &stat) == 0);
	return stat.sessions == 1 && stat.lanes == 1 && stat.maps == 0 && stat.regions == 0 && stat.memory_pinned == 0 &&
	       stat.free == free_before;
}

static int prepare(const uint64_t *addrs)
{
	struct brick_session *s = open_parent();
	struct brick_stat stat;

	ok(brick_stat(brick_lane(s, 0), &stat) == 0);
	ok(brick_alloc(brick_lane(s, 0), addrs, BLOCKS + CONTESTED, NULL) == 0);
	shared->free_before = stat.free;
	brick_close(s);
	return 0;
}

int main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	uint64_t addrs[BLOCKS + CONTESTED];
	pid_t pid[SESSIONS];
	pthread_barrierattr_t attr;
	struct brick_session *s;
	uint64_t limit;
	bool good = true;
	int status;

	if (argc != 3) {
		fprintf(stderr, "usage: %s ENDPOINT SECONDS\n", argv[0]);
		return 2;
	}
	endpoint = argv[1];
	local = strncmp(endpoint, "unix:", 5) == 0;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ok(shared != MAP_FAILED);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->barrier, &attr, SESSIONS);
	for (unsigned i = 0; i < BLOCKS + CONTESTED; i++)
		addrs[i] = address(i);
	/* An RDMA device that this process had opened would be of no use to its children. */
	pid[0] = fork();
	ok(pid[0] >= 0);
	if (pid[0] == 0)
		_exit(prepare(addrs));
	ok(waitpid(pid[0], &status, 0) == pid[0] && status == 0);
	for (unsigned i = 0; i < SESSIONS; i++) {
		pid[i] = fork();
		ok(pid[i] >= 0);
		if (pid[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			number = i;
			_exit(child((unsigned)atoi(argv[2])));
		}
	}
	for (unsigned i = 0; i < SESSIONS; i++) {
		pid_t ended = wait(&status);

		if (ended > 0 && status && good) {
			good = false;
			/* The others may wait for it at the barrier. */
			for (unsigned k = 0; k < SESSIONS; k++)
				if (pid[k] != ended)
					kill(pid[k], SIGKILL);
		}
	}
	number = SESSIONS;
	ok(good);
	s = open_parent();
	ok(brick_free(brick_lane(s, 0), addrs, BLOCKS + CONTESTED, NULL) == 0);
	/* A session that lost everything ends when its process closes; the brick notices in its own time. */
	for (limit = now_ns() + 30000000000ull; !quiet(s, shared->free_before);) {
		ok(now_ns() < limit);
		nanosleep(&pause, NULL);
	}
	brick_close(s);
	printf("ten sessions of four lanes: %lu maps, %lu refused as busy, %lu again, %lu writes, %lu reads, %lu persists, %lu blocks came and went; "
	       "%lu taken by force, %lu sessions ended by that\n",
	       shared->maps, shared->busy, shared->again, shared->writes, shared->reads, shared->persists, shared->privates,
	       shared->preempts, shared->ended);
	ok(shared->maps > 0 && shared->busy > 0 && shared->again > 0 && shared->privates > 0);
	ok(local || (shared->preempts > 0 && shared->ended > 0));
	return 0;
}
