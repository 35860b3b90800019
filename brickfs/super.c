/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super - the superblocks of all bricks: which bricks there are, whose they are, and who holds them.
 *
 * The first step of a mount (super_attach()), and what every later epoch of it is written with.
 */
#include "file.h"
#include "mutate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void uuid_text(const uint8_t uuid[16], char text[37])
{
	char *p = text;

	for (int i = 0; i < 16; i++)
		p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

int super_write(struct fs *fs)
{
	uint8_t page[FMT_PAGE];
	int r = 0;

	fs->super.sequence++;
	fmt_put_super(page, &fs->super);
	/* A crash between two bricks leaves one behind: the copy that counts there is no matter of the number. */
	for (unsigned b = 0; b < vol_bricks(fs->vol) && !r; b++) {
		r = vol_write_on(fs->vol, b, (fs->super_copy[b] ^ MUTATED(SUPER_IN_PLACE)) * FMT_PAGE, page, FMT_PAGE);
		if (!r)
			fs->super_copy[b] ^= 1;
	}
	return r;
}

/* The better of a brick's two copies. */
static int read_super(struct fs *fs, unsigned brick, struct fmt_super *super)
{
	const char *endpoint = vol_brick_endpoint(fs->vol, brick);
	struct fmt_super copy[2];
	uint8_t page[2][FMT_PAGE];
	int r, bad[2], best;

	r = vol_read_on(fs->vol, brick, 0, page, sizeof(page));
	if (r)
		return fs_set_error(r, "%s: cannot read the superblock: %s", endpoint, vol_text(fs->vol));
	for (int k = 0; k < 2; k++)
		bad[k] = fmt_get_super(page[k], &copy[k]);
	if (bad[0] == -EPROTONOSUPPORT || bad[1] == -EPROTONOSUPPORT)
		return fs_set_error(-EPROTONOSUPPORT, "%s: this filesystem is of another version than %d", endpoint, FMT_VERSION);
	if (bad[0] && bad[1]) {
		if (!fmt_super_magic(page[0]) && !fmt_super_magic(page[1]))
			return fs_set_error(-EUCLEAN, "%s: no brickfs superblock: its block is there and holds something else "
					    "(mkfs.brickfs -f makes a new filesystem; was there one, fsck.brickfs looks for its log)", endpoint);
		return fs_set_error(-EUCLEAN, "%s: both copies of the superblock are damaged (fsck.brickfs)", endpoint);
	}
	/* A copy that was never written, or torn by a crash of its writer, is no news; another checksum error is. */
	fs->super_torn[brick] = bad[0] || bad[1];
	best = bad[0] ? 1 : bad[1] ? 0 : copy[1].sequence > copy[0].sequence;
	*super = copy[best];
	fs->super_copy[brick] = !best;
	return 0;
}

int super_brick(struct fs *fs, const uint8_t uuid[16])
{
	for (unsigned b = 0; b < vol_bricks(fs->vol); b++)
		if (!memcmp(vol_brick_info(fs->vol, b)->uuid, uuid, 16))
			return (int)b;
	return -1;
}

bool super_given_up(const struct fs *fs, const uint8_t uuid[16])
{
	for (size_t k = 0; k < fs->options.lost_count; k++)
		if (!memcmp(fs->options.lost[k], uuid, 16))
			return true;
	return false;
}

static int check_super(struct fs *fs, unsigned b, const struct fmt_super *s)
{
	const char *endpoint = vol_brick_endpoint(fs->vol, b);
	bool listed = false;

	for (uint32_t k = 0; k < s->brick_count; k++)
		listed |= !memcmp(s->brick[k].uuid, vol_brick_info(fs->vol, b)->uuid, 16);
	if (!listed)
		return fs_set_error(-EUCLEAN, "%s: its superblock does not list this brick: "
				    "the pool is a copy, or not what it was", endpoint);
	if (s->incompat || (s->ro_compat && (!fs->readonly || fs->options.decide)))
		return fs_set_error(-EPROTONOSUPPORT, "%s: the filesystem has features that this version does not know "
				    "(incompat %" PRIx64 ", ro_compat %" PRIx64 ")", endpoint, s->incompat, s->ro_compat);
	return 0;
}

/*
 * Reads every brick's superblock; the newest is fs->super, and all must be of one filesystem.  The newest alone says how
 * it was left: a mount writes the first of its superblocks before it writes anything else, and the last unmount wrote one after all.
 * fsck goes on without those of some bricks, or of all.
 */
static int read_supers(struct fs *fs, uint64_t *epoch)
{
	bool any = false;
	int lost = 0;

	*epoch = 0;
	for (unsigned b = 0; b < vol_bricks(fs->vol); b++) {
		struct fmt_super s;
		char one[37], two[37];
		int r = read_super(fs, b, &s);

		fs->super_lost[b] = r == -EUCLEAN && fs->options.check;
		if (fs->super_lost[b]) {
			lost = r;
			continue;
		}
		if (r)
			return r;
		if (any && memcmp(s.uuid, fs->super.uuid, 16)) {
			uuid_text(fs->super.uuid, one);
			uuid_text(s.uuid, two);
			return fs_set_error(-EINVAL, "%s belongs to filesystem %s, but %s to %s",
					    vol_brick_endpoint(fs->vol, b), two, vol_brick_endpoint(fs->vol, 0), one);
		}
		r = check_super(fs, b, &s);
		if (r)
			return r;
		if (s.epoch > *epoch)
			*epoch = s.epoch;
		if (!any || s.epoch > fs->super.epoch || (s.epoch == fs->super.epoch && s.sequence > fs->super.sequence))
			fs->super = s;
		any = true;
	}
	/* Of one that was lost, the others say whether the brick belongs here. */
	for (unsigned b = 0; any && lost && b < vol_bricks(fs->vol); b++) {
		int r = fs->super_lost[b] ? check_super(fs, b, &fs->super) : 0;

		if (r)
			return r;
	}
	if (any || !lost)
		return 0;
	if (fs->options.check)
		lost = rebuild_super(fs);
	*epoch = fs->super.epoch;
	return lost;
}

/*
 * Endpoints that were named and do not answer: only hints, as those of the superblock are. They fail the mount when a
 * brick is missing in the end. index: into options.endpoints; text: of the last one, for its message.
 */
struct silent {
	size_t index[FMT_BRICKS_MAX];
	size_t count;
	char text[320];
};

static bool is_silent(const struct fs *fs, const struct silent *silent, const char *endpoint)
{
	for (size_t k = 0; k < silent->count; k++)
		if (!strcmp(fs->options.endpoints[silent->index[k]], endpoint))
			return true;
	return false;
}

/* Bricks that were not named: by the endpoints that the superblock keeps. *added: there was one. */
static int connect_others(struct fs *fs, const struct silent *silent, bool *added)
{
	*added = false;
	for (uint32_t k = 0; k < fs->super.brick_count; k++) {
		const char *endpoint = fs->super.brick[k].endpoint;
		char text[37];
		unsigned brick;
		int r;

		if (super_brick(fs, fs->super.brick[k].uuid) >= 0 || super_given_up(fs, fs->super.brick[k].uuid))
			continue;
		uuid_text(fs->super.brick[k].uuid, text);
		if (!endpoint[0])
			return fs_set_error(-ENXIO, "brick %s of this filesystem is missing: name its endpoint too", text);
		/* Not waited for twice. */
		if (is_silent(fs, silent, endpoint))
			return fs_set_error(-ENXIO, "brick %u of %u of this filesystem (%s) is missing: %s; if it is served "
					    "elsewhere now, name that endpoint", k + 1, fs->super.brick_count, text, silent->text);
		r = vol_connect(fs->vol, endpoint, &brick);
		if (r && r != -EEXIST)
			return fs_set_error(r, "brick %u of %u of this filesystem (%s) is missing: %s; if it is served elsewhere "
					    "now, name that endpoint", k + 1, fs->super.brick_count, text, vol_text(fs->vol));
		if (super_brick(fs, fs->super.brick[k].uuid) < 0)
			return fs_set_error(-ENXIO, "brick %u of %u of this filesystem (%s) is missing: another one answers at %s; "
					    "name its endpoint", k + 1, fs->super.brick_count, text, endpoint);
		*added = true;
	}
	return 0;
}

static int lock_supers(struct fs *fs)
{
	int r = vol_lock(fs->vol, !fs->readonly || fs->options.decide, fs->options.wait_ms);

	if (r == -ENOENT)
		return fs_set_error(r, "%s: no brickfs filesystem there (mkfs.brickfs makes one)", vol_text(fs->vol));
	return r ? fs_set_error(r, "%s", vol_text(fs->vol)) : 0;
}

/* Is the superblock still of our epoch? */
int super_fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1)
{
	struct fs *fs = arg;
	struct fmt_super copy[2];
	int bad0 = fmt_get_super(page0, &copy[0]), bad1 = fmt_get_super(page1, &copy[1]);
	struct fmt_super *s;

	if (bad0 && bad1)
		return -EUCLEAN;
	s = bad0 ? &copy[1] : bad1 ? &copy[0] : &copy[copy[1].sequence > copy[0].sequence];
	if (memcmp(s->uuid, fs->super.uuid, 16))
		return -ESTALE;
	/* A reader may have come between the superblocks of two bricks; no writer came after it. */
	return s->epoch == fs->info.epoch || (fs->readonly && s->epoch < fs->info.epoch) ? 0 : -ESTALE;
}

