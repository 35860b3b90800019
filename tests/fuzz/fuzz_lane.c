/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_lane - a hostile client against a whole brick in this process: pool, tier, server, lane.
 *
 * The input is what one connection sends.  Its first byte: local instead of tcp, a preamble and a hello of its own
 * instead of good ones, and whether everything that follows is raw; else the rest is a program: calls with
 * good frames over eight blocks and keys that the brick gave, with damage to the next frame in between, and raw bytes.
 * The brick must close the connection when the client has; then a client that behaves must be served, and
 * nothing that the hostile one had is held: its blocks can be freed, its threads have ended.
 */
#include "fuzz.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "report.h"
#include "server.h"

const char fuzz_name[] = "fuzz_lane";
const unsigned long fuzz_count = 4000;

#define BLOCKS 12
#define HANG_MS 600000			/* the machine may be very busy */
#define AT(n) (0x40000000ull + (uint64_t)(n) * WIRE_BLOCK_SIZE)

enum flag { LOCAL = 1, OWN_PREAMBLE = 2, OWN_HELLO = 4, ALL_RAW = 8 };
enum op { ALLOC, FREE, MAP, UNMAP, WRITE, READ, PERSIST, LIST, ASK, DAMAGE, CUT, PASTE, OPS };

static char folder[64], path[96];
static struct pool *pool;
static struct tier *tier;
static struct server *server;
static unsigned long greeted, mapped, moved;

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "BUG: %s\n", what);
	abort();
}

static void clean_up(void)
{
	unlink(path);
	rmdir(folder);
}

static void prepare(void)
{
	struct server_config config = server_config_default;

	if (server)
		return;
	report_init(fuzz_name, false, REPORT_ERROR);
	snprintf(folder, sizeof(folder), "%s/fuzz-lane-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	must(mkdtemp(folder), "no folder for the pool");
	snprintf(path, sizeof(path), "%s/pool", folder);
	atexit(clean_up);
	config.quiesce_ms = 100;
	config.max_maps = 4;
	config.max_sessions = 3;
	config.max_connections = 4;
	config.max_depth = 8;
	config.lease_ms = 3600000;
	must(!pool_create(path, BLOCKS * WIRE_BLOCK_SIZE), "pool_create");
	must(!pool_open(&pool, path, false), "pool_open");
	must(!tier_open(&tier, pool, TIER_DIRECT), "tier_open");
	must(!server_new(&server, pool, tier, &config), "server_new");
	must(!server_start(server), "server_start");
}

/* ---- a connection */

struct client {
	int fd;
	bool lost;		/* frames and answers no longer match */
	uint32_t id;
	uint32_t key[8];
	uint64_t place[8];
	uint8_t message[WIRE_MSG_MAX + WIRE_DATA_MAX];
};

static void dial(struct client *c, const struct transport *transport)
{
	struct timeval limit = {.tv_sec = HANG_MS / 1000};
	struct peer peer = {.text = "fuzz", .pid = 4711};
	int pair[2];

	memset(c, 0, offsetof(struct client, message));
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	c->fd = pair[0];
	(void)server_adopt(server, pair[1], transport, &peer);
}

/* Never blocks for long: what the brick does not take (it has closed, or is behind) ends the sending. */
static void give(struct client *c, const uint8_t *bytes, size_t n)
{
	static uint8_t waste[65536];

	while (n) {
		ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLOUT};

		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN)
			break;
		errno = 0;
		if (poll(&p, 1, HANG_MS) <= 0) {
			must(errno == EINTR, "the brick neither reads nor closes");
			continue;
		}
		if (p.revents & POLLIN) {
			c->lost = true;
			if (recv(c->fd, waste, sizeof(waste), MSG_DONTWAIT) == 0)
				break;
		}
	}
	if (n)
		c->lost = true;
}

