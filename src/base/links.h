/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * links.h - links between free objects, which lie in the program's memory, and the mark of a free object.
 *
 * A link is never stored as an address. What is stored is
 *
 *   (next + (address of the link << 16)) x multiplier + addend   (mod 2^64)
 *
 * with a multiplier (odd) and an addend that are drawn when the process starts. A word that is changed in any of
 * its bytes decodes to any of 2^64 values: 2^-46 of these lie in a slab. The address is in it so that a link that was
 * copied from another free object decodes to a place outside of the slab. So one comparison with what is
 * carved of the slab (freelist_next) tells a link that we wrote from one that somebody else did.
 *
 * The second word of an object that is on a list of its slab, or on the way there (outbox, remote list), is a mark: a secret, plus its
 * address, plus the number of the slab, so that one which was left by a slab that lay there before is none. It is set and
 * looked at where the link is written, and looked at and taken off where the link is read. So an object that is freed again while it is
 * on a list is noticed when it comes there a second time; or, if the program was given it meanwhile, out of a bin, and has
 * written to it, when the list comes to it. free and malloc themselves touch no object: it may be in nobody's cache.
 *
 * Who can read several links of free objects and knows where they lead can compute the key (doc/security.md).
 */
#ifndef SLUICE_LINKS_H
#define SLUICE_LINKS_H

#include "types.h"

struct link_key {
	uint64_t multiplier; /* odd */
	uint64_t inverse;    /* of it, mod 2^64 */
	uint64_t addend;
	uint64_t mark;
};

/* Set once, before the first object is handed out. */
extern struct link_key link_key;

/* Draw the key. */
void link_init(void);

/* Let o lead to next, or to nothing. */
static always_inline void link_set(struct object *o, const struct object *next)
{
	uint64_t plain = (uintptr_t)next + ((uint64_t)(uintptr_t)o << 16);

	o->link = plain * link_key.multiplier + link_key.addend;
}

/* Where o leads, if nobody else wrote there; else anything. NULL: nowhere. */
static always_inline struct object *link_get(const struct object *o)
{
	uint64_t plain = (o->link - link_key.addend) * link_key.inverse;

	return (struct object *)(uintptr_t)(plain - ((uint64_t)(uintptr_t)o << 16));
}

/* Of the objects of a slab, less their address. */
static always_inline uint64_t mark_base(const struct page *pg)
{
	return link_key.mark + ((uint64_t)pg[1].holes.made << 32);
}

static always_inline bool mark_is_set(const struct object *o, uint64_t base)
{
	return o->mark == base + (uintptr_t)o;
}

static always_inline void mark_set(struct object *o, uint64_t base)
{
	o->mark = base + (uintptr_t)o;
}

static always_inline void mark_clear(struct object *o)
{
	o->mark = 0;
}

#endif
