/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_volume_recall - the volume over simulated bricks whose memory is smaller than what is mapped,
 * handles that a brick does not know any more, and memory that the sessions know.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check_run.h"
#include "core.h"
#include "simbrick.h"
#include "volume.h"

#define ADDR(n) ((uint64_t)(n) << VOL_BLOCK_SHIFT)
#define MIB (1u << 20)

static atomic_int fence_asked;

static int fence(void *arg, const uint8_t uuid[16], const void *page0, const void *page1)
{
	fence_asked++;
	return 0;
}

/* Each volume has a superblock address of its own, so that several can use the same bricks. */
static struct sim *make_sim(unsigned bricks, uint64_t blocks, unsigned volumes)
{
	struct sim *sim = sim_new();

	for (unsigned i = 0; i < bricks; i++) {
		sim_add_brick(sim, blocks);
		for (unsigned v = 0; v < volumes; v++)
			ck_assert_int_eq(sim_poke_alloc(sim, i, ADDR(v)), 0);
	}
	return sim;
}

static struct volume *make_vol(struct sim *sim, const struct backend *backend, unsigned number, unsigned lanes, unsigned maps)
{
	struct vol_options options = {
		.backend = backend, .backend_context = sim, .lanes = lanes, .maps = maps, .timeo_ms = 20000,
		.private_addr = ADDR(number), .name = "test@here",
	};
	uint64_t duplicates;
	struct volume *vol;

	ck_assert_int_eq(vol_new(&vol, &options), 0);
	for (unsigned i = 0; i < sim_bricks(sim); i++) {
		char endpoint[16];
		unsigned brick;

		snprintf(endpoint, sizeof(endpoint), "sim:%u", i);
		ck_assert_int_eq(vol_connect(vol, endpoint, &brick), 0);
	}
	fence_asked = 0;
	ck_assert_int_eq(vol_lock(vol, true, 0), 0);
	vol_set_fence(vol, fence, NULL);
	vol_list(vol, &duplicates);	/* the others' superblocks are on every brick */
	return vol;
}

static void alloc_run(struct volume *vol, unsigned first, unsigned n)
{
	uint64_t addrs[256];

	for (unsigned i = 0; i < n; i++)
		addrs[i] = ADDR(first + i);
	ck_assert_int_eq(vol_alloc(vol, addrs, n), 0);
}

static int put(struct volume *vol, uint64_t addr, const char *text)
{
	struct vol_io io = { .addr = addr, .buffer = (void *)text, .length = strlen(text), .write = true };

	return vol_io(vol, &io, 1);
}

static bool reads(struct volume *vol, uint64_t addr, const char *text)
{
	char buffer[64] = "";
	struct vol_io io = { .addr = addr, .buffer = buffer, .length = strlen(text) };

	ck_assert_int_eq(vol_io(vol, &io, 1), 0);
	return !memcmp(buffer, text, strlen(text));
}

static bool durable(struct sim *sim, unsigned brick, uint64_t addr, const char *text)
{
	char buffer[64] = "";

	ck_assert_int_eq(sim_peek_durable(sim, brick, addr, buffer, strlen(text)), 0);
	return !memcmp(buffer, text, strlen(text));
}

static void doze(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l }, NULL);
}

