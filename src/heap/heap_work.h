/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_work.h - how much one call may do, and how much one growth may do for others.
 *
 * Debug builds count it, and stop the program when it is more.
 */
#ifndef SLUICE_HEAP_WORK_H
#define SLUICE_HEAP_WORK_H

#include "base/check.h"
#include "heap/heap_types.h"

/* Objects that one call moves between a cache bin and slabs at most. */
#define BIN_STEP 64u

/* In one call at most: bins of a trim that was asked for (BIN_MAX objects of each), and slabs of
 * each bin's class; slabs and objects of an ageing step; slabs of the inbox. */
#define TRIM_BATCH 2u
#define ABANDON_BATCH 32u
#define AGE_BATCH 8u
#define AGE_OBJECTS 16u
#define INBOX_BATCH 8u

/*
 * What one call does in its critical sections at most: a part of a trim, an ageing step, a refill
 * or a flush, for which the inbox is opened, and a slab that it brings. Counted from
 * heap_call_begin to heap_call_end.
 */
#define CALL_OBJECTS (TRIM_BATCH * BIN_MAX + AGE_OBJECTS + 2 * BIN_STEP)
#define CALL_SLABS                                                                                 \
	(TRIM_BATCH * (ABANDON_BATCH + 1) + AGE_BATCH + 1 + BIN_STEP + 5 * INBOX_BATCH + 1)

/*
 * What a growth does for all threads at most: heaps that it looks at (three times each: to empty
 * those that the growth before has marked, to mark the next ones, and to open their inboxes), and
 * objects, slabs and runs of pages that it moves, in steps: one for an object, SLAB_STEPS for a
 * slab, one for a run of pages, and CLAIM_STEPS for a heap that it claims. A walk spends HEAP_STEPS
 * for each heap as well. It ends with the part in which its steps are used up.
 */
#define GROWTH_HEAPS 128u
#define GROWTH_NEW 4u /* heaps that are new: the thread of the last one does it, too */
#define GROWTH_STEPS 2048u
#define HEAP_STEPS 1u
#define SLAB_STEPS 4u
#define CLAIM_STEPS 64u
#define PART_OBJECTS BIN_STEP
#define PART_SLABS (BIN_STEP + INBOX_BATCH + AGE_BATCH + 2)
#define GROWTH_OBJECTS (GROWTH_STEPS + PART_OBJECTS)
#define GROWTH_SLABS (GROWTH_STEPS + PART_SLABS)

/* Debug: what this thread did in its call, or in its growth. */
struct heap_work {
	uint32_t objects;
	uint32_t slabs;
	uint32_t heaps;
	bool call;
	bool growth;
};
extern _Thread_local struct heap_work heap_work TLS_FAST;

static inline void heap_work_begin(bool call, bool growth)
{
	if (SLUICE_DEBUG)
		heap_work = (struct heap_work){ .call = call, .growth = growth };
}

static inline void heap_work_count(uint32_t objects, uint32_t slabs)
{
	cold_count(2 * slabs);
	if (SLUICE_DEBUG) {
		heap_work.objects += objects;
		heap_work.slabs += slabs;
		CHECK(!heap_work.call ||
		      (heap_work.objects <= CALL_OBJECTS && heap_work.slabs <= CALL_SLABS));
		CHECK(!heap_work.growth ||
		      (heap_work.objects <= GROWTH_OBJECTS && heap_work.slabs <= GROWTH_SLABS));
	}
}

static inline void heap_reach_count(void)
{
	if (SLUICE_DEBUG) {
		heap_work.heaps++;
		CHECK(!heap_work.growth || heap_work.heaps <= 3 * GROWTH_HEAPS);
	}
}

/* Count n steps down. Returns false if none are left. */
static inline bool heap_spend(uint32_t *steps, uint32_t n)
{
	*steps = *steps > n ? *steps - n : 0;
	return *steps != 0;
}

#endif
