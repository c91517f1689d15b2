/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_realloc.c - realloc, and frees of what is not known to be near.
 * Used by shim, harden, the fast paths of heap.h; uses heap, heap_size, large, huge, sampler.
 *
 * (A) What is near lies in regions of ours: free then needs no look at the page map. Each heap
 *     learns which regions these are; a page map entry is never taken back, so they stay ours.
 *
 * Bound: as heap.c; what realloc copies; learning reads 2 x NEAR_MOST bytes of the page map.
 * Allocates nothing itself. May wait, enter the kernel, run in signal handlers and fork children.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap.h"

#include <string.h>

#include "base/check.h"
#include "heap/arena.h"
#include "heap/guarded.h"
#include "heap/huge.h"
#include "heap/sampler.h"
#include "heap/tally.h"
#include "heap/zero.h"
#include "page/longrun.h"
#include "page/mapcache.h"

#define NEAR_MOST 64u
#define NEAR_HASH UINT64_C(0x9e3779b97f4a7c15)
#define REALLOC_MAP_MIN ((size_t)1 << 20)
#define REALLOC_ROOM_MIN ((size_t)64 << 10)
#define REALLOC_RUN_MAX ((size_t)4 << 20)

/* ---- what is near -------------------------------------------------------------------------- */

/*
 * p lies in a region of ours that is not near. That one and those side by side with it become near,
 * up to NEAR_MOST on each side. Where a thread frees in places that are far apart, one call in some
 * 64 does so. In the critical section of h, which a signal handler cannot enter meanwhile.
 */
static noinline void learn_near(struct heap *h, const void *p)
{
	uintptr_t from = align_down((uintptr_t)p, REGION_BYTES);
	uintptr_t end = from + REGION_BYTES;

	if (h->near_bytes && (uintptr_t)p * NEAR_HASH >> 58 != 0)
		return;
	for (unsigned n = 0; n < NEAR_MOST && pagemap_ours((void *)(from - REGION_BYTES)); n++)
		from -= REGION_BYTES;
	for (unsigned n = 0; n < NEAR_MOST && pagemap_ours((void *)end); n++)
		end += REGION_BYTES;
	h->near = from;
	h->near_bytes = end - from;
}

static noinline void free_far(void *p, struct heap *h)
{
	uint32_t at = (uint32_t)(uintptr_t)p & (uint32_t)(REGION_BYTES - 1);
	struct region *r = region_of(p);
	uint32_t head;

	if (!pagemap_ours(p) || !heap_is_real(h)) {
		heap_exit(h);
		heap_free_slow(p);
		return;
	}
	learn_near(h, p);
	head = r->head[at >> PG_SHIFT];
	heap_free_into(p, h, r, at, head & ~HEAD_NOTE, bin_at(h, head & HEAD_NOTE));
}

noinline void heap_free_far(void *p, struct heap *h)
{
	if (p)
		free_far(p, h);
	else
		heap_exit(h);
}

/* ---- realloc ------------------------------------------------------------------------------- */

/* Stop the program if the block is in the thread's own bin: the descriptor does not tell. */
static void check_not_in_bin(void *p, const struct page *pg)
{
	struct heap *h = heap_own();

	if (!slab_carved_bytes(pg) || !heap_enter(h))
		return;
	for (struct object **at = h->bin[pg->cls].top; *at; at--) {
		if (unlikely((void *)*at == p))
			sluice_fatal("realloc of a block that was freed: address %p", p);
	}
	heap_exit(h);
}

/* Whether a block grows by less than half: then more such steps follow. */
static bool grows_by_steps(size_t old, size_t size)
{
	return size >= REALLOC_ROOM_MIN && size > old && size < old + old / 2;
}

/*
 * Whether a block that cannot grow in place becomes a mapping, which then grows by moving page
 * tables. A block that grows by half or more at a time stays a run: few more steps follow, and runs
 * are reused without page faults.
 */
