/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trim.c - what takes things out of a heap: trims, ageing steps, and the abandoning of its slabs.
 * Used by heap, heap_call, heap_thread and drain; uses heap_slabs, cache_bin, outbox, slab_pool.
 *
 * The caller is in the heap's critical section, or has claimed it, or (fallback heap) holds its
 * lock.
 * Under it: list steps, CAS on state words, a pool's lock; no page is asked for or given back
 * (heap_purge_bins: by a claimer only).
 * Bound: with a part of a trim or an ageing step a call stays within CALL_OBJECTS and CALL_SLABS
 * (heap_work.h). heap_abandon_slabs and heap_trim end when the heap is empty; heap_abandon_part
 * when its steps are used up, with PART_OBJECTS or PART_SLABS more at most.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/trim.h"

#include "base/atomics.h"
#include "base/options.h"
#include "base/probe.h"
#include "heap/cache_bin.h"
#include "heap/dealt.h"
#include "heap/heap_slabs.h"
#include "heap/hidden.h"
#include "heap/quarantine.h"
#include "heap/slab_pool.h"
#include "os/vm.h"

#define IDLE_ROUNDS 3u
#define AGE_LOOKS 8u

static enum slab_put slab_abandon(struct heap *h, struct page *pg, enum slab_age age)
{
	/* No object of it is in use, so no other thread can meet it. */
	enum slab_put put = slab_held(pg)->used == 0 ? POOL_EMPTY : slab_pool_put(pg, age);

	heap_work_count(0, 1);
	if (put == POOL_EMPTY) {
		heap_release_slab(h, pg);
	} else if (put != POOL_PUT) {
		heap_full_add(h, pg);
	}
	return put;
}

/* Abandon up to n slabs with room, and the current one. Returns false if there are no more. */
static bool abandon_class(struct heap *h, unsigned cls, enum slab_age age, unsigned n)
{
	struct page *pg = h->current[cls];

	if (pg) {
		h->current[cls] = NULL;
		pg->list = LIST_NONE;
		slab_abandon(h, pg, age);
	}
	while (n && (pg = h->partial[cls].first) != NULL) {
		page_list_del(&h->partial[cls], pg, LIST_PARTIAL);
		slab_abandon(h, pg, age);
		n--;
	}
	return h->partial[cls].first != NULL;
}

/* Look again at an abandoned slab that was freed into: it may be empty, or have room now. */
static void pool_refresh(struct heap *h, struct outbox_adopt *due)
{
	if (due->pg && slab_pool_adopt(due->pg, due->cls) &&
	    slab_pool_put(due->pg, SLAB_RECENT) == POOL_EMPTY)
		heap_release_slab(h, due->pg);
}

/*
 * If the n objects of the bin are all that its current slab ever handed out, the slab is empty: it
 * goes as it is, and none of them is linked into its list, for many a page of theirs may be cold,
 * or was never touched. None is there twice, so none is live. Returns false if it is not so.
 */
static bool release_handed_out(struct heap *h, unsigned cls, unsigned n)
{
	struct page *pg = cls < CLASSES ? h->current[cls] : NULL;
	uint64_t seen = 0;

	if (!pg || n > 64 || n != slab_held(pg)->carved || (int)n != slab_held(pg)->used ||
	    slab_in_holes(pg) ||
	    state_count(atomic_load_explicit(&pg->state, memory_order_relaxed)))
		return false;
	for (unsigned i = 0; i < n; i++) {
		size_t off = (size_t)((char *)h->bin[cls].top[-(ptrdiff_t)i] - page_address(pg));
		uint64_t bit = UINT64_C(1) << off / class_size(cls) % 64;

		if (off >= slab_carved_bytes(pg) || seen & bit)
			return false;
		seen |= bit;
	}
	counter_add(&h->flushes, 1);
	PROBE2(flush, class_size(cls), n);
	heap_work_count(n, 1);
	h->bin[cls].top = bin_bottom(h, cls);
	h->current[cls] = NULL;
	pg->list = LIST_NONE;
	slab_held(pg)->used = 0;
	heap_release_slab(h, pg);
	return true;
}

/* bin_flush_some, of a bin that may hold something. */
static noinline unsigned flush_some(struct heap *h, unsigned cls, unsigned n)
{
	struct due_list d;
	unsigned have;

	heap_show_hidden(h, cls);
	if (unlikely(heap_sampling))
		dealt_show(h, cls);
	have = (unsigned)(h->bin[cls].top - bin_bottom(h, cls));

	if (!have)
		return 0;
	d.n = 0;
	if (have > n || !release_handed_out(h, cls, have))
		heap_bin_flush(h, cls, have < n ? have : n, &d);
	if (unlikely(heap_slow_only))
		heap_hide_left(h, cls);
	if (unlikely(heap_sampling))
		dealt_hide(h, cls);
	for (unsigned i = 0; i < d.n; i++)
		pool_refresh(h, &d.due[i]);
	return have < n ? have : n;
}

