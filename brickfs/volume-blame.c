/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-blame - when a brick refuses what it should not, people are told which one, and what of; and callers get an error that is
 * theirs.
 *
 * A status of a brick is its answer to our call, not the answer to what an application asked: that a block is busy or
 * not there means nothing to who reads a file, and would send people looking in the wrong place.  So it ends here as -EIO.
 * So does its -ENOMEM: that memory is not ours, and what waits for ours to come back would try again what a brick refused.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "volume-internal.h"

/* A brick that refuses everything is told of so often, not for each access. */
#define TELL_WINDOW_MS 10000
#define TELL_MOST 8

static _Thread_local char blamed[256];

void vol_blame_begin(void)
{
	*blamed = 0;
}

const char *vol_blamed(int error)
{
	return *blamed ? blamed : strerror(-error);
}

void vol_tell(struct volume *vol, bool latched, const char *text)
{
	if (vol->tell)
		vol->tell(vol->tell_arg, latched, text);
}

static bool may_tell(struct vol_brick *b, unsigned *silent)
{
	uint64_t now = vol_now_ms();
	bool may;

	*silent = 0;
	pthread_mutex_lock(&b->vol->text_mutex);
	if (!b->told || now - b->told_since_ms >= TELL_WINDOW_MS) {
		*silent = b->told > TELL_MOST ? b->told - TELL_MOST : 0;
		b->told = 0;
		b->told_since_ms = now;
	}
	may = b->told++ < TELL_MOST;
	pthread_mutex_unlock(&b->vol->text_mutex);
	return may;
}

int vol_blame(struct vol_brick *b, int error, const char *reason, const char *format, ...)
{
	char what[128], text[sizeof(blamed)];
	unsigned silent;
	va_list ap;

	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "brick %s: %s: %s", b->endpoint, what, reason ? reason : strerror(-error));
	vol_say(b->vol, "%s", text);
	memcpy(blamed, text, sizeof(blamed));
	if (may_tell(b, &silent)) {
		if (silent)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), " (and %u times before that were not told)", silent);
		vol_tell(b->vol, false, text);
	}
	return -EIO;
}
