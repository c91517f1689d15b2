/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quick.h - a zone's quick lists: runs that were freed and are not merged yet.
 *
 * A program that frees a run often wants one of the same length soon. Taken as it is, the run costs
 * neither a cut nor a merge, and its first and last pages are those that the program wrote before,
 * so no other page of memory is touched for the first time. What is on the lists counts as free and
 * dirty. It is merged before the zone takes clean memory or grows, before a purge, and before a
 * block that grows is given room.
 */
#ifndef SLUICE_QUICK_H
#define SLUICE_QUICK_H

#include "page/zone.h"

/* How many runs a zone's lists have, read without the lock. */
static inline uint32_t quick_runs(const struct zone *z)
{
	return atomic_load_explicit(&z->quick.runs, memory_order_relaxed);
}

/* Bit n is set if there are runs of n + 1 pages; read without the lock. */
static inline uint64_t quick_filled(const struct zone *z)
{
	return atomic_load_explicit(&z->quick.filled, memory_order_relaxed);
}

/* Takes up to n runs of npages, at most BUDDY_BATCH. Returns how many. */
unsigned quick_take(struct zone *z, uint32_t npages, unsigned n, struct page **out);

/* Puts a run on its list. Returns false if it must be merged at once. Guarded by: zone.lock. */
bool quick_put_locked(struct zone *z, struct page *pg);

/* Takes the run off its list and merges it. Guarded by: zone.lock. */
void quick_merge_locked(struct zone *z, struct page *pg);

/* Merges BUDDY_BATCH runs at most, in one hold of the lock. Returns how many. */
unsigned quick_merge_some(struct zone *z);

/* The same in at most so many holds. */
void quick_merge_holds(struct zone *z, unsigned holds);

/* Merges all runs of one zone, or of all. */
void quick_merge(struct zone *z);
void zones_quick_merge(void);

#endif
