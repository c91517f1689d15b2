/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mlock.c - mlockall: the kernel locks, and counts (RLIMIT_MEMLOCK), address space that is only reserved as
 * well, and what is made usable in it later it does not lock for MCL_FUTURE. So it goes back first.
 * Uses buddy.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "page/buddy.h"
#include "base/export.h"

EXPORT int mlockall(int flags)
{
	if (flags & (MCL_CURRENT | MCL_FUTURE))
		zones_release_reserved();
	return (int)syscall(SYS_mlockall, flags);
}
