/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.brickfs - the same replay and comparison that mount does, and more; and the repair of what they find.
 *
 * Each problem is told when it is found, and it is decided whether it is to be repaired.  What the next mount mends by
 * itself (leaked blocks, orphans) is mended by being that mount; everything else by fs_repair(), as a whole or not at
 * all.  Then it is checked once more, so that "corrected" is something that was seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "core.h"
#include "fsck-talk.h"
#include "mount-options.h"
#include "report.h"

#define LOST_MAX 32

struct fsck {
	struct talk talk;
	char **endpoints;
	size_t endpoint_count;
	uint8_t lost[LOST_MAX][16];
	size_t lost_count;
	unsigned timeo_ms;
	struct fs_info info;
	struct fs_check_result result;
};

static const char usage[] =
	"usage: fsck.brickfs [-n|-p|-y|-r] [-f] [-C[FD]] [--lost-brick UUID]... [--timeo SECONDS] [--json] ENDPOINT[,ENDPOINT...]\n"
	"       fsck.brickfs -V | -h\n"
	"  -n      change nothing (the default, where no terminal can be asked)\n"
	"  -p, -a  repair what is safe; if there is anything else, nothing\n"
	"  -y      repair everything\n"
	"  -r      ask for each problem (the default on a terminal)\n"
	"  -f      check even if it was left clean (always so)\n"
	"  -C      show progress on a terminal; with a descriptor's number, as lines there\n"
	"  --lost-brick UUID  that brick is gone for good: go on without it\n"
	"  --timeo SECONDS    how long a brick may be away (60)\n"
	"  --json  print the result as JSON\n"
	"Exit status: 0 clean, 1 corrected, 4 errors left, 8 operational error, 16 usage, 32 canceled\n";

static struct fs_options options_of(struct fsck *f, bool check, bool decide)
{
	bool progress = f->talk.bar || f->talk.progress_fd;

	return (struct fs_options){
		.backend = &backend_brick,
		.endpoints = (const char *const *)f->endpoints,
		.endpoint_count = f->endpoint_count,
		.readonly = check,
		.check = check,
		.timeo_ms = f->timeo_ms,
		.decide = decide ? talk_decide : NULL,
		.lost = check && f->lost_count ? (const uint8_t (*)[16])f->lost : NULL,
		.lost_count = check ? f->lost_count : 0,
		.problem = talk_problem,
		.problem_arg = &f->talk,
		.progress = progress ? talk_progress : NULL,
		.progress_arg = &f->talk,
	};
}

static void keep_error(int rc, char *error, size_t size)
{
	const char *text = fs_error_text();

	snprintf(error, size, "%s", text && *text ? text : strerror(-rc));
}

static void canceled(int number)
{
	static const char text[] = "\nfsck.brickfs: canceled; nothing was changed\n";

	(void)number;
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

/* On standard error, beside a result on standard output that stays what it is. */
static void tell_volatile(struct fsck *f, struct fs *fs)
{
	struct fs_brick brick;

	for (unsigned b = 0; !f->talk.silent && fs_get_brick(fs, b, &brick); b++)
		if (!strcmp(brick.method, FS_VOLATILE)) {
			talk_clear(&f->talk);
			report_warning("brick %s " FS_VOLATILE_TEXT, brick.endpoint);
		}
}

/*
 * Looks at everything, and with `repair` repairs it, if all is to be repaired and a mount would not do it. 0 with f->result, or the error,
 * which error names.  *repaired: nothing is left to do.
 */
static int look(struct fsck *f, bool repair, bool *repaired, char *error, size_t size)
{
	struct fs_options options = options_of(f, true, repair);
	struct fs *fs;
	int rc, ended;

	*repaired = false;
	memset(&f->result, 0, sizeof(f->result));
	rc = fs_mount(&fs, &options);
	if (rc) {
		keep_error(rc, error, size);
		talk_clear(&f->talk);
		return rc;
	}
	rc = fs_check(fs, &f->result);
	fs_get_info(fs, &f->info);
	tell_volatile(f, fs);
	if (!rc && repair && f->result.problems > f->result.repairable && !f->result.declined) {
		set_cancel(false);
		rc = fs_repair(fs);
		*repaired = !rc;
	}
	if (rc)
		keep_error(rc, error, size);
	ended = fs_unmount(fs);
	if (ended && !rc) {
		rc = ended;
		keep_error(rc, error, size);
	}
	talk_clear(&f->talk);
	return rc;
}

/* A mount and an unmount: mount frees what leaked and deletes orphans, unmount leaves it clean. */
static int mend(struct fsck *f, char *error, size_t size)
{
	struct fs_options options = options_of(f, false, false);
	struct fs *fs;
	int rc;

	set_cancel(false);
	rc = fs_mount(&fs, &options);
	if (!rc)
		rc = fs_unmount(fs);
	if (rc)
		keep_error(rc, error, size);
	talk_clear(&f->talk);
	return rc;
}

static int check(struct fsck *f)
{
	char error[1024] = "";
	struct fs_check_result first;
	bool repaired, none;
	int rc, status;

	set_cancel(true);
	rc = look(f, f->talk.mode != FSCK_LOOK, &repaired, error, sizeof(error));
	first = f->result;
	if (rc) {
		/* Damage that stops the replay is an answer; that nobody could be asked is none. */
		status = rc == -EUCLEAN || rc == -EBADMSG ? FSCK_UNCORRECTED : FSCK_ERROR;
		if (first.problems)
			status |= FSCK_UNCORRECTED;
		goto out;
	}
	if (!first.problems) {
		status = FSCK_CLEAN;
		goto out;
	}
	status = FSCK_UNCORRECTED;
	if (f->talk.mode == FSCK_LOOK || first.declined)
		goto out;
	f->talk.silent = true;
	f->lost_count = 0;
	if (!repaired)
		rc = mend(f, error, sizeof(error));
	if (!rc)
		rc = look(f, false, &none, error, sizeof(error));
	if (rc)
		status |= FSCK_ERROR;
	else if (!f->result.problems)
		status = FSCK_CORRECTED;
out:
	talk_result(&f->talk, &(struct talk_result){
		.status = status, .info = &f->info, .first = &first, .last = &f->result, .error = *error ? error : NULL,
		.endpoints = f->endpoints, .endpoint_count = f->endpoint_count });
	if (fflush(stdout))
		status |= FSCK_ERROR;
	return status;
}

/* ---- options */

static int parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned digits = 0;

	for (; *text; text++) {
		static const char hex[] = "0123456789abcdef";
		const char *digit = strchr(hex, *text | 0x20);

		if (*text == '-')
			continue;
		if (!digit || digits == 32)
			return -EINVAL;
		uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | (digit - hex));
		digits++;
	}
	return digits == 32 ? 0 : -EINVAL;
}

