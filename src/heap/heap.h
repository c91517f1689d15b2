/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.h - a thread's heap: what malloc and free are made of.
 */
#ifndef SLUICE_HEAP_H
#define SLUICE_HEAP_H

#include <string.h>

#include "heap/cache_bin.h"
#include "heap/critical.h"
#include "heap/heap_slabs.h"
#include "heap/heap_thread.h"
#include "heap/heap_types.h"
#include "heap/sizeclass.h"
#include "page/pagemap.h"
#include "types.h"

/*
 * The slow and the general ways. Sizes are bytes. Return NULL if there is no memory; errno is set
 * by the shim. Any thread, any context: a call that interrupts another one of its own thread is
 * served from the fallback heap or the arena.
 */
void *heap_alloc_slow(size_t size);  /* size <= SMALL_MAX */
void *heap_alloc_large(size_t size); /* size > SMALL_MAX */
void *heap_alloc_run(size_t size);   /* the same, after heap_alloc_binned gave NULL */
/* The same for a call that needs zero memory. *zero becomes whether it reads as zero. */
void *heap_alloc_large_zero(size_t size, bool *zero);
void *heap_alloc_aligned(size_t size, size_t align); /* align: a power of two */
void heap_free_slow(void *p);

/* No hit: the way of heap_alloc_fast, from its start. */
void *heap_alloc_again(size_t size); /* size <= SMALL_MAX */

/* In the critical section of h, which they leave: the bin of the class is empty, or full. slow: as
 * in heap_alloc_fast. heap_alloc_came: the bin has room for TAKE_CAME, and its current slab freed
 * objects. */
void *heap_alloc_refill(size_t size, struct heap *h, unsigned cls, void *(*slow)(size_t));
void *heap_alloc_sampled(size_t size, struct heap *h, unsigned cls, void *(*slow)(size_t));
void *heap_alloc_came(struct heap *h, unsigned cls);
void heap_free_full(struct object *o, struct heap *h, struct cache_bin *b);
void heap_free_far(void *p, struct heap *h); /* p is not near */
_Noreturn void heap_popped_twice(struct object *o);
void *heap_realloc(void *p, size_t size); /* p not NULL, size not 0 */
size_t heap_usable(void *p);

/* Whether a block of the heap may begin at p. Any thread; p may be anything. */
bool heap_owns(const void *p);

/* Try to give the block between size and most bytes where it is. Returns its usable size then. */
size_t heap_resize(void *p, size_t size, size_t most);

/* Whether the block takes the size where it is, of which it wastes at most half then. */
bool heap_fits(void *p, size_t size);

/* What heap_usable returns for a block of that size (up to PTRDIFF_MAX) and alignment. */
size_t heap_good_size(size_t size, size_t align);

/*
 * What a hardened process (harden.c) does instead of the plain functions below; NULL in others. Set
 * when the process has one thread. Zero: set if the memory reads as zero.
 */
struct heap_hooks {
	void *(*alloc)(size_t size, size_t align, bool *zero);
	void (*free)(void *p);
	void *(*realloc)(void *p, size_t size);
	size_t (*usable)(void *p);
	bool (*resize)(void *p, size_t size);
	size_t (*good_size)(size_t size, size_t align);
	void (*check_size)(void *p, size_t size, size_t align);
	/* In the critical section of h, which they leave, when the fast path finds no object, or no
	 * room in bin b for o, which is the start of one. alloc_entered: size <= SMALL_MAX, scaled
	 * as in heap_alloc_fast; slow does it if it takes more. */
	void *(*alloc_entered)(size_t size, struct heap *h, size_t scaled, void *(*slow)(size_t));
	void (*free_entered)(struct object *o, struct heap *h, struct cache_bin *b);
};
extern hidden_data const struct heap_hooks *heap_hooks;
void *heap_plain_alloc(size_t size, size_t align, bool *zero);
void heap_plain_free(void *p);
void heap_free_checked(struct page *pg, void *p); /* the start of a block that is in use */
void *heap_plain_realloc(void *p, size_t size);
/* p, or NULL: a large object or a mapping that calls of the family made. Returns p. */
void *heap_counted(void *p);
size_t heap_plain_usable(void *p);
bool heap_resize_large(struct page *pg, void *p, size_t size); /* in place, if that is possible */
size_t heap_plain_good_size(size_t size, size_t align);

