/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * early.h - what is done with the first frees of a heap and the first large objects of a process,
 * so that misuse is noticed.
 */
#ifndef SLUICE_EARLY_H
#define SLUICE_EARLY_H

#include "heap/heap_slabs.h"

/* One of the first HEAP_LOOKS frees of h: the object o of pg is kept, or goes to its slab. In the
 * critical section of h. */
void early_put(struct heap *h, struct page *pg, struct object *o, struct due_list *d);

/* One of the first large objects, a mapping between guards, which reads as zero. Returns NULL if it
 * is to be another one. */
void *early_large(size_t size);

#endif
