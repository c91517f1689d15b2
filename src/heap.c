/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.c - threads' heaps: the slow paths, the fallback heap, threads that come and go.
 * Used by shim, reclaim, fork; uses slab, large, huge, pcp, meta.
 *
 * (A) A heap's lists, and the slabs it owns, are touched only by who is in its window: its owner
 *     with busy set and the gate free, or who holds its gate, or (fallback heap) its lock.
 * (B) The owner is in its window only for a bounded number of list steps. Whatever may wait or
 *     enter the kernel (pages, pool locks) is done outside of it; what is had there is in limbo,
 *     seen by nobody, until the window is entered again.
 * (C) A bin holds objects of its class, of any slab of any owner; each counts as used there.
 * (D) A slab is on partial[c] (has room, wake 0), on full (no room but what is on its remote list,
 *     wake used - 1), or is current[c] (wake WAKE_NEVER).
 * (E) An empty slab is given back at once, unless it is current: at most one a class stays.
 * (F) Heaps are recycled, never unmapped; a slab whose post is still on the way when its heap
 *     goes stays with the heap, and the heap's next thread gets it.
 *
 * Calls that cannot use their thread's heap (held, re-entered, exited, or not to be had) use the
 * fallback heap under its lock (FALLBACK); when even that is not to be had, a mapping of their
 * own. Their frees are remote frees, which need no lock.
 *
 * Pairing: see heap_enter and heap_leave for the window; inbox: release CAS in post with the
 * acquire exchange in inbox_take; heap list: release CAS in heap_publish with heap_first.
 * Fork: heap_fork_*, see fork.c.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap.h"

#include <errno.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "huge.h"
#include "large.h"
#include "meta.h"
#include "options.h"
#include "stats.h"
#include "vm.h"

#define INBOX_BATCH 8u
#define REAP_LOOKS 3u
#define REALLOC_MAP_MIN ((size_t)1 << 20)
#define WAKE_NEVER (-1) /* but for a count that falls below zero */
#define FORK_WAIT_TRIES 500u /* of 20 us each, for all heaps together */

/* Never entered: busy is set for good. */
struct heap heap_none = { .busy = 1 };
struct heap heap_gone = { .busy = 1 };
_Thread_local struct heap *heap_self TLS_FAST = &heap_none;

static struct {
	struct lock lock;
	struct heap heap;
} fallback = { .lock = LOCK_INIT(LOCK_FALLBACK) };

static struct {
	struct lock lock;
	/* Guarded by: lock. */
	struct heap *free; /* heaps that wait for a thread */
	_Atomic uint32_t orphans; /* of them, left by a fork; also read without the lock */
} registry = { .lock = LOCK_INIT(LOCK_REGISTRY) };

static _Atomic(struct heap *) heaps;
static _Atomic uint64_t generation; /* of gates */
static pthread_key_t exit_key;
static bool exit_key_made;
static bool membarrier_ready;
static bool options_known; /* libc had its environment when they were read */

bool (*heap_reclaim)(void);

/* ---- start ------------------------------------------------------------------------------- */

static void thread_exit(void *arg);
static void post(struct page *pg);

/* Put a heap that has no thread where the next thread finds it. */
static void heap_retire(struct heap *h)
{
	if (lock_acquire(&registry.lock) != 0)
		return; /* only inside a fork that takes for ever: the struct is not reused */
	h->idle = 1;
	atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
	h->free_next = registry.free;
	registry.free = h;
	lock_release(&registry.lock);
}

static void heap_publish(struct heap *h)
{
	struct heap *head = atomic_load_explicit(&heaps, memory_order_relaxed);

	do {
		atomic_store_explicit(&h->next, head, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&heaps, &head, h, memory_order_release,
							memory_order_relaxed));
}

struct heap *heap_first(void)
{
	return atomic_load_explicit(&heaps, memory_order_acquire);
}

static const uint8_t bin_capacities[CLASSES] = {
#define SIZECLASS(size, pages) BIN_CAPACITY(size),
#include "sizeclass.def"
#undef SIZECLASS
};

static inline unsigned bin_capacity(unsigned cls)
{
	return bin_capacities[cls];
}

