/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.h - whether a block is in use, by two bits for each ALIGN_MIN bytes of a region, outside
 * of the program's memory. Only hardened processes keep them.
 *
 * Any thread, any context; lock-free, except that live_ready may enter the kernel.
 */
#ifndef SLUICE_LIVEBITS_H
#define SLUICE_LIVEBITS_H

#include "page/pagemap.h"
#include "types.h"

/* The two bits of a block; the upper one says that it is in use. */
enum live {
	LIVE_NONE,   /* not in use, content unknown */
	LIVE_ZEROED, /* not in use, freed with zeros */
	LIVE_USED,
	LIVE_PLAIN, /* in use since before the bits were kept: nothing lies behind it */
};

#define LIVE_IN_WORD 32u /* blocks of ALIGN_MIN bytes */
#define LIVE_WORDS (REGION_BYTES / ALIGN_MIN / LIVE_IN_WORD)
#define LIVE_PAGE_WORDS (PG_BYTES / ALIGN_MIN / LIVE_IN_WORD)

struct live_bits {
	_Atomic uint64_t word[LIVE_WORDS];
};

static inline struct live_bits *live_bits_of(const void *p)
{
	return atomic_load_explicit(&region_of(p)->live, memory_order_acquire);
}

static inline _Atomic uint64_t *live_word(struct live_bits *b, const void *p)
{
	return &b->word[((uintptr_t)p & (REGION_BYTES - 1)) / ALIGN_MIN / LIVE_IN_WORD];
}

static inline unsigned live_shift(const void *p)
{
	return (uintptr_t)p / ALIGN_MIN % LIVE_IN_WORD * 2;
}

/* Gives a region its bits, if it has none. The caller alone knows the region, or is the only
 * thread. Returns false if no memory. */
bool live_ready(struct region *r);

/* What the bits of the region cost, in bytes. */
uint64_t live_bytes(struct region *r);

static inline enum live live_of(const void *p)
{
	struct live_bits *b = live_bits_of(p);

	if (unlikely(!b || (uintptr_t)p % ALIGN_MIN))
		return LIVE_NONE;
	return (enum live)(atomic_load_explicit(live_word(b, p), memory_order_relaxed) >>
				   live_shift(p) &
			   LIVE_PLAIN);
}

/* The block, which the caller has got, is in use now. Returns what it was before. Nobody else
 * changes its bits: one addition does it. */
static inline enum live live_begin(const void *p)
{
	_Atomic uint64_t *w = live_word(live_bits_of(p), p);
	unsigned shift = live_shift(p);
	uint64_t old = atomic_load_explicit(w, memory_order_relaxed) >> shift & LIVE_PLAIN;

	if (likely(old < LIVE_USED))
		atomic_fetch_add_explicit(w, (LIVE_USED - old) << shift, memory_order_relaxed);
	return (enum live)old;
}

/* Set LIVE_PLAIN or LIVE_NONE; before there are threads, or of a block that the caller has. */
void live_mark(const void *p, enum live state);

/* The block is not in use any more. zeroed: the caller, if it gets the block, fills it with zeros
 * before anyone can be given it. Returns what it was: of several callers one gets LIVE_USED or
 * LIVE_PLAIN. */
static inline enum live live_end(const void *p, bool zeroed)
{
	struct live_bits *b = live_bits_of(p);
	unsigned shift = live_shift(p);
	uint64_t to = zeroed ? LIVE_ZEROED : LIVE_NONE;
	_Atomic uint64_t *w;
	uint64_t old;
	uint64_t was;

	if (unlikely(!b || (uintptr_t)p % ALIGN_MIN))
		return LIVE_NONE;
	w = live_word(b, p);
	old = atomic_load_explicit(w, memory_order_relaxed);
	do {
		was = old >> shift & LIVE_PLAIN;
		if (unlikely(was < LIVE_USED))
			return LIVE_NONE;
	} while (!atomic_compare_exchange_weak_explicit(w, &old, old ^ (was ^ to) << shift,
							memory_order_relaxed,
							memory_order_relaxed));
	return (enum live)was;
}

/* The run's blocks are not in use, content unknown. The caller owns the run. */
void live_forget(const struct page *pg, uint32_t npages);

#endif
