/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_peer - a hostile brick against libbrick: its streams, lanes, calls and notices.
 *
 * A thread plays the brick behind a TCP socket on loopback; the input is what it says.  The first byte: the
 * preamble's reply and the hello's reply are good ones or come from the input.  Then for each
 * request one byte says how it is answered: well; with a good header and a body from the
 * input; with a header that lies; with raw bytes; twice; after notices; or not before the next one has come.
 * At the end of the input the connection is closed.  The client goes through all calls; each must come back with
 * 0 or a negative errno, and what it answers is inside its bounds.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "brick.h"
#include "wire.h"

const char fuzz_name[] = "fuzz_peer";
const unsigned long fuzz_count = 4000;

enum flag { OWN_PREAMBLE = 1, OWN_HELLO = 2 };
enum answer { GOOD, BODY, LIE, RAW, TWICE, NOTICES, LATER, STATUS, ANSWERS };

static int listener = -1;
static char endpoint[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const uint8_t *script;
static size_t script_size;
static unsigned long opened, calls_good;

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "BUG: %s (%s)\n", what, brick_error());
	abort();
}

/* ---- the brick */

struct program { const uint8_t *at, *end; };

static unsigned next(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

static bool get(int fd, uint8_t *bytes, size_t n)
{
	while (n) {
		ssize_t got = recv(fd, bytes, n, 0);

		if (got <= 0)
			return false;
		bytes += got;
		n -= (size_t)got;
	}
	return true;
}

static void give(int fd, const uint8_t *bytes, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		bytes += sent;
		n -= (size_t)sent;
	}
}

/* Up to max bytes of the input. */
static size_t take(struct program *p, uint8_t *bytes, size_t max)
{
	size_t n = (size_t)(p->end - p->at) < max ? (size_t)(p->end - p->at) : max;

	memcpy(bytes, p->at, n);
	p->at += n;
	return n;
}

/* The reply of a brick that is well. */
static size_t good(uint8_t *out, const uint8_t *msg, const struct wire_header *h)
{
	static const uint32_t zero[WIRE_ADDRS_MAX];
	static uint64_t addrs[WIRE_ADDRS_MAX];
	static struct wire_target targets[WIRE_ADDRS_MAX];
	static struct wire_range ranges[WIRE_ADDRS_MAX];
	static struct wire_handle handles[WIRE_ADDRS_MAX];
	struct wire_rw rw;
	size_t n = WIRE_ADDRS_MAX;

	switch (h->type) {
	case WIRE_ALLOC:
	case WIRE_FREE:
		must(!wire_get_addrs(msg, h->length, addrs, &n), "libbrick sends garbage");
		return wire_put_statuses(out, h->type, h->id, zero, n);
	case WIRE_UNMAP:
		must(!wire_get_targets(msg, h->length, targets, &n), "libbrick sends garbage");
		return wire_put_statuses(out, h->type, h->id, zero, n);
	case WIRE_PERSIST:
		must(!wire_get_ranges(msg, h->length, ranges, &n), "libbrick sends garbage");
		return wire_put_statuses(out, h->type, h->id, zero, n);
	case WIRE_MAP:
		must(!wire_get_targets(msg, h->length, targets, &n), "libbrick sends garbage");
		for (size_t i = 0; i < n; i++)
			handles[i] = (struct wire_handle){.key = (uint32_t)i + 1, .place = targets[i].addr};
		return wire_put_handles(out, h->id, handles, n);
	case WIRE_LIST:
		return wire_put_list_reply(out, h->id, &(struct wire_list_reply){.generation = 1, .count = 1, .extent = {{0, 2}}});
	case WIRE_STAT:
		return wire_put_stat_reply(out, h->id, &(struct wire_stat_reply){.method = WIRE_PERSIST_TARGET});
	case WIRE_LIMITS:
		return wire_put_limits_reply(out, h->id, &(struct wire_limits_reply){.limits = 1, .refusals = 1});
	case WIRE_SESSIONS:
	case WIRE_WHO:
		return wire_put_sessions_reply(out, h->type, h->id, &(struct wire_sessions_reply){.count = 1});
	case WIRE_READ:
		must(!wire_get_rw(msg, WIRE_RW_FIXED, &rw), "libbrick sends garbage");
		wire_put_header(out, &(struct wire_header){.length = WIRE_HEADER_SIZE + rw.length, .type = WIRE_READ | WIRE_REPLY, .id = h->id});
		memset(out + WIRE_HEADER_SIZE, 'r', rw.length);
		return WIRE_HEADER_SIZE + rw.length;
	default:
		return wire_put_plain(out, h->type | WIRE_REPLY, h->id, 0);
	}
}

