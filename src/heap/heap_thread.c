/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_thread.c - heaps and their threads: start, end, death, fork.
 * Used by the other files of the heap, reclaim and the shim; uses claim, trim, meta, pcp.
 *
 * (A) Heaps are recycled and never unmapped. So the list of heaps is walked without a lock, and a
 *     thread that posts to an inbox needs no reference.
 * (B) If a slab is still on its way into the inbox when its owner has ended, it stays with the
 *     heap. The next thread of the heap gets it, or a drain that claims heaps.
 * (C) A heap is unattached (on the list of registry), or has a live thread (tid), or is quarantined
 *     (fork), or its thread ended without telling us, or is one of a parent of this process (an
 *     orphan); reap finds the last two.
 * (D) Whoever wants to empty the heap of such a thread first changes the word that says so, by CAS:
 *     tid, or an orphan's process and then its tid (t/model/orphan.pml).
 *
 * Lock: registry (REGISTRY), list steps. A heap is pushed on registry.free without the lock,
 * because a thread may end while another one forks: by a release CAS that pairs with the acquire in
 * free_take. Heaps are published by the CAS in heap_publish and found by the load in heap_next.
 * Bound: the first call of a thread tries REAP_STEPS heaps or none and has one hold of the lock. In
 * a child of fork, each call that needs a slab, after the first ORPHAN_CALLS, looks at ORPHAN_STEPS
 * heaps, and abandons the slabs of one orphan, until all were seen. The end of a thread abandons
 * the slabs of its heap, unless the heap stays warm (finish).
 * Only heap_abandon_slabs runs inside a critical section here.
 * Signal handlers: if the interrupted call holds this lock, or one of a later rank while another
 * thread holds this one, the call uses the fallback heap.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_thread.h"

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
#include "heap/heap_work.h"
#include "heap/livebits.h"
#include "heap/trim.h"
#include "os/membarrier.h"
#include "os/vm.h"
#include "page/pagemap.h"
#include "page/purge.h"
#include "page/zone.h"

#define REAP_STEPS 3u
#define REAP_GAP 16u /* the most new heaps between two looks */
#define ORPHAN_STEPS 3u
#define WARM_PAGES (1u << (20 - PG_SHIFT))
#define ORPHAN_CALLS 64u
#define FORK_WAIT_NS UINT64_C(10000000) /* for all heaps together */

/* Each round goes through all keys. */
#define EXIT_ROUND 3u

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
void (*heap_new_asks)(void);
void (*heap_due_begins)(bool allocates);

static struct {
	struct lock lock;
	/* Heaps that wait for a thread: any thread pushes, the holder of the lock takes. */
	_Atomic(struct heap *) free;
	/* How many of them were left as they were; options.warm_heaps at most, but for those that
	 * threads leave at the same time. */
	_Atomic uint32_t warm;
	/* Guarded by: lock; also read without it. In a child of fork: the next heap that may be an
	 * orphan. */
	_Atomic(struct heap *) orphan;
	/* In a child of fork: calls that need a slab before the first one takes an orphan. Only
	 * counted down, by plain stores: a lost step costs one more call. */
	_Atomic uint32_t orphan_calls;
	/* New heaps between two looks of reap_some, and until the next. Plain stores: a lost step
	 * costs one more. */
	_Atomic uint32_t reap_gap;
	_Atomic uint32_t reap_left;
} registry = { .lock = LOCK_INIT(LOCK_REGISTRY) };

static pthread_key_t exit_key;
static bool exit_key_made;
static bool options_known; /* libc had its environment when they were read */
_Atomic uint32_t heap_leader_gone;
void (*heap_leader_ends)(void);
_Atomic uint32_t heap_watch;
static pid_t process; /* our PID; in a vfork child getpid() differs */

/* Guarded by: registry. */
static bool fork_sure; /* mark_all knows which threads were in a critical section */
static struct heap *fork_called[PCP_FORK_MAX]; /* heaps whose threads made calls before the fork */
static unsigned fork_calls;

uint32_t heap_process;

static _Atomic uint32_t never_wiped = 1;
_Atomic(_Atomic uint32_t *) heap_copy_mark = &never_wiped;
void (*heap_copy_begins)(void);

static void thread_exit(void *arg);

/* A fork during the push costs its child a heap; what is in it is drained as that of a sleeper. */
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

