/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_text - hostile texts for what parses texts: endpoints (a superblock names them, too), sizes, addresses, UUIDs, lists
 * of endpoints, the options of a mount.
 *
 * What is accepted must be inside its bounds, must give the same value when it is written and parsed again, and a refusal
 * must leave the result as it was.  Of the command line: refused with a word, or whole.
 */
#include "fuzz.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "mount-options.h"
#include "report.h"
#include "volume.h"

const char fuzz_name[] = "fuzz_text";
const unsigned long fuzz_count = 100000;

enum what { ENDPOINT, SIZE, ADDRESS, UUID, LIST, OPTIONS, WHATS };
#define ARGS 12

static unsigned long accepted[WHATS], said;

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "BUG: %s\n", what);
	abort();
}

/* In the place of report(): what would be said is put together, and counted. */
void __wrap_report(enum report_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_report(enum report_level level, const char *format, ...)
{
	char line[4096];
	va_list args;

	va_start(args, format);
	must(vsnprintf(line, sizeof(line), format, args) > 0, "an empty message");
	va_end(args);
	said += level == REPORT_ERROR;
}

static void one_endpoint(const char *text)
{
	char written[ENDPOINT_TEXT_MAX], third[ENDPOINT_TEXT_MAX];
	struct endpoint e, before, again;
	int r;

	memset(&e, 0xa5, sizeof(e));
	before = e;
	r = endpoint_parse(text, &e);
	must(!r || r == -EINVAL, "endpoint: another error");
	if (r) {
		must(!memcmp(&e, &before, sizeof(e)), "endpoint: refused, and changed");
		return;
	}
	accepted[ENDPOINT]++;
	must(memchr(e.host, 0, sizeof(e.host)) && memchr(e.port, 0, sizeof(e.port)) && memchr(e.path, 0, sizeof(e.path)),
	     "endpoint: a part without an end");
	if (e.kind == ENDPOINT_LOCAL)
		must(e.path[0] == '/' && e.path[1] && !e.host[0] && !e.port[0], "endpoint: no path");
	else
		must(e.host[0] && e.port[0] && strtoul(e.port, NULL, 10) <= 65535 && !e.path[0], "endpoint: no host and port");
	endpoint_format(&e, written);
	must(!endpoint_parse(written, &again), "endpoint: what it writes is refused");
	must(e.kind == again.kind && !strcmp(e.host, again.host) && !strcmp(e.port, again.port) && !strcmp(e.path, again.path),
	     "endpoint: what it writes is another");
	endpoint_format(&again, third);
	must(!strcmp(written, third), "endpoint: written differently");
}

/* The digits, and what the letter behind them stands for. */
static void size_is_right(const char *text, uint64_t value)
{
	const char *letters = "BKMGTPE", *letter;
	unsigned long long digits;
	unsigned shift;
	char *end;

	errno = 0;
	digits = strtoull(text, &end, 10);
	must(!errno && end > text, "size: digits");
	letter = *end ? strchr(letters, *end >= 'a' ? *end - 'a' + 'A' : *end) : letters;
	must(letter, "size: a letter that is none");
	shift = 10 * (unsigned)(letter - letters);
	must(digits << shift == value && value >> shift == digits, "size: another value");
}

static void one_number(const char *text, enum what what)
{
	uint64_t value = 0xa5a5a5a5, again;
	int r = what == SIZE ? parse_size(text, &value) : parse_address(text, &value);
	char written[32];

	must(!r || r == -EINVAL, "number: another error");
	if (r) {
		must(value == 0xa5a5a5a5, "number: refused, and changed");
		return;
	}
	accepted[what]++;
	if (what == SIZE)
		size_is_right(text, value);
	snprintf(written, sizeof(written), what == SIZE ? "%" PRIu64 : "0x%" PRIx64, value);
	must(!(what == SIZE ? parse_size(written, &again) : parse_address(written, &again)) && again == value, "number: another one");
	format_size(value, written);
	must(strlen(written) < 16, "size: its text is too long");
}

static void one_uuid(const char *text)
{
	uint8_t uuid[16], again[16];
	char written[37];

	if (parse_uuid(text, uuid))
		return;
	accepted[UUID]++;
	format_uuid(uuid, written);
	must(!parse_uuid(written, again) && !memcmp(uuid, again, 16), "UUID: another one");
}

static void one_list(const char *text)
{
	unsigned long before = said;
	char **endpoints;
	size_t n;

	if (endpoints_split(text, &endpoints, &n)) {
		must(said > before, "list: refused without a word");
		return;
	}
	accepted[LIST]++;
	must(n && n <= VOL_BRICKS_MAX, "list: its length");
	for (size_t k = 0; k < n; k++) {
		struct endpoint e;

		must(!endpoint_parse(endpoints[k], &e), "list: one of them is no endpoint");
	}
	endpoints_free(endpoints, n);
}

/* The arguments end with zero bytes. */
static void options(char *text, size_t size)
{
	char program[] = "brickfs", *args[ARGS + 2] = {program};
	struct mount_options o;
	unsigned long before = said;
	int n = 1, r;

	for (char *at = text; at < text + size && n <= ARGS; at += strlen(at) + 1)
		args[n++] = at;
	r = mount_options_parse(&o, n, args);
	must(!r || r == -EINVAL, "options: another error");
	if (r) {
		/* libfuse itself says it when -o is the last of them. */
		must(said > before || !strcmp(args[n - 1], "-o"), "options: refused without a word");
		return;
	}
	accepted[OPTIONS]++;
	if (!o.help && !o.version) {
		must(o.source && o.dir && o.kernel && o.endpoint_count && o.endpoint_count <= VOL_BRICKS_MAX, "options: not whole");
		must(o.timeo_s <= 86400 && o.wait_s <= 86400 && o.lanes <= 64 && o.maps <= 1u << 20 && o.commit_ms <= 60000,
		     "options: a number out of bounds");
	}
	mount_options_free(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size || size > 4096)
		return 0;
	text = malloc(size);		/* the kind's byte makes room for the end */
	if (!text)
		abort();
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	switch (data[0] % WHATS) {
	case ENDPOINT:
		one_endpoint(text);
		break;
	case SIZE:
	case ADDRESS:
		one_number(text, (enum what)(data[0] % WHATS));
		break;
	case UUID:
		one_uuid(text);
		break;
	case LIST:
		one_list(text);
		break;
	default:
		options(text, size);
	}
	free(text);
	return 0;
}

size_t fuzz_sample(uint8_t *buf, unsigned n)
{
#define SAMPLE(what, text) {what, sizeof(text) - 1, text}
	static const struct { unsigned char what; size_t length; const char *text; } samples[] = {
		SAMPLE(ENDPOINT, "tcp://127.0.0.1:7450"),
		SAMPLE(ENDPOINT, "rdma://[fe80::1%eth0]:65535"),
		SAMPLE(ENDPOINT, "unix:/run/brickd/one.sock"),
		SAMPLE(ENDPOINT, "tcp://a.name.of.a.host:0"),
		SAMPLE(SIZE, "17179869183G"),
		SAMPLE(SIZE, "64MiB"),
		SAMPLE(SIZE, "18446744073709551615"),
		SAMPLE(ADDRESS, "0xfffffffffffffffe"),
		SAMPLE(ADDRESS, "40000000"),
		SAMPLE(UUID, "01234567-89ab-cdef-ABCD-EF0123456789"),
		SAMPLE(LIST, "tcp://a:1,tcp://[::1]:2,unix:/x,rdma://b:3"),
		SAMPLE(OPTIONS, "tcp://a:1,unix:/b\0/mnt\0-o\0ro,timeo=60,wait=5,lanes=4,maps=100,commit=100"),
		SAMPLE(OPTIONS, "unix:/b\0/mnt\0-f\0-o\0rw,sync,noatime,nosuid,nodev,_netdev,x-systemd.automount,user=me,context=a:b"),
		SAMPLE(ENDPOINT, "tcp://a:65536"),
		SAMPLE(SIZE, "17179869184G"),
		SAMPLE(OPTIONS, "unix:/b\0/mnt\0-o\0timeo=86401"),
		SAMPLE(OPTIONS, "unix:/b\0/mnt\0-o\0lanes=65"),
		SAMPLE(OPTIONS, "unix:/b\0/mnt\0-o\0maps=1048577"),
		SAMPLE(OPTIONS, "unix:/b\0/mnt\0-o\0commit=60001"),
		SAMPLE(OPTIONS, "-h"),
		SAMPLE(OPTIONS, "unix:/b\0/mnt\0-o\0remount"),
	};

	if (n == sizeof(samples) / sizeof(samples[0]) || n == sizeof(samples) / sizeof(samples[0]) + 1) {
		/* the longest path, and one byte more; one brick too many */
		size_t length = n % 2 ? 107 : 108;

		buf[0] = ENDPOINT;
		memcpy(buf + 1, "unix:/", 6);
		memset(buf + 7, 'p', length - 1);
		return 6 + length;
	}
	if (n == sizeof(samples) / sizeof(samples[0]) + 2) {
		buf[0] = LIST;
		for (unsigned k = 0; k <= VOL_BRICKS_MAX; k++)
			memcpy(buf + 1 + k * 8, "unix:/x,", 8);
		return (VOL_BRICKS_MAX + 1) * 8;
	}
	if (n > sizeof(samples) / sizeof(samples[0]))
		return 0;
	buf[0] = samples[n].what;
	memcpy(buf + 1, samples[n].text, samples[n].length);
	return 1 + samples[n].length;
}

int fuzz_report(unsigned long inputs)
{
	bool all = true;

	printf("accepted: endpoints %lu, sizes %lu, addresses %lu, UUIDs %lu, lists %lu, command lines %lu; refused with a word %lu times\n",
	       accepted[ENDPOINT], accepted[SIZE], accepted[ADDRESS], accepted[UUID], accepted[LIST], accepted[OPTIONS], said);
	for (unsigned k = 0; k < WHATS; k++)
		all &= accepted[k] > 0;
	return inputs >= 1000 && (!all || !said);
}
