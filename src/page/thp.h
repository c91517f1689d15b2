/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thp.h - the huge pages (THP) of a region that the library asked the kernel for.
 */
#ifndef SLUICE_THP_H
#define SLUICE_THP_H

#include "types.h"

/*
 * Tells the kernel whether it may use huge pages for memory of a region that was mapped or made
 * usable. If they are on request (vm_thp_on_request), it may only where it is asked to
 * (thp_populate), so that what was given back and is touched again costs only what is touched. All
 * of a region has the same mark, because each change of it would be one more mapping.
 */
void thp_as_set(void *addr, size_t bytes);

/* Backs a free block of PREFAULT_LARGE pages, aligned to its size and clean, by a huge page, or, if
 * the kernel has none, its front by a small one. */
void thp_populate(struct page *pg);

/*
 * Before a part of a region is purged or unmapped. Of a huge page that goes in part the kernel
 * keeps all until memory is short, although it counts as given back in RSS (not in the cgroup's
 * memory). Makes the kernel split it, by at most two system calls, none if there is none.
 */
void thp_split(const void *addr, size_t bytes);

/* thp_split and vm_purge. */
bool thp_purge(void *addr, size_t bytes);

#endif
