/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heap claim: heaps of threads that make no calls are emptied by others; those of all other
 * threads are left alone. See also t/unit/claim_stress.c and t/model/claim.pml.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/backed.h"
#include "lib/barrier.h"
#include "lib/core.h"
#include "page/block.h"
#include "page/buddy.h"
#include "heap/heap.h"
#include "heap/claim.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/heap_work.h"
#include "heap/sweep.h"
#include "reclaim/info.h"
#include "shim/init.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "lib/worker.h"

#define TESTS 128

static uint32_t all_steps = UINT32_MAX; /* never used up */

/* ---- what a heap that was emptied by another thread looks like ------------------------------ */

static bool bins_empty(struct heap *h)
{
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		struct object *const *bottom = bin_bottom(h, cls);

		if (h->bin[cls].top != bottom || bin_space(&h->bin[cls]) || *bottom)
			return false;
	}
	return true;
}

static bool owns_nothing(const struct heap *h)
{
	for (unsigned cls = 0; cls < CLASSES; cls++)
		if (h->current[cls] || h->partial[cls].first)
			return false;
	return !h->full.first && !h->inbox && !h->inbox_todo && !h->release && !h->outbox.bytes;
}

static bool emptied(struct heap *h)
{
	return bins_empty(h) && owns_nothing(h) && h->pcp.count == 0 && h->drained &&
	       h->claim == CLAIM_FREE && !h->busy;
}

/* Untouched by others: its cache bins hold something, and it is not marked. */
static bool left_alone(struct heap *h)
{
	return !bins_empty(h) && !h->drained && h->claim == CLAIM_FREE;
}

static uint64_t pool_slabs(void)
{
	uint64_t n = 0;

	for (unsigned cls = 0; cls < CLASSES; cls++)
		n += slab_pool_count(cls);
	return n;
}

static unsigned mark_and_take(void)
{
	return heap_idle_take(heap_idle_mark(true));
}

/* Removes what earlier tests have left in heaps. */
static void start_clean(void)
{
	mark_and_take();
	heap_sweep();
}

/* The number of the kernel's whole pages there that cost memory. */
static unsigned pages_of(void *start, size_t bytes)
{
	static unsigned char vec[BIN_ROWS_BYTES / 4096 + 1];
	char *first = (char *)align_up((uintptr_t)start, vm_os_page);
	uintptr_t end = align_down((uintptr_t)start + bytes, vm_os_page);
	unsigned n = 0;

	if (end <= (uintptr_t)first || backed_pages(first, end - (uintptr_t)first, vec) != 0)
		return 0;
	for (size_t i = 0; i < (end - (uintptr_t)first) / vm_os_page; i++)
		n += vec[i] & 1;
	return n;
}

/* The same under its bins' rows. */
static unsigned bin_pages(struct heap *h)
{
	unsigned n = pages_of(h->bin_slots, heap_bytes() - sizeof(*h));

	return n + (h->rows ? pages_of(h->rows, BIN_ROWS_BYTES) : 0);
}

/* ---- threads that make no call -------------------------------------------------------------- */

