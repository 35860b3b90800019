/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fail_memory - the Nth allocation of what is linked in fails, and those of the simulated bricks are left alone.
 *
 * The program is linked with --wrap for each function here.  arm(n), the call, disarm(): did one fail?  `bricks` is the backend
 * of the simulated bricks, whose own allocations do not count; OUTSIDE() is the same for a call of the test's.
 */
#ifndef TESTS_FAIL_MEMORY_H
#define TESTS_FAIL_MEMORY_H

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim_fs.h"

static atomic_long live;		/* pieces of memory that are in use */
static long countdown;			/* 0: none fails */
static bool fired;
static unsigned outside;		/* in a simulated brick, or in the test */

static bool fails(void)
{
	if (outside || !countdown || --countdown)
		return false;
	fired = true;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
char *__real_strdup(const char *s);
int __real_vasprintf(char **text, const char *format, va_list ap);
FILE *__real_open_memstream(char **text, size_t *size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
char *__wrap_strdup(const char *s);
int __wrap_vasprintf(char **text, const char *format, va_list ap);
int __wrap_asprintf(char **text, const char *format, ...);
FILE *__wrap_open_memstream(char **text, size_t *size);
void __wrap_free(void *p);

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add(&live, 1);
	return p;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t size)
{
	if (fails())
		return NULL;
	return p ? __real_realloc(p, size) : counted(__real_realloc(p, size));
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return fails() ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : counted(__real_strdup(s));
}

int __wrap_vasprintf(char **text, const char *format, va_list ap)
{
	int n = fails() ? -1 : __real_vasprintf(text, format, ap);

	if (n >= 0)
		counted(*text);
	return n;
}

int __wrap_asprintf(char **text, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = __wrap_vasprintf(text, format, ap);
	va_end(ap);
	return n;
}

/* Its text is the caller's to free. */
FILE *__wrap_open_memstream(char **text, size_t *size)
{
	return fails() ? NULL : counted(__real_open_memstream(text, size));
}

void __wrap_free(void *p)
{
	if (p)
		atomic_fetch_sub(&live, 1);
	__real_free(p);
}

static void arm(unsigned nth)
{
	fired = false;
	countdown = nth;
}

static bool disarm(void)
{
	countdown = 0;
	return fired;
}

/* Simulated bricks whose memory does not fail. */
#define OUTSIDE(call) ({ outside++; __typeof__(call) r_ = (call); outside--; r_; })

static int open_(void *context, const char *endpoint, const char *name, unsigned lanes, unsigned maps, unsigned ms,
		 struct backend_session **s)
{
	return OUTSIDE(backend_sim.open(context, endpoint, name, lanes, maps, ms, s));
}

static void close_(struct backend_session *s)
{
	outside++;
	backend_sim.close(s);
	outside--;
}

static const struct backend_info *info_(struct backend_session *s)
{
	return backend_sim.info(s);
}

static int rejoin_(struct backend_session *s, unsigned lane)
{
	return OUTSIDE(backend_sim.rejoin(s, lane));
}

static int alloc_(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	return OUTSIDE(backend_sim.alloc(s, lane, addrs, n, status));
}

static int release_(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, int *status)
{
	return OUTSIDE(backend_sim.release(s, lane, addrs, n, status));
}

static int map_(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags, struct backend_handle *h, int *status)
{
	return OUTSIDE(backend_sim.map(s, lane, addrs, n, flags, h, status));
}

static int unmap_(struct backend_session *s, unsigned lane, const uint64_t *addrs, size_t n, uint32_t flags, int *status)
{
	return OUTSIDE(backend_sim.unmap(s, lane, addrs, n, flags, status));
}

static int list_(struct backend_session *s, unsigned lane, uint64_t from, struct backend_extent *e, size_t max, size_t *n,
		 uint64_t *generation, uint64_t *next, bool *more)
{
	return OUTSIDE(backend_sim.list(s, lane, from, e, max, n, generation, next, more));
}

static int submit_(struct backend_session *s, unsigned lane, struct backend_io *io)
{
	return OUTSIDE(backend_sim.submit(s, lane, io));
}

static int drain_(struct backend_session *s, unsigned lane)
{
	return OUTSIDE(backend_sim.drain(s, lane));
}

static int keepalive_(struct backend_session *s, unsigned lane)
{
	return OUTSIDE(backend_sim.keepalive(s, lane));
}

static uint64_t recalled_(struct backend_session *s, unsigned lane)
{
	return OUTSIDE(backend_sim.recalled(s, lane));
}

static int register_(struct backend_session *s, void *memory, size_t size)
{
	return OUTSIDE(backend_sim.buffer_register(s, memory, size));
}

static void unregister_(struct backend_session *s, void *memory)
{
	outside++;
	backend_sim.buffer_unregister(s, memory);
	outside--;
}

static int who_(struct backend_session *s, unsigned lane, uint64_t addr, struct backend_holder *h, size_t max, size_t *n)
{
	return OUTSIDE(backend_sim.who(s, lane, addr, h, max, n));
}

static const char *error_text_(void)
{
	return backend_sim.error_text();
}

static const struct backend bricks = {
	open_, close_, info_, rejoin_, alloc_, release_, map_, unmap_, list_, submit_, drain_, keepalive_, recalled_, register_,
	unregister_, who_, error_text_,
};

#endif
