/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mount - from endpoints to a filesystem, and back.
 *
 * Sessions; the superblock exclusive on every brick; list; replay; compare; a new
 * epoch, durable on every brick; leaks freed; the first segment.
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

/* At mkfs, who has no ears, it is in the error's text. */
static void told(void *arg, bool latched, const char *text)
{
	struct fs *fs = arg;

	/* Whether or not somebody changes something later, and meets it. */
	if (latched && fs->threads && !fs->readonly)
		fs_say(fs, "read-only", "%s; the filesystem is read-only from now on", text);
	else
		fs_say(fs, "brick", "%s", text);
}

int fs_new(struct fs **fsp, const struct fs_options *options)
{
	struct vol_options vo = {
		.backend = options->backend, .backend_context = options->backend_context, .lanes = options->lanes,
		.maps = options->maps, .timeo_ms = options->timeo_ms, .private_addr = FMT_SUPER_ADDR, .tell = told,
	};
	struct fs *fs = calloc(1, sizeof(*fs));
	pthread_condattr_t monotonic;
	int r;

	if (!fs)
		return fs_set_error(-ENOMEM, "%s", strerror(ENOMEM));
	fs_set_error(0, "%s", "");
	fs->options = *options;
	vo.tell_arg = fs;
	if (!fs->options.commit_ms)
		fs->options.commit_ms = 100;
	if (!fs->options.wait_ms)
		fs->options.wait_ms = 5000;
	fs->readonly = options->readonly || options->check;
	fs->drops_tail = &fs->drops;
	pthread_mutex_init(&fs->lock, NULL);
	pthread_mutex_init(&fs->commit_lock, NULL);
	pthread_mutex_init(&fs->ckpt_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&fs->worker_wake, &monotonic);
	pthread_cond_init(&fs->keeper_wake, &monotonic);
	pthread_cond_init(&fs->freed, NULL);
	pthread_condattr_destroy(&monotonic);
	r = log_init(fs);
	if (!r)
		r = ns_init(fs);
	if (!r)
		r = space_init(fs);
	if (!r)
		r = vol_new(&fs->vol, &vo);
	if (r) {
		fs_delete(fs);
		return fs_set_error(r, "%s", strerror(-r));
	}
	*fsp = fs;
	return 0;
}

void fs_delete(struct fs *fs)
{
	for (struct drop *d = fs->drops, *next; d; d = next) {
		next = d->next;
		free(d);
	}
	for (struct drop *d = fs->spare, *next; d; d = next) {
		next = d->next;
		free(d);
	}
	for (struct copy_out *c = fs->copies, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	if (fs->vol)
		vol_delete(fs->vol);
	ns_destroy(fs);
	space_destroy(fs);
	log_destroy(fs);
	pthread_mutex_destroy(&fs->lock);
	pthread_mutex_destroy(&fs->commit_lock);
	pthread_mutex_destroy(&fs->ckpt_lock);
	free(fs);
}

/* ---- superblocks */

int fs_super_write(struct fs *fs)
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

static int brick_index(struct fs *fs, const uint8_t uuid[16])
{
	for (unsigned b = 0; b < vol_bricks(fs->vol); b++)
		if (!memcmp(vol_brick_info(fs->vol, b)->uuid, uuid, 16))
			return (int)b;
	return -1;
}

/* UUIDs of bricks that fsck was told are gone for good. */
static bool is_lost(const struct fs *fs, const uint8_t uuid[16])
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

		if (brick_index(fs, fs->super.brick[k].uuid) >= 0 || is_lost(fs, fs->super.brick[k].uuid))
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
		if (brick_index(fs, fs->super.brick[k].uuid) < 0)
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
static int fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1)
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

/* ---- the steps */

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
		if (brick_index(fs, uuid) >= 0)
			return fs_set_error(-EINVAL, "brick %s is not lost: it answers at %s", text,
					    vol_brick_endpoint(fs->vol, (unsigned)brick_index(fs, uuid)));
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

static int attach(struct fs *fs, uint64_t *epoch)
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