static void hello_reply(int fd, struct program *p, bool own, const struct wire_header *h)
{
	static uint8_t out[WIRE_MSG_MAX];
	size_t n;

	if (!own) {
		give(fd, out, wire_put_hello_reply(out, h->id, &(struct wire_hello_reply){
			.capacity = 8, .free = 8, .session = 1, .maps = 4, .lanes = 1, .depth = 8, .lease_ms = 30000, .method = WIRE_PERSIST_TARGET}));
		return;
	}
	n = wire_put_hello_reply(out, h->id, &(struct wire_hello_reply){.lanes = 1, .depth = 1, .method = WIRE_PERSIST_TARGET});
	take(p, out + WIRE_HEADER_SIZE, n - WIRE_HEADER_SIZE);
	give(fd, out, n);
}

static void serve(int fd, struct program *p)
{
	static uint8_t msg[WIRE_MSG_MAX + WIRE_DATA_MAX], out[WIRE_MSG_MAX + WIRE_DATA_MAX], later[WIRE_MSG_MAX + WIRE_DATA_MAX];
	unsigned flags = next(p);
	struct wire_preamble preamble;
	size_t n, waits = 0;

	if (!get(fd, msg, WIRE_PREAMBLE_SIZE) || wire_get_preamble(msg, WIRE_PREAMBLE_SIZE, &preamble))
		return;
	memset(out, 0, WIRE_PREAMBLE_REPLY_SIZE);
	wire_put_preamble_reply(out, &(struct wire_preamble_reply){.version = WIRE_VERSION, .lane = preamble.lane, .token = {1}});
	if (flags & (OWN_PREAMBLE | OWN_HELLO))
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 20000}, sizeof(struct timeval));
	if (flags & OWN_PREAMBLE)
		take(p, out, WIRE_PREAMBLE_REPLY_SIZE);
	give(fd, out, WIRE_PREAMBLE_REPLY_SIZE);
	for (;;) {
		struct wire_header h;
		unsigned how;

		if (!get(fd, msg, WIRE_HEADER_SIZE))
			return;
		must(!wire_get_header(msg, WIRE_HEADER_SIZE, &h), "libbrick sends a malformed header");
		if (!get(fd, msg + WIRE_HEADER_SIZE, h.length - WIRE_HEADER_SIZE))
			return;
		if (h.type == WIRE_HELLO) {
			hello_reply(fd, p, flags & OWN_HELLO, &h);
			continue;
		}
		if (p->at == p->end)
			return;
		how = next(p);
		/* The client may wait for the rest of what it was told: then the connection ends before its patience does. */
		if (how % ANSWERS != GOOD && how % ANSWERS != STATUS)
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 2000}, sizeof(struct timeval));
		n = good(out, msg, &h);
		switch (how % ANSWERS) {
		case BODY:
			take(p, out + WIRE_HEADER_SIZE, how / ANSWERS * 2 < n - WIRE_HEADER_SIZE ? how / ANSWERS * 2 : n - WIRE_HEADER_SIZE);
			break;
		case LIE:
			take(p, out + how / ANSWERS % WIRE_HEADER_SIZE, 1 + how / ANSWERS / 8);
			break;
		case RAW:
			n = take(p, out, how / ANSWERS * 4);
			break;
		case TWICE:
			give(fd, out, n);
			break;
		case NOTICES:
			for (unsigned k = 0; k < 1 + how / ANSWERS; k++)
				give(fd, later, wire_put_notice(later, &(struct wire_notice){1 + how / ANSWERS % 3, k}));
			waits = 0;
			break;
		case LATER:
			if (!waits) {
				memcpy(later, out, n);
				waits = n;
				continue;
			}
			break;
		case STATUS:
			n = wire_put_plain(out, h.type | WIRE_REPLY, h.id, -(int)(1 + how / ANSWERS));
			break;
		}
		give(fd, out, n);
		give(fd, later, waits);
		waits = 0;
		if (h.type == WIRE_BYE)
			return;		/* the brick closes first */
	}
}

