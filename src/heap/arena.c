/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.c - see arena.h.
 * Used by heap, info and fork; uses vm.
 *
 * A chunk is one mapping of up to BLOCKS blocks. An object of up to half a block shares its block with
 * others: the block is filled from its front, and is free again when its last object is freed. A larger
 * object has a row of blocks. In front of each object lies a header; a bit outside of the chunk says that
 * an object starts there (its start bit). The first chunk has blocks of 16 KiB, further ones have larger
 * blocks (their scale), so that a few are enough whatever a fork meets. All together hold nearly 1 GiB.
 *
 * (A) map[i] says all there is to say of the chunk in slot i: 0 (there is none), BUSY (one party makes or
 *     unmaps it), or OPEN with its length and a bit for each block that is taken. It changes by CAS,
 *     except that the party that made it BUSY stores what comes next.
 * (B) A block is taken by who set its bit until who clears it. Of a taken block block[i][b] says all there
 *     is to say: 0 (one party is about to fill it or to let it go), or the live objects and the end of
 *     the last one, or LARGE with the length of the row. A block that is not taken has 0. (arena_check)
 * (C) base[i] is the chunk's address while map[i] is OPEN, so it may be used by who holds a taken
 *     block of it or a live object in it, and by who made map[i] BUSY.
 * (D) A start bit is set while its object is live and at no other time. Who clears it is who frees the
 *     object. (arena_check: a block has as many as it has live objects)
 * (E) A chunk without a taken block stays mapped only while a fork is under way, and then at most one
 *     does, more only if several threads let go of the last blocks of chunks at the same moment.
 *
 * Why nothing else is needed, no generation in the words in particular: each CAS has the whole truth of
 * its word for its old value, and what is done after it relies on no load from before it. A thread that
 * was asleep between its load and its CAS while the chunk was unmapped, made again elsewhere and filled to
 * the same state takes what it takes from the new chunk, whose base it reads after the CAS.
 * (t/model/arena.pml; twin BASE_EARLY does it otherwise.)
 *
 * Addresses: a pointer is known by its start bit, which is clear in all slots whose chunk is not mapped.
 * So when the kernel hands the address range of an unmapped chunk to a region, a huge object, the program
 * or another chunk, an old base that a reader still sees leads to a clear bit, and the reader goes
 * on to the next slot. The other way round, a region's range that was unmapped may become a chunk: heap.c
 * asks the descriptor, then the table of huge objects, and then here, and neither of the two knows an
 * address in a chunk: a descriptor of an unmapped region is of no slab and no large object, and a slot of
 * a huge object is given up before its mapping is.
 *
 * Bound: three looks at each slot, at most one mapping for each of four lengths; again only if another call got something in between (lock-free), or WAITS (FORK_WAITS) short sleeps
 * while another thread maps a chunk.
 * fork: the child sees each word before or after a step. What a thread that it does not have was about to
 * do is not done: at most one object, one row of blocks or one slot with its chunk for each such thread.
 * Pairing: release and acquire of each CAS of a word with the next one of it; of base with find; fence in
 * arena_sweep with the one in let_go_blocks.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/arena.h"

#include "base/check.h"
#include "base/delay.h"
#include "base/lock.h"
#include "base/park.h"
#include "base/stats.h"
#include "os/vm.h"

#define SCALES 6u
#define SCALE_SLOTS 16u
#define SLOTS (SCALES * SCALE_SLOTS)
#define SCALE_FORK 1u /* of a chunk that is made ahead */
#define SCALE_SOON 3u /* chunks double up to this scale, and beyond it when its slots are taken */
#define BLOCKS 60u
#define BLOCK_BITS 14u  /* and one more for each scale */
#define GRANULE_BITS 4u /* an object begins at a multiple of that; one more for every other scale */

/* map[i] */
#define TAKEN ((UINT64_C(1) << BLOCKS) - 1)
#define LENGTH_SHIFT BLOCKS /* two bits: the index of lengths */
#define OPEN (UINT64_C(1) << 62)
#define BUSY (UINT64_C(1) << 63) /* with the TID of who makes the chunk, or 0: nobody should wait */

