/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.c - what any thread may take back from all others, and in which order.
 * Used by the shim (malloc_trim), the API, and heap when there is no memory; uses heap, pcp,
 * buddy.
 *
 * Order: the heaps whose threads are outside, then what lies in nobody's heap (its slabs may go to a
 * pcp), then every pcp, so that blocks meet in the buddy core and merge; then holes are made in abandoned
 * slabs, and dirty blocks go to the kernel, the largest first; then regions that are wholly free.
 *
 * (A) A pcp is skipped when its lock is held, and tried again after a sleep (its holder may need
 *     this processor); after DRAIN_WAIT_NS it is reported as skipped.
 * (B) No lock is held over a system call, but for zone.grow in the unmapping of regions, and
 *     reclaim_control over a membarrier by interrupts (1 us). It is held for one heap of a drain, or for a part
 *     (PART_STEPS) of what else is done to heaps.
 *
 * Bound: a growth looks at GROWTH_LOOKS heaps three times, makes one barrier of 1 us, and moves GROWTH_STEPS
 * objects, slabs and runs, and the part that it is in, and the runs of two pcps (heap_growth_step; debug
 * builds count it): however many threads there are, and whatever they hold. It goes on where the last one ended, an
 * eighth of what is in use later at most, or AGAIN_PAGES while there is more.
 * A drain looks at each heap and each pcp once, and takes what it holds, in holds
 * of 32 runs. On a thread that calls malloc this is done only when the kernel refused memory, or a limit is
 * near that would kill the process: it then looks at all heaps once, as often as that gave something; at a
 * limit in parts of PART_STEPS, and no more of them than are needed.
 * Lock: reclaim_control (CONTROL) around pcp_disable, pcp_enable and gate 2. Allocates nothing; sleeps;
 * not for signal handlers. Fork: holds reclaim_control, so that no disable is half done.
 * Source: Linux mm/page_alloc.c, drain_all_pages as of K2: directly, without asking the owners.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/reclaim.h"

#include <errno.h>

#include "page/buddy.h"
#include "base/clock.h"
#include "heap/heap.h"
#include "heap/slab_pool.h"
#include "page/growth.h"
#include "page/longrun.h"
#include "base/options.h"
#include "page/pcp.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/region.h"
#include "base/stats.h"

/* How long a drain waits for pcps that are locked: for all in turn, for those of heaps, and for one
 * heap's. By the clock: a sleep takes longer than it is told to. */
#define DRAIN_WAIT_NS UINT64_C(5000000)
#define HEAP_WAIT_NS UINT64_C(1000000)

/* What is moved in one hold of reclaim_control while memory is short, or by the background thread. */
#define PART_STEPS 16384u
/* Until the next growth, while there is more to take than one takes; if that gave something the next one
 * comes as soon as it is used up. */
#define AGAIN_PAGES (UINT64_C(1) << (19 - PG_SHIFT))

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
	uint64_t end = clock_ns() + DRAIN_WAIT_NS;

	r->caches_skipped = drain_round(true, r);
	while (r->caches_skipped && clock_ns() < end) {
		lock_pause();
		r->caches_skipped = drain_round(false, r);
	}
}

/* One heap; wait_ns: what is left of it, for all heaps together. The lock is held for its heap only, so that a
 * fork, say, waits for no more. */
static void drain_heap(struct heap *h, uint64_t marked, bool counts, uint64_t *wait_ns,
		       struct heap_drain *d)
{
	uint64_t begin;
	uint64_t waited = 0;

	if (marked == HEAP_PAGES) {
		heap_drain(h, marked, counts, d);
	} else if (lock_acquire(&reclaim_control) == 0) {
		heap_drain(h, marked, counts, d);
		lock_release(&reclaim_control);
	} else {
		heap_drain(h, HEAP_PAGES, counts, d);
		d->outcome = HEAP_HELD;
	}
	if (!d->locked)
		return;
	begin = clock_ns();
	while (d->locked && waited < HEAP_WAIT_NS && waited < *wait_ns) {
		struct pcp_drain again;

		lock_pause();
		again = pcp_drain(&h->pcp);
		d->drained += again.pages << PG_SHIFT;
		d->locked = again.skipped;
		waited = clock_ns() - begin;
	}
	*wait_ns -= min_size(waited, *wait_ns);
}

