/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_slabs.c - the cache bins and the slabs of a heap: what is done in its critical section.
 * Used by heap, trim and drain; uses cache_bin, slab, outbox.
 *
 * (A) A bin holds objects of its class, of any slab of any owner; each counts as used there. The
 *     bins of large objects hold runs that are PAGE_LARGE still.
 * (B) A slab is on partial[c] (has room, wake 0), on full (no room except on its remote list,
 *     wake used - 1), or is current[c] (wake WAKE_NEVER). (heap_check)
 * (C) An empty slab is given back at once, unless it is current: at most one a class stays.
 * (D) drained is set only when the heap has nothing in its bins, outbox and lists. What puts
 *     something there clears it before (heap_touched): the owner's slow calls, because a drained
 *     heap's bins have no room, and inbox_take. (DCHECKs where an emptying of the heap ends early)
 *
 * The caller is in the heap's critical section, or has claimed it, or (fallback heap) holds its
 * lock. Under it: list steps, CAS on state words; no page is asked for or given back.
 * Bound: a call refills or flushes BIN_STEP objects and opens INBOX_BATCH posted slabs
 * (heap_work.h). Of freed objects a refill reads TAKE_NEAR, prefetches some that may follow, and
 * stops at the first that is far from the one before; of those that others freed lately it reads
 * TAKE_CAME; carving reads none. A flush by free writes FLUSH objects, whose cache lines their
 * frees have prefetched. Debug builds count the cold lines (cold_count; t/unit/cold.c).
 * Pairing: inbox: release CAS in heap_post with the acquire exchange in inbox_take.
 * Source: magazines (Bonwick, Adams 2001), whose depot are the slabs; jemalloc's cache bins.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_slabs.h"

#include <string.h>

#include "base/atomics.h"
#include "base/check.h"
#include "base/delay.h"
#include "base/links.h"
#include "base/options.h"
#include "base/park.h"
#include "base/probe.h"
#include "base/stats.h"
#include "heap/cache_bin.h"
#include "heap/claim.h"
#include "heap/holes.h"
#include "heap/dealt.h"

#define WAKE_NEVER (-1) /* except if a count falls below zero */
#define FLUSH_SHIFT 3u
#define FLUSH (1u << FLUSH_SHIFT)
/* Of objects that share cache lines, and where nothing is allocated: more of one slab at once. */
#define FLUSH_MANY_SHIFT 4u
#define FLUSH_MANY (1u << FLUSH_MANY_SHIFT)
#define REFILL_BYTES 8192u
#define REFILL_MIN 8u
#define BIN_FREED 32u
#define FOREIGN_FREES_MAX 32u
#define OPEN_FOR 128u /* objects on a slab's remote list for which its owner carves no others */
_Static_assert(RETURNED_MAX + FLUSH_MANY <= BIN_STEP, "a due list takes what sampler_put flushes");

_Thread_local struct heap_work heap_work TLS_FAST;

/* A run in limbo: it goes to the pcp after the critical section. */
static void release_run(struct heap *h, struct page *pg)
{
	pg->stack_next = h->release;
	h->release = pg;
}

void heap_release_slab(struct heap *h, struct page *pg)
{
	slab_unmake(pg);
	release_run(h, pg);
}

static void partial_add(struct heap *h, struct page *pg)
{
	slab_held(pg)->wake = 0;
	page_list_add_tail(&h->partial[pg->cls], pg, LIST_PARTIAL);
}

/* A slab that could not be abandoned may have room, or be empty except for its remote list. The
 * next free by this heap moves it to the right list; a remote free posts it. */
void heap_full_add(struct heap *h, struct page *pg)
{
	slab_held(pg)->wake = (int16_t)(slab_held(pg)->used - 1);
	page_list_add(&h->full, pg, LIST_FULL);
}

/* Put a slab that is on no list where its room says. */
static void slab_place(struct heap *h, struct page *pg)
{
	if (slab_held(pg)->used == 0 && slab_held(pg)->carved)
		heap_release_slab(h, pg);
	else if (slab_has_room(pg))
		partial_add(h, pg);
	else
		heap_full_add(h, pg);
}

