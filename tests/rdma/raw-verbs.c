/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows: a brick over verbs, to a client that speaks the bare protocol, and so can break it: what is promised is
 * served, what is refused is refused by the hardware and changes nothing, a lane that breaks the rules is lost, and
 * nothing is left of hundreds of connections.
 *
 * raw-verbs ADDRESS PORT [TEST ...]: runs against a brickd whose pool has 16 blocks at least, none of them in use.
 */
#include <poll.h>
#include <unistd.h>

#include "raw-client.h"

/* Preambles that are refused are refused by the rejection's private data. */
static void test_preamble(void)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION + 1, .version_max = WIRE_VERSION + 9};
	uint8_t bytes[56] = "GET / HTTP/1.1", token[WIRE_TOKEN_SIZE];
	struct client *c, *other;

	CHECK(connect_with(&c, bytes, sizeof(bytes), BUFFERS) == -EPROTO);
	CHECK(connect_with(&c, NULL, 0, BUFFERS) == -EPROTO);
	wire_put_preamble(bytes, &p);
	CHECK(connect_with(&c, bytes, WIRE_PREAMBLE_SIZE, BUFFERS) == -EPROTONOSUPPORT);
	memset(token, 0x5a, sizeof(token));
	CHECK(try_connect(&c, token, 0) == -ESTALE);
	CHECK(try_connect(&c, NULL, 60000) == -EMFILE);
	/* a longer preamble, as a later version may send */
	p = (struct wire_preamble){.version_min = 1, .version_max = 7};
	wire_put_preamble(bytes, &p);
	CHECK(connect_with(&c, bytes, 48, BUFFERS) == 0);
	CHECK(hello_as(c, "later") == 0);
	other = join(c, 1);
	CHECK(stat_of(other).lanes == 2);
	shut(other, true);
	await_alone(c, 0);
	shut(c, true);
}

/* The five calls and the data, with the block's address as the remote address. */
static void test_calls(void)
{
	struct client *a = open_client(), *b = open_client();
	struct wire_handle h[16], ro;
	struct wire_rw rw = {.addr = at(0), .length = 8};

	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 16) == 0);
	CHECK(map(a, at(0), WIRE_MAP_WRITE, 16, h) == 0);
	CHECK(stat_of(a).regions == 16);
	for (int i = 0; i < 16; i++)
		CHECK(holds(a, at(i) + WIRE_BLOCK_SIZE - 4096, &h[i], ""));
	rwrite(a, at(3) + 123, &h[3], "by its address");
	CHECK(holds(a, at(3) + 123, &h[3], "by its address"));
	CHECK(persist(a, at(3) + 123, 15) == 0);
	CHECK(map(b, at(3), 0, 1, &ro) == 0);
	CHECK(stat_of(b).regions == 17);
	CHECK(holds(b, at(3) + 123, &ro, "by its address"));
	CHECK(map(b, at(3), WIRE_MAP_EXCLUSIVE, 1, &ro) == -EBUSY);
	CHECK(map(b, at(2), WIRE_MAP_EXCLUSIVE, 1, &ro) == -EBUSY);
	CHECK(call_addrs(b, WIRE_FREE, at(3), 1) == -EBUSY);
	/* frames are tcp's */
	rw.key = h[0].key;
	wire_put_rw(send_buffer(a), WIRE_READ, ++a->last_id, &rw, 0);
	post_send(a, WIRE_RW_FIXED, true);
	CHECK(answer(a, WIRE_READ) == -EOPNOTSUPP);
	CHECK(unmap(b, at(3), 1) == 0);
	CHECK(unmap(a, at(0), 8) == 0);
	CHECK(stat_of(a).regions == 8);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 16) == 0); /* its own maps go first */
	CHECK(stat_of(a).regions == 0);
	shut(b, true);
	await_alone(a, 0);
	shut(a, true);
}

