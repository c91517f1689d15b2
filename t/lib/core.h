/* SPDX-License-Identifier: BSD-2-Clause */
/* core.h - what the tests of the heap share. */
#ifndef T_CORE_H
#define T_CORE_H

#include <stddef.h>
#include <stdint.h>

#include "heap/heap.h"
#include "reclaim/info.h"
#include "lib/tap.h"

/* Gives a gauge or counter by name. */
static inline uint64_t value(const char *name)
{
	uint64_t v;

	if (!info_lookup(name, &v))
		tap_bail_out("no such value: %s", name);
	return v;
}

/* Empties all heaps that are marked with the generation. Returns how many. */
static inline unsigned heap_idle_take(uint64_t generation)
{
	struct heap_walk w = heap_walk_all();
	unsigned taken = 0;

	while (!heap_walk_ended(&w)) {
		uint32_t steps = UINT32_MAX;

		taken += heap_take_walk(&w, generation, true, &steps);
	}
	return taken;
}

/* Ages the cache bins of all heaps that are marked with the generation. */
static inline void heap_visit(uint64_t generation)
{
	struct heap_walk w = heap_walk_all();

	while (!heap_walk_ended(&w)) {
		uint32_t steps = UINT32_MAX;

		heap_visit_walk(&w, generation, &steps);
	}
}

static inline void *alloc(size_t size)
{
	void *p = heap_alloc(size);

	if (!p)
		tap_bail_out("no memory");
	return p;
}

#endif
