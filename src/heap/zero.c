/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero.c - see zero.h. Used by heap, heap_size, harden; uses vm.
 *
 * For size 0 the fast paths look into a cache bin that is always empty (CLASS_ZERO), so they have
 * no instruction for it.
 *
 * (A) Each object has ALIGN_MIN bytes of one mapping that never has access, and a bit in zero_used.
 *     So ZERO_SLOTS objects cost address space, and the kernel's pages that hold their bits.
 * (B) The mapping is made by the first call, unless address space is limited then, and stays.
 *
 * Progress: lock-free. Bound: TRIES words of bits. Allocates nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/zero.h"

#include "base/check.h"
#include "base/options.h"
#include "base/share.h"
#include "os/vm.h"

#define TRIES 64u

_Atomic uintptr_t zero_area;
static _Atomic bool refused;
static _Atomic uint64_t zero_used[ZERO_SLOTS / 64];
static _Atomic size_t zero_next;

static bool wanted(void)
{
	return options.guard_zero || options.check == CHECK_FULL;
}

/* Any of several threads may be the first one. */
static uintptr_t make_area(void)
{
	uintptr_t area = 0;
	size_t limit;
	char *p;

	if (atomic_load_explicit(&refused, memory_order_relaxed))
		return 0;
	p = vm_address_limited(&limit) ? NULL : vm_reserve(ZERO_BYTES, PG_BYTES);
	if (!p) {
		atomic_store_explicit(&refused, true, memory_order_relaxed);
		return 0;
	}
	SHARE_COUNT(zero_objects);
	if (atomic_compare_exchange_strong_explicit(&zero_area, &area, (uintptr_t)p,
						    memory_order_relaxed, memory_order_relaxed))
		return (uintptr_t)p;
	vm_unmap(p, ZERO_BYTES);
	return area;
}

static uintptr_t area_now(void)
{
	uintptr_t area = atomic_load_explicit(&zero_area, memory_order_relaxed);

	return likely(area != 0) ? area : wanted() ? make_area() : 0;
}

bool zero_has_area(void)
{
	return area_now() != 0;
}

void *zero_alloc(void)
{
	uintptr_t area = area_now();

	for (unsigned tries = 0; area && tries < TRIES; tries++) {
		size_t w = atomic_fetch_add_explicit(&zero_next, 1, memory_order_relaxed) %
			   (ZERO_SLOTS / 64);
		uint64_t used = atomic_load_explicit(&zero_used[w], memory_order_relaxed);

		SHARE_COUNT(zero_objects);
		while (~used) {
			unsigned i = (unsigned)__builtin_ctzll(~used);

			if (atomic_compare_exchange_weak_explicit(&zero_used[w], &used,
								  used | UINT64_C(1) << i,
								  memory_order_relaxed,
								  memory_order_relaxed))
				return (void *)(area + (w * 64 + i) * ALIGN_MIN);
		}
	}
	return NULL;
}

static size_t place_of(const void *p)
{
	return ((uintptr_t)p - atomic_load_explicit(&zero_area, memory_order_relaxed)) / ALIGN_MIN;
}

void zero_check(const void *p)
{
	size_t i = place_of(p);

	if ((uintptr_t)p % ALIGN_MIN ||
	    !(atomic_load_explicit(&zero_used[i / 64], memory_order_relaxed) >> i % 64 & 1))
		sluice_fatal("block freed twice, or not at its start: address %p", p);
}

void zero_free(const void *p)
{
	size_t i = place_of(p);
	uint64_t bit = UINT64_C(1) << i % 64;

	zero_check(p);
	SHARE_COUNT(zero_objects);
	if (!(atomic_fetch_and_explicit(&zero_used[i / 64], ~bit, memory_order_relaxed) & bit))
		sluice_fatal("block freed twice: address %p", p);
}
