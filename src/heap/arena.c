/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.c - see arena.h.
 * Used by heap, info and fork; uses vm.
 *
 * A chunk is one mapping of up to BLOCKS blocks. An object of up to half a block shares its block
 * with others: the block is filled from its front, and is free again when its last object is freed.
 * A larger object has a row of blocks. A header lies in front of each object; a bit outside of the
 * chunk (its start bit) says that an object starts there. The first chunk has blocks of 16 KiB,
 * later ones have larger blocks (their scale), so that a few chunks are enough for any fork. All
 * slots together hold nearly 1 GiB.
 *
 * (A) map[i] is the whole state of the chunk in slot i: 0 (no chunk), BUSY (one thread makes or
 *     unmaps it), or OPEN with its length and a bit for each taken block. It changes by CAS, except
 *     that the thread that made it BUSY stores the next state.
 * (B) A block is taken from the CAS that sets its bit to the CAS that clears it. block[i][b] is the
 *     whole state of a taken block: 0 (one thread is about to fill or to release it), the number of
 *     live objects and the end of the last one, or LARGE with the length of the row. It is 0 if the
 *     block is not taken. (arena_check)
 * (C) base[i] is the address of the chunk while map[i] is OPEN. So a thread may use it if it holds
 *     a taken block of the chunk or a live object in it, or if it made map[i] BUSY.
 * (D) A start bit is set exactly while its object is live. The thread that clears it frees the
 *     object. (arena_check: a block has as many start bits as live objects)
 * (E) A chunk without a taken block stays mapped only during a fork. Then there is at most one, or
 *     more if several threads release the last blocks of chunks at the same moment.
 *
 * Why the words need no generation: the old value of each CAS is the whole state of its word, and
 * the steps after the CAS use no value that was loaded before it. Suppose a thread sleeps between
 * its load and its CAS, while the chunk is unmapped, made again elsewhere and filled to the same
 * state. Then its CAS takes a place in the new chunk, whose base it reads after the CAS.
 * (t/model/arena.pml; its twin BASE_EARLY reads the base before)
 *
 * Addresses: an object is recognised by its start bit, which is clear in all slots without a mapped
 * chunk. The kernel may hand the address range of an unmapped chunk to a region, a huge object, the
 * program or another chunk. A reader that still sees the old base finds a clear bit, and goes on to
 * the next slot. Conversely, the range of an unmapped region may become a chunk. heap.c asks the
 * descriptor first, then the table of huge objects, and then the arena; the first two do not know
 * an address in a chunk, because the descriptors of an unmapped region are of no slab and no large
 * object, and the slot of a huge object is released before its mapping.
 *
 * Bound: three loads of each slot, at most one mapping for each of four lengths. Repeats only if
 * another call made progress meanwhile (lock-free), or for WAITS (FORK_WAITS) short sleeps while
 * another thread maps a chunk: 1.5 ms (27 in a fork).
 * Fork: the child sees each word before or after a step. A thread that the child does not have may
 * leave one object, one row of blocks, or one slot with its chunk unusable.
 * Pairing: release and acquire of each CAS of a word with the next CAS of that word; the stores of
 * base and of start bits with find; the fence in arena_sweep with the one in release_blocks.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/arena.h"

#include <string.h>

#include "base/check.h"
#include "base/delay.h"
#include "base/lock.h"
#include "base/options.h"
#include "base/park.h"
#include "base/stats.h"
#include "os/vm.h"

#define SCALES 6u
#define SCALE_SLOTS 16u
#define SLOTS (SCALES * SCALE_SLOTS)
#define SCALE_FORK 1u /* of the chunk that arena_fork_prepare makes */
#define SCALE_SOON 3u /* chunks double up to this scale, then beyond it if its slots are taken */
#define BLOCKS 60u
#define BLOCK_BITS 14u  /* and one more for each scale */
#define GRANULE_BITS 4u /* an object begins at a granule; one bit more for every other scale */

