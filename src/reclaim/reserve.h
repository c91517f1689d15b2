/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reserve.h - the thread that prefaults memory, so that growth meets no page fault.
 */
#ifndef SLUICE_RESERVE_H
#define SLUICE_RESERVE_H

#include "types.h"

/* Checks the options. While the process has one thread. */
void reserve_init(void);

/* Whether the options ask for a reserve. */
bool reserve_wanted(void);

/* The thread's main function, and what makes it return. The thread may be about to sleep when
 * reserve_end wakes it: prefault_wake is called until it has ended. */
void *reserve_main(void *arg);
void reserve_end(void);

/* Before the thread is started again, and in a fork child, which has no such thread. */
void reserve_again(void);

#endif
