/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-local - bricks of this host: control over a Unix socket, data by
 * load and store in the brick's own memory.
 *
 * The descriptor of that memory comes with the answer to the session's hello
 * and is mapped once, whole.  map answers an offset in it for each block.  The
 * brick cannot take a handle back by force, and what is mapped is read-write for every
 * process that may connect: both sides trust each other (brick(3)).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "brick-error.h"
#include "stream.h"
#include "transport.h"

struct memory {
	uint8_t *at;
	uint64_t size;		/* bytes, at least a block */
};

/* Written once, before the session is handed out. */
struct transport_domain {
	struct memory memory[WIRE_FDS_MAX];	/* by descriptor index, a handle's key */
	uint32_t count;
};

struct transport {
	struct stream stream;
	struct transport_domain *domain;
	struct timespec seen;	/* when the brick was seen to be there */
};

static int local_domain_open(const struct endpoint *endpoint, struct transport_domain **domain)
{
	*domain = calloc(1, sizeof(**domain));
	return *domain ? 0 : brick_fail(-ENOMEM, "%s: no memory for a session", endpoint->path);
}

static void local_domain_close(struct transport_domain *domain)
{
	for (uint32_t i = 0; i < domain->count; i++)
		munmap(domain->memory[i].at, domain->memory[i].size);
	free(domain);
}

static bool inside(const struct transport_domain *domain, uint32_t key, uint64_t place)
{
	return key < domain->count && place <= domain->memory[key].size - WIRE_BLOCK_SIZE;
}

static int local_check_handle(struct transport_domain *domain, const char *text, uint64_t addr,
			      const struct wire_handle *handle)
{
	if (!inside(domain, handle->key, handle->place))
		return brick_fail(-EPROTO, "%s: the brick mapped 0x%llx outside its memory (descriptor %u, offset 0x%llx)",
				  text, (unsigned long long)addr, handle->key, (unsigned long long)handle->place);
	return 0;
}

static int local_connect(struct transport_domain *domain, const struct transport_options *options,
			 const struct wire_preamble *preamble, struct wire_preamble_reply *reply,
			 struct transport **transport)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct transport *t;
	int ret, fd;

	_Static_assert(sizeof(address.sun_path) >= sizeof(options->endpoint->path), "a path fits");
	memcpy(address.sun_path, options->endpoint->path, sizeof(options->endpoint->path));
	fd = stream_connect(AF_UNIX, (struct sockaddr *)&address, sizeof(address), options->timeout_ms);
	if (fd < 0)
		return brick_fail(fd, "%s: cannot connect: %s%s", options->text, brick_errno_text(fd),
				  fd == -ECONNREFUSED || fd == -ENOENT ?
				  " (is brickd running, and listening there?)" : "");
	t = calloc(1, sizeof(*t));
	if (!t) {
		close(fd);
		return brick_fail(-ENOMEM, "%s: no memory for a connection", options->text);
	}
	t->domain = domain;
	t->stream.wants_fds = domain->count == 0;
	ret = stream_open(&t->stream, fd, options, preamble, reply);
	if (ret < 0) {
		free(t);
		return ret;
	}
	*transport = t;
	return 0;
}

/* How much there is to map: of a file its size, of a device DAX what sysfs says. */
static int memory_size(const char *text, int fd, uint64_t *size)
{
	struct stat st;
	char path[64], number[32];
	ssize_t n;
	int sysfs;

	if (fstat(fd, &st) < 0)
		return brick_fail(-errno, "%s: cannot examine the brick's memory: %s", text, brick_errno_text(-errno));
	if (S_ISREG(st.st_mode)) {
		*size = (uint64_t)st.st_size;
		return 0;
	}
	if (!S_ISCHR(st.st_mode))
		return brick_fail(-EPROTO, "%s: the brick passed a descriptor of something that cannot be mapped", text);
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/size", major(st.st_rdev), minor(st.st_rdev));
	sysfs = open(path, O_RDONLY | O_CLOEXEC);
	if (sysfs < 0)
		return brick_fail(-errno, "%s: cannot open %s, which has the size of the brick's memory: %s", text, path,
				  brick_errno_text(-errno));
	n = read(sysfs, number, sizeof(number) - 1);
	close(sysfs);
	if (n <= 0)
		return brick_fail(-EIO, "%s: cannot read %s, which has the size of the brick's memory", text, path);
	number[n] = 0;
	*size = strtoull(number, NULL, 10);
	return 0;
}

