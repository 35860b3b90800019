/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-verbs-domain - the device and the protection domain that the lanes of a
 * session share, and the memory that the application registered.
 *
 * Nothing is opened before the first connection is made: it says which device it is,
 * and what verbs opens does not survive a fork.  The device's context is librdmacm's,
 * one for the whole process; the protection domain is the session's own.
 */
#include "transport-verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

int verbs_domain_open(const struct endpoint *endpoint, struct transport_domain **domainp)
{
	struct transport_domain *domain = calloc(1, sizeof(*domain));

	if (!domain)
		return brick_fail(-ENOMEM, "%s:%s: no memory for a session", endpoint->host, endpoint->port);
	pthread_mutex_init(&domain->lock, NULL);
	*domainp = domain;
	return 0;
}

void verbs_domain_close(struct transport_domain *domain)
{
	for (size_t i = 0; i < domain->buffer_count; i++)
		ibv_dereg_mr(domain->buffers[i].mr);
	free(domain->buffers);
	if (domain->pd)
		ibv_dealloc_pd(domain->pd);
	if (domain->held)
		rdma_free_devices(domain->held);
	pthread_mutex_destroy(&domain->lock);
	free(domain);
}

/* On kernels before 5.12 a child would take registered pages away from its parent; later ones copy for it. */
static void survive_forks(void)
{
	ibv_fork_init();	/* too late, when the application has registered memory already: then it is its choice */
}

#if HAVE_DECL_IBV_WR_FLUSH
/* Bit 39 of the device's capabilities: IB_UVERBS_DEVICE_FLUSH_PERSISTENT of <rdma/ib_user_verbs.h>. */
#define CAP_FLUSH_PERSISTENT (1ull << 39)

static bool device_flushes(struct ibv_context *context)
{
	struct ibv_device_attr_ex attr = { 0 };

	return ibv_query_device_ex(context, NULL, &attr) == 0 && (attr.device_cap_flags_ex & CAP_FLUSH_PERSISTENT);
}
#else
static bool device_flushes(struct ibv_context *context)
{
	return false;
}
#endif

static int choose(struct transport_domain *domain, const char *text, struct ibv_context *context)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const char *device = ibv_get_device_name(context->device);
	int ret;

	if (context->device->transport_type == IBV_TRANSPORT_IWARP)
		return brick_fail(-EPROTONOSUPPORT, "%s: the device %s is iWARP, over which a write completes before the "
				  "brick's device can refuse it; use InfiniBand or RoCE, or tcp://", text, device);
	pthread_once(&once, survive_forks);
	ret = ibv_query_device(context, &domain->attr);
	if (ret)
		return brick_fail(-ret, "%s: cannot ask the device %s what it can do: %s", text, device, brick_errno_text(ret));
	domain->pd = ibv_alloc_pd(context);
	if (!domain->pd)
		return brick_fail(-errno, "%s: the device %s gave no protection domain: %s", text, device,
				  brick_errno_text(-errno));
	/* A device that is pulled out closes its context with its last user. */
	domain->held = rdma_get_devices(NULL);
	domain->can_flush = device_flushes(context);
	snprintf(domain->device, sizeof(domain->device), "%s", device);
	domain->context = context;
	return 0;
}

int verbs_domain_bind(struct transport_domain *domain, const char *text, struct rdma_cm_id *id)
{
	int ret = 0;

	pthread_mutex_lock(&domain->lock);
	if (!domain->context)
		ret = choose(domain, text, id->verbs);
	else if (domain->context != id->verbs)
		ret = brick_fail(-EXDEV, "%s: the way to the brick leads over the device %s now, and the session was opened "
				 "on %s; its lanes must all be on one", text, ibv_get_device_name(id->verbs->device),
				 domain->device);
	pthread_mutex_unlock(&domain->lock);
	return ret;
}

