/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.h - the zones: what each one holds, how many there are, and which one a thread uses.
 */
#ifndef SLUICE_ZONE_H
#define SLUICE_ZONE_H

#include "base/list.h"
#include "base/lock.h"
#include "page/growth_types.h"
#include "page/prefault_types.h"
#include "page/purge_types.h"
#include "page/quick_types.h"
#include "page/region_types.h"
#include "types.h"

/* At most so many blocks are handled under one hold of the zone's lock. */
#define BUDDY_BATCH 32u

#define PREFAULT_LARGE 128u /* pages: 2 MiB */

/*
 * Fields are grouped by writer. Words that several threads write, fields that only the lock's
 * holder uses, and fields that others read have cache lines of their own.
 */
struct zone {
	/* Guarded by: lock. */
	cache_aligned struct lock lock;

	/* Guarded by: lock. Read by any thread, atomic: by threads of other zones that look for
	 * memory, and for sums. */
	cache_aligned _Atomic uint32_t orders[BACKINGS]; /* bit o: a block of order o is free */
	_Atomic uint64_t free_pages;
	_Atomic uint64_t dirty_pages;      /* of the free ones */
	_Atomic uint64_t total_pages;      /* usable pages of all regions */
	_Atomic uint64_t prefaulted_pages; /* of the free ones */
	_Atomic uint64_t prefaulted_large; /* of these, in blocks of PREFAULT_LARGE pages or more */
	_Atomic uint64_t prefaulted_made;  /* clean pages taken to be populated, ever */

	/* Guarded by: lock. */
	cache_aligned struct page_list_head blocks[BACKINGS][ORDERS];
	struct page *pending; /* runs taken from deferred that are not freed yet */
	uint32_t steps;       /* debug: list operations for the current run */
	/* Blocks of different kinds do not merge, so that each is backed as a whole or not at all.
	 * Set once; see zone_init. */
	bool segregated;
	struct quick quick;

	/* Any thread, atomic: runs freed by threads that could not take the lock. */
	cache_aligned _Atomic(struct page *) deferred;

	/* Only those of zone_lead are in use, for all zones that share their memory. */
	struct growth growth;
	struct trim trim;

	/* Of the zone that has a reserve. */
	struct prefault_marks marks;

	/* Guarded by: grow. Regions are only added to the list, so it is read without a lock. */
	cache_aligned struct lock grow;
	_Atomic(struct region *) regions;
	_Atomic uint64_t grown; /* times pages were added; guarded by: lock */
	struct va_rest va;
	bool refused;           /* the last growth was refused: the next one asks for little */
	uint32_t refusals;      /* how many growths were refused */
	struct page *away;      /* blocks whose address space was given back, linked by next */
	uint32_t away_count;    /* at most AWAY_MAX */
	_Atomic bool locked;    /* memory made usable last is locked; read by any thread */
	_Atomic uint32_t tight; /* zone_lead's: see zone_is_tight; read by any thread */
};

/*
 * The process's zones. A zone that is not one of them (a test's) shares its memory with no other.
 */
#define ZONES_MAX 16u
#define ZONES_ALL (ZONES_MAX + 1) /* one more, for when the locks of all others are lost */
extern struct zone zone_all[ZONES_ALL];
#define zone_main (zone_all[0])
extern _Atomic uint32_t zones_used; /* how many, from the first on; it only grows */

static inline uint32_t zones_count(void)
{
	return atomic_load_explicit(&zones_used, memory_order_relaxed);
}

static inline bool zone_is_one_of_all(const struct zone *z)
{
	return (uintptr_t)z - (uintptr_t)zone_all < sizeof(zone_all);
}

/* The zone whose shared fields count for all zones that share their memory with z. */
static inline struct zone *zone_lead(struct zone *z)
{
	return zone_is_one_of_all(z) ? zone_all : z;
}

/* How many zones share their memory with z, from zone_lead(z) on. */
static inline uint32_t zone_family(const struct zone *z)
{
	return zone_is_one_of_all(z) ? zones_count() : 1;
}

/* The sum of a counter over all zones that share their memory with z; inexact while they change. */
#define zone_sum(z, field)                                                                         \
	__extension__({                                                                            \
		const struct zone *first_ = zone_lead(z);                                          \
		uint32_t n_ = zone_family(first_);                                                 \
		uint64_t sum_ = 0;                                                                 \
		for (uint32_t i_ = 0; i_ < n_; i_++)                                               \
			sum_ += atomic_load_explicit(&first_[i_].field, memory_order_relaxed);     \
		sum_;                                                                              \
	})
#define zones_sum(field) zone_sum(zone_all, field)

/* Whether address space is limited, so that nothing of a block may be wasted. */
static inline bool zone_is_tight(struct zone *z)
{
	return atomic_load_explicit(&zone_lead(z)->tight, memory_order_relaxed) != 0;
}

static inline uint64_t zone_prefaulted_pages(struct zone *z)
{
	return atomic_load_explicit(&z->prefaulted_pages, memory_order_relaxed);
}

/* Pages in use, of the zone and of those it shares its memory with. Pages in pcps count as used. */
static inline uint64_t zone_used_pages(struct zone *z)
{
	uint64_t all = zone_sum(z, total_pages);
	uint64_t unused = zone_sum(z, free_pages);

	return all > unused ? all - unused : 0;
}

/* The zone's regions, for walks without a lock: a region is never taken off the list. */
static inline struct region *zone_first_region(struct zone *z)
{
	return atomic_load_explicit(&z->regions, memory_order_acquire);
}

/* Makes a zone ready for use, with the options of this moment. May be called again, before the
 * second thread, and best before the zone has pages. */
void zone_init(struct zone *z);

/*
 * Decides how many zones new threads use (option zones) and which processors use which. Call it
 * when the options are known, before the second thread; it may be called again. Asks the kernel
 * for the processors that the process may run on, and for their NUMA nodes.
 */
void zones_init(void);

/* Brings one more zone into use, unless another thread has since `seen` were. Returns NULL if all
 * are in use, or if a fork is under way, which holds the locks only for now. */
struct zone *zone_add(uint32_t seen);

/* The number of zones that threads are given. zones_count() is larger if others came into use
 * because a lock was lost. */
unsigned zones_chosen(void);

/* The zone of processor n; or of the n-th thread, if there are more zones than processors. */
struct zone *zone_of_processor(unsigned n);

/* The zone for a thread that needs its first pages. Any context. No system call if the C library
 * knows the number of the processor. */
struct zone *zone_pick(void);

#endif
