/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quarantine.c - see quarantine.h. Used by heap, early, harden, trim and init
 * (quarantine_check_own); uses heap_slabs, claim, critical, meta.
 *
 * (A) A block in a quarantine counts as used in its slab, or is PAGE_LARGE still, and its live bit
 *     is clear.
 * (B) weight is the sum of the blocks' sizes, of which those of hidden ones count in part; after
 *     each quarantine_put it is at most the option's bytes, unless QUARANTINE_STEP blocks
 *     left and that was not enough.
 * (C) A place without a block is 0. Any thread reads the places for statistics: each is one word,
 *     so what it reads is inexact at most.
 * (D) A hidden block (LIST_HIDDEN) is purged and has no access until its run has left the critical
 *     section in which it was released; no system call is made there. At most HIDDEN_BLOCKS are,
 *     none for a while after a refusal, and none where RLIMIT_AS or RLIMIT_DATA is known.
 * (E) A run to which the kernel gives no access again (it has no mapping left to split the one that
 *     hidden neighbours have become) waits in `refused`, in limbo, until a later call gets it.
 *
 * Pairing: the release push on `refused` with the acquire in page_stack_take_all, for the run.
 *
 * A heap's quarantine is made by its first free, and stays with the heap. A drain empties it.
 * Bound: QUARANTINE_STEP blocks; quarantine_check_own reads all. After a refusal every
 * SHOW_AFTER-th call that releases nothing tries SHOW_TRIES runs, and links the others, at most
 * HIDDEN_BLOCKS, again. No lock; allocates 8 KiB for each heap. Signal handlers and fork: as the
 * critical section.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/quarantine.h"

#include <string.h>

#include "base/atomics.h"
#include "base/check.h"
#include "base/list.h"
#include "base/options.h"
#include "base/share.h"
#include "heap/claim.h"
#include "heap/critical.h"
#include "heap/livebits.h"
#include "os/vm.h"
#include "page/meta.h"
#include "page/thp.h"

#define HIDDEN_BLOCKS 4096u /* blocks of the process; 8,192 of the 65,530 mappings */
#define UNHIDDEN_AFTER 256u /* blocks that are not hidden after a refusal */
#define SHOW_AFTER 64u      /* calls without another try after a refusal */
#define SHOW_TRIES 16u      /* runs that are tried again in one call */

static inline size_t weight_of(const struct page *pg, size_t bytes)
{
	return pg->list == LIST_HIDDEN ? bytes / HIDDEN_PART : bytes;
}

/* How many blocks are hidden, and how many of the next ones are not. */
static _Atomic uint64_t hidden;
static _Atomic uint32_t unhidden_next;

/* Each hidden block is two mappings more for the kernel. Where a limit counts the memory that can
 * be accessed, it may not come back. */
static bool may_hide(void)
{
	size_t limit;

	return !refusal_is_recent(&unhidden_next) &&
	       atomic_load_explicit(&hidden, memory_order_relaxed) < HIDDEN_BLOCKS &&
	       !vm_address_limited(&limit);
}

bool quarantine_hide(void *p, struct page *pg)
{
	size_t bytes = block_bytes(pg);

	if (page_kind(pg) != PAGE_LARGE || bytes < HIDE_MIN ||
	    bytes / HIDDEN_PART > options.quarantine / 2 || !may_hide())
		return false;
	thp_split(p, bytes);
	if (!vm_hide(p, bytes)) {
		refusal_note(&unhidden_next, UNHIDDEN_AFTER);
		return false;
	}
	counter_add_shared(&hidden, 1);
	pg->list = LIST_HIDDEN;
	return true;
}

_Atomic(struct page *) quarantine_refused;
static _Atomic uint32_t unshown_next; /* how many of the next calls do not try `refused` */

static bool has_access(struct page *pg)
{
	if (pg->list != LIST_HIDDEN)
		return true;
	if (!vm_commit(page_address(pg), (size_t)pg->npages << PG_SHIFT)) {
		refusal_note(&unshown_next, SHOW_AFTER);
		return false;
	}
	pg->list = LIST_NONE;
	counter_add_shared(&hidden, UINT64_MAX);
	return true;
}

