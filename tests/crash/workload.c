/* SPDX-License-Identifier: BSD-3-Clause */
/* workload - see workload.h. Text and making; running is in workload-run.c. */
#include "workload.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum form { F_P, F_PQ, F_PN, F_PNN, F_PO, F_PXN, F_PX, F_NP, F_N, F_NONE };

static const struct {
	const char *name;
	enum form form;
} kinds[STEP_KINDS] = {
	[STEP_CREATE] = {"create", F_P},	 [STEP_MKDIR] = {"mkdir", F_P},
	[STEP_FIFO] = {"fifo", F_P},		 [STEP_SYMLINK] = {"symlink", F_PN},
	[STEP_LINK] = {"link", F_PQ},		 [STEP_UNLINK] = {"unlink", F_P},
	[STEP_RMDIR] = {"rmdir", F_P},		 [STEP_RENAME] = {"rename", F_PQ},
	[STEP_NOREPLACE] = {"noreplace", F_PQ},	 [STEP_EXCHANGE] = {"exchange", F_PQ},
	[STEP_WRITE] = {"write", F_PNN},	 [STEP_APPEND] = {"append", F_PN},
	[STEP_TRUNCATE] = {"truncate", F_PN},	 [STEP_READ] = {"read", F_PNN},
	[STEP_PUNCH] = {"punch", F_PNN},	 [STEP_ZERO] = {"zero", F_PNN},
	[STEP_ZEROKEEP] = {"zerokeep", F_PNN},	 [STEP_FALLOC] = {"falloc", F_PNN},
	[STEP_FALLOCKEEP] = {"fallockeep", F_PNN}, [STEP_SETXATTR] = {"setxattr", F_PXN},
	[STEP_RMXATTR] = {"rmxattr", F_PX},	 [STEP_CHMOD] = {"chmod", F_PO},
	[STEP_CHOWN] = {"chown", F_PN},		 [STEP_UTIME] = {"utime", F_PN},
	[STEP_OPEN] = {"open", F_NP},		 [STEP_CLOSE] = {"close", F_N},
	[STEP_FLUSH] = {"flush", F_P},		 [STEP_FSYNC] = {"fsync", F_P},
	[STEP_FDATASYNC] = {"fdatasync", F_P},	 [STEP_STATFS] = {"statfs", F_NONE},
	[STEP_TICK] = {"tick", F_NONE},		 [STEP_CHECKPOINT] = {"checkpoint", F_NONE},
	[STEP_RESTART] = {"restart", F_N},	 [STEP_REMOUNT] = {"remount", F_NONE},
};

void workload_add(struct workload *w, const struct step *step)
{
	w->steps = need(realloc(w->steps, (w->count + 1) * sizeof(*w->steps)));
	w->steps[w->count++] = *step;
}

void workload_free(struct workload *w)
{
	free(w->steps);
	memset(w, 0, sizeof(*w));
}

static bool parse_path(const char *word, char *path)
{
	if (!word || strlen(word) >= WORKLOAD_PATH_MAX)
		return false;
	if (word[0] == '@' ? word[1] < '0' || word[1] >= '0' + WORKLOAD_SLOTS || word[2] : word[0] != '/')
		return false;
	strcpy(path, word);
	return true;
}

static bool parse_number(const char *word, uint64_t *number)
{
	char *end;

	if (!word)
		return false;
	*number = strtoull(word, &end, 10);
	if (*end == 'k')
		*number <<= 10;
	else if (*end == 'm')
		*number <<= 20;
	else
		return !*end && end != word;
	return !end[1];
}