/* A slab that was posted: it has objects on its remote list. */
static void inbox_open(struct heap *h, struct page *pg)
{
	unsigned came;

	DCHECK(atomic_load_explicit(&pg->owner, memory_order_relaxed) == h);
	heap_work_count(0, 1);
	came = slab_collect_to(pg, STATE_OWNED);
	slab_holes(pg)->came = (uint8_t)(came < UINT8_MAX ? came : UINT8_MAX);
	if (pg->list == LIST_FULL)
		page_list_del(&h->full, pg, LIST_FULL);
	else if (pg->list == LIST_PARTIAL && slab_held(pg)->used == 0)
		page_list_del(&h->partial[pg->cls], pg, LIST_PARTIAL);
	else
		return; /* partial with objects in use, or current */
	slab_place(h, pg);
}

/* Open up to n posted slabs. Returns false if there were none. */
static bool inbox_take(struct heap *h, unsigned n)
{
	bool any = false;

	for (; n; n--) {
		struct page *pg = h->inbox_todo;

		if (!pg) {
			if (!atomic_load_explicit(&h->inbox, memory_order_relaxed))
				break;
			/* Before the inbox is empty, because heap_may_hold reads both. */
			heap_touched(h);
			SHARE_COUNT(heap_inbox);
			pg = page_stack_take_all(&h->inbox);
			DELAY_HERE(inbox_taken);
		}
		h->inbox_todo = pg->stack_next;
		inbox_open(h, pg);
		any = true;
	}
	return any;
}

void heap_attach(struct heap *h, struct page *pg)
{
	inbox_take(h, INBOX_BATCH);
	heap_work_count(0, 1);
	atomic_store_explicit(&pg->owner, h, memory_order_relaxed);
	slab_collect_to(pg, STATE_OWNED);
	slab_holes(pg)->came = 0;
	slab_place(h, pg);
}

bool heap_open_inbox(struct heap *h)
{
	return inbox_take(h, INBOX_BATCH);
}

/* The slab keeps its owner until the owner takes its inbox. */
void heap_post(struct page *pg)
{
	struct heap *h = atomic_load_explicit(&pg->owner, memory_order_relaxed);

	page_stack_push(&h->inbox, pg, DELAY_inbox_push);
	SHARE_COUNT(heap_inbox);
	park_wake();
	stat_add(STAT_slabs_posted, 1);
}

void heap_post_all(struct page *posted)
{
	while (posted) {
		struct page *pg = posted;

		posted = pg->stack_next;
		heap_post(pg);
	}
}

/* A partial slab becomes the one that the next objects of cls come from. */
static void make_current(struct heap *h, unsigned cls, struct page *pg)
{
	page_list_del(&h->partial[cls], pg, LIST_PARTIAL);
	pg->list = LIST_CURRENT;
	/* Nothing a free does is of interest while it is current. */
	slab_held(pg)->wake = WAKE_NEVER;
	h->current[cls] = pg;
}

/* The slab that the next objects of cls come from. Returns NULL if the heap has none. open: whether
 * the inbox may be opened before a slab is carved. */
static struct page *current_slab(struct heap *h, unsigned cls, bool open)
{
	struct page *pg = h->current[cls];

	if (pg && slab_held(pg)->free)
		return pg;
	/* What others have freed comes before memory that nothing has used yet, if there is enough
	 * of it to be worth the atomic operations. */
	if (open && pg && slab_remote_count(pg) >= OPEN_FOR)
		inbox_take(h, INBOX_BATCH);
	if (pg && slab_has_room(pg))
		return pg;
	if (pg) {
		pg->list = LIST_NONE;
		heap_full_add(h, pg);
		h->current[cls] = NULL;
	}
	pg = h->partial[cls].first;
	if (!pg && inbox_take(h, INBOX_BATCH))
		pg = h->partial[cls].first;
	if (!pg)
		return NULL;
	make_current(h, cls, pg);
	return pg;
}

