/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_size.c - how large a block is, or would be, and whether it was freed lately.
 * Used by the other files of the heap, tally, shim; uses guarded, huge, arena, large, profile.
 *
 * No lock, allocates nothing. A pointer that is none of ours, or to the middle of a block, stops
 * the program. Signal handlers and fork children: at any time.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_size.h"

#include "heap/arena.h"
#include "heap/guarded.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "heap/huge.h"
#include "heap/profile.h"
#include "heap/zero.h"

#include "base/check.h"
#include "os/vm.h"

static noinline _Noreturn void size_of_middle(const void *p, const struct page *pg)
{
	if (page_kind(pg) == PAGE_LARGE)
		sluice_fatal("size asked of the middle of a large block: address %p, block %p (%zu "
			     "bytes)",
			     p, (void *)page_address(pg), large_usable(pg));
	sluice_fatal("size asked of the middle of an object: address %p, size class %u (%u bytes)",
		     p, pg->cls, (unsigned)class_size(pg->cls));
}

static size_t large_bytes(const void *p, const struct page *pg)
{
	size_t n = pg->list == LIST_SAMPLED ? profile_bytes(p) : 0;

	return n ? n : large_usable(pg);
}

static size_t mapped_bytes(const void *p)
{
	size_t n = huge_usable(p);

	return n ? n : arena_usable(p);
}

size_t heap_bytes_at(const void *p)
{
	const struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;

	if (pg && page_kind(pg) == PAGE_SLAB)
		return class_size(pg->cls);
	if (pg && page_kind(pg) == PAGE_LARGE)
		return large_bytes(p, pg);
	if (unlikely(guarded_owns(p)))
		return guarded_in_use(p) ? guarded_usable(p) : 0;
	return mapped_bytes(p);
}

size_t heap_plain_usable(void *p)
{
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;
	size_t n;

	if (pg && page_kind(pg) == PAGE_SLAB && slab_carved_bytes(pg)) {
		size_t off = (size_t)((char *)p - page_address(pg));

		if (unlikely(off >= slab_carved_bytes(pg) || !class_divides(pg->cls, off)))
			size_of_middle(p, pg);
		heap_check_lately("size asked", p, pg);
		return class_size(pg->cls);
	}
	if (pg && page_kind(pg) == PAGE_LARGE) {
		if (unlikely(p != page_address(pg)))
			size_of_middle(p, pg);
		return large_bytes(p, pg);
	}
	if (unlikely(guarded_owns(p)))
		return guarded_usable(p);
	if (unlikely(zero_owns(p))) {
		zero_check(p);
		return 0;
	}
	n = mapped_bytes(p);
	if (!n)
		huge_stop("size asked", " or was freed", p);
	return n;
}

bool heap_owns(const void *p)
{
	return pagemap_ours(p) || huge_usable(p) || arena_covers(p) || guarded_owns(p) ||
	       zero_owns(p);
}

size_t heap_usable(void *p)
{
	return unlikely(heap_hooks != NULL) ? heap_hooks->usable(p) : heap_plain_usable(p);
}

bool heap_fits(void *p, size_t size)
{
	size_t old;

	if (unlikely(heap_hooks != NULL))
		return heap_hooks->resize(p, size);
	old = heap_plain_usable(p);
	return size <= old && size > old / 2;
}

size_t heap_good_size(size_t size, size_t align)
{
	return unlikely(heap_hooks != NULL) ? heap_hooks->good_size(size, align)
					    : heap_plain_good_size(size, align);
}

size_t heap_plain_good_size(size_t size, size_t align)
{
	size_t pages = (size + PG_BYTES - 1) >> PG_SHIFT;

	if (guarded_bytes)
		return size;
	if (!size && align <= ALIGN_MIN && zero_has_area())
		return 0;
	if (size <= SMALL_MAX && align <= PG_BYTES)
		return class_size(class_of(align_up(max_size(size, 1), align)));
	if (size > LARGE_MAX || align > LARGE_MAX)
		return align_up(size, vm_os_page);
	if (pages <= PCP_RUN_MAX && align <= PG_BYTES)
		pages = run_class_pages[run_class_of((uint32_t)pages)];
	return pages << PG_SHIFT;
}

