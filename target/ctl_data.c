/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_data - brickctl's read and write: bytes between a block and a file, standard
 * input or output, or the command line.
 *
 * They use the map that the session holds, in a script, or else map the block for
 * as long as they need it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "endpoint.h"

#define OFFSET_MASK (BRICK_BLOCK_SIZE - 1)

/* The bytes that a command is about. */
struct window {
	uint64_t block;
	uint32_t offset; /* in the block */
	uint32_t room;	 /* bytes from there to its end */
};

static int parse_window(const struct ctl_args *args, struct window *w)
{
	uint64_t addr, offset;

	if (parse_address(args->argv[0], &addr))
		return ctl_usage("%s: not an address (hex)", args->argv[0]);
	w->block = addr & ~OFFSET_MASK;
	offset = addr & OFFSET_MASK;
	if (args->offset >= BRICK_BLOCK_SIZE - offset)
		return ctl_usage("0x%" PRIx64 ": offset %" PRIu64 " lies beyond the end of the block", addr, args->offset);
	w->offset = (uint32_t)(offset + args->offset);
	w->room = (uint32_t)(BRICK_BLOCK_SIZE - w->offset);
	return 0;
}

/* The session's own map, or one for this command alone (*mine). */
static int get_handle(struct ctl *ctl, const char *call, uint64_t block, uint32_t flags, struct brick_handle *handle, bool *mine,
		      json_t *out)
{
	const struct brick_handle *held = ctl_mapped(ctl, block);
	const char *said;
	int err, status = 0;

	*mine = false;
	if (held) {
		*handle = *held;
		return 0;
	}
	err = brick_map(ctl->lane, &block, 1, flags, handle, &status);
	if (err) {
		said = brick_error();
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": %s: %s", block, call, *said ? said : strerror(-err));
	} else if (status) {
		err = status;
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": %s: %s", block, call, ctl_reason("map", err));
	}
	*mine = !err;
	return err;
}

static void put_handle(struct ctl *ctl, const char *call, uint64_t block, uint32_t flags, json_t *out)
{
	int status = 0, err = brick_unmap(ctl->lane, &block, 1, flags, &status);

	if (!err)
		err = status;
	if (err)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": %s: its map could not be given back: %s", block, call, strerror(-err));
}

static void print_hex(FILE *to, uint64_t addr, const uint8_t *bytes, size_t n)
{
	for (size_t at = 0; at < n; at += 16) {
		size_t line = n - at < 16 ? n - at : 16;

		fprintf(to, "%016" PRIx64 " ", addr + at);
		for (size_t i = 0; i < 16; i++)
			if (i < line)
				fprintf(to, "%s%02x", i == 8 ? "  " : " ", bytes[at + i]);
			else
				fprintf(to, "%s  ", i == 8 ? "  " : " ");
		fputs("  |", to);
		for (size_t i = 0; i < line; i++)
			fputc(bytes[at + i] >= 0x20 && bytes[at + i] < 0x7f ? bytes[at + i] : '.', to);
		fputs("|\n", to);
	}
}

static json_t *json_hex(const uint8_t *bytes, size_t n)
{
	char *text = malloc(2 * n + 1);
	json_t *value;

	if (!text)
		return json_null();
	for (size_t i = 0; i < n; i++) {
		text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	value = json_stringn(text, 2 * n);
	free(text);
	return value;
}

static void put_out(struct ctl *ctl, const struct ctl_args *args, uint64_t addr, const uint8_t *bytes, size_t n, json_t *out)
{
	FILE *to = stdout;

	if (ctl->json && !args->file) {
		json_object_set_new(out, "data", json_hex(bytes, n));
		return;
	}
	if (args->file)
		to = fopen(args->file, "wb");
	if (!to) {
		ctl_fail(ctl, out, -errno, "%s: %s", args->file, strerror(errno));
		return;
	}
	if (args->hex)
		print_hex(to, addr, bytes, n);
	else
		fwrite(bytes, 1, n, to);
	if (fflush(to) || ferror(to))
		ctl_fail(ctl, out, -errno, "%s: %s", args->file ? args->file : "standard output", strerror(errno));
	if (args->file && fclose(to))
		ctl_fail(ctl, out, -errno, "%s: %s", args->file, strerror(errno));
}

int ctl_read(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	struct brick_handle handle;
	const char *said;
	struct window w;
	uint64_t length;
	uint8_t *buffer;
	bool mine;
	int err = parse_window(args, &w);

	if (err)
		return err;
	length = args->has_length ? args->length : w.room;
	if (!length || length > w.room)
		return ctl_usage("0x%" PRIx64 ": read: 1 to %" PRIu32 " bytes are there from that offset on", w.block + w.offset,
				 w.room);
	json_object_set_new(out, "address", ctl_json_address(w.block));
	json_object_set_new(out, "offset", json_integer(w.offset));
	json_object_set_new(out, "length", json_integer((json_int_t)length));
	buffer = brick_buffer_alloc(ctl->session, length);
	if (!buffer) {
		ctl_fail(ctl, out, -ENOMEM, "0x%" PRIx64 ": read: no memory for %" PRIu64 " bytes", w.block, length);
		return 0;
	}
	if (get_handle(ctl, "read", w.block, 0, &handle, &mine, out))
		goto done;
	err = brick_read(ctl->lane, &handle, w.offset, buffer, (uint32_t)length);
	said = brick_error();
	if (err)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": read: %s", w.block + w.offset, *said ? said : strerror(-err));
	else
		put_out(ctl, args, w.block + w.offset, buffer, length, out);
	if (mine && !brick_lane_state(ctl->lane))
		put_handle(ctl, "read", w.block, 0, out);
done:
	brick_buffer_free(ctl->session, buffer);
	return 0;
}

