/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * growth.c - see growth.h. Used by buddy, prefault, pressure, reclaim and huge; uses zone.
 *
 * The growth of all zones is counted in zone_lead, which is written as it grows, so that a limit
 * holds however many zones there are.
 *
 * No lock. Allocates nothing; waits for nothing itself, but buddy_before_growth may. Two threads
 * that find a call due at once may both make it, which does no harm.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/growth.h"

bool (*buddy_before_growth)(uint64_t pages);

static uint64_t growth(struct zone *z)
{
	return atomic_load_explicit(&z->clean_taken, memory_order_relaxed) +
	       atomic_load_explicit(&z->mapped, memory_order_relaxed);
}

/* The growth of all zones is counted at one place, which is written as it grows, so that limits hold
 * however many there are. z: zone_lead's, here and below. */
bool ask_others(struct zone *z, uint64_t pages)
{
	uint64_t used = buddy_used_pages(z);
	uint64_t step = used / 8 > BUDDY_ASK_PAGES ? used / 8 : BUDDY_ASK_PAGES;
	uint64_t most = atomic_load_explicit(&z->ask_most, memory_order_relaxed);

	if (most && most < step)
		step = most;
	atomic_store_explicit(&z->ask_at, growth(z) + step, memory_order_relaxed);
	return buddy_before_growth && buddy_before_growth(pages);
}

bool ask_others_in_time(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = atomic_load_explicit(&z->ask_at, memory_order_relaxed);

	if (likely(growth(z) < at))
		return false;
	/* The first BUDDY_ASK_PAGES are a process's own. */
	if (at == 0) {
		atomic_store_explicit(&z->ask_at, BUDDY_ASK_PAGES, memory_order_relaxed);
		if (growth(z) + pages < BUDDY_ASK_PAGES)
			return false;
	}
	ask_others(z, pages);
	return true;
}

void buddy_ask_within(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = growth(z) + pages;

	atomic_store_explicit(&z->ask_most, pages, memory_order_relaxed);
	if (pages && at < atomic_load_explicit(&z->ask_at, memory_order_relaxed))
		atomic_store_explicit(&z->ask_at, at, memory_order_relaxed);
}

void buddy_ask_again(struct zone *any, uint64_t pages)
{
	struct zone *z = zone_lead(any);
	uint64_t at = growth(z) + pages;

	if (at < atomic_load_explicit(&z->ask_at, memory_order_relaxed))
		atomic_store_explicit(&z->ask_at, at, memory_order_relaxed);
}

void buddy_before_mapping(struct zone *any, uint64_t mapped, size_t bytes)
{
	struct zone *z = zone_lead(any);

	atomic_store_explicit(&z->mapped, (mapped + bytes) >> PG_SHIFT, memory_order_relaxed);
	ask_others_in_time(z, bytes >> PG_SHIFT);
}
