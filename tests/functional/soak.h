/* SPDX-License-Identifier: BSD-3-Clause */
/* soak - the rooms of the program: soak.c (what is asked), soak-settle.c (what is there, held against the model), soak-work.c (steps). */
#ifndef SOAK_H
#define SOAK_H

#include <signal.h>

#include "soak-model.h"

#define SOAK_PATH 4096
#define SOAK_CHUNK (1u << 20)

/* Exit statuses. */
#define SOAK_GOOD 0
#define SOAK_BAD 1		/* a finding */
#define SOAK_MOUNT_GONE 3	/* the mount was killed, and the file that says so was there: as it should be */

struct soak {
	struct model model;
	char top[SOAK_PATH];	/* the directory on the mount */
	const char *dead;	/* a file that is there when the mount is about to be killed */
	bool fresh;		/* nothing but what is on the bricks can be read: this mount saw no other process of this journal */
	uint64_t random;
	uint64_t free_percent;
	uint8_t *buffer;	/* SOAK_CHUNK, aligned for O_DIRECT */
	const char *counts;	/* a file that gets a line at the end, or NULL */
	uint64_t steps, verified, fsyncs, made, settles;
};

extern volatile sig_atomic_t soak_stop;

static inline uint64_t soak_random(struct soak *soak, uint64_t below)
{
	return bytes_random(&soak->random) % below;
}

/* A call on the mount failed: ends the process, well only if the mount was killed. */
_Noreturn void soak_failed(const struct soak *soak, const char *call, const char *path);
_Noreturn void soak_finding(const struct soak *soak);
/* Of a node, by one of its names; the one that `pick` chooses. */
void soak_path(const struct soak *soak, const struct node *node, uint64_t pick, char *path);
void soak_entry_path(const struct soak *soak, uint32_t parent, const char *name, char *path);

/* All that can be told of a file's bytes: exact, or what a crash may have left, which goes to found. */
bool settle_bytes(struct soak *soak, const struct node *node, int fd, uint64_t size, bool exact, struct map *found);
/* Some of them: they are there, and exact. */
bool settle_range(struct soak *soak, const struct node *node, int fd, uint64_t off, size_t len);
/* The names are the live ones, or: the first so many of the pending changes; *taken says how many. */
bool settle_names(struct soak *soak, bool exact, size_t *taken);
/* After a start: what is there is allowed, and becomes the model. */
void settle(struct soak *soak);
/* Everything must be exactly as it is in the model. */
void settle_exact(struct soak *soak);

void work(struct soak *soak);
/* fsync of everything that has changes; then the journal begins anew. */
void work_sync_all(struct soak *soak);

#endif
