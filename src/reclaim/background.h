/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * background.h - a thread of our own that gives memory back while nobody calls anything.
 */
#ifndef SLUICE_BACKGROUND_H
#define SLUICE_BACKGROUND_H

#include <stdbool.h>

#include "types.h"

/* The thread is inside a function of libc that makes threads, or forks: none of ours is made by the calls of malloc there. */
extern _Thread_local bool background_inside TLS_FAST;

/* The start of the process: which processors it has is noted, and the thread is started if it is always wanted. */
void background_init(void);

/*
 * Start it if the options want it and it does not run yet. threads: the process has several. To
 * be called at safe points only: the caller holds no lock of ours and is in no window. May call
 * malloc (pthread_create does). Failure is silent: memory is then given back by those who free.
 */
void background_start(bool threads);

/*
 * The process is at a limit of threads, or wants to be single-threaded: ours end at once. only_alone: if no others are there.
 * Returns whether they were there and have left the kernel; waits for that, 2 s at most. Not in a window and without locks.
 */
bool background_leave(bool only_alone);

/*
 * The program is about to do what a process of one thread may do without a second thought (fork; a seccomp filter, which ours would
 * not have). If ours are the only others, as they are for a moment after the program's last one has ended, they end before.
 * Waits for 0.2 s at most: a signal handler may call this that interrupted malloc, which ours wait for then.
 */
void background_leave_alone(void);

/*
 * In a fork child: it is no more. With background:always the child's first call that goes the slow way starts it; in a
 * copy only one that makes a thread does, for libc's locks may be held there for good. mask: the signals that its thread had blocked.
 */
void background_fork_child(bool copy);
void background_fork_mask(uint64_t mask);

#endif