/* map[i] */
#define TAKEN ((UINT64_C(1) << BLOCKS) - 1)
#define LENGTH_SHIFT BLOCKS /* two bits: the index of lengths */
#define OPEN (UINT64_C(1) << 62)
#define BUSY (UINT64_C(1) << 63) /* with the TID of the maker; without one, callers do not wait */

/* block[i][b] of a shared block: live objects, and the end of the last one in granules. With LARGE:
 * length of the row in blocks. */
#define LIVE UINT32_C(0xffff)
#define END_SHIFT 16
#define LARGE (UINT32_C(1) << 31)
#define END_MAX UINT32_C(0x7fff)
#define STARTS(scale)                                                                              \
	(UINT32_C(1) << (BLOCK_BITS + (scale)-GRANULE_BITS - (scale) / 2)) /* a block's */
_Static_assert(STARTS(SCALES - 1) <= END_MAX && STARTS(SCALES - 1) / 2 <= LIVE, "a word has room");

#define WAITS 5u
#define FORK_WAITS 35u
#define WAIT_US 50u /* the first sleep; each is twice as long, up to WAIT_MOST_US */
#define WAIT_MOST_US 800u

#define FORK_ROOM ((size_t)1 << 20) /* bytes of blocks that should be free when a fork begins */

/* The lengths of chunks in blocks. The first that the kernel grants is taken. */
static const uint8_t lengths[4] = { BLOCKS, BLOCKS / 2, BLOCKS / 4, 4 };
#define LIMITED 2u /* the first to try if address space is limited */

struct header {
	uint32_t size;
	uint16_t block; /* the first block of the object */
	uint16_t spare;
	uint64_t check;
};
_Static_assert(sizeof(struct header) == 1u << GRANULE_BITS, "a header fills a granule");

static struct {
	_Atomic uint64_t map;
	_Atomic uintptr_t base;
} chunk[SLOTS];

/* In .bss, so the kernel backs only the pages that are used. */
static struct {
	_Atomic uint32_t block[BLOCKS];
	_Atomic uint32_t current; /* a hint: the block that is filled */
} inside[SLOTS];

/* The start bits of the slots of each scale, one slot after the other. The start bits of each scale
 * above the first are mapped before the first chunk of the scale, and stay. */
#define START_WORDS(scale) (SCALE_SLOTS * BLOCKS * (STARTS(scale) / 64))
static _Atomic uint64_t start_0[START_WORDS(0)];
static _Atomic(_Atomic uint64_t *) start[SCALES] = { start_0 };

static _Atomic uint64_t mapped;

static inline unsigned scale_of(unsigned slot)
{
	return slot / SCALE_SLOTS;
}

static inline size_t granule_bytes(unsigned slot)
{
	return (size_t)1 << (GRANULE_BITS + scale_of(slot) / 2);
}

static inline size_t block_bytes(unsigned slot)
{
	return (size_t)1 << (BLOCK_BITS + scale_of(slot));
}

static inline unsigned length_of(uint64_t map)
{
	return lengths[map >> LENGTH_SHIFT & 3];
}

static inline uint64_t row(unsigned first, unsigned n)
{
	return ((UINT64_C(1) << n) - 1) << first;
}

static inline bool fork_under_way(void)
{
	return lock_fork_under_way();
}

/* ---- objects ----------------------------------------------------------------------------- */

/* The value of check in a header, by which a write in front of an object is noticed. */
static uint64_t check_of(const struct header *h)
{
	uint64_t key = (uintptr_t)h ^ (uintptr_t)&chunk;

	return (key ^ (uint64_t)h->size << 32 ^ h->block) * UINT64_C(0x9e3779b97f4a7c15);
}

struct place {
	unsigned slot;
	_Atomic uint64_t *start;
	uint64_t bit;
};

static _Atomic uint64_t *starts_at(unsigned slot, unsigned block)
{
	/* Acquire pairs with the release in starts_ready. */
	return atomic_load_explicit(&start[scale_of(slot)], memory_order_acquire) +
	       (size_t)(slot % SCALE_SLOTS * BLOCKS + block) * (STARTS(scale_of(slot)) / 64);
}

