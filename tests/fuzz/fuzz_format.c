/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_format - hostile bytes for the decoders of what lies on the bricks (brickfs/format.h).
 *
 * The first byte says what the rest is: a superblock page, a segment's header, a batch, or records; and whether its
 * checksum is made right.  What is accepted must encode, and decode, and encode to the same bytes
 * again; nothing answers but 0, -EUCLEAN and -EPROTONOSUPPORT.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format.h"

const char fuzz_name[] = "fuzz_format";
const unsigned long fuzz_count = 200000;

enum what { SUPER, SEGMENT, BATCH, RECORDS, WHATS };
#define SIGNED 0x80u

static unsigned long accepted[WHATS], types[16];

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "BUG: %s\n", what);
	abort();
}

static int verdict(int r, const char *what)
{
	must(!r || r == -EUCLEAN || r == -EPROTONOSUPPORT, what);
	return r;
}

static void put64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void super(const uint8_t *data, size_t size, bool sign)
{
	uint8_t *page = calloc(1, FMT_PAGE), again[FMT_PAGE], third[FMT_PAGE];
	struct fmt_super s;

	memcpy(page, data, size < FMT_PAGE ? size : FMT_PAGE);
	if (sign)
		put64(page + FMT_PAGE - 8, fmt_checksum(page, FMT_PAGE - 8));
	if (!verdict(fmt_get_super(page, &s), "superblock")) {
		accepted[SUPER]++;
		must(fmt_super_magic(page), "a superblock without its magic");
		must(s.brick_count && s.brick_count <= FMT_BRICKS_MAX, "superblock: number of bricks");
		must(!s.label[FMT_LABEL_MAX - 1], "superblock: label without an end");
		fmt_put_super(again, &s);
		must(!fmt_get_super(again, &s), "superblock: its own encoding is refused");
		fmt_put_super(third, &s);
		must(!memcmp(again, third, FMT_PAGE), "superblock: encodes differently");
	}
	free(page);
}

static void segment(const uint8_t *data, size_t size, bool sign)
{
	uint8_t *buf = calloc(1, FMT_SEGMENT_HEADER), again[FMT_SEGMENT_HEADER], third[FMT_SEGMENT_HEADER];
	struct fmt_segment s;

	memcpy(buf, data, size < FMT_SEGMENT_HEADER ? size : FMT_SEGMENT_HEADER);
	if (sign)
		put64(buf + FMT_SEGMENT_HEADER - 8, fmt_checksum(buf, FMT_SEGMENT_HEADER - 8));
	if (!verdict(fmt_get_segment(buf, &s), "segment")) {
		accepted[SEGMENT]++;
		must(s.prev_end <= FMT_BLOCK && s.number < FMT_NUMBER_MAX, "segment: beyond");
		fmt_put_segment(again, &s);
		must(!fmt_get_segment(again, &s), "segment: its own encoding is refused");
		fmt_put_segment(third, &s);
		must(!memcmp(again, third, sizeof(third)), "segment: encodes differently");
	}
	free(buf);
}