/* block[i][b]: shared: live objects, and the end of the last one in granules; LARGE: blocks of the row. */
#define LIVE UINT32_C(0xffff)
#define END_SHIFT 16
#define LARGE (UINT32_C(1) << 31)
#define END_MAX UINT32_C(0x7fff)
#define STARTS(scale)                                                                              \
	(UINT32_C(1) << (BLOCK_BITS + (scale)-GRANULE_BITS - (scale) / 2)) /* a block's */
_Static_assert(STARTS(SCALES - 1) <= END_MAX && STARTS(SCALES - 1) / 2 <= LIVE, "a word has room");

#define WAITS 20u
#define FORK_WAITS 500u
#define WAIT_US 50u

#define FORK_ROOM ((size_t)1 << 20) /* bytes of blocks that are free when a fork begins */

/* How many blocks a chunk has: as many as the kernel lets us have. */
static const uint8_t lengths[4] = { BLOCKS, BLOCKS / 2, BLOCKS / 4, 4 };
#define LIMITED 2u /* where to begin if address space is limited */

struct header {
	uint32_t size;
	uint16_t block; /* the first one */
	uint16_t spare;
	uint64_t check;
};
_Static_assert(sizeof(struct header) == 1u << GRANULE_BITS, "a header fills a granule");

static struct {
	_Atomic uint64_t map;
	_Atomic uintptr_t base;
} chunk[SLOTS];

/* .bss: costs memory where it is used. */
static struct {
	_Atomic uint32_t block[BLOCKS];
	_Atomic uint32_t current; /* the block that objects come out of; a hint */
} inside[SLOTS];

/* The start bits of the slots of each scale, one slot after the other. Those of the scales above the first are mapped
 * with the first chunk of the scale, and stay. */
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

/* What a header must hold: a write in front of an object is seen. */
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

/* Where p is a live object. False: nowhere. */
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

/* Ours since the start bit was seen. */
static struct header *header_of(const void *p)
{
	struct header *h = (struct header *)(uintptr_t)p - 1;

	if (unlikely(h->check != check_of(h)))
		sluice_fatal("the memory in front of a block was overwritten: address %p", p);
	return h;
}

/* The caller has taken the object's block, or counts in it. */
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
	} else { /* there are too many mappings to split one: it waits for objects, or for a sweep */
		atomic_store_explicit(&chunk[slot].base, base, memory_order_release);
	}
	atomic_store_explicit(&chunk[slot].map, map, memory_order_release);
}

/* Whether a chunk other than that one is mapped and holds nothing. */
static bool another_empty(unsigned slot)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t m = atomic_load_explicit(&chunk[i].map, memory_order_relaxed);

		if (i != slot && (m & OPEN) && !(m & TAKEN))
			return true;
	}
	return false;
}

/* Whose blocks have come free, all of them with 0 in their words. Unmaps the chunk if nothing is left. */
static void let_go_blocks(unsigned slot, uint64_t blocks)
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

/* Give the memory of blocks that we have taken back to the kernel, a stretch at a time. */
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

/* Unmap the chunk if it holds nothing; else its free blocks, which may have been in use while a fork was
 * under way, cost no memory any more. We take them as if for objects meanwhile. */
static void sweep_chunk(unsigned slot)
{
	uint64_t m = atomic_load_explicit(&chunk[slot].map, memory_order_relaxed);
	uint64_t unused = ~m & row(0, length_of(m));

	if (!(m & OPEN) || !unused)
		return;
	if (!atomic_compare_exchange_strong_explicit(&chunk[slot].map, &m,
						     (m & TAKEN) ? m | unused : BUSY,
						     memory_order_acq_rel, memory_order_relaxed))
		return; /* who changed it looks itself, if it was to let go */
	if (!(m & TAKEN)) {
		unmap(slot, m);
	} else {
		purge_blocks(slot, unused);
		let_go_blocks(slot, unused);
	}
}

void arena_sweep(void)
{
	/* Who comes here after the end of a fork sees chunks that were left mapped because of it, or
	 * who leaves one sees that the fork is over: the fence in let_go_blocks. */
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < SLOTS; i++)
		sweep_chunk(i);
}

static void *fill_block(unsigned slot, unsigned first, size_t size, size_t align);
static void *fill_row(unsigned slot, unsigned first, unsigned n, size_t size, size_t align);

/* Of objects, in their slot: whether a block is shared, and how many of them a larger one needs. */
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

