/* SPDX-License-Identifier: BSD-3-Clause */
/* fsck-talk - see fsck-talk.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "endpoint.h"
#include "fsck-talk.h"
#include "mount-options.h"
#include "report.h"

/* ---- progress */

void talk_clear(struct talk *t)
{
	if (t->bar_shown)
		fputs("\r\033[K", stderr);
	t->bar_shown = false;
}

/* As e2fsck -C does it: a bar on the terminal, or lines of pass, done, total and name. */
void talk_progress(void *arg, const char *step, uint64_t done, uint64_t total)
{
	static const char *const steps[] = { "checkpoint", "log", "directories", "free" };
	struct talk *t = arg;
	unsigned percent = total ? (unsigned)(100.0 * (double)done / (double)total) : 0, pass = 0;

	while (pass < sizeof(steps) / sizeof(steps[0]) && strcmp(steps[pass], step))
		pass++;
	pass++;
	if (t->pass == pass && t->percent == percent && (t->bar_shown || t->progress_fd))
		return;
	t->pass = pass;
	t->percent = percent;
	if (t->progress_fd) {
		dprintf(t->progress_fd, "%u %ju %ju %s\n", pass, (uintmax_t)done, (uintmax_t)total, t->source);
		return;
	}
	fprintf(stderr, "\r%s: %u%%\033[K", step, percent);
	t->bar_shown = true;
}

/* ---- problems */

/* Names in a text may be any bytes; JSON is UTF-8. */
static json_t *json_text(const char *text)
{
	json_t *string = json_string(text);
	char *copy;

	if (string || !(copy = strdup(text)))
		return string;
	for (char *c = copy; *c; c++)
		if (*c & 0x80)
			*c = '?';
	string = json_string(copy);
	free(copy);
	return string;
}

void talk_problem(void *arg, const char *code, const char *text)
{
	const struct fs_problem *problem = fs_problem_find(code);
	struct talk *t = arg;

	if (t->silent)
		return;
	t->told++;
	t->unsafe += problem && !problem->safe;
	if (t->json) {
		json_t *one = json_pack("{s:o, s:o}", "code", json_text(code), "text", json_text(text));

		if (problem)
			json_object_update_new(one, json_pack("{s:s, s:b}", "repair", problem->repair, "safe", problem->safe));
		json_array_append_new(t->problems, one);
		return;
	}
	talk_clear(t);
	printf("%s: %s: %s\n", t->source, code, text);
}

static bool ask(struct talk *t, const struct fs_problem *problem)
{
	char answer[64];

	for (;;) {
		printf("    Repair: %s? (y, n; a: yes to all) ", problem->repair);
		fflush(stdout);
		if (!fgets(answer, sizeof(answer), stdin)) {
			putchar('\n');
			return false;
		}
		switch (answer[0]) {
		case 'a': case 'A':
			t->all = true;
			return true;
		case 'y': case 'Y':
			return true;
		case 'n': case 'N':
			return false;
		}
	}
}

bool talk_decide(void *arg, const struct fs_problem *problem, const char *text)
{
	struct talk *t = arg;

	(void)text;
	switch (t->mode) {
	case FSCK_ALL:
		return true;
	case FSCK_SAFE:
		return problem->safe;
	case FSCK_ASK:
		return t->all || ask(t, problem);
	default:
		return false;
	}
}

/* ---- the result */

static void print_left(const struct talk *t, const struct talk_result *r)
{
	uint64_t found = r->first->problems > t->told ? r->first->problems : t->told;

	printf("%s: %ju problem%s left", t->source, (uintmax_t)found, found == 1 ? "" : "s");
	if (r->first->repairable && r->first->repairable == r->first->problems)
		printf(": the next mount repairs them by itself, and so does fsck.brickfs -p\n");
	else if (t->mode == FSCK_SAFE)
		printf(", and nothing was changed: %ju of them are not safe to repair unseen; run fsck.brickfs by hand, or with -y\n",
		       (uintmax_t)t->unsafe);
	else if (t->mode == FSCK_LOOK)
		printf(": fsck.brickfs -y repairs them%s\n", t->unsafe ? "; what is told as lost stays lost" : ", and so does -p");
	else if (r->first->declined)
		printf(", and nothing was changed: the repair is done as a whole, or not at all\n");
	else
		printf("\n");
}

static void print_people(struct talk *t, const struct talk_result *r)
{
	char uuid[37], size[16];

	if (r->error) {
		fflush(stdout);
		report_error("%s: %s", t->source, r->error);
	}
	if (r->status & FSCK_ERROR)
		return;
	if (!r->error) {
		format_uuid(r->info->uuid, uuid);
		format_size(r->last->blocks << 21, size);
		printf("%s: %s%s%s: %ju inodes, %ju files, %ju directories, %ju blocks (%s)\n", t->source, uuid,
		       *r->info->label ? " " : "", r->info->label, (uintmax_t)r->last->inodes,
		       (uintmax_t)r->last->files, (uintmax_t)r->last->directories, (uintmax_t)r->last->blocks, size);
	}
	if (r->status == FSCK_CLEAN)
		printf("%s: clean\n", t->source);
	else if (r->status & FSCK_CORRECTED)
		printf("%s: %ju problem%s corrected\n", t->source, (uintmax_t)r->first->problems,
		       r->first->problems == 1 ? "" : "s");
	else if (r->error)
		printf("%s: the check ended there; fsck.brickfs cannot repair that\n", t->source);
	else
		print_left(t, r);
}

static void print_json(struct talk *t, const struct talk_result *r)
{
	json_t *out, *endpoints = json_array();
	char uuid[37] = "";

	for (size_t i = 0; i < r->endpoint_count; i++)
		json_array_append_new(endpoints, json_string(r->endpoints[i]));
	if (!(r->status & FSCK_ERROR))
		format_uuid(r->info->uuid, uuid);
	out = json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:O, s:o, s:i}",
			"endpoints", endpoints,
			"uuid", uuid,
			"label", json_text(r->info->label),
			"inodes", (json_int_t)r->last->inodes,
			"files", (json_int_t)r->last->files,
			"directories", (json_int_t)r->last->directories,
			"blocks", (json_int_t)r->last->blocks,
			"found", (json_int_t)r->first->problems,
			"repairable", (json_int_t)r->first->repairable,
			"repaired", (r->status & FSCK_CORRECTED) != 0,
			"problems", t->problems,
			"error", r->error ? json_text(r->error) : json_null(),
			"status", r->status);
	if (!out || json_dumpf(out, stdout, JSON_INDENT(2)))
		report_error("cannot write JSON");
	else
		putchar('\n');
	json_decref(out);
}

void talk_result(struct talk *t, const struct talk_result *result)
{
	talk_clear(t);
	if (t->json)
		print_json(t, result);
	else
		print_people(t, result);
}
