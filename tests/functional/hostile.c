/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile - clients that no brick should suffer from, and one that must not notice them; hostile.sh runs both.
 *
 *   hostile ENDPOINT honest        checked I/O, and new sessions, until SIGTERM
 *   hostile ENDPOINT attack        everything below at once, each in a process of its own
 *   hostile ENDPOINT attack NAME   one of them
 *
 * The attackers speak the bare protocol.  Over tcp each has an address of its own (127.0.0.2 and on), over a Unix socket a
 * user of its own: so each is a peer, and none is the honest one's.  What an attack must meet with (a refusal, the end of the
 * connection) is waited for, without a time of its own: hostile.sh's limit ends what hangs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "brick.h"
#include "endpoint.h"
#include "wire.h"

#define BLOCK	WIRE_BLOCK_SIZE
#define HONEST	0x7100000000000000ull
#define HOSTILE 0x7200000000000000ull
#define OTHERS	60000 /* user IDs that nobody has */
#define HOLD_MS 1000  /* how long an attacker keeps what it has */

static const char *name = "start";
static struct endpoint where;
static unsigned self; /* which attacker: its address, or its user */

#define ok(condition)									\
	do {										\
		if (!(condition)) {							\
			fprintf(stderr, "FAILED %s:%d: %s: %s (errno: %s)\n", __FILE__,	\
				__LINE__, name, #condition, strerror(errno));		\
			_exit(1);							\
		}									\
	} while (0)

static void rest(unsigned ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	nanosleep(&t, NULL);
}

/* --- the honest one --------------------------------------------------------------------------------------------- */

enum { BLOCKS = 4, PIECE = 65536 };

static volatile sig_atomic_t asked_to_end;

static void on_term(int sig)
{
	(void)sig;
	asked_to_end = 1;
}

static uint64_t seed = 4711;

static uint32_t draw(uint32_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % n;
}

#define fine(call)									\
	do {										\
		int fine_ret = (call);							\
											\
		if (fine_ret) {								\
			fprintf(stderr, "FAILED %s:%d: the honest client: %s: %d, %s\n", \
				__FILE__, __LINE__, #call, fine_ret, brick_error());	\
			exit(1);							\
		}									\
	} while (0)

static int honest(const char *endpoint)
{
	const struct brick_options options = { .name = "honest", .lanes = 2, .timeout_ms = 60000 };
	static uint8_t model[BLOCKS][BLOCK], buffer[BLOCK];
	struct brick_session *session, *newcomer;
	struct brick_handle handle[BLOCKS], theirs;
	struct brick_lane *lane[2];
	unsigned long rounds = 0;
	uint64_t addr[BLOCKS];

	signal(SIGTERM, on_term);
	for (unsigned i = 0; i < BLOCKS; i++)
		addr[i] = HONEST + i * BLOCK;
	fine(brick_open(endpoint, &options, &session));
	lane[0] = brick_lane(session, 0);
	fine(brick_lane_open(session, &lane[1]));
	fine(brick_alloc(lane[0], addr, BLOCKS, NULL));
	fine(brick_map(lane[0], addr, BLOCKS, BRICK_MAP_WRITE, handle, NULL));
	while (!asked_to_end || rounds < 3) {
		for (int i = 0; i < 8; i++) {
			uint32_t b = draw(BLOCKS), offset = draw(BLOCK - PIECE), length = 1 + draw(PIECE);
			struct brick_lane *on = lane[draw(2)];
			const struct brick_range range = { addr[b] + offset, length };

			for (uint32_t at = 0; at < length; at++)
				model[b][offset + at] = (uint8_t)draw(256);
			fine(brick_write(on, &handle[b], offset, model[b] + offset, length));
			fine(brick_persist(on, &range, 1, NULL));
			fine(brick_read(on, &handle[b], offset, buffer, length));
			if (memcmp(buffer, model[b] + offset, length) != 0)
				fine(-EIO);
		}
		/* somebody who comes now, is let in, and sees the same */
		fine(brick_open(endpoint, &(struct brick_options){ .name = "newcomer", .timeout_ms = 60000 }, &newcomer));
		fine(brick_map(brick_lane(newcomer, 0), addr, 1, 0, &theirs, NULL));
		fine(brick_read(brick_lane(newcomer, 0), &theirs, 0, buffer, PIECE));
		if (memcmp(buffer, model[0], PIECE) != 0)
			fine(-EIO);
		fine(brick_unmap(brick_lane(newcomer, 0), addr, 1, 0, NULL));
		brick_close(newcomer);
		if (!rounds++) {
			puts("working");
			fflush(stdout);
		}
	}
	for (unsigned b = 0; b < BLOCKS; b++) {
		fine(brick_read(lane[1], &handle[b], 0, buffer, BLOCK));
		if (memcmp(buffer, model[b], BLOCK) != 0)
			fine(-EIO);
	}
	fine(brick_free(lane[0], addr, BLOCKS, NULL));
	brick_close(session);
	printf("%lu rounds, not one error\n", rounds);
	return 0;
}

/* --- the bare protocol ------------------------------------------------------------------------------------------ */

/* From this attacker's own address. */
static int connect_raw(void)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	} to = { 0 }, from = { 0 };
	struct timeval limit = { .tv_sec = 60 };
	bool tcp = where.kind == ENDPOINT_TCP;
	int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ok(fd >= 0);
	if (tcp) {
		to.in.sin_family = from.in.sin_family = AF_INET;
		to.in.sin_port = htons((uint16_t)atoi(where.port));
		ok(inet_pton(AF_INET, where.host, &to.in.sin_addr) == 1);
		from.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + self);
		ok(bind(fd, &from.any, sizeof(from.in)) == 0);
	} else {
		to.un.sun_family = AF_UNIX;
		ok(strlen(where.path) < sizeof(to.un.sun_path));
		strcpy(to.un.sun_path, where.path);
	}
	ok(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
	ok(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0);
	ok(connect(fd, &to.any, tcp ? sizeof(to.in) : sizeof(to.un)) == 0);
	return fd;
}