/* Copy a block of `old` bytes to a new one, and free it. Returns NULL if there is no memory; the
 * block is unchanged then. */
void *heap_move(void *p, size_t old, size_t size);

/* For calloc when heap_alloc_hit returns NULL; size <= SMALL_MAX. All usable bytes are zero. */
void *heap_calloc_slow(size_t size);

/* What a realloc returns that has no memory for a shorter block, since shrinking cannot fail: p,
 * which has more than its size tells. From then on such sizes are not checked. */
void *heap_shrunk_in_place(void *p);

/*
 * Stops the program if p cannot have been allocated with this size. A hardened process with
 * check_sizes knows more about it. align: 1 if unknown. exact: whether no realloc can have changed
 * the block, as of C++'s operators; then a small one has the class of the size. What is no block in
 * use is left to the free that follows.
 */
void heap_check_size(void *p, size_t size, size_t align, bool exact);

/* Whether the functions that free and are told a size call it. */
static inline bool heap_checks_sizes(void)
{
	return likely(options.check_classes) || unlikely(options.check_sizes);
}

/* What heap_free_sized does not do itself: checks the size, then frees. */
void heap_free_other_size(void *p, size_t size);

/* Adopt an abandoned slab of the class that was freed into. Outside of critical sections. */
void heap_adopt(struct page *pg, unsigned cls);

/* What to try when there is no memory, before giving up; set by reclaim. */
extern bool (*heap_reclaim)(void);

/* Changes as a fork begins and as it ends; odd meanwhile. */
static inline uint32_t heap_forks(void)
{
	return atomic_load_explicit(&lock_forking, memory_order_relaxed);
}

/* heap_reclaim for a call that got no memory since heap_forks gave `forks`. If a fork had the locks
 * since then, memory need not be short, and the walk over all heaps would cost each call of each
 * thread milliseconds; the arena serves them. */
static inline bool heap_reclaimed(uint32_t forks)
{
	return !(forks & 1) && heap_forks() == forks && heap_reclaim && heap_reclaim();
}

/* ---- the fast paths ---------------------------------------------------------------------- */

/* size: up to SMALL_MAX. slow: what allocates outside of the critical section; next: what does so
 * if the bin is empty, and leaves the critical section. */
static always_inline void *heap_alloc_fast(size_t size, void *(*slow)(size_t),
					   void *(*next)(size_t, struct heap *, size_t))
{
	size_t scaled = class_scaled(size);
	struct heap *h = heap_self;
	struct cache_bin *b = bin_at(h, scaled);
	struct object **top;
	struct object *o;

	if (unlikely(!heap_enter(h)))
		return slow(size);
	top = b->top;
	o = *top;
	IS_RESULT(o);
	if (unlikely(!o))
		return next(size, h, scaled);
	b->top = top - 1;
	heap_exit(h);
	return o;
}

/* In the critical section of h, which it leaves: what is in the bin, or NULL. */
static always_inline void *heap_pop(struct heap *h, struct cache_bin *b)
{
	struct object **top = b->top;
	struct object *o = *top;

	if (likely(o != NULL))
		b->top = top - 1;
	heap_exit(h);
	return o;
}

/* What is in the bin, or NULL. size: up to SMALL_MAX. */
static always_inline void *heap_alloc_hit(size_t size)
{
	struct heap *h = heap_self;
	struct cache_bin *b = bin_at(h, class_scaled(size));

	return likely(heap_enter(h)) ? heap_pop(h, b) : NULL;
}