static void place_at(struct place *at, unsigned slot, size_t offset)
{
	size_t n = offset / granule_bytes(slot);

	at->slot = slot;
	at->start = starts_at(slot, 0) + n / 64;
	at->bit = UINT64_C(1) << (n % 64);
}

/* Find the place of live object p. Returns false if p is none. */
static bool find(const void *p, struct place *at)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uintptr_t base = atomic_load_explicit(&chunk[i].base, memory_order_acquire);
		uintptr_t offset = (uintptr_t)p - base;

		if (!base || offset >= BLOCKS * block_bytes(i) || offset & (granule_bytes(i) - 1))
			continue;
		place_at(at, i, offset);
		if (atomic_load_explicit(at->start, memory_order_acquire) & at->bit)
			return true;
	}
	return false;
}

/* The header of an object whose start bit was seen. */
static struct header *header_of(const void *p)
{
	struct header *h = (struct header *)(uintptr_t)p - 1;

	if (unlikely(h->check != check_of(h)))
		sluice_fatal("the memory in front of a block was overwritten: address %p", p);
	return h;
}

/* The caller has taken the object's block, or has counted the object in it. */
static void *hand_out(unsigned slot, unsigned first, size_t offset, size_t size)
{
	char *p = (char *)atomic_load_explicit(&chunk[slot].base, memory_order_relaxed) + offset;
	struct header *h = (struct header *)(void *)p - 1;
	struct place at;

	DELAY_HERE(arena_taken);
	h->size = (uint32_t)align_up(size, 1u << GRANULE_BITS);
	h->block = (uint16_t)first;
	h->spare = 0;
	h->check = check_of(h);
	if (unlikely(options.zero_on_free)) /* nothing of what was here before */
		memset(p, 0, h->size);
	place_at(&at, slot, offset);
	/* Release pairs with find. */
	atomic_fetch_or_explicit(at.start, at.bit, memory_order_release);
	return p;
}

/* ---- chunks ------------------------------------------------------------------------------ */

/* The caller made map BUSY. */
static void unmap(unsigned slot, uint64_t map)
{
	uintptr_t base = atomic_load_explicit(&chunk[slot].base, memory_order_relaxed);
	size_t bytes = length_of(map) * block_bytes(slot);

	DELAY_HERE(arena_unmap);
	atomic_store_explicit(&chunk[slot].base, 0, memory_order_release);
	if (likely(vm_unmap((void *)base, bytes))) {
		atomic_fetch_sub_explicit(&mapped, bytes, memory_order_relaxed);
		map = 0;
	} else { /* too many mappings to split one: the chunk stays, for objects or for a sweep */
		atomic_store_explicit(&chunk[slot].base, base, memory_order_release);
	}
	atomic_store_explicit(&chunk[slot].map, map, memory_order_release);
}

/* Whether another chunk is mapped and has no taken block. */
static bool another_empty(unsigned slot)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);

		if (i != slot && (m & OPEN) && !(m & TAKEN))
			return true;
	}
	return false;
}

/* Release taken blocks, whose words are 0. Unmaps the chunk if no taken block is left. */
static void release_blocks(unsigned slot, uint64_t blocks)
{
	uint64_t m = atomic_load_explicit(&chunk[slot].map, memory_order_relaxed);
	uint64_t next;

	do {
		next = m & ~blocks;
		if (!(next & TAKEN) && !(fork_under_way() && !another_empty(slot)))
			next = BUSY;
	} while (!atomic_compare_exchange_weak_explicit(&chunk[slot].map, &m, next,
							memory_order_acq_rel,
							memory_order_relaxed));
	if (next == BUSY) {
		unmap(slot, m & ~blocks);
	} else if (!(next & TAKEN)) {
		DELAY_HERE(arena_kept);
		atomic_thread_fence(memory_order_seq_cst); /* see arena_sweep */
		if (!fork_under_way() &&
		    atomic_compare_exchange_strong_explicit(&chunk[slot].map, &next, BUSY,
							    memory_order_acquire,
							    memory_order_relaxed))
			unmap(slot, next);
	}
}

