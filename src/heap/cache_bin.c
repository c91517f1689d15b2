/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache_bin.c - how much room the cache bins of a heap have.
 * Used by heap_slabs, trim, heap_thread (heap_init_bins), drain and limits (the room of all bins);
 * uses sizeclass, large, meta.
 *
 * (A) A bin begins without room and doubles it each time it is full or empty, up to its capacity. A
 *     drain takes its room away again, and so do ageing steps, so that a cache starts small after
 *     them.
 * (B) A bin of a small class has more room than its capacity only if its thread has freed and
 *     allocated many more objects than that in turn (bin_spills), since its last drain. So what one
 *     large teardown frees returns to the slabs, where a second free is noticed.
 *
 * The caller is in the heap's critical section, or has claimed it, or (fallback heap) holds its
 * lock.
 * Bound: a move to a longer row copies BIN_MIDDLE pointers at most; a bin becomes wide in its row.
 * No lock. The first bin that needs a longer row allocates all of them (meta).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/cache_bin.h"

#include <string.h>

#include "base/check.h"
#include "base/options.h"
#include "base/share.h"
#include "heap/quarantine_types.h"
#include "page/meta.h"
#include "page/pagemap.h"

#define BIN_START 2u

const uint16_t bin_capacities[CLASSES] = {
#define SIZECLASS(size, pages) (uint16_t) BIN_CAPACITY(size),
#include "heap/sizeclass.def"
#undef SIZECLASS
};

const uint16_t bin_wide_capacities[CLASSES] = {
#define SIZECLASS(size, pages) (uint16_t) BIN_WIDE_CAPACITY(size),
#include "heap/sizeclass.def"
#undef SIZECLASS
};

