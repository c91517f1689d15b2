/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * init.c - start and end of the library in a process.
 *
 * The first malloc may come from the dynamic loader, before any constructor and before libc has
 * its environment: it makes the heap ready with what is known. The constructor does the rest:
 * options from the environment if they could not be had, the fork handlers, the membarrier while there is one
 * thread. It comes before those of all other libraries (-z initfirst, libsluice_la_LDFLAGS), so that our fork handlers are
 * the first that are registered and the last that prepare runs, as those of glibc's own malloc: no other one
 * runs, and waits for somebody, while our locks are held.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "init.h"

#include <stdbool.h>
#include <unistd.h>

#include "background.h"
#include "fork.h"
#include "heap.h"
#include "options.h"
#include "pressure.h"
#include "reclaim.h"
#include "reserve.h"
#include "stats.h"

void sluice_init(void)
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

/* glibc passes what main gets; its own constructor, which sets environ to the same, may come after this one. */
__attribute__((constructor(101))) static void library_begins(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
#if defined(__GLIBC__)
	if (!environ)
		environ = envp;
#else
	(void)envp;
#endif
	sluice_init();
}

__attribute__((destructor(101))) static void sluice_fini(void)
{
	if (options.stats_file[0])
		stats_append(options.stats_file);
}
