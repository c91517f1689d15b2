/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prefault.h - a zone's reserve: free blocks that the kernel backs before anybody needs them.
 */
#ifndef SLUICE_PREFAULT_H
#define SLUICE_PREFAULT_H

#include "page/zone.h"

/*
 * Populates one block of clean memory of at most PREFAULT_LARGE pages, and at most `most`: a whole
 * block of that size while less than `large` pages are in such blocks, else the smallest there is.
 * Grows the zone if need be. Returns its pages; 0 if there is no memory or the kernel refused to
 * back it.
 */
uint32_t prefault_fill(struct zone *z, uint64_t large, uint64_t most);

/*
 * Before n runs of npages are taken that the program will write as a whole: if the zone has only
 * clean blocks for them, backs a block of PREFAULT_LARGE pages with a huge page and frees it as
 * dirty memory. It does so in a large process of whose memory nearly all is in use, and once for
 * each PREFAULT_LARGE / 2 pages of such runs: so what the program does not write is backed to that
 * extent at most. Makes system calls; waits for no other lock than the zone's. Any context.
 */
void prefault_huge(struct zone *z, uint32_t npages, unsigned n);

/* Gives prefaulted pages back to the kernel until at most `keep` are left or `most` were given, in
 * steps, with no lock held over a system call. Returns bytes given back. */
uint64_t prefault_release(struct zone *z, uint64_t keep, uint64_t most);

/* Memory is short: nothing is populated for a while. */
void prefault_hold(struct zone *z);

/* Sleeps until a thread crosses a mark, or for ms (0: no limit). The caller has set the zone's
 * marks.word. */
void prefault_wait(struct zone *z, uint64_t ms);

/* Wakes the thread that sleeps in prefault_wait. Any context. */
void prefault_wake(struct zone *z);

/* After pages were taken or freed, without the lock: wakes the reserve's thread if a mark was
 * crossed. */
static always_inline void prefault_check_marks(struct zone *z)
{
	uint64_t have = zone_prefaulted_pages(z);

	if (unlikely(have < atomic_load_explicit(&z->marks.low, memory_order_relaxed) ||
		     have > atomic_load_explicit(&z->marks.over, memory_order_relaxed)))
		prefault_wake(z);
}

#endif
