/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badbrick-cases - the numbered cases: each type of message with a few of the alterations that any may suffer, chosen by the seed,
 * and then those that only one type can have.
 */
#include "badbrick-cases.h"

#include <stdio.h>

#define GENERIC_EACH 3

static const struct {
	const char *name;
	uint16_t type;
	bool tcp_only;
	unsigned phases;	/* in which such a message is sure to come: bits */
	unsigned skip;		/* so many of them are sure to come in each of these phases, at least */
} types[] = {
	{ "hello", WIRE_HELLO, false, 1 << BAD_MAKE | 1 << BAD_MOUNT | 1 << BAD_CHECK, 1 },
	{ "list", WIRE_LIST, false, 1 << BAD_MAKE | 1 << BAD_MOUNT | 1 << BAD_CHECK, 1 },
	{ "map", WIRE_MAP, false, 1 << BAD_MAKE | 1 << BAD_MOUNT | 1 << BAD_USE | 1 << BAD_CHECK, 2 },
	{ "read", WIRE_READ, true, 1 << BAD_MOUNT | 1 << BAD_USE | 1 << BAD_CHECK, 2 },
	{ "write", WIRE_WRITE, true, 1 << BAD_MAKE | 1 << BAD_USE, 2 },
	{ "persist", WIRE_PERSIST, false, 1 << BAD_MAKE | 1 << BAD_USE, 1 },
	{ "alloc", WIRE_ALLOC, false, 1 << BAD_MAKE | 1 << BAD_USE, 1 },
	{ "free", WIRE_FREE, false, 1 << BAD_MAKE | 1 << BAD_USE, 1 },
	{ "unmap", WIRE_UNMAP, false, 1 << BAD_USE | 1 << BAD_CHECK, 1 },
	{ "bye", WIRE_BYE, false, 1 << BAD_MAKE | 1 << BAD_USE | 1 << BAD_CHECK, 1 },
};

static bool fits(uint16_t type, unsigned flags, bool local)
{
	return !local || (type != WIRE_READ && type != WIRE_WRITE && !(flags & TCP_ONLY));
}

/* The generic ones come first: type by type, GENERIC_EACH of them for each. */
static const struct bad_case *find(unsigned number, bool local, uint64_t seed, unsigned *count)
{
	static struct bad_case b;
	unsigned n = 0;

	for (unsigned t = 0; t < N(types); t++)
		for (unsigned k = 0; fits(types[t].type, 0, local) && k < GENERIC_EACH; k++) {
			const struct bad_row *row = &bad_any[(t * GENERIC_EACH + k * 7 + seed) % bad_any_count];
			struct bad_random random = { seed * 1000003 + n };
			unsigned phase = (unsigned)next(&random) % BAD_PHASES;

			if (n++ != number)
				continue;
			while (!(types[t].phases & 1u << phase))
				phase = (phase + 1) % BAD_PHASES;
			b = (struct bad_case){ .type = types[t].type, .phase = (enum bad_phase)phase, .alter = row->alter, .argument = row->argument,
					       .flags = row->flags | (next(&random) & 1 ? ALWAYS : 0), .random = random };
			b.skip = (unsigned)(next(&b.random) % types[t].skip);
			if (phase != BAD_USE || b.flags & ALWAYS || types[t].type == WIRE_BYE)
				b.flags &= ~(unsigned)SURVIVES;
			/* Nobody waits for what becomes of a goodbye. */
			if (types[t].type == WIRE_BYE)
				b.flags |= QUIET;
			snprintf(b.name, sizeof(b.name), "%s-%s", types[t].name, row->name);
			return &b;
		}
	for (unsigned s = 0; s < bad_lies_count; s++) {
		const struct bad_row *row = &bad_lies[s];

		if (!fits(row->type, row->flags, local) || n++ != number)
			continue;
		b = (struct bad_case){ .type = row->type, .phase = row->phase, .alter = row->alter, .argument = row->argument,
				       .flags = row->flags, .random = { seed * 1000003 + n } };
		snprintf(b.name, sizeof(b.name), "%s", row->name);
		return &b;
	}
	*count = n;
	return NULL;
}

unsigned bad_cases(bool local)
{
	unsigned count;

	find(UINT32_MAX, local, 0, &count);
	return count;
}

const struct bad_case *bad_case_find(unsigned number, bool local, uint64_t seed)
{
	unsigned count;

	return find(number, local, seed, &count);
}

void bad_case_print(const struct bad_case *bad)
{
	static const char *const phases[] = { "make", "mount", "use", "check" };
	static const struct {
		unsigned flag;
		const char *word;
	} words[] = { { REFUSED, "refused" }, { SURVIVES, "survives" }, { WRITES, "writes" }, { CONTENT, "content" }, { QUIET, "quiet" },
		    { DAMAGED, "damaged" }, { LEAKS, "leaks" }, { SLOW, "slow" } };
	const char *comma = "";

	printf("%s %s %s %u ", bad->name, phases[bad->phase], bad->flags & ALWAYS ? "always" : "once",
	       bad->flags & SURVIVES ? 60 : 2);
	for (unsigned i = 0; i < N(words); i++)
		if (bad->flags & words[i].flag) {
			printf("%s%s", comma, words[i].word);
			comma = ",";
		}
	puts(*comma ? "" : "-");
}

bool bad_alter(const struct bad_case *bad, enum bad_phase phase, struct bad_frame *f, bool up)
{
	static unsigned seen, done;
	struct bad_case *b = (struct bad_case *)(uintptr_t)bad;
	struct call call = { b, f, &b->random, b->argument };

	if (phase != b->phase || f->type != b->type || up != !!(b->flags & UP) || (done && !(b->flags & ALWAYS)) || seen++ < b->skip)
		return false;
	if (!b->alter(&call))
		return false;
	if (!done++)
		fprintf(stderr, "altered: %s\n", b->name);
	return true;
}
