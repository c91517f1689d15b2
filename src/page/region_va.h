/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region_va.h - the address space of a zone's next regions. All is guarded by zone.grow.
 */
#ifndef SLUICE_REGION_VA_H
#define SLUICE_REGION_VA_H

#include "page/zone.h"

/*
 * Reserves address space for some regions, or for fewer if the kernel refuses; for none if that is
 * refused too (va.refused). At first for one region, later for a part of what is usable, because a
 * program may set a limit on its address space at any time, and reserved space counts. Each
 * reservation makes a mapping or two, so the number of mappings grows with the logarithm of the
 * size, up to the option's bytes.
 */
void va_reserve(struct zone *z);

/* Unmaps what is left of that. Returns false if the kernel refused. */
bool va_release(struct zone *z);

/*
 * Maps what the next regions need by one call, as usable memory, so that none of them takes a
 * mapping; for fewer if the kernel refuses. Not if memory is locked: all would be backed at once.
 */
void va_map_bare(struct zone *z);

#endif
