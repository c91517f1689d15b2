/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thp.c - see thp.h.
 * Used by region, prefault, purge, holes and quarantine; uses vm.
 *
 * (A) A region's bit i is set while a huge page may back its bytes [i, i + 1) * 2 MiB: from before
 *     the kernel is asked for one until all of it is given back, or the kernel has split it. It
 *     stays when a part is given back after a fork, because the kernel does not split a page that
 *     the child has as well, and when the kernel refuses (locked memory).
 *
 * Relaxed: who gives memory back got it from the thread that asked for the huge page (zone.lock).
 * Two threads that give back parts of one huge page may both find the bit, or one: the kernel
 * splits the page for one of them, before or after the other part is gone.
 * No lock of its own, no allocation; system calls as said. Signal handlers and fork: any.
 * Source: the kernel splits a large folio in madvise_cold_or_pageout_pte_range (mm/madvise.c).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/thp.h"

#include "base/lock.h"
#include "os/vm.h"
#include "page/pagemap.h"
#include "page/zone.h"

#define THP_BYTES ((size_t)PREFAULT_LARGE << PG_SHIFT)
_Static_assert(REGION_BYTES / THP_BYTES <= 32, "a bit for each huge page of a region");

void thp_as_set(void *addr, size_t bytes)
{
	if (vm_thp_on_request)
		vm_thp_forbid(addr, bytes);
	else
		vm_thp_as_set(addr, bytes);
}

static uint32_t bit_of(const struct region *r, uintptr_t at)
{
	return UINT32_C(1) << (at - (uintptr_t)region_start(r)) / THP_BYTES;
}

void thp_populate(struct page *pg)
{
	struct region *r = region_of(pg);
	char *at = page_address(pg);

	atomic_fetch_or_explicit(&r->thp, bit_of(r, (uintptr_t)at), memory_order_relaxed);
	vm_populate_thp(at, THP_BYTES);
}

/* The huge page around `at`, whose page at `cold` goes, goes in part. */
static void split_one(struct region *r, uintptr_t at, uintptr_t cold)
{
	uint32_t bit = bit_of(r, at);

	if (!(atomic_load_explicit(&r->thp, memory_order_relaxed) & bit))
		return;
	if (vm_cold((void *)cold, vm_os_page) &&
	    !atomic_load_explicit(&lock_forking, memory_order_relaxed)) /* no fork yet */
		atomic_fetch_and_explicit(&r->thp, ~bit, memory_order_relaxed);
}

void thp_split(const void *addr, size_t bytes)
{
	uintptr_t first = align_up((uintptr_t)addr, vm_os_page);
	uintptr_t last = align_down((uintptr_t)addr + bytes, vm_os_page);
	struct region *r = region_of(addr);
	uintptr_t whole;

	if (last <= first || likely(!atomic_load_explicit(&r->thp, memory_order_relaxed)))
		return;
	for (whole = align_up(first, THP_BYTES); whole + THP_BYTES <= last; whole += THP_BYTES)
		atomic_fetch_and_explicit(&r->thp, ~bit_of(r, whole), memory_order_relaxed);
	if (first % THP_BYTES || last - first < THP_BYTES)
		split_one(r, first, first);
	if (last % THP_BYTES && last / THP_BYTES != first / THP_BYTES)
		split_one(r, last, last - vm_os_page);
}

bool thp_purge(void *addr, size_t bytes)
{
	thp_split(addr, bytes);
	return vm_purge(addr, bytes);
}
