/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener - where connections come from: the table of transports.
 *
 * A transport says how an endpoint is listened on and what its lanes are like;
 * the calls themselves are written once, above.  What accept hands over is a
 * connection (conn.h).
 */
#ifndef TARGET_LISTENER_H
#define TARGET_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "conn.h"
#include "endpoint.h"
#include "peers.h"

#define LISTENER_SOCKETS 8
#define PEER_TEXT_MAX	 96

struct listener {
	const struct transport *transport;
	struct endpoint endpoint; /* with the port that was chosen */
	int socket[LISTENER_SOCKETS];
	int sockets;
	struct verbs_listener *verbs;
	dev_t dev; /* local: the socket file that is ours to remove */
	ino_t ino;
};

/* Who is at the other end. */
struct peer {
	char text[PEER_TEXT_MAX]; /* "tcp 127.0.0.1:4711", "unix pid 99" */
	uint64_t pid;		  /* as the kernel knows it, 0 when it does not */
	struct peer_key key;	  /* whom it counts for */
};

struct transport {
	enum endpoint_kind kind;
	const char *name; /* as SESSIONS shows it */
	bool frames;	  /* READ and WRITE frames are served, so the brick sees what a lane writes */
	bool revocable;	  /* a mapping can be taken back by force */
	bool regions;	  /* a map is a memory region of the session's domain, which the brick registers */
	bool passes_fd;	  /* HELLO is answered with the descriptor of the memory */
	/* Says what went wrong through report(), naming the endpoint; returns a negative errno. */
	int (*listen)(struct listener *listener);
	void (*close)(struct listener *listener);
	/* Tries whether memory like a block's can be served there; NULL: any can. Says why not, as listen does. */
	int (*prove)(struct listener *listener, void *address, size_t length);
	/* A new connection on one of the sockets: 0, -EAGAIN (there was none), -EXDEV (over a device that is not served), or a negative errno. */
	int (*accept)(struct listener *listener, int socket, struct conn **conn, struct peer *peer);
};

extern const struct transport transport_tcp, transport_local, transport_verbs;

int listener_open(struct listener *listener, const struct endpoint *endpoint);
void listener_close(struct listener *listener);

#endif