struct page *heap_current_slab(struct heap *h, unsigned cls, bool open)
{
	return current_slab(h, cls, open);
}

void heap_change_current(struct heap *h, unsigned cls, struct page *next)
{
	struct page *pg = h->current[cls];

	make_current(h, cls, next);
	pg->list = LIST_NONE;
	slab_place(h, pg);
}

/* Objects of a refill: what is carved and then flushed unused would be written for nothing. */
static const uint8_t bin_steps[CLASSES] = {
#define SIZECLASS(size, pages)                                                                     \
	(uint8_t)(REFILL_BYTES / (size) < REFILL_MIN ? REFILL_MIN                                  \
		  : REFILL_BYTES / (size) > BIN_STEP ? BIN_STEP                                    \
						     : REFILL_BYTES / (size)),
#include "heap/sizeclass.def"
#undef SIZECLASS
};

/* The slab that the next objects of a refill come from. Of those that were freed it takes few. */
static always_inline struct page *refill_slab(struct heap *h, unsigned cls, bool open,
					      unsigned *want)
{
	struct page *pg = current_slab(h, cls, open);

	if (pg && slab_held(pg)->free && *want > TAKE_NEAR)
		*want = TAKE_NEAR;
	return pg;
}

/* At most by half, so that the next frees find room. */
bool heap_refill(struct heap *h, unsigned cls)
{
	struct object **bottom;
	struct object **end;
	struct page *pg;
	unsigned room;
	unsigned want;
	unsigned got = 0;
	bool fenced;

	counter_add(&h->refills, 1);
	fenced = unlikely(bin_is_fenced(h)) && class_size(cls) <= FENCE_OBJECT;
	bin_refilled(h, cls);
	bottom = bin_bottom(h, cls);
	room = bin_space(&h->bin[cls]);
	if (unlikely(room < bin_most(h, cls))) {
		bin_grow(h, cls);
		bottom = bin_bottom(h, cls);
		room = bin_space(&h->bin[cls]);
	}
	h->idle_rounds[cls] = 0;
	want = (room + 1) / 2;
	if (want > bin_steps[cls])
		want = bin_steps[cls];
	pg = refill_slab(h, cls, true, &want);
	/* The first taken on top: it has the lowest address, or was freed last. */
	end = bottom + 1 + want;
	while (pg) {
		bool freed = slab_held(pg)->free != NULL;

		if (fenced && room <= BIN_SMALL)
			want = got + slab_fence_fits(pg, want - got);
		heap_work_count(0, 1);
		got += slab_take(pg, end - got, want - got, true);
		if (got >= want || freed)
			break;
		pg = refill_slab(h, cls, false, &want);
		if (got >= want)
			break;
	}
	if (h->current[cls])
		slab_prefetch_next(h, h->current[cls], cls);
	heap_work_count(got, 0);
	PROBE2(refill, class_size(cls), got);
	h->bin[cls].top = bottom + got;
	if (end != bottom + 1 + got)
		memmove(bottom + 1, end - got, got * sizeof(struct object *));
	if (fenced)
		slab_fence_refill(h->current[cls], bottom + 1, got);
	return got != 0;
}

/* ---- objects go to their slabs ----------------------------------------------------------- */

struct page *(*heap_released_hook)(struct page *released);

_Noreturn void heap_bad_free(void *p, const struct page *pg)
{
	if (page_kind(pg) == PAGE_SLAB)
		sluice_fatal("free of memory that was never handed out: address %p, size class %u "
			     "(%u bytes)",
			     p, pg->cls, (unsigned)class_size(pg->cls));
	if (page_kind(pg) == PAGE_RAW)
		sluice_fatal("free of a page block (use sluice_page_free): address %p", p);
	if (page_kind(pg) == PAGE_NONE && page_number(pg) == 0)
		sluice_fatal("free of memory that is not ours: address %p", p);
	sluice_fatal("block freed twice or never handed out: address %p", p);
}

