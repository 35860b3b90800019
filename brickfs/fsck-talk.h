/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck-talk - what fsck.brickfs says and asks: problems as they are found, questions, progress, the result for people or as JSON.
 */
#ifndef BRICKFS_FSCK_TALK_H
#define BRICKFS_FSCK_TALK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"

/* fsck(8) */
#define FSCK_CLEAN 0
#define FSCK_CORRECTED 1
#define FSCK_UNCORRECTED 4
#define FSCK_ERROR 8
#define FSCK_USAGE 16
#define FSCK_CANCELED 32

enum fsck_mode { FSCK_LOOK, FSCK_SAFE, FSCK_ALL, FSCK_ASK };

struct talk {
	const char *source;		/* the endpoints as given */
	enum fsck_mode mode;
	bool json;
	bool silent;			/* the problems have been told */
	bool bar;			/* progress on the terminal */
	int progress_fd;		/* or as lines to this descriptor; 0: not */
	bool bar_shown, all;		/* all: "a" was answered */
	unsigned percent, pass;
	uint64_t told, unsafe;		/* problems printed; of these, not safe to repair */
	json_t *problems;
};

/* For struct fs_options; arg is the struct talk. */
void talk_problem(void *arg, const char *code, const char *text);
bool talk_decide(void *arg, const struct fs_problem *problem, const char *text);
void talk_progress(void *arg, const char *step, uint64_t done, uint64_t total);

void talk_clear(struct talk *talk);	/* the progress, before something else is printed */

struct talk_result {
	int status;
	const struct fs_info *info;
	const struct fs_check_result *first, *last;	/* what was found; as it is now */
	const char *error;		/* or NULL */
	char **endpoints;
	size_t endpoint_count;
};
void talk_result(struct talk *talk, const struct talk_result *result);

#endif
