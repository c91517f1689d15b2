/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.c - the window of a heap, and gate 2: who else may enter it, and when.
 * Used by the other files of the heap, and by reclaim and fork through heap.h; uses heap_slabs.
 *
 * (A) A heap's lists, and the slabs it owns, are touched only by who is in its window: its owner
 *     with busy set and the gate free, or who holds its gate, or (fallback heap) its lock.
 * (B) gate goes free -> pending(g) by a marker's CAS (or pending of an older g -> pending(g), when
 *     its taker never came); pending(g) -> free by the owner's next call;
 *     pending(g) -> held(g) by the CAS of a taker that marked with this g, or saw this mark, and made all
 *     threads pass a barrier after that; held -> held + exited by the owner's exit; held -> free by its
 *     holder, which retires the heap if its owner exited, with what is left in it; held(g) -> pending(g) by a
 *     visitor, or a taker that emptied a part. g is never used twice.
 * (C) A taker that finds busy set lets go at once: its owner is inside since before the mark.
 * (D) The owner never waits for a holder: its calls use the fallback heap meanwhile.
 *
 * Why a taker is alone: after the barrier either it sees busy set, or the owner's later calls see
 * pending and take it back, so that the taker's CAS of this g fails. A visitor that puts its mark back
 * may come again without a barrier: between mark and now no load of the owner's could see free. Nor could one
 * since a mark that a growth saw and did not change, if it is there still, or was marked over without having been free:
 * so the idle rounds and the growths of a process have marks beside each other. Without the generation a
 * delayed taker would take another's pending, set after its own barrier.
 *
 * Pairing: the owner's store of busy and load of gate (heap_enter) with the marker's CAS and the
 * taker's load of busy, through the membarrier between them; the holder's release store of the
 * gate with the owner's acquire load.
 * Bound: the owner takes a mark back by one CAS, which fails only when its marker marks anew or a taker
 * has the heap. A growth (heap_growth_step), which a malloc does, looks at GROWTH_LOOKS heaps three times, makes one
 * barrier, and moves what GROWTH_STEPS allow, in heaps that it leaves half empty if need be; debug builds count
 * it (heap_step_count, heap_work_count). Who else marks or takes looks at each heap once and makes one barrier for
 * all, and can do it in parts (heap_walk); who visits does BINS turns a heap; fork waits FORK_WAIT_NS for all.
 * Locks: takers and fork hold reclaim_control, so that there is one of them at a time.
 * Source: the protocol is ours; the asymmetric barrier is that of hazard pointers and RCU in user
 * space (Desnoyers et al. 2012; membarrier(2)).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_parts.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "base/stats.h"

#define FORK_WAIT_NS UINT64_C(10000000) /* for all heaps together */

static union {
	struct heap heap;
	char room[HEAP_BYTES];
} fallback_place;
struct heap_shared heap_fallback = { .lock = LOCK_INIT(LOCK_FALLBACK),
				     .heap = &fallback_place.heap };
_Thread_local struct heap_work heap_work TLS_FAST;

_Thread_local bool heap_in_copy TLS_FAST;
static _Atomic uint64_t generation; /* of gates */
static bool expedited_ready;
static _Atomic int barrier_error; /* errno of the last barrier that was asked for, or 0 */

static bool membarrier(int command)
{
	bool good = false;

	errno = EPERM;
	if (HEAP_HAS_CLAIMS && sandbox_enter()) {
		good = syscall(SYS_membarrier, command, 0, 0) == 0;
		sandbox_leave();
	}
	atomic_store_explicit(&barrier_error, good ? 0 : errno, memory_order_relaxed);
	return good;
}

void claim_init(void)
{
	int saved = errno;

	expedited_ready = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	errno = saved;
}

int claim_error(void)
{
	return atomic_load_explicit(&barrier_error, memory_order_relaxed);
}

/* Every thread passes a full barrier, by an interrupt to the processors that run us. */
static bool barrier_expedited(void)
{
	int saved = errno;
	bool good = expedited_ready && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);

	if (good)
		stat_add(STAT_barriers_expedited, 1);
	errno = saved;
	return good;
}

