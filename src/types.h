/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * types.h - the way in: the words, the constants and the structures that all layers share.
 *
 * Glossary
 *   page        Sluice's unit of memory, 16 KiB (PG_BYTES). The kernel's page may be smaller or
 *               larger; only vm.c knows it and rounds what it asks of the kernel.
 *   block       2^order pages, aligned to its size inside its region; the buddy core's unit.
 *   run         1 to RUN_PAGES_MAX consecutive pages, handed out as one piece. A run that is not
 *               a power of two is the front of a block whose tail went back (exact-tail return).
 *   run class   one of RUN_CLASSES run lengths that a pcp keeps a list of.
 *   region      64 MiB of address space, aligned to 64 MiB: its metadata first, then its pages.
 *   zone        a buddy core: a lock, free lists by order, and the regions it owns. There are several.
 *   pcp         a thread's cache of free runs, by run class, under a spinlock of its own.
 *   slab        a run carved into objects of one size class.
 *   object      what malloc hands out below SMALL_MAX.
 *   bin         a heap's stack of free objects of one class, from any slabs, its own or others'.
 *   outbox      a heap's objects on the way to slabs of others.
 *   large       a run handed out as one piece by malloc; huge: a mapping of its own.
 *   arena       a few mappings out of which calls are served that can have neither heap nor lock.
 *   dirty       a free page that the kernel still backs with memory that was written.
 *   clean       a free page that is known to read as zero and to cost no memory.
 *   ready       a free page that is known to read as zero and that the kernel backs already.
 *   away        a free block whose address space was given back to the kernel.
 *   reserve     the ready pages that are kept, so that growth meets no page fault.
 *   drain       to take runs out of a pcp back into the buddy core.
 *   purge       to give dirty pages back to the kernel; they become clean.
 *   gate        the word by which somebody else takes a thread's heap while its owner is away.
 *   window      the stretch of an owner's call in which its heap's `busy` is set.
 *   abandoned   a slab whose heap has gone; it waits in the pool of its class to be adopted.
 *   carve       to make objects of a slab's memory as they are needed.
 *   hole        4 KiB of a slab without live objects that were given back to the kernel while the
 *               slab has live ones elsewhere; its objects are in holes until they are needed.
 */
#ifndef SLUICE_TYPES_H
#define SLUICE_TYPES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* The compiler may not compute this pointer anew for each use of it. */
#define KEEP_IN_REGISTER(p) __asm__("" : "+r"(p))
#define CACHE_LINE 64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))
#define noinline __attribute__((noinline))
#define always_inline inline __attribute__((always_inline))
#define TLS_FAST __attribute__((tls_model("initial-exec")))

#define PG_SHIFT 14
#define PG_BYTES ((size_t)1 << PG_SHIFT)

#define REGION_SHIFT 26
#define REGION_BYTES ((size_t)1 << REGION_SHIFT)
#define REGION_PAGES (1u << (REGION_SHIFT - PG_SHIFT))

/* User addresses that mmap returns without a hint: 47 bits on x86-64, 48 on arm64. */
#if defined(__x86_64__)
#define ADDRESS_BITS 47
#else
#define ADDRESS_BITS 48
#endif
#define REGION_SLOTS ((size_t)1 << (ADDRESS_BITS - REGION_SHIFT))

/* The largest block is half a region: the front of each region holds its metadata. */
#define ORDER_MAX 11u
#define ORDERS (ORDER_MAX + 1)
#define RUN_PAGES_MAX (1u << ORDER_MAX)

/* Objects up to this size come from slabs; above it a run or a mapping serves one object. */
#define SMALL_MAX 32768u
#define CLASSES 68u

/* The smallest alignment of anything handed out (what malloc of the x86-64 ABI promises). */
#define ALIGN_MIN 16u

struct heap;
struct zone;

/* What a page descriptor stands for. Only the head of a run carries a kind other than PAGE_NONE. */
enum page_kind {
	PAGE_NONE = 0, /* interior of something, or never used */
	PAGE_BUDDY,    /* head of a free block on a buddy list */
	PAGE_PURGING,  /* head of a free block that is being given back to the kernel */
	PAGE_PCP,      /* head of a free run in a pcp */
	PAGE_LIMBO,    /* head of a run between two layers */
	PAGE_SLAB,
	PAGE_LARGE,
	PAGE_RAW, /* handed out by sluice_page_alloc_bulk */
	PAGE_AWAY, /* head of a free block whose address space was given back; see zone_release_space */
};

/* Which list the links of a descriptor are on (K2: pcp_list, buddy_list; ours has more). */
enum page_list {
	LIST_NONE = 0,
	LIST_BUDDY_DIRTY,
	LIST_BUDDY_CLEAN,
	LIST_BUDDY_PREFAULTED,
	LIST_PCP,
	LIST_CURRENT, /* the slab its class is carved from; no links in use */
	LIST_PARTIAL,
	LIST_FULL,
	LIST_POOL_NEW,  /* abandoned, with room, not looked at for holes yet */
	LIST_POOL_ROOM, /* abandoned, with room */
	LIST_POOL_FULL, /* abandoned, without */
};

/* What is known of a run that is not in use. */
enum page_zero {
	ZERO_NOT = 0,    /* it may have been written */
	ZERO_CLEAN,      /* it reads as zero */
	ZERO_PREFAULTED, /* it reads as zero, and the kernel backs all of it */
};

/* A free object, in the program's memory. */
struct object {
	uint64_t link; /* to the next one of a list, see links.h */
	uint64_t mark; /* that it is on a list, see links.h */
};

