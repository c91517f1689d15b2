/* SPDX-License-Identifier: BSD-2-Clause */
/* fork.h - what makes the child of a multi-threaded process able to use malloc. */
#ifndef SLUICE_FORK_H
#define SLUICE_FORK_H

/* Register the handlers; called once, from the constructor. */
void fork_init(void);

#endif
