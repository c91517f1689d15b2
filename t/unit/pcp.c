/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pcps: what goes through them, what they may hold, and that any thread can empty them.
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
#include "base/clock.h"
#include "base/options.h"
#include "page/block.h"
#include "page/pagemap.h"
#include "page/pcp.h"
#include "page/purge.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "os/vm.h"

#define HIGH_MIN 16u /* in pages; the test sets the options so */
#define HIGH_MAX 256u
#define BATCH 8u
#define SLEEPERS 64u
#define PAGES 20000u /* pages of the zone */

static struct zone zone = {
	.lock = LOCK_INIT(LOCK_BUDDY),
	.grow = LOCK_INIT(LOCK_GROW),
};

/* A pcp is never freed: each test has its own. They belong to no heap, so what is done to all of
 * them is done here. */
static struct pcp pcps[SLEEPERS + 32];
static unsigned pcps_used;

static struct pcp *pcp_new(void)
{
	struct pcp *p = &pcps[pcps_used];

	if (pcps_used == sizeof(pcps) / sizeof(pcps[0]))
		tap_bail_out("too few pcps");
	pcp_init(p, &zone);
	pcps_used++;
	pcp_open(p);
	return p;
}

static bool set_disabled(bool on)
{
	bool all = true;

	for (unsigned i = 0; i < pcps_used; i++)
		all &= pcp_set_disabled(&pcps[i], on);
	return all;
}

static bool disable(void)
{
	return !pcp_disable_begin() || set_disabled(true);
}

static void enable(void)
{
	if (pcp_disable_end())
		set_disabled(false);
}

static uint64_t pages_used(void)
{
	return zone.total_pages - zone.free_pages;
}

static unsigned rc_of(uint32_t npages)
{
	return run_class_of(npages);
}

/* Fills it to `high` from outside. */
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
	ok(rising, "run classes rise, by at most a quarter");
	is_int(run_class_pages[RUN_CLASSES - 1], PCP_RUN_MAX, "the last class is the largest run");
}

/* ---- the owner's calls ---------------------------------------------------------------------- */

static void test_hit_and_miss(void)
{
	struct pcp *p = pcp_new();
	uint64_t refills = stat_sum(STAT_pcp_refills);
	struct page *a;
	struct page *b;
	uint32_t count;

	is_int(p->count, 0, "a new pcp is empty");
	is_int(p->high, HIGH_MIN, "a new pcp may hold what the option says");
	a = pcp_alloc(p, rc_of(1));
	ok(a && a->kind == PAGE_LIMBO && a->npages == 1,
	   "a run that the pcp does not have can be allocated");
	is_int(stat_sum(STAT_pcp_refills) - refills, 1, "the first allocation makes one refill");
	count = p->count;
	ok(count > 0 && count <= p->high, "a refill brings more than one run, within the limit");
	b = pcp_alloc(p, rc_of(1));
	is_int(p->count, count - 1, "the next allocation comes out of the pcp");
	is_int(stat_sum(STAT_pcp_refills) - refills, 1,
	       "an allocation out of the pcp makes no refill");
	pcp_free(p, b);
	is_int(p->count, count, "a free puts the run back into the pcp");
	ok(b->kind == PAGE_PCP && b->list == LIST_PCP,
	   "a cached run's descriptor says where it is");
	ok(pcp_alloc(p, rc_of(1)) == b, "the run freed last is the first to be used again");
	pcp_free(p, b);
	pcp_free(p, a);
	pcp_check(p);
	is_int(pcp_drain(p).pages, count + 1, "a drain gives back all that the pcp holds");
	is_int(pages_used(), 0, "drained runs are free in the buddy core");
}

