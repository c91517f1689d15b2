/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h - event counters. stat_add is wait free and safe anywhere. A sum is exact while no thread
 * counts.
 */
#ifndef SLUICE_STATS_H
#define SLUICE_STATS_H

#include "base/share.h"
#include "types.h"

enum stat_id {
#define STAT(name, text) STAT_##name,
#include "base/stats.def"
	STATS
};

/* Shards spread the threads over cache lines; each thread keeps its shard. Power of two. */
#define STAT_SHARDS 16u

struct stat_shard {
	cache_aligned _Atomic uint64_t count[STATS];
};

extern struct stat_shard stat_shards[STAT_SHARDS];
extern _Thread_local uint32_t stat_shard_self TLS_FAST; /* index + 1; 0 until first used */
uint32_t stat_shard_pick(void);

static inline void stat_add(enum stat_id s, uint64_t n)
{
	uint32_t shard = stat_shard_self;

	if (unlikely(!shard))
		shard = stat_shard_pick();
	SHARE_COUNT(stats);
	atomic_fetch_add_explicit(&stat_shards[shard - 1].count[s], n, memory_order_relaxed);
}

uint64_t stat_sum(enum stat_id s);
const char *stat_name(enum stat_id s);

/* Neither follows a link, nor waits for the reader of a FIFO. */
#define STATS_FILE_FLAGS                                                                           \
	(O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
#define STATS_FILE_MODE 0600

/* Appends "sluice pid=N program=NAME name=value ..." to the file. Returns 0, also if the file
 * cannot be opened, or the errno of the write. */
int stats_append(const char *path);

#endif
