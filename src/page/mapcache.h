/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapcache.h - keeps mappings of huge objects that were freed, for the next huge object. A program
 * that repeatedly frees and reallocates one then makes no system call and meets no page fault.
 *
 * All functions are lock-free, except in the kernel, and safe in signal handlers and fork children.
 */
#ifndef SLUICE_MAPCACHE_H
#define SLUICE_MAPCACHE_H

#include "types.h"

/* Takes `bytes` (a multiple of the kernel's page) out of a mapping that is kept; they may have been
 * written. grows: the object has grown and may grow on, so it gets the most room behind it. Returns
 * NULL if none is long enough. */
void *mapcache_take(size_t bytes, bool grows);

/* Takes up to `bytes` that begin at addr, behind an object that grows. Returns how many. */
size_t mapcache_take_at(void *addr, size_t bytes);

/* Takes the longest mapping if it has `least` bytes. Sets *bytes. Returns NULL if there is none. */
void *mapcache_take_longest(size_t least, size_t *bytes);

/* Keeps memory of vm_map that is not in use any more, or unmaps it. */
void mapcache_free(void *addr, size_t bytes);

/* Tells that `bytes` are mapped because none were kept. */
void mapcache_missed(size_t bytes);

/* Unmaps all that is kept. Returns bytes. */
uint64_t mapcache_drain(void);

/* Unmaps what has been kept since the last call. Returns bytes. */
uint64_t mapcache_age(void);

/* While there is no background thread: a free calls it, to unmap what was kept for too long. */
void mapcache_tick(void);

/* Bytes that are kept. */
uint64_t mapcache_bytes(void);

/* Calls see for each mapping that is kept. */
void mapcache_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg);

#endif