/* A brick with memory for 6 blocks, a volume that was granted 1024 maps: I/O on 40 blocks goes on, also 16 of them in one call. */
START_TEST(less_memory_than_maps)
{
	struct sim *sim = make_sim(1, 100, 1);
	char text[40][16], back[16][16];
	struct vol_io ios[16];

	sim_set_memory(sim, 0, 6);
	struct volume *vol = make_vol(sim, &backend_sim, 0, 2, 0);

	alloc_run(vol, 1, 40);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(text[i], sizeof(text[i]), "block %u", i);
		ck_assert_int_eq(put(vol, ADDR(1 + i) + 9, text[i]), 0);
	}
	ck_assert_uint_le(sim_mapped(sim, 0), 6);
	memset(back, 0, sizeof(back));
	for (unsigned i = 0; i < 16; i++)
		ios[i] = (struct vol_io){ .addr = ADDR(1 + 2 * i) + 9, .buffer = back[i], .length = strlen(text[2 * i]) };
	ck_assert_int_eq(vol_io(vol, ios, 16), 0);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_str_eq(back[i], text[2 * i]);
	for (unsigned i = 0; i < 16; i++)
		ios[i] = (struct vol_io){ .addr = ADDR(1 + 2 * i) + 99, .buffer = (void *)"together", .length = 8, .write = true };
	ck_assert_int_eq(vol_commit(vol, ios, 16), 0);
	ck_assert_int_eq(vol_persist(vol), 0);
	for (unsigned i = 0; i < 40; i++)
		ck_assert(durable(sim, 0, ADDR(1 + i) + 9, text[i]));
	for (unsigned i = 0; i < 16; i++)
		ck_assert(durable(sim, 0, ADDR(1 + 2 * i) + 99, "together"));
	ck_assert_int_eq(vol_error(vol), 0);
	vol_delete(vol);
	sim_delete(sim);
}
END_TEST

/* Memory for no more than the two maps that each session has for certain: one block at a time, and still everything works. */
START_TEST(least_memory)
{
	struct sim *sim = make_sim(2, 100, 2);

	sim_set_memory(sim, 0, 4);
	sim_set_memory(sim, 1, 4);
	struct volume *a = make_vol(sim, &backend_sim, 0, 2, 0), *b = make_vol(sim, &backend_sim, 1, 2, 0);

	alloc_run(a, 10, 8);
	alloc_run(b, 30, 8);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert_int_eq(put(a, ADDR(10 + i), "first"), 0);
		ck_assert_int_eq(put(b, ADDR(30 + i), "second"), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		ck_assert(reads(a, ADDR(10 + i), "first"));
		ck_assert(reads(b, ADDR(30 + i), "second"));
	}
	ck_assert_int_eq(vol_persist(a), 0);
	ck_assert_int_eq(vol_persist(b), 0);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert(durable(sim, i % 2, ADDR(10 + i), "first"));
		ck_assert(durable(sim, i % 2, ADDR(30 + i), "second"));
	}
	vol_delete(a);
	vol_delete(b);
	sim_delete(sim);
}
END_TEST

/* What the brick recalls is unmapped, the least recently used, the dirty durable before; and the volume does not fetch it back at once. */
START_TEST(recall)
{
	struct sim *sim = make_sim(1, 100, 1);
	struct volume *vol = make_vol(sim, &backend_sim, 0, 3, 0);

	alloc_run(vol, 1, 20);
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(put(vol, ADDR(1 + i), "dirty"), 0);
	ck_assert_uint_eq(sim_mapped(sim, 0), 21);
	vol_give_back(vol);
	ck_assert_uint_eq(sim_mapped(sim, 0), 21);
	sim_recall(sim, 0, 12);
	vol_give_back(vol);
	ck_assert_uint_eq(sim_mapped(sim, 0), 9);
	for (unsigned i = 0; i < 12; i++)
		ck_assert(durable(sim, 0, ADDR(1 + i), "dirty"));
	/* Noticed by I/O, too. */
	for (unsigned i = 0; i < 20; i++)
		ck_assert(reads(vol, ADDR(1 + i), "dirty"));
	ck_assert_uint_le(sim_mapped(sim, 0), 9);
	sim_recall(sim, 0, 4);
	ck_assert(reads(vol, ADDR(1), "dirty"));
	for (unsigned i = 0; i < 20; i++)
		ck_assert(reads(vol, ADDR(1 + i), "dirty"));
	ck_assert_uint_le(sim_mapped(sim, 0), 5);
	/* More than there are: one stays, beside the superblock. */
	sim_recall(sim, 0, UINT64_MAX);
	vol_give_back(vol);
	ck_assert_uint_eq(sim_mapped(sim, 0), 2);
	ck_assert(reads(vol, ADDR(7), "dirty"));
	ck_assert_int_eq(vol_persist(vol), 0);
	vol_delete(vol);
	sim_delete(sim);
}
END_TEST

