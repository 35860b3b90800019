/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle-impl - what oracle.c (the model) and oracle-check.c (what is allowed) share; nobody else includes it. */
#ifndef TESTS_ORACLE_IMPL_H
#define TESTS_ORACLE_IMPL_H

#include "oracle.h"

struct opiece { uint64_t offset, end; uint32_t source; };
struct oentry { char *name; uint64_t ino; };
struct oxattr { char *name; uint8_t *value; size_t size; };

struct onode {
	unsigned refs;			/* states that it is part of */
	uint64_t ino, parent;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t nlink, size;
	unsigned opens;
	unsigned born, touched, touched_data;	/* steps: made; changed in any way; changed but for its times */
	bool timed;			/* the times are known */
	struct timespec mtime, ctime;
	char *target;
	struct oentry *entries;
	size_t entry_count;
	struct oxattr *xattrs;
	size_t xattr_count;
	struct opiece *pieces;		/* sorted */
	size_t piece_count;
};

struct ostate {
	struct onode **nodes;
	size_t count, room;
};

enum oevent_kind {
	OEV_WRITE,
	OEV_FAILED,	/* a write that answered an error */
	OEV_ZERO,
	OEV_GROW,
	OEV_SHRINK,
	OEV_RENAME,
	OEV_DURABLE,	/* ino 0: everything */
};

/* What happened to the bytes of a file, and when they became durable. */
struct oevent {
	enum oevent_kind kind;
	unsigned step;
	uint64_t ino, offset, end, old_size, new_size;
};

struct oracle {
	unsigned step;			/* the last one begun */
	bool open_step;			/* between begin and end: states[step] is not there yet */
	struct ostate now, *states;
	unsigned *floors;		/* after each step: the least state that may be found */
	char **texts;
	struct oevent *events;
	size_t event_count, event_room;
};

struct onode *state_find(const struct ostate *state, uint64_t ino);

#endif
