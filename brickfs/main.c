/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * brickfs - mounts a filesystem over bricks, and serves it.
 *
 * The order: look at the directory; fork (a verbs device opened before would not
 * live through it); the child mounts the core, then FUSE, and asks the kernel once for the root, so that an answer has
 * really been seen; then it says so to the parent, whose exit status is mount(8)'s, and its messages go to syslog.
 *
 * Threads: the main one waits for those that serve (front-loop.c); one takes the signals, from the start; one
 * asks for the root and ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "core.h"
#include "endpoint.h"
#include "front.h"
#include "mount-options.h"
#include "mountpoint.h"
#include "report.h"

/* As mount(8) says. */
#define EXIT_USAGE 1
#define EXIT_MOUNT 32
#define TIMEO_DEFAULT_S 60
/* Two blocks: what a sequential reader wants under way while it works on the one before. */
#define READAHEAD_KIB 4096

struct daemon {
	const struct mount_options *options;
	char path[PATH_MAX];
	dev_t device;
	struct fs *fs;
	struct front *front;
	int parent;		/* pipe to who waits for the outcome; -1: nobody */
	pthread_mutex_t mounting;	/* held while FUSE is mounted */
	bool mounted;		/* from here on a signal unmounts; before, nothing needs an order to end */
	atomic_bool ending;
	atomic_int status;	/* exit status */
};

static const char usage[] =
	"usage: brickfs ENDPOINT[,ENDPOINT...] DIR [-o OPTION[,OPTION...]] [-f] [-d]\n"
	"       brickfs -V | -h\n"
	"ENDPOINT: tcp://host:port, unix:/path, rdma://host:port; one brick is enough, it knows the others\n"
	"  -f  stay in the foreground\n"
	"  -v  say more\n"
	"  -d  show every request (implies -f)\n"
	"  -o  ro, sync, noatime, suid, dev, noexec, timeo=SECONDS, wait=SECONDS, lanes=N, maps=N, commit=MS;\n"
	"      see brickfs(8)\n";

static const char *core_error(int rc)
{
	const char *text = fs_error_text();

	return text && *text ? text : strerror(-rc);
}

static void problem(void *arg, const char *code, const char *text)
{
	report_warning("%s: %s", code, text);
}

/* Whatever dead brickfs lies on the directory is taken away, and what is then there is looked at. */
static int prepare_directory(const char *dir, char path[PATH_MAX])
{
	struct stat st;
	char type[64];
	int rc = mountpoint_resolve(dir, path);

	if (rc) {
		report_error("%s: %s", dir, rc == -ENOENT ? "no such directory to mount on" : strerror(-rc));
		return rc;
	}
	/* What the kernel remembers of a dead mount it still answers: so the daemon is asked. */
	while (!mountpoint_type(path, type, sizeof(type)) && !strcmp(type, MOUNTPOINT_TYPE)) {
		rc = mountpoint_ask(path, NULL);
		if (rc != -ENOTCONN && rc != -ECONNABORTED)
			break;
		if (umount2(path, MNT_DETACH)) {
			rc = -errno;
			report_error("%s: a dead brickfs lies there and cannot be detached: %s", path, strerror(-rc));
			return rc;
		}
		mountpoint_leave(path);
		report_notice("%s: detached a brickfs whose daemon had died", path);
	}
	if (stat(path, &st)) {
		rc = -errno;
		report_error("%s: %s", path, strerror(-rc));
		return rc;
	}
	if (!S_ISDIR(st.st_mode)) {
		report_error("%s: is not a directory", path);
		return -ENOTDIR;
	}
	if (access("/dev/fuse", R_OK | W_OK)) {
		rc = -errno;
		report_error("/dev/fuse: %s%s", strerror(-rc), rc == -ENOENT ? ": is the kernel module loaded (modprobe fuse)?" : "");
		return rc;
	}
	return 0;
}

