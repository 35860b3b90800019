/* SPDX-License-Identifier: BSD-3-Clause */
/* tier-memory - making, finding and checking the memory file, and the entries of its table. */
#include "tier-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "endpoint.h"
#include "pool.h"
#include "report.h"
#include "tier-folder.h"

#define TABLE_OFFSET 4096u
#define VERSION	     1u
static const char magic[8] = "BRICKMEM";

struct memory_header {
	char magic[8];
	uint32_t version, frames;
	uint8_t uuid[16];	/* of the pool */
	uint64_t checksum;	/* XXH3, 64 bits, over all before it */
	uint64_t name, next;	/* next is another one only while the pool's header changes */
};

struct memory_entry {
	uint64_t word;	/* 0: free */
	uint32_t slot;
	uint32_t reserved;
};

enum entry_state { ENTRY_CLEAN = 1, ENTRY_DIRTY = 2 };

static uint64_t header_sum(const struct memory_header *header)
{
	return XXH3_64bits(header, offsetof(struct memory_header, checksum));
}

static uint64_t data_offset(uint32_t frames)
{
	uint64_t table = TABLE_OFFSET + (uint64_t)frames * sizeof(struct memory_entry);

	return (table + POOL_SLOT_SIZE - 1) & ~(POOL_SLOT_SIZE - 1);
}

static void lay_out(struct memory *memory, const uint8_t uuid[16], uint32_t frames)
{
	memory->frames = frames;
	memory->data = data_offset(frames);
	memory->size = memory->data + (uint64_t)frames * POOL_SLOT_SIZE;
	memcpy(memory->uuid, uuid, sizeof(memory->uuid));
}

static int map_file(struct memory *memory, int flags)
{
	void *base = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED | flags, memory->fd, 0);

	if (base == MAP_FAILED)
		return -errno;
	memory->base = base;
	memory->header = base;
	memory->table = (void *)(memory->base + TABLE_OFFSET);
	return 0;
}

static void write_header(struct memory *memory, uint64_t name)
{
	struct memory_header *header = memory->header;

	memcpy(header->magic, magic, sizeof(magic));
	header->version = VERSION;
	header->frames = memory->frames;
	memcpy(header->uuid, memory->uuid, sizeof(header->uuid));
	header->checksum = header_sum(header);
	header->name = header->next = name;
}

void memory_close(struct memory *memory)
{
	if (memory->base)
		munmap(memory->base, memory->size);
	if (memory->fd >= 0)
		close(memory->fd);
	if (memory->lock_fd >= 0)
		close(memory->lock_fd);
	free(memory->path);
	*memory = MEMORY_NONE;
}

void memory_remove(struct memory *memory)
{
	/* While it is locked: the name is ours. */
	if (memory->path && unlink(memory->path))
		report_warning("%s: cannot be removed: %s", memory->path, strerror(errno));
	memory_close(memory);
}

int memory_anonymous(struct memory *memory, const uint8_t uuid[16], uint32_t frames)
{
	int rc = 0;

	*memory = MEMORY_NONE;
	lay_out(memory, uuid, frames);
	memory->fd = memfd_create("brickd-memory", MFD_CLOEXEC);
	if (memory->fd < 0 || ftruncate(memory->fd, (off_t)memory->size))
		rc = -errno;
	if (!rc)
		rc = map_file(memory, MAP_NORESERVE);
	if (rc) {
		report_error("no memory of %llu bytes: %s", (unsigned long long)memory->size, strerror(-rc));
		memory_close(memory);
		return rc;
	}
	write_header(memory, 0);
	return 0;
}

static char *path_in(const char *folder, const uint8_t uuid[16])
{
	char text[37], *path;

	format_uuid(uuid, text);
	return asprintf(&path, "%s/brickd-%s.memory", folder, text) < 0 ? NULL : path;
}

