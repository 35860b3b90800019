/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * core - the filesystem without libfuse: what the FUSE front, mkfs, fsck and the
 * tests call.
 *
 * Every function that takes an inode number may be called from any thread.
 * Results are 0 (or a count of bytes) or a negative errno.  A metadata call is
 * visible when it returns and durable after its commit, which comes by itself
 * within about 100 ms, or at fs_fsync().  After a failed persist or commit the filesystem is read-only
 * (-EROFS for changes, -EIO for fsync).
 *
 * Inode numbers are never used twice.  fs_lookup() and everything that answers
 * with a new entry takes a reference that fs_forget() gives back; an inode without
 * links lives while it is referenced or open.
 */
#ifndef BRICKFS_CORE_H
#define BRICKFS_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "backend.h"

struct fs;

#define FS_ROOT_INO 1
#define FS_NAME_MAX 255
#define FS_SYMLINK_MAX 4095
#define FS_XATTR_VALUE_MAX 65536
#define FS_LABEL_MAX 64			/* with its NUL */
#define FS_FILE_MAX (1ull << 53)	/* bytes; beyond: -EFBIG */
#define FS_LINK_MAX 1000000

/*
 * What may be wrong with a filesystem, and what fsck.brickfs does about it: the table that brickfs-format(5) and
 * fsck.brickfs(8) print.  Codes stay; what is told under one names the inode, the path, the ranges.
 */
struct fs_problem {
	const char *code;
	const char *meaning;
	const char *repair;
	bool safe;			/* the repair loses nothing and decides nothing: fsck.brickfs -p does it */
	bool damage;			/* a mount is read-only and frees nothing; else it mends it by itself */
	bool records;			/* with it, records of inodes may be lost: what no inode claims may be a file's */
};
extern const struct fs_problem fs_problems[];
extern const size_t fs_problem_count;
const struct fs_problem *fs_problem_find(const char *code);	/* NULL: told, but no problem of the bricks */

struct fs_options {
	const struct backend *backend;	/* libbrick's, or the simulated brick's */
	void *backend_context;
	const char *const *endpoints;
	size_t endpoint_count;		/* one is enough: the superblock names the others */
	bool readonly;			/* replay in memory, change nothing */
	bool sync;			/* every change waits for its commit */
	bool noatime;			/* else relatime */
	unsigned timeo_ms;		/* how long a brick may be away, 0: 60000 */
	unsigned wait_ms;		/* how long mount waits for a superblock that is being released, 0: 5000 */
	unsigned lanes, maps;		/* for each brick, 0: defaults */
	unsigned commit_ms;		/* background commit and persist, 0: 100 */
	bool manual;			/* tests: no threads; fs_tick() does the background's work */
	bool check;			/* fsck: go on after damage, and tell everything; writes nothing but in fs_repair() */
	/*
	 * With check: the superblocks are held exclusively, and each problem is asked about when it was told: true, it is
	 * to be repaired.  fs_repair() does so if all were answered with true.
	 */
	bool (*decide)(void *arg, const struct fs_problem *problem, const char *text);
	const uint8_t (*lost)[16];	/* with check: UUIDs of bricks that are gone for good */
	size_t lost_count;
	/* Told of everything worth telling at mount and in check, with a code from fs_problems[], or another one. */
	void (*problem)(void *arg, const char *code, const char *text);
	void *problem_arg;
	/* Progress of long steps: done of total, in units of no meaning. May be NULL. */
	void (*progress)(void *arg, const char *step, uint64_t done, uint64_t total);
	void *progress_arg;
};

struct fs_info {
	uint8_t uuid[16];
	char label[FS_LABEL_MAX];
	uint64_t epoch;
	unsigned bricks;
	bool clean;			/* how it was last left, as found at mount */
	bool readonly;			/* now */
	uint64_t inodes, dentries;
	uint64_t capacity, free, reserve;	/* blocks of 2 MiB */
	uint64_t log_segments;		/* now */
	uint64_t replayed;		/* records replayed at mount */
	uint64_t leaked;		/* blocks freed (or, read-only, found) at mount */
	const char *method;		/* persistence: "target", "flush"; "volatile" if one brick is; "mixed" */
};

