/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soak - a workload that knows what a filesystem must hold after whatever was killed; soak.sh runs it and does the killing.
 *
 *   soak work|settle|exact --top DIR --journal FILE --dead FILE [--seed N] [--worker N] [--fresh] [--counts FILE]
 *   soak cut PID N|all
 *
 * work: what is in DIR, a directory on the mount, is held against the journal, and then random steps go on until SIGTERM
 * (soak-work.c).  settle: only the first part.  exact: nothing was killed since the end in order of the last one, and
 * everything must be exactly as it was left.
 * --fresh: the mount is a new one, what can be read comes from the bricks and is durable.
 * --dead: as long as this file is there, calls may fail because the mount was killed; the status is then 3.
 *
 * cut: shuts down one of the connections of a process, the Nth (modulo how many there are), or all, as a network would, and says which.
 */
#include "soak.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

volatile sig_atomic_t soak_stop;
static const char *dead;	/* for the handler of SIGBUS */

static void on_term(int sig)
{
	(void)sig;
	soak_stop = 1;
}

/* A mapped page that cannot be read or written. */
static void on_bus(int sig)
{
	static const char words[] = "FAILED: SIGBUS in mapped pages while the mount lives\n";

	(void)sig;
	if (access(dead, F_OK) == 0)
		_exit(SOAK_MOUNT_GONE);
	_exit(write(STDERR_FILENO, words, sizeof(words) - 1) < 0 ? SOAK_BAD : SOAK_BAD);
}

static void put_counts(const struct soak *soak)
{
	FILE *file = soak->counts ? fopen(soak->counts, "ae") : NULL;

	if (!file)
		return;
	fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", soak->steps, soak->made, soak->verified, soak->fsyncs,
		soak->settles);
	fclose(file);
}

void soak_failed(const struct soak *soak, const char *call, const char *path)
{
	int error = errno;

	put_counts(soak);
	/* ENOENT: the dead mount was taken away, and what is below it is seen. */
	if (access(soak->dead, F_OK) == 0 && (error == ENOTCONN || error == ECONNABORTED || error == EIO || error == ENOENT))
		exit(SOAK_MOUNT_GONE);
	fprintf(stderr, "FAILED: %s of %s: %s, while the mount lives (step %" PRIu64 ")\n", call, path, strerror(error), soak->steps);
	exit(SOAK_BAD);
}

void soak_finding(const struct soak *soak)
{
	put_counts(soak);
	fprintf(stderr, "FAILED in %s, journal %s, run %u, step %" PRIu64 "%s\n", soak->top, soak->model.path, soak->model.run, soak->steps,
		soak->fresh ? ", a fresh mount" : "");
	exit(SOAK_BAD);
}

static void path_of(const struct soak *soak, uint32_t id, uint64_t choice, char *path)
{
	const struct names *names = &soak->model.live;
	size_t n = names_of(names, id);

	if (id == MODEL_ROOT || !n) {
		snprintf(path, SOAK_PATH, "%.4000s%s", soak->top, id == MODEL_ROOT ? "" : "/(no name)");
		return;
	}
	choice %= n;
	for (size_t i = 0; i < names->n; i++) {
		if (names->e[i].node == id && !choice--)
			return soak_entry_path(soak, names->e[i].parent, names->e[i].name, path);
	}
}

void soak_path(const struct soak *soak, const struct node *node, uint64_t choice, char *path)
{
	path_of(soak, node->id, choice, path);
}

void soak_entry_path(const struct soak *soak, uint32_t parent, const char *name, char *path)
{
	size_t len;

	path_of(soak, parent, 0, path);
	len = strlen(path);
	snprintf(path + len, SOAK_PATH - len, "/%s", name);
}

/* The directory is made by the first process, and only when it is durable is there a journal that expects it. */
static void begin(struct soak *soak)
{
	char above[SOAK_PATH + 4];
	struct stat st;
	int fd;

	if (mkdir(soak->top, 0755) && errno != EEXIST)
		soak_failed(soak, "mkdir", soak->top);
	snprintf(above, sizeof(above), "%s/..", soak->top);
	fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) || close(fd))
		soak_failed(soak, "fsync", above);
	if (lstat(soak->top, &st))
		soak_failed(soak, "lstat", soak->top);
	model_node(&soak->model, MODEL_ROOT)->ino = st.st_ino;
	if (model_snapshot(&soak->model))
		exit(SOAK_BAD);
}

