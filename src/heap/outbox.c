/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outbox.c - see outbox.h. Used by heap; uses slab.
 *
 * (A) outbox.bytes is the sum over the entries of count x object size. After each call it is at
 *     most OUTBOX_BYTES plus a batch or an object.
 * (B) An object in an outbox counts as used in its slab. So while the outbox has an entry for a
 *     slab, the slab is not given back, and its descriptor stays a slab's.
 * (C) The slab determines the set of an entry. The first way of a set is the one used last.
 *
 * Bound: outbox_put flushes at most two batches, each of OUTBOX_BATCH bytes or one object, by one
 * CAS; outbox_flush_one flushes one entry of OUTBOX_SETS * OUTBOX_WAYS.
 * No lock, no allocation, no system call. Only inside the critical section of the heap.
 * Source: the message batches of snmalloc (Lietar et al. 2019), made set-associative.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/outbox.h"

#include "base/check.h"
#include "page/pagemap.h"

static struct outbox_adopt flush_entry(struct outbox *box, struct outbox_entry *e,
				       struct page **posted)
{
	struct outbox_adopt adopt = { NULL, 0 };
	struct page *pg = e->pg;
	unsigned cls = pg->cls; /* read before the free: afterwards pg may be another slab */

	box->bytes -= e->bytes;
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

static void entry_push(struct outbox *box, struct outbox_entry *e, struct object *first,
		       struct object *last, unsigned n, uint32_t bytes)
{
	link_set(last, e->first);
	e->first = first;
	e->count += n;
	e->bytes += bytes;
	box->bytes += bytes;
}

struct outbox_adopt outbox_put(struct outbox *box, struct page *pg, struct object *first,
			       struct object *last, unsigned n, struct page **posted)
{
	struct outbox_adopt adopt = { NULL, 0 };
	uint32_t size = (uint32_t)class_size(pg->cls);
	struct outbox_entry *way = outbox_set(box, pg);

	if (unlikely(way[0].pg != pg)) {
		struct outbox_entry second = way[1];

		way[1] = way[0];
		way[0] = second;
		if (way[0].pg != pg) {
			if (way[0].pg)
				adopt = flush_entry(box, &way[0], posted);
			way[0] = (struct outbox_entry){ .pg = pg, .last = last };
		}
	}
	if (unlikely(way[0].first == last))
		freelist_freed_twice(pg, last);
	entry_push(box, &way[0], first, last, n, n * size);
	/* The result has room for one adoption. If the first flush asks for one, a batch that is
	 * due now waits for the next call. */
	if ((way[0].bytes >= OUTBOX_BATCH || box->bytes > OUTBOX_BYTES) && !adopt.pg)
		adopt = flush_entry(box, &way[0], posted);
	return adopt;
}

bool outbox_flush_one(struct outbox *box, struct outbox_adopt *adopt, struct page **posted)
{
	for (unsigned i = 0; i < OUTBOX_SETS * OUTBOX_WAYS; i++) {
		struct outbox_entry *e = &box->entry[i / OUTBOX_WAYS][i % OUTBOX_WAYS];

		if (e->pg) {
			*adopt = flush_entry(box, e, posted);
			return true;
		}
	}
	return false;
}