/* Each a way to reach what is not one's own: a remote access error, nothing changed, and the session goes on. */
static void test_refused(void)
{
	static const char *const names[] = {"after unmap",	  "beyond the block",  "before the block",
					    "another session's",  "another block",     "writing read-only",
					    "reading after free", "under the old key", "the memory's own address"};
	struct client *owner = open_client(), *c = open_client(), *lane;
	struct wire_handle h, mine, ro, gone;
	struct wire_stat_reply stat;

	CHECK(call_addrs(owner, WIRE_ALLOC, at(0), 4) == 0);
	CHECK(map(owner, at(0), WIRE_MAP_WRITE, 1, &mine) == 0);
	rwrite(owner, at(0), &mine, "untouched");
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int status = 0;

		lane = join(c, 1);
		strcpy((char *)data(lane), "evil");
		CHECK(map(lane, at(0), WIRE_MAP_WRITE, 1, &h) == 0);
		CHECK(map(lane, at(1), 0, 1, &ro) == 0);
		switch (i) {
		case 0:
			CHECK(unmap(lane, at(0), 1) == 0);
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(0), h.key, 8);
			break;
		case 1:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(1) - 4, h.key, 8);
			break;
		case 2:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(0) - 4, h.key, 8);
			break;
		case 3:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(0), mine.key, 8);
			break;
		case 4:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(1), h.key, 8);
			break;
		case 5:
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(1), ro.key, 8);
			break;
		case 6:
			CHECK(map(lane, at(2), WIRE_MAP_WRITE, 1, &gone) == 0);
			CHECK(call_addrs(lane, WIRE_FREE, at(2), 1) == 0);
			CHECK(call_addrs(lane, WIRE_ALLOC, at(2), 1) == 0);
			status = rdma(lane, IBV_WR_RDMA_READ, at(2), gone.key, 8);
			break;
		case 7: /* the key of a region that is gone, under the address of one that has come */
			CHECK(map(lane, at(2), WIRE_MAP_WRITE, 1, &gone) == 0);
			CHECK(unmap(lane, at(2), 1) == 0);
			CHECK(map(lane, at(3), WIRE_MAP_WRITE, 1, &h) == 0);
			status = rdma(lane, IBV_WR_RDMA_WRITE, at(3), gone.key, 8);
			CHECK(unmap(c, at(3), 1) == 0);
			break;
		case 8:
			status = rdma(lane, IBV_WR_RDMA_WRITE, 0, h.key, 8);
			break;
		}
		CHECK(status == IBV_WC_REM_ACCESS_ERR, "%s: %s", names[i], ibv_wc_status_str((enum ibv_wc_status)status));
		await_gone(lane);
		shut(lane, false);
		CHECK(holds(owner, at(0), &mine, "untouched"), "%s", names[i]);
		stat = stat_of(c);
		CHECK(stat.sessions == 2);
	}
	shut(owner, true);
	await_alone(c, 2); /* of the first two blocks */
	CHECK(call_addrs(c, WIRE_FREE, at(0), 4) == 0);
	await_alone(c, 0);
	shut(c, true);
}

/* What is not a message costs the lane, and nothing else. */
static void test_malformed(void)
{
	struct client *other = open_client();

	for (int i = 0; i < 12; i++) {
		struct wire_header header = {.length = WIRE_HEADER_SIZE, .type = WIRE_KEEPALIVE, .id = 9};
		struct ibv_send_wr wr = {.wr_id = SEND_ID, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED}, *bad;
		struct client *c;
		struct ibv_sge sge;
		size_t n = WIRE_HEADER_SIZE;
		bool immediate = true;

		if (i < 2)
			CHECK(try_connect(&c, NULL, 0) == 0);
		else
			c = open_client();
		sge = (struct ibv_sge){(uintptr_t)send_buffer(c), WIRE_HEADER_SIZE, c->region->lkey};
		wr.sg_list = &sge;
		wire_put_header(send_buffer(c), &header);
		switch (i) {
		case 0: /* anything before HELLO */
			break;
		case 1: /* nothing at all before HELLO */
			n = 0;
			break;
		case 2:
			immediate = false;
			break;
		case 3:
			n = WIRE_HEADER_SIZE - 1;
			break;
		case 4:
			n = 0;
			break;
		case 5: /* more than a buffer takes */
			n = WIRE_MSG_MAX + 1;
			break;
		case 6: /* longer than it says */
			n = WIRE_HEADER_SIZE + 8;
			break;
		case 7:
			header.length = 4096;
			wire_put_header(send_buffer(c), &header);
			break;
		case 8:
			header.type = WIRE_KEEPALIVE | WIRE_REPLY;
			wire_put_header(send_buffer(c), &header);
			break;
		case 9:
			header.type = WIRE_NOTICE;
			wire_put_header(send_buffer(c), &header);
			break;
		case 10: /* notices that were never sent */
			c->notices = 1;
			break;
		case 11: /* data that takes a receive buffer */
			wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
			wr.num_sge = 0;
			CHECK(ibv_post_send(c->id->qp, &wr, &bad) == 0);
			n = 0;
			break;
		}
		if (i != 11)
			post_send(c, n, immediate);
		CHECK(is_gone(c), "case %d: the brick keeps the lane", i);
		shut(c, i % 2);
		(void)stat_of(other);
	}
	await_alone(other, 0);
	shut(other, true);
}

