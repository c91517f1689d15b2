/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buddy core: split, merge, exact tails, dirty and clean memory, regions that come and go. Each
 * test has a zone of its own, so that its counts are exact.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/backed.h"
#include "page/block.h"
#include "page/buddy.h"
#include "page/growth.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "page/purge.h"
#include "page/quick.h"
#include "page/region.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "lib/zone.h"
#include "os/vm.h"

#define ALL_FAIL ((uint64_t)1 << 30)

/* A zone with one whole region, all free. */
static struct zone *zone_with_region(void)
{
	struct zone *z = zone_new();

	buddy_free(buddy_alloc(z, RUN_PAGES_MAX));
	return z;
}

static uint64_t pages_used(struct zone *z)
{
	return z->total_pages - z->free_pages;
}

/* Makes the kernel refuse everything, or nothing. Calls are counted while vm_fail_at is not 0. */
static void vm_refuse(bool refuse)
{
	options.vm_fail_count = ALL_FAIL;
	options.vm_fail_at = refuse ? 1 : 0;
}

static void fill(struct page *pg, char c)
{
	memset(page_address(pg), c, (size_t)pg->npages << PG_SHIFT);
}

static bool filled(const struct page *pg, char c)
{
	const char *p = page_address(pg);

	for (size_t i = 0; i < (size_t)pg->npages << PG_SHIFT; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* The run waits on a quick list. */
static void free_lately(struct page *pg)
{
	pg->backing = BACKING_DIRTY;
	buddy_free(pg);
}

static void free_dirty(struct page *pg)
{
	free_lately(pg);
	quick_merge(region_of(pg)->zone);
}

/* The order of the block that begins at page i when all pages of the region are free. */
static unsigned order_when_free(const struct region *r, uint32_t i)
{
	unsigned o = 0;

	while (o < ORDER_MAX && i % (2u << o) == 0 && i + (2u << o) <= r->pages)
		o++;
	return o;
}

/* Returns whether all memory is free and in the largest possible blocks. */
static bool all_merged(struct zone *z)
{
	zone_check(z);
	quick_merge(z);
	for (struct region *r = zone_first_region(z); r; r = r->next) {
		for (uint32_t i = region_first(); i < r->pages;) {
			unsigned o = order_when_free(r, i);

			if (r->page[i].kind != PAGE_BUDDY || r->page[i].cls != o)
				return false;
			i += 1u << o;
		}
	}
	return pages_used(z) == 0;
}

/* ---- split and merge ------------------------------------------------------------------------ */

static void test_orders(void)
{
	struct zone *z = zone_new();
	bool aligned = true;
	bool exact = true;
	bool merged = true;

	for (unsigned o = 0; o <= ORDER_MAX; o++) {
		struct page *pg;

		if (buddy_alloc_blocks(z, o, 1, &pg) != 1)
			tap_bail_out("no memory");
		aligned &= page_number(pg) % (1u << o) == 0 && pg->npages == 1u << o;
		exact &= pages_used(z) == 1u << o && pg->kind == PAGE_LIMBO;
		buddy_free(pg);
		merged &= all_merged(z);
	}
	ok(aligned, "a block of each order is aligned to its size within its region");
	ok(exact, "a block of each order takes as many pages as it has");
	ok(merged, "after each free all pages are in the largest blocks again");
}

static void shuffle(struct page **a, unsigned n)
{
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned k = (unsigned)rand() % (i + 1);
		struct page *t = a[i];

		a[i] = a[k];
		a[k] = t;
	}
}

static void test_split_all(void)
{
	static struct page *run[REGION_PAGES];
	struct zone *z = zone_new();
	unsigned n;

	buddy_free(buddy_alloc(z, 1));
	n = (unsigned)z->total_pages;
	vm_refuse(true);
	is_int(buddy_alloc_bulk(z, 1, n, n, run), n, "a zone gives all its pages one by one");
	is_int(z->free_pages, 0, "no page is free when all are in use");
	ok(buddy_alloc(z, 1) == NULL, "one more page is refused when the kernel refuses");
	vm_refuse(false);
	zone_check(z);
	shuffle(run, n);
	for (unsigned i = 0; i < n; i++) {
		buddy_free(run[i]);
		if (i % 512 == 0)
			zone_check(z);
	}
	ok(all_merged(z), "pages freed in any order merge to the initial blocks");
}

static void test_exact_tail(void)
{
	struct zone *z = zone_new();
	bool exact = true;
	bool merged = true;

	buddy_free(buddy_alloc(z, 1));
	for (uint32_t n = 1; n <= 200; n++) {
		struct page *pg = buddy_alloc(z, n);
		struct page *other = buddy_alloc(z, n);

		exact &= pages_used(z) == 2 * n && pg->npages == n;
		buddy_free(pg);
		exact &= pages_used(z) == n;
		buddy_free(other);
		merged &= all_merged(z);
	}
	ok(exact, "a run of n pages takes n pages, for each n up to 200");
	ok(merged, "runs of any length merge back when they are freed");
}

/* Long runs side by side, of which every other one is freed. */
static void test_best_fit(void)
{
	static const uint32_t lengths[] = { 300, 140, 230, 165, 200 };
	struct zone *z = zone_new();
	struct page *gap[5];
	struct page *wall[5];
	struct page *pg;
	bool tight = true;

	for (unsigned i = 0; i < 5; i++) {
		gap[i] = buddy_alloc(z, lengths[i]);
		wall[i] = buddy_alloc(z, 129);
		tight &= wall[i] == gap[i] + lengths[i] && (i == 0 || gap[i] == wall[i - 1] + 129);
	}
	ok(tight, "long runs of fresh memory lie side by side");
	for (unsigned i = 0; i < 5; i++)
		free_dirty(gap[i]);
	pg = buddy_alloc(z, 165);
	ok(pg == gap[3], "a long run goes into a free stretch that it fills, buddies or not");
	free_dirty(pg);
	pg = buddy_alloc(z, 210);
	ok(pg == gap[2], "a long run goes where the least is left over");
	free_dirty(pg);
	pg = buddy_alloc(z, 256);
	ok(pg >= gap[0] && pg + 256 <= gap[0] + 300,
	   "a run of a power of two goes where the least is left over");
	zone_check(z);
	free_dirty(pg);
	for (unsigned i = 0; i < 5; i++)
		free_dirty(wall[i]);
	zone_purge(z, 0, UINT64_MAX);
	ok(all_merged(z), "all merges when long runs are freed");
}

/* Takes all free pages one by one while the kernel refuses to give more. */
static unsigned take_rest(struct zone *z, struct page **run)
{
	unsigned n = (unsigned)z->free_pages;

	vm_refuse(true);
	if (buddy_alloc_bulk(z, 1, n, n, run) != n)
		tap_bail_out("cannot allocate all pages");
	vm_refuse(false);
	return n;
}

/* Gives all of it back as clean as it came. */
static void give_rest(struct page **run, unsigned n)
{
	buddy_free_bulk(run, n);
}

static struct page *rest[REGION_PAGES];

static void free_singles(struct page *first, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free_dirty(first + i);
}

/* Gaps of 5 to 8 dirty pages, of which only the last is one block, and one of 4 dirty and 2 clean
 * pages. */
static void test_best_fit_short(void)
{
	struct zone *z = zone_with_region();
	struct page *at = &zone_first_region(z)->page[align_up(region_first(), 128)];
	struct page *const gap[] = { at + 5, at + 21, at + 37, at + 48, at + 68 };
	unsigned n = take_rest(z, rest);
	struct page *pg[4];

	buddy_free(gap[4] + 4);
	buddy_free(gap[4] + 5);
	free_singles(gap[4], 4);
	for (unsigned i = 4; i-- > 0;)
		free_singles(gap[i], 5 + i);
	for (unsigned i = 0; i < 3; i++) {
		pg[i] = buddy_alloc(z, 5 + i);
		ok(pg[i] == gap[i], "a run of %u pages goes into a gap that it fills", 5 + i);
	}
	free_dirty(pg[2]);
	free_dirty(pg[1]);
	is_int(buddy_alloc_bulk(z, 6, 3, 3, pg + 1), 3, "three runs of 6 pages find a place");
	ok(pg[1] == gap[1] && pg[2] == gap[2] && pg[3] == gap[3],
	   "each goes where the least is left over, and none into clean pages beside dirty ones");
	zone_check(z);
	for (unsigned i = 0; i < 4; i++)
		free_dirty(pg[i]);
	for (unsigned i = 0; i < n; i++)
		if (page_kind(rest[i]) == PAGE_LIMBO)
			buddy_free(rest[i]);
	zone_purge(z, 0, UINT64_MAX);
	ok(all_merged(z), "all merges when short runs are freed");
}

/* A page whose buddy's neighbour pair is free is to stay, so that all four can merge. */
static void test_merge_likely(void)
{
	struct zone *z = zone_new();
	struct page *quad = buddy_alloc(z, 4);
	struct page *pair = buddy_alloc(z, 2);
	struct page *second;
	unsigned n = take_rest(z, rest);

	buddy_shrink(quad, 2);
	buddy_shrink(quad, 1);
	quick_merge(z);
	second = buddy_alloc(z, 1);
	ok(second == quad + 1, "a single page is used before a pair is split");
	buddy_shrink(pair, 1);
	quick_merge(z);
	free_dirty(quad); /* freed last: its buddy is in use, the pair behind it is free */
	is_int(z->free_pages, 4, "two single pages and a pair are free");
	ok(buddy_alloc(z, 1) == pair + 1,
	   "a page that may merge into a larger block is not used first");
	free_dirty(second);
	ok(quad->kind == PAGE_BUDDY && quad->cls == 2,
	   "such a page merges when its buddy is freed");
	buddy_free(pair + 1);
	buddy_free(pair);
	give_rest(rest, n);
	ok(all_merged(z), "all of it merges at the end");
}

/* ---- quick lists ---------------------------------------------------------------------------- */

static void test_quick(void)
{
	struct zone *z = zone_with_region();
	struct page *a = buddy_alloc(z, 6);
	struct page *b = buddy_alloc(z, 6);
	struct page *long_run = buddy_alloc(z, QUICK_PAGES + 1);
	struct page *run[2] = { NULL, NULL };

	free_lately(a);
	free_lately(b);
	free_lately(long_run);
	is_int(quick_runs(z), 2, "runs that are freed wait on quick lists, longer ones do not");
	is_int(pages_used(z), 0, "they count as free");
	is_int(z->dirty_pages, 12 + QUICK_PAGES + 1, "they count as dirty");
	zone_check(z);
	is_int(buddy_alloc_bulk(z, 6, 3, 1, run), 2, "a refill takes what is there");
	ok(run[0] == b && run[1] == a, "the run that was freed last comes first, as it was");
	free_lately(a);
	buddy_free_drained(&b, 1);
	is_int(quick_runs(z), 1, "a run that is drained merges");
	b = buddy_alloc(z, 5);
	free_lately(b);
	zone_purge(z, 0, UINT64_MAX);
	is_int(z->dirty_pages + quick_runs(z), 0, "a purge reaches all of it");
	ok(all_merged(z), "a purge merges it");
}

/* A place for a long run that consists of short ones. */
static void test_quick_merges(void)
{
	struct zone *z = zone_with_region();
	struct page *first = buddy_alloc(z, 64);

	for (unsigned i = 8; i-- > 1;)
		buddy_shrink(first, 8 * i);
	is_int(quick_runs(z), 7, "the parts of a run that is cut wait on quick lists");
	ok(buddy_alloc(z, 56) == first + 8, "short runs merge before clean memory is taken");
	free_lately(first + 8);
	ok(buddy_extend(first, 64), "a run grows into runs that wait behind it");
	is_int(quick_runs(z), 0, "they merge for it");
	free_dirty(first);
	zone_purge(z, 0, UINT64_MAX);
	ok(all_merged(z), "all of it merges at the end");
}

/* There is a place for the long run as well. */
static void test_quick_long(void)
{
	struct zone *z = zone_with_region();
	struct page *place = buddy_alloc(z, 2 * QUICK_PAGES);
	struct page *first = buddy_alloc(z, 16);

	buddy_shrink(first, 8);
	free_lately(place);
	is_int(quick_runs(z), 1, "a long run that is freed merges nothing else");
	place = buddy_alloc(z, QUICK_PAGES + 1);
	is_int(quick_runs(z), 0, "runs merge before a place for a long one is looked for");
	free_dirty(place);
	free_dirty(first);
	ok(all_merged(z), "all of it merges at the end");
}

static void test_quick_most(void)
{
	struct zone *z = zone_with_region();
	uint32_t most = 0;
	unsigned n = (unsigned)z->free_pages / QUICK_PAGES_MIN;

	/* Of two regions, because one has fewer runs than the lists. */
	n = 2 * buddy_alloc_bulk(z, QUICK_PAGES_MIN, n, n, rest);
	buddy_alloc_bulk(z, QUICK_PAGES_MIN, n / 2, n / 2, rest + n / 2);
	for (unsigned i = 0; i < n; i++) {
		free_lately(rest[i]);
		most = most > quick_runs(z) ? most : quick_runs(z);
	}
	ok(most > 0 && most < n, "a zone's lists have a bounded number of runs");
	zone_check(z);
	zone_release_space(z, UINT64_MAX, true);
	is_int(z->total_pages, 0, "runs that are not merged yet keep no address space");
}

/* ---- dirty and clean ------------------------------------------------------------------------ */

static bool resident(const struct page *pg)
{
	size_t bytes = (size_t)pg->npages << PG_SHIFT;
	unsigned char vec[64];

	if (bytes / 4096 > sizeof(vec) || backed_pages(page_address(pg), bytes, vec) != 0)
		return true;
	for (size_t i = 0; i < bytes / vm_os_page; i++)
		if (vec[i] & 1)
			return true;
	return false;
}

/* Frees the run of 8 pages with only its last page dirty. */
static void free_last_dirty(struct page *pg)
{
	page_address(pg)[7 * PG_BYTES] = 'l';
	buddy_shrink(pg, 7);
	pg->backing = BACKING_CLEAN;
	buddy_free(pg);
}

static void test_dirty(void)
{
	struct zone *z = zone_new();
	struct page *pg = buddy_alloc(z, 8);
	struct page *place = pg;
	struct page *again;
	unsigned n = take_rest(z, rest);
	uint64_t taken;

	ok(pg->backing != BACKING_DIRTY && filled(pg, 0),
	   "fresh memory is said to be zero, and is");
	is_int(z->dirty_pages, 0, "no page is dirty at first");
	buddy_free(pg);
	is_int(z->dirty_pages, 0, "memory that was not written stays clean when it is freed");
	pg = buddy_alloc(z, 8);
	fill(pg, 'x');
	free_dirty(pg);
	is_int(z->dirty_pages, 8, "memory that was written is dirty when it is freed");
	zone_check(z);
	pg = buddy_alloc(z, 4);
	ok(pg->backing == BACKING_DIRTY, "dirty memory is not said to be zero");
	is_int(z->dirty_pages, 4, "memory in use does not count as dirty");
	free_dirty(pg);
	is_int(zone_purge(z, 0, UINT64_MAX), 8 * PG_BYTES, "a purge reports what it gave back");
	is_int(z->dirty_pages, 0, "after a purge no page is dirty");
	zone_check(z);
	pg = buddy_alloc(z, 8);
	ok(pg == place && !resident(pg), "purged memory costs no memory");
	ok(pg->backing != BACKING_DIRTY && filled(pg, 0),
	   "purged memory is said to be zero, and is");
	free_last_dirty(pg);
	is_int(z->dirty_pages, 1, "dirty memory is counted page by page");
	atomic_store(&z->growth.ask_most, 1); /* a limit */
	taken = z->growth.clean_taken;
	pg = buddy_alloc(z, 8);
	atomic_store(&z->growth.ask_most, 0);
	ok(pg->backing == BACKING_DIRTY, "a run with one dirty page is not said to be zero");
	is_int(z->growth.clean_taken - taken, 7, "its clean pages are growth");
	page_address(pg)[7 * PG_BYTES] = 0;
	free_last_dirty(pg);
	pg = buddy_alloc(z, 4);
	ok(pg->backing != BACKING_DIRTY && filled(pg, 0),
	   "the clean part of a dirty block is said to be zero, and is");
	buddy_free(pg);
	pg = buddy_alloc(z, 8);
	buddy_free(rest[0]); /* a clean page, then a dirty one */
	again = pg + 7;
	buddy_shrink(pg, 7);
	ok(buddy_alloc(z, 1) == again, "dirty memory is used before clean memory");
	rest[0] = buddy_alloc(z, 1);
	buddy_free(pg);
	buddy_free(again);
	zone_purge(z, 0, UINT64_MAX);
	give_rest(rest, n);
	ok(all_merged(z), "purged blocks merge");
}

/* Mappings beside the zones that ended make no room for growth that asks nobody. */
static void test_mapped(void)
{
	struct zone *z = zone_new();

	growth_before_mapping(z, 0, (size_t)1 << 30);
	growth_before_mapping(z, 0, PG_BYTES);
	ok(!growth_ask_if_due(z, 0), "growth asks nobody soon after it did");
	atomic_store(&z->growth.clean_taken, 2 * GROWTH_ASK_PAGES);
	ok(growth_ask_if_due(z, 0), "it asks again, also if a large mapping ended since");
}

/* n dirty pages that cannot merge: every other one of 2 n stays in use. */
static void make_dirty_pages(struct zone *z, struct page **run, unsigned n)
{
	if (buddy_alloc_bulk(z, 1, 2 * n, 2 * n, run) != 2 * n)
		tap_bail_out("no memory");
	for (unsigned i = 0; i < 2 * n; i++) {
		fill(run[i], 'd');
		run[i]->backing = BACKING_DIRTY;
	}
	for (unsigned i = 0; i < 2 * n; i++)
		if (page_number(run[i]) & 1)
			buddy_free(run[i]);
}

static void test_purge_bounds(void)
{
	static struct page *run[400];
	struct zone *z = zone_new();
	struct page *large;

	if (vm_os_page > PG_BYTES) {
		tap_skip(10,
			 "pages of 16 KiB with others on the kernel's page cannot be given back");
		return;
	}
	make_dirty_pages(z, run, 200);
	is_int(z->dirty_pages, 200, "200 pages are dirty, and none has a free neighbour");
	is_int(zone_purge(z, 0, 10), 10 * PG_BYTES, "a purge of at most 10 pages gives back 10");
	is_int(z->dirty_pages, 190, "190 of 200 dirty pages are left after that");
	is_int(zone_purge(z, 150, UINT64_MAX), 40 * PG_BYTES,
	       "a purge that keeps 150 pages gives back 40");
	is_int(z->dirty_pages, 150, "150 dirty pages are left after that");
	is_int(zone_purge(z, 150, UINT64_MAX), 0,
	       "another purge that keeps 150 pages does nothing");
	if (buddy_alloc_bulk(z, 512, 1, 1, &large) != 1)
		tap_bail_out("no memory");
	fill(large, 'l');
	free_dirty(large);
	zone_purge(z, 0, 20);
	ok(z->dirty_pages == 150 + 512 - 20 && z->blocks[BACKING_DIRTY][9].first,
	   "small blocks are purged before a part of a large one");
	is_int(zone_purge(z, 150, UINT64_MAX), (512 - 20) * PG_BYTES,
	       "of a large block no more is purged than asked for");
	is_int(zone_purge(z, 0, UINT64_MAX), 150 * PG_BYTES,
	       "a purge without bounds gives back all");
	zone_check(z);
	for (unsigned i = 0; i < 400; i++)
		if (!(page_number(run[i]) & 1) && !filled(run[i], 'd'))
			tap_bail_out("a purge hit memory in use");
	for (unsigned i = 0; i < 400; i++)
		if (!(page_number(run[i]) & 1))
			buddy_free(run[i]);
	ok(all_merged(z), "all merges after purges");
}

static void test_purge_large_pages(void)
{
	struct zone *z = zone_new();
	size_t os_page = vm_os_page;
	struct page *pg;

	pg = buddy_alloc_aligned(z, 64, 6);
	fill(pg, 'z');
	buddy_shrink(pg, 1); /* 1 in use; 1, 2, 4, 8, 16, 32 free behind it */
	is_int(z->dirty_pages, 63, "63 pages are dirty");
	vm_os_page = 65536;
	is_int(zone_purge(z, 0, UINT64_MAX), 60 * PG_BYTES,
	       "with kernel pages of 64 KiB only blocks that fill some are given back");
	is_int(z->dirty_pages, 3, "the other blocks still count as dirty");
	zone_check(z);
	vm_os_page = os_page;
	ok(filled(pg, 'z'), "the page in use keeps its data");
	buddy_free(pg);

	z = zone_new();
	pg = buddy_alloc_aligned(z, 128, 7);
	fill(pg, 'z');
	buddy_shrink(pg, 64);
	vm_os_page = 65536;
	is_int(zone_purge(z, 0, 5), 8 * PG_BYTES,
	       "with kernel pages of 64 KiB a part of a block is whole kernel pages");
	is_int(z->dirty_pages, 56, "pages given back as a part of a block are clean");
	zone_check(z);
	vm_os_page = os_page;
	buddy_free(pg);
}

/* ---- limits --------------------------------------------------------------------------------- */

static void test_partial(void)
{
	static struct page *run[2000];
	struct zone *z = zone_with_region();
	unsigned got;
	unsigned places = 0;

	for (uint32_t i = region_first(); i < zone_first_region(z)->pages; i++)
		places += i % 8 == 0;
	vm_refuse(true);
	got = buddy_alloc_bulk(z, 8, 2000, 2000, run);
	is_int(got, places, "a request for more than the zone has gets all it has");
	is_int(pages_used(z), got * 8, "no more is taken than was handed out");
	is_int(buddy_alloc_bulk(z, 8, 5, 5, run + got), 0, "an empty zone gives nothing");
	ok(buddy_alloc(z, 1) != NULL || z->free_pages == 0, "smaller runs can still be allocated");
	vm_refuse(false);
	is_int(buddy_alloc_bulk(z, 8, 2, 1, run + got), 2,
	       "allocations work again when the kernel gives memory");
	buddy_free_bulk(run, got + 2);
	zone_check(z);
	ok(pages_used(z) <= 1, "refused requests lose nothing");
}

static void test_bulk_least(void)
{
	static struct page *run[REGION_PAGES];
	struct zone *z = zone_new();
	unsigned n;

	buddy_free(buddy_alloc(z, 1));
	n = (unsigned)z->total_pages;
	is_int(buddy_alloc_bulk(z, 1, n - 5, 1, run), n - 5,
	       "a bulk request gets all but five pages");
	is_int(buddy_alloc_bulk(z, 1, 10, 1, run + n - 5), 5,
	       "a bulk request does not grow the zone once it has the least it needs");
	is_int(z->total_pages, n, "the zone is as large as before that request");
	buddy_free_bulk(run, n);
	ok(all_merged(z), "a bulk free of all pages merges all");
}

/* Takes all free pages one by one. Returns how many. */
static unsigned take_all(struct zone *z, struct page **run)
{
	unsigned n = (unsigned)z->free_pages;

	return buddy_alloc_bulk(z, 1, n, n, run);
}

static void test_step(void)
{
	static struct page *run[2048];
	struct zone *z = zone_new();
	uint64_t step = options.region_step;
	struct page *pg;
	unsigned n;

	options.va_reserve = 0;
	options.region_step = 8 << 20;
	pg = buddy_alloc(z, 1);
	is_int(z->total_pages << PG_SHIFT, 2 << 20, "the zone begins with 2 MiB");
	n = take_all(z, run);
	run[n++] = buddy_alloc(z, 1);
	is_int(z->total_pages << PG_SHIFT, 4 << 20, "a zone of 2 MiB grows to twice its size");
	n += take_all(z, run + n);
	run[n++] = buddy_alloc(z, 1);
	n += take_all(z, run + n);
	run[n++] = buddy_alloc(z, 1);
	is_int(z->total_pages << PG_SHIFT, 16 << 20,
	       "a zone of 4 MiB grows in two steps to 16 MiB");
	n += take_all(z, run + n);
	run[n++] = buddy_alloc(z, 1);
	is_int(z->total_pages << PG_SHIFT, 24 << 20, "a growth is at most the step of the option");
	buddy_free_bulk(run, n);
	buddy_free(pg);
	pg = buddy_alloc(z, 1536);
	ok(pg != NULL, "a run larger than the free memory can be allocated");
	buddy_free(pg);
	pg = buddy_alloc(z, RUN_PAGES_MAX);
	ok(pg != NULL && pg->npages == RUN_PAGES_MAX, "the largest run of all can be allocated");
	buddy_free(pg);
	zone_check(z);
	is_int(pages_used(z), 0, "all of it is free at the end");
	options.region_step = step;
	options.va_reserve = (uint64_t)1 << 30;
}

static void test_step_halved(void)
{
	struct zone *z = zone_new();
	struct page *pg;

	options.va_reserve = 0;
	options.vm_fail_count = 2;
	options.vm_fail_at = ALL_FAIL;
	vm_unmap(vm_map(4096, 4096), 4096); /* a call that is counted */
	options.vm_fail_count = ALL_FAIL;
	options.vm_fail_at = 1;
	pg = buddy_alloc(z, 1);
	ok(pg == NULL, "there is no memory while the kernel refuses everything");
	options.vm_fail_at = 0;
	pg = buddy_alloc(z, 1);
	ok(pg != NULL, "a later call tries again");
	buddy_free(pg);
	ok(all_merged(z), "a refused growth leaves nothing half made");
	options.va_reserve = (uint64_t)1 << 30;
}

/* ---- alignment, in place -------------------------------------------------------------------- */

static void test_aligned(void)
{
	struct zone *z = zone_new();
	bool aligned = true;
	bool exact = true;

	buddy_free(buddy_alloc(z, 1));
	for (unsigned o = 0; o <= ORDER_MAX; o++) {
		for (uint32_t n = 1; n <= 100; n += 9) {
			struct page *pg = buddy_alloc_aligned(z, n, o);

			if (!pg)
				tap_bail_out("no memory");
			aligned &= ((uintptr_t)page_address(pg) & ((PG_BYTES << o) - 1)) == 0;
			exact &= pages_used(z) == n && pg->npages == n;
			buddy_free(pg);
		}
	}
	ok(aligned, "a run can be allocated at each alignment up to that of the largest block");
	ok(exact, "an aligned run takes no more pages than it has");
	ok(buddy_alloc_aligned(z, 1, ORDER_MAX + 1) == NULL, "a larger alignment is refused");
	ok(all_merged(z), "aligned runs merge back");
}

/* Writes to all pages of a zone and frees them. */
static void dirty_all(struct zone *z)
{
	static struct page *run[REGION_PAGES];
	unsigned n = (unsigned)z->total_pages;

	if (buddy_alloc_bulk(z, 1, n, n, run) != n)
		tap_bail_out("no memory");
	while (n--)
		free_dirty(run[n]);
}

static void test_stretches(void)
{
	struct zone *z = zone_with_region();
	struct page *run[100];
	uint64_t calls;
	char *place;

	place = page_address(&zone_first_region(z)->page[100]);
	dirty_all(z);
	calls = stat_sum(STAT_purge_calls);
	is_int(zone_purge(z, 0, UINT64_MAX), z->total_pages << PG_SHIFT,
	       "a wholly free region is purged");
	is_int(stat_sum(STAT_purge_calls) - calls, 1,
	       "a region of many free blocks is purged by one call");
	ok(all_merged(z) && z->dirty_pages == 0, "purged blocks are clean");
	dirty_all(z);
	zone_purge(z, 0, 12);
	is_int(z->dirty_pages, z->total_pages - 12,
	       "no more of a large block is purged than asked for");
	dirty_all(z);
	/* A raw call, because sanitizers turn mlock off. */
	if (syscall(SYS_mlock, place, vm_os_page) != 0) {
		tap_skip(2, "memory cannot be locked here");
	} else {
		zone_purge(z, 0, UINT64_MAX);
		is_int(z->dirty_pages, 64,
		       "where memory is locked the kernel takes the other blocks");
		syscall(SYS_munlock, place, vm_os_page);
		zone_purge(z, 0, UINT64_MAX);
		is_int(z->dirty_pages, 0, "the kernel takes a block once it is unlocked");
	}
	ok(all_merged(z), "all merges after memory was locked");
	calls = buddy_alloc_bulk(z, 1, 100, 100, run);
	for (unsigned i = 0; i < calls; i++)
		fill(run[i], 'k');
	for (unsigned i = 0; i < calls; i++)
		if (i != 50)
			free_dirty(run[i]);
	zone_purge(z, 0, UINT64_MAX);
	ok(filled(run[50], 'k'), "memory in use between two dirty blocks keeps its data");
	buddy_free(run[50]);
}

/* The number of the kernel's pages under a region's descriptors that cost memory. */
static unsigned descriptor_pages(struct region *r)
{
	static unsigned char vec[sizeof(struct region) / 4096 + 1];
	char *first = (char *)align_up((uintptr_t)r->page, vm_os_page);
	size_t bytes = align_down((uintptr_t)(r->page + REGION_PAGES), vm_os_page) -
		       (uintptr_t)first;
	unsigned n = 0;

	if (backed_pages(first, bytes, vec) != 0)
		tap_bail_out("mincore");
	for (size_t i = 0; i < bytes / vm_os_page; i++)
		n += vec[i] & 1;
	return n;
}

static void test_descriptors(void)
{
	static struct page *run[REGION_PAGES];
	struct zone *z = zone_with_region();
	struct region *r;
	struct page *kept;
	unsigned pages = (unsigned)(sizeof(r->page) / vm_os_page);
	unsigned n;

	n = (unsigned)z->total_pages;
	buddy_alloc_bulk(z, 1, n, n, run);
	r = region_of(run[0]);
	kept = &r->page[3000];
	for (unsigned i = 0; i < n; i++)
		if (run[i] != kept)
			free_dirty(run[i]);
	fill(kept, 'k');
	ok(descriptor_pages(r) + 1 >= pages, "memory in use page by page has all descriptors");
	zone_purge_descriptors(z);
	ok(descriptor_pages(r) + 1 >= pages, "descriptors of dirty blocks stay");
	zone_purge(z, 0, UINT64_MAX);
	zone_purge_descriptors(z);
	ok(vm_os_page > 4096 || descriptor_pages(r) <= 2 * ORDERS,
	   "descriptors inside clean blocks cost no memory, except one page for each block");
	n = (unsigned)stat_sum(STAT_purge_calls);
	zone_purge_descriptors(z);
	is_int(stat_sum(STAT_purge_calls), n,
	       "the kernel is not asked for the same descriptors again");
	ok(filled(kept, 'k'), "a run beside purged descriptors keeps its data");
	free_dirty(kept);
	zone_purge(z, 0, UINT64_MAX);
	ok(all_merged(z), "blocks with purged descriptors merge");
	zone_purge_descriptors(z);
	ok(z->total_pages == 0 && z->free_pages == 0 && descriptor_pages(r) == 0,
	   "a wholly free and clean region has no descriptors in memory");
	zone_check(z);
	buddy_free(buddy_alloc(z, 1));
	n = (unsigned)stat_sum(STAT_regions_made);
	ok(all_merged(z) && z->total_pages > 0, "a zone grows into a region without descriptors");
	zone_purge_descriptors(z);
	ok(zone_release_regions(z) == (REGION_PAGES - region_first()) * PG_BYTES,
	   "a region without descriptors can be released");
	for (n = 0; n < 64 && (run[n] = buddy_alloc(z, 1u << n % ORDERS)) != NULL; n++)
		fill(run[n], 'u');
	zone_check(z);
	while (n)
		free_dirty(run[--n]);
	ok(all_merged(z), "such memory can be split and used again");
}

static void test_extend(void)
{
	struct zone *z = zone_new();
	struct page *pg = buddy_alloc(z, 16);
	struct page *blocker;

	fill(pg, 'e');
	buddy_shrink(pg, 3);
	is_int(pages_used(z), 3, "a run shortened to 3 pages takes 3");
	ok(pg->npages == 3 && filled(pg, 'e'), "a shortened run keeps its data");
	ok(buddy_extend(pg, 11), "a run can be extended by the free pages behind it");
	is_int(pages_used(z), 11,
	       "an extended run takes a part of the block behind it, and no more");
	ok(pg->npages == 11 && pg->backing == BACKING_DIRTY, "an extended run has its new length");
	zone_check(z);
	buddy_shrink(pg, 1);
	do {
		blocker = buddy_alloc(z, 1);
	} while (blocker && blocker != pg + 1);
	if (!blocker)
		tap_bail_out("the page behind the run was not found");
	ok(!buddy_extend(pg, 2), "a run cannot be extended when the page behind it is in use");
	ok(pg->npages == 1, "a run that cannot be extended keeps its length");
	ok(!buddy_extend(pg, REGION_PAGES),
	   "a run cannot be extended beyond the end of its region");
	zone_check(z);
}

static void test_roomy(void)
{
	struct zone *z = zone_new();
	struct page *whole = buddy_alloc_aligned(z, 64, 6);
	struct page *small[3];
	struct page *pg;
	uint32_t end;

	ok(!buddy_alloc_roomy(z, 4),
	   "memory that was never written is no room for a run that grows");
	free_dirty(whole);
	for (unsigned i = 0; i < 3; i++)
		small[i] = buddy_alloc(z, 1);
	pg = buddy_alloc_roomy(z, 5);
	ok(pg && pg->npages == 5 && pg->backing == BACKING_DIRTY, "a run with room is made");
	ok(pg && buddy_extend(pg, 16), "it can grow to twice its length at least");
	is_int(pages_used(z), 19, "its room is free until then");
	ok(!buddy_alloc_roomy(z, REGION_PAGES / 2), "there is no such run without room");
	zone_check(z);
	free_dirty(pg);
	for (unsigned i = 0; i < 3; i++)
		free_dirty(small[i]);
	zone_check(z);

	/* The last pages of the region. */
	while ((pg = buddy_alloc(z, 1)) && page_number(pg) + 1 < region_of(pg)->pages)
		;
	end = region_of(pg)->pages;
	ok(!buddy_extend(pg, 5), "a run at the end of what is usable has no pages behind it");
	ok(buddy_extend_region(pg, 5) && pg->npages == 5 && region_of(pg)->pages > end,
	   "it grows when its region does");
	fill(pg, 'g');
	ok(buddy_alloc(z, 1) && !buddy_extend_region(pg, REGION_PAGES),
	   "not beyond the end of the region");
	ok(filled(pg, 'g'), "its data stays");
	zone_check(z);
}

/* ---- regions -------------------------------------------------------------------------------- */

static bool mapped(const void *p)
{
	unsigned char vec[1];
	void *at = (void *)((uintptr_t)p & ~(vm_os_page - 1));

	return backed_pages(at, vm_os_page, vec) == 0;
}

static void test_release(void)
{
	struct zone *z = zone_new();
	struct page *pg = buddy_alloc(z, 10);
	struct region *r = region_of(pg);
	char *p = page_address(pg);
	uint64_t total = z->total_pages;

	fill(pg, 'r');
	is_int(zone_release_regions(z), 0, "a region with one run in use is not released");
	ok(filled(pg, 'r'), "a run in a region that is not released keeps its data");
	free_dirty(pg);
	is_int(zone_release_regions(z), total << PG_SHIFT,
	       "a wholly free region is released as a whole");
	ok(!mapped(p), "the pages of a released region are not mapped");
	is_int(z->total_pages, 0, "a released region does not count");
	ok(z->free_pages == 0 && z->dirty_pages == 0,
	   "a released region's pages count neither as free nor as dirty");
	zone_check(z);
	is_int(zone_release_regions(z), 0, "a region is released once");
	pg = buddy_alloc(z, 10);
	ok(pg && region_of(pg) == r, "the next request takes a released region into use again");
	ok(pg->backing != BACKING_DIRTY && filled(pg, 0),
	   "memory of a region that was released reads as zero");
	buddy_free(pg);
	ok(all_merged(z), "a region in use again is like a new one");
}

/* Another mapping may have taken address space that was given up. */
static void test_release_taken(void)
{
	struct zone *z = zone_new();
	struct page *pg = buddy_alloc(z, 10);
	char *p = page_address(pg);
	struct region *r = region_of(pg);
	void *q;

	free_dirty(pg);
	zone_release_regions(z);
	q = mmap(p, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(q, 'f', 4096);
	pg = buddy_alloc(z, 10);
	ok(pg && region_of(pg) != r,
	   "where other mappings took a region's space another region serves");
	fill(pg, 'g');
	ok(((char *)q)[4095] == 'f', "the mapping in a region's space is left alone");
	munmap(q, 4096);
	free_dirty(pg);
	ok(all_merged(z), "the zone is whole after a region was lost");
}

/* Returns whether no part of a region's index leads anywhere. */
static bool index_is_clear(const struct region *r, uint32_t from)
{
	for (uint32_t i = from; i < REGION_PAGES; i++)
		if (r->head[i])
			return false;
	return page_kind(&r->page[0]) == PAGE_NONE;
}

static void use_all(struct page **run, unsigned n);

/* Takes runs of 1 MiB, in the order of their addresses. */
static unsigned take_blocks(struct zone *z, struct page **run)
{
	unsigned n = (unsigned)z->free_pages / 64;

	vm_refuse(true);
	n = buddy_alloc_blocks(z, 6, n, run);
	vm_refuse(false);
	for (unsigned i = 1; i < n; i++)
		for (unsigned k = i; k && run[k - 1] > run[k]; k--) {
			struct page *pg = run[k];

			run[k] = run[k - 1];
			run[k - 1] = pg;
		}
	return n;
}

static void test_space(void)
{
	static struct page *run[64];
	struct zone *z = zone_with_region();
	struct region *r = zone_first_region(z);
	uint64_t regions = stat_sum(STAT_regions_made);
	unsigned n = take_blocks(z, run);
	uint64_t total;
	char *away = page_address(run[21]);

	use_all(run, n);
	fill(run[20], 'a');
	fill(run[23], 'b');
	free_dirty(run[21]);
	free_dirty(run[24]);
	total = z->total_pages;
	is_int(zone_release_space(z, 1, true), (uint64_t)1 << 20,
	       "of a region in use one free block gives its address space, if that is enough");
	is_int(zone_release_space(z, UINT64_MAX, true), (uint64_t)1 << 20,
	       "all free blocks give their address space, if all is asked for");
	is_int(zone_release_space(z, UINT64_MAX, true), 0,
	       "a block's address space is released once");
	ok(!mapped(away) && !mapped(page_address(run[24])), "released address space is not mapped");
	is_int(total - z->total_pages, 128, "released address space does not count");
	ok(page_of(away) == &r->page[0] && page_of(away + (1 << 20) - 1) == &r->page[0],
	   "a pointer into released address space leads nowhere");
	zone_check(z);
	ok(filled(run[20], 'a') && filled(run[23], 'b'),
	   "runs beside released address space keep their data");
	free_dirty(run[23]);
	zone_check(z);
	run[23] = buddy_alloc(z, 64);
	total = z->total_pages;
	run[21] = buddy_alloc(z, 64);
	ok(run[21] && region_of(run[21]) == r && filled(run[21], 0),
	   "growth takes released address space back, and it reads as zero");
	ok(z->total_pages > total && stat_sum(STAT_regions_made) == regions,
	   "growth takes released address space before a new region");
	zone_check(z);
	use_all(&run[21], 1);
	run[24] = buddy_alloc(z, 64);
	for (unsigned i = 0; i < n; i++)
		free_dirty(run[i]);
	ok(all_merged(z), "all merges once address space was taken back");
	zone_check(z);
}

/* Other mappings may have taken what was given up, or it may come back in pieces. */
static void test_space_taken(void)
{
	static struct page *run[64];
	struct zone *z = zone_with_region();
	struct region *r = zone_first_region(z);
	uint64_t step = options.region_step;
	unsigned n = take_blocks(z, run);
	uint64_t small = z->free_pages; /* in smaller blocks */
	struct page *pg;
	char *p;
	void *q;

	fill(run[0], 'a');
	for (unsigned i = 1; i < n; i++)
		free_dirty(run[i]);
	p = page_address(run[n / 2]);
	ok(zone_release_space(z, UINT64_MAX, true) > (uint64_t)(n - 2) << 20,
	   "large blocks give their address space as well");
	is_int(z->free_pages, small, "all free blocks of 1 MiB and more are released");
	q = mmap(p, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(q, 'f', 4096);
	options.region_step = 1 << 20;
	pg = buddy_alloc(z, 1);
	ok(pg && region_of(pg) == r && z->total_pages < 4 * 64,
	   "a growth takes back no more than it needs");
	zone_check(z);
	options.region_step = step;
	run[1] = buddy_alloc(z, RUN_PAGES_MAX);
	ok(run[1] && region_of(run[1]) != r, "where other mappings are, another region serves");
	fill(run[1], 'g');
	ok(((char *)q)[4095] == 'f', "the other mappings are left alone");
	munmap(q, 4096);
	free_dirty(run[1]);
	free_dirty(pg);
	ok(filled(run[0], 'a'), "memory in use is left alone");
	free_dirty(run[0]);
	zone_check(z);
	is_int(pages_used(z), 0, "all of it is free at the end");
}

/* Nothing of a region is in use, and a part of it is away. */
static void test_space_over(void)
{
	static struct page *run[64];
	struct zone *z = zone_with_region();
	struct region *r = zone_first_region(z);
	unsigned n = take_blocks(z, run);
	unsigned before;
	char *q;

	use_all(run, n);
	for (unsigned i = 0; i < n; i++)
		memset(run[i] + 1, 0, 63 * sizeof(*run[i]));
	before = descriptor_pages(r);
	for (unsigned i = 0; i < n; i++)
		if (i != 9 && i != 10)
			free_dirty(run[i]);
	zone_release_space(z, UINT64_MAX, true);
	ok(z->away_count <= 3 && z->away->npages > 64,
	   "blocks whose address space was released are joined");
	zone_check(z);
	ok(vm_os_page > 4096 || descriptor_pages(r) <= before / 4,
	   "and their descriptors cost no memory");
	q = mmap(page_address(run[n / 2]), 4096, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(q, 'f', 4096);
	free_dirty(run[9]);
	free_dirty(run[10]);
	zone_purge(z, 0, UINT64_MAX);
	zone_purge_regions(z);
	ok(r->offline && !z->total_pages && !z->away && !z->away_count,
	   "a region of which nothing is in use is released, though a part was away");
	is_int(descriptor_pages(r), 0, "none of its descriptors costs memory");
	ok(!mapped(page_address(run[9])) && q[4095] == 'f',
	   "what it still had is unmapped, what others have there is not");
	zone_check(z);
	run[0] = buddy_alloc(z, 64);
	ok(run[0] && filled(run[0], 0), "the zone grows again");
	buddy_free(run[0]);
	munmap(q, 4096);
	run[0] = buddy_alloc(z, RUN_PAGES_MAX);
	ok(run[0] && filled(run[0], 0), "and takes the rest of the region back");
	buddy_free(run[0]);
	zone_check(z);
}

/* Whether nothing is mapped in what the region may still extend into. */
static bool has_room(struct region *r)
{
	size_t used = (size_t)r->reserved << PG_SHIFT;
	void *want = region_start(r) + used;
	void *p = mmap(want, REGION_BYTES - used, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p != MAP_FAILED)
		munmap(p, REGION_BYTES - used);
	return p == want;
}

/* Without a reservation a region is extended behind its end. */
static void test_extended(void)
{
	static struct page *run[4096];
	struct zone *z;
	uint64_t step = options.region_step;
	struct region *r;
	unsigned n = 0;
	void *q;

	options.va_reserve = 0;
	options.region_step = 1 << 20;
	do { /* the first place may lie just below a library */
		z = zone_new();
		run[0] = buddy_alloc(z, 1);
		r = zone_first_region(z);
	} while (r && !has_room(r));
	n = 1;
	ok(r && r->reserved < 128, "a region without a reservation has what a growth takes");
	while (z->total_pages < 1024)
		run[n++] = buddy_alloc(z, 64);
	ok(zone_first_region(z) == r && !r->next,
	   "a region without a reservation is extended in place");
	q = mmap(region_start(r) + ((size_t)r->reserved << PG_SHIFT), 4096, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	while (!r->blocked)
		run[n++] = buddy_alloc(z, 64);
	ok(zone_first_region(z) != r && zone_first_region(z)->next == r,
	   "a region is not extended into another mapping");
	zone_check(z);
	munmap(q, 4096);
	buddy_free_bulk(run, n);
	/* The kernel refuses all memory, and then gives it. */
	n = 0;
	vm_refuse(true);
	while ((run[n] = buddy_alloc(z, 1)) != NULL)
		n++;
	options.vm_fail_at = stat_sum(STAT_vm_calls) + 1;
	vm_refuse(false);
	run[n] = buddy_alloc(z, 1);
	ok(run[n] != NULL, "a growth that was refused is tried again");
	buddy_free_bulk(run, n + 1);
	is_int(pages_used(z), 0, "all of it is free at the end");
	zone_check(z);
	options.region_step = step;
	options.va_reserve = (uint64_t)1 << 30;
}

/* The zone was told that address space is limited: runs lie side by side. */
static void test_packed(void)
{
	static struct page *run[512];
	struct zone *z = zone_with_region();
	unsigned n = (unsigned)z->free_pages / 10;

	z->tight = 1;
	vm_refuse(true);
	ok(buddy_alloc_bulk(z, 10, n, 1, run) >= n * 98 / 100,
	   "runs of 10 pages leave almost no page unused");
	vm_refuse(false);
	for (unsigned i = 0; i < n; i++)
		if (run[i])
			free_dirty(run[i]);
	ok(all_merged(z), "packed runs merge");
}

static void use_all(struct page **run, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		page_set_heads(run[i], run[i]->npages, 0);
		page_set_kind(run[i], PAGE_LARGE);
	}
}

/* What the kernel puts where a region was is not part of the region: no pointer into it leads to a
 * descriptor, whatever begins there when the front of the region is in use again. */
static void test_release_index(void)
{
	static struct page *run[REGION_PAGES / 16];
	struct zone *z = zone_with_region();
	struct region *r = zone_first_region(z);
	void *index = (void *)align_down((uintptr_t)r->head, vm_os_page);
	unsigned n = (unsigned)z->total_pages / 16;
	uint64_t step = options.region_step;
	struct page *pg;

	n = buddy_alloc_bulk(z, 16, n, 1, run);
	use_all(run, n);
	ok(!index_is_clear(r, 0), "a region in use has an index");
	buddy_free_bulk(run, n);
	zone_release_regions(z);
	ok(index_is_clear(r, 0), "a region whose address space was given up has no index");
	options.region_step = 1 << 20;
	pg = buddy_alloc(z, 2);
	ok(pg && region_of(pg) == r && r->reserved < REGION_PAGES,
	   "growth takes the front of the region back");
	use_all(&pg, 1);
	ok(index_is_clear(r, r->reserved), "the rest of the region's index leads nowhere");
	options.region_step = step;
	buddy_free(pg);
	/* A raw call, because sanitizers turn mlock off. */
	if (syscall(SYS_mlock, index, sizeof(r->head)) != 0) {
		tap_skip(1, "memory cannot be locked here");
		return;
	}
	pg = buddy_alloc(z, 40);
	use_all(&pg, 1);
	buddy_free(pg);
	zone_release_regions(z);
	ok(index_is_clear(r, 0), "a region's index leads nowhere even if it was locked in memory");
	syscall(SYS_munlock, index, sizeof(r->head));
}

/* ---- frees without the lock ----------------------------------------------------------------- */

static void test_deferred(void)
{
	struct zone *z = zone_new();
	struct page *a = buddy_alloc(z, 3);
	struct page *b = buddy_alloc(z, 5);
	uint64_t before = stat_sum(STAT_page_frees_deferred);

	fill(a, 'a');
	a->backing = BACKING_DIRTY;
	if (lock_acquire(&z->lock) != 0)
		tap_bail_out("the lock of a fresh zone is held");
	buddy_free(a);
	buddy_free(b);
	ok(buddy_alloc(z, 1) == NULL,
	   "a caller that holds the zone's lock and asks for pages gets none");
	is_int(pages_used(z), 8, "pages freed under the lock are not free at once");
	is_int(stat_sum(STAT_page_frees_deferred) - before, 2,
	       "pages freed under the lock are counted as deferred");
	ok(!buddy_extend(b, 6), "a run cannot be extended without the lock");
	is_int(zone_purge(z, 0, UINT64_MAX), 0, "nothing can be purged without the lock");
	lock_release(&z->lock);
	a = buddy_alloc(z, 1);
	is_int(pages_used(z), 1, "the next holder of the lock frees what was deferred");
	buddy_free(a);
	is_int(z->dirty_pages, 3, "deferred frees keep their dirty pages");
	ok(all_merged(z), "deferred frees merge");
}

/* More deferred frees than one hold of the lock does; debug builds count. */
static void test_deferred_many(void)
{
	enum { MANY = 200 };
	struct zone *z = zone_new();
	struct page *pg[MANY + 1];

	for (unsigned i = 0; i <= MANY; i++)
		pg[i] = buddy_alloc(z, 1 + i % 3);
	if (lock_acquire(&z->lock) != 0)
		tap_bail_out("the lock of a fresh zone is held");
	for (unsigned i = 0; i < MANY; i++)
		buddy_free(pg[i]);
	lock_release(&z->lock);
	buddy_free(pg[MANY]);
	ok(pages_used(z) > 0, "one hold of the lock does some of many deferred frees");
	for (unsigned i = 0; i < 2 * MANY / BUDDY_BATCH && pages_used(z); i++)
		buddy_free(buddy_alloc(z, 1));
	ok(pages_used(z) == 0 && all_merged(z),
	   "the next holds of the lock do the other deferred frees");
}

/* ---- random sequences ----------------------------------------------------------------------- */

#define RUNS 96

struct shadow {
	struct page *pg;
	uint32_t npages;
	uint32_t first;
	char fill;
};

static bool shadow_overlaps(const struct shadow *all, const struct shadow *s)
{
	for (unsigned i = 0; i < RUNS; i++) {
		const struct shadow *o = &all[i];

		if (o != s && o->pg && region_of(o->pg) == region_of(s->pg) &&
		    o->first < s->first + s->npages && s->first < o->first + o->npages)
			return true;
	}
	return false;
}

static bool marks_hold(const struct shadow *s)
{
	for (uint32_t i = 0; i < s->npages; i++)
		if (page_address(s->pg)[(size_t)i << PG_SHIFT] != s->fill)
			return false;
	return s->pg->npages == s->npages;
}

static void mark_pages(struct shadow *s, unsigned *state)
{
	s->npages = s->pg->npages;
	s->first = page_number(s->pg);
	s->fill = (char)(1 + rand_r(state) % 100);
	for (uint32_t i = 0; i < s->npages; i++)
		page_address(s->pg)[(size_t)i << PG_SHIFT] = s->fill;
	s->pg->backing = BACKING_DIRTY;
}

static bool zero_if_said(const struct page *pg)
{
	for (uint32_t i = 0; pg->backing != BACKING_DIRTY && i < pg->npages; i++)
		if (page_address(pg)[(size_t)i << PG_SHIFT])
			return false;
	return true;
}

static uint32_t random_pages(unsigned *state)
{
	unsigned r = (unsigned)rand_r(state);

	return 1 + (r >> 8) % (r % 8 ? 20 : r % 64 ? 150 : 900);
}

static bool random_alloc(struct zone *z, struct shadow *s, unsigned *state)
{
	uint32_t n = random_pages(state);
	unsigned order = (unsigned)rand_r(state) % 7;

	if (rand_r(state) % 4)
		s->pg = buddy_alloc(z, n);
	else
		s->pg = buddy_alloc_aligned(z, n, order);
	if (!s->pg)
		return false;
	if (!zero_if_said(s->pg))
		return false;
	mark_pages(s, state);
	return true;
}

/* One step on one run. Returns false if the model and the zone disagree. */
static bool random_step(struct zone *z, struct shadow *s, unsigned *state)
{
	unsigned what = (unsigned)rand_r(state) % 16;
	uint32_t n = random_pages(state);

	if (!s->pg)
		return random_alloc(z, s, state);
	if (!marks_hold(s))
		return false;
	if (what < 3 && n < s->npages) {
		buddy_shrink(s->pg, n);
		s->npages = n;
		return marks_hold(s);
	}
	if (what < 6 && n > s->npages) {
		if (buddy_extend(s->pg, n))
			mark_pages(s, state);
		return marks_hold(s);
	}
	buddy_free(s->pg);
	s->pg = NULL;
	return true;
}

/* Takes back all address space that was given up inside regions, so that blocks can merge. */
static void take_back(struct zone *z)
{
	static struct page *run[16384];
	unsigned n = 0;

	/* A remaining piece may be too short, or begin where no run of this length does; then ask
	 * for less. */
	for (unsigned npages = 64; npages; npages /= 2)
		for (unsigned i = 0; i < 2048 && z->away; i++)
			if ((run[n] = buddy_alloc(z, npages)) != NULL)
				n++;
	buddy_free_bulk(run, n);
}

static void test_random(void)
{
	static struct shadow runs[RUNS];
	struct zone *z = zone_new();
	unsigned state = 4711;
	bool good = true;

	for (unsigned i = 0; i < 30000 && good; i++) {
		struct shadow *s = &runs[(unsigned)rand_r(&state) % RUNS];
		uint64_t sum = 0;

		good = random_step(z, s, &state) && !(s->pg && shadow_overlaps(runs, s));
		if (i % 1000 == 0)
			zone_purge(z, (uint64_t)rand_r(&state) % 300, UINT64_MAX);
		if (i % 3000 == 0)
			zone_release_regions(z);
		if (i % 1000 == 500)
			zone_release_space(z, (uint64_t)rand_r(&state) % (16 << 20), true);
		if (i % 100)
			continue;
		zone_check(z);
		for (unsigned k = 0; k < RUNS; k++)
			sum += runs[k].pg ? runs[k].npages : 0;
		good = good && sum == pages_used(z);
	}
	ok(good, "in 30,000 random steps runs do not overlap, keep their data and their count");
	for (unsigned k = 0; k < RUNS; k++)
		if (runs[k].pg)
			buddy_free(runs[k].pg);
	take_back(z);
	ok(all_merged(z), "all is merged after 30,000 random steps");
}

struct stress {
	struct zone *z;
	unsigned seed;
	bool good;
};

static void *stress_thread(void *arg)
{
	struct stress *st = arg;
	struct shadow runs[RUNS] = { { 0 } };
	unsigned state = st->seed;

	st->good = true;
	for (unsigned i = 0; i < 15000 && st->good; i++) {
		st->good = random_step(st->z, &runs[(unsigned)rand_r(&state) % RUNS], &state);
		if (i % 500 == 0)
			zone_purge(st->z, (uint64_t)rand_r(&state) % 300, 2000);
		if (i % 2000 == 0)
			zone_release_regions(st->z);
		if (i % 2000 == 1000)
			zone_release_space(st->z, (uint64_t)rand_r(&state) % (16 << 20), true);
		if (i % 1000 == 0)
			zone_check(st->z);
	}
	for (unsigned k = 0; k < RUNS; k++)
		if (runs[k].pg)
			buddy_free(runs[k].pg);
	return NULL;
}

static void test_stress(void)
{
	struct zone *z = zone_new();
	struct stress st[4];
	pthread_t t[4];
	bool good = true;

	for (unsigned i = 0; i < 4; i++) {
		st[i] = (struct stress){ z, 100 + i, false };
		pthread_create(&t[i], NULL, stress_thread, &st[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		good &= st[i].good;
	}
	ok(good, "each run of four threads keeps its data");
	take_back(z);
	ok(all_merged(z), "all is merged when four threads have freed all");
	zone_purge(z, 0, UINT64_MAX);
	zone_release_regions(z);
	is_int(z->total_pages, 0, "every region can be released after four threads have freed all");
}

int main(void)
{
	tap_plan(200);
	vm_init();
	srand(1);
	options.va_reserve = (uint64_t)1 << 30;
	test_orders();
	test_split_all();
	test_exact_tail();
	test_best_fit();
	test_best_fit_short();
	test_merge_likely();
	test_quick();
	test_quick_merges();
	test_quick_long();
	test_quick_most();
	test_dirty();
	test_mapped();
	test_purge_bounds();
	test_purge_large_pages();
	test_partial();
	test_bulk_least();
	test_step();
	test_step_halved();
	test_aligned();
	test_stretches();
	test_descriptors();
	test_extend();
	test_roomy();
	test_release();
	test_release_taken();
	test_release_index();
	test_space();
	test_space_taken();
	test_space_over();
	test_extended();
	test_packed();
	test_deferred();
	test_deferred_many();
	test_random();
	test_stress();
	return tap_done();
}
