/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay - the namespace from the log: the newest committed checkpoint, then the
 * head stream from its S0 in order; the last record of a key wins, and references
 * are checked at the end.
 *
 * Damage is told with fs_damage() and does not end the replay, where something can
 * still be read; what ends it (I/O, memory, no checkpoint) is returned.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_NUMBERS (1u << 20)	/* of log segments: more than a mount begins */

struct segment {
	uint64_t number;
	struct fmt_segment header;
	bool head;			/* a valid head segment of this filesystem */
	struct segment *next;		/* the one that names it as its predecessor */
};

struct replay {
	struct fs *fs;
	struct segment *segment;	/* ascending */
	size_t count;
	uint8_t *buf;			/* one block */
	bool found;			/* a committed checkpoint */
	uint64_t ckpt_batch, s0;	/* the newest */
	struct fmt_checkpoint_segment *ckpt;
	uint32_t ckpt_count;
	uint64_t records;
	bool busy;			/* a record was applied that is not of marks */
};

static int load(struct replay *rp, uint64_t number, size_t length)
{
	struct vol_io io = { fmt_addr(FMT_LOG, number), rp->buf, (uint32_t)length, false };

	return vol_io(rp->fs->vol, &io, 1);
}

/* ---- what is there */

static int read_headers(struct replay *rp)
{
	struct fs *fs = rp->fs;
	uint64_t addr, from = fmt_addr(FMT_LOG, 0);
	size_t room = 0;
	uint8_t (*header)[FMT_SEGMENT_HEADER];
	int r = 0;

	while (vol_next(fs->vol, from, &addr) && fmt_kind(addr) == FMT_LOG) {
		if (rp->count == room) {
			struct segment *more;

			room = room ? 2 * room : 64;
			more = realloc(rp->segment, room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			rp->segment = more;
		}
		rp->segment[rp->count++] = (struct segment){ .number = fmt_number(addr) };
		from = addr + FMT_BLOCK;
	}
	header = malloc(64 * sizeof(*header));
	if (!header)
		return -ENOMEM;
	for (size_t k = 0; !r && k < rp->count; k += 64) {
		struct vol_io io[64];
		size_t n = rp->count - k < 64 ? rp->count - k : 64;

		for (size_t j = 0; j < n; j++)
			io[j] = (struct vol_io){ fmt_addr(FMT_LOG, rp->segment[k + j].number), header[j],
						 FMT_SEGMENT_HEADER, false };
		r = vol_io(fs->vol, io, n);
		for (size_t j = 0; !r && j < n; j++) {
			struct segment *s = &rp->segment[k + j];

			s->head = !fmt_get_segment(header[j], &s->header) && s->header.kind == FMT_HEAD &&
				  s->header.number == s->number && !memcmp(s->header.uuid, fs->super.uuid, 16);
			if (s->head && s->header.epoch > fs->log.epoch)
				fs->log.epoch = s->header.epoch;
		}
	}
	free(header);
	return r;
}

static struct segment *find_segment(struct replay *rp, uint64_t number)
{
	for (size_t k = 0; k < rp->count; k++)
		if (rp->segment[k].number == number)
			return &rp->segment[k];
	return NULL;
}

/* Who follows whom; of two that claim the same predecessor the later epoch is right. */
static void link_segments(struct replay *rp)
{
	for (size_t k = 0; k < rp->count; k++) {
		struct segment *s = &rp->segment[k], *prev;

		if (!s->head || !s->header.prev)
			continue;
		prev = find_segment(rp, s->header.prev);
		if (prev && prev->head && s->number > prev->number &&
		    (!prev->next || prev->next->header.epoch < s->header.epoch))
			prev->next = s;
	}
}

/*
 * The batch at *offset of the segment in rp->buf, which must be number `expected`.
 * false: there is none, whatever stands there.
 */
static bool batch_at(struct replay *rp, const struct segment *s, uint64_t offset, uint64_t expected, struct fmt_batch *b)
{
	return offset < FMT_BLOCK && !fmt_get_batch(rp->buf + offset, FMT_BLOCK - offset, b) && b->number == expected &&
	       b->epoch == s->header.epoch && b->segment == s->number && !memcmp(b->uuid, rp->fs->super.uuid, 16);
}

static int note_checkpoint(struct replay *rp, const struct fmt_checkpoint *c, uint64_t batch)
{
	struct fmt_checkpoint_segment *list;

	if (rp->found && batch <= rp->ckpt_batch)
		return 0;
	list = malloc((c->count + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (uint32_t k = 0; k < c->count; k++)
		fmt_get_checkpoint_segment(c->raw, k, &list[k]);
	free(rp->ckpt);
	rp->ckpt = list;
	rp->ckpt_count = c->count;
	rp->s0 = c->s0;
	rp->ckpt_batch = batch;
	rp->found = true;
	return 0;
}

static void raise_marks(struct fs *fs, const struct fmt_marks *m)
{
	for (int k = 0; k < FMT_MARKS_COUNT; k++)
		if (fs->next[k] < m->mark[k])
			fs->next[k] = m->mark[k];
}

/* The newest checkpoint that was committed: the last record of its kind in any head segment. */
static int find_checkpoint(struct replay *rp)
{
	struct fmt_record record;
	struct fmt_batch b;

	for (size_t k = 0; k < rp->count; k++) {
		struct segment *s = &rp->segment[k];
		uint64_t offset = FMT_SEGMENT_HEADER, end = s->next ? s->next->header.prev_end : FMT_BLOCK;
		uint64_t number = s->header.first_batch;
		int r;

		if (!s->head)
			continue;
		r = load(rp, s->number, FMT_BLOCK);
		if (r)
			return r;
		for (; offset < end && batch_at(rp, s, offset, number, &b); offset += fmt_batch_size(b.length), number++) {
			size_t at = 0, size;

			while (at < b.length && !fmt_get_record(rp->buf + offset + FMT_BATCH_HEADER + at, b.length - at,
								&record, &size)) {
				if (record.type == FMT_CHECKPOINT_DONE &&
				    (r = note_checkpoint(rp, &record.checkpoint, number)))
					return r;
				/* Also of a segment that another one has taken the place of: numbers are not used twice. */
				if (record.type == FMT_MARKS)
					raise_marks(rp->fs, &record.marks);
				at += size;
			}
		}
	}
	return 0;
}

/* ---- applying records */

static struct inode *get(struct fs *fs, uint64_t ino)
{
	struct inode *i = ns_find(fs, ino);

	return i ? i : ns_new_inode(fs, ino);
}

static int apply_inode(struct fs *fs, const struct fmt_inode *r)
{
	struct inode *i = get(fs, r->ino);

	if (i && (i->gone || (i->known && (i->mode ^ r->mode) & S_IFMT)))
		return -EUCLEAN;	/* numbers are never used twice, and types do not change */
	if (!i || (S_ISDIR(r->mode) && ns_make_dir(i)))
		return -ENOMEM;
	i->known = true;
	i->mode = r->mode;
	i->nlink = r->nlink;
	i->uid = r->uid;
	i->gid = r->gid;
	i->rdev = r->rdev;
	i->size = r->size;
	i->alloc_end = r->alloc_end;
	i->recorded_blocks = r->blocks;
	i->atime = r->atime;
	i->mtime = r->mtime;
	i->ctime = r->ctime;
	if (i->dir && i->dir->next_cookie < r->next_cookie)
		i->dir->next_cookie = r->next_cookie;
	ns_set_form(fs, i, (uint8_t)r->form);
	if (r->form == FMT_INLINE && r->length) {
		i->data = malloc(r->length);
		if (!i->data)
			return -ENOMEM;
		memcpy(i->data, r->data, r->length);
	} else if (r->form == FMT_RUN) {
		i->run = r->run;
	} else if (r->form == FMT_RANGES) {
		i->ranges = malloc((r->length + 1) * sizeof(*i->ranges));
		if (!i->ranges)
			return -ENOMEM;
		for (uint32_t k = 0; k < r->length; k++)
			fmt_get_range(r->raw_ranges, k, &i->ranges[k]);
	}
	i->length = r->length;
	ns_account(fs, i);
	return 0;
}

static void touch_dir(struct inode *dir, uint64_t cookie, const struct timespec *time, bool head)
{
	if (dir->dir->next_cookie <= cookie)
		dir->dir->next_cookie = cookie + 1;
	if (head)
		dir->mtime = dir->ctime = *time;
}

static int apply_dentry(struct fs *fs, const struct fmt_dentry *r, bool head)
{
	struct inode *dir = get(fs, r->dir), *i = get(fs, r->ino);
	struct dentry *d;

	if (!dir || !i || ns_make_dir(dir) || ns_reserve_dentry(fs, dir))
		return -ENOMEM;
	d = ns_dentry_at(dir, r->cookie);
	if (d)
		ns_remove_dentry(fs, d);
	/* A removed slot of that cookie would stand in the way of the order. */
	d = ns_new_dentry(dir, i, r->name, r->name_length);
	if (!d)
		return -ENOMEM;
	d->cookie = r->cookie;
	d->time = r->time;
	ns_add_dentry(fs, d, false);
	touch_dir(dir, r->cookie, &r->time, head);
	return 0;
}

static int apply(struct fs *fs, const struct fmt_record *r, bool head)
{
	struct inode *i;
	struct dentry *d;
	struct xattr *x;
	int error;

	switch (r->type) {
	case FMT_INODE:
		return apply_inode(fs, &r->inode);
	case FMT_INODE_GONE:
		i = ns_find(fs, r->gone);
		if (i) {
			i->gone = true;
			i->known = false;
			while (i->xattrs)
				ns_drop_xattr(fs, i, i->xattrs);
		}
		return 0;
	case FMT_DENTRY:
		return apply_dentry(fs, &r->dentry, head);
	case FMT_DENTRY_GONE:
		i = get(fs, r->dentry_gone.dir);
		if (!i || ns_make_dir(i))
			return -ENOMEM;
		d = ns_dentry_at(i, r->dentry_gone.cookie);
		if (d)
			ns_remove_dentry(fs, d);
		touch_dir(i, r->dentry_gone.cookie, &r->dentry_gone.time, head);
		return 0;
	case FMT_XATTR:
		i = get(fs, r->xattr.ino);
		if (!i)
			return -ENOMEM;
		error = ns_set_xattr(fs, i, r->xattr.name, r->xattr.name_length, r->xattr.value, r->xattr.length);
		if (head)
			i->ctime = r->xattr.time;
		return error;
	case FMT_XATTR_GONE:
		i = ns_find(fs, r->xattr.ino);
		x = i ? ns_xattr(i, r->xattr.name, r->xattr.name_length) : NULL;
		if (x)
			ns_drop_xattr(fs, i, x);
		if (i && head)
			i->ctime = r->xattr.time;
		return 0;
	case FMT_MARKS:
		raise_marks(fs, &r->marks);
		return 0;
	case FMT_CHECKPOINT_DONE:
		return 0;
	}
	return -EUCLEAN;
}

/* All records of the batch at offset. */
static int apply_batch(struct replay *rp, uint64_t segment, uint64_t offset, const struct fmt_batch *b, bool head)
{
	const uint8_t *p = rp->buf + offset + FMT_BATCH_HEADER;
	struct fmt_record record;
	size_t at = 0, size;

	while (at < b->length) {
		int r = fmt_get_record(p + at, b->length - at, &record, &size);

		if (!r)
			r = apply(rp->fs, &record, head);
		if (r == -EUCLEAN) {
			fs_damage(rp->fs, "bad-record", "log segment %" PRIu64 ": record at byte %" PRIu64
				  " is damaged though its batch's checksum is right",
				  segment, offset + FMT_BATCH_HEADER + at);
			return 0;
		}
		if (r)
			return r;
		rp->records++;
		rp->busy |= record.type != FMT_MARKS;
		at += size;
	}
	return 0;
}

/* ---- the checkpoint and the head */

static int replay_checkpoint(struct replay *rp)
{
	struct fs *fs = rp->fs;
	uint64_t number = 1;
	struct fmt_segment header;
	struct fmt_batch b;

	fs->log.ckpt = malloc((rp->ckpt_count + 1) * sizeof(*fs->log.ckpt));
	if (!fs->log.ckpt)
		return -ENOMEM;
	for (uint32_t k = 0; k < rp->ckpt_count; k++) {
		const struct fmt_checkpoint_segment *c = &rp->ckpt[k];
		int r;

		if (fs->options.progress)
			fs->options.progress(fs->options.progress_arg, "checkpoint", k, rp->ckpt_count);
		fs->log.ckpt[fs->log.ckpt_count++] = c->number;
		if (c->end < FMT_SEGMENT_HEADER + FMT_BATCH_HEADER || c->end > FMT_BLOCK || !find_segment(rp, c->number)) {
			fs_damage(fs, "checkpoint-missing", "checkpoint segment %" PRIu64 " is missing", c->number);
			continue;
		}
		r = load(rp, c->number, c->end);
		if (r)
			return r;
		if (fmt_checksum(rp->buf, c->end) != c->checksum || fmt_get_segment(rp->buf, &header) ||
		    fmt_get_batch(rp->buf + FMT_SEGMENT_HEADER, c->end - FMT_SEGMENT_HEADER, &b) || b.number != number++) {
			fs_damage(fs, "checkpoint-bad", "checkpoint segment %" PRIu64 " is damaged", c->number);
			continue;
		}
		r = apply_batch(rp, c->number, FMT_SEGMENT_HEADER, &b, false);
		if (r)
			return r;
	}
	return 0;
}

/* In the segment in rp->buf, from offset on: is there a batch behind number `before`? It was written when that one was durable. */
static bool batch_behind(struct replay *rp, uint64_t segment, uint64_t offset, uint64_t before)
{
	struct fmt_batch b;

	for (; offset + FMT_BATCH_HEADER <= FMT_BLOCK; offset += FMT_BATCH_ALIGN)
		if (!fmt_get_batch(rp->buf + offset, FMT_BLOCK - offset, &b) && b.segment == segment && b.number > before &&
		    b.durable_through >= before && !memcmp(b.uuid, rp->fs->super.uuid, 16))
			return true;
	return false;
}

/*
 * Segments behind the one in which the log ends: head segments whose predecessor is lost, and segments without a header
 * in which a second batch stands; the header was durable with the first.  What a crash leaves half begun is neither.
 */
static int check_behind(struct replay *rp, const struct segment *last)
{
	for (size_t k = 0; k < rp->count; k++) {
		struct segment *s = &rp->segment[k];
		struct fmt_segment header;
		int r;

		if (s->number <= last->number)
			continue;
		if (s->head) {
			fs_damage(rp->fs, "log-hole", "the log goes on in segment %" PRIu64 ", but segment %" PRIu64
				  " before it is lost", s->number, s->header.prev);
			continue;
		}
		r = load(rp, s->number, FMT_BLOCK);
		if (r)
			return r;
		if (!fmt_get_segment(rp->buf, &header) && header.kind == FMT_CHECKPOINT && header.number == s->number)
			continue;
		if (batch_behind(rp, s->number, FMT_SEGMENT_HEADER + FMT_BATCH_ALIGN, 0))
			fs_damage(rp->fs, "log-hole", "log segment %" PRIu64 " is damaged, though the log goes on in it",
				  s->number);
	}
	return 0;
}

static int replay_head(struct replay *rp)
{
	struct fs *fs = rp->fs;
	struct segment *s = find_segment(rp, rp->s0);
	uint64_t expected, offset = 0, next_batch = 0;
	struct fmt_batch b;
	int r;

	if (!s || !s->head) {
		fs_damage(fs, "log-missing", "log segment %" PRIu64 ", where the log goes on behind the checkpoint, is %s",
			  rp->s0, s ? "damaged" : "missing");
		return fs_set_error(-EUCLEAN, "log segment %" PRIu64 " is lost", rp->s0);
	}
	expected = s->header.first_batch;
	for (;;) {
		uint64_t end = s->next ? s->next->header.prev_end : FMT_BLOCK;

		r = log_push_head(fs, s->number);
		if (!r)
			r = load(rp, s->number, FMT_BLOCK);
		if (r)
			return r;
		rp->busy = s->number == rp->s0;
		for (offset = FMT_SEGMENT_HEADER; offset < end && batch_at(rp, s, offset, expected, &b);
		     offset += fmt_batch_size(b.length), expected++) {
			r = apply_batch(rp, s->number, offset, &b, true);
			if (r)
				return r;
		}
		fs->log.idle++;
		if (rp->busy) {
			fs->log.idle = 0;
			fs->log.last_segment = s->number;
			fs->log.last_end = offset;
			next_batch = expected;
		}
		if (!s->next)
			break;
		if (offset != end) {
			fs_damage(fs, "log-hole", "log segment %" PRIu64 ": the batch at byte %" PRIu64
				  " is damaged, though the log goes on to byte %" PRIu64 " and behind it",
				  s->number, offset, end);
			expected = s->next->header.first_batch;
		}
		s = s->next;
		if (s->header.first_batch != expected) {
			fs_damage(fs, "log-hole", "log segment %" PRIu64 " begins with batch %" PRIu64 " instead of %" PRIu64,
				  s->number, s->header.first_batch, expected);
			expected = s->header.first_batch;
		}
	}
	if (batch_behind(rp, s->number, offset + FMT_BATCH_ALIGN, expected))
		fs_damage(fs, "log-hole", "log segment %" PRIu64 ": the batch at byte %" PRIu64
			  " is damaged, though it was durable", s->number, offset);
	else if (fs->super.clean && (fs->super.end_segment != s->number || fs->super.end_offset != offset))
		fs_damage(fs, "log-short", "the log ends in segment %" PRIu64 " at byte %" PRIu64
			  ", but the superblock says segment %" PRIu64 ", byte %" PRIu64,
			  s->number, offset, fs->super.end_segment, fs->super.end_offset);
	/* Mounts that changed nothing: this one's segment goes where theirs stand, so that crashes in a row take no room. */
	fs->log.next_batch = next_batch;
	fs->log.durable = next_batch - 1;
	return check_behind(rp, s);
}

/* ---- references */

static void forget_dentry(struct fs *fs, struct inode *dir, uint32_t slot)
{
	struct dentry *d = dir->dir->slot[slot].dentry;

	dir->dir->slot[slot].dentry = NULL;
	dir->dir->removed++;
	fs->dentry_count--;
	fs->live -= fmt_dentry_size(d->length);
	free(d);
}

static void name_entries(struct fs *fs, struct inode *dir)
{
	for (uint32_t k = 0; k < dir->dir->used; k++) {
		struct dentry *d = dir->dir->slot[k].dentry;

		if (!d)
			continue;
		if (dir->gone || !dir->known || !S_ISDIR(dir->mode)) {
			fs_damage(fs, "entry-no-dir", "entry '%s' stands in inode %" PRIu64 ", which is no directory",
				  d->name, dir->ino);
			forget_dentry(fs, dir, k);
		} else if (!d->inode->known) {
			fs_damage(fs, "entry-nowhere", "entry '%s' of directory %" PRIu64 " leads to inode %" PRIu64
				  ", which is not there", d->name, dir->ino, d->inode->ino);
			forget_dentry(fs, dir, k);
		} else if (d->inode == fs->root) {
			fs_damage(fs, "entry-root", "entry '%s' of directory %" PRIu64 " leads to the root directory",
				  d->name, dir->ino);
			forget_dentry(fs, dir, k);
		} else if (ns_lookup(fs, dir, d->name, d->length)) {
			fs_damage(fs, "entry-twice", "directory %" PRIu64 " has the name '%s' twice", dir->ino, d->name);
			forget_dentry(fs, dir, k);
		} else {
			ns_name_dentry(fs, d);
			d->inode->references++;		/* counted here, cleared below */
		}
	}
}

/*
 * What the root leads to.  A directory has one name: a second one is dropped, so that the tree has no circle; and
 * directories that name each other, without the root, are told.
 */
static int reach(struct fs *fs)
{
	struct inode **queue = malloc((fs->inode_count + 1) * sizeof(*queue));
	size_t head = 0, tail = 0;

	if (!queue)
		return -ENOMEM;
	fs->root->reached = true;
	queue[tail++] = fs->root;
	while (head < tail) {
		struct inode *dir = queue[head++];

		for (uint32_t k = 0; k < dir->dir->used; k++) {
			struct dentry *d = dir->dir->slot[k].dentry;
			uint64_t cookie = dir->dir->slot[k].cookie;

			if (!d || !S_ISDIR(d->inode->mode))
				continue;
			if (d->inode->reached) {
				fs_damage(fs, "dir-links", "directory %" PRIu64 " has another name, '%s' in directory %" PRIu64,
					  d->inode->ino, d->name, dir->ino);
				d->inode->references--;
				ns_remove_dentry(fs, d);
				k = ns_slot_after(dir->dir, cookie) - 1;	/* the slots may have moved */
				continue;
			}
			d->inode->reached = true;
			d->inode->dir->parent = dir;
			queue[tail++] = d->inode;
		}
		if (fs->options.progress && !(head % 1024))
			fs->options.progress(fs->options.progress_arg, "directories", head, fs->inode_count);
	}
	free(queue);
	return 0;
}

/* Only regular files have storage, and a symbolic link its target in its record. */
static void settle_data(struct fs *fs, struct inode *i)
{
	if (S_ISREG(i->mode))
		return;
	if (!S_ISLNK(i->mode) && (i->form != FMT_INLINE || i->length))
		fs_damage(fs, "data-odd", "inode %" PRIu64 " of type %o has data", i->ino, i->mode & S_IFMT);
	else if (S_ISLNK(i->mode) && (i->form != FMT_INLINE || i->length != i->size || !i->length || memchr(i->data, 0, i->length)))
		fs_damage(fs, "symlink-odd", "symbolic link %" PRIu64 " has no sound target", i->ino);
	else
		return;
	ns_set_form(fs, i, FMT_INLINE);
	i->size = 0;
}

/* Numbers are taken only below marks that are durable. */
static void settle_numbers(struct fs *fs, struct inode *i)
{
	bool low = i->ino >= fs->next[FMT_MARK_INO];

	if (i->form == FMT_RUN)
		low |= fmt_number(i->run) >= fs->next[FMT_MARK_PACKED];
	for (uint32_t k = 0; i->form == FMT_RANGES && k < i->length; k++)
		low |= fmt_number(i->ranges[k].base) + i->ranges[k].count > fs->next[FMT_MARK_FILE];
	if (low)
		fs_damage(fs, "marks-low", "inode %" PRIu64 " has a number, pages or blocks from beyond the log's marks", i->ino);
}

static void settle_inode(struct fs *fs, struct inode *i)
{
	uint64_t links = i->references, end = i->size > i->alloc_end ? i->size : i->alloc_end;

	i->references = 0;
	i->prepared = i->size;
	settle_data(fs, i);
	settle_numbers(fs, i);
	if (i->form == FMT_RUN)
		i->dirty_end = (uint64_t)i->length << FMT_PAGE_SHIFT;
	else if (i->form == FMT_RANGES)
		i->dirty_end = (end + FMT_BLOCK - 1) & ~(FMT_BLOCK - 1);
	if (i->dir && !S_ISDIR(i->mode)) {
		fs_damage(fs, "entry-no-dir", "inode %" PRIu64 " had entries and is no directory", i->ino);
		free(i->dir->slot);
		free(i->dir);
		i->dir = NULL;
	}
	if (i == fs->root)
		links = 1;
	if (i->dir && links > 1)
		fs_damage(fs, "dir-links", "directory %" PRIu64 " has %" PRIu64 " names", i->ino, links);
	if (i->dir && links && !i->reached)
		fs_damage(fs, "dir-loop", "directory %" PRIu64 " is not reached from the root", i->ino);
	if (links == i->nlink)
		return;
	if (!links)
		fs_damage(fs, "unreachable", "inode %" PRIu64 " has link count %u and no name", i->ino, i->nlink);
	else
		fs_damage(fs, "link-count", "inode %" PRIu64 " has link count %u and %" PRIu64 " names",
			  i->ino, i->nlink, links);
	if (links)
		i->nlink = (uint32_t)links;
}

static int settle(struct fs *fs)
{
	struct inode *i, *next;
	int r;

	fs->root = ns_find(fs, FS_ROOT_INO);
	if (!fs->root || !fs->root->known || !S_ISDIR(fs->root->mode)) {
		fs_damage(fs, "no-root", "the root directory is lost");
		return fs_set_error(-EUCLEAN, "the root directory is lost");
	}
	fs->root->dir->parent = fs->root;
	for (i = fs->all.next; i != &fs->all; i = i->next)
		if (i->dir)
			name_entries(fs, i);
	r = reach(fs);
	if (r)
		return r;
	for (i = fs->all.next; i != &fs->all; i = next) {
		next = i->next;
		if (i->known) {
			settle_inode(fs, i);
			continue;
		}
		if (i->xattrs)
			fs_damage(fs, "xattr-nowhere", "inode %" PRIu64 " has extended attributes and is not there", i->ino);
		ns_free_inode(fs, i);
	}
	fs->root->dir->parent = fs->root;
	return 0;
}

int replay(struct fs *fs)
{
	struct replay rp = { .fs = fs };
	int r;

	for (int k = 0; k < FMT_MARKS_COUNT; k++)
		fs->next[k] = 1;
	rp.buf = malloc(FMT_BLOCK);
	r = rp.buf ? read_headers(&rp) : -ENOMEM;
	if (!r) {
		link_segments(&rp);
		r = find_checkpoint(&rp);
	}
	if (!r && !rp.found) {
		fs_damage(fs, "no-checkpoint", "no committed checkpoint is in the log (%zu segments)", rp.count);
		r = fs_set_error(-EUCLEAN, "the metadata log is lost: no committed checkpoint in %zu segments", rp.count);
	}
	if (!r)
		r = replay_checkpoint(&rp);
	if (!r)
		r = replay_head(&rp);
	if (!r)
		r = settle(fs);
	if (rp.count && fs->next[FMT_MARK_LOG] <= rp.segment[rp.count - 1].number)
		fs->next[FMT_MARK_LOG] = rp.segment[rp.count - 1].number + 1;
	if (!r && fs->next[FMT_MARK_LOG] > FMT_NUMBER_MAX - SPARE_NUMBERS)
		fs_damage(fs, "marks-spent", "the numbers of log segments are used up (mark %" PRIu64 "): nothing can be written",
			  fs->next[FMT_MARK_LOG]);
	memcpy(fs->limit, fs->next, sizeof(fs->limit));
	memcpy(fs->durable_limit, fs->next, sizeof(fs->limit));
	fs->info.replayed = rp.records;
	free(rp.ckpt);
	free(rp.segment);
	free(rp.buf);
	return r;
}