/* Addresses on two bricks. Of a log segment, the one that is sound is used; of all others, the one on the brick that was named first. */
static int tell_twins(struct fs *fs)
{
	const struct vol_twin *twins;
	size_t n = vol_twins(fs->vol, &twins);
	uint8_t header[FMT_SEGMENT_HEADER];
	struct fmt_segment s;

	for (size_t k = 0; k < n; k++) {
		unsigned first = (unsigned)vol_where(fs->vol, twins[k].addr), second = twins[k].brick;
		struct vol_io io = { twins[k].addr, header, sizeof(header), false };

		if (fmt_kind(twins[k].addr) == FMT_LOG) {
			int r = vol_io(fs->vol, &io, 1);

			if (!r && fmt_get_segment(header, &s))
				r = vol_prefer(fs->vol, twins[k].addr, second);
			if (r)
				return r;
		}
		fs_damage(fs, "block-twice", "block %016" PRIx64 " is on two bricks, %s and %s; the one on %s is used", twins[k].addr,
			  vol_brick_endpoint(fs->vol, first), vol_brick_endpoint(fs->vol, second),
			  vol_brick_endpoint(fs->vol, (unsigned)vol_where(fs->vol, twins[k].addr)));
	}
	return 0;
}

static int read_all(struct fs *fs, uint64_t **leaks, size_t *leak_count)
{
	uint64_t duplicates = 0;
	int r = vol_list(fs->vol, &duplicates);

	if (r == -EUCLEAN)
		r = tell_twins(fs);
	if (r)
		return fs_set_error(r, "cannot list the blocks: %s", vol_text(fs->vol));
	fs_set_error(0, "%s", "");
	r = replay(fs);
	if (!r)
		r = compare(fs, leaks, leak_count);
	if (!r) {
		stale(fs);
		r = adrift(fs, *leaks, leak_count);
	}
	if (r && !fs_error_text()[0])
		fs_set_error(r, "reading the metadata failed: %s%s%s", strerror(-r), vol_text(fs->vol)[0] ? ": " : "",
			     vol_text(fs->vol));
	return r;
}

/* Under fs->lock. */
static void delete_orphans(struct fs *fs)
{
	struct inode *i, *next;

	for (i = fs->all.next; i != &fs->all && !MUTATED(ORPHANS_KEPT); i = next) {
		next = i->next;
		inode_put(fs, i);
		log_trim(fs);
	}
}

/* What the first segment of this mount stands in the place of: at this index of the heads. */
static int free_idle(struct fs *fs, uint32_t at)
{
	struct log *log = &fs->log;
	int r = 0;

	for (; !r && log->idle; log->idle--) {
		uint64_t addr = fmt_addr(FMT_LOG, log->heads[at]);

		r = vol_release(fs->vol, &addr, 1);
		log->head_count--;
		memmove(log->heads + at, log->heads + at + 1, (log->head_count - at) * sizeof(*log->heads));
	}
	return r;
}

/* From here on the filesystem is ours: epoch, leaks, the first segment, what was deleted while open. */
static int take_over(struct fs *fs, uint64_t epoch, const uint64_t *leaks, size_t leak_count)
{
	uint32_t idle = fs->log.head_count - fs->log.idle;
	bool tight;
	int r;

	fs->super.epoch = fs->info.epoch = epoch + !MUTATED(EPOCH_KEPT);
	fs->super.clean = false;
	fs->super.end_segment = fs->super.end_offset = fs->super.end_batch = 0;
	fs->super.repair_packed = fs->super.repair_file = fs->super.repair_log = 0;
	for (uint32_t k = 0; k < fs->super.brick_count; k++) {	/* hints follow the bricks */
		int b = brick_index(fs, fs->super.brick[k].uuid);
		const char *endpoint = b >= 0 ? vol_brick_endpoint(fs->vol, (unsigned)b) : NULL;

		if (endpoint && strlen(endpoint) < FMT_ENDPOINT_MAX)
			strcpy(fs->super.brick[k].endpoint, endpoint);
	}
	r = fs_super_write(fs);
	if (r)
		return fs_set_error(r, "cannot write the superblock: %s", vol_text(fs->vol));
	vol_set_fence(fs->vol, fence, fs);
	if (leak_count && !MUTATED(LEAKS_KEPT)) {
		r = vol_release(fs->vol, leaks, leak_count);
		if (r)
			return fs_set_error(r, "cannot free leaked blocks: %s", vol_text(fs->vol));
	}
	/*
	 * Near a full volume a checkpoint comes before all else, behind a segment that is idle until then: the next
	 * mount needs no more room than this one, whatever becomes of this one.
	 */
	tight = vol_free_blocks(fs->vol) <= log_checkpoint_blocks(fs->live) + 4;
	pthread_mutex_lock(&fs->lock);
	r = marks_put(fs, false);
	if (!r)
		fs->log.open->fresh = true;
	if (!r && !tight)
		delete_orphans(fs);
	pthread_mutex_unlock(&fs->lock);
	if (!r)
		r = log_commit(fs);
	if (!r)
		r = free_idle(fs, idle);
	if (!r && tight) {
		checkpoint_from(fs, fs->log.fresh);	/* if it cannot, the log stays long */
		pthread_mutex_lock(&fs->lock);
		delete_orphans(fs);
		pthread_mutex_unlock(&fs->lock);
		r = log_commit(fs);
	}
	if (!r)
		r = reclaim(fs);
	if (!r && log_is_long(fs))
		checkpoint(fs);
	if (r)
		fs_set_error(r, "cannot begin the log of this mount: %s: %s", strerror(-r), vol_text(fs->vol));
	return r;
}

