/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero.h - objects of size zero: addresses without access, so that each read or write faults.
 * All functions are lock-free, except in the kernel, and safe in signal handlers and fork children.
 */
#ifndef SLUICE_ZERO_H
#define SLUICE_ZERO_H

#include "types.h"

#define ZERO_SLOTS ((size_t)1 << 20)
#define ZERO_BYTES (ZERO_SLOTS * ALIGN_MIN)

/* Where they lie; 0 until there is one. */
extern _Atomic uintptr_t zero_area;

static inline bool zero_owns(const void *p)
{
	uintptr_t area = atomic_load_explicit(&zero_area, memory_order_relaxed);

	return area && (uintptr_t)p - area < ZERO_BYTES;
}

/* Returns NULL if the options want none, there is no address space, or ZERO_SLOTS are in use: then
 * the caller takes an object of one byte. */
void *zero_alloc(void);

/* Whether zero_alloc usually returns one. */
bool zero_has_area(void);

/* These take what zero_owns, and stop the program unless it is in use. */
void zero_check(const void *p);
void zero_free(const void *p);

#endif
