/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_call.c - which heap serves a slow-path call, and what the call does for it besides.
 * Used by heap and reclaim; uses claim, heap_thread, trim.
 *
 * A call is served by its thread's own heap, or by the fallback heap under its lock. In its own
 * heap it does a part of a trim that was asked for. It does ageing steps if it is the one of
 * DIRECT_CALLS that does not go past its bin, and one every AGE_EVERY calls.
 *
 * Lock: the fallback heap's (FALLBACK), which stands for its critical section.
 * Bound: CALL_OBJECTS and CALL_SLABS (heap_work.h). Signal handlers: if the interrupted call holds
 * this lock or one of a later rank, it is only tried.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_call.h"

#include "base/share.h"
#include "base/stats.h"
#include "heap/claim.h"
#include "heap/heap_slabs.h"
#include "heap/heap_thread.h"
#include "heap/heap_work.h"
#include "heap/trim.h"

#define AGE_EVERY 32u

static _Atomic uint32_t trims_asked;

void heap_ask_trim(void)
{
	SHARE_COUNT(trims_asked);
	atomic_fetch_add_explicit(&trims_asked, 1, memory_order_relaxed);
	stat_add(STAT_trims_requested, 1);
}

/*
 * Another thread needs memory and could not take ours: the bins are flushed to the slabs, and some
 * slabs with room are abandoned, so that holes can be made in them. A few classes in each call, and
 * BIN_MAX objects of each, so that none is long. Not an ageing step: that spares what was used in
 * the last rounds and moves few objects, this spares nothing and ends after the last bin. One
 * function for both would need a flag for each of these.
 */
static inline void trim_if_asked(struct heap *h)
{
	uint32_t asked = atomic_load_explicit(&trims_asked, memory_order_relaxed);

	if (likely(h->trims_seen == asked))
		return;
	if (h->trim_bin == 0)
		h->trim_for = asked;
	for (unsigned n = 0; n < TRIM_BATCH && h->trim_bin < BINS; n++)
		h->trim_bin = (uint8_t)(h->trim_bin + heap_trim_bin(h, h->trim_bin));
	if (h->trim_bin < BINS)
		return;
	heap_trim_rest(h);
	h->trim_bin = 0;
	h->trims_seen = h->trim_for;
	stat_add(STAT_trims_done, 1);
}

static bool fallback_lock(void)
{
	return lock_acquire(&heap_fallback.lock) == 0;
}

struct heap *heap_call_begin(bool create)
{
	struct heap *h;

	heap_copy_check();
	lock_call_begins();
	h = heap_own();
	heap_work_begin(true, false);
	if (unlikely(h == &heap_none) && create)
		h = heap_create_self();
	if (likely(heap_is_real(h)) && heap_enter_slow(h)) {
		heap_touched(h);
		trim_if_asked(h);
		if (unlikely(!atomic_load_explicit(&h->tid, memory_order_relaxed)))
			heap_note_tid(h);
		if (unlikely(++h->slow_calls % AGE_EVERY == 0))
			heap_age_next(h, AGE_OBJECTS);
		else if (heap_went_past(h))
			heap_age_some(h);
		return h;
	}
	if (unlikely(heap_in_copy))
		return NULL;
	heap_init();
	if (!fallback_lock()) {
		heap_work_begin(false, false);
		return NULL;
	}
	stat_add(STAT_fallback_calls, 1);
	heap_touched(heap_fallback.heap);
	return heap_fallback.heap;
}

/* The pages of the slabs that were released go to the pcp. */
static void fallback_exit(struct heap *h)
{
	struct page *released = heap_take_released(h);

	lock_release(&heap_fallback.lock);
	pcp_free_linked(&h->pcp, heap_released(released));
}

void heap_call_end(struct heap *h)
{
	heap_work_begin(false, false);
	if (h == heap_fallback.heap)
		fallback_exit(h);
	else
		heap_exit_free(h);
}

void heap_drain_fallback(void)
{
	struct heap *h = heap_fallback.heap;

	pcp_drain(&h->pcp);
	/* A post may arrive after it was emptied. */
	if ((heap_is_empty(h) && !heap_has_inbox(h)) || !fallback_lock())
		return;
	heap_abandon_slabs(h);
	heap_call_end(h);
}
