/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crashes of the pool, enumerated.  While a scenario runs, each persist of the
 * pool leaves images of what a power cut at that moment may leave behind.  What is stored and not
 * persisted falls into pieces: each unit of 8 bytes of headers and slot words, halves of longer runs.  Any of
 * them may be there: all subsets when there are few (BRICKFS_TEST_SUBSETS in the environment, 3), else none, all,
 * every prefix, all but one, only one, and random ones (BRICKFS_TEST_SEED); and the bytes on
 * their way torn in the middle.  Each distinct image must open,
 * hold exactly the blocks that it has to (an operation under way may count or
 * not), their bytes, and only zeroes in what it gives out next.
 *
 * Images are checked after the scenario.  They are in memory, sparse.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "pool_scratch.h"

#define BLOCKS 16	/* block numbers of the scenarios: 0 .. 15 */
#define IMAGES_MAX 6000
#define PIECES_MAX 4096
#define LONE_MAX 6		/* prefixes, all but one, only one: of so many each, at most */

enum claim { ABSENT, PRESENT, EITHER };

/* What must hold of the pool right now. */
struct oracle {
	enum claim block[BLOCKS];
	bool written[BLOCKS];		/* its bytes are the pattern, persisted */
	uint32_t slots_min, slots_max;	/* how large the pool may be */
};

struct image {
	struct oracle oracle;
	const char *kind;
	unsigned event;
	uint64_t hash;
};

struct piece { uint64_t offset, length; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* oracle, shadow, images */
static struct oracle oracle;
static struct image images[IMAGES_MAX];
static unsigned image_count, event_count;
static uint8_t *shadow;		/* what has been persisted */
static uint64_t shadow_size;	/* bytes: the file, as far as it is durable */
static bool forget_zeroes;	/* teeth: persists of zeroed slots do not reach the shadow */
static bool forget_headers;	/* teeth: persists of header copies do not */

#define SHADOW_MAX (64u << 20)

static void image_path(char *path, size_t size, unsigned number)
{
	snprintf(path, size, "%s/image-%u", scratch, number);
}

/* bytes [0, size) to a file, without its zero pages. */
static void save(const uint8_t *bytes, uint64_t size, const char *kind)
{
	uint64_t hash = XXH3_64bits(&oracle, sizeof(oracle)) + size;
	char path[400];
	int fd;

	for (uint64_t at = 0; at < size; at += 4096) {
		size_t n = size - at < 4096 ? (size_t)(size - at) : 4096;

		if (!all_bytes(bytes + at, n, 0))
			hash = hash * 0x9e3779b97f4a7c15ull + XXH3_64bits_withSeed(bytes + at, n, at);
	}
	for (unsigned i = image_count; i > 0; i--)
		if (images[i - 1].hash == hash)
			return;
	if (image_count == IMAGES_MAX) {
		fprintf(stderr, "too many images\n");
		abort();
	}
	image_path(path, sizeof(path), image_count);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size))
		abort();
	for (uint64_t at = 0; at < size; at += 4096) {
		size_t n = size - at < 4096 ? (size_t)(size - at) : 4096;

		if (!all_bytes(bytes + at, n, 0) && pwrite(fd, bytes + at, n, (off_t)at) != (ssize_t)n)
			abort();
	}
	close(fd);
	images[image_count++] = (struct image){ oracle, kind, event_count, hash };
}

/* ---- what may be there */

static struct piece pieces[PIECES_MAX];
static uint8_t *kept;		/* what was stored, of all pieces */

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

static unsigned add_piece(unsigned n, uint64_t offset, uint64_t length)
{
	if (n == PIECES_MAX) {
		fprintf(stderr, "too many pieces\n");
		abort();
	}
	pieces[n] = (struct piece){ offset, length };
	return n + 1;
}

/* Where what is stored differs from what is persisted. */
static unsigned find_pieces(const uint8_t *now, uint64_t size)
{
	unsigned n = 0;

	for (uint64_t page = 0; page < size; page += 4096) {
		uint64_t end = size - page < 4096 ? size : page + 4096, at = page;

		if (!memcmp(now + page, shadow + page, end - page))
			continue;
		while (at < end) {
			uint64_t from = at;

			while (at < end && memcmp(now + at, shadow + at, 8))
				at += 8;
			if (at - from > 64) {
				uint64_t half = (at - from) / 2 & ~7ull;

				n = add_piece(n, from, half);
				n = add_piece(n, from + half, at - from - half);
			} else {
				for (; from < at; from += 8)
					n = add_piece(n, from, 8);
			}
			at += at == from ? 8 : 0;
		}
	}
	return n;
}

/* Into the shadow, or out of it again. */
static void set_piece(const uint8_t *now, unsigned k, bool there)
{
	memcpy(shadow + pieces[k].offset, (there ? now : kept) + pieces[k].offset, pieces[k].length);
}

