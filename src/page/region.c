/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region.c - a zone's regions: growth, and giving address space back.
 * Used by buddy, prefault, purge, heap (if there is no memory), reclaim and mlock; uses block,
 * pagemap and vm.
 *
 * (A) The index of a page whose address space is not ours (given back, or never ours) is 0, and
 *     page 0 is PAGE_NONE. So a pointer to what the kernel puts there leads to no descriptor.
 *     (zone_check)
 * (B) Address space is given back as whole regions, or as free blocks inside one (PAGE_AWAY). Those
 *     blocks are on zone.away, on no other list, and counted in region.away_pages only.
 *     (zone_check)
 *
 * Lock: zone.grow (GROW), for all functions here; zone.lock inside it, for what changes pages.
 * System calls are made under zone.grow only.
 * Bound: zone_grow looks at each region twice. It asks the kernel at most 2 * ORDERS times, for
 * less and less, and once for each place behind which others had a mapping when it was last tried;
 * once or twice in all if the last growth was refused. If mappings are used up, it asks 10 times
 * more, and twice for each region that has guards.
 * Allocates nothing; blocks in the kernel. Signal handlers: see block.c. Fork: see fork.c.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/region.h"

#include <errno.h>
#include <string.h>

#include "base/delay.h"
#include "base/options.h"
#include "base/probe.h"
#include "base/stats.h"
#include "os/vm.h"
#include "page/block.h"
#include "page/quick.h"
#include "page/region_guard.h"
#include "page/region_va.h"
#include "page/thp.h"

#define STEP_MIN ((size_t)1 << 20)
#define STEP_LEAST ((size_t)128 << 10) /* when the kernel refuses more */
#define STEP_FIRST ((size_t)2 << 20)
#define RETRY_REFUSALS 64u /* of growth, until the blocked places are tried again */
#define HOPELESS 4u   /* times all that we have: giving back does not help a request of that size */
#define AWAY_ORDER 6u /* 1 MiB */
#define AWAY_MAX 256u /* each splits a mapping; a process may have 65,530 mappings */

bool (*region_ready)(struct region *r);

/* ---- growth ------------------------------------------------------------------------------ */

/* Adds pages [r->pages, pages) of a region as free blocks, clean unless their bits say otherwise.
 * Returns false if the lock cannot be taken. */
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

/* Regions grow by whole kernel pages or by whole pages of ours, whichever are larger. */
static size_t step_whole(size_t step)
{
	return align_down(step, max_size(PG_BYTES, vm_os_page));
}

/*
 * Bytes to try for first; halved while the kernel refuses. The zone's size, up to the option, so
 * that a small process that locks its memory (mlockall) locks little that it does not use. Less
 * under a limit on address space, so that the program's own mappings find room.
 */
static size_t step_bytes(struct zone *z, bool *limited)
{
	uint64_t pages = atomic_load_explicit(&z->total_pages, memory_order_relaxed);
	size_t limit;
	size_t step = min_size(options.region_step, max_size(STEP_FIRST, pages << PG_SHIFT));

	if (atomic_load_explicit(&z->locked, memory_order_relaxed))
		step = STEP_MIN;
	*limited = vm_address_limited(&limit);
	if (*limited != zone_is_tight(z))
		atomic_store_explicit(&zone_lead(z)->tight, *limited, memory_order_relaxed);
	if (*limited)
		step = min_size(step, max_size(STEP_MIN, align_down(limit / 64, STEP_MIN)));
	return step_whole(step);
}

/* Makes the next bytes of a region's reserved address space usable. Guarded by: grow. */
static bool region_commit(struct zone *z, struct region *r, size_t bytes)
{
	char *at = region_start(r) + ((size_t)r->pages << PG_SHIFT);

	if (!vm_commit(at, bytes))
		return false;
	thp_as_set(at, bytes);
	PROBE2(growth, at, bytes);
	DELAY_HERE(grow_committed);
	/* If the zone's lock cannot be taken (a fork, or a signal handler whose thread holds it),
	 * nothing is lost: the space stays reserved, and the next try makes it usable again. */
	return region_add_pages(z, r, r->pages + (uint32_t)(bytes >> PG_SHIFT));
}

/* Publishes a region whose metadata are usable. Returns false, and does nothing, if what else it
 * needs is missing. Guarded by: grow. */
