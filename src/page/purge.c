/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * purge.c - gives the memory of dirty blocks, and of descriptors that are not needed, back to the
 * kernel; and trim, by which frees do so while there is no background thread.
 * Used by buddy (trim), reclaim, limits and background; uses block, region and vm.
 *
 * Lock: zone.lock for what is taken off and put on the lists; no system call under it.
 * Bound: a purge has two holds for each BUDDY_BATCH blocks; for trim see there.
 * Allocates nothing; blocks in the kernel. Signal handlers: see block.c. Fork: a block that is
 * being purged at that moment is lost to the child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/purge.h"

#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/stats.h"
#include "os/vm.h"
#include "page/block.h"
#include "page/quick.h"
#include "page/region.h"
#include "page/thp.h"

#define TRIM_PAGES 64u
#define TRIM_LATELY 4u /* decay_ms, for which memory that was used again may be kept again */
#define TRIM_EARNED 4u
#define TRIM_TEARDOWN 4u
#define PURGES_WAIT_MS 500u
#define DESCRIPTORS_ORDER 7u /* 128 descriptors: two of the kernel's smallest pages */

bool trim_inline = true;
struct dirty_part dirty_part;

/* Blocks taken off the lists to be purged. */
struct purge {
	struct page *block[BUDDY_BATCH];
	unsigned n;
	uint64_t most;  /* dirty pages to be taken */
	uint64_t keep;  /* dirty pages to be left */
	uint64_t dirty; /* dirty pages taken; a block may have clean pages besides */
};

static bool purge_more(struct zone *z, const struct purge *p)
{
	return p->n < BUDDY_BATCH && p->dirty < p->most &&
	       atomic_load_explicit(&z->dirty_pages, memory_order_relaxed) > p->keep;
}

/* Dirty pages that are still to be taken: at least 1, at most one more than a block has. */
static uint32_t purge_want(const struct zone *z, const struct purge *p)
{
	uint64_t over = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed) - p->keep;
	uint64_t want = min_size(p->most - p->dirty, over);

	return (uint32_t)min_size(want, (1u << ORDER_MAX) + 1);
}

/* Takes a dirty block. Takes only its front, as much as is wanted, if there is a dirty page in it:
 * the program may use the rest again. */
static void purge_add(struct zone *z, struct purge *p, struct page *pg)
{
	uint64_t before = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);
	/* A part that ended within a kernel page could not be purged as a whole. */
	uint32_t part = (uint32_t)align_up(purge_want(z, p), max_size(vm_os_page >> PG_SHIFT, 1));

	run_begin(z);
	block_remove(z, pg, PAGE_PURGING);
	if (part < pg->npages && dirty_bits(region_of(pg), page_number(pg), part, BITS_COUNT))
		run_cut_locked(z, pg, part, BACKING_DIRTY);
	p->dirty += before - atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);
	p->block[p->n++] = pg;
}

static bool is_dirty_block(const struct page *pg)
{
	return page_kind(pg) == PAGE_BUDDY && pg->backing == BACKING_DIRTY;
}

/* Takes a dirty block and its adjacent dirty blocks, which the kernel purges by one call. */
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
		uint32_t before = free_block_before(r, first, BACKING_DIRTY);

		if (before == first || !is_dirty_block(&r->page[before]) || !purge_more(z, p))
			break;
		purge_add(z, p, &r->page[before]);
		first = before;
	}
}

/* The largest order of a dirty block that is no larger than what is wanted; else the smallest.
 * Orders below the kernel's page come last, because the kernel refuses such blocks. */
static unsigned purge_order(const struct zone *z, const struct purge *p)
{
	uint32_t least = (uint32_t)max_size(vm_os_page >> PG_SHIFT, 1); /* the bit of its order */
	uint32_t orders = orders_of(z, BACKING_DIRTY);
	uint32_t fit = orders & ((2u << (31u - (unsigned)__builtin_clz(purge_want(z, p)))) - 1);

	if (orders & (0 - least)) {
		orders &= 0 - least;
		fit &= 0 - least;
	}
	return fit ? 31u - (unsigned)__builtin_clz(fit) : (unsigned)__builtin_ctz(orders);
}

