/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * differ.c - see differ.h. Used by background and the shim (attributes); uses ourfd, park, sandbox.
 *
 * A thread that changes adds to `changing`, then looks whether a thread of ours runs; one that
 * starts ours sets `running`, then calls differ_stops. All four are seq_cst, so one of the two sees
 * the other.
 *
 * No lock, allocates nothing; may run in a signal handler.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/differ.h"

#include <errno.h>

#include "base/ourfd.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "base/stats.h"

#define TRIES 5u
#define STEP_MS 1u

/* glibc 2.32 and later: not zero until the process has had a second thread. */
extern char __libc_single_threaded __attribute__((weak));

static _Atomic uint32_t changing; /* changes under way */
static _Atomic uint32_t differ;

void differ_enter(void)
{
	atomic_fetch_add_explicit(&changing, 1, memory_order_seq_cst);
}

void differ_leave(bool others)
{
	if (others && !atomic_exchange_explicit(&differ, 1, memory_order_seq_cst))
		stat_add(STAT_threads_differ, 1);
	atomic_fetch_sub_explicit(&changing, 1, memory_order_seq_cst);
}

bool differ_stops(void)
{
	return atomic_load_explicit(&changing, memory_order_seq_cst) ||
	       atomic_load_explicit(&differ, memory_order_seq_cst);
}

static bool one_thread(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

bool differ_is_settled(void)
{
	return one_thread() || atomic_load_explicit(&differ, memory_order_relaxed);
}

bool differ_others(void)
{
	unsigned threads = 0;

	if (one_thread())
		return false;
	for (unsigned i = 0; i < TRIES && threads != 1; i++) {
		if (i)
			park_sleep_ms(STEP_MS);
		if (!sandbox_enter())
			return true;
		threads = ourfd_threads();
		sandbox_leave();
		if (!threads)
			return true;
	}
	return threads != 1;
}

void differ_fork_child(void)
{
	atomic_store_explicit(&changing, 0, memory_order_relaxed);
	atomic_store_explicit(&differ, 0, memory_order_relaxed);
}