/* The row that the bin begins with. */
static inline uint16_t bin_first_row(unsigned bin)
{
	static const uint16_t first[CLASSES] = {
#define SIZECLASS(size, pages)                                                                     \
	(uint16_t)(offsetof(struct bin_rows, of_##size) / sizeof(struct object *)),
#include "heap/sizeclass.def"
#undef SIZECLASS
	};

	if (bin < CLASSES)
		return first[bin];
	return (uint16_t)(offsetof(struct bin_rows, large) / sizeof(struct object *) +
			  (bin - CLASSES) * (LARGE_BIN_MAX + 1));
}

static inline void bin_set_limit(struct heap *h, unsigned bin, unsigned room)
{
	h->bin[bin].limit = (uint32_t)(uintptr_t)(bin_bottom(h, bin) + room);
}

bool heap_sampling;
bool heap_slow_only;
uint16_t heap_bins_from;
_Atomic bool heap_bins_known;

/* Without room, as its bin. */
static void returned_begin(struct heap *h, unsigned cls)
{
	struct sampling *s = sampling_of(h);
	struct cache_bin *b = &s->returned[cls];

	b->top = s->places[cls];
	b->limit = (uint32_t)(uintptr_t)b->top;
	b->divisor = size_classes[cls].inverse;
}

_Atomic uint64_t heap_bins_bytes;
_Atomic uint64_t heap_bins_most = UINT64_MAX;
static bool bins_counted; /* heap_bins_count_from */

/* Bytes of n objects of the bin. */
uint64_t bin_bytes(unsigned bin, unsigned n)
{
	size_t each = bin < CLASSES ? class_size(bin)
				    : (size_t)run_class_pages[bin - CLASSES] << PG_SHIFT;

	return (uint64_t)n * each;
}

/* All threads write this one line, so it is kept only where a limit needs it. */
static inline void bins_count(uint64_t more)
{
	if (likely(!bins_counted))
		return;
	SHARE_COUNT(heap_bins);
	atomic_fetch_add_explicit(&heap_bins_bytes, more, memory_order_relaxed);
}

/* What the longer row of a hardened heap's class has places for beyond the first ones; 0 where it
 * has none. */
static uint64_t hidden_more_bytes(const struct heap *h, unsigned bin)
{
	if (likely(!heap_slow_only) || bin >= CLASSES || !(h->bin_bottom[bin] & BIN_IN_ROWS))
		return 0;
	return bin_bytes(bin, hidden_most(bin) - hidden_first(bin));
}

/* The slots are zero, and no bottom is ever written. */
void bin_begin(struct heap *h, unsigned bin)
{
	uint64_t more = hidden_more_bytes(h, bin);

	if (unlikely(more))
		bins_count(0 - more);
	h->bin_bottom[bin] = (uint16_t)(bin_first_row(bin) + heap_bins_from);
	h->bin[bin].top = bin_bottom(h, bin);
	bin_set_limit(h, bin, 0);
	if (unlikely(heap_slow_only)) {
		h->hidden[bin] = 0;
		h->hidden_room[bin] = (uint8_t)min_size(bin_capacity(bin), BIN_SMALL);
	} else if (bin < WIDE_CLASSES) {
		h->spills[bin] = 0;
		h->turns[bin] = 0;
	}
	if (unlikely(heap_sampling) && bin < CLASSES)
		returned_begin(h, bin);
}

/* Where the row of a bin with that many places begins, as in bin_bottom; the classes that have
 * longer rows come first. */
static unsigned bin_row(unsigned bin, unsigned room)
{
	static const uint16_t long_row[CLASSES] = {
#define SIZECLASS(size, pages)                                                                     \
	(uint16_t)(offsetof(struct bin_long_rows, of_##size) / sizeof(struct object *)),
#include "heap/sizeclass.def"
#undef SIZECLASS
	};

	if (room <= BIN_SMALL)
		return bin_first_row(bin) + heap_bins_from;
	if (room <= BIN_MIDDLE) {
		DCHECK(bin < BIN_MIDDLE_ROWS);
		return BIN_IN_ROWS + BIN_MIDDLE_BEGIN + bin * (BIN_MIDDLE + 1);
	}
	DCHECK(bin_capacities[bin] > BIN_MIDDLE);
	return BIN_IN_ROWS + BIN_LONG_BEGIN + long_row[bin];
}

bool bin_rows_make(struct heap *h)
{
	if (!h->rows)
		h->rows = meta_alloc(BIN_ROWS_BYTES);
	return h->rows != NULL;
}

/* To the row for that many places. The bin is in a longer one already if it had more before. */
static void bin_move(struct heap *h, unsigned cls, unsigned room)
{
	struct object **from = bin_bottom(h, cls);
	size_t n = (size_t)(h->bin[cls].top - from);

	h->bin_bottom[cls] = (uint16_t)bin_row(cls, room);
	memmove(bin_bottom(h, cls) + 1, from + 1, n * sizeof(struct object *));
	h->bin[cls].top = bin_bottom(h, cls) + n;
}

bool bin_lengthen(struct heap *h, unsigned cls, unsigned above)
{
	struct object **from = bin_bottom(h, cls) + 1;

	if (unlikely(!bin_rows_make(h)))
		return false;
	bin_move(h, cls, BIN_MIDDLE);
	bin_set_limit(h, cls, 0);
	bins_count(hidden_more_bytes(h, cls));
	memcpy(bin_bottom(h, cls) + 1, from, above * sizeof(struct object *));
	return true;
}

void heap_init_bins(struct heap *h)
{
	/* While allocations are sampled, frees come by other ways (sampler.c). */
	h->looks = options.early_checks && !heap_sampling ? HEAP_LOOKS : 0;
	for (unsigned bin = 0; bin < BINS; bin++) {
		/* Of a large object the first ALIGN_MIN bytes; malloc looks for it in the bin. */
		h->bin[bin].divisor = bin >= CLASSES ? CLASS_INVERSE(ALIGN_MIN)
				      : h->looks     ? 0
						     : size_classes[bin].inverse;
		bin_begin(h, bin);
	}
}

/* Whether o, an object of pg that the caller uses or has freed, is one that early.c keeps: (C)
 * there. Any thread. */
static bool bin_keeps(const struct object *o, const struct page *pg)
{
	const struct heap *h = atomic_load_explicit(&pg->owner, memory_order_relaxed);
	struct quarantine *q = h ? quarantine_of(h) : NULL;

	if (!q || !q->early || !atomic_load_explicit(quarantine_hash(q, o), memory_order_relaxed))
		return false;
	for (uint32_t i = 0; i <= q->mask; i++) {
		if (unlikely(quarantine_address(quarantine_at(q, i)) == o))
			return true;
	}
	return false;
}

bool bin_look(struct heap *h, unsigned cls, const struct object *o)
{
	const struct object *next = (const void *)((uintptr_t)o + class_size(cls));
	const struct object *behind = NULL;
	bool fenced = bin_is_fenced(h);

	h->looks--;
	for (unsigned i = 0; !h->looks && i < CLASSES; i++)
		h->bin[i].divisor = size_classes[i].inverse;
	for (struct object **at = h->bin[cls].top; *at; at--) {
		if (unlikely(*at == o))
			return true;
		if (*at == next)
			behind = next;
	}
	if (behind && fenced)
		slab_fence_check(page_of(behind), behind);
	return bin_keeps(o, page_of(o));
}

bool bin_would_find(struct heap *h, const struct object *o, const struct page *pg)
{
	struct object **top = h->bin[pg->cls].top;

	if (*top == o || (*top && top[-1] == o))
		return true;
	return h->looks && (mark_is_set(o, mark_base(pg)) || bin_keeps(o, pg));
}

unsigned bin_objects_now(struct heap *h, unsigned bin)
{
	uintptr_t top = (uintptr_t)__atomic_load_n(&h->bin[bin].top, __ATOMIC_RELAXED);
	uintptr_t bottom = (uintptr_t)bin_bottom(h, bin);

	return top > bottom
		       ? (unsigned)min_size((top - bottom) / sizeof(struct object *), BIN_WIDE_MAX)
		       : 0;
}

uint64_t heap_bins_room(struct heap *h)
{
	uint64_t bytes = 0;

	for (unsigned bin = 0; bin < BINS; bin++)
		bytes += bin_bytes(bin, bin_room(h, bin)) + hidden_more_bytes(h, bin);
	return bytes;
}

void heap_bins_count_from(uint64_t bytes)
{
	bins_counted = true;
	atomic_store_explicit(&heap_bins_bytes, bytes, memory_order_relaxed);
}

bool bin_grow(struct heap *h, unsigned cls)
{
	unsigned old = bin_room(h, cls);
	unsigned most = bin_most(h, cls);
	unsigned room = old * 2;

	h->idle_rounds[cls] = 0;
	if (room < BIN_START)
		room = BIN_START;
	if (room > most)
		room = most;
	if (room <= old)
		return true;
	if (old >= bin_capacity(cls) && cls < WIDE_CLASSES)
		h->turns[cls] = 0;
	if (unlikely(!bins_may_have(bin_bytes(cls, room - old))) && old)
		return false;
	if (bin_row(cls, room) != bin_row(cls, old)) {
		if (unlikely(!bin_rows_make(h)))
			return false;
		bin_move(h, cls, room);
	}
	bin_set_limit(h, cls, room);
	bins_count(bin_bytes(cls, room - old));
	return true;
}

void bin_shrink(struct heap *h, unsigned cls, unsigned n)
{
	bin_set_limit(h, cls, bin_room(h, cls) - n);
	bins_count((uint64_t)0 - bin_bytes(cls, n));
}
