/* SPDX-License-Identifier: BSD-2-Clause */
/* realtime.h - threads pinned to one processor, with a priority of their own. */
#ifndef T_REALTIME_H
#define T_REALTIME_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Pins the calling thread to this processor. */
static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Processor time used by the calling thread. */
static inline uint64_t thread_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Returns false if the user may not. By raw system calls, here and in the check, because those of
 * musl's libc fail. */
static inline bool set_fifo(int priority)
{
	const struct sched_param sp = { .sched_priority = priority };

	return syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &sp) == 0;
}

#endif
