/* SPDX-License-Identifier: BSD-3-Clause */
/* tier-folder - where a memory file may lie: tmpfs, or hugetlbfs with pages of 2 MiB. */
#ifndef TARGET_TIER_FOLDER_H
#define TARGET_TIER_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#define FOLDER_TMPFS "/dev/shm"

/* 0 if files in the folder are memory; *huge: of huge pages.  Says what is wrong: -ENOTSUP, -ENOENT, ... */
int folder_check(const char *folder, bool *huge);
/* A mounted hugetlbfs, malloc'd, that has room for so many bytes; NULL: there is none. */
char *folder_huge(uint64_t bytes);
/*
 * Says why there is no room for so many bytes more, and returns -ENOSPC; 0 when there is.  A file that outgrows the
 * host's memory would not fail: it would have processes killed.
 */
int folder_room(const char *folder, bool huge, uint64_t bytes);

#endif
