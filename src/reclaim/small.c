/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * small.c - see small.h. Used by background; uses growth, heap_thread, ourfd, export, reserve.
 *
 * What all threads cache and have in use is part of what the process has ever taken from the kernel
 * (growth), so that bounds it. A growth that asked just before the start was put off does not make
 * the start due; the next one that asks does, GROWTH_ASK_PAGES later at most.
 *
 * With the options control and export the thread has work in a small process, too; with a reserve,
 * prefaulting is no growth.
 *
 * No lock, allocates nothing; may run in a signal handler.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/small.h"

#include "base/options.h"
#include "base/ourfd.h"
#include "base/sandbox.h"
#include "heap/heap_thread.h"
#include "page/growth.h"
#include "reclaim/export.h"
#include "reclaim/reserve.h"

static _Atomic uint32_t put_off;
static _Atomic uint64_t asks_at; /* when growth was to ask others, without the start */
static _Atomic uint32_t ended;
static bool (*ask_others)(uint64_t pages); /* what growth called before */

bool small_puts_off(void)
{
	uint64_t from = options.background_from >> PG_SHIFT;
	uint64_t now = growth_so_far(&zone_main);

	if (now >= from || atomic_load_explicit(&ended, memory_order_relaxed) || options.control ||
	    export_wanted() || reserve_wanted())
		return false;
	if (!atomic_exchange_explicit(&put_off, 1, memory_order_relaxed))
		atomic_store_explicit(&asks_at, growth_asks_at(&zone_main), memory_order_relaxed);
	growth_ask_again(&zone_main, from - now);
	return true;
}

bool small_has_put_off(void)
{
	return atomic_load_explicit(&put_off, memory_order_relaxed) != 0;
}

bool small_is_single(void)
{
	unsigned threads = 0;

	if (sandbox_enter()) {
		threads = ourfd_threads();
		sandbox_leave();
	}
	return threads ? threads == 1 : !heap_others(0);
}

static bool grown(uint64_t pages)
{
	if (unlikely(small_has_put_off())) {
		uint64_t at = atomic_load_explicit(&asks_at, memory_order_relaxed);
		uint64_t now = growth_so_far(&zone_main);

		atomic_store_explicit(&put_off, 0, memory_order_relaxed);
		atomic_store_explicit(&heap_due, HEAP_DUE_ALLOC, memory_order_relaxed);
		/* This growth asks earlier than it would have; the next one comes when that was. */
		growth_ask_again(&zone_main, at > now ? at - now : 0);
	}
	return ask_others && ask_others(pages);
}

void small_init(void)
{
	if (growth_ask_others == grown)
		return;
	ask_others = growth_ask_others;
	growth_ask_others = grown;
}

void small_end(void)
{
	atomic_store_explicit(&ended, 1, memory_order_relaxed);
}

void small_fork_child(void)
{
	atomic_store_explicit(&put_off, 0, memory_order_relaxed);
}
