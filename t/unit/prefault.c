/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buddy core's prefaulted blocks: zero, backed by the kernel, segregated, and given back. Each
 * test has a zone of its own, so that its counts are exact.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/backed.h"
#include "page/block.h"
#include "page/buddy.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/region.h"
#include "page/thp.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "lib/zone.h"
#include "os/vm.h"

/* Whether the kernel backs the page at addr, which is aligned to its pages, with memory. */
static bool backed(void *addr)
{
	unsigned char vec = 0;

	return backed_pages(addr, vm_os_page, &vec) == 0 && (vec & 1);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct zone *zone_with_options(bool reserve)
{
	struct zone *z = zone_new();

	z->marks.over = UINT64_MAX;
	options.reserve = reserve;
	zone_init(z);
	return z;
}

/* So many blocks of PREFAULT_LARGE pages. */
static struct zone *zone_filled(unsigned blocks)
{
	struct zone *z = zone_with_options(true);

	for (unsigned i = 0; i < blocks; i++)
		if (prefault_fill(z, UINT64_MAX, UINT64_MAX) != PREFAULT_LARGE)
			tap_bail_out("no memory");
	return z;
}

static struct page *take(struct zone *z, uint32_t npages)
{
	struct page *pg = buddy_alloc(z, npages);

	if (!pg)
		tap_bail_out("no memory");
	return pg;
}

static long faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return u.ru_minflt;
}

static void write_all(struct page *pg)
{
	memset(page_address(pg), 'w', (size_t)pg->npages << PG_SHIFT);
	pg->backing = BACKING_DIRTY;
}

static bool is_zero(const struct page *pg)
{
	const char *p = page_address(pg);
	size_t n = (size_t)pg->npages << PG_SHIFT;

	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Returns NULL if the run is not as it should be. */
static struct page *take_and_write(struct zone *z, uint32_t npages)
{
	struct page *pg = take(z, npages);
	bool good = pg->backing == BACKING_PREFAULTED && is_zero(pg);

	write_all(pg);
	return good ? pg : NULL;
}

/* ---- what prefaulted blocks are ------------------------------------------------------------- */

static void test_fill(void)
{
	struct zone *z = zone_filled(3);
	struct page *pg;
	long before;
	long least;

	is_int(z->prefaulted_pages, 3 * PREFAULT_LARGE, "prefaulted pages are counted");
	is_int(z->prefaulted_large, 3 * PREFAULT_LARGE,
	       "prefaulted pages in large blocks are counted");
	is_int(z->growth.prefaulted_taken, 0, "no prefaulted page was taken yet");
	ok(z->free_pages >= z->prefaulted_pages && z->dirty_pages == 0,
	   "prefaulted memory is free and not dirty");
	zone_check(z);
	take_and_write(z, 3); /* so that the code is in memory */
	before = faults();
	pg = take_and_write(z, 5);
	least = faults() - before;
	ok(pg != NULL, "a prefaulted run is said to be so, and reads as zero");
	is_int(z->growth.prefaulted_taken, 8, "prefaulted pages that are handed out are counted");
	is_int(z->prefaulted_pages, 3 * PREFAULT_LARGE - 8,
	       "the rest of a prefaulted block stays prefaulted");
	/* The kernel may take away and move any page at any time, but not each time. */
	for (unsigned i = 0; i < 20 && least; i++) {
		before = faults();
		take_and_write(z, 5);
		least = faults() - before < least ? faults() - before : least;
	}
	if (SANITIZED || tap_emulated())
		tap_skip(1, "the memory of a sanitizer or emulator takes page faults");
	else
		is_int(least, 0,
		       "taking, reading and writing a prefaulted run causes no page fault");
	zone_check(z);
}

static void test_order(void)
{
	struct zone *z = zone_filled(1);
	struct page *dirty = take(z, 4);
	struct page *pg[3];

	write_all(dirty);
	buddy_free(dirty);
	pg[0] = take(z, 4);
	is_int(pg[0]->backing, BACKING_DIRTY, "dirty memory is taken first");
	pg[1] = take(z, 64);
	is_int(pg[1]->backing, BACKING_PREFAULTED,
	       "prefaulted memory is taken before clean memory");
	pg[2] = take(z, 256);
	is_int(pg[2]->backing, BACKING_CLEAN,
	       "clean memory is taken where no prefaulted block is long enough");
	for (unsigned i = 0; i < 3; i++)
		buddy_free(pg[i]);
	zone_check(z);
}

static void test_returned(void)
{
	struct zone *z = zone_filled(1);
	struct page *pg = take(z, 24);

	buddy_free(pg);
	is_int(z->prefaulted_pages, PREFAULT_LARGE,
	       "a run that was not written to comes back as prefaulted");
	is_int(z->prefaulted_large, PREFAULT_LARGE,
	       "a run that comes back merges with the rest of its block");
	is_int(z->growth.prefaulted_taken, 0, "a run that comes back does not count as taken");
	zone_check(z);
}

/* 193 pages are no power of two, and longer than any one block. */
static void test_long_run(void)
{
	struct zone *z = zone_filled(4);
	struct page *pg = take(z, 193);

	is_int(pg->backing, BACKING_PREFAULTED,
	       "a long run is made of prefaulted blocks side by side");
	ok(is_zero(pg), "a long run of prefaulted blocks reads as zero");
	is_int(z->prefaulted_pages, 4 * PREFAULT_LARGE - 193,
	       "a long run takes no more prefaulted pages than it has");
	buddy_free(pg);
	zone_check(z);
}

static void test_large_blocks(void)
{
	struct zone *z = zone_with_options(true);
	struct page *small = take(z, 1);

	ok(prefault_fill(z, 0, UINT64_MAX) < PREFAULT_LARGE,
	   "the smallest block is prefaulted when no large blocks are needed");
	is_int(prefault_fill(z, 1, UINT64_MAX), PREFAULT_LARGE,
	       "a whole block of 2 MiB is prefaulted when large blocks are needed");
	buddy_free(small);
	zone_check(z);
}

static void test_most(void)
{
	struct zone *z = zone_with_options(true);

	is_int(prefault_fill(z, UINT64_MAX, 5), 5, "no more pages are prefaulted than are missing");
	is_int(z->prefaulted_pages, 5, "no more pages count as prefaulted than were missing");
	zone_check(z);
}

/* ---- huge pages ----------------------------------------------------------------------------- */

struct mapping {
	unsigned long from;
	unsigned long to;
	long huge_kib;
	bool no_huge; /* marked to have no huge pages */
};

/* The mapping that has p, as the kernel describes it. */
static struct mapping mapping_of(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	struct mapping m = { 0, 0, 0, false };
	bool inside = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &m.from, &m.to) == 2)
			inside = m.from <= (uintptr_t)p && (uintptr_t)p < m.to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			break;
		else if (inside)
			sscanf(line, "AnonHugePages: %ld", &m.huge_kib);
	}
	m.no_huge = inside && strstr(line, " nh") != NULL;
	if (f)
		fclose(f);
	return m;
}

