/* SPDX-License-Identifier: BSD-3-Clause */
/* daemon - a brickd of one's own, for test programs. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_SECONDS 60	/* a limit against hanging */
#define ARGS_MAX 32

static pid_t launch(const struct daemon *daemon, const char *const *args)
{
	const char *argv[ARGS_MAX] = { daemon->program, "--pool", daemon->pool };
	int n = 3;
	pid_t pid;

	while (*args && n < ARGS_MAX - 1)
		argv[n++] = *args++;
	for (const char *const *o = daemon->options; o && *o && n < ARGS_MAX - 1; o++)
		argv[n++] = *o;
	argv[n] = NULL;
	pid = fork();
	if (pid == 0) {
		int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND, 0644);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (daemon->cpu) {
			cpu_set_t set;

			CPU_ZERO(&set);
			CPU_SET((unsigned)daemon->cpu - 1, &set);
			sched_setaffinity(0, sizeof(set), &set);
		}
		if (log >= 0) {
			dup2(log, STDOUT_FILENO);
			dup2(log, STDERR_FILENO);
		}
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0)
		fprintf(stderr, "fork: %s\n", strerror(errno));
	return pid;
}

int daemon_create(const struct daemon *daemon, const char *size)
{
	const char *const args[] = { "--create", size, NULL };
	struct daemon plain = *daemon;
	int status;
	pid_t pid;

	plain.options = NULL;
	pid = launch(&plain, args);
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		;
	if (status == 0)
		return 0;
	fprintf(stderr, "%s --create %s ended with status 0x%x; see %s\n", daemon->program, size, status, daemon->log);
	return -1;
}

/* The first endpoint of the ready line in what was logged behind offset. */
static bool find_ready(struct daemon *daemon, int log, off_t offset)
{
	char text[65536], *at, *end;
	ssize_t n = pread(log, text, sizeof(text) - 1, offset);

	if (n <= 0)
		return false;
	text[n] = 0;
	at = strstr(text, "ready: ");
	if (!at || !strchr(at, '\n'))
		return false;
	at += strlen("ready: ");
	end = at + strcspn(at, " \n");
	if ((size_t)(end - at) >= sizeof(daemon->endpoint))
		return false;
	memcpy(daemon->endpoint, at, (size_t)(end - at));
	daemon->endpoint[end - at] = 0;
	return true;
}

int daemon_start(struct daemon *daemon)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	const char *const args[] = { "--listen", daemon->listen, NULL };
	int log = open(daemon->log, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
	time_t end = time(NULL) + READY_SECONDS;
	struct stat st;
	int ret = -1, status;

	if (log < 0 || fstat(log, &st) < 0) {
		fprintf(stderr, "%s: %s\n", daemon->log, strerror(errno));
		goto out;
	}
	daemon->pid = launch(daemon, args);
	if (daemon->pid < 0) {
		daemon->pid = 0;
		goto out;
	}
	while (!find_ready(daemon, log, st.st_size)) {
		if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid) {
			fprintf(stderr, "%s ended with status 0x%x before it served; see %s\n", daemon->program, status,
				daemon->log);
			daemon->pid = 0;
			goto out;
		}
		if (time(NULL) > end) {
			fprintf(stderr, "%s does not serve after %d seconds; see %s\n", daemon->program, READY_SECONDS,
				daemon->log);
			kill(daemon->pid, SIGKILL);
			daemon_reap(daemon);
			goto out;
		}
		nanosleep(&pause, NULL);
	}
	ret = 0;
out:
	if (log >= 0)
		close(log);
	return ret;
}

int daemon_reap(struct daemon *daemon)
{
	int status = 0;

	while (waitpid(daemon->pid, &status, 0) < 0 && errno == EINTR)
		;
	daemon->pid = 0;
	return status;
}

int daemon_stop(struct daemon *daemon)
{
	int status;

	if (!daemon->pid)
		return 0;
	kill(daemon->pid, SIGTERM);
	status = daemon_reap(daemon);
	if (status)
		fprintf(stderr, "%s ended with status 0x%x after SIGTERM; see %s\n", daemon->program, status, daemon->log);
	return status ? -1 : 0;
}
