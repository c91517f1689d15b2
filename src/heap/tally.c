/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tally.c - see tally.h. Used by heap, mallctl, background; uses heap_size, heap_thread.
 *
 * Owner thread only: a thread's counters are its own words. A signal handler that interrupts a
 * change of one may lose what it counts itself.
 * No lock, allocates nothing, except the heap of a thread that has none. Fork: the child's thread
 * goes on counting, except in a copy made without handlers while a drainer had the thread's heap.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/tally.h"

#include "heap/critical.h"
#include "heap/heap_size.h"
#include "heap/heap_thread.h"

struct heap heap_counts = HEAP_NEVER;
_Thread_local struct heap *heap_behind TLS_FAST;
static _Thread_local struct tally tally TLS_FAST;

struct tally *tally_of_thread(void)
{
	struct heap *h;

	if (tally_is_on())
		return &tally;
	(void)heap_pcp(); /* makes a heap */
	h = heap_own();   /* a signal handler may have asked meanwhile */
	if (!heap_is_real(h))
		return &tally;
	heap_behind = h;
	atomic_signal_fence(memory_order_seq_cst);
	heap_self = &heap_counts;
	return &tally;
}

static int64_t balance(void)
{
	return (int64_t)(tally.allocated - tally.freed);
}

static void add(uint64_t bytes)
{
	tally.allocated += bytes;
	if (balance() - tally.base > tally.peak)
		tally.peak = balance() - tally.base;
}

void tally_add(const void *p)
{
	add(heap_bytes_at(p));
}

void tally_remove(const void *p)
{
	tally.freed += heap_bytes_at(p);
}

void tally_resize(uint64_t old, uint64_t bytes)
{
	if (old == bytes)
		return;
	tally.freed += old;
	add(bytes);
}

struct tally tally_save(void)
{
	return tally;
}

void tally_restore(const struct tally *saved)
{
	tally = *saved;
}

void tally_reset_peak(void)
{
	(void)tally_of_thread();
	tally.base = balance();
	tally.peak = 0;
}
