/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checkpoint - the live metadata written anew, so that the garbage in the log can go.
 *
 * A fresh head segment S0 is begun; then everything that lives is walked into
 * checkpoint segments while operations go on (their records come after S0 and win
 * at replay); then an ordinary batch in the head stream names those segments, and
 * only when that is durable are the old ones freed.
 */
#include "fs.h"
#include "mutate.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WALK_BYTES (512u << 10)		/* encoded under one hold of fs->lock, about */

struct writer {
	struct fs *fs;
	uint8_t *segment;		/* the one being filled */
	size_t fill;			/* bytes of records in it */
	uint64_t batch;			/* numbers in a checkpoint begin at 1 */
	struct fmt_checkpoint_segment *done;
	uint32_t count, room;
	uint8_t *buf;			/* records encoded and not yet poured */
	size_t length, size;
	int error;
};

/* ---- segments */

static int finish_segment(struct writer *w)
{
	struct fs *fs = w->fs;
	struct fmt_segment s = { .epoch = fs->super.epoch, .kind = FMT_CHECKPOINT, .first_batch = w->batch };
	struct fmt_batch b = { .length = (uint32_t)w->fill, .epoch = fs->super.epoch, .number = w->batch };
	uint64_t end = FMT_SEGMENT_HEADER + fmt_batch_size((uint32_t)w->fill);
	struct vol_io io;
	int r;

	if (!w->fill)
		return 0;
	if (w->count == w->room) {
		uint32_t room = w->room ? 2 * w->room : 16;
		struct fmt_checkpoint_segment *done = realloc(w->done, room * sizeof(*done));

		if (!done)
			return -ENOMEM;
		w->done = done;
		w->room = room;
	}
	r = log_alloc_segment(fs, &s.number);
	if (r)
		return r;
	rebuild_note(fs, &s);
	memcpy(b.uuid, fs->super.uuid, 16);
	b.segment = s.number;
	fmt_put_segment(w->segment, &s);
	fmt_put_batch(w->segment + FMT_SEGMENT_HEADER, &b);
	memset(w->segment + FMT_SEGMENT_HEADER + FMT_BATCH_HEADER + w->fill, 0,
	       end - FMT_SEGMENT_HEADER - FMT_BATCH_HEADER - w->fill);
	w->done[w->count++] = (struct fmt_checkpoint_segment){ s.number, end, fmt_checksum(w->segment, end) };
	w->batch++;
	w->fill = 0;
	io = (struct vol_io){ fmt_addr(FMT_LOG, s.number), w->segment, (uint32_t)end, true };
	return vol_commit(fs->vol, &io, 1);
}

/* What was encoded goes into segments, record by record. */
static int pour(struct writer *w)
{
	size_t at = 0, size;
	struct fmt_record record;

	while (at < w->length) {
		int r = fmt_get_record(w->buf + at, w->length - at, &record, &size);

		if (r)
			return r;	/* we wrote it ourselves: a broken invariant, not damage */
		if (w->fill + size > FMT_BATCH_MAX - FMT_BATCH_ALIGN && (r = finish_segment(w)))
			return r;
		memcpy(w->segment + FMT_SEGMENT_HEADER + FMT_BATCH_HEADER + w->fill, w->buf + at, size);
		w->fill += size;
		at += size;
	}
	w->length = 0;
	return 0;
}

/* ---- the walk; under fs->lock */

static uint8_t *emit(struct writer *w, size_t bytes)
{
	if (w->length + bytes > w->size) {
		size_t size = 2 * (w->length + bytes);
		uint8_t *buf = realloc(w->buf, size);

		if (!buf) {
			w->error = -ENOMEM;
			return NULL;
		}
		w->buf = buf;
		w->size = size;
	}
	w->length += bytes;
	return w->buf + w->length - bytes;
}

static void emit_inode(struct writer *w, struct inode *i)
{
	size_t bytes = fmt_inode_size(i->form, i->length);
	uint8_t *p = emit(w, bytes);

	if (p)
		log_encode_inode(w->fs, i, p, &bytes);
	for (struct xattr *x = i->xattrs; x && !w->error; x = x->next) {
		struct fmt_xattr r = {
			.ino = i->ino, .time = i->ctime, .name_length = x->name_length, .name = x->name,
			.length = x->length, .value = (const uint8_t *)x->value,
		};

		p = emit(w, fmt_xattr_size(x->name_length, x->length));
		if (p)
			fmt_put_xattr(p, &r, false);
	}
}

