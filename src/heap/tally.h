/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tally.h - what the calling thread allocates and frees, from when it first asks.
 *
 * The fast paths count nothing. A thread that asks gets heap_counts as its heap_self, which nobody
 * enters, so each of its later calls takes the slow path, in its own heap (heap_own), and counts
 * there.
 */
#ifndef SLUICE_TALLY_H
#define SLUICE_TALLY_H

#include "heap/heap_types.h"

/* Bytes, usable ones; of this thread. A block that is resized in place counts as freed and
 * allocated if its length changes. */
struct tally {
	uint64_t allocated;
	uint64_t freed; /* may be more: blocks of others, or of before it counted */
	int64_t base;   /* allocated less freed when the peak was reset */
	int64_t peak;   /* the most of allocated less freed less base; not negative */
};

/* That of the calling thread, which counts from its first call on. Stays 0 if the thread has no
 * heap. */
struct tally *tally_of_thread(void);
void tally_reset_peak(void);

/* What the calling thread allocates and frees between the two does not count: the library's own
 * calls of libc. Signals are blocked in between. */
struct tally tally_save(void);
void tally_restore(const struct tally *saved);

static always_inline bool tally_is_on(void)
{
	return heap_self == &heap_counts;
}

void tally_add(const void *p);
void tally_remove(const void *p);
void tally_resize(uint64_t old, uint64_t bytes);

/* p was allocated, if it is not NULL. Returns it. */
static always_inline void *tally_alloc(void *p)
{
	if (unlikely(tally_is_on()) && p)
		tally_add(p);
	return p;
}

/* p, whatever it is, is about to be freed. */
static always_inline void tally_free(const void *p)
{
	if (unlikely(tally_is_on()))
		tally_remove(p);
}

/* A block was resized in place, or by moving its pages. */
static always_inline void tally_resized(size_t old, size_t bytes)
{
	if (unlikely(tally_is_on()))
		tally_resize(old, bytes);
}

#endif