static void test_no_class(void)
{
	struct pcp *p = pcp_new();
	uint64_t used = pages_used();

	pcp_free(p, buddy_alloc(&zone, 9));
	is_int(p->count, 0, "a run whose length is no class bypasses the pcp");
	pcp_free(p, buddy_alloc(&zone, 100));
	is_int(p->count, 0, "a run longer than the longest class bypasses the pcp");
	p->high = 4;
	pcp_free(p, buddy_alloc(&zone, 8));
	is_int(p->count, 0, "a run of more than the pcp may hold bypasses it");
	is_int(pages_used(), used, "runs that bypassed the pcp are free in the buddy core");
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
	ok(within, "a refill never brings more than the pcp may hold");
	is_int(p->high, HIGH_MAX, "the limit grows to the highest while only allocations come");
	is_int(p->alloc_factor, 4, "refills grow to 16 batches while only allocations come");
	for (n = 0; n < 1000; n++) {
		pcp_free(p, run[n]);
		within &= p->count <= p->high;
	}
	ok(within, "after a free the pcp never holds more than it may");
	ok(p->count > HIGH_MAX / 2, "the pcp makes use of its limit");
	ok(p->alloc_factor < 4 && p->free_factor > 0, "spills make the refills smaller again");
	before = p->high;
	pcp_decay(p);
	is_int(p->high, before - (before - HIGH_MIN) / 8, "a decay lowers the limit by an eighth");
	for (unsigned i = 0; i < 100; i++)
		pcp_decay(p);
	ok(p->high < HIGH_MIN + 8, "many decays lower the limit to the lowest");
	ok(p->count <= p->high, "what is above a lowered limit goes to the buddy core");
	pcp_check(p);
	pcp_free_bulk(p, run + 1000, 1000);
	ok(p->count <= p->high, "a bulk free keeps within the limit");
	pcp_drain(p);
	zone_check(&zone);
	is_int(pages_used(), 0, "growing and decaying lose no page");
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
	ok(within, "in 100,000 random steps the pcp stays within its limits");
	for (unsigned i = 0; i < 300; i++)
		if (run[i])
			pcp_free(p, run[i]);
	pcp_check(p);
	pcp_drain(p);
	zone_check(&zone);
	is_int(pages_used(), 0, "random steps lose no page");
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
		tap_bail_out("the lock of a pcp is held");
	b = pcp_alloc(p, rc_of(2));
	ok(b != NULL, "an allocation bypasses a locked pcp");
	is_int(p->count, count, "an allocation leaves what a locked pcp holds");
	pcp_free(p, b);
	is_int(p->count, count, "a free bypasses a locked pcp");
	is_int(stat_sum(STAT_pcp_bypassed) - bypassed, 2,
	       "calls that bypass a locked pcp are counted");
	is_int(pcp_alloc_bulk(p, 0, 10, run), 10, "a bulk allocation bypasses a locked pcp");
	pcp_free_bulk(p, run, 10);
	is_int(p->count, count, "a bulk free bypasses a locked pcp");
	ok(b->kind != PAGE_PCP, "a run freed past a locked pcp is in the buddy core");
	d = pcp_drain(p);
	ok(d.skipped && d.pages == 0 && p->count == count,
	   "a drain skips a locked pcp, and says so");
	is_int(pcp_decay(p), 0, "a decay skips a locked pcp");
	spin_unlock(&p->lock);
	d = pcp_drain(p);
	ok(!d.skipped && d.pages == count, "a drain empties the pcp once it is unlocked");
	pcp_free(p, a);
	pcp_drain(p);
	is_int(pages_used(), 0, "a locked pcp loses no page");
}

