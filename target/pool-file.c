/* SPDX-License-Identifier: BSD-3-Clause */
/* pool-file - the pool's file: lock, mapping, header, and the slot words in it. */
#include "pool-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "report.h"
#include "sigbus.h"

/* libpmem2's errors are negative errnos, or numbers of its own from -100000 down (pmem2_errormsg(3)). */
static int pmem2_errno(int error)
{
	return error <= PMEM2_E_UNKNOWN ? -EINVAL : error;
}

/* The pid of the process that has the file locked, from /proc/locks; 0: not to be found. */
static long lock_holder(int fd)
{
	char line[256];
	struct stat st;
	long found = 0;
	FILE *locks;

	if (fstat(fd, &st) || !(locks = fopen("/proc/locks", "re")))
		return 0;
	while (!found && fgets(line, sizeof(line), locks)) {
		unsigned long long inode;
		unsigned major_number, minor_number;
		long pid;

		/* proc_locks(5): "1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"; -> lines are waiters. */
		if (sscanf(line, "%*d: FLOCK %*s %*s %ld %x:%x:%llu", &pid, &major_number, &minor_number, &inode) == 4 &&
		    inode == st.st_ino && major_number == major(st.st_dev) && minor_number == minor(st.st_dev))
			found = pid;
	}
	fclose(locks);
	return found;
}

static int lock_file(const char *path, int fd)
{
	long holder;
	int rc;

	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	rc = -errno;
	if (rc != -EWOULDBLOCK) {
		report_error("%s: cannot be locked: %s", path, strerror(-rc));
		return rc;
	}
	holder = lock_holder(fd);
	if (holder > 0)
		report_error("%s: busy: process %ld serves or changes this pool; end it first", path, holder);
	else
		report_error("%s: busy: another process serves or changes this pool; end it first", path);
	return -EBUSY;
}

/* Of a pool whose file is open; that it is fsdax shows when it is mapped. */
static enum pool_kind kind_of(const struct pool *pool)
{
	struct statfs fs;

	if (pool->devdax)
		return POOL_ON_DEVDAX;
	if (fstatfs(pool->fd, &fs))
		return POOL_ON_DISK;
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		return POOL_ON_TMPFS;
	return fs.f_type == HUGETLBFS_MAGIC ? POOL_ON_HUGETLBFS : POOL_ON_DISK;
}

void pool_file_warn(const struct pool *pool)
{
	if (pool->kind != POOL_ON_TMPFS && pool->kind != POOL_ON_HUGETLBFS)
		return;
	report_warning("%s: lies in memory (%s): all of it is gone when the host's power goes or it is booted; "
		       "brickd --create SIZE --volatile declares that, and initiators are told",
		       pool->path, pool->kind == POOL_ON_TMPFS ? "tmpfs" : "hugetlbfs");
}

int pool_file_open(struct pool **result, const char *path, int flags)
{
	struct stat st, again;
	struct pool *pool;
	int rc;

	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->lock_fd = pool->fd = -1;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_mutex_init(&pool->told, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->ready, NULL);
	pool->path = strdup(path);
	if (!pool->path) {
		rc = -ENOMEM;
		goto fail;
	}
	pool->lock_fd = open(path, flags | O_RDWR | O_CLOEXEC, 0600);
	if (pool->lock_fd < 0) {
		rc = -errno;
		if (rc == -EEXIST)
			report_error("%s: exists already; a pool is only made where nothing is", path);
		else if (rc == -EACCES || rc == -EROFS || rc == -EPERM)
			report_error("%s: cannot be opened for reading and writing: %s", path, strerror(-rc));
		else if (rc == -ENOENT && !(flags & O_CREAT))
			report_error("%s: there is no such pool; brickd --pool FILE --create SIZE makes one", path);
		else
			report_error("%s: cannot be opened: %s", path, strerror(-rc));
		goto fail;
	}
	rc = lock_file(path, pool->lock_fd);
	if (rc)
		goto fail;
	/*
	 * A second open file, because locks go with the open file: a client of
	 * the local transport that outlives us must not hold the pool's lock.
	 */
	pool->fd = open(path, O_RDWR | O_CLOEXEC);
	if (pool->fd < 0 || fstat(pool->lock_fd, &st) || fstat(pool->fd, &again)) {
		rc = -errno;
		report_error("%s: cannot be opened: %s", path, strerror(-rc));
		goto fail;
	}
	if (st.st_dev != again.st_dev || st.st_ino != again.st_ino) {
		report_error("%s: was replaced while it was being opened; try again", path);
		rc = -EAGAIN;
		goto fail;
	}
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
		report_error("%s: neither a regular file nor a devdax device", path);
		rc = -EINVAL;
		goto fail;
	}
	pool->devdax = S_ISCHR(st.st_mode);
	pool->kind = kind_of(pool);
	pool->file_size = (uint64_t)st.st_size;
	rc = pmem2_source_from_fd(&pool->source, pool->fd);
	if (!rc && pool->devdax) {
		size_t size;

		rc = pmem2_source_size(pool->source, &size);
		pool->file_size = rc ? 0 : size;
	}
	if (rc) {
		report_error("%s: cannot serve as a pool: %s", path,
			     *pmem2_errormsg() ? pmem2_errormsg() : "neither a regular file nor a devdax device");
		rc = pmem2_errno(rc);
		goto fail;
	}
	*result = pool;
	return 0;
