/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A write-back that fails is told by the kernel to one of those who sync, and must reach all of them: with a model of
 * what the kernel tells (Documentation/core-api/errseq.rst), and with a disk that really fails.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "pool-internal.h"
#include "pool_scratch.h"

/* --- the model: one error, and which of the two open files was told ------------- */

static atomic_bool failed_write, told_mapping, told_other;
static atomic_int asked_fd;

static bool tell(atomic_bool *told)
{
	return atomic_load(&failed_write) && !atomic_exchange(told, true);
}

static struct pool *model_pool(const struct pool_test_disk *disk)
{
	struct pool *pool;

	unlink(scratch_pool);
	atomic_store(&failed_write, false);
	atomic_store(&told_mapping, false);
	atomic_store(&told_other, false);
	ck_assert_int_eq(pool_create(scratch_pool, 2 * SLOT), 0);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	/* Wherever the scratch folder lies. */
	pool->kind = POOL_ON_DISK;
	pool_test_replace_disk(disk);
	return pool;
}

static void end_model(struct pool *pool)
{
	pool_test_replace_disk(NULL);
	pool_close(pool);
}

static sem_t consumed, go_on;

/* Who gets the error stays where it is, before it can tell anybody. */
static int sync_and_stay(void *from, size_t length)
{
	if (!tell(&told_mapping))
		return 0;
	sem_post(&consumed);
	while (sem_wait(&go_on))
		;
	errno = EIO;
	return -1;
}

static int ask(int fd)
{
	atomic_store(&asked_fd, fd);
	if (!tell(&told_other))
		return 0;
	errno = EIO;
	return -1;
}

static void *persist_first(void *pool)
{
	return (void *)(intptr_t)pool_persist(pool, 0, 0, 4096);
}

/* One persist got the error and did not come to tell yet: the next one, to which msync says 0, fails all the same. */
START_TEST(told_to_another)
{
	struct pool *pool = model_pool(&(struct pool_test_disk){ sync_and_stay, ask });
	pthread_t other;
	void *rc;

	ck_assert_int_eq(pool_persist(pool, 1, 0, 4096), 0);
	ck_assert_int_ne(atomic_load(&asked_fd), pool_fd(pool));
	sem_init(&consumed, 0, 0);
	sem_init(&go_on, 0, 0);
	atomic_store(&failed_write, true);
	ck_assert_int_eq(pthread_create(&other, NULL, persist_first, pool), 0);
	while (sem_wait(&consumed))
		;
	ck_assert_int_eq(pool_persist(pool, 1, 0, 4096), -EIO);
	ck_assert(pool_failed(pool));
	sem_post(&go_on);
	pthread_join(other, &rc);
	ck_assert_int_eq((int)(intptr_t)rc, -EIO);
	end_model(pool);
}
END_TEST

#define WORKERS 4
#define ROUNDS	25

static _Thread_local bool after_error;
static atomic_uint persists;

static int sync_any(void *from, size_t length)
{
	sched_yield();
	if (atomic_fetch_add(&persists, 1) == 20)
		atomic_store(&failed_write, true);
	after_error = atomic_load(&failed_write);
	if (!tell(&told_mapping))
		return 0;
	usleep(200);
	errno = EIO;
	return -1;
}

static int ask_slowly(int fd)
{
	if (!tell(&told_other))
		return 0;
	usleep(200);
	errno = EIO;
	return -1;
}

/* NULL, or what is wrong. */
static void *persist_until_failed(void *pool)
{
	for (unsigned i = 0; i < 100000; i++) {
		int rc = pool_persist(pool, 1, 0, 4096);

		if (!rc && after_error)
			return "a persist succeeded behind a write-back that had failed";
		if (rc)
			return rc == -EIO ? NULL : "another error than -EIO";
	}
	return "the failed write-back was told to nobody";
}

/* Of many at once none succeeds whose sync ended after a write-back had failed, whoever is told first, and by which file. */
START_TEST(many_at_once)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct pool *pool = model_pool(&(struct pool_test_disk){ sync_any, ask_slowly });
		pthread_t thread[WORKERS];
		void *wrong;

		atomic_store(&persists, 0);
		for (unsigned i = 0; i < WORKERS; i++)
			ck_assert_int_eq(pthread_create(&thread[i], NULL, persist_until_failed, pool), 0);
		for (unsigned i = 0; i < WORKERS; i++) {
			pthread_join(thread[i], &wrong);
			ck_assert_msg(!wrong, "round %u: %s", round, (const char *)wrong);
		}
		ck_assert(pool_failed(pool));
		end_model(pool);
	}
}
END_TEST

/* --- a disk that fails ------------------------------------------------------------ */

/* A filesystem whose disk is a sparse file with no room behind it; mounted for this process alone, and gone with it. */
static bool mount_failing(void)
{
	if (geteuid() || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return false;
	return !system("cd \"$AT\" && mkdir room disk && mount -t tmpfs -o size=24m none room && truncate -s 64m room/image && "
		       "mkfs.ext4 -q -F -O ^has_journal -E nodiscard room/image && mount -o loop room/image disk");
}

/*
 * A client of the local transport has the pool's open file too, as every thread's msync has.  What it was told of is
 * told again to the pool, and latches.
 */
START_TEST(real_disk)
{
	char path[sizeof(scratch) + 20];
	struct pool *pool;
	uint8_t *theirs;
	uint32_t slot;

	ck_assert_int_eq(setenv("AT", scratch, 1), 0);
	if (!mount_failing()) {
		printf("    not shown with a real disk: needs root, mkfs.ext4 and loop devices\n");
		return;
	}
	snprintf(path, sizeof(path), "%s/disk/pool", scratch);
	ck_assert_int_eq(pool_create(path, 8 * SLOT), 0);
	ck_assert_int_eq(pool_open(&pool, path, false), 0);
	ck_assert_int_eq(pool_take(pool, 1, &slot), 0);
	ck_assert_int_eq(pool_persist(pool, slot, 0, SLOT), 0);
	theirs = mmap(NULL, SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, pool_fd(pool), (off_t)pool_offset(pool, slot));
	ck_assert_ptr_ne(theirs, MAP_FAILED);

	/* Until there is no room. */
	(void)!system("dd if=/dev/zero of=\"$AT/room/full\" bs=64k 2>/dev/null");
	memset(theirs, 0x5a, SLOT);
	ck_assert_int_eq(msync(theirs, SLOT, MS_SYNC), -1);
	ck_assert_int_eq(pool_persist(pool, slot, 0, SLOT), -EIO);
	ck_assert(pool_failed(pool));
	munmap(theirs, SLOT);
	pool_close(pool);
	(void)!system("umount \"$AT/disk\" \"$AT/room\"");
}
END_TEST

static void setup(void)
{
	scratch_make(scratch_memory);
}

int main(void)
{
	Suite *suite = suite_create("pool_sync");
	TCase *tcase = tcase_create("sync");

	tcase_add_checked_fixture(tcase, setup, scratch_remove);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, told_to_another);
	tcase_add_test(tcase, many_at_once);
	tcase_add_test(tcase, real_disk);
	suite_add_tcase(suite, tcase);
	return scratch_run(suite);
}
