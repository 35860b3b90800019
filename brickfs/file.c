/* SPDX-License-Identifier: BSD-3-Clause */
/* file - reading and writing. See file.h. */
#include "file.h"
#include "mutate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (8u << 20)	/* a larger request is done piece by piece */
#define DAY 86400

int file_touch(struct fs *fs, struct inode *i)
{
	if (!log_begin(fs, 0))
		return -ENOMEM;
	fs_now(&i->mtime);
	i->ctime = i->mtime;
	log_mark_dirty(fs, i);
	return 0;
}

int file_lock_settled(struct fs *fs, struct inode *i)
{
	for (;;) {
		uint32_t drops;
		int r;

		pthread_rwlock_wrlock(&i->io);
		pthread_mutex_lock(&fs->lock);
		drops = i->drops;
		pthread_mutex_unlock(&fs->lock);
		if (!drops || MUTATED(DROPS_IGNORED))
			return 0;
		pthread_rwlock_unlock(&i->io);
		r = drops_wait(fs, i);
		if (r)
			return r;
	}
}

int file_zero(struct fs *fs, struct inode *i, uint64_t from, uint64_t to)
{
	struct io_list list = { .n = 0 };
	int r = 0;

	if (i->form == FMT_RUN) {
		struct vol_io io = { i->run + from, file_zeroes, 0, true };

		if (to > shape_run_bytes(i))
			to = shape_run_bytes(i);
		if (from >= to)
			return 0;
		io.length = (uint32_t)(to - from);
		return vol_io(fs->vol, &io, 1);
	}
	while (i->form == FMT_RANGES && from < to && !r) {
		uint64_t fblock = from >> FMT_BLOCK_SHIFT, end = (fblock + 1) << FMT_BLOCK_SHIFT;
		uint64_t addr = shape_existing(fs, i, fblock);

		if (!addr && !shape_addr(i, fblock)) {	/* on to the next range */
			uint32_t k = 0;

			while (k < i->length && i->ranges[k].fblock <= fblock)
				k++;
			if (k == i->length)
				break;
			from = (uint64_t)i->ranges[k].fblock << FMT_BLOCK_SHIFT;
			continue;
		}
		if (end > to)
			end = to;
		if (addr)
			list.io[list.n++] = (struct vol_io){ addr + (from & (FMT_BLOCK - 1)), file_zeroes,
							     (uint32_t)(end - from), true };
		from = end;
		if (list.n == FILE_IOS) {
			r = vol_io(fs->vol, list.io, list.n);
			list.n = 0;
		}
	}
	return r || !list.n ? r : vol_io(fs->vol, list.io, list.n);
}

/* The pieces of [offset, offset + size), which all exist. */
static void pieces(struct io_list *list, const struct inode *i, void *buffer, size_t size, uint64_t offset, bool write)
{
	uint8_t *p = buffer;

	if (i->form == FMT_RUN) {
		list->io[list->n++] = (struct vol_io){ i->run + offset, p, (uint32_t)size, write };
		return;
	}
	while (size) {
		uint64_t in = offset & (FMT_BLOCK - 1);
		size_t length = size < FMT_BLOCK - in ? size : FMT_BLOCK - in;

		list->io[list->n++] = (struct vol_io){ shape_addr(i, offset >> FMT_BLOCK_SHIFT) + in, p,
						       (uint32_t)length, write };
		p += length;
		offset += length;
		size -= length;
	}
}

/* ---- read */

static void relatime(struct fs *fs, struct inode *i)
{
	struct timespec now;

	/* Reading is not admitted as a change is: it does not take what the log needs. */
	if (fs->options.noatime || fs_writable(fs) || log_is_tight(fs) || log_behind(fs) > 1)
		return;
	fs_now(&now);
	if (i->atime.tv_sec > i->mtime.tv_sec && i->atime.tv_sec > i->ctime.tv_sec && now.tv_sec - i->atime.tv_sec < DAY)
		return;
	if (i->atime.tv_sec == now.tv_sec || !log_begin(fs, 0))
		return;
	i->atime = now;
	log_mark_dirty(fs, i);
}

