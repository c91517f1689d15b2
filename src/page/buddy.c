/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * buddy.c - allocates and frees runs: from which zone, and by how many holds of its lock.
 * Used by pcp, longrun, the heap and the page API; uses block, region, purge, prefault, growth,
 * mapcache.
 *
 * (A) A run is freed to the zone of its region, whichever thread frees it.
 * (B) A zone grows only when no zone has what is wanted. What limits count is counted over all
 *     zones.
 *
 * Lock: zone.lock, by alloc_hold, free_batch and buddy_extend; never two zones' at once.
 * Bound: an allocation of n runs has n / BUDDY_BATCH + 1 holds (if places are compared,
 * n / RANGE_BATCH + 1, or one for each long run), two for each other zone that seems to have some,
 * and those that merge quick lists (quick.c). One that grows a zone has one hold of zone.grow
 * besides (region.c). A free of n runs has n / BUDDY_BATCH + 1 holds for each zone that they are
 * of; one that trims purges what trim says.
 * Allocates nothing; may block in the kernel outside its locks (growth, trim). Signal handlers: see
 * block.c.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/buddy.h"

#include <errno.h>

#include "base/check.h"
#include "base/options.h"
#include "base/park.h"
#include "base/stats.h"
#include "os/vm.h"
#include "page/block.h"
#include "page/growth.h"
#include "page/mapcache.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/quick.h"
#include "page/region.h"

#define RANGE_PAGES_MIN 5u
#define MERGE_HOLDS 2u /* of the lock, to merge runs for one call */
#define MERGES 16u     /* runs that are merged to extend a run in front of them */
#define RANGE_BATCH 8u /* runs of fewer than RANGE_LONG pages in one hold of the lock */

void (*buddy_after_free)(struct zone *z);

/* ---- allocation -------------------------------------------------------------------------- */

/* An allocation: the request, and what was taken so far. */
struct taking {
	struct want want;
	unsigned n;
	unsigned least;
	struct page **out;
	unsigned got;
	bool busy; /* a zone was skipped whose lock another thread holds and will release */
};

#define BACKINGS_DIRTY (1u << BACKING_DIRTY)
#define BACKINGS_ALL ((1u << BACKINGS) - 1)

/* How many runs one hold of the lock may take: fewer if places for them are compared. */
static unsigned batch_of(const struct want *want)
{
	if (!want->anywhere)
		return BUDDY_BATCH;
	return want->npages < RANGE_LONG ? RANGE_BATCH : 1;
}

/* One hold of the lock: takes the runs of a batch at most, until there are `end`. */
static int alloc_hold(struct zone *z, struct taking *t, unsigned backings, unsigned end)
{
	unsigned most = batch_of(&t->want);
	int err = zone_lock_err(z);

	if (err) {
		t->busy |= err == -EBUSY;
		return err;
	}
	if (end > t->got + most)
		end = t->got + most;
	t->got += runs_alloc_locked(z, &t->want, backings, end - t->got, t->out + t->got);
	zone_unlock(z);
	prefault_check_marks(z);
	return 0;
}

/* Takes all runs that have one of the backings, until there are `end`. */
static int alloc_holds(struct zone *z, struct taking *t, unsigned backings, unsigned end)
{
	unsigned before;
	int err;

	do {
		before = t->got;
		err = alloc_hold(z, t, backings, end);
	} while (!err && t->got < end && t->got != before);
	return err;
}

/* Whether a zone seems to have what is wanted. Read without its lock, the answer may be stale. That
 * is harmless: the zone is then asked in vain, or skipped as it would have been a moment ago. */
static bool may_have(const struct zone *z, const struct want *want, unsigned backings)
{
	unsigned order = want->anywhere ? want->order - 2 : want->order;

	for (enum backing backing = 0; backing < BACKINGS; backing++)
		if ((backings & 1u << backing) && orders_of(z, backing) >> order)
			return true;
	return false;
}

/* Takes runs from the other zones, beginning with the one behind z. Holds one lock at a time. */
static void alloc_of_others(struct zone *z, struct taking *t, unsigned backings, unsigned end)
{
	uint32_t n = zone_family(z);
	uint32_t me = (uint32_t)(z - zone_lead(z));

	for (uint32_t i = 1; i < n && t->got < end; i++) {
		struct zone *other = &zone_all[(me + i) % n];

		/* Its runs that are not merged yet are dirty memory as well. */
		if (t->got < t->least && (backings & BACKINGS_DIRTY))
			quick_merge_some(other);
		if (may_have(other, &t->want, backings))
			alloc_holds(other, t, backings, end);
	}
}

