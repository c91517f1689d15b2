/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quick_types.h - a zone's quick lists.
 */
#ifndef SLUICE_QUICK_TYPES_H
#define SLUICE_QUICK_TYPES_H

#include "base/list.h"
#include "types.h"

/* The shortest and the longest run on a list. Shorter ones are slabs: to cut and merge them costs
 * little, and a slab writes to other pages of the run than the one before it did. */
#define QUICK_PAGES_MIN 5u
#define QUICK_PAGES 64u

/* Guarded by: zone.lock. filled and runs are also read without it. */
struct quick {
	_Atomic uint64_t filled; /* bit n: list n has runs */
	_Atomic uint32_t runs;
	uint64_t pages;
	struct page_list_head list[QUICK_PAGES]; /* list n: runs of n + 1 pages */
};

#endif
