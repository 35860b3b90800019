/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * damage KIND SEED ENDPOINT[,ENDPOINT...] - spoils a filesystem on real bricks, for tests of fsck.brickfs.
 *
 * Prints what it did and, as "touched: NUMBER...", the inodes whose records it hit.  damage --list names the kinds.
 * Exit status: 0; 77, there is nothing of that kind to spoil; 1.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "damage.h"

int main(int argc, char **argv)
{
	static struct damage_touched touched;
	const char *endpoint[8];
	size_t count = 0;
	int r;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t k = 0; k < damage_kind_count; k++)
			printf("%s %s %u\n", damage_kinds[k].name, damage_kinds[k].code ? damage_kinds[k].code : "-", damage_kinds[k].bricks);
		return 0;
	}
	if (argc != 4) {
		fprintf(stderr, "usage: damage KIND SEED ENDPOINT[,ENDPOINT...]; damage --list\n");
		return 1;
	}
	for (char *save = NULL, *one = strtok_r(argv[3], ",", &save); one && count < 8; one = strtok_r(NULL, ",", &save))
		endpoint[count++] = one;
	r = damage_apply(&backend_brick, NULL, endpoint, count, argv[1], (unsigned)strtoul(argv[2], NULL, 0), stdout, &touched);
	if (r) {
		fprintf(stderr, "damage: %s: %s %s\n", argv[1], strerror(-r), fs_error_text());
		return r == -ENODATA ? 77 : 1;
	}
	printf("touched:");
	for (size_t k = 0; k < touched.count; k++)
		printf(" %" PRIu64, touched.ino[k]);
	putchar('\n');
	return 0;
}
