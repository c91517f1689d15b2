/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.h - memory for calls that can use neither heap nor lock. All functions are lock-free,
 * except in the kernel, and safe in signal handlers and fork children.
 *
 * Objects of many such calls share a mapping (a chunk). So while a fork holds the locks for long,
 * the other threads need a few mappings instead of one for each call.
 */
#ifndef SLUICE_ARENA_H
#define SLUICE_ARENA_H

#include "types.h"

/* A larger object, or one with a larger alignment, gets a mapping of its own (huge.h). */
#define ARENA_SIZE_MAX ((size_t)256 << 10)
#define ARENA_ALIGN_MAX ((size_t)64 << 10)

static inline bool arena_takes(size_t size, size_t align)
{
	return size <= ARENA_SIZE_MAX && align <= ARENA_ALIGN_MAX;
}

/*
 * The caller made sure of arena_takes(size, align); align is a power of two. The memory may have
 * been written before, so it need not read as zero. Returns NULL if the kernel refuses a chunk, or
 * if all slots for chunks are taken. May wait some milliseconds for another thread that makes a
 * chunk.
 */
void *arena_alloc(size_t size, size_t align);

/* Bytes usable at p. Returns 0 if p is not the start of a live object of the arena. */
size_t arena_usable(const void *p);

/* Returns false if p is not the start of a live object of the arena. */
bool arena_free(void *p);

/* Whether p lies in a chunk. If it does and arena_free returned false, p is a freed object or the
 * middle of an object. */
bool arena_covers(const void *p);

/* Unmap the chunks that hold no object. Fork calls it after it released the locks. */
void arena_sweep(void);

/* At the start of a fork: map a chunk for the other threads, unless there is room. While the kernel
 * copies the address space, their own calls of mmap would wait. arena_sweep unmaps it. */
void arena_fork_prepare(void);

/* In the child of a fork: chunks of threads that the child does not have are not waited for.
 * parent_tid: the TID of the forking thread in the parent. */
void arena_fork_child(uint32_t parent_tid);

/* Statistics: bytes mapped for chunks now. */
uint64_t arena_bytes(void);

/* Statistics: bytes of the blocks that hold objects; and calls see for each chunk. */
uint64_t arena_used_bytes(void);
void arena_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg);

/* Debug: check all invariants while no other thread is in the arena. Stops the program where one is
 * broken. */
void arena_check(void);

#endif
