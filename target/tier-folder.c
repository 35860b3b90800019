/* SPDX-License-Identifier: BSD-3-Clause */
/* tier-folder - filesystems whose files are memory, and how much room is in them. */
#include "tier-folder.h"

#include <errno.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "endpoint.h"
#include "pool.h"
#include "report.h"

/* Huge pages of 2 MiB that are free and promised to nobody: Documentation/admin-guide/mm/hugetlbpage.rst. */
static uint64_t free_huge_pages(void)
{
	static const char *const names[2] = { "free_hugepages", "resv_hugepages" };
	unsigned long long count[2] = { 0, 0 };

	for (unsigned i = 0; i < 2; i++) {
		char path[128];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/%s", POOL_SLOT_SIZE / 1024, names[i]);
		file = fopen(path, "re");
		if (!file)
			return 0;
		if (fscanf(file, "%llu", &count[i]) != 1)
			count[i] = 0;
		fclose(file);
	}
	return count[0] > count[1] ? count[0] - count[1] : 0;
}

/* Bytes that new allocations can have without swapping, as the kernel estimates them (proc(5)). */
static uint64_t available_memory(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = UINT64_MAX / 1024;
	char line[128];

	if (!file)
		return UINT64_MAX;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	}
	fclose(file);
	return kib * 1024;
}

int folder_check(const char *folder, bool *huge)
{
	struct statfs fs;
	int rc;

	if (statfs(folder, &fs)) {
		rc = -errno;
		report_error("%s: no folder for the memory file: %s", folder, strerror(-rc));
		return rc;
	}
	*huge = fs.f_type == HUGETLBFS_MAGIC;
	if (fs.f_type == TMPFS_MAGIC || (*huge && (uint64_t)fs.f_bsize == POOL_SLOT_SIZE))
		return 0;
	if (*huge)
		report_error("%s: its huge pages have %lld KiB; the memory file needs a hugetlbfs with pagesize=2M, or tmpfs",
			     folder, (long long)fs.f_bsize / 1024);
	else
		report_error("%s: neither tmpfs nor hugetlbfs: what is written there goes to a disk, and its pages cannot be "
			     "registered for RDMA; give --memory-dir a folder on one of these",
			     folder);
	return -ENOTSUP;
}

char *folder_huge(uint64_t bytes)
{
	char *found = NULL, text[4096];
	struct mntent entry;
	FILE *mounts;

	if (free_huge_pages() < (bytes + POOL_SLOT_SIZE - 1) / POOL_SLOT_SIZE)
		return NULL;
	mounts = setmntent("/proc/mounts", "re");
	if (!mounts)
		return NULL;
	while (!found && getmntent_r(mounts, &entry, text, sizeof(text))) {
		struct statfs fs;

		if (strcmp(entry.mnt_type, "hugetlbfs") != 0 || hasmntopt(&entry, "ro") || statfs(entry.mnt_dir, &fs) ||
		    fs.f_type != HUGETLBFS_MAGIC || (uint64_t)fs.f_bsize != POOL_SLOT_SIZE)
			continue;
		found = strdup(entry.mnt_dir);
	}
	endmntent(mounts);
	return found;
}

int folder_room(const char *folder, bool huge, uint64_t bytes)
{
	char need[16], have[16];
	struct statfs fs;
	uint64_t room;

	format_size(bytes, need);
	if (huge) {
		room = free_huge_pages() * POOL_SLOT_SIZE;
		format_size(room, have);
		if (room >= bytes)
			return 0;
		report_error("%s: no room for a memory file: %s of huge pages are needed, %s are free; give a smaller --memory, or "
			     "more pages in /proc/sys/vm/nr_hugepages",
			     folder, need, have);
		return -ENOSPC;
	}
	room = statfs(folder, &fs) ? UINT64_MAX : (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	/* A tmpfs mounted with size=0 has no limit, and says 0 blocks. */
	if (room < bytes && fs.f_blocks) {
		format_size(room, have);
		report_error("%s: no room for a memory file: %s are needed, %s are free on this tmpfs; give a smaller --memory, or "
			     "mount it with a larger size=",
			     folder, need, have);
		return -ENOSPC;
	}
	room = available_memory();
	if (room >= bytes)
		return 0;
	format_size(room, have);
	report_error("%s: no memory for a memory file: %s are needed, the host has %s available; give a smaller --memory",
		     folder, need, have);
	return -ENOSPC;
}
