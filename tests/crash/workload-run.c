/* SPDX-License-Identifier: BSD-3-Clause */
/* workload-run - one step on the filesystem and on the oracle, and what they answer side by side. */
#include "workload.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static char *answers(const char *what, int64_t is, int64_t expected)
{
	return say("%s answered %lld (%s), expected %lld (%s)", what, (long long)is, is < 0 ? strerror(-is) : "fine",
		   (long long)expected, expected < 0 ? strerror(-expected) : "fine");
}

/* What a path means: the directory and the last name, and the inode if there is one. */
struct place {
	uint64_t parent, ino;	/* 0: none */
	const char *name;	/* NULL: a slot or the root */
};

static bool resolve(struct run *run, const char *path, struct place *p)
{
	char part[FS_NAME_MAX + 1];
	const char *slash;

	memset(p, 0, sizeof(*p));
	if (*path == '@') {
		p->ino = run->slots[path[1] - '0'];
		return p->ino;
	}
	p->parent = p->ino = FS_ROOT_INO;
	for (path++; *path; path = slash) {
		slash = strchrnul(path, '/');
		if (!p->ino || (p->name && !S_ISDIR(oracle_mode(run->oracle, p->ino))) || slash - path > FS_NAME_MAX)
			return false;
		memcpy(part, path, slash - path);
		part[slash - path] = 0;
		p->parent = p->ino;
		p->name = path;
		p->ino = oracle_lookup(run->oracle, p->parent, part);
		while (*slash == '/')
			slash++;
	}
	return true;
}

/* lookup must see what the oracle sees. Keeps a reference when there is an inode. */
static char *look(struct run *run, const struct place *p)
{
	struct stat st;
	int rc;

	if (!p->name)
		return NULL;
	rc = fs_lookup(run->fs, p->parent, p->name, &st);
	if (rc != (p->ino ? 0 : -ENOENT))
		return answers("lookup", rc, p->ino ? 0 : -ENOENT);
	if (p->ino && st.st_ino != p->ino)
		return answers("lookup", st.st_ino, p->ino);
	return NULL;
}

static void unlook(struct run *run, const struct place *p)
{
	if (p->name && p->ino)
		fs_forget(run->fs, p->ino, 1);
}

static void room(struct run *run, size_t size)
{
	if (run->buffer_size < size) {
		run->buffer = need(realloc(run->buffer, size));
		run->buffer_size = size;
	}
}

static char *make(struct run *run, const struct step *s, const struct place *p)
{
	static const struct fs_cred cred = {.uid = 1000, .gid = 100};
	char target[FS_SYMLINK_MAX + 1];
	mode_t mode = S_IFREG | 0644;
	struct stat st = {0};
	int rc, expected;
	size_t i;

	switch (s->kind) {
	case STEP_MKDIR:
		mode = S_IFDIR | 0755;
		rc = fs_mkdir(run->fs, p->parent, p->name, 0755, &cred, &st);
		break;
	case STEP_SYMLINK:
		mode = S_IFLNK | 0777;
		for (i = 0; i < s->a && i < FS_SYMLINK_MAX; i++)
			target[i] = 'a' + i % 26;
		target[i] = 0;
		rc = fs_symlink(run->fs, target, p->parent, p->name, &cred, &st);
		break;
	default:
		if (s->kind == STEP_FIFO)
			mode = S_IFIFO | 0600;
		rc = fs_mknod(run->fs, p->parent, p->name, mode, 0, &cred, &st);
	}
	expected = oracle_make(run->oracle, p->parent, p->name, mode, cred.uid, cred.gid,
			       s->kind == STEP_SYMLINK ? target : NULL, rc ? 0 : st.st_ino);
	if (rc == -ENOSPC && !expected) {
		run->enospc++;
		return NULL;
	}
	if (rc != expected)
		return answers("making it", rc, expected);
	if (!rc && oracle_lookup(run->oracle, p->parent, p->name) != st.st_ino)
		return say("inode %llu was given out twice", (unsigned long long)st.st_ino);
	if (!rc)
		fs_forget(run->fs, st.st_ino, 1);
	return NULL;
}

