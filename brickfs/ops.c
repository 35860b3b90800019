/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ops - the operations on names and attributes.
 *
 * Each checks that its records fit (room_admit), then under fs->lock changes the
 * namespace and appends its records to the open batch, all or nothing: memory is
 * taken before the first change.
 */
#include "file.h"
#include "mutate.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

static int check_name(const char *name, size_t *length)
{
	*length = strlen(name);
	if (*length > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (!*length || strchr(name, '/'))
		return -EINVAL;
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return -EEXIST;
	return 0;
}

/* Under fs->lock: a directory that can get entries. */
static int find_dir(struct fs *fs, uint64_t ino, struct inode **dir)
{
	*dir = ns_find(fs, ino);
	if (!*dir || (*dir)->gone)
		return -ESTALE;
	return (*dir)->dir ? 0 : -ENOTDIR;
}

static int find_live_dir(struct fs *fs, uint64_t ino, struct inode **dir)
{
	int r = find_dir(fs, ino, dir);

	if (!r && !(*dir)->nlink)
		r = -ENOENT;
	/* No directory comes here by itself; what is written must be taken back by the next mount. */
	if (!r && (*dir)->dir->next_cookie > FMT_COOKIE_MAX / 2)
		r = -ENOSPC;
	return r;
}

int fs_lookup(struct fs *fs, uint64_t parent, const char *name, struct stat *st)
{
	size_t length = strlen(name);
	struct inode *dir;
	struct dentry *d;
	int r = fs_stopped(fs);

	if (r)
		return r;
	if (length > FS_NAME_MAX)
		return -ENAMETOOLONG;
	pthread_mutex_lock(&fs->lock);
	r = find_dir(fs, parent, &dir);
	if (!r) {
		d = ns_lookup(fs, dir, name, length);
		if (d) {
			d->inode->references++;
			ns_stat(fs, d->inode, st);
		} else {
			r = -ENOENT;
		}
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t references)
{
	struct inode *i;

	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i) {
		i->references -= references < i->references ? references : i->references;
		inode_put(fs, i);
		log_trim(fs);
	}
	pthread_mutex_unlock(&fs->lock);
}

int fs_getattr(struct fs *fs, uint64_t ino, struct stat *st)
{
	struct inode *i;

	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i)
		ns_stat(fs, i, st);
	pthread_mutex_unlock(&fs->lock);
	return i ? 0 : -ESTALE;
}

int fs_setattr(struct fs *fs, uint64_t ino, const struct stat *in, unsigned which, struct stat *st)
{
	struct timespec now;
	struct inode *i;
	uint64_t batch;
	int r = fs_writable(fs);

	if (!r)
		r = room_admit(fs, 0, true);
	if (r)
		return r;
	i = inode_pin(fs, ino);
	if (!i)
		return -ESTALE;
	if (which & FS_SET_SIZE) {
		r = S_ISREG(i->mode) ? file_truncate(fs, i, (uint64_t)in->st_size) : S_ISDIR(i->mode) ? -EISDIR : -EINVAL;
		if (r)
			goto out;
	}
	fs_now(&now);
	pthread_mutex_lock(&fs->lock);
	if (!log_begin(fs, 0)) {
		pthread_mutex_unlock(&fs->lock);
		r = -ENOMEM;
		goto out;
	}
	if (which & FS_SET_MODE)
		i->mode = (i->mode & S_IFMT) | (in->st_mode & 07777);
	if (which & FS_SET_UID)
		i->uid = in->st_uid;
	if (which & FS_SET_GID)
		i->gid = in->st_gid;
	if (which & (FS_SET_ATIME | FS_SET_ATIME_NOW))
		i->atime = which & FS_SET_ATIME_NOW ? now : in->st_atim;
	if (which & (FS_SET_MTIME | FS_SET_MTIME_NOW))
		i->mtime = which & FS_SET_MTIME_NOW ? now : in->st_mtim;
	i->ctime = which & FS_SET_CTIME ? in->st_ctim : now;
	log_mark_dirty(fs, i);
	batch = i->batch;
	ns_stat(fs, i, st);
	pthread_mutex_unlock(&fs->lock);
	r = fs_end(fs, batch);
out:
	inode_unpin(fs, i);
	return r;
}

