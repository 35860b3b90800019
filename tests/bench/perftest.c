/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perftest - ib_read_lat, ib_write_lat, ib_read_bw and ib_write_bw as subjects: a
 * server and a client of each, run for every round, over rdma_cm at an address of
 * this machine; what they print is parsed.
 *
 * ib_write_lat waits for the peer's own write in memory and prints half of the way
 * there and back; a write of libbrick is complete when the brick's device has
 * acknowledged it, which is what ib_write_bw with one write in flight shows.  Both
 * are given: the first as the latency's ratio, the second as the throughput's at depth 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define PORT_FIRST 18600
#define TRIES 20

struct perftest {
	struct subject subject;
	const char *host;
	unsigned port;		/* another one for each run */
};

struct run {
	const char *program;
	const char *host;	/* NULL: the server */
	char size[16], iterations[16], port[16], depth[16];
	bool bandwidth;
};

static pid_t launch(const struct run *r, int output)
{
	const char *argv[24] = { r->program, "-R", "-F", "-s", r->size, "-n", r->iterations, "-p", r->port };
	int n = 9;
	pid_t pid;

	if (r->bandwidth) {
		argv[n++] = "-t";
		argv[n++] = r->depth;
		/* at a depth of 1 there is a completion for each */
		argv[n++] = "-Q";
		argv[n++] = "1";
	}
	if (r->host)
		argv[n++] = r->host;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, STDIN_FILENO);
		dup2(output >= 0 ? output : null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

/* What the client printed into text: its exit status. */
static int run_client(const struct run *r, char *text, size_t room)
{
	int ends[2], status = -1;
	size_t have = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	pid = launch(r, ends[1]);
	close(ends[1]);
	for (;;) {
		ssize_t n = read(ends[0], text + have, room - 1 - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	text[have] = 0;
	close(ends[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return status;
}

/* The numbers of the line under the one that begins with #bytes. */
static int parse(const char *text, double *numbers, int max)
{
	const char *at = strstr(text, "#bytes");
	int n = 0;

	at = at ? strchr(at, '\n') : NULL;
	while (at && n < max) {
		char *end;

		numbers[n] = strtod(at, &end);
		if (end == at)
			break;
		n++;
		at = end;
	}
	return n;
}

static int run(struct perftest *p, const char *program, const struct load *load, bool bandwidth, unsigned iterations,
	       double *numbers, int want)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct run r = { .program = program, .bandwidth = bandwidth };
	char text[16384];

	snprintf(r.size, sizeof(r.size), "%u", load->size);
	snprintf(r.iterations, sizeof(r.iterations), "%u", iterations);
	snprintf(r.depth, sizeof(r.depth), "%u", load->depth);
	for (int i = 0; i < TRIES; i++) {
		pid_t server;
		int status, n;

		snprintf(r.port, sizeof(r.port), "%u", PORT_FIRST + p->port++ % 1000);
		r.host = NULL;
		server = launch(&r, -1);
		if (server < 0)
			return -1;
		/* It says nothing once it listens: a client that comes too early fails, and both are run again, with more time. */
		for (int k = 0; k < 3 + i; k++)
			nanosleep(&pause, NULL);
		r.host = p->host;
		status = run_client(&r, text, sizeof(text));
		n = status == 0 ? parse(text, numbers, want) : 0;
		if (n < want)
			kill(server, SIGKILL);
		waitpid(server, NULL, 0);
		if (n >= want)
			return 0;
	}
	fprintf(stderr, "%s -s %u does not work here: %s\n", program, load->size, text);
	return -1;
}

/* #bytes #iterations t_min t_max t_typical t_avg t_stdev 99% 99.9%, in microseconds */
static int perftest_latency(struct subject *subject, const struct load *load, struct latency *latency)
{
	struct perftest *p = (struct perftest *)subject;
	double numbers[8];

	if (load->op == BENCH_PERSIST)
		return NOT_THIS;
	if (run(p, load->op == BENCH_READ ? "ib_read_lat" : "ib_write_lat", load, false,
		load->samples < 10 ? 10 : load->samples, numbers, 8))
		return -1;
	*latency = (struct latency){ numbers[2] * 1e3, numbers[4] * 1e3, numbers[7] * 1e3, numbers[3] * 1e3 };
	return 0;
}

/* #bytes #iterations peak average (MiB/s) rate (million a second) */
static int perftest_throughput(struct subject *subject, const struct load *load, double *ns)
{
	struct perftest *p = (struct perftest *)subject;
	unsigned iterations = load->samples < 2 * load->depth ? 2 * load->depth : load->samples;
	double numbers[5];

	if (load->op == BENCH_PERSIST)
		return NOT_THIS;
	if (run(p, load->op == BENCH_READ ? "ib_read_bw" : "ib_write_bw", load, true, iterations, numbers, 5))
		return -1;
	if (numbers[3] > 0)
		*ns = load->size / (numbers[3] * 1048576) * 1e9;
	else if (numbers[4] > 0)
		*ns = 1e3 / numbers[4];
	else
		return NOT_THIS;	/* too small for its two decimals */
	return 0;
}

int perftest_open(const char *host, struct subject **subject)
{
	struct perftest *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	p->subject = (struct subject){ "perftest", perftest_latency, perftest_throughput };
	p->host = host;
	p->port = (unsigned)getpid();
	*subject = &p->subject;
	return 0;
}

void perftest_close(struct subject *subject)
{
	free(subject);
}
