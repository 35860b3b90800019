/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_brick - a small brick in this process for the tests of libbrick. */
#include "fake_brick.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define CONNECTIONS 64
#define PENDING 64

struct reply {
	uint8_t *bytes;
	size_t len;
	int fd;			/* to be passed with it, or -1 */
};

struct connection {
	struct fake_brick *fake;
	pthread_t thread;
	int fd;
	bool greeted;		/* its hello, or its join, is over */
	uint32_t last_id;
	struct reply pending[PENDING];
	unsigned pending_count;
};

struct fake_brick {
	bool local;
	uint16_t depth;
	char endpoint[160], dir[64], path[108];
	int listener, memory_fd;
	uint8_t *memory;
	pthread_t thread;
	pthread_mutex_t lock;	/* all below */
	bool stopping;
	enum fake_fault fault;
	unsigned gather, seed, deepest;
	unsigned counts[0x80];
	uint64_t addrs[FAKE_SLOTS];	/* address + 1, 0: free */
	uint64_t generation;
	struct connection *connections[CONNECTIONS];
	unsigned connection_count;
};

static const uint8_t token[WIRE_TOKEN_SIZE] = "fake token 1234";

static void die(const char *what)
{
	perror(what);
	abort();
}

static enum fake_fault fault_of(struct fake_brick *fake)
{
	enum fake_fault fault;

	pthread_mutex_lock(&fake->lock);
	fault = fake->fault;
	pthread_mutex_unlock(&fake->lock);
	return fault;
}

static bool get_all(int fd, void *to, size_t len)
{
	while (len > 0) {
		ssize_t n = recv(fd, to, len, 0);

		if (n <= 0)
			return false;
		to = (char *)to + n;
		len -= (size_t)n;
	}
	return true;
}

static bool put_all(int fd, const void *from, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		from = (const char *)from + n;
		len -= (size_t)n;
	}
	return true;
}

static bool put_with_fd(int fd, const void *from, size_t len, int passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)from, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &passed, sizeof(int));
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The store; the lock is held. */

static int slot_of(const struct fake_brick *fake, uint64_t addr)
{
	for (int i = 0; i < FAKE_SLOTS; i++)
		if (fake->addrs[i] == (addr & ~(WIRE_BLOCK_SIZE - 1)) + 1)
			return i;
	return -1;
}

static int do_alloc(struct fake_brick *fake, uint64_t addr)
{
	if (addr & (WIRE_BLOCK_SIZE - 1))
		return -EINVAL;
	if (slot_of(fake, addr) >= 0)
		return -EEXIST;
	for (int i = 0; i < FAKE_SLOTS; i++) {
		if (fake->addrs[i])
			continue;
		fake->addrs[i] = addr + 1;
		memset(fake->memory + (size_t)i * WIRE_BLOCK_SIZE, 0, WIRE_BLOCK_SIZE);
		fake->generation++;
		return 0;
	}
	return -ENOSPC;
}

static int do_free(struct fake_brick *fake, uint64_t addr)
{
	int slot = slot_of(fake, addr);

	if (slot < 0)
		return -ENOENT;
	fake->addrs[slot] = 0;
	fake->generation++;
	return 0;
}

static void list(struct fake_brick *fake, const struct wire_list *ask, struct wire_list_reply *reply)
{
	uint64_t from = ask->from;

	memset(reply, 0, sizeof(*reply));
	reply->generation = fake->generation;
	for (;;) {
		uint64_t best = UINT64_MAX, count = 1;

		for (int i = 0; i < FAKE_SLOTS; i++)
			if (fake->addrs[i] && fake->addrs[i] - 1 >= from && fake->addrs[i] - 1 < best)
				best = fake->addrs[i] - 1;
		if (best == UINT64_MAX)
			return;
		if (ask->max && reply->count == ask->max) {
			reply->more = true;
			reply->next = best;
			return;
		}
		while (slot_of(fake, best + count * WIRE_BLOCK_SIZE) >= 0)
			count++;
		reply->extent[reply->count++] = (struct wire_extent){ best, count };
		from = best + count * WIRE_BLOCK_SIZE;
	}
}

