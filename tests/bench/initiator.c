/* SPDX-License-Identifier: BSD-3-Clause */
/* initiator - libbrick as a subject: one session, one lane, one mapped block for data; and what the calls cost. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define BLOCK BRICK_BLOCK_SIZE
#define BASE 0x7100000000000000ull	/* of the data; the calls' blocks follow */

struct initiator {
	struct subject subject;
	struct brick_session *session;
	struct brick_lane *lane;
	struct brick_handle handle;
	unsigned depth;
	uint8_t *buffer;		/* registered; a block for reads and writes at any depth */
	bool allocated;
};

static int failed(const char *what, int error)
{
	fprintf(stderr, "%s: %s (%d)\n", what, brick_error(), error);
	return -1;
}

static struct initiator *of(struct subject *subject)
{
	return (struct initiator *)subject;
}

/* Posts one operation; offsets go through the block. */
static int post(struct initiator *in, const struct load *load, uint64_t i)
{
	uint32_t offset = bench_offset(i, load->size);

	if (load->op == BENCH_READ)
		return brick_post_read(in->lane, &in->handle, offset, in->buffer + offset, load->size, i);
	return brick_post_write(in->lane, &in->handle, offset, in->buffer + offset, load->size, i);
}

static int write_and_persist(struct initiator *in, uint32_t offset, uint32_t size)
{
	const struct brick_range range = { in->handle.addr + offset, size };
	struct brick_completion done[2];
	int left = 2, ret;

	ret = brick_post_write(in->lane, &in->handle, offset, in->buffer + offset, size, 0);
	if (ret == 0)
		ret = brick_post_persist(in->lane, &range, 1, NULL, 1);
	while (ret == 0 && left > 0) {
		int n = brick_wait(in->lane, done, left, -1);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			ret = ret ? ret : done[i].status;
		left -= n;
	}
	return ret;
}

static int one(struct initiator *in, const struct load *load, uint64_t i)
{
	uint32_t offset = bench_offset(i, load->size);

	if (load->op == BENCH_READ)
		return brick_read(in->lane, &in->handle, offset, in->buffer + offset, load->size);
	if (load->op == BENCH_WRITE)
		return brick_write(in->lane, &in->handle, offset, in->buffer + offset, load->size);
	return write_and_persist(in, offset, load->size);
}

static int initiator_latency(struct subject *subject, const struct load *load, struct latency *latency)
{
	double *samples = calloc(load->samples, sizeof(*samples));
	struct initiator *in = of(subject);
	uint64_t i = 0;
	int ret = samples ? 0 : -ENOMEM;

	for (unsigned w = 0; w < 4 && ret == 0; w++)
		ret = one(in, load, i++);
	for (unsigned s = 0; s < load->samples && ret == 0; s++) {
		uint64_t begin = bench_now();

		for (unsigned b = 0; b < load->batch && ret == 0; b++)
			ret = one(in, load, i++);
		samples[s] = (double)(bench_now() - begin) / load->batch;
	}
	if (ret == 0)
		*latency = bench_summary(samples, load->samples);
	free(samples);
	return ret ? failed("libbrick", ret) : 0;
}

static int initiator_throughput(struct subject *subject, const struct load *load, double *ns)
{
	struct initiator *in = of(subject);
	uint64_t posted = 0, completed = 0, begin, now, end;
	struct brick_completion done[64];

	if (load->op == BENCH_PERSIST || load->depth > in->depth)
		return NOT_THIS;
	begin = now = bench_now();
	end = begin + (uint64_t)(load->seconds * 1e9);
	while (now < end || completed < posted) {
		while (now < end && posted - completed < load->depth) {
			int ret = post(in, load, posted);

			if (ret)
				return failed("libbrick", ret);
			posted++;
		}
		do {
			int n = brick_wait(in->lane, done, 64, -1);

			if (n < 0)
				return failed("libbrick", n);
			for (int i = 0; i < n; i++)
				if (done[i].status)
					return failed("libbrick", done[i].status);
			completed += (uint64_t)n;
		} while (completed < posted && now >= end);
		now = bench_now();
	}
	*ns = (double)(bench_now() - begin) / (double)completed;
	return 0;
}

