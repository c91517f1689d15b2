/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freelist.c - see freelist.h. Used by slab, holes and heap; uses sizeclass.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/freelist.h"

#include "base/check.h"
#include "heap/sizeclass.h"

_Noreturn void freelist_bad_link(const struct page *pg, const struct object *o)
{
	sluice_fatal("object written to after it was freed, or overrun by the one before it (link "
		     "%p instead of ours): address %p, size class %u (%u bytes)",
		     (void *)(uintptr_t)o->link, (const void *)o, pg->cls,
		     (unsigned)class_size(pg->cls));
}

_Noreturn void freelist_bad_mark(const struct page *pg, const struct object *o)
{
	sluice_fatal("object freed twice, or written to after it was freed (%p instead of our "
		     "mark): address %p, size class %u (%u bytes)",
		     (void *)(uintptr_t)o->mark, (const void *)o, pg->cls,
		     (unsigned)class_size(pg->cls));
}

_Noreturn void freelist_freed_twice(const struct page *pg, const void *o)
{
	sluice_fatal("object freed twice: address %p, size class %u (%u bytes)", o, pg->cls,
		     (unsigned)class_size(pg->cls));
}

_Noreturn void freelist_bad_count(const struct page *pg, const struct object *o)
{
	sluice_fatal("object freed twice, or another one of its slab: address %p, size class %u "
		     "(%u bytes)",
		     (const void *)o, pg->cls, (unsigned)class_size(pg->cls));
}
