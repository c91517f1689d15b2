/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * park.h - how the background thread sleeps without a timer, and what wakes it.
 *
 * Whoever caches something calls park_wake: one load, as long as the thread is not parked. There is
 * no barrier on that side: the thread parks by setting the word, making all threads pass a barrier
 * (membarrier), and looking once more whether anything is cached; only then it sleeps.
 */
#ifndef SLUICE_PARK_H
#define SLUICE_PARK_H

#include "types.h"

extern _Atomic uint32_t park_word;      /* 1: parked, or about to be */
extern _Atomic uint32_t park_exit_word; /* 1: it is to look whether other threads are there */

void park_wake_slow(void);

static always_inline void park_wake(void)
{
	/* The compiler's half of the barrier; the other side's membarrier is the processor's. */
	atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&park_word, memory_order_relaxed) != 0))
		park_wake_slow();
}

/* Sleep until park_wake finds the word set. The caller has set it. */
void park_wait(void);

/* A thread is about to end: the background thread looks whether it is alone, once for all that end meanwhile. */
void park_notify_exit_slow(void);

static always_inline void park_notify_exit(void)
{
	if (!atomic_load_explicit(&park_exit_word, memory_order_relaxed))
		park_notify_exit_slow();
}

/* Sleep for ms, or until park_notify_exit finds the word clear. */
void park_sleep_until_exit(uint64_t ms);

/* Sleep by a futex, which each seccomp filter allows. Keeps errno; no cancellation point. */
void park_sleep_us(uint64_t us);

static inline void park_sleep_ms(uint64_t ms)
{
	park_sleep_us(ms * 1000);
}

#endif
