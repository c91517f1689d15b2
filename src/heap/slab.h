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

#include "base/links.h"
#include "base/list.h"
#include "base/lock.h"
#include "page/pagemap.h"
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

static inline uint32_t slab_carved_bytes(const struct page *pg)
{
	return atomic_load_explicit(&pg->carved_bytes, memory_order_relaxed);
}

static inline unsigned slab_in_holes(const struct page *pg)
{
	return atomic_load_explicit(&pg->in_holes, memory_order_relaxed);
}

/* Whether the slab has something to give that is not on its remote list. */
static inline bool slab_has_room(const struct page *pg)
{
	return pg->free || pg->carved < size_classes[pg->cls].objects || slab_in_holes(pg);
}

/* ---- the caller has the slab in hand: its owner in its window, or limbo, or the pool lock --- */

/* The link of free object o was written over. */
_Noreturn void slab_bad_link(const struct page *pg, const struct object *o);

/* A free object bears no mark: it was freed again and handed out, or written to. */
_Noreturn void slab_bad_mark(const struct page *pg, const struct object *o);

/* A list of free objects is longer or shorter than it should be; o: where that was noticed. */
_Noreturn void slab_bad_count(const struct page *pg, const struct object *o);

/* What o leads to on a list of the slab's free objects; NULL: nothing. Stops the program when the link was
 * written over. */
static inline struct object *slab_next(const struct page *pg, const struct object *o)
{
	struct object *next = link_get(o);

	if (unlikely((uintptr_t)next - (uintptr_t)page_address(pg) >= slab_carved_bytes(pg)) &&
	    unlikely(next != NULL))
		slab_bad_link(pg, o);
	return next;
}

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
			slab_bad_mark(pg, o);
		mark_clear(o);
		*at++ = o;
		left -= (uintptr_t)next - (uintptr_t)o + NEAR_BYTES >= 2 * NEAR_BYTES;
		/* The list's end, or a link that is not ours. */
		if (unlikely((uintptr_t)next - start >= carved)) {
			if (unlikely(next != NULL))
				slab_bad_link(pg, o);
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
		slab_bad_count(pg, at[-1]);
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

enum slab_remote {
	SLAB_PUT,   /* done */
	SLAB_POST,  /* the caller has set POSTED and must put the slab into its owner's inbox */
	SLAB_ADOPT, /* abandoned: the caller should adopt it (slab_pool_adopt) */
};

/* Put n objects, linked from first to last, on the remote list by one CAS. */
enum slab_remote slab_free_remote(struct page *pg, struct object *first, struct object *last,
				  unsigned n);

/* ---- abandoned slabs --------------------------------------------------------------------- */

enum slab_put {
	POOL_PUT,    /* it is abandoned now */
	POOL_EMPTY,  /* no object of it is live: it is the caller's to unmake */
	POOL_POSTED, /* it is in an inbox or on the way there: it has to stay with its heap */
	POOL_LOCKED, /* the pool's lock could not be had: likewise; only of a slab that has an owner */
};

enum slab_age {
	SLAB_RECENT,   /* may have been used just now: look for holes after a decay */
	SLAB_IDLE,     /* was not used for long: look for holes at once */
	SLAB_LOOKED_AT /* for holes, and not touched since */
};

/* Abandon a slab that is in hand. */
enum slab_put slab_pool_put(struct page *pg, enum slab_age age);

/* An abandoned slab of the class with room, in limbo; NULL: there is none. */
struct page *slab_pool_take(unsigned cls);

/* Take this slab, which was abandoned a moment ago. False: somebody else has it, or had it. */
bool slab_pool_adopt(struct page *pg, unsigned cls);

/* Take off an abandoned slab of the class that is empty once its remote list is collected, in
 * limbo; NULL: none is left. For drains; costs nothing unless a free into an abandoned slab was not
 * followed by its adoption, else looks at every abandoned slab of the class, some in each hold. */
struct page *slab_pool_take_empty(unsigned cls);

/* An abandoned slab of the class that is to be looked at for holes, in limbo; with `all` also one that
 * was left just now. NULL: there is none. */
struct page *slab_pool_take_new(unsigned cls, bool all);

/* Once each decay: what was left SLAB_RECENT before the last call is due from now on. */
void slab_pool_next_epoch(void);

/* Abandoned slabs of the class; and of them, those that wait to be looked at for holes. */
uint64_t slab_pool_count(unsigned cls);
uint64_t slab_pool_count_new(unsigned cls);

/* fork: the locks of the pools. */
struct lock *slab_pool_lock(unsigned cls);

/* Debug: the counting equation of a slab in hand. */
void slab_check(struct page *pg);

#endif