/* What a slab keeps in the descriptor of its second page, for holes.c. Guarded by what guards the
 * slab. */
struct slab_holes {
	_Atomic uint64_t units; /* bit u: unit u is a hole; read by others */
	uint16_t open;          /* the objects from here on ... */
	uint16_t open_end; /* ... to before this one count as in holes, though they are in none */
	_Atomic uint8_t tail; /* units from here on cost no memory, but where carved since */
	uint8_t epoch;        /* the pools' age when it was abandoned */
	uint32_t made;        /* which of all slabs it is, for marks; set once */
};

/*
 * A page descriptor: one cache line for each page, out of line at the region's front. What it
 * means depends on kind; the fields are shared so that a free needs this line only.
 *
 * A slab's counting equation (slab_check):
 *   carved == used + length of free + in_holes
 *   used   == objects the program holds + objects in bins and outboxes of any heaps + objects on the
 *             remote list in state
 */
struct page {
	/* Owner thread inside its window; tested by any thread, atomic. NULL: not a slab, or
	 * abandoned. */
	_Atomic(struct heap *) owner;
	/* Owner thread inside its window; pool lock when abandoned. */
	struct object *free;
	union {
		struct {
			int16_t used;    /* objects not on free */
			int16_t wake;    /* a free that brings used to this goes the slow way */
			uint16_t carved; /* objects carved so far, but for: */
			/* of them, those given up to holes; read by others. */
			_Atomic uint16_t in_holes;
		};
		struct {
			uint32_t npages; /* of a run that is not a slab; a buddy block: 1 << order */
			union {
				/* A free block: its other descriptors cost no memory. */
				uint32_t descriptors_purged;
				/* PAGE_AWAY: others have its address space. */
				uint32_t blocked;
			};
		};
	};
	/* The same as bytes from the slab's start; others read it to tell a pointer to what was never
	 * handed out. A large object that bins take: ALIGN_MIN. 0: neither. */
	_Atomic uint32_t carved_bytes;
	/* enum page_kind. Its owner writes it; that it is PAGE_BUDDY changes under the zone's lock only.
	 * Any thread may read it: page_kind, page_set_kind. */
	_Atomic uint8_t kind;
	uint8_t cls;  /* slab: size class; buddy: order; large object that bins take: its bin */
	uint8_t list; /* enum page_list */
	/* enum page_zero: set by the buddy core, cleared by whoever may have written. */
	uint8_t zero;
	/* Any thread, atomic: a slab's remote list, its length and its ownership; see slab.h. */
	_Atomic uint64_t state;
	union {
		struct {
			/* Guarded by what guards the list that `list` names. */
			struct page *next;
			struct page *prev;
			/* Any thread that posts; then the owner that takes its inbox. */
			struct page *stack_next;
		};
		struct slab_holes holes; /* of a slab's second page */
	};
};
_Static_assert(sizeof(struct page) == CACHE_LINE, "a descriptor fills one cache line");

static always_inline enum page_kind page_kind(const struct page *pg)
{
	return (enum page_kind)atomic_load_explicit(&pg->kind, memory_order_relaxed);
}

static always_inline void page_set_kind(struct page *pg, enum page_kind kind)
{
	atomic_store_explicit(&pg->kind, (uint8_t)kind, memory_order_relaxed);
}

/*
 * Bytes without access at a region's front, and between its metadata and its first page, where the kernel's pages are no
 * larger.
 */
#define REGION_GUARD 4096u

/*
 * A region's metadata, at its front. head[i] is the index of the first page of the run that page
 * i belongs to; stale when page i is free, which the range checks of every reader allow for; 0 when its
 * address space is not the region's, where others may have memory.
 */
struct region {
	char guard[REGION_GUARD]; /* no access: what runs out of the region before this one ends here */
	struct zone *zone;        /* set once */
	struct region *next;      /* zone's list, set once */
	uint32_t pages;           /* usable from page 0 on; guarded by the zone's lock */
	uint32_t free_pages;      /* in the buddy lists; guarded by the zone's lock */
	uint32_t reserved;        /* pages of address space held from page 0 on; grow lock */
	uint32_t offline;         /* its pages were given back with their address space */
	bool blocked;             /* somebody else has what lies behind it; grow lock */
	bool populated; /* the kernel backs all metadata; the reserve's thread and grow lock */
	cache_aligned uint64_t dirty[REGION_PAGES / 64]; /* of free pages; zone's lock */
	cache_aligned uint16_t head[REGION_PAGES];
	cache_aligned struct page page[REGION_PAGES];
};

/* Whole pages of any kernel's, the largest of which has 64 KiB: what lies behind is made usable, given back and got again by
 * itself. */
#define OS_PAGE_MAX ((size_t)65536)
#define REGION_META_PAGES                                                                          \
	((uint32_t)(((sizeof(struct region) + REGION_GUARD + OS_PAGE_MAX - 1) &                    \
		     ~(OS_PAGE_MAX - 1)) >>                                                        \
		    PG_SHIFT))

static inline uintptr_t align_up(uintptr_t v, uintptr_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uintptr_t align_down(uintptr_t v, uintptr_t align)
{
	return v & ~(align - 1);
}

static inline bool is_pow2(uintptr_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/* The smallest order whose block holds n pages. n: 1 to 2^31. */
static inline unsigned order_of(uint32_t n)
{
	return n <= 1 ? 0 : 32u - (unsigned)__builtin_clz(n - 1);
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

#endif
