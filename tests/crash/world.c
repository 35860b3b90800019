/* SPDX-License-Identifier: BSD-3-Clause */
/* world - see world.h. */
#include "world.h"
#include "format.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HANG_SECONDS 900	/* of a busy machine */

static char the_case[16384];

void world_case(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(the_case, sizeof(the_case), format, args);
	va_end(args);
}

static void caught(int sig)
{
	static const char fatal[] = "\nVIOLATION: the core ", hung[] = "does not come back";
	const char *how = sig == SIGALRM ? hung : sig == SIGABRT ? "aborted" : "crashed";
	ssize_t n;

	n = write(STDERR_FILENO, fatal, sizeof(fatal) - 1);
	n += write(STDERR_FILENO, how, strlen(how));
	n += write(STDERR_FILENO, "\n", 1);
	n += write(STDERR_FILENO, the_case, strlen(the_case));
	n += write(STDERR_FILENO, "\n", 1);
	signal(sig, SIG_DFL);
	if (n && sig == SIGALRM)
		_exit(1);
	raise(sig);
}

void world_catch(void)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
	size_t i;

	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		signal(sigs[i], caught);
}

void world_alive(void)
{
	alarm(HANG_SECONDS);
}

static const char *const endpoints[WORLD_BRICKS_MAX] = {"sim:0", "sim:1", "sim:2", "sim:3", "sim:4", "sim:5", "sim:6", "sim:7"};

#define FRESH_MAX 16
static struct fresh {
	unsigned bricks;
	uint64_t blocks;
	struct sim *sim;
} fresh[FRESH_MAX];
static size_t fresh_count;

struct sim *world_fresh(unsigned bricks, uint64_t blocks, char **why)
{
	struct fs_make_options make = {.backend = &backend_sim, .endpoints = endpoints, .endpoint_count = bricks,
				       .label = "crash"};
	struct fs_info made;
	struct sim *sim;
	size_t i;
	int rc;

	*why = NULL;
	for (i = 0; i < fresh_count; i++)
		if (fresh[i].bricks == bricks && fresh[i].blocks == blocks)
			return fresh[i].sim;
	sim = sim_new();
	for (i = 0; i < bricks; i++)
		sim_add_brick(sim, blocks);
	make.backend_context = sim;
	rc = fs_make(&make, &made);
	if (rc) {
		*why = say("mkfs: %s (%s)", strerror(-rc), fs_error_text());
		sim_delete(sim);
		return NULL;
	}
	if (fresh_count == FRESH_MAX)
		world_forget();
	fresh[fresh_count++] = (struct fresh){bricks, blocks, sim};
	return sim;
}

void world_forget(void)
{
	while (fresh_count)
		sim_delete(fresh[--fresh_count].sim);
}

struct complaints {
	bool torn_super;	/* is no complaint */
	char *text;
};

static void complain(void *arg, const char *code, const char *text)
{
	struct complaints *c = arg;
	char *old = c->text;

	if (c->torn_super && !strcmp(code, "super-copy"))
		return;
	c->text = say("%s%s%s: %s", old ? old : "", old ? "; " : "", code, text);
	free(old);
}

enum how { MOUNT, CHECK, REPAIR };

static bool always(void *arg, const struct fs_problem *problem, const char *text)
{
	(void)arg;
	(void)problem;
	(void)text;
	return true;
}

static int mount_with(struct sim *sim, struct fs **fs, enum how how, struct complaints *complaints)
{
	struct fs_options options = {.backend = &backend_sim, .backend_context = sim, .endpoints = endpoints,
				     .endpoint_count = sim_bricks(sim), .noatime = true, .manual = true, .check = how != MOUNT,
				     .readonly = how != MOUNT, .decide = how == REPAIR ? always : NULL, .problem = complain, .problem_arg = complaints};

	*fs = NULL;
	return fs_mount(fs, &options);
}

