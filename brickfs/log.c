/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - the head stream of the metadata log: the open batch, group commit, segments.
 *
 * Operations append to the open batch under fs->lock.  A batch is closed when it
 * is wanted or full; closing encodes every dirty inode into it, so that each
 * batch ends a prefix of what was acknowledged.  One commit is on the wire at a
 * time: persist the data that the batch makes reachable (order 1 of brickfs-format(5)), write
 * the batch, persist it, wake whoever waits, and then what gathered meanwhile.
 *
 * An operation that finds no memory for its records fails before it has changed anything.  A commit that finds none
 * tries again for about a second, with nothing sent in between; only then the log latches, as after any other failure.
 */
#include "fs.h"
#include "mutate.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLOSE_AT (512u << 10)	/* bytes at which a batch is closed; the rest is room for dirty inodes and one operation */
#define OP_MAX (320u << 10)	/* no operation's records are longer */
#define MEMORY_TRIES 100	/* of a commit without memory, */
#define MEMORY_PAUSE_NS 10000000	/* and between two of them */

static struct batch *batch_new(struct fs *fs)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->room = 64 << 10;
	b->data = malloc(FMT_BATCH_HEADER + b->room + FMT_BATCH_ALIGN);
	if (!b->data) {
		free(b);
		return NULL;
	}
	memset(b->data, 0, FMT_BATCH_HEADER);
	b->number = fs->log.next_batch++;
	clock_gettime(CLOCK_MONOTONIC, &b->first);
	return b;
}

static void batch_free(struct batch *b)
{
	if (b)
		free(b->data);
	free(b);
}

static int batch_grow(struct batch *b, size_t bytes)
{
	size_t room = b->room;
	uint8_t *data;

	while (b->length + bytes > room)
		room *= 2;
	if (room == b->room)
		return 0;
	data = realloc(b->data, FMT_BATCH_HEADER + room + FMT_BATCH_ALIGN);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->room = room;
	return 0;
}

int log_init(struct fs *fs)
{
	struct log *log = &fs->log;

	log->tail = &log->queue;
	log->next_batch = 1;
	return pthread_cond_init(&log->work, NULL) || pthread_cond_init(&log->done, NULL) ? -ENOMEM : 0;
}

void log_destroy(struct fs *fs)
{
	struct log *log = &fs->log;

	for (struct batch *b = log->queue, *next; b; b = next) {
		next = b->next;
		batch_free(b);
	}
	batch_free(log->open);
	free(log->heads);
	free(log->ckpt);
}

void log_encode_inode(struct fs *fs, struct inode *i, uint8_t *buf, size_t *size)
{
	uint64_t end = i->size > i->alloc_end ? i->size : i->alloc_end;
	struct fmt_inode r = {
		.ino = i->ino, .mode = i->mode, .nlink = i->nlink, .uid = i->uid, .gid = i->gid, .rdev = i->rdev,
		.size = i->size, .alloc_end = i->alloc_end,
		.next_cookie = i->dir ? i->dir->next_cookie : 0,
		.atime = i->atime, .mtime = i->mtime, .ctime = i->ctime,
		.form = i->form, .length = i->length,
	};

	if (i->form == FMT_INLINE)
		r.data = i->data;
	else if (i->form == FMT_RUN)
		r.run = i->run;
	else
		r.ranges = i->ranges;
	/* Under fs->lock a punched block is out already, and its free comes after this record. */
	r.blocks = ns_blocks(fs, i, end);
	*size = fmt_put_inode(buf, &r);
}

/* Closes the open batch with every dirty inode in it. */
static int close_open(struct fs *fs)
{
	struct log *log = &fs->log;
	struct batch *b = log->open;
	size_t size;

	if (batch_grow(b, fs->dirty_bytes))
		return -ENOMEM;
	while (fs->dirty.dirty_next != &fs->dirty) {
		struct inode *i = fs->dirty.dirty_next;

		log_encode_inode(fs, i, b->data + FMT_BATCH_HEADER + b->length, &size);
		b->length += size;
		i->batch = b->number;
		if (i->form != FMT_INLINE)
			b->persist = true;
		ns_clean(fs, i);
	}
	memcpy(b->marks, fs->limit, sizeof(b->marks));
	*log->tail = b;
	log->tail = &b->next;
	log->open = NULL;
	return 0;
}