/* Purge blocks that the caller has taken, each stretch by one call. */
static void purge_blocks(unsigned slot, uint64_t blocks)
{
	char *base = (char *)atomic_load_explicit(&chunk[slot].base, memory_order_relaxed);

	while (blocks) {
		unsigned first = (unsigned)__builtin_ctzll(blocks);
		unsigned n = (unsigned)__builtin_ctzll(~(blocks >> first));

		vm_purge(base + first * block_bytes(slot), n * block_bytes(slot));
		blocks &= ~row(first, n);
	}
}

/* Unmap the chunk if it has no taken block. Otherwise purge its free blocks, which may have been
 * used during a fork; they are taken meanwhile, as if for objects. */
static void sweep_chunk(unsigned slot)
{
	uint64_t m = atomic_load_explicit(&chunk[slot].map, memory_order_relaxed);
	uint64_t unused = ~m & row(0, length_of(m));

	if (!(m & OPEN) || !unused)
		return;
	if (!atomic_compare_exchange_strong_explicit(&chunk[slot].map, &m,
						     (m & TAKEN) ? m | unused : BUSY,
						     memory_order_acq_rel, memory_order_relaxed))
		return; /* if the other thread released blocks, it unmaps the chunk itself */
	if (!(m & TAKEN)) {
		unmap(slot, m);
	} else {
		purge_blocks(slot, unused);
		release_blocks(slot, unused);
	}
}

void arena_sweep(void)
{
	/* Pairs with the fence in release_blocks: either this sweep, which comes after the end of
	 * the fork, sees a chunk that was kept because of the fork, or the thread that kept it sees
	 * that the fork is over. */
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < SLOTS; i++)
		sweep_chunk(i);
}

static void *fill_block(unsigned slot, unsigned first, size_t size, size_t align);
static void *fill_row(unsigned slot, unsigned first, unsigned n, size_t size, size_t align);

/* Whether an object shares a block of this slot, and how many blocks a larger one needs. */
static inline bool shares(unsigned slot, size_t size, size_t align)
{
	return align + size <= block_bytes(slot) / 2;
}

static inline unsigned row_length(unsigned slot, size_t size, size_t align)
{
	return (unsigned)((align + size + block_bytes(slot) - 1) / block_bytes(slot));
}

static void *fill(unsigned slot, unsigned first, size_t size, size_t align)
{
	return shares(slot, size, align)
		       ? fill_block(slot, first, size, align)
		       : fill_row(slot, first, row_length(slot, size, align), size, align);
}

/* Map the start bits of a scale. Returns false if the kernel refuses. */
static bool starts_ready(unsigned scale)
{
	size_t bytes = START_WORDS(scale) * sizeof(uint64_t);
	_Atomic uint64_t *none = NULL;
	_Atomic uint64_t *mine;

	if (atomic_load_explicit(&start[scale], memory_order_relaxed))
		return true;
	mine = vm_map(bytes, 1);
	if (mine &&
	    !atomic_compare_exchange_strong_explicit(&start[scale], &none, mine,
						     memory_order_release, memory_order_relaxed))
		vm_unmap(mine, bytes); /* another thread was first */
	return mine != NULL;
}

/* Map a chunk for a slot that the caller made BUSY; the caller has its first `need` blocks then. If
 * the kernel refuses, returns false, and the slot is free. */
static bool make(unsigned slot, unsigned need)
{
	size_t limit;
	unsigned at = vm_address_limited(&limit) ? LIMITED : 0;
	void *p = NULL;

	while (at > 0 && lengths[at] < need)
		at--;
	DELAY_HERE(arena_making);
	for (; at < sizeof(lengths) && lengths[at] >= need && starts_ready(scale_of(slot)); at++) {
		p = vm_map(lengths[at] * block_bytes(slot), block_bytes(slot));
		if (likely(p != NULL))
			break;
	}
	if (unlikely(!p)) {
		atomic_store_explicit(&chunk[slot].map, 0, memory_order_release);
		return false;
	}
	vm_thp_as_set(p, lengths[at] * block_bytes(slot));
	stat_add(STAT_emergency_maps, 1);
	atomic_fetch_add_explicit(&mapped, lengths[at] * block_bytes(slot), memory_order_relaxed);
	atomic_store_explicit(&chunk[slot].base, (uintptr_t)p, memory_order_release);
	atomic_store_explicit(&chunk[slot].map, OPEN | (uint64_t)at << LENGTH_SHIFT | row(0, need),
			      memory_order_release);
	return true;
}