/* Takes some dirty blocks, the largest that are not too large first. Returns false if there are
 * none or the lock cannot be taken. */
static bool purge_take(struct zone *z, struct purge *p)
{
	p->n = 0;
	p->dirty = 0;
	if (!zone_lock(z))
		return false;
	while (purge_more(z, p) && p->dirty < RUN_PAGES_MAX && orders_of(z, BACKING_DIRTY))
		purge_add_range(z, p, z->blocks[BACKING_DIRTY][purge_order(z, p)].last);
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
	return thp_purge(page_address(first), (size_t)(end - first) << PG_SHIFT);
}

static bool shares_os_page(const struct page *pg)
{
	return (size_t)pg->npages << PG_SHIFT < vm_os_page;
}

/* One call for each stretch of adjacent blocks; if the kernel refuses that, one for each block.
 * Returns pages that it did not purge. */
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

			pg->backing = good || (!one && purge_stretch(pg, pg + pg->npages))
					      ? BACKING_CLEAN
					      : BACKING_DIRTY;
			refused += pg->backing == BACKING_DIRTY ? pg->npages : 0;
		}
	}
	return refused;
}

/* Frees the blocks again. Those that the kernel purged are clean now. */
static void purge_return(struct zone *z, struct purge *p)
{
	bool locked = zone_lock(z);

	for (unsigned i = 0; i < p->n; i++) {
		struct page *pg = p->block[i];

		if (!locked) {
			pg->backing =
				BACKING_DIRTY; /* the bits may not be changed without the lock */
			defer_push(z, pg);
			continue;
		}
		if (pg->backing == BACKING_CLEAN)
			dirty_bits(region_of(pg), page_number(pg), pg->npages, BITS_CLEAR);
		run_free_locked(pg);
	}
	if (locked)
		zone_unlock(z);
}

/* Calls of zone_purge that threads are in. */
static _Atomic uint64_t under_way;

void purges_wait(void)
{
	for (unsigned ms = 0; ms < PURGES_WAIT_MS; ms++) {
		/* Acquire pairs with the release below: their blocks are free again. */
		if (!atomic_load_explicit(&under_way, memory_order_acquire))
			return;
		park_sleep_ms(1);
	}
}

void purges_fork_child(void)
{
	atomic_store_explicit(&under_way, 0, memory_order_relaxed);
}

uint64_t zone_purge(struct zone *z, uint64_t keep, uint64_t most)
{
	struct purge p = { .keep = keep };
	uint64_t tried = 0;
	uint64_t purged = 0;
	uint64_t dirty = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);

	if (dirty > keep && most)
		quick_merge(z);
	/* Pages that become dirty meanwhile, and pages that the kernel refuses (memory that is
	 * locked, blocks smaller than its page), are left to another call. */
	if (most > dirty)
		most = dirty;
	atomic_fetch_add_explicit(&under_way, 1, memory_order_relaxed);
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
		/* All memory is locked: every further block would be refused, too. */
		if (refused >= p.dirty && atomic_load_explicit(&z->locked, memory_order_relaxed))
			break;
	}
	atomic_fetch_sub_explicit(&under_way, 1, memory_order_release);
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
			given += zone_purge(&zone_all[i], keep > others ? keep - others : 0,
					    most - given) >>
				 PG_SHIFT;
	}
	return given << PG_SHIFT;
}

/* ---- trim: what a free gives back ---------------------------------------------------------- */

/*
 * How many dirty pages may be kept beyond the soft limit, at most `most`: twice as many as were
 * taken at once of the most that there were (trim.reused), because they were worth keeping; so a
 * pair of malloc and free that repeats counts once. Pages that a trim gave back and that were taken
 * again within decay_ms should have been kept, and earn TRIM_EARNED times as many. After
 * TRIM_LATELY times decay_ms no more is earned than by what was reused in that time.
 */