/* Opens and locks; the folder may be one where everybody makes files, so only our own is taken. */
static int open_file(struct memory *memory, const char *path, int flags)
{
	struct stat st, again;
	int rc;

	memory->lock_fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (memory->lock_fd < 0) {
		rc = -errno;
		if (rc != -ENOENT || (flags & O_CREAT))
			report_error("%s: the memory file cannot be opened: %s", path, strerror(rc == -ELOOP ? EEXIST : -rc));
		return rc;
	}
	if (fstat(memory->lock_fd, &st)) {
		rc = -errno;
		report_error("%s: the memory file cannot be looked at: %s", path, strerror(-rc));
		return rc;
	}
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1) {
		report_error("%s: is in the place of the memory file, and is not one that this user made; remove it, or give "
			     "another --memory-dir",
			     path);
		return -EPERM;
	}
	if (flock(memory->lock_fd, LOCK_EX | LOCK_NB)) {
		rc = -errno;
		if (rc != -EWOULDBLOCK) {
			report_error("%s: cannot be locked: %s", path, strerror(-rc));
			return rc;
		}
		report_error("%s: busy: another brickd serves from this memory file; a copy of a pool cannot be served beside the "
			     "pool, unless in another --memory-dir",
			     path);
		return -EBUSY;
	}
	/* Locks go with the open file: a client of the local transport that outlives us must not hold this one. */
	memory->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (memory->fd < 0 || fstat(memory->fd, &again)) {
		rc = -errno;
		report_error("%s: the memory file cannot be opened: %s", path, strerror(-rc));
		return rc;
	}
	if (st.st_dev != again.st_dev || st.st_ino != again.st_ino) {
		report_error("%s: was replaced while it was being opened; try again", path);
		return -EAGAIN;
	}
	memory->path = strdup(path);
	memory->size = (uint64_t)again.st_size;
	return memory->path ? 0 : -ENOMEM;
}

/* Its pages are all there when this returns 0: nothing meets a full tmpfs later, as SIGBUS. */
static int preallocate(struct memory *memory, const char *folder, bool huge)
{
	int rc = folder_room(folder, huge, memory->size);

	if (rc)
		return rc;
	if (ftruncate(memory->fd, (off_t)memory->size))
		return -errno;
	rc = map_file(memory, 0);
	if (rc)
		return rc;
	/* fallocate() gives small pages on most tmpfs; touching an advised mapping, large ones.  Both are only better, not needed. */
#ifdef MADV_POPULATE_WRITE
	if (!huge && !madvise(memory->base, memory->size, MADV_HUGEPAGE))
		(void)madvise(memory->base, memory->size, MADV_POPULATE_WRITE);
#endif
	do
		rc = fallocate(memory->fd, 0, 0, (off_t)memory->size) ? -errno : 0;
	while (rc == -EINTR);
	/* It went to somebody else meanwhile. */
	if (rc == -ENOSPC)
		report_error("%s: no room for a memory file of %llu bytes any more", folder, (unsigned long long)memory->size);
	return rc;
}

/* A file that no pool needs any more, unless another brickd has it: then it is of a copy of the pool. */
static int remove_old(const char *path)
{
	struct memory old = MEMORY_NONE;
	struct stat st;
	int rc;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	rc = open_file(&old, path, 0);
	if (rc) {
		memory_close(&old);
		return rc;
	}
	report_info("%s: is not of the pool's last use, and goes", path);
	memory_remove(&old);
	return 0;
}

static int create_in(struct memory *memory, const char *folder, bool huge, const uint8_t uuid[16], uint32_t frames,
		     uint64_t name)
{
	char *path = path_in(folder, uuid), *making = NULL, size[16];
	int rc = -ENOMEM;

	if (!path || asprintf(&making, "%s.new", path) < 0) {
		making = NULL;
		goto out;
	}
	rc = remove_old(path);
	if (!rc)
		rc = open_file(memory, making, O_CREAT);
	if (rc)
		goto out;
	lay_out(memory, uuid, frames);
	/* An earlier one may not have been finished. */
	if (ftruncate(memory->fd, 0) || fchmod(memory->fd, 0600))
		rc = -errno;
	if (!rc)
		rc = preallocate(memory, folder, huge);
	if (!rc) {
		write_header(memory, name);
		if (rename(making, path))
			rc = -errno;
	}
	if (rc) {
		/* That there is no room has been said. */
		if (rc != -ENOSPC) {
			format_size(memory->size, size);
			report_error("%s: a memory file of %s cannot be made: %s", path, size, strerror(-rc));
		}
		unlink(making);
		goto out;
	}
	free(memory->path);
	memory->path = path;
	path = NULL;
out:
	free(making);
	free(path);
	if (rc)
		memory_close(memory);
	return rc;
}

int memory_create(struct memory *memory, const char *folder, const uint8_t uuid[16], uint32_t frames, uint64_t name)
{
	char *chosen = NULL;
	bool huge;
	int rc;

	*memory = MEMORY_NONE;
	if (!folder) {
		chosen = folder_huge(data_offset(frames) + (uint64_t)frames * POOL_SLOT_SIZE);
		folder = chosen ? chosen : FOLDER_TMPFS;
		if (!chosen)
			report_info("%s: the memory file goes here: no hugetlbfs with enough free pages of 2 MiB is mounted", folder);
	}
	rc = folder_check(folder, &huge);
	if (!rc)
		rc = create_in(memory, folder, huge, uuid, frames, name);
	free(chosen);
	return rc;
}

