/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * init.c - start and end of the library in a process.
 *
 * The first malloc may come from the dynamic loader, before any constructor and before libc has
 * its environment: it makes the heap ready with what is known. The constructor does the rest:
 * options from the environment if they could not be had, the fork handlers (which must be
 * registered early, so that ours run last in prepare), the membarrier while there is one thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "init.h"

#include <stdbool.h>

#include "background.h"
#include "fork.h"
#include "heap.h"
#include "options.h"
#include "pressure.h"
#include "reclaim.h"
#include "reserve.h"
#include "stats.h"

__attribute__((constructor(101))) void sluice_init(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	heap_init();
	heap_init_late();
	reserve_init();
	reclaim_init();
	pressure_init();
	fork_init();
	background_init();
}

__attribute__((destructor(101))) static void sluice_fini(void)
{
	if (options.stats_file[0])
		stats_append(options.stats_file);
}
