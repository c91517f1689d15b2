/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one growth does for others is bounded, however many threads there are and whatever they
 * hold. The growths that follow go on where it ended, and reach every thread. Where there is no
 * background thread they make holes, too.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>

#include "lib/barrier.h"
#include "lib/bedroom.h"
#include "page/buddy.h"
#include "os/vm.h"
#include "page/growth.h"
#include "page/purge.h"
#include "lib/core.h"
#include "heap/heap.h"
#include "heap/claim.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/heap_work.h"
#include "heap/holes.h"
#include "heap/slab_pool.h"
#include "heap/sweep.h"
#include "shim/init.h"
#include "reclaim/reclaim.h"
#include "lib/tap.h"
#define OBJECTS 8000u /* so that a few of them are more than one growth moves */
#include "lib/worker.h"

#define THREADS 700u
#define ROUNDS 100000u /* a test gives up after so many growths */

static struct heap *heap_of[THREADS];

static void *sleeper(void *arg)
{
	void *p[16];

	for (unsigned i = 0; i < 16; i++)
		p[i] = alloc(200 + i * 300);
	for (unsigned i = 0; i < 16; i++)
		heap_free(p[i]);
	heap_free(alloc(SMALL_MAX + 1000)); /* its pcp holds something as well */
	*(struct heap **)arg = heap_self;
	bedroom_sleep();
	return NULL;
}

static unsigned still_hold(unsigned threads)
{
	unsigned n = 0;

	for (unsigned i = 0; i < threads; i++)
		n += !heap_of[i]->drained || heap_of[i]->pcp.count;
	return n;
}

static pthread_t thread[THREADS];

/* Starts the i-th thread, and waits until it sleeps as those before do. */
static void one_more(unsigned i)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	if (pthread_create(&thread[i], &attr, sleeper, &heap_of[i]) != 0)
		tap_bail_out("cannot start a thread");
	pthread_attr_destroy(&attr);
	bedroom_wait(i + 1);
}

static void end_all(void)
{
	bedroom_wake();
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	bedroom_again();
}

static void test_many(void)
{
	unsigned most_heaps = 0;
	unsigned most_caches = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < THREADS; i++)
		one_more(i);
	ok(still_hold(THREADS) == THREADS, "many threads hold something and sleep");
	while (still_hold(THREADS) && ++n < ROUNDS) {
		uint64_t heaps = value("heaps_drained");
		uint64_t caches = value("pcp_drains");

		reclaim_before_growth();
		heaps = value("heaps_drained") - heaps;
		caches = value("pcp_drains") - caches;
		most_heaps = heaps > most_heaps ? (unsigned)heaps : most_heaps;
		most_caches = caches > most_caches ? (unsigned)caches : most_caches;
	}
	tap_diag("%u growths; at most %u heaps and %u pcps in one", n, most_heaps, most_caches);
	ok(most_heaps <= GROWTH_STEPS / CLAIM_STEPS,
	   "one growth empties a bounded number of heaps");
	ok(most_caches <= GROWTH_HEAPS + GROWTH_STEPS / CLAIM_STEPS + 2,
	   "one growth empties a bounded number of pcps");
	is_int(still_hold(THREADS), 0, "some growths empty all heaps and pcps together");
	end_all();
}

/* Each GROWTH_NEW new heaps there is a step of growth, which begins with the newest ones. */
static void test_new(void)
{
	unsigned most = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		unsigned n;

		one_more(i);
		n = still_hold(i + 1);
		most = i >= THREADS / 2 && n > most ? n : most;
	}
	tap_diag("%u of %u heaps held something at most", most, THREADS);
	ok(most <= 8 * GROWTH_NEW,
	   "of threads that start one after the other and sleep, few heaps hold something");
	end_all();
}

/* A heap that holds more than one growth may move. */
static void test_large(void)
{
	static struct worker w;
	uint64_t slabs = value("slab_bytes");
	unsigned n = 0;
	unsigned more = 0;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	while (!w.heap->drained && ++n < ROUNDS)
		reclaim_before_growth();
	ok(w.heap->drained, "a heap that holds much is emptied");
	tap_diag("%u growths", n);
	ok(n > 2, "several growths are needed for a heap that holds much");
	ok(intact(&w), "live objects of an emptied heap keep their data");

	worker_do(&w, free_all);
	worker_do(&w, fill_and_free_odd);
	for (unsigned i = 0; i < 20; i++) {
		/* One growth marks it, others begin to empty it; then its owner makes a call. */
		for (unsigned growths = 0; growths < 3; growths++)
			reclaim_before_growth();
		more += !w.heap->drained;
		worker_do(&w, check);
	}
	ok(more > 0, "an owner that comes back while its heap is emptied in part finds it whole");
	ok(intact(&w), "live objects of a partly emptied heap keep their data");
	worker_do(&w, free_all);
	worker_end(&w);
	n = 0;
	while (value("slab_bytes") > slabs && ++n < ROUNDS) {
		reclaim_before_growth();
		heap_sweep();
	}
	ok(value("slab_bytes") <= slabs, "growths lose nothing");
}

/* Slabs that are abandoned, with few live objects. */
static void test_holes(void)
{
	static void *o[4000];
	unsigned cls = class_of(1000);
	uint64_t wait;
	uint64_t bytes;

	for (unsigned i = 0; i < 4000; i++)
		o[i] = alloc(1000);
	for (unsigned i = 0; i < 4000; i++)
		if (i % 40)
			heap_free(o[i]);
	heap_abandon_own();
	wait = slab_pool_count_new(cls);
	bytes = value("holes_purged_bytes");
	trim_inline = false;
	reclaim_before_growth();
	is_int(value("holes_purged_bytes"), bytes, "a growth leaves holes to a background thread");
	trim_inline = true;
	reclaim_before_growth();
	ok(slab_pool_count_new(cls) < wait && slab_pool_count_new(cls) + 20 > wait,
	   "without one a growth looks at a bounded number of abandoned slabs");
	if (vm_os_page == HOLE_BYTES)
		ok(value("holes_purged_bytes") > bytes, "and gives back the holes in them");
	else
		tap_skip(1, "the kernel's pages are not of 4 KiB");
	for (unsigned i = 0; slab_pool_count_new(cls) && i < 1000; i++)
		reclaim_before_growth();
	is_int(slab_pool_count_new(cls), 0, "further growths look at all of them");
	for (unsigned i = 0; i < 4000; i += 40)
		heap_free(o[i]);
}

int main(void)
{
	if (UNDER_TSAN)
		tap_skip_all("ThreadSanitizer knows nothing of membarrier");
	sluice_init();
	alloc(16);
	if (!membarrier_global())
		tap_skip_all("the kernel has no membarrier, or forbids it");
	tap_plan(15);
	test_new();
	growth_ask_others = NULL; /* only the test causes growths */
	heap_new_asks = NULL;
	test_many();
	test_large();
	test_holes();
	return tap_done();
}
