/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shutdown - the filesystem stops while it is mounted, as XFS_IOC_GOINGDOWN asks for.
 *
 * Two steps.  First no new change begins (fs_writable() says -EIO), and what was acknowledged is committed, if that was
 * asked for.  Then log and volume latch: no commit slips through, and when vol_stop() returns nothing that was
 * on its way to a brick is any more.  A change that was under way meanwhile is acknowledged only if its batch is
 * durable: fs_end() looks.  What is in memory then is only there to be freed; the bricks look as after a crash.
 */
#include "fs.h"

#include <errno.h>

/* With no new changes: all that there are, the data that they name, and what they free: a hole is one when its blocks are gone. */
static int flush(struct fs *fs)
{
	int r = log_commit(fs);

	if (!r)
		r = drops_wait_all(fs);
	if (!r)
		r = log_commit(fs);
	return r ? r : vol_persist(fs->vol);
}

int fs_shutdown(struct fs *fs, enum fs_going how)
{
	static const char *const left[] = {
		[FS_GOING_DEFAULT] = "what was acknowledged is durable",
		[FS_GOING_LOGFLUSH] = "what was acknowledged is durable, but for what the kernel had not handed over",
		[FS_GOING_NOLOGFLUSH] = "what was not durable is dropped",
	};
	int running = FS_RUNNING, r = 0;
	bool first;

	if (how > FS_GOING_NOLOGFLUSH)
		return -EINVAL;
	atomic_compare_exchange_strong(&fs->going, &running, FS_STOPPING);
	if (how != FS_GOING_NOLOGFLUSH && !fs->readonly && running != FS_STOPPED)
		r = flush(fs);
	pthread_mutex_lock(&fs->lock);
	first = atomic_exchange(&fs->going, FS_STOPPED) != FS_STOPPED;
	if (!fs->log.error)
		fs->log.error = -EIO;
	if (!atomic_load(&fs->error))
		atomic_store(&fs->error, -EIO);
	/* Whoever waits, for a commit or for storage, waits in vain. */
	pthread_cond_broadcast(&fs->log.done);
	pthread_cond_broadcast(&fs->freed);
	pthread_mutex_unlock(&fs->lock);
	vol_stop(fs->vol, "the filesystem was shut down");
	if (first)
		fs_say(fs, "shutdown", "shut down on request; %s; everything fails with EIO until it is unmounted and mounted again",
		       r ? "what was acknowledged could not all be made durable" : fs->readonly ? "it was read-only" : left[how]);
	return r ? -EIO : 0;
}

int fs_stopped(struct fs *fs)
{
	return atomic_load(&fs->going) == FS_STOPPED ? -EIO : 0;
}

size_t fs_held_files(struct fs *fs, uint64_t after, uint64_t *inos, size_t max)
{
	struct inode *i;
	size_t n = 0;

	pthread_mutex_lock(&fs->lock);
	i = after ? ns_find(fs, after) : &fs->all;
	for (i = i ? i->next : &fs->all; i != &fs->all && n < max; i = i->next)
		if (i->references && S_ISREG(i->mode))
			inos[n++] = i->ino;
	pthread_mutex_unlock(&fs->lock);
	return n;
}
