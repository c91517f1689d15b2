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
 * (C) of[] counts the blocks for statistics. Any thread reads it: each element is one word, so what
 *     it reads is inexact at most.
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

#define PAIRS 8u

/* One of the bytes of a freed block is not zero. */
noinline _Noreturn void quarantine_written(const char *p, size_t bytes)
{
	const struct page *pg = page_of(p);
	size_t at = 0;

	while (at < bytes - 1 && !p[at])
		at++;
	if (page_kind(pg) != PAGE_SLAB)
		sluice_fatal("block written to after it was freed (its byte %zu): address %p, "
			     "block %p (%zu bytes)",
			     at, (const void *)p, (const void *)p, large_usable(pg));
	sluice_fatal("object written to after it was freed (its byte %zu): address %p, size class "
		     "%u (%u bytes)",
		     at, (const void *)p, pg->cls, (unsigned)class_size(pg->cls));
}

noinline void quarantine_check_long(const void *p, size_t bytes)
{
	const zero_pair *v = p;
	const zero_pair *end = v + bytes / sizeof(zero_pair);
	zero_pair all = { 0, 0 };

	for (; end - v >= PAIRS; v += PAIRS)
		all |= v[0] | v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7];
	for (; v < end; v++)
		all |= *v;
	if (unlikely(all[0] | all[1]))
		quarantine_written(p, bytes);
}

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
static bool reads_zero(const struct quarantine *q, const void *p)
{
	return q->early || (q->zeroed && live_of(p) == LIVE_ZEROED);
}

/* What lies behind a link and a mark is checked when the object is used again, but its slab may be
 * released before that. So the whole of it is checked here if it is short, and in a drain. */
static void object_leaves(struct heap *h, unsigned cls, struct object *o, struct due_list *d,
			  bool whole, const struct quarantine *q)
{
	if (whole && reads_zero(q, o))
		quarantine_check_zero(o, class_size(cls));
	else
		quarantine_check_left(o, class_size(cls));
	/* An object without link is found changed only if it is to read as zero. */
	if (q->early || !q->zeroed || !heap_put_hidden(h, cls, o))
		heap_free_to_slab(h, o, d);
}

static void large_leaves(struct heap *h, struct quarantine *q, void *p, struct due_list *d)
{
	struct page *pg = page_of(p);
	size_t bytes = large_usable(pg);

	q->weight -= weight_of(pg, bytes);
	quarantine_add(q->large_bytes, 0 - bytes);
	if (options.zero_on_free && pg->list != LIST_HIDDEN)
		quarantine_check_zero(p, reads_zero(q, p) ? bytes : CLEAR_HEAD);
	heap_free_to_slab(h, p, d);
}

void quarantine_leaves(struct heap *h, struct quarantine *q, struct due_list *d, bool whole)
{
	uint64_t block = quarantine_take(q);
	unsigned cls = quarantine_class(block);
	void *p = quarantine_address(block);

	if (q->early)
		quarantine_note(q, p, UINT8_MAX);
	if (unlikely(cls == QUARANTINE_LARGE)) {
		large_leaves(h, q, p, d);
		return;
	}
	quarantine_count(q, cls, UINT64_MAX);
	object_leaves(h, cls, p, d, whole, q);
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

void quarantine_put(struct heap *h, struct page *pg, void *p, struct due_list *d)
{
	bool object = page_kind(pg) == PAGE_SLAB;
	size_t bytes = block_bytes(pg);
	size_t weight = object ? bytes : weight_of(pg, bytes);
	struct quarantine *q = quarantine_of(h);

	if (!q && options.quarantine)
		q = quarantine_make(h, false);
	if (!q || weight > options.quarantine / 2) {
		heap_free_to_slab(h, p, d); /* it was filled with zeros just now */
		return;
	}
	for (unsigned n = 0; n < QUARANTINE_STEP && q->count && !quarantine_has_room(q, weight);
	     n++)
		quarantine_leaves(h, q, d, false);
	quarantine_push(q, p, object ? pg->cls : QUARANTINE_LARGE);
	if (object) {
		quarantine_count(q, pg->cls, 1);
	} else {
		q->weight += weight;
		quarantine_add(q->large_bytes, bytes);
	}
}

unsigned quarantine_flush(struct heap *h, unsigned n, struct due_list *d)
{
	struct quarantine *q = quarantine_of(h);
	unsigned done = 0;

	for (; q && q->count && done < n && done < QUARANTINE_STEP; done++)
		quarantine_leaves(h, q, d, true);
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
		quarantine_check_zero(p, reads_zero(q, p) ? block_bytes(pg) : CLEAR_HEAD);
	}
	heap_exit(h);
}

uint64_t quarantine_bytes(const struct heap *h)
{
	const struct quarantine *q = quarantine_of(h);
	uint64_t bytes = 0;

	for (unsigned cls = 0; q && cls < CLASSES; cls++)
		bytes += quarantine_objects(h, cls) * class_size(cls);
	return bytes + quarantine_large_bytes(h);
}

uint64_t quarantine_objects(const struct heap *h, unsigned cls)
{
	const struct quarantine *q = quarantine_of(h);

	return q ? atomic_load_explicit(&q->of[cls], memory_order_relaxed) : 0;
}

uint64_t quarantine_large_bytes(const struct heap *h)
{
	const struct quarantine *q = quarantine_of(h);

	return q ? atomic_load_explicit(&q->large_bytes, memory_order_relaxed) : 0;
}
