/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freelist.h - lists of free objects of a slab: following their checked links, and the error lines
 * for damaged ones.
 */
#ifndef SLUICE_FREELIST_H
#define SLUICE_FREELIST_H

#include "base/links.h"
#include "page/pagemap.h"
#include "types.h"

/* Bytes from the slab's start that are carved. Exact for a thread that holds the slab. */
static inline uint32_t slab_carved_bytes(const struct page *pg)
{
	return atomic_load_explicit(&region_of(pg)->carved[page_number(pg)], memory_order_relaxed);
}

/* The caller holds the slab, or owns the run. */
static inline void slab_set_carved(struct page *pg, uint32_t bytes)
{
	atomic_store_explicit(&region_of(pg)->carved[page_number(pg)], bytes, memory_order_relaxed);
}

/* Whether memory of the run that begins `first` bytes after the start of r is carved, offset bytes
 * after its own start. */
static always_inline bool head_is_carved(const struct region *r, uint32_t first, uint32_t offset)
{
	const _Atomic uint32_t *carved = head_carved(r, first);
#if LOADS_AND_USES
	bool below;

	__asm__("cmpl %2, %1"
		: "=@ccb"(below)
		: "r"(offset), "m"(*(const uint32_t *)(uintptr_t)carved));
	return below;
#else
	return offset < atomic_load_explicit(carved, memory_order_relaxed);
#endif
}

/* These stop the program. The link of free object o was overwritten. */
_Noreturn void freelist_bad_link(const struct page *pg, const struct object *o);

/* Free object o has no mark: it was freed twice and handed out since, or written to. */
_Noreturn void freelist_bad_mark(const struct page *pg, const struct object *o);

/* Object o is freed, and is free already. */
_Noreturn void freelist_freed_twice(const struct page *pg, const void *o);

/* A list of free objects is longer or shorter than its count says, which was noticed at o. */
_Noreturn void freelist_bad_count(const struct page *pg, const struct object *o);

/* Whether a block that a bin holds, of that descriptor, is free already: an object on a list of its
 * slab, or a run. */
static inline bool freelist_is_home(const struct object *o, const struct page *pg, bool small)
{
	return small ? mark_is_set(o, mark_base(pg)) : page_kind(pg) != PAGE_LARGE;
}

/* The object after o on a list of free objects of the slab. Returns NULL if o is the last one.
 * Stops the program if the link was overwritten. */
static inline struct object *freelist_next(const struct page *pg, const struct object *o)
{
	struct object *next = link_get(o);

	if (unlikely((uintptr_t)next - (uintptr_t)page_address(pg) >= slab_carved_bytes(pg)) &&
	    unlikely(next != NULL))
		freelist_bad_link(pg, o);
	return next;
}

#endif