/* The brick may have closed already, which is as good. */
static bool put(int fd, const void *bytes, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t sent = send(fd, (const char *)bytes + done, n - done, MSG_NOSIGNAL);

		if (sent < 0) {
			ok(errno == EPIPE || errno == ECONNRESET);
			return false;
		}
		done += (size_t)sent;
	}
	return true;
}

/* False: the brick closed. */
static bool get(int fd, void *bytes, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = recv(fd, (char *)bytes + done, n - done, 0);

		ok(got >= 0 || errno == ECONNRESET); /* EAGAIN: it neither answers nor closes */
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return true;
}

static void closes(int fd)
{
	uint8_t waste[65536];
	ssize_t got;

	do
		got = recv(fd, waste, sizeof(waste), 0);
	while (got > 0);
	ok(got == 0 || errno == ECONNRESET);
	close(fd);
}

/* 0 or what the brick answers; -ECONNRESET: it closed. */
static int greet(int fd, const uint8_t *token, uint16_t lane, uint8_t *token_out)
{
	struct wire_preamble p = { .version_min = WIRE_VERSION, .version_max = WIRE_VERSION, .lane = lane };
	struct wire_preamble_reply reply;
	uint8_t bytes[64];

	if (token)
		memcpy(p.token, token, sizeof(p.token));
	wire_put_preamble(bytes, &p);
	put(fd, bytes, WIRE_PREAMBLE_SIZE);
	if (!get(fd, bytes, WIRE_PREAMBLE_REPLY_SIZE))
		return -ECONNRESET;
	ok(wire_get_preamble_reply(bytes, WIRE_PREAMBLE_REPLY_SIZE, &reply) == 0);
	if (token_out)
		memcpy(token_out, reply.token, sizeof(reply.token));
	return wire_errno(reply.status);
}

struct message {
	struct wire_header header;
	uint8_t bytes[WIRE_MSG_MAX + WIRE_DATA_MAX];
};
static struct message last;

/* The next message that is no notice: its status; -ECONNRESET: the brick closed. */
static int answer(int fd)
{
	do {
		if (!get(fd, last.bytes, WIRE_HEADER_SIZE))
			return -ECONNRESET;
		ok(wire_get_header(last.bytes, WIRE_HEADER_SIZE, &last.header) == 0);
		if (!get(fd, last.bytes + WIRE_HEADER_SIZE, last.header.length - WIRE_HEADER_SIZE))
			return -ECONNRESET;
	} while (last.header.type == WIRE_NOTICE);
	return wire_errno(last.header.status);
}