fail:
	pool_file_close(pool);
	return rc < 0 ? rc : -EIO;
}

static void unmap(struct pool *pool)
{
	if (!pool->map)
		return;
	sigbus_unwatch(pool->base);
	pmem2_map_delete(&pool->map);
	pool->map = NULL;
	pool->base = NULL;
}

static void on_sigbus(void *owner)
{
	pool_file_fail(owner, "SIGBUS in the mapping (truncated behind our back, I/O error, or no space left)", EIO);
}

int pool_file_map(struct pool *pool, uint64_t size)
{
	struct pmem2_config *config = NULL;
	int rc;

	unmap(pool);
	/* A device is mapped whole: its alignment may be as large as 1 GiB. */
	if (pool->devdax)
		size = pool->file_size;
	rc = pmem2_config_new(&config);
	if (!rc)
		rc = pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_PAGE);
	if (!rc)
		rc = pmem2_config_set_length(config, size);
	if (!rc)
		rc = pmem2_map_new(&pool->map, config, pool->source);
	if (rc) {
		report_error("%s: cannot be mapped: %s", pool->path, pmem2_errormsg());
		rc = pmem2_errno(rc);
		pool->map = NULL;
		goto out;
	}
	pool->base = pmem2_map_get_address(pool->map);
	pool->map_size = pmem2_map_get_size(pool->map);
	pool->by_page = pmem2_map_get_store_granularity(pool->map) == PMEM2_GRANULARITY_PAGE;
	if (!pool->by_page && pool->kind == POOL_ON_DISK)
		pool->kind = POOL_ON_FSDAX;
	pool->persist = pmem2_get_persist_fn(pool->map);
	pool->memset = pmem2_get_memset_fn(pool->map);
	rc = sigbus_watch(pool->base, pool->map_size, pool->path, on_sigbus, pool);
	if (rc)
		report_error("%s: too many pools are open in this process", pool->path);
out:
	pmem2_config_delete(&config);
	return rc;
}

void pool_file_close(struct pool *pool)
{
	if (!pool)
		return;
	unmap(pool);
	pmem2_source_delete(&pool->source);
	if (pool->fd >= 0)
		close(pool->fd);
	if (pool->lock_fd >= 0)
		close(pool->lock_fd);
	pthread_cond_destroy(&pool->ready);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->told);
	pthread_mutex_destroy(&pool->lock);
	free(pool->block);
	free(pool->state);
	free(pool->zero);
	free(pool->dirty);
	free(pool->path);
	free(pool);
}

int pool_store_header(struct pool *pool, unsigned copy)
{
	uint8_t bytes[POOL_HEADER_SIZE];

	pool_header_encode(&pool->header, bytes);
	return pool_copy(pool->base + (uint64_t)copy * POOL_HEADER_DISTANCE, bytes, sizeof(bytes));
}

int pool_file_write_header(struct pool *pool)
{
	int rc;

	pool->header.sequence++;
	for (unsigned i = 0; i < 2; i++) {
		unsigned copy = pool->copy ^ i;

		rc = pool_store_header(pool, copy);
		if (!rc)
			rc = pool_file_persist(pool, (uint64_t)copy * POOL_HEADER_DISTANCE, POOL_HEADER_SIZE);
		if (rc)
			return rc;
	}
	return 0;
}

void pool_file_set_chunks(struct pool *pool, uint64_t end, uint32_t slots)
{
	uint32_t first = 0;

	for (uint32_t i = 0; i < pool->header.chunk_count; i++) {
		pool->first[i] = first;
		first += pool->header.chunk[i].slots;
	}
	pool->end = end;
	pool->slots = slots;
}