/* The same by a grace period: it takes 8 to 20 ms and interrupts nobody. EINVAL on a kernel with
 * nohz_full processors. */
static bool barrier_global(void)
{
	int saved = errno;
	bool good = membarrier(MEMBARRIER_CMD_GLOBAL);

	if (good)
		stat_add(STAT_barriers_global, 1);
	else
		good = errno == EINVAL && barrier_expedited();
	errno = saved;
	return good;
}

/* ---- the owner --------------------------------------------------------------------------- */

/* The first call since a drain: there is something to drain again. */
static inline void heap_touched(struct heap *h)
{
	if (unlikely(atomic_load_explicit(&h->drained, memory_order_relaxed))) {
		atomic_store_explicit(&h->drained, 0, memory_order_relaxed);
		atomic_store_explicit(&h->bins_purged, 0, memory_order_relaxed);
		park_wake();
	}
}

/* A pending gate we take back; a held one we leave to its holder. False: it is held. */
static bool claim_take_back(struct heap *h)
{
	uint64_t g = atomic_load_explicit(&h->claim, memory_order_acquire);

	while ((g & CLAIM_STATE) == CLAIM_PENDING) {
		DELAY_HERE(claim_take_back);
		SHARE_COUNT(heap_claim);
		if (atomic_compare_exchange_strong_explicit(&h->claim, &g, CLAIM_FREE,
							    memory_order_acq_rel,
							    memory_order_acquire))
			return true;
	}
	return g == CLAIM_FREE;
}

bool heap_enter_slow(struct heap *h)
{
	return heap_enter(h) || (!atomic_load_explicit(&h->busy, memory_order_relaxed) &&
				 claim_take_back(h) && heap_enter(h));
}

static _Atomic uint32_t trims_asked;

void heap_ask_trim(void)
{
	SHARE_COUNT(trims_asked);
	atomic_fetch_add_explicit(&trims_asked, 1, memory_order_relaxed);
	stat_add(STAT_trims_requested, 1);
}

/* Somebody needs memory and could not have ours: the bins go home, and some slabs with room go to all,
 * so that holes can be made in them. A few classes for each call, so that none is long. */
static inline void trim_if_asked(struct heap *h)
{
	uint32_t asked = atomic_load_explicit(&trims_asked, memory_order_relaxed);

	if (likely(h->trims_seen == asked))
		return;
	if (h->trim_bin == 0)
		h->trim_for = asked;
	for (unsigned n = 0; n < TRIM_BATCH && h->trim_bin < BINS; n++)
		heap_trim_bin(h, h->trim_bin++);
	if (h->trim_bin < BINS)
		return;
	heap_trim_rest(h);
	h->trim_bin = 0;
	h->trims_seen = h->trim_for;
	stat_add(STAT_trims_done, 1);
}

/* Each so many calls that come here a bin has its turn. */
#define AGE_EVERY 32u

static inline void work_begin(bool call)
{
	if (SLUICE_DEBUG)
		heap_work = (struct heap_work){ .call = call };
}

/* In a handler that interrupted the holder of a lock it is only tried: who holds this one may wait for
 * that. */
static bool fallback_lock(void)
{
	if (!lock_depth)
		return lock_acquire(&heap_fallback.lock) == 0;
	atomic_store_explicit(&lock_ranks_off, 1, memory_order_relaxed);
	return lock_try(&heap_fallback.lock);
}

struct heap *heap_call_begin(bool create)
{
	struct heap *h;

	heap_copy_check();
	h = heap_self;
	work_begin(true);
	if (unlikely(h == &heap_none) && create)
		h = heap_create_self();
	if (likely(heap_is_real(h)) && heap_enter_slow(h)) {
		heap_touched(h);
		trim_if_asked(h);
		if (unlikely(!atomic_load_explicit(&h->tid, memory_order_relaxed)))
			heap_note_tid(h);
		if (unlikely(++h->slow_calls % AGE_EVERY == 0))
			heap_age_next(h, AGE_OBJECTS);
		return h;
	}
	if (unlikely(heap_in_copy))
		return NULL;
	heap_init();
	if (!fallback_lock()) {
		work_begin(false);
		return NULL;
	}
	stat_add(STAT_fallback_calls, 1);
	heap_touched(heap_fallback.heap);
	return heap_fallback.heap;
}

