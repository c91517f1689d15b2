/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_thread.c - heaps and the threads they belong to: start, exit, death, fork.
 * Used by the other files of the heap; uses heap_claim, heap_slabs, meta, pcp.
 *
 * (A) Heaps are recycled, never unmapped: a list of them is walked without a lock, and who posts to
 *     an inbox needs no reference.
 * (B) A slab whose post is still on the way when its heap goes stays with the heap, and the heap's
 *     next thread gets it.
 * (C) A heap is idle (on registry.free), or has a live thread (tid), or is quarantined (fork), or
 *     is found by reap once its thread is no more.
 *
 * Lock: registry (REGISTRY), list steps; a heap is put on registry.free without it, by a release CAS that
 * pairs with the acquire in free_take: a thread may end while another forks. Heaps are published with
 * release (heap_publish), walked with acquire (heap_first).
 * Bound: a thread's first call looks at REAP_LOOKS heaps and has one hold of the lock; a child of fork
 * leaves one orphan as a whole to all in each call that needs a slab, until there are none; a thread's
 * end leaves its own.
 * Nothing here runs inside a window but heap_abandon_slabs. Signal handlers: a lock that is the
 * thread's own already makes the call use the fallback heap.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_thread.h"

#include <limits.h>
#include <pthread.h>
#include <unistd.h>

#include "base/backtrace.h"
#include "base/clock.h"
#include "base/check.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"
#include "heap/cache_bin.h"
#include "heap/claim.h"
#include "heap/heap_slabs.h"
#include "heap/trim.h"
#include "os/membarrier.h"
#include "os/vm.h"
#include "page/zone.h"

#define REAP_LOOKS 3u
#define ORPHAN_LOOKS 3u
#define FORK_WAIT_NS UINT64_C(10000000) /* for all heaps together */

/* TSan takes its own state of the thread away in the last round, before ours. */
#if defined(__SANITIZE_THREAD__)
#define EXIT_ROUND (PTHREAD_DESTRUCTOR_ITERATIONS - 1)
#else
#define EXIT_ROUND PTHREAD_DESTRUCTOR_ITERATIONS
#endif

struct heap heap_none = HEAP_NEVER;
struct heap heap_gone = HEAP_NEVER;
_Thread_local struct heap *heap_self TLS_FAST = &heap_none;
_Thread_local bool heap_in_copy TLS_FAST;

static union {
	struct heap heap;
	char room[HEAP_BYTES];
} fallback_place;
struct heap_shared heap_fallback = { .lock = LOCK_INIT(LOCK_FALLBACK),
				     .heap = &fallback_place.heap };

_Atomic uint32_t heap_due;
void (*heap_due_begins)(bool allocates);

static struct {
	struct lock lock;
	/* Heaps that wait for a thread: pushed by any, taken with the lock. */
	_Atomic(struct heap *) free;
	/* Guarded by: lock. The same, with what a fork left in them; looked at without it. */
	_Atomic(struct heap *) left;
} registry = { .lock = LOCK_INIT(LOCK_REGISTRY) };

static _Atomic(struct heap *) heaps;
static pthread_key_t exit_key;
static bool exit_key_made;
static bool options_known; /* libc had its environment when they were read */
_Atomic uint32_t heap_leader_gone;
void (*heap_leader_ends)(void);
_Atomic uint32_t heap_watch;
static pid_t process; /* ours; in a vfork child getpid() is another */

/* Guarded by: registry. */
static bool fork_sure;         /* the forking thread knows which threads were inside their heap */
static uint64_t fork_held;     /* the claim word of the heaps that it holds */
static struct heap *fork_list; /* these heaps */

static _Atomic uint32_t never_wiped = 1;
_Atomic(_Atomic uint32_t *) heap_copy_mark = &never_wiped;
void (*heap_copy_begins)(void);

static void thread_exit(void *arg);

