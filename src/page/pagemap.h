/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagemap.h - from a pointer to its page descriptor, and back.
 *
 * One byte for each 64 MiB of the address space says whether a region of ours lies there. If so,
 * the address of a page's descriptor is arithmetic on the pointer. Lookups are wait-free, from any
 * thread and from signal handlers. A byte is set once and stays set, because the metadata of a
 * region are never unmapped. So a descriptor may be read at any later time.
 */
#ifndef SLUICE_PAGEMAP_H
#define SLUICE_PAGEMAP_H

#include <string.h>

#include "base/sealed.h"
#include "types.h"

/* Of each region. Set before the first one. */
struct region_place {
	uintptr_t meta; /* bytes from its start to its metadata */
	uint32_t first; /* its first page that is not for metadata */
} SEALED_TYPE;

extern hidden_data struct region_place region_place;

/*
 * Chooses how far behind the start of each region its metadata lie, at random, in 1 MiB more than
 * they need. So no offset leads from a block to them in each process. At the start, and in no more
 * than they need, with random_base:0 or if address space is limited. Before the first region.
 */
void pagemap_init(void);

/* Set with release by pagemap_add once the metadata are usable; pairs with the acquire load in
 * pagemap_ours. */
extern _Atomic uint8_t pagemap_slots[REGION_SLOTS];

static always_inline bool pagemap_ours(const void *p)
{
	uintptr_t slot = (uintptr_t)p >> REGION_SHIFT;

	return likely(slot < REGION_SLOTS) &&
	       likely(atomic_load_explicit(&pagemap_slots[slot], memory_order_acquire) != 0);
}

static inline void pagemap_add(struct region *r)
{
	atomic_store_explicit(&pagemap_slots[(uintptr_t)r >> REGION_SHIFT], 1,
			      memory_order_release);
}

/* The region whose address space begins at `start`. */
static always_inline struct region *region_at(uintptr_t start)
{
	return (struct region *)(start + region_place.meta);
}

/* The region that p lies in. p may be a descriptor, which lies in a region, too. */
static always_inline struct region *region_of(const void *p)
{
	return region_at((uintptr_t)p & ~(REGION_BYTES - 1));
}

/* Where the address space of a region begins, and with it page 0. */
static always_inline char *region_start(const struct region *r)
{
	return (char *)((uintptr_t)r - region_place.meta);
}

/* The first page that is not for metadata. */
static inline uint32_t region_first(void)
{
	return region_place.first;
}

static always_inline uint32_t page_index_of(const void *p)
{
	return (uint32_t)((uintptr_t)p >> PG_SHIFT) & (REGION_PAGES - 1);
}

/* The descriptor of the run whose memory begins `first` bytes after the start of r. */
static always_inline struct page *head_page(struct region *r, uint32_t first)
{
	return (struct page *)(void *)((char *)r->page + first / (PG_BYTES / sizeof(struct page)));
}

/* Where the run of descriptor pg, of r, begins, in bytes behind the start of r. */
static always_inline uint32_t page_first(const struct region *r, const struct page *pg)
{
	return (uint32_t)((uintptr_t)pg - (uintptr_t)r->page) * (PG_BYTES / sizeof(struct page));
}

/* What is carved of that run, in bytes. */
static always_inline const _Atomic uint32_t *head_carved(const struct region *r, uint32_t first)
{
	return (const _Atomic uint32_t *)((uintptr_t)r->carved +
					  first / (PG_BYTES / sizeof(*r->carved)));
}

/* The descriptor of the run that p lies in; p must lie in a region of ours. */
static always_inline struct page *page_of(const void *p)
{
	struct region *r = region_of(p);

	return &r->page[r->head[page_index_of(p)] >> PG_SHIFT];
}

static inline uint32_t page_number(const struct page *pg)
{
	return (uint32_t)(pg - region_of(pg)->page);
}

/* The first byte of the memory that pg describes. */
static always_inline char *page_address(const struct page *pg)
{
	struct region *r = region_of(pg);

	return region_start(r) + ((uintptr_t)(pg - r->page) << PG_SHIFT);
}

/* Makes pointers into all n pages of a run lead to pg, its head, and to `note`, which is up to
 * HEAD_NOTE. The caller owns the run. */
static inline void page_set_heads(struct page *pg, uint32_t n, uint32_t note)
{
	struct region *r = region_of(pg);
	uint32_t first = page_number(pg);
	uint32_t head = first << PG_SHIFT | note;
	uint32_t four __attribute__((vector_size(16))) = { head, head, head, head };
	uint32_t i = 0;

	for (; i + 16 <= n; i += 16) {
		memcpy(&r->head[first + i], &four, sizeof(four));
		memcpy(&r->head[first + i + 4], &four, sizeof(four));
		memcpy(&r->head[first + i + 8], &four, sizeof(four));
		memcpy(&r->head[first + i + 12], &four, sizeof(four));
	}
	for (; i + 4 <= n; i += 4)
		memcpy(&r->head[first + i], &four, sizeof(four));
	for (; i < n; i++)
		r->head[first + i] = head;
}

#endif
