/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon - a brickd of one's own, for test programs that start and kill it often.
 *
 * What it says goes to a log file; it serves when its "ready:" line is there.
 * It dies with the thread that started it.
 */
#ifndef TEST_DAEMON_H
#define TEST_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

#define DAEMON_ENDPOINT_MAX 288

struct daemon {
	const char *program;		/* brickd */
	const char *pool;
	const char *listen;		/* as for --listen; port 0 is fine */
	const char *log;		/* file, appended to */
	const char *const *options;	/* further ones, NULL-terminated; or NULL */
	int cpu;			/* 1 and up: runs on CPU cpu - 1 alone */
	pid_t pid;			/* 0: it does not run */
	char endpoint[DAEMON_ENDPOINT_MAX];	/* where it serves: the first of its ready line */
};

/* Makes the pool. 0, or -1 with words on stderr. */
int daemon_create(const struct daemon *daemon, const char *size);
/* Starts it and waits until it is ready. 0, or -1 with words on stderr. */
int daemon_start(struct daemon *daemon);
/* Waits for its end, after a kill: the status of waitpid(). */
int daemon_reap(struct daemon *daemon);
/* SIGTERM; 0 when it ended in order. */
int daemon_stop(struct daemon *daemon);

#endif