static int hello(int fd, struct wire_hello_reply *granted)
{
	const struct wire_hello m = { .name = "hostile", .pid = 666 };
	uint8_t bytes[WIRE_MSG_MAX];
	int ret;

	put(fd, bytes, wire_put_hello(bytes, 1, &m));
	ret = answer(fd);
	ok(ret || wire_get_hello_reply(last.bytes, last.header.length, granted) == 0);
	return ret;
}

static int open_session(uint8_t *token)
{
	struct wire_hello_reply granted;
	int fd = connect_raw();

	ok(greet(fd, NULL, 0, token) == 0);
	ok(hello(fd, &granted) == 0);
	return fd;
}

/* ALLOC or FREE of one block after the other. */
static void blocks(int fd, uint16_t type, size_t n)
{
	uint64_t addr[64];
	uint32_t status[64];
	uint8_t bytes[WIRE_MSG_MAX];

	for (size_t i = 0; i < n; i++)
		addr[i] = HOSTILE + (self * 64 + i) * BLOCK;
	put(fd, bytes, wire_put_addrs(bytes, type, 2, addr, n));
	ok(answer(fd) == 0);
	ok(wire_get_statuses(last.bytes, last.header.length, status, &n) == 0);
	for (size_t i = 0; i < n; i++)
		ok(status[i] == 0);
}

/* How many of n blocks are mapped: the others must be refused for want of maps. */
static size_t map_blocks(int fd, size_t n, struct wire_handle *handles)
{
	struct wire_target targets[64];
	uint8_t bytes[WIRE_MSG_MAX];
	size_t mapped = 0, count = 64;

	for (size_t i = 0; i < n; i++)
		targets[i] = (struct wire_target){ HOSTILE + (self * 64 + i) * BLOCK, WIRE_MAP_WRITE };
	put(fd, bytes, wire_put_targets(bytes, WIRE_MAP, 3, targets, n));
	ok(answer(fd) == 0);
	ok(wire_get_handles(last.bytes, last.header.length, handles, &count) == 0 && count == n);
	for (size_t i = 0; i < n; i++) {
		ok(handles[i].status == 0 || wire_errno(handles[i].status) == -ENOMEM);
		mapped += handles[i].status == 0;
	}
	return mapped;
}

/* --- the attacks ------------------------------------------------------------------------------------------------- */

