/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpus.c - see cpus.h. Used by background. No lock; allocates nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/cpus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cpulist.h"
#include "base/log.h"
#include "base/options.h"
#include "base/sys.h"

#define CPUS_MAX 8192u
#define CPU_BITS (8 * sizeof(unsigned long))
static unsigned long cpus[CPUS_MAX / CPU_BITS]; /* of our threads; written before the first one */
static long cpus_bytes;                         /* 0 if they are not known */
static _Atomic bool cpus_refused;               /* by the kernel, which was said */

/* Reads a list as 0-3+8 (a comma would end the setting); returns false if it is not one. */
static bool read_cpus(const char *text)
{
	unsigned first;
	unsigned last;

	do {
		if (!cpulist_next(&text, '+', &first, &last) || last >= CPUS_MAX)
			return false;
		for (unsigned cpu = first; cpu <= last; cpu++)
			cpus[cpu / CPU_BITS] |= 1ul << (cpu % CPU_BITS);
	} while (text[-1] == '+');
	return *text == '\0';
}

void cpus_find(void)
{
	int saved = errno;
	long n = sluice_syscall(SYS_sched_getaffinity, 0, sizeof(cpus), cpus);

	errno = saved;
	cpus_bytes = n > 0 ? n : 0;
	if (!options.background_cpus[0])
		return;
	memset(cpus, 0, sizeof(cpus));
	cpus_bytes = sizeof(cpus);
	if (!read_cpus(options.background_cpus)) {
		options_say("option background_cpus: '%s' is not a list of processors below 8192, "
			    "as 0-3+8",
			    options.background_cpus);
		cpus_bytes = 0;
	}
}

/* The kernel leaves out processors that the process may not use. */
void cpus_take(void)
{
	if (cpus_bytes && sluice_syscall(SYS_sched_setaffinity, 0, (size_t)cpus_bytes, cpus) != 0 &&
	    options.background_cpus[0] && errno == EINVAL &&
	    !atomic_exchange_explicit(&cpus_refused, true, memory_order_relaxed))
		log_warn("option background_cpus: the process may use no processor of '%s'",
			 options.background_cpus);
}
