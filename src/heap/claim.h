/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.h - the heap claim: how another thread gets a heap whose owner makes no calls.
 *
 * A claimer marks heaps (claim_mark), closes the epoch of these marks (claim_close), makes all
 * threads pass a barrier (claim_pass), and may then, as much later as it likes, claim each heap
 * that is marked still (claim_try): its owner made no call since. A mark serves everybody: nobody
 * marks over it, and any claimer that accepts its epoch may claim the heap.
 *
 * The legal states of a heap (T: a TID, e: an epoch, -: any value):
 *
 *   claim         busy  unattached  quarantined  tid   the heap
 *   ------------  ----  ----------  -----------  ----  --------------------------------------------
 *   FREE          0     0           0            T     has a thread, which is outside of it
 *   FREE          1     0           0            T     its owner is in its critical section
 *   PENDING(e)    -     0           0            T     marked: busy is 1 if the owner was inside at
 *                                                      the mark, or is about to take the mark back.
 *                                                      Also with unattached 1 and T 0
 *   HELD(e)       -     0           0            T     claimed; with busy 1 the claimer lets go at
 *                                                      once. Also with unattached 1 and T 0
 *   HELD+EXITED   0     0           0            0     claimed, and its owner ended: the claimer
 *                                                      retires it
 *   not +EXITED   1     0           0            -     its thread ended in a call: lost (bounded)
 *   not +EXITED   0     0           0            0     between its owner's end and heap_retire
 *   not +EXITED   0     1           0            0     waits for a thread (registry.free)
 *   HELD(0)       -     0           1            0     half changed at a fork; lost in the child
 *
 * drained is set by the claimer, or the owner at its end, once the heap is empty; the owner's first
 * slow call clears it. bins_purged implies drained, and is cleared with it. Any state may have
 * them. tid is 0 for a moment as well while its thread's kernel TID is not known (heap_note_tid).
 */
#ifndef SLUICE_CLAIM_H
#define SLUICE_CLAIM_H

#include "heap/critical.h"
#include "heap/heap_types.h"

enum claim_outcome {
	CLAIM_TAKEN,  /* the heap is the caller's until claim_release or claim_put_back */
	CLAIM_CALLED, /* its owner made a call since the mark */
	CLAIM_INSIDE, /* its owner is in its critical section since before the mark */
	CLAIM_BUSY,   /* another claimer has it, or it was lost in a fork */
	CLAIM_ENDED,  /* its owner has ended meanwhile: the caller has to retire it */
};

/* ---- the owner ---------------------------------------------------------------------------- */

/* Into the critical section, also past a mark. Returns false if the heap is claimed, or marked
 * while a fork is under way, or if this is a re-entry. */
bool heap_enter_slow(struct heap *h);

/* The owner of a claimed heap ends: the claimer finishes it. Returns false if it is not claimed. */
bool claim_owner_ends(struct heap *h);

/* ---- claimers ----------------------------------------------------------------------------- */

/* Mark the heap unless it is marked. Returns false if it is claimed. The caller holds
 * reclaim_control. */
bool claim_mark(struct heap *h);

/* End the epoch of the marks made so far; returns it. The caller holds reclaim_control. */
uint64_t claim_close(void);

/* After claim_close, which gave `epoch`: all threads pass a barrier, by a grace period (global) or
 * by interrupts. Returns the epoch for claim_try, 0 if there is no barrier. */
uint64_t claim_pass(uint64_t epoch, bool global);

/* Claim the heap if its mark is of that epoch or an older one. epoch: of claim_pass. One caller at
 * a time (reclaim_control). */
enum claim_outcome claim_try(struct heap *h, uint64_t epoch);

/* Let go. Returns true if its owner has ended, and the caller has to retire the heap (heap_release
 * does). */
bool claim_release(struct heap *h);

/* Let go with the mark as it was before, so that it may be claimed again. Returns as
 * claim_release. */
bool claim_put_back(struct heap *h);

static inline bool claim_is_pending(const struct heap *h)
{
	return (atomic_load_explicit(&h->claim, memory_order_relaxed) & CLAIM_STATE) ==
	       CLAIM_PENDING;
}

static inline bool claim_is_held(const struct heap *h)
{
	return (atomic_load_explicit(&h->claim, memory_order_relaxed) & CLAIM_STATE) == CLAIM_HELD;
}

#endif
