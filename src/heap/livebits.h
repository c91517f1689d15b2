/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livebits.h - whether a block is in use, by a byte for each one, outside of the program's memory.
 * Only hardened processes keep them.
 *
 * Any thread, any context; lock-free, except that live_ready may enter the kernel.
 */
#ifndef SLUICE_LIVEBITS_H
#define SLUICE_LIVEBITS_H

#include "page/pagemap.h"
#include "types.h"

/* The bits of a block, of which one says that it is in use. */
enum live {
	LIVE_NONE,  /* not in use, content unknown */
	LIVE_NOTED, /* not in use, and reads as its free has left it (freed.h) */
	LIVE_USED,
	LIVE_PLAIN, /* in use since before the bits were kept: nothing lies behind it */
	LIVE_HEAD   /* not in use, and its first CLEAR_HEAD bytes read as zero */
};

static always_inline bool live_is_used(enum live state)
{
	return (state & LIVE_USED) != 0;
}

/* A block from LIVE_SHORT bytes on has the byte of its address / LIVE_SHORT, a shorter one that of
 * its address / ALIGN_MIN among others. */
#define LIVE_SHORT ((size_t)64)

struct live_bits {
	union {
		_Atomic uint8_t byte[REGION_BYTES / LIVE_SHORT];
		_Atomic uint64_t word[REGION_BYTES / LIVE_SHORT / sizeof(uint64_t)];
	};
	union {
		_Atomic uint8_t short_byte[REGION_BYTES / ALIGN_MIN];
		_Atomic uint64_t short_word[REGION_BYTES / ALIGN_MIN / sizeof(uint64_t)];
	};
};

static inline struct live_bits *live_bits_of(const void *p)
{
	return atomic_load_explicit(&region_of(p)->live, memory_order_acquire);
}

/* slot: bytes of the block. */
static always_inline _Atomic uint8_t *live_byte(struct live_bits *b, const void *p, size_t slot)
{
	size_t at = (uintptr_t)p & (REGION_BYTES - 1);

	return slot >= LIVE_SHORT ? &b->byte[at / LIVE_SHORT] : &b->short_byte[at / ALIGN_MIN];
}

/* Once, while the process has one thread. */
void live_init(void);

/* Gives a region its bits, if it has none. The caller alone knows the region, or is the only
 * thread. Returns false if no memory. */
bool live_ready(struct region *r);

/* What the bits of the region cost, in bytes. */
uint64_t live_bytes(struct region *r);

/* p: the start of a block of slot bytes, in use or not. */
static inline enum live live_of(const void *p, size_t slot)
{
	struct live_bits *b = live_bits_of(p);

	if (unlikely(!b))
		return LIVE_NONE;
	return (enum live)atomic_load_explicit(live_byte(b, p, slot), memory_order_relaxed);
}

/* The block of slot bytes, which the caller has got, is in use now. Returns what it was before.
 * Nobody else changes its byte. */
static always_inline enum live live_begin(const void *p, size_t slot)
{
	_Atomic uint8_t *at = live_byte(live_bits_of(p), p, slot);
	enum live was = (enum live)atomic_load_explicit(at, memory_order_relaxed);

	if (likely(!live_is_used(was)))
		atomic_store_explicit(at, LIVE_USED, memory_order_relaxed);
	return was;
}

/* Set LIVE_PLAIN or LIVE_NONE; before there are threads, or of a block that the caller has. */
void live_mark(const void *p, size_t slot, enum live state);

/*
 * Where it says whether the process has one thread: in libc, which clears it before it makes the
 * second one. Zero for good once a thread that libc does not know has made a call, and where libc
 * says nothing. Relaxed: nothing is ordered by it.
 */
extern hidden_data _Atomic(const volatile char *) live_one_thread;

/* A thread of which libc may know nothing makes its first call. */
void live_other_thread(void);

/* The block of slot bytes is not in use any more. to: LIVE_NONE, or what the caller, if it gets the
 * block, makes it before anyone can be given it. Returns what it was: of several callers one gets
 * LIVE_USED or LIVE_PLAIN. */
static always_inline enum live live_end(const void *p, size_t slot, enum live to)
{
	_Atomic uint8_t *at = live_byte(live_bits_of(p), p, slot);

#if LOADS_AND_USES
	if (likely(*atomic_load_explicit(&live_one_thread, memory_order_relaxed))) {
		uint8_t was = atomic_load_explicit(at, memory_order_relaxed);
		bool done = false;

		/* One instruction, for signal handlers, but without the lock prefix, (C). */
		do {
			if (unlikely(!live_is_used(was)))
				return LIVE_NONE;
			__asm__ volatile("cmpxchgb %3, %0"
					 : "+m"(*(uint8_t *)(uintptr_t)at), "+a"(was), "=@ccz"(done)
					 : "q"((uint8_t)to)
					 : "memory");
		} while (unlikely(!done));
		return (enum live)was;
	}
#endif
	return (enum live)atomic_exchange_explicit(at, (uint8_t)to, memory_order_relaxed);
}

/* The blocks of slot bytes in the run are not in use, content unknown. The caller owns the run. */
void live_forget(const struct page *pg, uint32_t npages, size_t slot);

#endif
