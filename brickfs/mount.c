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

/* ---- the steps */

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
		int b = super_brick(fs, fs->super.brick[k].uuid);
		const char *endpoint = b >= 0 ? vol_brick_endpoint(fs->vol, (unsigned)b) : NULL;

		if (endpoint && strlen(endpoint) < FMT_ENDPOINT_MAX)
			strcpy(fs->super.brick[k].endpoint, endpoint);
	}
	r = super_write(fs);
	if (r)
		return fs_set_error(r, "cannot write the superblock: %s", vol_text(fs->vol));
	vol_set_fence(fs->vol, super_fence, fs);
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
	r = super_attach(fs, &epoch);
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
		vol_set_fence(fs->vol, super_fence, fs);
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
	return super_write(fs);
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
