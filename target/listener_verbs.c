/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener_verbs - connections by the RDMA connection manager.
 *
 * One event channel for all addresses of an endpoint, whose descriptor the
 * acceptor polls like a socket.  A connect request becomes a connection with a
 * channel of its own; it is accepted or rejected in its lane's thread.
 */
#include "verbs-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define BACKLOG 1024 /* a crowd that is connecting must not keep others from being heard */

struct verbs_listener {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id[LISTENER_SOCKETS];
	struct verbs_device *device[LISTENER_SOCKETS]; /* NULL: listens on any */
	int ids;
};

static void listener_delete(struct verbs_listener *v)
{
	for (int i = 0; i < v->ids; i++) {
		rdma_destroy_id(v->id[i]);
		if (v->device[i])
			verbs_device_put(v->device[i]);
	}
	if (v->channel)
		rdma_destroy_event_channel(v->channel);
	free(v);
}

static void verbs_close(struct listener *listener)
{
	if (listener->verbs)
		listener_delete(listener->verbs);
	listener->verbs = NULL;
	listener->sockets = 0;
}

static int listen_on(struct verbs_listener *v, const struct addrinfo *ai, uint16_t chosen)
{
	struct sockaddr_storage addr;
	struct rdma_cm_id *id;
	int one = 1, ret;

	memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
	if (chosen && ai->ai_family == AF_INET6)
		((struct sockaddr_in6 *)&addr)->sin6_port = htons(chosen);
	else if (chosen)
		((struct sockaddr_in *)&addr)->sin_port = htons(chosen);
	if (rdma_create_id(v->channel, &id, NULL, RDMA_PS_TCP))
		return -errno;
	if ((ai->ai_family == AF_INET6 &&
	     rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &one, sizeof(one))) ||
	    rdma_bind_addr(id, (struct sockaddr *)&addr)) {
		ret = -errno;
		goto fail;
	}
	v->device[v->ids] = NULL;
	if (id->verbs) {
		ret = verbs_device_get(id, &v->device[v->ids]);
		if (ret)
			goto fail;
	}
	if (rdma_listen(id, BACKLOG)) {
		ret = -errno;
		if (v->device[v->ids])
			verbs_device_put(v->device[v->ids]);
		goto fail;
	}
	v->id[v->ids++] = id;
	return 0;
fail:
	rdma_destroy_id(id);
	return ret;
}

static int listen_on_all(struct verbs_listener *v, const struct addrinfo *list, struct endpoint *endpoint)
{
	bool any_port = strcmp(endpoint->port, "0") == 0;
	uint16_t port = 0;
	int ret = -EADDRNOTAVAIL;

	for (const struct addrinfo *ai = list; ai && v->ids < LISTENER_SOCKETS; ai = ai->ai_next) {
		int rc;

		if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
			continue;
		rc = listen_on(v, ai, any_port ? port : 0);
		if (rc) {
			/* a name with several addresses: those that no device has are no fault */
			if (rc != -ENODEV && rc != -EADDRNOTAVAIL && rc != -EAFNOSUPPORT && !(any_port && port))
				return rc;
			ret = v->ids ? 0 : rc;
			continue;
		}
		ret = 0;
		if (!port) {
			port = ntohs(rdma_get_src_port(v->id[v->ids - 1]));
			snprintf(endpoint->port, sizeof(endpoint->port), "%u", port);
		}
	}
	return ret;
}

static int verbs_listen(struct listener *listener)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list = NULL;
	struct endpoint *endpoint = &listener->endpoint;
	struct verbs_listener *v = calloc(1, sizeof(*v));
	char text[ENDPOINT_TEXT_MAX];
	int ret;

	endpoint_format(endpoint, text);
	if (!v) {
		report_error("%s: cannot listen: %s", text, strerror(ENOMEM));
		return -ENOMEM;
	}
	v->channel = rdma_create_event_channel();
	if (!v->channel || fcntl(v->channel->fd, F_SETFL, O_NONBLOCK)) {
		ret = -errno;
		report_error(
			"%s: this host has no RDMA connection manager: %s (are rdma_ucm and a device's driver loaded?)",
			text, strerror(-ret));
		goto fail;
	}
	ret = getaddrinfo(endpoint->host, endpoint->port, &hints, &list);
	if (ret) {
		report_error("%s: cannot resolve the host: %s", text, gai_strerror(ret));
		ret = -EADDRNOTAVAIL;
		goto fail;
	}
	ret = listen_on_all(v, list, endpoint);
	freeaddrinfo(list);
	if (ret) {
		report_error("%s: cannot listen: %s", text,
			     ret == -ENODEV || ret == -EADDRNOTAVAIL
				     ? "no RDMA device has this address (rdma link shows them)"
				     : strerror(-ret));
		goto fail;
	}
	listener->verbs = v;
	listener->socket[0] = v->channel->fd;
	listener->sockets = 1;
	return 0;
