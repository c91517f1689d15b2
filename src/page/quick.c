/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quick.c - a zone's quick lists of runs that are not merged yet; see quick.h.
 * Used by buddy, purge, region and reclaim; uses block.
 *
 * (A) Each run on a list is PAGE_QUICK, dirty, and as long as its list says; its link is tagged
 *     LIST_QUICK. (zone_check)
 * (B) quick.pages == the sum of npages of the runs; they are part of zone.free_pages and of
 *     zone.dirty_pages, but not of region.free_pages. (zone_check)
 * (C) A zone has at most QUICK_RUNS runs on its lists. One that is segregated, or whose address
 *     space is limited, has none that is new.
 *
 * Lock: zone.lock. Bound: one hold takes, puts or merges at most BUDDY_BATCH runs; to merge all
 * takes QUICK_RUNS / BUDDY_BATCH holds and one more, whatever others put meanwhile.
 * Allocates nothing; may wait for the lock. Signal handlers and fork: see block.c.
 *
 * Source: quick lists, or deferred coalescing (Weinstock and Wulf, "Quick Fit", 1988; surveyed in
 * Wilson et al., "Dynamic Storage Allocation", 1995).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/quick.h"

#include "page/block.h"

#define QUICK_RUNS 1024u

static void counters_add(struct zone *z, uint64_t pages, uint32_t runs)
{
	counter_add(&z->free_pages, pages);
	counter_add(&z->dirty_pages, pages);
	z->quick.pages += pages;
	atomic_store_explicit(&z->quick.runs, quick_runs(z) + runs, memory_order_relaxed);
}

static void take_locked(struct zone *z, struct page *pg)
{
	struct page_list_head *l = &z->quick.list[pg->npages - 1];

	cold_count(2);
	page_list_del(l, pg, LIST_QUICK);
	page_set_kind(pg, PAGE_LIMBO);
	if (!l->first)
		atomic_store_explicit(&z->quick.filled,
				      quick_filled(z) & ~(UINT64_C(1) << (pg->npages - 1)),
				      memory_order_relaxed);
	counters_add(z, (uint64_t)0 - pg->npages, UINT32_MAX);
}

unsigned quick_take(struct zone *z, uint32_t npages, unsigned n, struct page **out)
{
	struct page_list_head *l;
	unsigned got = 0;

	if (npages > QUICK_PAGES || !(quick_filled(z) >> (npages - 1) & 1) || !zone_lock(z))
		return 0;
	l = &z->quick.list[npages - 1];
	while (got < n && got < BUDDY_BATCH && l->first) {
		struct page *pg = l->first;

		run_begin(z);
		take_locked(z, pg);
		out[got++] = pg;
	}
	zone_unlock(z);
	return got;
}

bool quick_put_locked(struct zone *z, struct page *pg)
{
	uint32_t n = pg->npages;

	if (n < QUICK_PAGES_MIN || n > QUICK_PAGES || pg->backing != BACKING_DIRTY ||
	    z->segregated || quick_runs(z) >= QUICK_RUNS || zone_is_tight(z))
		return false;
	run_begin(z);
	cold_count(2);
	page_set_kind(pg, PAGE_QUICK);
	pg->list = LIST_NONE;
	page_list_add(&z->quick.list[n - 1], pg, LIST_QUICK);
	atomic_store_explicit(&z->quick.filled, quick_filled(z) | UINT64_C(1) << (n - 1),
			      memory_order_relaxed);
	counters_add(z, n, 1);
	return true;
}

void quick_merge_locked(struct zone *z, struct page *pg)
{
	take_locked(z, pg);
	run_free_locked(pg);
}

unsigned quick_merge_some(struct zone *z)
{
	unsigned n = 0;

	if (!quick_runs(z) || !zone_lock(z))
		return 0;
	for (; n < BUDDY_BATCH && quick_filled(z); n++)
		quick_merge_locked(z, z->quick.list[__builtin_ctzll(quick_filled(z))].last);
	zone_unlock(z);
	return n;
}

void quick_merge_holds(struct zone *z, unsigned holds)
{
	while (holds-- && quick_merge_some(z) == BUDDY_BATCH)
		;
}

void quick_merge(struct zone *z)
{
	quick_merge_holds(z, QUICK_RUNS / BUDDY_BATCH + 1);
}

void zones_quick_merge(void)
{
	for (uint32_t i = 0; i < zones_count(); i++)
		quick_merge(&zone_all[i]);
}
