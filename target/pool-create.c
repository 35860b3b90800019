/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool-create - makes a pool, and makes it larger.
 *
 * Whatever a crash leaves is no pool, or the old one: the chunk is written and
 * durable before a header names it.
 */
#include "pool-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "report.h"

#define WORDS_AT_ONCE 65536u

static int slots_for(const char *path, uint64_t size, uint32_t *slots)
{
	uint64_t n = size / POOL_SLOT_SIZE + (size % POOL_SLOT_SIZE != 0);

	if (!n) {
		report_error("%s: a pool of 0 bytes holds nothing; give a size", path);
		return -EINVAL;
	}
	if (n > POOL_SLOTS_MAX) {
		report_error("%s: %llu bytes are more than a pool can have (%llu)", path, (unsigned long long)size,
			     (unsigned long long)(POOL_SLOTS_MAX * POOL_SLOT_SIZE));
		return -EFBIG;
	}
	*slots = (uint32_t)n;
	return 0;
}

/* Gives the file the bytes [from, to), which read as zeroes. */
static int preallocate(struct pool *pool, uint64_t from, uint64_t to)
{
	struct statvfs fs;
	int rc;

	if (pool->devdax) {
		if (to <= pool->file_size)
			return 0;
		report_error("%s: the device has %llu bytes; this pool needs %llu", pool->path,
			     (unsigned long long)pool->file_size, (unsigned long long)to);
		return -ENOSPC;
	}
	/* What cannot fit is not even tried: the attempt would fill the host's disk before it fails. */
	if (!fstatvfs(pool->fd, &fs) && (to - from) / fs.f_frsize > fs.f_bfree)
		rc = ENOSPC;
	else
		do
			rc = posix_fallocate(pool->fd, (off_t)from, (off_t)(to - from));
		while (rc == EINTR);
	if (!rc) {
		pool->file_size = to;
		return 0;
	}
	if (rc == ENOSPC && !fstatvfs(pool->fd, &fs))
		report_error("%s: no space: %llu bytes are needed, %llu are available on its filesystem", pool->path,
			     (unsigned long long)(to - from), (unsigned long long)fs.f_bavail * fs.f_frsize);
	else
		report_error("%s: %llu bytes cannot be allocated: %s", pool->path, (unsigned long long)(to - from),
			     strerror(rc));
	return -rc;
}

/*
 * Writes the slot words of the last chunk, and makes all of the chunk durable.
 * In a file the slots are zeroes by preallocate(); a device has whatever was on
 * it, so there every slot starts dirty, and is zeroed before its first use.
 */
static int write_chunk(struct pool *pool, uint32_t first, uint32_t count)
{
	enum pool_state state = pool->devdax ? POOL_FREE_DIRTY : POOL_FREE_ZERO;
	uint32_t *slots;
	int rc = 0;

	slots = malloc(WORDS_AT_ONCE * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t at = 0; at < count && !rc;) {
		uint32_t n = count - at < WORDS_AT_ONCE ? count - at : WORDS_AT_ONCE;

		for (uint32_t i = 0; i < n; i++)
			slots[i] = first + at + i;
		rc = pool_write_words(pool, slots, NULL, n, state);
		at += n;
	}
	free(slots);
	/* The file's size and extents. */
	if (!rc && !pool->devdax && fsync(pool->fd)) {
		rc = -errno;
		report_error("%s: cannot be made durable: %s", pool->path, strerror(-rc));
	}
	return rc;
}

static int sync_parent(const char *path)
{
	char *copy = strdup(path);
	int fd, rc = 0;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(copy);
	if (rc)
		report_error("%s: its folder cannot be made durable: %s", path, strerror(-rc));
	return rc;
}

/* A device that holds a pool already is not made into another one. */
static int check_no_pool(struct pool *pool)
{
	uint8_t bytes[POOL_HEADER_SIZE];
	struct pool_header header;
	uint32_t version;
	int rc;

	for (unsigned i = 0; i < 2; i++) {
		rc = pool_copy(bytes, pool->base + (uint64_t)i * POOL_HEADER_DISTANCE, sizeof(bytes));
		if (rc)
			return rc;
		if (pool_header_decode(bytes, &header, &version) != POOL_HEADER_FOREIGN) {
			report_error("%s: there is a pool on this device already; wipe its first 2 MiB to make another", pool->path);
			return -EEXIST;
		}
	}
	return 0;
}

