/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mlock.c - mlockall. The kernel also counts reserved address space (RLIMIT_MEMLOCK), and
 * MCL_FUTURE does not lock pages of it that are made usable later. So we give it back first.
 * Uses region, next; used by the program.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/export.h"
#include "base/sys.h"
#include "page/region.h"
#include "shim/next.h"

EXPORT int mlockall(int flags)
{
	if (flags & (MCL_CURRENT | MCL_FUTURE))
		zones_release_reserved();
	if (sluice_next.mlockall)
		return sluice_next.mlockall(flags);
	return (int)sluice_syscall(SYS_mlockall, flags);
}
