/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.h - whether the process has given itself a seccomp filter since its start.
 *
 * A filter may kill on any call that it does not name, and a program names those that it knows: of malloc
 * these are brk, mmap, munmap, mremap, madvise, mprotect and futex. We make these always. All others (doc/system-calls.md)
 * are worth something and needed for nothing: they stand between sandbox_enter and sandbox_leave, and
 * are not made any more once a filter was installed. What a filter that is there at the start of the program refuses is
 * found out there.
 *
 * The shim sees the program install one (shim/seccomp.c). One that is installed by an inlined system call is not noticed.
 */
#ifndef SLUICE_SANDBOX_H
#define SLUICE_SANDBOX_H

#include "types.h"

/* Set in our own threads: they were made before any filter, which they have only if it is for all threads. */
extern _Thread_local bool sandbox_own TLS_FAST;

/* False: the call must not be made. Else it is made at once, and sandbox_leave follows. Changes no errno. */
bool sandbox_enter(void);
void sandbox_leave(void);

/* Whether a filter was installed, for this thread or another. */
bool sandbox_any(void);

/* Whether it is one for all threads, which ours have, too. */
bool sandbox_all(void);

/* Before the program installs one, for all threads or for the calling one; true: it is the first such. sandbox_failed: it could not be
 * installed after all. */
bool sandbox_begins(bool all);
void sandbox_failed(bool all);

/* In a child: the threads that were inside are not there. */
void sandbox_fork_child(void);

#endif
