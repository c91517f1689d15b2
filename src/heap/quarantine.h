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
#include "heap/heap_slabs.h"
#include "heap/quarantine_types.h"

/* Blocks of a heap's quarantine, and how many leave it in one call, at most. */
#define QUARANTINE_BLOCKS 1024u
#define QUARANTINE_EARLY 256u /* of early.c: a power of two, as the other */
#define QUARANTINE_STEP 16u

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

/* The oldest object or block leaves q, which has one, for its slab. whole: it is checked as a whole
 * if it is to read as zero. */
void quarantine_leaves(struct heap *h, struct quarantine *q, struct due_list *d, bool whole);

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
 * quarantine was written to after it was freed, and is to read as zero. */
void quarantine_check_own(void);

/* Any thread: bytes of the blocks, inexact while the owner uses it. */
uint64_t quarantine_bytes(const struct heap *h);

/* Any thread, for statistics: how many objects of a class there are, and bytes of large blocks. */
uint64_t quarantine_objects(const struct heap *h, unsigned cls);
uint64_t quarantine_large_bytes(const struct heap *h);

/* Any thread: stops the program unless the first bytes of a freed block, a multiple of 16, are
 * zero. */
void quarantine_check_long(const void *p, size_t bytes);
_Noreturn void quarantine_written(const char *p, size_t bytes);

/* 16 bytes of the program's memory, read by one instruction. */
typedef uint64_t zero_pair __attribute__((vector_size(16), may_alias));

/* Up to QUARANTINE_SHORT bytes are read from both ends, without a loop. */
#define QUARANTINE_SHORT 128u
static always_inline void quarantine_check_zero(const void *p, size_t bytes)
{
	const zero_pair *v = p;
	const zero_pair *end = v + bytes / sizeof(zero_pair);
	zero_pair all;

	if (bytes > QUARANTINE_SHORT) {
		quarantine_check_long(p, bytes);
		return;
	}
	all = v[0] | end[-1];
	if (bytes > 32)
		all |= v[1] | end[-2];
	if (bytes > 64)
		all |= v[2] | end[-3] | v[3] | end[-4];
	if (unlikely(all[0] | all[1]))
		quarantine_written(p, bytes);
}

/* ---- most frees ----------------------------------------------------------------------------- */

#define QUARANTINE_PREFETCH 4u

/* The owner alone writes them. */
#define quarantine_add(word, n)                                                                    \
	atomic_store_explicit(&(word), atomic_load_explicit(&(word), memory_order_relaxed) + (n),  \
			      memory_order_relaxed)

static inline bool quarantine_has_room(const struct quarantine *q, size_t weight)
{
	return q->count <= q->mask && q->weight + weight <= options.quarantine;
}

/* An object comes, or with sign UINT64_MAX one leaves. */
static inline void quarantine_count(struct quarantine *q, unsigned cls, uint64_t sign)
{
	q->weight += sign * class_size(cls);
	quarantine_add(q->of[cls], (uint32_t)sign);
}

static inline void quarantine_push(struct quarantine *q, void *p, unsigned cls)
{
	atomic_store_explicit(&q->block[(q->first + q->count++) & q->mask],
			      (uint64_t)(uintptr_t)p | (uint64_t)cls << QUARANTINE_SHIFT,
			      memory_order_relaxed);
}

/* The oldest; there is one. */
static inline uint64_t quarantine_take(struct quarantine *q)
{
	uint64_t block = quarantine_at(q, q->first);

	atomic_store_explicit(&q->block[q->first], 0, memory_order_relaxed);
	q->first = (q->first + 1) & q->mask;
	/* It was not touched for long: the one that leaves some frees later. If there is none, an
	 * address of before, which does no harm. */
	__builtin_prefetch(quarantine_address(quarantine_at(q, q->first + QUARANTINE_PREFETCH)), 1);
	q->count--;
	return block;
}

/* What lies behind the beginning is checked when the object is used again, but its slab may be
 * released before that. So the whole of it is checked here if it is short. */
static always_inline void quarantine_check_left(const struct object *o, size_t bytes)
{
	if (options.zero_on_free)
		quarantine_check_zero(o, bytes <= QUARANTINE_SHORT ? bytes : CLEAR_HEAD);
}

/* What quarantine_put does, if all that is to be done is to keep o, of a slab, and to let one other
 * leave for those that lie ready. Returns false, and has done nothing, if it is more. */
static always_inline bool quarantine_swap(struct heap *h, unsigned cls, struct object *o)
{
	struct quarantine *q = quarantine_of(h);
	uint64_t block;
	unsigned leaves;
	struct object *old;

	if (unlikely(!q) || unlikely(!options.zero_on_free))
		return false;
	block = quarantine_at(q, q->first);
	leaves = quarantine_class(block);
	old = quarantine_address(block);
	if (quarantine_has_room(q, class_size(cls))) {
		quarantine_push(q, o, cls);
		quarantine_count(q, cls, 1);
		return true;
	}
	if (unlikely(!q->count) || unlikely(leaves == QUARANTINE_LARGE) ||
	    unlikely(q->weight - class_size(leaves) + class_size(cls) > options.quarantine) ||
	    !heap_put_hidden(h, leaves, old))
		return false;
	quarantine_take(q);
	quarantine_push(q, o, cls);
	if (leaves != cls) {
		quarantine_count(q, leaves, UINT64_MAX);
		quarantine_count(q, cls, 1);
	}
	quarantine_check_left(old, class_size(leaves));
	return true;
}

#endif