/*
 * What the quick lists have may be part of a place for the run: takes dirty memory, and merges runs
 * while there is too little, before clean memory is taken. Returns whether the least is there.
 */
static noinline bool alloc_unmerged(struct zone *z, struct taking *t)
{
	unsigned holds = 0;

	do {
		if (alloc_holds(z, t, BACKINGS_DIRTY, t->n) != 0)
			return false;
	} while (t->got < t->least && holds++ < MERGE_HOLDS && quick_merge_some(z));
	return t->got >= t->least;
}

/*
 * Takes free memory: first the zone's own dirty memory, then dirty memory of other zones, so that
 * memory which the kernel backs is used first; then the zone's other memory; then, if that is too
 * little, that of other zones. Returns the result of the zone's own lock.
 */
static int alloc_free(struct zone *z, struct taking *t)
{
	int err;

	if (unlikely(quick_runs(z)) && alloc_unmerged(z, t))
		return 0;
	if (likely(zone_family(z) == 1))
		return alloc_holds(z, t, BACKINGS_ALL, t->n);
	if (may_have(z, &t->want, BACKINGS_DIRTY))
		alloc_holds(z, t, BACKINGS_DIRTY, t->n);
	alloc_of_others(z, t, BACKINGS_DIRTY, t->n);
	if (t->got == t->n)
		return 0;
	err = alloc_holds(z, t, BACKINGS_ALL, t->n);
	if (t->got < t->least)
		alloc_of_others(z, t, BACKINGS_ALL, t->n);
	return err;
}

/* Whether the process has as much as a zone takes at a time. Never true if new memory is locked,
 * and so filled at once. */
static bool is_grown(struct zone *z)
{
	uint64_t pages = zone_sum(z, total_pages);

	return pages + REGION_META_PAGES >= options.region_step >> PG_SHIFT &&
	       !atomic_load_explicit(&z->locked, memory_order_relaxed);
}

/* Takes free memory, and grows the zone until the least that is asked for is there. */
static int alloc_grow(struct zone *z, struct taking *t, bool asked)
{
	bool merged = false;

	for (;;) {
		uint64_t seen = atomic_load_explicit(&z->grown, memory_order_relaxed);
		int err = alloc_free(z, t);

		if (err || t->got >= t->least)
			return err;
		if (!merged && quick_runs(z)) {
			merged = true;
			quick_merge(z);
			continue;
		}
		/* Not worth it for small steps, before which growth_ask_if_due asks in time. */
		if (!asked && seen && is_grown(z)) {
			asked = true;
			if (growth_ask(zone_lead(z), t->want.npages))
				continue;
		}
		err = zone_grow(z, t->want.order, seen);
		t->busy |= err == -EBUSY;
		if (err)
			return err;
	}
}

/*
 * The zone's lock cannot be taken, or the kernel refuses to grow it: takes from the other zones,
 * and grows them. If no zone's locks can be taken, because the call that this signal handler
 * interrupted, or a thread that does not come back, holds them, one more zone comes into use.
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
	bool asked = growth_ask_if_due(z, (uint64_t)want->npages * least);
	struct taking t = { .want = *want, .n = n, .least = least, .out = out };
	int err = alloc_grow(z, &t, asked);

	if (unlikely(t.got < least) && zone_is_one_of_all(z))
		alloc_elsewhere(z, &t, err);
	return t.got;
}

unsigned buddy_alloc_bulk(struct zone *z, uint32_t npages, unsigned n, unsigned least,
			  struct page **out)
{
	uint32_t odd = zone_is_tight(z) ? 3 : RANGE_PAGES_MIN; /* from here on compare places */
	struct want want = { npages, order_of(npages),
			     npages > RANGE_SHORT || (npages >= odd && !is_pow2(npages)) };

	unsigned got = quick_take(z, npages, n, out);

	DCHECK(npages >= 1 && npages <= RUN_PAGES_MAX);
	/* Otherwise it breaks the longest blocks, and later ones take new memory. Merging takes
	 * less time than touching new memory of its length. */
	if (npages > QUICK_PAGES)
		quick_merge_holds(z, MERGE_HOLDS);
	if (got >= least)
		return got;
	return got + alloc_runs(z, &want, n - got, least - got, out + got);
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

struct page *buddy_alloc_roomy(struct zone *z, uint32_t npages)
{
	unsigned order = order_of(npages) + 1;
	struct page *pg;