/* ---- frees that tell a size ----------------------------------------------------------------- */

static _Atomic bool shrinks_failed; /* relaxed: who frees p has it from that realloc */

noinline void *heap_shrunk_in_place(void *p)
{
	atomic_store_explicit(&shrinks_failed, true, memory_order_relaxed);
	return p;
}

/* realloc leaves an object where more than half of it is used. */
static bool small_suits(const struct page *pg, size_t size, size_t align, bool exact)
{
	size_t full = align_up(max_size(size, 1), align);

	if (align <= PG_BYTES && full <= SMALL_MAX && class_of(full) == pg->cls)
		return true;
	return !exact && size <= class_size(pg->cls) && size > class_size(pg->cls) / 2;
}

/* A run has what rounding up and realloc have added. realloc leaves a run that shrinks to more than
 * PG_BYTES / 2. */
static bool large_suits(size_t size, size_t align, size_t have, bool exact)
{
	return size <= have && (size > (exact ? SMALL_MAX : PG_BYTES / 2) || align > PG_BYTES);
}

static bool size_suits(const void *p, size_t size, size_t align, bool exact, size_t *have)
{
	const struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;

	if (pg && page_kind(pg) == PAGE_SLAB) {
		size_t off = (size_t)((const char *)p - page_address(pg));

		*have = class_size(pg->cls);
		return off >= slab_carved_bytes(pg) || !class_divides(pg->cls, off) ||
		       small_suits(pg, size, align, exact);
	}
	if (pg && page_kind(pg) == PAGE_LARGE) {
		*have = large_usable(pg);
		return p != page_address(pg) || pg->list == LIST_SAMPLED ||
		       large_suits(size, align, *have, exact);
	}
	*have = heap_bytes_at(p);
	if (zero_owns(p))
		return size <= 1;
	/* One that no region had room for has a mapping of its own, however small it is. */
	return size <= *have || !*have;
}

noinline void heap_check_size(void *p, size_t size, size_t align, bool exact)
{
	size_t have;

	if (!p || heap_in_copy)
		return;
	if (heap_hooks)
		heap_hooks->check_size(p, size, align);
	else if (!exact && atomic_load_explicit(&shrinks_failed, memory_order_relaxed))
		return;
	else if (unlikely(!size_suits(p, size, align <= ALIGN_MIN ? 1 : align, exact, &have)))
		sluice_fatal("free with a wrong size (%zu instead of %zu bytes): address %p", size,
			     have, p);
}

noinline void heap_free_other_size(void *p, size_t size)
{
	heap_check_size(p, size, 1, true);
	heap_free(p);
}

/* ---- blocks that were freed and are used again -------------------------------------------- */

_Noreturn void heap_popped_twice(struct object *o)
{
	heap_freed_twice(o, page_of(o));
}

static noinline _Noreturn void used_freed(const char *what, const void *p, const struct page *pg)
{
	sluice_fatal("%s of an object that was freed: address %p, size class %u (%u bytes)", what,
		     p, pg->cls, (unsigned)class_size(pg->cls));
}

/* The same comparisons as those of the heap's next free. */
void heap_check_lately(const char *what, void *p, const struct page *pg)
{
	struct heap *h = heap_own();
	bool found;

	if (unlikely(!heap_enter(h)))
		return;
	found = bin_would_find(h, p, pg);
	heap_exit(h);
	if (unlikely(found))
		used_freed(what, p, pg);
}

void *heap_in_place(void *p, const struct page *pg)
{
	if (unlikely(mark_is_set(p, mark_base(pg))))
		used_freed("realloc", p, pg);
	heap_check_lately("realloc", p, pg);
	return p;
}
