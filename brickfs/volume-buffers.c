/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-buffers - the memory that every session of the volume is to know: noted
 * once, registered with each session that is opened, also after a reconnect.
 *
 * buffers_mutex guards the list and, beside the lanes, b->session: whoever holds it sees a session that stays.
 * It is a leaf but for the calls of the backend made under it, which send nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "volume-internal.h"

struct vol_buffer {
	struct vol_buffer *next;
	void *memory;
	size_t size;
	bool ours;		/* mapped by vol_buffer_alloc() */
	uint64_t known;		/* bits: bricks whose session knows it */
};

_Static_assert(VOL_BRICKS_MAX <= 64, "a bit for each brick");

static int tell(struct vol_brick *b, struct backend_session *session, struct vol_buffer *buffer)
{
	int r = b->vol->backend->buffer_register(session, buffer->memory, buffer->size);

	if (!r)
		buffer->known |= 1ull << b->index;
	return r;
}

void vol_session_set(struct vol_brick *b, struct backend_session *session)
{
	struct volume *vol = b->vol;

	pthread_mutex_lock(&vol->buffers_mutex);
	for (struct vol_buffer *buffer = vol->buffers; buffer; buffer = buffer->next) {
		buffer->known &= ~(1ull << b->index);	/* the old session's end was the end of that */
		if (session)
			tell(b, session, buffer);	/* if it cannot: slower, not wrong */
	}
	b->session = session;
	pthread_mutex_unlock(&vol->buffers_mutex);
}

/* False: no memory to note it. *error: of the first session that could not register it. */
static bool add(struct volume *vol, void *memory, size_t size, bool ours, int *error)
{
	struct vol_buffer *buffer = malloc(sizeof(*buffer));

	*error = 0;
	if (!buffer)
		return false;
	*buffer = (struct vol_buffer){ .memory = memory, .size = size, .ours = ours };
	pthread_mutex_lock(&vol->buffers_mutex);
	buffer->next = vol->buffers;
	vol->buffers = buffer;
	for (unsigned i = 0; i < vol->bricks; i++) {
		struct vol_brick *b = vol->brick[i];
		int r = b->session ? tell(b, b->session, buffer) : 0;

		if (r && !*error)
			*error = r;
	}
	pthread_mutex_unlock(&vol->buffers_mutex);
	return true;
}

int vol_buffer_add(struct volume *vol, void *memory, size_t size)
{
	int error;

	return add(vol, memory, size, false, &error) ? error : -ENOMEM;
}

static void forget(struct volume *vol, struct vol_buffer *buffer)
{
	for (unsigned i = 0; i < vol->bricks; i++)
		if (buffer->known >> i & 1)
			vol->backend->buffer_unregister(vol->brick[i]->session, buffer->memory);
}

static void drop(struct vol_buffer *buffer)
{
	if (buffer->ours)
		munmap(buffer->memory, buffer->size);
	free(buffer);
}

void vol_buffer_remove(struct volume *vol, void *memory)
{
	struct vol_buffer **p = &vol->buffers, *buffer;

	if (!memory)
		return;
	pthread_mutex_lock(&vol->buffers_mutex);
	while (*p && (*p)->memory != memory)
		p = &(*p)->next;
	buffer = *p;
	if (buffer) {
		*p = buffer->next;
		forget(vol, buffer);
	}
	pthread_mutex_unlock(&vol->buffers_mutex);
	if (buffer)
		drop(buffer);
}

void *vol_buffer_alloc(struct volume *vol, size_t size)
{
	/* Pages of its own: a registration pins pages. */
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ignored;		/* where it cannot be registered it is memory like any other */

	if (memory == MAP_FAILED)
		return NULL;
	if (!add(vol, memory, size, true, &ignored)) {
		munmap(memory, size);
		return NULL;
	}
	return memory;
}

void vol_buffers_free(struct volume *vol)
{
	struct vol_buffer *buffer;

	while ((buffer = vol->buffers)) {
		vol->buffers = buffer->next;
		drop(buffer);
	}
}
