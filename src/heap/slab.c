/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab.c - size-class objects carved out of runs, and remote frees; see slab.h.
 * Used by slab_pool, outbox, heap_slabs, heap and info; uses holes, freelist and the primitives.
 *
 * (A) carved == used + length of free + in_holes. `used` counts the objects that the program holds,
 *     those in cache bins and outboxes of heaps, and those on the remote list. (slab_check)
 * (B) The remote list, its length and the slab's ownership change together, by CAS on one word. If
 *     a remote free finds the slab OWNED, the thread that abandons the slab afterwards sees the
 *     freed object. If it finds the slab ABANDONED, the freeing thread knows that it should adopt
 *     it. There is no third outcome.
 * (C) Only the thread that set POSTED puts the slab into an inbox, and only the thread that takes
 *     the inbox clears POSTED. So a slab is in at most one inbox, once, and keeps its owner
 *     meanwhile. While a slab is POSTED, an object is on its remote list, so the slab is not empty
 *     and is not given back.
 *
 * Pairing: the release CAS in slab_free_remote (the links of the freed objects) with the acquire
 * CAS in slab_collect_to.
 * Takes no lock and allocates nothing. A CAS fails only because another thread's succeeded.
 * Bound: slab_take, one hole or one carving, and as many objects as asked for; slab_free_remote and
 * slab_collect_to, one CAS.
 * Signal handlers may push on a remote list at any time. Fork: see fork.c.
 *
 * Source: the free list of a page as in mimalloc (Leijen 2019), remote lists as in snmalloc's
 * message passing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/slab.h"

#include "base/check.h"
#include "base/delay.h"
#include "base/stats.h"
#include "heap/livebits.h"
#include "page/pcp.h"

/* used and wake of a slab are 16 bits wide, its state word names objects by their places, and its
 * run must fit a pcp. */
