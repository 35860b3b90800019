/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport - how fast libbrick and brickd are over an endpoint: latency,
 * throughput at queue depths, and what the calls cost; each beside the bare thing
 * in the same run.  tests/bench/README.md says how to read it.
 *
 *   transport [-t tcp|unix|rdma] [OPTION...]   with a brickd of its own, on a pool in /dev/shm
 *   transport -e ENDPOINT [OPTION...]          with one that runs already
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../functional/daemon.h"
#include "bench.h"

#define ROUNDS_MAX 99
#define LIST_MAX 8
#define COSTS_MAX 16
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct options {
	const char *transport, *endpoint, *brickd, *host, *directory, *what, *place;
	int cpu, peer_cpu;	/* 1 and up, 0: any */
	const char *brickd_options[16];
	unsigned rounds, samples, spin_us;
	double seconds;
	uint32_t sizes[LIST_MAX], depths[LIST_MAX];
	int n_sizes, n_depths;
	bool json, alone;
};

static const char *const op_names[] = { "read", "write", "write+persist" };

static void usage(FILE *to)
{
	fputs("Usage: transport [-t tcp|unix|rdma | -e ENDPOINT] [OPTION...]\n"
	      "\n"
	      "  -t, --transport NAME   over a brickd of its own (tcp)\n"
	      "  -e, --endpoint E       over a brick that runs already; 258 blocks of it should be free\n"
	      "  -b, --brickd PROGRAM   (beside this program's build, else brickd)\n"
	      "  -o, --option WORD      for that brickd; may be repeated\n"
	      "  -H, --host ADDRESS     rdma: where to listen, and perftest too (10.77.0.1)\n"
	      "  -d, --directory DIR    for the pool and the log (a new one in /dev/shm)\n"
	      "  -w, --what LIST        of latency,throughput,calls (all)\n"
	      "  -s, --sizes LIST       bytes (8,4096,65536,2097152)\n"
	      "  -q, --depths LIST      requests in flight (1,4,16,64)\n"
	      "  -r, --rounds N         of each of the two (9)\n"
	      "  -n, --samples N        in a round of latency (by size)\n"
	      "  -T, --seconds S        of a round of throughput (0.15)\n"
	      "  -S, --spin US          brick_options.spin_us (1000000: as perftest, which never sleeps)\n"
	      "  -p, --place WHERE      both sides on CPUs of their own (apart), on one (same), or where the scheduler wants (free);\n"
	      "                         apart with two CPUs or more; rdma and -e: free\n"
	      "  -a, --alone            nothing beside it\n"
	      "  -j, --json             instead of TSV\n",
	      to);
}

