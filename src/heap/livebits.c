/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.c - see livebits.h. Used by harden and slab; uses vm and pagemap.
 *
 * (A) In a hardened process each region has its bits: those that were there at the start get them
 *     then, a new one before it is published (region_ready). If the kernel refuses them there is no
 *     new region, so no block is ever handed out that has none. They stay. The kernel backs only
 *     what is used: 1/64 of the memory in use, at most.
 * (B) A block has two neighbouring bits, and from LIVE_ALONE bytes on a byte: no other block of
 *     its slab has bits in it. One bit, `used`, decides: the thread that clears it owns the block,
 *     and it alone changes the others until the block is handed out again. So one atomic operation
 *     does a free, and a store a malloc of a block with a byte. Only those need a third bit
 *     (LIVE_HEAD).
 * (C) While libc says that the process has one thread, the byte of a block is changed without the
 *     lock prefix, which takes a fourth of the time of a free. Correct programs need no more, with
 *     any number of threads: one thread at a time has the block, and so its byte. Of two threads
 *     that free a block at the same moment both could get it. Threads that libc does not know (raw
 *     clone) could do that until one of them has made its first call here: after it all bytes are
 *     changed by atomic operations again. Bits that share a byte always are.
 *
 * No lock, no allocation except a mapping for each region. Signal handlers and fork: one atomic
 * operation changes each bit, so nothing is half done.
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
	_Atomic uint8_t *at = live_byte(live_bits_of(p), p);
	uint8_t all = (uint8_t)(live_mask(slot) << live_shift(p, slot));

	if (state == LIVE_PLAIN)
		atomic_fetch_or_explicit(at, (uint8_t)(LIVE_PLAIN << live_shift(p, slot)),
					 memory_order_relaxed);
	else
		atomic_fetch_and_explicit(at, (uint8_t)~all, memory_order_relaxed);
}

void live_forget(const struct page *pg, uint32_t npages)
{
	struct live_bits *b = live_bits_of(pg);
	size_t w = (size_t)page_number(pg) * LIVE_PAGE_WORDS;

	if (!b)
		return;
	for (size_t end = w + npages * LIVE_PAGE_WORDS; w < end; w++) {
		if (atomic_load_explicit(&b->word[w], memory_order_relaxed))
			atomic_store_explicit(&b->word[w], 0, memory_order_relaxed);
	}
}
