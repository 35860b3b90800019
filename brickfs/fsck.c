/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.brickfs - the same replay and comparison that mount does, and more, told
 * to people or as JSON.
 *
 * What the next mount mends by itself (leaked blocks, orphans) -p and -y mend now, by being that
 * mount; then it is checked once more, so that "corrected" is something that was seen.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "core.h"
#include "endpoint.h"
#include "mount-options.h"
#include "report.h"

/* fsck(8) */
#define FSCK_CLEAN 0
#define FSCK_CORRECTED 1
#define FSCK_UNCORRECTED 4
#define FSCK_ERROR 8
#define FSCK_USAGE 16
#define FSCK_CANCELED 32

enum mode { MODE_LOOK, MODE_SAFE, MODE_ALL };

struct fsck {
	const char *source;
	char **endpoints;
	size_t endpoint_count;
	enum mode mode;
	bool progress, json;
	bool silent;		/* during the repair and the second look: the problems have been told */
	bool progress_shown;
	unsigned progress_percent;
	uint64_t told;		/* problems printed */
	json_t *problems;
	struct fs_info info;
	struct fs_check_result result;
};

static const char usage[] =
	"usage: fsck.brickfs [-n|-p|-y] [-f] [-C] [--json] ENDPOINT[,ENDPOINT...]\n"
	"       fsck.brickfs -V | -h\n"
	"  -n      change nothing (the default)\n"
	"  -p, -a  repair what is safe\n"
	"  -y      repair everything that can be repaired\n"
	"  -f      check even if it was left clean (always so)\n"
	"  -C      show progress on a terminal\n"
	"  --json  print the result as JSON\n"
	"Exit status: 0 clean, 1 corrected, 4 errors left, 8 operational error, 16 usage, 32 canceled\n";

static void clear_progress(struct fsck *f)
{
	if (f->progress_shown)
		fputs("\r\033[K", stderr);
	f->progress_shown = false;
}

static void progress(void *arg, const char *step, uint64_t done, uint64_t total)
{
	struct fsck *f = arg;
	unsigned percent = total ? (unsigned)(100.0 * (double)done / (double)total) : 0;

	if (f->progress_shown && percent == f->progress_percent)
		return;
	fprintf(stderr, "\r%s: %u%%\033[K", step, percent);
	f->progress_shown = true;
	f->progress_percent = percent;
}

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

static void problem(void *arg, const char *code, const char *text)
{
	struct fsck *f = arg;

	if (f->silent)
		return;
	f->told++;
	if (f->json) {
		json_array_append_new(f->problems, json_pack("{s:o, s:o}", "code", json_text(code), "text", json_text(text)));
		return;
	}
	clear_progress(f);
	printf("%s: %s: %s\n", f->source, code, text);
}

static struct fs_options options_of(struct fsck *f, bool check)
{
	return (struct fs_options){
		.backend = &backend_brick,
		.endpoints = (const char *const *)f->endpoints,
		.endpoint_count = f->endpoint_count,
		.readonly = check,
		.check = check,
		.problem = problem,
		.problem_arg = f,
		.progress = f->progress ? progress : NULL,
		.progress_arg = f,
	};
}

static const char *core_error(int rc)
{
	const char *text = fs_error_text();

	return text && *text ? text : strerror(-rc);
}

/* On standard error, beside a result on standard output that stays what it is. */
static void tell_volatile(struct fsck *f, struct fs *fs)
{
	struct fs_brick brick;

	for (unsigned b = 0; !f->silent && fs_get_brick(fs, b, &brick); b++)
		if (!strcmp(brick.method, FS_VOLATILE)) {
			clear_progress(f);
			report_warning("brick %s " FS_VOLATILE_TEXT, brick.endpoint);
		}
}

/* 0 with f->result, or the error, which error names. */
static int look(struct fsck *f, char *error, size_t size)
{
	struct fs_options options = options_of(f, true);
	struct fs *fs;
	int rc, ended;

	memset(&f->result, 0, sizeof(f->result));
	rc = fs_mount(&fs, &options);
	if (rc) {
		snprintf(error, size, "%s", core_error(rc));
		clear_progress(f);
		return rc;
	}
	rc = fs_check(fs, &f->result);
	if (rc)
		snprintf(error, size, "%s", core_error(rc));
	fs_get_info(fs, &f->info);
	tell_volatile(f, fs);
	ended = fs_unmount(fs);
	if (ended && !rc) {
		rc = ended;
		snprintf(error, size, "%s", core_error(rc));
	}
	clear_progress(f);
	return rc;
}

/* A mount and an unmount: mount frees what leaked and deletes orphans, unmount leaves it clean. */
static int mend(struct fsck *f, char *error, size_t size)
{
	struct fs_options options = options_of(f, false);
	struct fs *fs;
	int rc;

	rc = fs_mount(&fs, &options);
	if (!rc)
		rc = fs_unmount(fs);
	if (rc)
		snprintf(error, size, "%s", core_error(rc));
	clear_progress(f);
	return rc;
}

static void canceled(int number)
{
	static const char text[] = "\nfsck.brickfs: canceled; nothing was changed\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(FSCK_CANCELED);
}

