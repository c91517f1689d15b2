/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.h - objects that are a run of pages: above SMALL_MAX, up to RUN_PAGES_MAX pages; below it if they were larger,
 * or have a large alignment.
 */
#ifndef SLUICE_LARGE_H
#define SLUICE_LARGE_H

#include "page/pcp.h"
#include "types.h"

#define LARGE_MAX ((size_t)RUN_PAGES_MAX << PG_SHIFT)

/*
 * A heap's bins take large objects of up to LARGE_BIN_PAGES pages, each of the run classes a bin:
 * at most LARGE_BIN_BYTES in one, but 1 to LARGE_BIN_MAX. Their numbers follow the size classes'.
 */
#define LARGE_BINS 12u
#define LARGE_BIN_PAGES 16u
#define LARGE_BIN_MAX 4u
#define LARGE_BIN_BYTES ((size_t)256 << 10)

/* The bin of objects of this size. size: above SMALL_MAX, up to LARGE_BIN_PAGES pages. */
static inline unsigned large_bin(size_t size)
{
	return CLASSES + run_class_of((uint32_t)((size + PG_BYTES - 1) >> PG_SHIFT));
}

/* Places in the bin at the most. */
static inline unsigned large_bin_capacity(unsigned bin)
{
	size_t n = LARGE_BIN_BYTES / ((size_t)run_class_pages[bin - CLASSES] << PG_SHIFT);

	return n < LARGE_BIN_MAX ? (unsigned)n : LARGE_BIN_MAX;
}

/*
 * size: 1 to LARGE_MAX; align: a power of two up to LARGE_MAX. *zero: it reads as zero. NULL: no
 * memory. By way of the pcp up to PCP_RUN_MAX pages. May wait and enter the kernel.
 */
void *large_alloc(struct pcp *pcp, size_t size, size_t align, bool *zero);

/* pg: the descriptor that p leads to, of kind PAGE_LARGE; stops the program unless p is its
 * start. */
void large_check(const struct page *pg, const void *p);

/* The object becomes a run in limbo, to be given to a pcp. */
void large_unmake(struct page *pg);

static inline size_t large_usable(const struct page *pg)
{
	return (size_t)pg->npages << PG_SHIFT;
}

/* Change the size in place, false: it cannot be. */
bool large_resize(struct page *pg, size_t size);

#endif