static void save_subsets(const uint8_t *now, uint64_t size)
{
	static unsigned short seed[3];
	static bool seeded;
	unsigned n = find_pieces(now, size), few = (unsigned)number("BRICKFS_TEST_SUBSETS", 3), stride = n / LONE_MAX + 1;

	if (!seeded)
		seed[0] = (unsigned short)number("BRICKFS_TEST_SEED", 1);
	seeded = true;
	for (unsigned k = 0; k < n; k++)
		memcpy(kept + pieces[k].offset, shadow + pieces[k].offset, pieces[k].length);
	if (n <= few) {
		for (unsigned mask = 1; mask < 1u << n; mask++) {
			for (unsigned k = 0; k < n; k++)
				set_piece(now, k, mask >> k & 1);
			save(shadow, size, "a subset");
		}
	} else {
		for (unsigned k = 0; k < n; k++) {
			set_piece(now, k, true);
			if (k % stride == 0)
				save(shadow, size, "a prefix");
		}
		save(shadow, size, "all stored");
		for (unsigned k = event_count % stride; k < n; k += stride) {
			set_piece(now, k, false);
			save(shadow, size, "all but one");
			set_piece(now, k, true);
		}
		for (unsigned k = 0; k < n; k++)
			set_piece(now, k, false);
		for (unsigned k = event_count % stride; k < n; k += stride) {
			set_piece(now, k, true);
			save(shadow, size, "only one");
			set_piece(now, k, false);
		}
		for (unsigned random = 0; random < few; random++) {
			for (unsigned k = 0; k < n; k++)
				set_piece(now, k, nrand48(seed) >> 8 & 1);
			save(shadow, size, "a random subset");
		}
	}
	for (unsigned k = 0; k < n; k++)
		set_piece(now, k, false);
}

static void on_persist(void *arg, const uint8_t *base, uint64_t offset, uint64_t length, bool done)
{
	static uint8_t page[2 * POOL_HEADER_SIZE];
	struct stat st;
	uint8_t *now;
	uint64_t half;
	int fd;

	pthread_mutex_lock(&lock);
	fd = open(scratch_pool, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || st.st_size > SHADOW_MAX)
		abort();
	if (!done) {
		event_count++;
		/* Nothing of this persist: also the file as short as it was. */
		save(shadow, shadow_size ? shadow_size : (uint64_t)st.st_size, "persisted only");
		if (shadow_size && shadow_size < (uint64_t)st.st_size)
			save(shadow, (uint64_t)st.st_size, "persisted only, longer file");
		/* The bytes under way, torn at 8 bytes in the middle. */
		if (length > 8 && length <= sizeof(page)) {
			half = length / 2 & ~7ull;
			memcpy(page, shadow + offset, length);
			memcpy(shadow + offset, base + offset, half);
			save(shadow, (uint64_t)st.st_size, "first half");
			memcpy(shadow + offset, page, half);
			memcpy(shadow + offset + half, base + offset + half, length - half);
			save(shadow, (uint64_t)st.st_size, "second half");
			memcpy(shadow + offset, page, length);
		}
		/* Everything that was ever stored: the bytes as they are now, others go on storing. */
		now = malloc((size_t)st.st_size);
		if (!now || pread(fd, now, (size_t)st.st_size, 0) != st.st_size)
			abort();
		save_subsets(now, (uint64_t)st.st_size);
		free(now);
	} else if (!(forget_zeroes && length == SLOT && all_bytes(base + offset, SLOT, 0)) &&
		   !(forget_headers && offset < POOL_FIRST_CHUNK)) {
		memcpy(shadow + offset, base + offset, length);
		/* A header that names a chunk comes after the file's size is durable. */
		if (offset < POOL_FIRST_CHUNK)
			shadow_size = (uint64_t)st.st_size;
	}
	close(fd);
	pthread_mutex_unlock(&lock);
}

static void claim(uint64_t block, enum claim what, bool written)
{
	pthread_mutex_lock(&lock);
	oracle.block[block] = what;
	oracle.written[block] = written;
	pthread_mutex_unlock(&lock);
}

/* What a block holds: every 512 bytes its number, enough to tell it from zeroes and from any other. */
static void pattern(uint8_t *at, uint64_t block)
{
	for (uint64_t i = 0; i < SLOT; i += 1 << 17)
		memset(at + i, (int)(block + 1), 512);
}

static bool has_pattern(const uint8_t *at, uint64_t block)
{
	for (uint64_t i = 0; i < SLOT; i += 1 << 17) {
		if (!all_bytes(at + i, 512, (uint8_t)(block + 1)))
			return false;
	}
	return true;
}

