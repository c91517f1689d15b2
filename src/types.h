/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * types.h - glossary, constants and structures that all layers share.
 *
 * Glossary. In brackets: the nearest word of other allocators or of Linux.
 *   page        unit of memory, 16 KiB (PG_BYTES). The kernel's page may be smaller or larger
 *               (vm_os_page). [mimalloc: slice; tcmalloc: page]
 *   block       2^order free pages, aligned to their size inside the region. [Linux: buddy page]
 *   run         1 to RUN_PAGES_MAX consecutive pages, allocated as one. [jemalloc: extent]
 *   run class   one of RUN_CLASSES lengths of runs, each with a list in a pcp.
 *   region      64 MiB of address space, aligned to 64 MiB: metadata, then pages. [Linux: section]
 *   zone        a buddy core: a lock, free lists by order, regions. [Linux: zone; jemalloc: arena]
 *   pcp         a thread's cache of free runs, under a spinlock of its own. [Linux: per-cpu pages]
 *   slab        a run divided into objects of one size class. [mimalloc: page; tcmalloc: span]
 *   object      what malloc returns up to SMALL_MAX bytes. large: a run; huge: a mapping.
 *   heap        what a thread allocates objects from: cache bins, slabs, a pcp. [mimalloc: heap]
 *   cache bin   a heap's stack of free objects of one class, from any slab. [jemalloc: cache_bin]
 *   outbox      a heap's freed objects of foreign slabs, not yet returned. [snmalloc: remote cache]
 *   inbox       a heap's list of slabs to which other threads returned objects.
 *               [snmalloc: message queue]
 *   foreign     of another heap: a foreign free puts an object on its slab's remote list.
 *               [mimalloc: thread free list]
 *   abandoned   a slab that no heap owns; it is in the pool of its class until a heap adopts it.
 *               [mimalloc: abandoned, reclaimed]
 *   arena       mappings from which an allocation is served if it can use neither heap nor lock.
 *   dirty       of a free page: the kernel backs it with memory that may have been written.
 *   clean       of a free page: it reads as zero and the kernel does not back it.
 *               [jemalloc: retained]
 *   prefaulted  of a free page: it reads as zero and the kernel backs it.
 *   away        of a free block: its address space was returned to the kernel.
 *   reserve     the prefaulted pages that are kept, so that growth meets no page fault.
 *   drain       move the runs of a pcp, or the objects of a heap, back to where others can allocate
 *               them. [Linux: drain_pages; jemalloc: tcache flush]
 *   purge       return dirty pages to the kernel, which makes them clean. [jemalloc: purge]
 *   decay       purge dirty pages that were not reused for decay_ms. [jemalloc: decay]
 *   claim       exclusive use of another thread's heap while that thread is outside a critical
 *               section. [biased locking: revocation]
 *   critical section
 *               the part of a call in which the owner uses its heap; heap->busy is set.
 *               [rseq: critical section]
 *   ageing step one check whether a cache bin was used since the last one, and a flush of what was
 *               not. [jemalloc: tcache GC]
 *   carve       make the next objects of a slab available. [mimalloc: page extend]
 *   hole        4 KiB of a slab that were purged because they had no live object. Their objects are
 *               in holes until they are needed. [SQLite, file systems: punched hole]
 */
#ifndef SLUICE_TYPES_H
#define SLUICE_TYPES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define CACHE_LINE 64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))
#define noinline __attribute__((noinline))
#define always_inline inline __attribute__((always_inline))
/* Of a variable where it is declared: no instruction looks up where it is. */
#define hidden_data __attribute__((visibility("hidden")))

/* Whether the fast paths name the instruction that loads an atomic word and uses it: compilers make
 * two of that. ThreadSanitizer has to see the load. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define LOADS_AND_USES 1
#else
#define LOADS_AND_USES 0
#endif

/* What a function will return is in the register for it already, so that no move is needed. */
#if defined(__x86_64__)
#define IS_RESULT(p) __asm__("" : "+a"(p))
#else
#define IS_RESULT(p) ((void)0)
#endif

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

/* The largest block is half a region, because a region begins with its metadata. */
#define ORDER_MAX 11u
#define ORDERS (ORDER_MAX + 1)
#define RUN_PAGES_MAX (1u << ORDER_MAX)