static void stop_threads(struct fs *fs)
{
	/* The worker may be in a checkpoint, which needs the committer: that one ends last. */
	pthread_mutex_lock(&fs->lock);
	fs->stop = true;
	pthread_cond_broadcast(&fs->worker_wake);
	pthread_cond_broadcast(&fs->keeper_wake);
	pthread_mutex_unlock(&fs->lock);
	if (fs->started > 3)
		pthread_join(fs->giver, NULL);
	if (fs->started > 2)
		pthread_join(fs->keeper, NULL);
	if (fs->started > 1)
		pthread_join(fs->worker, NULL);
	pthread_mutex_lock(&fs->lock);
	fs->stop_committer = true;
	pthread_cond_broadcast(&fs->log.work);
	pthread_mutex_unlock(&fs->lock);
	if (fs->started > 0)
		pthread_join(fs->committer, NULL);
	if (fs->keeper_alone)
		pthread_join(fs->keeper, NULL);
	fs->started = 0;
	fs->threads = fs->keeper_alone = false;
}

/* fsck may wait for somebody's answer: the leases of its exclusive superblocks are held meanwhile. Without, it goes on as long as they do. */
static void start_keeper(struct fs *fs)
{
	if (!fs->options.manual && fs->options.check && fs->options.decide)
		fs->keeper_alone = !pthread_create(&fs->keeper, NULL, keeper_thread, fs);
}

static int start_threads(struct fs *fs)
{
	int r;

	fs->threads = true;
	r = pthread_create(&fs->committer, NULL, log_thread, fs);
	if (!r && ++fs->started)
		r = pthread_create(&fs->worker, NULL, worker_thread, fs);
	if (!r && ++fs->started)
		r = pthread_create(&fs->keeper, NULL, keeper_thread, fs);
	if (!r && ++fs->started)
		r = pthread_create(&fs->giver, NULL, giver_thread, fs);
	if (!r) {
		fs->started++;
		return 0;
	}
	stop_threads(fs);
	return fs_set_error(-r, "cannot start a thread: %s", strerror(r));
}

int fs_mount(struct fs **fsp, const struct fs_options *options)
{
	uint64_t epoch = 0, *leaks = NULL;
	size_t leak_count = 0;
	struct fs *fs;
	int r = fs_new(&fs, options);

	if (r)
		return r;
	if (!fs->readonly)	/* before there are sessions: each is told when it is opened */
		vol_buffer_add(fs->vol, file_zeroes, sizeof(file_zeroes));
	r = attach(fs, &epoch);
	if (!r) {
		fs->info.clean = fs->super.clean;
		fs->info.epoch = epoch;
		start_keeper(fs);	/* questions come from here on */
		r = read_all(fs, &leaks, &leak_count);
	}
	if (r)
		goto fail;
	/* A superblock that lost its newer copy does not know of the last mounts; their epochs do not come again. */
	if (epoch < fs->log.epoch)
		fs->info.epoch = epoch = fs->log.epoch;
	fs->info.leaked = leak_count;
	if (fs->damaged && !fs->readonly) {
		fs_say(fs, "damaged", "the filesystem is damaged (%" PRIu64 " problems): mounted read-only, nothing is freed; "
		       "run fsck.brickfs", fs->damage_count);
		fs->readonly = true;
	}
	if (!fs->readonly)
		r = take_over(fs, epoch, leaks, leak_count);
	else
		vol_set_fence(fs->vol, fence, fs);
	if (r)
		goto fail;
	free(leaks);
	if (!options->manual && !options->check && (r = start_threads(fs))) {
		leaks = NULL;
		goto fail;
	}
	*fsp = fs;
	return 0;
fail:
	if (!fs_error_text()[0])
		fs_set_error(r, "%s", strerror(-r));
	free(leaks);
	stop_threads(fs);
	fs_delete(fs);
	return r;
}

