/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soak-model - what a tree on a mount must hold, also after the mount or the bricks were killed.
 *
 * One process works in one directory, alone.  What it does is in the model before it is done, and in the journal, a file
 * that is not on the mount: so the journal is right whoever is killed when, and a later process takes the model up from it.
 *
 * Names: the sequence of operations that are not known to be durable is kept.  Before a crash all of them have happened; after
 * one, the first so many of them have: names are a prefix of what was acknowledged (an operation that was under way is the last of
 * the sequence).  An fsync of a node makes durable its last change, and so all that was done before that.
 *
 * Files: `durable` is what an fsync has promised, `live` what is to be read now, `pending` what has changed since
 * the fsync.  After a crash each unit of 8 bytes is the durable one or one of those that a pending change put there; the size is
 * the durable one, or one that a pending change gave or grew through.
 *
 * Whatever is read after a fresh mount is durable: it becomes the model (soak-settle.c).
 */
#ifndef SOAK_MODEL_H
#define SOAK_MODEL_H

#include <stdio.h>

#include "soak-bytes.h"

#define MODEL_NAME 32
#define MODEL_ROOT 1u	/* the node of the directory that is worked in */

enum change_kind {
	CHANGE_WRITE,	/* bytes, and the size when it was less */
	CHANGE_SIZE,	/* the size; what is beyond is gone */
	CHANGE_GROW,	/* the size, when it was less */
	CHANGE_ZERO,	/* zeroes; the size stays */
};

struct change {
	enum change_kind kind;
	uint64_t off, end;	/* of CHANGE_SIZE and CHANGE_GROW: end is the size */
	uint32_t gen;
	uint64_t size;		/* the file's afterwards */
};

struct node {
	uint32_t id;
	char type;		/* f, d or l: file, directory, symbolic link */
	uint64_t ino;		/* 0: not known, its making was under way */
	uint32_t gen;		/* the last one used */
	uint64_t touched;	/* changes of names that had been begun when it was changed itself, the last time */
	uint64_t durable_size, size;
	struct map durable, live;
	struct change *pending;
	size_t changes, room;
	/* The worker's. */
	int fd;			/* -1: none */
	bool unlinked;		/* no names any more, but the descriptor */
};

struct entry {
	uint32_t parent, node;
	uint32_t mode;		/* permissions; the same in all entries of a node */
	char name[MODEL_NAME];
};

struct names {
	struct entry *e;
	size_t n, room;
};

struct name_change {
	char kind;		/* A add, D delete, M move, X exchange, P permissions */
	uint32_t parent, node, to_parent;
	uint32_t mode;
	char name[MODEL_NAME], to_name[MODEL_NAME];
};

struct model {
	const char *path;	/* of the journal */
	FILE *journal;
	uint64_t seed;
	unsigned worker, run;	/* run: how many processes have had this journal */
	uint64_t journaled;	/* bytes since the last snapshot */
	struct node **nodes;	/* by id; NULL: gone */
	size_t node_count, node_room;
	struct names durable, live;
	struct name_change *pending;
	size_t changes, room;
	uint64_t settled;	/* changes before the first pending one */
};

/* Takes the model up from the journal, or begins one.  0, or -1 with a message. */
int model_open(struct model *model, const char *path, uint64_t seed, unsigned worker);
bool model_is_new(const struct model *model);

struct node *model_node(const struct model *model, uint32_t id);
/* A node that is about to be made. */
struct node *model_new_node(struct model *model, char type);
void model_made(struct model *model, struct node *node, uint64_t ino);
void model_forget(struct model *model, struct node *node);
size_t names_of(const struct names *names, uint32_t node);	/* how many */
struct entry *names_find(const struct names *names, uint32_t parent, const char *name);
void names_apply(struct names *names, const struct name_change *change);
void names_copy(struct names *to, const struct names *from);

/* What is about to be done. */
void model_change_names(struct model *model, const struct name_change *change);
void model_change(struct model *model, struct node *node, enum change_kind kind, uint64_t off, uint64_t end, uint32_t gen);

/* The node is changed in a way that no check looks for: what was done before is durable with its fsync. */
void model_touch(struct model *model, struct node *node);
/* What was acknowledged: fsync of the node. */
void model_synced(struct model *model, struct node *node);

/* How many times a check may print why it fails. */
extern unsigned model_words;

/* Bytes [off, off + len) of the file as read.  exact: they must be the live ones; else what a crash may leave, and which of it is
 * there goes to `found`.  False, with words. */
bool model_check(const struct model *model, const struct node *node, uint64_t off, const void *buffer, size_t len, bool exact,
		 struct map *found);
bool model_check_size(const struct node *node, uint64_t size);

/* Everything is durable as it is live: a new journal, with only that. */
int model_snapshot(struct model *model);

#endif