/* ---- all bricks */

/* Nobody there, or nobody who speaks: not a refusal by a brick. */
static bool unreachable(int error)
{
	return error == -ECONNREFUSED || error == -ENOENT || error == -ETIMEDOUT || error == -EHOSTUNREACH ||
	       error == -ENETUNREACH || error == -EHOSTDOWN || error == -ECONNRESET || error == -EAGAIN;
}

/* Those that are said to be lost are of this filesystem, and not there. */
static int check_lost(struct fs *fs)
{
	char text[37];

	for (size_t n = 0; n < fs->options.lost_count; n++) {
		const uint8_t *uuid = fs->options.lost[n];
		bool listed = false;

		uuid_text(uuid, text);
		for (uint32_t k = 0; k < fs->super.brick_count; k++)
			listed |= !memcmp(fs->super.brick[k].uuid, uuid, 16);
		if (!listed)
			return fs_set_error(-EINVAL, "no brick %s is listed in the superblock", text);
		if (super_brick(fs, uuid) >= 0)
			return fs_set_error(-EINVAL, "brick %s is not lost: it answers at %s", text,
					    vol_brick_endpoint(fs->vol, (unsigned)super_brick(fs, uuid)));
		for (size_t k = 0; k < n; k++)
			if (!memcmp(fs->options.lost[k], uuid, 16))
				return fs_set_error(-EINVAL, "brick %s is named twice", text);
	}
	return 0;
}

