/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * brickctl - the calls of a brick from a shell (brickctl(8)): options, the session,
 * and the script mode that runs many commands in one session.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "endpoint.h"
#include "report.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define WORDS_MAX 64
#define LINE_BYTES 65536

enum option_code {
	OPT_TIMEOUT = 256,
	OPT_LANES,
	OPT_WRITE,
	OPT_EXCLUSIVE,
	OPT_PREEMPT,
	OPT_OFFSET,
	OPT_LENGTH,
	OPT_HEX,
	OPT_PERSIST,
	OPT_CLEAN,
	OPT_OPS,
	OPT_SESSIONS,
	OPT_LIMITS,
	OPT_FILE,
	OPT_DATA,
};

static const struct option long_options[] = {
	{"brick", required_argument, NULL, 'b'},
	{"json", no_argument, NULL, 'j'},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"lanes", required_argument, NULL, OPT_LANES},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"write", no_argument, NULL, OPT_WRITE},
	{"exclusive", no_argument, NULL, OPT_EXCLUSIVE},
	{"preempt", no_argument, NULL, OPT_PREEMPT},
	{"offset", required_argument, NULL, OPT_OFFSET},
	{"length", required_argument, NULL, OPT_LENGTH},
	{"hex", no_argument, NULL, OPT_HEX},
	{"persist", no_argument, NULL, OPT_PERSIST},
	{"clean", no_argument, NULL, OPT_CLEAN},
	{"ops", no_argument, NULL, OPT_OPS},
	{"sessions", no_argument, NULL, OPT_SESSIONS},
	{"limits", no_argument, NULL, OPT_LIMITS},
	{"file", required_argument, NULL, OPT_FILE},
	{"data", required_argument, NULL, OPT_DATA},
	{NULL, 0, NULL, 0},
};

static int do_lane(struct ctl *ctl, const struct ctl_args *args, json_t *out);

#define BIT(opt) (1u << ((opt) - OPT_TIMEOUT))

static const struct command {
	const char *name;
	ctl_command *run;
	unsigned options; /* BIT()s of those it takes */
	int operands_min, operands_max;
	bool script_only;
} commands[] = {
	{"alloc", ctl_alloc, 0, 1, WORDS_MAX, false},
	{"free", ctl_free, 0, 1, WORDS_MAX, false},
	{"map", ctl_map, BIT(OPT_WRITE) | BIT(OPT_EXCLUSIVE) | BIT(OPT_PREEMPT), 1, WORDS_MAX, false},
	{"unmap", ctl_unmap, BIT(OPT_CLEAN), 1, WORDS_MAX, false},
	{"list", ctl_list, 0, 0, 1, false},
	{"read", ctl_read, BIT(OPT_OFFSET) | BIT(OPT_LENGTH) | BIT(OPT_HEX) | BIT(OPT_FILE), 1, 1, false},
	{"write", ctl_write,
	 BIT(OPT_OFFSET) | BIT(OPT_PERSIST) | BIT(OPT_FILE) | BIT(OPT_DATA) | BIT(OPT_EXCLUSIVE) | BIT(OPT_PREEMPT), 1, 1,
	 false},
	{"persist", ctl_persist, 0, 1, 2, false},
	{"stat", ctl_stat, BIT(OPT_OPS) | BIT(OPT_LIMITS) | BIT(OPT_SESSIONS), 0, 0, false},
	{"revoke", ctl_revoke, 0, 1, 1, false},
	{"who", ctl_who, 0, 1, 1, false},
	{"lane", do_lane, 0, 1, 1, true},
};

