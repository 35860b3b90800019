/* SPDX-License-Identifier: BSD-3-Clause */
/* brickd - the target: serves one pool over any number of endpoints, or makes one. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "config.h"
#include "endpoint.h"
#include "notify.h"
#include "pool.h"
#include "report.h"
#include "server.h"
#include "tier-folder.h"
#include "tier.h"

#define EXIT_USAGE   2
#define MEMORY_LEAST (8 * POOL_SLOT_SIZE)

struct options {
	const char *pool;
	uint64_t create, grow; /* bytes, 0: not asked for */
	uint64_t memory;       /* bytes, 0: not asked for */
	const char *memory_dir;
	struct endpoint endpoint[SERVER_LISTENERS];
	unsigned endpoints;
	struct server_config config;
	bool fault, is_volatile, journald;
	enum report_level level;
};

enum {
	OPT_POOL = 256,
	OPT_CREATE,
	OPT_GROW,
	OPT_LISTEN,
	OPT_MAX_SESSIONS,
	OPT_MAX_LANES,
	OPT_MAX_MAPS,
	OPT_MAX_CONNECTIONS,
	OPT_MAX_PEER_CONNECTIONS,
	OPT_MAX_PEER_SESSIONS,
	OPT_MAX_REQUESTS,
	OPT_WORKERS,
	OPT_HELLO_TIMEOUT,
	OPT_LEASE,
	OPT_PUBLIC,
	OPT_MEMORY,
	OPT_MEMORY_DIR,
	OPT_VOLATILE,
	OPT_FAULT,
	OPT_LOG_LEVEL,
	OPT_JOURNALD,
};

