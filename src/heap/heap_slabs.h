/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_slabs.h - the cache bins and the slabs of a heap: what is done in its critical section.
 *
 * The caller of each function is in the critical section of h, or has claimed it, or (fallback
 * heap) holds its lock, unless it says otherwise.
 */
#ifndef SLUICE_HEAP_SLABS_H
#define SLUICE_HEAP_SLABS_H

#include "base/options.h"
#include "base/park.h"
#include "heap/cache_bin.h"
#include "heap/critical.h"
#include "heap/heap_types.h"
#include "heap/heap_work.h"

/* In the critical section: if the heap was drained, it holds something to drain again. */
static inline void heap_touched(struct heap *h)
{
	if (unlikely(atomic_load_explicit(&h->drained, memory_order_relaxed))) {
		atomic_store_explicit(&h->drained, 0, memory_order_relaxed);
		atomic_store_explicit(&h->bins_purged, 0, memory_order_relaxed);
		park_wake();
	}
}

/* In the critical section: the runs of slabs that were released in it, linked by stack_next. They
 * are freed after it. */
static inline struct page *heap_take_released(struct heap *h)
{
	struct page *pg = h->release;

	h->release = NULL;
	return pg;
}

/* Hardened: after the critical section, what quarantine_show is to see; NULL otherwise. */
extern struct page *(*heap_released_hook)(struct page *released);

static inline struct page *heap_released(struct page *released)
{
	return likely(!heap_released_hook) ? released : heap_released_hook(released);
}

/* The same for one. Returns whether it may be used again. */
static inline bool heap_released_run(struct page *pg)
{
	pg->stack_next = NULL;
	return heap_released(pg) != NULL;
}

/* Adoptions that frees in a critical section have left to be done after it. */
struct due_list {
	struct outbox_adopt due[BIN_STEP];
	unsigned n;
};

/* A slab in limbo becomes the heap's. */
void heap_attach(struct heap *h, struct page *pg);

/* The next slab of cls will be read soon, if pg, the current one, has no freed objects left. */
static always_inline void slab_prefetch_next(struct heap *h, const struct page *pg, unsigned cls)
{
	if (unlikely(!slab_held(pg)->free)) {
		const struct page *next = h->partial[cls].first;

		__builtin_prefetch(next, 1);
		__builtin_prefetch(next + 1, 1);
	}
}

/* Put objects into the empty bin of cls without asking for pages. Returns false if the heap has
 * none. */
bool heap_refill(struct heap *h, unsigned cls);

/* The slab that the next objects of cls come from. Returns NULL if the heap has none. open: whether
 * the inbox may be opened before a slab is carved. */
struct page *heap_current_slab(struct heap *h, unsigned cls, bool open);

/* The heap has a current slab of cls: another one, which is partial, becomes it. */
void heap_change_current(struct heap *h, unsigned cls, struct page *next);

/* Bytes of a block of that slab, or of that large object. */
static inline size_t block_bytes(const struct page *pg)
{
	return page_kind(pg) == PAGE_SLAB ? class_size(pg->cls) : large_usable(pg);
}

/* The block goes to its slab, the outbox or the pcp. */
void heap_free_to_slab(struct heap *h, void *p, struct due_list *d);

/* The same for n objects of one class, for which the due list has room. */
void heap_free_some(struct heap *h, struct object **o, unsigned n, struct due_list *d);

/* Make room in the full bin of cls: more places, or a few objects go to their slabs. */
void heap_bin_room(struct heap *h, unsigned cls, struct due_list *d);

/* The same for a size class, without what may take long, if the bin has all its places. d: NULL if
 * no adoption may be left to do; then only what needs none leaves. Returns false if nothing was
 * done. */
bool heap_bin_spill(struct heap *h, unsigned cls, struct due_list *d);

/* More room in a bin that has some: more places, or, if half of them are taken, as above. Returns
 * false if nothing was done. */
bool heap_bin_ease(struct heap *h, unsigned cls);

/*
 * Send the object to its slab if another heap owns that and the bin of its class has no room yet.
 * Returns false if it was not sent. So a thread that frees a few objects of another thread does not
 * get them back by its next malloc, while other threads write to the same cache lines.
 */
bool heap_free_foreign(struct heap *h, struct page *pg, struct object *o, struct due_list *d);

/* Any thread: put a slab whose POSTED flag it has set into its owner's inbox. */
void heap_post(struct page *pg);

/* The same for slabs that a flush of an outbox posted, linked by stack_next. */
void heap_post_all(struct page *posted);

/* Open some of the slabs that were posted. Returns false if there are none. */
bool heap_open_inbox(struct heap *h);

/* Release a slab that is on no list: its run goes to the pcp after the critical section. */
void heap_release_slab(struct heap *h, struct page *pg);

/* Put a slab on the list of full ones, though it may have room: one that could not be abandoned. */
void heap_full_add(struct heap *h, struct page *pg);

/* For a heap that needs a slab of cls: whether it has just filled one, of objects so small that
 * handing them out writes each page of the kernel's (FENCE_OBJECT). So the first slab of a class
 * does not count: a thread may use a few of its objects. */
static inline bool heap_fills_slabs(const struct heap *h, unsigned cls)
{
	return class_size(cls) <= FENCE_OBJECT && h->full.first && h->full.first->cls == cls;
}

/* The n objects of a bin that were freed last go to their slabs, n being at least 1. */
void heap_bin_flush(struct heap *h, unsigned cls, unsigned n, struct due_list *d);

/* Any thread: stops the program unless p is the start of an object of pg that was handed out. */
void heap_check_object(void *p, const struct page *pg);
_Noreturn void heap_bad_free(void *p, const struct page *pg);
_Noreturn void heap_freed_twice(void *p, const struct page *pg);

/* Outside of critical sections: stops the program if object p is one of the two on top of the
 * calling thread's bin. what: what the program asked for. */
void heap_check_lately(const char *what, void *p, const struct page *pg);

/* Object p stays where it is at a realloc. Returns p. Stops the program if it is one of these two,
 * or on a list of its slab. */
void *heap_in_place(void *p, const struct page *pg);

/* The calling thread's bins: stops the program if an object in them was freed twice. For its
 * end. */
void heap_check_bins(void);

/* Debug: the calling thread's heap, or all that it can know of it. */
void heap_check(void);

#endif
