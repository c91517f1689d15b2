/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buddy.c - the buddy core: zones, and the regions they are made of.
 * Used by zone, pcp, large and reclaim; uses pagemap and vm.
 *
 * (A) The free blocks of a region and its runs in use tile its pages; no two blocks overlap.
 *     (buddy_check)
 * (B) A free block of order o is aligned to 2^o pages within its region, and its buddy is not a
 *     free block of the same order (else they would be one), unless either is being purged or, in
 *     a zone that keeps them apart, they are of different kinds. (buddy_check)
 * (C) A page's bit in region.dirty means something only while the page is free: set, the kernel
 *     may back it with written memory; clear, it reads as zero. zone.dirty_pages counts the set
 *     bits of free blocks. A block with any bit set is on the dirty list. (buddy_check)
 *     In a zone with a reserve blocks of different kinds are kept apart: the kernel backs all of a ready
 *     block, and what it does not back is never merged into a dirty one.
 * (D) Only the head of a block or run carries a kind other than PAGE_NONE.
 * (E) A block that is being purged is on no list and merges with nothing.
 * (F) The descriptors of a free block but its head's are not looked at for anything but their kind, which
 *     is PAGE_NONE, so that they may read as zero (buddy_purge_descriptors), as may all descriptors and
 *     indices of a region without usable pages.
 * (G) The index of a page whose address space is not ours (given up, or never had) is 0, and page 0 is
 *     PAGE_NONE. So what the kernel puts there leads to no descriptor. (buddy_check)
 *     Address space is given up of whole regions, or of free blocks inside one (PAGE_AWAY). Those are on
 *     the list zone.away, on no other, and counted nowhere. (buddy_check)
 * (H) A run goes back to the zone of its region, whoever frees it. A zone grows only when no zone has what
 *     is wanted; what is counted for limits is counted over all zones.
 *
 * Locks: zone.lock (BUDDY) guards lists, bits, counters; in one hold BUDDY_BATCH runs come or go (of
 * long ones that are looked for RANGE_BATCH) and as many that were deferred, each in at most RUN_STEPS
 * list operations (hold_step, step), and no system call is made under it. zone.grow (GROW) guards the
 * making and releasing of regions; system calls are made under it. Two zones' locks of a kind are never
 * held together, except by fork. When zone.lock cannot be had (this thread holds it: a signal handler; its
 * holder does not come back; or a fork has it) a free is put on the lock-free deferred stack, which the next
 * holder works off, and an allocation goes to another zone; see alloc_elsewhere.
 * Bound: an allocation of n runs has n / BUDDY_BATCH + 1 holds, and two for each other zone that seems to have
 * some; a free of n runs as many for each zone that they are of; an allocation that grows a
 * zone has one of zone.grow besides, in which it looks at each region once and asks the kernel at most
 * 2 * ORDERS times for less and less, and once for each place whose way somebody blocks since it was last looked at,
 * or once or twice in all if the last growth was refused; a free that trims purges what trim says; a purge has two holds for
 * each BUDDY_BATCH blocks.
 * Allocates nothing. May block in the kernel outside its locks. Signal handlers: as said. Fork:
 * see fork.c.
 *
 * Source: Knowlton 1965; Linux mm/page_alloc.c (merge-likely blocks to the tail of their list,
 * exact-tail return as in alloc_pages_exact). A request meets at most a factor 2 of internal
 * waste before the tail goes back, and none after it.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/buddy.h"

#include <errno.h>
#include <string.h>

#include "page/buddy_parts.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "base/park.h"
#include "base/stats.h"
#include "os/vm.h"

#define STEP_MIN ((size_t)1 << 20)
#define STEP_LEAST ((size_t)128 << 10) /* when the kernel refuses more */
#define RETRY_REFUSALS 64u /* of growth, until those whose way was blocked are tried again */
#define RESERVE_PART 4u    /* of what is usable: what is reserved beyond it */
#define HOPELESS 4u        /* times all that we have: as much is not had by giving it back */
#define AWAY_ORDER 6u      /* 1 MiB */
#define AWAY_MAX 256u      /* each splits a mapping, of which a process has 65,530 */
#define STEP_FIRST ((size_t)2 << 20)
#define TRIM_PAGES 64u
#define TRIM_LATELY 4u /* decay_ms, for which memory that was used again may be kept again */
#define TRIM_EARNED 4u
#define TRIM_TEARDOWN 4u
#define THP_PAGES (UINT64_C(256) << (20 - PG_SHIFT)) /* in use, for thp:auto */
#define BARE_ORDER 7u /* 128 descriptors: two of the kernel's smallest pages */
#define RANGE_PAGES_MIN 17u
#define RANGE_TRIES 8u
#define RANGE_SHORT 128u /* pages: what is left over of a run up to that is of use to others */
#define RANGE_BATCH 1u
/* For one run: the blocks it is cut from or into, those it merges with, and those beside the places at
 * which a long one is looked for, in three parts of the lists of each kind. */
#define RUN_STEPS (6 * ORDERS + BUDDY_KINDS * 3 * RANGE_TRIES * 4 * ORDERS)

bool buddy_trim_inline = true;
bool (*buddy_before_growth)(uint64_t pages);
void (*buddy_after_free)(struct zone *z);

struct zone zone_all[ZONES_ALL] = {
	[0 ... ZONES_ALL - 1] = {
		.lock = LOCK_INIT(LOCK_BUDDY),
		.grow = LOCK_INIT(LOCK_GROW),
	},
};
_Atomic uint32_t zones_used = 1;

/* ---- dirty bits ------------------------------------------------------------------------- */