static uint32_t take(struct pool *pool, uint64_t block)
{
	uint32_t slot;

	claim(block, EITHER, false);
	ck_assert_int_eq(pool_take(pool, block, &slot), 0);
	claim(block, PRESENT, false);
	pattern(pool_address(pool, slot), block);
	ck_assert_int_eq(pool_persist(pool, slot, 0, SLOT), 0);
	claim(block, PRESENT, true);
	return slot;
}

static void release(struct pool *pool, uint32_t slot, uint64_t block)
{
	claim(block, EITHER, true);
	ck_assert_int_eq(pool_release(pool, slot), 0);
	claim(block, ABSENT, false);
}

static void wait_zeroed(struct pool *pool)
{
	while (pool_zeroed_slots(pool) < pool_free_slots(pool))
		usleep(1000);
}

struct found {
	struct pool *pool;
	const struct oracle *oracle;
	bool block[BLOCKS];
	const char *fault;
};

static int find(void *arg, uint32_t slot, uint64_t block)
{
	struct found *found = arg;

	if (block >= BLOCKS)
		found->fault = "a block that never was";
	else if (found->block[block])
		found->fault = "a block twice";
	else if (found->oracle->block[block] == ABSENT)
		found->fault = "a block that was freed, or not allocated yet";
	else if (found->oracle->written[block] && !has_pattern(pool_address(found->pool, slot), block))
		found->fault = "persisted bytes are gone";
	else
		found->block[block] = true;
	return found->fault != NULL;
}

/* NULL, or what is wrong with the image. */
static const char *check_image(const struct image *image, const char *path)
{
	struct found found = { .oracle = &image->oracle };
	struct pool *pool;
	uint32_t slot, slots;
	int rc = pool_open(&pool, path, false);

	if (rc)
		return image->oracle.slots_min ? "it does not open" : NULL;
	found.pool = pool;
	slots = pool_slots(pool);
	if (slots < image->oracle.slots_min || slots > image->oracle.slots_max)
		found.fault = "it has another size";
	if (!found.fault)
		pool_each(pool, find, &found);
	for (unsigned i = 0; i < BLOCKS && !found.fault; i++) {
		if (image->oracle.block[i] == PRESENT && !found.block[i])
			found.fault = "an allocated block is gone";
	}
	/* Every slot that is not live can be had, and is zeroes. */
	for (uint32_t i = pool_free_slots(pool); i > 0 && !found.fault; i--) {
		if (pool_take(pool, 1000 + i, &slot))
			found.fault = "a free slot cannot be taken";
		else if (!all_bytes(pool_address(pool, slot), SLOT, 0))
			found.fault = "a fresh block holds old bytes";
	}
	if (!found.fault && pool_take(pool, 999, &slot) != -ENOSPC)
		found.fault = "more slots than there are";
	pool_close(pool);
	return found.fault;
}

/* Checks all images, and removes them: how many are wrong. */
static unsigned check_images(void)
{
	unsigned wrong = 0;

	pool_test_watch_persists(NULL, NULL);
	report_init("image", false, REPORT_ERROR);
	for (unsigned i = 0; i < image_count; i++) {
		const char *fault;
		char path[400];

		image_path(path, sizeof(path), i);
		fault = check_image(&images[i], path);
		if (fault && wrong++ < 5)
			printf("    event %u, %s: %s\n", images[i].event, images[i].kind, fault);
		unlink(path);
	}
	printf("    %u events, %u images, %u wrong\n", event_count, image_count, wrong);
	fflush(stdout);
	return wrong;
}

