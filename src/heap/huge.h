/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * huge.h - objects with a mapping of their own. All functions are lock-free, except in the kernel,
 * and safe in signal handlers and fork children.
 */
#ifndef SLUICE_HUGE_H
#define SLUICE_HUGE_H

#include "types.h"

/* size: up to PTRDIFF_MAX bytes; align: a power of two. The memory reads as zero. Returns NULL if
 * the kernel refuses or the table of huge objects is full. */
void *huge_alloc(size_t size, size_t align);

/*
 * The same, for an ordinary call: out of memory of freed objects that is kept, or else a new
 * mapping, before which growth is told. *zero: whether the memory is to read as zero; becomes
 * whether it does. grows: see mapcache_take. If a limit is near, memory is reclaimed first.
 */
void *huge_alloc_kept(size_t size, bool grows, bool *zero);

/* How many places of the table a look-up passes at most, for tests: it depends on how many objects
 * there were at a time. */
uint32_t huge_look_most(void);

/* The same as huge_alloc, always between guards, and without access once it is freed, until the
 * process ends. Such an object does not grow. */
void *huge_alloc_early(size_t size);
bool huge_is_early(const void *p);

/* Bytes usable at p. Returns 0 if p is not the start of a huge object. */
size_t huge_usable(const void *p);

/* Returns false if p is not the start of a huge object. */
bool huge_free(void *p);

/*
 * Grow or shrink an object, by moving page tables instead of bytes if it has to move. It may keep
 * more than is asked for: a sixteenth, at most 256 KiB. Returns NULL if the kernel refuses or p is
 * not the start of a huge object; what the object has then stays as it was. *scarce: whether the
 * kernel refused because there is not enough memory or address space.
 */
void *huge_realloc(void *p, size_t size, bool *scarce);

/* Statistics: number of objects and their bytes now; walks the table. */
void huge_count(uint64_t *objects, uint64_t *bytes);

/* Calls see for each object. */
void huge_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg);

/* Bytes of all huge objects, without a walk. */
uint64_t huge_bytes(void);

/* Stops the program, which did `what` at a place where no block begins. The line says whether that
 * is in a mapping. */
_Noreturn void huge_stop(const char *what, const char *otherwise, const void *p);

#endif