/* Greetings byte by byte, as slowly as it takes: all are ended by the brick. */
static void slow(void)
{
	enum { N = 40 };
	uint8_t bytes[WIRE_PREAMBLE_SIZE];
	int fd[N], left = N;
	size_t at = 0;

	wire_put_preamble(bytes, &(struct wire_preamble){ .version_min = 1, .version_max = 1 });
	for (int i = 0; i < N; i++)
		fd[i] = connect_raw();
	while (left) {
		for (int i = 0; i < N; i++) {
			uint8_t waste[64];
			ssize_t got = fd[i] < 0 ? 1 : recv(fd[i], waste, sizeof(waste), MSG_DONTWAIT);

			if (got == 0 || (got < 0 && errno != EAGAIN)) {
				close(fd[i]);
				fd[i] = -1;
				left--;
			} else if (fd[i] >= 0 && at < WIRE_PREAMBLE_SIZE - 1) {
				(void)send(fd[i], bytes + at, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			}
		}
		at++;
		rest(150);
	}
}

/* Hundreds that say nothing, or everything but HELLO. */
static void mute(void)
{
	enum { N = 400 };
	int fd[N];

	for (int i = 0; i < N; i++) {
		uint8_t bytes[WIRE_PREAMBLE_SIZE];

		fd[i] = connect_raw();
		wire_put_preamble(bytes, &(struct wire_preamble){ .version_min = 1, .version_max = 1 });
		if (i % 2)
			put(fd[i], bytes, WIRE_PREAMBLE_SIZE);
	}
	for (int i = 0; i < N; i++)
		closes(fd[i]);
}

/* Thousands of connections, held. */
static void crowd(void)
{
	enum { N = 2000 };
	static int fd[N];

	for (int i = 0; i < N; i++)
		fd[i] = connect_raw();
	rest(HOLD_MS);
	for (int i = 0; i < N; i++)
		close(fd[i]);
}

/* Lengths that no message has. */
static void oversized(void)
{
	static const struct {
		uint32_t length;
		uint16_t type;
	} wrong[] = {
		{ 0, WIRE_LIST }, { 15, WIRE_STAT }, { WIRE_MSG_MAX + 1, WIRE_MAP }, { UINT32_MAX, WIRE_ALLOC },
		{ WIRE_RW_FIXED + WIRE_DATA_MAX + 1, WIRE_WRITE }, { UINT32_MAX, WIRE_READ }, { 0x80000000, WIRE_KEEPALIVE },
	};

	for (unsigned i = 0; i < 5 * sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct wire_header h = { .length = wrong[i / 5].length, .type = wrong[i / 5].type, .id = 9 };
		uint8_t bytes[WIRE_HEADER_SIZE];
		int fd = open_session(NULL);

		wire_put_header(bytes, &h);
		put(fd, bytes, sizeof(bytes));
		closes(fd);
	}
}

/* A part of a message, then the end. */
static void truncated(void)
{
	for (unsigned i = 0; i < 60; i++) {
		const struct wire_rw rw = { .addr = HOSTILE + self * 64 * BLOCK, .length = 1u << 20 };
		uint8_t bytes[WIRE_MSG_MAX] = { 0 };
		struct wire_handle handle = { 0 };
		size_t n;
		int fd;

		if (i % 3 == 0) { /* of a preamble */
			fd = connect_raw();
			put(fd, bytes, i % WIRE_PREAMBLE_SIZE);
			close(fd);
			continue;
		}
		fd = open_session(NULL);
		if (i % 3 == 1 && where.kind == ENDPOINT_TCP) { /* of a WRITE, into a block */
			struct wire_rw into = rw;

			blocks(fd, WIRE_ALLOC, 1);
			ok(map_blocks(fd, 1, &handle) == 1);
			into.key = handle.key;
			wire_put_rw(bytes, WIRE_WRITE, 5, &into, into.length);
			put(fd, bytes, WIRE_RW_FIXED);
			memset(bytes, 'h', 1000);
			put(fd, bytes, 1000);
			close(fd);
			/* the session is at its end: its map goes, and then its block can be freed by another one */
			fd = open_session(NULL);
			for (;;) {
				const uint64_t addr = rw.addr;
				uint32_t status;
				size_t one = 1;

				put(fd, bytes, wire_put_addrs(bytes, WIRE_FREE, 2, &addr, 1));
				ok(answer(fd) == 0 && wire_get_statuses(last.bytes, last.header.length, &status, &one) == 0);
				if (status == 0)
					break;
				ok(wire_errno(status) == -EBUSY);
				rest(20);
			}
		} else {
			const uint64_t addr[100] = { 0 };

			n = wire_put_addrs(bytes, WIRE_FREE, 5, addr, 100);
			put(fd, bytes, 1 + i * 7 % (n - 1));
		}
		close(fd);
	}
}

/* Tokens and hellos again. */
static void replayed(void)
{
	struct wire_hello_reply first, again;
	uint8_t token[WIRE_TOKEN_SIZE], forged[WIRE_TOKEN_SIZE];
	int fd = connect_raw(), other;

	ok(greet(fd, NULL, 0, token) == 0);
	ok(hello(fd, &first) == 0);
	for (int i = 0; i < 50; i++) {
		ok(hello(fd, &again) == 0);
		ok(again.session == first.session && again.maps == first.maps && again.depth == first.depth);
	}
	/* its own token: each takes the place of the one before */
	for (int i = 0; i < 50; i++) {
		other = connect_raw();
		ok(greet(other, token, 0, NULL) == 0);
		closes(fd);
		fd = other;
	}
	/* tokens that differ in a bit */
	for (int i = 0; i < 128; i += 5) {
		memcpy(forged, token, sizeof(forged));
		forged[i / 8] ^= (uint8_t)(1 << i % 8);
		other = connect_raw();
		ok(greet(other, forged, 0, NULL) == -ESTALE);
		closes(other);
	}
	other = connect_raw();
	ok(greet(other, token, 60000, NULL) == -EMFILE);
	closes(other);
	close(fd);
	/* the session is gone in a moment, and its token with it: until then it is joined once more */
	for (;;) {
		int ret;

		other = connect_raw();
		ret = greet(other, token, 1, NULL);
		close(other);
		if (ret == -ESTALE)
			break;
		ok(ret == 0);
		rest(20);
	}
}

/* What may not come yet, never, or is not known. */
static void disordered(void)
{
	static const uint16_t early[] = { WIRE_MAP, WIRE_LIST, WIRE_BYE, WIRE_READ, WIRE_WRITE, 0x20 };
	static const uint16_t never[] = { WIRE_NOTICE, WIRE_HELLO | WIRE_REPLY, WIRE_LIST | WIRE_REPLY, 0xffff };
	static const uint16_t unknown[] = { 0, 0x20, 0x2f, 0x55, 0x7fff };
	uint8_t bytes[WIRE_MSG_MAX];
	int fd;

	for (unsigned i = 0; i < sizeof(early) / sizeof(early[0]); i++) {
		fd = connect_raw();
		ok(greet(fd, NULL, 0, NULL) == 0);
		put(fd, bytes, wire_put_plain(bytes, early[i], 1, 0));
		closes(fd);
	}
	for (unsigned i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		fd = open_session(NULL);
		put(fd, bytes, wire_put_plain(bytes, never[i], 1, 0));
		closes(fd);
	}
	fd = open_session(NULL);
	for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		put(fd, bytes, wire_put_plain(bytes, unknown[i], 1, 0));
		ok(answer(fd) == -EOPNOTSUPP);
	}
	close(fd);
}