/* Tells the parent, if there is one, and lets go of it. 0, or -EPIPE: it is gone. */
static int tell_parent(struct daemon *d, int status)
{
	unsigned char byte = (unsigned char)status;
	int rc = 0;

	if (d->parent < 0)
		return 0;
	if (write(d->parent, &byte, 1) != 1)
		rc = -EPIPE;
	close(d->parent);
	d->parent = -1;
	return rc;
}

static void go_to_background(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	report_to_syslog();
	if (null < 0)
		return;
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* While the loop still serves: what the kernel holds back in its pages comes to us before the mount goes. */
static void stop(struct daemon *d)
{
	dev_t there;
	int fd;

	if (!mountpoint_device(d->path, &there) && there == d->device) {
		fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			if (syncfs(fd))
				report_error("%s: writing back: %s", d->path, strerror(errno));
			close(fd);
		}
		if (umount2(d->path, 0)) {
			report_warning("%s: %s: detached; what is still open there ends with an error", d->path,
				       strerror(errno));
			umount2(d->path, MNT_DETACH);
		}
		mountpoint_leave(d->path);
	}
	front_exit(d->front);
}

/* Asks for the root through the kernel, as anyone would: it comes back when the filesystem answers. */
static void *announce(void *arg)
{
	struct daemon *d = arg;
	int rc;

	rc = mountpoint_ask_for(d->path, d->device);
	if (rc == -ENODEV) {
		/* Whoever saw it mounted needed no word from us. */
		report_info("%s: mounted, and unmounted before it was asked", d->path);
		if (d->parent >= 0)
			go_to_background();
		tell_parent(d, 0);
		return NULL;
	}
	if (rc == -EXDEV) {
		report_warning("%s: mounted, but that is not what is found there: something was mounted over it, or it was moved", d->path);
		rc = 0;
	}
	if (rc) {
		if (!atomic_load(&d->ending))
			report_error("%s: mounted, but does not answer: %s", d->path, strerror(-rc));
		atomic_store(&d->status, EXIT_MOUNT);
		tell_parent(d, EXIT_MOUNT);
		front_exit(d->front);
		return NULL;
	}
	/* No more than a matter of speed. */
	rc = mountpoint_set_readahead(d->device, READAHEAD_KIB);
	if (rc)
		report_debug("read-ahead stays as the kernel has it: %s", strerror(-rc));
	rc = mountpoint_enter(d->options->source, d->path);
	if (rc)
		report_debug("umount(8) will not call umount.fuse.brickfs: libmount's table: %s", strerror(-rc));
	else if (!mountpoint_count(d->device))
		mountpoint_leave(d->path);	/* unmounted meanwhile */
	if (d->parent < 0) {
		report_info("%s mounted on %s", d->options->source, d->path);
		return NULL;
	}
	go_to_background();
	if (tell_parent(d, 0)) {
		report_notice("%s: who asked for the mount is gone, unmounting", d->path);
		stop(d);
	}
	return NULL;
}

static void show_info(struct daemon *d)
{
	char uuid[37], capacity[16], space[16];
	struct fs_brick brick;
	struct fs_info info;

	fs_get_info(d->fs, &info);
	format_uuid(info.uuid, uuid);
	format_size(info.capacity << 21, capacity);
	format_size(info.free << 21, space);
	report_notice("%s on %s: filesystem %s%s%s, epoch %ju, %u brick%s, %s, persistence %s", d->options->source, d->path,
		      uuid, *info.label ? " " : "", info.label, (uintmax_t)info.epoch, info.bricks,
		      info.bricks == 1 ? "" : "s", info.readonly ? "read-only" : "read-write",
		      info.method);
	for (unsigned b = 0; fs_get_brick(d->fs, b, &brick); b++) {
		format_uuid(brick.uuid, uuid);
		format_size(brick.capacity << 21, capacity);
		report_notice("brick %s: %s, %s, persistence %s", brick.endpoint, uuid, capacity, brick.method);
	}
	format_size(info.capacity << 21, capacity);
	report_notice("%ju inodes, %ju names; %s of %s free, reserve %ju blocks; %ju log segments; at mount %ju records replayed, %ju blocks were leaked",
		      (uintmax_t)info.inodes, (uintmax_t)info.dentries, space, capacity, (uintmax_t)info.reserve,
		      (uintmax_t)info.log_segments, (uintmax_t)info.replayed, (uintmax_t)info.leaked);
}

