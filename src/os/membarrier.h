/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * membarrier.h - a full memory barrier in all threads of the process: membarrier(2).
 *
 * Any thread, any context; keeps errno. The calling thread may wait, so it holds no lock that an
 * allocation takes. A barrier fails where the kernel has none, or a seccomp filter forbids it.
 */
#ifndef SLUICE_MEMBARRIER_H
#define SLUICE_MEMBARRIER_H

#include <stdbool.h>

/* Register the expedited barrier. Cheap while the process has one thread. */
void membarrier_init(void);

/* By an interrupt to the processors that run this process; 1 us. */
bool membarrier_expedited(void);

/* By a grace period: 8 to 20 ms, and no processor is interrupted. Where the kernel refuses that
 * (EINVAL, nohz_full processors) the expedited barrier does it. */
bool membarrier_global(void);

/* Why the last barrier failed, an errno of membarrier(2); 0 if it did not fail. */
int membarrier_error(void);

#endif
