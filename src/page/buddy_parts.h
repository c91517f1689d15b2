/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buddy_parts.h - what buddy.c and prefault.c have of each other.
 */
#ifndef SLUICE_BUDDY_PARTS_H
#define SLUICE_BUDDY_PARTS_H

#include "base/atomics.h"
#include "page/buddy.h"

/* The zone's lock, with the deferred frees worked off. False: it could not be had. */
bool zone_lock(struct zone *z);
void zone_unlock(struct zone *z);

/* Make more pages, such that a block of the order can be had from them; seen: zone.grown when there
 * was none. 0; -ENOMEM: refused; -EBUSY, -EDEADLK, -EAGAIN: no lock to be had. */
int zone_grow(struct zone *z, unsigned order, uint64_t seen);

/* Before so many pages of growth: ask others for what they cache, if that is due. True: it was. */
bool ask_others_in_time(struct zone *z, uint64_t pages);

/* ---- under the zone's lock --------------------------------------------------------------------- */

/* Of zone.lock's hold: one more run, or block of a purge, is in hand. */
static inline void run_begin(struct zone *z)
{
	hold_step(LOCK_BUDDY, 1);
	if (SLUICE_DEBUG)
		z->steps = 0;
}

/* The smallest block of the kind that is large enough becomes a run. */
struct page *block_take(struct zone *z, unsigned kind, unsigned order);

/* Shorten a run that was just taken of the kind; its tail goes back as what it was. */
void run_cut_locked(struct zone *z, struct page *pg, uint32_t npages, unsigned kind);

/* A run that nobody uses goes back, as pg->zero says. */
void run_free_locked(struct page *pg);

/* ---- prefault.c ------------------------------------------------------------------------------ */

/* After pages were taken or freed, without the lock. */
static always_inline void ready_look(struct zone *z)
{
	uint64_t ready = buddy_ready_pages(z);

	if (unlikely(ready < atomic_load_explicit(&z->ready_low, memory_order_relaxed) ||
		     ready > atomic_load_explicit(&z->ready_over, memory_order_relaxed)))
		buddy_ready_wake(z);
}

#endif