static bool region_publish(struct zone *z, struct region *r, uint32_t reserved)
{
	if (unlikely(region_ready != NULL) && !region_ready(r))
		return false;
	r->zone = z;
	r->pages = region_first();
	r->reserved = reserved;
	r->next = atomic_load_explicit(&z->regions, memory_order_relaxed);
	/* Release pairs with the acquire in zone_first_region. */
	atomic_store_explicit(&z->regions, r, memory_order_release);
	pagemap_add(r);
	stat_add(STAT_regions_made, 1);
	return true;
}

/* Maps bytes for a region: below the last region if that place is free, or elsewhere. */
static struct region *region_map(struct zone *z, size_t bytes)
{
	struct region *last = zone_first_region(z);
	char *at = last ? region_start(last) - REGION_BYTES : NULL;
	int err = last ? vm_try_map_at(at, bytes) : -EEXIST;

	if (err == -EEXIST)
		at = vm_map(bytes, REGION_BYTES);
	return at && (!err || err == -EEXIST) ? region_at((uintptr_t)at) : NULL;
}

/* Maps a region with room for step bytes. Guarded by: grow. */
static struct region *region_map_new(struct zone *z, size_t step)
{
	size_t meta = (size_t)region_first() << PG_SHIFT;
	size_t bytes = min_size(align_up(meta + step, vm_os_page), REGION_BYTES);
	struct region *r = region_map(z, bytes);

	if (!r)
		return NULL;
	region_guard(r);
	if (region_publish(z, r, (uint32_t)(bytes >> PG_SHIFT)))
		return r;
	vm_unmap(region_start(r), bytes);
	return NULL;
}

/*
 * A new region, with its metadata mapped and no page usable yet: out of the reservation, or, if
 * there is none, mapped with room for step bytes. If memory is locked nothing is reserved, because
 * the kernel counts reserved space as well (RLIMIT_MEMLOCK). Guarded by: grow.
 */
static struct region *region_new(struct zone *z, bool limited, size_t step)
{
	struct region *r = region_at(z->va.next);

	if (z->va.next == z->va.end) {
		z->va.bare = false;
		if (limited || z->va.refused ||
		    atomic_load_explicit(&z->locked, memory_order_relaxed))
			return region_map_new(z, step);
		va_reserve(z);
		if (z->va.refused)
			return region_map_new(z, step);
		r = region_at(z->va.next);
	}
	/* If it fails, the next try finds it there, usable or not. */
	if (!region_commit_meta(r, z->va.bare))
		return NULL;
	atomic_store_explicit(&r->bare, z->va.bare, memory_order_relaxed);
	if (!region_publish(z, r, REGION_PAGES))
		return NULL;
	z->va.next += REGION_BYTES;
	return r;
}

/*
 * Makes step bytes of r usable; fewer if the kernel refuses, but at least `least`. If the kernel
 * fills them at once (locked memory), not more than STEP_MIN where `least` allows. Guarded by:
 * grow.
 */
