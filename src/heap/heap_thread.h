/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_thread.h - heaps and the threads they belong to: start, end, fork.
 */
#ifndef SLUICE_HEAP_THREAD_H
#define SLUICE_HEAP_THREAD_H

#include "base/lock.h"
#include "heap/heap_types.h"

/* The heap of calls that cannot use their thread's; its lock stands for its critical section. */
struct heap_shared {
	struct lock lock;
	struct heap *const heap;
};
extern struct heap_shared heap_fallback;

/* Make the library ready; the first call that finds heap_none does it by itself. */
void heap_init(void);

/* Reads the options again if libc did not have its environment, and registers the expedited
 * membarrier. Called from the constructor. */
void heap_init_late(void);

/*
 * What most walks read of a heap, in three lines. Of a thousand heaps few are in the processor's
 * caches, all the less since they begin at the same offset of their pages, so that a walk waits for
 * memory three times for each. So the heap that is HEAPS_AHEAD further on is prefetched.
 */
#define HEAPS_AHEAD 8u
static inline void heap_prefetch(const struct heap *h)
{
	__builtin_prefetch(&h->claim);
	__builtin_prefetch(&h->inbox);
	__builtin_prefetch(&h->pcp);
}

/*
 * The list of all heaps, for walks without a lock. Its head is the fallback heap, which no thread
 * owns and nobody claims: walks over pcps begin there, walks over heaps behind it. seq_cst for
 * pcp_open.
 */
static inline struct heap *heap_next(struct heap *h)
{
	if (h->ahead)
		heap_prefetch(h->ahead);
	return atomic_load_explicit(&h->next, memory_order_seq_cst);
}
static inline struct heap *heap_first(void)
{
	return heap_next(heap_fallback.heap);
}

/* Nobody has used it since it was emptied. */
static inline bool heap_is_empty(const struct heap *h)
{
	return atomic_load_explicit(&h->drained, memory_order_relaxed) != 0;
}

static inline bool heap_is_quarantined(const struct heap *h)
{
	return atomic_load_explicit(&h->quarantined, memory_order_relaxed) != 0;
}

static inline bool heap_has_inbox(const struct heap *h)
{
	return atomic_load_explicit(&h->inbox, memory_order_relaxed) != NULL;
}

/* Whether a heap of others may hold something. A post may still arrive at one that was emptied, or
 * whose thread has ended, and page-level calls do not pass the critical section. */
static inline bool heap_may_hold(const struct heap *h)
{
	return h != heap_own() && !heap_is_quarantined(h) &&
	       (heap_has_inbox(h) || atomic_load_explicit(&h->pcp.count, memory_order_relaxed) ||
		!heap_is_empty(h));
}

/* Whether the places of its bins cost memory, though they may be empty. */
static inline bool heap_has_bins(const struct heap *h)
{
	return h != heap_own() && !heap_is_quarantined(h) &&
	       !atomic_load_explicit(&h->bins_purged, memory_order_relaxed);
}

/* The number of forks and copies that led to this process. Written in a new process. */
extern uint32_t heap_process;

/* Its thread is one of a parent of this process. */
static inline bool heap_is_orphan(const struct heap *h)
{
	return atomic_load_explicit(&h->process, memory_order_relaxed) != heap_process &&
	       !atomic_load_explicit(&h->unattached, memory_order_acquire) &&
	       !heap_is_quarantined(h);
}

/* Empties up to n of the heaps that the last threads left as they were, so that a second free of
 * what is in them is noticed. For the program's end; does nothing in a child of fork. */
void heap_empty_warm(unsigned n);

/* Called after GROWTH_NEW new heaps, by the thread that got the last one, without locks and outside
 * critical sections: others may have left what it needs. Set by reclaim. */
extern void (*heap_new_asks)(void);

/* A heap for the calling thread. heap_none stays when there is no memory for one. */
struct heap *heap_create_self(void);
void heap_note_tid(struct heap *h);

/* Put a heap that has no thread where the next thread finds it. */
void heap_retire(struct heap *h);

/* Let go of a claimed or held heap, and retire it if its owner ended meanwhile. */
void heap_release(struct heap *h);

/* Abandon what a fork left with a thread that the child does not have. Returns false if nothing. */
bool heap_take_orphan(void);

/* Called before a thread looks for a slab. In a child of fork that goes on to need slabs, takes an
 * orphan. */
void heap_slab_needed(void);

/* The pcp of the calling thread; a thread without a heap uses the fallback's. heap_pcp makes a heap
 * if the thread has none. */
struct pcp *heap_pcp(void);
struct pcp *heap_pcp_self(void);

/* Leave the critical section, and give the slabs that were released in it to the pcp. */
void heap_exit_free(struct heap *h);

/*
 * What the library has to do at a moment when libc may be called, for instance start its thread: a
 * slow-path call does it before it begins, without locks and outside of critical sections. libc
 * frees a thread's memory with a lock held that pthread_create takes, so HEAP_DUE_ALLOC is left to
 * calls that allocate.
 */
enum { HEAP_DUE_NOT, HEAP_DUE_ALLOC, HEAP_DUE_CALL };
extern _Atomic uint32_t heap_due;
extern void (*heap_due_begins)(bool allocates);

/* 1: the first call of a thread that is not the first one makes it HEAP_DUE_ALLOC. */
extern _Atomic uint32_t heap_watch;

/* False in a child of vfork, which is another process in the same memory. */
bool heap_in_process(void);

/* The thread that the process began with has ended, and others go on; what it calls then. */
extern _Atomic uint32_t heap_leader_gone;
extern void (*heap_leader_ends)(void);

/*
 * Whether a thread has a heap other than the first one, the caller and `ours` (a TID): such a
 * thread calls park_notify_exit before it ends. A system call for each heap looked at, up to the
 * first such thread.
 */
bool heap_others(uint32_t ours);

/* fork, in this order of layers; see fork.c. heap_fork_begin comes before lock_fork_begin. */
void heap_fork_begin(void);
void heap_fork_prepare(bool control); /* the caller holds reclaim_control */
void heap_fork_pcps(void);
void heap_fork_parent(void);

/* copy: no handlers ran, see heap_copy_mark. draining: the interrupted call of the forking thread
 * is a drain, and goes on in the child with the heaps that it holds. */
void heap_fork_child(bool copy, bool draining);

/*
 * A process that is made by _Fork or a raw clone runs no fork handlers. Its first slow-path call
 * finds that this word was wiped, and calls heap_copy_begins, which sets it again. A child of vfork
 * has its parent's word.
 */
extern _Atomic(_Atomic uint32_t *) heap_copy_mark;
extern void (*heap_copy_begins)(void);

/*
 * Set in the copy of the process that writes a backtrace (backtrace.h): the locks of threads that
 * are not there, and a heap's busy, may be set for good. Each object is a mapping of its own there,
 * and none that was there before is ever freed. That process has one thread. Also set in the thread
 * that does heap_init, meanwhile: then no object was there before.
 */
extern _Thread_local bool heap_in_copy TLS_FAST;

/* Acquire pairs with the release in make_copy_mark. */
static always_inline _Atomic uint32_t *heap_copy_word(void)
{
	return atomic_load_explicit(&heap_copy_mark, memory_order_acquire);
}

static always_inline void heap_copy_check(void)
{
	if (unlikely(!atomic_load_explicit(heap_copy_word(), memory_order_relaxed)) &&
	    heap_copy_begins && !heap_in_copy)
		heap_copy_begins();
}

#endif