/* Each bin: a NULL, then its capacity. The slots are zero. */
static void heap_init_bins(struct heap *h)
{
	struct object **at = h->bin_slots;

	for (unsigned cls = 0; cls < CLASSES; cls++) {
		h->bin[cls].top = at;
		h->bin[cls].limit = at + bin_capacity(cls);
		at += bin_capacity(cls) + 1;
	}
	DCHECK(at == h->bin_slots + BIN_SLOTS);
}

void heap_init(void)
{
	static _Atomic uint32_t state; /* 0, 1 under way, 2 done */
	uint32_t expected = 0;

	if (likely(atomic_load_explicit(&state, memory_order_acquire) == 2))
		return;
	if (atomic_compare_exchange_strong_explicit(&state, &expected, 1, memory_order_acquire,
						    memory_order_acquire)) {
		vm_init();
		options_known = options_load();
		pcp_init(&fallback.heap.pcp, &zone_main);
		heap_init_bins(&fallback.heap);
		ring_post = post;
		exit_key_made = pthread_key_create(&exit_key, thread_exit) == 0;
		atomic_store_explicit(&state, 2, memory_order_release);
		return;
	}
	while (atomic_load_explicit(&state, memory_order_acquire) != 2)
		sched_yield();
}

void heap_init_late(void)
{
	int saved = errno;

	if (!options_known)
		options_known = options_load();
	membarrier_ready =
		syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	errno = saved;
}

static bool reap(struct heap *h);

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

/* A heap for the calling thread. heap_none stays when there is no memory for one. */
static noinline struct heap *heap_create_self(void)
{
	struct heap *h = NULL;

	heap_init();
	if (!registry.free)
		reap_some();
	if (lock_acquire(&registry.lock) != 0)
		return &heap_none;
	h = registry.free;
	if (h) {
		registry.free = h->free_next;
		h->idle = 0;
		if (h->orphan) {
			h->orphan = 0;
			atomic_fetch_sub_explicit(&registry.orphans, 1, memory_order_relaxed);
		}
	}
	lock_release(&registry.lock);
	if (h) {
		stat_add(STAT_heaps_reused, 1);
	} else {
		h = meta_alloc(sizeof(*h));
		if (!h)
			return &heap_none;
		pcp_init(&h->pcp, &zone_main);
		heap_init_bins(h);
		heap_publish(h);
		stat_add(STAT_heaps_made, 1);
	}
	if (unlikely(heap_self != &heap_none)) {
		heap_retire(h); /* a signal handler was here before us */
		return heap_self;
	}
	h->exit_rounds = 0;
	atomic_store_explicit(&h->tid, self_tid(), memory_order_relaxed);
	heap_self = h;
	/* May call malloc for its own table; heap_self is set, so that is served. */
	if (exit_key_made)
		pthread_setspecific(exit_key, h);
	return h;
}

/* The calling thread's page cache; a thread without a heap uses the fallback's. */
static struct pcp *pcp_self(void)
{
	struct heap *h = heap_self;

	return h == &heap_none || h == &heap_gone ? &fallback.heap.pcp : &h->pcp;
}

struct pcp *heap_pcp(void)
{
	if (unlikely(heap_self == &heap_none))
		heap_create_self();
	return pcp_self();
}

/* ---- the window, the slow way ------------------------------------------------------------ */

/* A pending gate we take back; a held one we leave to its holder. False: it is held. */
static bool gate_take_back(struct heap *h)
{
	uint64_t g = atomic_load_explicit(&h->gate, memory_order_acquire);

	while ((g & GATE_STATE) == GATE_PENDING) {
		if (atomic_compare_exchange_strong_explicit(&h->gate, &g, GATE_FREE,
							    memory_order_acq_rel,
							    memory_order_acquire))
			return true;
	}
	return g == GATE_FREE;
}

/* Into the window, also past a pending gate. False: the gate is held, or this is a re-entry. */
static bool window_open(struct heap *h)
{
	return heap_enter(h) ||
	       (!atomic_load_explicit(&h->busy, memory_order_relaxed) && gate_take_back(h) &&
		heap_enter(h));
}

/* The heap that serves this call, entered: the thread's own, or the fallback under its lock.
 * NULL: neither can be had. */
static struct heap *call_begin(bool create)
{
	struct heap *h = heap_self;

