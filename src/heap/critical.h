/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * critical.h - the owner's way into the critical section of its heap, and out of it.
 *
 * A header of its own for the sake of sluice-bench: a build with tools/bench/critical_none.h in its
 * place shows what the critical section costs.
 */
#ifndef SLUICE_CRITICAL_H
#define SLUICE_CRITICAL_H

#include "base/delay.h"
#include "heap/heap_types.h"

/* Whether others can keep an owner out, so that heaps may be claimed. */
#define HEAP_HAS_CLAIMS true

/* A heap that nobody enters: busy is set for good. */
#define HEAP_NEVER                                                                                 \
	{                                                                                          \
		.busy = HEAP_BUSY                                                                  \
	}

/* Adds the bits of the claim word to those of busy. Returns whether any is set. */
static always_inline bool claim_joins(uint64_t *busy, const struct heap *h)
{
#if LOADS_AND_USES
	bool any;

	__asm__ volatile("orq %2, %0"
			 : "+r"(*busy), "=@ccnz"(any)
			 : "m"(*(const uint64_t *)(uintptr_t)&h->claim)
			 : "memory");
	return any;
#else
	*busy |= atomic_load_explicit(&h->claim, memory_order_acquire);
	return *busy != 0;
#endif
}

/* Returns false if the heap is marked or claimed, or if this call interrupted another one of its
 * thread. The slow path finds out which, and takes a mark back. */
static always_inline bool heap_enter(struct heap *h)
{
	/* One branch for both words: if busy was set, this store changes nothing. No bit of the
	 * claim word is that of busy. */
	uint64_t was = atomic_load_explicit(&h->busy, memory_order_relaxed);

	atomic_store_explicit(&h->busy, HEAP_BUSY, memory_order_relaxed);
	DELAY_HERE(critical_enter);
	/* Compiler barrier; the claimer's membarrier is the other half. Acquire pairs with the
	 * claimer's release when it lets go. */
	atomic_signal_fence(memory_order_seq_cst);
	_Static_assert(CLAIM_FREE == 0, "the sum of both words is 0 if the owner may enter");
	_Static_assert(((CLAIM_STATE | CLAIM_EXITED | CLAIM_STEP) & HEAP_BUSY) == 0,
		       "busy is told");
	if (likely(!claim_joins(&was, h)))
		return true;
	if (!(was & HEAP_BUSY))
		atomic_store_explicit(&h->busy, 0, memory_order_release);
	return false;
}

static always_inline void heap_exit(struct heap *h)
{
	DELAY_HERE(critical_exit);
	atomic_signal_fence(memory_order_seq_cst);
	/* Release pairs with the claimer's acquire load of busy. */
	atomic_store_explicit(&h->busy, 0, memory_order_release);
}

#endif