static bool region_grow(struct zone *z, struct region *r, size_t step, size_t least)
{
	size_t room = (size_t)(r->reserved - r->pages) << PG_SHIFT;
	bool locked;

	if (room < least)
		return false;
	locked = vm_locked(region_start(r) + ((size_t)r->pages << PG_SHIFT));
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
 * Provides room for bytes behind the pages of r: in what it has reserved, or by mapping the address
 * space behind that (for an offline region, all of it). Returns 0; -EEXIST if another mapping is
 * there; -ENOMEM if the kernel refused. Guarded by: grow.
 */
static int region_room(struct region *r, size_t bytes)
{
	size_t old = (size_t)r->reserved << PG_SHIFT;
	size_t end = align_up(((size_t)r->pages << PG_SHIFT) + bytes, vm_os_page);
	int err;

	if (end <= old)
		return 0;
	err = vm_try_map_at(region_start(r) + old, end - old);
	if (err)
		return err;
	r->reserved = (uint32_t)(end >> PG_SHIFT);
	r->offline = 0;
	return 0;
}

/*
 * Maps up to step bytes of a block that is away again, at its front, and frees their pages. Returns
 * 0; -EEXIST if another mapping is there; -ENOMEM if the kernel refused or the lock cannot be
 * taken.
 * Guarded by: grow.
 */
static int away_return(struct zone *z, struct page **link, size_t step)
{
	struct page *pg = *link;
	uint32_t n = (uint32_t)(align_up(step, vm_os_page) >> PG_SHIFT);
	bool mapped = pg->backing == BACKING_DIRTY;
	struct page *rest;
	int err;

	if (n + (STEP_LEAST >> PG_SHIFT) > pg->npages)
		n = pg->npages; /* the rest would be too small to be used */
	rest = n < pg->npages ? pg + n : pg->next;
	err = mapped ? 0 : vm_try_map_at(page_address(pg), (size_t)n << PG_SHIFT);
	if (err)
		return err;
	if (!mapped)
		thp_as_set(page_address(pg), (size_t)n << PG_SHIFT);
	if (!zone_lock(z)) {
		if (!mapped)
			vm_unmap(page_address(pg), (size_t)n << PG_SHIFT);
		return -ENOMEM;
	}
	if (n < pg->npages) {
		rest->npages = pg->npages - n;
		rest->backing = pg->backing;
		rest->blocked = 0;
		rest->next = pg->next;
		rest->list = LIST_NONE;
		page_set_kind(rest, PAGE_AWAY);
	} else {
		z->away_count--;
	}
	*link = rest;
	pg->npages = n;
	region_of(pg)->away_pages -= n;
	run_free_locked(pg);
	counter_add(&z->total_pages, n);
	counter_add(&z->grown, 1);
	zone_unlock(z);
	return 0;
}

/* Whether it holds an aligned block as large as `least` bytes at any place are sure to hold. */
static bool away_holds(const struct page *pg, size_t least)
{
	uint32_t n = 1u << order_of((uint32_t)(least >> PG_SHIFT) / 2);
	uint32_t first = page_number(pg);

	return align_up(first, n) + n <= first + pg->npages;
}

/* Grows into a block that is away. Returns 0; -EEXIST if there is none; -ENOMEM. Guarded by:
 * grow. */
static int grow_away(struct zone *z, size_t step, size_t least)
{
	for (struct page **at = &z->away; *at; at = &(*at)->next) {
		int err;

		if ((*at)->blocked || !away_holds(*at, least))
			continue;
		err = away_return(z, at, step);
		if (err != -EEXIST)
			return err;
		(*at)->blocked = 1;
	}
	return -EEXIST;
}

/*
 * Grows by step bytes of address space, or by what is left in a region, but at least by `least`:
 * first into blocks that are away, then behind a region, so that its metadata serve as many pages
 * as they can, then into a new region. Guarded by: grow.
 */
static bool grow_space(struct zone *z, bool limited, size_t step, size_t least)
{
	int err = grow_away(z, step, least);
	struct region *r;

	if (err != -EEXIST)
		return err == 0;
	for (r = zone_first_region(z); r; r = r->next) {
		size_t bytes = min_size(step, (size_t)(REGION_PAGES - r->pages) << PG_SHIFT);

		if (r->blocked || bytes < least)
			continue;
		err = region_room(r, bytes);
		if (err == -EEXIST)
			r->blocked = true;
		else
			return !err && region_grow(z, r, bytes, least);
	}
	/* A new region's metadata are not worth it for less. */
	if (step < STEP_MIN && !z->refused)
		return false;
	step = max_size(step, STEP_MIN);
	r = region_new(z, limited, step);
	return r && region_grow(z, r, step, least);
}

/* Lets the next growth try the places again that others had. Guarded by: grow. */
static void try_blocked_again(struct zone *z)
{
	for (struct region *r = zone_first_region(z); r; r = r->next)
		r->blocked = false;
	for (struct page *pg = z->away; pg; pg = pg->next)
		pg->blocked = 0;
}

/* Grows into what regions have reserved. Guarded by: grow. */
static bool grow_reserved(struct zone *z, size_t step, size_t least)
{
	for (struct region *r = zone_first_region(z); r; r = r->next) {
		if (region_grow(z, r, step, least))
			return true;
	}
	return false;
}

/*
 * The process may have no more mappings (vm.max_map_count): does without guards, whose mappings
 * then serve for growth, and maps the next regions at once. Guarded by: grow.
 */
static bool grow_bare(struct zone *z, size_t step, size_t least)
{
	struct region *r;

	(void)regions_unguard(z);
	if (grow_reserved(z, step, least))
		return true;
	if (!z->va.bare)
		va_map_bare(z);
	r = region_new(z, false, step);
	return r && region_grow(z, r, step, least);
}

/* Room that a region has reserved comes first, then address space, less and less while the kernel
 * refuses. After a refused growth the next one asks only once, so that repeated failures cost
 * little. */
int zone_grow(struct zone *z, unsigned order, uint64_t seen)
{
	size_t least = min_size(max_size(max_size(STEP_LEAST, vm_os_page), PG_BYTES << (order + 1)),
				(size_t)(REGION_PAGES - region_first()) << PG_SHIFT);
	size_t step;
	bool limited;
	bool good;
	int err = grow_lock(z);

	if (err)
		return err;
	if (atomic_load_explicit(&z->grown, memory_order_relaxed) != seen) {
		grow_unlock(z);
		return 0; /* another thread did it */
	}
	limited = zone_is_tight(z);
	step = max_size(z->refused ? 0 : step_bytes(z, &limited), least);
	good = grow_reserved(z, step, least);
	while (!good && step >= least) {
		good = grow_space(z, limited, step, least);
		step = step > least ? max_size(align_down(step / 2, vm_os_page), least) : 0;
	}
	if (!good && !limited && vm_mappings_refused() == -ENOMEM)
		good = grow_bare(z, max_size(STEP_FIRST, least), least);
	z->refused = !good;
	if (!good && ++z->refusals % RETRY_REFUSALS == 0)
		try_blocked_again(z);
	grow_unlock(z);
	return good ? 0 : -ENOMEM;
}

/* ---- giving back ------------------------------------------------------------------------- */

static bool region_is_dirty(struct region *r)
{
	uint32_t first = region_first();

	return dirty_bits(r, first, r->pages - first, BITS_COUNT) != 0;
}

/* Pages of a region whose address space is away, in the order of their addresses. */
struct gaps {
	unsigned n;
	uint32_t pages; /* of all of them */
	struct {
		uint32_t first;
		uint32_t end;
	} gap[REGION_PAGES >> AWAY_ORDER]; /* each was a block of that order or more */
};

/* What is away in a region whose address space goes as a whole is on no list any more. Guarded by:
 * grow. */
static void away_forget(struct zone *z, struct region *r)
{
	for (struct page **at = &z->away; *at && r->away_pages;) {
		struct page *pg = *at;

		if (region_of(pg) != r) {
			at = &pg->next;
			continue;
		}
		*at = pg->next;
		z->away_count--;
		r->away_pages -= pg->npages;
	}
}

/* Takes the pages of a region that is wholly free, or away, off the lists; only if they are clean,
 * unless `dirty`. Returns how many it has; 0 if the region stays as it is. Guarded by: grow. */
static uint32_t region_take_pages(struct zone *z, struct region *r, bool dirty, struct gaps *gaps)
{
	uint32_t n = r->pages - region_first();

	gaps->n = 0;
	gaps->pages = 0;
	if (!zone_lock(z))
		return 0;
	if (n == 0 || r->free_pages + r->away_pages != n || (!dirty && region_is_dirty(r))) {
		zone_unlock(z);
		return 0;
	}
	run_begin(z);
	for (uint32_t i = region_first(); i < r->pages;) {
		struct page *pg = &r->page[i];

		i += pg->npages;
		if (page_kind(pg) != PAGE_AWAY) {
			block_remove(z, pg, PAGE_NONE);
		} else if (pg->backing != BACKING_DIRTY) { /* it is not mapped */
			gaps->gap[gaps->n].first = i - pg->npages;
			gaps->gap[gaps->n++].end = i;
			gaps->pages += pg->npages;
		}
	}
	r->pages = region_first();
	counter_add(&z->total_pages, (uint64_t)0 - (n - r->away_pages));
	zone_unlock(z);
	away_forget(z, r);
	return n;
}

/* Makes [at, at + bytes) read as zero, and gives its memory back if the kernel agrees. */
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
 * The region's pages are about to become address space of others. A pointer into them must not lead
 * to a descriptor, which may be in use again when the front of the region is. So all indices lead
 * to page 0, which is PAGE_NONE.
 */
static void region_forget(struct region *r)
{
	meta_clear((char *)r->head, sizeof(*r) - offsetof(struct region, head));
}

/* Unmaps pages of a region; not what others may have mapped in its gaps. Returns false if the
 * kernel refused all. */
static bool unmap_between(struct region *r, uint32_t end, const struct gaps *gaps)
{
	uint32_t at = region_first();
	bool any = false;

	for (unsigned i = 0; i <= gaps->n; i++) {
		uint32_t last = i < gaps->n ? gaps->gap[i].first : end;
		char *addr = region_start(r) + ((size_t)at << PG_SHIFT);
		size_t n = (size_t)(last - at) << PG_SHIFT;

		if (n && vm_unmap(addr, n))
			any = true;
		else if (n)
			vm_purge(addr,
				 n); /* it costs address space, until the region is unmapped */
		if (i < gaps->n)
			at = gaps->gap[i].end;
	}
	return any;
}

/* Unmaps a region that is wholly free, and clean unless `dirty`. Returns bytes that were usable, or
 * waited to be grown into again. Guarded by: grow. */
static uint64_t release_region(struct zone *z, struct region *r, bool dirty)
{
	struct gaps gaps;
	uint32_t n = region_take_pages(z, r, dirty, &gaps);
	uint32_t given = n ? n - gaps.pages : r->reserved - region_first();

	if (!n && (r->offline || r->pages != region_first()))
		return 0;
	DELAY_HERE(region_taken);
	/* Before others can get the address space. */
	region_forget(r);
	if (!unmap_between(r, r->reserved, &gaps) && !gaps.n) {
		/* The process has no mapping left to split this one: it stays mapped. */
		if (n)
			region_add_pages(z, r, region_first() + n);
		return 0;
	}
	dirty_bits(r, region_first(), n, BITS_CLEAR); /* it has no page in any list */
	r->reserved = region_first();
	r->offline = 1;
	r->populated = false;
	stat_add(STAT_regions_released, 1);
	return (uint64_t)given << PG_SHIFT;
}

/* Unless `parts`, not those that may be a part of a mapping. */
static uint64_t release_regions(struct zone *z, uint64_t want, bool dirty, bool parts)
{
	uint64_t bytes = 0;

	for (struct region *r = zone_first_region(z); r && bytes < want; r = r->next) {
		if (parts || !atomic_load_explicit(&r->bare, memory_order_relaxed))
			bytes += release_region(z, r, dirty);
	}
	return bytes;
}

/*
 * Wholly free and clean regions wait to be grown into again, with descriptors that cost no memory.
 * Not in a zone with a reserve: its blocks may be prefaulted, and its metadata are populated. If
 * address space is limited these regions are unmapped, for the program's own mappings. So is one
 * that is away in part: it is not whole any more.
 */
void zone_purge_regions(struct zone *z)
{
	struct gaps none;
	bool tight = zone_is_tight(z);

	if (z->segregated || grow_lock(z) != 0)
		return;
	for (struct region *r = zone_first_region(z); r; r = r->next) {
		if (tight || r->away_pages)
			release_region(z, r, false);
		if (!region_take_pages(z, r, false, &none))
			continue;
		DELAY_HERE(region_taken);
		vm_purge(r->head, (REGION_META_PAGES << PG_SHIFT) - offsetof(struct region, head));
	}
	grow_unlock(z);
}

uint64_t zone_release_regions(struct zone *z)
{
	uint64_t bytes;

	quick_merge(z);
	if (grow_lock(z) != 0)
		return 0;
	bytes = release_regions(z, UINT64_MAX, true, true);
	grow_unlock(z);
	return bytes;
}

/* Unmaps what is reserved and was not used yet. Guarded by: grow. */
static uint64_t release_reserved(struct zone *z)
{
	uint64_t bytes = z->va.end - z->va.next;

	if (!va_release(z))
		bytes = 0;
	for (struct region *r = zone_first_region(z); r; r = r->next) {
		size_t n = (size_t)(r->reserved - r->pages) << PG_SHIFT;

		/* A region without pages may have had some, so release_regions unmaps it as a
		 * whole, and clears its indices. No index leads into the space released here. */
		if (n && r->pages != region_first() &&
		    vm_unmap(region_start(r) + ((size_t)r->pages << PG_SHIFT), n)) {
			r->reserved = r->pages;
			bytes += n;
		}
	}
	return bytes;
}

/* Takes a free block of the order, clean ones first. Returns NULL if there is none or the lock
 * cannot be taken. */
static struct page *away_take(struct zone *z, unsigned order)
{
	struct page *pg;

	if (!zone_lock(z))
		return NULL;
	if (!(pg = z->blocks[BACKING_CLEAN][order].first) &&
	    !(pg = z->blocks[BACKING_DIRTY][order].first))
		pg = z->blocks[BACKING_PREFAULTED][order].first;
	if (pg) {
		run_begin(z);
		block_remove(z, pg, PAGE_AWAY);
		dirty_bits(region_of(pg), page_number(pg), pg->npages, BITS_CLEAR);
		counter_add(&z->total_pages, (uint64_t)0 - pg->npages);
	}
	zone_unlock(z);
	return pg;
}

/* Joins b, behind a, to a, if both are away in the same way. */
static bool away_join(struct page *a, struct page *b)
{
	if (a + a->npages != b || page_kind(a) != PAGE_AWAY || a->backing != b->backing ||
	    a->blocked || b->blocked)
		return false;
	a->npages += b->npages;
	page_set_kind(b, PAGE_NONE);
	return true;
}

/* Puts a block that is away on the list, as a part of its neighbours if they are away. The
 * descriptors that are not needed then cost no memory. Guarded by: grow. */
static void away_add(struct zone *z, struct page *pg)
{
	struct page **at = &z->away;

	region_of(pg)->away_pages += pg->npages;
	while (*at) {
		struct page *other = *at;

		if (!away_join(other, pg) && !away_join(pg, other)) {
			at = &other->next;
			continue;
		}
		*at = other->next;
		z->away_count--;
		if (other < pg)
			pg = other;
	}
	pg->next = z->away;
	z->away = pg;
	z->away_count++;
	if (!z->segregated)
		vm_purge(pg + 1, (pg->npages - 1) * sizeof(*pg));
}

/* Unmaps free blocks, the largest first. Guarded by: grow. */
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
			/* Before others can get the address space; see region_forget. */
			memset(&region_of(pg)->head[page_number(pg)], 0,
			       pg->npages * sizeof(uint32_t));
			thp_split(page_address(pg), n);
			gone = vm_unmap(page_address(pg), n);
			pg->backing = gone ? BACKING_CLEAN : BACKING_DIRTY; /* it is still mapped */
			pg->blocked = 0;
			pg->list = LIST_NONE;
			away_add(z, pg);
			if (!gone)
				return bytes;
			bytes += n;
		}
	}
	return bytes;
}

