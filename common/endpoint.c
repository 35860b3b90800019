/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * endpoint - what people write on command lines: endpoints, sizes, addresses and
 * UUIDs, to and from text (endpoint.h).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "endpoint.h"

static const struct {
	const char *prefix;
	enum endpoint_kind kind;
} schemes[] = {
	{"tcp://", ENDPOINT_TCP},
	{"unix:", ENDPOINT_LOCAL},
	{"rdma://", ENDPOINT_VERBS},
};

#define N_SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Endpoints stand in lists that commas separate, and in messages: neither blanks, commas nor control bytes. */
static bool clean(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == ',' || *text == 0x7f)
			return false;
	return true;
}

static int parse_port(const char *text, char port[8])
{
	unsigned value = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (!is_digit(*text))
			return -EINVAL;
		value = value * 10 + (unsigned)(*text - '0');
		if (value > 65535)
			return -EINVAL;
	}
	snprintf(port, 8, "%u", value);
	return 0;
}

/* An IPv6 address, maybe with a zone (RFC 4007: fe80::1%eth0). */
static bool is_ipv6(const char *host)
{
	size_t n = strcspn(host, "%");
	char bare[INET6_ADDRSTRLEN];
	struct in6_addr addr;

	if (n >= sizeof(bare) || (host[n] == '%' && !host[n + 1]))
		return false;
	memcpy(bare, host, n);
	bare[n] = '\0';
	return inet_pton(AF_INET6, bare, &addr) == 1;
}

static int parse_host_port(const char *text, struct endpoint *e)
{
	const char *end;
	size_t n;

	if (*text == '[') {
		text++;
		end = strchr(text, ']');
		if (!end || end[1] != ':')
			return -EINVAL;
		n = (size_t)(end - text);
		end += 2;
	} else {
		n = strcspn(text, ":/[]");
		if (text[n] != ':')
			return -EINVAL;
		end = text + n + 1;
	}
	if (!n || n >= sizeof(e->host))
		return -EINVAL;
	memcpy(e->host, text, n);
	if (text[-1] == '[' && !is_ipv6(e->host))
		return -EINVAL;
	return parse_port(end, e->port);
}

int endpoint_parse(const char *text, struct endpoint *endpoint)
{
	struct endpoint e = {0};
	size_t i, n = 0;
	int err;

	if (!clean(text))
		return -EINVAL;
	for (i = 0; i < N_SCHEMES; i++) {
		n = strlen(schemes[i].prefix);
		if (!strncmp(text, schemes[i].prefix, n))
			break;
	}
	if (i == N_SCHEMES)
		return -EINVAL;
	e.kind = schemes[i].kind;
	text += n;
	if (e.kind == ENDPOINT_LOCAL) {
		n = strlen(text);
		if (text[0] != '/' || n < 2 || n >= sizeof(e.path) || text[n - 1] == '/')
			return -EINVAL;
		memcpy(e.path, text, n);
	} else {
		err = parse_host_port(text, &e);
		if (err)
			return err;
	}
	*endpoint = e;
	return 0;
}

void endpoint_format(const struct endpoint *e, char *text)
{
	bool v6;

	if (e->kind == ENDPOINT_LOCAL) {
		snprintf(text, ENDPOINT_TEXT_MAX, "unix:%.107s", e->path);
		return;
	}
	v6 = strchr(e->host, ':');
	snprintf(text, ENDPOINT_TEXT_MAX, "%s://%s%.255s%s:%.7s", e->kind == ENDPOINT_TCP ? "tcp" : "rdma",
		 v6 ? "[" : "", e->host, v6 ? "]" : "", e->port);
}

static bool is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)addr;

		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	if (addr->sa_family == AF_INET6) {
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	}
	return false;
}

bool endpoint_is_local(const struct endpoint *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	bool local;

	if (e->kind == ENDPOINT_LOCAL)
		return true;
	if (getaddrinfo(e->host, e->port, &hints, &list) || !list)
		return false;
	local = true;
	for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
		local = local && is_loopback(ai->ai_addr);
	freeaddrinfo(list);
	return local;
}

int parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGTPE";
	const char *unit;
	uint64_t value = 0;
	unsigned shift = 0;

	if (!is_digit(*text))
		return -EINVAL;
	for (; is_digit(*text); text++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return -EINVAL;
	if (*text && *text != 'B') {
		unit = strchr(units, *text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
		if (!unit)
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
		text++;
		if (*text == 'i' && text[1] != 'B')
			return -EINVAL;
		text += *text == 'i';
	}
	text += *text == 'B';
	if (*text || value > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes = value << shift;
	return 0;
}

int parse_address(const char *text, uint64_t *addr)
{
	uint64_t value = 0;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		int digit = hex_digit(*text);

		if (digit < 0 || value >> 60)
			return -EINVAL;
		value = value << 4 | (uint64_t)digit;
	}
	*addr = value;
	return 0;
}

void format_size(uint64_t bytes, char *text)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	uint64_t whole = bytes, tenths = 0;

	while (unit < 6 && bytes >> (10 * (unit + 1)))
		unit++;
	if (unit) {
		uint64_t rest = bytes & ((1ull << (10 * unit)) - 1);

		/* Rounded to the nearest tenth; the rest is cut to 20 bits so that nothing overflows. */
		whole = bytes >> (10 * unit);
		rest = 10 * unit > 20 ? rest >> (10 * unit - 20) : rest << (20 - 10 * unit);
		tenths = (rest * 10 + (1u << 19)) >> 20;
		if (tenths == 10) {
			tenths = 0;
			if (++whole == 1024 && unit < 6) {
				whole = 1;
				unit++;
			}
		}
	}
	if (tenths)
		snprintf(text, 16, "%u.%u %s", (unsigned)(whole & 0xffff), (unsigned)tenths, units[unit]);
	else
		snprintf(text, 16, "%u %s", (unsigned)(whole & 0xffff), units[unit]);
}

void format_uuid(const uint8_t uuid[16], char *text)
{
	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text++ = '-';
		*text++ = "0123456789abcdef"[uuid[i] >> 4];
		*text++ = "0123456789abcdef"[uuid[i] & 15];
	}
	*text = '\0';
}

int parse_uuid(const char *text, uint8_t uuid[16])
{
	uint8_t value[16];

	for (unsigned i = 0; i < 16; i++) {
		int high, low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return -EINVAL;
		high = hex_digit(*text);
		low = high < 0 ? -1 : hex_digit(text[1]);
		if (low < 0)
			return -EINVAL;
		value[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text)
		return -EINVAL;
	memcpy(uuid, value, sizeof(value));
	return 0;
}
