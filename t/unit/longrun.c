/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Long runs that were freed and are kept: which request gets them, how many there may be, and how
 * they go.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>

#include "lib/core.h"
#include "page/block.h"
#include "page/longrun.h"
#include "base/options.h"
#include "reclaim/reclaim.h"
#include "lib/tap.h"

#define THREADS 8u
#define TURNS 20000u
#define PAGES_A 192u
#define PAGES_B 200u

static struct page *run(uint32_t npages)
{
	struct page *pg = buddy_alloc(&zone_main, npages);

	if (!pg)
		tap_bail_out("no memory");
	return pg;
}

static void test_reuse(void)
{
	uint64_t used = zone_used_pages(&zone_main);
	struct page *a = run(PAGES_A);
	struct page *b = run(PAGES_B);
	struct page *shorter = run(PCP_RUN_MAX);

	ok(!longrun_put(shorter), "a run that fits into a pcp is not kept");
	buddy_free(shorter);
	ok(longrun_put(a) && longrun_put(b), "two long runs are kept");
	is_int(longrun_pages(), PAGES_A + PAGES_B, "kept runs are counted");
	ok(longrun_take(PAGES_B) == b, "a request gets the kept run of its length");
	ok(longrun_take(PAGES_A) == a, "a second request gets the other kept run");
	is_int(longrun_pages(), 0, "no run is kept when both are taken");
	ok(longrun_put(a), "a run that was taken can be kept again");
	ok(longrun_take(PAGES_A + 1) == NULL, "a request of another length gets no kept run");
	is_int(longrun_pages(), 0,
	       "a request of another length returns the thread's kept run to the buddy core");
	longrun_put(b);
	is_int(longrun_drain(), PAGES_B, "a drain returns a kept run to the buddy core");
	is_int(zone_used_pages(&zone_main), used, "all pages are free after the drain");
}

static void test_age(void)
{
	struct page *a = run(PAGES_A);

	longrun_put(a);
	is_int(longrun_age(), 0, "a run that was kept lately stays");
	ok(longrun_take(PAGES_A) == a, "a run that stayed can be taken");
	longrun_put(a);
	is_int(longrun_age(), 0, "a run that was kept again stays as long as a new one");
	is_int(longrun_age(), PAGES_A, "a run that was kept for a whole period goes");
	is_int(longrun_pages(), 0, "no run is kept after that");
}

static void test_most(void)
{
	uint32_t n = RUN_PAGES_MAX;
	uint64_t dirty_max = options.dirty_max;
	struct page *a = run(n);
	struct page *b = run(n);

	ok(longrun_put(a), "one run of 32 MiB is kept");
	ok(!longrun_put(b), "a second run of 32 MiB is not kept");
	longrun_drain();
	options.dirty_max = (uint64_t)n * PG_BYTES;
	ok(!longrun_put(b), "a run of more than half of dirty_max is not kept");
	options.dirty_max = dirty_max;
	is_int(longrun_pages(), 0, "a run that is not kept is not counted");
	buddy_free(b);
}

static void test_heap(void)
{
	struct reclaim_report report;
	void *p = heap_alloc((size_t)PAGES_A * PG_BYTES);
	void *q;

	heap_free(p);
	is_int(longrun_pages(), PAGES_A, "a block of 3 MiB that was freed is kept");
	q = heap_alloc((size_t)PAGES_A * PG_BYTES);
	ok(q == p, "the next block of that size is the same one");
	heap_free(q);
	reclaim_drain(RECLAIM_CACHES, 0, &report);
	is_int(longrun_pages(), 0, "a drain of the caches reaches a kept run");
	ok(report.bytes_drained >= (uint64_t)PAGES_A * PG_BYTES, "a drain reports a kept run");
}

static _Atomic unsigned bad;

/* The thread that has a run writes its name into the descriptor, which no other thread may do. */
static void *put_and_take(void *arg)
{
	uint8_t me = (uint8_t)(uintptr_t)arg;

	for (unsigned i = 0; i < TURNS; i++) {
		uint32_t n = i % 3 ? PAGES_A : PAGES_B;
		struct page *pg = longrun_take(n);

		if (!pg)
			pg = buddy_alloc(&zone_main, n);
		if (!pg)
			continue;
		if (pg->npages != n || page_kind(pg) != PAGE_LIMBO)
			atomic_fetch_add(&bad, 1);
		pg->cls = me;
		if (i % 64 == 0)
			sched_yield();
		if (pg->cls != me)
			atomic_fetch_add(&bad, 1);
		if (!longrun_put(pg))
			buddy_free(pg);
		if (i % 1024 == 0)
			longrun_age();
	}
	return NULL;
}

static void test_threads(void)
{
	uint64_t used = zone_used_pages(&zone_main);
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, put_and_take, (void *)(i + 1)) != 0)
			tap_bail_out("cannot start a thread");
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	is_int(atomic_load(&bad), 0, "no run is given to two threads");
	longrun_drain();
	is_int(longrun_pages(), 0, "no run is counted after a drain");
	is_int(zone_used_pages(&zone_main), used, "no run is lost");
	zone_check(&zone_main);
}

int main(void)
{
	heap_init();
	tap_plan(27);
	test_reuse();
	test_age();
	test_most();
	test_heap();
	test_threads();
	return tap_done();
}