int initiator_open(const char *endpoint, uint32_t spin_us, uint16_t depth, struct initiator **result)
{
	const struct brick_options options = { .name = "bench", .depth = depth, .spin_us = spin_us, .timeout_ms = 30000 };
	struct initiator *in = calloc(1, sizeof(*in));
	const uint64_t addr = BASE;
	int ret;

	if (!in)
		return failed("libbrick", -ENOMEM);
	*result = in;
	in->subject = (struct subject){ "libbrick", initiator_latency, initiator_throughput };
	ret = brick_open(endpoint, &options, &in->session);
	if (ret)
		return failed("open", ret);
	in->lane = brick_lane(in->session, 0);
	in->depth = brick_info(in->session)->depth;
	ret = brick_alloc(in->lane, &addr, 1, NULL);
	if (ret == 0)
		in->allocated = true;
	else if (ret != -EEXIST)
		return failed("alloc", ret);
	ret = brick_map(in->lane, &addr, 1, BRICK_MAP_WRITE, &in->handle, NULL);
	if (ret)
		return failed("map", ret);
	in->buffer = brick_buffer_alloc(in->session, BLOCK);
	if (!in->buffer)
		return failed("buffer", -ENOMEM);
	memset(in->buffer, 0x5a, BLOCK);
	/* A block is backed by memory once it was written. */
	ret = brick_write(in->lane, &in->handle, 0, in->buffer, BLOCK);
	return ret ? failed("write", ret) : 0;
}

void initiator_close(struct initiator *in)
{
	const uint64_t addr = BASE;

	if (!in)
		return;
	if (in->allocated)
		brick_free(in->lane, &addr, 1, NULL);
	if (in->session)
		brick_close(in->session);
	free(in);
}

struct subject *initiator_subject(struct initiator *in)
{
	return &in->subject;
}

/* The calls, on `batch` blocks at a time, each timed for itself and divided by the blocks. */
enum { ALLOC, MAP_READ, UNMAP_READ, MAP_WRITE, UNMAP_CLEAN, MAP_AGAIN, UNMAP, MAP_SETTLE, UNMAP_LAST, FREE, STEPS };
static const char *const step_names[STEPS] = {
	[ALLOC] = "alloc", [MAP_READ] = "map (read)", [UNMAP_READ] = "unmap (read)", [MAP_WRITE] = "map (write)",
	[UNMAP_CLEAN] = "unmap (clean)", [UNMAP] = "unmap (not clean)", [MAP_SETTLE] = "map (of what was not clean)",
	[FREE] = "free",
};

struct batch { uint64_t *addrs; struct brick_handle *handles; int *status; unsigned n; };

static int step(struct initiator *in, int which, const struct batch *b)
{
	switch (which) {
	case ALLOC:
		return brick_alloc(in->lane, b->addrs, b->n, NULL);
	case MAP_READ:
	case MAP_SETTLE:
		return brick_map(in->lane, b->addrs, b->n, 0, b->handles, NULL);
	case MAP_WRITE:
	case MAP_AGAIN:
		return brick_map(in->lane, b->addrs, b->n, BRICK_MAP_WRITE, b->handles, NULL);
	case UNMAP_READ:
	case UNMAP_CLEAN:
	case UNMAP_LAST:
		return brick_unmap(in->lane, b->addrs, b->n, BRICK_UNMAP_CLEAN, NULL);
	case UNMAP:
		return brick_unmap(in->lane, b->addrs, b->n, 0, NULL);
	default:
		return brick_free(in->lane, b->addrs, b->n, NULL);
	}
}

