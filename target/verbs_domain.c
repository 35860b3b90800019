/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_domain - the protection domain of a session, and the memory regions that
 * its maps are.
 *
 * A region is registered with the block's address as its I/O virtual address, for
 * one block, in the domain of one session, without relaxed ordering: which bytes
 * a peer reaches, and how, is the hardware's to check.
 */
#include "verbs-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "report.h"

#define ACCESS_READ  IBV_ACCESS_REMOTE_READ
#define ACCESS_WRITE (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)
/* What a lane takes for its buffers. */
#define REGIONS_OF_LANE 2
/* IB_UVERBS_DEVICE_FLUSH_PERSISTENT of the kernel's <rdma/ib_user_verbs.h>, since 6.3; libibverbs has no name for it. */
#define CAP_FLUSH_PERSISTENT (1ull << 39)

int verbs_domain_new(struct rdma_cm_id *id, struct verbs_domain **out)
{
	struct verbs_domain *domain = calloc(1, sizeof(*domain));
	int ret;

	if (!domain)
		return -ENOMEM;
	ret = verbs_device_get(id, &domain->device);
	if (ret)
		goto fail;
	domain->pd = ibv_alloc_pd(id->verbs);
	if (!domain->pd) {
		ret = errno ? -errno : -ENOMEM;
		if (verbs_may_say(domain->device))
			report_error("%s: no protection domain for one more session (the device has %d): %s",
				     domain->device->name, domain->device->attr.max_pd, strerror(-ret));
		verbs_device_put(domain->device);
		goto fail;
	}
	*out = domain;
	return 0;
fail:
	free(domain);
	return ret;
}

void verbs_domain_delete(struct verbs_domain *domain)
{
	int ret;

	if (!domain)
		return;
	ret = ibv_dealloc_pd(domain->pd);
	if (ret)
		report_error("%s: a protection domain cannot be given back: %s", domain->device->name, strerror(ret));
	verbs_device_put(domain->device);
	free(domain);
}

uint32_t verbs_maps_limit(const struct verbs_domain *domain, uint32_t sessions, uint32_t lanes, uint32_t greeting)
{
	int64_t all = domain->device->attr.max_mr - (int64_t)greeting * REGIONS_OF_LANE;
	int64_t each = all / sessions - (int64_t)lanes * REGIONS_OF_LANE;
	uint64_t memlock = verbs_memlock();

	if (memlock != UINT64_MAX && each > (int64_t)(memlock / WIRE_BLOCK_SIZE / sessions))
		each = (int64_t)(memlock / WIRE_BLOCK_SIZE / sessions);
	return each < 1 ? 1 : each > UINT32_MAX ? UINT32_MAX : (uint32_t)each;
}

uint32_t verbs_depth_limit(const struct verbs_domain *domain)
{
	int64_t most = domain->device->attr.max_qp_wr - VERBS_RECEIVES_MIN;

	return most < 1 ? 1 : (uint32_t)most;
}

bool verbs_flush_possible(const struct verbs_domain *domain, void *address, size_t length)
{
#if HAVE_DECL_IBV_WR_FLUSH
	struct ibv_mr *region;

	if (!(domain->device->flags_ex & CAP_FLUSH_PERSISTENT))
		return false;
	region = ibv_reg_mr(domain->pd, address, length, ACCESS_READ | ACCESS_WRITE | IBV_ACCESS_FLUSH_PERSISTENT);
	if (!region) {
		report_info("%s: the pool's memory cannot be registered for RDMA FLUSH: %s", domain->device->name,
			    strerror(errno));
		return false;
	}
	return ibv_dereg_mr(region) == 0;
#else
	return false;
#endif
}

void verbs_flush_use(struct verbs_domain *domain)
{
	atomic_store(&domain->flush, true);
}

static const char *why_not(int error)
{
	switch (error) {
	case EFAULT:
		return "its pages cannot be pinned for RDMA (a plain file's pages cannot): serve it from memory with "
		       "--memory "
		       "SIZE, or use a devdax pool";
	case EOPNOTSUPP:
		return "memory of this kind needs a device with on-demand paging (a file on fsdax does): serve it from "
		       "memory "
		       "with --memory SIZE, or use a devdax pool";
	default:
		return strerror(error);
	}
}

