/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool_scratch - what the tests of the store share: a folder of their own for
 * pools, that goes away with the test, and a look at what was reported.
 */
#ifndef TESTS_POOL_SCRATCH_H
#define TESTS_POOL_SCRATCH_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool-format.h"
#include "pool.h"
#include "report.h"

#define SLOT POOL_SLOT_SIZE

/* Of the whole program, on disk and in memory: what a test that died has left goes with them. */
static char scratch_disk[200], scratch_memory[200];
/* Of one test. */
static char scratch[256], scratch_pool[300];

static inline int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline void scratch_end(void)
{
	nftw(scratch_disk, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
	nftw(scratch_memory, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* In main(), before any test. */
static inline void scratch_begin(void)
{
	const char *disk = getenv("TMPDIR"), *memory = "/dev/shm";

	if (!disk)
		disk = "/tmp";
	if (access(memory, W_OK))
		memory = disk;
	snprintf(scratch_disk, sizeof(scratch_disk), "%s/brick-test-XXXXXX", disk);
	snprintf(scratch_memory, sizeof(scratch_memory), "%s/brick-test-XXXXXX", memory);
	if (!mkdtemp(scratch_disk) || !mkdtemp(scratch_memory)) {
		perror("no folder for scratch pools");
		exit(EXIT_FAILURE);
	}
}

/* Memory is as good as a disk for most of what these tests show, and quicker, but has no FALLOC_FL_ZERO_RANGE. */
static inline void scratch_make(const char *under)
{
	snprintf(scratch, sizeof(scratch), "%s/XXXXXX", under);
	ck_assert_ptr_nonnull(mkdtemp(scratch));
	snprintf(scratch_pool, sizeof(scratch_pool), "%s/pool", scratch);
	report_init("test", false, REPORT_DEBUG);
}

static inline void scratch_remove(void)
{
	nftw(scratch, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* Runs the suite; what main() returns. */
static inline int scratch_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	scratch_begin();
	srunner_run_all(runner, CK_VERBOSE);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	scratch_end();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static inline void scratch_write(const char *path, uint64_t offset, const void *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

static inline void scratch_read(const char *path, uint64_t offset, void *bytes, size_t length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, bytes, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

static inline struct pool_header scratch_header(const char *path)
{
	uint8_t bytes[POOL_HEADER_SIZE];
	struct pool_header header;
	uint32_t version;

	scratch_read(path, 0, bytes, sizeof(bytes));
	ck_assert_int_eq(pool_header_decode(bytes, &header, &version), POOL_HEADER_GOOD);
	return header;
}

/* Puts a well-formed header into both copies. */
static inline void scratch_set_header(const char *path, const struct pool_header *header)
{
	uint8_t bytes[POOL_HEADER_SIZE];

	pool_header_encode(header, bytes);
	scratch_write(path, 0, bytes, sizeof(bytes));
	scratch_write(path, POOL_HEADER_DISTANCE, bytes, sizeof(bytes));
}

/* What fn reports goes to a file and comes back as text, and is shown. */
static char scratch_said[8192];

static inline int scratch_hear(int (*fn)(void *arg), void *arg)
{
	char path[300];
	ssize_t n;
	int fd, saved, rc;

	snprintf(path, sizeof(path), "%s/said", scratch);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	saved = dup(STDERR_FILENO);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(saved, 0);
	fflush(stderr);
	dup2(fd, STDERR_FILENO);
	rc = fn(arg);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = pread(fd, scratch_said, sizeof(scratch_said) - 1, 0);
	scratch_said[n > 0 ? n : 0] = '\0';
	close(fd);
	unlink(path);
	printf("    %s", scratch_said[0] ? scratch_said : "(nothing)\n");
	fflush(stdout);
	return rc;
}

static inline int scratch_try_open(void *path)
{
	struct pool *pool;
	int rc = pool_open(&pool, path, false);

	if (!rc)
		pool_close(pool);
	return rc;
}

/* The pool is refused with that errno, and the message names the file and the fault. */
static inline void expect_refused(const char *path, int error, const char *fault)
{
	int rc = scratch_hear(scratch_try_open, (void *)path);

	ck_assert_int_eq(rc, error);
	ck_assert_msg(strstr(scratch_said, path) && strstr(scratch_said, fault), "\"%s\" should name %s and \"%s\"",
		      scratch_said, path, fault);
}

static inline bool all_bytes(const uint8_t *bytes, size_t length, uint8_t value)
{
	return !length || (bytes[0] == value && !memcmp(bytes, bytes + 1, length - 1));
}

#endif
