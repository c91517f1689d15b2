/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block.c - a zone's free blocks, by the binary buddy method, and the zone's two locks.
 * Used by buddy, region, purge and prefault; uses zone and pagemap.
 *
 * (A) The free blocks of a region, its runs in use and its runs on quick lists tile its pages; no
 *     two blocks overlap. (zone_check)
 * (B) A free block of order o is aligned to 2^o pages within its region. Its buddy is not a free
 *     block of the same order, because the two would have merged, unless one of them is being
 *     purged, or the zone is segregated and they differ in backing. (zone_check)
 * (C) A page's bit in region.dirty has a meaning only while the page is free. Set: the kernel may
 *     back the page with written memory. Clear: it reads as zero. zone.dirty_pages counts the set
 *     bits of free blocks, page.dirty those of one. A block with any bit set is on the dirty list.
 *     (zone_check)
 *     A zone with a reserve is segregated: blocks that differ in backing do not merge. So the
 *     kernel backs all of a prefaulted block, and memory that it does not back never joins a dirty
 *     one.
 * (D) Only the head of a block or run has a kind other than PAGE_NONE.
 * (E) A block that is being purged is on no list and merges with nothing.
 * (F) Of a free block's descriptors other than its head, only the kind is read, and it is
 *     PAGE_NONE. So they may read as zero (zone_purge_descriptors), as may all descriptors and
 *     indices of a region without usable pages.
 * (G) A page's bit in region.unused is set while the page is in a free block, except one that is
 *     being purged. (zone_check)
 *
 * Locks: zone.lock (BUDDY) guards lists, bits and counters. In one hold, BUDDY_BATCH runs are
 * taken or freed, and as many deferred runs are freed, each in at most RUN_STEPS list operations
 * (hold_step, step). No system call is made under it. zone.grow (GROW) guards the making and
 * releasing of regions (region.c); system calls are made under it. A thread holds two zones' locks
 * of one kind only in a fork.
 * zone.lock cannot be taken if this thread holds it (in a signal handler), if its holder does not
 * come back, or if a fork holds it. A free then puts the run on the lock-free deferred stack, which
 * the next holder works off; an allocation uses another zone (alloc_elsewhere in buddy.c).
 * Pairing: defer_push's release CAS with the acquire exchange in pending_work, for the run.
 * Allocates nothing; may wait for a lock. Signal handlers: as said. Fork: see fork.c.
 *
 * Source: Knowlton 1965; Linux mm/page_alloc.c (merge-likely blocks to the tail of their list,
 * exact-tail return as in alloc_pages_exact). A request wastes at most a factor of 2 before its
 * tail is returned, and nothing after that.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/block.h"

#include <errno.h>

#include "base/check.h"
#include "base/delay.h"
#include "base/stats.h"

#define RANGE_TRIES 8u
/* For one run: the blocks that it is cut from or into, those it merges with, and those beside the
 * places that are compared, in three parts of the lists of each backing. */
#define RUN_STEPS (6 * ORDERS + BACKINGS * 3 * RANGE_TRIES * 4 * ORDERS)

/* ---- free blocks ------------------------------------------------------------------------ */

static inline void step(struct zone *z, uint32_t n)
{
	cold_count(2 * n);
	if (SLUICE_DEBUG) {
		z->steps += n;
		CHECK(z->steps <= RUN_STEPS);
	}
}

static void orders_set(struct zone *z, enum backing backing, uint32_t orders)
{
	atomic_store_explicit(&z->orders[backing], orders, memory_order_relaxed);
}

/* Whether pg, a free block, may merge with memory that has this backing. */
static bool may_join(const struct zone *z, enum backing backing, const struct page *pg)
{
	return likely(!z->segregated) || pg->backing == backing;
}

static void prefaulted_count(struct zone *z, unsigned order, uint64_t pages)
{
	counter_add(&z->prefaulted_pages, pages);
	if (1u << order >= PREFAULT_LARGE)
		counter_add(&z->prefaulted_large, pages);
}

