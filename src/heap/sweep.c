/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sweep.c - see sweep.h.
 * Used by reclaim and mallctl; uses claim, heap_call, heap_slabs, heap_thread, slab_pool, outbox.
 *
 * Bound: a call walks bins, outbox and inbox of the caller, and the pools, in critical sections
 * that each do what one call may (heap_work.h), so that signal handlers can use the heap in
 * between. In a child of fork it looks at each heap.
 * Allocates nothing. May wait and enter the kernel.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/sweep.h"

#include "heap/claim.h"
#include "heap/heap.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/heap_thread.h"
#include "heap/heap_work.h"
#include "heap/outbox.h"
#include "heap/slab_pool.h"
#include "heap/trim.h"
#include "page/buddy.h"

/* Flush the outbox of the calling thread, and open its inbox. A few in each critical section, so
 * that signal handlers can use the heap in between. */
static void flush_own(void)
{
	struct heap *h = heap_own();
	struct outbox_adopt due = { NULL, 0 };
	bool more = true;

	while (more && heap_enter_slow(h)) {
		struct page *posted = NULL;

		more = outbox_flush_one(&h->outbox, &due, &posted);
		heap_post_all(posted);
		heap_exit(h);
		if (more && due.pg)
			heap_adopt(due.pg, due.cls);
	}
	for (more = true; more && heap_enter_slow(h); heap_call_end(h))
		more = heap_open_inbox(h);
}

void heap_abandon_own(void)
{
	struct heap *h = heap_own();

	for (bool more = true; more && heap_enter_slow(h); heap_call_end(h))
		more = heap_trim_quarantine(h);
	for (unsigned bin = 0; bin < BINS; bin++) {
		for (bool more = true; more && heap_enter_slow(h); heap_call_end(h)) {
			heap_work_begin(true, false);
			more = heap_abandon_some(h, bin);
		}
	}
}

/* Nobody else looks at heaps that a fork left half changed. Their pcps are whole. */
static uint64_t drain_quarantined(void)
{
	uint64_t pages = 0;

	for (struct heap *h = heap_first(); h && heap_process; h = heap_next(h))
		if (heap_is_quarantined(h))
			pages += pcp_drain(&h->pcp).pages;
	return pages << PG_SHIFT;
}

uint64_t heap_sweep(void)
{
	uint64_t bytes = drain_quarantined();

	flush_own();
	heap_drain_fallback();
	while (heap_take_orphan())
		;
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		struct page *pg;

		while ((pg = slab_pool_take_empty(cls)) != NULL) {
			bytes += (uint64_t)size_classes[cls].pages << PG_SHIFT;
			slab_unmake(pg);
			buddy_free_drained(&pg, 1);
		}
	}
	return bytes;
}