static void test_bulk(void)
{
	struct pcp *p = pcp_new();
	struct page *run[200];
	uint64_t bypassed = stat_sum(STAT_pcp_bypassed);
	bool right = true;

	put_pages(p, 2, 6);
	is_int(p->count, 12, "six runs of two pages are in the pcp");
	is_int(pcp_alloc_bulk(p, 1, 4, run), 4, "a bulk request gets its runs");
	is_int(p->count, 4, "a bulk request takes runs from the pcp as far as it has them");
	is_int(pcp_alloc_bulk(p, 1, 100, run + 4), 100,
	       "a bulk request takes the rest from the buddy core");
	is_int(p->count, 0, "the pcp is empty after a larger bulk request");
	for (unsigned i = 0; i < 104; i++)
		right &= run[i]->npages == 2 && run[i]->kind == PAGE_LIMBO;
	ok(right, "each run of a bulk request has the right length");
	pcp_free_bulk(p, run, 104);
	is_int(p->count, p->high, "a bulk free fills the pcp to its limit");
	pcp_check(p);
	p->high = p->high_max;
	is_int(pcp_alloc_bulk(p, 0, 100, run), 100, "a bulk request gets a hundred pages");
	pcp_free_bulk(p, run, 100);
	ok(p->runs[0].first && p->count >= 100,
	   "a bulk free keeps a hundred pages, a few in each hold of the lock");
	is_int(pcp_alloc_bulk(p, 0, 100, run), 100,
	       "a bulk request gets them again, a few in each hold (debug builds count)");
	pcp_free_bulk(p, run, 100);
	pcp_check(p);
	is_int(pcp_alloc_bulk(p, 7, 3, run), 3, "a bulk request gets runs longer than any class");
	pcp_free_bulk(p, run, 3);
	pcp_drain(p);
	is_int(pages_used(), 0, "bulk calls lose no page");
	is_int(stat_sum(STAT_pcp_bypassed) - bypassed, 0, "bulk calls found no pcp locked");
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
	ok(count > HIGH_MIN && p->high == HIGH_MAX, "the pcp has grown and is filled");
	is_int(used, count, "all pages in use are those of the pcp");
	pthread_create(&t, NULL, drain_thread, p);
	pthread_join(t, &pages);
	is_int((uintptr_t)pages, count, "another thread drains all of the pcp");
	is_int(p->count, 0, "a drained pcp is empty");
	is_int(p->high, HIGH_MIN, "a drained pcp may hold as little as at first");
	ok(p->alloc_factor == 0 && p->free_factor == 0,
	   "the batches of a drained pcp are small again");
	is_int(pages_used(), 0, "the pages of a drained pcp are free in the buddy core");
	pcp_check(p);
	zone_check(&zone);
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

static void test_drain_to(void)
{
	struct pcp *p = pcp_new();
	struct page *run[200];
	uint32_t count;

	for (unsigned i = 0; i < 200; i++)
		run[i] = pcp_alloc(p, rc_of(1));
	for (unsigned i = 0; i < 200; i++)
		pcp_free(p, run[i]);
	count = p->count;
	is_int(pcp_drain_to(p, 40).pages, count - 40, "a drain to a bound takes what is above it");
	ok(p->count == 40 && p->high == 40, "as many pages stay, and no more than they may");
	is_int(pcp_drain_to(p, 40).pages, 0, "a second one takes nothing");
	for (unsigned i = 0; i < 40; i++)
		if (pcp_alloc(p, rc_of(1)) != run[199 - i])
			run[0] = NULL;
	ok(run[0] != NULL && p->count == 0, "what stays was freed last");
	for (unsigned i = 160; i < 200; i++)
		pcp_free(p, run[i]);
	if (!disable())
		tap_bail_out("the pcps cannot be disabled");
	pcp_drain_to(p, 40);
	is_int(p->count, 0, "while pcps are disabled nothing stays");
	enable();
	pcp_check(p);
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
	is_int(some, SLEEPERS, "64 threads have filled their pcps and sleep");
	for (unsigned i = 0; i < pcps_used; i++)
		drained += pcp_drain(&pcps[i]).pages;
	is_int(drained, held, "one thread drains the pcps of 64 sleeping threads");
	is_int(sleepers_hold(&some), 0, "no page is left in any drained pcp");
	is_int(pages_used(), 0, "the pages of all drained pcps are in the buddy core");
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

	ok(disable(), "the pcps can be disabled");
	ok(disable(), "twice");
	pcp_drain(p);
	pcp_free(p, a);
	is_int(p->count, 0, "no page enters a disabled pcp by a free");
	a = pcp_alloc(p, rc_of(1));
	is_int(p->count, 0, "no page enters a disabled pcp by a refill");
	pcp_alloc_bulk(p, 0, 4, run);
	pcp_free_bulk(p, run, 4);
	is_int(p->count, 0, "no page enters a disabled pcp by a bulk free");
	late = pcp_new();
	pcp_free(late, a);
	is_int(late->count, 0, "no page enters a pcp that was made while they are disabled");
	enable();
	pcp_free(p, pcp_alloc(p, rc_of(1)));
	is_int(p->count, 0, "one enable after two disables changes nothing");
	enable();
	pcp_free(p, pcp_alloc(p, rc_of(1)));
	pcp_free(late, pcp_alloc(late, rc_of(1)));
	ok(p->count > 0 && late->count > 0, "the second enable turns the pcps on again");
	pcp_drain(p);
	pcp_drain(late);
	is_int(pages_used(), 0, "disabling loses no page");
}

/* A pcp whose lock is not released: the disable fails and changes nothing. */
static void test_disable_refused(void)
{
	struct pcp *p = pcp_new();
	bool done;

	atomic_store(&p->lock.word, 1); /* by a thread that does not exist */
	done = disable();
	ok(!done, "a disable that cannot reach a pcp says so");
	atomic_store(&p->lock.word, 0);
	enable(); /* the caller does so in any case, see reclaim_pcp_disable */
	pcp_free(p, pcp_alloc(p, rc_of(1)));
	ok(p->count > 0, "the pcp is on after a failed disable and the enable");
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
	pg->backing = BACKING_DIRTY;
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

	/* Runs on until the drainer got something; it may wait long for a processor. */
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
		for (unsigned k = 0; k < pcps_used; k++)
			*pages += i % 4 ? pcp_drain(&pcps[k]).pages : pcp_decay(&pcps[k]);
		if (*pages)
			atomic_store(&stress_drained, true);
		if (i % 64 == 0) { /* also after a disable that could not reach all pcps */
			disable();
			enable();
		}
		if (i % 16 == 0)
			zone_purge(&zone, 0, UINT64_MAX);
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
	ok(!atomic_load(&stress_bad),
	   "while a drainer is at work all the time no run loses its data");
	ok(pages > 0, "the drainer got something");
	for (unsigned i = 0; i < 3; i++) {
		pcp_check(owner[i].p);
		pcp_drain(owner[i].p);
	}
	zone_check(&zone);
	is_int(pages_used(), 0, "a drainer at work loses no page");
}

/* ---- fork ----------------------------------------------------------------------------------- */

static struct pcp *forked;
static uint32_t parent;

static void in_child(void *arg)
{
	bool interrupted = arg != NULL;

	lock_fork_new_process(lock_tid);
	pcp_fork_child(forked, parent);
	if (atomic_load(&forked->lock.word) != (interrupted ? self_tid() : 0))
		_exit(3);
	if (interrupted)
		spin_unlock(&forked->lock);
	pcp_check(forked);
	if (!pcp_drain(forked).pages)
		_exit(4);
}

/* A child of a thread that did not hold it, as if another thread had been inside. */
static void in_child_of_other(void *arg)
{
	(void)arg;
	lock_fork_new_process(lock_tid);
	pcp_fork_child(forked, 1);
	if (atomic_load(&forked->lock.word) || pcp_drain(forked).pages)
		_exit(3);
}

/* T8: a fork in a handler that interrupted a call which holds a pcp. */
static void test_fork(void)
{
	struct pcp *p = pcp_new();

	forked = p;
	parent = self_tid();
	put_pages(p, 1, 4);
	pcp_fork_hold(p);
	is_int(atomic_load(&p->lock.word), parent, "a pcp is held before a fork");
	ok(child_is_well(in_child, NULL), "the child finds that pcp free and unchanged");
	pcp_fork_parent();
	is_int(atomic_load(&p->lock.word), 0, "the parent finds that pcp free and unchanged");
	if (!spin_trylock(&p->lock))
		tap_bail_out("the lock of a pcp is held by the forking thread");
	pcp_fork_hold(p);
	ok(child_is_well(in_child, p),
	   "a pcp that the interrupted call holds stays its own in the child");
	ok(child_is_well(in_child_of_other, NULL),
	   "a pcp that another thread held is emptied in the child");
	pcp_fork_parent();
	is_int(atomic_load(&p->lock.word), parent,
	       "the interrupted call still holds its pcp in the parent");
	spin_unlock(&p->lock);
	pcp_drain(p);
	pcp_fork_hold(p);
	is_int(atomic_load(&p->lock.word), 0, "a pcp that holds nothing is left as it is");
	pcp_fork_parent();
}

int main(void)
{
	static struct page *all[PAGES];

	tap_plan(93);
	vm_init();
	options.va_reserve = (uint64_t)1 << 30;
	options.pcp_high_min = HIGH_MIN * PG_BYTES;
	options.pcp_high_max = HIGH_MAX * PG_BYTES;
	options.pcp_batch = BATCH * PG_BYTES;
	/* Takes enough pages first, so that the zone's growth or much fresh memory does not make
	 * reclaim empty the pcps of this test. */
	if (buddy_alloc_bulk(&zone, 1, PAGES, PAGES, all) != PAGES)
		tap_bail_out("no memory");
	buddy_free_bulk(all, PAGES);
	atomic_store(&zone.growth.ask_at, UINT64_MAX);
	test_classes();
	test_hit_and_miss();
	test_no_class();
	test_high();
	test_bounds();
	test_bypass();
	test_bulk();
	test_drain();
	test_drain_to();
	test_sleepers();
	test_disable();
	test_disable_refused();
	test_stress();
	test_fork();
	return tap_done();
}