static void block_insert(struct zone *z, struct page *pg, unsigned order, bool to_tail,
			 bool prefaulted, uint32_t dirty)
{
	struct region *r = region_of(pg);
	uint32_t n = 1u << order;
	enum backing backing = prefaulted ? BACKING_PREFAULTED
			       : dirty    ? BACKING_DIRTY
					  : BACKING_CLEAN;

	step(z, 1);
	page_set_kind(pg, PAGE_BUDDY);
	pg->cls = (uint8_t)order;
	pg->backing = (uint8_t)backing;
	pg->npages = n;
	pg->dirty = dirty;
	pg->descriptors_purged = 0;
	if (to_tail)
		page_list_add_tail(&z->blocks[backing][order], pg, LIST_BUDDY);
	else
		page_list_add(&z->blocks[backing][order], pg, LIST_BUDDY);
	if (!(orders_of(z, backing) & 1u << order))
		orders_set(z, backing, orders_of(z, backing) | 1u << order);
	unused_flip(r, page_number(pg), order);
	r->free_pages += n;
	counter_add(&z->free_pages, n);
	counter_add(&z->dirty_pages, dirty);
	if (unlikely(prefaulted))
		prefaulted_count(z, order, n);
}

void block_remove(struct zone *z, struct page *pg, enum page_kind becomes)
{
	struct region *r = region_of(pg);
	unsigned order = pg->cls;
	uint32_t n = 1u << order;
	enum backing backing = pg->backing;

	step(z, 1);
	page_list_del(&z->blocks[backing][order], pg, LIST_BUDDY);
	if (!z->blocks[backing][order].first)
		orders_set(z, backing, orders_of(z, backing) & ~(1u << order));
	unused_flip(r, page_number(pg), order);
	r->free_pages -= n;
	counter_add(&z->free_pages, (uint64_t)0 - n);
	counter_add(&z->dirty_pages, (uint64_t)0 - pg->dirty);
	if (unlikely(backing == BACKING_PREFAULTED))
		prefaulted_count(z, order, (uint64_t)0 - n);
	page_set_kind(pg, becomes);
}

/* The backing of n pages that come free; not used in a zone that is not segregated. */
static enum backing range_backing(struct zone *z, struct region *r, uint32_t i, uint32_t n,
				  bool prefaulted)
{
	if (likely(!z->segregated))
		return BACKING_CLEAN;
	if (prefaulted)
		return BACKING_PREFAULTED;
	return dirty_bits(r, i, n, BITS_COUNT) ? BACKING_DIRTY : BACKING_CLEAN;
}

void block_free(struct zone *z, struct region *r, uint32_t i, unsigned order, bool prefaulted)
{
	enum backing backing = range_backing(z, r, i, 1u << order, prefaulted);
	uint32_t dirty = prefaulted ? 0 : block_dirty(r, i, order);
	bool to_tail;

	while (order < ORDER_MAX) {
		uint32_t b = i ^ (1u << order);

		if (!is_free_block(r, b, order) || !may_join(z, backing, &r->page[b]))
			break;
		block_remove(z, &r->page[b], PAGE_NONE);
		dirty += r->page[b].dirty;
		page_set_kind(&r->page[i | b], PAGE_NONE);
		i &= ~(1u << order);
		order++;
	}
	/* If the buddy of the next order is free, this block and its own buddy would make a block
	 * two orders larger: put it where it is used last. */
	to_tail = order + 1 < ORDERS &&
		  is_free_block(r, (i & ~(1u << order)) ^ (2u << order), order + 1);
	block_insert(z, &r->page[i], order, to_tail, prefaulted, dirty);
}