static void test_asleep(void)
{
	static struct worker w;
	uint64_t slabs = value("slab_bytes");
	uint64_t drained = value("heaps_drained");
	uint64_t pool = pool_slabs();
	unsigned room = 0;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	worker_do(&w, use_pages);
	ok(!bins_empty(w.heap) && !owns_nothing(w.heap) && w.heap->pcp.count > 0 &&
		   !w.heap->drained,
	   "a thread caches objects, slabs and pages");
	ok(vm_os_page > 4096 || bin_pages(w.heap) >= 4,
	   "the bins of a thread that allocated cost memory");
	is_int(mark_and_take(), 1, "the heap of a sleeping thread is taken");
	is_int(bin_pages(w.heap), 0, "the bins of a taken heap cost no memory");
	ok(bins_empty(w.heap), "the bins of a taken heap are empty and have no room");
	ok(owns_nothing(w.heap), "a taken heap owns no slab, and its inbox and outbox are empty");
	is_int(w.heap->pcp.count, 0, "the pcp of a taken heap is empty");
	ok(w.heap->drained && w.heap->claim == CLAIM_FREE && !w.heap->busy,
	   "a taken heap is known to hold nothing, and its claim is free");
	ok(pool_slabs() > pool, "a taken heap abandons the slabs of objects in use");
	ok(intact(&w), "objects in use keep their data when the heap is taken");
	is_int(value("heaps_drained") - drained, 1, "a heap that was taken is counted");
	is_int(mark_and_take(), 0, "a heap that holds nothing is not taken again");

	worker_do(&w, check);
	ok(!w.heap->drained, "the next call after a take is an ordinary call");
	for (unsigned cls = 0; cls < CLASSES; cls++)
		room += bin_space(&w.heap->bin[cls]) +
			(unsigned)(w.heap->bin[cls].top - bin_bottom(w.heap, cls));
	ok(room <= 8, "the cache of a thread starts small after a take");
	worker_do(&w, free_all);
	worker_do(&w, check);
	ok(mark_and_take() == 1 && emptied(w.heap), "a thread that sleeps again is emptied again");
	is_int(value("slab_bytes"), slabs, "no slab is left when nothing is in use");
	worker_do(&w, fill_and_free_odd);
	worker_do(&w, free_all);
	worker_end(&w);
	is_int(mark_and_take(), 0, "the heap of a thread that ended holds nothing");
	ok(heap_bins_any(), "the heap of a thread that ended keeps memory for its bins");
	is_int(heap_idle_take(reclaim_mark(true, true)), 1,
	       "the heap of a thread that ended is taken for its bins' memory");
	is_int(bin_pages(w.heap), 0, "a taken heap of an ended thread costs no memory");
	is_int(heap_idle_take(reclaim_mark(true, true)), 0,
	       "the heap of an ended thread is taken once");
	zone_check(&zone_main);
}

static void compute(struct worker *w)
{
	volatile unsigned long sum = 0;

	sem_post(&w->done);
	while (!atomic_load_explicit(&w->stop, memory_order_relaxed))
		sum = sum + 1;
}

static void test_computing(void)
{
	static struct worker w;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	worker_tell(&w, compute);
	while (sem_wait(&w.done) != 0)
		;
	is_int(mark_and_take(), 1, "a thread that computes and makes no call is emptied as well");
	ok(emptied(w.heap), "wholly");
	atomic_store(&w.stop, true);
	while (sem_wait(&w.done) != 0)
		;
	ok(intact(&w), "a computing thread keeps the objects that it uses");
	worker_do(&w, free_all);
	worker_do(&w, check);
	worker_end(&w);
	start_clean();
}

