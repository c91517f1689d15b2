/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page caches: what goes through them, what they may hold, and that any thread can empty them.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/bedroom.h"
#include "lib/child.h"
#include "base/options.h"
#include "page/block.h"
#include "page/pagemap.h"
#include "page/pcp.h"
#include "page/purge.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "os/vm.h"

#define HIGH_MIN 16u /* pages; the options are set so */
#define HIGH_MAX 256u
#define BATCH 8u
#define SLEEPERS 64u
#define PAGES 20000u /* of the zone */

static struct zone zone = {
	.lock = LOCK_INIT(LOCK_BUDDY),
	.grow = LOCK_INIT(LOCK_GROW),
};

/* A page cache is never freed: each test has its own. */
static struct pcp *pcp_new(void)
{
	static struct pcp pcps[SLEEPERS + 32];
	static unsigned used;

	if (used == sizeof(pcps) / sizeof(pcps[0]))
		tap_bail_out("too few page caches");
	pcp_init(&pcps[used], &zone);
	return &pcps[used++];
}

static uint64_t pages_used(void)
{
	return zone.total_pages - zone.free_pages;
}

static unsigned rc_of(uint32_t npages)
{
	return run_class_of(npages);
}

/* Fill it up to `high`, from outside. */
static void put_pages(struct pcp *p, uint32_t npages, unsigned n)
{
	struct page *run[512];

	if (buddy_alloc_bulk(&zone, npages, n, n, run) != n)
		tap_bail_out("no memory");
	for (unsigned i = 0; i < n; i++)
		pcp_free(p, run[i]);
}

static void test_classes(void)
{
	bool smallest = true;
	bool rising = true;

	for (uint32_t n = 1; n <= PCP_RUN_MAX; n++) {
		unsigned rc = rc_of(n);

		smallest &= rc < RUN_CLASSES && run_class_pages[rc] >= n &&
			    (rc == 0 || run_class_pages[rc - 1] < n);
	}
	for (unsigned rc = 1; rc < RUN_CLASSES; rc++)
		rising &= run_class_pages[rc] > run_class_pages[rc - 1] &&
			  8 * (run_class_pages[rc] - run_class_pages[rc - 1] - 1) <
				  2 * run_class_pages[rc];
	ok(smallest, "each length up to the largest has the shortest class that holds it");
	ok(rising, "the classes rise, by a quarter at most");
	is_int(run_class_pages[RUN_CLASSES - 1], PCP_RUN_MAX, "the last class is the largest run");
}

/* ---- the owner's way ------------------------------------------------------------------------ */

static void test_hit_and_miss(void)
{
	struct pcp *p = pcp_new();
	uint64_t refills = stat_sum(STAT_pcp_refills);
	struct page *a;
	struct page *b;
	uint32_t count;

	is_int(p->count, 0, "a new page cache is empty");
	is_int(p->high, HIGH_MIN, "and may hold what the option says");
	a = pcp_alloc(p, rc_of(1));
	ok(a && a->kind == PAGE_LIMBO && a->npages == 1, "a run that it does not have is got");
	is_int(stat_sum(STAT_pcp_refills) - refills, 1, "by one refill");
	count = p->count;
	ok(count > 0 && count <= p->high, "which brings more than the one, within its limit");
	b = pcp_alloc(p, rc_of(1));
	is_int(p->count, count - 1, "the next comes out of the cache");
	is_int(stat_sum(STAT_pcp_refills) - refills, 1, "without another refill");
	pcp_free(p, b);
	is_int(p->count, count, "a free puts it back");
	ok(b->kind == PAGE_PCP && b->list == LIST_PCP, "and its descriptor says where it is");
	ok(pcp_alloc(p, rc_of(1)) == b, "the last one freed is the first to be used again");
	pcp_free(p, b);
	pcp_free(p, a);
	pcp_check(p);
	is_int(pcp_drain(p).pages, count + 1, "a drain gives back all of it");
	is_int(pages_used(), 0, "to the buddy core");
}

static void test_no_class(void)
{
	struct pcp *p = pcp_new();
	uint64_t used = pages_used();

	pcp_free(p, buddy_alloc(&zone, 9));
	is_int(p->count, 0, "a run whose length is no class goes past the cache");
	pcp_free(p, buddy_alloc(&zone, 100));
	is_int(p->count, 0, "so does one that is longer than the longest class");
	p->high = 4;
	pcp_free(p, buddy_alloc(&zone, 8));
	is_int(p->count, 0, "and one that is more than the cache may hold");
	is_int(pages_used(), used, "all of them are free in the buddy core");
	p->high = p->high_min;
}