/* ---- blocks ------------------------------------------------------------------------------ */

/* Take n adjacent blocks. Returns false if there are none. */
static bool take_blocks(unsigned slot, unsigned n, unsigned *first)
{
	uint64_t m = atomic_load_explicit(&chunk[slot].map, memory_order_relaxed);
	uint64_t next;

	do {
		uint64_t fits = ~m & row(0, length_of(m));

		for (unsigned i = 1; i < n; i++) /* bit b: blocks b to b + i are free */
			fits &= fits >> 1;
		if (!(m & OPEN) || !fits)
			return false;
		*first = (unsigned)__builtin_ctzll(fits);
		next = m | row(*first, n);
	} while (!atomic_compare_exchange_weak_explicit(&chunk[slot].map, &m, next,
							memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

/* The offset at which the next object begins in a block that is filled up to `end`. */
static inline size_t begin_behind(unsigned slot, size_t end, size_t align)
{
	return align_up(end + granule_bytes(slot), align);
}

static inline uint32_t shared_word(unsigned slot, uint32_t live, size_t end)
{
	size_t granules = align_up(end, granule_bytes(slot)) / granule_bytes(slot);

	return (uint32_t)granules << END_SHIFT | live;
}

/* Hand out the first object of a block that the caller has taken. Others may share it from then
 * on. */
static void *fill_block(unsigned slot, unsigned first, size_t size, size_t align)
{
	size_t begin = begin_behind(slot, 0, align);

	atomic_store_explicit(&inside[slot].block[first], shared_word(slot, 1, begin + size),
			      memory_order_release);
	atomic_store_explicit(&inside[slot].current, first, memory_order_relaxed);
	return hand_out(slot, first, first * block_bytes(slot) + begin, size);
}

/* Hand out an object in a row of blocks that the caller has taken. It begins in the first block, or
 * in a later one if its alignment is larger than a block. */
static void *fill_row(unsigned slot, unsigned first, unsigned n, size_t size, size_t align)
{
	uintptr_t base = atomic_load_explicit(&chunk[slot].base, memory_order_relaxed);
	uintptr_t at = base + first * block_bytes(slot) + granule_bytes(slot);

	atomic_store_explicit(&inside[slot].block[first], LARGE | n, memory_order_release);
	return hand_out(slot, first, align_up(at, align) - base, size);
}

/* Hand out an object in a block that has live objects. Returns NULL if it has none, or no room. */
static void *share_block(unsigned slot, unsigned b, size_t size, size_t align)
{
	_Atomic uint32_t *word = &inside[slot].block[b];
	uint32_t w = atomic_load_explicit(word, memory_order_relaxed);
	uint32_t next;
	size_t begin;

	do {
		size_t end = (w >> END_SHIFT) * granule_bytes(slot);

		begin = begin_behind(slot, end, align);
		if ((w & LARGE) || !(w & LIVE) || begin + size > block_bytes(slot))
			return NULL;
		next = shared_word(slot, (w & LIVE) + 1, begin + size);
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, memory_order_acq_rel,
							memory_order_relaxed));
	return hand_out(slot, b, b * block_bytes(slot) + begin, size);
}

/* Remove one object from the block, or from the row that begins with it. */
static void release_object(unsigned slot, unsigned first)
{
	_Atomic uint32_t *word = &inside[slot].block[first];
	uint32_t w = atomic_load_explicit(word, memory_order_relaxed);
	uint64_t blocks;
	uint32_t next;

	do {
		next = (w & LARGE) || (w & LIVE) <= 1 ? 0 : w - 1;
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, memory_order_acq_rel,
							memory_order_relaxed));
	if (next)
		return;
	/* The block is taken and its word is 0, so only this thread may touch it. */
	DELAY_HERE(arena_emptied);
	blocks = row(first, (w & LARGE) ? w & ~LARGE : 1);
	if (!fork_under_way() &&
	    (atomic_load_explicit(&chunk[slot].map, memory_order_relaxed) & TAKEN) != blocks)
		purge_blocks(slot, blocks);
	release_blocks(slot, blocks);
}

/* ---- calls ------------------------------------------------------------------------------- */

/* Take an object out of a mapped chunk. */
static void *take(unsigned slot, size_t size, size_t align)
{
	unsigned n = 1;
	unsigned first;

	if (shares(slot, size, align)) {
		unsigned b = atomic_load_explicit(&inside[slot].current, memory_order_relaxed);
		void *p = share_block(slot, b, size, align);

		if (likely(p != NULL))
			return p;
	} else {
		n = row_length(slot, size, align);
	}
	return take_blocks(slot, n, &first) ? fill(slot, first, size, align) : NULL;
}

/* A free slot for a chunk, or SLOTS if there is none. The scale grows with the number of chunks,
 * and is at least `scale` if a slot of such a scale is free. */
static unsigned free_slot(unsigned scale)
{
	unsigned best = SLOTS;
	unsigned chunks = 0;
	unsigned room = 0; /* bit s: a slot of scale s is free */

	for (unsigned i = 0; i < SLOTS; i++) {
		if (atomic_load_explicit(&chunk[i].map, memory_order_relaxed))
			chunks++;
		else
			room |= 1u << scale_of(i);
	}
	if (!room)
		return SLOTS;
	if (scale < chunks)
		scale = chunks < SCALE_SOON ? chunks : SCALE_SOON;
	if (room >> scale)
		scale += (unsigned)__builtin_ctz(room >> scale);
	else
		scale = 31 - (unsigned)__builtin_clz(room);
	for (unsigned i = SCALE_SLOTS; i-- > 0;) {
		if (!atomic_load_explicit(&chunk[scale * SCALE_SLOTS + i].map,
					  memory_order_relaxed))
			best = scale * SCALE_SLOTS + i;
	}
	return best;
}

static bool claim(unsigned slot)
{
	uint64_t none = 0;

	return atomic_compare_exchange_strong_explicit(&chunk[slot].map, &none, BUSY | self_tid(),
						       memory_order_acquire, memory_order_relaxed);
}

void *arena_alloc(size_t size, size_t align)
{
	unsigned waits = 0;

	size = max_size(size, 1);
	for (;;) {
		bool making = false;
		unsigned slot;

		for (unsigned i = 0; i < SLOTS; i++) {
			uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);
			void *p;

			if ((m & OPEN) &&
			    (p = take(i, size, max_size(align, granule_bytes(i)))) != NULL)
				return p;
			making |= (m & BUSY) && (uint32_t)m && (uint32_t)m != self_tid();
		}
		/* If many threads come at the same time, one makes a chunk and the others usually
		 * wait. While the kernel copies the address space for a fork, mmap waits. */
		if (making && waits < (fork_under_way() ? FORK_WAITS : WAITS)) {
			park_sleep_us(min_size(WAIT_US << min_size(waits, 10), WAIT_MOST_US));
			waits++;
			continue;
		}
		slot = free_slot(0);
		if (slot == SLOTS)
			return NULL;
		if (claim(slot)) {
			size_t a = max_size(align, granule_bytes(slot));
			unsigned n = shares(slot, size, a) ? 1 : row_length(slot, size, a);

			return make(slot, n) ? fill(slot, 0, size, a) : NULL;
		}
	}
}

