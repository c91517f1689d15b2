/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drain.c - the walk over all heaps.
 * Used by the folder reclaim; uses claim, heap_slabs, heap_thread, trim, pcp.
 *
 * (A) A heap is emptied only by its owner or its claimer (claim.h). Its pcp is emptied by anybody,
 *     under its own lock.
 * (B) A heap that is left half emptied is marked still and not `drained`, so a later part, or
 *     another walk, finds it.
 *
 * Bound: a walk looks at each heap once; a part of it ends with the object, slab or run with which
 * its steps are used up, plus PART_OBJECTS and PART_SLABS. A growth, which a malloc does, looks at
 * GROWTH_HEAPS heaps three times, makes one barrier, and moves what GROWTH_STEPS allow; debug
 * builds count it (heap_reach_count, heap_work_count).
 * Locks: callers hold reclaim_control, or drain their own heap only. Under it: a hold of each pcp
 * and of pools. Allocates nothing.
 * Fork: its child loses the runs that another thread's drain of its own heap has just taken out of
 * it, BUDDY_BATCH at most.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/drain.h"

#include "base/delay.h"
#include "base/stats.h"
#include "heap/cache_bin.h"
#include "heap/claim.h"
#include "heap/heap_slabs.h"
#include "heap/heap_work.h"
#include "heap/trim.h"
#include "os/membarrier.h"

/* ---- one heap ----------------------------------------------------------------------------- */

/* The pages of slabs that were released in a heap go to the buddy core; returns how many. */
static uint64_t free_runs(struct page *pg)
{
	struct page *run[BUDDY_BATCH];
	uint64_t pages = 0;

	pg = heap_released(pg);
	while (pg) {
		unsigned n = 0;

		for (; pg && n < BUDDY_BATCH; pg = pg->stack_next) {
			pages += pg->npages;
			run[n++] = pg;
		}
		buddy_free_drained(run, n);
	}
	return pages;
}

static uint64_t free_released(struct heap *h)
{
	return free_runs(heap_take_released(h));
}

/* Empty a claimed heap, or a part of it; returns pages that came free. What is left is seen again
 * (heap_is_empty). */
static uint64_t abandon_claimed(struct heap *h, uint32_t *steps)
{
	DELAY_HERE(claim_taken);
	if (!heap_abandon_part(h, SLAB_IDLE, steps))
		DCHECK(!heap_is_empty(h));
	return free_released(h);
}

static void put_back(struct heap *h)
{
	if (claim_put_back(h))
		heap_retire(h);
}

/* The caller's own heap, which others may have marked, is in use. */
static enum claim_outcome claim(struct heap *h, uint64_t epoch)
{
	enum claim_outcome outcome = h == heap_own() ? CLAIM_CALLED : claim_try(h, epoch);

	if (likely(outcome != CLAIM_ENDED))
		return outcome;
	heap_retire(h);
	return CLAIM_CALLED;
}

/* A claimed heap takes what was posted to it. */
static void open_claimed(struct heap *h, uint32_t *steps)
{
	/* One that was empty before is to stay so, because nobody would look at it again. */
	if (heap_is_empty(h)) {
		abandon_claimed(h, steps);
		if (heap_is_empty(h)) {
			heap_release(h);
			return;
		}
	} else {
		heap_open_part(h, steps);
		free_released(h);
	}
	put_back(h);
}

/* An ageing step for each bin. Between two bins that had something to do the owner may have its
 * heap. */
static void age(struct heap *h, uint64_t epoch, uint32_t *steps)
{
	unsigned bins = BINS;

	while (bins && claim(h, epoch) == CLAIM_TAKEN) {
		heap_open_inbox(h);
		for (bool done = false; bins && !done; bins--)
			done = heap_age_next(h, BIN_MAX);
		free_released(h);
		put_back(h);
		heap_spend(steps, CLAIM_STEPS + AGE_OBJECTS);
	}
}

/* Empties a claimed heap. Returns false if it is not empty yet, because the steps are used up or a
 * pool cannot be locked. */