uint64_t log_begin(struct fs *fs, size_t bytes)
{
	struct log *log = &fs->log;

	if (bytes > OP_MAX)
		return 0;
	if (log->open && log->open->length + fs->dirty_bytes >= CLOSE_AT) {
		if (close_open(fs))
			return 0;
		log_kick(fs);
	}
	if (!log->open) {
		log->open = batch_new(fs);
		if (!log->open)
			return 0;
		if (fs->threads)
			pthread_cond_signal(&fs->worker_wake);	/* commits it before long */
	}
	if (batch_grow(log->open, bytes))
		return 0;
	return log->open->number;
}

uint64_t log_more(struct fs *fs, size_t bytes)
{
	if (!fs->log.open)
		return log_begin(fs, bytes);
	return batch_grow(fs->log.open, bytes) ? 0 : fs->log.open->number;
}

void log_trim(struct fs *fs)
{
	if (fs->log.open)
		log_begin(fs, 0);
}

uint8_t *log_room(struct fs *fs, size_t bytes)
{
	struct batch *b = fs->log.open;
	uint8_t *p = b->data + FMT_BATCH_HEADER + b->length;

	b->length += bytes;
	return p;
}

void log_put_dentry(struct fs *fs, const struct dentry *d)
{
	struct fmt_dentry r = {
		.dir = d->dir->ino, .cookie = d->cookie, .ino = d->inode->ino, .time = d->time,
		.type = IFTODT(d->inode->mode), .name_length = d->length, .name = d->name,
	};

	if (MUTATED(RENAME_SPLIT) && (close_open(fs) || !log_begin(fs, fmt_dentry_size(d->length))))
		return;
	fmt_put_dentry(log_room(fs, fmt_dentry_size(d->length)), &r);
	d->dir->batch = fs->log.open->number;
}

void log_put_dentry_gone(struct fs *fs, const struct dentry *d, const struct timespec *now)
{
	struct fmt_dentry_gone r = { .dir = d->dir->ino, .cookie = d->cookie, .time = *now };

	fmt_put_dentry_gone(log_room(fs, FMT_DENTRY_GONE_SIZE), &r);
	d->dir->batch = fs->log.open->number;
}

void log_put_gone(struct fs *fs, uint64_t ino)
{
	fmt_put_gone(log_room(fs, FMT_GONE_SIZE), ino);
}

void log_put_xattr(struct fs *fs, struct inode *i, const struct xattr *x, const struct timespec *now, bool gone)
{
	struct fmt_xattr r = {
		.ino = i->ino, .time = *now, .name_length = x->name_length, .name = x->name,
		.length = x->length, .value = (const uint8_t *)x->value,
	};

	fmt_put_xattr(log_room(fs, fmt_xattr_size(x->name_length, gone ? 0 : x->length)), &r, gone);
	i->batch = fs->log.open->number;
}

void log_mark_dirty(struct fs *fs, struct inode *i)
{
	i->batch = fs->log.open->number;
	ns_dirty(fs, i);
}

/* ---- segments; under commit_lock */

int log_push_head(struct fs *fs, uint64_t number)
{
	struct log *log = &fs->log;

	if (log->head_count == log->head_room) {
		uint32_t room = log->head_room ? log->head_room * 2 : 16;
		uint64_t *heads = realloc(log->heads, room * sizeof(*heads));

		if (!heads)
			return -ENOMEM;
		log->heads = heads;
		log->head_room = room;
	}
	log->heads[log->head_count++] = number;
	return 0;
}

int log_alloc_segment(struct fs *fs, uint64_t *number)
{
	uint64_t next, addr;
	int r;

	/* Numbers are raised ahead of use; the log itself cannot wait for a commit. */
	pthread_mutex_lock(&fs->lock);
	next = fs->next[FMT_MARK_LOG]++;
	pthread_mutex_unlock(&fs->lock);
	if (next >= FMT_NUMBER_MAX)
		return -ENOSPC;
	addr = fmt_addr(FMT_LOG, next);
	r = vol_alloc(fs->vol, &addr, 1);
	if (!r)
		*number = next;
	return r;
}

