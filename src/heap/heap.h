/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.h - a thread's heap: what malloc and free are made of.
 */
#ifndef SLUICE_HEAP_H
#define SLUICE_HEAP_H

#include "heap/large.h"
#include "base/list.h"
#include "page/pagemap.h"
#include "page/pcp.h"
#include "heap/outbox.h"
#include "heap/sizeclass.h"
#include "heap/slab.h"
#include "heap/slab_pool.h"
#include "types.h"

/*
 * gate: what others may do with a heap whose owner makes no calls. Bits 1-0 are the state, bit
 * 2 is CLAIM_EXITED, the rest is the generation, which each attempt raises.
 */
#define CLAIM_FREE UINT64_C(0)
#define CLAIM_PENDING UINT64_C(1)
#define CLAIM_HELD UINT64_C(2)
#define CLAIM_STATE UINT64_C(3)
#define CLAIM_EXITED UINT64_C(4) /* with CLAIM_HELD: its owner has gone */
#define CLAIM_STEP UINT64_C(8)

/*
 * A stack of free objects. *top is the object freed last, or the NULL at the stack's bottom;
 * limit is the highest place that top may have, of whose address the low 32 bits are enough: all places of a heap lie
 * side by side. divisor: the inverse of its objects' size, see class_divides; set once.
 */
struct cache_bin {
	struct object **top;
	uint32_t limit;
	uint32_t divisor;
};

/* Objects a bin holds at the most: BIN_BYTES of them, but BIN_MIN to BIN_MAX. */
#define BIN_MAX 256u
#define BIN_MIN 2u
#define BIN_BYTES 131072u
#define BIN_CAPACITY(size)                                                                         \
	(BIN_BYTES / (size) < BIN_MIN   ? BIN_MIN                                                  \
	 : BIN_BYTES / (size) > BIN_MAX ? BIN_MAX                                                  \
					: BIN_BYTES / (size))

/* A bin for each size class, then those of large objects. */
#define BINS (CLASSES + LARGE_BINS)

/*
 * A bin's objects stand in a row of as many places as it may have, but BIN_SMALL at the most, or in one of
 * BIN_MAX once it has more room, each above a bottom: so those of a thread that needs few fill few pages.
 */
#define BIN_SMALL 64u
struct bin_rows {
#define SIZECLASS(size, pages)                                                                     \
	struct object                                                                              \
		*of_##size[(BIN_CAPACITY(size) > BIN_SMALL ? BIN_SMALL : BIN_CAPACITY(size)) + 1];
#include "heap/sizeclass.def"
#undef SIZECLASS
	struct object *large[LARGE_BINS][LARGE_BIN_MAX + 1];
};
enum {
	BIN_ROWS = 0
#define SIZECLASS(size, pages) +(BIN_CAPACITY(size) > BIN_SMALL)
#include "heap/sizeclass.def"
#undef SIZECLASS
	,
	BIN_SMALL_SLOTS = sizeof(struct bin_rows) / sizeof(struct object *),
	BIN_SLOTS = BIN_SMALL_SLOTS + BIN_ROWS * (BIN_MAX + 1)
};

struct heap {
	/*
	 * The window. Owner thread only writes busy; who gates the heap reads it. An owner sets
	 * busy, then reads gate; a gater sets gate, makes every thread pass a full barrier
	 * (membarrier), then reads busy: one of them sees the other.
	 */
	_Atomic uint32_t busy;
	_Atomic uint64_t claim;

	/* Owner thread inside its window. */
	struct cache_bin bin[BINS];             /* what malloc pops and free pushes */
	struct page *current[CLASSES];          /* LIST_CURRENT: refills bin, or NULL */
	struct page_list_head partial[CLASSES]; /* LIST_PARTIAL: have room */
	struct page_list_head full;             /* LIST_FULL, of all classes */
	struct page *inbox_todo;                /* taken from inbox, not yet looked at */
	struct page *release;                   /* runs for the pcp, after the window */
	uint16_t bin_bottom[BINS];              /* where in bin_slots it is now */
	uint8_t idle_rounds[BINS];              /* turns since it was refilled or full */
	uint8_t foreign_frees[CLASSES];         /* frees of others' objects before the bin began */
	uint8_t age_next;                       /* the bin whose turn it is */
	uint32_t slow_calls;