/* A client without a buffer for the answer loses its lane; others do not notice. */
static void test_no_credit(void)
{
	struct wire_preamble p = {.version_min = WIRE_VERSION, .version_max = WIRE_VERSION};
	uint8_t bytes[WIRE_PREAMBLE_SIZE];
	struct client *other = open_client(), *c;

	wire_put_preamble(bytes, &p);
	CHECK(connect_with(&c, bytes, sizeof(bytes), 0) == 0);
	{
		struct wire_hello hello = {.name = "greedy", .depth = 8};

		post_send(c, wire_put_hello(send_buffer(c), ++c->last_id, &hello), true);
	}
	for (int i = 0; i < 5; i++)
		(void)stat_of(other);
	await_gone(c);
	shut(c, false);
	await_alone(other, 0);
	shut(other, true);
}

/* A session that is preempted, and one that is revoked, is told, and its lanes end before its successor is answered. */
static void test_kill(void)
{
	struct client *a = open_client(), *b = open_client();
	struct wire_sessions who;
	struct wire_handle h, own;

	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(map(a, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	rwrite(a, at(0), &h, "before");
	CHECK(map(b, at(0), WIRE_MAP_EXCLUSIVE, 1, &own) == -EBUSY);
	CHECK(map(b, at(0), WIRE_MAP_EXCLUSIVE | WIRE_MAP_PREEMPT, 1, &own) == 0);
	strcpy((char *)data(a), "evil");
	CHECK(rdma(a, IBV_WR_RDMA_WRITE, at(0), h.key, 5) != IBV_WC_SUCCESS);
	await_gone(a);
	CHECK(a->notices == 1 && a->notice.kind == WIRE_NOTICE_REVOKED, "%u notices", a->notices);
	CHECK(holds(b, at(0), &own, "before"));
	shut(a, true);
	a = open_client();
	who.from = b->hello.session;
	post_send(a, wire_put_sessions(send_buffer(a), WIRE_REVOKE, ++a->last_id, &who), true);
	CHECK(answer(a, WIRE_REVOKE) == 0);
	await_gone(b);
	CHECK(b->notices == 1 && b->notice.kind == WIRE_NOTICE_REVOKED);
	shut(b, true);
	await_alone(a, 0);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	shut(a, true);
}

/* BYE is answered, then the brick hangs up; a lane that is named again takes the place of the old one. */
static void test_lanes(void)
{
	struct client *a = open_client(), *b = join(a, 1), *c;
	struct wire_handle h;

	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(map(a, at(0), WIRE_MAP_WRITE, 1, &h) == 0);
	rwrite(b, at(0) + 4096, &h, "on lane 1");
	c = join(a, 1);
	await_gone(b);
	CHECK(holds(c, at(0) + 4096, &h, "on lane 1"));
	post_send(c, wire_put_plain(send_buffer(c), WIRE_BYE, ++c->last_id, 0), true);
	CHECK(answer(c, WIRE_BYE) == 0);
	await_gone(c);
	shut(b, true);
	shut(c, true);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	await_alone(a, 0);
	shut(a, true);
}

/* Two hundred connections that come and go, in order and without a word, with maps and without. */
static void test_churn(void)
{
	struct client *other = open_client();
	struct wire_handle h[2];

	CHECK(call_addrs(other, WIRE_ALLOC, at(0), 2) == 0);
	for (int i = 0; i < 200; i++) {
		struct client *c;

		if (i % 5 == 0) { /* and gone again before a word */
			CHECK(try_connect(&c, NULL, 0) == 0);
			shut(c, i % 2);
			continue;
		}
		c = open_client();
		if (i % 3 == 0)
			CHECK(map(c, at(0), WIRE_MAP_WRITE, 2, h) == 0);
		shut(c, i % 4);
		if (i % 16 == 0)
			(void)stat_of(other);
	}
	await_alone(other, 0);
	CHECK(call_addrs(other, WIRE_FREE, at(0), 2) == 0);
	shut(other, true);
}

/* Runs the rest against the brick's other address, on the other device. */
/* Connections that do not say hello push each other out, the oldest first; one that does is let in. */
static void test_crowd(void)
{
	enum { SHARE = 12, MORE = 6 }; /* raw-verbs.sh gives brickd this share */
	struct client *quiet[SHARE + MORE], *c;

	for (int i = 0; i < SHARE + MORE; i++)
		CHECK(try_connect(&quiet[i], NULL, 0) == 0);
	for (int i = 0; i < MORE; i++)
		await_gone(quiet[i]);
	c = open_client();
	for (int i = 0; i < SHARE + MORE; i++)
		shut(quiet[i], true);
	await_alone(c, 0);
	shut(c, true);
}

static void on_other_device(void)
{
	address = getenv("RDMA_ADDRESS2");
	service = getenv("RDMA_PORT2");
	CHECK(address && service);
}

/* All lanes of a session are on one device: a lane that comes over another one is refused by name. */
static void test_device(void)
{
	struct client *a = open_client(), *b, *other;

	on_other_device();
	CHECK(try_connect(&b, a->token, 1) == -EXDEV);
	other = open_client();
	CHECK(call_addrs(other, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(call_addrs(other, WIRE_FREE, at(0), 1) == 0);
	shut(other, true);
	await_alone(a, 0);
	shut(a, true);
}

/* A link that goes down without a word: the lane ends, with its session and its locks, and others go on. */
static void test_dead(void)
{
	const char *down = getenv("RDMA_DOWN2"), *address1 = address, *service1 = service;
	struct client *a = open_client(), *dead;
	struct wire_handle h;
	uint64_t begin, until;

	CHECK(down);
	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	on_other_device();
	dead = open_client();
	CHECK(map(dead, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	address = address1;
	service = service1;
	CHECK(system(down) == 0);
	begin = now_ms();
	until = begin + 60000;
	while (stat_of(a).sessions > 1) {
		CHECK(now_ms() < until, "a dead peer is not noticed");
		usleep(100000);
	}
	printf("dead: noticed after %llu ms\n", (unsigned long long)(now_ms() - begin));
	CHECK(map(a, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	await_alone(a, 0);
	shut(a, true);
	shut(dead, false);
}

/*
 * The device is taken away under a session: its lanes end, and the brick serves on.  (Soft-RoCE goes only when the last
 * process has closed it, so the removal is left to wait.)
 */
static void test_removed(void)
{
	const char *address1 = address, *service1 = service;
	struct client *a = open_client(), *lost;
	struct wire_handle h;
	uint64_t until = now_ms() + 60000;

	CHECK(getenv("RDMA_REMOVE2"));
	CHECK(call_addrs(a, WIRE_ALLOC, at(0), 1) == 0);
	on_other_device();
	lost = open_client();
	CHECK(map(lost, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	address = address1;
	service = service1;
	CHECK(system(getenv("RDMA_REMOVE2")) == 0);
	while (stat_of(a).sessions > 1) {
		CHECK(now_ms() < until, "the lanes of a device that is gone stay");
		usleep(100000);
	}
	CHECK(map(a, at(0), WIRE_MAP_EXCLUSIVE, 1, &h) == 0);
	CHECK(call_addrs(a, WIRE_FREE, at(0), 1) == 0);
	await_alone(a, 0);
	shut(a, true);
	shut(lost, false);
}

/*
 * Persistent memory under a brick that can RDMA FLUSH grants it; regions are registered for it, and persist by message
 * stays valid.  (Posting one is libbrick's affair.)
 */
static void test_flush(void)
{
	struct client *c, *plain = open_client();
	struct wire_handle h;

	CHECK(plain->hello.features == 0 && plain->hello.method == WIRE_PERSIST_TARGET);
	CHECK(try_connect(&c, NULL, 0) == 0);
	CHECK(hello_with(c, "flush", WIRE_FEATURE_FLUSH) == 0);
	CHECK(c->hello.features == WIRE_FEATURE_FLUSH && c->hello.method == WIRE_PERSIST_FLUSH, "method %u",
	      c->hello.method);
	CHECK(call_addrs(c, WIRE_ALLOC, at(0), 1) == 0);
	CHECK(map(c, at(0), WIRE_MAP_WRITE, 1, &h) == 0);
	rwrite(c, at(0), &h, "flush");
	CHECK(persist(c, at(0), 6) == 0);
	CHECK(holds(c, at(0), &h, "flush"));
	CHECK(call_addrs(c, WIRE_FREE, at(0), 1) == 0);
	shut(plain, true);
	await_alone(c, 0);
	shut(c, true);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool asked; /* only when it is named: needs a second device, or persistent memory */
} tests[] = {
	{"preamble", test_preamble}, {"calls", test_calls}, {"refused", test_refused}, {"malformed", test_malformed},
	{"no-credit", test_no_credit}, {"kill", test_kill}, {"lanes", test_lanes}, {"churn", test_churn},
	{"crowd", test_crowd},
	{"flush", test_flush, true},
	{"device", test_device, true}, {"dead", test_dead, true}, {"removed", test_removed, true},
};

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: raw-verbs ADDRESS PORT [TEST ...]\n");
		return 2;
	}
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		bool wanted = argc == 3 && !tests[i].asked;
		uint64_t begin = now_ms();

		for (int j = 3; j < argc; j++)
			wanted |= strcmp(argv[j], tests[i].name) == 0;
		if (!wanted)
			continue;
		address = argv[1];
		service = argv[2];
		tests[i].run();
		printf("%s: ok (%llu ms)\n", tests[i].name, (unsigned long long)(now_ms() - begin));
		fflush(stdout);
	}
	return 0;
}
