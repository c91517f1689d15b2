/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attributes.h - calls that change what the kernel keeps for each thread (reclaim/differ.h).
 */
#ifndef SLUICE_ATTRIBUTES_H
#define SLUICE_ATTRIBUTES_H

#include <sys/syscall.h>

#include "types.h"

/* Makes the system call n, of at most five arguments, by `call`, with what has to be done before
 * and after it. attributes_raw: the system call itself; returns -1 with errno. */
typedef long attributes_fn(long n, const long *arg);
long attributes_call(long n, const long *arg, attributes_fn *call);
attributes_fn attributes_raw;

/* The system calls by which they are changed, and those that install a filter: the function
 * `syscall` looks at these only. X(number, data) */
#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif
#define ATTRIBUTES_CALLS(X, data)                                                                  \
	(X(SYS_prctl, data) | X(SYS_seccomp, data) | X(SYS_unshare, data) | X(SYS_setns, data) |   \
	 X(SYS_capset, data) | X(SYS_close_range, data) | X(SYS_landlock_restrict_self, data) |    \
	 X(SYS_setuid, data) | X(SYS_setgid, data) | X(SYS_setreuid, data) |                       \
	 X(SYS_setregid, data) | X(SYS_setresuid, data) | X(SYS_setresgid, data) |                 \
	 X(SYS_setfsuid, data) | X(SYS_setfsgid, data) | X(SYS_setgroups, data))

#endif
