/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front - the FUSE session (front.h): what is agreed with the kernel, the loop
 * and its threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "front.h"
#include "mountpoint.h"
#include "report.h"

/*
 * A thread is taken for each request that waits for a brick, so this bounds what is under way; few suffice when
 * the answers come from memory.
 */
#define THREADS_MAX 32
#define THREADS_IDLE 10
/* Write-back, read-ahead and asynchronous direct I/O that the kernel has under way at once; its default of 12 starves the lanes. */
#define BACKGROUND_MAX 64
/* Wakes the main thread out of libfuse's wait; its action is to do nothing. */
#define WAKE_SIGNAL SIGUSR2

struct front {
	struct fs *fs;
	struct fuse_session *session;
	pthread_t loop_thread;
	atomic_bool looping;
	char *dir;		/* NULL: not mounted */
	dev_t device;
};

struct buffer {
	void *memory;
	size_t size;
};

static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;

static void buffer_delete(void *arg)
{
	struct buffer *buffer = arg;

	free(buffer->memory);
	free(buffer);
}

static void buffer_key_create(void)
{
	if (pthread_key_create(&buffer_key, buffer_delete))
		abort();	/* no keys left in a process that uses a handful */
}

void *front_buffer(size_t size)
{
	struct buffer *buffer;

	pthread_once(&buffer_once, buffer_key_create);
	buffer = pthread_getspecific(buffer_key);
	if (!buffer) {
		buffer = calloc(1, sizeof(*buffer));
		if (!buffer)
			return NULL;
		if (pthread_setspecific(buffer_key, buffer)) {
			free(buffer);
			return NULL;
		}
	}
	if (buffer->size < size) {
		free(buffer->memory);
		buffer->size = 0;
		size = (size + 4095) & ~(size_t)4095;
		buffer->memory = aligned_alloc(4096, size);
		if (!buffer->memory)
			return NULL;
		buffer->size = size;
	}
	return buffer->memory;
}

struct fs *front_fs(fuse_req_t req)
{
	struct front *front = fuse_req_userdata(req);

	return front->fs;
}

struct fuse_session *front_session(fuse_req_t req)
{
	struct front *front = fuse_req_userdata(req);

	return front->session;
}

void front_reply(fuse_req_t req, int rc)
{
	if (rc == -ENOSYS)
		rc = -EOPNOTSUPP;
	fuse_reply_err(req, rc < 0 ? -rc : 0);
}

void front_entry(struct fuse_entry_param *entry, const struct stat *st)
{
	memset(entry, 0, sizeof(*entry));
	/* The node ID is the inode number, which is never used twice: one generation is enough for ever. */
	entry->ino = st->st_ino;
	entry->attr = *st;
	entry->attr_timeout = FRONT_TIMEOUT;
	entry->entry_timeout = FRONT_TIMEOUT;
}

/*
 * What we want of the kernel.  Left off on purpose:
 * ATOMIC_O_TRUNC: with it the kernel does not send the mode without suid that a truncating open by another
 *	user asks for; without it truncation comes as SETATTR, with the mode.
 * HANDLE_KILLPRIV: the same for write and chown: SETATTR clears suid.
 * AUTO_INVAL_DATA: the kernel alone changes files, its pages are right.
 * EXPORT_SUPPORT: would need lookups of "." and ".." by number.
 * POSIX_ACL, POSIX_LOCKS, FLOCK_LOCKS: locks are the kernel's own, there is one client.
 * SPLICE: costs more than the copy it saves for what is not a file.
 */
static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_WRITEBACK_CACHE |
			       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			       FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_DONT_MASK;

static void front_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->want = conn->capable & wanted;
	if (!(conn->want & FUSE_CAP_WRITEBACK_CACHE))
		report_warning("the kernel has no write-back cache for FUSE: every write is a request");
	conn->max_write = FRONT_IO_MAX;
	conn->max_read = FRONT_IO_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	conn->time_gran = 1;
}

static void __attribute__((format(printf, 2, 0)))
log_from_fuse(enum fuse_log_level level, const char *format, va_list args)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = 0;
	/* libfuse numbers its levels as syslog does. */
	report(level < FUSE_LOG_ERR ? REPORT_ERROR : (enum report_level)level, "%s", text);
}

