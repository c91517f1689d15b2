/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The functions of sluice.h: page blocks one by one and in bulk, drains, disabling of the pcps,
 * statistics.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sluice/sluice.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/backed.h"
#include "lib/bedroom.h"
#include "page/block.h"
#include "page/buddy.h"
#include "lib/child.h"
#include "heap/heap.h"
#include "shim/init.h"
#include "base/options.h"
#include "page/growth.h"
#include "page/pagemap.h"
#include "reclaim/reclaim.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "os/vm.h"

/* A sanitizer's own locks do not survive a fork, so its child must not start threads. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ENABLE_IN_CHILD 0
#else
#define ENABLE_IN_CHILD 1
#endif

#define ALL_FLAGS (SLUICE_DRAIN_CACHES | SLUICE_DRAIN_PURGE | SLUICE_DRAIN_REGIONS)
#define SLEEPERS 64u

static uint64_t value(const char *name)
{
	uint64_t v = 0;

	if (sluice_stat(name, &v) != 0)
		tap_bail_out("no statistic %s", name);
	return v;
}

static uint64_t pages_used(void)
{
	return zone_main.total_pages - zone_main.free_pages;
}

static struct sluice_drain_report drain(unsigned flags)
{
	struct sluice_drain_report r;

	if (sluice_drain(flags, &r) != 0)
		tap_bail_out("a drain was refused");
	return r;
}

static bool mapped(void *p)
{
	unsigned char vec[1];

	return backed_pages(p, vm_os_page, vec) == 0;
}

static void refuse_memory(bool refuse)
{
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = refuse ? 1 : 0;
}

/* ---- page blocks ---------------------------------------------------------------------------- */

static void test_blocks(void)
{
	bool aligned = true;
	bool usable = true;
	void *a;
	void *b;

	is_int(sluice_page_size(), PG_BYTES, "the size of a page is known");
	is_int(sluice_page_order_max(), ORDER_MAX, "the largest order is known");
	for (unsigned o = 0; o <= sluice_page_order_max(); o++) {
		size_t bytes = sluice_page_size() << o;
		char *p = sluice_page_alloc(o);

		if (!p)
			tap_bail_out("no memory");
		aligned &= ((uintptr_t)p & (bytes - 1)) == 0;
		p[0] = p[bytes - 1] = 'b';
		usable &= page_of(p + bytes - 1)->kind == PAGE_RAW;
		sluice_page_free(p, o);
	}
	ok(aligned, "a block of each order is aligned to its size");
	/* malloc's runs share the cache, and may lie anywhere. */
	a = heap_alloc(33 * PG_BYTES);
	b = heap_realloc(heap_alloc(40 * PG_BYTES), 32 * PG_BYTES);
	ok(page_number(page_of(b)) % 32, "a run of malloc need not be aligned to its size");
	heap_free(b);
	b = sluice_page_alloc(5);
	is_int((uintptr_t)b % (32 * PG_BYTES), 0, "a run of malloc does not become a block");
	sluice_page_free(b, 5);
	heap_free(a);
	ok(usable, "a block of each order can be used");
	errno = 0;
	ok(!sluice_page_alloc(sluice_page_order_max() + 1) && errno == EINVAL,
	   "a block of a larger order is refused with EINVAL");
	sluice_page_free(NULL, 0);
	drain(SLUICE_DRAIN_CACHES);
	zone_check(&zone_main);
	is_int(pages_used(), 0, "page blocks lose no page");
}

static bool distinct(void *const *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memset(p[i], (int)(i % 251), 64);
	for (size_t i = 0; i < n; i++)
		if (*(unsigned char *)p[i] != i % 251)
			return false;
	return true;
}

static void test_bulk(void)
{
	static void *p[1000];

	p[700] = p;
	is_int(sluice_page_alloc_bulk(1, 700, p), 700, "a bulk allocation gives all blocks");
	ok(p[700] == p, "a bulk allocation writes no more pointers than asked for");
	ok(distinct(p, 700), "blocks of a bulk allocation do not overlap");
	is_int(pages_used() - value("pcp_bytes") / PG_BYTES, 1400,
	       "blocks of a bulk allocation take the pages they have");
	sluice_page_free_bulk(1, 700, p);
	is_int(sluice_page_alloc_bulk(0, 0, p), 0, "a bulk allocation of no blocks gives none");
	sluice_page_free_bulk(0, 0, p);
	errno = 0;
	ok(sluice_page_alloc_bulk(ORDER_MAX + 1, 5, p) == 0 && errno == EINVAL,
	   "a bulk allocation of too large an order is refused with EINVAL");
	drain(SLUICE_DRAIN_CACHES);
	zone_check(&zone_main);
	is_int(pages_used(), 0, "bulk calls lose no page");
}

