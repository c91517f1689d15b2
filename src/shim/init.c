/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * init.c - start and end of the library in a process. Used by the dynamic loader and unit tests.
 *
 * The first malloc may come from the dynamic loader, before any constructor and before libc has its
 * environment: heap_init then works with what is known. The constructor does the rest: options of
 * the environment if they could not be read before, fork handlers, registration for membarrier
 * while there is one thread. It runs before the constructors of all other libraries (-z initfirst,
 * libsluice_la_LDFLAGS). Our fork handlers are therefore registered first, and our prepare handler
 * runs last, as that of glibc's own malloc: no other handler runs, and perhaps waits for a thread,
 * while our locks are held.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/init.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"
#include "heap/harden.h"
#include "heap/heap_slabs.h"
#include "heap/heap_thread.h"
#include "heap/profile.h"
#include "heap/quarantine.h"
#include "heap/sampler.h"
#include "os/vm.h"
#include "reclaim/background.h"
#include "reclaim/control.h"
#include "reclaim/export.h"
#include "reclaim/info.h"
#include "reclaim/pressure.h"
#include "reclaim/reclaim.h"
#include "reclaim/reserve.h"
#include "shim/fork.h"
#include "shim/jemalloc.h"
#include "shim/sanitizer.h"

#define WARM_LOOKS 8u /* heaps of threads that ended; few, so that the program ends soon */

uint64_t sluice_began_ns;
static pid_t process; /* the one that started this image, not a child of fork */

/* Puts "NAME=value" into the environment. The old array stays unchanged, because the program may
 * keep it. */
static void environ_put(char *entry)
{
	size_t len = strcspn(entry, "=") + 1;
	size_t n = 0;
	char **env;

	for (; environ[n]; n++) {
		if (strncmp(environ[n], entry, len) == 0) {
			environ[n] = entry;
			return;
		}
	}
	env = vm_map((n + 2) * sizeof(*env), 1);
	if (!env)
		return;
	memcpy(env, environ, n * sizeof(*env));
	env[n] = entry;
	environ = env;
}

static void (*next_due)(bool allocates);

/* In the first slow call of the program, because libc sets environ after our constructor: processes
 * that this one starts shall not repeat what we said about options (options_told). Those of bash,
 * dash and make do: these take their environment before they allocate. */
static void environ_put_told(bool allocates)
{
	(void)allocates;
	heap_due_begins = next_due;
	atomic_store_explicit(&heap_due, HEAP_DUE_NOT, memory_order_relaxed);
	if (environ)
		environ_put(options_told());
}

/* Settings that others keep from having an effect. */
static void say_useless(void)
{
	if (options.pcp_high_min > options.pcp_high_max)
		options_say("option pcp_high_min is above option pcp_high_max: pcp_high_max is "
			    "used for both");
	if (options.control && options.background == BACKGROUND_NEVER)
		options_say("option control has no effect with background:never: the background "
			    "thread answers");
	if (!options.prof && (options.prof_final || options.prof_leak || options.prof_interval ||
			      options.prof_gdump))
		options_say("option %s has no effect without the option prof",
			    options.prof_final      ? "prof_final"
			    : options.prof_leak     ? "prof_leak"
			    : options.prof_interval ? "prof_interval"
						    : "prof_gdump");
}

void sluice_init(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	process = sys_getpid();
	clock_init();
	sluice_began_ns = clock_ns();
	heap_init();
	heap_init_late();
	harden_init();
	say_useless();
	sampler_init();
	profile_by_class = info_by_class;
	reserve_init();
	reclaim_init();
	pressure_init();
	control_init();
	export_init();
	fork_init();
	if (thread_init)
		thread_init();
	background_init();
	if (options_told()) {
		next_due = heap_due_begins;
		heap_due_begins = environ_put_told;
		atomic_store_explicit(&heap_due, HEAP_DUE_CALL, memory_order_relaxed);
	}
}

/* glibc passes the arguments of main. Its own constructor, which sets environ to envp, may run
 * after this one. */
__attribute__((constructor(101))) static void library_begins(int argc, char **argv, char **envp)
{
	(void)argc;
#if defined(__GLIBC__)
	sanitizer_step_aside(argv, envp);
	if (!environ)
		environ = envp;
#else
	(void)argv;
	(void)envp;
#endif
	sluice_init();
}

__attribute__((destructor(101))) static void sluice_fini(void)
{
	int err;

	heap_empty_warm(WARM_LOOKS);
	heap_check_bins();
	quarantine_check_own();
	export_end();
	profile_end();
	if (options.stats_print)
		stats_print(NULL, NULL, "");
	if (!options.stats_file[0] || !sandbox_enter())
		return;
	err = stats_append(options.stats_file);
	/* Children without exec would repeat the warning. */
	if (err && sys_getpid() == process && !options_told())
		log_warn("option stats_file: '%s' cannot be written: %s", options.stats_file,
			 log_error(err));
	sandbox_leave();
}
