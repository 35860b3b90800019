/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume-recall - living with a brick whose memory is smaller than its store.
 *
 * Such a brick refuses a map when everything in its memory is mapped (ENOMEM), and asks those who hold much for
 * some of it (RECALL).  Both lower the number of maps that this session allows itself (slots): what is beyond is given back, least
 * recently used first, and needs are met within what is left, down to one block at a time.  While the brick is
 * content the number grows again towards what was granted, slowly, and only when somebody needs it.
 */
#include "volume-internal.h"

#define GROW_MS 1000		/* without a complaint, until a few more maps are tried */

static void lower(struct vol_brick *b, size_t slots)
{
	if (slots < 1)
		slots = 1;
	if (slots < b->slots)
		b->slots = slots;
	b->squeezed_ms = vol_now_ms();
	/* Who waits for more than there are now must cut his request again. */
	pthread_cond_broadcast(&b->cond);
}

bool vol_squeeze(struct vol_brick *b)
{
	bool more;

	pthread_mutex_lock(&b->mutex);
	more = b->slots > 1 || b->maps > 0;
	/* What could not be mapped is out of the table: this is what we have, or others are about to be refused too. */
	lower(b, b->maps);
	pthread_mutex_unlock(&b->mutex);
	return more;
}

void vol_grow(struct vol_brick *b)
{
	uint64_t now;

	if (b->slots >= b->granted)
		return;
	now = vol_now_ms();
	if (now - b->squeezed_ms < GROW_MS)
		return;
	b->squeezed_ms = now;
	b->slots += 1 + b->slots / 8;
	if (b->slots > b->granted)
		b->slots = b->granted;
}

void vol_hear(struct vol_brick *b, unsigned lane)
{
	uint64_t blocks = b->vol->backend->recalled(b->session, lane);

	if (!blocks)
		return;
	pthread_mutex_lock(&b->mutex);
	lower(b, b->maps > blocks ? b->maps - (size_t)blocks : 0);
	pthread_mutex_unlock(&b->mutex);
}

/* On a lane that nobody uses; who uses one hears it there. */
static void look(struct vol_brick *b)
{
	for (unsigned i = 0; i < b->lane_slots; i++) {
		struct vol_lane *lane = &b->lane[i];
		bool usable;

		if (pthread_mutex_trylock(&lane->mutex))
			continue;
		usable = !vol_usable(b) && b->session && !lane->broken && lane->index < b->lanes;
		if (usable)
			vol_hear(b, lane->index);
		pthread_mutex_unlock(&lane->mutex);
		if (usable)
			return;
	}
}

void vol_give_back(struct volume *vol)
{
	for (unsigned i = 0; i < vol->bricks; i++) {
		struct vol_brick *b = vol->brick[i];

		look(b);
		pthread_mutex_lock(&b->mutex);
		while (b->maps > b->slots && !vol_usable(b) && vol_evict(b, b->maps - b->slots))
			;
		pthread_mutex_unlock(&b->mutex);
	}
}