static const struct option long_options[] = {
	{"pool", required_argument, NULL, OPT_POOL},
	{"create", required_argument, NULL, OPT_CREATE},
	{"grow", required_argument, NULL, OPT_GROW},
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"max-sessions", required_argument, NULL, OPT_MAX_SESSIONS},
	{"max-lanes", required_argument, NULL, OPT_MAX_LANES},
	{"max-maps", required_argument, NULL, OPT_MAX_MAPS},
	{"max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS},
	{"max-peer-connections", required_argument, NULL, OPT_MAX_PEER_CONNECTIONS},
	{"max-peer-sessions", required_argument, NULL, OPT_MAX_PEER_SESSIONS},
	{"max-requests", required_argument, NULL, OPT_MAX_REQUESTS},
	{"workers", required_argument, NULL, OPT_WORKERS},
	{"hello-timeout", required_argument, NULL, OPT_HELLO_TIMEOUT},
	{"lease", required_argument, NULL, OPT_LEASE},
	{"public", no_argument, NULL, OPT_PUBLIC},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"memory-dir", required_argument, NULL, OPT_MEMORY_DIR},
	{"volatile", no_argument, NULL, OPT_VOLATILE},
	{"fault", no_argument, NULL, OPT_FAULT},
	{"log-level", required_argument, NULL, OPT_LOG_LEVEL},
	{"journald", no_argument, NULL, OPT_JOURNALD},
	{"verbose", no_argument, NULL, 'v'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

static void help(void)
{
	printf("Usage: brickd --pool FILE --create SIZE [--volatile]\n"
	       "       brickd --pool FILE --grow SIZE\n"
	       "       brickd --pool FILE --listen ENDPOINT [--listen ENDPOINT ...] [OPTION ...]\n"
	       "\n"
	       "Makes or enlarges a pool, or serves it as a brick, in the foreground.\n"
	       "\n"
	       "  --pool FILE            the brick's store: a plain file, a file on fsdax, or a devdax device\n"
	       "  --create SIZE          make the pool with room for SIZE (K, M, G, T) of blocks, and exit\n"
	       "  --volatile             with --create: the pool's memory outlives power by itself, or need not: no flushes\n"
	       "  --grow SIZE            enlarge the pool to SIZE in all, and exit\n"
	       "  --listen ENDPOINT      tcp://HOST:PORT, rdma://HOST:PORT (port 0: any that is free) or unix:/PATH; may be repeated\n"
	       "  --public               allow addresses that other hosts can reach\n"
	       "  --memory SIZE          cached: so much of the pool at a time in a memory file, which survives kill -9\n"
	       "  --memory-dir DIR       where that file is made: tmpfs or hugetlbfs (a hugetlbfs with room, or " FOLDER_TMPFS ")\n"
	       "  --max-sessions N       initiators at once (%u)\n"
	       "  --max-peer-sessions N  of these, of one host or user (three quarters)\n"
	       "  --max-lanes N          connections of one session (%u)\n"
	       "  --max-maps N           mapped blocks of one session (%u)\n"
	       "  --max-requests N       requests of one session that are under way or not yet answered (%u)\n"
	       "  --workers N            threads for what takes long: alloc, free, persist, some maps (%u)\n"
	       "  --max-connections N    connections that have not said hello (%u)\n"
	       "  --max-peer-connections N  of these, of one host or user (half)\n"
	       "  --hello-timeout SEC    from connecting to hello (%u)\n"
	       "  --lease SEC            a silent session may be ended by others after this (%u)\n"
	       "  --fault                for tests: bytes that are not persisted die with the process\n"
	       "  --log-level LEVEL      error, warning, notice (the default), info or debug\n"
	       "  -v, --verbose          one level more; may be repeated\n"
	       "  --journald             prefix messages with the priority that journald reads\n"
	       "  -h, --help             this text\n"
	       "  -V, --version          version and license\n"
	       "\n"
	       "Signals: SIGTERM and SIGINT end it in order, SIGUSR1 writes statistics to the log.\n"
	       "See brickd(8).\n",
	       server_config_default.max_sessions, server_config_default.max_lanes, server_config_default.max_maps,
	       server_config_default.max_requests, server_config_default.workers, server_config_default.max_connections, server_config_default.hello_ms / 1000,
	       server_config_default.lease_ms / 1000);
}

/* what: the option or argument; value: what was given with it, or NULL. */
static int usage(const char *what, const char *value, const char *wrong)
{
	report_error("%s%s%s: %s", what, value ? " " : "", value ? value : "", wrong);
	fprintf(stderr, "Try 'brickd --help'.\n");
	return -EINVAL;
}

static int parse_number(const char *option, const char *text, uint32_t least, uint32_t most, uint32_t *value)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || n < least || n > most) {
		report_error("--%s %s: must be a number from %u to %u", option, text, least, most);
		return -EINVAL;
	}
	*value = (uint32_t)n;
	return 0;
}

static uint64_t host_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? UINT64_MAX : (uint64_t)info.totalram * info.mem_unit;
}

static int parse_seconds(const char *option, const char *text, uint32_t *ms)
{
	uint32_t seconds;
	int ret = parse_number(option, text, 1, 3600, &seconds);

	if (!ret)
		*ms = seconds * 1000;
	return ret;
}

static int parse_bytes(const char *option, const char *text, uint64_t *bytes)
{
	if (parse_size(text, bytes) || !*bytes)
		return usage(option, text, "not a size; write 64M, 10G or 1T");
	return 0;
}

static int parse_level(const char *text, enum report_level *level)
{
	static const char *const names[] = {
		[REPORT_ERROR] = "error", [REPORT_WARNING] = "warning", [REPORT_NOTICE] = "notice",
		[REPORT_INFO] = "info",   [REPORT_DEBUG] = "debug",
	};

	for (int i = REPORT_ERROR; i <= REPORT_DEBUG; i++) {
		if (strcmp(text, names[i]) == 0) {
			*level = (enum report_level)i;
			return 0;
		}
	}
	return usage("--log-level", text, "must be error, warning, notice, info or debug");
}