int fs_tick(struct fs *fs)
{
	bool due;
	int r = fs->readonly ? 0 : log_commit(fs);

	if (!r && !fs->readonly)
		r = reclaim(fs);
	pthread_mutex_lock(&fs->lock);
	due = !r && !fs->readonly && log_is_long(fs);
	pthread_mutex_unlock(&fs->lock);
	if (due)
		checkpoint(fs);
	vol_give_back(fs->vol);
	return r;
}

int fs_checkpoint(struct fs *fs)
{
	return checkpoint(fs);
}

static int finish(struct fs *fs)
{
	int r = atomic_load(&fs->error) ? -EIO : log_commit(fs);

	/* What was deleted while the kernel held it goes now. */
	if (!r) {
		struct inode *i, *next;

		pthread_mutex_lock(&fs->lock);
		for (i = fs->all.next; i != &fs->all && !MUTATED(ORPHANS_KEPT); i = next) {
			next = i->next;
			i->references = 0;
			i->opens = 0;
			inode_put(fs, i);
			log_trim(fs);
		}
		pthread_mutex_unlock(&fs->lock);
		r = log_commit(fs);
	}
	/* A freed drop may have been all that kept a deleted inode: that drops more. */
	if (!r)
		r = drops_wait_all(fs);
	if (!r && log_is_long(fs))
		checkpoint(fs);
	if (!r) {
		pthread_mutex_lock(&fs->lock);
		r = marks_put(fs, true);
		pthread_mutex_unlock(&fs->lock);
	}
	if (!r)
		r = log_commit(fs);
	if (!r)
		r = vol_persist(fs->vol);
	if (!r && fs->log.ahead) {
		uint64_t addr = fmt_addr(FMT_LOG, fs->log.ahead);

		fs->log.ahead = 0;
		r = vol_release(fs->vol, &addr, 1);
	}
	if (r)
		return r;
	fs->super.clean = true;
	fs->super.end_segment = fs->log.segment;
	fs->super.end_offset = fs->log.offset;
	fs->super.end_batch = fs->log.durable;
	return fs_super_write(fs);
}

int fs_buffer_add(struct fs *fs, void *memory, size_t size)
{
	int r = vol_buffer_add(fs->vol, memory, size);

	return r ? fs_set_error(r, "%s", vol_reason(fs->vol, r)) : 0;
}

void fs_buffer_remove(struct fs *fs, void *memory)
{
	vol_buffer_remove(fs->vol, memory);
}

bool fs_get_brick(struct fs *fs, unsigned number, struct fs_brick *brick)
{
	if (number >= vol_bricks(fs->vol))
		return false;
	const struct backend_info *info = vol_brick_info(fs->vol, number);

	memcpy(brick->uuid, info->uuid, sizeof(brick->uuid));
	brick->endpoint = vol_brick_endpoint(fs->vol, number);
	brick->method = info->method;
	brick->capacity = info->capacity;
	return true;
}

int fs_unmount(struct fs *fs)
{
	int r = 0;

	stop_threads(fs);
	if (!fs->readonly && !fs_stopped(fs))
		r = finish(fs);
	if (r)
		fs_set_error(r, "not all could be committed: %s: %s", strerror(-r), vol_text(fs->vol));
	fs_delete(fs);
	return r;
}

void fs_abandon(struct fs *fs)
{
	stop_threads(fs);
	vol_abandon(fs->vol);
	fs->vol = NULL;
	fs_delete(fs);
}

/* Of several bricks the one that promises least speaks for all. */
static const char *weakest_method(const struct volume *vol)
{
	const char *method = "";

	for (unsigned b = 0; b < vol_bricks(vol); b++) {
		const char *this = vol_brick_info(vol, b)->method;

		if (!b || !strcmp(this, FS_VOLATILE))
			method = this;
		else if (strcmp(method, FS_VOLATILE) && strcmp(method, this))
			method = "mixed";
	}
	return method;
}

void fs_get_info(struct fs *fs, struct fs_info *info)
{
	pthread_mutex_lock(&fs->lock);
	*info = fs->info;
	memcpy(info->uuid, fs->super.uuid, 16);
	memcpy(info->label, fs->super.label, sizeof(info->label));
	info->bricks = vol_bricks(fs->vol);
	info->readonly = fs_writable(fs) != 0;
	info->inodes = fs->inode_count;
	info->dentries = fs->dentry_count;
	info->capacity = vol_capacity(fs->vol);
	info->free = vol_free_blocks(fs->vol);
	info->reserve = space_reserve(fs);
	info->log_segments = fs->log.head_count + fs->log.ckpt_count;
	info->method = weakest_method(fs->vol);
	pthread_mutex_unlock(&fs->lock);
}
