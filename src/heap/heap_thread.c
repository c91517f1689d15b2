/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_thread.c - heaps and their threads: start, end, death, fork.
 * Used by the other files of the heap, reclaim and the shim; uses claim, trim, meta, pcp.
 *
 * (A) Heaps are recycled and never unmapped. So the list of heaps is walked without a lock, and a
 *     thread that posts to an inbox needs no reference.
 * (B) If a slab is being posted while its owner ends, it stays with the heap, and the next thread
 *     of the heap gets it.
 * (C) A heap is unattached (on a list of registry), or has a live thread (tid), or is quarantined
 *     (fork), or its thread ended without telling us and reap will find it.
 *
 * Lock: registry (REGISTRY), list steps. A heap is pushed on registry.free without the lock,
 * because a thread may end while another one forks: by a release CAS that pairs with the acquire in
 * free_take. Heaps are published with release (heap_publish) and walked with acquire (heap_first).
 * Bound: the first call of a thread tries REAP_STEPS heaps and has one hold of the lock. In a child
 * of fork, each call that needs a slab abandons the slabs of one orphan, until there is none. The
 * end of a thread abandons the slabs of its heap.
 * Only heap_abandon_slabs runs inside a critical section here.
 * Signal handlers: if the interrupted call holds the lock, the call uses the fallback heap.
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
#include "base/delay.h"
#include "base/malloc_conf.h"
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

#define REAP_STEPS 3u
#define ORPHAN_STEPS 3u
#define FORK_WAIT_NS UINT64_C(10000000) /* for all heaps together */

/* TSan removes its own state of the thread in the last round, before our destructor runs. */
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
	/* Empty heaps that wait for a thread: any thread pushes, the holder of the lock takes. */
	_Atomic(struct heap *) free;
	/* Guarded by: lock; also read without it. Orphans: the heaps that a fork left in its child,
	 * with their slabs. */
	_Atomic(struct heap *) left;
} registry = { .lock = LOCK_INIT(LOCK_REGISTRY) };

static _Atomic(struct heap *) heaps;
static pthread_key_t exit_key;
static bool exit_key_made;
static bool options_known; /* libc had its environment when they were read */
_Atomic uint32_t heap_leader_gone;
void (*heap_leader_ends)(void);
_Atomic uint32_t heap_watch;
static pid_t process; /* our PID; in a vfork child getpid() differs */

/* Guarded by: registry. */
static bool fork_sure;         /* hold_all knows which threads were in a critical section */
static uint64_t fork_held;     /* the claim word of the heaps that the forking thread holds */
static struct heap *fork_list; /* these heaps */

static _Atomic uint32_t never_wiped = 1;
_Atomic(_Atomic uint32_t *) heap_copy_mark = &never_wiped;
void (*heap_copy_begins)(void);

static void thread_exit(void *arg);

/* A fork during the push costs its child an empty heap. */
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

/* The caller holds the lock, so the first heap cannot be taken and pushed again meanwhile (ABA). */
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

/* From here on the fast paths find an empty heap, and the slow ones find heap_in_copy. */
static void begin_copy(void)
{
	heap_in_copy = true;
	heap_self = &heap_gone;
}

/* With a reserve, the first touches of the heap should meet no page fault either. */
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
		/* A function called here may be one of another preloaded library that allocates
		 * when it starts (faketime). */
		heap_in_copy = true;
		vm_init();
		(void)self_tid(); /* lock.c notes the process */
		process = (pid_t)lock_process();
		make_copy_mark();
		link_init();
		options_known = options_load();
		malloc_conf_load();
		zones_init();
		pcp_init(&heap_fallback.heap->pcp, &zone_main);
		heap_init_bins(heap_fallback.heap);
		backtrace_begins = begin_copy;
		exit_key_made = pthread_key_create(&exit_key, thread_exit) == 0;
		heap_in_copy = false;
		atomic_store_explicit(&state, 2, memory_order_release);
		return;
	}
	/* An allocation from inside heap_init is served without a heap (heap_in_copy), so the
	 * thread that initialises gets here only by a direct call of heap_init: it must not wait
	 * for itself. */
	while (atomic_load_explicit(&state, memory_order_acquire) != 2 && !heap_in_copy)
		lock_pause();
}

void heap_init_late(void)
{
	if (!options_known) {
		options_known = options_load();
		malloc_conf_load();
		zones_init();
		populate(heap_self);
	}
	membarrier_init();
}

/*
 * A child of vfork uses the heap of its parent, and other processes may share our memory as well.
 * There self_tid is a TID of another process, which may end before our thread does: reap must not
 * rely on it. So lock_tid is 0 there, and the thread stores its own TID at a later call.
 */
void heap_note_tid(struct heap *h)
{
	(void)self_tid();
	atomic_store_explicit(&h->tid, lock_tid, memory_order_relaxed);
}

void heap_exit_free(struct heap *h)
{
	struct page *released = heap_take_released(h);

	heap_exit(h);
	pcp_free_linked(&h->pcp, released);
}

void heap_release(struct heap *h)
{
	/* If the heap is not empty, a walk drains it, as it drains that of a sleeping thread, or
	 * the next thread of the heap uses what is in it. */
	if (claim_release(h))
		heap_retire(h);
}

/* In the critical section of a heap whose thread has ended or is about to: empty the heap. */
static void finish(struct heap *h)
{
	heap_abandon_slabs(h);
	heap_exit_free(h);
	pcp_drain(&h->pcp);
	heap_retire(h);
}

