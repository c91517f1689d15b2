/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.h - the zones: what each one holds, how many there are, and which one a thread uses.
 */
#ifndef SLUICE_ZONE_H
#define SLUICE_ZONE_H

#include "base/list.h"
#include "base/lock.h"
#include "types.h"

/* At most so many blocks are handled under one hold of the zone's lock. */
#define BUDDY_BATCH 32u

#define PREFAULT_LARGE 128u /* pages: 2 MiB */

/* Kinds of free blocks. */
enum { BUDDY_CLEAN, BUDDY_DIRTY, BUDDY_PREFAULTED, BUDDY_KINDS };

/*
 * Grouped by who writes: on a line of its own is what threads meet at, what only the lock's holder uses,
 * and what others read of it.
 */
struct zone {
	/* Guarded by: lock. */
	cache_aligned struct lock lock;

	/* Guarded by: lock; read by anyone, atomic: by threads of other zones that look for memory, and
	 * by all who sum. */
	cache_aligned _Atomic uint32_t orders[BUDDY_KINDS]; /* bit o: list of order o is not empty */
	_Atomic uint64_t free_pages;
	_Atomic uint64_t dirty_pages;      /* of the free ones */
	_Atomic uint64_t total_pages;      /* usable pages of all regions */
	_Atomic uint64_t prefaulted_pages; /* of the free ones */
	_Atomic uint64_t
		prefaulted_large; /* of them, those in blocks of PREFAULT_LARGE pages or more */
	_Atomic uint64_t prefaulted_made; /* clean pages taken to be populated, ever */

	/* Guarded by: lock. */
	cache_aligned struct page_list_head blocks[BUDDY_KINDS][ORDERS];
	struct page *pending; /* runs taken from deferred, not worked off yet */
	uint32_t steps;       /* debug: list operations for the run in hand */
	bool segregated; /* blocks of different kinds do not merge, so that each is backed as a whole or
		     * not at all; see zone_init; set once */

	/* Any thread, atomic: runs freed by who could not have the lock. */
	cache_aligned _Atomic(struct page *) deferred;

	/* Any thread, atomic; of the process's zones only the first one's are in use, for all of them
	 * (zone_lead). They change when the process grows, and seldom otherwise. */
	cache_aligned _Atomic uint64_t
		clean_taken;               /* clean pages handed out, ever: the process's growth */
	_Atomic uint64_t prefaulted_taken; /* ready pages handed out, less those that came back so */
	_Atomic uint64_t ask_at;   /* the growth at which others are asked for what they cache */
	_Atomic uint64_t ask_most; /* pages of growth between two times, at most; 0: no limit */
	_Atomic uint32_t tight; /* address space is limited: nothing is to be left over of blocks */
	_Atomic uint64_t mapped; /* pages of mappings beside the zones, at the last one's making */

	/* The same: pages in pcps, while pcp_counted, on a line of its own. */
	cache_aligned _Atomic uint64_t cached;

	/* The same: dirty pages, the least seen since trim_at (ms), and how many of those that were left
	 * in the period before are still to be given back; those that frees gave back, and were not taken
	 * again yet, when they did it last (ms), and the growth at the last look; dirty pages at the last
	 * free, and those that were taken since a look; those that may be kept because of it, and since
	 * when (ms). See trim. */
	cache_aligned _Atomic uint64_t trim_low;
	_Atomic uint64_t trim_due;
	_Atomic uint64_t trim_at;
	_Atomic uint64_t trim_gone;
	_Atomic uint64_t trim_gone_at;
	_Atomic uint64_t trim_seen;
	_Atomic uint64_t trim_last;
	_Atomic uint64_t trim_reused;
	_Atomic uint64_t trim_earned;
	_Atomic uint64_t trim_earned_at;

	/* Any thread, atomic: the marks of the reserve in pages (who takes pages and finds less than
	 * reserve_low, or frees some and finds more than reserve_over, wakes its thread), the word that
	 * thread sleeps on (1: asleep), and the ms before which nothing is to be populated. */
	cache_aligned _Atomic uint64_t reserve_low;
	_Atomic uint64_t reserve_over;
	_Atomic uint32_t reserve_word;
	_Atomic uint64_t reserve_after;

	/* Guarded by: grow (the list is only added to, and read without a lock). */
	cache_aligned struct lock grow;
	_Atomic(struct region *) regions;
	_Atomic uint64_t grown; /* times pages were added; guarded by: lock */
	uintptr_t va_next;
	uintptr_t va_end;
	bool va_refused;
	bool refused;        /* the last growth: the next one asks for little */
	uint32_t refusals;   /* of growth, ever */
	struct page *away;   /* blocks whose address space was given back, linked by next */
	uint32_t away_count; /* AWAY_MAX at most */
	_Atomic bool locked; /* what was made usable last is locked in memory; read by anyone */
};

/*
 * The process's zones; see zone.h for how many are in use and who uses which. A zone elsewhere (a test's)
 * is by itself: what is said of others does not hold for it.
 */
#define ZONES_MAX 16u
#define ZONES_ALL                                                                                  \
	(ZONES_MAX + 1) /* there is always one more, for when the locks of the others are lost */
extern struct zone zone_all[ZONES_ALL];
#define zone_main (zone_all[0])
extern _Atomic uint32_t zones_used; /* from the first on; it only grows */

static inline uint32_t zones_count(void)
{
	return atomic_load_explicit(&zones_used, memory_order_relaxed);
}

static inline bool zone_is_one_of_all(const struct zone *z)
{
	return (uintptr_t)z - (uintptr_t)zone_all < sizeof(zone_all);
}

/* The zone that counts for all that share their memory with z. */
static inline struct zone *zone_lead(struct zone *z)
{
	return zone_is_one_of_all(z) ? zone_all : z;
}

/* The zones that share their memory, from zone_lead(z) on. */
static inline uint32_t zone_family(const struct zone *z)
{
	return zone_is_one_of_all(z) ? zones_count() : 1;
}

/* A counter's sum over all zones that share their memory with z; inexact while they change. */
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

/* Applies the options to a zone. Call it before the second thread, and best before the zone has
 * pages. */
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