/* One control message: the reply to it, whole. */
static size_t answer(struct connection *c, const uint8_t *msg, const struct wire_header *h, uint8_t *out, int *pass)
{
	struct fake_brick *fake = c->fake;
	enum fake_fault fault = fake->fault;
	uint64_t addrs[WIRE_ADDRS_MAX];
	uint32_t statuses[WIRE_ADDRS_MAX];
	struct wire_target targets[WIRE_ADDRS_MAX];
	struct wire_range ranges[WIRE_ADDRS_MAX];
	struct wire_handle handles[WIRE_ADDRS_MAX];
	size_t n = WIRE_ADDRS_MAX;

	*pass = -1;
	switch (h->type) {
	case WIRE_HELLO: {
		struct wire_hello hello;
		struct wire_hello_reply reply = { .instance = 7, .loss_epoch = 3, .capacity = FAKE_SLOTS, .free = FAKE_SLOTS,
						  .session = 42, .maps = FAKE_SLOTS, .lanes = FAKE_LANES,
						  .depth = fake->depth, .lease_ms = 30000, .fds = fake->local,
						  .method = WIRE_PERSIST_TARGET };

		if (wire_get_hello(msg, h->length, &hello) < 0)
			die("a hello that is not well formed");
		memset(reply.uuid, 0xb1, sizeof(reply.uuid));
		if (fault == FAKE_NO_GRANT)
			reply.lanes = 0;
		if (fake->local && fault != FAKE_NO_FDS)
			*pass = fake->memory_fd;
		if (!fake->local && fault == FAKE_NO_FDS)
			reply.fds = 1;
		return wire_put_hello_reply(out, h->id, &reply);
	}
	case WIRE_ALLOC:
	case WIRE_FREE:
		if (wire_get_addrs(msg, h->length, addrs, &n) < 0)
			die("addresses that are not well formed");
		for (size_t i = 0; i < n; i++)
			statuses[i] = wire_status(h->type == WIRE_ALLOC ? do_alloc(fake, addrs[i]) : do_free(fake, addrs[i]));
		if (fault == FAKE_WRONG_COUNT)
			statuses[n] = 0, n += n > 1 ? -1 : 1;
		return wire_put_statuses(out, h->type, h->id, statuses, n);
	case WIRE_MAP:
	case WIRE_UNMAP:
		if (wire_get_targets(msg, h->length, targets, &n) < 0)
			die("targets that are not well formed");
		for (size_t i = 0; i < n; i++) {
			int slot = slot_of(fake, targets[i].addr);

			statuses[i] = wire_status(slot < 0 ? -ENOENT : 0);
			handles[i] = (struct wire_handle){ .status = statuses[i] };
			if (slot < 0)
				continue;
			handles[i].key = fake->local ? 0 : 100 + (uint32_t)slot;
			handles[i].place = fake->local ? (uint64_t)slot * WIRE_BLOCK_SIZE : targets[i].addr;
			if (fault == FAKE_WRONG_PLACE)
				handles[i].place = (FAKE_SLOTS - 1) * WIRE_BLOCK_SIZE + 1;
		}
		if (fault == FAKE_WRONG_COUNT)
			n += n > 1 ? -1 : 1;
		return h->type == WIRE_MAP ? wire_put_handles(out, h->id, handles, n) :
					     wire_put_statuses(out, h->type, h->id, statuses, n);
	case WIRE_PERSIST:
		if (wire_get_ranges(msg, h->length, ranges, &n) < 0)
			die("ranges that are not well formed");
		for (size_t i = 0; i < n; i++)
			statuses[i] = wire_status(slot_of(fake, ranges[i].addr) < 0 ? -ENOENT : 0);
		if (fault == FAKE_WRONG_COUNT)
			statuses[n] = 0, n += n > 1 ? -1 : 1;
		return wire_put_statuses(out, h->type, h->id, statuses, n);
	case WIRE_LIST: {
		struct wire_list ask;
		struct wire_list_reply reply;

		if (wire_get_list(msg, h->length, &ask) < 0)
			die("a list that is not well formed");
		list(fake, &ask, &reply);
		return wire_put_list_reply(out, h->id, &reply);
	}
	case WIRE_STAT: {
		struct wire_stat_reply reply = { .instance = 7, .capacity = FAKE_SLOTS, .generation = fake->generation,
						 .method = WIRE_PERSIST_TARGET };

		reply.op[WIRE_OP_READ].p99_ns = 99;
		return wire_put_stat_reply(out, h->id, &reply);
	}
	case WIRE_LIMITS:
		/* one row more than this version knows */
		return wire_put_limits_reply(out, h->id, &(struct wire_limits_reply){
			.limits = WIRE_LIMIT_ROWS + 1, .refusals = WIRE_REFUSED_ROWS + 1,
			.limit[WIRE_LIMIT_SESSIONS] = { 64, 3 }, .refused[WIRE_REFUSED_STALL] = 12 });
	case WIRE_SESSIONS:
	case WIRE_WHO: {
		static struct wire_sessions_reply reply;
		struct wire_sessions ask;

		if (wire_get_sessions(msg, h->length, &ask) < 0)
			die("a sessions request that is not well formed");
		/* 100 sessions, numbered from 1, so that there are two pages. */
		memset(&reply, 0, sizeof(reply));
		for (uint64_t s = h->type == WIRE_WHO ? 1 : ask.from ? ask.from : 1; s <= 100; s++) {
			if (reply.count == WIRE_SESSIONS_MAX) {
				reply.more = true;
				break;
			}
			reply.session[reply.count].session = s;
			strcpy(reply.session[reply.count].transport, "tcp");
			strcpy(reply.session[reply.count++].name, "somebody@somewhere");
		}
		return wire_put_sessions_reply(out, h->type, h->id, &reply);
	}
	case WIRE_REVOKE:
		return wire_put_plain(out, h->type | WIRE_REPLY, h->id, -ENOENT);
	default:
		return wire_put_plain(out, h->type | WIRE_REPLY, h->id, 0);
	}
}

