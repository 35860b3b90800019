/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_device - the devices in use: their limits, and the one thread for each
 * that reads its asynchronous events.
 */
#include "verbs-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config.h"
#include "report.h"
#include "stats.h"

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct verbs_device *devices;

static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return syscall(SYS_capget, &header, data) == 0 && data[0].effective & (1u << CAP_IPC_LOCK);
}

uint64_t verbs_memlock(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY || may_lock_all())
		return UINT64_MAX;
	return limit.rlim_cur;
}

const char *verbs_memlock_hint(void)
{
	return verbs_memlock() == UINT64_MAX ? "" : "; locked memory is limited: raise LimitMEMLOCK (ulimit -l)";
}

bool verbs_may_say(struct verbs_device *device)
{
	uint64_t now = now_ns(), said = atomic_load(&device->said_ns);

	return now - said > 1000000000u && atomic_compare_exchange_strong(&device->said_ns, &said, now);
}

static void fail_all(struct verbs_device *device, int error)
{
	pthread_mutex_lock(&device->lock);
	for (struct verbs_conn *conn = device->conns; conn; conn = conn->next)
		verbs_conn_fail(conn, error);
	pthread_mutex_unlock(&device->lock);
}

static void one_fails(struct verbs_device *device, struct verbs_conn *conn, enum ibv_event_type type)
{
	report_warning("%s: %s: %s; its lane ends", device->name, conn->peer, ibv_event_type_str(type));
	verbs_conn_fail(conn, type == IBV_EVENT_QP_ACCESS_ERR ? -EACCES : -EIO);
}

/* An event that names a queue is not acknowledged before it was looked at, so the connection is still there. */
static void async_event(struct verbs_device *device, const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_PATH_MIG_ERR:
		one_fails(device, event->element.qp->qp_context, event->event_type);
		break;
	case IBV_EVENT_CQ_ERR:
		one_fails(device, event->element.cq->cq_context, event->event_type);
		break;
	case IBV_EVENT_COMM_EST: {
		struct verbs_conn *conn = event->element.qp->qp_context;

		/* the peer's last word of the handshake was lost, its first message was not */
		if (rdma_notify(conn->id, IBV_EVENT_COMM_EST) && errno != EISCONN)
			report_debug("%s: %s: rdma_notify: %s", device->name, conn->peer, strerror(errno));
		break;
	}
	case IBV_EVENT_DEVICE_FATAL:
		report_error("%s: the device failed (%s): all lanes over it end", device->name,
			     ibv_event_type_str(event->event_type));
		fail_all(device, -EIO);
		break;
	case IBV_EVENT_PORT_ERR:
		report_warning("%s: port %d is down: lanes over it end when their retries are used up", device->name,
			       event->element.port_num);
		break;
	case IBV_EVENT_PORT_ACTIVE:
		report_notice("%s: port %d is up", device->name, event->element.port_num);
		break;
	default:
		report_info("%s: %s", device->name, ibv_event_type_str(event->event_type));
	}
}

static void cm_event(struct verbs_device *device)
{
	struct rdma_cm_event *event;
	bool removal;

	if (rdma_get_cm_event(device->channel, &event))
		return;
	removal = event->event == RDMA_CM_EVENT_DEVICE_REMOVAL;
	rdma_ack_cm_event(event);
	if (!removal)
		return;
	report_error("%s: the device goes away: all lanes over it end", device->name);
	fail_all(device, -ENODEV);
}

static void *watch(void *arg)
{
	struct verbs_device *device = arg;
	struct pollfd p[3] = {
		{.fd = device->wake, .events = POLLIN},
		{.fd = device->context->async_fd, .events = POLLIN},
		{.fd = device->channel->fd, .events = POLLIN},
	};

	for (;;) {
		struct ibv_async_event event;

		if (poll(p, 3, -1) < 0) {
			if (errno == EINTR)
				continue;
			report_error("%s: poll: %s; its events are not seen any more", device->name, strerror(errno));
			break;
		}
		if (p[0].revents)
			break;
		if (p[1].revents) {
			if (!ibv_get_async_event(device->context, &event)) {
				async_event(device, &event);
				ibv_ack_async_event(&event);
			} else if (errno != EAGAIN && errno != EINTR) {
				p[1].fd = -1; /* the device is gone: nothing but its end is left to wait for */
				fail_all(device, -ENODEV);
			}
		}
		if (p[2].revents)
			cm_event(device);
	}
	return NULL;
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

static void device_free(struct verbs_device *device)
{
	if (device->keeper)
		rdma_destroy_id(device->keeper);
	if (device->channel)
		rdma_destroy_event_channel(device->channel);
	if (device->wake >= 0)
		close(device->wake);
	pthread_mutex_destroy(&device->lock);
	free(device);
}

/* How much a device takes in a work request is not among its attributes: it refuses a queue pair that wants more. */
static uint32_t probe_inline(struct ibv_context *context)
{
	static const uint32_t sizes[] = {VERBS_INLINE, 128, 64};
	struct ibv_pd *pd = ibv_alloc_pd(context);
	struct ibv_cq *cq = pd ? ibv_create_cq(context, 2, NULL, NULL, 0) : NULL;
	uint32_t most = 0;

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && !most && cq; i++) {
		struct ibv_qp_init_attr attr = {
			.send_cq = cq,
			.recv_cq = cq,
			.qp_type = IBV_QPT_RC,
			.cap = {.max_send_wr = 1,
				.max_recv_wr = 1,
				.max_send_sge = 1,
				.max_recv_sge = 1,
				.max_inline_data = sizes[i]},
		};
		struct ibv_qp *qp = ibv_create_qp(pd, &attr);

		if (!qp)
			continue;
		most = sizes[i];
		ibv_destroy_qp(qp);
	}
	if (cq)
		ibv_destroy_cq(cq);
	if (pd)
		ibv_dealloc_pd(pd);
	return most;
}

