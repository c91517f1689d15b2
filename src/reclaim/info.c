/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * info.c - see info.h. Used by the shim, the API and control; uses heap_thread, slab, huge,
 * arena, pcp, zone.
 * No lock, no allocation: descriptors are never unmapped, so a change during the walk makes a
 * figure inexact and causes no fault.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/info.h"

#include <string.h>

#include "base/stats.h"
#include "heap/arena.h"
#include "heap/cache_bin.h"
#include "heap/heap_pcps.h"
#include "heap/heap_thread.h"
#include "heap/holes.h"
#include "heap/huge.h"
#include "heap/slab.h"
#include "os/membarrier.h"
#include "page/mapcache.h"
#include "page/meta.h"
#include "page/zone.h"

/* Objects on a slab's remote list are free, although the slab counts them as used. */
static void add_slab(struct page *pg, struct info *in, struct info_class *c)
{
	uint64_t remote = state_count(atomic_load_explicit(&pg->state, memory_order_relaxed));
	uint64_t used = (uint64_t)(uint16_t)pg->used;
	uint64_t live = used > remote ? (used - remote) * class_size(pg->cls) : 0;
	uint64_t bytes = (uint64_t)size_classes[pg->cls].pages << PG_SHIFT;
	uint64_t holes = holes_bytes(pg);
	uint64_t pinned = used && bytes > live + holes ? bytes - live - holes : 0;

	in->slab_bytes += bytes;
	in->object_bytes += live;
	in->hole_bytes += holes;
	in->pinned_bytes += pinned;
	if (!c)
		return;
	c += pg->cls;
	c->slabs++;
	c->slab_bytes += bytes;
	c->object_bytes += live;
	c->hole_bytes += holes;
	c->pinned_bytes += pinned;
}

static void add_region(struct region *r, struct info *in, struct info_class *by_class)
{
	uint32_t n;

	in->meta_bytes += (uint64_t)(REGION_META_PAGES << PG_SHIFT) * r->pages / REGION_PAGES;
	for (uint32_t i = REGION_META_PAGES; i < r->pages; i += n) {
		struct page *pg = &r->page[i];

		n = 1;
		switch (page_kind(pg)) {
		case PAGE_SLAB:
			n = size_classes[pg->cls].pages;
			add_slab(pg, in, by_class);
			break;
		case PAGE_LARGE:
		case PAGE_RAW:
			n = pg->npages;
			in->large_bytes += (uint64_t)n << PG_SHIFT;
			break;
		case PAGE_BUDDY:
			n = 1u << (pg->cls & 15);
			in->free_blocks++;
			break;
		default:
			break;
		}
		if (n == 0 || n > REGION_PAGES)
			n = 1;
	}
}

static void add_heap(struct heap *h, struct info *in, struct info_class *by_class)
{
	in->heaps++;
	in->threads += atomic_load_explicit(&h->tid, memory_order_relaxed) != 0;
	if (heap_is_empty(h))
		return;
	for (unsigned bin = 0; bin < BINS; bin++) {
		uint64_t bytes = bin_bytes(bin, bin_objects_now(h, bin));

		if (bin >= CLASSES) {
			in->cached_large_bytes += bytes;
			continue;
		}
		in->cached_bytes += bytes;
		if (by_class)
			by_class[bin].cached_bytes += bytes;
	}
}

void info_collect(struct info *in, struct info_class *by_class)
{
	*in = (struct info){ 0 };
	if (by_class)
		memset(by_class, 0, CLASSES * sizeof(*by_class));
	in->region_bytes = zones_sum(total_pages) << PG_SHIFT;
	in->free_bytes = zones_sum(free_pages) << PG_SHIFT;
	in->dirty_bytes = zones_sum(dirty_pages) << PG_SHIFT;
	in->reserve_bytes = zones_sum(prefaulted_pages) << PG_SHIFT;
	in->pcp_bytes = heap_pcps_pages() << PG_SHIFT;
	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			add_region(r, in, by_class);
	huge_count(&in->huge_objects, &in->huge_bytes);
	in->huge_kept_bytes = mapcache_bytes();
	in->arena_bytes = arena_bytes();
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		add_heap(h, in, by_class);
	in->meta_bytes += meta_bytes();
}

static const struct {
	const char *name;
	size_t offset;
} gauges[] = {
#define GAUGE(field)                                                                               \
	{                                                                                          \
		.name = #field, .offset = offsetof(struct info, field)                             \
	}
	GAUGE(region_bytes),  GAUGE(free_bytes),      GAUGE(dirty_bytes),
	GAUGE(reserve_bytes), GAUGE(pcp_bytes),       GAUGE(slab_bytes),
	GAUGE(object_bytes),  GAUGE(hole_bytes),      GAUGE(pinned_bytes),
	GAUGE(large_bytes),   GAUGE(huge_bytes),      GAUGE(huge_objects),
	GAUGE(free_blocks),   GAUGE(heaps),           GAUGE(arena_bytes),
	GAUGE(threads),       GAUGE(cached_bytes),    GAUGE(cached_large_bytes),
	GAUGE(meta_bytes),    GAUGE(huge_kept_bytes),
#undef GAUGE
};

#define GAUGES (sizeof(gauges) / sizeof(gauges[0]))

static uint64_t gauge_of(const struct info *in, size_t i)
{
	uint64_t value;

	memcpy(&value, (const char *)in + gauges[i].offset, sizeof(value));
	return value;
}

static uint64_t lock_wait_ns(void)
{
	return zones_sum(lock.wait_ns);
}

bool info_lookup(const char *name, uint64_t *value)
{
	struct info in;

	for (unsigned i = 0; i < STATS; i++) {
		if (strcmp(name, stat_name((enum stat_id)i)) == 0) {
			*value = stat_sum((enum stat_id)i);
			return true;
		}
	}
	if (strcmp(name, "membarrier_errno") == 0) {
		*value = (uint64_t)membarrier_error();
		return true;
	}
	if (strcmp(name, "lock_wait_ns") == 0) {
		*value = lock_wait_ns();
		return true;
	}
	for (size_t i = 0; i < GAUGES; i++) {
		if (strcmp(name, gauges[i].name) == 0) {
			info_collect(&in, NULL);
			*value = gauge_of(&in, i);
			return true;
		}
	}
	return false;
}

void info_each(void (*see)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct info in;

	info_collect(&in, NULL);
	for (size_t i = 0; i < GAUGES; i++)
		see(arg, gauges[i].name, gauge_of(&in, i));
	see(arg, "membarrier_errno", (uint64_t)membarrier_error());
	see(arg, "lock_wait_ns", lock_wait_ns());
	for (unsigned i = 0; i < STATS; i++)
		see(arg, stat_name((enum stat_id)i), stat_sum((enum stat_id)i));
}