	/* Owner thread only. */
	uint32_t trims_seen;  /* of heap_ask_trim */
	uint32_t trim_bin;    /* where the trim goes on, */
	uint32_t trim_for;    /* and which of them it is */
	uint32_t exit_rounds; /* thread-specific destructors seen */

	/* Any thread, atomic: its thread's TID, 0 while it has none; who takes over the heap of a
	 * thread that ended without telling us makes it 0 by CAS. */
	_Atomic uint32_t tid;

	/* What walkers look at is in one line, which its owner seldom writes. */

	/* Any thread, atomic: slabs posted by a remote free. */
	cache_aligned _Atomic(struct page *) inbox;

	/* Set once, before the heap is published. */
	_Atomic(struct heap *) next; /* all heaps; never taken off */

	/* Owner thread inside its window, or the holder of the gate; others look at them. */
	_Atomic uint32_t drained;     /* nothing is in it */
	_Atomic uint32_t bins_purged; /* and bin_slots cost no memory */

	/* Guarded by: the registry lock, once the heap is on a list of it. */
	_Atomic uint32_t unattached;  /* it is one of them; others look at it */
	_Atomic uint32_t quarantined; /* half changed at a fork; nobody uses it any more */
	struct heap *free_next;       /* heaps that wait for a thread */
	uint32_t orphan;              /* left by a fork with what its thread had */

	/* Guarded by: reclaim_control; the forking thread's alone: the heaps that it holds. */
	struct heap *fork_next;

	/* Who marks at a growth sets it (reclaim_control); who marks over that mark changes it to its own:
	 * the gate, as it has to be still for the heap to have been idle since the growth; 0: it was not. */
	_Atomic uint64_t growth_gate;

	/* Guarded by: its own lock. */
	struct pcp pcp;

	/* Owner thread inside its window: frees into slabs of others; and the bins' places, BIN_SLOTS of
	 * them, which heap_none and heap_gone do without. Zero will do when they are empty, so that who
	 * drains the heap may give this memory back; they begin at a page, see HEAP_OFFSET. */
	cache_aligned struct outbox outbox;
	cache_aligned struct object *bin_slots[];
};
#define BIN_SLOTS_BYTES (BIN_SLOTS * sizeof(struct object *))
#define HEAP_BYTES (sizeof(struct heap) + BIN_SLOTS_BYTES)
_Static_assert(offsetof(struct heap, outbox) <= 4096,
	       "an idle heap costs one of the kernel's pages");

/* Places the bin may still fill. */
static inline unsigned bin_space(const struct cache_bin *b)
{
	return (b->limit - (uint32_t)(uintptr_t)b->top) / (uint32_t)sizeof(struct object *);
}

/*
 * Bytes of the objects that the bins of all heaps have room for, and how many that may become, but for
 * the first places of each: the limits' business (pressure).
 */
extern _Atomic uint64_t heap_bins_bytes;
extern _Atomic uint64_t heap_bins_most;

/* From now on heap_bins_bytes is kept. Before the second thread. */
void heap_bins_count_all(void);

/* The calling thread's heap; heap_none before its first call, heap_gone after its exit. */
extern _Thread_local struct heap *heap_self TLS_FAST;
extern struct heap heap_none;
extern struct heap heap_gone;

/* Make the library ready; the first call that finds heap_none does it by itself. */
void heap_init(void);

/* Registers the expedited membarrier (cheap while there is one thread) and the fork handlers'
 * needs. Called from the constructor. */
void heap_init_late(void);

