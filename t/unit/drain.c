/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A drain by one call: what it takes from threads that are in no call, what it reports of each
 * thread, and that caches start small after it.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sluice/sluice.h>
#include <time.h>

#include "lib/barrier.h"
#include "lib/child.h"
#include "page/block.h"
#include "page/buddy.h"
#include "page/growth.h"
#include "lib/core.h"
#include "heap/claim.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/heap_work.h"
#include "shim/init.h"
#include "base/options.h"
#include "reclaim/reclaim.h"
#include "lib/tap.h"
#include "lib/worker.h"
#include "os/vm.h"

#define TESTS 67
#define ROOM 64u
#define LARGE 65536u

static struct sluice_thread_drain list[ROOM];
static size_t listed;
static struct sluice_drain_report report;
static _Atomic bool working;

static void drain_threads(unsigned flags)
{
	listed = ROOM;
	memset(list, 0x55, sizeof(list));
	if (sluice_drain_threads(flags, &report, list, &listed) != 0)
		tap_bail_out("a drain was refused: errno %d", errno);
}

static bool all_bytes(const unsigned char *p, size_t n, unsigned char byte)
{
	return p[0] == byte && memcmp(p, p + 1, n - 1) == 0;
}

static const struct sluice_thread_drain *entry(uint32_t tid)
{
	static const struct sluice_thread_drain none = { .state = 99 };
	const struct sluice_thread_drain *found = NULL;

	for (size_t i = 0; i < listed && i < ROOM; i++) {
		if (list[i].tid == tid && found)
			return &none; /* twice */
		if (list[i].tid == tid)
			found = &list[i];
	}
	return found ? found : &none;
}

static const struct sluice_thread_drain *entry_of(const struct worker *w)
{
	return entry(atomic_load(&w->heap->tid));
}

/* ---- what comes back ------------------------------------------------------------------------ */

static void test_emptied(void)
{
	static struct worker w;
	const struct sluice_thread_drain *e;
	uint64_t slabs;
	uint64_t pages;

	drain_threads(0);
	slabs = value("slab_bytes");
	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	worker_do(&w, use_pages);
	pages = value("slab_bytes") - slabs + value("pcp_bytes");
	ok(pages > 0, "a thread caches objects and pages and sleeps");
	drain_threads(0);
	e = entry_of(&w);
	is_int(e->state, SLUICE_THREAD_EMPTIED, "a drain reports a sleeping thread as emptied");
	ok(e->bytes_cached >= pages && e->bytes_drained >= pages,
	   "a drain reports what a thread cached and that all of it was freed");
	is_int(value("slab_bytes"), slabs, "a drain leaves no slab of a sleeping thread");
	is_int(value("pcp_bytes"), 0, "a drain leaves no page in a pcp");
	ok(value("dirty_bytes") < max_size(PG_BYTES, vm_os_page),
	   "all whole kernel pages go back to the kernel");
	is_int(report.heaps_skipped, 0, "a drain of sleeping threads skips no heap");
	ok(report.heaps_emptied >= 2 && report.bytes_drained >= pages && report.bytes_purged > 0,
	   "a drain reports totals (memory that was never written needs no purge)");
	is_int(entry(self_tid())->state, SLUICE_THREAD_EMPTIED, "a drain lists the caller as well");
	drain_threads(0);
	e = entry_of(&w);
	ok(e->state == SLUICE_THREAD_EMPTIED && e->bytes_cached == 0 && e->bytes_drained == 0,
	   "a thread that made no call since has nothing to drain");
	worker_do(&w, fill_and_free_odd);
	drain_threads(0);
	e = entry_of(&w);
	ok(e->state == SLUICE_THREAD_EMPTIED && e->bytes_drained < e->bytes_cached,
	   "the free part of slabs with live objects counts as cached and stays");
	ok(intact(&w), "live objects of a drained thread keep their data");
	worker_do(&w, free_all);
	worker_end(&w);
	drain_threads(0);
	is_int(value("slab_bytes"), slabs, "drains lose nothing");
	zone_check(&zone_main);
}

/* Another thread's drain gives back as much as the owner's. */
static void drain_oneself(struct worker *w)
{
	(void)w;
	sluice_drain(SLUICE_DRAIN_IDLE, NULL);
}

