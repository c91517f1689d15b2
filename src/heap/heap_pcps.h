/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_pcps.h - the pcps of all heaps, the fallback heap's included.
 */
#ifndef SLUICE_HEAP_PCPS_H
#define SLUICE_HEAP_PCPS_H

#include "types.h"

/* Pages in all pcps, inexact while they change. A walk over all heaps. */
uint64_t heap_pcps_pages(void);

/* From now on pcp_pages_all is kept. Before the second thread. */
void heap_pcps_count_all(void);

/* pcp_decay for each. Returns pages freed to the buddy core. */
uint64_t heap_pcps_decay(void);

/* Empties all pcps that are not locked just now. */
void heap_pcps_drain(void);

/*
 * While pcps are disabled no run enters any. Calls nest. When heap_pcps_disable returns true, each
 * pcp has its flag, set under its lock. Returns false if a fork or a dead holder holds a pcp; the
 * caller then has to enable. May sleep.
 */
bool heap_pcps_disable(void);
void heap_pcps_enable(void);

/* The child of a fork: pcp_fork_child for each. */
void heap_pcps_fork_child(uint32_t parent_tid);

#endif