_Noreturn void heap_freed_twice(void *p, const struct page *pg)
{
	if (page_kind(pg) != PAGE_SLAB)
		sluice_fatal("block freed twice: address %p", p);
	freelist_freed_twice(pg, p);
}

void heap_check_object(void *p, const struct page *pg)
{
	size_t off = (size_t)((char *)p - page_address(pg));

	if (page_kind(pg) == PAGE_LARGE) {
		large_check(pg, p);
		return;
	}
	if (unlikely(off >= slab_carved_bytes(pg)))
		heap_bad_free(p, pg);
	if (unlikely(!class_divides(pg->cls, off)))
		sluice_fatal("free of the middle of an object: address %p, size class %u (%u "
			     "bytes)",
			     p, pg->cls, (unsigned)class_size(pg->cls));
	if (unlikely(holes_has(pg, off)))
		heap_bad_free(p, pg);
}

/* So many objects of h's slab are free now that it goes to another list, or is given back. */
static noinline void slab_wakes(struct heap *h, struct page *pg)
{
	if (unlikely(slab_held(pg)->used < 0))
		heap_freed_twice(slab_held(pg)->free, pg);
	if (pg->list == LIST_FULL)
		page_list_del(&h->full, pg, LIST_FULL);
	else if (pg->list == LIST_PARTIAL)
		page_list_del(&h->partial[pg->cls], pg, LIST_PARTIAL);
	else
		return;
	slab_place(h, pg);
}

/* How many of the n objects link_run may be given: in a slab with holes, each one is looked at. */
static always_inline unsigned run_most(struct page *pg, struct object **o, unsigned n)
{
	if (likely(!slab_in_holes(pg)))
		return n;
	heap_check_object(*o, pg);
	return 1;
}

/* Object o of slab pg is free: it leads to next. base: of the slab's marks. */
static always_inline void link_object(struct page *pg, struct object *o, const struct object *next,
				      uint64_t base)
{
	if (unlikely(mark_is_set(o, base)))
		heap_freed_twice(o, pg);
	mark_set(o, base);
	link_set(o, next);
}

/*
 * Link those of the objects up to end that follow each other in slab pg, whose carved memory begins
 * at start, in front of *list, and count them off *left. Returns where they end, behind the first
 * at least. Two a round: what is first changes its variable, not its register.
 */
static always_inline struct object **link_run(struct page *pg, uintptr_t start, uint32_t carved,
					      struct object **o, struct object **end,
					      struct object **list, int *left)
{
	uint64_t base = mark_base(pg);
	struct object *even = *list;
	struct object *odd = *o;
	int n = *left;

	if (unlikely(odd == even))
		heap_freed_twice(odd, pg);
	/* Its free has checked that it is the start of an object. */
	if (unlikely((uintptr_t)odd - start >= carved))
		heap_bad_free(odd, pg);
	for (;;) {
		link_object(pg, odd, even, base);
		n--;
		if (++o == end || (uintptr_t)(even = *o) - start >= carved) {
			even = odd;
			break;
		}
		link_object(pg, even, odd, base);
		n--;
		if (++o == end || (uintptr_t)(odd = *o) - start >= carved)
			break;
	}
	cold_count((unsigned)(*left - n));
	*list = even;
	*left = n;
	return o;
}

/* The slab is h's: those of the objects up to end that follow each other in it are free again.
 * Returns where they end. */
static always_inline struct object **put_own(struct heap *h, struct page *pg, uintptr_t start,
					     uint32_t carved, struct object **o,
					     struct object **end)
{
	struct slab_held *held = slab_held(pg);
	struct object *list = held->free;
	int used = held->used;

	end = link_run(pg, start, carved, o, end, &list, &used);
	held->free = list;
	held->used = (int16_t)used;
	cold_count(1);
	if (unlikely(used <= held->wake))
		slab_wakes(h, pg);
	return end;
}

/* The slab is another heap's: those of the objects up to end that follow each other in it go into
 * the outbox, if that takes few steps. Returns where they end. */
