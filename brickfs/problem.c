/* SPDX-License-Identifier: BSD-3-Clause */
/* problem - what may be wrong, how it is told to people, and the error state of a filesystem. */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/*
 * Safe: nothing that could be read is lost by it, and there is one right way to do it.  What lost something names what
 * it lost when it is told; the repair then only says so in the metadata.
 */
const struct fs_problem fs_problems[] = {
	{ "super-copy", "one copy of a superblock is damaged; the other one serves", "it is written anew", true, false, false },
	{ "leak", "blocks that nothing refers to, after a crash", "they are freed", true, false, false },
	{ "orphan", "an inode that was deleted while open", "it is removed", true, false, false },
	{ "super-lost", "both copies of a brick's superblock are damaged; other bricks have theirs", "they are written anew from the others", false, true, false },
	{ "super-gone", "both copies of the superblock are damaged on every brick", "it is made anew from the log; the end of a log that was left clean is not known", false, true, false },
	{ "brick-lost", "a brick of the filesystem is gone for good, as the operator says", "the filesystem goes on without it", false, true, true },
	{ "block-twice", "an address is on two bricks", "one of them stays; the other is kept as a file in lost+found, if it differs and holds data, and freed", false, true, false },
	{ "foreign-block", "a block of no kind that belongs to brickfs", "it is freed", false, true, false },
	{ "no-checkpoint", "the record that says where the log begins is lost", "the log is put together from the segments that can be read", false, true, true },
	{ "checkpoint-missing", "a segment of the checkpoint is not there", "what it held is given up", false, true, true },
	{ "checkpoint-bad", "a segment of the checkpoint is damaged", "what can be read of it is kept", false, true, true },
	{ "log-missing", "the segment in which the log goes on behind the checkpoint is lost", "the log goes on with the next one", false, true, true },
	{ "log-hole", "batches in the log that were durable are lost or damaged", "what stands behind them is kept", false, true, true },
	{ "log-short", "the log does not end where a clean unmount left it", "it ends where it can be read", false, true, true },
	{ "adrift", "data that no inode claims, while records of the log are lost", "it gets an inode and a name in lost+found", false, true, false },
	{ "older", "a file whose last records are lost: what is left of them is older than its data", "it stays as it was then", false, true, false },
	{ "names-lost", "a directory in which names were given by records that are lost", "it goes on without them", false, true, false },
	{ "unproven", "what is known of an inode comes from a batch whose checksum is wrong, and looks sound", "it is kept as it is", false, true, false },
	{ "bad-record", "a record makes no sense though its checksum is right", "it is passed over", false, true, true },
	{ "marks-low", "an inode, pages or blocks with a number that no mark in the log allows", "the marks are raised; what has no number below the last one gets another", true, true, false },
	{ "marks-spent", "there are no more numbers for log segments", "they are counted from the segments that there are", false, true, false },
	{ "no-root", "the root directory is lost", "an empty one is made", false, true, false },
	{ "entry-no-dir", "an entry of what is no directory", "it is removed", false, true, true },
	{ "entry-nowhere", "an entry that leads to an inode that is not there", "it is removed", false, true, true },
	{ "entry-root", "an entry that leads to the root directory", "it is removed", false, true, false },
	{ "entry-twice", "a second entry of the same name in a directory", "it is removed; its inode goes to lost+found, if it has no other name", false, true, false },
	{ "link-count", "an inode's link count and its names do not agree", "the count is set to the names", true, true, false },
	{ "unreachable", "an inode with links, and without a name", "it gets a name in lost+found", true, true, false },
	{ "dir-links", "a directory with a second name", "that name is removed", false, true, false },
	{ "dir-loop", "directories that lead to each other, and the root to none of them", "one of them goes to lost+found", false, true, false },
	{ "xattr-nowhere", "an extended attribute of an inode that is not there", "it is removed", false, true, true },
	{ "pages-shared", "pages of a packed block that two files claim", "the older file keeps them, the other one gets a copy", false, true, false },
	{ "pages-lost", "the packed block of a file is not there", "the file reads as zeroes", false, true, false },
	{ "ranges-overlap", "blocks that two files claim", "the older file keeps them, the other one gets copies", false, true, false },
	{ "blocks-lost", "blocks of a file are not there", "what was in them reads as zeroes", false, true, false },
	{ "data-odd", "data of what cannot have any", "it is given up", false, true, false },
	{ "symlink-odd", "a symbolic link without a sound target", "it is removed", false, true, false },
};
const size_t fs_problem_count = sizeof(fs_problems) / sizeof(fs_problems[0]);

