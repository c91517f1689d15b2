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
#include "heap/dealt.h"
#include "heap/heap_pcps.h"
#include "heap/heap_thread.h"
#include "heap/holes.h"
#include "heap/huge.h"
#include "heap/livebits.h"
#include "heap/quarantine.h"
#include "heap/slab.h"
#include "os/membarrier.h"
#include "os/vm.h"
#include "page/longrun.h"
#include "page/mapcache.h"
#include "page/meta.h"
#include "page/zone.h"

/* What the walk over the regions finds besides. */
struct walk {
	struct info *in;
	struct info_class *by_class;
	uint64_t pcp_clean; /* bytes of runs in pcps that cost no memory */
	uint64_t slab_free; /* bytes of free memory in slabs, backed */
};

/* Objects on a slab's remote list are free, although the slab counts them as used. */
static void add_slab(struct page *pg, struct walk *w)
{
	uint64_t remote = state_count(atomic_load_explicit(&pg->state, memory_order_relaxed));
	uint64_t used = (uint64_t)(uint16_t)slab_held(pg)->used;
	uint64_t live = used > remote ? (used - remote) * class_size(pg->cls) : 0;
	uint64_t bytes = (uint64_t)size_classes[pg->cls].pages << PG_SHIFT;
	uint64_t holes = holes_bytes(pg);
	uint64_t unused = bytes > live + holes ? bytes - live - holes : 0;
	struct info_class *c = w->by_class ? &w->by_class[pg->cls] : NULL;

	w->in->slab_bytes += bytes;
	w->in->object_bytes += live;
	w->in->hole_bytes += holes;
	w->in->pinned_bytes += used ? unused : 0;
	w->slab_free += unused;
	if (!c)
		return;
	c->slabs++;
	c->slab_bytes += bytes;
	c->object_bytes += live;
	c->hole_bytes += holes;
	c->pinned_bytes += used ? unused : 0;
}

/* Without the kernel's word: as many descriptors as there are usable pages. */
static uint64_t region_meta(struct region *r)
{
	uint64_t bytes = vm_resident(r, (size_t)REGION_META_PAGES << PG_SHIFT);

	if (bytes == VM_UNKNOWN)
		bytes = (uint64_t)(REGION_META_PAGES << PG_SHIFT) * r->pages / REGION_PAGES;
	return bytes + live_bytes(r);
}

static void add_region(struct region *r, struct walk *w)
{
	uint32_t end;

	w->in->meta_bytes += region_meta(r);
	for (uint32_t i = region_first(); i < r->pages; i = end) {
		struct page *pg = &r->page[i];
		enum page_kind kind = page_kind(pg);
		uint64_t bytes;

		end = region_run_end(r, i, kind);
		bytes = (uint64_t)(end - i) << PG_SHIFT;
		if (kind == PAGE_SLAB)
			add_slab(pg, w);
		else if (kind == PAGE_LARGE || kind == PAGE_RAW)
			w->in->large_bytes += bytes;
		else if (kind == PAGE_PCP && pg->backing == BACKING_CLEAN)
			w->pcp_clean += bytes;
		else if (kind == PAGE_BUDDY || kind == PAGE_QUICK)
			w->in->free_blocks++;
	}
}

/* ---- heaps ----------------------------------------------------------------------------------- */

/* Frees of others' objects that have not left yet, by class. Entries of a heap that is in use may
 * change meanwhile: what is read is bounded. */
static uint64_t outbox_cached(const struct heap *h, struct info_class *by_class)
{
	const struct outbox_entry *e = &h->outbox.entry[0][0];
	uint64_t sum = 0;

	for (unsigned i = 0; i < OUTBOX_SETS * OUTBOX_WAYS; i++) {
		struct page *pg = __atomic_load_n(&e[i].pg, __ATOMIC_RELAXED);
		uint32_t bytes = __atomic_load_n(&e[i].bytes, __ATOMIC_RELAXED);
		unsigned cls = pg ? pg->cls : CLASSES;

		if (cls >= CLASSES || bytes > OUTBOX_BYTES)
			continue;
		sum += bytes;
		if (by_class)
			by_class[cls].cached_bytes += bytes;
	}
	return sum;
}

