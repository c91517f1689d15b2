/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * huge.h - objects with a mapping of their own. All of it is lock-free but for the kernel and safe
 * in signal handlers: what cannot have a lock is served here.
 */
#ifndef SLUICE_HUGE_H
#define SLUICE_HUGE_H

#include "types.h"

/* size: up to PTRDIFF_MAX bytes, reads as zero. align: a power of two. NULL: refused. */
void *huge_alloc(size_t size, size_t align);

/* Bytes usable at p, 0: p is not the start of a huge object. */
size_t huge_usable(const void *p);

/* False: p is not the start of a huge object (any more). */
bool huge_free(void *p);

/* Grow or shrink by moving page tables, not bytes. NULL: refused, the object is as it was. */
void *huge_realloc(void *p, size_t size);

/* Statistics: objects and bytes now. */
void huge_count(uint64_t *objects, uint64_t *bytes);

/* Bytes of all of them, without a walk. */
uint64_t huge_bytes(void);

#endif
