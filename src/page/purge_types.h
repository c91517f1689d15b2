/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * purge_types.h - what trim (purge.c) keeps for the zones that share their memory.
 */
#ifndef SLUICE_PURGE_TYPES_H
#define SLUICE_PURGE_TYPES_H

#include "types.h"

/* Any thread, atomic: pages, and times in ms. A race between two frees loses an update, so that a
 * few pages more or fewer are purged. */
struct trim {
	cache_aligned _Atomic uint64_t low; /* the fewest dirty pages since `at` */
	_Atomic uint64_t due;               /* still to be purged of the period before that */
	_Atomic uint64_t at;
	_Atomic uint64_t gone; /* given back by frees, and not taken again yet */
	_Atomic uint64_t gone_at;
	_Atomic uint64_t seen;   /* growth.clean_taken at the last call of trim_earned */
	_Atomic uint64_t peak;   /* the most dirty pages at a free since a purge or earned_at */
	_Atomic uint64_t reused; /* the most of these that were taken again since earned_at */
	_Atomic uint64_t earned; /* dirty pages that may be kept beyond the soft limit */
	_Atomic uint64_t earned_at;
};

#endif
