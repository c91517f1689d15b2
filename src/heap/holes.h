/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holes.h - memory of a slab that goes back to the kernel while other objects of the slab are live.
 *
 * A slab consists of at most 64 units of HOLE_BYTES. Each unit is in one of these states:
 *
 *   carved      some object on it is live, in a cache bin, or on the free list: it costs memory
 *   purging     all objects on it are free, and the thread that has the slab in limbo gives it
 *               back; no other thread can find the slab meanwhile
 *   a hole      no object on it is live or on the free list: it costs no memory, and its objects
 *               are carved again when they are needed
 */
#ifndef SLUICE_HOLES_H
#define SLUICE_HOLES_H

#include "heap/sizeclass.h"
#include "types.h"

#define HOLE_SHIFT 12
#define HOLE_BYTES ((size_t)1 << HOLE_SHIFT)

static inline struct slab_holes *slab_holes(struct page *pg)
{
	return &pg[1].holes;
}

/* What is written whenever objects are taken or come back: struct slab_held. */
static always_inline struct slab_held *slab_held(const struct page *pg)
{
	return (struct slab_held *)(uintptr_t)&pg[1].held;
}

/* Number of objects below `carved` that are in holes. Exact for a thread that holds the slab. */
static inline unsigned slab_in_holes(const struct page *pg)
{
	return atomic_load_explicit(&pg->in_holes, memory_order_relaxed);
}

/* The bits of the units that bytes `from` to `to` - 1 of a slab lie on; from < to. */
static inline uint64_t hole_units(size_t from, size_t to)
{
	size_t first = from >> HOLE_SHIFT;
	size_t last = (to - 1) >> HOLE_SHIFT;

	return (~UINT64_C(0) << first) & (~UINT64_C(0) >> (63 - last));
}

/*
 * Whether the object at this offset of the slab is in a hole, so that it was not handed out since
 * the hole was made. For an object that is handed out this returns false even while other threads
 * change the slab, because no unit that a live object lies on becomes a hole.
 */
static inline bool holes_has(const struct page *pg, size_t offset)
{
	return unlikely(slab_in_holes(pg) != 0) &&
	       (atomic_load_explicit(&pg[1].holes.units, memory_order_relaxed) &
		hole_units(offset, offset + class_size(pg->cls)));
}

/* ---- the caller holds the slab, see slab.h ------------------------------------------------- */

/* Begin a slab without holes. zero: its run costs no memory yet. */
void holes_init(struct page *pg, unsigned cls, bool zero);

/* End a slab: its holes no longer count. */
void holes_end(struct page *pg);

/* Take up to n objects out of holes, for slab_take, which counts them as used, to the places below
 * end. A hole of which an object is taken costs memory from then on. Returns how many. */
unsigned holes_take(struct page *pg, struct object **end, unsigned n);

/* Give back the units of a slab that hold no live object, also those that are not carved. The slab
 * is in limbo and has live objects. Returns bytes. Enters the kernel; no lock may be held. */
uint64_t holes_punch_slab(struct page *pg);

/* Bytes of a slab that cost no memory, not counting pages that the program was given and never
 * touched. Any thread may call it; exact if the caller holds the slab. */
size_t holes_bytes(struct page *pg);

/* The units of a slab whose memory holes_bytes does not count. The same holds. */
uint64_t holes_units_kept(struct page *pg);

/* Debug: the part of slab_check that is about holes. */
void holes_check(struct page *pg);

/* ---- any thread ---------------------------------------------------------------------------- */

/* Bytes of the holes of all slabs, except uncarved space at the ends of slabs. */
uint64_t holes_bytes_all(void);

#endif
