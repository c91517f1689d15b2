/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * atomics.h - small atomic operations that several layers use. Safe anywhere.
 */
#ifndef SLUICE_ATOMICS_H
#define SLUICE_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Between two loads of a word that another thread is about to change. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Adds to a counter that changes only under one lock, and that is read without it. */
static inline void counter_add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* Adds to a counter that several threads change at once. */
static inline void counter_add_shared(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/* How many of the next calls go without what the kernel has refused lately. A race loses an update,
 * which does no harm. */
static inline void refusal_note(_Atomic uint32_t *left, uint32_t calls)
{
	atomic_store_explicit(left, calls, memory_order_relaxed);
}

/* Whether this call is one of them. */
static inline bool refusal_is_recent(_Atomic uint32_t *left)
{
	uint32_t n = atomic_load_explicit(left, memory_order_relaxed);

	if (n)
		atomic_store_explicit(left, n - 1, memory_order_relaxed);
	return n != 0;
}

#endif