/* KiB of huge pages in the mapping that has p. */
static long huge_kib(const void *p)
{
	return mapping_of(p).huge_kib;
}

static bool machine_has_huge_pages(void)
{
	size_t bytes = (size_t)PREFAULT_LARGE << PG_SHIFT;
	char *p = vm_map(bytes, bytes);
	bool has;

	if (!p)
		return false;
	vm_populate_thp(p, bytes);
	has = huge_kib(p) > 0;
	vm_unmap(p, bytes);
	return has;
}

static void test_huge(void)
{
	const long block_kib = (long)(PREFAULT_LARGE << PG_SHIFT) / 1024;
	struct page *pg;
	struct zone *z;
	char *p;

	if (!machine_has_huge_pages()) {
		tap_skip(6, "there are no huge pages here");
		return;
	}
	options.thp = THP_RESERVE;
	z = zone_filled(3);
	pg = take(z, PREFAULT_LARGE);
	p = page_address(pg);
	is_int(huge_kib(p), 3 * block_kib, "whole blocks are prefaulted by huge pages");
	buddy_free(pg);
	prefault_fill(z, UINT64_MAX, PREFAULT_LARGE / 2);
	is_int(huge_kib(p), 3 * block_kib, "a part of a block is not prefaulted by huge pages");
	is_int(prefault_release(z, PREFAULT_LARGE, UINT64_MAX) / 1024, 5 * block_kib / 2,
	       "what is too much is given back");
	is_int(huge_kib(p), block_kib, "blocks are given back with their huge pages");
	prefault_release(z, 0, UINT64_MAX);
	is_int(huge_kib(p), 0, "all huge pages are given back");
	*p = 1;
	ok(backed(p) && !backed(p + vm_os_page),
	   "a touch of such memory without a reserve costs a small page");
	options.thp = THP_SYSTEM;
	zone_check(z);
}

