/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outbox.h - a heap's frees into slabs of other heaps, gathered by slab and flushed in batches: one
 * atomic operation for each batch instead of each object.
 */
#ifndef SLUICE_OUTBOX_H
#define SLUICE_OUTBOX_H

#include "heap/slab.h"
#include "types.h"

#define OUTBOX_SETS 8u
#define OUTBOX_WAYS 2u
#define OUTBOX_BYTES 16384u /* of objects in an outbox, at most */
#define OUTBOX_BATCH 8192u  /* bytes of objects of one slab that are flushed at once */

struct outbox_entry {
	struct page *pg; /* NULL: empty */
	struct object *first;
	struct object *last;
	uint32_t count;
	uint32_t bytes;
};

/* Guarded by: the critical section of its heap. */
struct outbox {
	uint32_t bytes; /* of all entries */
	struct outbox_entry entry[OUTBOX_SETS][OUTBOX_WAYS];
};

/* What a flush leaves to do after the critical section: adopt pg, of class cls. */
struct outbox_adopt {
	struct page *pg; /* NULL: none */
	unsigned cls;
};

/*
 * Put n free objects of another heap's slab in, linked from first to last, at most outbox_batch of
 * them. Flushes up to two batches. Slabs whose POSTED flag a flush has set are pushed on *posted,
 * linked by stack_next: the caller puts them into their owners' inboxes before it leaves the
 * critical section. Bound: two CAS loops and a few list steps.
 */
struct outbox_adopt outbox_put(struct outbox *box, struct page *pg, struct object *first,
			       struct object *last, unsigned n, struct page **posted);

/* Where the objects of a slab are gathered: the low bits of the slab's page number, folded, because
 * slabs have 2 to 16 pages. */
static inline struct outbox_entry *outbox_set(struct outbox *box, const struct page *pg)
{
	uint32_t i = page_number(pg);

	return box->entry[(i ^ (i >> 2) ^ (i >> 5)) % OUTBOX_SETS];
}

/* How many of the n free objects of the slab outbox_add may take: the last object that came to the
 * slab's set was of the slab, and no batch is complete with them. If all of them complete a batch,
 * none, because outbox_put takes them at once. */
static always_inline unsigned outbox_takes(struct outbox *box, const struct page *pg, unsigned n)
{
	const struct outbox_entry *e = outbox_set(box, pg);
	uint32_t bytes = n * (uint32_t)class_size(pg->cls);
	unsigned few;

	if (unlikely(e->pg != pg))
		return 0;
	if (likely(e->bytes + bytes < OUTBOX_BATCH && box->bytes + bytes <= OUTBOX_BYTES))
		return n;
	if (bytes <= OUTBOX_BATCH || e->bytes >= OUTBOX_BATCH || box->bytes > OUTBOX_BYTES)
		return 0;
	bytes = OUTBOX_BATCH - 1 - e->bytes;
	if (bytes > OUTBOX_BYTES - box->bytes)
		bytes = OUTBOX_BYTES - box->bytes;
	few = class_index(pg->cls, bytes);
	return few < n ? few : n;
}

/* The n objects that the caller has linked in front of those of the slab, from `first` on. */
static inline void outbox_add(struct outbox *box, const struct page *pg, struct object *first,
			      unsigned n)
{
	struct outbox_entry *e = outbox_set(box, pg);
	uint32_t bytes = n * (uint32_t)class_size(pg->cls);

	e->first = first;
	e->count += n;
	e->bytes += bytes;
	box->bytes += bytes;
}

/* How many of n objects of cls make at most one batch; at least one. Usually no division. */
static inline unsigned outbox_batch(unsigned cls, unsigned n)
{
	uint32_t size = (uint32_t)class_size(cls);

	if (likely(n * size <= OUTBOX_BATCH))
		return n;
	return size < OUTBOX_BATCH ? OUTBOX_BATCH / size : 1;
}

/* Flush one batch; posted as above. Returns false if the outbox is empty. */
bool outbox_flush_one(struct outbox *box, struct outbox_adopt *adopt, struct page **posted);

#endif
