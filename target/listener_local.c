/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener_local - connections over a Unix socket, for processes of this host
 * that are trusted with the memory itself.
 */
#include "listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "report.h"

#define BACKLOG 1024 /* a crowd that is connecting must not keep others from being heard */

/* True when somebody answers at the socket; -ve: cannot tell. */
static int somebody_listens(const struct sockaddr_un *addr)
{
	int ret, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		ret = 1;
	else if (errno == ECONNREFUSED || errno == ENOENT)
		ret = 0;
	else
		ret = -errno;
	close(fd);
	return ret;
}

static int local_listen(struct listener *listener)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *path = listener->endpoint.path;
	struct stat st;
	int fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		report_error("%s: the path of a Unix socket has at most %zu bytes", path, sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode)) {
			report_error("%s: is there and is not a socket; give another path or remove it", path);
			return -EEXIST;
		}
		ret = somebody_listens(&addr);
		if (ret < 0) {
			report_error("%s: is there and cannot be tested: %s", path, strerror(-ret));
			return ret;
		}
		if (ret) {
			report_error("%s: another process listens there", path);
			return -EADDRINUSE;
		}
		if (unlink(path) && errno != ENOENT) {
			ret = -errno;
			report_error("%s: cannot remove the socket that an earlier brickd left: %s", path, strerror(-ret));
			return ret;
		}
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		ret = -errno;
		report_error("%s: cannot make a socket: %s", path, strerror(-ret));
		return ret;
	}
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, BACKLOG) || lstat(path, &st)) {
		ret = -errno;
		report_error("%s: cannot listen: %s", path, strerror(-ret));
		close(fd);
		return ret;
	}
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	listener->socket[0] = fd;
	listener->sockets = 1;
	return 0;
}

static void local_close(struct listener *listener)
{
	struct stat st;

	if (!listener->sockets)
		return;
	/* only if it is still ours: another brickd may have taken the place */
	if (lstat(listener->endpoint.path, &st) == 0 && st.st_dev == listener->dev && st.st_ino == listener->ino &&
	    unlink(listener->endpoint.path))
		report_warning("%s: cannot remove the socket: %s", listener->endpoint.path, strerror(errno));
	close(listener->socket[0]);
	listener->sockets = 0;
}

static int local_accept(struct listener *listener, int socket, struct conn **conn, struct peer *peer)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd = accept4(socket, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	peer->pid = (uint64_t)cred.pid;
	peer_key_of_process(&peer->key, cred.uid, cred.pid);
	snprintf(peer->text, sizeof(peer->text), "unix pid %ld uid %ld", (long)cred.pid, (long)cred.uid);
	return conn_stream_new(conn, fd);
}

const struct transport transport_local = {
	.kind = ENDPOINT_LOCAL,
	.name = "local",
	.passes_fd = true,
	.listen = local_listen,
	.close = local_close,
	.accept = local_accept,
};
