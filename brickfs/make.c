/* SPDX-License-Identifier: BSD-3-Clause */
/* make - a new filesystem over bricks: the superblocks, and a log with the root directory in it. */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MIN_BLOCKS 8		/* superblock, log, its reserve, and something to put data in */

/* What stands on the bricks already? */
static int refuse_used(struct fs *fs)
{
	uint64_t used = vol_capacity(fs->vol) - vol_free_blocks(fs->vol);
	uint8_t page[2][FMT_PAGE];
	struct fmt_super s;

	if (!used)
		return 0;
	int r = vol_lock(fs->vol, false, 0);

	if (r == -EBUSY)
		return fs_set_error(r, "%s", vol_text(fs->vol));
	if (!r) {
		for (unsigned b = 0; b < vol_bricks(fs->vol); b++)
			if (!vol_read_on(fs->vol, b, 0, page, sizeof(page)) &&
			    (fmt_super_magic(page[0]) || fmt_super_magic(page[1]))) {
				bool good = !fmt_get_super(page[0], &s) || !fmt_get_super(page[1], &s);

				return fs_set_error(-EEXIST, "%s holds a brickfs filesystem already%s%s%s; -f makes a new one over it",
						    vol_brick_endpoint(fs->vol, b), good && s.label[0] ? " (" : "",
						    good ? s.label : "", good && s.label[0] ? ")" : "");
			}
		vol_unlock(fs->vol);
	}
	return fs_set_error(-EEXIST, "%" PRIu64 " blocks are in use already, by something else than brickfs, on %s%s; "
			    "brickfs needs the whole brick: -f frees them", used, vol_brick_endpoint(fs->vol, 0),
			    vol_bricks(fs->vol) > 1 ? " and the others" : "");
}

static int make_super(struct fs *fs, const struct fs_make_options *options)
{
	struct fmt_super *s = &fs->super;

	if (getrandom(s->uuid, 16, 0) != 16)
		return fs_set_error(-EIO, "no random numbers for the filesystem's UUID");
	s->uuid[6] = (s->uuid[6] & 0x0f) | 0x40;
	s->uuid[8] = (s->uuid[8] & 0x3f) | 0x80;
	if (options->label) {
		if (strlen(options->label) >= FMT_LABEL_MAX)
			return fs_set_error(-EINVAL, "the label '%s' is longer than %d bytes", options->label, FMT_LABEL_MAX - 1);
		strcpy(s->label, options->label);
	}
	s->epoch = 1;
	s->copies = 1;
	s->created = time(NULL);
	s->brick_count = vol_bricks(fs->vol);
	for (unsigned b = 0; b < s->brick_count; b++) {
		const char *endpoint = vol_brick_endpoint(fs->vol, b);

		memcpy(s->brick[b].uuid, vol_brick_info(fs->vol, b)->uuid, 16);
		if (strlen(endpoint) < FMT_ENDPOINT_MAX)
			strcpy(s->brick[b].endpoint, endpoint);
	}
	return 0;
}

/* The first batch: numbers, the root directory, and a checkpoint of nothing that begins here. */
static int make_log(struct fs *fs)
{
	struct fmt_checkpoint c = { 0 };
	struct inode *root;
	int r;

	for (int k = 0; k < FMT_MARKS_COUNT; k++)
		fs->next[k] = 1;
	fs->next[FMT_MARK_INO] = FS_ROOT_INO + 1;
	pthread_mutex_lock(&fs->lock);
	root = ns_new_inode(fs, FS_ROOT_INO);
	r = root && !ns_make_dir(root) ? marks_put(fs, false) : -ENOMEM;
	pthread_mutex_unlock(&fs->lock);
	if (!r)
		r = log_alloc_segment(fs, &c.s0);
	if (r)
		return r;
	fs->log.ahead = c.s0;
	pthread_mutex_lock(&fs->lock);
	if (log_begin(fs, fmt_checkpoint_size(0))) {
		root->mode = S_IFDIR | 0755;
		root->nlink = 1;
		root->dir->parent = root;
		fs_now(&root->ctime);
		root->atime = root->mtime = root->ctime;
		log_mark_dirty(fs, root);
		fmt_put_checkpoint(log_room(fs, fmt_checkpoint_size(0)), &c);
	} else {
		r = -ENOMEM;
	}
	pthread_mutex_unlock(&fs->lock);
	if (!r)
		r = log_commit(fs);
	if (!r && fs->log.ahead) {
		uint64_t addr = fmt_addr(FMT_LOG, fs->log.ahead);

		fs->log.ahead = 0;
		r = vol_release(fs->vol, &addr, 1);
	}
	return r;
}

