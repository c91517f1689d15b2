/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapcache.c - a cache of mappings; see mapcache.h.
 * Used by huge, heap, buddy, reclaim, limits, background, fork, harden and info; uses vm, zone,
 * purge.
 *
 * (A) A slot holds 0, or one word that says all: the first page of the kernel (4 KiB), the number
 *     of pages, and OLD once a call of mapcache_age found it there. The thread that makes a slot 0
 *     owns the memory. No two slots, and no slot and no object, have a page in common.
 * (B) When a free returns, what is kept has at most most_bytes(), counted with what was in use at
 *     the free: each put is followed by a second check, which takes back what is too much. What
 *     the kernel refuses to unmap is purged and may exceed that; only address space is kept then.
 * (C) With a background thread, what was kept for decay_ms to twice as long is unmapped. Without
 *     one, only as much is kept as was lately unmapped and needed again within decay_ms (earned);
 *     the program's later calls off the fast paths unmap what nobody took for decay_ms. A process
 *     that makes no further call keeps what it has. A fork child lets go what its parent kept at
 *     its first call off the fast paths.
 * (D) Adjacent mappings become one, unless one is OLD: else the part that a program uses would
 *     renew the part that it does not use.
 * (E) Nothing is kept once a limit on address space is known (vm_limits_read: without a background
 *     thread when the kernel refuses a mapping), nor if freed memory is to be zero or checked
 *     (keeps_nothing).
 * (F) While anything is kept, mapcache_live is not 0.
 *
 * Memory that is kept is written, and may be locked or advised by the program; only what would
 * change the program's behaviour is undone (vm_make_ordinary). So it goes by munmap, which the
 * kernel refuses in fewer cases than a purge.
 *
 * Bound: a call looks at SLOTS slots a few times. A free joins at most JOINS neighbours.
 * Progress: lock-free. t/model/mapcache.pml is the model of (A), (B) and (F). Pairings:
 * - the release CAS in put with the acquire CAS in slot_take, so that what the last user wrote is
 *   seen by the next one. The CAS that adds OLD is relaxed: it carries on the release of the put.
 * - (F): put fills a slot, then loads mapcache_live; a tick stores 0 there, then looks at the
 *   slots. A seq_cst fence stands between the two on both sides, so one sees what the other did.
 * A slot's word is all there is to know, so it does no harm if it was emptied and filled with the
 * same word meanwhile.
 * Allocates nothing; takes no lock; enters the kernel. Signal handlers: at any time. Fork: a slot
 * is one word, so the child's is whole; what another thread was moving is lost to the child.
 * Source: the dirty extents of jemalloc, and mimalloc's delayed purge.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/mapcache.h"

#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "base/share.h"
#include "os/vm.h"
#include "page/purge.h"
#include "page/zone.h"

#define SLOTS 32u
#define KEPT_MIN ((size_t)1 << 20) /* shorter ones would use up the slots */
#define JOINS 4u
#define TRIES 4u
#define REST_MIN ((size_t)256 << 10) /* shorter rests of a take are not kept */
#define MOST_DIRTY 4u                /* dirty_max that may be kept */
#define EARNED 2u                    /* times what was missed */
#define LATELY 4u                    /* decay_ms for which what was earned lasts */

#define UNIT_SHIFT 12
#define ADDR_BITS 36
#define LENGTH_BITS 27
#define OLD (UINT64_C(1) << 63)

static cache_aligned _Atomic uint64_t slots[SLOTS];
cache_aligned _Atomic uint32_t mapcache_live;

/* A race between two calls loses an update, so that a little more or less is kept. Times may be
 * stored late, so they are compared by since(). */
static struct {
	/* Bytes that may be kept without a background thread. */
	cache_aligned _Atomic uint64_t earned;
	_Atomic uint64_t gone;    /* bytes unmapped and not missed yet */
	_Atomic uint64_t gone_at; /* ms */
	_Atomic uint64_t used_at; /* ms: when a tick last found that something was used */
	_Atomic uint64_t aged_at; /* ms: when a tick last called mapcache_age */
	_Atomic uint32_t used;    /* since the last tick: taken or earned */
} history;

