/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * share.h - counts of writes to cache lines that several threads write. They show what does not
 * scale, on machines that have too few processors to measure it.
 *
 * Counted are locks taken, by rank, and atomic read-modify-write operations on the words of
 * share.def; retries are not counted. Only debug builds and builds with delays count; in all others
 * the macros are empty. Wait free and safe anywhere. Threads count in shards, so that the counting
 * itself is not a shared write.
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
/* name: a row of share.def. rank: of a lock that was just taken. */
#define SHARE_COUNT(name) share_add(SHARE_##name)
#define SHARE_LOCK(rank) share_add((enum share_id)(SHARE_lock_CONTROL + (unsigned)(rank)))
#else
#define SHARE_COUNT(name) ((void)0)
#define SHARE_LOCK(rank) ((void)0)
#endif

#endif
