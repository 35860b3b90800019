/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * baseline - what tcp and local are held against: a bare ping-pong over a loopback
 * socket, and memcpy.
 *
 * The ping-pong moves as many bytes in each direction as the frames of
 * brick-protocol(7) do: 32 of a request, and the payload behind it or behind the
 * 16 of the reply; blocking send() and recv() of one piece of memory, nothing else.
 * Like the block at one end and the buffer at the other, that piece wanders through 2 MiB on both sides.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define BLOCK BRICK_BLOCK_SIZE
#define REQUEST 32
#define REPLY 16

struct ask { uint32_t write, size; };

struct pingpong {
	struct subject subject;
	int fd;
	pid_t child;
	uint8_t *buffer;		/* REQUEST + BLOCK */
	uint64_t asked, taken;
};

struct memory {
	struct subject subject;
	uint8_t *block, *buffer;
};

static int failed(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return -1;
}

static int send_all(int fd, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent < 0)
			return -1;
		at += sent;
		n -= (size_t)sent;
	}
	return 0;
}

static int recv_all(int fd, void *bytes, size_t n)
{
	uint8_t *at = bytes;

	while (n > 0) {
		ssize_t got = recv(fd, at, n, MSG_WAITALL);

		if (got <= 0)
			return -1;
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

static void answer(int fd, uint8_t *buffer)
{
	uint8_t request[REQUEST];
	struct ask ask;

	for (uint64_t i = 0;; i++) {
		uint8_t *at;

		if (recv_all(fd, request, REQUEST))
			return;
		memcpy(&ask, request, sizeof(ask));
		at = buffer + bench_offset(i, ask.size);
		if (ask.write && recv_all(fd, at, ask.size))
			return;
		if (send_all(fd, at, REPLY + (ask.write ? 0 : ask.size)))
			return;
	}
}

static int ask(struct pingpong *p, const struct load *load)
{
	const struct ask ask = { load->op != BENCH_READ, load->size };
	uint8_t *at = p->buffer + bench_offset(p->asked++, load->size);

	memcpy(at, &ask, sizeof(ask));
	return send_all(p->fd, at, REQUEST + (ask.write ? ask.size : 0));
}

static int take(struct pingpong *p, const struct load *load)
{
	uint8_t *at = p->buffer + bench_offset(p->taken++, load->size);

	return recv_all(p->fd, at, REPLY + (load->op == BENCH_READ ? load->size : 0));
}

static int pingpong_latency(struct subject *subject, const struct load *load, struct latency *latency)
{
	struct pingpong *p = (struct pingpong *)subject;
	double *samples = calloc(load->samples, sizeof(*samples));
	int ret = samples ? 0 : -1;

	for (unsigned w = 0; w < 4 && ret == 0; w++)
		ret = ask(p, load) || take(p, load);
	for (unsigned s = 0; s < load->samples && ret == 0; s++) {
		uint64_t begin = bench_now();

		for (unsigned b = 0; b < load->batch && ret == 0; b++)
			ret = ask(p, load) || take(p, load);
		samples[s] = (double)(bench_now() - begin) / load->batch;
	}
	if (ret == 0)
		*latency = bench_summary(samples, load->samples);
	free(samples);
	return ret ? failed("ping-pong") : 0;
}

static int pingpong_throughput(struct subject *subject, const struct load *load, double *ns)
{
	struct pingpong *p = (struct pingpong *)subject;
	uint64_t asked = 0, taken = 0, begin = bench_now(), now = begin, end = begin + (uint64_t)(load->seconds * 1e9);

	if (load->op == BENCH_PERSIST)
		return NOT_THIS;
	while (now < end || taken < asked) {
		while (now < end && asked - taken < load->depth) {
			if (ask(p, load))
				return failed("ping-pong");
			asked++;
		}
		if (take(p, load))
			return failed("ping-pong");
		taken++;
		now = bench_now();
	}
	*ns = (double)(now - begin) / (double)taken;
	return 0;
}

int pingpong_open(int cpu, struct subject **subject)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	struct pingpong *p = calloc(1, sizeof(*p));
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (!p || listener < 0)
		return failed("ping-pong");
	p->subject = (struct subject){ "ping-pong", pingpong_latency, pingpong_throughput };
	p->buffer = aligned_alloc(4096, BLOCK + 4096);
	if (!p->buffer || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &size))
		return failed("ping-pong");
	memset(p->buffer, 0x5a, BLOCK + 4096);
	p->child = fork();
	if (p->child < 0)
		return failed("fork");
	if (p->child == 0) {
		int fd = accept(listener, NULL, NULL);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bench_pin(cpu);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		answer(fd, p->buffer);
		_exit(0);
	}
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&address, size))
		return failed("ping-pong");
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
	*subject = &p->subject;
	return 0;
}

void pingpong_close(struct subject *subject)
{
	struct pingpong *p = (struct pingpong *)subject;

	close(p->fd);
	waitpid(p->child, NULL, 0);
	free(p->buffer);
	free(p);
}

/* The compiler must neither leave a copy out nor know how long it is. */
static void copy(struct memory *m, const struct load *load, uint64_t i)
{
	uint32_t offset = bench_offset(i, load->size);

	if (load->op == BENCH_READ)
		memcpy(m->buffer + offset, m->block + offset, load->size);
	else
		memcpy(m->block + offset, m->buffer + offset, load->size);
	__asm__ volatile("" ::: "memory");
}

static int memory_latency(struct subject *subject, const struct load *load, struct latency *latency)
{
	struct memory *m = (struct memory *)subject;
	double *samples;
	uint64_t i = 0;

	if (load->op == BENCH_PERSIST)
		return NOT_THIS;
	samples = calloc(load->samples, sizeof(*samples));
	if (!samples)
		return failed("memcpy");
	while (i < 4)
		copy(m, load, i++);
	for (unsigned s = 0; s < load->samples; s++) {
		uint64_t begin = bench_now();

		for (unsigned b = 0; b < load->batch; b++)
			copy(m, load, i++);
		samples[s] = (double)(bench_now() - begin) / load->batch;
	}
	*latency = bench_summary(samples, load->samples);
	free(samples);
	return 0;
}

static int memory_throughput(struct subject *subject, const struct load *load, double *ns)
{
	struct memory *m = (struct memory *)subject;
	uint64_t begin = bench_now(), now = begin, i = 0, end = begin + (uint64_t)(load->seconds * 1e9);

	if (load->op == BENCH_PERSIST)
		return NOT_THIS;
	while (now < end) {
		for (unsigned d = 0; d < load->depth; d++)
			copy(m, load, i++);
		now = bench_now();
	}
	*ns = (double)(now - begin) / (double)i;
	return 0;
}

int memory_open(const char *path, struct subject **subject)
{
	struct memory *m = calloc(1, sizeof(*m));
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (!m || fd < 0 || ftruncate(fd, (off_t)BLOCK))
		return failed(path);
	m->subject = (struct subject){ "memcpy", memory_latency, memory_throughput };
	m->buffer = aligned_alloc(4096, BLOCK);
	m->block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	unlink(path);
	if (!m->buffer || m->block == MAP_FAILED)
		return failed(path);
	memset(m->buffer, 0x5a, BLOCK);
	memset(m->block, 0x5a, BLOCK);
	*subject = &m->subject;
	return 0;
}

void memory_close(struct subject *subject)
{
	struct memory *m = (struct memory *)subject;

	munmap(m->block, BLOCK);
	free(m->buffer);
	free(m);
}