static bool empty_claimed(struct heap *h, bool purges, uint32_t *steps, uint64_t *pages)
{
	bool was_empty = heap_is_empty(h);
	uint64_t n = abandon_claimed(h, steps);

	if (heap_is_empty(h))
		n += pcp_drain_part(&h->pcp, *steps / BUDDY_BATCH + 1).pages;
	*pages += n;
	if (!heap_is_empty(h)) {
		put_back(h);
		return false;
	}
	/* A purge interrupts the processors that run the process: only if pages will be purged as
	 * well, or the heap was empty already. */
	if (purges && (n || was_empty)) {
		heap_purge_bins(h);
		atomic_store_explicit(&h->bins_purged, 1, memory_order_relaxed);
	}
	heap_release(h);
	return true;
}

/* ---- the walk ----------------------------------------------------------------------------- */

static bool is_asleep(const struct heap *h)
{
	return claim_is_pending(h) || atomic_load_explicit(&h->unattached, memory_order_relaxed);
}

/* Whether a drain that has just emptied the heaps of all other threads has left this one. */
static bool is_at_work(const struct heap *h)
{
	return h != heap_own() && h != heap_fallback.heap && !is_asleep(h) &&
	       !atomic_load_explicit(&h->drained, memory_order_relaxed);
}

bool heap_in_doubt(void)
{
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		if (h != heap_own() && claim_is_pending(h) && heap_may_hold(h) &&
		    !atomic_load_explicit(&h->unattached, memory_order_relaxed))
			return true;
	}
	return false;
}

/* The runs go to the buddy core; no more of them than steps allow, and a batch. Returns false if
 * there may be more. */
static bool drain_pcp(struct heap_walk *w, struct heap *h, uint32_t *steps)
{
	unsigned holds = *steps / BUDDY_BATCH + 1;
	struct pcp_drain d = pcp_drain_part(&h->pcp, holds);

	heap_spend(steps, d.runs + SLAB_STEPS);
	w->pages += d.pages;
	if (d.runs == holds * BUDDY_BATCH)
		return false;
	if (d.skipped)
		w->skipped++;
	else
		w->taken++;
	return true;
}

static bool has_runs(const struct heap *h)
{
	return atomic_load_explicit(&h->pcp.count, memory_order_relaxed) != 0;
}

/* Returns false if the steps are used up, and there is more to do in this heap. */
static bool walk_heap(struct heap_walk *w, struct heap *h, uint32_t *steps)
{
	uint64_t pages = 0;

	switch (w->action) {
	case HEAP_PCP_ASLEEP:
		if (!is_asleep(h) || !has_runs(h))
			break;
		/* fall through */
	case HEAP_PCP:
		return drain_pcp(w, h, steps) || *steps;
	case HEAP_PCP_COLD:
		if (!is_at_work(h))
			return drain_pcp(w, h, steps) || *steps;
		w->pages += pcp_drain_to(&h->pcp, HEAP_HOT_PAGES).pages;
		break;
	case HEAP_MARK_PCP:
		/* Also of threads that make calls. */
		if (has_runs(h) && !drain_pcp(w, h, steps) && !*steps)
			return false;
		/* fall through */
	case HEAP_MARK:
	case HEAP_MARK_BINS:
		if (heap_may_hold(h) || (w->action == HEAP_MARK_BINS && heap_has_bins(h)))
			w->marked += claim_mark(h);
		break;
	case HEAP_OPEN:
		if (heap_has_inbox(h) && claim(h, w->epoch) == CLAIM_TAKEN) {
			heap_spend(steps, CLAIM_STEPS);
			open_claimed(h, steps);
			w->taken++;
		}
		break;
	case HEAP_AGE:
		age(h, w->epoch, steps);
		break;
	case HEAP_EMPTY:
	case HEAP_PURGE:
		if (claim(h, w->epoch) != CLAIM_TAKEN)
			break;
		heap_spend(steps, CLAIM_STEPS);
		if (!empty_claimed(h, w->action == HEAP_PURGE, steps, &pages))
			return *steps != 0;
		w->taken++;
		stat_add(STAT_heaps_drained, 1);
		break;
	}
	return true;
}

