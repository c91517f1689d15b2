/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sampler.h - what slow calls do while allocations are sampled.
 */
#ifndef SLUICE_SAMPLER_H
#define SLUICE_SAMPLER_H

#include "heap/heap_slabs.h"
#include "heap/profile.h"
#include "types.h"

/* Begins to sample, if an option asks for it. While the process has one thread. */
void sampler_init(void);

/*
 * In the critical section of h: an object of the class. Returns NULL if the heap has none, or if
 * the allocation is to be sampled. *due is 0 before the first call, and is then SAMPLE_COUNTED and
 * the bits of what it is to be sampled for: sampler_alloc is called for these, outside of the
 * critical section.
 */
struct object *sampler_take(struct heap *h, unsigned cls, unsigned *due);

/*
 * In the critical section of h, which malloc and free entered before they found no object, or no
 * room: an object; whether there is room in `freed`, the bin of `returned` that is full. NULL and
 * false, with the heap as it was, if the call is to leave it and take the general way.
 */
struct object *sampler_next(struct heap *h, unsigned cls);
bool sampler_makes_room(struct heap *h, const struct cache_bin *freed);

/* In the critical section of h: an object of a slab was freed. */
void sampler_put(struct heap *h, struct page *pg, struct object *o, struct due_list *d);

/* A large or huge object, or one of the arena, was allocated: bytes. */
void sampler_large(void *p, size_t bytes);

/* It was not sampled, and has grown where it was or by moving pages, from `old` to `bytes`. What
 * was counted before does not count again. */
void sampler_grown(void *p, size_t old, size_t bytes);

/* The block at p is about to be resized by realloc, and then is at q: NULL if it could not be. A
 * sampled one stays sampled, as an object of the call that resized it. pg: NULL if it lies in no
 * region. */
struct profile_note sampler_resizes(const struct page *pg, const void *p);
void sampler_resized(void *p, void *q, size_t old, size_t bytes, const struct profile_note *was);

/* huge_realloc with these, which asks for address space of free blocks if the kernel has none. */
void *sampler_resize_huge(void *p, size_t old, size_t size);

/* The block at p, if it is one, is about to be freed. pg: NULL if it lies in no region. */
void sampler_freed(struct page *pg, void *p);

/* A small allocation that is sampled. Returns NULL if there is no place of its own for it. */
void *sampler_alloc(size_t size, unsigned due);

#endif