/*
 * The slow and the general ways. Sizes are bytes; NULL: no memory (errno is the shim's business).
 * Any thread, any context: a call that interrupts another one of its own thread is served from
 * the fallback heap or the arena.
 */
void *heap_alloc_slow(size_t size);                  /* size <= SMALL_MAX */
void *heap_alloc_large(size_t size, bool *zero);     /* size > SMALL_MAX */
void *heap_alloc_aligned(size_t size, size_t align); /* align: a power of two */
void heap_free_slow(void *p);
_Noreturn void heap_popped_twice(struct object *o);
void *heap_realloc(void *p, size_t size); /* p not NULL, size not 0 */
size_t heap_usable(void *p);

/* pcp for the calling thread's page-level requests. */
struct pcp *heap_pcp(void);

/* All heaps, for walks without a lock. */
struct heap *heap_first(void);
static inline struct heap *heap_next(struct heap *h)
{
	return atomic_load_explicit(&h->next, memory_order_acquire);
}

/* The calling thread's outbox handed over and its inbox opened, the fallback heap emptied, and the empty ones of the abandoned slabs back to the buddy
 * core. Returns bytes of slabs given back. For drains. */
uint64_t heap_sweep(void);

/* The calling thread's bins emptied, and its slabs with room left to all, so that holes can be made
 * in them; a few for each window. For drains. */
void heap_abandon_own(void);

/*
 * Gate 2. Mark every heap that may hold something; its owner's next call takes the mark back. Makes
 * all threads pass a barrier: quiet, one that interrupts nobody (8 to 20 ms), or one by interrupts
 * (1 us). 0: nothing to mark, or the kernel has no membarrier (claim_error). Needs no lock. Then,
 * as much later as a thread has to have been idle, heap_take_walk empties those whose mark is still there.
 */
uint64_t heap_idle_mark(bool quiet);
/* The same with those that hold nothing but memory for their bins, which they get rid of when taken. */
uint64_t heap_idle_mark_all(bool quiet);
/* The same for a drain: no other idle mark goes over it until heap_drain_end, or another drain. */
uint64_t heap_drain_mark(bool quiet);
void heap_drain_end(uint64_t generation);

/*
 * A walk over the heaps, in parts, from `at` over `left` of them at most. What is done on the way is limited by
 * steps, which are counted down (heap_parts.h); a part ends when there are none, and the next one goes on
 * where it ended, in the middle of a heap, too.
 */
struct heap_walk {
	struct heap *at; /* heaps are never taken off the list */
	uint32_t left;
};

static inline struct heap_walk heap_walk_all(void)
{
	return (struct heap_walk){ heap_first(), UINT32_MAX };
}

static inline bool heap_walk_ended(const struct heap_walk *w)
{
	return !w->at || !w->left;
}

/* Empty those that are marked with the generation, or with what the last growth relies on (HEAP_GROWTH).
 * Returns how many were. One caller at a time (reclaim_control). */
#define HEAP_GROWTH UINT64_MAX
unsigned heap_take_walk(struct heap_walk *w, uint64_t generation, bool purges, uint32_t *steps);

/*
 * The same for those that made no call between two growths, beside the marks of others: one that is there
 * stays, and is as good. What was posted to the heaps that are marked is looked at. Each marks the `looks` heaps
 * behind those of the last one, and begins with the first when it was at the end; true: some are marked.
 * purges: the memory of bins is given back as well, which interrupts processors. For one caller at a
 * time (reclaim_control).
 */
bool heap_growth_mark(uint32_t looks, uint32_t *steps);
unsigned heap_growth_take(bool purges, uint32_t *steps);

/* Both, for a process that is about to grow, and the pcps of the caller and of those heaps: what one call
 * may do for others (GROWTH_LOOKS, GROWTH_STEPS). False: all heaps were looked at since it was false last. */
bool heap_growth_step(void);

