/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soak-work - random steps in one directory: files of all forms written in all ways, names made, moved and removed, fsync now and
 * then, and what is there read and compared.
 *
 * Each step is in the model before it is done.  No step may fail while the mount lives, however long it takes.
 */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 120
#define DIRS_MAX 8
#define OPEN_MAX 12
#define CHANGES_MAX 40			/* of one file, then it is synced */
#define NAME_CHANGES_MAX 200
#define JOURNAL_MAX (2ull << 20)	/* then everything is synced, and it begins anew */
#define FAR (1ull << 40)		/* how far apart the pieces of a sparse file may be */
#define PAGE 4096ull

/* --- choices --- */

static struct entry *pick_entry(struct soak *soak, const char *types)
{
	struct names *names = &soak->model.live;

	for (int tries = 0; tries < 20 && names->n; tries++) {
		struct entry *e = &names->e[soak_random(soak, names->n)];

		if (strchr(types, model_node(&soak->model, e->node)->type))
			return e;
	}
	return NULL;
}

static struct node *pick(struct soak *soak, const char *types)
{
	const struct entry *e = pick_entry(soak, types);

	return e ? model_node(&soak->model, e->node) : NULL;
}

static struct node *pick_dir(struct soak *soak)
{
	struct node *dir = soak_random(soak, 3) ? pick(soak, "d") : NULL;

	return dir ? dir : model_node(&soak->model, MODEL_ROOT);
}

static size_t count(const struct soak *soak, char type)
{
	size_t n = 0;

	for (size_t i = 0; i < soak->model.live.n; i++)
		n += model_node(&soak->model, soak->model.live.e[i].node)->type == type;
	return n;
}

/* For names that there never were. */
static uint64_t serial(const struct soak *soak)
{
	return soak->model.run * 100000000ull + soak->steps;
}

/* Bytes: some of each form (inline, packed, ranges), and the edges between them. */
static uint64_t some_size(struct soak *soak)
{
	switch (soak_random(soak, 10)) {
	case 0:
	case 1:
		return 1 + soak_random(soak, 600);
	case 2:
		return 4096 * (1 + soak_random(soak, 8));
	case 3:
	case 4:
	case 5:
		return 1 + soak_random(soak, 20000);
	case 6:
	case 7:
		return 1 + soak_random(soak, 200000);
	case 8:
		return 1 + soak_random(soak, 1 << 20);
	default:
		return 1 + soak_random(soak, 3 << 20);
	}
}

/* --- descriptors --- */

static int open_count(const struct soak *soak)
{
	int n = 0;

	for (size_t i = 1; i < soak->model.node_count; i++)
		n += soak->model.nodes[i] && soak->model.nodes[i]->fd >= 0;
	return n;
}

static int descriptor(struct soak *soak, struct node *node)
{
	char path[SOAK_PATH];

	if (node->fd >= 0)
		return node->fd;
	soak_path(soak, node, soak_random(soak, 4), path);
	node->fd = open(path, O_RDWR | O_CLOEXEC);
	if (node->fd < 0)
		soak_failed(soak, "open", path);
	return node->fd;
}

static void let_go(struct soak *soak, struct node *node)
{
	int fd = node->fd;

	node->fd = -1;
	if (fd >= 0 && close(fd))
		soak_failed(soak, "close", "a file");
	if (node->unlinked)
		model_forget(&soak->model, node);
}

/* The step is done with it: it may stay open, so that the kernel writes when it likes, or be closed, which flushes. */
static void done_with(struct soak *soak, struct node *node)
{
	if (open_count(soak) > OPEN_MAX || !soak_random(soak, 3))
		let_go(soak, node);
}

static void sync_node(struct soak *soak, struct node *node)
{
	int fd = descriptor(soak, node);

	if (soak_random(soak, 3) ? fsync(fd) : fdatasync(fd))
		soak_failed(soak, "fsync", "a file");
	soak->fsyncs++;
	model_synced(&soak->model, node);
}

