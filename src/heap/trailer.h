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
typedef uint64_t any_pair __attribute__((vector_size(16), aligned(1), may_alias));

static always_inline any_word *word_at(const void *p, size_t at)
{
	return (any_word *)(uintptr_t)((const char *)p + at);
}

static always_inline any_pair *pair_at(const void *p, size_t at)
{
	return (any_pair *)(uintptr_t)((const char *)p + at);
}

/*
 * Sizes come in an order that no processor foresees, so how many bytes lie behind a block decides
 * no branch.
 *
 * Of a slot above FILL_SHORT they are in FILL_MAX bytes, the first ones behind the block or the
 * last ones before the trailer. Which of these are the block's the mask says: it begins in the
 * zeros, or where they end.
 */
#define FILL_SHORT ((size_t)256) /* as FREED_SHORT, so that one branch decides both */
extern hidden_data const uint8_t fill_mask[2 * FILL_MAX];

struct fill_part {
	any_pair fill;
	char *p;
	const uint8_t *mask;
};

static always_inline struct fill_part fill_part(const void *p, size_t size, size_t room,
						uint64_t fill)
{
	size_t at = min_fast(size, room - FILL_MAX);

	fill = fill_from(fill, at);
	return (struct fill_part){
		.fill = { fill, fill },
		.p = (char *)(uintptr_t)p + at,
		.mask = fill_mask + FILL_MAX - (size - at),
	};
}

/* keeps: what lies in front of them is the program's. Else it may become zeros. */
static always_inline void fill_long(void *p, size_t size, size_t room, uint64_t fill, bool keeps)
{
	struct fill_part f = fill_part(p, size, room, fill);

#pragma GCC unroll 4
	for (size_t i = 0; i < FILL_MAX; i += sizeof(any_pair)) {
		any_pair mask = *pair_at(f.mask, i);
		any_pair put = f.fill & mask;

		if (keeps)
			put |= *pair_at(f.p, i) & ~mask;
		*pair_at(f.p, i) = put;
	}
}

static always_inline bool fill_long_changed(const void *p, size_t size, size_t room, uint64_t fill)
{
	struct fill_part f = fill_part(p, size, room, fill);
	any_pair all = { 0, 0 };

#pragma GCC unroll 4
	for (size_t i = 0; i < FILL_MAX; i += sizeof(any_pair))
		all |= (*pair_at(f.p, i) ^ f.fill) & *pair_at(f.mask, i);
	return (all[0] | all[1]) != 0;
}

/*
 * Of a shorter slot there are two words: the first one behind the block, which may reach into the
 * trailer, and the last one before that, or the same once more. Where more lie behind it, because
 * it was aligned or shrunk, the words between them are filled as well.
 */
void fill_middle(void *p, size_t size, size_t room, uint64_t fill);
bool fill_middle_changed(const void *p, size_t size, size_t room, uint64_t fill);

static always_inline void fill_short(void *p, size_t size, size_t room, uint64_t fill)
{
	size_t last = room - sizeof(fill);
	uint64_t first = fill_from(fill, size);

	*word_at(p, size) = first;
	if (unlikely(room - size > 2 * sizeof(fill)))
		fill_middle(p, size, room, fill);
	*word_at(p, max_size(size, last)) = size > last ? first : fill;
}

/* Here it is the last one, which may begin with bytes of the block, once more. */
static always_inline bool fill_short_changed(const void *p, size_t size, size_t room, uint64_t fill)
{
	size_t last = room - sizeof(fill);
	size_t first = min_fast(size, last);
	uint64_t wrong = *word_at(p, first) ^ fill_from(fill, first);

	if (unlikely(room - size > 2 * sizeof(fill)))
		wrong |= fill_middle_changed(p, size, room, fill);
	wrong |= *word_at(p, last) ^ fill;
	/* In two steps: it may be all eight. */
	wrong >>= 4 * (size - first);
	return wrong >> 4 * (size - first) != 0;
}

/* keeps: the block has contents; else it is new, of any contents or zero. */
static always_inline void trailer_put(void *p, size_t size, size_t slot, bool keeps)
{
	size_t room = slot - TRAILER_BYTES;
	uint64_t pad = pad_of(p);
	uint64_t fill = fill_of(pad);

	if (slot > FILL_SHORT)
		fill_long(p, size, room, fill, keeps);
	else
		fill_short(p, size, room, fill);
	*word_at(p, room) = pad ^ (uint64_t)size << TRAILER_CHECK; /* last: it may be the same */
}

/* Whether the bytes behind the block have changed. */
static always_inline bool fill_changed(const void *p, size_t size, size_t slot, uint64_t fill)
{
	size_t room = slot - TRAILER_BYTES;

	return slot > FILL_SHORT ? fill_long_changed(p, size, room, fill)
				 : fill_short_changed(p, size, room, fill);
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
	    unlikely(fill_changed(p, size, slot, fill_of(pad))))
		trailer_overrun(p);
	return size;
}

#endif
