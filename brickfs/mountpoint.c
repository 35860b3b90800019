/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mountpoint - where a filesystem is mounted, and the run file (mountpoint.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <mntent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "mountpoint.h"

#define RUN_DIR "/run/brickfs"
#define POLL_NS 10000000L
/* After the last umount(2) the kernel tells the daemon at once; one that has not noticed by then serves another mount. */
#define NOTICE_MS 10000
#define FILE_MAX_BYTES 1024

int mountpoint_resolve(const char *dir, char path[PATH_MAX])
{
	char copy[PATH_MAX], parent[PATH_MAX], *name;
	size_t length = strlen(dir);

	if (realpath(dir, path))
		return 0;
	if (errno != ENOTCONN)
		return -errno;

	/* A dead mount: its own path may not be walked into, its parent's may. */
	if (length >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, dir, length + 1);
	while (length > 1 && copy[length - 1] == '/')
		copy[--length] = 0;
	name = strrchr(copy, '/');
	if (name)
		*name++ = 0;
	else
		name = copy;
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return -ENOTCONN;
	if (!realpath(name == copy ? "." : *copy ? copy : "/", parent))
		return -errno;
	if (snprintf(path, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

int mountpoint_device(const char *path, dev_t *device)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &stx))
		return -errno;
	*device = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	return 0;
}

int mountpoint_ask(const char *path, dev_t *device)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx))
		return -errno;
	if (device)
		*device = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	return 0;
}

int mountpoint_type(const char *path, char *type, size_t size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent entry, *m;
	char buffer[4 * PATH_MAX];
	int rc = -ENOENT;

	if (!mounts)
		return -errno;
	while ((m = getmntent_r(mounts, &entry, buffer, sizeof(buffer))))
		if (!strcmp(m->mnt_dir, path)) {
			/* The last one is the topmost. */
			snprintf(type, size, "%s", m->mnt_type);
			rc = 0;
		}
	endmntent(mounts);
	return rc;
}

static int update_table(const char *leave, struct libmnt_fs *enter)
{
	struct libmnt_update *update = mnt_new_update();
	int rc = -ENOMEM;

	if (update) {
		rc = mnt_update_set_fs(update, 0, leave, enter);
		if (!rc)
			rc = mnt_update_table(update, NULL);
		else if (rc > 0)
			rc = 0;	/* nothing to do */
	}
	mnt_free_update(update);
	return rc;
}

int mountpoint_enter(const char *source, const char *path)
{
	struct libmnt_fs *fs = mnt_new_fs();
	int rc = -ENOMEM;

	/* Left behind by one that was unmounted past libmount. */
	update_table(path, NULL);
	if (fs && !mnt_fs_set_source(fs, source) && !mnt_fs_set_target(fs, path) &&
	    !mnt_fs_set_fstype(fs, MOUNTPOINT_TYPE) && !mnt_fs_set_options(fs, "_netdev"))
		rc = update_table(NULL, fs);
	mnt_unref_fs(fs);
	return rc;
}

int mountpoint_leave(const char *path)
{
	return update_table(path, NULL);
}

unsigned mountpoint_count(dev_t device)
{
	FILE *info = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	unsigned count = 0;

	if (!info)
		return 0;
	/* "36 35 98:0 /mnt1 ...": the third field is the device, see proc(5) */
	while (getline(&line, &size, info) > 0) {
		unsigned maj, min;

		if (sscanf(line, "%*d %*d %u:%u", &maj, &min) == 2 && makedev(maj, min) == device)
			count++;
	}
	free(line);
	fclose(info);
	return count;
}

int mountpoint_ask_for(const char *path, dev_t device)
{
	dev_t there;
	int rc = mountpoint_ask(path, &there);

	if (!rc && there == device)
		return 0;
	if (!mountpoint_count(device))
		return -ENODEV;
	return rc ? rc : -EXDEV;
}

int mountpoint_set_readahead(dev_t device, unsigned kib)
{
	char path[96], text[16];
	int fd, n, rc = 0;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "%u\n", kib);
	if (write(fd, text, (size_t)n) != n)
		rc = errno ? -errno : -EIO;
	close(fd);
	return rc;
}

static void runfile_path(dev_t device, char *path, size_t size)
{
	snprintf(path, size, RUN_DIR "/%u:%u", major(device), minor(device));
}

static int runfile_say(int fd, const char *text)
{
	size_t length = strlen(text);

	/* Longer first: who reads in between sees the old words or the new ones with a tail that no word begins. */
	if (pwrite(fd, text, length, 0) != (ssize_t)length)
		return errno ? -errno : -EIO;
	return ftruncate(fd, (off_t)length) ? -errno : 0;
}

int runfile_create(dev_t device, unsigned timeo_s)
{
	char path[64], text[64];
	struct stat here, there;
	int fd, rc;

	if (mkdir(RUN_DIR, 0755) && errno != EEXIST)
		return -errno;
	runfile_path(device, path, sizeof(path));
	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0)
			return -errno;
		/* The kernel gives a number again when the mount is gone: the last daemon may be about to remove its file. */
		if (flock(fd, LOCK_EX)) {
			rc = -errno;
			goto fail;
		}
		if (!fstat(fd, &here) && !stat(path, &there) && here.st_ino == there.st_ino && here.st_dev == there.st_dev)
			break;
		close(fd);
	}
	snprintf(text, sizeof(text), "serving %u %ld\n", timeo_s, (long)getpid());
	rc = runfile_say(fd, text);
	if (!rc)
		return fd;
fail:
	close(fd);
	return rc;
}

void runfile_ending(int fd)
{
	/* If this cannot be written, who waits is told by the lock alone. */
	(void)!pwrite(fd, "ending ", 7, 0);
}

void runfile_close(int fd, dev_t device, const char *text)
{
	char path[64], words[FILE_MAX_BYTES];

	if (text)
		snprintf(words, sizeof(words), "failed %s\n", text);
	else
		snprintf(words, sizeof(words), "done\n");
	runfile_say(fd, words);
	runfile_path(device, path, sizeof(path));
	unlink(path);
	close(fd);
}

int runfile_open(dev_t device)
{
	char path[64];
	int fd;

	runfile_path(device, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (!flock(fd, LOCK_SH | LOCK_NB)) {
		/* Nobody holds it: left behind by a daemon that was killed. */
		close(fd);
		return -ENOENT;
	}
	return fd;
}

static void runfile_read(int fd, char *text)
{
	ssize_t n = pread(fd, text, FILE_MAX_BYTES - 1, 0);

	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, "\n")] = 0;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int runfile_wait(int fd, char *text, size_t size)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	uint64_t start = now_ms(), limit_ms = 60000;
	char words[FILE_MAX_BYTES];
	unsigned timeo_s;

	snprintf(text, size, "%s", "");
	runfile_read(fd, words);
	if (sscanf(words, "%*s %u", &timeo_s) == 1)
		limit_ms = (timeo_s + 30ull) * 1000;	/* a brick may be away that long, and then there is work left */

	for (;;) {
		uint64_t waited = now_ms() - start;

		if (!flock(fd, LOCK_SH | LOCK_NB)) {
			runfile_read(fd, words);
			if (!strcmp(words, "done"))
				return 0;
			if (!strncmp(words, "failed ", 7)) {
				snprintf(text, size, "%s", words + 7);
				return -EIO;
			}
			return -ESRCH;
		}
		if (waited > limit_ms)
			return -ETIMEDOUT;
		if (waited > NOTICE_MS) {
			runfile_read(fd, words);
			if (!strncmp(words, "serving", 7))
				return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
}