const char *verbs_limit_text(int error, char text[static 96])
{
	struct rlimit limit;

	text[0] = '\0';
	if (error == -ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		snprintf(text, 96, " (locked memory is limited to %llu KiB: ulimit -l, LimitMEMLOCK=)",
			 (unsigned long long)limit.rlim_cur / 1024);
	return text;
}

/* The first buffer that begins behind at. */
static size_t behind(const struct transport_domain *domain, const uint8_t *at)
{
	size_t low = 0, high = domain->buffer_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (domain->buffers[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert(struct transport_domain *domain, const struct verbs_buffer *buffer)
{
	size_t at;

	if (domain->buffer_count == domain->buffer_room) {
		size_t room = domain->buffer_room ? 2 * domain->buffer_room : 16;
		struct verbs_buffer *more = reallocarray(domain->buffers, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		domain->buffers = more;
		domain->buffer_room = room;
	}
	at = behind(domain, buffer->at);
	memmove(domain->buffers + at + 1, domain->buffers + at, (domain->buffer_count - at) * sizeof(*buffer));
	domain->buffers[at] = *buffer;
	domain->buffer_count++;
	if (buffer->size > domain->buffer_largest)
		domain->buffer_largest = buffer->size;
	atomic_fetch_add(&domain->generation, 1);
	return 0;
}

int verbs_buffer_register(struct transport_domain *domain, void *memory, size_t size)
{
	struct verbs_buffer buffer = { .at = memory, .size = size, .writable = true };
	char limit[96];
	int ret;

	pthread_mutex_lock(&domain->lock);
	ret = domain->pd ? 0 : -ENOTCONN;
	pthread_mutex_unlock(&domain->lock);
	if (ret < 0)
		return brick_fail(ret, "a buffer before the session was connected");
	/* Registering may take long (it pins every page): without the lock. */
	buffer.mr = ibv_reg_mr(domain->pd, memory, size, IBV_ACCESS_LOCAL_WRITE);
	if (!buffer.mr && (errno == EFAULT || errno == EACCES || errno == EPERM)) {
		buffer.writable = false;	/* memory that may only be read is good for writes */
		buffer.mr = ibv_reg_mr(domain->pd, memory, size, 0);
	}
	if (!buffer.mr) {
		ret = errno ? -errno : -ENOMEM;
		return brick_fail(ret, "%s: cannot register %zu bytes: %s%s", domain->device, size, brick_errno_text(ret),
				  verbs_limit_text(ret, limit));
	}
	pthread_mutex_lock(&domain->lock);
	ret = insert(domain, &buffer);
	pthread_mutex_unlock(&domain->lock);
	if (ret < 0) {
		ibv_dereg_mr(buffer.mr);
		return brick_fail(ret, "%s: no memory to note a buffer", domain->device);
	}
	return 0;
}

void verbs_buffer_unregister(struct transport_domain *domain, void *memory, size_t size)
{
	struct ibv_mr *mr = NULL;

	pthread_mutex_lock(&domain->lock);
	for (size_t i = behind(domain, memory); i-- > 0 && domain->buffers[i].at == memory;) {
		if (domain->buffers[i].size != size)
			continue;
		mr = domain->buffers[i].mr;
		memmove(domain->buffers + i, domain->buffers + i + 1,
			(--domain->buffer_count - i) * sizeof(*domain->buffers));
		atomic_fetch_add(&domain->generation, 1);
		break;
	}
	pthread_mutex_unlock(&domain->lock);
	if (mr)
		ibv_dereg_mr(mr);
}

static bool inside(const struct verbs_buffer *buffer, const uint8_t *at)
{
	return at >= buffer->at && (size_t)(at - buffer->at) < buffer->size;
}

size_t verbs_buffer_find(struct transport *t, uint8_t *at, size_t length, bool writable, uint32_t *lkey)
{
	struct transport_domain *domain = t->domain;
	unsigned generation = atomic_load(&domain->generation);
	size_t left;

	/* One request's memory is most often where the last one's was. */
	if (t->hit_generation != generation || !inside(&t->hit, at) || (writable && !t->hit.writable)) {
		const struct verbs_buffer *found = NULL;

		pthread_mutex_lock(&domain->lock);
		/* Buffers may lie in each other: back from the last one that begins here, as far as any can reach. */
		for (size_t i = behind(domain, at); i-- > 0;) {
			const struct verbs_buffer *buffer = &domain->buffers[i];

			if ((size_t)(at - buffer->at) >= domain->buffer_largest)
				break;
			if (inside(buffer, at) && (buffer->writable || !writable)) {
				found = buffer;
				break;
			}
		}
		if (found) {
			t->hit = *found;
			t->hit_generation = atomic_load(&domain->generation);
		}
		pthread_mutex_unlock(&domain->lock);
		if (!found)
			return 0;
	}
	*lkey = t->hit.mr->lkey;
	left = t->hit.size - (size_t)(at - t->hit.at);
	return left < length ? left : length;
}