	if (unlikely(h == &heap_none) && create)
		h = heap_create_self();
	if (likely(h != &heap_none && h != &heap_gone) && window_open(h))
		return h;
	heap_init();
	if (lock_acquire(&fallback.lock) != 0)
		return NULL;
	stat_add(STAT_fallback_calls, 1);
	return &fallback.heap;
}

static void call_end(struct heap *h)
{
	struct page *pg = h->release;

	h->release = NULL;
	if (h == &fallback.heap)
		lock_release(&fallback.lock);
	else
		heap_leave(h);
	while (unlikely(pg != NULL)) {
		struct page *next = pg->inbox_next;

		pcp_free(&h->pcp, pg);
		pg = next;
	}
}

/* ---- slabs of a heap, in its window ------------------------------------------------------ */

/* Not on any list of the heap any more: unmake it after the window. */
static void slab_release(struct heap *h, struct page *pg)
{
	slab_unmake(pg);
	pg->inbox_next = h->release;
	h->release = pg;
}

static void partial_add(struct heap *h, struct page *pg)
{
	pg->wake = 0;
	page_list_add_tail(&h->partial[pg->cls], pg, LIST_PARTIAL);
}

static void full_add(struct heap *h, struct page *pg)
{
	pg->wake = (int16_t)(pg->used - 1);
	page_list_add(&h->full, pg, LIST_FULL);
}

/* Put a slab that is on no list where its room says. */
static void slab_place(struct heap *h, struct page *pg)
{
	if (pg->used == 0 && pg->carved)
		slab_release(h, pg);
	else if (slab_has_room(pg))
		partial_add(h, pg);
	else
		full_add(h, pg);
}

/* A slab in limbo becomes this heap's. */
static void slab_attach(struct heap *h, struct page *pg)
{
	atomic_store_explicit(&pg->owner, h, memory_order_relaxed);
	slab_collect_to(pg, STATE_OWNED);
	slab_place(h, pg);
}

/* A slab that was posted: it has objects on its remote list. */
static void inbox_open(struct heap *h, struct page *pg)
{
	DCHECK(atomic_load_explicit(&pg->owner, memory_order_relaxed) == h);
	slab_collect_to(pg, STATE_OWNED);
	if (pg->list == LIST_FULL)
		page_list_del(&h->full, pg, LIST_FULL);
	else if (pg->list == LIST_PARTIAL && pg->used == 0)
		page_list_del(&h->partial[pg->cls], pg, LIST_PARTIAL);
	else
		return; /* partial with objects in use, or current */
	slab_place(h, pg);
}

/* Look at up to n posted slabs; false: there were none. */
static bool inbox_take(struct heap *h, unsigned n)
{
	bool any = false;

	for (; n; n--) {
		struct page *pg = h->inbox_todo;

		if (!pg) {
			if (!atomic_load_explicit(&h->inbox, memory_order_relaxed))
				break;
			/* Acquire pairs with the release CAS in post. */
			pg = atomic_exchange_explicit(&h->inbox, NULL, memory_order_acquire);
		}
		h->inbox_todo = pg->inbox_next;
		inbox_open(h, pg);
		any = true;
	}
	return any;
}

/* Put a slab whose POSTED flag we have set into its owner's inbox. Its owner stays until then. */
static void post(struct page *pg)
{
	struct heap *h = atomic_load_explicit(&pg->owner, memory_order_relaxed);
	struct page *head = atomic_load_explicit(&h->inbox, memory_order_relaxed);

	do {
		pg->inbox_next = head;
	} while (!atomic_compare_exchange_weak_explicit(&h->inbox, &head, pg, memory_order_release,
							memory_order_relaxed));
	stat_add(STAT_slabs_posted, 1);
}

/* The slab that the next objects of cls come from; NULL: the heap has none. */
static struct page *current_slab(struct heap *h, unsigned cls)
{
	struct page *pg = h->current[cls];

	if (pg && slab_has_room(pg))
		return pg;
	if (pg) {
		pg->list = LIST_NONE;
		full_add(h, pg);
		h->current[cls] = NULL;
	}
	pg = h->partial[cls].first;
	if (!pg && inbox_take(h, INBOX_BATCH)) {
		if (h->current[cls])
			return h->current[cls];
		pg = h->partial[cls].first;
	}
	if (!pg)
		return NULL;
	page_list_del(&h->partial[cls], pg, LIST_PARTIAL);
	pg->list = LIST_CURRENT;
	pg->wake = WAKE_NEVER; /* nothing a free does is of interest while it is current */
	h->current[cls] = pg;
	return pg;
}