static int parse_list(const char *text, uint32_t *list)
{
	int n = 0;

	while (*text && n < LIST_MAX) {
		char *end;
		unsigned long value = strtoul(text, &end, 10);

		if (end == text || value == 0 || value > BRICK_BLOCK_SIZE)
			return -1;
		list[n++] = (uint32_t)value;
		text = *end == ',' ? end + 1 : end;
		if (*end && *end != ',')
			return -1;
	}
	return n;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {
		{ "transport", 1, NULL, 't' }, { "endpoint", 1, NULL, 'e' }, { "brickd", 1, NULL, 'b' },
		{ "option", 1, NULL, 'o' }, { "host", 1, NULL, 'H' }, { "directory", 1, NULL, 'd' },
		{ "what", 1, NULL, 'w' }, { "sizes", 1, NULL, 's' }, { "depths", 1, NULL, 'q' },
		{ "rounds", 1, NULL, 'r' }, { "samples", 1, NULL, 'n' }, { "seconds", 1, NULL, 'T' },
		{ "spin", 1, NULL, 'S' }, { "place", 1, NULL, 'p' }, { "alone", 0, NULL, 'a' }, { "json", 0, NULL, 'j' }, { "help", 0, NULL, 'h' }, { 0 },
	};
	size_t words = 0;
	int c;

	while ((c = getopt_long(argc, argv, "t:e:b:o:H:d:w:s:q:r:n:T:S:p:ajh", names, NULL)) != -1) {
		switch (c) {
		case 't': o->transport = optarg; break;
		case 'e': o->endpoint = optarg; break;
		case 'b': o->brickd = optarg; break;
		case 'o':
			if (words < COUNT(o->brickd_options) - 2)
				o->brickd_options[words++] = optarg;
			break;
		case 'H': o->host = optarg; break;
		case 'd': o->directory = optarg; break;
		case 'w': o->what = optarg; break;
		case 's': o->n_sizes = parse_list(optarg, o->sizes); break;
		case 'q': o->n_depths = parse_list(optarg, o->depths); break;
		case 'r': o->rounds = (unsigned)atoi(optarg); break;
		case 'n': o->samples = (unsigned)atoi(optarg); break;
		case 'T': o->seconds = atof(optarg); break;
		case 'S': o->spin_us = (unsigned)atoi(optarg); break;
		case 'p': o->place = optarg; break;
		case 'a': o->alone = true; break;
		case 'j': o->json = true; break;
		case 'h': usage(stdout); exit(0);
		default: return -1;
		}
	}
	if (o->endpoint)
		o->transport = strncmp(o->endpoint, "tcp:", 4) == 0 ? "tcp" : strncmp(o->endpoint, "unix:", 5) == 0 ? "unix" : "rdma";
	if (strcmp(o->transport, "rdma") == 0 && !o->endpoint)
		o->brickd_options[words] = "--public";
	if (strcmp(o->transport, "tcp") != 0 && strcmp(o->transport, "unix") != 0 && strcmp(o->transport, "rdma") != 0)
		return -1;
	if (!o->place)
		o->place = strcmp(o->transport, "rdma") == 0 || o->endpoint || sysconf(_SC_NPROCESSORS_ONLN) < 2 ? "free" : "apart";
	if (strcmp(o->place, "free") != 0) {
		o->cpu = 1;
		o->peer_cpu = strcmp(o->place, "apart") == 0 ? 2 : 1;
	}
	return optind < argc || o->n_sizes < 0 || o->n_depths < 0 || o->rounds < 1 || o->rounds > ROUNDS_MAX ? -1 : 0;
}

/* A round takes a few hundredths of a second; on rdma, which may be an emulation, a tenth of the operations have to do. */
static unsigned samples_of(const struct options *o, uint32_t size)
{
	unsigned samples = size <= 4096 ? 2000 : size <= 65536 ? 500 : 40;

	if (strcmp(o->transport, "rdma") == 0)
		samples /= 10;
	return o->samples ? o->samples : samples < 10 ? 10 : samples;
}

/* Where an operation takes less than the clock does, a sample is the mean of several. */
static unsigned batch_of(const struct options *o, uint32_t size)
{
	if (strcmp(o->transport, "unix") != 0)
		return 1;
	return size <= 4096 ? 64 : size <= 65536 ? 8 : 1;
}

static double us(double ns)
{
	return ns / 1e3;
}

static void row(const struct options *o, const char *what, const char *op, double size, double depth, double n,
		const struct latency *l, double ops, const char *baseline, double baseline_us, const double *ratio)
{
	const struct field fields[] = {
		{ "what", what, 0 }, { "transport", o->transport, 0 }, { "place", o->place, 0 },
		{ "operation", op, 0 }, { "size", NULL, size },
		{ "depth", NULL, depth }, { "samples", NULL, n },
		{ "min_us", NULL, l ? us(l->min) : (double)NAN }, { "p50_us", NULL, l ? us(l->p50) : (double)NAN },
		{ "p99_us", NULL, l ? us(l->p99) : (double)NAN }, { "max_us", NULL, l ? us(l->max) : (double)NAN },
		{ "ops_s", NULL, ops }, { "mib_s", NULL, ops * size / 1048576 },
		{ "baseline", baseline ? baseline : "-", 0 }, { "baseline_us", NULL, baseline_us },
		{ "ratio", NULL, ratio ? ratio[0] : (double)NAN }, { "ratio_low", NULL, ratio ? ratio[1] : (double)NAN },
		{ "ratio_high", NULL, ratio ? ratio[2] : (double)NAN },
	};

	bench_row(o->json, fields, COUNT(fields));
}

/* Median and quartiles of the ratios. */
static void ratios_of(double *ratios, unsigned n, double *ratio)
{
	ratio[0] = bench_median(ratios, n);
	ratio[1] = ratios[n / 4];
	ratio[2] = ratios[n - 1 - n / 4];
}

