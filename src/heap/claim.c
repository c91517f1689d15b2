/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.c - the heap claim: the protocol alone.
 * Used by drain (the walker), reclaim (marks), heap_thread (ends and forks of threads) and the slow
 * paths of the owner; uses membarrier.
 *
 * (A) A heap's lists, and the slabs it owns, are touched only by its owner in the critical section
 *     (busy set, claim free), by its claimer, or (fallback heap) by the holder of its lock.
 * (B) The claim word goes free -> pending(e) by the CAS of a marker, e being the open epoch;
 *     pending(e) -> free by the owner's next call; pending(e) -> held(e) by the CAS of a claimer
 *     that closed e or a later epoch and then made all threads pass a barrier; held -> held +
 *     exited when the owner ends; held -> free by the claimer, which retires the heap if its owner
 *     has ended; held(e) -> pending(e) by a claimer that wants to come back.
 * (C) Marks are made and epochs are closed under reclaim_control. So when an epoch is closed, its
 *     marks and all older ones are there, whoever made them, and the barrier comes after each of
 *     them.
 * (D) A claimer that finds busy set lets go at once: the owner is inside since before the mark.
 * (E) The owner never waits for a claimer: its calls use the fallback heap meanwhile.
 * (F) While a fork is under way no owner takes a mark back. So a fork keeps threads out of their
 *     heaps by marks, which it makes like all others, and changes no heap after the copy: each
 *     such write, in the parent or the child, would copy a page.
 *
 * Why a claimer is alone: take the owner's last entry before the claim. It stored busy, then loaded
 * claim. The claimer's barrier came after the mark (C) and before the claimer's load of busy. If
 * the owner's load is after the barrier, it saw the mark, and the owner took it back, so the
 * claimer's CAS fails; the word can be pending(e) again only by another mark of e, which came
 * before the same barrier (C). If the load is before the barrier, so is the store, and the claimer
 * sees busy, or that the owner is out. A mark that was put back is as good as before: between the
 * first mark and now the owner never saw free.
 *
 * Why (F) holds: the owner takes the mark back, then looks for a fork; a fork says that it is under
 * way, then looks at the heap (all four seq_cst). If the fork finds the mark, the owner finds the
 * fork, and puts the mark back without having been inside. If it finds none, it marks.
 *
 * Pairing: the owner's store of busy and load of claim (heap_enter) with the marker's CAS and the
 * claimer's load of busy, through the membarrier between them; the claimer's release CAS of claim
 * with the owner's acquire load.
 * Bound: the owner takes a mark back by one CAS, which fails only if a claimer has the heap. All
 * else here is a few atomic operations; claim_pass waits for the kernel.
 * Locks: none taken. Allocates nothing. In a fork child epochs and marks go on.
 * Source: the protocol is ours, with the epochs of RCU; models: t/model/claim.pml,
 * t/model/weak.pml.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/claim.h"

#include "base/delay.h"
#include "base/lock.h"
#include "base/share.h"
#include "os/membarrier.h"

static _Atomic uint64_t open_epoch = CLAIM_STEP; /* written under reclaim_control */

/* ---- the owner ---------------------------------------------------------------------------- */

static bool fork_under_way(void)
{
	return atomic_load_explicit(&lock_forking, memory_order_seq_cst) & 1;
}

/* Take a mark back. Returns false if the heap is claimed, or a fork is under way. */
static bool take_back(struct heap *h)
{
	uint64_t word = atomic_load_explicit(&h->claim, memory_order_acquire);

	while ((word & CLAIM_STATE) == CLAIM_PENDING && !fork_under_way()) {
		uint64_t none = CLAIM_FREE;

		DELAY_HERE(claim_take_back);
		SHARE_COUNT(heap_claim);
		if (!atomic_compare_exchange_strong_explicit(&h->claim, &word, CLAIM_FREE,
							     memory_order_seq_cst,
							     memory_order_acquire))
			continue;
		DELAY_HERE(claim_taken_back);
		if (likely(!fork_under_way()))
			return true;
		/* If that fails, the fork has marked it meanwhile. */
		atomic_compare_exchange_strong_explicit(&h->claim, &none, word,
							memory_order_seq_cst, memory_order_relaxed);
	}
	return word == CLAIM_FREE;
}