static bool parse_step(char *text, struct step *s)
{
	char *save, *word[5] = {NULL}, *end;
	size_t n = 0, kind;

	for (word[n] = strtok_r(text, " \t\n", &save); word[n]; word[n] = strtok_r(NULL, " \t\n", &save))
		if (++n == 5)
			return false;
	memset(s, 0, sizeof(*s));
	for (kind = 0; kind < STEP_KINDS && (!n || strcmp(kinds[kind].name, word[0])); kind++)
		;
	if (kind == STEP_KINDS)
		return false;
	s->kind = kind;
	switch (kinds[kind].form) {
	case F_P:
		return n == 2 && parse_path(word[1], s->path);
	case F_PQ:
		return n == 3 && parse_path(word[1], s->path) && parse_path(word[2], s->other);
	case F_PN:
		return n == 3 && parse_path(word[1], s->path) && parse_number(word[2], &s->a);
	case F_PNN:
		return n == 4 && parse_path(word[1], s->path) && parse_number(word[2], &s->a) && parse_number(word[3], &s->b);
	case F_PO:
		if (n != 3 || !parse_path(word[1], s->path))
			return false;
		s->a = strtoull(word[2], &end, 8);
		return !*end;
	case F_PXN:
	case F_PX:
		if (n < 3 || !parse_path(word[1], s->path) || strlen(word[2]) >= sizeof(s->other))
			return false;
		strcpy(s->other, word[2]);
		return kinds[kind].form == F_PX ? n == 3 : n == 4 && parse_number(word[3], &s->a);
	case F_NP:
		return n == 3 && parse_number(word[1], &s->a) && s->a < WORKLOAD_SLOTS && parse_path(word[2], s->path) &&
		       s->path[0] == '/';
	case F_N:
		return n == 2 && parse_number(word[1], &s->a) && s->a < WORKLOAD_SLOTS;
	case F_NONE:
		return n == 1;
	}
	return false;
}

int workload_parse(struct workload *w, const char *text, char **bad)
{
	char *copy = need(strdup(text)), *save, *part, *original;
	struct step s;
	int rc = 0;

	memset(w, 0, sizeof(*w));
	*bad = NULL;
	for (part = strtok_r(copy, ";", &save); part && !rc; part = strtok_r(NULL, ";", &save)) {
		if (!part[strspn(part, " \t\n")])
			continue;
		original = need(strdup(part));
		if (parse_step(part, &s)) {
			workload_add(w, &s);
			free(original);
		} else {
			*bad = original;
			rc = -EINVAL;
		}
	}
	free(copy);
	if (rc)
		workload_free(w);
	return rc;
}

static char *number_text(uint64_t number, char *text)
{
	if (number && number % (1 << 20) == 0)
		sprintf(text, "%llum", (unsigned long long)(number >> 20));
	else if (number && number % 1024 == 0)
		sprintf(text, "%lluk", (unsigned long long)(number >> 10));
	else
		sprintf(text, "%llu", (unsigned long long)number);
	return text;
}

void step_text(const struct step *s, char *text, size_t size)
{
	const char *name = kinds[s->kind].name;
	char a[32], b[32];

	switch (kinds[s->kind].form) {
	case F_P:
		snprintf(text, size, "%s %s", name, s->path);
		break;
	case F_PQ:
	case F_PX:
		snprintf(text, size, "%s %s %s", name, s->path, s->other);
		break;
	case F_PN:
		snprintf(text, size, "%s %s %s", name, s->path, number_text(s->a, a));
		break;
	case F_PNN:
		snprintf(text, size, "%s %s %s %s", name, s->path, number_text(s->a, a), number_text(s->b, b));
		break;
	case F_PO:
		snprintf(text, size, "%s %s %llo", name, s->path, (unsigned long long)s->a);
		break;
	case F_PXN:
		snprintf(text, size, "%s %s %s %s", name, s->path, s->other, number_text(s->a, a));
		break;
	case F_NP:
		snprintf(text, size, "%s %llu %s", name, (unsigned long long)s->a, s->path);
		break;
	case F_N:
		snprintf(text, size, "%s %llu", name, (unsigned long long)s->a);
		break;
	case F_NONE:
		snprintf(text, size, "%s", name);
		break;
	}
}

char *workload_text(const struct workload *w)
{
	char *text = NULL, one[2 * WORKLOAD_PATH_MAX + 100];
	size_t i, size;
	FILE *out = need(open_memstream(&text, &size));

	for (i = 0; i < w->count; i++) {
		step_text(&w->steps[i], one, sizeof(one));
		fprintf(out, "%s%s", i ? "; " : "", one);
	}
	fclose(out);
	return text;
}

uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

