/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sampler.c - see sampler.h. Used by heap, harden and init; uses dealt, heap_slabs, guarded, huge,
 * profile, sites, links.
 *
 * The fast paths know nothing of it. Frees of objects push to bins of their own (dealt.h); the
 * heads of the slabs say so, those of slabs that were made before, too. Large objects are in no
 * cache bin, so each allocation of one takes a slow path. A hit that finds no object, or no room,
 * mostly stays in its critical section (sampler_next, sampler_makes_room), as heap.c (C) says.
 *
 * No lock; allocates nothing after sampler_init. Bound: a call refills a bin, or moves at most
 * RETURNED_MAX freed objects to the bin and as many from there to slabs. Signal handlers and fork:
 * as the critical section.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/sampler.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/links.h"
#include "base/log.h"
#include "base/options.h"
#include "heap/cache_bin.h"
#include "heap/claim.h"
#include "heap/dealt.h"
#include "heap/guarded.h"
#include "heap/heap_call.h"
#include "heap/heap_thread.h"
#include "heap/hidden.h"
#include "heap/huge.h"
#include "heap/sites.h"
#include "heap/slab.h"
#include "heap/trim.h"
#include "page/region.h"
#include "page/zone.h"

#define ENTERED_CALLS 16u /* calls of which one takes the general way */
#define SPARE_BYTES 4096u /* of a class that a loop allocates and frees in turn */

/* What malloc takes next. If a loop has few objects of the class, it would come here for each of
 * them, so the bin gets more. */
static void supply(struct heap *h, unsigned cls)
{
	unsigned freed = dealt_show_bin(h, cls);

	if (freed && freed < RETURNED_MAX / 2 && freed * class_size(cls) < SPARE_BYTES &&
	    !*h->bin[cls].top)
		(void)heap_refill(h, cls);
	dealt_take_returned(h, cls);
}

struct object *sampler_take(struct heap *h, unsigned cls, unsigned *due)
{
	struct object *o = NULL;

	if (likely(!heap_slow_only))
		supply(h, cls);
	if (!*due)
		*due = dealt_count(h, cls) | SAMPLE_COUNTED;
	if (likely(*due == SAMPLE_COUNTED)) {
		if (unlikely(heap_slow_only))
			o = heap_take_hidden(h, cls);
		else if (*h->bin[cls].top || heap_refill(h, cls))
			o = *h->bin[cls].top--;
	}
	dealt_hide(h, cls);
	return o;
}

/*
 * Whether a call stays in the critical section that it entered as a hit. Every ENTERED_CALLS-th
 * does not, because the general way also does what others have asked of the heap, and ages its
 * bins. heap_call_begin alone counts on from there, so that it sees each multiple of AGE_EVERY. A
 * bin without room may be that of a drained heap (heap_touched).
 */
static bool stays(struct heap *h, unsigned cls)
{
	if (!bin_room(h, cls) || h->slow_calls % ENTERED_CALLS == ENTERED_CALLS - 1)
		return false;
	h->slow_calls++;
	return true;
}

struct object *sampler_next(struct heap *h, unsigned cls)
{
	struct object *o = NULL;

	h->direct_left = 0;
	if (unlikely(!stays(h, cls)))
		return NULL;
	supply(h, cls);
	if (likely(*h->bin[cls].top || heap_refill(h, cls)) && likely(dealt_count_plain(h, cls)))
		o = *h->bin[cls].top--;
	dealt_hide(h, cls);
	return o;
}

/* The freed ones have half of the bin's room. */
static void grow(struct heap *h, unsigned cls)
{
	if (h->current[cls] && bin_room(h, cls) < 2 * RETURNED_MAX)
		(void)bin_grow(h, cls);
}

/* Whether the bin has n places, and one more: see dealt.c, (C). */
static bool has_places(struct heap *h, unsigned cls, unsigned n)
{
	while (bin_space(&h->bin[cls]) <= n)
		if (!heap_bin_ease(h, cls))
			return false;
	return true;
}

/* Of n freed ones. The one freed last stays: free compares the next ones with it. */
static unsigned to_move(unsigned n)
{
	return n > 2 ? n - 1 : n;
}

