/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs - what the rooms of the core share: the mounted filesystem, inodes, entries,
 * and the order of the locks.
 *
 * Locks, outermost first; none is taken while a later one is held:
 *
 *   inode.io	(read-write) of one inode: held over data I/O.  Shared: the shape of the
 *		file (form, runs, which blocks exist) stays.  Exclusive: it changes.
 *		Nobody holds the io lock of two inodes.
 *   ckpt_lock	one checkpoint at a time
 *   commit_lock one commit at a time
 *   lock	the namespace: inodes, entries, the open batch, drops, marks.  Never
 *		held over I/O, never while waiting.
 *   space.lock	packed blocks and reservations
 *
 * Everything in struct inode is under fs->lock, but what says otherwise.
 *
 * A change: under fs->lock it is made in memory and its records are appended to
 * the open batch (structural records at once, inode records when the batch is
 * closed: mark_dirty()).  So a batch holds a prefix of what was acknowledged.
 */
#ifndef BRICKFS_FS_H
#define BRICKFS_FS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "core.h"
#include "format.h"
#include "volume.h"

struct dentry {
	struct dentry *next;		/* in the name table */
	struct inode *dir, *inode;
	uint64_t cookie;
	uint64_t hash;
	struct timespec time;
	uint8_t length;
	char name[];			/* with a NUL */
};

struct dir_slot { uint64_t cookie; struct dentry *dentry; };	/* dentry NULL: removed */

struct dir {
	struct dir_slot *slot;		/* ascending cookies */
	uint32_t used, room, removed;
	uint64_t next_cookie;
	uint64_t unseen;		/* replay: positions that a later record shows were given, and no record tells for what */
	struct inode *parent;		/* the root's is itself */
	uint32_t subdirs;
};

struct xattr {
	struct xattr *next;
	uint32_t length;
	uint8_t name_length;
	char *value;
	char name[];
};

struct inode {
	uint64_t ino;
	struct inode *hash_next, *prev, *next;	/* prev, next: all inodes */
	struct inode *dirty_prev, *dirty_next;	/* of fs->dirty, when dirty */
	uint32_t mode, nlink, uid, gid;
	uint64_t rdev, size, alloc_end;
	struct timespec atime, mtime, ctime;

	uint64_t references;		/* the kernel's (lookup count) */
	uint32_t opens, pins;		/* pins: calls at work on it */
	bool dirty;
	bool gone;			/* deleted: its record's removal is in the log */
	bool known;			/* replay: a record was seen */
	bool reached;			/* replay, directories: the root leads to it */
	bool lossy;			/* mount: it lost blocks: where it has none, nobody can tell a hole from a loss */
	bool unproven;			/* fsck: something of it comes from a batch with a wrong checksum */
	int wb_error;			/* of a background write, told once by flush or fsync */
	uint64_t batch;			/* the last batch that holds (or will hold) a change of it */
	uint64_t recorded_blocks;	/* of its record, for compare() */
	struct dentry *name;		/* replay and check: one of its names, or NULL */
	size_t accounted;		/* bytes of its record in fs->live */

	struct dir *dir;
	struct xattr *xattrs;

	/* The shape of the data.  Changed under io exclusive and fs->lock; read under either. */
	uint8_t form;			/* enum fmt_form */
	uint32_t length;		/* inline: bytes; run: pages; ranges: ranges */
	union {
		uint8_t *data;
		uint64_t run;
		struct fmt_range *ranges;
	};
	uint64_t prepared;		/* end of the writes that are under way: >= size */
	bool in_vain;			/* one of those failed: what is between size and prepared is not known to be zero */
	uint64_t dirty_end;		/* existing bytes at and beyond this are zero */
	uint32_t drops;			/* storage given up and not yet freed; writes into it wait */
	struct drop *holes;		/* of these, blocks punched in the middle: they read as zeroes */
	pthread_rwlock_t io;
};

