/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refusals - how often something was refused, by its reason, and when that is said.
 *
 * A hostile peer must not fill the log: of each reason one message for a burst, that
 * is, as long as it happens again within REFUSALS_QUIET_NS, and one every
 * REFUSALS_AGAIN_NS while the burst lasts.  What was left out is counted, for the next message.
 *
 * Threads: any; the lock is the last of all.
 */
#ifndef TARGET_REFUSALS_H
#define TARGET_REFUSALS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

#define REFUSALS_QUIET_NS 10000000000ull
#define REFUSALS_AGAIN_NS 60000000000ull

struct refusals {
	pthread_mutex_t lock;
	struct {
		uint64_t count, left_out;
		uint64_t seen_ns, said_ns; /* monotonic; 0: never */
	} row[WIRE_REFUSED_ROWS];
};

void refusals_init(struct refusals *refusals);
void refusals_fini(struct refusals *refusals);
/* One more.  True: say it now, and that so many more were left out since the last message. */
bool refusals_count(struct refusals *refusals, enum wire_refusal reason, uint64_t now_ns, uint64_t *left_out);
uint64_t refusals_read(struct refusals *refusals, enum wire_refusal reason);

#endif
