/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * membarrier.c - membarrier(2), within the sandbox's rules.
 * Used by claim (heaps of other threads), heap_thread (fork) and background (parking); uses
 * sandbox, stats.
 *
 * No lock, no allocation.
 * Source: the asymmetric barrier is that of hazard pointers and RCU in user space (Desnoyers et
 * al. 2012).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "os/membarrier.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"

static bool registered;
static _Atomic int last_error; /* errno of the last call, or 0; inexact, for statistics */

static bool call(int command)
{
	bool good = false;

	errno = EPERM;
	if (sandbox_enter()) {
		good = sluice_syscall(SYS_membarrier, command, 0, 0) == 0;
		sandbox_leave();
	}
	atomic_store_explicit(&last_error, good ? 0 : errno, memory_order_relaxed);
	return good;
}

void membarrier_init(void)
{
	int saved = errno;

	registered = call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	errno = saved;
}

int membarrier_error(void)
{
	return atomic_load_explicit(&last_error, memory_order_relaxed);
}

bool membarrier_expedited(void)
{
	int saved = errno;
	bool good = registered && call(MEMBARRIER_CMD_PRIVATE_EXPEDITED);

	if (good)
		stat_add(STAT_barriers_expedited, 1);
	errno = saved;
	return good;
}

bool membarrier_global(void)
{
	int saved = errno;
	bool good = call(MEMBARRIER_CMD_GLOBAL);

	if (good)
		stat_add(STAT_barriers_global, 1);
	else
		good = errno == EINVAL && membarrier_expedited();
	errno = saved;
	return good;
}