/* Storage that a batch drops: freed when that batch is durable. */
struct drop {
	struct drop *next, *hole_next;
	uint64_t batch;
	uint64_t addr;			/* run: first page; else first block */
	uint32_t pages;			/* run: pages; 0: blocks */
	uint64_t count;			/* blocks (not all of them exist) */
	uint32_t fblock;		/* holes: first file block */
	bool is_hole;
	struct inode *inode;		/* pinned; waits for this, or NULL */
};

/* A batch in memory. */
struct batch {
	struct batch *next;
	uint64_t number;
	uint8_t *data;			/* FMT_BATCH_HEADER bytes of room, then records */
	size_t length, room;		/* of the records */
	bool persist;			/* data must be persisted before it is written */
	bool fresh;			/* begins a new head segment (checkpoint) */
	uint64_t marks[FMT_MARKS_COUNT];/* limits that hold once it is durable */
	struct timespec first;		/* when it was opened */
};

struct log {
	struct batch *queue, **tail;	/* closed, oldest first */
	struct batch *open;		/* or NULL */
	uint64_t next_batch;		/* number of the next one to be opened */
	uint64_t durable;		/* last durable batch */
	uint64_t wanted;		/* the committer is asked for batches up to this */
	bool committing;		/* somebody is in log_commit() */
	int error;
	pthread_cond_t work, done;	/* for the committer; durable or error changed */
	/* the rest under commit_lock, or before the threads begin */
	uint64_t segment, offset;	/* where the next batch goes; segment 0: none begun */
	_Atomic uint64_t ahead;		/* the next segment, allocated; 0: none. Read by anyone */
	uint8_t *wire;			/* a batch on its way, in memory that the bricks know; the volume's. NULL: none yet, or none to be had */
	uint64_t *heads;		/* segments from S0 on (also under fs->lock) */
	uint32_t head_count, head_room;
	uint64_t *ckpt;			/* segments of the checkpoint */
	uint32_t ckpt_count;
	uint64_t last_segment, last_end;/* where the log that was replayed ends, but for what is idle */
	uint32_t idle;			/* of heads, those at the end that hold nothing but marks: freed when a new one is begun */
	uint64_t epoch;			/* the highest in any segment that was found */
	uint64_t top;			/* the highest batch number in any of them */
	uint64_t applying;		/* replay: the batch of the head whose records are applied; 0: of a checkpoint */
	uint64_t fresh;			/* the segment that the last fresh batch began */
};

/* shutdown.c */
enum fs_run {
	FS_RUNNING,
	FS_STOPPING,			/* no change begins; those under way are acknowledged only if they are durable */
	FS_STOPPED,			/* nothing goes to a brick any more, nor is read from one */
};

struct pblock;
struct space {
	pthread_mutex_t lock;
	struct pblock **table;		/* by number, open hash */
	uint32_t buckets, count;
	struct pblock *class[10];	/* by floor(log2(longest free run)) */
	uint64_t pages_used;
	uint64_t inflight;		/* blocks being allocated */
};

struct fs {
	struct fs_options options;
	struct volume *vol;
	struct fmt_super super;
	uint8_t super_copy[VOL_BRICKS_MAX];	/* of each brick: the copy that is written next, the one that does not count */
	bool super_torn[VOL_BRICKS_MAX];	/* one copy of that brick's is damaged */
	unsigned super_bad;		/* so many of them */
	bool readonly;
	bool damaged;			/* replay found damage: read-only, nothing is freed */
	bool records_lost;		/* some of that damage may have taken records of inodes */
	bool threads;			/* running */
	unsigned started;		/* threads */
	bool keeper_alone;		/* fsck: of them, only that one runs */
	bool stop, stop_committer;	/* the worker and the keeper; the committer, last */
	atomic_int error;		/* a commit or persist failed */
	atomic_int going;		/* enum fs_run */