static int parse_progress(struct fsck *f, const char *text)
{
	char *end;
	long fd = text ? strtol(text, &end, 10) : 0;

	if (text && (end == text || *end || fd > INT32_MAX)) {
		report_error("-C%s: a descriptor's number is expected", text);
		return -EINVAL;
	}
	if (fd > 0 && fcntl((int)fd, F_GETFD) < 0) {
		report_error("-C%ld: no such descriptor is open", fd);
		return -EINVAL;
	}
	f->talk.progress_fd = fd > 0 ? (int)fd : 0;
	f->talk.bar = !fd && isatty(STDERR_FILENO);
	return 0;
}

static int parse(struct fsck *f, int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' },
					       { "lost-brick", required_argument, NULL, 'L' },
					       { "timeo", required_argument, NULL, 't' },
					       { "help", no_argument, NULL, 'h' },
					       { "version", no_argument, NULL, 'V' },
					       { 0 } };
	int option, modes = 0;

	f->talk.mode = FSCK_LOOK;
	/* fsck(8) hands over -C, or -C and a descriptor. */
	while ((option = getopt_long(argc, argv, "npayrfC::vVh", longs, NULL)) != -1)
		switch (option) {
		case 'n':
			f->talk.mode = FSCK_LOOK;
			modes |= 1;
			break;
		case 'p':
		case 'a':
			f->talk.mode = FSCK_SAFE;
			modes |= 2;
			break;
		case 'y':
			f->talk.mode = FSCK_ALL;
			modes |= 4;
			break;
		case 'r':
			f->talk.mode = FSCK_ASK;
			modes |= 8;
			break;
		case 'C':
			if (parse_progress(f, optarg))
				return FSCK_USAGE;
			break;
		case 'L':
			if (f->lost_count == LOST_MAX || parse_uuid(optarg, f->lost[f->lost_count++])) {
				report_error("--lost-brick %s: a brick's UUID is expected, at most %d times", optarg, LOST_MAX);
				return FSCK_USAGE;
			}
			break;
		case 't':
			if (timeo_parse(optarg, &f->timeo_ms))
				return FSCK_USAGE;
			break;
		case 'f':
		case 'v':
			break;
		case 'j':
			f->talk.json = true;
			break;
		case 'V':
			puts(PACKAGE_STRING);
			exit(0);
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			return FSCK_USAGE;
		}
	if (optind + 1 != argc || (modes & (modes - 1))) {
		report_error("%s", optind + 1 == argc ? "only one of -n, -p, -y and -r" : "one argument is expected: the bricks' endpoints, separated by commas");
		fputs(usage, stderr);
		return FSCK_USAGE;
	}
	if (!modes && !f->talk.json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		f->talk.mode = FSCK_ASK;
	if (f->talk.mode == FSCK_ASK && (f->talk.json || !isatty(STDIN_FILENO))) {
		report_error("-r asks on a terminal: without one, or with --json, say -n, -p or -y");
		return FSCK_USAGE;
	}
	f->talk.source = argv[optind];
	return endpoints_split(f->talk.source, &f->endpoints, &f->endpoint_count) ? FSCK_USAGE : 0;
}

int main(int argc, char **argv)
{
	struct fsck f = { 0 };
	int status;

	report_init("fsck.brickfs", false, REPORT_NOTICE);
	status = parse(&f, argc, argv);
	if (status)
		return status;
	f.talk.problems = json_array();
	status = f.talk.problems ? check(&f) : FSCK_ERROR;
	json_decref(f.talk.problems);
	endpoints_free(f.endpoints, f.endpoint_count);
	return status;
}
