/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ending.c - see ending.h. Used by background and the shim (seccomp); uses the primitives.
 *
 * ending_begins writes the TIDs between sandbox_enter and sandbox_leave. The thread that installs
 * the filter sets its bit, waits until nobody is in between, and reads them: so it sees them, or
 * the background thread sees the bit and does not end.
 * Pairing: the release in sandbox_leave with the acquire in sandbox_begins.
 *
 * No lock, allocates nothing. ending_wait sleeps by a futex; it may run in a signal handler.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/ending.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "base/sys.h"

#define MOST_MS 2000u /* after that, another thread may have the TID */
#define BLIND_MS 100u /* where the kernel cannot be asked whether a thread is gone */

static _Atomic uint32_t ending[2]; /* TIDs: of the background thread and the reserve's */
static _Atomic uint64_t ending_at; /* ms: when they began to end */

static uint64_t age_ms(void)
{
	return clock_ms() - atomic_load_explicit(&ending_at, memory_order_relaxed);
}

static bool is_ending(uint32_t t)
{
	int saved = errno;
	bool there;

	if (!t || t == self_tid() || age_ms() >= MOST_MS)
		return false;
	there = sluice_syscall(SYS_tgkill, lock_process(), t, 0) == 0;
	errno = saved;
	return there;
}

bool ending_begins(uint32_t reserve)
{
	bool good;

	if (!sandbox_enter())
		return false;
	good = !is_ending(atomic_load_explicit(&ending[0], memory_order_relaxed)) &&
	       !is_ending(atomic_load_explicit(&ending[1], memory_order_relaxed));
	if (good) {
		atomic_store_explicit(&ending[0], self_tid(), memory_order_relaxed);
		atomic_store_explicit(&ending[1], reserve, memory_order_relaxed);
		atomic_store_explicit(&ending_at, clock_ms(), memory_order_relaxed);
	}
	sandbox_leave();
	return good;
}

bool ending_any(void)
{
	uint32_t reserve = atomic_load_explicit(&ending[1], memory_order_relaxed);

	return is_ending(atomic_load_explicit(&ending[0], memory_order_relaxed)) ||
	       (reserve == 1 ? age_ms() < BLIND_MS : is_ending(reserve));
}

void ending_wait(bool blind, uint32_t ms)
{
	uint64_t end = clock_ms() + ms;
	int saved = errno;

	for (unsigned i = 0; i < 2; i++) {
		uint32_t t = atomic_load_explicit(&ending[i], memory_order_relaxed);
		uint64_t age = age_ms();

		if (t && (blind || t == 1)) {
			if (age < BLIND_MS)
				park_sleep_ms(BLIND_MS - age);
		} else {
			while (is_ending(t) && clock_ms() < end)
				park_sleep_ms(1);
		}
	}
	errno = saved;
}

void ending_fork_child(void)
{
	atomic_store_explicit(&ending[0], 0, memory_order_relaxed);
	atomic_store_explicit(&ending[1], 0, memory_order_relaxed);
}