/* Sends as much as the brick takes, again and again, and reads nothing. */
static void pour(int *fd, int n, const uint8_t *bytes, size_t length)
{
	size_t at[16] = { 0 };

	for (int i = 0; i < n; i++)
		ok(fcntl(fd[i], F_SETFL, O_NONBLOCK) == 0);
	for (int quiet = 0; quiet < HOLD_MS / 50;) {
		bool any = false;

		for (int i = 0; i < n; i++) {
			ssize_t sent = send(fd[i], bytes + at[i], length - at[i], MSG_NOSIGNAL);

			ok(sent > 0 || errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
			if (sent > 0) {
				at[i] = (at[i] + (size_t)sent) % length;
				any = true;
			}
		}
		if (!any) {
			quiet++;
			rest(50);
		}
	}
	for (int i = 0; i < n; i++)
		close(fd[i]);
}

/* Requests whose answers nobody reads, on several lanes: quick ones and slow ones. */
static void flood(void)
{
	enum { LANES = 8 };
	uint8_t bytes[WIRE_MSG_MAX], token[WIRE_TOKEN_SIZE], many[4 * WIRE_MSG_MAX];
	const struct wire_range range = { HOSTILE + self * 64 * BLOCK, BLOCK };
	const struct wire_list list = { 0 };
	uint64_t addr[100];
	size_t n, length = 0;
	int fd[LANES];

	for (int i = 0; i < 100; i++)
		addr[i] = 1; /* no block's address */
	fd[0] = open_session(token);
	blocks(fd[0], WIRE_ALLOC, 1);
	for (uint16_t i = 1; i < LANES; i++) {
		fd[i] = connect_raw();
		ok(greet(fd[i], token, i, NULL) == 0);
	}
	n = wire_put_list(bytes, 1, &list);
	memcpy(many + length, bytes, n);
	length += n;
	n = wire_put_plain(bytes, WIRE_STAT, 1, 0);
	memcpy(many + length, bytes, n);
	length += n;
	n = wire_put_addrs(bytes, WIRE_ALLOC, 1, addr, 100);
	memcpy(many + length, bytes, n);
	length += n;
	n = wire_put_ranges(bytes, 1, &range, 1);
	memcpy(many + length, bytes, n);
	length += n;
	pour(fd, LANES, many, length);
	fd[0] = open_session(NULL);
	blocks(fd[0], WIRE_FREE, 1);
	close(fd[0]);
}

/* READs of whole blocks that nobody takes. */
static void deaf(void)
{
	uint8_t bytes[WIRE_RW_FIXED], token[WIRE_TOKEN_SIZE];
	struct wire_handle handle;
	struct wire_rw rw = { .addr = HOSTILE + self * 64 * BLOCK, .length = WIRE_DATA_MAX };
	int fd[8], keeper;

	if (where.kind != ENDPOINT_TCP)
		return;
	keeper = open_session(token);
	blocks(keeper, WIRE_ALLOC, 1);
	ok(map_blocks(keeper, 1, &handle) == 1);
	rw.key = handle.key;
	for (uint16_t i = 0; i < 8; i++) {
		fd[i] = connect_raw();
		ok(greet(fd[i], token, (uint16_t)(i + 1), NULL) == 0);
	}
	wire_put_rw(bytes, WIRE_READ, 7, &rw, 0);
	pour(fd, 8, bytes, sizeof(bytes));
	blocks(keeper, WIRE_FREE, 1); /* also while the lanes end that were reading it */
	close(keeper);
}

/* More maps than are granted. */
static void greedy(void)
{
	struct wire_hello_reply granted;
	struct wire_handle handles[64];
	int fd = connect_raw();

	ok(greet(fd, NULL, 0, NULL) == 0);
	ok(hello(fd, &granted) == 0);
	ok(granted.maps < 12); /* hostile.sh sees to that */
	blocks(fd, WIRE_ALLOC, 12);
	for (int i = 0; i < 200; i++)
		ok(map_blocks(fd, 12, handles) == granted.maps);
	blocks(fd, WIRE_FREE, 12);
	close(fd);
}

/* More sessions than one peer may have. */
static void sessions(void)
{
	struct wire_hello_reply granted;
	int fd[65], n, ret = 0;

	for (n = 0; n < 65 && !ret; n++) {
		fd[n] = connect_raw();
		ret = greet(fd[n], NULL, 0, NULL);
		if (!ret)
			ret = hello(fd[n], &granted);
	}
	ok(ret == -EUSERS && n > 1 && n < 65);
	rest(HOLD_MS);
	while (n--)
		close(fd[n]);
}

static const struct attack {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{ "slow", slow },	  { "mute", mute },	  { "crowd", crowd },		{ "oversized", oversized },
	{ "truncated", truncated }, { "replayed", replayed }, { "disordered", disordered }, { "flood", flood },
	{ "deaf", deaf },	  { "greedy", greedy },	  { "sessions", sessions },
};
enum { ATTACKS = sizeof(attacks) / sizeof(attacks[0]) };

static pid_t begin(unsigned number)
{
	pid_t pid = fork();

	ok(pid >= 0);
	if (pid)
		return pid;
	name = attacks[number].name;
	self = number;
	if (where.kind == ENDPOINT_LOCAL)
		ok(setgid(OTHERS + number) == 0 && setuid(OTHERS + number) == 0);
	attacks[number].run();
	printf("%s: over\n", name);
	fflush(stdout);
	_exit(0);
}

static int attack(const char *only)
{
	struct rlimit limit;
	int worst = 0, status;
	pid_t pid[ATTACKS] = { 0 };

	ok(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	ok(setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 2100);
	for (unsigned i = 0; i < ATTACKS; i++)
		if (!only || strcmp(only, attacks[i].name) == 0)
			pid[i] = begin(i);
	for (unsigned i = 0; i < ATTACKS; i++) {
		if (!pid[i])
			continue;
		ok(waitpid(pid[i], &status, 0) == pid[i]);
		if (status) {
			fprintf(stderr, "FAILED: %s ended with status 0x%x\n", attacks[i].name, status);
			worst = 1;
		}
	}
	return worst;
}

int main(int argc, char **argv)
{
	if (argc < 3 || endpoint_parse(argv[1], &where)) {
		fprintf(stderr, "usage: hostile ENDPOINT honest|attack [NAME]\n");
		return 2;
	}
	if (strcmp(argv[2], "honest") == 0)
		return honest(argv[1]);
	return attack(argv[3]);
}
