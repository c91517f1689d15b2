/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cgroup.h - the memory cgroup of this process, version 1 or 2: how much it may use, and how much is
 * left of that.
 */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include "base/ourfd.h"
#include "types.h"

#define CGROUP_PATH_MAX 1024u
#define CGROUP_LEVELS 16u

/* What is kept open of it. LIMIT, HIGH: which of them it has depends on the version. */
enum cgroup_file { CGROUP_LIMIT, CGROUP_HIGH, CGROUP_USAGE, CGROUP_STAT, CGROUP_FILES };

/* One group of the way up that has a limit. */
struct cgroup_level {
	uint64_t limit;   /* bytes: the lesser of memory.high and memory.max */
	uint16_t dir_len; /* its directory is that much of path */
	struct ourfd file[CGROUP_FILES];
};

struct cgroup {
	char path[CGROUP_PATH_MAX]; /* the process's own group */
	unsigned version;           /* 1 or 2; 0: none was found */
	unsigned levels;
	size_t base; /* so much of path is the directory of the hierarchy */
	struct ourfd events;
	struct cgroup_level level[CGROUP_LEVELS];
};

/*
 * Find the group that `membership` (the text of /proc/self/cgroup) names under root (where cgroup
 * file systems are mounted), and the limits of it and of all groups above it, of which the files stay open. False: there is no
 * such group; a group without limits has no levels. At the start only, by one caller; what was found before is closed. fs: what
 * the files have to be of.
 */
bool cgroup_find_in(struct cgroup *g, const char *root, const char *membership, enum ourfd_fs fs);

/* A further file of the process's own group, for the same time; -1: there is none. */
int cgroup_open(const struct cgroup *g, const char *name, int flags);

/* That is all: the directory is closed. */
void cgroup_found(void);

/* The limits may have been changed. */
void cgroup_refresh(struct cgroup *g);

/* The same for this process, with the option cgroup_root. */
bool cgroup_find(struct cgroup *g);

/*
 * Bytes that may be used yet before the first of the limits is reached; 0: none. What the kernel can
 * drop by itself (file pages) counts as unused, but is only looked at when less than `enough` is left
 * without it. UINT64_MAX: there is no limit, or it cannot be read.
 */
uint64_t cgroup_headroom(struct cgroup *g, uint64_t enough);

/* The least limit; UINT64_MAX: none. */
uint64_t cgroup_limit(const struct cgroup *g);

/* How often the process's own group was held back by its limits (version 2: memory.events, high and
 * max; version 1: memory.failcnt); 0 where none of the groups had a limit. */
uint64_t cgroup_events(struct cgroup *g);

#endif
