/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab.h - a slab: a run carved into objects of one class, its atomic state word, and the pools of
 * abandoned slabs.
 *
 * The state word (page.state), changed by CAS only once the slab has handed out an object:
 *
 *   bits 63-48  objects on the remote list
 *   bits 47-4   the remote list's first object (aligned to 16)
 *   bit  2      POSTED: in its owner's inbox, on the way there, or in nobody's hands (limbo)
 *   bits 1-0    0: not a live slab, OWNED, or ABANDONED
 *
 *   state of the slab   word          remote list   who may change its owner
 *   owned               OWNED         empty         its owner
 *   posted              OWNED POSTED  not empty     nobody, until its owner takes its inbox
 *   limbo               OWNED POSTED, owner NULL    the thread that has it in hand
 *   abandoned           ABANDONED     any           the holder of its class's pool lock
 *   free                0             empty         nobody: no object of it is live
 *
 * The first remote free after its owner looked posts the slab; the later ones only push. So an
 * owner never asks: what it has not been told of is not there.
 */
#ifndef SLUICE_SLAB_H
#define SLUICE_SLAB_H

#include "heap/freelist.h"
#include "heap/holes.h"
#include "heap/sizeclass.h"
#include "types.h"

#define STATE_OWNED UINT64_C(1)
#define STATE_ABANDONED UINT64_C(2)
#define STATE_OWN_MASK UINT64_C(3)
#define STATE_POSTED UINT64_C(4)
#define STATE_FLAGS UINT64_C(15)
#define STATE_LIMBO (STATE_OWNED | STATE_POSTED)
#define STATE_COUNT_SHIFT 48

static inline struct object *state_list(uint64_t s)
{
	return (struct object *)(uintptr_t)(s & ((UINT64_C(1) << STATE_COUNT_SHIFT) - 1) &
					    ~STATE_FLAGS);
}

static inline unsigned state_count(uint64_t s)
{
	return (unsigned)(s >> STATE_COUNT_SHIFT);
}

/* Whether the slab has something to give that is not on its remote list. */
static inline bool slab_has_room(const struct page *pg)
{
	return pg->free || pg->carved < size_classes[pg->cls].objects || slab_in_holes(pg);
}

/* ---- the caller has the slab in hand: its owner in its window, or limbo, or the pool lock --- */

/* Turn a run of the class's length into a slab in limbo. */
void slab_make(struct page *pg, unsigned cls);

/*
 * Freed objects are cold, as a rule, and each is found by the one before it. So a call takes TAKE_NEAR of
 * those that lie close together, and goes no further than to the TAKE_FAR-th that does not: none waits for
 * a long row of misses, and who freed in order does not call more often than need be.
 */
#define TAKE_NEAR 16u
#define TAKE_FAR 3u
#define NEAR_BYTES 4096u

/* Take n objects that were freed, 1 at least, as far as *far and the list last. There is one. Objects that
 * are taken become used. Returns how many, as slab_take does. */
static always_inline unsigned slab_take_freed(struct page *pg, struct object **out, unsigned n,
					      unsigned *far)
{
	uintptr_t start = (uintptr_t)page_address(pg);
	uint32_t carved = slab_carved_bytes(pg);
	uint64_t base = mark_base(pg);
	struct object **end = out + n;
	struct object **at = out;
	struct object *o = pg->free;
	unsigned left = *far;

	do {
		struct object *next = link_get(o);

		if (unlikely(!mark_is_set(o, base)))
			freelist_bad_mark(pg, o);
		mark_clear(o);
		*at++ = o;
		left -= (uintptr_t)next - (uintptr_t)o + NEAR_BYTES >= 2 * NEAR_BYTES;
		/* The list's end, or a link that is not ours. */
		if (unlikely((uintptr_t)next - start >= carved)) {
			if (unlikely(next != NULL))
				freelist_bad_link(pg, o);
			o = NULL;
			break;
		}
		o = next;
	} while (left && at != end);
	*far = left;
	pg->free = o;
	__builtin_prefetch(o, 1);
	pg->used = (int16_t)(pg->used + (int)(at - out));
	/* The list ends exactly when all that is carved is in use. */
	if (unlikely((pg->used + (int)slab_in_holes(pg) == pg->carved) != (o == NULL)))
		freelist_bad_count(pg, at[-1]);
	return (unsigned)(at - out);
}

/* Take n objects, 1 at least: of those that were freed as many as *far lasts for, then out of holes, then
 * by carving further. */
unsigned slab_take(struct page *pg, struct object **out, unsigned n, unsigned *far);

/* Take the remote list into the free list and set the flags to `flags` in the same step. Returns
 * how many objects came. */
unsigned slab_collect_to(struct page *pg, uint64_t flags);

/* An empty slab becomes a run again, to be given to the pcp. */
void slab_unmake(struct page *pg);

/* ---- any thread -------------------------------------------------------------------------- */

/* Any thread, atomic: frees into abandoned slabs of each class, counted after the free. Never falls. */
struct slab_frees {
	cache_aligned _Atomic uint64_t count;
};
extern struct slab_frees slab_abandoned_frees[CLASSES];

enum slab_remote {
	SLAB_PUT,   /* done */
	SLAB_POST,  /* the caller has set POSTED and must put the slab into its owner's inbox */
	SLAB_ADOPT, /* abandoned: the caller should adopt it (slab_pool_adopt) */
};

/* Put n objects, linked from first to last, on the remote list by one CAS. */
enum slab_remote slab_free_remote(struct page *pg, struct object *first, struct object *last,
				  unsigned n);

/* Debug: the counting equation of a slab in hand. */
void slab_check(struct page *pg);

#endif