/* While the brick is content, the volume maps more again, when it has use for it. */
START_TEST(grows_back)
{
	struct sim *sim = make_sim(1, 100, 1);
	struct volume *vol = make_vol(sim, &backend_sim, 0, 2, 0);

	alloc_run(vol, 1, 30);
	for (unsigned i = 0; i < 30; i++)
		ck_assert_int_eq(put(vol, ADDR(1 + i), "x"), 0);
	sim_recall(sim, 0, 100);
	vol_give_back(vol);
	ck_assert_uint_eq(sim_mapped(sim, 0), 2);
	for (unsigned round = 0; round < 500 && sim_mapped(sim, 0) < 5; round++) {
		for (unsigned i = 0; i < 30; i++)
			ck_assert(reads(vol, ADDR(1 + i), "x"));
		doze(20);
	}
	ck_assert_uint_ge(sim_mapped(sim, 0), 5);
	vol_delete(vol);
	sim_delete(sim);
}
END_TEST

struct worker {
	struct volume *vol;
	unsigned number, first, rounds;
	unsigned char stamp[6];		/* of each of its blocks */
	int error;
};

/* Writes and reads its own six blocks, up to four in one call, checks what it reads; commits and persists at times. */
static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned seed = w->number + 1;

	for (unsigned round = 0; round < w->rounds && !w->error; round++) {
		unsigned n = 1 + rand_r(&seed) % 4, from = rand_r(&seed) % 6;
		unsigned char buffer[4][500];
		bool write = rand_r(&seed) % 2;
		struct vol_io ios[4];
		int r;

		for (unsigned i = 0; i < n; i++) {
			memset(buffer[i], write ? round + i : 0, sizeof(buffer[i]));
			ios[i] = (struct vol_io){ .addr = ADDR(w->first + (from + i) % 6) + 4000, .buffer = buffer[i],
						  .length = sizeof(buffer[i]), .write = write };
		}
		r = round % 11 == 3 && write ? vol_commit(w->vol, ios, n) : vol_io(w->vol, ios, n);
		if (!r && round % 17 == 5)
			r = vol_persist(w->vol);
		for (unsigned i = 0; i < n && !r; i++) {
			unsigned char *stamp = &w->stamp[(from + i) % 6];

			if (write)
				*stamp = round + i;
			else if (buffer[i][0] != *stamp || buffer[i][499] != *stamp)
				r = -EUCLEAN;
		}
		w->error = r;
	}
	return NULL;
}

static atomic_bool giving;

static void *give(void *arg)
{
	struct volume **vols = arg;

	while (giving) {
		for (unsigned i = 0; vols[i]; i++)
			vol_give_back(vols[i]);
		doze(1);
	}
	return NULL;
}

#define VOLUMES 3
#define THREADS 6

static void unrest(struct sim *sim, unsigned round)
{
	unsigned brick = round % sim_bricks(sim);

	doze(3);
	switch (round % 4) {
	case 0:
		sim_break_lane(sim, brick, round % 2);
		break;
	case 1:
		sim_lose_session(sim, brick);
		break;
	case 2:
		sim_recall(sim, brick, round % 7);
		break;
	case 3:
		sim_restart(sim, brick);
		break;
	}
}

/*
 * Three volumes of six threads each, up to four blocks a call, over bricks with memory for 6 to 12 blocks: nobody starves, waits
 * for ever or sees ENOMEM; nothing is mixed up, and all is durable in the end. In every second run lanes and sessions are lost meanwhile.
 */
