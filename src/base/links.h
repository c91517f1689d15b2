/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * links.h - links and marks of free objects, which lie in the memory of the program.
 *
 * A link is never stored as an address. What is stored is
 *
 *   (next + (address of the link << 16)) x multiplier + addend   (mod 2^64)
 *
 * The multiplier (odd) and the addend are drawn when the process starts. A link of which any byte
 * was overwritten decodes to any of 2^64 values, of which 2^-46 lie in a slab. Because the formula
 * contains the address of the link, a link that was copied from another free object decodes to an
 * address outside the slab. One comparison with the carved part of the slab (freelist_next)
 * therefore tells our links from others.
 *
 * The second word of an object is a mark while the object is on a list of its slab, or on the way
 * there (outbox, remote list). The mark is the address plus a random number that the slab has. So
 * what an earlier slab at the same address left behind is no mark, even after the program has
 * written to some of its bytes: two slabs' numbers have few bytes in common. It is checked and set
 * where the link is written, and checked and cleared where the link is read. So an object that is
 * freed again while it is on a list is noticed when it comes to a list a second time. If a cache
 * bin has given it to the program again meanwhile and the program has written to it, it is noticed
 * when it is taken off the list. malloc and free do not touch the object: that would often be a
 * cache miss.
 *
 * From several links of free objects and the addresses that they lead to one can compute the key
 * (doc/security.md).
 */
#ifndef SLUICE_LINKS_H
#define SLUICE_LINKS_H

#include "base/sealed.h"
#include "types.h"

struct link_key {
	uint64_t multiplier; /* odd */
	uint64_t inverse;    /* of the multiplier, mod 2^64 */
	uint64_t addend;
	uint64_t mark;      /* from which slabs' numbers are made */
	uint64_t random[2]; /* of link_random */
} SEALED_TYPE;

/* Set once, before the first object is handed out. */
extern hidden_data struct link_key link_key;

/* Draws the keys. */
void link_init(void);

/* A child, whose thread has this TID, gets other random numbers than its parent and siblings. */
void link_fork_child(uint32_t tid);

/* A number that nobody else knows. Makes no system call. */
uint64_t link_random(void);

/* Links o to next, or to nothing if NULL. */
static always_inline void link_set(struct object *o, const struct object *next)
{
	uint64_t plain = (uintptr_t)next + ((uint64_t)(uintptr_t)o << 16);

	o->link = plain * link_key.multiplier + link_key.addend;
}

/* Returns the object that o links to, or NULL if none. Any value if the program wrote to the
 * link. */
static always_inline struct object *link_get(const struct object *o)
{
	uint64_t plain = (o->link - link_key.addend) * link_key.inverse;

	return (struct object *)(uintptr_t)(plain - ((uint64_t)(uintptr_t)o << 16));
}

/* The random number of the slab with this serial number. */
uint64_t mark_number(uint32_t serial);

/* The mark of the objects of a slab, minus their address. */
static always_inline uint64_t mark_base(const struct page *pg)
{
	return pg->mark;
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
