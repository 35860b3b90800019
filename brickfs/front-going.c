/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front-going - XFS_IOC_GOINGDOWN on the root directory: the mount stops (front.h, and fs_shutdown() of core.h).
 *
 * The request is declared as one that only answers (_IOR), and its argument is read all the same: FUSE, which goes by the
 * declaration, does not bring it.  So it is read from the caller's memory.
 *
 * DEFAULT wants also what the kernel has in its pages.  syncfs(2) makes the kernel send it, in the background, and may return
 * before it is here.  But what it sends in the background is in one queue: when a later one of those has arrived, so
 * have the writes, and when every thread has finished what it had read by then, they are done.  The later one is the release
 * of a file that is opened for that: under a name that is answered only to the thread that asks for it.  Twice, because
 * a kernel may hold a page back that was changed while it was on its way.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "front.h"
#include "report.h"

/* As in xfs_fs.h; ext4 and f2fs have the same. */
#define GOINGDOWN _IOR('X', 125, uint32_t)

/* The marker: a node that is no inode of the core's, which end far below. */
#define MARKER_INO (UINT64_MAX - 1)
#define WAIT_NS 100000000

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool busy;		/* a thread flushes */
	pid_t asker;		/* that thread, while it opens the marker; 0 */
	char name[40];
	uint64_t handle;	/* of the marker that is open, or was last */
	uint64_t released;
} going = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .handle = 1 };

bool front_going_lookup(fuse_req_t req, const char *name)
{
	struct fuse_entry_param entry = { .ino = MARKER_INO, .attr_timeout = FRONT_TIMEOUT };
	bool mine;

	pthread_mutex_lock(&going.lock);
	mine = going.asker && fuse_req_ctx(req)->pid == going.asker && !strcmp(name, going.name);
	pthread_mutex_unlock(&going.lock);
	if (!mine)
		return false;
	entry.attr.st_ino = MARKER_INO;
	entry.attr.st_mode = S_IFREG | 0444;
	entry.attr.st_nlink = 1;
	fuse_reply_entry(req, &entry);
	return true;
}

bool front_going_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino != MARKER_INO)
		return false;
	pthread_mutex_lock(&going.lock);
	fi->fh = going.handle;
	pthread_mutex_unlock(&going.lock);
	fuse_reply_open(req, fi);
	return true;
}

bool front_going_release(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	if (ino != MARKER_INO)
		return false;
	pthread_mutex_lock(&going.lock);
	going.released = fi->fh;
	pthread_cond_broadcast(&going.changed);
	pthread_mutex_unlock(&going.lock);
	fuse_reply_err(req, 0);
	return true;
}

/* All that the kernel has sent by now has arrived, and is done. */
static int settle(fuse_req_t req, int dir)
{
	struct fuse_session *session = front_session(req);
	uint64_t random, handle;
	int fd;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -errno;
	pthread_mutex_lock(&going.lock);
	/* The kernel remembers names that were not there: none is used twice. */
	snprintf(going.name, sizeof(going.name), ".brickfs-going-%016" PRIx64, random);
	handle = ++going.handle;
	going.asker = gettid();
	pthread_mutex_unlock(&going.lock);
	fd = openat(dir, going.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		fd = -errno;
	pthread_mutex_lock(&going.lock);
	going.asker = 0;
	pthread_mutex_unlock(&going.lock);
	if (fd < 0)
		return fd;
	close(fd);
	pthread_mutex_lock(&going.lock);
	while (going.released != handle && !fuse_session_exited(session)) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WAIT_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&going.changed, &going.lock, &until);
	}
	pthread_mutex_unlock(&going.lock);
	front_loop_settle(front_loop_of(req));
	return 0;
}

/* What the kernel has in its pages comes to us. Of the kernel's errors those of writes count, too. */
static int flush_kernel(fuse_req_t req)
{
	const char *path;
	struct stat st;
	dev_t device;
	int dir, rc = 0;

	path = front_where(req, &device);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st))
		rc = -errno;
	else if (st.st_dev != device)
		rc = -EXDEV;
	if (rc)
		report_error("%s: what the kernel has not handed over is lost: the mount is not found there: %s", path, strerror(-rc));
	for (unsigned turn = 0; turn < 2 && !rc; turn++) {
		if (syncfs(dir))
			rc = -errno;
		if (!rc)
			rc = settle(req, dir);
		if (rc)
			report_error("%s: the kernel cannot hand over what it has: %s", path, strerror(-rc));
	}
	/* Written later than syncfs() looked. */
	if (!rc && syncfs(dir))
		rc = -errno;
	if (dir >= 0)
		close(dir);
	return rc;
}

/* What it has read, too, is not to be had any more. */
static void drop_caches(fuse_req_t req)
{
	struct fs *fs = front_fs(req);
	uint64_t ino[256], after = 0;

	for (size_t n; (n = fs_held_files(fs, after, ino, sizeof(ino) / sizeof(ino[0]))); after = ino[n - 1])
		for (size_t k = 0; k < n; k++)
			fuse_lowlevel_notify_inval_inode(front_session(req), ino[k], 0, 0);
}

static int shut_down(fuse_req_t req, enum fs_going how)
{
	struct fs *fs = front_fs(req);
	int rc = 0, r;

	if (how == FS_GOING_DEFAULT && !fs_stopped(fs)) {
		if (front_loop_alone(front_loop_of(req)))
			return -EAGAIN;	/* nobody would serve what the kernel sends */
		pthread_mutex_lock(&going.lock);
		rc = going.busy ? -EBUSY : 0;
		going.busy = true;
		pthread_mutex_unlock(&going.lock);
		if (rc)
			return rc;
		rc = flush_kernel(req);
		pthread_mutex_lock(&going.lock);
		going.busy = false;
		pthread_mutex_unlock(&going.lock);
	}
	r = fs_shutdown(fs, how);
	drop_caches(req);
	return rc ? -EIO : r;
}

static int read_argument(pid_t pid, void *at, uint32_t *flags)
{
	struct iovec here = { flags, sizeof(*flags) }, there = { at, sizeof(*flags) };
	ssize_t n;

	/* 0: the caller is in another PID namespace, which ours does not see into. */
	n = pid ? process_vm_readv(pid, &here, 1, &there, 1, 0) : (errno = ESRCH, -1);
	if (n == sizeof(*flags))
		return 0;
	if (n >= 0 || errno == EFAULT)
		return -EFAULT;
	report_warning("a request to shut down (XFS_IOC_GOINGDOWN) is refused: its flags cannot be read from the memory of process %d: %s",
		       (int)pid, strerror(errno));
	return -EPERM;
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
		     const void *in, size_t in_size, size_t out_size)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	uint32_t how;
	int rc;

	if (cmd != GOINGDOWN || ino != FS_ROOT_INO) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	/* FUSE tells whose it is, and not with which capabilities. */
	rc = ctx->uid ? -EPERM : read_argument(ctx->pid, arg, &how);
	if (!rc && how > FS_GOING_NOLOGFLUSH)
		rc = -EINVAL;
	if (!rc)
		rc = shut_down(req, (enum fs_going)how);
	if (rc)
		front_reply(req, rc);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}

void front_going_ops(struct fuse_lowlevel_ops *ops)
{
	ops->ioctl = op_ioctl;
}
