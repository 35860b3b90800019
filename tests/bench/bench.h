/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench - what the parts of the transport benchmark share.
 *
 * A *subject* can do rounds of a load: libbrick over an endpoint, or what it is
 * held against (a bare ping-pong, memcpy, perftest).  The driver (transport.c)
 * lets the two take turns, A B A B, and takes the ratio pair by pair, so that a
 * machine that is busy for a while is busy for both.
 *
 * Times are nanoseconds of one operation.  Functions return 0 or -1, with words on
 * stderr; NOT_THIS where a subject has no such load.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brick.h"

#define NOT_THIS 1

enum bench_op { BENCH_READ, BENCH_WRITE, BENCH_PERSIST };	/* the last: a write and a persist of it */

struct load {
	enum bench_op op;
	uint32_t size;		/* bytes of one operation */
	unsigned depth;		/* operations in flight */
	unsigned samples;	/* in one round */
	unsigned batch;		/* latency: operations in one sample, which is their mean */
	double seconds;		/* throughput: of one round, about */
};

struct latency { double min, p50, p99, max; };

struct subject {
	const char *name;
	int (*latency)(struct subject *subject, const struct load *load, struct latency *latency);
	/* *ns: the mean time from one completion to the next. */
	int (*throughput)(struct subject *subject, const struct load *load, double *ns);
};

/* Where operation i is in the 2 MiB that all of them wander through, at both ends of every subject. */
static inline uint32_t bench_offset(uint64_t i, uint32_t size)
{
	return (uint32_t)(i % (BRICK_BLOCK_SIZE / size)) * size;
}

/* measure.c */
uint64_t bench_now(void);
/* This process on CPU cpu - 1 alone; 0: anywhere. */
void bench_pin(int cpu);
/* Sorts the samples. */
struct latency bench_summary(double *samples, size_t n);
double bench_median(double *values, size_t n);

struct field { const char *name; const char *text; double number; };	/* text NULL: the number; NAN: none */
/* Tables: every row has the same fields. */
void bench_row(bool json, const struct field *fields, size_t n);
void bench_end(bool json);

/* initiator.c: libbrick. */
struct initiator;
int initiator_open(const char *endpoint, uint32_t spin_us, uint16_t depth, struct initiator **initiator);
void initiator_close(struct initiator *initiator);
struct subject *initiator_subject(struct initiator *initiator);

#define CALL_SAMPLES 16
struct call_cost { const char *call; unsigned batch; struct latency each; };	/* of one block */
/* Costs of the calls: up to max of them. Negative: it failed. */
int initiator_calls(struct initiator *initiator, unsigned batch, struct call_cost *costs, int max);

/* baseline.c */
/* A child process, on that CPU (as bench_pin()), and a socket; before threads are started. */
int pingpong_open(int cpu, struct subject **subject);
void pingpong_close(struct subject *subject);
int memory_open(const char *path, struct subject **subject);	/* memcpy with a file mapped like a pool */
void memory_close(struct subject *subject);

/* perftest.c: ib_read_lat and the others, over rdma_cm, at the brick's own address */
int perftest_open(const char *host, struct subject **subject);
void perftest_close(struct subject *subject);

#endif