/* Acquire pairs with the release of the CAS in heap_publish. */
static struct heap *find_ahead(struct heap *next)
{
	for (unsigned i = 1; i < HEAPS_AHEAD && next; i++)
		next = atomic_load_explicit(&next->next, memory_order_acquire);
	return next;
}

static void heap_publish(struct heap *h)
{
	_Atomic(struct heap *) *list = &heap_fallback.heap->next;
	struct heap *head = atomic_load_explicit(list, memory_order_acquire);

	h->ahead = find_ahead(head);
	SHARE_COUNT(heap_list);
	do {
		h->number = head ? (uint16_t)(head->number + 1) : 1;
		atomic_store_explicit(&h->next, head, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(list, &head, h, memory_order_seq_cst,
							memory_order_acquire));
}

/* From here on the fast paths find an empty heap, and the slow ones find heap_in_copy. */
static void begin_copy(void)
{
	heap_in_copy = true;
	heap_slow_only = true;
	heap_self = &heap_gone;
}

/* With a reserve, the first touches of the heap should meet no page fault either. */
static void populate(struct heap *h)
{
	if (!options.reserve || h == &heap_none)
		return;
	vm_populate(h, heap_bytes());
	if (h->rows)
		vm_populate(h->rows, BIN_ROWS_BYTES);
}

static void make_copy_mark(void)
{
	_Atomic uint32_t *mark = vm_map_wiped();

	if (!mark)
		return;
	atomic_store_explicit(mark, 1, memory_order_relaxed);
	atomic_store_explicit(&heap_copy_mark, mark, memory_order_release);
}

/* Before the first region; the options are known. */
static void start_pages(void)
{
	pagemap_init();
	if (options.thp == THP_AUTO)
		vm_thp_init();
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
		zone_init(&zone_main);
		start_pages();
		zones_init();
		pcp_init(&heap_fallback.heap->pcp, &zone_main);
		pcp_open(&heap_fallback.heap->pcp);
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
		if (!zone_first_region(&zone_main))
			start_pages();
		zones_init();
		if (options.reserve && heap_is_real(heap_own()))
			bin_rows_make(heap_own());
		populate(heap_own());
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
	pcp_free_linked(&h->pcp, heap_released(released));
}

void heap_release(struct heap *h)
{
	/* If the heap is not empty, a walk drains it, as it drains that of a sleeping thread, or
	 * the next thread of the heap uses what is in it. */
	if (claim_release(h))
		heap_retire(h);
}

/* In the critical section of a heap whose thread has ended or is about to: the heap waits for the
 * next thread. Where the background thread drains those of idle threads, a few stay as they are,
 * and are drained as these are; the others are emptied. */
static void finish(struct heap *h, bool may_stay)
{
	h->warm = may_stay && !trim_inline &&
		  atomic_load_explicit(&registry.warm, memory_order_relaxed) < options.warm_heaps;
	if (h->warm)
		atomic_fetch_add_explicit(&registry.warm, 1, memory_order_relaxed);
	else
		heap_abandon_slabs(h);
	heap_exit_free(h);
	pcp_drain_to(&h->pcp, h->warm ? WARM_PAGES : 0);
	heap_retire(h);
}

/* The thread of the heap has ended, or is about to: empty the heap. Returns false if others do it,
 * or nobody. */
static bool end_heap(struct heap *h)
{
	lock_call_begins(); /* a handler may end a thread that holds a lock */
	while (!heap_enter_slow(h)) {
		/* If it is claimed, the claimer finishes it. If its thread ended inside a malloc
		 * (pthread_exit in a signal handler, asynchronous cancellation), its heap stays as
		 * it is: not supported, and a bounded loss. */
		if (atomic_load_explicit(&h->busy, memory_order_relaxed) || claim_owner_ends(h))
			return false;
		if (lock_fork_under_way()) {
			heap_retire(h); /* as it is, as in heap_release */
			return false;
		}
	}
	finish(h, true);
	return true;
}

/* Whether the caller has to end the heap of a thread that is gone, (D). */
static bool take_orphan(struct heap *h)
{
	uint32_t parents = atomic_load_explicit(&h->process, memory_order_acquire);
	uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);

	if (parents == heap_process || !heap_is_orphan(h) ||
	    !atomic_compare_exchange_strong_explicit(&h->process, &parents, heap_process,
						     memory_order_acq_rel, memory_order_relaxed))
		return false;
	DELAY_HERE(orphan_taken);
	/* The TID decides as well: take_gone of another thread may be at it. */
	return !tid ||
	       atomic_compare_exchange_strong_explicit(&h->tid, &tid, 0, memory_order_acquire,
						       memory_order_relaxed);
}