static void *brick(void *arg)
{
	for (;;) {
		int one = 1, fd = accept(listener, NULL, NULL);
		struct program p;

		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		pthread_mutex_lock(&lock);
		p = (struct program){script, script + script_size};
		if (script)
			serve(fd, &p);
		close(fd);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static void prepare(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(in);
	pthread_t thread;

	if (listener >= 0)
		return;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(listener >= 0 && !bind(listener, (struct sockaddr *)&in, sizeof(in)) && !listen(listener, 16) &&
	     !getsockname(listener, (struct sockaddr *)&in, &size), "no socket");
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", ntohs(in.sin_port));
	must(!pthread_create(&thread, NULL, brick, NULL), "no thread");
	pthread_detach(thread);
}

/* ---- the client */

static void fine(int r, const char *what)
{
	must(r <= 0 && r > -4096, what);
	calls_good += !r;
}

static void statuses(const int *status, size_t n)
{
	for (size_t i = 0; i < n; i++)
		must(status[i] <= 0 && status[i] > -4096, "a status that is no errno");
}

/* Everything in flight comes back, in whatever way. */
static void collect(struct brick_lane *lane, unsigned posted)
{
	struct brick_completion done[4];
	unsigned seen = 0;

	while (brick_in_flight(lane)) {
		int n = brick_wait(lane, done, 4, 2000);

		must(n > 0 || n == -ETIME || n < 0, "wait answers nothing");
		must(n <= 4, "more completions than there is room");
		for (int i = 0; i < n; i++) {
			must(done[i].cookie >= 1 && done[i].cookie <= posted, "a completion of nothing");
			must(done[i].status <= 0 && done[i].status > -4096, "a completion without an errno");
			seen |= 1u << done[i].cookie;
		}
		if (n < 0 && n != -ETIME)
			break;
	}
	must(seen < 2u << posted, "completions");
}

static void queue(struct brick_lane *lane, struct brick_handle *handle, int *status)
{
	uint8_t *in = malloc(5000), *out = calloc(1, 5000), *left = malloc(100), *right = malloc(3000);
	struct iovec iov[2] = {{left, 100}, {right, 3000}};
	struct brick_range range = {handle->addr, 4096};
	uint64_t addr = handle->addr;
	unsigned n = 0;

	n += !brick_post_write(lane, handle, 100, out, 5000, n + 1);
	n += !brick_post_read(lane, handle, 100, in, 5000, n + 1);
	n += !brick_post_readv(lane, handle, 7, iov, 2, n + 1);
	n += !brick_post_persist(lane, &range, 1, status, n + 1);
	n += !brick_post_map(lane, &addr, 1, BRICK_MAP_WRITE, handle, status + 1, n + 1);
	n += !brick_post_writev(lane, handle, 7, iov, 2, n + 1);
	collect(lane, n);
	must(!brick_in_flight(lane) || brick_lane_state(lane), "a lane that works, and something never came back");
	free(in);
	free(out);
	free(left);
	free(right);
}

static void client(struct brick_session *session)
{
	struct brick_lane *lane = brick_lane(session, 0);
	uint64_t addrs[2] = {0, BRICK_BLOCK_SIZE}, generation, following;
	struct brick_extent *extents = calloc(3, sizeof(*extents));
	struct brick_session_info *infos = calloc(2, sizeof(*infos));
	struct brick_handle handles[2] = {{.addr = 0}, {.addr = BRICK_BLOCK_SIZE}};
	struct brick_notice notice;
	struct brick_limits limits;
	struct brick_stat stat;
	uint8_t *buffer = malloc(100);
	int status[2] = {0, 0};
	size_t n = 0;
	bool more;

	fine(brick_alloc(lane, addrs, 2, status), "alloc");
	statuses(status, 2);
	fine(brick_map(lane, addrs, 2, BRICK_MAP_WRITE, handles, status), "map");
	statuses(status, 2);
	fine(brick_read(lane, &handles[1], 0, buffer, 100), "read");
	queue(lane, &handles[0], status);
	statuses(status, 2);
	fine(brick_list(lane, 0, extents, 3, &n, &generation, &following, &more), "list");
	must(n <= 3, "list: more extents than there is room");
	n = 0;
	fine(brick_sessions(lane, 0, infos, 2, &n), "sessions");
	must(n <= 2, "sessions: more than there is room");
	for (size_t i = 0; i < n; i++)
		must(memchr(infos[i].name, 0, sizeof(infos[i].name)) && memchr(infos[i].transport, 0, sizeof(infos[i].transport)),
		     "sessions: a text without an end");
	n = 0;
	fine(brick_who(lane, 0, infos, 2, &n), "who");
	must(n <= 2, "who: more than there is room");
	fine(brick_stat(lane, &stat), "stat");
	fine(brick_limits(lane, &limits), "limits");
	fine(brick_keepalive(lane), "keepalive");
	fine(brick_revoke(lane, 2), "revoke");
	fine(brick_unmap(lane, addrs, 2, 0, status), "unmap");
	for (unsigned k = 0; k < 1000 && brick_notice(session, &notice) == 1; k++)
		;
	free(buffer);
	free(extents);
	free(infos);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct brick_options options = {.name = "fuzz", .maps = 4, .lanes = 1, .depth = 8, .timeout_ms = 5000};
	struct brick_session *session;
	int r;

	if (!size)
		return 0;
	prepare();
	pthread_mutex_lock(&lock);
	script = data;
	script_size = size;
	pthread_mutex_unlock(&lock);
	r = brick_open(endpoint, &options, &session);
	must(r <= 0 && r > -4096, "open");
	if (!r) {
		opened++;
		client(session);
		brick_close(session);
	}
	pthread_mutex_lock(&lock);	/* the brick is through with it */
	script = NULL;
	script_size = 0;
	pthread_mutex_unlock(&lock);
	return 0;
}

size_t fuzz_sample(uint8_t *buf, unsigned n)
{
	size_t at = 1;

	if (n > ANSWERS + 2)
		return 0;
	memset(buf, 0, 200);		/* all is well */
	if (n == 0)
		return 40;
	if (n <= ANSWERS) {		/* one kind of answer in the middle, with something to say */
		buf[n] = (uint8_t)(n - 1 + ANSWERS * 5);
		for (at = n + 1; at < n + 21; at++)
			buf[at] = (uint8_t)(at * 37);
		return at + 40;
	}
	if (n == ANSWERS + 1) {
		buf[0] = OWN_PREAMBLE;
		wire_put_preamble_reply(buf + at, &(struct wire_preamble_reply){.version = WIRE_VERSION, .token = {1}});
		return at + WIRE_PREAMBLE_REPLY_SIZE + 40;
	}
	buf[0] = OWN_HELLO;
	{
		uint8_t msg[WIRE_MSG_MAX];
		size_t length = wire_put_hello_reply(msg, 1, &(struct wire_hello_reply){
			.capacity = 8, .free = 8, .session = 1, .maps = 2, .lanes = 1, .depth = 2, .method = WIRE_PERSIST_TARGET});

		memcpy(buf + at, msg + WIRE_HEADER_SIZE, length - WIRE_HEADER_SIZE);
		return at + length - WIRE_HEADER_SIZE + 40;
	}
}

int fuzz_report(unsigned long inputs)
{
	printf("opened %lu, calls that were answered well %lu\n", opened, calls_good);
	return inputs >= 1000 && (!opened || !calls_good || calls_good == opened * 10);
}
