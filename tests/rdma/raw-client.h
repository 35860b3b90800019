/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw-client - a client over verbs that speaks the bare protocol, and so can break it.
 *
 * What fails in it that should not ends the program with status 1 and says where.
 */
#ifndef TESTS_RAW_CLIENT_VERBS_H
#define TESTS_RAW_CLIENT_VERBS_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define CHECK(c, ...)                                                                                                  \
	do {                                                                                                           \
		if (!(c)) {                                                                                            \
			fprintf(stderr, "%s: line %d: %s:", __FILE__, __LINE__, #c);                                   \
			fprintf(stderr, " " __VA_ARGS__);                                                              \
			fprintf(stderr, " (errno %s)\n", strerror(errno));                                             \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

#define BUFFERS	  16
#define DATA_SIZE (64u << 10)
#define PATIENCE  20000 /* ms, for what has to come */
#define BASE	  0x40000000ull
#define at(n)	  (BASE + (uint64_t)(n)*WIRE_BLOCK_SIZE)
#define DATA_ID	  1000
#define SEND_ID	  2000

/* Where the brick listens. */
extern const char *address, *service;

struct client {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *region;
	uint8_t *memory; /* receive buffers, one to send from, data */
	uint8_t token[WIRE_TOKEN_SIZE];
	struct wire_hello_reply hello;
	uint8_t message[WIRE_MSG_MAX];
	size_t length;
	uint32_t last_id, notices;
	struct wire_notice notice; /* the last one */
	bool broken, gone;
	int status; /* of the last READ or WRITE */
};

/* Registered memory: of a message to send, and of DATA_SIZE bytes to read into or write from. */
uint8_t *send_buffer(struct client *c);
uint8_t *data(struct client *c);
uint64_t now_ms(void);
/* Hangs up without a word when it is broken already. */
void shut(struct client *c, bool orderly);
/* A connection whose private data is this: a client in *out and 0, or the status of the rejection, 1 if it had none. */
int connect_with(struct client **out, const void *private_data, size_t n, unsigned receives);
/* As that, with the preamble of this lane; token NULL: of a new session. */
int try_connect(struct client **out, const uint8_t *token, uint16_t lane);
/* The brick has hung up, or does within PATIENCE. */
bool is_gone(struct client *c);
#define await_gone(c) CHECK(is_gone(c), "the brick keeps the lane")
/* Sends n bytes from send_buffer(), with the credits as immediate data or without. */
void post_send(struct client *c, size_t n, bool immediate);
/* Waits for a reply: its status; -ECONNRESET when the lane is lost. */
int answer(struct client *c, uint16_t type);
/* HELLO: the status of its reply. */
int hello_with(struct client *c, const char *name, uint64_t features);
int hello_as(struct client *c, const char *name);
/* A session, greeted; and another lane of it. */
struct client *open_client(void);
struct client *join(const struct client *first, uint16_t lane);
/* The calls on count blocks from addr on: the first status that is not 0. */
int call_addrs(struct client *c, uint16_t type, uint64_t addr, size_t count);
int map(struct client *c, uint64_t addr, uint32_t flags, size_t count, struct wire_handle *handles);
int unmap(struct client *c, uint64_t addr, size_t count);
int persist(struct client *c, uint64_t addr, uint32_t length);
struct wire_stat_reply stat_of(struct client *c);
/* A READ or WRITE between data() and the remote address: the status of its completion. */
int rdma(struct client *c, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey, uint32_t length);
/* A WRITE of this text, and whether a READ finds it. */
void rwrite(struct client *c, uint64_t addr, const struct wire_handle *h, const char *text);
bool holds(struct client *c, uint64_t addr, const struct wire_handle *h, const char *text);
/* Until only this session is left, with as many maps. */
void await_alone(struct client *c, uint32_t maps);

#endif
