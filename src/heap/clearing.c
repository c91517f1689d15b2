/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clearing.c - see clearing.h. Used by harden and large; uses clock.
 *
 * (A) A thread begins with the bytes of CLEAR_SAVED_MS at the option's rate, and earns them again
 *     as time passes; more is not saved. So a thread that frees little has each block treated,
 *     and one that does nothing else spends a share of its time that does not depend on the sizes.
 * (B) A block that costs more than can be saved costs all of it.
 *
 * No lock: each thread has its own. Bound: one look at the clock, for one in CLEAR_LOOK of those
 * that find too little. Signal handlers: a free that interrupts one may spend the same bytes again.
 * Fork: a child goes on with what its parent had.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/clearing.h"

#include "base/clock.h"
#include "base/options.h"

#define CLEAR_SAVED_MS UINT64_C(8)
#define CLEAR_LOOK 64u

_Thread_local size_t clearing_left TLS_FAST;
static _Thread_local uint64_t looked_ms TLS_FAST;
_Thread_local uint32_t clearing_refuses TLS_FAST;

/* What the thread has earned since it looked last. The clock needs no system call. */
static size_t earned(void)
{
	uint64_t now = clock_ms_coarse();
	uint64_t ms = now - looked_ms;

	looked_ms = now;
	return options.clear_rate * min_size(ms, CLEAR_SAVED_MS);
}

noinline bool clearing_earns(size_t cost)
{
	size_t most = options.clear_rate * CLEAR_SAVED_MS;

	if (!most) {
		clearing_left = SIZE_MAX;
		return true;
	}
	clearing_left = min_size(most, clearing_left + earned());
	cost = min_size(cost, most);
	/* Also after a block that is taken: a thread that waits for others earns meanwhile, and
	 * what it spends at once makes them wait. */
	clearing_refuses = CLEAR_LOOK - 1;
	if (cost > clearing_left)
		return false;
	clearing_left -= cost;
	return true;
}