/* ---- making */

static int make(struct fs *fs, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const char *target,
		const struct fs_cred *cred, struct stat *st)
{
	size_t length, target_length = target ? strlen(target) : 0, size;
	struct inode *dir, *i = NULL;
	struct dentry *d = NULL;
	uint64_t ino, batch = 0;
	int r = check_name(name, &length);

	if (!r)
		r = fs_writable(fs);
	if (r)
		return r;
	size = fmt_dentry_size((unsigned)length);
	r = room_admit(fs, size + fmt_inode_size(FMT_INLINE, (uint32_t)target_length), false);
	if (!r)
		r = marks_take(fs, FMT_MARK_INO, 1, &ino);
	if (r)
		return r;

	pthread_mutex_lock(&fs->lock);
	r = find_live_dir(fs, parent, &dir);
	if (!r && ns_lookup(fs, dir, name, length))
		r = -EEXIST;
	if (r)
		goto out;
	r = -ENOMEM;
	i = ns_new_inode(fs, ino);
	d = i ? ns_new_dentry(dir, i, name, length) : NULL;
	if (!d || ns_reserve_dentry(fs, dir) || (S_ISDIR(mode) && ns_make_dir(i)) || !log_begin(fs, size))
		goto fail;
	if (target) {
		i->data = malloc(target_length);
		if (!i->data)
			goto fail;
		memcpy(i->data, target, target_length);
		i->size = i->prepared = target_length;
		i->length = (uint32_t)target_length;
	}
	fs_now(&i->ctime);
	i->atime = i->mtime = i->ctime;
	i->mode = S_ISLNK(mode) ? mode : (mode & ~cred->umask & ~(mode_t)S_IFMT) | (mode & S_IFMT);
	i->uid = cred->uid;
	i->gid = cred->gid;
	if (dir->mode & S_ISGID) {
		i->gid = dir->gid;
		if (S_ISDIR(mode))
			i->mode |= S_ISGID;
	}
	i->nlink = 1;
	i->rdev = S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0;
	i->known = true;
	i->references = 1;
	d->cookie = dir->dir->next_cookie;
	d->time = i->ctime;
	ns_add_dentry(fs, d, true);
	dir->mtime = dir->ctime = i->ctime;
	log_put_dentry(fs, d);
	log_mark_dirty(fs, i);
	batch = i->batch;
	ns_stat(fs, i, st);
	r = 0;
	goto out;
fail:
	free(d);
	if (i)
		ns_free_inode(fs, i);
out:
	pthread_mutex_unlock(&fs->lock);
	return r ? r : fs_end(fs, batch);
}

int fs_mknod(struct fs *fs, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const struct fs_cred *cred, struct stat *st)
{
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	if (S_ISDIR(mode) || S_ISLNK(mode))
		return -EINVAL;
	return make(fs, parent, name, mode, rdev, NULL, cred, st);
}

int fs_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode, const struct fs_cred *cred, struct stat *st)
{
	return make(fs, parent, name, (mode & ~(mode_t)S_IFMT) | S_IFDIR, 0, NULL, cred, st);
}

