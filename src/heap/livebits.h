/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.h - whether a block is in use, by two bits for each ALIGN_MIN bytes of a region, outside
 * of the program's memory. Only hardened processes keep them.
 *
 * Any thread, any context; lock-free, except that live_ready may enter the kernel.
 */
#ifndef SLUICE_LIVEBITS_H
#define SLUICE_LIVEBITS_H

#include "types.h"

enum live {
	LIVE_NONE,   /* not in use, content unknown */
	LIVE_ZEROED, /* not in use, freed with zeros */
	LIVE_USED,
	LIVE_PLAIN, /* in use since before the bits were kept: nothing lies behind it */
};

/* p: in a region of ours. Makes sure that the region has bits. Returns false if no memory. */
bool live_ready(const void *p);

/* What the bits of the region cost, in bytes. */
uint64_t live_bytes(struct region *r);

enum live live_of(const void *p);

/* The block, which the caller has got, is in use now. Returns what it was before. */
enum live live_begin(const void *p);

/* Set LIVE_PLAIN or LIVE_NONE; before there are threads, or of a block that the caller has. */
void live_mark(const void *p, enum live state);

/* The block is not in use any more. zeroed: the caller, if it gets the block, fills it with zeros
 * before anyone can be given it. Returns what it was: of several callers one gets LIVE_USED or
 * LIVE_PLAIN. */
enum live live_end(const void *p, bool zeroed);

/* The run's blocks are not in use, content unknown. The caller owns the run. */
void live_forget(const struct page *pg, uint32_t npages);

#endif
