/* SPDX-License-Identifier: BSD-2-Clause */
/* info.h - gauges: what there is now, summed over all layers without a lock. */
#ifndef SLUICE_INFO_H
#define SLUICE_INFO_H

#include "types.h"

struct info {
	uint64_t region_bytes;  /* usable bytes of all regions */
	uint64_t free_bytes;    /* in the buddy core */
	uint64_t dirty_bytes;   /* part of free_bytes: backed, may have been written */
	uint64_t reserve_bytes; /* part of free_bytes: prefaulted */
	uint64_t pcp_bytes;     /* in pcps */
	uint64_t slab_bytes;    /* pages of slabs */
	uint64_t object_bytes;  /* objects in use, and those in cache bins */
	uint64_t hole_bytes;    /* part of slab_bytes that costs no memory, see holes.h */
	uint64_t pinned_bytes;  /* part of slab_bytes: free, stays because of live objects */
	uint64_t large_bytes;
	uint64_t huge_bytes;
	uint64_t huge_objects;
	uint64_t huge_kept_bytes; /* mappings of freed huge objects, see mapcache.h */
	uint64_t arena_bytes;     /* mapped for the arena */
	uint64_t free_blocks;
	uint64_t heaps;
	uint64_t threads;            /* that have a heap */
	uint64_t cached_bytes;       /* part of object_bytes: free, in cache bins */
	uint64_t cached_large_bytes; /* part of large_bytes: the same */
	uint64_t meta_bytes;         /* the library's own structures: descriptors, heaps */
};

/* The slabs of one size class. */
struct info_class {
	uint64_t slabs;
	uint64_t slab_bytes;
	uint64_t object_bytes;
	uint64_t hole_bytes;
	uint64_t pinned_bytes;
	uint64_t cached_bytes;
};

/* Any thread. Walks the regions: about 50 us per GiB. Inexact while other threads run. by_class: an
 * array of CLASSES elements, or NULL. */
void info_collect(struct info *in, struct info_class *by_class);

/* Calls see for every name that info_lookup knows. see must not allocate. */
void info_each(void (*see)(void *arg, const char *name, uint64_t value), void *arg);

/* A counter of stats.def or a gauge, by name. Returns false if there is no such name. */
bool info_lookup(const char *name, uint64_t *value);

#endif
