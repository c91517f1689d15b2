/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * background.h - a thread of our own that gives memory back while no thread of the program calls
 * us.
 */
#ifndef SLUICE_BACKGROUND_H
#define SLUICE_BACKGROUND_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "types.h"

/* The thread is inside a function of libc that makes threads or forks: calls of malloc from there
 * do not start our threads. */
extern _Thread_local bool background_inside TLS_FAST;

/*
 * How our threads are made: libc's own pthread_create, past those of other libraries, which may
 * wait for the very thread whose malloc starts ours, or expect ours to answer their signals. And
 * what libc takes of a stack for itself and for TLS, in bytes; NULL: it is not known, and a stack
 * has the usual size. Set by the shim before the first start.
 */
typedef int background_create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
extern background_create_fn *background_create;
extern size_t (*background_stack_more)(const pthread_attr_t *);

/* At the start of the process: notes its processors, and starts the thread with
 * background:always. */
void background_init(void);

/*
 * Starts the thread if the options want it and it does not run yet. threads: the process has
 * several threads. Called at safe points only: the caller holds no lock of ours and is outside a
 * critical section. May call malloc (pthread_create does). Failure is silent: frees then give
 * memory back.
 */
void background_start(bool threads);

/*
 * The process is at a limit of threads, or wants to be single-threaded: our threads end at once.
 * only_alone: only if there are no others. Waits until the kernel has no trace of them, at most 2
 * s; returns false if they did not exist or stay. Called without locks, outside critical sections.
 */
bool background_leave(bool only_alone);

/*
 * The program is about to make a call that is simple only while a process has one thread (fork; a
 * seccomp filter, which our threads would not get). If ours are the only other threads, as they are
 * for a moment after the program's last one has ended, they end first. Waits at most ms: the caller
 * may be a signal handler that interrupted malloc, and ours may wait for that call.
 */
#define BACKGROUND_LEAVE_FORK_MS 200u
#define BACKGROUND_LEAVE_FILTER_MS 2000u /* a filter may kill a thread that ends too late */
void background_leave_alone(uint32_t ms);

/*
 * The program is about to change what the kernel keeps for each thread, and differ_enter has said
 * so: our threads end, also beside others. Waits at most ms until the kernel has no trace of them.
 * background_exists: whether it has. background_comes_again: afterwards; the thread starts at the
 * next call that allocates if it should run, because the change failed beside other threads.
 */
void background_leave_all(uint32_t ms);
bool background_exists(void);
void background_comes_again(bool others);

/* Whether our threads exist and are the only others. */
bool background_is_alone(void);

/* Whether the thread runs, and whether it may. background_set overrides the option, and waits for
 * the thread's end as background_leave does. */
bool background_runs(void);
bool background_is_on(void);
void background_set(bool on);

/*
 * In a fork child, which does not have the thread. With background:always the first slow call of
 * the child starts it. In a copy (_Fork, raw clone) only a call that makes a thread does, because
 * locks of libc may be held there for good. mask: signals that the forking thread had blocked.
 */
void background_fork_child(bool copy);
void background_fork_mask(uint64_t mask);

#endif
