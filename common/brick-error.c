/* SPDX-License-Identifier: BSD-3-Clause */
/* brick-error - libbrick's last-error text: one sentence for each thread. */
#include "brick-error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "brick.h"

static _Thread_local char last_text[BRICK_ERROR_MAX];
static _Thread_local char errno_text[64];

int brick_fail(int error, const char *format, ...)
{
	/* The arguments may point into the old text. */
	char text[BRICK_ERROR_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(last_text, text, sizeof(last_text));
	return error;
}

const char *brick_errno_text(int error)
{
	return strerror_r(error < 0 ? -error : error, errno_text, sizeof(errno_text));
}

const char *brick_error(void)
{
	return last_text;
}
