/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay - the namespace from the log: the newest committed checkpoint, then the
 * head stream from its S0 in order; the last record of a key wins, and references
 * are checked at the end.
 *
 * Damage is told with fs_damage() and does not end the replay: whatever can be read behind it is taken.  What
 * ends it (I/O, memory) is returned; so is, but for fsck, the loss of the checkpoint's record or of S0, without which a
 * mount would show little that is right.
 */
#include "fs.h"
#include "mutate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_NUMBERS (1u << 20)	/* of log segments: more than a mount begins */

struct segment {
	uint64_t number;
	struct fmt_segment header;
	bool head, ckpt;		/* a head segment, or one of a checkpoint, of this filesystem */
	bool begun;			/* head: a batch of it can be read, */
	uint64_t last;			/* ... the last one has this number */
	bool rebuilt;			/* a head segment whose header is damaged, known by its batches */
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
	bool guessed;			/* ckpt is of all segments that there are */
	uint64_t records;
	bool busy;			/* a record was applied that is not of marks */
};

/* " on ENDPOINT", for people: which brick has the segment. */
static const char *on_brick(struct fs *fs, uint64_t number)
{
	static _Thread_local char text[300];
	int brick = vol_where(fs->vol, fmt_addr(FMT_LOG, number));

	if (brick < 0)
		return "";
	snprintf(text, sizeof(text), " on brick %s", vol_brick_endpoint(fs->vol, (unsigned)brick));
	return text;
}

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

			if (fmt_get_segment(header[j], &s->header) || s->header.number != s->number ||
			    memcmp(s->header.uuid, fs->super.uuid, 16))
				continue;
			s->head = s->header.kind == FMT_HEAD;
			s->ckpt = !s->head;
			if (s->head && s->header.epoch > fs->log.epoch)
				fs->log.epoch = s->header.epoch;
		}
	}
	free(header);
	return r;
}

