/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_check.c - looks at the calling thread's bins as the program ends, and at its slabs in tests.
 * Used by init (heap_check_bins) and the tests; uses cache_bin, slab, dealt. heap_slabs.h declares
 * it.
 *
 * (A) Nothing is written to the objects, because this may be a child of fork that ends.
 *
 * Bound: heap_check_bins reads each object in a bin once; heap_check walks all slabs of the heap.
 * No lock, allocates nothing. In the critical section of the heap.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/check.h"
#include "heap/cache_bin.h"
#include "heap/claim.h"
#include "heap/dealt.h"
#include "heap/heap_slabs.h"
#include "heap/heap_thread.h"

/* Stops the program if one of the BIN_MAX objects from `top` down to the bottom is there twice. */
static void check_twice(struct object **bottom, struct object **top)
{
	uint16_t seen[2 * BIN_MAX] = { 0 }; /* places above the bottom, by the object's hash */

	for (struct object **o = top; *o; o--) {
		uint32_t i = (uint32_t)((uintptr_t)*o >> 4) * UINT32_C(2654435761) >> 16;
		uint16_t *at = &seen[i % (2 * BIN_MAX)];

		while (*at) {
			if (unlikely(bottom[*at] == *o))
				heap_freed_twice(*o, page_of(*o));
			at = &seen[++i % (2 * BIN_MAX)];
		}
		if (top - o < (ptrdiff_t)BIN_MAX)
			*at = (uint16_t)(o - bottom);
	}
}

/* Stops the program if an object is in the bin twice, or in the bin and on a list of its slab.
 * Writes nothing to objects, because this may be a child of fork that ends. */
static void bin_check_twice(struct heap *h, unsigned bin)
{
	struct object **bottom = bin_bottom(h, bin);
	struct object **top = h->bin[bin].top;

	for (struct object **o = top; *o; o--) {
		if (unlikely(freelist_is_home(*o, page_of(*o), bin < CLASSES)))
			heap_freed_twice(*o, page_of(*o));
	}
	for (; top - bottom > (ptrdiff_t)BIN_MAX; top -= BIN_MAX)
		check_twice(bottom, top);
	check_twice(bottom, top);
}

void heap_check_bins(void)
{
	struct heap *h = heap_own();

	if (!heap_is_real(h) || !heap_enter_slow(h)) /* which takes a mark back */
		return;
	for (unsigned bin = 0; bin < BINS; bin++) {
		if (unlikely(heap_sampling))
			dealt_show(h, bin);
		if (*h->bin[bin].top)
			bin_check_twice(h, bin);
		if (unlikely(heap_sampling))
			dealt_hide(h, bin);
	}
	heap_exit(h);
}

static void check_list(struct heap *h, struct page_list_head *l, enum page_list tag)
{
	for (struct page *pg = l->first; pg; pg = pg->next) {
		CHECK(pg->list == tag);
		CHECK(atomic_load_explicit(&pg->owner, memory_order_relaxed) == h);
		slab_check(pg);
	}
}

void heap_check(void)
{
	struct heap *h = heap_own();

	if (!heap_is_real(h) || !heap_enter_slow(h))
		return;
	check_list(h, &h->full, LIST_FULL);
	for (unsigned bin = 0; bin < BINS; bin++) {
		CHECK(bin_space(&h->bin[bin]) <= bin_room(h, bin));
		for (struct object **o = h->bin[bin].top; *o; o--)
			CHECK(page_kind(page_of(*o)) == (bin < CLASSES ? PAGE_SLAB : PAGE_LARGE) &&
			      page_of(*o)->cls == bin);
	}
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		check_list(h, &h->partial[cls], LIST_PARTIAL);
		if (h->current[cls])
			slab_check(h->current[cls]);
	}
	heap_exit(h);
}
