/* SPDX-License-Identifier: BSD-3-Clause */
/* format - encoders and decoders of everything that lies on the bricks. */
#include "format.h"
#include "mutate.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

#define SUPER_MAGIC   0x3153466b63697242ull	/* "BrickFS1" in memory order */
#define SEGMENT_MAGIC 0x31676553736642ull	/* "BfsSeg1" */
#define BATCH_MAGIC   0x62736642u		/* "Bfsb" */

static void put16(uint8_t *p, uint16_t v) { v = htole16(v); memcpy(p, &v, 2); }
static void put32(uint8_t *p, uint32_t v) { v = htole32(v); memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { v = htole64(v); memcpy(p, &v, 8); }
static uint16_t get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return le16toh(v); }
static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return le32toh(v); }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return le64toh(v); }

static void put_time(uint8_t *p, const struct timespec *t)
{
	put64(p, (uint64_t)t->tv_sec);
	put32(p + 8, (uint32_t)t->tv_nsec);
}

static int get_time(const uint8_t *p, struct timespec *t)
{
	uint32_t nsec = get32(p + 8);

	t->tv_sec = (int64_t)get64(p);
	t->tv_nsec = nsec;
	return nsec < 1000000000 ? 0 : -EUCLEAN;
}

uint64_t fmt_checksum(const void *data, size_t length)
{
	return XXH3_64bits(data, length);
}

/* ---- superblock */

enum {
	S_MAGIC = 0, S_VERSION = 8, S_UUID = 16, S_LABEL = 32, S_COMPAT = 96, S_RO_COMPAT = 104, S_INCOMPAT = 112,
	S_SEQUENCE = 120, S_EPOCH = 128, S_CLEAN = 136, S_COPIES = 140, S_END_SEGMENT = 144, S_END_OFFSET = 152,
	S_END_BATCH = 160, S_CREATED = 168, S_BRICK_COUNT = 176, S_REPAIR_PACKED = 184, S_REPAIR_FILE = 192, S_REPAIR_LOG = 200,
	S_BRICKS = 256, S_BRICK = 16 + FMT_ENDPOINT_MAX,
	S_CHECKSUM = FMT_PAGE - 8,
};
_Static_assert(S_BRICKS + FMT_BRICKS_MAX * S_BRICK <= S_CHECKSUM, "the brick table fits the superblock");

void fmt_put_super(uint8_t page[FMT_PAGE], const struct fmt_super *s)
{
	memset(page, 0, FMT_PAGE);
	put64(page + S_MAGIC, SUPER_MAGIC);
	put32(page + S_VERSION, FMT_VERSION);
	memcpy(page + S_UUID, s->uuid, 16);
	memcpy(page + S_LABEL, s->label, strnlen(s->label, FMT_LABEL_MAX - 1));
	put64(page + S_COMPAT, s->compat);
	put64(page + S_RO_COMPAT, s->ro_compat);
	put64(page + S_INCOMPAT, s->incompat);
	put64(page + S_SEQUENCE, s->sequence);
	put64(page + S_EPOCH, s->epoch);
	put32(page + S_CLEAN, s->clean);
	put32(page + S_COPIES, s->copies);
	put64(page + S_END_SEGMENT, s->end_segment);
	put64(page + S_END_OFFSET, s->end_offset);
	put64(page + S_END_BATCH, s->end_batch);
	put64(page + S_CREATED, (uint64_t)s->created);
	put32(page + S_BRICK_COUNT, s->brick_count);
	put64(page + S_REPAIR_PACKED, s->repair_packed);
	put64(page + S_REPAIR_FILE, s->repair_file);
	put64(page + S_REPAIR_LOG, s->repair_log);
	for (uint32_t i = 0; i < s->brick_count && i < FMT_BRICKS_MAX; i++) {
		uint8_t *b = page + S_BRICKS + i * S_BRICK;

		memcpy(b, s->brick[i].uuid, 16);
		memcpy(b + 16, s->brick[i].endpoint, strnlen(s->brick[i].endpoint, FMT_ENDPOINT_MAX - 1));
	}
	put64(page + S_CHECKSUM, fmt_checksum(page, S_CHECKSUM));
}

