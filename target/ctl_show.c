/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_show - what people ask a brick: list, stat, who, revoke.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "endpoint.h"

#define EXTENTS 4096
#define SESSIONS 256
#define LIST_TRIES 8
#define EXTENTS_MAX (1u << 24)	/* kept at once: 256 MiB */
#define CRUMBS_FREE 64		/* pages that may hold anything; all together then hold at least so many extents each: */
#define CRUMBS_LEAST 16

static void fail_call(struct ctl *ctl, const char *call, int err, json_t *out)
{
	const char *said = brick_error();

	ctl_fail(ctl, out, err, "%s: %s: %s", ctl->endpoint, call, *said ? said : strerror(-err));
}

struct extents {
	struct brick_extent *e;
	size_t n;
	uint64_t generation;
	const char *lie;	/* what brick_error() cannot know: it sees one page */
};

static int lies(struct extents *all, const char *what)
{
	all->lie = what;
	return -EPROTO;
}

/* All pages of the list; 1 when the generation changed between them. */
static int list_once(struct ctl *ctl, uint64_t from, struct extents *all)
{
	uint64_t blocks = 0, pages = 0, end = from;
	bool more = true;

	all->n = 0;
	for (bool first = true; more; first = false) {
		struct brick_extent *grown = reallocarray(all->e, all->n + EXTENTS, sizeof(*grown));
		uint64_t generation, next;
		size_t got;
		int err;

		if (!grown)
			return -ENOMEM;
		all->e = grown;
		err = brick_list(ctl->lane, from, all->e + all->n, EXTENTS, &got, &generation, &next, &more);
		if (err)
			return err;
		if (!first && generation != all->generation)
			return 1;
		all->generation = generation;
		for (size_t i = 0; i < got; i++) {
			const struct brick_extent *e = &all->e[all->n++];

			if (e->start < end && !first)
				return lies(all, "the brick lists extents that are not in order");
			end = e->start + (e->count << BRICK_BLOCK_SHIFT);
			blocks += e->count;
			if (blocks > brick_info(ctl->session)->capacity)
				return lies(all, "the brick lists more blocks than its capacity");
		}
		if (more && next <= from)
			return lies(all, "the brick lists in a circle");
		if (more && ++pages > CRUMBS_FREE && all->n < (pages - CRUMBS_FREE) * CRUMBS_LEAST)
			return lies(all, "the brick lists its blocks in crumbs");
		if (more && all->n > EXTENTS_MAX)
			return lies(all, "there are more extents than can be shown at once; list from an address on");
		from = next;
	}
	return 0;
}

int ctl_list(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	uint64_t from = 0, blocks = 0;
	struct extents all = {0};
	json_t *list;
	char size[16];
	int err = 1;

	if (args->argc && parse_address(args->argv[0], &from))
		return ctl_usage("%s: not an address (hex)", args->argv[0]);
	for (int tries = 0; err == 1 && tries < LIST_TRIES; tries++)
		err = list_once(ctl, from, &all);
	if (err == 1)
		ctl_fail(ctl, out, -EAGAIN, "%s: list: blocks are allocated and freed faster than the list can be read",
			 ctl->endpoint);
	else if (err && all.lie)
		ctl_fail(ctl, out, err, "%s: list: %s", ctl->endpoint, all.lie);
	else if (err)
		fail_call(ctl, "list", err, out);
	if (err)
		goto done;

	list = json_array();
	if (!ctl->json && all.n)
		printf("%-18s  %10s  %s\n", "START", "BLOCKS", "SIZE");
	for (size_t i = 0; i < all.n; i++) {
		const struct brick_extent *e = &all.e[i];

		blocks += e->count;
		format_size(e->count << BRICK_BLOCK_SHIFT, size);
		if (ctl->json)
			json_array_append_new(list, json_pack("{s:o,s:I}", "start", ctl_json_address(e->start), "count",
							      (json_int_t)e->count));
		else
			printf("0x%-16" PRIx64 "  %10" PRIu64 "  %s\n", e->start, e->count, size);
	}
	format_size(blocks << BRICK_BLOCK_SHIFT, size);
	if (!ctl->json)
		printf("%" PRIu64 " block%s (%s) in %zu extent%s\n", blocks, blocks == 1 ? "" : "s", size, all.n,
		       all.n == 1 ? "" : "s");
	json_object_set_new(out, "generation", json_integer((json_int_t)all.generation));
	json_object_set_new(out, "blocks", json_integer((json_int_t)blocks));
	json_object_set_new(out, "extents", list);
done:
	free(all.e);
	return 0;
}

