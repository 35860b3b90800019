/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badbrick - a proxy in front of a brick that alters one thing of what the brick says (badbrick.h; run by badbrick.sh).
 *
 * badbrick --cases tcp|unix [--seed S]: a line for each case.
 * badbrick --case N [--seed S] --listen ENDPOINT --to ENDPOINT --phase FILE: serves until it is killed; says "ready: ENDPOINT", and
 * "altered: ..." for each thing that it has altered.  A case of -1 alters nothing.
 *
 * A connection has two threads, one for each way.  Descriptors that come with a message go out with it.
 */
#include "badbrick.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "endpoint.h"

#define READS 4096		/* requests whose address is remembered, by ID */

struct connection {
	int client, brick;
	pthread_mutex_t lock;
	unsigned users;
	struct {
		uint32_t id;
		uint64_t addr;
	} reads[READS];
};

struct way {
	struct connection *connection;
	int from, to;
	bool up;		/* to the brick */
	bool greeted;
	uint8_t *bytes;
	int fds[WIRE_FDS_MAX];
	unsigned fd_count;
};

static const struct bad_case *the_case;
static struct endpoint target;
static const char *phase_file;
static pthread_mutex_t alter_lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what)
{
	fprintf(stderr, "badbrick: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* What the script has said last. A file that is being written is empty for a moment. */
static enum bad_phase phase(void)
{
	static enum bad_phase last;
	int fd = open(phase_file, O_RDONLY | O_CLOEXEC);
	char digit;

	if (fd >= 0 && read(fd, &digit, 1) == 1 && digit >= '0' && digit < '0' + BAD_PHASES)
		last = (enum bad_phase)(digit - '0');
	if (fd >= 0)
		close(fd);
	return last;
}

static int dial(const struct endpoint *e)
{
	struct sockaddr_un path = { .sun_family = AF_UNIX };
	struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(e->port)) };
	int fd, one = 1, ret;

	fd = socket(e->kind == ENDPOINT_TCP ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (e->kind == ENDPOINT_TCP) {
		inet_pton(AF_INET, e->host, &inet.sin_addr);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		ret = connect(fd, (struct sockaddr *)&inet, sizeof(inet));
	} else {
		memcpy(path.sun_path, e->path, sizeof(path.sun_path));
		ret = connect(fd, (struct sockaddr *)&path, sizeof(path));
	}
	if (ret) {
		close(fd);
		return -1;
	}
	return fd;
}

static int serve(const struct endpoint *e)
{
	struct sockaddr_un path = { .sun_family = AF_UNIX };
	struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(e->port)) };
	socklen_t size = sizeof(inet);
	int fd, one = 1, ret;

	fd = socket(e->kind == ENDPOINT_TCP ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));	/* the next one is at the same port */
	if (e->kind == ENDPOINT_TCP) {
		inet_pton(AF_INET, e->host, &inet.sin_addr);
		ret = bind(fd, (struct sockaddr *)&inet, sizeof(inet));
	} else {
		memcpy(path.sun_path, e->path, sizeof(path.sun_path));
		unlink(e->path);
		ret = bind(fd, (struct sockaddr *)&path, sizeof(path));
	}
	if (ret || listen(fd, 128))
		die("listen");
	if (e->kind == ENDPOINT_TCP) {
		getsockname(fd, (struct sockaddr *)&inet, &size);
		printf("ready: tcp://127.0.0.1:%u\n", ntohs(inet.sin_port));
	} else {
		printf("ready: unix:%s\n", e->path);
	}
	fflush(stdout);
	return fd;
}

/* Exactly so many bytes, and the descriptors that come with them. */
static bool get(struct way *w, uint8_t *at, size_t n)
{
	while (n) {
		union {
			struct cmsghdr align;
			char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
		} control;
		struct iovec iov = { at, n };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room) };
		ssize_t got = recvmsg(w->from, &msg, MSG_CMSG_CLOEXEC);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < count && w->fd_count < WIRE_FDS_MAX; i++)
				memcpy(&w->fds[w->fd_count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		}
		at += got;
		n -= (size_t)got;
	}
	return true;
}

