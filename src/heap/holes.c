/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holes.c - see holes.h: finding the units of a slab without live objects, purging them, and
 * carving them again.
 * Used by slab (taking objects), slab_pool (punching), heap_slabs (checks), info and limits; uses
 * freelist, vm.
 *
 * (A) Among the objects below pg->carved, exactly those are "in holes" that lie at least partly on
 *     a hole, and those from open to open_end - 1. pg->in_holes is their number. (holes_check)
 * (B) A hole holds no byte of an object that is live or on the free list. Objects in cache bins, in
 *     outboxes and on remote lists count as live. (holes_check)
 * (C) Units from max(tail, first unit without a carved byte) on cost no memory. Holes lie below.
 * (D) While units of a slab are purged, the slab is in limbo: no thread finds it before the kernel
 *     is done, so no unit is carved while it is purged. Frees put objects on its remote list
 *     meanwhile. (t/model/holes.pml)
 * (E) A unit that the kernel refuses to take stays carved.
 *
 * Takes no lock.
 * Bound: holes_punch_slab, OBJECTS_MAX objects and PURGES_MAX system calls; holes_take, as many
 * objects as asked for, of as many holes.
 * Fork: the child of a fork loses one slab for each thread that is in holes_punch_slab; the live
 * objects of that slab stay usable.
 * Allocates nothing. May run in a signal handler: holes_take in the heap that serves it,
 * holes_punch_slab with a slab that nobody else has.
 * Source: giving back parts of a size-class run is the aim of Redis's active defragmentation, here
 * without moving anything, and of Mesh (Powers et al. 2019), here without its second mapping.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/holes.h"

#include "base/check.h"
#include "base/delay.h"
#include "base/stats.h"
#include "heap/freelist.h"
#include "os/vm.h"
#include "page/pagemap.h"
#include "page/thp.h"

#define OBJECTS_MAX 2048u
#define PURGES_MAX 32u /* every other unit of 64 */

