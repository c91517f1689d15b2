/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp.h - a thread's pcp: the pcp drain.
 */
#ifndef SLUICE_PCP_H
#define SLUICE_PCP_H

#include "page/buddy.h"
#include "base/list.h"
#include "base/lock.h"
#include "types.h"

/* Run lengths kept: 1 to 8 pages, then four for each doubling, up to 128 pages (2 MiB). */
#define RUN_CLASSES 24u
#define PCP_RUN_MAX 128u
extern const uint8_t run_class_pages[RUN_CLASSES];

/* The class of the shortest run that holds n pages (1 to PCP_RUN_MAX). */
static inline unsigned run_class_of(uint32_t n)
{
	unsigned shift;

	if (n <= 8)
		return n - 1;
	shift = 29u - (unsigned)__builtin_clz(n - 1); /* pages in a step: 2, 4, 8, 16 */
	return 4 * shift + ((n - 1) >> shift);
}

enum pcp_flag {
	PCP_DISABLED = 1,  /* no run may enter */
	PCP_FORK_HELD = 2, /* pcp_fork_prepare has its lock */
};

/*
 * Guarded by: lock, but for next (set once before the pcp is published); count is also read by
 * statistics, without the lock. All that a hit touches besides the lists is in the first line.
 */
struct pcp {
	cache_aligned struct spin lock;
	_Atomic uint32_t count; /* pages held */
	uint32_t high;          /* pages it may hold, between high_min and high_max */
	uint32_t high_min;
	uint32_t high_max;
	uint32_t batch;       /* pages moved at a time, to begin with */
	uint16_t flags;       /* enum pcp_flag */
	uint8_t alloc_factor; /* refills in a row: each doubles the next one */
	uint8_t free_factor;  /* spills in a row, likewise */
	uint8_t spill_class;  /* where the last spill ended */
	struct zone *zone;
	_Atomic(struct pcp *) next; /* the registry; never taken off */

	cache_aligned struct page_list_head runs[RUN_CLASSES];
};
_Static_assert(offsetof(struct pcp, runs) == CACHE_LINE,
	       "the lock, the limits and the flags fill the pcp's first cache line");

/* From now on zone.cached says how many pages all pcps hold. Before the second thread. */
void pcp_count_all(void);

/* Make it ready and known to drains. p: zeroed, and never freed. */
void pcp_init(struct pcp *p, struct zone *z);

/* Its owner, which has not used it yet, is served by that zone from now on; while there are runs in it, by
 * the one it was. */
void pcp_set_zone(struct pcp *p, struct zone *z);

/*
 * A run of the class, in state PAGE_LIMBO. The owner's way: never waits on p, goes past it to the
 * buddy core when it is locked. NULL: no memory. May wait for the zone's lock and grow the zone.
 */
struct page *pcp_alloc(struct pcp *p, unsigned run_class);

/* Up to n runs of 2^order pages with one try of the lock; returns how many (K4). */
unsigned pcp_alloc_bulk(struct pcp *p, unsigned order, unsigned n, struct page **out);

/* Give a run back whose length is npages; it is kept if it has a class and there is room. */
void pcp_free(struct pcp *p, struct page *pg);
void pcp_free_bulk(struct pcp *p, struct page **runs, unsigned n);

struct pcp_drain {
	uint64_t pages; /* drained */
	uint32_t runs;  /* in so many runs */
	bool skipped;   /* the lock was held each time we tried */
};

/* Any thread: empty p into the buddy core, a batch for each hold, and let it start small. */
struct pcp_drain pcp_drain(struct pcp *p);

/* The same in so many holds at most. */
struct pcp_drain pcp_drain_part(struct pcp *p, unsigned holds);

/* Any thread: let high fall by an eighth towards high_min and spill what is above (kernel:
 * decay_pcp_high). Returns pages given to the buddy core. */
uint64_t pcp_decay(struct pcp *p);

/* The registry, for walks by any thread without a lock. */
struct pcp *pcp_first(void);
static inline struct pcp *pcp_next(struct pcp *p)
{
	return atomic_load_explicit(&p->next, memory_order_acquire);
}

/*
 * While disabled (calls nest) no run enters any pcp: when pcp_disable returns, each one has been
 * told under its lock. May sleep. False: not done, because a fork or a dead holder has a pcp.
 */
bool pcp_disable(void);
void pcp_enable(void);

/* fork: hold every pcp (waiting a bounded time for all) and let go of them; in the child those that another
 * thread holds are emptied without looking at them. */
void pcp_fork_prepare(void);
void pcp_fork_parent(void);
void pcp_fork_child(uint32_t parent_tid);

/* Debug: under its lock. */
void pcp_check(struct pcp *p);

#endif
