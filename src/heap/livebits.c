/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.c - see livebits.h. Used by harden and slab; uses vm and pagemap.
 *
 * (A) A region's bits are mapped when the first block of it is handed out in a hardened process,
 *     and stay. The kernel backs only what is used: 1/64 of the memory in use, at most.
 * (B) A block has two neighbouring bits. The lower one, `used`, decides: the thread that clears it
 *     owns the block, and it alone changes the upper one, `note`, until the block is handed out
 *     again. So one atomic operation does a malloc, and one a free.
 *
 * No lock, no allocation except a mapping for each region. Signal handlers and fork: one atomic
 * operation changes each bit, so nothing is half done.
 * Pairing: bits are published by a release CAS, and found by an acquire load.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/livebits.h"

#include "os/vm.h"
#include "page/pagemap.h"

#define IN_WORD 32u /* blocks of ALIGN_MIN bytes */
#define LIVE_WORDS (REGION_BYTES / ALIGN_MIN / IN_WORD)
#define PAGE_WORDS (PG_BYTES / ALIGN_MIN / IN_WORD)
#define USED UINT64_C(1)
#define NOTE UINT64_C(2)

struct live_bits {
	_Atomic uint64_t word[LIVE_WORDS];
};

static inline struct live_bits *bits_of(const void *p)
{
	return atomic_load_explicit(&region_of(p)->live, memory_order_acquire);
}

static inline _Atomic uint64_t *word_of(struct live_bits *b, const void *p)
{
	return &b->word[((uintptr_t)p & (REGION_BYTES - 1)) / ALIGN_MIN / IN_WORD];
}

static inline unsigned shift_of(const void *p)
{
	return (uintptr_t)p / ALIGN_MIN % IN_WORD * 2;
}

bool live_ready(const void *p)
{
	struct live_bits *none = NULL;
	struct live_bits *b;

	if (likely(bits_of(p) != NULL))
		return true;
	b = vm_map(sizeof(*b), PG_BYTES);
	if (!b)
		return false;
	if (!atomic_compare_exchange_strong_explicit(&region_of(p)->live, &none, b,
						     memory_order_release, memory_order_relaxed))
		vm_unmap(b, sizeof(*b));
	return true;
}

uint64_t live_bytes(struct region *r)
{
	struct live_bits *b = atomic_load_explicit(&r->live, memory_order_acquire);
	uint64_t bytes = b ? vm_resident(b, sizeof(*b)) : 0;

	return bytes == VM_UNKNOWN ? sizeof(*b) : bytes;
}

static enum live state_of(uint64_t word, unsigned shift)
{
	static const enum live states[] = { LIVE_NONE, LIVE_USED, LIVE_ZEROED, LIVE_PLAIN };

	return states[word >> shift & (USED | NOTE)];
}

enum live live_of(const void *p)
{
	struct live_bits *b = bits_of(p);

	if (!b || (uintptr_t)p % ALIGN_MIN)
		return LIVE_NONE;
	return state_of(atomic_load_explicit(word_of(b, p), memory_order_relaxed), shift_of(p));
}

enum live live_begin(const void *p)
{
	_Atomic uint64_t *w = word_of(bits_of(p), p);
	unsigned shift = shift_of(p);
	/* Nobody else changes the two bits: `used` is set and `note` cleared by one addition. */
	uint64_t old = atomic_load_explicit(w, memory_order_relaxed) >> shift & (USED | NOTE);
	uint64_t add = (USED - old) << shift;

	if (unlikely(old & USED))
		return state_of(old, 0);
	return state_of(atomic_fetch_add_explicit(w, add, memory_order_relaxed), shift);
}

enum live live_end(const void *p, bool zeroed)
{
	struct live_bits *b = bits_of(p);
	unsigned shift = shift_of(p);
	_Atomic uint64_t *w;
	uint64_t old;
	uint64_t new;

	if (!b || (uintptr_t)p % ALIGN_MIN)
		return LIVE_NONE;
	w = word_of(b, p);
	old = atomic_load_explicit(w, memory_order_relaxed);
	do {
		if (unlikely(!(old >> shift & USED)))
			return LIVE_NONE;
		new = (old & ~((USED | NOTE) << shift)) | (zeroed ? NOTE << shift : 0);
	} while (!atomic_compare_exchange_weak_explicit(w, &old, new, memory_order_relaxed,
							memory_order_relaxed));
	return state_of(old, shift);
}

void live_mark(const void *p, enum live state)
{
	_Atomic uint64_t *w = word_of(bits_of(p), p);
	uint64_t both = (USED | NOTE) << shift_of(p);

	if (state == LIVE_PLAIN)
		atomic_fetch_or_explicit(w, both, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(w, ~both, memory_order_relaxed);
}

void live_forget(const struct page *pg, uint32_t npages)
{
	struct live_bits *b = bits_of(pg);
	size_t w = (size_t)page_number(pg) * PAGE_WORDS;

	if (!b)
		return;
	for (size_t end = w + npages * PAGE_WORDS; w < end; w++) {
		if (atomic_load_explicit(&b->word[w], memory_order_relaxed))
			atomic_store_explicit(&b->word[w], 0, memory_order_relaxed);
	}
}