static bool get(struct client *c, uint8_t *bytes, size_t n)
{
	while (n) {
		ssize_t got = recv(c->fd, bytes, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		must(got >= 0 || errno == ECONNRESET, "the brick neither answers nor closes");
		if (got <= 0) {
			c->lost = true;
			return false;
		}
		bytes += got;
		n -= (size_t)got;
	}
	return true;
}

/* The reply to the last request: its status. Everything the brick says must be well formed. */
static int answer(struct client *c, struct wire_header *h)
{
	for (;;) {
		if (!get(c, c->message, WIRE_HEADER_SIZE))
			return -ECONNRESET;
		must(!wire_get_header(c->message, WIRE_HEADER_SIZE, h), "the brick sends a malformed header");
		must(h->length <= sizeof(c->message), "the brick sends too much");
		if (!get(c, c->message + WIRE_HEADER_SIZE, h->length - WIRE_HEADER_SIZE))
			return -ECONNRESET;
		if (h->type == WIRE_NOTICE)
			continue;
		must(h->id == c->id, "the brick answers another request");
		return wire_errno(h->status);
	}
}

/* The answer's status: EUSERS while hostile ones that linger fill the house. */
static int preamble(struct client *c)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION, .version_max = WIRE_VERSION};
	uint8_t bytes[64];
	int r = -ECONNRESET;

	wire_put_preamble(bytes, &p);
	give(c, bytes, WIRE_PREAMBLE_SIZE);
	if (get(c, bytes, WIRE_PREAMBLE_REPLY_SIZE)) {
		struct wire_preamble_reply reply;

		must(!wire_get_preamble_reply(bytes, WIRE_PREAMBLE_REPLY_SIZE, &reply), "the brick answers the preamble with garbage");
		c->lost = reply.status != 0;
		r = wire_errno(reply.status);
	}
	return r;
}

/* A client that behaves gets in before long. */
static void admitted(struct client *c)
{
	for (unsigned tries = 0;; tries++) {
		int r;

		dial(c, &transport_tcp);
		r = preamble(c);
		if (!r)
			return;
		must((r == -EUSERS || r == -ECONNRESET) && tries < HANG_MS, "a good client is not admitted");
		close(c->fd);
		usleep(1000);
	}
}

static void hello(struct client *c)
{
	struct wire_hello m = {.maps = 4, .lanes = 1, .depth = 8, .name = "fuzz", .pid = 1};
	struct wire_hello_reply reply;
	struct wire_header h;
	size_t n = wire_put_hello(c->message, ++c->id, &m);

	give(c, c->message, n);
	if (!c->lost && !answer(c, &h)) {
		must(!wire_get_hello_reply(c->message, h.length, &reply), "the brick answers hello with garbage");
		greeted++;
	}
}

