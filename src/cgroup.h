/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cgroup.h - the memory cgroup of this process, version 1 or 2: how much it may use, and how much is
 * left of that.
 */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include "types.h"

#define CGROUP_PATH_MAX 1024u
#define CGROUP_LEVELS 16u

/* One group of the way up that has a limit. */
struct cgroup_level {
	uint64_t limit;   /* bytes: the lesser of memory.high and memory.max */
	uint16_t dir_len; /* its directory is that much of path */
};

struct cgroup {
	char path[CGROUP_PATH_MAX]; /* the process's own group */
	unsigned version;           /* 1 or 2; 0: none was found */
	unsigned levels;
	struct cgroup_level level[CGROUP_LEVELS];
};

/*
 * Find the group that `membership` (the text of /proc/self/cgroup) names under root (where cgroup
 * file systems are mounted), and the limits of it and of all groups above it. False: there is no
 * such group; a group without limits has no levels.
 */
bool cgroup_find_in(struct cgroup *g, const char *root, const char *membership);

/* The same for this process, with the option cgroup_root. */
bool cgroup_find(struct cgroup *g);

/*
 * Bytes that may be used yet before the first of the limits is reached; 0: none. What the kernel can
 * drop by itself (file pages) counts as unused, but is only looked at when less than `enough` is left
 * without it. UINT64_MAX: there is no limit, or it cannot be read.
 */
uint64_t cgroup_headroom(const struct cgroup *g, uint64_t enough);

/* The least limit; UINT64_MAX: none. */
uint64_t cgroup_limit(const struct cgroup *g);

/* How often the process's own group was held back by its limits (version 2: memory.events, high and
 * max; version 1: memory.failcnt). */
uint64_t cgroup_events(const struct cgroup *g);

#endif