static uint64_t bins_cached(struct heap *h, uint64_t *large, struct info_class *by_class)
{
	uint32_t kept[CLASSES];
	uint64_t sum = 0;

	if (by_class)
		quarantine_objects(h, kept);
	for (unsigned bin = 0; bin < BINS; bin++) {
		int others = bin < CLASSES ? dealt_beside(h, bin) : 0;
		int objects = (int)bin_objects_now(h, bin) + others;
		uint64_t bytes = bin_bytes(bin, hidden_objects(h, bin) +
							(objects > 0 ? (unsigned)objects : 0));

		if (bin >= CLASSES) {
			*large += bytes;
			continue;
		}
		sum += bytes;
		if (by_class)
			by_class[bin].cached_bytes += bytes + kept[bin] * class_size(bin);
	}
	return sum;
}

static void add_heap(struct heap *h, struct walk *w)
{
	w->in->heaps++;
	w->in->threads += atomic_load_explicit(&h->tid, memory_order_relaxed) != 0;
	w->in->bin_refills += atomic_load_explicit(&h->refills, memory_order_relaxed);
	w->in->bin_flushes += atomic_load_explicit(&h->flushes, memory_order_relaxed);
	if (heap_is_empty(h))
		return;
	w->in->cached_bytes += bins_cached(h, &w->in->cached_large_bytes, w->by_class);
	w->in->cached_bytes += outbox_cached(h, w->by_class);
	w->in->quarantine_bytes += quarantine_bytes(h);
	w->in->quarantine_large_bytes += quarantine_large_bytes(h);
}

static struct info_heap info_heap_of(struct heap *h)
{
	struct info_heap i = {
		.tid = atomic_load_explicit(&h->tid, memory_order_relaxed),
		.pcp_bytes = (uint64_t)atomic_load_explicit(&h->pcp.count, memory_order_relaxed)
			     << PG_SHIFT,
		.refills = atomic_load_explicit(&h->refills, memory_order_relaxed),
		.flushes = atomic_load_explicit(&h->flushes, memory_order_relaxed),
	};

	if (i.tid && !heap_is_empty(h)) {
		uint64_t large = 0;

		i.cached_bytes = bins_cached(h, &large, NULL) + outbox_cached(h, NULL);
		i.cached_bytes += large + quarantine_bytes(h);
	}
	return i;
}

unsigned info_top_heaps(struct info_heap *top, unsigned n)
{
	unsigned have = 0;

	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		struct info_heap i = info_heap_of(h);
		unsigned at = have;

		if (!i.tid)
			continue;
		while (at && top[at - 1].cached_bytes + top[at - 1].pcp_bytes <
				     i.cached_bytes + i.pcp_bytes)
			at--;
		if (at == n)
			continue;
		have += have < n;
		memmove(&top[at + 1], &top[at], (have - 1 - at) * sizeof(*top));
		top[at] = i;
	}
	return have;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void add_layers(struct walk *w)
{
	struct info *in = w->in;
	uint64_t pcp = in->pcp_bytes + (longrun_pages() << PG_SHIFT);
	uint64_t held = in->object_bytes + in->large_bytes + in->huge_bytes + arena_used_bytes();

	in->layer_cached = in->cached_bytes + in->cached_large_bytes + in->quarantine_bytes;
	in->layer_live = less(held, in->layer_cached);
	in->layer_pcp = less(pcp, w->pcp_clean);
	in->layer_dirty = in->dirty_bytes;
	in->layer_prefaulted = in->reserve_bytes;
	in->layer_pinned = w->slab_free;
	in->layer_mapcache = in->huge_kept_bytes;
	in->layer_metadata = in->meta_bytes;
#define LAYER(name, text) in->layer_sum += in->layer_##name;
#include "base/stats.def"
	in->clean_bytes = less(in->free_bytes, in->dirty_bytes + in->reserve_bytes) + w->pcp_clean;
}