/* Objects up to this size come from slabs; a larger one is a run or a mapping. */
#define SMALL_MAX 32768u
#define CLASSES 68u

/* Minimum alignment of an object, as the x86-64 ABI requires of malloc. */
#define ALIGN_MIN 16u

struct heap;
struct live_bits;
struct zone;

/* What a page descriptor describes. Only the head of a run or block has a kind other than NONE. */
enum page_kind {
	PAGE_NONE = 0, /* inside a run or block, or never used */
	PAGE_BUDDY,    /* head of a free block on a buddy list */
	PAGE_PURGING,  /* head of a free block that is being purged */
	PAGE_PCP,      /* head of a free run in a pcp */
	PAGE_LIMBO,    /* head of a run between two layers */
	PAGE_SLAB,
	PAGE_LARGE,
	PAGE_RAW,   /* allocated by sluice_page_alloc_bulk */
	PAGE_QUICK, /* head of a free run that is not merged yet: quick.h */
	PAGE_AWAY,  /* head of a free block without address space: zone_release_space */
};

/* Which list the links of a descriptor are on. */
enum page_list {
	LIST_NONE = 0,
	LIST_BUDDY, /* the zone's list for the block's order and backing */
	LIST_PCP,
	LIST_QUICK,   /* the zone's list for the run's length */
	LIST_CURRENT, /* none: the slab that its class allocates from */
	LIST_PARTIAL,
	LIST_FULL,
	LIST_POOL_NEW,  /* abandoned, with room, not yet scanned for holes */
	LIST_POOL_ROOM, /* abandoned, with room */
	LIST_POOL_FULL, /* abandoned, without room */
	LIST_SAMPLED,   /* none: a large object that the heap profile knows */
	LIST_HIDDEN,    /* none: a large object that was freed, whose memory has no access */
};

/* What is known about the memory of a free block or run. */
enum backing {
	BACKING_DIRTY = 0,  /* it may have been written */
	BACKING_CLEAN,      /* it reads as zero */
	BACKING_PREFAULTED, /* it reads as zero, and the kernel backs all of it */
	BACKINGS,
};

/* A free object, in the program's memory. */
struct object {
	uint64_t link; /* next object of the list, encoded: links.h */
	uint64_t mark; /* whether it is on a list: links.h */
};

/* State of a slab's holes, in the descriptor of its second page. Guarded by what guards the slab,
 * except that other threads may read the atomic fields. */
struct slab_holes {
	_Atomic uint64_t units; /* bit u: unit u is a hole */
	uint16_t open;          /* first of the objects that count as in holes but are in none */
	uint16_t open_end;      /* end of these objects */
	_Atomic uint8_t tail;   /* units from here on cost no memory, except where carved since */
	union {
		uint8_t epoch; /* abandoned: decay epoch in which that was */
		uint8_t came;  /* owned: objects that others freed lately; TAKE_CAME */
	};
	uint16_t fence; /* carved when slab_fence wrote behind the carved objects, or 0 */
};

/* What is written whenever objects are taken or come back. In the descriptor of a slab's second
 * page: threads that free objects of others' slabs read the first one, and would wait for its line
 * each time. Owner in a critical section; pool lock if abandoned. */
struct slab_held {
	struct object *free;
	int16_t used;    /* objects not on free */
	int16_t wake;    /* a free that lowers used to this takes the slow path */
	uint16_t carved; /* objects carved so far */
};

/*
 * A page descriptor: one cache line for each page, in the metadata of the region. The meaning of
 * the fields depends on kind. A thread that puts objects of another heap's slab into its outbox
 * reads only this line of the slab, so what the owner writes often is not in it: struct slab_held.
 *
 * For a slab these equations hold (slab_check):
 *   carved == used + length of free + in_holes
 *   used   == objects that the program holds + objects in cache bins, outboxes and quarantines of
 *             all heaps + objects on the remote list in state
 */
