/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_types.h - struct heap, a thread's heap, and its cache bins.
 *
 * claim.c, (A), says which threads may touch it, and when.
 */
#ifndef SLUICE_HEAP_TYPES_H
#define SLUICE_HEAP_TYPES_H

#include <stddef.h>

#include "base/list.h"
#include "heap/large.h"
#include "heap/outbox.h"
#include "heap/sizeclass.h"
#include "heap/slab.h"
#include "heap/slab_pool.h"
#include "page/meta.h"
#include "page/pcp.h"
#include "types.h"

/* The claim word: bit 0 is that of busy and never set, bits 2-1 are the state, bit 3 is
 * CLAIM_EXITED, the rest is the epoch of the mark. */
#define HEAP_BUSY 1u
#define CLAIM_FREE UINT64_C(0)
#define CLAIM_PENDING UINT64_C(2)
#define CLAIM_HELD UINT64_C(4)
#define CLAIM_STATE UINT64_C(6)
#define CLAIM_EXITED UINT64_C(8) /* with CLAIM_HELD: its owner has ended */
#define CLAIM_STEP UINT64_C(16)  /* from one epoch to the next */

/*
 * A stack of free objects. *top is the object freed last, or the NULL at the stack's bottom; limit
 * is the highest place that top may have (the low 32 bits of its address: the places of a bin lie
 * side by side). divisor: the inverse of its objects' size, see class_divides; 0, which no object
 * passes, while each free looks through the bin (heap.looks).
 */
struct cache_bin {
	struct object **top;
	uint32_t limit;
	uint32_t divisor;
};

_Static_assert(sizeof(struct cache_bin) == CLASS_SCALE, "a scaled class leads to its bin");

/* Objects a cache bin holds at most: BIN_BYTES of them, but BIN_MIN to BIN_MAX. A bin that is full
 * and empty in turn may become wide: BIN_WIDE_BYTES of them, but BIN_WIDE_MAX at most. */
#define BIN_MAX 256u
#define BIN_MIN 2u
#define BIN_BYTES 131072u
#define BIN_CAPACITY(size)                                                                         \
	(BIN_BYTES / (size) < BIN_MIN   ? BIN_MIN                                                  \
	 : BIN_BYTES / (size) > BIN_MAX ? BIN_MAX                                                  \
					: BIN_BYTES / (size))
#define BIN_WIDE_MAX 4096u
#define BIN_WIDE_BYTES 65536u
#define BIN_WIDE_CAPACITY(size)                                                                    \
	(BIN_WIDE_BYTES / (size) < BIN_CAPACITY(size) ? BIN_CAPACITY(size)                         \
	 : BIN_WIDE_BYTES / (size) > BIN_WIDE_MAX     ? BIN_WIDE_MAX                               \
						      : BIN_WIDE_BYTES / (size))

/* A cache bin for each size class, then those of large objects. */
#define BINS (CLASSES + LARGE_BINS)
_Static_assert(BINS *CLASS_SCALE <= HEAD_NOTE, "a head says which bin its run's objects go to");

/*
 * Each cache bin begins in a row of as many places as it may have, BIN_SMALL at most. When it grows
 * beyond that it moves to a row of BIN_MIDDLE, and then to one of all that it may have when it is
 * wide. Each row lies above a bottom. The first rows are in the heap, the longer ones in a place of
 * their own, which a heap gets when it needs one (bin_rows_make). So the heaps of threads that need
 * few places lie close together and fill few pages: a fork copies these, and their page tables.
 */