void heap_call_end(struct heap *h)
{
	struct page *pg = h->release;

	work_begin(false);
	h->release = NULL;
	if (h == heap_fallback.heap)
		lock_release(&heap_fallback.lock);
	else
		heap_exit(h);
	while (unlikely(pg != NULL)) {
		struct page *next = pg->stack_next;

		pcp_free(&h->pcp, pg);
		pg = next;
	}
}

bool claim_owner_ends(struct heap *h)
{
	uint64_t g = atomic_load_explicit(&h->claim, memory_order_acquire);

	while ((g & CLAIM_STATE) == CLAIM_HELD) {
		SHARE_COUNT(heap_claim);
		if (atomic_compare_exchange_weak_explicit(&h->claim, &g, g | CLAIM_EXITED,
							  memory_order_acq_rel,
							  memory_order_acquire))
			return true;
	}
	return false;
}

/* ---- others ------------------------------------------------------------------------------ */

static uint64_t next_generation(void)
{
	SHARE_COUNT(claim_epoch);
	return (atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed) + 1) * CLAIM_STEP;
}

/* Nobody has used it since it was emptied. */
static bool is_empty(const struct heap *h)
{
	return atomic_load_explicit(&h->drained, memory_order_relaxed) != 0;
}

/* The pages of slabs that were released in a heap go to the buddy core; returns how many. */
static uint64_t free_list(struct page *pg)
{
	struct page *run[BUDDY_BATCH];
	uint64_t pages = 0;

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
	struct page *pg = h->release;

	h->release = NULL;
	return free_list(pg);
}

/* Empty a heap that is held, or a part of it; returns pages that came free. What is left is seen again
 * (is_empty). */
static uint64_t drain_part(struct heap *h, uint32_t *steps)
{
	DELAY_HERE(claim_taken);
	if (!heap_abandon_part(h, SLAB_IDLE, steps))
		atomic_store_explicit(&h->drained, 0, memory_order_relaxed);
	return free_released(h);
}

static uint64_t drain_held(struct heap *h)
{
	uint64_t pages = 0;
	uint32_t steps;

	do {
		steps = UINT32_MAX;
		pages += drain_part(h, &steps);
	} while (!is_empty(h));
	return pages;
}

void claim_release(struct heap *h)
{
	DELAY_HERE(claim_emptied);
	/* Acquire pairs with the CAS in claim_owner_ends; release, below, with the owner's load in
	 * heap_enter. */
	uint64_t g = atomic_load_explicit(&h->claim, memory_order_acquire);

	SHARE_COUNT(heap_claim);
	if (!(g & CLAIM_EXITED) &&
	    atomic_compare_exchange_strong_explicit(&h->claim, &g, CLAIM_FREE, memory_order_acq_rel,
						    memory_order_acquire))
		return;
	/* Its owner has gone. Whatever is in it yet is as that of a thread which sleeps: it is found by those
	 * who look for such, or the heap's next thread has it. */
	atomic_store_explicit(&h->claim, CLAIM_FREE, memory_order_release);
	heap_retire(h);
}

static bool heap_lost(const struct heap *h)
{
	return h == heap_self || atomic_load_explicit(&h->quarantined, memory_order_relaxed);
}

/* A post may still arrive at a heap that was emptied, or whose thread has gone, and page-level calls
 * do not pass the window. */
static bool may_hold_something(struct heap *h)
{
	return !heap_lost(h) &&
	       (atomic_load_explicit(&h->inbox, memory_order_relaxed) ||
		atomic_load_explicit(&h->pcp.count, memory_order_relaxed) || !is_empty(h));
}

/* Its bins' places cost memory, though they may be empty. */
static bool has_bins(const struct heap *h)
{
	return !heap_lost(h) && !atomic_load_explicit(&h->bins_purged, memory_order_relaxed);
}

