/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache_bin.h - how much room the cache bins of a heap have.
 *
 * The caller is in the critical section of h, or has claimed it, or (fallback heap) holds its lock.
 */
#ifndef SLUICE_CACHE_BIN_H
#define SLUICE_CACHE_BIN_H

#include "heap/heap_types.h"

void heap_init_bins(struct heap *h);

/* Objects the bin may hold at most, and if it is wide. */
extern const uint16_t bin_capacities[CLASSES];
extern const uint16_t bin_wide_capacities[CLASSES];
static inline unsigned bin_capacity(unsigned bin)
{
	return bin < CLASSES ? bin_capacities[bin] : large_bin_capacity(bin);
}

/*
 * A bin of a class may become wide when its thread frees and allocates more than it holds in turn:
 * BIN_TURNS times, each with at least BIN_SPILLS spills of the full bin before it was empty again.
 * Each doubling takes as many turns.
 */
#define BIN_TURNS 8u
#define BIN_SPILLS 16u
#define BIN_REFILLED 128u

/* Objects the bin may have room for when it grows next. */
static inline unsigned bin_most(const struct heap *h, unsigned bin)
{
	if (bin < WIDE_CLASSES && h->turns[bin] >= BIN_TURNS)
		return bin_wide_capacities[bin];
	return bin_capacity(bin);
}

/* The empty bin of cls is refilled. */
static always_inline void bin_refilled(struct heap *h, unsigned cls)
{
	if (cls < WIDE_CLASSES)
		h->spills[cls] |= BIN_REFILLED;
}

/* The full bin of cls spills. */
static inline void bin_spills(struct heap *h, unsigned cls)
{
	unsigned n;

	if (cls >= WIDE_CLASSES)
		return;
	n = h->spills[cls];
	if (n & BIN_REFILLED) {
		n -= BIN_REFILLED;
		if (n == BIN_SPILLS && h->turns[cls] < BIN_TURNS)
			h->turns[cls]++;
		n = 0;
	}
	h->spills[cls] = (uint8_t)(n < BIN_SPILLS ? n + 1 : n);
}

/* The NULL below a bin's first place. */
static inline struct object **bin_bottom(struct heap *h, unsigned bin)
{
	unsigned at = h->bin_bottom[bin];

	return at & BIN_IN_ROWS ? h->rows + (at - BIN_IN_ROWS) : h->bin_slots + at;
}

/*
 * The first HEAP_LOOKS frees of small objects by a heap take the slow path, which looks whether the
 * object is in the bin, and does what early.c says; a free that hits compares the two on top only.
 * With the option early_checks:0 there are none.
 */
#define HEAP_LOOKS 512u

/*
 * While there are such frees left, the objects of a refill get links, which tell of an overflow of
 * the object in front. A heap that has refilled its bins this often belongs to a thread that
 * allocates much before it frees; it writes no more of them.
 */
#define FENCED_REFILLS 512u
static inline bool bin_is_fenced(struct heap *h)
{
	return h->looks &&
	       atomic_load_explicit(&h->refills, memory_order_relaxed) <= FENCED_REFILLS;
}

/* One of these frees, of a small object. Returns whether o is in the bin, or kept by early.c. */
bool bin_look(struct heap *h, unsigned cls, const struct object *o);

/* Whether a free of o, an object of pg, would be noticed as a second one. */
bool bin_would_find(struct heap *h, const struct object *o, const struct page *pg);

/* Places the bin has now. */
static inline unsigned bin_room(struct heap *h, unsigned bin)
{
	return (h->bin[bin].limit - (uint32_t)(uintptr_t)bin_bottom(h, bin)) /
	       (uint32_t)sizeof(struct object *);
}

/* Make the bin, which is empty, one without room. */
void bin_begin(struct heap *h, unsigned bin);

/* Doubles the room, up to the capacity. Returns false if the bins of all heaps have as much as a
 * limit allows, or if there is no memory for longer rows. */
bool bin_grow(struct heap *h, unsigned bin);

/*
 * Hardened: places for objects that lie ready above the empty bin (hidden.h), at first and of a
 * class of short objects that is used much. More than HIDDEN_FIRST of other classes would be too
 * many for the processor's caches. In half of HIDDEN_BYTES there is room for what leaves a
 * quarantine in one call, so that it goes to no slab.
 */
#define HIDDEN_FIRST BIN_SMALL
#define HIDDEN_MAX BIN_MIDDLE
#define HIDDEN_BYTES 16384u
_Static_assert(HIDDEN_BYTES / HIDDEN_FIRST <= BIN_BYTES / BIN_SMALL, "they have a longer row");
static inline unsigned hidden_first(unsigned cls)
{
	return (unsigned)min_size(HIDDEN_FIRST, bin_capacities[cls]);
}
static inline unsigned hidden_most(unsigned cls)
{
	return (unsigned)min_size(HIDDEN_MAX, HIDDEN_BYTES / class_size(cls));
}

/* Hardened: how many of them there are. Any thread. */
static inline unsigned hidden_objects(const struct heap *h, unsigned bin)
{
	return likely(!heap_slow_only) ? 0 : h->hidden[bin];
}

/* The empty bin without room gets the row of BIN_MIDDLE places that its class has, and so do the
 * objects above it. Returns false if there is no memory. bin_begin takes that row away. */
bool bin_lengthen(struct heap *h, unsigned cls, unsigned above);

/* Gives the heap its longer rows unless it has them. Returns false if there is no memory. */
bool bin_rows_make(struct heap *h);

/* Bytes of n objects of the bin. */
uint64_t bin_bytes(unsigned bin, unsigned n);

/* For statistics, from any thread: how many objects are in the bin. Inexact while the owner uses
 * it, and bounded by what a bin may hold, so the race is benign. */
unsigned bin_objects_now(struct heap *h, unsigned bin);

/* Take the n highest places away, which are free. */
void bin_shrink(struct heap *h, unsigned bin, unsigned n);

/*
 * Bytes of the objects that the bins of all heaps have room for, and how many that may become,
 * apart from the first places of each: what a limit on memory allows (reclaim).
 */
extern hidden_data _Atomic uint64_t heap_bins_bytes;
extern hidden_data _Atomic uint64_t heap_bins_most;

/* Whether the bins of all heaps may have that many bytes more. */
static inline bool bins_may_have(uint64_t more)
{
	return atomic_load_explicit(&heap_bins_bytes, memory_order_relaxed) + more <=
	       atomic_load_explicit(&heap_bins_most, memory_order_relaxed);
}

/* The room of all bins of a heap, in bytes; and from now on heap_bins_bytes is kept, which is
 * `bytes` now. Before the second thread. */
uint64_t heap_bins_room(struct heap *h);
void heap_bins_count_from(uint64_t bytes);

#endif
