/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.c - allocation and free when the fast paths of heap.h do not suffice.
 * Used by shim and reclaim; uses the other files of the heap, slab, large, huge, arena, pcp.
 *
 * (A) A critical section has a bounded number of list steps. All that may wait or enter the kernel
 *     (taking pages, adopting slabs) is done outside of it, except that abandoning a slab takes the
 *     lock of its pool. A slab or run that is taken outside is in limbo, so no other thread sees it
 *     before the call enters the critical section again.
 * (B) A call that cannot use its thread's heap (claimed, re-entered, ended, or no memory for one)
 *     uses the fallback heap under its lock. If that lock is not available, an allocation uses the
 *     arena, and a free is a remote free, which needs no lock. In the copy of the process that
 *     writes a backtrace, each object is a mapping, and older objects are never freed.
 * (C) A hit that fails stays in its critical section: heap_alloc_freed, heap_alloc_came,
 *     heap_alloc_refill, heap_alloc_sampled and heap_free_full do what one heap has in few steps.
 *     All else, a bin without room and every DIRECT_CALLS-th of these calls (while allocations are
 *     sampled every ENTERED_CALLS-th) go through heap_alloc_slow or free_object.
 *
 * Bound: malloc has one critical section. If it needs a slab it has three, one hold of a pool's
 * lock and one call of pcp. free has one critical section, and one hold of a pool's lock for each
 * abandoned slab that it freed into (at most BIN_STEP, usually none). heap_work.h bounds the steps
 * in a critical section. If there is no memory, heap_reclaim runs, which walks each heap once.
 * Allocates nothing itself. May wait, enter the kernel, run in signal handlers and fork children.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/options.h"
#include "base/stats.h"
#include "heap/arena.h"
#include "heap/claim.h"
#include "heap/early.h"
#include "heap/guarded.h"
#include "heap/heap_call.h"
#include "heap/hidden.h"
#include "heap/huge.h"
#include "heap/quarantine.h"
#include "heap/sampler.h"
#include "heap/tally.h"
#include "heap/zero.h"
#include "os/vm.h"
#include "page/longrun.h"
#include "page/mapcache.h"
#include "page/purge.h"
#include "page/region.h"

bool (*heap_reclaim)(void);
const struct heap_hooks *heap_hooks;

/* In a fork child, long runs and mappings that its parent kept go at once. */
static noinline void look_at_kept(uint32_t live)
{
	if (live == MAPCACHE_INHERITED && !heap_in_copy && mapcache_disown())
		longrun_drain();
	else
		mapcache_tick_slow();
}

/* At the start of a slow call, where libc may be called as by the program: see heap_due. */
static always_inline void do_what_is_due(bool allocates)
{
	uint32_t due = atomic_load_explicit(&heap_due, memory_order_relaxed);
	uint32_t live;

	if (unlikely(due != HEAP_DUE_NOT) && (allocates || due == HEAP_DUE_CALL) &&
	    heap_due_begins && !heap_in_copy)
		heap_due_begins(allocates);
	live = atomic_load_explicit(&mapcache_live, memory_order_relaxed);
	if (unlikely(live && trim_inline))
		look_at_kept(live);
}

/* ---- slabs, outside of the critical section ------------------------------------------------- */

/* Adopt a slab with room, or make one of fresh pages, which the program will write as a whole if it
 * is dense; it is in limbo. Returns NULL if no memory. */
static struct page *slab_obtain(struct pcp *pcp, unsigned cls, bool dense)
{
	struct page *(*take)(struct pcp *, unsigned) = dense ? pcp_alloc_dense : pcp_alloc;
	struct page *pg = slab_pool_take(cls);
	uint32_t forks;

	if (pg)
		return pg;
	forks = heap_forks();
	pg = take(pcp, run_class_of(size_classes[cls].pages));
	if (unlikely(!pg) && heap_reclaimed(forks))
		pg = take(pcp, run_class_of(size_classes[cls].pages));
	if (pg)
		slab_make(pg, cls);
	return pg;
}