static int batches(struct initiator *in, const struct batch *b, struct call_cost *costs, int max)
{
	static double samples[STEPS][CALL_SAMPLES];
	int n = 0;

	for (unsigned s = 0; s < CALL_SAMPLES; s++) {
		for (int i = 0; i < STEPS; i++) {
			uint64_t begin = bench_now();
			int ret = step(in, i, b);

			samples[i][s] = (double)(bench_now() - begin) / b->n;
			if (ret)
				return failed(step_names[i] ? step_names[i] : "map or unmap", ret);
			/* A byte, so that there is something to settle. */
			for (unsigned k = 0; i == MAP_AGAIN && k < b->n && ret == 0; k++)
				ret = brick_write(in->lane, &b->handles[k], 0, in->buffer, 8);
			if (ret)
				return failed("write", ret);
		}
	}
	for (int i = 0; i < STEPS && n < max; i++)
		if (step_names[i])
			costs[n++] = (struct call_cost){ step_names[i], b->n, bench_summary(samples[i], CALL_SAMPLES) };
	return n;
}

/* What has to do with no block, or with one that is mapped. */
static int singles(struct initiator *in, struct call_cost *costs, int max)
{
	static double keepalive[CALL_SAMPLES * 4], persist[CALL_SAMPLES], enlist[CALL_SAMPLES], release[CALL_SAMPLES];
	const struct brick_range range = { in->handle.addr, 8 };
	void *memory = aligned_alloc(4096, BLOCK);
	int ret = memory ? 0 : -ENOMEM;

	for (unsigned s = 0; s < CALL_SAMPLES * 4 && ret == 0; s++) {
		uint64_t begin = bench_now();

		ret = brick_keepalive(in->lane);
		keepalive[s] = (double)(bench_now() - begin);
	}
	if (memory)
		memset(memory, 1, BLOCK);
	for (unsigned s = 0; s < CALL_SAMPLES && ret == 0; s++) {
		uint64_t begin = bench_now(), middle;

		ret = brick_persist(in->lane, &range, 1, NULL);
		persist[s] = (double)(bench_now() - begin);
		begin = bench_now();
		if (ret == 0)
			ret = brick_buffer_register(in->session, memory, BLOCK);
		middle = bench_now();
		if (ret == 0)
			brick_buffer_unregister(in->session, memory);
		enlist[s] = (double)(middle - begin);
		release[s] = (double)(bench_now() - middle);
	}
	free(memory);
	if (ret)
		return failed("keepalive, persist or register", ret);
	if (max < 4)
		return 0;
	costs[0] = (struct call_cost){ "keepalive", 1, bench_summary(keepalive, CALL_SAMPLES * 4) };
	costs[1] = (struct call_cost){ "persist (nothing new)", 1, bench_summary(persist, CALL_SAMPLES) };
	costs[2] = (struct call_cost){ "register 2 MiB", 1, bench_summary(enlist, CALL_SAMPLES) };
	costs[3] = (struct call_cost){ "unregister 2 MiB", 1, bench_summary(release, CALL_SAMPLES) };
	return 4;
}

int initiator_calls(struct initiator *in, unsigned batch, struct call_cost *costs, int max)
{
	struct batch b = { .n = batch };
	struct brick_stat stat;
	int ret;

	if (batch == 0)
		return singles(in, costs, max);
	ret = brick_stat(in->lane, &stat);
	if (ret)
		return failed("stat", ret);
	/* One map is the data block's; in cached mode all of them must fit into memory. */
	if (b.n > stat.free)
		b.n = (unsigned)stat.free;
	if (b.n > brick_info(in->session)->maps - 1)
		b.n = brick_info(in->session)->maps - 1;
	if (stat.memory && b.n > stat.memory / 2)
		b.n = stat.memory / 2;
	if (b.n == 0) {
		fprintf(stderr, "no free blocks to measure the calls with\n");
		return -1;
	}
	b.addrs = calloc(b.n, sizeof(*b.addrs));
	b.handles = calloc(b.n, sizeof(*b.handles));
	if (b.addrs && b.handles) {
		for (unsigned i = 0; i < b.n; i++)
			b.addrs[i] = BASE + (i + 1) * BLOCK;
		ret = batches(in, &b, costs, max);
	} else {
		ret = failed("calls", -ENOMEM);
	}
	free(b.addrs);
	free(b.handles);
	return ret;
}
