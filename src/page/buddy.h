/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buddy.h - the core: page runs out of regions, by the binary buddy method.
 */
#ifndef SLUICE_BUDDY_H
#define SLUICE_BUDDY_H

#include "base/list.h"
#include "base/lock.h"
#include "types.h"

/* Blocks handled under one hold of the zone's lock, at the most. */
#define BUDDY_BATCH 32u

enum { BUDDY_CLEAN, BUDDY_DIRTY, BUDDY_READY, BUDDY_KINDS };

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
	_Atomic uint64_t dirty_pages; /* of the free ones */
	_Atomic uint64_t total_pages; /* usable pages of all regions */
	_Atomic uint64_t ready_pages; /* of the free ones */
	_Atomic uint64_t ready_large; /* of them, those in blocks of READY_LARGE pages or more */
	_Atomic uint64_t ready_made;  /* clean pages taken to be populated, ever */

	/* Guarded by: lock. */
	cache_aligned struct page_list_head blocks[BUDDY_KINDS][ORDERS];
	struct page *late; /* runs taken from deferred, not worked off yet */
	uint32_t steps;    /* debug: list operations for the run in hand */
	bool apart; /* blocks of different kinds do not merge, so that each is backed as a whole or
		     * not at all; see buddy_init; set once */

	/* Any thread, atomic: runs freed by who could not have the lock. */
	cache_aligned _Atomic(struct page *) deferred;

	/* Any thread, atomic; of the process's zones only the first one's are in use, for all of them
	 * (zone_lead). They change when the process grows, and seldom otherwise. */
	cache_aligned _Atomic uint64_t
		clean_taken;          /* clean pages handed out, ever: the process's growth */
	_Atomic uint64_t ready_taken; /* ready pages handed out, less those that came back so */
	_Atomic uint64_t ask_at;      /* the growth at which others are asked for what they cache */
	_Atomic uint64_t ask_most;    /* pages of growth between two times, at most; 0: no limit */
	_Atomic uint32_t tight; /* address space is limited: nothing is to be left over of blocks */
	_Atomic uint64_t mapped; /* pages of mappings beside the zones, at the last one's making */

	/* The same: pages in page caches, while pcp_counted, on a line of its own. */
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
	 * ready_low, or frees some and finds more than ready_over, wakes its thread), the word that
	 * thread sleeps on (1: asleep), and the ms before which nothing is to be populated. */
	cache_aligned _Atomic uint64_t ready_low;
	_Atomic uint64_t ready_over;
	_Atomic uint32_t ready_word;
	_Atomic uint64_t ready_after;

	/* Guarded by: grow (the list is only added to, and read without a lock). */
	cache_aligned struct lock grow;
	_Atomic(struct region *) regions;
	_Atomic uint64_t grown; /* times pages were added; guarded by: lock */
	uintptr_t reserve_next;
	uintptr_t reserve_end;
	bool reserve_refused;
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

/* The options are known. Before the second thread, and best before there are any pages. */
void buddy_init(struct zone *z);

/*
 * Up to n runs of npages (1 to RUN_PAGES_MAX) each into out; returns how many. What is free in other zones
 * comes before growth; see alloc_runs. Grows the zone until at least `least` are had or the kernel refuses. May enter the kernel; never under a pcp
 * lock. A run comes in state PAGE_LIMBO with npages and zero set.
 */
unsigned buddy_alloc_bulk(struct zone *z, uint32_t npages, unsigned n, unsigned least,
			  struct page **out);

static inline struct page *buddy_alloc(struct zone *z, uint32_t npages)
{
	struct page *pg;

	return buddy_alloc_bulk(z, npages, 1, 1, &pg) ? pg : NULL;
}

/* Up to n runs of 2^order pages, each aligned to its size in its region; those of buddy_alloc_bulk need not be. */
unsigned buddy_alloc_blocks(struct zone *z, unsigned order, unsigned n, struct page **out);

/* A run at an alignment of 2^order pages. */
struct page *buddy_alloc_aligned(struct zone *z, uint32_t npages, unsigned order);

/* Give runs back (pg->npages pages each; pg->zero says they were never written). */
void buddy_free_bulk(struct page *const *runs, unsigned n);

/* The same for drains, which purge when all is there and has merged, if at all: never trims. */
void buddy_free_drained(struct page *const *runs, unsigned n);

static inline void buddy_free(struct page *pg)
{
	buddy_free_bulk(&pg, 1);
}

/* Whether buddy_free_bulk gives dirty pages that are too many (trim) back to the kernel by itself, as many as
 * it freed (three times as many at worst) and TRIM_PAGES more at a time; not while a background
 * thread does. */
extern bool buddy_trim_inline;

/*
 * What to try before memory that was never used, or was given back, is taken for good: each time
 * that BUDDY_ASK_PAGES, or an eighth of what is in use, of clean pages were handed out, and before a
 * zone that has regions gets more. True: pages came free. Set by reclaim.
 */