static bool serve_data(struct connection *c, const uint8_t *fixed, const struct wire_header *h, uint8_t *out, size_t *len)
{
	struct fake_brick *fake = c->fake;
	static __thread uint8_t payload[WIRE_DATA_MAX];
	struct wire_header reply = { .type = h->type | WIRE_REPLY, .id = h->id, .length = WIRE_HEADER_SIZE };
	uint8_t *at = NULL;
	struct wire_rw rw;
	int slot;

	if (wire_get_rw(fixed, WIRE_RW_FIXED, &rw) < 0)
		die("a read or write that is not well formed");
	if (h->type == WIRE_WRITE && !get_all(c->fd, payload, rw.length))
		return false;
	pthread_mutex_lock(&fake->lock);
	slot = slot_of(fake, rw.addr);
	if (slot < 0 || rw.key != 100 + (uint32_t)slot)
		reply.status = wire_status(-EACCES);
	else
		at = fake->memory + (size_t)slot * WIRE_BLOCK_SIZE + (rw.addr & (WIRE_BLOCK_SIZE - 1));
	if (at && h->type == WIRE_WRITE)
		memcpy(at, payload, rw.length);
	if (at && h->type == WIRE_READ) {
		reply.length += rw.length;
		memcpy(out + WIRE_HEADER_SIZE, at, rw.length);
	}
	if (fake->fault == FAKE_WRONG_COUNT)
		reply.length += h->type == WIRE_READ ? -1 : 1;
	pthread_mutex_unlock(&fake->lock);
	wire_put_header(out, &reply);
	/* wire_put_header() writes what it is told, so the wrong ones are as long as they say. */
	*len = reply.length;
	return true;
}