/* The client has nothing more to say: the brick closes. */
static void hang_up(struct client *c)
{
	static uint8_t waste[65536];
	ssize_t n;

	shutdown(c->fd, SHUT_WR);
	do		/* with a limit of time, a signal (libFuzzer's alarm) always ends it */
		n = recv(c->fd, waste, sizeof(waste), 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	must(n == 0 || errno == ECONNRESET, "the brick does not close");
	close(c->fd);
}

/* ---- the program */

struct program { const uint8_t *at, *end; };

static unsigned next(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

/* A frame of this call. */
static size_t build(struct client *c, struct program *p, unsigned op)
{
	unsigned a = next(p), b = next(p), block = a & 7;
	struct wire_rw rw = {.addr = AT(block) + (uint64_t)b * 977, .key = c->key[block], .length = 1u + (a >> 3) * 131};
	struct wire_target targets[8];
	struct wire_range ranges[8];
	uint64_t addrs[8];
	uint8_t *buf = c->message;
	size_t n = 1 + (a >> 4) % 3;

	for (size_t i = 0; i < n; i++) {
		addrs[i] = AT((block + i) & 7);
		targets[i] = (struct wire_target){addrs[i], b & (op == MAP ? WIRE_MAP_KNOWN : WIRE_UNMAP_KNOWN)};
		ranges[i] = (struct wire_range){addrs[i] + b, 1 + b * 64};
	}
	switch (op) {
	case ALLOC:
		return wire_put_addrs(buf, WIRE_ALLOC, ++c->id, addrs, n);
	case FREE:
		return wire_put_addrs(buf, WIRE_FREE, ++c->id, addrs, n);
	case MAP:
		return wire_put_targets(buf, WIRE_MAP, ++c->id, targets, n);
	case UNMAP:
		return wire_put_targets(buf, WIRE_UNMAP, ++c->id, targets, n);
	case WRITE:
		wire_put_rw(buf, WIRE_WRITE, ++c->id, &rw, rw.length);
		memset(buf + WIRE_RW_FIXED, (int)b, rw.length);
		return WIRE_RW_FIXED + rw.length;
	case READ:
		wire_put_rw(buf, WIRE_READ, ++c->id, &rw, 0);
		return WIRE_RW_FIXED;
	case PERSIST:
		return wire_put_ranges(buf, ++c->id, ranges, n);
	case LIST:
		return wire_put_list(buf, ++c->id, &(struct wire_list){.from = b & 1 ? AT(block) : 0, .max = a});
	default: {
		static const uint16_t ask[] = {WIRE_SESSIONS, WIRE_WHO, WIRE_STAT, WIRE_LIMITS, WIRE_KEEPALIVE, WIRE_REVOKE, WIRE_BYE, WIRE_HELLO, 0x55};
		uint16_t type = ask[a & 7];

		if (type == WIRE_SESSIONS || type == WIRE_WHO || type == WIRE_REVOKE)
			return wire_put_sessions(buf, type, ++c->id, &(struct wire_sessions){type == WIRE_WHO ? AT(b & 7) : b});
		return wire_put_plain(buf, type, ++c->id, 0);
	}
	}
}

static void take_answer(struct client *c, unsigned op, unsigned block)
{
	struct wire_handle handles[8];
	struct wire_header h;
	size_t n = 8;
	int r = answer(c, &h);

	if (r || op != MAP) {
		moved += !r && (op == WRITE || op == READ);
		return;
	}
	must(!wire_get_handles(c->message, h.length, handles, &n), "the brick answers map with garbage");
	for (size_t i = 0; i < n; i++)
		if (!handles[i].status) {
			c->key[(block + i) & 7] = handles[i].key;
			mapped++;
		}
}

static void run(struct client *c, struct program *p)
{
	unsigned hurt = 0, at = 0, with = 0, cut = 0;

	while (p->at < p->end) {
		unsigned op = next(p) % OPS, block;
		size_t size;

		if (op == DAMAGE) {
			hurt = 1 + next(p) % 4;
			at = next(p);
			with = next(p);
			continue;
		}
		if (op == CUT) {
			cut = 1 + next(p);
			continue;
		}
		if (op == PASTE) {
			unsigned n = next(p);

			if (n > (size_t)(p->end - p->at))
				n = (unsigned)(p->end - p->at);
			c->lost |= n > 0;
			give(c, p->at, n);
			p->at += n;
			continue;
		}
		block = p->at < p->end ? *p->at & 7 : 0;
		size = build(c, p, op);
		for (unsigned k = 0; k < hurt && at + k < size; k++)
			c->message[at + k] = (uint8_t)(k ? c->message[at + k] ^ with : with);
		/* length, type or ID are not what they were, or the frame is not whole */
		c->lost |= (hurt && at < WIRE_HEADER_SIZE) || cut || (hurt && (op == WRITE || op == READ));
		if (cut && cut < size)
			size -= cut;
		give(c, c->message, size);
		hurt = cut = 0;
		if (!c->lost)
			take_answer(c, op, block);
	}
}

/* ---- and one that behaves */

static void still_serves(void)
{
	static struct client c;
	uint64_t addrs[9], mine = AT(9);	/* that, too, may have been named, by damage */
	uint32_t status[9];
	struct wire_header h;
	struct wire_handle handle;
	struct wire_target target = {mine, WIRE_MAP_WRITE};
	size_t n = 9, one = 1;

	admitted(&c);
	hello(&c);
	must(!c.lost, "a good client is not greeted");
	for (unsigned i = 0; i < 8; i++)
		addrs[i] = AT(i);
	addrs[8] = mine;
	/* A lane that lingers says goodbye before its session has ended: soon after. */
	for (unsigned tries = 0, busy = 1; busy; tries++) {
		must(tries < HANG_MS, "a block that the hostile client had is still held");
		if (tries)
			usleep(1000);
		give(&c, c.message, wire_put_addrs(c.message, WIRE_FREE, ++c.id, addrs, 9));
		n = 9;
		must(!answer(&c, &h) && !wire_get_statuses(c.message, h.length, status, &n) && n == 9, "free is not answered");
		busy = 0;
		for (unsigned i = 0; i < 9; i++) {
			busy += wire_errno(status[i]) == -EBUSY;
			must(!status[i] || wire_errno(status[i]) == -ENOENT || wire_errno(status[i]) == -EBUSY,
			     "a block that the hostile client had cannot be freed");
		}
	}
	give(&c, c.message, wire_put_addrs(c.message, WIRE_ALLOC, ++c.id, &mine, 1));
	must(!answer(&c, &h) && !wire_get_statuses(c.message, h.length, status, &one) && !status[0], "alloc fails");
	give(&c, c.message, wire_put_targets(c.message, WIRE_MAP, ++c.id, &target, 1));
	must(!answer(&c, &h) && !wire_get_handles(c.message, h.length, &handle, &one) && !handle.status, "map fails");
	wire_put_rw(c.message, WIRE_WRITE, ++c.id, &(struct wire_rw){mine + 5, handle.key, 4}, 4);
	memcpy(c.message + WIRE_RW_FIXED, "good", 4);
	give(&c, c.message, WIRE_RW_FIXED + 4);
	must(!answer(&c, &h), "write fails");
	wire_put_rw(c.message, WIRE_READ, ++c.id, &(struct wire_rw){mine + 5, handle.key, 4}, 0);
	give(&c, c.message, WIRE_RW_FIXED);
	must(!answer(&c, &h) && h.length == WIRE_HEADER_SIZE + 4 && !memcmp(c.message + WIRE_HEADER_SIZE, "good", 4), "read fails");
	give(&c, c.message, wire_put_addrs(c.message, WIRE_FREE, ++c.id, &mine, 1));
	must(!answer(&c, &h) && !wire_get_statuses(c.message, h.length, status, &one) && !status[0], "free fails");
	hang_up(&c);
}

/* A block that was named by damage alone stays allocated: all there is is freed when room gets short. */
static void sweep(void)
{
	static struct client c;
	struct wire_list_reply list;
	struct wire_header h;
	uint32_t status[1];
	size_t one = 1;

	if (pool_free_slots(pool) > BLOCKS / 2)
		return;
	admitted(&c);
	hello(&c);
	give(&c, c.message, wire_put_list(c.message, ++c.id, &(struct wire_list){.from = 0}));
	must(!answer(&c, &h) && !wire_get_list_reply(c.message, h.length, &list), "list fails");
	for (unsigned i = 0; i < list.count; i++)
		for (uint64_t k = 0; k < list.extent[i].count; k++) {
			uint64_t addr = list.extent[i].start + k * WIRE_BLOCK_SIZE;

			give(&c, c.message, wire_put_addrs(c.message, WIRE_FREE, ++c.id, &addr, 1));
			must(!answer(&c, &h) && !wire_get_statuses(c.message, h.length, status, &one) && !status[0], "free of what is listed fails");
		}
	hang_up(&c);
}

/*
 * Both connections are closed: their threads end, and are joined.  A thread that is about to free what it had looks like
 * a leak to who asks at that moment (libFuzzer does, after each input).
 */
static void nothing_left(void)
{
	for (unsigned tries = 0;; tries++) {
		unsigned threads;

		pthread_mutex_lock(&server->lock);
		threads = server->threads_n;
		pthread_mutex_unlock(&server->lock);
		if (!threads)
			return;
		must(tries < HANG_MS * 10, "a connection's thread does not end");
		usleep(100);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct client c;
	struct program p;

	if (!size)
		return 0;
	prepare();
	p = (struct program){data + 1, data + size};
	dial(&c, data[0] & LOCAL ? &transport_local : &transport_tcp);
	c.lost = data[0] & OWN_PREAMBLE;
	if (!c.lost)
		preamble(&c);
	if (!(data[0] & (OWN_PREAMBLE | OWN_HELLO)))
		hello(&c);
	if (data[0] & ALL_RAW)
		give(&c, p.at, size - 1);
	else
		run(&c, &p);
	hang_up(&c);
	still_serves();
	sweep();
	nothing_left();
	return 0;
}

size_t fuzz_sample(uint8_t *buf, unsigned n)
{
	static const struct { unsigned char length, bytes[40]; } samples[] = {
		{1 + 3 * 9, {0, ALLOC, 0x10, 0, MAP, 0x10, 1, WRITE, 0x48, 3, READ, 0x48, 3, PERSIST, 0x10, 9, LIST, 9, 1, ASK, 0, 0,
			     UNMAP, 0x10, 1, FREE, 0x10, 0}},
		{1 + 3 * 5, {LOCAL, ALLOC, 0x20, 0, MAP, 0x20, 3, PERSIST, 0, 0, ASK, 1, 0, ASK, 5, 0}},
		{1 + 3 * 8, {0, ASK, 0, 0, ASK, 1, 0, ASK, 2, 0, ASK, 3, 0, ASK, 4, 9, ASK, 6, 0, ASK, 7, 0, ASK, 5, 0}},
		{1 + 4 + 3 + 2 + 3 + 3, {0, DAMAGE, 2, 20, 0xff, ALLOC, 1, 0, CUT, 5, MAP, 1, 1, ALLOC, 1, 0}},
		{1 + 6 + 6 + 3, {0, ALLOC, 0, 0, MAP, 0, 0, WRITE, 0xf8, 200, WRITE, 9, 1, FREE, 0, 0}},
	};
	struct wire_preamble p = {.version_min = WIRE_VERSION, .version_max = WIRE_VERSION};
	struct wire_hello m = {.maps = 2, .name = "sample"};
	size_t at = 1;

	if (n < sizeof(samples) / sizeof(samples[0])) {
		memcpy(buf, samples[n].bytes, samples[n].length);
		return samples[n].length;
	}
	n -= sizeof(samples) / sizeof(samples[0]);
	if (n > 2)
		return 0;
	/* raw, from the preamble, from the hello, or behind it */
	buf[0] = ALL_RAW | (n == 0 ? OWN_PREAMBLE | OWN_HELLO : n == 1 ? OWN_HELLO : 0);
	if (n == 0) {
		wire_put_preamble(buf + at, &p);
		at += WIRE_PREAMBLE_SIZE;
	}
	if (n < 2)
		at += wire_put_hello(buf + at, 1, &m);
	at += wire_put_addrs(buf + at, WIRE_ALLOC, 2, (uint64_t[]){AT(0), AT(1)}, 2);
	at += wire_put_targets(buf + at, WIRE_MAP, 3, (struct wire_target[]){{AT(0), 1}, {AT(1), 7}}, 2);
	at += wire_put_ranges(buf + at, 4, (struct wire_range[]){{AT(0), 100}}, 1);
	at += wire_put_list(buf + at, 5, &(struct wire_list){0, 4});
	at += wire_put_sessions(buf + at, WIRE_WHO, 6, &(struct wire_sessions){AT(0)});
	at += wire_put_plain(buf + at, WIRE_STAT, 7, 0);
	return at;
}

int fuzz_report(unsigned long inputs)
{
	printf("greeted %lu, mapped %lu, reads and writes %lu\n", greeted, mapped, moved);
	server_stop(server);
	server_delete(server);
	tier_close(tier);
	pool_close(pool);
	return inputs >= 1000 && (greeted < inputs || !mapped || !moved);
}