#define BIN_SMALL 16u
#define BIN_MIDDLE 64u
struct bin_rows {
#define SIZECLASS(size, pages)                                                                     \
	struct object                                                                              \
		*of_##size[(BIN_CAPACITY(size) > BIN_SMALL ? BIN_SMALL : BIN_CAPACITY(size)) + 1];
#include "heap/sizeclass.def"
#undef SIZECLASS
	struct object *large[LARGE_BINS][LARGE_BIN_MAX + 1];
};
_Static_assert(LARGE_BIN_MAX <= BIN_SMALL, "a bin of large objects has one row");
struct bin_long_rows {
#define SIZECLASS(size, pages)                                                                     \
	struct object *of_##size[BIN_CAPACITY(size) > BIN_MIDDLE ? BIN_WIDE_CAPACITY(size) + 1 : 0];
#include "heap/sizeclass.def"
#undef SIZECLASS
};
enum {
	BIN_MIDDLE_ROWS = 0
#define SIZECLASS(size, pages) +(BIN_CAPACITY(size) > BIN_SMALL)
#include "heap/sizeclass.def"
#undef SIZECLASS
	,
	/* The classes whose bins may become wide. */
	WIDE_CLASSES = 0
#define SIZECLASS(size, pages) +(BIN_WIDE_CAPACITY(size) > BIN_CAPACITY(size))
#include "heap/sizeclass.def"
#undef SIZECLASS
	,
	BIN_SMALL_SLOTS = sizeof(struct bin_rows) / sizeof(struct object *),
	/* The slot before the rows may be read, below an empty bin. */
	BIN_MIDDLE_BEGIN = 1,
	BIN_LONG_BEGIN = BIN_MIDDLE_BEGIN + BIN_MIDDLE_ROWS * (BIN_MIDDLE + 1),
	BIN_ROWS_SLOTS = BIN_LONG_BEGIN + sizeof(struct bin_long_rows) / sizeof(struct object *),
	BIN_IN_ROWS = 0x8000 /* in a place of bin_bottom: one of heap->rows */
};
#define BIN_ROWS_BYTES (BIN_ROWS_SLOTS * sizeof(struct object *))
_Static_assert(BIN_ROWS_SLOTS <= BIN_IN_ROWS, "a place fits into the other bits");

struct heap {
	/*
	 * The critical section. The owner thread alone writes busy; a claimer reads it. The owner
	 * sets busy, then reads claim; a claimer marks claim, makes every thread pass a full
	 * barrier (membarrier), then reads busy: one of them sees the other.
	 */
	_Atomic uint32_t busy;
	/* Owner thread in its critical section, or the claimer. */
	uint8_t direct_left; /* calls that may move one object past its bin; heap_goes_past */
	uint8_t exit_rounds; /* owner thread only: thread-specific destructors seen */
	uint16_t looks;      /* frees that are still to look through their bin */
	_Atomic uint64_t claim;

	/* Owner thread in its critical section, or the claimer. */
	uintptr_t near;                /* here regions of ours begin that lie side by side, */
	uint64_t near_bytes;           /* with so many bytes; there may be others: heap_realloc.c */
	struct cache_bin bin[BINS];    /* what malloc pops and free pushes */
	struct page *current[CLASSES]; /* LIST_CURRENT: refills bin, or NULL */
	struct page_list_head partial[CLASSES]; /* LIST_PARTIAL: have room */
	struct page_list_head full;             /* LIST_FULL, of all classes */
	struct page *inbox_todo;                /* taken from inbox, not yet looked at */
	struct page *release;                   /* runs for the pcp, after the critical section */
	struct page *draining;                  /* what a drain by the owner has still to free */
	uint16_t bin_bottom[BINS];              /* where in bin_slots or rows it is now */
	uint8_t idle_rounds[BINS];              /* ageing steps since it was refilled or full */
	uint8_t foreign_frees[CLASSES];         /* frees of others' objects before the bin began */
	union {
		uint8_t bin_next[BINS];    /* the place whose object leaves the full bin next, in
					   leave_unit */
		uint8_t hidden_room[BINS]; /* hardened: how many `hidden` may be */
	};
	union {
		/* Spills of the full bin since it was empty, and BIN_REFILLED if it was empty
		 * since. */
		uint8_t spills[WIDE_CLASSES];
		uint8_t frees_past; /* hardened, whose bins have no room: see frees_go_past */
	};
	uint8_t age_next; /* the bin of the next ageing step */
	union {
		uint8_t turns[WIDE_CLASSES]; /* from many spills to empty and back */
		uint8_t hidden[BINS];        /* hardened: objects above the bin's top */
	};
	uint8_t trim_bin;                        /* owner: the next bin of the trim under way */
	_Atomic(struct quarantine *) quarantine; /* hardened: NULL if it has none yet */
	struct object **rows;     /* BIN_ROWS_SLOTS; NULL until a bin needs more than BIN_SMALL */
	_Atomic uint64_t refills; /* of its bins; statistics */
	_Atomic uint64_t flushes;
	uint32_t slow_calls;

