/* SPDX-License-Identifier: BSD-2-Clause */
/* info.h - gauges: what there is now, summed over all layers without a lock. */
#ifndef SLUICE_INFO_H
#define SLUICE_INFO_H

#include "types.h"

struct info {
	uint64_t region_bytes;  /* usable bytes of all regions */
	uint64_t free_bytes;    /* in the buddy core */
	uint64_t dirty_bytes;   /* of them, not yet given back */
	uint64_t reserve_bytes; /* of them, populated ahead */
	uint64_t pcp_bytes;     /* in page caches */
	uint64_t slab_bytes;    /* slabs' pages */
	uint64_t object_bytes;  /* objects in use, and those ready in heaps' bins */
	uint64_t hole_bytes;    /* of slab_bytes, what costs no memory, see holes.h */
	uint64_t pinned_bytes;  /* of slab_bytes, what is free and stays because of live objects */
	uint64_t large_bytes;
	uint64_t huge_bytes;
	uint64_t huge_objects;
	uint64_t arena_bytes; /* mapped for the arena */
	uint64_t free_blocks;
	uint64_t heaps;
};

/* The slabs of a class. */
struct info_class {
	uint64_t slabs;
	uint64_t slab_bytes;
	uint64_t object_bytes;
	uint64_t hole_bytes;
	uint64_t pinned_bytes;
};

/* Walks the regions: about 50 us a GiB. Inexact while other threads run. Any thread. by_class: room
 * for CLASSES, or NULL. */
void info_collect(struct info *in, struct info_class *by_class);

/* All that info_lookup knows, by name. see must not allocate. */
void info_each(void (*see)(void *arg, const char *name, uint64_t value), void *arg);

/* A counter of stats.def or a gauge by name; false: no such name. */
bool info_lookup(const char *name, uint64_t *value);

#endif