struct piece {
	uintptr_t at;
	size_t bytes;
	uint64_t old; /* OLD or 0 */
};

static uint64_t pack(struct piece m)
{
	return (uint64_t)m.at >> UNIT_SHIFT | (uint64_t)m.bytes >> UNIT_SHIFT << ADDR_BITS | m.old;
}

static struct piece unpack(uint64_t word)
{
	uint64_t units = (word & ~OLD) >> ADDR_BITS;
	uint64_t at = word & ((UINT64_C(1) << ADDR_BITS) - 1);

	return (struct piece){ (uintptr_t)at << UNIT_SHIFT, (size_t)units << UNIT_SHIFT,
			       word & OLD };
}

static bool fits_word(uintptr_t at, size_t bytes)
{
	return (uint64_t)at >> UNIT_SHIFT >> ADDR_BITS == 0 &&
	       (uint64_t)bytes >> UNIT_SHIFT >> LENGTH_BITS == 0;
}

static uint64_t slot_word(unsigned i)
{
	return atomic_load_explicit(&slots[i], memory_order_relaxed);
}

static bool slot_take(unsigned i, uint64_t seen)
{
	DELAY_HERE(mapcache_take);
	SHARE_COUNT(mapcache_slot);
	return atomic_compare_exchange_strong_explicit(&slots[i], &seen, 0, memory_order_acquire,
						       memory_order_relaxed);
}

/* Where the kernel may not split a mapping (vm.max_map_count) only the memory goes; returns false
 * then. */
static bool unmapped(struct piece m)
{
	if (vm_unmap((void *)m.at, m.bytes))
		return true;
	vm_purge((void *)m.at, m.bytes);
	return false;
}

static uint64_t unmap(struct piece m)
{
	(void)unmapped(m);
	return m.bytes;
}

/* So that ticks look at what is kept. */
static void note_live(void)
{
	if (unlikely(!atomic_load_explicit(&mapcache_live, memory_order_relaxed)))
		atomic_store_explicit(&mapcache_live, 1, memory_order_relaxed);
}

/* Returns false, and does nothing, if no slot is empty. */
static bool put(struct piece m)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t none = 0;

		if (slot_word(i))
			continue;
		SHARE_COUNT(mapcache_slot);
		if (atomic_compare_exchange_strong_explicit(&slots[i], &none, pack(m),
							    memory_order_release,
							    memory_order_relaxed)) {
			/* Pairs with the fence in rest_of_ticks; see the top. */
			atomic_thread_fence(memory_order_seq_cst);
			DELAY_HERE(mapcache_put);
			note_live();
			return true;
		}
	}
	return false;
}

/* Gives back what a call took too much. Returns how many bytes the call has. */
static size_t put_rest(struct piece m, size_t wanted)
{
	struct piece rest = { m.at + wanted, m.bytes - wanted, m.old };

	if (rest.bytes <= min_size(wanted / 16, REST_MIN))
		return m.bytes;
	/* What cannot be unmapped stays with the object: nobody would find it again. */
	if ((rest.bytes < REST_MIN || !put(rest)) && !unmapped(rest))
		return m.bytes;
	return wanted;
}

uint64_t mapcache_bytes(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		bytes += unpack(slot_word(i)).bytes;
	return bytes;
}

void mapcache_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct piece m = unpack(slot_word(i));

		if (m.bytes)
			see(arg, (void *)m.at, m.bytes);
	}
}

/* ---- how much is kept ------------------------------------------------------------------------ */

/* A hardened process uses no freed memory again before it is zero, and a late access to a freed
 * huge object is to fault. */
static bool keeps_nothing(void)
{
	size_t limit;

	return options.zero_on_free || options.check == CHECK_FULL || vm_address_limited(&limit);
}

static uint64_t most_bytes(uint64_t in_use)
{
	uint64_t used = (zone_used_pages(&zone_main) << PG_SHIFT) + in_use;
	uint64_t most = MOST_DIRTY * dirty_most() + used / 4;

	if (unlikely(keeps_nothing()))
		return 0;
	if (!trim_inline)
		return most;
	return min_size(most, atomic_load_explicit(&history.earned, memory_order_relaxed));
}