const char *workload_start(unsigned start)
{
	static const char *const starts[WORKLOAD_STARTS] = {
		"mkdir /d",
		"mkdir /d; write /a 0 100; write /b 0 10000; write /d/a 0 1300k; link /b /d/b; symlink /d/c 20; "
		"mkdir /e; create /e/a; setxattr /b user.old 30",
		"mkdir /d; mkdir /e; write /k 0 9000; write /d/v 0 9000; write /d/w 0 20000; write /l 0 5000; write /d/x 0 1300k; "
		"write /d/y 0 1300k",
	};

	return starts[start % WORKLOAD_STARTS];
}

/* Every one of these on each of three files ... */
static const char *const file_letters[] = {
	"create %s",		"write %s 0 100",	"write %s 0 9000",    "write %s 0 1300k",  "write %s 50 20",
	"write %s 4090 4200",	"append %s 100",	"append %s 70000",    "append %s 1100k",   "truncate %s 0",
	"truncate %s 60",	"truncate %s 5000",	"truncate %s 2m",     "punch %s 0 4096",   "punch %s 100 1m",
	"zero %s 100 9000",	"falloc %s 0 20000",	"falloc %s 0 3m",     "fallockeep %s 0 9000", "unlink %s",
	"setxattr %s user.x 20", "fsync %s",		"fdatasync %s",       "write %s 1900k 400k",
};
static const char *const files[] = {"/a", "/b", "/d/a"};
/* ... and these. */
static const char *const other_letters[] = {
	"link /a /d/c",	   "link /b /c",	"symlink /c 30",   "rename /a /b",    "rename /b /a",
	"rename /a /d/a",  "rename /d/a /b",	"rename /a /c",	   "rename /d/b /b",  "exchange /a /b",
	"exchange /a /d",  "rename /d /e/d",	"rename /e /d/c",  "noreplace /a /b", "noreplace /b /c",
	"mkdir /c",	   "mkdir /d/c",	"rmdir /d",	   "rmdir /d/c",      "unlink /e/a",
	"rename /c /e",	   "chmod /a 600",	"chmod /d 2775",   "utime /b 1000",   "rmxattr /b user.old",
	"setxattr /a user.big 3000", "fsync /",	"fsync /d",	   "tick",	      "checkpoint",
	"remount",	   "restart 0",		"open 0 /a",		"open 0 /d/a",	   "write @0 0 200k", "close 0",
};

#define FILE_LETTERS (sizeof(file_letters) / sizeof(file_letters[0]))
#define FILES (sizeof(files) / sizeof(files[0]))
#define OTHER_LETTERS (sizeof(other_letters) / sizeof(other_letters[0]))

size_t workload_letters(void)
{
	return FILES * FILE_LETTERS + OTHER_LETTERS;
}

void workload_letter(size_t number, struct step *step)
{
	char text[128];

	if (number < FILES * FILE_LETTERS) {
		const char *letter = file_letters[number / FILES], *gap = strstr(letter, "%s");

		snprintf(text, sizeof(text), "%.*s%s%s", (int)(gap - letter), letter, files[number % FILES], gap + 2);
	} else {
		snprintf(text, sizeof(text), "%s", other_letters[(number - FILES * FILE_LETTERS) % OTHER_LETTERS]);
	}
	if (!parse_step(text, step)) {
		fprintf(stderr, "crash: letter %zu does not parse\n", number);
		abort();
	}
}