int world_mount(struct sim *sim, struct fs **fs, bool crashed, char **why)
{
	struct complaints complaints = {.torn_super = crashed};
	struct fs_info info;
	int rc;

	*why = NULL;
	rc = mount_with(sim, fs, MOUNT, &complaints);
	if (rc) {
		*why = say("mount: %s (%s)%s%s", strerror(-rc), fs_error_text(), complaints.text ? "; it told " : "",
			   complaints.text ? complaints.text : "");
	} else {
		fs_get_info(*fs, &info);
		if (complaints.text)
			*why = say("mount told: %s", complaints.text);
		else if (info.readonly)
			*why = say("mount is read-only");
		if (*why) {
			fs_abandon(*fs);
			*fs = NULL;
			rc = -EUCLEAN;
		}
	}
	free(complaints.text);
	return rc;
}

uint64_t world_data_blocks(struct sim *sim)
{
	uint64_t used = 0, addr;
	unsigned i;

	for (i = 0; i < sim_bricks(sim); i++)
		for (addr = 0; sim_next(sim, i, addr, &addr); addr++)
			used += fmt_kind(addr) != FMT_SUPER && fmt_kind(addr) != FMT_LOG;
	return used;
}

/* ---- a world ---- */

static int remount(struct run *run, void *arg)
{
	struct world *w = arg;
	char *why;
	int rc;

	rc = fs_unmount(run->fs);
	run->fs = NULL;
	if (rc)
		return rc;
	rc = world_mount(w->sim, &run->fs, false, &why);
	if (why) {
		fprintf(stderr, "remount: %s\n", why);
		free(why);
	}
	return rc;
}

static void restart(struct run *run, unsigned brick)
{
	struct world *w = run->arg;

	sim_restart(w->sim, brick % sim_bricks(w->sim));
}

static void boundary(struct run *run, bool returned)
{
	struct world *w = run->arg;
	unsigned step = oracle_steps(run->oracle);

	if (step >= w->bounds) {
		w->bounds = step + 64;
		w->begins = need(realloc(w->begins, w->bounds * sizeof(*w->begins)));
		w->ends = need(realloc(w->ends, w->bounds * sizeof(*w->ends)));
	}
	if (returned)
		w->ends[step] = sim_mark(w->sim, step);
	else
		w->begins[step] = sim_mark(w->sim, step);
}

int world_open(struct world *w, struct sim *from, char **why)
{
	memset(w, 0, sizeof(*w));
	w->sim = sim_snapshot(from);
	w->run.oracle = oracle_new();
	w->run.remount = remount;
	w->run.boundary = boundary;
	w->run.restart = restart;
	w->run.arg = w;
	return world_mount(w->sim, &w->run.fs, false, why);
}

char *world_run(struct world *w, const struct workload *workload, size_t *failed_at)
{
	char text[2 * WORKLOAD_PATH_MAX + 100], *why, *whole;
	size_t i;

	for (i = 0; i < workload->count; i++) {
		why = run_step(&w->run, &workload->steps[i]);
		if (!why)
			continue;
		step_text(&workload->steps[i], text, sizeof(text));
		whole = say("step %zu (%s): %s", i + 1, text, why);
		free(why);
		if (failed_at)
			*failed_at = i;
		return whole;
	}
	return NULL;
}

char *world_run_text(struct world *w, const char *text)
{
	struct workload steps;
	char *why, *bad;

	if (workload_parse(&steps, text, &bad)) {
		why = say("this step cannot be read: %s", bad);
		free(bad);
		return why;
	}
	why = world_run(w, &steps, NULL);
	workload_free(&steps);
	return why;
}

void world_record(struct world *w)
{
	w->recorded_from = oracle_steps(w->run.oracle);
	sim_record(w->sim, true);
}

char *world_compare(struct world *w)
{
	struct tree tree;
	char *why;

	if (!tree_take(&tree, w->run.fs, &why))
		why = oracle_compare(w->run.oracle, &tree);
	tree_free(&tree);
	return why;
}

char *world_unmount(struct world *w)
{
	int rc;

	run_close(&w->run);
	oracle_begin(w->run.oracle, "unmount");
	boundary(&w->run, false);
	rc = fs_unmount(w->run.fs);
	w->run.fs = NULL;
	if (!rc)
		oracle_durable_all(w->run.oracle);
	oracle_end(w->run.oracle);
	boundary(&w->run, true);
	return rc ? say("unmount: %s", strerror(-rc)) : NULL;
}