static always_inline struct object **put_foreign(struct heap *h, struct page *pg, uintptr_t start,
						 uint32_t carved, struct object **o,
						 struct object **end)
{
	unsigned n = outbox_takes(&h->outbox, pg, (unsigned)(end - o));
	struct object *list;
	int left = 0;

	if (unlikely(!n) || unlikely(slab_in_holes(pg)))
		return o;
	list = outbox_set(&h->outbox, pg)->first;
	end = link_run(pg, start, carved, o, o + n, &list, &left);
	outbox_add(&h->outbox, pg, list, (unsigned)-left);
	return end;
}

/* The first one or more of the n objects go to their slab, or into the outbox. Returns how many. */
static unsigned free_to_slab(struct heap *h, struct object **o, unsigned n, struct due_list *d)
{
	struct page *pg = page_of(*o);
	uintptr_t start = (uintptr_t)page_address(pg);
	uint32_t carved = slab_carved_bytes(pg);
	struct object *list = NULL;
	struct outbox_adopt due;
	struct page *posted = NULL;
	int left = 0;
	unsigned k;

	if (likely(atomic_load_explicit(&pg->owner, memory_order_relaxed) == h))
		return (unsigned)(put_own(h, pg, start, carved, o, o + run_most(pg, o, n)) - o);
	if (page_kind(pg) != PAGE_SLAB) {
		heap_check_object(*o, pg);
		large_unmake(pg);
		release_run(h, pg);
		return 1;
	}
	k = (unsigned)(put_foreign(h, pg, start, carved, o, o + n) - o);
	if (likely(k))
		return k;
	n = outbox_batch(pg->cls, n);
	(void)link_run(pg, start, carved, o, o + run_most(pg, o, n), &list, &left);
	n = (unsigned)-left;
	due = outbox_put(&h->outbox, pg, list, *o, n, &posted);
	heap_post_all(posted);
	if (due.pg)
		d->due[d->n++] = due;
	return n;
}

void heap_free_some(struct heap *h, struct object **o, unsigned n, struct due_list *d)
{
	heap_work_count(n, 0);
	for (unsigned k = 0; k < n;)
		k += free_to_slab(h, o + k, n - k, d);
}

void heap_free_to_slab(struct heap *h, void *p, struct due_list *d)
{
	struct object *o = p;

	heap_work_count(1, 0);
	free_to_slab(h, &o, 1, d);
}

bool heap_free_foreign(struct heap *h, struct page *pg, struct object *o, struct due_list *d)
{
	if (page_kind(pg) != PAGE_SLAB || bin_room(h, pg->cls) != 0 ||
	    h->foreign_frees[pg->cls] >= FOREIGN_FREES_MAX ||
	    atomic_load_explicit(&pg->owner, memory_order_relaxed) == h)
		return false;
	h->foreign_frees[pg->cls]++;
	free_to_slab(h, &o, 1, d);
	return true;
}

void heap_bin_flush(struct heap *h, unsigned cls, unsigned n, struct due_list *d)
{
	struct object **end = h->bin[cls].top + 1;
	struct object **o = end - n;

	counter_add(&h->flushes, 1);
	PROBE2(flush, cls < CLASSES ? class_size(cls) : 0, n);
	h->bin[cls].top = o - 1;
	heap_work_count(n, 0);
	while (o < end)
		o += free_to_slab(h, o, (unsigned)(end - o), d);
}

/* The places that the bin of cls may have. A thread that allocates nothing of the class has no use
 * for many. */
static always_inline unsigned bin_wants(struct heap *h, unsigned cls)
{
	unsigned most = bin_most(h, cls);

	return cls < CLASSES && !h->current[cls] && most > BIN_FREED ? BIN_FREED : most;
}

/* How many objects leave the full bin: at most half. */
static always_inline unsigned flush_of(struct heap *h, unsigned cls, unsigned room)
{
	bool many = cls < CLASSES && (cls < DENSE_CLASSES || !h->current[cls]);
	unsigned most = many ? FLUSH_MANY : FLUSH;

	return room / 2 < most ? (room + 1) / 2 : most;
}

