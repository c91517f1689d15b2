/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp.c - each thread's cache of free runs, which any thread can empty (the pcp drain).
 * Used by the heap, reclaim and the page API; uses buddy.
 *
 * (A) count == the sum of npages of the runs on the lists. (pcp_check)
 * (B) Each run on a list is PAGE_PCP, its npages is its class's, its link is tagged LIST_PCP.
 *     (pcp_check, and DCHECKs at each step)
 * (C) The lock is only tried, never waited for. If the pcp is locked the owner uses the buddy core:
 *     it never spins here, whatever a drainer does. A drainer takes at most DRAIN_BATCH runs in one
 *     hold, unlocks, and frees them to the buddy core before it tries again.
 * (D) The pcp's lock and a zone's lock are never held together. A refill takes from the buddy core
 *     first and then tries the pcp; runs that do not fit are freed again.
 * (E) While PCP_DISABLED is set in the flags no run enters. It is set under the lock.
 *
 * Lock: struct spin, rank PCP. Under it only list work is done, of at most DRAIN_BATCH runs and the
 * one that is freed, or of BULK_BATCH runs in a bulk request (hold_step).
 * Bound: an allocation or a free has one or two holds of the pcp and one of the buddy core, each of
 * OWN_BATCH runs, so that no call takes much longer than others; or of as many runs, at most
 * DRAIN_BATCH, as make room for the run that is freed. A bulk call of n runs has n / BULK_BATCH + 1
 * holds of the pcp and n / DRAIN_BATCH + 1 of the buddy core; a drain one per batch and one more.
 * Pairing: spin_unlock's release store with the next spin_trylock's acquire CAS, for everything
 * in the pcp; the count of disables with the list of pcps (pcp_open).
 * Allocates nothing. May wait for a zone's lock and enter the kernel (growth), outside its own
 * lock. In a signal handler a try may fail; the buddy core then serves. Fork: pcp_fork_*.
 *
 * Source: Linux mm/page_alloc.c, struct per_cpu_pages: a spinlock in the cache line of count, high
 * and batch, and remote drains (Gorman, Saenz Julienne, 2022), and its later scaling of batch
 * (alloc_factor, free_count) and high (high_min, high_max, decay).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/pcp.h"

#include <errno.h>
#include <limits.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/probe.h"
#include "base/stats.h"
#include "page/pagemap.h"
#include "page/prefault.h"

#define DRAIN_BATCH BUDDY_BATCH
#define BULK_BATCH 128u
#define OWN_BATCH 8u
#define FACTOR_MAX 4u
#define FORK_WAIT_NS UINT64_C(1000000) /* for each pcp */
#define WAIT_NS UINT64_C(20000000)

const uint8_t run_class_pages[RUN_CLASSES] = { 1,  2,  3,  4,  5,  6,  7,  8,  10, 12, 14,  16,
					       20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128 };

static _Atomic uint32_t disabled; /* nesting depth */

/* Pages in all pcps; any thread, atomic. */
static struct {
	cache_aligned _Atomic uint64_t pages;
	bool counted; /* pcp_count_from was called */
} all;

static inline uint32_t count_of(struct pcp *p)
{
	return atomic_load_explicit(&p->count, memory_order_relaxed);
}

static inline uint32_t holder_of(struct pcp *p)
{
	return atomic_load_explicit(&p->lock.word, memory_order_relaxed);
}

static inline void count_set(struct pcp *p, uint32_t n)
{
	if (unlikely(all.counted)) {
		SHARE_COUNT(pcp_cached);
		atomic_fetch_add_explicit(&all.pages, (uint64_t)n - count_of(p),
					  memory_order_relaxed);
	}
	atomic_store_explicit(&p->count, n, memory_order_relaxed);
}

/* ---- the ways in ------------------------------------------------------------------------- */

/* sluice-bench compiles this file again with two other ways; see tools/bench/pcp_variants.h. */
#ifndef PCP_OTHER_WAYS
/* Owner thread. Returns false if the caller has to use the buddy core. */
static always_inline bool pcp_enter(struct pcp *p)
{
	return spin_trylock(&p->lock);
}

static always_inline void pcp_leave(struct pcp *p)
{
	spin_unlock(&p->lock);
}

/* Any other thread. */
static always_inline bool pcp_enter_remote(struct pcp *p)
{
	return spin_trylock(&p->lock);
}

static always_inline void pcp_leave_remote(struct pcp *p)
{
	spin_unlock(&p->lock);
}
#endif

/* ---- with the lock held ------------------------------------------------------------------ */