static uint64_t word_mask(uint32_t from, uint32_t n)
{
	return (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << from;
}

enum bit_op { BITS_COUNT, BITS_SET, BITS_CLEAR };

/* Apply op to n bits from first on; returns how many were set before. */
static always_inline uint32_t dirty_bits(struct region *r, uint32_t first, uint32_t n,
					 enum bit_op op)
{
	uint32_t count = 0;

	while (n) {
		uint32_t at = first & 63;
		uint32_t here = n < 64 - at ? n : 64 - at;
		uint64_t mask = word_mask(at, here);
		uint64_t *word = &r->dirty[first / 64];

		/* As a rule all or none are set, and to count takes long without an instruction for it. */
		if ((*word & mask) == mask)
			count += here;
		else if (*word & mask)
			count += (uint32_t)__builtin_popcountll(*word & mask);
		if (op == BITS_SET)
			*word |= mask;
		else if (op == BITS_CLEAR)
			*word &= ~mask;
		first += here;
		n -= here;
	}
	return count;
}

/* ---- free blocks ------------------------------------------------------------------------ */

static inline void step(struct zone *z, uint32_t n)
{
	if (SLUICE_DEBUG) {
		z->steps += n;
		CHECK(z->steps <= RUN_STEPS);
	}
}

static uint32_t orders_of(const struct zone *z, unsigned kind)
{
	return atomic_load_explicit(&z->orders[kind], memory_order_relaxed);
}

static void orders_set(struct zone *z, unsigned kind, uint32_t orders)
{
	atomic_store_explicit(&z->orders[kind], orders, memory_order_relaxed);
}

static bool is_free_block(struct region *r, uint32_t i, unsigned order)
{
	const struct page *pg = &r->page[i];

	return i + (1u << order) <= r->pages && page_kind(pg) == PAGE_BUDDY && pg->cls == order;
}

static const uint8_t kind_list[BUDDY_KINDS] = {
	[BUDDY_CLEAN] = LIST_BUDDY_CLEAN,
	[BUDDY_DIRTY] = LIST_BUDDY_DIRTY,
	[BUDDY_READY] = LIST_BUDDY_READY,
};

/* Of a free block. */
static unsigned block_kind(const struct page *pg)
{
	return pg->list == LIST_BUDDY_DIRTY   ? BUDDY_DIRTY
	       : pg->list == LIST_BUDDY_READY ? BUDDY_READY
					      : BUDDY_CLEAN;
}

/* Whether pg, a free block, may become one with what is of the kind. */
static bool may_join(const struct zone *z, unsigned kind, const struct page *pg)
{
	return likely(!z->apart) || block_kind(pg) == kind;
}

static void ready_count(struct zone *z, unsigned order, uint64_t pages)
{
	counter_add(&z->ready_pages, pages);
	if (1u << order >= READY_LARGE)
		counter_add(&z->ready_large, pages);
}

static void block_insert(struct zone *z, struct page *pg, unsigned order, bool to_tail, bool ready)
{
	struct region *r = region_of(pg);
	uint32_t n = 1u << order;
	uint32_t dirty = ready ? 0 : dirty_bits(r, page_number(pg), n, BITS_COUNT);
	unsigned kind = ready ? BUDDY_READY : dirty ? BUDDY_DIRTY : BUDDY_CLEAN;
	enum page_list tag = (enum page_list)kind_list[kind];

	step(z, 1);
	page_set_kind(pg, PAGE_BUDDY);
	pg->cls = (uint8_t)order;
	pg->npages = n;
	pg->bare = 0;
	if (to_tail)
		page_list_add_tail(&z->blocks[kind][order], pg, tag);
	else
		page_list_add(&z->blocks[kind][order], pg, tag);
	if (!(orders_of(z, kind) & 1u << order))
		orders_set(z, kind, orders_of(z, kind) | 1u << order);
	r->free_pages += n;
	counter_add(&z->free_pages, n);
	counter_add(&z->dirty_pages, dirty);
	if (unlikely(ready))
		ready_count(z, order, n);
}

static void block_remove(struct zone *z, struct page *pg, enum page_kind becomes)
{
	struct region *r = region_of(pg);
	unsigned order = pg->cls;
	uint32_t n = 1u << order;
	unsigned kind = block_kind(pg);
	uint32_t dirty = kind == BUDDY_DIRTY ? dirty_bits(r, page_number(pg), n, BITS_COUNT) : 0;

	step(z, 1);
	page_list_del(&z->blocks[kind][order], pg, (enum page_list)pg->list);
	if (!z->blocks[kind][order].first)
		orders_set(z, kind, orders_of(z, kind) & ~(1u << order));
	r->free_pages -= n;
	counter_add(&z->free_pages, (uint64_t)0 - n);
	counter_add(&z->dirty_pages, (uint64_t)0 - dirty);
	if (unlikely(kind == BUDDY_READY))
		ready_count(z, order, (uint64_t)0 - n);
	page_set_kind(pg, becomes);
}

/* What n pages that come free will be, where kinds are kept apart. */
static unsigned range_kind(struct zone *z, struct region *r, uint32_t i, uint32_t n, bool ready)
{
	if (likely(!z->apart))
		return BUDDY_CLEAN; /* nobody looks */
	if (ready)
		return BUDDY_READY;
	return dirty_bits(r, i, n, BITS_COUNT) ? BUDDY_DIRTY : BUDDY_CLEAN;
}

/* Free one aligned block and merge it upwards. */
static void block_free(struct zone *z, struct region *r, uint32_t i, unsigned order, bool ready)
{
	unsigned kind = range_kind(z, r, i, 1u << order, ready);
	bool to_tail;

	while (order < ORDER_MAX) {
		uint32_t b = i ^ (1u << order);

		if (!is_free_block(r, b, order) || !may_join(z, kind, &r->page[b]))
			break;
		block_remove(z, &r->page[b], PAGE_NONE);
		page_set_kind(&r->page[i | b], PAGE_NONE);
		i &= ~(1u << order);
		order++;
	}
	/* If the next-order buddy is free, this one's own buddy coming back would make a block
	 * of two orders more: let it stay. */
	to_tail = order + 1 < ORDERS &&
		  is_free_block(r, (i & ~(1u << order)) ^ (2u << order), order + 1);
	block_insert(z, &r->page[i], order, to_tail, ready);
}

/* Free n pages from i on as the aligned blocks they consist of. */
static void range_free(struct zone *z, struct region *r, uint32_t i, uint32_t n, bool ready)
{
	while (n) {
		unsigned by_place = i ? (unsigned)__builtin_ctz(i) : ORDER_MAX;
		unsigned by_size = 31u - (unsigned)__builtin_clz(n);
		unsigned order = by_place < by_size ? by_place : by_size;

		if (order > ORDER_MAX)
			order = ORDER_MAX;
		block_free(z, r, i, order, ready);
		i += 1u << order;
		n -= 1u << order;
	}
}

void run_free_locked(struct page *pg)
{
	struct region *r = region_of(pg);
	uint32_t i = page_number(pg);
	uint32_t n = pg->npages;

	CHECK(n >= 1 && i + n <= r->pages);
	run_begin(r->zone);
	if (pg->zero == ZERO_NOT)
		dirty_bits(r, i, n, BITS_SET);
	else if (pg->zero == ZERO_READY)
		counter_add_shared(&zone_lead(r->zone)->ready_taken, (uint64_t)0 - n);
	page_set_kind(pg, PAGE_NONE);
	pg->list = LIST_NONE;
	range_free(r->zone, r, i, n, pg->zero == ZERO_READY);
}

void run_cut_locked(struct zone *z, struct page *pg, uint32_t npages, unsigned kind)
{
	if (npages < pg->npages)
		range_free(z, region_of(pg), page_number(pg) + npages, pg->npages - npages,
			   kind == BUDDY_READY);
	pg->cls = 0;
	pg->npages = npages;
}

struct page *block_take(struct zone *z, unsigned kind, unsigned order)
{
	uint32_t orders = orders_of(z, kind) >> order;
	struct page *pg;

	if (!orders)
		return NULL;
	pg = z->blocks[kind][order + (unsigned)__builtin_ctz(orders)].first;
	block_remove(z, pg, PAGE_LIMBO);
	return pg;
}

/* The free block that ends before page i and may join one of the kind; its first page, or i if there
 * is none. */
static uint32_t free_block_before(struct region *r, uint32_t i, unsigned kind)
{
	for (unsigned o = 0; o < ORDERS && (i & ((1u << o) - 1)) == 0 && i >= 1u << o; o++) {
		if (is_free_block(r, i - (1u << o), o))
			return may_join(r->zone, kind, &r->page[i - (1u << o)]) ? i - (1u << o) : i;
	}
	return i;
}

/* Where the free blocks side by side begin that pg is one of, and how many pages they have. */
static struct page *range_around(struct page *pg, uint32_t *pages)
{
	struct region *r = region_of(pg);
	uint32_t first = page_number(pg);
	uint32_t end = first + pg->npages;
	unsigned kind = block_kind(pg);
	uint32_t before;

	while ((before = free_block_before(r, first, kind)) != first) {
		step(r->zone, 1);
		first = before;
	}
	while (end < r->pages && page_kind(&r->page[end]) == PAGE_BUDDY &&
	       may_join(r->zone, kind, &r->page[end])) {
		step(r->zone, 1);
		end += r->page[end].npages;
	}
	*pages = end - first;
	return &r->page[first];
}

/* Free blocks side by side. */
struct range {
	struct page *first;
	struct page *block; /* the one of them by which it was found */
	uint32_t pages;
};

/* Look at up to `tries` of the free blocks of a list for a better place for n pages. Returns how many tries
 * are left. */
static unsigned range_look(const struct page_list_head *blocks, uint32_t n, unsigned tries,
			   struct range *best)
{
	for (struct page *pg = blocks->first; pg && tries && best->pages != n;
	     pg = pg->next, tries--) {
		struct range r;

		if (best->first && pg >= best->first && pg < best->first + best->pages)
			continue;
		r.first = range_around(pg, &r.pages);
		r.block = pg;
		if (r.pages >= n &&
		    (r.pages < best->pages || (r.pages == best->pages && r.first < best->first)))
			*best = r;
	}
	return tries;
}

/*
 * A long run: of free blocks side by side, which need not be buddies, the shortest range that is long
 * enough of those that are looked at. Large programs live on that little is left over.
 */
static struct page *range_take(struct zone *z, unsigned kind, uint32_t npages, unsigned order)
{
	const struct page_list_head *blocks = z->blocks[kind];
	uint32_t orders = orders_of(z, kind) >> (order - 2) << (order - 2);
	uint32_t larger = orders >> order << order;
	struct range best = { NULL, NULL, UINT32_MAX };
	unsigned most = npages <= RANGE_SHORT ? RANGE_TRIES / 2 : RANGE_TRIES;
	uint32_t pages = 0;

	if (is_pow2(npages) && larger == orders && is_pow2(orders) &&
	    !blocks[__builtin_ctz(orders)].first->next)
		return block_take(z, kind, order); /* there is one block only */
	for (unsigned tries = most; larger && tries; larger &= larger - 1)
		tries = range_look(&blocks[__builtin_ctz(larger)], npages, tries, &best);
	range_look(&blocks[order - 2], npages, most, &best);
	range_look(&blocks[order - 1], npages, most, &best);
	if (!best.first)
		return NULL;
	/* One block is split and merged in fewer steps than several. */
	if (is_pow2(npages) && best.block->npages >= npages) {
		block_remove(z, best.block, PAGE_LIMBO);
		return best.block;
	}
	while (pages < npages) {
		struct page *block = best.first + pages;

		pages += block->npages;
		block_remove(z, block, PAGE_NONE);
	}
	page_set_kind(best.first, PAGE_LIMBO);
	best.first->npages = pages;
	return best.first;
}

/* What is asked for: runs of npages, each at the start of a block of the order, or anywhere. */
struct want {
	uint32_t npages;
	unsigned order;
	bool anywhere;
};

static struct page *kind_take(struct zone *z, unsigned kind, const struct want *want)
{
	if (!orders_of(z, kind))
		return NULL;
	return want->anywhere ? range_take(z, kind, want->npages, want->order)
			      : block_take(z, kind, want->order);
}

/* Memory of the kinds (a bit each) that is backed first: dirty, then ready; then clean. */
static struct page *run_alloc_locked(struct zone *z, const struct want *want, unsigned kinds)
{
	uint32_t npages = want->npages;
	unsigned kind = BUDDY_DIRTY;
	struct page *pg = NULL;

	run_begin(z);
	if (kinds & 1u << BUDDY_DIRTY)
		pg = kind_take(z, BUDDY_DIRTY, want);
	if (!pg && (kinds & 1u << BUDDY_READY)) {
		kind = BUDDY_READY;
		pg = kind_take(z, BUDDY_READY, want);
	}
	if (!pg && (kinds & 1u << BUDDY_CLEAN)) {
		kind = BUDDY_CLEAN;
		pg = npages > RANGE_SHORT || buddy_is_tight(z)
			     ? kind_take(z, BUDDY_CLEAN, want)
			     : block_take(z, BUDDY_CLEAN, want->order);
	}
	if (!pg)
		return NULL;
	/* What is too much goes back: upper halves of the splits and the exact tail alike. */
	run_cut_locked(z, pg, npages, kind);
	if (kind == BUDDY_READY) {
		pg->zero = ZERO_READY;
		counter_add_shared(&zone_lead(z)->ready_taken, npages);
		stat_add(STAT_reserve_used_bytes, (uint64_t)npages << PG_SHIFT);
	} else if (dirty_bits(region_of(pg), page_number(pg), npages, BITS_COUNT)) {
		pg->zero = ZERO_NOT;
	} else {
		pg->zero = ZERO_CLEAN;
		counter_add_shared(&zone_lead(z)->clean_taken, npages);
		if (z->apart)
			stat_add(STAT_reserve_missed_bytes, (uint64_t)npages << PG_SHIFT);
	}
	return pg;
}

/* ---- the lock, and frees that could not have it ------------------------------------------ */

static void defer_push(struct zone *z, struct page *pg)
{
	SHARE_COUNT(zone_deferred);
	page_set_kind(pg, PAGE_LIMBO);
	page_stack_push(&z->deferred, pg, DELAY_buddy_defer);
	stat_add(STAT_frees_deferred, 1);
}

/* Up to BUDDY_BATCH - 1 of the runs that were deferred. */
static noinline void late_work(struct zone *z)
{
	if (!z->late) {
		SHARE_COUNT(zone_deferred);
		z->late = page_stack_take_all(&z->deferred);
	}
	for (unsigned n = 1; z->late && n < BUDDY_BATCH; n++) {
		struct page *pg = z->late;

		z->late = pg->stack_next;
		run_free_locked(pg);
	}
}

/*
 * How many of the zones' locks, and of their grow locks, this thread holds or is about to take. A call that
 * finds some is a signal handler's: the call that it interrupted holds one, and so may the call that
 * another thread's handler interrupted, which wants ours. So it waits for no zone, it only tries. They are
 * raised before the word is taken and lowered after it was let go of.
 */
static _Thread_local uint32_t locks_held TLS_FAST;
static _Thread_local uint32_t grows_held TLS_FAST;

/* Some lock was not to be had once: from then on we look before we ask. */
static _Atomic bool lock_lost;

/* 0; -EBUSY: somebody else has it, who will let go; -EDEADLK, -EAGAIN: as lock_acquire. */
static int lock_or_try(struct lock *l, bool tries)
{
	if (unlikely(atomic_load_explicit(&lock_lost, memory_order_relaxed)) && lock_is_stuck(l))
		return lock_held(l) ? -EDEADLK : -EAGAIN;
	if (likely(!tries)) {
		int err = lock_acquire(l);

		if (unlikely(err == -EAGAIN) && !lock_fork_under_way())
			atomic_store_explicit(&lock_lost, true, memory_order_relaxed);
		return err;
	}
	if (SLUICE_DEBUG) /* whose ranks they are cannot be told */
		atomic_store_explicit(&lock_ranks_off, 1, memory_order_relaxed);
	if (lock_held(l))
		return -EDEADLK;
	return lock_try(l) ? 0 : -EBUSY;
}

static int zone_lock_err(struct zone *z)
{
	int err;

	locks_held++;
	err = lock_or_try(&z->lock, locks_held > 1);
	if (unlikely(err)) {
		locks_held--;
		return err;
	}
	if (unlikely(z->late || atomic_load_explicit(&z->deferred, memory_order_relaxed)))
		late_work(z);
	return 0;
}

bool zone_lock(struct zone *z)
{
	return zone_lock_err(z) == 0;
}

void zone_unlock(struct zone *z)
{
	lock_release(&z->lock);
	locks_held--;
	if (SLUICE_DEBUG && unlikely(locks_held))
		hold_count[LOCK_BUDDY] = 0; /* the interrupted hold begins to count again */
}

static int grow_lock(struct zone *z)
{
	int err;

	grows_held++;
	err = lock_or_try(&z->grow, grows_held > 1 || locks_held);
	if (unlikely(err))
		grows_held--;
	return err;
}

static void grow_unlock(struct zone *z)
{
	lock_release(&z->grow);
	grows_held--;
}

/* ---- regions ----------------------------------------------------------------------------- */

/* Add pages [r->pages, pages) of a region as free blocks, clean unless their bits say otherwise.
 * False: no lock to be had. */
static bool region_add_pages(struct zone *z, struct region *r, uint32_t pages)
{
	uint32_t from;

	if (!zone_lock(z))
		return false;
	from = r->pages;
	r->pages = pages;
	run_begin(z);
	range_free(z, r, from, pages - from, false);
	counter_add(&z->total_pages, pages - from);
	counter_add(&z->grown, 1);
	zone_unlock(z);
	return true;
}

/* Whether the process has grown to what a zone takes at a time; not where that is filled at once. */
static bool is_grown(struct zone *z)
{
	uint64_t pages = zone_sum(z, total_pages);

	return pages + REGION_META_PAGES >= options.region_step >> PG_SHIFT &&
	       !atomic_load_explicit(&z->locked, memory_order_relaxed);
}

/* Regions grow by whole pages of the kernel's and of ours, whichever are larger. */
static size_t step_whole(size_t step)
{
	return align_down(step, max_size(PG_BYTES, vm_os_page));
}

/*
 * Bytes to try for, largest first: as many as there are, up to what the option says, so that a small
 * process that locks its memory (mlockall) locks little that it does not use; less under a limit on
 * address space so that the program's own mappings find room; halved while the kernel refuses.
 */
static size_t step_bytes(struct zone *z, bool *limited)
{
	uint64_t pages = atomic_load_explicit(&z->total_pages, memory_order_relaxed);
	size_t limit;
	size_t step = min_size(options.region_step, max_size(STEP_FIRST, pages << PG_SHIFT));

	if (atomic_load_explicit(&z->locked, memory_order_relaxed))
		step = STEP_MIN;
	*limited = vm_address_limited(&limit);
	if (*limited != buddy_is_tight(z))
		atomic_store_explicit(&zone_lead(z)->tight, *limited, memory_order_relaxed);
	if (*limited)
		step = min_size(step, max_size(STEP_MIN, align_down(limit / 64, STEP_MIN)));
	return step_whole(step);
}

/* Make the next bytes of a region's reserved address space usable. Guarded by: grow. */
static bool region_commit(struct zone *z, struct region *r, size_t bytes)
{
	char *at = (char *)r + ((size_t)r->pages << PG_SHIFT);

	if (!vm_commit(at, bytes))
		return false;
	vm_huge_as_set(at, bytes, buddy_used_pages(z) >= THP_PAGES);
	DELAY_HERE(grow_committed);
	/* Without the zone's lock (a fork, or a signal handler whose thread holds it) nothing is
	 * lost: the space is still reserved, and is made usable again by the next try. */
	return region_add_pages(z, r, r->pages + (uint32_t)(bytes >> PG_SHIFT));
}

static void region_publish(struct zone *z, struct region *r, uint32_t reserved)
{
	r->zone = z;
	r->pages = REGION_META_PAGES;
	r->reserved = reserved;
	r->next = atomic_load_explicit(&z->regions, memory_order_relaxed);
	/* Release pairs with the acquire in buddy_first_region. */
	atomic_store_explicit(&z->regions, r, memory_order_release);
	pagemap_add(r);
	stat_add(STAT_regions_made, 1);
}

/*
 * Guarded by: grow. Reserve address space for some regions, less and less when refused; for one to begin
 * with. It is a part of what is usable, because a program may set a limit on its address space at any time, and
 * what is reserved counts. Each reservation makes a mapping or two, so their number grows with the logarithm up to the option's bytes.
 */
static void reserve_space(struct zone *z)
{
	uint64_t part = (zone_sum(z, total_pages) << PG_SHIFT) / RESERVE_PART / zone_family(z);
	size_t bytes = min_size(align_down(options.reserve_address, REGION_BYTES),
				max_size(align_down(part, REGION_BYTES), REGION_BYTES));

	if (!buddy_first_region(z))
		bytes = min_size(bytes, REGION_BYTES);

	for (; bytes >= REGION_BYTES; bytes = align_down(bytes / 2, REGION_BYTES)) {
		void *p = vm_reserve(bytes, REGION_BYTES);

		if (p) {
			z->reserve_next = (uintptr_t)p;
			z->reserve_end = (uintptr_t)p + bytes;
			return;
		}
	}
	z->reserve_refused = true;
}

/* Bytes for a region, below the last one if nobody has that, or elsewhere. */
static struct region *region_map(struct zone *z, size_t bytes)
{
	struct region *last = buddy_first_region(z);
	struct region *r = (struct region *)((uintptr_t)last - REGION_BYTES);
	int err = last ? vm_try_map_at(r, bytes) : -EEXIST;

	if (err == -EEXIST)
		return vm_map(bytes, REGION_BYTES);
	return err ? NULL : r;
}

/* Metadata out of a reservation: what guards them stays without access. */
static bool region_commit_meta(struct region *r)
{
	size_t meta = (size_t)REGION_META_PAGES << PG_SHIFT;

	if (vm_os_page > REGION_GUARD)
		return vm_commit(r, meta);
	return vm_commit((char *)r + REGION_GUARD, meta - 2 * REGION_GUARD);
}

/* Of a region that was mapped as a whole. */
static void region_guard(struct region *r)
{
	size_t meta = (size_t)REGION_META_PAGES << PG_SHIFT;

	if (vm_os_page > REGION_GUARD)
		return;
	vm_guard(r, REGION_GUARD);
	vm_guard((char *)r + meta - REGION_GUARD, REGION_GUARD);
}

/*
 * A new region with its metadata mapped and no page usable yet: out of the reservation, or, when
 * there is none, mapped with room for step bytes. Where memory is locked nothing is reserved: the kernel counts
 * that as well (RLIMIT_MEMLOCK). Guarded by: grow.
 */
static struct region *region_new(struct zone *z, bool limited, size_t step)
{
	size_t meta = (size_t)REGION_META_PAGES << PG_SHIFT;
	struct region *r;
	size_t bytes;

	if (!limited && z->reserve_next == z->reserve_end && !z->reserve_refused &&
	    !atomic_load_explicit(&z->locked, memory_order_relaxed))
		reserve_space(z);
	if (z->reserve_next != z->reserve_end) {
		r = (struct region *)z->reserve_next;
		if (!region_commit_meta(r))
			return NULL;
		z->reserve_next += REGION_BYTES;
		region_publish(z, r, REGION_PAGES);
		return r;
	}
	bytes = min_size(align_up(meta + step, vm_os_page), REGION_BYTES);
	r = region_map(z, bytes);
	if (r) {
		region_guard(r);
		region_publish(z, r, (uint32_t)(bytes >> PG_SHIFT));
	}
	return r;
}

/*
 * Make step bytes of r usable or, when refused, less, but not below least; not more than STEP_MIN if it can
 * be helped where the kernel fills them at once. Guarded by: grow.
 */
static bool region_grow(struct zone *z, struct region *r, size_t step, size_t least)
{
	size_t room = (size_t)(r->reserved - r->pages) << PG_SHIFT;
	bool locked;

	if (room < least)
		return false;
	locked = vm_locked((char *)r + ((size_t)r->pages << PG_SHIFT));
	atomic_store_explicit(&z->locked, locked, memory_order_relaxed);
	if (locked)
		step = STEP_MIN;
	for (step = step_whole(min_size(max_size(step, least), room)); step >= least;
	     step = step_whole(step / 2)) {
		if (region_commit(z, r, step))
			return true;
	}
	return false;
}

/*
 * Have room for bytes behind the pages of r: what it has reserved, or more address space behind that (all
 * of it, of an offline one). 0; -EEXIST: somebody else has it; -ENOMEM: refused. Guarded by: grow.
 */
static int region_room(struct region *r, size_t bytes)
{
	size_t old = (size_t)r->reserved << PG_SHIFT;
	size_t end = align_up(((size_t)r->pages << PG_SHIFT) + bytes, vm_os_page);
	int err;

	if (end <= old)
		return 0;
	err = vm_try_map_at((char *)r + old, end - old);
	if (err)
		return err;
	r->reserved = (uint32_t)(end >> PG_SHIFT);
	r->offline = 0;
	return 0;
}

/*
 * Get up to step bytes of the address space of a block back, the front of it first, and free its pages. 0;
 * -EEXIST: somebody else has it; -ENOMEM: refused, or no lock. Guarded by: grow.
 */
static int away_return(struct zone *z, struct page **link, size_t step)
{
	struct page *pg = *link;
	uint32_t n = (uint32_t)(align_up(step, vm_os_page) >> PG_SHIFT);
	bool mapped = pg->zero == ZERO_NOT;
	struct page *rest;
	int err;

	if (n + (STEP_LEAST >> PG_SHIFT) > pg->npages)
		n = pg->npages; /* the rest would be of no use */
	rest = n < pg->npages ? pg + n : pg->next;
	err = mapped ? 0 : vm_try_map_at(page_address(pg), (size_t)n << PG_SHIFT);
	if (err)
		return err;
	if (!zone_lock(z)) {
		if (!mapped)
			vm_unmap(page_address(pg), (size_t)n << PG_SHIFT);
		return -ENOMEM;
	}
	if (n < pg->npages) {
		rest->npages = pg->npages - n;
		rest->zero = pg->zero;
		rest->bare = 0;
		rest->next = pg->next;
		rest->list = LIST_NONE;
		page_set_kind(rest, PAGE_AWAY);
	} else {
		z->away_count--;
	}
	*link = rest;
	pg->npages = n;
	run_free_locked(pg);
	counter_add(&z->total_pages, n);
	counter_add(&z->grown, 1);
	zone_unlock(z);
	return 0;
}

/* Whether a block for which `least` bytes are enough wherever they begin can be had from it. */
static bool away_holds(const struct page *pg, size_t least)
{
	uint32_t n = 1u << order_of((uint32_t)(least >> PG_SHIFT) / 2);
	uint32_t first = page_number(pg);

	return align_up(first, n) + n <= first + pg->npages;
}

/* What was given back. 0; -EEXIST: there is none; -ENOMEM. Guarded by: grow. */
static int grow_away(struct zone *z, size_t step, size_t least)
{
	for (struct page **at = &z->away; *at; at = &(*at)->next) {
		int err;

		if ((*at)->bare || !away_holds(*at, least))
			continue;
		err = away_return(z, at, step);
		if (err != -EEXIST)
			return err;
		(*at)->bare = 1; /* it is in somebody's way */
	}
	return -EEXIST;
}

/*
 * By step bytes of address space, or what is left in a region, but at least `least`: what was given back, then
 * what lies behind a region, so that its metadata serve as many pages as they can, then a new region.
 * Guarded by: grow.
 */
static bool grow_space(struct zone *z, bool limited, size_t step, size_t least)
{
	int err = grow_away(z, step, least);
	struct region *r;

	if (err != -EEXIST)
		return err == 0;
	for (r = buddy_first_region(z); r; r = r->next) {
		size_t bytes = min_size(step, (size_t)(REGION_PAGES - r->pages) << PG_SHIFT);

		if (r->blocked || bytes < least)
			continue;
		err = region_room(r, bytes);
		if (err == -EEXIST)
			r->blocked = true;
		else
			return !err && region_grow(z, r, bytes, least);
	}
	/* The metadata are not worth it for less. */
	if (step < STEP_MIN && !z->refused)
		return false;
	step = max_size(step, STEP_MIN);
	r = region_new(z, limited, step);
	return r && region_grow(z, r, step, least);
}

/* Guarded by: grow. */
static void try_blocked_again(struct zone *z)
{
	for (struct region *r = buddy_first_region(z); r; r = r->next)
		r->blocked = false;
	for (struct page *pg = z->away; pg; pg = pg->next)
		pg->bare = 0;
}

/* Room in a region that is there comes first; then address space, less and less while it is refused. A
 * growth after one that was refused asks once, so that what fails again and again costs little. */
int zone_grow(struct zone *z, unsigned order, uint64_t seen)
{
	size_t least = min_size(max_size(max_size(STEP_LEAST, vm_os_page), PG_BYTES << (order + 1)),
				(size_t)(REGION_PAGES - REGION_META_PAGES) << PG_SHIFT);
	struct region *r;
	size_t step;
	bool limited;
	bool good = false;
	int err = grow_lock(z);

	if (err)
		return err;
	if (atomic_load_explicit(&z->grown, memory_order_relaxed) != seen) {
		grow_unlock(z);
		return 0; /* somebody did */
	}
	limited = buddy_is_tight(z);
	step = max_size(z->refused ? 0 : step_bytes(z, &limited), least);
	for (r = buddy_first_region(z); r && !good; r = r->next)
		good = region_grow(z, r, step, least);
	while (!good && step >= least) {
		good = grow_space(z, limited, step, least);
		step = step > least ? max_size(align_down(step / 2, vm_os_page), least) : 0;
	}
	z->refused = !good;
	if (!good && ++z->refusals % RETRY_REFUSALS == 0)
		try_blocked_again(z);
	grow_unlock(z);
	return good ? 0 : -ENOMEM;
}

void buddy_init(struct zone *z)
{
	z->apart = options.reserve != 0;
}

/* ---- the interface ----------------------------------------------------------------------- */

/* An allocation: what is asked for, and what was had so far. */
struct taking {
	struct want want;
	unsigned n;
	unsigned least;
	struct page **out;
	unsigned got;
	bool busy; /* a zone was passed over whose lock somebody has who will let go of it */
};

#define KINDS_DIRTY (1u << BUDDY_DIRTY)
#define KINDS_ALL ((1u << BUDDY_KINDS) - 1)

/* One hold of the lock: up to BUDDY_BATCH runs of the kinds, until `end` are had. */
static int alloc_hold(struct zone *z, struct taking *t, unsigned kinds, unsigned end)
{
	unsigned most = t->want.anywhere ? RANGE_BATCH : BUDDY_BATCH;
	int err = zone_lock_err(z);

	if (err) {
		t->busy |= err == -EBUSY;
		return err;
	}
	if (end > t->got + most)
		end = t->got + most;
	while (t->got < end) {
		struct page *pg = run_alloc_locked(z, &t->want, kinds);

		if (!pg)
			break;
		t->out[t->got++] = pg;
	}
	zone_unlock(z);
	ready_look(z);
	return 0;
}

/* As many of the kinds as there are, until `end` are had. */
static int alloc_holds(struct zone *z, struct taking *t, unsigned kinds, unsigned end)
{
	unsigned before;
	int err;

	do {
		before = t->got;
		err = alloc_hold(z, t, kinds, end);
	} while (!err && t->got < end && t->got != before);
	return err;
}

/* Whether a zone seems to have what is wanted. A look without its lock: it may have gone, or come, since,
 * and then the zone is asked in vain, or passed over as if it had been a moment ago. */
static bool may_have(const struct zone *z, const struct want *want, unsigned kinds)
{
	unsigned order = want->anywhere ? want->order - 2 : want->order;

	for (unsigned kind = 0; kind < BUDDY_KINDS; kind++)
		if ((kinds & 1u << kind) && orders_of(z, kind) >> order)
			return true;
	return false;
}

/* What the others have of the kinds, those behind z first; no two locks are held together. */
static void alloc_of_others(struct zone *z, struct taking *t, unsigned kinds, unsigned end)
{
	uint32_t n = zone_family(z);
	uint32_t me = (uint32_t)(z - zone_lead(z));

	for (uint32_t i = 1; i < n && t->got < end; i++) {
		struct zone *other = &zone_all[(me + i) % n];

		if (may_have(other, &t->want, kinds))
			alloc_holds(other, t, kinds, end);
	}
}

/*
 * What is free: dirty memory of the zone's own, then of others, so that memory which is backed already is
 * used before what would have to be; then what the zone has otherwise; and if that is too little what others
 * have. Returns what became of the zone's own lock.
 */
static int alloc_free(struct zone *z, struct taking *t)
{
	int err;

	if (likely(zone_family(z) == 1))
		return alloc_holds(z, t, KINDS_ALL, t->n);
	if (may_have(z, &t->want, KINDS_DIRTY))
		alloc_holds(z, t, KINDS_DIRTY, t->n);
	alloc_of_others(z, t, KINDS_DIRTY, t->n);
	if (t->got == t->n)
		return 0;
	err = alloc_holds(z, t, KINDS_ALL, t->n);
	if (t->got < t->least)
		alloc_of_others(z, t, KINDS_ALL, t->n);
	return err;
}

static uint64_t growth(struct zone *z)
{
	return atomic_load_explicit(&z->clean_taken, memory_order_relaxed) +
	       atomic_load_explicit(&z->mapped, memory_order_relaxed);
}

/* The growth of all zones is counted at one place, which is written as it grows, so that limits hold
 * however many there are. z: zone_lead's, here and below. */
static bool ask_others(struct zone *z, uint64_t pages)
{
	uint64_t used = buddy_used_pages(z);
	uint64_t step = used / 8 > BUDDY_ASK_PAGES ? used / 8 : BUDDY_ASK_PAGES;
	uint64_t most = atomic_load_explicit(&z->ask_most, memory_order_relaxed);

	if (most && most < step)
		step = most;
	atomic_store_explicit(&z->ask_at, growth(z) + step, memory_order_relaxed);
	return buddy_before_growth && buddy_before_growth(pages);
}

bool ask_others_in_time(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = atomic_load_explicit(&z->ask_at, memory_order_relaxed);

	if (likely(growth(z) < at))
		return false;
	/* The first BUDDY_ASK_PAGES are a process's own. */
	if (at == 0) {
		atomic_store_explicit(&z->ask_at, BUDDY_ASK_PAGES, memory_order_relaxed);
		if (growth(z) + pages < BUDDY_ASK_PAGES)
			return false;
	}
	ask_others(z, pages);
	return true;
}

void buddy_ask_within(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = growth(z) + pages;

	atomic_store_explicit(&z->ask_most, pages, memory_order_relaxed);
	if (pages && at < atomic_load_explicit(&z->ask_at, memory_order_relaxed))
		atomic_store_explicit(&z->ask_at, at, memory_order_relaxed);
}

void buddy_ask_again(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = growth(z) + pages;

	if (at < atomic_load_explicit(&z->ask_at, memory_order_relaxed))
		atomic_store_explicit(&z->ask_at, at, memory_order_relaxed);
}

void buddy_before_mapping(struct zone *any, uint64_t mapped, size_t bytes)
{
	struct zone *z = zone_lead(any);

	atomic_store_explicit(&z->mapped, (mapped + bytes) >> PG_SHIFT, memory_order_relaxed);
	ask_others_in_time(z, bytes >> PG_SHIFT);
}

/* The zone's free memory, and as much growth as is needed to have the least that is asked for. */
static int alloc_grow(struct zone *z, struct taking *t, bool asked)
{
	for (;;) {
		uint64_t seen = atomic_load_explicit(&z->grown, memory_order_relaxed);
		int err = alloc_free(z, t);

		if (err || t->got >= t->least)
			return err;
		/* Small steps are not worth it: who is asked in time is. */
		if (!asked && seen && is_grown(z)) {
			asked = true;
			if (ask_others(zone_lead(z), t->want.npages))
				continue;
		}
		err = zone_grow(z, t->want.order, seen);
		t->busy |= err == -EBUSY;
		if (err)
			return err;
	}
}

/* One zone more. NULL: there is none, or a fork is under way, which holds the locks only for now. */
static struct zone *zone_add(uint32_t seen)
{
	uint32_t n = seen;

	if (seen == ZONES_ALL || lock_fork_under_way())
		return NULL;
	/* Or somebody else did. */
	if (atomic_compare_exchange_strong_explicit(&zones_used, &n, n + 1, memory_order_relaxed,
						    memory_order_relaxed))
		stat_add(STAT_zones_added, 1);
	return &zone_all[seen];
}

/*
 * The zone's own lock is not to be had, or the kernel refuses to grow it: others serve, by growth, too. Where
 * no zone's locks are to be had at all, which this thread holds (we are a signal handler's call) or a
 * thread that does not come back, one more comes into use.
 */
static noinline void alloc_elsewhere(struct zone *z, struct taking *t, int err)
{
	uint32_t n = zone_family(z);
	uint32_t me = (uint32_t)(z - zone_lead(z));
	bool lost = err != -ENOMEM;

	for (uint32_t i = 1; i < n && t->got < t->least; i++) {
		err = alloc_grow(&zone_all[(me + i) % n], t, true);
		lost = lost && err != -ENOMEM;
	}
	if (t->got >= t->least || !lost || t->busy)
		return;
	z = zone_add(n);
	if (z)
		alloc_grow(z, t, true);
}

static unsigned alloc_runs(struct zone *z, const struct want *want, unsigned n, unsigned least,
			   struct page **out)
{
	bool asked = ask_others_in_time(z, (uint64_t)want->npages * least);
	struct taking t = { .want = *want, .n = n, .least = least, .out = out };
	int err = alloc_grow(z, &t, asked);

	if (unlikely(t.got < least) && zone_is_one_of_all(z))
		alloc_elsewhere(z, &t, err);
	return t.got;
}

unsigned buddy_alloc_bulk(struct zone *z, uint32_t npages, unsigned n, unsigned least,
			  struct page **out)
{
	uint32_t odd = buddy_is_tight(z) ? 3 : RANGE_PAGES_MIN; /* from here on */
	struct want want = { npages, order_of(npages),
			     npages > RANGE_SHORT || (npages >= odd && !is_pow2(npages)) };

	DCHECK(npages >= 1 && npages <= RUN_PAGES_MAX);
	return alloc_runs(z, &want, n, least, out);
}

unsigned buddy_alloc_blocks(struct zone *z, unsigned order, unsigned n, struct page **out)
{
	struct want want = { 1u << order, order, false };

	return alloc_runs(z, &want, n, n, out);
}

struct page *buddy_alloc_aligned(struct zone *z, uint32_t npages, unsigned order)
{
	struct want want = { npages, order_of(npages), false };
	struct page *pg;

	if (order > ORDER_MAX)
		return NULL;
	if (want.order < order)
		want.order = order;
	return alloc_runs(z, &want, 1, 1, &pg) ? pg : NULL;
}

/*
 * How many dirty pages may be kept beside those that always may, `most` for the first reason. Dirty pages that were taken
 * since the last look (trim_reused) were kept for a good reason. What a free gave back and was taken
 * again within decay_ms would better have been kept.
 */
static uint64_t trim_earned(struct zone *z, uint64_t now, uint64_t most)
{
	uint64_t taken = atomic_load_explicit(&z->clean_taken, memory_order_relaxed);
	uint64_t since = taken -
			 atomic_exchange_explicit(&z->trim_seen, taken, memory_order_relaxed);
	uint64_t gone = atomic_load_explicit(&z->trim_gone, memory_order_relaxed);
	uint64_t earned = atomic_load_explicit(&z->trim_earned, memory_order_relaxed);
	uint64_t reused = atomic_exchange_explicit(&z->trim_reused, 0, memory_order_relaxed);
	uint64_t again = 0;

	if (now - atomic_load_explicit(&z->trim_gone_at, memory_order_relaxed) <= options.decay_ms)
		again = min_size(gone, since);
	if (again || reused) {
		atomic_store_explicit(&z->trim_gone, gone - again, memory_order_relaxed);
		earned = max_size(earned, min_size(earned + reused, most)) + TRIM_EARNED * again;
	} else if (earned && now - atomic_load_explicit(&z->trim_earned_at, memory_order_relaxed) >
				     TRIM_LATELY * (uint64_t)options.decay_ms) {
		earned = 0;
	} else {
		return earned;
	}
	atomic_store_explicit(&z->trim_earned, earned, memory_order_relaxed);
	atomic_store_explicit(&z->trim_earned_at, now, memory_order_relaxed);
	return earned;
}

/* Of the dirty pages that were free for all of decay_ms, those that may go in this call. */
static uint64_t trim_decayed(struct zone *z, uint64_t now, uint64_t dirty, uint64_t freed)
{
	uint64_t low = atomic_load_explicit(&z->trim_low, memory_order_relaxed);
	uint64_t due = atomic_load_explicit(&z->trim_due, memory_order_relaxed);
	uint64_t n;

	if (low > dirty - freed)
		low = dirty - freed;
	if (now - atomic_load_explicit(&z->trim_at, memory_order_relaxed) >= options.decay_ms) {
		atomic_store_explicit(&z->trim_at, now, memory_order_relaxed);
		due = low;
		low = dirty;
	}
	n = min_size(due, freed + TRIM_PAGES);
	atomic_store_explicit(&z->trim_low, low, memory_order_relaxed);
	atomic_store_explicit(&z->trim_due, due - n, memory_order_relaxed);
	return n;
}

/* What z may keep of `pages` that all may: its part, and a quarter of what it has in use itself. */
static uint64_t zone_part(struct zone *z, uint64_t pages)
{
	uint64_t all = atomic_load_explicit(&z->total_pages, memory_order_relaxed);
	uint64_t unused = atomic_load_explicit(&z->free_pages, memory_order_relaxed);

	return pages / zone_family(z) + (all > unused ? (all - unused) / 4 : 0);
}

/* Purge `over` dirty pages, but not more than `most`: of the zone that has the most of them. Returns how many. */
static uint64_t trim_most(struct zone *z, uint64_t over, uint64_t most)
{
	struct zone *lead = zone_lead(z);
	uint32_t n = zone_family(z);
	uint64_t dirty = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t here = atomic_load_explicit(&lead[i].dirty_pages, memory_order_relaxed);

		if (here > dirty) {
			dirty = here;
			z = &lead[i];
		}
	}
	return buddy_purge(z, dirty > over ? dirty - over : 0, most) >> PG_SHIFT;
}

