/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs - what the sessions need of RDMA: a protection domain for each session,
 * a memory region for each of its maps, and the limits of the device.
 *
 * Failures are said once, through report(), with the device, its limits, and what
 * to do; the caller gets the negative errno.
 *
 * Threads: any.  Nothing here may be called with the brick's lock held, except
 * where it says so.
 */
#ifndef TARGET_VERBS_H
#define TARGET_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "endpoint.h"

struct ibv_mr;
struct verbs_domain;

/* Deregisters nothing: every region must be gone, and every queue pair. NULL is fine. */
void verbs_domain_delete(struct verbs_domain *domain);
/*
 * What a session on this device may have, so that `sessions` of them with `lanes` each, and `greeting` connections more,
 * share its regions: 1 at least.  Any lock may be held.
 */
uint32_t verbs_maps_limit(const struct verbs_domain *domain, uint32_t sessions, uint32_t lanes, uint32_t greeting);
/* Requests in flight that a queue pair of this device can take. Any lock may be held. */
uint32_t verbs_depth_limit(const struct verbs_domain *domain);
/* RDMA FLUSH with persistent placement: true if this build and the device can, and memory like this registers for it. */
bool verbs_flush_possible(const struct verbs_domain *domain, void *address, size_t length);
/* Regions of the domain that are registered from here on are for it. Any lock may be held. */
void verbs_flush_use(struct verbs_domain *domain);

/*
 * Makes a block reachable for the peer, as `iova` and with the key.  -ENOMEM: regions or locked memory are used up;
 * -EFAULT, -EOPNOTSUPP: memory of this kind cannot be registered.
 */
int verbs_register(struct verbs_domain *domain, void *address, size_t length, uint64_t iova, bool write,
		   struct ibv_mr **region, uint32_t *key);
/* When it returns 0 nothing reaches the memory any more.  Else the region is still there as far as can be told. */
int verbs_deregister(struct verbs_domain *domain, struct ibv_mr *region);

#define VERBS_WHY_MAX 256
/*
 * Tries to register memory for remote writing on every device that serves an rdma:// endpoint.  0, or a negative
 * errno and the reason in why; -ENODEV: there is no device at that address.
 */
int verbs_can_register(const struct endpoint *endpoint, void *address, size_t length, char why[VERBS_WHY_MAX]);

#endif