	/* Owner thread only. */
	uint32_t trims_seen; /* of heap_ask_trim */
	uint32_t trim_for;   /* the trim under way */

	/* Any thread, atomic: the TID of its thread, 0 while it has none. reap takes the heap of a
	 * thread that ended without telling us by a CAS to 0. */
	_Atomic uint32_t tid;

	/* What walkers read is in one line, which the owner seldom writes. */

	/* Any thread, atomic: slabs posted by a remote free. */
	cache_aligned _Atomic(struct page *) inbox;

	/* Set once, before the heap is published. */
	_Atomic(struct heap *) next; /* all heaps; never taken off */
	struct heap *ahead;          /* HEAPS_AHEAD further on in that list, or NULL */

	/* Owner thread in its critical section, or the claimer; others read them. */
	_Atomic uint32_t drained;     /* nothing is in it */
	_Atomic uint32_t bins_purged; /* and bin_slots cost no memory */

	/* Guarded by: the registry lock, once the heap is on a list of it; others read them. */
	_Atomic uint32_t unattached;  /* it is on such a list */
	_Atomic uint32_t quarantined; /* half changed at a fork; nobody uses it any more */
	struct heap *free_next;       /* heaps that wait for a thread */
	bool warm;                    /* registry.warm counts it */
	uint16_t number; /* set once, before it is published; of heaps made before, and 1 */

	/* Any thread, atomic: the process in which it last got a thread (heap_process). */
	_Atomic uint32_t process;

	/* Owner thread, while there is a heap profile; others read it: when it last allocated or
	 * freed what is not of a slab, in ms. Its other calls clear `drained`. */
	_Atomic uint64_t paged_ms;

	/* Guarded by: its own lock. */
	struct pcp pcp;

	/* Owner thread in its critical section, or the claimer: frees into slabs of others, and the
	 * first rows of the bins, BIN_SMALL_SLOTS, which heap_none and heap_gone lack. All zero is
	 * right while they are empty, so a claimer may give this memory back; it begins at a page,
	 * see HEAP_OFFSET. */
	cache_aligned struct outbox outbox;
	cache_aligned struct object *bin_slots[];
};
_Static_assert(offsetof(struct heap, outbox) <= 4096,
	       "an idle heap costs one of the kernel's pages");

/*
 * Where in its first page a heap begins. Not at the start, as many blocks do, of which a program
 * uses the first bytes most: a load waits for an earlier store to the same offset in another page.
 */
#define HEAP_OFFSET ((META_ALIGN - offsetof(struct heap, outbox) % META_ALIGN) % META_ALIGN)
_Static_assert(HEAP_OFFSET % CACHE_LINE == 0 && HEAP_OFFSET != 0, "a place of its own in a page");

/*
 * While allocations are sampled (dealt.h), malloc pops bin and free pushes to `returned`: a slab's
 * heads say so. Owner thread in its critical section, or the claimer.
 */