static inline struct page *take_locked(struct pcp *p, unsigned rc)
{
	struct page *pg = p->runs[rc].first;

	if (!pg)
		return NULL;
	DCHECK(page_kind(pg) == PAGE_PCP && pg->npages == run_class_pages[rc]);
	hold_step(LOCK_PCP, 1);
	cold_count(2);
	page_list_del(&p->runs[rc], pg, LIST_PCP);
	page_set_kind(pg, PAGE_LIMBO);
	count_set(p, count_of(p) - run_class_pages[rc]);
	return pg;
}

static inline void put_locked(struct pcp *p, struct page *pg, unsigned rc)
{
	DCHECK(pg->npages == run_class_pages[rc] && !(p->flags & PCP_DISABLED));
	hold_step(LOCK_PCP, 1);
	cold_count(2);
	page_set_kind(pg, PAGE_PCP);
	page_list_add(&p->runs[rc], pg, LIST_PCP);
	count_set(p, count_of(p) + run_class_pages[rc]);
}

/* Takes the coldest runs, class by class, until it has `pages`, or at least `over` pages and
 * OWN_BATCH runs, or nothing is left; at most DRAIN_BATCH runs. */
static unsigned spill_locked(struct pcp *p, uint32_t pages, uint32_t over, struct page **out)
{
	uint32_t filled = 0; /* bit c: class c has runs */
	uint32_t got = 0;
	unsigned n = 0;
	unsigned rc = p->spill_class;

	for (unsigned c = 0; c < RUN_CLASSES; c++)
		filled |= (uint32_t)(p->runs[c].last != NULL) << c;
	while (n < DRAIN_BATCH && got < pages && (n < OWN_BATCH || got < over) && filled) {
		uint32_t behind = filled >> (rc + 1) << (rc + 1);
		struct page *pg;

		rc = (unsigned)__builtin_ctz(behind ? behind : filled);
		pg = p->runs[rc].last;
		hold_step(LOCK_PCP, 1);
		cold_count(2);
		page_list_del(&p->runs[rc], pg, LIST_PCP);
		page_set_kind(pg, PAGE_LIMBO);
		if (!p->runs[rc].last)
			filled &= ~(1u << rc);
		got += run_class_pages[rc];
		out[n++] = pg;
	}
	p->spill_class = (uint8_t)rc;
	count_set(p, count_of(p) - got);
	return n;
}

/* After a miss: a larger pcp would be used. */
static void raise_high_locked(struct pcp *p, uint32_t pages)
{
	p->high = p->high + pages < p->high_max ? p->high + pages : p->high_max;
}

/* How many runs the next refill takes: twice as many each time while only allocations come, up to
 * OWN_BATCH and what high leaves room for. */
static unsigned refill_runs_locked(struct pcp *p, unsigned rc)
{
	uint32_t pages = p->batch << p->alloc_factor;
	uint32_t most = OWN_BATCH * run_class_pages[rc];
	uint32_t room;
	unsigned n;

	if (pages > most)
		pages = most;
	raise_high_locked(p, (pages + 3) / 4);
	room = p->high > count_of(p) ? p->high - count_of(p) : 0;
	if (pages > room)
		pages = room;
	else if (p->alloc_factor < FACTOR_MAX)
		p->alloc_factor++;
	n = pages / run_class_pages[rc];
	return n ? n : 1;
}

/* ---- the owner's way --------------------------------------------------------------------- */

/* Tells limits, which counts what is kept. */
static inline void after_free(struct pcp *p)
{
	if (unlikely(buddy_after_free != NULL))
		buddy_after_free(p->zone);
}

/* Keeps the runs that fit and frees the rest. */
static void refill_surplus(struct pcp *p, unsigned rc, struct page **run, unsigned n)
{
	unsigned kept = 0;

	if (n && pcp_enter(p)) {
		while (kept < n && !(p->flags & PCP_DISABLED) &&
		       count_of(p) + run_class_pages[rc] <= p->high)
			put_locked(p, run[kept++], rc);
		pcp_leave(p);
	}
	if (kept < n)
		buddy_free_bulk(run + kept, n - kept);
	after_free(p);
}

static noinline struct page *alloc_refill(struct pcp *p, unsigned rc, unsigned n)
{
	struct page *run[OWN_BATCH];
	unsigned got = buddy_alloc_bulk(p->zone, run_class_pages[rc], n, 1, run);

	if (!got)
		return NULL;
	stat_add(STAT_pcp_refills, 1);
	PROBE2(pcp_refill, p, got);
	DELAY_HERE(pcp_refill);
	refill_surplus(p, rc, run + 1, got - 1);
	return run[0];
}

