/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front-loop - the threads that serve the FUSE session, each with memory of its own.
 *
 * libfuse's own loop reads requests into memory that it allocates by itself.  Here they are read into memory
 * that the bricks' sessions know (fs_buffer_add()), so that the bytes of a write go from where the kernel
 * put them onto the wire, and those of a read come from the wire to where the answer is sent from, with no copy
 * in between.  The descriptor is read directly: libfuse (3.12 to 3.17) does no more than that, but expects of memory that
 * is not its own a size that it does not tell.
 *
 * A thread is started when the last idle one got a request, up to THREADS_MAX; they stay, as their memory does.
 * The end: the session says so (unmounted, an error, front_loop_stop()); threads that wait in read are called out of it by a
 * signal, those at work finish, and all are joined.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "front.h"
#include "report.h"

/*
 * A thread is taken for each request that waits for a brick, so this bounds what is under way; few suffice when
 * the answers come from memory.
 */
#define THREADS_MAX 32
/* Calls threads out of read; its action is to do nothing. Again after so long: one that comes just before the read is lost. */
#define WAKE_SIGNAL SIGUSR2
#define WAKE_NS 20000000

/* Of the kernel's interface: struct fuse_in_header, and behind it struct fuse_write_in of a write. */
struct header {
	uint32_t length, opcode;
	uint8_t rest[32];
};
#define WRITE_HEADER 40
#define OPCODE_FORGET 2
#define OPCODE_BATCH_FORGET 42

/* What a thread has: a page at whose end a request begins, so that the bytes of a write begin with the next one; and the reply. */
#define PAGE 4096u
#define REQUEST_AT (PAGE - sizeof(struct header) - WRITE_HEADER)
#define REQUEST_SIZE (sizeof(struct header) + WRITE_HEADER + FRONT_IO_MAX)
#define REPLY_AT (PAGE + FRONT_IO_MAX)
#define MEMORY_SIZE (REPLY_AT + FRONT_IO_MAX)

struct server {
	struct server *next;
	struct front_loop *loop;
	pthread_t thread;
	uint8_t *memory;
	atomic_bool reading;
	atomic_uint turns;	/* counts up before each read: what was read before is finished */
	unsigned seen;		/* by front_loop_settle() */
	bool ended;		/* under the loop's lock */
};

struct front_loop {
	struct fuse_session *session;
	struct fs *fs;
	atomic_int idle;	/* threads that wait for a request, or are about to */
	atomic_bool told;	/* that memory could not be registered */
	pthread_mutex_t lock;	/* all below */
	pthread_cond_t changed;
	struct server *servers;
	unsigned threads;	/* that run */
	bool ended;
	int error;
};

static _Thread_local uint8_t *reply_memory;
static _Thread_local struct server *this_server;

void *front_buffer(size_t size)
{
	return size <= FRONT_IO_MAX ? reply_memory : NULL;
}

static void end(struct front_loop *loop, int error)
{
	fuse_session_exit(loop->session);
	pthread_mutex_lock(&loop->lock);
	if (!loop->error)
		loop->error = error;
	loop->ended = true;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
}

static int get_memory(struct server *self)
{
	struct front_loop *loop = self->loop;
	int rc;

	self->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (self->memory == MAP_FAILED) {
		self->memory = NULL;
		return -ENOMEM;
	}
	rc = fs_buffer_add(loop->fs, self->memory, MEMORY_SIZE);
	if (rc && !atomic_exchange(&loop->told, true))
		report_notice("data is copied on its way to a brick, because memory cannot be registered with it: %s", fs_error_text());
	reply_memory = self->memory + REPLY_AT;
	return 0;
}

/* The size of a request; 0: there will be none; or an error. */
static ssize_t receive(struct server *self)
{
	int fd = fuse_session_fd(self->loop->session), error;
	ssize_t n;

	for (;;) {
		atomic_fetch_add(&self->turns, 1);
		atomic_store(&self->reading, true);
		if (fuse_session_exited(self->loop->session))
			return 0;
		n = read(fd, self->memory + REQUEST_AT, REQUEST_SIZE);
		error = errno;
		atomic_store(&self->reading, false);
		if (n >= (ssize_t)sizeof(struct header))
			return n;
		if (n >= 0)
			return -EIO;
		if (error == ENODEV)	/* unmounted, or aborted by /sys/fs/fuse/connections */
			return 0;
		/* ENOENT: who asked was interrupted while the request was being read. */
		if (error != EINTR && error != EAGAIN && error != ENOENT)
			return -error;
	}
}

static void start(struct front_loop *loop);

