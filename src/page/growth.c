/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * growth.c - see growth.h. Used by buddy, prefault, heap, reclaim and limits; uses zone.
 *
 * The growth of all zones is counted in zone_lead, which is written as it grows, so that a limit
 * holds however many zones there are.
 *
 * No lock. Allocates nothing; waits for nothing itself, but growth_ask_others may. Two threads
 * that find a call due at once may both make it, which does no harm.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/growth.h"

bool (*growth_ask_others)(uint64_t pages);

static uint64_t growth(struct zone *z)
{
	return atomic_load_explicit(&z->growth.clean_taken, memory_order_relaxed) +
	       atomic_load_explicit(&z->growth.mapped, memory_order_relaxed);
}

bool growth_ask(struct zone *z, uint64_t pages)
{
	uint64_t used = zone_used_pages(z);
	uint64_t step = used / 8 > GROWTH_ASK_PAGES ? used / 8 : GROWTH_ASK_PAGES;
	uint64_t most = atomic_load_explicit(&z->growth.ask_most, memory_order_relaxed);

	if (most && most < step)
		step = most;
	atomic_store_explicit(&z->growth.ask_at, growth(z) + step, memory_order_relaxed);
	return growth_ask_others && growth_ask_others(pages);
}

bool growth_ask_if_due(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = atomic_load_explicit(&z->growth.ask_at, memory_order_relaxed);

	if (likely(growth(z) < at))
		return false;
	/* A process may take its first GROWTH_ASK_PAGES without asking, unless its limit is that
	 * low (growth_ask_within). */
	if (at == 0) {
		atomic_store_explicit(&z->growth.ask_at, GROWTH_ASK_PAGES, memory_order_relaxed);
		if (growth(z) + pages < GROWTH_ASK_PAGES)
			return false;
	}
	growth_ask(z, pages);
	return true;
}

void growth_ask_within(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = growth(z) + pages;
	uint64_t ask_at = atomic_load_explicit(&z->growth.ask_at, memory_order_relaxed);

	atomic_store_explicit(&z->growth.ask_most, pages, memory_order_relaxed);
	if (pages && at < (ask_at ? ask_at : GROWTH_ASK_PAGES))
		atomic_store_explicit(&z->growth.ask_at, at, memory_order_relaxed);
}

void growth_ask_again(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = growth(z) + pages;

	if (at < atomic_load_explicit(&z->growth.ask_at, memory_order_relaxed))
		atomic_store_explicit(&z->growth.ask_at, at, memory_order_relaxed);
}

void growth_before_mapping(struct zone *any, uint64_t mapped, size_t bytes)
{
	struct zone *z = zone_lead(any);
	uint64_t now = (mapped + bytes) >> PG_SHIFT;
	uint64_t before = atomic_exchange_explicit(&z->growth.mapped, now, memory_order_relaxed);
	uint64_t at = atomic_load_explicit(&z->growth.ask_at, memory_order_relaxed);

	/* Mappings that ended must not make room for growth that asks nobody. */
	if (now < before && at > before - now)
		atomic_store_explicit(&z->growth.ask_at, at - (before - now), memory_order_relaxed);
	growth_ask_if_due(z, bytes >> PG_SHIFT);
}
