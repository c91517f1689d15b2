/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_size.h - how long the block is that an address belongs to.
 */
#ifndef SLUICE_HEAP_SIZE_H
#define SLUICE_HEAP_SIZE_H

#include <stddef.h>

/* Usable bytes, from the start of the block; 0 for what is no block, or was freed with a guard. p
 * may be anything. */
size_t heap_bytes_at(const void *p);

#endif