static bool grows_into_mapping(size_t old, size_t size)
{
	return size >= REALLOC_MAP_MIN && size > old &&
	       (size > LARGE_MAX || grows_by_steps(old, size));
}

/* Whether a block that grows by steps leaves its run for a mapping, if the kernel gives one, before
 * the copy becomes long and backs what the program has not touched. */
static bool leaves_run(size_t old, size_t size)
{
	return old < REALLOC_RUN_MAX && size >= REALLOC_RUN_MAX && grows_by_steps(old, size);
}

/* A place for a block that grows, with room behind it. Returns NULL if any place is as good. */
static void *alloc_growing(size_t old, size_t size)
{
	void *q = NULL;

	if (unlikely(heap_in_copy))
		return NULL;
	if (!heap_hooks && grows_by_steps(old, size) && size <= LARGE_MAX / 4 &&
	    !leaves_run(old, size)) /* hardened: each run that is handed out has to be noted */
		q = large_alloc_roomy(heap_pcp(), size,
				      size >= REALLOC_MAP_MIN && size <= REALLOC_RUN_MAX &&
					      !mapcache_has(size));
	if (!q && grows_into_mapping(old, size))
		q = huge_alloc_kept(size, true, &(bool){ false });
	return heap_counted(q);
}

static always_inline void *moved(void *q, void *p, size_t old, size_t size)
{
	memcpy(q, p, min_size(old, size));
	heap_free(p);
	return q;
}

void *heap_move(void *p, size_t old, size_t size)
{
	void *q = alloc_growing(old, size);

	if (!q)
		q = heap_alloc(size);
	return q ? moved(q, p, old, size) : NULL;
}

/* What lies behind a block, or enough room elsewhere, may be kept by the thread. To fill the pcp
 * again costs less than to move the block once more. */
static noinline bool resized_drained(struct page *pg, size_t size)
{
	if (!grows_by_steps(large_usable(pg), size) || size > LARGE_MAX)
		return false;
	pcp_drain(heap_pcp());
	longrun_give_up();
	return large_resize(pg, size) || large_extend_region(pg, size);
}

bool heap_resize_large(struct page *pg, void *p, size_t size)
{
	size_t old = large_usable(pg);
	struct profile_note was = sampler_resizes(pg, p);
	bool done = large_resize(pg, size) || resized_drained(pg, size);

	sampler_resized(p, done ? p : NULL, old, large_usable(pg), &was);
	if (done)
		tally_resized(was.bytes ? was.bytes : old, large_usable(pg));
	return done;
}

void *heap_plain_realloc(void *p, size_t size)
{
	size_t old = heap_plain_usable(p);
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;
	void *q;

	heap_copy_check();
	if (unlikely(heap_in_copy))
		return size <= old ? p : heap_move(p, old, size);
	if (pg && page_kind(pg) == PAGE_SLAB) {
		heap_check_object(p, pg);
		if (size <= old && (size > old / 2 || class_of(size) == pg->cls))
			return heap_in_place(p, pg);
	} else if (pg && page_kind(pg) == PAGE_LARGE) {
		large_check(pg, p);
		check_not_in_bin(p, pg);
		/* A small object that the heap profile has put into a run of its own. */
		if (unlikely(pg->list == LIST_SAMPLED) && old <= SMALL_MAX && size <= old &&
		    size > old / 2)
			return p;
		q = leaves_run(old, size) ? alloc_growing(old, size) : NULL;
		if (q)
			return moved(q, p, old, size);
		/* Also below SMALL_MAX, unless half of its last page would be unused. */
		if (size > PG_BYTES / 2 && heap_resize_large(pg, p, size))
			return p;
	} else if (guarded_owns(p)) {
		if (size == old)
			return p;
	} else if (zero_owns(p)) {
		/* There is nothing in it. */
	} else if ((arena_takes(old, 1) && arena_usable(p)) || unlikely(huge_is_early(p))) {
		if (size <= old && size > old / 2)
			return p;
	} else if (size > old / 2 || size > LARGE_MAX) {
		q = sampler_resize_huge(p, old, size);
		if (q) {
			tally_resized(old, huge_usable(q));
			return q;
		}
	}
	q = heap_move(p, old, size);
	return q || size > old ? q : heap_shrunk_in_place(p);
}

