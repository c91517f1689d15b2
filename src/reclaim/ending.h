/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ending.h - the end of our threads and a seccomp filter for all threads, which may kill for the
 * calls that libc makes at the end of a thread: either comes first.
 */
#ifndef SLUICE_ENDING_H
#define SLUICE_ENDING_H

#include <stdbool.h>

#include "types.h"

/* The background thread begins to end, and the reserve's with it (its TID; 0: none; 1: being
 * started). Returns false if it must not: a filter is there or is just being installed, or the
 * threads before these are not gone. */
bool ending_begins(uint32_t reserve);

/*
 * The program is about to install a filter for all threads, and sandbox_begins has said so: waits
 * at most ms for those of our threads that had begun to end. blind: the calling thread has a filter
 * already, so the kernel is not asked. Keeps errno.
 */
void ending_wait(bool blind, uint32_t ms);

/* Whether a thread of ours that has begun to end is still there. Asks the kernel only in the first
 * 2 s after that. */
bool ending_any(void);

void ending_fork_child(void);

#endif