static void tell_supers(struct fs *fs)
{
	char text[37];

	fs->super_bad = 0;
	if (fs->super_rebuilt)
		fs_damage(fs, "super-gone", "both copies of the superblock are damaged on every brick; it can be made anew from %" PRIu64
			  " log segments, which are of these bricks%s%s%s", fs->super_rebuilt, fs->super.label[0] ? " (label " : "",
			  fs->super.label, fs->super.label[0] ? ")" : "");
	for (unsigned b = 0; !fs->super_rebuilt && b < vol_bricks(fs->vol); b++) {
		if (fs->super_lost[b]) {
			fs_damage(fs, "super-lost", "%s: both copies of the superblock are damaged; those of other bricks are used",
				  vol_brick_endpoint(fs->vol, b));
		} else if (fs->super_torn[b]) {
			fs->super_bad++;
			fs_damage(fs, "super-copy", "%s: one copy of the superblock is damaged; the other one is used",
				  vol_brick_endpoint(fs->vol, b));
		}
	}
	for (size_t n = 0; n < fs->options.lost_count; n++) {
		uuid_text(fs->options.lost[n], text);
		fs_damage(fs, "brick-lost", "brick %s is given up, and with it all that only it had", text);
	}
}

int super_attach(struct fs *fs, uint64_t *epoch)
{
	struct silent silent = { .count = 0 };
	bool added;
	unsigned brick;
	int r;

	if (!fs->options.endpoint_count)
		return fs_set_error(-EINVAL, "no endpoint was given");
	for (size_t k = 0; k < fs->options.endpoint_count; k++) {
		r = vol_connect(fs->vol, fs->options.endpoints[k], &brick);
		if (r == -EEXIST)
			return fs_set_error(-EINVAL, "%s and %s are the same brick", fs->options.endpoints[k],
					    vol_brick_endpoint(fs->vol, brick));
		if (r && (!unreachable(r) || silent.count == FMT_BRICKS_MAX || silent.count + 1 == fs->options.endpoint_count))
			return fs_set_error(r, "%s", vol_text(fs->vol));
		if (r) {
			silent.index[silent.count++] = k;
			snprintf(silent.text, sizeof(silent.text), "%s", vol_text(fs->vol));
		}
	}
	r = lock_supers(fs);
	if (!r)
		r = read_supers(fs, epoch);
	if (!r)
		r = check_lost(fs);
	if (!r)
		r = connect_others(fs, &silent, &added);
	if (!r && added) {	/* all of them, in the one order */
		vol_unlock(fs->vol);
		r = lock_supers(fs);
		if (!r)
			r = read_supers(fs, epoch);
		if (!r)
			r = connect_others(fs, &silent, &added);
		if (!r && added)
			r = fs_set_error(-EAGAIN, "the filesystem changed while it was being mounted; try again");
	}
	if (r && fs->options.check && fs->super.brick_count > 1 && strstr(fs_error_text(), " is missing")) {
		char text[512];

		snprintf(text, sizeof(text), "%s", fs_error_text());
		fs_set_error(r, "%s. Is it gone for good, --lost-brick with that UUID goes on without it", text);
	}
	if (!r)
		r = check_lost(fs);
	if (!r && vol_bricks(fs->vol) + fs->options.lost_count != fs->super.brick_count)
		r = fs_set_error(-EINVAL, "%u bricks were named, but the filesystem has %u",
				 vol_bricks(fs->vol), fs->super.brick_count);
	if (!r)
		tell_supers(fs);
	for (size_t k = 0; k < silent.count && !r; k++)
		fs_say(fs, "endpoint", "%s does not answer; it is not needed: all %u bricks are there",
		       fs->options.endpoints[silent.index[k]], fs->super.brick_count);
	return r;
}
