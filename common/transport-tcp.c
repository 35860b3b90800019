/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-tcp - bricks over TCP: control messages, and READ and WRITE frames
 * that the brick serves from and into the block.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "brick-error.h"
#include "stream.h"
#include "transport.h"

struct transport {
	struct stream stream;
};

struct transport_domain {
	int unused;
};

static int tcp_domain_open(const struct endpoint *endpoint, struct transport_domain **domain)
{
	*domain = NULL;		/* connections have nothing in common */
	return 0;
}

static void tcp_domain_close(struct transport_domain *domain)
{
}

static int tcp_check_handle(struct transport_domain *domain, const char *text, uint64_t addr,
			    const struct wire_handle *handle)
{
	if (handle->place != addr)
		return brick_fail(-EPROTO, "%s: the brick mapped 0x%llx at 0x%llx", text, (unsigned long long)addr,
				  (unsigned long long)handle->place);
	return 0;
}

static void set_options(int fd, uint32_t timeout_ms)
{
	/* Each of these makes things better and none is needed: a failure is no fault. */
	int one = 1, idle = 10, interval = 5, count = 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

static int resolve(const struct transport_options *options, struct addrinfo **list)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	int error = getaddrinfo(options->endpoint->host, options->endpoint->port, &hints, list);

	if (error == 0)
		return 0;
	if (error == EAI_SYSTEM)
		return brick_fail(-errno, "%s: cannot resolve the host's name: %s", options->text, brick_errno_text(-errno));
	return brick_fail(error == EAI_MEMORY ? -ENOMEM : error == EAI_AGAIN ? -EAGAIN : -EHOSTUNREACH,
			  "%s: cannot resolve the host's name: %s", options->text, gai_strerror(error));
}

static int tcp_connect(struct transport_domain *domain, const struct transport_options *options,
		       const struct wire_preamble *preamble, struct wire_preamble_reply *reply,
		       struct transport **transport)
{
	uint64_t deadline = stream_now_ms() + options->timeout_ms;
	struct addrinfo *list = NULL;
	struct transport *t;
	int ret, fd = -EHOSTUNREACH;

	ret = resolve(options, &list);
	if (ret < 0)
		return ret;
	/* Each address has its share of the time that is left. */
	for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		uint64_t now = stream_now_ms();
		unsigned addresses = 0;

		for (struct addrinfo *b = a; b; b = b->ai_next)
			addresses++;
		fd = stream_connect(a->ai_family, a->ai_addr, a->ai_addrlen,
				    now < deadline ? (uint32_t)(deadline - now) / addresses : 0);
	}
	freeaddrinfo(list);
	if (fd < 0)
		return brick_fail(fd, "%s: cannot connect: %s%s", options->text, brick_errno_text(fd),
				  fd == -ECONNREFUSED ? " (is brickd running, and listening there?)" : "");
	set_options(fd, options->timeout_ms);
	t = calloc(1, sizeof(*t));
	if (!t) {
		close(fd);
		return brick_fail(-ENOMEM, "%s: no memory for a connection", options->text);
	}
	t->stream.data = true;
	ret = stream_open(&t->stream, fd, options, preamble, reply);
	if (ret < 0) {
		free(t);
		return ret;
	}
	*transport = t;
	return 0;
}

static int tcp_attach(struct transport_domain *domain, struct transport *t, const struct wire_hello_reply *hello)
{
	if (hello->fds)
		return brick_fail(-EPROTO, "%s: the brick announced descriptors, which TCP does not carry", t->stream.text);
	return 0;
}

static int tcp_send(struct transport *t, const uint8_t *msg, size_t len)
{
	return stream_send(&t->stream, msg, len);
}

static int tcp_post(struct transport *t, struct transport_io *io)
{
	return stream_post(&t->stream, io);
}

static int tcp_poll(struct transport *t)
{
	return stream_poll(&t->stream);
}

static int tcp_fd(const struct transport *t)
{
	return t->stream.fd;
}

static int tcp_arm(struct transport *t, short *events)
{
	return stream_arm(&t->stream, events);
}

static void tcp_close(struct transport *t)
{
	stream_close(&t->stream);
	free(t);
}

const struct transport_ops transport_tcp = {
	.name = "tcp",
	.domain_open = tcp_domain_open,
	.domain_close = tcp_domain_close,
	.check_handle = tcp_check_handle,
	.connect = tcp_connect,
	.attach = tcp_attach,
	.send = tcp_send,
	.post = tcp_post,
	.poll = tcp_poll,
	.fd = tcp_fd,
	.arm = tcp_arm,
	.close = tcp_close,
};
