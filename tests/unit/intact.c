/* SPDX-License-Identifier: BSD-3-Clause */
/* intact - see intact.h. */
#include "intact.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct walk { struct intact *intact; struct fs *fs; const char *path; };

static void note_dir(struct intact *intact, struct fs *fs, uint64_t ino, const char *path);

static void note(struct intact *t, const char *path, uint64_t ino)
{
	if (t->count == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		t->name = realloc(t->name, t->room * sizeof(*t->name));
	}
	t->name[t->count++] = (struct intact_name){ strdup(path), ino };
}

static int each(void *arg, const char *name, uint64_t position, const struct stat *st)
{
	struct walk *w = arg;
	char *path;

	(void)position;
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	ck_assert_int_gt(asprintf(&path, "%s/%s", w->path, name), 0);
	note(w->intact, path, st->st_ino);
	free(path);
	return 0;
}

/* Directories are gone into after they were read: no lock is held twice. */
static void note_dir(struct intact *t, struct fs *fs, uint64_t ino, const char *path)
{
	struct walk w = { t, fs, path };
	size_t from = t->count;
	struct stat st;

	ck_assert_int_eq(fs_readdir(fs, ino, 0, false, each, &w), 0);
	for (size_t k = from, to = t->count; k < to; k++) {
		ck_assert_int_eq(fs_getattr(fs, t->name[k].ino, &st), 0);
		if (S_ISDIR(st.st_mode))
			note_dir(t, fs, t->name[k].ino, t->name[k].path);
	}
}

void intact_note(struct intact *t, struct fs *fs)
{
	memset(t, 0, sizeof(*t));
	t->dump = fs_dump(fs);
	ck_assert_ptr_nonnull(t->dump);
	note_dir(t, fs, FS_ROOT_INO, "");
}

void intact_free(struct intact *t)
{
	for (size_t k = 0; k < t->count; k++)
		free(t->name[k].path);
	free(t->name);
	free(t->dump);
	free(t->touched);
	memset(t, 0, sizeof(*t));
}

void intact_begin(struct intact *t)
{
	t->touched_count = 0;
}

void intact_touch(struct intact *t, uint64_t ino)
{
	if (t->touched_count == t->touched_room) {
		t->touched_room = t->touched_room ? 2 * t->touched_room : 64;
		t->touched = realloc(t->touched, t->touched_room * sizeof(*t->touched));
	}
	t->touched[t->touched_count++] = ino;
}

static void touch_batch(struct intact *t, const uint8_t *records, uint32_t length)
{
	struct fmt_record r;

	for (size_t at = 0, size; at < length && !fmt_get_record(records + at, length - at, &r, &size); at += size)
		switch (r.type) {
		case FMT_INODE:
			intact_touch(t, r.inode.ino);
			break;
		case FMT_INODE_GONE:
			intact_touch(t, r.gone);
			break;
		case FMT_DENTRY:
			intact_touch(t, r.dentry.ino);
			break;
		case FMT_XATTR:
		case FMT_XATTR_GONE:
			intact_touch(t, r.xattr.ino);
			break;
		default:
			break;
		}
}

void intact_touch_log(struct intact *t, struct sim *sim, unsigned brick, uint64_t addr, uint32_t at, uint32_t length)
{
	uint8_t *buf = malloc(FMT_BLOCK);
	struct fmt_batch b;

	if (fmt_kind(addr) == FMT_LOG) {
		ck_assert_int_eq(sim_peek(sim, brick, addr & ~(FMT_BLOCK - 1), buf, FMT_BLOCK), 0);
		for (uint64_t offset = FMT_SEGMENT_HEADER; offset < FMT_BLOCK && !fmt_get_batch(buf + offset, FMT_BLOCK - offset, &b);
		     offset += fmt_batch_size(b.length))
			if (at < offset + fmt_batch_size(b.length) && at + length > offset)
				touch_batch(t, buf + offset + FMT_BATCH_HEADER, b.length);
	}
	free(buf);
}

/* A word and the number, and no digit behind it; or the path, and nothing that would make it another one. */
static bool told(const char *path, uint64_t ino)
{
	static const char *const words[] = { "inode", "inodes", "directory", "symbolic link" };
	char number[64];
	const char *p;

	for (unsigned k = 0; k < sim_problems.count && k < SIM_PROBLEMS; k++) {
		const char *text = sim_problems.text[k];

		for (unsigned w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
			int length = snprintf(number, sizeof(number), "%s %llu", words[w], (unsigned long long)ino);

			for (p = text; (p = strstr(p, number)); p++)
				if (p[length] < '0' || p[length] > '9')
					return true;
		}
		for (p = text; path[0] && (p = strstr(p, path)); p++)
			if ((p[-1] == '(' || p[-1] == ' ') && (p[strlen(path)] == ')' || p[strlen(path)] == ' '))
				return true;
	}
	return false;
}

static bool excused_one(const struct intact *t, const char *path)
{
	for (size_t k = 0; k < t->count; k++) {
		if (strcmp(t->name[k].path, path))
			continue;
		for (size_t n = 0; n < t->touched_count; n++)
			if (t->touched[n] == t->name[k].ino)
				return true;
		return told(path, t->name[k].ino);
	}
	return told(path, FS_ROOT_INO);	/* the root */
}

static bool excused(const struct intact *t, const char *path)
{
	char *copy = strdup(path), *slash;
	bool yes;

	while (!(yes = excused_one(t, copy)) && (slash = strrchr(copy, '/')) && slash != copy)
		*slash = 0;
	free(copy);
	return yes;
}

/* A line of a dump without what other files decide: the link count of a directory is its subdirectories'. */
static void plain(char *line)
{
	char *mode = strstr(line, " mode "), *nlink = strstr(line, " nlink ");

	if (mode && nlink && (strtoul(mode + 6, NULL, 8) & S_IFMT) == S_IFDIR) {
		char *rest = strchr(nlink + 7, ' ');

		memmove(nlink, rest, strlen(rest) + 1);
	}
}

static bool has_line(const char *dump, const char *wanted)
{
	char *copy = strdup(dump), *save = NULL;
	bool found = false;

	for (char *line = strtok_r(copy, "\n", &save); line && !found; line = strtok_r(NULL, "\n", &save)) {
		plain(line);
		found = !strcmp(line, wanted);
	}
	free(copy);
	return found;
}

unsigned intact_check(const struct intact *t, const char *after, const char *what)
{
	char *copy = strdup(t->dump), *save = NULL;
	unsigned left_out = 0;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char path[1024], *end = strstr(line, " mode ");

		ck_assert_ptr_nonnull(end);
		snprintf(path, sizeof(path), "%.*s", (int)(end - line), line);
		plain(line);
		if (has_line(after, line))
			continue;
		ck_assert_msg(excused(t, path), "%s: intact, and lost or changed without a word: %s; told: %s; and now:\n%s", what, line,
			      sim_all_told(), after);
		left_out++;
	}
	free(copy);
	return left_out;
}
