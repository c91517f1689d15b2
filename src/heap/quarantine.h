/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quarantine.h - freed blocks of a hardened process that are kept from being used again, first in,
 * first out; each heap has its own.
 *
 * The caller is in the critical section of h, or has claimed it, or (fallback heap) holds its lock.
 */
#ifndef SLUICE_QUARANTINE_H
#define SLUICE_QUARANTINE_H

#include "heap/heap_slabs.h"

/* Blocks of a heap's quarantine, and how many leave it in one call, at most. */
#define QUARANTINE_BLOCKS 1024u
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
bool quarantine_shows_more(void);

/* A block of pg that is not in use any more: keep it, or give it to its slab or the pcp. Blocks
 * that leave for it go there as well. */
void quarantine_put(struct heap *h, struct page *pg, void *p, struct due_list *d);

/* The same where pg is a slab. */
void quarantine_put_object(struct heap *h, struct page *pg, struct object *o, struct due_list *d);

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

#endif
