/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front - the FUSE session (front.h): what is agreed with the kernel, mounting and unmounting.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "front.h"
#include "mountpoint.h"
#include "report.h"

/* Write-back, read-ahead and asynchronous direct I/O that the kernel has under way at once; its default of 12 starves the lanes. */
#define BACKGROUND_MAX 64

struct front {
	struct fs *fs;
	struct fuse_session *session;
	struct front_loop *loop;
	char *dir;		/* NULL: not mounted */
	dev_t device;
};

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

struct front_loop *front_loop_of(fuse_req_t req)
{
	struct front *front = fuse_req_userdata(req);

	return front->loop;
}

const char *front_where(fuse_req_t req, dev_t *device)
{
	struct front *front = fuse_req_userdata(req);

	*device = front->device;
	return front->dir;
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
			       FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_DONT_MASK | FUSE_CAP_IOCTL_DIR;

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
	front_going_ops(&ops);
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
	rc = front->session ? front_loop_new(&front->loop, front->session, fs) : -EINVAL;
	if (rc && front->session)
		fuse_session_destroy(front->session);
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
	dev_t before;
	int rc;

	front->dir = strdup(dir);
	if (!front->dir)
		return -ENOMEM;
	rc = mountpoint_device(dir, &before);
	errno = 0;
	if (!rc && fuse_session_mount(front->session, dir))
		rc = errno ? -errno : -EIO;
	if (rc) {
		free(front->dir);
		front->dir = NULL;
		return rc;
	}
	rc = mountpoint_device(dir, &front->device);
	/* Unmounted already: what lies below is not ours. No mount has number 0. */
	if (!rc && front->device == before)
		front->device = 0;
	*device = front->device;
	return rc;
}

int front_loop(struct front *front)
{
	return front_loop_run(front->loop);
}

void front_exit(struct front *front)
{
	front_loop_stop(front->loop);
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
	front_loop_delete(front->loop);
	free(front);
}
