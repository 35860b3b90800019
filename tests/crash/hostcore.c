/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostcore - core.h over a directory of the host's own filesystem, as far as the
 * crash tests call it.  Linked into tests/crash/oracle-host instead of the core:
 * what the oracle expects of a filesystem is compared with what Linux does.
 * Inodes are O_PATH descriptors that stay open until the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core.h"
#include "simbrick.h"
#include "util.h"

struct fs {
	struct sim *sim;
	char path[64];
	struct { uint64_t ino; int fd; } *inodes;
	size_t count;
	uint64_t root;
};

/* One directory lives as long as the sim does not change: remounts find it again. */
static char the_path[64];
static struct sim *the_sim;

const char *fs_error_text(void)
{
	return "";
}

static uint64_t hide(struct fs *fs, uint64_t ino)
{
	return ino == fs->root ? FS_ROOT_INO : ino;
}

static int fd_of(struct fs *fs, uint64_t ino)
{
	size_t i;

	if (ino == FS_ROOT_INO)
		ino = fs->root;
	for (i = 0; i < fs->count; i++)
		if (fs->inodes[i].ino == ino)
			return fs->inodes[i].fd;
	fprintf(stderr, "hostcore: inode %llu was never seen\n", (unsigned long long)ino);
	abort();
}

static char *path_of(struct fs *fs, uint64_t ino, char *text)
{
	sprintf(text, "/proc/self/fd/%d", fd_of(fs, ino));
	return text;
}

static int learn(struct fs *fs, int dir, const char *name, struct stat *st)
{
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	size_t i;

	if (fd < 0)
		return -errno;
	if (fstat(fd, st))
		return -errno;
	for (i = 0; i < fs->count && fs->inodes[i].ino != st->st_ino; i++)
		;
	if (i < fs->count) {
		close(fd);
	} else {
		fs->inodes = need(realloc(fs->inodes, (fs->count + 1) * sizeof(*fs->inodes)));
		fs->inodes[fs->count].ino = st->st_ino;
		fs->inodes[fs->count++].fd = fd;
	}
	st->st_ino = hide(fs, st->st_ino);
	return 0;
}

int fs_make(const struct fs_make_options *options, struct fs_info *made)
{
	return 0;
}

static void remove_directory(const char *path)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf -- '%s'", path);
	if (system(command))
		fprintf(stderr, "hostcore: cannot remove %s\n", path);
}

static void remove_last(void)
{
	if (*the_path)
		remove_directory(the_path);
	*the_path = 0;
}