/* What bin_next counts, as a shift. The widest bin has as many of these as bin_next has values. */
static always_inline unsigned leave_shift(unsigned cls)
{
	return cls < DENSE_CLASSES ? FLUSH_MANY_SHIFT : FLUSH_SHIFT;
}
_Static_assert(BIN_WIDE_MAX / FLUSH_MANY <= UINT8_MAX + 1 &&
		       BIN_WIDE_BYTES / (CACHE_LINE / 2 + 16) / FLUSH <= UINT8_MAX + 1,
	       "each place of a bin leaves");

/*
 * n objects leave the bin, which has `have`, for their slabs. Those freed last are what malloc
 * returns next, and those freed first may be out of the cache again. So they leave from places that
 * rotate, and the top of the bin takes their places: of each, free has prefetched the cache line as
 * many frees ago as the bin has places. Fewer than n above them all move down.
 */
static always_inline unsigned bin_leaves(struct heap *h, unsigned cls, unsigned have, unsigned n)
{
	unsigned i = (unsigned)h->bin_next[cls] << leave_shift(cls);

	if (unlikely(have < 2 * n))
		return have - n;
	return i <= have - 2 * n ? i : 0;
}

/* The last n of the objects up to end, a multiple of FLUSH, move down. */
static always_inline void bin_fill(struct object **to, struct object **end, unsigned n)
{
	do {
		end -= FLUSH;
		memcpy(to, end, FLUSH * sizeof(struct object *));
		to += FLUSH;
		n -= FLUSH;
	} while (n);
}

/* to: where the first of the n objects was, `i` places above the bottom's. */
static always_inline void bin_left(struct heap *h, unsigned cls, struct object **to, unsigned i,
				   unsigned n)
{
	unsigned shift = leave_shift(cls);
	struct object **end = h->bin[cls].top + 1;
	size_t above = (size_t)(end - to) - n;

	h->bin_next[cls] = (uint8_t)((i + n + (1u << shift) - 1) >> shift);
	h->bin[cls].top = end - 1 - n;
	if (unlikely(above < n || n % FLUSH)) {
		above = above < n ? above : n;
		memmove(to, end - above, above * sizeof(struct object *));
		return;
	}
	bin_fill(to, end, n);
}

static void bin_rotate(struct heap *h, unsigned cls, unsigned room, unsigned n, struct due_list *d)
{
	unsigned i = bin_leaves(h, cls, room, n);
	struct object **o = bin_bottom(h, cls) + 1 + i;

	counter_add(&h->flushes, 1);
	PROBE2(flush, class_size(cls), n);
	heap_free_some(h, o, n, d);
	bin_left(h, cls, o, i, n);
}

/* The first of the objects up to end, and those that follow it in its slab, go there or into the
 * outbox, if that takes few steps. Returns where they end. */
static always_inline struct object **put_run(struct heap *h, struct object **o, struct object **end)
{
	struct region *r = region_of(*o);
	uint32_t first = r->head[page_index_of(*o)] & ~HEAD_NOTE;
	struct page *pg = head_page(r, first);
	uintptr_t start = ((uintptr_t)*o & ~(REGION_BYTES - 1)) + first;
	uint32_t carved = atomic_load_explicit(head_carved(r, first), memory_order_relaxed);

	/* Only slabs have an owner. */
	if (likely(atomic_load_explicit(&pg->owner, memory_order_relaxed) == h))
		return unlikely(slab_in_holes(pg)) ? o : put_own(h, pg, start, carved, o, end);
	return page_kind(pg) == PAGE_SLAB ? put_foreign(h, pg, start, carved, o, end) : o;
}

/* The same for as many of the objects as take few steps. Not inline: it needs all registers. */
static noinline struct object **put_runs(struct heap *h, struct object **o, struct object **end)
{
	struct object **from;

	do {
		from = o;
		o = put_run(h, from, end);
	} while (o != end && o != from);
	return o;
}

/* What is counted and noted when objects of cls leave their bin for their slabs. */
static always_inline void spill_notes(struct heap *h, unsigned cls)
{
	bin_spills(h, cls);
	counter_add(&h->flushes, 1);
	h->idle_rounds[cls] = 0;
}

