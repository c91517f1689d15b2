/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.h - how much memory the process may use yet, and how much free memory it may keep: limits of the memory
 * cgroup, soft_limit and cache_limit.
 */
#ifndef SLUICE_LIMITS_H
#define SLUICE_LIMITS_H

#include "os/cgroup.h"
#include "types.h"

/* At the start, by pressure_init: find the process's group, and keep what its files say. From limits_begin on growth
 * and frees respect the limits. */
const struct cgroup *limits_find(void);
void limits_begin(void);

/* Whether so many bytes more may be populated ahead: no limit is near. Without locks. */
bool limits_allow(uint64_t bytes);

/* The background thread only: see how near the limits are, and give back what is free when they are. generation: of its
 * marks, for reclaim_pressure. */
void limits_look(uint64_t generation);

/* How long it may sleep until it looks again. */
uint64_t limits_sleep_ms(void);

/* In a fork child: nobody looks at the limits just now. */
void limits_fork_child(void);

#endif