size_t arena_usable(const void *p)
{
	struct place at;

	return find(p, &at) ? header_of(p)->size : 0;
}

bool arena_free(void *p)
{
	struct place at;
	uint64_t was;
	unsigned first;

	if (!find(p, &at))
		return false;
	/* If two threads free the object, one of them clears the bit, and it alone reads the
	 * header: for the other the chunk may be gone. Release orders the last use of the object
	 * before its place is used again; acquire pairs with hand_out. */
	was = atomic_fetch_and_explicit(at.start, ~at.bit, memory_order_acq_rel);
	if (!(was & at.bit))
		return false;
	first = header_of(p)->block;
	DELAY_HERE(arena_freed);
	release_object(at.slot, first);
	return true;
}

bool arena_covers(const void *p)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_acquire);
		uintptr_t base = atomic_load_explicit(&chunk[i].base, memory_order_relaxed);

		if ((m & OPEN) && base && (uintptr_t)p - base < length_of(m) * block_bytes(i))
			return true;
	}
	return false;
}

void arena_fork_prepare(void)
{
	size_t room = 0;
	unsigned slot;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);

		if (m & OPEN)
			room += (size_t)__builtin_popcountll(~m & row(0, length_of(m))) *
				block_bytes(i);
	}
	slot = room < FORK_ROOM ? free_slot(SCALE_FORK) : SLOTS;
	if (slot < SLOTS && claim(slot))
		make(slot, 0);
}

