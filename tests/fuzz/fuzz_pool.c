/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_pool - a hostile pool file, and a hostile memory file beside it, given to brickd.
 *
 * A pool of six slots in two chunks that ended clean, or whose brickd was killed with blocks in its memory file.  The
 * input is a program of changes: to the headers (signed again, or not), to slot words (with a right check, or not), to the
 * header and the table of the memory file, to the sizes of both.  Then it is opened as brickd does.  Refused: there must be
 * a word why, and the pool is not touched.  Opened: every block can be reached, one is allocated, written and freed,
 * and after the end the same blocks are there again.
 */
#include "fuzz.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "pool-format.h"
#include "report.h"
#include "server.h"
#include "tier-memory.h"

const char fuzz_name[] = "fuzz_pool";
const unsigned long fuzz_count = 1500;

#define SLOTS 6u
#define FIRST_SLOTS 4u			/* in the first chunk */
#define FRAMES 2u
#define FULL (POOL_FIRST_CHUNK + 2 * POOL_SLOT_SIZE + SLOTS * POOL_SLOT_SIZE)
#define PATH_AT 2160u			/* the memory file's path in a header */
#define MEMORY_BYTES 8192u		/* of the memory file: header and table */
#define MEMORY_SUMMED 32u		/* the header's checksum is over so many bytes, and behind them */
#define FRAMES_AT 12u
#define TABLE_AT 4096u

enum flag { KILLED = 1, MEMORY_MODE = 2 };
enum op { HEADER, FIELD, WORD, RAW_WORD, SIZE, MEMORY_HEADER, ENTRY, RAW_TABLE, MEMORY_SIZE, MEMORY_FRAMES, OPS };

struct image {
	uint8_t header[2][POOL_HEADER_SIZE];
	uint64_t word[SLOTS];
	uint64_t size;
	uint8_t memory[MEMORY_BYTES];
	uint64_t memory_size;		/* 0: there is none */
	bool raw[2], memory_raw;	/* its checksum stays as it is */
};

static char folder[64], path[96], memory_path[POOL_PATH_MAX];
static uint8_t uuid[16];
static struct image images[2];
static atomic_uint said;
static unsigned long refused, refused_memory, opened;

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "BUG: %s\n", what);
	abort();
}

/* In the place of report(): what would be said is put together, and counted. */
void __wrap_report(enum report_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_report(enum report_level level, const char *format, ...)
{
	char line[4096];
	va_list args;

	va_start(args, format);
	must(vsnprintf(line, sizeof(line), format, args) > 0, "an empty message");
	va_end(args);
	if (getenv("FUZZ_POOL_SHOW"))
		fprintf(stderr, "<%d> %s\n", (int)level, line);
	if (level == REPORT_ERROR)
		atomic_fetch_add(&said, 1);
}

/* ---- files */

static uint64_t word_at(unsigned slot)
{
	return slot < FIRST_SLOTS ? POOL_FIRST_CHUNK + slot * 8u
				  : POOL_FIRST_CHUNK + (1 + FIRST_SLOTS) * POOL_SLOT_SIZE + (slot - FIRST_SLOTS) * 8u;
}

static void put(int fd, const void *bytes, size_t n, uint64_t at)
{
	must(pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n, "the pool cannot be written");
}

/* What is there; bytes behind the end are zeroes. */
static void get(int fd, void *bytes, size_t n, uint64_t at)
{
	memset(bytes, 0, n);
	must(pread(fd, bytes, n, (off_t)at) >= 0, "the pool cannot be read");
}

static void read_pool(struct image *image)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	must(fd >= 0 && !fstat(fd, &st), "there is no pool");
	image->size = (uint64_t)st.st_size;
	for (unsigned k = 0; k < 2; k++)
		get(fd, image->header[k], POOL_HEADER_SIZE, (uint64_t)k * POOL_HEADER_DISTANCE);
	for (unsigned k = 0; k < SLOTS; k++)
		get(fd, &image->word[k], 8, word_at(k));
	close(fd);
}