void range_free(struct zone *z, struct region *r, uint32_t i, uint32_t n, bool prefaulted)
{
	while (n) {
		unsigned by_place = i ? (unsigned)__builtin_ctz(i) : ORDER_MAX;
		unsigned by_size = 31u - (unsigned)__builtin_clz(n);
		unsigned order = by_place < by_size ? by_place : by_size;

		if (order > ORDER_MAX)
			order = ORDER_MAX;
		block_free(z, r, i, order, prefaulted);
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
	if (pg->backing == BACKING_DIRTY)
		dirty_bits(r, i, n, BITS_SET);
	else if (pg->backing == BACKING_PREFAULTED)
		counter_add_shared(&zone_lead(r->zone)->growth.prefaulted_taken, (uint64_t)0 - n);
	page_set_kind(pg, PAGE_NONE);
	pg->list = LIST_NONE;
	range_free(r->zone, r, i, n, pg->backing == BACKING_PREFAULTED);
}

void run_cut_locked(struct zone *z, struct page *pg, uint32_t npages, enum backing backing)
{
	if (npages < pg->npages)
		range_free(z, region_of(pg), page_number(pg) + npages, pg->npages - npages,
			   backing == BACKING_PREFAULTED);
	pg->cls = 0;
	pg->npages = npages;
}

struct page *block_take(struct zone *z, enum backing backing, unsigned order)
{
	uint32_t orders = orders_of(z, backing) >> order;
	struct page *pg;

	if (!orders)
		return NULL;
	pg = z->blocks[backing][order + (unsigned)__builtin_ctz(orders)].first;
	block_remove(z, pg, PAGE_LIMBO);
	return pg;
}

uint32_t free_block_before(struct region *r, uint32_t i, enum backing backing)
{
	if (!is_unused(r, i - 1))
		return i;
	for (unsigned o = 0; o < ORDERS && (i & ((1u << o) - 1)) == 0 && i >= 1u << o; o++) {
		if (is_free_block(r, i - (1u << o), o))
			return may_join(r->zone, backing, &r->page[i - (1u << o)]) ? i - (1u << o)
										   : i;
	}
	return i;
}

/* Whether a run of n pages is to cost less time than a longer one, and no clean memory where there
 * is dirty memory. Where address space is short that comes first. */
static bool is_short(struct zone *z, uint32_t n)
{
	return n < RANGE_LONG && !zone_is_tight(z);
}

/* Whether a run of n pages may lie in both pg and `other`, adjacent free blocks. */
static bool may_span(struct zone *z, uint32_t n, const struct page *pg, const struct page *other)
{
	return is_short(z, n) ? pg->backing == other->backing : may_join(z, pg->backing, other);
}

/* The first of the adjacent free blocks around pg in which a run of n pages may lie, and how many
 * pages they have together. */
static struct page *range_around(struct page *pg, uint32_t n, uint32_t *pages)
{
	struct region *r = region_of(pg);
	uint32_t first = page_number(pg);
	uint32_t end = first + pg->npages;
	uint32_t before;

	if (likely(!r->zone->segregated) && !is_short(r->zone, n)) {
		step(r->zone, 1);
		first = unused_from(r, first);
		*pages = unused_until(r, end - 1) - first;
		return &r->page[first];
	}
	while ((before = free_block_before(r, first, pg->backing)) != first &&
	       may_span(r->zone, n, pg, &r->page[before])) {
		step(r->zone, 1);
		first = before;
	}
	while (end < r->pages && page_kind(&r->page[end]) == PAGE_BUDDY &&
	       may_span(r->zone, n, pg, &r->page[end])) {
		step(r->zone, 1);
		end += r->page[end].npages;
	}
	*pages = end - first;
	return &r->page[first];
}

/* Adjacent free blocks. */
struct range {
	struct page *first;
	struct page *block; /* the one by which the range was found */
	uint32_t pages;
};

/* Places for a run: the best one so far, and all that were looked at. */
struct places {
	struct range best;
	unsigned n;
	struct range seen[3 * RANGE_TRIES];
};

static bool place_seen(const struct places *p, const struct page *pg)
{
	for (unsigned i = 0; i < p->n; i++)
		if (pg >= p->seen[i].first && pg < p->seen[i].first + p->seen[i].pages)
			return true;
	return false;
}

/* Looks at up to `tries` free blocks of a list for a better place for n pages. Returns how many
 * tries are left. */
static unsigned range_look(const struct page_list_head *blocks, uint32_t n, unsigned tries,
			   struct places *p)
{
	struct range *best = &p->best;

	for (struct page *pg = blocks->first; pg && tries && best->pages != n;
	     pg = pg->next, tries--) {
		struct range *r = &p->seen[p->n];

		if (place_seen(p, pg))
			continue;
		r->first = range_around(pg, n, &r->pages);
		r->block = pg;
		p->n++;
		if (r->pages >= n &&
		    (r->pages < best->pages || (r->pages == best->pages && r->first < best->first)))
			*best = *r;
	}
	return tries;
}

/* How many places are compared in each of three parts of a list. Of short runs a thread's pcp asks
 * for eight in one call, which is to touch few cold lines. */
static unsigned range_tries(struct zone *z, uint32_t npages)
{
	if (is_short(z, npages))
		return RANGE_TRIES / 4;
	return npages <= RANGE_SHORT ? RANGE_TRIES / 2 : RANGE_TRIES;
}

/*
 * Takes adjacent free blocks, which need not be buddies: the shortest range that is long enough,
 * among those looked at, so that little is wasted.
 */
static struct page *range_take(struct zone *z, enum backing backing, uint32_t npages,
			       unsigned order)
{
	const struct page_list_head *blocks = z->blocks[backing];
	uint32_t orders = orders_of(z, backing) >> (order - 2) << (order - 2);
	uint32_t larger = orders >> order << order;
	struct places p; /* only the places that were looked at are written */
	unsigned most = range_tries(z, npages);
	uint32_t pages = 0;

	if (is_pow2(npages) && larger == orders && is_pow2(orders) &&
	    !blocks[__builtin_ctz(orders)].first->next)
		return block_take(z, backing, order); /* there is only one block */
	p.best = (struct range){ NULL, NULL, UINT32_MAX };
	p.n = 0;
	for (unsigned tries = most; larger && tries; larger &= larger - 1)
		tries = range_look(&blocks[__builtin_ctz(larger)], npages, tries, &p);
	range_look(&blocks[order - 2], npages, most, &p);
	range_look(&blocks[order - 1], npages, most, &p);
	if (!p.best.first)
		return NULL;
	/* Splitting and merging one block takes fewer steps than several. */
	if (is_pow2(npages) && p.best.block->npages >= npages) {
		block_remove(z, p.best.block, PAGE_LIMBO);
		return p.best.block;
	}
	while (pages < npages) {
		struct page *block = p.best.first + pages;

		pages += block->npages;
		block_remove(z, block, PAGE_NONE);
	}
	page_set_kind(p.best.first, PAGE_LIMBO);
	p.best.first->npages = pages;
	return p.best.first;
}

static struct page *backed_take(struct zone *z, enum backing backing, const struct want *want)
{
	if (!orders_of(z, backing))
		return NULL;
	return want->anywhere ? range_take(z, backing, want->npages, want->order)
			      : block_take(z, backing, want->order);
}

/*
 * Cuts a run that was taken to its length, and sets its backing. Its clean pages are growth: where
 * there is a limit also those between dirty ones, or they would reach it unseen. Where there is
 * none that would ask others while they have little.
 */
static void run_made(struct zone *z, struct page *pg, uint32_t npages, enum backing backing)
{
	struct growth *g = &zone_lead(z)->growth;
	uint32_t clean;

	/* Return the excess: upper halves of the splits and the exact tail alike. */
	run_cut_locked(z, pg, npages, backing);
	if (backing == BACKING_PREFAULTED) {
		pg->backing = BACKING_PREFAULTED;
		counter_add_shared(&g->prefaulted_taken, npages);
		stat_add(STAT_reserve_used_bytes, (uint64_t)npages << PG_SHIFT);
		return;
	}
	clean = npages - dirty_bits(region_of(pg), page_number(pg), npages, BITS_COUNT);
	pg->backing = clean == npages ? BACKING_CLEAN : BACKING_DIRTY;
	if (clean < npages && (!clean || !atomic_load_explicit(&g->ask_most, memory_order_relaxed)))
		return;
	counter_add_shared(&g->clean_taken, clean);
	if (z->segregated)
		stat_add(STAT_reserve_missed_bytes, (uint64_t)clean << PG_SHIFT);
}

struct page *roomy_alloc_locked(struct zone *z, uint32_t npages, unsigned order)
{
	uint32_t orders = orders_of(z, BACKING_DIRTY) >> order << order;
	struct page *pg;

	if (!orders)
		return NULL;
	run_begin(z);
	pg = z->blocks[BACKING_DIRTY][31 - __builtin_clz(orders)].first;
	block_remove(z, pg, PAGE_LIMBO);
	run_made(z, pg, npages, BACKING_DIRTY);
	return pg;
}

static struct page *run_alloc_locked(struct zone *z, const struct want *want, unsigned backings)
{
	uint32_t npages = want->npages;
	enum backing backing = BACKING_DIRTY;
	struct page *pg = NULL;

	run_begin(z);
	if (backings & 1u << BACKING_DIRTY)
		pg = backed_take(z, BACKING_DIRTY, want);
	if (!pg && (backings & 1u << BACKING_PREFAULTED)) {
		backing = BACKING_PREFAULTED;
		pg = backed_take(z, BACKING_PREFAULTED, want);
	}
	if (!pg && (backings & 1u << BACKING_CLEAN)) {
		backing = BACKING_CLEAN;
		pg = npages > RANGE_SHORT || zone_is_tight(z)
			     ? backed_take(z, BACKING_CLEAN, want)
			     : block_take(z, BACKING_CLEAN, want->order);
	}
	if (pg)
		run_made(z, pg, npages, backing);
	return pg;
}

unsigned runs_alloc_locked(struct zone *z, const struct want *want, unsigned backings, unsigned n,
			   struct page **out)
{
	unsigned got = 0;

	while (got < n) {
		struct page *pg = run_alloc_locked(z, want, backings);

		if (!pg)
			break;
		out[got++] = pg;
	}
	return got;
}

/* ---- the locks, and frees that could not have theirs ------------------------------------- */

void defer_push(struct zone *z, struct page *pg)
{
	SHARE_COUNT(zone_deferred);
	page_set_kind(pg, PAGE_LIMBO);
	page_stack_push(&z->deferred, pg, DELAY_buddy_defer);
	stat_add(STAT_page_frees_deferred, 1);
}

/* Frees up to BUDDY_BATCH - 1 deferred runs. */
static noinline void pending_work(struct zone *z)
{
	if (!z->pending) {
		SHARE_COUNT(zone_deferred);
		z->pending = page_stack_take_all(&z->deferred);
	}
	for (unsigned n = 1; z->pending && n < BUDDY_BATCH; n++) {
		struct page *pg = z->pending;

		z->pending = pg->stack_next;
		run_free_locked(pg);
	}
}

/* A lock was once found stuck: from then on each is checked before it is taken. */
static _Atomic bool lock_lost;

/* Returns 0; -EBUSY if another thread holds it and will release it; -EDEADLK or -EAGAIN as
 * lock_acquire. */
static int lock_unless_lost(struct lock *l)
{
	int err;

	if (unlikely(atomic_load_explicit(&lock_lost, memory_order_relaxed)) && lock_is_stuck(l))
		return lock_held(l) ? -EDEADLK : -EAGAIN;
	if (lock_only_tried(l))
		lock_call_begins(); /* a handler's, which uses the pcp alone */
	err = lock_acquire(l);
	if (unlikely(err == -EAGAIN) && !lock_fork_under_way())
		atomic_store_explicit(&lock_lost, true, memory_order_relaxed);
	return err;
}

int zone_lock_err(struct zone *z)
{
	int err = lock_unless_lost(&z->lock);

	if (unlikely(err))
		return err;
	if (unlikely(z->pending || atomic_load_explicit(&z->deferred, memory_order_relaxed)))
		pending_work(z);
	return 0;
}

bool zone_lock(struct zone *z)
{
	return zone_lock_err(z) == 0;
}

int grow_lock(struct zone *z)
{
	return lock_unless_lost(&z->grow);
}

void grow_unlock(struct zone *z)
{
	lock_release(&z->grow);
}

/* ---- debug ------------------------------------------------------------------------------- */

/* Adds the pages of free blocks by backing; of a dirty block only its dirty pages. Returns how many
 * pages are on quick lists. */
static uint64_t check_region(struct region *r, uint64_t pages[BACKINGS])
{
	uint32_t i = region_first();
	uint32_t unused = i; /* the first of the free pages before i */
	uint32_t region_free = 0;
	uint32_t away = 0;
	uint64_t quick = 0;

	while (i < r->pages) {
		const struct page *pg = &r->page[i];
		uint32_t n = 1;

		if (page_kind(pg) == PAGE_BUDDY) {
			uint32_t dirty;

			n = 1u << pg->cls;
			CHECK(i % n == 0 && i + n <= r->pages);
			CHECK(pg->cls == ORDER_MAX || !is_free_block(r, i ^ n, pg->cls) ||
			      !may_join(r->zone, pg->backing, &r->page[i ^ n]));
			for (uint32_t k = 1; k < n; k++)
				CHECK(page_kind(&r->page[i + k]) == PAGE_NONE);
			dirty = dirty_bits(r, i, n, BITS_COUNT);
			CHECK(pg->list == LIST_BUDDY);
			CHECK((dirty != 0) == (pg->backing == BACKING_DIRTY));
			CHECK(dirty == pg->dirty);
			pages[pg->backing] += dirty ? dirty : n;
			region_free += n;
		} else if (page_kind(pg) == PAGE_AWAY) {
			n = pg->npages;
			CHECK(i + n <= r->pages && r->head[i] == 0 && r->head[i + n - 1] == 0);
			away += n;
		} else if (page_kind(pg) == PAGE_QUICK) {
			n = pg->npages;
			CHECK(pg->list == LIST_QUICK && pg->backing == BACKING_DIRTY);
			pages[BACKING_DIRTY] += n;
			quick += n;
		}
		if (page_kind(pg) != PAGE_BUDDY) {
			CHECK(unused_from(r, i) == unused && unused_until(r, unused) == i);
			unused = i + n;
		}
		i += n;
	}
	CHECK(unused == REGION_PAGES || unused_until(r, unused) == r->pages);
	CHECK(region_free == r->free_pages && away == r->away_pages);
	CHECK(page_kind(&r->page[0]) == PAGE_NONE && r->head[0] == 0);
	/* Indices are cleared all at once, so the first and the last one show it. */
	if (r->reserved < REGION_PAGES)
		CHECK(r->head[r->reserved] == 0 && r->head[REGION_PAGES - 1] == 0);
	return quick;
}

void zone_check(struct zone *z)
{
	uint64_t free_pages = 0;
	uint64_t quick = 0;
	uint64_t pages[BACKINGS] = { 0 };

	bool grow = lock_acquire(&z->grow) == 0; /* the lengths of regions */

	while (!zone_lock(z)) /* a fork */
		lock_pause();
	for (struct region *r = zone_first_region(z); r; r = r->next) {
		uint64_t here = check_region(r, pages);

		free_pages += r->free_pages + here;
		quick += here;
	}
	CHECK(free_pages == z->free_pages && quick == z->quick.pages);
	CHECK(pages[BACKING_DIRTY] == z->dirty_pages);
	CHECK(pages[BACKING_PREFAULTED] == z->prefaulted_pages);
	for (enum backing backing = 0; backing < BACKINGS; backing++)
		for (unsigned o = 0; o < ORDERS; o++)
			CHECK(!z->blocks[backing][o].first == !(orders_of(z, backing) & (1u << o)));
	zone_unlock(z);
	if (grow)
		lock_release(&z->grow);
}
