/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_blocks - brickctl's calls on whole blocks: alloc, free, map, unmap, persist.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "endpoint.h"

#define ADDRS_MAX (1u << 22) /* 8 TiB of blocks in one command */
#define OFFSET_MASK (BRICK_BLOCK_SIZE - 1)

/* What a status means for a call, and what to do about it. */
static const struct {
	const char *call;
	int error;
	const char *text;
} reasons[] = {
	{"alloc", EEXIST, "exists already"},
	{"alloc", ENOSPC, "no space: the brick is full"},
	{"free", ENOENT, "is not allocated"},
	{"free", EBUSY, "is mapped by another session (brickctl who tells by which)"},
	{"map", ENOENT, "is not allocated"},
	{"map", EBUSY, "is mapped by another session, or by this one with weaker flags (brickctl who tells by which)"},
	{"map", EACCES, "may not be mapped like that"},
	{"map", ENOMEM, "this session, or the brick, has as many maps as it may have"},
	{"unmap", ENOENT, "is not mapped by this session"},
	{"persist", ENOENT, "is not allocated"},
	{"persist", EIO, "could not be made durable; see the brick's log"},
	{"revoke", ENOENT, "the brick has no such session"},
	{"revoke", EBUSY, "it is busy: a local session has the memory mapped and ends only with its process"},
	{"revoke", EINVAL, "that is the session of this command itself"},
	{"*", EINVAL, "is not the address of a block (a multiple of 0x200000)"},
	{"*", EIO, "the brick's store failed; see its log"},
};

const char *ctl_reason(const char *call, int err)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].error == -err && (!strcmp(reasons[i].call, call) || reasons[i].call[0] == '*'))
			return reasons[i].text;
	return strerror(-err);
}

/* "ADDR [COUNT] 0xADDR [COUNT] ...": the first operand, and each that begins with 0x, is an address; others are counts. */
static int parse_blocks(const struct ctl_args *args, uint64_t **addrs, size_t *n)
{
	uint64_t *list = NULL;
	size_t used = 0;

	for (int i = 0; i < args->argc; i++) {
		uint64_t start, count = 1;
		void *more;

		if (parse_address(args->argv[i], &start)) {
			free(list);
			return ctl_usage("%s: not an address (hex)", args->argv[i]);
		}
		if (i + 1 < args->argc && strncasecmp(args->argv[i + 1], "0x", 2)) {
			char *end;

			i++;
			errno = 0;
			count = strtoull(args->argv[i], &end, 10);
			if (errno || *end || !count || args->argv[i][0] < '0' || args->argv[i][0] > '9') {
				free(list);
				return ctl_usage("%s: not a number of blocks (a further address needs its 0x)",
						 args->argv[i]);
			}
		}
		if (count > ADDRS_MAX - used || count - 1 > (UINT64_MAX - start) >> BRICK_BLOCK_SHIFT) {
			free(list);
			return ctl_usage("0x%" PRIx64 " %" PRIu64 ": too many blocks", start, count);
		}
		more = reallocarray(list, used + count, sizeof(*list));
		if (!more) {
			free(list);
			return ctl_usage("no memory for %" PRIu64 " addresses", count);
		}
		list = more;
		for (uint64_t b = 0; b < count; b++)
			list[used++] = start + (b << BRICK_BLOCK_SHIFT);
	}
	*addrs = list;
	*n = used;
	return 0;
}

/* Entries from i on that failed alike, each block right behind the one before: one line names them all. */
static size_t failed_alike(const uint64_t *addrs, const int *status, size_t i, size_t n)
{
	size_t run = 1;

	while (i + run < n && status[i + run] == status[i] && addrs[i + run] == addrs[i] + (run << BRICK_BLOCK_SHIFT))
		run++;
	return run;
}

/* The outcome of entry i of n, in JSON and when it failed in words. */
static json_t *tell_entry(struct ctl *ctl, const char *call, const uint64_t *addrs, const int *status, size_t i, size_t n,
			  json_t *entries)
{
	bool behind = i && status[i] == status[i - 1] && addrs[i] == addrs[i - 1] + BRICK_BLOCK_SIZE;
	json_t *entry = json_object();
	char text[256];

	json_object_set_new(entry, "address", ctl_json_address(addrs[i]));
	json_object_set_new(entry, "ok", json_boolean(!status[i]));
	json_array_append_new(entries, entry);
	if (!status[i])
		return entry;
	if (!behind) {
		size_t run = failed_alike(addrs, status, i, n);

		if (run > 1)
			ctl_fail(ctl, NULL, status[i], "0x%" PRIx64 " and %zu block%s behind it: %s: %s", addrs[i], run - 1,
				 run == 2 ? "" : "s", call, ctl_reason(call, status[i]));
		else
			ctl_fail(ctl, NULL, status[i], "0x%" PRIx64 ": %s: %s", addrs[i], call, ctl_reason(call, status[i]));
	}
	snprintf(text, sizeof(text), "0x%" PRIx64 ": %s: %s", addrs[i], call, ctl_reason(call, status[i]));
	ctl_fail_json(entry, status[i], text);
	return entry;
}