uint64_t zone_release_space(struct zone *z, uint64_t want, bool parts)
{
	uint64_t bytes;

	quick_merge(z);
	if (grow_lock(z) != 0)
		return 0;
	bytes = parts ? release_reserved(z) : 0;
	if (bytes < want)
		bytes += release_regions(z, want - bytes, true, parts);
	if (bytes < want && parts)
		bytes += release_blocks(z, want - bytes);
	grow_unlock(z);
	return bytes;
}

uint64_t zones_release_regions(void)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < zones_count(); i++)
		bytes += zone_release_regions(&zone_all[i]);
	return bytes;
}

uint64_t zones_release_space(uint64_t want)
{
	uint64_t all = (zones_sum(total_pages) << PG_SHIFT) + REGION_BYTES;
	uint64_t bytes = 0;
	bool freed = false; /* mappings */
	int err;

	/* If mappings are all that is missing, a part that goes needs one more, and the kernel
	 * would refuse it when we grow again. */
	err = vm_mappings_refused();
	for (uint32_t i = 0; i < zones_count() && err == -ENOMEM; i++)
		freed |= regions_unguard(&zone_all[i]);
	/* A request that giving back cannot help must not cost the process its free memory. */
	if (want != UINT64_MAX && want / HOPELESS > all)
		return freed;
	for (uint32_t i = 0; i < zones_count() && bytes < want; i++)
		bytes += zone_release_space(&zone_all[i], want - bytes, err == 0);
	return bytes ? bytes : freed;
}

/* From now on growth acts as if memory were locked; the next one finds out whether it is. */
static void forget_reserved(struct zone *z)
{
	if (grow_lock(z) != 0)
		return;
	release_reserved(z);
	release_regions(z, UINT64_MAX, false, true); /* those that wait to be grown into */
	atomic_store_explicit(&z->locked, true, memory_order_relaxed);
	grow_unlock(z);
}

void zones_release_reserved(void)
{
	for (uint32_t i = 0; i < ZONES_ALL; i++) {
		zone_init(&zone_all[i]); /* it may come into use later */
		forget_reserved(&zone_all[i]);
	}
}
