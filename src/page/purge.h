/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * purge.h - from dirty to clean: giving the memory of free blocks back to the kernel.
 */
#ifndef SLUICE_PURGE_H
#define SLUICE_PURGE_H

#include "base/options.h"
#include "page/zone.h"

/*
 * Gives dirty blocks back to the kernel until at most `keep` dirty pages are left or `most` have
 * been purged, in batches, with no lock held over a system call. Returns bytes given back.
 */
uint64_t zone_purge(struct zone *z, uint64_t keep, uint64_t most);

/*
 * Gives back the memory of the descriptors inside large clean blocks, a block at a time, with no
 * lock held over a system call. They then read as zero: PAGE_NONE, as before. Does the same with
 * wholly free and clean regions; see zone_purge_regions.
 */
void zone_purge_descriptors(struct zone *z);

/* Waits until the purges end that are under way, 500 ms at most: their blocks are not free
 * meanwhile. For an allocation that finds no memory. */
void purges_wait(void);
void purges_fork_child(void);

/* The same for all zones of the process; `keep` is compared with the sum of their dirty pages. */
uint64_t zones_purge(uint64_t keep, uint64_t most);
void zones_purge_descriptors(void);

/*
 * Whether a free gives dirty pages back to the kernel when there are too many. It purges as many
 * as it freed (at worst three times as many) and TRIM_PAGES more. Off while there is a background
 * thread.
 */
extern bool trim_inline;

/* What counts meanwhile instead of the option's value `of`, until that is changed. Written at the
 * start. */
extern struct dirty_part {
	size_t of;
	size_t bytes;
} dirty_part;

static inline size_t dirty_most(void)
{
	return trim_inline && options.dirty_max == dirty_part.of ? dirty_part.bytes
								 : options.dirty_max;
}

/* After `freed` pages were freed to z, without its lock: purges if trim_inline says so. */
void trim(struct zone *z, uint64_t freed);

#endif
