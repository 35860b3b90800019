/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mount-options - brickfs' command line, as mount.fuse3 and people write it.
 *
 *	brickfs ENDPOINT[,ENDPOINT...] DIR [-o OPTION[,OPTION...]] [-f] [-d]
 *
 * mount_options_parse() prints what is wrong, by name.
 */
#ifndef BRICKFS_MOUNT_OPTIONS_H
#define BRICKFS_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct mount_options {
	char *source;		/* exactly as given */
	char *dir;
	char **endpoints;	/* source, taken apart */
	size_t endpoint_count;
	char *kernel;		/* the options that the kernel is told, comma separated; never NULL */
	bool readonly, sync, noatime;
	bool verbose;		/* messages as in the foreground */
	bool foreground, debug, help, version;
	unsigned timeo_s, wait_s, lanes, maps, commit_ms;	/* 0: not given */
};

/* 0; -EINVAL after a message; -ENOMEM. With help or version set nothing else is checked. */
int mount_options_parse(struct mount_options *options, int argc, char **argv);
void mount_options_free(struct mount_options *options);

/* "a,b,c" into n strings; each must be an endpoint: -EINVAL after a message. Used by mkfs and fsck as well. */
int endpoints_split(const char *text, char ***endpoints, size_t *count);
void endpoints_free(char **endpoints, size_t count);

#define TIMEO_MAX_S 86400u
/* The argument of --timeo of mkfs and fsck, seconds: -EINVAL after a message. */
int timeo_parse(const char *text, unsigned *ms);

#endif