/* More than may be kept is dirty. */
static void trim_over(struct zone *z, uint64_t dirty, uint64_t soft, uint64_t most, uint64_t freed)
{
	struct zone *lead = zone_lead(z);
	uint64_t now = clock_ms();
	uint64_t hard = soft + trim_earned(lead, now, most);
	uint64_t earned;
	uint64_t n;

	if (dirty > hard) {
		n = trim_most(z, dirty - (hard - soft / 8), 3 * freed + TRIM_PAGES);
		if (!n)
			return;
		atomic_store_explicit(&lead->trim_last, 0, memory_order_relaxed);
		counter_add_shared(&lead->trim_gone, n);
		atomic_store_explicit(&lead->trim_gone_at, now, memory_order_relaxed);
		return;
	}
	n = trim_most(z, dirty - soft, trim_decayed(lead, now, dirty, min_size(freed, dirty)));
	if (!n)
		return;
	atomic_store_explicit(&lead->trim_last, 0, memory_order_relaxed);
	earned = atomic_load_explicit(&lead->trim_earned, memory_order_relaxed);
	atomic_store_explicit(&lead->trim_earned, earned - min_size(earned, n),
			      memory_order_relaxed);
}

/*
 * While there is no background thread a free gives dirty pages back: those above dirty_max and a quarter of what
 * is in use. A program that takes and frees big blocks in turn, or builds something and tears it down again and again,
 * uses them again soon: that earns it more that are kept, until nobody has used those for decay_ms. Bounded: a
 * few times what the call freed and a little more, so that it never falls behind.
 */