struct page *quarantine_show(struct page *released)
{
	bool again = !released && atomic_load_explicit(&quarantine_refused, memory_order_relaxed) &&
		     !refusal_is_recent(&unshown_next);
	unsigned tries = again ? SHOW_TRIES : UINT32_MAX;
	struct page *first = NULL;
	struct page **end = &first;
	struct page *next;

	for (struct page *pg = again ? page_stack_take_all(&quarantine_refused) : released; pg;
	     pg = next) {
		next = pg->stack_next;
		if (tries && has_access(pg)) {
			*end = pg;
			end = &pg->stack_next;
		} else {
			page_stack_push(&quarantine_refused, pg, DELAY_NONE);
		}
		tries -= again && tries;
	}
	*end = NULL;
	return first;
}

/* Whether a block of q that has access reads as zero as a whole. */
static bool reads_zero(const struct quarantine *q, const void *p, size_t bytes)
{
	return q->early || (q->zeroed && live_of(p, bytes) == LIVE_NOTED);
}

#define PREFETCH 4u

/* The oldest leaves; there is one. It was not touched for long, so one that leaves soon is fetched:
 * if there is none, an address of before, which does no harm. */
static always_inline void forget_oldest(struct quarantine *q)
{
	uint32_t first = q->first;
	uint32_t mask = q->mask;

	atomic_store_explicit(&q->block[first], 0, memory_order_relaxed);
	__builtin_prefetch(quarantine_address(quarantine_at(q, first + PREFETCH)), 1);
	q->first = (first + 1) & mask;
	q->count--;
}

/* The object goes to those that lie ready. spill: others may go to their slabs for it. Returns
 * whether they did. */
static bool object_ready(struct heap *h, unsigned cls, struct object *o, struct due_list *d,
			 bool spill)
{
	if (heap_put_hidden(h, cls, o))
		return false;
	if (spill && d->n <= BIN_STEP - HIDDEN_SPILL) {
		heap_spill_hidden(h, cls, d);
		heap_put_hidden(h, cls, o);
		return true;
	}
	hidden_check(&o, 1, cls);
	heap_free_to_slab(h, o, d);
	return false;
}

/* What is not checked here is checked when the object is used again, or before it returns to its
 * slab. Of a long one, which its live bits may not note, the beginning is zero. */
static bool object_leaves(struct heap *h, unsigned cls, struct object *o, struct due_list *d,
			  enum quarantine_leave how, const struct quarantine *q)
{
	size_t bytes = class_size(cls);

	if (how == LEAVE_CHECKED && reads_zero(q, o, bytes))
		freed_check_zero(o, bytes);
	else if (options.zero_on_free && bytes > CLEAR_ALWAYS)
		freed_check_zero(o, CLEAR_HEAD);
	if (unlikely(q->early)) {
		heap_free_to_slab(h, o, d);
		return false;
	}
	return object_ready(h, cls, o, d, how == LEAVE_SPILLS);
}

/* The large object goes to those that lie ready, if there is a place. */
static bool large_ready(struct heap *h, const struct page *pg, void *p)
{
	return pg->cls >= CLASSES && pg->list != LIST_HIDDEN && heap_put_hidden(h, pg->cls, p);
}

static void large_leaves(struct heap *h, struct quarantine *q, void *p, struct due_list *d)
{
	struct page *pg = page_of(p);
	size_t bytes = large_usable(pg);

	q->weight -= weight_of(pg, bytes);
	quarantine_add(q->large_bytes, 0 - bytes);
	if (large_ready(h, pg, p))
		return;
	if (pg->list != LIST_HIDDEN)
		hidden_check_large(p);
	heap_free_to_slab(h, p, d);
}

bool quarantine_leaves(struct heap *h, struct quarantine *q, struct due_list *d,
		       enum quarantine_leave how)
{
	uint64_t block = quarantine_at(q, q->first);
	unsigned cls = quarantine_class(block);
	void *p = quarantine_address(block);