static int parse_listen(const char *text, struct options *options)
{
	if (options->endpoints == SERVER_LISTENERS) {
		report_error("--listen %s: at most %d endpoints", text, SERVER_LISTENERS);
		return -EINVAL;
	}
	if (endpoint_parse(text, &options->endpoint[options->endpoints]))
		return usage("--listen", text, "not an endpoint: expected " ENDPOINT_SYNTAX);
	options->endpoints++;
	return 0;
}

/* 0: go on; 1: all is said; negative errno. */
static int parse_option(int c, const char *arg, struct options *o)
{
	switch (c) {
	case OPT_POOL:
		o->pool = arg;
		return 0;
	case OPT_CREATE:
		return parse_bytes("--create", arg, &o->create);
	case OPT_GROW:
		return parse_bytes("--grow", arg, &o->grow);
	case OPT_LISTEN:
		return parse_listen(arg, o);
	case OPT_MAX_SESSIONS:
		return parse_number("max-sessions", arg, 1, 65536, &o->config.max_sessions);
	case OPT_MAX_LANES:
		return parse_number("max-lanes", arg, 1, 1024, &o->config.max_lanes);
	case OPT_MAX_MAPS:
		return parse_number("max-maps", arg, 1, UINT32_MAX, &o->config.max_maps);
	case OPT_MAX_CONNECTIONS:
		return parse_number("max-connections", arg, 1, 65536, &o->config.max_connections);
	case OPT_MAX_PEER_CONNECTIONS:
		return parse_number("max-peer-connections", arg, 1, 65536, &o->config.max_peer_connections);
	case OPT_MAX_PEER_SESSIONS:
		return parse_number("max-peer-sessions", arg, 1, 65536, &o->config.max_peer_sessions);
	case OPT_MAX_REQUESTS:
		return parse_number("max-requests", arg, 1, 65536, &o->config.max_requests);
	case OPT_WORKERS:
		return parse_number("workers", arg, 1, 1024, &o->config.workers);
	case OPT_HELLO_TIMEOUT:
		return parse_seconds("hello-timeout", arg, &o->config.hello_ms);
	case OPT_LEASE:
		return parse_seconds("lease", arg, &o->config.lease_ms);
	case OPT_PUBLIC:
		o->config.public = true;
		return 0;
	case OPT_MEMORY:
		return parse_bytes("--memory", arg, &o->memory);
	case OPT_MEMORY_DIR:
		o->memory_dir = arg;
		return 0;
	case OPT_VOLATILE:
		o->is_volatile = true;
		return 0;
	case OPT_FAULT:
		o->fault = true;
		return 0;
	case OPT_LOG_LEVEL:
		return parse_level(arg, &o->level);
	case OPT_JOURNALD:
		o->journald = true;
		return 0;
	case 'v':
		if (o->level < REPORT_DEBUG)
			o->level++;
		return 0;
	case 'h':
		help();
		return 1;
	case 'V':
		printf("brickd (" PACKAGE_NAME ") " PACKAGE_VERSION "\nLicense: BSD-3-Clause\n");
		return 1;
	default:
		fprintf(stderr, "Try 'brickd --help'.\n"); /* getopt has said what is wrong */
		return -EINVAL;
	}
}

