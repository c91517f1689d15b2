/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpus.h - the processors of our threads (option background_cpus).
 */
#ifndef SLUICE_CPUS_H
#define SLUICE_CPUS_H

/* At the start of the process, before it can pin a thread. */
void cpus_find(void);

/* Called by each of our threads, for itself. */
void cpus_take(void);

#endif