/*
 * Fill the empty bin of cls by half, so that the next frees find room, without asking for pages.
 * False: the heap has nothing.
 */
static bool refill(struct heap *h, unsigned cls)
{
	struct bin *b = &h->bin[cls];
	struct object *o[BIN_MAX];
	unsigned want = (bin_capacity(cls) + 1) / 2;
	unsigned got = 0;

	while (got < want) {
		struct page *pg = current_slab(h, cls);

		if (!pg)
			break;
		got += slab_take(pg, o + got, want - got);
	}
	/* The first taken on top: it has the lowest address, or was freed last. */
	while (got)
		*++b->top = o[--got];
	return *b->top != NULL;
}

/* A slab with room for a call outside the window: adopted, or made of fresh pages. In limbo. */
static struct page *slab_obtain(struct pcp *pcp, unsigned cls)
{
	struct page *pg = slab_pool_take(cls);

	if (pg)
		return pg;
	pg = pcp_alloc(pcp, run_class_of(size_classes[cls].pages));
	if (unlikely(!pg) && heap_reclaim && heap_reclaim())
		pg = pcp_alloc(pcp, run_class_of(size_classes[cls].pages));
	if (pg)
		slab_make(pg, cls);
	return pg;
}

/* A slab in limbo that no heap can take: un-owned, for others to find. Where even the pool's lock
 * is not to be had, a slab with live objects stays in limbo for good; that takes a signal handler
 * inside a pool lock and is one slab. */
static void slab_return(struct pcp *pcp, struct page *pg)
{
	if (pg->used == 0 || slab_pool_put(pg) == POOL_EMPTY) {
		slab_unmake(pg);
		pcp_free(pcp, pg);
	}
}

/* ---- allocation -------------------------------------------------------------------------- */

/* A mapping for who can have neither heap nor lock, or when no region can grow. */
static void *emergency_alloc(size_t size, size_t align)
{
	stat_add(STAT_emergency_maps, 1);
	return huge_alloc(size, align);
}

static bool take_orphan(void);

noinline void *heap_alloc_slow(size_t size)
{
	unsigned cls = class_of(size);

	/* Ends: each turn but the first has made a slab or adopted one. Another call (a signal
	 * handler's) may eat it up in between, but then that one got on. */
	for (;;) {
		struct heap *h = call_begin(true);
		struct page *pg;
		struct object *o;

		if (unlikely(!h))
			return emergency_alloc(size, ALIGN_MIN);
		if (*h->bin[cls].top || refill(h, cls)) {
			o = *h->bin[cls].top--;
			call_end(h);
			return o;
		}
		call_end(h);
		if (unlikely(atomic_load_explicit(&registry.orphans, memory_order_relaxed)))
			take_orphan();
		pg = slab_obtain(&h->pcp, cls);
		if (unlikely(!pg))
			return emergency_alloc(size, ALIGN_MIN);
		h = call_begin(true);
		if (unlikely(!h)) {
			slab_return(pcp_self(), pg);
			return emergency_alloc(size, ALIGN_MIN);
		}
		slab_attach(h, pg);
		call_end(h);
	}
}

void *heap_alloc_large(size_t size, bool *zero)
{
	struct pcp *pcp = heap_pcp();
	void *p = NULL;

	if (size <= LARGE_MAX)
		p = large_alloc(pcp, size, 1, zero);
	if (!p) {
		p = huge_alloc(size, 1);
		*zero = true;
	}
	if (unlikely(!p) && heap_reclaim && heap_reclaim()) {
		*zero = false;
		p = size <= LARGE_MAX ? large_alloc(pcp, size, 1, zero) : NULL;
	}
	return p;
}

/* A class whose objects are all aligned to align (slabs begin at a page): CLASSES if none. */
static unsigned class_aligned(size_t size, size_t align)
{
	unsigned cls = CLASSES;

	if (align <= PG_BYTES && max_size(size, align) <= SMALL_MAX) {
		cls = class_of(max_size(size, align));
		while (cls < CLASSES && class_size(cls) % align)
			cls++;
	}
	return cls;
}

