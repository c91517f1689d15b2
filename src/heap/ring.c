/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.c - see ring.h. Used by heap; uses slab.
 *
 * (A) ring.bytes == the sum over the entries of count x the class's size, at most RING_BYTES and
 *     a batch or an object after each call.
 * (B) An object in the ring counts as used in its slab, so the slab cannot be given back, and its
 *     descriptor stays what it is, while the ring has one.
 * (C) An entry's set is given by its slab; the first way is the one used last.
 *
 * Bound: ring_put hands over one batch, of RING_BATCH bytes or one object, by one CAS; ring_flush_one one
 * of RING_SETS * RING_WAYS.
 * No lock, no allocation, no system call; only inside the heap's window.
 * Source: the ring of snmalloc's message batches (Lietar et al. 2019), made set-associative.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/ring.h"

#include "page/pagemap.h"

void (*ring_post)(struct page *pg);

static struct ring_adopt hand_over(struct ring *r, struct ring_entry *e)
{
	struct ring_adopt adopt = { NULL, 0 };
	struct page *pg = e->pg;
	unsigned cls = pg->cls; /* before the free: afterwards it may be another slab */

	r->bytes -= e->bytes;
	e->pg = NULL;
	switch (slab_free_remote(pg, e->first, e->last, e->count)) {
	case SLAB_POST:
		ring_post(pg);
		break;
	case SLAB_ADOPT:
		adopt.pg = pg;
		adopt.cls = cls;
		break;
	case SLAB_PUT:
		break;
	}
	return adopt;
}

static void entry_push(struct ring *r, struct ring_entry *e, struct object *first,
		       struct object *last, unsigned n, uint32_t bytes)
{
	link_set(last, e->first);
	e->first = first;
	e->count += n;
	e->bytes += bytes;
	r->bytes += bytes;
}

struct ring_adopt ring_put(struct ring *r, struct page *pg, struct object *first,
			   struct object *last, unsigned n)
{
	struct ring_adopt adopt = { NULL, 0 };
	uint32_t size = (uint32_t)class_size(pg->cls);
	/* The low bits of a descriptor's place in its region, folded: slabs are 2 to 16 pages. */
	uint32_t i = page_number(pg);
	struct ring_entry *way = r->entry[(i ^ (i >> 2) ^ (i >> 5)) % RING_SETS];

	if (unlikely(way[0].pg != pg)) {
		struct ring_entry second = way[1];

		way[1] = way[0];
		way[0] = second;
		if (way[0].pg != pg) {
			if (way[0].pg)
				adopt = hand_over(r, &way[0]);
			way[0] = (struct ring_entry){ .pg = pg, .last = last };
		}
	}
	if (unlikely(way[0].first == last))
		sluice_fatal("object freed twice: address %p, size class %u (%u bytes)",
			     (void *)last, pg->cls, size);
	entry_push(r, &way[0], first, last, n, n * size);
	/* A second adoption cannot be due here: an entry that was just begun is handed over in
	 * the same call only if it is a batch at once, and then it waits in the ring. */
	if ((way[0].bytes >= RING_BATCH || r->bytes > RING_BYTES) && !adopt.pg)
		adopt = hand_over(r, &way[0]);
	return adopt;
}

bool ring_flush_one(struct ring *r, struct ring_adopt *adopt)
{
	for (unsigned i = 0; i < RING_SETS * RING_WAYS; i++) {
		struct ring_entry *e = &r->entry[i / RING_WAYS][i % RING_WAYS];

		if (e->pg) {
			*adopt = hand_over(r, e);
			return true;
		}
	}
	return false;
}