/* The heap that a walk looks at next. Returns NULL if there is none, or no step is left. */
static struct heap *walk_reach(const struct heap_walk *w, const uint32_t *steps)
{
	if (heap_walk_ended(w) || !*steps)
		return NULL;
	heap_reach_count();
	return w->at;
}

static void walk_on(struct heap_walk *w)
{
	w->at = heap_next(w->at);
	w->left--;
}

void heap_walk_part(struct heap_walk *w, uint32_t *steps)
{
	struct heap *h;

	for (; (h = walk_reach(w, steps)) != NULL; walk_on(w)) {
		if (!walk_heap(w, h, steps))
			break;
		heap_spend(steps, HEAP_STEPS);
	}
}

/* ---- growth ------------------------------------------------------------------------------- */

/*
 * Guarded by: reclaim_control. The walk over the heaps that the last growth has marked and that
 * were not emptied yet, and the heap that the next growth begins to mark with: each marks as many
 * as it may look at, so that all are reached. Returns to the first heap after the last (NULL). If
 * it is on the way, and GROWTH_NEW heaps or more are new, a growth marks the newest ones instead:
 * threads that start one after the other, and then sleep, hold something in them.
 */
static struct {
	struct heap_walk marked;
	struct heap *next;
	uint16_t seen; /* the number of the newest heap when a growth last began with that */
	bool pending;  /* to empty those that are marked took more than one growth */
} growth;

uint64_t heap_growth_epoch(void)
{
	return growth.marked.epoch;
}

unsigned heap_growth_take(uint32_t *steps)
{
	unsigned before = growth.marked.taken;

	growth.marked.action = HEAP_EMPTY;
	heap_walk_part(&growth.marked, steps);
	return growth.marked.taken - before;
}

/* The heaps that a growth marks. */
static struct heap_walk growth_marks(uint32_t heaps)
{
	struct heap *newest = heap_first();
	uint16_t made = newest ? (uint16_t)(newest->number - growth.seen) : 0;
	struct heap_walk w = { .action = HEAP_MARK_PCP, .at = growth.next, .left = heaps };

	if (growth.next && made < GROWTH_NEW)
		return w;
	w.at = newest;
	growth.seen = newest ? newest->number : 0;
	return w;
}

bool heap_growth_mark(uint32_t heaps, uint32_t *steps)
{
	struct heap_walk marks = growth_marks(heaps);
	/* If nothing is marked there is no barrier: then only older marks may be relied on. */
	struct heap_walk open = { .action = HEAP_OPEN,
				  .epoch = growth.marked.epoch,
				  .at = marks.at,
				  .left = marks.left };
	bool turn = !growth.next || marks.at == growth.next;

	heap_walk_part(&marks, steps);
	if (marks.marked)
		open.epoch = claim_pass(claim_close(), false);
	open.left -= marks.left;
	growth.marked = open;
	if (turn)
		growth.next = marks.at;
	if (!marks.marked || !open.epoch)
		return false;
	heap_walk_part(&open, steps);
	return true;
}

bool heap_growth_step(void)
{
	uint32_t steps = GROWTH_STEPS;
	bool more = true;

	heap_work_begin(false, true);
	pcp_drain_part(heap_pcp_self(), GROWTH_STEPS / BUDDY_BATCH);
	pcp_drain_part(&heap_fallback.heap->pcp, GROWTH_STEPS / BUDDY_BATCH);
	heap_growth_take(&steps);
	if (!heap_walk_ended(&growth.marked)) {
		growth.pending = true;
	} else {
		heap_growth_mark(GROWTH_HEAPS, &steps);
		/* A thread that fell asleep while the last ones were emptied has waited for this
		 * mark. */
		more = growth.next || growth.pending;
		growth.pending = false;
	}
	heap_work_begin(false, false);
	return more;
}

/* ---- one heap, with a report ---------------------------------------------------------------- */

/*
 * What it releases stays in the heap, and leaves it in batches. If another thread forks meanwhile,
 * the child finds the rest there. If the heap is claimed between two batches, its claimer frees the
 * rest; if a fork is under way, the next drain does.
 */
