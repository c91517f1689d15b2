/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab_pool.c - see slab_pool.h. Used by heap, trim, heap_thread (fork), reclaim and
 * background; uses slab, holes, buddy.
 *
 * (A) A slab becomes ABANDONED, and stops being so, only under the lock of its class's pool. A slab
 *     is on one of the lists of its pool exactly while it is ABANDONED.
 * (B) The list `fresh` is in the order of the epochs of its slabs, the oldest first.
 * (C) A slab that is empty once its remote list is collected is noticed: by the thread that adopts
 *     it after its free, or, if no try to adopt followed a free, by the next slab_pool_take_empty.
 *
 * Pairing: the release CAS in slab_pool_put (the slab's fields) with the acquire load in
 * slab_pool_adopt.
 * Locks: one POOL lock a class. One hold adds or removes one slab or looks at POOL_STEPS slabs, and
 * adds PENDING_BATCH slabs that waited for the lock (hold_step). Objects are touched under it only
 * when slab_pool_put finds an empty slab.
 * Bound: one hold; slab_pool_take_empty, which is for drains, up to twice the pool's slabs /
 * POOL_STEPS holds.
 * Allocates nothing. A signal handler that interrupts a holder of the lock gets -EDEADLK from it;
 * one that interrupts the holder of another pool's lock, or of a lock of a later rank, gets -EBUSY
 * if another thread holds this one. Without the lock a new slab is made, a slab to be abandoned
 * stays on its heap or waits (slab_pool_put), and a freed object is found by the next walk (C).
 * slab_pool_punch enters the kernel, with no lock held; slab_pool_punch_some for one slab. Fork:
 * see fork.c.
 *
 * Source: abandoned pages of mimalloc (Leijen 2019).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/slab_pool.h"

#include "base/atomics.h"
#include "base/check.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/stats.h"
#include "heap/holes.h"
#include "page/buddy.h"

#define POOL_STEPS 64u
#define PENDING_BATCH 8u
#define PUNCH_SLABS 1u /* of one call of malloc: see the bound in holes.c */
#define EPOCHS_DUE 2u  /* epochs begun since the slab was abandoned: one decay has passed in full */

/* They lie apart from the pools, because a fork writes them all: so it copies fewer pages. */
static struct {
	cache_aligned struct lock lock;
} locks[CLASSES] = { [0 ... CLASSES - 1] = { .lock = LOCK_INIT(LOCK_POOL) } };

struct pool {
	/* Guarded by: its lock. */
	cache_aligned struct page_list_head fresh; /* with room, not scanned for holes yet */
	struct page_list_head room;                /* with room, scanned */
	struct page_list_head full;
	struct page *cursor; /* where pool_find_empty goes on; NULL: at the beginning */
	/* Taken from `waiting`, not on a list yet; also read without the lock. */
	_Atomic(struct page *) pending;
	_Atomic uint64_t count;     /* slabs on all lists; also read without the lock */
	_Atomic uint64_t count_new; /* slabs on fresh; also read without the lock */
	/*
	 * Any thread, atomic: tries to adopt after a free into an abandoned slab. Such a try sees
	 * if the slab became empty. slab_abandoned_frees counts the frees; if it is ahead, a slab
	 * may be empty and no try may follow (the lock was not available), so slab_pool_take_empty
	 * has to walk the pool. Neither count falls. One count of unadopted frees, set to 0 by that
	 * walk, would be wrong for good after each try that was under way at that moment.
	 */
	_Atomic uint64_t tried;
	/* Guarded by: lock. The value of slab_abandoned_frees when the present walk of
	 * slab_pool_take_empty began, and when the last complete walk began; the latter is also
	 * read without the lock. */
	uint64_t walk_frees;
	_Atomic uint64_t walked;
	/* Any thread, atomic: slabs in limbo to be abandoned by the next holder of the lock,
	 * because it was not available (see slab_pool_put). */
	_Atomic(struct page *) waiting;
};

static _Atomic uint8_t epoch; /* of all pools; begun once each decay */

static struct pool pools[CLASSES];

static _Atomic uint64_t *frees_of(const struct pool *pool)
{
	return &slab_abandoned_frees[pool - pools].count;
}

static struct lock *lock_of(const struct pool *pool)
{
	return &locks[pool - pools].lock;
}

struct lock *slab_pool_lock(unsigned cls)
{
	return &locks[cls].lock;
}

uint64_t slab_pool_count(unsigned cls)
{
	return atomic_load_explicit(&pools[cls].count, memory_order_relaxed);
}

uint64_t slab_pool_count_new(unsigned cls)
{
	return atomic_load_explicit(&pools[cls].count_new, memory_order_relaxed);
}

void slab_pool_next_epoch(void)
{
	SHARE_COUNT(pool_epoch);
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
}

/* Whether a slab with this many live objects may have a hole. */
static bool may_have_hole(const struct page *pg, int live)
{
	const struct size_class *c = &size_classes[pg->cls];

	return options.holes && (size_t)(c->objects - live) * c->size >= HOLE_BYTES;
}

/* Put a slab on the list for its state. The caller holds the pool's lock. */
static void pool_add(struct pool *pool, struct page *pg, unsigned remote, enum slab_age how)
{
	uint8_t now = atomic_load_explicit(&epoch, memory_order_relaxed);

	hold_step(LOCK_POOL, 1);
	counter_add(&pool->count, 1);
	if (!slab_has_room(pg) && !remote) {
		page_list_add_tail(&pool->full, pg, LIST_POOL_FULL);
	} else if ((how == SLAB_SCANNED && !remote) ||
		   !may_have_hole(pg, slab_held(pg)->used - (int)remote)) {
		page_list_add_tail(&pool->room, pg, LIST_POOL_ROOM);
	} else {
		counter_add(&pool->count_new, 1);
		if (how == SLAB_IDLE) {
			slab_holes(pg)->epoch = (uint8_t)(now - EPOCHS_DUE);
			page_list_add(&pool->fresh, pg, LIST_POOL_NEW);
		} else {
			slab_holes(pg)->epoch = now;
			page_list_add_tail(&pool->fresh, pg, LIST_POOL_NEW);
		}
		park_wake();
	}
}

static void waiting_push(struct pool *pool, struct page *pg)
{
	SHARE_COUNT(pool_waiting);
	page_stack_push(&pool->waiting, pg, DELAY_NONE);
}

static bool pool_has_waiting(struct pool *pool)
{
	return atomic_load_explicit(&pool->waiting, memory_order_relaxed) ||
	       atomic_load_explicit(&pool->pending, memory_order_relaxed);
}

/* Abandon some of the slabs that waited for the lock, which the caller holds. If one is empty by
 * now, count a free, so that slab_pool_take_empty finds it. */
static noinline void add_waiting(struct pool *pool)
{
	struct page *pg = atomic_load_explicit(&pool->pending, memory_order_relaxed);
	struct page *next;

	if (!pg) {
		SHARE_COUNT(pool_waiting);
		pg = page_stack_take_all(&pool->waiting);
	}
	for (unsigned n = 0; pg && n < PENDING_BATCH; n++, pg = next) {
		uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);

		next = pg->stack_next;
		SHARE_COUNT(slab_state);
		/* Acquire and release as in slab_pool_put. */
		while (!atomic_compare_exchange_weak_explicit(&pg->state, &s,
							      (s & ~STATE_FLAGS) | STATE_ABANDONED,
							      memory_order_acq_rel,
							      memory_order_relaxed))
			;
		if ((int)state_count(s) == slab_held(pg)->used) {
			SHARE_COUNT(pool_freed);
			atomic_fetch_add_explicit(frees_of(pool), 1, memory_order_release);
		}
		pool_add(pool, pg, state_count(s), SLAB_RECENT);
		stat_add(STAT_slabs_abandoned, 1);
	}
	atomic_store_explicit(&pool->pending, pg, memory_order_relaxed);
}