	pthread_mutex_t lock;
	pthread_mutex_t commit_lock, ckpt_lock;
	pthread_t committer, worker, keeper, giver;
	pthread_cond_t worker_wake, keeper_wake, freed;	/* keeper_wake: the giver's too; freed: drops were finished */

	struct inode **inodes;		/* by number */
	struct dentry **names;		/* by (directory, name) */
	uint64_t inode_buckets, name_buckets;
	uint64_t inode_count, dentry_count;
	struct inode all;		/* list head */
	struct inode dirty;		/* list head */
	size_t dirty_bytes;		/* their records */
	struct inode *cursor;		/* of a checkpoint's walk; moved on when it is deleted */
	struct inode *root;
	_Atomic uint64_t live;		/* bytes of records of everything that lives; changed under lock */

	uint64_t next[FMT_MARKS_COUNT];	/* next unused number */
	uint64_t limit[FMT_MARKS_COUNT];	/* logged */
	uint64_t durable_limit[FMT_MARKS_COUNT];

	struct drop *drops, **drops_tail;	/* waiting for their batch */
	struct drop *spare;		/* for the next ones */
	uint32_t spare_count;
	bool reclaiming;
	bool put_again;			/* something was to be deleted, and there was no memory for it */
	uint32_t ckpt_at;		/* head segments at which a checkpoint is due; raised when one fails */

	struct log log;
	struct space space;
	struct fs_info info;
	uint64_t damage_count, declined;
	uint64_t told;			/* problems, by a mount: it does not tell all */
	uint64_t super_rebuilt;		/* check: no superblock was whole, and this one is made from so many log segments */
	bool super_lost[VOL_BRICKS_MAX];	/* check: both copies of that brick's are damaged */
	struct copy_out *copies;	/* check: storage that two claim, to be copied by fs_repair() */
	struct inode *lostfound;	/* check: the directory, once something was put there */
	uint64_t lostfound_from;	/* the first cookie of those */
};

/* Of pages or blocks that an older inode keeps, or that have no place among the numbers: inode gets copies of them. */
struct copy_out {
	struct copy_out *next;
	struct inode *inode;
	uint32_t fblock, count;		/* ranges: these file blocks; count 0: the run */
};

