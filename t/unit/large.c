/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects that are a run of pages: lengths, the zero flag, resizing in place, misuse.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <string.h>

#include "page/block.h"
#include "page/buddy.h"
#include "lib/child.h"
#include "heap/large.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "page/purge.h"
#include "lib/tap.h"
#include "os/vm.h"

static struct zone zone = {
	.lock = LOCK_INIT(LOCK_BUDDY),
	.grow = LOCK_INIT(LOCK_GROW),
};
static struct pcp pcp;

static char *large(size_t size, bool *zero)
{
	char *p = large_alloc(&pcp, size, 1, zero);

	if (!p)
		tap_bail_out("no memory");
	return p;
}

static void give_back(void *p)
{
	struct page *pg = page_of(p);

	large_check(pg, p);
	large_unmake(pg);
	pcp_free(&pcp, pg);
}

static uint64_t pages_used(void)
{
	return zone.total_pages - zone.free_pages;
}

static bool all_bytes(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* The length of a run of n pages: that of its class, if there is one. */
static uint32_t length_for(uint32_t n)
{
	return n <= PCP_RUN_MAX ? run_class_pages[run_class_of(n)] : n;
}

static void test_lengths(void)
{
	bool right = true;
	bool leads = true;

	for (uint32_t n = 1; n <= RUN_PAGES_MAX; n += n < 100 ? 1 : n / 7) {
		size_t size = (size_t)n * PG_BYTES - (n & 3);
		bool zero = false;
		char *p = large(size, &zero);
		struct page *pg = page_of(p);

		right &= pg->npages == length_for(n) && large_usable(pg) >= size &&
			 pg->kind == PAGE_LARGE && p == page_address(pg);
		for (size_t at = 0; at < size; at += PG_BYTES / 2)
			leads &= page_of(p + at) == pg;
		leads &= page_of(p + large_usable(pg) - 1) == pg;
		give_back(p);
	}
	ok(right, "a large block has the length of its run class, or its own above the classes");
	ok(leads, "every pointer into a large block leads to its descriptor");
	pcp_drain(&pcp);
	zone_check(&zone);
	is_int(pages_used(), 0, "large blocks of all lengths lose no page");
}

static void test_align(void)
{
	bool right = true;
	bool zero = false;

	for (size_t align = PG_BYTES; align <= LARGE_MAX; align *= 2) {
		for (size_t size = 1; size <= LARGE_MAX; size *= 16) {
			char *p = large_alloc(&pcp, size, align, &zero);

			right &= p && (uintptr_t)p % align == 0;
			if (p)
				give_back(p);
		}
	}
	ok(right, "large blocks of each alignment up to the largest run's can be allocated");
	pcp_drain(&pcp);
	is_int(pages_used(), 0, "aligned large blocks lose no page");
}

static void test_zero(void)
{
	unsigned said = 0;
	unsigned lies = 0;

	pcp_drain(&pcp);
	zone_purge(&zone, 0, UINT64_MAX);
	for (unsigned i = 0; i < 400; i++) {
		size_t size = 20000 + (size_t)i * 7919 % 1500000;
		bool zero = false;
		char *p = large(size, &zero);

		said += zero;
		lies += zero && !all_bytes(p, size, 0);
		memset(p, 0xee, size);
		give_back(p);
		if (i % 50 == 49) {
			pcp_drain(&pcp);
			zone_purge(&zone, 0, 100);
		}
	}
	ok(said > 0, "some blocks are said to read as zero");
	is_int(lies, 0, "blocks that are said to read as zero do, beside others that were written");
}

/* A run that is dirty for one page, and is to read as zero. */
static void test_wants_zero(void)
{
	size_t bytes = 100 * PG_BYTES;
	bool zero = true;
	char *p;

	pcp_drain(&pcp);
	zone_purge(&zone, 0, UINT64_MAX);
	p = large(bytes, &zero);
	p[bytes / 2] = 1;
	give_back(p);
	zero = true;
	p = large(bytes, &zero);
	ok(zero && vm_resident(p, bytes) == 0 && all_bytes(p, bytes, 0),
	   "a run of which the program touched little is given back, not written, to read as zero");
	memset(p, 1, bytes);
	give_back(p);
	zero = true;
	p = large(bytes, &zero);
	ok(!zero && p[0] == 1, "one that is backed is not");
	give_back(p);
	pcp_drain(&pcp);
	p = large(LARGE_BIN_PAGES * PG_BYTES, &zero);
	give_back(p);
	pcp_drain(&pcp);
	zero = true;
	p = large(LARGE_BIN_PAGES * PG_BYTES, &zero);
	ok(!zero, "nor one of a length that bins take");
	give_back(p);
	pcp_drain(&pcp);
}

static void test_roomy(void)
{
	uint32_t n = (4 << 20) >> PG_SHIFT;
	struct page *run[16];
	bool zero = false;
	char *p;

	pcp_drain(&pcp);
	zone_purge(&zone, 0, UINT64_MAX);
	p = large_alloc_roomy(&pcp, 2 << 20, true);
	ok(p && large_resize(page_of(p), 8 << 20),
	   "a block that grows gets fresh memory with room behind it");
	give_back(p);
	pcp_drain(&pcp);
	zone_purge(&zone, 0, UINT64_MAX);
	/* Places that are free, written and apart, for none of which two steps are room enough. */
	for (unsigned i = 0; i < 16; i++)
		run[i] = page_of(large((size_t)n * PG_BYTES, &zero));
	for (unsigned i = 0; i < 16; i += 2)
		give_back(page_address(run[i]));
	ok(!large_alloc_roomy(&pcp, 3 << 20, true),
	   "it does not while much that is free was written");
	for (unsigned i = 1; i < 16; i += 2)
		give_back(page_address(run[i]));
	pcp_drain(&pcp);
	zone_purge(&zone, 0, UINT64_MAX);
}

static void test_resize(void)
{
	bool zero = false;
	char *p = large(20 * PG_BYTES, &zero);
	struct page *pg = page_of(p);

	memset(p, 'z', 20 * PG_BYTES);
	ok(large_resize(pg, 10 * PG_BYTES), "a block can shrink in place");
	ok(pg->npages == 10 && all_bytes(p, 10 * PG_BYTES, 'z'),
	   "a block that shrinks keeps its data");
	ok(large_resize(pg, 10 * PG_BYTES - 5) && pg->npages == 10,
	   "a small change of size changes nothing");
	ok(large_resize(pg, 19 * PG_BYTES), "a block can grow into the free pages behind it");
	is_int(pg->npages, 20, "a block grows to the length of a run class");
	ok(all_bytes(p, 10 * PG_BYTES, 'z'), "a block that grows keeps its data");
	ok(page_of(p + 20 * PG_BYTES - 1) == pg,
	   "every pointer into a block that grew leads to its descriptor");
	ok(large_resize(pg, 1) && pg->npages == 1, "a block can shrink to one page");
	ok(!large_resize(pg, LARGE_MAX + 1) && !large_resize(pg, SIZE_MAX) && pg->npages == 1,
	   "a block cannot grow beyond the largest run");
	give_back(p);
	pcp_drain(&pcp);
	zone_check(&zone);
	is_int(pages_used(), 0, "resizes lose no page");
}

static void test_shrink_zeroes(void)
{
	bool zero = false;
	char *p = large(20 * PG_BYTES, &zero);

	memset(p, 's', 20 * PG_BYTES);
	options.zero_on_free = true;
	ok(large_resize(page_of(p), 8 * PG_BYTES), "a block can shrink");
	options.zero_on_free = false;
	ok(all_bytes(p, 8 * PG_BYTES, 's') && all_bytes(p + 8 * PG_BYTES, 12 * PG_BYTES, 0),
	   "with zero_on_free what it gives up holds nothing old");
	give_back(p);
	pcp_drain(&pcp);
}

static void test_resize_blocked(void)
{
	struct page *all[64];
	bool zero = false;
	char *p = large(8 * PG_BYTES, &zero);
	struct page *pg = page_of(p);
	unsigned n = 0;

	/* Takes pages until the one behind is the test's. */
	large_resize(pg, 4 * PG_BYTES);
	while (n < 64) {
		all[n] = buddy_alloc(&zone, 1);
		if (!all[n] || all[n++] == pg + 4)
			break;
	}
	ok(n && all[n - 1] == pg + 4, "the page behind a block is in use");
	ok(!large_resize(pg, 5 * PG_BYTES) && pg->npages == 4,
	   "a block cannot grow in place while the page behind it is in use");
	page_set_heads(pg + 4, 1, 0); /* as any user of the page does */
	buddy_free_bulk(all, n);
	ok(large_resize(pg, 5 * PG_BYTES) && pg->npages == 5,
	   "a block can grow in place once the page behind it is free");
	ok(page_of(p + 5 * PG_BYTES - 1) == pg, "new pages of a block lead to its descriptor");
	give_back(p);
	pcp_drain(&pcp);
	zone_check(&zone);
	is_int(pages_used(), 0, "growth in place loses no page");
}

/* ---- misuse --------------------------------------------------------------------------------- */

static void free_middle(void *arg)
{
	bool zero = false;
	char *p = large(100000, &zero);

	large_check(page_of(p), p + *(size_t *)arg);
}

static void test_misuse(void)
{
	size_t off[] = { 1, 16, PG_BYTES, 90000 };
	bool all = true;

	for (unsigned i = 0; i < 4; i++)
		all &= child_is_stopped(free_middle, &off[i],
					"free of the middle of a large block");
	ok(all, "a free of the middle of a large block stops the program");
}

static void test_no_memory(void)
{
	bool zero = false;

	pcp_drain(&pcp);
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	while (large_alloc(&pcp, LARGE_MAX, 1, &zero))
		;
	ok(!large_alloc(&pcp, LARGE_MAX, 1, &zero),
	   "an allocation fails when the kernel refuses memory");
	options.vm_fail_at = 0;
	ok(large_alloc(&pcp, LARGE_MAX, 1, &zero),
	   "an allocation works again when the kernel gives memory");
	zone_check(&zone);
}

int main(void)
{
	tap_plan(32);
	vm_init();
	options.va_reserve = (uint64_t)1 << 30;
	pcp_init(&pcp, &zone);
	pcp_open(&pcp);
	buddy_free(buddy_alloc(&zone, 1));
	test_lengths();
	test_align();
	test_zero();
	test_wants_zero();
	test_roomy();
	test_resize();
	test_shrink_zeroes();
	test_resize_blocked();
	test_misuse();
	test_no_memory();
	return tap_done();
}
