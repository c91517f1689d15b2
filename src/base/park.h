/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * park.h - how the background thread sleeps without a timer, and what wakes it.
 *
 * A thread that caches memory calls park_wake, which is one load unless the background thread is
 * parked. This side needs no memory barrier: to park, the background thread sets the word, makes
 * all threads pass a barrier (membarrier), and checks again whether anything is cached. Only then
 * does it sleep. (t/model/park.pml)
 */
#ifndef SLUICE_PARK_H
#define SLUICE_PARK_H

#include "types.h"

extern _Atomic uint32_t park_word; /* 1: parked, or about to be */
/* PARK_LOOK: it has to check whether other threads exist, or will do so. PARK_ASKED: somebody waits
 * for that. */
extern _Atomic uint32_t park_exit_word;
enum { PARK_NOT, PARK_LOOK, PARK_ASKED };

void park_wake_slow(void);

static always_inline void park_wake(void)
{
	/* Orders the compiler; membarrier on the other side orders the processor. */
	atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&park_word, memory_order_relaxed) != 0))
		park_wake_slow();
}

/* Sleeps until park_wake clears the word, which the caller has set. */
void park_wait(void);

/* Called by a thread that is about to end. The background thread then checks whether it is alone,
 * once for all threads that end meanwhile. */
void park_notify_exit_slow(void);

static always_inline void park_notify_exit(void)
{
	if (!atomic_load_explicit(&park_exit_word, memory_order_relaxed))
		park_notify_exit_slow();
}

/* The background thread checks soon whether other threads exist, however long it would sleep. */
void park_ask(void);

/* It will check later: until then a thread that ends need not notify it. */
void park_will_look(void);

/* Sleeps for ms, or until the word is no longer `seen`. */
void park_sleep_while(uint32_t seen, uint64_t ms);

/* Sleeps by a futex, which every seccomp filter allows. Keeps errno; no cancellation point. */
void park_sleep_us(uint64_t us);

static inline void park_sleep_ms(uint64_t ms)
{
	park_sleep_us(ms * 1000);
}

#endif
