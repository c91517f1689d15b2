/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * harden.c - what a hardened process does at each malloc and free. Used by init; uses heap,
 * livebits, quarantine, huge.
 *
 * The cache bins of a hardened process have no room, so that each call takes the slow path, and
 * heap_hooks leads here. The fast paths of other processes have no instruction for it.
 *
 * (A) Each block in a region has a bit that says whether it is in use (livebits.h). A free that
 *     finds it clear stops the program.
 * (B) With the option canary a block has a trailer in the last 8 bytes of its slot: the size that
 *     was asked for, and a hash of that, its address and a secret. Bytes between the two are
 *     filled, FILL_MAX at most. A free, realloc or malloc_usable_size checks them. Blocks that were
 *     handed out before the process was hardened (LIVE_PLAIN) have none, nor have those that are
 *     mappings (huge) or lie in the arena.
 * (C) With zero_on_free a freed block reads as zero, except link and mark, until it is used again.
 *
 * No lock of its own. Bound: that of heap.c; each call writes or reads the block. Signal handlers
 * and fork: as heap.c.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/harden.h"

#include <string.h>

#include "base/check.h"
#include "base/links.h"
#include "base/log.h"
#include "base/options.h"
#include "heap/claim.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "heap/huge.h"
#include "heap/livebits.h"
#include "heap/quarantine.h"
#include "heap/trim.h"
#include "os/vm.h"
#include "page/zone.h"

#define TRAILER_BYTES sizeof(uint64_t)
#define FILL_MAX ((size_t)64)

static uint64_t secret; /* of trailers */

static size_t trailer_bytes(void)
{
	return options.canary ? TRAILER_BYTES : 0;
}

/* The descriptor of the slab or large object that p lies in. Returns NULL if in none. */
static struct page *page_in_use(const void *p)
{
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;

	return pg && (page_kind(pg) == PAGE_SLAB || page_kind(pg) == PAGE_LARGE) ? pg : NULL;
}

/* ---- trailers ------------------------------------------------------------------------------- */

/* A multiplication and a rotation, twice: what an attacker who cannot read trailers does not
 * guess. */
static uint64_t trailer_of(const void *p, size_t size)
{
	uint64_t v = ((uint64_t)(uintptr_t)p ^ secret) * UINT64_C(0x9e3779b97f4a7c15);

	v = (v ^ (v >> 29) ^ size) * UINT64_C(0xbf58476d1ce4e5b9);
	return ((v ^ (v >> 32)) << 32) | (uint32_t)(size ^ secret);
}

static unsigned char fill_byte(void)
{
	return (unsigned char)(secret >> 56) | 1;
}

static void trailer_put(void *p, size_t size, size_t slot)
{
	uint64_t t = trailer_of(p, size);
	size_t room = slot - TRAILER_BYTES;

	memset((char *)p + size, fill_byte(), min_size(room - size, FILL_MAX));
	memcpy((char *)p + room, &t, sizeof(t));
}

static _Noreturn void overrun(const void *p, const struct page *pg)
{
	if (page_kind(pg) != PAGE_SLAB)
		sluice_fatal("block written to beyond its end: address %p, block %p (%zu bytes)", p,
			     p, large_usable(pg));
	sluice_fatal("object written to beyond its end: address %p, size class %u (%u bytes)", p,
		     pg->cls, (unsigned)class_size(pg->cls));
}

/* The size that was asked for. Stops the program if the bytes behind it have changed. */
static size_t trailer_check(const void *p, const struct page *pg)
{
	size_t room = block_bytes(pg) - TRAILER_BYTES;
	unsigned char fill = fill_byte();
	const unsigned char *at = p;
	uint64_t t;
	size_t size;
	size_t end;

	memcpy(&t, at + room, sizeof(t));
	size = (uint32_t)(t ^ secret);
	if (unlikely(size > room || t != trailer_of(p, size)))
		overrun(p, pg);
	end = min_size(room, size + FILL_MAX);
	for (size_t i = size; i < end; i++) {
		if (unlikely(at[i] != fill))
			overrun(p, pg);
	}
	return size;
}

/* Bytes that the program may use. */
static size_t usable(const void *p, const struct page *pg, enum live was)
{
	return options.canary && was == LIVE_USED ? trailer_check(p, pg) : block_bytes(pg);
}

/* ---- malloc(0) ------------------------------------------------------------------------------ */