int fs_mount(struct fs **out, const struct fs_options *options)
{
	struct fs *fs = need(calloc(1, sizeof(*fs)));
	struct stat st;

	if (the_sim != options->backend_context || !*the_path) {
		if (!*the_path)
			atexit(remove_last);
		remove_last();
		snprintf(the_path, sizeof(the_path), "%s/oracle-host.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
		if (!mkdtemp(the_path) || chmod(the_path, 0755))
			return -errno;
		if (geteuid() || setxattr(the_path, "user.probe", "", 0, 0)) {
			printf("skipped: needs root, and a TMPDIR with user xattrs (%s: %s)\n", the_path, strerror(errno));
			exit(77);
		}
		removexattr(the_path, "user.probe");
		the_sim = options->backend_context;
	}
	fs->sim = options->backend_context;
	learn(fs, AT_FDCWD, the_path, &st);
	fs->root = st.st_ino;
	*out = fs;
	return 0;
}

int fs_unmount(struct fs *fs)
{
	size_t i;

	for (i = 0; i < fs->count; i++)
		close(fs->inodes[i].fd);
	free(fs->inodes);
	free(fs);
	return 0;
}

void fs_abandon(struct fs *fs)
{
	fs_unmount(fs);
	the_sim = NULL;
}

void fs_get_info(struct fs *fs, struct fs_info *info)
{
	memset(info, 0, sizeof(*info));
}

int fs_tick(struct fs *fs)
{
	return 0;
}

int fs_checkpoint(struct fs *fs)
{
	return 0;
}

int fs_check(struct fs *fs, struct fs_check_result *result)
{
	memset(result, 0, sizeof(*result));
	return 0;
}

int fs_repair(struct fs *fs)
{
	return 0;
}

int fs_lookup(struct fs *fs, uint64_t parent, const char *name, struct stat *st)
{
	return learn(fs, fd_of(fs, parent), name, st);
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t references)
{
}

int fs_getattr(struct fs *fs, uint64_t ino, struct stat *st)
{
	if (fstat(fd_of(fs, ino), st))
		return -errno;
	st->st_ino = hide(fs, st->st_ino);
	return 0;
}

int fs_setattr(struct fs *fs, uint64_t ino, const struct stat *in, unsigned which, struct stat *st)
{
	int fd = fd_of(fs, ino);
	char path[64];

	path_of(fs, ino, path);
	if ((which & FS_SET_SIZE) && truncate(path, in->st_size))
		return -errno;
	if (which & (FS_SET_UID | FS_SET_GID)) {
		if (fstat(fd, st) || fchownat(fd, "", in->st_uid, in->st_gid, AT_EMPTY_PATH))
			return -errno;
		/* the kernel's own clearing of set-id bits is the FUSE front's business */
		if (!S_ISLNK(st->st_mode) && chmod(path, st->st_mode & 07777))
			return -errno;
	}
	if ((which & FS_SET_MODE) && chmod(path, in->st_mode & 07777))
		return -errno;
	if (which & FS_SET_MTIME) {
		struct timespec times[2] = {in->st_atim, in->st_mtim};

		if (utimensat(fd, "", times, AT_EMPTY_PATH))
			return -errno;
	}
	return fs_getattr(fs, ino, st);
}

static int made(struct fs *fs, uint64_t parent, const char *name, const struct fs_cred *cred, struct stat *st)
{
	int dir = fd_of(fs, parent);
	struct stat up;

	if (fstat(dir, &up) || fchownat(dir, name, cred->uid, up.st_mode & S_ISGID ? (gid_t)-1 : cred->gid, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return learn(fs, dir, name, st);
}

int fs_mknod(struct fs *fs, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const struct fs_cred *cred, struct stat *st)
{
	if (mknodat(fd_of(fs, parent), name, mode, rdev))
		return -errno;
	return made(fs, parent, name, cred, st);
}

int fs_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode, const struct fs_cred *cred, struct stat *st)
{
	if (mkdirat(fd_of(fs, parent), name, mode))
		return -errno;
	return made(fs, parent, name, cred, st);
}

int fs_symlink(struct fs *fs, const char *target, uint64_t parent, const char *name, const struct fs_cred *cred, struct stat *st)
{
	if (symlinkat(target, fd_of(fs, parent), name))
		return -errno;
	return made(fs, parent, name, cred, st);
}

int fs_link(struct fs *fs, uint64_t ino, uint64_t parent, const char *name, struct stat *st)
{
	if (linkat(fd_of(fs, ino), "", fd_of(fs, parent), name, AT_EMPTY_PATH))
		return -errno;
	return fs_getattr(fs, ino, st);
}

int fs_unlink(struct fs *fs, uint64_t parent, const char *name)
{
	return unlinkat(fd_of(fs, parent), name, 0) ? -errno : 0;
}

int fs_rmdir(struct fs *fs, uint64_t parent, const char *name)
{
	return unlinkat(fd_of(fs, parent), name, AT_REMOVEDIR) ? -errno : 0;
}

int fs_rename(struct fs *fs, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name, unsigned flags)
{
	return renameat2(fd_of(fs, parent), name, fd_of(fs, new_parent), new_name, flags) ? -errno : 0;
}

int fs_readlink(struct fs *fs, uint64_t ino, char *buffer, size_t size)
{
	ssize_t n = readlinkat(fd_of(fs, ino), "", buffer, size - 1);

	if (n < 0)
		return -errno;
	buffer[n] = 0;
	return 0;
}

int fs_open(struct fs *fs, uint64_t ino, bool write)
{
	return 0;
}

int fs_release(struct fs *fs, uint64_t ino)
{
	return 0;
}

int fs_flush(struct fs *fs, uint64_t ino)
{
	return 0;
}

static int open_file(struct fs *fs, uint64_t ino, int flags)
{
	char path[64];
	int fd = open(path_of(fs, ino, path), flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int64_t fs_read(struct fs *fs, uint64_t ino, void *buffer, size_t size, uint64_t offset)
{
	int fd = open_file(fs, ino, O_RDONLY | O_NOATIME);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = pread(fd, buffer, size, offset);
	n = n < 0 ? -errno : n;
	close(fd);
	return n;
}

int64_t fs_write(struct fs *fs, uint64_t ino, const void *buffer, size_t size, uint64_t offset)
{
	int fd = open_file(fs, ino, O_WRONLY);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = pwrite(fd, buffer, size, offset);
	n = n < 0 ? -errno : n;
	close(fd);
	return n;
}

int fs_fsync(struct fs *fs, uint64_t ino, bool datasync)
{
	return 0;
}

int fs_fallocate(struct fs *fs, uint64_t ino, int mode, uint64_t offset, uint64_t length)
{
	int fd = open_file(fs, ino, O_WRONLY), rc;

	if (fd < 0)
		return fd;
	rc = fallocate(fd, mode, offset, length) ? -errno : 0;
	if (rc == -EOPNOTSUPP) {	/* tmpfs knows no zeroing: punch, then make it as long */
		rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) ? -errno : 0;
		if (!rc && !(mode & FALLOC_FL_KEEP_SIZE))
			rc = fallocate(fd, 0, offset, length) ? -errno : 0;
	}
	close(fd);
	return rc;
}

int fs_readdir(struct fs *fs, uint64_t ino, uint64_t from, bool plus, fs_dirent_fn fn, void *arg)
{
	int fd = open_file(fs, ino, O_RDONLY | O_DIRECTORY | O_NOATIME), rc = 0;
	uint64_t position = 0;
	struct dirent *d;
	struct stat st;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	while (!rc && (d = readdir(dir))) {
		if (++position <= from)
			continue;
		rc = !strcmp(d->d_name, "..") && ino == FS_ROOT_INO ? fs_getattr(fs, ino, &st)
								     : learn(fs, fd_of(fs, ino), d->d_name, &st);
		if (!rc && fn(arg, d->d_name, position, &st))
			break;
	}
	closedir(dir);
	return rc;
}

int fs_statfs(struct fs *fs, struct statvfs *st)
{
	return statvfs(the_path, st) ? -errno : 0;
}

int fs_setxattr(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	char path[64];

	return setxattr(path_of(fs, ino, path), name, value, size, flags) ? -errno : 0;
}

int64_t fs_getxattr(struct fs *fs, uint64_t ino, const char *name, void *value, size_t size)
{
	char path[64];
	ssize_t n = getxattr(path_of(fs, ino, path), name, value, size);

	return n < 0 ? -errno : n;
}

int64_t fs_listxattr(struct fs *fs, uint64_t ino, char *list, size_t size)
{
	char path[64];
	struct stat st;
	ssize_t n;

	if (fs_getattr(fs, ino, &st) || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return 0;
	n = listxattr(path_of(fs, ino, path), list, size);
	return n < 0 ? -errno : n;
}

int fs_removexattr(struct fs *fs, uint64_t ino, const char *name)
{
	char path[64];

	return removexattr(path_of(fs, ino, path), name) ? -errno : 0;
}
