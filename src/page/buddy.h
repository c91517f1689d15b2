/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buddy.h - the buddy core: runs of pages from the zones.
 */
#ifndef SLUICE_BUDDY_H
#define SLUICE_BUDDY_H

#include "page/zone.h"
#include "types.h"

/*
 * Allocates up to n runs of npages (1 to RUN_PAGES_MAX) each. Returns how many. Free memory of
 * other zones comes before growth; the zone grows until `least` runs are there or the kernel
 * refuses. May enter the kernel; never call it under a pcp lock. A run comes in state PAGE_LIMBO
 * with npages and backing set.
 */
unsigned buddy_alloc_bulk(struct zone *z, uint32_t npages, unsigned n, unsigned least,
			  struct page **out);

/* The same for one run. Returns NULL if there is no memory. */
static inline struct page *buddy_alloc(struct zone *z, uint32_t npages)
{
	struct page *pg;

	return buddy_alloc_bulk(z, npages, 1, 1, &pg) ? pg : NULL;
}

/* Up to n runs of 2^order pages, each aligned to its size in its region. Those of buddy_alloc_bulk
 * need not be. */
unsigned buddy_alloc_blocks(struct zone *z, unsigned order, unsigned n, struct page **out);

/* A run aligned to 2^order pages. Returns NULL if there is no memory. */
struct page *buddy_alloc_aligned(struct zone *z, uint32_t npages, unsigned order);

/* A run with at least as much free memory behind it, which buddy_extend can take. Only of memory of
 * this zone that was written. Returns NULL if none. */
struct page *buddy_alloc_roomy(struct zone *z, uint32_t npages);

/* Frees runs of pg->npages pages each, to the zones that they are of. pg->backing says whether they
 * were written. */
void buddy_free_bulk(struct page *const *runs, unsigned n);

/* The same for drains: never trims. A drain purges later, when all its pages have merged. */
void buddy_free_drained(struct page *const *runs, unsigned n);

static inline void buddy_free(struct page *pg)
{
	buddy_free_bulk(&pg, 1);
}

/* Called after pages were freed to a zone or a pcp, without their locks. NULL, or set by
 * limits. */
extern void (*buddy_after_free)(struct zone *z);

/* Lengthens a run to npages by the free blocks behind it. Returns false if it stays as it is. */
bool buddy_extend(struct page *pg, uint32_t npages);

/* The same for a run that ends, or whose free blocks end, where the region does: the region then
 * grows. May enter the kernel. */
bool buddy_extend_region(struct page *pg, uint32_t npages);

/* Shortens a run to npages and frees its tail. */
void buddy_shrink(struct page *pg, uint32_t npages);

#endif