/* Returns false if the lock is not available: a fork or this thread holds it, or it is only tried
 * (a signal handler) and another thread holds it. */
static bool pool_lock(struct pool *pool)
{
	if (lock_acquire(lock_of(pool)) != 0)
		return false;
	if (unlikely(pool_has_waiting(pool)))
		add_waiting(pool);
	return true;
}

enum slab_put slab_pool_put(struct page *pg, enum slab_age how)
{
	struct pool *pool = &pools[pg->cls];
	enum slab_put result = POOL_PUT;
	uint64_t s;

	if (!pool_lock(pool)) {
		if (atomic_load_explicit(&pg->owner, memory_order_relaxed))
			return POOL_LOCKED;
		waiting_push(pool, pg);
		return POOL_PUT;
	}
	s = atomic_load_explicit(&pg->state, memory_order_relaxed);
	do {
		DCHECK((s & STATE_OWN_MASK) == STATE_OWNED);
		if ((s & STATE_POSTED) &&
		    atomic_load_explicit(&pg->owner, memory_order_relaxed) != NULL) {
			result = POOL_POSTED;
			goto out;
		}
		if ((int)state_count(s) == slab_held(pg)->used) {
			/* No object is live, so no other thread can free one. */
			slab_collect_to(pg, STATE_LIMBO);
			result = POOL_EMPTY;
			goto out;
		}
		DELAY_HERE(slab_abandon);
		/* Release pairs with the acquire load in slab_pool_adopt. Acquire pairs with the
		 * release CAS in slab_free_remote. */
	} while (!atomic_compare_exchange_weak_explicit(&pg->state, &s,
							(s & ~STATE_FLAGS) | STATE_ABANDONED,
							memory_order_acq_rel,
							memory_order_relaxed));
	SHARE_COUNT(slab_state);
	atomic_store_explicit(&pg->owner, NULL, memory_order_relaxed);
	pool_add(pool, pg, state_count(s), how);
	if (how != SLAB_SCANNED)
		stat_add(STAT_slabs_abandoned, 1);
out:
	lock_release(lock_of(pool));
	return result;
}