/* ---- problem.c: what is told to people */
void fs_say(struct fs *fs, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A problem of the table: told, counted, and with check asked about. Damage makes a mount read-only. */
void fs_damage(struct fs *fs, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* "/a/b/c", by one of its names; where the root does not lead there, it begins with the inode's number. For texts; valid until the next 4 calls. */
const char *fs_path(struct fs *fs, const struct inode *inode);
const char *fs_path_of(struct fs *fs, const struct dentry *dentry);
int fs_set_error(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));	/* fs_error_text(); returns error */
/* A persist or commit failed: read-only from now on. Under fs->lock, so that nobody begins to wait for what will not come. */
void fs_fail(struct fs *fs, int error, const char *what);
int fs_writable(struct fs *fs);		/* 0, -EROFS, -EIO */
void fs_now(struct timespec *now);

/* ---- ns.c: inodes and entries in memory; all under fs->lock */
struct inode *ns_find(struct fs *fs, uint64_t ino);
struct inode *ns_new_inode(struct fs *fs, uint64_t ino);	/* NULL: no memory */
void ns_free_inode(struct fs *fs, struct inode *inode);		/* out of every table */
void ns_renumber(struct fs *fs, struct inode *inode, uint64_t ino);	/* fsck: its entries stay */
int ns_make_dir(struct inode *inode);
struct dentry *ns_lookup(struct fs *fs, struct inode *dir, const char *name, size_t length);
struct dentry *ns_new_dentry(struct inode *dir, struct inode *inode, const char *name, size_t length);
/* Room for one more slot, so that ns_add_dentry() cannot fail. */
int ns_reserve_dentry(struct fs *fs, struct inode *dir);
void ns_add_dentry(struct fs *fs, struct dentry *dentry, bool name_too);
void ns_name_dentry(struct fs *fs, struct dentry *dentry);	/* into the name table */
void ns_remove_dentry(struct fs *fs, struct dentry *dentry);	/* and frees it */
struct dentry *ns_dentry_at(struct inode *dir, uint64_t cookie);	/* or NULL */
uint32_t ns_slot_after(const struct dir *dir, uint64_t cookie);	/* index of the first slot with a greater cookie */
struct xattr *ns_xattr(struct inode *inode, const char *name, size_t length);
int ns_set_xattr(struct fs *fs, struct inode *inode, const char *name, size_t length, const void *value, size_t size);
void ns_drop_xattr(struct fs *fs, struct inode *inode, struct xattr *xattr);
void ns_stat(struct fs *fs, struct inode *inode, struct stat *st);
int ns_init(struct fs *fs);
void ns_destroy(struct fs *fs);
/* Bytes of the inode's record as it is now; keeps fs->live right. */
void ns_account(struct fs *fs, struct inode *inode);
void ns_set_form(struct fs *fs, struct inode *inode, uint8_t form);	/* to an empty one; frees inline data and ranges */
void ns_dirty(struct fs *fs, struct inode *inode);	/* on the dirty list: its record goes into the open batch */
void ns_clean(struct fs *fs, struct inode *inode);	/* off it */
uint64_t ns_blocks(struct fs *fs, struct inode *inode, uint64_t end);	/* existing blocks below end, holes in the making left out */

/* ---- log.c: batches, group commit */
int log_init(struct fs *fs);
void log_destroy(struct fs *fs);
/* Under fs->lock.  Makes sure that a batch is open with room for bytes more, and returns its number. 0: no memory. */
uint64_t log_begin(struct fs *fs, size_t bytes);
/* The same inside an operation that began already: never closes the batch, so that the operation stays whole. */
uint64_t log_more(struct fs *fs, size_t bytes);
void log_trim(struct fs *fs);		/* closes the open batch if it is long; between operations */
uint8_t *log_room(struct fs *fs, size_t bytes);		/* after log_begin() */
void log_put_dentry(struct fs *fs, const struct dentry *dentry);
void log_put_dentry_gone(struct fs *fs, const struct dentry *dentry, const struct timespec *now);
void log_put_gone(struct fs *fs, uint64_t ino);
void log_put_xattr(struct fs *fs, struct inode *inode, const struct xattr *xattr, const struct timespec *now, bool gone);
void log_mark_dirty(struct fs *fs, struct inode *inode);	/* after log_begin() */
void log_encode_inode(struct fs *fs, struct inode *inode, uint8_t *buf, size_t *size);
/* Not under fs->lock. Waits until batch `number` is durable; drives the commit itself when there are no threads. */
int log_wait(struct fs *fs, uint64_t number);
/* Writes everything that is gathered. The committer's body. */
int log_commit(struct fs *fs);
void log_kick(struct fs *fs);		/* under fs->lock: commit soon */
void *log_thread(void *arg);
int log_alloc_segment(struct fs *fs, uint64_t *number);	/* a fresh log block; not under fs->lock */
int log_push_head(struct fs *fs, uint64_t number);	/* under fs->lock */
/* Under fs->lock: the limits of all numbers, raised so that stride more can be taken; exact: to what was used. */
int marks_put(struct fs *fs, bool exact);

/* After an operation: with -o sync, waits for its batch. -EIO: the filesystem was shut down before that was durable. */
int fs_end(struct fs *fs, uint64_t batch);
uint64_t log_checkpoint_blocks(uint64_t live);	/* segments that a checkpoint of so many bytes takes */
bool log_is_long(struct fs *fs);		/* under fs->lock: a checkpoint is due */
bool log_is_tight(struct fs *fs);		/* no more blocks are free than the log's reserve */
uint64_t log_behind(const struct fs *fs);	/* under fs->lock: closed batches that are not durable */
int log_catch_up(struct fs *fs, uint64_t batches);	/* waits until so many are at most; not under fs->lock */

/* Numbers that are never used twice.  Waits for a commit if it must; not under fs->lock. */
int marks_take(struct fs *fs, enum fmt_mark mark, uint64_t count, uint64_t *first);

/* ---- space.c: packed pages, and blocks beside the reserve; never waits */
int space_init(struct fs *fs);
void space_destroy(struct fs *fs);
uint64_t space_reserve(struct fs *fs);	/* blocks kept for the log */
uint64_t space_available(struct fs *fs);/* blocks that data may still take */
bool space_reserve_blocks(struct fs *fs, uint64_t count);	/* so many are about to be allocated: false, they are not there */
void space_unreserve_blocks(struct fs *fs, uint64_t count);	/* they were */
int space_take_run(struct fs *fs, uint64_t ino, uint32_t pages, uint64_t *addr);	/* in the packed blocks that there are, or -ENOSPC */
int space_add_block(struct fs *fs, uint64_t number, uint64_t ino, uint32_t pages);	/* a new packed block, with a run at its begin */
int space_claim_run(struct fs *fs, uint64_t ino, uint64_t addr, uint32_t pages);	/* mount: -EEXIST: somebody has it */
/* Pages back at once: only for what no durable record names. *empty: the block, if that was its last run: it is the caller's to free; else 0. */
void space_free_run(struct fs *fs, uint64_t addr, uint32_t pages, uint64_t *empty);
/* The emptiest packed block takes no more runs, if the others have room for what is in it; owner: the inode of each page. */
bool space_leave_emptiest(struct fs *fs, uint64_t *block, uint64_t owner[FMT_PAGES_PER_BLOCK]);
void space_stay(struct fs *fs, uint64_t block);

/* ---- evacuate.c: empties the emptiest packed block: 1, or 0 if there is nothing to gain */
int evacuate(struct fs *fs);

/* ---- room.c: storage for those who need it; may wait.  Under no lock but one inode's io */
/* Existing ones among them are skipped. -ENOSPC after all has been tried. */
int room_alloc_blocks(struct fs *fs, const uint64_t *addrs, size_t n);
int room_alloc_run(struct fs *fs, uint64_t ino, uint32_t pages, uint64_t *addr);
/* An operation that adds `bytes` of live metadata: is there room?  May wait for a checkpoint. */
int room_admit(struct fs *fs, size_t bytes, bool shrinks);

/* ---- reclaim.c: drops, and pins */
/*
 * Under fs->lock: memory for so many pieces is there, so that the next ones that are given up under the same hold of the lock
 * cannot fail.  -ENOMEM: nothing has changed.
 */
int drop_reserve(struct fs *fs, uint32_t count);
/*
 * Under fs->lock, after log_begin() and drop_reserve(): give up storage in the open batch.  waiter: writes to it wait until the
 * storage is free.  pages 0: count blocks (existing or not) from addr on.
 */
void drop_add(struct fs *fs, uint64_t addr, uint32_t pages, uint64_t count, struct inode *waiter);
/* The same for blocks punched out of the middle of a file, from file block fblock on. */
void drop_hole(struct fs *fs, uint64_t addr, uint64_t count, struct inode *inode, uint32_t fblock);
/* Nothing is given up, but writes to the inode wait until the open batch is durable. */
void drop_barrier(struct fs *fs, struct inode *inode);
uint32_t drop_pieces(const struct inode *inode);	/* those that drop_all() gives up */
void drop_all(struct fs *fs, struct inode *inode);	/* everything that the inode stores */
int reclaim(struct fs *fs);		/* finishes what is durable */
int drops_wait(struct fs *fs, struct inode *inode);	/* until the inode has none; not under fs->lock */
int drops_wait_all(struct fs *fs);	/* everything dropped so far is free */
/* Inode pins: an inode in use by a call stays in memory. */
struct inode *inode_pin(struct fs *fs, uint64_t ino);	/* takes fs->lock itself; NULL: no such */
void inode_unpin(struct fs *fs, struct inode *inode);
/* Under fs->lock: delete it if nobody holds it. Without memory for that it is done later, by a commit. */
void inode_put(struct fs *fs, struct inode *inode);
void inodes_put_again(struct fs *fs);	/* under fs->lock, between operations: those that could not be deleted */

/* ---- checkpoint.c */
int checkpoint(struct fs *fs);
int checkpoint_from(struct fs *fs, uint64_t s0);	/* the same behind the head segment s0, which was just begun */
/* fsck: everything that lives, as a log that begins here: when it returns 0 it counts, and before nothing of it does. */
int checkpoint_anew(struct fs *fs);

/* ---- background.c */
void *worker_thread(void *arg);
void *keeper_thread(void *arg);		/* keeps the leases */
void *giver_thread(void *arg);		/* gives back what bricks recall */

/* ---- replay.c, apply.c, settle.c: the log, its records, and what they refer to */
int replay(struct fs *fs);
int apply_record(struct fs *fs, const struct fmt_record *record, bool head);	/* -EUCLEAN: it makes no sense; -ENOMEM */
void apply_marks(struct fs *fs, const struct fmt_marks *marks);
int settle(struct fs *fs);
/* ---- lostfound.c: fsck's lost+found, in memory */
int lostfound_add(struct fs *fs, struct inode *inode);	/* a name there, "#" and its number */
bool lostfound_holds(const struct fs *fs, const struct inode *inode);	/* it is the directory itself, or got its name in this run */
int lostfound_blocks(struct fs *fs, const char *name, uint64_t addr, uint64_t count);	/* file blocks from addr on, as a file */
int lostfound_pages(struct fs *fs, const char *name, uint64_t addr, uint32_t pages);	/* pages of a packed block */
/* ---- repair.c */
int copy_out_add(struct fs *fs, struct inode *inode, uint32_t fblock, uint32_t count);
/* ---- compare.c: the namespace against the bricks' list; *leaks: addresses to be freed, malloc'ed */
int compare(struct fs *fs, uint64_t **leaks, size_t *leak_count);
int find_leaks(struct fs *fs, uint64_t **leaks, size_t *leak_count);	/* only that, and nothing is told */
/* ---- stale.c: fsck, behind the comparison: what is known to be older than it was, or to lack names */
void stale(struct fs *fs);
void stale_pages(struct fs *fs, const struct inode *one, const struct inode *two);	/* both claim the same pages */
/* ---- adrift.c: fsck, behind compare(): those of the leaks that may be data are taken out of the list and get inodes */
int adrift(struct fs *fs, uint64_t *leaks, size_t *leak_count);
/* ---- rebuild.c: fsck, when no superblock is whole: fs->super from the log, or an error that says why it cannot be known */
int rebuild_super(struct fs *fs);
void rebuild_note(const struct fs *fs, struct fmt_segment *segment);	/* the filesystem's UUID, and all that it needs */
/* ---- mount.c: an empty struct fs over a volume */
int fs_new(struct fs **fs, const struct fs_options *options);
void fs_delete(struct fs *fs);
/* ---- super.c: the superblocks of all bricks */
/* The bricks that were named and those that they name, all locked, in fs->super the newest, *epoch the highest. */
int super_attach(struct fs *fs, uint64_t *epoch);
int super_write(struct fs *fs);	/* the next copy of fs->super on every brick, durable */
int super_fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1);	/* for vol_set_fence(), arg: the fs */
int super_brick(struct fs *fs, const uint8_t uuid[16]);	/* the number of that brick, or -1 */
bool super_given_up(const struct fs *fs, const uint8_t uuid[16]);	/* fsck was told that it is gone for good */

#endif