int fs_symlink(struct fs *fs, const char *target, uint64_t parent, const char *name, const struct fs_cred *cred, struct stat *st)
{
	size_t length = strlen(target);

	if (!length)
		return -ENOENT;
	if (length > FS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return make(fs, parent, name, S_IFLNK | 0777, 0, target, cred, st);
}

int fs_link(struct fs *fs, uint64_t ino, uint64_t parent, const char *name, struct stat *st)
{
	struct inode *dir, *i;
	struct dentry *d = NULL;
	size_t length, size;
	uint64_t batch = 0;
	int r = check_name(name, &length);

	if (!r)
		r = fs_writable(fs);
	if (r)
		return r;
	size = fmt_dentry_size((unsigned)length);
	r = room_admit(fs, size, false);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	r = i ? find_live_dir(fs, parent, &dir) : -ESTALE;
	if (!r && ns_lookup(fs, dir, name, length))
		r = -EEXIST;
	if (!r && i->dir)
		r = -EPERM;
	if (!r && !i->nlink)
		r = -ENOENT;
	if (!r && i->nlink >= FS_LINK_MAX)
		r = -EMLINK;
	if (r)
		goto out;
	d = ns_new_dentry(dir, i, name, length);
	if (!d || ns_reserve_dentry(fs, dir) || !log_begin(fs, size)) {
		free(d);
		r = -ENOMEM;
		goto out;
	}
	fs_now(&d->time);
	d->cookie = dir->dir->next_cookie;
	ns_add_dentry(fs, d, true);
	log_put_dentry(fs, d);
	dir->mtime = dir->ctime = i->ctime = d->time;
	i->nlink++;
	i->references++;
	log_mark_dirty(fs, i);
	batch = i->batch;
	ns_stat(fs, i, st);
out:
	pthread_mutex_unlock(&fs->lock);
	return r ? r : fs_end(fs, batch);
}

/* ---- removing */

/* Under fs->lock, after log_begin(): the entry goes, and a link of its inode. The inode may be gone afterwards. */
static void drop_link(struct fs *fs, struct dentry *d, const struct timespec *now)
{
	struct inode *i = d->inode, *dir = d->dir;

	log_put_dentry_gone(fs, d, now);
	ns_remove_dentry(fs, d);
	dir->mtime = dir->ctime = *now;
	i->nlink = i->dir ? 0 : i->nlink - 1;
	i->ctime = *now;
	log_mark_dirty(fs, i);
	inode_put(fs, i);
}

static bool empty(const struct inode *dir)
{
	return dir->dir->used == dir->dir->removed;
}

static int drop_name(struct fs *fs, uint64_t parent, const char *name, bool directory)
{
	size_t length = strlen(name);
	struct timespec now;
	struct inode *dir;
	struct dentry *d = NULL;
	uint64_t batch = 0;
	int r = fs_writable(fs);

	if (!r)
		r = length > FS_NAME_MAX ? -ENAMETOOLONG : room_admit(fs, 0, true);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	r = find_dir(fs, parent, &dir);
	if (!r) {
		d = ns_lookup(fs, dir, name, length);
		r = d ? 0 : -ENOENT;
	}
	if (!r && directory)
		r = !d->inode->dir ? -ENOTDIR : empty(d->inode) ? 0 : -ENOTEMPTY;
	else if (!r && d->inode->dir)
		r = -EISDIR;
	if (!r) {
		batch = log_begin(fs, FMT_DENTRY_GONE_SIZE + FMT_GONE_SIZE);
		if (!batch)
			r = -ENOMEM;
	}
	if (!r) {
		fs_now(&now);
		drop_link(fs, d, &now);
	}
	pthread_mutex_unlock(&fs->lock);
	return r ? r : fs_end(fs, batch);
}

int fs_unlink(struct fs *fs, uint64_t parent, const char *name)
{
	return drop_name(fs, parent, name, false);
}

int fs_rmdir(struct fs *fs, uint64_t parent, const char *name)
{
	return drop_name(fs, parent, name, true);
}

/* ---- rename */

/* True if `dir` is `inode` or lies below it. */
static bool below(struct inode *dir, const struct inode *inode)
{
	for (;; dir = dir->dir->parent) {
		if (dir == inode)
			return true;
		if (!dir->dir->parent || dir->dir->parent == dir)
			return false;
	}
}

/* Moves an entry: the new one stands ready. The old one is freed. */
static void move(struct fs *fs, struct dentry *from, struct dentry *to, const struct timespec *now)
{
	struct inode *i = from->inode, *dir = from->dir;

	log_put_dentry_gone(fs, from, now);
	ns_remove_dentry(fs, from);
	to->cookie = to->dir->dir->next_cookie;
	to->time = *now;
	ns_add_dentry(fs, to, true);
	log_put_dentry(fs, to);
	dir->mtime = dir->ctime = to->dir->mtime = to->dir->ctime = i->ctime = *now;
	log_mark_dirty(fs, i);
	/* The new name never shows data that is not durable. */
	if (i->form != FMT_INLINE)
		fs->log.open->persist = true;
}

static int may_replace(const struct dentry *from, const struct dentry *to)
{
	if (!to->inode->dir)
		return from->inode->dir ? -ENOTDIR : 0;
	if (!from->inode->dir)
		return -EISDIR;
	return empty(to->inode) ? 0 : -ENOTEMPTY;
}

int fs_rename(struct fs *fs, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name, unsigned flags)
{
	struct dentry *from, *to, *a = NULL, *b = NULL;
	struct inode *dir, *new_dir;
	size_t length = strlen(name), new_length, size;
	struct timespec now;
	uint64_t batch = 0;
	bool exchange = flags & RENAME_EXCHANGE;
	int r;

	if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	r = length > FS_NAME_MAX ? -ENAMETOOLONG : check_name(new_name, &new_length);
	if (!r)
		r = fs_writable(fs);
	if (r)
		return r;
	size = 2 * (fmt_dentry_size((unsigned)length) + fmt_dentry_size((unsigned)new_length) + FMT_DENTRY_GONE_SIZE) +
	       FMT_GONE_SIZE;
	r = room_admit(fs, size, false);
	if (r)
		return r;

	pthread_mutex_lock(&fs->lock);
	r = find_dir(fs, parent, &dir);
	if (!r)
		r = find_live_dir(fs, new_parent, &new_dir);
	if (r)
		goto out;
	from = ns_lookup(fs, dir, name, length);
	to = ns_lookup(fs, new_dir, new_name, new_length);
	if (!from || (exchange && !to))
		r = -ENOENT;
	else if (to && (flags & RENAME_NOREPLACE))
		r = -EEXIST;
	else if (to && to->inode == from->inode)
		goto out;		/* two names of one file: nothing to do */
	else if (from->inode->dir && below(new_dir, from->inode))
		r = -EINVAL;
	else if (to && to->inode->dir && below(dir, to->inode))
		r = exchange ? -EINVAL : -ENOTEMPTY;
	else if (to && !exchange)
		r = may_replace(from, to);
	if (r)
		goto out;

	a = ns_new_dentry(new_dir, from->inode, new_name, new_length);
	b = exchange ? ns_new_dentry(dir, to->inode, name, length) : NULL;
	if (!a || (exchange && !b) || ns_reserve_dentry(fs, new_dir) || (exchange && ns_reserve_dentry(fs, dir)) ||
	    !(batch = log_begin(fs, size))) {
		free(a);
		free(b);
		r = -ENOMEM;
		goto out;
	}
	fs_now(&now);
	if (exchange) {
		move(fs, from, a, &now);
		move(fs, to, b, &now);
	} else {
		if (to)
			drop_link(fs, to, &now);
		move(fs, from, a, &now);
	}
out:
	pthread_mutex_unlock(&fs->lock);
	return r ? r : fs_end(fs, batch);
}

/* ---- the rest */

int fs_readlink(struct fs *fs, uint64_t ino, char *buffer, size_t size)
{
	struct inode *i;
	int r = fs_stopped(fs);

	if (r)
		return r;
	r = -ESTALE;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i) {
		r = !S_ISLNK(i->mode) ? -EINVAL : i->length >= size ? -ENAMETOOLONG : 0;
		if (!r) {
			if (i->length)
				memcpy(buffer, i->data, i->length);
			buffer[i->length] = 0;
		}
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int fs_open(struct fs *fs, uint64_t ino, bool write)
{
	struct inode *i;
	int r = write ? fs_writable(fs) : fs_stopped(fs);

	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i)
		i->opens++;
	pthread_mutex_unlock(&fs->lock);
	return i ? 0 : -ESTALE;
}

int fs_release(struct fs *fs, uint64_t ino)
{
	struct inode *i;

	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i && i->opens) {
		i->opens--;
		inode_put(fs, i);
		log_trim(fs);
	}
	pthread_mutex_unlock(&fs->lock);
	return i ? 0 : -ESTALE;
}