static int device_new(struct rdma_cm_id *id, struct verbs_device **out)
{
	struct verbs_device *device = calloc(1, sizeof(*device));
	struct ibv_device_attr_ex attr;
	struct sockaddr_storage addr;
	const char *step = "memory";
	int ret = -ENOMEM;

	if (!device)
		return -ENOMEM;
	device->refs = 1;
	device->context = id->verbs;
	device->name = ibv_get_device_name(id->verbs->device);
	pthread_mutex_init(&device->lock, NULL);
	device->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->wake < 0)
		goto fail;
	step = "ibv_query_device";
	ret = -ibv_query_device(device->context, &device->attr);
	if (ret)
		goto fail;
	if (!ibv_query_device_ex(device->context, NULL, &attr))
		device->flags_ex = attr.device_cap_flags_ex;
	device->inline_max = probe_inline(device->context);
	step = "rdma_bind_addr";
	memcpy(&addr, rdma_get_local_addr(id), sizeof(addr));
	if (addr.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&addr)->sin6_port = 0;
	else
		((struct sockaddr_in *)&addr)->sin_port = 0;
	device->channel = rdma_create_event_channel();
	if (!device->channel || rdma_create_id(device->channel, &device->keeper, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(device->keeper, (struct sockaddr *)&addr)) {
		ret = -errno;
		goto fail;
	}
	ret = set_nonblocking(device->channel->fd);
	if (!ret)
		ret = set_nonblocking(device->context->async_fd);
	step = "pthread_create";
	if (!ret)
		ret = -pthread_create(&device->watcher, NULL, watch, device);
	if (ret)
		goto fail;
	*out = device;
	return 0;
fail:
	report_error("%s: the device cannot be used: %s: %s", ibv_get_device_name(id->verbs->device), step,
		     strerror(-ret));
	device_free(device);
	return ret;
}

static void say_limits(const struct verbs_device *device)
{
	uint64_t memlock = verbs_memlock();
	char locked[16] = "unlimited";

	if (memlock != UINT64_MAX)
		format_size(memlock, locked);
	report_info(
		"%s: at most %d memory regions, %d queue pairs of %d requests, %d READs under way on each, %d pieces "
		"a request, at least %u bytes inline; locked memory %s",
		device->name, device->attr.max_mr, device->attr.max_qp, device->attr.max_qp_wr,
		device->attr.max_qp_rd_atom, device->attr.max_sge, device->inline_max, locked);
}

int verbs_device_get(struct rdma_cm_id *id, struct verbs_device **out)
{
	struct verbs_device *device;
	int ret = 0;

	if (id->verbs->device->transport_type == IBV_TRANSPORT_IWARP) {
		report_error(
			"%s: iWARP devices are not served: there a write completes before the far side has refused it; "
			"use tcp:// on this address",
			ibv_get_device_name(id->verbs->device));
		return -EOPNOTSUPP;
	}
	pthread_mutex_lock(&registry);
	for (device = devices; device; device = device->next)
		if (device->context == id->verbs)
			break;
	if (device) {
		device->refs++;
	} else {
		ret = device_new(id, &device);
		if (!ret) {
			device->next = devices;
			devices = device;
			say_limits(device);
		}
	}
	pthread_mutex_unlock(&registry);
	if (!ret)
		*out = device;
	return ret;
}

void verbs_device_put(struct verbs_device *device)
{
	struct verbs_device **at;
	uint64_t one = 1;

	pthread_mutex_lock(&registry);
	if (--device->refs) {
		pthread_mutex_unlock(&registry);
		return;
	}
	for (at = &devices; *at != device; at = &(*at)->next)
		;
	*at = device->next;
	if (write(device->wake, &one, sizeof(one)) < 0)
		report_debug("eventfd: %s", strerror(errno));
	pthread_join(device->watcher, NULL);
	device_free(device);
	pthread_mutex_unlock(&registry);
}

void verbs_device_attach(struct verbs_device *device, struct verbs_conn *conn)
{
	pthread_mutex_lock(&device->lock);
	conn->next = device->conns;
	conn->prev = &device->conns;
	if (conn->next)
		conn->next->prev = &conn->next;
	device->conns = conn;
	pthread_mutex_unlock(&device->lock);
}

void verbs_device_detach(struct verbs_device *device, struct verbs_conn *conn)
{
	pthread_mutex_lock(&device->lock);
	*conn->prev = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	pthread_mutex_unlock(&device->lock);
}
