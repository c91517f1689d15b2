/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quarantine.c - see quarantine.h. Used by heap, harden and trim; uses heap_slabs, meta.
 *
 * (A) A block in a quarantine counts as used in its slab, or is PAGE_LARGE still, and its live bit
 *     is clear.
 * (B) bytes is the sum of the blocks' sizes; after each quarantine_put it is at most the option's,
 *     unless QUARANTINE_STEP blocks left and that was not enough.
 *
 * A heap's quarantine is made by its first free, and stays with the heap. A drain empties it.
 * Bound: QUARANTINE_STEP blocks. No lock; allocates 8 KiB for each heap. Signal handlers and fork:
 * as the critical section.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/quarantine.h"

#include <string.h>

#include "base/check.h"
#include "base/options.h"
#include "page/meta.h"

struct quarantine {
	uint32_t first;
	uint32_t count;
	uint64_t bytes;
	void *block[QUARANTINE_BLOCKS];
};

void quarantine_check_zero(const void *p, size_t from, size_t to, const struct page *pg)
{
	static const char zeros[256];
	const char *at = p;

	for (size_t n; from < to; from += n) {
		n = min_size(to - from, sizeof(zeros));
		if (likely(memcmp(at + from, zeros, n) == 0))
			continue;
		while (!at[from])
			from++;
		if (page_kind(pg) != PAGE_SLAB)
			sluice_fatal("block written to after it was freed (its byte %zu): address "
				     "%p, block %p (%zu bytes)",
				     from, p, p, large_usable(pg));
		sluice_fatal("object written to after it was freed (its byte %zu): address %p, "
			     "size class %u (%u bytes)",
			     from, p, pg->cls, (unsigned)class_size(pg->cls));
	}
}

static void block_leaves(struct heap *h, void *p, struct due_list *d)
{
	struct page *pg = page_of(p);

	/* What lies behind a link and a mark is checked when the object is used again. */
	if (options.zero_on_free)
		quarantine_check_zero(p, 0,
				      page_kind(pg) == PAGE_SLAB ? sizeof(struct object)
								 : large_usable(pg),
				      pg);
	heap_free_to_slab(h, p, d);
}

static void oldest_leaves(struct heap *h, struct quarantine *q, struct due_list *d)
{
	void *p = q->block[q->first];

	q->first = (q->first + 1) % QUARANTINE_BLOCKS;
	q->count--;
	q->bytes -= block_bytes(page_of(p));
	block_leaves(h, p, d);
}

void quarantine_put(struct heap *h, void *p, struct due_list *d)
{
	size_t bytes = block_bytes(page_of(p));
	struct quarantine *q = h->quarantine;

	if (options.quarantine && unlikely(!q))
		q = h->quarantine = meta_alloc(sizeof(*q));
	if (!q || bytes > options.quarantine / 2) {
		block_leaves(h, p, d);
		return;
	}
	for (unsigned n = 0; n < QUARANTINE_STEP && q->count; n++) {
		if (q->count < QUARANTINE_BLOCKS && q->bytes + bytes <= options.quarantine)
			break;
		oldest_leaves(h, q, d);
	}
	q->block[(q->first + q->count++) % QUARANTINE_BLOCKS] = p;
	q->bytes += bytes;
}

unsigned quarantine_flush(struct heap *h, unsigned n, struct due_list *d)
{
	struct quarantine *q = h->quarantine;
	unsigned done = 0;

	for (; q && q->count && done < n && done < QUARANTINE_STEP; done++)
		oldest_leaves(h, q, d);
	return done;
}

uint64_t quarantine_bytes(const struct heap *h)
{
	return h->quarantine ? h->quarantine->bytes : 0;
}