/* Under fs->lock. */
static int take_wb_error(struct inode *i)
{
	int r = i->wb_error;

	i->wb_error = 0;
	return r;
}

int fs_flush(struct fs *fs, uint64_t ino)
{
	struct inode *i;
	int r = 0;

	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i)
		r = take_wb_error(i);
	pthread_mutex_unlock(&fs->lock);
	return r;
}

/*
 * Every write touched the inode, so that its batch is one that was closed after the write was
 * done, and is written only after a persist of all that was written before it.  A hole is one when its
 * blocks are free: no record says so.
 */
int fs_fsync(struct fs *fs, uint64_t ino, bool datasync)
{
	struct inode *i, *holed = NULL;
	uint64_t batch;
	int r;

	if (fs->readonly)
		return fs_stopped(fs);
	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	batch = i ? i->batch : 0;
	r = i ? take_wb_error(i) : -ESTALE;
	if (!r && i->holes) {
		holed = i;
		holed->pins++;
	}
	pthread_mutex_unlock(&fs->lock);
	if (r)
		return r;
	if (atomic_load(&fs->error) || vol_error(fs->vol) || (!MUTATED(FSYNC_EARLY) && log_wait(fs, batch)))
		r = -EIO;
	if (holed) {
		if (!r)
			r = drops_wait(fs, holed);
		inode_unpin(fs, holed);
	}
	return r;
}