static const char help[] =
	"usage: brickctl -b ENDPOINT [--json] [--timeout SECONDS] COMMAND [...]\n"
	"       brickctl -b ENDPOINT [--json] [--timeout SECONDS] [--lanes N] -     (commands from standard input)\n"
	"\n"
	"  alloc ADDR [COUNT] ...                 bring blocks to life, as zeroes\n"
	"  free ADDR [COUNT] ...                  give blocks back\n"
	"  map ADDR [COUNT] ... [--write] [--exclusive] [--preempt]\n"
	"                                         map, print the handles, hold them until standard input ends\n"
	"  unmap ADDR [COUNT] ... [--clean]       in a script: give maps of this session back\n"
	"  list [FROM]                            the allocated blocks, as extents\n"
	"  read ADDR [--offset N] [--length N] [--hex] [--file FILE]\n"
	"  write ADDR [--offset N] [--file FILE | --data HEX] [--persist] [--exclusive] [--preempt]\n"
	"  persist ADDR [LENGTH]                  make a range durable\n"
	"  stat [--ops] [--limits] [--sessions]   capacity, use, sessions, operations and their latencies, limits and refusals\n"
	"  who ADDR                               the sessions that have a block mapped\n"
	"  revoke SESSION                         end a session, by its number\n"
	"  lane N                                 in a script: use lane N (0: the first) from here on\n"
	"\n"
	"ENDPOINT  tcp://host:port, unix:/path, rdma://host:port     ADDR  hex; a second one in a line needs its 0x\n"
	"COUNT     blocks of 2 MiB, decimal                          N, LENGTH  bytes, or with K, M\n"
	"Exit status: 0 done, 1 an entry or the call failed, 2 usage, 3 no connection.  See brickctl(8).\n";

static volatile sig_atomic_t ended; /* by a signal */

static void on_signal(int number)
{
	ended = number;
}

void ctl_fail_json(json_t *out, int err, const char *text)
{
	const char *code = strerrorname_np(-err);

	json_object_set_new(out, "error", json_string_nocheck(text));
	json_object_set_new(out, "errno", json_integer(-err));
	json_object_set_new(out, "code", json_string(code ? code : "?"));
}

void ctl_fail(struct ctl *ctl, json_t *out, int err, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report_error("%s", text);
	if (ctl->status == CTL_OK)
		ctl->status = CTL_FAILED;
	if (out)
		ctl_fail_json(out, err, text);
}

static char usage_text[1024]; /* what ctl_usage() said last */

int ctl_usage(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(usage_text, sizeof(usage_text), format, args);
	va_end(args);
	report_error("%s", usage_text);
	return CTL_USAGE;
}

/* The same for --json, into out. */
static void usage_to_json(json_t *out)
{
	json_object_set_new(out, "error", json_string(usage_text));
	json_object_set_new(out, "errno", json_integer(EINVAL));
	json_object_set_new(out, "code", json_string("EINVAL"));
}

json_t *ctl_json_address(uint64_t addr)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)addr);
	return json_string(text);
}

struct brick_handle *ctl_mapped(struct ctl *ctl, uint64_t addr)
{
	for (size_t i = 0; i < ctl->n_maps; i++)
		if (ctl->maps[i].addr == addr)
			return &ctl->maps[i];
	return NULL;
}

int ctl_remember(struct ctl *ctl, const struct brick_handle *handle)
{
	struct brick_handle *held = ctl_mapped(ctl, handle->addr);

	if (held) {
		*held = *handle;
		return 0;
	}
	held = reallocarray(ctl->maps, ctl->n_maps + 1, sizeof(*held));
	if (!held)
		return -ENOMEM;
	ctl->maps = held;
	held[ctl->n_maps++] = *handle;
	return 0;
}

void ctl_forget(struct ctl *ctl, uint64_t addr)
{
	struct brick_handle *held = ctl_mapped(ctl, addr);

	if (held)
		*held = ctl->maps[--ctl->n_maps];
}

