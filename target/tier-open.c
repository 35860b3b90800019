/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tier-open - begins the pool with the memory that belongs to it, and finds out
 * what an earlier brickd left in a memory file.
 *
 * The order of every step is such that a kill in between loses nothing: the pool
 * names a memory as long as it may lack bytes that are there, and a memory file
 * goes only when no pool names it.
 */
#include "tier-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "report.h"
#include "sigbus.h"

struct left {
	const char *path;	/* of the file that is there, or NULL */
	struct memory memory;	/* open, if it belongs to the pool's last open */
	bool belongs;
	uint32_t dirty;		/* blocks in it */
};

static int random_name(struct pool *pool, uint64_t *name)
{
	do {
		if (getrandom(name, sizeof(*name), 0) != sizeof(*name)) {
			report_error("%s: no random bytes", pool_path(pool));
			return -EIO;
		}
	} while (!*name || *name == pool_memory(pool));
	return 0;
}

/* No block has this number. */
#define NOT_LIVE UINT64_MAX

static int note_block(void *arg, uint32_t slot, uint64_t block)
{
	uint64_t *live = arg;

	live[slot] = block;
	return 0;
}

/* Every entry of the table: blocks that were freed go, and what cannot be is found.  -EUCLEAN (said), -ENOMEM. */
static int check_table(struct tier *tier, struct memory *memory, uint32_t *dirty)
{
	uint64_t *live = malloc(tier->count * sizeof(*live));
	int rc = 0;

	if (!live)
		return -ENOMEM;
	for (uint32_t slot = 0; slot < tier->count; slot++)
		live[slot] = NOT_LIVE;
	(void)pool_each(tier->pool, note_block, live);
	*dirty = 0;
	for (uint32_t f = 0; f < memory->frames && !rc; f++) {
		struct memory_content content;
		int got = memory_get(memory, f, &content);

		if (!got)
			continue;
		if (got < 0 || content.slot >= tier->count) {
			report_warning("%s: damaged: entry %u of its table cannot be", memory->path, f);
			rc = -EUCLEAN;
		} else if (live[content.slot] != content.block) {
			memory_forget(memory, f);
		} else {
			/* A second entry for the slot will not match. */
			live[content.slot] = NOT_LIVE;
			*dirty += content.dirty;
		}
	}
	free(live);
	return rc;
}

/* What is there of an earlier brickd.  A file that is of no use, or of another time, is no error. */
static int find_left(struct tier *tier, struct left *left)
{
	const char *path = pool_memory_path(tier->pool);
	int rc;

	if (!*path)
		return 0;
	rc = memory_open(&left->memory, path, pool_uuid(tier->pool));
	if (rc == -ENOENT) {
		if (pool_unclean(tier->pool) && pool_memory(tier->pool))
			report_warning("%s: the memory file that the last brickd had is gone", path);
		return 0;
	}
	if (rc < 0)
		return rc;
	left->path = path;
	if (rc == 0 && pool_unclean(tier->pool) && memory_is(&left->memory, pool_memory(tier->pool))) {
		rc = check_table(tier, &left->memory, &left->dirty);
		if (rc < 0 && rc != -EUCLEAN)
			return rc;
		left->belongs = rc == 0;
	} else if (rc == 0) {
		report_info("%s: is not of the pool's last use, and goes", left->path);
	}
	return 0;
}

/* Direct or fault mode, and the newest bytes of blocks are elsewhere. */
static int refuse(struct tier *tier, const struct left *left)
{
	report_error("%s: the last brickd did not end in order, and %u blocks have newer bytes in %s; start with --memory %lluM to "
		     "keep them, or remove that file to give them up",
		     pool_path(tier->pool), left->dirty, left->path,
		     left->memory.frames * (POOL_SLOT_SIZE >> 20));
	return -EEXIST;
}

/* Every dirty block of a memory file to the pool, and durable there; then the pool needs the file no more. */
static int bring_home(struct tier *tier, struct left *left)
{
	struct memory *memory = &left->memory;
	int rc = 0;

	if (left->dirty)
		report_notice("%s: %u blocks are written back to the pool before memory is laid out anew", left->path, left->dirty);
	for (uint32_t f = 0; f < memory->frames && !rc; f++) {
		struct memory_content content;

		if (memory_get(memory, f, &content) != 1 || !content.dirty)
			continue;
		rc = pool_put(tier->pool, content.slot, 0, memory_address(memory, f), POOL_SLOT_SIZE);
		if (!rc)
			rc = pool_persist(tier->pool, content.slot, 0, POOL_SLOT_SIZE);
	}
	if (!rc)
		rc = pool_leave_memory(tier->pool);
	if (rc)
		report_error("%s: cannot be written back to the pool; it stays, start again when the pool's device works", left->path);
	return rc;
}