int pool_file_read_header(struct pool *pool)
{
	enum pool_header_fault fault[2];
	struct pool_header header[2];
	uint8_t bytes[POOL_HEADER_SIZE];
	uint32_t version[2] = { 0, 0 }, slots;
	const char *impossible;
	unsigned newer, good;
	uint64_t end;
	int rc;

	if (pool->file_size < POOL_FIRST_CHUNK) {
		report_error("%s: not a brick pool: only %llu bytes", pool->path, (unsigned long long)pool->file_size);
		return -EINVAL;
	}
	rc = pool_file_map(pool, POOL_FIRST_CHUNK);
	if (rc)
		return rc;
	for (unsigned i = 0; i < 2; i++) {
		rc = pool_copy(bytes, pool->base + (uint64_t)i * POOL_HEADER_DISTANCE, sizeof(bytes));
		if (rc) {
			report_error("%s: the header cannot be read", pool->path);
			return rc;
		}
		fault[i] = pool_header_decode(bytes, &header[i], &version[i]);
	}
	if (fault[0] == POOL_HEADER_FOREIGN && fault[1] == POOL_HEADER_FOREIGN) {
		report_error("%s: not a brick pool (or its making was not finished)", pool->path);
		return -EINVAL;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (fault[i] == POOL_HEADER_VERSION) {
			report_error("%s: a brick pool of version %u; this brickd knows version %u", pool->path, version[i],
				     POOL_VERSION);
			return -ENOTSUP;
		}
	}
	if (fault[0] != POOL_HEADER_GOOD && fault[1] != POOL_HEADER_GOOD) {
		report_error("%s: damaged: bad checksum in both copies of the header", pool->path);
		return -EUCLEAN;
	}
	good = (fault[0] == POOL_HEADER_GOOD) + (fault[1] == POOL_HEADER_GOOD);
	if (good == 2)
		newer = header[1].sequence > header[0].sequence;
	else
		newer = fault[1] == POOL_HEADER_GOOD;
	if (good == 1)
		report_warning("%s: copy %u of the header is damaged (an update that a crash cut short?); using copy %u",
			       pool->path, newer ^ 1, newer);
	if (good == 2 && memcmp(header[0].uuid, header[1].uuid, sizeof(header[0].uuid))) {
		report_error("%s: damaged: the two copies of the header are of different pools", pool->path);
		return -EUCLEAN;
	}
	pool->header = header[newer];
	pool->copy = newer ^ 1;

	if ((pool->header.incompat & ~POOL_INCOMPAT_KNOWN) || (pool->header.ro_compat & ~POOL_RO_COMPAT_KNOWN)) {
		report_error("%s: uses features that this brickd does not know (incompat %#llx, ro_compat %#llx)", pool->path,
			     (unsigned long long)(pool->header.incompat & ~POOL_INCOMPAT_KNOWN),
			     (unsigned long long)(pool->header.ro_compat & ~POOL_RO_COMPAT_KNOWN));
		return -ENOTSUP;
	}
	impossible = pool_header_check(&pool->header, &end, &slots);
	if (impossible) {
		report_error("%s: damaged: the chunk table is impossible: %s", pool->path, impossible);
		return -EUCLEAN;
	}
	if (pool->file_size < end) {
		report_error("%s: truncated: %llu bytes, but its chunks need %llu", pool->path,
			     (unsigned long long)pool->file_size, (unsigned long long)end);
		return -EUCLEAN;
	}
	pool_file_set_chunks(pool, end, slots);
	return 0;
}

/* The chunk that a slot lies in. */
static uint32_t chunk_of(const struct pool *pool, uint32_t slot)
{
	uint32_t i = pool->header.chunk_count - 1;

	while (slot < pool->first[i])
		i--;
	return i;
}

uint64_t pool_word_offset(const struct pool *pool, uint32_t slot)
{
	uint32_t i = chunk_of(pool, slot);

	return pool->header.chunk[i].offset + (uint64_t)(slot - pool->first[i]) * 8;
}

uint64_t pool_offset(const struct pool *pool, uint32_t slot)
{
	uint32_t i = chunk_of(pool, slot);
	const struct pool_chunk *chunk = &pool->header.chunk[i];

	return chunk->offset + pool_table_size(chunk->slots) + (uint64_t)(slot - pool->first[i]) * POOL_SLOT_SIZE;
}

struct words_call {
	struct pool *pool;
	const uint32_t *slots;
	const uint64_t *blocks;
	size_t n;
	enum pool_state state;
};

static void words_fn(void *arg)
{
	struct words_call *call = arg;
	struct pool *pool = call->pool;

	for (size_t i = 0; i < call->n; i++) {
		uint32_t slot = call->slots[i];
		uint64_t word = pool_word(pool->header.uuid, slot, call->state, call->blocks ? call->blocks[i] : 0);
		uint64_t *at = (uint64_t *)(void *)(pool->base + pool_word_offset(pool, slot));

		__atomic_store_n(at, htole64(word), __ATOMIC_RELEASE);
	}
}

int pool_write_words(struct pool *pool, const uint32_t *slots, const uint64_t *blocks, size_t n, enum pool_state state)
{
	struct words_call call = { pool, slots, blocks, n, state };
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int rc;

	if (atomic_load(&pool->failed))
		return -EIO;
	rc = sigbus_try(words_fn, &call);
	if (rc)
		return rc;
	for (size_t i = 0; i < n;) {
		uint64_t low = pool_word_offset(pool, slots[i]), high = low + 8;

		/* Words that share pages with the run go to the device with it. */
		for (i++; i < n; i++) {
			uint64_t at = pool_word_offset(pool, slots[i]);

			if (at / page + 1 < low / page || at / page > high / page + 1)
				break;
			low = at < low ? at : low;
			high = at + 8 > high ? at + 8 : high;
		}
		rc = pool_file_persist(pool, low, high - low);
		if (rc)
			return rc;
	}
	return 0;
}