bool fmt_super_magic(const uint8_t page[FMT_PAGE])
{
	return get64(page + S_MAGIC) == SUPER_MAGIC;
}

int fmt_get_super(const uint8_t page[FMT_PAGE], struct fmt_super *s)
{
	memset(s, 0, sizeof(*s));
	if (!fmt_super_magic(page) ||
	    (get64(page + S_CHECKSUM) != fmt_checksum(page, S_CHECKSUM) && !MUTATED(SUPER_UNCHECKED)))
		return -EUCLEAN;
	if (get32(page + S_VERSION) != FMT_VERSION)
		return -EPROTONOSUPPORT;
	memcpy(s->uuid, page + S_UUID, 16);
	memcpy(s->label, page + S_LABEL, FMT_LABEL_MAX);
	s->compat = get64(page + S_COMPAT);
	s->ro_compat = get64(page + S_RO_COMPAT);
	s->incompat = get64(page + S_INCOMPAT);
	s->sequence = get64(page + S_SEQUENCE);
	s->epoch = get64(page + S_EPOCH);
	s->clean = get32(page + S_CLEAN) == 1;
	s->copies = get32(page + S_COPIES);
	s->end_segment = get64(page + S_END_SEGMENT);
	s->end_offset = get64(page + S_END_OFFSET);
	s->end_batch = get64(page + S_END_BATCH);
	s->created = (int64_t)get64(page + S_CREATED);
	s->brick_count = get32(page + S_BRICK_COUNT);
	s->repair_packed = get64(page + S_REPAIR_PACKED);
	s->repair_file = get64(page + S_REPAIR_FILE);
	s->repair_log = get64(page + S_REPAIR_LOG);
	if (s->label[FMT_LABEL_MAX - 1] || s->epoch > FMT_EPOCH_MAX || !s->brick_count || s->brick_count > FMT_BRICKS_MAX || s->copies != 1)
		return -EUCLEAN;
	for (uint32_t i = 0; i < s->brick_count; i++) {
		const uint8_t *b = page + S_BRICKS + i * S_BRICK;

		memcpy(s->brick[i].uuid, b, 16);
		memcpy(s->brick[i].endpoint, b + 16, FMT_ENDPOINT_MAX);
		if (s->brick[i].endpoint[FMT_ENDPOINT_MAX - 1])
			return -EUCLEAN;
	}
	return 0;
}

/* ---- segments and batches */

void fmt_put_segment(uint8_t buf[FMT_SEGMENT_HEADER], const struct fmt_segment *s)
{
	memset(buf, 0, FMT_SEGMENT_HEADER);
	put64(buf, SEGMENT_MAGIC);
	memcpy(buf + 8, s->uuid, 16);
	put64(buf + 24, s->epoch);
	put64(buf + 32, s->number);
	put32(buf + 40, s->kind);
	put64(buf + 48, s->prev);
	put64(buf + 56, s->prev_end);
	put64(buf + 64, s->first_batch);
	put32(buf + 72, s->brick_count);
	put64(buf + 80, s->bricks);
	put64(buf + 88, (uint64_t)s->created);
	memcpy(buf + 96, s->label, strnlen(s->label, FMT_NOTED_LABEL));
	put64(buf + FMT_SEGMENT_HEADER - 8, fmt_checksum(buf, FMT_SEGMENT_HEADER - 8));
}

int fmt_get_segment(const uint8_t buf[FMT_SEGMENT_HEADER], struct fmt_segment *s)
{
	if (get64(buf) != SEGMENT_MAGIC ||
	    (get64(buf + FMT_SEGMENT_HEADER - 8) != fmt_checksum(buf, FMT_SEGMENT_HEADER - 8) && !MUTATED(SEGMENT_UNCHECKED)))
		return -EUCLEAN;
	memcpy(s->uuid, buf + 8, 16);
	s->epoch = get64(buf + 24);
	s->number = get64(buf + 32);
	s->kind = get32(buf + 40);
	s->prev = get64(buf + 48);
	s->prev_end = get64(buf + 56);
	s->first_batch = get64(buf + 64);
	s->brick_count = get32(buf + 72);
	s->bricks = get64(buf + 80);
	s->created = (int64_t)get64(buf + 88);
	memcpy(s->label, buf + 96, FMT_NOTED_LABEL);
	s->label[FMT_NOTED_LABEL] = 0;
	if ((s->kind != FMT_HEAD && s->kind != FMT_CHECKPOINT) || s->prev_end > FMT_BLOCK ||
	    s->number >= FMT_NUMBER_MAX || s->epoch > FMT_EPOCH_MAX || s->brick_count > FMT_BRICKS_MAX)
		return -EUCLEAN;
	return 0;
}