/* Abandon a slab in limbo that no heap takes, or give it back if it is empty. */
static void slab_return(struct pcp *pcp, struct page *pg)
{
	if (slab_held(pg)->used == 0 || slab_pool_put(pg, SLAB_RECENT) == POOL_EMPTY) {
		slab_unmake(pg);
		pcp_free(pcp, pg);
	}
}

/* ---- allocation -------------------------------------------------------------------------- */

/*
 * For a call that can use neither heap nor lock, or when no region can grow: allocate from the
 * arena, without a lock. If the object is too large for the arena, or the arena is full, it gets a
 * mapping of its own. So does every object in the copy that writes a backtrace, because a thread
 * that the copy does not have may have been inside the arena.
 */
static void *emergency_alloc(size_t size, size_t align)
{
	void *p;

	if (unlikely(heap_in_copy) || !arena_takes(size, align))
		return huge_alloc(size, align);
	stat_add(STAT_emergency_objects, 1);
	p = arena_alloc(size, align);
	return likely(p != NULL) ? p : huge_alloc(size, align);
}

static struct object *take_object(struct heap *h, unsigned cls, unsigned *due)
{
	if (unlikely(heap_sampling))
		return sampler_take(h, cls, due);
	if (unlikely(heap_hooks != NULL))
		return heap_take_hidden(h, cls);
	return *h->bin[cls].top || heap_refill(h, cls) ? *h->bin[cls].top-- : NULL;
}

static always_inline void *alloc_small(size_t size)
{
	unsigned cls = class_of(max_size(size, 1));
	/* The alignment that objects of the class have: heap_alloc_aligned relies on it. */
	size_t align = class_size(cls) & (0 - class_size(cls));
	unsigned due = 0;

	do_what_is_due(true);
	/* Lock-free: each round after the first has made or adopted a slab. If another call (of a
	 * signal handler) uses up that slab in between, that call has made progress. */
	for (;;) {
		struct heap *h = heap_call_begin(true);
		struct page *pg;
		struct object *o;
		bool dense;

		if (unlikely(!h))
			return emergency_alloc(class_size(cls), align);
		o = take_object(h, cls, &due);
		if (o) {
			heap_call_end(h);
			return o;
		}
		dense = heap_fills_slabs(h, cls);
		heap_call_end(h);
		if (unlikely(due & ~SAMPLE_COUNTED)) {
			void *p = sampler_alloc(size, due);

			if (p)
				return p;
			due = SAMPLE_COUNTED;
			continue;
		}
		do_what_is_due(true); /* it may have been the thread's first call */
		heap_slab_needed();
		pg = slab_obtain(&h->pcp, cls, dense);
		if (unlikely(!pg))
			return emergency_alloc(class_size(cls), align);
		h = heap_call_begin(true);
		if (unlikely(!h)) {
			slab_return(heap_pcp_self(), pg);
			return emergency_alloc(class_size(cls), align);
		}
		heap_attach(h, pg);
		heap_call_end(h);
	}
}

static void *alloc_plain(size_t size)
{
	return tally_alloc(alloc_small(size));
}

noinline void *heap_alloc_slow(size_t size)
{
	bool zero = false;

	if (unlikely(heap_hooks != NULL))
		/* cppcheck-suppress returnDanglingLifetime */
		return heap_hooks->alloc(size, 1, &zero);
	if (unlikely(!size)) {
		void *p = zero_alloc();

		if (p)
			return tally_alloc(p);
	}
	return alloc_plain(size);
}

/* Leave the critical section. Runs that were released in it go to the pcp. */
static always_inline void leave(struct heap *h)
{
	int saved;

	if (likely(!h->release)) {
		heap_exit(h);
		return;
	}
	saved = errno;
	heap_exit_free(h);
	errno = saved;
}

noinline void *heap_alloc_came(struct heap *h, unsigned cls)
{
	struct page *pg = h->current[cls];
	struct slab_holes *holes = slab_holes(pg);

	slab_prefetch(pg);
	holes->came = (uint8_t)(holes->came - TAKE_CAME);
	return heap_take_freed(h, cls, pg, TAKE_CAME, false);
}

noinline void *heap_alloc_refill(size_t size, struct heap *h, unsigned cls, void *(*slow)(size_t))
{
	struct object *o = NULL;

	heap_work_begin(true, false);
	if (heap_refill(h, cls))
		o = *h->bin[cls].top--;
	heap_work_begin(false, false);
	leave(h);
	return likely(o != NULL) ? o : slow(size);
}

