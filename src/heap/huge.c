/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * huge.c - objects with a mapping of their own, and the table of these objects.
 * Used by heap, info and limits; uses vm.
 *
 * (A) A live object has exactly one slot, whose addr is the start of the object. The slot is
 *     claimed before huge_alloc returns the mapping, and released before the mapping is undone,
 *     because the kernel may give the same address to another thread at once.
 * (B) The addr of a slot goes EMPTY -> CLAIMED -> address -> CLAIMED or GONE -> ... and never back
 *     to EMPTY. So a probe may stop at the first EMPTY slot.
 * (C) At most SLOTS_USED_MAX slots are in use, so that probes end. Beyond that huge_alloc returns
 *     NULL. The kernel's own limit on mappings (vm.max_map_count, 65,530 by default, 1,048,576 on
 *     some systems) may be higher. Each object here has at least 1 MiB, or was too large for the
 *     arena when no lock was available.
 *
 * Bound: one probe of at most SLOTS slots for a pointer, two for an object that moves; at most two
 * calls of vm.
 * Progress: lock-free. Pairing: the release store of addr, after bytes was set, with the acquire
 * load in find. Allocates nothing from other layers. Blocks in the kernel only. May run in a signal
 * handler and in a fork child, since there is no lock.
 * Source: open addressing with tombstones (Knuth 6.4).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/huge.h"

#include "base/delay.h"
#include "base/stats.h"
#include "os/vm.h"

#define SLOT_BITS 17
#define SLOTS (UINT32_C(1) << SLOT_BITS)
#define SLOTS_USED_MAX (SLOTS / 4 * 3)

enum { SLOT_EMPTY = 0, SLOT_GONE = 1, SLOT_CLAIMED = 2 };

struct slot {
	_Atomic uintptr_t addr;
	_Atomic size_t bytes;
};

static struct slot slots[SLOTS]; /* in .bss, so the kernel backs only the pages that are used */
static _Atomic uint32_t used;
static _Atomic uint64_t mapped; /* bytes of live objects */

static uint32_t hash(uintptr_t addr)
{
	return (uint32_t)(((uint64_t)addr >> 12) * UINT64_C(0x9e3779b97f4a7c15) >>
			  (64 - SLOT_BITS));
}

static struct slot *find(uintptr_t addr)
{
	uint32_t i = hash(addr);

	for (uint32_t n = 0; n < SLOTS; n++, i = (i + 1) & (SLOTS - 1)) {
		uintptr_t a = atomic_load_explicit(&slots[i].addr, memory_order_acquire);

		if (a == addr)
			return &slots[i];
		if (a == SLOT_EMPTY)
			return NULL;
	}
	return NULL;
}

/* Count one more slot in use. Returns false if the table is full. */
static bool count_in(void)
{
	SHARE_COUNT(huge_used);
	if (atomic_fetch_add_explicit(&used, 1, memory_order_relaxed) < SLOTS_USED_MAX)
		return true;
	atomic_fetch_sub_explicit(&used, 1, memory_order_relaxed);
	return false;
}

/* Claim a slot on the probe sequence of addr. The caller has counted it. */
static struct slot *claim(uintptr_t addr)
{
	uint32_t i = hash(addr);

	for (;; i = (i + 1) & (SLOTS - 1)) {
		uintptr_t a = atomic_load_explicit(&slots[i].addr, memory_order_relaxed);

		if (a <= SLOT_GONE &&
		    atomic_compare_exchange_strong_explicit(&slots[i].addr, &a, SLOT_CLAIMED,
							    memory_order_relaxed,
							    memory_order_relaxed))
			return &slots[i];
	}
}

static void fill(struct slot *s, uintptr_t addr, size_t bytes)
{
	atomic_store_explicit(&s->bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&s->addr, addr, memory_order_release);
}

static void give_up(struct slot *s)
{
	atomic_store_explicit(&s->addr, SLOT_GONE, memory_order_relaxed);
}

/* Claim the slot of a live object, so that no other thread finds the object. One caller
 * succeeds. */
static struct slot *seize(const void *p, size_t *bytes)
{
	uintptr_t addr = (uintptr_t)p;
	struct slot *s = addr > SLOT_CLAIMED ? find(addr) : NULL;

	if (!s)
		return NULL;
	*bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed);
	return atomic_compare_exchange_strong_explicit(&s->addr, &addr, SLOT_CLAIMED,
						       memory_order_acquire, memory_order_relaxed)
		       ? s
		       : NULL;
}

void *huge_alloc(size_t size, size_t align)
{
	size_t bytes = align_up(size ? size : 1, vm_os_page);
	void *p;

	if (bytes < size || bytes > PTRDIFF_MAX || !count_in())
		return NULL;
	p = vm_map(bytes, align);
	if (!p) {
		atomic_fetch_sub_explicit(&used, 1, memory_order_relaxed);
		return NULL;
	}
	vm_thp_as_set(p, bytes, false);
	SHARE_COUNT(huge_mapped);
	atomic_fetch_add_explicit(&mapped, bytes, memory_order_relaxed);
	SHARE_COUNT(huge_slot);
	DELAY_HERE(huge_claimed);
	fill(claim((uintptr_t)p), (uintptr_t)p, bytes);
	stat_add(STAT_huge_allocs, 1);
	return p;
}

size_t huge_usable(const void *p)
{
	struct slot *s = (uintptr_t)p > SLOT_CLAIMED ? find((uintptr_t)p) : NULL;

	return s ? atomic_load_explicit(&s->bytes, memory_order_relaxed) : 0;
}

bool huge_free(void *p)
{
	size_t bytes;
	struct slot *s = seize(p, &bytes);

	if (!s)
		return false;
	SHARE_COUNT(huge_slot);
	SHARE_COUNT(huge_used);
	SHARE_COUNT(huge_mapped);
	DELAY_HERE(huge_seized);
	give_up(s);
	atomic_fetch_sub_explicit(&used, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&mapped, bytes, memory_order_relaxed);
	vm_unmap(p, bytes);
	return true;
}

void *huge_realloc(void *p, size_t size)
{
	size_t bytes = align_up(size, vm_os_page);
	size_t old;
	struct slot *s;
	void *q;

	if (bytes < size || bytes > PTRDIFF_MAX)
		return NULL;
	s = seize(p, &old);
	if (!s)
		return NULL;
	q = bytes == old ? p : vm_remap(p, old, bytes);
	if (q)
		atomic_fetch_add_explicit(&mapped, (uint64_t)bytes - old, memory_order_relaxed);
	if (!q || q == p) {
		fill(s, (uintptr_t)p, q ? bytes : old);
		return q;
	}
	give_up(s); /* the new slot takes over its count */
	fill(claim((uintptr_t)q), (uintptr_t)q, bytes);
	return q;
}

uint64_t huge_bytes(void)
{
	return atomic_load_explicit(&mapped, memory_order_relaxed);
}

void huge_count(uint64_t *objects, uint64_t *bytes)
{
	uint32_t left = atomic_load_explicit(&used, memory_order_relaxed);

	*objects = 0;
	*bytes = 0;
	for (uint32_t i = 0; i < SLOTS && *objects < left; i++) {
		if (atomic_load_explicit(&slots[i].addr, memory_order_acquire) > SLOT_CLAIMED) {
			(*objects)++;
			*bytes += atomic_load_explicit(&slots[i].bytes, memory_order_relaxed);
		}
	}
}