/* size: up to SMALL_MAX. */
static always_inline void *heap_alloc_small(size_t size)
{
	void *p = heap_alloc_hit(size);

	return likely(p != NULL) ? p : heap_alloc_again(size);
}

/*
 * Whether this call may move one object between the program and its slab, past a bin that is empty
 * or full and leaves it so. Every DIRECT_CALLS-th call does not, because the general way also does
 * what others have asked of the heap, and ages its bins. An odd number: where mallocs and frees
 * take turns, both take the general way.
 */
static always_inline bool heap_goes_past(struct heap *h)
{
	if (likely(h->direct_left != 0)) {
		h->direct_left--;
		return true;
	}
	h->direct_left = DIRECT_CALLS - 1;
	return false;
}

/*
 * pg, the current slab of cls, has freed objects, and the bin is empty and has room for most: take
 * the one that was freed last, which is the only cold cache line, and up to most - 1 for the bin.
 * In the critical section of h, which it leaves. near: see slab_take_freed; most is TAKE_NEAR then.
 */
static always_inline void *heap_take_freed(struct heap *h, unsigned cls, struct page *pg,
					   unsigned most, bool near)
{
	struct cache_bin *b = &h->bin[cls];
	struct object **bottom = b->top;
	struct object **end = bottom + 1 + most;
	unsigned got = slab_take_freed(pg, end, most, near);
	struct object *o = end[-1];

	/* In the order of the list, in which runs of addresses stay together. */
	if (got < most && got > 1) {
		if (!near)
			memmove(bottom + 1, end - got, (got - 1) * sizeof(struct object *));
		else if (got == TAKE_NEAR - 1)
			bottom[1] = bottom[2];
		if (near)
			bottom[got - 1] = bottom[TAKE_NEAR - 1];
	}
	b->top = bottom + got - 1;
	slab_prefetch_next(h, pg, cls);
	h->idle_rounds[cls] = 0;
	heap_exit(h);
	return o;
}

/*
 * The bin of the scaled class is empty. In the critical section of h, which it leaves: what takes
 * few steps; else slow(size) does it. Not in a hardened process.
 */
static always_inline void *heap_alloc_freed(size_t size, struct heap *h, size_t scaled,
					    void *(*slow)(size_t))
{
	unsigned cls = (unsigned)scaled / CLASS_SCALE;
	struct cache_bin *b = bin_at(h, scaled);
	unsigned space = bin_space(b);
	struct page *pg;

	if (unlikely(space < TAKE_NEAR) || unlikely(!heap_goes_past(h))) {
		if (unlikely(heap_sampling))
			return heap_alloc_sampled(size, h, cls, slow);
		heap_exit(h);
		return slow(size);
	}
	bin_refilled(h, cls);
	pg = h->current[cls];
	if (unlikely(!pg) || unlikely(!slab_held(pg)->free))
		return heap_alloc_refill(size, h, cls, slow);
	if (slab_holes(pg)->came >= TAKE_CAME && likely(space >= TAKE_CAME))
		return heap_alloc_came(h, cls);
	return heap_take_freed(h, cls, pg, TAKE_NEAR, true);
}

/* size: above SMALL_MAX, up to LARGE_BIN_PAGES pages. NULL: the bin is empty, or take the slow
 * path. Checks that the object is in the bin once, because the free did not. */
static always_inline void *heap_alloc_binned(struct heap *h, size_t size)
{
	struct cache_bin *b = &h->bin[large_bin(size)];
	struct object *o;

	if (unlikely(!heap_enter(h)))
		return NULL;
	o = *b->top;
	if (o) {
		for (struct object **at = --b->top; *at; at--) {
			if (unlikely(*at == o))
				heap_popped_twice(o);
		}
	}
	heap_exit(h);
	return o;
}

static always_inline void *heap_alloc(size_t size)
{
	return likely(size <= SMALL_MAX) ? heap_alloc_small(size) : heap_alloc_large(size);
}

/* In the critical section of h, which it leaves: p, the start of an object that goes into bin b. A
 * second free is noticed here if the object is one of the two on top of the bin (below an empty bin
 * lies another bin, as the slow path knows), otherwise where marks are checked. */