static void trim(struct zone *z, uint64_t freed)
{
	uint64_t dirty = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);
	uint64_t max = options.dirty_max >> PG_SHIFT;
	uint64_t used;
	uint64_t soft;
	uint64_t last;
	struct zone *lead = zone_lead(z);

	if (unlikely(buddy_after_free != NULL))
		buddy_after_free(z);
	if (!buddy_trim_inline)
		return;
	/* While each zone keeps to its part the sum is not looked at: who frees next here goes on. */
	if (zone_family(z) > 1 && dirty <= zone_part(z, max))
		return;
	dirty = zone_sum(z, dirty_pages);
	if (dirty < max / 2)
		return;
	last = atomic_load_explicit(&lead->trim_last, memory_order_relaxed);
	if (dirty < last)
		counter_add_shared(&lead->trim_reused, last - dirty);
	atomic_store_explicit(&lead->trim_last, dirty, memory_order_relaxed);
	used = buddy_used_pages(z);
	soft = max + used / 4;
	if (dirty > soft)
		trim_over(z, dirty, soft, max_size(3 * used, TRIM_TEARDOWN * max), freed);
	else if (atomic_load_explicit(&lead->trim_low, memory_order_relaxed))
		atomic_store_explicit(&lead->trim_low, 0, memory_order_relaxed);
}