bool sampler_makes_room(struct heap *h, const struct cache_bin *freed)
{
	unsigned cls = (unsigned)(freed - sampling_of(h)->returned);
	bool done;
	unsigned n;

	if (unlikely(!stays(h, cls)))
		return false;
	n = to_move(dealt_show_bin(h, cls));
	grow(h, cls);
	done = has_places(h, cls, n);
	if (likely(done))
		dealt_move(h, cls, n);
	dealt_hide(h, cls);
	dealt_open(h, cls);
	/* A push that finds the top beyond the limit would go on for ever. */
	DCHECK(!done || bin_space(freed) - 1 < RETURNED_MAX);
	return done;
}

/* Puts it on top of a bin that has a place, and makes a place if it was the last. */
static void push(struct heap *h, unsigned cls, struct object *o, struct due_list *d)
{
	struct cache_bin *b = &h->bin[cls];

	*++b->top = o;
	if (!bin_space(b) && !heap_bin_spill(h, cls, NULL))
		heap_bin_room(h, cls, d);
}

void sampler_put(struct heap *h, struct page *pg, struct object *o, struct due_list *d)
{
	unsigned cls = pg->cls;
	struct cache_bin *freed = &sampling_of(h)->returned[cls];
	struct object **from = sampling_of(h)->places[cls] + 1;
	unsigned n;

	if (unlikely(*freed->top && (*freed->top == o || freed->top[-1] == o)))
		heap_freed_twice(o, pg);
	if (heap_free_foreign(h, pg, o, d))
		return;
	n = dealt_show_bin(h, cls);
	if (!bin_room(h, cls))
		heap_bin_room(h, cls, d);
	(void)heap_open_inbox(h); /* a thread that only frees may own slabs, too */
	grow(h, cls);
	dealt_open(h, cls);
	if (likely(has_places(h, cls, to_move(n)))) {
		dealt_move(h, cls, to_move(n));
	} else {
		freed->top -= n;
		for (unsigned i = 0; i < n; i++)
			push(h, cls, from[i], d);
	}
	if (bin_space(freed))
		*++freed->top = o;
	else
		push(h, cls, o, d);
	dealt_hide(h, cls);
}

void *sampler_alloc(size_t size, unsigned due)
{
	size_t bytes = class_size(class_of(size));
	bool zero = false;
	void *p = NULL;

	if (due & 1u << SAMPLE_GUARD)
		p = guarded_alloc(size);
	if (!(due & 1u << SAMPLE_PROF) || !profile_is_noting())
		return p;
	/* In a run of its own, so that free takes the slow path. */
	if (!p) {
		p = large_alloc(heap_pcp_self(), bytes, 1, &zero);
		if (!p)
			return NULL;
		page_of(p)->list = LIST_SAMPLED;
	}
	profile_add(p, bytes);
	return p;
}

/* For profiles, which tell threads at work from others: these calls leave the heap alone. */
static void note_call(void)
{
	struct heap *h = heap_own();

	if (heap_is_real(h))
		atomic_store_explicit(&h->paged_ms, clock_ms_coarse(), memory_order_relaxed);
}

static void note_large(void *p, size_t bytes)
{
	if (!profile_is_noting())
		return;
	if (pagemap_ours(p) && page_kind(page_of(p)) == PAGE_LARGE)
		page_of(p)->list = LIST_SAMPLED;
	profile_add(p, bytes);
}

void sampler_large(void *p, size_t bytes)
{
	if (!profile_on)
		return;
	note_call();
	if (profile_large_due(bytes))
		note_large(p, bytes);
}

void sampler_grown(void *p, size_t old, size_t bytes)
{
	if (profile_on && bytes > old && profile_large_due(bytes - old))
		note_large(p, bytes);
}

struct profile_note sampler_resizes(const struct page *pg, const void *p)
{
	if (!profile_on)
		return (struct profile_note){ 0 };
	note_call();
	if (pg && pg->list != LIST_SAMPLED)
		return (struct profile_note){ 0 };
	return profile_remove(p);
}

/* A smaller block is sampled with a smaller chance: 1 - e^(-bytes / prof_sample), which is its own
 * bytes by those that a sample of it stands for. */
