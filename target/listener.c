/* SPDX-License-Identifier: BSD-3-Clause */
/* listener - the table of transports. */
#include "listener.h"

#include <errno.h>
#include <string.h>

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
