/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * settle - what the records of the log refer to, after all of them were applied: entries and what they lead to, what the
 * root leads to, link counts, data where there can be none.
 *
 * Whatever is wrong is told, and put right in memory at once: a read-only mount shows what fsck.brickfs would make of it.
 */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void forget_dentry(struct fs *fs, struct inode *dir, uint32_t slot)
{
	struct dentry *d = dir->dir->slot[slot].dentry;

	if (d->inode->name == d)
		d->inode->name = NULL;
	dir->dir->slot[slot].dentry = NULL;
	dir->dir->removed++;
	fs->dentry_count--;
	fs->live -= fmt_dentry_size(d->length);
	free(d);
}

/* So that texts can say where something is: any name will do. */
static void find_names(struct fs *fs)
{
	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next)
		for (uint32_t k = 0; i->dir && k < i->dir->used; k++) {
			struct dentry *d = i->dir->slot[k].dentry;

			if (d && !d->inode->name && d->inode != fs->root)
				d->inode->name = d;
		}
}

static void name_entries(struct fs *fs, struct inode *dir)
{
	for (uint32_t k = 0; k < dir->dir->used; k++) {
		struct dentry *d = dir->dir->slot[k].dentry;

		if (!d)
			continue;
		if (dir->gone || !dir->known || !S_ISDIR(dir->mode)) {
			fs_damage(fs, "entry-no-dir", "entry '%s' (inode %" PRIu64 ") stands in inode %" PRIu64 " (%s), which is no directory",
				  d->name, d->inode->ino, dir->ino, fs_path(fs, dir));
			forget_dentry(fs, dir, k);
		} else if (!d->inode->known) {
			fs_damage(fs, "entry-nowhere", "%s leads to inode %" PRIu64 ", which is not there: what it was is lost",
				  fs_path_of(fs, d), d->inode->ino);
			forget_dentry(fs, dir, k);
		} else if (d->inode == fs->root) {
			fs_damage(fs, "entry-root", "entry '%s' of directory %" PRIu64 " (%s) leads to the root directory",
				  d->name, dir->ino, fs_path(fs, dir));
			forget_dentry(fs, dir, k);
		} else if (ns_lookup(fs, dir, d->name, d->length)) {
			fs_damage(fs, "entry-twice", "directory %" PRIu64 " (%s) has the name '%s' twice; the second one is of inode %" PRIu64,
				  dir->ino, fs_path(fs, dir), d->name, d->inode->ino);
			forget_dentry(fs, dir, k);
		} else {
			ns_name_dentry(fs, d);
			d->inode->references++;		/* counted here, cleared below */
		}
	}
}

/* A directory has one name: a second one is dropped, so that the tree has no circle. */
static int reach(struct fs *fs, struct inode *from)
{
	struct inode **queue = malloc((fs->inode_count + 1) * sizeof(*queue));
	size_t head = 0, tail = 0;

	if (!queue)
		return -ENOMEM;
	from->reached = true;
	queue[tail++] = from;
	while (head < tail) {
		struct inode *dir = queue[head++];

		for (uint32_t k = 0; k < dir->dir->used; k++) {
			struct dentry *d = dir->dir->slot[k].dentry;
			uint64_t cookie = dir->dir->slot[k].cookie;

			if (!d || !S_ISDIR(d->inode->mode))
				continue;
			if (d->inode->reached) {
				fs_damage(fs, "dir-links", "directory %" PRIu64 " (%s) has another name, '%s' in directory %" PRIu64 " (%s)",
					  d->inode->ino, fs_path(fs, d->inode), d->name, dir->ino, fs_path(fs, dir));
				d->inode->references--;
				ns_remove_dentry(fs, d);
				k = ns_slot_after(dir->dir, cookie) - 1;	/* the slots may have moved */
				continue;
			}
			d->inode->reached = true;
			d->inode->name = d;
			d->inode->dir->parent = dir;
			queue[tail++] = d->inode;
		}
		if (fs->options.progress && !(head % 1024))
			fs->options.progress(fs->options.progress_arg, "directories", head, fs->inode_count);
	}
	free(queue);
	return 0;
}

/* ---- what nothing leads to */

static bool has_entries(const struct inode *i)
{
	return i->dir && i->dir->used > i->dir->removed;
}

/* Something with links, or with something in it, and without a name. */
static bool stranded(struct fs *fs, const struct inode *i)
{
	return i != fs->root && i->known && !i->references && (i->nlink || has_entries(i));
}

/* fsck: a name in lost+found, in memory. */
static int rescue(struct fs *fs, struct inode *i)
{
	int r = fs->options.check ? lostfound_add(fs, i) : 0;

	if (r || !fs->options.check)
		return r;
	i->references++;
	return i->dir ? reach(fs, i) : 0;
}

static bool unreached(const struct inode *i)
{
	return i->known && i->dir && S_ISDIR(i->mode) && i->references && !i->reached;
}

/* Of a directory that the root does not lead to: one in the circle that its parents end in (Brent's algorithm). */
static struct inode *in_circle(struct inode *i)
{
	struct inode *slow = i;

