/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dealt.c - see dealt.h. Used by heap_slabs, trim, sampler and info; uses cache_bin.
 *
 * (A) A bin's places from its bottom on: `under` objects, a NULL, and what is left of the `dealt`
 *     objects that malloc may take. If under is 0, the NULL is the bottom itself.
 * (B) dealt is less than each of left: the allocation that is to be sampled finds the NULL.
 * (C) Outside of the critical section a bin has a place above its objects, if it has room.
 * (D) A hardened process has nothing in its bins (heap_slabs.h), so nothing is dealt.
 * (E) `returned` has room only while its bin has, and is empty otherwise. So what a drain empties
 *     stays empty (heap_slabs.c (D)).
 *
 * The distances are geometric, so a program cannot fall in step with them, and they have no memory:
 * each class of each heap draws its own.
 *
 * No lock, allocates nothing. Bound: a move of RETURNED_MAX pointers, and one of a bin's. Signal
 * handlers and fork: as the critical section; a child goes on with its parent's numbers.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/dealt.h"

#include <string.h>

#include "base/check.h"
#include "base/links.h"
#include "heap/cache_bin.h"
#include "heap/heap_thread.h"

uint64_t dealt_mean[SAMPLE_KINDS];

/* xorshift64* (Vigna 2014). */
uint64_t dealt_random(struct heap *h)
{
	struct sampling *s = sampling_of(h);

	if (unlikely(!s->random)) {
		s->random = link_random();
		s->random |= 1;
	}
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return s->random * UINT64_C(0x2545f4914f6cdd1d);
}

/* -log2 of a random number in (0, 1], in 2^-16. The fraction of the logarithm comes from squaring,
 * a bit at a time. */
static uint64_t random_log2(struct heap *h)
{
	uint64_t v = dealt_random(h) | 1;
	unsigned zeros = (unsigned)__builtin_clzll(v);
	uint64_t m = v << zeros >> 32; /* 1 <= m / 2^31 < 2 */
	uint64_t fraction = 0;

	for (unsigned i = 0; i < 16; i++) {
		m = m * m >> 31;
		fraction <<= 1;
		if (m >> 32) {
			m >>= 1;
			fraction |= 1;
		}
	}
	return ((uint64_t)(zeros + 1) << 16) - fraction;
}

/* Geometric: allocations of the class until the next sample of a kind. By bytes, the byte that is
 * to be sampled lies in the last of them. */
static uint32_t distance(struct heap *h, unsigned kind, unsigned cls)
{
	const uint64_t ln2 = 45426; /* in 2^-16 */
	uint64_t n = dealt_mean[kind];
	uint64_t d;

	if (!n)
		return UINT32_MAX;
	if (n == 1)
		return 1;
	if (kind == SAMPLE_PROF)
		d = ((random_log2(h) * ln2 >> 16) * n >> 16) / class_size(cls) + 1;
	else
		d = ((random_log2(h) * ln2 >> 17) * (2 * n - 1) >> 16) + 1;
	return d < UINT32_MAX ? (uint32_t)d : UINT32_MAX;
}

/* How many allocations of the class the thread may do before it looks here. */
static uint32_t may_take(struct heap *h, unsigned cls)
{
	uint32_t *left = sampling_of(h)->left[cls];
	uint32_t least = UINT32_MAX;

	for (unsigned kind = 0; kind < SAMPLE_KINDS; kind++) {
		if (unlikely(!left[kind]))
			left[kind] = distance(h, kind, cls);
		if (left[kind] < least)
			least = left[kind];
	}
	return least - 1;
}

bool dealt_count_plain(struct heap *h, unsigned cls)
{
	uint32_t *left = sampling_of(h)->left[cls];

	if (may_take(h, cls) == 0)
		return false;
	for (unsigned kind = 0; kind < SAMPLE_KINDS; kind++)
		left[kind]--;
	return true;
}

unsigned dealt_count(struct heap *h, unsigned cls)
{
	uint32_t *left = sampling_of(h)->left[cls];
	unsigned due = 0;

	(void)may_take(h, cls);
	for (unsigned kind = 0; kind < SAMPLE_KINDS; kind++)
		due |= (unsigned)(--left[kind] == 0) << kind;
	return due;
}