noinline void *heap_alloc_sampled(size_t size, struct heap *h, unsigned cls, void *(*slow)(size_t))
{
	struct object *o;

	heap_work_begin(true, false);
	o = sampler_next(h, cls);
	heap_work_begin(false, false);
	leave(h);
	return likely(o != NULL) ? o : slow(size);
}

static void *alloc_next(size_t size, struct heap *h, size_t scaled)
{
	if (heap_hooks)
		return heap_hooks->alloc_entered(size, h, scaled, heap_alloc_slow);
	return heap_alloc_freed(size, h, scaled, heap_alloc_slow);
}

noinline void *heap_alloc_again(size_t size)
{
	return heap_alloc_fast(size, heap_alloc_slow, alloc_next);
}

/*
 * The kernel refused memory for an object: reclaim what all threads cache, then release free
 * address space inside regions, which may be in pieces too small for the object, or be needed for a
 * mapping.
 */
static noinline void *alloc_scarce(size_t size, size_t align, bool *zero)
{
	void *p = NULL;

	if (heap_reclaimed(heap_forks()) && size <= LARGE_MAX && align <= LARGE_MAX)
		p = large_alloc(heap_pcp(), size, align, zero);
	if (p || !zones_release_space(size))
		return p;
	*zero = true;
	p = huge_alloc(size, align);
	if (p)
		return p;
	purges_wait();
	return zones_release_space(UINT64_MAX) ? huge_alloc(size, align) : NULL;
}

static always_inline void *counted(void *p)
{
	if (unlikely(heap_sampling) && p)
		sampler_large(p, heap_plain_usable(p));
	return tally_alloc(p);
}

void *heap_counted(void *p)
{
	return counted(p);
}

/* No cache bin has it. *zero: whether the memory is to read as zero; becomes whether it does. */
static void *alloc_run(size_t size, bool *zero)
{
	bool wants_zero = *zero;
	struct pcp *pcp;
	void *p = NULL;

	if (unlikely(heap_in_copy)) {
		*zero = true;
		return huge_alloc(size, 1);
	}
	pcp = heap_pcp();
	do_what_is_due(true);
	p = early_large(size);
	if (unlikely(p != NULL)) {
		*zero = true;
		return counted(p);
	}
	/* A thread that counts found no bin. */
	if (unlikely(tally_is_on()) && size <= LARGE_BIN_PAGES * PG_BYTES)
		p = heap_alloc_binned(heap_own(), size);
	if (p)
		*zero = false;
	else if (size <= LARGE_MAX)
		p = large_alloc(pcp, size, 1, zero);
	if (unlikely(!p) && arena_takes(size, 1)) {
		*zero = false; /* the arena reuses memory */
		p = emergency_alloc(size, 1);
	}
	if (!p) {
		*zero = wants_zero;
		p = huge_alloc_kept(size, false, zero);
	}
	return counted(likely(p) ? p : alloc_scarce(size, 1, zero));
}

/* *zero: as in alloc_run. */
static void *alloc_large(size_t size, bool *zero)
{
	void *p = size <= LARGE_BIN_PAGES * PG_BYTES ? heap_alloc_binned(heap_self, size) : NULL;

	if (unlikely(!p))
		return alloc_run(size, zero);
	*zero = false;
	return p;
}

void *heap_alloc_large(size_t size)
{
	bool zero = false;

	if (unlikely(heap_hooks != NULL))
		/* cppcheck-suppress returnDanglingLifetime */
		return heap_hooks->alloc(size, 1, &zero);
	return alloc_large(size, &zero);
}

void *heap_alloc_run(size_t size)
{
	bool zero = false;

	if (unlikely(heap_hooks != NULL))
		/* cppcheck-suppress returnDanglingLifetime */
		return heap_hooks->alloc(size, 1, &zero);
	return alloc_run(size, &zero);
}

void *heap_alloc_large_zero(size_t size, bool *zero)
{
	*zero = true;
	if (unlikely(heap_hooks != NULL))
		return heap_hooks->alloc(size, 1, zero);
	return alloc_large(size, zero);
}