	/* A block that grew has left others, which together may have the room. */
	if (!(orders_of(z, BACKING_DIRTY) >> order))
		quick_merge(z);
	if (!(orders_of(z, BACKING_DIRTY) >> order) || !zone_lock(z))
		return NULL;
	pg = roomy_alloc_locked(z, npages, order);
	zone_unlock(z);
	return pg;
}

/* ---- free -------------------------------------------------------------------------------- */

/* Frees n runs, at most BUDDY_BATCH: those of one zone by one hold of its lock. */
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
			if (unlikely(!locked))
				defer_push(z, pg);
			else if (!trims || !quick_put_locked(z, pg))
				run_free_locked(pg);
		}
		if (!locked)
			continue;
		zone_unlock(z);
		prefault_check_marks(z);
		park_wake();
		if (!trims)
			continue;
		if (unlikely(buddy_after_free != NULL))
			buddy_after_free(z);
		mapcache_tick();
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

/* The first page from `from` on that is neither free nor before `want`. Runs that are not merged
 * yet are merged, MERGES at most. Guarded by: zone.lock. */
static uint32_t free_until(struct region *r, uint32_t from, uint32_t want)
{
	unsigned merges = 0;
	uint32_t at = from;

	while (at < want && at < r->pages) {
		enum page_kind kind = page_kind(&r->page[at]);

		if (kind == PAGE_BUDDY) {
			at += 1u << r->page[at].cls;
		} else if (kind == PAGE_QUICK && merges++ < MERGES) {
			quick_merge_locked(r->zone, &r->page[at]);
			at = from;
		} else {
			break;
		}
	}
	return at;
}

bool buddy_extend(struct page *pg, uint32_t npages)
{
	struct region *r = region_of(pg);
	struct zone *z = r->zone;
	uint32_t end = page_number(pg) + pg->npages;
	uint32_t want = page_number(pg) + npages;
	uint32_t at;
	uint32_t prefaulted = 0;
	uint32_t clean;
	enum backing backing = BACKING_CLEAN;

	if (want > REGION_PAGES || !zone_lock(z))
		return false;
	run_begin(z);
	if (free_until(r, end, want) < want) {
		zone_unlock(z);
		return false;
	}
	for (at = end; at < want;) {
		uint32_t n = 1u << r->page[at].cls;

		backing = r->page[at].backing;
		block_remove(z, &r->page[at], PAGE_NONE);
		at += n;
		if (backing == BACKING_PREFAULTED)
			prefaulted += n;
	}
	if (at > want) {
		range_free(z, r, want, at - want, backing == BACKING_PREFAULTED);
		if (backing == BACKING_PREFAULTED)
			prefaulted -= at - want;
	}
	if (prefaulted)
		counter_add_shared(&zone_lead(z)->growth.prefaulted_taken, prefaulted);
	clean = (want - end) - prefaulted - dirty_bits(r, end, want - end, BITS_COUNT);
	if (clean)
		counter_add_shared(&zone_lead(z)->growth.clean_taken, clean);
	pg->npages = npages;
	pg->backing = BACKING_DIRTY;
	zone_unlock(z);
	prefault_check_marks(z);
	return true;
}

bool buddy_extend_region(struct page *pg, uint32_t npages)
{
	struct region *r = region_of(pg);
	struct zone *z = r->zone;
	uint32_t want = page_number(pg) + npages;
	uint64_t seen = atomic_load_explicit(&z->grown, memory_order_relaxed);
	uint32_t at;
	bool at_end;

	if (zone_is_tight(z) || !zone_lock(z))
		return false;
	at = free_until(r, page_number(pg) + pg->npages, want);
	at_end = at == r->pages && want <= r->reserved;
	zone_unlock(z);
	if (at >= want) /* what lies behind was freed meanwhile */
		return buddy_extend(pg, npages);
	if (!at_end)
		return false;
	growth_ask_if_due(z, want - at);
	return zone_grow(z, order_of(want - at), seen) == 0 && buddy_extend(pg, npages);
}

void buddy_shrink(struct page *pg, uint32_t npages)
{
	struct page *tail = pg + npages;

	DCHECK(npages >= 1 && npages < pg->npages);
	tail->npages = pg->npages - npages;
	tail->backing = BACKING_DIRTY;
	tail->list = LIST_NONE;
	page_set_kind(tail, PAGE_LIMBO);
	pg->npages = npages;
	buddy_free(tail);
}