static int measure_latency(const struct options *o, struct subject *a, struct subject *b, enum bench_op op, uint32_t size)
{
	/* A persist takes as long as a call, whatever a write takes. */
	const struct load load = { .op = op, .size = size, .depth = 1, .batch = op == BENCH_PERSIST ? 1 : batch_of(o, size),
				   .samples = samples_of(o, size) / (op == BENCH_PERSIST ? 4 : 1) + 1 };
	double p50[ROUNDS_MAX], p99[ROUNDS_MAX], base[ROUNDS_MAX], ratios[ROUNDS_MAX], ratio[3];
	struct latency all = { INFINITY, 0, 0, 0 };
	bool paired = b != NULL;

	for (unsigned r = 0; r < o->rounds; r++) {
		struct latency mine, other;
		int ret;

		if (a->latency(a, &load, &mine))
			return -1;
		p50[r] = mine.p50;
		p99[r] = mine.p99;
		all.min = fmin(all.min, mine.min);
		all.max = fmax(all.max, mine.max);
		if (!paired)
			continue;
		ret = b->latency(b, &load, &other);
		if (ret < 0)
			return -1;
		paired = ret == 0;
		base[r] = other.p50;
		ratios[r] = mine.p50 / other.p50;
	}
	all.p50 = bench_median(p50, o->rounds);
	all.p99 = bench_median(p99, o->rounds);
	if (paired)
		ratios_of(ratios, o->rounds, ratio);
	row(o, "latency", op_names[op], size, 1, (double)o->rounds * load.samples, &all, NAN, paired ? b->name : NULL,
	    paired ? us(bench_median(base, o->rounds)) : (double)NAN, paired ? ratio : NULL);
	return 0;
}

static int measure_throughput(const struct options *o, struct subject *a, struct subject *b, enum bench_op op,
			      uint32_t size, uint32_t depth)
{
	const struct load load = { .op = op, .size = size, .depth = depth, .samples = samples_of(o, size), .seconds = o->seconds };
	double each[ROUNDS_MAX], base[ROUNDS_MAX], ratios[ROUNDS_MAX], ratio[3];
	bool paired = b != NULL;

	for (unsigned r = 0; r < o->rounds; r++) {
		int ret = a->throughput(a, &load, &each[r]);

		if (ret)
			return ret < 0 ? -1 : 0;
		if (!paired)
			continue;
		ret = b->throughput(b, &load, &base[r]);
		if (ret < 0)
			return -1;
		paired = ret == 0;
		ratios[r] = each[r] / base[r];
	}
	if (paired)
		ratios_of(ratios, o->rounds, ratio);
	row(o, "throughput", op_names[op], size, depth, o->rounds, NULL, 1e9 / bench_median(each, o->rounds),
	    paired ? b->name : NULL, paired ? us(bench_median(base, o->rounds)) : (double)NAN, paired ? ratio : NULL);
	return 0;
}

static int measure_calls(const struct options *o, struct initiator *initiator)
{
	static const unsigned batches[] = { 0, 1, 256 };
	struct call_cost costs[COSTS_MAX];

	for (size_t i = 0; i < COUNT(batches); i++) {
		int n = initiator_calls(initiator, batches[i], costs, COSTS_MAX);

		if (n < 0)
			return -1;
		for (int k = 0; k < n; k++)
			row(o, "call", costs[k].call, NAN, costs[k].batch, CALL_SAMPLES, &costs[k].each, NAN, NULL, NAN, NULL);
	}
	return 0;
}

static bool wanted(const struct options *o, const char *what)
{
	return strstr(o->what, what) != NULL;
}

static int measure(const struct options *o, const char *endpoint, struct subject *b)
{
	struct initiator *initiator = NULL;
	struct subject *a;
	int ret = initiator_open(endpoint, o->spin_us, 64, &initiator);

	if (ret)
		goto out;
	a = initiator_subject(initiator);
	for (int op = BENCH_READ; op <= BENCH_PERSIST && wanted(o, "latency") && !ret; op++)
		for (int s = 0; s < o->n_sizes && !ret; s++)
			ret = measure_latency(o, a, b, op, o->sizes[s]);
	for (int op = BENCH_READ; op <= BENCH_WRITE && wanted(o, "throughput") && !ret; op++)
		for (int s = 0; s < o->n_sizes && !ret; s++)
			for (int d = 0; d < o->n_depths && !ret; d++)
				ret = measure_throughput(o, a, b, op, o->sizes[s], o->depths[d]);
	if (!ret && wanted(o, "calls"))
		ret = measure_calls(o, initiator);
	bench_end(o->json);
out:
	initiator_close(initiator);
	return ret;
}

