/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report - what the programs say to people, on standard error (or, in the background, to syslog).
 *
 * One line a message, prefixed with the program's name, or, when asked, with the
 * priority that journald reads ("<3>").  A message names the thing (path,
 * endpoint, ID), the fault and what to do.  Thread-safe; never fails.
 * libbrick itself does not print: it keeps an error text (brick_error(3)).
 */
#ifndef BRICK_REPORT_H
#define BRICK_REPORT_H

#include <stdbool.h>

enum report_level { REPORT_ERROR = 3, REPORT_WARNING = 4, REPORT_NOTICE = 5, REPORT_INFO = 6, REPORT_DEBUG = 7 };

/* program: shown before each message. journald: "<N>" prefixes instead. level: the most talkative one that is printed. */
void report_init(const char *program, bool journald, enum report_level level);
/* From now on to syslog(3), facility daemon, and no more to standard error: for a daemon that has gone to the background. */
void report_to_syslog(void);
void report(enum report_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define report_error(...)	report(REPORT_ERROR, __VA_ARGS__)
#define report_warning(...)	report(REPORT_WARNING, __VA_ARGS__)
#define report_notice(...)	report(REPORT_NOTICE, __VA_ARGS__)
#define report_info(...)	report(REPORT_INFO, __VA_ARGS__)
#define report_debug(...)	report(REPORT_DEBUG, __VA_ARGS__)

#endif
