/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.h - memory for calls that can have neither heap nor lock. All of it is lock-free except for the
 * kernel, and safe in signal handlers and fork children.
 *
 * Objects of many such calls share a mapping (a chunk), so that a fork that holds the locks for long
 * costs the other threads a few mappings and not one for each call.
 */
#ifndef SLUICE_ARENA_H
#define SLUICE_ARENA_H

#include "types.h"

/* What is larger, or has a larger alignment, is an object with a mapping of its own (huge.h). */
#define ARENA_SIZE_MAX ((size_t)256 << 10)
#define ARENA_ALIGN_MAX ((size_t)64 << 10)

static inline bool arena_takes(size_t size, size_t align)
{
	return size <= ARENA_SIZE_MAX && align <= ARENA_ALIGN_MAX;
}

/*
 * arena_takes(size, align) holds; align: a power of two. The memory may have been written before: it
 * does not read as zero. NULL: the kernel refuses a chunk, or all places for chunks are taken. May wait
 * for another thread that is making a chunk, at most some milliseconds.
 */
void *arena_alloc(size_t size, size_t align);

/* Bytes usable at p. 0: p is not the start of a live object of the arena. */
size_t arena_usable(const void *p);

/* False: p is not the start of a live object of the arena (any more). */
bool arena_free(void *p);

/* Whether p lies in a chunk, so that it is a freed object or the middle of one if arena_free says false. */
bool arena_covers(const void *p);

/* Unmap the chunks that hold no object. For fork, when it has let go of the locks. */
void arena_sweep(void);

/* A fork is under way: a chunk for what other threads need until it is over, for while the kernel copies the
 * address space their own calls for one would wait. Gone with arena_sweep. */
void arena_fork_prepare(void);

/* In the child of a fork: nobody waits for threads that the child does not have. parent_tid: the TID that
 * the forking thread has in the parent. */
void arena_fork_child(uint32_t parent_tid);

/* Statistics: bytes mapped for chunks now. */
uint64_t arena_bytes(void);

/* Debug: walks everything while no other thread is in the arena; stops the program where an invariant
 * is broken. */
void arena_check(void);

#endif