static always_inline void heap_push(void *p, struct heap *h, struct cache_bin *b)
{
	struct object *o = p;
	struct object **top = b->top;

	if (unlikely(*top == o) || unlikely(top[-1] == o)) {
		heap_exit(h);
		heap_free_slow(p);
		return;
	}
	if (unlikely((uint32_t)(uintptr_t)top == b->limit)) {
		heap_free_full(o, h, b);
		return;
	}
	/* For its link and its mark, if it is flushed: it may not have been touched for long. */
	__builtin_prefetch(o, 1);
	top[1] = o;
	b->top = top + 1;
	heap_exit(h);
}

/* Whether the offset is no start of an object of bin b: see class_divides. */
static always_inline bool bin_misses(const struct cache_bin *b, uint32_t offset)
{
	uint32_t product = offset * b->divisor;
#if LOADS_AND_USES
	bool misses;

	__asm__("cmpl %2, %1" : "=@ccae"(misses) : "r"(product), "m"(b->divisor));
	return misses;
#else
	return product >= b->divisor;
#endif
}

/* In the critical section of h, which it leaves: p lies in the run that begins `first` bytes after
 * the start of r, and goes into bin b. Whose slab it is does not matter here: the bin takes objects
 * of any. at: how far behind the start of r p is. */
static always_inline void heap_free_into(void *p, struct heap *h, struct region *r, uint32_t at,
					 uint32_t first, struct cache_bin *b)
{
	/* If p lies in front of the run this wraps, to at least 2^32 less a region. */
	uint32_t offset = at - first;

	/* A large object that cache bins take looks like a slab with one object of 16 bytes. For
	 * all else nothing is carved, and the bin that cls names is not used. The middle of an
	 * object, aligned or not, is no multiple of the size. */
	if (unlikely(!head_is_carved(r, first, offset)) || unlikely(bin_misses(b, offset))) {
		heap_exit(h);
		heap_free_slow(p);
		return;
	}
	heap_push(p, h, b);
}

/* Whether p is known to lie in a region of ours. In the critical section of h. */
static always_inline bool heap_is_near(const struct heap *h, const void *p)
{
	return likely((uintptr_t)p - h->near < h->near_bytes);
}

static always_inline void heap_free(void *p)
{
	struct heap *h = heap_self;
	uint32_t at = (uint32_t)(uintptr_t)p & (uint32_t)(REGION_BYTES - 1);
	struct region *r = region_of(p);
	uint32_t head;

	if (unlikely(!heap_enter(h))) {
		heap_free_slow(p);
		return;
	}
	if (unlikely(!heap_is_near(h, p))) {
		heap_free_far(p, h);
		return;
	}
	head = r->head[at >> PG_SHIFT];
	heap_free_into(p, h, r, at, head & ~HEAD_NOTE, bin_at(h, head & HEAD_NOTE));
}

/* The same for a caller that knows the size that was asked for when p was allocated. If the head
 * names another class, heap_free_other_size looks whether that can be. */
static always_inline void heap_free_sized(void *p, size_t size)
{
	struct heap *h = heap_self;
	struct region *r;
	size_t scaled;
	uint32_t head;
	uint32_t at;

	if (unlikely(size > CLASS_TABLE_MAX) || unlikely(!heap_enter(h))) {
		heap_free_other_size(p, size);
		return;
	}
	scaled = class_scaled(size);
	r = region_of(p);
	at = (uint32_t)(uintptr_t)p & (uint32_t)(REGION_BYTES - 1);
	if (unlikely(!heap_is_near(h, p)) ||
	    unlikely(((head = r->head[at >> PG_SHIFT]) & HEAD_NOTE) != scaled)) {
		heap_exit(h);
		heap_free_other_size(p, size);
		return;
	}
	heap_free_into(p, h, r, at, head & ~HEAD_NOTE, bin_at(h, scaled));
}

#endif
