/* SPDX-License-Identifier: BSD-3-Clause */
/* stats - counts, errors, bytes and latencies of each kind of operation. */
#include "stats.h"

#include <stdatomic.h>
#include <time.h>

const char *const stats_names[WIRE_OPS] = {
	[WIRE_OP_ALLOC] = "alloc",
	[WIRE_OP_FREE] = "free",
	[WIRE_OP_MAP] = "map",
	[WIRE_OP_UNMAP] = "unmap",
	[WIRE_OP_LIST] = "list",
	[WIRE_OP_PERSIST] = "persist",
	[WIRE_OP_READ] = "read",
	[WIRE_OP_WRITE] = "write",
	[WIRE_OP_OTHER] = "other",
};

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

unsigned stats_bucket(uint64_t ns)
{
	unsigned top, shift;

	if (ns < (1u << STATS_LINEAR_BITS))
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns);
	shift = top - STATS_LINEAR_BITS;
	return ((shift + 1) << STATS_LINEAR_BITS) + (unsigned)((ns >> shift) & ((1u << STATS_LINEAR_BITS) - 1));
}

uint64_t stats_bucket_top(unsigned bucket)
{
	unsigned shift = bucket >> STATS_LINEAR_BITS;
	uint64_t low = bucket & ((1u << STATS_LINEAR_BITS) - 1);

	if (!shift)
		return low;
	shift--;
	low = (low | (1u << STATS_LINEAR_BITS)) << shift;
	return low + ((1ull << shift) - 1);
}

void stats_count(struct stats *stats, enum wire_op op, uint64_t errors, uint64_t bytes, uint64_t ns)
{
	struct stats_op *s = &stats->op[op];
	uint64_t max = atomic_load_explicit(&s->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&s->count, 1, memory_order_relaxed);
	if (errors)
		atomic_fetch_add_explicit(&s->errors, errors, memory_order_relaxed);
	if (bytes)
		atomic_fetch_add_explicit(&s->bytes, bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->bucket[stats_bucket(ns)], 1, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak_explicit(&s->max_ns, &max, ns, memory_order_relaxed,
								  memory_order_relaxed))
		;
}

static uint64_t percentile(const uint64_t *count, uint64_t total, unsigned percent)
{
	uint64_t want = (total * percent + 99) / 100, seen = 0;

	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		seen += count[i];
		if (seen && seen >= want)
			return stats_bucket_top(i);
	}
	return 0;
}

void stats_read(const struct stats *stats, enum wire_op op, struct wire_op_stat *out)
{
	const struct stats_op *s = &stats->op[op];
	uint64_t count[STATS_BUCKETS], total = 0;

	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		total += count[i] = atomic_load_explicit(&s->bucket[i], memory_order_relaxed);
	out->count = atomic_load_explicit(&s->count, memory_order_relaxed);
	out->errors = atomic_load_explicit(&s->errors, memory_order_relaxed);
	out->bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed);
	out->max_ns = atomic_load_explicit(&s->max_ns, memory_order_relaxed);
	out->p50_ns = percentile(count, total, 50);
	out->p99_ns = percentile(count, total, 99);
	if (out->p50_ns > out->max_ns)
		out->p50_ns = out->max_ns;
	if (out->p99_ns > out->max_ns)
		out->p99_ns = out->max_ns;
}