/* Another thread may have stored a later time than this one's. */
static uint64_t since(uint64_t now, const _Atomic uint64_t *then)
{
	uint64_t at = atomic_load_explicit(then, memory_order_relaxed);

	return now > at ? now - at : 0;
}

static void note_gone(size_t bytes)
{
	uint64_t now = clock_ms();
	uint64_t gone = 0;

	if (since(now, &history.gone_at) <= options.decay_ms)
		gone = atomic_load_explicit(&history.gone, memory_order_relaxed);
	atomic_store_explicit(&history.gone, gone + bytes, memory_order_relaxed);
	atomic_store_explicit(&history.gone_at, now, memory_order_relaxed);
}

void mapcache_missed(size_t bytes)
{
	uint64_t gone = atomic_load_explicit(&history.gone, memory_order_relaxed);
	uint64_t earned = atomic_load_explicit(&history.earned, memory_order_relaxed);
	uint64_t most = MOST_DIRTY * dirty_most();
	uint64_t again;

	if (!gone || since(clock_ms(), &history.gone_at) > options.decay_ms)
		return;
	again = min_size(gone, bytes);
	atomic_store_explicit(&history.gone, gone - again, memory_order_relaxed);
	atomic_store_explicit(&history.earned, min_size(earned + EARNED * again, most),
			      memory_order_relaxed);
	atomic_store_explicit(&history.used, 1, memory_order_relaxed);
	note_live();
}

/* Nothing was used for long. If nothing is kept either, no further tick has to look. */
static void rest_of_ticks(void)
{
	atomic_store_explicit(&history.earned, 0, memory_order_relaxed);
	atomic_store_explicit(&mapcache_live, 0, memory_order_relaxed);
	/* Pairs with the fence in put; see the top. */
	atomic_thread_fence(memory_order_seq_cst);
	if (mapcache_bytes() || atomic_load_explicit(&history.earned, memory_order_relaxed))
		atomic_store_explicit(&mapcache_live, 1, memory_order_relaxed);
}

/* While anything is kept, each call off the fast paths comes here. */
void mapcache_tick_slow(void)
{
	uint64_t now = clock_ms_coarse();
	uint64_t aged = atomic_load_explicit(&history.aged_at, memory_order_relaxed);

	if (since(now, &history.aged_at) < options.decay_ms)
		return;
	/* One of several threads does it. */
	if (!atomic_compare_exchange_strong_explicit(&history.aged_at, &aged, now,
						     memory_order_relaxed, memory_order_relaxed))
		return;
	mapcache_age();
	if (atomic_exchange_explicit(&history.used, 0, memory_order_relaxed))
		atomic_store_explicit(&history.used_at, now, memory_order_relaxed);
	else if (since(now, &history.used_at) > LATELY * (uint64_t)options.decay_ms)
		rest_of_ticks();
}

/* What is kept is shared with the parent: to use it would cost a page fault and a copy for each
 * page, which is more than fresh memory costs. */
void mapcache_fork_child(bool runs)
{
	/* The thread that had filled a slot may not have said so yet. */
	if (runs || mapcache_bytes())
		atomic_store_explicit(&mapcache_live, MAPCACHE_INHERITED, memory_order_relaxed);
}

bool mapcache_disown(void)
{
	uint32_t inherited = MAPCACHE_INHERITED;

	if (!atomic_compare_exchange_strong_explicit(&mapcache_live, &inherited, 1,
						     memory_order_relaxed, memory_order_relaxed))
		return false;
	mapcache_drain();
	return true;
}

/* ---- taking ---------------------------------------------------------------------------------- */

static void note_use(void)
{
	if (!atomic_load_explicit(&history.used, memory_order_relaxed))
		atomic_store_explicit(&history.used, 1, memory_order_relaxed);
}

/* The slot of the shortest piece that has `bytes`, or of the longest. Returns SLOTS if none. */
static unsigned find(size_t bytes, bool longest, uint64_t *word)
{
	unsigned at = SLOTS;

	*word = 0;
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t here = slot_word(i);
		size_t has = unpack(here).bytes;

		if (!here || has < bytes ||
		    (*word && (longest ? has <= unpack(*word).bytes : has >= unpack(*word).bytes)))
			continue;
		*word = here;
		at = i;
	}
	return at;
}

