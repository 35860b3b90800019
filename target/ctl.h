/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl - what the parts of brickctl share: the session, the maps it holds, one
 * command's arguments, and how results and failures are said.
 *
 * Each command fills a JSON object and, unless --json was given, prints for people
 * as it goes.  A failure is said once, with ctl_fail(): a line on standard error
 * that names the address, and the same as members "error", "errno" and "code" of
 * a JSON object.  The command goes on with its other entries.
 */
#ifndef TARGET_CTL_H
#define TARGET_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "brick.h"

enum ctl_exit { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2, CTL_NO_CONNECTION = 3 };

struct ctl {
	const char *endpoint;
	bool json;
	bool script;	/* commands come from standard input */
	struct brick_session *session;
	struct brick_lane *lane; /* that commands use */
	struct brick_handle *maps; /* what the session has mapped */
	size_t n_maps;
	enum ctl_exit status; /* the worst so far */
};

struct ctl_args {
	int argc; /* operands behind the command's name */
	char **argv;
	uint64_t offset, length;
	bool has_length, hex, persist, clean, ops, sessions, limits;
	uint32_t map_flags;
	const char *file, *data;
};

/* A command: 0, or CTL_USAGE when its operands make no sense (it has said why). out: a JSON object to fill. */
typedef int ctl_command(struct ctl *ctl, const struct ctl_args *args, json_t *out);

/* brickctl.c */
void ctl_fail(struct ctl *ctl, json_t *out, int err, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The JSON part alone, for a failure that a line has named already. */
void ctl_fail_json(json_t *out, int err, const char *text);
int ctl_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Waits for standard input, keeps the lease and shows notices meanwhile: 1 input or its end, 0 a signal to end, negative errno: the session is lost. */
int ctl_wait_input(struct ctl *ctl);
json_t *ctl_json_address(uint64_t addr);
/* Reads and drops what standard input has: bytes, 0 at its end, negative errno. */
ssize_t ctl_discard_input(void *scrap, size_t size);

/* ctl_blocks.c: calls on blocks */
ctl_command ctl_alloc, ctl_free, ctl_map, ctl_unmap, ctl_persist;
/* ctl_data.c: bytes */
ctl_command ctl_read, ctl_write;
/* ctl_show.c: what people ask */
ctl_command ctl_list, ctl_stat, ctl_who, ctl_revoke;

/* The reason of a failed entry in words for people; NULL: strerror says it. */
const char *ctl_reason(const char *call, int err);
/* The handle under which the session has the block mapped, or NULL. */
struct brick_handle *ctl_mapped(struct ctl *ctl, uint64_t addr);
int ctl_remember(struct ctl *ctl, const struct brick_handle *handle);
void ctl_forget(struct ctl *ctl, uint64_t addr);

#endif