/* The order of a walk over a pool: first full, then room, then fresh. */
static struct page *pool_first(struct pool *pool)
{
	return pool->full.first   ? pool->full.first
	       : pool->room.first ? pool->room.first
				  : pool->fresh.first;
}

static struct page *pool_next(struct pool *pool, struct page *pg)
{
	if (pg->next || pg->list == LIST_POOL_NEW)
		return pg->next;
	return pg->list == LIST_POOL_FULL && pool->room.first ? pool->room.first
							      : pool->fresh.first;
}

/* Take an abandoned slab off its list, into limbo. The caller holds the pool's lock; it collects
 * the remote list after it released the lock (pool_unlock_taken), since no other thread can take
 * the slab then. */
static void pool_remove(struct pool *pool, struct page *pg)
{
	enum page_list tag = (enum page_list)pg->list;
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);

	hold_step(LOCK_POOL, 1);
	if (pool->cursor == pg)
		pool->cursor = pool_next(pool, pg);
	if (tag == LIST_POOL_NEW)
		counter_add(&pool->count_new, UINT64_MAX);
	page_list_del(tag == LIST_POOL_NEW    ? &pool->fresh
		      : tag == LIST_POOL_ROOM ? &pool->room
					      : &pool->full,
		      pg, tag);
	counter_add(&pool->count, UINT64_MAX);
	/* Acquire and release as in slab_collect_to. */
	while (!atomic_compare_exchange_weak_explicit(&pg->state, &s,
						      (s & ~STATE_FLAGS) | STATE_LIMBO,
						      memory_order_acq_rel, memory_order_relaxed))
		;
}

static void pool_unlock_taken(struct pool *pool, struct page *pg)
{
	lock_release(lock_of(pool));
	if (pg)
		slab_collect_to(pg, STATE_LIMBO);
}

struct page *slab_pool_take(unsigned cls)
{
	struct pool *pool = &pools[cls];
	struct page *pg;

	if ((!slab_pool_count(cls) && !pool_has_waiting(pool)) || !pool_lock(pool))
		return NULL;
	/* The one abandoned last: its memory is the least likely to have been purged. */
	pg = pool->fresh.last ? pool->fresh.last : pool->room.first;
	if (pg)
		pool_remove(pool, pg);
	pool_unlock_taken(pool, pg);
	if (pg)
		stat_add(STAT_slabs_adopted, 1);
	return pg;
}

/* Take an abandoned slab that is due to be scanned for holes, or, with `all`, any that was not
 * scanned; it is in limbo then. Returns NULL if there is none. */
static struct page *take_new(unsigned cls, bool all)
{
	struct pool *pool = &pools[cls];
	uint8_t now = atomic_load_explicit(&epoch, memory_order_relaxed);
	struct page *pg;

	if (!slab_pool_count_new(cls) || !pool_lock(pool))
		return NULL;
	pg = pool->fresh.first;
	if (pg && !all && (uint8_t)(now - slab_holes(pg)->epoch) < EPOCHS_DUE)
		pg = NULL;
	if (pg)
		pool_remove(pool, pg);
	pool_unlock_taken(pool, pg);
	return pg;
}