/* all: not only what was done there, everything. */
static void sync_dir(struct soak *soak, struct node *dir, bool all)
{
	char path[SOAK_PATH];
	int fd;

	soak_path(soak, dir, 0, path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		soak_failed(soak, "open", path);
	if (all) {
		/* A change of its own, behind all others. */
		model_touch(&soak->model, dir);
		if (futimens(fd, NULL))
			soak_failed(soak, "futimens", path);
	}
	if (fsync(fd))
		soak_failed(soak, "fsync", path);
	if (close(fd))
		soak_failed(soak, "close", path);
	soak->fsyncs++;
	model_synced(&soak->model, dir);
}

void work_sync_all(struct soak *soak)
{
	for (size_t i = 1; i < soak->model.node_count; i++) {
		struct node *node = soak->model.nodes[i];

		if (node && node->type == 'f' && !node->unlinked && node->changes) {
			sync_node(soak, node);
			done_with(soak, node);
		}
	}
	sync_dir(soak, model_node(&soak->model, MODEL_ROOT), true);
	if (model_snapshot(&soak->model))
		exit(SOAK_BAD);
}

/* --- bytes --- */

static void whole_write(struct soak *soak, int fd, const uint8_t *bytes, uint64_t off, size_t len, int flags)
{
	while (len) {
		struct iovec iov = { (void *)(uintptr_t)bytes, len };
		ssize_t n = pwritev2(fd, &iov, 1, (off_t)off, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			soak_failed(soak, "write", "a file");
		bytes += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
}

static void write_direct(struct soak *soak, struct node *node, uint64_t off, size_t len)
{
	char path[SOAK_PATH];
	int fd;

	/* By its descriptor: it may have no name any more. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor(soak, node));
	fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		soak_failed(soak, "open", path);
	whole_write(soak, fd, soak->buffer, off, len, 0);
	if (close(fd))
		soak_failed(soak, "close", path);
}

static void write_mapped(struct soak *soak, struct node *node, uint64_t off, size_t len)
{
	uint64_t from = off & ~(PAGE - 1);
	size_t size = (size_t)(off + len - from);
	uint8_t *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor(soak, node), (off_t)from);

	if (at == MAP_FAILED)
		soak_failed(soak, "mmap", "a file");
	memcpy(at + (off - from), soak->buffer, len);
	if (!soak_random(soak, 4) && msync(at, size, MS_SYNC))
		soak_failed(soak, "msync", "a file");
	if (munmap(at, size))
		soak_failed(soak, "munmap", "a file");
}

static void write_some(struct soak *soak, struct node *node, uint64_t off, uint64_t len)
{
	uint64_t way = soak_random(soak, 10);
	uint32_t gen = node->gen + 1;
	bool mapped;

	if (len > SOAK_CHUNK)
		len = SOAK_CHUNK;
	/* Before it is named in the model: opening may fail, too. */
	descriptor(soak, node);
	if (way < 2) {
		off &= ~(PAGE - 1);
		len = (len + PAGE - 1) & ~(PAGE - 1);
	}
	if (way == 2 && off < node->size && len > node->size - off)
		len = node->size - off;
	mapped = way == 2 && off + len <= node->size;
	bytes_fill(soak->buffer, node->id, gen, off, (size_t)len);
	model_change(&soak->model, node, CHANGE_WRITE, off, off + len, gen);
	if (way < 2) {
		write_direct(soak, node, off, (size_t)len);
	} else if (mapped) {
		write_mapped(soak, node, off, (size_t)len);
	} else if (way == 3 && node->changes == 1) {
		/* Nothing else of this file is pending: so this makes all of it durable. */
		whole_write(soak, node->fd, soak->buffer, off, (size_t)len, RWF_DSYNC);
		soak->fsyncs++;
		model_synced(&soak->model, node);
	} else {
		whole_write(soak, node->fd, soak->buffer, off, (size_t)len, 0);
	}
}

static void step_write(struct soak *soak, struct node *node)
{
	uint64_t off = 0, len = some_size(soak);

	if (node->gen >= BYTES_GEN_MAX - 8)
		return;
	switch (soak_random(soak, 8)) {
	case 0:
		/* Behind a hole. */
		off = node->size + soak_random(soak, 3 << 20);
		break;
	case 1:
		/* Far behind one. */
		if (len > 300000)
			len = 300000;
		if (!soak_random(soak, 8))
			off = soak_random(soak, FAR);
		else
			off = node->size;
		break;
	case 2:
	case 3:
		off = node->size;
		break;
	default:
		off = node->size ? soak_random(soak, node->size) : 0;
		if (node->live.n && soak_random(soak, 4)) {
			const struct extent *e = &node->live.e[soak_random(soak, node->live.n)];

			off = e->off + soak_random(soak, e->end - e->off);
		}
		break;
	}
	write_some(soak, node, off, len);
}

static void step_truncate(struct soak *soak, struct node *node)
{
	uint64_t size = node->size;

	switch (soak_random(soak, 5)) {
	case 0:
		size = 0;
		break;
	case 1:
		size += soak_random(soak, 2 << 20);
		break;
	case 2:
		size = size / PAGE * PAGE;
		break;
	default:
		size = size ? soak_random(soak, size) : 0;
		break;
	}
	descriptor(soak, node);
	model_change(&soak->model, node, CHANGE_SIZE, 0, size, 0);
	if (ftruncate(node->fd, (off_t)size))
		soak_failed(soak, "ftruncate", "a file");
}

static void step_allocate(struct soak *soak, struct node *node)
{
	uint64_t off = node->size ? soak_random(soak, node->size) : 0, len = some_size(soak);
	int mode = 0;

	if (node->live.n && soak_random(soak, 4))
		off = node->live.e[soak_random(soak, node->live.n)].off;
	descriptor(soak, node);
	switch (soak_random(soak, 4)) {
	case 0:
		model_change(&soak->model, node, CHANGE_GROW, 0, off + len, 0);
		break;
	case 1:
		mode = FALLOC_FL_KEEP_SIZE;
		break;
	case 2:
		mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
		model_change(&soak->model, node, CHANGE_ZERO, off, off + len, 0);
		break;
	default:
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		/* Whole blocks, too. */
		if (!soak_random(soak, 3))
			len += 4 << 20;
		model_change(&soak->model, node, CHANGE_ZERO, off, off + len, 0);
		break;
	}
	if (fallocate(node->fd, mode, (off_t)off, (off_t)len))
		soak_failed(soak, "fallocate", "a file");
}

static void step_read(struct soak *soak, struct node *node)
{
	int fd = descriptor(soak, node);
	struct stat st;
	bool good;

	if (fstat(fd, &st))
		soak_failed(soak, "fstat", "a file");
	if ((uint64_t)st.st_size != node->size || (uint64_t)st.st_ino != node->ino) {
		fprintf(stderr, "FAILED: file %" PRIu32 " has size %" PRIu64 " and inode %" PRIu64 ", not %" PRIu64 " and %" PRIu64 "\n", node->id,
			(uint64_t)st.st_size, (uint64_t)st.st_ino, node->size, node->ino);
		soak_finding(soak);
	}
	/* From the bricks, and not from the kernel's pages, but for those that are not yet written. */
	if (soak_random(soak, 2))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (node->size > 256 << 10 && soak_random(soak, 8)) {
		uint64_t off = soak_random(soak, node->size - (128 << 10));

		if (node->live.n && soak_random(soak, 4))
			off = node->live.e[soak_random(soak, node->live.n)].off;
		good = settle_range(soak, node, fd, off, node->size - off < 128 << 10 ? (size_t)(node->size - off) : 128 << 10);
	} else {
		good = settle_bytes(soak, node, fd, node->size, true, NULL);
	}
	if (!good)
		soak_finding(soak);
}

/* --- names --- */

/* A name is gone: of a node that is open, the node lives on. */
static void name_gone(struct soak *soak, uint32_t id)
{
	struct node *node = model_node(&soak->model, id);

	if (names_of(&soak->model.live, id))
		return;
	node->unlinked = true;
	if (node->fd < 0)
		model_forget(&soak->model, node);
}

static void step_make(struct soak *soak, char type)
{
	struct node *dir = pick_dir(soak), *node = model_new_node(&soak->model, type);
	struct name_change c = { .kind = 'A', .parent = dir->id, .node = node->id };
	char path[SOAK_PATH], target[MODEL_NAME];
	struct stat st;

	c.mode = type == 'd' ? 0755 : type == 'l' ? 0777 : soak_random(soak, 2) ? 0644 : 0600;
	snprintf(c.name, sizeof(c.name), "%c%" PRIu32, type, node->id);
	soak_entry_path(soak, c.parent, c.name, path);
	model_change_names(&soak->model, &c);
	switch (type) {
	case 'd':
		if (mkdir(path, c.mode))
			soak_failed(soak, "mkdir", path);
		break;
	case 'l':
		snprintf(target, sizeof(target), "target-of-%" PRIu32, node->id);
		if (symlink(target, path))
			soak_failed(soak, "symlink", path);
		break;
	default:
		node->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, c.mode);
		if (node->fd < 0)
			soak_failed(soak, "create", path);
		break;
	}
	if (lstat(path, &st))
		soak_failed(soak, "lstat", path);
	model_made(&soak->model, node, st.st_ino);
	soak->made++;
	if (type == 'f') {
		if (soak_random(soak, 8))
			write_some(soak, node, 0, some_size(soak));
		done_with(soak, node);
	}
}

static void step_link(struct soak *soak)
{
	struct node *node = pick(soak, "f"), *dir = pick_dir(soak);
	struct name_change c = { .kind = 'A', .parent = dir->id };
	char path[SOAK_PATH], to[SOAK_PATH];
	const struct entry *e;

	if (!node)
		return;
	for (e = soak->model.live.e; e->node != node->id; e++)
		;
	c.node = node->id;
	c.mode = e->mode;
	soak_entry_path(soak, e->parent, e->name, path);
	snprintf(c.name, sizeof(c.name), "h%" PRIu32 ".%" PRIu64, node->id, serial(soak));
	soak_entry_path(soak, c.parent, c.name, to);
	model_change_names(&soak->model, &c);
	if (link(path, to))
		soak_failed(soak, "link", to);
}

static bool below(const struct soak *soak, uint32_t dir, uint32_t above)
{
	while (dir != above && dir != MODEL_ROOT) {
		const struct entry *e = soak->model.live.e;

		while (e->node != dir)
			e++;
		dir = e->parent;
	}
	return dir == above;
}

static void step_rename(struct soak *soak)
{
	struct entry *from = pick_entry(soak, soak_random(soak, 6) ? "fl" : "d"), *over = NULL;
	struct node *dir = pick_dir(soak);
	struct name_change c = { .kind = 'M' };
	char path[SOAK_PATH], to[SOAK_PATH];
	unsigned flags = 0;
	uint32_t replaced = 0;

	if (!from || (model_node(&soak->model, from->node)->type == 'd' && below(soak, dir->id, from->node)))
		return;
	c.parent = from->parent;
	memcpy(c.name, from->name, sizeof(c.name));
	c.node = from->node;
	c.to_parent = dir->id;
	snprintf(c.to_name, sizeof(c.to_name), "r%" PRIu32 ".%" PRIu64, from->node, serial(soak));
	if (model_node(&soak->model, from->node)->type != 'd' && soak_random(soak, 2))
		over = pick_entry(soak, "fl");
	if (over && over->node != from->node) {
		c.to_parent = over->parent;
		memcpy(c.to_name, over->name, sizeof(c.to_name));
		replaced = over->node;
		if (!soak_random(soak, 4)) {
			c.kind = 'X';
			flags = RENAME_EXCHANGE;
		}
	}
	soak_entry_path(soak, c.parent, c.name, path);
	soak_entry_path(soak, c.to_parent, c.to_name, to);
	model_change_names(&soak->model, &c);
	if (renameat2(AT_FDCWD, path, AT_FDCWD, to, flags))
		soak_failed(soak, "rename", to);
	if (replaced && c.kind == 'M')
		name_gone(soak, replaced);
}

static void step_remove(struct soak *soak)
{
	const struct entry *e = pick_entry(soak, soak_random(soak, 10) ? "fl" : "d");
	struct name_change c = { .kind = 'D' };
	char path[SOAK_PATH];
	bool dir;

	if (!e)
		return;
	dir = model_node(&soak->model, e->node)->type == 'd';
	for (size_t i = 0; i < soak->model.live.n && dir; i++) {
		if (soak->model.live.e[i].parent == e->node)
			return;
	}
	c.parent = e->parent;
	c.node = e->node;
	memcpy(c.name, e->name, sizeof(c.name));
	soak_entry_path(soak, c.parent, c.name, path);
	model_change_names(&soak->model, &c);
	if (dir ? rmdir(path) : unlink(path))
		soak_failed(soak, dir ? "rmdir" : "unlink", path);
	name_gone(soak, c.node);
}

static void step_chmod(struct soak *soak)
{
	struct node *node = pick(soak, "fd");
	struct name_change c = { .kind = 'P' };
	char path[SOAK_PATH];

	if (!node)
		return;
	c.node = node->id;
	c.mode = 0600 | (uint32_t)soak_random(soak, 0200);
	if (node->type == 'd')
		c.mode |= 0111;
	soak_path(soak, node, 0, path);
	model_change_names(&soak->model, &c);
	if (chmod(path, c.mode))
		soak_failed(soak, "chmod", path);
}

/* One that has no name any more, or none. */
static struct node *pick_unlinked(struct soak *soak)
{
	for (size_t i = soak->model.node_count; i-- > 1; ) {
		struct node *node = soak->model.nodes[i];

		if (node && node->unlinked && node->type == 'f')
			return node;
	}
	return NULL;
}

static void step_unlinked(struct soak *soak)
{
	struct node *node = pick_unlinked(soak);

	if (!node)
		return;
	switch (node->changes > CHANGES_MAX ? 2 : soak_random(soak, 4)) {
	case 0:
		let_go(soak, node);
		break;
	case 1:
		step_write(soak, node);
		break;
	case 2:
		sync_node(soak, node);
		break;
	default:
		step_read(soak, node);
		break;
	}
}

/* Percent of the volume that is free: one that is full is another test's affair. */
static uint64_t free_percent(struct soak *soak)
{
	struct statvfs st;

	if (soak->steps % 32 == 0) {
		if (statvfs(soak->top, &st))
			soak_failed(soak, "statvfs", soak->top);
		soak->free_percent = st.f_bavail * 100 / (st.f_blocks + 1);
	}
	return soak->free_percent;
}

static void step(struct soak *soak)
{
	bool full = free_percent(soak) < 40 || count(soak, 'f') > FILES_MAX;
	uint64_t what = soak_random(soak, 100);
	struct node *node = pick(soak, "f");
	size_t taken;

	if (soak->model.journaled > JOURNAL_MAX) {
		work_sync_all(soak);
	} else if (soak->model.changes > NAME_CHANGES_MAX) {
		sync_dir(soak, pick_dir(soak), true);
	} else if (node && node->changes > CHANGES_MAX) {
		sync_node(soak, node);
		done_with(soak, node);
	} else if (what < 14 && !full) {
		step_make(soak, what < 11 || count(soak, 'd') >= DIRS_MAX ? (what < 12 ? 'f' : 'l') : 'd');
	} else if (what < 22 || (full && what < 30)) {
		step_remove(soak);
	} else if (what < 26) {
		step_rename(soak);
	} else if (what < 28) {
		step_link(soak);
	} else if (what < 30) {
		step_chmod(soak);
	} else if (what < 33) {
		step_unlinked(soak);
	} else if (what < 36) {
		sync_dir(soak, pick_dir(soak), !soak_random(soak, 4));
	} else if (what < 37 && !soak_random(soak, 5)) {
		if (!settle_names(soak, true, &taken))
			soak_finding(soak);
	} else if (node) {
		if (what < 60 && free_percent(soak) > 25)
			step_write(soak, node);
		else if (what < 64 || (full && what < 68))
			step_truncate(soak, node);
		else if (what < 68 && free_percent(soak) > 25)
			step_allocate(soak, node);
		else if (what < 80)
			sync_node(soak, node);
		else
			step_read(soak, node);
		done_with(soak, node);
	}
	soak->steps++;
}

void work(struct soak *soak)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (!soak_stop) {
		step(soak);
		/* Now and then a time in which things happen by themselves. */
		if (!soak_random(soak, 8))
			nanosleep(&pause, NULL);
		else if (!soak_random(soak, 500))
			nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	}
	work_sync_all(soak);
}
