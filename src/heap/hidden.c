/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hidden.c - see hidden.h. Used by heap, harden, quarantine, trim and fork (the random numbers);
 * uses heap_slabs, cache_bin, freed, livebits.
 *
 * (A) An object here counts as used in its slab, and its live bits say that it is free. So a free
 *     of it stops the program, as it does for one in a slab.
 * (B) One that was freed reads as it did then until malloc or a flush has looked (LIVE_NOTED), and
 *     so does one that comes from a slab (take_clean).
 * (C) A class begins with HIDDEN_FIRST places in the row in which its bin begins. When the heap
 *     takes from its slabs again it gets the row of HIDDEN_MAX, and loses it with its bin's room
 *     (bin_begin): by a drain, a trim or ageing.
 *
 * No lock. Bound: a fill takes HIDDEN_MAX objects of slabs; a spill gives back HIDDEN_SPILL;
 * hidden_check_own_slabs reads END_BYTES, or END_BYTES / END_MISS objects. The first row of
 * HIDDEN_MAX allocates all longer rows of the heap (meta). Signal handlers and fork: as the
 * critical section; a child chooses by numbers of its own.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/hidden.h"

#include <string.h>

#include "base/atomics.h"
#include "base/links.h"
#include "base/options.h"
#include "base/probe.h"
#include "heap/freed.h"
#include "heap/livebits.h"

#define SLAB_CHANGE 4u /* times until another slab is chosen, on average */
#define SLAB_CHOICE 8u /* slabs among which it is chosen */
#define END_BYTES ((size_t)4 << 20)
#define END_MISS ((size_t)256)
#define FROM_ONE 8u /* objects that are taken from it then */

_Thread_local uint64_t heap_random TLS_FAST;

noinline void heap_random_begin(void)
{
	heap_random = link_random() | 1;
}

void heap_random_fork_child(void)
{
	heap_random = 0;
}

/* One of the heap's slabs with room becomes the one that the next objects come from. */
static void current_shuffle(struct heap *h, unsigned cls)
{
	struct page *next = h->partial[cls].first;

	if (!h->current[cls] || !next || hidden_choice(SLAB_CHANGE) != 0)
		return;
	for (unsigned n = hidden_choice(SLAB_CHOICE); n && next->next; n--)
		next = next->next;
	heap_change_current(h, cls, next);
}

/* Up to n objects, HIDDEN_MAX at most, out of the slab. Those that were freed read again as they
 * did then: their links do not stay, and a seal is made again. Newly carved ones may be noted, too:
 * those that were in a hole at the slab's end, which read as zero. */
static unsigned take_clean(struct page *pg, struct object **o, unsigned n)
{
	struct object *taken[HIDDEN_MAX];
	unsigned carved = slab_held(pg)->carved;
	unsigned got = slab_take(pg, taken + n, n, false);
	unsigned freed = got - (slab_held(pg)->carved - carved);

	/* The first one lowest, so that malloc returns it last. */
	for (unsigned i = 0; i < got; i++)
		o[i] = taken[n - 1 - i];
	for (unsigned i = 0; options.zero_on_free && i < freed; i++)
		o[i]->link = 0;
	for (unsigned i = 0; !options.zero_on_free && i < got; i++)
		if (live_of(o[i], class_size(pg->cls)) == LIVE_NOTED)
			freed_seal(o[i]);
	return got;
}

/* How many there are places for. */
static unsigned places(const struct heap *h, unsigned cls)
{
	return h->bin_bottom[cls] & BIN_IN_ROWS ? hidden_most(cls) : hidden_first(cls);
}

/* A class of short objects that the heap has taken from before gets more places. */
static void hidden_grow(struct heap *h, unsigned cls)
{
	unsigned most = hidden_most(cls);
	unsigned have = places(h, cls);

	if (most > have && h->current[cls] && bins_may_have(bin_bytes(cls, most - have)))
		bin_lengthen(h, cls, h->hidden[cls]);
	h->hidden_room[cls] = (uint8_t)places(h, cls);
}

/* Up to three quarters, so that next ones may leave or come. With random_slots, those of one slab
 * are few. If the slabs have not even half, fewer count as many, so that malloc takes them. */
static void hidden_fill(struct heap *h, unsigned cls)
{
	struct object **o;
	unsigned most;
	unsigned n = h->hidden[cls];

	hidden_grow(h, cls);
	o = hidden_places(h, cls);
	most = h->hidden_room[cls] - h->hidden_room[cls] / 4;
	while (n < most) {
		struct page *pg;
		unsigned want = most - n;

		if (options.random_slots) {
			current_shuffle(h, cls);
			want = want < FROM_ONE ? want : FROM_ONE;
		}
		pg = heap_current_slab(h, cls, n == h->hidden[cls]);
		if (!pg)
			break;
		heap_work_count(0, 1);
		n += take_clean(pg, o + n, want);
	}
	heap_work_count(n - h->hidden[cls], 0);
	h->hidden[cls] = (uint8_t)n;
	if (n <= h->hidden_room[cls] / 2)
		h->hidden_room[cls] = (uint8_t)n;
}