static void wake(int number)
{
}

int front_new(struct front **result, struct fs *fs, const struct front_options *options)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops = { .init = front_init };
	struct front *front;
	char *text = NULL, *source = NULL, fixed[96];
	int rc = -ENOMEM;

	front = calloc(1, sizeof(*front));
	if (!front)
		return -ENOMEM;
	front->fs = fs;
	front_name_ops(&ops);
	front_file_ops(&ops);
	fuse_set_log_func(log_from_fuse);

	/* The source has commas: escaped once for libfuse, which undoes it. */
	if (asprintf(&source, "fsname=%s", options->source) < 0) {
		source = NULL;
		goto out;
	}
	/* Others than root are let in, and the kernel checks their permissions. */
	snprintf(fixed, sizeof(fixed), "subtype=brickfs,%sdefault_permissions,max_read=%u",
		 geteuid() ? "" : "allow_other,", FRONT_IO_MAX);
	if (fuse_opt_add_opt(&text, fixed) || fuse_opt_add_opt_escaped(&text, source) ||
	    (*options->kernel && fuse_opt_add_opt(&text, options->kernel)))
		goto out;
	if (fuse_opt_add_arg(&args, "brickfs") || fuse_opt_add_arg(&args, "-o") || fuse_opt_add_arg(&args, text) ||
	    (options->debug && fuse_opt_add_arg(&args, "-d")))
		goto out;
	front->session = fuse_session_new(&args, &ops, sizeof(ops), front);
	rc = front->session ? 0 : -EINVAL;
out:
	fuse_opt_free_args(&args);
	free(text);
	free(source);
	if (rc)
		free(front);
	else
		*result = front;
	return rc;
}

int front_mount(struct front *front, const char *dir, dev_t *device)
{
	int rc;

	front->dir = strdup(dir);
	if (!front->dir)
		return -ENOMEM;
	errno = 0;
	if (fuse_session_mount(front->session, dir)) {
		rc = errno ? -errno : -EIO;
		free(front->dir);
		front->dir = NULL;
		return rc;
	}
	rc = mountpoint_device(dir, &front->device);
	*device = front->device;
	return rc;
}

int front_loop(struct front *front)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct sigaction action = { .sa_handler = wake }, former;
	int rc;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(config, THREADS_MAX);
	fuse_loop_cfg_set_idle_threads(config, THREADS_IDLE);

	sigemptyset(&action.sa_mask);
	sigaction(WAKE_SIGNAL, &action, &former);
	front->loop_thread = pthread_self();
	atomic_store(&front->looping, true);
	rc = fuse_session_loop_mt(front->session, config);
	atomic_store(&front->looping, false);
	fuse_loop_cfg_destroy(config);
	/* Above 0: the number of a signal that ended it. */
	return rc < 0 ? rc : 0;
}

void front_exit(struct front *front)
{
	const struct timespec pause = { .tv_nsec = 20000000 };

	fuse_session_exit(front->session);
	/* libfuse looks at its flag and then waits: a signal in between is lost, so more than one. */
	while (atomic_load(&front->looping)) {
		pthread_kill(front->loop_thread, WAKE_SIGNAL);
		nanosleep(&pause, NULL);
	}
}

void front_unmount(struct front *front)
{
	dev_t there;
	int pipe[2];

	if (!front->dir)
		return;
	/*
	 * libfuse unmounts whatever lies there now, unless its descriptor says (POLLERR) that the mount is gone.  When
	 * ours is not there any more but lives on detached, it gets a descriptor that says so, which also lets go of /dev/fuse:
	 * the kernel then answers whoever still waits.
	 */
	if ((mountpoint_device(front->dir, &there) || there != front->device) && !pipe2(pipe, O_CLOEXEC)) {
		dup3(pipe[1], fuse_session_fd(front->session), O_CLOEXEC);
		close(pipe[0]);
		close(pipe[1]);
	}
	fuse_session_unmount(front->session);
	free(front->dir);
	front->dir = NULL;
}

void front_delete(struct front *front)
{
	if (!front)
		return;
	front_unmount(front);
	fuse_session_destroy(front->session);
	free(front);
}