void info_collect(struct info *in, struct info_class *by_class)
{
	struct walk w = { .in = in, .by_class = by_class };

	*in = (struct info){ 0 };
	if (by_class)
		memset(by_class, 0, CLASSES * sizeof(*by_class));
	in->region_bytes = zones_sum(total_pages) << PG_SHIFT;
	in->free_bytes = zones_sum(free_pages) << PG_SHIFT;
	in->dirty_bytes = zones_sum(dirty_pages) << PG_SHIFT;
	in->reserve_bytes = zones_sum(prefaulted_pages) << PG_SHIFT;
	in->pcp_bytes = heap_pcps_pages() << PG_SHIFT;
	in->lock_waits = zones_sum(lock.contended);
	in->lock_wait_ns = zones_sum(lock.wait_ns);
	in->membarrier_errno = (uint64_t)membarrier_error();
	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			add_region(r, &w);
	huge_count(&in->huge_objects, &in->huge_bytes);
	in->huge_kept_bytes = mapcache_bytes();
	in->arena_bytes = arena_bytes();
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		add_heap(h, &w);
	in->meta_bytes += meta_bytes();
	add_layers(&w);
}

/* Static, because a thread may have a small stack. */
void info_by_class(uint64_t *live, uint64_t *pinned)
{
	static struct info_class by_class[CLASSES];
	struct info in;

	info_collect(&in, by_class);
	for (unsigned cls = 0; cls < CLASSES; cls++) {
		live[cls] = less(by_class[cls].object_bytes, by_class[cls].cached_bytes);
		pinned[cls] = by_class[cls].pinned_bytes;
	}
}

/* ---- what the kernel says -------------------------------------------------------------------- */

struct measured {
	uint64_t resident;
	uint64_t untouched;
	bool unknown;
	uintptr_t from; /* what `backed` tells of */
	uintptr_t to;
	unsigned char backed[VM_BACKED_PAGES];
};

/* Asks for the pages from `at` on, at most up to `end`. */
static void ask_window(struct measured *m, uintptr_t at, uintptr_t end)
{
	size_t pages;

	m->from = align_down(at, vm_os_page);
	pages = min_size((end - m->from + vm_os_page - 1) / vm_os_page, VM_BACKED_PAGES);
	m->to = m->from + pages * vm_os_page;
	if (!vm_backed((const void *)m->from, pages, m->backed))
		m->unknown = true;
}

/* One unit of HOLE_BYTES. counts: whether a layer counts it. */
static void see_unit(struct measured *m, uintptr_t at, bool counts)
{
	if (m->backed[(at - m->from) / vm_os_page] & 1)
		m->resident += HOLE_BYTES;
	else if (counts)
		m->untouched += HOLE_BYTES;
}

/* The units of page i that a layer counts, in the lowest bits. pg: the first page of its run. */
static uint64_t counted_units(const struct region *r, struct page *pg, uint32_t i)
{
	const uint64_t all = (UINT64_C(1) << (PG_BYTES / HOLE_BYTES)) - 1;
	uint32_t unit;

	switch (page_kind(pg)) {
	case PAGE_SLAB:
		unit = (uint32_t)(&r->page[i] - pg) * (PG_BYTES / HOLE_BYTES);
		return holes_units_kept(pg) >> unit % 64 & all;
	case PAGE_LARGE:
	case PAGE_RAW:
	case PAGE_QUICK:
	case PAGE_LIMBO: /* a long run that is kept */
		return all;
	case PAGE_PCP:
		return pg->backing == BACKING_CLEAN ? 0 : all;
	case PAGE_BUDDY:
		if (pg->backing == BACKING_PREFAULTED)
			return all;
		return __atomic_load_n(&r->dirty[i / 64], __ATOMIC_RELAXED) >> i % 64 & 1 ? all : 0;
	default:
		return 0;
	}
}

/* The end of the pages that have address space, from the run on that begins at page i. The kernel
 * must be asked for each page of a range alone if a part of the range is not mapped. */
