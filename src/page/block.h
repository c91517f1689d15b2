/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block.h - a zone's free blocks: the binary buddy method, under the zone's lock.
 */
#ifndef SLUICE_BLOCK_H
#define SLUICE_BLOCK_H

#include "base/atomics.h"
#include "page/pagemap.h"
#include "page/zone.h"

#define RANGE_LONG 17u   /* pages: from here on places of mixed backing count (is_short) */
#define RANGE_SHORT 128u /* pages: what remains of a shorter run is of use to others */

/* ---- the zone's two locks ---------------------------------------------------------------- */

/*
 * Takes the zone's lock and frees some of the deferred runs. Returns 0; -EBUSY if another thread
 * holds it and will release it; -EDEADLK or -EAGAIN as lock_acquire.
 */
int zone_lock_err(struct zone *z);

/* The same; returns whether the lock was taken. */
bool zone_lock(struct zone *z);

static inline void zone_unlock(struct zone *z)
{
	lock_release(&z->lock);
}

/* The lock of the zone's regions, with the same results. Take it before the zone's lock. */
int grow_lock(struct zone *z);
void grow_unlock(struct zone *z);

/* Leaves a run to the next holder of the zone's lock, which frees it. Any context. */
void defer_push(struct zone *z, struct page *pg);

/* ---- dirty bits, under the zone's lock --------------------------------------------------- */

static inline uint64_t word_mask(uint32_t from, uint32_t n)
{
	/* The mask of n says to a checker that no shift is too long. */
	return (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << (n & 63)) - 1) << from;
}

enum bit_op { BITS_COUNT, BITS_SET, BITS_CLEAR };

/* Applies op to n bits from first on. Returns how many were set before. */
static always_inline uint32_t dirty_bits(struct region *r, uint32_t first, uint32_t n,
					 enum bit_op op)
{
	uint32_t count = 0;

	while (n) {
		uint32_t at = first & 63;
		uint32_t here = n < 64 - at ? n : 64 - at;
		uint64_t mask = word_mask(at, here);
		uint64_t *word = &r->dirty[first / 64];

		/* Mostly all or none are set, and counting is slow without an instruction for
		 * it. */
		if ((*word & mask) == mask)
			count += here;
		else if (*word & mask)
			count += (uint32_t)__builtin_popcountll(*word & mask);
		if (op == BITS_SET)
			*word |= mask;
		else if (op == BITS_CLEAR)
			*word &= ~mask;
		first += here;
		n -= here;
	}
	return count;
}

/* How many of a block's pages have their bit set. */
static always_inline uint32_t block_dirty(const struct region *r, uint32_t i, unsigned order)
{
	const uint64_t *word = &r->dirty[i / 64];
	uint32_t n = 1u << order;
	uint32_t here = n < 64 ? n : 64;
	uint64_t mask = word_mask(i & 63, here);
	uint32_t count = 0;

	for (uint32_t at = 0; at < n; at += 64, word++) {
		if ((*word & mask) == mask)
			count += here;
		else if (*word & mask)
			count += (uint32_t)__builtin_popcountll(*word & mask);
	}
	return count;
}

/* ---- the bits of unused pages, under the zone's lock -------------------------------------- */

static inline bool is_unused(const struct region *r, uint32_t i)
{
	return r->unused[i / 64] >> (i & 63) & 1;
}

/* Changes the bits of a block, all of which are equal. */
static inline void unused_flip(struct region *r, uint32_t i, unsigned order)
{
	uint32_t n = 1u << order;
	uint64_t mask = word_mask(i & 63, n < 64 ? n : 64);
	uint64_t *word = &r->unused[i / 64];

	for (uint32_t at = 0; at < n; at += 64)
		*word++ ^= mask;
}

/* The first of the unused pages that end before page i; i if there are none. Page 0 is used. */
static inline uint32_t unused_from(const struct region *r, uint32_t i)
{
	uint32_t at = i / 64;
	uint64_t used = ~r->unused[at] & ((UINT64_C(1) << (i & 63)) - 1);

	while (!used)
		used = ~r->unused[--at];
	return 64 * at + 64 - (uint32_t)__builtin_clzll(used);
}

/* The first page from i on, i < REGION_PAGES, that is not unused; REGION_PAGES if there is none. */
static inline uint32_t unused_until(const struct region *r, uint32_t i)
{
	uint32_t at = i / 64;
	uint64_t used = ~r->unused[at] >> (i & 63) << (i & 63);

	while (!used && ++at < REGION_PAGES / 64)
		used = ~r->unused[at];
	return used ? 64 * at + (uint32_t)__builtin_ctzll(used) : REGION_PAGES;
}

/* ---- free blocks, under the zone's lock -------------------------------------------------- */

/* Begins with one more run, or one more block of a purge, in this hold of the lock. */
static inline void run_begin(struct zone *z)
{
	hold_step(LOCK_BUDDY, 1);
	if (SLUICE_DEBUG)
		z->steps = 0;
}

/* Bit o is set if the zone has a free block of order o. */
static inline uint32_t orders_of(const struct zone *z, enum backing backing)
{
	return atomic_load_explicit(&z->orders[backing], memory_order_relaxed);
}

static inline bool is_free_block(struct region *r, uint32_t i, unsigned order)
{
	const struct page *pg = &r->page[i];

	return i + (1u << order) <= r->pages && page_kind(pg) == PAGE_BUDDY && pg->cls == order;
}

/* Takes a free block off its list. */
void block_remove(struct zone *z, struct page *pg, enum page_kind becomes);

/* Frees one aligned block and merges it upwards. */
void block_free(struct zone *z, struct region *r, uint32_t i, unsigned order, bool prefaulted);

/* Turns the smallest block that has the backing and the order into a run. Returns NULL if
 * none. */
struct page *block_take(struct zone *z, enum backing backing, unsigned order);

/* Returns the first page of the free block that ends before page i and may join one that has the
 * backing, or i if there is no such block. */
uint32_t free_block_before(struct region *r, uint32_t i, enum backing backing);

/* Frees n pages from i on as the aligned blocks that they consist of. */
void range_free(struct zone *z, struct region *r, uint32_t i, uint32_t n, bool prefaulted);

/* A request: runs of npages, each at the start of a block of the order, or anywhere. */
struct want {
	uint32_t npages;
	unsigned order;
	bool anywhere;
};

/* Takes up to n runs that have one of the backings (a bit each): first what is backed (dirty, then
 * prefaulted), then clean. Returns how many. */
unsigned runs_alloc_locked(struct zone *z, const struct want *want, unsigned backings, unsigned n,
			   struct page **out);

/* Takes a run at the front of a largest dirty block, if that has the order. Returns NULL if not. */
struct page *roomy_alloc_locked(struct zone *z, uint32_t npages, unsigned order);

/* Shortens a run that was just taken; its tail becomes free again, with the same backing. */
void run_cut_locked(struct zone *z, struct page *pg, uint32_t npages, enum backing backing);

/* Frees a run, as pg->backing says. */
void run_free_locked(struct page *pg);

/* Debug: walks the zone under both locks, and stops the program where an invariant is broken. */
void zone_check(struct zone *z);

#endif