fail:
	listener_delete(v);
	return ret;
}

static int verbs_prove(struct listener *listener, void *address, size_t length)
{
	char text[ENDPOINT_TEXT_MAX], why[VERBS_WHY_MAX];
	int ret = verbs_can_register(&listener->endpoint, address, length, why);

	/* an address of every device: those that come later are told when they do */
	if (ret == -ENODEV)
		return 0;
	if (ret) {
		endpoint_format(&listener->endpoint, text);
		report_error("%s: the pool's memory cannot be served over RDMA: %s", text, why);
	}
	return ret == -EFAULT ? -EOPNOTSUPP : ret;
}

static void name_peer(struct rdma_cm_id *id, struct peer *peer)
{
	struct sockaddr *addr = rdma_get_peer_addr(id);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	socklen_t len = addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

	if (getnameinfo(addr, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(peer->text, sizeof(peer->text), "verbs peer");
	else
		snprintf(peer->text, sizeof(peer->text), "verbs %.60s:%.8s", host, port);
	peer->pid = 0;
	peer_key_of_address(&peer->key, addr);
}

/* A request that cannot be served at all. */
static int turn_away(struct rdma_cm_id *id, int error)
{
	struct wire_preamble_reply reply = {.status = wire_status(error), .version = WIRE_VERSION};
	uint8_t message[WIRE_PREAMBLE_REPLY_SIZE];

	wire_put_preamble_reply(message, &reply);
	(void)rdma_reject(id, message, sizeof(message)); /* a courtesy */
	rdma_destroy_id(id);
	return error;
}

static int verbs_accept(struct listener *listener, int socket, struct conn **conn, struct peer *peer)
{
	struct verbs_listener *v = listener->verbs;
	uint8_t private_data[WIRE_PREAMBLE_SIZE];
	struct rdma_conn_param param;
	struct rdma_cm_event *event;
	struct rdma_cm_id *id;
	char text[ENDPOINT_TEXT_MAX];
	int ret;

	if (rdma_get_cm_event(v->channel, &event))
		return -errno;
	if (event->event != RDMA_CM_EVENT_CONNECT_REQUEST) {
		endpoint_format(&listener->endpoint, text);
		/* for a request that was given up before its lane had it; or for the listener itself */
		if (event->event == RDMA_CM_EVENT_DEVICE_REMOVAL)
			report_error("%s: the device goes away: no more connections come there", text);
		else
			report_info("%s: %s", text, rdma_event_str(event->event));
		rdma_ack_cm_event(event);
		return -EAGAIN;
	}
	id = event->id;
	param = event->param.conn;
	if (param.private_data && param.private_data_len >= sizeof(private_data)) {
		memcpy(private_data, param.private_data, sizeof(private_data));
		param.private_data = private_data;
	} else {
		param.private_data = NULL;
	}
	rdma_ack_cm_event(event);
	name_peer(id, peer);
	if (id->verbs->device->transport_type == IBV_TRANSPORT_IWARP) {
		(void)turn_away(id, -EOPNOTSUPP);
		return -EXDEV;
	}
	ret = verbs_conn_new(conn, id, &param, peer->text);
	return ret;
}

const struct transport transport_verbs = {
	.kind = ENDPOINT_VERBS,
	.name = "verbs",
	.revocable = true,
	.regions = true,
	.listen = verbs_listen,
	.prove = verbs_prove,
	.close = verbs_close,
	.accept = verbs_accept,
};
