/* SPDX-License-Identifier: BSD-3-Clause */
/* util - what every part of the crash tests uses: memory or abort, and malloc'ed texts. */
#ifndef TESTS_UTIL_H
#define TESTS_UTIL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static inline void *need(void *p)
{
	if (!p) {
		fputs("crash: out of memory\n", stderr);
		abort();
	}
	return p;
}

static inline char *__attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		need(NULL);
	va_end(args);
	return text;
}

#endif
