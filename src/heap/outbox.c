/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outbox.c - see outbox.h. Used by heap; uses slab.
 *
 * (A) outbox.bytes == the sum over the entries of count x the class's size, at most OUTBOX_BYTES and
 *     a batch or an object after each call.
 * (B) An object in the outbox counts as used in its slab, so the slab cannot be given back, and its
 *     descriptor stays what it is, while the outbox has one.
 * (C) An entry's set is given by its slab; the first way is the one used last.
 *
 * Bound: outbox_put hands over one batch, of OUTBOX_BATCH bytes or one object, by one CAS; outbox_flush_one one
 * of OUTBOX_SETS * OUTBOX_WAYS.
 * No lock, no allocation, no system call; only inside the heap's window.
 * Source: the outbox of snmalloc's message batches (Lietar et al. 2019), made set-associative.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/outbox.h"

#include "base/check.h"
#include "page/pagemap.h"

static struct outbox_adopt flush_entry(struct outbox *r, struct outbox_entry *e,
				       struct page **posted)
{
	struct outbox_adopt adopt = { NULL, 0 };
	struct page *pg = e->pg;
	unsigned cls = pg->cls; /* before the free: afterwards it may be another slab */

	r->bytes -= e->bytes;
	e->pg = NULL;
	switch (slab_free_remote(pg, e->first, e->last, e->count)) {
	case SLAB_POST:
		pg->stack_next = *posted;
		*posted = pg;
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

static void entry_push(struct outbox *r, struct outbox_entry *e, struct object *first,
		       struct object *last, unsigned n, uint32_t bytes)
{
	link_set(last, e->first);
	e->first = first;
	e->count += n;
	e->bytes += bytes;
	r->bytes += bytes;
}

struct outbox_adopt outbox_put(struct outbox *r, struct page *pg, struct object *first,
			       struct object *last, unsigned n, struct page **posted)
{
	struct outbox_adopt adopt = { NULL, 0 };
	uint32_t size = (uint32_t)class_size(pg->cls);
	/* The low bits of a descriptor's place in its region, folded: slabs are 2 to 16 pages. */
	uint32_t i = page_number(pg);
	struct outbox_entry *way = r->entry[(i ^ (i >> 2) ^ (i >> 5)) % OUTBOX_SETS];

	if (unlikely(way[0].pg != pg)) {
		struct outbox_entry second = way[1];

		way[1] = way[0];
		way[0] = second;
		if (way[0].pg != pg) {
			if (way[0].pg)
				adopt = flush_entry(r, &way[0], posted);
			way[0] = (struct outbox_entry){ .pg = pg, .last = last };
		}
	}
	if (unlikely(way[0].first == last))
		sluice_fatal("object freed twice: address %p, size class %u (%u bytes)",
			     (void *)last, pg->cls, size);
	entry_push(r, &way[0], first, last, n, n * size);
	/* A second adoption cannot be due here: an entry that was just begun is handed over in
	 * the same call only if it is a batch at once, and then it waits in the outbox. */
	if ((way[0].bytes >= OUTBOX_BATCH || r->bytes > OUTBOX_BYTES) && !adopt.pg)
		adopt = flush_entry(r, &way[0], posted);
	return adopt;
}

bool outbox_flush_one(struct outbox *r, struct outbox_adopt *adopt, struct page **posted)
{
	for (unsigned i = 0; i < OUTBOX_SETS * OUTBOX_WAYS; i++) {
		struct outbox_entry *e = &r->entry[i / OUTBOX_WAYS][i % OUTBOX_WAYS];

		if (e->pg) {
			*adopt = flush_entry(r, e, posted);
			return true;
		}
	}
	return false;
}
