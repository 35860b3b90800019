/* SPDX-License-Identifier: BSD-3-Clause */
/* The example of brick(3): writes a sentence to a block, durably, and reads it back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brick.h>

static void check(const char *what, int ret)
{
	if (ret == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, brick_error());
	exit(1);
}

int main(int argc, char **argv)
{
	const struct brick_options options = { .lanes = 1, .timeout_ms = 5000 };
	const char text[] = "complete is not durable";
	const uint64_t addr = 42 * BRICK_BLOCK_SIZE;
	const struct brick_range range = { addr + 4096, sizeof(text) };
	struct brick_completion done[2];
	struct brick_session *session;
	struct brick_handle handle;
	struct brick_lane *lane;
	char *buffer;
	int ret, n;

	if (argc != 2) {
		fprintf(stderr, "usage: %s ENDPOINT\n", argv[0]);
		return 2;
	}
	check("open", brick_open(argv[1], &options, &session));
	lane = brick_lane(session, 0);
	buffer = brick_buffer_alloc(session, 4096);
	if (!buffer)
		check("buffer", -ENOMEM);

	/* Without a status array the entry's error is the call's. */
	ret = brick_alloc(lane, &addr, 1, NULL);
	if (ret != -EEXIST)
		check("alloc", ret);
	check("map", brick_map(lane, &addr, 1, BRICK_MAP_EXCLUSIVE, &handle, NULL));

	/* The write and, behind it on the same lane, the persist: queued both, one wait. */
	memcpy(buffer, text, sizeof(text));
	check("write", brick_post_write(lane, &handle, 4096, buffer, sizeof(text), 1));
	check("persist", brick_post_persist(lane, &range, 1, NULL, 2));
	while (brick_in_flight(lane) > 0) {
		n = brick_wait(lane, done, 2, -1);
		if (n < 0)
			check("wait", n);
		for (int i = 0; i < n; i++)
			check(done[i].cookie == 1 ? "write" : "persist", done[i].status);
	}

	memset(buffer, 0, 4096);
	check("read", brick_read(lane, &handle, 4096, buffer, sizeof(text)));
	printf("%s\n", buffer);

	/* All that was written is persisted, so the block may be unmapped as CLEAN. */
	check("unmap", brick_unmap(lane, &addr, 1, BRICK_UNMAP_CLEAN, NULL));
	check("free", brick_free(lane, &addr, 1, NULL));
	brick_buffer_free(session, buffer);
	brick_close(session);
	return 0;
}
