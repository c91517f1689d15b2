/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quarantine.h - freed blocks that are kept from being used again, first in, first out; each heap
 * has its own. In a hardened process the option says how many; in others early.c keeps few objects.
 *
 * The caller is in the critical section of h, or has claimed it, or (fallback heap) holds its lock.
 */
#ifndef SLUICE_QUARANTINE_H
#define SLUICE_QUARANTINE_H

#include "heap/clearing.h"
#include "heap/freed.h"
#include "heap/hidden.h"
#include "heap/quarantine_types.h"

/* Blocks of a heap's quarantine, and how many leave it in one call, at most. Where one has to leave
 * for another one, others do that make up QUARANTINE_PART of its bytes, so that the next ones find
 * room; or QUARANTINE_NEXT such blocks, if that is less than QUARANTINE_MUCH. */
#define QUARANTINE_BLOCKS 1024u
#define QUARANTINE_EARLY 256u /* of early.c: a power of two, as the other */
#define QUARANTINE_STEP 16u
#define QUARANTINE_PART 64u
#define QUARANTINE_NEXT 3u
#define QUARANTINE_MUCH 16u

/* A large block from HIDE_MIN bytes on has no access while it is kept, and costs no memory but
 * mappings, so it counts for less than its bytes. */
#define HIDE_MIN ((size_t)65536)
#define HIDDEN_PART 16u

/* Outside of critical sections: takes away access to a large block that was freed, if it is to be
 * kept. Returns false if it has access still. */
bool quarantine_hide(void *p, struct page *pg);

/* Runs that were released in a critical section, after it: gives access to hidden ones. Returns
 * those that have it. If none was released, some to which the kernel gave no access before. */
struct page *quarantine_show(struct page *released);

/* Whether there are some of these. */
extern _Atomic(struct page *) quarantine_refused;
static inline bool quarantine_shows_more(void)
{
	return atomic_load_explicit(&quarantine_refused, memory_order_relaxed) != NULL;
}

/* A block of pg that is not in use any more: keep it, or give it to its slab or the pcp. Blocks
 * that leave for it go there as well. */
void quarantine_put(struct heap *h, struct page *pg, void *p, struct due_list *d);

/* The oldest object or block leaves q, which has one, for those that lie ready, or its slab.
 * LEAVE_SPILLS: HIDDEN_SPILL others may go to their slabs for it; returns whether they did.
 * LEAVE_CHECKED: it is checked as a whole if it is to read as zero. */
enum quarantine_leave { LEAVE_SPILLS, LEAVE_ONLY, LEAVE_CHECKED };
bool quarantine_leaves(struct heap *h, struct quarantine *q, struct due_list *d,
		       enum quarantine_leave how);

/* Gives h, which has none, a quarantine. early: it is early.c's, of QUARANTINE_EARLY places, and
 * quarantine_flush calls quarantine_end when it is empty. Returns NULL if there is no memory, or
 * another thread looks for one at the same time. */
struct quarantine *quarantine_make(struct heap *h, bool early);

/* Takes the heap's quarantine, which is early and empty, away: other heaps may use the memory for
 * theirs. */
void quarantine_end(struct heap *h);

void quarantine_fork_child(void);

/* Give up to n of the blocks, QUARANTINE_STEP at most, to their slabs. Returns how many. */
unsigned quarantine_flush(struct heap *h, unsigned n, struct due_list *d);

/* At the end of the program, which holds nothing: stops it if a block of the calling thread's
 * quarantine was written to after it was freed, and is to read as zero, or one that lies ready, or
 * in a slab of its heap. */
void quarantine_check_own(void);

/* Any thread: bytes of the blocks, inexact while the owner uses it. */
uint64_t quarantine_bytes(const struct heap *h);

/* Any thread, for statistics: objects of each class, and bytes of large blocks. */
void quarantine_objects(const struct heap *h, uint32_t of[CLASSES]);
uint64_t quarantine_large_bytes(const struct heap *h);

/* ---- most frees ----------------------------------------------------------------------------- */

/* The owner alone writes them. */
#define quarantine_add(word, n)                                                                    \
	atomic_store_explicit(&(word), atomic_load_explicit(&(word), memory_order_relaxed) + (n),  \
			      memory_order_relaxed)

static inline bool quarantine_has_room(const struct quarantine *q, size_t weight)
{
	return q->count <= q->mask && q->weight + weight <= options.quarantine;
}

static always_inline uint64_t quarantine_block(const void *p, unsigned cls)
{
	return (uint64_t)(uintptr_t)p | (uint64_t)cls << QUARANTINE_SHIFT;
}

static inline void quarantine_push(struct quarantine *q, void *p, unsigned cls)
{
	atomic_store_explicit(&q->block[(q->first + q->count++) & q->mask],
			      quarantine_block(p, cls), memory_order_relaxed);
}

#endif
