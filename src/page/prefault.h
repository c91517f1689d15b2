/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prefault.h - a zone's reserve: free blocks that the kernel backs before anybody needs them.
 */
#ifndef SLUICE_PREFAULT_H
#define SLUICE_PREFAULT_H

#include "page/zone.h"

/*
 * Populates one block of clean memory of at most READY_LARGE pages, and at most `most`: a whole
 * block of that size while less than `large` pages are in such blocks, else the smallest there is.
 * Grows the zone if need be. Returns its pages; 0 if there is no memory or the kernel refused to
 * back it.
 */
uint32_t buddy_ready_fill(struct zone *z, uint64_t large, uint64_t most);

/* Gives ready pages back to the kernel until at most `keep` are left or `most` were given, in
 * steps, with no lock held over a system call. Returns bytes given back. */
uint64_t buddy_ready_release(struct zone *z, uint64_t keep, uint64_t most);

/* Memory is short: nothing is populated for a while. */
void buddy_ready_hold(struct zone *z);

/* Sleeps until a thread crosses a mark, or for ms (0: no limit). The caller has set ready_word. */
void buddy_ready_wait(struct zone *z, uint64_t ms);

/* Wakes the thread that sleeps in buddy_ready_wait. Any context. */
void buddy_ready_wake(struct zone *z);

/* After pages were taken or freed, without the lock: wakes the reserve's thread if a mark was
 * crossed. */
static always_inline void ready_look(struct zone *z)
{
	uint64_t ready = buddy_ready_pages(z);

	if (unlikely(ready < atomic_load_explicit(&z->ready_low, memory_order_relaxed) ||
		     ready > atomic_load_explicit(&z->ready_over, memory_order_relaxed)))
		buddy_ready_wake(z);
}

#endif