static void write_files(const struct image *image)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	must(fd >= 0 && !ftruncate(fd, FULL), "there is no pool");
	for (unsigned k = 0; k < 2; k++)
		put(fd, image->header[k], POOL_HEADER_SIZE, (uint64_t)k * POOL_HEADER_DISTANCE);
	for (unsigned k = 0; k < SLOTS; k++)
		put(fd, &image->word[k], 8, word_at(k));
	must(!ftruncate(fd, (off_t)image->size), "the pool cannot be cut");
	close(fd);
	unlink(memory_path);
	if (!image->memory_size)
		return;
	fd = open(memory_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0, "no memory file");
	put(fd, image->memory, MEMORY_BYTES, 0);
	must(!ftruncate(fd, image->memory_size == UINT64_MAX ? 0 : (off_t)image->memory_size), "no memory file");
	close(fd);
}

static void clean_up(void)
{
	char making[POOL_PATH_MAX + 8];

	snprintf(making, sizeof(making), "%s.new", memory_path);
	unlink(making);
	unlink(memory_path);
	unlink(path);
	rmdir(folder);
}

/* ---- the images */

static int open_both(struct pool **pool, struct tier **tier, bool memory)
{
	struct tier_config config = {.mode = memory ? TIER_MEMORY : TIER_DIRECT, .memory = FRAMES * POOL_SLOT_SIZE, .folder = folder};
	int r = pool_load(pool, path);

	if (r)
		return r;
	r = tier_open_with(tier, *pool, &config);
	if (r)
		pool_close(*pool);
	return r;
}

/* A brickd with two blocks in its memory, which is killed. */
static void be_killed(void)
{
	struct tier_place place;
	struct pool *pool;
	struct tier *tier;

	if (open_both(&pool, &tier, true))
		_exit(1);
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		if (pool_block(pool, slot) == 2 || pool_block(pool, slot) == 3) {
			if (tier_pin(tier, slot, true, &place))
				_exit(2);
			memset(place.address, 'k', 100);
			tier_unpin(tier, slot, true, false);
		}
	_exit(0);
}