static int64_t read_chunk(struct fs *fs, struct inode *i, uint8_t *buffer, size_t size, uint64_t offset)
{
	struct io_list list = { .n = 0 };
	uint64_t covered;
	int r = 0;

	pthread_rwlock_rdlock(&i->io);
	pthread_mutex_lock(&fs->lock);
	if (offset >= i->size)
		size = 0;
	else if (size > i->size - offset)
		size = i->size - offset;
	if (size)
		relatime(fs, i);
	if (i->form == FMT_INLINE) {
		covered = offset < i->length ? i->length - offset : 0;
		if (covered > size)
			covered = size;
		if (covered)
			memcpy(buffer, i->data + offset, covered);
		memset(buffer + covered, 0, size - covered);
	} else if (i->form == FMT_RUN) {
		covered = offset < shape_run_bytes(i) ? shape_run_bytes(i) - offset : 0;
		if (covered > size)
			covered = size;
		if (covered && i->lossy)
			r = -EIO;
		else if (covered)
			pieces(&list, i, buffer, covered, offset, false);
		memset(buffer + covered, 0, size - covered);
	} else {
		for (size_t done = 0, length; done < size; done += length) {
			uint64_t at = offset + done, in = at & (FMT_BLOCK - 1);
			uint64_t addr = shape_existing(fs, i, at >> FMT_BLOCK_SHIFT);

			length = size - done < FMT_BLOCK - in ? size - done : FMT_BLOCK - in;
			if (addr)
				list.io[list.n++] = (struct vol_io){ addr + in, buffer + done, (uint32_t)length, false };
			else if (i->lossy)
				r = -EIO;	/* zeroes might be a wrong answer */
			else
				memset(buffer + done, 0, length);
		}
	}
	pthread_mutex_unlock(&fs->lock);
	if (!r && list.n)
		r = vol_io(fs->vol, list.io, list.n);
	pthread_rwlock_unlock(&i->io);
	return r ? r : (int64_t)size;
}

int64_t fs_read(struct fs *fs, uint64_t ino, void *buffer, size_t size, uint64_t offset)
{
	int64_t done = 0, r = fs_stopped(fs);
	struct inode *i;

	if (r)
		return r;
	i = inode_pin(fs, ino);
	if (!i)
		return -ESTALE;
	if (S_ISDIR(i->mode))
		r = -EISDIR;
	while (!r && (size_t)done < size) {
		size_t length = size - done < CHUNK ? size - done : CHUNK;

		r = read_chunk(fs, i, (uint8_t *)buffer + done, length, offset + done);
		if (r < 0)
			break;
		done += r;
		if ((size_t)r < length)
			break;
		r = 0;
	}
	inode_unpin(fs, i);
	return r < 0 ? r : done;
}

/* ---- write */

/* Under fs->lock: the data is there, now it is to be seen. */
static int publish(struct fs *fs, struct inode *i, uint64_t end)
{
	int r = file_touch(fs, i);

	if (!r && end > i->size)
		i->size = end;
	return r;
}