/* A later command uses this lane: what is written on one lane is persisted on it. */
static int do_lane(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	unsigned lanes = brick_info(ctl->session)->lanes;
	char *end;
	unsigned long number = strtoul(args->argv[0], &end, 10);
	struct brick_lane *lane;
	int err;

	if (!*args->argv[0] || *end || args->argv[0][0] == '-')
		return ctl_usage("lane %s: not a number", args->argv[0]);
	if (number >= lanes) {
		ctl_fail(ctl, out, -ERANGE, "lane %lu: the brick granted lanes 0 to %u (ask for more with --lanes)", number,
			 lanes - 1);
		return 0;
	}
	while (!(lane = brick_lane(ctl->session, (unsigned)number))) {
		err = brick_lane_open(ctl->session, &lane);
		if (err) {
			ctl_fail(ctl, out, err, "lane %lu: %s", number, brick_error());
			return 0;
		}
	}
	ctl->lane = lane;
	json_object_set_new(out, "lane", json_integer((json_int_t)number));
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Says what the brick wants to say; -EKEYREVOKED when it has ended the session. */
static int show_notices(struct ctl *ctl)
{
	struct brick_notice notice;
	int err = 0;

	while (brick_notice(ctl->session, &notice) == 1)
		switch (notice.kind) {
		case BRICK_NOTICE_RECALL:
			report_notice("%s: the brick asks for %llu mapped blocks back", ctl->endpoint,
				      (unsigned long long)notice.arg);
			break;
		case BRICK_NOTICE_REVOKED:
			err = -EKEYREVOKED;
			break;
		case BRICK_NOTICE_GOING_DOWN:
			report_notice("%s: the brick is going down", ctl->endpoint);
			break;
		}
	return err;
}

int ctl_wait_input(struct ctl *ctl)
{
	int64_t interval = brick_info(ctl->session)->lease_ms / 3, keepalive;
	sigset_t during;

	if (interval < 10)
		interval = 10;
	if (interval > 60000)
		interval = 60000;
	keepalive = now_ms() + interval;
	sigprocmask(SIG_BLOCK, NULL, &during);
	sigdelset(&during, SIGINT);
	sigdelset(&during, SIGTERM);
	sigdelset(&during, SIGHUP);
	for (;;) {
		struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
					{.fd = brick_fd(ctl->lane), .events = POLLIN}};
		struct brick_completion completions[8];
		struct timespec timeout;
		int64_t left;
		int err;

		if (ended)
			return 0;
		brick_poll(ctl->lane, completions, 8);
		err = show_notices(ctl);
		if (!err)
			err = brick_lane_state(ctl->lane);
		if (err)
			return err;
		left = keepalive - now_ms();
		if (left <= 0) {
			err = brick_keepalive(ctl->lane);
			if (err)
				return err;
			keepalive = now_ms() + interval;
			continue;
		}
		err = brick_arm(ctl->lane);
		if (err < 0)
			return err;
		if (err > 0)
			continue;
		timeout.tv_sec = left / 1000;
		timeout.tv_nsec = left % 1000 * 1000000;
		if (ppoll(fds, 2, &timeout, &during) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[0].revents)
			return 1;
	}
}

ssize_t ctl_discard_input(void *scrap, size_t size)
{
	ssize_t n = read(STDIN_FILENO, scrap, size);

	return n < 0 ? (errno == EINTR || errno == EAGAIN ? 1 : -errno) : n;
}

/* What belongs to the command line as a whole. */
struct common {
	const char *endpoint;
	bool json;
	uint32_t timeout_ms;
	uint16_t lanes;
};

static int parse_number(const char *option, const char *text, uint64_t *value)
{
	if (parse_size(text, value))
		return ctl_usage("--%s %s: not a size (bytes, or with K or M)", option, text);
	return 0;
}

static int parse_seconds(const char *text, uint32_t *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (!*text || *end || !(seconds >= 0.001 && seconds <= 86400))
		return ctl_usage("--timeout %s: not a number of seconds from 0.001 to 86400", text);
	*ms = (uint32_t)(seconds * 1000);
	return 0;
}