/* What came of a heap in a drain, but for its pcp. */
enum heap_outcome {
	HEAP_EMPTIED, /* it holds nothing any more */
	HEAP_CALLING, /* its thread made a call since it was marked */
	HEAP_INSIDE,  /* its thread is inside a call, and was before the mark */
	HEAP_HELD,    /* a fork or another drain has it, or it was lost in a fork */
	HEAP_CLOSED,  /* there is no membarrier */
	HEAP_UNASKED, /* only its pcp was to be emptied */
};

struct heap_drain {
	uint32_t tid; /* 0: no thread has it */
	enum heap_outcome outcome;
	bool locked;     /* somebody sat on its pcp, which is not empty */
	uint64_t cached; /* bytes free in it before; its pcp's only unless it was emptied and counted */
	uint64_t drained; /* bytes of pages that went to the buddy core */
};

/*
 * Empty one heap, a marked one of others' or the caller's own, and its pcp; marked: the
 * generation, or 0 if marking was in vain, or HEAP_PAGES for its pcp alone. counts: `cached` is wanted; to count what a
 * heap has free walks all its slabs. One caller at a time (reclaim_control) but for HEAP_PAGES.
 */
#define HEAP_PAGES UINT64_MAX
void heap_drain(struct heap *h, uint64_t marked, bool counts, struct heap_drain *d);

/* Why gate 2 is off, an errno of membarrier; 0: it is on. */
int claim_error(void);

/* In want of memory, so at once, with an expedited barrier: take what others freed into the slabs of
 * threads that are not inside a call just now. Returns how many heaps were looked at. */
unsigned heap_open_inboxes(void);

/*
 * Of the heaps whose mark is still there, that is, whose threads made no call since, let the bins have a
 * turn: those that were neither refilled nor full for some go to their slabs, and some slabs of their
 * class with room to all. The marks stay. One caller at a time (reclaim_control).
 */
void heap_visit_walk(struct heap_walk *w, uint64_t generation, uint32_t *steps);

/* Empty the pcps of threads whose heaps are marked still, that is, which made no call since. */
void heap_drain_sleeping(struct heap_walk *w, uint32_t steps);

/*
 * What the library has to do at a moment when libc may be called, and no thread of the program comes by: a call that
 * goes the slow way does it before it begins, without locks and outside of windows. libc frees a thread's memory with a lock
 * held that pthread_create takes; so HEAP_DUE_ALLOC is left to calls that allocate.
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
 * Whether a thread has a heap other than the first one, the caller and `ours` (a TID): such a thread calls park_notify_exit before it
 * ends. A system call for each one looked at, up to the first that is there.
 */
bool heap_others(uint32_t ours);

/* Each thread that runs empties its own bins, outbox and inbox when a call of it next goes the slow way. */
void heap_ask_trim(void);

/* All threads of the process pass a full barrier, as for a mark. False: there is none. */
bool heap_barrier(void);

/* Whether any heap but the caller's may hold something; or memory for its bins. */
bool heap_idle_any(void);
bool heap_bins_any(void);

/* What to try when there is no memory, before giving up; set by reclaim. */
extern bool (*heap_reclaim)(void);

/* fork, in this order of layers; see fork.c. */
void heap_fork_prepare(void);
void heap_fork_parent(void);

/* copy: no handlers ran, see heap_copy_mark. draining: the interrupted call of the forking thread is a drain, and
 * goes on in the child with the heaps that it holds. */
void heap_fork_child(bool copy, bool draining);

/*
 * A process that is made by _Fork or a raw clone runs no fork handlers. Its first call that goes the slow way
 * finds that this word was wiped, and calls heap_copy_begins, which sets it again. A child of vfork
 * has its parent's word.
 */
extern _Atomic(_Atomic uint32_t *) heap_copy_mark;
extern void (*heap_copy_begins)(void);

/* In the copy of the process that writes a backtrace (backtrace.h): the locks of threads that are not
 * there, and a window, may be held for good. Each object is a mapping of its own there, and one that was
 * there before is never freed. That process has one thread. Likewise in the thread that does heap_init, while it does: then
 * there is none that was there before. */
