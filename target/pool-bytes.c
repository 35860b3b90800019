/* SPDX-License-Identifier: BSD-3-Clause */
/* pool-bytes - bytes of blocks, copied so that a failing device is an error and no more. */
#include "pool-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sigbus.h"

/*
 * The bytes of blocks are the initiators': what they write while we copy is
 * theirs to order, so ThreadSanitizer is told to look away.
 */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define POOL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(POOL_TSAN)
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define BLOCK_BYTES_BEGIN() (AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__))
#define BLOCK_BYTES_END() (AnnotateIgnoreWritesEnd(__FILE__, __LINE__), AnnotateIgnoreReadsEnd(__FILE__, __LINE__))
#else
#define BLOCK_BYTES_BEGIN() ((void)0)
#define BLOCK_BYTES_END() ((void)0)
#endif

struct copy_call {
	void *to;
	const void *from;
	size_t length;
	int byte;
};

static void copy_fn(void *arg)
{
	struct copy_call *call = arg;

	if (call->from)
		memcpy(call->to, call->from, call->length);
	else
		memset(call->to, call->byte, call->length);
}

static int copy(struct copy_call *call)
{
	int rc;

	BLOCK_BYTES_BEGIN();
	rc = sigbus_try(copy_fn, call);
	/* ThreadSanitizer drops its marks by itself when a jump leaves the signal handler. */
	if (!rc)
		BLOCK_BYTES_END();
	return rc;
}

int pool_copy(void *to, const void *from, size_t length)
{
	struct copy_call call = { .to = to, .from = from, .length = length };

	return copy(&call);
}

int pool_fill(void *to, int byte, size_t length)
{
	struct copy_call call = { .to = to, .byte = byte, .length = length };

	return copy(&call);
}

/* Where msync makes bytes durable, it does so for those that pwrite(2) brought as well; hugetlbfs has no pwrite. */
static bool by_file(const struct pool *pool)
{
	return pool->by_page && pool->kind != POOL_ON_HUGETLBFS;
}

int pool_get(struct pool *pool, uint32_t slot, uint32_t offset, void *to, uint32_t length)
{
	uint64_t at = pool_offset(pool, slot) + offset;
	uint32_t done = 0;
	int rc = 0;

	if (!by_file(pool))
		return pool_copy(to, pool->base + at, length);
	BLOCK_BYTES_BEGIN();
	while (done < length) {
		ssize_t n = pread(pool->fd, (uint8_t *)to + done, length - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = -EIO;
			break;
		}
		done += (uint32_t)n;
	}
	BLOCK_BYTES_END();
	return rc;
}

int pool_put(struct pool *pool, uint32_t slot, uint32_t offset, const void *from, uint32_t length)
{
	uint64_t at = pool_offset(pool, slot) + offset;
	uint32_t done = 0;
	int error = 0;

	if (atomic_load(&pool->failed))
		return -EIO;
	if (!by_file(pool))
		return pool_copy(pool->base + at, from, length);
	BLOCK_BYTES_BEGIN();
	while (done < length) {
		ssize_t n = pwrite(pool->fd, (const uint8_t *)from + done, length - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			error = n ? errno : EIO;
			break;
		}
		done += (uint32_t)n;
	}
	BLOCK_BYTES_END();
	if (!error)
		return 0;
	pool_file_fail(pool, "write-back failed", error);
	return -EIO;
}