static void prepare(void)
{
	uint64_t blocks[4] = {1, 2, 3, 4};
	uint32_t slots[4];
	struct pool_header header;
	struct pool *pool;
	uint32_t version;
	int status[4], end, fd;
	pid_t pid;

	if (uuid[0] | uuid[1] | uuid[2])
		return;
	snprintf(folder, sizeof(folder), "%s/fuzz-pool-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	must(mkdtemp(folder), "no folder for the pool");
	snprintf(path, sizeof(path), "%s/pool", folder);
	atexit(clean_up);
	must(!pool_create(path, FIRST_SLOTS * POOL_SLOT_SIZE), "pool_create");
	must(!pool_open(&pool, path, false), "pool_open");
	must(!pool_take_many(pool, blocks, 4, slots, status) && !status[3], "pool_take_many");
	must(!pool_release(pool, slots[3]), "pool_release");
	pool_close(pool);
	must(!pool_grow(path, SLOTS * POOL_SLOT_SIZE), "pool_grow");
	read_pool(&images[0]);
	must(images[0].size == FULL, "the pool's size");

	pid = fork();
	if (!pid)
		be_killed();
	must(pid > 0 && waitpid(pid, &end, 0) == pid && !end, "no killed brickd");
	read_pool(&images[1]);
	must(pool_header_decode(images[1].header[0], &header, &version) == POOL_HEADER_GOOD && header.memory, "no memory");
	must(!strcmp(header.memory_path, (char *)images[1].header[0] + PATH_AT), "the path is elsewhere in the header");
	snprintf(memory_path, sizeof(memory_path), "%s", header.memory_path);
	memcpy(uuid, header.uuid, sizeof(uuid));
	fd = open(memory_path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0, "no memory file");
	get(fd, images[1].memory, MEMORY_BYTES, 0);
	images[1].memory_size = (uint64_t)lseek(fd, 0, SEEK_END);
	close(fd);
}

/* ---- the program */

struct program { const uint8_t *at, *end; };

static unsigned next(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

static uint64_t next64(struct program *p)
{
	uint64_t value = 0;

	for (unsigned k = 0; k < 8; k++)
		value |= (uint64_t)next(p) << 8 * k;
	return value;
}

/* Differences: at most 16 bytes from some place on. */
static void differ(struct program *p, uint8_t *bytes, size_t size)
{
	size_t at = next(p);
	unsigned n;

	at = (at | next(p) << 8) % size;
	for (n = 1 + next(p) % 16; n && at < size; n--)
		bytes[at++] ^= (uint8_t)next(p);
}

static void sign(struct image *image)
{
	uint64_t sum;

	for (unsigned k = 0; k < 2; k++) {
		sum = htole64(XXH3_64bits(image->header[k], POOL_HEADER_SIZE - 8));
		if (!image->raw[k])
			memcpy(image->header[k] + POOL_HEADER_SIZE - 8, &sum, 8);
	}
	sum = XXH3_64bits(image->memory, MEMORY_SUMMED);
	if (!image->memory_raw)
		memcpy(image->memory + MEMORY_SUMMED, &sum, 8);
}

/* One field of a header, to any value. */
static void set_field(struct program *p, uint8_t bytes[POOL_HEADER_SIZE], unsigned field, uint64_t value)
{
	unsigned chunk = next(p) % 4;
	struct pool_header h;
	uint32_t version;

	if (pool_header_decode(bytes, &h, &version) != POOL_HEADER_GOOD)
		return;
	switch (field % 10) {
	case 0:
		h.sequence = value;
		break;
	case 1:
		h.compat = value;
		break;
	case 2:
		h.ro_compat = value;
		break;
	case 3:
		h.incompat = value;
		break;
	case 4:
		h.flags = (uint32_t)value;
		break;
	case 5:
		h.chunk_count = (uint32_t)(value % (POOL_CHUNKS_MAX + 1));
		break;
	case 6:
		h.chunk[chunk].offset = value;
		break;
	case 7:
		h.chunk[chunk].slots = (uint32_t)value;
		break;
	case 8:
		h.memory = value;
		break;
	case 9:
		h.instance = h.loss_epoch = value;
		break;
	}
	pool_header_encode(&h, bytes);
}

static void enter(struct program *p, struct image *image)
{
	struct memory memory = {.table = (void *)(image->memory + TABLE_AT)};
	unsigned frame = next(p) % 4, slot = next(p), block = next(p);
	struct memory_content content = {.block = block & 15, .slot = slot & 0x80 ? UINT32_MAX - (slot & 15) : slot & 7, .dirty = block & 0x80};

	memcpy(memory.uuid, uuid, sizeof(uuid));
	memory_enter(&memory, frame, &content);
}

/* One of the two copies of the header, or both. */
static bool names_copy(unsigned a, unsigned k)
{
	return a % 4 == k + 1 || a % 4 == 0 || a % 4 == 3;
}

static void run(struct program *p, struct image *image)
{
	static const uint64_t sizes[] = {FULL - 1, FULL + 5000, FULL - POOL_SLOT_SIZE, 5 << 20, 2 << 20, (2 << 20) - 1, 1 << 20, 4096, 100, 0};
	static const uint64_t memory_sizes[] = {8191, 4096, 4095, 40, 31, UINT64_MAX, 2 << 20, 4 << 20, (6 << 20) - 1, (6 << 20) + 1, 8 << 20, 0};
	unsigned a, slot, frames;
	uint64_t value;

	while (p->at < p->end) {
		unsigned op = next(p) % OPS;

		a = next(p);
		switch (op) {
		case HEADER: {
			struct program again = *p;

			for (unsigned k = 0; k < 2; k++) {
				if (!names_copy(a, k))
					continue;
				again = *p;
				differ(&again, image->header[k], POOL_HEADER_SIZE - (a & 4 ? 0 : 8));
				image->raw[k] |= !!(a & 4);
			}
			*p = again;
			break;
		}
		case FIELD:
			value = next64(p);
			sign(image);
			for (unsigned k = 0; k < 2; k++)
				if (names_copy(a, k))
					set_field(&(struct program){p->at, p->end}, image->header[k], a >> 2, value);
			next(p);
			break;
		case WORD:
			slot = a % SLOTS;
			a = next(p);
			value = a & 0x80 ? next64(p) & POOL_BLOCK_MAX : next(p) & 7;
			image->word[slot] = htole64(pool_word(uuid, slot, (enum pool_state)(a & 31), value));
			break;
		case RAW_WORD:
			((uint8_t *)&image->word[a % SLOTS])[a >> 5] ^= (uint8_t)next(p);
			break;
		case SIZE:
			image->size = sizes[a % (sizeof(sizes) / sizeof(sizes[0]))];
			break;
		case MEMORY_HEADER:
			image->memory_raw |= a & 1;
			differ(p, image->memory, 64);
			break;
		case ENTRY:
			enter(p, image);
			break;
		case RAW_TABLE:
			image->memory[TABLE_AT + a % 64] ^= (uint8_t)next(p);
			break;
		case MEMORY_SIZE:
			image->memory_size = memory_sizes[a % (sizeof(memory_sizes) / sizeof(memory_sizes[0]))];
			break;
		case MEMORY_FRAMES:	/* and it has the size that goes with them */
			frames = htole32(a % 4);
			memcpy(image->memory + FRAMES_AT, &frames, 4);
			image->memory_size = (1 + a % 4) * POOL_SLOT_SIZE;
			break;
		}
	}
	/* Files of others are none of our business: whatever path it is, it lies in our folder. */
	for (unsigned k = 0; k < 2; k++) {
		char *at = (char *)image->header[k] + PATH_AT;
		size_t n = strlen(folder);

		if (!*at)
			continue;
		memcpy(at, folder, n);
		at[n] = '/';
		for (n++; n < POOL_PATH_MAX; n++)
			if (at[n] == '/' || (at[n] == '.' && at[n - 1] == '.'))
				at[n] = '_';
	}
	sign(image);
}

/* ---- and what comes of it */

struct live { uint64_t block[SLOTS]; uint32_t slot[SLOTS]; unsigned n; };

static int note(void *arg, uint32_t slot, uint64_t block)
{
	struct live *live = arg;

	must(live->n < SLOTS && slot < SLOTS && block <= POOL_BLOCK_MAX, "more blocks than slots");
	for (unsigned k = 0; k < live->n; k++)
		must(live->block[k] != block && live->slot[k] != slot, "opened, and two slots have one block");
	live->slot[live->n] = slot;
	live->block[live->n++] = block;
	return 0;
}

/* Its first and its last byte. */
static void look(struct tier *tier, uint32_t slot)
{
	struct tier_place place;
	volatile uint8_t *bytes;

	must(!tier_pin(tier, slot, false, &place), "a block cannot be reached");
	bytes = place.address;
	(void)bytes[0];
	(void)bytes[POOL_SLOT_SIZE - 1];
	tier_unpin(tier, slot, false, false);
}

static void use(struct pool *pool, struct tier *tier, const struct live *live)
{
	struct server_config config = server_config_default;
	uint64_t block = 0x5555;
	struct tier_place place;
	struct server *server;
	uint32_t slot, memory;
	int r;

	must(!server_new(&server, pool, tier, &config), "server_new");
	for (unsigned k = 0; k < live->n; k++) {
		look(tier, live->slot[k]);
		block += live->block[k] == block;
	}
	r = pool_take(pool, block, &slot);
	must(!r || (r == -ENOSPC && live->n == pool_slots(pool)), "no block can be allocated");
	if (!r) {
		must(!tier_fresh(tier, slot) && !tier_pin(tier, slot, true, &place), "a new block cannot be reached");
		memset(place.address, 'n', 5000);
		tier_unpin(tier, slot, true, false);
		must(!tier_settle(tier, slot), "settle");
		memory = tier_drop(tier, slot);
		r = pool_release(pool, slot);
		must(!r, "a new block cannot be freed");
		tier_dropped(tier, slot, memory, true);
	}
	must(!pool_failed(pool), "it fails");
	server_delete(server);
}

/* Each word that counts is as it would be written. */
static void words_are_right(const struct pool *pool, const struct image *image)
{
	for (uint32_t k = 0; k < pool_slots(pool) && k < SLOTS; k++) {
		uint64_t word = le64toh(image->word[k]);

		must(word == pool_word(pool_uuid(pool), k, (enum pool_state)(word >> 16 & 31), word >> POOL_SLOT_SHIFT),
		     "opened, and a slot word is damaged");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct image image, after;
	struct live before = {.n = 0}, again = {.n = 0};
	struct program p;
	struct pool *pool;
	struct tier *tier;
	int r;

	if (!size)
		return 0;
	prepare();
	p = (struct program){data + 1, data + size};
	image = images[data[0] & KILLED];
	run(&p, &image);
	write_files(&image);

	atomic_store(&said, 0);
	r = pool_load(&pool, path);
	if (r) {
		must(r == -EINVAL || r == -ENOTSUP || r == -EUCLEAN, "refused, and the pool is not why");
		must(atomic_load(&said), "refused without a word");
		read_pool(&after);
		must(after.size == image.size, "refused, and changed: its size");
		for (unsigned k = 0; k < 2; k++)
			must(image.size < (uint64_t)k * POOL_HEADER_DISTANCE + POOL_HEADER_SIZE ||
			     !memcmp(after.header[k], image.header[k], POOL_HEADER_SIZE), "refused, and changed: a header");
		for (unsigned k = 0; k < SLOTS; k++)
			must(image.size < word_at(k) + 8 || after.word[k] == image.word[k], "refused, and changed: a slot word");
		refused++;
		return 0;
	}
	words_are_right(pool, &image);
	pool_close(pool);
	r = open_both(&pool, &tier, data[0] & MEMORY_MODE);
	must(r <= 0 && r > -4096, "an error that is none");
	if (r) {
		must(atomic_load(&said), "its memory is refused without a word");
		refused_memory++;
		return 0;
	}
	pool_each(pool, note, &before);
	use(pool, tier, &before);
	tier_close(tier);
	pool_close(pool);
	must(!open_both(&pool, &tier, false), "it ended in order, and cannot be opened again");
	must(!pool_unclean(pool), "it ended in order, and does not say so");
	pool_each(pool, note, &again);
	must(!memcmp(&before, &again, sizeof(before)), "it ended in order, and other blocks are there");
	tier_close(tier);
	pool_close(pool);
	opened++;
	return 0;
}

size_t fuzz_sample(uint8_t *buf, unsigned n)
{
	static const struct { unsigned char length, bytes[40]; } samples[] = {
		{1, {0}},
		{1, {KILLED}},
		{1, {MEMORY_MODE}},
		{1, {KILLED | MEMORY_MODE}},
		{7, {KILLED | MEMORY_MODE, HEADER, 1, 24, 0, 0, 1}},
		{8, {0, HEADER, 4 + 2, 104, 0, 1, 7, 9}},
		{12, {0, FIELD, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}},		/* sequence */
		{12, {KILLED | MEMORY_MODE, FIELD, 3 << 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}},		/* incompat */
		{12, {KILLED, FIELD, 4 << 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}},			/* flags: clean */
		{12, {0, FIELD, 5 << 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}},				/* one chunk */
		{12, {0, FIELD, 7 << 2, 1, 0, 0, 0, 0, 0, 0, 0, 1}},				/* slots of the second */
		{12, {0, FIELD, 6 << 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0}},				/* offset of the first */
		{12, {KILLED | MEMORY_MODE, FIELD, 8 << 2, 1, 2, 3, 4, 5, 6, 7, 8, 0}},		/* another memory */
		{5, {0, WORD, 5, POOL_LIVE, 6}},
		{17, {0, WORD, 3, POOL_FREE_DIRTY, 0, WORD, 4, 0x80 | POOL_LIVE, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 0, 0}},
		{5, {0, WORD, 4, POOL_LIVE, 2}},						/* twice */
		{4, {0, RAW_WORD, 0x21, 1}},
		{3, {0, SIZE, 1}},
		{3, {0, SIZE, 2}},
		{7, {KILLED | MEMORY_MODE, MEMORY_HEADER, 0, 8, 0, 0, 3}},
		{5, {KILLED | MEMORY_MODE, ENTRY, 0, 0, 0x81}},
		{9, {KILLED | MEMORY_MODE, ENTRY, 0, 1, 0x82, ENTRY, 1, 1, 0x82}},		/* twice */
		{5, {KILLED | MEMORY_MODE, ENTRY, 1, 0x80, 0x82}},				/* no such slot */
		{4, {KILLED | MEMORY_MODE, RAW_TABLE, 2, 1}},
		{3, {KILLED | MEMORY_MODE, MEMORY_SIZE, 0}},
		{3, {KILLED | MEMORY_MODE, MEMORY_SIZE, 11}},
		{7, {KILLED | MEMORY_MODE, MEMORY_FRAMES, 3, ENTRY, 2, 2, 0x83}},
	};

	if (n >= sizeof(samples) / sizeof(samples[0]))
		return 0;
	memcpy(buf, samples[n].bytes, samples[n].length);
	return samples[n].length;
}

int fuzz_report(unsigned long inputs)
{
	printf("opened %lu, refused %lu, with their memory %lu\n", opened, refused, refused_memory);
	return inputs >= 1000 && (!opened || !refused || !refused_memory);
}
