/* SPDX-License-Identifier: BSD-3-Clause */
/* xattr - extended attributes: records of their own, values up to 64 KiB. */
#include "fs.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#define LIST_MAX 65536		/* of all names of an inode, as listxattr(2) can answer */

static size_t list_length(const struct inode *i)
{
	size_t length = 0;

	for (struct xattr *x = i->xattrs; x; x = x->next)
		length += x->name_length + 1;
	return length;
}

int fs_setxattr(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	size_t length = strlen(name), bytes;
	struct timespec now;
	struct xattr *x;
	struct inode *i;
	uint64_t batch = 0;
	int r = fs_writable(fs);

	if (r)
		return r;
	if (!length || length > FS_NAME_MAX)
		return -ERANGE;
	if (size > FS_XATTR_VALUE_MAX)
		return -E2BIG;
	bytes = fmt_xattr_size((unsigned)length, (uint32_t)size);
	r = room_admit(fs, bytes, false);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	x = i ? ns_xattr(i, name, length) : NULL;
	if (!i)
		r = -ESTALE;
	else if (x && (flags & XATTR_CREATE))
		r = -EEXIST;
	else if (!x && (flags & XATTR_REPLACE))
		r = -ENODATA;
	else if (!x && list_length(i) + length + 1 > LIST_MAX)
		r = -ENOSPC;
	else if (!(batch = log_begin(fs, bytes)))
		r = -ENOMEM;
	if (!r)
		r = ns_set_xattr(fs, i, name, length, value, size);
	if (!r) {
		fs_now(&now);
		i->ctime = now;
		log_put_xattr(fs, i, ns_xattr(i, name, length), &now, false);
	}
	pthread_mutex_unlock(&fs->lock);
	return r ? r : fs_end(fs, batch);
}

int64_t fs_getxattr(struct fs *fs, uint64_t ino, const char *name, void *value, size_t size)
{
	struct inode *i;
	struct xattr *x;
	int64_t r = fs_stopped(fs);

	if (r)
		return r;
	r = -ESTALE;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i) {
		x = i->xattrs ? ns_xattr(i, name, strlen(name)) : NULL;
		if (!x)
			r = -ENODATA;
		else if (size && size < x->length)
			r = -ERANGE;
		else {
			r = x->length;
			if (size)
				memcpy(value, x->value, x->length);
		}
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int64_t fs_listxattr(struct fs *fs, uint64_t ino, char *list, size_t size)
{
	struct inode *i;
	int64_t r = fs_stopped(fs);

	if (r)
		return r;
	r = -ESTALE;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i) {
		r = (int64_t)list_length(i);
		if (size && size < (size_t)r)
			r = -ERANGE;
		else if (size)
			for (struct xattr *x = i->xattrs; x; x = x->next) {
				memcpy(list, x->name, x->name_length + 1u);
				list += x->name_length + 1;
			}
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int fs_removexattr(struct fs *fs, uint64_t ino, const char *name)
{
	struct timespec now;
	struct inode *i;
	struct xattr *x;
	uint64_t batch = 0;
	int r = fs_writable(fs);

	if (!r)
		r = room_admit(fs, 0, true);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	x = i ? ns_xattr(i, name, strlen(name)) : NULL;
	if (!x)
		r = i ? -ENODATA : -ESTALE;
	else if (!(batch = log_begin(fs, fmt_xattr_size(x->name_length, 0))))
		r = -ENOMEM;
	if (!r) {
		fs_now(&now);
		i->ctime = now;
		log_put_xattr(fs, i, x, &now, true);
		ns_drop_xattr(fs, i, x);
	}
	pthread_mutex_unlock(&fs->lock);
	return r ? r : fs_end(fs, batch);
}
