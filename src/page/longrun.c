/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * longrun.c - a cache of long runs; see longrun.h.
 * Used by large and heap (what is too long for a pcp), reclaim, limits, background and fork; uses
 * buddy.
 *
 * (A) A slot holds 0, or the address of the descriptor of a run in state PAGE_LIMBO, with the
 *     length of the run in pages above bit 48, and OLD once a call of longrun_age found the run
 *     there. The thread that makes a slot 0 owns the run.
 * (B) The runs of all slots have at most KEEP_BYTES, and at most half of what dirty_max allows.
 * (C) A thread looks for a run in the slots of its own line first, then in those of other lines. So
 *     threads that alternate on a processor share their runs, and few are kept.
 *
 * Bound: a call looks at SLOTS slots. One that finds no run frees LINE_SLOTS runs to the buddy
 * core, a drain SLOTS.
 * Progress: lock-free. Pairing: the release CAS in line_put with the acquire CAS in slot_take,
 * for the descriptor. The CAS compares the length as well, so if a run is taken, cut and kept again
 * meanwhile, the CAS fails.
 * Allocates nothing. May wait for a zone's lock when it frees a run. Signal handlers: at any time.
 * Fork: a slot is one word, so the child's is whole. A run that another thread was moving is lost
 * to the child, which counts again what it has. If the fork came from a signal handler that
 * interrupted a call here, that call corrects the count.
 * Source: the large-object cache of TCMalloc and mimalloc's cached segments.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/longrun.h"

#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/share.h"
#include "base/stats.h"
#include "page/purge.h"

#define LINES STAT_SHARDS
#define LINE_SLOTS 2u
#define SLOTS (LINES * LINE_SLOTS)
#define KEEP_BYTES ((uint64_t)32 << 20)
#define OLD UINT64_C(1)
#define PAGES_SHIFT 48

static struct line {
	cache_aligned _Atomic uint64_t slot[LINE_SLOTS];
} lines[LINES];
static _Atomic uint64_t kept; /* pages */

/* This thread has changed a slot or `kept`, and not yet the other one. */
static _Thread_local bool inside TLS_FAST;

static bool enter(void)
{
	bool before = inside;

	inside = true;
	atomic_signal_fence(memory_order_seq_cst);
	return before;
}

static void leave(bool before)
{
	atomic_signal_fence(memory_order_seq_cst);
	inside = before;
}

uint64_t longrun_pages(void)
{
	return atomic_load_explicit(&kept, memory_order_relaxed);
}

static _Atomic uint64_t *slot_at(unsigned i)
{
	return &lines[i / LINE_SLOTS].slot[i % LINE_SLOTS];
}

static struct line *own_line(void)
{
	uint32_t shard = stat_shard_self;

	return &lines[(shard ? shard : stat_shard_pick()) - 1];
}

static struct page *page_in(uint64_t slot)
{
	return (struct page *)(uintptr_t)(slot & ((UINT64_C(1) << PAGES_SHIFT) - 1) & ~OLD);
}

static uint32_t pages_in(uint64_t slot)
{
	return (uint32_t)(slot >> PAGES_SHIFT);
}

/* Takes the run that was seen in a slot. Returns NULL if another thread took it first. */
static struct page *slot_take(_Atomic uint64_t *slot, uint64_t seen)
{
	struct page *pg = page_in(seen);
	bool before;

	DELAY_HERE(longrun_take);
	if (!pg)
		return NULL;
	before = enter();
	SHARE_COUNT(longrun_slot);
	if (atomic_compare_exchange_strong_explicit(slot, &seen, 0, memory_order_acquire,
						    memory_order_relaxed)) {
		SHARE_COUNT(longrun_kept);
		atomic_fetch_sub_explicit(&kept, pg->npages, memory_order_relaxed);
	} else {
		pg = NULL;
	}
	leave(before);
	return pg;
}

static uint64_t give_up(_Atomic uint64_t *slot, uint64_t seen)
{
	struct page *pg = slot_take(slot, seen);
	uint64_t n = pg ? pg->npages : 0;

	if (pg)
		buddy_free_drained(&pg, 1);
	return n;
}

static struct page *line_take(struct line *l, uint32_t npages)
{
	for (unsigned i = 0; i < LINE_SLOTS; i++) {
		uint64_t seen = atomic_load_explicit(&l->slot[i], memory_order_relaxed);
		struct page *pg = pages_in(seen) == npages ? slot_take(&l->slot[i], seen) : NULL;

		if (pg)
			return pg;
	}
	return NULL;
}

void longrun_give_up(void)
{
	struct line *own = own_line();

	for (unsigned i = 0; i < LINE_SLOTS && longrun_pages(); i++)
		give_up(&own->slot[i], atomic_load_explicit(&own->slot[i], memory_order_relaxed));
}

struct page *longrun_take(uint32_t npages)
{
	struct page *pg;

	if (!longrun_pages())
		return NULL;
	pg = line_take(own_line(), npages);
	for (unsigned i = 0; i < LINES && !pg; i++)
		pg = line_take(&lines[i], npages);
	if (pg)
		return pg;
	longrun_give_up();
	return NULL;
}

static uint64_t most_pages(void)
{
	return min_size(KEEP_BYTES, dirty_most() / 2) >> PG_SHIFT;
}

/* Puts a run into an empty slot of the line. Returns false if there is none. */
static bool line_put(struct line *l, uint64_t slot)
{
	for (unsigned i = 0; i < LINE_SLOTS; i++) {
		uint64_t none = 0;

		SHARE_COUNT(longrun_slot);
		if (atomic_compare_exchange_strong_explicit(&l->slot[i], &none, slot,
							    memory_order_release,
							    memory_order_relaxed))
			return true;
	}
	return false;
}

bool longrun_put(struct page *pg)
{
	uint32_t n = pg->npages;
	bool before;
	bool good;

	if (n <= PCP_RUN_MAX)
		return false;
	before = enter();
	SHARE_COUNT(longrun_kept);
	good = atomic_fetch_add_explicit(&kept, n, memory_order_relaxed) + n <= most_pages() &&
	       line_put(own_line(), (uintptr_t)pg | (uint64_t)n << PAGES_SHIFT);
	if (!good)
		atomic_fetch_sub_explicit(&kept, n, memory_order_relaxed);
	leave(before);
	if (good)
		park_wake();
	return good;
}

void longrun_fork_child(void)
{
	uint64_t pages = 0;

	if (inside)
		return;
	for (unsigned i = 0; i < SLOTS; i++)
		pages += pages_in(atomic_load_explicit(slot_at(i), memory_order_relaxed));
	atomic_store_explicit(&kept, pages, memory_order_relaxed);
}

uint64_t longrun_drain(void)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < SLOTS && longrun_pages(); i++) {
		_Atomic uint64_t *slot = slot_at(i);

		pages += give_up(slot, atomic_load_explicit(slot, memory_order_relaxed));
	}
	return pages;
}

uint64_t longrun_age(void)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < SLOTS && longrun_pages(); i++) {
		_Atomic uint64_t *slot = slot_at(i);
		uint64_t seen = atomic_load_explicit(slot, memory_order_relaxed);

		if (seen & OLD)
			pages += give_up(slot, seen);
		else if (seen)
			atomic_compare_exchange_strong_explicit(slot, &seen, seen | OLD,
								memory_order_relaxed,
								memory_order_relaxed);
	}
	return pages;
}
