/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sweep.h - for drains: what the calling thread can give back of its own heap and of heaps without
 * a thread.
 */
#ifndef SLUICE_SWEEP_H
#define SLUICE_SWEEP_H

#include <stdint.h>

/* For drains: flush the calling thread's outbox, open its inbox, empty the fallback heap and the
 * heaps that a fork left (heap_take_orphan), and give the empty abandoned slabs back to the buddy
 * core. Returns bytes of slabs given back. */
uint64_t heap_sweep(void);

/* For drains: empty the calling thread's bins and abandon its slabs with room, so that holes can be
 * made in them; a few in each critical section. */
void heap_abandon_own(void);

#endif