void *heap_alloc_aligned(size_t size, size_t align)
{
	unsigned cls = class_aligned(size, align);
	void *p = NULL;
	bool zero;

	if (cls < CLASSES)
		return heap_alloc_small(class_size(cls));
	if (size <= LARGE_MAX && align <= LARGE_MAX) {
		p = large_alloc(heap_pcp(), max_size(size, 1), align, &zero);
		if (!p && heap_reclaim && heap_reclaim())
			p = large_alloc(heap_pcp(), max_size(size, 1), align, &zero);
	}
	return p ? p : huge_alloc(size, align);
}

/* ---- free -------------------------------------------------------------------------------- */

static _Noreturn void bad_free(void *p, const struct page *pg)
{
	if (pg->kind == PAGE_SLAB)
		sluice_fatal("free of memory that was never handed out: address %p, size class %u "
			     "(%u bytes)",
			     p, pg->cls, (unsigned)class_size(pg->cls));
	if (pg->kind == PAGE_RAW)
		sluice_fatal("free of a page block (use sluice_page_free): address %p", p);
	if (pg->kind == PAGE_NONE && page_number(pg) == 0)
		sluice_fatal("free of memory that is not ours: address %p", p);
	sluice_fatal("block freed twice or never handed out: address %p", p);
}

static inline void check_object(void *p, const struct page *pg)
{
	size_t off = (size_t)((char *)p - page_address(pg));

	if (unlikely(off >= slab_carved_bytes(pg)))
		bad_free(p, pg);
	if (unlikely(!class_divides(pg->cls, off)))
		sluice_fatal("free of the middle of an object: address %p, size class %u (%u "
			     "bytes)",
			     p, pg->cls, (unsigned)class_size(pg->cls));
}

/* In the window of the slab's heap. */
static void free_local(struct heap *h, struct page *pg, struct object *o)
{
	if (unlikely(o == pg->free || pg->used <= 0))
		sluice_fatal("object freed twice: address %p, size class %u (%u bytes)", (void *)o,
			     pg->cls, (unsigned)class_size(pg->cls));
	o->next = pg->free;
	pg->free = o;
	pg->used--;
	if (pg->used > pg->wake)
		return;
	if (pg->list == LIST_FULL)
		page_list_del(&h->full, pg, LIST_FULL);
	else if (pg->list == LIST_PARTIAL)
		page_list_del(&h->partial[pg->cls], pg, LIST_PARTIAL);
	else
		return;
	slab_place(h, pg);
}

static void adopt(struct page *pg, unsigned cls)
{
	struct heap *h;

	if (!slab_pool_adopt(pg, cls))
		return;
	h = call_begin(true);
	if (unlikely(!h)) {
		slab_return(pcp_self(), pg);
		return;
	}
	slab_attach(h, pg);
	call_end(h);
}

/* Without a heap of its own: one object, one atomic operation. */
static void free_remote(struct page *pg, struct object *o)
{
	unsigned cls = pg->cls; /* before the free: afterwards it may be another slab */

	switch (slab_free_remote(pg, o, o, 1)) {
	case SLAB_POST:
		post(pg);
		break;
	case SLAB_ADOPT:
		adopt(pg, cls);
		break;
	case SLAB_PUT:
		break;
	}
}

/* Adoptions that frees inside a window have left to be done after it. */
struct due_list {
	struct ring_adopt due[BIN_MAX];
	unsigned n;
};

static void due_adopt(const struct due_list *d)
{
	for (unsigned i = 0; i < d->n; i++)
		adopt(d->due[i].pg, d->due[i].cls);
}

/* In the window of h: an object goes to its slab, or into the ring. */
static void free_to_slab(struct heap *h, struct object *o, struct due_list *d)
{
	struct page *pg = page_of(o);

	check_object(o, pg); /* the fast path knows only that it is aligned to 16 */
	if (atomic_load_explicit(&pg->owner, memory_order_relaxed) == h) {
		free_local(h, pg, o);
	} else {
		struct ring_adopt due = ring_put(&h->ring, pg, o);

		if (due.pg)
			d->due[d->n++] = due;
	}
}

