/* SPDX-License-Identifier: BSD-3-Clause */
/* refusals - how often something was refused, by its reason, and when that is said. */
#include "refusals.h"

#include <string.h>

void refusals_init(struct refusals *refusals)
{
	memset(refusals, 0, sizeof(*refusals));
	pthread_mutex_init(&refusals->lock, NULL);
}

void refusals_fini(struct refusals *refusals)
{
	pthread_mutex_destroy(&refusals->lock);
}

bool refusals_count(struct refusals *refusals, enum wire_refusal reason, uint64_t now_ns, uint64_t *left_out)
{
	bool say;

	pthread_mutex_lock(&refusals->lock);
	refusals->row[reason].count++;
	say = !refusals->row[reason].said_ns || now_ns - refusals->row[reason].seen_ns > REFUSALS_QUIET_NS ||
	      now_ns - refusals->row[reason].said_ns > REFUSALS_AGAIN_NS;
	refusals->row[reason].seen_ns = now_ns;
	if (say) {
		*left_out = refusals->row[reason].left_out;
		refusals->row[reason].left_out = 0;
		refusals->row[reason].said_ns = now_ns;
	} else {
		refusals->row[reason].left_out++;
	}
	pthread_mutex_unlock(&refusals->lock);
	return say;
}

uint64_t refusals_read(struct refusals *refusals, enum wire_refusal reason)
{
	uint64_t count;

	pthread_mutex_lock(&refusals->lock);
	count = refusals->row[reason].count;
	pthread_mutex_unlock(&refusals->lock);
	return count;
}