struct object *heap_take_hidden(struct heap *h, unsigned cls)
{
	if (options.random_slots && hidden_needs_random())
		heap_random_begin();
	if (h->hidden[cls] <= h->hidden_room[cls] / 2)
		hidden_fill(h, cls);
	return h->hidden[cls] ? hidden_pop(h, cls, h->hidden[cls], options.random_slots) : NULL;
}

/* How much of a free object of slot bytes reads as zero. */
static size_t zero_bytes(const void *p, size_t slot)
{
	enum live is = live_of(p, slot);

	return is == LIVE_NOTED ? slot : is == LIVE_HEAD ? CLEAR_HEAD : 0;
}

static void check_listed_zero(const struct object *o, size_t slot)
{
	size_t bytes = zero_bytes(o, slot);

	if (bytes)
		freed_check_listed(o, bytes);
}

static void hidden_check_small(struct object **o, unsigned n, unsigned cls)
{
	size_t slot = class_size(cls);
	size_t most = slot > CLEAR_ALWAYS ? CLEAR_HEAD : slot;

	for (unsigned i = 0; i < n; i++) {
		size_t bytes = zero_bytes(o[i], slot);

		if (!bytes)
			continue;
		if (options.zero_on_free)
			freed_check_zero(o[i], min_size(bytes, most));
		else
			freed_check_seal(o[i]);
	}
}

bool hidden_check_large(const void *p)
{
	size_t bytes = large_usable(page_of(p));
	bool whole = live_of(p, bytes) == LIVE_NOTED;

	if (!options.zero_on_free)
		return false;
	if (whole)
		freed_check_long(p, bytes);
	else
		freed_check_head(p, CLEAR_HEAD);
	return whole;
}

void hidden_check(struct object **o, unsigned n, unsigned bin)
{
	if (bin < CLASSES) {
		hidden_check_small(o, n, bin);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		hidden_check_large(o[i]);
}

void hidden_check_slab(struct page *pg)
{
	size_t slot = class_size(pg->cls);
	uint64_t base = mark_base(pg);
	unsigned left = slab_held(pg)->carved;
	const struct object *o = slab_held(pg)->free;

	for (; o; o = freelist_next(pg, o)) {
		if (unlikely(!mark_is_set(o, base)))
			freelist_bad_mark(pg, o);
		if (unlikely(!left--))
			freelist_bad_count(pg, o);
	}
	for (size_t at = 0; options.zero_on_free && at < slab_carved_bytes(pg); at += slot) {
		check_listed_zero((const struct object *)(const void *)(page_address(pg) + at),
				  slot);
	}
}

/* What a look at the slab's list costs is taken off *left, in bytes; an object is a cache miss at
 * least. */
static void check_listed(const struct page *pg, size_t *left)
{
	size_t slot = class_size(pg->cls);
	uint64_t base = mark_base(pg);

	for (const struct object *o = slab_held(pg)->free; o && *left; o = freelist_next(pg, o)) {
		if (unlikely(!mark_is_set(o, base)))
			freelist_bad_mark(pg, o);
		if (options.zero_on_free)
			check_listed_zero(o, slot);
		*left -= min_size(*left, max_size(slot, END_MISS));
	}
}

void hidden_check_own_slabs(struct heap *h)
{
	size_t left = END_BYTES;

	for (unsigned cls = 0; cls < CLASSES && left; cls++) {
		if (h->current[cls])
			check_listed(h->current[cls], &left);
		for (const struct page *pg = h->partial[cls].first; pg && left; pg = pg->next)
			check_listed(pg, &left);
	}
}

/* The lowest ones: they were freed first, or are in no order. */
void heap_spill_hidden(struct heap *h, unsigned cls, struct due_list *d)
{
	struct object **o = hidden_places(h, cls);
	unsigned have = h->hidden[cls];
	unsigned n = (have + 3) / 4;

	if (have < places(h, cls)) {
		h->hidden_room[cls] = (uint8_t)places(h, cls);
		return;
	}
	counter_add(&h->flushes, 1);
	PROBE2(flush, class_size(cls), n);
	hidden_check(o, n, cls);
	heap_free_some(h, o, n, d);
	memmove(o, o + n, (have - n) * sizeof(struct object *));
	h->hidden[cls] = (uint8_t)(have - n);
}

void heap_show_hidden(struct heap *h, unsigned bin)
{
	if (likely(!hidden_objects(h, bin)))
		return;
	hidden_check(hidden_places(h, bin), h->hidden[bin], bin);
	h->bin[bin].top += h->hidden[bin];
	h->hidden[bin] = 0;
}

void heap_hide_left(struct heap *h, unsigned bin)
{
	struct object **bottom = bin_bottom(h, bin);

	h->hidden[bin] = (uint8_t)(h->bin[bin].top - bottom);
	h->bin[bin].top = bottom;
}