/* In the window of h: the n objects of a bin that were freed first go to their slabs. */
static void bin_flush(struct heap *h, unsigned cls, unsigned n, struct due_list *d)
{
	struct bin *b = &h->bin[cls];
	struct object **bottom = b->limit - bin_capacity(cls) + 1;

	for (unsigned i = 0; i < n; i++)
		free_to_slab(h, bottom[i], d);
	for (struct object **at = bottom + n; at <= b->top; at++)
		at[-(ptrdiff_t)n] = *at;
	b->top -= n;
}

/* The way of an object that the bin has no room for, or that must not go into a bin. */
static void free_object(struct page *pg, void *p)
{
	struct due_list d = { .n = 0 };
	unsigned cls = pg->cls;
	struct heap *h;
	struct bin *b;

	check_object(p, pg);
	h = call_begin(false);
	if (unlikely(!h)) {
		free_remote(pg, p);
		return;
	}
	b = &h->bin[cls];
	if (unlikely(*b->top == p))
		sluice_fatal("object freed twice: address %p, size class %u (%u bytes)", p, cls,
			     (unsigned)class_size(cls));
	if (b->top == b->limit)
		bin_flush(h, cls, (bin_capacity(cls) + 1) / 2, &d);
	*++b->top = p;
	call_end(h);
	due_adopt(&d);
}

noinline void heap_free_slow(void *p)
{
	int saved = errno;
	struct page *pg;

	if (!p)
		return;
	pg = pagemap_ours(p) ? page_of(p) : NULL;
	if (pg && pg->kind == PAGE_SLAB) {
		free_object(pg, p);
	} else if (pg && pg->kind == PAGE_LARGE) {
		large_free(pcp_self(), pg, p);
	} else if (!huge_free(p)) {
		if (pg)
			bad_free(p, pg);
		sluice_fatal("free of memory that is not ours: address %p", p);
	}
	errno = saved;
}

/* ---- what a pointer is ------------------------------------------------------------------- */

size_t heap_usable(void *p)
{
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;
	size_t n;

	if (pg && pg->kind == PAGE_SLAB && slab_carved_bytes(pg))
		return class_size(pg->cls);
	if (pg && pg->kind == PAGE_LARGE)
		return large_usable(pg);
	n = huge_usable(p);
	if (!n)
		sluice_fatal("size asked of memory that is not ours or was freed: address %p", p);
	return n;
}

static void *realloc_move(void *p, size_t old, size_t size)
{
	/* Large and still growing: from here on page tables are moved, not bytes. */
	bool grows = old < size && size >= REALLOC_MAP_MIN;
	void *q = grows ? huge_alloc(size, 1) : NULL;

	if (!q)
		q = heap_alloc(size);
	if (!q)
		return NULL;
	memcpy(q, p, min_size(old, size));
	heap_free(p);
	return q;
}

void *heap_realloc(void *p, size_t size)
{
	size_t old = heap_usable(p);
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;
	void *q;

	if (pg && pg->kind == PAGE_SLAB) {
		check_object(p, pg);
		if (size <= old && (size > old / 2 || class_of(size) == pg->cls))
			return p;
	} else if (pg && pg->kind == PAGE_LARGE) {
		if (p != (void *)page_address(pg))
			large_free(pcp_self(), pg, p); /* stops the program */
		if (size > SMALL_MAX && large_resize(pg, size))
			return p;
	} else if (size > old / 2 || size > LARGE_MAX) {
		q = huge_realloc(p, size);
		if (q)
			return q;
	}
	q = realloc_move(p, old, size);
	return q || size > old ? q : p; /* to shrink cannot fail */
}

/* ---- exit -------------------------------------------------------------------------------- */

static void slab_leave(struct heap *h, struct page *pg)
{
	enum slab_put put = slab_pool_put(pg);

	if (put == POOL_EMPTY) {
		slab_release(h, pg);
	} else if (put != POOL_PUT) {
		full_add(h, pg);
		pg->wake = WAKE_NEVER;
	}
}

static void leave_class(struct heap *h, unsigned cls)
{
	struct page *pg = h->current[cls];

	if (pg) {
		h->current[cls] = NULL;
		pg->list = LIST_NONE;
		slab_leave(h, pg);
	}
	while ((pg = h->partial[cls].first) != NULL) {
		page_list_del(&h->partial[cls], pg, LIST_PARTIAL);
		slab_leave(h, pg);
	}
}