static bool is_mounted(struct daemon *d)
{
	bool mounted;

	pthread_mutex_lock(&d->mounting);
	mounted = d->mounted;
	pthread_mutex_unlock(&d->mounting);
	return mounted;
}

static void *take_signals(void *arg)
{
	struct daemon *d = arg;
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	for (;;) {
		if (sigwait(&set, &number))
			continue;
		if (atomic_load(&d->ending))
			return NULL;
		if (!is_mounted(d)) {
			if (number == SIGUSR1)
				continue;
			report_error("%s: %s before it was mounted", d->path, strsignal(number));
			tell_parent(d, EXIT_MOUNT);
			_exit(EXIT_MOUNT);
		}
		if (number == SIGUSR1) {
			show_info(d);
			continue;
		}
		report_notice("%s: %s, unmounting", d->path, strsignal(number));
		stop(d);
	}
}

static int mount_core(struct daemon *d)
{
	const struct mount_options *o = d->options;
	struct fs_options options = {
		.backend = &backend_brick,
		.endpoints = (const char *const *)o->endpoints,
		.endpoint_count = o->endpoint_count,
		.readonly = o->readonly,
		.sync = o->sync,
		.noatime = o->noatime,
		.timeo_ms = o->timeo_s * 1000,
		.wait_ms = o->wait_s * 1000,
		.lanes = o->lanes,
		.maps = o->maps,
		.commit_ms = o->commit_ms,
		.problem = problem,
	};
	struct fs_brick brick;
	struct fs_info info;
	int rc = fs_mount(&d->fs, &options);

	if (rc) {
		d->fs = NULL;
		report_error("cannot mount %s: %s", o->source, core_error(rc));
		return rc;
	}
	fs_get_info(d->fs, &info);
	if (info.readonly && !o->readonly)
		report_warning("%s: mounted read-only", o->source);
	for (unsigned b = 0; fs_get_brick(d->fs, b, &brick); b++) {
		report_info("brick %s: persistence %s", brick.endpoint, brick.method);
		if (!strcmp(brick.method, FS_VOLATILE))
			report_warning("brick %s " FS_VOLATILE_TEXT, brick.endpoint);
	}
	return 0;
}

static int mount_fuse(struct daemon *d)
{
	const struct front_options options = {
		.source = d->options->source,
		.kernel = d->options->kernel,
		.debug = d->options->debug,
	};
	int rc = front_new(&d->front, d->fs, &options);

	if (rc) {
		report_error("%s: cannot set up FUSE: %s", d->path, strerror(-rc));
		return rc;
	}
	pthread_mutex_lock(&d->mounting);
	rc = front_mount(d->front, d->path, &d->device);
	d->mounted = !rc;
	pthread_mutex_unlock(&d->mounting);
	if (rc)
		report_error("cannot mount on %s: %s", d->path, strerror(-rc));
	return rc;
}

/* Signals are for take_signals() alone: blocked before any thread is, the core's included. */
static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* With FUSE mounted: 0 when it was unmounted, or the error that kept it from being served. */
static int run(struct daemon *d)
{
	pthread_t announcer;
	int rc;

	rc = -pthread_create(&announcer, NULL, announce, d);
	if (rc) {
		report_error("%s: no thread: %s", d->path, strerror(-rc));
		return rc;
	}
	rc = front_loop(d->front);
	if (rc)
		report_error("%s: the FUSE session failed: %s", d->path, strerror(-rc));
	atomic_store(&d->ending, true);
	front_unmount(d->front);
	pthread_join(announcer, NULL);
	return rc;
}

