/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the socket by which sluice-ctl asks a process for a drain or for its statistics.
 *
 * An abstract unix socket, SOCK_DGRAM, named CONTROL_NAME and the process ID. One message each way, between sockets that have
 * a name each; the kernel adds the sender's credentials, if one asks for them (SO_PASSCRED):
 *
 *   request   "stats", or "drain FLAGS" (a decimal number: those of sluice_drain)
 *   answer    "ok\n" and lines "NAME VALUE\n", or "error TEXT\n"
 *
 * Only processes of the same user, and root's, get more than an error.
 */
#ifndef SLUICE_CONTROL_H
#define SLUICE_CONTROL_H

#include "types.h"

#define CONTROL_NAME "sluice."
#define CONTROL_REQUEST_MAX 64u
#define CONTROL_ANSWER_MAX 16384u

/* At the start of the process. */
void control_init(void);

/* The background thread only. The socket that requests come to, if the options want it; -1: none.
 * It may be polled, and is then to be served. */
int control_socket(void);
void control_serve(void);

/* In a fork child: the parent's socket is not ours. */
void control_fork_child(bool copy);

#endif