/* What cannot be in a header that we wrote, or NULL. */
static const char *header_fault(const struct memory *memory, const uint8_t uuid[16])
{
	const struct memory_header *header = memory->header;

	if (memcmp(header->magic, magic, sizeof(magic)) != 0)
		return "it is not a memory file";
	if (header->checksum != header_sum(header))
		return "damaged: bad checksum of its header";
	if (header->version != VERSION)
		return "it is of another version";
	if (memcmp(header->uuid, uuid, sizeof(header->uuid)) != 0)
		return "it is another pool's";
	if (!header->frames ||
	    memory->size != data_offset(header->frames) + (uint64_t)header->frames * POOL_SLOT_SIZE)
		return "damaged: its size is not what its header says";
	return NULL;
}

int memory_open(struct memory *memory, const char *path, const uint8_t uuid[16])
{
	const char *fault = NULL;
	int rc;

	*memory = MEMORY_NONE;
	rc = open_file(memory, path, 0);
	if (rc)
		goto fail;
	if (memory->size < TABLE_OFFSET) {
		fault = "it is too short";
		goto unfit;
	}
	/* Holes cannot be in it, unless it is a copy: then it gets its pages now, or is refused. */
	if (fallocate(memory->fd, 0, 0, (off_t)memory->size)) {
		rc = -errno;
		report_error("%s: has holes, and there is no memory to fill them: %s", path, strerror(-rc));
		goto fail;
	}
	rc = map_file(memory, 0);
	if (rc) {
		report_error("%s: cannot be mapped: %s", path, strerror(-rc));
		goto fail;
	}
	fault = header_fault(memory, uuid);
	if (fault)
		goto unfit;
	(void)madvise(memory->base, memory->size, MADV_HUGEPAGE); /* only better */
	lay_out(memory, uuid, memory->header->frames);
	return 0;
unfit:
	report_warning("%s: of no use as the memory file: %s", path, fault);
	return 1;
fail:
	memory_close(memory);
	return rc;
}

bool memory_is(const struct memory *memory, uint64_t name)
{
	return name && (memory->header->name == name || memory->header->next == name);
}

void memory_settle_name(struct memory *memory, uint64_t name)
{
	__atomic_store_n(&memory->header->name, name, __ATOMIC_RELEASE);
}

void memory_rename(struct memory *memory, uint64_t name)
{
	__atomic_store_n(&memory->header->next, name, __ATOMIC_RELEASE);
}

void memory_renamed(struct memory *memory)
{
	__atomic_store_n(&memory->header->name, memory->header->next, __ATOMIC_RELEASE);
}

static uint64_t word_of(const struct memory *memory, uint32_t frame, const struct memory_content *content)
{
	enum entry_state state = content->dirty ? ENTRY_DIRTY : ENTRY_CLEAN;
	struct {
		uint8_t uuid[16];
		uint64_t block;
		uint32_t slot, frame, state, zero;
	} key = { .block = content->block, .slot = content->slot, .frame = frame, .state = state };

	memcpy(key.uuid, memory->uuid, sizeof(key.uuid));
	return content->block << POOL_SLOT_SHIFT | (uint64_t)state << 16 | (XXH3_64bits(&key, sizeof(key)) & 0xffff);
}

int memory_get(const struct memory *memory, uint32_t frame, struct memory_content *content)
{
	uint64_t word = __atomic_load_n(&memory->table[frame].word, __ATOMIC_ACQUIRE);
	uint32_t state = word >> 16 & 0x1f;

	if (!word)
		return 0;
	*content = (struct memory_content){
		.block = word >> POOL_SLOT_SHIFT,
		.slot = memory->table[frame].slot,
		.dirty = state == ENTRY_DIRTY,
	};
	if ((state != ENTRY_CLEAN && state != ENTRY_DIRTY) || word != word_of(memory, frame, content))
		return -EUCLEAN;
	return 1;
}

void memory_enter(struct memory *memory, uint32_t frame, const struct memory_content *content)
{
	__atomic_store_n(&memory->table[frame].slot, content->slot, __ATOMIC_RELEASE);
	memory_mark(memory, frame, content);
}

void memory_mark(struct memory *memory, uint32_t frame, const struct memory_content *content)
{
	__atomic_store_n(&memory->table[frame].word, word_of(memory, frame, content), __ATOMIC_RELEASE);
}

void memory_forget(struct memory *memory, uint32_t frame)
{
	/* Not RELEASE: the bytes of the next block must not come before it either. */
	__atomic_store_n(&memory->table[frame].word, 0, __ATOMIC_SEQ_CST);
}

uint64_t memory_offset(const struct memory *memory, uint32_t frame)
{
	return memory->data + (uint64_t)frame * POOL_SLOT_SIZE;
}

void *memory_address(const struct memory *memory, uint32_t frame)
{
	return memory->base + memory_offset(memory, frame);
}
