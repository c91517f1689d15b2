/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region_va.c - see region_va.h.
 * Used by region; uses vm, zone.
 *
 * Lock: zone.grow, held by the caller.
 * Bound: one system call for each power of two (of four, if it is to be usable) up to the bytes.
 * Allocates nothing; blocks in the kernel. Signal handlers: see block.c. Fork: see fork.c.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/region_va.h"

#include "base/options.h"
#include "os/vm.h"

#define BARE_REGIONS 64u /* that are mapped at once when mappings are used up */
#define RESERVE_PART 4u  /* of what is usable: what is reserved beyond it */

void va_reserve(struct zone *z)
{
	uint64_t part = (zone_sum(z, total_pages) << PG_SHIFT) / RESERVE_PART / zone_family(z);
	size_t bytes = min_size(align_down(options.va_reserve, REGION_BYTES),
				max_size(align_down(part, REGION_BYTES), REGION_BYTES));

	if (!zone_first_region(z))
		bytes = min_size(bytes, REGION_BYTES);

	for (; bytes >= REGION_BYTES; bytes = align_down(bytes / 2, REGION_BYTES)) {
		void *p = vm_reserve(bytes, REGION_BYTES);

		if (p) {
			z->va.next = (uintptr_t)p;
			z->va.end = (uintptr_t)p + bytes;
			return;
		}
	}
	z->va.refused = true;
}

bool va_release(struct zone *z)
{
	if (z->va.next != z->va.end && !vm_unmap((void *)z->va.next, z->va.end - z->va.next))
		return false;
	z->va.end = z->va.next;
	z->va.bare = false;
	return true;
}

void va_map_bare(struct zone *z)
{
	if (atomic_load_explicit(&z->locked, memory_order_relaxed) || !va_release(z))
		return;
	for (size_t n = BARE_REGIONS; n; n /= 4) {
		void *p = vm_map_once(n * REGION_BYTES, REGION_BYTES);

		if (p) {
			z->va.next = (uintptr_t)p;
			z->va.end = (uintptr_t)p + n * REGION_BYTES;
			z->va.bare = true;
			return;
		}
	}
}