/* Up to n objects of the bin go to their slabs, n being at most BIN_STEP. Returns how many there
 * were. A thread that ends does this for each bin, and most are empty. */
static unsigned bin_flush_some(struct heap *h, unsigned cls, unsigned n)
{
	if (likely(!*h->bin[cls].top && !hidden_objects(h, cls) && !heap_sampling))
		return 0;
	return flush_some(h, cls, n);
}

/* Some of a hardened heap's quarantine. Returns how many there were. */
static unsigned quarantine_flush_some(struct heap *h)
{
	struct due_list d;
	unsigned n;

	if (likely(!atomic_load_explicit(&h->quarantine, memory_order_relaxed)))
		return 0;
	d.n = 0;
	n = quarantine_flush(h, QUARANTINE_STEP, &d);
	for (unsigned i = 0; i < d.n; i++)
		pool_refresh(h, &d.due[i]);
	return n;
}

/* Leave nothing in the bin, and no room. */
static void bin_empty(struct heap *h, unsigned cls)
{
	while (bin_flush_some(h, cls, BIN_STEP))
		;
	bin_shrink(h, cls, bin_room(h, cls));
	bin_begin(h, cls);
	if (cls < CLASSES)
		h->foreign_frees[cls] = 0;
}

/* Flush one batch of the outbox. Returns false if that is empty. */
static bool flush_batch(struct heap *h)
{
	struct outbox_adopt due;
	struct page *posted = NULL;

	if (!outbox_flush_one(&h->outbox, &due, &posted))
		return false;
	heap_post_all(posted);
	pool_refresh(h, &due);
	return true;
}

/* Leave nothing in its bins and its outbox. */
static void flush_all(struct heap *h)
{
	while (quarantine_flush_some(h))
		;
	for (unsigned bin = 0; bin < BINS; bin++)
		bin_empty(h, bin);
	while (flush_batch(h))
		;
}

/* The same, in part. Returns false if the steps are used up. */
static bool flush_part(struct heap *h, uint32_t *steps)
{
	unsigned n;

	while ((n = quarantine_flush_some(h)) != 0)
		if (!heap_spend(steps, n))
			return false;
	for (unsigned bin = 0; bin < BINS; bin++) {
		while ((n = bin_flush_some(h, bin, BIN_STEP)) != 0)
			if (!heap_spend(steps, n))
				return false;
		bin_empty(h, bin);
	}
	while (flush_batch(h)) {
		if (!heap_spend(steps, SLAB_STEPS))
			return false;
	}
	return true;
}

/* Up to BIN_MAX objects of the bin. Returns whether fewer were there. */
static bool flush_most(struct heap *h, unsigned bin)
{
	for (unsigned n = 0; n < BIN_MAX; n += BIN_STEP)
		if (bin_flush_some(h, bin, BIN_STEP) < BIN_STEP)
			return true;
	return *h->bin[bin].top == NULL;
}

bool heap_abandon_some(struct heap *h, unsigned bin)
{
	if (!flush_most(h, bin))
		return true;
	bin_empty(h, bin);
	return bin < CLASSES && abandon_class(h, bin, SLAB_IDLE, ABANDON_BATCH);
}

_Static_assert(BIN_MAX % AGE_OBJECTS == 0 && BIN_MAX % BIN_STEP == 0,
	       "a walk empties a bin that is not wide in one ageing step");

bool heap_age_next(struct heap *h, unsigned objects)
{
	unsigned bin = h->age_next;
	uint8_t next = (uint8_t)(bin + 1 == BINS ? 0 : bin + 1);

	h->age_next = next;
	if (h->idle_rounds[bin] < IDLE_ROUNDS) {
		h->idle_rounds[bin]++;
		return false;
	}
	if (!bin_room(h, bin) && !hidden_objects(h, bin) &&
	    (bin >= CLASSES || (!h->current[bin] && !h->partial[bin].first)))
		return false;
	for (; objects; objects -= AGE_OBJECTS) {
		if (!bin_flush_some(h, bin, AGE_OBJECTS))
			break;
	}
	/* A bin that has more to do has the next step, too. */
	h->age_next = (uint8_t)bin;
	if (!objects)
		return true;
	bin_empty(h, bin);
	if (bin >= CLASSES || !abandon_class(h, bin, SLAB_RECENT, AGE_BATCH))
		h->age_next = next;
	return true;
}

void heap_age_some(struct heap *h)
{
	for (unsigned n = 0; n < AGE_LOOKS; n++) {
		if (heap_age_next(h, AGE_OBJECTS))
			break;
	}
}

bool heap_open_part(struct heap *h, uint32_t *steps)
{
	while (heap_open_inbox(h))
		if (!heap_spend(steps, INBOX_BATCH * SLAB_STEPS))
			return false;
	return true;
}

struct page *heap_take_draining(struct heap *h)
{
	struct page *first = h->draining;
	struct page **end = &h->draining;

	for (unsigned n = 0; n < BUDDY_BATCH && *end; n++)
		end = &(*end)->stack_next;
	h->draining = *end;
	*end = NULL;
	return first;
}