static int by_number(const void *a, const void *b)
{
	const struct segment *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static struct segment *find_segment(struct replay *rp, uint64_t number)
{
	struct segment key = { .number = number };

	return rp->count ? bsearch(&key, rp->segment, rp->count, sizeof(key), by_number) : NULL;
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

/* The batch at offset of segment `number` in rp->buf, with a right checksum and ours. */
static bool batch_of(struct replay *rp, uint64_t number, uint64_t offset, struct fmt_batch *b)
{
	return offset + FMT_BATCH_HEADER <= FMT_BLOCK && !fmt_get_batch(rp->buf + offset, FMT_BLOCK - offset, b) &&
	       b->segment == number && !memcmp(b->uuid, rp->fs->super.uuid, 16);
}

/* In the segment in rp->buf, from offset on: is there a batch behind number `before`? It was written when that one was durable. */
static bool batch_behind(struct replay *rp, uint64_t segment, uint64_t offset, uint64_t before)
{
	struct fmt_batch b;

	for (; offset + FMT_BATCH_HEADER <= FMT_BLOCK; offset += FMT_BATCH_ALIGN)
		if (batch_of(rp, segment, offset, &b) && b.number > before && b.durable_through >= before)
			return true;
	return false;
}

/*
 * The next batch of the segment in rp->buf, at *at or behind it, and before end.  It is number `expected`; or a later one, behind
 * bytes that are no batch: what stood there was durable when it was written, so it is damage and not a torn tail.
 */
static bool next_batch(struct replay *rp, const struct segment *s, uint64_t *at, uint64_t end, uint64_t expected, struct fmt_batch *b)
{
	if (*at >= end)
		return false;
	if (batch_of(rp, s->number, *at, b) && b->number == expected && b->epoch == s->header.epoch)
		return true;
	for (uint64_t offset = *at; offset < end; offset += FMT_BATCH_ALIGN)
		if (batch_of(rp, s->number, offset, b) && b->epoch == s->header.epoch &&
		    ((b->number > expected && b->durable_through >= expected) || (s->rebuilt && b->number == expected))) {
			*at = offset;
			return true;
		}
	return false;
}

/*
 * A segment without a sound header, in which batches of the head stand: at least two, or it is named by the next one. So
 * its header was durable; what a crash leaves half begun is neither.
 */
static int rebuild_header(struct replay *rp, struct segment *s)
{
	struct fmt_record first;
	struct fmt_batch b;
	uint64_t offset = FMT_SEGMENT_HEADER;
	bool named = false;
	size_t size;
	int r = load(rp, s->number, FMT_BLOCK);

	if (r)
		return r;
	while (offset < FMT_BLOCK && !batch_of(rp, s->number, offset, &b))
		offset += FMT_BATCH_ALIGN;
	if (offset >= FMT_BLOCK || b.durable_through != b.number - 1)
		return 0;
	/* The first of a checkpoint looks like the first of all; but numbers go only into the log. */
	if (b.number == 1 && (fmt_get_record(rp->buf + offset + FMT_BATCH_HEADER, b.length, &first, &size) || first.type != FMT_MARKS))
		return 0;
	for (size_t k = 0; k < rp->count; k++)
		named |= rp->segment[k].head && rp->segment[k].header.prev == s->number;
	if (!named && !batch_behind(rp, s->number, offset + FMT_BATCH_ALIGN, b.number))
		return 0;
	s->header = (struct fmt_segment){ .epoch = b.epoch, .number = s->number, .kind = FMT_HEAD, .first_batch = b.number };
	s->head = s->rebuilt = true;
	if (b.epoch > rp->fs->log.epoch)
		rp->fs->log.epoch = b.epoch;
	return 0;
}

static int rebuild_headers(struct replay *rp)
{
	int r = 0;

	for (size_t k = 0; k < rp->count && !r; k++)
		if (!rp->segment[k].head && !rp->segment[k].ckpt)
			r = rebuild_header(rp, &rp->segment[k]);
	return r;
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
		for (; next_batch(rp, s, &offset, end, number, &b); offset += fmt_batch_size(b.length), number = b.number + 1) {
			s->begun = true;
			s->last = b.number;
			if (rp->fs->log.top < b.number)
				rp->fs->log.top = b.number;
			size_t at = 0, size;

			while (at < b.length && !fmt_get_record(rp->buf + offset + FMT_BATCH_HEADER + at, b.length - at,
								&record, &size)) {
				if (record.type == FMT_CHECKPOINT_DONE &&
				    (r = note_checkpoint(rp, &record.checkpoint, number)))
					return r;
				/* Also of a segment that another one has taken the place of: numbers are not used twice. */
				if (record.type == FMT_MARKS)
					apply_marks(rp->fs, &record.marks);
				at += size;
			}
		}
	}
	return 0;
}

/* All records of the batch at offset. One that makes no sense is passed over. */
static int apply_batch(struct replay *rp, uint64_t segment, uint64_t offset, const struct fmt_batch *b, bool head)
{
	const uint8_t *p = rp->buf + offset + FMT_BATCH_HEADER;
	struct fmt_record record;
	size_t at = 0, size;

	rp->fs->log.applying = head ? b->number : 0;
	while (at < b->length) {
		int r;

		size = 0;
		r = fmt_get_record(p + at, b->length - at, &record, &size);
		if (!r)
			r = apply_record(rp->fs, &record, head);
		if (r == -EUCLEAN) {
			uint64_t key;

			fmt_peek_record(p + at, b->length - at, &key);
			fs_damage(rp->fs, "bad-record", "log segment %" PRIu64 "%s: record at byte %" PRIu64
				  ", of inode %" PRIu64 " as it seems, is damaged though its batch's checksum is right%s",
				  segment, on_brick(rp->fs, segment), offset + FMT_BATCH_HEADER + at, key, size ? "" : "; the rest of the batch is lost with it");
			if (!size)
				return 0;
		} else if (r) {
			return r;
		} else {
			rp->records++;
			rp->busy |= record.type != FMT_MARKS;
		}
		at += size;
	}
	return 0;
}

/*
 * fsck: records of a batch whose checksum is wrong, one behind the other from `at` to `to`, as far as that goes.  Most of them are
 * whole, and those of a checkpoint stand nowhere else; but none is proven, so each inode that they say something of is
 * told.  They take nothing away: no inode, no name, and no number.
 */
static int apply_unproven(struct replay *rp, size_t at, size_t to, bool head)
{
	struct fmt_record record;
	size_t size;

	for (; at < to && !fmt_get_record(rp->buf + at, to - at, &record, &size); at += size) {
		struct inode *i;
		int r;

		if (record.type != FMT_INODE && record.type != FMT_DENTRY && record.type != FMT_XATTR)
			continue;
		/* A type that changes is a number that is wrong. */
		r = apply_record(rp->fs, &record, head);
		if (r == -EUCLEAN)
			continue;
		if (r)
			return r;
		i = ns_find(rp->fs, record.type == FMT_INODE ? record.inode.ino : record.type == FMT_DENTRY ? record.dentry.ino : record.xattr.ino);
		if (i)
			i->unproven = true;
		rp->records++;
		rp->busy = true;
	}
	return 0;
}

/* The same of all batches in [from, to) of the head segment in rp->buf that still look like one. */
static int salvage(struct replay *rp, const struct segment *s, uint64_t from, uint64_t to)
{
	int r = 0;

	if (!rp->fs->options.check)
		return 0;
	for (uint64_t at = from; !r && at + FMT_BATCH_HEADER < to; at += FMT_BATCH_ALIGN)
		if (fmt_like_batch(rp->buf + at, rp->fs->super.uuid, s->number))
			r = apply_unproven(rp, at + FMT_BATCH_HEADER, to, true);
	return r;
}

/* ---- the checkpoint and the head */

static int replay_checkpoint(struct replay *rp)
{
	struct fs *fs = rp->fs;
	struct fmt_segment header;
	struct fmt_batch b;

	fs->log.ckpt = malloc((rp->ckpt_count + 1) * sizeof(*fs->log.ckpt));
	if (!fs->log.ckpt)
		return -ENOMEM;
	for (uint32_t k = 0; k < rp->ckpt_count; k++) {
		const struct fmt_checkpoint_segment *c = &rp->ckpt[k];
		bool whole;
		int r;

		if (fs->options.progress)
			fs->options.progress(fs->options.progress_arg, "checkpoint", k, rp->ckpt_count);
		fs->log.ckpt[fs->log.ckpt_count++] = c->number;
		if (c->end < FMT_SEGMENT_HEADER + FMT_BATCH_HEADER || c->end > FMT_BLOCK || !find_segment(rp, c->number)) {
			fs_damage(fs, "checkpoint-missing", "segment %" PRIu64 ", number %" PRIu32 " of %" PRIu32
				  " of the checkpoint, is missing: what it held is lost", c->number, k + 1, rp->ckpt_count);
			continue;
		}
		r = load(rp, c->number, c->end);
		if (r)
			return r;
		whole = !fmt_get_batch(rp->buf + FMT_SEGMENT_HEADER, c->end - FMT_SEGMENT_HEADER, &b) &&
			!memcmp(b.uuid, fs->super.uuid, 16) && b.segment == c->number;
		if (!whole || (!rp->guessed && b.number != k + 1) || fmt_checksum(rp->buf, c->end) != c->checksum ||
		    fmt_get_segment(rp->buf, &header))
			fs_damage(fs, "checkpoint-bad", "segment %" PRIu64 "%s, number %" PRIu32 " of %" PRIu32
				  " of the checkpoint, is damaged: %s", c->number, on_brick(fs, c->number), k + 1, rp->ckpt_count,
				  whole ? "its records are whole" : "what cannot be read of it is lost");
		r = whole ? apply_batch(rp, c->number, FMT_SEGMENT_HEADER, &b, false) :
		    fs->options.check ? apply_unproven(rp, FMT_SEGMENT_HEADER + FMT_BATCH_HEADER, c->end, false) : 0;
		if (r)
			return r;
	}
	return 0;
}

/* The last ends where the log does, or where the record of a clean unmount says. */
static int check_end(struct replay *rp, const struct segment *s, uint64_t offset)
{
	const struct fs *fs = rp->fs;
	const struct segment *s0 = find_segment(rp, rp->s0);

	if (!fs->super.clean || (fs->super.end_segment == s->number && fs->super.end_offset == offset))
		return 0;
	/*
	 * A repair that was cut off after its commit and before its superblocks: its log began behind that end, and all before it is
	 * in its checkpoint.  Their epoch may be a later one than its own: another repair raised it and was cut off, too.
	 */
	if (s0 && s0->head && s0->header.first_batch > fs->super.end_batch)
		return 0;
	fs_damage(rp->fs, "log-short", "the log ends in segment %" PRIu64 "%s at byte %" PRIu64
		  ", but the superblock says segment %" PRIu64 ", byte %" PRIu64 ": what was done between is lost",
		  s->number, on_brick(rp->fs, s->number), offset, fs->super.end_segment, fs->super.end_offset);
	if (fs->super.end_segment == s->number && fs->super.end_offset <= FMT_BLOCK)
		return salvage(rp, s, offset, fs->super.end_offset);
	return 0;
}

/* Of two head segments with the same predecessor the one of the later epoch counts. */
static bool superseded(struct replay *rp, const struct segment *s)
{
	for (size_t k = 0; s->header.prev && k < rp->count; k++) {
		const struct segment *other = &rp->segment[k];

		if (other->head && other->header.prev == s->header.prev && other->header.epoch > s->header.epoch)
			return true;
	}
	return false;
}

/*
 * Does nothing show that a batch of this segment was ever durable?  A repair that is cut off leaves one: it follows nothing, and until
 * its first batch is durable it belongs to no log.  It does belong to one when a batch of it can be read, when another segment
 * names it, when the superblocks say that the log ends in it, and when a batch that was written later tells that this
 * segment's first one was durable. One that follows another is never so: it was begun when that one was durable.
 */
static bool of_no_log(const struct replay *rp, const struct segment *s)
{
	const struct fmt_super *super = &rp->fs->super;

	if (s->begun || s->rebuilt || s->header.prev || (rp->found && rp->s0 == s->number) ||
	    (super->clean && super->end_segment == s->number))
		return false;
	for (size_t k = 0; k < rp->count; k++) {
		const struct segment *other = &rp->segment[k];

		if (other->head && (other->header.prev == s->number ||
				    (other->number > s->number && other->begun && other->last > s->header.first_batch)))
			return false;
	}
	return !MUTATED(NO_LOG_COUNTS);
}

/* The first head segment behind that number, whatever it follows. */
static struct segment *head_behind(struct replay *rp, uint64_t number)
{
	for (size_t k = 0; k < rp->count; k++) {
		struct segment *s = &rp->segment[k];

		if (s->number > number && s->head && !superseded(rp, s) && !of_no_log(rp, s))
			return s;
	}
	return NULL;
}

/* What is missing before the batch that was found next; some of it may be readable. */
static int hole(struct replay *rp, const struct segment *s, uint64_t from, uint64_t to, uint64_t expected, uint64_t found)
{
	fs_damage(rp->fs, "log-hole", "log segment %" PRIu64 "%s: bytes %" PRIu64 " to %" PRIu64 " are damaged, though they were durable: "
		  "batches %" PRIu64 " to %" PRIu64 " are lost, and what was done in them", s->number, on_brick(rp->fs, s->number), from, to - 1, expected, found - 1);
	return salvage(rp, s, from, to);
}

/* Goes on behind s, where nothing follows it in order. NULL: the log ends there. */
static struct segment *jump(struct replay *rp, uint64_t from)
{
	struct segment *s = head_behind(rp, from);

	if (!s)
		return NULL;
	if (s->rebuilt)
		fs_damage(rp->fs, "log-hole", "log segment %" PRIu64 "%s has a damaged header, though the log goes on in it", s->number,
			  on_brick(rp->fs, s->number));
	else
		fs_damage(rp->fs, "log-hole", "the log goes on in segment %" PRIu64 ", but segment %" PRIu64
			  " before it is lost, and what was done in it", s->number, s->header.prev);
	return s;
}

static int replay_head(struct replay *rp)
{
	struct fs *fs = rp->fs;
	struct segment *s = find_segment(rp, rp->s0);
	uint64_t expected, offset = 0, behind = fs->log.top + 1;
	struct fmt_batch b;
	int r;

	if (!rp->guessed && (!s || !s->head)) {
		fs_damage(fs, "log-missing", "log segment %" PRIu64 "%s, where the log goes on behind the checkpoint, is %s",
			  rp->s0, on_brick(fs, rp->s0), s ? "damaged" : "missing");
		if (!fs->options.check)
			return fs_set_error(-EUCLEAN, "log segment %" PRIu64 "%s is lost; fsck.brickfs -y keeps what can still be read", rp->s0,
					    on_brick(fs, rp->s0));
		s = NULL;
	}
	if (!s)
		s = head_behind(rp, rp->s0);
	if (s && s->rebuilt)
		fs_damage(fs, "log-hole", "log segment %" PRIu64 "%s has a damaged header, though the log goes on in it", s->number,
			  on_brick(fs, s->number));
	expected = s ? s->header.first_batch : 0;
	while (s) {
		uint64_t end = s->next ? s->next->header.prev_end : FMT_BLOCK;
		struct segment *next = s->next;

		if (fs->options.progress)
			fs->options.progress(fs->options.progress_arg, "log", s->number - rp->segment[0].number,
					     rp->segment[rp->count - 1].number - rp->segment[0].number + 1);
		r = log_push_head(fs, s->number);
		if (!r)
			r = load(rp, s->number, FMT_BLOCK);
		if (r)
			return r;
		rp->busy = s->number == rp->s0;
		for (uint64_t at = offset = FMT_SEGMENT_HEADER; next_batch(rp, s, &at, end, expected, &b); offset = at) {
			r = at != offset || b.number != expected ? hole(rp, s, offset, at, expected, b.number) : 0;
			if (!r)
				r = apply_batch(rp, s->number, at, &b, true);
			if (r)
				return r;
			at += fmt_batch_size(b.length);
			expected = b.number + 1;
		}
		fs->log.idle++;
		if (rp->busy) {
			fs->log.idle = 0;
			fs->log.last_segment = s->number;
			fs->log.last_end = offset;
			behind = expected;
		}
		if (next) {
			if (offset != end)
				r = hole(rp, s, offset, end, expected, next->header.first_batch);
			else if (next->header.first_batch != expected)
				fs_damage(fs, "log-hole", "log segment %" PRIu64 "%s begins with batch %" PRIu64 " instead of %" PRIu64,
					  next->number, on_brick(fs, next->number), next->header.first_batch, expected);
		} else {
			next = jump(rp, s->number);
			if (!next)
				r = check_end(rp, s, offset);
		}
		if (r)
			return r;
		s = next;
		expected = s ? s->header.first_batch : 0;
	}
	/* Mounts that changed nothing: this one's segment goes where theirs stand, so that crashes in a row take no room. */
	fs->log.next_batch = behind;
	fs->log.durable = behind - 1;
	return 0;
}

/* From that number on, segments are of a repair that was cut off before it counted; UINT64_MAX: there was none. */
static uint64_t cut_off_from(const struct replay *rp)
{
	uint64_t from = rp->fs->super.repair_log;

	for (size_t k = 0; from && k < rp->count; k++)
		if (rp->segment[k].head && rp->segment[k].begun && rp->segment[k].number >= from)
			from = 0;
	return from ? from : UINT64_MAX;
}

/* A guess must not take what such a repair has written: checkpoints of an epoch that no log follows, if there are older ones. */
static uint64_t guess_epoch(struct replay *rp)
{
	uint64_t log = 0, least = UINT64_MAX, most = 0;

	for (size_t k = 0; k < rp->count; k++)
		if (rp->segment[k].head && rp->segment[k].begun && rp->segment[k].header.epoch > log)
			log = rp->segment[k].header.epoch;
	for (size_t k = 0; k < rp->count; k++) {
		if (!rp->segment[k].ckpt)
			continue;
		if (rp->segment[k].header.epoch < least)
			least = rp->segment[k].header.epoch;
		if (rp->segment[k].header.epoch <= log)
			most = log;
	}
	return most ? most : least;
}

static void put_guess(struct replay *rp, uint64_t number, uint64_t end, bool whole, uint32_t *damaged)
{
	uint32_t at = whole ? rp->ckpt_count : *damaged;

	/* Those that are damaged come first: what a sound one says counts more. */
	memmove(&rp->ckpt[at + 1], &rp->ckpt[at], (rp->ckpt_count - at) * sizeof(*rp->ckpt));
	rp->ckpt[at] = (struct fmt_checkpoint_segment){ number, end, fmt_checksum(rp->buf, end) };
	rp->ckpt_count++;
	*damaged += !whole;
}

/*
 * The record of the newest checkpoint is lost, and with it which segments are of it, and where the log goes on. All segments of
 * checkpoints that are there, in order, and then all of the log: what an older one said is said again by a later one.
 */
static int guess_checkpoint(struct replay *rp)
{
	struct fs *fs = rp->fs;
	uint64_t newest = guess_epoch(rp), cut_off = cut_off_from(rp);
	uint32_t damaged = 0;

	fs_damage(fs, "no-checkpoint", "no committed checkpoint is in the log (%zu segments), or not one of its segments is there", rp->count);
	if (!fs->options.check)
		return fs_set_error(-EUCLEAN, "the metadata log is lost: no committed checkpoint in %zu segments; "
				    "fsck.brickfs -y keeps what can still be read", rp->count);
	free(rp->ckpt);
	rp->ckpt = calloc(rp->count + 1, sizeof(*rp->ckpt));
	rp->ckpt_count = 0;
	if (!rp->ckpt)
		return -ENOMEM;
	for (size_t k = 0; k < rp->count; k++) {
		uint64_t number = rp->segment[k].number;
		struct fmt_batch b;
		bool whole;
		int r;

		if (rp->segment[k].head || number >= cut_off)
			continue;
		r = load(rp, number, FMT_BLOCK);
		if (r)
			return r;
		whole = batch_of(rp, number, FMT_SEGMENT_HEADER, &b) && !b.durable_through;
		if ((whole ? b.epoch : rp->segment[k].header.epoch) > newest)
			continue;
		if (whole || rp->segment[k].ckpt)
			put_guess(rp, number, whole ? FMT_SEGMENT_HEADER + fmt_batch_size(b.length) : FMT_BLOCK, whole, &damaged);
	}
	rp->s0 = 0;
	rp->guessed = true;
	return 0;
}

/* Is what the record names there at all? Not that of an older checkpoint, which is left when the newest is lost. */
static bool checkpoint_there(struct replay *rp)
{
	struct segment *s0 = find_segment(rp, rp->s0);
	uint32_t there = 0;

	for (uint32_t k = 0; k < rp->ckpt_count; k++)
		there += find_segment(rp, rp->ckpt[k].number) != NULL;
	return rp->ckpt_count ? there : s0 && s0->head;
}

int replay(struct fs *fs)
{
	struct replay rp = { .fs = fs };
	int r;

	for (int k = 0; k < FMT_MARKS_COUNT; k++)
		fs->next[k] = 1;
	rp.buf = vol_buffer_alloc(fs->vol, FMT_BLOCK);
	r = rp.buf ? read_headers(&rp) : -ENOMEM;
	if (!r)
		r = rebuild_headers(&rp);
	if (!r) {
		link_segments(&rp);
		r = find_checkpoint(&rp);
	}
	if (!r && (!rp.found || (fs->options.check && !checkpoint_there(&rp))))
		r = guess_checkpoint(&rp);
	if (!r)
		r = replay_checkpoint(&rp);
	if (!r)
		r = replay_head(&rp);
	if (!r)
		r = settle(fs);
	if (rp.count && fs->next[FMT_MARK_LOG] <= rp.segment[rp.count - 1].number)
		fs->next[FMT_MARK_LOG] = rp.segment[rp.count - 1].number + 1;
	if (!r && fs->next[FMT_MARK_LOG] > FMT_NUMBER_MAX - SPARE_NUMBERS) {
		fs_damage(fs, "marks-spent", "the numbers of log segments are used up (mark %" PRIu64 "): nothing can be written",
			  fs->next[FMT_MARK_LOG]);
		if (fs->options.check && rp.count)
			fs->next[FMT_MARK_LOG] = rp.segment[rp.count - 1].number + 1;
	}
	memcpy(fs->limit, fs->next, sizeof(fs->limit));
	memcpy(fs->durable_limit, fs->next, sizeof(fs->limit));
	fs->info.replayed = rp.records;
	free(rp.ckpt);
	free(rp.segment);
	vol_buffer_remove(fs->vol, rp.buf);
	return r;
}
