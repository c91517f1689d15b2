/* SPDX-License-Identifier: BSD-2-Clause */
/* realtime.h - threads of one processor, and of a priority of their own. */
#ifndef T_REALTIME_H
#define T_REALTIME_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The calling thread runs on this processor alone. */
static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* The processor time that the calling thread has had. */
static inline uint64_t thread_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* False: it may not. The kernel's own calls, here and where it is looked at: those of musl's libc fail. */
static inline bool set_fifo(int priority)
{
	const struct sched_param sp = { .sched_priority = priority };

	return syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &sp) == 0;
}

#endif
