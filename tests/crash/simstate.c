/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simstate - blocks, pages and pieces of the simulated bricks: see simstate.h.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "simstate.h"

struct page {
	atomic_uint refs;
	_Atomic uint64_t hash;		/* 0: not computed */
	uint8_t data[SIM_PAGE];
};

struct block {
	atomic_uint refs;
	_Atomic uint64_t hash;		/* 0: not computed */
	struct page *durable[SIM_PAGES], *visible[SIM_PAGES];	/* NULL: zeroes */
};

struct entry {
	uint64_t addr;
	struct block *block;
	unsigned writers;		/* read-write maps */
	bool unsettled;
};

struct brick {
	struct entry *entry;		/* by address */
	size_t n, room;
};

struct piece {
	unsigned brick, lane;
	uint64_t connection, addr, seq;
	uint32_t length, from;		/* from: in data */
	bool drained;
	struct sim_data *data;
};

struct sim_state {
	struct brick brick[SIM_BRICKS_MAX];
	unsigned bricks;
	struct piece *piece;		/* in order of submit */
	size_t pieces, piece_room;
	uint64_t seq;
	bool forget_settle;
};

void sim_bug(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("BUG: simbrick: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	abort();
}

void *sim_alloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		sim_bug("out of memory");
	return p;
}

void *sim_grow(void *array, size_t *room, size_t want, size_t size)
{
	if (want <= *room)
		return array;
	size_t more = *room ? *room * 2 : 16;

	if (more < want)
		more = want;
	array = realloc(array, more * size);
	if (!array)
		sim_bug("out of memory");
	*room = more;
	return array;
}

struct sim_data *data_new(const void *bytes, uint32_t length)
{
	struct sim_data *data = sim_alloc(sizeof(*data) + length);

	data->refs = 1;
	data->length = length;
	memcpy(data->bytes, bytes, length);
	return data;
}

struct sim_data *data_ref(struct sim_data *data)
{
	__atomic_add_fetch(&data->refs, 1, __ATOMIC_RELAXED);
	return data;
}

void data_unref(struct sim_data *data)
{
	if (data && !__atomic_sub_fetch(&data->refs, 1, __ATOMIC_ACQ_REL))
		free(data);
}

static void page_unref(struct page *page)
{
	if (page && atomic_fetch_sub(&page->refs, 1) == 1)
		free(page);
}

static struct page *page_ref(struct page *page)
{
	if (page)
		atomic_fetch_add(&page->refs, 1);
	return page;
}

