/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.h - objects that are a run of pages: above SMALL_MAX, up to RUN_PAGES_MAX pages. They are
 * smaller only if they were shrunk in place, or have a large alignment.
 */
#ifndef SLUICE_LARGE_H
#define SLUICE_LARGE_H

#include "page/pcp.h"
#include "types.h"

#define LARGE_MAX ((size_t)RUN_PAGES_MAX << PG_SHIFT)

/*
 * A heap has a cache bin for each run class up to LARGE_BIN_PAGES pages. Such a bin takes up to
 * LARGE_BIN_BYTES, and 1 to LARGE_BIN_MAX objects. The numbers of these bins follow the size
 * classes.
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

/* The largest number of places in the bin. */
static inline unsigned large_bin_capacity(unsigned bin)
{
	size_t n = LARGE_BIN_BYTES / ((size_t)run_class_pages[bin - CLASSES] << PG_SHIFT);

	return n < LARGE_BIN_MAX ? (unsigned)n : LARGE_BIN_MAX;
}

/*
 * size: 1 to LARGE_MAX; align: a power of two up to LARGE_MAX. *zero: whether the memory is to read
 * as zero; becomes whether it does. Returns NULL if there is no memory. Runs of up to PCP_RUN_MAX
 * pages come from the pcp. May wait for locks and enter the kernel.
 */
void *large_alloc(struct pcp *pcp, size_t size, size_t align, bool *zero);

/* The same for an object that grows: with as much free memory behind it that was written, or, if
 * `fresh` allows, three times as much that was not. size: up to LARGE_MAX / 4. Returns NULL if
 * there is none. */
void *large_alloc_roomy(struct pcp *pcp, size_t size, bool fresh);

/* Stop the program unless p is the start of the large object whose descriptor pg is. */
void large_check(const struct page *pg, const void *p);

/* No cache bin takes large objects: dealt.h. Set before the second thread. */
extern bool large_unbinned;

/* Apply it to an object that there is already. */
void large_unbin(struct page *pg);

/* Make the object a run in limbo, for a pcp. */
void large_unmake(struct page *pg);

static inline size_t large_usable(const struct page *pg)
{
	return (size_t)pg->npages << PG_SHIFT;
}

/* Change the size in place. Returns false if that is not possible. */
bool large_resize(struct page *pg, size_t size);

/* The same for a longer size; the region grows if the object is at its end. */
bool large_extend_region(struct page *pg, size_t size);

#endif
