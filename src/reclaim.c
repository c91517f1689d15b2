/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.c - what any thread may take back from all others, and in which order.
 * Used by the shim (malloc_trim), the API, and heap when there is no memory; uses heap, pcp,
 * buddy.
 *
 * Order: the heaps whose threads are outside, then what lies in nobody's heap (its slabs may go to a
 * pcp), then every pcp, so that blocks meet in the buddy core and merge; then holes are made in un-owned
 * slabs, and dirty blocks go to the kernel, the largest first; then regions that are wholly free.
 *
 * (A) A pcp is skipped when its lock is held, and tried again after a sleep (its holder may need
 *     this processor); after DRAIN_TRIES rounds it is reported as skipped.
 * (B) No lock is held over a system call, but for zone.grow in the unmapping of regions, and
 *     reclaim_control over the membarriers and the short sleeps of a drain.
 *
 * Bound: a step looks at each heap and each page cache once, and takes from a cache what it holds, in holds
 * of 32 runs. On a thread that calls malloc this is done before growth, so once in BUDDY_ASK_PAGES or
 * an eighth of what is in use, and when there is no memory.
 * Lock: reclaim_control (CONTROL) around pcp_disable, pcp_enable and gate 2. Allocates nothing; sleeps;
 * not for signal handlers. Fork: holds reclaim_control, so that no disable is half done.
 * Source: Linux mm/page_alloc.c, drain_all_pages as of K2: directly, without asking the owners.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim.h"

#include <errno.h>

#include "buddy.h"
#include "clock.h"
#include "heap.h"
#include "holes.h"
#include "longrun.h"
#include "options.h"
#include "pcp.h"
#include "stats.h"

#define DRAIN_TRIES 50u /* of 100 us each */
#define HEAP_TRIES 10u  /* of them, for one heap's page cache */

struct lock reclaim_control = LOCK_INIT(LOCK_CONTROL);

/* One round over all pcps; returns how many were locked. */
static uint64_t drain_round(bool first, struct reclaim_report *r)
{
	uint64_t skipped = 0;
	uint64_t caches = 0;

	for (struct pcp *p = pcp_first(); p; p = pcp_next(p)) {
		struct pcp_drain d;

		/* Later rounds are for those that were locked; the others have had theirs. */
		if (!first && atomic_load_explicit(&p->count, memory_order_relaxed) == 0) {
			caches++;
			continue;
		}
		d = pcp_drain(p);
		caches++;
		r->bytes_drained += d.pages << PG_SHIFT;
		skipped += d.skipped;
	}
	r->bytes_drained += longrun_drain() << PG_SHIFT;
	r->caches_reached = caches - skipped;
	return skipped;
}

static void drain_caches(struct reclaim_report *r)
{
	unsigned tries = 0;

	r->caches_skipped = drain_round(true, r);
	while (r->caches_skipped && ++tries < DRAIN_TRIES) {
		lock_pause();
		r->caches_skipped = drain_round(false, r);
	}
}

/* One heap; tries: what is left of them, for all heaps together. */
static void drain_heap(struct heap *h, uint64_t marked, unsigned *tries, struct heap_drain *d)
{
	heap_drain(h, marked, d);
	for (unsigned i = 0; d->locked && i < HEAP_TRIES && *tries; i++) {
		struct pcp_drain again;

		--*tries;
		lock_pause();
		again = pcp_drain(&h->pcp);
		d->drained += again.pages << PG_SHIFT;
		d->locked = again.skipped;
	}
}

/* Gate 2 at once. Who is inside a call, or makes one between the mark and the look, keeps its heap. */
static void drain_heaps(uint64_t marked, struct reclaim_report *r, reclaim_see *see, void *arg)
{
	unsigned tries = DRAIN_TRIES;

	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		struct heap_drain d;

		drain_heap(h, marked, &tries, &d);
		r->bytes_drained += d.drained;
		if (d.outcome == HEAP_EMPTIED && !d.locked)
			r->heaps_emptied++;
		else
			r->heaps_skipped++;
		if (see)
			see(arg, &d);
	}
}

/* Who calls malloc all the time has to have a chance to take the mark back. */
static uint64_t mark_heaps(unsigned flags, struct reclaim_report *r)
{
	uint64_t start = clock_ns();
	uint64_t marked;

	if (!(flags & RECLAIM_IDLE))
		return HEAP_PAGES;
	marked = heap_idle_mark_all(flags & RECLAIM_QUIET);
	if (marked)
		lock_pause();
	r->barrier_ns = clock_ns() - start;
	return marked;
}

bool reclaim_drain_each(unsigned flags, uint64_t keep, struct reclaim_report *report,
			reclaim_see *see, void *arg)
{
	int saved = errno;
	uint64_t start = clock_ns();

	*report = (struct reclaim_report){ 0 };
	if ((flags & RECLAIM_IDLE) || ((flags & RECLAIM_CACHES) && see)) {
		/* With the lock, else who grows meanwhile would mark anew and ours be lost. */
		if (lock_acquire(&reclaim_control) == 0) {
			drain_heaps(mark_heaps(flags, report), report, see, arg);
			lock_release(&reclaim_control);
		} else if (see) {
			errno = saved;
			return false;
		}
	}
	if ((flags & RECLAIM_PURGE) && options.holes)
		heap_leave_own();
	if (flags & (RECLAIM_CACHES | RECLAIM_IDLE)) {
		report->bytes_drained += heap_sweep();
		drain_caches(report);
	}
	if (flags & RECLAIM_PURGE) {
		report->bytes_purged = holes_punch(true, UINT64_MAX);
		report->bytes_purged += buddy_purge(&zone_main, keep >> PG_SHIFT, UINT64_MAX);
		/* Little memory by many calls: else the background does it once nothing is cached. */
		if (buddy_trim_inline)
			buddy_purge_descriptors(&zone_main);
	}
	if (flags & RECLAIM_REGIONS)
		report->bytes_unmapped = buddy_release_regions(&zone_main);
	report->time_ns = clock_ns() - start;
	errno = saved;
	return true;
}