#define SIZECLASS(size, pages)                                                                     \
	_Static_assert((pages) >= 2 && (pages)*PG_BYTES / HOLE_BYTES <= 64,                        \
		       "a slab of " #size " bytes has a second page, and a bit for each unit");    \
	_Static_assert((pages)*PG_BYTES / (size) <= OBJECTS_MAX, "a slab of " #size " bytes");
#include "heap/sizeclass.def"
#undef SIZECLASS

/* The set of the free objects of a slab. */
struct object_map {
	uint64_t word[OBJECTS_MAX / 64];
};

static inline bool map_has(const struct object_map *m, unsigned i)
{
	return m->word[i / 64] >> (i % 64) & 1;
}

static inline void map_set(struct object_map *m, unsigned i)
{
	m->word[i / 64] |= UINT64_C(1) << (i % 64);
}

static unsigned units_of_class(unsigned cls)
{
	return (unsigned)(size_classes[cls].pages * (PG_BYTES / HOLE_BYTES));
}

/* Units from u on; u may be 64. */
static uint64_t units_from(unsigned u)
{
	return u < 64 ? ~UINT64_C(0) << u : 0;
}

static uint64_t object_units(unsigned cls, unsigned i)
{
	size_t at = (size_t)i * class_size(cls);

	return hole_units(at, at + class_size(cls));
}

/* The first and the last object on unit u. */
static unsigned first_object(unsigned cls, unsigned u)
{
	return class_index(cls, (size_t)u << HOLE_SHIFT);
}

static unsigned last_object(unsigned cls, unsigned u)
{
	return class_index(cls, (((size_t)u + 1) << HOLE_SHIFT) - 1);
}

enum { OS_WHOLE, OS_TOUCHED };

/* The units of the kernel's pages that `units` cover as a whole (OS_WHOLE) or touch (OS_TOUCHED).
 * Leaves out pages that the slab shares with its neighbours. */
static uint64_t os_pages(struct page *pg, uint64_t units, int which)
{
	size_t each = vm_os_page >> HOLE_SHIFT;
	uintptr_t at = (uintptr_t)page_address(pg) >> HOLE_SHIFT;
	uint64_t found = 0;

	if (each == 1)
		return units;
	for (size_t u = align_up(at, each) - at; u + each <= 64; u += each) {
		uint64_t mask = hole_units(u << HOLE_SHIFT, (u + each) << HOLE_SHIFT);

		if (which == OS_WHOLE ? (units & mask) == mask : (units & mask) != 0)
			found |= mask;
	}
	return found;
}

/* The first of the units that cost no memory up to the slab's end; may lie beyond the end. */
static unsigned tail_begin(struct page *pg)
{
	uintptr_t base = (uintptr_t)page_address(pg);
	uintptr_t carved = align_up(base + slab_carved_bytes(pg), vm_os_page) - base;
	unsigned tail = atomic_load_explicit(&slab_holes(pg)->tail, memory_order_relaxed);

	return carved >> HOLE_SHIFT > tail ? (unsigned)(carved >> HOLE_SHIFT) : tail;
}

static _Atomic uint64_t holes_now; /* holes of all slabs, without the units at slabs' ends */

static uint64_t units_load(struct page *pg)
{
	return atomic_load_explicit(&slab_holes(pg)->units, memory_order_relaxed);
}

void holes_init(struct page *pg, unsigned cls, bool zero)
{
	struct slab_holes *h = slab_holes(pg);

	atomic_store_explicit(&h->units, 0, memory_order_relaxed);
	atomic_store_explicit(&h->tail, (uint8_t)(zero ? 0 : units_of_class(cls)),
			      memory_order_relaxed);
	h->open = 0;
	h->open_end = 0;
	h->epoch = 0;
}

/* The caller holds the slab. */
static void units_store(struct page *pg, uint64_t units)
{
	int more = __builtin_popcountll(units) - __builtin_popcountll(units_load(pg));

	if (more) {
		SHARE_COUNT(holes_now);
		atomic_fetch_add_explicit(&holes_now, (uint64_t)(int64_t)more,
					  memory_order_relaxed);
	}
	atomic_store_explicit(&slab_holes(pg)->units, units, memory_order_relaxed);
}

void holes_end(struct page *pg)
{
	units_store(pg, 0);
}

uint64_t holes_bytes_all(void)
{
	return atomic_load_explicit(&holes_now, memory_order_relaxed) << HOLE_SHIFT;
}

size_t holes_bytes(struct page *pg)
{
	unsigned tail = tail_begin(pg);
	unsigned units = units_of_class(pg->cls);
	unsigned n = (unsigned)__builtin_popcountll(units_load(pg));

	return (n + (tail < units ? units - tail : 0)) << HOLE_SHIFT;
}

uint64_t holes_units_kept(struct page *pg)
{
	unsigned tail = tail_begin(pg);
	unsigned units = units_of_class(pg->cls);

	return ~(units_load(pg) | units_from(tail < units ? tail : units));
}

/* ---- carving again ----------------------------------------------------------------------- */

/* Open the lowest hole, and the other holes that its first object lies on: these units are no
 * longer holes, and the objects that lie on no other hole may be carved, from open to open_end -
 * 1. */
static bool open_hole(struct page *pg)
{
	struct slab_holes *h = slab_holes(pg);
	uint64_t units = units_load(pg);
	uint64_t opened;
	unsigned first;
	unsigned last;

	if (!units)
		return false;
	first = first_object(pg->cls, (unsigned)__builtin_ctzll(units));
	opened = units & os_pages(pg, object_units(pg->cls, first), OS_TOUCHED);
	units &= ~opened;
	last = last_object(pg->cls, 63 - (unsigned)__builtin_clzll(opened));
	if (units & object_units(pg->cls, last))
		last--;
	units_store(pg, units);
	h->open = (uint16_t)first;
	h->open_end = (uint16_t)(last + 1);
	stat_add(STAT_holes_reused, (unsigned)__builtin_popcountll(opened));
	return true;
}

unsigned holes_take(struct page *pg, struct object **end, unsigned n)
{
	struct slab_holes *h = slab_holes(pg);
	char *base = page_address(pg);
	unsigned got = 0;

	while (got < n && (h->open < h->open_end || open_hole(pg))) {
		for (; got < n && h->open < h->open_end; h->open++)
			*(end -
			  ++got) = (struct object *)(void *)(base +
							     (size_t)h->open * class_size(pg->cls));
	}
	atomic_store_explicit(&pg->in_holes, (uint16_t)(slab_in_holes(pg) - got),
			      memory_order_relaxed);
	return got;
}

/* ---- punching ---------------------------------------------------------------------------- */

static void map_in_holes(struct page *pg, struct object_map *m)
{
	struct slab_holes *h = slab_holes(pg);

	for (unsigned i = h->open; i < h->open_end; i++)
		map_set(m, i);
	for (uint64_t units = units_load(pg); units; units &= units - 1) {
		unsigned u = (unsigned)__builtin_ctzll(units);

		for (unsigned i = first_object(pg->cls, u); i <= last_object(pg->cls, u); i++)
			map_set(m, i);
	}
}

/* The objects below pg->carved that are free: in holes or on the free list. */
static void map_free(struct page *pg, struct object_map *m)
{
	uint64_t base = mark_base(pg);
	unsigned n = slab_in_holes(pg);

	map_in_holes(pg, m);
	for (struct object *o = slab_held(pg)->free, *next; o; o = next, n++) {
		size_t off = (size_t)((char *)o - page_address(pg));

		if (unlikely(!class_divides(pg->cls, off) || map_has(m, class_index(pg->cls, off))))
			freelist_bad_count(pg, o);
		next = freelist_next(pg, o);
		/* give_up writes it again, or the object goes to the kernel. */
		if (unlikely(!mark_is_set(o, base)))
			freelist_bad_mark(pg, o);
		map_set(m, class_index(pg->cls, off));
	}
	CHECK((unsigned)slab_held(pg)->used + n == slab_held(pg)->carved);
}

/* The units that objects lie on that are not free. */
static uint64_t live_units(const struct page *pg, const struct object_map *m)
{
	uint64_t live = 0;

	for (unsigned at = 0; at < slab_held(pg)->carved; at += 64) {
		uint64_t word = ~m->word[at / 64];

		for (; word; word &= word - 1) {
			unsigned i = at + (unsigned)__builtin_ctzll(word);

			if (i < slab_held(pg)->carved)
				live |= object_units(pg->cls, i);
		}
	}
	return live;
}

/* Give units back to the kernel, each stretch by one call. Returns the units that it took. */
static uint64_t purge_units(struct page *pg, uint64_t units)
{
	uint64_t done = 0;
	unsigned calls = 0;

	while (units) {
		unsigned first = (unsigned)__builtin_ctzll(units);
		uint64_t rest = ~(units >> first);
		unsigned n = rest ? (unsigned)__builtin_ctzll(rest) : 64;
		uint64_t mask = hole_units((size_t)first << HOLE_SHIFT, (size_t)(first + n)
										<< HOLE_SHIFT);

		DCHECK(++calls <= PURGES_MAX);
		if (thp_purge(page_address(pg) + ((size_t)first << HOLE_SHIFT),
			      (size_t)n << HOLE_SHIFT))
			done |= mask;
		units &= ~mask;
	}
	return done;
}

/* Clear link and mark of an object that leaves the free list, so that it has none when it is carved
 * again: a hardened process expects zeros. If they lie on a purged unit, they are gone already. */
static void clear_kept(struct page *pg, unsigned i, uint64_t gone)
{
	size_t at = (size_t)i * class_size(pg->cls);

	if (!(hole_units(at, at + sizeof(struct object)) & gone))
		memset(page_address(pg) + at, 0, sizeof(struct object));
}

/* `empty` are the units that cost no memory now: take the objects on them off the free list. Units
 * up to the slab's end become not carved; the others become holes. */
static void give_up(struct page *pg, uint64_t empty, const struct object_map *m)
{
	struct slab_held *held = slab_held(pg);
	struct slab_holes *h = slab_holes(pg);
	char *base = page_address(pg);
	unsigned tail = units_of_class(pg->cls);
	unsigned in_holes = 0;
	uint64_t base_mark = mark_base(pg);
	uint32_t carved_bytes;
	uint64_t holes;

	while (tail && (empty >> (tail - 1) & 1))
		tail--;
	holes = empty & ~units_from(tail);
	if (first_object(pg->cls, tail) < held->carved) {
		held->carved = (uint16_t)first_object(pg->cls, tail);
		clear_kept(pg, held->carved, units_from(tail));
	}
	carved_bytes = (uint32_t)(held->carved * class_size(pg->cls));
	slab_set_carved(pg, carved_bytes);
	/* The object that the tail begins in is no longer carved. If the kernel refused a unit of
	 * it, a hole may remain that only this object lies on; it is no hole then, see (C). */
	holes &= ~units_from(carved_bytes >> HOLE_SHIFT);
	held->free = NULL;
	for (unsigned i = held->carved; i-- > 0;) {
		struct object *o = (struct object *)(void *)(base + i * class_size(pg->cls));

		if (!map_has(m, i))
			continue;
		if (object_units(pg->cls, i) & holes) {
			in_holes++;
			clear_kept(pg, i, holes);
		} else {
			link_set(o, held->free);
			mark_set(o, base_mark);
			held->free = o;
		}
	}
	h->open = 0;
	h->open_end = 0;
	h->fence = 0;
	atomic_store_explicit(&h->tail, (uint8_t)tail, memory_order_relaxed);
	units_store(pg, holes);
	atomic_store_explicit(&pg->in_holes, (uint16_t)in_holes, memory_order_relaxed);
}

uint64_t holes_punch_slab(struct page *pg)
{
	struct object_map m = { { 0 } };
	unsigned units = units_of_class(pg->cls);
	uint64_t empty = units_load(pg) | units_from(tail_begin(pg));
	uint64_t may;
	uint64_t todo;
	uint64_t done;

	DELAY_HERE(holes_limbo);
	map_free(pg, &m);
	may = os_pages(pg, ~live_units(pg, &m) & ~units_from(units), OS_WHOLE);
	todo = may & ~empty;
	if (!todo)
		return 0;
	DELAY_HERE(holes_carve);
	/* A refused stretch may be gone in part, with links of the free list: give_up writes all of
	 * them again. */
	done = purge_units(pg, os_pages(pg, todo, OS_TOUCHED));
	DELAY_HERE(holes_purged);
	give_up(pg, (empty & may) | done, &m);
	return (uint64_t)__builtin_popcountll(done & todo) << HOLE_SHIFT;
}

void holes_check(struct page *pg)
{
	struct slab_holes *h = slab_holes(pg);
	struct object_map m = { { 0 } };
	uint64_t units = units_load(pg);
	unsigned n = 0;

	map_in_holes(pg, &m);
	for (unsigned i = 0; i < OBJECTS_MAX; i++)
		n += map_has(&m, i);
	CHECK(n == slab_in_holes(pg) && h->open <= h->open_end &&
	      h->open_end <= slab_held(pg)->carved);
	CHECK(!(units & units_from(tail_begin(pg))));
}
