/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockmem - the crash tests mount thousands of times a minute, and each mount maps and unmaps buffers of one block: most of
 * the time went into page faults.  The linker gives the calls of these programs to here (--wrap): some mappings of
 * that size are kept, and come back zeroed as fresh ones are.  One thread, and no other mappings of that size: there is no real brick.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#define SIZE (2u << 20)
#define KEPT 8

void *__real_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *addr, size_t length);
void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *addr, size_t length);

static void *kept[KEPT];
static unsigned count;

void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (addr || length != SIZE || prot != (PROT_READ | PROT_WRITE) || flags != (MAP_PRIVATE | MAP_ANONYMOUS) || !count)
		return __real_mmap(addr, length, prot, flags, fd, offset);
	return memset(kept[--count], 0, SIZE);
}

int __wrap_munmap(void *addr, size_t length)
{
	if (length != SIZE || count == KEPT)
		return __real_munmap(addr, length);
	kept[count++] = addr;
	return 0;
}