const struct fs_problem *fs_problem_find(const char *code)
{
	for (size_t k = 0; k < fs_problem_count; k++)
		if (!strcmp(fs_problems[k].code, code))
			return &fs_problems[k];
	return NULL;
}

/* Names may hold what a terminal obeys. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

__attribute__((format(printf, 3, 0)))
static void say(struct fs *fs, const char *code, const char *format, va_list ap, const struct fs_problem *problem)
{
	static char none[] = "(no memory for the text)";
	char *text;

	if (!fs->options.problem && !problem)
		return;
	if (vasprintf(&text, format, ap) < 0)
		text = none;
	make_printable(text);
	if (fs->options.problem)
		fs->options.problem(fs->options.problem_arg, code, text);
	if (problem && fs->options.decide && !fs->options.decide(fs->options.problem_arg, problem, text))
		fs->declined++;
	if (text != none)
		free(text);
}

void fs_say(struct fs *fs, const char *code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(fs, code, format, ap, NULL);
	va_end(ap);
}

/* A mount says what it is about; fsck tells all. */
#define MOUNT_TELLS 200

void fs_damage(struct fs *fs, const char *code, const char *format, ...)
{
	const struct fs_problem *problem = fs_problem_find(code);
	va_list ap;

	if (!problem)
		abort();	/* it is ours to be in the table */
	if (problem->damage) {
		fs->damaged = true;
		fs->damage_count++;
	}
	fs->records_lost |= problem->records;
	if (!fs->options.check && fs->told++ >= MOUNT_TELLS) {
		if (fs->told == MOUNT_TELLS + 1)
			fs_say(fs, "damaged", "more than %d problems; the others are counted and not told here: fsck.brickfs -n tells them",
			       MOUNT_TELLS);
		return;
	}
	va_start(ap, format);
	say(fs, code, format, ap, problem);
	va_end(ap);
}

/* ---- paths */

#define PATH_ROOM 1100		/* of a longer one, the end is shown */

static const char *path_of(struct fs *fs, const struct inode *i, const struct dentry *name)
{
	static _Thread_local char room[4][PATH_ROOM];
	static _Thread_local unsigned turn;
	char *buf = room[turn++ % 4], *p = buf + PATH_ROOM - 1;
	char number[32];
	size_t length;

	*p = 0;
	for (unsigned depth = 0; i != fs->root; depth++) {
		if (!name || !name->dir || depth == 512) {
			length = (size_t)snprintf(number, sizeof(number), "#%" PRIu64, i->ino);
			if (length < (size_t)(p - buf))
				p = memcpy(p - length, number, length);
			return p;
		}
		if (name->length + 5u > (size_t)(p - buf))
			return memcpy(p - 3, "...", 3);
		p -= name->length;
		memcpy(p, name->name, name->length);
		*--p = '/';
		i = name->dir;
		name = i->name;
	}
	return *p ? p : "/";
}

const char *fs_path(struct fs *fs, const struct inode *inode)
{
	return path_of(fs, inode, inode->name);
}

const char *fs_path_of(struct fs *fs, const struct dentry *dentry)
{
	return path_of(fs, dentry->inode, dentry);
}

void fs_fail(struct fs *fs, int error, const char *what)
{
	int none = 0;
	char text[640];

	if (!atomic_compare_exchange_strong(&fs->error, &none, error))
		return;
	/* Out of memory and the like are no brick's; what was said last is another matter then. */
	snprintf(text, sizeof(text), "%s: %s", what, error == -EIO && *vol_text(fs->vol) ? vol_text(fs->vol) : strerror(-error));
	vol_fail(fs->vol, error, text);
	fs_say(fs, "read-only", "%s; the filesystem is read-only from now on", text);
	pthread_cond_broadcast(&fs->freed);	/* who waits for storage waits in vain */
}

int fs_writable(struct fs *fs)
{
	if (atomic_load(&fs->going))
		return -EIO;
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