/* Of what a free brings those of one zone by one hold of its lock. n: BUDDY_BATCH at most. */
static always_inline void free_batch(struct page *const *runs, unsigned n, bool trims)
{
	uint32_t left = n == 32 ? UINT32_MAX : (1u << n) - 1;

	while (left) {
		struct zone *z = region_of(runs[__builtin_ctz(left)])->zone;
		bool locked = zone_lock(z);
		uint64_t freed = 0;

		for (uint32_t m = left; m; m &= m - 1) {
			struct page *pg = runs[__builtin_ctz(m)];

			if (region_of(pg)->zone != z)
				continue;
			left &= ~(m & -m);
			freed += pg->npages;
			if (likely(locked))
				run_free_locked(pg);
			else
				defer_push(z, pg);
		}
		if (!locked)
			continue;
		zone_unlock(z);
		ready_look(z);
		park_wake();
		if (trims)
			trim(z, freed);
	}
}

static always_inline void free_bulk(struct page *const *runs, unsigned n, bool trims)
{
	_Static_assert(BUDDY_BATCH == 32, "a bit for each run of a batch");
	for (unsigned at = 0; at < n; at += BUDDY_BATCH)
		free_batch(runs + at, n - at < BUDDY_BATCH ? n - at : BUDDY_BATCH, trims);
}

