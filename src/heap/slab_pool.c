/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab_pool.c - see slab_pool.h. Used by heap and reclaim; uses slab, holes, buddy.
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
#include "page/pagemap.h"

#define POOL_LOOKS 64u
#define LATE_BATCH 8u
#define AGE_DUE 2u /* decays begun since: so one has passed in full */

struct pool {
	cache_aligned struct lock lock;
	/* Guarded by: lock. */
	struct page_list_head fresh; /* with room, not looked at for holes yet */
	struct page_list_head room;
	struct page_list_head full;
	struct page *look;          /* where take_empty goes on; NULL: at the beginning */
	struct page *late;          /* taken from `waiting`, not on a list yet */
	_Atomic uint64_t count;     /* of all; also read without the lock */
	_Atomic uint64_t count_new; /* of fresh; likewise */
	/* Any thread, atomic: tries to adopt that have followed frees into abandoned slabs (slab_abandoned_frees), each
	 * of which sees what came of the slab. The other frees may have made a slab empty, and no
	 * try may ever follow (no lock was to be had): take_empty looks for such. Never falls: a
	 * count of what is unadopted would be wrong for good by each try that was under way when it was paid. */
	_Atomic uint64_t tried;
	/* Guarded by: lock. What slab_abandoned_frees was when the walk of take_empty began, and when the last one did that
	 * has come to the end; that is also read without the lock. */
	uint64_t walk_freed;
	_Atomic uint64_t walked;
	/* Any thread, atomic: slabs in limbo that were to be abandoned while the lock could not be had
	 * (a fork holds it, or the call that a signal handler interrupted). Who has it next does that. */
	_Atomic(struct page *) waiting;
};

static _Atomic uint8_t age; /* of the pools, in decays */

static struct pool pools[CLASSES] = { [0 ... CLASSES - 1] = { .lock = LOCK_INIT(LOCK_POOL) } };

static _Atomic uint64_t *frees_of(const struct pool *pool)
{
	return &slab_abandoned_frees[pool - pools].count;
}

struct lock *slab_pool_lock(unsigned cls)
{
	return &pools[cls].lock;
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
	atomic_fetch_add_explicit(&age, 1, memory_order_relaxed);
}

/* Whether a hole may be found in a slab of which this many objects are live. */
static bool may_have_hole(const struct page *pg, int live)
{
	const struct size_class *c = &size_classes[pg->cls];

	return options.holes && (size_t)(c->objects - live) * c->size >= HOLE_BYTES;
}

/* With the pool's lock: on the list for its state. */
static void pool_add(struct pool *pool, struct page *pg, unsigned remote, enum slab_age how)
{
	uint8_t now = atomic_load_explicit(&age, memory_order_relaxed);

	hold_step(LOCK_POOL, 1);
	counter_add(&pool->count, 1);
	if (!slab_has_room(pg) && !remote) {
		page_list_add_tail(&pool->full, pg, LIST_POOL_FULL);
	} else if ((how == SLAB_LOOKED_AT && !remote) ||
		   !may_have_hole(pg, pg->used - (int)remote)) {
		page_list_add_tail(&pool->room, pg, LIST_POOL_ROOM);
	} else {
		counter_add(&pool->count_new, 1);
		if (how == SLAB_IDLE) {
			slab_holes(pg)->epoch = (uint8_t)(now - AGE_DUE);
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

static bool pool_late(struct pool *pool)
{
	return atomic_load_explicit(&pool->waiting, memory_order_relaxed) != NULL;
}

/* With the pool's lock: some of the slabs that had to wait for it become abandoned. One that is empty by
 * now is for take_empty. */
static noinline void late_work(struct pool *pool)
{
	if (!pool->late) {
		SHARE_COUNT(pool_waiting);
		pool->late = page_stack_take_all(&pool->waiting);
	}
	for (unsigned n = 0; pool->late && n < LATE_BATCH; n++) {
		struct page *pg = pool->late;
		uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);

		pool->late = pg->stack_next;
		SHARE_COUNT(slab_state);
		/* As in slab_pool_put. */
		while (!atomic_compare_exchange_weak_explicit(&pg->state, &s,
							      (s & ~STATE_FLAGS) | STATE_ABANDONED,
							      memory_order_acq_rel,
							      memory_order_relaxed))
			;
		if ((int)state_count(s) == pg->used) {
			SHARE_COUNT(pool_freed);
			atomic_fetch_add_explicit(frees_of(pool), 1, memory_order_release);
		}
		pool_add(pool, pg, state_count(s), SLAB_RECENT);
		stat_add(STAT_slabs_unowned, 1);
	}
}

static bool pool_lock(struct pool *pool)
{
	if (lock_acquire(&pool->lock) != 0)
		return false;
	if (unlikely(pool->late || pool_late(pool)))
		late_work(pool);
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
		if ((int)state_count(s) == pg->used) {
			/* Nobody holds an object any more, so nobody can free one. */
			slab_collect_to(pg, STATE_LIMBO);
			result = POOL_EMPTY;
			goto out;
		}
		DELAY_HERE(slab_abandon);
		/* Release pairs with the acquire load in slab_pool_adopt; acquire for the remote
		 * list, which we look at. */
	} while (!atomic_compare_exchange_weak_explicit(&pg->state, &s,
							(s & ~STATE_FLAGS) | STATE_ABANDONED,
							memory_order_acq_rel,
							memory_order_relaxed));
	SHARE_COUNT(slab_state);
	atomic_store_explicit(&pg->owner, NULL, memory_order_relaxed);
	pool_add(pool, pg, state_count(s), how);
	if (how != SLAB_LOOKED_AT)
		stat_add(STAT_slabs_unowned, 1);
out:
	lock_release(&pool->lock);
	return result;
}

/* All slabs of a pool in a row: what is full, what has room, what is fresh. */
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

/* With the pool's lock: an abandoned slab off its list, into limbo. What is on its remote list is for the
 * caller to collect, once it has let go of the lock: nobody else can have the slab. */
static void pool_remove(struct pool *pool, struct page *pg)
{
	enum page_list tag = (enum page_list)pg->list;
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);

	hold_step(LOCK_POOL, 1);
	if (pool->look == pg)
		pool->look = pool_next(pool, pg);
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
	lock_release(&pool->lock);
	if (pg)
		slab_collect_to(pg, STATE_LIMBO);
}