static bool give(struct way *w, const uint8_t *at, size_t n)
{
	while (n) {
		union {
			struct cmsghdr align;
			char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
		} control = { 0 };
		struct iovec iov = { (void *)(uintptr_t)at, n };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t sent;

		if (w->fd_count) {
			struct cmsghdr *c;

			msg.msg_control = control.room;
			msg.msg_controllen = CMSG_SPACE(w->fd_count * sizeof(int));
			c = CMSG_FIRSTHDR(&msg);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(w->fd_count * sizeof(int));
			memcpy(CMSG_DATA(c), w->fds, w->fd_count * sizeof(int));
		}
		sent = sendmsg(w->to, &msg, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		while (w->fd_count)
			close(w->fds[--w->fd_count]);
		at += sent;
		n -= (size_t)sent;
	}
	return true;
}

/* The next message, or the preamble. */
static bool get_frame(struct way *w, struct bad_frame *f)
{
	struct connection *c = w->connection;
	struct wire_header header;
	struct wire_rw rw;

	*f = (struct bad_frame){ .bytes = w->bytes, .copies = 1, .type = BAD_PREAMBLE };
	if (!w->greeted) {
		w->greeted = true;
		f->length = w->up ? WIRE_PREAMBLE_SIZE : WIRE_PREAMBLE_REPLY_SIZE;
		return get(w, w->bytes, f->length);
	}
	if (!get(w, w->bytes, WIRE_HEADER_SIZE))
		return false;
	if (wire_get_header(w->bytes, WIRE_HEADER_SIZE, &header) || !get(w, w->bytes + WIRE_HEADER_SIZE, header.length - WIRE_HEADER_SIZE)) {
		fprintf(stderr, "badbrick: BUG: what comes %s is no message\n", w->up ? "from the initiator" : "from the brick");
		return false;
	}
	f->length = header.length;
	f->type = header.type & (uint16_t)~WIRE_REPLY;
	pthread_mutex_lock(&c->lock);
	if (w->up && header.type == WIRE_READ && !wire_get_rw(w->bytes, WIRE_RW_FIXED, &rw)) {
		c->reads[header.id % READS].id = header.id;
		c->reads[header.id % READS].addr = rw.addr;
	} else if (c->reads[header.id % READS].id == header.id) {
		f->read_addr = c->reads[header.id % READS].addr;
	}
	pthread_mutex_unlock(&c->lock);
	return true;
}

static void *carry(void *arg)
{
	struct way *w = arg;
	struct connection *c = w->connection;
	struct bad_frame f;
	bool silent = false, last;

	w->bytes = malloc(BAD_FRAME_MAX);
	if (!w->bytes)
		die("memory");
	while (get_frame(w, &f)) {
		pthread_mutex_lock(&alter_lock);
		if (the_case && !silent)
			bad_alter(the_case, phase(), &f, w->up);
		pthread_mutex_unlock(&alter_lock);
		if (silent)
			continue;
		if (!give(w, f.before, f.before_length))
			break;
		for (; f.copies; f.copies--)
			if (!give(w, f.bytes, f.length))
				break;
		if (f.copies || f.close)
			break;
		silent = f.silence;
	}
	/* The end goes through; both ways end. */
	shutdown(c->client, SHUT_RDWR);
	shutdown(c->brick, SHUT_RDWR);
	free(w->bytes);
	while (w->fd_count)
		close(w->fds[--w->fd_count]);
	pthread_mutex_lock(&c->lock);
	last = !--c->users;
	pthread_mutex_unlock(&c->lock);
	if (last) {
		close(c->client);
		close(c->brick);
		free(c);
	}
	free(w);
	return NULL;
}

static void connection_new(int client)
{
	struct connection *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		die("memory");
	c->client = client;
	c->brick = dial(&target);
	if (c->brick < 0) {
		close(client);
		free(c);
		return;
	}
	if (target.kind == ENDPOINT_TCP)
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pthread_mutex_init(&c->lock, NULL);
	c->users = 2;
	for (int up = 0; up < 2; up++) {
		struct way *w = calloc(1, sizeof(*w));
		pthread_t thread;

		if (!w)
			die("memory");
		w->connection = c;
		w->up = up;
		w->from = up ? c->client : c->brick;
		w->to = up ? c->brick : c->client;
		if (pthread_create(&thread, NULL, carry, w))
			die("thread");
		pthread_detach(thread);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cases", required_argument, NULL, 'l' }, { "case", required_argument, NULL, 'c' }, { "seed", required_argument, NULL, 's' },
		{ "listen", required_argument, NULL, 'L' }, { "to", required_argument, NULL, 't' }, { "phase", required_argument, NULL, 'p' },
		{ 0 }
	};
	const char *cases = NULL, *listen_text = NULL, *to = NULL;
	struct endpoint here;
	uint64_t seed = 1;
	long number = -2;
	int option, fd;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option) {
		case 'l':
			cases = optarg;
			break;
		case 'c':
			number = atol(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'L':
			listen_text = optarg;
			break;
		case 't':
			to = optarg;
			break;
		case 'p':
			phase_file = optarg;
			break;
		default:
			return 2;
		}
	if (cases) {
		bool local = !strcmp(cases, "unix");

		for (unsigned i = 0; i < bad_cases(local); i++) {
			printf("%u ", i);
			bad_case_print(bad_case_find(i, local, seed));
		}
		return 0;
	}
	if (number < -1 || !listen_text || !to || !phase_file || endpoint_parse(listen_text, &here) || endpoint_parse(to, &target) ||
	    here.kind != target.kind) {
		fprintf(stderr, "usage: badbrick --cases tcp|unix | --case N --listen ENDPOINT --to ENDPOINT --phase FILE [--seed S]\n");
		return 2;
	}
	if (number >= 0 && !(the_case = bad_case_find((unsigned)number, here.kind == ENDPOINT_LOCAL, seed))) {
		fprintf(stderr, "badbrick: there is no case %ld\n", number);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	fd = serve(&here);
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0)
			connection_new(client);
		else if (errno != EINTR && errno != ECONNABORTED)
			die("accept");
	}
}