/* A request that was not carried out: its entries' outcome is unknown. */
static void tell_request(struct ctl *ctl, const char *call, uint64_t addr, int err, json_t *out)
{
	const char *said = brick_error();

	ctl_fail(ctl, out, err, "0x%" PRIx64 ": %s: %s", addr, call, *said ? said : strerror(-err));
}

/* Runs of blocks that succeeded, one line each. */
static void print_runs(const struct ctl *ctl, const char *done, const uint64_t *addrs, const int *status, size_t n)
{
	for (size_t i = 0, run; !ctl->json && i < n; i += run) {
		run = 1;
		if (status[i])
			continue;
		while (i + run < n && !status[i + run] && addrs[i + run] == addrs[i] + (run << BRICK_BLOCK_SHIFT))
			run++;
		printf("0x%" PRIx64 "  %zu block%s %s\n", addrs[i], run, run == 1 ? "" : "s", done);
	}
}

struct batch {
	uint64_t *addrs;
	int *status;
	size_t n;
	json_t *entries;
};

static int batch_open(struct batch *b, const struct ctl_args *args, json_t *out)
{
	int err = parse_blocks(args, &b->addrs, &b->n);

	if (err)
		return err;
	b->status = calloc(b->n, sizeof(*b->status));
	if (!b->status) {
		free(b->addrs);
		return ctl_usage("no memory for %zu addresses", b->n);
	}
	b->entries = json_array();
	json_object_set_new(out, "entries", b->entries);
	return 0;
}

static void batch_close(struct batch *b)
{
	free(b->addrs);
	free(b->status);
}

int ctl_alloc(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct batch b = {0};
	int err = batch_open(&b, args, out);

	if (err)
		return err;
	err = brick_alloc(ctl->lane, b.addrs, b.n, b.status);
	if (err) {
		tell_request(ctl, "alloc", b.addrs[0], err, out);
	} else {
		for (size_t i = 0; i < b.n; i++)
			tell_entry(ctl, "alloc", b.addrs, b.status, i, b.n, b.entries);
		print_runs(ctl, "allocated", b.addrs, b.status, b.n);
	}
	batch_close(&b);
	return 0;
}

int ctl_free(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct batch b = {0};
	int err = batch_open(&b, args, out);

	if (err)
		return err;
	err = brick_free(ctl->lane, b.addrs, b.n, b.status);
	if (err) {
		tell_request(ctl, "free", b.addrs[0], err, out);
	} else {
		for (size_t i = 0; i < b.n; i++) {
			tell_entry(ctl, "free", b.addrs, b.status, i, b.n, b.entries);
			if (!b.status[i])
				ctl_forget(ctl, b.addrs[i]); /* the session's own map went with it */
		}
		print_runs(ctl, "freed", b.addrs, b.status, b.n);
	}
	batch_close(&b);
	return 0;
}

/* Outside a script a map would end with the command: it holds the session until it is told to end. */
static void hold(struct ctl *ctl, json_t *out)
{
	char scrap[4096];
	int ready;

	if (ctl->json) { /* whoever waits for the handles waits for them now */
		json_dumpf(out, stdout, JSON_PRESERVE_ORDER | JSON_INDENT(2));
		putchar('\n');
		json_object_clear(out);
	}
	fflush(stdout);
	while ((ready = ctl_wait_input(ctl)) > 0)
		if (ctl_discard_input(scrap, sizeof(scrap)) <= 0)
			return;
	if (ready < 0)
		ctl_fail(ctl, NULL, ready, "%s: the session is lost, and its maps with it: %s", ctl->endpoint,
			 ready == -EKEYREVOKED ? "it was revoked" : strerror(-ready));
}

