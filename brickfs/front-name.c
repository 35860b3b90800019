/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front-name - requests about names and attributes: lookup, create, remove,
 * rename, setattr, directories (front.h).
 *
 * An answer with an entry hands the core's reference to the kernel, which gives
 * it back by FORGET; when the answer does not arrive (the request was interrupted, the mount is gone), it is given back here.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "front.h"

#define DIR_BUFFER_MAX (128u << 10)

static struct fs_cred credentials(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct fs_cred){ .uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask };
}

static void reply_entry(fuse_req_t req, int rc, const struct stat *st)
{
	struct fs *fs = front_fs(req);
	struct fuse_entry_param entry;

	if (rc) {
		front_reply(req, rc);
		return;
	}
	front_entry(&entry, st);
	if (fuse_reply_entry(req, &entry))
		fs_forget(fs, st->st_ino, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param nothing = { .entry_timeout = FRONT_TIMEOUT };
	struct stat st;
	int rc;

	if (parent == FS_ROOT_INO && front_going_lookup(req, name))
		return;
	rc = fs_lookup(front_fs(req), parent, name, &st);
	if (rc == -ENOENT)
		fuse_reply_entry(req, &nothing);	/* the kernel remembers that there is no such name */
	else
		reply_entry(req, rc, &st);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t references)
{
	fs_forget(front_fs(req), ino, references);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		fs_forget(front_fs(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, int rc, const struct stat *st)
{
	if (rc)
		front_reply(req, rc);
	else
		fuse_reply_attr(req, st, FRONT_TIMEOUT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int rc = 0;

	/* By file handle: asked on behalf of a write(2) into the kernel's pages (front-file.c). */
	if (fi && fi->fh)
		rc = front_take_write_error(ino);
	if (fi && !rc)
		rc = fs_stopped(front_fs(req));
	if (!rc)
		rc = fs_getattr(front_fs(req), ino, &st);
	reply_attr(req, rc, &st);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	unsigned which = 0;
	struct stat st;
	int rc;

	if (to_set & FUSE_SET_ATTR_MODE)
		which |= FS_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		which |= FS_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		which |= FS_SET_GID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		which |= FS_SET_SIZE;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		which |= FS_SET_ATIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		which |= FS_SET_ATIME;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		which |= FS_SET_MTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		which |= FS_SET_MTIME;
	/* With the write-back cache the kernel keeps the ctime of files, and says it. */
	if (to_set & FUSE_SET_ATTR_CTIME)
		which |= FS_SET_CTIME;

	rc = fs_setattr(front_fs(req), ino, attr, which, &st);
	reply_attr(req, rc, &st);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[FS_SYMLINK_MAX + 1];
	int rc = fs_readlink(front_fs(req), ino, target, sizeof(target));

	if (rc < 0)
		front_reply(req, rc);
	else
		fuse_reply_readlink(req, target);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs_cred cred = credentials(req);
	struct stat st;
	int rc = fs_mknod(front_fs(req), parent, name, mode, rdev, &cred, &st);

	reply_entry(req, rc, &st);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs_cred cred = credentials(req);
	struct stat st;
	int rc = fs_mkdir(front_fs(req), parent, name, mode, &cred, &st);

	reply_entry(req, rc, &st);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs_cred cred = credentials(req);
	struct stat st;
	int rc = fs_symlink(front_fs(req), target, parent, name, &cred, &st);

	reply_entry(req, rc, &st);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct stat st;
	int rc = fs_link(front_fs(req), ino, parent, name, &st);

	reply_entry(req, rc, &st);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	front_reply(req, fs_unlink(front_fs(req), parent, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	front_reply(req, fs_rmdir(front_fs(req), parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		front_reply(req, -EINVAL);
	else
		front_reply(req, fs_rename(front_fs(req), parent, name, new_parent, new_name, flags));
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs_cred cred = credentials(req);
	struct fs *fs = front_fs(req);
	struct fuse_entry_param entry;
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct stat st;
	int rc;

	rc = fs_mknod(fs, parent, name, S_IFREG | (mode & 07777), 0, &cred, &st);
	if (rc) {
		front_reply(req, rc);
		return;
	}
	rc = fs_open(fs, st.st_ino, write);
	if (rc) {
		fs_forget(fs, st.st_ino, 1);
		front_reply(req, rc);
		return;
	}
	fi->fh = write;
	fi->keep_cache = 1;
	front_entry(&entry, &st);
	if (fuse_reply_create(req, &entry, fi)) {
		fs_release(fs, st.st_ino);
		fs_forget(fs, st.st_ino, 1);
	}
}

/*
 * A directory needs no handle: it is referenced while it is open, and positions are its own.  ENOSYS says so, and
 * the kernel then caches what it reads and never asks again (FUSE_NO_OPENDIR_SUPPORT, Linux 5.1).
 */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS);
}

struct listing {
	fuse_req_t req;
	struct fs *fs;
	char *buffer;
	size_t size, used;
	bool plus;
};

static int list_entry(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct listing *l = arg;
	size_t room = l->size - l->used, need;
	struct fuse_entry_param entry;

	if (!l->plus) {
		need = fuse_add_direntry(l->req, l->buffer + l->used, room, name, st, (off_t)position);
	} else {
		front_entry(&entry, st);
		/* No reference for these two: an entry without a node makes the kernel look at the name alone. */
		if (!strcmp(name, ".") || !strcmp(name, ".."))
			entry.ino = 0;
		need = fuse_add_direntry_plus(l->req, l->buffer + l->used, room, name, &entry, (off_t)position);
	}
	if (need > room)
		return 1;
	l->used += need;
	return 0;
}

/* Gives back what a listing took, entry by entry as fuse_add_direntry_plus() laid them out. */
static void forget_listing(struct listing *l)
{
	struct fuse_direntplus entry;

	for (size_t at = 0; at + FUSE_NAME_OFFSET_DIRENTPLUS <= l->used; at += FUSE_DIRENTPLUS_SIZE(&entry)) {
		memcpy(&entry, l->buffer + at, FUSE_NAME_OFFSET_DIRENTPLUS);
		if (entry.entry_out.nodeid)
			fs_forget(l->fs, entry.entry_out.nodeid, 1);
	}
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t position, bool plus)
{
	struct listing l = { .req = req, .fs = front_fs(req), .plus = plus };
	int rc;

	l.size = size < DIR_BUFFER_MAX ? size : DIR_BUFFER_MAX;
	l.buffer = front_buffer(l.size);
	rc = l.buffer ? fs_readdir(l.fs, ino, (uint64_t)position, plus, list_entry, &l) : -ENOMEM;
	if (rc < 0 && !l.used) {
		front_reply(req, rc);
		return;
	}
	/* An error behind entries comes again when the kernel asks on from there. */
	if (fuse_reply_buf(req, l.buffer, l.used) && plus)
		forget_listing(&l);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t position, struct fuse_file_info *fi)
{
	list(req, ino, size, position, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t position, struct fuse_file_info *fi)
{
	list(req, ino, size, position, true);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	front_reply(req, fs_fsync(front_fs(req), ino, datasync));
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int rc;

	memset(&st, 0, sizeof(st));
	rc = fs_statfs(front_fs(req), &st);
	if (rc)
		front_reply(req, rc);
	else
		fuse_reply_statfs(req, &st);
}

void front_name_ops(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->create = op_create;
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->fsyncdir = op_fsyncdir;
	ops->statfs = op_statfs;
}
