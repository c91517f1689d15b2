/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp.h - a thread's cache of free runs, which any thread can empty (the pcp drain).
 */
#ifndef SLUICE_PCP_H
#define SLUICE_PCP_H

#include "base/list.h"
#include "base/lock.h"
#include "page/buddy.h"
#include "types.h"

/* Lengths of runs that are kept: 1 to 8 pages, then four per doubling, up to 128 pages (2 MiB). */
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
	PCP_FORK_HELD = 2, /* pcp_fork_hold holds its lock */
};

/* Guarded by: lock. count is also read without it, by statistics. All that a hit touches besides
 * the lists is in the first line. */
struct pcp {
	cache_aligned struct spin lock;
	_Atomic uint32_t count; /* pages held */
	uint32_t high;          /* pages it may hold, from high_min to high_max */
	uint32_t high_min;
	uint32_t high_max;
	uint32_t batch;       /* pages moved at a time, to begin with */
	uint16_t flags;       /* enum pcp_flag */
	uint8_t alloc_factor; /* refills in a row: each doubles the next one */
	uint8_t free_factor;  /* spills in a row: each doubles the next one */
	uint8_t spill_class;  /* where the last spill ended */
	struct zone *zone;

	cache_aligned struct page_list_head runs[RUN_CLASSES];
};
_Static_assert(offsetof(struct pcp, runs) == CACHE_LINE,
	       "the lock, the limits and the flags fill the pcp's first cache line");

/* Initializes a pcp in zeroed memory that is never freed. Its lock is held until pcp_open. */
void pcp_init(struct pcp *p, struct zone *z);

/* Opens a new pcp, once all threads can find it: no run may enter it if the pcps are disabled. */
void pcp_open(struct pcp *p);

/* Makes z the zone that serves a pcp whose owner has not used it yet; no change if there are runs
 * in it. */
void pcp_set_zone(struct pcp *p, struct zone *z);

/*
 * Owner thread: a run of the class, in state PAGE_LIMBO. Never waits for p: if p is locked the
 * buddy core serves. Returns NULL if there is no memory. May wait for the zone's lock and grow the
 * zone.
 */
struct page *pcp_alloc(struct pcp *p, unsigned run_class);

/* The same for a run that the program will soon have written as a whole. */
struct page *pcp_alloc_dense(struct pcp *p, unsigned run_class);

/* Up to n runs of 2^order pages, with one try of the lock for each BULK_BATCH. Returns how many. */
unsigned pcp_alloc_bulk(struct pcp *p, unsigned order, unsigned n, struct page **out);

/* Frees a run. The pcp keeps it if its length has a class and there is room. */
void pcp_free(struct pcp *p, struct page *pg);

/* Frees runs that are linked by stack_next. */
static inline void pcp_free_linked(struct pcp *p, struct page *pg)
{
	while (unlikely(pg != NULL)) {
		struct page *next = pg->stack_next;

		pcp_free(p, pg);
		pg = next;
	}
}
void pcp_free_bulk(struct pcp *p, struct page **runs, unsigned n);

struct pcp_drain {
	uint64_t pages; /* pages drained */
	uint32_t runs;  /* runs drained */
	bool skipped;   /* the lock was held at a try */
};

/* Any thread: empties p into the buddy core, a batch per hold, and lets it start small again. */
struct pcp_drain pcp_drain(struct pcp *p);

/* The same, in at most so many holds. */
struct pcp_drain pcp_drain_part(struct pcp *p, unsigned holds);

/* The same, but the `keep` pages that were freed last stay. */
struct pcp_drain pcp_drain_to(struct pcp *p, uint32_t keep);

/* Any thread: lowers high by an eighth towards high_min, and frees what is above it (in the kernel,
 * decay_pcp_high). Returns pages freed to the buddy core. */
uint64_t pcp_decay(struct pcp *p);

/*
 * What is done to all pcps is done by the thread that walks the heaps, which the pcps belong to
 * (heap_pcps.h). A zone's test has pcps of its own.
 */

/* From now on pcp_pages_all returns the pages in all pcps, `now` at first. Call it before the
 * second thread. */
void pcp_count_from(uint64_t now);
uint64_t pcp_pages_all(void);

/* While pcps are disabled no run enters any. Calls nest. Returns true if each pcp has to get the
 * flag (pcp_set_disabled), or lose it. An end without a begin stops the program. */
bool pcp_disable_begin(void);
bool pcp_disable_end(void);

/* Sets or clears the flag, under the lock. Returns false if a fork or a dead holder has the pcp.
 * May sleep. */
bool pcp_set_disabled(struct pcp *p, bool on);

/* fork: takes the lock of a pcp, of PCP_FORK_MAX at most, waiting a bounded time for each; parent
 * releases them. The child empties the pcps that another thread held, without looking at their
 * lists. */
#define PCP_FORK_MAX 64u
void pcp_fork_hold(struct pcp *p);
void pcp_fork_parent(void);
void pcp_fork_child(struct pcp *p, uint32_t parent_tid);

/* Debug: walks the lists under the lock. */
void pcp_check(struct pcp *p);

#endif