/* Empty the heap of a thread that has ended without telling us. Returns false if the thread lives,
 * or ended inside a malloc. */
static bool reap(struct heap *h)
{
	uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);

	if (!tid || tid == self_tid() || !lock_thread_gone(tid) ||
	    !atomic_compare_exchange_strong_explicit(&h->tid, &tid, 0, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	/* If it is claimed, the claimer finishes it. If its thread ended inside a malloc (busy), it
	 * stays as it is. */
	while (!heap_enter_slow(h)) {
		if (atomic_load_explicit(&h->busy, memory_order_relaxed) || claim_owner_ends(h))
			return false;
	}
	finish(h);
	stat_add(STAT_heaps_reaped, 1);
	return true;
}

/*
 * A thread ends without telling us if its first call is made by its last thread-specific
 * destructor, or if it was made by a raw clone. So before a new heap is made, try to reap a few,
 * round robin.
 */
static void reap_some(void)
{
	static _Atomic(struct heap *) cursor;
	struct heap *h = atomic_load_explicit(&cursor, memory_order_acquire);

	for (unsigned i = 0; i < REAP_STEPS; i++) {
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
	do {
		h = free_take();
		if (!h && (h = registry.left) != NULL)
			registry.left = h->free_next;
	} while (h && heap_is_quarantined(h)); /* one at most, of a drain that a fork met */
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
		heap_retire(h); /* a signal handler made a heap meanwhile */
		return heap_self;
	}
	h->exit_rounds = 0;
	heap_note_tid(h);
	heap_self = h;
	/* libc may call malloc for its own table here, which works since heap_self is set. */
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
 * Thread-specific destructors run in rounds. Ours asks for another round until the last one, so
 * that destructors of the program may still use malloc and free. Later calls use the fallback heap.
 */
static void heap_end(struct heap *h)
{
	DELAY_HERE(claim_exit);
	heap_self = &heap_gone;
	atomic_store_explicit(&h->tid, 0, memory_order_relaxed); /* reap skips it */
	while (!heap_enter_slow(h)) {
		/* If it is claimed, the claimer finishes it. If the thread ends inside a malloc
		 * (pthread_exit in a signal handler, asynchronous cancellation), its heap stays as
		 * it is: not supported, and a bounded loss. */
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
	unsigned steps = ORPHAN_STEPS;

	if (likely(!atomic_load_explicit(&registry.left, memory_order_relaxed)) ||
	    lock_acquire(&registry.lock) != 0)
		return false;
	/* Skip an orphan that a drain has claimed: no call waits for a drain. */
	for (h = registry.left; h && !heap_enter_slow(h); h = --steps ? h->free_next : NULL) {
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
 * Hold every heap that may hold something, except the caller's own and claimed ones. Then wait, for
 * a bounded time, until their threads are out of their critical sections. Returns false if that
 * cannot be known (no membarrier).
 */
static bool hold_all(void)
{
	uint64_t end = clock_ns() + FORK_WAIT_NS;

	fork_list = NULL;
	fork_held = claim_fork_word();
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		/* No thread can get an unattached heap, because the registry is locked. An empty
		 * heap is left alone: a write to it after the fork would copy its page, in the
		 * parent and in the child. */
		if (!heap_may_hold(h) ||
		    atomic_load_explicit(&h->unattached, memory_order_relaxed) ||
		    !claim_hold(h, fork_held))
			continue;
		h->fork_next = fork_list;
		fork_list = h;
	}
	DELAY_HERE(fork_claimed);
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
		if (claim_unhold(h))
			heap_retire(h);
	}
	lock_fork_parent(&registry.lock);
}

/*
 * Whether no thread was in the critical section of the heap when the process was copied. A copy
 * made by _Fork or clone has the stores of all processors up to one moment, because the kernel lets
 * no thread write while it copies. So busy and claim are enough there.
 */
static bool was_outside(const struct heap *h, bool copy)
{
	if (atomic_load_explicit(&h->busy, memory_order_relaxed))
		return false;
	return claim_held_by(h, fork_held) ? fork_sure || copy : copy && !claim_is_held(h);
}

static bool is_held_by_drain(const struct heap *h)
{
	return claim_is_held(h) && !claim_held_by(h, fork_held);
}

/*
 * In the child: if the thread of the heap was outside of its critical section, the heap is intact,
 * and waits for a thread or for heap_take_orphan. If the thread was inside, or the heap was made
 * after hold_all, or a drainer that the child does not have had claimed it, it may be half changed:
 * it stays claimed for good. Objects of its slabs may still be freed, on the remote lists.
 */
static void fork_child_heap(struct heap *h, bool copy)
{
	if (atomic_load_explicit(&h->quarantined, memory_order_relaxed))
		return;
	if (atomic_load_explicit(&h->unattached, memory_order_relaxed) && !is_held_by_drain(h)) {
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

/* Whether heap_fork_prepare skipped the heap as empty. The child skips it as well: reap finds that
 * its thread has ended. */
static bool holds_nothing(const struct heap *h)
{
	return atomic_load_explicit(&h->drained, memory_order_relaxed) &&
	       !atomic_load_explicit(&h->unattached, memory_order_relaxed);
}

/* The child's own heap. In a copy without fork handlers, a drainer that the child does not have may
 * have claimed it. */
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
