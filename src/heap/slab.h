/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab.h - a slab: a run carved into objects of one size class, and its atomic state word.
 *
 * Once the slab has handed out an object, the state word (page.state) changes by CAS only:
 *
 *   bits 63-48  number of objects on the remote list; if it is 0, the next two mean nothing
 *   bits 31-18  last object of the remote list: where it lies in the slab, in units of 16 bytes
 *   bits 17-4   first object of it, likewise
 *   bit  2      POSTED: the slab is in its owner's inbox, on the way there, or in limbo
 *   bits 1-0    0 (not a live slab), OWNED, or ABANDONED
 *
 *   state of the slab   word          remote list   who may change its owner
 *   owned               OWNED         empty         its owner
 *   posted              OWNED POSTED  not empty     nobody, until its owner takes its inbox
 *   limbo               OWNED POSTED, owner NULL    the one thread that took it off its list
 *   abandoned           ABANDONED     any           the holder of the lock of its class's pool
 *   free                0             empty         nobody: no object of it is live
 *
 * A thread holds a slab if it is the owner in its critical section, if it has the slab in limbo, or
 * if the slab is abandoned and the thread holds the lock of its pool.
 *
 * The first remote free after the owner collected the remote list posts the slab; later ones only
 * push. So an owner need not poll its slabs: a slab that is not in its inbox has no remote frees.
 *
 * The objects of a remote list are in other processors' caches. Because the word says where the
 * list ends, the owner puts it in front of its free list without a walk: it reads and writes the
 * link of the last object alone.
 */
#ifndef SLUICE_SLAB_H
#define SLUICE_SLAB_H

#include "base/check.h"
#include "heap/freelist.h"
#include "heap/holes.h"
#include "heap/sizeclass.h"
#include "types.h"

#define STATE_OWNED UINT64_C(1)
#define STATE_ABANDONED UINT64_C(2)
#define STATE_OWN_MASK UINT64_C(3)
#define STATE_POSTED UINT64_C(4)
#define STATE_FLAGS UINT64_C(15)
#define STATE_LIMBO (STATE_OWNED | STATE_POSTED)
#define STATE_COUNT_SHIFT 48

#define STATE_FIRST_SHIFT 4
#define STATE_LAST_SHIFT 18
#define STATE_PLACES (UINT64_C(1) << (STATE_LAST_SHIFT - STATE_FIRST_SHIFT))

static inline unsigned state_count(uint64_t s)
{
	return (unsigned)(s >> STATE_COUNT_SHIFT);
}

/* Whether the slab has a free object besides those on its remote list. */
static inline bool slab_has_room(const struct page *pg)
{
	struct slab_held *held = slab_held(pg);
	return held->free || held->carved < size_classes[pg->cls].objects || slab_in_holes(pg);
}

/* ---- the caller holds the slab ------------------------------------------------------------- */

/* What the heads of a slab's pages say besides the scaled class: to which array of bins free pushes
 * (dealt.h). Set before the second thread. */
extern uint32_t slab_note;

/* Make a run of the class's length a slab in limbo. */
void slab_make(struct page *pg, unsigned cls);

/*
 * Freed objects are usually cold, and each one is found through the one before it. So a call takes
 * up to TAKE_NEAR objects that lie within NEAR_BYTES of each other, and stops at the first that
 * does not; the next one is prefetched for the next call.
 */
#define TAKE_NEAR 4u
#define NEAR_BYTES 4096u

/*
 * What other threads have freed lately is in the cache of a processor rather than in memory. So
 * while the free list has such objects, a call takes TAKE_CAME, wherever they lie. They are not
 * marked: slab_holes.came says how many the slab got when its owner took them, less what was taken
 * since. Inexact if the owner has freed objects of the slab in between.
 */
#define TAKE_CAME 8u

/*
 * Objects that another thread freed lie in the cache of its processor, so reading a link may take
 * longer than all else of the call. Often they follow each other at one step, as they were freed.
 * So the three after `next` are prefetched before their links are read, unless the step is longer
 * than AHEAD_BYTES: then it says little about the next one. So it is from the last one to NULL.
 */
#define AHEAD_BYTES 1024
static always_inline void prefetch_ahead(const struct object *next, ptrdiff_t step)
{
	if ((size_t)step + AHEAD_BYTES > 2 * AHEAD_BYTES)
		return;
	__builtin_prefetch((const char *)next + step, 1);
	__builtin_prefetch((const char *)next + 2 * step, 1);
	__builtin_prefetch((const char *)next + 3 * step, 1);
}

/* The same for the free list of a slab, which is not empty, before objects are taken off it. */
static always_inline void slab_prefetch(const struct page *pg)
{
	const struct object *o = slab_held(pg)->free;
	const struct object *next = link_get(o);

	prefetch_ahead(next, (ptrdiff_t)((uintptr_t)next - (uintptr_t)o));
}

/* Take up to n objects, 1 at least, off the free list, which is not empty, to the places below end:
 * the first one to the highest. near: stops at the first that is far from the one before. Counts
 * them in used. Returns how many. */