/* From one list of runs to the other. */
static void move_run(struct page **from, struct page **to)
{
	struct page *pg = *from;

	*from = pg->stack_next;
	pg->stack_next = *to;
	*to = pg;
}

void heap_drain_released(struct heap *h)
{
	while (h->release)
		move_run(&h->release, &h->draining);
}

bool heap_abandon_part(struct heap *h, enum slab_age age, uint32_t *steps)
{
	struct page *pg;
	struct page *next;

	if (!flush_part(h, steps) || !heap_open_part(h, steps))
		return false;
	/* Its owner is between two batches of a drain, or ended or was lost by a fork there. */
	while (h->draining) {
		move_run(&h->draining, &h->release);
		if (!heap_spend(steps, 1))
			return false;
	}
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		while (h->current[cls] || h->partial[cls].first) {
			abandon_class(h, cls, age, 1);
			if (!heap_spend(steps, 2 * SLAB_STEPS))
				return false;
		}
	}
	for (pg = h->full.first; pg; pg = next) {
		next = pg->next;
		page_list_del(&h->full, pg, LIST_FULL);
		/* A fork has the pool, or its lock is stuck. Not drained, so a later walk looks. */
		if (slab_abandon(h, pg, age) == POOL_LOCKED) {
			DCHECK(!atomic_load_explicit(&h->drained, memory_order_relaxed));
			return true;
		}
		if (!heap_spend(steps, SLAB_STEPS) && next)
			return false;
	}
	atomic_store_explicit(&h->drained, 1, memory_order_relaxed);
	return true;
}

void heap_abandon_slabs(struct heap *h)
{
	uint32_t steps;

	/* Slabs that were posted meanwhile, too: each leaves the heap, so this ends. */
	do {
		steps = UINT32_MAX;
	} while (!heap_abandon_part(h, SLAB_RECENT, &steps) ||
		 (atomic_load_explicit(&h->drained, memory_order_relaxed) &&
		  atomic_load_explicit(&h->inbox, memory_order_relaxed)));
}

void heap_purge_bins(struct heap *h)
{
	/* The bins of a struct sampling are not right when they are zero. */
	size_t keep = heap_sampling ? 2 * META_ALIGN : 0;

	if (options.reserve) /* they are to be touched without a page fault */
		return;
	vm_purge((char *)&h->outbox + keep,
		 align_up(heap_bytes() - offsetof(struct heap, outbox), META_ALIGN) - keep);
	if (h->rows)
		vm_purge(h->rows, align_up(BIN_ROWS_BYTES, META_ALIGN));
}

/* The current slab of a class, if it is empty. */
static void release_current(struct heap *h, unsigned cls)
{
	struct page *pg = h->current[cls];

	if (pg && slab_held(pg)->used == 0) {
		h->current[cls] = NULL;
		pg->list = LIST_NONE;
		heap_release_slab(h, pg);
	}
}

void heap_trim(struct heap *h)
{
	flush_all(h);
	while (heap_open_inbox(h))
		;
	for (unsigned cls = 0; cls < CLASSES; cls++)
		release_current(h, cls);
}

bool heap_trim_bin(struct heap *h, unsigned bin)
{
	if (!flush_most(h, bin))
		return false;
	if (options.holes) {
		heap_abandon_some(h, bin);
	} else {
		bin_empty(h, bin);
		if (bin < CLASSES)
			release_current(h, bin);
	}
	return true;
}

bool heap_trim_quarantine(struct heap *h)
{
	return quarantine_flush_some(h) != 0;
}

void heap_trim_rest(struct heap *h)
{
	while (flush_batch(h))
		;
	heap_open_inbox(h);
}

/* Objects on the remote list count as used, and are free. */
static uint64_t slab_free_bytes(const struct page *pg)
{
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);
	uint64_t used = (uint64_t)slab_held(pg)->used - state_count(s);

	return ((uint64_t)size_classes[pg->cls].pages << PG_SHIFT) - used * class_size(pg->cls);
}

static uint64_t list_free_bytes(const struct page_list_head *l)
{
	uint64_t bytes = 0;

	for (const struct page *pg = l->first; pg; pg = pg->next)
		bytes += slab_free_bytes(pg);
	return bytes;
}

uint64_t heap_free_bytes(struct heap *h)
{
	uint64_t bytes = h->outbox.bytes + list_free_bytes(&h->full) + quarantine_bytes(h);

	for (unsigned bin = 0; bin < BINS; bin++) {
		for (struct object **o = h->bin[bin].top; *o; o--)
			bytes += bin < CLASSES ? class_size(bin) : large_usable(page_of(*o));
		bytes += bin_bytes(bin, hidden_objects(h, bin));
		if (bin < CLASSES)
			bytes += dealt_others(h, bin) * class_size(bin);
	}
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		bytes += list_free_bytes(&h->partial[cls]);
		if (h->current[cls])
			bytes += slab_free_bytes(h->current[cls]);
	}
	return bytes;
}