static bool emit(struct connection *c, const struct reply *reply, enum fake_fault fault)
{
	if (reply->fd >= 0)
		return put_with_fd(c->fd, reply->bytes, reply->len, reply->fd);
	if (fault == FAKE_DRIP) {
		for (size_t done = 0; done < reply->len;) {
			size_t part = reply->len - done < 40 ? 1 + done % 7 : (reply->len - done) / 3;

			if (part > reply->len - done)
				part = reply->len - done;
			if (!put_all(c->fd, reply->bytes + done, part))
				return false;
			usleep(200);
			done += part;
		}
		return true;
	}
	return put_all(c->fd, reply->bytes, reply->len);
}

static bool emit_pending(struct connection *c)
{
	bool ok = true;

	while (c->pending_count > 0) {
		struct reply *reply = &c->pending[--c->pending_count];

		ok = ok && emit(c, reply, FAKE_GOOD);
		free(reply->bytes);
	}
	return ok;
}

static void put_u16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

/* Sends the reply, or what the fault makes of it. false: the connection ends. */
static bool respond(struct connection *c, struct reply reply, const struct wire_header *h)
{
	struct fake_brick *fake = c->fake;
	enum fake_fault fault = c->greeted ? fault_of(fake) : FAKE_GOOD;
	uint8_t notice[WIRE_MSG_MAX];
	bool ok = true;
	unsigned seed;

	switch (fault) {
	case FAKE_SILENT:
		break;
	case FAKE_CLOSE:
		ok = false;
		break;
	case FAKE_CUT:
		put_all(c->fd, reply.bytes, reply.len / 2);
		ok = false;
		break;
	case FAKE_GARBAGE:
		pthread_mutex_lock(&fake->lock);
		seed = fake->seed++;
		pthread_mutex_unlock(&fake->lock);
		/* Either all of it is random, or only what is behind the length and the type. */
		for (size_t i = seed % 2 ? 0 : 6; i < reply.len; i++)
			reply.bytes[i] = (uint8_t)(rand_r(&seed) >> 7);
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_SHORT_LENGTH:
		put_u16(reply.bytes, WIRE_HEADER_SIZE - 1);
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_WRONG_ID:
		reply.bytes[11] ^= 0x40;
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_OLD_ID:
		for (int i = 0; i < 4; i++)
			reply.bytes[8 + i] = (uint8_t)(c->last_id >> (8 * i));
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_WRONG_TYPE:
		put_u16(reply.bytes + 4, (h->type == WIRE_FREE ? WIRE_ALLOC : WIRE_FREE) | WIRE_REPLY);
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_STATUS_AND_BODY:
		reply.bytes[12] = EIO;
		if (reply.len == WIRE_HEADER_SIZE)
			reply.bytes[0]++, reply.len++;
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_TWICE:
		ok = emit(c, &reply, FAKE_GOOD) && emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_NOTICES:
		for (unsigned i = 0; ok && i < 100; i++) {
			const struct wire_notice n = { .kind = WIRE_NOTICE_RECALL, .arg = i };

			ok = put_all(c->fd, notice, wire_put_notice(notice, &n));
		}
		ok = ok && emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_SLOW:
		usleep(500000);
		ok = emit(c, &reply, FAKE_GOOD);
		break;
	case FAKE_REVERSE:
		c->pending[c->pending_count] = reply;
		c->pending[c->pending_count++].bytes = memcpy(malloc(reply.len), reply.bytes, reply.len);
		pthread_mutex_lock(&fake->lock);
		if (c->pending_count > fake->deepest)
			fake->deepest = c->pending_count;
		ok = c->pending_count < fake->gather;
		pthread_mutex_unlock(&fake->lock);
		ok = ok || emit_pending(c);
		break;
	default:
		ok = emit(c, &reply, fault);
	}
	c->last_id = h->id;
	return ok;
}