/* Look again at an un-owned slab that was freed into: it may be empty, or have room now. */
static void pool_refresh(struct heap *h, struct ring_adopt *due)
{
	if (due->pg && slab_pool_adopt(due->pg, due->cls) && slab_pool_put(due->pg) == POOL_EMPTY)
		slab_release(h, due->pg);
}

/* In the window of h: nothing in its bins and its ring any more. */
static void heap_flush(struct heap *h)
{
	struct ring_adopt due;

	for (unsigned cls = 0; cls < CLASSES; cls++) {
		struct bin *b = &h->bin[cls];
		struct due_list d = { .n = 0 };

		bin_flush(h, cls,
			  (unsigned)(b->top - (b->limit - bin_capacity(cls))), &d);
		for (unsigned i = 0; i < d.n; i++)
			pool_refresh(h, &d.due[i]);
	}
	while (ring_flush_one(&h->ring, &due))
		pool_refresh(h, &due);
}

/* Leave all slabs of a heap un-owned. The caller has the window. */
static void heap_leave_slabs(struct heap *h)
{
	struct page *pg;
	struct page *next;

	heap_flush(h);
	while (inbox_take(h, INBOX_BATCH))
		;
	for (unsigned cls = 0; cls < CLASSES; cls++)
		leave_class(h, cls);
	for (pg = h->full.first; pg; pg = next) {
		next = pg->next;
		page_list_del(&h->full, pg, LIST_FULL);
		slab_leave(h, pg);
	}
}

/*
 * Thread-specific destructors run in rounds; ours asks for another until the last, so that those
 * of the program may still use malloc and free. What runs after that uses the fallback heap.
 */
static void thread_exit(void *arg)
{
	struct heap *h = arg;

	if (heap_self != h)
		return;
	if (++h->exit_rounds < PTHREAD_DESTRUCTOR_ITERATIONS &&
	    pthread_setspecific(exit_key, h) == 0)
		return;
	while (!window_open(h)) {
		/* A thread that leaves from inside a malloc (pthread_exit in a signal handler,
		 * asynchronous cancellation) leaves its heap as it is: not supported, bounded. */
		if (atomic_load_explicit(&h->busy, memory_order_relaxed))
			return;
		sched_yield(); /* held for a moment by who gates it */
	}
	heap_self = &heap_gone;
	heap_leave_slabs(h);
	call_end(h);
	pcp_drain(&h->pcp);
	heap_retire(h);
}

/* Take over the heap of a thread that is no more. False: it is not, or it ended in a malloc. */
static bool reap(struct heap *h)
{
	int saved = errno;
	uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);
	bool gone = tid && tid != self_tid() && syscall(SYS_tgkill, getpid(), tid, 0) != 0 &&
		    errno == ESRCH;

	errno = saved;
	if (!gone || !atomic_compare_exchange_strong_explicit(&h->tid, &tid, 0,
							      memory_order_acquire,
							      memory_order_relaxed))
		return false;
	if (!heap_enter(h))
		return false;
	heap_leave_slabs(h);
	call_end(h);
	pcp_drain(&h->pcp);
	heap_retire(h);
	stat_add(STAT_heaps_reaped, 1);
	return true;
}

/* A heap that a fork left with what its thread had: leave its slabs to all. */
static bool take_orphan(void)
{
	struct heap **at;
	struct heap *h;

	if (lock_acquire(&registry.lock) != 0)
		return false;
	for (at = &registry.free; *at && !(*at)->orphan; at = &(*at)->free_next)
		;
	h = *at;
	if (h) {
		*at = h->free_next;
		h->orphan = 0;
		atomic_fetch_sub_explicit(&registry.orphans, 1, memory_order_relaxed);
	}
	lock_release(&registry.lock);
	if (!h)
		return false;
	if (heap_enter(h)) {
		heap_leave_slabs(h);
		call_end(h);
	}
	pcp_drain(&h->pcp);
	heap_retire(h);
	return true;
}

/* What the calling thread has gathered for others goes to them. */
static void flush_own_ring(void)
{
	struct heap *h = heap_self;
	struct ring_adopt due;
	bool more = true;

	while (more && heap_enter(h)) {
		more = ring_flush_one(&h->ring, &due);
		heap_leave(h);
		if (more && due.pg)
			adopt(due.pg, due.cls);
	}
}