static void on_sigbus(void *owner)
{
	struct tier *tier = owner;

	pool_fail(tier->pool, "SIGBUS in its memory file (truncated behind our back, or the memory failed)", EIO);
}

/* The pool names the memory from here on. */
static int begin(struct tier *tier, uint64_t name, bool kept)
{
	struct pool_use use = {
		.fault = tier->mode == TIER_FAULT,
		.memory = name,
		.memory_path = tier->memory.path,
		.kept = kept,
	};

	return pool_begun(tier->pool) ? 0 : pool_begin(tier->pool, &use);
}

static int make_memory(struct tier *tier, const char *folder, uint32_t frames)
{
	uint64_t name = 0;
	int rc;

	if (tier->mode == TIER_FAULT) {
		rc = memory_anonymous(&tier->memory, pool_uuid(tier->pool), frames);
		return rc ? rc : begin(tier, 0, false);
	}
	/* What an earlier use in direct mode has not persisted is unsettled; but who was killed now would not know it. */
	if (pool_unclean(tier->pool) && !pool_memory(tier->pool)) {
		rc = pool_persist_all(tier->pool);
		if (rc)
			return rc;
	}
	rc = random_name(tier->pool, &name);
	if (!rc)
		rc = memory_create(&tier->memory, folder, pool_uuid(tier->pool), frames, name);
	return rc ? rc : begin(tier, name, false);
}

static int take_up(struct tier *tier, struct left *left)
{
	uint64_t name;
	int rc = random_name(tier->pool, &name);

	if (rc)
		return rc;
	tier->memory = left->memory;
	left->memory = MEMORY_NONE;
	report_notice("%s: taken up, with %u blocks that were not persisted", left->path, left->dirty);
	/* The name that the pool has may be the file's next one: then an earlier start was killed between the two. */
	memory_settle_name(&tier->memory, pool_memory(tier->pool));
	memory_rename(&tier->memory, name);
	rc = begin(tier, name, true);
	if (!rc)
		memory_renamed(&tier->memory);
	return rc;
}

/* True if the file is where it would be made now. */
static bool in_folder(const struct left *left, const char *folder)
{
	size_t length = folder ? strlen(folder) : 0;

	return !folder || (!strncmp(left->path, folder, length) && left->path[length] == '/' &&
			   !strchr(left->path + length + 1, '/'));
}

int tier_take_memory(struct tier *tier, const struct tier_config *config)
{
	uint64_t wanted = config->memory / POOL_SLOT_SIZE;
	struct left left = { .memory = MEMORY_NONE };
	char *folder = NULL;
	uint32_t frames;
	int rc = 0;

	if (tier->mode == TIER_FAULT && !config->memory)
		wanted = tier->count;
	frames = wanted < tier->count ? (uint32_t)wanted : tier->count;
	if (tier->mode != TIER_DIRECT && !frames)
		return -EINVAL;
	/* As whoever opens the pool next will look for it, from another directory. */
	if (config->folder && !(folder = realpath(config->folder, NULL))) {
		rc = -errno;
		report_error("%s: no folder for the memory file: %s", config->folder, strerror(-rc));
		return rc;
	}
	if (pool_begun(tier->pool)) {
		if (tier->mode == TIER_MEMORY)
			return -EINVAL;
	} else {
		rc = find_left(tier, &left);
	}
	if (!rc && left.belongs && tier->mode != TIER_MEMORY && left.dirty)
		rc = refuse(tier, &left);
	if (rc)
		goto out;
	if (left.belongs && tier->mode == TIER_MEMORY && left.memory.frames == frames && in_folder(&left, folder)) {
		rc = take_up(tier, &left);
	} else {
		if (left.belongs)
			rc = bring_home(tier, &left);
		/* Brought home, or of no use to anyone. */
		if (!rc && left.path)
			memory_remove(&left.memory);
		if (!rc)
			rc = tier->mode == TIER_DIRECT ? begin(tier, 0, false) : make_memory(tier, folder, frames);
	}
	if (!rc && tier->mode != TIER_DIRECT)
		rc = sigbus_watch(tier->memory.base, tier->memory.size, tier->memory.path ? tier->memory.path : "fault mode's memory",
				  on_sigbus, tier);
	if (!rc && tier->mode != TIER_DIRECT)
		rc = cache_open(tier);
out:
	memory_close(&left.memory);
	free(folder);
	return rc;
}

void tier_leave_memory(struct tier *tier, bool settled)
{
	if (!tier->memory.base)
		return;
	sigbus_unwatch(tier->memory.base);
	if (!tier->memory.path) {
		memory_close(&tier->memory);
		return;
	}
	if (settled && !pool_leave_memory(tier->pool)) {
		memory_remove(&tier->memory);
		return;
	}
	if (tier->dirty_n)
		report_error("%s: keeps %u blocks that could not be written back; start with --memory again when the pool's device works",
			     tier->memory.path, tier->dirty_n);
	memory_close(&tier->memory);
}
