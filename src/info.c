/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * info.c - see info.h. Used by the shim and the API; uses heap, huge, pcp, buddy.
 * No lock, no allocation: descriptors are never unmapped, so what changes under the walk gives a
 * figure that is off, not a fault.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "info.h"

#include <string.h>

#include "buddy.h"
#include "heap.h"
#include "huge.h"
#include "pcp.h"
#include "stats.h"

static void add_region(struct region *r, struct info *in)
{
	uint32_t n;

	for (uint32_t i = REGION_META_PAGES; i < r->pages; i += n) {
		const struct page *pg = &r->page[i];

		n = 1;
		switch (page_kind(pg)) {
		case PAGE_SLAB:
			n = size_classes[pg->cls].pages;
			in->slab_bytes += (uint64_t)n << PG_SHIFT;
			in->object_bytes += (uint64_t)(uint16_t)pg->used * class_size(pg->cls);
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

void info_collect(struct info *in)
{
	struct zone *z = &zone_main;

	*in = (struct info){ 0 };
	in->region_bytes = atomic_load_explicit(&z->total_pages, memory_order_relaxed) << PG_SHIFT;
	in->free_bytes = atomic_load_explicit(&z->free_pages, memory_order_relaxed) << PG_SHIFT;
	in->dirty_bytes = atomic_load_explicit(&z->dirty_pages, memory_order_relaxed) << PG_SHIFT;
	for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
		in->pcp_bytes += (uint64_t)atomic_load_explicit(&p->count, memory_order_relaxed)
				 << PG_SHIFT;
	for (struct region *r = buddy_first_region(z); r; r = r->next)
		add_region(r, in);
	huge_count(&in->huge_objects, &in->huge_bytes);
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		in->heaps++;
}

bool info_lookup(const char *name, uint64_t *value)
{
	static const struct {
		const char *name;
		size_t offset;
	} gauges[] = {
#define GAUGE(field) { #field, offsetof(struct info, field) }
		GAUGE(region_bytes), GAUGE(free_bytes),   GAUGE(dirty_bytes), GAUGE(pcp_bytes),
		GAUGE(slab_bytes),   GAUGE(object_bytes), GAUGE(large_bytes), GAUGE(huge_bytes),
		GAUGE(huge_objects), GAUGE(free_blocks),  GAUGE(heaps),
#undef GAUGE
	};
	struct info in;

	for (unsigned i = 0; i < STATS; i++) {
		if (strcmp(name, stat_name((enum stat_id)i)) == 0) {
			*value = stat_sum((enum stat_id)i);
			return true;
		}
	}
	if (strcmp(name, "gate2_errno") == 0) {
		*value = (uint64_t)heap_gate_error();
		return true;
	}
	if (strcmp(name, "lock_wait_ns") == 0) {
		*value = atomic_load_explicit(&zone_main.lock.wait_ns, memory_order_relaxed);
		return true;
	}
	for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++) {
		if (strcmp(name, gauges[i].name) == 0) {
			info_collect(&in);
			memcpy(value, (char *)&in + gauges[i].offset, sizeof(*value));
			return true;
		}
	}
	return false;
}