bool slab_pool_adopt(struct page *pg, unsigned cls)
{
	struct pool *pool = &pools[cls];
	bool mine;

	DELAY_HERE(slab_adopt);
	if (!pool_lock(pool))
		return false;
	SHARE_COUNT(pool_freed);
	atomic_fetch_add_explicit(&pool->tried, 1, memory_order_relaxed);
	/*
	 * Since the caller saw the slab, it may have been adopted and emptied, and its descriptor
	 * reused. Acquire pairs with the release CAS of slab_pool_put: if the slab is abandoned
	 * now, we read cls and list of that state or a later one. If it is of this class and on a
	 * list of a pool, it cannot change while we hold this lock.
	 */
	mine = (atomic_load_explicit(&pg->state, memory_order_acquire) & STATE_OWN_MASK) ==
		       STATE_ABANDONED &&
	       page_kind(pg) == PAGE_SLAB && pg->cls == cls &&
	       (pg->list == LIST_POOL_NEW || pg->list == LIST_POOL_ROOM ||
		pg->list == LIST_POOL_FULL);
	if (mine)
		pool_remove(pool, pg);
	pool_unlock_taken(pool, mine ? pg : NULL);
	stat_add(STAT_slabs_adopted, mine);
	return mine;
}

/* The part of a walk over the pool for one hold of the lock. Sets *end at the end of the walk. */
static struct page *pool_find_empty(struct pool *pool, bool *end)
{
	struct page *pg = pool->cursor ? pool->cursor : pool_first(pool);

	for (unsigned n = 0; pg && n < POOL_STEPS; n++, pg = pool_next(pool, pg)) {
		uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);

		hold_step(LOCK_POOL, 1);
		if ((int)state_count(s) == slab_held(pg)->used) {
			pool->cursor = pg;
			pool_remove(pool, pg);
			return pg;
		}
	}
	pool->cursor = pg;
	*end = !pg;
	return NULL;
}

/* Whether a slab may be empty unnoticed: a free came after the last complete walk began, and not
 * every free was followed by a try to adopt. */
static bool pool_has_unadopted(struct pool *pool)
{
	uint64_t freed = atomic_load_explicit(frees_of(pool), memory_order_relaxed);

	return freed != atomic_load_explicit(&pool->tried, memory_order_relaxed) &&
	       freed != atomic_load_explicit(&pool->walked, memory_order_relaxed);
}

struct page *slab_pool_take_empty(unsigned cls)
{
	struct pool *pool = &pools[cls];
	struct page *pg;
	bool whole = false; /* a walk began in this call */
	bool end;

	if (!pool_has_unadopted(pool) && !pool_has_waiting(pool))
		return NULL;
	do {
		end = false;
		if (!pool_lock(pool))
			return NULL;
		if (!pool->cursor) {
			whole = true;
			/* Acquire pairs with the release increments of slab_abandoned_frees: this
			 * walk sees the objects whose frees are counted in the value. */
			pool->walk_frees = atomic_load_explicit(frees_of(pool),
								memory_order_acquire);
		}
		pg = pool_find_empty(pool, &end);
		if (end)
			atomic_store_explicit(&pool->walked, pool->walk_frees,
					      memory_order_relaxed);
		end &= whole;
		pool_unlock_taken(pool, pg);
	} while (!pg && (!end || pool_has_waiting(pool)));
	return pg;
}

/* ---- holes ------------------------------------------------------------------------------- */

/* Abandon a scanned slab again, or give it back if it is empty. */
static void put_back(struct page *pg)
{
	DELAY_HERE(holes_return);
	if (slab_pool_put(pg, SLAB_SCANNED) == POOL_EMPTY) {
		slab_unmake(pg);
		buddy_free_drained(&pg, 1);
	}
}

/* The largest classes first: they have the fewest objects to look at. */
static uint64_t punch(bool all, uint64_t most, uint64_t slabs)
{
	uint64_t bytes = 0;

	for (unsigned cls = CLASSES; cls-- > 0 && options.holes;) {
		struct page *pg;

		/* Slabs that are abandoned meanwhile wait for the next call. */
		for (uint64_t n = slab_pool_count_new(cls);
		     n && slabs && bytes < most && (pg = take_new(cls, all)) != NULL;
		     n--, slabs--) {
			if (slab_held(pg)->used)
				bytes += holes_punch_slab(pg);
			put_back(pg);
		}
	}
	stat_add(STAT_holes_purged_bytes, bytes);
	return bytes;
}

uint64_t slab_pool_punch(bool all, uint64_t most)
{
	return punch(all, most, UINT64_MAX);
}

uint64_t slab_pool_punch_some(uint64_t most)
{
	return punch(true, most, PUNCH_SLABS);
}

bool slab_pool_wants_punch(void)
{
	for (unsigned cls = 0; cls < CLASSES && options.holes; cls++)
		if (slab_pool_count_new(cls))
			return true;
	return false;
}
