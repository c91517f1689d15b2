/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * next.h - the functions that the program would call without us, where they are not libc's own:
 * those of another preloaded library behind ours (torsocks, uid_wrapper, a tracer of forks). Each
 * function of ours that stands in front of one of libc ends in the next of its name.
 */
#ifndef SLUICE_NEXT_H
#define SLUICE_NEXT_H

#include <sys/types.h>

/* NULL: libc's own is next, for which a raw system call (fork: __fork) does. */
struct next_functions {
	int (*capset)(void *header, const void *data);
	int (*close_range)(unsigned first, unsigned last, int flags);
	pid_t (*fork)(void);
	int (*mlockall)(int flags);
	int (*mount)(const char *source, const char *target, const char *type, unsigned long flags,
		     const void *data);
	int (*prctl)(int option, ...);
	int (*setns)(int fd, int type);
	int (*umount)(const char *target);
	int (*umount2)(const char *target, int flags);
	int (*unshare)(int flags);
};

extern struct next_functions sluice_next __attribute__((visibility("hidden")));
extern long (*sluice_next_syscall)(long n, ...) __attribute__((visibility("hidden")));

#endif
