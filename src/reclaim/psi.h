/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * psi.h - what the kernel says of memory: PSI of the system and of the process's cgroup, and version 1's memory.pressure_level.
 */
#ifndef SLUICE_PSI_H
#define SLUICE_PSI_H

#include "os/cgroup.h"
#include "types.h"

/* At the start, by pressure_init: open the files. */
void psi_open(const struct cgroup *group);

/* The background thread only. Sleep, or less if little is left; an event ends the sleep, as park_look does, and free memory is given back before this returns. also: a further
 * descriptor to wait for, or -1; true: it has something to be read. generation: of its marks, for reclaim_pressure. */
bool psi_wait(uint64_t ms, uint64_t generation, int also);

/* In a fork child: the parent's triggers are not ours. */
void psi_fork_child(bool copy);

#endif