/* Gate 2 at once. Who is inside a call, or makes one between the mark and the look, keeps its heap. */
static void drain_heaps(uint64_t marked, struct reclaim_report *r, reclaim_see *see, void *arg)
{
	uint64_t wait_ns = DRAIN_WAIT_NS;

	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		struct heap_drain d;

		drain_heap(h, marked, see != NULL, &wait_ns, &d);
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
	marked = heap_drain_mark(flags & RECLAIM_GLOBAL);
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

	heap_copy_check();
	*report = (struct reclaim_report){ 0 };
	if ((flags & RECLAIM_IDLE) || ((flags & RECLAIM_CACHES) && see)) {
		/* A fork is under way if not. */
		if (lock_acquire(&reclaim_control) == 0) {
			uint64_t marked;

			lock_release(&reclaim_control);
			/* No lock over the barrier: heap_drain_mark says that the marks are to stay. */
			marked = mark_heaps(flags, report);
			drain_heaps(marked, report, see, arg);
			heap_drain_end(marked);
		} else if (see) {
			errno = saved;
			return false;
		}
	}
	if ((flags & RECLAIM_PURGE) && options.holes)
		heap_abandon_own();
	if (flags & (RECLAIM_CACHES | RECLAIM_IDLE)) {
		report->bytes_drained += heap_sweep();
		drain_caches(report);
	}
	if (flags & RECLAIM_PURGE) {
		report->bytes_purged = slab_pool_punch(true, UINT64_MAX);
		report->bytes_purged += zones_purge(keep >> PG_SHIFT, UINT64_MAX);
		/* Little memory by many calls: else the background does it once nothing is cached. */
		if (trim_inline)
			zones_purge_descriptors();
	}
	if (flags & RECLAIM_REGIONS)
		report->bytes_unmapped = zones_release_regions();
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
	struct heap_walk walk = heap_walk_all();
	uint64_t before = zones_sum(dirty_pages);
	uint64_t after;
	unsigned heaps = 0;

	*report = (struct reclaim_report){ 0 };
	/* In parts, so that nobody waits for all of it. */
	while (generation && !heap_walk_ended(&walk) && lock_acquire(&reclaim_control) == 0) {
		uint32_t steps = PART_STEPS;

		heaps += heap_take_walk(&walk, generation, true, &steps);
		lock_release(&reclaim_control);
	}
	report->caches_reached = heaps;
	report->bytes_drained = heap_sweep();
	report->bytes_purged = slab_pool_punch(false, UINT64_MAX);
	after = zones_sum(dirty_pages);
	if (after > before) {
		report->bytes_drained += (after - before) << PG_SHIFT;
		report->bytes_purged += zones_purge(before, UINT64_MAX);
		zones_purge_descriptors();
	}
}

void reclaim_visit(uint64_t generation)
{
	struct heap_walk walk = heap_walk_all();

	while (generation && !heap_walk_ended(&walk) && lock_acquire(&reclaim_control) == 0) {
		uint32_t steps = PART_STEPS;

		heap_visit_walk(&walk, generation, &steps);
		lock_release(&reclaim_control);
	}
}

/* No memory: the kernel refused to grow, so dirty pages are as good as clean ones and stay. */
static bool reclaim_for_alloc(void)
{
	struct reclaim_report r = { 0 };
	struct heap_walk walk = heap_walk_all();
	uint64_t before = zones_sum(free_pages);
	uint64_t marked = 0;
	int saved = errno;
	bool gave;

	/* With the lock, else the marks of a drain that is under way would be lost. */
	while (!heap_walk_ended(&walk) && lock_try(&reclaim_control)) {
		uint32_t steps = PART_STEPS;

		if (!marked)
			marked = heap_idle_mark(false);
		if (!marked)
			walk.left = 0;
		heap_take_walk(&walk, marked, false, &steps);
		lock_release(&reclaim_control);
	}
	if (heap_self != &heap_none && heap_self != &heap_gone) {
		struct heap_drain own;

		heap_drain(heap_self, 0, false, &own);
		r.bytes_drained += own.drained;
	}
	drain_caches(&r);
	r.bytes_drained += heap_sweep();
	gave = r.bytes_drained || zones_sum(free_pages) > before;
	errno = saved;
	return gave;
}