#define SIZECLASS(size, pages)                                                                     \
	_Static_assert((pages)*PG_BYTES / (size) <= 4096 && (pages) <= PCP_RUN_MAX &&              \
			       (pages)*PG_BYTES / ALIGN_MIN <= STATE_PLACES,                       \
		       "a slab of " #size " bytes");                                               \
	_Static_assert((size) % ALIGN_MIN == 0, "objects are aligned");
#include "heap/sizeclass.def"
#undef SIZECLASS

struct slab_frees slab_abandoned_frees[CLASSES];
uint32_t slab_note;
void (*slab_ends)(struct page *pg);

/* ---- the caller holds the slab ------------------------------------------------------------- */

/* A number that no earlier slab in the same place had. Call after the new slab was counted. */
static uint32_t next_serial(void)
{
	uint32_t shard = stat_shard_self - 1;

	return (uint32_t)(atomic_load_explicit(&stat_shards[shard].count[STAT_slabs_made],
					       memory_order_relaxed) *
				  STAT_SHARDS +
			  shard);
}

void slab_make(struct page *pg, unsigned cls)
{
	struct slab_held *held = slab_held(pg);
	DCHECK(page_kind(pg) == PAGE_LIMBO && pg->npages == size_classes[cls].pages);
	page_set_heads(pg, size_classes[cls].pages, cls * CLASS_SCALE + slab_note);
	held->free = NULL;
	held->used = 0;
	held->wake = 0;
	held->carved = 0;
	atomic_store_explicit(&pg->in_holes, 0, memory_order_relaxed);
	holes_init(pg, cls, pg->backing == BACKING_CLEAN);
	live_forget(pg, size_classes[cls].pages, class_size(cls));
	slab_set_carved(pg, 0);
	pg->cls = (uint8_t)cls;
	pg->list = LIST_NONE;
	pg->backing = BACKING_DIRTY;
	pg->stack_next = NULL;
	atomic_store_explicit(&pg->owner, NULL, memory_order_relaxed);
	atomic_store_explicit(&pg->state, STATE_LIMBO, memory_order_relaxed);
	page_set_kind(pg, PAGE_SLAB);
	stat_add(STAT_slabs_made, 1);
	pg->mark = mark_number(next_serial());
	slab_holes(pg)->fence = 0;
}

void slab_unmake(struct page *pg)
{
	unsigned cls = pg->cls;

	CHECK(slab_held(pg)->used == 0);
	if (unlikely(slab_ends != NULL))
		slab_ends(pg);
	holes_end(pg);
	atomic_store_explicit(&pg->owner, NULL, memory_order_relaxed);
	atomic_store_explicit(&pg->state, 0, memory_order_relaxed);
	page_set_kind(pg, PAGE_LIMBO);
	slab_held(pg)->free = NULL;
	slab_set_carved(pg, 0);
	pg->npages = size_classes[cls].pages;
	pg->backing = BACKING_DIRTY;
	stat_add(STAT_slabs_freed, 1);
}

/* Carving writes nothing, so memory that is not handed out stays untouched. */
static unsigned carve(struct page *pg, struct object **end, unsigned n)
{
	struct slab_held *held = slab_held(pg);
	const struct size_class *c = &size_classes[pg->cls];
	unsigned left = (unsigned)(c->objects - held->carved);
	uint32_t carved = slab_carved_bytes(pg);
	char *next = page_address(pg) + carved;
	size_t size = c->size;

	if (n > left)
		n = left;
	for (struct object **at = end - n; end != at; next += size)
		*--end = (struct object *)(void *)next;
	held->carved = (uint16_t)(held->carved + n);
	slab_set_carved(pg, carved + n * c->size);
	return n;
}

/* The first object that is not carved, if one is left. */
static struct object *uncarved(const struct page *pg)
{
	if (slab_held(pg)->carved == size_classes[pg->cls].objects)
		return NULL;
	return (struct object *)(void *)(page_address(pg) + slab_carved_bytes(pg));
}

static void slab_fence(struct page *pg)
{
	struct object *end = uncarved(pg);

	if (!end)
		return;
	link_set(end, NULL);
	slab_holes(pg)->fence = slab_held(pg)->carved;
}

unsigned slab_fence_fits(const struct page *pg, unsigned n)
{
	unsigned left = FENCE_PAGE - slab_carved_bytes(pg) % FENCE_PAGE;
	unsigned fit = (left - 1) / (unsigned)class_size(pg->cls);

	if (slab_held(pg)->free || slab_in_holes(pg) || n <= fit)
		return n;
	return fit ? fit : 1;
}

/* The program gets the last of the objects now: others than freed ones have no links. */
void slab_fence_refill(struct page *current, struct object **o, unsigned n)
{
	for (unsigned i = 0; i + 1 < n; i++)
		link_set(o[i], NULL);
	if (current)
		slab_fence(current);
}

void slab_fence_check(const struct page *pg, const struct object *behind)
{
	uintptr_t next = (uintptr_t)link_get(behind);
	size_t bytes = (size_t)size_classes[pg->cls].pages << PG_SHIFT;

	/* One that was on the slab's list has a link of then; less may be carved since. */
	if (class_size(pg->cls) > FENCE_OBJECT || !next)
		return;
	if (unlikely(next - (uintptr_t)page_address(pg) >= bytes))
		sluice_fatal("object written to beyond its end: address %p, size class %u "
			     "(%u bytes)",
			     (void *)((uintptr_t)behind - class_size(pg->cls)), pg->cls,
			     (unsigned)class_size(pg->cls));
}

void slab_fence_check_end(struct page *pg)
{
	const struct object *end = uncarved(pg);

	if (end && slab_held(pg)->carved && slab_holes(pg)->fence == slab_held(pg)->carved)
		slab_fence_check(pg, end);
}

unsigned slab_take(struct page *pg, struct object **end, unsigned n, bool near)
{
	unsigned got = 0;
	unsigned freed;

	if (slab_held(pg)->free) {
		slab_prefetch(pg);
		if (near)
			return slab_take_freed(pg, end, n, true);
		got = slab_take_freed(pg, end, n, false);
	}
	freed = got;
	if (got < n && slab_in_holes(pg))
		got += holes_take(pg, end - got, n - got);
	if (got < n)
		got += carve(pg, end - got, n - got);
	slab_held(pg)->used = (int16_t)(slab_held(pg)->used + (int)(got - freed));
	return got;
}

/* The object whose place in the slab stands at that bit of a state word. */
static inline struct object *state_object(const struct page *pg, uint64_t s, unsigned shift)
{
	return (struct object *)(void *)(page_address(pg) +
					 (s >> shift & (STATE_PLACES - 1)) * ALIGN_MIN);
}

static inline uint64_t state_place(const struct page *pg, const struct object *o, unsigned shift)
{
	return (uint64_t)((uintptr_t)o - (uintptr_t)page_address(pg)) / ALIGN_MIN << shift;
}

/* Links the last object of the remote list to the slab's own list. If it was freed a second time
 * while it was on the remote list, its link leads on. */
static inline void join(const struct page *pg, struct object *last)
{
	if (unlikely(link_get(last)))
		freelist_bad_link(pg, last);
	link_set(last, slab_held(pg)->free);
}

unsigned slab_collect_to(struct page *pg, uint64_t flags)
{
	struct slab_held *held = slab_held(pg);
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);
	unsigned n;

	SHARE_COUNT(slab_state);
	/* Acquire pairs with the release side of the CAS in slab_free_remote. Release publishes the
	 * owner, which was set before, to the acquire side of that CAS. */
	while (!atomic_compare_exchange_weak_explicit(&pg->state, &s, flags, memory_order_acq_rel,
						      memory_order_relaxed))
		;
	n = state_count(s);
	if (!n)
		return 0;
	DELAY_HERE(slab_collect);
	if (unlikely((int)n > held->used))
		sluice_fatal("object freed twice (by another thread): address %p, size class %u "
			     "(%u bytes)",
			     (void *)state_object(pg, s, STATE_FIRST_SHIFT), pg->cls,
			     (unsigned)class_size(pg->cls));
	if (held->free)
		join(pg, state_object(pg, s, STATE_LAST_SHIFT));
	held->free = state_object(pg, s, STATE_FIRST_SHIFT);
	held->used = (int16_t)(held->used - (int)n);
	return n;
}

