/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * brick-error - libbrick's last-error text: one sentence for each thread.
 *
 * Whatever in the library finds a fault says it here, once, with the endpoint,
 * the address and the cause, and returns the negative errno that brick_fail()
 * gives back.  Whoever passes an error on leaves the text alone.
 */
#ifndef BRICK_ERROR_H
#define BRICK_ERROR_H

#define BRICK_ERROR_MAX 384

/* Sets this thread's text and returns error, a negative errno. */
int brick_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "Connection refused" for -ECONNREFUSED; valid until this thread's next call. */
const char *brick_errno_text(int error);

#endif