/* A brick of this method writes to no medium: FS_VOLATILE_TEXT says so to people, behind "brick ENDPOINT ". */
#define FS_VOLATILE "volatile"
#define FS_VOLATILE_TEXT \
	"keeps its blocks in memory that its operator declared volatile: nothing is written to a medium, and what was synced lasts as long as that memory has power"

struct fs_brick {
	uint8_t uuid[16];
	const char *endpoint, *method;	/* stay as long as the filesystem does; method: FS_VOLATILE, or how it persists */
	uint64_t capacity;		/* blocks of 2 MiB */
};

struct fs_make_options {
	const struct backend *backend;
	void *backend_context;
	const char *const *endpoints;
	size_t endpoint_count;
	const char *label;		/* NULL: none */
	bool force;			/* over foreign IDs or an existing filesystem */
	unsigned timeo_ms;		/* how long a brick may be away, 0: 60000 */
	/* Told of each brick when the filesystem is made. May be NULL. */
	void (*made)(void *arg, const struct fs_brick *brick);
	void *made_arg;
};

/* The last error of mount, make or check of this thread as a sentence that names the thing and what to do. */
const char *fs_error_text(void);

int fs_make(const struct fs_make_options *options, struct fs_info *made);
int fs_mount(struct fs **fs, const struct fs_options *options);
/* Commits, records the end of the log, releases the superblock. The first error that was met; everything is freed in any case. */
int fs_unmount(struct fs *fs);
/*
 * Stops the filesystem while it is mounted (XFS_IOC_GOINGDOWN, whose numbers these are).  DEFAULT and LOGFLUSH make all that
 * was acknowledged durable first; the difference, what the kernel has not handed over yet, is the front's.  NOLOGFLUSH
 * stops at once.  When it returns, nothing of this mount writes to a brick any more, fs_unmount() included, which releases the
 * superblock as a crash would leave it.  Calls that change or read then say -EIO; attributes are still answered, and
 * forget, release and flush work.  -EINVAL: no such number; -EIO: it has stopped, but not all could be made durable.
 */
enum fs_going { FS_GOING_DEFAULT, FS_GOING_LOGFLUSH, FS_GOING_NOLOGFLUSH };
int fs_shutdown(struct fs *fs, enum fs_going how);
int fs_stopped(struct fs *fs);		/* 0, or -EIO after that */
/* After that: regular files that are referenced, of which the kernel may have pages. after: 0, or the last one of those before. */
size_t fs_held_files(struct fs *fs, uint64_t after, uint64_t *inos, size_t max);
/* Tests: forgets everything as a crash of this process would, without a word to the bricks' sessions. */
void fs_abandon(struct fs *fs);
void fs_get_info(struct fs *fs, struct fs_info *info);
/* One of the bricks, from number 0 on; false: there are no more. */
bool fs_get_brick(struct fs *fs, unsigned number, struct fs_brick *brick);
/*
 * Memory of the caller's that fs_read() and fs_write() get again and again: over RDMA its bytes are then moved without a
 * copy.  To be removed before it is freed.  An error, with fs_error_text(), says that a brick could not be told: with that
 * memory things are slower, and right.
 */
int fs_buffer_add(struct fs *fs, void *memory, size_t size);
void fs_buffer_remove(struct fs *fs, void *memory);
/* What the background threads do, once: persist, commit, finish frees, checkpoint when due. For options.manual. */
int fs_tick(struct fs *fs);
/* Starts a checkpoint and waits until it counts. */
int fs_checkpoint(struct fs *fs);

struct fs_check_result {
	uint64_t inodes, files, directories, blocks;
	uint64_t problems;		/* all found */
	uint64_t repairable;		/* of these: what the next mount mends by itself (leaks, orphans) */
	uint64_t declined;		/* asked about, and answered with false */
};
/* After fs_mount() with check set: link counts, reachability, overlaps, block counts, names. */
int fs_check(struct fs *fs, struct fs_check_result *result);
/*
 * After fs_check() of a mount with decide: what was found is repaired, as a whole.  In memory it is already, so that
 * what can be read shows what will be; this copies out what two files share, writes everything that lives as a
 * checkpoint of a new epoch, durable at once with one batch, and only then frees what nothing names and writes the
 * superblocks.  A crash leaves the old state or the repaired one.  -ECANCELED: something was declined.
 * Only fs_unmount() may follow.
 */