/* Whatever lies in any thread's outbox, one pass over all heaps in any order returns it. */
static void test_one_pass(void)
{
	static struct worker w[4];
	uint64_t slabs = value("slab_bytes");
	uint64_t objects = value("object_bytes");
	bool all = true;
	bool in_outbox = false;

	for (unsigned i = 0; i < 4; i++) {
		worker_begin(&w[i]);
		worker_do(&w[i], fill);
	}
	for (unsigned i = 0; i < OBJECTS; i++) {
		unsigned char *first = w[0].p[i];

		for (unsigned k = 0; k < 3; k++)
			w[k].p[i] = w[k + 1].p[i];
		w[3].p[i] = first;
		if (i % 2) {
			unsigned char *p = w[0].p[i];

			w[0].p[i] = w[3].p[i];
			w[3].p[i] = p;
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		worker_do(&w[i], free_all);
		in_outbox |= w[i].heap->outbox.bytes != 0;
	}
	ok(in_outbox, "threads that freed each other's objects have some in their outboxes");
	is_int(mark_and_take(), 4, "one pass takes all of these heaps");
	for (unsigned i = 0; i < 4; i++)
		all &= emptied(w[i].heap);
	ok(all, "one pass empties all of these heaps");
	is_int(value("object_bytes"), objects, "one pass leaves no object anywhere");
	is_int(value("slab_bytes"), slabs, "one pass leaves no slab");
	for (unsigned i = 0; i < 4; i++)
		worker_end(&w[i]);
	zone_check(&zone_main);
}

/* Begins a worker that fills its heap; one of its objects is for another thread to free. */
static struct object *begin_and_give(struct worker *w)
{
	struct object *o;

	worker_begin(w);
	worker_do(w, fill);
	o = (struct object *)(void *)w->p[7];
	w->p[7] = NULL;
	return o;
}

/* A batch on its way into the inbox of a heap arrives while that heap is emptied. */
static void test_late_post(void)
{
	static struct worker w;
	uint64_t slabs = value("slab_bytes");
	struct object *o;
	struct page *pg;

	o = begin_and_give(&w);
	pg = page_of(o);
	mark_set(o, mark_base(pg));
	ok(slab_free_remote(pg, o, o, 1) == SLAB_POST, "a remote free is about to post a slab");
	mark_and_take();
	ok(atomic_load(&pg->owner) == w.heap, "the slab stays with its heap when that is emptied");
	heap_post(pg);
	ok(heap_idle_any(), "a heap that was posted to is known to hold something");
	mark_and_take();
	ok(emptied(w.heap), "the next pass takes that heap although no thread calls");
	ok(intact(&w), "objects in use keep their data after a late post");
	worker_do(&w, free_all);
	mark_and_take();
	is_int(value("slab_bytes"), slabs, "a late post loses no object");
	worker_end(&w);
}

static struct object *posted_late;

/* Another thread frees an object of the heap that is being emptied. */
static void post_late(enum delay_point p)
{
	struct object *o = posted_late;
	struct page *pg;

	if (p != DELAY_slab_abandon || !o)
		return;
	posted_late = NULL;
	pg = page_of(o);
	mark_set(o, mark_base(pg));
	if (slab_free_remote(pg, o, o, 1) == SLAB_POST)
		heap_post(pg);
}

/* Nobody may look at the heap of a thread that has ended before the next thread gets it. */
static void test_late_post_end(void)
{
	static struct worker w;
	struct page *pg;

	posted_late = begin_and_give(&w);
	pg = page_of(posted_late);
	ok(atomic_load(&pg->owner) == w.heap, "a thread is about to end with a slab");
	delay_hook(post_late);
	worker_end(&w);
	delay_hook(NULL);
	ok(!posted_late, "another thread frees into the slab meanwhile");
	ok(!atomic_load(&pg->owner) && !w.heap->inbox && emptied(w.heap),
	   "the slab is abandoned nevertheless");
	free_all(&w);
	start_clean();
}

static void call_once(struct worker *w)
{
	(void)w;
	heap_free(alloc(16));
}

static void claim_by_hand(struct worker *w, uint64_t word)
{
	atomic_store(&w->heap->claim, word);
}

/* The same for the fallback heap, which serves a thread while its heap is claimed. */
static void test_late_post_fallback(void)
{
	static struct worker w;
	struct object *o;
	struct page *pg;

	worker_begin(&w);
	worker_do(&w, call_once);
	claim_by_hand(&w, CLAIM_HELD);
	worker_do(&w, fill);
	claim_by_hand(&w, CLAIM_FREE);
	o = (struct object *)(void *)w.p[7];
	w.p[7] = NULL;
	pg = page_of(o);
	mark_set(o, mark_base(pg));
	ok(atomic_load(&pg->owner) == heap_fallback.heap &&
		   slab_free_remote(pg, o, o, 1) == SLAB_POST,
	   "a remote free is about to post a slab of the fallback heap");
	heap_sweep();
	heap_post(pg);
	heap_sweep();
	ok(!atomic_load(&pg->owner) && !heap_fallback.heap->inbox,
	   "a slab that was posted to the fallback heap after a drain is found by the next");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

static unsigned open_inboxes(const struct heap *h)
{
	(void)h;
	return heap_walk(HEAP_OPEN, heap_idle_mark(false));
}

static unsigned mark_open(const struct heap *h)
{
	return heap_growth_mark(UINT32_MAX, &all_steps) && !h->inbox;
}

/* The same when the process is about to grow or is short of memory: there is no second pass. */
static void test_late_post_growth(unsigned (*look)(const struct heap *), const char *when)
{
	static struct worker w;
	struct object *o;
	struct page *pg;

	o = begin_and_give(&w);
	pg = page_of(o);
	mark_set(o, mark_base(pg));
	slab_free_remote(pg, o, o, 1);
	mark_and_take();
	heap_post(pg);
	is_int(look(w.heap), 1, "%s a heap that was empty is checked as well", when);
	ok(!atomic_load(&pg->owner) && emptied(w.heap),
	   "a late post is emptied again and its slab abandoned");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

/* Its first call since the mark is a drain. */
static void leave_marked(struct worker *w)
{
	(void)w;
	heap_abandon_own();
}

static void test_leave_own(void)
{
	static struct worker w;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	heap_idle_mark(true);
	worker_do(&w, leave_marked);
	ok(bins_empty(w.heap), "a marked thread can abandon its slabs");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

static void test_pages_only(void)
{
	static struct worker w;

	worker_begin(&w);
	worker_do(&w, use_pages);
	ok(w.heap->pcp.count > 0, "a thread that uses large blocks only caches pages");
	mark_and_take();
	is_int(w.heap->pcp.count, 0, "the pages of such a thread are taken while it sleeps");
	worker_do(&w, fill_and_free_all);
	mark_and_take();
	worker_do(&w, use_pages);
	mark_and_take();
	is_int(w.heap->pcp.count, 0, "its pages are taken also when its objects were taken before");
	worker_end(&w);
}

/* ---- threads that make calls ---------------------------------------------------------------- */

static void call_malloc(struct worker *w)
{
	w->p[w->n++] = alloc(100);
}

static void call_free(struct worker *w)
{
	heap_free(w->p[--w->n]);
}

static void call_slow(struct worker *w)
{
	(void)w;
	heap_free_slow(heap_alloc_slow(200));
}

static void call_aligned(struct worker *w)
{
	(void)w;
	heap_free(heap_alloc_aligned(100, 256));
}

static void call_realloc(struct worker *w)
{
	(void)w;
	heap_free(heap_realloc(alloc(100), 2000));
}

static void call_large(struct worker *w)
{
	(void)w;
	heap_free(heap_alloc_large(LARGE_BIN_PAGES * PG_BYTES + 1));
}

static void test_calling(void)
{
	static const struct {
		void (*call)(struct worker *w);
		const char *name;
	} calls[] = {
		{ call_malloc, "malloc" },      { call_free, "free" },
		{ call_slow, "a slow malloc" }, { call_aligned, "an aligned one" },
		{ call_realloc, "a realloc" },  { call_large, "one beyond the cache bins" },
	};
	static struct worker w;
	static struct worker idle;

	worker_begin(&w);
	worker_begin(&idle);
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		uint64_t g;
		bool marked;

		worker_do(&w, call_malloc);
		worker_do(&w, fill_and_free_odd);
		w.n = 0; /* the other objects are lost on purpose */
		worker_do(&w, call_malloc);
		worker_do(&idle, fill_and_free_all);
		g = heap_idle_mark(true);
		marked = w.heap->claim == (g | CLAIM_PENDING);
		worker_do(&w, calls[i].call);
		marked &= w.heap->claim == CLAIM_FREE;
		ok(marked, "%s takes a mark back", calls[i].name);
		is_int(heap_idle_take(g), 1, "a thread that slept meanwhile is the only one taken");
		ok(left_alone(w.heap) && emptied(idle.heap),
		   "the heap of the thread that slept is empty");
	}
	worker_do(&w, check);
	worker_end(&w);
	worker_end(&idle);
	start_clean();
}

static void test_inside(void)
{
	static struct worker w;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	worker_do(&w, stay_inside);
	is_int(mark_and_take(), 0, "a thread inside its critical section is not taken");
	ok(left_alone(w.heap),
	   "the heap of a thread in its critical section is released unchanged");
	worker_do(&w, come_out);
	worker_do(&w, check);
	is_int(mark_and_take(), 1, "a thread that has left its critical section is taken");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

static void test_generation(void)
{
	static struct worker w;
	uint64_t first;
	uint64_t second;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	first = heap_idle_mark(true);
	worker_do(&w, call_slow);
	second = heap_idle_mark(true);
	ok(second > first, "each mark has an epoch of its own");
	is_int(heap_idle_take(first), 0, "an older mark takes nothing");
	is_int(w.heap->claim, second | CLAIM_PENDING, "an older mark leaves the newer mark");
	is_int(heap_idle_take(0), 0, "no mark takes nothing");
	is_int(heap_idle_take(second), 1, "the newer mark takes the heap");
	is_int(heap_idle_take(second), 0, "once");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

/* A mark serves idle rounds and growths: nobody marks over it. */
static void test_growth(void)
{
	static struct worker w;
	uint64_t g;
	uint64_t before;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	g = heap_idle_mark(true);
	ok(heap_growth_mark(UINT32_MAX, &all_steps),
	   "a growth finds a heap that was marked by an idle round");
	is_int(w.heap->claim, g | CLAIM_PENDING, "a growth leaves the mark of an idle round");
	is_int(heap_idle_take(g), 1, "an idle round takes the heap that a growth has marked too");
	is_int(heap_growth_take(&all_steps), 0,
	       "a growth does not take a heap that an idle round took");
	worker_do(&w, fill_and_free_odd);
	worker_do(&w, call_slow);
	heap_growth_mark(UINT32_MAX, &all_steps);
	before = w.heap->claim;
	g = heap_idle_mark(true);
	ok(w.heap->claim == before && before < g, "an idle round leaves the mark of a growth");
	is_int(heap_growth_take(&all_steps), 1, "the growth takes the heap");
	is_int(heap_idle_take(g), 0, "once");
	worker_do(&w, call_slow);
	heap_growth_mark(UINT32_MAX, &all_steps);
	g = heap_idle_mark(true);
	heap_age_all(g);
	worker_do(&w, call_slow);
	is_int(heap_growth_take(&all_steps) + heap_idle_take(g), 0,
	       "a call takes the mark back for both");
	heap_growth_mark(UINT32_MAX, &all_steps);
	worker_do(&w, call_slow);
	g = heap_idle_mark(true);
	is_int(heap_growth_take(&all_steps), 0,
	       "a growth mark from before a call does not take a heap marked after the call");
	is_int(heap_idle_take(g), 1, "a mark from after a call takes the heap");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

/* ---- threads that sleep for short times ----------------------------------------------------- */

static void use_one_class(struct worker *w)
{
	unsigned char *p[300];

	(void)w;
	for (unsigned i = 0; i < 300; i++)
		p[i] = alloc(200);
	for (unsigned i = 0; i < 300; i++)
		heap_free(p[i]);
}

static unsigned room_of(struct heap *h, size_t size)
{
	unsigned cls = class_of(size);

	return bin_space(&h->bin[cls]) + (unsigned)(h->bin[cls].top - bin_bottom(h, cls));
}

static void test_ageing(void)
{
	static struct worker w;
	uint64_t slabs = value("slab_bytes");
	uint64_t pool;
	uint64_t g;

	start_clean();
	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	g = heap_idle_mark(true);
	heap_age_all(g);
	is_int(w.heap->claim, g | CLAIM_PENDING, "an ageing step leaves the mark");
	ok(!bins_empty(w.heap) && !w.heap->drained,
	   "the first ageing step leaves what the heap has");
	worker_do(&w, use_one_class);
	is_int(w.heap->claim, CLAIM_FREE, "the owner's next call takes the mark back");
	pool = pool_slabs();
	heap_age_all(g);
	ok(w.heap->claim == CLAIM_FREE && pool_slabs() == pool,
	   "a late ageing step does nothing after the owner's call");
	for (unsigned i = 0; i < 5; i++) {
		worker_do(&w, use_one_class);
		g = heap_idle_mark(true);
		heap_age_all(g);
	}
	ok(room_of(w.heap, 200) > 0, "ageing steps leave the bin that a calling thread uses");
	ok(room_of(w.heap, 100) == 0 && room_of(w.heap, 3000) == 0,
	   "ageing steps empty bins that were not used for some of them");
	ok(pool_slabs() > pool, "ageing steps abandon slabs of unused classes");
	ok(intact(&w), "ageing steps leave objects in use as they are");
	is_int(heap_idle_take(g), 1, "a thread that goes on sleeping after ageing steps is taken");
	worker_do(&w, free_all);
	mark_and_take();
	is_int(value("slab_bytes"), slabs, "ageing steps lose no object");
	worker_end(&w);
	start_clean();
}

/* ---- while the claim is held ---------------------------------------------------------------- */

static void test_held(void)
{
	static struct worker w;
	uint64_t held = CLAIM_STEP | CLAIM_HELD;
	uint64_t calls;
	struct object **top;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	atomic_store(&w.heap->claim, held);
	calls = value("fallback_calls");
	top = w.heap->bin[class_of(100)].top;
	worker_do(&w, call_slow);
	worker_do(&w, call_realloc);
	ok(value("fallback_calls") - calls >= 4,
	   "a thread whose heap is claimed is served by the fallback heap");
	ok(w.heap->claim == held && !w.heap->busy && w.heap->bin[class_of(100)].top == top,
	   "a thread whose heap is claimed does not touch it");
	heap_release(w.heap);
	is_int(w.heap->claim, CLAIM_FREE, "the claimer releases the heap");
	calls = value("fallback_calls");
	worker_do(&w, free_all);
	worker_do(&w, check);
	is_int(value("fallback_calls") - calls, 0,
	       "the thread uses its own heap after the release");
	worker_end(&w);
	start_clean();
}

/* The first part of a reclaim_mark, which lets go of the lock before its barrier. */
static void mark_only(bool bins)
{
	struct heap_walk all = heap_walk_all(bins ? HEAP_MARK_BINS : HEAP_MARK, 0);
	uint32_t steps = UINT32_MAX;

	lock_acquire(&reclaim_control);
	heap_walk_part(&all, &steps);
	lock_release(&reclaim_control);
}

static uint64_t barriers(void)
{
	return value("barriers_expedited") + value("barriers_global");
}

/* A growth that has marked nothing makes no barrier, so nobody may rely on it. */
static void test_no_barrier(void)
{
	static struct worker w;
	uint32_t none = 0;
	uint64_t before;
	uint64_t word;

	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	heap_walk(HEAP_EMPTY, heap_idle_mark(false));
	mark_only(true);
	before = barriers();
	word = w.heap->claim;
	reclaim_before_growth();
	reclaim_before_growth();
	ok(w.heap->claim == word && barriers() == before,
	   "a growth claims no heap that was marked after the last barrier");
	worker_do(&w, fill_and_free_odd);
	mark_only(false);
	before = barriers();
	lock_acquire(&reclaim_control);
	heap_growth_mark(GROWTH_HEAPS, &none);
	lock_release(&reclaim_control);
	reclaim_pressure(UINT64_C(1) << 40, 0, false);
	ok(!heap_is_empty(w.heap) && barriers() == before,
	   "pressure claims no heap that was marked after the last barrier");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

static void test_mark_outlasts_fork(void)
{
	static struct worker w;
	struct heap *h;
	uint64_t epoch;
	pid_t child;

	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	epoch = heap_idle_mark(false);
	child = fork();
	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
	heap_idle_take(epoch);
	ok(emptied(w.heap), "a fork leaves the mark of a thread that sleeps");
	worker_do(&w, fill_and_free_odd);
	mark_only(false);
	lock_fork_begin();
	worker_do(&w, free_all);
	ok(claim_is_pending(w.heap) && !w.heap->busy,
	   "while a fork is under way a thread does not take its mark back");
	lock_fork_end();
	worker_do(&w, fill_and_free_all);
	ok(w.heap->claim == CLAIM_FREE, "after the fork it does");
	worker_end(&w);
	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	mark_only(false);
	h = w.heap;
	lock_fork_begin();
	worker_end(&w);
	ok(h->unattached && !h->tid && claim_is_pending(h) && !bins_empty(h),
	   "a thread that ends meanwhile leaves its heap as it is to the next one");
	lock_fork_end();
	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	ok(w.heap == h && h->claim == CLAIM_FREE, "which goes on with it");
	worker_end(&w);
	start_clean();
}

/* An ageing step opens the inbox of a heap that was emptied. */
static void test_late_post_age(void)
{
	static struct worker w;
	struct object *o = begin_and_give(&w);
	struct page *pg = page_of(o);
	struct reclaim_report report;

	mark_set(o, mark_base(pg));
	slab_free_remote(pg, o, o, 1);
	heap_idle_take(reclaim_mark(true, true));
	heap_idle_take(reclaim_mark(true, true));
	heap_post(pg);
	heap_age_all(heap_idle_mark(true));
	ok(!w.heap->drained,
	   "an ageing step that opens an inbox says that the heap holds something");
	reclaim_drain(RECLAIM_FLAGS, 0, &report);
	ok(emptied(w.heap), "a drain sees that");
	worker_do(&w, free_all);
	worker_end(&w);
	start_clean();
}

#define LOCKED_SIZE 100u
#define LOCKED_OBJECTS 1000u

static void fill_one_class(struct worker *w)
{
	for (w->n = 0; w->n < LOCKED_OBJECTS; w->n++)
		w->p[w->n] = alloc(LOCKED_SIZE);
}

static void free_and_trim(struct worker *w)
{
	struct heap_drain d;

	free_all(w);
	heap_drain(heap_self, HEAP_EMPTY, 0, true, &d);
}

/* Slabs that could not be abandoned because the lock of their pool was not available. */
static void test_pool_locked(void)
{
	static struct worker w;
	struct lock *lock = slab_pool_lock(class_of(LOCKED_SIZE));
	uint64_t slabs = value("slab_bytes");
	uint64_t epoch;

	worker_begin(&w);
	worker_do(&w, fill_one_class);
	epoch = heap_idle_mark(true);
	if (lock_acquire(lock) != 0)
		tap_bail_out("the lock of a pool is held");
	is_int(heap_idle_take(epoch), 0,
	       "while the lock of a pool is held a heap is not done with");
	lock_release(lock);
	ok(w.heap->full.first != NULL, "slabs that cannot be abandoned stay with the heap");
	worker_do(&w, free_and_trim);
	is_int(value("slab_bytes"), slabs, "its thread sees these slabs come empty");
	worker_end(&w);
	start_clean();
}

static void hold_fallback(struct worker *w)
{
	(void)w;
	if (lock_acquire(&heap_fallback.lock) != 0)
		tap_bail_out("the fallback heap is locked");
}

static void let_fallback_go(struct worker *w)
{
	(void)w;
	lock_release(&heap_fallback.lock);
}

/* The holder of the fallback heap may wait for the lock that the interrupted call holds. */
static void test_fallback_held(void)
{
	static struct worker w;

	worker_begin(&w);
	atomic_store(&heap_fallback.heap->drained, 0);
	worker_do(&w, hold_fallback);
	lock_holds += lock_one(&zone_main.lock); /* as in a handler that interrupted its holder */
	heap_sweep();
	lock_holds -= lock_one(&zone_main.lock);
	ok(!heap_fallback.heap->drained,
	   "a drain in a handler inside a lock does not wait for the fallback heap");
	worker_do(&w, let_fallback_go);
	heap_sweep();
	ok(heap_fallback.heap->drained, "another drain empties the fallback heap");
	worker_end(&w);
}

static void test_exit(void)
{
	static struct worker w;
	static struct worker next[2];
	struct heap *h;
	uint64_t slabs = value("slab_bytes");
	uint64_t g;

	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	h = w.heap;
	g = heap_idle_mark(true);
	worker_end(&w);
	ok(h->claim == CLAIM_FREE && h->unattached,
	   "a thread that ends while marked finishes its heap itself");
	is_int(heap_idle_take(g), 0, "the heap that its thread has finished is not taken");

	worker_begin(&w);
	worker_do(&w, fill_and_free_all);
	h = w.heap;
	atomic_store(&h->claim, CLAIM_STEP | CLAIM_HELD);
	worker_end(&w);
	is_int(h->claim, CLAIM_STEP | CLAIM_HELD | CLAIM_EXITED,
	       "a thread that ends while its heap is claimed says so");
	ok(!h->unattached && !bins_empty(h),
	   "a thread that ends while its heap is claimed leaves it to the claimer");
	heap_release(h);
	ok(h->unattached && h->claim == CLAIM_FREE && h->tid == 0 && heap_idle_any(),
	   "the claimer releases it as it is, because it may be inside a malloc of its own");
	ok(mark_and_take() == 1 && emptied(h) && value("slab_bytes") == slabs,
	   "the next idle round takes that heap, and nothing of it is left");
	for (unsigned i = 0; i < 2; i++) {
		worker_begin(&next[i]);
		worker_do(&next[i], check);
	}
	ok((next[0].heap == h) != (next[1].heap == h),
	   "exactly one of the next threads gets that heap");
	for (unsigned i = 0; i < 2; i++)
		worker_end(&next[i]);
	start_clean();
}

/* ---- barriers ------------------------------------------------------------------------------- */

static bool have_global(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

static void test_barriers(void)
{
	static struct worker w[3];
	uint64_t global;
	uint64_t expedited;

	if (!have_global()) {
		tap_skip(3, "the kernel has no membarrier that interrupts nobody");
		return;
	}
	for (unsigned i = 0; i < 3; i++) {
		worker_begin(&w[i]);
		worker_do(&w[i], fill_and_free_all);
	}
	global = value("barriers_global");
	expedited = value("barriers_expedited");
	mark_and_take();
	is_int(value("barriers_global") - global, 1, "one barrier serves all heaps");
	is_int(value("barriers_expedited") - expedited, 0,
	       "the global barrier interrupts no thread");
	is_int(heap_idle_mark(true) == 0 && value("barriers_global") - global == 1, 1,
	       "where nothing is cached there is no mark and no barrier");
	for (unsigned i = 0; i < 3; i++)
		worker_end(&w[i]);
}

static int without_membarrier(void)
{
	static struct worker w;
	bool good;

	if (!refuse_membarrier(true, EPERM))
		return CHILD_CANNOT;
	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	good = heap_idle_mark(true) == 0 && heap_idle_take(0) == 0;
	good &= !bins_empty(w.heap) && !w.heap->drained;
	worker_do(&w, free_all);
	worker_do(&w, check);
	good &= w.heap->claim == CLAIM_FREE;
	worker_end(&w);
	return good ? CHILD_GOOD : CHILD_BAD;
}

static int without_global(void)
{
	static struct worker w;
	uint64_t expedited = value("barriers_expedited");
	bool good;

	if (!refuse_membarrier(false, EINVAL))
		return CHILD_CANNOT;
	worker_begin(&w);
	worker_do(&w, fill_and_free_odd);
	good = mark_and_take() == 1 && emptied(w.heap);
	good &= value("barriers_expedited") - expedited == 1;
	worker_do(&w, free_all);
	worker_end(&w);
	return good ? CHILD_GOOD : CHILD_BAD;
}

/* ---- the longer rows of bins ---------------------------------------------------------------- */

#define BIN_OBJECT 100u

static void use_bin(unsigned n)
{
	void *p[4 * BIN_SMALL];

	for (unsigned i = 0; i < n; i++)
		p[i] = alloc(BIN_OBJECT);
	for (unsigned i = 0; i < n; i++)
		heap_free(p[i]);
}

static void use_bin_a_little(struct worker *w)
{
	(void)w;
	use_bin(BIN_SMALL / 2);
}

static void use_bin_much(struct worker *w)
{
	(void)w;
	use_bin(4 * BIN_SMALL);
}

static void test_rows(void)
{
	static struct worker w;

	worker_begin(&w);
	worker_do(&w, use_bin_a_little);
	ok(!w.heap->rows, "the heap of a thread that caches little has short rows only");
	worker_do(&w, use_bin_much);
	ok(w.heap->rows && bin_room(w.heap, class_of(BIN_OBJECT)) > BIN_SMALL,
	   "it gets longer rows when a bin needs one");
	worker_end(&w);
}

/* No mapping can be made, and what there is for metadata is used up. */
static int without_rows(void)
{
	struct rlimit rl;
	struct heap *h = heap_self;
	unsigned n = 0;

	if (h->rows || getrlimit(RLIMIT_AS, &rl) != 0)
		return CHILD_CANNOT;
	rl.rlim_cur = 0;
	if (setrlimit(RLIMIT_AS, &rl) != 0)
		return CHILD_CANNOT;
	while (meta_alloc(BIN_ROWS_BYTES))
		if (++n == 100) /* an emulator ignores the limit */
			return CHILD_CANNOT;
	use_bin(4 * BIN_SMALL);
	use_bin(4 * BIN_SMALL);
	return !h->rows && bin_room(h, class_of(BIN_OBJECT)) == BIN_SMALL ? CHILD_GOOD : CHILD_BAD;
}

int main(void)
{
	if (UNDER_TSAN)
		tap_skip_all("ThreadSanitizer knows nothing of membarrier");
	sluice_init();
	alloc(16);
	if (!membarrier_global())
		tap_skip_all("the kernel has no membarrier, or forbids it");
	tap_plan(TESTS);
	child_result(run_child(without_membarrier),
		     "where membarrier is forbidden no heap is taken and nothing breaks");
	child_result(run_child(without_global),
		     "where the global barrier is refused the expedited barrier is used");
	child_result(run_child(without_rows),
		     "where there is no memory for longer rows, bins keep their short ones");
	test_rows();
	test_asleep();
	test_computing();
	test_one_pass();
	test_late_post();
	test_late_post_end();
	test_late_post_fallback();
	test_late_post_growth(open_inboxes, "without memory");
	test_late_post_growth(mark_open, "before growth");
	test_leave_own();
	test_pages_only();
	test_calling();
	test_inside();
	test_generation();
	test_growth();
	test_ageing();
	test_held();
	test_no_barrier();
	test_mark_outlasts_fork();
	test_late_post_age();
	test_pool_locked();
	test_fallback_held();
	test_exit();
	test_barriers();
	return tap_done();
}
