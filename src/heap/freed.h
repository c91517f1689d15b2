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
_Static_assert(FREED_SHORT == 16 * sizeof(zero_pair), "sixteen of them");

/* Stop the program unless the bytes, a multiple of 16, are zero. */
void freed_check_long(const void *p, size_t bytes);
_Noreturn void freed_written(const char *p, size_t from, size_t bytes);

/* The same of a block on a list of its slab, whose link and mark lie in front of them. */
void freed_check_listed(const struct object *o, size_t bytes);

static always_inline void freed_check_zero(const void *p, size_t bytes)
{
	const zero_pair *v = p;
	size_t n = bytes / sizeof(zero_pair);
	const zero_pair *end = v + n;
	zero_pair all;

	if (bytes > FREED_SHORT) {
		freed_check_long(p, bytes);
		return;
	}
	all = v[0] | v[n > 1] | end[-1] | end[n > 1 ? -2 : -1];
	if (bytes > 64)
		all |= v[2] | end[-3] | v[3] | end[-4];
	if (bytes > 128)
		all |= v[4] | end[-5] | v[5] | end[-6] | v[6] | end[-7] | v[7] | end[-8];
	if (unlikely(all[0] | all[1]))
		freed_written(p, 0, bytes);
}

static always_inline void freed_zero(void *p, size_t bytes)
{
	static const zero_pair none = { 0, 0 };
	zero_pair *v = p;
	size_t n = bytes / sizeof(zero_pair);
	zero_pair *end = v + n;

	if (bytes > FREED_SHORT) {
		memset(p, 0, bytes);
		return;
	}
	v[0] = v[n > 1] = end[-1] = end[n > 1 ? -2 : -1] = none;
	if (bytes > 64)
		v[2] = end[-3] = v[3] = end[-4] = none;
	if (bytes > 128)
		v[4] = end[-5] = v[5] = end[-6] = v[6] = end[-7] = v[7] = end[-8] = none;
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
