/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * growth_types.h - what growth keeps for the zones that share their memory.
 */
#ifndef SLUICE_GROWTH_TYPES_H
#define SLUICE_GROWTH_TYPES_H

#include "types.h"

/* Any thread, atomic. They change when the process grows, and rarely otherwise. */
struct growth {
	cache_aligned _Atomic uint64_t clean_taken; /* clean pages handed out, ever */
	_Atomic uint64_t prefaulted_taken; /* prefaulted pages handed out, less those unused */
	_Atomic uint64_t ask_at;      /* the growth at which others are asked for cached memory */
	_Atomic uint64_t ask_most;    /* most pages of growth between two requests; 0: no limit */
	_Atomic uint64_t dense_taken; /* pages, see prefault_huge, since the last huge page */
	_Atomic uint64_t mapped; /* pages of mappings beside the zones, when the last was made */
};

#endif
