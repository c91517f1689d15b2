/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * take.h - takes all objects of one slab, wherever they lie.
 */
#ifndef SLUICE_T_TAKE_H
#define SLUICE_T_TAKE_H

#include "heap/slab.h"

#include <limits.h>

static inline unsigned take(struct page *pg, struct object **out, unsigned n)
{
	unsigned far = UINT_MAX;

	return n ? slab_take(pg, out, n, &far) : 0;
}

#endif