void heap_drain_fallback(void)
{
	struct heap *h = heap_fallback.heap;

	pcp_drain(&h->pcp);
	if (is_empty(h) || !fallback_lock())
		return;
	heap_abandon_slabs(h, SLAB_RECENT);
	heap_call_end(h);
}

/* The generation of the drain that waits for its barrier just now, with no lock held; 0: none. Nobody marks over
 * its marks: what they miss by that the drain takes. It is a hint; who is not seen to have it loses marks. */
static _Atomic uint64_t drain_generation;

/* By CAS, for a plain store could write over held. A mark that is there already, of a taker that
 * never came or of a growth, becomes ours. */
static bool mark(struct heap *h, uint64_t g)
{
	/* Acquire, here and where the CAS fails, pairs with that of the drain's mark: its generation is seen then. */
	uint64_t old = atomic_load_explicit(&h->claim, memory_order_acquire);

	DELAY_HERE(claim_marking);
	while (old == CLAIM_FREE || (old & CLAIM_STATE) == CLAIM_PENDING) {
		uint64_t kept = atomic_load_explicit(&drain_generation, memory_order_relaxed);

		if (old != CLAIM_FREE && kept && kept != g && (old & ~CLAIM_STATE) == kept)
			return false;
		SHARE_COUNT(heap_claim);
		if (!atomic_compare_exchange_weak_explicit(&h->claim, &old, g | CLAIM_PENDING,
							   memory_order_seq_cst,
							   memory_order_acquire))
			continue;
		/* It was not free in between; a growth that has marked anew meanwhile knows better. */
		if (old != CLAIM_FREE)
			atomic_compare_exchange_strong_explicit(&h->growth_gate, &old,
								g | CLAIM_PENDING,
								memory_order_relaxed,
								memory_order_relaxed);
		return true;
	}
	return false;
}

/* Mark a heap that has no mark; returns the gate then, 0 if it is held. */
static uint64_t mark_beside(struct heap *h, uint64_t g)
{
	uint64_t old = atomic_load_explicit(&h->claim, memory_order_relaxed);

	DELAY_HERE(claim_marking);
	while (old == CLAIM_FREE) {
		SHARE_COUNT(heap_claim);
		if (atomic_compare_exchange_weak_explicit(&h->claim, &old, g | CLAIM_PENDING,
							  memory_order_seq_cst,
							  memory_order_relaxed))
			return g | CLAIM_PENDING;
	}
	return (old & CLAIM_STATE) == CLAIM_PENDING ? old : 0;
}

/* The other step of a taker. HEAP_EMPTIED: the heap is ours, and its owner is out; else it was let
 * go, or never was ours. */
static enum heap_outcome try_take(struct heap *h, uint64_t g)
{
	uint64_t gate = g | CLAIM_PENDING;

	SHARE_COUNT(heap_claim);
	if (!atomic_compare_exchange_strong_explicit(&h->claim, &gate, g | CLAIM_HELD,
						     memory_order_seq_cst, memory_order_relaxed))
		return gate == CLAIM_FREE ? HEAP_CALLING : HEAP_HELD;
	DELAY_HERE(claim_held);
	/* Acquire pairs with the owner's release store in heap_exit. */
	if (!atomic_load_explicit(&h->busy, memory_order_acquire))
		return HEAP_EMPTIED;
	claim_release(h);
	return HEAP_INSIDE;
}

static bool take(struct heap *h, uint64_t g)
{
	return try_take(h, g) == HEAP_EMPTIED;
}

static uint64_t idle_mark(uint64_t g, bool quiet, bool bins)
{
	bool any = false;

	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (may_hold_something(h) || (bins && has_bins(h)))
			any |= mark(h, g);
	if (!any)
		return 0;
	DELAY_HERE(claim_marked);
	any = quiet ? barrier_global() : barrier_expedited();
	DELAY_HERE(claim_barrier);
	return any ? g : 0;
}

uint64_t heap_idle_mark(bool quiet)
{
	return idle_mark(next_generation(), quiet, false);
}

uint64_t heap_idle_mark_all(bool quiet)
{
	return idle_mark(next_generation(), quiet, true);
}

