/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * take.h - takes all objects of one slab, wherever they lie. The first one comes first.
 */
#ifndef SLUICE_T_TAKE_H
#define SLUICE_T_TAKE_H

#include "heap/slab.h"

#define TAKE_MOST 4096u /* a slab has no more objects */

static inline unsigned take(struct page *pg, struct object **out, unsigned n)
{
	struct object *taken[TAKE_MOST];
	unsigned most = n < TAKE_MOST ? n : TAKE_MOST;
	unsigned got = n ? slab_take(pg, taken + most, most, false) : 0;

	for (unsigned i = 0; i < got; i++)
		out[i] = taken[most - 1 - i];
	return got;
}

#endif
