/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reserve.h - the thread that keeps populated memory ready, so that growth meets no page fault.
 */
#ifndef SLUICE_RESERVE_H
#define SLUICE_RESERVE_H

#include "types.h"

/* Look at the options. While the process has one thread. */
void reserve_init(void);

/* Whether the options ask for a reserve. */
bool reserve_wanted(void);

/* What its thread does, until reserve_end, which has to be called until it has ended. */
void *reserve_main(void *arg);
void reserve_end(void);

/* Before its thread is made again, and in a fork child, which has none. */
void reserve_again(void);

#endif