static void test_high(void)
{
	static struct page *run[2000];
	struct pcp *p = pcp_new();
	uint32_t before;
	bool within = true;
	unsigned n;

	for (n = 0; n < 2000; n++) {
		run[n] = pcp_alloc(p, rc_of(1));
		within &= p->count <= p->high && p->high <= HIGH_MAX;
	}
	ok(within, "a refill never brings more than the cache may hold");
	is_int(p->high, HIGH_MAX, "while only allocations come the limit grows to the highest");
	is_int(p->alloc_factor, 4, "and the refills grow to 16 batches");
	for (n = 0; n < 1000; n++) {
		pcp_free(p, run[n]);
		within &= p->count <= p->high;
	}
	ok(within, "after a free it never holds more than it may");
	ok(p->count > HIGH_MAX / 2, "and it makes use of it");
	ok(p->alloc_factor < 4 && p->free_factor > 0, "spills make the refills smaller again");
	before = p->high;
	pcp_decay(p);
	is_int(p->high, before - (before - HIGH_MIN) / 8, "a decay lowers the limit by an eighth");
	for (unsigned i = 0; i < 100; i++)
		pcp_decay(p);
	ok(p->high < HIGH_MIN + 8, "many take it to the lowest");
	ok(p->count <= p->high, "and what is above goes to the buddy core");
	pcp_check(p);
	pcp_free_bulk(p, run + 1000, 1000);
	ok(p->count <= p->high, "a bulk free keeps within the limit as well");
	pcp_drain(p);
	buddy_check(&zone);
	is_int(pages_used(), 0, "nothing is lost");
}

/* Sizes and directions mixed; the limits hold after each step. */
static void test_bounds(void)
{
	static struct page *run[300];
	struct pcp *p = pcp_new();
	bool within = true;
	unsigned seed = 5;

	for (unsigned i = 0; i < 100000; i++) {
		struct page **at = &run[(unsigned)rand_r(&seed) % 300];

		if (*at)
			pcp_free(p, *at);
		*at = *at ? NULL : pcp_alloc(p, (unsigned)rand_r(&seed) % RUN_CLASSES);
		within &= p->count <= p->high && p->high >= HIGH_MIN && p->high <= HIGH_MAX;
		if (i % 5000 == 0)
			pcp_check(p);
	}
	ok(within, "in 100,000 random steps the cache stays within its limits");
	for (unsigned i = 0; i < 300; i++)
		if (run[i])
			pcp_free(p, run[i]);
	pcp_check(p);
	pcp_drain(p);
	buddy_check(&zone);
	is_int(pages_used(), 0, "and nothing is lost");
}

static void test_bypass(void)
{
	struct pcp *p = pcp_new();
	struct page *a = pcp_alloc(p, rc_of(2));
	uint64_t bypassed = stat_sum(STAT_pcp_bypassed);
	uint32_t count = p->count;
	struct page *run[10];
	struct page *b;
	struct pcp_drain d;

	if (!spin_trylock(&p->lock))
		tap_bail_out("the lock of a page cache is held");
	b = pcp_alloc(p, rc_of(2));
	ok(b != NULL, "with the cache locked an allocation goes past it");
	is_int(p->count, count, "and leaves what it holds alone");
	pcp_free(p, b);
	is_int(p->count, count, "so does a free");
	is_int(stat_sum(STAT_pcp_bypassed) - bypassed, 2, "both are counted");
	is_int(pcp_alloc_bulk(p, 0, 10, run), 10, "one in bulk goes past it, too");
	pcp_free_bulk(p, run, 10);
	is_int(p->count, count, "and so does a free in bulk");
	ok(b->kind != PAGE_PCP, "and the run that was freed is in the buddy core");
	d = pcp_drain(p);
	ok(d.skipped && d.pages == 0 && p->count == count, "a drain skips it, and says so");
	is_int(pcp_decay(p), 0, "a decay too");
	spin_unlock(&p->lock);
	d = pcp_drain(p);
	ok(!d.skipped && d.pages == count, "once it is unlocked a drain empties it");
	pcp_free(p, a);
	pcp_drain(p);
	is_int(pages_used(), 0, "nothing is lost");
}

