/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * data - READ and WRITE frames: bytes go straight between the socket and the
 * block.
 *
 * A frame that names no live map of its session, or asks for more than the map
 * allows, is a violation and costs the lane.  Memory that fails (a device gone
 * bad) is answered with EIO as long as the stream can be kept in step.
 */
#include "server.h"

#include <errno.h>
#include <string.h>

#include "stream.h"

/*
 * The bytes of a block are the initiators': it is they who order what several
 * lanes read and write there, out of ThreadSanitizer's sight.
 */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define DATA_TSAN
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define DATA_TSAN
#endif
#ifdef DATA_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define block_bytes_begin() (AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__))
#define block_bytes_end()   (AnnotateIgnoreWritesEnd(__FILE__, __LINE__), AnnotateIgnoreReadsEnd(__FILE__, __LINE__))
#else
#define block_bytes_begin() ((void)0)
#define block_bytes_end()   ((void)0)
#endif

static int reply_plain(struct lane *lane, const struct wire_header *header, int error)
{
	uint8_t message[WIRE_HEADER_SIZE];
	struct iovec iov = {.iov_base = message};
	size_t sent;

	iov.iov_len = wire_put_plain(message, header->type | WIRE_REPLY, header->id, error);
	return lane_send(lane, &iov, 1, -1, &sent);
}

/* The payload into the block.  *placed: bytes that may have changed.  0, -EIO (in step), or what broke the stream. */
static int place(struct lane *lane, uint8_t *to, size_t length, size_t *placed)
{
	struct stream *stream = conn_stream(lane->conn);
	size_t have = stream_buffered(stream), got;
	uint8_t *at;
	int ret;

	*placed = 0;
	if (have > length)
		have = length;
	if (have) {
		ret = stream_want(stream, have, &at); /* it is there */
		if (ret)
			return ret;
		if (pool_copy(to, at, have)) {
			ret = stream_discard(stream, length);
			*placed = have;
			return ret ? ret : -EIO;
		}
		stream_consume(stream, have);
		*placed = have;
	}
	if (have == length)
		return 0;
	ret = stream_recv(stream, to + have, length - have, &got);
	*placed += got;
	if (ret == -EFAULT) {
		ret = stream_discard(stream, length - *placed);
		return ret ? ret : -EIO;
	}
	return ret;
}

static int wrote_to(struct lane *lane, uint32_t slot, uint32_t offset, uint32_t length)
{
	bool fault = tier_mode(lane->server->tier) == TIER_FAULT;
	int ret;

	if (fault)
		pthread_mutex_lock(&lane->tier_lock);
	ret = tier_wrote(lane->tier, slot, offset, length);
	if (fault)
		pthread_mutex_unlock(&lane->tier_lock);
	return ret;
}

static int serve_write(struct lane *lane, const struct wire_header *header, const struct wire_rw *rw, struct map *map)
{
	uint32_t offset = (uint32_t)(rw->addr & (WIRE_BLOCK_SIZE - 1));
	size_t placed;
	int ret, wrote = 0;

	block_bytes_begin();
	ret = place(lane, (uint8_t *)map->address + offset, rw->length, &placed);
	block_bytes_end();
	/* also what a broken frame left behind counts as written */
	if (placed)
		wrote = wrote_to(lane, map->slot, offset, (uint32_t)placed);
	locks_access_end(lane, map);
	if (ret && ret != -EIO)
		return ret;
	return reply_plain(lane, header, ret ? ret : wrote) ?: ret ?: wrote;
}

static int serve_read(struct lane *lane, const struct wire_header *header, const struct wire_rw *rw, struct map *map)
{
	uint32_t offset = (uint32_t)(rw->addr & (WIRE_BLOCK_SIZE - 1));
	uint8_t message[WIRE_HEADER_SIZE];
	struct wire_header reply = {
		.length = WIRE_HEADER_SIZE + rw->length,
		.type = WIRE_READ | WIRE_REPLY,
		.id = header->id,
	};
	struct iovec iov[2] = {
		{.iov_base = message, .iov_len = sizeof(message)},
		{.iov_base = (uint8_t *)map->address + offset, .iov_len = rw->length},
	};
	size_t sent;
	int ret;

	wire_put_header(message, &reply);
	block_bytes_begin();
	ret = lane_send(lane, iov, 2, -1, &sent);
	block_bytes_end();
	locks_access_end(lane, map);
	if (ret == -EFAULT && !sent)
		return reply_plain(lane, header, -EIO) ?: -EIO;
	return ret == -EFAULT ? -ECONNRESET : ret; /* cut off in the middle: the lane cannot go on */
}

int data_frame(struct lane *lane, const struct wire_header *header, bool *violation)
{
	struct server *server = lane->server;
	struct stream *stream = conn_stream(lane->conn);
	bool write = header->type == WIRE_WRITE;
	uint64_t begin = now_ns();
	struct wire_rw rw;
	struct map *map;
	uint8_t *at;
	int ret;

	ret = header->length < WIRE_RW_FIXED ? -EPROTO : stream_want(stream, WIRE_RW_FIXED, &at);
	if (!ret)
		ret = wire_get_rw(at, WIRE_RW_FIXED, &rw);
	if (ret)
		return ret > 0 ? -ECONNRESET : ret;
	stream_consume(stream, WIRE_RW_FIXED);
	ret = locks_access(lane, &rw, write, &map);
	if (ret) {
		*violation = true;
		stats_count(&server->stats, call_op(header->type), 1, 0, now_ns() - begin);
		(void)reply_plain(lane, header, ret); /* it loses the lane whether it hears why or not */
		return ret;
	}
	ret = write ? serve_write(lane, header, &rw, map) : serve_read(lane, header, &rw, map);
	stats_count(&server->stats, call_op(header->type), ret != 0, ret ? 0 : rw.length, now_ns() - begin);
	/* -EIO was answered, the stream is in step */
	return ret == -EIO || ret == -ENOMEM ? 0 : ret;
}