int verbs_register(struct verbs_domain *domain, void *address, size_t length, uint64_t iova, bool write,
		   struct ibv_mr **out, uint32_t *key)
{
	struct verbs_device *device = domain->device;
	unsigned access = ACCESS_READ | (write ? ACCESS_WRITE : 0);
	struct ibv_mr *region;
	int ret;

#if HAVE_DECL_IBV_WR_FLUSH
	if (atomic_load(&domain->flush))
		access |= IBV_ACCESS_FLUSH_PERSISTENT;
#endif
	region = ibv_reg_mr_iova(domain->pd, address, length, iova, access);
	if (!region) {
		ret = errno ? errno : ENOMEM;
		if (verbs_may_say(device))
			report_error("%s: block %llx cannot be registered: %s; %u of %d regions are in use%s",
				     device->name, (unsigned long long)iova, why_not(ret),
				     atomic_load(&device->regions), device->attr.max_mr,
				     ret == ENOMEM ? verbs_memlock_hint() : "");
		/* Soft-RoCE says EINVAL when it has no more */
		return ret == ENOSPC || ret == EAGAIN || ret == EINVAL ? -ENOMEM : -ret;
	}
	atomic_fetch_add(&device->regions, 1);
	*out = region;
	*key = region->rkey;
	return 0;
}

int verbs_deregister(struct verbs_domain *domain, struct ibv_mr *region)
{
	struct verbs_device *device = domain->device;
	int ret = ibv_dereg_mr(region);

	if (ret) {
		report_error("%s: a region cannot be taken back: %s; the session's lanes are closed instead",
			     device->name, strerror(ret));
		return -ret;
	}
	atomic_fetch_sub(&device->regions, 1);
	return 0;
}

static int try_on(struct ibv_context *context, void *address, size_t length, char *why)
{
	struct ibv_pd *pd = ibv_alloc_pd(context);
	struct ibv_mr *region;
	int ret = 0;

	if (!pd) {
		ret = errno ? errno : ENOMEM;
		snprintf(why, VERBS_WHY_MAX, "%s: no protection domain: %s", ibv_get_device_name(context->device),
			 strerror(ret));
		return -ret;
	}
	region = ibv_reg_mr(pd, address, length, ACCESS_READ | ACCESS_WRITE);
	if (!region) {
		ret = errno ? errno : ENOMEM;
		snprintf(why, VERBS_WHY_MAX, "%s: %s%s", ibv_get_device_name(context->device), why_not(ret),
			 ret == ENOMEM ? verbs_memlock_hint() : "");
	} else {
		ibv_dereg_mr(region);
	}
	ibv_dealloc_pd(pd);
	return -ret;
}

int verbs_can_register(const struct endpoint *endpoint, void *address, size_t length, char why[VERBS_WHY_MAX])
{
	struct rdma_addrinfo hints = {.ai_flags = RAI_PASSIVE, .ai_port_space = RDMA_PS_TCP}, *info = NULL;
	struct rdma_event_channel *channel = rdma_create_event_channel();
	struct rdma_cm_id *id = NULL;
	int ret = -ENODEV;

	why[0] = 0;
	if (!channel) {
		ret = -errno;
		snprintf(why, VERBS_WHY_MAX, "no RDMA connection manager: %s (is rdma_ucm loaded?)", strerror(errno));
		return ret;
	}
	if (rdma_getaddrinfo(endpoint->host, "0", &hints, &info)) {
		snprintf(why, VERBS_WHY_MAX, "cannot resolve %.100s", endpoint->host);
		ret = -EADDRNOTAVAIL;
	} else if (rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) || rdma_bind_addr(id, info->ai_src_addr)) {
		ret = -errno;
		snprintf(why, VERBS_WHY_MAX, "no RDMA device has the address %.100s: %s", endpoint->host,
			 strerror(errno));
	} else if (id->verbs) {
		ret = try_on(id->verbs, address, length, why);
	} else { /* any address: every device */
		int n = 0;
		struct ibv_context **list = rdma_get_devices(&n);

		if (!n)
			snprintf(why, VERBS_WHY_MAX, "there is no RDMA device");
		ret = n ? 0 : -ENODEV;
		for (int i = 0; i < n && !ret; i++)
			ret = try_on(list[i], address, length, why);
		if (list)
			rdma_free_devices(list);
	}
	if (id)
		rdma_destroy_id(id);
	if (info)
		rdma_freeaddrinfo(info);
	rdma_destroy_event_channel(channel);
	return ret;
}
