/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prefault.c - the reserve of a zone: free blocks that read as zero and that the kernel backs; and
 * growth by huge pages.
 * Used by reserve (its thread fills and trims it), reclaim and limits (which give it back), and
 * pcp (prefault_huge); uses block, region, growth and vm.
 *
 * (A) A block on a prefaulted list reads as zero and is backed as a whole. So are the parts that it
 *     is split into, and what two such blocks merge into. Blocks of other kinds never join it.
 *     (zone_check)
 * (B) While a block is populated or given back it is on no list (PAGE_LIMBO), so no thread sees it
 *     half done. It has at most PREFAULT_LARGE pages and is populated in steps of STEP_BYTES, so
 *     that others do not wait long for the lock of the address space. A huge page is populated by a
 *     fault, which does not take that lock (thp_populate).
 * (C) A thread that crosses a mark only wakes the reserve's thread, by at most one futex call per
 *     sleep.
 *
 * Lock: zone.lock (BUDDY), for one block at a time; no system call under it.
 * Bound: populating a block takes two holds, and one of zone.grow if there is no clean memory;
 * giving one back takes two; prefault_wake takes none. prefault_huge takes two, and under zone.grow
 * two system calls and a page fault. Allocates nothing. Filling and releasing block in the kernel;
 * prefault_wake does not. It and prefault_huge may be called in a signal handler.
 * Fork: a block that is being populated at that moment is lost to the child.
 * Pairing: prefault_wake's fence, after the counter changed under the lock, with the fence of the
 * reserve's thread between setting marks.word and reading the counter again.
 * Source: the watermarks of the Linux kernel's zones (mm/page_alloc.c, kswapd).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/prefault.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/stats.h"
#include "base/sys.h"
#include "os/vm.h"
#include "page/block.h"
#include "page/growth.h"
#include "page/region.h"
#include "page/thp.h"

#define STEP_BYTES ((size_t)256 << 10)
#define HOLD_MS 10000u
#define HUGE_FROM (UINT64_C(16) << (20 - PG_SHIFT)) /* pages in use, for thp:auto */

void prefault_wake(struct zone *z)
{
	int saved = errno;

	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&z->marks.word, memory_order_relaxed) &&
	    atomic_exchange_explicit(&z->marks.word, 0, memory_order_relaxed)) {
		SHARE_COUNT(reserve_word);
		stat_add(STAT_reserve_wakes, 1);
		sluice_syscall(SYS_futex, &z->marks.word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL,
			       NULL, 0);
	}
	errno = saved;
}

void prefault_wait(struct zone *z, uint64_t ms)
{
	struct timespec ts = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	sluice_syscall(SYS_futex, &z->marks.word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1,
		       ms ? &ts : NULL, NULL, 0);
}

void prefault_hold(struct zone *z)
{
	atomic_store_explicit(&z->marks.after, clock_ms() + HOLD_MS, memory_order_relaxed);
}

static void put_back(struct zone *z, struct page *pg)
{
	/* run_free_locked, now or when the deferred run is freed, counts this as a return by a
	 * user, which it is not. */
	if (pg->backing == BACKING_PREFAULTED)
		counter_add_shared(&zone_lead(z)->growth.prefaulted_taken, pg->npages);
	if (!zone_lock(z)) {
		defer_push(z, pg);
		return;
	}
	run_free_locked(pg);
	zone_unlock(z);
	prefault_check_marks(z);
	park_wake();
}

/* ---- filling ----------------------------------------------------------------------------- */

/* Takes the smallest block of that order or more, at most `most` pages of it. */
static struct page *clean_take(struct zone *z, unsigned order, uint32_t most)
{
	struct page *pg;

	if (!zone_lock(z))
		return NULL;
	run_begin(z);
	pg = block_take(z, BACKING_CLEAN, order);
	if (pg) {
		run_cut_locked(z, pg, pg->npages < most ? pg->npages : most, BACKING_CLEAN);
		counter_add_shared(&zone_lead(z)->growth.clean_taken, pg->npages);
	}
	zone_unlock(z);
	return pg;
}

/* A whole block of PREFAULT_LARGE pages, or the smallest block; at most `most` pages of it. Grows
 * the zone if there is none. */
static struct page *clean_get(struct zone *z, bool whole, uint32_t most)
{
	uint64_t seen = atomic_load_explicit(&z->grown, memory_order_relaxed);
	unsigned order = whole ? order_of(PREFAULT_LARGE) : 0;
	struct page *pg = clean_take(z, order, most);

	if (pg)
		return pg;
	if (zone_grow(z, order_of(PREFAULT_LARGE), seen) == 0)
		pg = clean_take(z, order, most);
	return pg || !whole ? pg : clean_take(z, 0, most);
}

/* Populates a block and its descriptors: splitting the block writes to them, and reads those of its
 * neighbours. Descriptors of clean blocks may have been purged (zone_purge_descriptors). */
