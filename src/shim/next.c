/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * next.c - see next.h. Used by attributes, mlock, mount, seccomp and thread.
 *
 * The functions are looked up once, by a constructor: dlsym takes the loader's lock and may call
 * malloc, which a signal handler or a child of vfork must not do. Calls of earlier constructors,
 * and those of a statically linked program, go to the kernel at once. So do all others where
 * nothing but libc is behind us: that is cheaper, and safe anywhere. Before glibc 2.35 libc's
 * functions are not told from others, and are called.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/next.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct next_functions sluice_next;
long (*sluice_next_syscall)(long n, ...);

#if defined(__GLIBC__)
extern int __pthread_create(void) __attribute__((weak)); /* see thread.c */

static bool is_static(void)
{
	return __pthread_create != NULL;
}
#else
static bool is_static(void)
{
	return false; /* its dlsym finds nothing */
}
#endif

#ifdef DLFO_STRUCT_HAS_EH_DBASE
extern pid_t __fork(void);

/* In the module in which __fork is. */
static bool is_of_libc(void *symbol)
{
	struct dl_find_object libc;
	struct dl_find_object its;

	return !_dl_find_object((void *)(uintptr_t)__fork, &libc) &&
	       !_dl_find_object(symbol, &its) && its.dlfo_map_start == libc.dlfo_map_start;
}
#else
static bool is_of_libc(void *symbol)
{
	(void)symbol;
	return false;
}
#endif

/* fn: address of a pointer to a function. */
static void find(const char *name, void *fn)
{
	void *symbol = dlsym(RTLD_NEXT, name);

	if (symbol && !is_of_libc(symbol))
		memcpy(fn, &symbol, sizeof(symbol));
}

/* After that of init.c, which may execute the program again. */
__attribute__((constructor(102))) static void next_find(void)
{
	if (is_static())
		return;
	find("capset", &sluice_next.capset);
	find("close_range", &sluice_next.close_range);
#if defined(__GLIBC__)
	find("fork", &sluice_next.fork);
#endif
	find("mlockall", &sluice_next.mlockall);
	find("mount", &sluice_next.mount);
	find("prctl", &sluice_next.prctl);
	find("setns", &sluice_next.setns);
	find("umount", &sluice_next.umount);
	find("umount2", &sluice_next.umount2);
	find("unshare", &sluice_next.unshare);
	find("syscall", &sluice_next_syscall);
}
