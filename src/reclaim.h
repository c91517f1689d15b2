/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.h - the order in which the layers are emptied.
 */
#ifndef SLUICE_RECLAIM_H
#define SLUICE_RECLAIM_H

#include "lock.h"
#include "types.h"

/* One process-wide change at a time: disabling of the pcps, fork. */
extern struct lock reclaim_control;

enum reclaim_flag {
	RECLAIM_CACHES = 1,  /* empty every pcp */
	RECLAIM_PURGE = 2,   /* dirty pages back to the kernel */
	RECLAIM_REGIONS = 4, /* wholly free regions unmapped */
};

struct reclaim_report {
	uint64_t caches_reached;
	uint64_t caches_skipped;
	uint64_t bytes_drained;
	uint64_t bytes_purged;
	uint64_t bytes_unmapped;
	uint64_t time_ns;
};

/*
 * Any thread. Does what flags say, in the order of the layers; keep: dirty bytes that may stay.
 * Locks are held for bounded batches and never over a system call but zone.grow.
 */
void reclaim_drain(unsigned flags, uint64_t keep, struct reclaim_report *report);

/* Gate 2 (heap_idle_mark, heap_idle_take) with what it frees given back to the kernel; one caller at
 * a time, a fork waits for it. generation: of reclaim_mark, 0: nothing was marked. */
uint64_t reclaim_mark(void);
void reclaim_idle(uint64_t generation, struct reclaim_report *report);

/* Make heap_alloc_slow come here when it finds no memory. */
void reclaim_init(void);

/* See pcp.h; one caller at a time. 0 or a negative errno. */
int reclaim_pcp_disable(void);
void reclaim_pcp_enable(void);

#endif