uint64_t heap_drain_mark(bool quiet)
{
	uint64_t g = next_generation();

	atomic_store_explicit(&drain_generation, g, memory_order_relaxed);
	return idle_mark(g, quiet, true);
}

void heap_drain_end(uint64_t g)
{
	atomic_compare_exchange_strong_explicit(&drain_generation, &g, 0, memory_order_relaxed,
						memory_order_relaxed);
}

/* The other way to let go: the mark is there as before, and so are the barrier and the owner's way to
 * take it back, so who holds this generation may take again. */
static void put_back(struct heap *h, uint64_t g)
{
	uint64_t gate = g | CLAIM_HELD;

	DELAY_HERE(claim_aged);
	SHARE_COUNT(heap_claim);
	/* Release pairs with the owner's acquire load in claim_take_back. */
	if (!atomic_compare_exchange_strong_explicit(&h->claim, &gate, g | CLAIM_PENDING,
						     memory_order_acq_rel, memory_order_acquire))
		claim_release(h); /* its owner has gone */
}

/* The heap that a walk looks at next, while there is one and it has steps left. */
static struct heap *walk_look(const struct heap_walk *w, const uint32_t *steps)
{
	if (!w->left || !w->at || !*steps)
		return NULL;
	heap_step_count();
	return w->at;
}

static void walk_on(struct heap_walk *w)
{
	w->at = heap_next(w->at);
	w->left--;
}

void heap_visit_walk(struct heap_walk *w, uint64_t g, uint32_t *steps)
{
	struct heap *h;

	for (; (h = walk_look(w, steps)) != NULL; walk_on(w)) {
		unsigned turns = BINS;

		/* Between two bins its owner may have it. */
		while (turns && take(h, g)) {
			heap_open_inbox(h);
			for (bool done = false; turns && !done; turns--)
				done = heap_age_next(h, BIN_MAX);
			free_released(h);
			put_back(h, g);
			heap_spend(steps, TAKE_STEPS + AGE_OBJECTS);
		}
	}
}

/* A held heap takes what was posted to it; what came free goes to the buddy core. */
static void open_held(struct heap *h, uint32_t *steps)
{
	/* One that was empty but for that is to stay so, for nobody would look at it again. */
	if (is_empty(h)) {
		drain_part(h, steps);
	} else {
		heap_open_part(h, steps);
		free_released(h);
	}
}

static bool has_inbox(const struct heap *h)
{
	return atomic_load_explicit(&h->inbox, memory_order_relaxed) != NULL;
}

unsigned heap_open_inboxes(void)
{
	uint64_t g = next_generation();
	unsigned taken = 0;
	bool any = false;

	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (h != heap_self && has_inbox(h) &&
		    !atomic_load_explicit(&h->quarantined, memory_order_relaxed))
			any |= mark(h, g);
	if (!any || !barrier_expedited())
		return 0;
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		uint32_t steps = UINT32_MAX;

		if (!take(h, g))
			continue;
		open_held(h, &steps);
		claim_release(h);
		taken++;
	}
	return taken;
}

/* False: steps were used up before it was empty. */
static bool drain_pages(struct heap *h, uint32_t *steps)
{
	struct pcp_drain d;

	if (!atomic_load_explicit(&h->pcp.count, memory_order_relaxed))
		return true;
	d = pcp_drain_part(&h->pcp, *steps / BUDDY_BATCH + 1);
	return heap_spend(steps, d.runs + SLAB_STEPS);
}

void heap_drain_sleeping(struct heap_walk *w, uint32_t steps)
{
	struct heap *h;

	for (; (h = walk_look(w, &steps)) != NULL; walk_on(w)) {
		if ((atomic_load_explicit(&h->claim, memory_order_relaxed) & CLAIM_STATE) ==
			    CLAIM_PENDING ||
		    atomic_load_explicit(&h->unattached, memory_order_relaxed))
			drain_pages(h, &steps);
	}
}

bool heap_barrier(void)
{
	return barrier_global();
}

bool heap_idle_any(void)
{
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (may_hold_something(h))
			return true;
	return false;
}

bool heap_bins_any(void)
{
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (has_bins(h))
			return true;
	return false;
}

