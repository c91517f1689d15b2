/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freed.h - what a freed block of a hardened process reads as until it is used again, so that a
 * write to it is noticed: zeros (zero_on_free), or its first 16 bytes a seal. early.c's objects
 * read as zeros, too.
 *
 * Any thread that has the block.
 */
#ifndef SLUICE_FREED_H
#define SLUICE_FREED_H

#include <string.h>

#include "base/links.h"
#include "heap/clearing.h"
#include "types.h"

/* 16 bytes of the program's memory, read or written by one instruction. */
typedef uint64_t zero_pair __attribute__((vector_size(16), may_alias));

/* Up to FREED_SHORT bytes are read and written from both ends, without a loop, and with few
 * branches: a program frees its sizes in an order that no processor foresees. */
#define FREED_SHORT CLEAR_ALWAYS
_Static_assert(FREED_SHORT == 16 * sizeof(zero_pair), "eight quads");
_Static_assert(CLEAR_HEAD == 4 * sizeof(zero_pair), "two quads");

/* Stop the program unless the bytes, a multiple of 16, are zero. */
void freed_check_long(const void *p, size_t bytes);
_Noreturn void freed_written(const char *p, size_t from, size_t bytes);

/* The same of a block on a list of its slab, whose link and mark lie in front of them. */
void freed_check_listed(const struct object *o, size_t bytes);

/* Two pairs. */
#define QUAD_BYTES (2 * sizeof(zero_pair))

static always_inline zero_pair *pair_at_byte(const void *p, size_t at)
{
	return (zero_pair *)(uintptr_t)((const char *)p + at);
}

static always_inline zero_pair quad_get(const void *p, size_t at)
{
	return pair_at_byte(p, at)[0] | pair_at_byte(p, at)[1];
}

static always_inline void quad_clear(void *p, size_t at)
{
	pair_at_byte(p, at)[0] = pair_at_byte(p, at)[1] = (zero_pair){ 0, 0 };
}

/* From where on the second quad is read: it may be the first one again, or overlap. */
static always_inline size_t quad_second(size_t bytes)
{
	return min_fast(QUAD_BYTES, bytes - QUAD_BYTES);
}

/* The first CLEAR_HEAD bytes of a block, or all that it has. */
static always_inline zero_pair freed_head(const void *p, size_t bytes)
{
	if (unlikely(bytes < QUAD_BYTES))
		return *pair_at_byte(p, 0);
	return quad_get(p, 0) | quad_get(p, quad_second(bytes));
}

static always_inline void freed_check_head(const void *p, size_t bytes)
{
	zero_pair all = freed_head(p, bytes);

	if (unlikely(all[0] | all[1]))
		freed_written(p, 0, bytes);
}

static always_inline void freed_check_zero(const void *p, size_t bytes)
{
	zero_pair all;
	size_t last = bytes - QUAD_BYTES;

	if (bytes > FREED_SHORT) {
		freed_check_long(p, bytes);
		return;
	}
	all = freed_head(p, bytes);
	if (likely(bytes >= QUAD_BYTES))
		all |= quad_get(p, last) | quad_get(p, last - quad_second(bytes));
	if (bytes > FREED_SHORT / 2)
		all |= quad_get(p, 2 * QUAD_BYTES) | quad_get(p, 3 * QUAD_BYTES) |
		       quad_get(p, last - 2 * QUAD_BYTES) | quad_get(p, last - 3 * QUAD_BYTES);
	if (unlikely(all[0] | all[1]))
		freed_written(p, 0, bytes);
}

static always_inline void freed_zero(void *p, size_t bytes)
{
	size_t last = bytes - QUAD_BYTES;

	if (bytes > FREED_SHORT) {
		memset(p, 0, bytes);
		return;
	}
	if (unlikely(bytes < QUAD_BYTES)) {
		*pair_at_byte(p, 0) = (zero_pair){ 0, 0 };
		return;
	}
	quad_clear(p, 0);
	quad_clear(p, quad_second(bytes));
	quad_clear(p, last);
	quad_clear(p, last - quad_second(bytes));
	if (bytes > FREED_SHORT / 2) {
		quad_clear(p, 2 * QUAD_BYTES);
		quad_clear(p, 3 * QUAD_BYTES);
		quad_clear(p, last - 2 * QUAD_BYTES);
		quad_clear(p, last - 3 * QUAD_BYTES);
	}
}

/* A link that leads nowhere, and no mark of any slab. Both hold the object's address and the key of
 * the process, so no object has another one's. */
static always_inline void freed_seal(struct object *o)
{
	link_set(o, NULL);
	o->mark = ~o->link;
}

_Noreturn void freed_unsealed(const struct object *o);

static always_inline void freed_check_seal(const struct object *o)
{
	if (unlikely(link_get(o) != NULL) || unlikely(o->mark != ~o->link))
		freed_unsealed(o);
}

#endif
