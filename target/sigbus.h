/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sigbus - a failing device under a mapping becomes an error instead of the
 * end of the process.
 *
 * Reading or writing a mapped file raises SIGBUS when the device fails, when
 * the file was cut short behind our back, and when the host's disk has no room
 * for a page.  Code that touches a mapping does so inside sigbus_try().  A
 * SIGBUS outside of it, in a watched range, writes one line that names the file
 * and ends the process; anywhere else it goes to the handler that was there
 * before ours.
 */
#ifndef TARGET_SIGBUS_H
#define TARGET_SIGBUS_H

#include <stddef.h>

/*
 * Calls fn(arg): 0, or -EIO when a SIGBUS cut it short.  If the fault lay in a
 * watched range, that range's failed() has been called by then, in the same
 * thread and outside of the signal handler.  fn must not hold locks or memory
 * that it alone would give back.
 */
int sigbus_try(void (*fn)(void *arg), void *arg);

/* name must stay until sigbus_unwatch(). -EMFILE when too many ranges are watched. */
int sigbus_watch(const void *base, size_t length, const char *name, void (*failed)(void *owner), void *owner);
void sigbus_unwatch(const void *base);

#endif