static int make(struct fs *fs, const struct fs_make_options *options)
{
	static const uint8_t zero[2 * FMT_PAGE];
	uint64_t duplicates;
	bool fresh[FMT_BRICKS_MAX] = { false };
	unsigned brick;
	int r;

	if (!options->endpoint_count)
		return fs_set_error(-EINVAL, "no endpoint was given");
	if (options->endpoint_count > FMT_BRICKS_MAX)
		return fs_set_error(-EINVAL, "a filesystem has at most %d bricks", FMT_BRICKS_MAX);
	for (size_t k = 0; k < options->endpoint_count; k++) {
		r = vol_connect(fs->vol, options->endpoints[k], &brick);
		if (r == -EEXIST)
			return fs_set_error(-EINVAL, "%s and %s are the same brick", options->endpoints[k],
					    vol_brick_endpoint(fs->vol, brick));
		if (r)
			return fs_set_error(r, "%s", vol_text(fs->vol));
	}
	if (vol_capacity(fs->vol) < MIN_BLOCKS + vol_bricks(fs->vol))
		return fs_set_error(-ENOSPC, "%" PRIu64 " blocks of 2 MiB are too few for a filesystem; %u are the least",
				    vol_capacity(fs->vol), MIN_BLOCKS + vol_bricks(fs->vol));
	r = vol_list(fs->vol, &duplicates);
	if (r && (r != -EUCLEAN || !options->force))
		return fs_set_error(r, "%s", vol_text(fs->vol));
	r = make_super(fs, options);
	if (!r && !options->force)
		r = refuse_used(fs);
	if (r)
		return r;
	for (unsigned b = 0; b < vol_bricks(fs->vol); b++) {
		r = vol_alloc_on(fs->vol, b);
		fresh[b] = !r;
		if (r && r != -EEXIST) {
			fs_set_error(r, "%s", vol_text(fs->vol));
			goto refused;
		}
	}
	r = vol_lock(fs->vol, true, 5000);
	if (r) {
		fs_set_error(r, "%s", vol_text(fs->vol));
		goto refused;
	}
	/* From here on no old filesystem is found, should this end half-way. */
	for (unsigned b = 0; b < vol_bricks(fs->vol) && !r; b++)
		r = vol_write_on(fs->vol, b, 0, zero, sizeof(zero));
	if (!r && options->force)
		r = vol_release_all(fs->vol);
	if (!r)
		r = make_log(fs);
	if (!r) {
		fs->super.clean = true;
		fs->super.end_segment = fs->log.segment;
		fs->super.end_offset = fs->log.offset;
		fs->super.end_batch = fs->log.durable;
		r = super_write(fs);
	}
	if (!r)		/* both copies */
		r = super_write(fs);
	return r ? fs_set_error(r, "%s: %s", strerror(-r), vol_text(fs->vol)) : 0;
refused:
	/* Nothing is changed by a refusal. */
	for (unsigned b = 0; b < vol_bricks(fs->vol); b++)
		if (fresh[b])
			vol_unalloc_on(fs->vol, b);
	return r;
}

int fs_make(const struct fs_make_options *options, struct fs_info *made)
{
	struct fs_options fo = {
		.backend = options->backend, .backend_context = options->backend_context, .manual = true,
		.timeo_ms = options->timeo_ms,
	};
	struct fs_brick brick;
	struct fs *fs;
	int r = fs_new(&fs, &fo);

	if (r)
		return r;
	r = make(fs, options);
	if (r && !fs_error_text()[0])
		fs_set_error(r, "%s", strerror(-r));
	if (!r && made) {
		fs->info.epoch = fs->super.epoch;
		fs->info.clean = true;
		fs_get_info(fs, made);
	}
	for (unsigned b = 0; !r && options->made && fs_get_brick(fs, b, &brick); b++)
		options->made(options->made_arg, &brick);
	fs_delete(fs);
	return r;
}