static int serve(struct daemon *d)
{
	unsigned timeo_s = d->options->timeo_s ? d->options->timeo_s : TIMEO_DEFAULT_S;
	int rc, ended, runfile = -1;
	char text[512] = "";
	pthread_t signals;

	block_signals();
#ifdef PR_SET_IO_FLUSHER
	/* Memory that we need to write pages back must not wait for pages to be written back. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
#endif
	rc = -pthread_create(&signals, NULL, take_signals, d);
	if (rc) {
		report_error("no thread: %s", strerror(-rc));
		goto out;
	}
	rc = mount_core(d);
	if (rc)
		goto no_core;
	rc = mount_fuse(d);
	if (!rc) {
		runfile = d->device ? runfile_create(d->device, timeo_s) : -ENODEV;
		if (runfile < 0)
			report_debug("umount will not wait for the end: run file: %s", strerror(-runfile));
		rc = run(d);
		if (runfile >= 0)
			runfile_ending(runfile);
	}
no_core:
	/* Whoever still comes with a signal finds nothing to end. */
	atomic_store(&d->ending, true);
	pthread_kill(signals, SIGUSR1);
	pthread_join(signals, NULL);
	front_delete(d->front);
	if (d->fs) {
		ended = fs_unmount(d->fs);
		if (ended) {
			snprintf(text, sizeof(text), "%s", core_error(ended));
			report_error("%s: unmounted with an error: %s", d->options->source, text);
			rc = rc ? rc : ended;
		}
	}
	if (runfile >= 0)
		runfile_close(runfile, d->device, *text ? text : NULL);
out:
	if (rc)
		atomic_store(&d->status, EXIT_MOUNT);
	tell_parent(d, EXIT_MOUNT);
	return atomic_load(&d->status);
}

/* The parent's part: its exit status is the outcome. */
static int wait_for_child(int fd, pid_t child)
{
	unsigned char status;
	ssize_t n;
	int how;

	do
		n = read(fd, &status, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return status;
	if (waitpid(child, &how, 0) == child && WIFSIGNALED(how))
		report_error("the daemon died: %s", strsignal(WTERMSIG(how)));
	else
		report_error("the daemon ended without a word");
	return EXIT_MOUNT;
}

int main(int argc, char **argv)
{
	struct mount_options options;
	struct daemon daemon = { .options = &options, .parent = -1, .mounting = PTHREAD_MUTEX_INITIALIZER };
	int status = EXIT_MOUNT, fds[2];
	pid_t child;

	report_init("brickfs", false, REPORT_NOTICE);
	if (mount_options_parse(&options, argc, argv))
		return EXIT_USAGE;
	if (options.help || options.version) {
		if (options.help)
			fputs(usage, stdout);
		else
			puts(PACKAGE_STRING);
		mount_options_free(&options);
		return 0;
	}
	if (options.foreground || options.verbose)
		report_init("brickfs", false, options.debug ? REPORT_DEBUG : REPORT_INFO);
	if (prepare_directory(options.dir, daemon.path))
		goto out;

	if (!options.foreground) {
		if (pipe2(fds, O_CLOEXEC)) {
			report_error("pipe: %s", strerror(errno));
			goto out;
		}
		child = fork();
		if (child < 0) {
			report_error("fork: %s", strerror(errno));
			goto out;
		}
		if (child) {
			close(fds[1]);
			status = wait_for_child(fds[0], child);
			goto out;
		}
		close(fds[0]);
		daemon.parent = fds[1];
		setsid();
		if (chdir("/"))
			report_warning("/: %s", strerror(errno));
	}
	umask(0);
	status = serve(&daemon);
out:
	mount_options_free(&options);
	return status;
}