void buddy_free_bulk(struct page *const *runs, unsigned n)
{
	free_bulk(runs, n, true);
}

void buddy_free_drained(struct page *const *runs, unsigned n)
{
	free_bulk(runs, n, false);
}

bool buddy_extend(struct page *pg, uint32_t npages)
{
	struct region *r = region_of(pg);
	struct zone *z = r->zone;
	uint32_t end = page_number(pg) + pg->npages;
	uint32_t want = page_number(pg) + npages;
	uint32_t at = end;
	uint32_t ready = 0;
	uint32_t clean;
	unsigned kind = BUDDY_CLEAN;

	if (want > REGION_PAGES || !zone_lock(z))
		return false;
	run_begin(z);
	while (at < want && at < r->pages && page_kind(&r->page[at]) == PAGE_BUDDY)
		at += 1u << r->page[at].cls;
	if (at < want) {
		zone_unlock(z);
		return false;
	}
	for (at = end; at < want;) {
		uint32_t n = 1u << r->page[at].cls;

		kind = block_kind(&r->page[at]);
		block_remove(z, &r->page[at], PAGE_NONE);
		at += n;
		if (kind == BUDDY_READY)
			ready += n;
	}
	if (at > want) {
		range_free(z, r, want, at - want, kind == BUDDY_READY);
		if (kind == BUDDY_READY)
			ready -= at - want;
	}
	if (ready)
		counter_add_shared(&zone_lead(z)->ready_taken, ready);
	clean = (want - end) - ready - dirty_bits(r, end, want - end, BITS_COUNT);
	if (clean)
		counter_add_shared(&zone_lead(z)->clean_taken, clean);
	pg->npages = npages;
	pg->zero = ZERO_NOT;
	zone_unlock(z);
	ready_look(z);
	return true;
}

void buddy_shrink(struct page *pg, uint32_t npages)
{
	struct page *tail = pg + npages;

	DCHECK(npages >= 1 && npages < pg->npages);
	tail->npages = pg->npages - npages;
	tail->zero = ZERO_NOT;
	tail->list = LIST_NONE;
	page_set_kind(tail, PAGE_LIMBO);
	pg->npages = npages;
	buddy_free(tail);
}

/* ---- giving back ------------------------------------------------------------------------- */

/* Blocks taken off the lists to be purged. */
struct purge {
	struct page *block[BUDDY_BATCH];
	unsigned n;
	uint64_t most; /* dirty pages to be taken, and to be left */
	uint64_t keep;
	uint64_t dirty; /* those taken; a block that merged with clean ones has others */
};

static bool purge_more(struct zone *z, const struct purge *p)
{
	return p->n < BUDDY_BATCH && p->dirty < p->most &&
	       atomic_load_explicit(&z->dirty_pages, memory_order_relaxed) > p->keep;
}

/* Dirty pages that are still to be taken; there are some. At most one more than a block has. */
static uint32_t purge_want(const struct zone *z, const struct purge *p)
{
	uint64_t over = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed) - p->keep;
	uint64_t want = min_size(p->most - p->dirty, over);

	return (uint32_t)min_size(want, (1u << ORDER_MAX) + 1);
}

/* A dirty block, or as much of it as is wanted, if there is something dirty in that: what is purged beyond
 * that may be what the program uses now and then. */
static void purge_add(struct zone *z, struct purge *p, struct page *pg)
{
	uint64_t before = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);
	/* What ends within a page of the kernel's would be said to be dirty still. */
	uint32_t part = (uint32_t)align_up(purge_want(z, p), max_size(vm_os_page >> PG_SHIFT, 1));

	run_begin(z);
	block_remove(z, pg, PAGE_PURGING);
	if (part < pg->npages && dirty_bits(region_of(pg), page_number(pg), part, BITS_COUNT))
		run_cut_locked(z, pg, part, BUDDY_DIRTY);
	p->dirty += before - atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);
	p->block[p->n++] = pg;
}

