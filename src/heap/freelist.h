/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freelist.h - the free objects of a slab: following their links, and what is said when one is damaged.
 */
#ifndef SLUICE_FREELIST_H
#define SLUICE_FREELIST_H

#include "base/links.h"
#include "page/pagemap.h"
#include "types.h"

static inline uint32_t slab_carved_bytes(const struct page *pg)
{
	return atomic_load_explicit(&pg->carved_bytes, memory_order_relaxed);
}

/* The link of free object o was written over. */
_Noreturn void freelist_bad_link(const struct page *pg, const struct object *o);

/* A free object bears no mark: it was freed again and handed out, or written to. */
_Noreturn void freelist_bad_mark(const struct page *pg, const struct object *o);

/* A list of free objects is longer or shorter than it should be; o: where that was noticed. */
_Noreturn void freelist_bad_count(const struct page *pg, const struct object *o);

/* What o leads to on a list of the slab's free objects; NULL: nothing. Stops the program when the link was
 * written over. */
static inline struct object *freelist_next(const struct page *pg, const struct object *o)
{
	struct object *next = link_get(o);

	if (unlikely((uintptr_t)next - (uintptr_t)page_address(pg) >= slab_carved_bytes(pg)) &&
	    unlikely(next != NULL))
		freelist_bad_link(pg, o);
	return next;
}

#endif