void arena_fork_child(uint32_t parent_tid)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);

		/* This thread may be making one, if a signal handler interrupted it and forked. */
		if ((m & BUSY) && (uint32_t)m != parent_tid)
			atomic_store_explicit(&chunk[i].map, BUSY, memory_order_relaxed);
	}
	arena_sweep();
}

uint64_t arena_used_bytes(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);

		if (m & OPEN)
			bytes += (unsigned)__builtin_popcountll(m & TAKEN) * block_bytes(i);
	}
	return bytes;
}

void arena_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_acquire);
		uintptr_t base = atomic_load_explicit(&chunk[i].base, memory_order_relaxed);

		if ((m & OPEN) && base)
			see(arg, (void *)base, length_of(m) * block_bytes(i));
	}
}

uint64_t arena_bytes(void)
{
	return atomic_load_explicit(&mapped, memory_order_relaxed);
}

/* ---- debug ------------------------------------------------------------------------------- */

static unsigned starts_of(unsigned slot, unsigned b)
{
	unsigned n = 0;

	if (!atomic_load_explicit(&start[scale_of(slot)], memory_order_relaxed))
		return 0;
	for (unsigned i = 0; i < STARTS(scale_of(slot)) / 64; i++)
		n += (unsigned)__builtin_popcountll(
			atomic_load_explicit(&starts_at(slot, b)[i], memory_order_relaxed));
	return n;
}

static void check_block(unsigned slot, unsigned *b, uint64_t map)
{
	uint32_t w = atomic_load_explicit(&inside[slot].block[*b], memory_order_relaxed);
	unsigned n = (w & LARGE) ? w & ~LARGE : 1;
	unsigned starts = 0;

	CHECK(*b + n <= length_of(map));
	CHECK((map & row(*b, n)) == (w ? row(*b, n) : 0));
	for (unsigned i = 0; i < n; i++) {
		CHECK(i == 0 || inside[slot].block[*b + i] == 0);
		starts += starts_of(slot, *b + i);
	}
	CHECK(starts == ((w & LARGE) ? 1 : w & LIVE));
	*b += n;
}

void arena_check(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);

		CHECK(!(m & BUSY) && ((m & OPEN) || m == 0));
		CHECK(!(m & OPEN) == !atomic_load_explicit(&chunk[i].base, memory_order_relaxed));
		if (m & OPEN) {
			bytes += length_of(m) * block_bytes(i);
			for (unsigned b = 0; b < length_of(m);)
				check_block(i, &b, m);
		}
		for (unsigned b = (m & OPEN) ? length_of(m) : 0; b < BLOCKS; b++)
			CHECK(!inside[i].block[b] && starts_of(i, b) == 0);
	}
	CHECK(bytes == arena_bytes());
}
