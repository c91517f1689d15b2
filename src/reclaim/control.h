/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the socket by which sluice-ctl asks a process for a drain or for its statistics.
 *
 * An abstract unix socket, SOCK_DGRAM, named CONTROL_NAME and the process ID. One message each way;
 * the peer's socket must have a name too. The kernel adds the sender's credentials (SO_PASSCRED).
 *
 *   request   "stats", "top", "drain FLAGS" (decimal, the flags of sluice_drain), "get NAME" or
 *             "set NAME VALUE" (of an option), "profile start", "profile stop", "profile dump" or
 *             "profile dump FILE" (absolute)
 *   answer    "ok\n" and lines "NAME VALUE\n", or "error TEXT\n"; to "top" the lines of export.h
 *
 * Only root and processes of the same user get more than an error.
 */
#ifndef SLUICE_CONTROL_H
#define SLUICE_CONTROL_H

#include "types.h"

#define CONTROL_NAME "sluice."
#define CONTROL_REQUEST_MAX 512u
#define CONTROL_ANSWER_MAX 16384u

/* At the start of the process. */
void control_init(void);

/* Background thread only. The socket for requests, or -1 if there is none. When poll says that it
 * can be read, control_serve answers. */
int control_socket(void);
void control_serve(void);

/* In a fork child: the parent's socket is replaced by one of its own. copy: the child was made by
 * _Fork or a raw clone; it has no socket. */
void control_fork_child(bool copy);

#endif