static uint64_t trim_earned(struct zone *z, uint64_t now, uint64_t most)
{
	uint64_t taken = atomic_load_explicit(&z->growth.clean_taken, memory_order_relaxed);
	uint64_t since = taken -
			 atomic_exchange_explicit(&z->trim.seen, taken, memory_order_relaxed);
	uint64_t gone = atomic_load_explicit(&z->trim.gone, memory_order_relaxed);
	uint64_t earned = atomic_load_explicit(&z->trim.earned, memory_order_relaxed);
	uint64_t reused = atomic_load_explicit(&z->trim.reused, memory_order_relaxed);
	uint64_t again = 0;

	if (now - atomic_load_explicit(&z->trim.gone_at, memory_order_relaxed) <= options.decay_ms)
		again = min_size(gone, since);
	if (again)
		atomic_store_explicit(&z->trim.gone, gone - again, memory_order_relaxed);
	reused = min_size(2 * reused, most);
	if (now - atomic_load_explicit(&z->trim.earned_at, memory_order_relaxed) >
	    TRIM_LATELY * (uint64_t)options.decay_ms) {
		earned = min_size(earned, reused);
		atomic_store_explicit(&z->trim.reused, 0, memory_order_relaxed);
		atomic_store_explicit(&z->trim.peak, 0, memory_order_relaxed);
		atomic_store_explicit(&z->trim.earned_at, now, memory_order_relaxed);
	}
	earned = max_size(earned, reused) + TRIM_EARNED * again;
	atomic_store_explicit(&z->trim.earned, earned, memory_order_relaxed);
	return earned;
}

/* A free finds that many dirty pages. */
static void trim_note(struct zone *z, uint64_t dirty)
{
	uint64_t peak = atomic_load_explicit(&z->trim.peak, memory_order_relaxed);

	if (dirty > peak)
		atomic_store_explicit(&z->trim.peak, dirty, memory_order_relaxed);
	else if (peak - dirty > atomic_load_explicit(&z->trim.reused, memory_order_relaxed))
		atomic_store_explicit(&z->trim.reused, peak - dirty, memory_order_relaxed);
}

/* How many of the dirty pages that were free for all of decay_ms to purge in this call. */
static uint64_t trim_decayed(struct zone *z, uint64_t now, uint64_t dirty, uint64_t freed)
{
	uint64_t low = atomic_load_explicit(&z->trim.low, memory_order_relaxed);
	uint64_t due = atomic_load_explicit(&z->trim.due, memory_order_relaxed);
	uint64_t n;

	if (low > dirty - freed)
		low = dirty - freed;
	if (now - atomic_load_explicit(&z->trim.at, memory_order_relaxed) >= options.decay_ms) {
		atomic_store_explicit(&z->trim.at, now, memory_order_relaxed);
		due = low;
		low = dirty;
	}
	n = min_size(due, freed + TRIM_PAGES);
	atomic_store_explicit(&z->trim.low, low, memory_order_relaxed);
	atomic_store_explicit(&z->trim.due, due - n, memory_order_relaxed);
	return n;
}

/* How many dirty pages z may keep if all zones may keep `pages`: its share, and a quarter of the
 * pages that it has in use. */
static uint64_t zone_part(struct zone *z, uint64_t pages)
{
	uint64_t all = atomic_load_explicit(&z->total_pages, memory_order_relaxed);
	uint64_t unused = atomic_load_explicit(&z->free_pages, memory_order_relaxed);

	return pages / zone_family(z) + (all > unused ? (all - unused) / 4 : 0);
}

/* Purges `over` dirty pages, at most `most`, of the zone that has the most. Returns how many. */
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
	return zone_purge(z, dirty > over ? dirty - over : 0, most) >> PG_SHIFT;
}

