/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.h - the order in which the layers are emptied.
 */
#ifndef SLUICE_RECLAIM_H
#define SLUICE_RECLAIM_H

#include "base/lock.h"
#include "heap/drain.h"
#include "types.h"

/* One at a time: marks and claims of heaps, disabling of the pcps, fork. */
extern struct lock reclaim_control;

enum reclaim_flag {
	RECLAIM_CACHES = 1,  /* empty every pcp */
	RECLAIM_PURGE = 2,   /* dirty pages back to the kernel */
	RECLAIM_REGIONS = 4, /* wholly free regions unmapped */
	RECLAIM_IDLE = 8,    /* CACHES, and the heaps of threads outside a call, by claims */
	RECLAIM_GLOBAL = 16, /* with IDLE: by the barrier that interrupts nobody */
	RECLAIM_ALL = 32,    /* with IDLE: also the working sets of threads at work (drain.h) */
};

#define RECLAIM_FLAGS                                                                              \
	(unsigned)(RECLAIM_CACHES | RECLAIM_PURGE | RECLAIM_REGIONS | RECLAIM_IDLE |               \
		   RECLAIM_GLOBAL | RECLAIM_ALL)

struct reclaim_report {
	uint64_t caches_reached;
	uint64_t caches_skipped;
	uint64_t heaps_emptied;
	uint64_t heaps_skipped;
	uint64_t heaps_hot;
	uint64_t bytes_hot;
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

/* The same, and tells see what came of each heap. Returns false if it could not, because a fork is
 * under way; nothing was done then. see must not allocate. */
typedef void reclaim_see(void *arg, const struct heap_drain *d);
bool reclaim_drain_each(unsigned flags, uint64_t keep, struct reclaim_report *report,
			reclaim_see *see, void *arg);

/*
 * Marks every heap that may hold something (bins: or has memory for its cache bins); the owner's
 * next call takes the mark back. Then all threads pass a barrier: the global one, which interrupts
 * no processor (8 to 20 ms), or the expedited one (1 us). Returns the epoch of the marks, or 0 if
 * nothing was marked or there is no barrier. Called without locks.
 */
uint64_t reclaim_mark(bool bins, bool global);

/* Empties the heaps that have the mark of this epoch, because their threads made no call since, and
 * gives what that frees to the kernel. A fork waits for it. */
void reclaim_idle(uint64_t epoch, struct reclaim_report *report);

/* An ageing step for the cache bins of such heaps; the marks stay. */
void reclaim_age(uint64_t epoch);

/*
 * Memory is short: gives memory back to the kernel until `want` bytes have gone, in the order of
 * the table in reclaim.c. epoch: of the background thread's marks; 0: the marks of the last growth
 * count. emergency: also from heaps of all threads that are not inside a call. Returns the bytes.
 */
uint64_t reclaim_pressure(uint64_t want, uint64_t epoch, bool emergency);

/* Before the process grows (growth_ask_others): takes what others cache, for the thread that grows;
 * nothing is given to the kernel. Returns true if pages came free. */
bool reclaim_before_growth(void);

/* From here on heap_alloc_slow calls reclaim when it finds no memory. */
void reclaim_init(void);

/* See pcp.h. One caller at a time. Returns 0 or a negative errno. */
int reclaim_pcp_disable(void);
void reclaim_pcp_enable(void);

#endif