/* Parses one command's words; common is NULL in a script's line. */
static int parse_words(int argc, char **argv, struct common *common, const struct command **command, struct ctl_args *args)
{
	unsigned given = 0;
	uint64_t value;
	int c, err, at;

	*command = NULL;
	memset(args, 0, sizeof(*args));
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":b:jhV", long_options, NULL)) != -1) {
		err = 0;
		if (c >= OPT_WRITE)
			given |= BIT(c);
		else if (!common && c != '?' && c != ':')
			return ctl_usage("%s: belongs to the command line of brickctl, not to a command in a script",
					 argv[optind - 1]);
		switch (c) {
		case 'b':
			common->endpoint = optarg;
			break;
		case 'j':
			common->json = true;
			break;
		case OPT_TIMEOUT:
			err = parse_seconds(optarg, &common->timeout_ms);
			break;
		case OPT_LANES:
			err = parse_number("lanes", optarg, &value);
			if (!err && (!value || value > 1024))
				err = ctl_usage("--lanes %s: 1 to 1024", optarg);
			if (!err)
				common->lanes = (uint16_t)value;
			break;
		case 'h':
			fputs(help, stdout);
			exit(CTL_OK);
		case 'V':
			puts("brickctl (brickfs) " PACKAGE_VERSION);
			exit(CTL_OK);
		case OPT_WRITE:
			args->map_flags |= BRICK_MAP_WRITE;
			break;
		case OPT_EXCLUSIVE:
			args->map_flags |= BRICK_MAP_WRITE | BRICK_MAP_EXCLUSIVE;
			break;
		case OPT_PREEMPT:
			args->map_flags |= BRICK_MAP_PREEMPT;
			break;
		case OPT_OFFSET:
			err = parse_number("offset", optarg, &args->offset);
			break;
		case OPT_LENGTH:
			err = parse_number("length", optarg, &args->length);
			args->has_length = true;
			break;
		case OPT_HEX:
			args->hex = true;
			break;
		case OPT_PERSIST:
			args->persist = true;
			break;
		case OPT_CLEAN:
			args->clean = true;
			break;
		case OPT_OPS:
			args->ops = true;
			break;
		case OPT_SESSIONS:
			args->sessions = true;
			break;
		case OPT_LIMITS:
			args->limits = true;
			break;
		case OPT_FILE:
			args->file = optarg;
			break;
		case OPT_DATA:
			args->data = optarg;
			break;
		case ':':
			return ctl_usage("%s: a value is missing behind it", argv[optind - 1]);
		default:
			return ctl_usage("%s: unknown option; brickctl --help lists them", argv[optind - 1]);
		}
		if (err)
			return err;
	}
	if (optind == argc)
		return ctl_usage("no command; brickctl --help lists them");
	args->argc = argc - optind - 1;
	args->argv = argv + optind + 1;
	if (common && !strcmp(argv[optind], "-"))
		return args->argc || given ? ctl_usage("-: takes neither operands nor options of commands") : 0;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[optind], commands[i].name))
			*command = &commands[i];
	if (!*command)
		return ctl_usage("%s: unknown command; brickctl --help lists them", argv[optind]);
	if (given & ~(*command)->options) {
		for (at = 0; long_options[at].val < OPT_WRITE || !(given & ~(*command)->options & BIT(long_options[at].val));)
			at++;
		return ctl_usage("%s: does not take --%s", (*command)->name, long_options[at].name);
	}
	if (args->argc < (*command)->operands_min)
		return ctl_usage("%s: needs an operand; brickctl --help shows which", (*command)->name);
	if (args->argc > (*command)->operands_max)
		return ctl_usage("%s: too many operands, from \"%s\" on", (*command)->name, args->argv[(*command)->operands_max]);
	return 0;
}

static void print_json(const struct ctl *ctl, const json_t *out)
{
	json_dumpf(out, stdout, JSON_PRESERVE_ORDER | (ctl->script ? JSON_COMPACT : JSON_INDENT(2)));
	putchar('\n');
}

static void run_command(struct ctl *ctl, const struct command *command, const struct ctl_args *args)
{
	json_t *out = json_object();

	json_object_set_new(out, "call", json_string(command->name));
	if (command->run(ctl, args, out)) {
		ctl->status = CTL_USAGE;
		usage_to_json(out);
	}
	if (ctl->json && json_object_size(out))
		print_json(ctl, out);
	json_decref(out);
	if ((fflush(stdout) || ferror(stdout)) && ctl->status == CTL_OK) {
		report_error("standard output: %s", strerror(errno));
		ctl->status = CTL_FAILED;
	}
}

/* Words are separated by blanks; # begins a comment. */
static int split(char *line, char **words)
{
	int n = 0;

	words[n++] = (char *)"brickctl";
	for (char *save = NULL, *word = strtok_r(line, " \t\r", &save); word && *word != '#'; word = strtok_r(NULL, " \t\r", &save)) {
		if (n == WORDS_MAX)
			return -E2BIG;
		words[n++] = word;
	}
	words[n] = NULL;
	return n;
}