	forget_oldest(q);
	if (q->early)
		quarantine_note(q, p, UINT8_MAX);
	if (unlikely(cls == QUARANTINE_LARGE)) {
		large_leaves(h, q, p, d);
		return false;
	}
	q->weight -= class_size(cls);
	return object_leaves(h, cls, p, d, how, q);
}

/*
 * What heaps have no use for any more: a stack to which any thread pushes, and from which one
 * thread at a time pops (spares_popped), so that what it reads below the top stays there (no ABA).
 * Another one does without meanwhile. In a child of fork nobody is popping.
 */
static _Atomic(struct quarantine *) spares;
static _Atomic bool spares_popped;

static void spare_push(struct quarantine *q)
{
	struct quarantine *next = atomic_load_explicit(&spares, memory_order_relaxed);

	SHARE_COUNT(quarantine_spares);
	/* Release pairs with the acquire in spare_pop. */
	do
		q->next = next;
	while (!atomic_compare_exchange_weak_explicit(&spares, &next, q, memory_order_release,
						      memory_order_relaxed));
}

/* Returns NULL if there is none. */
static struct quarantine *spare_pop(void)
{
	struct quarantine *q = atomic_load_explicit(&spares, memory_order_acquire);

	SHARE_COUNT(quarantine_spares);
	while (q &&
	       !atomic_compare_exchange_weak_explicit(&spares, &q, q->next, memory_order_acquire,
						      memory_order_acquire))
		;
	return q;
}

/* Returns NULL if there is no memory. What is set here stays, also when another heap uses it: a
 * thread may read it that has it from the heap before. */
static struct quarantine *map_one(bool early)
{
	unsigned blocks = early ? QUARANTINE_EARLY : QUARANTINE_BLOCKS;
	struct quarantine *q = meta_alloc(QUARANTINE_BYTES(blocks));

	if (!q)
		return NULL;
	q->mask = blocks - 1;
	q->early = early;
	q->zeroed = early || options.zero_on_free;
	return q;
}

/* Returns NULL if there is no memory, or another thread is looking for one. */
static struct quarantine *early_make(void)
{
	struct quarantine *q = NULL;

	if (atomic_load_explicit(&spares, memory_order_relaxed)) {
		/* Acquire pairs with the release below: what the last one saw on the stack. */
		if (atomic_exchange_explicit(&spares_popped, true, memory_order_acquire))
			return NULL;
		q = spare_pop();
		atomic_store_explicit(&spares_popped, false, memory_order_release);
	}
	return q ? q : map_one(true);
}

void quarantine_fork_child(void)
{
	atomic_store_explicit(&spares_popped, false, memory_order_relaxed);
}

struct quarantine *quarantine_make(struct heap *h, bool early)
{
	struct quarantine *q = early ? early_make() : map_one(false);

	if (q)
		atomic_store_explicit(&h->quarantine, q, memory_order_release);
	return q;
}

void quarantine_end(struct heap *h)
{
	struct quarantine *q = quarantine_of(h);

	atomic_store_explicit(&h->quarantine, NULL, memory_order_release);
	spare_push(q);
}

/* What quarantine_leaves does, for up to n of the oldest ones, as long as they are objects for
 * which there is a place, and more than `count` are kept or they weigh more than `weight`. Returns
 * how many. */
static always_inline unsigned leave_easily(struct heap *h, struct quarantine *q, unsigned n,
					   uint32_t count, uint64_t weight)
{
	uint32_t mask = q->mask;
	uint32_t first = q->first;
	uint64_t kept = q->weight;
	uint32_t left = q->count;
	unsigned done = 0;

	for (; done < n && (left > count || kept > weight); done++) {
		uint64_t block = quarantine_at(q, first);
		unsigned cls = quarantine_class(block);
		struct object *o = quarantine_address(block);

		if (unlikely(!block) || unlikely(cls == QUARANTINE_LARGE) ||
		    !heap_put_hidden(h, cls, o))
			break;
		atomic_store_explicit(&q->block[first], 0, memory_order_relaxed);
		__builtin_prefetch(quarantine_address(quarantine_at(q, first + PREFETCH)), 1);
		first = (first + 1) & mask;
		left--;
		kept -= class_size(cls);
	}
	q->first = first;
	q->count = left;
	q->weight = kept;
	return done;
}

