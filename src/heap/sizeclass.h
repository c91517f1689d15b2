/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sizeclass.h - from a size to its class, and what a class is. Pure arithmetic and constant tables.
 */
#ifndef SLUICE_SIZECLASS_H
#define SLUICE_SIZECLASS_H

#include "types.h"

struct size_class {
	uint32_t size;    /* bytes of an object */
	uint16_t pages;   /* of a slab */
	uint16_t objects; /* in a slab */
	uint32_t inverse; /* CLASS_INVERSE: see class_divides */
};
#define CLASS_INVERSE(size) ((uint32_t)(((UINT64_C(1) << 32) + (size)-1) / (size)))

extern const struct size_class size_classes[CLASSES];

/* The classes of which two objects or more lie in a cache line. */
enum {
	DENSE_CLASSES = 0
#define SIZECLASS(size, pages) +((size) <= CACHE_LINE / 2)
#include "heap/sizeclass.def"
#undef SIZECLASS
};

/*
 * Up to CLASS_TABLE_MAX, a table with an entry for each 16 bytes of size; above, a formula. The
 * fast paths want a class times CLASS_SCALE, which is the offset of its cache bin.
 */
#define CLASS_TABLE_MAX 1024u
#define CLASS_SCALE 16u
/* What the table has for size 0: no class, but the bin of runs of one page, which is always empty,
 * because large objects are longer. So malloc(0) misses its bin, and goes to zero.c. */
#define CLASS_ZERO CLASSES
extern const uint16_t class_table[CLASS_TABLE_MAX / 16 + 1];

/* The class of a size times CLASS_SCALE. size: 0 (CLASS_ZERO) to SMALL_MAX. No division, at most
 * one load. */
static always_inline size_t class_scaled(size_t size)
{
	unsigned top;

	if (likely(size <= CLASS_TABLE_MAX))
		return class_table[(size + 15) >> 4];
	size--;
	if (size < 16384) {
		/* Eight steps for each doubling. 1,025 to 2,048 begins at class 32. */
		top = 63u ^ (unsigned)__builtin_clzl(size);
		return (8 * top - 56 + (unsigned)(size >> (top - 3))) * CLASS_SCALE;
	}
	/* Above, steps of 4,096, from class 64 on. */
	return (60 + (unsigned)(size >> 12)) * CLASS_SCALE;
}

/* size: 1 to SMALL_MAX. */
static always_inline unsigned class_of(size_t size)
{
	return (unsigned)class_scaled(size) / CLASS_SCALE;
}

static always_inline size_t class_size(unsigned cls)
{
	return size_classes[cls].size;
}

/* The index of the object that an offset into a slab lies in. All offsets are below 2^18. No
 * division. */
static always_inline unsigned class_index(unsigned cls, size_t offset)
{
	return (unsigned)(((uint64_t)offset * size_classes[cls].inverse) >> 32);
}

/*
 * Whether an offset into a slab is the start of an object: offset x inverse < inverse, mod 2^32
 * (Lemire, Kaser, Kurz 2019). For the start of object k the product is k x e, where e is what
 * rounding up has added to inverse x size. Any other offset adds at least inverse to that, and the
 * sum does not wrap (static assertions in sizeclass.c).
 */
static always_inline bool class_divides(unsigned cls, size_t offset)
{
	return (uint32_t)offset * size_classes[cls].inverse < size_classes[cls].inverse;
}

#endif