static void test_list(void)
{
	struct sluice_page_list list = { NULL, 0 };
	void *p[300];
	size_t n = 0;

	is_int(sluice_page_alloc_bulk_list(2, 200, &list), 200,
	       "a list gets all blocks that were asked for");
	is_int(list.count, 200, "a list has the right count");
	is_int(sluice_page_alloc_bulk_list(2, 100, &list), 100,
	       "more blocks can be added to a list");
	while (n < 300 && (p[n] = sluice_page_list_pop(&list)) != NULL)
		n++;
	is_int(n, 300, "blocks can be taken off a list one by one");
	ok(!sluice_page_list_pop(&list) && list.count == 0,
	   "a list is empty when all blocks are taken off");
	ok(distinct(p, 300), "blocks of a list do not overlap");
	sluice_page_free_bulk(2, 300, p);
	sluice_page_alloc_bulk_list(2, 250, &list);
	sluice_page_free_bulk_list(2, &list);
	ok(list.count == 0 && !list.first, "a list can be freed as a whole and is empty then");
	errno = 0;
	ok(sluice_page_alloc_bulk_list(99, 1, &list) == 0 && errno == EINVAL && list.count == 0,
	   "a list of too large an order is refused with EINVAL");
	drain(SLUICE_DRAIN_CACHES);
	zone_check(&zone_main);
	is_int(pages_used(), 0, "lists lose no page");
}

/* Asks for more than there is, while the kernel refuses to give more. */
static void test_partial(void)
{
	static void *p[10000];
	struct sluice_page_list list = { NULL, 0 };
	size_t there = zone_main.free_pages;
	size_t got;

	refuse_memory(true);
	errno = 0;
	got = sluice_page_alloc_bulk(0, 10000, p);
	is_int(got, there, "a bulk request for more than there is gets what there is");
	is_int(errno, ENOMEM, "a bulk request that gets less sets ENOMEM");
	is_int(zone_main.free_pages, 0, "a bulk request that gets less gets all there is");
	errno = 0;
	ok(sluice_page_alloc_bulk(0, 5, p + got) == 0 && errno == ENOMEM,
	   "a bulk request gets nothing when nothing is left");
	errno = 0;
	ok(!sluice_page_alloc(3) && errno == ENOMEM,
	   "a single block is refused when nothing is left");
	sluice_page_free_bulk(0, 100, p);
	errno = 0;
	is_int(sluice_page_alloc_bulk_list(0, 500, &list), 100,
	       "a list that asks for more than there is gets what there is");
	ok(errno == ENOMEM && list.count == 100, "a list that gets less sets ENOMEM");
	refuse_memory(false);
	sluice_page_free_bulk_list(0, &list);
	sluice_page_free_bulk(0, got - 100, p + 100);
	drain(SLUICE_DRAIN_CACHES);
	zone_check(&zone_main);
	is_int(zone_main.free_pages, there, "requests that get less lose no page");
}

/* ---- misuse --------------------------------------------------------------------------------- */

static void wrong_order(void *arg)
{
	(void)arg;
	sluice_page_free(sluice_page_alloc(3), 2);
}

static void wrong_order_bulk(void *arg)
{
	void *p[10];

	(void)arg;
	sluice_page_alloc_bulk(1, 10, p);
	sluice_page_free_bulk(0, 10, p);
}

static void free_twice(void *arg)
{
	void *p = sluice_page_alloc(1);

	(void)arg;
	sluice_page_free(p, 1);
	sluice_page_free(p, 1);
}

static void twice_in_bulk(void *arg)
{
	void *p[2];

	(void)arg;
	p[0] = p[1] = sluice_page_alloc(1);
	sluice_page_free_bulk(1, 2, p);
}

static void free_middle(void *arg)
{
	char *p = sluice_page_alloc(1);

	(void)arg;
	sluice_page_free(p + PG_BYTES, 1);
}

static void free_object(void *arg)
{
	(void)arg;
	sluice_page_free(heap_alloc(100000), 3);
}

