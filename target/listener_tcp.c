/* SPDX-License-Identifier: BSD-3-Clause */
/* listener_tcp - connections over TCP. */
#include "listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "report.h"

#define BACKLOG		  1024 /* a crowd that is connecting must not keep others from being heard */
#define USER_TIMEOUT_MS	  30000 /* sent and not acknowledged for this long: the peer is gone (tcp(7)) */
#define KEEPALIVE_IDLE_S  10
#define KEEPALIVE_EVERY_S 5
#define KEEPALIVE_COUNT	  4

static int port_of(int fd, uint16_t *port)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len))
		return -errno;
	*port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
						 : ((struct sockaddr_in *)&addr)->sin_port);
	return 0;
}

static int listen_on(const struct addrinfo *ai, uint16_t chosen)
{
	struct sockaddr_storage addr;
	int one = 1, ret;
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
	if (chosen && ai->ai_family == AF_INET6)
		((struct sockaddr_in6 *)&addr)->sin6_port = htons(chosen);
	else if (chosen)
		((struct sockaddr_in *)&addr)->sin_port = htons(chosen);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one))) ||
	    bind(fd, (struct sockaddr *)&addr, ai->ai_addrlen) || listen(fd, BACKLOG)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

static void tcp_close(struct listener *listener)
{
	for (int i = 0; i < listener->sockets; i++)
		close(listener->socket[i]);
	listener->sockets = 0;
}

static int tcp_listen(struct listener *listener)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list = NULL;
	struct endpoint *endpoint = &listener->endpoint;
	char text[ENDPOINT_TEXT_MAX];
	uint16_t port = 0;
	bool any_port = strcmp(endpoint->port, "0") == 0;
	int ret;

	endpoint_format(endpoint, text);
	ret = getaddrinfo(endpoint->host, endpoint->port, &hints, &list);
	if (ret) {
		report_error("%s: cannot resolve the host: %s", text, gai_strerror(ret));
		return -EADDRNOTAVAIL;
	}
	ret = -EADDRNOTAVAIL;
	for (struct addrinfo *ai = list; ai && listener->sockets < LISTENER_SOCKETS; ai = ai->ai_next) {
		int fd;

		if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
			continue;
		fd = listen_on(ai, any_port ? port : 0);
		if (fd < 0) {
			/* a name with several addresses: one that this host lacks is no fault, one that is taken is */
			if (fd != -EADDRNOTAVAIL && fd != -EAFNOSUPPORT && !(any_port && port)) {
				ret = fd;
				tcp_close(listener);
				break;
			}
			continue;
		}
		listener->socket[listener->sockets++] = fd;
		if (!port && port_of(fd, &port) == 0)
			snprintf(endpoint->port, sizeof(endpoint->port), "%u", port);
	}
	freeaddrinfo(list);
	if (!listener->sockets) {
		report_error("%s: cannot listen: %s", text, strerror(-ret));
		return ret;
	}
	return 0;
}

static int tcp_accept(struct listener *listener, int socket, struct conn **conn, struct peer *peer)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	int one = 1, idle = KEEPALIVE_IDLE_S, every = KEEPALIVE_EVERY_S, count = KEEPALIVE_COUNT;
	unsigned user = USER_TIMEOUT_MS;
	int fd = accept4(socket, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user, sizeof(user))) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	if (getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(peer->text, sizeof(peer->text), "tcp peer");
	else
		snprintf(peer->text, sizeof(peer->text), "tcp %.60s:%.8s", host, port);
	peer->pid = 0;
	peer_key_of_address(&peer->key, (struct sockaddr *)&addr);
	return conn_stream_new(conn, fd);
}

const struct transport transport_tcp = {
	.kind = ENDPOINT_TCP,
	.name = "tcp",
	.frames = true,
	.revocable = true,
	.listen = tcp_listen,
	.close = tcp_close,
	.accept = tcp_accept,
};