static always_inline struct page *alloc_run(struct pcp *p, unsigned rc, bool dense)
{
	unsigned n = 1;

	if (likely(pcp_enter(p))) {
		struct page *pg = take_locked(p, rc);

		if (likely(pg != NULL)) {
			p->free_factor = 0;
			pcp_leave(p);
			return pg;
		}
		n = p->flags & PCP_DISABLED ? 1 : refill_runs_locked(p, rc);
		pcp_leave(p);
	} else {
		stat_add(STAT_pcp_bypassed, 1);
		PROBE1(pcp_bypass, p);
	}
	if (dense)
		prefault_huge(p->zone, run_class_pages[rc], n);
	return alloc_refill(p, rc, n);
}

struct page *pcp_alloc(struct pcp *p, unsigned rc)
{
	return alloc_run(p, rc, false);
}

struct page *pcp_alloc_dense(struct pcp *p, unsigned rc)
{
	return alloc_run(p, rc, true);
}

/* One hold of the lock. Returns how many of the n runs were there. */
static inline unsigned take_batch(struct pcp *p, unsigned rc, unsigned n, struct page **out)
{
	unsigned got = 0;
	struct page *pg;

	if (!pcp_enter(p))
		return 0;
	while (got < n && (pg = take_locked(p, rc)) != NULL)
		out[got++] = pg;
	if (got < n)
		raise_high_locked(p, p->batch);
	pcp_leave(p);
	return got;
}

/* Keeps the runs that are aligned to their size and frees the others, which malloc may have used.
 * Returns how many it kept. */
static unsigned keep_aligned(struct page **run, unsigned n, uint32_t npages)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		if (likely((page_number(run[i]) & (npages - 1)) == 0))
			run[kept++] = run[i];
		else
			buddy_free(run[i]);
	}
	return kept;
}

unsigned pcp_alloc_bulk(struct pcp *p, unsigned order, unsigned n, struct page **out)
{
	uint32_t npages = 1u << order;
	unsigned got = 0;

	if (npages <= PCP_RUN_MAX) {
		unsigned rc = run_class_of(npages);
		unsigned want;
		unsigned had;

		do {
			want = n - got < BULK_BATCH ? n - got : BULK_BATCH;
			had = take_batch(p, rc, want, out + got);
			got += npages > 1 ? keep_aligned(out + got, had, npages) : had;
		} while (got < n && had == want);
	}
	if (got < n)
		got += buddy_alloc_blocks(p->zone, order, n - got, out + got);
	return got;
}

/* How many pages the next spill frees: twice as many each time while only frees come. */
static uint32_t spill_pages_locked(struct pcp *p)
{
	uint32_t pages = p->batch << p->free_factor;
	uint32_t most = p->high > p->batch ? p->high - p->batch : 0;
	uint32_t over = count_of(p) - p->high;

	if (p->free_factor < FACTOR_MAX)
		p->free_factor++;
	p->alloc_factor >>= 1;
	if (pages > most)
		pages = most;
	return pages > over ? pages : over;
}

void pcp_free(struct pcp *p, struct page *pg)
{
	struct page *run[DRAIN_BATCH];
	uint32_t npages = pg->npages;
	unsigned n = 0;
	unsigned rc;

	if (npages > PCP_RUN_MAX)
		goto past;
	rc = run_class_of(npages);
	if (run_class_pages[rc] != npages)
		goto past;
	if (unlikely(!pcp_enter(p))) {
		stat_add(STAT_pcp_bypassed, 1);
		PROBE1(pcp_bypass, p);
		goto past;
	}
	if (unlikely((p->flags & PCP_DISABLED) || npages > p->high)) {
		pcp_leave(p);
		goto past;
	}
	put_locked(p, pg, rc);
	if (unlikely(count_of(p) > p->high))
		n = spill_locked(p, spill_pages_locked(p), count_of(p) - p->high, run);
	pcp_leave(p);
	park_wake();
	if (unlikely(n)) {
		stat_add(STAT_pcp_spills, 1);
		DELAY_HERE(pcp_spill);
		buddy_free_bulk(run, n);
	}
	after_free(p);
	return;
past:
	buddy_free(pg);
}

/* One hold of the lock. Returns how many of the n runs the pcp took. */
static inline unsigned put_batch(struct pcp *p, struct page **run, unsigned n)
{
	unsigned kept = 0;

	if (!pcp_enter(p))
		return 0;
	while (kept < n && !(p->flags & PCP_DISABLED) &&
	       count_of(p) + run[kept]->npages <= p->high) {
		unsigned rc = run_class_of(run[kept]->npages);

		put_locked(p, run[kept++], rc);
	}
	pcp_leave(p);
	return kept;
}

