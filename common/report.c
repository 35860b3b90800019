/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report - one line a message on standard error (report.h).
 *
 * A line is put together in memory and written with one write(2), so that lines of
 * several threads do not mix.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "report.h"

#define LINE_MAX_BYTES 2048

static const char *program = "brick";
static bool journald;
static enum report_level talkative = REPORT_NOTICE;
static atomic_bool to_syslog;

void report_init(const char *program_name, bool journald_prefixes, enum report_level level)
{
	program = program_name;
	journald = journald_prefixes;
	talkative = level;
}

void report_to_syslog(void)
{
	openlog(program, LOG_PID, LOG_DAEMON);
	atomic_store(&to_syslog, true);
}

void report(enum report_level level, const char *format, ...)
{
	int saved = errno;
	char line[LINE_MAX_BYTES];
	size_t used, done = 0;
	va_list args;
	int n;

	if (level > talkative)
		return;
	if (to_syslog)
		n = 0;	/* syslog(3) has program and level beside the text */
	else if (journald)
		n = snprintf(line, sizeof(line), "<%d>", (int)level);
	else
		n = snprintf(line, sizeof(line), "%.64s: %s", program, level == REPORT_WARNING ? "warning: " : "");
	used = n > 0 ? (size_t)n : 0;

	va_start(args, format);
	n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
	va_end(args);
	if (n < 0)
		n = 0;
	if ((size_t)n > sizeof(line) - used - 2) {
		n = (int)(sizeof(line) - used - 2);
		memcpy(line + used + n - 3, "...", 3);
	}

	/* Names come from the network too: nothing in them moves the terminal or makes a line of its own. */
	for (size_t i = used; i < used + (size_t)n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = line[i] == '\n' || line[i] == '\t' ? ' ' : '?';
	used += (size_t)n;
	if (to_syslog) {
		line[used] = 0;
		syslog(level, "%s", line);
		errno = saved;
		return;
	}
	line[used++] = '\n';

	while (done < used) {
		ssize_t wrote = write(STDERR_FILENO, line + done, used - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			break;
		done += (size_t)wrote;
	}
	errno = saved;
}