/* Blocks leave until there is room for one of that weight, and for others. */
static void make_room(struct heap *h, struct quarantine *q, size_t weight, struct due_list *d)
{
	uint64_t next = max_size(options.quarantine / QUARANTINE_PART,
				 min_size(options.quarantine / QUARANTINE_MUCH,
					  QUARANTINE_NEXT * weight));
	uint64_t most = options.quarantine - weight - next;
	uint32_t count = q->mask + 1 - QUARANTINE_STEP;
	unsigned spills = BIN_STEP / HIDDEN_SPILL - 1;
	unsigned n = 0;

	for (;;) {
		n += leave_easily(h, q, QUARANTINE_STEP - n, count, most);
		if (n == QUARANTINE_STEP || !q->count || (q->count <= count && q->weight <= most))
			return;
		spills -= quarantine_leaves(h, q, d, spills ? LEAVE_SPILLS : LEAVE_ONLY);
		n++;
	}
}

void quarantine_put(struct heap *h, struct page *pg, void *p, struct due_list *d)
{
	bool object = page_kind(pg) == PAGE_SLAB;
	size_t bytes = block_bytes(pg);
	size_t weight = object ? bytes : weight_of(pg, bytes);
	struct quarantine *q = quarantine_of(h);

	if (!q && options.quarantine)
		q = quarantine_make(h, false);
	if (!q || weight > options.quarantine / 2) {
		if (object)
			object_ready(h, pg->cls, p, d, true);
		else if (!large_ready(h, pg, p))
			heap_free_to_slab(h, p, d);
		return;
	}
	if (!quarantine_has_room(q, weight))
		make_room(h, q, weight, d);
	quarantine_push(q, p, object ? pg->cls : QUARANTINE_LARGE);
	q->weight += weight;
	if (!object)
		quarantine_add(q->large_bytes, bytes);
}

unsigned quarantine_flush(struct heap *h, unsigned n, struct due_list *d)
{
	struct quarantine *q = quarantine_of(h);
	unsigned done = 0;

	for (; q && q->count && done < n && done < QUARANTINE_STEP; done++)
		quarantine_leaves(h, q, d, LEAVE_CHECKED);
	if (q && q->early && !q->count)
		quarantine_end(h);
	return done;
}

void quarantine_check_own(void)
{
	struct heap *h = heap_own();
	const struct quarantine *q;

	if (!heap_is_real(h) || !heap_enter_slow(h))
		return;
	q = quarantine_of(h);
	for (uint32_t i = 0; q && q->zeroed && i < q->count; i++) {
		const void *p = quarantine_address(quarantine_at(q, q->first + i));
		const struct page *pg = page_of(p);

		if (pg->list == LIST_HIDDEN)
			continue;
		freed_check_zero(p,
				 reads_zero(q, p, block_bytes(pg)) ? block_bytes(pg) : CLEAR_HEAD);
	}
	for (unsigned bin = 0; heap_slow_only && bin < BINS; bin++)
		hidden_check(hidden_places(h, bin), h->hidden[bin], bin);
	if (heap_slow_only)
		hidden_check_own_slabs(h);
	heap_exit(h);
}

void quarantine_objects(const struct heap *h, uint32_t of[CLASSES])
{
	const struct quarantine *q = quarantine_of(h);

	memset(of, 0, CLASSES * sizeof(*of));
	for (uint32_t i = 0; q && i <= q->mask; i++) {
		uint64_t block = quarantine_at(q, i);

		if (block && quarantine_class(block) < CLASSES)
			of[quarantine_class(block)]++;
	}
}

uint64_t quarantine_bytes(const struct heap *h)
{
	uint64_t bytes = quarantine_large_bytes(h);
	uint32_t of[CLASSES];

	quarantine_objects(h, of);
	for (unsigned cls = 0; cls < CLASSES; cls++)
		bytes += of[cls] * class_size(cls);
	return bytes;
}

uint64_t quarantine_large_bytes(const struct heap *h)
{
	const struct quarantine *q = quarantine_of(h);

	return q ? atomic_load_explicit(&q->large_bytes, memory_order_relaxed) : 0;
}