static void purge_held(struct heap *h)
{
	heap_purge_bins(h);
	atomic_store_explicit(&h->bins_purged, 1, memory_order_relaxed);
}

/* Of one heap what steps allow. False: they are used up, and there may be more in it. */
static bool idle_take(struct heap *h, uint64_t g, bool purges, uint32_t *steps, unsigned *taken)
{
	bool empty = is_empty(h);
	uint64_t pages;

	if (!take(h, g))
		return true;
	heap_spend(steps, TAKE_STEPS);
	pages = drain_part(h, steps);
	if (!is_empty(h)) {
		put_back(h, g);
		return false;
	}
	pages += pcp_drain_part(&h->pcp, *steps / BUDDY_BATCH + 1).pages;
	/* A purge interrupts processors that run the process: only if pages will be purged as
	 * well, or when the heap was empty already. */
	if (purges && (pages || empty))
		purge_held(h);
	claim_release(h);
	++*taken;
	return true;
}

/* The generation that a growth relies on; 0: none. */
static uint64_t growth_generation(struct heap *h)
{
	return atomic_load_explicit(&h->growth_gate, memory_order_relaxed) & ~CLAIM_STATE;
}

unsigned heap_take_walk(struct heap_walk *w, uint64_t marked, bool purges, uint32_t *steps)
{
	unsigned taken = 0;
	struct heap *h;

	for (; (h = walk_look(w, steps)) != NULL; walk_on(w)) {
		uint64_t g = marked == HEAP_GROWTH ? growth_generation(h) : marked;

		if (g && !idle_take(h, g, purges, steps, &taken))
			break;
	}
	stat_add(STAT_heaps_drained, taken);
	return taken;
}

/*
 * Guarded by: reclaim_control. The heaps that the last growth has marked and that were not taken yet, and
 * the one that the next growth begins to mark with: each marks as many as it may look at, so that all are
 * reached in turn. NULL: it begins at the first one.
 */
static struct {
	struct heap_walk marked;
	struct heap *next;
	bool pending; /* to take those that are marked took more than one growth */
} growth;

unsigned heap_growth_take(bool purges, uint32_t *steps)
{
	return heap_take_walk(&growth.marked, HEAP_GROWTH, purges, steps);
}

bool heap_growth_mark(uint32_t looks, uint32_t *steps)
{
	struct heap_walk w = { growth.next ? growth.next : heap_first(), looks };
	struct heap_walk end = w;
	uint64_t g = next_generation();
	bool any = false;
	struct heap *h;

	for (; (h = walk_look(&end, steps)) != NULL; walk_on(&end)) {
		uint64_t gate;

		drain_pages(h, steps); /* also of those that make calls */
		gate = may_hold_something(h) ? mark_beside(h, g) : 0;
		atomic_store_explicit(&h->growth_gate, gate, memory_order_relaxed);
		any |= gate != 0;
	}
	w.left -= end.left;
	growth.marked = w;
	growth.next = end.at;
	if (!any)
		return false;
	DELAY_HERE(claim_marked);
	any = barrier_expedited();
	DELAY_HERE(claim_barrier);
	if (!any) {
		for (; w.left; walk_on(&w))
			atomic_store_explicit(&w.at->growth_gate, 0, memory_order_relaxed);
		return false;
	}
	for (; (h = walk_look(&w, steps)) != NULL; walk_on(&w)) {
		g = growth_generation(h);
		if (g && has_inbox(h) && take(h, g)) {
			heap_spend(steps, TAKE_STEPS);
			open_held(h, steps);
			put_back(h, g);
		}
	}
	return true;
}

bool heap_growth_step(void)
{
	uint32_t steps = GROWTH_STEPS;
	bool more = true;

	if (SLUICE_DEBUG)
		heap_work = (struct heap_work){ .growth = true };
	pcp_drain_part(heap_pcp_self(), GROWTH_STEPS / BUDDY_BATCH);
	pcp_drain_part(&heap_fallback.heap->pcp, GROWTH_STEPS / BUDDY_BATCH);
	heap_growth_take(false, &steps);
	if (!heap_walk_ended(&growth.marked)) {
		growth.pending = true;
	} else {
		heap_growth_mark(GROWTH_LOOKS, &steps);
		/* Who fell asleep while the last ones were emptied has waited for this mark. */
		more = growth.next || growth.pending;
		growth.pending = false;
	}
	if (SLUICE_DEBUG)
		heap_work = (struct heap_work){ .call = false };
	return more;
}

