/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * early.c - see early.h. Used by heap; uses quarantine, heap_slabs, huge.
 *
 * Most programs and threads free few objects, and misuse that is noticed there is no cost for those
 * that free many. So the first HEAP_LOOKS frees of a heap put nothing into cache bins.
 *
 * (A) Objects of up to EARLY_OBJECT bytes of the heap's own slabs are filled with zeros and kept in
 *     its quarantine: at most EARLY_BLOCKS, at most EARLY_BYTES, and never more than there are such
 *     frees left. So after the last of them none is kept. When one leaves, it must still be zero.
 * (B) The others, and those that leave, go to their slab or the outbox at once. There they have a
 *     mark, which each free of the first ones of any heap sees.
 * (C) An object that is kept belongs to a slab whose owner keeps it: a heap that gives up slabs has
 *     emptied its quarantine. Its place there is cleared before the object can be handed out. So a
 *     thread that finds the object which it frees in a place has freed it twice.
 * (D) A heap that has such frees left writes links into the objects that refill a bin, and behind
 *     what is carved of their slab, up to FENCED_REFILLS times. Each of these frees looks at the
 *     one behind its object, if that is in the bin, and at the one at the end of its slab, so an
 *     overflow is noticed. Refills of a bin with few places carve no further than the page in which
 *     they begin (slab_fence_fits): a thread that needs few objects has no pages for links alone.
 * (E) The process's first large objects are mappings between guards: huge.c, (F). More of them, and
 *     longer ones, would cost more than that is worth.
 *
 * The caller of early_put is in the heap's critical section, or (fallback heap) holds its lock.
 * Bound: QUARANTINE_STEP objects; bin_keeps reads QUARANTINE_EARLY words at most. No lock. Signal
 * handlers and fork: as the critical section.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/early.h"

#include <string.h>

#include "base/options.h"
#include "base/share.h"
#include "heap/cache_bin.h"
#include "heap/heap_thread.h"
#include "heap/huge.h"
#include "heap/quarantine.h"
#include "os/vm.h"
#include "page/pcp.h"

#define EARLY_BLOCKS 252u
#define EARLY_OBJECT 1024u
#define EARLY_BYTES 32768u
_Static_assert(EARLY_BLOCKS <= QUARANTINE_EARLY, "they find places");
#define EARLY_LARGE_MIN ((size_t)64 << 10)
#define EARLY_LARGE_MAX ((size_t)4 << 20)

static inline bool has_room(const struct heap *h, const struct quarantine *q, size_t bytes)
{
	unsigned most = h->looks < EARLY_BLOCKS ? h->looks : EARLY_BLOCKS;

	return q->count + (bytes != 0) <= most && q->weight + bytes <= EARLY_BYTES;
}

void early_put(struct heap *h, struct page *pg, struct object *o, struct due_list *d)
{
	size_t bytes = class_size(pg->cls);
	struct quarantine *q = quarantine_of(h);
	bool own = atomic_load_explicit(&pg->owner, memory_order_relaxed) == h;
	bool keep = own && bytes <= EARLY_OBJECT && h->looks;

	if (own)
		slab_fence_check_end(pg);
	if (keep && !q)
		q = quarantine_make(h, true);
	if (!q || !keep)
		bytes = 0;
	for (unsigned n = 0; q && q->count && n < QUARANTINE_STEP && !has_room(h, q, bytes); n++)
		quarantine_leaves(h, q, d, LEAVE_CHECKED);
	if (bytes && has_room(h, q, bytes)) {
		memset(o, 0, bytes);
		quarantine_push(q, o, pg->cls);
		quarantine_note(q, o, 1);
		q->weight += bytes;
		return;
	}
	heap_free_to_slab(h, o, d);
	if (q && !q->count)
		quarantine_end(h);
}

void *early_large(size_t size)
{
	static _Atomic uint32_t made;
	uint32_t n;
	size_t limit;

	if (likely(atomic_load_explicit(&made, memory_order_relaxed) >= options.early_guards) ||
	    size < EARLY_LARGE_MIN || size > EARLY_LARGE_MAX || heap_slow_only || options.reserve ||
	    vm_address_limited(&limit))
		return NULL;
	SHARE_COUNT(early_guards);
	if (atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) >= options.early_guards)
		return NULL;
	/* As long as the run would be, which is what nallocx tells. */
	n = (uint32_t)((size + PG_BYTES - 1) >> PG_SHIFT);
	if (n <= PCP_RUN_MAX)
		n = run_class_pages[run_class_of(n)];
	return huge_alloc_early((size_t)n << PG_SHIFT);
}