static void test_bulk(void)
{
	struct pcp *p = pcp_new();
	struct page *run[200];
	uint64_t bypassed = stat_sum(STAT_pcp_bypassed);
	bool right = true;

	put_pages(p, 2, 6);
	is_int(p->count, 12, "six runs of two pages are in the cache");
	is_int(pcp_alloc_bulk(p, 1, 4, run), 4, "a bulk request gets its runs");
	is_int(p->count, 4, "out of the cache as far as it has them");
	is_int(pcp_alloc_bulk(p, 1, 100, run + 4), 100, "and the rest out of the buddy core");
	is_int(p->count, 0, "the cache is empty then");
	for (unsigned i = 0; i < 104; i++)
		right &= run[i]->npages == 2 && run[i]->kind == PAGE_LIMBO;
	ok(right, "each of the runs has the right length");
	pcp_free_bulk(p, run, 104);
	is_int(p->count, p->high, "a bulk free fills the cache to its limit");
	pcp_check(p);
	p->high = p->high_max;
	is_int(pcp_alloc_bulk(p, 0, 100, run), 100, "a hundred pages are had");
	pcp_free_bulk(p, run, 100);
	ok(p->runs[0].first && p->count >= 100, "and kept, a few in each hold of the lock");
	is_int(pcp_alloc_bulk(p, 0, 100, run), 100, "and had again, likewise (debug builds count)");
	pcp_free_bulk(p, run, 100);
	pcp_check(p);
	is_int(pcp_alloc_bulk(p, 7, 3, run), 3, "runs longer than any class can be had in bulk");
	pcp_free_bulk(p, run, 3);
	pcp_drain(p);
	is_int(pages_used(), 0, "nothing is lost");
	is_int(stat_sum(STAT_pcp_bypassed) - bypassed, 0, "and nothing found the cache locked");
}

/* ---- drains --------------------------------------------------------------------------------- */

static void *drain_thread(void *arg)
{
	return (void *)(uintptr_t)pcp_drain(arg).pages;
}

static void test_drain(void)
{
	struct pcp *p = pcp_new();
	struct page *run[1000];
	pthread_t t;
	void *pages;
	uint32_t count;
	uint64_t used;

	for (unsigned i = 0; i < 1000; i++)
		run[i] = pcp_alloc(p, rc_of(1));
	for (unsigned i = 0; i < 1000; i++)
		pcp_free(p, run[i]);
	count = p->count;
	used = pages_used();
	ok(count > HIGH_MIN && p->high == HIGH_MAX, "the cache has grown and is filled");
	is_int(used, count, "all pages in use are those of the cache");
	pthread_create(&t, NULL, drain_thread, p);
	pthread_join(t, &pages);
	is_int((uintptr_t)pages, count, "another thread drains all of it");
	is_int(p->count, 0, "it is empty");
	is_int(p->high, HIGH_MIN, "and may hold as little as at first");
	ok(p->alloc_factor == 0 && p->free_factor == 0, "and its batches are small again");
	is_int(pages_used(), 0, "the pages are free in the buddy core");
	pcp_check(p);
	buddy_check(&zone);
}

static struct pcp *sleeper_pcp[SLEEPERS];

static void *sleeper(void *arg)
{
	struct pcp *p = arg;
	struct page *run[40];

	for (unsigned i = 0; i < 40; i++)
		run[i] = pcp_alloc(p, rc_of(1 + i % 3));
	for (unsigned i = 0; i < 40; i++)
		pcp_free(p, run[i]);
	bedroom_sleep();
	return NULL;
}

static uint64_t sleepers_hold(unsigned *with_some)
{
	uint64_t pages = 0;

	*with_some = 0;
	for (unsigned i = 0; i < SLEEPERS; i++) {
		pages += sleeper_pcp[i]->count;
		*with_some += sleeper_pcp[i]->count != 0;
	}
	return pages;
}