extern _Thread_local bool heap_in_copy TLS_FAST;

/* Acquire pairs with the release where it is made. */
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

/* The bins of the calling thread: stops the program if an object in them was freed twice. For its end. */
void heap_check_bins(void);

/* Debug: the calling thread's heap, or all that it can know of it. */
void heap_check(void);

/* heap_enter and heap_exit. */
#include "heap/critical.h"

/* ---- the fast paths ---------------------------------------------------------------------- */

/* size: up to SMALL_MAX. NULL: take the slow path. */
static always_inline void *heap_alloc_fast(size_t size)
{
	unsigned cls = class_of(size);
	struct heap *h = heap_self;
	struct cache_bin *b = &h->bin[cls];
	struct object **top;
	struct object *o;

	if (unlikely(!heap_enter(h)))
		return NULL;
	top = b->top;
	o = *top;
	if (likely(o != NULL))
		b->top = top - 1;
	heap_exit(h);
	return o;
}

/* size: up to SMALL_MAX. */
static always_inline void *heap_alloc_small(size_t size)
{
	void *p = heap_alloc_fast(size);

	return likely(p != NULL) ? p : heap_alloc_slow(size);
}

/* size: above SMALL_MAX, up to LARGE_BIN_PAGES pages. NULL: the bin is empty, or take the slow path. That
 * an object is not there twice is looked at here, because the free did not. */
static always_inline void *heap_alloc_binned(size_t size)
{
	struct heap *h = heap_self;
	struct cache_bin *b = &h->bin[large_bin(size)];
	struct object *o;

	if (unlikely(!heap_enter(h)))
		return NULL;
	o = *b->top;
	if (o) {
		for (struct object **at = --b->top; *at; at--) {
			if (unlikely(*at == o))
				heap_popped_twice(o);
		}
	}
	heap_exit(h);
	return o;
}

static always_inline void *heap_alloc(size_t size)
{
	bool zero;

	if (likely(size <= SMALL_MAX))
		return heap_alloc_small(size);
	return heap_alloc_large(size, &zero);
}

/* Whose slab it is does not matter here: the bin takes objects of any. */
static always_inline void heap_free(void *p)
{
	struct heap *h = heap_self;
	struct object *o = p;
	struct object **top;
	struct region *r;
	struct page *pg;
	uint32_t first;
	uint32_t offset;
	uint32_t divisor;
	struct cache_bin *b;

	if (unlikely(!pagemap_ours(p)) || unlikely(!heap_enter(h))) {
		heap_free_slow(p);
		return;
	}
	r = region_of(p);
	first = r->head[page_index_of(p)];
	pg = &r->page[first];
	KEEP_IN_REGISTER(pg); /* its address is computed once */
	/* Of a slab it cannot lie in: at least 2^32 less a region. */
	offset = (uint32_t)((uintptr_t)p & (REGION_BYTES - 1)) - (first << PG_SHIFT);
	b = &h->bin[pg->cls];
	top = b->top;
	divisor = b->divisor;
	/* A large object that may wait in a bin looks like a slab with one object of 16 bytes. For all
	 * else nothing is carved, and the bin that cls names is not used. The middle of an object, aligned or
	 * not, is no multiple of the size. Of repeats the last two frees are looked at (below an empty bin lies another
	 * bin, as the slow path knows); others are noticed where marks are. */
	if (unlikely(offset >= slab_carved_bytes(pg)) || unlikely(offset * divisor >= divisor) ||
	    unlikely((uint32_t)(uintptr_t)top == b->limit) || unlikely(*top == o) ||
	    unlikely(top[-1] == o)) {
		heap_exit(h);
		heap_free_slow(p);
		return;
	}
	/* For its link and its mark, if it goes home: it may not have been touched for long. */
	__builtin_prefetch(o, 1);
	top[1] = o;
	b->top = top + 1;
	heap_exit(h);
}

#endif