static always_inline unsigned slab_take_freed(struct page *pg, struct object **end, unsigned n,
					      bool near)
{
	struct slab_held *held = slab_held(pg);
	struct region *r = region_of(pg);
	uint32_t first = page_first(r, pg);
	uintptr_t start = ((uintptr_t)pg & ~(REGION_BYTES - 1)) + first;
	uint32_t carved = atomic_load_explicit(head_carved(r, first), memory_order_relaxed);
	uint64_t base = mark_base(pg);
	struct object **last = end - n;
	struct object **at = end;
	struct object *o = held->free;
	struct object *next = link_get(o);
	bool is_far;

	for (;;) {
		if (unlikely(!mark_is_set(o, base)))
			freelist_bad_mark(pg, o);
		mark_clear(o);
		*--at = o;
		/* The end of the list, or a link that we did not write. */
		if (unlikely((uintptr_t)next - start >= carved)) {
			if (unlikely(next != NULL))
				freelist_bad_link(pg, o);
			o = NULL;
			break;
		}
		is_far = (uintptr_t)next - (uintptr_t)o + NEAR_BYTES >= 2 * NEAR_BYTES;
		o = next;
		if (at == last || (near && unlikely(is_far)))
			break;
		next = link_get(o);
	}
	held->free = o;
	/* For the next call. */
	__builtin_prefetch(o, 1);
	prefetch_ahead(o, (ptrdiff_t)((uintptr_t)o - (uintptr_t)*at));
	held->used = (int16_t)(held->used + (int)(end - at));
	cold_count((unsigned)(end - at));
	/* The list ends exactly when all carved objects are in use or in holes. */
	if (unlikely((held->used + (int)slab_in_holes(pg) == held->carved) != (o == NULL)))
		freelist_bad_count(pg, *at);
	return (unsigned)(end - at);
}

/* Take up to n objects, 1 at least, to the places below end, from the highest on: first freed ones,
 * then objects in holes, then newly carved ones. near: if there are freed ones, only those, until
 * one is far from the one before. Returns how many. */
unsigned slab_take(struct page *pg, struct object **end, unsigned n, bool near);

/* Move the remote list to the free list, and set the flags to `flags` in the same atomic step.
 * Returns how many objects moved. */
unsigned slab_collect_to(struct page *pg, uint64_t flags);

/* Make an empty slab a run in limbo again, for the pcp or the buddy core. */
void slab_unmake(struct page *pg);

/* Hardened: looks at the free objects of a slab before it is no slab any more; else NULL. */
extern void (*slab_ends)(struct page *pg);

/* ---- any thread -------------------------------------------------------------------------- */

/* Any thread, atomic: frees into abandoned slabs, by class, counted after the free. Never falls. */
struct slab_frees {
	cache_aligned _Atomic uint64_t count;
};
extern struct slab_frees slab_abandoned_frees[CLASSES];

/* Objects on the remote list; others may add to it meanwhile. */
static inline unsigned slab_remote_count(const struct page *pg)
{
	return state_count(atomic_load_explicit(&pg->state, memory_order_relaxed));
}

enum slab_remote {
	SLAB_PUT,   /* done */
	SLAB_POST,  /* this call set POSTED: the caller must put the slab into its owner's inbox */
	SLAB_ADOPT, /* the slab is abandoned: the caller should adopt it (slab_pool_adopt) */
};

/* Push n objects, linked from first to last, on the remote list by one CAS. */
enum slab_remote slab_free_remote(struct page *pg, struct object *first, struct object *last,
				  unsigned n);

/* Debug: check the counting equation of a slab that the caller holds. */
void slab_check(struct page *pg);

/* For walks over a region without a lock: the end of the run or block that begins at page i, which
 * others may change meanwhile. So it is beyond i, and not beyond the region. kind: of page i. What
 * lies inside a block without address space costs no memory until it is read. */
static inline uint32_t region_run_end(const struct region *r, uint32_t i, enum page_kind kind)
{
	const struct page *pg = &r->page[i];
	uint32_t end = __atomic_load_n(&r->pages, __ATOMIC_RELAXED);
	uint32_t pages = 1;

	if (kind == PAGE_SLAB)
		pages = size_classes[pg->cls < CLASSES ? pg->cls : 0].pages;
	else if (kind != PAGE_NONE)
		pages = __atomic_load_n(&pg->npages, __ATOMIC_RELAXED);
	if (end <= i || pages == 0)
		return i + 1;
	return i + (pages < end - i ? pages : end - i);
}

/*
 * A link behind the carved objects of a slab, where the next one is carved, for objects of up to
 * FENCE_OBJECT bytes. It is valid until more is carved or memory behind it is given back. Objects
 * in a cache bin may have links as well: heap_refill. The checks stop the program if a link has
 * changed, because the object in front was written beyond its end.
 */
#define FENCE_OBJECT 1024u
#define FENCE_PAGE 4096u
/* How many of n objects are carved so that the link behind them lies in the page where they begin,
 * at least one. A thread that needs few takes no more at once: no page is touched for links alone.
 */
unsigned slab_fence_fits(const struct page *pg, unsigned n);
void slab_fence_refill(struct page *current, struct object **o, unsigned n);
void slab_fence_check(const struct page *pg, const struct object *behind);
void slab_fence_check_end(struct page *pg);

#endif
