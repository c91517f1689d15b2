/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.h - how many zones there are, and which of them a thread uses.
 */
#ifndef SLUICE_ZONE_H
#define SLUICE_ZONE_H

#include "page/buddy.h"

/*
 * The options are known: decide how many zones are used by the threads that come (option zones), and by
 * which processors. Before the second thread; may be called again. Asks the kernel for the processors the
 * process may run on, and for their NUMA nodes.
 */
void zones_init(void);

/* Zones that threads are given; zones_count() may be more by those that came into use for want of a lock. */
unsigned zones_chosen(void);

/* The zone of a processor; where zones are given out in turn (more than processors), of the n-th thread. */
struct zone *zone_of_processor(unsigned n);

/* The zone for a thread that first needs pages now. Any context; no system call where the C library has
 * the number of the processor. */
struct zone *zone_pick(void);

#endif
