/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cgroup.h - the memory cgroup of this process, version 1 or 2: its limits, and the headroom below
 * them.
 */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include "base/ourfd.h"
#include "types.h"

#define CGROUP_PATH_MAX 1024u
#define CGROUP_LEVELS 16u

/* The files that are kept open. Version 1 has no HIGH. */
enum cgroup_file { CGROUP_LIMIT, CGROUP_HIGH, CGROUP_USAGE, CGROUP_STAT, CGROUP_FILES };

/* A group that has a limit: the process's own or one above it. */
struct cgroup_level {
	uint64_t limit;   /* bytes: the smaller of memory.high and memory.max */
	uint16_t dir_len; /* its directory is the first dir_len bytes of path */
	struct ourfd file[CGROUP_FILES];
};

struct cgroup {
	char path[CGROUP_PATH_MAX]; /* the process's own group */
	unsigned version;           /* 1 or 2; 0 if none was found */
	unsigned levels;
	size_t base; /* the first base bytes of path are the directory of the hierarchy */
	struct ourfd events;
	struct cgroup_level level[CGROUP_LEVELS];
};

/*
 * Finds the group that `membership` (the text of /proc/self/cgroup) names under root (where cgroup
 * file systems are mounted), and the limits of it and of all groups above it. Keeps the files of
 * groups that have a limit open, and closes those of an earlier call. The files must be on a file
 * system fs. Returns false if there is no such group; without limits it has no levels. At the start
 * only, by one caller.
 */
bool cgroup_find_in(struct cgroup *g, const char *root, const char *membership, enum ourfd_fs fs);

/* Opens another file of the process's own group, before cgroup_found. Returns -1 if there is
 * none. */
int cgroup_open(const struct cgroup *g, const char *name, int flags);

/* All files are open: closes the directory. */
void cgroup_found(void);

/* Reads the limits again. */
void cgroup_refresh(struct cgroup *g);

/* cgroup_find_in for this process, with the option cgroup_root. */
bool cgroup_find(struct cgroup *g);

/*
 * Bytes that may still be used before the first limit is reached. File pages, which the kernel can
 * drop, count as unused; they are read only if less than `enough` is left without them. Returns
 * UINT64_MAX if there is no limit, or it cannot be read.
 */
uint64_t cgroup_headroom(struct cgroup *g, uint64_t enough);

/* The smallest limit; UINT64_MAX if there is none. */
uint64_t cgroup_limit(const struct cgroup *g);

/* How often the process's own group met its limits (version 2: memory.events, high and max; version
 * 1: memory.failcnt). Returns 0 if no group had a limit. */
uint64_t cgroup_events(struct cgroup *g);

#endif