/* ---- any thread -------------------------------------------------------------------------- */

enum slab_remote slab_free_remote(struct page *pg, struct object *first, struct object *last,
				  unsigned n)
{
	uint64_t s = atomic_load_explicit(&pg->state, memory_order_relaxed);
	unsigned cls = pg->cls; /* read before the free: afterwards pg may be another slab */
	uint64_t place = state_place(pg, first, STATE_FIRST_SHIFT);
	uint64_t end = state_place(pg, last, STATE_LAST_SHIFT);
	uint64_t to;

	stat_add(STAT_frees_remote, n);
	DELAY_HERE(slab_remote);
	SHARE_COUNT(slab_state);
	do {
		struct object *next = state_count(s) ? state_object(pg, s, STATE_FIRST_SHIFT)
						     : NULL;

		if (unlikely(!(s & STATE_OWN_MASK) || first == next))
			freelist_freed_twice(pg, first);
		link_set(last, next);
		to = place | (next ? s & (STATE_PLACES - 1) << STATE_LAST_SHIFT : end) |
		     (s & STATE_FLAGS) | (uint64_t)(state_count(s) + n) << STATE_COUNT_SHIFT;
		if ((s & STATE_FLAGS) == STATE_OWNED)
			to |= STATE_POSTED;
		/* Release pairs with the acquire CAS in slab_collect_to. Acquire pairs with the
		 * release CAS that made the slab OWNED, because a poster reads owner next. */
	} while (!atomic_compare_exchange_weak_explicit(&pg->state, &s, to, memory_order_acq_rel,
							memory_order_relaxed));
	if ((s & STATE_OWN_MASK) == STATE_ABANDONED) {
		SHARE_COUNT(pool_freed);
		/* Release pairs with the acquire load in slab_pool_take_empty. */
		atomic_fetch_add_explicit(&slab_abandoned_frees[cls].count, 1,
					  memory_order_release);
		return SLAB_ADOPT;
	}
	if (!(to & ~s & STATE_POSTED))
		return SLAB_PUT;
	DELAY_HERE(slab_posting);
	return SLAB_POST;
}

void slab_check(struct page *pg)
{
	struct slab_held *held = slab_held(pg);
	const struct size_class *c = &size_classes[pg->cls];
	unsigned n = 0;

	uint64_t base = mark_base(pg);

	CHECK(page_kind(pg) == PAGE_SLAB && pg->cls < CLASSES);
	CHECK(held->carved <= c->objects && slab_carved_bytes(pg) == held->carved * c->size);
	for (struct object *o = held->free; o; o = freelist_next(pg, o)) {
		size_t off = (size_t)((char *)o - page_address(pg));

		CHECK(off < slab_carved_bytes(pg) && off % c->size == 0 && n < held->carved);
		CHECK(!holes_has(pg, off) && mark_is_set(o, base));
		n++;
	}
	CHECK(held->used >= 0 && (unsigned)held->used + n + slab_in_holes(pg) == held->carved);
	holes_check(pg);
	CHECK((int)state_count(atomic_load_explicit(&pg->state, memory_order_relaxed)) <=
	      held->used);
}