static int write_inline(struct fs *fs, struct inode *i, const void *data, size_t size, uint64_t offset)
{
	uint64_t end = offset + size;
	int r = 0;

	pthread_mutex_lock(&fs->lock);
	/* Both may fail, and a record never holds data beyond the size. */
	if (end > i->length) {
		uint8_t *grown = realloc(i->data, end);

		if (grown)
			i->data = grown;
		else
			r = -ENOMEM;
	}
	if (!r)
		r = file_touch(fs, i);
	if (!r && end > i->length) {
		memset(i->data + i->length, 0, end - i->length);
		i->length = (uint32_t)end;
		ns_account(fs, i);
	}
	if (!r) {
		memcpy(i->data + offset, data, size);
		if (i->size < end)
			i->size = end;
		if (i->prepared < i->size)
			i->prepared = i->size;
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

/*
 * In place, the io lock shared: all blocks exist, nothing is being given up, and what the
 * file grows over is known to be zeroes.  1: cannot be done this way.
 */
static int write_fast(struct fs *fs, struct inode *i, const void *data, size_t size, uint64_t offset)
{
	struct io_list list = { .n = 0 };
	uint64_t end = offset + size;
	int r = 1;

	pthread_rwlock_rdlock(&i->io);
	pthread_mutex_lock(&fs->lock);
	if (!i->drops && !i->in_vain && shape_covers(fs, i, offset, end) && (end <= i->prepared || i->prepared >= i->dirty_end)) {
		r = 0;
		if (i->prepared < end)
			i->prepared = end;
		if (i->dirty_end < end)
			i->dirty_end = end;
		pieces(&list, i, (void *)data, size, offset, true);
	}
	pthread_mutex_unlock(&fs->lock);
	if (!r) {
		r = vol_io(fs->vol, list.io, list.n);
		pthread_mutex_lock(&fs->lock);
		if (!r)
			r = publish(fs, i, end);
		if (r)
			i->in_vain = true;
		pthread_mutex_unlock(&fs->lock);
	}
	pthread_rwlock_unlock(&i->io);
	return r;
}

/* With the io lock exclusive: storage is made, and stale bytes on the way are zeroed. */
static int write_slow(struct fs *fs, struct inode *i, const void *data, size_t size, uint64_t offset)
{
	struct io_list list = { .n = 0 };
	uint64_t end = offset + size, stale;
	bool done = false;
	int r = file_lock_settled(fs, i);

	if (r)
		return r;
	if (i->in_vain) {	/* with the lock exclusive no write is under way */
		pthread_mutex_lock(&fs->lock);
		i->prepared = i->size;
		i->in_vain = false;
		pthread_mutex_unlock(&fs->lock);
	}
	if (i->form == FMT_INLINE && end <= FMT_INLINE_MAX && i->length <= FMT_INLINE_MAX) {
		r = write_inline(fs, i, data, size, offset);
		goto out;
	}
	if (i->form != FMT_RANGES && end <= (uint64_t)FMT_RUN_PAGES_MAX << FMT_PAGE_SHIFT) {
		if (i->form == FMT_INLINE || end > shape_run_bytes(i)) {
			r = shape_to_run(fs, i, end, data, size, offset);
			done = true;
		}
	} else {
		if (i->form != FMT_RANGES)
			r = shape_to_ranges(fs, i);
		if (!r)
			r = shape_fill(fs, i, offset, end);
	}
	if (!r && !done) {
		/* Growth zeroes what exists between the old end and the new one. */
		stale = offset < i->dirty_end ? offset : i->dirty_end;
		if (i->size < stale && !MUTATED(GAP_OF_WRITE))
			r = file_zero(fs, i, i->size, stale);
		if (!r) {
			pieces(&list, i, (void *)data, size, offset, true);
			r = vol_io(fs->vol, list.io, list.n);
		}
	}
	pthread_mutex_lock(&fs->lock);
	if (i->dirty_end < end)
		i->dirty_end = end;
	if (!r)
		r = publish(fs, i, end);
	if (!r && i->prepared < i->size)
		i->prepared = i->size;
	pthread_mutex_unlock(&fs->lock);
	if (r)
		shape_give_back(fs, i);
out:
	pthread_rwlock_unlock(&i->io);
	return r;
}

int64_t fs_write(struct fs *fs, uint64_t ino, const void *buffer, size_t size, uint64_t offset)
{
	const uint8_t *p = buffer;
	struct inode *i;
	size_t done = 0;
	uint64_t batch;
	int r = fs_writable(fs);

	if (r)
		return r;
	if (offset >= FS_FILE_MAX || size > FS_FILE_MAX - offset)
		return -EFBIG;
	i = inode_pin(fs, ino);
	if (!i)
		return -ESTALE;
	if (!S_ISREG(i->mode))
		r = S_ISDIR(i->mode) ? -EISDIR : -EINVAL;
	/* What the record may grow by. */
	if (!r && size)
		r = room_admit(fs, FMT_INLINE_MAX + 64, false);
	while (!r && done < size) {
		size_t length = size - done < CHUNK ? size - done : CHUNK;

		r = write_fast(fs, i, p + done, length, offset + done);
		if (r == 1)
			r = write_slow(fs, i, p + done, length, offset + done);
		if (!r)
			done += length;
	}
	pthread_mutex_lock(&fs->lock);
	batch = i->batch;
	if (r && r != -ENOSPC)
		i->wb_error = r;
	pthread_mutex_unlock(&fs->lock);
	inode_unpin(fs, i);
	if (!r)
		r = fs_end(fs, batch);
	return r && !done ? r : r && r != -ENOSPC ? r : (int64_t)done;
}