static void test_as_owner(void)
{
	static struct worker w;
	uint64_t before;
	uint64_t by_owner;
	uint64_t by_other;

	worker_begin(&w);
	worker_do(&w, drain_oneself);
	before = zone_main.free_pages;
	worker_do(&w, fill_and_free_odd);
	worker_do(&w, drain_oneself);
	by_owner = zone_main.total_pages - zone_main.free_pages;
	worker_do(&w, free_all);
	worker_do(&w, drain_oneself);
	is_int(zone_main.free_pages, before, "no page is in use when all is freed and drained");
	worker_do(&w, fill_and_free_odd);
	sluice_drain(SLUICE_DRAIN_IDLE, NULL);
	by_other = zone_main.total_pages - zone_main.free_pages;
	ok(by_other <= by_owner,
	   "another thread's drain leaves no more pages in use than the owner's");
	worker_do(&w, free_all);
	worker_do(&w, drain_oneself);
	worker_end(&w);
}

static void test_own(void)
{
	uint64_t slabs;
	uint64_t objects;
	void *p[300];

	drain_threads(0);
	slabs = value("slab_bytes");
	objects = value("object_bytes");
	for (unsigned i = 0; i < 300; i++)
		p[i] = alloc(100);
	for (unsigned i = 1; i < 300; i++)
		heap_free(p[i]);
	drain_threads(SLUICE_DRAIN_IDLE);
	is_int(value("object_bytes") - objects, class_size(class_of(100)),
	       "a drain empties the caller's own bins");
	ok(atomic_load(&page_of(p[0])->owner) == heap_self,
	   "a slab that the caller uses stays its own");
	heap_free(p[0]);
	drain_threads(SLUICE_DRAIN_IDLE);
	is_int(value("slab_bytes"), slabs, "the caller's slabs go once nothing in them is used");
	heap_check();
}

/* Without memory, what sleeping threads cache in objects is used. */
static void test_failed_mapping(void)
{
	static struct worker w;
	static void *p[100000];
	bool (*before_growth)(uint64_t pages) = growth_ask_others;
	unsigned n = 0;

	growth_ask_others = NULL; /* it would have taken them */
	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	while (n < 100000 && (p[n] = heap_alloc(SMALL_MAX + 1)) != NULL)
		n++;
	options.vm_fail_at = 0;
	growth_ask_others = before_growth;
	ok(n < 100000 && w.heap->drained,
	   "malloc empties the heaps of sleeping threads before it fails");
	while (n)
		heap_free(p[--n]);
	worker_end(&w);
	drain_threads(0);
}

/* ---- what cannot be reached ----------------------------------------------------------------- */

static void call(struct worker *w)
{
	(void)w;
	heap_free_slow(heap_alloc_slow(200));
}

static void refill(struct worker *w)
{
	worker_do(w, fill_and_free_all);
	worker_do(w, use_pages);
}

static void test_calling(struct worker *w)
{
	struct heap_drain d;
	uint64_t marked;

	refill(w);
	marked = heap_idle_mark(false);
	worker_do(w, call);
	heap_drain(w->heap, HEAP_EMPTY, marked, true, &d);
	is_int(d.outcome, HEAP_CALLING, "a drain notices that the owner called since the mark");
	ok(!w->heap->drained && w->heap->claim == CLAIM_FREE,
	   "a drain leaves the heap of a calling thread alone");
	ok(w->heap->pcp.count == 0 && d.drained == d.cached && d.cached > 0,
	   "a drain empties the pcp of a calling thread");
}

static void call_often(struct worker *w)
{
	for (unsigned i = 0; i < 2 * BINS; i++)
		call(w);
}

