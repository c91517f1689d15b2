/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.c - see livebits.h. Used by harden and slab; uses vm and pagemap.
 *
 * (A) A region's bits are mapped when the first block of it is handed out in a hardened process,
 *     and stay. The kernel backs only what is used: 1/64 of the memory in use, at most.
 * (B) The `used` bit decides: the thread that clears it owns the block, and it alone changes the
 *     `note` bit until the block is handed out again.
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

#define LIVE_WORDS (REGION_BYTES / ALIGN_MIN / 64)
#define PAGE_WORDS (PG_BYTES / ALIGN_MIN / 64)

struct live_bits {
	_Atomic uint64_t used[LIVE_WORDS];
	_Atomic uint64_t note[LIVE_WORDS];
};

static inline struct live_bits *bits_of(const void *p)
{
	return atomic_load_explicit(&region_of(p)->live, memory_order_acquire);
}

static inline size_t word_of(const void *p)
{
	return ((uintptr_t)p & (REGION_BYTES - 1)) / ALIGN_MIN / 64;
}

static inline uint64_t bit_of(const void *p)
{
	return UINT64_C(1) << ((uintptr_t)p / ALIGN_MIN % 64);
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

static enum live state_of(uint64_t used, uint64_t note, uint64_t bit)
{
	if (used & bit)
		return note & bit ? LIVE_PLAIN : LIVE_USED;
	return note & bit ? LIVE_ZEROED : LIVE_NONE;
}

enum live live_of(const void *p)
{
	struct live_bits *b = bits_of(p);
	size_t w = word_of(p);

	if (!b || (uintptr_t)p % ALIGN_MIN)
		return LIVE_NONE;
	return state_of(atomic_load_explicit(&b->used[w], memory_order_relaxed),
			atomic_load_explicit(&b->note[w], memory_order_relaxed), bit_of(p));
}

enum live live_begin(const void *p)
{
	struct live_bits *b = bits_of(p);
	size_t w = word_of(p);
	uint64_t bit = bit_of(p);
	uint64_t note = atomic_load_explicit(&b->note[w], memory_order_relaxed);
	uint64_t used;

	if (note & bit)
		atomic_fetch_and_explicit(&b->note[w], ~bit, memory_order_relaxed);
	used = atomic_fetch_or_explicit(&b->used[w], bit, memory_order_relaxed);
	return state_of(used, note, bit);
}

enum live live_end(const void *p)
{
	struct live_bits *b = bits_of(p);
	size_t w = word_of(p);
	uint64_t bit = bit_of(p);
	uint64_t note;
	uint64_t used;

	if (!b || (uintptr_t)p % ALIGN_MIN)
		return LIVE_NONE;
	used = atomic_fetch_and_explicit(&b->used[w], ~bit, memory_order_relaxed);
	if (!(used & bit))
		return LIVE_NONE;
	note = atomic_load_explicit(&b->note[w], memory_order_relaxed);
	if (note & bit)
		atomic_fetch_and_explicit(&b->note[w], ~bit, memory_order_relaxed);
	return state_of(used, note, bit);
}

void live_zeroed(const void *p)
{
	atomic_fetch_or_explicit(&bits_of(p)->note[word_of(p)], bit_of(p), memory_order_relaxed);
}

void live_mark(const void *p, enum live state)
{
	struct live_bits *b = bits_of(p);
	size_t w = word_of(p);
	uint64_t bit = bit_of(p);

	if (state == LIVE_PLAIN) {
		atomic_fetch_or_explicit(&b->used[w], bit, memory_order_relaxed);
		atomic_fetch_or_explicit(&b->note[w], bit, memory_order_relaxed);
	} else {
		atomic_fetch_and_explicit(&b->used[w], ~bit, memory_order_relaxed);
		atomic_fetch_and_explicit(&b->note[w], ~bit, memory_order_relaxed);
	}
}

void live_forget(const struct page *pg, uint32_t npages)
{
	struct live_bits *b = bits_of(pg);
	size_t w = (size_t)page_number(pg) * PAGE_WORDS;

	if (!b)
		return;
	for (size_t end = w + npages * PAGE_WORDS; w < end; w++) {
		if (atomic_load_explicit(&b->note[w], memory_order_relaxed))
			atomic_store_explicit(&b->note[w], 0, memory_order_relaxed);
	}
}
