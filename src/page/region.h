/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region.h - a zone's regions: how it grows, and how it gives address space back.
 */
#ifndef SLUICE_REGION_H
#define SLUICE_REGION_H

#include "page/zone.h"

/*
 * Hardened: provides what each region needs besides its metadata. Called under zone.grow. Returns
 * false if the kernel refused; then there is no such region.
 */
extern bool (*region_ready)(struct region *r);

/*
 * Adds pages, so that a block of the order can be taken from them, unless zone.grown is no longer
 * `seen`. Returns 0; -ENOMEM if the kernel refused; -EBUSY, -EDEADLK or -EAGAIN if a lock cannot
 * be taken.
 */
int zone_grow(struct zone *z, unsigned order, uint64_t seen);

/* Takes the pages of wholly free and clean regions out of the zone, which grows into them again,
 * and gives the memory of their metadata back. */
void zone_purge_regions(struct zone *z);

/* Unmaps the regions that are wholly free. Returns bytes of address space given back. */
uint64_t zone_release_regions(struct zone *z);

/*
 * The kernel refuses a mapping of `want` bytes: gives back address space that nothing lies in, for
 * others to use, and for us when we grow. First goes what is reserved and what wholly free regions
 * have, then free blocks of 1 MiB or more out of other regions, the largest first. Unless `parts`,
 * only whole mappings. Returns its bytes, which may be more than `want`.
 */
uint64_t zone_release_space(struct zone *z, uint64_t want, bool parts);

uint64_t zones_release_regions(void); /* of all zones of the process */

/* The same for all zones of the process. If the process may have no more mappings
 * (vm.max_map_count), no part of one goes, but regions do without guards: also then does not
 * return 0 if some became free. */
uint64_t zones_release_space(uint64_t want);

/*
 * The process is about to lock its memory, and the kernel counts address space for that: unmaps
 * what all zones have only reserved. Regions then grow a little at a time, into address space
 * behind them that nobody else took.
 */
void zones_release_reserved(void);

#endif
