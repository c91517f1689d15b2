/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holes.h - memory of a slab that goes back to the kernel while other objects of the slab are live.
 *
 * A slab is cut into units of HOLE_BYTES, 64 at the most, which are, each,
 *
 *   carved      an object on it is live or on the free list, or was and is in a bin: it costs memory
 *   purging     all objects on it are free, and the drainer, which has the slab in limbo, is giving it
 *               back; nobody else can find the slab meanwhile
 *   in_hole     a hole: no object on it is on the free list; it costs no memory and is to be carved
 *               again
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

static inline unsigned slab_in_holes(const struct page *pg)
{
	return atomic_load_explicit(&pg->in_holes, memory_order_relaxed);
}

/* The bits of the units that bytes from `from` to before `to` of a slab lie on; from < to. */
static inline uint64_t hole_units(size_t from, size_t to)
{
	size_t first = from >> HOLE_SHIFT;
	size_t last = (to - 1) >> HOLE_SHIFT;

	return (~UINT64_C(0) << first) & (~UINT64_C(0) >> (63 - last));
}

/* Whether the object at an offset into the slab is in a hole, so was not handed out since that was
 * made. For an object that was handed out the answer is no, also while others change the slab. */
static inline bool holes_has(const struct page *pg, size_t offset)
{
	return unlikely(slab_in_holes(pg) != 0) &&
	       (atomic_load_explicit(&pg[1].holes.units, memory_order_relaxed) &
		hole_units(offset, offset + class_size(pg->cls)));
}

/* ---- the caller has the slab in hand, see slab.h ------------------------------------------- */

/* A new slab; zero: its run costs no memory yet. */
void holes_init(struct page *pg, unsigned cls, bool zero);

/* It is no slab any more. */
void holes_end(struct page *pg);

/* Take up to n objects out of holes; a hole that is begun costs memory from then on. For slab_take,
 * which counts them. */
unsigned holes_take(struct page *pg, struct object **out, unsigned n);

/* In limbo, with live objects: give back what holds none of them, also what is not carved. Returns
 * bytes. Enters the kernel; no lock may be held. */
uint64_t holes_punch_slab(struct page *pg);

/* Bytes of a slab that cost no memory, but where the program left pages untouched. Any thread may
 * ask; exact for who has the slab in hand. */
size_t holes_bytes(struct page *pg);

/* Debug: slab_check's part. */
void holes_check(struct page *pg);

/* ---- any thread ---------------------------------------------------------------------------- */

/* Bytes of the holes of all slabs, but for those at their ends. */
uint64_t holes_bytes_all(void);

#endif