/* The run is aligned by itself. size: not 0. */
static void *alloc_aligned_large(size_t size, size_t align, bool *zero)
{
	void *p = NULL;

	if (size <= LARGE_MAX && align <= LARGE_MAX && likely(!heap_in_copy))
		p = large_alloc(heap_pcp(), size, align, zero);
	if (unlikely(!p)) {
		*zero = false;
		p = emergency_alloc(size, align);
	}
	if (unlikely(!p) && likely(!heap_in_copy))
		p = alloc_scarce(size, align, zero);
	return counted(p);
}

void *heap_plain_alloc(size_t size, size_t align, bool *zero)
{
	if (align <= PG_BYTES && size <= SMALL_MAX) {
		*zero = false;
		return alloc_plain(align_up(max_size(size, 1), align));
	}
	return align <= ALIGN_MIN ? alloc_large(size, zero)
				  : alloc_aligned_large(max_size(size, 1), align, zero);
}

void *heap_calloc_slow(size_t size)
{
	bool zero = false;
	void *p = unlikely(heap_hooks != NULL) ? heap_hooks->alloc(size, 1, &zero)
					       : heap_alloc_again(size);

	if (!p || zero || zero_owns(p))
		return p;
	/* Each other path of a call gives the full size of the class. */
	return memset(p, 0,
		      heap_hooks || guarded_owns(p) ? heap_usable(p)
						    : class_size(class_of(max_size(size, 1))));
}

void *heap_alloc_aligned(size_t size, size_t align)
{
	bool zero = false;

	if (unlikely(heap_hooks != NULL))
		/* cppcheck-suppress returnDanglingLifetime */
		return heap_hooks->alloc(size, align, &zero);
	/* All objects of the class of a multiple of align are aligned to align, because slabs begin
	 * at a page. The class sizes within a doubling are multiples of one power of two. Either
	 * that is a multiple of align, or the class size is exactly the multiple asked for. */
	if (align <= PG_BYTES && size <= SMALL_MAX)
		return heap_alloc_small(align_up(max_size(size, 1), align));
	return alloc_aligned_large(max_size(size, 1), align, &zero);
}

/* ---- free -------------------------------------------------------------------------------- */

void heap_adopt(struct page *pg, unsigned cls)
{
	struct heap *h;

	lock_call_begins();
	if (!slab_pool_adopt(pg, cls))
		return;
	h = heap_call_begin(true);
	/* A thread that allocates nothing of the class leaves the slab to one that does. */
	if (!h || !h->current[cls]) {
		if (h)
			heap_call_end(h);
		slab_return(heap_pcp_self(), pg);
		return;
	}
	heap_attach(h, pg);
	heap_call_end(h);
}

/* Free by a call that can use no heap: one atomic operation for the object. */
static void free_remote(struct page *pg, struct object *o)
{
	unsigned cls = pg->cls; /* read before the free: afterwards pg may be another slab */

	mark_set(o, mark_base(pg));
	switch (slab_free_remote(pg, o, o, 1)) {
	case SLAB_POST:
		heap_post(pg);
		break;
	case SLAB_ADOPT:
		heap_adopt(pg, cls);
		break;
	case SLAB_PUT:
		break;
	}
}

static void due_adopt(const struct due_list *d)
{
	for (unsigned i = 0; i < d->n; i++)
		heap_adopt(d->due[i].pg, d->due[i].cls);
}

static void free_large(struct page *pg)
{
	large_unmake(pg);
	if (!longrun_put(pg))
		pcp_free(heap_pcp(), pg);
	else if (unlikely(buddy_after_free != NULL))
		buddy_after_free(&zone_main);
}

/* Free an object that must not go into a bin, or for which making room there takes more than
 * heap_free_full does. */
static void free_object(struct page *pg, void *p)
{
	heap_check_object(p, pg);
	heap_free_checked(pg, p);
}