/* Entries behind *cookie until there is enough; false when all are done. */
static bool emit_entries(struct writer *w, struct inode *i, uint64_t *cookie)
{
	for (uint32_t k = ns_slot_after(i->dir, *cookie); k < i->dir->used; k++) {
		struct dentry *d = i->dir->slot[k].dentry;
		uint8_t *p;

		*cookie = i->dir->slot[k].cookie;
		if (!d)
			continue;
		p = emit(w, fmt_dentry_size(d->length));
		if (!p)
			return false;
		fmt_put_dentry(p, &(struct fmt_dentry){
			.dir = i->ino, .cookie = d->cookie, .ino = d->inode->ino, .time = d->time,
			.type = IFTODT(d->inode->mode), .name_length = d->length, .name = d->name });
		if (w->length >= WALK_BYTES)
			return true;
	}
	return false;
}

static int walk(struct writer *w)
{
	struct fs *fs = w->fs;
	struct inode *i;
	int r = 0;

	pthread_mutex_lock(&fs->lock);
	fs->cursor = fs->all.next;
	while (!r && (i = fs->cursor) != &fs->all) {
		uint64_t cookie = 0;
		bool more;

		emit_inode(w, i);
		do {
			more = i->dir && emit_entries(w, i, &cookie);
			r = w->error;
			if (!r && (more || w->length >= WALK_BYTES)) {
				pthread_mutex_unlock(&fs->lock);
				r = pour(w);
				pthread_mutex_lock(&fs->lock);
			}
			/* Meanwhile the inode may have been deleted, and the cursor has moved on. */
		} while (!r && more && fs->cursor == i);
		if (!r && fs->cursor == i)
			fs->cursor = i->next;
	}
	fs->cursor = NULL;
	pthread_mutex_unlock(&fs->lock);
	if (!r)
		r = pour(w);
	return r ? r : finish_segment(w);
}

/* ---- the whole */

static void release_segments(struct fs *fs, const uint64_t *numbers, uint32_t count)
{
	uint64_t addr[64];
	int r = 0;

	for (uint32_t k = 0, n = 0; k < count; k++) {
		addr[n++] = fmt_addr(FMT_LOG, numbers[k]);
		if (n == 64 || k + 1 == count) {
			int e = vol_release(fs->vol, addr, n);

			r = r ? r : e;
			n = 0;
		}
	}
	if (!r)
		return;
	pthread_mutex_lock(&fs->lock);
	fs_fail(fs, r, "freeing old log segments failed");
	pthread_mutex_unlock(&fs->lock);
}

/* S0: what is open goes into a fresh segment, and everything after it. */
static int begin_fresh(struct fs *fs, uint64_t *s0)
{
	uint64_t number = 0;
	int r;

	pthread_mutex_lock(&fs->lock);
	r = marks_put(fs, false);
	if (!r) {
		fs->log.open->fresh = true;
		number = fs->log.open->number;
	}
	pthread_mutex_unlock(&fs->lock);
	if (!r)
		r = log_wait(fs, number);
	if (r)
		return r;
	pthread_mutex_lock(&fs->commit_lock);
	*s0 = fs->log.fresh;
	pthread_mutex_unlock(&fs->commit_lock);
	return 0;
}

static int commit_record(struct fs *fs, struct writer *w, uint64_t s0)
{
	struct fmt_checkpoint c = { .s0 = s0, .count = w->count, .segments = w->done };
	uint64_t number;

	pthread_mutex_lock(&fs->lock);
	number = log_begin(fs, fmt_checkpoint_size(w->count));
	if (number) {
		fmt_put_checkpoint(log_room(fs, fmt_checkpoint_size(w->count)), &c);
		fs->log.open->persist = true;	/* all that the walk saw */
	}
	pthread_mutex_unlock(&fs->lock);
	if (number && MUTATED(CHECKPOINT_EARLY))
		return 0;
	return number ? log_wait(fs, number) : -ENOMEM;
}

/* One that has no room is not begun: each takes a head segment, which only one that succeeds gives back. */
static bool fits(struct fs *fs, uint64_t s0)
{
	/* S0 takes the segment that is there ahead. */
	return vol_free_blocks(fs->vol) >= log_checkpoint_blocks(fs->live) + (!s0 && !fs->log.ahead);
}

/* How many segments a checkpoint that begins at s0 takes the place of, and one more; *heads: of these, head segments. */
static size_t superseded(struct fs *fs, uint64_t s0, uint32_t *heads)
{
	size_t count;

	pthread_mutex_lock(&fs->lock);
	for (*heads = 0; *heads < fs->log.head_count && fs->log.heads[*heads] != s0; ++*heads)
		;
	count = (size_t)*heads + fs->log.ckpt_count + 1;
	pthread_mutex_unlock(&fs->lock);
	return count;
}