static void free_by_heap(void *arg)
{
	(void)arg;
	heap_free(sluice_page_alloc(1));
}

static void test_misuse(void)
{
	ok(child_is_stopped(wrong_order, NULL,
			    "sluice_page_free with order 2 of a block of 8 pages"),
	   "a free with a larger order stops the program");
	ok(child_is_stopped(wrong_order_bulk, NULL, "sluice_page_free with order 0"),
	   "a bulk free with another order stops the program");
	ok(child_is_stopped(free_twice, NULL,
			    "sluice_page_free of memory that is not a page block"),
	   "a block freed twice stops the program");
	ok(child_is_stopped(twice_in_bulk, NULL,
			    "sluice_page_free of memory that is not a page block"),
	   "a block freed twice in one bulk stops the program");
	ok(child_is_stopped(free_middle, NULL,
			    "sluice_page_free of memory that is not a page block"),
	   "a free of the middle of a block stops the program");
	ok(child_is_stopped(free_object, NULL,
			    "sluice_page_free of memory that is not a page block"),
	   "a page free of what malloc gave stops the program");
	ok(child_is_stopped(free_by_heap, NULL, "free of a page block"),
	   "a block that is given to free stops the program");
}

/* ---- drains --------------------------------------------------------------------------------- */

/* Fills this thread's pcp with dirty pages. */
static void fill_cache(void)
{
	void *p[200];

	for (unsigned i = 0; i < 200; i++)
		p[i] = memset(sluice_page_alloc(0), 'd', PG_BYTES);
	for (unsigned i = 0; i < 200; i++)
		sluice_page_free(p[i], 0);
}

static void test_drain_flags(void)
{
	struct sluice_drain_report r;
	uint64_t cached;

	memset(&r, 0x55, sizeof(r));
	errno = 0;
	is_int(sluice_drain(128, &r), -1, "a drain refuses an unknown flag");
	is_int(errno, EINVAL, "a drain refuses an unknown flag with EINVAL");
	is_int(r.time_ns, 0x5555555555555555, "a refused drain reports nothing");
	is_int(sluice_drain(SLUICE_DRAIN_CACHES | 64, NULL), -1,
	       "a drain refuses an unknown flag beside a known one");
	errno = 55;
	drain(ALL_FLAGS);
	fill_cache();
	cached = value("pcp_bytes");
	ok(cached > 0, "the pcp of a thread holds pages");
	r = drain(SLUICE_DRAIN_PURGE);
	is_int(value("pcp_bytes"), cached, "a purge leaves the pcps alone");
	r = drain(SLUICE_DRAIN_CACHES);
	is_int(r.bytes_drained, cached, "a drain of the caches reports what they held");
	ok(r.bytes_purged == 0 && r.bytes_unmapped == 0,
	   "a drain of the caches neither purges nor unmaps");
	ok(value("dirty_bytes") >= cached, "drained pages are free and dirty");
	r = drain(SLUICE_DRAIN_PURGE);
	ok(r.bytes_purged >= cached && r.bytes_drained == 0, "a purge reports what it gave back");
	is_int(value("dirty_bytes"), 0, "nothing is dirty after a purge");
	fill_cache();
	r = drain(0);
	ok(r.bytes_drained > 0 && r.bytes_purged > 0 && r.bytes_unmapped == 0,
	   "a drain without flags empties caches and purges");
	ok(r.caches_reached > 0 && r.caches_skipped == 0 && r.time_ns > 0,
	   "a drain reports how many caches it reached, and how long it took");
	is_int(sluice_drain(0, NULL), 0, "a drain needs no report");
	is_int(errno, 55, "calls that succeed keep errno");
}

static void *sleeper(void *arg)
{
	void *p[20];

	(void)arg;
	sluice_page_alloc_bulk(0, 20, p);
	for (unsigned i = 0; i < 20; i++)
		sluice_page_free(p[i], 0);
	bedroom_sleep();
	return NULL;
}