/* Until it is told to stop. A few calls a millisecond, of its fast paths. */
static void work(struct worker *w)
{
	fill_and_free_all(w);
	atomic_store(&working, true);
	while (!atomic_load(&w->stop)) {
		heap_free(alloc(100));
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
}

/* On a busy machine the thread may have no processor for all of a drain, and is drained then. */
static void test_at_work(void)
{
	static struct worker w;
	static struct worker idle;
	bool kept = false;
	bool all = true;

	worker_begin(&w);
	worker_begin(&idle);
	worker_do(&w, call);
	for (unsigned i = 0; i < 100 && !kept; i++) {
		atomic_store(&working, false);
		atomic_store(&w.stop, false);
		worker_tell(&w, work);
		while (!atomic_load(&working))
			lock_pause();
		worker_do(&idle, fill_and_free_all);
		drain_threads(0);
		all &= entry_of(&idle)->state == SLUICE_THREAD_EMPTIED && idle.heap->drained;
		kept = entry_of(&w)->state == SLUICE_THREAD_CALLING && !w.heap->drained &&
		       report.heaps_hot == 1 && report.heaps_skipped == 1;
		atomic_store(&w.stop, true);
		while (sem_wait(&w.done) != 0)
			;
	}
	ok(kept, "a thread that makes calls while it is drained keeps its heap");
	ok(all, "one that has just fallen asleep is emptied");
	drain_threads(0);
	ok(entry_of(&w)->state == SLUICE_THREAD_EMPTIED && report.heaps_hot == 0 &&
		   report.bytes_hot == 0,
	   "once it sleeps all that it had goes");
	worker_end(&w);
	worker_end(&idle);
}

/* No memory: there is no working set. */
static void test_no_memory(struct worker *w)
{
	refill(w);
	worker_do(w, stay_inside);
	ok(heap_reclaim() && w->heap->pcp.count == 0,
	   "an allocation that finds no memory takes the pcp of a thread inside a call");
	worker_do(w, come_out);
}

static void test_inside(struct worker *w)
{
	uint64_t skipped;
	uint64_t asked;
	uint32_t pages;

	refill(w);
	worker_do(w, stay_inside);
	drain_threads(0);
	is_int(entry_of(w)->state, SLUICE_THREAD_INSIDE,
	       "a drain reports a thread that is inside a call");
	skipped = report.heaps_skipped;
	is_int(skipped, 1, "only the heap of the thread inside a call is skipped");
	pages = w->heap->pcp.count;
	ok(pages > 0 && pages <= HEAP_HOT_PAGES && report.heaps_hot == 1 &&
		   report.bytes_hot >= (uint64_t)pages * PG_BYTES,
	   "the pcp of a thread inside a call keeps the bound, and the report says so");
	ok(value("dirty_bytes") <= (uint64_t)HEAP_HOT_DIRTY * PG_BYTES &&
		   report.bytes_hot <= (uint64_t)(HEAP_HOT_PAGES + HEAP_HOT_DIRTY) * PG_BYTES,
	   "what stays for one thread at work in the buddy core has a bound");
	asked = value("trims_requested");
	drain_threads(SLUICE_DRAIN_ALL);
	ok(entry_of(w)->state == SLUICE_THREAD_INSIDE && w->heap->pcp.count == 0 &&
		   report.heaps_hot == 0 && report.bytes_hot == 0,
	   "a drain of all empties the pcp of a thread inside a call");
	/* But for pages that share one of the kernel's with others. */
	ok(value("dirty_bytes") < max_size(PG_BYTES, 4 * vm_os_page), "and leaves nothing dirty");
	is_int(value("trims_requested"), asked + 1, "and asks the thread to trim its heap");
	worker_do(w, come_out);
	asked = value("trims_done");
	worker_do(w, call_often);
	is_int(value("trims_done"), asked + 1, "which it does at its next calls");
	drain_threads(0);
	is_int(entry_of(w)->state, SLUICE_THREAD_EMPTIED,
	       "a thread that has left its call is emptied");
}

static void test_held(struct worker *w)
{
	refill(w);
	atomic_store(&w->heap->claim, CLAIM_STEP | CLAIM_HELD);
	drain_threads(0);
	is_int(entry_of(w)->state, SLUICE_THREAD_HELD, "a drain reports a claimed heap as held");
	heap_release(w->heap);
	drain_threads(0);
	is_int(entry_of(w)->state, SLUICE_THREAD_EMPTIED,
	       "a heap whose claim was released is emptied");
}

static void test_locked(struct worker *w)
{
	const struct sluice_thread_drain *e;
	uint32_t pages;

	refill(w);
	pages = w->heap->pcp.count;
	ok(spin_trylock(&w->heap->pcp.lock), "the lock of a pcp is held");
	drain_threads(0);
	e = entry_of(w);
	is_int(e->state, SLUICE_THREAD_LOCKED, "a drain reports a locked pcp");
	ok(e->bytes_cached >= (uint64_t)pages * PG_BYTES && e->bytes_drained > 0 &&
		   w->heap->pcp.count == pages,
	   "the heap of a thread with a locked pcp is emptied, its pcp is not");
	is_int(report.caches_skipped, 1, "a locked pcp counts as skipped");
	spin_unlock(&w->heap->pcp.lock);
	drain_threads(0);
	e = entry_of(w);
	ok(e->state == SLUICE_THREAD_EMPTIED && e->bytes_drained == (uint64_t)pages * PG_BYTES,
	   "a pcp that was unlocked is emptied");
}

static void test_unasked(struct worker *w)
{
	refill(w);
	drain_threads(SLUICE_DRAIN_CACHES);
	is_int(entry_of(w)->state, SLUICE_THREAD_UNASKED,
	       "a drain without IDLE does not ask for heaps");
	ok(!w->heap->drained && w->heap->pcp.count == 0, "a drain without IDLE empties pcps");
	drain_threads(SLUICE_DRAIN_PURGE);
	ok(listed == 0 && report.bytes_drained == 0, "a purge lists no thread");
	drain_threads(0);
}

static int without_membarrier(void)
{
	static struct worker w;
	bool good;

	if (!refuse_membarrier(true, EPERM))
		return CHILD_CANNOT;
	worker_begin(&w);
	refill(&w);
	drain_threads(0);
	good = entry_of(&w)->state == SLUICE_THREAD_CLOSED && !w.heap->drained &&
	       w.heap->pcp.count == 0 && value("membarrier_errno") == EPERM;
	worker_end(&w);
	return good ? CHILD_GOOD : CHILD_BAD;
}

static int without_quiet(void)
{
	static struct worker w;
	uint64_t global = value("barriers_global");
	uint64_t expedited;
	bool good;

	if (!refuse_membarrier(false, EINVAL))
		return CHILD_CANNOT;
	worker_begin(&w);
	refill(&w);
	expedited = value("barriers_expedited");
	drain_threads(SLUICE_DRAIN_IDLE | SLUICE_DRAIN_GLOBAL);
	good = entry_of(&w)->state == SLUICE_THREAD_EMPTIED && value("membarrier_errno") == 0 &&
	       value("barriers_global") == global && value("barriers_expedited") == expedited + 1;
	worker_end(&w);
	return good ? CHILD_GOOD : CHILD_BAD;
}

/* ---- the call ------------------------------------------------------------------------------- */

static void test_list(struct worker *w)
{
	struct sluice_thread_drain one = { 0 };
	uint64_t slabs;
	size_t n = 0;

	refill(w);
	is_int(sluice_drain_threads(0, NULL, NULL, &n), 0,
	       "a drain of threads needs neither array nor report");
	ok(n >= 2, "a drain without an array says how many threads there are");
	ok(w->heap->drained, "a drain without an array drains all threads");
	memset(list, 0x55, sizeof(list));
	n = 1;
	is_int(sluice_drain_threads(0, &report, list, &n), 0,
	       "a drain accepts an array that is too short");
	ok(n >= 2 && list[1].tid == 0x55555555,
	   "a drain with a short array gives the full number and writes nothing behind the array");
	n = 1;
	errno = 0;
	ok(sluice_drain_threads(0, NULL, NULL, &n) == -1 && errno == EINVAL,
	   "no array with a length above 0 is refused with EINVAL");
	errno = 0;
	ok(sluice_drain_threads(1u << 30, NULL, &one, &n) == -1 && errno == EINVAL && n == 1,
	   "an unknown flag is refused with EINVAL");
	refill(w);
	slabs = value("slab_bytes");
	lock_acquire(&reclaim_control);
	errno = 0;
	ok(sluice_drain_threads(0, NULL, &one, &n) == -1 && errno == EAGAIN,
	   "a drain during a fork is refused with EAGAIN");
	lock_release(&reclaim_control);
	ok(value("slab_bytes") == slabs && one.tid == 0, "a refused drain does nothing");
	drain_threads(0);
}

static void test_barriers(struct worker *w)
{
	bool have_global = syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
	uint64_t global;
	uint64_t expedited;

	refill(w);
	global = value("barriers_global");
	expedited = value("barriers_expedited");
	sluice_drain(SLUICE_DRAIN_CACHES | SLUICE_DRAIN_PURGE, &report);
	ok(value("barriers_expedited") == expedited && value("barriers_global") == global &&
		   report.barrier_ns == 0,
	   "a drain of the pcps makes no barrier");
	drain_threads(0);
	is_int(value("barriers_expedited") - expedited, 1,
	       "a drain of all heaps makes one barrier");
	ok(report.barrier_ns > 0 && report.barrier_ns < report.time_ns,
	   "a drain reports how long the barrier took");
	refill(w);
	global = value("barriers_global");
	expedited = value("barriers_expedited");
	drain_threads(SLUICE_DRAIN_IDLE | SLUICE_DRAIN_GLOBAL);
	if (have_global)
		ok(value("barriers_expedited") == expedited &&
			   value("barriers_global") - global == 1,
		   "a drain with GLOBAL makes one barrier that interrupts no thread");
	else
		tap_skip(1, "the kernel has no global barrier");
	is_int(entry_of(w)->state, SLUICE_THREAD_EMPTIED,
	       "a thread is emptied with GLOBAL as well");
}

/* ---- caches start small --------------------------------------------------------------------- */

static void take_one(struct worker *w)
{
	w->p[w->n++] = alloc(LARGE);
}

static uint64_t most; /* bytes that a pcp held after one of them */

static void take_many(struct worker *w)
{
	most = 0;
	while (w->n < 300) {
		take_one(w);
		if (most < value("pcp_bytes"))
			most = value("pcp_bytes");
	}
}

static void one_small(struct worker *w)
{
	w->p[w->n++] = alloc(64);
}

static void test_small(struct worker *w)
{
	static struct worker taker;
	uint64_t cached;
	uint64_t objects;

	/* Allocates only, so that refills grow to their largest. */
	w->n = 0;
	worker_do(w, take_many);
	drain_threads(0);
	worker_do(w, take_one);
	ok(most > options.pcp_batch && value("pcp_bytes") <= options.pcp_batch,
	   "after a drain a pcp's first refill is small (%lu bytes, before %lu)",
	   (unsigned long)value("pcp_bytes"), (unsigned long)most);
	objects = value("object_bytes");
	worker_do(w, one_small);
	ok(value("object_bytes") - objects <= 2 * (uint64_t)64,
	   "after a drain a bin's first refill is small");

	worker_do(w, free_all);
	cached = value("pcp_bytes");
	drain_threads(0);
	/* Frees only, which do not make it hold more. */
	worker_begin(&taker);
	worker_do(&taker, take_many);
	memcpy(w->p, taker.p, sizeof(w->p));
	w->n = taker.n;
	worker_end(&taker);
	drain_threads(SLUICE_DRAIN_CACHES);
	worker_do(w, free_all);
	ok(cached > options.pcp_high_min && value("pcp_bytes") <= options.pcp_high_min,
	   "after a drain a pcp holds no more than a new thread's (%lu bytes, before %lu)",
	   (unsigned long)value("pcp_bytes"), (unsigned long)cached);
	drain_threads(0);
}

/* ---- a slab all of whose objects are in the bin --------------------------------------------- */

#define WHOLE 3000u /* bytes; nothing else here has objects of the class */

/* All objects that their slab has handed out, 4 or more, each filled. */
static void take_slab(struct worker *w)
{
	w->n = 0;
	do {
		w->p[w->n] = alloc(WHOLE);
		memset(w->p[w->n++], 0xa5, WHOLE);
	} while (w->n < 4 || (w->n < ROOM && w->n != slab_held(page_of(w->p[0]))->carved));
}

/* One is still in use, and the first is freed twice. */
static void free_but_one(struct worker *w)
{
	for (unsigned i = 0; i < w->n - 1; i++)
		heap_free(w->p[i]);
	heap_free(w->p[0]);
}

static void drain_twice(void *arg)
{
	static struct worker w;

	(void)arg;
	worker_begin(&w);
	worker_do(&w, take_slab);
	worker_do(&w, free_but_one);
	drain_threads(SLUICE_DRAIN_IDLE);
}

static void test_whole(void)
{
	static struct worker w;
	struct child c;
	unsigned char *p[ROOM];
	uint64_t slabs;
	unsigned same = 0;
	unsigned n;

	drain_threads(0);
	slabs = value("slab_bytes");
	worker_begin(&w);
	worker_do(&w, take_slab);
	n = w.n;
	memcpy(p, w.p, sizeof(p));
	worker_do(&w, free_all);
	drain_threads(SLUICE_DRAIN_IDLE);
	is_int(value("slab_bytes"), slabs,
	       "a drain frees a slab all of whose objects are in a bin");
	for (unsigned i = 0; i < n; i++)
		same += all_bytes(p[i], WHOLE, 0xa5);
	is_int(same, n, "and writes to none of its objects");
	worker_end(&w);
	child_run(&c, drain_twice, NULL);
	ok(WIFSIGNALED(c.status) && strstr(c.stderr, "freed twice"),
	   "but one of them that is there twice stops the program");
}

int main(void)
{
	static struct worker w;

	if (UNDER_TSAN)
		tap_skip_all("ThreadSanitizer knows nothing of membarrier");
	sluice_init();
	alloc(16);
	if (!membarrier_global())
		tap_skip_all("the kernel has no membarrier, or forbids it");
	tap_plan(TESTS);
	child_result(run_child(without_membarrier),
		     "a drain reports heaps as out of reach where membarrier is forbidden");
	child_result(run_child(without_quiet),
		     "a drain uses the expedited barrier where the global one is refused");
	test_whole();
	test_emptied();
	test_as_owner();
	test_own();
	test_failed_mapping();
	worker_begin(&w);
	worker_do(&w, call);
	test_calling(&w);
	test_inside(&w);
	test_no_memory(&w);
	test_at_work();
	test_held(&w);
	test_locked(&w);
	test_unasked(&w);
	test_list(&w);
	test_barriers(&w);
	test_small(&w);
	worker_end(&w);
	return tap_done();
}
