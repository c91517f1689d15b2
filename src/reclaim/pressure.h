/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.h - what says that memory is short: limits of the memory cgroup, the kernel's PSI,
 * soft_limit and cache_limit.
 */
#ifndef SLUICE_PRESSURE_H
#define SLUICE_PRESSURE_H

#include "types.h"

/* From now on growth and frees respect the limits. While the process has one thread. */
void pressure_init(void);

/* Whether so many bytes more may be populated ahead: no limit is near. Without locks. */
bool pressure_allows(uint64_t bytes);

/* In a fork child: nobody looks at the limits just now, and the parent's triggers are not ours. */
void pressure_fork_child(bool copy);

/* ---- the background thread only; generation: of its marks, for reclaim_pressure --------------- */

/* Sleep, or less if little is left; an event ends the sleep, as park_look does, and free memory is given back before this returns. also: a further
 * descriptor to wait for, or -1; true: it has something to be read. */
bool pressure_wait(uint64_t ms, uint64_t generation, int also);

/* See how near the limits are, and give back what is free when they are. */
void pressure_look(uint64_t generation);

#endif