START_TEST(shared_memory)
{
	static const unsigned memory[] = { 6, 9, 12 };
	struct sim *sim = make_sim(_i % 2 + 1, 300, VOLUMES);
	struct volume *vols[VOLUMES + 1] = { NULL };
	struct worker workers[VOLUMES * THREADS];
	pthread_t threads[VOLUMES * THREADS], giver;

	for (unsigned b = 0; b < sim_bricks(sim); b++)
		sim_set_memory(sim, b, memory[_i / 4]);
	for (unsigned v = 0; v < VOLUMES; v++) {
		vols[v] = make_vol(sim, &backend_sim, v, 2, 0);
		alloc_run(vols[v], 10 + v * THREADS * 6, THREADS * 6);
	}
	giving = true;
	pthread_create(&giver, NULL, give, vols);
	for (unsigned i = 0; i < VOLUMES * THREADS; i++) {
		workers[i] = (struct worker){ .vol = vols[i / THREADS], .number = i, .first = 10 + i * 6, .rounds = 120 };
		pthread_create(&threads[i], NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < 12 && _i / 2 % 2; i++)
		unrest(sim, i);
	for (unsigned i = 0; i < VOLUMES * THREADS; i++)
		pthread_join(threads[i], NULL);
	giving = false;
	pthread_join(giver, NULL);
	for (unsigned i = 0; i < VOLUMES * THREADS; i++)
		ck_assert_msg(!workers[i].error, "worker %u: %s; %s", i, strerror(-workers[i].error), vol_text(workers[i].vol));
	for (unsigned v = 0; v < VOLUMES; v++)
		ck_assert_int_eq(vol_persist(vols[v]), 0);
	for (unsigned i = 0; i < VOLUMES * THREADS; i++) {
		for (unsigned k = 0; k < 6; k++) {
			uint64_t addr = ADDR(workers[i].first + k);
			unsigned char byte;

			ck_assert_int_eq(sim_peek_durable(sim, vol_where(workers[i].vol, addr), addr + 4499, &byte, 1), 0);
			ck_assert_uint_eq(byte, workers[i].stamp[k]);
		}
	}
	/* While a session is lost others may take what is kept for it. */
	for (unsigned b = 0; b < sim_bricks(sim) && !(_i / 2 % 2); b++)
		ck_assert_uint_le(sim_mapped(sim, b), memory[_i / 4]);
	for (unsigned v = 0; v < VOLUMES; v++)
		vol_delete(vols[v]);
	ck_assert_uint_eq(sim_mapped(sim, 0), 0);
	sim_delete(sim);
}
END_TEST

/* As verbs does it: the next I/O that is drained was refused by the hardware, with the session already gone or not. */
static struct sim *denying_sim;
static bool deny, session_gone;
static struct backend_io *submitted;

static int remember(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	submitted = io;
	return backend_sim.submit(session, lane, io);
}

static int denying_drain(struct backend_session *session, unsigned lane)
{
	int r = backend_sim.drain(session, lane);

	if (!deny)
		return r;
	deny = false;
	if (session_gone)
		sim_restart(denying_sim, 0);
	else
		sim_break_lane(denying_sim, 0, lane);
	return submitted->status = -EACCES;
}

/* A handle that is void because the brick started again or the session is gone is no error; one of a session that lives is. */
START_TEST(denied)
{
	struct sim *sim = denying_sim = make_sim(1, 20, 1);
	struct backend backend = backend_sim;
	char buffer[8];
	struct vol_io io = { .addr = ADDR(3), .buffer = buffer, .length = 4 };

	backend.submit = remember;
	backend.drain = denying_drain;
	struct volume *vol = make_vol(sim, &backend, 0, 1, 0);

	alloc_run(vol, 3, 1);
	ck_assert_int_eq(put(vol, ADDR(3), "here"), 0);
	deny = session_gone = true;
	ck_assert_int_eq(vol_io(vol, &io, 1), 0);
	ck_assert(!memcmp(buffer, "here", 4));
	ck_assert_int_eq(fence_asked, 1);
	deny = true;
	ck_assert_int_eq(put(vol, ADDR(3) + 100, "there"), 0);
	ck_assert_int_eq(fence_asked, 2);
	deny = true;
	io = (struct vol_io){ .addr = ADDR(3) + 200, .buffer = (void *)"logged", .length = 6, .write = true };
	ck_assert_int_eq(vol_commit(vol, &io, 1), 0);
	ck_assert(durable(sim, 0, ADDR(3) + 200, "logged"));
	/* The persist itself, by means of the handle. */
	ck_assert_int_eq(put(vol, ADDR(3) + 300, "placed"), 0);
	deny = true;
	ck_assert_int_eq(vol_persist(vol), 0);
	ck_assert(durable(sim, 0, ADDR(3) + 100, "there"));
	ck_assert(durable(sim, 0, ADDR(3) + 300, "placed"));
	ck_assert_int_eq(fence_asked, 4);
	/* The session lives: told, and what comes behind it works. */
	deny = true;
	session_gone = false;
	io = (struct vol_io){ .addr = ADDR(3), .buffer = buffer, .length = 4 };
	ck_assert_int_eq(vol_io(vol, &io, 1), -EIO);
	ck_assert_int_eq(fence_asked, 4);
	ck_assert_int_eq(vol_error(vol), 0);
	ck_assert_int_eq(vol_io(vol, &io, 1), 0);
	vol_delete(vol);
	sim_delete(sim);
}
END_TEST

/* Buffers are known to the sessions of all bricks, also of those that come later and come back, until they are removed; failing is no failure. */
START_TEST(buffers)
{
	static char memory[3][8192];
	struct sim *sim = make_sim(2, 20, 1);
	struct vol_options options = { .backend = &backend_sim, .backend_context = sim, .timeo_ms = 5000, .private_addr = ADDR(0) };
	struct volume *vol;
	unsigned brick;
	void *own;

	ck_assert_int_eq(vol_new(&vol, &options), 0);
	ck_assert_int_eq(vol_buffer_add(vol, memory[0], 8192), 0);
	ck_assert_uint_eq(sim_buffers(sim), 0);
	ck_assert_int_eq(vol_connect(vol, "sim:0", &brick), 0);
	ck_assert(sim_knows(sim, memory[0] + 8191, 1));
	ck_assert_int_eq(vol_buffer_add(vol, memory[1], 8192), 0);
	own = vol_buffer_alloc(vol, MIB);
	ck_assert_ptr_nonnull(own);
	ck_assert_int_eq(vol_connect(vol, "sim:1", &brick), 0);
	ck_assert_int_eq(vol_lock(vol, true, 0), 0);
	vol_set_fence(vol, fence, NULL);
	ck_assert_int_eq(vol_list(vol, NULL), 0);
	alloc_run(vol, 4, 2);
	ck_assert(sim_knows(sim, memory[0], 8192) && sim_knows(sim, memory[1], 8192) && sim_knows(sim, own, MIB));
	ck_assert_uint_eq(sim_buffers(sim), 6);
	sim_fault(sim, 1, SIM_REGISTER, 1, -ENOMEM, false);
	ck_assert_int_eq(vol_buffer_add(vol, memory[2], 8192), -ENOMEM);
	ck_assert_uint_eq(sim_buffers(sim), 7);
	vol_buffer_remove(vol, memory[0]);
	ck_assert_uint_eq(sim_buffers(sim), 5);
	/* Another session knows what is there now, and not what is not; and what could not be registered before. */
	sim_lose_session(sim, 1);
	ck_assert_int_eq(put(vol, ADDR(5), "x"), 0);
	ck_assert(sim_knows(sim, memory[1], 8192) && sim_knows(sim, memory[2], 8192) && sim_knows(sim, own, MIB));
	ck_assert_uint_eq(sim_buffers(sim), 6);
	vol_buffer_remove(vol, memory[2]);
	vol_buffer_remove(vol, memory[2]);
	vol_buffer_remove(vol, NULL);
	vol_buffer_remove(vol, own);
	vol_buffer_remove(vol, memory[1]);
	ck_assert_uint_eq(sim_buffers(sim), 0);
	ck_assert_ptr_nonnull(vol_buffer_alloc(vol, MIB));	/* the volume's to give back */
	vol_delete(vol);
	sim_delete(sim);
}
END_TEST

static struct backend_io *large[8];
static unsigned larges;

static int watch(struct backend_session *session, unsigned lane, struct backend_io *io)
{
	static struct backend_io copies[8];

	if (io->op != BACKEND_PERSIST && io->length == MIB && larges < 8) {
		copies[larges] = *io;
		large[larges] = &copies[larges];
		larges++;
	}
	return backend_sim.submit(session, lane, io);
}

/* A write of a megabyte reaches the backend in the memory that fs_write() was given, which the sessions know, and a read likewise: no copy. */
START_TEST(no_copy)
{
	const char *endpoints[] = { "sim:0", "sim:1" };
	struct backend backend = backend_sim;
	struct sim *sim = sim_new();
	struct fs_make_options make = { .backend = &backend, .backend_context = sim, .endpoints = endpoints, .endpoint_count = 2 };
	struct fs_options options = {
		.backend = &backend, .backend_context = sim, .endpoints = endpoints, .endpoint_count = 2, .manual = true,
	};
	struct fs_cred cred = { 0 };
	char *memory = aligned_alloc(4096, 3 * MIB);
	struct stat st;
	struct fs *fs;

	backend.submit = watch;
	sim_add_brick(sim, 40);
	sim_add_brick(sim, 40);
	ck_assert_int_eq(fs_make(&make, NULL), 0);
	ck_assert_int_eq(fs_mount(&fs, &options), 0);
	ck_assert_int_eq(fs_mknod(fs, FS_ROOT_INO, "file", S_IFREG | 0644, 0, &cred, &st), 0);
	ck_assert_int_eq(fs_open(fs, st.st_ino, true), 0);
	ck_assert_int_eq(fs_buffer_add(fs, memory, 3 * MIB), 0);
	memset(memory, 7, 3 * MIB);
	/* From the beginning in a form that stays: a file that grows into another is copied. */
	larges = 0;
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(fs_write(fs, st.st_ino, memory + MIB, MIB, (2 + (uint64_t)i) * MIB), MIB);
	ck_assert_uint_eq(larges, 3);
	sim_lose_session(sim, 0);
	sim_lose_session(sim, 1);
	ck_assert_int_eq(fs_read(fs, st.st_ino, memory + 2 * MIB, MIB, 3 * MIB), MIB);
	ck_assert_uint_ge(larges, 4);
	for (unsigned i = 0; i < larges; i++) {
		ck_assert_ptr_eq(large[i]->buffer, memory + (i < 3 ? MIB : 2 * MIB));
		ck_assert_uint_eq(large[i]->op, i < 3 ? BACKEND_WRITE : BACKEND_READ);
	}
	ck_assert_int_eq(fs_tick(fs), 0);
	ck_assert_int_eq(fs_fsync(fs, st.st_ino, false), 0);
	ck_assert(sim_knows(sim, memory, 3 * MIB));
	fs_buffer_remove(fs, memory);
	ck_assert(!sim_knows(sim, memory, 1));
	ck_assert_int_eq(fs_release(fs, st.st_ino), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_uint_eq(sim_buffers(sim), 0);
	free(memory);
	sim_delete(sim);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume_recall");
	TCase *tcase = tcase_create("volume_recall");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, less_memory_than_maps);
	tcase_add_test(tcase, least_memory);
	tcase_add_test(tcase, recall);
	tcase_add_test(tcase, grows_back);
	tcase_add_loop_test(tcase, shared_memory, 0, 12);
	tcase_add_test(tcase, denied);
	tcase_add_test(tcase, buffers);
	tcase_add_test(tcase, no_copy);
	suite_add_tcase(suite, tcase);

	return check_run(suite);
}
