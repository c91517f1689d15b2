/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freed.c - see freed.h. Used by quarantine, hidden and harden.
 *
 * No lock, allocates nothing. Bound: the block. Signal handlers and fork: at any time.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/freed.h"

#include "base/check.h"
#include "heap/heap_types.h"
#include "page/pagemap.h"

#define PAIRS 8u

/* One of the bytes of a freed block, which has `bytes`, is not zero behind the first `from`. */
noinline _Noreturn void freed_written(const char *p, size_t from, size_t bytes)
{
	const struct page *pg = page_of(p);
	size_t at = from;

	while (at < bytes - 1 && !p[at])
		at++;
	if (page_kind(pg) != PAGE_SLAB)
		sluice_fatal("block written to after it was freed (its byte %zu): address %p, "
			     "block %p (%zu bytes)",
			     at, (const void *)p, (const void *)p, large_usable(pg));
	sluice_fatal("object written to after it was freed (its byte %zu): address %p, size class "
		     "%u (%u bytes)",
		     at, (const void *)p, pg->cls, (unsigned)class_size(pg->cls));
}

/* Block o, of so many bytes, from v on. */
static always_inline void check_pairs(const void *o, const zero_pair *v, size_t bytes)
{
	const zero_pair *end = (const zero_pair *)o + bytes / sizeof(zero_pair);
	size_t from = (size_t)((const char *)v - (const char *)o);
	zero_pair all = { 0, 0 };

	for (; end - v >= PAIRS; v += PAIRS)
		all |= v[0] | v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7];
	for (; v < end; v++)
		all |= *v;
	if (unlikely(all[0] | all[1]))
		freed_written(o, from, bytes);
}

noinline void freed_check_long(const void *p, size_t bytes)
{
	check_pairs(p, p, bytes);
}

void freed_check_listed(const struct object *o, size_t bytes)
{
	check_pairs(o, (const zero_pair *)(const void *)(o + 1), bytes);
}

noinline _Noreturn void freed_unsealed(const struct object *o)
{
	const struct page *pg = page_of(o);

	sluice_fatal("object written to after it was freed, or overrun by the one before it (its "
		     "first 16 bytes): address %p, size class %u (%u bytes)",
		     (const void *)o, pg->cls, (unsigned)class_size(pg->cls));
}
