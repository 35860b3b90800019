/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reclaim - storage that was given up: it is freed when the batch that drops it is
 * durable (order 2 of brickfs-format(5)); and the pins of inodes, the last of which deletes.
 */
#include "fs.h"
#include "mutate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int drop_reserve(struct fs *fs, uint32_t count)
{
	while (fs->spare_count < count) {
		struct drop *d = malloc(sizeof(*d));

		if (!d)
			return -ENOMEM;
		d->next = fs->spare;
		fs->spare = d;
		fs->spare_count++;
	}
	return 0;
}

static struct drop *enqueue(struct fs *fs, uint64_t addr, uint32_t pages, uint64_t count, struct inode *waiter)
{
	struct drop *d = fs->spare;

	if (!d)
		abort();	/* drop_reserve() was to be called */
	fs->spare = d->next;
	fs->spare_count--;
	memset(d, 0, sizeof(*d));
	d->addr = addr;
	d->pages = pages;
	d->count = count;
	d->batch = fs->log.open->number;
	d->inode = waiter;
	if (waiter) {
		waiter->drops++;
		waiter->pins++;
	}
	*fs->drops_tail = d;
	fs->drops_tail = &d->next;
	return d;
}

void drop_add(struct fs *fs, uint64_t addr, uint32_t pages, uint64_t count, struct inode *waiter)
{
	enqueue(fs, addr, pages, count, waiter);
}

void drop_barrier(struct fs *fs, struct inode *inode)
{
	if (!MUTATED(SHRINK_UNHELD))
		drop_add(fs, 0, 0, 0, inode);
}

void drop_hole(struct fs *fs, uint64_t addr, uint64_t count, struct inode *inode, uint32_t fblock)
{
	struct drop *d = enqueue(fs, addr, 0, count, inode);

	d->is_hole = true;
	d->fblock = fblock;
	d->hole_next = inode->holes;
	inode->holes = d;
}

uint32_t drop_pieces(const struct inode *i)
{
	return i->form == FMT_RUN ? 1 : i->form == FMT_RANGES ? i->length : 0;
}

void drop_all(struct fs *fs, struct inode *i)
{
	if (i->form == FMT_RUN)
		drop_add(fs, i->run, i->length, 0, NULL);
	for (uint32_t k = 0; i->form == FMT_RANGES && k < i->length; k++)
		drop_add(fs, i->ranges[k].base, 0, i->ranges[k].count, NULL);
}

struct release { struct fs *fs; uint64_t addr[512]; size_t n; int error; };

static void release_flush(struct release *rel)
{
	int r = rel->n ? vol_release(rel->fs->vol, rel->addr, rel->n) : 0;

	if (r && !rel->error)
		rel->error = r;
	rel->n = 0;
}

static void release_add(struct release *rel, uint64_t addr)
{
	if (rel->n == sizeof(rel->addr) / sizeof(rel->addr[0]))
		release_flush(rel);
	rel->addr[rel->n++] = addr;
}

int reclaim(struct fs *fs)
{
	struct release rel = { .fs = fs };
	struct drop *list, **end, *d, *next;

	pthread_mutex_lock(&fs->lock);
	while (fs->reclaiming)
		pthread_cond_wait(&fs->freed, &fs->lock);
	for (end = &fs->drops; *end && ((*end)->batch <= fs->log.durable || MUTATED(RELEASE_EARLY)); end = &(*end)->next)
		;
	if (end == &fs->drops) {
		pthread_mutex_unlock(&fs->lock);
		return 0;
	}
	list = fs->drops;
	fs->drops = *end;
	*end = NULL;
	if (!fs->drops)
		fs->drops_tail = &fs->drops;
	fs->reclaiming = true;
	pthread_mutex_unlock(&fs->lock);

	for (d = list; d; d = d->next) {
		uint64_t addr;

		if (d->pages) {
			space_free_run(fs, d->addr, d->pages, &addr);
			if (addr)
				release_add(&rel, addr);
			continue;
		}
		for (uint64_t from = d->addr; d->count && vol_next(fs->vol, from, &addr) &&
		     addr < d->addr + (d->count << FMT_BLOCK_SHIFT); from = addr + FMT_BLOCK)
			release_add(&rel, addr);
	}
	release_flush(&rel);

	pthread_mutex_lock(&fs->lock);
	if (rel.error)
		fs_fail(fs, rel.error, "freeing blocks failed");
	for (d = list; d; d = next) {
		next = d->next;
		if (d->inode) {
			d->inode->drops--;
			if (d->is_hole) {
				struct drop **p = &d->inode->holes;

				while (*p != d)
					p = &(*p)->hole_next;
				*p = d->hole_next;
			}
			d->inode->pins--;
			inode_put(fs, d->inode);
			log_trim(fs);	/* each deletion is an operation: a batch must fit its segment */
		}
		free(d);
	}
	fs->reclaiming = false;
	pthread_cond_broadcast(&fs->freed);
	pthread_mutex_unlock(&fs->lock);
	return rel.error;
}

static bool drops_of(struct fs *fs, struct inode *inode)
{
	return inode ? inode->drops : fs->drops || fs->reclaiming;
}

static int wait_drops(struct fs *fs, struct inode *inode)
{
	int r = 0;

	pthread_mutex_lock(&fs->lock);
	while (drops_of(fs, inode) && !(r = atomic_load(&fs->error))) {
		if (fs->threads) {
			log_kick(fs);
			pthread_cond_wait(&fs->freed, &fs->lock);
			continue;
		}
		pthread_mutex_unlock(&fs->lock);
		r = log_commit(fs);
		if (!r)
			r = reclaim(fs);
		pthread_mutex_lock(&fs->lock);
		if (r)
			break;
	}
	pthread_mutex_unlock(&fs->lock);
	return r ? -EIO : 0;
}

int drops_wait(struct fs *fs, struct inode *inode)
{
	return wait_drops(fs, inode);
}

int drops_wait_all(struct fs *fs)
{
	return wait_drops(fs, NULL);
}

/* ---- pins */

struct inode *inode_pin(struct fs *fs, uint64_t ino)
{
	struct inode *i;

	pthread_mutex_lock(&fs->lock);
	i = ns_find(fs, ino);
	if (i && i->gone)
		i = NULL;
	if (i)
		i->pins++;
	pthread_mutex_unlock(&fs->lock);
	return i;
}

void inode_unpin(struct fs *fs, struct inode *i)
{
	pthread_mutex_lock(&fs->lock);
	i->pins--;
	inode_put(fs, i);
	log_trim(fs);
	pthread_mutex_unlock(&fs->lock);
	if (MUTATED(RELEASE_EARLY))
		reclaim(fs);
}

void inode_put(struct fs *fs, struct inode *i)
{
	if (i->nlink || i->opens || i->references || i->pins || i->gone)
		return;
	/* Read-only: the record with link count 0 stays, the next mount deletes it. */
	if (fs_writable(fs))
		return;
	if (drop_reserve(fs, drop_pieces(i)) || !log_more(fs, FMT_GONE_SIZE)) {
		fs->put_again = true;
		return;
	}
	drop_all(fs, i);
	i->gone = true;
	log_put_gone(fs, i->ino);
	ns_free_inode(fs, i);
}

void inodes_put_again(struct fs *fs)
{
	struct inode *i, *next;

	if (!fs->put_again)
		return;
	fs->put_again = false;
	for (i = fs->all.next; i != &fs->all; i = next) {
		next = i->next;
		inode_put(fs, i);
		log_trim(fs);
	}
}