static void block_unref(struct block *block)
{
	if (!block || atomic_fetch_sub(&block->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < SIM_PAGES; i++) {
		page_unref(block->durable[i]);
		page_unref(block->visible[i]);
	}
	free(block);
}

/* The entry's block, for changing: nobody else has it. */
static struct block *own(struct entry *entry)
{
	struct block *old = entry->block;

	if (atomic_load(&old->refs) > 1) {
		struct block *block = sim_alloc(sizeof(*block));

		atomic_init(&block->refs, 1);
		for (unsigned i = 0; i < SIM_PAGES; i++) {
			block->durable[i] = page_ref(old->durable[i]);
			block->visible[i] = page_ref(old->visible[i]);
		}
		block_unref(old);
		entry->block = block;
	}
	atomic_store(&entry->block->hash, 0);
	return entry->block;
}

static void put_bytes(struct page **pages, uint32_t offset, const uint8_t *bytes, uint32_t length)
{
	while (length) {
		struct page **slot = &pages[offset / SIM_PAGE], *page = *slot;
		uint32_t at = offset % SIM_PAGE, n = SIM_PAGE - at < length ? SIM_PAGE - at : length;

		if (!page || atomic_load(&page->refs) > 1) {
			struct page *copy = sim_alloc(sizeof(*copy));

			atomic_init(&copy->refs, 1);
			if (page)
				memcpy(copy->data, page->data, SIM_PAGE);
			page_unref(page);
			*slot = page = copy;
		}
		atomic_store(&page->hash, 0);
		memcpy(page->data + at, bytes, n);
		bytes += n;
		offset += n;
		length -= n;
	}
}

static size_t position(const struct brick *brick, uint64_t addr)
{
	size_t low = 0, high = brick->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (brick->entry[mid].addr < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct entry *find(const struct sim_state *state, unsigned brick, uint64_t addr)
{
	const struct brick *b = &state->brick[brick];
	uint64_t start = addr & ~(uint64_t)(SIM_BLOCK - 1);
	size_t i = position(b, start);

	return i < b->n && b->entry[i].addr == start ? &b->entry[i] : NULL;
}

struct sim_state *state_new(void)
{
	return sim_alloc(sizeof(struct sim_state));
}

struct sim_state *state_clone(const struct sim_state *state)
{
	struct sim_state *copy = sim_alloc(sizeof(*copy));

	*copy = *state;
	for (unsigned b = 0; b < state->bricks; b++) {
		const struct brick *from = &state->brick[b];
		struct brick *to = &copy->brick[b];

		to->room = from->n;
		to->entry = sim_alloc(from->n * sizeof(*to->entry));
		for (size_t i = 0; i < from->n; i++) {
			to->entry[i] = from->entry[i];
			atomic_fetch_add(&to->entry[i].block->refs, 1);
		}
	}
	copy->piece_room = state->pieces;
	copy->piece = sim_alloc(state->pieces * sizeof(*copy->piece));
	for (size_t i = 0; i < state->pieces; i++) {
		copy->piece[i] = state->piece[i];
		data_ref(copy->piece[i].data);
	}
	return copy;
}

void state_delete(struct sim_state *state)
{
	if (!state)
		return;
	for (unsigned b = 0; b < state->bricks; b++) {
		for (size_t i = 0; i < state->brick[b].n; i++)
			block_unref(state->brick[b].entry[i].block);
		free(state->brick[b].entry);
	}
	for (size_t i = 0; i < state->pieces; i++)
		data_unref(state->piece[i].data);
	free(state->piece);
	free(state);
}

void state_add_brick(struct sim_state *state)
{
	state->bricks++;
}

uint64_t state_seq(const struct sim_state *state)
{
	return state->seq;
}

void state_forget_settle(struct sim_state *state, bool on)
{
	state->forget_settle = on;
}

bool state_has(const struct sim_state *state, unsigned brick, uint64_t addr)
{
	return find(state, brick, addr) != NULL;
}

bool state_next(const struct sim_state *state, unsigned brick, uint64_t from, uint64_t *addr)
{
	size_t i = position(&state->brick[brick], from);

	if (i >= state->brick[brick].n)
		return false;
	*addr = state->brick[brick].entry[i].addr;
	return true;
}

uint64_t state_used(const struct sim_state *state, unsigned brick)
{
	return state->brick[brick].n;
}

void state_read(const struct sim_state *state, unsigned brick, uint64_t addr, bool durable, void *buffer, uint32_t length)
{
	struct entry *entry = find(state, brick, addr);
	uint32_t offset = addr & (SIM_BLOCK - 1);
	uint8_t *to = buffer;

	while (length) {
		struct page *page = (durable ? entry->block->durable : entry->block->visible)[offset / SIM_PAGE];
		uint32_t at = offset % SIM_PAGE, n = SIM_PAGE - at < length ? SIM_PAGE - at : length;

		if (page)
			memcpy(to, page->data + at, n);
		else
			memset(to, 0, n);
		to += n;
		offset += n;
		length -= n;
	}
}

/* Puts a piece where `at` is; takes over the reference to its data. */
static void piece_insert(struct sim_state *state, size_t at, const struct piece *piece)
{
	state->piece = sim_grow(state->piece, &state->piece_room, state->pieces + 1, sizeof(*piece));
	memmove(&state->piece[at + 1], &state->piece[at], (state->pieces - at) * sizeof(*piece));
	state->piece[at] = *piece;
	state->pieces++;
}

static void pieces_compact(struct sim_state *state)
{
	size_t n = 0;

	for (size_t i = 0; i < state->pieces; i++) {
		if (!state->piece[i].length) {
			data_unref(state->piece[i].data);
			continue;
		}
		state->piece[n++] = state->piece[i];
	}
	state->pieces = n;
}

/* Takes [addr, addr + length) out of the piece at i; returns how many pieces were inserted behind it. */
static size_t piece_cut(struct sim_state *state, size_t i, uint64_t addr, uint64_t length)
{
	struct piece *p = &state->piece[i];
	uint64_t end = p->addr + p->length, cut_end = addr + length;

	if (addr >= end || cut_end <= p->addr)
		return 0;
	struct piece tail = *p;

	if (cut_end < end) {
		tail.from += cut_end - tail.addr;
		tail.addr = cut_end;
		tail.length = end - cut_end;
	}
	p->length = addr > p->addr ? addr - p->addr : 0;
	if (cut_end >= end)
		return 0;
	data_ref(tail.data);
	piece_insert(state, i + 1, &tail);
	return 1;
}

/* The persist: what the connection had submitted before seq within the range is durable. */
static void cover(struct sim_state *state, const struct sim_event *ev, uint64_t seq, const struct backend_range *range)
{
	struct entry *entry = find(state, ev->brick, range->addr);

	if (!entry)
		return;
	for (size_t i = 0; i < state->pieces; i++) {
		struct piece p = state->piece[i];
		uint64_t low = p.addr > range->addr ? p.addr : range->addr;
		uint64_t high = p.addr + p.length, range_end = range->addr + range->length;

		if (high > range_end)
			high = range_end;
		if (p.brick != ev->brick || p.connection != ev->connection || p.seq >= seq || low >= high)
			continue;
		put_bytes(own(entry)->durable, low & (SIM_BLOCK - 1), p.data->bytes + p.from + (low - p.addr), high - low);
		/* What was there before it cannot come back. */
		for (size_t k = 0; k <= i; k++) {
			if (state->piece[k].brick != ev->brick || !state->piece[k].length)
				continue;
			size_t more = piece_cut(state, k, low, high - low);

			i += more;
			k += more;
		}
	}
	pieces_compact(state);
}

static void drop_pieces(struct sim_state *state, unsigned brick, uint64_t block)
{
	for (size_t i = 0; i < state->pieces; i++)
		if (state->piece[i].brick == brick && (state->piece[i].addr & ~(uint64_t)(SIM_BLOCK - 1)) == block)
			state->piece[i].length = 0;
	pieces_compact(state);
}

static void copy_pages(struct page **to, struct page *const *from)
{
	for (unsigned i = 0; i < SIM_PAGES; i++) {
		if (to[i] == from[i])
			continue;
		page_unref(to[i]);
		to[i] = page_ref(from[i]);
	}
}

static void settle(struct sim_state *state, unsigned brick, struct entry *entry)
{
	struct block *block = own(entry);

	copy_pages(block->durable, block->visible);
	drop_pieces(state, brick, entry->addr);
	entry->unsettled = false;
}

static void insert_entry(struct sim_state *state, unsigned brick, uint64_t addr)
{
	struct brick *b = &state->brick[brick];
	size_t i = position(b, addr);
	struct block *block = sim_alloc(sizeof(*block));

	atomic_init(&block->refs, 1);
	b->entry = sim_grow(b->entry, &b->room, b->n + 1, sizeof(*b->entry));
	memmove(&b->entry[i + 1], &b->entry[i], (b->n - i) * sizeof(*b->entry));
	b->entry[i] = (struct entry){ .addr = addr, .block = block };
	b->n++;
}

static void remove_entry(struct sim_state *state, unsigned brick, uint64_t addr)
{
	struct brick *b = &state->brick[brick];
	size_t i = position(b, addr);

	drop_pieces(state, brick, addr);
	block_unref(b->entry[i].block);
	memmove(&b->entry[i], &b->entry[i + 1], (b->n - i - 1) * sizeof(*b->entry));
	b->n--;
}

static void end_writer(struct sim_state *state, struct entry *entry, bool clean)
{
	if (!entry)
		return;
	if (entry->writers)
		entry->writers--;
	if (!clean && !state->forget_settle)
		entry->unsettled = true;
}

static void apply_write(struct sim_state *state, const struct sim_record *r)
{
	struct entry *entry = find(state, r->ev.brick, r->ev.addr);
	struct piece piece = {
		.brick = r->ev.brick, .lane = r->ev.lane, .connection = r->ev.connection, .addr = r->ev.addr,
		.seq = state->seq, .length = r->ev.length, .data = r->data,
	};

	put_bytes(own(entry)->visible, r->ev.addr & (SIM_BLOCK - 1), r->data->bytes, r->ev.length);
	data_ref(piece.data);
	piece_insert(state, state->pieces, &piece);
}

uint64_t state_apply(struct sim_state *state, const struct sim_record *r)
{
	const struct sim_event *ev = &r->ev;
	struct entry *entry = NULL;

	switch (ev->kind) {
	case SIM_EV_WRITE:
		apply_write(state, r);
		break;
	case SIM_EV_WRITE_DONE:
		for (size_t i = state->pieces; i-- > 0 && state->piece[i].seq >= r->seq; )
			if (state->piece[i].seq == r->seq)
				state->piece[i].drained = true;
		break;
	case SIM_EV_PERSIST_DONE:
		for (size_t i = 0; i < r->count && !r->dropped; i++)
			cover(state, ev, r->seq, &r->ranges[i]);
		break;
	case SIM_EV_ALLOC:
		insert_entry(state, ev->brick, ev->addr);
		break;
	case SIM_EV_FREE:
		remove_entry(state, ev->brick, ev->addr);
		break;
	case SIM_EV_MAP:
		entry = find(state, ev->brick, ev->addr);
		if (entry->unsettled)
			settle(state, ev->brick, entry);
		entry->writers += r->write;
		break;
	case SIM_EV_UNMAP:
		if (r->write)
			end_writer(state, find(state, ev->brick, ev->addr), r->clean);
		break;
	case SIM_EV_END:
		for (size_t i = 0; i < r->count; i++)
			end_writer(state, find(state, ev->brick, r->addrs[i]), false);
		break;
	case SIM_EV_RESTART:
		if (r->lost)
			state_crash(state, ev->brick, SIM_POWER_CUT, r->selection);
		break;
	case SIM_EV_PERSIST:
	case SIM_EV_MARK:
		break;
	}
	return state->seq++;
}

void state_poke(struct sim_state *state, unsigned brick, uint64_t addr, const void *buffer, uint32_t length)
{
	struct entry *entry = find(state, brick, addr);
	struct block *block = own(entry);

	put_bytes(block->durable, addr & (SIM_BLOCK - 1), buffer, length);
	put_bytes(block->visible, addr & (SIM_BLOCK - 1), buffer, length);
	for (size_t i = 0; i < state->pieces; i++)
		if (state->piece[i].brick == brick)
			i += piece_cut(state, i, addr, length);
	pieces_compact(state);
}

static uint32_t piece_atoms(const struct piece *p)
{
	return (p->addr + p->length - 1) / SIM_ATOM - p->addr / SIM_ATOM + 1;
}

size_t state_pieces(const struct sim_state *state, uint64_t seq0, struct sim_piece *pieces, size_t max, uint64_t *atoms)
{
	uint64_t bit = 0;

	for (size_t i = 0; i < state->pieces; i++) {
		const struct piece *p = &state->piece[i];

		if (i < max)
			pieces[i] = (struct sim_piece){
				.brick = p->brick, .lane = p->lane, .addr = p->addr, .length = p->length,
				.event = p->seq >= seq0 ? p->seq - seq0 : UINT64_MAX,
				.drained = p->drained, .first_atom = bit, .atoms = piece_atoms(p),
			};
		bit += piece_atoms(p);
	}
	*atoms = bit;
	return state->pieces;
}

/* Calls for every run of selected bytes of the piece, whose first atom has this bit. */
static void each_selected(const struct piece *p, const uint8_t *selection, uint64_t bit, bool all,
			  void (*fn)(void *arg, const struct piece *run), void *arg)
{
	uint64_t first = p->addr / SIM_ATOM, n = piece_atoms(p);

	for (uint64_t a = 0; a < n; ) {
		uint64_t from = a;

		while (a < n && (all || (selection && selection[(bit + a) / 8] >> (bit + a) % 8 & 1)))
			a++;
		if (a == from) {
			a++;
			continue;
		}
		uint64_t low = (first + from) * SIM_ATOM, high = (first + a) * SIM_ATOM;
		struct piece run = *p;

		if (low < p->addr)
			low = p->addr;
		if (high > p->addr + p->length)
			high = p->addr + p->length;
		run.addr = low;
		run.length = high - low;
		run.from = p->from + (low - p->addr);
		run.drained = true;
		fn(arg, &run);
	}
}

static void run_durable(void *arg, const struct piece *run)
{
	struct entry *entry = find(arg, run->brick, run->addr);

	put_bytes(own(entry)->durable, run->addr & (SIM_BLOCK - 1), run->data->bytes + run->from, run->length);
}

static void run_keep(void *arg, const struct piece *run)
{
	struct sim_state *state = arg;

	data_ref(run->data);
	piece_insert(state, state->pieces, run);
}

static void power_cut(struct sim_state *state, int brick, const uint8_t *selection)
{
	uint64_t bit = 0;

	for (size_t i = 0; i < state->pieces; i++) {
		struct piece *p = &state->piece[i];
		uint32_t atoms = piece_atoms(p);

		if (brick < 0 || p->brick == (unsigned)brick) {
			each_selected(p, selection, bit, false, run_durable, state);
			p->length = 0;
		}
		bit += atoms;
	}
	pieces_compact(state);
}

static void client_crash(struct sim_state *state, const uint8_t *selection)
{
	struct piece *old = state->piece;
	size_t n = state->pieces;
	uint64_t bit = 0;

	state->piece = NULL;
	state->pieces = state->piece_room = 0;
	for (size_t i = 0; i < n; i++) {
		each_selected(&old[i], selection, bit, old[i].drained, run_keep, state);
		bit += piece_atoms(&old[i]);
		if (!old[i].drained) {
			struct entry *entry = find(state, old[i].brick, old[i].addr);
			struct block *block = own(entry);

			copy_pages(block->visible, block->durable);
			entry->unsettled |= entry->writers > 0;
		}
	}
	/* What is visible again: everything that is left, in order.  Where nothing was taken away this changes nothing. */
	for (size_t i = 0; i < state->pieces; i++) {
		struct piece *p = &state->piece[i];

		put_bytes(own(find(state, p->brick, p->addr))->visible, p->addr & (SIM_BLOCK - 1),
			  p->data->bytes + p->from, p->length);
	}
	for (size_t i = 0; i < n; i++)
		data_unref(old[i].data);
	free(old);
}

void state_crash(struct sim_state *state, int brick, enum sim_crash crash, const uint8_t *selection)
{
	if (crash == SIM_POWER_CUT)
		power_cut(state, brick, selection);
	else
		client_crash(state, selection);
	for (unsigned b = 0; b < state->bricks; b++) {
		if (brick >= 0 && b != (unsigned)brick)
			continue;
		for (size_t i = 0; i < state->brick[b].n; i++) {
			struct entry *entry = &state->brick[b].entry[i];

			if (crash == SIM_POWER_CUT) {
				if (entry->unsettled || entry->writers ||
				    memcmp(entry->block->durable, entry->block->visible, sizeof(entry->block->durable))) {
					struct block *block = own(entry);

					copy_pages(block->visible, block->durable);
				}
				entry->unsettled = false;
			} else if (entry->writers && !state->forget_settle) {
				entry->unsettled = true;
			}
			entry->writers = 0;
		}
	}
}

void state_crash_apart(struct sim_state *state, unsigned brick, const uint8_t *selection)
{
	uint64_t atoms, from = 0, to = 0;
	uint8_t *rest;

	/* The bits of the pieces that are left when that brick's are gone. */
	state_pieces(state, 0, NULL, 0, &atoms);
	rest = sim_alloc(atoms / 8 + 1);
	for (size_t i = 0; i < state->pieces; i++) {
		uint32_t n = piece_atoms(&state->piece[i]);

		for (uint32_t a = 0; a < n && state->piece[i].brick != brick; a++, to++)
			if (selection && selection[(from + a) / 8] >> (from + a) % 8 & 1)
				rest[to / 8] |= (uint8_t)(1u << to % 8);
		from += n;
	}
	state_crash(state, (int)brick, SIM_POWER_CUT, selection);
	state_crash(state, -1, SIM_CLIENT_CRASH, rest);
	free(rest);
}

static uint64_t page_hash(struct page *page)
{
	static const uint8_t zeroes[SIM_PAGE];
	uint64_t hash;

	if (!page)
		return XXH3_64bits(zeroes, SIM_PAGE) | 1;
	hash = atomic_load(&page->hash);
	if (!hash) {
		hash = XXH3_64bits(page->data, SIM_PAGE) | 1;
		atomic_store(&page->hash, hash);
	}
	return hash;
}

static uint64_t block_hash(struct block *block)
{
	uint64_t hash = atomic_load(&block->hash), pages[2 * SIM_PAGES], zero = page_hash(NULL);

	if (hash)
		return hash;
	for (unsigned i = 0; i < SIM_PAGES; i++) {
		pages[2 * i] = block->durable[i] ? page_hash(block->durable[i]) : zero;
		pages[2 * i + 1] = block->visible[i] == block->durable[i] ? pages[2 * i] :
				   block->visible[i] ? page_hash(block->visible[i]) : zero;
	}
	hash = XXH3_64bits(pages, sizeof(pages)) | 1;
	atomic_store(&block->hash, hash);
	return hash;
}

uint64_t state_hash(const struct sim_state *state)
{
	uint64_t hash = state->bricks;

	for (unsigned b = 0; b < state->bricks; b++) {
		for (size_t i = 0; i < state->brick[b].n; i++) {
			const struct entry *entry = &state->brick[b].entry[i];
			uint64_t key[4] = { b, entry->addr, block_hash(entry->block), entry->unsettled };

			hash += XXH3_64bits(key, sizeof(key));
		}
	}
	for (size_t i = 0; i < state->pieces; i++) {
		const struct piece *p = &state->piece[i];
		uint64_t key[5] = { hash, p->brick, p->addr, p->length, XXH3_64bits(p->data->bytes + p->from, p->length) };

		hash = XXH3_64bits(key, sizeof(key));
	}
	return hash;
}