static void test_sleepers(void)
{
	bool (*before_growth)(uint64_t pages) = growth_ask_others;
	void (*new_asks)(void) = heap_new_asks;
	struct sluice_drain_report r;
	pthread_t t[SLEEPERS];

	growth_ask_others = NULL; /* these would take what the first threads have cached */
	heap_new_asks = NULL;
	for (unsigned i = 0; i < SLEEPERS; i++)
		if (pthread_create(&t[i], NULL, sleeper, NULL) != 0)
			tap_bail_out("cannot start a thread");
	bedroom_wait(SLEEPERS);
	growth_ask_others = before_growth;
	heap_new_asks = new_asks;
	ok(value("pcp_bytes") >= SLEEPERS * 4 * PG_BYTES, "64 threads fill their pcps and sleep");
	r = drain(SLUICE_DRAIN_CACHES);
	ok(r.caches_reached >= SLEEPERS && r.caches_skipped == 0,
	   "one call reaches the pcps of 64 sleeping threads");
	is_int(value("pcp_bytes"), 0, "one call leaves nothing in any pcp");
	bedroom_wake();
	for (unsigned i = 0; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
}

/* ---- regions given back --------------------------------------------------------------------- */

/* The number of pages of a region that are in a pcp; they are marked so. */
static uint32_t cached_in(struct region *r)
{
	uint32_t n = 0;

	for (uint32_t i = region_first(); i < r->pages; i++)
		n += r->page[i].kind == PAGE_PCP;
	return n;
}

static void *use_and_free(void *arg)
{
	(void)arg;
	fill_cache();
	return NULL;
}

static void test_regions(void)
{
	static void *p[8192];
	struct sluice_drain_report r;
	struct region *last;
	unsigned on_caches = 0;
	pthread_t t;
	char *in_last;

	/* Takes enough for a second region; all of it is freed while the pcps are on. */
	is_int(sluice_page_alloc_bulk(0, 6000, p), 6000, "two regions are in use");
	in_last = p[5999];
	last = region_of(in_last);
	is_int(sluice_pcp_disable(), 0, "the pcps can be turned off");
	sluice_page_free_bulk(0, 6000, p);
	pthread_create(&t, NULL, use_and_free, NULL);
	pthread_join(t, NULL);
	r = drain(ALL_FLAGS);
	for (struct region *g = zone_first_region(&zone_main); g; g = g->next)
		on_caches += cached_in(g);
	is_int(on_caches, 0, "no block of a region is in any pcp after a drain");
	is_int(value("pcp_bytes"), 0, "no pcp holds anything after a drain");
	ok(r.bytes_unmapped > 0 && !mapped(in_last), "wholly free regions are unmapped");
	is_int(last->free_pages, 0, "an unmapped region has no free pages");
	is_int(value("region_bytes"), pages_used() * PG_BYTES + zone_main.free_pages * PG_BYTES,
	       "an unmapped region does not count as usable");
	is_int(sluice_page_alloc_bulk(0, 6000, p), 6000,
	       "unmapped regions come back when they are needed");
	ok(distinct(p, 6000), "regions that came back can be used");
	sluice_page_free_bulk(0, 6000, p);
	fill_cache();
	is_int(value("pcp_bytes"), 0, "nothing enters the pcps while they are off");
	sluice_pcp_enable();
	fill_cache();
	ok(value("pcp_bytes") > 0, "the pcps are used once they are on again");
	drain(ALL_FLAGS);
	zone_check(&zone_main);
}

static void test_disable_refused(void)
{
	struct pcp *p = &heap_fallback.heap->pcp;

	atomic_store(&p->lock.word, 1); /* by a thread that does not exist */
	errno = 0;
	ok(sluice_pcp_disable() == -1 && errno == EBUSY,
	   "turning the pcps off fails with EBUSY when one cannot be reached");
	atomic_store(&p->lock.word, 0);
	fill_cache();
	ok(value("pcp_bytes") > 0, "the pcps stay on after that");
	drain(ALL_FLAGS);
}

/* As if a thread had been ended by a jump, or killed, in the middle of a drain. */
static void enable_with_lost_lock(void *arg)
{
	pid_t gone;

	(void)arg;
	if (sluice_pcp_disable() != 0)
		_exit(2);
	gone = fork();
	if (gone == 0)
		_exit(0);
	if (waitpid(gone, NULL, 0) != gone)
		_exit(3);
	atomic_store(&reclaim_control.word, (uint32_t)gone);
	sluice_pcp_enable();
	fill_cache();
	_exit(value("pcp_bytes") > 0 ? 0 : 4);
}

static bool still_off;
static sem_t control_held;

static void *hold_control(void *arg)
{
	struct pcp *p = &heap_fallback.heap->pcp;

	if (lock_acquire(&reclaim_control) != 0)
		_exit(3);
	sem_post(&control_held);
	still_off = true;
	for (unsigned i = 0; i < 50; i++) {
		lock_pause();
		still_off &= (p->flags & PCP_DISABLED) != 0;
	}
	lock_release(&reclaim_control);
	return arg;
}

/* As in a handler of a signal that interrupted a call which holds the zone's lock. */
static void enable_in_handler(void *arg)
{
	pthread_t t;

	(void)arg;
	sem_init(&control_held, 0, 0);
	if (sluice_pcp_disable() != 0 || lock_acquire(&zone_main.lock) != 0)
		_exit(2);
	pthread_create(&t, NULL, hold_control, NULL);
	while (sem_wait(&control_held) != 0)
		;
	lock_call_begins();
	sluice_pcp_enable();
	lock_release(&zone_main.lock);
	pthread_join(t, NULL);
	_exit(still_off && !(heap_fallback.heap->pcp.flags & PCP_DISABLED) ? 0 : 4);
}

static void enable_only(void *arg)
{
	(void)arg;
	sluice_pcp_enable();
}

static void test_enable(void)
{
	ok(child_is_well(enable_with_lost_lock, NULL),
	   "the pcps can be turned on again when the holder of the drains' lock is gone");
	if (ENABLE_IN_CHILD)
		ok(child_is_well(enable_in_handler, NULL),
		   "in a signal handler, the pcps are turned on only when no drain is at them");
	else
		tap_skip(1, "a child of a process with threads cannot start threads here");
	ok(child_is_stopped(enable_only, NULL, "sluice_pcp_enable without sluice_pcp_disable"),
	   "turning the pcps on that are on stops the program");
}

/* ---- statistics ----------------------------------------------------------------------------- */

static void test_stats(void)
{
	static const char *const gauges[] = { "pcp_bytes",     "free_bytes",   "dirty_bytes",
					      "region_bytes",  "huge_bytes",   "heaps",
					      "lock_wait_ns",  "slab_bytes",   "object_bytes",
					      "hole_bytes",    "pinned_bytes", "large_bytes",
					      "reserve_bytes", "arena_bytes",  "huge_kept_bytes" };
	uint64_t v = 12;
	bool all = true;

	for (unsigned i = 0; i < STATS; i++)
		all &= sluice_stat(stat_name((enum stat_id)i), &v) == 0;
	for (unsigned i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
		all &= sluice_stat(gauges[i], &v) == 0;
	ok(all, "each counter and gauge has a value by its name");
	errno = 0;
	v = 12;
	ok(sluice_stat("nothing", &v) == -1 && errno == EINVAL && v == 12,
	   "an unknown name is refused with EINVAL, and changes nothing");
	ok(strcmp(sluice_version(), PACKAGE_VERSION) == 0, "the version is that of the package");
}

#define SIZE 2048u /* two on 4 KiB, 32 in a slab of 64 KiB */
#define EACH 32u
#define SLABS 20u

static struct sluice_class class_of_size(void)
{
	struct sluice_class c[CLASSES];

	drain(SLUICE_DRAIN_CACHES | SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE);
	is_int(sluice_class_stats(c, CLASSES), CLASSES, "there are statistics of all classes");
	return c[class_of(SIZE)];
}

static void *free_objects(void *arg)
{
	void **p = arg;

	for (unsigned i = 0; i < SLABS * EACH; i += 2)
		heap_free(p[i]);
	return NULL;
}

/* The freeing thread's caches are gone with it; what it freed waits in slabs whose owner makes no
 * call. */
static void test_remote(void)
{
	static void *p[SLABS * EACH];
	struct sluice_class c[CLASSES];
	uint64_t before;
	pthread_t t;

	for (unsigned i = 0; i < SLABS * EACH; i++)
		p[i] = heap_alloc(SIZE);
	sluice_class_stats(c, CLASSES);
	before = c[class_of(SIZE)].object_bytes;
	pthread_create(&t, NULL, free_objects, p);
	pthread_join(t, NULL);
	sluice_class_stats(c, CLASSES);
	is_int(before - c[class_of(SIZE)].object_bytes, SLABS * EACH / 2 * SIZE,
	       "what another thread freed counts as free before the owner knows");
	for (unsigned i = 1; i < SLABS * EACH; i += 2)
		heap_free(p[i]);
	is_int(class_of_size().slabs, 0, "the owner gives slabs back once it knows");
}

#define FEW_BYTES 64u
#define MANY 3000u

/* Its bin becomes as long as possible while it is full: the thread allocates of the class and frees
 * more. */
static void *free_more(void *arg)
{
	void **p = arg;
	void *own = heap_alloc(FEW_BYTES);

	for (unsigned i = 0; i < MANY; i++)
		heap_free(p[i]);
	heap_free(own);
	return NULL;
}

static uint64_t slabs_of_few(void)
{
	struct sluice_class c[CLASSES];

	drain(SLUICE_DRAIN_CACHES | SLUICE_DRAIN_IDLE);
	sluice_class_stats(c, CLASSES);
	return c[class_of(FEW_BYTES)].slabs;
}

static void test_long_bin(void)
{
	static void *p[MANY];
	uint64_t before = slabs_of_few();
	pthread_t t;

	for (unsigned i = 0; i < MANY; i++)
		p[i] = heap_alloc(FEW_BYTES);
	pthread_create(&t, NULL, free_more, p);
	pthread_join(t, NULL);
	is_int(slabs_of_few(), before, "a bin that grows while it is full loses nothing");
}

/* Keeps one object of each slab; the object beside it is free, and stays. */
static void test_class_stats(void)
{
	static void *p[SLABS * EACH];
	struct sluice_class sum = { 0 };
	struct sluice_class c[CLASSES + 1];
	struct sluice_class was = class_of_size();
	struct sluice_class is;

	memset(c, 0x5a, sizeof(c));
	sluice_class_stats(c, 3);
	ok(c[2].object_size == 48 && c[3].object_size == 0x5a5a5a5a5a5a5a5a,
	   "class statistics fill as many entries as there is room for");
	is_int(was.slabs, 0, "an unused class has no slab");
	for (unsigned i = 0; i < SLABS * EACH; i++)
		memset(p[i] = heap_alloc(SIZE), 1, SIZE);
	is = class_of_size();
	ok(is.object_size == SIZE && is.slabs == SLABS,
	   "a class has as few slabs as its objects need");
	is_int(is.object_bytes, SLABS * EACH * SIZE, "a class counts its objects");
	is_int(is.hole_bytes + is.pinned_bytes, 0,
	       "a class whose objects are all live has nothing free");
	for (unsigned i = 0; i < SLABS * EACH; i++)
		if (i % EACH != 7)
			heap_free(p[i]);
	is = class_of_size();
	is_int(is.slabs, SLABS, "one live object keeps its slab");
	is_int(is.slab_bytes, SLABS * EACH * SIZE, "a kept slab counts all its pages");
	is_int(is.object_bytes, SLABS * SIZE, "a class counts its live objects");
	is_int(is.pinned_bytes, SLABS * (vm_os_page - SIZE),
	       "each live object pins the rest of its kernel page");
	is_int(is.hole_bytes, SLABS * (EACH * SIZE - vm_os_page),
	       "what live objects do not pin has gone back");
	sluice_class_stats(c, CLASSES);
	for (unsigned i = 0; i < CLASSES; i++) {
		sum.slab_bytes += c[i].slab_bytes;
		sum.object_bytes += c[i].object_bytes;
		sum.hole_bytes += c[i].hole_bytes;
		sum.pinned_bytes += c[i].pinned_bytes;
	}
	ok(sum.slab_bytes == value("slab_bytes") && sum.object_bytes == value("object_bytes") &&
		   sum.hole_bytes == value("hole_bytes") &&
		   sum.pinned_bytes == value("pinned_bytes"),
	   "the gauges are the sums over all classes");
	for (unsigned i = 7; i < SLABS * EACH; i += EACH)
		heap_free(p[i]);
	is_int(class_of_size().slabs, 0, "nothing is left when all is freed");
}

int main(void)
{
	tap_plan(96);
	options.va_reserve = (uint64_t)1 << 30;
	options.region_step = 64 << 20;
	options.decay_ms = 3600000; /* dirty memory stays dirty, however slow the machine is */
	sluice_init();
	test_blocks();
	test_bulk();
	test_list();
	test_partial();
	test_misuse();
	test_drain_flags();
	test_sleepers();
	test_regions();
	test_disable_refused();
	test_enable();
	test_stats();
	test_remote();
	test_long_bin();
	test_class_stats();
	return tap_done();
}