uint64_t heap_sweep(void)
{
	uint64_t bytes = 0;

	flush_own_ring();
	while (atomic_load_explicit(&registry.orphans, memory_order_relaxed) && take_orphan())
		;
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		struct page *pg;

		while ((pg = slab_pool_take_empty(cls)) != NULL) {
			bytes += (uint64_t)size_classes[cls].pages << PG_SHIFT;
			slab_unmake(pg);
			buddy_free(pg);
		}
	}
	return bytes;
}

/* ---- fork -------------------------------------------------------------------------------- */

/* Gate every other heap and wait, for a bounded time, until their threads are out. */
static void gate_all(void)
{
	const struct timespec pause = { 0, 20000 };
	uint64_t held = ((atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed) + 1) *
			 GATE_STEP) |
			GATE_HELD;
	unsigned tries = FORK_WAIT_TRIES;

	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		/* The full barrier that pairs with heap_enter is the membarrier below. */
		if (h != heap_self)
			atomic_store_explicit(&h->gate, held, memory_order_seq_cst);
	}
	if (!membarrier_ready || syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)) {
		membarrier_ready = false; /* the child trusts none of them */
		return;
	}
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		while (h != heap_self && tries &&
		       atomic_load_explicit(&h->busy, memory_order_acquire)) {
			tries--;
			nanosleep(&pause, NULL);
		}
	}
}

void heap_fork_prepare(void)
{
	lock_fork_prepare(&registry.lock);
	gate_all();
	lock_fork_prepare(&fallback.lock);
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_prepare(slab_pool_lock(cls));
}

void heap_fork_parent(void)
{
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_parent(slab_pool_lock(cls));
	lock_fork_parent(&fallback.lock);
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		/* Release pairs with the acquire load in heap_enter. */
		if (h != heap_self)
			atomic_store_explicit(&h->gate, GATE_FREE, memory_order_release);
	}
	lock_fork_parent(&registry.lock);
}

/*
 * In the child: a heap whose thread was out of it is whole, and waits for a thread or for
 * take_orphan. One whose thread was inside may be half changed: it stays held for good; objects
 * of its slabs may still be freed (on their remote lists), and that is all.
 */
static void fork_child_heap(struct heap *h)
{
	if (h->idle) {
		atomic_store_explicit(&h->gate, GATE_FREE, memory_order_relaxed);
	} else if (membarrier_ready && !atomic_load_explicit(&h->busy, memory_order_relaxed)) {
		atomic_store_explicit(&h->gate, GATE_FREE, memory_order_relaxed);
		h->orphan = 1;
		h->idle = 1;
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
		h->free_next = registry.free;
		registry.free = h;
		atomic_fetch_add_explicit(&registry.orphans, 1, memory_order_relaxed);
	} else {
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
		stat_add(STAT_heaps_quarantined, 1);
	}
}

void heap_fork_child(void)
{
	for (unsigned cls = 0; cls < CLASSES; cls++)
		lock_fork_child(slab_pool_lock(cls));
	lock_fork_child(&fallback.lock);
	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		if (h != heap_self)
			fork_child_heap(h);
		else
			atomic_store_explicit(&h->tid, self_tid(), memory_order_relaxed);
	}
	lock_fork_child(&registry.lock);
}

/* ---- debug ------------------------------------------------------------------------------- */

static void check_list(struct heap *h, struct page_list_head *l, enum page_list tag)
{
	for (struct page *pg = l->first; pg; pg = pg->next) {
		CHECK(pg->list == tag);
		CHECK(atomic_load_explicit(&pg->owner, memory_order_relaxed) == h);
		slab_check(pg);
	}
}

void heap_check(void)
{
	struct heap *h = heap_self;

	if (h == &heap_none || h == &heap_gone)
		return;
	CHECK(heap_enter(h));
	check_list(h, &h->full, LIST_FULL);
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		for (struct object **o = h->bin[cls].top; *o; o--)
			CHECK(page_of(*o)->kind == PAGE_SLAB && page_of(*o)->cls == cls);
		check_list(h, &h->partial[cls], LIST_PARTIAL);
		if (h->current[cls])
			slab_check(h->current[cls]);
	}
	heap_leave(h);
}
