/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.h - objects that are a run of pages: above SMALL_MAX, up to RUN_PAGES_MAX pages.
 */
#ifndef SLUICE_LARGE_H
#define SLUICE_LARGE_H

#include "pcp.h"
#include "types.h"

#define LARGE_MAX ((size_t)RUN_PAGES_MAX << PG_SHIFT)

/*
 * size: 1 to LARGE_MAX; align: a power of two up to LARGE_MAX. *zero: it reads as zero. NULL: no
 * memory. By way of the pcp up to PCP_RUN_MAX pages. May wait and enter the kernel.
 */
void *large_alloc(struct pcp *pcp, size_t size, size_t align, bool *zero);

/* pg: the descriptor that p leads to, of kind PAGE_LARGE; stops the program unless p is its
 * start. */
void large_free(struct pcp *pcp, struct page *pg, void *p);

static inline size_t large_usable(const struct page *pg)
{
	return (size_t)pg->npages << PG_SHIFT;
}

/* Change the size in place, false: it cannot be. */
bool large_resize(struct page *pg, size_t size);

#endif
