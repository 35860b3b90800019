/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front - the core as a FUSE filesystem: libfuse's low-level requests in, core
 * calls out, and the caches that a filesystem with one writer may use fully.
 *
 * front.c is the session, front-loop.c its threads, front-name.c answers what is about names and
 * attributes, front-file.c what is about contents and extended attributes, front-going.c the request to shut down.
 *
 * front_new(), front_mount(), front_loop() until the filesystem is unmounted or
 * front_exit() was called (from any thread), front_delete().  Failure: a negative
 * errno; libfuse's own words go through report().
 *
 * Every answer is 0 or an errno of the core's, but ENOSYS, which the kernel
 * takes for "never ask again", is never answered except where that is meant.
 */
#ifndef BRICKFS_FRONT_H
#define BRICKFS_FRONT_H

#include <stdbool.h>
#include <sys/types.h>

struct front;
struct fs;

struct front_options {
	const char *source;	/* shown as the mount's source, exactly */
	const char *kernel;	/* mount options for the kernel, comma separated and escaped as libfuse wants them; may be "" */
	bool debug;		/* libfuse's trace */
};

int front_new(struct front **front, struct fs *fs, const struct front_options *options);
/* dir: absolute. *device is then the mount's st_dev; 0: somebody has unmounted it since. */
int front_mount(struct front *front, const char *dir, dev_t *device);
/* Serves. 0, or the error that ended it. */
int front_loop(struct front *front);
/* Makes front_loop() return, also if it has not begun. */
void front_exit(struct front *front);
/* After the loop: unmounts what is still mounted; whoever waits for an answer gets an error. */
void front_unmount(struct front *front);
/* Unmounts and frees. The core is the caller's to unmount, afterwards. */
void front_delete(struct front *front);

#ifdef FUSE_USE_VERSION
/* Between the front's own files. */
#include <fuse_lowlevel.h>

#include "core.h"

/* The only writer is here: what the kernel knows stays true. In seconds. */
#define FRONT_TIMEOUT 1e9
#define FRONT_IO_MAX (1u << 20)

struct fs *front_fs(fuse_req_t req);
struct fuse_session *front_session(fuse_req_t req);
struct front_loop *front_loop_of(fuse_req_t req);
/* The directory that it was mounted on, and the mount's st_dev. */
const char *front_where(fuse_req_t req, dev_t *device);
/* The error of a background write to this inode that no write(2) was told of yet, once; 0. */
int front_take_write_error(uint64_t ino);
/* rc: 0 or a negative errno. */
void front_reply(fuse_req_t req, int rc);
/*
 * Memory for the answer of the request that this thread works on: page-aligned, known to the bricks, FRONT_IO_MAX bytes, the same
 * at each call.  NULL: the kernel asks for more than was agreed.
 */
void *front_buffer(size_t size);
void front_entry(struct fuse_entry_param *entry, const struct stat *st);

struct front_loop;
int front_loop_new(struct front_loop **loop, struct fuse_session *session, struct fs *fs);
/* Serves until the session ends: 0, or the error that ended it. */
int front_loop_run(struct front_loop *loop);
void front_loop_stop(struct front_loop *loop);
void front_loop_delete(struct front_loop *loop);
/* By a serving thread: until every other one has finished the request that it had read by now. One thread at a time. */
void front_loop_settle(struct front_loop *loop);
bool front_loop_alone(struct front_loop *loop);	/* no other thread serves */

void front_name_ops(struct fuse_lowlevel_ops *ops);
void front_file_ops(struct fuse_lowlevel_ops *ops);
void front_going_ops(struct fuse_lowlevel_ops *ops);
/* True: it was about what front-going.c asks the kernel for itself, and is answered. */
bool front_going_lookup(fuse_req_t req, const char *name);
bool front_going_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
bool front_going_release(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi);
#endif

#endif
