/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mount-options - the command line of brickfs (mount-options.h).
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include <fuse_opt.h>

#include "mount-options.h"
#include "report.h"

enum option {
	OPTION_KERNEL,		/* told to the kernel as it is */
	OPTION_IGNORED,		/* mount(8)'s own, or what we do anyway */
	OPTION_RO, OPTION_RW, OPTION_SYNC, OPTION_ASYNC, OPTION_NOATIME, OPTION_ATIME, OPTION_REMOUNT,
	OPTION_TIMEO, OPTION_WAIT, OPTION_LANES, OPTION_MAPS, OPTION_COMMIT,
	OPTION_FOREGROUND, OPTION_VERBOSE, OPTION_DEBUG, OPTION_HELP, OPTION_VERSION,
};

/* fuse_opt's templates: "name=" takes a value; "-x" is an option of the command line, others stand behind -o. */
static const struct fuse_opt known[] = {
	FUSE_OPT_KEY("ro", OPTION_RO),
	FUSE_OPT_KEY("rw", OPTION_RW),
	FUSE_OPT_KEY("-r", OPTION_RO),
	FUSE_OPT_KEY("-w", OPTION_RW),
	FUSE_OPT_KEY("sync", OPTION_SYNC),
	FUSE_OPT_KEY("dirsync", OPTION_SYNC),
	FUSE_OPT_KEY("async", OPTION_ASYNC),
	FUSE_OPT_KEY("noatime", OPTION_NOATIME),
	FUSE_OPT_KEY("atime", OPTION_ATIME),
	FUSE_OPT_KEY("relatime", OPTION_ATIME),
	FUSE_OPT_KEY("suid", OPTION_KERNEL),
	FUSE_OPT_KEY("nosuid", OPTION_KERNEL),
	FUSE_OPT_KEY("dev", OPTION_KERNEL),
	FUSE_OPT_KEY("nodev", OPTION_KERNEL),
	FUSE_OPT_KEY("exec", OPTION_KERNEL),
	FUSE_OPT_KEY("noexec", OPTION_KERNEL),
	FUSE_OPT_KEY("nodiratime", OPTION_IGNORED),
	FUSE_OPT_KEY("diratime", OPTION_IGNORED),
	FUSE_OPT_KEY("context=", OPTION_KERNEL),
	FUSE_OPT_KEY("fscontext=", OPTION_KERNEL),
	FUSE_OPT_KEY("defcontext=", OPTION_KERNEL),
	FUSE_OPT_KEY("rootcontext=", OPTION_KERNEL),
	FUSE_OPT_KEY("remount", OPTION_REMOUNT),
	FUSE_OPT_KEY("timeo=", OPTION_TIMEO),
	FUSE_OPT_KEY("wait=", OPTION_WAIT),
	FUSE_OPT_KEY("lanes=", OPTION_LANES),
	FUSE_OPT_KEY("maps=", OPTION_MAPS),
	FUSE_OPT_KEY("commit=", OPTION_COMMIT),
	/* always so */
	FUSE_OPT_KEY("allow_other", OPTION_IGNORED),
	FUSE_OPT_KEY("default_permissions", OPTION_IGNORED),
	/* mount(8)'s and systemd's */
	FUSE_OPT_KEY("defaults", OPTION_IGNORED),
	FUSE_OPT_KEY("_netdev", OPTION_IGNORED),
	FUSE_OPT_KEY("nofail", OPTION_IGNORED),
	FUSE_OPT_KEY("auto", OPTION_IGNORED),
	FUSE_OPT_KEY("noauto", OPTION_IGNORED),
	FUSE_OPT_KEY("user", OPTION_IGNORED),
	FUSE_OPT_KEY("user=", OPTION_IGNORED),
	FUSE_OPT_KEY("users", OPTION_IGNORED),
	FUSE_OPT_KEY("nouser", OPTION_IGNORED),
	FUSE_OPT_KEY("owner", OPTION_IGNORED),
	FUSE_OPT_KEY("noowner", OPTION_IGNORED),
	FUSE_OPT_KEY("group", OPTION_IGNORED),
	FUSE_OPT_KEY("nogroup", OPTION_IGNORED),
	FUSE_OPT_KEY("comment=", OPTION_IGNORED),
	FUSE_OPT_KEY("-n", OPTION_IGNORED),
	FUSE_OPT_KEY("-v", OPTION_VERBOSE),
	FUSE_OPT_KEY("-s", OPTION_IGNORED),
	FUSE_OPT_KEY("-f", OPTION_FOREGROUND),
	FUSE_OPT_KEY("-d", OPTION_DEBUG),
	FUSE_OPT_KEY("debug", OPTION_DEBUG),
	FUSE_OPT_KEY("-h", OPTION_HELP),
	FUSE_OPT_KEY("--help", OPTION_HELP),
	FUSE_OPT_KEY("-V", OPTION_VERSION),
	FUSE_OPT_KEY("--version", OPTION_VERSION),
	FUSE_OPT_END
};