static noinline void *realloc_slow(void *p, size_t size)
{
	if (unlikely(heap_hooks != NULL))
		return heap_hooks->realloc(p, size);
	return heap_plain_realloc(p, size);
}

/* Free p, of which heap_realloc has found that it is an object in use, and its head. */
static always_inline void free_moved(void *p, uint32_t head)
{
	struct heap *h = heap_self;
	struct cache_bin *b = bin_at(h, head & HEAD_NOTE);

	if (unlikely(!heap_enter(h))) {
		heap_free_slow(p);
		return;
	}
	if (unlikely(!b->divisor)) {
		heap_exit(h);
		heap_free_slow(p);
		return;
	}
	heap_push(p, h, b);
}

/* In the critical section of h, which it leaves. */
static noinline void *realloc_left(void *p, size_t size, struct heap *h)
{
	if (!heap_is_near(h, p) && pagemap_ours(p) && heap_is_real(h))
		learn_near(h, p);
	heap_exit(h);
	return realloc_slow(p, size);
}

/* The usual case: p is an object of a slab, and stays one. realloc_slow handles all others, and
 * reports errors. */
void *heap_realloc(void *p, size_t size)
{
	uint32_t at = (uint32_t)(uintptr_t)p & (uint32_t)(REGION_BYTES - 1);
	struct region *r = region_of(p);
	struct heap *h = heap_self;
	const struct page *pg;
	uint32_t offset;
	uint32_t head;
	size_t old;
	void *q;

	if (unlikely(size > SMALL_MAX) || unlikely(heap_slow_only) || unlikely(!heap_enter(h)))
		return realloc_slow(p, size);
	if (unlikely(!heap_is_near(h, p)))
		return realloc_left(p, size, h);
	head = r->head[at >> PG_SHIFT];
	pg = &r->page[head >> PG_SHIFT];
	offset = at - (head & ~HEAD_NOTE);
	if (unlikely(page_kind(pg) != PAGE_SLAB) ||
	    unlikely(!head_is_carved(r, head & ~HEAD_NOTE, offset)) ||
	    unlikely(slab_in_holes(pg)) || unlikely(!class_divides(pg->cls, offset)))
		return realloc_left(p, size, h);
	old = class_size(pg->cls);
	if (size <= old && (size > old / 2 || class_of(size) == pg->cls)) {
		heap_exit(h);
		return heap_in_place(p, pg);
	}
	q = heap_pop(h, bin_at(h, class_scaled(size)));
	if (unlikely(!q))
		q = heap_alloc_again(size);
	if (unlikely(!q))
		return size > old ? NULL : heap_shrunk_in_place(p);
	memcpy(q, p, min_size(old, size));
	free_moved(p, head);
	return q;
}

size_t heap_resize(void *p, size_t size, size_t most)
{
	size_t old = heap_usable(p);
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;

	heap_copy_check();
	if (heap_hooks) {
		if ((old < size || old > most) && !heap_hooks->resize(p, most))
			heap_hooks->resize(p, size);
		return heap_usable(p);
	}
	if (!pg || page_kind(pg) != PAGE_LARGE || unlikely(heap_in_copy))
		return old;
	large_check(pg, p);
	check_not_in_bin(p, pg);
	if (unlikely(pg->list == LIST_SAMPLED))
		return old;
	if ((old < size || old > most) && size > PG_BYTES / 2 && !large_resize(pg, most))
		large_resize(pg, size);
	tally_resized(old, large_usable(pg));
	sampler_grown(p, old, large_usable(pg));
	return large_usable(pg);
}