/* A fork in between costs its child an empty heap. */
void heap_retire(struct heap *h)
{
	struct heap *head = atomic_load_explicit(&registry.free, memory_order_relaxed);

	atomic_store_explicit(&h->unattached, 1, memory_order_relaxed);
	atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
	SHARE_COUNT(heap_free);
	do {
		h->free_next = head;
	} while (!atomic_compare_exchange_weak_explicit(&registry.free, &head, h,
							memory_order_release,
							memory_order_relaxed));
}

/* With the lock, so the first one cannot go and come back meanwhile. */
static struct heap *free_take(void)
{
	struct heap *h = atomic_load_explicit(&registry.free, memory_order_acquire);

	if (h)
		SHARE_COUNT(heap_free);
	while (h &&
	       !atomic_compare_exchange_weak_explicit(&registry.free, &h, h->free_next,
						      memory_order_acquire, memory_order_acquire))
		;
	return h;
}

static void heap_publish(struct heap *h)
{
	struct heap *head = atomic_load_explicit(&heaps, memory_order_relaxed);

	SHARE_COUNT(heap_list);
	do {
		atomic_store_explicit(&h->next, head, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&heaps, &head, h, memory_order_release,
							memory_order_relaxed));
}

struct heap *heap_first(void)
{
	return atomic_load_explicit(&heaps, memory_order_acquire);
}

/* From here on the fast paths find nothing, and the slow ones see why. */
static void begin_copy(void)
{
	heap_in_copy = true;
	heap_self = &heap_gone;
}

/* With a reserve its bins, too, are touched without a page fault. */
static void populate(struct heap *h)
{
	if (options.reserve && h != &heap_none)
		vm_populate(h, HEAP_BYTES);
}

static void make_copy_mark(void)
{
	_Atomic uint32_t *mark = vm_map_wiped();

	if (!mark)
		return;
	atomic_store_explicit(mark, 1, memory_order_relaxed);
	atomic_store_explicit(&heap_copy_mark, mark, memory_order_release);
}

void heap_init(void)
{
	static _Atomic uint32_t state; /* 0, 1 under way, 2 done */
	uint32_t expected = 0;

	if (likely(atomic_load_explicit(&state, memory_order_acquire) == 2))
		return;
	if (atomic_compare_exchange_strong_explicit(&state, &expected, 1, memory_order_acquire,
						    memory_order_acquire)) {
		/* What we call may be a function of another preloaded library, which allocates to begin (faketime). */
		heap_in_copy = true;
		vm_init();
		(void)self_tid(); /* lock.c notes the process */
		process = (pid_t)lock_process();
		make_copy_mark();
		link_init();
		options_known = options_load();
		zones_init();
		pcp_init(&heap_fallback.heap->pcp, &zone_main);
		heap_init_bins(heap_fallback.heap);
		backtrace_begins = begin_copy;
		exit_key_made = pthread_key_create(&exit_key, thread_exit) == 0;
		heap_in_copy = false;
		atomic_store_explicit(&state, 2, memory_order_release);
		return;
	}
	/* Who asks from inside is served without a heap, and by heap_in_copy comes here in no other way than by api.c. */
	while (atomic_load_explicit(&state, memory_order_acquire) != 2 && !heap_in_copy)
		lock_pause();
}

void heap_init_late(void)
{
	if (!options_known) {
		options_known = options_load();
		zones_init();
		populate(heap_self);
	}
	membarrier_init();
}

/*
 * In a child of vfork, which has its parent's heap, and in a process that only shares our memory, self_tid is
 * that of a process that may end before the thread does, or is not ours: reap must not believe it. Then it
 * stays 0, and the thread itself notes it at a later call.
 */
void heap_note_tid(struct heap *h)
{
	(void)self_tid();
	atomic_store_explicit(&h->tid, lock_tid, memory_order_relaxed);
}

void heap_exit_free(struct heap *h)
{
	struct page *pg = h->release;

	h->release = NULL;
	heap_exit(h);
	while (unlikely(pg != NULL)) {
		struct page *next = pg->stack_next;

		pcp_free(&h->pcp, pg);
		pg = next;
	}
}