#define RETURNED_MAX 48u
enum { SAMPLE_GUARD, SAMPLE_PROF, SAMPLE_KINDS };
#define SAMPLE_COUNTED (1u << SAMPLE_KINDS) /* beside a bit for each kind */
struct sampling {
	struct cache_bin returned[CLASSES];
	uint16_t dealt[CLASSES];              /* objects malloc may pop before it looks here, */
	uint16_t under[CLASSES];              /* and those below a NULL that stops it */
	uint32_t left[CLASSES][SAMPLE_KINDS]; /* allocations until the next sample; 0: not drawn */
	uint64_t random;                      /* 0: not begun */
	struct object *places[CLASSES][RETURNED_MAX + 1];
};

/* Set once, before the second thread. heap_bins_from: where in bin_slots the first rows of bins
 * begin, behind a struct sampling. */
extern hidden_data bool heap_sampling;
extern uint16_t heap_bins_from;

/* heap_realloc takes its slow path: in a hardened process, whose bins have no room (hidden.h), and
 * in the copy of heap_in_copy. */
extern hidden_data bool heap_slow_only;

/* Whether sampler_init has run, so that heap_bins_from stays as it is. Its release store pairs with
 * the acquire load before a heap gets its place. */
extern _Atomic bool heap_bins_known;

static inline struct sampling *sampling_of(struct heap *h)
{
	return (struct sampling *)(void *)h->bin_slots;
}
#define SAMPLING_SLOTS                                                                             \
	((sizeof(struct sampling) + sizeof(struct object *) - 1) / sizeof(struct object *))
#define RETURNED_NOTE (offsetof(struct heap, bin_slots) - offsetof(struct heap, bin))
_Static_assert(offsetof(struct sampling, returned) == 0 &&
		       RETURNED_NOTE + sizeof(struct cache_bin) * CLASSES <= HEAD_NOTE,
	       "a head leads to these bins, too");
_Static_assert(SAMPLING_SLOTS + BIN_SMALL_SLOTS <= BIN_IN_ROWS, "a place fits as well");

/* A heap without its longer rows; with room for a struct sampling, as the heaps have that are there
 * before it is known whether allocations are sampled. */
#define HEAP_SLOTS_BYTES(slots) (sizeof(struct heap) + (slots) * sizeof(struct object *))
#define HEAP_BYTES HEAP_SLOTS_BYTES(BIN_SMALL_SLOTS + SAMPLING_SLOTS)
static inline size_t heap_bytes(void)
{
	return HEAP_SLOTS_BYTES(BIN_SMALL_SLOTS + (size_t)heap_bins_from);
}

/* Whether this call is the one of DIRECT_CALLS that heap_goes_past kept from going past its bin;
 * true once. Never while allocations are sampled or in a hardened process, whose calls have ways of
 * their own. */
#define DIRECT_CALLS 61u
static always_inline bool heap_went_past(struct heap *h)
{
	if (h->direct_left != DIRECT_CALLS - 1)
		return false;
	h->direct_left--;
	return true;
}

/* The bin of a scaled class or of a head's note. */
static always_inline struct cache_bin *bin_at(struct heap *h, size_t scaled)
{
	return (struct cache_bin *)(void *)((char *)h->bin + scaled);
}

/* Places the bin may still fill. */
static inline unsigned bin_space(const struct cache_bin *b)
{
	return (b->limit - (uint32_t)(uintptr_t)b->top) / (uint32_t)sizeof(struct object *);
}

/* The calling thread's heap; heap_none before its first call, heap_gone after its exit; heap_counts
 * while the thread counts what it does (tally.h): its heap is heap_behind then. */
extern _Thread_local struct heap *heap_self TLS_FAST;
extern _Thread_local struct heap *heap_behind TLS_FAST;
extern struct heap heap_none;
extern struct heap heap_gone;
extern struct heap heap_counts;

/* For all but the fast paths. */
static inline struct heap *heap_own(void)
{
	struct heap *h = heap_self;

	return unlikely(h == &heap_counts) ? heap_behind : h;
}

/* h: of heap_own. */
static inline bool heap_is_real(const struct heap *h)
{
	return h != &heap_none && h != &heap_gone;
}

#endif