/* A zone of which one block was away and is in use again. Returns an address in that block. */
static char *away_and_back(struct zone *z, bool on_request)
{
	struct page *run[3];
	char *away;

	vm_thp_on_request = on_request;
	for (unsigned i = 0; i < 3; i++)
		run[i] = take(z, PREFAULT_LARGE);
	away = page_address(run[1]);
	buddy_free(run[1]);
	zone_release_space(z, UINT64_MAX, true);
	if (page_kind(&region_of(run[0])->page[page_index_of(away)]) != PAGE_AWAY)
		tap_bail_out("the block is not away");
	while (page_address(take(z, PREFAULT_LARGE)) != away)
		;
	vm_thp_on_request = false;
	return away;
}

/* All memory of a region has one mark, or each change of it would be one more mapping. */
static void test_forbidden(void)
{
	const size_t bytes = (size_t)PREFAULT_LARGE << PG_SHIFT;
	struct mapping m = mapping_of(&options);
	char *p;

	if (!m.to || !machine_has_huge_pages()) {
		tap_skip(4, "this kernel has no huge pages, or does not say which mappings may");
		return;
	}
	options.thp = THP_NEVER;
	p = away_and_back(zone_with_options(false), false);
	ok(mapping_of(p).no_huge, "thp:never holds for memory that was away");
	options.thp = THP_SYSTEM;
	p = away_and_back(zone_with_options(false), false);
	ok(!mapping_of(p).no_huge, "thp:system leaves memory that was away as the system has it");
	p = away_and_back(zone_with_options(false), true);
	ok(mapping_of(p).no_huge, "in a region with huge pages on request also memory that was "
				  "away has none");
	m = mapping_of(p);
	vm_populate_thp((void *)align_up((uintptr_t)p, bytes), bytes);
	ok(mapping_of(p).from == m.from && mapping_of(p).to == m.to,
	   "there a huge page is no mapping of its own");
}

/* ---- segregated ----------------------------------------------------------------------------- */

static void test_apart(void)
{
	struct zone *z = zone_filled(1);
	struct page *pg = take(z, 1);
	struct page *other = take(z, 1);
	uint64_t before = z->prefaulted_pages;

	write_all(pg);
	buddy_free(pg);
	is_int(z->dirty_pages, 1, "a dirty page beside prefaulted ones does not make them dirty");
	is_int(z->prefaulted_pages, before, "pages beside a dirty one stay prefaulted");
	pg = take(z, 2);
	is_int(pg->backing, BACKING_PREFAULTED,
	       "prefaulted pages are not taken as a part of a dirty block");
	buddy_free(pg);
	buddy_free(other);
	if (vm_os_page > PG_BYTES) {
		tap_skip(4,
			 "a page of 16 KiB with others on the kernel's page cannot be given back");
		return;
	}
	is_int(zone_purge(z, 0, UINT64_MAX), PG_BYTES,
	       "a dirty page among prefaulted ones is given back alone");
	is_int(z->prefaulted_pages, PREFAULT_LARGE - 1,
	       "a page that was given back is not prefaulted");
	zone_check(z);
	prefault_release(z, 0, UINT64_MAX);
	zone_check(z);
	ok(z->dirty_pages == 0 && z->prefaulted_pages == 0 && z->free_pages == z->total_pages,
	   "all is clean when the other pages are given back as well");
	ok(z->orders[BACKING_CLEAN] & (1u << order_of(PREFAULT_LARGE)), "clean pages merge");
}

static void test_not_apart(void)
{
	struct zone *z = zone_with_options(false);
	struct page *pg = buddy_alloc_aligned(z, 1023, 10); /* of a block of 1024 */

	if (!pg)
		tap_bail_out("no memory");
	write_all(pg);
	buddy_free(pg);
	is_int(z->orders[BACKING_DIRTY], 1 << 10,
	       "without a reserve a dirty run merges with the clean page behind it");
	is_int(z->prefaulted_pages, 0, "without a reserve nothing is prefaulted");
	zone_check(z);
}

