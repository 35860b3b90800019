/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * endpoint - "tcp://host:port", "unix:/path" and "rdma://host:port" as people
 * write them, and sizes with K, M, G, T (powers of 1024) and addresses in hex.
 *
 * Parsers change nothing on failure and return -EINVAL; the caller names the
 * text that was wrong.  IPv6 hosts stand in brackets.
 */
#ifndef BRICK_ENDPOINT_H
#define BRICK_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum endpoint_kind { ENDPOINT_TCP, ENDPOINT_LOCAL, ENDPOINT_VERBS };

struct endpoint {
	enum endpoint_kind kind;
	char host[256];		/* tcp, verbs; without brackets */
	char port[8];		/* tcp, verbs: decimal; 0 is allowed when listening (the system chooses) */
	char path[108];		/* local; absolute */
};

int endpoint_parse(const char *text, struct endpoint *endpoint);
/* What an endpoint looks like, for the message about one that does not parse. */
#define ENDPOINT_SYNTAX "tcp://host:port, unix:/absolute/path (107 bytes at most) or rdma://host:port, with a port up to 65535"
/* Writes the canonical text; room for ENDPOINT_TEXT_MAX bytes. */
#define ENDPOINT_TEXT_MAX 288
void endpoint_format(const struct endpoint *endpoint, char *text);
/* True if the address is loopback or a Unix socket: what brickd serves unless asked. Resolves names. */
bool endpoint_is_local(const struct endpoint *endpoint);

int parse_size(const char *text, uint64_t *bytes);
int parse_address(const char *text, uint64_t *addr);	/* hex with or without 0x */
/* "1.5 GiB" into 16 bytes. */
void format_size(uint64_t bytes, char *text);
/* 36 characters and a NUL. */
void format_uuid(const uint8_t uuid[16], char *text);
int parse_uuid(const char *text, uint8_t uuid[16]);

#endif