static const char *const classics[] = {
	/* replaced by rename, and by truncation; without and with fsync */
	"write /c 0 9000; rename /c /b",
	"write /c 0 100; fsync /c; rename /c /a; fsync /",
	"truncate /a 0; write /a 0 9000; fsync /a",
	/* what was dropped is written again */
	"truncate /b 60; truncate /b 9000",
	"truncate /d/a 60; append /d/a 100",
	"truncate /d/a 5000; truncate /d/a 2m",
	"falloc /d/a 0 3m; write /d/a 1900k 400k; tick; punch /d/a 0 4m; write /d/a 1900k 400k",
	/* pages and blocks go to another file */
	"unlink /b; unlink /d/b; write /c 0 9000; fsync /c",
	"write /c 0 9000; unlink /b; unlink /d/b; tick; falloc /a 0 9000; append /a 5000",
	"unlink /d/a; write /c 0 1300k; fdatasync /c",
	"write /c 0 3m; truncate /c 100k; unlink /c",
	/* from form to form */
	"append /a 450; write /a 600 8; fsync /a; append /a 70000; append /a 1100k",
	"append /b 70000; write /b 50 20; append /b 1100k; fdatasync /b; truncate /b 60",
	/* deleted while open */
	"open 0 /d/a; unlink /d/a; write @0 0 200k; tick; close 0",
	/* directories */
	"rename /d /e/d; rename /e /f; fsync /f; mkdir /d; rename /f/d/a /d/b",
	"exchange /a /d; fsync /d; unlink /d",
	/* checkpoints between */
	"checkpoint; write /b 50 20; unlink /a; checkpoint; setxattr /b user.big 3000; fsync /b",
	"write /c 0 9000; checkpoint; rename /c /b; remount; checkpoint; unlink /b",
	/* a brick comes back with all its bytes, and nothing of it is mapped */
	"write /c 0 9000; restart 0; append /c 5000; fsync /c; write /d/a 100 5000; restart 0; truncate /d/a 60; restart 0; fsync /d/a",
};

size_t workload_classics(void)
{
	return sizeof(classics) / sizeof(classics[0]);
}

const char *workload_classic(size_t number)
{
	return classics[number];
}