static uint32_t mapped_end(const struct region *r, uint32_t i)
{
	uint32_t window = (uint32_t)(VM_BACKED_PAGES * vm_os_page >> PG_SHIFT);
	uint32_t pages = __atomic_load_n(&r->pages, __ATOMIC_RELAXED); /* others may shrink it */
	uint32_t most = pages < window || pages - window < i ? pages : i + window;

	while (i < most) {
		enum page_kind kind = page_kind(&r->page[i]);

		if (kind == PAGE_AWAY)
			break;
		i = region_run_end(r, i, kind);
	}
	return i;
}

static uintptr_t page_at(const struct region *r, uint32_t i)
{
	return (uintptr_t)region_start(r) + ((size_t)i << PG_SHIFT);
}

static void measure_run(struct region *r, uint32_t first, uint32_t end, struct measured *m)
{
	for (uint32_t i = first; i < end; i++) {
		uint64_t counts = counted_units(r, &r->page[first], i);

		for (uint32_t unit = 0; unit < PG_BYTES / HOLE_BYTES; unit++) {
			uintptr_t at = page_at(r, i) + unit * HOLE_BYTES;

			if (at >= m->to)
				ask_window(m, at, page_at(r, mapped_end(r, end)));
			if (m->unknown)
				return;
			see_unit(m, at, counts >> unit & 1);
		}
	}
}

static void measure_region(struct region *r, struct measured *m)
{
	uint32_t end;

	m->to = 0; /* nothing of it is known yet */
	for (uint32_t i = region_first(); i < r->pages && !m->unknown; i = end) {
		enum page_kind kind = page_kind(&r->page[i]);

		end = region_run_end(r, i, kind);
		if (kind != PAGE_AWAY) /* memory of others may be there */
			measure_run(r, i, end, m);
	}
}

static void measure_mapping(void *arg, void *at, size_t bytes)
{
	struct measured *m = arg;
	uint64_t backed = vm_resident(at, bytes);

	m->unknown |= backed == VM_UNKNOWN;
	m->resident += backed;
	m->untouched += less(bytes, backed);
}

/* What is free in it is in no layer. */
static void measure_arena(void *arg, void *at, size_t bytes)
{
	uint64_t untouched = ((struct measured *)arg)->untouched;

	measure_mapping(arg, at, bytes);
	((struct measured *)arg)->untouched = untouched;
}

void info_measure(struct info *in)
{
	struct measured m = { .resident = in->meta_bytes };

	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			measure_region(r, &m);
	huge_each(measure_mapping, &m);
	mapcache_each(measure_mapping, &m);
	arena_each(measure_arena, &m);
	if (m.unknown)
		return;
	in->resident_bytes = m.resident;
	in->untouched_bytes = m.untouched;
}

/* ---- by name --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	size_t offset;
} gauges[] = {
#define WORD(name, field) { (name), offsetof(struct info, field) },
#define LAYER(name, text) WORD("layer_" #name, layer_##name)
#define GAUGE(name, text) WORD(#name, name)
#define FOLDED(name, text) WORD(#name, name)
#include "base/stats.def"
#undef WORD
};

#define GAUGES (sizeof(gauges) / sizeof(gauges[0]))

static uint64_t gauge_of(const struct info *in, size_t i)
{
	uint64_t value;

	memcpy(&value, (const char *)in + gauges[i].offset, sizeof(value));
	return value;
}

static bool is_measured(size_t i)
{
	return gauges[i].offset == offsetof(struct info, resident_bytes) ||
	       gauges[i].offset == offsetof(struct info, untouched_bytes);
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
	for (size_t i = 0; i < GAUGES; i++) {
		if (strcmp(name, gauges[i].name) == 0) {
			info_collect(&in, NULL);
			if (is_measured(i))
				info_measure(&in);
			*value = gauge_of(&in, i);
			return true;
		}
	}
	return false;
}

void info_each(bool measure, void (*see)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct info in;

	info_collect(&in, NULL);
	if (measure)
		info_measure(&in);
	for (size_t i = 0; i < GAUGES; i++)
		see(arg, gauges[i].name, gauge_of(&in, i));
	for (unsigned i = 0; i < STATS; i++)
		see(arg, stat_name((enum stat_id)i), stat_sum((enum stat_id)i));
}