struct page *slab_pool_take(unsigned cls)
{
	struct pool *pool = &pools[cls];
	struct page *pg;

	if ((!slab_pool_count(cls) && !pool_late(pool)) || !pool_lock(pool))
		return NULL;
	/* The one left last, for its memory is the least likely to have gone to the kernel. */
	pg = pool->fresh.last ? pool->fresh.last : pool->room.first;
	if (pg)
		pool_remove(pool, pg);
	pool_unlock_taken(pool, pg);
	if (pg)
		stat_add(STAT_slabs_adopted, 1);
	return pg;
}

/* An abandoned slab of the class that is to be looked at for holes, in limbo; with `all` also one that
 * was left just now. NULL: there is none. */
static struct page *take_new(unsigned cls, bool all)
{
	struct pool *pool = &pools[cls];
	uint8_t now = atomic_load_explicit(&age, memory_order_relaxed);
	struct page *pg;

	if (!slab_pool_count_new(cls) || !pool_lock(pool))
		return NULL;
	pg = pool->fresh.first;
	if (pg && !all && (uint8_t)(now - slab_holes(pg)->epoch) < AGE_DUE)
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
	 * The slab may have been adopted, emptied and its descriptor used for something else
	 * since we saw it. Acquire pairs with the release CAS of slab_pool_put: if it is abandoned
	 * now, then cls and list are at least as new as that; and being of this class and on a
	 * pool's list, it cannot change while we hold this lock.
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

/* One hold's part of a walk over the pool; *end: there is nothing behind it. */
static struct page *pool_find_empty(struct pool *pool, bool *end)
{
	struct page *pg = pool->look ? pool->look : pool_first(pool);

	for (unsigned n = 0; pg && n < POOL_LOOKS; n++, pg = pool_next(pool, pg)) {
		uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);

		hold_step(LOCK_POOL, 1);
		if ((int)state_count(s) == pg->used) {
			pool->look = pg;
			pool_remove(pool, pg);
			return pg;
		}
	}
	pool->look = pg;
	*end = !pg;
	return NULL;
}

/* A slab may be empty that nobody looks at: something was freed since the last walk began, and tries to adopt
 * did not follow all frees. */
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
	bool whole = false; /* the walk began at the beginning */
	bool end;

	if (!pool_has_unadopted(pool) && !pool_late(pool))
		return NULL;
	do {
		end = false;
		if (!pool_lock(pool))
			return NULL;
		if (!pool->look) {
			whole = true;
			/* Acquire: what was freed into a slab before it was counted is seen by this walk. */
			pool->walk_freed = atomic_load_explicit(frees_of(pool),
								memory_order_acquire);
		}
		pg = pool_find_empty(pool, &end);
		if (end)
			atomic_store_explicit(&pool->walked, pool->walk_freed,
					      memory_order_relaxed);
		end &= whole;
		pool_unlock_taken(pool, pg);
	} while (!pg && !end);
	return pg;
}

/* ---- holes ------------------------------------------------------------------------------- */

/* Abandoned again, or given back. */
static void put_back(struct page *pg)
{
	DELAY_HERE(holes_return);
	if (slab_pool_put(pg, SLAB_LOOKED_AT) == POOL_EMPTY) {
		slab_unmake(pg);
		buddy_free_drained(&pg, 1);
	}
}

uint64_t slab_pool_punch(bool all, uint64_t most)
{
	uint64_t bytes = 0;

	for (unsigned cls = 0; cls < CLASSES && options.holes; cls++) {
		struct page *pg;

		/* What comes meanwhile is for another call. */
		for (uint64_t n = slab_pool_count_new(cls);
		     n && bytes < most && (pg = take_new(cls, all)) != NULL; n--) {
			if (pg->used)
				bytes += holes_punch_slab(pg);
			put_back(pg);
		}
	}
	stat_add(STAT_holes_bytes, bytes);
	return bytes;
}

bool slab_pool_wants_punch(void)
{
	for (unsigned cls = 0; cls < CLASSES && options.holes; cls++)
		if (slab_pool_count_new(cls))
			return true;
	return false;
}
