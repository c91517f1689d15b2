/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region_guard.h - the memory without access around a region's metadata.
 */
#ifndef SLUICE_REGION_GUARD_H
#define SLUICE_REGION_GUARD_H

#include "page/zone.h"

/* Makes the metadata of a reserved region usable, with guards around them or, if `bare`, without.
 * Returns false if the kernel refuses. Guarded by: grow. */
bool region_commit_meta(struct region *r, bool bare);

/* Takes access away from the guards of a region that was mapped as a whole. Guarded by: grow. */
void region_guard(struct region *r);

/* Makes the guards of all regions that share their memory with z usable: each region then takes up
 * to three mappings fewer. Returns false if none had any. Any thread. */
bool regions_unguard(struct zone *z);

#endif