/* More pages are dirty than the soft limit allows. */
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
		atomic_store_explicit(&lead->trim.peak, 0, memory_order_relaxed);
		counter_add_shared(&lead->trim.gone, n);
		atomic_store_explicit(&lead->trim.gone_at, now, memory_order_relaxed);
		return;
	}
	n = trim_most(z, dirty - soft, trim_decayed(lead, now, dirty, min_size(freed, dirty)));
	if (!n)
		return;
	atomic_store_explicit(&lead->trim.peak, 0, memory_order_relaxed);
	earned = atomic_load_explicit(&lead->trim.earned, memory_order_relaxed);
	atomic_store_explicit(&lead->trim.earned, earned - min_size(earned, n),
			      memory_order_relaxed);
}

/*
 * Without a background thread, a free gives back the dirty pages above the soft limit: dirty_max
 * and a quarter of what is in use. A program that repeatedly frees and reallocates big blocks, or
 * builds a structure and tears it down, reuses them soon. That earns it more pages to keep, until
 * those were not reused for decay_ms. A call purges at most a few times what it freed and a little
 * more, which is enough to keep up.
 */
void trim(struct zone *z, uint64_t freed)
{
	uint64_t dirty = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed);
	uint64_t max = dirty_most() >> PG_SHIFT;
	uint64_t used;
	uint64_t soft;
	struct zone *lead = zone_lead(z);

	if (!trim_inline)
		return;
	/* While each zone keeps to its share, the sum need not be read. */
	if (zone_family(z) > 1 && dirty <= zone_part(z, max))
		return;
	dirty = zone_sum(z, dirty_pages);
	trim_note(lead, dirty);
	if (dirty < max / 2)
		return;
	used = zone_used_pages(z);
	soft = max + used / 4;
	if (dirty > soft)
		trim_over(z, dirty, soft, max_size(3 * used, TRIM_TEARDOWN * max), freed);
	else if (atomic_load_explicit(&lead->trim.low, memory_order_relaxed))
		atomic_store_explicit(&lead->trim.low, 0, memory_order_relaxed);
}

/* ---- descriptors ------------------------------------------------------------------------- */

/* Takes the next large clean block from page *at of the region on. Returns NULL if none. */
static struct page *descriptors_take(struct zone *z, struct region *r, uint32_t *at)
{
	struct page *found = NULL;

	if (!zone_lock(z))
		return NULL;
	while (!found && *at < r->pages) {
		struct page *pg = &r->page[*at];
		bool block = page_kind(pg) == PAGE_BUDDY && pg->cls >= DESCRIPTORS_ORDER;

		*at += block ? pg->npages : 1u << DESCRIPTORS_ORDER;
		if (block && pg->backing == BACKING_CLEAN && !pg->descriptors_purged)
			found = pg;
	}
	run_begin(z);
	if (found)
		block_remove(z, found, PAGE_PURGING);
	zone_unlock(z);
	return found;
}

/* A block whose descriptors cannot be purged (locked memory) is not tried again until it was
 * used. */
static void descriptors_return(struct zone *z, struct page *pg)
{
	struct region *r = region_of(pg);
	uint32_t i = page_number(pg);
	unsigned order = pg->cls;

	if (!zone_lock(z)) {
		pg->backing = BACKING_CLEAN;
		defer_push(z, pg);
		return;
	}
	run_begin(z);
	block_free(z, r, i, order, false);
	if (is_free_block(r, i, order))
		pg->descriptors_purged = 1;
	zone_unlock(z);
}

void zone_purge_descriptors(struct zone *z)
{
	zone_purge_regions(z);
	for (struct region *r = zone_first_region(z); r; r = r->next) {
		uint32_t at = 0;
		struct page *pg;

		while ((pg = descriptors_take(z, r, &at)) != NULL) {
			vm_purge(pg + 1, (pg->npages - 1) * sizeof(*pg));
			descriptors_return(z, pg);
		}
	}
}

void zones_purge_descriptors(void)
{
	for (uint32_t i = 0; i < zones_count(); i++)
		zone_purge_descriptors(&zone_all[i]);
}
