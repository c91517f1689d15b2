/* SPDX-License-Identifier: BSD-2-Clause */
/* core.h - what the tests of the heap share. */
#ifndef T_CORE_H
#define T_CORE_H

#include <stddef.h>
#include <stdint.h>

#include "heap/drain.h"
#include "heap/heap.h"
#include "heap/slab_pool.h"
#include "os/membarrier.h"
#include "reclaim/info.h"
#include "reclaim/reclaim.h"
#include "lib/tap.h"

/* Gives a gauge or counter by name. */
static inline uint64_t value(const char *name)
{
	uint64_t v;

	if (!info_lookup(name, &v))
		tap_bail_out("no such value: %s", name);
	return v;
}

/* Walks over all heaps; returns how many were claimed. */
static inline unsigned heap_walk(enum heap_action action, uint64_t epoch)
{
	struct heap_walk w = heap_walk_all(action, epoch);

	while (!heap_walk_ended(&w)) {
		uint32_t steps = UINT32_MAX;

		heap_walk_part(&w, &steps);
	}
	return w.taken;
}

/* Marks heaps that may hold something; returns the epoch. */
static inline uint64_t heap_idle_mark(bool global)
{
	return reclaim_mark(false, global);
}

/* Empties all heaps that were marked by then; returns how many. */
static inline unsigned heap_idle_take(uint64_t epoch)
{
	return heap_walk(HEAP_PURGE, epoch);
}

/* Does an ageing step for each bin of all such heaps. */
static inline void heap_age_all(uint64_t epoch)
{
	heap_walk(HEAP_AGE, epoch);
}

static inline void *alloc(size_t size)
{
	void *p = heap_alloc(size);

	if (!p)
		tap_bail_out("no memory");
	return p;
}

#endif
