/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.c - see livebits.h. Used by harden and slab; uses vm and pagemap.
 *
 * (A) In a hardened process each region has its bits: those that were there at the start get them
 *     then, a new one before it is published (region_ready). If the kernel refuses them there is no
 *     new region, so no block is ever handed out that has none. They stay. The kernel backs only
 *     what is used: 1/64 of the memory in use, and 1/16 of that of blocks below LIVE_SHORT bytes.
 * (B) A block has a byte, in which no other block of its slab has a bit. One of the bits, `used`,
 *     decides: the thread that clears it owns the block, and it alone changes the byte until the
 *     block is handed out again. So one atomic operation does a free, and a store a malloc. A large
 *     block may find there what a shorter one left, which is not in use.
 * (C) While libc says that the process has one thread, that operation has no lock prefix. Correct
 *     programs need none with any number of threads: one thread at a time has the block, and so its
 *     byte. Of two threads that free a block at the same moment both could get it. Threads that
 *     libc does not know (raw clone) could do that until one of them has made its first call here.
 *
 * No lock, no allocation except a mapping for each region. Signal handlers and fork: one atomic
 * operation changes each byte, so nothing is half done.
 * Pairing: bits are published by a release store, and found by an acquire load.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/livebits.h"

#include "os/vm.h"

/* glibc 2.32 and later. */
extern char __libc_single_threaded __attribute__((weak));

static const char several = 0;
_Atomic(const volatile char *) live_one_thread = &several;

void live_other_thread(void)
{
	atomic_store_explicit(&live_one_thread, &several, memory_order_relaxed);
}

void live_init(void)
{
	if (&__libc_single_threaded)
		atomic_store_explicit(&live_one_thread, &__libc_single_threaded,
				      memory_order_relaxed);
}

bool live_ready(struct region *r)
{
	struct live_bits *b = live_bits_of(r);

	if (b)
		return true;
	b = vm_map(sizeof(*b), PG_BYTES);
	if (b)
		vm_thp_forbid(b, sizeof(*b));
	/* Pairs with the acquire in live_bits_of. */
	atomic_store_explicit(&r->live, b, memory_order_release);
	return b != NULL;
}

uint64_t live_bytes(struct region *r)
{
	struct live_bits *b = atomic_load_explicit(&r->live, memory_order_acquire);
	uint64_t bytes = b ? vm_resident(b, sizeof(*b)) : 0;

	return bytes == VM_UNKNOWN ? sizeof(*b) : bytes;
}

void live_mark(const void *p, size_t slot, enum live state)
{
	atomic_store_explicit(live_byte(live_bits_of(p), p, slot), (uint8_t)state,
			      memory_order_relaxed);
}

void live_forget(const struct page *pg, uint32_t npages, size_t slot)
{
	struct live_bits *b = live_bits_of(pg);
	bool is_short = slot < LIVE_SHORT;
	size_t in_page = PG_BYTES / (is_short ? ALIGN_MIN : LIVE_SHORT) / sizeof(uint64_t);
	_Atomic uint64_t *w;

	if (!b)
		return;
	w = (is_short ? b->short_word : b->word) + page_number(pg) * in_page;
	for (_Atomic uint64_t *end = w + npages * in_page; w < end; w++) {
		if (atomic_load_explicit(w, memory_order_relaxed))
			atomic_store_explicit(w, 0, memory_order_relaxed);
	}
}
