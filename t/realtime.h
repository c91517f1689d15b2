/* SPDX-License-Identifier: BSD-2-Clause */
/* realtime.h - threads of one processor, and of a priority of their own. */
#ifndef T_REALTIME_H
#define T_REALTIME_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

/* The calling thread runs on this processor alone. */
static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* False: it may not. */
static inline bool set_fifo(int priority)
{
	const struct sched_param sp = { .sched_priority = priority };

	return sched_setscheduler(0, SCHED_FIFO, &sp) == 0;
}

#endif