void dealt_move(struct heap *h, unsigned cls, unsigned n)
{
	struct sampling *s = sampling_of(h);
	struct cache_bin *b = &h->bin[cls];
	struct object **from = s->places[cls] + 1;
	unsigned left = (unsigned)(s->returned[cls].top + 1 - from) - n;

	DCHECK(n < bin_space(b));
	memcpy(b->top + 1, from, n * sizeof(struct object *));
	if (left)
		memmove(from, from + n, left * sizeof(struct object *));
	b->top += n;
	s->returned[cls].top -= n;
}

/* The oldest first; (C). */
void dealt_take_returned(struct heap *h, unsigned cls)
{
	struct sampling *s = sampling_of(h);
	unsigned have = (unsigned)(s->returned[cls].top - s->places[cls]);
	unsigned space = bin_space(&h->bin[cls]);
	unsigned fits = space ? space - 1 : 0;

	if (have && fits)
		dealt_move(h, cls, have < fits ? have : fits);
}

unsigned dealt_show_bin(struct heap *h, unsigned bin)
{
	struct sampling *s = sampling_of(h);
	struct object **stop;
	unsigned n;

	stop = bin_bottom(h, bin);
	if (s->under[bin])
		stop += s->under[bin] + 1;
	n = (unsigned)(h->bin[bin].top - stop);
	DCHECK(n <= s->dealt[bin] && !*stop);
	for (unsigned kind = 0; kind < SAMPLE_KINDS; kind++)
		s->left[bin][kind] -= s->dealt[bin] - n;
	s->dealt[bin] = 0;
	if (s->under[bin]) {
		memmove(stop, stop + 1, n * sizeof(struct object *));
		h->bin[bin].top--;
		s->under[bin] = 0;
	}
	return (unsigned)(s->returned[bin].top - s->places[bin]);
}

void dealt_show(struct heap *h, unsigned bin)
{
	if (bin >= CLASSES || heap_slow_only)
		return;
	(void)dealt_show_bin(h, bin);
	dealt_take_returned(h, bin);
}

void dealt_hide(struct heap *h, unsigned bin)
{
	struct sampling *s = sampling_of(h);
	struct object **bottom;
	uint32_t most;
	unsigned n;

	if (bin >= CLASSES || heap_slow_only)
		return;
	bottom = bin_bottom(h, bin);
	n = (unsigned)(h->bin[bin].top - bottom);
	most = may_take(h, bin);
	DCHECK(!s->dealt[bin] && !s->under[bin]);
	if (likely(n <= most)) {
		s->dealt[bin] = (uint16_t)n;
		return;
	}
	DCHECK(bin_space(&h->bin[bin]) != 0);
	s->dealt[bin] = (uint16_t)most;
	s->under[bin] = (uint16_t)(n - most);
	bottom += n - most + 1;
	memmove(bottom + 1, bottom, most * sizeof(struct object *));
	*bottom = NULL;
	h->bin[bin].top++;
}

void dealt_open(struct heap *h, unsigned cls)
{
	struct sampling *s = sampling_of(h);
	unsigned room = bin_room(h, cls) / 2;

	if (room > RETURNED_MAX)
		room = RETURNED_MAX;
	s->returned[cls].limit = (uint32_t)(uintptr_t)(s->places[cls] + room);
}

/* Bounded: the memory of a heap that is being emptied is zero at any moment. */
static unsigned returned(struct heap *h, unsigned cls)
{
	struct sampling *s = sampling_of(h);
	uintptr_t bottom = (uintptr_t)s->places[cls];
	uintptr_t top = (uintptr_t)__atomic_load_n(&s->returned[cls].top, __ATOMIC_RELAXED);

	return top > bottom
		       ? (unsigned)min_size((top - bottom) / sizeof(struct object *), RETURNED_MAX)
		       : 0;
}

unsigned dealt_others(struct heap *h, unsigned cls)
{
	return heap_sampling ? sampling_of(h)->under[cls] + returned(h, cls) : 0;
}

int dealt_beside(struct heap *h, unsigned cls)
{
	return heap_sampling ? (int)returned(h, cls) - (sampling_of(h)->under[cls] != 0) : 0;
}
