/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rebuild - fsck: the superblock from the log, when no brick that was named has a whole copy of it.
 *
 * Each log segment notes, beside the filesystem's UUID and the epoch, how many bricks there are, a checksum of their UUIDs, and what people
 * see of a superblock.  So it is known whether the bricks that were named are all of them: nothing is guessed, and a brick
 * on which no log is found stays what it is.  Not known is how the filesystem was left: the end of the log is where it can be read.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Mounts that raised the epoch and came to no log segment: their epochs must not come again, for one of them may still be about. */
#define EPOCH_GAP (1ull << 20)

void rebuild_note(const struct fs *fs, struct fmt_segment *segment)
{
	const struct fmt_super *s = &fs->super;
	uint8_t uuid[FMT_BRICKS_MAX][16];

	memcpy(segment->uuid, s->uuid, 16);
	segment->brick_count = 0;
	/* Those that are given up in this repair are no bricks of what it writes. */
	for (uint32_t k = 0; k < s->brick_count; k++)
		if (!super_given_up(fs, s->brick[k].uuid))
			memcpy(uuid[segment->brick_count++], s->brick[k].uuid, 16);
	segment->bricks = fmt_brick_set(uuid, segment->brick_count);
	segment->created = s->created;
	if (strlen(s->label) <= FMT_NOTED_LABEL)
		strcpy(segment->label, s->label);
}

struct found {
	struct fmt_segment newest;	/* with a note */
	bool any, noted;
	uint8_t uuid[16];
	uint64_t epoch;			/* the highest */
	uint64_t segments;
};

static int look_at(struct fs *fs, uint64_t addr, struct found *f)
{
	uint8_t header[FMT_SEGMENT_HEADER];
	struct vol_io io = { addr, header, sizeof(header), false };
	struct fmt_segment s;
	int r = vol_io(fs->vol, &io, 1);

	if (r)
		return fs_set_error(r, "cannot read log segment %" PRIu64 ": %s", fmt_number(addr), vol_text(fs->vol));
	if (fmt_get_segment(header, &s) || s.number != fmt_number(addr))
		return 0;
	if (f->any && memcmp(f->uuid, s.uuid, 16))
		return fs_set_error(-EUCLEAN, "no superblock is whole, and there are log segments of more than one filesystem: "
				    "it cannot be known which one the bricks belong to");
	memcpy(f->uuid, s.uuid, 16);
	f->any = true;
	f->segments++;
	if (s.epoch > f->epoch)
		f->epoch = s.epoch;
	if (s.brick_count && (!f->noted || s.epoch > f->newest.epoch ||
			      (s.epoch == f->newest.epoch && s.number > f->newest.number))) {
		f->newest = s;
		f->noted = true;
	}
	return 0;
}

static int look(struct fs *fs, struct found *f)
{
	uint64_t addr, duplicates;
	int r = vol_list(fs->vol, &duplicates);

	if (r && r != -EUCLEAN)		/* an address on two bricks is told later */
		return fs_set_error(r, "cannot list the blocks: %s", vol_text(fs->vol));
	r = 0;
	for (uint64_t from = fmt_addr(FMT_LOG, 0); !r && vol_next(fs->vol, from, &addr) && fmt_kind(addr) == FMT_LOG;
	     from = addr + FMT_BLOCK)
		r = look_at(fs, addr, f);
	return r;
}

/* Are the bricks that were named, with those that are given up, the ones that the log is of? */
static int check_bricks(struct fs *fs, const struct found *f)
{
	uint32_t named = vol_bricks(fs->vol), all = named + (uint32_t)fs->options.lost_count;
	uint8_t uuid[2 * FMT_BRICKS_MAX][16];

	if (all > FMT_BRICKS_MAX)
		return fs_set_error(-EINVAL, "a filesystem has at most %d bricks", FMT_BRICKS_MAX);
	for (uint32_t b = 0; b < named; b++)
		memcpy(uuid[b], vol_brick_info(fs->vol, b)->uuid, 16);
	for (size_t k = 0; k < fs->options.lost_count; k++)
		memcpy(uuid[named + k], fs->options.lost[k], 16);
	if (all == f->newest.brick_count && fmt_brick_set(uuid, all) == f->newest.bricks)
		return 0;
	/* The repair that gave them up was cut off, or ended and left no superblock that is whole. */
	if (named == f->newest.brick_count && fmt_brick_set(uuid, named) == f->newest.bricks)
		return 0;
	if (all != f->newest.brick_count)
		return fs_set_error(-ENXIO, "no superblock is whole on the bricks that were named, and the log is of %" PRIu32 " bricks; %u are "
				    "named%s: name the endpoints of all, and with --lost-brick the UUIDs of those that are gone for good",
				    f->newest.brick_count, all, fs->options.lost_count ? " or given up" : "");
	return fs_set_error(-EINVAL, "no superblock is whole on the bricks that were named, and the log is of %" PRIu32 " other bricks than these: "
			    "one of them does not belong to this filesystem", f->newest.brick_count);
}

int rebuild_super(struct fs *fs)
{
	struct found f = { .any = false };
	struct fmt_super *s = &fs->super;
	char before[512];
	int r;

	strncpy(before, fs_error_text(), sizeof(before) - 1);
	before[sizeof(before) - 1] = 0;
	r = look(fs, &f);
	if (r)
		return r;
	if (!f.any)
		return fs_set_error(-EUCLEAN, "%s; and there is no log of a brickfs from which it could be made anew", before);
	if (!f.noted)
		return fs_set_error(-EUCLEAN, "%s; its log is of a version that did not note which bricks there are, "
				    "so it cannot be known whether these are all of them", before);
	r = check_bricks(fs, &f);
	if (r)
		return r;
	if (f.epoch > FMT_EPOCH_MAX - 2 * EPOCH_GAP)
		return fs_set_error(-EUCLEAN, "%s; and the log has an epoch behind which there is no other one", before);
	memset(s, 0, sizeof(*s));
	memcpy(s->uuid, f.uuid, 16);
	strcpy(s->label, f.newest.label);
	s->created = f.newest.created;
	s->epoch = f.epoch + EPOCH_GAP;
	s->copies = 1;
	for (unsigned b = 0; b < vol_bricks(fs->vol); b++) {
		const char *endpoint = vol_brick_endpoint(fs->vol, b);

		memcpy(s->brick[s->brick_count].uuid, vol_brick_info(fs->vol, b)->uuid, 16);
		if (strlen(endpoint) < FMT_ENDPOINT_MAX)
			strcpy(s->brick[s->brick_count].endpoint, endpoint);
		s->brick_count++;
	}
	for (size_t k = 0; k < fs->options.lost_count; k++)
		memcpy(s->brick[s->brick_count++].uuid, fs->options.lost[k], 16);
	fs->super_rebuilt = f.segments;
	return 0;
}
