/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify - tells the service manager how far we are, by the datagram protocol
 * of sd_notify(3).  Does nothing when nobody asked ($NOTIFY_SOCKET).
 */
#ifndef TARGET_NOTIFY_H
#define TARGET_NOTIFY_H

/* state: "READY=1", "STOPPING=1", ...  0, also when nobody listens, or a negative errno. */
int notify_manager(const char *state);

#endif