int checkpoint_from(struct fs *fs, uint64_t s0)
{
	struct writer w = { .fs = fs, .batch = 1 };
	uint64_t *ckpt = NULL, *old = NULL;
	uint32_t old_count = 0, k;
	bool counts = false;
	int r = fs_writable(fs);

	if (r)
		return r;
	pthread_mutex_lock(&fs->ckpt_lock);
	w.segment = vol_buffer_alloc(fs->vol, FMT_BLOCK);
	r = !w.segment ? -ENOMEM : !fits(fs, s0) ? -ENOSPC : s0 ? 0 : begin_fresh(fs, &s0);
	if (!r)
		r = walk(&w);
	if (!r) {
		ckpt = malloc((w.count + 1) * sizeof(*ckpt));
		old = malloc(superseded(fs, s0, &k) * sizeof(*old));
		r = ckpt && old ? 0 : -ENOMEM;
	}
	for (k = 0; !r && k < w.count; k++)
		ckpt[k] = w.done[k].number;
	if (!r) {
		r = commit_record(fs, &w, s0);
		counts = !r;
	}
	if (r) {
		/* Nothing of it counts: not even a record in flight, the log has latched then. */
		for (k = 0; k < w.count && !atomic_load(&fs->error); k++)
			release_segments(fs, &w.done[k].number, 1);
		pthread_mutex_lock(&fs->lock);
		fs->ckpt_at = fs->log.head_count + 2;
		pthread_mutex_unlock(&fs->lock);
	}
	if (counts) {
		superseded(fs, s0, &k);	/* still as many: what comes, comes behind s0 */
		pthread_mutex_lock(&fs->lock);
		memcpy(old, fs->log.heads, k * sizeof(*old));
		if (fs->log.ckpt_count)
			memcpy(old + k, fs->log.ckpt, fs->log.ckpt_count * sizeof(*old));
		old_count = k + fs->log.ckpt_count;
		memmove(fs->log.heads, fs->log.heads + k, (fs->log.head_count - k) * sizeof(*old));
		fs->log.head_count -= k;
		free(fs->log.ckpt);
		fs->log.ckpt = ckpt;
		fs->log.ckpt_count = w.count;
		ckpt = NULL;
		fs->ckpt_at = 0;
		pthread_mutex_unlock(&fs->lock);
		release_segments(fs, old, old_count);
	}
	pthread_mutex_unlock(&fs->ckpt_lock);
	free(old);
	free(ckpt);
	free(w.done);
	free(w.buf);
	vol_buffer_remove(fs->vol, w.segment);
	return r;
}

int checkpoint_anew(struct fs *fs)
{
	struct writer w = { .fs = fs, .batch = 1 };
	struct fmt_checkpoint c;
	uint64_t s0;
	int r;

	w.segment = vol_buffer_alloc(fs->vol, FMT_BLOCK);
	r = w.segment ? walk(&w) : -ENOMEM;
	if (!r)		/* behind those of the checkpoint: numbers ascend */
		r = log_alloc_segment(fs, &s0);
	if (r)
		goto fail;
	fs->log.ahead = s0;
	fs->log.segment = fs->log.last_segment = fs->log.last_end = 0;
	fs->log.head_count = fs->log.idle = 0;
	free(fs->log.ckpt);
	fs->log.ckpt_count = 0;
	fs->log.ckpt = malloc((w.count + 1) * sizeof(*fs->log.ckpt));
	r = fs->log.ckpt ? 0 : -ENOMEM;
	for (uint32_t k = 0; !r && k < w.count; k++)
		fs->log.ckpt[fs->log.ckpt_count++] = w.done[k].number;
	pthread_mutex_lock(&fs->lock);
	if (!r)
		r = marks_put(fs, false);
	if (!r && !log_begin(fs, fmt_checkpoint_size(w.count)))
		r = -ENOMEM;
	if (!r) {
		c = (struct fmt_checkpoint){ .s0 = s0, .count = w.count, .segments = w.done };
		fmt_put_checkpoint(log_room(fs, fmt_checkpoint_size(w.count)), &c);
		fs->log.open->fresh = fs->log.open->persist = true;
	}
	pthread_mutex_unlock(&fs->lock);
	if (!r)
		r = log_commit(fs);
fail:
	free(w.done);
	free(w.buf);
	vol_buffer_remove(fs->vol, w.segment);
	return r;
}

int checkpoint(struct fs *fs)
{
	return checkpoint_from(fs, 0);
}