static void set_cancel(bool allowed)
{
	struct sigaction action = { .sa_handler = allowed ? canceled : SIG_IGN };

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static void print_people(const struct fsck *f, int status, const struct fs_check_result *first, const char *error)
{
	char uuid[37], size[16];

	if (error) {
		fflush(stdout);
		report_error("%s: %s", f->source, error);
	}
	if (status & FSCK_ERROR)
		return;
	if (!error) {
		format_uuid(f->info.uuid, uuid);
		format_size(f->result.blocks << 21, size);
		printf("%s: %s%s%s: %ju inodes, %ju files, %ju directories, %ju blocks (%s)\n", f->source, uuid,
		       *f->info.label ? " " : "", f->info.label, (uintmax_t)f->result.inodes,
		       (uintmax_t)f->result.files, (uintmax_t)f->result.directories, (uintmax_t)f->result.blocks, size);
	}
	if (status == FSCK_CLEAN) {
		printf("%s: clean\n", f->source);
	} else if (status & FSCK_CORRECTED) {
		printf("%s: %ju problem%s corrected\n", f->source, (uintmax_t)first->problems,
		       first->problems == 1 ? "" : "s");
	} else if (error) {
		printf("%s: the check ended there; fsck.brickfs cannot repair that yet\n", f->source);
	} else {
		uint64_t found = first->problems > f->told ? first->problems : f->told;

		printf("%s: %ju problem%s left", f->source, (uintmax_t)found, found == 1 ? "" : "s");
		if (first->repairable && first->repairable == first->problems)
			printf(": the next mount repairs them by itself, and so does fsck.brickfs -p\n");
		else
			printf(" (%ju of them the next mount repairs by itself); fsck.brickfs cannot repair the others yet: mount with -o ro and copy what is needed\n",
			       (uintmax_t)first->repairable);
	}
}

static void print_json(struct fsck *f, int status, const struct fs_check_result *first, const char *error)
{
	json_t *out, *endpoints = json_array();
	char uuid[37] = "";

	for (size_t i = 0; i < f->endpoint_count; i++)
		json_array_append_new(endpoints, json_string(f->endpoints[i]));
	if (!(status & FSCK_ERROR))
		format_uuid(f->info.uuid, uuid);
	out = json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:O, s:o, s:i}",
			"endpoints", endpoints,
			"uuid", uuid,
			"label", json_text(f->info.label),
			"inodes", (json_int_t)f->result.inodes,
			"files", (json_int_t)f->result.files,
			"directories", (json_int_t)f->result.directories,
			"blocks", (json_int_t)f->result.blocks,
			"found", (json_int_t)first->problems,
			"repairable", (json_int_t)first->repairable,
			"repaired", (status & FSCK_CORRECTED) != 0,
			"problems", f->problems,
			"error", error ? json_text(error) : json_null(),
			"status", status);
	if (!out || json_dumpf(out, stdout, JSON_INDENT(2)))
		report_error("cannot write JSON");
	else
		putchar('\n');
	json_decref(out);
}

static int check(struct fsck *f)
{
	char error[1024] = "";
	struct fs_check_result first;
	int rc, status;

	set_cancel(true);
	rc = look(f, error, sizeof(error));
	first = f->result;
	if (rc) {
		/* Damage that stops the replay is an answer; that nobody could be asked is none. */
		status = rc == -EUCLEAN || rc == -EBADMSG ? FSCK_UNCORRECTED : FSCK_ERROR;
		goto out;
	}
	if (!first.problems) {
		status = FSCK_CLEAN;
		goto out;
	}
	status = FSCK_UNCORRECTED;
	/* With damage of another kind around, mount frees nothing: it would be no repair. */
	if (f->mode == MODE_LOOK || first.repairable < first.problems)
		goto out;

	set_cancel(false);
	f->silent = true;
	rc = mend(f, error, sizeof(error));
	if (!rc)
		rc = look(f, error, sizeof(error));
	if (rc)
		status |= FSCK_ERROR;
	else if (!f->result.problems)
		status = FSCK_CORRECTED;
out:
	if (f->json)
		print_json(f, status, &first, *error ? error : NULL);
	else
		print_people(f, status, &first, *error ? error : NULL);
	if (fflush(stdout))
		status |= FSCK_ERROR;
	return status;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' },
					       { "help", no_argument, NULL, 'h' },
					       { "version", no_argument, NULL, 'V' },
					       { 0 } };
	struct fsck f = { .mode = MODE_LOOK };
	int option, status, modes = 0;

	report_init("fsck.brickfs", false, REPORT_NOTICE);
	/* fsck(8) hands over -C, or -C and a descriptor. */
	while ((option = getopt_long(argc, argv, "npayfC::vVh", longs, NULL)) != -1)
		switch (option) {
		case 'n':
			f.mode = MODE_LOOK;
			modes |= 1;
			break;
		case 'p':
		case 'a':
			f.mode = MODE_SAFE;
			modes |= 2;
			break;
		case 'y':
			f.mode = MODE_ALL;
			modes |= 4;
			break;
		case 'C':
			f.progress = isatty(STDERR_FILENO);
			break;
		case 'f':
		case 'v':
			break;
		case 'j':
			f.json = true;
			break;
		case 'V':
			puts(PACKAGE_STRING);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return FSCK_USAGE;
		}
	if (optind + 1 != argc || (modes & (modes - 1))) {
		report_error("%s", optind + 1 == argc ? "only one of -n, -p and -y" : "one argument is expected: the bricks' endpoints, separated by commas");
		fputs(usage, stderr);
		return FSCK_USAGE;
	}
	f.source = argv[optind];
	if (endpoints_split(f.source, &f.endpoints, &f.endpoint_count))
		return FSCK_USAGE;
	f.problems = json_array();
	status = f.problems ? check(&f) : FSCK_ERROR;
	json_decref(f.problems);
	endpoints_free(f.endpoints, f.endpoint_count);
	return status;
}