void pcp_free_bulk(struct pcp *p, struct page **run, unsigned n)
{
	unsigned kept = 0;

	if (n && run[0]->npages <= PCP_RUN_MAX) {
		unsigned want;
		unsigned took;

		do {
			want = n - kept < BULK_BATCH ? n - kept : BULK_BATCH;
			took = put_batch(p, run + kept, want);
			kept += took;
		} while (kept < n && took == want);
	}
	if (kept < n)
		buddy_free_bulk(run + kept, n - kept);
	after_free(p);
}

/* ---- any thread -------------------------------------------------------------------------- */

/* Starts small again, even if there is nothing to take. */
static unsigned drain_locked(struct pcp *p, struct page **run)
{
	p->high = p->high_min;
	p->alloc_factor = 0;
	p->free_factor = 0;
	return spill_locked(p, UINT32_MAX, UINT32_MAX, run);
}

/* Takes the coldest runs until at most `keep` pages are left. */
static unsigned lower_locked(struct pcp *p, uint32_t keep, struct page **run)
{
	uint32_t count = count_of(p);

	if (p->high > keep)
		p->high = keep > p->high_min ? keep : p->high_min;
	return count > keep ? spill_locked(p, count - keep, UINT32_MAX, run) : 0;
}

static struct pcp_drain drain(struct pcp *p, uint32_t keep, unsigned holds)
{
	struct page *run[DRAIN_BATCH];
	struct pcp_drain result = { 0, 0, false };

	for (; holds; holds--) {
		unsigned n;

		if (!pcp_enter_remote(p)) {
			result.skipped = true;
			break;
		}
		n = keep && !(p->flags & PCP_DISABLED) ? lower_locked(p, keep, run)
						       : drain_locked(p, run);
		pcp_leave_remote(p);
		DELAY_HERE(pcp_drain_taken);
		for (unsigned i = 0; i < n; i++)
			result.pages += run[i]->npages;
		result.runs += n;
		if (n)
			buddy_free_drained(run, n);
		if (n < DRAIN_BATCH)
			break;
		DELAY_HERE(pcp_drain_again);
	}
	if (result.pages)
		stat_add(STAT_pcp_drains, 1);
	return result;
}

struct pcp_drain pcp_drain_part(struct pcp *p, unsigned holds)
{
	return drain(p, 0, holds);
}

struct pcp_drain pcp_drain(struct pcp *p)
{
	return drain(p, 0, UINT_MAX);
}

struct pcp_drain pcp_drain_to(struct pcp *p, uint32_t keep)
{
	return drain(p, keep, UINT_MAX);
}

uint64_t pcp_decay(struct pcp *p)
{
	struct page *run[DRAIN_BATCH];
	uint64_t pages = 0;
	unsigned n = 0;

	if (!pcp_enter_remote(p))
		return 0;
	p->high -= (p->high - p->high_min) >> 3;
	if (count_of(p) > p->high) {
		uint32_t over = count_of(p) - p->high;

		n = spill_locked(p, over, over, run);
	}
	pcp_leave_remote(p);
	for (unsigned i = 0; i < n; i++)
		pages += run[i]->npages;
	if (n)
		buddy_free_bulk(run, n);
	return pages;
}

/* ---- start, and disabling ---------------------------------------------------------------- */

static uint32_t option_pages(uint64_t bytes)
{
	return (uint32_t)(bytes >> PG_SHIFT);
}

void pcp_init(struct pcp *p, struct zone *z)
{
	p->zone = z;
	p->high_max = option_pages(options.pcp_high_max);
	p->high_min = option_pages(options.pcp_high_min);
	if (p->high_min > p->high_max)
		p->high_min = p->high_max;
	p->high = p->high_min;
	p->batch = option_pages(options.pcp_batch);
	/* No other thread knows it yet, so this succeeds. */
	(void)pcp_enter_remote(p);
}

/* A disable raises the count before it walks the list of pcps, so either this reads the count or
 * the walk finds p. Both sides are seq_cst (heap_publish, heap_pcps_disable). The walk waits for
 * the lock, which is held since before p was on the list. */
void pcp_open(struct pcp *p)
{
	if (atomic_load_explicit(&disabled, memory_order_seq_cst))
		p->flags |= PCP_DISABLED;
	pcp_leave_remote(p);
}

