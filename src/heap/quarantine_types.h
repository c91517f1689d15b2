/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quarantine_types.h - a heap's quarantine; quarantine.h says what it is for.
 */
#ifndef SLUICE_QUARANTINE_TYPES_H
#define SLUICE_QUARANTINE_TYPES_H

#include "heap/heap_types.h"

#define QUARANTINE_HASHES 1024u
struct quarantine {
	uint32_t first;
	uint32_t count;
	uint32_t mask;                /* places it has, minus one */
	bool zeroed;                  /* the blocks read as zero */
	bool early;                   /* of early.c */
	uint64_t weight;              /* of the blocks: (B) of quarantine.c */
	_Atomic uint64_t large_bytes; /* of those that are no objects of a slab */
	struct quarantine *next;      /* of early.c, unused ones */
	/* Of early.c: how many of its objects have this hash, so that few others are looked for. */
	_Atomic uint8_t hashes[QUARANTINE_HASHES];
	/* Addresses; above them the size class, or QUARANTINE_LARGE. So an object that leaves is
	 * known without its descriptor. 0 in places without one: any thread may look whether an
	 * object is there, and what it may use is not. */
	_Atomic uint64_t block[];
};
#define QUARANTINE_BYTES(blocks) (sizeof(struct quarantine) + (blocks) * sizeof(uint64_t))
#define QUARANTINE_SHIFT 48
#define QUARANTINE_LARGE CLASSES
_Static_assert(ADDRESS_BITS <= QUARANTINE_SHIFT && QUARANTINE_LARGE < 1u << (64 - QUARANTINE_SHIFT),
	       "both fit");

/* Acquire pairs with the release when it is made. */
static inline struct quarantine *quarantine_of(const struct heap *h)
{
	return atomic_load_explicit(&h->quarantine, memory_order_acquire);
}

static inline void *quarantine_address(uint64_t block)
{
	return (void *)(uintptr_t)(block & ((UINT64_C(1) << QUARANTINE_SHIFT) - 1));
}

static inline unsigned quarantine_class(uint64_t block)
{
	return (unsigned)(block >> QUARANTINE_SHIFT);
}

static inline _Atomic uint8_t *quarantine_hash(struct quarantine *q, const void *p)
{
	uint32_t hash = (uint32_t)((uintptr_t)p / ALIGN_MIN) * UINT32_C(2654435761);

	return &q->hashes[hash / (UINT32_MAX / QUARANTINE_HASHES + 1)];
}

/* An object of early.c comes, or with UINT8_MAX one leaves. */
static inline void quarantine_note(struct quarantine *q, const void *p, uint8_t sign)
{
	_Atomic uint8_t *n = quarantine_hash(q, p);

	atomic_store_explicit(n, (uint8_t)(atomic_load_explicit(n, memory_order_relaxed) + sign),
			      memory_order_relaxed);
}

static inline uint64_t quarantine_at(const struct quarantine *q, uint32_t place)
{
	return atomic_load_explicit(&q->block[place & q->mask], memory_order_relaxed);
}

#endif
