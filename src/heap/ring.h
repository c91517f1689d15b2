/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.h - a heap's frees into slabs of others, gathered by slab and handed over in batches: one
 * atomic operation for each batch instead of each object.
 */
#ifndef SLUICE_RING_H
#define SLUICE_RING_H

#include "heap/slab.h"
#include "types.h"

#define RING_SETS 8u
#define RING_WAYS 2u
#define RING_BYTES 16384u /* of objects that wait, at the most */
#define RING_BATCH 4096u  /* bytes of objects of one slab that are handed over at once */

struct ring_entry {
	struct page *pg; /* NULL: empty */
	struct object *first;
	struct object *last;
	uint32_t count;
	uint32_t bytes;
};

/* Guarded by: the window of the heap it belongs to. */
struct ring {
	uint32_t bytes; /* of all entries */
	struct ring_entry entry[RING_SETS][RING_WAYS];
};

/* What a hand-over leaves to do outside the window: adopt pg, which is of class cls. */
struct ring_adopt {
	struct page *pg; /* NULL: nothing */
	unsigned cls;
};

/* Put n free objects of a slab of somebody else's in, linked from first to last, no more than
 * ring_batch; hands a batch over when one is due. At most one CAS loop and a few list steps. */
struct ring_adopt ring_put(struct ring *r, struct page *pg, struct object *first,
			   struct object *last, unsigned n);

static inline unsigned ring_batch(unsigned cls)
{
	unsigned n = (unsigned)(RING_BATCH / class_size(cls));

	return n ? n : 1;
}

/* Hand one batch over; false: the ring is empty. */
bool ring_flush_one(struct ring *r, struct ring_adopt *adopt);

/* Tell the owner of a slab whose POSTED flag the caller has set. By heap. */
extern void (*ring_post)(struct page *pg);

#endif
