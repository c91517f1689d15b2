/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab.c - size-class objects carved out of runs; remote frees; abandoned slabs.
 * Used by heap and reclaim; uses pagemap and the primitives.
 *
 * (A) carved == used + length of free + in_holes; used counts what the program holds, what lies in
 *     bins and outboxes of heaps, and what lies on the remote list. (slab_check)
 * (B) The remote list, its length and the slab's ownership change together, by CAS on one word: a
 *     remote free that finds the slab OWNED is seen by whoever abandons it afterwards, and one that
 *     finds it ABANDONED knows that it has to adopt it. No third outcome exists.
 * (C) Only the setter of POSTED puts the slab into an inbox, and only the taker of the inbox
 *     clears it; so a slab is in at most one inbox, once, and keeps its owner meanwhile. While a
 *     slab is POSTED an object is on its remote list, so it is not empty, and is not given back.
 * (D) ABANDONED is set and cleared under the pool lock of the slab's class only; a slab is on one of
 *     its pool's lists exactly while it is ABANDONED. (pool_check in the unit test)
 *
 * (E) The list `fresh` of a pool is in the order of its slabs' age, the oldest first.
 *
 * Pairing: the release CAS in slab_free_remote (the freed objects' links) with the acquire CAS in
 * slab_collect_to; the release CAS in slab_pool_put (the slab's fields) with the acquire load in
 * slab_pool_adopt.
 * Locks: pool locks (POOL), one a class; under them one slab comes or goes, or POOL_LOOKS are looked at,
 * and LATE_BATCH that had to wait for the lock come (hold_step), and CAS tries, each of which fails only
 * because somebody else's did not.
 * Bound: slab_take, one hole or carving and as many objects as asked for, but no more than the caller has
 * time for; slab_free_remote, one CAS;
 * slab_collect_to, one CAS, and the objects of the list if the slab has free ones besides (a slab's at
 * most); slab_pool_*, one hold, but slab_pool_take_empty, for drains: the pool's slabs / POOL_LOOKS
 * holds, twice at most.
 * Allocates nothing; a signal handler may put objects on a remote list at any time, and finds a
 * pool lock of its own thread by -EDEADLK. Fork: see fork.c.
 *
 * Source: the free list of a page as in mimalloc (Leijen 2019), remote lists as in snmalloc's
 * message passing, abandoned slabs as mimalloc's abandoned pages.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/slab.h"

#include "base/delay.h"
#include "heap/holes.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "base/park.h"
#include "page/pcp.h"
#include "base/stats.h"

#define POOL_LOOKS 64u
#define LATE_BATCH 8u
#define AGE_DUE 2u /* decays begun since: so one has passed in full */

/* used and wake of a slab are 16 bits wide, and a slab's run must fit a pcp. */
#define SIZECLASS(size, pages)                                                                     \
	_Static_assert((pages)*PG_BYTES / (size) <= 4096 && (pages) <= PCP_RUN_MAX,                \
		       "a slab of " #size " bytes");                                               \
	_Static_assert((size) % ALIGN_MIN == 0, "objects are aligned");
#include "heap/sizeclass.def"
#undef SIZECLASS

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
	/* Any thread, atomic: frees into abandoned slabs, counted after the free; and those of them that a try to adopt
	 * has followed, which sees what came of the slab. The others may have made a slab empty, and no
	 * try may ever follow (no lock was to be had): take_empty looks for such. Neither ever falls: a
	 * count of what is owed would be wrong for good by each try that was under way when it was paid. */
	_Atomic uint64_t freed;
	_Atomic uint64_t tried;
	/* Guarded by: lock. What `freed` was when the walk of take_empty began, and when the last one did that
	 * has come to the end; that is also read without the lock. */
	uint64_t walk_freed;
	_Atomic uint64_t walked;
	/* Any thread, atomic: slabs in limbo that were to be abandoned while the lock could not be had
	 * (a fork holds it, or the call that a signal handler interrupted). Who has it next does that. */
	_Atomic(struct page *) waiting;
};

static _Atomic uint8_t age; /* of the pools, in decays */

static struct pool pools[CLASSES] = { [0 ... CLASSES - 1] = { .lock = LOCK_INIT(LOCK_POOL) } };

/* ---- in hand ----------------------------------------------------------------------------- */

/* After a slab was counted: a number that no slab in the same place has had before. */
static uint32_t next_number(void)
{
	uint32_t shard = stat_shard_self - 1;

	return (uint32_t)(atomic_load_explicit(&stat_shards[shard].count[STAT_slabs_made],
					       memory_order_relaxed) *
				  STAT_SHARDS +
			  shard);
}

void slab_make(struct page *pg, unsigned cls)
{
	DCHECK(page_kind(pg) == PAGE_LIMBO && pg->npages == size_classes[cls].pages);
	page_set_heads(pg, size_classes[cls].pages);
	pg->free = NULL;
	pg->used = 0;
	pg->wake = 0;
	pg->carved = 0;
	atomic_store_explicit(&pg->in_holes, 0, memory_order_relaxed);
	holes_init(pg, cls, pg->zero == ZERO_CLEAN);
	atomic_store_explicit(&pg->carved_bytes, 0, memory_order_relaxed);
	pg->cls = (uint8_t)cls;
	pg->list = LIST_NONE;
	pg->zero = 0;
	pg->stack_next = NULL;
	atomic_store_explicit(&pg->owner, NULL, memory_order_relaxed);
	atomic_store_explicit(&pg->state, STATE_LIMBO, memory_order_relaxed);
	page_set_kind(pg, PAGE_SLAB);
	stat_add(STAT_slabs_made, 1);
	slab_holes(pg)->made = next_number();
}

void slab_unmake(struct page *pg)
{
	unsigned cls = pg->cls;

	CHECK(pg->used == 0);
	holes_end(pg);
	atomic_store_explicit(&pg->owner, NULL, memory_order_relaxed);
	atomic_store_explicit(&pg->state, 0, memory_order_relaxed);
	page_set_kind(pg, PAGE_LIMBO);
	pg->free = NULL;
	atomic_store_explicit(&pg->carved_bytes, 0, memory_order_relaxed);
	pg->npages = size_classes[cls].pages;
	pg->zero = 0;
	stat_add(STAT_slabs_freed, 1);
}

_Noreturn void slab_bad_link(const struct page *pg, const struct object *o)
{
	sluice_fatal("object written to after it was freed, or overrun by the one before it (link %p "
		     "instead of ours): address %p, size class %u (%u bytes)",
		     (void *)(uintptr_t)o->link, (const void *)o, pg->cls,
		     (unsigned)class_size(pg->cls));
}

_Noreturn void slab_bad_mark(const struct page *pg, const struct object *o)
{
	sluice_fatal("object freed twice, or written to after it was freed (%p instead of our mark): "
		     "address %p, size class %u (%u bytes)",
		     (void *)(uintptr_t)o->mark, (const void *)o, pg->cls,
		     (unsigned)class_size(pg->cls));
}

_Noreturn void slab_bad_count(const struct page *pg, const struct object *o)
{
	sluice_fatal("object freed twice, or another one of its slab: address %p, size class %u (%u "
		     "bytes)",
		     (const void *)o, pg->cls, (unsigned)class_size(pg->cls));
}

/* Carving writes nothing: memory that is not handed out stays untouched. */
static unsigned carve(struct page *pg, struct object **out, unsigned n)
{
	const struct size_class *c = &size_classes[pg->cls];
	unsigned left = (unsigned)(c->objects - pg->carved);
	uint32_t carved = slab_carved_bytes(pg);
	char *base = page_address(pg);

	if (n > left)
		n = left;
	for (unsigned i = 0; i < n; i++, carved += c->size)
		out[i] = (struct object *)(void *)(base + carved);
	pg->carved = (uint16_t)(pg->carved + n);
	atomic_store_explicit(&pg->carved_bytes, carved, memory_order_relaxed);
	return n;
}

unsigned slab_take(struct page *pg, struct object **out, unsigned n, unsigned *far)
{
	unsigned got = pg->free ? slab_take_freed(pg, out, n, far) : 0;
	unsigned freed = got;

	if (!*far)
		return got;
	if (got < n && slab_in_holes(pg))
		got += holes_take(pg, out + got, n - got);
	if (got < n)
		got += carve(pg, out + got, n - got);
	pg->used = (int16_t)(pg->used + (int)(got - freed));
	return got;
}

unsigned slab_collect_to(struct page *pg, uint64_t flags)
{
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);
	struct object *first;
	struct object *last;
	unsigned n;

	SHARE_COUNT(slab_state);
	/* Acquire pairs with the release CAS in slab_free_remote; release, for the owner that was
	 * set before, with its acquire side. */
	while (!atomic_compare_exchange_weak_explicit(&pg->state, &s, flags, memory_order_acq_rel,
						      memory_order_relaxed))
		;
	n = state_count(s);
	if (!n)
		return 0;
	DELAY_HERE(slab_collect);
	if (unlikely((int)n > pg->used))
		sluice_fatal("object freed twice (by another thread): address %p, size class %u "
			     "(%u bytes)",
			     (void *)state_list(s), pg->cls, (unsigned)class_size(pg->cls));
	first = state_list(s);
	/* The objects are in other processors' caches: walk them only if there is need. */
	if (pg->free) {
		last = first;
		for (unsigned i = 1; i < n; i++) {
			struct object *next = slab_next(pg, last);

			if (unlikely(!next))
				slab_bad_count(pg, last);
			last = next;
		}
		if (unlikely(slab_next(pg, last) != NULL))
			slab_bad_count(pg, last);
		link_set(last, pg->free);
	}
	pg->free = first;
	pg->used = (int16_t)(pg->used - (int)n);
	return n;
}

/* ---- any thread -------------------------------------------------------------------------- */

enum slab_remote slab_free_remote(struct page *pg, struct object *first, struct object *last,
				  unsigned n)
{
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);
	unsigned cls = pg->cls; /* before the free: afterwards it may be another slab */
	uint64_t to;

	stat_add(STAT_frees_remote, n);
	DELAY_HERE(slab_remote);
	SHARE_COUNT(slab_state);
	do {
		if (unlikely(!(s & STATE_OWN_MASK) || first == state_list(s)))
			sluice_fatal("object freed twice: address %p, size class %u (%u bytes)",
				     (void *)first, pg->cls, (unsigned)class_size(pg->cls));
		link_set(last, state_list(s));
		to = (uint64_t)(uintptr_t)first | (s & STATE_FLAGS) |
		     ((uint64_t)(state_count(s) + n) << STATE_COUNT_SHIFT);
		if ((s & STATE_FLAGS) == STATE_OWNED)
			to |= STATE_POSTED;
		/* Release pairs with the acquire CAS in slab_collect_to. Acquire, for the
		 * poster's reading of owner, with the release CAS that made it OWNED. */
	} while (!atomic_compare_exchange_weak_explicit(&pg->state, &s, to, memory_order_acq_rel,
							memory_order_relaxed));
	if ((s & STATE_OWN_MASK) == STATE_ABANDONED) {
		SHARE_COUNT(pool_freed);
		/* Release pairs with the acquire load where a walk begins. */
		atomic_fetch_add_explicit(&pools[cls].freed, 1, memory_order_release);
		return SLAB_ADOPT;
	}
	if (!(to & ~s & STATE_POSTED))
		return SLAB_PUT;
	DELAY_HERE(slab_posting);
	return SLAB_POST;
}

