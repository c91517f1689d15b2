/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.h - whether the process has installed a seccomp filter since its start.
 *
 * A filter may kill the process for any call that it does not list. Programs list the calls that
 * they know malloc to make: brk, mmap, munmap, mremap, madvise, mprotect and futex. These the
 * library always makes. All others (doc/system-calls.md) are useful but not necessary: they stand
 * between sandbox_enter and sandbox_leave, and are not made once a filter was installed. What a
 * filter refuses that was there at the start of the program is found out at the start.
 *
 * The shim sees the program install a filter (src/shim/seccomp.c), unless it does so by an inlined
 * system call.
 */
#ifndef SLUICE_SANDBOX_H
#define SLUICE_SANDBOX_H

#include "types.h"

/* Set in the threads of the library. They are older than any filter, so only one for all threads
 * applies to them. */
extern _Thread_local bool sandbox_own TLS_FAST;

/* Returns false if the call must not be made. Otherwise the caller makes it at once and then calls
 * sandbox_leave. Keeps errno. */
bool sandbox_enter(void);
void sandbox_leave(void);

/* Whether a filter was installed, for this or another thread. */
bool sandbox_any(void);

/* Whether a filter was installed for all threads, those of the library included. */
bool sandbox_all(void);

/* Called before the program installs a filter, for all threads or for the calling one. Returns true
 * if it is the first of its kind. sandbox_failed: the filter was not installed after all. */
bool sandbox_begins(bool all);
void sandbox_failed(bool all);

/* In a child, where the threads that were inside do not exist. */
void sandbox_fork_child(void);

#endif
