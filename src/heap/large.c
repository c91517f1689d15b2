/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.c - objects that are a run of pages.
 * Used by heap; uses pcp, longrun, buddy, pagemap, thp, vm.
 *
 * (A) The descriptor of a large object is PAGE_LARGE, has no owner, and its npages is the length of
 *     the object. Every page of the object leads to that descriptor.
 * (B) Between its free and the pcp the run is PAGE_LIMBO, so a second free is noticed.
 * (C) The descriptor of an object for cache bins looks like that of a slab with one object of
 *     ALIGN_MIN bytes; cls is its bin. So the fast path of free handles it like a small object.
 *
 * Bound: one run, so one call of pcp or buddy; what thp_purge and vm_resident do for one that is to
 * read as zero.
 * No lock of its own. May wait for a zone's lock and enter the kernel. Signal handlers and fork: as
 * pcp and buddy.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/large.h"

#include <string.h>

#include "base/check.h"
#include "base/probe.h"
#include "base/options.h"
#include "base/stats.h"
#include "heap/clearing.h"
#include "heap/freelist.h"
#include "heap/sizeclass.h"
#include "os/vm.h"
#include "page/longrun.h"
#include "page/pagemap.h"
#include "page/thp.h"

bool large_unbinned;

static uint32_t pages_of(size_t size)
{
	return (uint32_t)((size + PG_BYTES - 1) >> PG_SHIFT);
}

/* Cache bins take an object whose length is one of their run classes; see heap_free. They do not
 * take one that was shrunk to a small size, because malloc never looks for it there. */
static void set_bin(struct page *pg)
{
	bool fits = !large_unbinned && pg->npages <= LARGE_BIN_PAGES &&
		    pg->npages > SMALL_MAX >> PG_SHIFT &&
		    run_class_pages[run_class_of(pg->npages)] == pg->npages;

	pg->cls = fits ? (uint8_t)(CLASSES + run_class_of(pg->npages)) : 0;
	/* A free of the object's start is the only one that looks at the bin. */
	page_set_heads(pg, 1, pg->cls * CLASS_SCALE);
	slab_set_carved(pg, fits ? ALIGN_MIN : 0);
}

void large_unbin(struct page *pg)
{
	set_bin(pg);
}

/* If address space is limited, saving the rest of a run class is worth more than caching the
 * run. */
static bool is_exact(struct zone *z, uint32_t n)
{
	return unlikely(zone_is_tight(z)) && n > LARGE_BIN_PAGES &&
	       run_class_pages[run_class_of(n)] != n;
}

/* Makes a run an object. */
static void *begin(struct page *pg)
{
	pg->backing = BACKING_DIRTY; /* the program may write it from now on */
	page_set_heads(pg, pg->npages, 0);
	set_bin(pg);
	page_set_kind(pg, PAGE_LARGE);
	stat_add(STAT_large_allocs, 1);
	PROBE2(large_map, page_address(pg), (size_t)pg->npages << PG_SHIFT);
	return page_address(pg);
}

/*
 * Gives back a run that is to read as zero, if the kernel backs little of it: it may be dirty for
 * one page, and to write zeros would back all of it. A page fault costs as much as zeros in some 30
 * pages. Not what bins take, which is written faster than the kernel answers, nor where a reserve
 * spares page faults. Returns whether it reads as zero.
 */
static bool zero_by_purge(struct page *pg)
{
	size_t bytes = (size_t)pg->npages << PG_SHIFT;

	return pg->npages > LARGE_BIN_PAGES && !region_of(pg)->zone->segregated &&
	       vm_resident(page_address(pg), bytes) < bytes / 32 &&
	       thp_purge(page_address(pg), bytes);
}

void *large_alloc(struct pcp *pcp, size_t size, size_t align, bool *zero)
{
	uint32_t n = pages_of(size);
	struct page *pg;

	if (align > PG_BYTES)
		pg = buddy_alloc_aligned(pcp->zone, n, order_of((uint32_t)(align >> PG_SHIFT)));
	else if (n <= PCP_RUN_MAX && !is_exact(pcp->zone, n))
		pg = pcp_alloc(pcp, run_class_of(n));
	else if ((pg = longrun_take(n)) == NULL)
		pg = buddy_alloc(pcp->zone, n);
	if (!pg)
		return NULL;
	*zero = pg->backing != BACKING_DIRTY || (*zero && zero_by_purge(pg));
	return begin(pg);
}

/* Up to PCP_RUN_MAX pages use the length of a run class, so that a pcp can keep the run. */
static uint32_t class_pages(uint32_t n)
{
	return n <= PCP_RUN_MAX ? run_class_pages[run_class_of(n)] : n;
}

/*
 * Whether a block that grows may take memory that was never written, although some that is free
 * was. Where many blocks grow in turn, each leaves a place that is too short for the next steps of
 * the others; if all went on to fresh memory, what was written would become several times what is
 * live.
 */
static bool may_be_fresh(struct zone *z, uint32_t npages)
{
	return !zone_is_tight(z) &&
	       zone_sum(z, dirty_pages) <= zone_used_pages(z) / 8 + 4 * (uint64_t)npages;
}

void *large_alloc_roomy(struct pcp *pcp, size_t size, bool fresh)
{
	uint32_t n = class_pages(pages_of(size));
	struct page *pg = buddy_alloc_roomy(pcp->zone, n);

	if (!pg && fresh && may_be_fresh(pcp->zone, n))
		pg = buddy_alloc_aligned(pcp->zone, n, order_of(n) + 2);
	return pg ? begin(pg) : NULL;
}

void large_check(const struct page *pg, const void *p)
{
	if (unlikely(p != page_address(pg)))
		sluice_fatal("free of the middle of a large block: address %p, block %p (%zu "
			     "bytes)",
			     p, (void *)page_address(pg), large_usable(pg));
}

void large_unmake(struct page *pg)
{
	PROBE2(large_unmap, page_address(pg), (size_t)pg->npages << PG_SHIFT);
	slab_set_carved(pg, 0);
	page_set_kind(pg, PAGE_LIMBO);
}

bool large_extend_region(struct page *pg, size_t size)
{
	uint32_t n = class_pages(pages_of(size));

	if (!buddy_extend_region(pg, n))
		return false;
	page_set_heads(pg, n, 0);
	set_bin(pg);
	return true;
}

bool large_resize(struct page *pg, size_t size)
{
	uint32_t old = pg->npages;
	uint32_t n;

	if (size > LARGE_MAX)
		return false;
	n = class_pages(pages_of(size));
	if (n == old || (n > old && pages_of(size) <= old))
		return true;
	if (n < old) {
		if (unlikely(options.zero_on_free) && clearing_takes((size_t)(old - n) << PG_SHIFT))
			memset(page_address(pg + n), 0, (size_t)(old - n) << PG_SHIFT);
		buddy_shrink(pg, n);
	} else {
		if (!buddy_extend(pg, n))
			return false;
		page_set_heads(pg, n, 0);
	}
	set_bin(pg);
	return true;
}
