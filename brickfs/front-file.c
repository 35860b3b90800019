/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front-file - requests about contents and extended attributes (front.h).
 *
 * With the write-back cache the kernel reads through a descriptor that was
 * opened for writing, appends by itself, and writes later than write(2): an
 * error of such a write is the kernel's to tell at fsync and close.  But who just writes on, and never gets
 * there, would go on for ever on a full volume: so write(2) hears of it too.  The inode's attributes are
 * invalidated, which makes the kernel ask for them, by file handle, before the next write(2) into its
 * pages; and that question gets the error for an answer, once.
 * fi->fh: 1 when this open may write.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "front.h"

/* Background writes that failed and that no write(2) has heard of: few, and when there are too many fsync still tells. */
#define FAILED_MAX 256
static struct failed {
	uint64_t ino;
	int error;
} failed[FAILED_MAX];
static atomic_uint failed_count;
static pthread_mutex_t failed_lock = PTHREAD_MUTEX_INITIALIZER;

static void write_failed(uint64_t ino, int error)
{
	unsigned i, count;

	pthread_mutex_lock(&failed_lock);
	count = atomic_load(&failed_count);
	for (i = 0; i < count && failed[i].ino != ino; i++)
		;
	if (i < FAILED_MAX)
		failed[i] = (struct failed){ ino, error };
	if (i == count && i < FAILED_MAX)
		atomic_store(&failed_count, count + 1);
	pthread_mutex_unlock(&failed_lock);
}

int front_take_write_error(uint64_t ino)
{
	int error = 0;
	unsigned count;

	if (!atomic_load(&failed_count))
		return 0;
	pthread_mutex_lock(&failed_lock);
	count = atomic_load(&failed_count);
	for (unsigned i = 0; i < count; i++)
		if (failed[i].ino == ino) {
			error = failed[i].error;
			failed[i] = failed[count - 1];
			atomic_store(&failed_count, count - 1);
			break;
		}
	pthread_mutex_unlock(&failed_lock);
	return error;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct fs *fs = front_fs(req);
	int rc;

	if (front_going_open(req, ino, fi))
		return;
	rc = fs_open(fs, ino, write);
	if (rc) {
		front_reply(req, rc);
		return;
	}
	if (write)
		front_take_write_error(ino);	/* an earlier opener's */
	fi->fh = write;
	fi->keep_cache = 1;
	if (fuse_reply_open(req, fi))
		fs_release(fs, ino);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!front_going_release(req, ino, fi))
		front_reply(req, fs_release(front_fs(req), ino));
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	/* The error of a background write is told once: not to somebody who only read. */
	if (fi->fh)
		front_take_write_error(ino);
	front_reply(req, fi->fh ? fs_flush(front_fs(req), ino) : 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	void *buffer = front_buffer(size);
	int64_t n;

	if (!buffer) {
		front_reply(req, -ENOMEM);
		return;
	}
	n = fs_read(front_fs(req), ino, buffer, size, (uint64_t)offset);
	if (n < 0)
		front_reply(req, (int)n);
	else
		fuse_reply_buf(req, buffer, (size_t)n);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct fuse_session *session = front_session(req);
	bool background = fi->writepage;
	int64_t n = fs_write(front_fs(req), ino, data, size, (uint64_t)offset);

	if (n >= 0) {
		fuse_reply_write(req, (size_t)n);
		return;
	}
	if (background)
		write_failed(ino, (int)n);
	front_reply(req, (int)n);
	/* After the answer: the kernel may drop its last hold of the inode in here, and would wait for that write. */
	if (background)
		fuse_lowlevel_notify_inval_inode(session, ino, -1, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	front_take_write_error(ino);	/* fsync(2) tells */
	front_reply(req, fs_fsync(front_fs(req), ino, datasync));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	front_reply(req, fs_fallocate(front_fs(req), ino, mode, (uint64_t)offset, (uint64_t)length));
}

/* What the core keeps. system. would be POSIX ACLs, which must not look as if they were honoured. */
static bool namespace_kept(const char *name)
{
	return !strncmp(name, "user.", 5) || !strncmp(name, "security.", 9) || !strncmp(name, "trusted.", 8);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	int rc = -EOPNOTSUPP;

	if (namespace_kept(name))
		rc = fs_setxattr(front_fs(req), ino, name, value, size, flags);
	front_reply(req, rc);
}

static void reply_xattr(fuse_req_t req, int64_t n, const char *buffer, size_t size)
{
	if (n < 0)
		front_reply(req, (int)n);
	else if (size)
		fuse_reply_buf(req, buffer, (size_t)n);
	else
		fuse_reply_xattr(req, (size_t)n);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	char *buffer = NULL;
	int64_t n;

	if (!namespace_kept(name)) {
		front_reply(req, -EOPNOTSUPP);
		return;
	}
	if (size && !(buffer = front_buffer(size)))
		n = -ENOMEM;
	else
		n = fs_getxattr(front_fs(req), ino, name, buffer, size);
	reply_xattr(req, n, buffer, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char *buffer = NULL;
	int64_t n;

	if (size && !(buffer = front_buffer(size)))
		n = -ENOMEM;
	else
		n = fs_listxattr(front_fs(req), ino, buffer, size);
	reply_xattr(req, n, buffer, size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	int rc = -EOPNOTSUPP;

	if (namespace_kept(name))
		rc = fs_removexattr(front_fs(req), ino, name);
	front_reply(req, rc);
}

void front_file_ops(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->release = op_release;
	ops->flush = op_flush;
	ops->read = op_read;
	ops->write = op_write;
	ops->fsync = op_fsync;
	ops->fallocate = op_fallocate;
	ops->setxattr = op_setxattr;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->removexattr = op_removexattr;
}
