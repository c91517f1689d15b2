/* SPDX-License-Identifier: BSD-2-Clause */
/* signals.h - which signals our threads block. */
#ifndef SLUICE_SIGNALS_H
#define SLUICE_SIGNALS_H

#include <signal.h>
#include <stdint.h>

/* All except SIGSYS and signals 32 and 33, which are libc's: by 33 it sets the user of each
 * thread. */
#define SIGNALS_SIGSYS (UINT64_C(1) << (SIGSYS - 1))
#define SIGNALS_OURS (~(SIGNALS_SIGSYS | UINT64_C(3) << (32 - 1)))

/* As sigprocmask, with the kernel's mask. */
void signals_set(int how, const uint64_t *mask, uint64_t *before);

/* The calling thread is one of ours. signals_begin: at its start, before a filter can be installed;
 * blocks SIGNALS_OURS, and SIGSYS unless it has a handler. signals_round: in each of its rounds;
 * looks whether it has one now. */
void signals_begin(void);
void signals_round(void);

#endif
