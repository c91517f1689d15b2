/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trailer.h - what lies behind each block of a process with the option canary, (B) of harden.c.
 *
 * Any thread that has the block.
 */
#ifndef SLUICE_TRAILER_H
#define SLUICE_TRAILER_H

#include "types.h"

#define TRAILER_BYTES sizeof(uint64_t)
#define FILL_MAX ((size_t)64)

/* Set once, before the first trailer. */
extern __attribute__((visibility("hidden"))) struct trailer_key {
	uint64_t secret;
	uint64_t factor; /* odd */
} trailer_key;

_Noreturn void trailer_overrun(const void *p);

/* What an attacker who cannot read trailers does not guess: the secret is a summand. The size lies
 * above TRAILER_CHECK bits, so that a write from below changes these. */
#define SIZE_BITS 26u
#define TRAILER_CHECK (64 - SIZE_BITS)
_Static_assert(LARGE_MAX < (size_t)1 << SIZE_BITS, "a trailer holds the size of each block");

static always_inline uint64_t pad_of(const void *p)
{
	return (uint64_t)(uintptr_t)p * trailer_key.factor + trailer_key.secret;
}

/* No zero, no text, and other bytes behind each block: a program seldom writes them by chance. */
static always_inline uint64_t fill_of(uint64_t pad)
{
	return (pad ^ pad >> 32) | UINT64_C(0x8080808080808080);
}

/* The same bytes from another one of a word on. */
static always_inline uint64_t fill_from(uint64_t fill, size_t at)
{
	unsigned bits = (unsigned)at % sizeof(fill) * 8;

	return fill >> bits | fill << (-bits & 63);
}

/* At any address. */
typedef uint64_t any_word __attribute__((aligned(1), may_alias));
typedef uint64_t fill_pair __attribute__((vector_size(16), aligned(8), may_alias));

static always_inline any_word *word_at(const void *p, size_t at)
{
	return (any_word *)(uintptr_t)((const char *)p + at);
}

/*
 * Of more than FILL_SHORT bytes behind a block, FILL_MAX at least are filled: the first word, which
 * lies at any byte, and pairs of words from the next whole one on. These overlap at the end, so
 * that how many there are takes no branch. Of fewer bytes it is the first word, and the last one.
 */
#define FILL_SHORT sizeof(fill_pair)
#define FILL_PAIRS (FILL_MAX / sizeof(fill_pair))
static always_inline fill_pair *fill_at(const void *p, size_t size, size_t room, size_t i)
{
	size_t at = align_up(size, sizeof(uint64_t)) + i * sizeof(fill_pair);

	return (fill_pair *)(void *)word_at(p, min_size(at, room - sizeof(fill_pair)));
}

static always_inline void trailer_put(void *p, size_t size, size_t slot)
{
	size_t room = slot - TRAILER_BYTES;
	size_t spare = room - size;
	uint64_t pad = pad_of(p);
	uint64_t fill = fill_of(pad);

	*word_at(p, size) = fill_from(fill, size);
	if (spare > FILL_SHORT) {
#pragma GCC unroll 4
		for (size_t i = 0; i < FILL_PAIRS; i++)
			*fill_at(p, size, room, i) = (fill_pair){ fill, fill };
	} else if (spare > sizeof(fill)) {
		*word_at(p, room - sizeof(fill)) = fill;
	}
	*word_at(p, room) = pad ^ (uint64_t)size << TRAILER_CHECK; /* last: it may be the same */
}

/* Whether the bytes behind the block have changed. */
static always_inline bool fill_changed(const void *p, size_t size, size_t room, uint64_t fill)
{
	size_t spare = room - size;
	uint64_t wrong = *word_at(p, size) ^ fill_from(fill, size);

	if (spare > FILL_SHORT) {
		fill_pair all = { 0, 0 };

#pragma GCC unroll 4
		for (size_t i = 0; i < FILL_PAIRS; i++)
			all |= *fill_at(p, size, room, i) ^ fill;
		wrong |= all[0] | all[1];
	} else if (spare >= sizeof(fill)) {
		wrong |= *word_at(p, room - sizeof(fill)) ^ fill;
	} else {
		/* The others are the trailer's. In two steps: it may be all eight. */
		wrong <<= 32 - 4 * spare;
		wrong <<= 32 - 4 * spare;
	}
	return wrong != 0;
}

/* The size that was asked for. Stops the program if the bytes behind it have changed. slot: the
 * bytes of the block. */
static always_inline size_t trailer_check(const void *p, size_t slot)
{
	size_t room = slot - TRAILER_BYTES;
	uint64_t pad = pad_of(p);
	uint64_t told = *word_at(p, room) ^ pad;
	size_t size = told >> TRAILER_CHECK;

	if (unlikely(told << SIZE_BITS) || unlikely(size > room) ||
	    unlikely(fill_changed(p, size, room, fill_of(pad))))
		trailer_overrun(p);
	return size;
}

#endif