static void run_line(struct ctl *ctl, char *line)
{
	const struct command *command;
	char *words[WORDS_MAX + 1];
	struct ctl_args args;
	int n = split(line, words);

	if (n == 1)
		return;
	if (n < 0)
		ctl_usage("a line of the script has more than %d words", WORDS_MAX - 1);
	if (n < 0 || parse_words(n, words, NULL, &command, &args)) {
		ctl->status = CTL_USAGE;
		if (ctl->json) {
			json_t *out = json_object();

			usage_to_json(out);
			print_json(ctl, out);
			json_decref(out);
			fflush(stdout);
		}
		return;
	}
	run_command(ctl, command, &args);
}

/* One session for all commands that standard input has; it ends with the input, a signal, or the session. */
static void run_script(struct ctl *ctl)
{
	static char buffer[LINE_BYTES];
	size_t used = 0;
	ssize_t n = 1;

	while (n > 0) {
		int ready = ctl_wait_input(ctl);
		char *line = buffer, *end;

		if (ready <= 0) {
			if (ready < 0)
				ctl_fail(ctl, NULL, ready, "%s: the session is lost: %s", ctl->endpoint,
					 ready == -EKEYREVOKED ? "it was revoked" : strerror(-ready));
			return;
		}
		n = read(STDIN_FILENO, buffer + used, sizeof(buffer) - used - 1);
		if (n < 0) {
			n = errno == EINTR || errno == EAGAIN;
			if (!n)
				ctl_fail(ctl, NULL, -errno, "standard input: %s", strerror(errno));
			continue;
		}
		used += (size_t)n;
		buffer[used] = '\0';
		while ((end = memchr(line, '\n', used - (size_t)(line - buffer)))) {
			*end = '\0';
			run_line(ctl, line);
			line = end + 1;
		}
		used -= (size_t)(line - buffer);
		memmove(buffer, line, used);
		if (used == sizeof(buffer) - 1) {
			ctl_fail(ctl, NULL, -E2BIG, "standard input: a line of more than %d bytes", LINE_BYTES - 1);
			return;
		}
	}
	buffer[used] = '\0';
	if (used)
		run_line(ctl, buffer);
}

/* Signals end a wait for input; everything else is bounded by the timeout and may be interrupted hard. */
static void prepare_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static int no_connection(struct ctl *ctl, int err)
{
	const char *said = brick_error();
	json_t *out = json_object();

	if (strstr(said, ctl->endpoint))
		ctl_fail(ctl, out, err, "%s", said);
	else
		ctl_fail(ctl, out, err, "%s: cannot connect: %s", ctl->endpoint, *said ? said : strerror(-err));
	if (ctl->json)
		print_json(ctl, out);
	json_decref(out);
	return CTL_NO_CONNECTION;
}

int main(int argc, char **argv)
{
	struct common common = {.lanes = 1, .timeout_ms = 10000};
	struct brick_options options = {0};
	const struct command *command;
	struct endpoint endpoint;
	struct ctl_args args;
	struct ctl ctl = {0};
	int err;

	report_init("brickctl", false, REPORT_NOTICE);
	err = parse_words(argc, argv, &common, &command, &args);
	if (!err && !common.endpoint)
		err = ctl_usage("-b ENDPOINT is missing (tcp://host:port, unix:/path or rdma://host:port)");
	else if (!err && endpoint_parse(common.endpoint, &endpoint))
		err = ctl_usage("-b %s: not an endpoint: expected " ENDPOINT_SYNTAX, common.endpoint);
	else if (!err && command && command->script_only)
		err = ctl_usage("%s: only in a script (brickctl -b %s -)", command->name, common.endpoint);
	ctl.endpoint = common.endpoint;
	ctl.json = common.json;
	ctl.script = !command && !err;
	if (err) {
		json_t *out = json_object();

		usage_to_json(out);
		if (ctl.json)
			print_json(&ctl, out);
		json_decref(out);
		return err;
	}
	options.lanes = common.lanes;
	options.timeout_ms = common.timeout_ms;
	err = brick_open(common.endpoint, &options, &ctl.session);
	if (err)
		return no_connection(&ctl, err);
	ctl.lane = brick_lane(ctl.session, 0);
	/* Commands that wait for nothing but the brick end by a signal as every program does. */
	if (ctl.script || command->run == ctl_map)
		prepare_signals();
	if (ctl.script)
		run_script(&ctl);
	else
		run_command(&ctl, command, &args);
	brick_close(ctl.session);
	free(ctl.maps);
	return ctl.status;
}