static enum heap_outcome drain_own(struct heap *h, bool counts, struct heap_drain *d)
{
	struct page *released;

	if (!heap_enter_slow(h))
		return HEAP_INSIDE;
	if (counts)
		d->cached += heap_free_bytes(h);
	heap_trim(h);
	released = h->release;
	h->release = NULL;
	heap_exit(h);
	d->drained += free_list(released) << PG_SHIFT;
	return HEAP_EMPTIED;
}

static enum heap_outcome drain_other(struct heap *h, uint64_t marked, bool counts,
				     struct heap_drain *d)
{
	enum heap_outcome outcome;
	bool holds;

	if (atomic_load_explicit(&h->quarantined, memory_order_relaxed))
		return HEAP_HELD;
	holds = may_hold_something(h);
	if (!holds && (!marked || !has_bins(h)))
		return HEAP_EMPTIED;
	if (!marked)
		return claim_error() ? HEAP_CLOSED : HEAP_HELD;
	outcome = try_take(h, marked);
	if (outcome == HEAP_EMPTIED) {
		if (counts)
			d->cached += heap_free_bytes(h);
		d->drained += drain_held(h) << PG_SHIFT;
		/* Who is drained may be about to go on. */
		if (!holds)
			purge_held(h);
		claim_release(h);
		stat_add(STAT_heaps_drained, holds);
	}
	return holds ? outcome : HEAP_EMPTIED;
}

void heap_drain(struct heap *h, uint64_t marked, bool counts, struct heap_drain *d)
{
	struct pcp_drain pages;

	*d = (struct heap_drain){
		.tid = atomic_load_explicit(&h->tid, memory_order_relaxed),
		.outcome = HEAP_UNASKED,
		.cached = (uint64_t)atomic_load_explicit(&h->pcp.count, memory_order_relaxed)
			  << PG_SHIFT,
	};
	if (marked != HEAP_PAGES)
		d->outcome = h == heap_self ? drain_own(h, counts, d)
					    : drain_other(h, marked, counts, d);
	pages = pcp_drain(&h->pcp);
	d->drained += pages.pages << PG_SHIFT;
	d->locked = pages.skipped;
}

bool claim_held_by(const struct heap *h, uint64_t held)
{
	return (atomic_load_explicit(&h->claim, memory_order_relaxed) & ~CLAIM_EXITED) == held;
}

/* By CAS: a mark may come and go meanwhile, and a heap that somebody holds already is not ours to let go. */
static bool hold(struct heap *h, uint64_t held)
{
	uint64_t old = atomic_load_explicit(&h->claim, memory_order_relaxed);

	DELAY_HERE(claim_marking);
	/* The full barrier that pairs with heap_enter is the membarrier in claim_hold_all. */
	while ((old & CLAIM_STATE) != CLAIM_HELD) {
		if (atomic_compare_exchange_weak_explicit(&h->claim, &old, held,
							  memory_order_seq_cst,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

bool claim_hold_all(uint64_t *held, struct heap **list)
{
	uint64_t end = clock_ns() + FORK_WAIT_NS;

	*list = NULL;
	*held = next_generation() | CLAIM_HELD;
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		/* No thread can have one that is idle, because the registry is locked. One that holds nothing is
		 * let be: to let go of it after the fork would copy its page, in the parent and in the child. */
		if (!may_hold_something(h) ||
		    atomic_load_explicit(&h->unattached, memory_order_relaxed) || !hold(h, *held))
			continue;
		h->fork_next = *list;
		*list = h;
	}
	DELAY_HERE(fork_gated);
	if (!barrier_expedited())
		return false;
	for (struct heap *h = *list; h; h = h->fork_next) {
		while (atomic_load_explicit(&h->busy, memory_order_acquire) && clock_ns() < end)
			park_sleep_us(20);
	}
	return true;
}
