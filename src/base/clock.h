/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.h - monotonic time. Safe anywhere; keeps errno.
 *
 * Calls clock_gettime of the kernel (vDSO) and not a function of that name that another library
 * interposes: faketime may stop the time, and a tracer may call malloc.
 */
#ifndef SLUICE_CLOCK_H
#define SLUICE_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

typedef int clock_read_fn(clockid_t, struct timespec *);
extern _Atomic(clock_read_fn *) clock_read;

/* Called at the start. Until then, and without a vDSO, clock_gettime is found by the dynamic
 * linker. */
void clock_init(void);

static inline void clock_get(clockid_t clock, struct timespec *ts)
{
#ifdef CLOCK_OF_TOOLS /* they are not linked with the library */
	clock_gettime(clock, ts);
#else
	atomic_load_explicit(&clock_read, memory_order_relaxed)(clock, ts);
#endif
}

static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_get(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

/* The same as of the last tick of the kernel's clock, a few ms ago. Costs a fifth. */
static inline uint64_t clock_ms_coarse(void)
{
	struct timespec ts;

	clock_get(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

#endif