void heap_release(struct heap *h)
{
	/* Whatever is in it is like that of a thread that sleeps: a walk finds it, or the heap's next
	 * thread has it. */
	if (claim_release(h))
		heap_retire(h);
}

/* In the critical section of a heap whose thread ends, or has ended: empty it, for the next thread. */
static void finish(struct heap *h)
{
	heap_abandon_slabs(h, SLAB_RECENT);
	heap_exit_free(h);
	pcp_drain(&h->pcp);
	heap_retire(h);
}

/* Take over the heap of a thread that is no more. False: it is not, or it ended in a malloc. */
static bool reap(struct heap *h)
{
	uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);

	if (!tid || tid == self_tid() || !lock_thread_gone(tid) ||
	    !atomic_compare_exchange_strong_explicit(&h->tid, &tid, 0, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	/* Held: its holder finishes it. Inside a malloc when it ended: it stays as it is. */
	while (!heap_enter_slow(h)) {
		if (atomic_load_explicit(&h->busy, memory_order_relaxed) || claim_owner_ends(h))
			return false;
	}
	finish(h);
	stat_add(STAT_heaps_reaped, 1);
	return true;
}

/*
 * A thread whose first call is made by its last thread-specific destructor, or that was made by a
 * raw clone, ends without telling us. Before a new heap is made look at a few others', in turn.
 */
static void reap_some(void)
{
	static _Atomic(struct heap *) cursor;
	struct heap *h = atomic_load_explicit(&cursor, memory_order_acquire);

	for (unsigned i = 0; i < REAP_LOOKS; i++) {
		h = h ? heap_next(h) : heap_first();
		if (h && reap(h))
			break;
	}
	atomic_store_explicit(&cursor, h, memory_order_release);
}

noinline struct heap *heap_create_self(void)
{
	struct heap *h = NULL;

	if (unlikely(heap_in_copy))
		return &heap_none;
	heap_init();
	if (!atomic_load_explicit(&registry.free, memory_order_relaxed))
		reap_some();
	if (lock_acquire(&registry.lock) != 0)
		return &heap_none;
	h = free_take();
	if (!h && (h = registry.left) != NULL)
		registry.left = h->free_next;
	if (h)
		atomic_store_explicit(&h->unattached, 0, memory_order_relaxed);
	lock_release(&registry.lock);
	if (h) {
		stat_add(STAT_heaps_reused, 1);
		pcp_set_zone(&h->pcp, zone_pick());
	} else {
		char *place = meta_alloc(HEAP_OFFSET + HEAP_BYTES);

		if (!place)
			return &heap_none;
		h = (struct heap *)(void *)(place + HEAP_OFFSET);
		pcp_init(&h->pcp, zone_pick());
		heap_init_bins(h);
		atomic_store_explicit(&h->drained, 1, memory_order_relaxed);
		atomic_store_explicit(&h->bins_purged, 1, memory_order_relaxed);
		heap_publish(h);
		stat_add(STAT_heaps_made, 1);
	}
	populate(h);
	if (unlikely(heap_self != &heap_none)) {
		heap_retire(h); /* a signal handler was here before us */
		return heap_self;
	}
	h->exit_rounds = 0;
	heap_note_tid(h);
	heap_self = h;
	/* May call malloc for its own table; heap_self is set, so that is served. */
	if (exit_key_made)
		pthread_setspecific(exit_key, h);
	if (unlikely(atomic_load_explicit(&heap_watch, memory_order_relaxed)) &&
	    self_tid() != (uint32_t)process &&
	    atomic_load_explicit(&heap_due, memory_order_relaxed) == HEAP_DUE_NOT)
		atomic_store_explicit(&heap_due, HEAP_DUE_ALLOC, memory_order_relaxed);
	return h;
}

struct pcp *heap_pcp_self(void)
{
	struct heap *h = heap_self;

	return heap_is_real(h) ? &h->pcp : &heap_fallback.heap->pcp;
}

struct pcp *heap_pcp(void)
{
	heap_copy_check();
	if (unlikely(heap_self == &heap_none))
		heap_create_self();
	return heap_pcp_self();
}

/*
 * Thread-specific destructors run in rounds; ours asks for another until the last, so that those
 * of the program may still use malloc and free. What runs after that uses the fallback heap.
 */
static void heap_end(struct heap *h)
{
	DELAY_HERE(claim_exit);
	heap_self = &heap_gone;
	atomic_store_explicit(&h->tid, 0, memory_order_relaxed); /* nothing for reap */
	while (!heap_enter_slow(h)) {
		/* Held: its holder finishes it. A thread that leaves from inside a malloc
		 * (pthread_exit in a signal handler, asynchronous cancellation) leaves its heap as
		 * it is: not supported, bounded. */
		if (atomic_load_explicit(&h->busy, memory_order_relaxed) || claim_owner_ends(h))
			return;
	}
	finish(h);
}

static void thread_exit(void *arg)
{
	struct heap *h = arg;

	if (heap_self != h)
		return;
	if (++h->exit_rounds < EXIT_ROUND && pthread_setspecific(exit_key, h) == 0)
		return;
	heap_end(h);
	if (self_tid() == (uint32_t)process) {
		atomic_store_explicit(&heap_leader_gone, 1, memory_order_seq_cst);
		if (heap_leader_ends)
			heap_leader_ends();
	}
	park_notify_exit();
}

bool heap_in_process(void)
{
	bool good;

	if (!sandbox_enter())
		return false;
	good = sys_getpid() == process;
	sandbox_leave();
	return good;
}

bool heap_others(uint32_t ours)
{
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);

		if (tid && tid != (uint32_t)process && tid != self_tid() && tid != ours &&
		    !lock_thread_gone(tid))
			return true;
	}
	return false;
}