int fs_repair(struct fs *fs);

struct fs_cred {
	uid_t uid;
	gid_t gid;
	mode_t umask;			/* applied to the mode of what is made; 0 when the kernel did it */
};

/* Everything that answers with st takes one reference on that inode, except getattr and setattr. */
int fs_lookup(struct fs *fs, uint64_t parent, const char *name, struct stat *st);
void fs_forget(struct fs *fs, uint64_t ino, uint64_t references);
int fs_getattr(struct fs *fs, uint64_t ino, struct stat *st);

enum fs_set {
	FS_SET_MODE = 1, FS_SET_UID = 2, FS_SET_GID = 4, FS_SET_SIZE = 8,
	FS_SET_ATIME = 16, FS_SET_MTIME = 32, FS_SET_CTIME = 64,
	FS_SET_ATIME_NOW = 128, FS_SET_MTIME_NOW = 256,
};
/* Changes what `which` names; st is answered whole. */
int fs_setattr(struct fs *fs, uint64_t ino, const struct stat *in, unsigned which, struct stat *st);

int fs_mknod(struct fs *fs, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const struct fs_cred *cred, struct stat *st);
int fs_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode, const struct fs_cred *cred, struct stat *st);
int fs_symlink(struct fs *fs, const char *target, uint64_t parent, const char *name, const struct fs_cred *cred, struct stat *st);
int fs_link(struct fs *fs, uint64_t ino, uint64_t parent, const char *name, struct stat *st);
int fs_unlink(struct fs *fs, uint64_t parent, const char *name);
int fs_rmdir(struct fs *fs, uint64_t parent, const char *name);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE */
int fs_rename(struct fs *fs, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name, unsigned flags);
/* The target and its NUL into buffer; -ENAMETOOLONG when it does not fit. */
int fs_readlink(struct fs *fs, uint64_t ino, char *buffer, size_t size);

/* fs_open: write says that this open may change the file. fs_release: gives it back; commits soon. */
int fs_open(struct fs *fs, uint64_t ino, bool write);
int fs_release(struct fs *fs, uint64_t ino);
/* close(2): what was written goes to the bricks and is committed soon; the error of an earlier background write, once. */
int fs_flush(struct fs *fs, uint64_t ino);
/* Bytes read; short at the end of the file only.  -EIO where bytes are lost, on a damaged filesystem. */
int64_t fs_read(struct fs *fs, uint64_t ino, void *buffer, size_t size, uint64_t offset);
/* All of it, or an error. */
int64_t fs_write(struct fs *fs, uint64_t ino, const void *buffer, size_t size, uint64_t offset);
int fs_fsync(struct fs *fs, uint64_t ino, bool datasync);
/* mode: 0, FALLOC_FL_KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE [| KEEP_SIZE] */
int fs_fallocate(struct fs *fs, uint64_t ino, int mode, uint64_t offset, uint64_t length);

/*
 * Entries behind position `from` (0: the start), in an order and at positions that stay the
 * same while others come and go.  "." and ".." first.  fn returns non-zero when it has no room (that entry will
 * be asked for again).  With plus, st is whole and fs_readdir takes a reference for each entry that fn took,
 * but for "." and ".."; else only st_ino and the type in st_mode are set.
 */
typedef int (*fs_dirent_fn)(void *arg, const char *name, uint64_t position, const struct stat *st);
int fs_readdir(struct fs *fs, uint64_t ino, uint64_t from, bool plus, fs_dirent_fn fn, void *arg);

int fs_statfs(struct fs *fs, struct statvfs *st);

/* flags: XATTR_CREATE, XATTR_REPLACE. size 0 with getxattr and listxattr asks for the length. */
int fs_setxattr(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t size, int flags);
int64_t fs_getxattr(struct fs *fs, uint64_t ino, const char *name, void *value, size_t size);
int64_t fs_listxattr(struct fs *fs, uint64_t ino, char *list, size_t size);
int fs_removexattr(struct fs *fs, uint64_t ino, const char *name);

/*
 * Tests of the orders: a text that is the same for two filesystems that look the same to a user
 * (paths, types, modes, owners, sizes, links, xattrs, and a hash of the contents), sorted. malloc'ed.
 */
char *fs_dump(struct fs *fs);

#endif