static void test_extend(void)
{
	struct zone *z = zone_filled(1);
	struct page *pg = take(z, 4);
	bool extended = buddy_extend(pg, 12);

	ok(extended, "a run is extended by prefaulted pages");
	is_int(z->prefaulted_pages, PREFAULT_LARGE - 12,
	       "an extended run takes as many prefaulted pages as it needs");
	is_int(z->growth.prefaulted_taken, 12, "pages of an extended run count as taken");
	zone_check(z);
	buddy_shrink(pg, 4);
	is_int(z->dirty_pages, 8, "what an extended run gives back is dirty");
	buddy_free(pg);
	zone_check(z);
}

/* ---- giving back ---------------------------------------------------------------------------- */

static bool resident(struct page *pg)
{
	return backed(page_address(pg));
}

static void test_release(void)
{
	struct zone *z = zone_filled(2);
	struct page *first = take(z, 1);

	buddy_free(first);
	if (vm_os_page > PG_BYTES) {
		tap_skip(7,
			 "a page of 16 KiB with others on the kernel's page cannot be given back");
		return;
	}
	if (tap_emulated())
		tap_skip(1, "no mincore");
	else
		ok(resident(first), "the kernel backs prefaulted memory");
	is_int(prefault_release(z, PREFAULT_LARGE + 10, UINT64_MAX),
	       (PREFAULT_LARGE - 10) * PG_BYTES, "all but what is to be kept is given back");
	is_int(z->prefaulted_pages, PREFAULT_LARGE + 10, "what is to be kept stays");
	is_int(prefault_release(z, 0, 5), 5 * PG_BYTES, "no more is given back than asked for");
	prefault_release(z, 0, UINT64_MAX);
	is_int(z->prefaulted_pages, 0, "all prefaulted pages can be given back");
	ok(!resident(first), "the kernel does not back what was given back");
	is_int(prefault_release(z, 0, UINT64_MAX), 0,
	       "nothing is given back where nothing is prefaulted");
	zone_check(z);
}

static void test_locked(void)
{
	struct zone *z = zone_filled(1);
	struct page *pg = take(z, PREFAULT_LARGE);
	size_t bytes = (size_t)PREFAULT_LARGE << PG_SHIFT;

	/* A raw call, because sanitizers turn mlock off. */
	if (syscall(SYS_mlock, page_address(pg), bytes) != 0) {
		tap_skip(2, "memory cannot be locked here");
		return;
	}
	buddy_free(pg);
	is_int(prefault_release(z, 0, UINT64_MAX), 0, "memory that is locked is not given back");
	is_int(z->prefaulted_pages, PREFAULT_LARGE, "memory that is locked stays prefaulted");
	zone_check(z);
	syscall(SYS_munlock, page_address(pg), bytes);
}

static void test_refused(void)
{
	struct zone *z = zone_filled(1);

	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	is_int(prefault_fill(z, UINT64_MAX, UINT64_MAX), 0,
	       "nothing is prefaulted while the kernel refuses");
	options.vm_fail_at = 0;
	is_int(z->prefaulted_pages, PREFAULT_LARGE,
	       "prefaulted memory stays so while the kernel refuses");
	is_int(z->dirty_pages, 0, "clean memory stays so while the kernel refuses");
	zone_check(z);
}

/* ---- marks ---------------------------------------------------------------------------------- */

static void test_marks(void)
{
	struct zone *z = zone_filled(1);
	uint64_t wakes = stat_sum(STAT_reserve_wakes);
	struct page *pg[4];

	z->marks.low = PREFAULT_LARGE - 3;
	z->marks.word = 1;
	pg[0] = take(z, 3);
	is_int(z->marks.word, 1, "the reserve's thread is not woken while the mark is not crossed");
	pg[1] = take(z, 1);
	is_int(z->marks.word, 0, "an allocation that crosses the mark wakes the thread");
	pg[2] = take(z, 1);
	is_int(stat_sum(STAT_reserve_wakes) - wakes, 1,
	       "the next allocation finds the thread awake");
	z->marks.low = 0;
	z->marks.over = PREFAULT_LARGE - 5;
	z->marks.word = 1;
	buddy_free(pg[2]);
	is_int(z->marks.word, 0, "a free that leaves more than may be kept wakes the thread");
	buddy_free(pg[1]);
	buddy_free(pg[0]);
	zone_check(z);
}

int main(void)
{
	tap_plan(60);
	test_fill();
	test_order();
	test_returned();
	test_long_run();
	test_large_blocks();
	test_most();
	test_huge();
	test_forbidden();
	test_apart();
	test_not_apart();
	test_extend();
	test_release();
	test_locked();
	test_refused();
	test_marks();
	return tap_done();
}