/* n objects, from o on, leave the bin of cls, and put_runs has put those up to `put`. d: NULL if no
 * adoption may be left to do. Returns false if none has left. */
static noinline bool spill_rest(struct heap *h, unsigned cls, struct object **o, unsigned n,
				struct object **put, struct due_list *d)
{
	unsigned done = (unsigned)(put - o);

	while (d && done < n)
		done += free_to_slab(h, o + done, n - done, d);
	if (unlikely(!done))
		return false;
	PROBE2(flush, class_size(cls), done);
	heap_work_count(done, 0);
	bin_left(h, cls, o, (unsigned)(o - bin_bottom(h, cls) - 1), done);
	return true;
}

/* have: what is in the bin, at least half of its room, `room`; bottom: of the bin. */
static noinline bool spill(struct heap *h, unsigned cls, struct object **bottom, unsigned room,
			   unsigned have, struct due_list *d)
{
	unsigned n = flush_of(h, cls, room);
	struct object **o = bottom + 1 + bin_leaves(h, cls, have, n);

	if (unlikely(room < bin_wants(h, cls)) || unlikely(!bins_may_have(0)))
		return false;
	spill_notes(h, cls);
	return spill_rest(h, cls, o, n, put_runs(h, o, o + n), d);
}

bool heap_bin_spill(struct heap *h, unsigned cls, struct due_list *d)
{
	struct cache_bin *b = &h->bin[cls];
	struct object **bottom = bin_bottom(h, cls);
	unsigned room = (unsigned)(b->top - bottom);
	unsigned n = cls < DENSE_CLASSES || !h->current[cls] ? FLUSH_MANY : FLUSH;
	unsigned shift = leave_shift(cls);
	struct object **put;
	struct object **o;
	unsigned next;

	/* Then the n objects lie below n others at least. */
	if (unlikely(room < 2 * FLUSH_MANY) || unlikely(room < bin_wants(h, cls)) ||
	    unlikely(!bins_may_have(0)))
		return spill(h, cls, bottom, room, room, d);
	next = h->bin_next[cls];
	if (unlikely(next << shift > room - 2 * n))
		next = 0;
	h->bin_next[cls] = (uint8_t)(next + (n >> shift));
	spill_notes(h, cls);
	o = bottom + 1 + (next << shift);
	put = put_runs(h, o, o + n);
	if (unlikely(put != o + n))
		return spill_rest(h, cls, o, n, put, d);
	PROBE2(flush, class_size(cls), n);
	heap_work_count(n, 0);
	b->top -= n;
	bin_fill(o, b->top + 1 + n, n);
	return true;
}

bool heap_bin_ease(struct heap *h, unsigned cls)
{
	unsigned room = bin_room(h, cls);
	unsigned have = room - bin_space(&h->bin[cls]);

	if (room < bin_wants(h, cls))
		return bin_grow(h, cls);
	return have >= (room + 1) / 2 && spill(h, cls, bin_bottom(h, cls), room, have, NULL);
}

void heap_bin_room(struct heap *h, unsigned cls, struct due_list *d)
{
	unsigned room = bin_room(h, cls);
	unsigned n = flush_of(h, cls, room);

	if (room < bin_wants(h, cls) && bin_grow(h, cls))
		return;
	h->idle_rounds[cls] = 0;
	if (likely(cls < CLASSES))
		bin_rotate(h, cls, room, n, d);
	else
		heap_bin_flush(h, cls, n, d); /* a second free finds the older ones in the bin */
	/* Under a limit all of them may have too much. One place is left, for the object that
	 * comes. The sampler brings many objects at once: its due list would not take a flush for
	 * each. */
	if (unlikely(!bins_may_have(0)) && room > FLUSH && !heap_sampling)
		bin_shrink(h, cls, n - 1);
	DCHECK(bin_space(&h->bin[cls]) != 0);
	/* A thread that only frees may own slabs, too: those that it adopted. */
	inbox_take(h, INBOX_BATCH);
}
