/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ticks.h - the finest clock: on x86-64 the time stamp counter, which has a fixed rate; elsewhere
 * nanoseconds.
 */
#ifndef SLUICE_TICKS_H
#define SLUICE_TICKS_H

#include <stdint.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define CLOCK_OF_TOOLS 1
#include "base/clock.h"

/* Reads the counter after all instructions before the call, and before all after it. */
static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
	unsigned processor;
	uint64_t t = __rdtscp(&processor);

	_mm_lfence();
	return t;
#else
	return clock_ns();
#endif
}

#endif