static int create(const char *path, uint64_t size, bool is_volatile)
{
	struct pool *pool = NULL;
	struct stat st;
	bool made = false;
	uint32_t slots;
	uint64_t end;
	int rc, fd;

	rc = slots_for(path, size, &slots);
	if (rc)
		return rc;
	if (stat(path, &st) || !S_ISCHR(st.st_mode)) {
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0) {
			rc = -errno;
			report_error("%s: cannot be made: %s", path, strerror(-rc));
			return rc;
		}
		close(fd);
		made = true;
	}
	rc = pool_file_open(&pool, path, 0);
	if (rc)
		goto out;

	end = POOL_FIRST_CHUNK + pool_table_size(slots) + (uint64_t)slots * POOL_SLOT_SIZE;
	rc = preallocate(pool, 0, end);
	if (rc)
		goto out;
	rc = pool_file_map(pool, end);
	if (rc)
		goto out;
	if (pool->devdax) {
		rc = check_no_pool(pool);
		if (rc)
			goto out;
	}
	if (!is_volatile)
		pool_file_warn(pool);
	pool->header = (struct pool_header){
		.ro_compat = is_volatile ? POOL_VOLATILE : 0,
		.instance = 0,
		.loss_epoch = 1,
		.flags = POOL_CLEAN,
		.chunk_count = 1,
		.chunk[0] = { .offset = POOL_FIRST_CHUNK, .slots = slots },
	};
	if (getrandom(pool->header.uuid, sizeof(pool->header.uuid), 0) != sizeof(pool->header.uuid)) {
		rc = -EIO;
		report_error("%s: no random bytes for a UUID", path);
		goto out;
	}
	/* RFC 4122, 4.4: version 4, variant 1. */
	pool->header.uuid[6] = (pool->header.uuid[6] & 0x0f) | 0x40;
	pool->header.uuid[8] = (pool->header.uuid[8] & 0x3f) | 0x80;
	pool_file_set_chunks(pool, end, slots);
	rc = write_chunk(pool, 0, slots);
	if (!rc)
		rc = pool_file_write_header(pool);
	if (!rc && made)
		rc = sync_parent(path);
out:
	if (rc && made && unlink(path))
		report_error("%s: the unfinished pool cannot be removed: %s", path, strerror(errno));
	pool_file_close(pool);
	return rc;
}

int pool_create(const char *path, uint64_t size)
{
	return create(path, size, false);
}

int pool_create_volatile(const char *path, uint64_t size)
{
	return create(path, size, true);
}

int pool_grow(const char *path, uint64_t size)
{
	struct pool_header *header;
	struct pool *pool = NULL;
	uint32_t slots, more, old;
	uint64_t old_end, end;
	bool extended = false;
	int rc;

	rc = slots_for(path, size, &slots);
	if (rc)
		return rc;
	rc = pool_file_open(&pool, path, 0);
	if (rc)
		return rc;
	rc = pool_file_read_header(pool);
	if (rc)
		goto out;
	header = &pool->header;
	old = pool->slots;
	old_end = pool->end;
	if (slots == old) {
		report_notice("%s: has that size already", path);
		goto out;
	}
	if (slots < old) {
		report_error("%s: exports %llu bytes already; a pool cannot shrink", path,
			     (unsigned long long)(old * POOL_SLOT_SIZE));
		rc = -EINVAL;
		goto out;
	}
	if (header->chunk_count == POOL_CHUNKS_MAX) {
		report_error("%s: was enlarged %u times; there is no room in its header for one more", path,
			     POOL_CHUNKS_MAX - 1);
		rc = -EFBIG;
		goto out;
	}
	more = slots - old;
	end = old_end + pool_table_size(more) + (uint64_t)more * POOL_SLOT_SIZE;

	/* What an earlier growth that did not finish has left goes first: the new slots must read as zeroes. */
	if (!pool->devdax && ftruncate(pool->fd, (off_t)old_end)) {
		rc = -errno;
		report_error("%s: cannot be cut to its chunks: %s", path, strerror(-rc));
		goto out;
	}
	extended = !pool->devdax;
	rc = preallocate(pool, old_end, end);
	if (!rc)
		rc = pool_file_map(pool, end);
	if (rc)
		goto out;
	header->chunk[header->chunk_count++] = (struct pool_chunk){ .offset = old_end, .slots = more };
	pool_file_set_chunks(pool, end, slots);
	rc = write_chunk(pool, old, more);
	if (rc)
		goto out;
	/* From here the new header may be in the file, whatever this returns: the chunk must stay. */
	extended = false;
	rc = pool_file_write_header(pool);
out:
	if (rc && extended && ftruncate(pool->fd, (off_t)old_end))
		report_warning("%s: could not be cut back to its old size: %s", path, strerror(errno));
	pool_file_close(pool);
	return rc;
}