/*
 * The process is about to grow: before it does, take what threads cache in pages, what the heaps
 * hold of threads that made no call since the last time, and what was freed into the slabs of
 * threads that do not look. Of many threads, or where much is cached, each growth takes a part, and the
 * next one comes soon. One thread at a time does it; the others grow. The pages come dirty, and
 * are used again so.
 */
bool reclaim_before_growth(void)
{
	uint64_t before = zones_sum(free_pages);
	int saved = errno;
	bool more;
	bool gave;
	uint64_t after;

	if (!lock_try(&reclaim_control))
		return false;
	longrun_drain();
	more = heap_growth_step();
	lock_release(&reclaim_control);
	after = zones_sum(free_pages);
	gave = after > before;
	if (more)
		growth_ask_again(&zone_main, gave ? 1 : AGAIN_PAGES);
	errno = saved;
	return gave;
}

/* ---- pressure ---------------------------------------------------------------------------- */

struct pressure {
	unsigned step;
	uint64_t marked;
	struct heap_walk walk; /* of the heaps, for this step */
};

/* Drain a part of what the level asks for, with the control lock held. False: that was all. */
static bool pressure_part(struct pressure *p)
{
	struct reclaim_report r = { 0 };
	uint32_t steps = PART_STEPS;

	switch (p->step) {
	case 0:
		heap_drain_sleeping(&p->walk, steps);
		return !heap_walk_ended(&p->walk);
	case 1:
		drain_round(true, &r);
		break;
	case 2:
		heap_take_walk(&p->walk, p->marked ? p->marked : HEAP_GROWTH, true, &steps);
		if (!heap_walk_ended(&p->walk))
			return true;
		break;
	default:
		heap_take_walk(&p->walk, p->marked, true, &steps);
		if (!heap_walk_ended(&p->walk))
			return true;
		heap_open_inboxes();
		drain_round(true, &r);
		break;
	}
	heap_sweep();
	return false;
}

/* A step until it has nothing more, or enough is given; in parts, so that no more is taken than needed, and
 * others may have the lock in between. Returns the bytes. */
static uint64_t pressure_step(unsigned step, uint64_t marked, uint64_t want)
{
	struct pressure p = { step, marked, heap_walk_all() };
	uint64_t given = 0;
	bool more;

	do {
		if (lock_acquire(&reclaim_control) != 0)
			return given;
		/* With the lock, as in reclaim_for_alloc. */
		if (step == 3 && p.marked == marked)
			p.marked = heap_idle_mark(false);
		more = pressure_part(&p);
		lock_release(&reclaim_control);
		/* Blocks meet when all pcps are empty. */
		if (step)
			given += zones_purge(0, (want - given) / PG_BYTES + 1);
	} while (more && given < want);
	return given;
}

uint64_t reclaim_pressure(uint64_t want, uint64_t marked, bool emergency)
{
	int saved = errno;
	uint64_t given = 0;

	stat_add(STAT_pressure_reclaims, 1);
	prefault_hold(&zone_main);
	given = prefault_release(&zone_main, 0, want / PG_BYTES + 1);
	for (unsigned step = 0; step < (emergency ? 4u : 3u) && given < want; step++) {
		if (step == 3)
			heap_ask_trim();
		given += pressure_step(step, step == 3 ? 0 : marked, want - given);
		if (step == 3 && given < want && options.holes)
			heap_abandon_own();
		if (step >= 2 && given < want)
			given += slab_pool_punch(true, want - given);
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
