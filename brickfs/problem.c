/* SPDX-License-Identifier: BSD-3-Clause */
/* problem - what the core says to people, and the error state of a filesystem. */
#include "fs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[512];

const char *fs_error_text(void)
{
	return error_text;
}

int fs_set_error(int error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error_text, sizeof(error_text), format, ap);
	va_end(ap);
	return error;
}

__attribute__((format(printf, 3, 0)))
static void say(struct fs *fs, const char *code, const char *format, va_list ap)
{
	char text[512];

	if (!fs->options.problem)
		return;
	vsnprintf(text, sizeof(text), format, ap);
	fs->options.problem(fs->options.problem_arg, code, text);
}

void fs_say(struct fs *fs, const char *code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(fs, code, format, ap);
	va_end(ap);
}

void fs_damage(struct fs *fs, const char *code, const char *format, ...)
{
	va_list ap;

	fs->damaged = true;
	fs->damage_count++;
	va_start(ap, format);
	say(fs, code, format, ap);
	va_end(ap);
}

void fs_fail(struct fs *fs, int error, const char *what)
{
	int none = 0;
	char text[256];

	if (!atomic_compare_exchange_strong(&fs->error, &none, error))
		return;
	snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
	vol_fail(fs->vol, error, text);
	fs_say(fs, "read-only", "%s (%s); the filesystem is read-only from now on", text, vol_text(fs->vol));
	pthread_cond_broadcast(&fs->freed);	/* who waits for storage waits in vain */
}

int fs_writable(struct fs *fs)
{
	if (fs->readonly)
		return -EROFS;
	if (atomic_load(&fs->error) || vol_error(fs->vol))
		return -EROFS;
	return 0;
}

void fs_now(struct timespec *now)
{
	clock_gettime(CLOCK_REALTIME, now);
}
