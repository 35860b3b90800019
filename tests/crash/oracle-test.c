/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle-test - what the oracle allows after a crash, and what it does not: each rule of oracle.h both ways. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/check_run.h"
#include "oracle-impl.h"

#define A 10	/* inode numbers */
#define B 11

static struct oracle *o;
static struct tree tree;

/* The tree that state k shows. */
static void show(unsigned k)
{
	const struct ostate *s = &o->states[k];
	struct oracle past = {.now = *s};
	size_t i, j;

	tree_free(&tree);
	tree.nodes = calloc(s->count, sizeof(*tree.nodes));
	tree.count = s->count;
	for (i = 0; i < s->count; i++) {
		const struct onode *n = s->nodes[i];
		struct tree_node *t = &tree.nodes[i];

		t->path = strdup(n->ino == A ? "/a" : n->ino == B ? "/b" : "/");
		t->st = (struct stat){.st_ino = n->ino, .st_mode = n->mode, .st_nlink = n->nlink, .st_size = n->size,
				      .st_mtim = n->mtime, .st_ctim = n->ctime};
		t->entry_count = n->entry_count;
		t->entries = calloc(n->entry_count + 1, sizeof(*t->entries));
		for (j = 0; j < n->entry_count; j++)
			t->entries[j] = (struct tree_entry){strdup(n->entries[j].name), n->entries[j].ino, j + 1};
		if (S_ISREG(n->mode)) {
			t->data = malloc(n->size + 8);
			oracle_read(&past, n->ino, 0, t->data, n->size);
		}
	}
}

static uint8_t *data(uint64_t ino)
{
	return tree_find(&tree, ino)->data;
}

static void resize(uint64_t ino, uint64_t size)
{
	struct tree_node *n = (struct tree_node *)tree_find(&tree, ino);

	n->data = realloc(n->data, size + 8);
	if (size > (uint64_t)n->st.st_size)
		memset(n->data + n->st.st_size, 0, size - n->st.st_size);
	n->st.st_size = size;
}

static bool allowed(unsigned step, bool in_flight, unsigned *state)
{
	char *why = oracle_allowed(o, step, in_flight, &tree, state);
	bool good = !why;

	free(why);
	return good;
}

static unsigned make(uint64_t ino, const char *name)
{
	unsigned step = oracle_begin(o, "make");

	ck_assert_int_eq(oracle_make(o, FS_ROOT_INO, name, S_IFREG | 0644, 0, 0, NULL, ino), 0);
	oracle_end(o);
	return step;
}

static unsigned put(uint64_t ino, uint64_t offset, uint64_t length)
{
	unsigned step = oracle_begin(o, "write");

	ck_assert_int_eq(oracle_write(o, ino, offset, length, false), 0);
	oracle_end(o);
	return step;
}

static unsigned cut(uint64_t ino, uint64_t size)
{
	unsigned step = oracle_begin(o, "truncate");
	struct stat st = {.st_size = size};

	ck_assert_int_eq(oracle_setattr(o, ino, &st, FS_SET_SIZE), 0);
	oracle_end(o);
	return step;
}

static unsigned sync_one(uint64_t ino)
{
	unsigned step = oracle_begin(o, "fsync");

	oracle_durable(o, ino, false);
	oracle_end(o);
	return step;
}

static unsigned move(const char *from, const char *to)
{
	unsigned step = oracle_begin(o, "rename");

	ck_assert_int_eq(oracle_rename(o, FS_ROOT_INO, from, FS_ROOT_INO, to, 0), 0);
	oracle_end(o);
	return step;
}

static void setup(void)
{
	o = oracle_new();
}

static void teardown(void)
{
	tree_free(&tree);
	oracle_delete(o);
}

/* Any prefix, but nothing before the last fsync, and no step left out. */
START_TEST(prefix)
{
	unsigned a = make(A, "a"), b = make(B, "b"), sync = sync_one(A), cb = cut(B, 100), ca = cut(A, 50), state;

	show(sync);
	ck_assert(allowed(ca, false, &state));
	show(cb);
	ck_assert(allowed(ca, false, &state));
	ck_assert_uint_eq(state, cb);
	show(ca);
	ck_assert(allowed(ca, false, NULL));
	ck_assert(allowed(ca, true, NULL));
	ck_assert(!allowed(cb, false, NULL));	/* not begun */
	resize(B, 0);				/* a's new size without b's earlier one */
	ck_assert(!allowed(ca, false, NULL));
	show(0);				/* a was fsynced */
	ck_assert(!allowed(ca, false, NULL));
	show(a);
	ck_assert(allowed(ca, false, NULL));	/* b was not */
	ck_assert(allowed(b, false, NULL));
}
END_TEST

/* An fsync that has not returned promises nothing. */
START_TEST(sync_in_flight)
{
	unsigned sync;

	make(A, "a");
	sync = sync_one(A);
	show(0);
	ck_assert(allowed(sync, true, NULL));
	ck_assert(!allowed(sync, false, NULL));
}
END_TEST