static bool take_gone(struct heap *h)
{
	uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);

	return tid && tid != self_tid() && lock_thread_gone(tid) &&
	       atomic_compare_exchange_strong_explicit(&h->tid, &tid, 0, memory_order_acquire,
						       memory_order_relaxed);
}

/* Empty the heap of a thread that has ended without telling us. An orphan stays as it is, because a
 * call empties few heaps. Returns false if the thread lives, or ended inside a malloc. */
static bool reap(struct heap *h)
{
	if (take_orphan(h)) {
		heap_retire(h);
		return true;
	}
	if (!take_gone(h) || !end_heap(h))
		return false;
	stat_add(STAT_heaps_reaped, 1);
	return true;
}

/*
 * A thread ends without telling us if its first call is made by its last thread-specific
 * destructor, or if it was made by a raw clone. So before a new heap is made, try to reap a few,
 * round robin. Each costs a system call and most processes have no such thread: the longer none is
 * found, the fewer new heaps look.
 */
static void reap_some(void)
{
	static _Atomic(struct heap *) cursor;
	uint32_t wait = atomic_load_explicit(&registry.reap_left, memory_order_relaxed);
	uint32_t next = atomic_load_explicit(&registry.reap_gap, memory_order_relaxed);
	struct heap *h;

	if (wait) {
		atomic_store_explicit(&registry.reap_left, wait - 1, memory_order_relaxed);
		return;
	}
	h = atomic_load_explicit(&cursor, memory_order_acquire);
	next = next < REAP_GAP ? next + 1 : REAP_GAP;
	for (unsigned i = 0; i < REAP_STEPS; i++) {
		h = h ? heap_next(h) : heap_first();
		if (h && reap(h)) {
			next = 0;
			break;
		}
	}
	atomic_store_explicit(&cursor, h, memory_order_release);
	atomic_store_explicit(&registry.reap_gap, next, memory_order_relaxed);
	atomic_store_explicit(&registry.reap_left, next, memory_order_relaxed);
}

/* The holder of the lock. Returns NULL if no heap waits for a thread. */
static struct heap *take_waiting(void)
{
	struct heap *h;

	do {
		h = free_take();
		if (!h)
			return NULL;
		if (h->warm) {
			h->warm = false;
			atomic_fetch_sub_explicit(&registry.warm, 1, memory_order_relaxed);
		}
	} while (heap_is_quarantined(h)); /* one at most, of a drain that a fork met */
	/* Release: one that sees it attached does not take it for an orphan. */
	atomic_store_explicit(&h->process, heap_process, memory_order_relaxed);
	atomic_store_explicit(&h->unattached, 0, memory_order_release);
	return h;
}

/* Returns NULL if the heap that was left last is not warm. */
static struct heap *take_warm(void)
{
	struct heap *h;

	if (lock_acquire(&registry.lock) != 0)
		return NULL;
	h = atomic_load_explicit(&registry.free, memory_order_acquire);
	if (h)
		h = h->warm ? take_waiting() : NULL;
	lock_release(&registry.lock);
	return h;
}

void heap_empty_warm(unsigned n)
{
	struct heap *h;

	if (heap_process) /* a child of fork would copy what it writes to */
		return;
	while (n-- && (h = take_warm()) != NULL) {
		if (heap_enter_slow(h))
			finish(h, false);
		else
			heap_retire(h);
	}
}