bool heap_take_orphan(void)
{
	struct heap *before = NULL;
	struct heap *h;
	unsigned looks = ORPHAN_LOOKS;

	if (likely(!atomic_load_explicit(&registry.left, memory_order_relaxed)) ||
	    lock_acquire(&registry.lock) != 0)
		return false;
	/* One that a drain has just now is left to a later call: nobody waits for a drainer. */
	for (h = registry.left; h && !heap_enter_slow(h); h = --looks ? h->free_next : NULL) {
		hold_step(LOCK_REGISTRY, 1);
		before = h;
	}
	if (h) {
		if (before)
			before->free_next = h->free_next;
		else
			registry.left = h->free_next;
	}
	lock_release(&registry.lock);
	if (!h)
		return false;
	finish(h);
	return true;
}

/* ---- fork -------------------------------------------------------------------------------- */

/*
 * Hold every heap but the caller's own that may hold something and that nobody has claimed; then wait, for
 * a bounded time, until their threads are out. False: that cannot be known (no membarrier).
 */
static bool hold_all(void)
{
	uint64_t end = clock_ns() + FORK_WAIT_NS;

	fork_list = NULL;
	fork_held = claim_fork_word();
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		/* No thread can get one that is unattached, because the registry is locked. One that holds
		 * nothing is left alone: to let go of it after the fork would copy its page, in the parent
		 * and in the child. */
		if (!heap_may_hold(h) ||
		    atomic_load_explicit(&h->unattached, memory_order_relaxed) ||
		    !claim_hold(h, fork_held))
			continue;
		h->fork_next = fork_list;
		fork_list = h;
	}
	DELAY_HERE(fork_gated);
	if (!HEAP_HAS_CLAIMS || !membarrier_expedited())
		return false;
	for (struct heap *h = fork_list; h; h = h->fork_next) {
		while (atomic_load_explicit(&h->busy, memory_order_acquire) && clock_ns() < end)
			park_sleep_us(20);
	}
	return true;
}