void world_close(struct world *w)
{
	if (w->run.fs)
		fs_abandon(w->run.fs);
	oracle_delete(w->run.oracle);
	run_free(&w->run);
	sim_delete(w->sim);
	free(w->begins);
	free(w->ends);
	memset(w, 0, sizeof(*w));
}

/* ---- after a crash ---- */

char *world_check(struct sim *sim, bool crashed)
{
	struct complaints complaints = {0};
	struct fs_check_result result;
	char *why = NULL;
	struct fs *fs;
	int rc;

	rc = mount_with(sim, &fs, CHECK, &complaints);
	if (rc) {
		why = say("fsck cannot open it: %s (%s)", strerror(-rc), fs_error_text());
	} else {
		rc = fs_check(fs, &result);
		if (rc || result.problems > (crashed ? result.repairable : 0))
			why = say("fsck%s: %s, %llu problems: %s", crashed ? " before the recovery" : "", rc ? strerror(-rc) : "done",
				  (unsigned long long)result.problems, complaints.text ? complaints.text : "none was told");
		rc = fs_unmount(fs);
		if (rc && !why)
			why = say("end of fsck: %s", strerror(-rc));
	}
	free(complaints.text);
	return why;
}

char *world_repair(struct sim *sim, struct tree *shown, bool *no_room)
{
	struct complaints complaints = {0};
	struct fs_check_result result;
	char *why = NULL;
	struct fs *fs;
	int rc;

	rc = mount_with(sim, &fs, REPAIR, &complaints);
	if (rc) {
		why = say("fsck -y cannot open it: %s (%s)", strerror(-rc), fs_error_text());
	} else {
		rc = fs_check(fs, &result);
		if (rc || result.problems > result.repairable)
			why = say("fsck -y: %s, %llu problems: %s", rc ? strerror(-rc) : "done",
				  (unsigned long long)result.problems, complaints.text ? complaints.text : "none was told");
		if (!why && shown)
			tree_take(shown, fs, &why);
		if (!why) {
			rc = fs_repair(fs);
			*no_room = rc == -ENOSPC;
			if (rc && !*no_room)
				why = say("fsck -y: the repair: %s (%s)", strerror(-rc), fs_error_text());
		}
		rc = fs_unmount(fs);
		if (rc && !why)
			why = say("end of fsck -y: %s", strerror(-rc));
	}
	free(complaints.text);
	return why;
}

/* Growing a file must show zeroes, whatever the crash left behind its end. */
static char *check_tails(struct fs *fs, const struct tree *tree)
{
	uint8_t *buffer = need(malloc(65536));
	char *why = NULL;
	size_t i, j;

	for (i = 0; i < tree->count && !why; i++) {
		const struct tree_node *n = &tree->nodes[i];
		uint64_t size = n->st.st_size;
		struct stat st = {0}, out;
		int64_t rc;

		if (!S_ISREG(n->st.st_mode))
			continue;
		st.st_size = size + 65536 - size % 7;
		rc = fs_setattr(fs, n->st.st_ino, &st, FS_SET_SIZE, &out);
		if (!rc) {
			fs_open(fs, n->st.st_ino, false);
			rc = fs_read(fs, n->st.st_ino, buffer, st.st_size - size, size);
			fs_release(fs, n->st.st_ino);
		}
		if (rc != (int64_t)(st.st_size - size)) {
			why = rc == -ENOSPC ? NULL : say("%s: growing it, and reading there: %lld", n->path, (long long)rc);
			continue;
		}
		for (j = 0; j < (size_t)rc && !why; j++) {
			uint64_t unit, index;
			uint32_t source;

			if (!buffer[j])
				continue;
			unit = 0;
			memcpy(&unit, buffer + j, sizeof(unit));
			why = say("%s: was %llu bytes; grown, byte %llu is %02x, not zero%s", n->path, (unsigned long long)size,
				  (unsigned long long)(size + j), buffer[j],
				  oracle_whose(unit, &source, &index) ? " (an old write)" : "");
		}
	}
	free(buffer);
	return why;
}