static void format_ns(uint64_t ns, char text[16])
{
	static const char *const units[] = {"ns", "us", "ms", "s"};
	unsigned unit = 0;
	double value = (double)ns;

	while (unit < 3 && value >= 1000) {
		value /= 1000;
		unit++;
	}
	snprintf(text, 16, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void format_age(uint64_t ms, char text[24])
{
	uint64_t s = ms / 1000;

	if (s < 60)
		snprintf(text, 24, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
	else if (s < 3600)
		snprintf(text, 24, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(text, 24, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
	else
		snprintf(text, 24, "%" PRIu64 " d %" PRIu64 " h", s / 86400 % 1000000000, s % 86400 / 3600);
}

static const char *method_name(enum brick_persist_method method)
{
	switch (method) {
	case BRICK_PERSIST_TARGET:
		return "target";
	case BRICK_PERSIST_FLUSH:
		return "flush";
	case BRICK_PERSIST_VOLATILE:
		return "volatile";
	}
	return "unknown";
}

static const char *method_words(enum brick_persist_method method)
{
	switch (method) {
	case BRICK_PERSIST_TARGET:
		return "the brick makes bytes durable when asked";
	case BRICK_PERSIST_FLUSH:
		return "RDMA FLUSH makes bytes durable";
	case BRICK_PERSIST_VOLATILE:
		return "the operator declared that its memory outlives power";
	}
	return "?";
}

static void print_blocks(const char *name, uint64_t blocks)
{
	char size[16];

	format_size(blocks << BRICK_BLOCK_SHIFT, size);
	printf("%-12s %s (%" PRIu64 " block%s)\n", name, size, blocks, blocks == 1 ? "" : "s");
}

static void print_memory(const struct brick_stat *s)
{
	char size[16];

	if (!s->memory) {
		printf("%-12s direct: blocks are mapped where the store has them\n", "memory");
		return;
	}
	format_size((uint64_t)s->memory << BRICK_BLOCK_SHIFT, size);
	printf("%-12s %s: %" PRIu32 " blocks, of these %" PRIu32 " taken, %" PRIu32 " mapped, %" PRIu32 " not persisted\n", "memory",
	       size, s->memory, s->memory_used, s->memory_pinned, s->memory_dirty);
	printf("%-12s %" PRIu64 " filled, %" PRIu64 " written back, %" PRIu64 " evicted, %" PRIu64 " recalls\n", "", s->fills,
	       s->write_backs, s->evictions, s->recalls);
}

static json_t *memory_json(const struct brick_stat *s)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "blocks", (json_int_t)s->memory, "used",
			 (json_int_t)s->memory_used, "pinned", (json_int_t)s->memory_pinned, "dirty",
			 (json_int_t)s->memory_dirty, "fills", (json_int_t)s->fills, "write_backs",
			 (json_int_t)s->write_backs, "evictions", (json_int_t)s->evictions, "recalls", (json_int_t)s->recalls);
}

static void show_summary(struct ctl *ctl, const struct brick_stat *s, json_t *out)
{
	uint64_t used = s->capacity > s->free ? s->capacity - s->free : 0;
	char uuid[37], age[24];

	format_uuid(s->uuid, uuid);
	format_age(s->uptime_ms, age);
	if (!ctl->json) {
		printf("%-12s %s\n", "endpoint", ctl->endpoint);
		printf("%-12s %s\n", "uuid", uuid);
		printf("%-12s %s%s\n", "state",
		       s->failed ? "FAILED: a write to the store failed; no persist, alloc or free until brickd is started again"
				 : "serving",
		       s->fault ? " (fault mode: what is not persisted is lost when brickd is killed)" : "");
		print_blocks("capacity", s->capacity);
		print_blocks("used", used);
		print_blocks("free", s->free);
		print_blocks("zeroed", s->zeroed);
		printf("%-12s %s (%s)\n", "persistence", method_name(s->method), method_words(s->method));
		printf("%-12s %" PRIu32 " of %" PRIu32 "\n", "sessions", s->sessions, s->sessions_max);
		printf("%-12s %" PRIu32 " (at most %" PRIu32 " a session)\n", "lanes", s->lanes, s->lanes_max);
		printf("%-12s %" PRIu32 " (at most %" PRIu32 " a session)\n", "maps", s->maps, s->maps_max);
		printf("%-12s %" PRIu32 "\n", "regions", s->regions);
		print_memory(s);
		printf("%-12s %s\n", "uptime", age);
		printf("%-12s 0x%" PRIx64 ", loss epoch 0x%" PRIx64 ", generation %" PRIu64 "\n", "instance", s->instance,
		       s->loss_epoch, s->generation);
		return;
	}
	json_object_set_new(out, "endpoint", json_string(ctl->endpoint));
	json_object_set_new(out, "uuid", json_string(uuid));
	json_object_set_new(out, "instance", ctl_json_address(s->instance));
	json_object_set_new(out, "loss_epoch", ctl_json_address(s->loss_epoch));
	json_object_set_new(out, "generation", json_integer((json_int_t)s->generation));
	json_object_set_new(out, "block_size", json_integer((json_int_t)BRICK_BLOCK_SIZE));
	json_object_set_new(out, "capacity", json_integer((json_int_t)s->capacity));
	json_object_set_new(out, "used", json_integer((json_int_t)used));
	json_object_set_new(out, "free", json_integer((json_int_t)s->free));
	json_object_set_new(out, "zeroed", json_integer((json_int_t)s->zeroed));
	json_object_set_new(out, "uptime_ms", json_integer((json_int_t)s->uptime_ms));
	json_object_set_new(out, "sessions", json_integer(s->sessions));
	json_object_set_new(out, "sessions_max", json_integer(s->sessions_max));
	json_object_set_new(out, "lanes", json_integer(s->lanes));
	json_object_set_new(out, "lanes_max", json_integer(s->lanes_max));
	json_object_set_new(out, "maps", json_integer(s->maps));
	json_object_set_new(out, "maps_max", json_integer(s->maps_max));
	json_object_set_new(out, "regions", json_integer(s->regions));
	json_object_set_new(out, "memory", memory_json(s));
	json_object_set_new(out, "method", json_string(method_name(s->method)));
	json_object_set_new(out, "failed", json_boolean(s->failed));
	json_object_set_new(out, "fault", json_boolean(s->fault));
}

static void show_ops(struct ctl *ctl, const struct brick_stat *s, json_t *out)
{
	json_t *list = json_array();

	if (!ctl->json)
		printf("%-10s %10s %8s %10s %9s %9s %9s\n", "OPERATION", "COUNT", "ERRORS", "BYTES", "P50", "P99", "MAX");
	for (unsigned i = 0; i < BRICK_OPS; i++) {
		const struct brick_op_stat *op = &s->op[i];
		char bytes[16], p50[16], p99[16], max[16];

		format_size(op->bytes, bytes);
		format_ns(op->p50_ns, p50);
		format_ns(op->p99_ns, p99);
		format_ns(op->max_ns, max);
		if (!ctl->json)
			printf("%-10s %10" PRIu64 " %8" PRIu64 " %10s %9s %9s %9s\n", brick_op_names[i], op->count, op->errors,
			       op->bytes ? bytes : "-", op->count ? p50 : "-", op->count ? p99 : "-",
			       op->count ? max : "-");
		json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "op", brick_op_names[i], "count",
						      (json_int_t)op->count, "errors", (json_int_t)op->errors, "bytes",
						      (json_int_t)op->bytes, "p50_ns", (json_int_t)op->p50_ns, "p99_ns",
						      (json_int_t)op->p99_ns, "max_ns", (json_int_t)op->max_ns));
	}
	json_object_set_new(out, "ops", list);
}

static const char *map_mode(uint32_t flags)
{
	return flags & BRICK_MAP_EXCLUSIVE ? "exclusive" : flags & BRICK_MAP_WRITE ? "write" : "read";
}

/* mode: with WHO, how each has the block mapped. */
static void show_sessions(struct ctl *ctl, const struct brick_session_info *infos, size_t n, bool mode, json_t *list)
{
	if (!ctl->json && n)
		printf("%8s %8s %-9s %6s %6s %10s  %s%s\n", "SESSION", "PID", "TRANSPORT", "LANES", "MAPS", "HEARD",
		       mode ? "MODE       " : "", "NAME");
	for (size_t i = 0; i < n; i++) {
		const struct brick_session_info *s = &infos[i];
		bool self = s->session == brick_info(ctl->session)->session;
		json_t *one;
		char age[24];

		format_age(s->heard_ms, age);
		if (!ctl->json) {
			printf("%8" PRIu64 " %8" PRIu64 " %-9s %6" PRIu32 " %6" PRIu32 " %10s  ", s->session, s->pid,
			       s->transport, s->lanes, s->maps, age);
			if (mode)
				printf("%-11s", map_mode(s->flags));
			printf("%s%s\n", s->name, self ? " (this one)" : "");
			continue;
		}
		one = json_pack("{s:I,s:I,s:s,s:I,s:I,s:I,s:s,s:b}", "session", (json_int_t)s->session, "pid",
				(json_int_t)s->pid, "transport", s->transport, "lanes", (json_int_t)s->lanes, "maps",
				(json_int_t)s->maps, "heard_ms", (json_int_t)s->heard_ms, "name", s->name, "self", (int)self);
		if (mode)
			json_object_set_new(one, "mode", json_string(map_mode(s->flags)));
		json_array_append_new(list, one);
	}
}

static int sessions_of(struct ctl *ctl, json_t *list)
{
	struct brick_session_info *infos = calloc(SESSIONS, sizeof(*infos));
	uint64_t from = 0;
	size_t n = SESSIONS;
	int err = infos ? 0 : -ENOMEM;

	while (!err && n == SESSIONS) {
		err = brick_sessions(ctl->lane, from, infos, SESSIONS, &n);
		if (err || !n)
			break;
		show_sessions(ctl, infos, n, false, list);
		from = infos[n - 1].session + 1;
	}
	free(infos);
	return err;
}

static void print_limits(const struct brick_limits *limits)
{
	bool any = false;

	printf("%-32s %10s %10s\n", "LIMIT", "MOST", "IN USE");
	for (unsigned i = 0; i < limits->limits; i++) {
		const struct brick_limit *l = &limits->limit[i];
		size_t n = strlen(l->name);

		printf("%-32s %10" PRIu64 " ", l->name, l->most);
		if (n > 4 && strcmp(l->name + n - 4, ", ms") == 0)
			printf("%10s\n", "-"); /* a time */
		else
			printf("%10" PRIu64 "\n", l->used);
	}
	printf("\n%-32s %10s\n", "REFUSED", "COUNT");
	for (unsigned i = 0; i < limits->refusals; i++) {
		if (!limits->refusal[i].count)
			continue;
		any = true;
		printf("%-32s %10" PRIu64 "\n", limits->refusal[i].name, limits->refusal[i].count);
	}
	if (!any)
		printf("%-32s %10d\n", "nothing", 0);
}

/* What the brick allows, and what it refused.  An older brick does not tell, which is no failure. */
static int show_limits(struct ctl *ctl, json_t *out)
{
	struct brick_limits limits;
	json_t *rows, *reasons;
	int err = brick_limits(ctl->lane, &limits);

	if (err == -EOPNOTSUPP) {
		if (!ctl->json)
			printf("%-12s not told: the brick is older than this brickctl\n", "limits");
		return 0;
	}
	if (err)
		return err;
	if (!ctl->json) {
		print_limits(&limits);
		return 0;
	}
	rows = json_array();
	reasons = json_array();
	for (unsigned i = 0; i < limits.limits; i++)
		json_array_append_new(rows, json_pack("{s:s,s:I,s:I}", "limit", limits.limit[i].name, "most",
						      (json_int_t)limits.limit[i].most, "used", (json_int_t)limits.limit[i].used));
	for (unsigned i = 0; i < limits.refusals; i++)
		json_array_append_new(reasons, json_pack("{s:s,s:I}", "reason", limits.refusal[i].name, "count",
							 (json_int_t)limits.refusal[i].count));
	json_object_set_new(out, "limits", rows);
	json_object_set_new(out, "refused", reasons);
	return 0;
}

int ctl_stat(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	bool all = !args->ops && !args->sessions && !args->limits;
	struct brick_stat s;
	int err = brick_stat(ctl->lane, &s);

	if (err) {
		fail_call(ctl, "stat", err, out);
		return 0;
	}
	if (all)
		show_summary(ctl, &s, out);
	if (all && !ctl->json)
		putchar('\n');
	if (all || args->ops)
		show_ops(ctl, &s, out);
	if (!ctl->json && (all || (args->ops && (args->limits || args->sessions))))
		putchar('\n');
	if (all || args->limits) {
		err = show_limits(ctl, out);
		if (err) {
			fail_call(ctl, "stat", err, out);
			return 0;
		}
	}
	if (!ctl->json && (all || (args->limits && args->sessions)))
		putchar('\n');
	if (all || args->sessions) {
		json_t *list = json_array();

		json_object_set_new(out, "session_list", list);
		err = sessions_of(ctl, list);
		if (err)
			fail_call(ctl, "stat", err, out);
	}
	return 0;
}

int ctl_who(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct brick_session_info *infos = calloc(SESSIONS, sizeof(*infos));
	json_t *list = json_array();
	uint64_t addr = 0;
	size_t n = 0;
	int err;

	json_object_set_new(out, "sessions", list);
	if (parse_address(args->argv[0], &addr)) {
		free(infos);
		return ctl_usage("%s: not an address (hex)", args->argv[0]);
	}
	addr &= ~(BRICK_BLOCK_SIZE - 1);
	json_object_set_new(out, "address", ctl_json_address(addr));
	err = infos ? brick_who(ctl->lane, addr, infos, SESSIONS, &n) : -ENOMEM;
	if (err)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": who: %s", addr, err == -ENOENT ? "is not allocated" : strerror(-err));
	else
		show_sessions(ctl, infos, n, true, list);
	if (!err && !n && !ctl->json)
		printf("0x%" PRIx64 " is mapped by nobody\n", addr);
	free(infos);
	return 0;
}

int ctl_revoke(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	const char *said;
	char *end;
	uint64_t number;
	int err;

	errno = 0;
	number = strtoull(args->argv[0], &end, 10);
	if (errno || *end || args->argv[0][0] < '0' || args->argv[0][0] > '9')
		return ctl_usage("%s: not the number of a session (brickctl stat --sessions shows them)", args->argv[0]);
	json_object_set_new(out, "session", json_integer((json_int_t)number));
	err = brick_revoke(ctl->lane, number);
	said = brick_error();
	if (err)
		ctl_fail(ctl, out, err, "session %" PRIu64 ": revoke: %s", number,
			 err == -ENOENT || err == -EBUSY || err == -EINVAL ? ctl_reason("revoke", err)
			 : *said					   ? said
									   : strerror(-err));
	else if (!ctl->json)
		printf("session %" PRIu64 " revoked\n", number);
	return 0;
}