static int number(const char *arg, unsigned low, unsigned high, unsigned *value)
{
	const char *text = strchr(arg, '=') + 1;
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < low || n > high) {
		report_error("option '%s': expected a number from %u to %u", arg, low, high);
		return -1;
	}
	*value = (unsigned)n;
	return 0;
}

/* For fuse_opt_parse(): 0 takes the argument, -1 refuses the command line. */
static int take(void *data, const char *arg, int key, struct fuse_args *rest)
{
	struct mount_options *o = data;
	char **place;

	switch (key) {
	case FUSE_OPT_KEY_NONOPT:
		place = !o->source ? &o->source : !o->dir ? &o->dir : NULL;
		if (!place) {
			report_error("'%s' is one argument too many", arg);
			return -1;
		}
		*place = strdup(arg);
		return *place ? 0 : -1;
	case FUSE_OPT_KEY_OPT:
		if (!strncmp(arg, "x-", 2) || !strncmp(arg, "X-", 2))
			return 0;
		report_error("option '%s' is not known; brickfs(8) lists them", arg);
		return -1;
	case OPTION_RO:
		o->readonly = true;
		return fuse_opt_add_opt(&o->kernel, "ro");
	case OPTION_RW:
		o->readonly = false;
		return fuse_opt_add_opt(&o->kernel, "rw");
	case OPTION_SYNC:
	case OPTION_ASYNC:
		o->sync = key == OPTION_SYNC;
		return fuse_opt_add_opt(&o->kernel, arg);
	case OPTION_NOATIME:
		o->noatime = true;
		return fuse_opt_add_opt(&o->kernel, "noatime");
	case OPTION_ATIME:
		o->noatime = false;
		return fuse_opt_add_opt(&o->kernel, "atime");
	case OPTION_KERNEL:
		return fuse_opt_add_opt_escaped(&o->kernel, arg);
	case OPTION_REMOUNT:
		report_error("remount is not supported: unmount, and mount with the new options");
		return -1;
	case OPTION_TIMEO:
		return number(arg, 1, TIMEO_MAX_S, &o->timeo_s);
	case OPTION_WAIT:
		return number(arg, 1, 86400, &o->wait_s);
	case OPTION_LANES:
		return number(arg, 1, 64, &o->lanes);
	case OPTION_MAPS:
		return number(arg, 1, 1u << 20, &o->maps);
	case OPTION_COMMIT:
		return number(arg, 1, 60000, &o->commit_ms);
	case OPTION_FOREGROUND:
		o->foreground = true;
		return 0;
	case OPTION_VERBOSE:
		o->verbose = true;
		return 0;
	case OPTION_DEBUG:
		o->debug = o->foreground = true;
		return 0;
	case OPTION_HELP:
		o->help = true;
		return 0;
	case OPTION_VERSION:
		o->version = true;
		return 0;
	default:
		return 0;
	}
}

int mount_options_parse(struct mount_options *options, int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	int rc;

	memset(options, 0, sizeof(*options));
	rc = fuse_opt_parse(&args, options, known, take) ? -EINVAL : 0;
	fuse_opt_free_args(&args);
	if (rc || options->help || options->version)
		goto out;
	if (!options->source || !options->dir) {
		report_error("%s is missing: brickfs ENDPOINT[,ENDPOINT...] DIR [-o OPTIONS]",
			     options->source ? "the directory to mount on" : "the endpoint");
		rc = -EINVAL;
		goto out;
	}
	if (!options->kernel && !(options->kernel = strdup(""))) {
		rc = -ENOMEM;
		goto out;
	}
	rc = endpoints_split(options->source, &options->endpoints, &options->endpoint_count);
out:
	if (rc)
		mount_options_free(options);
	return rc;
}

void mount_options_free(struct mount_options *options)
{
	free(options->source);
	free(options->dir);
	free(options->kernel);
	endpoints_free(options->endpoints, options->endpoint_count);
	memset(options, 0, sizeof(*options));
}