/* Writes the record again; 0 when there is no room. */
static size_t put(uint8_t *buf, size_t room, struct fmt_record *r)
{
	struct fmt_checkpoint_segment *segments;
	struct fmt_range *ranges;
	size_t n;

	switch (r->type) {
	case FMT_INODE:
		must(r->inode.form <= FMT_RANGES, "inode: form");
		if (fmt_inode_size(r->inode.form, r->inode.length) > room)
			return 0;
		ranges = calloc(r->inode.length + 1, sizeof(*ranges));
		for (uint32_t k = 0; r->inode.form == FMT_RANGES && k < r->inode.length; k++)
			fmt_get_range(r->inode.raw_ranges, k, &ranges[k]);
		r->inode.ranges = ranges;
		n = fmt_put_inode(buf, &r->inode);
		must(n == fmt_inode_size(r->inode.form, r->inode.length), "inode: size");
		free(ranges);
		return n;
	case FMT_INODE_GONE:
		return room < FMT_GONE_SIZE ? 0 : fmt_put_gone(buf, r->gone);
	case FMT_DENTRY:
		return room < fmt_dentry_size(r->dentry.name_length) ? 0 : fmt_put_dentry(buf, &r->dentry);
	case FMT_DENTRY_GONE:
		return room < FMT_DENTRY_GONE_SIZE ? 0 : fmt_put_dentry_gone(buf, &r->dentry_gone);
	case FMT_XATTR:
	case FMT_XATTR_GONE:
		if (r->type == FMT_XATTR_GONE)
			r->xattr.length = 0;
		return room < fmt_xattr_size(r->xattr.name_length, r->xattr.length)
		       ? 0 : fmt_put_xattr(buf, &r->xattr, r->type == FMT_XATTR_GONE);
	case FMT_MARKS:
		return room < FMT_MARKS_SIZE ? 0 : fmt_put_marks(buf, &r->marks);
	case FMT_CHECKPOINT_DONE:
		if (fmt_checkpoint_size(r->checkpoint.count) > room)
			return 0;
		segments = calloc(r->checkpoint.count + 1, sizeof(*segments));
		for (uint32_t k = 0; k < r->checkpoint.count; k++)
			fmt_get_checkpoint_segment(r->checkpoint.raw, k, &segments[k]);
		r->checkpoint.segments = segments;
		n = fmt_put_checkpoint(buf, &r->checkpoint);
		free(segments);
		return n;
	}
	must(false, "a record of no type");
	return 0;
}

static void records(const uint8_t *data, size_t length)
{
	static uint8_t again[FUZZ_INPUT_MAX * 2], third[FUZZ_INPUT_MAX * 2];
	struct fmt_record r;
	size_t at = 0, size, n, m;

	while (at < length && !verdict(fmt_get_record(data + at, length - at, &r, &size), "record")) {
		must(size && size <= length - at && size % 8 == 0, "record: it goes on where it does not");
		accepted[RECORDS]++;
		types[r.type % 16]++;
		memset(again, 0, sizeof(r) + size);
		n = put(again, sizeof(again), &r);
		must(n && n <= size, "record: grows");
		must(!fmt_get_record(again, n, &r, &m) && m == n, "record: its own encoding is refused");
		m = put(third, sizeof(third), &r);
		must(m == n && !memcmp(again, third, n), "record: encodes differently");
		at += size;
	}
}

static void batch(const uint8_t *data, size_t size, bool sign)
{
	uint8_t *buf = malloc(size + FMT_BATCH_ALIGN);
	struct fmt_batch b;

	memcpy(buf, data, size);
	if (sign && size >= FMT_BATCH_HEADER) {
		uint32_t length;
		struct fmt_batch head = {.number = 7, .segment = 3, .epoch = 2, .durable_through = 6};

		memcpy(&length, data + 4, 4);
		head.length = length <= size - FMT_BATCH_HEADER ? length : (uint32_t)(size - FMT_BATCH_HEADER);
		fmt_put_batch(buf, &head);
		if (length > size - FMT_BATCH_HEADER)	/* its own again: longer than it is */
			memcpy(buf + 4, &length, 4);
	}
	if (!verdict(fmt_get_batch(buf, size, &b), "batch")) {
		accepted[BATCH]++;
		must(FMT_BATCH_HEADER + (uint64_t)b.length <= size, "batch: longer than it is");
		records(buf + FMT_BATCH_HEADER, b.length);
	}
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool sign;

	if (!size)
		return 0;
	sign = data[0] & SIGNED;
	switch ((data[0] & ~SIGNED) % WHATS) {
	case SUPER:
		super(data + 1, size - 1, sign);
		break;
	case SEGMENT:
		segment(data + 1, size - 1, sign);
		break;
	case BATCH:
		batch(data + 1, size - 1, sign);
		break;
	default:
		records(data + 1, size - 1);
	}
	return 0;
}

/* ---- samples */

static const struct timespec now = {1700000000, 5};