static int map_memory(const char *text, int fd, struct memory *memory)
{
	uint64_t size = 0;
	int ret = memory_size(text, fd, &size);
	void *at;

	if (ret < 0)
		return ret;
	if (size < WIRE_BLOCK_SIZE || size > SIZE_MAX / 2)
		return brick_fail(-EPROTO, "%s: the brick's memory has %llu bytes", text, (unsigned long long)size);
	at = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (at == MAP_FAILED)
		return brick_fail(-errno, "%s: cannot map the brick's memory of %llu bytes: %s", text,
				  (unsigned long long)size, brick_errno_text(-errno));
	/* Neither a core file nor a child has any use for it. */
	madvise(at, (size_t)size, MADV_DONTDUMP);
	madvise(at, (size_t)size, MADV_DONTFORK);
	memory->at = at;
	memory->size = size;
	return 0;
}

static int local_attach(struct transport_domain *domain, struct transport *t, const struct wire_hello_reply *hello)
{
	struct stream *stream = &t->stream;

	if (hello->fds == 0 || hello->fds != stream->fd_count)
		return brick_fail(-EPROTO, "%s: the brick announced %u descriptors of its memory and passed %u",
				  stream->text, hello->fds, stream->fd_count);
	while (domain->count < stream->fd_count) {
		int ret = map_memory(stream->text, stream->fds[domain->count], &domain->memory[domain->count]);

		if (ret < 0)
			return ret;
		domain->count++;
	}
	/* The mappings are enough from here on; the kernel drops what comes later. */
	while (stream->fd_count > 0)
		close(stream->fds[--stream->fd_count]);
	stream->wants_fds = false;
	return 0;
}

static int local_send(struct transport *t, const uint8_t *msg, size_t len)
{
	return stream_send(&t->stream, msg, len);
}

/*
 * Accesses begin in the same tick of the coarse clock (some milliseconds, and the clock is a load) in which the brick was
 * seen to be there.  One that comes later could meet another brickd's blocks in the memory of the one that it was connected
 * to; a start takes longer than a tick.
 */
static inline bool seen_now(struct transport *t, struct timespec *now)
{
	clock_gettime(CLOCK_MONOTONIC_COARSE, now);
	return now->tv_nsec == t->seen.tv_nsec && now->tv_sec == t->seen.tv_sec;
}

static int look(struct transport *t, const struct timespec *now)
{
	struct pollfd pfd = { .fd = t->stream.fd, .events = POLLRDHUP };

	if (poll(&pfd, 1, 0) > 0)
		return brick_fail(-ECONNRESET, "%s: the brick closed the connection", t->stream.text);
	t->seen = *now;
	return 0;
}

static int local_post(struct transport *t, struct transport_io *io)
{
	struct timespec now;
	uint8_t *at;

	if (!seen_now(t, &now)) {
		int ret = look(t, &now);

		if (ret < 0)
			return ret;
	}
	/* The handle has been through the application's hands. */
	if (!inside(t->domain, io->key, io->place))
		return brick_fail(-EINVAL, "%s: the handle of 0x%llx is not of this session", t->stream.text,
				  (unsigned long long)io->addr);
	at = t->domain->memory[io->key].at + io->place + io->offset;
	for (int i = 0; i < io->iovcnt; i++) {
		if (io->iov[i].iov_len == 0)
			continue;
		if (io->write)
			memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
		else
			memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
	return 1;
}

static int local_poll(struct transport *t)
{
	return stream_poll(&t->stream);
}

static int local_fd(const struct transport *t)
{
	return t->stream.fd;
}

static int local_arm(struct transport *t, short *events)
{
	return stream_arm(&t->stream, events);
}

static void local_close(struct transport *t)
{
	stream_close(&t->stream);
	free(t);
}

const struct transport_ops transport_local = {
	.name = "local",
	.domain_open = local_domain_open,
	.domain_close = local_domain_close,
	.check_handle = local_check_handle,
	.connect = local_connect,
	.attach = local_attach,
	.send = local_send,
	.post = local_post,
	.poll = local_poll,
	.fd = local_fd,
	.arm = local_arm,
	.close = local_close,
};
