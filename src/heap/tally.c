/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tally.c - see tally.h. Used by heap, mallctl; uses heap_thread, and what blocks consist of.
 *
 * Owner thread only: a thread's counters are its own words. A signal handler that interrupts a
 * change of one may lose what it counts itself.
 * No lock, allocates nothing, except the heap of a thread that has none. Fork: the child's thread
 * goes on counting, except in a copy made without handlers while a drainer had the thread's heap.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/tally.h"

#include "heap/arena.h"
#include "heap/critical.h"
#include "heap/guarded.h"
#include "heap/heap_thread.h"
#include "heap/huge.h"
#include "heap/profile.h"
#include "page/pagemap.h"

struct heap heap_counts = HEAP_NEVER;
_Thread_local struct heap *heap_behind TLS_FAST;
static _Thread_local struct tally tally TLS_FAST;

struct tally *tally_of_thread(void)
{
	struct heap *h;

	if (tally_is_on())
		return &tally;
	(void)heap_pcp(); /* makes a heap */
	h = heap_own();   /* a signal handler may have asked meanwhile */
	if (!heap_is_real(h))
		return &tally;
	heap_behind = h;
	atomic_signal_fence(memory_order_seq_cst);
	heap_self = &heap_counts;
	return &tally;
}

/* As heap_plain_usable, but 0 for what is no block: the free that follows says so. */
static size_t bytes_of(const void *p)
{
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;
	size_t n = 0;

	if (pg && page_kind(pg) == PAGE_SLAB)
		return class_size(pg->cls);
	if (pg && page_kind(pg) == PAGE_LARGE) {
		n = pg->list == LIST_SAMPLED ? profile_bytes(p) : 0;
		return n ? n : large_usable(pg);
	}
	if (unlikely(guarded_owns(p)))
		return guarded_in_use(p) ? guarded_usable(p) : 0;
	n = huge_usable(p);
	return n ? n : arena_usable(p);
}

static int64_t balance(void)
{
	return (int64_t)(tally.allocated - tally.freed);
}

static void add(uint64_t bytes)
{
	tally.allocated += bytes;
	if (balance() - tally.base > tally.peak)
		tally.peak = balance() - tally.base;
}

void tally_add(const void *p)
{
	add(bytes_of(p));
}

void tally_remove(const void *p)
{
	tally.freed += bytes_of(p);
}

void tally_resize(uint64_t old, uint64_t bytes)
{
	if (old == bytes)
		return;
	tally.freed += old;
	add(bytes);
}

void tally_reset_peak(void)
{
	(void)tally_of_thread();
	tally.base = balance();
	tally.peak = 0;
}