noinline struct heap *heap_create_self(void)
{
	bool asks = false;
	struct heap *h;

	if (unlikely(heap_in_copy))
		return &heap_none;
	lock_call_begins();
	heap_init();
	if (self_tid() != (uint32_t)process)
		live_other_thread();
	if (!atomic_load_explicit(&registry.free, memory_order_relaxed))
		reap_some();
	if (lock_acquire(&registry.lock) != 0)
		return &heap_none;
	h = take_waiting();
	lock_release(&registry.lock);
	if (h) {
		stat_add(STAT_heaps_reused, 1);
		pcp_set_zone(&h->pcp, zone_pick());
	} else {
		bool known = heap_first() &&
			     atomic_load_explicit(&heap_bins_known, memory_order_acquire);
		char *place = meta_alloc(HEAP_OFFSET + (known ? heap_bytes() : HEAP_BYTES));

		if (!place)
			return &heap_none;
		h = (struct heap *)(void *)(place + HEAP_OFFSET);
		pcp_init(&h->pcp, zone_pick());
		heap_init_bins(h);
		if (options.reserve)
			bin_rows_make(h);
		atomic_store_explicit(&h->process, heap_process, memory_order_relaxed);
		atomic_store_explicit(&h->drained, 1, memory_order_relaxed);
		atomic_store_explicit(&h->bins_purged, 1, memory_order_relaxed);
		heap_publish(h);
		pcp_open(&h->pcp);
		stat_add(STAT_heaps_made, 1);
		asks = h->number % GROWTH_NEW == 0 && heap_new_asks;
	}
	populate(h);
	if (unlikely(heap_self != &heap_none)) {
		heap_retire(h); /* a signal handler made a heap meanwhile */
		return heap_own();
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
	if (asks)
		heap_new_asks();
	return h;
}

struct pcp *heap_pcp_self(void)
{
	struct heap *h = heap_own();

	return heap_is_real(h) ? &h->pcp : &heap_fallback.heap->pcp;
}

/*
 * A call that needs the pcp alone does not pass the critical section, and is a call of the thread
 * all the same: it takes a mark back, so that the thread does not count as idle.
 */
static noinline void take_mark_back(struct heap *h)
{
	if (!heap_enter_slow(h))
		return;
	heap_touched(h);
	heap_exit(h);
}

struct pcp *heap_pcp(void)
{
	struct heap *h;

	heap_copy_check();
	if (unlikely(heap_self == &heap_none))
		heap_create_self();
	h = heap_own();
	if (unlikely(!heap_is_real(h)))
		return &heap_fallback.heap->pcp;
	if (unlikely(claim_is_pending(h)))
		take_mark_back(h);
	return &h->pcp;
}

/*
 * Thread-specific destructors run in rounds. Ours asks for two more, so that destructors of the
 * program may still use malloc and free in the first two. Later calls use the fallback heap.
 */
static void heap_end(struct heap *h)
{
	DELAY_HERE(claim_exit);
	heap_self = &heap_gone;
	atomic_store_explicit(&h->tid, 0, memory_order_relaxed); /* reap skips it */
	end_heap(h);
}

static void thread_exit(void *arg)
{
	struct heap *h = arg;

	if (heap_own() != h)
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
		    !heap_is_orphan(h) && !lock_thread_gone(tid))
			return true;
	}
	return false;
}

/* An empty one waits for reap. */
static struct heap *next_orphan(void)
{
	struct heap *h = registry.orphan;
	struct heap *found = NULL;

	for (unsigned i = 0; i < ORPHAN_STEPS && h && !found; i++, h = heap_next(h)) {
		hold_step(LOCK_REGISTRY, 1);
		if (heap_may_hold(h) && take_orphan(h))
			found = h;
	}
	registry.orphan = h;
	return found;
}

bool heap_take_orphan(void)
{
	struct heap *h;

	if (likely(!atomic_load_explicit(&registry.orphan, memory_order_relaxed)) ||
	    lock_acquire(&registry.lock) != 0)
		return false;
	h = next_orphan();
	lock_release(&registry.lock);
	return h && end_heap(h);
}

void heap_slab_needed(void)
{
	uint32_t calls;

	if (likely(!atomic_load_explicit(&registry.orphan, memory_order_relaxed)))
		return;
	calls = atomic_load_explicit(&registry.orphan_calls, memory_order_relaxed);
	if (calls)
		atomic_store_explicit(&registry.orphan_calls, calls - 1, memory_order_relaxed);
	else
		heap_take_orphan();
}

/* ---- fork -------------------------------------------------------------------------------- */

/* The forking thread's own calls go on while the fork is under way, when no mark is taken back. */
void heap_fork_begin(void)
{
	struct heap *h = heap_own();

	if (heap_is_real(h) && heap_enter_slow(h))
		heap_exit(h);
}

/* Wait, for a bounded time, until all threads are outside of their heaps. One that has ended inside
 * (end_heap) is not waited for. */
static void wait_outside(void)
{
	uint64_t end = clock_ns() + FORK_WAIT_NS;

	for (struct heap *h = heap_first(); h; h = heap_next(h))
		while (h != heap_own() && atomic_load_explicit(&h->busy, memory_order_acquire) &&
		       atomic_load_explicit(&h->tid, memory_order_relaxed) && clock_ns() < end)
			park_sleep_us(20);
}