/* The next segment is there before it is needed. Failing to is no error until it is needed. */
static int ahead(struct fs *fs)
{
	uint64_t number;
	int r;

	if (fs->log.ahead)
		return 0;
	r = log_alloc_segment(fs, &number);
	if (!r)
		fs->log.ahead = number;
	return r;
}

/*
 * Batches come and go, and grow as they fill: what the bricks are told of once is one place that all of them leave from.
 */
static void *on_wire(struct log *log, size_t at, void *bytes, size_t size)
{
	return log->wire ? memcpy(log->wire + at, bytes, size) : bytes;
}

/* The segment that is ahead becomes the last of the heads, or stops being that: what was to begin it could not be sent. */
static int push_ahead(struct fs *fs)
{
	int r;

	pthread_mutex_lock(&fs->lock);
	r = log_push_head(fs, fs->log.ahead);
	pthread_mutex_unlock(&fs->lock);
	return r;
}

static void pop_ahead(struct fs *fs)
{
	pthread_mutex_lock(&fs->lock);
	fs->log.head_count--;
	pthread_mutex_unlock(&fs->lock);
}

/* Writes one batch where it belongs, durable when it returns 0. -ENOMEM: all is as before, but for a segment that is ahead. */
static int write_batch(struct fs *fs, struct batch *b)
{
	struct log *log = &fs->log;
	uint64_t size = fmt_batch_size((uint32_t)b->length), segment = log->segment, offset = log->offset;
	uint8_t header[FMT_SEGMENT_HEADER];
	bool begins = !segment || b->fresh || offset + size > FMT_BLOCK;
	struct vol_io io[2];
	size_t n = 0;
	int r;

	if (!log->wire)
		log->wire = vol_buffer_alloc(fs->vol, FMT_BLOCK);
	if (begins) {
		struct fmt_segment s = {
			.epoch = fs->super.epoch, .kind = FMT_HEAD, .first_batch = b->number,
			.prev = segment ? segment : log->last_segment, .prev_end = segment ? offset : log->last_end,
		};

		r = ahead(fs);
		if (!r)
			r = push_ahead(fs);
		if (r)
			return r;
		rebuild_note(fs, &s);
		s.number = segment = log->ahead;
		offset = FMT_SEGMENT_HEADER;
		fmt_put_segment(header, &s);
		io[n++] = (struct vol_io){ fmt_addr(FMT_LOG, segment), on_wire(log, 0, header, sizeof(header)), sizeof(header), true };
	}

	struct fmt_batch head = {
		.length = (uint32_t)b->length, .epoch = fs->super.epoch, .number = b->number,
		.durable_through = b->number - 1, .segment = segment,
	};
	memcpy(head.uuid, fs->super.uuid, 16);
	fmt_put_batch(b->data, &head);
	memset(b->data + FMT_BATCH_HEADER + b->length, 0, size - FMT_BATCH_HEADER - b->length);
	io[n++] = (struct vol_io){ fmt_addr(FMT_LOG, segment) + offset,
				     on_wire(log, FMT_SEGMENT_HEADER, b->data, size), (uint32_t)size, true };
	r = vol_commit(fs->vol, io, n);
	if (r == -ENOMEM && begins)
		pop_ahead(fs);
	if (r)
		return r;
	if (begins) {
		log->segment = segment;
		log->ahead = 0;
		if (b->fresh)
			log->fresh = segment;
	}
	log->offset = offset + size;
	return 0;
}