static char *write_bytes(struct run *run, const struct step *s, const struct place *p, uint64_t offset, uint64_t length)
{
	uint64_t size = oracle_size(run->oracle, p->ino);
	int64_t rc, expected;
	struct stat st;

	room(run, length);
	oracle_fill(oracle_steps(run->oracle), offset, run->buffer, length);
	rc = fs_open(run->fs, p->ino, true);
	if (rc)
		return answers("open", rc, 0);
	rc = fs_write(run->fs, p->ino, run->buffer, length, offset);
	fs_release(run->fs, p->ino);
	if (rc == -ENOSPC) {
		run->enospc++;
		oracle_write(run->oracle, p->ino, offset, length, true);
		if (offset < size) {
			if (length > size - offset)
				length = size - offset;
			fs_open(run->fs, p->ino, false);
			rc = fs_read(run->fs, p->ino, run->buffer, length, offset);
			fs_release(run->fs, p->ino);
			if (rc != (int64_t)length)
				return answers("read after a write without space", rc, length);
			oracle_adopt(run->oracle, p->ino, offset, run->buffer, length);
		}
		rc = fs_getattr(run->fs, p->ino, &st);
		if (rc || (uint64_t)st.st_size != size)
			return say("a write answered ENOSPC, and the size is %lld, was %llu", (long long)st.st_size,
				   (unsigned long long)size);
		/* its times may have moved */
		oracle_times(run->oracle, p->ino, &st);
		return NULL;
	}
	expected = oracle_write(run->oracle, p->ino, offset, length, false);
	if (!expected)
		expected = length;
	return rc == expected ? NULL : answers(s->kind == STEP_APPEND ? "append" : "write", rc, expected);
}

static char *read_bytes(struct run *run, const struct place *p, uint64_t offset, uint64_t length)
{
	uint64_t size = oracle_size(run->oracle, p->ino), expected, i;
	int64_t rc;

	expected = offset >= size ? 0 : size - offset < length ? size - offset : length;
	room(run, 2 * length);
	rc = fs_open(run->fs, p->ino, false);
	if (rc)
		return answers("open", rc, 0);
	rc = fs_read(run->fs, p->ino, run->buffer, length, offset);
	fs_release(run->fs, p->ino);
	if (rc != (int64_t)expected)
		return answers("read", rc, expected);
	oracle_read(run->oracle, p->ino, offset, run->buffer + length, expected);
	for (i = 0; i < expected; i++)
		if (run->buffer[i] != run->buffer[length + i])
			return say("read: byte %llu differs", (unsigned long long)(offset + i));
	return NULL;
}

static char *setattr(struct run *run, const struct step *s, const struct place *p)
{
	struct stat in = {0}, st;
	unsigned which = 0;
	int rc, expected;

	switch (s->kind) {
	case STEP_TRUNCATE:
		which = FS_SET_SIZE;
		in.st_size = s->a;
		break;
	case STEP_CHMOD:
		which = FS_SET_MODE;
		in.st_mode = s->a;
		break;
	case STEP_CHOWN:
		which = FS_SET_UID | FS_SET_GID;
		in.st_uid = s->a;
		in.st_gid = s->a + 1;
		break;
	default:
		which = FS_SET_ATIME | FS_SET_MTIME;
		in.st_mtim = in.st_atim = (struct timespec){s->a, s->a % 1000000000};
	}
	rc = fs_setattr(run->fs, p->ino, &in, which, &st);
	if (rc == -ENOSPC && (s->kind != STEP_TRUNCATE || s->a > oracle_size(run->oracle, p->ino))) {
		run->enospc++;
		return NULL;
	}
	expected = oracle_setattr(run->oracle, p->ino, &in, which);
	if (rc != expected)
		return answers("setattr", rc, expected);
	if (!rc && (which & FS_SET_MTIME) && (st.st_mtim.tv_sec != in.st_mtim.tv_sec || st.st_mtim.tv_nsec != in.st_mtim.tv_nsec))
		return say("setattr did not set the mtime");
	return NULL;
}