/* One that gives storage up, ... */
static const char *const droppers[] = {
	"unlink /d/v",		"unlink /d/w",		"rename /k /d/w",	"truncate /d/v 0",	"truncate /d/w 60",
	"append /d/w 70000",	"append /d/v 1100k",	"unlink /d/x",		"truncate /d/x 100",	"punch /d/x 0 2m",
	"open 0 /d/w; unlink /d/w; close 0",
};
/* ... something between, or nothing, */
static const char *const between[] = {"", "tick; ", "fsync /l; "};
/* ... one that takes some, as much, less or more, whole pages or parts, */
static const char *const takers[] = {
	"write /n 0 9000",	"write /n 0 20000",	"write /e/n 0 5000; write /e/m 0 3000",	"append /l 9000",
	"write /n 0 1300k",	"write /n 8000 1000",	"falloc /n 0 12000; write /n 100 50",	"truncate /l 0; write /l 0 20000",
};
/* ... and what follows: the same again, too. */
static const char *const endings[] = {"", "; fsync /e; fsync /l", "; tick; unlink /l; write /o 0 9000; fsync /o; unlink /d/y; write /e/p 0 2m"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

size_t workload_reuses(void)
{
	return COUNT(droppers) * COUNT(between) * COUNT(takers) * COUNT(endings);
}

void workload_reuse(struct workload *w, size_t number)
{
	size_t d = number % COUNT(droppers), b = number / COUNT(droppers) % COUNT(between);
	size_t t = number / COUNT(droppers) / COUNT(between) % COUNT(takers);
	size_t e = number / COUNT(droppers) / COUNT(between) / COUNT(takers) % COUNT(endings);
	char text[512], *bad;

	/* what was never there cannot be written */
	snprintf(text, sizeof(text), "%s; %s%s%s%s", droppers[d], between[b], strstr(takers[t], "falloc /n") ? "create /n; " : "",
		 takers[t], endings[e]);
	if (workload_parse(w, text, &bad)) {
		fprintf(stderr, "crash: reuse %zu does not parse: %s\n", number, bad);
		abort();
	}
}

static void random_path(uint64_t *r, char *path)
{
	static const char *const dirs[] = {"", "/d", "/d/s", "/e"};
	static const char *const names[] = {"a", "b", "c", "d", "e", "s"};

	snprintf(path, WORKLOAD_PATH_MAX, "%s/%s", dirs[random_below(r, 4)], names[random_below(r, 6)]);
}

static uint64_t random_size(uint64_t *r, bool heavy)
{
	static const uint64_t edges[] = {1, 8, 100, 255, 256, 512, 1000, 4095, 4096, 4097, 8192, 20000, 65536, 100000};

	switch (random_below(r, heavy ? 12 : 20)) {
	case 0:
		return 1 + random_below(r, 3 << 20);
	case 1:
		return (1 << 20) - 100 + random_below(r, 200);
	case 2:
		return (2 << 20) - 100 + random_below(r, 200);
	case 3:
	case 4:
		return 1 + random_below(r, 300000);
	case 5:
		return heavy ? 4 << 20 : 5000;
	case 6:
	case 7:
	case 8:
		return edges[random_below(r, sizeof(edges) / sizeof(edges[0]))];
	default:
		return 1 + random_below(r, 6000);
	}
}

void workload_random(struct workload *w, uint64_t seed, size_t steps, bool heavy)
{
	/* how often each kind comes, in no unit */
	static const unsigned char often[STEP_KINDS] = {
		[STEP_CREATE] = 6, [STEP_MKDIR] = 5, [STEP_FIFO] = 1, [STEP_SYMLINK] = 2, [STEP_LINK] = 4, [STEP_UNLINK] = 6,
		[STEP_RMDIR] = 3, [STEP_RENAME] = 8, [STEP_NOREPLACE] = 1, [STEP_EXCHANGE] = 2, [STEP_WRITE] = 20,
		[STEP_APPEND] = 10, [STEP_TRUNCATE] = 8, [STEP_READ] = 5, [STEP_PUNCH] = 3, [STEP_ZERO] = 2,
		[STEP_ZEROKEEP] = 1, [STEP_FALLOC] = 2, [STEP_FALLOCKEEP] = 2, [STEP_SETXATTR] = 4, [STEP_RMXATTR] = 2,
		[STEP_CHMOD] = 2, [STEP_CHOWN] = 1, [STEP_UTIME] = 1, [STEP_OPEN] = 3, [STEP_CLOSE] = 2, [STEP_FLUSH] = 1,
		[STEP_FSYNC] = 3, [STEP_FDATASYNC] = 2, [STEP_STATFS] = 1, [STEP_TICK] = 6, [STEP_CHECKPOINT] = 1,
		[STEP_RESTART] = 2, [STEP_REMOUNT] = 1,
	};
	static const unsigned modes[] = {0600, 0644, 0755, 02755, 01777, 0};
	uint64_t r = seed, sum = 0, pick;
	size_t i;

	memset(w, 0, sizeof(*w));
	for (i = 0; i < STEP_KINDS; i++)
		sum += often[i];
	while (w->count < steps) {
		struct step s = {0};

		pick = random_below(&r, sum);
		for (i = 0; pick >= often[i]; i++)
			pick -= often[i];
		s.kind = i;
		if (i == STEP_MKDIR && random_below(&r, 2))
			strcpy(s.path, random_below(&r, 2) ? "/d" : random_below(&r, 2) ? "/d/s" : "/e");
		else
			random_path(&r, s.path);
		random_path(&r, s.other);
		if (i >= STEP_WRITE && i <= STEP_FALLOCKEEP && random_below(&r, 5) == 0)
			snprintf(s.path, sizeof(s.path), "@%u", (unsigned)random_below(&r, WORKLOAD_SLOTS));
		s.a = random_below(&r, 3) ? random_size(&r, heavy) : 0;
		s.b = random_size(&r, heavy);
		switch (kinds[i].form) {
		case F_PN:
			if (i == STEP_SYMLINK)
				s.a = 1 + random_below(&r, random_below(&r, 5) ? 60 : 4000);
			if (i == STEP_APPEND)
				s.a = random_size(&r, heavy);
			if (i == STEP_CHOWN)
				s.a = random_below(&r, 2000);
			break;
		case F_PXN:
		case F_PX:
			snprintf(s.other, sizeof(s.other), "user.%c", (int)('a' + random_below(&r, 3)));
			s.a = random_below(&r, random_below(&r, 4) ? 50 : 5000);
			break;
		case F_PO:
			s.a = modes[random_below(&r, 6)];
			break;
		case F_NP:
		case F_N:
			s.a = random_below(&r, WORKLOAD_SLOTS);
			break;
		default:
			break;
		}
		workload_add(w, &s);
	}
}