/* Overwritten bytes are old or new per unit, and nothing else. */
START_TEST(old_or_new)
{
	unsigned first, last;
	uint64_t unit;

	make(A, "a");
	first = put(A, 0, 4096);
	sync_one(A);
	last = put(A, 64, 64);
	show(last);
	ck_assert(allowed(last, false, NULL));
	oracle_fill(first, 72, data(A) + 72, 8);
	ck_assert(allowed(last, false, NULL));
	oracle_fill(first, 80, data(A) + 80, 4);	/* torn inside a unit */
	ck_assert(!allowed(last, false, NULL));
	show(last);
	memset(data(A) + 72, 0, 8);
	ck_assert(!allowed(last, false, NULL));
	show(last);
	unit = oracle_unit(last, 16);	/* new, but of another place */
	memcpy(data(A) + 72, &unit, 8);
	ck_assert(!allowed(last, false, NULL));
	show(last);
	unit = oracle_unit(last, 2);	/* outside the written range */
	memcpy(data(A) + 16, &unit, 8);
	ck_assert(!allowed(last, false, NULL));
	show(last);
	sync_one(A);
	oracle_fill(first, 72, data(A) + 72, 8);	/* fsynced by now */
	ck_assert(!allowed(o->step, false, NULL));
}
END_TEST

/* A size is not there before its bytes; one write may get there in parts; what a write skipped is zero. */
START_TEST(growth)
{
	unsigned first, last;

	make(A, "a");
	first = put(A, 0, 100);
	sync_one(A);
	last = put(A, 200, 1000);
	show(last);
	ck_assert(allowed(last, false, NULL));
	memset(data(A) + 800, 0, 8);
	ck_assert(!allowed(last, false, NULL));
	show(last);
	data(A)[150] = 1;
	ck_assert(!allowed(last, false, NULL));
	show(last);
	resize(A, 600);
	ck_assert(allowed(last, false, NULL));
	show(last);
	resize(A, 1201);
	ck_assert(!allowed(last, false, NULL));
	show(first);
	ck_assert(allowed(last, false, NULL));
	resize(A, 99);
	ck_assert(!allowed(last, false, NULL));
}
END_TEST

/* From beyond a durable shrink nothing comes back; before it is durable nothing is written there. */
START_TEST(shrink)
{
	unsigned first, down, up, again;

	make(A, "a");
	first = put(A, 0, 4096);
	sync_one(A);
	down = cut(A, 100);
	up = cut(A, 4096);
	show(first);
	ck_assert(allowed(up, false, NULL));
	memset(data(A) + 200, 0, 8);	/* the later zeroing, with the old size */
	ck_assert(!allowed(up, false, NULL));
	show(down);
	ck_assert(allowed(up, false, NULL));
	show(up);
	ck_assert(allowed(up, false, NULL));
	oracle_fill(first, 200, data(A) + 200, 8);
	ck_assert(!allowed(up, false, NULL));
	again = put(A, 200, 8);
	show(first);
	oracle_fill(again, 200, data(A) + 200, 8);
	ck_assert(!allowed(again, false, NULL));
	show(up);
	oracle_fill(again, 200, data(A) + 200, 8);	/* in place, its mtime not committed */
	ck_assert(allowed(again, false, NULL));
}
END_TEST

/* A rename brings the bytes along. */
START_TEST(renamed)
{
	unsigned first, over, move_step;

	make(A, "a");
	make(B, "b");
	first = put(A, 0, 64);
	sync_one(A);
	over = put(A, 0, 64);
	move_step = move("a", "b");
	show(over);
	oracle_fill(first, 8, data(A) + 8, 8);
	ck_assert(allowed(move_step, false, NULL));
	show(move_step);
	ck_assert(allowed(move_step, false, NULL));
	oracle_fill(first, 8, data(A) + 8, 8);
	ck_assert(!allowed(move_step, false, NULL));
}
END_TEST

/* A hole that was punched may be there or not, until fsync. */
START_TEST(punched)
{
	unsigned first, step;

	make(A, "a");
	first = put(A, 0, 8192);
	sync_one(A);
	step = oracle_begin(o, "punch");
	ck_assert_int_eq(oracle_fallocate(o, A, 3, 4096, 4096), 0);
	oracle_end(o);
	show(step);
	ck_assert(allowed(step, false, NULL));
	oracle_fill(first, 4096, data(A) + 4096, 8);
	ck_assert(allowed(step, false, NULL));
	sync_one(A);
	ck_assert(!allowed(o->step, false, NULL));
}
END_TEST

/* What a write that failed left is old or new, inside the old size. */
START_TEST(failed_write)
{
	unsigned first, step;

	make(A, "a");
	first = put(A, 0, 64);
	sync_one(A);
	step = oracle_begin(o, "write");
	oracle_write(o, A, 32, 64, true);
	oracle_end(o);
	show(step);
	ck_assert(allowed(step, false, NULL));
	oracle_fill(step, 40, data(A) + 40, 8);
	ck_assert(allowed(step, false, NULL));
	oracle_fill(step, 24, data(A) + 24, 8);
	ck_assert(!allowed(step, false, NULL));
	oracle_fill(first, 24, data(A) + 24, 8);
	resize(A, 72);
	ck_assert(!allowed(step, false, NULL));
}
END_TEST

START_TEST(whose)
{
	uint64_t index;
	uint32_t source;

	ck_assert(oracle_whose(oracle_unit(77, 123456), &source, &index));
	ck_assert_uint_eq(source, 77);
	ck_assert_uint_eq(index, 123456);
	ck_assert(!oracle_whose(0x1234567812345678, &source, &index));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("oracle");
	TCase *t = tcase_create("allowed");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, prefix);
	tcase_add_test(t, sync_in_flight);
	tcase_add_test(t, old_or_new);
	tcase_add_test(t, growth);
	tcase_add_test(t, shrink);
	tcase_add_test(t, renamed);
	tcase_add_test(t, punched);
	tcase_add_test(t, failed_write);
	tcase_add_test(t, whose);
	suite_add_tcase(suite, t);
	return check_run(suite);
}
