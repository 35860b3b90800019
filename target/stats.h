/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stats - counts, errors, bytes and latencies of each kind of operation, since
 * the start.
 *
 * Latencies are kept in a log-linear histogram (each power of two nanoseconds
 * split in 8, so a percentile is at most 12.5 % high).  Counting takes a few
 * relaxed atomic additions and no lock; a reader sees each counter whole, but
 * not all of one moment.
 */
#ifndef TARGET_STATS_H
#define TARGET_STATS_H

#include <stdint.h>
#include "wire.h"

#define STATS_LINEAR_BITS 3
#define STATS_BUCKETS	  ((64 - STATS_LINEAR_BITS + 1) << STATS_LINEAR_BITS)

struct stats_op {
	_Atomic uint64_t count, errors, bytes, max_ns;
	_Atomic uint64_t bucket[STATS_BUCKETS];
};

struct stats {
	struct stats_op op[WIRE_OPS];
};

extern const char *const stats_names[WIRE_OPS];

/* Monotonic nanoseconds. */
uint64_t now_ns(void);
/* One request ended; errors: how many of its entries failed. */
void stats_count(struct stats *stats, enum wire_op op, uint64_t errors, uint64_t bytes, uint64_t ns);
void stats_read(const struct stats *stats, enum wire_op op, struct wire_op_stat *out);

/* Which bucket a latency falls in, and the largest latency of a bucket. */
unsigned stats_bucket(uint64_t ns);
uint64_t stats_bucket_top(unsigned bucket);

#endif