static void *serve(void *arg)
{
	struct server *self = arg;
	struct front_loop *loop = self->loop;
	ssize_t n = get_memory(self);
	bool served = n == 0, last;

	this_server = self;
	while (n >= 0 && (n = receive(self)) > 0) {
		struct fuse_buf request = { .mem = self->memory + REQUEST_AT, .size = (size_t)n };
		uint32_t opcode = ((struct header *)request.mem)->opcode;
		/* They come in floods, and are done at once. */
		bool brief = opcode == OPCODE_FORGET || opcode == OPCODE_BATCH_FORGET;

		if (!brief && atomic_fetch_sub(&loop->idle, 1) == 1)
			start(loop);
		fuse_session_process_buf(loop->session, &request);
		if (!brief)
			atomic_fetch_add(&loop->idle, 1);
	}
	pthread_mutex_lock(&loop->lock);
	self->ended = true;
	last = !--loop->threads;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
	/* One that found no memory is missed only if there is no other. */
	if (served || last)
		end(loop, (int)n);
	else
		atomic_fetch_sub(&loop->idle, 1);
	return NULL;
}

/* One more thread, if there may be one. Failing to is told only when there is none at all. */
static void start(struct front_loop *loop)
{
	struct server *server;

	pthread_mutex_lock(&loop->lock);
	if (loop->ended || loop->threads == THREADS_MAX || !(server = calloc(1, sizeof(*server))))
		goto out;
	server->loop = loop;
	atomic_fetch_add(&loop->idle, 1);
	if (pthread_create(&server->thread, NULL, serve, server)) {
		atomic_fetch_sub(&loop->idle, 1);
		free(server);
		goto out;
	}
	loop->threads++;
	server->next = loop->servers;
	loop->servers = server;
out:
	if (!loop->threads && !loop->ended) {
		loop->error = -ENOMEM;
		loop->ended = true;
	}
	pthread_mutex_unlock(&loop->lock);
}

int front_loop_new(struct front_loop **result, struct fuse_session *session, struct fs *fs)
{
	struct front_loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->session = session;
	loop->fs = fs;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->changed, NULL);
	*result = loop;
	return 0;
}

static void nothing(int number)
{
}

/* With the lock held: until the next signal is due, or something changed. */
static void pause_a_little(struct front_loop *loop)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += WAKE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&loop->changed, &loop->lock, &until);
}

/* With the lock held, after the end: until no thread runs. */
static void call_out(struct front_loop *loop)
{
	while (loop->threads) {
		for (struct server *server = loop->servers; server; server = server->next)
			if (atomic_load(&server->reading))
				pthread_kill(server->thread, WAKE_SIGNAL);
		pause_a_little(loop);
	}
}

void front_loop_settle(struct front_loop *loop)
{
	bool all = false;

	pthread_mutex_lock(&loop->lock);
	for (struct server *server = loop->servers; server; server = server->next)
		server->seen = atomic_load(&server->turns);
	while (!all && !loop->ended) {
		all = true;
		/* Those that were started since then come first, and have read nothing before. */
		for (struct server *server = loop->servers; server; server = server->next) {
			if (server == this_server || server->ended || atomic_load(&server->turns) != server->seen)
				continue;
			all = false;
			if (atomic_load(&server->reading))
				pthread_kill(server->thread, WAKE_SIGNAL);
		}
		if (!all)
			pause_a_little(loop);
	}
	pthread_mutex_unlock(&loop->lock);
}

bool front_loop_alone(struct front_loop *loop)
{
	bool alone;

	pthread_mutex_lock(&loop->lock);
	alone = loop->threads < 2;
	pthread_mutex_unlock(&loop->lock);
	return alone;
}

int front_loop_run(struct front_loop *loop)
{
	struct sigaction action = { .sa_handler = nothing };
	int error;

	sigemptyset(&action.sa_mask);
	sigaction(WAKE_SIGNAL, &action, NULL);
	start(loop);
	pthread_mutex_lock(&loop->lock);
	while (!loop->ended)
		pthread_cond_wait(&loop->changed, &loop->lock);
	error = loop->error;
	/* From here on no thread is added. */
	fuse_session_exit(loop->session);
	call_out(loop);
	pthread_mutex_unlock(&loop->lock);
	while (loop->servers) {
		struct server *server = loop->servers;

		loop->servers = server->next;
		pthread_join(server->thread, NULL);
		if (server->memory) {
			fs_buffer_remove(loop->fs, server->memory);
			munmap(server->memory, MEMORY_SIZE);
		}
		free(server);
	}
	return error;
}

void front_loop_stop(struct front_loop *loop)
{
	end(loop, 0);
}

void front_loop_delete(struct front_loop *loop)
{
	if (!loop)
		return;
	pthread_mutex_destroy(&loop->lock);
	pthread_cond_destroy(&loop->changed);
	free(loop);
}