bool mapcache_has(size_t bytes)
{
	uint64_t word;

	return atomic_load_explicit(&mapcache_live, memory_order_relaxed) &&
	       find(bytes, true, &word) != SLOTS;
}

void *mapcache_take(size_t *bytes, bool grows)
{
	for (unsigned n = 0; n < TRIES; n++) {
		uint64_t word;
		unsigned i = find(*bytes, grows, &word);

		if (i == SLOTS)
			return NULL;
		if (!slot_take(i, word))
			continue;
		*bytes = put_rest(unpack(word), *bytes);
		note_use();
		return (void *)unpack(word).at;
	}
	return NULL;
}

size_t mapcache_take_at(void *addr, size_t bytes)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = slot_word(i);
		struct piece m = unpack(word);

		if (m.at != (uintptr_t)addr || !m.bytes || !slot_take(i, word))
			continue;
		note_use();
		return m.bytes <= bytes ? m.bytes : put_rest(m, bytes);
	}
	return 0;
}

void *mapcache_take_longest(size_t least, size_t *bytes)
{
	uint64_t word;
	unsigned i = find(least, true, &word);

	if (i == SLOTS || !slot_take(i, word))
		return NULL;
	note_use();
	*bytes = unpack(word).bytes;
	return (void *)unpack(word).at;
}

/* ---- freeing --------------------------------------------------------------------------------- */

/* Joins a neighbour that is kept. Returns false if there is none. */
static bool join(struct piece *m)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = slot_word(i);
		struct piece other = unpack(word);
		bool before = other.at + other.bytes == m->at;

		if (!word || other.old || (!before && m->at + m->bytes != other.at) ||
		    !fits_word(m->at, m->bytes + other.bytes) || !slot_take(i, word))
			continue;
		m->at = before ? other.at : m->at;
		m->bytes += other.bytes;
		return true;
	}
	return false;
}

/* Takes one mapping, the oldest if it is known which, and unmaps it. */
static bool drop_one(void)
{
	for (unsigned n = 0; n < 2; n++) {
		for (unsigned i = 0; i < SLOTS; i++) {
			uint64_t word = slot_word(i);

			if (word && (n || (word & OLD)) && slot_take(i, word)) {
				unmap(unpack(word));
				return true;
			}
		}
	}
	return false;
}

void mapcache_free(void *addr, size_t bytes, uint64_t in_use)
{
	struct piece m = { (uintptr_t)addr, bytes, 0 };

	mapcache_tick();
	if (!fits_word(m.at, bytes) || mapcache_bytes() + bytes > most_bytes(in_use) ||
	    !vm_make_ordinary(addr, bytes)) {
		note_gone(bytes);
		/* Then it costs no memory, and waits for an object or for another try. */
		if (!unmapped(m) && bytes >= KEPT_MIN && !keeps_nothing() &&
		    fits_word(m.at, bytes) && vm_make_ordinary(addr, bytes))
			put(m);
		return;
	}
	for (unsigned n = 0; n < JOINS && join(&m); n++)
		;
	if (m.bytes < KEPT_MIN || !put(m)) {
		unmap(m);
		return;
	}
	/* Others may have put something since the first look, or less is in use now. */
	while (unlikely(mapcache_bytes() > most_bytes(in_use)) && drop_one())
		;
	park_wake();
}

uint64_t mapcache_drain(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = slot_word(i);

		if (word && slot_take(i, word))
			bytes += unmap(unpack(word));
	}
	return bytes;
}

uint64_t mapcache_age(void)
{
	uint64_t bytes = 0;

	if (unlikely(keeps_nothing()))
		return mapcache_drain();
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = slot_word(i);

		if (word & OLD)
			bytes += slot_take(i, word) ? unmap(unpack(word)) : 0;
		else if (word)
			atomic_compare_exchange_strong_explicit(&slots[i], &word, word | OLD,
								memory_order_relaxed,
								memory_order_relaxed);
	}
	return bytes;
}