/* Addresses without access, ALIGN_MIN bytes each; a bit for each. */
#define ZERO_SLOTS ((size_t)1 << 20)
static char *zero_area;
static _Atomic uint64_t zero_used[ZERO_SLOTS / 64];
static _Atomic size_t zero_next;

static void *zero_alloc(void)
{
	for (unsigned tries = 0; zero_area && tries < 64; tries++) {
		size_t w = atomic_fetch_add_explicit(&zero_next, 1, memory_order_relaxed) %
			   (ZERO_SLOTS / 64);
		uint64_t used = atomic_load_explicit(&zero_used[w], memory_order_relaxed);

		while (~used) {
			unsigned i = (unsigned)__builtin_ctzll(~used);

			if (atomic_compare_exchange_weak_explicit(&zero_used[w], &used,
								  used | UINT64_C(1) << i,
								  memory_order_relaxed,
								  memory_order_relaxed))
				return zero_area + (w * 64 + i) * ALIGN_MIN;
		}
	}
	return NULL;
}

static bool is_zero_sized(const void *p)
{
	return zero_area && (uintptr_t)p - (uintptr_t)zero_area < ZERO_SLOTS * ALIGN_MIN;
}

/* Stops the program unless it is in use. */
static void zero_check(const void *p)
{
	size_t i = ((uintptr_t)p - (uintptr_t)zero_area) / ALIGN_MIN;

	if ((uintptr_t)p % ALIGN_MIN ||
	    !(atomic_load_explicit(&zero_used[i / 64], memory_order_relaxed) >> i % 64 & 1))
		sluice_fatal("block freed twice, or not at its start: address %p", p);
}

static void zero_free(const void *p)
{
	size_t i = ((uintptr_t)p - (uintptr_t)zero_area) / ALIGN_MIN;
	uint64_t bit = UINT64_C(1) << i % 64;

	zero_check(p);
	if (!(atomic_fetch_and_explicit(&zero_used[i / 64], ~bit, memory_order_relaxed) & bit))
		sluice_fatal("block freed twice: address %p", p);
}

/* ---- the calls ------------------------------------------------------------------------------ */

/* The slot is the caller's. Sets *zero if it reads as zero. */
static void begin_block(void *p, size_t size, bool *zero)
{
	struct page *pg = page_of(p);
	size_t slot = block_bytes(pg);
	enum live was = live_begin(p);

	CHECK(was != LIVE_USED);
	if (was == LIVE_ZEROED && page_kind(pg) == PAGE_SLAB) {
		quarantine_check_zero(p, sizeof(struct object), slot, pg);
		memset(p, 0, sizeof(struct object));
		*zero = true;
	}
	if (options.canary)
		trailer_put(p, size, slot);
}

static void *harden_alloc(size_t size, size_t align, bool *zero)
{
	void *p;

	if (unlikely(heap_in_copy))
		return heap_plain_alloc(size, align, zero);
	if (!size && align <= ALIGN_MIN && (p = zero_alloc()) != NULL) {
		*zero = true;
		return p;
	}
	p = heap_plain_alloc(size + trailer_bytes(), align, zero);
	if (!p || !pagemap_ours(p))
		return p;
	if (unlikely(!live_ready(p))) {
		heap_plain_free(p);
		return NULL;
	}
	begin_block(p, size, zero);
	return p;
}

static void harden_free(void *p)
{
	struct page *pg = page_in_use(p);
	enum live was;

	if (!pg) {
		if (is_zero_sized(p))
			zero_free(p);
		else
			heap_plain_free(p);
		return;
	}
	heap_check_object(p, pg);
	was = live_end(p);
	if (unlikely(was < LIVE_USED))
		heap_freed_twice(p, pg);
	(void)usable(p, pg, was);
	if (options.zero_on_free) {
		memset(p, 0, block_bytes(pg));
		live_zeroed(p);
	}
	heap_plain_free(p);
}

static size_t harden_usable(void *p)
{
	struct page *pg = page_in_use(p);
	enum live is;

	if (is_zero_sized(p)) {
		zero_check(p);
		return 0;
	}
	if (!pg || heap_in_copy)
		return heap_plain_usable(p);
	is = live_of(p);
	if (unlikely(is < LIVE_USED))
		sluice_fatal("size asked of memory that is not ours or was freed: address %p", p);
	return usable(p, pg, is);
}