static size_t sample_record(uint8_t *buf, unsigned n)
{
	static const struct fmt_range ranges[2] = {
		{0, 16, (uint64_t)FMT_FILE << FMT_KIND_SHIFT | 80000ull << FMT_BLOCK_SHIFT},
		{16, 32, (uint64_t)FMT_FILE << FMT_KIND_SHIFT | 80016ull << FMT_BLOCK_SHIFT},
	};
	static const struct fmt_checkpoint_segment segments[2] = {{5, 4096, 1}, {6, 500, 2}};
	struct fmt_inode i = {.ino = 9, .nlink = 1, .mode = S_IFREG | 0644, .atime = now, .mtime = now, .ctime = now, .size = 5000};
	uint8_t bytes[64];

	memset(bytes, 'x', sizeof(bytes));
	switch (n) {
	case 0:
		i.length = 60;
		i.data = bytes;
		return fmt_put_inode(buf, &i);
	case 1:
		i.form = FMT_RUN;
		i.length = 2;
		i.run = fmt_addr(FMT_PACKED, 3) + 5 * FMT_PAGE;
		return fmt_put_inode(buf, &i);
	case 2:
		i.form = FMT_RANGES;
		i.length = 2;
		i.ranges = ranges;
		return fmt_put_inode(buf, &i);
	case 3:
		i.mode = S_IFLNK | 0777;
		i.size = i.length = 10;
		i.data = bytes;
		return fmt_put_inode(buf, &i);
	case 4:
		i.mode = S_IFDIR | 0755;
		i.next_cookie = 7;
		i.size = 0;
		return fmt_put_inode(buf, &i);
	case 5:
		return fmt_put_gone(buf, 9);
	case 6:
		return fmt_put_dentry(buf, &(struct fmt_dentry){.dir = 1, .cookie = 3, .ino = 9, .time = now, .type = DT_REG,
								.name_length = 4, .name = "name"});
	case 7:
		return fmt_put_dentry_gone(buf, &(struct fmt_dentry_gone){.dir = 1, .cookie = 3, .time = now});
	case 8:
	case 9:
		return fmt_put_xattr(buf, &(struct fmt_xattr){.ino = 9, .time = now, .name_length = 6, .name = "user.x",
							      .length = n == 8 ? 20 : 0, .value = bytes}, n == 9);
	case 10:
		return fmt_put_marks(buf, &(struct fmt_marks){.mark = {10, 20, 30, 40}});
	case 11:
		return fmt_put_checkpoint(buf, &(struct fmt_checkpoint){.s0 = 4, .count = 2, .segments = segments});
	}
	return 0;
}

size_t fuzz_sample(uint8_t *buf, unsigned n)
{
	size_t at = 1, size;

	if (n == 0) {
		struct fmt_super s = {.sequence = 3, .epoch = 2, .clean = true, .copies = 1, .brick_count = 2, .label = "label"};

		strcpy(s.brick[0].endpoint, "tcp://127.0.0.1:1");
		buf[0] = SUPER | SIGNED;
		fmt_put_super(buf + 1, &s);
		return 1 + FMT_PAGE;
	}
	if (n == 1) {
		buf[0] = SEGMENT | SIGNED;
		fmt_put_segment(buf + 1, &(struct fmt_segment){.epoch = 2, .number = 5, .kind = FMT_HEAD, .prev = 4,
							       .prev_end = 4096, .first_batch = 7});
		return 1 + FMT_SEGMENT_HEADER;
	}
	if (n == 2) {
		buf[0] = BATCH | SIGNED;
		at += FMT_BATCH_HEADER;
		for (unsigned k = 0; (size = sample_record(buf + at, k)); k++)
			at += size;
		fmt_put_batch(buf + 1, &(struct fmt_batch){.length = (uint32_t)(at - 1 - FMT_BATCH_HEADER), .number = 7});
		return at;
	}
	buf[0] = RECORDS;
	size = sample_record(buf + 1, n - 3);
	return size ? 1 + size : 0;
}

int fuzz_report(unsigned long inputs)
{
	unsigned missing = 0;

	printf("accepted: %lu superblocks, %lu segments, %lu batches, %lu records\n", accepted[SUPER], accepted[SEGMENT],
	       accepted[BATCH], accepted[RECORDS]);
	for (unsigned t = FMT_INODE; t <= FMT_CHECKPOINT_DONE; t++)
		missing += !types[t];
	/* Then this tested nothing. */
	return inputs >= 10000 && (missing || !accepted[SUPER] || !accepted[SEGMENT] || !accepted[BATCH]);
}