static bool is_dirty_block(const struct page *pg)
{
	return page_kind(pg) == PAGE_BUDDY && pg->list == LIST_BUDDY_DIRTY;
}

/* A dirty block and those side by side with it, which the kernel takes by one call. */
static void purge_add_range(struct zone *z, struct purge *p, struct page *pg)
{
	struct region *r = region_of(pg);
	uint32_t first = page_number(pg);
	uint32_t end;

	purge_add(z, p, pg);
	end = first + pg->npages;
	while (end < r->pages && is_dirty_block(&r->page[end]) && purge_more(z, p)) {
		purge_add(z, p, &r->page[end]);
		end += r->page[end].npages;
	}
	for (;;) {
		uint32_t before = free_block_before(r, first, BUDDY_DIRTY);

		if (before == first || !is_dirty_block(&r->page[before]) || !purge_more(z, p))
			break;
		purge_add(z, p, &r->page[before]);
		first = before;
	}
}

/* The largest that is no larger than what is wanted; else the smallest. */
static unsigned purge_order(const struct zone *z, const struct purge *p)
{
	uint32_t orders = orders_of(z, BUDDY_DIRTY);
	uint32_t fit = orders & ((2u << (31u - (unsigned)__builtin_clz(purge_want(z, p)))) - 1);

	return fit ? 31u - (unsigned)__builtin_clz(fit) : (unsigned)__builtin_ctz(orders);
}

/* Some dirty blocks, the largest first of those that are not too large. False: there are none, or no lock is
 * to be had. */
static bool purge_take(struct zone *z, struct purge *p)
{
	p->n = 0;
	p->dirty = 0;
	if (!zone_lock(z))
		return false;
	while (purge_more(z, p) && p->dirty < RUN_PAGES_MAX && orders_of(z, BUDDY_DIRTY))
		purge_add_range(z, p, z->blocks[BUDDY_DIRTY][purge_order(z, p)].last);
	zone_unlock(z);
	return p->n != 0;
}

static void purge_sort(struct purge *p)
{
	for (unsigned i = 1; i < p->n; i++) {
		struct page *pg = p->block[i];
		unsigned k = i;

		for (; k && p->block[k - 1] > pg; k--)
			p->block[k] = p->block[k - 1];
		p->block[k] = pg;
	}
}

static bool purge_stretch(const struct page *first, const struct page *end)
{
	return vm_purge(page_address(first), (size_t)(end - first) << PG_SHIFT);
}

static bool shares_os_page(const struct page *pg)
{
	return (size_t)pg->npages << PG_SHIFT < vm_os_page;
}

/* One call for each stretch of blocks; where the kernel refuses that, for each block. Returns pages that it
 * did not take. */
static uint64_t purge_blocks(struct purge *p)
{
	uint64_t refused = 0;
	unsigned i = 0;

	purge_sort(p);
	while (i < p->n) {
		struct page *first = p->block[i];
		struct page *end = first + first->npages;
		unsigned past = i + 1;
		bool good;

		for (; past < p->n && p->block[past] == end && !shares_os_page(end) &&
		       !shares_os_page(first);
		     past++)
			end += end->npages;
		good = purge_stretch(first, end);
		for (bool one = past == i + 1; i < past; i++) {
			struct page *pg = p->block[i];

			pg->zero = good || (!one && purge_stretch(pg, pg + pg->npages)) ? ZERO_CLEAN
											: ZERO_NOT;
			refused += pg->zero == ZERO_NOT ? pg->npages : 0;
		}
	}
	return refused;
}

/* Put blocks back after the kernel was asked; those it took are clean now. */
static void purge_return(struct zone *z, struct purge *p)
{
	bool locked = zone_lock(z);

	for (unsigned i = 0; i < p->n; i++) {
		struct page *pg = p->block[i];

		if (!locked) {
			pg->zero = ZERO_NOT; /* the bits cannot be changed now */
			defer_push(z, pg);
			continue;
		}
		if (pg->zero == ZERO_CLEAN)
			dirty_bits(region_of(pg), page_number(pg), pg->npages, BITS_CLEAR);
		run_free_locked(pg);
	}
	if (locked)
		zone_unlock(z);
}

uint64_t buddy_purge(struct zone *z, uint64_t keep, uint64_t most)
{
	struct purge p = { .keep = keep };
	uint64_t tried = 0;
	uint64_t purged = 0;
	uint64_t dirty = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);

	/* What becomes dirty while we work, and what the kernel would not take (memory that is
	 * locked, blocks smaller than its page), is for another call. */
	if (most > dirty)
		most = dirty;
	for (; tried < most; tried += p.dirty) {
		uint64_t refused;

		p.most = most - tried;
		if (!purge_take(z, &p))
			break;
		DELAY_HERE(purge_taken);
		refused = purge_blocks(&p);
		purged += p.dirty > refused ? p.dirty - refused : 0;
		DELAY_HERE(purge_done);
		purge_return(z, &p);
		/* All is locked, and would be asked for block by block. */
		if (refused >= p.dirty && atomic_load_explicit(&z->locked, memory_order_relaxed))
			break;
	}
	stat_add(STAT_purged_bytes, purged << PG_SHIFT);
	return purged << PG_SHIFT;
}

uint64_t zones_purge(uint64_t keep, uint64_t most)
{
	uint64_t given = 0;

	for (uint32_t i = 0; i < zones_count() && given < most; i++) {
		uint64_t all = zones_sum(dirty_pages);
		uint64_t here = atomic_load_explicit(&zone_all[i].dirty_pages,
						     memory_order_relaxed);
		uint64_t others = all > here ? all - here : 0;

		if (all > keep)
			given += buddy_purge(&zone_all[i], keep > others ? keep - others : 0,
					     most - given) >>
				 PG_SHIFT;
	}
	return given << PG_SHIFT;
}

void zones_purge_descriptors(void)
{
	for (uint32_t i = 0; i < zones_count(); i++)
		buddy_purge_descriptors(&zone_all[i]);
}

uint64_t zones_release_regions(void)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < zones_count(); i++)
		bytes += buddy_release_regions(&zone_all[i]);
	return bytes;
}

/* A large clean block from page *at of the region on, taken off its list; NULL: there is none. */
static struct page *bare_take(struct zone *z, struct region *r, uint32_t *at)
{
	struct page *found = NULL;

	if (!zone_lock(z))
		return NULL;
	while (!found && *at < r->pages) {
		struct page *pg = &r->page[*at];
		bool block = page_kind(pg) == PAGE_BUDDY && pg->cls >= BARE_ORDER;

		*at += block ? pg->npages : 1u << BARE_ORDER;
		if (block && pg->list == LIST_BUDDY_CLEAN && !pg->bare)
			found = pg;
	}
	run_begin(z);
	if (found)
		block_remove(z, found, PAGE_PURGING);
	zone_unlock(z);
	return found;
}

/* What cannot be taken (locked memory) is not tried again until the block has been in use. */
static void bare_return(struct zone *z, struct page *pg)
{
	struct region *r = region_of(pg);
	uint32_t i = page_number(pg);
	unsigned order = pg->cls;

	if (!zone_lock(z)) {
		pg->zero = ZERO_CLEAN;
		defer_push(z, pg);
		return;
	}
	run_begin(z);
	block_free(z, r, i, order, false);
	if (is_free_block(r, i, order))
		pg->bare = 1;
	zone_unlock(z);
}

static bool region_is_dirty(struct region *r)
{
	return dirty_bits(r, REGION_META_PAGES, r->pages - REGION_META_PAGES, BITS_COUNT) != 0;
}

/* Take a wholly free region's pages off the lists, if they may be dirty or are clean. Returns how many; 0:
 * it is in use. Guarded by: grow. */
static uint32_t region_take_pages(struct zone *z, struct region *r, bool dirty)
{
	uint32_t n = r->pages - REGION_META_PAGES;

	if (!zone_lock(z))
		return 0;
	if (n == 0 || r->free_pages != n || (!dirty && region_is_dirty(r))) {
		zone_unlock(z);
		return 0;
	}
	run_begin(z);
	for (uint32_t i = REGION_META_PAGES; i < r->pages;) {
		uint32_t size = 1u << r->page[i].cls;

		block_remove(z, &r->page[i], PAGE_NONE);
		i += size;
	}
	r->pages = REGION_META_PAGES;
	counter_add(&z->total_pages, (uint64_t)0 - n);
	zone_unlock(z);
	return n;
}

/* Have [at, at + bytes) read as zero, and cost no memory where the kernel agrees to that. */
static void meta_clear(char *at, size_t bytes)
{
	char *first = (char *)align_up((uintptr_t)at, vm_os_page);
	char *last = (char *)align_down((uintptr_t)at + bytes, vm_os_page);

	if (first >= last || !vm_purge(first, (size_t)(last - first))) {
		memset(at, 0, bytes); /* locked in memory */
		return;
	}
	memset(at, 0, (size_t)(first - at));
	memset(last, 0, (size_t)(at + bytes - last));
}

/*
 * Its pages are about to be somebody else's address space: no pointer into them may lead to one of its
 * descriptors, whatever that will be when the front of the region is in use again. All lead to page 0,
 * which is none.
 */
static void region_forget(struct region *r)
{
	meta_clear((char *)r->head, sizeof(*r) - offsetof(struct region, head));
}

/* Unmap those that are wholly free, and clean unless `dirty` is set, until `want` bytes are had. Guarded by:
 * grow. */
static uint64_t release_regions(struct zone *z, uint64_t want, bool dirty);

