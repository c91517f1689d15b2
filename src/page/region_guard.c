/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region_guard.c - see region_guard.h.
 * Used by region; uses vm, zone.
 *
 * (A) A guard is part of its region's mapping, and nothing reads or writes it. So it may become
 *     usable at any time, by any thread, and stays so. Together they have what the metadata
 *     leave of the region's first pages; each has one page at least.
 *
 * A region with guards is four mappings for the kernel: guard, metadata, guard, pages. Where all is
 * usable and the region lies beside another one, the kernel sees one mapping. So a process that may
 * have no more of them (vm.max_map_count) does without guards.
 *
 * No lock, no allocation; enters the kernel.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/region_guard.h"

#include "os/vm.h"
#include "page/pagemap.h"

#define META_BYTES ((size_t)REGION_META_PAGES << PG_SHIFT)

/* Guards are as large as the smallest kernel page; elsewhere there are none. */
static bool has_guards(void)
{
	return vm_os_page <= REGION_GUARD;
}

/* From the start of a region to what is used of its metadata. */
static size_t front_bytes(void)
{
	return region_place.meta + REGION_GUARD;
}

/* And behind that, to its first page. */
static char *back(struct region *r)
{
	return (char *)r + META_BYTES - REGION_GUARD;
}

static size_t back_bytes(void)
{
	return ((size_t)region_first() << PG_SHIFT) - region_place.meta - META_BYTES + REGION_GUARD;
}

bool region_commit_meta(struct region *r, bool bare)
{
	if (bare || !has_guards())
		return vm_commit(r, META_BYTES);
	return vm_commit((char *)r + REGION_GUARD, META_BYTES - 2 * REGION_GUARD);
}

void region_guard(struct region *r)
{
	if (!has_guards())
		return;
	(void)vm_guard(region_start(r), front_bytes());
	(void)vm_guard(back(r), back_bytes());
}

static bool unguard(struct region *r)
{
	if (atomic_exchange_explicit(&r->bare, true, memory_order_relaxed) || !has_guards())
		return false;
	(void)vm_commit(region_start(r), front_bytes());
	(void)vm_commit(back(r), back_bytes());
	return true;
}

bool regions_unguard(struct zone *z)
{
	struct zone *first = zone_lead(z);
	bool any = false;

	for (uint32_t i = 0; i < zone_family(first); i++) {
		for (struct region *r = zone_first_region(&first[i]); r; r = r->next)
			any |= unguard(r);
	}
	return any;
}