static bool stays_sampled(size_t was, size_t bytes)
{
	double odds = (double)bytes / (double)sites_weight(bytes) * (double)sites_weight(was) /
		      (double)was;
	uint64_t random;

	if (bytes >= was)
		return true;
	random = link_random();
	return (double)(random >> 11) < odds * (double)(UINT64_C(1) << 53);
}

static void resized(void *q, size_t bytes, const struct profile_note *was)
{
	if (stays_sampled(was->bytes, bytes))
		profile_add(q, bytes);
	else if (pagemap_ours(q) && page_kind(page_of(q)) == PAGE_LARGE)
		page_of(q)->list = LIST_NONE;
}

void sampler_resized(void *p, void *q, size_t old, size_t bytes, const struct profile_note *was)
{
	if (!q)
		profile_restore(p, was);
	else if (was->bytes)
		resized(q, bytes, was);
	else
		sampler_grown(q, old, bytes);
}

void *sampler_resize_huge(void *p, size_t old, size_t size)
{
	struct profile_note was = sampler_resizes(NULL, p);
	bool scarce;
	void *q = huge_realloc(p, size, &scarce);

	if (unlikely(!q && scarce && size > old) && zones_release_space(size - old))
		q = huge_realloc(p, size, &scarce);
	sampler_resized(p, q, old, q ? huge_usable(q) : 0, &was);
	return q;
}

void sampler_freed(struct page *pg, void *p)
{
	/* A mapping may lie in the address space behind a region's end. */
	if (pg && page_kind(pg) != PAGE_LARGE && page_kind(pg) != PAGE_SLAB)
		pg = NULL;
	if (!profile_on || (pg && page_kind(pg) != PAGE_LARGE))
		return;
	note_call();
	if (pg && pg->list != LIST_SAMPLED)
		return;
	if (pg && p != page_address(pg))
		return; /* the free of a middle, which is noticed */
	(void)profile_remove(p);
	if (pg)
		pg->list = LIST_NONE;
}

/* ---- the start ------------------------------------------------------------------------------ */

/* What was handed out before is freed as what comes. */
static void note_region(struct region *r)
{
	uint32_t end;

	for (uint32_t i = region_first(); i < r->pages; i = end) {
		struct page *pg = &r->page[i];
		enum page_kind kind = page_kind(pg);

		end = region_run_end(r, i, kind);
		if (kind == PAGE_LARGE)
			large_unbin(pg);
		else if (kind == PAGE_SLAB)
			page_set_heads(pg, end - i, pg->cls * CLASS_SCALE + slab_note);
	}
}

/* Of a heap that the caller holds, and that is empty. */
static void begin(struct heap *h)
{
	/* Objects that the bins have given away still stand in their places, and some of the first
	 * rows become struct sampling. Rows that were never used keep costing no memory. */
	for (size_t i = 0; i < BIN_SMALL_SLOTS + SAMPLING_SLOTS; i++)
		if (h->bin_slots[i])
			h->bin_slots[i] = NULL;
	heap_init_bins(h);
	h->direct_left = 0;
}

static bool wanted(void)
{
	return options.guard_sample || options.prof;
}

static void start(void)
{
	struct heap *h;

	/* Other threads may be in their fast paths. */
	if (heap_first() && heap_next(heap_first())) {
		options_say(
			"options guard_sample and prof have no effect: another thread allocated "
			"before the library's start");
		return;
	}
	if (options.guard_sample && guarded_init())
		dealt_mean[SAMPLE_GUARD] = options.guard_sample;
	if (options.prof && profile_init())
		dealt_mean[SAMPLE_PROF] = options.prof_sample;
	if (!dealt_mean[SAMPLE_GUARD] && !profile_on)
		return;
	h = heap_own(); /* the calls so far may have made it */
	if (heap_is_real(h) && heap_enter_slow(h)) {
		heap_trim(h);
		heap_exit_free(h);
	}
	heap_drain_fallback();
	large_unbinned = true;
	slab_note = RETURNED_NOTE;
	heap_bins_from = SAMPLING_SLOTS;
	heap_sampling = true;
	begin(heap_fallback.heap);
	if (heap_is_real(h))
		begin(h);
	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			note_region(r);
}

void sampler_init(void)
{
	if (wanted())
		start();
	atomic_store_explicit(&heap_bins_known, true, memory_order_release);
}