/*
 * Wholly free and clean regions wait to be grown into again, with no descriptor that costs memory. Not
 * in a zone with a reserve, whose blocks may be ready, and whose metadata are populated. Where address space is
 * limited they are unmapped, for the program's own mappings.
 */
static void purge_regions(struct zone *z)
{
	if (z->apart || grow_lock(z) != 0)
		return;
	if (buddy_is_tight(z))
		release_regions(z, UINT64_MAX, false);
	for (struct region *r = buddy_first_region(z); r; r = r->next) {
		if (!region_take_pages(z, r, false))
			continue;
		DELAY_HERE(region_taken);
		vm_purge(r->head, (REGION_META_PAGES << PG_SHIFT) - offsetof(struct region, head));
	}
	grow_unlock(z);
}

void buddy_purge_descriptors(struct zone *z)
{
	purge_regions(z);
	for (struct region *r = buddy_first_region(z); r; r = r->next) {
		uint32_t at = 0;
		struct page *pg;

		while ((pg = bare_take(z, r, &at)) != NULL) {
			vm_purge(pg + 1, (pg->npages - 1) * sizeof(*pg));
			bare_return(z, pg);
		}
	}
}

static uint64_t release_regions(struct zone *z, uint64_t want, bool dirty)
{
	uint64_t bytes = 0;

	for (struct region *r = buddy_first_region(z); r && bytes < want; r = r->next) {
		char *at = (char *)r + ((size_t)REGION_META_PAGES << PG_SHIFT);
		uint32_t n = region_take_pages(z, r, dirty);

		if (!n && (r->offline || r->pages != REGION_META_PAGES))
			continue;
		DELAY_HERE(region_taken);
		/* Before others can have the address space. */
		region_forget(r);
		if (!vm_unmap(at, (size_t)(r->reserved - REGION_META_PAGES) << PG_SHIFT)) {
			/* The kernel has no mapping left to split one; it stays as it was. */
			if (!n || region_add_pages(z, r, REGION_META_PAGES + n))
				continue;
			break;
		}
		dirty_bits(r, REGION_META_PAGES, n, BITS_CLEAR); /* it has no page in any list */
		if (!n) /* it was clean, and waited to be grown into again */
			n = r->reserved - REGION_META_PAGES;
		r->reserved = REGION_META_PAGES;
		r->offline = 1;
		r->populated = false;
		bytes += (uint64_t)n << PG_SHIFT;
		stat_add(STAT_regions_released, 1);
	}
	return bytes;
}

uint64_t buddy_release_regions(struct zone *z)
{
	uint64_t bytes;

	if (grow_lock(z) != 0)
		return 0;
	bytes = release_regions(z, UINT64_MAX, true);
	grow_unlock(z);
	return bytes;
}

/* What is reserved and was not used yet. Guarded by: grow. */
static uint64_t release_reserved(struct zone *z)
{
	uint64_t bytes = 0;

	if (z->reserve_next != z->reserve_end &&
	    vm_unmap((void *)z->reserve_next, z->reserve_end - z->reserve_next)) {
		bytes += z->reserve_end - z->reserve_next;
		z->reserve_end = z->reserve_next;
	}
	for (struct region *r = buddy_first_region(z); r; r = r->next) {
		size_t n = (size_t)(r->reserved - r->pages) << PG_SHIFT;

		/* One without pages goes as a whole, as it may have had some; no index leads into this. */
		if (n && r->pages != REGION_META_PAGES &&
		    vm_unmap((char *)r + ((size_t)r->pages << PG_SHIFT), n)) {
			r->reserved = r->pages;
			bytes += n;
		}
	}
	return bytes;
}

/* A free block of the order off its list, clean ones first. NULL: there is none, or no lock. */
static struct page *away_take(struct zone *z, unsigned order)
{
	struct page *pg = NULL;

	if (!zone_lock(z))
		return NULL;
	for (unsigned kind = 0; kind < BUDDY_KINDS && !pg; kind++)
		pg = z->blocks[kind][order].first;
	if (pg) {
		run_begin(z);
		block_remove(z, pg, PAGE_AWAY);
		dirty_bits(region_of(pg), page_number(pg), pg->npages, BITS_CLEAR);
		counter_add(&z->total_pages, (uint64_t)0 - pg->npages);
	}
	zone_unlock(z);
	return pg;
}

/* Of free blocks. Guarded by: grow. */
static uint64_t release_blocks(struct zone *z, uint64_t want)
{
	uint64_t bytes = 0;

	for (unsigned order = ORDER_MAX; order >= AWAY_ORDER; order--) {
		struct page *pg;

		while (bytes < want && z->away_count < AWAY_MAX &&
		       (pg = away_take(z, order)) != NULL) {
			size_t n = (size_t)pg->npages << PG_SHIFT;
			bool gone;

			DELAY_HERE(region_taken);
			/* Before others can have the address space; see region_forget. */
			memset(&region_of(pg)->head[page_number(pg)], 0,
			       pg->npages * sizeof(uint16_t));
			gone = vm_unmap(page_address(pg), n);
			pg->zero = gone ? ZERO_CLEAN : ZERO_NOT; /* it is still mapped */
			pg->bare = 0;
			pg->list = LIST_NONE;
			pg->next = z->away;
			z->away = pg;
			z->away_count++;
			if (!gone)
				return bytes;
			bytes += n;
		}
	}
	return bytes;
}

uint64_t buddy_release_space(struct zone *z, uint64_t want)
{
	uint64_t bytes;

	if (grow_lock(z) != 0)
		return 0;
	bytes = release_reserved(z);
	if (bytes < want)
		bytes += release_regions(z, want - bytes, true);
	if (bytes < want)
		bytes += release_blocks(z, want - bytes);
	grow_unlock(z);
	return bytes;
}

uint64_t zones_release_space(uint64_t want)
{
	uint64_t all = (zones_sum(total_pages) << PG_SHIFT) + REGION_BYTES;
	uint64_t bytes = 0;

	/* Who asks for what cannot be had in any case is not to cost the process what is free. */
	if (want != UINT64_MAX && want / HOPELESS > all)
		return 0;
	for (uint32_t i = 0; i < zones_count() && bytes < want; i++)
		bytes += buddy_release_space(&zone_all[i], want - bytes);
	return bytes;
}

/* It is as if memory were locked already; the next growth finds out whether it really is. */
static void forget_reserved(struct zone *z)
{
	if (grow_lock(z) != 0)
		return;
	release_reserved(z);
	release_regions(z, UINT64_MAX, false); /* those that wait to be grown into */
	atomic_store_explicit(&z->locked, true, memory_order_relaxed);
	grow_unlock(z);
}

void zones_release_reserved(void)
{
	for (uint32_t i = 0; i < ZONES_ALL; i++)
		forget_reserved(&zone_all[i]);
}

/* ---- debug ------------------------------------------------------------------------------- */

/* Pages of free blocks by kind, but that of a dirty block only the dirty ones count as such. */
static void check_region(struct region *r, uint64_t pages[BUDDY_KINDS])
{
	uint32_t i = REGION_META_PAGES;
	uint32_t region_free = 0;

	while (i < r->pages) {
		const struct page *pg = &r->page[i];
		uint32_t n = 1;

		if (page_kind(pg) == PAGE_BUDDY) {
			uint32_t dirty;

			n = 1u << pg->cls;
			CHECK(i % n == 0 && i + n <= r->pages);
			CHECK(pg->cls == ORDER_MAX || !is_free_block(r, i ^ n, pg->cls) ||
			      !may_join(r->zone, block_kind(pg), &r->page[i ^ n]));
			for (uint32_t k = 1; k < n; k++)
				CHECK(page_kind(&r->page[i + k]) == PAGE_NONE);
			dirty = dirty_bits(r, i, n, BITS_COUNT);
			CHECK(pg->list == kind_list[block_kind(pg)]);
			CHECK((dirty != 0) == (block_kind(pg) == BUDDY_DIRTY));
			pages[block_kind(pg)] += dirty ? dirty : n;
			region_free += n;
		} else if (page_kind(pg) == PAGE_AWAY) {
			n = pg->npages;
			CHECK(i + n <= r->pages && r->head[i] == 0 && r->head[i + n - 1] == 0);
		}
		i += n;
	}
	CHECK(region_free == r->free_pages);
	CHECK(page_kind(&r->page[0]) == PAGE_NONE && r->head[0] == 0);
	/* It is set at every length, and cleared as a whole: the first and the last page tell. */
	if (r->reserved < REGION_PAGES)
		CHECK(r->head[r->reserved] == 0 && r->head[REGION_PAGES - 1] == 0);
}

void buddy_check(struct zone *z)
{
	uint64_t free_pages = 0;
	uint64_t pages[BUDDY_KINDS] = { 0 };

	bool grow = lock_acquire(&z->grow) == 0; /* the lengths of regions */

	while (!zone_lock(z)) /* a fork */
		lock_pause();
	for (struct region *r = buddy_first_region(z); r; r = r->next) {
		check_region(r, pages);
		free_pages += r->free_pages;
	}
	CHECK(free_pages == z->free_pages);
	CHECK(pages[BUDDY_DIRTY] == z->dirty_pages);
	CHECK(pages[BUDDY_READY] == z->ready_pages);
	for (unsigned kind = 0; kind < BUDDY_KINDS; kind++)
		for (unsigned o = 0; o < ORDERS; o++)
			CHECK(!z->blocks[kind][o].first == !(orders_of(z, kind) & (1u << o)));
	zone_unlock(z);
	if (grow)
		lock_release(&z->grow);
}