	for (uint64_t power = 1, steps = 0;;) {
		if (!i->name)
			return i;
		i = i->name->dir;
		if (i == slow)
			return i;
		if (++steps == power) {
			slow = i;
			power *= 2;
			steps = 0;
		}
	}
}

static int strand(struct fs *fs)
{
	struct inode *i;
	int r = 0;

	for (i = fs->all.next; !r && i != &fs->all; i = i->next)
		if (stranded(fs, i)) {
			fs_damage(fs, "unreachable", "inode %" PRIu64 " (%s of %" PRIu64 " bytes) has link count %u and no name", i->ino,
				  i->dir ? "directory" : S_ISREG(i->mode) ? "file" : "special file", i->size, i->nlink);
			r = rescue(fs, i);
			if (!fs->options.check && i->dir)
				r = reach(fs, i);	/* what is below it is not told for itself */
		}
	for (i = fs->all.next; !r && i != &fs->all; i = i->next)
		while (!r && unreached(i)) {
			struct inode *dir = in_circle(i);

			fs_damage(fs, "dir-loop", "directory %" PRIu64 " (%s) is not reached from the root", dir->ino, fs_path(fs, dir));
			if (dir->name) {
				dir->references--;
				ns_remove_dentry(fs, dir->name);
			}
			r = fs->options.check ? rescue(fs, dir) : reach(fs, dir);
		}
	return r;
}

/* ---- inodes */

/* Only regular files have storage, and a symbolic link its target in its record. */
static void settle_data(struct fs *fs, struct inode *i)
{
	if (!i->known || S_ISREG(i->mode))
		return;
	if (!S_ISLNK(i->mode) && (i->form != FMT_INLINE || i->length))
		fs_damage(fs, "data-odd", "inode %" PRIu64 " (%s) of type %o has data", i->ino, fs_path(fs, i), i->mode & S_IFMT);
	else if (S_ISLNK(i->mode) && (i->form != FMT_INLINE || i->length != i->size || !i->length || memchr(i->data, 0, i->length)))
		fs_damage(fs, "symlink-odd", "symbolic link %" PRIu64 " (%s) has no sound target", i->ino, fs_path(fs, i));
	else
		return;
	ns_set_form(fs, i, FMT_INLINE);
	i->size = 0;
	if (S_ISLNK(i->mode) && fs->options.check)
		i->known = false;	/* its names are told as such that lead nowhere */
}

/* A number that nothing could be counted on from. */
static bool absurd(enum fmt_mark mark, uint64_t number)
{
	return number >= fmt_mark_max(mark) - fmt_mark_max(mark) / 8;
}

/* Numbers are taken only below marks that are durable. */
static void settle_numbers(struct fs *fs, struct inode *i)
{
	bool low = i->ino >= fs->next[FMT_MARK_INO];

	if (i->form == FMT_RUN)
		low |= fmt_number(i->run) >= fs->next[FMT_MARK_PACKED];
	for (uint32_t k = 0; i->form == FMT_RANGES && k < i->length; k++)
		low |= fmt_number(i->ranges[k].base) + i->ranges[k].count > fs->next[FMT_MARK_FILE];
	if (low)
		fs_damage(fs, "marks-low", "inode %" PRIu64 " (%s) has a number, pages or blocks from beyond the log's marks",
			  i->ino, fs_path(fs, i));
}

/* fsck: the numbers of such an inode that leave none behind them are given up for others. */
static int renumber(struct fs *fs, struct inode *i)
{
	int r = 0;

	if (absurd(FMT_MARK_INO, i->ino))
		ns_renumber(fs, i, fs->next[FMT_MARK_INO]++);
	if (i->form == FMT_RUN && absurd(FMT_MARK_PACKED, fmt_number(i->run)))
		r = copy_out_add(fs, i, 0, 0);
	for (uint32_t k = 0; i->form == FMT_RANGES && !r && k < i->length; k++)
		if (absurd(FMT_MARK_FILE, fmt_number(i->ranges[k].base) + i->ranges[k].count))
			r = copy_out_add(fs, i, i->ranges[k].fblock, i->ranges[k].count);
	return r;
}

static void see_number(uint64_t highest[FMT_MARKS_COUNT], enum fmt_mark mark, uint64_t number)
{
	if (highest[mark] < number && !absurd(mark, number))
		highest[mark] = number;
}

/*
 * fsck: marks may have been lost. The next numbers are beyond all that are in sight, and where there is damage, so far beyond that what
 * is not in sight does not matter.
 */
