/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * psi.h - the kernel's word that memory is short: PSI of the system and of the process's cgroup,
 * and memory.pressure_level of a version 1 cgroup.
 */
#ifndef SLUICE_PSI_H
#define SLUICE_PSI_H

#include "os/cgroup.h"
#include "types.h"

/* At the start, called by pressure_init: opens the files. */
void psi_open(const struct cgroup *group);

/*
 * Background thread only. Sleeps for ms, or less if little memory is left. An event of the kernel
 * ends the sleep, as a change of park_exit_word does; after an event all free memory is given back
 * before this returns. soon: the word is likely to change, and somebody to wait for it. also: a
 * further descriptor to wait for, or -1. Returns true if `also` has something to be read. epoch: of
 * its marks, for reclaim_pressure.
 */
bool psi_wait(uint64_t ms, bool soon, uint64_t epoch, int also);

/* In a fork child: the triggers are the parent's. copy: as for pressure_fork_child. */
void psi_fork_child(bool copy);

#endif