/* Memory that no host has, or that holds less than a session or two need. */
static int check_memory(const struct options *o)
{
	uint64_t all = host_memory();
	char size[16], words[96], text[16];

	format_size(o->memory, text);
	if (o->memory && o->memory < MEMORY_LEAST) {
		format_size(MEMORY_LEAST, size);
		snprintf(words, sizeof(words), "too little: blocks have 2 MiB each, and at least %s are needed", size);
		return usage("--memory", text, words);
	}
	if (o->memory > all) {
		format_size(all, size);
		snprintf(words, sizeof(words), "the host has %s", size);
		return usage("--memory", text, words);
	}
	return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "vhV", long_options, NULL)) != -1) {
		int ret = parse_option(c, optarg, o);

		if (ret)
			return ret;
	}
	if (optind < argc)
		return usage(argv[optind], NULL, "brickd takes options only");
	if (!o->pool)
		return usage("--pool", "FILE", "must be given");
	if (!!o->create + !!o->grow + !!o->endpoints != 1)
		return usage("--create, --grow, --listen", NULL, "exactly one of them must be given");
	if (o->is_volatile && !o->create)
		return usage("--volatile", NULL, "is declared when a pool is made, with --create");
	if ((o->memory || o->memory_dir) && !o->endpoints)
		return usage(o->memory ? "--memory" : "--memory-dir", NULL, "goes with --listen");
	if (o->memory_dir && o->fault)
		return usage("--memory-dir", o->memory_dir, "there is no memory file in fault mode: its memory dies with the process");
	return check_memory(o);
}

/* Signals are waited for in one place; every thread inherits that they are blocked. */
static int block_signals(sigset_t *set)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1);
	if (sigaction(SIGPIPE, &ignore, NULL))
		return -errno;
	return -pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void tell_manager(const char *state)
{
	int ret = notify_manager(state);

	if (ret)
		report_warning("$NOTIFY_SOCKET: cannot tell the service manager %s: %s", state, strerror(-ret));
}

static void say_ready(const struct server *server)
{
	char text[SERVER_LISTENERS * (ENDPOINT_TEXT_MAX + 1)] = "", one[ENDPOINT_TEXT_MAX];
	char uuid[37], cached[40] = "";
	struct tier_stat memory;

	for (unsigned i = 0; i < server->listeners; i++) {
		endpoint_format(&server->listener[i].endpoint, one);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s", one);
	}
	format_uuid(pool_uuid(server->pool), uuid);
	tier_stat(server->tier, &memory);
	if (memory.memory)
		snprintf(cached, sizeof(cached), ", memory for %u", memory.memory);
	report_notice("%s: brick %s, %u blocks, %u free%s%s%s", pool_path(server->pool), uuid, pool_slots(server->pool),
		      pool_free_slots(server->pool), cached, tier_mode(server->tier) == TIER_FAULT ? ", fault mode" : "",
		      pool_is_volatile(server->pool) ? ", volatile" : "");
	report_notice("ready:%s", text);
	tell_manager("READY=1");
}

/*
 * Direct mode, where it will do.  An RDMA device writes to memory by itself, behind the kernel's back, and the kernel
 * lets it do so for long only where no filesystem has to know what was written.
 */
static void choose_memory(const struct options *o, struct pool *pool, struct tier_config *config)
{
	bool verbs = false;
	char size[16];

	*config = (struct tier_config){
		.mode = o->fault ? TIER_FAULT : o->memory ? TIER_MEMORY : TIER_DIRECT,
		.memory = o->memory,
		.folder = o->memory_dir,
	};
	for (unsigned i = 0; i < o->endpoints; i++)
		verbs |= o->endpoint[i].kind == ENDPOINT_VERBS;
	if (config->mode != TIER_DIRECT || !verbs)
		return;
	if (pool_kind(pool) != POOL_ON_DISK && pool_kind(pool) != POOL_ON_FSDAX)
		return;
	config->mode = TIER_MEMORY;
	config->memory = host_memory() / 4;
	if (config->memory / POOL_SLOT_SIZE > pool_slots(pool))
		config->memory = pool_slots(pool) * POOL_SLOT_SIZE;
	format_size(config->memory, size);
	if (pool_kind(pool) == POOL_ON_FSDAX)
		report_notice("%s: lies on a DAX filesystem, whose pages an RDMA device may not keep (only on-demand paging could "
			      "serve them): cached in %s of memory; --memory SIZE says how much, and a devdax device needs none",
			      o->pool, size);
	else
		report_notice("%s: is a plain file, whose pages an RDMA device may not keep: cached in %s of memory; --memory SIZE "
			      "says how much",
			      o->pool, size);
}