/* True: it failed for want of memory, and is to be tried again. */
static bool again(int r, unsigned *tries)
{
	const struct timespec pause = { .tv_nsec = MEMORY_PAUSE_NS };

	if (r != -ENOMEM || ++*tries > MEMORY_TRIES)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

/* Under fs->lock, which is dropped while there is no memory: what is open is closed. */
static int close_what_is_open(struct fs *fs)
{
	struct log *log = &fs->log;
	unsigned tries = 0;
	bool more;
	int r;

	do {
		r = 0;
		if (log->open && (log->open->length || fs->dirty.dirty_next != &fs->dirty))
			r = close_open(fs);
		else if (log->open) {		/* opened for nothing: its number is not to be skipped */
			log->next_batch--;
			batch_free(log->open);
			log->open = NULL;
		}
		if (!r)
			return 0;
		pthread_mutex_unlock(&fs->lock);
		more = again(r, &tries);
		pthread_mutex_lock(&fs->lock);
	} while (more && !log->error);
	return r;
}

int log_commit(struct fs *fs)
{
	struct log *log = &fs->log;
	struct batch *b, *rest = NULL;
	unsigned tries;
	int r;

	pthread_mutex_lock(&fs->commit_lock);
	pthread_mutex_lock(&fs->lock);
	log->committing = true;
	inodes_put_again(fs);
	r = close_what_is_open(fs);
	while (!r && (b = log->queue)) {
		if (log->error) {
			r = log->error;
			break;
		}
		log->queue = b->next;
		if (!log->queue)
			log->tail = &log->queue;
		pthread_mutex_unlock(&fs->lock);

		if (b->persist && !MUTATED(DATA_BEHIND_BATCH))
			r = vol_persist(fs->vol);
		tries = 0;
		while (!r && (r = write_batch(fs, b)) && !atomic_load(&fs->error) && again(r, &tries))
			r = 0;

		pthread_mutex_lock(&fs->lock);
		if (r) {
			rest = b;
			break;
		}
		log->durable = b->number;
		memcpy(fs->durable_limit, b->marks, sizeof(b->marks));
		pthread_cond_broadcast(&log->done);
		batch_free(b);
	}
	if (r && !log->error) {
		log->error = r;
		fs_fail(fs, r, "a commit of the metadata log failed");
	}
	log->committing = false;
	pthread_cond_broadcast(&log->done);
	/* What became durable may be freed, and the log may have grown long. */
	if (fs->threads && (fs->drops || log_is_long(fs)))
		pthread_cond_signal(&fs->worker_wake);
	pthread_mutex_unlock(&fs->lock);
	batch_free(rest);
	/* Not with a block that a checkpoint needs: it is what makes room for the log. */
	if (!r && log->segment && vol_free_blocks(fs->vol) > log_checkpoint_blocks(fs->live))
		ahead(fs);
	pthread_mutex_unlock(&fs->commit_lock);
	return r;
}

void log_kick(struct fs *fs)
{
	fs->log.wanted = fs->log.open ? fs->log.open->number : fs->log.next_batch - 1;
	if (fs->threads)
		pthread_cond_signal(&fs->log.work);
}

uint64_t log_behind(const struct fs *fs)
{
	return (fs->log.open ? fs->log.open->number : fs->log.next_batch) - 1 - fs->log.durable;
}

int log_wait(struct fs *fs, uint64_t number)
{
	struct log *log = &fs->log;
	int r;

	if (!fs->threads) {
		pthread_mutex_lock(&fs->lock);
		r = log->durable >= number ? 0 : log->error ? log->error : 1;
		pthread_mutex_unlock(&fs->lock);
		return r <= 0 ? r : log_commit(fs);
	}
	pthread_mutex_lock(&fs->lock);
	/* A batch that is open and empty comes to nothing; what was asked for is in the one before. */
	if (log->open && number == log->open->number && !log->open->length && fs->dirty.dirty_next == &fs->dirty)
		number--;
	while (log->durable < number && !log->error) {
		/* One who waits commits for all, without waking anybody, unless a commit is under way. */
		if (log->committing) {
			pthread_cond_wait(&log->done, &fs->lock);
			continue;
		}
		if (!log->open && !log->queue) {
			number = log->durable;	/* it was opened for nothing, and nothing came of it */
			break;
		}
		pthread_mutex_unlock(&fs->lock);
		log_commit(fs);
		pthread_mutex_lock(&fs->lock);
	}
	r = log->durable >= number ? 0 : log->error;
	pthread_mutex_unlock(&fs->lock);
	return r;
}

int log_catch_up(struct fs *fs, uint64_t batches)
{
	uint64_t behind, number;

	pthread_mutex_lock(&fs->lock);
	behind = log_behind(fs);
	number = fs->log.durable + behind - batches;
	pthread_mutex_unlock(&fs->lock);
	return behind > batches ? log_wait(fs, number) : 0;
}

void *log_thread(void *arg)
{
	struct fs *fs = arg;
	struct log *log = &fs->log;

	pthread_mutex_lock(&fs->lock);
	for (;;) {
		while (!fs->stop_committer && (log->wanted <= log->durable || log->error || (!log->open && !log->queue)))
			pthread_cond_wait(&log->work, &fs->lock);
		if (fs->stop_committer)
			break;
		pthread_mutex_unlock(&fs->lock);
		log_commit(fs);
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}

int fs_end(struct fs *fs, uint64_t batch)
{
	int r = fs->options.sync ? log_wait(fs, batch) : 0;

	if (r || !atomic_load(&fs->going))
		return r;
	pthread_mutex_lock(&fs->lock);
	r = fs->log.durable >= batch ? 0 : -EIO;
	pthread_mutex_unlock(&fs->lock);
	return r;
}

/* ---- how long it is */

/* What a checkpoint segment takes at least: its last record may not fit. */
#define SEGMENT_USABLE (FMT_BLOCK - (128u << 10))

uint64_t log_checkpoint_blocks(uint64_t live)
{
	return (live + SEGMENT_USABLE - 1) / SEGMENT_USABLE;
}

bool log_is_tight(struct fs *fs)
{
	return vol_free_blocks(fs->vol) <= log_checkpoint_blocks(fs->live) + 2;
}

bool log_is_long(struct fs *fs)
{
	uint32_t base = log_is_tight(fs) ? 1 : 4 + 2 * (uint32_t)log_checkpoint_blocks(fs->live);

	return fs->log.head_count > (base > fs->ckpt_at ? base : fs->ckpt_at);
}

/* ---- numbers */

static const uint64_t stride[FMT_MARKS_COUNT] = {
	[FMT_MARK_INO] = 8192, [FMT_MARK_LOG] = 256, [FMT_MARK_PACKED] = 1024, [FMT_MARK_FILE] = 1 << 16,
};

/* The limit so far ahead of what is used; numbers end somewhere. */
static uint64_t limit_ahead(const struct fs *fs, enum fmt_mark mark, uint64_t ahead)
{
	uint64_t max = fmt_mark_max(mark);

	return fs->next[mark] < max && ahead < max - fs->next[mark] ? fs->next[mark] + ahead : max;
}

/* Under fs->lock: the limit is raised in the log well before it is reached. */
static int raise_marks(struct fs *fs, enum fmt_mark mark, uint64_t count)
{
	uint64_t limit = limit_ahead(fs, mark, count + stride[mark]);
	struct fmt_marks m;

	if (fs->next[mark] + count + stride[mark] / 2 <= fs->limit[mark] || limit <= fs->limit[mark])
		return 0;
	if (!log_begin(fs, FMT_MARKS_SIZE))
		return -ENOMEM;
	fs->limit[mark] = limit;
	memcpy(m.mark, fs->limit, sizeof(m.mark));
	fmt_put_marks(log_room(fs, FMT_MARKS_SIZE), &m);
	return 0;
}

int marks_put(struct fs *fs, bool exact)
{
	struct fmt_marks m;

	if (!log_begin(fs, FMT_MARKS_SIZE))
		return -ENOMEM;
	for (int i = 0; i < FMT_MARKS_COUNT; i++)
		fs->limit[i] = m.mark[i] = limit_ahead(fs, (enum fmt_mark)i, exact ? 0 : stride[i]);
	fmt_put_marks(log_room(fs, FMT_MARKS_SIZE), &m);
	return 0;
}

int marks_take(struct fs *fs, enum fmt_mark mark, uint64_t count, uint64_t *first)
{
	uint64_t batch;
	int r;

	for (;;) {
		pthread_mutex_lock(&fs->lock);
		r = raise_marks(fs, mark, count);
		if (!r && mark != FMT_MARK_LOG)
			r = raise_marks(fs, FMT_MARK_LOG, 0);
		if (!r && fs->next[mark] + count > fmt_mark_max(mark))
			r = -ENOSPC;
		if (r || fs->next[mark] + count <= fs->durable_limit[mark]) {
			*first = fs->next[mark];
			if (!r)
				fs->next[mark] += count;
			pthread_mutex_unlock(&fs->lock);
			return r;
		}
		batch = fs->log.open ? fs->log.open->number : fs->log.next_batch - 1;
		pthread_mutex_unlock(&fs->lock);
		r = log_wait(fs, batch);
		if (r)
			return r;
	}
}