static int open_baseline(const struct options *o, struct subject **b)
{
	char path[256];

	*b = NULL;
	if (o->alone)
		return 0;
	if (strcmp(o->transport, "tcp") == 0)
		return pingpong_open(o->peer_cpu, b);
	if (strcmp(o->transport, "rdma") == 0)
		return perftest_open(o->host, b);
	snprintf(path, sizeof(path), "%s/transport-memory.%d", o->directory ? o->directory : "/dev/shm", (int)getpid());
	return memory_open(path, b);
}

static void close_baseline(const struct options *o, struct subject *b)
{
	if (!b)
		return;
	if (strcmp(o->transport, "tcp") == 0)
		pingpong_close(b);
	else if (strcmp(o->transport, "rdma") == 0)
		perftest_close(b);
	else
		memory_close(b);
}

/* The one of the same build. */
static const char *find_brickd(void)
{
	static char path[4096];
	char own[3800];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (n > 0) {
		own[n] = 0;
		for (int up = 0; up < 4; up++) {
			char *slash = strrchr(own, '/');

			if (!slash)
				break;
			*slash = 0;
			snprintf(path, sizeof(path), "%s/target/brickd", own);
			if (access(path, X_OK) == 0)
				return path;
		}
	}
	return "brickd";
}

static int with_daemon(struct options *o, struct subject *b)
{
	char directory[64] = "/dev/shm/brick-bench.XXXXXX", pool[256], log[256], where[288], socket_path[256];
	struct daemon daemon = { .program = o->brickd, .pool = pool, .log = log, .listen = where, .options = o->brickd_options, .cpu = o->peer_cpu };
	int ret = -1;

	if (!o->directory && !mkdtemp(directory)) {
		perror(directory);
		return -1;
	}
	snprintf(pool, sizeof(pool), "%s/pool", o->directory ? o->directory : directory);
	snprintf(log, sizeof(log), "%s/log", o->directory ? o->directory : directory);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", o->directory ? o->directory : directory);
	if (strcmp(o->transport, "tcp") == 0)
		snprintf(where, sizeof(where), "tcp://127.0.0.1:0");
	else if (strcmp(o->transport, "rdma") == 0)
		snprintf(where, sizeof(where), "rdma://%s:0", o->host);
	else
		snprintf(where, sizeof(where), "unix:%s", socket_path);
	if (daemon_create(&daemon, strcmp(o->transport, "rdma") == 0 ? "64M" : "544M") == 0 && daemon_start(&daemon) == 0) {
		ret = measure(o, daemon.endpoint, b);
		if (daemon_stop(&daemon))
			ret = -1;
	}
	if (ret == 0 || !o->directory) {
		unlink(pool);
		unlink(socket_path);
		if (ret)
			fprintf(stderr, "what brickd said is in %s\n", log);
		else
			unlink(log);
		if (!o->directory && !ret)
			rmdir(directory);
	}
	return ret;
}

int main(int argc, char **argv)
{
	struct options o = {
		.transport = "tcp", .host = "10.77.0.1", .what = "latency,throughput,calls", .rounds = 9, .seconds = 0.15,
		.sizes = { 8, 4096, 65536, 2097152 }, .n_sizes = 4, .depths = { 1, 4, 16, 64 }, .n_depths = 4, .spin_us = 1000000,
	};
	struct subject *b;
	int ret;

	if (parse(argc, argv, &o)) {
		usage(stderr);
		return 2;
	}
	if (!o.brickd)
		o.brickd = find_brickd();
	if (open_baseline(&o, &b))
		return 1;
	bench_pin(o.cpu);
	ret = o.endpoint ? measure(&o, o.endpoint, b) : with_daemon(&o, b);
	close_baseline(&o, b);
	return ret ? 1 : 0;
}