int fs_readdir(struct fs *fs, uint64_t ino, uint64_t from, bool plus, fs_dirent_fn fn, void *arg)
{
	struct inode *i;
	struct stat st;
	int r = fs_stopped(fs);

	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	r = find_dir(fs, ino, &i);
	if (r || !i->nlink)
		goto out;
	for (unsigned dot = 1; dot <= 2; dot++) {
		if (from >= dot)
			continue;
		ns_stat(fs, dot == 1 ? i : i->dir->parent, &st);
		if (fn(arg, dot == 1 ? "." : "..", dot, &st))
			goto out;
	}
	for (uint32_t k = ns_slot_after(i->dir, from < 2 ? 2 : from); k < i->dir->used; k++) {
		struct dentry *d = i->dir->slot[k].dentry;

		if (!d)
			continue;
		if (plus) {
			ns_stat(fs, d->inode, &st);
		} else {
			memset(&st, 0, sizeof(st));
			st.st_ino = d->inode->ino;
			st.st_mode = d->inode->mode;
		}
		if (fn(arg, d->name, d->cookie, &st))
			break;
		if (plus)
			d->inode->references++;
	}
out:
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int fs_statfs(struct fs *fs, struct statvfs *st)
{
	const uint64_t pages = FMT_PAGES_PER_BLOCK;
	uint64_t unused;

	memset(st, 0, sizeof(*st));
	pthread_mutex_lock(&fs->lock);
	unused = space_available(fs);
	st->f_bsize = FMT_PAGE;
	st->f_frsize = FMT_PAGE;
	st->f_blocks = (vol_capacity(fs->vol) - vol_bricks(fs->vol)) * pages;
	st->f_bfree = st->f_bavail = unused * pages;
	/* Inodes are log records: as many as fit. */
	st->f_ffree = st->f_favail = unused * (FMT_BLOCK / 256);
	st->f_files = fs->inode_count + st->f_ffree;
	st->f_namemax = FS_NAME_MAX;
	pthread_mutex_unlock(&fs->lock);
	return 0;
}