/*
 * Mark every heap that may hold something, except the caller's own, and wait until the threads are
 * outside. While the fork is under way they do not get in again (claim.c, (F)). Returns false if
 * that cannot be known. An empty heap is left alone: a write after a fork copies its page.
 */
static bool mark_all(void)
{
	fork_calls = 0;
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		if (!heap_may_hold(h))
			continue;
		if (fork_calls < PCP_FORK_MAX &&
		    atomic_load_explicit(&h->claim, memory_order_relaxed) == CLAIM_FREE)
			fork_called[fork_calls++] = h;
		claim_mark(h);
	}
	DELAY_HERE(fork_claimed);
	if (!HEAP_HAS_CLAIMS || !membarrier_expedited())
		return false;
	wait_outside();
	return true;
}

void heap_fork_prepare(bool control)
{
	lock_fork_prepare(&registry.lock);
	fork_sure = control && mark_all();
	lock_fork_prepare(&heap_fallback.lock);
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_prepare(slab_pool_lock(cls));
}

/* Nobody is in the pcp of a thread that makes no calls. */
void heap_fork_pcps(void)
{
	pcp_fork_hold(&heap_fallback.heap->pcp);
	pcp_fork_hold(heap_pcp_self());
	for (unsigned i = 0; i < fork_calls; i++)
		pcp_fork_hold(&fork_called[i]->pcp);
}

void heap_fork_parent(void)
{
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_parent(slab_pool_lock(cls));
	lock_fork_parent(&heap_fallback.lock);
	lock_fork_parent(&registry.lock);
}

static void quarantine(struct heap *h)
{
	atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
	atomic_store_explicit(&h->claim, CLAIM_HELD, memory_order_relaxed);
	atomic_store_explicit(&h->quarantined, 1, memory_order_relaxed);
	stat_add(STAT_heaps_quarantined, 1);
}

/*
 * In the child: a heap is intact if no thread was in its critical section when the process was
 * copied, and no drainer that the child does not have had claimed it. A copy has the stores of all
 * processors up to one moment, because the kernel lets no thread write while it copies. So busy and
 * claim are enough if no handlers ran (_Fork, clone), or if they could not make sure.
 *
 * An intact heap is not touched, because that would copy its page. It has a number of its parent's,
 * so it is an orphan, and waits for heap_take_orphan or reap; drains see it as that of a thread
 * that sleeps. Another one may be half changed: it stays claimed for good. Objects of its slabs may
 * still be freed, on the remote lists.
 */
static void fork_child_heap(struct heap *h, bool copy)
{
	bool attached = !atomic_load_explicit(&h->unattached, memory_order_relaxed);

	/* mark_all left it alone if it was empty. */
	if (atomic_load_explicit(&h->busy, memory_order_relaxed) || claim_is_held(h) ||
	    (fork_sure && !copy && attached && !heap_is_empty(h) && !claim_is_pending(h)))
		quarantine(h);
}

/* The child's own heap. In a copy without fork handlers, a drainer that the child does not have may
 * have claimed it. */
static void fork_child_own(struct heap *h)
{
	if (claim_is_held(h)) {
		heap_self = &heap_none;
		quarantine(h);
		return;
	}
	if (atomic_load_explicit(&h->claim, memory_order_relaxed) != CLAIM_FREE)
		atomic_store_explicit(&h->claim, CLAIM_FREE, memory_order_relaxed);
	atomic_store_explicit(&h->tid, self_tid(), memory_order_relaxed);
	atomic_store_explicit(&h->process, heap_process, memory_order_relaxed);
}

void heap_fork_child(bool copy, bool draining)
{
	process = (pid_t)lock_process();
	heap_process++;
	atomic_store_explicit(&heap_leader_gone, 0, memory_order_relaxed);
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_child(slab_pool_lock(cls));
	lock_fork_child(&heap_fallback.lock);
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		if (h == heap_own())
			fork_child_own(h);
		else if (!heap_is_quarantined(h) && (!draining || !claim_is_held(h)))
			fork_child_heap(h, copy);
	}
	registry.orphan = heap_first();
	registry.orphan_calls = ORPHAN_CALLS;
	/* There is something to find. */
	registry.reap_gap = 0;
	registry.reap_left = 0;
	lock_fork_child(&registry.lock);
}
