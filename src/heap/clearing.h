/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clearing.h - how much of a thread's time goes into what grows with the size of the blocks that it
 * frees: to fill them with zeros and check them, and to take access from them.
 *
 * Blocks of up to CLEAR_ALWAYS bytes are not counted.
 */
#ifndef SLUICE_CLEARING_H
#define SLUICE_CLEARING_H

#include "types.h"

#define CLEAR_ALWAYS ((size_t)256)
/* A longer block is filled, and checked, so far at least: link and mark lie there. */
#define CLEAR_HEAD ((size_t)64)

/* A block from CLEAR_LONG bytes on loses access, or goes to the kernel: system calls, and a page
 * fault for each page that is used again. */
#define CLEAR_LONG ((size_t)64 << 10)
#define CLEAR_CALLS ((size_t)256 << 10)
#define CLEAR_FAULTS ((size_t)4)

/* Bytes that the thread may spend now, and how many blocks that cost more it frees before it looks
 * whether it has earned some. */
extern _Thread_local size_t clearing_left TLS_FAST;
extern _Thread_local uint32_t clearing_refuses TLS_FAST;
bool clearing_earns(size_t cost);

static inline size_t clearing_cost(size_t bytes)
{
	return bytes < CLEAR_LONG ? bytes : CLEAR_CALLS + bytes * CLEAR_FAULTS;
}

/* Whether a block that is freed is treated as a whole. If so, its cost is taken off. */
static always_inline bool clearing_takes(size_t bytes)
{
	size_t cost;

	if (bytes <= CLEAR_ALWAYS)
		return true;
	cost = clearing_cost(bytes);
	if (unlikely(cost > clearing_left)) {
		if (likely(clearing_refuses)) {
			clearing_refuses--;
			return false;
		}
		return clearing_earns(cost);
	}
	clearing_left -= cost;
	return true;
}

#endif
