/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.h - the order in which the layers are emptied.
 */
#ifndef SLUICE_RECLAIM_H
#define SLUICE_RECLAIM_H

#include "heap/heap.h"
#include "base/lock.h"
#include "types.h"

/* One process-wide change at a time: disabling of the pcps, fork. */
extern struct lock reclaim_control;

enum reclaim_flag {
	RECLAIM_CACHES = 1,  /* empty every pcp */
	RECLAIM_PURGE = 2,   /* dirty pages back to the kernel */
	RECLAIM_REGIONS = 4, /* wholly free regions unmapped */
	RECLAIM_IDLE = 8,    /* CACHES, and gate 2 at once: heaps whose threads are outside */
	RECLAIM_GLOBAL = 16, /* with IDLE: by the barrier that interrupts nobody */
};

#define RECLAIM_ALL                                                                                \
	(unsigned)(RECLAIM_CACHES | RECLAIM_PURGE | RECLAIM_REGIONS | RECLAIM_IDLE | RECLAIM_GLOBAL)

struct reclaim_report {
	uint64_t caches_reached;
	uint64_t caches_skipped;
	uint64_t heaps_emptied;
	uint64_t heaps_skipped;
	uint64_t bytes_drained;
	uint64_t bytes_purged;
	uint64_t bytes_unmapped;
	uint64_t time_ns;
	uint64_t barrier_ns;
};

/*
 * Any thread. Does what flags say, in the order of the layers; keep: dirty bytes that may stay.
 * Locks are held for bounded batches and never over a system call but zone.grow.
 */
void reclaim_drain(unsigned flags, uint64_t keep, struct reclaim_report *report);

/* The same, and tells see what came of each heap; false: it could not (a fork is under way), and
 * nothing was done. see must not allocate. */
typedef void reclaim_see(void *arg, const struct heap_drain *d);
bool reclaim_drain_each(unsigned flags, uint64_t keep, struct reclaim_report *report,
			reclaim_see *see, void *arg);

/* Gate 2 (heap_take_walk) with what it frees given back to the kernel; one caller at a time, a fork
 * waits for it. generation: of heap_idle_mark, 0: nothing was marked. */
void reclaim_idle(uint64_t generation, struct reclaim_report *report);

/* After a mark: a turn for the bins of threads that take a nap (heap_visit). */
void reclaim_visit(uint64_t generation);

/*
 * Memory is short: give bytes back to the kernel, in this order, until `want` of them have gone: page
 * caches of threads that sleep, those of all, dirty blocks, heaps of idle threads (marked: the
 * generation of heap_idle_mark, 0: that of the last growth); then running threads are asked to trim
 * themselves at their next slow call; in an emergency the heaps of all threads that are not inside a
 * call just now, by a barrier that interrupts. Returns the bytes.
 */
uint64_t reclaim_pressure(uint64_t want, uint64_t marked, bool emergency);

/* Before the process grows (growth_ask_others): what others cache, for whoever grows; the kernel gets
 * none of it. True: pages came free. */
bool reclaim_before_growth(void);

/* Make heap_alloc_slow come here when it finds no memory. */
void reclaim_init(void);

/* See pcp.h; one caller at a time. 0 or a negative errno. */
int reclaim_pcp_disable(void);
void reclaim_pcp_enable(void);

#endif
