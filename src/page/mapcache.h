/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapcache.h - keeps mappings of huge objects that were freed, for the next huge object. A program
 * that repeatedly frees and reallocates one then makes no system call and meets no page fault.
 *
 * All functions are lock-free, except in the kernel, and safe in signal handlers and fork children.
 */
#ifndef SLUICE_MAPCACHE_H
#define SLUICE_MAPCACHE_H

#include "page/purge.h"
#include "types.h"

/* Takes *bytes (a multiple of the kernel's page) out of a mapping that is kept; they may have been
 * written. grows: the object has grown and may grow on, so it gets the most room behind it. Sets
 * *bytes to what the caller gets: at most a sixteenth and 256 KiB more, if the rest is so short.
 * Returns NULL if none is long enough. */
void *mapcache_take(size_t *bytes, bool grows);

/* Whether a mapping of `bytes` is kept. */
bool mapcache_has(size_t bytes);

/* Takes `bytes` that begin at addr, behind an object that grows, or what there is of them. Returns
 * how many, maybe a little more, as mapcache_take. */
size_t mapcache_take_at(void *addr, size_t bytes);

/* Takes the longest mapping if it has `least` bytes. Sets *bytes. Returns NULL if there is none. */
void *mapcache_take_longest(size_t least, size_t *bytes);

/* Keeps memory of vm_map that is not in use any more, or unmaps it. in_use: the bytes of huge
 * objects now, for the bound on what is kept. */
void mapcache_free(void *addr, size_t bytes, uint64_t in_use);

/* Tells that `bytes` are mapped because none were kept. */
void mapcache_missed(size_t bytes);

/* Unmaps all that is kept. Returns bytes. */
uint64_t mapcache_drain(void);

/* Unmaps what has been kept since the last call. Returns bytes. */
uint64_t mapcache_age(void);

/* Bytes that are kept. */
uint64_t mapcache_bytes(void);

/* Calls see for each mapping that is kept. */
void mapcache_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg);

/* In a fork child: what was kept goes at its first call off the fast paths. runs: long runs are
 * kept as well (longrun.h). */
void mapcache_fork_child(bool runs);

/* Unmaps all that is kept if it was inherited by a fork. Returns false if it was not. */
bool mapcache_disown(void);

/* Not 0 while something may be kept, or was needed again lately. MAPCACHE_INHERITED: of a parent of
 * this process. */
#define MAPCACHE_INHERITED 2u
extern _Atomic uint32_t mapcache_live;
void mapcache_tick_slow(void);

/* While there is no background thread: calls off the fast paths call it outside of critical
 * sections, to unmap what was kept for too long. */
static inline void mapcache_tick(void)
{
	if (unlikely(trim_inline && atomic_load_explicit(&mapcache_live, memory_order_relaxed)))
		mapcache_tick_slow();
}

#endif
