/* SPDX-License-Identifier: BSD-2-Clause */
/* fork.h - the fork handlers: the child of a multi-threaded process can use malloc. */
#ifndef SLUICE_FORK_H
#define SLUICE_FORK_H

/* Registers the handlers. Called once, by the constructor. */
void fork_init(void);

#endif