static int by_uuid(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

uint64_t fmt_brick_set(const uint8_t (*uuid)[16], uint32_t count)
{
	uint8_t sorted[FMT_BRICKS_MAX][16];

	if (count > FMT_BRICKS_MAX)
		return 0;
	memcpy(sorted, uuid, count * sizeof(sorted[0]));
	qsort(sorted, count, sizeof(sorted[0]), by_uuid);
	return XXH3_64bits(sorted, count * sizeof(sorted[0]));
}

/* XXH3 of the records, seeded with the XXH3 of the header before this field. */
enum { B_CHECKSUM = 56 };

static uint64_t batch_checksum(const uint8_t *buf, uint32_t length)
{
	return XXH3_64bits_withSeed(buf + FMT_BATCH_HEADER, length, XXH3_64bits(buf, B_CHECKSUM));
}

void fmt_put_batch(uint8_t *buf, const struct fmt_batch *b)
{
	put32(buf, BATCH_MAGIC);
	put32(buf + 4, b->length);
	memcpy(buf + 8, b->uuid, 16);
	put64(buf + 24, b->epoch);
	put64(buf + 32, b->number);
	put64(buf + 40, b->durable_through);
	put64(buf + 48, b->segment);
	put64(buf + B_CHECKSUM, batch_checksum(buf, b->length));
}

int fmt_get_batch(const uint8_t *buf, size_t room, struct fmt_batch *b)
{
	if (room < FMT_BATCH_HEADER || get32(buf) != BATCH_MAGIC)
		return -EUCLEAN;
	b->length = get32(buf + 4);
	if (b->length > room - FMT_BATCH_HEADER ||
	    (get64(buf + B_CHECKSUM) != batch_checksum(buf, b->length) && !MUTATED(BATCH_UNCHECKED)))
		return -EUCLEAN;
	memcpy(b->uuid, buf + 8, 16);
	b->epoch = get64(buf + 24);
	b->number = get64(buf + 32);
	b->durable_through = get64(buf + 40);
	b->segment = get64(buf + 48);
	return 0;
}

/* ---- records */

enum { R_HEADER = 8, I_FIXED = 144, D_FIXED = 56, X_FIXED = 40, C_FIXED = 24 };

static size_t pad8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static size_t put_record(uint8_t *buf, enum fmt_record_type type, size_t length)
{
	size_t size = pad8(length);

	put16(buf, type);
	put16(buf + 2, 0);
	put32(buf + 4, (uint32_t)size);
	memset(buf + length, 0, size - length);
	return size;
}

size_t fmt_inode_size(uint32_t form, uint32_t length)
{
	switch (form) {
	case FMT_INLINE:
		return pad8(I_FIXED + length);
	case FMT_RUN:
		return I_FIXED + 8;
	default:
		return I_FIXED + 16 * (size_t)length;
	}
}

size_t fmt_dentry_size(unsigned name_length)
{
	return pad8(D_FIXED + name_length);
}

size_t fmt_xattr_size(unsigned name_length, uint32_t length)
{
	return pad8(X_FIXED + name_length + length);
}

size_t fmt_checkpoint_size(uint32_t count)
{
	return C_FIXED + 24 * (size_t)count;
}

size_t fmt_put_inode(uint8_t *buf, const struct fmt_inode *i)
{
	put64(buf + 8, i->ino);
	put32(buf + 16, i->mode);
	put32(buf + 20, i->nlink);
	put32(buf + 24, i->uid);
	put32(buf + 28, i->gid);
	put64(buf + 32, i->rdev);
	put64(buf + 40, i->size);
	put64(buf + 48, i->blocks);
	put64(buf + 56, i->alloc_end);
	put64(buf + 64, i->next_cookie);
	put_time(buf + 72, &i->atime);
	put_time(buf + 84, &i->mtime);
	put_time(buf + 96, &i->ctime);
	put32(buf + 108, 0);
	put32(buf + 112, i->form);
	put32(buf + 116, i->length);
	memset(buf + 120, 0, I_FIXED - 120);
	switch (i->form) {
	case FMT_INLINE:
		if (i->length)
			memcpy(buf + I_FIXED, i->data, i->length);
		return put_record(buf, FMT_INODE, I_FIXED + i->length);
	case FMT_RUN:
		put64(buf + I_FIXED, i->run);
		return put_record(buf, FMT_INODE, I_FIXED + 8);
	default:
		for (uint32_t k = 0; k < i->length; k++) {
			put32(buf + I_FIXED + 16 * k, i->ranges[k].fblock);
			put32(buf + I_FIXED + 16 * k + 4, i->ranges[k].count);
			put64(buf + I_FIXED + 16 * k + 8, i->ranges[k].base);
		}
		return put_record(buf, FMT_INODE, I_FIXED + 16 * (size_t)i->length);
	}
}

void fmt_get_range(const uint8_t *raw, uint32_t index, struct fmt_range *range)
{
	range->fblock = get32(raw + 16 * index);
	range->count = get32(raw + 16 * index + 4);
	range->base = get64(raw + 16 * index + 8);
}

size_t fmt_put_gone(uint8_t *buf, uint64_t ino)
{
	put64(buf + 8, ino);
	return put_record(buf, FMT_INODE_GONE, FMT_GONE_SIZE);
}

size_t fmt_put_dentry(uint8_t *buf, const struct fmt_dentry *d)
{
	put64(buf + 8, d->dir);
	put64(buf + 16, d->cookie);
	put64(buf + 24, d->ino);
	put_time(buf + 32, &d->time);
	buf[44] = d->type;
	buf[45] = d->name_length;
	memset(buf + 46, 0, D_FIXED - 46);
	memcpy(buf + D_FIXED, d->name, d->name_length);
	return put_record(buf, FMT_DENTRY, D_FIXED + d->name_length);
}

size_t fmt_put_dentry_gone(uint8_t *buf, const struct fmt_dentry_gone *g)
{
	put64(buf + 8, g->dir);
	put64(buf + 16, g->cookie);
	put_time(buf + 24, &g->time);
	put32(buf + 36, 0);
	return put_record(buf, FMT_DENTRY_GONE, FMT_DENTRY_GONE_SIZE);
}

size_t fmt_put_xattr(uint8_t *buf, const struct fmt_xattr *x, bool gone)
{
	uint32_t length = gone ? 0 : x->length;

	put64(buf + 8, x->ino);
	put_time(buf + 16, &x->time);
	put32(buf + 28, length);
	put32(buf + 32, x->name_length);
	put32(buf + 36, 0);
	memcpy(buf + X_FIXED, x->name, x->name_length);
	if (length)
		memcpy(buf + X_FIXED + x->name_length, x->value, length);
	return put_record(buf, gone ? FMT_XATTR_GONE : FMT_XATTR, X_FIXED + x->name_length + length);
}

size_t fmt_put_marks(uint8_t *buf, const struct fmt_marks *m)
{
	for (int i = 0; i < FMT_MARKS_COUNT; i++)
		put64(buf + 8 + 8 * i, m->mark[i]);
	return put_record(buf, FMT_MARKS, FMT_MARKS_SIZE);
}

size_t fmt_put_checkpoint(uint8_t *buf, const struct fmt_checkpoint *c)
{
	put64(buf + 8, c->s0);
	put32(buf + 16, c->count);
	put32(buf + 20, 0);
	for (uint32_t i = 0; i < c->count; i++) {
		put64(buf + C_FIXED + 24 * i, c->segments[i].number);
		put64(buf + C_FIXED + 24 * i + 8, c->segments[i].end);
		put64(buf + C_FIXED + 24 * i + 16, c->segments[i].checksum);
	}
	return put_record(buf, FMT_CHECKPOINT_DONE, fmt_checkpoint_size(c->count));
}

void fmt_get_checkpoint_segment(const uint8_t *raw, uint32_t index, struct fmt_checkpoint_segment *s)
{
	s->number = get64(raw + 24 * index);
	s->end = get64(raw + 24 * index + 8);
	s->checksum = get64(raw + 24 * index + 16);
}

static bool sound_mode(uint32_t mode)
{
	if (mode & ~(uint32_t)(S_IFMT | 07777))
		return false;
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
	       S_ISSOCK(mode);
}

static int get_inode(const uint8_t *buf, size_t size, struct fmt_inode *i)
{
	if (size < I_FIXED)
		return -EUCLEAN;
	i->ino = get64(buf + 8);
	i->mode = get32(buf + 16);
	i->nlink = get32(buf + 20);
	i->uid = get32(buf + 24);
	i->gid = get32(buf + 28);
	i->rdev = get64(buf + 32);
	i->size = get64(buf + 40);
	i->blocks = get64(buf + 48);
	i->alloc_end = get64(buf + 56);
	i->next_cookie = get64(buf + 64);
	if (get_time(buf + 72, &i->atime) || get_time(buf + 84, &i->mtime) || get_time(buf + 96, &i->ctime))
		return -EUCLEAN;
	i->form = get32(buf + 112);
	i->length = get32(buf + 116);
	i->data = i->raw_ranges = NULL;
	i->ranges = NULL;
	i->run = 0;
	if (!i->ino || i->size > FMT_FILE_BLOCKS << FMT_BLOCK_SHIFT || i->alloc_end > FMT_FILE_BLOCKS << FMT_BLOCK_SHIFT ||
	    !sound_mode(i->mode) || i->next_cookie > FMT_COOKIE_MAX)
		return -EUCLEAN;
	if (i->form != FMT_INLINE && !S_ISREG(i->mode))
		return -EUCLEAN;
	switch (i->form) {
	case FMT_INLINE:
		if (i->length > (S_ISLNK(i->mode) ? FMT_SYMLINK_MAX : FMT_INLINE_MAX) || i->length > size - I_FIXED ||
		    (S_ISREG(i->mode) && i->length > i->size))
			return -EUCLEAN;
		i->data = buf + I_FIXED;
		return 0;
	case FMT_RUN:
		if (size < I_FIXED + 8 || !i->length || i->length > FMT_RUN_PAGES_MAX)
			return -EUCLEAN;
		i->run = get64(buf + I_FIXED);
		if (fmt_kind(i->run) != FMT_PACKED || i->run % FMT_PAGE ||
		    (i->run % FMT_BLOCK >> FMT_PAGE_SHIFT) + i->length > FMT_PAGES_PER_BLOCK)
			return -EUCLEAN;
		return 0;
	case FMT_RANGES:
		if (i->length > FMT_RANGES_MAX || (size_t)i->length * 16 > size - I_FIXED)
			return -EUCLEAN;
		i->raw_ranges = buf + I_FIXED;
		for (uint32_t k = 0, end = 0; k < i->length; k++) {
			struct fmt_range r;

			fmt_get_range(i->raw_ranges, k, &r);
			if (!r.count || r.fblock < end || r.fblock + (uint64_t)r.count > UINT32_MAX ||
			    fmt_kind(r.base) != FMT_FILE || r.base % FMT_BLOCK ||
			    fmt_number(r.base) + r.count > FMT_NUMBER_MAX)
				return -EUCLEAN;
			end = r.fblock + r.count;
		}
		return 0;
	}
	return -EUCLEAN;
}

bool fmt_like_batch(const uint8_t *buf, const uint8_t uuid[16], uint64_t segment)
{
	return (get32(buf) == BATCH_MAGIC) + !memcmp(buf + 8, uuid, 16) + (get64(buf + 48) == segment) >= 2;
}

void fmt_peek_record(const uint8_t *buf, size_t room, uint64_t *key)
{
	*key = room < R_HEADER + 8 ? 0 : get64(buf + R_HEADER);
}

int fmt_get_record(const uint8_t *buf, size_t room, struct fmt_record *r, size_t *sizep)
{
	size_t size;

	if (room < R_HEADER)
		return -EUCLEAN;
	size = get32(buf + 4);
	if (size < R_HEADER || size % 8 || size > room)
		return -EUCLEAN;
	*sizep = size;
	r->type = get16(buf);
	switch (r->type) {
	case FMT_INODE:
		return get_inode(buf, size, &r->inode);
	case FMT_INODE_GONE:
		if (size < FMT_GONE_SIZE)
			return -EUCLEAN;
		r->gone = get64(buf + 8);
		return r->gone ? 0 : -EUCLEAN;
	case FMT_DENTRY:
		if (size < D_FIXED)
			return -EUCLEAN;
		r->dentry.dir = get64(buf + 8);
		r->dentry.cookie = get64(buf + 16);
		r->dentry.ino = get64(buf + 24);
		r->dentry.type = buf[44];
		r->dentry.name_length = buf[45];
		r->dentry.name = (const char *)buf + D_FIXED;
		if (get_time(buf + 32, &r->dentry.time) || !r->dentry.dir || !r->dentry.ino ||
		    r->dentry.cookie < FMT_COOKIE_FIRST || r->dentry.cookie > FMT_COOKIE_MAX || !r->dentry.name_length ||
		    r->dentry.name_length > size - D_FIXED || memchr(r->dentry.name, '/', r->dentry.name_length) ||
		    memchr(r->dentry.name, 0, r->dentry.name_length))
			return -EUCLEAN;
		return r->dentry.name_length <= 2 && !memcmp(r->dentry.name, "..", r->dentry.name_length) ? -EUCLEAN : 0;
	case FMT_DENTRY_GONE:
		if (size < FMT_DENTRY_GONE_SIZE)
			return -EUCLEAN;
		r->dentry_gone.dir = get64(buf + 8);
		r->dentry_gone.cookie = get64(buf + 16);
		if (!r->dentry_gone.dir || r->dentry_gone.cookie < FMT_COOKIE_FIRST || r->dentry_gone.cookie > FMT_COOKIE_MAX)
			return -EUCLEAN;
		return get_time(buf + 24, &r->dentry_gone.time);
	case FMT_XATTR:
	case FMT_XATTR_GONE:
		if (size < X_FIXED)
			return -EUCLEAN;
		r->xattr.ino = get64(buf + 8);
		r->xattr.length = get32(buf + 28);
		if (get_time(buf + 16, &r->xattr.time) || !r->xattr.ino || !get32(buf + 32) || get32(buf + 32) > 255 ||
		    r->xattr.length > FMT_XATTR_MAX || (uint64_t)get32(buf + 32) + r->xattr.length > size - X_FIXED)
			return -EUCLEAN;
		r->xattr.name_length = (uint8_t)get32(buf + 32);
		r->xattr.name = (const char *)buf + X_FIXED;
		r->xattr.value = buf + X_FIXED + r->xattr.name_length;
		return memchr(r->xattr.name, 0, r->xattr.name_length) ? -EUCLEAN : 0;
	case FMT_MARKS:
		if (size < FMT_MARKS_SIZE)
			return -EUCLEAN;
		for (int i = 0; i < FMT_MARKS_COUNT; i++)
			if ((r->marks.mark[i] = get64(buf + 8 + 8 * i)) > fmt_mark_max((enum fmt_mark)i))
				return -EUCLEAN;
		return 0;
	case FMT_CHECKPOINT_DONE:
		if (size < C_FIXED)
			return -EUCLEAN;
		r->checkpoint.s0 = get64(buf + 8);
		r->checkpoint.count = get32(buf + 16);
		r->checkpoint.segments = NULL;
		r->checkpoint.raw = buf + C_FIXED;
		return (uint64_t)r->checkpoint.count * 24 > size - C_FIXED ? -EUCLEAN : 0;
	}
	return -EUCLEAN;
}