struct page {
	/* Written by the owner in a critical section; read by any thread, atomic. NULL if this is
	 * no slab, or an abandoned one. */
	_Atomic(struct heap *) owner;
	union {
		struct {
			uint64_t mark;   /* slab: of its free objects: links.h; set once */
			uint32_t npages; /* of a run, or of a block */
			union {
				_Atomic uint16_t in_holes; /* slab: objects that are in holes */
				/* A free block: its other descriptors cost no memory. */
				uint32_t descriptors_purged;
				/* PAGE_AWAY: others have its address space. */
				uint32_t blocked;
			};
		};
		struct slab_held held; /* of a slab's second page */
	};
	/* enum page_kind, by page_kind and page_set_kind. Written by the owner of the run, but
	 * PAGE_BUDDY is set and cleared only under the zone's lock. Read by any thread. */
	_Atomic uint8_t kind;
	uint8_t cls;  /* slab: size class; block: order; large object: its cache bin */
	uint8_t list; /* enum page_list */
	/* enum backing: set by the buddy core; the layer that lets it be written sets DIRTY. */
	uint8_t backing;
	/* Any thread, atomic: remote list of a slab, its length, ownership; see slab.h. */
	_Atomic uint64_t state;
	union {
		struct {
			/* Guarded by what guards the list in `list`. */
			struct page *next;
			struct page *prev;
			union {
				/* In a stack (list.h): written by the thread that pushes; read by
				 * the taker. */
				struct page *stack_next;
				uint32_t dirty; /* a free block: how many of its pages are */
			};
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
 * Inaccessible bytes in front of the metadata of a region, and behind them, at least. There are
 * none if the kernel's page is larger.
 */
#define REGION_GUARD 4096u

/*
 * The metadata of a region, before its pages (pagemap.h says where). head[i] says which run page i
 * belongs to: the offset of its first page from the region's start, and in the bits below
 * (HEAD_NOTE) what the run's user put there. It is stale if page i is free: each reader checks
 * ranges. It is 0 if the address space of page i does not belong to the region, so that it may be
 * memory of others.
 */
#define HEAD_NOTE ((uint32_t)PG_BYTES - 1)
struct region {
	char guard[REGION_GUARD]; /* an overrun of what is in front faults here; see bare */
	struct zone *zone;        /* set once */
	struct region *next;      /* zone's list, set once */
	uint32_t pages;           /* usable from page 0 on; guarded by the zone's lock */
	uint32_t free_pages;      /* on the buddy lists; guarded by the zone's lock */
	uint32_t reserved;        /* pages of address space held from page 0 on; grow lock */
	uint32_t offline;         /* its address space was returned to the kernel */
	uint32_t away_pages;      /* in blocks that are away; grow lock */
	bool blocked;             /* another mapping lies behind it; grow lock */
	bool populated;    /* all metadata is backed by memory; the reserve's thread, grow lock */
	_Atomic bool bare; /* its guards are usable, or about to be; any thread, atomic */
	_Atomic uint32_t thp; /* huge pages, a bit for each 2 MiB; any thread, atomic: thp.c */
	_Atomic(struct live_bits *) live; /* any thread, atomic: livebits.h, set once */
	cache_aligned uint64_t dirty[REGION_PAGES / 64];  /* of free pages; zone's lock */
	cache_aligned uint64_t unused[REGION_PAGES / 64]; /* pages of free blocks; zone's lock */
	cache_aligned uint32_t head[REGION_PAGES];
	/* How many bytes of the run that begins with a page are carved: read by any thread to
	 * recognize a pointer to memory that was never allocated. ALIGN_MIN for a large object that
	 * cache bins take. 0 for all other pages. Not in the descriptor, because its line is
	 * written by the owner while other threads free objects of the slab. */
	cache_aligned _Atomic uint32_t carved[REGION_PAGES];
	cache_aligned struct page page[REGION_PAGES];
};

/* Metadata fills whole pages of any kernel (at most 64 KiB), so that the pages behind it can be
 * mapped and released alone. */
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

/* The same without a branch, for sizes that come in an order that no processor foresees. */
static always_inline size_t min_fast(size_t a, size_t b)
{
#if defined(__x86_64__)
	__asm__("cmpq %1, %0\n\tcmovaq %1, %0" : "+r"(a) : "r"(b) : "cc");
	return a;
#else
	return a < b ? a : b;
#endif
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

#endif