/* ---- abandoned slabs --------------------------------------------------------------------- */

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

/* With the pool's lock; by no step that is atomic as a whole. */
static void count_add(_Atomic uint64_t *count, uint64_t n)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
			      memory_order_relaxed);
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
	count_add(&pool->count, 1);
	if (!slab_has_room(pg) && !remote) {
		page_list_add_tail(&pool->full, pg, LIST_POOL_FULL);
	} else if ((how == SLAB_LOOKED_AT && !remote) ||
		   !may_have_hole(pg, pg->used - (int)remote)) {
		page_list_add_tail(&pool->room, pg, LIST_POOL_ROOM);
	} else {
		count_add(&pool->count_new, 1);
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
	struct page *head = atomic_load_explicit(&pool->waiting, memory_order_relaxed);

	SHARE_COUNT(pool_waiting);
	do {
		pg->stack_next = head;
		/* Release pairs with the acquire exchange in late_work. */
	} while (!atomic_compare_exchange_weak_explicit(&pool->waiting, &head, pg,
							memory_order_release,
							memory_order_relaxed));
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
		pool->late = atomic_exchange_explicit(&pool->waiting, NULL, memory_order_acquire);
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
			atomic_fetch_add_explicit(&pool->freed, 1, memory_order_release);
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
		count_add(&pool->count_new, UINT64_MAX);
	page_list_del(tag == LIST_POOL_NEW    ? &pool->fresh
		      : tag == LIST_POOL_ROOM ? &pool->room
					      : &pool->full,
		      pg, tag);
	count_add(&pool->count, UINT64_MAX);
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

struct page *slab_pool_take_new(unsigned cls, bool all)
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
	uint64_t freed = atomic_load_explicit(&pool->freed, memory_order_relaxed);

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
			pool->walk_freed = atomic_load_explicit(&pool->freed, memory_order_acquire);
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

void slab_check(struct page *pg)
{
	const struct size_class *c = &size_classes[pg->cls];
	unsigned n = 0;

	uint64_t base = mark_base(pg);

	CHECK(page_kind(pg) == PAGE_SLAB && pg->cls < CLASSES);
	CHECK(pg->carved <= c->objects && slab_carved_bytes(pg) == pg->carved * c->size);
	for (struct object *o = pg->free; o; o = slab_next(pg, o)) {
		size_t off = (size_t)((char *)o - page_address(pg));

		CHECK(off < slab_carved_bytes(pg) && off % c->size == 0 && n < pg->carved);
		CHECK(!holes_has(pg, off) && mark_is_set(o, base));
		n++;
	}
	CHECK(pg->used >= 0 && (unsigned)pg->used + n + slab_in_holes(pg) == pg->carved);
	holes_check(pg);
	CHECK((int)state_count(atomic_load_explicit(&pg->state, memory_order_relaxed)) <= pg->used);
}