bool heap_enter_slow(struct heap *h)
{
	return heap_enter(h) || (!atomic_load_explicit(&h->busy, memory_order_relaxed) &&
				 take_back(h) && heap_enter(h));
}

bool claim_owner_ends(struct heap *h)
{
	uint64_t word = atomic_load_explicit(&h->claim, memory_order_acquire);

	while ((word & CLAIM_STATE) == CLAIM_HELD) {
		SHARE_COUNT(heap_claim);
		if (atomic_compare_exchange_weak_explicit(&h->claim, &word, word | CLAIM_EXITED,
							  memory_order_acq_rel,
							  memory_order_acquire))
			return true;
	}
	return false;
}

/* ---- claimers ----------------------------------------------------------------------------- */

/* By CAS, though nobody else changes a free word under the lock: if the lock failed us once, that
 * would cost a mark, and not a heap. */
bool claim_mark(struct heap *h)
{
	uint64_t epoch = atomic_load_explicit(&open_epoch, memory_order_relaxed);
	uint64_t word = atomic_load_explicit(&h->claim, memory_order_relaxed);

	DELAY_HERE(claim_marking);
	while (word == CLAIM_FREE) {
		SHARE_COUNT(heap_claim);
		if (atomic_compare_exchange_weak_explicit(&h->claim, &word, epoch | CLAIM_PENDING,
							  memory_order_seq_cst,
							  memory_order_relaxed))
			return true;
	}
	return (word & CLAIM_STATE) == CLAIM_PENDING;
}

uint64_t claim_close(void)
{
	SHARE_COUNT(claim_epoch);
	return atomic_fetch_add_explicit(&open_epoch, CLAIM_STEP, memory_order_seq_cst);
}

uint64_t claim_pass(uint64_t epoch, bool global)
{
	bool good;

	DELAY_HERE(claim_marked);
	good = HEAP_HAS_CLAIMS && (global ? membarrier_global() : membarrier_expedited());
	DELAY_HERE(claim_barrier);
	return good ? epoch : 0;
}

/* What the word says of a heap that cannot be claimed. */
static enum claim_outcome refused(uint64_t word)
{
	return (word & CLAIM_STATE) == CLAIM_HELD ? CLAIM_BUSY : CLAIM_CALLED;
}

enum claim_outcome claim_try(struct heap *h, uint64_t epoch)
{
	uint64_t word = atomic_load_explicit(&h->claim, memory_order_relaxed);

	if ((word & CLAIM_STATE) != CLAIM_PENDING || (word & ~CLAIM_STATE) > epoch)
		return refused(word);
	SHARE_COUNT(heap_claim);
	if (!atomic_compare_exchange_strong_explicit(&h->claim, &word,
						     (word & ~CLAIM_STATE) | CLAIM_HELD,
						     memory_order_seq_cst, memory_order_relaxed))
		return refused(word);
	DELAY_HERE(claim_held);
	/* Acquire pairs with the owner's release store in heap_exit. */
	if (!atomic_load_explicit(&h->busy, memory_order_acquire))
		return CLAIM_TAKEN;
	/* The owner may have been on its way in only, seen our claim, and ended. */
	return claim_release(h) ? CLAIM_ENDED : CLAIM_INSIDE;
}

/* Let go; true: the owner ended, and the heap is the caller's still, with a free word. */
static bool let_go(struct heap *h, uint64_t next)
{
	/* Acquire pairs with the CAS in claim_owner_ends; release, below, with the owner's load in
	 * heap_enter, or in take_back. */
	uint64_t word = atomic_load_explicit(&h->claim, memory_order_acquire);

	SHARE_COUNT(heap_claim);
	if (!(word & CLAIM_EXITED) &&
	    atomic_compare_exchange_strong_explicit(&h->claim, &word, next, memory_order_acq_rel,
						    memory_order_acquire))
		return false;
	atomic_store_explicit(&h->claim, CLAIM_FREE, memory_order_release);
	return true;
}

bool claim_release(struct heap *h)
{
	DELAY_HERE(claim_emptied);
	return let_go(h, CLAIM_FREE);
}

bool claim_put_back(struct heap *h)
{
	uint64_t word = atomic_load_explicit(&h->claim, memory_order_relaxed);

	DELAY_HERE(claim_aged);
	/* If its owner has ended, let_go sees that, too. */
	return let_go(h, (word & ~CLAIM_STATE) | CLAIM_PENDING);
}
