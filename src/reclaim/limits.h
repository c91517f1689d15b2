/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.h - how much more memory the process may use, and how much free memory it may keep: the
 * limits of its memory cgroup, soft_limit and cache_limit.
 */
#ifndef SLUICE_LIMITS_H
#define SLUICE_LIMITS_H

#include "os/cgroup.h"
#include "types.h"

/* At the start, called by pressure_init: finds the process's cgroup and opens its files. From
 * limits_begin on, growth and frees respect the limits. */
const struct cgroup *limits_find(void);
void limits_begin(void);

/* Whether `bytes` more may be populated ahead, because no limit is near. Called without locks. */
bool limits_allow(uint64_t bytes);

/* Background thread only: checks how near the limits are, and gives back free memory if they are
 * near. epoch: of its marks, for reclaim_pressure. */
void limits_check(uint64_t epoch);

/* The longest time, in ms, that the background thread may sleep until its next limits_check. */
uint64_t limits_sleep_ms(void);

/* In a fork child: no thread is checking there. */
void limits_fork_child(void);

#endif