/* In place, if the slot suits the size. */
static bool resize(void *p, struct page *pg, enum live is, size_t size)
{
	size_t full = size + trailer_bytes();
	size_t slot = block_bytes(pg);

	if (page_kind(pg) == PAGE_LARGE) {
		if (is == LIVE_PLAIN || full <= SMALL_MAX || !large_resize(pg, full))
			return false;
		slot = block_bytes(pg);
	} else if (is == LIVE_PLAIN) {
		return size <= slot && size > slot / 2;
	} else if (full > slot || (full <= slot / 2 && class_of(full) != pg->cls)) {
		return false;
	}
	if (options.canary)
		trailer_put(p, size, slot);
	return true;
}

static void *harden_realloc(void *p, size_t size)
{
	struct page *pg = page_in_use(p);
	size_t old;
	void *q;

	if (heap_in_copy || (!pg && !is_zero_sized(p)))
		return heap_plain_realloc(p, size);
	if (pg) {
		heap_check_object(p, pg);
		if (unlikely(live_of(p) < LIVE_USED))
			sluice_fatal("realloc of a block that was freed: address %p", p);
	}
	old = harden_usable(p);
	if (pg && resize(p, pg, live_of(p), size))
		return p;
	q = heap_move(p, old, size);
	return q || size > old ? q : p;
}

/* align: 1 if the caller knows none. */
static void harden_check_size(void *p, size_t size, size_t align)
{
	struct page *pg = page_in_use(p);
	size_t have;
	bool good;

	if (!p || heap_in_copy)
		return;
	have = harden_usable(p);
	if (!pg || live_of(p) == LIVE_PLAIN || !options.canary) {
		size = align_up(max_size(size, 1), max_size(align, 1));
		good = size <= have &&
		       (!pg || page_kind(pg) != PAGE_SLAB || class_of(size) == pg->cls);
	} else {
		good = size == have;
	}
	if (is_zero_sized(p))
		good = size <= 1;
	if (unlikely(!good))
		sluice_fatal("free with a wrong size (%zu instead of %zu bytes): address %p", size,
			     have, p);
}

/* ---- the start ------------------------------------------------------------------------------ */

static const struct heap_hooks hooks = {
	.alloc = harden_alloc,
	.free = harden_free,
	.realloc = harden_realloc,
	.usable = harden_usable,
	.check_size = harden_check_size,
};

/* What was handed out before has no trailer. What is on the free list is not in use. */
static bool mark_slab(struct page *pg)
{
	for (size_t at = 0; at < slab_carved_bytes(pg); at += class_size(pg->cls))
		live_mark(page_address(pg) + at, LIVE_PLAIN);
	for (struct object *o = pg->free; o; o = freelist_next(pg, o))
		live_mark(o, LIVE_NONE);
	return true;
}

static bool mark_region(struct region *r)
{
	uint32_t n;

	for (uint32_t i = REGION_META_PAGES; i < r->pages; i += n) {
		struct page *pg = &r->page[i];

		n = 1;
		if (page_kind(pg) == PAGE_SLAB)
			n = size_classes[pg->cls].pages;
		else if (page_kind(pg) == PAGE_LARGE)
			n = pg->npages;
		if (page_kind(pg) != PAGE_SLAB && page_kind(pg) != PAGE_LARGE)
			continue;
		if (!live_ready(pg))
			return false;
		if (page_kind(pg) == PAGE_SLAB)
			mark_slab(pg);
		else
			live_mark(page_address(pg), LIVE_PLAIN);
	}
	return true;
}

static bool mark_all(void)
{
	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			if (!mark_region(r))
				return false;
	return true;
}

static bool wanted(void)
{
	return options.check == CHECK_FULL || options.quarantine || options.zero_on_free ||
	       options.canary || options.random_slots || options.check_sizes;
}

void harden_init(void)
{
	struct heap *h = heap_self;

	if (!wanted())
		return;
	/* Other threads may be in their fast paths. */
	if (heap_first() && heap_next(heap_first())) {
		options_say("the options of profile:hardened have no effect: another thread "
			    "allocated before the library's start");
		return;
	}
	if (heap_is_real(h) && heap_enter_slow(h)) {
		heap_trim(h);
		heap_exit_free(h);
	}
	if (!mark_all())
		return;
	link_random(&secret, sizeof(secret));
	if (options.check == CHECK_FULL)
		zero_area = vm_reserve(ZERO_SLOTS * ALIGN_MIN, PG_BYTES);
	heap_slow_only = true;
	heap_hooks = &hooks;
}