#define BUDDY_ASK_PAGES (UINT64_C(16) << (20 - PG_SHIFT))
extern bool (*buddy_before_growth)(uint64_t pages); /* that will be taken; 0: not known */

/* Ask again after that many pages at the most; 0: no limit. */
void buddy_ask_within(struct zone *z, uint64_t pages);

/* The growth that asks next comes after so many pages at most: this one's answer was not all. */
void buddy_ask_again(struct zone *z, uint64_t pages);

/* A mapping of bytes is about to be made beside the zone, where there are `mapped` bytes of them:
 * growth like any other. */
void buddy_before_mapping(struct zone *z, uint64_t mapped, size_t bytes);

/* What to do after pages were freed, to the zone or a page cache: NULL, or set by limits. The
 * caller holds no lock of the two. */
extern void (*buddy_after_free)(struct zone *z);

/*
 * As a rule memory that was never used costs nothing but address space, and blocks of it are found faster than
 * places between runs. Where that is limited a run begins right behind the last one: of runs of 10 pages in
 * blocks of 16, say, 3 pages of 8 would be lost.
 */
static inline bool buddy_is_tight(struct zone *z)
{
	return atomic_load_explicit(&zone_lead(z)->tight, memory_order_relaxed) != 0;
}

static inline uint64_t buddy_ready_pages(struct zone *z)
{
	return atomic_load_explicit(&z->ready_pages, memory_order_relaxed);
}

/* Pages of the zone, and of those it shares its memory with, that are in use by somebody, page caches
 * included. */
static inline uint64_t buddy_used_pages(struct zone *z)
{
	uint64_t all = zone_sum(z, total_pages);
	uint64_t unused = zone_sum(z, free_pages);

	return all > unused ? all - unused : 0;
}

/* Lengthen a run to npages by the free blocks behind it, or leave it as it is. */
bool buddy_extend(struct page *pg, uint32_t npages);

/* Shorten a run to npages; its tail goes back. */
void buddy_shrink(struct page *pg, uint32_t npages);

/*
 * Give dirty blocks back to the kernel until at most `keep` dirty pages are left or `most` have
 * been purged, in batches, with no lock held over a system call. Returns bytes given back.
 */
uint64_t buddy_purge(struct zone *z, uint64_t keep, uint64_t most);

/*
 * Give back the memory of the descriptors inside large clean blocks, a block at a time, with no lock
 * held over a system call. They read as zero then: PAGE_NONE, as they were. The pages of wholly free and
 * clean regions leave the zone, which grows into them again, and all their metadata go (under zone.grow).
 */
void buddy_purge_descriptors(struct zone *z);

/* ---- the reserve, prefault.c ------------------------------------------------------------ */

#define READY_LARGE 128u /* pages: 2 MiB */

/*
 * Populate one block of clean memory of at most READY_LARGE pages, and at most `most`: a whole such block
 * while less than `large` pages are in blocks as large as that, else the smallest there is. Grows the
 * zone if need be. Returns its pages; 0: there is no memory, or the kernel refused to back it.
 */
uint32_t buddy_ready_fill(struct zone *z, uint64_t large, uint64_t most);

/* Give ready pages back to the kernel until at most `keep` are left or `most` have been, in steps,
 * with no lock held over a system call. Returns bytes given back. */
uint64_t buddy_ready_release(struct zone *z, uint64_t keep, uint64_t most);

/* Memory is short: nothing is populated for a while. */
void buddy_ready_hold(struct zone *z);

/* Sleep until somebody crosses a mark, or for ms (0: no limit). The caller has set ready_word. */
void buddy_ready_wait(struct zone *z, uint64_t ms);

/* Wake who sleeps so. Any context. */
void buddy_ready_wake(struct zone *z);

/* Unmap the regions that are wholly free. Returns bytes of address space given back. */
uint64_t buddy_release_regions(struct zone *z);

/*
 * The kernel refuses a mapping of so many bytes: give address space back that nothing lies in, for others
 * to use, and for us when we grow. First what is reserved and regions that are wholly free, then free blocks
 * of 1 MiB or more out of others, the largest first. Returns its bytes, which may be more than `want`.
 */
uint64_t buddy_release_space(struct zone *z, uint64_t want);

/* The same for all zones of the process: dirty pages that are left are summed. */
uint64_t zones_purge(uint64_t keep, uint64_t most);
void zones_purge_descriptors(void);

/*
 * The process is about to lock its memory, for which the kernel counts address space: of all zones what is only
 * reserved goes back. Regions grow where nobody else took the place behind them then, by little at a time.
 */
void zones_release_reserved(void);
uint64_t zones_release_regions(void);
uint64_t zones_release_space(uint64_t want);

/* The zone's regions, for walks without a lock: they are never taken off. */
static inline struct region *buddy_first_region(struct zone *z)
{
	return atomic_load_explicit(&z->regions, memory_order_acquire);
}

/* Debug: walks everything under the lock; stops the program where an invariant is broken. */
void buddy_check(struct zone *z);

#endif