void pcp_set_zone(struct pcp *p, struct zone *z)
{
	if (z == p->zone || !pcp_enter_remote(p))
		return;
	if (count_of(p) == 0)
		p->zone = z;
	pcp_leave_remote(p);
}

void pcp_count_from(uint64_t now)
{
	all.counted = true;
	atomic_store_explicit(&all.pages, now, memory_order_relaxed);
}

uint64_t pcp_pages_all(void)
{
	return atomic_load_explicit(&all.pages, memory_order_relaxed);
}

/* Takes the lock. Returns false if its holder does not release it within 20 ms. */
static bool lock_wait(struct pcp *p)
{
	uint64_t end = 0;

	/* By the clock, because a sleep may take ten times as long as asked. */
	while (!pcp_enter_remote(p)) {
		uint64_t now = clock_ns();

		if (!end)
			end = now + WAIT_NS;
		if (now >= end)
			return false;
		park_sleep_us(10);
	}
	return true;
}

bool pcp_set_disabled(struct pcp *p, bool on)
{
	int saved = errno;
	bool good = lock_wait(p);

	errno = saved;
	if (!good)
		return false;
	if (on)
		p->flags |= PCP_DISABLED;
	else
		p->flags &= (uint16_t)~PCP_DISABLED;
	pcp_leave_remote(p);
	return true;
}

bool pcp_disable_begin(void)
{
	SHARE_COUNT(pcp_disabled);
	return atomic_fetch_add_explicit(&disabled, 1, memory_order_seq_cst) == 0;
}

bool pcp_disable_end(void)
{
	uint32_t before;

	SHARE_COUNT(pcp_disabled);
	before = atomic_fetch_sub_explicit(&disabled, 1, memory_order_seq_cst);
	if (unlikely(!before))
		sluice_fatal("sluice_pcp_enable without sluice_pcp_disable");
	return before == 1;
}

/* ---- fork -------------------------------------------------------------------------------- */

/* Guarded by: reclaim_control. The pcps that the forking thread holds. */
static struct pcp *fork_held[PCP_FORK_MAX];
static unsigned fork_holds;

/*
 * Only the pcps of threads that make calls are held: each costs a copy of its page, because it is
 * released after the copy. If a thread is in another pcp just when the kernel copies, the child
 * does without what was in it.
 *
 * Each lock that is taken is marked in the flags. If the fork comes from a signal handler, the
 * interrupted call of this thread may hold a lock. That lock stays the call's, in the child as
 * well.
 */
void pcp_fork_hold(struct pcp *p)
{
	uint64_t end;
	bool held;

	if (!count_of(p) || fork_holds == PCP_FORK_MAX)
		return;
	end = clock_ns() + FORK_WAIT_NS;
	while (!(held = pcp_enter_remote(p)) && holder_of(p) != self_tid() && clock_ns() < end)
		park_sleep_us(10);
	if (!held)
		return;
	p->flags |= PCP_FORK_HELD;
	fork_held[fork_holds++] = p;
}

void pcp_fork_parent(void)
{
	while (fork_holds) {
		struct pcp *p = fork_held[--fork_holds];

		p->flags &= (uint16_t)~PCP_FORK_HELD;
		pcp_leave_remote(p);
	}
}

/* The lists may be half changed if a thread held the lock that the child does not have. */
static void forget(struct pcp *p)
{
	for (unsigned rc = 0; rc < RUN_CLASSES; rc++)
		p->runs[rc] = (struct page_list_head){ NULL, NULL };
	count_set(p, 0);
}

void pcp_fork_child(struct pcp *p, uint32_t parent_tid)
{
	uint32_t word = 0;

	fork_holds = 0;
	if (!holder_of(p))
		return;
	if (p->flags & PCP_FORK_HELD)
		p->flags &= (uint16_t)~PCP_FORK_HELD;
	else if (holder_of(p) == parent_tid)
		word = self_tid();
	else
		forget(p);
	atomic_store_explicit(&p->lock.word, word, memory_order_relaxed);
}

void pcp_check(struct pcp *p)
{
	uint32_t pages = 0;

	CHECK(lock_wait(p));
	for (unsigned rc = 0; rc < RUN_CLASSES; rc++) {
		for (struct page *pg = p->runs[rc].first; pg; pg = pg->next) {
			CHECK(page_kind(pg) == PAGE_PCP && pg->list == LIST_PCP);
			CHECK(pg->npages == run_class_pages[rc]);
			pages += pg->npages;
		}
	}
	CHECK(pages == count_of(p));
	pcp_leave_remote(p);
}