static bool greet(struct connection *c)
{
	struct fake_brick *fake = c->fake;
	enum fake_fault fault = fault_of(fake);
	uint8_t bytes[WIRE_PREAMBLE_REPLY_SIZE];
	struct wire_preamble preamble;
	struct wire_preamble_reply reply = { .version = WIRE_VERSION };
	static const uint8_t none[WIRE_TOKEN_SIZE];

	if (!get_all(c->fd, bytes, WIRE_PREAMBLE_SIZE) || wire_get_preamble(bytes, WIRE_PREAMBLE_SIZE, &preamble) < 0)
		return false;
	reply.lane = preamble.lane;
	memcpy(reply.token, token, sizeof(token));
	c->greeted = memcmp(preamble.token, none, sizeof(none)) != 0;
	if (c->greeted && memcmp(preamble.token, token, sizeof(token)) != 0)
		die("a token that was never given");
	switch (fault) {
	case FAKE_MUTE:
		get_all(c->fd, bytes, 1);
		return false;
	case FAKE_NO_BRICK:
		put_all(c->fd, "SSH-2.0-something_that_is_no_brick_at_all\r\n", 43);
		return false;
	case FAKE_HANG_UP:
		return false;
	case FAKE_FULL:
		reply.status = wire_status(-EUSERS);
		break;
	case FAKE_STALE:
		reply.status = wire_status(-ESTALE);
		break;
	case FAKE_OTHER_LANE:
		reply.lane++;
		break;
	default:
		break;
	}
	wire_put_preamble_reply(bytes, &reply);
	return put_all(c->fd, bytes, sizeof(bytes)) && reply.status == 0;
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	struct fake_brick *fake = c->fake;
	uint8_t msg[WIRE_MSG_MAX];
	uint8_t *out = malloc(WIRE_HEADER_SIZE + WIRE_DATA_MAX + 1);
	struct wire_header h;

	if (!greet(c))
		goto end;
	while (get_all(c->fd, msg, WIRE_HEADER_SIZE) && wire_get_header(msg, WIRE_HEADER_SIZE, &h) == 0) {
		struct reply reply = { .bytes = out, .fd = -1 };
		bool data = h.type == WIRE_READ || h.type == WIRE_WRITE;

		if (!get_all(c->fd, msg + WIRE_HEADER_SIZE, (data ? WIRE_RW_FIXED : h.length) - WIRE_HEADER_SIZE))
			break;
		pthread_mutex_lock(&fake->lock);
		fake->counts[h.type & 0x7f]++;
		if (fake->fault == FAKE_REFUSE && c->greeted) {
			reply.len = wire_put_plain(out, h.type | WIRE_REPLY, h.id, -EOPNOTSUPP);
			data = false;
		} else if (!data) {
			reply.len = answer(c, msg, &h, out, &reply.fd);
		}
		pthread_mutex_unlock(&fake->lock);
		if (data && !serve_data(c, msg, &h, out, &reply.len))
			break;
		if (reply.len == 0)
			die("a reply that cannot be made");
		if (!respond(c, reply, &h))
			break;
		if (h.type == WIRE_HELLO)
			c->greeted = true;
		if (h.type == WIRE_BYE)
			break;
	}
end:
	while (c->pending_count > 0)
		free(c->pending[--c->pending_count].bytes);
	free(out);
	shutdown(c->fd, SHUT_RDWR);
	return NULL;
}

static void *listen_loop(void *arg)
{
	struct fake_brick *fake = arg;

	for (;;) {
		int one = 1, fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
		struct connection *c;

		if (fd < 0)
			return NULL;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		pthread_mutex_lock(&fake->lock);
		if (fake->stopping || fake->connection_count == CONNECTIONS) {
			pthread_mutex_unlock(&fake->lock);
			close(fd);
			return NULL;
		}
		c = calloc(1, sizeof(*c));
		c->fake = fake;
		c->fd = fd;
		fake->connections[fake->connection_count++] = c;
		if (pthread_create(&c->thread, NULL, serve, c))
			die("pthread_create");
		pthread_mutex_unlock(&fake->lock);
	}
}

struct fake_brick *fake_start(bool local, uint16_t depth)
{
	struct fake_brick *fake = calloc(1, sizeof(*fake));
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(in);