/* Returns false if there is no memory for the start bits of a scale. */
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

/* A chunk in a slot that the caller made BUSY, of which it has the first `need` blocks. False: the kernel
 * refuses; the slot is free. */
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
	vm_thp_as_set(p, lengths[at] * block_bytes(slot), false);
	stat_add(STAT_emergency_maps, 1);
	atomic_fetch_add_explicit(&mapped, lengths[at] * block_bytes(slot), memory_order_relaxed);
	atomic_store_explicit(&chunk[slot].base, (uintptr_t)p, memory_order_release);
	atomic_store_explicit(&chunk[slot].map, OPEN | (uint64_t)at << LENGTH_SHIFT | row(0, need),
			      memory_order_release);
	return true;
}

/* ---- blocks ------------------------------------------------------------------------------ */

/* Take n blocks side by side. False: there are none. */
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

/* Where an object begins in a block that is filled up to end; bytes from the block's start. */
static inline size_t begin_behind(unsigned slot, size_t end, size_t align)
{
	return align_up(end + granule_bytes(slot), align);
}

static inline uint32_t shared_word(unsigned slot, uint32_t live, size_t end)
{
	size_t granules = align_up(end, granule_bytes(slot)) / granule_bytes(slot);

	return (uint32_t)granules << END_SHIFT | live;
}

/* The first object of a block that we have taken, from which others may come then. */
static void *fill_block(unsigned slot, unsigned first, size_t size, size_t align)
{
	size_t begin = begin_behind(slot, 0, align);

	atomic_store_explicit(&inside[slot].block[first], shared_word(slot, 1, begin + size),
			      memory_order_release);
	atomic_store_explicit(&inside[slot].current, first, memory_order_relaxed);
	return hand_out(slot, first, first * block_bytes(slot) + begin, size);
}

/* An object that has a row of blocks to itself; it begins in the first, or in one behind if its alignment
 * is more than a block. */
static void *fill_row(unsigned slot, unsigned first, unsigned n, size_t size, size_t align)
{
	uintptr_t base = atomic_load_explicit(&chunk[slot].base, memory_order_relaxed);
	uintptr_t at = base + first * block_bytes(slot) + granule_bytes(slot);

	atomic_store_explicit(&inside[slot].block[first], LARGE | n, memory_order_release);
	return hand_out(slot, first, align_up(at, align) - base, size);
}

/* One more object in a block that has some. NULL: it has no room, or none that is live. */
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

/* One object less in the block, or the row, that begins with it. */
static void let_go(unsigned slot, unsigned first)
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
	/* It is taken still, and 0: nobody but us may do anything with it. */
	DELAY_HERE(arena_emptied);
	blocks = row(first, (w & LARGE) ? w & ~LARGE : 1);
	if (!fork_under_way() &&
	    (atomic_load_explicit(&chunk[slot].map, memory_order_relaxed) & TAKEN) != blocks)
		purge_blocks(slot, blocks);
	let_go_blocks(slot, blocks);
}

/* ---- calls ------------------------------------------------------------------------------- */

/* An object out of a chunk that there is. */
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

/* Where a chunk may be made; SLOTS: nowhere. The more there are, the larger the next one; as a rule it is of
 * the scale asked for at least. */
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
		/* Of many threads that come at the same time one makes a chunk, as a rule. While the
		 * kernel copies the address space for a fork it makes no mapping for anybody. */
		if (making && waits++ < (fork_under_way() ? FORK_WAITS : WAITS)) {
			park_sleep_us(WAIT_US);
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
	unsigned first;

	if (!find(p, &at))
		return false;
	first = header_of(p)->block;
	/* Of two frees of an object one gets the bit. Release: the object's last use comes before its
	 * place is used again; acquire pairs with hand_out. */
	if (!(atomic_fetch_and_explicit(at.start, ~at.bit, memory_order_acq_rel) & at.bit))
		return false;
	DELAY_HERE(arena_freed);
	let_go(at.slot, first);
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

		/* This thread may have been making one, and gone on to a handler that forks. */
		if ((m & BUSY) && (uint32_t)m != parent_tid)
			atomic_store_explicit(&chunk[i].map, BUSY, memory_order_relaxed);
	}
	arena_sweep();
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