/* A user at work: new files of each form, read back, renamed. */
static char *use(struct fs *fs)
{
	static const uint64_t sizes[] = {50, 9000, 1025 << 10};
	static const struct fs_cred cred = {.uid = 1, .gid = 1};
	static uint8_t *buffer, *back;
	struct stat dir, st;
	char *why = NULL;
	int64_t rc;
	size_t i;

	if (!buffer) {
		buffer = need(malloc(2 << 20));
		back = need(malloc(2 << 20));
		oracle_fill(7, 0, buffer, 2 << 20);
	}
	rc = fs_mkdir(fs, FS_ROOT_INO, "new", 0755, &cred, &dir);
	for (i = 0; !rc && !why && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		rc = fs_mknod(fs, dir.st_ino, "file", S_IFREG | 0644, 0, &cred, &st);
		if (rc)
			break;
		rc = fs_open(fs, st.st_ino, true);
		if (!rc)
			rc = fs_write(fs, st.st_ino, buffer, sizes[i], 0);
		if (rc == (int64_t)sizes[i]) {
			rc = fs_fsync(fs, st.st_ino, false);
			if (!rc && fs_read(fs, st.st_ino, back, sizes[i], 0) != (int64_t)sizes[i])
				why = say("use: what was written cannot be read");
			else if (!rc && memcmp(buffer, back, sizes[i]))
				why = say("use: what was written reads differently");
		}
		fs_release(fs, st.st_ino);
		fs_forget(fs, st.st_ino, 1);
		if (!rc && !why)
			rc = fs_rename(fs, dir.st_ino, "file", FS_ROOT_INO, i & 1 ? "renamed" : "moved", 0);
	}
	if (rc && rc != -ENOSPC && !why)
		why = say("use: %s", strerror(-rc));
	fs_forget(fs, dir.st_ino, 1);
	return why;
}

static char *delete_below(struct fs *fs, const struct tree *tree, const struct tree_node *dir)
{
	char *why = NULL;
	size_t i;
	int rc;

	for (i = 0; i < dir->entry_count && !why; i++) {
		const struct tree_node *n = tree_find(tree, dir->entries[i].ino);

		if (S_ISDIR(n->st.st_mode)) {
			why = delete_below(fs, tree, n);
			if (why)
				break;
			rc = fs_rmdir(fs, dir->st.st_ino, dir->entries[i].name);
		} else {
			rc = fs_unlink(fs, dir->st.st_ino, dir->entries[i].name);
		}
		if (rc)
			why = say("deleting %s: %s", n->path, strerror(-rc));
	}
	return why;
}

static char *delete_everything(struct fs *fs)
{
	struct tree tree;
	char *why;
	int rc;

	if (!tree_take(&tree, fs, &why)) {
		why = delete_below(fs, &tree, &tree.nodes[0]);
		if (!why) {
			rc = fs_tick(fs);
			if (rc)
				why = say("commit of the deletions: %s", strerror(-rc));
		}
	}
	tree_free(&tree);
	return why;
}

static char *check_empty(struct sim *sim, struct fs *fs)
{
	uint64_t used;
	struct tree tree;
	char *why;

	if (!tree_take(&tree, fs, &why) && tree.count != 1)
		why = say("after deleting everything there are %zu inodes", tree.count);
	tree_free(&tree);
	used = world_data_blocks(sim);
	if (!why && used)
		why = say("after deleting everything %llu blocks of data are in use", (unsigned long long)used);
	return why;
}

static char *unmounted(struct fs *fs, char *why)
{
	int rc;

	if (why) {
		fs_abandon(fs);
		return why;
	}
	rc = fs_unmount(fs);
	return rc ? say("unmount: %s", strerror(-rc)) : NULL;
}

char *world_use_up(struct sim *sim, const struct tree *expected)
{
	struct tree tree;
	struct fs *fs;
	char *why;

	why = world_check(sim, false);
	if (why || world_mount(sim, &fs, false, &why))
		return why;
	if (!tree_take(&tree, fs, &why))
		why = tree_differ(expected, &tree);
	if (!why)
		why = check_tails(fs, &tree);
	tree_free(&tree);
	if (!why)
		why = use(fs);
	if (!why)
		why = delete_everything(fs);
	why = unmounted(fs, why);
	if (why || world_mount(sim, &fs, false, &why))
		return why;
	return unmounted(fs, check_empty(sim, fs));
}