static void test_sleepers(void)
{
	pthread_t t[SLEEPERS];
	uint64_t held;
	uint64_t drained = 0;
	unsigned some;

	for (unsigned i = 0; i < SLEEPERS; i++) {
		sleeper_pcp[i] = pcp_new();
		pthread_create(&t[i], NULL, sleeper, sleeper_pcp[i]);
	}
	bedroom_wait(SLEEPERS);
	held = sleepers_hold(&some);
	is_int(some, SLEEPERS, "64 threads have filled their caches and sleep");
	for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
		drained += pcp_drain(p).pages;
	is_int(drained, held, "one thread drains them all");
	is_int(sleepers_hold(&some), 0, "no page is left in any of them");
	is_int(pages_used(), 0, "all are in the buddy core");
	bedroom_wake();
	for (unsigned i = 0; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
}

/* ---- disabling ------------------------------------------------------------------------------ */

static void test_disable(void)
{
	struct pcp *p = pcp_new();
	struct pcp *late;
	struct page *a = pcp_alloc(p, rc_of(1));
	struct page *run[4];

	ok(pcp_disable(), "the caches can be disabled");
	ok(pcp_disable(), "twice");
	pcp_drain(p);
	pcp_free(p, a);
	is_int(p->count, 0, "then no page enters by a free");
	a = pcp_alloc(p, rc_of(1));
	is_int(p->count, 0, "nor by a refill");
	pcp_alloc_bulk(p, 0, 4, run);
	pcp_free_bulk(p, run, 4);
	is_int(p->count, 0, "nor by a bulk free");
	late = pcp_new();
	pcp_free(late, a);
	is_int(late->count, 0, "nor into a cache made meanwhile");
	pcp_enable();
	pcp_free(p, pcp_alloc(p, rc_of(1)));
	is_int(p->count, 0, "an enable for two disables changes nothing");
	pcp_enable();
	pcp_free(p, pcp_alloc(p, rc_of(1)));
	pcp_free(late, pcp_alloc(late, rc_of(1)));
	ok(p->count > 0 && late->count > 0, "the second one turns the caches on again");
	pcp_drain(p);
	pcp_drain(late);
	is_int(pages_used(), 0, "nothing is lost");
}

/* A cache whose lock is not given back: the disable fails and has changed nothing. */
static void test_disable_refused(void)
{
	struct pcp *p = pcp_new();
	bool done;

	atomic_store(&p->lock.word, 1); /* by a thread that is not there */
	done = pcp_disable();
	ok(!done, "a disable that cannot reach a cache says so");
	atomic_store(&p->lock.word, 0);
	pcp_enable(); /* what the caller does in any case, see reclaim_pcp_disable */
	pcp_free(p, pcp_alloc(p, rc_of(1)));
	ok(p->count > 0, "and the cache is on after the enable");
	pcp_drain(p);
}

/* ---- stress --------------------------------------------------------------------------------- */

static atomic_bool stress_over;
static atomic_bool stress_bad;
static atomic_bool stress_drained;

#define STRESS_RUNS 64u
#define STRESS_STEPS 150000u

struct owner {
	struct pcp *p;
	unsigned seed;
};

static void stamp(struct page *pg, uint64_t v)
{
	for (uint32_t i = 0; i < pg->npages; i++)
		memcpy(page_address(pg) + ((size_t)i << PG_SHIFT), &v, sizeof(v));
	pg->zero = 0;
}

static bool stamped(struct page *pg, uint64_t v)
{
	for (uint32_t i = 0; i < pg->npages; i++)
		if (memcmp(page_address(pg) + ((size_t)i << PG_SHIFT), &v, sizeof(v)))
			return false;
	return true;
}

static void *owner_thread(void *arg)
{
	struct owner *o = arg;
	struct page *run[STRESS_RUNS] = { NULL };
	uint64_t v[STRESS_RUNS];

	/* Until the drainer has had some as well: it may be long before it gets a processor. */
	for (unsigned i = 0;
	     i < STRESS_STEPS || (i < 50 * STRESS_STEPS && !atomic_load(&stress_drained)); i++) {
		unsigned k = (unsigned)rand_r(&o->seed) % STRESS_RUNS;
		unsigned rc = (unsigned)rand_r(&o->seed) % ((i & 7) ? 4 : RUN_CLASSES);

		if (run[k]) {
			if (!stamped(run[k], v[k]))
				atomic_store(&stress_bad, true);
			pcp_free(o->p, run[k]);
			run[k] = NULL;
		} else {
			run[k] = pcp_alloc(o->p, rc);
			v[k] = ((uint64_t)(uintptr_t)o << 20) + i;
			if (run[k]->npages != run_class_pages[rc])
				atomic_store(&stress_bad, true);
			stamp(run[k], v[k]);
		}
	}
	for (unsigned k = 0; k < STRESS_RUNS; k++)
		if (run[k])
			pcp_free(o->p, run[k]);
	return NULL;
}

static void *drainer_thread(void *arg)
{
	uint64_t *pages = arg;

	for (unsigned i = 0; !atomic_load(&stress_over); i++) {
		for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
			*pages += i % 4 ? pcp_drain(p).pages : pcp_decay(p);
		if (*pages)
			atomic_store(&stress_drained, true);
		if (i % 64 == 0 && pcp_disable())
			pcp_enable();
		if (i % 16 == 0)
			buddy_purge(&zone, 0, UINT64_MAX);
		sched_yield();
	}
	return NULL;
}

static void test_stress(void)
{
	struct owner owner[3];
	pthread_t t[3];
	pthread_t drainer;
	uint64_t pages = 0;
	uint64_t bypassed = stat_sum(STAT_pcp_bypassed);

	for (unsigned i = 0; i < 3; i++) {
		owner[i] = (struct owner){ pcp_new(), 77 + i };
		pthread_create(&t[i], NULL, owner_thread, &owner[i]);
	}
	pthread_create(&drainer, NULL, drainer_thread, &pages);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	atomic_store(&stress_over, true);
	pthread_join(drainer, NULL);
	tap_diag("%ju pages drained, %ju calls went past a locked cache", (uintmax_t)pages,
		 (uintmax_t)(stat_sum(STAT_pcp_bypassed) - bypassed));
	ok(!atomic_load(&stress_bad), "with a drainer at work all the time no run loses its data");
	ok(pages > 0, "and the drainer got something");
	for (unsigned i = 0; i < 3; i++) {
		pcp_check(owner[i].p);
		pcp_drain(owner[i].p);
	}
	buddy_check(&zone);
	is_int(pages_used(), 0, "nothing is lost");
}

/* ---- fork ----------------------------------------------------------------------------------- */

static struct pcp *forked;
static uint32_t parent;

static void in_child(void *arg)
{
	bool interrupted = arg != NULL;

	lock_fork_new_process();
	pcp_fork_child(parent);
	if (atomic_load(&forked->lock.word) != (interrupted ? self_tid() : 0))
		_exit(3);
	if (interrupted)
		spin_unlock(&forked->lock);
	pcp_check(forked);
	if (!pcp_drain(forked).pages)
		_exit(4);
}

/* A child of a thread that did not have it, as if another had been in it. */
static void in_child_of_other(void *arg)
{
	(void)arg;
	lock_fork_new_process();
	pcp_fork_child(1);
	if (atomic_load(&forked->lock.word) || pcp_drain(forked).pages)
		_exit(3);
}

/* T8: a fork in a handler that interrupted a call which has a page cache. */
static void test_fork(void)
{
	struct pcp *p = pcp_new();

	forked = p;
	parent = self_tid();
	put_pages(p, 1, 4);
	pcp_fork_prepare();
	is_int(atomic_load(&p->lock.word), parent, "before a fork a page cache is held");
	ok(child_is_well(in_child, NULL), "the child finds it free, and as it was");
	pcp_fork_parent();
	is_int(atomic_load(&p->lock.word), 0, "and so does the parent");
	if (!spin_trylock(&p->lock))
		tap_bail_out("the lock is held");
	pcp_fork_prepare();
	ok(child_is_well(in_child, p), "what an interrupted call holds stays its own in the child");
	ok(child_is_well(in_child_of_other, NULL), "what another thread held is emptied there");
	pcp_fork_parent();
	is_int(atomic_load(&p->lock.word), parent, "and in the parent the call holds it still");
	spin_unlock(&p->lock);
	pcp_drain(p);
	pcp_fork_prepare();
	is_int(atomic_load(&p->lock.word), 0, "one that holds nothing is let be");
	pcp_fork_parent();
}

int main(void)
{
	static struct page *all[PAGES];

	tap_plan(88);
	vm_init();
	options.reserve_address = (uint64_t)1 << 30;
	options.pcp_high_min = HIGH_MIN * PG_BYTES;
	options.pcp_high_max = HIGH_MAX * PG_BYTES;
	options.pcp_batch = BATCH * PG_BYTES;
	/* Nobody is to empty the caches of this test because the zone grows, or much fresh memory is
	 * used: there is enough of it. */
	if (buddy_alloc_bulk(&zone, 1, PAGES, PAGES, all) != PAGES)
		tap_bail_out("no memory");
	buddy_free_bulk(all, PAGES);
	atomic_store(&zone.ask_at, UINT64_MAX);
	test_classes();
	test_hit_and_miss();
	test_no_class();
	test_high();
	test_bounds();
	test_bypass();
	test_bulk();
	test_drain();
	test_sleepers();
	test_disable();
	test_disable_refused();
	test_stress();
	test_fork();
	return tap_done();
}
