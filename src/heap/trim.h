/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trim.h - what takes things out of a heap: trims, ageing steps, and the abandoning of its slabs.
 *
 * The caller is in the critical section of h, or has claimed it, or (fallback heap) holds its lock.
 */
#ifndef SLUICE_TRIM_H
#define SLUICE_TRIM_H

#include "heap/heap_types.h"
#include "heap/heap_work.h"

/* Open slabs of the inbox, for as many steps. Returns false if they are used up. */
bool heap_open_part(struct heap *h, uint32_t *steps);

/* Bytes that are free in a heap except in its pcp: in bins, outbox and slabs. */
uint64_t heap_free_bytes(struct heap *h);

/* The owner empties its bins and its outbox and gives up its empty slabs; those in use stay its
 * own. */
void heap_trim(struct heap *h);

/* What was released waits in the heap for a drain by the owner, which takes up to BUDDY_BATCH runs
 * out of it at a time, linked by stack_next. Returns NULL if there are none. */
void heap_drain_released(struct heap *h);
struct page *heap_take_draining(struct heap *h);

/* A trim gradually, as memory is short: a bin, and some slabs of its class that have room, which
 * are abandoned; and after the last bin the outbox and some of the inbox. Returns false if the bin
 * has more objects than one call may move. */
bool heap_trim_bin(struct heap *h, unsigned bin);
void heap_trim_rest(struct heap *h);

/* Hardened: some blocks of the quarantine go to their slabs. Returns false if it is empty. */
bool heap_trim_quarantine(struct heap *h);

/* Empty the bins and the outbox of a heap, take the room of its bins away, and abandon all its
 * slabs. Then it is drained, unless a pool cannot be locked. */
void heap_abandon_slabs(struct heap *h);

/* The same for as many steps. Returns false if they are used up; the next call goes on. If a pool
 * cannot be locked it returns true, and the heap is not drained. */
bool heap_abandon_part(struct heap *h, enum slab_age age, uint32_t *steps);

/* The same for up to BIN_MAX objects of a bin, and once it is empty for some slabs of its class
 * that have room. Returns false if it has no more. */
bool heap_abandon_some(struct heap *h, unsigned bin);

/* Give the memory of the bins' places back to the kernel. The heap is drained. Enters the kernel,
 * so only a claimer calls it, for which no thread waits. */
void heap_purge_bins(struct heap *h);

/* An ageing step: if the next bin was neither refilled nor full for some steps, up to `objects` of
 * it, a multiple of AGE_OBJECTS, go to their slabs. Returns false if there was nothing to do. */
bool heap_age_next(struct heap *h, unsigned objects);

/* The owner does such steps, of AGE_OBJECTS, until one has something to do, or for a few bins. */
void heap_age_some(struct heap *h);

#endif