void heap_free_checked(struct page *pg, void *p)
{
	struct due_list d;
	unsigned cls = pg->cls;
	unsigned kind = page_kind(pg);
	struct heap *h;
	struct cache_bin *b;
	bool early;

	d.n = 0;
	h = heap_call_begin(true);
	/* After that: it may have trimmed or aged the bin that holds the block since its first
	 * free. */
	if (unlikely(page_kind(pg) != kind || (kind == PAGE_SLAB && mark_is_set(p, mark_base(pg)))))
		heap_freed_twice(p, pg);
	if (unlikely(!h)) {
		if (page_kind(pg) == PAGE_SLAB)
			free_remote(pg, p);
		else if (heap_released_run(pg))
			free_large(pg);
		return;
	}
	b = &h->bin[cls];
	/* The bottom holds NULL; below it lies another bin, so b->top[-1] is read only if *b->top
	 * is an object. */
	early = h->looks && cls < CLASSES;
	if (unlikely(*b->top == p || (*b->top && b->top[-1] == p)) ||
	    unlikely(early && bin_look(h, cls, p)))
		heap_freed_twice(p, pg);
	if (unlikely(heap_hooks != NULL)) {
		quarantine_put(h, pg, p, &d);
	} else if (unlikely(heap_sampling) && page_kind(pg) == PAGE_SLAB) {
		sampler_put(h, pg, p, &d);
	} else if (unlikely(early) && page_kind(pg) == PAGE_SLAB) {
		early_put(h, pg, p, &d);
	} else if (!heap_free_foreign(h, pg, p, &d)) {
		if (!bin_space(b))
			heap_bin_room(h, cls, &d);
		*++b->top = p;
	}
	heap_call_end(h);
	due_adopt(&d);
}

/* In the critical section of h, which it leaves: no place for the object is made in few steps. */
static noinline void free_misses(struct object *o, struct heap *h)
{
	leave(h);
	heap_free_slow(o);
}

/* The object is in, and what the spill that made room for it has left is to be done. */
static noinline void free_ends(struct heap *h, const struct due_list *d)
{
	int saved = errno;

	heap_exit_free(h);
	due_adopt(d);
	errno = saved;
}

noinline void heap_free_full(struct object *o, struct heap *h, struct cache_bin *b)
{
	unsigned cls = (unsigned)(b - h->bin);
	struct due_list d;
	bool room = false;

	if (unlikely(heap_hooks != NULL)) {
		heap_hooks->free_entered(o, h, b);
		return;
	}
	d.n = 0;
	heap_work_begin(true, false);
	if (likely(cls < CLASSES))
		room = likely(heap_goes_past(h)) && heap_bin_spill(h, cls, &d);
	else if (cls >= BINS)
		room = sampler_makes_room(h, b);
	if (unlikely(!room)) {
		free_misses(o, h);
		return;
	}
	heap_work_begin(false, false);
	*++b->top = o;
	if (likely(!h->release) && likely(!d.n))
		heap_exit(h);
	else
		free_ends(h, &d);
}

noinline void heap_free_slow(void *p)
{
	int saved = errno;

	if (!p)
		return;
	do_what_is_due(false);
	if (unlikely(heap_in_copy)) {
		huge_free(p);
		return;
	}
	tally_free(p);
	if (unlikely(heap_hooks != NULL))
		heap_hooks->free(p);
	else
		heap_plain_free(p);
	errno = saved;
}

void heap_plain_free(void *p)
{
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;

	if (unlikely(heap_sampling))
		sampler_freed(pg, p);
	if (pg && (page_kind(pg) == PAGE_SLAB ||
		   (page_kind(pg) == PAGE_LARGE && (slab_carved_bytes(pg) || heap_hooks)))) {
		free_object(pg, p);
	} else if (pg && page_kind(pg) == PAGE_LARGE) {
		large_check(pg, p);
		free_large(pg);
	} else if (unlikely(guarded_owns(p))) {
		guarded_free(p);
	} else if (unlikely(zero_owns(p))) {
		zero_free(p);
	} else if (!huge_free(p) && !arena_free(p)) {
		if (arena_covers(p))
			sluice_fatal("block freed twice, or not at its start: address %p", p);
		if (pg)
			heap_bad_free(p, pg);
		huge_stop("free", "", p);
	} else if (unlikely(buddy_after_free != NULL)) {
		buddy_after_free(&zone_main); /* less is in use */
	}
}
