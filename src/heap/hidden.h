/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hidden.h - the objects of each class that a hardened heap has ready, outside of its slabs.
 *
 * The caller is in the critical section of h, or has claimed it, or (fallback heap) holds its lock.
 */
#ifndef SLUICE_HIDDEN_H
#define SLUICE_HIDDEN_H

#include "heap/heap_slabs.h"

/*
 * A hardened process has bins without room: *top stays NULL, so that no fast path uses them. The
 * places above hold objects that were taken from slabs or were freed: up to HIDDEN_FIRST, and up to
 * HIDDEN_MAX of a class of short objects that the heap uses much. Their live bits are clear. Freed
 * ones read as they did when they were freed (LIVE_NOTED), or their first bytes do (LIVE_HEAD).
 *
 * Large objects for which there is a cache bin lie ready, too, as many as the bin would have. With
 * zero_on_free they read as zero, as a whole (LIVE_NOTED) or their first CLEAR_HEAD bytes.
 *
 * heap_take_hidden takes one of them, at random with the option random_slots, and more from the
 * slabs first if there are few. Returns NULL if the heap has none. heap_pop_hidden does not look
 * into slabs: it returns NULL if there are few. heap_put_hidden adds one; it returns false if there
 * is no room. heap_spill_hidden makes room: if there are no more places, a few go to their slabs,
 * HIDDEN_SPILL at most. heap_show_hidden makes them the bin's, for a flush; heap_hide_left takes
 * back what is left.
 */
#define HIDDEN_SPILL (HIDDEN_MAX / 4)
struct object *heap_take_hidden(struct heap *h, unsigned cls);
void heap_spill_hidden(struct heap *h, unsigned cls, struct due_list *d);
void heap_show_hidden(struct heap *h, unsigned bin);
void heap_hide_left(struct heap *h, unsigned bin);

/* Stops the program if one of the n objects was written to after its free: in all of it up to
 * CLEAR_ALWAYS bytes, or if it is a large one, else in its first CLEAR_HEAD. */
void hidden_check(struct object **o, unsigned n, unsigned bin);

/* The same of a large object. Returns whether it reads as zero as a whole. */
bool hidden_check_large(const void *p);

/* The same of the free objects of a slab that ends, which no thread finds any more; of all their
 * bytes behind the link and the mark if they read as zero. For slab_ends. */
void hidden_check_slab(struct page *pg);

/* The same of the objects on the lists of h's slabs, up to a bound. Those that other threads have
 * freed lately are not on these lists, so nobody writes to what it reads. */
void hidden_check_own_slabs(struct heap *h);

void heap_random_fork_child(void); /* not the parent's choices */

/* A linear congruential sequence mod 2^64, of which the upper half is used (multiplier: Steele,
 * Vigna 2021). Each thread has its own, and so has a child of fork; 0: not begun. */
extern _Thread_local uint64_t heap_random TLS_FAST;
void heap_random_begin(void);

static always_inline bool hidden_needs_random(void)
{
	return heap_random == 0;
}

/* One of n; the sequence has begun. */
static always_inline unsigned hidden_choice(unsigned n)
{
	uint64_t next = heap_random * UINT64_C(0xd1342543de82ef95) + 1;

	heap_random = next;
	return (unsigned)((next >> 32) * n >> 32);
}

/* The lowest of the places. The bin is empty. */
static always_inline struct object **hidden_places(struct heap *h, unsigned cls)
{
	return h->bin[cls].top + 1;
}

/* n: h->hidden[cls], not 0. random: the option random_slots, whose sequence has begun. Without it
 * each call takes one from a higher place, and goes on at the bottom after DIRECT_CALLS, so that
 * what was just freed, and lies on top, is not used at once. */
_Static_assert(DIRECT_CALLS <= 64, "direct_left names a place");
static always_inline struct object *hidden_pop(struct heap *h, unsigned cls, unsigned n,
					       bool random)
{
	struct object **o = hidden_places(h, cls);
	unsigned i = random ? hidden_choice(n) : n - 1 - h->direct_left * n / 64;
	struct object *taken = o[i];

	h->idle_rounds[cls] = 0;
	o[i] = o[n - 1];
	h->hidden[cls] = (uint8_t)(n - 1);
	return taken;
}

static always_inline struct object *heap_pop_hidden(struct heap *h, unsigned cls, bool random)
{
	unsigned n = h->hidden[cls];

	return n > h->hidden_room[cls] / 2 ? hidden_pop(h, cls, n, random) : NULL;
}

static always_inline bool hidden_has_room(const struct heap *h, unsigned bin)
{
	return h->hidden[bin] < h->hidden_room[bin];
}

static always_inline bool heap_put_hidden(struct heap *h, unsigned bin, struct object *o)
{
	unsigned n = h->hidden[bin];

	if (unlikely(!hidden_has_room(h, bin)))
		return false;
	hidden_places(h, bin)[n] = o;
	h->hidden[bin] = (uint8_t)(n + 1);
	return true;
}

#endif