/* The bytes to write: from --data, --file or standard input; -EFBIG when there are more than fit. */
static int gather(const struct ctl_args *args, uint8_t *buffer, size_t room, size_t *n)
{
	uint8_t extra;
	int fd, err = 0;

	*n = 0;
	if (args->data) {
		size_t digits = strlen(args->data);

		if (digits % 2 || strspn(args->data, "0123456789abcdefABCDEF") != digits)
			return -EINVAL;
		if (digits / 2 > room)
			return -EFBIG;
		for (size_t i = 0; i < digits; i += 2) {
			char pair[3] = {args->data[i], args->data[i + 1], '\0'};

			buffer[(*n)++] = (uint8_t)strtoul(pair, NULL, 16);
		}
		return 0;
	}
	fd = args->file ? open(args->file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t got = *n < room ? read(fd, buffer + *n, room - *n) : read(fd, &extra, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			err = -errno;
		else if (got && *n == room)
			err = -EFBIG;
		if (got <= 0 || err)
			break;
		*n += (size_t)got;
	}
	if (args->file)
		close(fd);
	return err;
}

static int persist_written(struct ctl *ctl, const struct window *w, size_t n, json_t *out)
{
	struct brick_range range = {w->block + w->offset, (uint32_t)n};
	int status = 0, err = brick_persist(ctl->lane, &range, 1, &status);

	if (!err)
		err = status;
	if (err)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": write: written, but not durable: %s", range.addr,
			 ctl_reason("persist", err));
	return err;
}

int ctl_write(struct ctl *ctl, const struct ctl_args *args, json_t *out)
{
	const char *source = args->data ? "--data" : args->file ? args->file : "standard input";
	struct brick_handle handle;
	bool mine, durable = false;
	const char *said;
	struct window w;
	uint8_t *buffer;
	size_t n;
	int err = parse_window(args, &w);

	if (err)
		return err;
	if (args->data && args->file)
		return ctl_usage("write: either --data or --file");
	if (ctl->script && !args->data && !args->file)
		return ctl_usage("write: in a script standard input has the commands: the bytes come from --file or --data");
	json_object_set_new(out, "address", ctl_json_address(w.block));
	json_object_set_new(out, "offset", json_integer(w.offset));
	buffer = brick_buffer_alloc(ctl->session, w.room);
	if (!buffer) {
		ctl_fail(ctl, out, -ENOMEM, "0x%" PRIx64 ": write: no memory for %" PRIu32 " bytes", w.block, w.room);
		return 0;
	}
	err = gather(args, buffer, w.room, &n);
	if (err == -EFBIG)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": write: %s has more than the %" PRIu32 " bytes that the block has from there",
			 w.block + w.offset, source, w.room);
	else if (err)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": write: %s: %s", w.block, source,
			 err == -EINVAL ? "not pairs of hex digits" : strerror(-err));
	else if (!n)
		ctl_fail(ctl, out, -ENODATA, "0x%" PRIx64 ": write: %s is empty, nothing was written", w.block, source);
	if (err || !n)
		goto done;
	if (get_handle(ctl, "write", w.block, BRICK_MAP_WRITE | args->map_flags, &handle, &mine, out))
		goto done;
	err = brick_write(ctl->lane, &handle, w.offset, buffer, (uint32_t)n);
	said = brick_error();
	if (err)
		ctl_fail(ctl, out, err, "0x%" PRIx64 ": write: %s", w.block + w.offset, *said ? said : strerror(-err));
	else if (args->persist)
		durable = !persist_written(ctl, &w, n, out);
	json_object_set_new(out, "length", json_integer(err ? 0 : (json_int_t)n));
	json_object_set_new(out, "persisted", json_boolean(durable));
	if (!err && !ctl->json)
		printf("0x%" PRIx64 "  %zu bytes written%s\n", w.block + w.offset, n, durable ? ", persisted" : "");
	if (mine && !brick_lane_state(ctl->lane))
		put_handle(ctl, "write", w.block, durable ? BRICK_UNMAP_CLEAN : 0, out);
done:
	brick_buffer_free(ctl->session, buffer);
	return 0;
}
