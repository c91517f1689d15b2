/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.c - what any thread may take back from all others, and in which order.
 * Used by the shim (malloc_trim), the API, and heap when there is no memory; uses heap, pcp,
 * buddy.
 *
 * Order: un-owned empty slabs, then every pcp, so that blocks meet in the buddy core and merge;
 * then dirty blocks go to the kernel, the largest first; then regions that are wholly free.
 *
 * (A) A pcp is skipped when its lock is held, and tried again after a sleep (its holder may need
 *     this processor); after DRAIN_TRIES rounds it is reported as skipped.
 * (B) No lock is held over a system call, but for zone.grow in the unmapping of regions, and
 *     reclaim_control over the membarriers of gate 2.
 *
 * Lock: reclaim_control (CONTROL) around pcp_disable, pcp_enable and gate 2. Allocates nothing; sleeps;
 * not for signal handlers. Fork: holds reclaim_control, so that no disable is half done.
 * Source: Linux mm/page_alloc.c, drain_all_pages as of K2: directly, without asking the owners.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim.h"

#include <errno.h>
#include <time.h>

#include "buddy.h"
#include "clock.h"
#include "heap.h"
#include "pcp.h"

#define DRAIN_TRIES 50u /* of 100 us each */

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
	r->caches_reached = caches - skipped;
	return skipped;
}

static void drain_caches(struct reclaim_report *r)
{
	const struct timespec pause = { 0, 100000 };
	unsigned tries = 0;

	r->caches_skipped = drain_round(true, r);
	while (r->caches_skipped && ++tries < DRAIN_TRIES) {
		nanosleep(&pause, NULL);
		r->caches_skipped = drain_round(false, r);
	}
}

void reclaim_drain(unsigned flags, uint64_t keep, struct reclaim_report *report)
{
	int saved = errno;
	uint64_t start = clock_ns();

	*report = (struct reclaim_report){ 0 };
	if (flags & RECLAIM_CACHES) {
		report->bytes_drained += heap_sweep();
		drain_caches(report);
	}
	if (flags & RECLAIM_PURGE)
		report->bytes_purged = buddy_purge(&zone_main, keep >> PG_SHIFT, UINT64_MAX);
	if (flags & RECLAIM_REGIONS)
		report->bytes_unmapped = buddy_release_regions(&zone_main);
	report->time_ns = clock_ns() - start;
	errno = saved;
}

uint64_t reclaim_mark(void)
{
	uint64_t g = 0;

	if (lock_acquire(&reclaim_control) == 0) {
		g = heap_idle_mark(true);
		lock_release(&reclaim_control);
	}
	return g;
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
	after = atomic_load_explicit(&zone_main.dirty_pages, memory_order_relaxed);
	if (after > before) {
		report->bytes_drained += (after - before) << PG_SHIFT;
		report->bytes_purged = buddy_purge(&zone_main, before, UINT64_MAX);
	}
}

/* No memory: the kernel refused to grow, so dirty pages are as good as clean ones and stay. */
static bool reclaim_for_alloc(void)
{
	struct reclaim_report r;
	uint64_t reached = heap_sweep();
	int saved = errno;

	r = (struct reclaim_report){ 0 };
	drain_round(true, &r);
	errno = saved;
	return reached + r.bytes_drained != 0;
}

/*
 * The process is about to grow: before it does, take what all threads cache in pages, what the heaps
 * hold of threads that made no call since the last time, and what was freed into the slabs of
 * threads that do not look. One thread at a time does it; the others grow. The pages come dirty, and
 * are used again so.
 */
static bool reclaim_before_growth(void)
{
	static uint64_t marked; /* guarded by: reclaim_control */
	struct reclaim_report r = { 0 };
	uint64_t before = atomic_load_explicit(&zone_main.free_pages, memory_order_relaxed);
	int saved = errno;

	if (!lock_try(&reclaim_control))
		return false;
	drain_round(true, &r);
	if (marked)
		heap_idle_take(marked);
	heap_open_inboxes();
	marked = heap_idle_mark(false);
	lock_release(&reclaim_control);
	errno = saved;
	return atomic_load_explicit(&zone_main.free_pages, memory_order_relaxed) > before;
}

void reclaim_init(void)
{
	buddy_before_growth = reclaim_before_growth;
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
		;
	pcp_enable();
	lock_release(&reclaim_control);
}
