/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * share.h - how often a line is written that other threads write as well: what does not scale is
 * counted, since no machine at hand has so many processors that one could see it.
 *
 * Counted are locks taken, by rank, and atomic read-modify-writes of the words of share.def; one that is tried
 * again counts once. Only in debug builds, and in those with delays; in all others the macros are
 * nothing. Wait free and safe anywhere: each thread adds to a set that few others share, so that
 * counting does not become what is counted.
 */
#ifndef SLUICE_SHARE_H
#define SLUICE_SHARE_H

#include "types.h"

#if !defined(SLUICE_SHARING)
#if (defined(SLUICE_DEBUG) && SLUICE_DEBUG) || (defined(SLUICE_DELAYS) && SLUICE_DELAYS)
#define SLUICE_SHARING 1
#else
#define SLUICE_SHARING 0
#endif
#endif

enum share_id {
#define LOCKRANK(name, most, text) SHARE_lock_##name,
#include "base/lockrank.def"
#undef LOCKRANK
#define SHARE(name, text) SHARE_##name,
#include "base/share.def"
#undef SHARE
	SHARES
};

void share_add(enum share_id s);
uint64_t share_sum(enum share_id s);
const char *share_name(enum share_id s);

#if SLUICE_SHARING
/* name: a row of share.def; rank: of a lock that was just taken. */
#define SHARE_COUNT(name) share_add(SHARE_##name)
#define SHARE_LOCK(rank) share_add((enum share_id)(SHARE_lock_CONTROL + (unsigned)(rank)))
#else
#define SHARE_COUNT(name) ((void)0)
#define SHARE_LOCK(rank) ((void)0)
#endif

#endif