void heap_fork_prepare(void)
{
	lock_fork_prepare(&registry.lock);
	fork_sure = hold_all();
	lock_fork_prepare(&heap_fallback.lock);
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_prepare(slab_pool_lock(cls));
}

void heap_fork_parent(void)
{
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_parent(slab_pool_lock(cls));
	lock_fork_parent(&heap_fallback.lock);
	for (struct heap *next, *h = fork_list; h; h = next) {
		next = h->fork_next;
		heap_release(h);
	}
	lock_fork_parent(&registry.lock);
}

/* Whether nobody was in the heap when the process was copied. That of _Fork and clone is what each processor
 * had written at one moment, as the kernel lets nobody write while it copies; so busy and gate say it there. */
static bool was_outside(const struct heap *h, bool copy)
{
	if (atomic_load_explicit(&h->busy, memory_order_relaxed))
		return false;
	return claim_held_by(h, fork_held) ? fork_sure || copy : copy && !claim_is_held(h);
}

/*
 * In the child: a heap whose thread was out of it is whole, and waits for a thread or for
 * heap_take_orphan. One whose thread was inside, or that was made since the gates were held, may be
 * half changed: it stays held for good; objects of its slabs may still be freed (on their remote
 * lists), and that is all.
 */
static void fork_child_heap(struct heap *h, bool copy)
{
	if (atomic_load_explicit(&h->quarantined, memory_order_relaxed))
		return;
	if (atomic_load_explicit(&h->unattached, memory_order_relaxed)) {
		if (atomic_load_explicit(&h->claim, memory_order_relaxed) != CLAIM_FREE)
			atomic_store_explicit(&h->claim, CLAIM_FREE, memory_order_relaxed);
	} else if (was_outside(h, copy)) {
		atomic_store_explicit(&h->claim, CLAIM_FREE, memory_order_relaxed);
		atomic_store_explicit(&h->unattached, 1, memory_order_relaxed);
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
		h->free_next = registry.left;
		registry.left = h;
	} else {
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
		atomic_store_explicit(&h->claim, CLAIM_HELD, memory_order_relaxed);
		atomic_store_explicit(&h->quarantined, 1, memory_order_relaxed);
		stat_add(STAT_heaps_quarantined, 1);
	}
}

/* So prepare let it be, and so does the child: reap finds that its thread is no more. */
static bool holds_nothing(const struct heap *h)
{
	return atomic_load_explicit(&h->drained, memory_order_relaxed) &&
	       !atomic_load_explicit(&h->unattached, memory_order_relaxed);
}

static bool is_held_by_drain(const struct heap *h)
{
	return claim_is_held(h) && !claim_held_by(h, fork_held);
}

/* The child's own. In a copy without handlers a drainer that is not there may have been in it. */
static void fork_child_own(struct heap *h)
{
	if (is_held_by_drain(h)) {
		heap_self = &heap_none;
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
		atomic_store_explicit(&h->quarantined, 1, memory_order_relaxed);
		stat_add(STAT_heaps_quarantined, 1);
		return;
	}
	if (atomic_load_explicit(&h->claim, memory_order_relaxed) != CLAIM_FREE)
		atomic_store_explicit(&h->claim, CLAIM_FREE, memory_order_relaxed);
	atomic_store_explicit(&h->tid, self_tid(), memory_order_relaxed);
}

void heap_fork_child(bool copy, bool draining)
{
	process = (pid_t)lock_process();
	atomic_store_explicit(&heap_leader_gone, 0, memory_order_relaxed);
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_child(slab_pool_lock(cls));
	lock_fork_child(&heap_fallback.lock);
	for (struct heap *h = fork_list; h; h = h->fork_next)
		fork_child_heap(h, copy);
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		if (h == heap_self)
			fork_child_own(h);
		else if (!holds_nothing(h) && (!draining || !is_held_by_drain(h)))
			fork_child_heap(h, copy);
	}
	fork_list = NULL;
	lock_fork_child(&registry.lock);
}