static bool populate(struct page *pg)
{
	struct region *r = region_of(pg);
	char *at = page_address(pg);
	size_t bytes = (size_t)pg->npages << PG_SHIFT;

	if (!r->populated)
		r->populated = vm_populate(&r->zone, sizeof(*r) - REGION_GUARD);
	vm_populate(pg, pg->npages * sizeof(*pg));
	if (options.thp == THP_RESERVE && pg->npages == PREFAULT_LARGE)
		thp_populate(pg);
	for (size_t done = 0; done < bytes; done += STEP_BYTES)
		if (!vm_populate(at + done, min_size(bytes - done, STEP_BYTES)))
			return false;
	return true;
}

uint32_t prefault_fill(struct zone *z, uint64_t large, uint64_t most)
{
	struct page *pg;
	uint32_t n;
	bool good;

	growth_ask_if_due(z, PREFAULT_LARGE);
	pg = clean_get(z, atomic_load_explicit(&z->prefaulted_large, memory_order_relaxed) < large,
		       (uint32_t)min_size(most, PREFAULT_LARGE));
	if (!pg)
		return 0;
	n = pg->npages;
	counter_add_shared(&z->prefaulted_made, n);
	DELAY_HERE(prefault_taken);
	good = populate(pg);
	DELAY_HERE(prefault_filled);
	if (good)
		pg->backing = BACKING_PREFAULTED;
	else
		pg->backing = thp_purge(page_address(pg), (size_t)n << PG_SHIFT) ? BACKING_CLEAN
										 : BACKING_DIRTY;
	put_back(z, pg);
	if (!good)
		return 0;
	stat_add(STAT_reserve_filled_bytes, (uint64_t)n << PG_SHIFT);
	return n;
}

static bool huge_page_is_due(struct zone *z)
{
	struct growth *g = &zone_lead(z)->growth;
	uint64_t step = atomic_load_explicit(&g->ask_most, memory_order_relaxed);

	return atomic_load_explicit(&g->dense_taken, memory_order_relaxed) >= PREFAULT_LARGE / 2 &&
	       zone_used_pages(z) >= HUGE_FROM && zone_sum(z, dirty_pages) < PREFAULT_LARGE &&
	       !(step && step < PREFAULT_LARGE) && !options.cache_limit && !zone_is_tight(z) &&
	       !atomic_load_explicit(&z->locked, memory_order_relaxed);
}

void prefault_huge(struct zone *z, uint32_t npages, unsigned n)
{
	uint32_t dirty = atomic_load_explicit(&z->orders[BACKING_DIRTY], memory_order_relaxed);
	struct page *pg;

	if (!vm_thp_on_request || z->segregated) /* a zone with a reserve has that */
		return;
	counter_add_shared(&zone_lead(z)->growth.dense_taken, npages * n);
	if (npages * n > PREFAULT_LARGE / 2 || dirty >> order_of(npages * n))
		return;
	/* Of threads that grow at the same time one does it. */
	if (!huge_page_is_due(z) || !lock_try(&z->grow))
		return;
	pg = huge_page_is_due(z) ? clean_take(z, order_of(PREFAULT_LARGE), PREFAULT_LARGE) : NULL;
	if (pg) {
		atomic_store_explicit(&zone_lead(z)->growth.dense_taken, 0, memory_order_relaxed);
		DELAY_HERE(prefault_taken);
		thp_populate(pg);
		pg->backing = BACKING_DIRTY; /* also if the kernel had only a small page */
		put_back(z, pg);
	}
	lock_release(&z->grow);
}

/* ---- giving back ------------------------------------------------------------------------- */

/* Takes a block: at most `most` pages, and only while more than `keep` are prefaulted. */
static struct page *prefaulted_take(struct zone *z, uint64_t keep, uint64_t most)
{
	struct page *pg = NULL;
	uint64_t n;

	if (!zone_lock(z))
		return NULL;
	run_begin(z);
	n = zone_prefaulted_pages(z);
	n = n > keep ? min_size(n - keep, min_size(most, PREFAULT_LARGE)) : 0;
	for (; n && !pg; n /= 2) {
		unsigned order = 31u - (unsigned)__builtin_clz((uint32_t)n);

		pg = block_take(z, BACKING_PREFAULTED, order);
		if (pg)
			run_cut_locked(z, pg, 1u << order, BACKING_PREFAULTED);
	}
	zone_unlock(z);
	return pg;
}

uint64_t prefault_release(struct zone *z, uint64_t keep, uint64_t most)
{
	uint64_t given = 0;
	struct page *pg;
	bool good = true;

	while (good && given < most && (pg = prefaulted_take(z, keep, most - given)) != NULL) {
		uint32_t n = pg->npages;

		good = thp_purge(page_address(pg), (size_t)n << PG_SHIFT);
		pg->backing = good ? BACKING_CLEAN : BACKING_PREFAULTED; /* locked in memory */
		put_back(z, pg);
		given += good ? n : 0;
	}
	if (given)
		stat_add(STAT_reserve_returned_bytes, given << PG_SHIFT);
	return given << PG_SHIFT;
}