	fake->local = local;
	fake->depth = depth;
	fake->gather = 1;
	pthread_mutex_init(&fake->lock, NULL);
	fake->memory_fd = memfd_create("fake_brick", MFD_CLOEXEC);
	if (fake->memory_fd < 0 || ftruncate(fake->memory_fd, FAKE_SLOTS * WIRE_BLOCK_SIZE) < 0)
		die("memfd");
	fake->memory = mmap(NULL, FAKE_SLOTS * WIRE_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fake->memory_fd, 0);
	if (fake->memory == MAP_FAILED)
		die("mmap");
	fake->listener = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (local) {
		strcpy(fake->dir, "/tmp/fake_brick.XXXXXX");
		if (!mkdtemp(fake->dir))
			die("mkdtemp");
		snprintf(fake->path, sizeof(fake->path), "%s/socket", fake->dir);
		strcpy(un.sun_path, fake->path);
		snprintf(fake->endpoint, sizeof(fake->endpoint), "unix:%s", fake->path);
	}
	if (bind(fake->listener, local ? (void *)&un : (void *)&in, local ? sizeof(un) : sizeof(in)) < 0 ||
	    listen(fake->listener, 16) < 0)
		die("bind");
	if (!local) {
		getsockname(fake->listener, (struct sockaddr *)&in, &size);
		snprintf(fake->endpoint, sizeof(fake->endpoint), "tcp://127.0.0.1:%u", ntohs(in.sin_port));
	}
	if (pthread_create(&fake->thread, NULL, listen_loop, fake))
		die("pthread_create");
	return fake;
}

void fake_cut_all(struct fake_brick *fake)
{
	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < fake->connection_count; i++)
		shutdown(fake->connections[i]->fd, SHUT_RDWR);
	pthread_mutex_unlock(&fake->lock);
}

void fake_stop(struct fake_brick *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->stopping = true;
	pthread_mutex_unlock(&fake->lock);
	shutdown(fake->listener, SHUT_RDWR);
	pthread_join(fake->thread, NULL);
	fake_cut_all(fake);
	for (unsigned i = 0; i < fake->connection_count; i++) {
		pthread_join(fake->connections[i]->thread, NULL);
		close(fake->connections[i]->fd);
		free(fake->connections[i]);
	}
	close(fake->listener);
	munmap(fake->memory, FAKE_SLOTS * WIRE_BLOCK_SIZE);
	close(fake->memory_fd);
	if (fake->local) {
		unlink(fake->path);
		rmdir(fake->dir);
	}
	pthread_mutex_destroy(&fake->lock);
	free(fake);
}

const char *fake_endpoint(const struct fake_brick *fake)
{
	return fake->endpoint;
}

void fake_set(struct fake_brick *fake, enum fake_fault fault)
{
	pthread_mutex_lock(&fake->lock);
	fake->fault = fault;
	pthread_mutex_unlock(&fake->lock);
}

void fake_set_gather(struct fake_brick *fake, unsigned gather)
{
	pthread_mutex_lock(&fake->lock);
	fake->gather = gather;
	pthread_mutex_unlock(&fake->lock);
}

void fake_set_seed(struct fake_brick *fake, unsigned seed)
{
	pthread_mutex_lock(&fake->lock);
	fake->seed = seed;
	pthread_mutex_unlock(&fake->lock);
}

unsigned fake_count(struct fake_brick *fake, uint16_t type)
{
	unsigned count;

	pthread_mutex_lock(&fake->lock);
	count = fake->counts[type];
	pthread_mutex_unlock(&fake->lock);
	return count;
}

unsigned fake_deepest(struct fake_brick *fake)
{
	unsigned deepest;

	pthread_mutex_lock(&fake->lock);
	deepest = fake->deepest;
	pthread_mutex_unlock(&fake->lock);
	return deepest;
}

uint8_t fake_byte(struct fake_brick *fake, uint64_t addr)
{
	uint8_t byte = 0;
	int slot;

	pthread_mutex_lock(&fake->lock);
	slot = slot_of(fake, addr);
	if (slot >= 0)
		byte = fake->memory[(size_t)slot * WIRE_BLOCK_SIZE + (addr & (WIRE_BLOCK_SIZE - 1))];
	pthread_mutex_unlock(&fake->lock);
	return byte;
}
