/* SPDX-License-Identifier: BSD-3-Clause */
/* listener - the table of transports. */
#include "listener.h"

#include <errno.h>
#include <string.h>

#include "report.h"

static int verbs_listen(struct listener *listener)
{
	char text[ENDPOINT_TEXT_MAX];

	endpoint_format(&listener->endpoint, text);
	report_error("%s: this build serves tcp:// and unix: endpoints only", text);
	return -EPROTONOSUPPORT;
}

static void verbs_close(struct listener *listener)
{
}

static int verbs_accept(struct listener *listener, int socket, struct conn **conn, struct peer *peer)
{
	return -EPROTONOSUPPORT;
}

const struct transport transport_verbs = {
	.kind = ENDPOINT_VERBS,
	.name = "verbs",
	.revocable = true,
	.listen = verbs_listen,
	.close = verbs_close,
	.accept = verbs_accept,
};

static const struct transport *const transports[] = {&transport_tcp, &transport_local, &transport_verbs};

int listener_open(struct listener *listener, const struct endpoint *endpoint)
{
	memset(listener, 0, sizeof(*listener));
	listener->endpoint = *endpoint;
	for (unsigned i = 0; i < sizeof(transports) / sizeof(transports[0]); i++) {
		if (transports[i]->kind != endpoint->kind)
			continue;
		listener->transport = transports[i];
		return listener->transport->listen(listener);
	}
	return -EPROTONOSUPPORT;
}

void listener_close(struct listener *listener)
{
	listener->transport->close(listener);
}
