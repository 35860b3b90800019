/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mountpoint - the directory a filesystem is mounted on, and the run file by
 * which umount(8) finds the daemon that serves it.
 *
 * umount(2) returns when the kernel is done with a FUSE filesystem; the daemon
 * then still commits and releases the superblock.  So each daemon keeps a file
 * /run/brickfs/MAJOR:MINOR, named by the st_dev of its mount and locked
 * (flock) as long as the process lives: no process ID that could be another's by
 * now.  umount.fuse.brickfs opens it before it unmounts, and waits for the lock.
 * The file's words: "serving" while mounted, "ending" once the mount is gone,
 * then "done", or "failed" and a sentence.
 *
 * Everything returns 0 or a negative errno.  Not thread-safe in itself: one caller at a time.
 */
#ifndef BRICKFS_MOUNTPOINT_H
#define BRICKFS_MOUNTPOINT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define MOUNTPOINT_TYPE "fuse.brickfs"

/* The directory's absolute path without links, also when a dead FUSE mount (ENOTCONN) lies on it. */
int mountpoint_resolve(const char *dir, char path[PATH_MAX]);
/* The device number of what is mounted there, without a request to the filesystem: never waits for a daemon. */
int mountpoint_device(const char *path, dev_t *device);
/* The type of the topmost mount on exactly this path, into type: -ENOENT if nothing is mounted there. */
int mountpoint_type(const char *path, char *type, size_t size);
/*
 * Asks the filesystem itself, past the kernel's caches: 0, -ENOTCONN when a FUSE daemon has died. *device may be
 * NULL.  Waits for the daemon if there is one.
 */
int mountpoint_ask(const char *path, dev_t *device);
/*
 * The same of the mount that was made there, and is known by its device number.  Others may have been quicker: -ENODEV, it was
 * unmounted already; -EXDEV: it is mounted, but the path leads elsewhere, to what was mounted over it, or to where it was moved from.
 */
int mountpoint_ask_for(const char *path, dev_t device);
/* Mounts with this device number that this process sees. */
unsigned mountpoint_count(dev_t device);
/*
 * The kernel's read-ahead for the filesystem, in KiB: FUSE can only lower it at INIT, and 128 KiB
 * (the default) makes eight round trips of what one does.
 */
int mountpoint_set_readahead(dev_t device, unsigned kib);

/*
 * libmount's table of options that the kernel does not know (/run/mount/utab).  An entry makes umount(8) look the
 * mount's type up, and so find umount.fuse.brickfs; without one it takes statfs(2)'s word, "fuse", and looks no further.
 * It says _netdev, so that systemd, too, unmounts before the network goes.
 */
int mountpoint_enter(const char *source, const char *path);
int mountpoint_leave(const char *path);

/* The daemon's side. timeo_s: how long ending may take, for who waits. The descriptor, or a negative errno. */
int runfile_create(dev_t device, unsigned timeo_s);
/* Still locked; word: "ending". */
void runfile_ending(int fd);
/* Leaves the last word, removes the file and lets go of the lock. text: NULL for "done". */
void runfile_close(int fd, dev_t device, const char *text);

/* umount's side: -ENOENT when no living daemon has one for that device. */
int runfile_open(dev_t device);
/*
 * Waits until the daemon has ended: 0, -EIO (text says what the daemon failed with),
 * -ESRCH (it died without a last word), -EBUSY (it goes on serving: still mounted elsewhere),
 * -ETIMEDOUT (it is ending, but was not done in its time).
 */
int runfile_wait(int fd, char *text, size_t size);

#endif
