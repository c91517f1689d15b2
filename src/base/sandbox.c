/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.c - see sandbox.h. Primitive; used by all layers whose system calls a filter may forbid.
 *
 * (A) While a filter for all threads (TSYNC) is being installed, no thread is between sandbox_enter
 *     and sandbox_leave: the installing thread sets the bit, then waits for the threads inside.
 * (B) A filter for the calling thread is inherited by the threads that it makes later. Which these
 *     are is not known, so all threads of the program stop making the calls that are not necessary.
 *     The threads of the library leave before the filter is there. One that could not in time is
 *     older than the filter, and goes on.
 *
 * Bound: two atomic additions for each such call. Installing a filter waits for at most WAIT_MS.
 * Allocates nothing, no lock; may run in a signal handler and in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/sandbox.h"

#include "base/park.h"

#define SOME 1u   /* a filter for some threads */
#define ALL 2u    /* a filter for all threads */
#define INSIDE 4u /* the bits from here on: how many threads are inside */
#define WAIT_MS 1000u
#define STEP_MS 1u

static _Atomic uint32_t word;
_Thread_local bool sandbox_own TLS_FAST;

bool sandbox_enter(void)
{
	uint32_t stop = sandbox_own ? ALL : SOME | ALL;

	if (atomic_load_explicit(&word, memory_order_relaxed) & stop)
		return false;
	/* Bits and count are one word: a thread that sets a bit after this sees us inside. */
	if (likely(!(atomic_fetch_add_explicit(&word, INSIDE, memory_order_seq_cst) & stop)))
		return true;
	sandbox_leave();
	return false;
}

void sandbox_leave(void)
{
	atomic_fetch_sub_explicit(&word, INSIDE, memory_order_release);
}

bool sandbox_any(void)
{
	return (atomic_load_explicit(&word, memory_order_relaxed) & (SOME | ALL)) != 0;
}

bool sandbox_all(void)
{
	return (atomic_load_explicit(&word, memory_order_relaxed) & ALL) != 0;
}

bool sandbox_begins(bool all)
{
	uint32_t bit = all ? ALL : SOME;
	bool first = !(atomic_fetch_or_explicit(&word, bit, memory_order_seq_cst) & bit);

	/* Acquire pairs with the release in sandbox_leave. The wait ends even if a stopped thread
	 * never leaves. */
	for (unsigned ms = 0; first && all && ms < WAIT_MS; ms += STEP_MS) {
		if (atomic_load_explicit(&word, memory_order_acquire) < INSIDE)
			break;
		park_sleep_ms(STEP_MS);
	}
	return first;
}

void sandbox_failed(bool all)
{
	atomic_fetch_and_explicit(&word, ~(all ? ALL : SOME), memory_order_relaxed);
}

void sandbox_fork_child(void)
{
	atomic_fetch_and_explicit(&word, SOME | ALL, memory_order_relaxed);
}