/* A connection over verbs has its event channels, and an eventfd. */
#define FDS_OF_STREAM 1u
#define FDS_OF_VERBS  4u
#define FDS_BESIDE    64u

/* As many descriptors as the limits allow connections: when they run out, nobody can come any more. */
static void raise_descriptors(struct options *o)
{
	uint64_t each = FDS_OF_STREAM, want, few;
	struct rlimit limit;

	for (unsigned i = 0; i < o->endpoints; i++)
		if (o->endpoint[i].kind == ENDPOINT_VERBS)
			each = FDS_OF_VERBS;
	/* those without hello twice: the ones that had to go are closed a moment later */
	want = ((uint64_t)o->config.max_sessions * o->config.max_lanes + 2ull * o->config.max_connections) * each + FDS_BESIDE;
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
		return;
	if (limit.rlim_max < want) {
		/* who has not said hello gets a quarter of them: the rest is for those who have */
		few = limit.rlim_max / 8 / each;
		if (o->config.max_connections > few)
			o->config.max_connections = few ? (uint32_t)few : 1;
		report_warning("this process may have %llu descriptors, and with all sessions and lanes that may be it needs %llu: raise "
			       "LimitNOFILE (ulimit -n), or lower --max-sessions or --max-lanes; --max-connections is %u",
			       (unsigned long long)limit.rlim_max, (unsigned long long)want, o->config.max_connections);
	}
	limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		report_warning("cannot raise the limit of descriptors to %llu: %s", (unsigned long long)limit.rlim_cur,
			       strerror(errno));
}

static int serve(struct options *o)
{
	struct tier_config config;
	struct pool *pool = NULL;
	struct tier *tier = NULL;
	struct server *server = NULL;
	sigset_t signals;
	int ret, sig;

	ret = block_signals(&signals);
	if (ret) {
		report_error("cannot set signals up: %s", strerror(-ret));
		return ret;
	}
	raise_descriptors(o);
	ret = pool_load(&pool, o->pool);
	if (ret)
		return ret; /* it has said why */
	choose_memory(o, pool, &config);
	ret = tier_open_with(&tier, pool, &config);
	if (ret) {
		if (ret == -ENOMEM)
			report_error("%s: not enough memory to serve it", o->pool);
		goto close_pool; /* it has said why */
	}
	ret = server_new(&server, pool, tier, &o->config);
	if (ret) {
		report_error("%s: cannot be served: %s", o->pool, strerror(-ret));
		goto close_tier;
	}
	for (unsigned i = 0; i < o->endpoints && !ret; i++)
		ret = server_listen(server, &o->endpoint[i]);
	if (ret)
		goto delete_server;
	ret = server_start(server);
	if (ret) {
		report_error("cannot start a thread: %s", strerror(-ret));
		goto delete_server;
	}
	say_ready(server);
	for (;;) {
		if (sigwait(&signals, &sig))
			continue;
		if (sig != SIGUSR1)
			break;
		server_dump(server);
	}
	report_notice("ending: %s", strsignal(sig));
	tell_manager("STOPPING=1");
	server_stop(server);
delete_server:
	server_delete(server);
close_tier:
	tier_close(tier);
close_pool:
	pool_close(pool);
	if (!ret)
		report_notice("ended in order");
	return ret;
}

int main(int argc, char **argv)
{
	struct options o = {.config = server_config_default, .level = REPORT_NOTICE};
	int ret;

	report_init("brickd", false, REPORT_NOTICE);
	ret = parse(argc, argv, &o);
	if (ret)
		return ret < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	report_init("brickd", o.journald, o.level);
	if (o.create)
		ret = o.is_volatile ? pool_create_volatile(o.pool, o.create) : pool_create(o.pool, o.create);
	else if (o.grow)
		ret = pool_grow(o.pool, o.grow);
	else
		ret = serve(&o);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
