/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * umount.fuse.brickfs - what umount(8) runs for a brickfs: unmounts, and waits
 * until the daemon has committed everything and released the superblock.
 *
 * Called as umount(8) says: umount.fuse.brickfs DIR [-flnrv] [-N namespace] [-t type].
 * Exit status as mount(8)'s: 0, 1 for usage, 32 when it was not unmounted, and 32 as well when it was but the daemon
 * failed, with what it said.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "mountpoint.h"
#include "report.h"

#define EXIT_USAGE 1
#define EXIT_FAIL 32

static int enter_namespace(const char *name)
{
	char path[64];
	int fd, rc = 0;

	if (name[strspn(name, "0123456789")] == 0) {
		snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", name);
		name = path;
	}
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (setns(fd, CLONE_NEWNS))
		rc = -errno;
	close(fd);
	return rc;
}

static int unmount(const char *path, int flags, bool read_only_else)
{
	if (!umount2(path, flags))
		return 0;
	if (errno == EBUSY && read_only_else) {
		if (!mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL)) {
			report_notice("%s: is in use, remounted read-only", path);
			return 1;
		}
		errno = EBUSY;
	}
	if (errno == EBUSY)
		report_error("%s: target is busy (fuser -vm %s shows by whom)", path, path);
	else if (errno == EINVAL)
		report_error("%s: not mounted", path);
	else
		report_error("%s: cannot unmount: %s", path, strerror(errno));
	return -errno;
}

int main(int argc, char **argv)
{
	bool verbose = false, lazy = false, read_only_else = false;
	char path[PATH_MAX], type[64], text[512];
	const char *namespace = NULL;
	int flags = 0, option, fd, rc;
	dev_t device;

	report_init("umount.fuse.brickfs", false, REPORT_NOTICE);
	while ((option = getopt(argc, argv, "flnrvN:t:")) != -1)
		switch (option) {
		case 'f':
			flags |= MNT_FORCE;
			break;
		case 'l':
			flags |= MNT_DETACH;
			lazy = true;
			break;
		case 'n':
		case 't':
			break;
		case 'r':
			read_only_else = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'N':
			namespace = optarg;
			break;
		default:
			goto usage;
		}
	if (optind + 1 != argc)
		goto usage;

	if (namespace) {
		rc = enter_namespace(namespace);
		if (rc) {
			report_error("namespace %s: %s", namespace, strerror(-rc));
			return EXIT_FAIL;
		}
	}
	rc = mountpoint_resolve(argv[optind], path);
	if (rc) {
		report_error("%s: %s", argv[optind], strerror(-rc));
		return EXIT_FAIL;
	}
	rc = mountpoint_type(path, type, sizeof(type));
	if (rc || strcmp(type, MOUNTPOINT_TYPE)) {
		report_error("%s: %s", path, rc ? "not mounted" : "is not a brickfs; umount -i unmounts anything");
		return EXIT_FAIL;
	}

	/* Before, because afterwards nothing says who served it. */
	fd = mountpoint_device(path, &device) ? -ENOENT : runfile_open(device);
	rc = unmount(path, flags, read_only_else);
	if (rc)
		return rc > 0 ? 0 : EXIT_FAIL;
	mountpoint_leave(path);
	if (lazy)
		return 0;
	if (fd < 0) {
		if (verbose)
			report_notice("%s: unmounted; no daemon to wait for is known", path);
		return 0;
	}
	if (mountpoint_count(device)) {
		if (verbose)
			report_notice("%s: unmounted here, still mounted elsewhere", path);
		return 0;
	}

	switch (runfile_wait(fd, text, sizeof(text))) {
	case 0:
		if (verbose)
			report_notice("%s: unmounted", path);
		return 0;
	case -EIO:
		report_error("%s: unmounted, but brickfs failed: %s", path, text);
		return EXIT_FAIL;
	case -ESRCH:
		report_error("%s: unmounted, but brickfs died before it had released the filesystem; the next mount recovers it",
			     path);
		return EXIT_FAIL;
	case -EBUSY:
		report_notice("%s: unmounted here; still in use elsewhere (another mount namespace?)", path);
		return 0;
	default:
		report_error("%s: unmounted, but brickfs is not done yet: it may be waiting for a brick", path);
		return EXIT_FAIL;
	}
usage:
	fprintf(stderr, "usage: umount.fuse.brickfs DIR [-flnrv] [-N NAMESPACE] [-t TYPE]\n");
	return EXIT_USAGE;
}