static int run(const char *verb, int argc, char **argv)
{
	static const struct option options[] = {
		{ "top", required_argument, NULL, 't' },    { "journal", required_argument, NULL, 'j' },
		{ "dead", required_argument, NULL, 'd' },   { "seed", required_argument, NULL, 's' },
		{ "worker", required_argument, NULL, 'w' }, { "fresh", no_argument, NULL, 'f' },
		{ "counts", required_argument, NULL, 'c' }, { 0 },
	};
	static struct soak soak;
	const struct sigaction term = { .sa_handler = on_term }, bus = { .sa_handler = on_bus };
	const char *journal = NULL;
	uint64_t seed = 1;
	unsigned worker = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't':
			snprintf(soak.top, sizeof(soak.top), "%s", optarg);
			break;
		case 'j':
			journal = optarg;
			break;
		case 'd':
			dead = soak.dead = optarg;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'w':
			worker = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'f':
			soak.fresh = true;
			break;
		case 'c':
			soak.counts = optarg;
			break;
		default:
			return 2;
		}
	}
	if (!soak.top[0] || !journal || !dead) {
		fprintf(stderr, "soak: --top, --journal and --dead are needed\n");
		return 2;
	}
	umask(0);
	soak.buffer = aligned_alloc(4096, SOAK_CHUNK);
	if (!soak.buffer || sigaction(SIGTERM, &term, NULL) || sigaction(SIGBUS, &bus, NULL)) {
		perror("soak");
		return SOAK_BAD;
	}
	/* Each process of a worker takes other steps. */
	if (model_open(&soak.model, journal, seed * 1000 + worker, worker))
		return SOAK_BAD;
	soak.random = soak.model.seed * 0x9e3779b97f4a7c15ull + soak.model.run;
	if (model_is_new(&soak.model))
		begin(&soak);
	if (!strcmp(verb, "exact")) {
		settle_exact(&soak);
	} else {
		settle(&soak);
		if (!strcmp(verb, "work"))
			work(&soak);
	}
	put_counts(&soak);
	return SOAK_GOOD;
}

/* --- a connection that breaks --- */

/* A connected stream socket of the other process, as a descriptor of ours; -1: it is none. */
static int take(int process, int fd, char *words, size_t size)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(int);
	int ours = (int)syscall(SYS_pidfd_getfd, process, fd, 0), type = 0, listens = 0;

	if (ours < 0)
		return -1;
	if (getsockopt(ours, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM ||
	    getsockopt(ours, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) || listens)
		goto none;
	len = sizeof(peer);
	if (getpeername(ours, (struct sockaddr *)&peer, &len))
		goto none;
	if (peer.ss_family == AF_INET) {
		snprintf(words, size, "tcp port %u", ntohs(((struct sockaddr_in *)(void *)&peer)->sin_port));
		return ours;
	}
	/* One of the two ends has a name, that of the socket which was connected to. */
	if (peer.ss_family == AF_UNIX && len <= sizeof(sa_family_t)) {
		len = sizeof(peer);
		if (getsockname(ours, (struct sockaddr *)&peer, &len))
			goto none;
	}
	if (peer.ss_family != AF_UNIX || len <= sizeof(sa_family_t))
		goto none;
	snprintf(words, size, "%.80s", ((struct sockaddr_un *)(void *)&peer)->sun_path);
	return ours;

none:
	close(ours);
	return -1;
}

static int cut(int pid, const char *which)
{
	bool all = !strcmp(which, "all");
	int process = (int)syscall(SYS_pidfd_open, pid, 0), sockets[256], n = 0;
	char path[64], words[256][100];
	struct dirent *d;
	DIR *dir;

	if (process < 0) {
		fprintf(stderr, "soak: no process %d: %s\n", pid, strerror(errno));
		return 1;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir)) && n < 256) {
		int taken = d->d_name[0] == '.' ? -1 : take(process, atoi(d->d_name), words[n], sizeof(words[n]));

		if (taken >= 0)
			sockets[n++] = taken;
	}
	if (dir)
		closedir(dir);
	if (!n) {
		fprintf(stderr, "soak: process %d has no connections that could be cut\n", pid);
		return 1;
	}
	for (int i = all ? 0 : (int)(strtoul(which, NULL, 0) % (unsigned)n); i < n; i++) {
		if (shutdown(sockets[i], SHUT_RDWR) && errno != ENOTCONN) {
			fprintf(stderr, "soak: shutdown: %s\n", strerror(errno));
			return 1;
		}
		if (!all) {
			printf("one of %d, %s\n", n, words[i]);
			return 0;
		}
	}
	printf("all %d\n", n);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "cut"))
		return cut(atoi(argv[2]), argv[3]);
	if (argc > 2 && (!strcmp(argv[1], "work") || !strcmp(argv[1], "settle") || !strcmp(argv[1], "exact")))
		return run(argv[1], argc - 1, argv + 1);
	fprintf(stderr, "usage: soak work|settle|exact --top DIR --journal FILE --dead FILE [--seed N] [--worker N] [--fresh] [--counts FILE]\n"
			"       soak cut PID N|all\n");
	return 2;
}