static void raise_numbers(struct fs *fs)
{
	static const uint64_t margin[FMT_MARKS_COUNT] = { [FMT_MARK_INO] = 1 << 20, [FMT_MARK_PACKED] = 1 << 16, [FMT_MARK_FILE] = 1 << 24 };
	uint64_t highest[FMT_MARKS_COUNT] = { 0 }, addr;

	for (struct inode *i = fs->all.next; i != &fs->all; i = i->next) {
		see_number(highest, FMT_MARK_INO, i->ino);
		if (i->form == FMT_RUN)
			see_number(highest, FMT_MARK_PACKED, fmt_number(i->run));
		for (uint32_t k = 0; i->form == FMT_RANGES && k < i->length; k++)
			see_number(highest, FMT_MARK_FILE, fmt_number(i->ranges[k].base) + i->ranges[k].count);
	}
	for (uint64_t from = fmt_addr(FMT_PACKED, 0); vol_next(fs->vol, from, &addr) && fmt_kind(addr) <= FMT_FILE; from = addr + FMT_BLOCK)
		see_number(highest, fmt_kind(addr) == FMT_PACKED ? FMT_MARK_PACKED : FMT_MARK_FILE, fmt_number(addr));
	for (enum fmt_mark m = 0; m < FMT_MARKS_COUNT; m++) {
		if (m == FMT_MARK_LOG)
			continue;
		if (fs->next[m] <= highest[m] || absurd(m, fs->next[m]))
			fs->next[m] = highest[m] + 1;
		if (fs->damaged)
			fs->next[m] += margin[m];
	}
}

static void settle_inode(struct fs *fs, struct inode *i)
{
	uint64_t links = i->references, end = i->size > i->alloc_end ? i->size : i->alloc_end;

	i->references = 0;
	i->prepared = i->size;
	if (i->form == FMT_RUN)
		i->dirty_end = (uint64_t)i->length << FMT_PAGE_SHIFT;
	else if (i->form == FMT_RANGES)
		i->dirty_end = (end + FMT_BLOCK - 1) & ~(FMT_BLOCK - 1);
	if (i->dir && !S_ISDIR(i->mode)) {
		fs_damage(fs, "entry-no-dir", "inode %" PRIu64 " (%s) had entries and is no directory", i->ino, fs_path(fs, i));
		free(i->dir->slot);
		free(i->dir);
		i->dir = NULL;
	}
	if (i == fs->root)
		links = 1;
	if (i->dir && links > 1)
		fs_damage(fs, "dir-links", "directory %" PRIu64 " (%s) has %" PRIu64 " names", i->ino, fs_path(fs, i), links);
	/* Without a name: an orphan, or told as stranded. */
	if (links == i->nlink || !links)
		return;
	/* A name that it just got in lost+found is not told again. */
	if (!lostfound_holds(fs, i))
		fs_damage(fs, "link-count", "inode %" PRIu64 " (%s) has link count %u and %" PRIu64 " names",
			  i->ino, fs_path(fs, i), i->nlink, links);
	i->nlink = (uint32_t)links;
}

/* fsck: what the root was is lost, but for the entries in it. */
static int make_root(struct fs *fs)
{
	struct inode *root = ns_find(fs, FS_ROOT_INO);

	if (!root)
		root = ns_new_inode(fs, FS_ROOT_INO);
	if (!root || ns_make_dir(root))
		return -ENOMEM;
	ns_set_form(fs, root, FMT_INLINE);
	root->known = true;
	root->gone = false;
	root->mode = S_IFDIR | 0755;
	root->nlink = 1;
	root->size = root->alloc_end = 0;
	fs_now(&root->ctime);
	root->mtime = root->atime = root->ctime;
	fs->root = root;
	return 0;
}

int settle(struct fs *fs)
{
	struct inode *i, *next;
	int r = 0;

	fs->root = ns_find(fs, FS_ROOT_INO);
	if (!fs->root || !fs->root->known || !S_ISDIR(fs->root->mode)) {
		fs_damage(fs, "no-root", "the root directory is lost");
		if (!fs->options.check)
			return fs_set_error(-EUCLEAN, "the root directory is lost; fsck.brickfs -y keeps what can still be read");
		r = make_root(fs);
		if (r)
			return r;
	}
	fs->root->dir->parent = fs->root;
	find_names(fs);
	for (i = fs->all.next; i != &fs->all; i = i->next)
		settle_data(fs, i);
	for (i = fs->all.next; i != &fs->all; i = i->next)
		if (i->dir)
			name_entries(fs, i);
	find_names(fs);		/* of those that lost one, another */
	for (i = fs->all.next; i != &fs->all; i = i->next)
		if (i->known)
			settle_numbers(fs, i);
	if (fs->options.check) {
		raise_numbers(fs);
		for (i = fs->all.next; !r && i != &fs->all; i = i->next)
			if (i->known)
				r = renumber(fs, i);
	}
	if (!r)
		r = reach(fs, fs->root);
	if (!r)
		r = strand(fs);
	for (i = fs->all.next; !r && i != &fs->all; i = next) {
		next = i->next;
		if (i->known && i->unproven)
			fs_damage(fs, "unproven", "inode %" PRIu64 " (%s): its record, a name or an attribute of it stands in a damaged part of the log, "
				  "and may be wrong", i->ino, fs_path(fs, i));
		if (i->known) {
			settle_inode(fs, i);
			continue;
		}
		for (struct xattr *x = i->xattrs; x; x = x->next)
			fs_damage(fs, "xattr-nowhere", "inode %" PRIu64 " has the extended attribute '%s' and is not there", i->ino, x->name);
		ns_free_inode(fs, i);
	}
	fs->root->dir->parent = fs->root;
	return r;
}