static enum heap_outcome drain_own(struct heap *h, unsigned how, struct heap_drain *d)
{
	struct page *batch;

	if (!heap_enter_slow(h))
		return HEAP_INSIDE;
	if (how & HEAP_COUNTS)
		d->cached += heap_free_bytes(h);
	heap_trim(h);
	heap_drain_released(h);
	do {
		batch = heap_take_draining(h);
		heap_exit(h);
		if (!batch)
			return HEAP_EMPTIED;
		DELAY_HERE(drain_batch);
		d->drained += free_runs(batch) << PG_SHIFT;
	} while (heap_enter_slow(h));
	return HEAP_HELD;
}

bool heap_drain_claims(const struct heap *h)
{
	return heap_is_quarantined(h) || heap_may_hold(h) || heap_has_bins(h);
}

static enum heap_outcome drain_other(struct heap *h, uint64_t epoch, unsigned how,
				     struct heap_drain *d)
{
	static const enum heap_outcome outcomes[] = {
		[CLAIM_TAKEN] = HEAP_EMPTIED, [CLAIM_CALLED] = HEAP_CALLING,
		[CLAIM_INSIDE] = HEAP_INSIDE, [CLAIM_BUSY] = HEAP_HELD,
		[CLAIM_ENDED] = HEAP_CALLING,
	};
	bool holds = heap_may_hold(h);
	uint32_t steps = UINT32_MAX; /* more than a heap has */
	enum claim_outcome outcome;
	uint64_t pages = 0;

	if (heap_is_quarantined(h))
		return HEAP_HELD;
	if (!holds && (!epoch || !heap_has_bins(h)))
		return HEAP_EMPTIED;
	if (!epoch)
		return membarrier_error() ? HEAP_CLOSED : HEAP_HELD;
	outcome = claim(h, epoch);
	if (outcome == CLAIM_TAKEN) {
		if (how & HEAP_COUNTS)
			d->cached += heap_free_bytes(h);
		/* A thread that was drained may be about to go on, so it keeps the memory of its
		 * bins. */
		empty_claimed(h, !holds, &steps, &pages);
		d->drained += pages << PG_SHIFT;
		stat_add(STAT_heaps_drained, holds);
	}
	if (!holds)
		return HEAP_EMPTIED;
	d->hot = (how & HEAP_SPARES) && (outcome == CLAIM_CALLED || outcome == CLAIM_INSIDE);
	return outcomes[outcome];
}

void heap_drain_pcp(struct heap *h, struct heap_drain *d)
{
	struct pcp_drain pages = pcp_drain_to(&h->pcp, d->hot ? HEAP_HOT_PAGES : 0);

	d->drained += pages.pages << PG_SHIFT;
	d->locked = pages.skipped;
	if (d->hot)
		d->kept = (uint64_t)atomic_load_explicit(&h->pcp.count, memory_order_relaxed)
			  << PG_SHIFT;
}

void heap_drain(struct heap *h, enum heap_action action, uint64_t epoch, unsigned how,
		struct heap_drain *d)
{
	*d = (struct heap_drain){
		.tid = heap_is_orphan(h) ? 0 : atomic_load_explicit(&h->tid, memory_order_relaxed),
		.outcome = HEAP_UNASKED,
		.cached = (uint64_t)atomic_load_explicit(&h->pcp.count, memory_order_relaxed)
			  << PG_SHIFT,
	};
	if (action != HEAP_PCP)
		d->outcome = h == heap_own() ? drain_own(h, how, d) : drain_other(h, epoch, how, d);
	heap_drain_pcp(h, d);
}

/* ---- questions ---------------------------------------------------------------------------- */

bool heap_idle_any(void)
{
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (heap_may_hold(h))
			return true;
	return false;
}

bool heap_bins_any(void)
{
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (heap_has_bins(h))
			return true;
	return false;
}

void heap_bins_count_all(void)
{
	uint64_t bytes = heap_bins_room(heap_fallback.heap);

	for (struct heap *h = heap_first(); h; h = heap_next(h))
		bytes += heap_bins_room(h);
	heap_bins_count_from(bytes);
}