int ctl_map(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct brick_handle *handles = NULL;
	struct batch b = {0};
	size_t mapped = 0;
	int err = batch_open(&b, args, out);

	if (err)
		return err;
	handles = calloc(b.n, sizeof(*handles));
	err = handles ? brick_map(ctl->lane, b.addrs, b.n, args->map_flags, handles, b.status) : -ENOMEM;
	if (err)
		tell_request(ctl, "map", b.addrs[0], err, out);
	for (size_t i = 0; !err && i < b.n; i++) {
		json_t *entry = tell_entry(ctl, "map", b.addrs, b.status, i, b.n, b.entries);
		const struct brick_handle *h = &handles[i];

		if (b.status[i])
			continue;
		if (ctl_remember(ctl, h)) {
			ctl_fail(ctl, entry, -ENOMEM, "0x%" PRIx64 ": map: no memory to keep its handle", b.addrs[i]);
			continue;
		}
		if (!mapped++ && !ctl->json)
			printf("%-18s  %-10s  %-18s  %s\n", "ADDRESS", "KEY", "PLACE", "MODE");
		if (!ctl->json)
			printf("0x%-16" PRIx64 "  0x%-8" PRIx32 "  0x%-16" PRIx64 "  %s\n", h->addr, h->key, h->place,
			       h->flags & BRICK_MAP_EXCLUSIVE ? "exclusive" : h->flags & BRICK_MAP_WRITE ? "write" : "read");
		json_object_set_new(entry, "key", json_integer(h->key));
		json_object_set_new(entry, "place", ctl_json_address(h->place));
		json_object_set_new(entry, "write", json_boolean(h->flags & (BRICK_MAP_WRITE | BRICK_MAP_EXCLUSIVE)));
		json_object_set_new(entry, "exclusive", json_boolean(h->flags & BRICK_MAP_EXCLUSIVE));
	}
	free(handles);
	batch_close(&b);
	if (mapped && !ctl->script)
		hold(ctl, out);
	return 0;
}

int ctl_unmap(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct batch b = {0};
	int err;

	if (!ctl->script)
		return ctl_usage("unmap: a map belongs to the session that made it and ends with it, and every brickctl has a session "
				 "of its own: end the \"brickctl map\" that holds it, use map and unmap in a script "
				 "(brickctl -b %s -), or revoke a session", ctl->endpoint);
	err = batch_open(&b, args, out);
	if (err)
		return err;
	err = brick_unmap(ctl->lane, b.addrs, b.n, args->clean ? BRICK_UNMAP_CLEAN : 0, b.status);
	if (err)
		tell_request(ctl, "unmap", b.addrs[0], err, out);
	for (size_t i = 0; !err && i < b.n; i++) {
		tell_entry(ctl, "unmap", b.addrs, b.status, i, b.n, b.entries);
		if (!b.status[i])
			ctl_forget(ctl, b.addrs[i]);
	}
	if (!err)
		print_runs(ctl, "unmapped", b.addrs, b.status, b.n);
	batch_close(&b);
	return 0;
}

/* ADDR may be any byte's, and the range may run through several blocks. */
int ctl_persist(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct brick_range *ranges;
	uint64_t addr, length, at, *addrs;
	json_t *entries;
	int *status, err;
	size_t n;

	if (parse_address(args->argv[0], &addr))
		return ctl_usage("%s: not an address (hex)", args->argv[0]);
	length = BRICK_BLOCK_SIZE - (addr & OFFSET_MASK);
	if (args->argc > 1 && (parse_size(args->argv[1], &length) || !length || length - 1 > UINT64_MAX - addr))
		return ctl_usage("persist: %s: not a length in bytes", args->argv[1]);
	if (length > (uint64_t)ADDRS_MAX << BRICK_BLOCK_SHIFT)
		return ctl_usage("persist: %s: too long", args->argv[1]);

	n = (size_t)(((addr & OFFSET_MASK) + length + OFFSET_MASK) >> BRICK_BLOCK_SHIFT);
	ranges = calloc(n, sizeof(*ranges));
	addrs = calloc(n, sizeof(*addrs));
	status = calloc(n, sizeof(*status));
	entries = json_array();
	json_object_set_new(out, "entries", entries);
	at = addr;
	for (size_t i = 0; ranges && addrs && i < n; i++) {
		uint64_t in_block = BRICK_BLOCK_SIZE - (at & OFFSET_MASK), left = addr + length - at;

		/* a range up to the last byte of all has an end of 2^64, which is 0: left is right even so */
		ranges[i].addr = addrs[i] = at;
		ranges[i].length = (uint32_t)(left && left < in_block ? left : in_block);
		at += ranges[i].length;
	}
	err = ranges && addrs && status ? brick_persist(ctl->lane, ranges, n, status) : -ENOMEM;
	if (err)
		tell_request(ctl, "persist", addr, err, out);
	for (size_t i = 0; !err && i < n; i++) {
		json_t *entry = tell_entry(ctl, "persist", addrs, status, i, n, entries);

		json_object_set_new(entry, "length", json_integer(ranges[i].length));
		if (!status[i] && !ctl->json)
			printf("0x%" PRIx64 "  %" PRIu32 " bytes persisted\n", ranges[i].addr, ranges[i].length);
	}
	free(ranges);
	free(addrs);
	free(status);
	return 0;
}