static char *fallocate_bytes(struct run *run, const struct step *s, const struct place *p)
{
	static const int modes[] = {
		[STEP_PUNCH - STEP_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		[STEP_ZERO - STEP_PUNCH] = FALLOC_FL_ZERO_RANGE,
		[STEP_ZEROKEEP - STEP_PUNCH] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		[STEP_FALLOC - STEP_PUNCH] = 0,
		[STEP_FALLOCKEEP - STEP_PUNCH] = FALLOC_FL_KEEP_SIZE,
	};
	int mode = modes[s->kind - STEP_PUNCH], rc, expected;

	rc = fs_open(run->fs, p->ino, true);
	if (rc)
		return answers("open", rc, 0);
	rc = fs_fallocate(run->fs, p->ino, mode, s->a, s->b);
	fs_release(run->fs, p->ino);
	if (rc == -ENOSPC) {
		run->enospc++;
		return NULL;
	}
	expected = oracle_fallocate(run->oracle, p->ino, mode, s->a, s->b);
	return rc == expected ? NULL : answers("fallocate", rc, expected);
}

static char *two_paths(struct run *run, const struct step *s, const struct place *p)
{
	unsigned flags = s->kind == STEP_NOREPLACE ? RENAME_NOREPLACE : s->kind == STEP_EXCHANGE ? RENAME_EXCHANGE : 0;
	struct place q;
	struct stat st;
	int rc, expected;
	char *why;

	if (!resolve(run, s->other, &q) || !q.name)
		return NULL;
	why = look(run, &q);
	if (why)
		return why;
	if (s->kind == STEP_LINK) {
		rc = fs_link(run->fs, p->ino, q.parent, q.name, &st);
		if (!rc)
			fs_forget(run->fs, p->ino, 1);
	} else {
		rc = fs_rename(run->fs, p->parent, p->name, q.parent, q.name, flags);
	}
	if (rc == -ENOSPC) {
		run->enospc++;
	} else {
		expected = s->kind == STEP_LINK ? oracle_link(run->oracle, p->ino, q.parent, q.name)
						: oracle_rename(run->oracle, p->parent, p->name, q.parent, q.name, flags);
		if (rc != expected)
			why = answers(s->kind == STEP_LINK ? "link" : "rename", rc, expected);
	}
	unlook(run, &q);
	return why;
}

static char *removal(struct run *run, const struct step *s, const struct place *p)
{
	bool directory = s->kind == STEP_RMDIR;
	int rc, expected;

	rc = directory ? fs_rmdir(run->fs, p->parent, p->name) : fs_unlink(run->fs, p->parent, p->name);
	expected = oracle_unlink(run->oracle, p->parent, p->name, directory);
	return rc == expected ? NULL : answers(directory ? "rmdir" : "unlink", rc, expected);
}

static char *xattr(struct run *run, const struct step *s, const struct place *p)
{
	int rc, expected;

	if (s->kind == STEP_RMXATTR) {
		rc = fs_removexattr(run->fs, p->ino, s->other);
		if (rc == -ENOSPC)
			return say("removexattr answered ENOSPC");
		expected = oracle_removexattr(run->oracle, p->ino, s->other);
	} else {
		room(run, s->a);
		oracle_fill(oracle_steps(run->oracle), 0, run->buffer, s->a);
		rc = fs_setxattr(run->fs, p->ino, s->other, run->buffer, s->a, 0);
		if (rc == -ENOSPC) {
			run->enospc++;
			return NULL;
		}
		expected = oracle_setxattr(run->oracle, p->ino, s->other, run->buffer, s->a, 0);
	}
	return rc == expected ? NULL : answers("xattr", rc, expected);
}

static char *sync_file(struct run *run, const struct step *s, const struct place *p)
{
	int rc = s->kind == STEP_FLUSH ? fs_flush(run->fs, p->ino) : fs_fsync(run->fs, p->ino, s->kind == STEP_FDATASYNC);

	if (rc)
		return answers(s->kind == STEP_FLUSH ? "flush" : "fsync", rc, 0);
	if (s->kind != STEP_FLUSH)
		oracle_durable(run->oracle, p->ino, s->kind == STEP_FDATASYNC);
	return NULL;
}

static char *close_slot(struct run *run, unsigned slot)
{
	uint64_t ino = run->slots[slot];
	int rc;

	if (!ino)
		return NULL;
	rc = fs_flush(run->fs, ino);
	if (!rc)
		rc = fs_release(run->fs, ino);
	fs_forget(run->fs, ino, 1);
	run->slots[slot] = 0;
	oracle_close(run->oracle, ino);
	return rc ? answers("close", rc, 0) : NULL;
}

/* Steps that name a file that must be there; p->ino has a reference in the filesystem or is open. */
static char *on_inode(struct run *run, const struct step *s, const struct place *p)
{
	mode_t mode = oracle_mode(run->oracle, p->ino);
	int rc;

	switch (s->kind) {
	case STEP_WRITE:
		return S_ISREG(mode) ? write_bytes(run, s, p, s->a, s->b) : NULL;
	case STEP_APPEND:
		return S_ISREG(mode) ? write_bytes(run, s, p, oracle_size(run->oracle, p->ino), s->a) : NULL;
	case STEP_READ:
		return S_ISREG(mode) ? read_bytes(run, p, s->a, s->b) : NULL;
	case STEP_PUNCH:
	case STEP_ZERO:
	case STEP_ZEROKEEP:
	case STEP_FALLOC:
	case STEP_FALLOCKEEP:
		return S_ISREG(mode) ? fallocate_bytes(run, s, p) : NULL;
	case STEP_TRUNCATE:
		return S_ISREG(mode) ? setattr(run, s, p) : NULL;
	case STEP_CHMOD:
		return S_ISLNK(mode) ? NULL : setattr(run, s, p);
	case STEP_CHOWN:
	case STEP_UTIME:
		return setattr(run, s, p);
	case STEP_SETXATTR:
	case STEP_RMXATTR:
		return S_ISREG(mode) || S_ISDIR(mode) ? xattr(run, s, p) : NULL;
	case STEP_FLUSH:
		return S_ISREG(mode) ? sync_file(run, s, p) : NULL;
	case STEP_FSYNC:
	case STEP_FDATASYNC:
		return S_ISREG(mode) || S_ISDIR(mode) ? sync_file(run, s, p) : NULL;
	case STEP_OPEN:
		if (!S_ISREG(mode) || run->slots[s->a])
			return NULL;
		rc = fs_open(run->fs, p->ino, true);
		if (rc)
			return answers("open", rc, 0);
		oracle_open(run->oracle, p->ino);
		run->slots[s->a] = p->ino;
		return NULL;
	default:
		return NULL;
	}
}

static char *on_path(struct run *run, const struct step *s)
{
	struct place p;
	char *why;
	bool open;

	if (!resolve(run, s->path, &p))
		return NULL;
	why = look(run, &p);
	if (why)
		return why;
	open = s->kind == STEP_OPEN && p.ino && !run->slots[s->a];
	if (s->kind == STEP_CREATE || s->kind == STEP_MKDIR || s->kind == STEP_FIFO || s->kind == STEP_SYMLINK) {
		if (p.name)
			why = make(run, s, &p);
	} else if (s->kind == STEP_UNLINK || s->kind == STEP_RMDIR) {
		if (p.name)
			why = removal(run, s, &p);
	} else if (s->kind == STEP_RENAME || s->kind == STEP_NOREPLACE || s->kind == STEP_EXCHANGE || s->kind == STEP_LINK) {
		if (p.name && (p.ino || s->kind != STEP_LINK))
			why = two_paths(run, s, &p);
	} else if (p.ino) {
		why = on_inode(run, s, &p);
	}
	/* an open slot keeps its reference */
	if (!(open && run->slots[s->a]))
		unlook(run, &p);
	return why;
}

static char *whole(struct run *run, const struct step *s)
{
	struct statvfs st;
	unsigned i;
	char *why;
	int rc;

	switch (s->kind) {
	case STEP_TICK:
		rc = fs_tick(run->fs);
		if (rc)
			return answers("tick", rc, 0);
		oracle_durable_all(run->oracle);
		return NULL;
	case STEP_CHECKPOINT:
		rc = fs_checkpoint(run->fs);
		if (rc == -ENOSPC) {
			run->enospc++;
			return NULL;
		}
		if (rc)
			return answers("checkpoint", rc, 0);
		oracle_committed(run->oracle);
		return NULL;
	case STEP_STATFS:
		rc = fs_statfs(run->fs, &st);
		if (rc || st.f_bfree > st.f_blocks || st.f_bavail > st.f_bfree)
			return say("statfs answered %d, %llu blocks, %llu free, %llu available", rc,
				   (unsigned long long)st.f_blocks, (unsigned long long)st.f_bfree,
				   (unsigned long long)st.f_bavail);
		return NULL;
	case STEP_RESTART:
		if (run->restart)
			run->restart(run, (unsigned)s->a);
		return NULL;
	case STEP_CLOSE:
		return close_slot(run, s->a);
	default:
		for (i = 0; i < WORKLOAD_SLOTS; i++) {
			why = close_slot(run, i);
			if (why)
				return why;
		}
		rc = run->remount(run, run->arg);
		if (rc)
			return say("remount: %s (%s)", strerror(-rc), fs_error_text());
		oracle_durable_all(run->oracle);
		return NULL;
	}
}

static char *one_step(struct run *run, const struct step *s)
{
	uint64_t touched[256];
	char text[2 * WORKLOAD_PATH_MAX + 100], *why;
	struct stat st;
	size_t n, i;
	int rc;

	step_text(s, text, sizeof(text));
	oracle_begin(run->oracle, text);
	if (run->boundary)
		run->boundary(run, false);
	if (s->kind >= STEP_STATFS || s->kind == STEP_CLOSE)
		why = whole(run, s);
	else
		why = on_path(run, s);
	n = why ? 0 : oracle_touched(run->oracle, touched, sizeof(touched) / sizeof(touched[0]));
	for (i = 0; i < n && !why; i++) {
		rc = fs_getattr(run->fs, touched[i], &st);
		if (rc)
			why = answers("getattr after the step", rc, 0);
		else
			oracle_times(run->oracle, touched[i], &st);
	}
	oracle_end(run->oracle);
	if (run->boundary)
		run->boundary(run, true);
	return why;
}

char *run_step(struct run *run, const struct step *s)
{
	struct step create = {.kind = STEP_CREATE};
	struct place p;
	char *why;

	/* writing to what does not exist makes it, as open(2) with O_CREAT does: a step of its own */
	if ((s->kind == STEP_WRITE || s->kind == STEP_APPEND) && resolve(run, s->path, &p) && !p.ino) {
		strcpy(create.path, s->path);
		why = one_step(run, &create);
		if (why)
			return why;
	}
	return one_step(run, s);
}

void run_close(struct run *run)
{
	unsigned i;

	for (i = 0; i < WORKLOAD_SLOTS; i++)
		free(close_slot(run, i));
}

void run_free(struct run *run)
{
	free(run->buffer);
	memset(run, 0, sizeof(*run));
}