void reclaim_drain(unsigned flags, uint64_t keep, struct reclaim_report *report)
{
	reclaim_drain_each(flags, keep, report, NULL, NULL);
}

void reclaim_idle(uint64_t generation, struct reclaim_report *report)
{
	uint64_t before = atomic_load_explicit(&zone_main.dirty_pages, memory_order_relaxed);
	uint64_t after;
	unsigned heaps = 0;

	*report = (struct reclaim_report){ 0 };
	if (generation && lock_acquire(&reclaim_control) == 0) {
		heaps = heap_idle_take(generation);
		lock_release(&reclaim_control);
	}
	report->caches_reached = heaps;
	report->bytes_drained = heap_sweep();
	report->bytes_purged = holes_punch(false, UINT64_MAX);
	after = atomic_load_explicit(&zone_main.dirty_pages, memory_order_relaxed);
	if (after > before) {
		report->bytes_drained += (after - before) << PG_SHIFT;
		report->bytes_purged += buddy_purge(&zone_main, before, UINT64_MAX);
		buddy_purge_descriptors(&zone_main);
	}
}

void reclaim_visit(uint64_t generation)
{
	if (!generation || lock_acquire(&reclaim_control) != 0)
		return;
	heap_visit(generation);
	lock_release(&reclaim_control);
}

/* No memory: the kernel refused to grow, so dirty pages are as good as clean ones and stay. */
static bool reclaim_for_alloc(void)
{
	struct reclaim_report r = { 0 };
	uint64_t marked = heap_idle_mark(false);
	int saved = errno;

	if (lock_try(&reclaim_control)) {
		drain_heaps(marked, &r, NULL, NULL);
		lock_release(&reclaim_control);
	}
	drain_round(true, &r);
	r.bytes_drained += heap_sweep();
	errno = saved;
	return r.bytes_drained != 0;
}

static bool growth_marked; /* by the last one; guarded by: reclaim_control */

/*
 * The process is about to grow: before it does, take what all threads cache in pages, what the heaps
 * hold of threads that made no call since the last time, and what was freed into the slabs of
 * threads that do not look. One thread at a time does it; the others grow. The pages come dirty, and
 * are used again so.
 */
bool reclaim_before_growth(void)
{
	struct reclaim_report r = { 0 };
	uint64_t before = atomic_load_explicit(&zone_main.free_pages, memory_order_relaxed);
	int saved = errno;

	if (!lock_try(&reclaim_control))
		return false;
	drain_round(true, &r);
	if (growth_marked)
		heap_growth_take(false);
	growth_marked = heap_growth_mark();
	lock_release(&reclaim_control);
	errno = saved;
	return atomic_load_explicit(&zone_main.free_pages, memory_order_relaxed) > before;
}

/* ---- pressure ---------------------------------------------------------------------------- */

/* Drain what the level asks for, with the control lock held. */
static void pressure_step(unsigned step, uint64_t marked)
{
	struct reclaim_report r = { 0 };

	switch (step) {
	case 0:
		heap_drain_sleeping();
		break;
	case 1:
		drain_round(true, &r);
		heap_sweep();
		break;
	case 2:
		if (marked)
			heap_idle_take(marked);
		else if (growth_marked)
			heap_growth_take(true);
		heap_sweep();
		break;
	default:
		marked = heap_idle_mark(false);
		if (marked)
			heap_idle_take(marked);
		heap_open_inboxes();
		drain_round(true, &r);
		heap_sweep();
		break;
	}
}

uint64_t reclaim_pressure(uint64_t want, uint64_t marked, bool emergency)
{
	int saved = errno;
	uint64_t given = 0;

	stat_add(STAT_pressure_reclaims, 1);
	buddy_ready_hold(&zone_main);
	given = buddy_ready_release(&zone_main, 0, want / PG_BYTES + 1);
	for (unsigned step = 0; step < (emergency ? 4u : 3u) && given < want; step++) {
		if (step == 3)
			heap_ask_trim();
		if (lock_acquire(&reclaim_control) == 0) {
			pressure_step(step, marked);
			lock_release(&reclaim_control);
		}
		/* Blocks meet when all page caches are empty. */
		if (step)
			given += buddy_purge(&zone_main, 0, (want - given) / PG_BYTES + 1);
		if (step == 3 && given < want && options.holes)
			heap_leave_own();
		if (step >= 2 && given < want)
			given += holes_punch(true, want - given);
	}
	if (given < want && !emergency)
		heap_ask_trim();
	errno = saved;
	return given;
}

void reclaim_init(void)
{
	heap_reclaim = reclaim_for_alloc;
}

int reclaim_pcp_disable(void)
{
	int err = lock_acquire(&reclaim_control);

	if (err)
		return err;
	if (!pcp_disable()) {
		pcp_enable();
		err = -EBUSY;
	}
	lock_release(&reclaim_control);
	return err;
}

void reclaim_pcp_enable(void)
{
	while (lock_acquire(&reclaim_control) == -EAGAIN)
		lock_pause();
	pcp_enable();
	lock_release(&reclaim_control);
}