static void setup(void)
{
	scratch_make(scratch_memory);
	shadow = mmap(NULL, SHADOW_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	kept = mmap(NULL, SHADOW_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert(shadow != MAP_FAILED && kept != MAP_FAILED);
}

/* From here on persists are recorded, on top of the pool as it is. */
static void record(uint32_t slots_min, uint32_t slots_max)
{
	struct stat st;

	oracle.slots_min = slots_min;
	oracle.slots_max = slots_max;
	if (!stat(scratch_pool, &st)) {
		scratch_read(scratch_pool, 0, shadow, (size_t)st.st_size);
		shadow_size = (uint64_t)st.st_size;
	}
	pool_test_watch_persists(on_persist, NULL);
}

/* A small pool's whole life: filled, emptied, filled again while zeroing goes on, closed, opened. */
static void scenario_life(void)
{
	struct pool *pool;
	uint32_t slot[4];

	ck_assert_int_eq(pool_create(scratch_pool, 3 * SLOT), 0);
	record(3, 3);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	for (uint64_t i = 0; i < 3; i++)
		slot[i] = take(pool, i);
	release(pool, slot[1], 1);
	slot[3] = take(pool, 3);
	release(pool, slot[0], 0);
	wait_zeroed(pool);
	slot[0] = take(pool, 0);
	release(pool, slot[0], 0);
	release(pool, slot[2], 2);
	pool_close(pool);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	wait_zeroed(pool);
	slot[0] = take(pool, 5);
	release(pool, slot[3], 3);
	pool_close(pool);
}

/* Every crash of alloc, free and zeroing leaves old or new, nothing lost, nothing twice, no old bytes in a new block. */
START_TEST(life)
{
	scenario_life();
	ck_assert_uint_gt(event_count, 30);
	ck_assert_uint_eq(check_images(), 0);
}
END_TEST

/* Batches: each entry for itself is there or not. */
START_TEST(batches)
{
	uint64_t block[4] = { 1, 2, 3, 4 };
	struct pool *pool;
	uint32_t slot[4];
	int status[4];

	ck_assert_int_eq(pool_create(scratch_pool, 5 * SLOT), 0);
	record(5, 5);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 4; i++)
			claim(block[i], EITHER, false);
		ck_assert_int_eq(pool_take_many(pool, block, 4, slot, status), 0);
		for (unsigned i = 0; i < 4; i++) {
			ck_assert_int_eq(status[i], 0);
			claim(block[i], PRESENT, false);
			pattern(pool_address(pool, slot[i]), block[i]);
			ck_assert_int_eq(pool_persist(pool, slot[i], 0, SLOT), 0);
			claim(block[i], PRESENT, true);
		}
		for (unsigned i = 0; i < 4; i++)
			claim(block[i], EITHER, true);
		ck_assert_int_eq(pool_release_many(pool, slot, 4, status), 0);
		for (unsigned i = 0; i < 4; i++) {
			ck_assert_int_eq(status[i], 0);
			claim(block[i], ABSENT, false);
		}
	}
	pool_close(pool);
	ck_assert_uint_eq(check_images(), 0);
}
END_TEST

/* A crash while a pool is made leaves no pool, or a whole one. */
START_TEST(creation)
{
	struct pool *pool;

	record(0, 2);
	ck_assert_int_eq(pool_create(scratch_pool, 2 * SLOT), 0);
	ck_assert_uint_gt(event_count, 2);
	oracle.slots_min = 2;
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	pool_close(pool);
	ck_assert_uint_eq(check_images(), 0);
}
END_TEST

static void scenario_growth(void)
{
	struct pool *pool;

	ck_assert_int_eq(pool_create(scratch_pool, 2 * SLOT), 0);
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	take(pool, 1);
	take(pool, 2);
	pool_close(pool);
	record(2, 4);
	ck_assert_int_eq(pool_grow(scratch_pool, 4 * SLOT), 0);
	pthread_mutex_lock(&lock);
	oracle.slots_min = 4;
	oracle.slots_max = 5;
	pthread_mutex_unlock(&lock);
	ck_assert_int_eq(pool_grow(scratch_pool, 5 * SLOT), 0);
	oracle.slots_min = 5;
	ck_assert_int_eq(pool_open(&pool, scratch_pool, false), 0);
	take(pool, 3);
	take(pool, 4);
	take(pool, 5);
	pool_close(pool);
}

/* A crash while a pool grows leaves the old one or the new one, whole either way. */
START_TEST(growth)
{
	scenario_growth();
	ck_assert_uint_eq(check_images(), 0);
}
END_TEST

/* A growth that a crash cut short, at any event, can be done again. */
START_TEST(growth_again)
{
	scenario_growth();
	pool_test_watch_persists(NULL, NULL);
	report_init("image", false, REPORT_ERROR);
	for (unsigned i = 0; i < image_count; i++) {
		char path[400];

		image_path(path, sizeof(path), i);
		ck_assert_int_eq(pool_grow(path, 6 * SLOT), 0);
		images[i].oracle.slots_min = images[i].oracle.slots_max = 6;
	}
	ck_assert_uint_eq(check_images(), 0);
}
END_TEST

/* The enumeration has teeth: were zeroes not persisted before their slot word, or headers not at all, it would say so. */
START_TEST(teeth)
{
	if (_i)
		forget_headers = true;
	else
		forget_zeroes = true;
	if (_i)
		scenario_growth();
	else
		scenario_life();
	ck_assert_uint_gt(check_images(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pool crash");
	TCase *tcase = tcase_create("every persist");

	tcase_add_checked_fixture(tcase, setup, scratch_remove);
	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, life);
	tcase_add_test(tcase, batches);
	tcase_add_test(tcase, creation);
	tcase_add_test(tcase, growth);
	tcase_add_test(tcase, growth_again);
	tcase_add_loop_test(tcase, teeth, 0, 2);
	suite_add_tcase(suite, tcase);
	return scratch_run(suite);
}
