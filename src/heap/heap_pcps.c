/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_pcps.c - the pcps of all heaps: what is done to each of them, whatever its heap does.
 * Used by reclaim and the shim (fork); uses heap_thread (the list of heaps) and pcp.
 *
 * No claim is needed, because a pcp has a lock of its own.
 * Lock: that of one pcp at a time, tried or waited for within bounds (pcp.c). Allocates nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/heap_pcps.h"

#include "heap/heap_thread.h"
#include "page/pcp.h"

uint64_t heap_pcps_pages(void)
{
	uint64_t pages = 0;

	for (struct heap *h = heap_fallback.heap; h; h = heap_next(h))
		pages += atomic_load_explicit(&h->pcp.count, memory_order_relaxed);
	return pages;
}

void heap_pcps_count_all(void)
{
	pcp_count_from(heap_pcps_pages());
}

uint64_t heap_pcps_decay(void)
{
	uint64_t pages = 0;

	for (struct heap *h = heap_fallback.heap; h; h = heap_next(h))
		pages += pcp_decay(&h->pcp);
	return pages;
}

void heap_pcps_drain(void)
{
	for (struct heap *h = heap_fallback.heap; h; h = heap_next(h))
		pcp_drain(&h->pcp);
}

static bool set_disabled(bool on)
{
	bool all = true;

	for (struct heap *h = heap_fallback.heap; h; h = heap_next(h))
		all &= pcp_set_disabled(&h->pcp, on);
	return all;
}

bool heap_pcps_disable(void)
{
	return !pcp_disable_begin() || set_disabled(true);
}

void heap_pcps_enable(void)
{
	if (pcp_disable_end())
		set_disabled(false);
}

void heap_pcps_fork_child(uint32_t parent_tid)
{
	for (struct heap *h = heap_fallback.heap; h; h = heap_next(h))
		pcp_fork_child(&h->pcp, parent_tid);
}
